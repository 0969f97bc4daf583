//! Labelled pictures for training: frames of seeded towns with boxes read from the id buffer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use image::codecs::jpeg::JpegEncoder;

use super::math::Dice;
use super::render::project;
use super::{CLASSES, Rendered, Renderer, Town, TruePose};
use crate::geo::{Attitude, Camera};

#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error("cannot create the folder {path}; check that its parent exists and is writable")]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot write {path}; check free space and permissions")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot encode {path}")]
    Encode { path: PathBuf, source: image::ImageError },
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    pub pictures: usize,
    /// Boxes by class.
    pub boxes: [usize; 8],
}

/// A box in pixels with its class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Label {
    pub class: usize,
    pub low: [f32; 2],
    pub high: [f32; 2],
    /// Mostly hidden or cut off: neither an example of its class nor of nothing.
    pub doubtful: bool,
    /// Whose it is: an index into the town's objects.
    object: usize,
}

/// Classes whose objects are also written cut out: what stands on ground of any kind, so that training can lay it on real
/// pictures. Debris floats, and buildings and vehicles are in real pictures already.
const CUT_OUT: [&str; 5] = ["blue_roof", "heavy_machine", "earthwork", "garbage", "burning"];

/// Writes `images/*.jpg` and `labels/*.txt` (YOLO, and a sixth column of 1 where the box is doubtful) of towns
/// crowded with violations; and `cutouts/*.png`, things with nothing around them, named by their class's number.
/// `finer` 1 is 640 px a side at about 0.10 m a pixel; 1.5 shows the same ground in 960 px.
pub fn export_dataset(
    out: &Path,
    first_seed: u64,
    towns: usize,
    frames_per_town: usize,
    finer: f64,
) -> Result<Exported, DatasetError> {
    export(out, first_seed, towns, frames_per_town, finer, Town::generate_dense)
}

/// The same of ordinary towns, as the demo flies over them: for validation.
pub fn export_plain(
    out: &Path,
    first_seed: u64,
    towns: usize,
    frames_per_town: usize,
    finer: f64,
) -> Result<Exported, DatasetError> {
    export(out, first_seed, towns, frames_per_town, finer, Town::generate)
}

fn export(
    out: &Path,
    first_seed: u64,
    towns: usize,
    frames_per_town: usize,
    finer: f64,
    make: fn(u64) -> Town,
) -> Result<Exported, DatasetError> {
    for folder in ["images", "labels", "cutouts"] {
        let path = out.join(folder);
        fs::create_dir_all(&path).map_err(|source| DatasetError::Folder { path, source })?;
    }
    let mut total = Exported::default();
    for seed in first_seed..first_seed + towns as u64 {
        let renderer = Renderer::new(Arc::new(make(seed)));
        let mut dice = Dice::new(seed, 20);
        for frame in 0..frames_per_town {
            let (camera, pose) = roll_frame(&mut dice, renderer.town(), finer);
            let rendered = renderer.render(&camera, pose, seed * 1000 + frame as u64);
            let labels = labels(renderer.town(), &camera, &pose, &rendered);
            let name = format!("{seed:05}_{frame:03}");
            let quality = dice.int(78, 94) as u8;
            write_picture(&out.join("images").join(format!("{name}.jpg")), &rendered, quality)?;
            let path = out.join("labels").join(format!("{name}.txt"));
            fs::write(&path, yolo(&labels, &camera)).map_err(|source| DatasetError::Write { path, source })?;
            write_cutouts(&out.join("cutouts"), &name, &labels, &rendered)?;
            total.pictures += 1;
            for label in &labels {
                total.boxes[label.class] += 1;
            }
        }
    }
    Ok(total)
}

fn roll_frame(dice: &mut Dice, town: &Town, finer: f64) -> (Camera, TruePose) {
    let size = (640.0 * finer) as u32;
    let up_m = f64::from(dice.range(40.0, 100.0));
    let pitch = f64::from(if dice.chance(0.5) { dice.range(-90.0, -80.0) } else { dice.range(-82.0, -55.0) });
    let slant = up_m / -pitch.to_radians().sin();
    // 0.10 m a pixel in the middle of the picture, within a third.
    let focal = slant * finer / f64::from(dice.range(0.07, 0.14));
    let half = f64::from(size) / 2.0;
    let camera = Camera { width_px: size, height_px: size, fx: focal, fy: focal, cx: half, cy: half, distortion: None };
    let yaw_deg = f64::from(dice.range(0.0, 360.0));
    let aim = match town.violations() {
        planted if !planted.is_empty() && dice.chance(0.55) => {
            let v = &planted[dice.int(0, planted.len() - 1)];
            [v.east_m + f64::from(dice.range(-24.0, 24.0)), v.north_m + f64::from(dice.range(-24.0, 24.0))]
        }
        _ => [f64::from(dice.range(-185.0, 185.0)), f64::from(dice.range(-135.0, 135.0))],
    };
    let back = up_m / pitch.to_radians().tan();
    let pose = TruePose {
        east_m: aim[0] + back * yaw_deg.to_radians().sin(),
        north_m: aim[1] + back * yaw_deg.to_radians().cos(),
        up_m,
        attitude: Attitude { yaw_deg, pitch_deg: pitch, roll_deg: f64::from(dice.range(-3.0, 3.0)) },
    };
    (camera, pose)
}

