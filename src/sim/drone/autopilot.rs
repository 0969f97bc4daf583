//! The simulated autopilot: what an ArduCopter 4.5 does with its messages, its mission and its failsafes. Pure.
//!
//! Two clocks drive it. *Simulated* time moves the drone and may run faster than the wall's; *wall* time governs the
//! conversation with the station (heartbeats, streams, repeats, link loss, the disarm delay), because the station
//! lives by the wall.
//!
//! [`super::commands`] does what it is told, [`super::guide`] flies, [`super::failsafe`] looks after itself,
//! [`super::messages`] speaks.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use mavlink::dialects::common::{COMMAND_ACK_DATA, MavCmd, MavMessage, MavMissionType, MavSeverity, STATUSTEXT_DATA};

use super::Album;
use super::failsafe::{Estimator, GroundStation};
use super::fences::Fences;
use super::guide::Return;
use super::pack::{Load, Pack};
use super::params::Parameters;
use super::physics::{Body, Enu, WindNow};
use super::store::Store;
use super::{Exposure, Faults, Ground};
use crate::geo;
use crate::geo::LatLon;
use crate::vehicle::frame::Frame;
use crate::vehicle::mission;

pub const SYSTEM: u8 = 1;
pub const AUTOPILOT: u8 = 1;
pub const CAMERA: u8 = 100;
/// The remote-identification transmitter.
pub const REMOTE_ID: u8 = 236;

/// ArduCopter's flight modes, as far as they are simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    Stabilize = 0,
    AltHold = 2,
    Auto = 3,
    Guided = 4,
    Loiter = 5,
    Rtl = 6,
    Land = 9,
    Brake = 17,
}

impl Mode {
    pub(super) fn from_number(number: u32) -> Option<Mode> {
        use Mode::*;
        [Stabilize, AltHold, Auto, Guided, Loiter, Rtl, Land, Brake].into_iter().find(|mode| *mode as u32 == number)
    }

    /// As ArduCopter calls it in its texts.
    pub(super) fn name(self) -> &'static str {
        match self {
            Mode::Stabilize => "STABILIZE",
            Mode::AltHold => "ALT_HOLD",
            Mode::Auto => "AUTO",
            Mode::Guided => "GUIDED",
            Mode::Loiter => "LOITER",
            Mode::Rtl => "RTL",
            Mode::Land => "LAND",
            Mode::Brake => "BRAKE",
        }
    }

    pub(super) fn may_arm(self) -> bool {
        matches!(self, Mode::Stabilize | Mode::AltHold | Mode::Guided | Mode::Loiter)
    }

    pub(super) fn needs_position(self) -> bool {
        !matches!(self, Mode::Stabilize | Mode::AltHold | Mode::Land)
    }

    /// Flies by itself. BRAKE does not count as such there, whatever one may think of it.
    pub(super) fn is_autopilot(self) -> bool {
        matches!(self, Mode::Auto | Mode::Guided | Mode::Rtl | Mode::Land)
    }
}

/// A picture that was taken and whose file is not there yet: what will be reported about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub at: Timestamp,
    pub boot_ms: u32,
    pub estimate: Enu,
    pub attitude: geo::Attitude,
}

/// What a flight has come to, for those who watch from outside.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Log {
    /// How often it was armed, and how often it left the ground, since power-on.
    pub arms: u32,
    pub launches: u32,
    /// This flight's mission was flown up to its return.
    pub mission_flown: bool,
    pub crashed: bool,
}

