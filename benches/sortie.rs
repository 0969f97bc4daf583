//! What a whole sortie costs, and finds: every picture in full tiles, against scale to the ground, against looking once.
//! `cargo run --release --example sortie_frames` makes the pictures; `cargo bench --bench sortie -- [FOLDER...]`.
//!
//! Each way of looking ends in the same book of cases, which decides what is believed.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aerie::cases::Register;
use aerie::cases::book::{Book, Sighted, View};
use aerie::cases::kinds::Kind;
use aerie::cases::place::Stance;
use aerie::geo::{Camera, LatLon, LocalFrame, Pose, project_ground};
use aerie::perception::child::{self, SUPPORT};
use aerie::perception::decode::Encoded;
use aerie::perception::detect::Detector;
use aerie::perception::graph::Options;
use aerie::perception::ledger::{Ledger, Rules, Verdict};
use aerie::perception::protocol::{Answer, CameraModel, Look, Sighting};
use aerie::perception::{model_dir, tiling};
use aerie::sim::score::{self, Placed};
use common::{process_cpu, repository};
use jiff::Timestamp;
use serde::Deserialize;
use ulid::Ulid;

const TILE: u32 = 640;

#[derive(Deserialize)]
struct Sortie {
    width: u32,
    height: u32,
    fov_deg: f64,
    height_m: f64,
    front_overlap: f64,
    side_overlap: f64,
    area: Vec<LatLon>,
    register: serde_json::Value,
    planted: Vec<Planted>,
    frames: Vec<Shot>,
}

impl Sortie {
    fn view(&self, frame: usize) -> View {
        let camera = Camera::from_fov(self.width, self.height, self.fov_deg);
        View { camera, pose: self.frames[frame].pose }
    }

    /// What lies in at least one picture: the town goes on beyond the area that is flown.
    fn in_pictures(&self) -> impl Iterator<Item = &Planted> {
        self.planted.iter().filter(|planted| {
            (0..self.frames.len()).map(|frame| self.view(frame)).any(|View { camera, pose }| {
                project_ground(&camera, &pose, planted.at, 0.0).is_some_and(|pixel| camera.contains(pixel))
            })
        })
    }
}

#[derive(Deserialize)]
struct Planted {
    kind: String,
    at: LatLon,
}

#[derive(Deserialize)]
struct Shot {
    file: String,
    pose: Pose,
}

#[derive(Clone, Copy, PartialEq)]
enum Scale {
    /// As the camera gives it, in 640-pixel tiles with 20 % overlap.
    Native,
    Ground,
}

struct Outcome {
    cpu_s: f64,
    looks: usize,
    planted_found: usize,
    false_cases: usize,
    doubled: usize,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if !args.iter().any(|arg| arg == "--bench") {
        return;
    }
    let mut folders: Vec<PathBuf> = args.iter().filter(|a| !a.starts_with("--")).map(PathBuf::from).collect();
    if folders.is_empty() {
        folders.push(repository().join("target/bench/sortie"));
    }
    let quick = args.iter().any(|arg| arg == "--no-native");
    for folder in folders {
        match std::fs::read(folder.join("sortie.json")) {
            Ok(text) => compare(&folder, &serde_json::from_slice(&text).unwrap(), quick),
            Err(_) => println!("skipped: {} has no sortie.json (run the example sortie_frames)", folder.display()),
        }
    }
}

fn compare(folder: &Path, sortie: &Sortie, quick: bool) {
    let km2 = area_km2(&sortie.area);
    println!(
        "{}: {} pictures of {}x{} from {} m, overlap {:.0} % along and {:.0} % across, {:.3} km2, {} planted in the town, {} in the pictures",
        folder.display(),
        sortie.frames.len(),
        sortie.width,
        sortie.height,
        sortie.height_m,
        sortie.front_overlap * 100.0,
        sortie.side_overlap * 100.0,
        km2,
        sortie.planted.len(),
        sortie.in_pictures().count()
    );
    let mut baseline = None;
    for (name, scale, looks) in [
        ("every picture, full tiling", Scale::Native, None),
        ("look once (2), full tiling", Scale::Native, Some(2)),
        ("every picture, to the ground's scale", Scale::Ground, None),
        ("look once (2), to the ground's scale", Scale::Ground, Some(2)),
        ("look once (1), to the ground's scale", Scale::Ground, Some(1)),
    ] {
        if quick && scale == Scale::Native {
            continue;
        }
        let outcome = fly(folder, sortie, scale, looks);
        let base = *baseline.get_or_insert(outcome.cpu_s);
        println!(
            "  {name}: {:.1} CPU-s ({:.0} a km2), {:.3} of the first; {} of {} looked at; planted found {} of {}, false {}, double {}",
            outcome.cpu_s,
            outcome.cpu_s / km2,
            outcome.cpu_s / base,
            outcome.looks,
            sortie.frames.len(),
            outcome.planted_found,
            sortie.in_pictures().count(),
            outcome.false_cases,
            outcome.doubled
        );
    }
}

struct Flight<'a> {
    folder: &'a Path,
    sortie: &'a Sortie,
    scale: Scale,
    detector: Detector,
    book: Book,
    ledger: Option<Ledger>,
    cpu_s: f64,
    looks: usize,
}

