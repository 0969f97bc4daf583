//! What people say of a case. Pure: no clock, no I/O.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::book::{Case, CaseState};
use crate::geo::LatLon;

/// A person's word, as it stands in the case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub verdict: CaseState,
    pub operator: String,
    pub reason: String,
    pub at: Timestamp,
    /// The command that brought it.
    pub command: String,
}

/// Where and for how long a rejected place is left alone. `[cases]` in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Peace {
    /// Around a rejected case, metres; nothing that may be the same thing is reported there.
    pub radius_m: f64,
    /// Since the verdict, days.
    pub days: u32,
}

impl Default for Peace {
    fn default() -> Peace {
        Peace { radius_m: 15.0, days: 90 }
    }
}

impl Peace {
    /// Every fault of the numbers: (key, fault).
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if !(1.0..=200.0).contains(&self.radius_m) {
            faults.push(("radius_m", format!("{} is out of range, expected 1 to 200", self.radius_m)));
        }
        if self.days > 3650 {
            faults.push(("days", format!("{} is out of range, expected 0 to 3650", self.days)));
        }
        faults
    }

    /// Whether a rejected case keeps a place from being reported.
    pub(super) fn covers(&self, case: &Case, at: LatLon, seen: Timestamp) -> bool {
        let Some(verdict) = case.verdict.as_ref().filter(|_| case.state == CaseState::Rejected) else { return false };
        let lasts = SignedDuration::from_hours(24 * i64::from(self.days));
        case.located.at.distance_m(at) <= self.radius_m && seen.duration_since(verdict.at) < lasts
    }
}

/// Why a verdict was not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum VerdictRefused {
    #[error("there is no case {0:?}")]
    UnknownCase(String),
    #[error("case {case} belongs to department {department:?}, for which this key may not speak")]
    Department { case: String, department: String },
    #[error("{0}")]
    Failed(String),
}
