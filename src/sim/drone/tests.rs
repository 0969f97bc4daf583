//! The simulated autopilot behaves as ArduCopter does. Each test flies it by hand, without sockets and without a clock.

use jiff::Timestamp;
use mavlink::dialects::common::*;

use super::autopilot::{Autopilot, Mode};
use super::physics::WindNow;
use super::{Faults, Ground, RemoteId};
use crate::geo::LatLon;
use crate::vehicle::frame::Frame;
use crate::vehicle::mission::degrees_e7;

const HOME: LatLon = LatLon { lat: 23.05, lon: 113.0 };
const STEP: f64 = 0.05;

struct Flight {
    drone: Autopilot,
    wind: WindNow,
    /// Whose heartbeats it hears.
    station: Option<u8>,
    said: Vec<MavMessage>,
    beat_s: f64,
}

fn flight(parameters: &[(&str, f32)]) -> Flight {
    let parameters: Vec<_> = parameters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    let mut flight = Flight {
        drone: Autopilot::new(HOME, 5, &parameters, Faults::default()),
        wind: WindNow::default(),
        station: Some(255),
        said: Vec::new(),
        beat_s: 0.0,
    };
    flight.pass(3.0);
    flight
}

fn item(seq: u16, command: MavCmd, east: f64, north: f64, z: f32) -> MISSION_ITEM_INT_DATA {
    let (at, _) = Ground::new(HOME).place([east, north, 0.0]);
    MISSION_ITEM_INT_DATA {
        seq,
        command,
        frame: MavFrame::MAV_FRAME_GLOBAL_RELATIVE_ALT,
        x: degrees_e7(at.lat),
        y: degrees_e7(at.lon),
        z,
        target_system: 1,
        ..Default::default()
    }
}

fn mission() -> Vec<MISSION_ITEM_INT_DATA> {
    vec![
        item(0, MavCmd::MAV_CMD_NAV_WAYPOINT, 0.0, 0.0, 0.0),
        item(1, MavCmd::MAV_CMD_NAV_TAKEOFF, 0.0, 0.0, 30.0),
        item(2, MavCmd::MAV_CMD_NAV_WAYPOINT, 0.0, 60.0, 30.0),
        item(3, MavCmd::MAV_CMD_NAV_WAYPOINT, 150.0, 60.0, 30.0),
        item(4, MavCmd::MAV_CMD_NAV_WAYPOINT, 0.0, 200.0, 30.0),
        item(5, MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH, 0.0, 0.0, 0.0),
    ]
}

impl Flight {
    fn hear(&mut self, system: u8, message: MavMessage) {
        self.drone.receive(&Frame { system, component: 190, message });
        self.said.extend(self.drone.take_outbox().into_iter().map(|(_, message)| message));
    }

    /// Lets simulated and wall time pass alike.
    fn pass(&mut self, seconds: f64) {
        for _ in 0..(seconds / STEP).round() as u32 {
            self.beat_s += STEP;
            if self.beat_s >= 1.0 {
                self.beat_s = 0.0;
                if let Some(system) = self.station {
                    self.hear(system, MavMessage::HEARTBEAT(HEARTBEAT_DATA::default()));
                }
            }
            self.drone.step(STEP, self.wind, Timestamp::UNIX_EPOCH);
            for exposure in self.drone.take_exposures() {
                self.drone.picture_done(exposure.index, Ok("p.jpg"));
            }
            self.drone.wall(STEP);
            self.said.extend(self.drone.take_outbox().into_iter().map(|(_, message)| message));
        }
    }

    fn pass_until(&mut self, most: f64, shows: impl Fn(&Autopilot) -> bool) {
        let mut left = most;
        while !shows(&self.drone) {
            assert!(left > 0.0, "not within {most} s; it said {:?}", self.texts());
            self.pass(0.5);
            left -= 0.5;
        }
    }

