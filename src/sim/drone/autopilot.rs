//! The simulated autopilot: what an ArduCopter does with its messages, its mission and its failsafes. Pure.
//!
//! Two clocks drive it. *Simulated* time moves the drone and may run faster than the wall's; *wall* time governs the
//! conversation with the station (heartbeats, streams, repeats, link loss, the disarm delay), because the station
//! lives by the wall.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use mavlink::dialects::common::{
    COMMAND_ACK_DATA, COMMAND_LONG_DATA, MISSION_ITEM_REACHED_DATA, MavCmd, MavMessage, MavMissionType, MavResult,
    MavSeverity, STATUSTEXT_DATA,
};

use super::params::Parameters;
use super::physics::{Body, Command, Enu, WindNow};
use super::store::Store;
use super::{Exposure, Faults, Ground};
use crate::geo::{self, LatLon};
use crate::vehicle::frame::Frame;
use crate::vehicle::mission::{self, MOUNT_CONTROL};

pub const SYSTEM: u8 = 1;
pub const AUTOPILOT: u8 = 1;
pub const CAMERA: u8 = 100;

/// ArduCopter's flight modes, as far as they are simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    Stabilize = 0,
    Auto = 3,
    Guided = 4,
    Loiter = 5,
    Rtl = 6,
    Land = 9,
    Brake = 17,
}

impl Mode {
    fn from_number(number: u32) -> Option<Mode> {
        [Mode::Stabilize, Mode::Auto, Mode::Guided, Mode::Loiter, Mode::Rtl, Mode::Land, Mode::Brake]
            .into_iter()
            .find(|mode| *mode as u32 == number)
    }

    fn may_arm(self) -> bool {
        matches!(self, Mode::Stabilize | Mode::Guided | Mode::Loiter)
    }
}

/// How far a return to the dock has come.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Return {
    Climb { to: f64 },
    Home,
    Descend,
}

/// A picture that was taken and whose file is not there yet: what will be reported about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub at: Timestamp,
    pub boot_ms: u32,
    pub estimate: Enu,
    pub attitude: geo::Attitude,
}

pub struct Autopilot {
    pub(super) body: Body,
    pub(super) ground: Ground,
    pub(super) params: Parameters,
    pub(super) mode: Mode,
    pub(super) armed: bool,
    pub(super) mission: Store,
    fence: Store,
    rally: Store,
    fence_polygon: (u64, Vec<LatLon>),
    mission_generation: u64,
    /// The navigation item being flown.
    pub(super) active: Option<usize>,
    returning: Option<Return>,
    hold: Enu,
    speed_m_s: f64,
    gimbal_wanted_deg: f64,
    pub(super) gimbal_deg: f64,
    trigger_m: f64,
    since_shot_m: f64,
    pub(super) next_index: u32,
    pub(super) pending: BTreeMap<u32, Taken>,
    exposures: VecDeque<Exposure>,
    pub(super) battery_pct: f64,
    sim_s: f64,
    pub(super) uptime_s: f64,
    grounded_s: f64,
    idle_armed_s: f64,
    station_silent_s: Option<f64>,
    fenced: bool,
    battery_stage: u8,
    pub(super) streams: BTreeMap<u32, Stream>,
    pub(super) heartbeat_due_s: f64,
    outbox: Vec<(u8, MavMessage)>,
    pub faults: Faults,
    /// The wall's clock at the last step: what pictures are dated by.
    now: Timestamp,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    pub period_s: f64,
    pub due_s: f64,
}

const CLIMB: f64 = 3.0;
const DESCEND: f64 = 2.0;
const TOUCH_DOWN: f64 = 0.7;
/// Simulated seconds from power-on until position is known.
const BOOT_S: f64 = 2.0;
/// From full to empty in the air.
const ENDURANCE_S: f64 = 1800.0;
/// From empty to full in the dock.
const CHARGE_S: f64 = 1800.0;
const GIMBAL_RATE_DEG_S: f64 = 60.0;

