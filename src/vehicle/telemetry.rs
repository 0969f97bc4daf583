//! What the drone says of itself. Pure: one message at a time goes in, [`Telemetry`] is what is known after it.
//!
//! Nothing here is a guess: a value that was never received is `None`, and each group says when it was received, so
//! that whoever decides by it can see its age.

use std::collections::{BTreeMap, VecDeque};

use mavlink::dialects::common::{
    GpsFixType, HEARTBEAT_DATA, MavAutopilot, MavLandedState, MavMessage, MavModeFlag, MavType,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::health::Health;
use crate::geo::{Attitude, LatLon};

/// How many of the drone's texts are kept, and of those that warn besides: chatter must not push them out.
const TEXTS: usize = 20;
const WARNINGS: usize = 10;
/// MAV_SEVERITY_WARNING; less is worse.
const WARNING: u8 = 4;

/// Whose dialect of modes and missions the drone speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Autopilot {
    ArduPilot,
    Px4,
    Other(u8),
}

impl Autopilot {
    fn from_mavlink(autopilot: MavAutopilot) -> Self {
        match autopilot {
            MavAutopilot::MAV_AUTOPILOT_ARDUPILOTMEGA => Autopilot::ArduPilot,
            MavAutopilot::MAV_AUTOPILOT_PX4 => Autopilot::Px4,
            other => Autopilot::Other(other as u8),
        }
    }
}

/// What the drone is doing, whichever autopilot it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlightMode {
    Manual,
    Guided,
    Auto,
    Return,
    Land,
    Hold,
    /// A mode without a place here, as its own number.
    Other(u32),
}

impl FlightMode {
    /// From HEARTBEAT's `custom_mode`.
    pub fn decode(autopilot: Autopilot, custom_mode: u32) -> Self {
        match autopilot {
            // ArduCopter's flight mode numbers.
            Autopilot::ArduPilot => match custom_mode {
                0 | 1 | 2 | 7 | 13 => FlightMode::Manual,
                3 => FlightMode::Auto,
                4 => FlightMode::Guided,
                5 | 16 | 17 => FlightMode::Hold,
                6 | 21 | 27 => FlightMode::Return,
                9 => FlightMode::Land,
                other => FlightMode::Other(other),
            },
            Autopilot::Px4 => {
                let main = (custom_mode >> 16) & 0xFF;
                let sub = custom_mode >> 24;
                match (main, sub) {
                    (1..=3 | 5 | 7, _) => FlightMode::Manual,
                    // Taking off is the beginning of a mission there.
                    (4, 2 | 4) => FlightMode::Auto,
                    (4, 3) => FlightMode::Hold,
                    (4, 5) => FlightMode::Return,
                    (4, 6 | 9) => FlightMode::Land,
                    (6, _) => FlightMode::Guided,
                    _ => FlightMode::Other(custom_mode),
                }
            }
            Autopilot::Other(_) => FlightMode::Other(custom_mode),
        }
    }

    /// For MAV_CMD_DO_SET_MODE: custom main mode and sub mode. `None` where the autopilot has no such mode for us.
    pub(crate) fn encode(self, autopilot: Autopilot) -> Option<(u32, u32)> {
        match autopilot {
            Autopilot::ArduPilot => match self {
                FlightMode::Manual => Some((0, 0)),
                FlightMode::Auto => Some((3, 0)),
                FlightMode::Guided => Some((4, 0)),
                // BRAKE and not LOITER: without a radio control LOITER reads the throttle as "descend".
                FlightMode::Hold => Some((17, 0)),
                FlightMode::Return => Some((6, 0)),
                FlightMode::Land => Some((9, 0)),
                FlightMode::Other(number) => Some((number, 0)),
            },
            Autopilot::Px4 => match self {
                FlightMode::Auto => Some((4, 4)),
                FlightMode::Hold => Some((4, 3)),
                FlightMode::Return => Some((4, 5)),
                FlightMode::Land => Some((4, 6)),
                _ => None,
            },
            Autopilot::Other(_) => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum LandedState {
    #[default]
    Unknown,
    OnGround,
    InAir,
    TakingOff,
    Landing,
}

/// Where the drone believes it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fix {
    pub at: LatLon,
    /// Above home.
    pub height_m: f64,
    /// Above mean sea level.
    pub amsl_m: f64,
    #[serde(skip)]
    pub received: Instant,
}

/// A line the drone said (STATUSTEXT).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Text {
    /// 0 emergency … 7 debug.
    pub severity: u8,
    pub text: String,
    #[serde(skip)]
    pub received: Instant,
}

/// Everything known of the drone.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Telemetry {
    /// Its heartbeat is fresh.
    pub linked: bool,
    #[serde(skip)]
    pub last_heartbeat: Option<Instant>,
    pub system_id: Option<u8>,
    pub autopilot: Option<Autopilot>,
    /// Unknown until the first heartbeat.
    pub armed: Option<bool>,
    pub mode: Option<FlightMode>,
    pub landed: LandedState,
    #[serde(skip)]
    pub landed_received: Option<Instant>,
    pub position: Option<Fix>,
    /// Clockwise from true north.
    pub heading_deg: Option<f64>,
    /// Over ground.
    pub speed_m_s: Option<f64>,
    pub climb_m_s: Option<f64>,
    /// Of the vehicle, not of the camera.
    pub attitude: Option<Attitude>,
    pub battery_pct: Option<f64>,
    pub voltage: Option<f64>,
    #[serde(skip)]
    pub battery_received: Option<Instant>,
    pub satellites: Option<u8>,
    /// MAVLink's GPS_FIX_TYPE: 3 is a 3D fix, more is better.
    pub gps_fix: Option<u8>,
    #[serde(skip)]
    pub gps_received: Option<Instant>,
    /// What it says of its own fitness.
    #[serde(skip)]
    pub health: Health,
    pub home: Option<LatLon>,
    pub mission_current: Option<u16>,
    pub mission_reached: Option<u16>,
    /// The number that the camera's next picture will have.
    pub pictures: Option<u32>,
    /// Pictures that it took and that have not come to our ears; unknown while it does not say how many there are.
    pub pictures_missing: Option<usize>,
    /// The last few, oldest first.
    pub texts: VecDeque<Text>,
    /// Of them the last that warn or are worse, oldest first; kept however much else is said.
    pub warnings: VecDeque<Text>,
    /// Bytes and messages on the link that could not be read: garbage, bad checksums, unknown messages.
    pub unreadable: u64,
    /// Frames that were not taken for want of a good signature. Stays 0 without a key.
    pub unsigned: u64,
    /// Frames that came twice, and counted once.
    pub repeated: u64,
    /// Autopilots and others heard on the link that are not ours, with how many messages of each were ignored.
    pub foreign_systems: BTreeMap<String, u64>,
}

