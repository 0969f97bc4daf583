//! How the simulated autopilot looks after itself: link loss, battery, fence, position. Pure.
//!
//! As ArduCopter 4.5 does it, by its sources (`events.cpp`, `fence.cpp`, `ekf_check.cpp`, `AP_BattMonitor`): nothing of it
//! acts unless its parameter says so, each acts once until it has cleared, and what it does not simulate is left out
//! rather than guessed (dead-reckoning and terrain failsafes, SmartRTL, which is flown as RTL).

use mavlink::dialects::common::MavSeverity;

use super::autopilot::{Autopilot, Mode};

/// Whether it still knows where it is.
#[derive(Debug, Default)]
pub(super) struct Estimator {
    /// Since the satellites went, simulated seconds.
    lost_s: f64,
    /// Since they came back.
    back_s: f64,
    failed: bool,
    /// Landing without position: regaining it changes nothing for this landing.
    pub(super) blind_landing: bool,
}

/// The filter holds on for so long without satellites, then the check needs a second more. Seen on the real one: some
/// ten to fifteen seconds from the last fix to the failsafe.
const HOLDS_ON_S: f64 = 10.0;
const CHECK_S: f64 = 1.0;
const REGAINED_S: f64 = 5.0;
/// A failsafe's landing waits before it sinks.
const LAND_PAUSE_S: f64 = 4.0;
/// So far outside a circle or above a ceiling it gives up returning and lands.
const GIVE_UP_M: f64 = 100.0;

impl Estimator {
    pub(super) fn position_ok(&self) -> bool {
        !self.failed
    }

    /// Flies without knowing where.
    pub(super) fn blind(&self) -> bool {
        self.failed || self.blind_landing
    }
}

/// The ground station that counts.
#[derive(Debug, Default)]
pub(super) struct GroundStation {
    /// Since its last heartbeat, by the wall; none before the first.
    pub silent_s: Option<f64>,
    failsafe: bool,
}

/// FS_OPTIONS.
const CONTINUE_IN_AUTO: u32 = 1 << 1;
const CONTINUE_LANDING: u32 = 1 << 3;
const CONTINUE_PILOTED: u32 = 1 << 4;

pub(super) const FENCE_ALTITUDE: u32 = 1;
pub(super) const FENCE_CIRCLE: u32 = 2;
pub(super) const FENCE_POLYGON: u32 = 4;

impl Autopilot {
    fn option(&self, bit: u32) -> bool {
        self.params.get("FS_OPTIONS") as u32 & bit != 0
    }

    /// On the ground it disarms instead, whatever the action; on a mission only before it began.
    fn disarm_instead(&mut self, what: &str) -> bool {
        let down = self.body.on_ground() && !self.taking_off();
        if down {
            self.warn(&format!("{what} Failsafe - Disarming"));
            self.disarm();
        }
        down
    }

    /// A failsafe's action, by the numbers of BATT_FS_LOW_ACT.
    fn failsafe_action(&mut self, action: u32) {
        match action {
            0 => {}
            1 => self.land_with_pause(),
            5 => self.disarm(),
            // SmartRTL and the landing sequence fall back to this where there is neither.
            _ => {
                if !self.ask_mode(Mode::Rtl) {
                    self.land_with_pause();
                }
            }
        }
    }

    fn land_with_pause(&mut self) {
        if self.mode != Mode::Land && self.ask_mode(Mode::Land) {
            self.land_pause_s = LAND_PAUSE_S;
        }
    }

    // ---- the link --------------------------------------------------------------------------------------------------

