//! What a sortie is to the autopilot: mission items. Pure.
//!
//! [`check()`] refuses what nobody should fly, [`items`] turns a [`Mission`] into the list that is uploaded, [`compare()`]
//! says whether the list that was read back is the same flight, and [`Mission::rest`] is what is left of an interrupted
//! one.

mod check;
mod compare;
mod resume;

use mavlink::dialects::common::{MavCmd, MavFrame};
use serde::{Deserialize, Serialize};

use super::telemetry::Autopilot;
use crate::geo::LatLon;

pub use check::{Bound, Limits, MissionFault, Place, check};
pub(crate) use check::{inside, keeps_to};
pub use compare::{Mismatch, compare};
pub use resume::Along;

/// The most items that common autopilots keep.
pub const MOST_ITEMS: usize = 700;

/// Called deprecated in the message definitions, but the one that ArduPilot and PX4 both fly in missions.
#[allow(deprecated)]
pub(crate) const MOUNT_CONTROL: MavCmd = MavCmd::MAV_CMD_DO_MOUNT_CONTROL;

/// One flight: take off, fly the waypoints with the camera running, return to the dock.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Mission {
    pub takeoff_height_m: f64,
    pub speed_m_s: f64,
    pub camera: CameraPlan,
    pub waypoints: Vec<Waypoint>,
    /// An inclusion polygon that the drone itself must not leave.
    pub fence: Option<Vec<LatLon>>,
    /// What the drone must not fly over, at whatever height.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclusions: Vec<Exclusion>,
    /// The ground below each waypoint, in metres above the take-off point. Empty: level.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ground_m: Vec<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exclusion {
    Polygon { vertices: Vec<LatLon> },
    Circle { centre: LatLon, radius_m: f64 },
}

/// Below this height above ground no faster than this.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpeedCap {
    /// Metres above the ground; without known ground, above the take-off point.
    pub below_m: f64,
    pub speed_m_s: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CameraPlan {
    /// Metres flown between two pictures.
    pub trigger_distance_m: f64,
    /// Seconds between two pictures, in place of the distance. ArduPilot takes both kinds (by time from 4.4 on); PX4
    /// triggers cameras on its own outputs by distance only, and hands the command by time on to a MAVLink camera,
    /// which must know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_interval_s: Option<f64>,
    /// 0 at the horizon, −90 straight down.
    pub gimbal_pitch_deg: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Waypoint {
    pub at: LatLon,
    /// Above the take-off point.
    pub height_m: f64,
}

/// One item as it stands in MISSION_ITEM_INT.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MissionItem {
    pub command: MavCmd,
    pub frame: MavFrame,
    pub params: [f32; 4],
    /// Latitude, 1e-7 degrees.
    pub x: i32,
    /// Longitude, 1e-7 degrees.
    pub y: i32,
    pub z: f32,
}

pub(crate) fn degrees_e7(degrees: f64) -> i32 {
    (degrees * 1e7).round() as i32
}

/// The list to upload. `home` is where the drone stands; autopilots other than ArduPilot want it in the take-off item.
pub fn items(mission: &Mission, autopilot: Autopilot, home: Option<LatLon>, caps: &[SpeedCap]) -> Vec<MissionItem> {
    let ardupilot = autopilot == Autopilot::ArduPilot;
    // ArduPilot takes 0 for "no yaw asked for", PX4 takes 0 for north and NaN for "as you like".
    let any_yaw = if ardupilot { 0.0 } else { f32::NAN };
    let mut items = Vec::with_capacity(mission.waypoints.len() + 7);
    if ardupilot {
        // Item 0 is the home position there: a placeholder that the drone overwrites.
        let placeholder = at(MavCmd::MAV_CMD_NAV_WAYPOINT, home.map(|at| (at, 0.0)), [0.0; 4]);
        items.push(MissionItem { frame: MavFrame::MAV_FRAME_GLOBAL, ..placeholder });
    }
    let (x, y) = match home {
        Some(home) if !ardupilot => (degrees_e7(home.lat), degrees_e7(home.lon)),
        // ArduPilot takes 0, 0 for "straight up from here".
        _ => (0, 0),
    };
    items.push(MissionItem {
        command: MavCmd::MAV_CMD_NAV_TAKEOFF,
        frame: MavFrame::MAV_FRAME_GLOBAL_RELATIVE_ALT,
        params: [0.0, 0.0, 0.0, any_yaw],
        x,
        y,
        z: mission.takeoff_height_m as f32,
    });
    let mut speed = mission.leg_speed(0, caps);
    items.push(change_speed(speed));
    const MAVLINK_TARGETING: f32 = 2.0;
    items.push(MissionItem {
        z: MAVLINK_TARGETING,
        ..command(MOUNT_CONTROL, [mission.camera.gimbal_pitch_deg as f32, 0.0, 0.0, 0.0])
    });
    items.push(match mission.camera.trigger_interval_s {
        // Every camera, until it is stopped.
        Some(seconds) => command(MavCmd::MAV_CMD_IMAGE_START_CAPTURE, [0.0, seconds as f32, 0.0, 0.0]),
        None => {
            let metres = mission.camera.trigger_distance_m as f32;
            command(MavCmd::MAV_CMD_DO_SET_CAM_TRIGG_DIST, [metres, 0.0, 0.0, 0.0])
        }
    });
    for (index, waypoint) in mission.waypoints.iter().enumerate() {
        let wanted = mission.leg_speed(index, caps);
        if wanted != speed {
            speed = wanted;
            items.push(change_speed(speed));
        }
        items.push(at(MavCmd::MAV_CMD_NAV_WAYPOINT, Some((waypoint.at, waypoint.height_m)), [0.0, 0.0, 0.0, any_yaw]));
    }
    items.push(match mission.camera.trigger_interval_s {
        Some(_) => command(MavCmd::MAV_CMD_IMAGE_STOP_CAPTURE, [0.0; 4]),
        None => command(MavCmd::MAV_CMD_DO_SET_CAM_TRIGG_DIST, [0.0; 4]),
    });
    items.push(command(MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH, [0.0; 4]));
    items
}

