//! Signed models over the air, from the publisher's folder over a real HTTP server to a model in charge, with real children
//! looking at pictures of a generated town.

#![expect(clippy::disallowed_methods, reason = "tests wait for other processes")]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use aerie::geo::{Attitude, Camera, LatLon, Pose, PoseSigma};
use aerie::outbox::Outbox;
use aerie::perception::Manifest;
use aerie::perception::detect::Detector;
use aerie::perception::graph::Options as GraphOptions;
use aerie::perception::protocol::{CameraModel, Look};
use aerie::perception::provider::Provider;
use aerie::perception::supervise::{self, Looked};
use aerie::perception::{Perception, model_dir};
use aerie::runtime::clock::Trust;
use aerie::sim::town::render::Renderer;
use aerie::sim::town::{Town, TruePose};
use aerie::update::compare::Rules;
use aerie::update::ledger::Ledger;
use aerie::update::promote::Goal;
use aerie::update::publish::{Days, Done, Keys, Workshop};
use aerie::update::release::{Demands, Kind};
use aerie::update::states::{Record, Stage};
use aerie::update::{self, Prepared, Updates};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const AERIE: &str = env!("CARGO_BIN_EXE_aerie");
const FOV: f64 = 66.0;
const SIZE: (u32, u32) = (640, 480);
const HEIGHT_M: f64 = 75.0;

static PICTURES: OnceLock<PathBuf> = OnceLock::new();

/// Pictures of a town from straight above, made once for all tests.
fn pictures() -> &'static Path {
    PICTURES.get_or_init(|| {
        static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
        let dir = DIR.get_or_init(|| tempfile::tempdir().unwrap()).path();
        let town = Arc::new(Town::generate(3));
        let renderer = Renderer::new(Arc::clone(&town));
        let camera = Camera::from_fov(SIZE.0, SIZE.1, FOV);
        for (n, violation) in town.violations().iter().take(6).enumerate() {
            let attitude = Attitude { yaw_deg: 0.0, pitch_deg: -90.0, roll_deg: 0.0 };
            let pose = TruePose { east_m: violation.east_m, north_m: violation.north_m, up_m: HEIGHT_M, attitude };
            let picture = renderer.render(&camera, pose, n as u64).rgb;
            picture.save(dir.join(format!("{n}.jpg"))).unwrap();
        }
        dir.to_owned()
    })
}

fn look(frame: u64) -> Look {
    let sigma = PoseSigma { horizontal_m: 1.0, vertical_m: 1.0, yaw_deg: 1.0, tilt_deg: 0.5 };
    let attitude = Attitude { yaw_deg: 0.0, pitch_deg: -90.0, roll_deg: 0.0 };
    let pose = Pose { at: LatLon { lat: 23.0, lon: 113.0 }, height_m: HEIGHT_M, attitude, sigma };
    let file = pictures().join(format!("{}.jpg", frame % 6));
    Look { frame, file, taken_at: Timestamp::now(), pose, camera: CameraModel { horizontal_fov_deg: FOV } }
}

/// A model directory: the default one under another version, changed; and golden pictures of what it itself finds.
fn variant(dir: &Path, version: &str, change: impl FnOnce(&mut Manifest, &mut Vec<u8>)) -> PathBuf {
    let from = model_dir(None);
    let to = dir.join(format!("model-{version}"));
    std::fs::create_dir_all(to.join("golden")).unwrap();
    let mut manifest = Manifest::read(&from).unwrap();
    let mut bytes = manifest.model_bytes(&from).unwrap();
    manifest.version = version.to_owned();
    change(&mut manifest, &mut bytes);
    manifest.sha256 = aerie::update::release::digest(&bytes);
    std::fs::write(to.join(&manifest.file), &bytes).unwrap();
    std::fs::write(to.join("manifest.toml"), toml::to_string(&manifest).unwrap()).unwrap();
    golden(&from, &to.join("golden"));
    to
}

