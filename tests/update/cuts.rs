//! Real processes, killed at random moments: one that fetches, and a whole updater with its children.
//!
//! A test that is killed starts this test program again, as the process to be killed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt as _;
use std::process::{Child, Stdio};

use aerie::update::fetch::{self, Came};
use aerie::update::ledger::Ledger;
use aerie::update::origin::{Opened, Origin, OriginError, Web};
use aerie::update::release::{CHUNK, File};
use aerie::update::slots::{Slots, sha256_of};
use aerie::update::states::in_charge;
use rand::RngExt as _;
use rand::SeedableRng as _;

use super::trust::with_file;
use super::*;

const WHERE: &str = "AERIE_TEST_KILLED_IN";

/// This test program again, running `test` alone on a folder.
fn again(test: &str, dir: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--ignored", "--nocapture"]).env(WHERE, dir);
    child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// SIGKILL, and gone.
fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Three numbers that outlive their process: body bytes read, bytes of the file that were flushed, done.
struct Count(fs::File);

impl Count {
    fn open(dir: &Path) -> Count {
        Count(
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join("count")).unwrap(),
        )
    }

    fn get(&self, place: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, place * 8).map_or(0, |()| u64::from_le_bytes(bytes))
    }

    fn set(&self, place: u64, value: u64) {
        self.0.write_all_at(&value.to_le_bytes(), place * 8).unwrap();
    }
}

/// Counts every byte that was read, at once.
struct Counted(Web, Arc<Count>);

struct CountedBody(Box<dyn Read + Send>, Arc<Count>);

impl Read for CountedBody {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.0.read(into)?;
        self.1.set(0, self.1.get(0) + read as u64);
        Ok(read)
    }
}

impl Origin for Counted {
    fn at(&self, path: &str) -> String {
        self.0.at(path)
    }

