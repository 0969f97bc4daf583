//! The flat ground: outlines stacked in layers, each with a procedural texture.

use super::math::{V3, fbm, floor_i, hash_unit, noise, rgb, smoothstep, v3};

#[derive(Debug, Clone, Copy)]
pub enum Outline {
    /// `axis` is the unit direction of the first half size.
    Rect { centre: [f32; 2], axis: [f32; 2], half: [f32; 2] },
    /// A piece of road or river from `a` to `b`, round at its ends; `along` is where it starts on the whole line.
    Piece { a: [f32; 2], b: [f32; 2], along: f32, half: f32 },
    /// A rounded patch whose rim wanders.
    Blob { centre: [f32; 2], axis: [f32; 2], half: [f32; 2], wander: f32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Texture {
    Grass,
    Scrub,
    Asphalt,
    Concrete,
    Paving,
    Dirt,
    Gravel,
    Water,
    Bank,
    Crop,
    Bare,
    Soil,
    Char,
    Scum,
}

#[derive(Debug, Clone, Copy)]
pub struct Feature {
    pub outline: Outline,
    pub texture: Texture,
    pub tint: V3,
    pub second: V3,
    /// Row spacing, lane count: what the texture makes of it.
    pub param: f32,
    pub object: u32,
    pub seed: u32,
    /// Higher lies on top; equal layers in order of arrival.
    pub layer: u8,
}

/// What light meets at a point of the ground.
#[derive(Debug, Clone, Copy)]
pub struct Surface {
    pub albedo: V3,
    pub normal: V3,
    /// How much of the sky and sun it mirrors.
    pub gloss: f32,
    pub object: u32,
}

/// Where a point lies in an outline: along, across, and how far inside the rim.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub u: f32,
    pub v: f32,
    pub inside: f32,
}

impl Feature {
    /// Corners of the box around it: low east, low north, high east, high north.
    pub fn bounds(&self) -> [f32; 4] {
        match self.outline {
            Outline::Rect { centre, axis, half } => {
                let ex = (axis[0] * half[0]).abs() + (axis[1] * half[1]).abs();
                let ey = (axis[1] * half[0]).abs() + (axis[0] * half[1]).abs();
                [centre[0] - ex, centre[1] - ey, centre[0] + ex, centre[1] + ey]
            }
            Outline::Piece { a, b, half, .. } => {
                [a[0].min(b[0]) - half, a[1].min(b[1]) - half, a[0].max(b[0]) + half, a[1].max(b[1]) + half]
            }
            Outline::Blob { centre, half, .. } => {
                let r = half[0].max(half[1]);
                [centre[0] - r, centre[1] - r, centre[0] + r, centre[1] + r]
            }
        }
    }

    #[inline(always)]
    pub fn place(&self, x: f32, y: f32) -> Option<Place> {
        match self.outline {
            Outline::Rect { centre, axis, half } => {
                let (dx, dy) = (x - centre[0], y - centre[1]);
                let u = dx * axis[0] + dy * axis[1];
                let v = dy * axis[0] - dx * axis[1];
                let inside = (half[0] - u.abs()).min(half[1] - v.abs());
                (inside > 0.0).then_some(Place { u, v, inside })
            }
            Outline::Piece { a, b, along, half } => {
                let (ex, ey) = (b[0] - a[0], b[1] - a[1]);
                let length = (ex * ex + ey * ey).sqrt();
                let (ux, uy) = (ex / length, ey / length);
                let (dx, dy) = (x - a[0], y - a[1]);
                let s = (dx * ux + dy * uy).clamp(0.0, length);
                let v = dy * ux - dx * uy;
                let (rx, ry) = (dx - s * ux, dy - s * uy);
                let away = (rx * rx + ry * ry).sqrt();
                // From the line's side only: the round ends lie inside the next piece.
                (away < half).then_some(Place { u: along + s, v, inside: half - v.abs() })
            }
            Outline::Blob { centre, axis, half, wander } => {
                let (dx, dy) = (x - centre[0], y - centre[1]);
                let u = dx * axis[0] + dy * axis[1];
                let v = dy * axis[0] - dx * axis[1];
                let r = ((u / half[0]).powi(2) + (v / half[1]).powi(2)).sqrt();
                if r >= 1.0 {
                    return None;
                }
                let rough = noise(x * 0.45, y * 0.45, self.seed) * 0.7 + noise(x * 2.3, y * 2.3, self.seed ^ 7) * 0.3;
                let inside = (1.0 - r) - wander * rough;
                (inside > 0.0).then_some(Place { u, v, inside: inside * half[0].min(half[1]) })
            }
        }
    }

