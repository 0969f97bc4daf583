//! A whole picture in one run, brought into the model's input as its own project does it: for trying models, and for
//! comparing them with what they came from. What is known of the ground is not used.

use image::RgbImage;
use opencv::core::{Mat, MatTraitConstManual, Size, Vec3b};
use opencv::imgproc;

use super::antialias;
use super::families::prepare::{self, View};
use super::families::{Candidate, suppress_upright};
use super::graph::{Graph, GraphError};
use super::manifest::{Family, Interpolation};

#[derive(Debug, thiserror::Error)]
pub enum WholeError {
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error("the picture could not be resized: {0}")]
    Resize(String),
    #[error("the picture has no pixels")]
    Empty,
}

/// Things in `picture`, in its pixels, surest first.
pub fn look(graph: &mut Graph, picture: &RgbImage) -> Result<Vec<Candidate>, WholeError> {
    let (width, height) = picture.dimensions();
    let input = &graph.manifest().input;
    let fitted = prepare::fit(input, width, height);
    let resized = resize(picture, fitted.size, input.interpolation)?;
    let view = View::of(&resized).ok_or(WholeError::Empty)?;
    let mut found = Vec::new();
    graph.run(&view, 1.0, &mut found)?;
    let manifest = graph.manifest();
    // Turned boxes and masks were thinned out while they were read.
    if manifest.nms_iou < 1.0 && !matches!(manifest.family, Family::YoloObb | Family::YoloSeg) {
        found = suppress_upright(found, manifest.nms_iou);
    }
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    for candidate in &mut found {
        candidate.map([0.0, 0.0], fitted.scale.map(|s| 1.0 / s));
        let [x1, y1, x2, y2] = candidate.bbox;
        let (w, h) = (width as f32, height as f32);
        candidate.bbox = [x1.clamp(0.0, w), y1.clamp(0.0, h), x2.clamp(0.0, w), y2.clamp(0.0, h)];
    }
    found.retain(|c| c.bbox[2] > c.bbox[0] && c.bbox[3] > c.bbox[1]);
    Ok(found)
}

fn resize(picture: &RgbImage, (width, height): (u32, u32), how: Interpolation) -> Result<RgbImage, WholeError> {
    if picture.dimensions() == (width, height) {
        return Ok(picture.clone());
    }
    let flag = match how {
        Interpolation::Antialias => return Ok(antialias::resize(picture, width, height)),
        Interpolation::Linear => imgproc::INTER_LINEAR,
        Interpolation::Cubic => imgproc::INTER_CUBIC,
        Interpolation::Area => imgproc::INTER_AREA,
    };
    let resized = || -> opencv::Result<Vec<u8>> {
        let (rows, columns) = (picture.height() as i32, picture.width() as i32);
        let from = Mat::new_rows_cols_with_bytes::<Vec3b>(rows, columns, picture.as_raw())?;
        let mut to = Mat::default();
        imgproc::resize(&from, &mut to, Size::new(width as i32, height as i32), 0.0, 0.0, flag)?;
        Ok(to.data_bytes()?.to_vec())
    };
    let pixels = resized().map_err(|e| WholeError::Resize(e.message))?;
    RgbImage::from_raw(width, height, pixels).ok_or_else(|| WholeError::Resize("an unexpected layout".to_owned()))
}
