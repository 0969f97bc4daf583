//! Trees, vehicles and the clutter of yards and roofs.

use std::f32::consts::TAU;

use super::draft::{Draft, Plot, layer, look};
use super::ground::Texture;
use super::math::{V3, rgb};
use super::shapes::{Finish, Paint, Shape};

pub const VEHICLE: u8 = 2;

pub fn plain(base: V3) -> Paint {
    Paint { finish: Finish::Plain, base, second: base }
}

pub fn paint(finish: Finish, base: V3, second: V3) -> Paint {
    Paint { finish, base, second }
}

/// The greens of a season.
#[derive(Debug, Clone, Copy)]
pub struct Greens {
    pub grass: V3,
    pub dry: V3,
    pub leaf: [V3; 3],
}

impl Draft {
    /// A broad-leaved tree: a few lobes around a crown. `size` is the crown's radius.
    pub fn tree(&mut self, at: [f32; 2], size: f32, greens: &Greens) {
        let tone = self.dice.pick(&greens.leaf);
        let k = self.dice.range(0.75, 1.25);
        let base = tone * k;
        let second = base.mix(rgb(0x9aa84e), self.dice.range(0.1, 0.5));
        let leaf = paint(Finish::Leaf, base, second);
        let trunk = size * self.dice.range(0.7, 1.2);
        let flat = self.dice.range(0.55, 0.85);
        self.put(
            Shape::Cylinder,
            at,
            0.0,
            0.0,
            [0.12 + size * 0.03, 0.12 + size * 0.03, trunk * 0.6],
            plain(rgb(0x5b4a38)),
            0,
        );
        self.put(Shape::Ellipsoid, at, trunk, 0.0, [size * 0.72, size * 0.72, size * flat], leaf, 0);
        let lobes = if size > 1.6 { self.dice.int(4, 6) } else { self.dice.int(1, 3) };
        let start = self.dice.angle();
        for i in 0..lobes {
            let angle = start + i as f32 * TAU / lobes as f32 + self.dice.range(-0.35, 0.35);
            let away = size * self.dice.range(0.4, 0.62);
            let r = size * self.dice.range(0.36, 0.55);
            let z = trunk + size * flat * self.dice.range(0.15, 0.85);
            let leaf = paint(Finish::Leaf, base * self.dice.range(0.85, 1.15), second);
            let spot = [at[0] + away * angle.cos(), at[1] + away * angle.sin()];
            self.put(Shape::Ellipsoid, spot, z, 0.0, [r, r, r * 0.8], leaf, 0);
        }
        self.trees.push(at);
    }

    /// A palm or banana plant: arched fronds around a stem.
    pub fn palm(&mut self, at: [f32; 2], size: f32) {
        let base = self.dice.colour(&[0x5f7d33, 0x4c6e2e, 0x789a3e], 0.2);
        let height = size * self.dice.range(0.9, 2.0);
        self.put(Shape::Cylinder, at, 0.0, 0.0, [0.13, 0.13, height * 0.5], plain(rgb(0x75654c)), 0);
        let fronds = self.dice.int(7, 10);
        for i in 0..fronds {
            let yaw = i as f32 * TAU / fronds as f32 + self.dice.range(-0.25, 0.25);
            let long = size * self.dice.range(0.42, 0.55);
            let leaf = plain(base * self.dice.range(0.7, 1.2));
            let middle = Draft::beside(at, yaw, long, 0.0);
            let droop = self.dice.range(-0.45, 0.1);
            self.put_tilted(Shape::Ellipsoid, middle, height + 0.1, yaw, droop, [long, 0.32, 0.05], leaf, 0);
        }
        self.trees.push(at);
    }

    pub fn bush(&mut self, at: [f32; 2], size: f32, greens: &Greens) {
        let tone = self.dice.pick(&greens.leaf) * self.dice.range(0.8, 1.4);
        let leaf = paint(Finish::Leaf, tone, tone.mix(rgb(0xa3ad55), 0.4));
        self.put(Shape::Ellipsoid, at, -0.2, 0.0, [size, size * 0.85, size * 0.8], leaf, 0);
    }