    pub(super) fn watch_station(&mut self, wall_dt: f64) {
        let enabled = self.params.get("FS_GCS_ENABLE") as u32;
        let Some(silent) = self.station.silent_s.as_mut() else { return };
        *silent += wall_dt;
        let lost = *silent > self.params.get("FS_GCS_TIMEOUT");
        if enabled == 0 || lost == self.station.failsafe {
            return;
        }
        self.station.failsafe = lost;
        if !lost {
            // The mode stays: nobody goes on with the mission by itself.
            self.warn("GCS Failsafe Cleared");
            return;
        }
        if !self.armed {
            return self.warn("GCS Failsafe");
        }
        if self.disarm_instead("GCS") {
            return;
        }
        let goes_on = if self.landing() && self.option(CONTINUE_LANDING) {
            Some("Continuing Landing")
        } else if self.mode == Mode::Auto && self.option(CONTINUE_IN_AUTO) {
            Some("Continuing Auto Mode")
        } else if !self.mode.is_autopilot() && self.option(CONTINUE_PILOTED) {
            Some("Continuing Pilot Control")
        } else {
            None
        };
        if let Some(what) = goes_on {
            return self.warn(&format!("GCS Failsafe - {what}"));
        }
        self.warn("GCS Failsafe");
        match enabled {
            5 => self.failsafe_action(1),
            7 => {
                if !self.ask_mode(Mode::Brake) {
                    self.land_with_pause();
                }
            }
            _ => self.failsafe_action(2),
        }
    }

    // ---- the battery -----------------------------------------------------------------------------------------------

    fn used_mah(&self) -> f64 {
        self.params.get("BATT_CAPACITY") * (1.0 - self.pack.charge_pct / 100.0)
    }

    /// Whether the pack is below a threshold now: (by its voltage, by its charge).
    fn below(&self, stage: usize) -> (bool, bool) {
        let (volt, mah) = [("BATT_LOW_VOLT", "BATT_LOW_MAH"), ("BATT_CRT_VOLT", "BATT_CRT_MAH")][stage];
        let (volt, mah) = (self.params.get(volt), self.params.get(mah));
        let left = self.params.get("BATT_CAPACITY") - self.used_mah();
        (volt > 0.0 && self.pack.voltage() < volt, mah > 0.0 && left < mah)
    }