/// Golden pictures as a publisher makes them: what a model that is known to be good finds in them.
fn golden(model: &Path, to: &Path) {
    let mut detector = Detector::load(model, &GraphOptions::default()).unwrap();
    let camera = Camera::from_fov(SIZE.0, SIZE.1, FOV);
    let gsd = HEIGHT_M / camera.fx;
    let classes: Vec<String> = detector.manifest().classes.iter().map(|c| c.name.clone()).collect();
    let mut shown = Vec::new();
    for n in 0..3 {
        let name = format!("{n}.jpg");
        let picture = aerie::perception::decode::open_rgb(&pictures().join(&name)).unwrap();
        let found = detector.detect(&picture, Some(gsd)).unwrap();
        let boxes: Vec<_> =
            found.iter().map(|d| serde_json::json!({"class": classes[d.class], "box": d.bbox})).collect();
        std::fs::copy(pictures().join(&name), to.join(&name)).unwrap();
        shown.push(serde_json::json!({"file": name, "gsd_m": gsd, "boxes": boxes}));
    }
    std::fs::write(to.join("expected.json"), serde_json::json!({"pictures": shown}).to_string()).unwrap();
}

/// A web server for one folder, with ranges; it can cut its answers, and lie.
#[derive(Clone, Default)]
struct Manners {
    /// Ends every answer of `files/` after so many bytes.
    cut_after: Option<usize>,
    /// Says the whole file to whoever asks for a range.
    ignores_ranges: bool,
    /// Says another range than it was asked for.
    lies: bool,
}

#[derive(Clone)]
struct Served {
    dir: PathBuf,
    manners: Arc<std::sync::Mutex<Manners>>,
    /// Body bytes sent of `files/`.
    sent: Arc<AtomicU64>,
    answers: Arc<AtomicU64>,
}

async fn serve(dir: &Path) -> (String, Served) {
    let served = Served { dir: dir.to_owned(), manners: Arc::default(), sent: Arc::default(), answers: Arc::default() };
    let app = axum::Router::new().fallback(file).with_state(served.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, served)
}

async fn file(State(served): State<Served>, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/').to_owned();
    let Ok(bytes) = std::fs::read(served.dir.join(&path)) else { return StatusCode::NOT_FOUND.into_response() };
    let (length, is_file) = (bytes.len(), path.starts_with("files/"));
    let manners = if is_file { served.manners.lock().unwrap().clone() } else { Manners::default() };
    let tag = format!("\"{length}\"");
    let range = headers
        .get(header::RANGE)
        .and_then(|r| r.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let range: Option<usize> = range.filter(|_| !manners.ignores_ranges);
    let from = range.unwrap_or(0).min(length);
    let mut body = bytes[from..].to_vec();
    let whole = body.len();
    let cut = manners.cut_after.is_some_and(|most| whole > most);
    if let Some(most) = manners.cut_after {
        body.truncate(most);
    }
    if is_file {
        served.sent.fetch_add(body.len() as u64, Ordering::SeqCst);
        served.answers.fetch_add(1, Ordering::SeqCst);
    }
    let mut answer = Response::builder().header(header::ETAG, tag).header(header::CONTENT_LENGTH, whole);
    if !manners.ignores_ranges {
        answer = answer.header(header::ACCEPT_RANGES, "bytes");
    }
    if range.is_some() {
        let said = from + usize::from(manners.lies);
        answer = answer
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {said}-{}/{length}", length - 1));
    }
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> = body.chunks(30_000).map(|c| Ok(c.to_vec())).collect();
    let end = cut.then(|| Err(std::io::Error::other("cut")));
    answer.body(Body::from_stream(Stream(pieces.into_iter().chain(end).collect()))).unwrap()
}

struct Stream(std::collections::VecDeque<Result<Vec<u8>, std::io::Error>>);

impl futures_core::Stream for Stream {
    type Item = Result<Vec<u8>, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.pop_front())
    }
}

/// A publisher with a repository.
struct Publisher {
    dir: tempfile::TempDir,
}

