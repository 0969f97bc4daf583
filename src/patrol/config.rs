//! `[[patrols]]`: what is flown, how, and when.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plan::{self, Swath};
use super::schedule::Schedule;
use crate::geo::LatLon;
use crate::vehicle::mission::MOST_ITEMS;
use crate::vehicle::{CameraPlan, Exclusion, Mission, Waypoint};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PatrolConfig {
    /// Short name used in commands: letters, digits and hyphens.
    pub id: String,
    /// What people read.
    pub name: String,
    /// GeoJSON file with one Polygon to cover, relative to the configuration. Either this or `route`.
    #[serde(default)]
    pub area: Option<PathBuf>,
    /// GeoJSON file with one LineString to fly along.
    #[serde(default)]
    pub route: Option<PathBuf>,
    /// Above the take-off point, metres.
    pub height_m: f64,
    #[serde(default = "default_speed")]
    pub speed_m_s: f64,
    /// Share of a picture that the next one in line shows again.
    #[serde(default = "default_front_overlap")]
    pub front_overlap: f64,
    /// Share of a line that the next line shows again.
    #[serde(default = "default_side_overlap")]
    pub side_overlap: f64,
    /// -90 looks straight down.
    #[serde(default = "default_pitch")]
    pub gimbal_pitch_deg: f64,
    /// By day only.
    #[serde(default)]
    pub daylight: bool,
    #[serde(default)]
    pub schedule: Option<Schedule>,
}

fn default_speed() -> f64 {
    8.0
}
fn default_front_overlap() -> f64 {
    0.6
}
fn default_side_overlap() -> f64 {
    0.3
}
fn default_pitch() -> f64 {
    -90.0
}

/// `[identification]`: who flies. Where the table stands, the drone must identify itself before anything arms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identification {
    /// The drone's registration number; stands in every sortie's record.
    pub registration: String,
    /// The number of the flight application, where one was filed.
    #[serde(default)]
    pub application: Option<String>,
}

/// `[[no_fly]]`: what no flight of this station may cross, at whatever height. The drone's own geofence holds it too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoFlyConfig {
    /// What people read.
    pub name: String,
    /// GeoJSON file with one Polygon, relative to the configuration. Either this, or `centre` and `radius_m`.
    #[serde(default)]
    pub area: Option<PathBuf>,
    #[serde(default)]
    pub centre: Option<LatLon>,
    /// Metres.
    #[serde(default)]
    pub radius_m: Option<f64>,
}

impl NoFlyConfig {
    /// Reads the geometry; the fault names its key.
    pub fn load(&self, base: &Path) -> Result<Exclusion, (&'static str, String)> {
        match (&self.area, self.centre, self.radius_m) {
            (Some(path), None, None) => {
                let mut vertices = polygon_in(&base.join(path)).map_err(|fault| ("area", fault))?;
                // GeoJSON says the first point twice; a fence's vertices are each said once.
                if vertices.first() == vertices.last() {
                    vertices.pop();
                }
                Ok(Exclusion::Polygon { vertices })
            }
            (None, Some(centre), Some(radius_m)) => {
                centre.validate().map_err(|error| ("centre", error.to_string()))?;
                if !(1.0..=20_000.0).contains(&radius_m) {
                    return Err(("radius_m", format!("{radius_m} is out of range, expected 1 to 20000 metres")));
                }
                Ok(Exclusion::Circle { centre, radius_m })
            }
            _ => Err(("area", "give either area, or centre and radius_m".to_owned())),
        }
    }
}

