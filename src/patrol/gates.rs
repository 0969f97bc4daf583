//! Pure: may it fly now? Each gate has its limit, its freshness and its reason in words. Unknown is not passed.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The limits, `[gates]` in the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Mean wind, metres per second.
    pub wind_m_s: f64,
    pub gust_m_s: f64,
    /// Millimetres per hour.
    pub rain_mm_h: f64,
    pub temperature_min_c: f64,
    pub temperature_max_c: f64,
    /// Charge at take-off, per cent.
    pub battery_pct: f64,
    pub satellites: u8,
    /// The sun's elevation that still counts as day.
    pub daylight_min_sun_deg: f64,
    /// Weather older than this is unknown, seconds.
    pub weather_fresh_s: f64,
    /// What the drone and the dock say is unknown when older than this, seconds.
    pub vehicle_fresh_s: f64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            wind_m_s: 10.0,
            gust_m_s: 14.0,
            rain_mm_h: 0.5,
            temperature_min_c: -5.0,
            temperature_max_c: 42.0,
            battery_pct: 60.0,
            satellites: 8,
            daylight_min_sun_deg: -4.0,
            weather_fresh_s: 30.0,
            vehicle_fresh_s: 5.0,
        }
    }
}

impl Limits {
    /// Every limit that makes no sense: (key, fault).
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut check = |key, value: f64, low: f64, high: f64| {
            if !(low..=high).contains(&value) {
                faults.push((key, format!("{value} is out of range, expected {low} to {high}")));
            }
        };
        check("wind_m_s", self.wind_m_s, 0.0, 30.0);
        check("gust_m_s", self.gust_m_s, 0.0, 40.0);
        check("rain_mm_h", self.rain_mm_h, 0.0, 100.0);
        check("temperature_min_c", self.temperature_min_c, -60.0, 60.0);
        check("temperature_max_c", self.temperature_max_c, self.temperature_min_c, 80.0);
        check("battery_pct", self.battery_pct, 0.0, 100.0);
        check("daylight_min_sun_deg", self.daylight_min_sun_deg, -18.0, 30.0);
        check("weather_fresh_s", self.weather_fresh_s, 1.0, 3600.0);
        check("vehicle_fresh_s", self.vehicle_fresh_s, 1.0, 60.0);
        faults
    }
}

/// A value and how old it is; none when it was never heard.
pub type Aged<T> = Option<(T, Duration)>;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Air {
    pub wind_m_s: f64,
    pub gust_m_s: f64,
    pub rain_mm_h: f64,
    pub temperature_c: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DockFacts {
    /// Neither stuck between its switches nor contradicting itself.
    pub hatch_known: bool,
    pub drone_present: Option<bool>,
}

/// What is known at this moment.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub air: Aged<Air>,
    pub dock: Aged<DockFacts>,
    pub link: Aged<()>,
    pub on_ground_disarmed: Aged<bool>,
    pub battery_pct: Aged<f64>,
    /// Satellites, and whether the fix has three dimensions.
    pub satellites: Aged<(u8, bool)>,
    pub sun_deg: f64,
    /// Whether this patrol flies by day only.
    pub daylight_only: bool,
    /// The configuration's faults, where it has any: nothing flies on a bad one.
    pub config_faults: usize,
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
    pub fn is_open(&self) -> bool {
        self.passed == Some(true)
    }
}

