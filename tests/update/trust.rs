//! What the signatures withstand, on a publisher's real folder; and the line between.

use std::fs;
use std::sync::atomic::Ordering;

use aerie::update::fetch::{self, Came, FetchError};
use aerie::update::origin::{Folder, Origin, OriginError, Web};
use aerie::update::publish::PublishError;
use aerie::update::release::{Assignment, CHUNK, File, digest};
use aerie::update::trust::{self, Store, TrustError, Trusted};
use serde_json::Value;

use super::*;

/// A publisher whose release is a small register, and a station's memory of it.
struct Stage {
    publisher: Publisher,
    memory: tempfile::TempDir,
    now: Timestamp,
}

impl Stage {
    fn new() -> Stage {
        let stage = Stage { publisher: Publisher::new(), memory: tempfile::tempdir().unwrap(), now: Timestamp::now() };
        stage.publish("one");
        stage
    }

    fn publish(&self, what: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let geojson = format!(r#"{{"type": "FeatureCollection", "features": [], "name": "{what}"}}"#);
        fs::write(dir.path().join("register.geojson"), geojson).unwrap();
        let (release, _) = self.publisher.workshop().add(Kind::Register, dir.path(), None, Demands::default()).unwrap();
        self.publisher.workshop().stage("roofs", Kind::Register, &release, 100).unwrap();
        release
    }

    fn root(&self) -> Vec<u8> {
        fs::read(self.publisher.repo().join("metadata/1.root.json")).unwrap()
    }

    async fn refresh_at(&self, now: Timestamp) -> Result<Trusted, TrustError> {
        let store = Store::open(self.memory.path()).unwrap();
        trust::refresh(&self.root(), &store, Arc::new(Folder::new(&self.publisher.repo())), now).await
    }

    async fn refresh(&self) -> Result<Trusted, TrustError> {
        self.refresh_at(self.now).await
    }

    /// The release that the group is told to run, all the way to its document.
    async fn assigned(&self) -> Result<Option<String>, TrustError> {
        let mut trusted = self.refresh().await?;
        let Some(bytes) = trusted.target(&Assignment::target("roofs", Kind::Register)).await? else { return Ok(None) };
        let release = Assignment::read("assignment", &bytes).unwrap().release.unwrap();
        Ok(trusted.target(&format!("releases/{release}.json")).await?.map(|_| release))
    }

    fn metadata(&self, name: &str) -> PathBuf {
        self.publisher.repo().join("metadata").join(name)
    }

    /// The folder as it is now, to be put back later.
    fn kept(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(self.publisher.repo().join("metadata")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        copy
    }

    fn put_back(&self, copy: &Path, names: &[&str]) {
        for name in names {
            fs::copy(copy.join(name), self.metadata(name)).unwrap();
        }
    }
}

fn change(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

fn newest(stage: &Stage, role: &str) -> PathBuf {
    let versions = fs::read_dir(stage.publisher.repo().join("metadata")).unwrap();
    let names = versions.map(|e| e.unwrap().file_name().into_string().unwrap());
    let best = names.filter_map(|n| n.strip_suffix(&format!(".{role}.json"))?.parse::<u64>().ok()).max().unwrap();
    stage.metadata(&format!("{best}.{role}.json"))
}

#[tokio::test]
async fn an_old_state_passed_off_as_new_is_refused_also_after_a_restart() {
    let stage = Stage::new();
    let old = stage.kept();
    let second = stage.publish("two");
    assert_eq!(stage.assigned().await.unwrap(), Some(second));
    // Rollback: the old timestamp with its old snapshot.
    stage.put_back(old.path(), &["timestamp.json"]);
    let said = stage.refresh().await.err().unwrap().to_string();
    assert!(said.contains("ollback") || said.contains("version"), "{said}");
}

#[tokio::test]
async fn a_frozen_repository_is_noticed_when_its_timestamp_expires() {
    let stage = Stage::new();
    assert!(stage.refresh().await.is_ok());
    let later = stage.now.checked_add(SignedDuration::from_hours(24 * 15)).unwrap();
    let said = stage.refresh_at(later).await.err().unwrap().to_string();
    assert!(said.contains("expired"), "{said}");
    // Not before: the station knows until when it may rely on what it has.
    let until = stage.refresh().await.unwrap().fresh_until(&[]);
    assert!(until > stage.now && until < later);
}

#[tokio::test]
async fn a_mixture_of_two_states_is_refused() {
    let stage = Stage::new();
    let old = stage.kept();
    let old_targets = newest(&stage, "targets");
    stage.publish("two");
    // The new timestamp and snapshot, with the old list of releases under the new one's name.
    let new_targets = newest(&stage, "targets");
    fs::copy(old.path().join(old_targets.file_name().unwrap()), new_targets).unwrap();
    assert!(stage.refresh().await.is_err());
}

#[tokio::test]
async fn a_changed_byte_anywhere_is_refused() {
    for role in ["root", "targets", "snapshot"] {
        let stage = Stage::new();
        let path = newest(&stage, role);
        if role == "root" {
            // The pinned one is not fetched; the next one is.
            stage.publisher.workshop().rekey("timestamp").unwrap();
            change(&newest(&stage, "root"), |v| v["signed"]["expires"] = "2099-01-01T00:00:00Z".into());
        } else {
            change(&path, |v| v["signed"]["expires"] = "2099-01-01T00:00:00Z".into());
        }
        assert!(stage.refresh().await.is_err(), "{role}");
    }
    let stage = Stage::new();
    change(&stage.metadata("timestamp.json"), |v| v["signed"]["version"] = 99.into());
    assert!(stage.refresh().await.is_err());
    let stage = Stage::new();
    for dir in ["targets/releases", "targets/groups/roofs"] {
        for entry in fs::read_dir(stage.publisher.repo().join(dir)).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            bytes.push(b' ');
            fs::write(&path, bytes).unwrap();
        }
    }
    assert!(stage.assigned().await.is_err());
}

#[tokio::test]
async fn another_publishers_signatures_mean_nothing() {
    let (stage, other) = (Stage::new(), Stage::new());
    let store = Store::open(stage.memory.path()).unwrap();
    let origin = Arc::new(Folder::new(&other.publisher.repo()));
    assert!(trust::refresh(&stage.root(), &store, origin, stage.now).await.is_err());
}

#[tokio::test]
async fn metadata_without_end_are_not_read_to_their_end() {
    let stage = Stage::new();
    fs::write(stage.metadata("timestamp.json"), vec![b' '; 20_000_000]).unwrap();
    let said = stage.refresh().await.err().unwrap().to_string();
    assert!(said.contains("more than the"), "{said}");
}

#[tokio::test]
async fn every_role_can_get_new_keys_and_stations_follow() {
    let stage = Stage::new();
    assert!(stage.refresh().await.is_ok());
    for role in ["timestamp", "snapshot", "targets", "root", "group-roofs"] {
        assert!(matches!(stage.publisher.workshop().rekey(role).unwrap(), Done::Published(_)), "{role}");
        let release = stage.publish(role);
        assert_eq!(stage.assigned().await.unwrap(), Some(release), "{role}");
    }
    // A station that was off all the while walks the same way from its pinned root.
    let asleep = tempfile::tempdir().unwrap();
    let store = Store::open(asleep.path()).unwrap();
    let origin = Arc::new(Folder::new(&stage.publisher.repo()));
    let trusted = trust::refresh(&stage.root(), &store, origin, stage.now).await.unwrap();
    assert_eq!(trusted.versions()[0], 5);
}

#[tokio::test]
async fn below_its_threshold_a_change_of_the_root_waits_and_is_not_believed() {
    let stage = Stage::new();
    // Two of three must sign; only one is at hand.
    let (keys, away) = (stage.publisher.keys(), tempfile::tempdir().unwrap());
    for name in ["root-2.key", "root-3.key"] {
        fs::rename(keys.join(name), away.path().join(name)).unwrap();
    }
    let waits = stage.publisher.workshop().rekey("timestamp").unwrap();
    assert_eq!(waits, Done::Waits { role: "root".to_owned(), missing: 1 });
    assert_eq!(stage.refresh().await.unwrap().versions()[0], 1);
    // Published by force, it is not believed.
    let pending = stage.publisher.repo().join("pending/root.json");
    fs::copy(&pending, stage.metadata("2.root.json")).unwrap();
    assert!(stage.refresh().await.is_err());
    fs::remove_file(stage.metadata("2.root.json")).unwrap();
    fs::rename(away.path().join("root-3.key"), keys.join("root-3.key")).unwrap();
    assert!(matches!(stage.publisher.workshop().sign().unwrap()[0], Done::Published(_)));
    assert_eq!(stage.refresh().await.unwrap().versions()[0], 2);
}

#[tokio::test]
async fn a_groups_key_can_name_only_what_the_offline_keys_have_signed() {
    let stage = Stage::new();
    let refused = stage.publisher.workshop().stage("roofs", Kind::Register, "evil-1", 100);
    assert!(matches!(refused, Err(PublishError::Wrong(_))));
    // Its key alone: an assignment that names a release of its own making, and that release.
    let mut trusted = stage.refresh().await.unwrap();
    assert!(trusted.target("releases/evil-1.json").await.unwrap().is_none());
    let role = newest(&stage, "group-roofs");
    let value: Value = serde_json::from_slice(&fs::read(&role).unwrap()).unwrap();
    assert!(value["signed"]["targets"].as_object().unwrap().keys().all(|k| k.starts_with("groups/roofs/")));
    assert!(trusted.target(&Assignment::target("other", Kind::Register)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_memory_that_cannot_be_written_or_read_fails_the_refresh_and_is_named() {
    let stage = Stage::new();
    assert!(stage.refresh().await.is_ok());
    // A directory where a file should be: neither read nor written.
    let path = stage.memory.path().join("timestamp.json");
    fs::remove_file(&path).unwrap();
    fs::create_dir_all(path.join("in-the-way")).unwrap();
    let failed = stage.refresh().await.err().unwrap();
    assert!(matches!(&failed, TrustError::Store(why) if why.contains("timestamp.json")), "{failed}");
}

#[tokio::test]
async fn a_wrong_clock_blocks_and_is_forgiven_when_it_is_mended() {
    let stage = Stage::new();
    let at = |year| jiff::civil::date(year, 1, 1).in_tz("UTC").unwrap().timestamp();
    assert!(stage.refresh_at(at(2040)).await.is_err());
    // 1970 is read as the time of the build by `floor`; the metadata are of today and hold.
    let read = update::floor::now(Timestamp::UNIX_EPOCH, update::floor::built());
    assert!(stage.refresh_at(read).await.is_ok());
    assert!(stage.refresh().await.is_ok());
}

fn described(content: &[u8]) -> File {
    let chunks = content.chunks(CHUNK as usize).map(digest).collect();
    File { path: "model.onnx".into(), length: content.len() as u64, sha256: digest(content), chunks }
}

/// A web server's folder with one file.
pub async fn with_file(length: usize) -> (tempfile::TempDir, Arc<dyn Origin>, Served, File, String) {
    let dir = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..length as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let file = described(&content);
    fs::create_dir_all(dir.path().join("files")).unwrap();
    fs::write(dir.path().join("files").join(&file.sha256), &content).unwrap();
    let (url, served) = serve(dir.path()).await;
    let origin: Arc<dyn Origin> = Arc::new(Web::new(&url, None).unwrap());
    (dir, origin, served, file, url)
}

async fn fetched(origin: &Arc<dyn Origin>, file: &File, to: &Path) -> (Result<(), FetchError>, u64) {
    let (origin, file, to) = (Arc::clone(origin), file.clone(), to.to_owned());
    let fetch = move || {
        let mut came = Came::default();
        (fetch::file(&*origin, &file, &to, &mut came, &mut |_| Ok(())), came.bytes)
    };
    tokio::task::spawn_blocking(fetch).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_with_thirty_cuts_cost_at_most_two_percent_more() {
    let (dir, origin, served, file, _) = with_file(100_000_000).await;
    served.manners.lock().unwrap().cut_after = Some(3_300_000);
    let to = dir.path().join("fetched");
    let (mut read, mut cuts) = (0, 0);
    loop {
        let (done, came) = fetched(&origin, &file, &to).await;
        read += came;
        match done {
            Ok(()) => break,
            Err(FetchError::Cut { .. }) => cuts += 1,
            Err(other) => panic!("{other}"),
        }
    }
    let ratio = read as f64 / file.length as f64;
    println!("{cuts} cuts, {read} body bytes read of {}, ratio {ratio:.4}", file.length);
    assert!(cuts >= 30 && ratio <= 1.02, "{cuts} cuts, ratio {ratio}");
    assert_eq!(aerie::update::slots::sha256_of(&to).unwrap(), file.sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_ranges_is_warned_of_at_the_first_fetch_and_not_at_the_first_cut() {
    let (dir, origin, served, file, url) = with_file(100_000).await;
    assert!(fetched(&origin, &file, &dir.path().join("one")).await.0.is_ok());
    assert_eq!(origin.warning(), None);
    served.manners.lock().unwrap().ignores_ranges = true;
    assert!(fetched(&origin, &file, &dir.path().join("two")).await.0.is_ok());
    assert!(origin.warning().is_some_and(|said| said.contains(&url) && said.contains("Accept-Ranges")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_knows_no_ranges_or_lies_about_them_is_refused_and_what_was_there_stays() {
    let (dir, origin, served, file, _) = with_file(3_000_000).await;
    let to = dir.path().join("fetched");
    served.manners.lock().unwrap().cut_after = Some(2_000_000);
    assert!(matches!(fetched(&origin, &file, &to).await.0, Err(FetchError::Cut { .. })));
    let had = fs::metadata(&to).unwrap().len();
    assert!(had >= 1_000_000);
    *served.manners.lock().unwrap() = Manners { ignores_ranges: true, ..Manners::default() };
    let (refused, came) = fetched(&origin, &file, &to).await;
    assert!(matches!(refused, Err(FetchError::Origin(OriginError::Range { .. }))) && came == 0);
    *served.manners.lock().unwrap() = Manners { lies: true, ..Manners::default() };
    let (refused, came) = fetched(&origin, &file, &to).await;
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("serve it with one that does ranges") && came == 0, "{said}");
    assert_eq!(fs::metadata(&to).unwrap().len(), had);
    *served.manners.lock().unwrap() = Manners::default();
    let (done, came) = fetched(&origin, &file, &to).await;
    assert!(done.is_ok() && came == file.length - had);
    assert!(served.answers.load(Ordering::SeqCst) >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_block_is_named_also_where_the_server_gives_no_ranges_until_its_release_is_given_up() {
    let publisher = Publisher::new();
    let release = publisher.publish("3.0", |_, _| {});
    let model = Manifest::read(&model_dir(None)).unwrap().sha256;
    let path = publisher.repo().join("files").join(model);
    let mut bytes = fs::read(&path).unwrap();
    bytes[(1 << 16) + 5] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (url, served) = serve(&publisher.repo()).await;
    served.manners.lock().unwrap().ignores_ranges = true;
    let dir = tempfile::tempdir().unwrap();
    let station = Station::start(dir, &publisher, Some(url), Path::new(super::AERIE)).await;
    station.updates.check().await.unwrap();
    let trouble = || station.updates.view().borrow().last_error.clone();
    let block = "the block at byte 65536 of http://";
    station.until("the block is named", |_| trouble().filter(|t| t.contains(block)).map(|_| ())).await;
    let twice = |said: &String| said.contains(block) && said.contains("does ranges");
    station.until("also beside the ranges", |_| trouble().filter(twice).map(|_| ())).await;
    station.updates.roll_back("chief".to_owned(), "altered".to_owned(), Some(release)).await.unwrap();
    assert_eq!(trouble(), None);
}
