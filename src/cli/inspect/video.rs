//! A video, a stream or a camera: frames that add ground (or one in so many seconds, from a fixed camera), things followed
//! from frame to frame on the ground, one finding a pass.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use super::photo::{ImageReport, Seconds, Seen as SeenThing, Status};
use super::{InspectArgs, Inspection, findings, output};
use crate::geo::track::Track;
use crate::geo::{Attitude, DEFAULT_MAX_RANGE_M, LatLon, NORMAL_95, Pose, PoseSigma, srt};
use crate::perception::annotate;
use crate::perception::child;
use crate::perception::decode::Picture;
use crate::perception::detect::{Detection, Detector};
use crate::perception::ledger::Rules;
use crate::perception::manifest::Manifest;
use crate::perception::pipeline::{self, Choice, Input, Looked, Report, Seen};
use crate::perception::protocol::Sighting;
use crate::perception::sources::live::Feed;
use crate::perception::sources::video::Video;
use crate::perception::sources::vigil::Limits;
use crate::perception::sources::{Address, Lens, Poses, Source, SourceError};
use crate::perception::track::{Motion, Pass, Tracker};

/// Looks at each patch of ground from a moving camera: three, so that a moving thing can be told.
const LOOKS: u8 = 3;
/// Of a fixed camera, one frame in so many seconds.
const PERIOD_S: f64 = 1.0;

/// What became of one video.
#[derive(Debug, Clone, Serialize, Default)]
pub struct VideoReport {
    pub video: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub notes: Vec<String>,
    #[serde(flatten)]
    pub counts: Report,
    pub passes: Vec<PassReport>,
}

#[derive(Debug, Clone, Serialize)]
pub struct PassReport {
    pub class: String,
    pub score: f32,
    pub first_s: f64,
    pub last_s: f64,
    pub looks: usize,
    pub motion: Motion,
}

/// Looks at one; what is wrong with it stands in the report. `stopped` ends a live one.
pub fn inspect(
    inspection: &mut Inspection,
    address: &Address,
    args: &InspectArgs,
    detectors: Vec<Detector>,
    stopped: &dyn Fn() -> bool,
) {
    let mut report = VideoReport {
        video: address.name(),
        reason: None,
        notes: Vec::new(),
        counts: Report::default(),
        passes: Vec::new(),
    };
    if let Err(error) = fill(&mut report, inspection, address, args, detectors, stopped) {
        report.reason = Some(format!("{error:#}"));
    }
    for line in report.notes.iter().chain(&report.reason) {
        eprintln!("{}: {line}", report.video);
    }
    inspection.videos.push(report);
}

fn fill(
    report: &mut VideoReport,
    inspection: &mut Inspection,
    address: &Address,
    args: &InspectArgs,
    detectors: Vec<Detector>,
    stopped: &dyn Fn() -> bool,
) -> anyhow::Result<()> {
    let fixed = args.pose.as_deref().map(|text| pose(text, args.ground)).transpose()?;
    let lens = args.fov.map(|horizontal_fov_deg| Lens { horizontal_fov_deg });
    let manifest = detectors.first().context("no detector")?.manifest().clone();
    let (input, choice) = open(report, address, args, fixed, lens)?;
    let (classes, drawn) = (manifest.clone(), inspection.out.clone());
    let draw = move |picture: Picture, found: &[Detection]| evidence(picture, &classes, found);
    let mut tracker = Tracker::default();
    let mut passes = Vec::new();
    // Where each looked-at frame with something in it stands in the report.
    let mut images = std::collections::HashMap::new();
    let counts = pipeline::run(input, detectors, choice, Some(Arc::new(draw)), stopped, |looked| {
        let frame = looked.stamp.index;
        let at_s = looked.stamp.at_s;
        let view = looked.view;
        let Some((image, sightings)) = take_up(&drawn, address, &manifest, looked) else { return };
        if let Some(image) = image {
            images.insert(frame, inspection.images.len());
            inspection.images.push(image);
        }
        if let Some(view) = view {
            passes.extend(tracker.frame(frame, at_s, &view, sightings));
        }
    })?;
    passes.extend(tracker.finish());
    report
        .notes
        .extend(counts.off_target.iter().map(|(why, n)| format!("{n} frames were not looked at: {}", why.text())));
    report.counts = counts;
    for pass in passes {
        let Pass { class, first_s, last_s, looks, best, located, motion } = pass;
        if let Some(&image) = images.get(&best.frame) {
            let (score, bbox) = (best.sighting.score, best.sighting.bbox);
            inspection.sightings.push(findings::Sighting { image, class: class.clone(), score, bbox, located });
        }
        report.passes.push(PassReport { class, score: best.sighting.score, first_s, last_s, looks, motion });
    }
    Ok(())
}

