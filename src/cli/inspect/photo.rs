//! One photo: its bytes, its pose, what is seen in it, and where that is.

use std::path::Path;
use std::time::Instant;

use image::RgbImage;
use serde::Serialize;

use super::{Eye, ModelInfo};
use crate::cli::locate::shot::Below;
use crate::cli::locate::world::Surroundings;
use crate::geo::{Camera, Located, Pose, Target};
use crate::perception::decode;

/// How far a thing's true height may be off its class's typical one, as a share of it, plus a constant for the ground.
const HEIGHT_SIGMA_SHARE: f64 = 0.3;
const HEIGHT_SIGMA_M: f64 = 0.3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Looked at, with a pose.
    Located,
    /// Looked at, but where it was taken is not known.
    NoPose,
    /// Not looked at.
    Failed,
}

/// What became of one file.
#[derive(Debug, Clone, Serialize)]
pub struct ImageReport {
    pub image: String,
    pub status: Status,
    /// Why there is no pose, or why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was assumed.
    pub notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub camera_model: Option<String>,
    /// In the camera's own time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pose: Option<Pose>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub camera: Option<Camera>,
    /// Across the line of sight, at the centre of the picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gsd_m: Option<f64>,
    pub detections: Vec<Seen>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    pub seconds: Seconds,
}

#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    pub class: String,
    pub score: f32,
    /// x1, y1, x2, y2 in the photo's own pixels.
    #[serde(rename = "box")]
    pub bbox: [f32; 4],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub located: Option<Located>,
    /// Why it has no place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlocated: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Seconds {
    pub decode: f64,
    pub detect: f64,
}

/// Looks at one file. The picture comes back for its evidence, unless it failed.
pub(super) fn look(
    path: &Path,
    model: &ModelInfo,
    around: &Surroundings,
    eye: &mut Eye,
) -> (ImageReport, Option<RgbImage>) {
    let mut report = ImageReport {
        image: path.display().to_string(),
        status: Status::Failed,
        reason: None,
        notes: Vec::new(),
        camera_model: None,
        taken: None,
        pose: None,
        camera: None,
        gsd_m: None,
        detections: Vec::new(),
        evidence: None,
        seconds: Seconds::default(),
    };
    match fill(&mut report, path, model, around, eye) {
        Ok(picture) => (report, Some(picture)),
        Err(reason) => {
            report.status = Status::Failed;
            report.reason = Some(reason);
            (report, None)
        }
    }
}

fn fill(
    report: &mut ImageReport,
    path: &Path,
    model: &ModelInfo,
    around: &Surroundings,
    eye: &mut Eye,
) -> Result<RgbImage, String> {
    let clock = Instant::now();
    let bytes = std::fs::read(path).map_err(|e| format!("cannot be read: {e}"))?;
    let picture = decode::rgb_from(path, &bytes).map_err(|e| e.to_string())?;
    report.seconds.decode = seconds(clock);

    let view = match around.shot(&bytes) {
        Ok((photo, shot)) => {
            report.status = Status::Located;
            report.camera_model = photo.model;
            report.taken = photo.taken;
            report.notes = photo.notes;
            report.notes.extend(shot.notes.iter().cloned());
            report.notes.extend(shot.assumed.iter().map(|assumed| assumed.text().to_owned()));
            // Over flat ground, the height above it.
            let ground_m = match shot.ground {
                Below::Flat { height_m, .. } => height_m,
                Below::Ranged(measured) => measured.height_m,
                Below::Terrain => 0.0,
            };
            report.pose = Some(Pose { height_m: shot.pose.height_m - ground_m, ..shot.pose });
            report.camera = Some(shot.camera);
            Some(shot)
        }
        Err(reason) => {
            report.status = Status::NoPose;
            report.reason = Some(reason);
            None
        }
    };
    let dem = around.world.dem.as_ref();
    report.gsd_m = view.as_ref().map(|shot| shot.ground_sample_distance(dem)).filter(|gsd| gsd.is_finite());
    if report.gsd_m.is_none() {
        report.notes.push(format!(
            "scale unknown: looked at as if a pixel were {} m on the ground, so things of another size may be missed",
            model.gsd_m
        ));
    }

    let clock = Instant::now();
    let detections = eye(path, &picture, report.gsd_m).map_err(|e| format!("detection failed: {e}"))?;
    report.seconds.detect = seconds(clock);
    for detection in detections {
        let (class, height_m) = match model.classes.get(detection.class) {
            Some(class) => (class.name.clone(), class.centre_height_m),
            None => (format!("class {}", detection.class), 0.0),
        };
        let place = view.as_ref().map(|shot| {
            let height_sigma_m = HEIGHT_SIGMA_M + HEIGHT_SIGMA_SHARE * height_m.abs();
            let pixel = centre(detection.bbox, &shot.camera);
            let target = Target { height_m, height_sigma_m, ..Target::ground(pixel) };
            shot.locate(&target, dem).map(|found| found.place)
        });
        let (located, unlocated) = match place {
            Some(Ok(located)) => (Some(located), None),
            Some(Err(error)) => (None, Some(error.to_string())),
            None => (None, None),
        };
        report.detections.push(Seen { class, score: detection.score, bbox: detection.bbox, located, unlocated });
    }
    Ok(picture)
}

/// The box's middle; boxes may stick out of the picture by a rounding.
fn centre([x1, y1, x2, y2]: [f32; 4], camera: &Camera) -> [f64; 2] {
    let middle = |a: f32, b: f32, limit: u32| ((f64::from(a) + f64::from(b)) / 2.0).clamp(0.0, f64::from(limit));
    [middle(x1, x2, camera.width_px), middle(y1, y2, camera.height_px)]
}

fn seconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e3).round() / 1e3
}