/// Every gate's answer, in a fixed order.
pub fn evaluate(facts: &Facts, limits: &Limits) -> Vec<Gate> {
    let weather = Duration::from_secs_f64(limits.weather_fresh_s);
    let vehicle = Duration::from_secs_f64(limits.vehicle_fresh_s);
    let air =
        |gate, judge: &dyn Fn(&Air) -> (bool, String)| aged(gate, "the weather station", &facts.air, weather, judge);
    vec![
        Gate {
            gate: "configuration".to_owned(),
            passed: Some(facts.config_faults == 0),
            reason: match facts.config_faults {
                0 => "the configuration has no faults".to_owned(),
                n => format!("the configuration has {n} faults; `aerie config check` names them"),
            },
        },
        air("wind", &|a| below("wind", a.wind_m_s, limits.wind_m_s, "m/s")),
        air("gust", &|a| below("gusts", a.gust_m_s, limits.gust_m_s, "m/s")),
        air("rain", &|a| below("rain", a.rain_mm_h, limits.rain_mm_h, "mm/h")),
        air("temperature", &|a| {
            let (low, high) = (limits.temperature_min_c, limits.temperature_max_c);
            let words = format!("{:.0} °C, allowed {low:.0} to {high:.0} °C", a.temperature_c);
            (a.temperature_c >= low && a.temperature_c <= high, words)
        }),
        Gate {
            gate: "daylight".to_owned(),
            passed: Some(!facts.daylight_only || facts.sun_deg >= limits.daylight_min_sun_deg),
            reason: if facts.daylight_only {
                format!("the sun stands at {:.1}°, {:.1}° is needed", facts.sun_deg, limits.daylight_min_sun_deg)
            } else {
                format!("this patrol flies by day and night; the sun stands at {:.1}°", facts.sun_deg)
            },
        },
        aged("link", "the drone", &facts.link, vehicle, |()| (true, "the drone is heard".to_owned())),
        aged("on_ground", "the drone's landed state", &facts.on_ground_disarmed, vehicle, |down| {
            (*down, if *down { "on the ground and disarmed" } else { "the drone is armed or in the air" }.to_owned())
        }),
        aged("battery", "the battery", &facts.battery_pct, vehicle, |pct| {
            (*pct >= limits.battery_pct, format!("{pct:.0} %, {:.0} % is needed", limits.battery_pct))
        }),
        aged("satellites", "the satellite receiver", &facts.satellites, vehicle, |(count, fix)| {
            let words = format!(
                "{count} satellites{}, {} are needed",
                if *fix { "" } else { " without a 3D fix" },
                limits.satellites
            );
            (*fix && *count >= limits.satellites, words)
        }),
        aged("dock", "the dock", &facts.dock, vehicle, |dock| match dock {
            DockFacts { hatch_known: false, .. } => (false, "the hatch's position is not known".to_owned()),
            DockFacts { drone_present: Some(false), .. } => (false, "the drone is not in the dock".to_owned()),
            _ => (true, "the dock answers".to_owned()),
        }),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh<T>(value: T) -> Aged<T> {
        Some((value, Duration::from_millis(500)))
    }

    fn green() -> Facts {
        Facts {
            air: fresh(Air { wind_m_s: 3.0, gust_m_s: 5.0, rain_mm_h: 0.0, temperature_c: 25.0 }),
            dock: fresh(DockFacts { hatch_known: true, drone_present: Some(true) }),
            link: fresh(()),
            on_ground_disarmed: fresh(true),
            battery_pct: fresh(95.0),
            satellites: fresh((14, true)),
            sun_deg: 30.0,
            daylight_only: true,
            config_faults: 0,
        }
    }

    fn closed_gates(facts: &Facts) -> Vec<(String, Option<bool>)> {
        let gates = evaluate(facts, &Limits::default());
        gates.into_iter().filter(|g| !g.is_open()).map(|g| (g.gate, g.passed)).collect()
    }

    #[test]
    fn all_green_is_open() {
        assert_eq!(closed(&evaluate(&green(), &Limits::default())), None);
    }

    #[test]
    fn each_red_fact_closes_its_own_gate() {
        let air = |change: &dyn Fn(&mut Air)| {
            let mut air = Air { wind_m_s: 3.0, gust_m_s: 5.0, rain_mm_h: 0.0, temperature_c: 25.0 };
            change(&mut air);
            Facts { air: fresh(air), ..green() }
        };
        let table = [
            ("wind", air(&|a| a.wind_m_s = 10.1)),
            ("gust", air(&|a| a.gust_m_s = 14.1)),
            ("rain", air(&|a| a.rain_mm_h = 0.6)),
            ("temperature", air(&|a| a.temperature_c = 43.0)),
            ("temperature", air(&|a| a.temperature_c = f64::NAN)),
            ("wind", air(&|a| a.wind_m_s = f64::NAN)),
            ("daylight", Facts { sun_deg: -5.0, ..green() }),
            ("on_ground", Facts { on_ground_disarmed: fresh(false), ..green() }),
            ("battery", Facts { battery_pct: fresh(59.0), ..green() }),
            ("satellites", Facts { satellites: fresh((7, true)), ..green() }),
            ("satellites", Facts { satellites: fresh((14, false)), ..green() }),
            ("dock", Facts { dock: fresh(DockFacts { hatch_known: false, drone_present: Some(true) }), ..green() }),
            ("dock", Facts { dock: fresh(DockFacts { hatch_known: true, drone_present: Some(false) }), ..green() }),
            ("configuration", Facts { config_faults: 2, ..green() }),
        ];
        for (gate, facts) in table {
            assert_eq!(closed_gates(&facts), [(gate.to_owned(), Some(false))]);
        }
    }

    #[test]
    fn stale_and_never_heard_are_unknown_and_unknown_is_not_passed() {
        fn old<T>(value: T) -> Aged<T> {
            Some((value, Duration::from_secs(31)))
        }
        let air = Air { wind_m_s: 3.0, gust_m_s: 5.0, rain_mm_h: 0.0, temperature_c: 25.0 };
        let dock = DockFacts { hatch_known: true, drone_present: Some(true) };
        let table: [(&[&str], Facts, Facts); 6] = [
            (
                &["wind", "gust", "rain", "temperature"],
                Facts { air: old(air), ..green() },
                Facts { air: None, ..green() },
            ),
            (&["link"], Facts { link: old(()), ..green() }, Facts { link: None, ..green() }),
            (
                &["on_ground"],
                Facts { on_ground_disarmed: old(true), ..green() },
                Facts { on_ground_disarmed: None, ..green() },
            ),
            (&["battery"], Facts { battery_pct: old(95.0), ..green() }, Facts { battery_pct: None, ..green() }),
            (&["satellites"], Facts { satellites: old((14, true)), ..green() }, Facts { satellites: None, ..green() }),
            (&["dock"], Facts { dock: old(dock), ..green() }, Facts { dock: None, ..green() }),
        ];
        for (gates, stale, unknown) in table {
            let wanted: Vec<_> = gates.iter().map(|g| ((*g).to_owned(), None)).collect();
            assert_eq!(closed_gates(&stale), wanted);
            assert_eq!(closed_gates(&unknown), wanted);
        }
    }
}
