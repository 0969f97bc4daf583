//! `[gates]`: the limits, and which of the optional ones are asked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The limits, `[gates]` in the configuration. A limit that is left out where there is no default is not asked for; one
/// that is asked for and not known keeps the drone on the ground.
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
    /// Least visibility by day, metres. Left out: not asked for.
    pub visibility_day_m: Option<f64>,
    /// Least visibility while the sun is down, metres. Left out: not asked for.
    pub visibility_night_m: Option<f64>,
    /// Charge at take-off, per cent. What the sortie itself needs is reckoned beside it, see `[energy]`.
    pub battery_pct: f64,
    /// Least voltage of a cell before take-off. Left out: not asked for.
    pub cell_min_v: Option<f64>,
    /// Greatest difference between two cells, volts. Left out: not asked for.
    pub cell_spread_v: Option<f64>,
    /// Most charge cycles the battery may have seen. Left out: not asked for.
    pub battery_cycles: Option<u16>,
    /// Coldest battery. Left out: not asked for.
    pub battery_temperature_min_c: Option<f64>,
    /// Hottest battery. Left out: not asked for.
    pub battery_temperature_max_c: Option<f64>,
    pub satellites: u8,
    /// The sun's elevation that still counts as day.
    pub daylight_min_sun_deg: f64,
    /// Free space below `station.state_dir`, megabytes.
    pub storage_free_mb: u64,
    /// How far the station's clock may be off the drone's satellite time, seconds.
    pub clock_tolerance_s: f64,
    /// Weather older than this is unknown, seconds.
    pub weather_fresh_s: f64,
    /// What the drone and the dock say is unknown when older than this, seconds.
    pub vehicle_fresh_s: f64,
    /// In the air, a gate that is red for so long turns the drone round, seconds.
    pub in_flight_red_s: f64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            wind_m_s: 10.0,
            gust_m_s: 14.0,
            rain_mm_h: 0.5,
            temperature_min_c: -5.0,
            temperature_max_c: 42.0,
            visibility_day_m: None,
            visibility_night_m: None,
            battery_pct: 60.0,
            cell_min_v: None,
            cell_spread_v: None,
            battery_cycles: None,
            battery_temperature_min_c: None,
            battery_temperature_max_c: None,
            satellites: 8,
            daylight_min_sun_deg: -4.0,
            storage_free_mb: 500,
            clock_tolerance_s: 5.0,
            weather_fresh_s: 30.0,
            vehicle_fresh_s: 5.0,
            in_flight_red_s: 3.0,
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
        // A share of 0.6 would open the gate for an empty battery.
        check("battery_pct", self.battery_pct, 10.0, 100.0);
        check("daylight_min_sun_deg", self.daylight_min_sun_deg, -18.0, 30.0);
        check("clock_tolerance_s", self.clock_tolerance_s, 0.5, 600.0);
        check("weather_fresh_s", self.weather_fresh_s, 1.0, 3600.0);
        check("vehicle_fresh_s", self.vehicle_fresh_s, 1.0, 60.0);
        check("in_flight_red_s", self.in_flight_red_s, 0.0, 60.0);
        for (key, value, low, high) in [
            ("visibility_day_m", self.visibility_day_m, 0.0, 50_000.0),
            ("visibility_night_m", self.visibility_night_m, 0.0, 50_000.0),
            ("cell_min_v", self.cell_min_v, 2.5, 4.5),
            ("cell_spread_v", self.cell_spread_v, 0.01, 1.0),
            ("battery_temperature_min_c", self.battery_temperature_min_c, -40.0, 60.0),
            ("battery_temperature_max_c", self.battery_temperature_max_c, -20.0, 90.0),
        ] {
            if let Some(value) = value {
                check(key, value, low, high);
            }
        }
        faults
    }
}
