//! Pure: what is seen of the dock, and whether it may move. No clock, no I/O.

use super::Hatch;
use crate::vehicle::modbus::map::Motion;

/// One look at the dock.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Seen {
    pub hatch: Seat,
    pub drone_present: Option<bool>,
    pub emergency_stop: Input,
    /// What else must be in order for a movement: its name, which movement, whether it is.
    pub permits: Vec<(String, Option<Motion>, Option<bool>)>,
}

/// Where the hatch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    At(Hatch),
    /// On neither limit switch, and the dock does not say which way it goes.
    Between,
}

impl Default for Seat {
    fn default() -> Seat {
        Seat::At(Hatch::Unknown)
    }
}

/// An input that a dock may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Input {
    /// It has none.
    #[default]
    Absent,
    Unknown,
    Off,
    On,
}

impl Input {
    pub fn word(self) -> Option<bool> {
        match self {
            Input::Absent | Input::Unknown => None,
            Input::Off => Some(false),
            Input::On => Some(true),
        }
    }
}

impl From<Option<bool>> for Input {
    fn from(word: Option<bool>) -> Input {
        match word {
            None => Input::Unknown,
            Some(false) => Input::Off,
            Some(true) => Input::On,
        }
    }
}

/// Reads the limit switches, and the two lamps of the direction where there are some. Both switches at once, or both lamps,
/// is a wiring fault.
pub fn from_switches(closed: Option<bool>, open: Option<bool>, lamps: Option<(Option<bool>, Option<bool>)>) -> Seat {
    match (closed, open) {
        (Some(true), Some(false)) => Seat::At(Hatch::Closed),
        (Some(false), Some(true)) => Seat::At(Hatch::Open),
        (Some(false), Some(false)) => match lamps {
            None | Some((Some(false), Some(false))) => Seat::Between,
            Some((Some(true), Some(false))) => Seat::At(Hatch::Opening),
            Some((Some(false), Some(true))) => Seat::At(Hatch::Closing),
            Some(_) => Seat::At(Hatch::Unknown),
        },
        _ => Seat::At(Hatch::Unknown),
    }
}

/// Between the switches only the movement under way tells the direction; without one nothing does.
pub fn hatch(seat: Seat, under_way: Option<Motion>) -> Hatch {
    match (seat, under_way) {
        (Seat::At(hatch), _) => hatch,
        (Seat::Between, Some(Motion::Open)) => Hatch::Opening,
        (Seat::Between, Some(Motion::Close)) => Hatch::Closing,
        (Seat::Between, None) => Hatch::Unknown,
    }
}

pub fn end_of(motion: Motion) -> Hatch {
    match motion {
        Motion::Open => Hatch::Open,
        Motion::Close => Hatch::Closed,
    }
}

/// Why the dock must not move.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Objection {
    #[error("the hatch stays open: the drone is not confirmed in the dock")]
    DroneNotInDock,
    #[error("the drone left the dock while the hatch closed")]
    DroneLeft,
    #[error("the dock's emergency stop is pressed; release it at the dock when nobody is near the hatch")]
    EmergencyStop,
    #[error("whether the dock's emergency stop is pressed is not known; check its wiring and its entry in the map")]
    EmergencyStopUnknown,
    #[error("the dock does not permit it: {name:?} is {}", if *.known { "not in order" } else { "not known" })]
    NotPermitted { name: String, known: bool },
}

/// Whether a movement may begin. Not knowing is not allowed, but for the presence sensor, which many docks lack: there the
/// caller's word stands (a person's: after a flight the station itself goes by the sensor), and a sensor that denies it outweighs it.
pub fn may_begin(motion: Motion, drone_in_dock: bool, seen: &Seen) -> Result<(), Objection> {
    if motion == Motion::Close && (!drone_in_dock || seen.drone_present == Some(false)) {
        return Err(Objection::DroneNotInDock);
    }
    is_safe(motion, seen)
}

/// Whether a movement under way may go on.
pub fn may_go_on(motion: Motion, seen: &Seen) -> Result<(), Objection> {
    if motion == Motion::Close && seen.drone_present == Some(false) {
        return Err(Objection::DroneLeft);
    }
    is_safe(motion, seen)
}

fn is_safe(motion: Motion, seen: &Seen) -> Result<(), Objection> {
    match seen.emergency_stop {
        Input::Absent | Input::Off => {}
        Input::On => return Err(Objection::EmergencyStop),
        Input::Unknown => return Err(Objection::EmergencyStopUnknown),
    }
    let missing = seen.permits.iter().find(|(_, only, given)| only.is_none_or(|m| m == motion) && *given != Some(true));
    match missing {
        Some((name, _, given)) => Err(Objection::NotPermitted { name: name.clone(), known: given.is_some() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Seen {
        Seen {
            hatch: Seat::At(Hatch::Open),
            drone_present: Some(true),
            emergency_stop: Input::Off,
            permits: Vec::new(),
        }
    }

    #[test]
    fn the_hatch_never_closes_on_a_guess() {
        let close = |told, sensor| may_begin(Motion::Close, told, &Seen { drone_present: sensor, ..quiet() }).is_ok();
        assert!(close(true, Some(true)));
        assert!(close(true, None));
        assert!(!close(true, Some(false)));
        assert!(!close(false, Some(true)));
        assert!(!close(false, None));
    }

    #[test]
    fn switches_that_contradict_or_are_missing_are_unknown() {
        let unknown = Seat::At(Hatch::Unknown);
        let (on, off) = (Some(true), Some(false));
        for (closed, open, lamps, wanted) in [
            (on, off, None, Seat::At(Hatch::Closed)),
            (off, on, None, Seat::At(Hatch::Open)),
            (on, on, None, unknown),
            (None, on, None, unknown),
            (on, None, None, unknown),
            (off, None, None, unknown),
            (off, off, None, Seat::Between),
            (off, off, Some((on, off)), Seat::At(Hatch::Opening)),
            (off, off, Some((off, on)), Seat::At(Hatch::Closing)),
            (off, off, Some((on, on)), unknown),
            (off, off, Some((None, off)), unknown),
            // The switch at the end outweighs the lamp.
            (off, on, Some((on, off)), Seat::At(Hatch::Open)),
        ] {
            assert_eq!(from_switches(closed, open, lamps), wanted, "{closed:?} {open:?} {lamps:?}");
        }
        assert_eq!(hatch(Seat::Between, None), Hatch::Unknown);
        assert_eq!(hatch(Seat::Between, Some(Motion::Close)), Hatch::Closing);
    }

    #[test]
    fn an_emergency_stop_that_is_pressed_or_unknown_lets_nothing_move() {
        for motion in [Motion::Open, Motion::Close] {
            let with = |emergency_stop| may_begin(motion, true, &Seen { emergency_stop, ..quiet() });
            assert!(with(Input::Off).is_ok() && with(Input::Absent).is_ok());
            assert_eq!(with(Input::On), Err(Objection::EmergencyStop));
            assert_eq!(with(Input::Unknown), Err(Objection::EmergencyStopUnknown));
        }
    }

    #[test]
    fn a_permit_that_is_missing_or_unknown_is_named_and_binds_its_own_movement_only() {
        for (given, known) in [(Some(false), true), (None, false)] {
            let seen = Seen { permits: vec![("rain cover off".to_owned(), Some(Motion::Open), given)], ..quiet() };
            let objection = Objection::NotPermitted { name: "rain cover off".to_owned(), known };
            assert_eq!(may_begin(Motion::Open, true, &seen), Err(objection));
            assert!(may_begin(Motion::Close, true, &seen).is_ok());
        }
    }
}