fn open(
    report: &mut VideoReport,
    address: &Address,
    args: &InspectArgs,
    fixed: Option<Pose>,
    lens: Option<Lens>,
) -> anyhow::Result<(Input, Choice)> {
    if fixed.is_some() && lens.is_none() {
        anyhow::bail!("--pose needs --fov: the horizontal field of view of the camera, degrees");
    }
    if let Address::Video(path) = address {
        let source = Video::open(address, poses(path, fixed, args, report)?, lens)?;
        let choice = match fixed {
            Some(_) => Choice::Period(PERIOD_S),
            None => Choice::Ground(Rules { looks: LOOKS, worth: 0.3, ..Rules::default() }),
        };
        return Ok((Input::File(Box::new(source)), choice));
    }
    let again = address.clone();
    let opener =
        move || -> Result<Box<dyn Source>, SourceError> { Ok(Box::new(Video::open(&again, Box::new(fixed), lens)?)) };
    let gap = Duration::from_secs_f64(PERIOD_S / 4.0);
    Ok((Input::Live(Feed::start(Arc::new(opener), gap, Limits::default())), Choice::Period(PERIOD_S)))
}

/// What says where a video's camera was: a fixed pose, or the telemetry beside it.
fn poses(
    video: &Path,
    fixed: Option<Pose>,
    args: &InspectArgs,
    report: &mut VideoReport,
) -> anyhow::Result<Box<dyn Poses>> {
    if fixed.is_some() {
        return Ok(Box::new(fixed));
    }
    let Some(path) = ["SRT", "srt"].map(|e| video.with_extension(e)).into_iter().find(|path| path.is_file()) else {
        report.notes.push("no .SRT beside it and no --pose: looked at as it is, nothing has a place".to_owned());
        return Ok(Box::new(fixed));
    };
    let bytes = std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let subtitles = srt::read(&bytes).with_context(|| path.display().to_string())?;
    let looks = args.look.as_deref().map(attitude).transpose()?;
    // A fix without correction, a gimbal whose yaw drifts, times told once a second.
    let mut sigma = PoseSigma { horizontal_m: 2.5, vertical_m: 2.0, yaw_deg: 3.0, tilt_deg: 1.0 };
    sigma.horizontal_m = sigma.horizontal_m.hypot(subtitles.rounding_sigma_m());
    let torn_m = subtitles.torn_m;
    if torn_m > 0.0 {
        sigma.horizontal_m = sigma.horizontal_m.hypot(torn_m / NORMAL_95);
        sigma.vertical_m = sigma.vertical_m.hypot(torn_m.min(HEIGHT_TORN_M) / NORMAL_95);
    }
    let track = if torn_m > DEFAULT_MAX_RANGE_M { Track::default() } else { subtitles.track(sigma, looks) };
    let (told, usable) = (subtitles.fixes.len(), track.poses().len());
    report.notes.push(format!("{}: {told} fixes, {usable} of them with height and attitude", path.display()));
    let few = |n: usize, what: &str, report: &mut VideoReport| {
        if n > 0 {
            report.notes.push(format!("{}: {n} {what}", path.display()));
        }
    };
    few(subtitles.reversed, "blocks whose times run backwards: put in order", report);
    few(subtitles.unusable, "blocks without a usable time or position: passed over", report);
    report
        .notes
        .extend(subtitles.first_fault.iter().map(|fault| format!("{}: the first of them: {fault}", path.display())));
    few(subtitles.high(), "fixes more than 300 m above take-off: in feet? places hold that too", report);
    few(subtitles.jumped, "positions or heights to which no drone flies from all others: left out", report);
    if torn_m > 0.0 {
        let so = if torn_m > DEFAULT_MAX_RANGE_M { "nothing has a place" } else { "places are so much less sure" };
        report.notes.push(format!(
            "{}: its positions or heights fall into parts that are {torn_m:.0} m apart, further than a drone flies in between, and nothing says which are right: {so} (do its times begin anew? then it is two files in one)",
            path.display()
        ));
    }
    for &(from, to) in subtitles.gaps.iter().take(GAPS_TOLD) {
        let so = if track.at(f64::midpoint(from, to), BRIDGED_S).is_some() {
            "places in between are less sure"
        } else {
            "frames in between have no place"
        };
        report.notes.push(format!("{}: no position from {from:.2} to {to:.2} s: {so}", path.display()));
    }
    few(subtitles.gaps.len().saturating_sub(GAPS_TOLD), "more gaps", report);
    if usable == 0 {
        if subtitles.fixes.iter().all(|fix| fix.above_take_off_m.is_none()) {
            report.notes.push(
                "nothing has a place: it tells no height above take-off, and an altitude alone does not say above what"
                    .to_owned(),
            );
        }
        if looks.is_none() && subtitles.fixes.iter().all(|fix| fix.gimbal.is_none()) {
            report.notes.push("nothing has a place: it tells no attitude of the camera, give it by --look".to_owned());
        }
    }
    if args.fov.is_none() {
        report.notes.push("nothing has a place: --fov, the camera's field of view, is missing".to_owned());
    }
    Ok(Box::new(Telemetry { track, ground_m: args.ground }))
}

