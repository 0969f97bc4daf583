//! A request: somebody wants a look at a place, for a reason, until some time. Pure: no clock, no I/O.
//!
//! It becomes a sortie of its own through the same gates as any other. While they are closed, or another sortie is under
//! way, it waits; what is not flown in time is recorded as missed, with why.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::{Ground, Patrol, PatrolConfig, points_of};
use crate::geo::{LatLon, LocalFrame};
use crate::vehicle::Exclusion;

/// Beyond this a place is somebody else's, or its coordinates are swapped.
const FARTHEST_M: f64 = 20_000.0;
const LONGEST_TEXT: usize = 500;

/// `[requests]` in the configuration: how a look that nobody planned is flown.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequestConfig {
    /// Above the take-off point, metres.
    pub height_m: f64,
    pub speed_m_s: f64,
    /// Around a point that was named without an area, metres.
    pub radius_m: f64,
    /// By day only.
    pub daylight: bool,
}

impl Default for RequestConfig {
    fn default() -> RequestConfig {
        RequestConfig { height_m: 80.0, speed_m_s: 8.0, radius_m: 40.0, daylight: false }
    }
}

impl RequestConfig {
    /// Every fault of the numbers: (key, fault).
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let ranges = [
            ("height_m", self.height_m, 10.0, 500.0),
            ("speed_m_s", self.speed_m_s, 1.0, 25.0),
            ("radius_m", self.radius_m, 5.0, 500.0),
        ];
        let wrong = |(_, value, low, high): &(_, f64, f64, f64)| !(*low..=*high).contains(value);
        let fault = |(key, value, low, high)| (key, format!("{value} is out of range, expected {low} to {high}"));
        ranges.into_iter().filter(wrong).map(fault).collect()
    }
}

/// Who or what saw reason to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    Citizen,
    Satellite,
    Sensor,
    Officer,
    /// A case that is to be looked at again.
    Case,
}

/// What a signed `request` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestArgs {
    /// WGS 84; this or `area`.
    #[serde(default)]
    pub point: Option<LatLon>,
    /// GeoJSON with one Polygon, WGS 84.
    #[serde(default)]
    pub area: Option<Value>,
    pub why: Why,
    /// For people.
    #[serde(default)]
    #[schemars(extend("maxLength" = 500))]
    pub note: Option<String>,
    /// Not flown after this moment.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub until: Timestamp,
}

/// A request that was taken; this is what is stored while it waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// Of the command.
    pub id: String,
    pub operator: String,
    pub asked_at: Timestamp,
    pub args: RequestArgs,
    pub ground: Vec<LatLon>,
}

/// What becomes of a request for now.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Fate {
    Flying { sortie: String },
    Waiting { reason: String, until: Timestamp },
}

impl Wanted {
    /// Reads a request, or says in words what is wrong with it.
    pub fn read(
        id: &str,
        operator: &str,
        args: &Value,
        config: &RequestConfig,
        dock: LatLon,
        now: Timestamp,
    ) -> Result<Wanted, String> {
        let args: RequestArgs = serde_json::from_value(args.clone()).map_err(|error| format!("args: {error}"))?;
        if args.note.as_ref().is_some_and(|note| note.len() > LONGEST_TEXT || note.chars().any(char::is_control)) {
            return Err(format!("args.note must be at most {LONGEST_TEXT} bytes of printable text"));
        }
        if args.until <= now {
            return Err(format!("args.until {} has passed", args.until));
        }
        let ground = match (&args.point, &args.area) {
            (Some(point), None) => around(*point, config.radius_m)?,
            (None, Some(area)) => points_of(area, "Polygon").map_err(|fault| format!("args.area {fault}"))?,
            _ => return Err("give either args.point or args.area, and not both".to_owned()),
        };
        let far = ground.iter().map(|point| point.distance_m(dock)).fold(0.0, f64::max);
        if far > FARTHEST_M {
            return Err(format!("the place is {:.0} km away from this station", far / 1000.0));
        }
        Ok(Wanted { id: id.to_owned(), operator: operator.to_owned(), asked_at: now, args, ground })
    }

    /// As a patrol that is flown once.
    pub fn patrol(&self, config: &RequestConfig, exclusions: &[Exclusion]) -> Patrol {
        let name = self.args.note.clone().unwrap_or_else(|| format!("{:?}", self.args.why).to_lowercase());
        let config = PatrolConfig {
            id: "request".to_owned(),
            name,
            area: None,
            route: None,
            height_m: config.height_m,
            speed_m_s: config.speed_m_s,
            front_overlap: 0.6,
            side_overlap: 0.3,
            gimbal_pitch_deg: -90.0,
            daylight: config.daylight,
            schedule: None,
        };
        Patrol { config, ground: Ground::Area(self.ground.clone()), exclusions: exclusions.to_vec() }
    }
}

/// A square, which is what parallel tracks cover best.
fn around(point: LatLon, radius_m: f64) -> Result<Vec<LatLon>, String> {
    point.validate().map_err(|fault| format!("args.point: {fault}"))?;
    let frame = LocalFrame::new(point);
    let corner = |east: f64, north: f64| frame.to_latlon(east * radius_m, north * radius_m);
    let first = corner(-1.0, -1.0);
    Ok(vec![first, corner(1.0, -1.0), corner(1.0, 1.0), corner(-1.0, 1.0), first])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DOCK: LatLon = LatLon { lat: 23.05, lon: 113.0 };

    fn read(args: Value) -> Result<Wanted, String> {
        Wanted::read("01A", "li", &args, &RequestConfig::default(), DOCK, Timestamp::UNIX_EPOCH)
    }

    fn point(lat: f64, lon: f64) -> Value {
        json!({"point": {"lat": lat, "lon": lon}, "why": "citizen", "until": "2026-01-01T00:00:00Z"})
    }

    #[test]
    fn a_point_becomes_a_square_that_is_flown_like_a_patrol() {
        let wanted = read(point(23.051, 113.001)).unwrap();
        let no_fly = [Exclusion::Circle { centre: DOCK, radius_m: 5.0 }];
        let mission = wanted.patrol(&RequestConfig::default(), &no_fly).mission(DOCK, 66.0, 4.0 / 3.0);
        assert_eq!(mission.exclusions, no_fly, "a request goes nowhere that a patrol may not");
        assert!(mission.waypoints.len() >= 2);
        let place = LatLon { lat: 23.051, lon: 113.001 };
        assert!(mission.waypoints.iter().all(|w| w.at.distance_m(place) < 80.0));
    }

    #[test]
    fn what_cannot_be_flown_is_refused_in_words() {
        let late = json!({"point": {"lat": 23.05, "lon": 113.0}, "why": "citizen", "until": "1969-01-01T00:00:00Z"});
        let neither = json!({"why": "citizen", "until": "2026-01-01T00:00:00Z"});
        let line = json!({"area": {"type": "LineString", "coordinates": [[113.0, 23.0], [113.1, 23.0]]}, "why": "sensor", "until": "2026-01-01T00:00:00Z"});
        for (args, words) in [
            (point(23.05, 114.0), "km away"),
            (point(95.0, 113.0), "point"),
            (late, "has passed"),
            (neither, "either"),
            (line, "Polygon"),
            (
                json!({"point": {"lat": 23.05, "lon": 113.0}, "why": "boredom", "until": "2026-01-01T00:00:00Z"}),
                "boredom",
            ),
            (json!(null), "args"),
        ] {
            let fault = read(args).unwrap_err();
            assert!(fault.contains(words), "{words}: {fault}");
        }
    }
}
