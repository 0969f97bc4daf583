//! The detection engine: a picture in, boxes in that picture's pixels out.
//!
//! A picture whose ground sample distance is known is first brought to the one the model was trained at, so that a
//! thing has the size the model knows whatever the height. What does not fit one tile is cut evenly and merged.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use image::RgbImage;
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;
use serde::{Deserialize, Serialize};

use super::decode::Pixels;
use super::manifest::{Color, Manifest, ManifestError};
use super::tiling::{self, Seen, Tile};
use crate::runtime::paths::{self, MissingPiece};

#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Missing(#[from] MissingPiece),
    #[error("ONNX Runtime at {path} cannot be used: {message}; aerie needs version 1.24.4 (`make setup`)")]
    Runtime { path: PathBuf, message: String },
    #[error("{path} is not a model that ONNX Runtime can load: {message}")]
    Corrupt { path: PathBuf, message: String },
    #[error("{path}: {fault}; the manifest and the graph must say the same")]
    Shape { path: PathBuf, fault: String },
    #[error("inference failed: {0}")]
    Inference(String),
    #[error("the model answered with numbers that are not finite; it is damaged or fed wrongly")]
    NotFinite,
    #[error("the picture could not be resized: {0}")]
    Resize(String),
}

/// One thing seen in one picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    pub class: usize,
    pub score: f32,
    /// x1, y1, x2, y2 in the picture's pixels.
    pub bbox: [f32; 4],
}

impl Detection {
    /// Into the pixels of a picture that is `by` times as large.
    pub fn stretch(&mut self, by: [f32; 2]) {
        for (side, value) in self.bbox.iter_mut().enumerate() {
            *value *= by[side % 2];
        }
    }
}

/// The largest thing that is looked for must lie whole in at least one tile.
const LARGEST_M: f64 = 25.0;

pub struct Detector {
    manifest: Manifest,
    path: PathBuf,
    input: String,
    session: Session,
    /// Detections down to this share of their class's threshold are given.
    floor: f32,
}

impl Detector {
    /// Loads the model in `dir`: manifest, hash, graph, and one empty run that proves that the two agree.
    pub fn load(dir: &Path) -> Result<Detector, DetectError> {
        let manifest = Manifest::read(dir)?;
        let bytes = manifest.model_bytes(dir)?;
        let path = dir.join(&manifest.file);
        let corrupt =
            |error: &dyn std::fmt::Display| DetectError::Corrupt { path: path.clone(), message: first_line(error) };
        let environment = environment()?;
        let mut builder = Session::builder(environment).map_err(|e| corrupt(&e))?;
        builder = builder.with_optimization_level(GraphOptimizationLevel::All).map_err(|e| corrupt(&e))?;
        // One thread that sleeps when idle: flight control shares this computer.
        builder = builder.with_intra_threads(1).map_err(|e| corrupt(&e))?;
        builder = builder.with_config_entry("session.intra_op.allow_spinning", "0").map_err(|e| corrupt(&e))?;
        let session = builder.commit_from_memory(&bytes).map_err(|e| corrupt(&e))?;
        let [input] = session.inputs() else {
            return Err(DetectError::Shape {
                path,
                fault: format!("the graph has {} inputs, 1 is supported", session.inputs().len()),
            });
        };
        let input = input.name().to_owned();
        let mut detector = Detector { manifest, path, input, session, floor: 1.0 };
        let side = if detector.manifest.input.dynamic {
            detector.manifest.input.stride * 4
        } else {
            detector.manifest.input.width
        };
        let tall = if detector.manifest.input.dynamic { side } else { detector.manifest.input.height };
        detector.infer(&Tensor::grey(side, tall, 0.0), |_, _| ())?;
        Ok(detector)
    }