pub struct Autopilot {
    pub(super) body: Body,
    pub(super) ground: Ground,
    pub(super) params: Parameters,
    pub(super) mode: Mode,
    pub(super) armed: bool,
    /// Where it was armed: what it returns to.
    pub(super) home: Enu,
    pub(super) mission: Store,
    fence: Store,
    rally: Store,
    pub(super) fences: Fences,
    fence_generation: u64,
    mission_generation: u64,
    /// The navigation item being flown.
    pub(super) active: Option<usize>,
    pub(super) mission_complete: bool,
    /// The item reached last, how often it is still said, and when next.
    pub(super) reached_item: Option<(u16, u32, f64)>,
    pub(super) returning: Option<Return>,
    /// Until it begins to sink, after a failsafe told it to land.
    pub(super) land_pause_s: f64,
    pub(super) hold: Enu,
    pub(super) speed_m_s: f64,
    pub(super) gimbal_wanted_deg: f64,
    pub(super) gimbal_deg: f64,
    pub(super) trigger_m: f64,
    pub(super) since_shot_m: f64,
    pub(super) next_index: u32,
    pub(super) pending: BTreeMap<u32, Taken>,
    pub(super) album: Album,
    exposures: VecDeque<Exposure>,
    pub(super) pack: Pack,
    pub(super) low_volts_s: [f64; 2],
    pub(super) battery_stage: usize,
    pub(super) estimator: Estimator,
    pub(super) station: GroundStation,
    pub(super) breached: bool,
    pub(super) sim_s: f64,
    pub(super) uptime_s: f64,
    grounded_s: f64,
    pub(super) idle_armed_s: f64,
    pub(super) prearm_due_s: f64,
    pub(super) streams: BTreeMap<u32, Stream>,
    pub(super) heartbeat_due_s: f64,
    outbox: Vec<(u8, MavMessage)>,
    pub faults: Faults,
    pub(super) log: Log,
    /// The wall's clock at the last step: what pictures are dated by.
    pub(super) now: Timestamp,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    pub period_s: f64,
    pub due_s: f64,
}

const GIMBAL_RATE_DEG_S: f64 = 60.0;
/// What a frame stands when it meets the ground, metres per second.
const HARDEST_LANDING: f64 = 3.5;
/// ArduCopter's land detector.
const LAND_DETECTOR_S: f64 = 1.0;

