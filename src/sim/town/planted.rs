//! What inspectors look for: the violations, each built and remembered with where its base truly is.

use super::draft::{Draft, KeepOut, Plot, layer, look};
use super::ground::Texture;
use super::math::{V3, noise, rgb, v3};
use super::props::{paint, plain};
use super::scene::{Plume, Puff};
use super::shapes::{Finish, Shape};

pub const HEAVY_MACHINE: u8 = 3;
pub const EARTHWORK: u8 = 4;
pub const GARBAGE: u8 = 5;
pub const FLOATING_DEBRIS: u8 = 6;
pub const BURNING: u8 = 7;

/// Kinds of planted violations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    NewBuilding,
    BlueRoof,
    HeavyMachine,
    Earthwork,
    Garbage,
    FloatingDebris,
    Burning,
}

impl Kind {
    /// As cases name it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::NewBuilding => "new_building",
            Kind::BlueRoof => "blue_roof",
            Kind::HeavyMachine => "heavy_machine",
            Kind::Earthwork => "earthwork",
            Kind::Garbage => "garbage",
            Kind::FloatingDebris => "floating_debris",
            Kind::Burning => "burning",
        }
    }
}

/// A violation chosen a place but not built yet.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    pub kind: Kind,
    /// On the town's own axes.
    pub at: [f32; 2],
    pub yaw: f32,
    /// Half sizes along and across.
    pub half: [f32; 2],
}

impl Site {
    pub fn radius(&self) -> f32 {
        match self.kind {
            Kind::NewBuilding | Kind::BlueRoof => self.half[0].hypot(self.half[1]),
            _ => self.half[0].max(self.half[1]),
        }
    }

    pub fn keep_out(&self) -> KeepOut {
        // Houses near the station's register lines would make an honest check ambiguous; tall ones hide what is beside them.
        let (extra, gap) = match self.kind {
            Kind::NewBuilding => (2.5, 12.0),
            Kind::BlueRoof => (2.5, 10.0),
            Kind::Burning => (4.0, 6.0),
            _ => (2.5, 4.5),
        };
        KeepOut { at: self.at, radius: self.radius() + extra, gap }
    }

    /// Builds it and returns the object it became.
    pub fn build(&self, d: &mut Draft, wind: [f32; 2]) -> u32 {
        let plot = Plot::new(self.at[0], self.at[1], self.yaw, self.half[0], self.half[1]);
        match self.kind {
            Kind::NewBuilding => {
                let rim = look(Texture::Dirt, rgb(0xa8977a), rgb(0x8a8a5a), 0.0);
                d.blob(
                    &Plot::new(plot.u, plot.v, plot.yaw, plot.half[0] * 1.7, plot.half[1] * 1.7),
                    0.25,
                    rim,
                    layer::PATCH,
                    0,
                );
                d.house(&plot, false)
            }
            Kind::BlueRoof => {
                let pad = look(Texture::Concrete, rgb(0xb0aca2), rgb(0xb0aca2), 0.0);
                d.rect(&Plot::new(plot.u, plot.v, plot.yaw, plot.half[0] + 1.8, plot.half[1] + 1.5), pad, layer::PATCH);
                d.shed(&plot, true, false)
            }
            Kind::HeavyMachine => machine(d, self.at, self.yaw),
            Kind::Earthwork => earthwork(d, &plot),
            Kind::Garbage => garbage(d, &plot),
            Kind::FloatingDebris => debris(d, &plot),
            Kind::Burning => burning(d, &plot, wind),
        }
    }
}

