//! How the simulated autopilot flies: its mission, its way home, its landing. Pure.

use mavlink::dialects::common::{MISSION_ITEM_REACHED_DATA, MavCmd, MavMessage};

use super::autopilot::{Autopilot, Mode};
use super::physics::{Command, Enu};
use crate::geo::LatLon;
use crate::vehicle::mission::MOUNT_CONTROL;

/// How far a return to the dock has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Return {
    Climb {
        to: f64,
    },
    Home,
    /// Above home, for RTL_LOIT_TIME.
    Wait {
        left_s: f64,
    },
    Descend,
}

/// A reached item is said so often: the link may lose some. PX4 does so; who listens must not count them twice.
const SAID: u32 = 3;
const SAID_EVERY_S: f64 = 0.5;
/// Below this height a landing is gentle.
const LAND_LOW_M: f64 = 6.0;

pub(super) fn navigates(command: MavCmd) -> bool {
    matches!(
        command,
        MavCmd::MAV_CMD_NAV_TAKEOFF
            | MavCmd::MAV_CMD_NAV_WAYPOINT
            | MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH
            | MavCmd::MAV_CMD_NAV_LAND
            | MavCmd::MAV_CMD_NAV_LOITER_UNLIM
    )
}

impl Autopilot {
    pub(super) fn guide(&mut self, dt: f64) -> Command {
        if !self.armed || self.pack.charge_pct <= 0.0 {
            return Command::Rest;
        }
        if self.estimator.blind() && !self.body.on_ground() {
            return self.fly_blind(dt);
        }
        match self.mode {
            Mode::Auto => self.fly_mission(dt),
            Mode::Rtl => self.fly_home(dt),
            Mode::Land => self.land(dt),
            _ if self.body.on_ground() && self.hold[2] < 0.5 => Command::Rest,
            _ => self.toward(self.hold, self.speed_m_s, None),
        }
    }

    /// Level, where the wind takes it; down, if it is told to land.
    fn fly_blind(&mut self, dt: f64) -> Command {
        let climb = match self.mode {
            Mode::Land if self.land_pause_s > 0.0 => {
                self.land_pause_s -= dt;
                0.0
            }
            Mode::Land => self.sink(),
            _ => 0.0,
        };
        Command::Level { climb }
    }

    fn land(&mut self, dt: f64) -> Command {
        if self.land_pause_s > 0.0 {
            self.land_pause_s -= dt;
            return self.toward(self.hold, self.speed_m_s, None);
        }
        self.settle(self.hold)
    }

    fn fly_mission(&mut self, dt: f64) -> Command {
        let Some(item) = self.active.and_then(|index| self.mission.items.get(index)).cloned() else {
            // No mission, or its end without a return: stay.
            if self.body.on_ground() {
                return Command::Rest;
            }
            return self.toward(self.hold, self.speed_m_s, None);
        };
        let place =
            self.ground.enu(LatLon { lat: f64::from(item.x) / 1e7, lon: f64::from(item.y) / 1e7 }, f64::from(item.z));
        let here = self.body.estimated_position();
        match item.command {
            MavCmd::MAV_CMD_NAV_TAKEOFF => {
                let up = [self.hold[0], self.hold[1], f64::from(item.z)];
                if here[2] >= up[2] - 0.5 {
                    self.reached();
                }
                self.toward(up, self.speed_m_s, None)
            }
            MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH => self.fly_home(dt),
            MavCmd::MAV_CMD_NAV_LAND => self.settle(place),
            _ => {
                let radius = self.params.get("WPNAV_RADIUS") / 100.0;
                let away = (place[0] - here[0]).hypot(place[1] - here[1]);
                if away < radius && (place[2] - here[2]).abs() < 2.0 && item.command == MavCmd::MAV_CMD_NAV_WAYPOINT {
                    self.hold = place;
                    self.reached();
                }
                let heading = (away > radius).then(|| bearing(here, place));
                self.toward(place, self.speed_m_s, heading)
            }
        }
    }

    /// The active item is done: says so, more than once, and goes on.
    fn reached(&mut self) {
        if let Some(index) = self.active {
            self.reached_item = Some((index as u16, SAID, self.uptime_s));
            self.say_reached();
            self.proceed(index + 1);
        }
    }

    pub(super) fn say_reached(&mut self) {
        if let Some((seq, left, due_s)) = self.reached_item.filter(|(_, left, due)| *left > 0 && self.uptime_s >= *due)
        {
            self.say(MavMessage::MISSION_ITEM_REACHED(MISSION_ITEM_REACHED_DATA { seq }));
            self.reached_item = Some((seq, left - 1, due_s + SAID_EVERY_S));
        }
    }