/// Between fixes no further apart a pose is interpolated: they are told once a second, and one may be missing.
const BRIDGED_S: f64 = 2.5;
/// Where a file's positions are torn apart, its heights may be too, by so much at most.
const HEIGHT_TORN_M: f64 = 500.0;
/// Gaps that are told one by one.
const GAPS_TOLD: usize = 10;

/// A drone's telemetry, with the ground's height above take-off.
struct Telemetry {
    track: Track,
    ground_m: f64,
}

impl Poses for Telemetry {
    fn at(&self, at_s: f64) -> Option<Pose> {
        let pose = self.track.at(at_s, BRIDGED_S)?;
        Some(Pose { height_m: pose.height_m - self.ground_m, ..pose })
    }
}

/// `YAW,PITCH[,ROLL]`.
fn attitude(text: &str) -> Result<Attitude, SourceError> {
    let fault = |message: String| SourceError::Look { message };
    let numbers: Option<Vec<f64>> =
        text.split(',').map(|part| part.trim().parse::<f64>().ok().filter(|n| n.is_finite())).collect();
    let (yaw_deg, pitch_deg, roll_deg) = match numbers.as_deref() {
        Some([yaw, pitch]) => (*yaw, *pitch, 0.0),
        Some([yaw, pitch, roll]) => (*yaw, *pitch, *roll),
        _ => return Err(fault(format!("{text:?} are not two or three numbers"))),
    };
    if !(-90.0..=90.0).contains(&pitch_deg) {
        return Err(fault(format!("a pitch of {pitch_deg} is none: -90 is straight down, 0 the horizon")));
    }
    Ok(Attitude { yaw_deg, pitch_deg, roll_deg })
}

/// Why a frame has no place.
const NO_POSE: &str = "nothing says where the camera was at this moment (a gap in the .SRT, or no height, attitude or --fov): the notes of its video say more";

