//! `aerie perceive`: the child process. Reads [`Request`]s from standard input, answers on standard output, ends with it.

use std::path::Path;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};

use super::annotate::{self, Box};
use super::decode::{self, Encoded, Picture};
use super::detect::{Detection, Detector};
use super::graph::Options;
use super::ledger::View;
use super::manifest::Manifest;
use super::protocol::{self, Answer, Look, Mark, ModelName, ProtocolError, Request, SeenFrame, Sighting};
use super::quality;
use crate::geo;

/// Width of the preview that goes with each frame; about 60 kB.
const PREVIEW_WIDTH: u32 = 960;
/// In parts of a class's threshold: what is weaker is not even told to the book of cases, where many looks are weighed together.
pub const SUPPORT: f32 = 0.5;
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

/// Decodes no more of a picture than is needed, brings it to the model's scale, and finds and places what is in it.
pub fn look_at(detector: &mut Detector, look: &Look) -> Result<(Answer, Vec<u8>), String> {
    let name = look.file.display();
    let started = Instant::now();
    let encoded = Encoded::open(&look.file).map_err(|error| error.to_string())?;
    // A format whose header is not read here has to be decoded to know its size.
    let whole = if encoded.size().is_none() { Some(encoded.whole().map_err(|e| e.to_string())?) } else { None };
    let (width, height) = encoded.size().or(whole.as_ref().map(|p| (p.width(), p.height()))).unwrap_or_default();
    let camera = look.camera.camera(width, height);
    let gsd_m = geo::ground_sample_distance(&camera, &look.pose);
    if !(gsd_m > 0.0 && gsd_m < 5.0) {
        return Err(format!("{name}: its pose gives {gsd_m} m per pixel, which is no use"));
    }
    let (to_width, to_height) = detector.scaled_size(width, height, Some(gsd_m)).map_err(|error| error.to_string())?;
    let picture = match whole {
        Some(picture) => picture,
        None => encoded.at_least(to_width.max(PREVIEW_WIDTH)).map_err(|error| error.to_string())?,
    };
    drop(encoded);
    let scaled = picture.rgb_sized(to_width, to_height).map_err(|error| format!("{name}: {}", error.message))?;
    let decode_ms = started.elapsed().as_secs_f64() * 1e3;

    let quality = quality::measure(&scaled.pixels());
    if let Some(why) = quality.unusable() {
        return Ok((Answer::Skipped { why }, Vec::new()));
    }
    let started = Instant::now();
    let mut detections = detector.detect_scaled(&scaled.pixels()).map_err(|error| error.to_string())?;
    for detection in &mut detections {
        detection.stretch([width as f32 / to_width as f32, height as f32 / to_height as f32]);
    }
    let detect_ms = started.elapsed().as_secs_f64() * 1e3;
    let view = View { camera, pose: look.pose };
    let sightings: Vec<_> = detections.iter().filter_map(|d| place(detector.manifest(), &view, d)).collect();
    let preview = preview(picture, width, &sightings).map_err(|error| format!("{name}: {error}"))?;
    let frame = SeenFrame {
        frame: look.frame,
        width_px: width,
        height_px: height,
        gsd_m,
        decode_ms,
        detect_ms,
        sharpness: quality.sharpness,
        sightings,
    };
    Ok((Answer::Seen(frame), preview))
}

/// `width` is the whole picture's, which the sightings' boxes are in; what was decoded may be smaller.
fn preview(picture: Picture, width: u32, sightings: &[Sighting]) -> Result<Vec<u8>, String> {
    let scale = picture.width() as f32 / width as f32;
    let marks: Vec<_> =
        sightings.iter().filter(|s| s.sure).map(|s| mark(&s.bbox.map(|v| v * scale), &s.class, s.score)).collect();
    let rgb = picture.into_rgb().map_err(|error| error.message)?;
    annotate::jpeg(&rgb, &marks, PREVIEW_WIDTH, 80).map_err(|error| error.to_string())
}

/// A detection's place on the ground; none where the pose cannot say (above the horizon, too far).
pub fn place(manifest: &Manifest, view: &View, detection: &Detection) -> Option<Sighting> {
    let class = manifest.classes.get(detection.class)?;
    let [x1, y1, x2, y2] = detection.bbox.map(f64::from);
    let centre = [(x1 + x2) / 2.0, (y1 + y2) / 2.0];
    let height_sigma = 0.3 + class.centre_height_m.abs() * 0.4;
    let located = geo::locate(&view.camera, &view.pose, centre, class.centre_height_m, height_sigma).ok()?;
    let (width, height) = (f64::from(view.camera.width_px), f64::from(view.camera.height_px));
    let rim = width * 0.005 + 1.0;
    Some(Sighting {
        class: class.name.clone(),
        score: detection.score,
        sure: detection.score >= class.threshold,
        threshold: class.threshold,
        bbox: detection.bbox,
        at_edge: x1 < rim || y1 < rim || x2 > width - rim || y2 > height - rim,
        located,
        centre_height_m: class.centre_height_m,
        centre_height_sigma_m: height_sigma,
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
