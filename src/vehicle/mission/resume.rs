//! What is left of an interrupted mission. Pure.
//!
//! The autopilot's own progress is no memory: it begins anew after a landing, and reports items more than once. So how
//! far a coverage came is kept by us, as a leg and the metres along it, and what is left is a mission of its own: with
//! its take-off, and with speed, gimbal and camera set anew, as every mission has them.

use serde::{Deserialize, Serialize};

use super::check::{along_m, distance_m};
use super::{Mission, Waypoint};
use crate::geo::LatLon;

/// How far along the route the coverage came. Greater is farther.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Along {
    /// The leg from the waypoint of this index to the next.
    pub leg: usize,
    /// Flown of this leg.
    pub metres: f64,
}

/// Less than this is not flown again for.
const NEGLIGIBLE_M: f64 = 1.0;

impl Mission {
    /// Where on the route a drone is that flies to the waypoint `next` and stands over `at`.
    pub fn along(&self, next: usize, at: LatLon) -> Along {
        if next >= self.waypoints.len() {
            return self.end();
        }
        let Some(leg) = next.checked_sub(1) else {
            return Along::default();
        };
        let metres = match (self.waypoints.get(leg), self.waypoints.get(leg + 1)) {
            (Some(from), Some(to)) => along_m(from.at, to.at, at),
            _ => 0.0,
        };
        Along { leg, metres }
    }

    /// The end of the route: all is covered.
    pub fn end(&self) -> Along {
        Along { leg: self.waypoints.len(), metres: 0.0 }
    }

    /// How much of the route's length lies before a point of it, 0 to 1.
    pub fn share(&self, at: Along) -> f64 {
        let (mut before, mut whole) = (0.0, 0.0);
        for (leg, length) in self.legs().enumerate() {
            whole += length;
            before += match leg.cmp(&at.leg) {
                std::cmp::Ordering::Less => length,
                std::cmp::Ordering::Equal => at.metres.clamp(0.0, length),
                std::cmp::Ordering::Greater => 0.0,
            };
        }
        if whole > 0.0 {
            before / whole
        } else if at < self.end() {
            0.0
        } else {
            1.0
        }
    }