    /// A car, van, truck or bus, standing on `at` and facing `yaw`.
    /// `kind` in [0, 1) goes from cars over vans and trucks to buses.
    pub fn vehicle(&mut self, at: [f32; 2], yaw: f32, kind: f32) {
        let id = self.object(VEHICLE);
        let body = self.dice.colour(
            &[
                0xf2f2ef, 0xe9e9e6, 0x1d1f22, 0x2a2c30, 0x9a9da0, 0xb9bcbe, 0x8c1a1c, 0x1f3f7d, 0x274b9a, 0x6d5a46,
                0xc9b07a, 0x2f5a42, 0xd98b1f,
            ],
            0.15,
        );
        let glass = paint(Finish::Glass, rgb(0x1b2126), rgb(0x1b2126));
        let dark = plain(rgb(0x1a1a1b));
        let shell = plain(body);
        let ahead = |d: f32| Draft::beside(at, yaw, d, 0.0);
        if kind < 0.66 {
            let (l, w) = (self.dice.range(2.0, 2.4), self.dice.range(0.86, 0.95));
            self.put(Shape::Box, at, 0.15, yaw, [l * 0.96, w * 0.96, 0.12], dark, id);
            self.put(Shape::Box, at, 0.35, yaw, [l, w, 0.27], shell, id);
            self.put(Shape::Box, ahead(-0.25), 0.85, yaw, [l * 0.58, w * 0.88, 0.24], glass, id);
            self.put(Shape::Box, ahead(-0.3), 1.3, yaw, [l * 0.4, w * 0.8, 0.06], shell, id);
        } else if kind < 0.8 {
            let l = self.dice.range(2.4, 2.8);
            self.put(Shape::Box, at, 0.2, yaw, [l * 0.96, 0.9, 0.15], dark, id);
            self.put(Shape::Box, at, 0.4, yaw, [l, 0.98, 0.35], shell, id);
            self.put(Shape::Box, ahead(-0.2), 1.1, yaw, [l * 0.9, 0.92, 0.3], glass, id);
            self.put(Shape::Box, ahead(-0.35), 1.6, yaw, [l * 0.82, 0.9, 0.15], shell, id);
        } else if kind < 0.95 {
            let l = self.dice.range(2.2, 3.8);
            let cab = self.dice.colour(&[0xeeeeea, 0x2a57a8, 0xb0221f, 0xd9a21e, 0x39617a], 0.1);
            self.put(Shape::Box, at, 0.4, yaw, [l + 1.0, 1.0, 0.2], dark, id);
            self.put(Shape::Box, ahead(l * 0.5 + 1.0), 0.6, yaw, [0.85, 1.1, 0.9], plain(cab), id);
            self.put(Shape::Box, ahead(l * 0.5 + 1.75), 1.3, yaw, [0.14, 1.0, 0.4], glass, id);
            if self.dice.chance(0.5) {
                let box_paint = self.dice.colour(&[0xe8e8e4, 0xd8d8d0, 0x2f62b0, 0x3d7a55, 0xb5482e], 0.1);
                self.put(Shape::Box, ahead(-0.9), 0.9, yaw, [l, 1.2, 1.2], plain(box_paint), id);
            } else {
                let load = self.dice.colour(&[0x8a7a60, 0x9b9b98, 0x55493c, 0xa08a5c], 0.15);
                let side = self.dice.colour(&[0x3a4a63, 0x7d2c22, 0x46604a], 0.1);
                self.put(Shape::Box, ahead(-0.9), 0.9, yaw, [l, 1.2, 0.45], plain(side), id);
                self.put(
                    Shape::Ellipsoid,
                    ahead(-0.9),
                    1.2,
                    yaw,
                    [l * 0.92, 1.08, 0.55],
                    paint(Finish::Soil, load, load * 0.7),
                    id,
                );
            }
        } else {
            let bus = self.dice.colour(&[0xf0f0ec, 0x3e8f5a, 0xe0b030, 0x2f6fb5, 0xc2453a], 0.08);
            self.put(Shape::Box, at, 0.3, yaw, [5.3, 1.22, 0.5], plain(bus), id);
            self.put(Shape::Box, at, 1.3, yaw, [5.28, 1.2, 0.45], glass, id);
            self.put(Shape::Box, at, 2.2, yaw, [5.3, 1.22, 0.35], plain(bus.mix(rgb(0xf4f4f0), 0.6)), id);
            for d in [-3.0, 2.6] {
                self.put(Shape::Box, ahead(d), 2.9, yaw, [0.9, 0.7, 0.12], plain(rgb(0xc9c9c6)), id);
            }
        }
    }

