//! A town as GeoJSON: the register of permits, the truth for checking, and a base map.

use serde_json::{Value, json};

use super::draft::BuildingKind;
use super::math::Dice;
use super::{MapShapes, Town};
use crate::geo::{LatLon, LocalFrame};

/// Metres east and north of a frame's origin in degrees, by the ellipsoid's curvature there.
pub fn lat_lon(frame: &LocalFrame, east: f64, north: f64) -> LatLon {
    const A: f64 = 6_378_137.0;
    const E2: f64 = 0.006_694_379_990_141_3;
    let phi = frame.origin.lat.to_radians();
    let w = 1.0 - E2 * phi.sin().powi(2);
    let meridian = A * (1.0 - E2) / w.powf(1.5);
    let normal = A / w.sqrt();
    LatLon {
        lat: frame.origin.lat + (north / meridian).to_degrees(),
        lon: frame.origin.lon + (east / (normal * phi.cos())).to_degrees(),
    }
}

/// The origin of the frame in which `at` lies so many metres east and north.
pub fn origin_of(at: LatLon, east: f64, north: f64) -> LatLon {
    let mut origin = at;
    // The scale depends on the origin's latitude; each round shrinks what is left ten thousandfold.
    for _ in 0..3 {
        let there = lat_lon(&LocalFrame { origin }, east, north);
        origin = LatLon { lat: origin.lat + at.lat - there.lat, lon: origin.lon + at.lon - there.lon };
    }
    origin
}

fn collection(features: Vec<Value>) -> Value {
    json!({ "type": "FeatureCollection", "features": features })
}

fn feature(geometry: Value, properties: Value) -> Value {
    json!({ "type": "Feature", "properties": properties, "geometry": geometry })
}

impl Town {
    fn position(&self, p: [f32; 2]) -> Value {
        let at = lat_lon(&self.frame, f64::from(p[0]), f64::from(p[1]));
        // Seven decimals are a centimetre.
        let round = |v: f64| (v * 1e7).round() / 1e7;
        json!([round(at.lon), round(at.lat)])
    }

    fn polygon(&self, ring: &[[f32; 2]]) -> Value {
        let twice_area: f32 = (0..ring.len())
            .map(|i| {
                let (a, b) = (ring[i], ring[(i + 1) % ring.len()]);
                a[0] * b[1] - b[0] * a[1]
            })
            .sum();
        let mut points: Vec<Value> = ring.iter().map(|&p| self.position(p)).collect();
        if twice_area < 0.0 {
            points.reverse();
        }
        points.extend(points.first().cloned());
        json!({ "type": "Polygon", "coordinates": [points] })
    }

    /// Every permitted building and blue roof, each with its permit.
    pub fn register_geojson(&self) -> Value {
        let mut dice = Dice::new(self.buildings.len() as u64, 9);
        let features = self.buildings.iter().filter(|b| b.registered).enumerate().map(|(i, b)| {
            let year = dice.int(1996, 2024);
            feature(
                self.polygon(&b.footprint),
                json!({ "permit": format!("NH-{year}-{:04}", i + 1), "kind": kind_name(b.kind) }),
            )
        });
        collection(features.collect())
    }

    /// What was planted, for judging what the station reports.
    pub fn truth_geojson(&self) -> Value {
        let features = self.violations.iter().map(|v| {
            feature(
                json!({ "type": "Point", "coordinates": [v.at.lon, v.at.lat] }),
                json!({ "id": v.id, "kind": v.kind, "radius_m": v.radius_m }),
            )
        });
        collection(features.collect())
    }

    /// The base map: what a town's own map would show, which knows nothing of what was planted.
    pub fn map_geojson(&self) -> Value {
        let MapShapes { roads, water, fields, trees } = &self.map;
        let mut features = Vec::new();
        let mut add =
            |ring: &[[f32; 2]], kind: &str| features.push(feature(self.polygon(ring), json!({ "kind": kind })));
        for ring in fields {
            add(ring, "field");
        }
        for ring in water {
            add(ring, "water");
        }
        for ring in roads {
            add(ring, "road");
        }
        for b in self.buildings.iter().filter(|b| b.registered) {
            add(&b.footprint, "building");
        }
        for &t in trees.iter().filter(|t| t[0].abs() < 240.0 && t[1].abs() < 190.0) {
            features
                .push(feature(json!({ "type": "Point", "coordinates": self.position(t) }), json!({ "kind": "tree" })));
        }
        collection(features)
    }
}

fn kind_name(kind: BuildingKind) -> &'static str {
    match kind {
        BuildingKind::House => "house",
        BuildingKind::Shed => "shed",
        BuildingKind::BlueShed => "blue_roof",
    }
}
