//! What a simulated autopilot lacks, aboard the drone that it flies: camera, gimbal, remote identification, the dock's
//! sensor below it. Pure: it is told what the autopilot and the station say, and says what those parts would.

use std::time::Duration;

use jiff::Timestamp;
use mavlink::dialects::common::{
    CAMERA_IMAGE_CAPTURED_DATA, COMMAND_ACK_DATA, GIMBAL_DEVICE_ATTITUDE_STATUS_DATA, GimbalDeviceErrorFlags,
    GimbalDeviceFlags, HEARTBEAT_DATA, MavAutopilot, MavBool, MavCmd, MavMessage, MavModeFlag, MavOdidArmStatus,
    MavResult, MavState, MavType, OPEN_DRONE_ID_ARM_STATUS_DATA, SIM_STATE_DATA,
};
use tokio::time::Instant;

use super::shutter::Shutter;
use crate::geo::{Attitude, LatLon};
use crate::sim::drone::{Album, DOCK_M, Exposure, Faults, Ground, RemoteId, Truth};
use crate::vehicle::frame::Frame;
use crate::vehicle::mission::degrees_e7;
use crate::vehicle::shots::quaternion_from_attitude;
use crate::vehicle::telemetry::{Telemetry, is_autopilot};
use crate::vehicle::{Autopilot, FlightMode, LandedState};

pub const CAMERA: u8 = 100;
pub const GIMBAL: u8 = 154;
pub const REMOTE_ID: u8 = 236;

/// What is older is not the truth of now.
const FRESH: Duration = Duration::from_secs(1);

/// A picture that is being made, as the autopilot saw itself when the shutter opened.
#[derive(Debug, Clone, Copy)]
struct Taken {
    index: u32,
    at: Timestamp,
    boot_ms: u32,
    place: LatLon,
    amsl_m: f64,
    height_m: f64,
    attitude: Attitude,
}

/// The drone as its other parts know it.
pub struct Aboard {
    ground: Ground,
    said: Telemetry,
    shutter: Shutter,
    current: Option<u16>,
    /// Where it truly is, when the autopilot's simulation tells.
    truth: Option<(SIM_STATE_DATA, Instant)>,
    /// What the simulation calls the dock's height, above the sea.
    ground_amsl_m: Option<f64>,
    pending: Vec<Taken>,
    album: Album,
    next_index: u32,
    arms: u32,
    launches: u32,
    was_up: bool,
}

/// The heartbeat of something aboard that does not fly it.
pub fn beat(mavtype: MavType) -> MavMessage {
    MavMessage::HEARTBEAT(HEARTBEAT_DATA {
        custom_mode: 0,
        mavtype,
        autopilot: MavAutopilot::MAV_AUTOPILOT_INVALID,
        base_mode: MavModeFlag::empty(),
        system_status: MavState::MAV_STATE_ACTIVE,
        mavlink_version: 3,
    })
}

impl Aboard {
    /// `said`: what was heard while it was looked for.
    pub fn new(home: LatLon, said: Telemetry) -> Self {
        Aboard {
            ground: Ground::new(home),
            said,
            shutter: Shutter::default(),
            current: None,
            truth: None,
            ground_amsl_m: None,
            pending: Vec::new(),
            album: Album::default(),
            next_index: 0,
            arms: 0,
            launches: 0,
            was_up: false,
        }
    }

    pub fn autopilot(&self) -> Option<Autopilot> {
        self.said.autopilot
    }

    /// What the station says to the autopilot: only its mission matters here.
    pub fn overhear(&mut self, message: &MavMessage) {
        match message {
            MavMessage::MISSION_COUNT(count) => self.shutter.announced(count.mission_type, count.count),
            MavMessage::MISSION_ITEM_INT(item) => self.shutter.item(item),
            _ => {}
        }
    }