impl Autopilot {
    pub fn new(home: LatLon, seed: u64, parameters: &[(String, f32)], faults: Faults) -> Self {
        Autopilot {
            body: Body::new(seed),
            ground: Ground::new(home),
            params: Parameters::new(parameters),
            mode: Mode::Stabilize,
            armed: false,
            mission: Store::new(MavMissionType::MAV_MISSION_TYPE_MISSION),
            fence: Store::new(MavMissionType::MAV_MISSION_TYPE_FENCE),
            rally: Store::new(MavMissionType::MAV_MISSION_TYPE_RALLY),
            fence_polygon: (0, Vec::new()),
            mission_generation: 0,
            active: None,
            returning: None,
            hold: [0.0; 3],
            speed_m_s: 10.0,
            gimbal_wanted_deg: 0.0,
            gimbal_deg: 0.0,
            trigger_m: 0.0,
            since_shot_m: 0.0,
            next_index: 0,
            pending: BTreeMap::new(),
            exposures: VecDeque::new(),
            battery_pct: 100.0,
            sim_s: 0.0,
            uptime_s: 0.0,
            grounded_s: 0.0,
            idle_armed_s: 0.0,
            station_silent_s: None,
            fenced: false,
            battery_stage: 0,
            streams: BTreeMap::new(),
            heartbeat_due_s: 0.0,
            outbox: Vec::new(),
            faults,
            now: Timestamp::UNIX_EPOCH,
        }
    }

    /// What is to be sent, and by which component.
    pub fn take_outbox(&mut self) -> Vec<(u8, MavMessage)> {
        std::mem::take(&mut self.outbox)
    }

    /// Pictures whose shutter opened since the last call.
    pub fn take_exposures(&mut self) -> VecDeque<Exposure> {
        std::mem::take(&mut self.exposures)
    }

