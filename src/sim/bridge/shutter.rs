//! When the camera takes its pictures: by the mission that the station sent and the item that the autopilot is at. Pure.

use std::collections::BTreeMap;

use mavlink::dialects::common::{MISSION_ITEM_INT_DATA, MavCmd, MavMissionType};

use crate::vehicle::mission::MOUNT_CONTROL;

/// What takes the pictures at some point of a mission.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Trigger {
    #[default]
    Off,
    /// Metres from the last picture; the first one at once, or after the first distance.
    Distance { m: f64, at_once: bool },
    /// Seconds between pictures, the first at once. No more than so many; 0 is without end.
    Interval { s: f64, most: u32 },
}

/// What a mission has asked of camera and gimbal up to some item.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Orders {
    pub trigger: Trigger,
    /// 0 at the horizon, −90 straight down.
    pub pitch_deg: f64,
}

/// One item, as far as the camera is concerned.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Item {
    /// Flown to: what follows waits for it.
    Flown,
    Trigger(Trigger),
    Pitch(f64),
    Other,
}

/// The mission on its way, and the last picture.
#[derive(Debug, Default)]
pub struct Shutter {
    items: BTreeMap<u16, Item>,
    /// A list that is being sent or read back, with how long it will be. It counts when it is whole.
    coming: Option<(u16, BTreeMap<u16, Item>)>,
    running: Option<Running>,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    trigger: Trigger,
    at: [f64; 2],
    seconds: f64,
    taken: u32,
}

impl Shutter {
    /// A list is announced, by either side: the same is learned from what is sent and from what is read back.
    pub fn announced(&mut self, kind: MavMissionType, count: u16) {
        if kind != MavMissionType::MAV_MISSION_TYPE_MISSION {
            return;
        }
        if count == 0 {
            self.items.clear();
        }
        self.coming = (count > 0).then(|| (count, BTreeMap::new()));
    }

    pub fn item(&mut self, item: &MISSION_ITEM_INT_DATA) {
        if item.mission_type != MavMissionType::MAV_MISSION_TYPE_MISSION {
            return;
        }
        let Some((count, items)) = &mut self.coming else { return };
        if item.seq < *count {
            items.insert(item.seq, read(item));
        }
        if items.len() == usize::from(*count) {
            self.items = std::mem::take(items);
            self.coming = None;
        }
    }

    /// What was asked for when item `current` is being flown to: by all items before it, and by those that follow the one
    /// before it at once.
    pub fn orders(&self, current: u16) -> Orders {
        let mut orders = Orders::default();
        for (seq, item) in &self.items {
            match *item {
                _ if *seq < current => {}
                Item::Flown => break,
                _ => {}
            }
            match *item {
                Item::Trigger(trigger) => orders.trigger = trigger,
                Item::Pitch(pitch_deg) => orders.pitch_deg = pitch_deg,
                Item::Flown | Item::Other => {}
            }
        }
        orders
    }

    /// Whether a picture is due. `current`: the item being flown to, none while no mission is flown. `at`: metres on local
    /// axes; `seconds`: the drone's own time.
    pub fn due(&mut self, current: Option<u16>, at: [f64; 2], seconds: f64) -> bool {
        let trigger = current.map_or(Trigger::Off, |seq| self.orders(seq).trigger);
        if trigger == Trigger::Off {
            self.running = None;
            return false;
        }
        let running = match self.running {
            Some(running) if running.trigger == trigger => running,
            _ => {
                let first = match trigger {
                    Trigger::Distance { at_once, .. } => at_once,
                    _ => true,
                };
                self.running = Some(Running { trigger, at, seconds, taken: u32::from(first) });
                return first;
            }
        };
        let due = match trigger {
            Trigger::Off => false,
            Trigger::Distance { m, .. } => (at[0] - running.at[0]).hypot(at[1] - running.at[1]) >= m,
            // A drone that was restarted counts from zero again.
            Trigger::Interval { s, most } => {
                (most == 0 || running.taken < most) && (seconds - running.seconds >= s || seconds < running.seconds)
            }
        };
        if due {
            self.running = Some(Running { at, seconds, taken: running.taken.saturating_add(1), ..running });
        }
        due
    }
}