impl Telemetry {
    /// On the ground with its motors off, as far as fresh word goes. Not knowing is `false`.
    pub fn is_down_and_disarmed(&self) -> bool {
        self.linked && self.landed == LandedState::OnGround && self.armed == Some(false)
    }

    /// A heartbeat of our drone's autopilot.
    pub(crate) fn heartbeat(&mut self, beat: &HEARTBEAT_DATA, now: Instant) {
        let autopilot = Autopilot::from_mavlink(beat.autopilot);
        self.linked = true;
        self.last_heartbeat = Some(now);
        self.autopilot = Some(autopilot);
        self.armed = Some(beat.base_mode.contains(MavModeFlag::MAV_MODE_FLAG_SAFETY_ARMED));
        self.mode = Some(FlightMode::decode(autopilot, beat.custom_mode));
    }

    /// Any other message of our drone.
    pub(crate) fn apply(&mut self, message: &MavMessage, now: Instant) {
        self.health.apply(message, now);
        match message {
            MavMessage::GLOBAL_POSITION_INT(p) => {
                // 0, 0 is what autopilots send before they know.
                if (p.lat, p.lon) != (0, 0) {
                    self.position = Some(Fix {
                        at: from_e7(p.lat, p.lon),
                        height_m: f64::from(p.relative_alt) / 1e3,
                        amsl_m: f64::from(p.alt) / 1e3,
                        received: now,
                    });
                }
                const UNKNOWN: u16 = u16::MAX;
                self.heading_deg = (p.hdg != UNKNOWN).then(|| f64::from(p.hdg) / 100.0);
                self.speed_m_s = Some(f64::from(p.vx).hypot(f64::from(p.vy)) / 100.0);
                self.climb_m_s = Some(-f64::from(p.vz) / 100.0);
            }
            MavMessage::ATTITUDE(a) => {
                let degrees = |radians: f32| f64::from(radians).to_degrees();
                if a.roll.is_finite() && a.pitch.is_finite() && a.yaw.is_finite() {
                    self.attitude = Some(Attitude {
                        yaw_deg: degrees(a.yaw).rem_euclid(360.0),
                        pitch_deg: degrees(a.pitch),
                        roll_deg: degrees(a.roll),
                    });
                }
            }
            MavMessage::SYS_STATUS(s) => {
                self.battery_pct = (0..=100).contains(&s.battery_remaining).then(|| f64::from(s.battery_remaining));
                self.voltage = (s.voltage_battery != u16::MAX).then(|| f64::from(s.voltage_battery) / 1e3);
                self.battery_received = Some(now);
            }
            MavMessage::GPS_RAW_INT(g) => {
                self.gps_fix = Some(g.fix_type as u8);
                self.satellites = (g.satellites_visible != u8::MAX).then_some(g.satellites_visible);
                self.gps_received = Some(now);
            }
            MavMessage::EXTENDED_SYS_STATE(e) => {
                self.landed = match e.landed_state {
                    MavLandedState::MAV_LANDED_STATE_ON_GROUND => LandedState::OnGround,
                    MavLandedState::MAV_LANDED_STATE_IN_AIR => LandedState::InAir,
                    MavLandedState::MAV_LANDED_STATE_TAKEOFF => LandedState::TakingOff,
                    MavLandedState::MAV_LANDED_STATE_LANDING => LandedState::Landing,
                    MavLandedState::MAV_LANDED_STATE_UNDEFINED => LandedState::Unknown,
                };
                self.landed_received = Some(now);
            }
            MavMessage::HOME_POSITION(h) => self.home = Some(from_e7(h.latitude, h.longitude)),
            MavMessage::MISSION_CURRENT(m) => self.mission_current = Some(m.seq),
            MavMessage::MISSION_ITEM_REACHED(m) => self.mission_reached = Some(m.seq),
            _ => {}
        }
    }