    fn upload(&mut self, kind: MavMissionType, items: Vec<MISSION_ITEM_INT_DATA>) {
        let count = MISSION_COUNT_DATA {
            count: items.len() as u16,
            target_system: 1,
            mission_type: kind,
            ..Default::default()
        };
        self.hear(255, MavMessage::MISSION_COUNT(count));
        for item in items {
            self.hear(255, MavMessage::MISSION_ITEM_INT(MISSION_ITEM_INT_DATA { mission_type: kind, ..item }));
        }
        let taken = self.said.iter().rev().find_map(|m| match m {
            MavMessage::MISSION_ACK(ack) => Some(ack.mavtype),
            _ => None,
        });
        assert_eq!(taken, Some(MavMissionResult::MAV_MISSION_ACCEPTED));
    }

    fn command(&mut self, command: MavCmd, params: [f32; 2]) -> MavResult {
        let [param1, param2] = params;
        let message = COMMAND_LONG_DATA { command, param1, param2, target_system: 1, ..Default::default() };
        self.hear(255, MavMessage::COMMAND_LONG(message));
        let answer = self.said.iter().rev().find_map(|m| match m {
            MavMessage::COMMAND_ACK(ack) if ack.command == command => Some(ack.result),
            _ => None,
        });
        answer.unwrap()
    }

    fn mode(&mut self, mode: Mode) -> MavResult {
        self.command(MavCmd::MAV_CMD_DO_SET_MODE, [1.0, mode as u32 as f32])
    }

    fn arm(&mut self) -> MavResult {
        self.command(MavCmd::MAV_CMD_COMPONENT_ARM_DISARM, [1.0, 0.0])
    }

    /// On its mission, at its height.
    fn launch(&mut self) {
        self.upload(MavMissionType::MAV_MISSION_TYPE_MISSION, mission());
        assert_eq!(self.mode(Mode::Guided), MavResult::MAV_RESULT_ACCEPTED);
        assert_eq!(self.arm(), MavResult::MAV_RESULT_ACCEPTED, "{:?}", self.texts());
        assert_eq!(self.command(MavCmd::MAV_CMD_MISSION_START, [0.0; 2]), MavResult::MAV_RESULT_ACCEPTED);
        self.pass_until(40.0, |d| d.active == Some(2));
    }

    fn texts(&self) -> Vec<String> {
        let text = |m: &MavMessage| match m {
            MavMessage::STATUSTEXT(t) => t.text.to_str().ok().map(str::to_owned),
            _ => None,
        };
        self.said.iter().filter_map(text).collect()
    }

    fn said(&self, part: &str) -> bool {
        self.texts().iter().any(|text| text.contains(part))
    }

    fn ask(&mut self, id: u32) -> MavMessage {
        assert_eq!(self.command(MavCmd::MAV_CMD_REQUEST_MESSAGE, [id as f32, 0.0]), MavResult::MAV_RESULT_ACCEPTED);
        let position = self.said.iter().rposition(|m| mavlink::Message::message_id(m) == id).unwrap();
        self.said[position].clone()
    }

    fn to_home_m(&self) -> f64 {
        self.drone.body.position[0].hypot(self.drone.body.position[1])
    }
}

// ---- the link ------------------------------------------------------------------------------------------------------

#[test]
fn as_shipped_a_lost_station_changes_nothing() {
    let mut flight = flight(&[]);
    flight.launch();
    flight.station = None;
    flight.pass(20.0);
    assert_eq!(flight.drone.mode, Mode::Auto);
    assert!(!flight.said("GCS Failsafe"));
}

#[test]
fn only_the_heartbeats_of_its_own_station_keep_it_on_its_mission() {
    let mut flight = flight(&[("FS_GCS_ENABLE", 1.0)]);
    flight.launch();
    // Another one's heartbeats are heard, and do not count.
    flight.station = Some(254);
    flight.pass(4.0);
    assert_eq!(flight.drone.mode, Mode::Auto);
    flight.pass(3.0);
    assert_eq!(flight.drone.mode, Mode::Rtl, "{:?}", flight.texts());
    assert!(flight.said("GCS Failsafe"));
    // Back again: it says so, and goes on returning.
    flight.station = Some(255);
    flight.pass(2.0);
    assert!(flight.said("GCS Failsafe Cleared"));
    assert_eq!(flight.drone.mode, Mode::Rtl);
}

#[test]
fn a_station_that_was_never_heard_cannot_be_lost() {
    let mut flight = flight(&[("FS_GCS_ENABLE", 1.0)]);
    flight.drone.station.silent_s = None;
    flight.station = None;
    flight.launch();
    flight.pass(15.0);
    assert_eq!(flight.drone.mode, Mode::Auto);
}