/// The waypoint that the drone flies to while `seq` is its current item: the first one not before it. The number of
/// waypoints once it is past the last.
pub fn next_waypoint(items: &[MissionItem], autopilot: Autopilot, seq: u16) -> usize {
    let placeholder = usize::from(autopilot == Autopilot::ArduPilot);
    let before = items.iter().take(usize::from(seq)).skip(placeholder);
    before.filter(|item| item.command == MavCmd::MAV_CMD_NAV_WAYPOINT).count()
}

impl Mission {
    /// How fast the leg to a waypoint may be flown: as planned, unless either end is below a cap's height.
    fn leg_speed(&self, to: usize, caps: &[SpeedCap]) -> f64 {
        let above = |index: usize| {
            let ground_m = self.ground_m.get(index).copied().unwrap_or_default();
            self.waypoints.get(index).map(|waypoint| waypoint.height_m - ground_m)
        };
        let start = match to.checked_sub(1) {
            Some(before) => above(before),
            None => Some(self.takeoff_height_m),
        };
        let low = [start, above(to)].into_iter().flatten().fold(f64::INFINITY, f64::min);
        let allowed = caps.iter().filter(|cap| low < cap.below_m).map(|cap| cap.speed_m_s);
        allowed.fold(self.speed_m_s, f64::min)
    }
}

fn change_speed(metres_per_second: f64) -> MissionItem {
    const GROUND_SPEED: f32 = 1.0;
    const THROTTLE_UNCHANGED: f32 = -1.0;
    let params = [GROUND_SPEED, metres_per_second as f32, THROTTLE_UNCHANGED, 0.0];
    command(MavCmd::MAV_CMD_DO_CHANGE_SPEED, params)
}

/// Inclusion and exclusions as the fence list to upload. Empty where the mission has neither.
pub fn fence_items(mission: &Mission) -> Vec<MissionItem> {
    let point = |command, place: LatLon, param1: f32| MissionItem {
        frame: MavFrame::MAV_FRAME_GLOBAL,
        ..at(command, Some((place, 0.0)), [param1, 0.0, 0.0, 0.0])
    };
    let mut items = Vec::new();
    let mut polygon = |command, vertices: &[LatLon]| {
        // Each vertex says how many there are.
        items.extend(vertices.iter().map(|vertex| point(command, *vertex, vertices.len() as f32)));
    };
    if let Some(fence) = &mission.fence {
        polygon(MavCmd::MAV_CMD_NAV_FENCE_POLYGON_VERTEX_INCLUSION, fence);
    }
    for exclusion in &mission.exclusions {
        if let Exclusion::Polygon { vertices } = exclusion {
            polygon(MavCmd::MAV_CMD_NAV_FENCE_POLYGON_VERTEX_EXCLUSION, vertices);
        }
    }
    for exclusion in &mission.exclusions {
        if let Exclusion::Circle { centre, radius_m } = exclusion {
            items.push(point(MavCmd::MAV_CMD_NAV_FENCE_CIRCLE_EXCLUSION, *centre, *radius_m as f32));
        }
    }
    items
}