    /// What lies about in yards and on lots; none of it is a violation.
    pub fn clutter(&mut self, at: [f32; 2], yaw: f32) {
        match self.dice.int(0, 9) {
            0 | 1 => {
                // A tarpaulin over something low: blue often enough to be mistaken for a roof.
                let tone = self.dice.colour(&[0x2a5fb0, 0x2f6cc2, 0x3c7a52, 0xc77b2d, 0x7a7d80, 0x1f4f9c], 0.15);
                let half = [self.dice.range(1.0, 2.6), self.dice.range(0.8, 1.8), self.dice.range(0.12, 0.5)];
                self.put(Shape::Box, at, 0.0, yaw, half, paint(Finish::Cloth, tone, tone), 0);
            }
            2 | 3 => {
                let tone = self.dice.colour(&[0x9c3b2a, 0x2d5d8f, 0x3f7350, 0xb0b3b5, 0xc28a2f, 0x6b3a2f], 0.12);
                self.put(Shape::Box, at, 0.0, yaw, [3.05, 1.22, 1.3], paint(Finish::Steel, tone, rgb(0x6e4630)), 0);
            }
            4 | 5 => {
                // Goods on pallets, in rows: many colours, but tidy.
                let tone = self.dice.colour(&[0xb08a57, 0xc7a878, 0xd7d2c6, 0x8fa3b3, 0x9e6b4a], 0.1);
                let (rows, columns) = (self.dice.int(1, 2), self.dice.int(2, 4));
                for r in 0..rows {
                    for c in 0..columns {
                        let spot = Draft::beside(at, yaw, c as f32 * 1.35 - 2.0, r as f32 * 1.35 - 0.7);
                        let tall = self.dice.range(0.3, 0.7);
                        let shade = self.dice.range(0.9, 1.1);
                        self.put(Shape::Box, spot, 0.0, yaw, [0.55, 0.55, tall], plain(tone * shade), 0);
                    }
                }
            }
            6 => {
                let tone = self.dice.colour(&[0x2c63b5, 0x3a76c4, 0xc9c9c4, 0x37393b], 0.1);
                for i in 0..self.dice.int(1, 3) {
                    let spot = Draft::beside(at, yaw, i as f32 * 1.5, 0.0);
                    self.put(Shape::Cylinder, spot, 0.0, 0.0, [0.62, 0.62, 0.8], plain(tone), 0);
                }
            }
            7 => {
                for i in 0..self.dice.int(2, 5) {
                    let spot = Draft::beside(at, yaw, i as f32 * 1.4 - 2.0, self.dice.range(-0.2, 0.2));
                    let hay = self.dice.colour(&[0xbfa35a, 0xc9ae66, 0xa98c48], 0.1);
                    self.put(Shape::Ellipsoid, spot, -0.1, yaw, [0.65, 0.6, 0.6], plain(hay), 0);
                }
            }
            8 => {
                // Steel bars, planks or pipes in a bundle.
                let tone = self.dice.colour(&[0x8d7355, 0x6f6f70, 0xa9a49a, 0xb99a6c], 0.1);
                for i in 0..5 {
                    let spot = Draft::beside(at, yaw, 0.0, i as f32 * 0.32);
                    let shade = self.dice.range(0.8, 1.15);
                    self.put(Shape::Box, spot, 0.0, yaw, [2.2, 0.13, 0.16], plain(tone * shade), 0);
                }
            }
            _ => {
                // A heap of sand or stone, clean-edged.
                let tone = self.dice.colour(&[0xc9b587, 0xa9a69e, 0x8f8c86, 0xd6c79c], 0.1);
                let r = self.dice.range(0.9, 1.8);
                self.put(Shape::Cone, at, 0.0, yaw, [r, r * 0.9, r * 0.3], paint(Finish::Soil, tone, tone * 0.85), 0);
            }
        }
    }

    /// A market stall's parasol.
    pub fn parasol(&mut self, at: [f32; 2]) {
        let tone = self.dice.colour(&[0xc23a31, 0x2f6fc0, 0xe0c23a, 0x3d9a5a, 0xe8e6de, 0xd2702a], 0.12);
        let r = self.dice.range(1.1, 1.6);
        self.put(Shape::Cylinder, at, 0.0, 0.0, [0.04, 0.04, 1.1], plain(rgb(0x888888)), 0);
        self.put(Shape::Cone, at, 1.9, 0.0, [r, r, 0.28], plain(tone), 0);
        self.put(Shape::Box, at, 0.0, 0.3, [0.8, 0.5, 0.4], plain(rgb(0x9a7a52)), 0);
    }

    pub fn pool(&mut self, at: [f32; 2], yaw: f32) {
        let (hu, hv) = (self.dice.range(1.5, 3.0), self.dice.range(1.0, 1.8));
        let rim = look(Texture::Concrete, rgb(0xcac6bc), rgb(0xcac6bc), 0.0);
        let water = look(Texture::Water, rgb(0x3fa6c9), rgb(0x58bcd8), 0.12);
        self.rect(&Plot::new(at[0], at[1], yaw, hu + 0.5, hv + 0.5), rim, layer::PATCH);
        self.rect(&Plot::new(at[0], at[1], yaw, hu, hv), water, layer::SPOT);
    }

    pub fn boat(&mut self, at: [f32; 2], yaw: f32) {
        let wood = self.dice.colour(&[0x6e5238, 0x8a8f90, 0x3d5a6e, 0x9c7a4c], 0.15);
        self.put(Shape::Ellipsoid, at, -0.25, yaw, [2.3, 0.62, 0.4], plain(wood), 0);
        self.put(Shape::Box, at, 0.12, yaw, [0.9, 0.36, 0.06], plain(wood * 0.45), 0);
        if self.dice.chance(0.4) {
            let tone = self.dice.colour(&[0x2f62a8, 0x8a8a85, 0x4f7a58], 0.1);
            self.put(Shape::Box, at, 0.75, yaw, [0.9, 0.6, 0.05], paint(Finish::Cloth, tone, tone), 0);
        }
    }
}