#[test]
fn as_shipped_a_drone_that_was_told_to_hold_ignores_the_loss_of_its_station() {
    let mut held = flight(&[("FS_GCS_ENABLE", 1.0)]);
    held.launch();
    held.mode(Mode::Brake);
    held.station = None;
    held.pass(30.0);
    assert_eq!(held.drone.mode, Mode::Brake);
    assert!(held.said("GCS Failsafe - Continuing Pilot Control"));
    let mut told = flight(&[("FS_GCS_ENABLE", 1.0), ("FS_OPTIONS", 0.0)]);
    told.launch();
    told.mode(Mode::Brake);
    told.station = None;
    told.pass(8.0);
    assert_eq!(told.drone.mode, Mode::Rtl);
}

// ---- the battery ---------------------------------------------------------------------------------------------------

#[test]
fn as_shipped_an_empty_battery_only_falls_out_of_the_sky() {
    let mut flight = flight(&[]);
    flight.launch();
    flight.drone.faults.charge_pct_at_most = Some(0.3);
    flight.pass(20.0);
    assert!(flight.drone.log.crashed && !flight.drone.armed && flight.said("Crash: Disarming"), "{:?}", flight.texts());
}

#[test]
fn a_low_battery_returns_and_a_critical_one_lands_once_it_was_told_to() {
    let told = [("BATT_LOW_MAH", 2500.0), ("BATT_CRT_MAH", 1000.0), ("BATT_FS_LOW_ACT", 2.0), ("BATT_FS_CRT_ACT", 1.0)];
    let mut flight = flight(&told);
    flight.launch();
    flight.drone.faults.charge_pct_at_most = Some(24.0);
    flight.pass(1.0);
    assert_eq!(flight.drone.mode, Mode::Rtl);
    assert!(flight.said("Battery 1 is low") && flight.said("Battery Failsafe"), "{:?}", flight.texts());
    flight.drone.faults.charge_pct_at_most = Some(9.0);
    flight.pass(1.0);
    assert_eq!(flight.drone.mode, Mode::Land);
    assert!(flight.said("Battery 1 is critical"));
    flight.pass_until(60.0, |d| !d.armed);
    assert_eq!(flight.arm(), MavResult::MAV_RESULT_FAILED);
    assert!(flight.said("PreArm: Battery 1 critical capacity failsafe"), "{:?}", flight.texts());
}

#[test]
fn low_voltage_counts_only_when_it_lasts() {
    let mut flight = flight(&[("BATT_LOW_VOLT", 24.0), ("BATT_FS_LOW_ACT", 2.0)]);
    flight.launch();
    flight.drone.faults.weak_cell_ohm = 0.05;
    flight.pass(8.0);
    flight.drone.faults.weak_cell_ohm = 0.0;
    flight.pass(8.0);
    assert_eq!(flight.drone.mode, Mode::Auto, "it dipped for less than BATT_LOW_TIMER");
    flight.drone.faults.weak_cell_ohm = 0.05;
    flight.pass(11.0);
    assert_eq!(flight.drone.mode, Mode::Rtl);
}

#[test]
#[allow(deprecated)]
fn a_smart_battery_tells_of_its_cells_its_warmth_and_its_age() {
    let mut flight = flight(&[]);
    flight.launch();
    flight.drone.faults.weak_cell_ohm = 0.02;
    flight.pass(1.0);
    let MavMessage::BATTERY_STATUS(status) = flight.ask(147) else { panic!() };
    assert!(status.voltages[0] + 300 < status.voltages[1], "{:?}", status.voltages);
    assert_eq!(status.voltages[6], u16::MAX);
    assert!(status.temperature > 2500 && status.current_battery > 1500 && status.current_consumed > 0);
    let MavMessage::SMART_BATTERY_INFO(info) = flight.ask(370) else { panic!() };
    assert_eq!((info.cycle_count, info.cells_in_series), (45, 6));
    assert_eq!(info.serial_number.to_str(), Ok("SIM000005"));
}

// ---- the fence -----------------------------------------------------------------------------------------------------

