//! Pure: what a flight costs the battery, before it and while it is under way.
//!
//! A multirotor draws about as much in a hover as at a patrol's speed, so the cost is reckoned in seconds of flight:
//! before the flight by the endurance that the configuration states, in the air by what this sortie has drawn so far.
//! All seconds are the drone's own, so that a simulation that runs faster than the world is no different.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::geo::{LatLon, distance_m};

/// `[energy]`: what the drone can do on one battery.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EnergyConfig {
    /// Minutes in the air from full to empty, in calm air with all that it carries.
    pub endurance_min: f64,
    /// Per cent of the charge that must be left on landing.
    pub reserve_pct: f64,
    /// The fastest it can fly through the air; wind is reckoned against it.
    pub max_airspeed_m_s: f64,
    pub climb_m_s: f64,
    pub descent_m_s: f64,
}

impl Default for EnergyConfig {
    fn default() -> EnergyConfig {
        EnergyConfig {
            endurance_min: 25.0,
            reserve_pct: 20.0,
            max_airspeed_m_s: 15.0,
            climb_m_s: 2.5,
            descent_m_s: 1.5,
        }
    }
}

impl EnergyConfig {
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        [
            ("endurance_min", self.endurance_min, 2.0, 600.0),
            ("reserve_pct", self.reserve_pct, 5.0, 60.0),
            ("max_airspeed_m_s", self.max_airspeed_m_s, 3.0, 60.0),
            ("climb_m_s", self.climb_m_s, 0.3, 15.0),
            ("descent_m_s", self.descent_m_s, 0.3, 15.0),
        ]
        .into_iter()
        .filter(|(_, value, low, high)| !(low..=high).contains(&value))
        .map(|(key, value, low, high)| (key, format!("{value} is out of range, expected {low} to {high}")))
        .collect()
    }

    /// Per cent a second by the stated endurance.
    pub fn stated_rate(&self) -> f64 {
        100.0 / (self.endurance_min * 60.0)
    }

    /// The least speed over ground that can be counted on: the wind may stand against every leg. None when the drone
    /// could not make way against it.
    pub fn ground_speed(&self, wanted_m_s: f64, wind_m_s: f64) -> Option<f64> {
        let speed = wanted_m_s.min(self.max_airspeed_m_s - wind_m_s);
        (speed >= 1.0).then_some(speed)
    }

    /// Seconds for the whole flight: up, along `way` from and to the dock, down. None when the wind forbids it.
    pub fn flight_s(&self, dock: LatLon, way: &[LatLon], height_m: f64, speed_m_s: f64, wind_m_s: f64) -> Option<f64> {
        let mut length = 0.0;
        let mut last = dock;
        for at in way.iter().chain([&dock]) {
            length += distance_m(last, *at);
            last = *at;
        }
        let over_ground = self.ground_speed(speed_m_s, wind_m_s)?;
        Some(length / over_ground + height_m / self.climb_m_s + height_m / self.descent_m_s)
    }

    /// Seconds from here to the ground at the dock. None when the wind forbids it.
    pub fn home_s(&self, distance_m: f64, height_m: f64, speed_m_s: f64, wind_m_s: f64) -> Option<f64> {
        let over_ground = self.ground_speed(speed_m_s, wind_m_s)?;
        Some(distance_m / over_ground + height_m.max(0.0) / self.descent_m_s)
    }
}

/// What this sortie has drawn so far.
#[derive(Debug, Clone, Default)]
pub struct Draw {
    /// Drone's seconds and charge, from take-off on, at most one a second.
    points: Vec<(f64, f64)>,
}

/// The rate is believed after so many seconds; before, the stated one counts.
const BELIEVED_S: f64 = 45.0;
/// How far back the recent rate looks.
const RECENT_S: f64 = 90.0;
/// Charge is told in whole per cents: a fall is known to half of one at either end.
const STEP_PCT: f64 = 1.0;

