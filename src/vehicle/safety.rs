//! What brings the drone home without us: failsafe parameters, compared, set and proven before a flight.
//!
//! Autopilots protect almost nothing by default: with the ground link lost ArduPilot flies on, and its battery
//! failsafes are off. A drone whose parameters will not stick does not fly.
//!
//! [`profile`] is pure and says what is wanted; [`secure`] reads, compares, sets and reads back. Names and meanings are
//! those of ArduCopter 4.5 (with what 4.7 renamed) and PX4 1.15, from their published parameter references.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::params::{self, Parameter, Sought};
use super::telemetry::Autopilot;
use super::{Config, Vehicle, VehicleError};

/// The `[vehicle.safety]` table: what the drone does when it is left alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SafetyConfig {
    /// Seconds without the station's heartbeat after which the drone returns by itself. PX4 takes no less than 5.
    pub link_loss_s: f64,
    /// The least height above the dock at which the drone returns; above all obstacles around.
    /// Left out: 60 m, or vehicle.max_height_m where that is lower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub return_height_m: Option<f64>,
    /// Charge below which the drone returns by itself.
    pub battery_return_pct: f64,
    /// Charge below which the drone lands where it is.
    pub battery_land_pct: f64,
    /// Voltage below which the drone returns by itself, beside the charge (ArduPilot only). Needed where the drone
    /// measures no current.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub battery_return_v: Option<f64>,
    /// Voltage below which the drone lands where it is (ArduPilot only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub battery_land_v: Option<f64>,
    /// How far beyond vehicle.max_height_m and vehicle.max_distance_m the drone's own cylinder fence stands: a mission
    /// that touches its limit must not break the fence by a gust.
    pub fence_margin_m: f64,
    /// Whether a radio control belongs to the drone. true: its loss brings the drone home. false: the drone does not
    /// wait for one. Left out: as the drone was set up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_control: Option<bool>,
    /// More parameters, or others in place of ours: NAME = value, or NAME = { value = 1, optional = true } where a
    /// firmware without that parameter is fine.
    pub parameters: BTreeMap<String, Wish>,
}

/// A parameter of the site's own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Wish {
    Value(f64),
    Detailed {
        value: f64,
        /// A drone that does not know the parameter may fly.
        #[serde(default)]
        optional: bool,
    },
}

impl Wish {
    fn parts(self) -> (f64, bool) {
        match self {
            Wish::Value(value) => (value, false),
            Wish::Detailed { value, optional } => (value, optional),
        }
    }
}

impl Default for SafetyConfig {
    fn default() -> Self {
        SafetyConfig {
            link_loss_s: 5.0,
            return_height_m: None,
            battery_return_pct: 25.0,
            battery_land_pct: 10.0,
            battery_return_v: None,
            battery_land_v: None,
            fence_margin_m: 10.0,
            remote_control: None,
            parameters: BTreeMap::new(),
        }
    }
}

const DEFAULT_RETURN_HEIGHT_M: f64 = 60.0;

/// With 0 these switch a protection off that no flight over people may lack.
const NEVER_OFF: [&str; 8] = [
    "FS_GCS_ENABLE",
    "BATT_FS_LOW_ACT",
    "BATT_FS_CRT_ACT",
    "FENCE_ENABLE",
    "FENCE_ACTION",
    "NAV_DLL_ACT",
    "COM_LOW_BAT_ACT",
    "GF_ACTION",
];

impl SafetyConfig {
    fn return_height_m(&self, max_height_m: f64) -> f64 {
        self.return_height_m.unwrap_or(DEFAULT_RETURN_HEIGHT_M.min(max_height_m))
    }