#[test]
fn an_enabled_fence_has_a_circle_and_a_ceiling_that_nobody_drew() {
    let mut circle = flight(&[("FENCE_ENABLE", 1.0), ("FENCE_RADIUS", 100.0)]);
    circle.launch();
    circle.pass_until(60.0, |d| d.mode == Mode::Rtl);
    assert!(circle.said("Circle fence breached"), "{:?}", circle.texts());
    let mut drawn = flight(&[("FENCE_ENABLE", 1.0), ("FENCE_RADIUS", 100.0), ("FENCE_TYPE", 4.0)]);
    drawn.launch();
    drawn.pass_until(120.0, |d| d.log.mission_flown);
    assert!(!drawn.said("breached"));
}

#[test]
fn a_fence_that_only_reports_turns_nobody_round() {
    let mut flight = flight(&[("FENCE_ENABLE", 1.0), ("FENCE_ACTION", 0.0), ("FENCE_TYPE", 4.0)]);
    let corners = [(-50.0, -50.0), (50.0, -50.0), (50.0, 100.0), (-50.0, 100.0)];
    let vertex = |(seq, (east, north))| MISSION_ITEM_INT_DATA {
        param1: 4.0,
        ..item(seq, MavCmd::MAV_CMD_NAV_FENCE_POLYGON_VERTEX_INCLUSION, east, north, 0.0)
    };
    let fence = (0..).zip(corners).map(vertex).collect();
    flight.upload(MavMissionType::MAV_MISSION_TYPE_FENCE, fence);
    flight.launch();
    flight.pass_until(60.0, |d| d.breached);
    flight.pass(3.0);
    assert!(flight.said("Polygon fence breached"));
    assert_eq!(flight.drone.mode, Mode::Auto);
    let MavMessage::SYS_STATUS(status) = flight.ask(1) else { panic!() };
    assert!(!status.onboard_control_sensors_health.contains(MavSysStatusSensor::MAV_SYS_STATUS_GEOFENCE));
}

// ---- the position --------------------------------------------------------------------------------------------------

#[test]
fn without_satellites_it_lands_where_the_wind_takes_it() {
    let mut flight = flight(&[]);
    flight.wind = WindNow { speed_m_s: 5.0, from_deg: 180.0 };
    flight.launch();
    flight.drone.faults.gps_lost = true;
    flight.pass(9.0);
    assert_eq!(flight.drone.mode, Mode::Auto, "the filter holds on for a while");
    flight.pass(4.0);
    assert_eq!(flight.drone.mode, Mode::Land);
    assert!(flight.said("EKF Failsafe: changed to LAND Mode"), "{:?}", flight.texts());
    assert_eq!(flight.command(MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH, [0.0; 2]), MavResult::MAV_RESULT_FAILED);
    assert!(flight.said("Mode change to RTL failed: requires position"));
    let MavMessage::SYS_STATUS(status) = flight.ask(1) else { panic!() };
    let healthy = status.onboard_control_sensors_health;
    assert!(
        !healthy.intersects(MavSysStatusSensor::MAV_SYS_STATUS_SENSOR_GPS | MavSysStatusSensor::MAV_SYS_STATUS_AHRS)
    );
    // They come back, and it lands all the same.
    flight.drone.faults.gps_lost = false;
    flight.pass(6.0);
    assert!(flight.said("EKF Failsafe Cleared"));
    assert_eq!(flight.drone.mode, Mode::Land);
    let from = flight.drone.body.position[1];
    flight.pass_until(120.0, |d| !d.armed);
    assert!(
        flight.drone.body.position[1] - from > 30.0 && flight.to_home_m() > 50.0,
        "{:?}",
        flight.drone.body.position
    );
}

#[test]
fn told_to_return_once_satellites_are_back_it_leaves_its_blind_landing_and_comes_home() {
    let mut flight = flight(&[]);
    flight.wind = WindNow { speed_m_s: 5.0, from_deg: 180.0 };
    flight.launch();
    flight.drone.faults.gps_lost = true;
    flight.pass(13.0);
    flight.drone.faults.gps_lost = false;
    flight.pass(6.0);
    assert_eq!(flight.drone.mode, Mode::Land);
    assert_eq!(flight.command(MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH, [0.0; 2]), MavResult::MAV_RESULT_ACCEPTED);
    flight.pass_until(120.0, |d| !d.armed);
    assert!(!flight.drone.armed && flight.to_home_m() < 5.0, "{:?}", flight.drone.body.position);
}