    fn legs(&self) -> impl Iterator<Item = f64> + '_ {
        self.waypoints.windows(2).map(|leg| distance_m(leg[0].at, leg[1].at))
    }

    /// What is left from a point on: the same mission, beginning there. It begins one picture earlier, so that no
    /// ground between the last picture and the first new one is missed. `None` when nothing is left.
    pub fn rest(&self, from: Along) -> Option<Mission> {
        let back = match self.camera.trigger_interval_s {
            Some(seconds) => seconds * self.speed_m_s,
            None => self.camera.trigger_distance_m,
        };
        if self.waypoints.len() == 1 && from < self.end() {
            return Some(self.clone());
        }
        let (mut leg, mut metres) = (from.leg, from.metres);
        // What lies beyond the leg's end is taken for its end, and what is no number for its beginning.
        let length = self.legs().nth(leg)?;
        metres = if metres.is_nan() { 0.0 } else { metres.clamp(0.0, length) };
        if leg + 2 == self.waypoints.len() && length - metres < NEGLIGIBLE_M {
            return None;
        }
        metres -= back.max(0.0);
        while metres < 0.0 && leg > 0 {
            leg -= 1;
            metres += self.legs().nth(leg)?;
        }
        let metres = metres.max(0.0);
        let (a, b) = (*self.waypoints.get(leg)?, *self.waypoints.get(leg + 1)?);
        let share = match self.legs().nth(leg)? {
            length if length > 0.0 => metres / length,
            _ => 0.0,
        };
        let between = |a: f64, b: f64| a + share * (b - a);
        let first = Waypoint {
            at: LatLon { lat: between(a.at.lat, b.at.lat), lon: between(a.at.lon, b.at.lon) },
            height_m: between(a.height_m, b.height_m),
        };
        let mut rest = self.clone();
        rest.waypoints.drain(..=leg);
        rest.waypoints.insert(0, first);
        if let (Some(ground_a), Some(ground_b)) = (self.ground_m.get(leg), self.ground_m.get(leg + 1)) {
            rest.ground_m.drain(..=leg);
            rest.ground_m.insert(0, between(*ground_a, *ground_b));
        }
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use mavlink::dialects::common::MavCmd;
    use proptest::prelude::*;

    use super::super::tests::{CAPS, HOME, corner, mission};
    use super::super::{MOUNT_CONTROL, items, next_waypoint};
    use super::*;
    use crate::vehicle::Autopilot;

    /// Three legs of about 100 m, a picture every 20 m.
    fn lawn() -> Mission {
        let at = |north, east| Waypoint { at: corner(north, east), height_m: 60.0 };
        Mission {
            waypoints: vec![at(0.001, 0.0), at(0.002, 0.0), at(0.002, 0.001), at(0.001, 0.001)],
            ground_m: vec![0.0, 10.0, 20.0, 30.0],
            ..mission()
        }
    }

    #[test]
    fn what_is_left_begins_one_picture_before_the_interruption() {
        let whole = lawn();
        let rest = whole.rest(Along { leg: 1, metres: 60.0 }).unwrap();
        assert_eq!(rest.waypoints.len(), 3);
        let begins = distance_m(whole.waypoints[1].at, rest.waypoints[0].at);
        assert!((begins - 40.0).abs() < 0.1, "{begins}");
        assert_eq!(rest.waypoints[1..], whole.waypoints[2..]);
        assert!((rest.ground_m[0] - 13.9).abs() < 0.1 && rest.ground_m[1..] == [20.0, 30.0], "{:?}", rest.ground_m);
        // Just after a corner the last picture lies before it.
        let rest = whole.rest(Along { leg: 1, metres: 5.0 }).unwrap();
        assert_eq!(rest.waypoints.len(), 4);
        let before_the_corner = distance_m(rest.waypoints[0].at, whole.waypoints[1].at);
        assert!((before_the_corner - 15.0).abs() < 0.1, "{before_the_corner}");
    }

    #[test]
    fn what_is_left_has_its_own_take_off_and_sets_speed_gimbal_and_camera_anew() {
        let rest = lawn().rest(Along { leg: 2, metres: 50.0 }).unwrap();
        let commands: Vec<MavCmd> =
            items(&rest, Autopilot::Px4, Some(HOME), CAPS).iter().map(|item| item.command).collect();
        assert_eq!(
            commands[..4],
            [
                MavCmd::MAV_CMD_NAV_TAKEOFF,
                MavCmd::MAV_CMD_DO_CHANGE_SPEED,
                MOUNT_CONTROL,
                MavCmd::MAV_CMD_DO_SET_CAM_TRIGG_DIST
            ]
        );
        assert_eq!(commands.last(), Some(&MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH));
    }

    #[test]
    fn nothing_is_left_of_a_finished_mission_and_all_of_one_that_never_began() {
        let whole = lawn();
        assert_eq!(whole.rest(whole.end()), None);
        assert_eq!(whole.rest(Along { leg: 2, metres: f64::INFINITY }), None);
        assert_eq!(whole.rest(Along { leg: 1, metres: f64::NAN }), whole.rest(Along { leg: 1, metres: 0.0 }));
        assert_eq!(whole.rest(Along { leg: 99, metres: 0.0 }), None);
        assert_eq!(whole.rest(Along::default()), Some(whole.clone()));
        assert_eq!(Mission::default().rest(Along::default()), None);
        assert_eq!((whole.share(Along::default()), whole.share(whole.end())), (0.0, 1.0));
    }

    #[test]
    fn the_current_item_and_the_position_say_how_far_the_coverage_came() {
        let whole = lawn();
        for autopilot in [Autopilot::ArduPilot, Autopilot::Px4] {
            let items = items(&whole, autopilot, Some(HOME), CAPS);
            let along = |seq: usize, at| whole.along(next_waypoint(&items, autopilot, seq as u16), at);
            let seq_of = |waypoint: usize| {
                let placeholder = usize::from(autopilot == Autopilot::ArduPilot);
                let mut seen = items.iter().enumerate().skip(placeholder);
                seen.by_ref().filter(|(_, i)| i.command == MavCmd::MAV_CMD_NAV_WAYPOINT).nth(waypoint).unwrap().0
            };
            // Rising, and on the way to the first waypoint, nothing is covered.
            assert_eq!(along(1, HOME), Along::default());
            assert_eq!(along(seq_of(0), corner(0.0015, 0.0)), Along::default());
            let Along { leg, metres } = along(seq_of(2), corner(0.0021, 0.0004));
            assert_eq!(leg, 1);
            assert!((metres - 40.9).abs() < 0.5, "{metres}");
            // Past the last waypoint.
            assert_eq!(along(items.len() - 1, HOME), whole.end());
            assert_eq!(along(usize::from(u16::MAX), HOME), whole.end());
        }
    }

    proptest! {
        /// Whatever is interrupted where: what was not covered is flown, and no more than one picture twice.
        #[test]
        fn no_ground_is_lost_by_an_interruption(leg in 0usize..3, metres in 0.0f64..150.0) {
            let whole = lawn();
            let length = |mission: &Mission| mission.legs().sum::<f64>();
            let covered: f64 = whole.share(Along { leg, metres }) * length(&whole);
            let left = length(&whole) - covered;
            let rest = whole.rest(Along { leg, metres });
            match rest {
                None => prop_assert!(left < NEGLIGIBLE_M + 0.01),
                Some(rest) => {
                    let flown = length(&rest);
                    prop_assert!(flown > left - 0.1 && flown < left + 20.1, "{} left, {} flown", left, flown);
                }
            }
        }
    }
}
