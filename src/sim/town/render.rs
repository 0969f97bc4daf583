//! The camera: one ray a pixel into the town, exact perspective, and then what a real sensor adds.

use std::sync::Arc;

use image::RgbImage;
use rayon::prelude::*;

use super::math::{V3, fbm, hash, noise, rgb, smoothstep, v3};
use super::scene::{Plume, Scene};
use super::shade::{self, Light};
use super::shapes::Finish;
use super::{Town, TruePose, ground};
use crate::geo::{Attitude, Camera, Distortion};

/// A picture, and what each pixel truly shows.
pub struct Rendered {
    pub rgb: RgbImage,
    /// Row by row: the id of the labelled object seen there, or 0.
    pub ids: Vec<u32>,
}

/// Draws a town. Cheap to clone; drawing uses every core of the rayon pool it runs in.
#[derive(Clone)]
pub struct Renderer {
    town: Arc<Town>,
}

/// Camera axes (right, down, forward) in east-north-up.
pub fn camera_axes(attitude: Attitude) -> [[f64; 3]; 3] {
    let (sy, cy) = attitude.yaw_deg.to_radians().sin_cos();
    let (sp, cp) = attitude.pitch_deg.to_radians().sin_cos();
    let (sr, cr) = attitude.roll_deg.to_radians().sin_cos();
    let enu = |n: f64, e: f64, d: f64| [e, n, -d];
    [
        enu(sr * sp * cy - cr * sy, sr * sp * sy + cr * cy, sr * cp),
        enu(cr * sp * cy + sr * sy, cr * sp * sy - sr * cy, cr * cp),
        enu(cp * cy, cp * sy, -sp),
    ]
}

/// Where a point of the town appears, in pixels; None behind the camera.
pub fn project(camera: &Camera, pose: &TruePose, point: [f64; 3]) -> Option<[f64; 2]> {
    let [right, down, forward] = camera_axes(pose.attitude);
    let d = [point[0] - pose.east_m, point[1] - pose.north_m, point[2] - pose.up_m];
    let along = |a: [f64; 3]| a[0] * d[0] + a[1] * d[1] + a[2] * d[2];
    let z = along(forward);
    if z < 0.1 {
        return None;
    }
    let (x, y) = distort(camera, along(right) / z, along(down) / z);
    Some([camera.fx * x + camera.cx, camera.fy * y + camera.cy])
}

fn distort(camera: &Camera, x: f64, y: f64) -> (f64, f64) {
    // The simulated lens is drawn with the common model only.
    let Some(Distortion::Brown([k1, k2, p1, p2, k3])) = camera.distortion else {
        return (x, y);
    };
    let r2 = x * x + y * y;
    let radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3));
    (x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x), y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y)
}

/// The ray of a pixel before distortion, by fixed-point iteration.
fn undistort(camera: &Camera, x: f64, y: f64) -> (f64, f64) {
    if camera.distortion.is_none() {
        return (x, y);
    }
    let (mut ux, mut uy) = (x, y);
    for _ in 0..8 {
        let (dx, dy) = distort(camera, ux, uy);
        ux += x - dx;
        uy += y - dy;
    }
    (ux, uy)
}

/// The key that all foliage shares.
const LEAF_KEY: u32 = 0x4000_0000;

#[derive(Clone, Copy, Default)]
struct Sample {
    light: V3,
    id: u32,
    /// Which surface was met; differs across edges.
    key: u32,
}

struct View<'a> {
    scene: &'a Scene,
    light: Light,
    camera: &'a Camera,
    origin: V3,
    axes: [V3; 3],
    plumes: Vec<&'a Plume>,
    seed: u32,
}

impl Renderer {
    pub fn new(town: Arc<Town>) -> Self {
        Self { town }
    }

    pub fn town(&self) -> &Town {
        &self.town
    }

    /// `seed` varies what differs between two frames of one scene: sensor noise, smoke, ripples.
    pub fn render(&self, camera: &Camera, pose: TruePose, seed: u64) -> Rendered {
        let to_v3 = |a: [f64; 3]| v3(a[0] as f32, a[1] as f32, a[2] as f32);
        let mut light = self.town.light;
        light.time += (seed % 997) as f32 * 0.37;
        let view = View {
            scene: &self.town.scene,
            light,
            camera,
            origin: v3(pose.east_m as f32, pose.north_m as f32, pose.up_m as f32),
            axes: camera_axes(pose.attitude).map(to_v3),
            plumes: self.town.scene.plumes.iter().collect(),
            seed: (seed ^ (seed >> 32)) as u32,
        };
        let (w, h) = (camera.width_px as usize, camera.height_px as usize);
        let mut samples = vec![Sample::default(); w * h];
        samples.par_chunks_mut(w.max(1)).enumerate().for_each(|(row, out)| {
            for (column, sample) in out.iter_mut().enumerate() {
                *sample = view.sample(column as f64 + 0.5, row as f64 + 0.5);
            }
        });
        let ids = samples.iter().map(|s| s.id).collect();
        RgbImage::from_raw(camera.width_px, camera.height_px, develop(&view, &samples, w, h))
            .map(|rgb| Rendered { rgb, ids })
            // `develop` returns exactly w * h * 3 bytes, so the first arm always matches.
            .unwrap_or_else(|| Rendered { rgb: RgbImage::new(0, 0), ids: Vec::new() })
    }
}

