//! What a sortie is to the autopilot: mission items. Pure.
//!
//! [`items`] turns a [`Mission`] into the list that is uploaded, [`compare`] says whether the list that was read back
//! is the same flight. Autopilots store items lossily (frames renamed, heights in centimetres, unused parameters
//! dropped), so the comparison knows which fields each command is flown by, and holds those exactly.

use mavlink::dialects::common::{MavCmd, MavFrame};
use serde::{Deserialize, Serialize};

use super::telemetry::Autopilot;
use crate::geo::LatLon;

/// The most items that common autopilots keep.
pub const MOST_ITEMS: usize = 700;

/// Called deprecated in the message definitions, but the one that ArduPilot and PX4 both fly in missions.
#[allow(deprecated)]
pub(crate) const MOUNT_CONTROL: MavCmd = MavCmd::MAV_CMD_DO_MOUNT_CONTROL;

/// One flight: take off, fly the waypoints with the camera running, return to the dock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mission {
    pub takeoff_height_m: f64,
    pub speed_m_s: f64,
    pub camera: CameraPlan,
    pub waypoints: Vec<Waypoint>,
    /// An inclusion polygon that the drone itself must not leave.
    pub fence: Option<Vec<LatLon>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CameraPlan {
    /// Metres flown between two pictures.
    pub trigger_distance_m: f64,
    /// 0 at the horizon, −90 straight down.
    pub gimbal_pitch_deg: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Waypoint {
    pub at: LatLon,
    /// Above the take-off point.
    pub height_m: f64,
}

/// What no mission may exceed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    pub max_height_m: f64,
    pub max_distance_m: f64,
}

/// Why a mission is not fit to be sent.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MissionFault {
    #[error("the mission has no waypoint")]
    Empty,
    #[error("the mission has {items} items, more than the {limit} that autopilots keep; split the sortie")]
    TooLong { items: usize, limit: usize },
    #[error("{field} is {value}, outside {low} to {high}")]
    OutOfRange { field: String, value: f64, low: f64, high: f64 },
    #[error("waypoint {waypoint} lies outside the geofence; move it or widen the fence")]
    OutsideFence { waypoint: usize },
    #[error("waypoint {waypoint} is {distance_m:.0} m from home, farther than max_distance_m = {limit_m:.0}")]
    TooFar { waypoint: usize, distance_m: f64, limit_m: f64 },
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

/// Where the list read back differs from the list sent.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Mismatch {
    #[error("sent {sent} items, it holds {read}")]
    Count { sent: usize, read: usize },
    #[error("item {item} ({command}): {field} was sent as {sent}, it holds {read}")]
    Field { item: usize, command: String, field: &'static str, sent: String, read: String },
}

/// Refuses what must never reach an autopilot, whoever planned it.
pub fn check(mission: &Mission, home: Option<LatLon>, limits: &Limits) -> Result<(), MissionFault> {
    if mission.waypoints.is_empty() {
        return Err(MissionFault::Empty);
    }
    let items = mission.waypoints.len() + 7;
    if items > MOST_ITEMS {
        return Err(MissionFault::TooLong { items, limit: MOST_ITEMS });
    }
    within("takeoff_height_m", mission.takeoff_height_m, 1.0, limits.max_height_m)?;
    within("speed_m_s", mission.speed_m_s, 0.5, 30.0)?;
    within("camera.trigger_distance_m", mission.camera.trigger_distance_m, 0.5, 1000.0)?;
    within("camera.gimbal_pitch_deg", mission.camera.gimbal_pitch_deg, -90.0, 30.0)?;
    let fence = mission.fence.as_deref();
    if let Some(fence) = fence {
        // ArduPilot keeps at most 255 vertices a polygon.
        within("fence: number of vertices", fence.len() as f64, 3.0, 255.0)?;
        for (index, vertex) in fence.iter().enumerate() {
            place(&format!("fence vertex {index}"), *vertex)?;
        }
    }
    for (index, waypoint) in mission.waypoints.iter().enumerate() {
        place(&format!("waypoint {index}"), waypoint.at)?;
        within(&format!("waypoint {index}: height_m"), waypoint.height_m, 1.0, limits.max_height_m)?;
        if fence.is_some_and(|fence| !inside(waypoint.at, fence)) {
            return Err(MissionFault::OutsideFence { waypoint: index });
        }
        if let Some(home) = home {
            let distance_m = distance_m(home, waypoint.at);
            if distance_m > limits.max_distance_m {
                return Err(MissionFault::TooFar { waypoint: index, distance_m, limit_m: limits.max_distance_m });
            }
        }
    }
    Ok(())
}

fn within(field: &str, value: f64, low: f64, high: f64) -> Result<(), MissionFault> {
    // NaN is in no range.
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(MissionFault::OutOfRange { field: field.to_owned(), value, low, high })
}

fn place(what: &str, at: LatLon) -> Result<(), MissionFault> {
    within(&format!("{what}: lat"), at.lat, -89.0, 89.0)?;
    within(&format!("{what}: lon"), at.lon, -180.0, 180.0)
}