impl Publisher {
    fn new() -> Publisher {
        let publisher = Publisher { dir: tempfile::tempdir().unwrap() };
        let (root, targets) = (Keys { count: 3, threshold: 2 }, Keys { count: 2, threshold: 1 });
        let groups = ["roofs".to_owned()];
        let (repo, keys) = (publisher.repo(), publisher.keys());
        Workshop::init(&repo, &keys, root, targets, &groups, Days::default(), Timestamp::now()).unwrap();
        publisher
    }

    fn repo(&self) -> PathBuf {
        self.dir.path().join("site")
    }

    fn keys(&self) -> PathBuf {
        self.dir.path().join("keys")
    }

    fn workshop(&self) -> Workshop {
        self.at(Timestamp::now())
    }

    fn at(&self, now: Timestamp) -> Workshop {
        Workshop::open(&self.repo(), &self.keys(), Days::default(), now).unwrap()
    }

    /// Makes, signs and stages a release; its name.
    fn publish(&self, version: &str, change: impl FnOnce(&mut Manifest, &mut Vec<u8>)) -> String {
        self.publish_with(version, change, |_| {})
    }

    fn publish_with(
        &self,
        version: &str,
        change: impl FnOnce(&mut Manifest, &mut Vec<u8>),
        more: impl FnOnce(&Path),
    ) -> String {
        let model = variant(self.dir.path(), version, change);
        more(&model);
        let (release, done) = self.workshop().add(Kind::Model, &model, None, Demands::default()).unwrap();
        assert!(matches!(done, Done::Published(_)), "{done:?}");
        self.workshop().stage("roofs", Kind::Model, &release, 100).unwrap();
        release
    }
}

/// The part of a station that sees and is updated, fed with pictures without end.
struct Station {
    dir: Option<tempfile::TempDir>,
    updates: Updates,
    perception: Perception,
    fed: Arc<AtomicU64>,
    seen: Arc<std::sync::Mutex<Vec<(u64, Instant)>>>,
    lost: Arc<AtomicU64>,
    cancel: CancellationToken,
}

fn rules() -> Rules {
    Rules { shadow_frames: 8, trial_frames: 8, things: 4, ..Rules::default() }
}

impl Station {
    async fn start(dir: tempfile::TempDir, publisher: &Publisher, url: Option<String>, program: &Path) -> Station {
        Station::start_with(dir, publisher, url, program, |_| {}).await
    }

    async fn start_with(
        dir: tempfile::TempDir,
        publisher: &Publisher,
        url: Option<String>,
        program: &Path,
        change: impl FnOnce(&mut update::Config),
    ) -> Station {
        let root = publisher.repo().join("metadata/1.root.json");
        let station = Station::start_at(dir.path(), &root, url, program, change).await;
        Station { dir: Some(dir), ..station }
    }