impl Autopilot {
    pub fn new(home: LatLon, seed: u64, parameters: &[(String, f32)], faults: Faults) -> Self {
        Autopilot {
            body: Body::new(seed),
            ground: Ground::new(home),
            params: Parameters::new(parameters),
            mode: Mode::Stabilize,
            armed: false,
            home: [0.0; 3],
            mission: Store::new(MavMissionType::MAV_MISSION_TYPE_MISSION),
            fence: Store::new(MavMissionType::MAV_MISSION_TYPE_FENCE),
            rally: Store::new(MavMissionType::MAV_MISSION_TYPE_RALLY),
            fences: Fences::default(),
            fence_generation: 0,
            mission_generation: 0,
            active: None,
            mission_complete: false,
            reached_item: None,
            returning: None,
            land_pause_s: 0.0,
            hold: [0.0; 3],
            speed_m_s: 10.0,
            gimbal_wanted_deg: 0.0,
            gimbal_deg: 0.0,
            trigger_m: 0.0,
            since_shot_m: 0.0,
            next_index: 0,
            pending: BTreeMap::new(),
            album: Album::default(),
            exposures: VecDeque::new(),
            pack: Pack::new(seed),
            low_volts_s: [0.0; 2],
            battery_stage: 0,
            estimator: Estimator::default(),
            station: GroundStation::default(),
            breached: false,
            sim_s: 0.0,
            uptime_s: 0.0,
            grounded_s: 0.0,
            idle_armed_s: 0.0,
            prearm_due_s: 0.0,
            streams: BTreeMap::new(),
            heartbeat_due_s: 0.0,
            outbox: Vec::new(),
            faults,
            log: Log::default(),
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

    pub(super) fn text(&mut self, severity: MavSeverity, text: &str) {
        tracing::debug!(text, "simulated drone");
        self.say(MavMessage::STATUSTEXT(STATUSTEXT_DATA { severity, text: text.into(), ..Default::default() }));
    }

    pub(super) fn warn(&mut self, text: &str) {
        self.text(MavSeverity::MAV_SEVERITY_WARNING, text);
    }

    pub(super) fn in_air(&self) -> bool {
        self.armed && !self.body.on_ground()
    }

    pub(super) fn landing(&self) -> bool {
        self.returning == Some(Return::Descend) || self.mode == Mode::Land
    }

    /// On its way home or down, whoever asked for it.
    pub(super) fn coming_home(&self) -> bool {
        self.returning.is_some() || matches!(self.mode, Mode::Rtl | Mode::Land)
    }

    pub(super) fn taking_off(&self) -> bool {
        self.mode == Mode::Auto && self.active_command() == Some(MavCmd::MAV_CMD_NAV_TAKEOFF) && self.armed
    }

    pub(super) fn active_command(&self) -> Option<MavCmd> {
        let index = self.active?;
        self.mission.items.get(index).map(|item| item.command)
    }

    /// Satellites that it hears.
    pub(super) fn satellites(&self) -> u8 {
        if self.faults.gps_lost { 0 } else { 18 }
    }

    // ---- what the station says -------------------------------------------------------------------------------------

    pub fn receive(&mut self, frame: &Frame) {
        let from = (frame.system, frame.component);
        match &frame.message {
            MavMessage::HEARTBEAT(_) => {
                // Like the real one: only the known ground station counts.
                if f64::from(frame.system) == self.params.get("SYSID_MYGCS") {
                    self.station.silent_s = Some(0.0);
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
            self.mission_complete = false;
            self.put_home_first();
        }
        if self.fence.generation != self.fence_generation {
            self.fence_generation = self.fence.generation;
            self.fences = Fences::read(&self.fence.items).unwrap_or_default();
        }
    }

    /// Item 0 is home there, whatever was sent.
    pub(super) fn put_home_first(&mut self) {
        let (home, _) = self.ground.place(self.home);
        if let Some(item) = self.mission.items.first_mut() {
            item.x = mission::degrees_e7(home.lat);
            item.y = mission::degrees_e7(home.lon);
            item.z = 0.0;
        }
    }

    // ---- time ------------------------------------------------------------------------------------------------------

    /// Moves the drone by `dt` of simulated time.
    pub fn step(&mut self, dt: f64, wind: WindNow, now: Timestamp) {
        self.now = now;
        self.sim_s += dt;
        let before = self.body.position;
        let (was_up, grounded) = (self.in_air(), self.body.on_ground());
        let command = self.guide(dt);
        self.body.step(dt, command, wind);
        self.body.navigate(dt, !self.faults.gps_lost);
        let turn = self.gimbal_wanted_deg - self.gimbal_deg;
        let most = GIMBAL_RATE_DEG_S * dt;
        self.gimbal_deg += turn.clamp(-most, most);
        self.consume(dt);
        if !grounded && self.body.on_ground() && self.body.touched_m_s > HARDEST_LANDING {
            self.log.crashed = true;
            self.text(MavSeverity::MAV_SEVERITY_EMERGENCY, "Crash: Disarming: AngErr=60>30, Accel=1.0<3.0");
            self.disarm();
        }
        if self.in_air() {
            if !was_up {
                self.log.launches += 1;
            }
            self.grounded_s = 0.0;
            self.watch_position(dt);
            self.watch_battery(dt);
            self.watch_fence();
            let moved = self.body.position;
            self.since_shot_m += (moved[0] - before[0]).hypot(moved[1] - before[1]);
            if self.trigger_m > 0.0 && self.since_shot_m >= self.trigger_m {
                self.since_shot_m = 0.0;
                self.expose();
            }
        } else {
            self.watch_position(dt);
            if self.armed && self.landing() && self.land_pause_s <= 0.0 {
                self.grounded_s += dt;
                if self.grounded_s > LAND_DETECTOR_S {
                    self.disarm();
                }
            }
        }
    }

    fn consume(&mut self, dt: f64) {
        let [east, north, _] = self.body.position;
        let load = if self.in_air() {
            Load::Flying
        } else if !self.armed && east.hypot(north) < super::DOCK_M {
            Load::Charging
        } else {
            Load::Idle
        };
        self.pack.weak_ohm = self.faults.weak_cell_ohm;
        self.pack.step(dt, load, self.params.get("BATT_CAPACITY"));
        if let Some(most) = self.faults.charge_pct_at_most {
            self.pack.charge_pct = self.pack.charge_pct.min(most);
        }
    }

    /// What goes by the wall's clock: the conversation, and whether there is one.
    pub fn wall(&mut self, dt: f64) {
        self.uptime_s += dt;
        for answer in [self.mission.tick(dt), self.fence.tick(dt), self.rally.tick(dt)].into_iter().flatten() {
            self.say(answer);
        }
        self.watch_station(dt);
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

    pub(super) fn expose(&mut self) {
        // A camera that hangs takes no picture and says nothing of it.
        if self.faults.camera_stalled {
            return;
        }
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
}

fn for_us(target: u8) -> bool {
    target == 0 || target == SYSTEM
}