/// Bare, dug-up soil with ruts and heaps.
fn earthwork(d: &mut Draft, plot: &Plot) -> u32 {
    let id = d.object(EARTHWORK);
    let (tint, second) = d.dice.pick(&[
        (0x9c5a36, 0xb98a58),
        (0xa8663c, 0x8a4a30),
        (0xb59a68, 0x9a8458),
        (0xa58a62, 0xc2ab7e),
        (0x8f5236, 0xa87650),
    ]);
    let (tint, second) = (rgb(tint) * d.dice.range(0.85, 1.15), rgb(second) * d.dice.range(0.85, 1.15));
    d.blob(plot, 0.22, look(Texture::Soil, tint, second, 0.0), layer::PATCH, id);
    for _ in 0..d.dice.int(3, 7) {
        let (a, r) = (d.dice.angle(), d.dice.range(0.25, 0.68));
        let at = Draft::beside([plot.u, plot.v], plot.yaw, a.cos() * r * plot.half[0], a.sin() * r * plot.half[1]);
        // The machine works in the open end of the patch.
        if d.keep_outs.iter().any(|k| k.radius < 4.0 && (k.at[0] - at[0]).hypot(k.at[1] - at[1]) < 5.5) {
            continue;
        }
        let size = d.dice.range(0.9, 2.2);
        let (yaw, squash) = (d.dice.angle(), d.dice.range(0.6, 1.0));
        let tone = tint.mix(second, d.dice.unit()) * d.dice.range(0.85, 1.15);
        d.put(
            Shape::Ellipsoid,
            at,
            -size * 0.35,
            yaw,
            [size, size * squash, size * 0.6],
            paint(Finish::Soil, tone, tone * 0.72),
            id,
        );
    }
    id
}

/// An excavator with its arm out, or now and then a loader.
fn machine(d: &mut Draft, at: [f32; 2], yaw: f32) -> u32 {
    let id = d.object(HEAVY_MACHINE);
    let body = d.dice.colour(&[0xe0a81c, 0xd99a18, 0xe0701f, 0xe5b92e, 0xd8861a, 0x4f9a6a], 0.1);
    let (shell, dark) = (plain(body), plain(rgb(0x2a2826)));
    let glass = paint(Finish::Glass, rgb(0x1a2228), rgb(0x1a2228));
    // The footprint's middle lies a metre ahead of the turntable.
    let at = Draft::beside(at, yaw, -1.0, 0.0);
    let tracks = yaw + d.dice.range(-0.7, 0.7);
    for side in [-1.05, 1.05] {
        d.put(
            Shape::Box,
            Draft::beside(at, tracks, 0.0, side),
            0.0,
            tracks,
            [1.95, 0.34, 0.42],
            plain(rgb(0x3a3530)),
            id,
        );
    }
    d.put(Shape::Box, at, 0.3, tracks, [0.9, 0.9, 0.3], dark, id);
    d.put(Shape::Box, Draft::beside(at, yaw, -0.35, 0.0), 0.95, yaw, [1.75, 1.3, 0.5], shell, id);
    d.put(Shape::Box, Draft::beside(at, yaw, -1.75, 0.0), 1.0, yaw, [0.42, 1.25, 0.62], plain(body * 0.55), id);
    d.put(Shape::Box, Draft::beside(at, yaw, -1.0, -0.2), 1.95, yaw, [0.6, 0.7, 0.06], dark, id);
    d.put(Shape::Box, Draft::beside(at, yaw, 0.65, 0.8), 1.1, yaw, [0.75, 0.48, 0.75], glass, id);
    d.put(Shape::Box, Draft::beside(at, yaw, 0.65, 0.8), 2.6, yaw, [0.72, 0.46, 0.05], shell, id);
    // Boom up, stick down, bucket.
    let lift = d.dice.range(0.45, 0.75);
    let boom = 1.75;
    let elbow = 0.6 + 2.0 * boom * f32::cos(lift);
    let top = 1.5 + 2.0 * boom * f32::sin(lift);
    d.put_tilted(
        Shape::Box,
        Draft::beside(at, yaw, 0.6 + boom * f32::cos(lift), -0.1),
        1.5 + boom * f32::sin(lift),
        yaw,
        lift,
        [boom + 0.1, 0.26, 0.32],
        shell,
        id,
    );
    let reach = d.dice.range(0.2, 0.9);
    d.put_tilted(
        Shape::Box,
        Draft::beside(at, yaw, elbow + reach * 0.5, -0.1),
        top * 0.5 + 0.3,
        yaw,
        -(top - 0.6).atan2(reach),
        [(top * 0.5).hypot(reach * 0.5), 0.2, 0.22],
        plain(body * 0.9),
        id,
    );
    d.put(
        Shape::Box,
        Draft::beside(at, yaw, elbow + reach, -0.1),
        0.05,
        yaw,
        [0.5, 0.6, 0.45],
        plain(rgb(0x4a4642)),
        id,
    );
    id
}