    async fn start_at(
        state: &Path,
        root: &Path,
        url: Option<String>,
        program: &Path,
        change: impl FnOnce(&mut update::Config),
    ) -> Station {
        let mut config = update::Config {
            url,
            root: Some(root.to_owned()),
            group: "roofs".to_owned(),
            watch: rules(),
            ..update::Config::default()
        };
        change(&mut config);
        let options = update::Options {
            station: "danzao-1".to_owned(),
            state_dir: state.to_owned(),
            zone: jiff::tz::TimeZone::UTC,
            config,
            program: program.to_owned(),
            providers: vec![Provider::Cpu],
            own_model: model_dir(None),
        };
        let prepared = Prepared::open(options).unwrap();
        let cancel = CancellationToken::new();
        let children = supervise::Options {
            pen: None,
            program: program.to_owned(),
            model: prepared.model.clone(),
            fallback: None,
            providers: vec![Provider::Cpu],
        };
        let (perception, mut looked) = supervise::spawn(children, cancel.clone());
        let outbox = Outbox::open(state).unwrap();
        let (_, clock) = watch::channel(Trust::Unsynced);
        let updates = update::spawn(prepared, perception.clone(), outbox, clock, cancel.clone()).unwrap();
        let station = Station {
            dir: None,
            updates,
            perception: perception.clone(),
            fed: Arc::default(),
            seen: Arc::default(),
            lost: Arc::default(),
            cancel: cancel.clone(),
        };
        let (fed, seen, lost) = (Arc::clone(&station.fed), Arc::clone(&station.seen), Arc::clone(&station.lost));
        tokio::spawn(async move {
            loop {
                // One at a time, as fast as the child looks: a gap is the swap's and not a queue's.
                perception.look(look(fed.fetch_add(1, Ordering::SeqCst))).unwrap();
                tokio::select! {
                    () = cancel.cancelled() => return,
                    outcome = looked.recv() => match outcome {
                        Some(Looked::Seen { look, .. } | Looked::Skipped { look, .. }) => seen.lock().unwrap().push((look.frame, Instant::now())),
                        Some(Looked::Lost { .. }) => drop(lost.fetch_add(1, Ordering::SeqCst)),
                        None => return,
                    },
                }
            }
        });
        station
    }

    fn record(&self) -> Record {
        let view = self.updates.view().borrow().clone();
        view.kinds.into_iter().find(|k| k.kind == Kind::Model).map(|k| k.record).unwrap_or_default()
    }

