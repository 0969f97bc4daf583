//! What brings the drone home without us: failsafe parameters, set and proven before a flight.
//!
//! Autopilots protect almost nothing by default: with the ground link lost ArduPilot flies on, and its battery
//! failsafes are off. A drone whose parameters will not stick does not fly.

use super::telemetry::Autopilot;
use super::{Vehicle, VehicleError};

/// A parameter that had another value.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub name: &'static str,
    pub from: f64,
    pub to: f64,
}

/// What every flight needs, by autopilot.
pub fn profile(autopilot: Autopilot) -> &'static [(&'static str, f64)] {
    match autopilot {
        Autopilot::ArduPilot => &[
            // Link lost: return. The drone counts the ground station with our id only.
            ("FS_GCS_ENABLE", 1.0),
            ("FS_GCS_TIMEOUT", 5.0),
            // Battery low: return; critical: land.
            ("BATT_FS_LOW_ACT", 2.0),
            ("BATT_FS_CRT_ACT", 1.0),
            // Outside the fence: return.
            ("FENCE_ENABLE", 1.0),
            ("FENCE_ACTION", 1.0),
        ],
        Autopilot::Px4 => &[("NAV_DLL_ACT", 2.0), ("COM_LOW_BAT_ACT", 3.0), ("GF_ACTION", 3.0)],
        Autopilot::Other(_) => &[],
    }
}

pub(super) async fn secure(vehicle: &Vehicle) -> Result<Vec<Change>, VehicleError> {
    let autopilot = vehicle.autopilot()?;
    let wanted = profile(autopilot);
    if wanted.is_empty() {
        return Err(VehicleError::Unsupported {
            command: "failsafe parameters".to_owned(),
            autopilot: Some(autopilot),
        });
    }
    let mut changes = Vec::new();
    for &(name, to) in wanted {
        let from = vehicle.param_get(name).await?;
        if from != to {
            vehicle.param_set(name, to).await?;
            tracing::info!(name, from, to, "failsafe parameter set");
            changes.push(Change { name, from, to });
        }
    }
    Ok(changes)
}