#[test]
fn wind_beyond_its_strength_carries_it_away_still_armed() {
    let mut flight = flight(&[]);
    flight.launch();
    flight.pass(8.0);
    flight.wind = WindNow { speed_m_s: 20.0, from_deg: 180.0 };
    flight.command(MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH, [0.0; 2]);
    flight.pass(120.0);
    assert!(flight.drone.armed && flight.to_home_m() > 300.0, "{} m", flight.to_home_m());
}

// ---- arming, the mission, the landing ------------------------------------------------------------------------------

#[test]
fn it_does_not_arm_in_a_mode_that_flies_and_says_so() {
    for (mode, name) in [(Mode::Auto, "AUTO"), (Mode::Rtl, "RTL"), (Mode::Land, "LAND")] {
        let mut flight = flight(&[]);
        flight.upload(MavMissionType::MAV_MISSION_TYPE_MISSION, mission());
        assert_eq!(flight.mode(mode), MavResult::MAV_RESULT_ACCEPTED, "disarmed, it takes every mode");
        assert_eq!(flight.arm(), MavResult::MAV_RESULT_FAILED);
        assert!(flight.said(&format!("Arm: {name} mode not armable")), "{:?}", flight.texts());
    }
}

#[test]
fn what_stands_against_arming_is_said_when_asked_and_twice_a_minute() {
    let mut flight = flight(&[]);
    flight.drone.faults =
        Faults { gps_lost: true, prearm: Some("PreArm: Compass not healthy".to_owned()), ..Faults::default() };
    flight.mode(Mode::Guided);
    assert_eq!(flight.arm(), MavResult::MAV_RESULT_FAILED);
    assert!(flight.said("PreArm: GPS 1: Bad fix") && flight.said("PreArm: Compass not healthy"));
    flight.said.clear();
    flight.pass(61.0);
    let said = flight.texts().iter().filter(|text| text.contains("Compass")).count();
    assert_eq!(said, 2);
    let MavMessage::SYS_STATUS(status) = flight.ask(1) else { panic!() };
    assert!(!status.onboard_control_sensors_health.contains(MavSysStatusSensor::MAV_SYS_STATUS_PREARM_CHECK));
}

#[test]
fn a_mission_started_on_a_disarmed_drone_waits_and_does_not_arm_it() {
    let mut flight = flight(&[]);
    flight.upload(MavMissionType::MAV_MISSION_TYPE_MISSION, mission());
    assert_eq!(flight.command(MavCmd::MAV_CMD_MISSION_START, [0.0; 2]), MavResult::MAV_RESULT_ACCEPTED);
    flight.pass(5.0);
    assert!(!flight.drone.armed && flight.drone.mode == Mode::Auto);
    assert_eq!(flight.arm(), MavResult::MAV_RESULT_FAILED);
}

#[test]
fn an_armed_drone_does_not_start_a_mission_without_a_takeoff() {
    let mut flight = flight(&[]);
    let mut items = mission();
    items.remove(1);
    (0..).zip(&mut items).for_each(|(seq, item)| item.seq = seq);
    flight.upload(MavMissionType::MAV_MISSION_TYPE_MISSION, items);
    flight.mode(Mode::Guided);
    flight.arm();
    assert_eq!(flight.command(MavCmd::MAV_CMD_MISSION_START, [0.0; 2]), MavResult::MAV_RESULT_FAILED);
    assert!(flight.said("Auto: Missing Takeoff Cmd") && flight.said("Mode change to AUTO failed: init failed"));
}

#[test]
fn armed_and_idle_it_disarms_by_itself() {
    let mut flight = flight(&[]);
    flight.mode(Mode::Guided);
    flight.arm();
    flight.pass(9.0);
    assert!(flight.drone.armed);
    flight.pass(2.0);
    assert!(!flight.drone.armed);
}