    /// Gives weaker detections too, down to `floor` times their class's threshold: for callers that see a thing several
    /// times and judge all of its looks together.
    pub fn with_floor(mut self, floor: f32) -> Detector {
        self.floor = floor;
        self
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Finds things in `picture`. `gsd_m` is the ground size of one of its pixels; without it the picture is taken
    /// as it is, which finds only things that happen to have the size the model knows.
    pub fn detect(&mut self, picture: &RgbImage, gsd_m: Option<f64>) -> Result<Vec<Detection>, DetectError> {
        let (width, height) = picture.dimensions();
        let (to_width, to_height) = self.scaled_size(width, height, gsd_m);
        let whole = Pixels::from(picture);
        if (to_width, to_height) == (width, height) {
            return self.detect_scaled(&whole);
        }
        let scaled = whole.resized(to_width, to_height).map_err(|e| DetectError::Resize(e.message))?;
        let mut found = self.detect_scaled(&scaled.pixels())?;
        for detection in &mut found {
            detection.stretch([width as f32 / to_width as f32, height as f32 / to_height as f32]);
        }
        Ok(found)
    }

    /// The size at which a thing in the picture has the size the model knows.
    pub fn scaled_size(&self, width: u32, height: u32, gsd_m: Option<f64>) -> (u32, u32) {
        // Enlarging more than threefold invents pixels; shrinking below a stride leaves nothing to see.
        let scale = gsd_m.map_or(1.0, |gsd| gsd / self.manifest.gsd_m).clamp(0.02, 3.0);
        let to = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
        (to(width), to(height))
    }

    /// Finds things in a picture that has the model's scale, red first.
    pub fn detect_scaled(&mut self, picture: &Pixels) -> Result<Vec<Detection>, DetectError> {
        let input = self.manifest.input.clone();
        let overlap = ((LARGEST_M / self.manifest.gsd_m) as u32).min(input.width / 4);
        let tiles = tiling::tiles(picture.width, picture.height, input.width, input.height, overlap);
        self.detect_tiles(picture, &tiles)
    }

    /// The same with tiles that somebody else chose.
    pub fn detect_tiles(&mut self, picture: &Pixels, tiles: &[Tile]) -> Result<Vec<Detection>, DetectError> {
        let (width, height) = (picture.width, picture.height);
        let mut seen = Vec::new();
        let thresholds: Vec<f32> = self.manifest.classes.iter().map(|c| c.threshold * self.floor).collect();
        for tile in tiles {
            let tensor = self.tensor(picture, tile);
            self.infer(&tensor, |output, boxes| {
                decode_yolo_raw(output, boxes, &thresholds, |class, score, bbox| {
                    let bbox = [
                        (bbox[0] + tile.x as f32).clamp(0.0, width as f32),
                        (bbox[1] + tile.y as f32).clamp(0.0, height as f32),
                        (bbox[2] + tile.x as f32).clamp(0.0, width as f32),
                        (bbox[3] + tile.y as f32).clamp(0.0, height as f32),
                    ];
                    if bbox[2] - bbox[0] >= 1.0 && bbox[3] - bbox[1] >= 1.0 {
                        seen.push(Seen::new(class, score, bbox, *tile, width, height));
                    }
                });
            })?;
        }
        let merged = tiling::merge(seen, self.manifest.nms_iou);
        Ok(merged.into_iter().map(|s| Detection { class: s.class, score: s.score, bbox: s.bbox }).collect())
    }

    /// The tile as the graph wants it: planes of floats, padded at the right and below.
    fn tensor(&self, picture: &Pixels, tile: &Tile) -> Tensor {
        let input = &self.manifest.input;
        let (wide, tall) = if input.dynamic {
            let up = |length: u32| length.div_ceil(input.stride) * input.stride;
            (up(tile.width), up(tile.height))
        } else {
            (input.width, input.height)
        };
        let mut tensor = Tensor::grey(wide, tall, f32::from(input.pad) / input.scale);
        let stride = picture.width as usize * 3;
        let plane = (wide * tall) as usize;
        let raw = picture.bytes;
        for y in 0..tile.height as usize {
            let start = (tile.y as usize + y) * stride + tile.x as usize * 3;
            let row = &raw[start..start + tile.width as usize * 3];
            for channel in 0..3 {
                let source = if input.color == Color::Rgb { channel } else { 2 - channel };
                let to = channel * plane + y * wide as usize;
                for (out, pixel) in tensor.values[to..].iter_mut().zip(row.chunks_exact(3)) {
                    *out = f32::from(pixel[source]) / input.scale;
                }
            }
        }
        tensor
    }

    /// Runs the graph; `read` gets the output as rows of `N` numbers, and `N`.
    fn infer(&mut self, tensor: &Tensor, read: impl FnOnce(&[f32], usize)) -> Result<(), DetectError> {
        let value = TensorRef::from_array_view((tensor.shape(), tensor.values.as_slice()))
            .map_err(|e| DetectError::Inference(first_line(&e)))?;
        let outputs = self
            .session
            .run(ort::inputs![self.input.as_str() => value])
            .map_err(|e| DetectError::Inference(first_line(&e)))?;
        let output = outputs.values().next().ok_or_else(|| DetectError::Shape {
            path: self.path.clone(),
            fault: "the graph has no output".to_owned(),
        })?;
        let (shape, numbers) = output
            .try_extract_tensor::<f32>()
            .map_err(|e| DetectError::Shape { path: self.path.clone(), fault: first_line(&e) })?;
        let rows = 4 + self.manifest.classes.len();
        let &[1, found, count] = &shape[..] else {
            let fault = format!("its output has the shape {shape:?}, family yolo_raw wants [1, {rows}, N]");
            return Err(DetectError::Shape { path: self.path.clone(), fault });
        };
        if found != rows as i64 {
            let fault = format!(
                "its output has {found} rows a box, the manifest's {} classes need {rows}",
                self.manifest.classes.len()
            );
            return Err(DetectError::Shape { path: self.path.clone(), fault });
        }
        if numbers.iter().any(|n| !n.is_finite()) {
            return Err(DetectError::NotFinite);
        }
        read(numbers, count as usize);
        Ok(())
    }
}

/// What the graph is fed: `[1, 3, height, width]`, row by row, plane by plane.
struct Tensor {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

impl Tensor {
    fn grey(width: u32, height: u32, value: f32) -> Tensor {
        let (width, height) = (width as usize, height as usize);
        Tensor { width, height, values: vec![value; 3 * width * height] }
    }

