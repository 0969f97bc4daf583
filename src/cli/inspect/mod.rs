//! `aerie inspect`: drone photos in; findings as GeoJSON, annotated pictures and a report out.
//!
//! One bad file never stops the others: it stands in the report with its reason. A photo without a pose is looked at all
//! the same, its detections just have no place. [`findings`] decides what is one thing seen several times and is pure;
//! [`photo`] works on one picture; [`output`] writes, each file whole or not at all; [`watch`] follows a folder.

pub mod findings;
mod output;
mod photo;
mod video;
mod watch;

use std::collections::HashSet;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::Context;
use image::RgbImage;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::locate::world::{self, Surroundings, World};
use crate::geo::heights::HeightDatum;
use crate::perception::detect::{DetectError, Detection, Detector};
use crate::perception::graph::Options;
use crate::perception::manifest::ManifestError;
use crate::perception::sources::Address;
use crate::perception::{self, Class, Manifest};
pub use photo::{ImageReport, Status};

/// Folders within folders are followed this deep: a camera card needs three.
const MAX_DEPTH: usize = 8;
const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];

/// Find things in drone photos and say where they are.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(after_help = "\
Examples:
  aerie inspect DJI_0010.JPG DJI_0012.JPG --out found
  aerie inspect /media/card/DCIM --out found --ground 6
  aerie inspect /media/card/DCIM --out found --dem terrain.tif
  aerie inspect /srv/dock/media --out found --watch      until Ctrl-C
  aerie inspect DJI_0007.MP4 --out found --fov 73
  aerie inspect rtsp://10.0.0.7/live --out found --pose 23.03,112.9,45,270,-60 --fov 62      until Ctrl-C

DIR gets findings.geojson (RFC 7946; one feature for each thing, however many photos show it), report.json (what was found
in each photo, and why one could not be used) and evidence/ (the photos with their boxes).
Exit code: 0 if at least one photo could be looked at, 1 if none, 2 for wrong usage.")]
pub struct InspectArgs {
    /// Photos, folders of photos (JPEG, PNG), videos, an rtsp:// address, or a camera (/dev/video0).
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Where the results go; made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Folder of the model to look with, instead of the one that came with aerie.
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Height of the ground above the take-off point, metres; negative where the ground is lower. Photos tell only their
    /// height above take-off.
    #[arg(long, value_name = "METRES", default_value_t = 0.0, allow_negative_numbers = true)]
    pub ground: f64,
    /// A terrain model (GeoTIFF, DTED or SRTM .hgt), in place of flat ground.
    #[arg(long, value_name = "FILE", conflicts_with = "ground")]
    pub dem: Option<PathBuf>,
    /// What its heights are counted from, where the file does not say: ellipsoid, egm96 or egm2008.
    #[arg(long, value_name = "DATUM", requires = "dem", value_parser = world::datum)]
    pub dem_datum: Option<HeightDatum>,
    /// Stay and look at every new photo as it arrives in the folders.
    #[arg(long)]
    pub watch: bool,
    /// Where the camera of a video or stream stands, LAT,LON,HEIGHT,YAW,PITCH[,ROLL] in degrees and metres (pitch -90 looks
    /// straight down): it is taken to be fixed.
    #[arg(long, value_name = "POSE", allow_hyphen_values = true)]
    pub pose: Option<String>,
    /// How a drone's camera looked, YAW,PITCH[,ROLL], where the telemetry beside a video (.SRT) tells place and height only.
    #[arg(long, value_name = "LOOK", allow_hyphen_values = true)]
    pub look: Option<String>,
    /// Horizontal field of view of the camera of a video or stream, degrees.
    #[arg(long, value_name = "DEGREES")]
    pub fov: Option<f64>,
    /// How many frames of a video are looked at at once, each on one core.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub workers: u8,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What glibc is asked for while something live is looked at for days: pictures go back to the system at once, and threads
/// share one arena. Read at a program's start alone.
const LEAN_ALLOCATOR: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=4194304:glibc.malloc.arena_max=1");

impl InspectArgs {
    fn looks_live(&self) -> bool {
        self.paths.iter().any(|path| Address::parse(&path.to_string_lossy()).is_some_and(|a| a.is_live()))
    }

    /// Begins this program anew with what only its start can set, where that is worth it and nobody set it otherwise.
    pub fn settle_allocator(&self) {
        let (key, value) = LEAN_ALLOCATOR;
        if !self.looks_live() || std::env::var_os(key).is_some() {
            return;
        }
        if let Ok(program) = std::env::current_exe() {
            let error = std::process::Command::new(program).args(std::env::args_os().skip(1)).env(key, value).exec();
            tracing::warn!(%error, "the allocator stays as it is: memory grows more than it needs to");
        }
    }
}

/// What is used of a model, apart from its looking.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ModelInfo {
    pub name: String,
    pub version: String,
    pub sha256: String,
    /// Native ground sample distance.
    pub gsd_m: f64,
    #[serde(skip)]
    pub classes: Vec<Class>,
}