    pub fn surface(&self, x: f32, y: f32, place: Place, time: f32) -> Surface {
        let up = v3(0.0, 0.0, 1.0);
        let s = self.seed;
        let mut surface = Surface { albedo: self.tint, normal: up, gloss: 0.0, object: self.object };
        match self.texture {
            Texture::Grass => surface.albedo = grass(self.tint, self.second, x, y, s),
            Texture::Scrub => {
                let g = grass(self.tint, self.second, x, y, s);
                let patch = smoothstep(0.5, 0.66, fbm(x * 0.22, y * 0.22, s ^ 3, 3));
                let dirt = rgb(0x8a7a5e) * (0.75 + 0.5 * noise(x * 3.0, y * 3.0, s ^ 4));
                surface.albedo = g.mix(dirt, patch * 0.8);
            }
            Texture::Asphalt => surface.albedo = self.asphalt(x, y, place),
            Texture::Concrete => {
                let n = fbm(x * 0.35, y * 0.35, s, 3) * 0.35 + noise(x * 6.0, y * 6.0, s ^ 1) * 0.12;
                // Joints of the slabs, 4.5 m apart.
                let joint = joint(place.u, 4.5).min(joint(place.v, 4.5));
                let stain = smoothstep(0.62, 0.8, fbm(x * 0.5, y * 0.5, s ^ 9, 3)) * 0.25;
                surface.albedo = self.tint * ((0.78 + n - stain) * if joint < 0.07 { 0.72 } else { 1.0 });
            }
            Texture::Paving => {
                let cell = hash_unit(floor_i(place.u / 0.6), floor_i(place.v / 0.6), s);
                let n = fbm(x * 0.3, y * 0.3, s, 2);
                surface.albedo = self.tint.mix(self.second, cell * 0.5) * (0.75 + 0.4 * n);
            }
            Texture::Dirt => {
                let n = fbm(x * 0.6, y * 0.6, s, 4);
                let track = (1.0 - smoothstep(0.15, 0.5, (place.v.abs() - 0.85).abs())) * 0.12;
                let verge =
                    smoothstep(0.55, 0.75, fbm(x * 0.9, y * 0.9, s ^ 5, 2) + (0.25 - place.inside * 0.5).max(0.0));
                let d = self.tint * (0.65 + 0.6 * n + track);
                surface.albedo = d.mix(grass(self.second, self.second, x, y, s), verge * 0.8);
            }
            Texture::Gravel => {
                let fine = noise(x * 5.0, y * 5.0, s) * 0.5 + noise(x * 11.0, y * 11.0, s ^ 2) * 0.4;
                let broad = fbm(x * 0.25, y * 0.25, s ^ 4, 2);
                surface.albedo = self.tint.mix(self.second, broad) * (0.55 + 0.55 * fine + 0.2 * broad);
            }
            Texture::Water => {
                let broad = fbm(x * 0.06, y * 0.06, s, 3);
                let shore = 1.0 - smoothstep(0.0, 2.2, place.inside);
                let (wx, wy) = (x * 0.9 + time * 0.7, y * 0.9 - time * 0.4);
                let e = 0.35;
                let h = |a: f32, b: f32| noise(a, b, s ^ 11) + 0.5 * noise(a * 2.7, b * 2.7, s ^ 12);
                let h0 = h(wx, wy);
                let k = self.param;
                surface.normal = v3((h0 - h(wx + e, wy)) * k, (h0 - h(wx, wy + e)) * k, 1.0).unit();
                surface.albedo =
                    self.tint.mix(self.second, broad).mix(rgb(0x6e6a4c), shore * 0.35) * (0.85 + 0.3 * broad);
                surface.gloss = 1.0;
            }
            Texture::Bank => {
                let n = fbm(x * 0.8, y * 0.8, s, 3);
                let stones = hash_unit(floor_i(place.u / 0.9), floor_i(place.v / 0.7), s) * 0.18;
                surface.albedo = self.tint * (0.65 + 0.45 * n + stones);
            }
            Texture::Crop => surface.albedo = self.crop(x, y, place),
            Texture::Bare => {
                // Ploughed: furrows without plants.
                let furrow = (place.v / self.param * std::f32::consts::TAU).sin() * 0.09;
                let n = fbm(x * 0.5, y * 0.5, s, 4);
                let broad = fbm(x * 0.05, y * 0.05, s ^ 3, 2);
                surface.albedo = self.tint.mix(self.second, broad) * (0.7 + 0.45 * n + furrow);
                surface.normal = v3(0.0, furrow * 1.5, 1.0).unit();
            }
            Texture::Soil => self.soil(x, y, place, &mut surface),
            Texture::Char => {
                let n = fbm(x * 1.6, y * 1.6, s, 3);
                surface.albedo = rgb(0x26221f).mix(rgb(0x8d8982), smoothstep(0.55, 0.75, n) * 0.7) * (0.7 + 0.6 * n);
            }
            Texture::Scum => {
                let n = fbm(x * 1.8, y * 1.8, s, 3);
                surface.albedo = self.tint.mix(self.second, n) * (0.7 + 0.6 * n);
                surface.gloss = 0.25;
            }
        }
        surface
    }

