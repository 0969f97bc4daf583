//! Pure: may it fly now? Each gate has its limit, its freshness and its reason in words. Unknown is not passed.
//!
//! [`evaluate`] judges what concerns the station, [`evaluate_sortie`] what one sortie needs besides.

mod limits;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::runtime::clock::Trust;
use crate::vehicle::health::Cells;

pub use limits::Limits;

/// A value and how old it is; none when it was never heard.
pub type Aged<T> = Option<(T, Duration)>;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Air {
    pub wind_m_s: f64,
    pub gust_m_s: f64,
    pub rain_mm_h: f64,
    pub temperature_c: f64,
    /// None: the weather station does not measure it.
    pub visibility_m: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DockFacts {
    /// Neither stuck between its switches nor contradicting itself.
    pub hatch_known: bool,
    pub drone_present: Option<bool>,
    /// None: the dock does not tell.
    pub emergency_stop: Option<bool>,
}

/// Why people keep the station on the ground.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Holds {
    /// An operator said: nothing flies for now.
    pub hold: Option<Hold>,
    /// Somebody works at the dock.
    pub maintenance: Option<Hold>,
}

impl Holds {
    /// Which there are, in words.
    pub fn words(&self) -> Option<String> {
        let held = |lock, hold: &Option<Hold>| hold.as_ref().map(|h| format!("{lock}: {}", h.words()));
        let words: Vec<String> =
            [held("maintenance", &self.maintenance), held("hold", &self.hold)].into_iter().flatten().collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

/// Who holds, since when and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    pub by: String,
    pub reason: String,
    pub since: jiff::Timestamp,
}

impl Hold {
    fn words(&self) -> String {
        format!("held by {} since {}: {}", self.by, self.since, self.reason)
    }
}

/// What is known of the station at this moment.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub air: Aged<Air>,
    pub dock: Aged<DockFacts>,
    pub link: Aged<()>,
    pub on_ground_disarmed: Aged<bool>,
    pub battery_pct: Aged<f64>,
    pub cells: Aged<Cells>,
    pub battery_temperature_c: Aged<f64>,
    pub battery_cycles: Aged<u16>,
    /// Satellites, and whether the fix has three dimensions.
    pub satellites: Aged<(u8, bool)>,
    /// Good, or what is wrong with it.
    pub estimator: Aged<Result<(), String>>,
    /// Its own checks let it arm, or what they say. The inner none: the autopilot does not tell before it is asked to arm.
    pub preflight: Aged<Option<Result<(), String>>>,
    /// Good to arm, or why not. None where the configuration does not ask for it.
    pub identification: Option<Aged<Result<(), String>>>,
    pub storage_free_mb: Option<u64>,
    pub clock: Option<Trust>,
    pub holds: Holds,
    pub sun_deg: f64,
}

/// What one sortie needs, and whether it is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Needs {
    pub daylight_only: bool,
    /// Charge that the flight takes, per cent, without the reserve; none when the wind stands against it.
    pub energy_pct: Option<f64>,
    pub reserve_pct: f64,
    /// The approval's reference, or why none covers the flight.
    pub airspace: Result<String, String>,
    /// Whether the geofence contains the route, or what lies outside.
    pub route: Result<(), String>,
}

/// One gate's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    pub gate: String,
    /// None: unknown, which is not passed.
    pub passed: Option<bool>,
    pub reason: String,
}

impl Gate {
    fn new(gate: &str, passed: Option<bool>, reason: impl Into<String>) -> Gate {
        Gate { gate: gate.to_owned(), passed, reason: reason.into() }
    }

    pub fn is_open(&self) -> bool {
        self.passed == Some(true)
    }
}

/// The station's gates, in a fixed order.
pub fn evaluate(facts: &Facts, limits: &Limits) -> Vec<Gate> {
    let mut gates = weather(facts, limits);
    gates.extend(drone(facts, limits));
    gates.extend(station(facts, limits));
    gates
}