impl ModelInfo {
    /// Of the model in `dir`; refused where the manifest does not say its scale, without which no photo can be compared.
    fn of(m: &Manifest, dir: &Path) -> Result<ModelInfo, ManifestError> {
        Ok(Self {
            name: m.name.clone(),
            version: m.version.clone(),
            sha256: m.sha256.clone(),
            gsd_m: m.ground_sample_distance(dir)?,
            classes: m.classes.clone(),
        })
    }

    /// Whether nothing real speaks for what the model says of this class.
    fn is_experimental(&self, class: &str) -> bool {
        self.classes.iter().find(|c| c.name == class).is_none_or(|c| c.grade.is_experimental())
    }
}

/// Looks at one picture: its path (for what the boxes may depend on beside the pixels), its pixels, and the ground size
/// of a pixel where that is known.
pub type Eye<'a> = dyn FnMut(&Path, &RgbImage, Option<f64>) -> Result<Vec<Detection>, DetectError> + 'a;

pub fn run(mut args: InspectArgs) -> anyhow::Result<ExitCode> {
    if let Some(fov) = args.fov {
        anyhow::ensure!(fov > 1.0 && fov < 179.0, "--fov must lie between 1 and 179 degrees");
    }
    let dir = perception::model_dir(args.model.as_deref());
    let lean = args.looks_live();
    let load = || Detector::load(&dir, &Options { lean, ..Options::default() });
    let mut detector = load()?;
    let model = ModelInfo::of(detector.manifest(), &dir)?;
    let addresses: Vec<Address> =
        args.paths.iter().filter_map(|path| Address::parse(&path.to_string_lossy())).collect();
    args.paths.retain(|path| Address::parse(&path.to_string_lossy()).is_none());
    let (options, workers) = (args.clone(), args.workers);
    let mut videos = |inspection: &mut Inspection| -> anyhow::Result<()> {
        // Only something live has to be told to stop; a file's Ctrl-C is the usual one.
        let stop = if addresses.iter().any(Address::is_live) { Some(watch::on_signal()?) } else { None };
        let stopped = || stop.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed));
        for address in &addresses {
            let detectors = (0..workers).map(|_| load()).collect::<Result<_, _>>()?;
            video::inspect(inspection, address, &options, detectors, &stopped);
        }
        Ok(())
    };
    run_all(args, model, &mut |_, picture, gsd_m| detector.detect(picture, gsd_m), &mut videos)
}

/// [`run`] with any eye, of photos only.
pub fn run_with(args: InspectArgs, model: ModelInfo, eye: &mut Eye) -> anyhow::Result<ExitCode> {
    run_all(args, model, eye, &mut |_| Ok(()))
}