    /// What the autopilot says. Returns a picture that is to be taken now.
    pub fn hear(&mut self, message: &MavMessage, now: Instant, utc: Timestamp) -> Option<Exposure> {
        match message {
            MavMessage::HEARTBEAT(beat) if is_autopilot(beat) => {
                let armed = self.said.armed == Some(true);
                self.said.heartbeat(beat, now);
                self.arms += u32::from(!armed && self.said.armed == Some(true));
            }
            MavMessage::SIM_STATE(state) => {
                if self.ground_amsl_m.is_none() && self.said.is_down_and_disarmed() {
                    self.ground_amsl_m = Some(f64::from(state.alt));
                }
                self.truth = Some((state.clone(), now));
            }
            other => self.said.apply(other, now),
        }
        self.overhear(message);
        match message {
            MavMessage::MISSION_CURRENT(current) => self.current = Some(current.seq),
            // Said at once, where the other comes once a second. Repeated ones are of the past.
            MavMessage::MISSION_ITEM_REACHED(reached) => {
                self.current = self.current.map(|seq| seq.max(reached.seq.saturating_add(1)));
            }
            MavMessage::EXTENDED_SYS_STATE(_) => {
                let up = matches!(self.said.landed, LandedState::InAir | LandedState::TakingOff | LandedState::Landing);
                self.launches += u32::from(up && !self.was_up);
                self.was_up = up;
            }
            MavMessage::GLOBAL_POSITION_INT(place) => return self.moved(place.time_boot_ms, now, utc),
            _ => {}
        }
        None
    }

    /// A new estimate of the place is the moment to look whether a picture is due.
    fn moved(&mut self, boot_ms: u32, now: Instant, utc: Timestamp) -> Option<Exposure> {
        let fix = self.said.position?;
        let heading_deg = self.said.heading_deg.or(self.said.attitude.map(|a| a.yaw_deg))?;
        let here = self.ground.enu(fix.at, fix.height_m);
        let flies_mission = self.said.armed == Some(true) && self.said.mode == Some(FlightMode::Auto);
        let current = self.current.filter(|_| flies_mission);
        if !self.shutter.due(current, [here[0], here[1]], f64::from(boot_ms) / 1e3) {
            return None;
        }
        let pitch_deg = self.pitch_deg();
        let index = self.next_index;
        self.next_index += 1;
        self.pending.push(Taken {
            index,
            at: utc,
            boot_ms,
            place: fix.at,
            amsl_m: fix.amsl_m,
            height_m: fix.height_m,
            attitude: Attitude { yaw_deg: heading_deg, pitch_deg, roll_deg: 0.0 },
        });
        let (east_m, north_m, up_m, yaw_deg) = self.truly(now).unwrap_or((here[0], here[1], here[2], heading_deg));
        let attitude = Attitude { yaw_deg, pitch_deg, roll_deg: 0.0 };
        Some(Exposure { index, taken_at: utc, east_m, north_m, up_m, attitude })
    }

    /// Metres from the dock and the heading, by the autopilot's own simulation, brought forward to this moment.
    fn truly(&self, now: Instant) -> Option<(f64, f64, f64, f64)> {
        let (state, heard) = self.truth.as_ref()?;
        let ground_m = self.ground_amsl_m?;
        let age = now.saturating_duration_since(*heard);
        // Senders of the older message leave the whole numbers at zero.
        if age > FRESH || (state.lat_int, state.lon_int) == (0, 0) {
            return None;
        }
        let at = LatLon { lat: f64::from(state.lat_int) / 1e7, lon: f64::from(state.lon_int) / 1e7 };
        let [east, north, up] = self.ground.enu(at, f64::from(state.alt) - ground_m);
        let flown = |speed: f32| f64::from(speed) * age.as_secs_f64();
        let yaw_deg = f64::from(state.yaw).to_degrees().rem_euclid(360.0);
        Some((east + flown(state.ve), north + flown(state.vn), up - flown(state.vd), yaw_deg))
    }

    /// A stabilised gimbal holds what the mission asked for.
    fn pitch_deg(&self) -> f64 {
        self.current.map(|seq| self.shutter.orders(seq).pitch_deg).unwrap_or_default().clamp(-90.0, 30.0)
    }

    /// The camera is done with a picture, or could not make it.
    pub fn picture_done(&mut self, index: u32, file: Option<&str>) -> Option<MavMessage> {
        let place = self.pending.iter().position(|taken| taken.index == index)?;
        let taken = self.pending.swap_remove(place);
        let millimetres = |metres: f64| (metres * 1e3).round() as i32;
        let report = CAMERA_IMAGE_CAPTURED_DATA {
            time_utc: u64::try_from(taken.at.as_microsecond()).unwrap_or_default(),
            time_boot_ms: taken.boot_ms,
            lat: degrees_e7(taken.place.lat),
            lon: degrees_e7(taken.place.lon),
            alt: millimetres(taken.amsl_m),
            relative_alt: millimetres(taken.height_m),
            q: quaternion_from_attitude(taken.attitude),
            image_index: index as i32,
            camera_id: 0,
            capture_result: if file.is_some() { MavBool::MAV_BOOL_TRUE } else { MavBool::MAV_BOOL_FALSE },
            file_url: file.unwrap_or_default().into(),
        };
        self.album.keep(report.clone());
        Some(MavMessage::CAMERA_IMAGE_CAPTURED(report))
    }

