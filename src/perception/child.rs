//! `aerie perceive`: the child process. Reads [`Request`]s from standard input, answers on standard output, ends with it.

use std::path::Path;

use image::RgbImage;
use tokio::io::{AsyncRead, AsyncWrite};

use super::annotate::{self, Box};
use super::decode;
use super::detect::{Detection, Detector};
use super::graph::Options;
use super::protocol::{self, Answer, Look, Mark, ModelName, ProtocolError, Request, SeenFrame, Sighting};
use crate::geo;

/// Width of the preview that goes with each frame; about 60 kB.
const PREVIEW_WIDTH: u32 = 960;
/// A thing that one look shows surely may be shown less surely by the others.
const SUPPORT: f32 = 0.75;
/// Width of an evidence picture; a 4K frame stays readable at a few hundred kB.
const EVIDENCE_WIDTH: u32 = 1920;

pub async fn run(
    model: &Path,
    options: &Options,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> Result<(), ProtocolError> {
    // Every picture comes with its pose, and is brought to the model's scale.
    let loaded = Detector::load(model, options).and_then(|detector| {
        detector.manifest().ground_sample_distance(model)?;
        Ok(detector.with_floor(SUPPORT))
    });
    let mut detector = match loaded {
        Ok(detector) => detector,
        Err(error) => return protocol::write(&mut to, &Answer::Failed { error: error.to_string() }, &[]).await,
    };
    let manifest = detector.manifest();
    let model =
        ModelName { name: manifest.name.clone(), version: manifest.version.clone(), sha256: manifest.sha256.clone() };
    let ready = Answer::Ready { model, provider: detector.chosen().clone() };
    protocol::write(&mut to, &ready, &[]).await?;
    loop {
        let request = match protocol::read::<Request>(&mut from).await {
            Ok((request, _)) => request,
            Err(ProtocolError::Stream(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let answered = match request {
            Request::Look(look) => look_at(&mut detector, &look),
            Request::Annotate { file, marks } => annotate_file(&file, &marks),
        };
        match answered {
            Ok((answer, jpeg)) => protocol::write(&mut to, &answer, &jpeg).await?,
            Err(error) => protocol::write(&mut to, &Answer::Failed { error }, &[]).await?,
        }
    }
}

fn look_at(detector: &mut Detector, look: &Look) -> Result<(Answer, Vec<u8>), String> {
    let started = std::time::Instant::now();
    let picture = decode::open_rgb(&look.file).map_err(|error| error.to_string())?;
    let decode_ms = started.elapsed().as_secs_f64() * 1e3;
    let camera = look.camera.camera(picture.width(), picture.height());
    let gsd_m = geo::ground_sample_distance(&camera, &look.pose);
    if !(gsd_m > 0.0 && gsd_m < 5.0) {
        return Err(format!("{}: its pose gives {gsd_m} m per pixel, which is no use", look.file.display()));
    }
    let started = std::time::Instant::now();
    let detections = detector.detect(&picture, Some(gsd_m)).map_err(|error| error.to_string())?;
    let detect_ms = started.elapsed().as_secs_f64() * 1e3;
    let sightings: Vec<_> = detections.iter().filter_map(|d| place(detector, look, &camera, &picture, d)).collect();
    let marks: Vec<_> = sightings.iter().filter(|s| s.sure).map(|s| mark(&s.bbox, &s.class, s.score)).collect();
    let preview = annotate::jpeg(&picture, &marks, PREVIEW_WIDTH, 80).map_err(|error| error.to_string())?;
    let (width_px, height_px) = picture.dimensions();
    let frame = SeenFrame { frame: look.frame, width_px, height_px, gsd_m, decode_ms, detect_ms, sightings };
    Ok((Answer::Seen(frame), preview))
}

/// A detection's place on the ground; none where the pose cannot say (above the horizon, too far).
fn place(
    detector: &Detector,
    look: &Look,
    camera: &geo::Camera,
    picture: &RgbImage,
    detection: &Detection,
) -> Option<Sighting> {
    let class = detector.manifest().classes.get(detection.class)?;
    let [x1, y1, x2, y2] = detection.bbox.map(f64::from);
    let centre = [(x1 + x2) / 2.0, (y1 + y2) / 2.0];
    let height_sigma = 0.3 + class.centre_height_m.abs() * 0.4;
    let located = geo::locate(camera, &look.pose, centre, class.centre_height_m, height_sigma).ok()?;
    let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
    let rim = width * 0.005 + 1.0;
    Some(Sighting {
        class: class.name.clone(),
        score: detection.score,
        sure: detection.score >= class.threshold,
        bbox: detection.bbox,
        at_edge: x1 < rim || y1 < rim || x2 > width - rim || y2 > height - rim,
        located,
        experimental: class.grade.is_experimental(),
    })
}

fn annotate_file(file: &Path, marks: &[Mark]) -> Result<(Answer, Vec<u8>), String> {
    let picture = decode::open_rgb(file).map_err(|error| error.to_string())?;
    let boxes: Vec<_> =
        marks.iter().map(|m| Box { bbox: m.bbox, label: m.label.clone(), color: annotate::RED }).collect();
    let jpeg = annotate::jpeg(&picture, &boxes, EVIDENCE_WIDTH, 85).map_err(|error| error.to_string())?;
    Ok((Answer::Annotated, jpeg))
}

fn mark(bbox: &[f32; 4], class: &str, score: f32) -> Box {
    let color = if class == "vehicle" || class == "building" { annotate::YELLOW } else { annotate::RED };
    Box { bbox: *bbox, label: format!("{class} {:.0}%", score * 100.0), color }
}
