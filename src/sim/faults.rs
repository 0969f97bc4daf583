//! Faults for a campaign: what goes wrong in a sortie, when, and for how long. Pure: the same seed and the same number
//! draw the same faults.
//!
//! Times are the wall's, like the station's own timers.

use std::fmt;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "fault")]
pub enum Fault {
    /// The radio: up is what the drone hears, down is what it says.
    LinkLost {
        up: bool,
        down: bool,
        for_s: f64,
    },
    Wind {
        m_s: f64,
        for_s: f64,
    },
    Rain {
        mm_h: f64,
        for_s: f64,
    },
    /// The charge drops to this and does not come back.
    BatteryGivesOut {
        pct: f64,
    },
    GpsLost {
        for_s: f64,
    },
    CameraStalls {
        for_s: f64,
    },
    DockJams {
        for_s: f64,
    },
    /// The wall clock of the station's machine jumps.
    ClockSteps {
        by_s: f64,
    },
    /// `kill -9`, and started again after a while.
    StationKilled {
        away_s: f64,
    },
    BrokerGone {
        for_s: f64,
    },
    /// The same signed command arrives twice.
    CommandRepeated,
}

/// When it begins.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "when", content = "s")]
pub enum When {
    /// So long before the command to fly.
    Before(f64),
    /// So long after it.
    Commanded(f64),
    /// So long after the drone left the ground.
    Airborne(f64),
    /// So long after it turned for home.
    ComingHome(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    #[serde(flatten)]
    pub when: When,
    #[serde(flatten)]
    pub fault: Fault,
}

impl Fault {
    pub const KINDS: [&str; 11] = [
        "link lost",
        "wind step",
        "rain",
        "battery gives out",
        "GPS lost",
        "camera stalls",
        "dock jams",
        "clock steps",
        "station killed",
        "broker gone",
        "command repeated",
    ];

    /// Which of [`Fault::KINDS`].
    pub fn kind(&self) -> &'static str {
        Self::KINDS[match self {
            Fault::LinkLost { .. } => 0,
            Fault::Wind { .. } => 1,
            Fault::Rain { .. } => 2,
            Fault::BatteryGivesOut { .. } => 3,
            Fault::GpsLost { .. } => 4,
            Fault::CameraStalls { .. } => 5,
            Fault::DockJams { .. } => 6,
            Fault::ClockSteps { .. } => 7,
            Fault::StationKilled { .. } => 8,
            Fault::BrokerGone { .. } => 9,
            Fault::CommandRepeated => 10,
        }]
    }

    /// How long it lasts; for ever where there is no end to it.
    pub fn lasts_s(&self) -> f64 {
        match *self {
            Fault::LinkLost { for_s, .. }
            | Fault::Wind { for_s, .. }
            | Fault::Rain { for_s, .. }
            | Fault::GpsLost { for_s }
            | Fault::CameraStalls { for_s }
            | Fault::DockJams { for_s }
            | Fault::BrokerGone { for_s } => for_s,
            Fault::StationKilled { away_s } => away_s,
            Fault::BatteryGivesOut { .. } | Fault::ClockSteps { .. } | Fault::CommandRepeated => f64::INFINITY,
        }
    }

