//! The simulated autopilot does what it is told, or says why not, in ArduCopter's words. Pure.

use mavlink::dialects::common::{COMMAND_LONG_DATA, MavCmd, MavResult, MavSeverity};

use super::autopilot::{Autopilot, CAMERA, Log, Mode, Stream};
use crate::vehicle::mission::MOUNT_CONTROL;

/// Simulated seconds from power-on until position is known.
const BOOT_S: f64 = 2.0;

impl Autopilot {
    // Stations still ask for capabilities this way.
    #[allow(deprecated)]
    pub(super) fn command(&mut self, c: &COMMAND_LONG_DATA) -> MavResult {
        const ACCEPTED: MavResult = MavResult::MAV_RESULT_ACCEPTED;
        const DENIED: MavResult = MavResult::MAV_RESULT_DENIED;
        match c.command {
            MavCmd::MAV_CMD_COMPONENT_ARM_DISARM if c.param1 == 1.0 => self.arm(),
            MavCmd::MAV_CMD_COMPONENT_ARM_DISARM => {
                const EVEN_IN_THE_AIR: f32 = 21_196.0;
                if self.in_air() && c.param2 != EVEN_IN_THE_AIR {
                    self.warn("Disarm: refused, in the air");
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
                // Taken when disarmed, too: then it only waits in AUTO, where it does not arm.
                if !self.ask_mode(Mode::Auto) {
                    return MavResult::MAV_RESULT_FAILED;
                }
                if self.armed && (self.active.is_none() || self.body.on_ground()) {
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
            MavCmd::MAV_CMD_REQUEST_MESSAGE if c.target_component == CAMERA => {
                let said = self.album.say(c.param1 as u32, c.param2 as u32, self.boot_ms());
                accepted(said.map(|message| self.say_as(CAMERA, message)).is_some())
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
            | MavCmd::MAV_CMD_DO_GIMBAL_MANAGER_PITCHYAW
            | MOUNT_CONTROL => {
                self.act(c.command, [c.param1, c.param2]);
                ACCEPTED
            }
            _ => MavResult::MAV_RESULT_UNSUPPORTED,
        }
    }

    /// What stands against arming before anybody asks.
    pub(super) fn prearm(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.faults.gps_lost {
            reasons.push("PreArm: GPS 1: Bad fix".to_owned());
        }
        if self.sim_s < BOOT_S || !self.estimator.position_ok() {
            reasons.push("PreArm: Need Position Estimate".to_owned());
        }
        reasons.extend(self.battery_reason().map(|reason| format!("PreArm: Battery 1 {reason}")));
        if self.fence_breaches() != 0 {
            reasons.push("PreArm: vehicle outside fence".to_owned());
        }
        reasons.extend(self.faults.prearm.clone());
        reasons
    }

    fn arm(&mut self) -> MavResult {
        if self.armed {
            return MavResult::MAV_RESULT_ACCEPTED;
        }
        let mut reasons = self.prearm();
        if !self.mode.may_arm() {
            reasons.push(format!("Arm: {} mode not armable", self.mode.name()));
        }
        for reason in &reasons {
            self.text(MavSeverity::MAV_SEVERITY_CRITICAL, reason);
        }
        if !reasons.is_empty() {
            return MavResult::MAV_RESULT_FAILED;
        }
        self.armed = true;
        // Home is where it stands, as it believes.
        self.home = self.body.estimated_position();
        self.home[2] = 0.0;
        self.put_home_first();
        self.hold = self.home;
        self.idle_armed_s = 0.0;
        self.breached = false;
        self.battery_stage = 0;
        self.low_volts_s = [0.0; 2];
        self.log = Log { arms: self.log.arms + 1, launches: self.log.launches, ..Log::default() };
        // What a mission changed holds for its flight only.
        self.speed_m_s = self.params.get("WPNAV_SPEED") / 100.0;
        self.text(MavSeverity::MAV_SEVERITY_INFO, "Arming motors");
        self.emit(super::messages::HOME_POSITION);
        self.heartbeat();
        MavResult::MAV_RESULT_ACCEPTED
    }

    /// Motors off. The mission goes back to its start; the mode stays what it was.
    pub(super) fn disarm(&mut self) {
        if !std::mem::replace(&mut self.armed, false) {
            return;
        }
        self.trigger_m = 0.0;
        self.active = None;
        self.returning = None;
        self.text(MavSeverity::MAV_SEVERITY_INFO, "Disarming motors");
        self.heartbeat();
    }

    pub(super) fn ask_mode(&mut self, mode: Mode) -> bool {
        if mode == self.mode {
            return true;
        }
        let starts_up = self.mission.items.iter().skip(1).find(|item| super::guide::navigates(item.command));
        let starts_up = starts_up.is_some_and(|item| item.command == MavCmd::MAV_CMD_NAV_TAKEOFF);
        let refusal = if self.armed && mode.needs_position() && !self.estimator.position_ok() {
            Some("requires position")
        } else if mode == Mode::Auto && self.mission.items.len() < 2 {
            Some("init failed")
        } else if mode == Mode::Auto && self.armed && self.body.on_ground() && !starts_up {
            self.text(MavSeverity::MAV_SEVERITY_CRITICAL, "Auto: Missing Takeoff Cmd");
            Some("init failed")
        } else {
            None
        };
        if let Some(reason) = refusal {
            self.warn(&format!("Mode change to {} failed: {reason}", mode.name()));
            return false;
        }
        self.mode = mode;
        // A mode that needs a position has one, and flies by it.
        self.estimator.blind_landing &= !mode.needs_position();
        self.returning = None;
        self.land_pause_s = 0.0;
        self.hold = self.body.estimated_position();
        match mode {
            Mode::Rtl => self.begin_return(),
            Mode::Auto if self.in_air() => {
                // It goes on where it was, unless told to begin again.
                let again = self.params.get("MIS_RESTART") >= 1.0;
                match self.active_command() {
                    Some(MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH) if !again => self.begin_return(),
                    Some(_) if !again => {}
                    _ => self.proceed(1),
                }
            }
            _ => {}
        }
        self.heartbeat();
        true
    }
}

fn accepted(done: bool) -> MavResult {
    if done { MavResult::MAV_RESULT_ACCEPTED } else { MavResult::MAV_RESULT_FAILED }
}