    /// A whole text of the drone's.
    pub(crate) fn said(&mut self, mut text: Text) {
        // PX4 ends with a tab what it tells in its own events as well.
        text.text.truncate(text.text.trim_end().len());
        let keep = |texts: &mut VecDeque<Text>, most: usize| {
            if texts.len() == most {
                texts.pop_front();
            }
            texts.push_back(text.clone());
        };
        keep(&mut self.texts, TEXTS);
        if text.severity <= WARNING {
            tracing::warn!(severity = text.severity, text = %text.text, "the drone says");
            keep(&mut self.warnings, WARNINGS);
        } else {
            tracing::info!(severity = text.severity, text = %text.text, "the drone says");
        }
    }

    /// What is left when another drone takes the place of this one: what is known of the link.
    pub(crate) fn of_another(&self) -> Self {
        Telemetry {
            unreadable: self.unreadable,
            unsigned: self.unsigned,
            repeated: self.repeated,
            foreign_systems: self.foreign_systems.clone(),
            ..Telemetry::default()
        }
    }

    /// The link is lost: what was known stays readable, but nothing that changes by itself is held for true.
    pub(crate) fn lost(&mut self) {
        self.linked = false;
        self.landed = LandedState::Unknown;
    }

    /// Whether the position can be trusted at all.
    pub fn has_3d_fix(&self) -> bool {
        self.gps_fix.is_some_and(|fix| fix >= GpsFixType::GPS_FIX_TYPE_3D_FIX as u8)
    }
}

/// Whether a heartbeat comes from something that flies (a ground station, a camera or a gimbal sends one too).
pub(crate) fn is_autopilot(beat: &HEARTBEAT_DATA) -> bool {
    beat.autopilot != MavAutopilot::MAV_AUTOPILOT_INVALID
        && !matches!(beat.mavtype, MavType::MAV_TYPE_GCS | MavType::MAV_TYPE_CAMERA | MavType::MAV_TYPE_GIMBAL)
}

pub(crate) fn from_e7(lat: i32, lon: i32) -> LatLon {
    LatLon { lat: f64::from(lat) / 1e7, lon: f64::from(lon) / 1e7 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mavlink::dialects::common::{GLOBAL_POSITION_INT_DATA, SYS_STATUS_DATA};

    #[tokio::test]
    async fn what_the_drone_calls_unknown_stays_unknown() {
        let mut telemetry = Telemetry::default();
        let now = Instant::now();
        telemetry.apply(
            &MavMessage::GLOBAL_POSITION_INT(GLOBAL_POSITION_INT_DATA { hdg: u16::MAX, ..Default::default() }),
            now,
        );
        telemetry.apply(
            &MavMessage::SYS_STATUS(SYS_STATUS_DATA {
                battery_remaining: -1,
                voltage_battery: u16::MAX,
                ..Default::default()
            }),
            now,
        );
        assert!(telemetry.position.is_none() && telemetry.heading_deg.is_none());
        assert!(telemetry.battery_pct.is_none() && telemetry.voltage.is_none());
        assert!(!telemetry.is_down_and_disarmed());
    }

    #[tokio::test]
    async fn no_chatter_pushes_a_warning_out() {
        let mut telemetry = Telemetry::default();
        let mut say = |severity, text: &str| {
            telemetry.said(Text { severity, text: text.to_owned(), received: Instant::now() });
        };
        say(WARNING, "Battery 1 low\t");
        for _ in 0..100 {
            say(6, "chatter");
        }
        assert_eq!((telemetry.texts.len(), telemetry.warnings.len()), (TEXTS, 1));
        assert_eq!(telemetry.warnings[0].text, "Battery 1 low");
    }

    #[test]
    fn modes_of_both_autopilots_are_read_and_written_alike() {
        for autopilot in [Autopilot::ArduPilot, Autopilot::Px4] {
            for mode in [FlightMode::Auto, FlightMode::Hold, FlightMode::Return, FlightMode::Land] {
                let (main, sub) = mode.encode(autopilot).unwrap();
                let custom = match autopilot {
                    Autopilot::Px4 => main << 16 | sub << 24,
                    _ => main,
                };
                assert_eq!(FlightMode::decode(autopilot, custom), mode);
            }
        }
    }
}
