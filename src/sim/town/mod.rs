//! A simulated town and the camera that photographs it: what `aerie demo` flies over and the default model learned from.
//!
//! Invariants kept here:
//! - the same seed gives the same town, and the same pose and frame seed the same picture, on every machine's own maths;
//! - the ground is flat at the height of the dock, so a pixel's true place is exactly known;
//! - nothing in the register is a violation, and every violation stands in the open, inside the patrolled area.
//!
//! [`layout`] decides where things go, [`planted`] and its neighbours build them, [`render`] draws, [`dataset`] labels.

mod blocks;
mod buildings;
pub mod dataset;
mod draft;
mod geojson;
mod ground;
mod layout;
mod math;
mod planted;
mod props;
pub mod render;
mod scene;
mod shade;
mod shapes;

use crate::geo::{Attitude, LatLon, LocalFrame};

use draft::{Building, Plot};
use layout::PATROL;
use scene::Scene;
use shade::Light;

pub use dataset::{DatasetError, export_dataset};
pub use render::{Rendered, Renderer};

/// The model's classes, in its order.
pub const CLASSES: [&str; 8] =
    ["building", "blue_roof", "vehicle", "heavy_machine", "earthwork", "garbage", "floating_debris", "burning"];

/// Where the camera truly is, on the town's local axes, and how it looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TruePose {
    pub east_m: f64,
    pub north_m: f64,
    pub up_m: f64,
    pub attitude: Attitude,
}

/// Something planted that the station is meant to find.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    /// Its object id in rendered id buffers.
    pub id: u32,
    /// As cases name it.
    pub kind: &'static str,
    /// The middle of its base.
    pub at: LatLon,
    pub east_m: f64,
    pub north_m: f64,
    pub radius_m: f64,
}

/// A whole town, made from one seed.
pub struct Town {
    frame: LocalFrame,
    dock: [f64; 2],
    violations: Vec<Violation>,
    buildings: Vec<Building>,
    map: MapShapes,
    light: Light,
    scene: Scene,
}

/// What the web page's base map shows besides buildings; rings in metres east and north.
#[derive(Default)]
struct MapShapes {
    roads: Vec<[[f32; 2]; 4]>,
    water: Vec<Vec<[f32; 2]>>,
    fields: Vec<[[f32; 2]; 4]>,
    trees: Vec<[f32; 2]>,
}

impl Town {
    /// The town of the demo: a few violations, well apart.
    pub fn generate(seed: u64) -> Self {
        Self::build(seed, false, None)
    }

    /// The same town, with its dock at a given place: around a drone that stands there.
    pub fn generate_around(seed: u64, dock: LatLon) -> Self {
        Self::build(seed, false, Some(dock))
    }

    /// A town crowded with violations, for training pictures.
    pub fn generate_dense(seed: u64) -> Self {
        Self::build(seed, true, None)
    }

    fn build(seed: u64, dense: bool, dock_at: Option<LatLon>) -> Self {
        let light = Light::roll(&mut math::Dice::new(seed, 2));
        let laid = layout::lay_out(seed, dense, &light);
        let mut place = math::Dice::new(seed, 3);
        let usual = LatLon {
            lat: 23.05 + f64::from(place.range(-0.02, 0.02)),
            lon: 113.0 + f64::from(place.range(-0.02, 0.02)),
        };
        let d = laid.draft;
        let dock = d.world(laid.dock[0], laid.dock[1]).map(f64::from);
        let frame = LocalFrame { origin: dock_at.map_or(usual, |at| geojson::origin_of(at, dock[0], dock[1])) };
        let violations = laid
            .sites
            .iter()
            .map(|(site, id)| {
                let [e, n] = d.world(site.at[0], site.at[1]).map(f64::from);
                Violation {
                    id: *id,
                    kind: site.kind.name(),
                    at: geojson::lat_lon(&frame, e, n),
                    east_m: e,
                    north_m: n,
                    radius_m: f64::from(site.radius()),
                }
            })
            .collect();
        let corners = |p: &Plot| p.corners().map(|c| d.world(c[0], c[1]));
        let mut water: Vec<Vec<[f32; 2]>> = d.ponds.iter().map(|p| corners(p).to_vec()).collect();
        let steps = |side: f32| (-22..=22).map(move |i| (i as f32 * 20.0, side));
        water.push(
            steps(1.0)
                .chain(steps(-1.0).rev())
                .map(|(u, side)| d.world(u, d.river.centre(u) + side * d.river.half))
                .collect(),
        );
        let map = MapShapes {
            roads: d.roads.iter().map(corners).collect(),
            water,
            fields: d.fields.iter().map(corners).collect(),
            trees: d.trees.iter().map(|t| d.world(t[0], t[1])).collect(),
        };
        Self {
            frame,
            dock,
            violations,
            buildings: d.buildings,
            map,
            light,
            scene: Scene::new(d.prims, d.features, d.objects, d.plumes),
        }
    }

    /// The local axes that poses and everything drawn are in; height 0 is the ground at the dock.
    pub fn frame(&self) -> LocalFrame {
        self.frame
    }

    pub fn dock(&self) -> LatLon {
        geojson::lat_lon(&self.frame, self.dock[0], self.dock[1])
    }

    /// The dock on the local axes, metres east and north.
    pub fn dock_local(&self) -> [f64; 2] {
        self.dock
    }

    /// The area to patrol, counter-clockwise from its south-west corner, not closed.
    pub fn patrol_area(&self) -> Vec<LatLon> {
        let [e, n] = PATROL.map(f64::from);
        [(-e, -n), (e, -n), (e, n), (-e, n)].iter().map(|&(x, y)| geojson::lat_lon(&self.frame, x, y)).collect()
    }

    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// The class of an object in an id buffer, as an index into [`CLASSES`]; None for 0 and unknown ids.
    pub fn class_of(&self, id: u32) -> Option<usize> {
        let index = (id as usize).checked_sub(1)?;
        self.scene.objects.get(index).map(|o| usize::from(o.class))
    }
}

#[cfg(test)]
mod tests;
