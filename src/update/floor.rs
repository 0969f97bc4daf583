//! Pure: what time it is for signatures, on a computer whose clock may start in 1970.
//!
//! The floor is the later of the time of the build and the last time that the drone's satellite receiver confirmed. An
//! unconfirmed clock, or one set by an unauthenticated time server, never raises the floor: one reading of
//! 2040 would make every signature look expired for ever.

use jiff::{SignedDuration, Timestamp};

/// A reading above the floor is taken as it is, trusted or not: at worst it blocks a promotion until the clock is mended.
pub fn now(wall: Timestamp, floor: Timestamp) -> Timestamp {
    wall.max(floor)
}

/// The floor after a reading; higher only when somebody trustworthy says the same time.
pub fn raised(floor: Timestamp, wall: Timestamp, confirmed: bool) -> Timestamp {
    if confirmed { floor.max(wall) } else { floor }
}

/// A floor is stored again only when it has moved by so much: a flash disk need not hear of every second.
pub fn worth_storing(stored: Timestamp, floor: Timestamp) -> bool {
    floor.duration_since(stored) >= SignedDuration::from_mins(10)
}

/// When this aerie was built; the start of the epoch when the build did not say.
pub fn built() -> Timestamp {
    let said = option_env!("AERIE_BUILT_AT").and_then(|text| text.parse().ok());
    said.and_then(|second| Timestamp::from_second(second).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(year: i16) -> Timestamp {
        jiff::civil::date(year, 6, 1).in_tz("UTC").unwrap().timestamp()
    }

    #[test]
    fn a_clock_in_1970_is_read_as_the_floor() {
        assert_eq!(now(Timestamp::UNIX_EPOCH, at(2026)), at(2026));
    }

    #[test]
    fn one_unconfirmed_reading_of_2040_is_forgotten_once_the_clock_is_mended() {
        let floor = raised(at(2026), at(2040), false);
        assert_eq!(now(at(2040), floor), at(2040));
        assert_eq!(now(at(2027), floor), at(2027));
        assert_eq!(raised(floor, at(2027), true), at(2027));
    }

    #[test]
    fn the_floor_never_falls() {
        assert_eq!(raised(at(2026), at(1970), true), at(2026));
    }

    #[test]
    fn the_build_says_when_it_was_made() {
        assert!(built() > at(2025), "build.rs did not set AERIE_BUILT_AT");
    }
}