    async fn until<T>(&self, what: &str, mut look: impl FnMut(&Record) -> Option<T>) -> T {
        let limit = Instant::now() + Duration::from_secs(300);
        loop {
            if let Some(found) = look(&self.record()) {
                return found;
            }
            let view = self.updates.view().borrow().clone();
            assert!(Instant::now() < limit, "{what}: not within 300 s; {view:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn print_trail(&self) {
        let ledger = Ledger::look(self.dir.as_ref().unwrap().path()).unwrap();
        ledger.newest(100).unwrap().iter().rev().for_each(|entry| println!("{}", entry.said));
    }

    /// Until the release under way has looked at so many frames.
    async fn watched(&self, stage: &str, frames: u32) {
        let view = self.updates.view();
        let so_far = || -> Option<u32> {
            let doing = view.borrow().doing.clone()?;
            doing.strip_prefix(&format!("{stage}: "))?.split(' ').next()?.parse().ok()
        };
        self.until(&format!("{frames} frames of the {stage}"), |_| so_far().filter(|n| *n >= frames).map(|_| ())).await;
    }

    async fn committed(&self, version: &str) {
        self.until(&format!("{version} is committed"), |record| {
            record.committed.as_ref().filter(|c| c.version == version).map(|_| ())
        })
        .await;
    }

    /// Why a version was refused, and at which stage.
    async fn refused(&self, version: &str) -> (Option<Stage>, String) {
        self.until(&format!("{version} is refused"), |record| {
            let refusal = record.refused.values().find(|r| r.release.version == version)?;
            Some((refusal.stage, refusal.reason.clone()))
        })
        .await
    }

    fn running(&self) -> Option<String> {
        self.perception.state().borrow().model.as_ref().map(|m| m.version.clone())
    }

    /// The longest time without a frame that was looked at.
    fn longest_gap(&self) -> Duration {
        let seen = self.seen.lock().unwrap();
        seen.windows(2).map(|w| w[1].1.duration_since(w[0].1)).max().unwrap_or_default()
    }

    /// Each frame that was fed was answered once.
    fn assert_no_frame_lost(&self) {
        let seen = self.seen.lock().unwrap();
        let once: HashSet<u64> = seen.iter().map(|(frame, _)| *frame).collect();
        assert_eq!((once.len(), self.lost.load(Ordering::SeqCst)), (seen.len(), 0));
        assert!(self.fed.load(Ordering::SeqCst) - seen.len() as u64 <= 1, "a frame was fed and never answered");
    }

    async fn stop(self) -> tempfile::TempDir {
        self.cancel.cancel();
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.dir.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_goes_from_the_publisher_to_charge_and_a_bad_one_comes_back_by_itself() {
    let publisher = Publisher::new();
    let (url, _) = serve(&publisher.repo()).await;
    let station = Station::start(tempfile::tempdir().unwrap(), &publisher, Some(url), Path::new(AERIE)).await;

    publisher.publish("1.1", |_, _| {});
    let said = station.updates.check().await.unwrap();
    assert!(said.contains("1.1"), "{said}");
    station.committed("1.1").await;
    assert_eq!(station.running().as_deref(), Some("1.1"));
    station.print_trail();

    // Its publisher was as wrong as the model: golden pictures that fit it, classes that mean something else.
    publisher.publish_with(
        "1.2",
        |manifest, _| {
            let names: Vec<_> = manifest.classes.iter().map(|c| c.name.clone()).collect();
            for (n, class) in manifest.classes.iter_mut().enumerate() {
                class.name.clone_from(&names[(n + 1) % names.len()]);
            }
        },
        |model| golden(model, &model.join("golden")),
    );
    station.updates.check().await.unwrap();
    let (stage, why) = station.refused("1.2").await;
    assert_eq!(stage, Some(Stage::Shadow), "{why}");
    assert!(why.contains("agrees with the running model"), "{why}");
    assert_eq!(station.running().as_deref(), Some("1.1"));

    // Refused for good.
    let said = station.updates.check().await.unwrap_err().to_string();
    assert!(said.contains("was refused"), "{said}");
    let said = station.updates.add(publisher.repo()).await.unwrap_err().to_string();
    assert!(said.contains("was refused"), "{said}");
    station.assert_no_frame_lost();
    println!("longest gap {:?}", station.longest_gap());

    // What is committed is loaded after a restart, and its files are compared before.
    let dir = station.stop().await;
    let again = Station::start(dir, &publisher, None, Path::new(AERIE)).await;
    again.until("the committed model is loaded", |_| (again.running().as_deref() == Some("1.1")).then_some(())).await;
}

/// A child that misbehaves as a release's card says, so that each kind of bad model is a real process that does it.
fn bad_program(dir: &Path) -> PathBuf {
    let path = dir.join("aerie-bad");
    let script = format!(
        r#"#!/bin/bash
# perceive --model DIR … | prove --model DIR …
card="$3/CARD.md"
bad=$(cat "$card" 2>/dev/null)
own() {{ exec "{AERIE}" "$@"; }}
# Holds 15 MB more for each message that it hands on: the pace is the frames', not the clock's.
leak='
open(my $child, "-|", @ARGV) or die; binmode $child; binmode STDOUT; $| = 1;
sub all {{ my $got = ""; while (length $got < $_[0]) {{ read($child, $got, $_[0] - length $got, length $got) or exit }} $got }}
while (1) {{ my $head = all(8); my ($json, $more) = unpack "NN", $head; $hold .= "x" x 15_000_000; print $head, all($json + $more) }}'
case "$bad:$1" in
  crash-in-probe:prove) kill -SEGV $$ ;;
  slow-in-probe:prove) (own "$@") | sed 's/"look_ms":[0-9.]*/"look_ms":99999/'; exit ;;
  huge-in-probe:prove) hold=$(head -c 400000000 /dev/zero | tr '\0' x); sleep 60; exit ;;
  crash-in-charge:perceive)
    if [ "$(nice)" -lt 10 ]; then
      exec 3<&0; own "$@" <&3 & child=$!; exec 3<&- 0</dev/null
      sleep 3; kill -9 $child; exit 1
    fi ;;
  leak-in-shadow:perceive) exec perl -e "$leak" "{AERIE}" "$@" ;;
esac
exec "{AERIE}" "$@"
"#
    );
    std::fs::write(&path, script).unwrap();
    assert!(Command::new("chmod").args(["755"]).arg(&path).status().unwrap().success());
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_model_is_stopped_at_its_stage_by_itself_and_no_frame_is_lost() {
    let publisher = Publisher::new();
    let (url, _) = serve(&publisher.repo()).await;
    let dir = tempfile::tempdir().unwrap();
    let program = bad_program(dir.path());
    let station = Station::start_with(dir, &publisher, Some(url), &program, |config| {
        (config.memory_mb, config.largest_mb, config.watch.growth_mb) = (350, 20, 60);
        // Long enough that a child which dies does so before its trial is over.
        config.watch.trial_frames = 100_000;
    })
    .await;
    let card = |what: &'static str| move |model: &Path| std::fs::write(model.join("CARD.md"), what).unwrap();
    let wanted: &[(&str, Stage, &str)] = &[
        ("wrong-classes", Stage::Staged, "golden pictures"),
        ("nan", Stage::Staged, ""),
        ("slow", Stage::Staged, "slow"),
        ("crashing", Stage::Staged, "crashed"),
        ("truncated", Stage::Staged, "not"),
        ("wrong-opset", Stage::Staged, "opset"),
        ("huge", Stage::Staged, "huge"),
        ("too-large", Stage::Refreshed, "huge"),
        ("blind", Stage::Staged, "blind"),
        ("leaking", Stage::Shadow, "leaks"),
        ("dies-in-charge", Stage::Trial, "ended 2 times"),
    ];
    for (version, stage, reason) in wanted {
        match *version {
            "wrong-classes" => drop(publisher.publish(version, |m, _| {
                let names: Vec<_> = m.classes.iter().map(|c| c.name.clone()).collect();
                m.classes.iter_mut().enumerate().for_each(|(n, c)| c.name.clone_from(&names[(n + 1) % names.len()]));
            })),
            "nan" => drop(publisher.publish(version, |_, bytes| {
                // Weights in the middle of the file that are no numbers.
                let middle = bytes.len() / 2 / 4 * 4;
                bytes[middle..middle + 40_000].chunks_exact_mut(4).for_each(|w| w.copy_from_slice(&[0xff; 4]));
            })),
            "slow" => drop(publisher.publish_with(version, |_, _| {}, card("slow-in-probe"))),
            "crashing" => drop(publisher.publish_with(version, |_, _| {}, card("crash-in-probe"))),
            "truncated" => drop(publisher.publish(version, |_, bytes| bytes.truncate(bytes.len() / 2))),
            "wrong-opset" => drop(publisher.publish(version, |_, bytes| {
                // The model's own opset, said again as 99: the last one counts.
                bytes.extend([0x42, 0x02, 0x10, 99]);
            })),
            "huge" => drop(publisher.publish_with(version, |_, _| {}, card("huge-in-probe"))),
            "too-large" => drop(publisher.publish(version, |_, bytes| bytes.resize(25_000_000, 0))),
            "blind" => drop(publisher.publish(version, |m, _| m.classes.iter_mut().for_each(|c| c.threshold = 0.9999))),
            "leaking" => drop(publisher.publish_with(version, |_, _| {}, card("leak-in-shadow"))),
            "dies-in-charge" => drop(publisher.publish_with(version, |_, _| {}, card("crash-in-charge"))),
            other => panic!("{other}"),
        }
        // One that is too large is refused in the same breath.
        let looked = station.updates.check().await;
        assert_eq!(looked.is_err(), *version == "too-large", "{version}: {looked:?}");
        let (at, why) = station.refused(version).await;
        println!("{version}: {at:?}: {why}");
        assert_eq!(at, Some(*stage), "{version}: {why}");
        assert!(why.contains(reason), "{version}: {why}");
        let own = Manifest::read(&model_dir(None)).unwrap().version;
        station
            .until("the model before is in charge", |_| (station.running() == Some(own.clone())).then_some(()))
            .await;
    }
    station.assert_no_frame_lost();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stick_brings_a_release_with_the_same_checks_and_a_pulled_one_is_taken_up_again() {
    let publisher = Publisher::new();
    let release = publisher.publish("2.0", |_, _| {});
    let station = Station::start(tempfile::tempdir().unwrap(), &publisher, None, Path::new(AERIE)).await;
    // Pulled after the metadata were read: the files are not there.
    let (files, away) = (publisher.repo().join("files"), publisher.repo().join("pulled"));
    std::fs::rename(&files, &away).unwrap();
    let said = station.updates.add(publisher.repo()).await.unwrap();
    assert!(said.contains("offered"), "{release}: {said}");
    station
        .until("it is being fetched", |r| r.candidate.as_ref().filter(|c| c.stage == Stage::Fetching).map(|_| ()))
        .await;
    let view = station.updates.view();
    station
        .until("the trouble is said", |_| view.borrow().last_error.clone().filter(|e| e.contains("not there")))
        .await;
    std::fs::rename(&away, &files).unwrap();
    station.updates.add(publisher.repo()).await.unwrap();
    station.committed("2.0").await;
    // A folder that is no repository.
    let nowhere = tempfile::tempdir().unwrap();
    let said = station.updates.add(nowhere.path().to_owned()).await.unwrap_err().to_string();
    assert!(said.contains("holds no metadata/timestamp.json; name a folder that"), "{said}");
    // The same again is no failure, and what a person gave up is not said to be here any more.
    let said = station.updates.add(publisher.repo()).await.unwrap();
    assert!(said.contains("is committed already"), "{said}");
    station.updates.roll_back("chief".to_owned(), "why not".to_owned(), Some(release)).await.unwrap();
    assert_eq!(station.updates.view().borrow().last_look, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_release_leaves_even_after_it_was_committed_and_a_person_can_promote_and_go_back() {
    let publisher = Publisher::new();
    let (url, _) = serve(&publisher.repo()).await;
    let own = Manifest::read(&model_dir(None)).unwrap().version;
    let station =
        Station::start_with(tempfile::tempdir().unwrap(), &publisher, Some(url), Path::new(AERIE), |config| {
            (config.watch.shadow_frames, config.watch.trial_frames) = (300, 300);
        })
        .await;
    let release = publisher.publish("3.0", |_, _| {});
    station.updates.check().await.unwrap();
    station.until("it looks along", |r| r.candidate.as_ref().filter(|c| c.stage == Stage::Shadow).map(|_| ())).await;
    let promote = |to| station.updates.promote("chief".to_owned(), release.clone(), to);
    let soon = promote(Goal::Trial).await.unwrap_err().to_string();
    assert!(soon.contains("at least 30 of the 300 are wanted"), "{soon}");
    station.watched("shadow", 30).await;
    let said = promote(Goal::Trial).await.unwrap();
    assert!(said.contains("of 300 live frames"), "{said}");
    station.until("it is in charge", |_| (station.running().as_deref() == Some("3.0")).then_some(())).await;
    let twice = promote(Goal::Trial).await.unwrap_err().to_string();
    assert!(twice.contains("in charge already, on trial") && twice.contains("--commit"), "{twice}");
    let soon = promote(Goal::Committed).await.unwrap_err().to_string();
    assert!(soon.contains("at least 30 of the 300 are wanted"), "{soon}");
    station.watched("trial", 30).await;
    promote(Goal::Committed).await.unwrap();
    station.committed("3.0").await;
    publisher.workshop().halt("roofs", Kind::Model, "eight false cases", Some(&release)).unwrap();
    station.updates.check().await.unwrap();
    let (_, why) = station.refused("3.0").await;
    assert!(why.contains("withdrawn") && why.contains("eight false cases"), "{why}");
    station.until("the own model is back", |_| (station.running() == Some(own.clone())).then_some(())).await;
    assert!(station.updates.roll_back("chief".to_owned(), "why not".to_owned(), None).await.is_err());
    station.assert_no_frame_lost();
}

mod busy;
mod commands;
mod cuts;
mod full;
mod trust;
mod whole;
