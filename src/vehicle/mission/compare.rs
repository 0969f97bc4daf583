//! Whether the list that was read back is the flight that was sent. Pure.
//!
//! Autopilots store items lossily (frames renamed, heights in centimetres, unused parameters dropped), so the comparison
//! knows which fields each command is flown by, and holds those exactly.

use mavlink::dialects::common::{MavCmd, MavFrame};

use super::{MOUNT_CONTROL, MissionItem, name};

/// Where the list read back differs from the list sent.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Mismatch {
    #[error("sent {sent} items, it holds {read}")]
    Count { sent: usize, read: usize },
    #[error("item {item} ({command}): {field} was sent as {sent}, it holds {read}")]
    Field { item: usize, command: String, field: &'static str, sent: String, read: String },
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
        // Every how many seconds, how many pictures.
        MavCmd::MAV_CMD_IMAGE_START_CAPTURE => (&[1, 2], false, false),
        MavCmd::MAV_CMD_IMAGE_STOP_CAPTURE | MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH => (&[], false, false),
        MavCmd::MAV_CMD_NAV_FENCE_POLYGON_VERTEX_INCLUSION
        | MavCmd::MAV_CMD_NAV_FENCE_POLYGON_VERTEX_EXCLUSION
        | MavCmd::MAV_CMD_NAV_FENCE_CIRCLE_EXCLUSION => (&[0], true, false),
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
