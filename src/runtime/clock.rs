//! Wall time plus how far it can be trusted. A schedule, an airspace window and a command's deadline mean nothing on a
//! clock that nobody set, or that has just jumped.
//!
//! The wall clock is compared once a second with the machine's monotonic clock, which sees every step, and with UTC as
//! the drone's satellite receiver tells it, where there is a drone. A machine whose clock is kept by systemd-timesyncd
//! says so by a file.

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio::time::Instant;

/// What systemd-timesyncd keeps while the clock is synchronised.
const SYNCED_FILE: &str = "/run/systemd/timesync/synchronized";
/// A step smaller than this is slewing, or a slow machine.
const STEP: SignedDuration = SignedDuration::from_secs(2);
/// After a step the clock is trusted again when it stayed even for so long.
const SETTLED: Duration = Duration::from_secs(30);

/// How far the wall clock can be trusted.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Trust {
    /// Agrees with what is named.
    Synced { by: &'static str },
    /// Nothing to compare it with.
    Unsynced,
    /// Differs from the drone's satellite time by so many seconds.
    Off { seconds: f64 },
    /// Jumped by so many seconds, not long ago.
    Stepped { seconds: f64 },
}

/// Watches the wall clock. Pure: the times are given.
#[derive(Debug, Default)]
pub struct Watcher {
    last: Option<(Timestamp, Instant)>,
    stepped: Option<(f64, Instant)>,
}

impl Watcher {
    /// One look at the clocks. `satellite` is UTC by the drone's receiver and when it was heard; `synced` is what the
    /// machine says of itself; `tolerance` is how far the clock may be off.
    pub fn look(
        &mut self,
        wall: Timestamp,
        now: Instant,
        satellite: Option<(Timestamp, Instant)>,
        synced: bool,
        tolerance: Duration,
    ) -> Trust {
        if let Some((wall_then, then)) = self.last {
            let went = SignedDuration::try_from(now.saturating_duration_since(then)).unwrap_or(SignedDuration::MAX);
            let jump = wall.duration_since(wall_then).saturating_sub(went);
            if jump.abs() > STEP {
                self.stepped = Some((jump.as_secs_f64(), now));
            }
        }
        self.last = Some((wall, now));
        if let Some((seconds, at)) = self.stepped {
            if now.saturating_duration_since(at) < SETTLED {
                return Trust::Stepped { seconds };
            }
            self.stepped = None;
        }
        // Older word than this was perhaps of another time altogether.
        let satellite = satellite.filter(|(_, at)| now.saturating_duration_since(*at) < Duration::from_secs(30));
        if let Some((utc, at)) = satellite {
            let since = SignedDuration::try_from(now.saturating_duration_since(at)).unwrap_or_default();
            let off = wall.duration_since(utc).saturating_sub(since).as_secs_f64();
            if off.abs() > tolerance.as_secs_f64() {
                return Trust::Off { seconds: off };
            }
            return Trust::Synced { by: "the drone's satellite time" };
        }
        if synced { Trust::Synced { by: "the machine's time service" } } else { Trust::Unsynced }
    }
}

/// Whether the machine's time service says that the clock is set.
pub fn machine_says_synced() -> bool {
    Path::new(SYNCED_FILE).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Duration = Duration::from_secs(5);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[tokio::test]
    async fn a_clock_is_trusted_only_by_something_else() {
        let (mut watcher, start) = (Watcher::default(), Instant::now());
        assert_eq!(watcher.look(at(0), start, None, false, TOLERANCE), Trust::Unsynced);
        assert!(matches!(watcher.look(at(0), start, None, true, TOLERANCE), Trust::Synced { .. }));
        let heard = Some((at(-3), start));
        assert!(matches!(watcher.look(at(0), start, heard, false, TOLERANCE), Trust::Synced { .. }));
        // The drone's word outweighs the machine's: it comes from the sky.
        let heard = Some((at(-60), start));
        assert_eq!(watcher.look(at(0), start, heard, true, TOLERANCE), Trust::Off { seconds: 60.0 });
    }

    #[tokio::test]
    async fn a_step_is_seen_in_either_direction_and_forgiven_when_the_clock_has_settled() {
        for jump in [-3600, 3600] {
            let (mut watcher, start) = (Watcher::default(), Instant::now());
            let second = |n: u64| start + Duration::from_secs(n);
            assert!(matches!(watcher.look(at(0), second(0), None, true, TOLERANCE), Trust::Synced { .. }));
            let seen = watcher.look(at(1 + jump), second(1), None, true, TOLERANCE);
            assert_eq!(seen, Trust::Stepped { seconds: jump as f64 });
            for n in 2..31 {
                let seen = watcher.look(at(n + jump), second(n as u64), None, true, TOLERANCE);
                assert!(matches!(seen, Trust::Stepped { .. }));
            }
            assert!(matches!(watcher.look(at(31 + jump), second(31), None, true, TOLERANCE), Trust::Synced { .. }));
        }
    }

    #[tokio::test]
    async fn a_busy_machine_that_looks_late_has_not_stepped() {
        let (mut watcher, start) = (Watcher::default(), Instant::now());
        watcher.look(at(0), start, None, true, TOLERANCE);
        let late = watcher.look(at(40), start + Duration::from_secs(40), None, true, TOLERANCE);
        assert!(matches!(late, Trust::Synced { .. }));
    }
}