/// A heap of mixed refuse: bags, boards, bottles, cloth.
fn garbage(d: &mut Draft, plot: &Plot) -> u32 {
    let id = d.object(GARBAGE);
    let stain = look(Texture::Char, rgb(0x5a5348), rgb(0x5a5348), 0.0);
    let soil = look(Texture::Gravel, rgb(0x6d6354), rgb(0x8a8070), 0.0);
    let stain = if d.dice.chance(0.2) { stain } else { soil };
    d.blob(
        &Plot::new(plot.u, plot.v, plot.yaw, plot.half[0] * 1.12, plot.half[1] * 1.12),
        0.25,
        stain,
        layer::SPOT,
        id,
    );
    let [hu, hv] = plot.half;
    for _ in 0..d.dice.int(2, 4) {
        let at =
            Draft::beside([plot.u, plot.v], plot.yaw, d.dice.range(-0.35, 0.35) * hu, d.dice.range(-0.35, 0.35) * hv);
        let r = d.dice.range(0.28, 0.5) * hu.min(hv);
        let tone = d.dice.colour(&[0x6d665a, 0x55504a, 0x7c7464], 0.15);
        d.put(Shape::Ellipsoid, at, -r * 0.3, 0.0, [r * 1.3, r, r * 0.55], paint(Finish::Soil, tone, tone * 0.6), id);
    }
    let bits = (hu * hv * d.dice.range(38.0, 60.0)) as usize;
    for _ in 0..bits.clamp(90, 420) {
        let (a, r) = (d.dice.angle(), d.dice.unit().sqrt() * 0.92);
        let (x, y) = (a.cos() * r, a.sin() * r);
        // Strewn thinner towards an uneven rim.
        if noise(x * 2.0 + plot.u, y * 2.0 + plot.v, 5) * 0.6 + 0.58 < r {
            continue;
        }
        let at = Draft::beside([plot.u, plot.v], plot.yaw, x * hu, y * hv);
        let tone = d.dice.colour(
            &[
                0xf4f4f2, 0xf0f0ee, 0xe6e6e2, 0xd8d6ce, 0xc9c5ba, 0x2b2b2d, 0x1c1d20, 0xb5493f, 0xcdbb55, 0x4a72b4,
                0x4a8a66, 0xb98a58, 0x9a7a55, 0x7a6a54, 0xd795b0, 0x6fb0bb, 0x8a8a88,
            ],
            0.2,
        );
        let z = (1.0 - r) * hu.min(hv) * 0.28;
        let (s, yaw, tilt) = (0.07 + 0.26 * d.dice.unit().powi(2), d.dice.angle(), d.dice.range(-0.6, 0.6));
        if d.dice.chance(0.45) {
            d.put(Shape::Ellipsoid, at, z, yaw, [s * 1.2, s, s * 0.7], plain(tone), id);
        } else {
            let (long, flat) = (d.dice.range(0.8, 2.2), d.dice.range(0.15, 0.6));
            d.put_tilted(Shape::Box, at, z + s * 0.4, yaw, tilt, [s * long, s, s * flat], plain(tone), id);
        }
    }
    id
}