/// Even-odd rule in degrees: fences are a few kilometres across.
pub(crate) fn inside(at: LatLon, polygon: &[LatLon]) -> bool {
    let mut inside = false;
    let mut previous = polygon.len().wrapping_sub(1);
    for (index, a) in polygon.iter().enumerate() {
        let b = polygon[previous];
        if (a.lat > at.lat) != (b.lat > at.lat) && at.lon < (b.lon - a.lon) * (at.lat - a.lat) / (b.lat - a.lat) + a.lon
        {
            inside = !inside;
        }
        previous = index;
    }
    inside
}

/// Metres on the sphere; good to half a percent, which a limit does not feel.
fn distance_m(a: LatLon, b: LatLon) -> f64 {
    let (lat_a, lat_b) = (a.lat.to_radians(), b.lat.to_radians());
    let half = |d: f64| (d / 2.0).sin().powi(2);
    let h = half(lat_b - lat_a) + lat_a.cos() * lat_b.cos() * half((b.lon - a.lon).to_radians());
    2.0 * 6_371_000.0 * h.sqrt().min(1.0).asin()
}

pub(crate) fn degrees_e7(degrees: f64) -> i32 {
    (degrees * 1e7).round() as i32
}

/// The list to upload. `home` is where the drone stands; autopilots other than ArduPilot want it in the take-off item.
pub fn items(mission: &Mission, autopilot: Autopilot, home: Option<LatLon>) -> Vec<MissionItem> {
    let ardupilot = autopilot == Autopilot::ArduPilot;
    // ArduPilot takes 0 for "no yaw asked for", PX4 takes 0 for north and NaN for "as you like".
    let any_yaw = if ardupilot { 0.0 } else { f32::NAN };
    let mut items = Vec::with_capacity(mission.waypoints.len() + 7);
    if ardupilot {
        // Item 0 is the home position there: a placeholder that the drone overwrites.
        items.push(at(MavCmd::MAV_CMD_NAV_WAYPOINT, home.map(|at| (at, 0.0)), [0.0; 4]));
        if let Some(first) = items.first_mut() {
            first.frame = MavFrame::MAV_FRAME_GLOBAL;
        }
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
    const GROUND_SPEED: f32 = 1.0;
    const THROTTLE_UNCHANGED: f32 = -1.0;
    items.push(command(
        MavCmd::MAV_CMD_DO_CHANGE_SPEED,
        [GROUND_SPEED, mission.speed_m_s as f32, THROTTLE_UNCHANGED, 0.0],
    ));
    const MAVLINK_TARGETING: f32 = 2.0;
    items.push(MissionItem {
        z: MAVLINK_TARGETING,
        ..command(MOUNT_CONTROL, [mission.camera.gimbal_pitch_deg as f32, 0.0, 0.0, 0.0])
    });
    items.push(command(
        MavCmd::MAV_CMD_DO_SET_CAM_TRIGG_DIST,
        [mission.camera.trigger_distance_m as f32, 0.0, 0.0, 0.0],
    ));
    for waypoint in &mission.waypoints {
        items.push(at(MavCmd::MAV_CMD_NAV_WAYPOINT, Some((waypoint.at, waypoint.height_m)), [0.0, 0.0, 0.0, any_yaw]));
    }
    items.push(command(MavCmd::MAV_CMD_DO_SET_CAM_TRIGG_DIST, [0.0; 4]));
    items.push(command(MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH, [0.0; 4]));
    items
}

/// The inclusion polygon as the fence list to upload.
pub fn fence_items(polygon: &[LatLon]) -> Vec<MissionItem> {
    polygon
        .iter()
        .map(|vertex| MissionItem {
            frame: MavFrame::MAV_FRAME_GLOBAL,
            ..at(
                MavCmd::MAV_CMD_NAV_FENCE_POLYGON_VERTEX_INCLUSION,
                Some((*vertex, 0.0)),
                [polygon.len() as f32, 0.0, 0.0, 0.0],
            )
        })
        .collect()
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

/// Which fields of a command are flown by, and so must come back as sent.
struct Matters {
    params: &'static [usize],
    place: bool,
    height: bool,
}

fn matters(command: MavCmd) -> Matters {
    let (params, place, height): (&[usize], _, _) = match command {
        MavCmd::MAV_CMD_NAV_WAYPOINT => (&[0], true, true),
        MavCmd::MAV_CMD_NAV_TAKEOFF => (&[], true, true),
        MavCmd::MAV_CMD_DO_CHANGE_SPEED => (&[0, 1], false, false),
        MOUNT_CONTROL => (&[0], false, false),
        MavCmd::MAV_CMD_DO_SET_CAM_TRIGG_DIST => (&[0], false, false),
        MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH => (&[], false, false),
        MavCmd::MAV_CMD_NAV_FENCE_POLYGON_VERTEX_INCLUSION => (&[0], true, false),
        _ => (&[0, 1, 2, 3], true, true),
    };
    Matters { params, place, height }
}

/// Heights are kept in centimetres and speeds and angles in hundredths.
const TOLERANCE: f32 = 0.011;
/// A tenth of a metre: some autopilots keep positions as 32-bit floats of degrees in part of their code.
const TOLERANCE_E7: i64 = 10;

/// Whether the drone holds the flight that was sent. `home_slot`: item 0 is the drone's own home and not compared by place.
pub fn compare(sent: &[MissionItem], read: &[MissionItem], home_slot: bool) -> Result<(), Mismatch> {
    if sent.len() != read.len() {
        return Err(Mismatch::Count { sent: sent.len(), read: read.len() });
    }
    for (item, (sent, read)) in sent.iter().zip(read).enumerate() {
        let differs = |field, a: String, b: String| Mismatch::Field {
            item,
            command: name(sent.command),
            field,
            sent: a,
            read: b,
        };
        if sent.command != read.command {
            return Err(differs("command", name(sent.command), name(read.command)));
        }
        if home_slot && item == 0 {
            continue;
        }
        let matters = matters(sent.command);
        for &index in matters.params {
            let (a, b) = (sent.params[index], read.params[index]);
            if !same(a, b) {
                const NAMES: [&str; 4] = ["param1", "param2", "param3", "param4"];
                return Err(differs(NAMES[index], a.to_string(), b.to_string()));
            }
        }
        if matters.place {
            for (field, a, b) in [("latitude", sent.x, read.x), ("longitude", sent.y, read.y)] {
                if (i64::from(a) - i64::from(b)).abs() > TOLERANCE_E7 {
                    let degrees = |e7: i32| format!("{:.7}", f64::from(e7) / 1e7);
                    return Err(differs(field, degrees(a), degrees(b)));
                }
            }
        }
        if matters.height {
            if !same(sent.z, read.z) {
                return Err(differs("height", sent.z.to_string(), read.z.to_string()));
            }
            if datum(sent.frame) != datum(read.frame) {
                return Err(differs("frame", format!("{:?}", sent.frame), format!("{:?}", read.frame)));
            }
        }
    }
    Ok(())
}

fn same(a: f32, b: f32) -> bool {
    (a - b).abs() <= TOLERANCE || (a.is_nan() && b.is_nan())
}

/// What heights in a frame are measured from: the same frame has two numbers in MAVLink.
fn datum(frame: MavFrame) -> u8 {
    match frame as u8 {
        5 => 0,
        6 => 3,
        11 => 10,
        other => other,
    }
}

/// A command without its prefix, as people say it.
pub(crate) fn name(command: MavCmd) -> String {
    format!("{command:?}").replace("MAV_CMD_", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mission() -> Mission {
        let at = |lat, lon| LatLon { lat, lon };
        let corner = |north: f64, east: f64| at(23.05 + north, 113.0 + east);
        Mission {
            takeoff_height_m: 60.0,
            speed_m_s: 8.0,
            camera: CameraPlan { trigger_distance_m: 20.0, gimbal_pitch_deg: -90.0 },
            waypoints: vec![
                Waypoint { at: corner(0.001, 0.0), height_m: 60.0 },
                Waypoint { at: corner(0.001, 0.001), height_m: 60.0 },
            ],
            fence: Some(vec![corner(-0.01, -0.01), corner(-0.01, 0.01), corner(0.01, 0.01), corner(0.01, -0.01)]),
        }
    }

    const LIMITS: Limits = Limits { max_height_m: 120.0, max_distance_m: 5000.0 };
    const HOME: LatLon = LatLon { lat: 23.05, lon: 113.0 };

    #[test]
    fn every_flight_begins_with_its_take_off_and_ends_with_the_return() {
        for (autopilot, first) in [(Autopilot::ArduPilot, 1), (Autopilot::Px4, 0)] {
            let items = items(&mission(), autopilot, Some(HOME));
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
        let sent = items(&mission(), Autopilot::ArduPilot, Some(HOME));
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
        let sent = items(&mission(), Autopilot::ArduPilot, Some(HOME));
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

    #[test]
    fn missions_that_no_one_should_fly_are_refused() {
        assert_eq!(check(&mission(), Some(HOME), &LIMITS), Ok(()));
        let refused = |change: &dyn Fn(&mut Mission)| {
            let mut mission = mission();
            change(&mut mission);
            check(&mission, Some(HOME), &LIMITS).unwrap_err()
        };
        assert_eq!(refused(&|m| m.waypoints.clear()), MissionFault::Empty);
        assert!(matches!(refused(&|m| m.waypoints = vec![m.waypoints[0]; 10_000]), MissionFault::TooLong { .. }));
        assert!(matches!(refused(&|m| m.waypoints[1].height_m = f64::NAN), MissionFault::OutOfRange { .. }));
        assert!(matches!(refused(&|m| m.waypoints[1].height_m = 500.0), MissionFault::OutOfRange { .. }));
        assert_eq!(refused(&|m| m.waypoints[1].at.lat += 0.02), MissionFault::OutsideFence { waypoint: 1 });
        assert!(matches!(
            refused(&|m| {
                m.fence = None;
                m.waypoints[0].at = LatLon { lat: -23.0, lon: -67.0 };
            }),
            MissionFault::TooFar { waypoint: 0, .. }
        ));
    }
}
