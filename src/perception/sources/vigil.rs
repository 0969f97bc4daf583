//! Pure: when a live source has stalled, and when to open it again. No clock: the caller says what time it is.

use std::time::Duration;

/// How long is too long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A live source that gave nothing for so long has stalled.
    pub stalled: Duration,
    /// Opening may take longer: a camera negotiates, and sends a whole picture only every second or so.
    pub opening: Duration,
    pub first_pause: Duration,
    pub longest_pause: Duration,
    /// Flowing for so long makes an earlier failure forgotten.
    pub well_again: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // Looked at every tenth of a second, so two seconds are kept with room.
            stalled: Duration::from_millis(1_800),
            opening: Duration::from_secs(10),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            well_again: Duration::from_secs(10),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening { since: Duration },
    Flowing { since: Duration, last: Duration },
    Pausing { until: Duration },
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Wait,
    /// The source is to be opened, in place of the one before.
    Open,
    /// The source that is open says nothing any more: leave it.
    Abandon,
}

/// Watches one source. All times count from one beginning.
#[derive(Debug)]
pub struct Vigil {
    limits: Limits,
    phase: Phase,
    pause: Duration,
}

impl Vigil {
    pub fn begin(now: Duration, limits: Limits) -> Vigil {
        Vigil { limits, phase: Phase::Pausing { until: now }, pause: limits.first_pause }
    }

    /// To be called at least several times a second.
    pub fn tick(&mut self, now: Duration) -> Action {
        match self.phase {
            Phase::Pausing { until } if now >= until => {
                self.phase = Phase::Opening { since: now };
                Action::Open
            }
            Phase::Opening { since } if now.saturating_sub(since) >= self.limits.opening => self.abandon(now),
            Phase::Flowing { last, .. } if now.saturating_sub(last) >= self.limits.stalled => self.abandon(now),
            _ => Action::Wait,
        }
    }

    pub fn frame(&mut self, now: Duration) {
        let since = match self.phase {
            Phase::Flowing { since, .. } => since,
            _ => now,
        };
        if now.saturating_sub(since) >= self.limits.well_again {
            self.pause = self.limits.first_pause;
        }
        self.phase = Phase::Flowing { since, last: now };
    }

    /// The source could not be opened, or ended.
    pub fn failed(&mut self, now: Duration) {
        self.phase = Phase::Pausing { until: now + self.pause };
        self.pause = (self.pause * 2).min(self.limits.longest_pause);
    }

    pub fn flows(&self) -> bool {
        matches!(self.phase, Phase::Flowing { .. })
    }

    fn abandon(&mut self, now: Duration) -> Action {
        self.failed(now);
        Action::Abandon
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn silence_is_noticed_within_two_seconds_and_a_slow_camera_is_not_taken_for_it() {
        let mut vigil = Vigil::begin(ms(0), Limits::default());
        assert_eq!(vigil.tick(ms(0)), Action::Open);
        vigil.frame(ms(900));
        assert_eq!(vigil.tick(ms(2_600)), Action::Wait);
        vigil.frame(ms(2_600));
        assert_eq!(vigil.tick(ms(4_390)), Action::Wait);
        // With a tick every tenth of a second, less than 2 s after the last frame.
        assert_eq!(vigil.tick(ms(4_490)), Action::Abandon);
        assert!(!vigil.flows());
    }

    #[test]
    fn a_dead_source_is_tried_with_growing_pauses_and_a_live_one_at_once_again() {
        let mut vigil = Vigil::begin(ms(0), Limits::default());
        let mut opened = Vec::new();
        for now in (0..120_000).step_by(100) {
            if vigil.tick(ms(now)) == Action::Open {
                opened.push(now);
                vigil.failed(ms(now));
            }
        }
        let pauses: Vec<u64> = opened.windows(2).map(|w| w[1] - w[0]).collect();
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        // It answers again, and after ten seconds the past is forgotten.
        while vigil.tick(ms(130_000)) != Action::Open {}
        for now in (130_000..141_000).step_by(500) {
            vigil.frame(ms(now));
        }
        assert_eq!(vigil.tick(ms(142_500)), Action::Abandon);
        assert_eq!(vigil.tick(ms(142_900)), Action::Wait);
        assert_eq!(vigil.tick(ms(143_000)), Action::Open);
    }

    #[test]
    fn a_source_that_never_opens_is_given_up_too() {
        let mut vigil = Vigil::begin(ms(0), Limits::default());
        vigil.tick(ms(0));
        assert_eq!(vigil.tick(ms(9_900)), Action::Wait);
        assert_eq!(vigil.tick(ms(10_000)), Action::Abandon);
    }
}
