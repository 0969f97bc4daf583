//! A source of frames, looked at by several single-threaded sessions at once, told in the order of the frames.
//!
//! ```text
//! source ─ chosen? ─▶ work (as many as workers) ─▶ N threads: resample, judge, detect ─▶ results ─▶ in order ─▶ caller
//! ```
//!
//! The caller's thread reads, chooses and tells. No stage holds more than it was given room for: at most twice as many
//! frames as workers are between the source and the caller, whatever the source. A file waits for the workers; a live
//! feed does not, and drops its oldest frames instead ([`live`](super::sources::live)).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::decode::Picture;
use super::detect::{DetectError, Detection, Detector};
use super::ledger::{Ledger, OffTarget, Rules, Survey, Verdict, View};
use super::quality::{self, Quality, Unusable};
use super::sources::live::{Feed, FeedState};
use super::sources::newest::Taken;
use super::sources::{Frame, Source, SourceError, Stamp};
use crate::geo;

#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("no worker is left: {0}")]
    Workers(String),
}

/// Which frames are looked at.
#[derive(Debug, Clone, Copy)]
pub enum Choice {
    Every,
    /// A fixed camera: one in so many seconds.
    Period(f64),
    /// A moving camera: what adds ground. A frame without a pose is looked at. One that is passed over cannot be called for
    /// later, so `worth` must be low enough that a last look is worth one: below 1 / looks.
    Ground(Rules),
}

/// Where frames come from.
pub enum Input {
    File(Box<dyn Source>),
    Live(Feed),
}

/// What became of a frame that was chosen.
#[derive(Debug)]
pub struct Looked {
    pub stamp: Stamp,
    pub view: Option<View>,
    pub file: Option<PathBuf>,
    pub result: Result<Seen, String>,
}

#[derive(Debug)]
pub enum Seen {
    /// Boxes in the frame's own pixels; the frame as a JPEG where something was found, if the caller wanted that.
    Found {
        detections: Vec<Detection>,
        quality: Quality,
        width: u32,
        height: u32,
        jpeg: Option<Vec<u8>>,
    },
    Unusable {
        why: Unusable,
        quality: Quality,
    },
}

/// Counts, at the end.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Report {
    /// Frames the source gave.
    pub frames: u64,
    pub looked: u64,
    /// Frames that added too little to be looked at.
    pub passed_over: u64,
    pub unusable: u64,
    pub failed: u64,
    /// The longest from a frame's coming to its being told.
    pub longest_lag_s: f64,
    pub survey: Option<Survey>,
    /// Why frames were off target, and how many for each reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub off_target: BTreeMap<OffTarget, u64>,
    pub feed: Option<FeedState>,
}

struct Job {
    order: u64,
    frame: Frame,
}

struct Done {
    order: u64,
    came: Instant,
    looked: Looked,
}

/// Width of evidence, unless the frame is smaller.
const EVIDENCE_WIDTH: u32 = 1920;

/// Makes evidence of a frame, which may have been made smaller for it: its boxes drawn, as a JPEG.
pub type Draw = dyn Fn(Picture, &[Detection]) -> Option<Vec<u8>> + Send + Sync;

/// How long a silent live source is waited for before `stopped` is asked again.
const PATIENCE: Duration = Duration::from_millis(200);

/// Runs until the source ends or `stopped` says so. `tell` hears of every chosen frame, in their order.
pub fn run(
    mut input: Input,
    detectors: Vec<Detector>,
    choice: Choice,
    draw: Option<Arc<Draw>>,
    stopped: &dyn Fn() -> bool,
    mut tell: impl FnMut(Looked),
) -> Result<Report, PipelineError> {
    let workers = detectors.len().max(1);
    let (work, jobs) = mpsc::sync_channel::<Job>(workers);
    // Never full: no more frames are under way than this holds.
    let (results, done) = mpsc::sync_channel(2 * workers);
    let jobs = Arc::new(Mutex::new(jobs));
    let threads: Vec<_> = detectors
        .into_iter()
        .map(|detector| {
            let (jobs, results, draw) = (Arc::clone(&jobs), results.clone(), draw.clone());
            std::thread::spawn(move || serve(detector, &jobs, &results, draw.as_deref()))
        })
        .collect();
    drop(results);
    // Of a live feed, frames wait in its own queue, where they can still be dropped.
    let room = if matches!(input, Input::Live(_)) { workers } else { 2 * workers };
    let mut conductor = Conductor::new(choice, room);
    let outcome = conductor.conduct(&mut input, work, &done, stopped, &mut tell);
    for thread in threads {
        // A worker that panicked has said so; what it held is missing in the counts.
        let _ = thread.join();
    }
    let mut report = conductor.report;
    report.survey = conductor.ledger.as_ref().map(Ledger::survey);
    if let Input::Live(feed) = &input {
        report.feed = Some(feed.state());
    }
    outcome.map(|()| report)
}