/// What this sortie needs besides.
pub fn evaluate_sortie(facts: &Facts, limits: &Limits, needs: &Needs) -> Vec<Gate> {
    let fresh = Duration::from_secs_f64(limits.vehicle_fresh_s);
    let said = |gate, judged: &Result<String, String>| match judged {
        Ok(words) => Gate::new(gate, Some(true), words),
        Err(reason) => Gate::new(gate, Some(false), reason),
    };
    vec![
        if needs.daylight_only {
            let day = facts.sun_deg >= limits.daylight_min_sun_deg;
            let words =
                format!("the sun stands at {:.1}°, {:.1}° is needed", facts.sun_deg, limits.daylight_min_sun_deg);
            Gate::new("daylight", Some(day), words)
        } else {
            let words = format!("this patrol flies by day and night; the sun stands at {:.1}°", facts.sun_deg);
            Gate::new("daylight", Some(true), words)
        },
        match needs.energy_pct {
            None => Gate::new("energy", Some(false), "the drone could make no way against this wind"),
            Some(need) => aged("energy", "the battery", &facts.battery_pct, fresh, |pct| {
                let words =
                    format!("{pct:.0} %, the flight takes {need:.0} % and {:.0} % stay in reserve", needs.reserve_pct);
                (*pct >= need + needs.reserve_pct, words)
            }),
        },
        said("airspace", &needs.airspace.as_ref().map(|r| format!("approved: {r}")).map_err(Clone::clone)),
        said("route", &needs.route.as_ref().map(|()| "inside the geofence".to_owned()).map_err(Clone::clone)),
    ]
}

fn weather(facts: &Facts, limits: &Limits) -> Vec<Gate> {
    let fresh = Duration::from_secs_f64(limits.weather_fresh_s);
    let air =
        |gate, judge: &dyn Fn(&Air) -> (bool, String)| aged(gate, "the weather station", &facts.air, fresh, judge);
    let night = facts.sun_deg < limits.daylight_min_sun_deg;
    let least = if night { limits.visibility_night_m } else { limits.visibility_day_m };
    let when = if night { "by night" } else { "by day" };
    vec![
        air("wind", &|a| below("wind", a.wind_m_s, limits.wind_m_s, "m/s")),
        air("gust", &|a| below("gusts", a.gust_m_s, limits.gust_m_s, "m/s")),
        air("rain", &|a| below("rain", a.rain_mm_h, limits.rain_mm_h, "mm/h")),
        air("temperature", &|a| within("", a.temperature_c, limits.temperature_min_c, limits.temperature_max_c)),
        match (least, &facts.air) {
            (None, _) => Gate::new("visibility", Some(true), format!("not asked for {when}")),
            (Some(_), Some((Air { visibility_m: None, .. }, _))) => Gate::new(
                "visibility",
                None,
                format!("the weather station does not measure it, and it is asked for {when}"),
            ),
            (Some(least), _) => air("visibility", &|a| {
                let seen = a.visibility_m.unwrap_or_default();
                (seen >= least, format!("{seen:.0} m, {least:.0} m is needed {when}"))
            }),
        },
    ]
}

fn drone(facts: &Facts, limits: &Limits) -> Vec<Gate> {
    let fresh = Duration::from_secs_f64(limits.vehicle_fresh_s);
    // Said once in ten seconds or more, and slow to change.
    let seldom = Duration::from_secs_f64(limits.vehicle_fresh_s.max(60.0));
    let judged = |word: &Result<(), String>, good: &str| match word {
        Ok(()) => (true, good.to_owned()),
        Err(reason) => (false, reason.clone()),
    };
    vec![
        aged("link", "the drone", &facts.link, fresh, |()| (true, "the drone is heard".to_owned())),
        aged("on_ground", "the drone's landed state", &facts.on_ground_disarmed, fresh, |down| {
            (*down, if *down { "on the ground and disarmed" } else { "the drone is armed or in the air" }.to_owned())
        }),
        aged("battery", "the battery", &facts.battery_pct, fresh, |pct| {
            (*pct >= limits.battery_pct, format!("{pct:.0} %, {:.0} % is needed", limits.battery_pct))
        }),
        match (limits.cell_min_v, limits.cell_spread_v) {
            (None, None) => Gate::new("cells", Some(true), "not asked for"),
            (least, spread) => aged("cells", "the battery's cells", &facts.cells, fresh, |cells| {
                let good = least.is_none_or(|least| cells.lowest_v >= least)
                    && spread.is_none_or(|most| cells.spread_v <= most);
                let asked =
                    [least.map(|v| format!("{v:.2} V at least")), spread.map(|v| format!("{v:.2} V apart at most"))];
                let asked = asked.into_iter().flatten().collect::<Vec<_>>().join(", ");
                let words = format!(
                    "{} cells, the lowest {:.2} V, {:.2} V apart; asked for: {asked}",
                    cells.count, cells.lowest_v, cells.spread_v
                );
                (good, words)
            }),
        },
        match limits.battery_cycles {
            None => Gate::new("battery_cycles", Some(true), "not asked for"),
            Some(most) => aged("battery_cycles", "the battery's cycles", &facts.battery_cycles, seldom, |cycles| {
                (*cycles <= most, format!("{cycles} charge cycles, {most} at most"))
            }),
        },
        match (limits.battery_temperature_min_c, limits.battery_temperature_max_c) {
            (None, None) => Gate::new("battery_temperature", Some(true), "not asked for"),
            (low, high) => {
                aged("battery_temperature", "the battery's temperature", &facts.battery_temperature_c, fresh, |t| {
                    within("", *t, low.unwrap_or(-90.0), high.unwrap_or(90.0))
                })
            }
        },
        aged("satellites", "the satellite receiver", &facts.satellites, fresh, |(count, fix)| {
            let without = if *fix { "" } else { " without a 3D fix" };
            let words = format!("{count} satellites{without}, {} are needed", limits.satellites);
            (*fix && *count >= limits.satellites, words)
        }),
        aged("estimator", "the drone's estimate of its position", &facts.estimator, fresh, |word| {
            judged(word, "attitude and position are good")
        }),
        aged("preflight", "the autopilot's own checks", &facts.preflight, fresh, |told| match told {
            None => (true, "the autopilot checks itself when it is armed".to_owned()),
            Some(word) => judged(word, "the autopilot is ready to arm"),
        }),
        match &facts.identification {
            None => Gate::new("identification", Some(true), "not asked for"),
            Some(heard) => aged("identification", "the drone's identification", heard, fresh, |word| {
                judged(word, "the drone identifies itself")
            }),
        },
    ]
}