/// Boxes around what is truly seen of each object; what is mostly hidden or cut off is marked as doubtful.
pub fn labels(town: &Town, camera: &Camera, pose: &TruePose, rendered: &Rendered) -> Vec<Label> {
    let w = camera.width_px as usize;
    let objects = &town.scene.objects;
    // low x, low y, high x, high y, pixels
    let mut seen = vec![[u32::MAX, u32::MAX, 0, 0, 0]; objects.len()];
    for (i, &id) in rendered.ids.iter().enumerate() {
        let Some(s) = (id as usize).checked_sub(1).and_then(|k| seen.get_mut(k)) else {
            continue;
        };
        let (x, y) = ((i % w) as u32, (i / w) as u32);
        *s = [s[0].min(x), s[1].min(y), s[2].max(x), s[3].max(y), s[4] + 1];
    }
    let mut out = Vec::new();
    for (index, (object, s)) in objects.iter().zip(&seen).enumerate() {
        if s[4] == 0 {
            continue;
        }
        let (low, high) = ([s[0] as f32, s[1] as f32], [s[2] as f32 + 1.0, s[3] as f32 + 1.0]);
        let (wide, tall) = (high[0] - low[0], high[1] - low[1]);
        if wide < 6.0 || tall < 6.0 {
            continue;
        }
        let (lo, hi) = (object.low, object.high);
        let corner = |k: u32| {
            let pick = |bit: u32, a: f32, b: f32| f64::from(if k & bit == 0 { a } else { b });
            project(camera, pose, [pick(1, lo.x, hi.x), pick(2, lo.y, hi.y), pick(4, lo.z, hi.z)])
        };
        let Some(corners) = (0..8).map(corner).collect::<Option<Vec<_>>>() else {
            continue;
        };
        let span = |axis: usize| {
            let values = corners.iter().map(|c| c[axis] as f32);
            values.clone().fold(f32::NEG_INFINITY, f32::max) - values.fold(f32::INFINITY, f32::min)
        };
        let whole = (span(0) * span(1)).max(1.0);
        // The box around a turned object is up to twice its own area, hence the low shares; a large piece of
        // a roof is recognisable whatever the share.
        let recognisable = s[4] >= 3500 && s[4] as f32 > 0.2 * wide * tall;
        let doubtful = (wide * tall < 0.25 * whole || (s[4] as f32) < 0.11 * whole) && !recognisable;
        out.push(Label { class: usize::from(object.class), low, high, doubtful, object: index });
    }
    out
}

fn yolo(labels: &[Label], camera: &Camera) -> String {
    let (w, h) = (camera.width_px as f32, camera.height_px as f32);
    labels
        .iter()
        .map(|l| {
            let middle = [(l.low[0] + l.high[0]) / 2.0 / w, (l.low[1] + l.high[1]) / 2.0 / h];
            let size = [(l.high[0] - l.low[0]) / w, (l.high[1] - l.low[1]) / h];
            let doubt = if l.doubtful { " 1" } else { "" };
            format!("{} {:.6} {:.6} {:.6} {:.6}{doubt}\n", l.class, middle[0], middle[1], size[0], size[1])
        })
        .collect()
}

fn write_picture(path: &Path, rendered: &Rendered, quality: u8) -> Result<(), DatasetError> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode_image(&rendered.rgb)
        .map_err(|source| DatasetError::Encode { path: path.to_owned(), source })?;
    fs::write(path, bytes).map_err(|source| DatasetError::Write { path: path.to_owned(), source })
}

fn write_cutouts(folder: &Path, name: &str, labels: &[Label], rendered: &Rendered) -> Result<(), DatasetError> {
    let width = rendered.rgb.width();
    for label in labels.iter().filter(|l| !l.doubtful && CUT_OUT.contains(&CLASSES[l.class])) {
        let [left, top] = label.low.map(|v| v as u32);
        let size = [label.high[0] as u32 - left, label.high[1] as u32 - top];
        let cut = image::RgbaImage::from_fn(size[0], size[1], |x, y| {
            let (x, y) = (left + x, top + y);
            let its_own = rendered.ids[(y * width + x) as usize] as usize == label.object + 1;
            let [r, g, b] = rendered.rgb.get_pixel(x, y).0;
            image::Rgba([r, g, b, if its_own { 255 } else { 0 }])
        });
        let path = folder.join(format!("{}_{name}_{}.png", label.class, label.object));
        cut.save(&path).map_err(|source| DatasetError::Encode { path: path.clone(), source })?;
    }
    Ok(())
}