    /// Does the commands from `index` on until there is somewhere to fly.
    pub(super) fn proceed(&mut self, index: usize) {
        // Item 0 is home, never flown to.
        let mut index = index.max(1);
        self.active = None;
        self.mission_complete = false;
        while let Some(item) = self.mission.items.get(index) {
            let (command, params) = (item.command, [item.param1, item.param2]);
            if navigates(command) {
                self.active = Some(index);
                if command == MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH {
                    self.log.mission_flown = true;
                    self.begin_return();
                }
                self.emit(super::messages::MISSION_CURRENT);
                return;
            }
            self.act(command, params);
            index += 1;
        }
        self.mission_complete = !self.mission.items.is_empty();
    }

    /// A command that is done at once.
    pub(super) fn act(&mut self, command: MavCmd, params: [f32; 2]) {
        let [first, second] = params.map(f64::from);
        match command {
            MavCmd::MAV_CMD_DO_CHANGE_SPEED if second > 0.0 => self.speed_m_s = second,
            MavCmd::MAV_CMD_DO_SET_CAM_TRIGG_DIST => {
                self.trigger_m = first;
                self.since_shot_m = 0.0;
            }
            MavCmd::MAV_CMD_DO_GIMBAL_MANAGER_PITCHYAW => self.gimbal_wanted_deg = first.clamp(-90.0, 30.0),
            MOUNT_CONTROL => self.gimbal_wanted_deg = first.clamp(-90.0, 30.0),
            _ => {}
        }
    }

    /// To the return height first; close to home less high, by the cone.
    pub(super) fn begin_return(&mut self) {
        const LEAST_CLIMB_M: f64 = 2.5;
        let here = self.body.estimated_position();
        let away = (here[0] - self.home[0]).hypot(here[1] - self.home[1]);
        let height = self.params.get("RTL_ALT") / 100.0;
        let to = match self.params.get("RTL_CONE_SLOPE") {
            slope if slope > 0.0 => height.min((away * slope).max(here[2] + LEAST_CLIMB_M)),
            _ => height,
        };
        let to = here[2].max(to);
        self.hold = here;
        self.returning = Some(Return::Climb { to });
    }

    fn fly_home(&mut self, dt: f64) -> Command {
        if self.body.on_ground() && !matches!(self.returning, Some(Return::Descend)) {
            // A return asked for on the ground has nothing to fly.
            self.returning = Some(Return::Descend);
        }
        let here = self.body.estimated_position();
        let away = (here[0] - self.home[0]).hypot(here[1] - self.home[1]);
        match self.returning {
            Some(Return::Climb { to }) => {
                if here[2] >= to - 0.5 {
                    self.hold[2] = to;
                    self.returning = Some(Return::Home);
                }
                self.toward([self.hold[0], self.hold[1], to], self.speed_m_s, None)
            }
            Some(Return::Home) => {
                if away < 1.0 {
                    let left_s = self.params.get("RTL_LOIT_TIME") / 1000.0;
                    self.returning = Some(Return::Wait { left_s });
                }
                let heading = (away > 3.0).then(|| bearing(here, self.home));
                self.toward([self.home[0], self.home[1], self.hold[2]], self.speed_m_s, heading)
            }
            Some(Return::Wait { left_s }) => {
                let left_s = left_s - dt;
                self.returning = Some(if left_s > 0.0 { Return::Wait { left_s } } else { Return::Descend });
                self.toward([self.home[0], self.home[1], self.hold[2]], self.speed_m_s, None)
            }
            Some(Return::Descend) | None => self.settle(self.home),
        }
    }

    /// Down over a place, gently at the end.
    fn settle(&self, over: Enu) -> Command {
        let here = self.body.estimated_position();
        let mut down = self.toward([over[0], over[1], here[2]], 3.0, None);
        if let Command::Velocity { enu, .. } = &mut down {
            enu[2] = self.sink();
        }
        down
    }

    fn sink(&self) -> f64 {
        let low = self.body.estimated_position()[2] <= LAND_LOW_M;
        -self.params.get(if low { "LAND_SPEED" } else { "WPNAV_SPEED_DN" }) / 100.0
    }

    fn toward(&self, place: Enu, speed: f64, heading_deg: Option<f64>) -> Command {
        let here = self.body.estimated_position();
        let (east, north) = (place[0] - here[0], place[1] - here[1]);
        let away = east.hypot(north);
        // As fast as it can still stop, at three quarters of its braking.
        let speed = speed.min((2.0 * 1.9 * away).sqrt()).min(away * 1.5);
        let share = speed / away.max(1e-6);
        let (down, up) = (self.params.get("WPNAV_SPEED_DN") / 100.0, self.params.get("WPNAV_SPEED_UP") / 100.0);
        Command::Velocity { enu: [east * share, north * share, (place[2] - here[2]).clamp(-down, up)], heading_deg }
    }
}

/// Clockwise from north.
fn bearing(from: Enu, to: Enu) -> f64 {
    (to[0] - from[0]).atan2(to[1] - from[1]).to_degrees().rem_euclid(360.0)
}