    fn small(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, OriginError> {
        self.0.small(path, most)
    }

    fn open(&self, path: &str, from: u64, length: u64, tag: Option<&str>) -> Result<Opened, OriginError> {
        let opened = self.0.open(path, from, length, tag)?;
        Ok(Opened { body: Box::new(CountedBody(opened.body, Arc::clone(&self.1))), ..opened })
    }
}

#[test]
#[ignore = "the process that others kill"]
fn child_fetches() {
    let Some(dir) = std::env::var_os(WHERE).map(PathBuf::from) else { return };
    let (url, file): (String, File) = serde_json::from_slice(&fs::read(dir.join("what.json")).unwrap()).unwrap();
    let count = Arc::new(Count::open(&dir));
    let origin = Counted(Web::new(&url, None).unwrap(), Arc::clone(&count));
    let to = dir.join("fetched");
    // Asked after each piece, when all that was written is flushed.
    let mut leave = |_| {
        count.set(1, fs::metadata(&to).unwrap().len());
        Ok(())
    };
    fetch::file(&origin, &file, &to, &mut Came::default(), &mut leave).unwrap();
    count.set(2, 1);
}

/// Body bytes read ÷ length, and the most that one kill has cost.
async fn fetched_under_kills(length: usize, kills: u32, power: bool, seed: u64) -> (f64, u64) {
    let (dir, _, served, file, url) = with_file(length).await;
    drop(served);
    let state = tempfile::tempdir().unwrap();
    fs::write(state.path().join("what.json"), serde_json::to_vec(&(&url, &file)).unwrap()).unwrap();
    let count = Count::open(state.path());
    let to = state.path().join("fetched");
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let (mut done, mut worst) = (0, 0);
    while done < kills {
        let (read, had) = (count.get(0), count.get(1));
        let step = length as u64 / u64::from(kills + 1);
        let target = read + random.random_range(step / 2..=step);
        let child = again("cuts::child_fetches", state.path());
        let limit = Instant::now() + Duration::from_secs(120);
        while count.get(0) < target && count.get(2) == 0 {
            assert!(Instant::now() < limit, "nothing comes");
            std::thread::sleep(Duration::from_micros(200));
        }
        kill(child);
        assert_eq!(count.get(2), 0, "it was done before all kills were");
        done += 1;
        if power {
            // What was not flushed is gone.
            let on_disk = fs::OpenOptions::new().write(true).open(&to).unwrap();
            on_disk.set_len(count.get(1).min(on_disk.metadata().unwrap().len())).unwrap();
        }
        let kept = fs::metadata(&to).unwrap().len() - had;
        count.set(1, fs::metadata(&to).unwrap().len());
        worst = worst.max((count.get(0) - read).saturating_sub(kept));
    }
    let last = again("cuts::child_fetches", state.path()).wait().unwrap();
    assert!(last.success() && count.get(2) == 1);
    assert_eq!(sha256_of(&to).unwrap(), file.sha256);
    drop(dir);
    (count.get(0) as f64 / length as f64, worst)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_fetch_or_a_power_cut_costs_at_most_one_chunk() {
    for power in [false, true] {
        let (ratio, worst) = fetched_under_kills(3_000_000, 4, power, 1).await;
        assert!(worst <= CHUNK, "{worst} bytes were read again; power cut: {power}");
        assert!(ratio <= 1.0 + 4.0 * CHUNK as f64 / 3e6, "{ratio}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two minutes; docs/updates.md has what came of it"]
async fn killed_thirty_times_a_hundred_megabytes_cost_at_most_two_percent_more() {
    for power in [false, true] {
        let (ratio, worst) = fetched_under_kills(100_000_000, 30, power, 7).await;
        println!("power cuts: {power}; 30 kills, ratio {ratio:.4}, most read again after one {worst} bytes");
        assert!(ratio <= 1.02, "{ratio}");
    }
}

/// What the killed updater needs to know.
#[derive(serde::Serialize, serde::Deserialize)]
struct Life {
    url: String,
    root: PathBuf,
    state: PathBuf,
    pictures: PathBuf,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the process that others kill"]
async fn child_updates() {
    let Some(dir) = std::env::var_os(WHERE).map(PathBuf::from) else { return };
    let life: Life = serde_json::from_slice(&fs::read(dir.join("life.json")).unwrap()).unwrap();
    PICTURES.set(life.pictures).unwrap();
    let station = Station::start_at(&life.state, &life.root, Some(life.url), Path::new(AERIE), |_| {}).await;
    loop {
        let _ = station.updates.check().await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        // Somebody is impatient now and then, so that kills come in trials too, and not in the long shadow alone.
        if rand::random_bool(0.3)
            && let Some(candidate) = station.record().candidate
        {
            let to = if candidate.stage == Stage::Trial { Goal::Committed } else { Goal::Trial };
            let _ = station.updates.promote("chief".to_owned(), candidate.release.digest, to).await;
        }
    }
}

/// Looks at the disk of an updater that is dead; the stage of its candidate.
fn assert_sound(state: &Path, kill: u32) -> Option<Stage> {
    let ledger = Ledger::open(state).unwrap();
    assert_eq!(ledger.broken_link().unwrap(), None, "kill {kill}");
    let record = ledger.record(Kind::Model).unwrap();
    let slots = Slots::open(state).unwrap();
    for release in record.committed.iter().chain(in_charge(&record)) {
        slots.verified(&release.digest).unwrap_or_else(|e| panic!("kill {kill}: {release} is not loadable: {e}"));
    }
    let mut trail = ledger.newest(100_000).unwrap();
    trail.reverse();
    let (mut offered, mut proven) = (String::new(), HashSet::new());
    for entry in &trail {
        match entry.event["event"].as_str() {
            Some("offered") => offered = entry.event["release"]["digest"].as_str().unwrap().to_owned(),
            Some("probe_passed") => drop(proven.insert(offered.clone())),
            _ => {}
        }
    }
    for release in in_charge(&record).into_iter().chain(&record.committed) {
        assert!(proven.contains(&release.digest), "kill {kill}: {release} is in charge and was never probed");
    }
    record.candidate.map(|c| c.stage)
}

async fn updated_under_kills(kills: u32, longest: Duration, seed: u64) {
    let publisher = Publisher::new();
    let (url, _) = serve(&publisher.repo()).await;
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    let root = publisher.repo().join("metadata/1.root.json");
    let life = Life { url: url.clone(), root: root.clone(), state: state.clone(), pictures: pictures().to_owned() };
    fs::write(dir.path().join("life.json"), serde_json::to_vec(&life).unwrap()).unwrap();
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let (mut version, mut at) = (0, BTreeMap::new());
    let mut under_way = None;
    for done in 0..kills {
        if under_way.is_none() {
            version += 1;
            publisher.publish(&format!("1.{version}"), |_, _| {});
        }
        let child = again("cuts::child_updates", dir.path());
        let most = longest.as_millis() as u64;
        std::thread::sleep(Duration::from_millis(random.random_range(most / 20..most)));
        kill(child);
        under_way = assert_sound(&state, done);
        *at.entry(under_way.map_or("none".to_owned(), |stage| format!("{stage:?}"))).or_insert(0) += 1;
    }
    let record = Ledger::open(&state).unwrap().record(Kind::Model).unwrap();
    println!("{kills} kills, {version} releases, {} refused; killed at {at:?}", record.refused.len());
    // Left alone it gets there; what is committed is what looks.
    publisher.publish("2.0", |_, _| {});
    let station = Station::start_at(&state, &root, Some(url), Path::new(AERIE), |_| {}).await;
    for _ in 0..600 {
        // The one on trial when the last kill came is committed first; only then is another one taken up.
        station.updates.check().await.unwrap();
        if station.record().committed.is_some_and(|c| c.version == "2.0") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    station.committed("2.0").await;
    assert_eq!(station.running().as_deref(), Some("2.0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_updater_has_a_loadable_committed_model_and_no_unproven_one_in_charge() {
    updated_under_kills(4, Duration::from_secs(6), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "some minutes; docs/updates.md has what came of it"]
async fn killed_sixty_times_it_has_a_loadable_committed_model_and_no_unproven_one_in_charge() {
    updated_under_kills(60, Duration::from_secs(8), 3).await;
}