    pub(super) fn faults(&self, max_height_m: f64) -> Vec<VehicleError> {
        let mut faults = Vec::new();
        let mut check = |key: &'static str, value: f64, low: f64, high: f64| {
            // NaN is in no range.
            if !(low..=high).contains(&value) {
                faults.push(VehicleError::Value { key, value, low, high });
            }
        };
        check("safety.link_loss_s", self.link_loss_s, 2.0, 120.0);
        // PX4's thresholds of charge begin at 12 and 3 percent.
        check("safety.battery_return_pct", self.battery_return_pct, 12.0, 50.0);
        check("safety.battery_land_pct", self.battery_land_pct, 3.0, self.battery_return_pct.clamp(3.0, 50.0) - 1.0);
        check("safety.fence_margin_m", self.fence_margin_m, 0.0, 100.0);
        if let Some(height) = self.return_height_m {
            check("safety.return_height_m", height, 5.0, max_height_m);
        }
        if let Some(volts) = self.battery_return_v {
            check("safety.battery_return_v", volts, 3.0, 120.0);
        }
        if let Some(volts) = self.battery_land_v {
            check("safety.battery_land_v", volts, 3.0, self.battery_return_v.unwrap_or(120.0));
        }
        for (name, wish) in &self.parameters {
            let (value, _) = wish.parts();
            let mut refuse = |reason: &str| {
                faults.push(VehicleError::Parameter { name: name.clone(), reason: reason.to_owned() });
            };
            let named = (1..=16).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
            if !named {
                refuse("a parameter's name has 1 to 16 capital letters, digits and underscores");
            }
            if !value.is_finite() {
                refuse("its value must be a number");
            }
            if value == 0.0 && NEVER_OFF.contains(&name.as_str()) {
                refuse("0 switches off what brings the drone home without the station; choose another action");
            }
        }
        faults
    }
}

/// A parameter that had another value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    pub name: String,
    pub from: f64,
    pub to: f64,
}

/// One thing that must be so, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The parameter's names in different firmwares, each with how many of its units make one of ours.
    pub names: Vec<(String, f64)>,
    pub want: Want,
    /// A firmware without it is fine.
    pub optional: bool,
    pub why: &'static str,
}