fn station(facts: &Facts, limits: &Limits) -> Vec<Gate> {
    let fresh = Duration::from_secs_f64(limits.vehicle_fresh_s);
    let held = |gate, hold: &Option<Hold>, free: &str| match hold {
        None => Gate::new(gate, Some(true), free),
        Some(hold) => Gate::new(gate, Some(false), hold.words()),
    };
    vec![
        aged("dock", "the dock", &facts.dock, fresh, |dock| match dock {
            DockFacts { emergency_stop: Some(true), .. } => (false, "the emergency stop is pressed".to_owned()),
            DockFacts { hatch_known: false, .. } => (false, "the hatch's position is not known".to_owned()),
            DockFacts { drone_present: Some(false), .. } => (false, "the drone is not in the dock".to_owned()),
            _ => (true, "the dock answers".to_owned()),
        }),
        match facts.storage_free_mb {
            None => Gate::new("storage", None, "the free space of the state directory cannot be read"),
            Some(free) => {
                let words = format!("{free} MB free, {} MB are needed", limits.storage_free_mb);
                Gate::new("storage", Some(free >= limits.storage_free_mb), words)
            }
        },
        match &facts.clock {
            Some(Trust::Synced { by }) => Gate::new("clock", Some(true), format!("agrees with {by}")),
            Some(Trust::Off { seconds }) => {
                let words = format!("the station's clock is {seconds:+.0} s off the drone's satellite time; set it");
                Gate::new("clock", Some(false), words)
            }
            Some(Trust::Stepped { seconds }) => {
                Gate::new("clock", Some(false), format!("the station's clock has just jumped by {seconds:+.0} s"))
            }
            Some(Trust::Unsynced) | None => {
                Gate::new("clock", None, "nothing confirms the station's clock: no satellite time, no time service")
            }
        },
        held("maintenance", &facts.holds.maintenance, "nobody works at the dock"),
        held("hold", &facts.holds.hold, "no operator holds the station"),
    ]
}

/// The gates that are not open, in words; none when all are.
pub fn closed(gates: &[Gate]) -> Option<String> {
    let words: Vec<_> = gates.iter().filter(|g| !g.is_open()).map(|g| format!("{}: {}", g.gate, g.reason)).collect();
    (!words.is_empty()).then(|| words.join("; "))
}

fn below(what: &str, value: f64, limit: f64, unit: &str) -> (bool, String) {
    let passed = value <= limit;
    (passed, format!("{what} {value:.1} {unit}, limit {limit:.1} {unit}"))
}

fn within(what: &str, value: f64, low: f64, high: f64) -> (bool, String) {
    ((low..=high).contains(&value), format!("{what}{value:.0} °C, allowed {low:.0} to {high:.0} °C"))
}

fn aged<T>(gate: &str, source: &str, fact: &Aged<T>, limit: Duration, judge: impl Fn(&T) -> (bool, String)) -> Gate {
    let (passed, reason) = match fact {
        None => (None, format!("{source} has not been heard")),
        Some((_, age)) if *age > limit => (
            None,
            format!("{source} was last heard {:.0} s ago, limit {:.0} s", age.as_secs_f64(), limit.as_secs_f64()),
        ),
        Some((value, _)) => {
            let (passed, reason) = judge(value);
            (Some(passed), reason)
        }
    };
    Gate { gate: gate.to_owned(), passed, reason }
}