#[test]
fn a_reached_item_is_said_more_than_once_and_never_out_of_order() {
    let mut flight = flight(&[]);
    flight.launch();
    flight.pass_until(200.0, |d| !d.armed);
    let reached = |m: &MavMessage| match m {
        MavMessage::MISSION_ITEM_REACHED(m) => Some(m.seq),
        _ => None,
    };
    let reached: Vec<u16> = flight.said.iter().filter_map(reached).collect();
    assert_eq!(reached, [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]);
}

#[test]
fn after_the_landing_the_mission_is_at_its_start_and_the_mode_is_what_it_was() {
    let mut flight = flight(&[]);
    flight.launch();
    flight.pass_until(200.0, |d| !d.armed);
    assert!(flight.to_home_m() < 3.0);
    assert_eq!(flight.drone.mode, Mode::Auto);
    let MavMessage::MISSION_CURRENT(current) = flight.ask(42) else { panic!() };
    assert_eq!((current.seq, current.mission_state), (0, MissionState::MISSION_STATE_NOT_STARTED));
    assert_eq!(flight.drone.mission.items.len(), 6, "it keeps the mission");
    assert_eq!(flight.arm(), MavResult::MAV_RESULT_FAILED, "not in AUTO");
}

#[test]
fn an_interrupted_mission_goes_on_where_it_was_unless_it_is_told_to_begin_again() {
    for (restart, wanted) in [(0.0, 3), (1.0, 2)] {
        let mut flight = flight(&[("MIS_RESTART", restart)]);
        flight.launch();
        flight.pass_until(60.0, |d| d.active == Some(3));
        // Out of the waypoint's radius.
        flight.pass(4.0);
        flight.mode(Mode::Brake);
        flight.pass(3.0);
        assert_eq!(flight.mode(Mode::Auto), MavResult::MAV_RESULT_ACCEPTED);
        flight.pass(1.0);
        assert_eq!(flight.drone.active, Some(wanted));
    }
}

#[test]
fn home_is_where_it_was_armed() {
    let mut flight = flight(&[]);
    flight.drone.body.position = [40.0, 0.0, 0.0];
    flight.launch();
    let MavMessage::HOME_POSITION(home) = flight.ask(242) else { panic!() };
    let east = Ground::new(HOME).enu(LatLon { lat: HOME.lat, lon: f64::from(home.longitude) / 1e7 }, 0.0)[0];
    assert!((east - 40.0).abs() < 4.0, "{east}");
    flight.command(MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH, [0.0; 2]);
    flight.pass_until(120.0, |d| !d.armed);
    assert!((flight.drone.body.position[0] - 40.0).abs() < 4.0, "{:?}", flight.drone.body.position);
}

#[test]
fn the_remote_id_transmitter_says_every_second_how_it_is_and_a_dead_one_says_nothing() {
    let mut flight = flight(&[]);
    let told = |flight: &mut Flight| {
        flight.said.clear();
        flight.pass(4.0);
        let status = |m: &MavMessage| match m {
            MavMessage::OPEN_DRONE_ID_ARM_STATUS(s) => Some(s.status),
            _ => None,
        };
        flight.said.iter().filter_map(status).collect::<Vec<_>>()
    };
    let good = told(&mut flight);
    assert!(good.len() >= 3 && good.iter().all(|s| *s == MavOdidArmStatus::MAV_ODID_ARM_STATUS_GOOD_TO_ARM));
    flight.drone.faults.remote_id = RemoteId::Failing;
    assert!(told(&mut flight).contains(&MavOdidArmStatus::MAV_ODID_ARM_STATUS_PRE_ARM_FAIL_GENERIC));
    flight.drone.faults.remote_id = RemoteId::Silent;
    assert!(told(&mut flight).is_empty());
}

#[test]
fn a_camera_that_hangs_takes_no_pictures_and_the_flight_goes_on() {
    let mut flight = flight(&[]);
    flight.launch();
    flight.command(MavCmd::MAV_CMD_DO_SET_CAM_TRIGG_DIST, [10.0, 0.0]);
    flight.pass(5.0);
    let taken = flight.drone.next_index;
    assert!(taken > 1);
    flight.drone.faults.camera_stalled = true;
    let before = flight.drone.body.position;
    flight.pass(5.0);
    assert_eq!(flight.drone.next_index, taken);
    assert!((flight.drone.body.position[1] - before[1]).hypot(flight.drone.body.position[0] - before[0]) > 10.0);
}