struct Conductor {
    choice: Choice,
    ledger: Option<Ledger>,
    last_chosen_s: Option<f64>,
    room: usize,
    next_order: u64,
    next_told: u64,
    /// Came back before their turn.
    early: BTreeMap<u64, Done>,
    report: Report,
}

impl Conductor {
    fn new(choice: Choice, room: usize) -> Conductor {
        let ledger = match choice {
            Choice::Ground(rules) => Some(Ledger::new(&[], rules)),
            _ => None,
        };
        Conductor {
            choice,
            ledger,
            last_chosen_s: None,
            room,
            next_order: 0,
            next_told: 0,
            early: BTreeMap::new(),
            report: Report::default(),
        }
    }

    fn conduct(
        &mut self,
        input: &mut Input,
        work: SyncSender<Job>,
        done: &Receiver<Done>,
        stopped: &dyn Fn() -> bool,
        tell: &mut impl FnMut(Looked),
    ) -> Result<(), PipelineError> {
        while !stopped() {
            while let Ok(result) = done.try_recv() {
                self.settle(result, tell);
            }
            // Room first, then the frame: what is taken from a live feed must not grow old here.
            if (self.next_order - self.next_told) as usize >= self.room {
                let result = done.recv().map_err(|_| PipelineError::Workers("all have ended".to_owned()))?;
                self.settle(result, tell);
                continue;
            }
            let frame = match input {
                Input::File(source) => match self.next_of(source.as_mut()) {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break,
                    // One bad frame of a file is told and passed.
                    Err((Some(stamp), error)) => {
                        self.report.failed += 1;
                        tell(Looked { stamp, view: None, file: None, result: Err(error.to_string()) });
                        continue;
                    }
                    Err((None, error)) => return Err(error.into()),
                },
                Input::Live(feed) => match feed.take(PATIENCE) {
                    Taken::Item(frame) => {
                        self.report.frames += 1;
                        if !self.wants(frame.stamp, frame.view) {
                            continue;
                        }
                        frame
                    }
                    Taken::Nothing => continue,
                    Taken::Closed => break,
                },
            };
            let job = Job { order: self.next_order, frame };
            self.next_order += 1;
            self.report.looked += 1;
            work.send(job).map_err(|_| PipelineError::Workers("all have ended".to_owned()))?;
        }
        drop(work);
        while let Ok(result) = done.recv() {
            self.settle(result, tell);
        }
        Ok(())
    }

