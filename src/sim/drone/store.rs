//! The lists that the simulated autopilot keeps (mission, fence) and its side of the mission protocol. Pure.
//!
//! It stores as lossily as the real ones do: frames come back renamed, unused parameters as zero, item 0 as home.

use mavlink::dialects::common::{
    MISSION_ACK_DATA, MISSION_COUNT_DATA, MISSION_ITEM_INT_DATA, MISSION_REQUEST_INT_DATA, MavCmd, MavFrame,
    MavMessage, MavMissionResult, MavMissionType,
};

use super::fences::Fences;
use crate::vehicle::mission::{MOST_ITEMS, MOUNT_CONTROL};

/// One list.
#[derive(Debug)]
pub struct Store {
    kind: MavMissionType,
    pub items: Vec<MISSION_ITEM_INT_DATA>,
    upload: Option<Upload>,
    /// Grows with each list that was stored.
    pub generation: u64,
}

#[derive(Debug)]
struct Upload {
    from: (u8, u8),
    wanted: usize,
    items: Vec<MISSION_ITEM_INT_DATA>,
    /// Wall seconds since the last request, and how often it was repeated.
    waited_s: f64,
    repeats: u32,
}

const REPEAT_S: f64 = 0.25;
const REPEATS: u32 = 8;

impl Store {
    pub fn new(kind: MavMissionType) -> Self {
        Store { kind, items: Vec::new(), upload: None, generation: 0 }
    }

    pub fn count(&self, from: (u8, u8)) -> MavMessage {
        MavMessage::MISSION_COUNT(MISSION_COUNT_DATA {
            count: self.items.len() as u16,
            target_system: from.0,
            target_component: from.1,
            mission_type: self.kind,
            ..Default::default()
        })
    }

    pub fn item(&self, seq: u16, from: (u8, u8)) -> MavMessage {
        match self.items.get(usize::from(seq)) {
            Some(item) => MavMessage::MISSION_ITEM_INT(MISSION_ITEM_INT_DATA {
                seq,
                target_system: from.0,
                target_component: from.1,
                mission_type: self.kind,
                ..item.clone()
            }),
            None => self.ack(from, MavMissionResult::MAV_MISSION_INVALID_SEQUENCE),
        }
    }

    pub fn clear(&mut self, from: (u8, u8)) -> MavMessage {
        self.items.clear();
        self.generation += 1;
        self.ack(from, MavMissionResult::MAV_MISSION_ACCEPTED)
    }

    pub fn begin(&mut self, wanted: u16, from: (u8, u8)) -> MavMessage {
        let wanted = usize::from(wanted);
        if wanted > MOST_ITEMS {
            return self.ack(from, MavMissionResult::MAV_MISSION_NO_SPACE);
        }
        if wanted == 0 {
            return self.clear(from);
        }
        self.upload = Some(Upload { from, wanted, items: Vec::with_capacity(wanted), waited_s: 0.0, repeats: 0 });
        self.request(from, 0)
    }

    /// Takes an item of an upload. `wrong`: a fault switch that stores this item otherwise than it was sent.
    pub fn take(&mut self, item: &MISSION_ITEM_INT_DATA, from: (u8, u8), wrong: Option<u16>) -> Option<MavMessage> {
        let upload = self.upload.as_mut()?;
        let expected = upload.items.len();
        if usize::from(item.seq) != expected {
            // A repeat of what is already there: ask for what is missing.
            return Some(self.request(from, expected as u16));
        }
        if let Some(error) = unfit(item) {
            self.upload = None;
            return Some(self.ack(from, error));
        }
        let mut kept = keep(item);
        if wrong == Some(item.seq) {
            kept.x += 10_000;
            kept.z += 5.0;
        }
        upload.items.push(kept);
        upload.waited_s = 0.0;
        upload.repeats = 0;
        if upload.items.len() < upload.wanted {
            return Some(self.request(from, expected as u16 + 1));
        }
        let items = self.upload.take()?.items;
        if self.kind == MavMissionType::MAV_MISSION_TYPE_FENCE && Fences::read(&items).is_none() {
            return Some(self.ack(from, MavMissionResult::MAV_MISSION_INVALID_PARAM1));
        }
        self.items = items;
        self.generation += 1;
        Some(self.ack(from, MavMissionResult::MAV_MISSION_ACCEPTED))
    }

