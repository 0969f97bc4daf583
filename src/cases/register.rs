//! The register of permitted buildings: GeoJSON polygons in WGS 84.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::geo::{LatLon, LocalFrame};

#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error("the register {path} cannot be read: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the register {path} is not GeoJSON: {fault}")]
    Syntax { path: PathBuf, fault: String },
}

/// Outlines in a local frame about the first of them.
#[derive(Debug, Clone, Default)]
pub struct Register {
    frame: Option<LocalFrame>,
    outlines: Vec<Outline>,
}

#[derive(Debug, Clone)]
struct Outline {
    /// Smallest and largest east and north.
    bounds: [f64; 4],
    ring: Vec<[f64; 2]>,
}

impl Register {
    pub fn read(path: &Path) -> Result<Register, RegisterError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| RegisterError::Unreadable { path: path.to_owned(), source })?;
        let syntax = |fault: String| RegisterError::Syntax { path: path.to_owned(), fault };
        let json: Value = serde_json::from_str(&text).map_err(|error| syntax(error.to_string()))?;
        Register::from_geojson(&json).map_err(syntax)
    }

    /// Takes every Polygon and MultiPolygon of a FeatureCollection; other geometries are a fault, not ignored.
    pub fn from_geojson(json: &Value) -> Result<Register, String> {
        let features = json["features"].as_array().ok_or("it has no \"features\"")?;
        let mut register = Register::default();
        for (index, feature) in features.iter().enumerate() {
            let geometry = &feature["geometry"];
            let polygons: Vec<&Value> = match geometry["type"].as_str() {
                Some("Polygon") => vec![&geometry["coordinates"]],
                Some("MultiPolygon") => {
                    geometry["coordinates"].as_array().map(|a| a.iter().collect()).unwrap_or_default()
                }
                other => {
                    return Err(format!(
                        "features[{index}] is a {other:?}, only Polygon and MultiPolygon can be a building"
                    ));
                }
            };
            for polygon in polygons {
                let ring = outer_ring(polygon).map_err(|fault| format!("features[{index}]: {fault}"))?;
                register.push(&ring);
            }
        }
        Ok(register)
    }

    fn push(&mut self, ring: &[LatLon]) {
        let Some(&first) = ring.first() else { return };
        let frame = *self.frame.get_or_insert_with(|| LocalFrame::new(first));
        let ring: Vec<_> = ring.iter().map(|&p| frame.to_enu(p)).collect();
        let mut bounds = [f64::MAX, f64::MAX, f64::MIN, f64::MIN];
        for [e, n] in &ring {
            bounds = [bounds[0].min(*e), bounds[1].min(*n), bounds[2].max(*e), bounds[3].max(*n)];
        }
        self.outlines.push(Outline { bounds, ring });
    }

    pub fn len(&self) -> usize {
        self.outlines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.outlines.is_empty()
    }

    /// Whether a permitted building stands within `tolerance_m` of `at`.
    pub fn permits(&self, at: LatLon, tolerance_m: f64) -> bool {
        let Some(frame) = self.frame else { return false };
        let [e, n] = frame.to_enu(at);
        self.outlines.iter().any(|outline| {
            let [min_e, min_n, max_e, max_n] = outline.bounds;
            e >= min_e - tolerance_m
                && e <= max_e + tolerance_m
                && n >= min_n - tolerance_m
                && n <= max_n + tolerance_m
                && distance_to_ring(&outline.ring, [e, n]) <= tolerance_m
        })
    }
}

fn outer_ring(polygon: &Value) -> Result<Vec<LatLon>, String> {
    let ring = polygon[0].as_array().ok_or("its coordinates are not rings")?;
    let ring: Option<Vec<LatLon>> =
        ring.iter().map(|p| Some(LatLon { lon: p[0].as_f64()?, lat: p[1].as_f64()? })).collect();
    let ring = ring.ok_or("a coordinate is not [longitude, latitude]")?;
    match ring.iter().find(|p| p.lat.abs() > 90.0 || p.lon.abs() > 180.0) {
        Some(p) => Err(format!("[{}, {}] is not [longitude, latitude]; are they swapped?", p.lon, p.lat)),
        None if ring.len() < 4 => Err("a ring needs at least four points".to_owned()),
        None => Ok(ring),
    }
}

/// 0 inside, else the distance to the nearest edge.
fn distance_to_ring(ring: &[[f64; 2]], [x, y]: [f64; 2]) -> f64 {
    if contains(ring, [x, y]) {
        return 0.0;
    }
    let mut nearest = f64::MAX;
    for (i, &[x1, y1]) in ring.iter().enumerate() {
        let [x2, y2] = ring[(i + 1) % ring.len()];
        let (dx, dy) = (x2 - x1, y2 - y1);
        let length2 = dx * dx + dy * dy;
        let t = if length2 > 0.0 { (((x - x1) * dx + (y - y1) * dy) / length2).clamp(0.0, 1.0) } else { 0.0 };
        nearest = nearest.min((x - x1 - t * dx).hypot(y - y1 - t * dy));
    }
    nearest
}

/// Whether the ring holds the point: an odd number of edges lies to its east.
pub fn contains(ring: &[[f64; 2]], [x, y]: [f64; 2]) -> bool {
    let crosses = |i: usize| {
        let ([x1, y1], [x2, y2]) = (ring[i], ring[(i + 1) % ring.len()]);
        (y1 > y) != (y2 > y) && x < (x2 - x1) * (y - y1) / (y2 - y1) + x1
    };
    (0..ring.len()).filter(|&i| crosses(i)).count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one_house() -> Register {
        // About 20 m by 22 m.
        Register::from_geojson(&json!({"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {},
            "geometry": {"type": "Polygon", "coordinates": [[[113.0, 23.0], [113.0002, 23.0], [113.0002, 23.0002], [113.0, 23.0002], [113.0, 23.0]]]}}]}))
        .unwrap()
    }

    #[test]
    fn a_building_in_the_register_is_permitted_and_its_neighbour_is_not() {
        let register = one_house();
        assert!(register.permits(LatLon { lat: 23.0001, lon: 113.0001 }, 0.0));
        // 5 m outside its eastern wall.
        let beside = LatLon { lat: 23.0001, lon: 113.00025 };
        assert!(!register.permits(beside, 3.0));
        assert!(register.permits(beside, 6.0));
        assert!(!Register::default().permits(beside, 6.0));
    }

    #[test]
    fn swapped_coordinates_are_named() {
        let fault = Register::from_geojson(&json!({"features": [{"geometry": {"type": "Polygon",
            "coordinates": [[[23.0, 113.0], [23.0, 113.1], [23.1, 113.1], [23.0, 113.0]]]}}]}))
        .unwrap_err();
        assert!(fault.contains("swapped") && fault.contains("features[0]"), "{fault}");
    }
}