    fn asphalt(&self, x: f32, y: f32, place: Place) -> V3 {
        let s = self.seed;
        let n = fbm(x * 0.25, y * 0.25, s, 2) * 0.3 + noise(x * 7.0, y * 7.0, s ^ 1) * 0.16;
        let crack = smoothstep(0.03, 0.0, (fbm(x * 0.3, y * 0.3, s ^ 21, 3) - 0.5).abs()) * 0.12;
        let patch = if noise(x * 0.11, y * 0.11, s ^ 6) > 0.78 { 0.82 } else { 1.0 };
        let base = self.tint * ((0.76 + n - crack) * patch);
        let half = match self.outline {
            Outline::Piece { half, .. } => half,
            Outline::Rect { half, .. } => half[1],
            Outline::Blob { .. } => return base,
        };
        // Lines wear off here and there.
        let wear = 0.35 + 0.6 * smoothstep(0.25, 0.6, noise(x * 0.8, y * 0.8, s ^ 8));
        let v = place.v.abs();
        let line = if self.param >= 2.0 && v < 0.09 && place.u.rem_euclid(9.0) < 4.5 {
            rgb(0xd9c46a)
        } else if self.param >= 1.0 && (v - (half - 0.35)).abs() < 0.08 {
            rgb(0xd8d8d2)
        } else {
            return base.mix(rgb(0x8d8674), (1.0 - smoothstep(0.0, 0.45, place.inside)) * 0.5);
        };
        base.mix(line, wear)
    }

    fn crop(&self, x: f32, y: f32, place: Place) -> V3 {
        let s = self.seed;
        let broad = fbm(x * 0.07, y * 0.07, s, 3);
        // Beds are broken by a walk-way every dozen metres.
        let gap = joint(place.u, 14.0) < 0.35 || place.inside < 0.5;
        let earth = self.second * (0.7 + 0.5 * noise(x * 2.5, y * 2.5, s ^ 2));
        if gap {
            return earth;
        }
        let row = joint(place.v + (noise(x * 0.8, y * 0.8, s ^ 4) - 0.5) * 0.15, self.param) / self.param;
        let sparse = noise(x * 1.4, y * 1.4, s ^ 5) * 0.25 + broad * 0.2;
        let plant = smoothstep(0.08 + sparse * 0.4, 0.2 + sparse * 0.5, row);
        let leaf = self.tint * (0.6 + 0.5 * broad + 0.4 * noise(x * 4.0, y * 4.0, s ^ 6));
        earth.mix(leaf, plant)
    }

    fn soil(&self, x: f32, y: f32, place: Place, surface: &mut Surface) {
        let s = self.seed;
        let height = |x: f32, y: f32| fbm(x * 0.45, y * 0.45, s, 4) * 1.6 + noise(x * 2.2, y * 2.2, s ^ 5) * 0.25;
        let e = 0.3;
        let h0 = height(x, y);
        let mut n = v3((h0 - height(x + e, y)) / e, (h0 - height(x, y + e)) / e, 1.0);
        let tone = fbm(x * 0.16, y * 0.16, s ^ 2, 3);
        let mut albedo = self.tint.mix(self.second, smoothstep(0.3, 0.7, tone)) * (0.62 + 0.6 * h0 / 1.6);
        // Wheel and track ruts that swing through the patch.
        let sway = (place.u * 0.22 + noise(x * 0.06, y * 0.06, s ^ 4) * 4.0).sin() * 2.2;
        for lane in [-1.35_f32, 1.35] {
            let d = (place.v - sway - lane).abs();
            if d < 0.42 {
                let tread = if (place.u * 4.5).rem_euclid(1.0) < 0.5 { 0.86 } else { 1.0 };
                albedo = albedo * (0.66 * tread);
                n = n + v3(0.0, (d - 0.2) * 0.8, 0.0);
            }
        }
        surface.albedo = albedo;
        surface.normal = n.unit();
    }
}

/// Distance to the nearest line of a family `step` apart.
#[inline(always)]
fn joint(v: f32, step: f32) -> f32 {
    let r = v.rem_euclid(step);
    r.min(step - r)
}

#[inline(always)]
pub fn grass(tint: V3, dry: V3, x: f32, y: f32, seed: u32) -> V3 {
    let broad = fbm(x * 0.045, y * 0.045, seed, 2);
    let middle = fbm(x * 0.5, y * 0.5, seed ^ 31, 2);
    let fine = noise(x * 4.3, y * 4.3, seed ^ 57);
    tint.mix(dry, smoothstep(0.4, 0.7, broad)) * (0.58 + 0.42 * middle + 0.36 * fine)
}
