//! Light, weather, and how each finish answers them.

use super::ground::Surface;
use super::math::{Dice, V3, fbm, floor_i, hash_unit, noise, rgb, smoothstep, v3};
use super::shapes::{Finish, Hit, Prim, Shape};

/// The weather of a town's day.
#[derive(Debug, Clone, Copy)]
pub struct Light {
    pub to_sun: V3,
    pub sun: V3,
    pub sky: V3,
    pub haze: V3,
    /// Extinction a metre.
    pub haze_density: f32,
    pub exposure: f32,
    /// How much colour survives the camera's processing.
    pub saturation: f32,
    pub sun_shadows: bool,
    /// Wind, metres of drift for each metre of rise.
    pub wind: [f32; 2],
    pub time: f32,
}

impl Light {
    pub fn roll(dice: &mut Dice) -> Self {
        let cloudy = dice.chance(0.3);
        let elevation = dice.range(32.0, 74.0f32).to_radians();
        let azimuth = dice.range(0.0, std::f32::consts::TAU);
        let warm = dice.range(0.0, 1.0) * (1.0 - (elevation - 0.55).clamp(0.0, 0.6));
        let strength = if cloudy { dice.range(0.25, 0.6) } else { dice.range(2.1, 2.7) };
        let sky = if cloudy { v3(1.0, 1.03, 1.08) * 1.05 } else { v3(0.40, 0.50, 0.66) * dice.range(0.85, 1.15) };
        let wind_way = dice.range(0.0, std::f32::consts::TAU);
        let wind = dice.range(0.7, 1.2);
        Self {
            to_sun: v3(elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin(), elevation.sin()),
            sun: v3(1.0, 0.97 - 0.07 * warm, 0.92 - 0.2 * warm) * strength,
            sky,
            haze: if cloudy { v3(0.75, 0.78, 0.8) } else { v3(0.66, 0.74, 0.84) },
            haze_density: dice.range(0.0001, 0.0012),
            exposure: dice.range(0.8, 1.15) * if cloudy { 0.92 } else { 0.56 },
            saturation: dice.range(0.78, 1.05),
            sun_shadows: !cloudy || dice.chance(0.5),
            wind: [wind * wind_way.cos(), wind * wind_way.sin()],
            time: dice.range(0.0, 1000.0),
        }
    }

    /// Light leaving a surface towards the eye.
    #[inline(always)]
    pub fn reflect(&self, s: &Surface, direction: V3, lit: bool, open_sky: f32) -> V3 {
        let up = 0.5 + 0.5 * s.normal.z;
        let bounce = v3(0.12, 0.11, 0.085) * (1.0 - up);
        let ambient = (self.sky * up + bounce) * open_sky;
        let sun = if lit { self.sun * s.normal.dot(self.to_sun).max(0.0) } else { V3::default() };
        let diffuse = s.albedo.times(ambient + sun);
        if s.gloss <= 0.0 {
            return diffuse;
        }
        let facing = (-s.normal.dot(direction)).clamp(0.0, 1.0);
        let fresnel = s.gloss * (0.04 + 0.96 * (1.0 - facing).powi(5));
        let mirrored = direction - s.normal * (2.0 * s.normal.dot(direction));
        let glint = if lit { mirrored.dot(self.to_sun).max(0.0).powi(220) * 5.0 } else { 0.0 };
        diffuse * (1.0 - fresnel) + self.haze * (fresnel * 1.1) + self.sun * (glint * s.gloss * (0.15 + fresnel))
    }
}

