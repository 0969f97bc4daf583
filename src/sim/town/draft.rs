//! A town while it is being laid out: solids and outlines so far, and what ground is already taken.
//!
//! Everything is laid out on axes of the town's own (u along the main streets, v across), which are turned against
//! north by a seeded angle when emitted.

use super::ground::{Feature, Outline, Texture};
use super::math::{Dice, V3, v3};
use super::scene::{Object, Plume};
use super::shapes::{Paint, Prim, Shape, axes};

/// Painting order of the ground.
pub mod layer {
    pub const BLOCK: u8 = 0;
    pub const PLOT: u8 = 1;
    pub const BANK: u8 = 2;
    pub const LANE: u8 = 3;
    pub const RIVER: u8 = 4;
    pub const ROAD: u8 = 5;
    pub const PATCH: u8 = 6;
    pub const SPOT: u8 = 7;
}

/// An upright rectangle on the town's own axes.
#[derive(Debug, Clone, Copy)]
pub struct Plot {
    pub u: f32,
    pub v: f32,
    pub yaw: f32,
    pub half: [f32; 2],
    /// From the middle to a corner.
    reach: f32,
}

impl Plot {
    pub fn new(u: f32, v: f32, yaw: f32, half_u: f32, half_v: f32) -> Self {
        Self { u, v, yaw, half: [half_u, half_v], reach: half_u.hypot(half_v) }
    }

    pub fn corners(&self) -> [[f32; 2]; 4] {
        let (s, c) = self.yaw.sin_cos();
        [(1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0)].map(|(a, b)| {
            let (x, y) = (a * self.half[0], b * self.half[1]);
            [self.u + x * c - y * s, self.v + x * s + y * c]
        })
    }

    /// Metres from a point to the nearest edge; 0 inside.
    pub fn distance(&self, u: f32, v: f32) -> f32 {
        let (s, c) = self.yaw.sin_cos();
        let (du, dv) = (u - self.u, v - self.v);
        let x = (du * c + dv * s).abs() - self.half[0];
        let y = (dv * c - du * s).abs() - self.half[1];
        x.max(0.0).hypot(y.max(0.0))
    }