    /// Pictures that the camera has not finished.
    pub fn pictures_pending(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn say(&mut self, message: MavMessage) {
        self.outbox.push((AUTOPILOT, message));
    }

    pub(super) fn say_as(&mut self, component: u8, message: MavMessage) {
        self.outbox.push((component, message));
    }

    fn text(&mut self, severity: MavSeverity, text: &str) {
        tracing::debug!(text, "simulated drone");
        self.say(MavMessage::STATUSTEXT(STATUSTEXT_DATA { severity, text: text.into(), ..Default::default() }));
    }

    pub(super) fn in_air(&self) -> bool {
        self.armed && !self.body.on_ground()
    }

    pub(super) fn landing(&self) -> bool {
        self.returning == Some(Return::Descend) || self.mode == Mode::Land
    }

    pub(super) fn taking_off(&self) -> bool {
        self.mode == Mode::Auto && self.active_command() == Some(MavCmd::MAV_CMD_NAV_TAKEOFF) && self.armed
    }

    fn active_command(&self) -> Option<MavCmd> {
        let index = self.active?;
        self.mission.items.get(index).map(|item| item.command)
    }

    // ---- what the station says -------------------------------------------------------------------------------------

    pub fn receive(&mut self, frame: &Frame) {
        let from = (frame.system, frame.component);
        match &frame.message {
            MavMessage::HEARTBEAT(_) => {
                // Like the real one: only the known ground station counts.
                if f64::from(frame.system) == self.params.get("SYSID_MYGCS") {
                    self.station_silent_s = Some(0.0);
                }
            }
            MavMessage::COMMAND_LONG(c) if for_us(c.target_system) => {
                let result = self.command(c);
                let component = match c.target_component {
                    CAMERA => CAMERA,
                    _ => AUTOPILOT,
                };
                self.say_as(
                    component,
                    MavMessage::COMMAND_ACK(COMMAND_ACK_DATA {
                        command: c.command,
                        result,
                        target_system: from.0,
                        target_component: from.1,
                        ..Default::default()
                    }),
                );
            }
            #[allow(deprecated)]
            MavMessage::SET_MODE(m) if for_us(m.target_system) => {
                if let Some(mode) = Mode::from_number(m.custom_mode) {
                    self.ask_mode(mode);
                }
            }
            MavMessage::PARAM_REQUEST_LIST(r) if for_us(r.target_system) => {
                for index in 0..self.params.len() {
                    let message = self.params.message(index);
                    self.outbox.extend(message.map(|m| (AUTOPILOT, m)));
                }
            }
            MavMessage::PARAM_REQUEST_READ(r) if for_us(r.target_system) => {
                let index = match usize::try_from(r.param_index) {
                    Ok(index) => Some(index),
                    Err(_) => r.param_id.to_str().ok().and_then(|id| self.params.find(id)),
                };
                let message = index.and_then(|index| self.params.message(index));
                self.outbox.extend(message.map(|m| (AUTOPILOT, m)));
            }
            MavMessage::PARAM_SET(p) if for_us(p.target_system) => {
                let name = p.param_id.to_str().unwrap_or_default();
                let kept = if self.faults.parameters_stick {
                    self.params.set(name, p.param_value)
                } else {
                    self.params.find(name)
                };
                let message = kept.and_then(|index| self.params.message(index));
                self.outbox.extend(message.map(|m| (AUTOPILOT, m)));
            }
            message => self.list_message(message, from),
        }
    }

    // Stations still say it this way.
    #[allow(deprecated)]
    fn list_message(&mut self, message: &MavMessage, from: (u8, u8)) {
        let target = match message {
            MavMessage::MISSION_COUNT(m) => m.target_system,
            MavMessage::MISSION_ITEM_INT(m) => m.target_system,
            MavMessage::MISSION_REQUEST_LIST(m) => m.target_system,
            MavMessage::MISSION_REQUEST_INT(m) => m.target_system,
            MavMessage::MISSION_CLEAR_ALL(m) => m.target_system,
            MavMessage::MISSION_SET_CURRENT(m) => m.target_system,
            _ => return,
        };
        if !for_us(target) {
            return;
        }
        let wrong = self.faults.store_wrong_item;
        let answer = match message {
            MavMessage::MISSION_COUNT(m) => self.list(m.mission_type).map(|list| list.begin(m.count, from)),
            MavMessage::MISSION_ITEM_INT(m) => {
                if self.dropped() {
                    return;
                }
                let wrong = wrong.filter(|_| m.mission_type == MavMissionType::MAV_MISSION_TYPE_MISSION);
                self.list(m.mission_type).and_then(|list| list.take(m, from, wrong))
            }
            MavMessage::MISSION_REQUEST_LIST(m) => self.list(m.mission_type).map(|list| list.count(from)),
            MavMessage::MISSION_REQUEST_INT(m) => {
                if self.dropped() {
                    return;
                }
                self.list(m.mission_type).map(|list| list.item(m.seq, from))
            }
            MavMessage::MISSION_CLEAR_ALL(m) if m.mission_type == MavMissionType::MAV_MISSION_TYPE_ALL => {
                self.fence.clear(from);
                self.rally.clear(from);
                Some(self.mission.clear(from))
            }
            MavMessage::MISSION_CLEAR_ALL(m) => self.list(m.mission_type).map(|list| list.clear(from)),
            MavMessage::MISSION_SET_CURRENT(m) => {
                self.active = None;
                self.proceed(usize::from(m.seq));
                None
            }
            _ => None,
        };
        if let Some(answer) = answer {
            self.say(answer);
        }
        self.lists_changed();
    }

    fn dropped(&mut self) -> bool {
        let left = &mut self.faults.drop_item_messages;
        let drop = *left > 0;
        *left = left.saturating_sub(1);
        drop
    }

    fn list(&mut self, kind: MavMissionType) -> Option<&mut Store> {
        match kind {
            MavMissionType::MAV_MISSION_TYPE_MISSION => Some(&mut self.mission),
            MavMissionType::MAV_MISSION_TYPE_FENCE => Some(&mut self.fence),
            MavMissionType::MAV_MISSION_TYPE_RALLY => Some(&mut self.rally),
            _ => None,
        }
    }

    fn lists_changed(&mut self) {
        if self.mission.generation != self.mission_generation {
            self.mission_generation = self.mission.generation;
            self.active = None;
            // Item 0 is home there, whatever was sent.
            let home = self.ground.home;
            if let Some(item) = self.mission.items.first_mut() {
                item.x = mission::degrees_e7(home.lat);
                item.y = mission::degrees_e7(home.lon);
                item.z = 0.0;
            }
        }
        if self.fence.generation != self.fence_polygon.0 {
            let vertices = self
                .fence
                .items
                .iter()
                .map(|item| LatLon { lat: f64::from(item.x) / 1e7, lon: f64::from(item.y) / 1e7 });
            self.fence_polygon = (self.fence.generation, vertices.collect());
        }
    }

    // Stations still ask for capabilities this way.
    #[allow(deprecated)]
    fn command(&mut self, c: &COMMAND_LONG_DATA) -> MavResult {
        const ACCEPTED: MavResult = MavResult::MAV_RESULT_ACCEPTED;
        const DENIED: MavResult = MavResult::MAV_RESULT_DENIED;
        match c.command {
            MavCmd::MAV_CMD_COMPONENT_ARM_DISARM if c.param1 == 1.0 => self.arm(),
            MavCmd::MAV_CMD_COMPONENT_ARM_DISARM => {
                const EVEN_IN_THE_AIR: f32 = 21_196.0;
                if self.in_air() && c.param2 != EVEN_IN_THE_AIR {
                    self.text(MavSeverity::MAV_SEVERITY_WARNING, "Disarm: refused, in the air");
                    return MavResult::MAV_RESULT_FAILED;
                }
                self.disarm();
                ACCEPTED
            }
            MavCmd::MAV_CMD_DO_SET_MODE => match Mode::from_number(c.param2 as u32) {
                Some(mode) if self.ask_mode(mode) => ACCEPTED,
                Some(_) => MavResult::MAV_RESULT_FAILED,
                None => DENIED,
            },
            MavCmd::MAV_CMD_MISSION_START => {
                if !self.armed || !self.ask_mode(Mode::Auto) {
                    return MavResult::MAV_RESULT_FAILED;
                }
                if self.active.is_none() || self.body.on_ground() {
                    self.active = None;
                    self.proceed(1);
                }
                ACCEPTED
            }
            MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH => accepted(self.ask_mode(Mode::Rtl)),
            MavCmd::MAV_CMD_NAV_LAND => accepted(self.ask_mode(Mode::Land)),
            MavCmd::MAV_CMD_NAV_LOITER_UNLIM => accepted(self.ask_mode(Mode::Loiter)),
            MavCmd::MAV_CMD_NAV_TAKEOFF => {
                if self.mode != Mode::Guided || !self.armed {
                    return MavResult::MAV_RESULT_FAILED;
                }
                self.hold[2] = f64::from(c.param7);
                ACCEPTED
            }
            MavCmd::MAV_CMD_REQUEST_MESSAGE => accepted(self.emit(c.param1 as u32)),
            MavCmd::MAV_CMD_REQUEST_AUTOPILOT_CAPABILITIES => accepted(self.emit(super::messages::AUTOPILOT_VERSION)),
            MavCmd::MAV_CMD_SET_MESSAGE_INTERVAL => {
                let id = c.param1 as u32;
                if !super::messages::STREAMS.contains(&id) {
                    return DENIED;
                }
                if c.param2 < 0.0 {
                    self.streams.remove(&id);
                    return ACCEPTED;
                }
                let period_s = match f64::from(c.param2) / 1e6 {
                    0.0 => 1.0,
                    // No faster than 50 Hz.
                    period => period.max(0.02),
                };
                self.streams.insert(id, Stream { period_s, due_s: 0.0 });
                ACCEPTED
            }
            MavCmd::MAV_CMD_IMAGE_START_CAPTURE => {
                self.expose();
                ACCEPTED
            }
            MavCmd::MAV_CMD_DO_CHANGE_SPEED
            | MavCmd::MAV_CMD_DO_SET_CAM_TRIGG_DIST
            | MavCmd::MAV_CMD_DO_GIMBAL_MANAGER_PITCHYAW => {
                self.act(c.command, [c.param1, c.param2]);
                ACCEPTED
            }
            MOUNT_CONTROL => {
                self.act(c.command, [c.param1, c.param2]);
                ACCEPTED
            }
            _ => MavResult::MAV_RESULT_UNSUPPORTED,
        }
    }

    fn arm(&mut self) -> MavResult {
        if self.armed {
            return MavResult::MAV_RESULT_ACCEPTED;
        }
        let mut reasons = Vec::new();
        if !self.mode.may_arm() {
            reasons.push(format!("Arm: {:?} mode not armable", self.mode));
        }
        if self.sim_s < BOOT_S {
            reasons.push("PreArm: Need Position Estimate".to_owned());
        }
        if self.battery_pct < 10.0 {
            reasons.push("PreArm: Battery 1 low voltage failsafe".to_owned());
        }
        reasons.extend(self.faults.prearm.clone());
        for reason in &reasons {
            self.text(MavSeverity::MAV_SEVERITY_CRITICAL, reason);
        }
        if !reasons.is_empty() {
            return MavResult::MAV_RESULT_FAILED;
        }
        self.armed = true;
        self.hold = self.body.estimated_position();
        self.hold[2] = 0.0;
        self.idle_armed_s = 0.0;
        self.fenced = false;
        self.battery_stage = 0;
        // What a mission changed holds for its flight only.
        self.speed_m_s = self.params.get("WPNAV_SPEED") / 100.0;
        self.text(MavSeverity::MAV_SEVERITY_INFO, "Arming motors");
        self.heartbeat();
        MavResult::MAV_RESULT_ACCEPTED
    }

    fn disarm(&mut self) {
        if !std::mem::replace(&mut self.armed, false) {
            return;
        }
        self.trigger_m = 0.0;
        self.active = None;
        self.returning = None;
        self.text(MavSeverity::MAV_SEVERITY_INFO, "Disarming motors");
        self.heartbeat();
    }

    fn ask_mode(&mut self, mode: Mode) -> bool {
        if mode == Mode::Auto && self.mission.items.len() < 2 {
            self.text(MavSeverity::MAV_SEVERITY_WARNING, "Mode change to AUTO failed: no mission");
            return false;
        }
        if mode == self.mode {
            return true;
        }
        self.mode = mode;
        self.returning = None;
        self.hold = self.body.estimated_position();
        match mode {
            Mode::Rtl => self.begin_return(),
            // The real one, too, starts or goes on with its mission when it is switched in the air.
            Mode::Auto if self.in_air() && self.active.is_none() => self.proceed(1),
            Mode::Auto if self.in_air() && self.active_command() == Some(MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH) => {
                self.begin_return();
            }
            _ => {}
        }
        self.heartbeat();
        true
    }

    // ---- flying ----------------------------------------------------------------------------------------------------

    /// Moves the drone by `dt` of simulated time.
    pub fn step(&mut self, dt: f64, wind: WindNow, now: Timestamp) {
        self.now = now;
        self.sim_s += dt;
        let before = self.body.position;
        let command = self.guide();
        self.body.step(dt, command, wind);
        let turn = self.gimbal_wanted_deg - self.gimbal_deg;
        let most = GIMBAL_RATE_DEG_S * dt;
        self.gimbal_deg += turn.clamp(-most, most);
        self.battery(dt);
        if self.in_air() {
            self.grounded_s = 0.0;
            self.watch_fence();
            let moved = self.body.position;
            self.since_shot_m += (moved[0] - before[0]).hypot(moved[1] - before[1]);
            if self.trigger_m > 0.0 && self.since_shot_m >= self.trigger_m {
                self.since_shot_m = 0.0;
                self.expose();
            }
        } else if self.armed && self.landing() {
            self.grounded_s += dt;
            if self.grounded_s > 1.0 {
                self.disarm();
            }
        }
    }

    fn guide(&mut self) -> Command {
        if !self.armed {
            return Command::Rest;
        }
        match self.mode {
            Mode::Auto => self.fly_mission(),
            Mode::Rtl => self.fly_home(),
            Mode::Land => self.settle(self.hold),
            _ if self.body.on_ground() && self.hold[2] < 0.5 => Command::Rest,
            _ => self.toward(self.hold, self.speed_m_s, None),
        }
    }

    fn fly_mission(&mut self) -> Command {
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
            MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH => self.fly_home(),
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

    /// The active item is done: says so and goes on.
    fn reached(&mut self) {
        if let Some(index) = self.active {
            self.say(MavMessage::MISSION_ITEM_REACHED(MISSION_ITEM_REACHED_DATA { seq: index as u16 }));
            self.proceed(index + 1);
        }
    }

    /// Does the commands from `index` on until there is somewhere to fly.
    fn proceed(&mut self, index: usize) {
        // Item 0 is home, never flown to.
        let mut index = index.max(1);
        self.active = None;
        while let Some(item) = self.mission.items.get(index) {
            let (command, params) = (item.command, [item.param1, item.param2]);
            let navigates = matches!(
                command,
                MavCmd::MAV_CMD_NAV_TAKEOFF
                    | MavCmd::MAV_CMD_NAV_WAYPOINT
                    | MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH
                    | MavCmd::MAV_CMD_NAV_LAND
                    | MavCmd::MAV_CMD_NAV_LOITER_UNLIM
            );
            if navigates {
                self.active = Some(index);
                if command == MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH {
                    self.begin_return();
                }
                self.emit(super::messages::MISSION_CURRENT);
                return;
            }
            self.act(command, params);
            index += 1;
        }
    }

    /// A command that is done at once.
    fn act(&mut self, command: MavCmd, params: [f32; 2]) {
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

    fn begin_return(&mut self) {
        let here = self.body.estimated_position();
        let to = here[2].max(self.params.get("RTL_ALT") / 100.0);
        self.hold = here;
        self.returning = Some(Return::Climb { to });
    }

    fn fly_home(&mut self) -> Command {
        if self.body.on_ground() && !matches!(self.returning, Some(Return::Descend)) {
            // A return asked for on the ground has nothing to fly.
            self.returning = Some(Return::Descend);
        }
        let here = self.body.estimated_position();
        match self.returning {
            Some(Return::Climb { to }) => {
                if here[2] >= to - 0.5 {
                    self.hold[2] = to;
                    self.returning = Some(Return::Home);
                }
                self.toward([self.hold[0], self.hold[1], to], self.speed_m_s, None)
            }
            Some(Return::Home) => {
                if here[0].hypot(here[1]) < 1.0 {
                    self.returning = Some(Return::Descend);
                }
                let heading = (here[0].hypot(here[1]) > 3.0).then(|| bearing(here, [0.0; 3]));
                self.toward([0.0, 0.0, self.hold[2]], self.speed_m_s, heading)
            }
            Some(Return::Descend) | None => self.settle([0.0; 3]),
        }
    }

    /// Down over a place, gently at the end.
    fn settle(&self, over: Enu) -> Command {
        let here = self.body.estimated_position();
        let mut down = self.toward([over[0], over[1], here[2]], 3.0, None);
        if let Command::Velocity { enu, .. } = &mut down {
            enu[2] = if here[2] > 6.0 { -DESCEND } else { -TOUCH_DOWN };
        }
        down
    }

    fn toward(&self, place: Enu, speed: f64, heading_deg: Option<f64>) -> Command {
        let here = self.body.estimated_position();
        let (east, north) = (place[0] - here[0], place[1] - here[1]);
        let away = east.hypot(north);
        // As fast as it can still stop, at three quarters of its braking.
        let speed = speed.min((2.0 * 1.9 * away).sqrt()).min(away * 1.5);
        let share = speed / away.max(1e-6);
        Command::Velocity {
            enu: [east * share, north * share, (place[2] - here[2]).clamp(-DESCEND, CLIMB)],
            heading_deg,
        }
    }

    fn expose(&mut self) {
        let index = self.next_index;
        self.next_index += 1;
        let taken_at = self.now;
        let attitude = geo::Attitude { yaw_deg: self.body.attitude.yaw_deg, pitch_deg: self.gimbal_deg, roll_deg: 0.0 };
        let estimate = self.estimated_camera();
        self.pending.insert(
            index,
            Taken {
                at: taken_at,
                boot_ms: self.boot_ms(),
                estimate: self.body.estimated_position(),
                attitude: estimate,
            },
        );
        let [east_m, north_m, up_m] = self.body.position;
        self.exposures.push_back(Exposure { index, taken_at, east_m, north_m, up_m, attitude });
    }

    /// How the autopilot believes that the camera looks: its compass is biased, its horizon is noisy.
    pub(super) fn estimated_camera(&mut self) -> geo::Attitude {
        let noise = [(); 3].map(|()| self.body.attitude_noise_deg());
        geo::Attitude {
            yaw_deg: self.body.attitude.yaw_deg + self.body.compass_bias_deg + noise[0],
            pitch_deg: self.gimbal_deg + noise[1],
            roll_deg: noise[2],
        }
    }

    // ---- looking after itself --------------------------------------------------------------------------------------

    fn battery(&mut self, dt: f64) {
        let change = if self.in_air() {
            -100.0 / ENDURANCE_S
        } else if !self.armed && self.ground_distance() < 3.0 {
            100.0 / CHARGE_S
        } else {
            -0.002
        };
        self.battery_pct = (self.battery_pct + change * dt).clamp(0.0, 100.0);
        if !self.in_air() {
            return;
        }
        let left = self.battery_pct / 100.0 * self.params.get("BATT_CAPACITY");
        if self.battery_stage < 1 && left < self.params.get("BATT_LOW_MAH") {
            self.battery_stage = 1;
            self.battery_failsafe("Battery 1 is low", "BATT_FS_LOW_ACT");
        }
        if self.battery_stage < 2 && left < self.params.get("BATT_CRT_MAH") {
            self.battery_stage = 2;
            self.battery_failsafe("Battery 1 is critical", "BATT_FS_CRT_ACT");
        }
    }

    fn battery_failsafe(&mut self, text: &str, action: &str) {
        self.text(MavSeverity::MAV_SEVERITY_WARNING, text);
        match self.params.get(action) as u32 {
            1 => {
                self.ask_mode(Mode::Land);
            }
            2..=4 if self.mode != Mode::Land => {
                self.ask_mode(Mode::Rtl);
            }
            _ => {}
        }
    }

    fn ground_distance(&self) -> f64 {
        self.body.position[0].hypot(self.body.position[1])
    }

    fn watch_fence(&mut self) {
        if self.fenced || self.params.get("FENCE_ENABLE") < 1.0 || self.fence_polygon.1.len() < 3 {
            return;
        }
        let (here, _) = self.ground.place(self.body.estimated_position());
        if mission::inside(here, &self.fence_polygon.1) {
            return;
        }
        self.fenced = true;
        self.text(MavSeverity::MAV_SEVERITY_WARNING, "Fence Breached");
        if self.params.get("FENCE_ACTION") >= 1.0 {
            self.ask_mode(Mode::Rtl);
        }
    }

    /// What goes by the wall's clock: the conversation, and whether there is one.
    pub fn wall(&mut self, dt: f64) {
        self.uptime_s += dt;
        for answer in [self.mission.tick(dt), self.fence.tick(dt), self.rally.tick(dt)].into_iter().flatten() {
            self.say(answer);
        }
        if let Some(silent) = &mut self.station_silent_s {
            *silent += dt;
            let lost = *silent > self.params.get("FS_GCS_TIMEOUT");
            let going_down = matches!(self.mode, Mode::Rtl | Mode::Land) || self.landing();
            if lost && self.armed && self.params.get("FS_GCS_ENABLE") >= 1.0 && !going_down {
                self.text(MavSeverity::MAV_SEVERITY_WARNING, "GCS Failsafe");
                if self.body.on_ground() {
                    self.disarm();
                } else {
                    self.ask_mode(Mode::Rtl);
                }
            }
        }
        if self.armed && self.body.on_ground() && !self.taking_off() {
            self.idle_armed_s += dt;
            if self.idle_armed_s > self.params.get("DISARM_DELAY") {
                self.disarm();
            }
        } else {
            self.idle_armed_s = 0.0;
        }
        self.speak();
    }
}

fn for_us(target: u8) -> bool {
    target == 0 || target == SYSTEM
}

fn accepted(done: bool) -> MavResult {
    if done { MavResult::MAV_RESULT_ACCEPTED } else { MavResult::MAV_RESULT_FAILED }
}

/// Clockwise from north.
fn bearing(from: Enu, to: Enu) -> f64 {
    (to[0] - from[0]).atan2(to[1] - from[1]).to_degrees().rem_euclid(360.0)
}