fn run_all(
    args: InspectArgs,
    model: ModelInfo,
    eye: &mut Eye,
    videos: &mut dyn FnMut(&mut Inspection) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(args.ground.is_finite(), "--ground must be a number of metres");
    let around = Surroundings {
        world: World::read(args.dem.as_deref(), args.dem_datum, &[])?,
        ground_m: (args.ground != 0.0).then_some(args.ground),
    };
    let mut inspection = Inspection::new(&args.out, model, around)?;
    videos(&mut inspection)?;
    if args.watch {
        watch::follow(&args.paths, &mut inspection, eye)?;
    } else {
        let Listed { photos, ignored, notes } = list(&args.paths, &args.out);
        inspection.ignored = ignored;
        notes.iter().for_each(|note| eprintln!("{note}"));
        inspection.notes = notes;
        let bar = progress(photos.len());
        for path in &photos {
            bar.set_message(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
            let report = inspection.add(path, eye);
            if let (Status::Failed, Some(reason)) = (report.status, &report.reason) {
                let line = format!("{}: {reason}", path.display());
                bar.suspend(|| eprintln!("{line}"));
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        inspection.write()?;
    }

    if args.json {
        println!("{}", serde_json::to_string_pretty(&inspection.report())?);
    } else {
        println!("{}", inspection.summary());
    }
    // A watch that saw nothing did what it was asked; a look at given photos that could use none did not.
    if inspection.processed() == 0 && !args.watch {
        eprintln!("no photo could be looked at; {} says why", args.out.join(output::REPORT).display());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn progress(photos: usize) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(photos as u64), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} (left: {eta}) {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Everything seen so far, and where it goes.
pub struct Inspection {
    out: PathBuf,
    model: ModelInfo,
    around: Surroundings,
    images: Vec<ImageReport>,
    videos: Vec<video::VideoReport>,
    sightings: Vec<findings::Sighting>,
    evidence_names: HashSet<String>,
    /// Files in the folders that are no photos.
    ignored: usize,
    /// Of folders without photos.
    notes: Vec<String>,
    started: Instant,
}

impl Inspection {
    pub fn new(out: &Path, model: ModelInfo, around: Surroundings) -> anyhow::Result<Self> {
        let evidence = out.join(output::EVIDENCE);
        std::fs::create_dir_all(&evidence).with_context(|| format!("cannot make {}", evidence.display()))?;
        Ok(Self {
            out: out.to_owned(),
            model,
            around,
            images: Vec::new(),
            videos: Vec::new(),
            sightings: Vec::new(),
            evidence_names: HashSet::new(),
            ignored: 0,
            notes: Vec::new(),
            started: Instant::now(),
        })
    }

    /// Looks at one file. Whatever is wrong with it stands in what comes back.
    pub fn add(&mut self, path: &Path, eye: &mut Eye) -> &ImageReport {
        let (mut report, picture) = photo::look(path, &self.model, &self.around, eye);
        let index = self.images.len();
        for seen in &report.detections {
            if let Some(located) = seen.located {
                self.sightings.push(findings::Sighting {
                    image: index,
                    class: seen.class.clone(),
                    score: seen.score,
                    bbox: seen.bbox,
                    located,
                });
            }
        }
        if let Some(picture) = picture.filter(|_| !report.detections.is_empty()) {
            let name = output::evidence_name(path, &mut self.evidence_names);
            match output::evidence(&self.out, &name, &picture, &report.detections) {
                Ok(()) => report.evidence = Some(format!("{}/{name}", output::EVIDENCE)),
                Err(error) => report.notes.push(format!("no evidence picture: {error:#}")),
            }
        }
        self.images.push(report);
        &self.images[index]
    }

    /// How many photos and videos were looked at, with or without a place.
    pub fn processed(&self) -> usize {
        let videos = self.videos.iter().filter(|video| video.counts.looked > 0).count();
        self.images.iter().filter(|i| i.status != Status::Failed).count() + videos
    }

    pub fn findings(&self) -> Vec<findings::Finding> {
        findings::fuse(&self.sightings)
    }
}

/// What there is to look at.
#[derive(Default)]
struct Listed {
    /// Sorted within each folder, each once.
    photos: Vec<PathBuf>,
    /// Other files, which are passed over.
    ignored: usize,
    /// Folders that cannot be listed or hold no photo.
    notes: Vec<String>,
}

/// The photos among files and folders.
fn list(paths: &[PathBuf], out: &Path) -> Listed {
    let mut listed = Listed::default();
    let out = out.canonicalize().unwrap_or_else(|_| out.to_owned());
    for path in paths {
        if path.is_dir() {
            let before = (listed.photos.len(), listed.notes.len());
            walk(path, &out, MAX_DEPTH, &mut listed);
            if before == (listed.photos.len(), listed.notes.len()) {
                listed.notes.push(format!("{}: the folder holds no photo ({})", path.display(), EXTENSIONS.join(", ")));
            }
        } else {
            // A named file is looked at whatever its name; if it is not there, the report says so.
            listed.photos.push(path.clone());
        }
    }
    let mut seen = HashSet::new();
    listed.photos.retain(|p| seen.insert(p.canonicalize().unwrap_or_else(|_| p.clone())));
    listed
}

fn walk(folder: &Path, out: &Path, depth: usize, listed: &mut Listed) {
    // The results' own pictures are no input, also when DIR lies within the photos' folder.
    if depth == 0 || folder.canonicalize().is_ok_and(|f| f == out) {
        return;
    }
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            listed.notes.push(format!("{}: the folder cannot be listed, passed over: {error}", folder.display()));
            return;
        }
    };
    let mut entries: Vec<_> = entries.filter_map(Result::ok).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // Links are not followed: they could lead in circles.
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            walk(&path, out, depth - 1, listed);
        } else if kind.is_file() && is_photo(&path) {
            listed.photos.push(path);
        } else {
            listed.ignored += 1;
        }
    }
}

fn is_photo(path: &Path) -> bool {
    // macOS leaves "._NAME.JPG" beside every photo on a card; they are no pictures.
    let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
    !hidden && path.extension().is_some_and(|e| EXTENSIONS.iter().any(|known| e.eq_ignore_ascii_case(known)))
}