/// Scum, foam boxes, bottles and weed that drift together.
fn debris(d: &mut Draft, plot: &Plot) -> u32 {
    let id = d.object(FLOATING_DEBRIS);
    let [hu, hv] = plot.half;
    let scum = d.dice.colour(&[0x4a4630, 0x8b8358, 0x3f4a2a, 0x9a9474, 0x6a5a3a], 0.15);
    d.blob(
        &Plot::new(plot.u, plot.v, plot.yaw, hu * 1.1, hv * 1.1),
        0.24,
        look(Texture::Scum, scum, scum.mix(rgb(0xb8b49a), 0.5), 0.0),
        layer::SPOT,
        id,
    );
    for _ in 0..((hu * hv * d.dice.range(22.0, 38.0)) as usize).clamp(40, 260) {
        let (a, r) = (d.dice.angle(), d.dice.unit().sqrt() * 0.9);
        let at = Draft::beside([plot.u, plot.v], plot.yaw, a.cos() * r * hu, a.sin() * r * hv);
        let tone = d.dice.colour(
            &[
                0xf4f4f0, 0xefefe8, 0xf0f0ee, 0xd8d2c0, 0x8a6f4c, 0x6e5a3e, 0x3f8a5a, 0x3a72c0, 0xc94a3a, 0xd8b83a,
                0x4f6e34, 0x5c7a3a,
            ],
            0.15,
        );
        let (s, yaw) = (0.05 + 0.2 * d.dice.unit().powi(2), d.dice.angle());
        if d.dice.chance(0.4) {
            d.put(Shape::Ellipsoid, at, -s * 0.2, yaw, [s * 1.3, s, s * 0.5], plain(tone), id);
        } else {
            let long = d.dice.range(0.8, 3.2);
            d.put(Shape::Box, at, 0.0, yaw, [s * long, s * 0.7, s * 0.25], plain(tone), id);
        }
    }
    id
}

/// A fire on the ground and the smoke that leans away from it.
fn burning(d: &mut Draft, plot: &Plot, wind: [f32; 2]) -> u32 {
    let id = d.object(BURNING);
    d.blob(
        &Plot::new(plot.u, plot.v, plot.yaw, plot.half[0] * 1.5, plot.half[1] * 1.4),
        0.3,
        look(Texture::Char, rgb(0x2a2522), rgb(0x2a2522), 0.0),
        layer::SPOT,
        id,
    );
    let [hu, hv] = plot.half;
    for _ in 0..d.dice.int(6, 12) {
        let at = Draft::beside([plot.u, plot.v], plot.yaw, d.dice.range(-0.8, 0.8) * hu, d.dice.range(-0.8, 0.8) * hv);
        let (s, yaw) = (d.dice.range(0.2, 0.5), d.dice.angle());
        let ash = d.dice.colour(&[0x3a332c, 0x241f1c, 0x5a5048], 0.2);
        d.put(Shape::Box, at, 0.0, yaw, [s * 1.6, s * 0.4, s * 0.4], plain(ash), id);
    }
    for _ in 0..d.dice.int(9, 15) {
        let (a, r) = (d.dice.angle(), d.dice.unit() * 0.85);
        let at = Draft::beside([plot.u, plot.v], plot.yaw, a.cos() * r * hu, a.sin() * r * hv);
        let s = d.dice.range(0.22, 0.55);
        let tall = s * d.dice.range(1.2, 2.4);
        let flame = paint(Finish::Flame, v3(1.0, 0.16, 0.015), v3(1.0, 0.55, 0.09));
        d.put(Shape::Ellipsoid, at, 0.0, 0.0, [s, s, tall], flame, id);
    }
    let grey = d.dice.range(0.25, 1.0);
    let base = d.world(plot.u, plot.v);
    let strength = d.dice.range(0.8, 1.25);
    let count = 22;
    let puffs: Vec<Puff> = (0..count)
        .map(|i| {
            let k = i as f32 / (count - 1) as f32;
            let rise = 0.7 + 6.3 * k;
            let sigma = 0.5 + 2.0 * k;
            // Dense only near the seat, a veil further out: the middle of what is plainly smoke stays near the fire.
            let depth = strength * if k < 0.25 { 1.35 - k } else { 2.2 * (1.0 - k).powi(4) };
            let wobble = |d: &mut Draft| d.dice.range(-0.5, 0.5) * (0.4 + k);
            Puff {
                centre: v3(base[0] + wind[0] * rise + wobble(d), base[1] + wind[1] * rise + wobble(d), rise),
                sigma,
                depth: depth * 1.5,
            }
        })
        .collect();
    // Leeward of the seat, so that flames stay in sight.
    let middle = v3(base[0] + wind[0] * 5.0, base[1] + wind[1] * 5.0, 5.0);
    let seed = d.dice.seed();
    let tone: V3 = v3(1.0, 0.98, 0.95) * grey;
    d.plumes.push(Plume { object: id, centre: middle, radius: 16.0, tone, puffs, seed });
    id
}