/// The ring of the one Polygon in a GeoJSON file; the fault names the file.
pub fn polygon_in(path: &Path) -> Result<Vec<LatLon>, String> {
    let say = |fault: String| format!("{}: {fault}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| say(absent(&error)))?;
    let json: Value = serde_json::from_str(&text).map_err(|error| say(format!("not JSON: {error}")))?;
    points_of(&json, "Polygon").map_err(say)
}

/// A patrol with its geometry read.
#[derive(Debug, Clone, PartialEq)]
pub struct Patrol {
    pub config: PatrolConfig,
    pub ground: Ground,
    /// What its flights keep off.
    pub exclusions: Vec<Exclusion>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Ground {
    Area(Vec<LatLon>),
    Route(Vec<LatLon>),
}

impl PatrolConfig {
    /// Every fault of the numbers: (key, fault).
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let named = !self.id.is_empty() && self.id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !named || self.id.len() > 40 {
            faults.push(("id".to_owned(), format!("{:?} must be 1 to 40 letters, digits or hyphens", self.id)));
        }
        if self.area.is_some() == self.route.is_some() {
            faults.push(("area".to_owned(), "give either area or route, and not both".to_owned()));
        }
        let mut range = |key: &str, value: f64, low: f64, high: f64| {
            if !(low..=high).contains(&value) {
                faults.push((key.to_owned(), format!("{value} is out of range, expected {low} to {high}")));
            }
        };
        range("height_m", self.height_m, 10.0, 500.0);
        range("speed_m_s", self.speed_m_s, 1.0, 25.0);
        range("front_overlap", self.front_overlap, 0.0, 0.95);
        range("side_overlap", self.side_overlap, 0.0, 0.95);
        range("gimbal_pitch_deg", self.gimbal_pitch_deg, -90.0, -20.0);
        if let Some(schedule) = &self.schedule {
            faults.extend(schedule.faults().into_iter().map(|(key, fault)| (format!("schedule.{key}"), fault)));
        }
        faults
    }

    /// Reads the geometry; paths are relative to `base`. The fault names key and file.
    pub fn load(&self, base: &Path) -> Result<Patrol, (String, String)> {
        let (key, path, kind) = match (&self.area, &self.route) {
            (Some(path), None) => ("area", path, "Polygon"),
            (None, Some(path)) => ("route", path, "LineString"),
            _ => return Err(("area".to_owned(), "give either area or route, and not both".to_owned())),
        };
        let path = base.join(path);
        let say = |fault: String| (key.to_owned(), format!("{}: {fault}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|error| say(absent(&error)))?;
        let json: Value = serde_json::from_str(&text).map_err(|error| say(format!("not JSON: {error}")))?;
        let points = points_of(&json, kind).map_err(say)?;
        let ground = if kind == "Polygon" { Ground::Area(points) } else { Ground::Route(points) };
        Ok(Patrol { config: self.clone(), ground, exclusions: Vec::new() })
    }
}

fn absent(error: &std::io::Error) -> String {
    format!("{error}; put the file there (any map editor writes GeoJSON, geojson.io for one), or correct the path")
}

/// The points of the one `kind` ("Polygon": its ring; "LineString") in a GeoJSON document. A second one and a hole are
/// faults: to pass over them would be to fly where nobody drew.
pub fn points_of(json: &Value, kind: &str) -> Result<Vec<LatLon>, String> {
    let mut found = Vec::new();
    collect(json, kind, &mut found);
    let coordinates = match found[..] {
        [] => return Err(format!("holds no {kind}; put one GeoJSON {kind} into it")),
        [one] => one,
        _ => return Err(format!("holds {} {kind}s, expected one; put each into a file of its own", found.len())),
    };
    let coordinates = if kind == "Polygon" {
        let rings = coordinates.as_array().map_or(0, Vec::len);
        if rings > 1 {
            return Err(format!(
                "has a hole ({rings} rings in its Polygon); draw the area without it, and list what no flight may cross as [[no_fly]]"
            ));
        }
        &coordinates[0]
    } else {
        coordinates
    };
    let points: Option<Vec<LatLon>> = coordinates
        .as_array()
        .map(|a| a.iter().map(|p| Some(LatLon { lon: p[0].as_f64()?, lat: p[1].as_f64()? })).collect())
        .unwrap_or_default();
    let points = points.ok_or_else(|| "a coordinate is not [longitude, latitude]".to_owned())?;
    if let Some(fault) = points.iter().find_map(|p| p.validate().err()) {
        return Err(format!("{fault}; coordinates are [longitude, latitude], are they swapped?"));
    }
    let least = if kind == "Polygon" { 4 } else { 2 };
    // An area may be drawn finely; a route becomes the mission's items, which autopilots keep few of.
    let most = if kind == "Polygon" { 5_000 } else { MOST_ITEMS };
    if points.len() < least || points.len() > most {
        return Err(format!("its {kind} has {} points, expected {least} to {most}", points.len()));
    }
    Ok(points)
}

/// The coordinates of every `kind`, also of those in a Multi`kind`.
fn collect<'a>(json: &'a Value, kind: &str, found: &mut Vec<&'a Value>) {
    let list = |key: &str| json[key].as_array().map_or(&[][..], Vec::as_slice);
    match json["type"].as_str() {
        Some("FeatureCollection") => list("features").iter().for_each(|f| collect(f, kind, found)),
        Some("GeometryCollection") => list("geometries").iter().for_each(|g| collect(g, kind, found)),
        Some("Feature") => collect(&json["geometry"], kind, found),
        Some(here) if here == kind => found.push(&json["coordinates"]),
        Some(here) if here.strip_prefix("Multi") == Some(kind) => found.extend(list("coordinates")),
        _ => {}
    }
}

impl Patrol {
    pub fn points(&self) -> &[LatLon] {
        match &self.ground {
            Ground::Area(points) | Ground::Route(points) => points,
        }
    }

    /// The area, where it is one: what coverage is reckoned over.
    pub fn area(&self) -> &[LatLon] {
        match &self.ground {
            Ground::Area(points) => points,
            Ground::Route(_) => &[],
        }
    }

    /// How many pictures show each patch of ground.
    pub fn shown(&self) -> f64 {
        let along = 1.0 - self.config.front_overlap;
        match &self.ground {
            Ground::Area(_) => 1.0 / (along * (1.0 - self.config.side_overlap)),
            Ground::Route(_) => 1.0 / along,
        }
    }

    pub fn mission(&self, dock: LatLon, horizontal_fov_deg: f64, aspect: f64) -> Mission {
        let c = &self.config;
        let swath = Swath {
            height_m: c.height_m,
            horizontal_fov_deg,
            aspect,
            side_overlap: c.side_overlap,
            front_overlap: c.front_overlap,
        };
        let way = match &self.ground {
            Ground::Area(area) => plan::cover(area, dock, swath.spacing_m()),
            Ground::Route(route) => route.clone(),
        };
        Mission {
            takeoff_height_m: c.height_m,
            speed_m_s: c.speed_m_s,
            camera: CameraPlan {
                trigger_distance_m: swath.trigger_distance_m(),
                gimbal_pitch_deg: c.gimbal_pitch_deg,
                ..CameraPlan::default()
            },
            waypoints: way.into_iter().map(|at| Waypoint { at, height_m: c.height_m }).collect(),
            fence: Some(fence(self.points(), dock, 60.0)),
            exclusions: self.exclusions.clone(),
            ..Mission::default()
        }
    }
}

/// A box around all that is flown over and the dock, `margin_m` wider on every side.
fn fence(points: &[LatLon], dock: LatLon, margin_m: f64) -> Vec<LatLon> {
    let frame = crate::geo::LocalFrame::new(dock);
    let (mut low, mut high) = ([0.0f64; 2], [0.0f64; 2]);
    for point in points {
        let place = frame.to_enu(*point);
        for axis in 0..2 {
            low[axis] = low[axis].min(place[axis]);
            high[axis] = high[axis].max(place[axis]);
        }
    }
    let ([w, s], [e, n]) = (low.map(|v| v - margin_m), high.map(|v| v + margin_m));
    [(w, s), (e, s), (e, n), (w, n)].map(|(e, n)| frame.to_latlon(e, n)).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn square(at: f64) -> Value {
        json!([[113.0, at], [113.1, at], [113.1, at + 0.1], [113.0, at + 0.1], [113.0, at]])
    }

    fn polygon(rings: &[Value]) -> Value {
        json!({"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": rings}})
    }

    fn collection(features: &[Value]) -> Value {
        json!({"type": "FeatureCollection", "features": features})
    }

    #[test]
    fn one_polygon_is_read_however_a_map_editor_wraps_it() {
        let multi = json!({"type": "MultiPolygon", "coordinates": [[square(23.0)]]});
        let label = json!({"type": "Point", "coordinates": [113.0, 23.0]});
        let among = json!({"type": "GeometryCollection", "geometries": [label, multi]});
        for json in [polygon(&[square(23.0)]), collection(&[polygon(&[square(23.0)])]), multi, among] {
            let points = points_of(&json, "Polygon").unwrap();
            assert_eq!((points.len(), points[0]), (5, LatLon { lat: 23.0, lon: 113.0 }), "{json}");
        }
    }

    #[test]
    fn a_hole_or_a_second_area_is_refused_and_never_passed_over() {
        let two = collection(&[polygon(&[square(23.0)]), polygon(&[square(24.0)])]);
        let multi = json!({"type": "MultiPolygon", "coordinates": [[square(23.0)], [square(24.0)]]});
        let holed = collection(&[polygon(&[square(23.0), square(23.05)])]);
        let line = json!([[113.0, 23.0], [113.1, 23.0]]);
        let lines = json!({"type": "MultiLineString", "coordinates": [line, line]});
        for (json, kind, words) in [
            (two, "Polygon", "holds 2 Polygons, expected one; put each into a file of its own"),
            (multi, "Polygon", "holds 2 Polygons"),
            (holed.clone(), "Polygon", "has a hole (2 rings in its Polygon); draw the area without it"),
            (lines, "LineString", "holds 2 LineStrings"),
        ] {
            let fault = points_of(&json, kind).unwrap_err();
            assert!(fault.starts_with(words), "{fault}");
        }
        // The file is named by everything that reads one.
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("holed.geojson"), holed.to_string()).unwrap();
        let patrol: PatrolConfig =
            toml::from_str("id = \"n\"\nname = \"N\"\narea = \"holed.geojson\"\nheight_m = 75.0").unwrap();
        let no_fly: NoFlyConfig = toml::from_str("name = \"school\"\narea = \"holed.geojson\"").unwrap();
        for fault in [
            patrol.load(dir.path()).unwrap_err().1,
            no_fly.load(dir.path()).unwrap_err().1,
            polygon_in(&dir.path().join("holed.geojson")).unwrap_err(),
        ] {
            assert!(fault.contains("holed.geojson: has a hole"), "{fault}");
        }
    }
}