    /// What the camera answers to the station, in order; none where the message is not for it.
    pub fn ask_camera(&self, frame: &Frame) -> Option<Vec<MavMessage>> {
        let MavMessage::COMMAND_LONG(c) = &frame.message else { return None };
        if c.target_component != CAMERA {
            return None;
        }
        let asked = c.command == MavCmd::MAV_CMD_REQUEST_MESSAGE;
        let boot_ms = (self.said.health.boot_s.unwrap_or_default() * 1e3) as u32;
        let said = if asked { self.album.say(c.param1 as u32, c.param2 as u32, boot_ms) } else { None };
        let result = if said.is_some() { MavResult::MAV_RESULT_ACCEPTED } else { MavResult::MAV_RESULT_DENIED };
        let ack = COMMAND_ACK_DATA {
            command: c.command,
            result,
            target_system: frame.system,
            target_component: frame.component,
            ..Default::default()
        };
        Some(said.into_iter().chain([MavMessage::COMMAND_ACK(ack)]).collect())
    }

    /// What the parts say every second.
    pub fn heartbeats(&self, faults: &Faults) -> Vec<(u8, MavMessage)> {
        let mut said = vec![(CAMERA, beat(MavType::MAV_TYPE_CAMERA)), (GIMBAL, beat(MavType::MAV_TYPE_GIMBAL))];
        let (status, error) = match faults.remote_id {
            RemoteId::Good => (MavOdidArmStatus::MAV_ODID_ARM_STATUS_GOOD_TO_ARM, ""),
            RemoteId::Failing => (MavOdidArmStatus::MAV_ODID_ARM_STATUS_PRE_ARM_FAIL_GENERIC, "no transmission"),
            RemoteId::Silent => return said,
        };
        let status = OPEN_DRONE_ID_ARM_STATUS_DATA { status, error: error.into() };
        said.push((REMOTE_ID, MavMessage::OPEN_DRONE_ID_ARM_STATUS(status)));
        said
    }

    /// How the gimbal points.
    pub fn gimbal(&self) -> Option<MavMessage> {
        let looks = Attitude { yaw_deg: self.said.heading_deg?, pitch_deg: self.pitch_deg(), roll_deg: 0.0 };
        Some(MavMessage::GIMBAL_DEVICE_ATTITUDE_STATUS(GIMBAL_DEVICE_ATTITUDE_STATUS_DATA {
            time_boot_ms: (self.said.health.boot_s? * 1e3) as u32,
            q: quaternion_from_attitude(looks),
            failure_flags: GimbalDeviceErrorFlags::empty(),
            flags: GimbalDeviceFlags::GIMBAL_DEVICE_FLAGS_ROLL_LOCK
                | GimbalDeviceFlags::GIMBAL_DEVICE_FLAGS_PITCH_LOCK
                | GimbalDeviceFlags::GIMBAL_DEVICE_FLAGS_YAW_IN_EARTH_FRAME,
            ..Default::default()
        }))
    }

    /// Whether the dock should charge it: ArduPilot's simulated battery knows no charger, PX4's is full when disarmed.
    pub fn wants_charge(&self) -> bool {
        const FULL_PCT: f64 = 95.0;
        self.said.autopilot == Some(Autopilot::ArduPilot)
            && self.said.is_down_and_disarmed()
            && self.said.battery_pct.is_some_and(|pct| pct < FULL_PCT)
            && self.is_in_dock()
    }

    fn place(&self) -> Option<[f64; 3]> {
        let estimate = self.said.position.map(|fix| self.ground.enu(fix.at, fix.height_m));
        self.truly(Instant::now()).map(|(east, north, up, _)| [east, north, up]).or(estimate)
    }

    fn is_in_dock(&self) -> bool {
        let down = self.said.landed == LandedState::OnGround || self.said.armed == Some(false);
        down && self.place().is_some_and(|[east, north, _]| east.hypot(north) < DOCK_M)
    }