fn read(item: &MISSION_ITEM_INT_DATA) -> Item {
    // Commands up to this number are flown to (MAV_CMD_NAV_LAST), the others are done on the way.
    const LAST_FLOWN: u32 = 95;
    let (p1, p2, p3) = (f64::from(item.param1), f64::from(item.param2), f64::from(item.param3));
    match item.command {
        MavCmd::MAV_CMD_DO_SET_CAM_TRIGG_DIST if p1 > 0.0 => {
            Item::Trigger(Trigger::Distance { m: p1, at_once: p3 == 1.0 })
        }
        MavCmd::MAV_CMD_IMAGE_START_CAPTURE => Item::Trigger(Trigger::Interval { s: p2, most: p3.max(0.0) as u32 }),
        MavCmd::MAV_CMD_DO_SET_CAM_TRIGG_INTERVAL if p1 > 0.0 => {
            Item::Trigger(Trigger::Interval { s: p1 / 1e3, most: 0 })
        }
        MavCmd::MAV_CMD_DO_SET_CAM_TRIGG_DIST
        | MavCmd::MAV_CMD_DO_SET_CAM_TRIGG_INTERVAL
        | MavCmd::MAV_CMD_IMAGE_STOP_CAPTURE => Item::Trigger(Trigger::Off),
        MOUNT_CONTROL | MavCmd::MAV_CMD_DO_GIMBAL_MANAGER_PITCHYAW if p1.is_finite() => Item::Pitch(p1),
        command if command as u32 <= LAST_FLOWN => Item::Flown,
        _ => Item::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(seq: u16, command: MavCmd, params: [f32; 3]) -> MISSION_ITEM_INT_DATA {
        let [param1, param2, param3] = params;
        MISSION_ITEM_INT_DATA { seq, command, param1, param2, param3, ..Default::default() }
    }

    /// Home, take-off, speed, gimbal, camera on, two waypoints, camera off, return.
    fn flown(on: (MavCmd, [f32; 3]), off: (MavCmd, [f32; 3])) -> Shutter {
        let mut shutter = Shutter::default();
        let items = [
            (MavCmd::MAV_CMD_NAV_WAYPOINT, [0.0; 3]),
            (MavCmd::MAV_CMD_NAV_TAKEOFF, [0.0; 3]),
            (MavCmd::MAV_CMD_DO_CHANGE_SPEED, [1.0, 8.0, -1.0]),
            (MOUNT_CONTROL, [-90.0, 0.0, 0.0]),
            on,
            (MavCmd::MAV_CMD_NAV_WAYPOINT, [0.0; 3]),
            (MavCmd::MAV_CMD_NAV_WAYPOINT, [0.0; 3]),
            off,
            (MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH, [0.0; 3]),
        ];
        shutter.announced(MavMissionType::MAV_MISSION_TYPE_MISSION, items.len() as u16);
        // Late and repeated requests bring items in any order.
        for seq in [3_u16, 3, 0, 1, 2, 8, 7, 4, 5, 6] {
            let (command, params) = items[usize::from(seq)];
            shutter.item(&item(seq, command, params));
        }
        shutter
    }

    fn by_distance() -> Shutter {
        use MavCmd::MAV_CMD_DO_SET_CAM_TRIGG_DIST as DISTANCE;
        flown((DISTANCE, [20.0, 0.0, 0.0]), (DISTANCE, [0.0; 3]))
    }

    #[test]
    fn the_camera_runs_between_its_on_and_its_off_and_nowhere_else() {
        let on = Trigger::Distance { m: 20.0, at_once: false };
        for (current, trigger, pitch_deg) in [
            // On the ground and rising: nothing is done before the take-off is.
            (0, Trigger::Off, 0.0),
            (1, Trigger::Off, 0.0),
            // At or between the things that are done at once, as PX4 may say it is.
            (2, on, -90.0),
            (4, on, -90.0),
            (5, on, -90.0),
            (6, on, -90.0),
            (7, Trigger::Off, -90.0),
            (8, Trigger::Off, -90.0),
        ] {
            assert_eq!(by_distance().orders(current), Orders { trigger, pitch_deg }, "at item {current}");
        }
    }

    #[test]
    fn pictures_lie_the_distance_apart_and_none_is_taken_while_the_mission_is_not_flown() {
        let mut shutter = by_distance();
        let mut taken = Vec::new();
        // 2 m a step: take-off, two waypoints with a pause between, return.
        for step in 0..100_u16 {
            let current = match step {
                0..10 => Some(1),
                10..40 => Some(5),
                40..60 => None,
                60..80 => Some(6),
                _ => Some(8),
            };
            if shutter.due(current, [f64::from(step) * 2.0, 0.0], f64::from(step)) {
                taken.push(step);
            }
        }
        // Every ten steps from the tenth on, and anew from the sixtieth.
        assert_eq!(taken, [20, 30, 70]);
    }

    #[test]
    fn pictures_by_time_begin_at_once_and_end_by_their_number_or_their_stop() {
        use MavCmd::{MAV_CMD_IMAGE_START_CAPTURE as START, MAV_CMD_IMAGE_STOP_CAPTURE as STOP};
        for (most, expected) in [(0.0, vec![10, 13, 16, 19]), (2.0, vec![10, 13])] {
            let mut shutter = flown((START, [0.0, 2.5, most]), (STOP, [0.0; 3]));
            let taken: Vec<u16> = (0..30)
                .filter(|second| {
                    let current = if *second < 10 { 1 } else { 5 + u16::from(*second >= 20) * 3 };
                    shutter.due(Some(current), [0.0; 2], f64::from(*second))
                })
                .collect();
            assert_eq!(taken, expected);
        }
    }

    #[test]
    fn a_fence_and_a_list_that_never_became_whole_change_nothing() {
        let mut shutter = by_distance();
        let before = shutter.orders(5);
        shutter.announced(MavMissionType::MAV_MISSION_TYPE_FENCE, 0);
        shutter.announced(MavMissionType::MAV_MISSION_TYPE_MISSION, 2);
        shutter.item(&item(0, MavCmd::MAV_CMD_NAV_WAYPOINT, [0.0; 3]));
        shutter.item(&item(7, MavCmd::MAV_CMD_NAV_WAYPOINT, [0.0; 3]));
        assert_eq!(shutter.orders(5), before);
        shutter.item(&item(1, MavCmd::MAV_CMD_NAV_TAKEOFF, [0.0; 3]));
        assert_eq!(shutter.orders(5), Orders::default());
        shutter.announced(MavMissionType::MAV_MISSION_TYPE_MISSION, 0);
        assert!(!shutter.due(Some(5), [0.0; 2], 0.0));
    }
}