impl View<'_> {
    fn sample(&self, px: f64, py: f64) -> Sample {
        let c = self.camera;
        let (x, y) = undistort(c, (px - c.cx) / c.fx, (py - c.cy) / c.fy);
        let d = (self.axes[0] * x as f32 + self.axes[1] * y as f32 + self.axes[2]).unit();
        let t_ground = if d.z < -1e-4 { -self.origin.z / d.z } else { f32::INFINITY };
        let (mut out, t) = match self.scene.trace(self.origin, d, t_ground) {
            Some((i, hit)) => (self.solid(i, &hit, d), hit.t),
            None if t_ground < 6000.0 => (self.ground(self.origin + d * t_ground, d), t_ground),
            None => (Sample { light: self.light.haze * 1.1, id: 0, key: u32::MAX }, 6000.0),
        };
        let clear = (-t * self.light.haze_density).exp();
        out.light = self.light.haze.mix(out.light, clear);
        for plume in &self.plumes {
            self.smoke(plume, d, t, &mut out);
        }
        out
    }

    #[inline]
    fn lit(&self, at: V3, normal: V3) -> bool {
        let sun = self.light.to_sun;
        normal.dot(sun) > 0.0 && !(self.light.sun_shadows && self.scene.shaded(at + normal * 0.02, sun))
    }

    fn solid(&self, i: usize, hit: &super::shapes::Hit, d: V3) -> Sample {
        let prim = &self.scene.prims[i];
        let (surface, glow) = shade::surface(prim, hit, self.light.time);
        let at = self.origin + d * hit.t;
        let near = (self.scene.crowding(at.x, at.y) - at.z).max(0.0);
        let open = 1.0 / (1.0 + 0.16 * near);
        let light = self.light.reflect(&surface, d, self.lit(at, hit.normal), open) + glow;
        Sample {
            light,
            id: prim.object,
            // Leaves are ragged as it is; smoothing every lobe's rim would cost more than all other edges.
            key: if prim.paint.finish == Finish::Leaf { LEAF_KEY } else { i as u32 },
        }
    }

    fn ground(&self, at: V3, d: V3) -> Sample {
        let (surface, key) = match self.scene.feature_at(at.x, at.y) {
            Some((i, place)) => {
                (self.scene.features[i].surface(at.x, at.y, place, self.light.time), 0x8000_0000 | i as u32)
            }
            None => (open_land(at.x, at.y), 0x7fff_ffff),
        };
        let open = 1.0 / (1.0 + 0.16 * self.scene.crowding(at.x, at.y));
        let lit = self.lit(at, v3(0.0, 0.0, 1.0));
        Sample { light: self.light.reflect(&surface, d, lit, open), id: surface.object, key }
    }

    /// Adds a plume in front of what the ray met at `t`.
    fn smoke(&self, plume: &Plume, d: V3, t: f32, out: &mut Sample) {
        let to_centre = plume.centre - self.origin;
        let along = to_centre.dot(d);
        if along < 0.0 || (to_centre - d * along).length() > plume.radius {
            return;
        }
        let mut depth = 0.0;
        for puff in &plume.puffs {
            let to = puff.centre - self.origin;
            let s = to.dot(d);
            if s < 0.0 || s - puff.sigma > t {
                continue;
            }
            let near = self.origin + d * s - puff.centre;
            let r2 = near.dot(near) / (puff.sigma * puff.sigma);
            if r2 > 7.0 {
                continue;
            }
            let drift = self.light.time * 0.4;
            let (a, b) = (near.x * 1.1 + near.z * 0.6 + drift, near.y * 1.1 - near.z * 0.5);
            let billow = fbm(a, b, plume.seed, 3);
            depth += puff.depth * (-r2).exp() * smoothstep(0.3, 0.72, billow) * 2.2;
        }
        if depth < 0.01 {
            return;
        }
        let alpha = 1.0 - (-depth).exp();
        let p = self.origin + d * along;
        let shade = 0.55 + 0.8 * fbm(p.x * 0.8, p.y * 0.8 - p.z * 0.3, plume.seed ^ 3, 3);
        let light = plume.tone.times(self.light.sky + self.light.sun * 0.35) * shade;
        out.light = out.light.mix(light, alpha);
        if alpha > 0.5 {
            out.id = plume.object;
        }
    }
}