    fn draw(kind: usize, rng: &mut ChaCha8Rng) -> Fault {
        let mut between = |low: f64, high: f64| {
            let value = low + (high - low) * rng.random::<f64>();
            (value * 10.0).round() / 10.0
        };
        match kind {
            0 => {
                let (way, for_s) = (between(0.0, 3.0), between(3.0, 25.0));
                Fault::LinkLost { up: way < 2.0, down: way >= 1.0, for_s }
            }
            1 => Fault::Wind { m_s: between(12.0, 22.0), for_s: between(4.0, 40.0) },
            2 => Fault::Rain { mm_h: between(1.0, 20.0), for_s: between(4.0, 30.0) },
            3 => Fault::BatteryGivesOut { pct: between(8.0, 40.0) },
            4 => Fault::GpsLost { for_s: between(1.0, 20.0) },
            5 => Fault::CameraStalls { for_s: between(3.0, 20.0) },
            6 => Fault::DockJams { for_s: between(2.0, 60.0) },
            7 => {
                let (sign, hours) = (between(0.0, 1.0), between(0.1, 30.0));
                Fault::ClockSteps { by_s: (hours * 3600.0).copysign(sign - 0.5).round() }
            }
            8 => Fault::StationKilled { away_s: between(0.5, 12.0) },
            9 => Fault::BrokerGone { for_s: between(2.0, 25.0) },
            _ => Fault::CommandRepeated,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::LinkLost { up: true, down: true, for_s } => write!(f, "link lost for {for_s} s"),
            Fault::LinkLost { up: true, for_s, .. } => write!(f, "link lost upwards for {for_s} s"),
            Fault::LinkLost { for_s, .. } => write!(f, "link lost downwards for {for_s} s"),
            Fault::Wind { m_s, for_s } => write!(f, "wind of {m_s} m/s for {for_s} s"),
            Fault::Rain { mm_h, for_s } => write!(f, "rain of {mm_h} mm/h for {for_s} s"),
            Fault::BatteryGivesOut { pct } => write!(f, "battery drops to {pct} %"),
            Fault::GpsLost { for_s } => write!(f, "GPS lost for {for_s} s"),
            Fault::CameraStalls { for_s } => write!(f, "camera stalls for {for_s} s"),
            Fault::DockJams { for_s } => write!(f, "dock jams for {for_s} s"),
            Fault::ClockSteps { by_s } => write!(f, "clock steps by {by_s:+} s"),
            Fault::StationKilled { away_s } => write!(f, "station killed, away for {away_s} s"),
            Fault::BrokerGone { for_s } => write!(f, "broker gone for {for_s} s"),
            Fault::CommandRepeated => write!(f, "command repeated"),
        }
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.when {
            When::Before(s) => write!(f, "{}, {s} s before the command", self.fault),
            When::Commanded(s) => write!(f, "{}, {s} s after the command", self.fault),
            When::Airborne(s) => write!(f, "{}, {s} s after take-off", self.fault),
            When::ComingHome(s) => write!(f, "{}, {s} s after it turned for home", self.fault),
        }
    }
}

/// The faults of one sortie: one in ten has none, six have one, three have two. The kinds take turns, so that a
/// campaign of a hundred has each some ten times; when and how badly is drawn.
pub fn draw(seed: u64, sortie: u32) -> Vec<Planned> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9).wrapping_add(u64::from(sortie)));
    let count = match sortie % 10 {
        0 => 0,
        1..=6 => 1,
        _ => 2,
    };
    // A turn of its own, without the sorties that have none.
    let turn = sortie - sortie / 10;
    let kinds = Fault::KINDS.len();
    let mut all: Vec<usize> = (0..kinds).collect();
    let first = turn as usize % kinds;
    all.retain(|kind| *kind != first);
    let second = all.choose(&mut rng).copied().unwrap_or_default();
    [first, second].into_iter().take(count).map(|kind| plan(kind, &mut rng)).collect()
}

fn plan(kind: usize, rng: &mut ChaCha8Rng) -> Planned {
    let fault = Fault::draw(kind, rng);
    let mut after = |most: f64| (rng.random::<f64>() * most * 10.0).round() / 10.0;
    let early = When::Commanded(after(6.0));
    let flying = When::Airborne(after(14.0));
    let late = When::ComingHome(after(6.0));
    let before = When::Before(4.0);
    let share = rng.random::<f64>();
    let when = match fault {
        Fault::CommandRepeated => When::Commanded(0.0),
        // What has to do with pictures alone is looked for where pictures are taken.
        Fault::CameraStalls { .. } => flying,
        // A hatch that jams matters when it is to move.
        Fault::DockJams { .. } if share < 0.5 => early,
        Fault::DockJams { .. } => late,
        _ if share < 0.15 => before,
        _ if share < 0.35 => early,
        _ if share < 0.85 => flying,
        _ => late,
    };
    Planned { when, fault }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_campaign_and_another_one_another() {
        let campaign = |seed| (1..=100).map(|n| draw(seed, n)).collect::<Vec<_>>();
        assert_eq!(campaign(1), campaign(1));
        assert_ne!(campaign(1), campaign(2));
    }

    #[test]
    fn a_hundred_sorties_meet_every_kind_of_fault_several_times_and_some_meet_none() {
        let mut counts = BTreeMap::new();
        let mut quiet = 0;
        for sortie in 1..=100 {
            let faults = draw(7, sortie);
            quiet += usize::from(faults.is_empty());
            for planned in faults {
                *counts.entry(planned.fault.kind()).or_insert(0) += 1;
            }
        }
        assert_eq!(quiet, 10);
        assert_eq!(counts.len(), Fault::KINDS.len(), "{counts:?}");
        assert!(counts.values().all(|count| *count >= 7), "{counts:?}");
    }

    #[test]
    fn no_sortie_meets_the_same_kind_twice() {
        for sortie in 1..=1000 {
            let faults = draw(3, sortie);
            if let [first, second] = &faults[..] {
                assert_ne!(first.fault.kind(), second.fault.kind());
            }
        }
    }
}