/// The look of a solid where a ray meets it, and the light it gives off by itself.
pub fn surface(prim: &Prim, hit: &Hit, time: f32) -> (Surface, V3) {
    let p = hit.local;
    let s = prim.seed;
    let mut out = Surface { albedo: prim.paint.base, normal: hit.normal, gloss: 0.0, object: prim.object };
    let mut glow = V3::default();
    // Coordinates on the face: along it, and up or across it.
    let top = hit.local_normal.z.abs() > 0.5;
    let (u, v) = if top {
        (p.x, p.y)
    } else if hit.local_normal.x.abs() > 0.5 {
        (p.y, p.z)
    } else {
        (p.x, p.z)
    };
    match prim.paint.finish {
        Finish::Plain => out.albedo = out.albedo * (0.9 + 0.2 * noise(u * 1.3, v * 1.3, s)),
        Finish::Cloth => {
            let n = |u: f32, v: f32| fbm(u * 0.9, v * 0.9, s, 3);
            let h = n(u, v);
            out.normal =
                (hit.normal + prim.axes[0] * ((h - n(u + 0.3, v)) * 1.1) + prim.axes[1] * ((h - n(u, v + 0.3)) * 1.1))
                    .unit();
            out.albedo = out.albedo * (0.8 + 0.4 * h);
        }
        Finish::Wall => {
            let streak = fbm(u * 0.8, v * 0.15, s, 2);
            out.albedo = out.albedo * (0.78 + 0.35 * streak);
            if !top {
                let z = v + prim.half.z;
                let (floor, bay) = (z.rem_euclid(3.2), (u + 100.0).rem_euclid(2.9));
                if (1.0..2.3).contains(&floor) && (0.7..2.0).contains(&bay) {
                    out.albedo = prim.paint.second;
                    out.gloss = 0.5;
                }
            }
        }
        Finish::Slab => {
            let stain = smoothstep(0.45, 0.75, fbm(u * 0.35, v * 0.35, s, 3));
            let damp = smoothstep(0.6, 0.75, fbm(u * 0.18, v * 0.18, s ^ 5, 2));
            out.albedo = out.albedo * (0.84 + 0.2 * noise(u * 2.2, v * 2.2, s ^ 2) - 0.16 * stain - 0.14 * damp);
            if !top {
                out.albedo = out.albedo * 0.92;
            }
        }
        Finish::Tiles => {
            if top || prim.shape == Shape::Gable {
                let course = (p.y.abs() * 3.4).rem_euclid(1.0);
                let column = (p.x * 4.2).rem_euclid(1.0);
                let each = hash_unit(floor_i(p.x * 4.2), floor_i(p.y * 3.4), s);
                let moss = smoothstep(0.5, 0.75, fbm(p.x * 0.4, p.y * 0.4, s, 3));
                let k = 0.72 + 0.2 * each + 0.12 * course + 0.1 * (column - 0.5).abs();
                out.albedo = out.albedo.mix(prim.paint.second, moss * 0.55) * k;
                if p.z > prim.half.z - 0.12 {
                    out.albedo = out.albedo.mix(rgb(0xb0aaa0), 0.5);
                }
            }
        }
        Finish::Steel => {
            // Corrugation runs down the slope; sheets are a metre wide and each has aged by itself.
            let wave = (p.x * 6.5).rem_euclid(1.0);
            let sheet = hash_unit(floor_i(p.x / 1.05), floor_i((p.y + 60.0) / 6.0), s);
            let old = fbm(p.x * 0.22, p.y * 0.22, s ^ 3, 3);
            let rust = smoothstep(0.62, 0.8, fbm(p.x * 0.5, p.y * 0.16, s ^ 4, 3));
            out.albedo = out.albedo * (0.82 + 0.14 * (wave - 0.5).abs() * 2.0 + 0.1 * sheet + 0.12 * (old - 0.5));
            out.albedo = out.albedo.mix(prim.paint.second, rust * 0.32);
            out.gloss = 0.12;
            if p.y.abs() < 0.22 && prim.shape == Shape::Gable && p.z > 0.0 {
                out.albedo = out.albedo * 0.85;
            }
        }
        Finish::Leaf => {
            let w = hit.normal;
            // Skewed by height, so that steep sides are not drawn out into stripes.
            let (a, b) = (p.x + p.z * 0.9, p.y - p.z * 0.7);
            let n = noise(a * 2.6, b * 2.6, s) * 0.6 + noise(a * 6.1, b * 6.1, s ^ 5) * 0.4;
            let fine = noise(a * 9.0 + 3.0, b * 9.0 - p.z * 4.0, s ^ 6);
            let jitter = v3(n - 0.5, noise(b * 3.1, a * 3.1 + p.z, s ^ 9) - 0.5, 0.15) * 1.1;
            out.normal = (w + jitter).unit();
            out.albedo =
                prim.paint.base.mix(prim.paint.second, smoothstep(0.35, 0.8, n)) * (0.5 + 0.5 * n + 0.45 * fine);
            // Light sinks into the gaps low in the crown.
            out.albedo = out.albedo * (0.62 + 0.38 * smoothstep(-0.4, 0.7, w.z));
        }
        Finish::Glass => {
            out.albedo = out.albedo * (0.7 + 0.5 * noise(u, v, s));
            out.gloss = 1.0;
        }
        Finish::Soil => {
            let n = fbm(p.x * 1.1 + p.z, p.y * 1.1, s, 4);
            let m = fbm(p.x * 1.1 + p.z + 0.25, p.y * 1.1, s, 4);
            let q = fbm(p.x * 1.1 + p.z, p.y * 1.1 + 0.25, s, 4);
            out.normal = (hit.normal + prim.axes[0] * ((n - m) * 3.0) + prim.axes[1] * ((n - q) * 3.0)).unit();
            out.albedo = out.albedo.mix(prim.paint.second, n) * (0.65 + 0.6 * n);
        }
        Finish::Flame => {
            let n = fbm(p.x * 1.7 + time, p.y * 1.7 - time, s, 2);
            glow = prim.paint.base.mix(prim.paint.second, smoothstep(0.3, 0.7, n)) * (1.6 + 2.4 * n);
            out.albedo = v3(0.02, 0.015, 0.01);
        }
        Finish::Solar => {
            let line = (p.x * 8.0).rem_euclid(1.0) < 0.25 || p.y.abs() > prim.half.y - 0.06;
            out.albedo = if line && top { prim.paint.second } else { prim.paint.base };
            out.gloss = 0.9;
        }
    }
    (out, glow)
}