/// One frame's report, where something was found in it, and its sightings; none where it could not be looked at.
fn take_up(
    out: &Path,
    address: &Address,
    manifest: &Manifest,
    looked: Looked,
) -> Option<(Option<ImageReport>, Vec<Sighting>)> {
    let Seen::Found { detections, jpeg, .. } = looked.result.ok()? else { return None };
    let mut sightings = Vec::new();
    let mut things = Vec::new();
    for detection in &detections {
        let class = manifest.classes.get(detection.class).map_or_else(String::new, |c| c.name.clone());
        let placed = looked.view.and_then(|view| child::place(manifest, &view, detection));
        things.push(SeenThing {
            class,
            score: detection.score,
            bbox: detection.bbox,
            located: placed.as_ref().map(|s| s.located),
            unlocated: None,
        });
        sightings.extend(placed);
    }
    if things.is_empty() {
        return Some((None, sightings));
    }
    let stem = Path::new(&address.name()).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = format!("{stem}-{:06}.jpg", looked.stamp.index);
    let written = jpeg.and_then(|jpeg| output::replace(&out.join(output::EVIDENCE).join(&name), &jpeg).ok());
    let image = ImageReport {
        image: format!("{} at {:.2} s", address.name(), looked.stamp.at_s),
        status: if looked.view.is_some() { Status::Located } else { Status::NoPose },
        reason: looked.view.is_none().then(|| NO_POSE.to_owned()),
        notes: Vec::new(),
        camera_model: None,
        taken: None,
        pose: looked.view.map(|view| view.pose),
        camera: looked.view.map(|view| view.camera),
        gsd_m: looked
            .view
            .map(|v| crate::geo::ground_sample_distance(&v.camera, &v.pose))
            .filter(|gsd| gsd.is_finite()),
        detections: things,
        evidence: written.map(|()| format!("{}/{name}", output::EVIDENCE)),
        seconds: Seconds::default(),
    };
    Some((Some(image), sightings))
}

fn evidence(picture: Picture, manifest: &Manifest, found: &[Detection]) -> Option<Vec<u8>> {
    let rgb = picture.into_rgb().ok()?;
    let boxes: Vec<_> = found
        .iter()
        .map(|d| annotate::Box {
            bbox: d.bbox,
            label: format!("{} {:.2}", manifest.classes.get(d.class).map_or("", |c| &c.name), d.score),
            color: annotate::RED,
        })
        .collect();
    annotate::jpeg(&rgb, &boxes, rgb.width(), 85).ok()
}

