//! The `[vehicle]` table.

use serde::{Deserialize, Serialize};

use super::mission::{self, Mission, MissionFault, SpeedCap};
use super::safety::SafetyConfig;
use super::signing::SigningConfig;
use super::telemetry::Autopilot;
use super::{VehicleError, transport};
use crate::geo::track::Clock;
use crate::geo::{LatLon, PoseSigma};

/// The `[vehicle]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the drone is: `udpin:0.0.0.0:14550` waits for it, `udpout:host:port` and `tcpout:host:port` speak first,
    /// `serial:/dev/ttyACM0:57600` is a serial line with its speed.
    pub url: String,
    /// Our MAVLink system id. Autopilots count link loss by the ground station they know: 255 unless told otherwise.
    #[serde(default = "default_system_id")]
    pub system_id: u8,
    #[serde(default = "default_component_id")]
    pub component_id: u8,
    /// Seconds without a heartbeat after which the link counts as lost.
    #[serde(default = "default_heartbeat_timeout_s")]
    pub heartbeat_timeout_s: f64,
    /// No mission is sent that goes higher above the take-off point.
    #[serde(default = "default_max_height_m")]
    pub max_height_m: f64,
    /// No mission is sent that goes farther from home.
    #[serde(default = "default_max_distance_m")]
    pub max_distance_m: f64,
    /// Below a height above ground no faster than this, however the patrol is planned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub speed_caps: Vec<SpeedCap>,
    /// How good the drone's poses are, one sigma.
    #[serde(default)]
    pub pose_sigma: SigmaConfig,
    /// How the camera's moments relate to the drone's.
    #[serde(default)]
    pub camera_clock: ClockConfig,
    /// Signs what is said and takes only what is signed with the drone's key. Left out: nothing is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<SigningConfig>,
    /// What the drone does when it is left alone: compared, set and proven before every flight.
    #[serde(default)]
    pub safety: SafetyConfig,
}

/// One-sigma errors of the poses that the drone reports.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SigmaConfig {
    pub horizontal_m: f64,
    pub vertical_m: f64,
    pub yaw_deg: f64,
    pub tilt_deg: f64,
}

impl Default for SigmaConfig {
    fn default() -> Self {
        SigmaConfig { horizontal_m: 1.5, vertical_m: 1.0, yaw_deg: 2.0, tilt_deg: 0.5 }
    }
}

impl From<SigmaConfig> for PoseSigma {
    fn from(sigma: SigmaConfig) -> Self {
        PoseSigma {
            horizontal_m: sigma.horizontal_m,
            vertical_m: sigma.vertical_m,
            yaw_deg: sigma.yaw_deg,
            tilt_deg: sigma.tilt_deg,
        }
    }
}

/// How the camera's time stamps relate to the moments of exposure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClockConfig {
    /// What the camera's clock shows more than the drone's, seconds.
    pub offset_s: f64,
    /// How much later than it is stamped a picture is exposed, seconds. Along a track flown both ways, twice this times the
    /// speed lies between the places of one thing.
    pub latency_s: f64,
}

impl From<ClockConfig> for Clock {
    fn from(clock: ClockConfig) -> Self {
        Clock { offset_s: clock.offset_s, latency_s: clock.latency_s, readout_s: 0.0 }
    }
}

fn default_system_id() -> u8 {
    255
}

fn default_component_id() -> u8 {
    190
}

/// Over longer times nobody knows how the drone went on.
const LONGEST_LATENCY_S: f64 = 2.0;

fn default_heartbeat_timeout_s() -> f64 {
    5.0
}

fn default_max_height_m() -> f64 {
    120.0
}

fn default_max_distance_m() -> f64 {
    5000.0
}

impl Config {
    /// Refuses what must never reach an autopilot: what the station asks before a flight, and `aerie patrol plan` before that.
    pub fn check_mission(&self, mission: &Mission, home: LatLon, autopilot: Autopilot) -> Result<(), MissionFault> {
        let items = mission::items(mission, autopilot, Some(home), &self.speed_caps).len();
        let limits = mission::Limits { max_height_m: self.max_height_m, max_distance_m: self.max_distance_m };
        mission::check(mission, Some(home), &limits, items)
    }

    /// The defaults, for a drone at `url`.
    pub fn at(url: &str) -> Self {
        Config {
            url: url.to_owned(),
            system_id: default_system_id(),
            component_id: default_component_id(),
            heartbeat_timeout_s: default_heartbeat_timeout_s(),
            max_height_m: default_max_height_m(),
            max_distance_m: default_max_distance_m(),
            speed_caps: Vec::new(),
            pose_sigma: SigmaConfig::default(),
            camera_clock: ClockConfig::default(),
            signing: None,
            safety: SafetyConfig::default(),
        }
    }

    /// Everything that is wrong with the values, each with its key below `[vehicle]`.
    pub fn faults(&self) -> Vec<VehicleError> {
        let mut faults = Vec::new();
        if let Err(error) = transport::Address::parse(&self.url) {
            faults.push(error);
        }
        if self.system_id == 0 {
            faults.push(VehicleError::Value { key: "system_id", value: 0.0, low: 1.0, high: 255.0 });
        }
        let sigma = &self.pose_sigma;
        for (key, value, low, high) in [
            ("heartbeat_timeout_s", self.heartbeat_timeout_s, 1.5, 60.0),
            ("max_height_m", self.max_height_m, 1.0, 1000.0),
            ("max_distance_m", self.max_distance_m, 10.0, 100_000.0),
            ("pose_sigma.horizontal_m", sigma.horizontal_m, 0.001, 100.0),
            ("pose_sigma.vertical_m", sigma.vertical_m, 0.001, 100.0),
            ("pose_sigma.yaw_deg", sigma.yaw_deg, 0.001, 90.0),
            ("pose_sigma.tilt_deg", sigma.tilt_deg, 0.001, 45.0),
            ("camera_clock.offset_s", self.camera_clock.offset_s, -86_400.0, 86_400.0),
            ("camera_clock.latency_s", self.camera_clock.latency_s, -LONGEST_LATENCY_S, LONGEST_LATENCY_S),
        ] {
            // NaN is in no range.
            if !(low..=high).contains(&value) {
                faults.push(VehicleError::Value { key, value, low, high });
            }
        }
        for cap in &self.speed_caps {
            for (key, value, low, high) in
                [("speed_caps.below_m", cap.below_m, 1.0, 1000.0), ("speed_caps.speed_m_s", cap.speed_m_s, 0.5, 30.0)]
            {
                if !(low..=high).contains(&value) {
                    faults.push(VehicleError::Value { key, value, low, high });
                }
            }
        }
        faults.extend(self.safety.faults(self.max_height_m));
        faults
    }
}