/// Beyond the built square: fields and woods without end.
fn open_land(x: f32, y: f32) -> ground::Surface {
    let fields = noise(x * 0.012, y * 0.012, 77);
    let woods = smoothstep(0.5, 0.62, fbm(x * 0.02, y * 0.02, 78, 3));
    let tint = rgb(0x6d7f45).mix(rgb(0x8d8358), fields);
    let albedo = ground::grass(tint, rgb(0x7c7a4e), x, y, 79).mix(rgb(0x33482a), woods);
    ground::Surface { albedo, normal: v3(0.0, 0.0, 1.0), gloss: 0.0, object: 0 }
}

/// From light to a picture: smooth edges, a breath of motion blur, vignetting, noise, tone.
fn develop(view: &View, samples: &[Sample], w: usize, h: usize) -> Vec<u8> {
    let mut smooth = vec![V3::default(); w * h];
    smooth.par_chunks_mut(w.max(1)).enumerate().for_each(|(row, out)| {
        for (column, colour) in out.iter_mut().enumerate() {
            let at = row * w + column;
            let here = samples[at];
            let differs = |i: usize| samples[i].key != here.key;
            let edge = (column + 1 < w && differs(at + 1))
                || (column > 0 && differs(at - 1))
                || (row + 1 < h && differs(at + w))
                || (row > 0 && differs(at - w));
            *colour = here.light;
            if edge {
                // Two more rays where a surface ends; elsewhere the texture is smooth enough.
                let (x, y) = (column as f64, row as f64);
                *colour = (here.light + view.sample(x + 0.2, y + 0.25).light + view.sample(x + 0.8, y + 0.75).light)
                    * (1.0 / 3.0);
            }
        }
    });
    let tones = tone_table();
    let light = view.light;
    let (cx, cy) = (w as f32 / 2.0, h as f32 / 2.0);
    let reach = 1.0 / (cx * cx + cy * cy).max(1.0);
    // The drone moves a fraction of a pixel while the shutter is open.
    let drag = 0.12 + 0.2 * (hash(7, 3, view.seed) & 0xff) as f32 / 255.0;
    let mut bytes = vec![0u8; w * h * 3];
    bytes.par_chunks_mut((w * 3).max(1)).enumerate().for_each(|(row, out)| {
        for column in 0..w {
            let at = row * w + column;
            let behind = if row + 1 < h { at + w } else { at };
            let beside = if column + 1 < w { at + 1 } else { at };
            let c = smooth[at] * (0.9 - drag) + smooth[behind] * drag + smooth[beside] * 0.1;
            let (dx, dy) = (column as f32 - cx, row as f32 - cy);
            let vignette = 1.0 - 0.16 * (dx * dx + dy * dy) * reach;
            let c = c * (light.exposure * vignette);
            let grey = c.x * 0.3 + c.y * 0.59 + c.z * 0.11;
            let c = v3(grey, grey, grey).mix(c, light.saturation);
            let rough = |k: u32| {
                let a = hash(column as i32, row as i32, view.seed ^ k);
                ((a & 0xff) + ((a >> 8) & 0xff)) as f32 / 255.0 - 1.0
            };
            let shared = rough(0) * 0.7;
            for (k, value) in [c.x, c.y, c.z].into_iter().enumerate() {
                let index = (value.clamp(0.0, 3.999) * 1024.0) as usize;
                let noisy = tones[index] + (shared + rough(k as u32 + 1) * 0.6) * 3.2;
                out[column * 3 + k] = (noisy + 0.5).clamp(0.0, 255.0) as u8;
            }
        }
    });
    bytes
}

/// Linear light in 1/1024 to display values: straight in the shadows, rolled off in the highlights.
fn tone_table() -> Vec<f32> {
    (0..4096)
        .map(|i| {
            let x = i as f32 / 1024.0;
            let rolled = if x < 0.55 { x } else { 0.55 + 0.45 * (1.0 - (-(x - 0.55) / 0.45).exp()) };
            let s = if rolled <= 0.0031308 { rolled * 12.92 } else { 1.055 * rolled.powf(1.0 / 2.4) - 0.055 };
            255.0 * (s - 0.035 * (s * std::f32::consts::TAU).sin())
        })
        .collect()
}