/// `LAT,LON,HEIGHT,YAW,PITCH[,ROLL]`, the height above take-off.
fn pose(text: &str, ground_m: f64) -> Result<Pose, SourceError> {
    let fault = |message: String| SourceError::Pose { name: "--pose".to_owned(), message };
    let numbers: Vec<f64> = text
        .split(',')
        .map(|part| part.trim().parse::<f64>().ok().filter(|n| n.is_finite()).ok_or(part))
        .collect::<Result<_, _>>()
        .map_err(|part| fault(format!("{part:?} is no number")))?;
    let (lat, lon, height_m, yaw_deg, pitch_deg, roll_deg) = match numbers[..] {
        [lat, lon, height, yaw, pitch] => (lat, lon, height, yaw, pitch, 0.0),
        [lat, lon, height, yaw, pitch, roll] => (lat, lon, height, yaw, pitch, roll),
        _ => return Err(fault(format!("{} numbers, 5 or 6 are needed", numbers.len()))),
    };
    let at = LatLon { lat, lon };
    at.validate().map_err(|error| fault(error.to_string()))?;
    if !(-90.0..=90.0).contains(&pitch_deg) {
        return Err(fault(format!("a pitch of {pitch_deg} is none: -90 is straight down, 0 the horizon")));
    }
    Ok(Pose {
        at,
        height_m: height_m - ground_m,
        attitude: Attitude { yaw_deg, pitch_deg, roll_deg },
        // A camera on a mast whose place somebody measured with a telephone, and its direction by landmarks.
        sigma: PoseSigma { horizontal_m: 2.0, vertical_m: 1.0, yaw_deg: 2.0, tilt_deg: 1.0 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telemetry_beside_a_video_says_where_its_camera_was() {
        let folder = tempfile::tempdir().unwrap();
        let video = folder.path().join("DJI_0001.MP4");
        let block = |n: u32, height: f64| {
            format!(
                "{n}\n00:00:0{n},000 --> 00:00:0{},000\n[latitude: 23.03] [longitude: 112.9] [rel_alt: {height} abs_alt: 90.0]\n\n",
                n + 1
            )
        };
        std::fs::write(folder.path().join("DJI_0001.SRT"), [block(1, 60.0), block(2, 62.0)].concat()).unwrap();
        let args = |look: Option<&str>| InspectArgs {
            paths: vec![video.clone()],
            ground: 5.0,
            look: look.map(str::to_owned),
            fov: Some(73.0),
            ..InspectArgs::default()
        };
        let mut report = VideoReport::default();
        let told = poses(&video, None, &args(Some("90,-90")), &mut report).unwrap();
        let pose = told.at(1.5).unwrap();
        assert!((pose.height_m - 56.0).abs() < 1e-6 && pose.attitude.pitch_deg < -89.9, "{pose:?}");
        assert_eq!(told.at(9.0), None);
        // Two digits behind the point, which is a kilometre.
        assert!((pose.sigma.horizontal_m - 321.0).abs() < 2.0, "{:?}", pose.sigma);
        // 1.1 km in a second; then 111 km.
        for (lat, sigma_m) in [("23.04", Some(651.0)), ("24.03", None)] {
            let elsewhere = block(2, 62.0).replace("23.03", lat);
            std::fs::write(folder.path().join("DJI_0001.SRT"), [block(1, 60.0), elsewhere].concat()).unwrap();
            let mut report = VideoReport::default();
            let told = poses(&video, None, &args(Some("90,-90")), &mut report).unwrap().at(1.5);
            let told_m = told.map(|pose| pose.sigma.horizontal_m);
            assert!(
                told_m.is_some() == sigma_m.is_some() && (told_m.unwrap_or(0.0) - sigma_m.unwrap_or(0.0)).abs() < 6.0,
                "{told_m:?}"
            );
            assert!(report.notes.iter().any(|note| note.contains("two files in one")), "{:?}", report.notes);
        }
        std::fs::write(folder.path().join("DJI_0001.SRT"), [block(1, 60.0), block(2, 62.0)].concat()).unwrap();
        let untold = poses(&video, None, &args(None), &mut report).unwrap();
        assert_eq!(untold.at(1.5), None);
        assert!(report.notes.iter().any(|note| note.contains("--look")), "{:?}", report.notes);
        assert!(!report.notes.iter().any(|note| note.contains("above take-off")), "{:?}", report.notes);
        assert!(poses(&video, None, &args(Some("down")), &mut report).is_err_and(|e| e.to_string().contains("--look")));
    }

    #[test]
    fn telemetry_without_a_height_above_take_off_is_told_as_that_and_not_as_a_look_that_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let video = folder.path().join("DJI_0003.MP4");
        let block = "1\n00:00:00,000 --> 00:00:00,016\n[latitude: 41.42] [longitude: 2.16] [altitude: 27.3]\n\n";
        std::fs::write(folder.path().join("DJI_0003.SRT"), block).unwrap();
        let notes = |look: Option<&str>| {
            let args = InspectArgs { look: look.map(str::to_owned), fov: Some(73.0), ..InspectArgs::default() };
            let mut report = VideoReport::default();
            poses(&video, None, &args, &mut report).unwrap();
            report.notes.join("\n")
        };
        let given = notes(Some("0,-90"));
        assert!(given.contains("no height above take-off") && !given.contains("--look"), "{given}");
        let untold = notes(None);
        assert!(untold.contains("no height above take-off") && untold.contains("--look"), "{untold}");
    }

    /// A frame as the pipeline tells of it.
    fn looked(view: Option<crate::perception::ledger::View>, detections: Vec<Detection>) -> Looked {
        let quality = crate::perception::quality::Quality { sharpness: 0.7, dark: 0.0, bright: 0.0 };
        let seen = Seen::Found { detections, quality, width: 400, height: 300, jpeg: None };
        let stamp = crate::perception::sources::Stamp { index: 7, at_s: 1.5 };
        Looked { stamp, view, file: None, result: Ok(seen) }
    }

    #[test]
    fn a_frame_without_a_pose_says_why_and_one_with_a_pose_has_no_reason() {
        let out = tempfile::tempdir().unwrap();
        let address = Address::Video("DJI_0004.MP4".into());
        let manifest = Manifest::read(&crate::perception::model_dir(None)).unwrap();
        let thing = || vec![Detection { class: 0, score: 0.9, bbox: [190.0, 140.0, 210.0, 160.0] }];
        let report = |view| take_up(out.path(), &address, &manifest, looked(view, thing())).unwrap().0.unwrap();
        let blind = report(None);
        assert_eq!((blind.status, blind.pose), (Status::NoPose, None));
        assert!(blind.reason.as_deref().is_some_and(|r| r.contains("gap in the .SRT") && r.contains("--fov")));
        let camera = crate::geo::Camera::from_fov(400, 300, 73.0);
        let placed =
            report(Some(crate::perception::ledger::View { camera, pose: pose("23,113,50,0,-90", 0.0).unwrap() }));
        assert!(placed.status == Status::Located && placed.reason.is_none() && placed.pose.is_some());
        // Where nothing was found there is nothing to report.
        assert!(take_up(out.path(), &address, &manifest, looked(None, Vec::new())).unwrap().0.is_none());
    }

    #[test]
    fn gaps_and_times_that_run_backwards_in_the_telemetry_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let video = folder.path().join("DJI_0002.MP4");
        let block = |at: u32| {
            format!(
                "1\n00:00:{at:02},000 --> 00:00:{:02},000\n[latitude: 23.03] [longitude: 112.9] [rel_alt: 60 abs_alt: 90.0]\n\n",
                at + 1
            )
        };
        let text = [block(2), block(1), block(3), block(5), block(6), block(30)].concat();
        std::fs::write(folder.path().join("DJI_0002.SRT"), text).unwrap();
        let args = InspectArgs { look: Some("0,-90".to_owned()), fov: Some(73.0), ..InspectArgs::default() };
        let mut report = VideoReport::default();
        let told = poses(&video, None, &args, &mut report).unwrap();
        assert_eq!(told.at(15.0), None);
        assert!(told.at(4.0).is_some());
        for words in [
            "1 blocks whose times run backwards",
            "from 4.00 to 5.00 s: places in between are less sure",
            "from 7.00 to 30.00 s: frames in between have no place",
        ] {
            assert!(report.notes.iter().any(|note| note.contains(words)), "{:?}", report.notes);
        }
    }

    #[test]
    fn a_fixed_cameras_pose_is_read_or_its_fault_is_named() {
        let read = pose("23.03, 112.9,45,270,-60", 5.0).unwrap();
        assert_eq!(
            (read.at.lat, read.height_m, read.attitude.yaw_deg, read.attitude.pitch_deg),
            (23.03, 40.0, 270.0, -60.0)
        );
        for (text, told) in [
            ("23.03,112.9,45", "3 numbers"),
            ("23.03,112.9,45,north,-60", "\"north\""),
            ("123,112.9,45,0,-60", "123"),
            ("23,112.9,45,0,-120", "pitch"),
        ] {
            let error = pose(text, 0.0).unwrap_err().to_string();
            assert!(error.contains(told) && error.contains("--pose"), "{error}");
        }
    }
}