    /// The next frame of a file that is worth a look. An error with a stamp is of that frame only.
    fn next_of(&mut self, source: &mut dyn Source) -> Result<Option<Frame>, (Option<Stamp>, SourceError)> {
        while let Some(stamp) = source.advance().map_err(|error| (None, error))? {
            self.report.frames += 1;
            // Where the pose is known before the picture is made, a frame that is passed over costs no picture.
            let early = source.view(stamp);
            if early.is_some() && !self.wants(stamp, early) {
                continue;
            }
            let frame = source.frame().map_err(|error| (Some(stamp), error))?;
            if early.is_some() || self.wants(stamp, frame.view) {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    fn wants(&mut self, stamp: Stamp, view: Option<View>) -> bool {
        let wanted = match (self.choice, view, &mut self.ledger) {
            (Choice::Period(period_s), _, _) => self.last_chosen_s.is_none_or(|last| stamp.at_s - last >= period_s),
            (Choice::Ground(_), Some(view), Some(ledger)) => {
                let verdict = ledger.offer(stamp.index, view);
                // A frame that has gone by does not come back.
                ledger.forget(stamp.index);
                if verdict == Verdict::OffTarget {
                    *self.report.off_target.entry(ledger.why_off_target(view)).or_default() += 1;
                }
                verdict == Verdict::Look
            }
            _ => true,
        };
        if wanted {
            self.last_chosen_s = Some(stamp.at_s);
        } else {
            self.report.passed_over += 1;
        }
        wanted
    }

    fn settle(&mut self, result: Done, tell: &mut impl FnMut(Looked)) {
        self.early.insert(result.order, result);
        while let Some(Done { looked, came, .. }) = self.early.remove(&self.next_told) {
            self.next_told += 1;
            self.report.longest_lag_s = self.report.longest_lag_s.max(came.elapsed().as_secs_f64());
            let frame = looked.stamp.index;
            match &looked.result {
                Ok(Seen::Found { quality, width, height, .. }) => {
                    if let (Some(ledger), Some(view)) = (&mut self.ledger, looked.view) {
                        debug_assert_eq!((view.camera.width_px, view.camera.height_px), (*width, *height));
                        ledger.looked(frame, view.camera, quality.sharpness);
                    }
                }
                Ok(Seen::Unusable { why, .. }) => {
                    self.report.unusable += 1;
                    match (&mut self.ledger, why) {
                        (Some(ledger), Unusable::Blurred) => ledger.blurred(frame),
                        (Some(ledger), Unusable::BadlyExposed) => ledger.badly_exposed(frame),
                        (None, _) => {}
                    }
                }
                Err(_) => {
                    self.report.failed += 1;
                    if let Some(ledger) = &mut self.ledger {
                        ledger.failed(frame);
                    }
                }
            }
            tell(looked);
        }
    }
}

fn serve(mut detector: Detector, jobs: &Mutex<Receiver<Job>>, results: &SyncSender<Done>, draw: Option<&Draw>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { order, frame }) = job else { return };
        let Frame { stamp, picture, view, file, came } = frame;
        let result = look(&mut detector, picture, view, draw).map_err(|error| error.to_string());
        let looked = Looked { stamp, view, file, result };
        if results.send(Done { order, came, looked }).is_err() {
            return;
        }
    }
}

fn look(
    detector: &mut Detector,
    picture: Picture,
    view: Option<View>,
    draw: Option<&Draw>,
) -> Result<Seen, DetectError> {
    let (width, height) = (picture.width(), picture.height());
    let gsd_m = view.map(|view| geo::ground_sample_distance(&view.camera, &view.pose)).filter(|gsd| gsd.is_finite());
    let (to_width, to_height) = detector.scaled_size(width, height, gsd_m)?;
    let scaled = picture.rgb_sized(to_width, to_height).map_err(|error| DetectError::Resize(error.message))?;
    // The frame itself is let go of before the graph runs: of a 4K frame that is 25 MB.
    let shown = match draw {
        Some(_) if width > EVIDENCE_WIDTH => Some(
            picture
                .rgb_sized(EVIDENCE_WIDTH, (height * EVIDENCE_WIDTH / width).max(1))
                .map_err(|error| DetectError::Resize(error.message))?,
        ),
        Some(_) => Some(picture),
        None => {
            drop(picture);
            None
        }
    };
    let quality = quality::measure(&scaled.pixels());
    if let Some(why) = quality.unusable() {
        return Ok(Seen::Unusable { why, quality });
    }
    let mut detections = detector.detect_scaled(&scaled.pixels())?;
    for detection in &mut detections {
        detection.stretch([width as f32 / to_width as f32, height as f32 / to_height as f32]);
    }
    let jpeg = draw.zip(shown).filter(|_| !detections.is_empty()).and_then(|(draw, shown)| {
        let by = [shown.width() as f32 / width as f32, shown.height() as f32 / height as f32];
        let mut marks = detections.clone();
        marks.iter_mut().for_each(|mark| mark.stretch(by));
        draw(shown, &marks)
    });
    Ok(Seen::Found { detections, quality, width, height, jpeg })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::{Attitude, Camera, LatLon, LocalFrame, Pose, PoseSigma};
    use crate::perception::decode::Picture;
    use crate::perception::graph::Options;

    fn detectors(count: usize) -> Vec<Detector> {
        (0..count).map(|_| Detector::load(&crate::perception::model_dir(None), &Options::default()).unwrap()).collect()
    }

    /// Frames of a camera that flies east, `step_m` further each.
    struct Flight {
        left: u64,
        next: u64,
        step_m: f64,
        bad: Option<u64>,
        pictures: u64,
    }

    impl Flight {
        fn of(frames: u64, step_m: f64) -> Flight {
            Flight { left: frames, next: 0, step_m, bad: None, pictures: 0 }
        }
    }

    impl Source for Flight {
        fn advance(&mut self) -> Result<Option<Stamp>, SourceError> {
            if self.next == self.left {
                return Ok(None);
            }
            self.next += 1;
            Ok(Some(Stamp { index: self.next - 1, at_s: (self.next - 1) as f64 / 10.0 }))
        }

        fn view(&mut self, stamp: Stamp) -> Option<View> {
            let at =
                LocalFrame::new(LatLon { lat: 23.05, lon: 113.0 }).to_latlon(self.step_m * stamp.index as f64, 0.0);
            let sigma = PoseSigma { horizontal_m: 1.0, vertical_m: 1.0, yaw_deg: 1.0, tilt_deg: 0.5 };
            let attitude = Attitude { yaw_deg: 90.0, pitch_deg: -90.0, roll_deg: 0.0 };
            Some(View { camera: Camera::from_fov(320, 240, 66.0), pose: Pose { at, height_m: 40.0, attitude, sigma } })
        }

        fn frame(&mut self) -> Result<Frame, SourceError> {
            let stamp = Stamp { index: self.next - 1, at_s: (self.next - 1) as f64 / 10.0 };
            if self.bad == Some(stamp.index) {
                return Err(SourceError::BadFrame { name: "a test".to_owned(), message: "bad".to_owned() });
            }
            self.pictures += 1;
            let grey = image::RgbImage::from_fn(320, 240, |x, y| {
                image::Rgb([if (x / 8 + y / 8) % 2 == 0 { 90 } else { 160 }; 3])
            });
            Ok(Frame {
                stamp,
                picture: Picture::from_rgb(&grey).unwrap(),
                view: self.view(stamp),
                file: None,
                came: Instant::now(),
            })
        }
    }

    fn run_through(source: Flight, workers: usize, choice: Choice) -> (Report, Vec<Looked>) {
        let mut told = Vec::new();
        let input = Input::File(Box::new(source));
        let report = run(input, detectors(workers), choice, None, &|| false, |looked| told.push(looked)).unwrap();
        (report, told)
    }

    #[test]
    fn frames_are_told_in_their_order_however_many_work_on_them_and_a_bad_one_stops_nobody() {
        let (report, told) = run_through(Flight { bad: Some(4), ..Flight::of(12, 5.0) }, 3, Choice::Every);
        let good: Vec<u64> = told.iter().filter(|l| l.result.is_ok()).map(|l| l.stamp.index).collect();
        assert_eq!(good, [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!((report.frames, report.looked, report.failed), (12, 11, 1));
    }

    #[test]
    fn a_hovering_camera_is_looked_at_as_often_as_demanded_and_a_fixed_one_by_the_clock() {
        let rules = Rules { looks: 2, worth: 0.45, ..Rules::default() };
        let (report, told) = run_through(Flight::of(40, 0.0), 1, Choice::Ground(rules));
        assert_eq!((told.len(), report.passed_over), (2, 38));
        let (_, told) = run_through(Flight::of(40, 0.0), 1, Choice::Period(1.0));
        assert_eq!(told.iter().map(|l| l.stamp.index).collect::<Vec<_>>(), [0, 10, 20, 30]);
    }

    #[test]
    fn a_flying_camera_is_looked_at_when_it_has_new_ground() {
        // A picture is 52 m wide along the way; 60 frames of 2 m are 120 m of new ground.
        let (report, _) = run_through(Flight::of(60, 2.0), 1, Choice::Ground(Rules { looks: 2, ..Rules::default() }));
        assert!((5..=12).contains(&report.looked), "{report:?}");
    }
}
