//! The detection engine: a picture in, boxes in that picture's pixels out.
//!
//! A picture whose ground sample distance is known is first brought to the one the model was trained at, so that a
//! thing has the size the model knows whatever the height. What does not fit one tile is cut evenly and merged.

use std::path::{Path, PathBuf};

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::decode;
use super::families::prepare::View;
use super::graph::{Graph, GraphError, Options};
use super::manifest::{Manifest, ManifestError};
use super::provider::Chosen;
use super::tiling::{self, Seen};

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

pub struct Detector {
    graph: Graph,
    dir: PathBuf,
    /// Detections down to this share of their class's threshold are given.
    floor: f32,
}

impl Detector {
    pub fn load(dir: &Path, options: &Options) -> Result<Detector, DetectError> {
        Ok(Detector { graph: Graph::load(dir, options)?, dir: dir.to_owned(), floor: 1.0 })
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

    /// Finds things in `picture`. `gsd_m` is the ground size of one of its pixels; without it the picture is taken
    /// as it is, which finds only things that happen to have the size the model knows.
    pub fn detect(&mut self, picture: &RgbImage, gsd_m: Option<f64>) -> Result<Vec<Detection>, DetectError> {
        let (width, height) = picture.dimensions();
        let scale = match gsd_m {
            // Enlarging more than threefold invents pixels; shrinking below a stride leaves nothing to see.
            Some(gsd) => (gsd / self.manifest().ground_sample_distance(&self.dir)?).clamp(0.02, 3.0),
            None => 1.0,
        };
        let to = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
        let scaled = decode::resize(picture, to(width), to(height)).map_err(|e| DetectError::Resize(e.message))?;
        let seen = self.detect_scaled(&scaled)?;
        let (back_x, back_y) = (width as f32 / scaled.width() as f32, height as f32 / scaled.height() as f32);
        Ok(seen
            .into_iter()
            .map(|s| Detection {
                class: s.class,
                score: s.score,
                bbox: [s.bbox[0] * back_x, s.bbox[1] * back_y, s.bbox[2] * back_x, s.bbox[3] * back_y],
            })
            .collect())
    }

    fn detect_scaled(&mut self, picture: &RgbImage) -> Result<Vec<Seen>, DetectError> {
        let (width, height) = picture.dimensions();
        let input = self.manifest().input.clone();
        // The largest thing, 25 m, must lie whole in at least one tile.
        let overlap = self.manifest().gsd_m.map_or(input.width / 4, |gsd| ((25.0 / gsd) as u32).min(input.width / 4));
        let (mut seen, mut candidates) = (Vec::new(), Vec::new());
        for tile in tiling::tiles(width, height, input.width, input.height, overlap) {
            let Some(view) = View::new(picture.as_raw(), width as usize * 3, tile.x, tile.y, tile.width, tile.height)
            else {
                continue;
            };
            candidates.clear();
            self.graph.run(&view, self.floor, &mut candidates)?;
            for candidate in &candidates {
                let bbox = candidate.bbox;
                let bbox = [
                    (bbox[0] + tile.x as f32).clamp(0.0, width as f32),
                    (bbox[1] + tile.y as f32).clamp(0.0, height as f32),
                    (bbox[2] + tile.x as f32).clamp(0.0, width as f32),
                    (bbox[3] + tile.y as f32).clamp(0.0, height as f32),
                ];
                if bbox[2] - bbox[0] >= 1.0 && bbox[3] - bbox[1] >= 1.0 {
                    let cut = tiling::is_cut(&bbox, &tile, width, height);
                    seen.push(Seen { class: candidate.class, score: candidate.score, bbox, cut });
                }
            }
        }
        Ok(tiling::merge(seen, self.manifest().nms_iou))
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