    /// Asks again for what did not come; gives up after a while.
    pub fn tick(&mut self, wall_dt: f64) -> Option<MavMessage> {
        let upload = self.upload.as_mut()?;
        upload.waited_s += wall_dt;
        if upload.waited_s < REPEAT_S {
            return None;
        }
        upload.waited_s = 0.0;
        upload.repeats += 1;
        let (from, next) = (upload.from, upload.items.len() as u16);
        if upload.repeats > REPEATS {
            self.upload = None;
            return Some(self.ack(from, MavMissionResult::MAV_MISSION_OPERATION_CANCELLED));
        }
        Some(self.request(from, next))
    }

    fn request(&self, from: (u8, u8), seq: u16) -> MavMessage {
        MavMessage::MISSION_REQUEST_INT(MISSION_REQUEST_INT_DATA {
            seq,
            target_system: from.0,
            target_component: from.1,
            mission_type: self.kind,
        })
    }

    pub fn ack(&self, to: (u8, u8), result: MavMissionResult) -> MavMessage {
        MavMessage::MISSION_ACK(MISSION_ACK_DATA {
            target_system: to.0,
            target_component: to.1,
            mavtype: result,
            mission_type: self.kind,
            ..Default::default()
        })
    }
}

fn has_place(command: MavCmd) -> bool {
    matches!(
        command,
        MavCmd::MAV_CMD_NAV_WAYPOINT
            | MavCmd::MAV_CMD_NAV_TAKEOFF
            | MavCmd::MAV_CMD_NAV_LAND
            | MavCmd::MAV_CMD_NAV_LOITER_UNLIM
            | MavCmd::MAV_CMD_NAV_FENCE_POLYGON_VERTEX_INCLUSION
            | MavCmd::MAV_CMD_NAV_FENCE_POLYGON_VERTEX_EXCLUSION
            | MavCmd::MAV_CMD_NAV_FENCE_CIRCLE_INCLUSION
            | MavCmd::MAV_CMD_NAV_FENCE_CIRCLE_EXCLUSION
            | MavCmd::MAV_CMD_NAV_FENCE_RETURN_POINT
            | MavCmd::MAV_CMD_NAV_RALLY_POINT
    )
}

fn unfit(item: &MISSION_ITEM_INT_DATA) -> Option<MavMissionResult> {
    let known = has_place(item.command)
        || item.command == MOUNT_CONTROL
        || matches!(
            item.command,
            MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH
                | MavCmd::MAV_CMD_DO_CHANGE_SPEED
                | MavCmd::MAV_CMD_DO_GIMBAL_MANAGER_PITCHYAW
                | MavCmd::MAV_CMD_DO_SET_CAM_TRIGG_DIST
                | MavCmd::MAV_CMD_NAV_DELAY
                | MavCmd::MAV_CMD_CONDITION_DELAY
        );
    if !known {
        return Some(MavMissionResult::MAV_MISSION_UNSUPPORTED);
    }
    if has_place(item.command) {
        if !matches!(item.frame as u8, 0 | 3 | 5 | 6) {
            return Some(MavMissionResult::MAV_MISSION_UNSUPPORTED_FRAME);
        }
        if item.x.abs() > 900_000_000 {
            return Some(MavMissionResult::MAV_MISSION_INVALID_PARAM5_X);
        }
        if item.y.abs() > 1_800_000_000 {
            return Some(MavMissionResult::MAV_MISSION_INVALID_PARAM6_Y);
        }
    }
    let params = [item.param1, item.param2, item.param3, item.param4, item.z];
    params.iter().any(|param| !param.is_finite()).then_some(MavMissionResult::MAV_MISSION_INVALID)
}

/// What is left of an item once it is stored.
fn keep(item: &MISSION_ITEM_INT_DATA) -> MISSION_ITEM_INT_DATA {
    let mut kept = item.clone();
    if has_place(item.command) {
        kept.frame = match item.frame as u8 {
            3 | 6 => MavFrame::MAV_FRAME_GLOBAL_RELATIVE_ALT,
            _ => MavFrame::MAV_FRAME_GLOBAL,
        };
        // Centimetres.
        kept.z = (item.z * 100.0).round() / 100.0;
    } else {
        kept.frame = MavFrame::MAV_FRAME_GLOBAL;
        (kept.x, kept.y, kept.z) = (0, 0, 0.0);
    }
    kept.current = 0;
    kept
}
