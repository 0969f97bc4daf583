//! Peak memory and lag of perception on a live 4K source: `record FILE FOLDER` makes a 4K H.264 video of a folder of larger
//! pictures, `watch FILE SECONDS` plays it at its own pace, over and over, as a live source.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use aerie::geo::{Attitude, LatLon, Pose, PoseSigma};
use aerie::perception::detect::Detector;
use aerie::perception::graph::Options;
use aerie::perception::model_dir;
use aerie::perception::pipeline::{self, Choice, Input};
use aerie::perception::sources::live::Feed;
use aerie::perception::sources::video::Video;
use aerie::perception::sources::vigil::Limits;
use aerie::perception::sources::{Address, Frame, Lens, Source, SourceError, Stamp};
use opencv::core::{Point, Rect, Size};
use opencv::imgcodecs;
use opencv::prelude::*;
use opencv::videoio::{self, VideoWriter};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["record", file, folder] => record(Path::new(file), Path::new(folder)),
        ["watch", file, seconds] => watch(Path::new(file), seconds.parse().unwrap_or(20.0)),
        _ => Err("usage: live_memory record FILE FOLDER | watch FILE SECONDS".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Pictures of the video that are cut out of each picture.
const STEPS: i32 = 10;

fn record(file: &Path, folder: &Path) -> Result<(), String> {
    let mut pictures: Vec<PathBuf> =
        std::fs::read_dir(folder).map_err(|e| e.to_string())?.filter_map(|e| Some(e.ok()?.path())).collect();
    pictures.retain(|p| p.extension().is_some_and(|e| e.eq_ignore_ascii_case("jpg")));
    pictures.sort();
    let work = || -> opencv::Result<()> {
        let fourcc = VideoWriter::fourcc('H', '2', '6', '4')?;
        let size = Size::new(3840, 2160);
        let mut writer = VideoWriter::new_with_backend(file, videoio::CAP_FFMPEG, fourcc, 25.0, size, true)?;
        for picture in &pictures {
            let whole = imgcodecs::imread(picture, imgcodecs::IMREAD_COLOR)?;
            // From corner to corner, as if the camera moved.
            for step in 0..STEPS {
                let along = |room: i32| room * step / (STEPS - 1);
                let at = Point::new(along(whole.cols() - size.width), along(whole.rows() - size.height));
                writer.write(&whole.roi(Rect::from_point_size(at, size))?.try_clone()?)?;
            }
        }
        writer.release()
    };
    work().map_err(|e| e.message)
}

/// A video that comes at its own pace and never ends.
struct Played {
    file: PathBuf,
    /// None only while it is opened again: a camera has one decoder at a time.
    video: Option<Video>,
    next: Instant,
    index: u64,
}

const POSE: Pose = Pose {
    at: LatLon { lat: 23.0, lon: 113.0 },
    height_m: 100.0,
    attitude: Attitude { yaw_deg: 0.0, pitch_deg: -90.0, roll_deg: 0.0 },
    sigma: PoseSigma { horizontal_m: 1.0, vertical_m: 1.0, yaw_deg: 1.0, tilt_deg: 0.5 },
};

fn open(file: &Path) -> Result<Video, SourceError> {
    Video::open(&Address::Video(file.to_owned()), Box::new(Some(POSE)), Some(Lens { horizontal_fov_deg: 66.0 }))
}

impl Played {
    fn playing(&mut self) -> Result<&mut Video, SourceError> {
        let video = match self.video.take() {
            Some(video) => video,
            None => open(&self.file)?,
        };
        Ok(self.video.insert(video))
    }
}

impl Source for Played {
    fn advance(&mut self) -> Result<Option<Stamp>, SourceError> {
        let (_pace, never) = mpsc::channel::<()>();
        let _ = never.recv_timeout(self.next.saturating_duration_since(Instant::now()));
        self.next += Duration::from_millis(40);
        if self.playing()?.advance()?.is_none() {
            self.video = None;
            self.playing()?.advance()?;
        }
        self.index += 1;
        Ok(Some(Stamp { index: self.index, at_s: self.index as f64 / 25.0 }))
    }

    fn frame(&mut self) -> Result<Frame, SourceError> {
        let stamp = Stamp { index: self.index, at_s: self.index as f64 / 25.0 };
        Ok(Frame { stamp, ..self.playing()?.frame()? })
    }
}

fn watch(file: &Path, seconds: f64) -> Result<(), String> {
    let detector =
        Detector::load(&model_dir(None), &Options { lean: true, ..Options::default() }).map_err(|e| e.to_string())?;
    let path = file.to_owned();
    let opener = move || -> Result<Box<dyn Source>, SourceError> {
        Ok(Box::new(Played { file: path.clone(), video: Some(open(&path)?), next: Instant::now(), index: 0 }))
    };
    let feed = Feed::start(Arc::new(opener), Duration::from_millis(100), Limits::default());
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let report = pipeline::run(
        Input::Live(feed),
        vec![detector],
        Choice::Period(0.2),
        None,
        &|| Instant::now() >= until,
        |_| {},
    )
    .map_err(|e| e.to_string())?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<f64>().ok());
    println!("{report:#?}\npeak memory {:.0} MB (target 300)", peak.unwrap_or(f64::NAN) / 1024.0);
    Ok(())
}