    /// Why it would not arm with this battery.
    pub(super) fn battery_reason(&self) -> Option<&'static str> {
        match (self.below(1), self.below(0)) {
            ((true, _), _) => Some("critical voltage failsafe"),
            ((_, true), _) => Some("critical capacity failsafe"),
            (_, (true, _)) => Some("low voltage failsafe"),
            (_, (_, true)) => Some("low capacity failsafe"),
            _ => None,
        }
    }

    pub(super) fn watch_battery(&mut self, dt: f64) {
        for stage in [0, 1] {
            let (volts, charge) = self.below(stage);
            let timer = &mut self.low_volts_s[stage];
            *timer = if volts { *timer + dt } else { 0.0 };
            // Voltage must stay low for a while, 0 seconds switch it off; charge counts at once.
            let patience = self.params.get("BATT_LOW_TIMER");
            let timed = patience > 0.0 && *timer > patience;
            if !(timed || charge) || self.battery_stage > stage {
                continue;
            }
            self.battery_stage = stage + 1;
            let (word, action) = [("low", "BATT_FS_LOW_ACT"), ("critical", "BATT_FS_CRT_ACT")][stage];
            let text = format!("Battery 1 is {word} {:.2}V used {:.0} mAh", self.pack.voltage(), self.used_mah());
            self.warn(&text);
            if self.disarm_instead("Battery") {
                return;
            }
            let action = self.params.get(action) as u32;
            if self.landing() && action != 0 && self.option(CONTINUE_LANDING) {
                self.warn("Battery Failsafe - Continuing Landing");
                self.failsafe_action(1);
            } else {
                self.warn("Battery Failsafe");
                self.failsafe_action(action);
            }
        }
    }

    // ---- the fence -------------------------------------------------------------------------------------------------

    /// The fences that it is outside of, by the bits of FENCE_TYPE; none where the fence is off.
    pub(super) fn fence_breaches(&self) -> u32 {
        if self.params.get("FENCE_ENABLE") < 1.0 || !self.estimator.position_ok() {
            return 0;
        }
        let here = self.body.estimated_position();
        let (at, _) = self.ground.place(here);
        let above = self.over_ceiling_m() > 0.0;
        let beyond = self.beyond_circle_m() > 0.0;
        let outside = !self.fences.is_empty() && !self.fences.allow(at, &self.ground);
        let breached = [(above, FENCE_ALTITUDE), (beyond, FENCE_CIRCLE), (outside, FENCE_POLYGON)];
        let bits = breached.into_iter().filter(|(is, _)| *is).fold(0, |all, (_, bit)| all | bit);
        bits & self.params.get("FENCE_TYPE") as u32
    }

    fn over_ceiling_m(&self) -> f64 {
        self.body.estimated_position()[2] - self.params.get("FENCE_ALT_MAX")
    }

    fn beyond_circle_m(&self) -> f64 {
        let here = self.body.estimated_position();
        (here[0] - self.home[0]).hypot(here[1] - self.home[1]) - self.params.get("FENCE_RADIUS")
    }

    pub(super) fn watch_fence(&mut self) {
        let breaches = self.fence_breaches();
        if breaches == 0 {
            self.breached = false;
            return;
        }
        if std::mem::replace(&mut self.breached, true) {
            return;
        }
        let names = [(FENCE_ALTITUDE, "Max Alt"), (FENCE_CIRCLE, "Circle"), (FENCE_POLYGON, "Polygon")];
        let names: Vec<_> = names.into_iter().filter(|(bit, _)| breaches & bit != 0).map(|(_, name)| name).collect();
        let plural = if names.len() > 1 { "s" } else { "" };
        let text = format!("{} fence{plural} breached", names.join(" and "));
        self.text(MavSeverity::MAV_SEVERITY_NOTICE, &text);
        let far = |bit: u32, metres: f64| breaches & bit != 0 && metres > GIVE_UP_M;
        let far = far(FENCE_ALTITUDE, self.over_ceiling_m()) || far(FENCE_CIRCLE, self.beyond_circle_m());
        match self.params.get("FENCE_ACTION") as u32 {
            0 => {}
            2 => self.failsafe_action(1),
            _ if far => self.failsafe_action(1),
            4 => {
                if !self.ask_mode(Mode::Brake) {
                    self.failsafe_action(1);
                }
            }
            _ => self.failsafe_action(2),
        }
    }

    // ---- the position ----------------------------------------------------------------------------------------------

    pub(super) fn watch_position(&mut self, dt: f64) {
        let estimator = &mut self.estimator;
        if self.body.on_ground() && !self.armed {
            estimator.blind_landing = false;
        }
        if self.faults.gps_lost {
            estimator.lost_s += dt;
            estimator.back_s = 0.0;
        } else {
            estimator.lost_s = 0.0;
            estimator.back_s += dt;
        }
        if estimator.failed {
            if estimator.back_s > REGAINED_S {
                estimator.failed = false;
                // The mode stays LAND, and that landing goes on as it began.
                if self.armed {
                    self.text(MavSeverity::MAV_SEVERITY_CRITICAL, "EKF Failsafe Cleared");
                }
            }
            return;
        }
        if estimator.lost_s <= HOLDS_ON_S + CHECK_S {
            return;
        }
        estimator.failed = true;
        if !self.armed || self.params.get("FS_EKF_THRESH") <= 0.0 {
            return;
        }
        self.text(MavSeverity::MAV_SEVERITY_CRITICAL, "EKF variance: position lost");
        let action = self.params.get("FS_EKF_ACTION") as u32;
        self.estimator.blind_landing = true;
        if self.mode == Mode::Land || (!self.mode.needs_position() && action != 3) {
            return;
        }
        const HOLD_HEIGHT: u32 = 2;
        if action == HOLD_HEIGHT {
            self.ask_mode(Mode::AltHold);
        } else {
            self.land_with_pause();
        }
        let text = format!("EKF Failsafe: changed to {} Mode", self.mode.name());
        self.text(MavSeverity::MAV_SEVERITY_CRITICAL, &text);
    }
}