    pub fn overlaps(&self, other: &Plot) -> bool {
        // Nearly every pair is far apart, so this comes first and takes no root.
        let (du, dv, reach) = (self.u - other.u, self.v - other.v, self.reach + other.reach);
        if du * du + dv * dv > reach * reach {
            return false;
        }
        let separated = |a: &Plot, b: &Plot| {
            let (s, c) = a.yaw.sin_cos();
            let side = |x: fn(f32, f32, f32, f32) -> f32, half: f32| {
                let along = b.corners().map(|p| x(p[0] - a.u, p[1] - a.v, s, c));
                along.iter().all(|&d| d > half) || along.iter().all(|&d| d < -half)
            };
            side(|u, v, s, c| u * c + v * s, a.half[0]) || side(|u, v, s, c| v * c - u * s, a.half[1])
        };
        !separated(self, other) && !separated(other, self)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildingKind {
    House,
    Shed,
    BlueShed,
}

/// A building with its footprint in the world, metres east and north.
#[derive(Debug, Clone)]
pub struct Building {
    pub kind: BuildingKind,
    pub footprint: [[f32; 2]; 4],
    pub registered: bool,
}

/// Ground kept clear for a planted thing or the dock; `gap` is the extra distance that buildings keep.
#[derive(Debug, Clone, Copy)]
pub struct KeepOut {
    pub at: [f32; 2],
    pub radius: f32,
    pub gap: f32,
}

#[derive(Debug, Clone, Copy)]
pub struct River {
    pub middle: f32,
    pub swing: f32,
    pub wave: f32,
    pub phase: f32,
    pub half: f32,
}

impl River {
    pub fn centre(&self, u: f32) -> f32 {
        self.middle + self.swing * (u / self.wave + self.phase).sin()
    }

    /// Metres from the middle line (the slope is small, so across is near enough).
    pub fn offset(&self, u: f32, v: f32) -> f32 {
        v - self.centre(u)
    }
}

pub struct Draft {
    pub prims: Vec<Prim>,
    pub features: Vec<Feature>,
    pub objects: Vec<Object>,
    pub plumes: Vec<Plume>,
    pub buildings: Vec<Building>,
    pub ponds: Vec<Plot>,
    pub fields: Vec<Plot>,
    pub trees: Vec<[f32; 2]>,
    pub roads: Vec<Plot>,
    pub taken: Vec<Plot>,
    pub keep_outs: Vec<KeepOut>,
    pub river: River,
    pub turn: f32,
    pub dice: Dice,
}

impl Draft {
    pub fn new(dice: Dice, turn: f32, river: River) -> Self {
        Self {
            prims: Vec::new(),
            features: Vec::new(),
            objects: Vec::new(),
            plumes: Vec::new(),
            buildings: Vec::new(),
            ponds: Vec::new(),
            fields: Vec::new(),
            trees: Vec::new(),
            roads: Vec::new(),
            taken: Vec::new(),
            keep_outs: Vec::new(),
            river,
            turn,
            dice,
        }
    }

    pub fn world(&self, u: f32, v: f32) -> [f32; 2] {
        let (s, c) = self.turn.sin_cos();
        [u * c - v * s, u * s + v * c]
    }

    pub fn own(&self, e: f32, n: f32) -> [f32; 2] {
        let (s, c) = self.turn.sin_cos();
        [e * c + n * s, n * c - e * s]
    }

    /// A new labelled object; its bounds grow as its parts are placed.
    pub fn object(&mut self, class: u8) -> u32 {
        let far = 1e9;
        self.objects.push(Object { class, low: v3(far, far, far), high: v3(-far, -far, -far) });
        self.objects.len() as u32
    }

    /// Whether a plot meets nothing taken, no water, and no ground kept clear.
    pub fn free(&self, plot: &Plot, bank: f32) -> bool {
        self.dry(plot, bank)
            && self.clear_of_keep_outs(plot, 0.0)
            && !self.taken.iter().any(|t| t.overlaps(plot))
            && !self.roads.iter().any(|t| t.overlaps(plot))
    }

    pub fn dry(&self, plot: &Plot, bank: f32) -> bool {
        let reach = self.river.half + bank + plot.half[0].max(plot.half[1]);
        if self.river.offset(plot.u, plot.v).abs() > reach * 1.5 + self.river.swing * 0.5 {
            return true;
        }
        plot.corners()
            .iter()
            .chain(&[[plot.u, plot.v]])
            .all(|p| self.river.offset(p[0], p[1]).abs() > self.river.half + bank)
    }

    pub fn clear_of_keep_outs(&self, plot: &Plot, building: f32) -> bool {
        self.keep_outs.iter().all(|k| plot.distance(k.at[0], k.at[1]) > k.radius + k.gap * building)
    }

    /// Places a solid with its lowest local point at `z`, on the town's own axes.
    #[allow(clippy::too_many_arguments)]
    pub fn put(&mut self, shape: Shape, at: [f32; 2], z: f32, yaw: f32, half: [f32; 3], paint: Paint, object: u32) {
        self.put_tilted(shape, at, z + half[2], yaw, 0.0, half, paint, object);
    }

    /// Places a solid by its middle, tilted up along its own x.
    #[allow(clippy::too_many_arguments)]
    pub fn put_tilted(
        &mut self,
        shape: Shape,
        at: [f32; 2],
        middle: f32,
        yaw: f32,
        pitch: f32,
        half: [f32; 3],
        paint: Paint,
        object: u32,
    ) {
        let [x, y] = self.world(at[0], at[1]);
        let seed = self.dice.seed();
        self.prims.push(Prim {
            centre: v3(x, y, middle),
            axes: axes(yaw + self.turn, pitch),
            half: v3(half[0], half[1], half[2]),
            shape,
            paint,
            object,
            seed,
        });
    }

    /// A point `du` ahead and `dv` to the left of a place that faces `yaw`.
    pub fn beside(at: [f32; 2], yaw: f32, du: f32, dv: f32) -> [f32; 2] {
        let (s, c) = yaw.sin_cos();
        [at[0] + du * c - dv * s, at[1] + du * s + dv * c]
    }

    fn feature(&mut self, outline: Outline, look: Look, layer: u8, object: u32) {
        let seed = self.dice.seed();
        self.features.push(Feature {
            outline,
            texture: look.texture,
            tint: look.tint,
            second: look.second,
            param: look.param,
            object,
            seed,
            layer,
        });
    }

    pub fn rect(&mut self, plot: &Plot, look: Look, layer: u8) {
        let (s, c) = (plot.yaw + self.turn).sin_cos();
        let outline = Outline::Rect { centre: self.world(plot.u, plot.v), axis: [c, s], half: plot.half };
        self.feature(outline, look, layer, 0);
    }

    pub fn blob(&mut self, plot: &Plot, wander: f32, look: Look, layer: u8, object: u32) {
        let (s, c) = (plot.yaw + self.turn).sin_cos();
        let outline = Outline::Blob { centre: self.world(plot.u, plot.v), axis: [c, s], half: plot.half, wander };
        self.feature(outline, look, layer, object);
    }

    pub fn piece(&mut self, a: [f32; 2], b: [f32; 2], along: f32, half: f32, look: Look, layer: u8) {
        let outline = Outline::Piece { a: self.world(a[0], a[1]), b: self.world(b[0], b[1]), along, half };
        self.feature(outline, look, layer, 0);
    }
}

/// The look of a patch of ground.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub texture: Texture,
    pub tint: V3,
    pub second: V3,
    pub param: f32,
}

pub fn look(texture: Texture, tint: V3, second: V3, param: f32) -> Look {
    Look { texture, tint, second, param }
}