fn fly(folder: &Path, sortie: &Sortie, scale: Scale, looks: Option<u8>) -> Outcome {
    let detector = Detector::load(&model_dir(None), &Options::default()).unwrap().with_floor(SUPPORT);
    let mut book = Book::new(Vec::new(), Register::from_geojson(&sortie.register).unwrap());
    book.begin("bench");
    let ledger = looks.map(|looks| Ledger::new(&sortie.area, Rules { looks, ..Rules::default() }));
    let mut flight = Flight { folder, sortie, scale, detector, book, ledger, cpu_s: 0.0, looks: 0 };
    let before = process_cpu();
    for frame in 0..sortie.frames.len() as u64 {
        let view = flight.view(frame);
        if flight.ledger.as_mut().is_none_or(|ledger| ledger.offer(frame, view) == Verdict::Look) {
            flight.look(frame);
        }
    }
    while let Some(frame) = flight.ledger.as_mut().and_then(|ledger| ledger.next_held(ledger.rules().least)) {
        flight.look(frame);
    }
    flight.book.finish(Ulid::generate);
    flight.cpu_s = (process_cpu() - before).as_secs_f64();

    let placed = |kind: &str, at: LatLon| Placed { kind: kind.to_owned(), at };
    let truth: Vec<_> = sortie.in_pictures().map(|p| placed(&p.kind, p.at)).collect();
    let cases: Vec<_> = flight.book.cases().iter().map(|c| placed(c.kind.name(), c.located.at)).collect();
    let score = score::score(&truth, &cases);
    let kinds = score.missed.iter().fold(BTreeMap::new(), |mut kinds: BTreeMap<&str, usize>, kind| {
        *kinds.entry(kind).or_default() += 1;
        kinds
    });
    println!("    missed {kinds:?}, false {:?}", score.false_kinds);
    if let Some(ledger) = &flight.ledger {
        println!("    {:?}", ledger.survey());
    }
    Outcome {
        cpu_s: flight.cpu_s,
        looks: flight.looks,
        planted_found: score.found,
        false_cases: score.false_cases,
        doubled: score.duplicates,
    }
}

impl Flight<'_> {
    fn view(&self, frame: u64) -> View {
        self.sortie.view(frame as usize)
    }

    /// Looks at a picture and at all that this leads to, as `cases::keeper` does.
    fn look(&mut self, first: u64) {
        let mut wanted = vec![first];
        while let Some(frame) = wanted.pop() {
            self.looks += 1;
            let view = self.view(frame);
            let seen = self.see(frame, &view);
            let Some((sightings, sharpness)) = seen else {
                if let Some(ledger) = &mut self.ledger {
                    ledger.blurred(frame);
                }
                continue;
            };
            let sighted = sightings.into_iter().filter_map(|s| {
                Some(Sighted {
                    kind: Kind::of_class(&s.class)?,
                    score: s.score,
                    threshold: s.threshold,
                    located: s.located,
                    stance: Stance { view, height_m: 0.0, height_sigma_m: 0.3 },
                    at_edge: s.at_edge,
                    experimental: s.experimental,
                    frame,
                    bbox: s.bbox,
                    taken_at: Timestamp::UNIX_EPOCH,
                })
            });
            self.book.answered(frame);
            self.book.frame(view, sighted.collect(), Ulid::generate);
            if let Some(ledger) = &mut self.ledger {
                ledger.looked(frame, view.camera, sharpness);
                for (at, looks) in self.book.doubts() {
                    for asked in ledger.ask(at, looks) {
                        wanted.push(asked);
                    }
                }
                for frame in &wanted {
                    let camera = view.camera;
                    let pose = self.sortie.frames[*frame as usize].pose;
                    self.book.expect(*frame, View { camera, pose });
                }
            }
        }
    }

    fn see(&mut self, frame: u64, view: &View) -> Option<(Vec<Sighting>, f32)> {
        let file = self.folder.join(&self.sortie.frames[frame as usize].file);
        if self.scale == Scale::Ground {
            let camera = CameraModel { horizontal_fov_deg: self.sortie.fov_deg };
            let look = Look { frame, file, taken_at: Timestamp::UNIX_EPOCH, pose: view.pose, camera };
            return match child::look_at(&mut self.detector, &look).unwrap().0 {
                Answer::Seen(seen) => Some((seen.sightings, seen.sharpness)),
                _ => None,
            };
        }
        let picture = Encoded::open(&file).unwrap().whole().unwrap();
        let (width, height) = (picture.width(), picture.height());
        let rgb = picture.rgb_sized(width, height).unwrap();
        let tiles = tiling::tiles(width, height, TILE, TILE, TILE / 5);
        let found = self.detector.detect_tiles(&rgb.pixels(), &tiles).unwrap();
        let manifest = self.detector.manifest();
        Some((found.iter().filter_map(|d| child::place(manifest, view, d)).collect(), 1.0))
    }
}

fn area_km2(ring: &[LatLon]) -> f64 {
    let axes = LocalFrame::new(ring[0]);
    let points: Vec<[f64; 2]> = ring.iter().map(|p| axes.to_enu(*p)).collect();
    let doubled: f64 = (0..points.len())
        .map(|i| (points[i], points[(i + 1) % points.len()]))
        .map(|([x1, y1], [x2, y2])| x1 * y2 - x2 * y1)
        .sum();
    doubled.abs() / 2e6
}
