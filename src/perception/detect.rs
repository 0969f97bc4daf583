//! The detection engine: a picture in, boxes in that picture's pixels out.
//!
//! A picture whose ground sample distance is known is first brought to the one the model was trained at, so that a
//! thing has the size the model knows whatever the height. What does not fit one tile is cut evenly and merged.

use std::path::{Path, PathBuf};

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::decode::Pixels;
use super::families::Candidate;
use super::families::prepare::View;
use super::graph::{Graph, GraphError, Options};
use super::manifest::{Manifest, ManifestError};
use super::provider::Chosen;
use super::tiling::{self, Seen, Tile};

#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Graph(#[from] GraphError),
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
    graph: Graph,
    dir: PathBuf,
    /// Detections down to this share of their class's threshold are given.
    floor: f32,
    /// What the tile under work gave; kept so that its memory is.
    candidates: Vec<Candidate>,
}

impl Detector {
    pub fn load(dir: &Path, options: &Options) -> Result<Detector, DetectError> {
        Ok(Detector::of(Graph::load(dir, options)?, dir))
    }

    /// With a graph that is loaded already; `dir` is where its model lies.
    pub fn of(graph: Graph, dir: &Path) -> Detector {
        Detector { graph, dir: dir.to_owned(), floor: 1.0, candidates: Vec::new() }
    }

    /// Gives weaker detections too, down to `floor` times their class's threshold: for callers that see a thing several
    /// times and judge all of its looks together.
    pub fn with_floor(mut self, floor: f32) -> Detector {
        self.floor = floor;
        self
    }

    pub fn manifest(&self) -> &Manifest {
        self.graph.manifest()
    }

    /// What the graph runs on.
    pub fn chosen(&self) -> &Chosen {
        self.graph.chosen()
    }

    /// Processor time spent in the graph itself so far.
    pub fn inference_time(&self) -> std::time::Duration {
        self.graph.inference_time()
    }

    /// Pixels that went into the graph so far, padding included.
    pub fn fed_pixels(&self) -> u64 {
        self.graph.fed_pixels()
    }

    /// Finds things in `picture`. `gsd_m` is the ground size of one of its pixels; without it the picture is taken
    /// as it is, which finds only things that happen to have the size the model knows.
    pub fn detect(&mut self, picture: &RgbImage, gsd_m: Option<f64>) -> Result<Vec<Detection>, DetectError> {
        let (width, height) = picture.dimensions();
        let (to_width, to_height) = self.scaled_size(width, height, gsd_m)?;
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
    pub fn scaled_size(&self, width: u32, height: u32, gsd_m: Option<f64>) -> Result<(u32, u32), DetectError> {
        let scale = match gsd_m {
            // Enlarging more than threefold invents pixels; shrinking below a stride leaves nothing to see.
            Some(gsd) => (gsd / self.manifest().ground_sample_distance(&self.dir)?).clamp(0.02, 3.0),
            None => 1.0,
        };
        let to = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
        Ok((to(width), to(height)))
    }

    /// Finds things in a picture that has the model's scale, red first.
    pub fn detect_scaled(&mut self, picture: &Pixels) -> Result<Vec<Detection>, DetectError> {
        let manifest = self.manifest();
        let (wide, tall) = (manifest.input.width, manifest.input.height);
        let overlap = manifest.gsd_m.map_or(wide / 4, |gsd| ((LARGEST_M / gsd) as u32).min(wide / 4));
        self.detect_tiles(picture, &tiling::tiles(picture.width, picture.height, wide, tall, overlap))
    }

    /// The same with tiles that somebody else chose.
    pub fn detect_tiles(&mut self, picture: &Pixels, tiles: &[Tile]) -> Result<Vec<Detection>, DetectError> {
        let mut seen = Vec::new();
        for tile in tiles {
            self.look_at_tile(picture, tile, &mut seen)?;
        }
        let merged = tiling::merge(seen, self.manifest().nms_iou);
        Ok(merged.into_iter().map(|s| Detection { class: s.class, score: s.score, bbox: s.bbox }).collect())
    }

    /// One run of the graph; its boxes in the picture's pixels, not merged with any others.
    pub fn look_at_tile(&mut self, picture: &Pixels, tile: &Tile, seen: &mut Vec<Seen>) -> Result<(), DetectError> {
        let (width, height) = (picture.width, picture.height);
        let stride = width as usize * 3;
        // A tile outside the picture shows nothing.
        let Some(view) = View::new(picture.bytes, stride, tile.x, tile.y, tile.width, tile.height) else {
            return Ok(());
        };
        self.candidates.clear();
        self.graph.run(&view, self.floor, &mut self.candidates)?;
        let (left, top) = (tile.x as f32, tile.y as f32);
        for candidate in &self.candidates {
            let [x1, y1, x2, y2] = candidate.bbox;
            let across = |x: f32| (x + left).clamp(0.0, width as f32);
            let down = |y: f32| (y + top).clamp(0.0, height as f32);
            let bbox = [across(x1), down(y1), across(x2), down(y2)];
            if bbox[2] - bbox[0] >= 1.0 && bbox[3] - bbox[1] >= 1.0 {
                seen.push(Seen::new(candidate.class, candidate.score, bbox, *tile, width, height));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_model_loads_and_sees_nothing_in_a_grey_picture_of_any_size() {
        let mut detector = Detector::load(&crate::perception::model_dir(None), &Options::default()).unwrap();
        for (width, height) in [(1, 1), (33, 700), (1500, 900)] {
            let grey = RgbImage::from_pixel(width, height, image::Rgb([128, 128, 128]));
            assert_eq!(detector.detect(&grey, Some(0.1)).unwrap(), [], "{width}x{height}");
        }
    }
}