    fn shape(&self) -> [usize; 4] {
        [1, 3, self.height, self.width]
    }
}

/// Each box's best class, where it reaches that class's threshold.
fn decode_yolo_raw(output: &[f32], count: usize, thresholds: &[f32], mut found: impl FnMut(usize, f32, [f32; 4])) {
    let row = |r: usize| &output[r * count..(r + 1) * count];
    for i in 0..count {
        let best = thresholds
            .iter()
            .enumerate()
            .map(|(class, threshold)| (class, row(4 + class)[i], *threshold))
            .filter(|(_, score, threshold)| score >= threshold)
            .max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((class, score, _)) = best {
            let (x, y, w, h) = (row(0)[i], row(1)[i], row(2)[i], row(3)[i]);
            found(class, score, [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0]);
        }
    }
}

/// ONNX Runtime lives once a process.
fn environment() -> Result<&'static Environment, DetectError> {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    if let Some(environment) = ENVIRONMENT.get() {
        return Ok(environment);
    }
    let path = paths::onnxruntime()?;
    let unusable =
        |error: &dyn std::fmt::Display| DetectError::Runtime { path: path.clone(), message: first_line(error) };
    let built =
        ort::init_from(&path).map_err(|e| unusable(&e))?.with_telemetry(false).build().map_err(|e| unusable(&e))?;
    Ok(ENVIRONMENT.get_or_init(|| built))
}

fn first_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_takes_its_best_class_and_only_above_that_classs_threshold() {
        // Two boxes, two classes; columns are boxes.
        let output = [
            50.0, 10.0, // cx
            40.0, 10.0, // cy
            20.0, 4.0, // w
            10.0, 4.0, // h
            0.7, 0.45, // class 0
            0.6, 0.2, // class 1
        ];
        let mut found = Vec::new();
        decode_yolo_raw(&output, 2, &[0.5, 0.5], |class, score, bbox| found.push((class, score, bbox)));
        assert_eq!(found, [(0, 0.7, [40.0, 35.0, 60.0, 45.0])]);
    }

    #[test]
    fn a_corrupt_model_is_refused_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = std::fs::read_to_string(crate::perception::model_dir(None).join("manifest.toml")).unwrap();
        let known = Manifest::read(&crate::perception::model_dir(None)).unwrap();
        let garbage = b"not an onnx graph";
        use sha2::Digest;
        let sha = hex::encode(sha2::Sha256::digest(garbage));
        std::fs::write(dir.path().join("manifest.toml"), manifest.replace(&known.sha256, &sha)).unwrap();
        std::fs::write(dir.path().join(&known.file), garbage).unwrap();
        let Err(error) = Detector::load(dir.path()) else { panic!("a corrupt model was loaded") };
        assert!(error.to_string().contains(&known.file), "{error}");
    }

    #[test]
    fn the_default_model_loads_and_sees_nothing_in_a_grey_picture_of_any_size() {
        let mut detector = Detector::load(&crate::perception::model_dir(None)).unwrap();
        for (width, height) in [(1, 1), (33, 700), (1500, 900)] {
            let grey = RgbImage::from_pixel(width, height, image::Rgb([128, 128, 128]));
            assert_eq!(detector.detect(&grey, Some(0.1)).unwrap(), [], "{width}x{height}");
        }
    }
}