fn at(command: MavCmd, place: Option<(LatLon, f64)>, params: [f32; 4]) -> MissionItem {
    let (at, height) = place.unwrap_or((LatLon { lat: 0.0, lon: 0.0 }, 0.0));
    MissionItem {
        command,
        frame: MavFrame::MAV_FRAME_GLOBAL_RELATIVE_ALT,
        params,
        x: degrees_e7(at.lat),
        y: degrees_e7(at.lon),
        z: height as f32,
    }
}

fn command(command: MavCmd, params: [f32; 4]) -> MissionItem {
    MissionItem { command, frame: MavFrame::MAV_FRAME_MISSION, params, x: 0, y: 0, z: 0.0 }
}

/// A command without its prefix, as people say it.
pub(crate) fn name(command: MavCmd) -> String {
    format!("{command:?}").replace("MAV_CMD_", "")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn corner(north: f64, east: f64) -> LatLon {
        LatLon { lat: HOME.lat + north, lon: HOME.lon + east }
    }

    pub fn mission() -> Mission {
        Mission {
            takeoff_height_m: 60.0,
            speed_m_s: 8.0,
            camera: CameraPlan { trigger_distance_m: 20.0, gimbal_pitch_deg: -90.0, ..Default::default() },
            waypoints: vec![
                Waypoint { at: corner(0.001, 0.0), height_m: 60.0 },
                Waypoint { at: corner(0.001, 0.001), height_m: 60.0 },
            ],
            fence: Some(vec![corner(-0.01, -0.01), corner(-0.01, 0.01), corner(0.01, 0.01), corner(0.01, -0.01)]),
            ..Default::default()
        }
    }

    pub const CAPS: &[SpeedCap] =
        &[SpeedCap { below_m: 30.0, speed_m_s: 5.0 }, SpeedCap { below_m: 10.0, speed_m_s: 2.0 }];
    pub const HOME: LatLon = LatLon { lat: 23.05, lon: 113.0 };

    #[test]
    fn every_flight_begins_with_its_take_off_and_ends_with_the_return() {
        for (autopilot, first) in [(Autopilot::ArduPilot, 1), (Autopilot::Px4, 0)] {
            let items = items(&mission(), autopilot, Some(HOME), CAPS);
            assert_eq!(items[first].command, MavCmd::MAV_CMD_NAV_TAKEOFF);
            assert_eq!(items[first].z, 60.0);
            let last = items.last().unwrap().command;
            assert_eq!(last, MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH);
            let camera_off = items[items.len() - 2];
            assert_eq!(camera_off.command, MavCmd::MAV_CMD_DO_SET_CAM_TRIGG_DIST);
            assert_eq!(camera_off.params[0], 0.0);
        }
    }

    #[allow(deprecated)]
    const ALSO_RELATIVE: MavFrame = MavFrame::MAV_FRAME_GLOBAL_RELATIVE_ALT_INT;

    #[test]
    fn what_an_autopilot_rewrites_harmlessly_is_still_the_same_flight() {
        let sent = items(&mission(), Autopilot::ArduPilot, Some(HOME), CAPS);
        let mut read = sent.clone();
        read[0].x += 5_000;
        for item in &mut read {
            if item.frame == MavFrame::MAV_FRAME_GLOBAL_RELATIVE_ALT {
                item.frame = ALSO_RELATIVE;
            }
        }
        read[3].z = 0.0;
        assert_eq!(compare(&sent, &read, true), Ok(()));
    }

    #[test]
    fn a_changed_item_is_named_with_its_field() {
        let sent = items(&mission(), Autopilot::ArduPilot, Some(HOME), CAPS);
        let mut read = sent.clone();
        read[5].x += 1000;
        let error = compare(&sent, &read, true).unwrap_err().to_string();
        assert!(error.contains("item 5 (NAV_WAYPOINT): latitude"), "{error}");
        let mut read = sent.clone();
        read[6].z = 20.0;
        let error = compare(&sent, &read, true).unwrap_err().to_string();
        assert!(error.contains("item 6 (NAV_WAYPOINT): height"), "{error}");
        let mut read = sent.clone();
        read[6].frame = MavFrame::MAV_FRAME_GLOBAL;
        assert!(compare(&sent, &read, true).is_err());
        let mut read = sent.clone();
        read.pop();
        assert!(matches!(compare(&sent, &read, true), Err(Mismatch::Count { .. })));
        let mut read = sent.clone();
        read[8].command = MavCmd::MAV_CMD_NAV_LAND;
        assert!(compare(&sent, &read, true).is_err());
    }

    fn speeds(items: &[MissionItem]) -> Vec<(MavCmd, f32)> {
        let kept = [MavCmd::MAV_CMD_DO_CHANGE_SPEED, MavCmd::MAV_CMD_NAV_WAYPOINT];
        items.iter().filter(|item| kept.contains(&item.command)).map(|item| (item.command, item.params[1])).collect()
    }

    #[test]
    fn a_leg_near_the_ground_is_flown_no_faster_than_its_cap() {
        let mut low = mission();
        low.waypoints.extend([
            Waypoint { at: corner(0.0, 0.001), height_m: 60.0 },
            Waypoint { at: corner(0.0, 0.002), height_m: 60.0 },
        ]);
        // A hill below the second waypoint.
        low.ground_m = vec![0.0, 40.0, 0.0, 0.0];
        let fly = |items: Vec<MissionItem>| {
            let all = speeds(&items);
            all.into_iter()
                .map(|(command, speed)| (command == MavCmd::MAV_CMD_DO_CHANGE_SPEED).then_some(speed))
                .collect::<Vec<_>>()
        };
        let wp = None;
        let flown = fly(items(&low, Autopilot::Px4, Some(HOME), CAPS));
        assert_eq!(flown, [Some(8.0), wp, Some(5.0), wp, wp, Some(8.0), wp]);
        low.ground_m[1] = 55.0;
        let flown = fly(items(&low, Autopilot::Px4, Some(HOME), CAPS));
        assert_eq!(flown, [Some(8.0), wp, Some(2.0), wp, wp, Some(8.0), wp]);
        assert_eq!(fly(items(&low, Autopilot::Px4, Some(HOME), &[])), [Some(8.0), wp, wp, wp, wp]);
        // A low take-off is a low leg as well.
        low.takeoff_height_m = 20.0;
        assert_eq!(fly(items(&low, Autopilot::Px4, Some(HOME), CAPS))[..2], [Some(5.0), wp]);
    }

    #[test]
    fn pictures_by_time_are_started_and_stopped_by_the_commands_for_it() {
        let mut timed = mission();
        timed.camera.trigger_interval_s = Some(2.5);
        for autopilot in [Autopilot::ArduPilot, Autopilot::Px4] {
            let sent = items(&timed, autopilot, Some(HOME), CAPS);
            let start = sent.iter().find(|i| i.command == MavCmd::MAV_CMD_IMAGE_START_CAPTURE).unwrap();
            // Every camera, each 2.5 s, for ever.
            assert_eq!(start.params, [0.0, 2.5, 0.0, 0.0]);
            assert_eq!(sent[sent.len() - 2].command, MavCmd::MAV_CMD_IMAGE_STOP_CAPTURE);
            assert!(sent.iter().all(|i| i.command != MavCmd::MAV_CMD_DO_SET_CAM_TRIGG_DIST));
            let mut read = sent.clone();
            let at = sent.iter().position(|i| i == start).unwrap();
            read[at].params[1] = 5.0;
            assert!(compare(&sent, &read, autopilot == Autopilot::ArduPilot).is_err());
        }
    }

    #[test]
    fn inclusion_and_exclusions_are_one_list_and_a_changed_bound_is_seen() {
        let bounded = Mission {
            exclusions: vec![
                Exclusion::Circle { centre: corner(0.003, 0.0), radius_m: 40.0 },
                Exclusion::Polygon { vertices: vec![corner(0.004, 0.0), corner(0.004, 0.001), corner(0.005, 0.0)] },
            ],
            ..mission()
        };
        let sent = fence_items(&bounded);
        let of = |command| sent.iter().filter(|i| i.command == command).map(|i| i.params[0]).collect::<Vec<_>>();
        assert_eq!(of(MavCmd::MAV_CMD_NAV_FENCE_POLYGON_VERTEX_INCLUSION), [4.0; 4]);
        assert_eq!(of(MavCmd::MAV_CMD_NAV_FENCE_POLYGON_VERTEX_EXCLUSION), [3.0; 3]);
        assert_eq!(of(MavCmd::MAV_CMD_NAV_FENCE_CIRCLE_EXCLUSION), [40.0]);
        assert_eq!(compare(&sent, &sent, false), Ok(()));
        let changed = |change: &dyn Fn(&mut MissionItem), item: usize| {
            let mut read = sent.clone();
            change(&mut read[item]);
            compare(&sent, &read, false).unwrap_err().to_string()
        };
        let error = changed(&|i| i.params[0] = 4.0, 7);
        assert!(error.contains("item 7 (NAV_FENCE_CIRCLE_EXCLUSION): param1 was sent as 40"), "{error}");
        assert!(changed(&|i| i.x += 1000, 5).contains("latitude"));
        assert!(changed(&|i| i.command = MavCmd::MAV_CMD_NAV_FENCE_POLYGON_VERTEX_INCLUSION, 5).contains("command"));
        assert_eq!(fence_items(&Mission { fence: None, ..mission() }), []);
    }
}