impl Draw {
    pub fn observe(&mut self, drone_s: f64, battery_pct: f64) {
        if !(drone_s.is_finite() && battery_pct.is_finite()) {
            return;
        }
        match self.points.last() {
            // Its clock went back: the drone started anew, what was seen before belongs to another flight.
            Some((then, _)) if drone_s < *then => self.points.clear(),
            Some((then, _)) if drone_s < then + 1.0 => return,
            _ => {}
        }
        self.points.push((drone_s, battery_pct));
    }

    /// Per cent a second: the greater of this flight's mean and its last minute and a half; never below the stated
    /// rate before there is enough to go by.
    pub fn rate(&self, stated: f64) -> f64 {
        let (Some((start, full)), Some((now, left))) = (self.points.first(), self.points.last()) else { return stated };
        let flown = now - start;
        if flown < BELIEVED_S {
            return stated;
        }
        let mean = (full - left).max(0.0) / flown;
        let from = self.points.partition_point(|(at, _)| *at < now - RECENT_S);
        let recent = self.points.get(from).map_or(0.0, |(at, pct)| {
            let seconds = now - at;
            if seconds < BELIEVED_S { 0.0 } else { (pct - left - STEP_PCT).max(0.0) / seconds }
        });
        // A gauge that does not move is no proof of flying for nothing.
        mean.max(recent).max(stated * 0.5)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::geo::LocalFrame;

    const DOCK: LatLon = LatLon { lat: 23.05, lon: 113.0 };

    #[test]
    fn a_flight_costs_its_way_there_and_back_and_its_heights() {
        let frame = LocalFrame::new(DOCK);
        let way = [frame.to_latlon(0.0, 400.0), frame.to_latlon(300.0, 400.0)];
        let energy = EnergyConfig::default();
        // 400 + 300 + 500 m at 8 m/s, 60 m up at 2.5 and down at 1.5 m/s.
        let seconds = energy.flight_s(DOCK, &way, 60.0, 8.0, 0.0).unwrap();
        assert!((seconds - (150.0 + 24.0 + 40.0)).abs() < 1.0, "{seconds}");
        // Against 10 m/s only 5 m/s are left.
        let windy = energy.flight_s(DOCK, &way, 60.0, 8.0, 10.0).unwrap();
        assert!((windy - (240.0 + 64.0)).abs() < 1.0, "{windy}");
        assert_eq!(energy.flight_s(DOCK, &way, 60.0, 8.0, 14.5), None);
    }

    #[test]
    fn the_rate_is_what_this_sortie_draws() {
        let stated = EnergyConfig::default().stated_rate();
        let mut draw = Draw::default();
        assert_eq!(draw.rate(stated), stated);
        for s in 0..=200 {
            // 0.2 % a second: three times the stated rate, told in whole per cents.
            draw.observe(f64::from(s), (95.0 - 0.2 * f64::from(s)).floor());
        }
        assert!((draw.rate(stated) - 0.2).abs() < 0.02, "{}", draw.rate(stated));
        // From here it draws twice that: the last minute and a half counts.
        for s in 201..=300 {
            draw.observe(f64::from(s), (55.0 - 0.4 * f64::from(s - 200)).floor());
        }
        assert!(draw.rate(stated) > 0.36, "{}", draw.rate(stated));
    }

    #[test]
    fn a_gauge_that_stands_still_does_not_make_flying_free() {
        let stated = EnergyConfig::default().stated_rate();
        let mut draw = Draw::default();
        (0..300).for_each(|s| draw.observe(f64::from(s), 80.0));
        assert_eq!(draw.rate(stated), stated * 0.5);
    }

    proptest! {
        #[test]
        fn more_wind_or_more_way_never_costs_less(wind in 0.0..20.0f64, more in 0.0..5.0f64, metres in 0.0..5000.0f64) {
            let energy = EnergyConfig::default();
            let cost = |wind, metres| energy.home_s(metres, 80.0, 10.0, wind).unwrap_or(f64::INFINITY);
            prop_assert!(cost(wind + more, metres) >= cost(wind, metres));
            prop_assert!(cost(wind, metres + more) >= cost(wind, metres));
        }
    }
}