    /// For the dock's sensor, and for who watches.
    pub fn truth(&self) -> Truth {
        let [east_m, north_m, up_m] = self.place().unwrap_or_default();
        let (at, _) = self.ground.place([east_m, north_m, up_m]);
        let in_air = self.was_up;
        Truth {
            at,
            east_m,
            north_m,
            up_m,
            yaw_deg: self.said.heading_deg.unwrap_or_default(),
            armed: self.said.armed == Some(true),
            mode: match self.said.mode {
                Some(mode) => mode.encode(Autopilot::ArduPilot).map_or(0, |(main, _)| main),
                None => 0,
            },
            in_dock: self.is_in_dock(),
            battery_pct: self.said.battery_pct.unwrap_or_default(),
            shots_taken: self.next_index,
            in_air,
            coming_home: in_air && matches!(self.said.mode, Some(FlightMode::Return | FlightMode::Land)),
            arms: self.arms,
            launches: self.launches,
            satellites: self.said.satellites.unwrap_or_default(),
            position_ok: self.said.has_3d_fix(),
            ..Truth::docked(at)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mavlink::dialects::common::{
        EXTENDED_SYS_STATE_DATA, GLOBAL_POSITION_INT_DATA, MISSION_COUNT_DATA, MISSION_CURRENT_DATA,
        MISSION_ITEM_INT_DATA, MavCmd, MavLandedState, SYS_STATUS_DATA,
    };

    const HOME: LatLon = LatLon { lat: -35.363, lon: 149.165 };
    const AUTO: u32 = 3;
    const RTL: u32 = 6;

    fn autopilot(armed: bool, custom_mode: u32) -> MavMessage {
        MavMessage::HEARTBEAT(HEARTBEAT_DATA {
            custom_mode,
            mavtype: MavType::MAV_TYPE_QUADROTOR,
            autopilot: MavAutopilot::MAV_AUTOPILOT_ARDUPILOTMEGA,
            base_mode: if armed { MavModeFlag::MAV_MODE_FLAG_SAFETY_ARMED } else { MavModeFlag::empty() },
            ..Default::default()
        })
    }

    fn at(east: f64, north: f64, up: f64) -> MavMessage {
        let (at, _) = Ground::new(HOME).place([east, north, up]);
        MavMessage::GLOBAL_POSITION_INT(GLOBAL_POSITION_INT_DATA {
            lat: degrees_e7(at.lat),
            lon: degrees_e7(at.lon),
            relative_alt: (up * 1e3) as i32,
            hdg: 9000,
            ..Default::default()
        })
    }

    fn landed(landed_state: MavLandedState) -> MavMessage {
        MavMessage::EXTENDED_SYS_STATE(EXTENDED_SYS_STATE_DATA { landed_state, ..Default::default() })
    }

    fn truly_at(east: f64, north: f64, up: f64) -> MavMessage {
        let (at, _) = Ground::new(HOME).place([east, north, up]);
        MavMessage::SIM_STATE(SIM_STATE_DATA {
            lat_int: degrees_e7(at.lat),
            lon_int: degrees_e7(at.lon),
            alt: (584.0 + up) as f32,
            ve: 8.0,
            yaw: 95_f32.to_radians(),
            ..Default::default()
        })
    }

    fn hear(aboard: &mut Aboard, message: &MavMessage, now: Instant) -> Option<Exposure> {
        aboard.hear(message, now, Timestamp::UNIX_EPOCH)
    }

    /// On the ground with a mission of take-off, gimbal, camera and one waypoint.
    fn ready() -> Aboard {
        let mut aboard = Aboard::new(HOME, Telemetry::default());
        let now = Instant::now();
        hear(&mut aboard, &autopilot(false, 0), now);
        hear(&mut aboard, &landed(MavLandedState::MAV_LANDED_STATE_ON_GROUND), now);
        hear(&mut aboard, &at(0.0, 0.0, 0.0), now);
        aboard.overhear(&MavMessage::MISSION_COUNT(MISSION_COUNT_DATA { count: 5, ..Default::default() }));
        let items = [
            (MavCmd::MAV_CMD_NAV_WAYPOINT, 0.0),
            (MavCmd::MAV_CMD_NAV_TAKEOFF, 0.0),
            (MavCmd::MAV_CMD_DO_GIMBAL_MANAGER_PITCHYAW, -80.0),
            (MavCmd::MAV_CMD_DO_SET_CAM_TRIGG_DIST, 10.0),
            (MavCmd::MAV_CMD_NAV_WAYPOINT, 0.0),
        ];
        for (seq, (command, param1)) in items.into_iter().enumerate() {
            let item = MISSION_ITEM_INT_DATA { seq: seq as u16, command, param1, ..Default::default() };
            aboard.overhear(&MavMessage::MISSION_ITEM_INT(item));
        }
        aboard
    }

    #[tokio::test(start_paused = true)]
    async fn the_camera_sees_the_truth_and_reports_the_estimate() {
        let mut aboard = ready();
        let now = Instant::now();
        hear(&mut aboard, &truly_at(0.0, 0.0, 0.0), now);
        hear(&mut aboard, &autopilot(true, AUTO), now);
        hear(&mut aboard, &MavMessage::MISSION_CURRENT(MISSION_CURRENT_DATA { seq: 4, ..Default::default() }), now);
        assert_eq!(hear(&mut aboard, &at(0.0, 30.0, 70.0), now), None);
        hear(&mut aboard, &truly_at(11.0, 31.0, 71.0), now);
        let later = now + Duration::from_millis(250);
        let seen = hear(&mut aboard, &at(12.0, 30.0, 70.0), later).unwrap();
        // A quarter of a second at 8 m/s later than when the truth was told.
        assert!((seen.east_m - 13.0).abs() < 0.05 && (seen.north_m - 31.0).abs() < 0.05, "{seen:?}");
        assert!((seen.up_m - 71.0).abs() < 0.01 && (seen.attitude.yaw_deg - 95.0).abs() < 1e-3);
        assert_eq!(seen.attitude.pitch_deg, -80.0);
        let Some(MavMessage::CAMERA_IMAGE_CAPTURED(report)) = aboard.picture_done(seen.index, Some("a.jpg")) else {
            panic!("no report")
        };
        assert_eq!(report.relative_alt, 70_000);
        let MavMessage::GLOBAL_POSITION_INT(said) = at(12.0, 30.0, 70.0) else { unreachable!() };
        assert_eq!((report.lat, report.lon), (said.lat, said.lon));
        assert_eq!(aboard.picture_done(seen.index, Some("a.jpg")), None);
        // The truth is old: what the autopilot believes is the best that is known.
        let later = now + Duration::from_secs(5);
        let seen = hear(&mut aboard, &at(40.0, 30.0, 70.0), later).unwrap();
        assert!((seen.east_m - 40.0).abs() < 0.05 && seen.attitude.yaw_deg == 90.0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_picture_is_taken_on_the_way_home() {
        let mut aboard = ready();
        let now = Instant::now();
        hear(&mut aboard, &MavMessage::MISSION_CURRENT(MISSION_CURRENT_DATA { seq: 4, ..Default::default() }), now);
        for (beat, taken) in [(autopilot(true, RTL), 0), (autopilot(false, AUTO), 0), (autopilot(true, AUTO), 4)] {
            hear(&mut aboard, &beat, now);
            let pictures = (0..10).filter(|n| hear(&mut aboard, &at(f64::from(*n) * 5.1, 0.0, 70.0), now).is_some());
            assert_eq!(pictures.count(), taken, "{beat:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_dock_sees_the_drone_only_when_it_stands_on_it() {
        let mut aboard = ready();
        let now = Instant::now();
        assert!(aboard.truth().in_dock);
        hear(&mut aboard, &autopilot(true, AUTO), now);
        hear(&mut aboard, &landed(MavLandedState::MAV_LANDED_STATE_TAKEOFF), now);
        hear(&mut aboard, &at(0.0, 0.0, 5.0), now);
        let truth = aboard.truth();
        assert!(!truth.in_dock && truth.in_air && (truth.arms, truth.launches) == (1, 1));
        hear(&mut aboard, &landed(MavLandedState::MAV_LANDED_STATE_ON_GROUND), now);
        for (east, in_dock) in [(8.0, false), (0.8, true)] {
            hear(&mut aboard, &at(east, 0.0, 0.0), now);
            assert_eq!(aboard.truth().in_dock, in_dock, "{east} m beside it");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_dock_charges_a_drone_that_stands_in_it_and_no_other() {
        let mut aboard = ready();
        let now = Instant::now();
        let charge = |pct| MavMessage::SYS_STATUS(SYS_STATUS_DATA { battery_remaining: pct, ..Default::default() });
        hear(&mut aboard, &charge(50), now);
        assert!(aboard.wants_charge());
        hear(&mut aboard, &at(20.0, 0.0, 0.0), now);
        assert!(!aboard.wants_charge());
        hear(&mut aboard, &at(0.0, 0.0, 0.0), now);
        hear(&mut aboard, &autopilot(true, AUTO), now);
        assert!(!aboard.wants_charge());
        hear(&mut aboard, &autopilot(false, AUTO), now);
        hear(&mut aboard, &charge(99), now);
        assert!(!aboard.wants_charge());
    }
}