/// What a parameter may be, in our units.
#[derive(Debug, Clone, PartialEq)]
pub enum Want {
    Is(f64),
    /// Any of these is fine; the first is set otherwise.
    OneOf(&'static [f64]),
    /// Anything but 0; this is set otherwise.
    On(f64),
    AtMost(f64),
    Above(f64, f64),
    BitsSet(u32),
    BitsClear(u32),
    /// This share of what another parameter holds.
    Share(&'static str, f64),
    /// None of these, and not ours to set: it describes how the drone is built.
    Built(&'static [f64]),
}

/// What is to be done about a held value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    Fine,
    Set(f64),
    /// Nobody but a person at the drone can change it.
    Unfit,
}

impl Want {
    /// `other`: what the drone holds in another parameter.
    fn judge(&self, held: f64, other: impl Fn(&str) -> Option<f64>) -> Verdict {
        let set_unless = |fine: bool, to: f64| if fine { Verdict::Fine } else { Verdict::Set(to) };
        match *self {
            Want::Is(to) => set_unless(params::close(held, to), to),
            Want::OneOf(values) => {
                let fine = values.iter().any(|value| params::close(held, *value));
                values.first().map_or(Verdict::Unfit, |first| set_unless(fine, *first))
            }
            Want::On(to) => set_unless(held != 0.0, to),
            Want::AtMost(to) => set_unless(held <= to, to),
            Want::Above(low, to) => set_unless(held > low, to),
            Want::BitsSet(mask) => {
                bits(held).map_or(Verdict::Unfit, |b| set_unless(b & mask == mask, f64::from(b | mask)))
            }
            Want::BitsClear(mask) => {
                bits(held).map_or(Verdict::Unfit, |b| set_unless(b & mask == 0, f64::from(b & !mask)))
            }
            Want::Share(of, share) => match other(of) {
                Some(whole) if whole > 0.0 => {
                    let to = (whole * share).round();
                    set_unless(params::close(held, to), to)
                }
                _ => Verdict::Unfit,
            },
            Want::Built(unfit) => {
                if unfit.iter().any(|value| params::close(held, *value)) {
                    Verdict::Unfit
                } else {
                    Verdict::Fine
                }
            }
        }
    }

    /// In words, for a refusal.
    fn wanted(&self) -> String {
        match self {
            Want::Built(unfit) => format!("anything but {unfit:?}"),
            Want::Share(of, share) => format!("{:.0} % of {of}, which is 0 or unknown", share * 100.0),
            other => format!("{other:?}"),
        }
    }
}

fn bits(held: f64) -> Option<u32> {
    // Bit masks come as signed or unsigned 32-bit numbers.
    if held.fract() != 0.0 || !(f64::from(i32::MIN)..=f64::from(u32::MAX)).contains(&held) {
        return None;
    }
    Some(held as i64 as u32)
}

/// What every flight needs, by autopilot and site. Empty for an autopilot that is not known.
pub fn profile(autopilot: Autopilot, config: &Config) -> Vec<Rule> {
    let mut rules = match autopilot {
        Autopilot::ArduPilot => ardupilot(config),
        Autopilot::Px4 => px4(config),
        Autopilot::Other(_) => return Vec::new(),
    };
    for (name, wish) in &config.safety.parameters {
        let (value, optional) = wish.parts();
        rules.retain(|rule| rule.names.iter().all(|(known, _)| known != name));
        rules.push(Rule {
            names: vec![(name.clone(), 1.0)],
            want: Want::Is(value),
            optional,
            why: "it stands in vehicle.safety.parameters",
        });
    }
    rules
}

fn must(name: &str, want: Want, why: &'static str) -> Rule {
    Rule { names: vec![(name.to_owned(), 1.0)], want, optional: false, why }
}

fn may(name: &str, want: Want, why: &'static str) -> Rule {
    Rule { optional: true, ..must(name, want, why) }
}

fn renamed(names: &[(&str, f64)], want: Want, why: &'static str) -> Rule {
    let names = names.iter().map(|(name, scale)| ((*name).to_owned(), *scale)).collect();
    Rule { names, want, optional: false, why }
}

fn ardupilot(config: &Config) -> Vec<Rule> {
    let safety = &config.safety;
    let (low, critical) = (safety.battery_return_pct / 100.0, safety.battery_land_pct / 100.0);
    const LINK: &str = "a drone that lost the station must come home";
    const BATTERY: &str =
        "a low battery must bring the drone home, an empty one down; an action without its threshold never fires";
    const FENCE: &str = "outside of its bounds the drone must come home";
    const RETURN: &str = "the return must clear what stands around and end on the ground at the dock";
    const CHECKS: &str = "the drone must look after itself";
    const RADIO: &str = "vehicle.safety.remote_control says so";
    const CENTIMETRES: f64 = 100.0;
    // Monitors that measure no current count no charge.
    let monitors: &[f64] = if safety.battery_return_v.is_some() { &[0.0] } else { &[0.0, 3.0] };
    let mut rules = vec![
        // Only heartbeats of this system count for the link-loss failsafe.
        renamed(&[("SYSID_MYGCS", 1.0), ("MAV_GCS_SYSID", 1.0)], Want::Is(f64::from(config.system_id)), LINK),
        must("FS_GCS_TIMEOUT", Want::Is(safety.link_loss_s), LINK),
        // 1: return.
        must("FS_GCS_ENABLE", Want::Is(1.0), LINK),
        // Bits 0 and 1: go on with the mission after loss of radio or station. Bit 4, set as shipped: go on in
        // modes that count as a pilot's, which in some versions is true of BRAKE, in which we hold.
        must("FS_OPTIONS", Want::BitsClear(0b1_0011), LINK),
        must("BATT_MONITOR", Want::Built(monitors), "a battery that is not measured cannot be low"),
        must("BATT_LOW_MAH", Want::Share("BATT_CAPACITY", low), BATTERY),
        must("BATT_CRT_MAH", Want::Share("BATT_CAPACITY", critical), BATTERY),
        may("BATT_LOW_TIMER", Want::On(10.0), BATTERY),
        // 2: return, 1: land.
        must("BATT_FS_LOW_ACT", Want::Is(2.0), BATTERY),
        must("BATT_FS_CRT_ACT", Want::Is(1.0), BATTERY),
        must("FENCE_ALT_MAX", Want::Is(config.max_height_m + safety.fence_margin_m), FENCE),
        must("FENCE_RADIUS", Want::Is(config.max_distance_m + safety.fence_margin_m), FENCE),
        must("FENCE_MARGIN", Want::AtMost(safety.fence_margin_m.max(1.0)), FENCE),
        // Bits: height, circle about home, polygons and circles of the mission's fence.
        must("FENCE_TYPE", Want::BitsSet(0b111), FENCE),
        // 1: return, or land where that cannot be.
        must("FENCE_ACTION", Want::Is(1.0), FENCE),
        must("FENCE_ENABLE", Want::Is(1.0), FENCE),
        renamed(
            &[("RTL_ALT", CENTIMETRES), ("RTL_ALT_M", 1.0)],
            Want::Is(safety.return_height_m(config.max_height_m)),
            RETURN,
        ),
        renamed(&[("RTL_ALT_FINAL", CENTIMETRES), ("RTL_ALT_FINAL_M", 1.0)], Want::Is(0.0), RETURN),
        // 0: above home. The other is above terrain, which the drone may not know.
        may("RTL_ALT_TYPE", Want::Is(0.0), RETURN),
        // Near home it would return lower than that: steeply for ArduPilot, at 45 degrees for PX4. 0: no such cone.
        may("RTL_CONE_SLOPE", Want::Is(0.0), RETURN),
        // Should a rally point appear after ours were cleared: home counts among them, and far ones do not.
        may("RALLY_INCL_HOME", Want::Is(1.0), RETURN),
        may("RALLY_LIMIT_KM", Want::On(0.3), RETURN),
        // 1: land where the position is lost, 3: in every mode.
        must("FS_EKF_ACTION", Want::OneOf(&[1.0, 3.0]), CHECKS),
        must("FS_EKF_THRESH", Want::Above(0.0, 0.8), CHECKS),
        may("FS_CRASH_CHECK", Want::On(1.0), CHECKS),
        // Renamed and inverted in 4.7.
        may("ARMING_CHECK", Want::On(1.0), CHECKS),
        may("DISARM_DELAY", Want::On(10.0), CHECKS),
    ];
    if let Some(volts) = safety.battery_return_v {
        rules.push(must("BATT_LOW_VOLT", Want::Is(volts), BATTERY));
        // Without a measured current the capacity may be unknown: the voltages alone decide.
        for rule in &mut rules {
            rule.optional |= matches!(rule.want, Want::Share(..));
        }
    }
    if let Some(volts) = safety.battery_land_v {
        rules.push(must("BATT_CRT_VOLT", Want::Is(volts), BATTERY));
    }
    match safety.remote_control {
        // 1: return.
        Some(true) => rules.push(must("FS_THR_ENABLE", Want::Is(1.0), RADIO)),
        Some(false) => rules.push(must("FS_THR_ENABLE", Want::Is(0.0), RADIO)),
        None => {}
    }
    rules
}

fn px4(config: &Config) -> Vec<Rule> {
    let safety = &config.safety;
    const LINK: &str = "a drone that lost the station must come home";
    const BATTERY: &str = "a low battery must bring the drone home, an empty one down";
    const FENCE: &str = "outside of its bounds the drone must come home";
    const RETURN: &str = "the return must clear what stands around and end on the ground at the dock";
    const RADIO: &str = "vehicle.safety.remote_control says so";
    let return_height_m = safety.return_height_m(config.max_height_m);
    let mut rules = vec![
        // Whole seconds, 5 at least.
        must("COM_DL_LOSS_T", Want::Is(safety.link_loss_s.ceil().max(5.0)), LINK),
        // 2: return.
        must("NAV_DLL_ACT", Want::Is(2.0), LINK),
        // Bits 0 and 1: missions and holding go on without the station. Not in every version.
        may("COM_DLL_EXCEPT", Want::BitsClear(0b11), LINK),
        // It holds for so long before it acts on any of these.
        may("COM_FAIL_ACT_T", Want::AtMost(5.0), LINK),
        // Low warns, critical returns, emergency lands: that is what action 3 means.
        must("BAT_LOW_THR", Want::Is((safety.battery_return_pct + 5.0).min(50.0) / 100.0), BATTERY),
        must("BAT_CRIT_THR", Want::Is(safety.battery_return_pct / 100.0), BATTERY),
        must("BAT_EMERGEN_THR", Want::Is(safety.battery_land_pct / 100.0), BATTERY),
        must("COM_LOW_BAT_ACT", Want::Is(3.0), BATTERY),
        must("GF_MAX_HOR_DIST", Want::Is(config.max_distance_m + safety.fence_margin_m), FENCE),
        must("GF_MAX_VER_DIST", Want::Is(config.max_height_m + safety.fence_margin_m), FENCE),
        // 3: return.
        must("GF_ACTION", Want::Is(3.0), FENCE),
        // Its own reference calls this experimental and known for flyaways.
        may("GF_PREDICT", Want::Is(0.0), FENCE),
        // 0: straight to home (or to a rally point, of which there are none).
        must("RTL_TYPE", Want::Is(0.0), RETURN),
        must("RTL_RETURN_ALT", Want::Is(return_height_m), RETURN),
        must("RTL_CONE_ANG", Want::Is(0.0), RETURN),
        must("RTL_DESCEND_ALT", Want::AtMost(return_height_m.min(30.0)), RETURN),
        // −1 would hold above the dock until the battery is empty.
        must("RTL_LAND_DELAY", Want::Is(0.0), RETURN),
        // 0 or less would leave it armed on the ground, and the dock open.
        may("COM_DISARM_LAND", Want::Above(0.0, 2.0), RETURN),
    ];
    match safety.remote_control {
        Some(true) => {
            rules.push(must("COM_RC_IN_MODE", Want::OneOf(&[0.0, 2.0, 3.0]), RADIO));
            rules.push(must("NAV_RCL_ACT", Want::Is(2.0), RADIO));
        }
        // 4: no stick input, and none missed.
        Some(false) => rules.push(must("COM_RC_IN_MODE", Want::Is(4.0), RADIO)),
        None => {}
    }
    rules
}

/// What differs between the wanted and the held, each with the parameter's own units.
fn compare(rules: &[Rule], held: &BTreeMap<String, Parameter>) -> Result<Vec<Change>, VehicleError> {
    let value = |name: &str| held.get(name).map(|parameter| parameter.value);
    let mut changes = Vec::new();
    for rule in rules {
        let known = rule.names.iter().find_map(|(name, scale)| Some((name, *scale, value(name)?)));
        let Some((name, scale, from)) = known else {
            let names: Vec<&str> = rule.names.iter().map(|(name, _)| name.as_str()).collect();
            let name = names.join(" or ");
            if rule.optional {
                tracing::info!(%name, "this firmware has no such parameter; it is not needed");
                continue;
            }
            return Err(VehicleError::ParameterMissing { name, why: rule.why });
        };
        match rule.want.judge(from / scale, value) {
            Verdict::Fine => {}
            Verdict::Set(to) => changes.push(Change { name: name.clone(), from, to: to * scale }),
            Verdict::Unfit if rule.optional => {
                tracing::info!(%name, held = from, "cannot be judged; it is not needed");
            }
            Verdict::Unfit => {
                return Err(VehicleError::ParameterUnfit {
                    name: name.clone(),
                    held: from,
                    wanted: rule.want.wanted(),
                    why: rule.why,
                });
            }
        }
    }
    Ok(changes)
}

/// Reads what the profile names and says what differs. Changes nothing.
pub(super) async fn differences(vehicle: &Vehicle) -> Result<Vec<Change>, VehicleError> {
    let autopilot = vehicle.autopilot()?;
    let rules = profile(autopilot, &vehicle.shared.config);
    if rules.is_empty() {
        return Err(VehicleError::Unsupported {
            command: "failsafe parameters".to_owned(),
            autopilot: Some(autopilot),
        });
    }
    let mut sought: Vec<Sought<'_>> = rules
        .iter()
        .map(|rule| Sought {
            names: rule.names.iter().map(|(name, _)| name.as_str()).collect(),
            optional: rule.optional,
        })
        .collect();
    for rule in &rules {
        if let Want::Share(of, _) = rule.want {
            sought.push(Sought { names: vec![of], optional: rule.optional });
        }
    }
    let held = params::read_all(&vehicle.shared, &sought).await?;
    compare(&rules, &held)
}

pub(super) async fn secure(vehicle: &Vehicle) -> Result<Vec<Change>, VehicleError> {
    let changes = differences(vehicle).await?;
    if changes.is_empty() {
        return Ok(changes);
    }
    // Failsafes are not changed under a flying drone. Unknown is not "on the ground".
    let armed = vehicle.shared.telemetry.borrow().armed;
    if armed != Some(false) {
        return Err(VehicleError::UnsafeWhileArmed { differences: in_words(&changes) });
    }
    for Change { name, from, to } in &changes {
        params::set(&vehicle.shared, name, *to).await?;
        tracing::info!(%name, from, to, "failsafe parameter set");
    }
    // Once more as a whole: a parameter may have changed another one.
    let left = differences(vehicle).await?;
    match left.into_iter().next() {
        None => Ok(changes),
        Some(Change { name, from, to }) => Err(VehicleError::ParameterNotKept { name, wanted: to, held: from }),
    }
}

fn in_words(changes: &[Change]) -> String {
    let words: Vec<String> = changes.iter().map(|c| format!("{} is {}, wanted {}", c.name, c.from, c.to)).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(values: &[(&str, f64)]) -> BTreeMap<String, Parameter> {
        values.iter().map(|(name, value)| ((*name).to_owned(), Parameter::at(*value))).collect()
    }

    /// What a drone holds that fulfils every rule.
    fn fulfilled(rules: &[Rule]) -> BTreeMap<String, Parameter> {
        let mut all = held(&[("BATT_CAPACITY", 8000.0)]);
        for rule in rules {
            let (name, scale) = &rule.names[0];
            let value = match rule.want {
                Want::Is(v) | Want::On(v) | Want::AtMost(v) | Want::Above(_, v) => v,
                Want::OneOf(values) => values[0],
                Want::BitsSet(mask) => f64::from(mask),
                Want::BitsClear(_) => 0.0,
                Want::Share(_, share) => 8000.0 * share,
                Want::Built(_) => 4.0,
            };
            all.insert(name.clone(), Parameter::at(value * scale));
        }
        all
    }

    #[test]
    fn every_protection_that_is_off_is_found_on_both_autopilots() {
        let config = Config::at("udpin:0.0.0.0:14550");
        for (autopilot, off) in [
            (
                Autopilot::ArduPilot,
                vec![
                    ("SYSID_MYGCS", 254.0),
                    ("FS_GCS_ENABLE", 0.0),
                    ("FS_GCS_TIMEOUT", 60.0),
                    // "Go on in auto mode" after loss of the station, and as shipped.
                    ("FS_OPTIONS", 2.0),
                    ("FS_OPTIONS", 16.0),
                    ("FS_EKF_ACTION", 0.0),
                    ("BATT_LOW_MAH", 0.0),
                    ("BATT_CRT_MAH", 0.0),
                    ("BATT_FS_LOW_ACT", 0.0),
                    ("BATT_FS_CRT_ACT", 0.0),
                    ("FENCE_ENABLE", 0.0),
                    ("FENCE_ACTION", 0.0),
                    ("FENCE_TYPE", 3.0),
                    ("FENCE_ALT_MAX", 1000.0),
                    ("FENCE_RADIUS", 9000.0),
                    ("RTL_ALT", 1500.0),
                    ("RTL_ALT_FINAL", 500.0),
                    ("RTL_CONE_SLOPE", 3.0),
                ],
            ),
            (
                Autopilot::Px4,
                vec![
                    ("NAV_DLL_ACT", 0.0),
                    ("COM_DL_LOSS_T", 100.0),
                    ("COM_FAIL_ACT_T", 25.0),
                    ("COM_LOW_BAT_ACT", 0.0),
                    ("BAT_LOW_THR", 0.15),
                    ("BAT_CRIT_THR", 0.07),
                    ("BAT_EMERGEN_THR", 0.05),
                    ("GF_ACTION", 2.0),
                    ("GF_MAX_HOR_DIST", 0.0),
                    ("GF_MAX_VER_DIST", 0.0),
                    ("RTL_TYPE", 1.0),
                    ("RTL_RETURN_ALT", 10.0),
                    ("RTL_CONE_ANG", 45.0),
                    ("RTL_LAND_DELAY", -1.0),
                ],
            ),
        ] {
            let rules = profile(autopilot, &config);
            assert_eq!(compare(&rules, &fulfilled(&rules)).unwrap(), []);
            for (name, value) in off {
                let mut drone = fulfilled(&rules);
                drone.insert(name.to_owned(), Parameter::at(value));
                let changes = compare(&rules, &drone).unwrap();
                assert_eq!(changes.len(), 1, "{name}");
                assert_eq!((changes[0].name.as_str(), changes[0].from), (name, value));
                // What is set then is what was wanted.
                drone.insert(name.to_owned(), Parameter::at(changes[0].to));
                assert_eq!(compare(&rules, &drone).unwrap(), [], "{name}");
            }
        }
    }

    #[test]
    fn a_firmware_that_renamed_a_parameter_is_held_to_the_same_in_its_own_units() {
        let config = Config { system_id: 250, ..Config::at("udpin:0.0.0.0:14550") };
        let rules = profile(Autopilot::ArduPilot, &config);
        let mut drone = fulfilled(&rules);
        for old in ["SYSID_MYGCS", "RTL_ALT", "RTL_ALT_FINAL", "ARMING_CHECK"] {
            drone.remove(old);
        }
        drone.extend(held(&[("MAV_GCS_SYSID", 255.0), ("RTL_ALT_M", 15.0), ("RTL_ALT_FINAL_M", 0.0)]));
        let changes = compare(&rules, &drone).unwrap();
        let set: Vec<_> = changes.iter().map(|c| (c.name.as_str(), c.to)).collect();
        assert_eq!(set, [("MAV_GCS_SYSID", 250.0), ("RTL_ALT_M", 60.0)]);
    }

    #[test]
    fn a_drone_that_cannot_be_protected_is_refused_with_the_reason() {
        let mut config = Config::at("udpin:0.0.0.0:14550");
        let rules = profile(Autopilot::ArduPilot, &config);
        let refused = |name: &str, value: Option<f64>| {
            let mut drone = fulfilled(&rules);
            match value {
                Some(value) => drone.insert(name.to_owned(), Parameter::at(value)),
                None => drone.remove(name),
            };
            compare(&rules, &drone).unwrap_err().to_string()
        };
        let error = refused("BATT_MONITOR", Some(0.0));
        assert!(error.contains("BATT_MONITOR") && error.contains("holds 0"), "{error}");
        // Measures no current, so no charge.
        assert!(refused("BATT_MONITOR", Some(3.0)).contains("BATT_MONITOR"));
        let error = refused("BATT_CAPACITY", Some(0.0));
        assert!(error.contains("BATT_LOW_MAH") && error.contains("BATT_CAPACITY"), "{error}");
        let error = refused("FS_GCS_ENABLE", None);
        assert!(error.contains("FS_GCS_ENABLE") && error.contains("come home"), "{error}");
        // With voltages given, such a drone can be protected.
        config.safety.battery_return_v = Some(21.6);
        config.safety.battery_land_v = Some(20.4);
        let rules = profile(Autopilot::ArduPilot, &config);
        let mut drone = fulfilled(&rules);
        drone.extend(held(&[("BATT_MONITOR", 3.0), ("BATT_CAPACITY", 0.0), ("BATT_LOW_VOLT", 10.5)]));
        let changes = compare(&rules, &drone).unwrap();
        assert_eq!(changes, [Change { name: "BATT_LOW_VOLT".to_owned(), from: 10.5, to: 21.6 }]);
    }

    #[test]
    fn the_site_may_add_and_replace_but_not_switch_a_protection_off() {
        let mut config = Config::at("udpin:0.0.0.0:14550");
        // Land where it is in place of returning; a compass check that only some firmwares have.
        config.safety.parameters.insert("FS_GCS_ENABLE".to_owned(), Wish::Value(5.0));
        config.safety.parameters.insert("FS_DR_ENABLE".to_owned(), Wish::Detailed { value: 1.0, optional: true });
        assert!(config.faults().is_empty());
        let rules = profile(Autopilot::ArduPilot, &config);
        let mut drone = fulfilled(&rules);
        drone.remove("FS_DR_ENABLE");
        drone.insert("FS_GCS_ENABLE".to_owned(), Parameter::at(1.0));
        let changes = compare(&rules, &drone).unwrap();
        assert_eq!(changes, [Change { name: "FS_GCS_ENABLE".to_owned(), from: 1.0, to: 5.0 }]);
        config.safety.parameters.insert("FENCE_ENABLE".to_owned(), Wish::Value(0.0));
        config.safety.parameters.insert("lower".to_owned(), Wish::Value(f64::NAN));
        config.safety.return_height_m = Some(500.0);
        let faults: Vec<String> = config.faults().iter().map(ToString::to_string).collect();
        assert_eq!(faults.len(), 4, "{faults:?}");
        assert!(faults[0].contains("vehicle.safety.return_height_m = 500"), "{faults:?}");
        assert!(faults[1].contains("vehicle.safety.parameters.FENCE_ENABLE"), "{faults:?}");
    }

    #[test]
    fn the_table_reads_as_it_is_documented() {
        let text =
            "battery_return_pct = 30\n[parameters]\nFS_DR_ENABLE = { value = 1, optional = true }\nWP_YAW_BEHAVIOR = 1";
        let table: SafetyConfig = toml::from_str(text).unwrap();
        assert_eq!(table.battery_return_pct, 30.0);
        assert_eq!(table.parameters["WP_YAW_BEHAVIOR"].parts(), (1.0, false));
        assert_eq!(table.parameters["FS_DR_ENABLE"].parts(), (1.0, true));
        assert!(toml::from_str::<SafetyConfig>("battery_retrun_pct = 30").is_err());
    }
}
