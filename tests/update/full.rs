//! A disk that is full, in each state; a server of a private authority; files that are read at the start.

use std::fs;

use aerie::cases::Register;
use aerie::update::fetch::{self, Came, FetchError};
use aerie::update::ledger::{Ledger, LedgerError};
use aerie::update::origin::{Folder, Origin, OriginError, Web};
use aerie::update::states::{Event, Facts, Release};
use aerie::update::trust::{self, Store, TrustError};

use super::trust::with_file;
use super::*;

#[path = "../delivery/certificates.rs"]
mod certificates;
#[path = "../delivery/small_disk.rs"]
mod small_disk;

use small_disk::SmallDisk;

/// Takes what is free, to the last byte; the file to be removed later.
fn fill(disk: &SmallDisk) -> PathBuf {
    use std::io::Write as _;
    let hog = disk.0.join("hog");
    let mut file = fs::File::create(&hog).unwrap();
    while file.write(&[1; 1024]).is_ok_and(|n| n > 0) {}
    hog
}

#[test]
fn on_a_full_disk_no_step_is_taken_in_any_state_and_each_is_once_there_is_room() {
    let Some(disk) = SmallDisk::mount(8) else {
        eprintln!("skipped: no tmpfs can be mounted here");
        return;
    };
    let state = disk.0.join("state");
    fs::create_dir(&state).unwrap();
    let release = Release { digest: "a".repeat(64), name: "m".into(), version: "1".into() };
    let report = || "fine".to_owned();
    let steps = [
        Event::Offered { release },
        Event::FetchBegun,
        Event::Fetched,
        Event::ProbeBegun,
        Event::ProbePassed { report: report() },
        Event::ShadowBegun,
        Event::Loading,
        Event::TrialPassed { report: report() },
    ];
    let facts = Facts { now: Timestamp::now(), fresh: true };
    let mut refused = 0;
    for event in &steps {
        let mut ledger = Ledger::open(&state).unwrap();
        let before = ledger.record(Kind::Model).unwrap();
        let hog = fill(&disk);
        let mut taken = None;
        // A log may have room in pages it has already; it has not for long.
        match ledger.step(Kind::Model, event, facts) {
            Err(LedgerError::Sql { .. }) => {
                refused += 1;
                assert_eq!(ledger.record(Kind::Model).unwrap(), before, "{event:?}");
            }
            Ok(record) => taken = Some(record),
            Err(other) => panic!("{event:?}: {other}"),
        }
        fs::remove_file(hog).unwrap();
        let record = taken.unwrap_or_else(|| ledger.step(Kind::Model, event, facts).unwrap());
        assert_ne!(record, before, "{event:?}");
        drop(ledger);
        assert_eq!(Ledger::open(&state).unwrap().record(Kind::Model).unwrap(), record);
    }
    assert_eq!(refused, steps.len(), "the disk was not full");
    assert_eq!(Ledger::open(&state).unwrap().broken_link().unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_a_refresh_fails_and_says_so_and_a_fetch_goes_on_where_it_was() {
    let Some(disk) = SmallDisk::mount(3) else {
        eprintln!("skipped: no tmpfs can be mounted here");
        return;
    };
    let publisher = Publisher::new();
    let root = fs::read(publisher.repo().join("metadata/1.root.json")).unwrap();
    let origin: Arc<dyn Origin> = Arc::new(Folder::new(&publisher.repo()));
    let store = Store::open(&disk.0.join("update")).unwrap();
    let hog = fill(&disk);
    let refused = trust::refresh(&root, &store, Arc::clone(&origin), Timestamp::now()).await.err().unwrap();
    assert!(matches!(refused, TrustError::Store(_)), "{refused}");
    fs::remove_file(hog).unwrap();
    assert!(trust::refresh(&root, &store, origin, Timestamp::now()).await.is_ok());

    let (_dir, origin, _, file, _) = with_file(2_500_000).await;
    let to = disk.0.join("fetched");
    let away = disk.0.join("hog");
    fs::write(&away, vec![1; 1_500_000]).unwrap();
    let done = tokio::task::spawn_blocking(move || {
        let mut came = Came::default();
        let full = fetch::file(&*origin, &file, &to, &mut came, &mut |_| Ok(()));
        assert!(matches!(&full, Err(FetchError::Disk { .. })), "{full:?}");
        let here = came.bytes;
        assert!(here > 500_000, "{here}");
        fs::remove_file(away).unwrap();
        fetch::file(&*origin, &file, &to, &mut came, &mut |_| Ok(())).unwrap();
        assert_eq!(aerie::update::slots::sha256_of(&to).unwrap(), file.sha256);
        came.bytes - file.length
    });
    let again = done.await.unwrap();
    assert!(again <= aerie::update::release::CHUNK, "{again} bytes came twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_comes_over_https_from_a_server_of_a_private_authority_and_from_no_other() {
    let certs = tempfile::tempdir().unwrap();
    if !certificates::certificates(certs.path()) {
        eprintln!("skipped: no openssl to make certificates with");
        return;
    }
    let (dir, _, _, file, url) = with_file(300_000).await;
    let port: u16 = url.rsplit(':').next().unwrap().parse().unwrap();
    let url = format!("https://127.0.0.1:{}", certificates::tls_before(port, certs.path()).await);
    let to = dir.path().join("fetched");
    let fetched = |ca_file: Option<PathBuf>| {
        let (url, file, to) = (url.clone(), file.clone(), to.clone());
        tokio::task::spawn_blocking(move || {
            let web = Web::new(&url, ca_file.as_deref()).unwrap();
            fetch::file(&web, &file, &to, &mut Came::default(), &mut |_| Ok(()))
        })
    };
    for stranger in [None, Some(certs.path().join("client.pem"))] {
        let refused = fetched(stranger).await.unwrap();
        assert!(matches!(refused, Err(FetchError::Origin(OriginError::Unreachable { .. }))), "{refused:?}");
    }
    fetched(Some(certs.path().join("ca.pem"))).await.unwrap().unwrap();
    assert_eq!(aerie::update::slots::sha256_of(&to).unwrap(), file.sha256);
}

/// A register that permits one place.
fn register(dir: &Path, lon: f64) {
    let ring = [[lon, 23.0], [lon + 0.001, 23.0], [lon + 0.001, 23.001], [lon, 23.001], [lon, 23.0]];
    let feature = serde_json::json!({"type": "Feature", "properties": {},
        "geometry": {"type": "Polygon", "coordinates": [ring]}});
    let all = serde_json::json!({"type": "FeatureCollection", "features": [feature]});
    fs::write(dir.join("register.geojson"), all.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_register_and_rules_over_the_air_are_in_use_after_a_restart_and_damaged_ones_give_way() {
    let publisher = Publisher::new();
    let (url, _) = serve(&publisher.repo()).await;
    let dir = tempfile::tempdir().unwrap();
    let station = Station::start(dir, &publisher, Some(url), Path::new(AERIE)).await;
    let publish = |kind: Kind, what: &dyn Fn(&Path)| {
        let made = tempfile::tempdir().unwrap();
        what(made.path());
        let (release, _) = publisher.workshop().add(kind, made.path(), None, Demands::default()).unwrap();
        publisher.workshop().stage("roofs", kind, &release, 100).unwrap();
    };
    let committed = |kind: Kind| {
        let view = station.updates.view().borrow().clone();
        view.kinds.into_iter().find(|k| k.kind == kind).and_then(|k| k.record.committed).map(|c| c.digest)
    };
    let mut known = Vec::new();
    for lon in [113.0, 114.0] {
        publish(Kind::Register, &|dir| register(dir, lon));
        publish(Kind::Rules, &|dir| {
            let toml = format!("[kinds.blue_roof]\nzh = \"彩钢棚\"\ncode = \"{lon}\"\ndepartment = \"d\"\n");
            fs::write(dir.join("cases.toml"), toml).unwrap();
        });
        station.updates.check().await.unwrap();
        let before = known.last().cloned();
        let both = station
            .until("both are committed", |_| {
                let both = (committed(Kind::Register)?, committed(Kind::Rules)?);
                let old: Option<&(String, String)> = before.as_ref();
                old.is_none_or(|old| old.0 != both.0 && old.1 != both.1).then_some(both)
            })
            .await;
        known.push(both);
    }
    let dir = station.stop().await;
    let options = || update::Options {
        station: "danzao-1".to_owned(),
        state_dir: dir.path().to_owned(),
        zone: jiff::tz::TimeZone::UTC,
        config: update::Config::default(),
        program: AERIE.into(),
        providers: vec![Provider::Cpu],
        own_model: model_dir(None),
    };
    let permits = |lon: f64| {
        let mut prepared = Prepared::open(options()).unwrap();
        let register = prepared.committed(Kind::Register, "register.geojson", Register::read).unwrap();
        register.is_some_and(|r| r.permits(LatLon { lat: 23.0005, lon: lon + 0.0005 }, 0.0))
    };
    assert!(permits(114.0) && !permits(113.0));
    let mut prepared = Prepared::open(options()).unwrap();
    let kinds = prepared.committed(Kind::Rules, "cases.toml", aerie::config::kinds_of).unwrap().unwrap();
    assert_eq!(kinds.of(aerie::cases::Kind::BlueRoof).code, "114");
    drop(prepared);
    // The disk ruined the newest one: the one before is in use.
    fs::write(dir.path().join("models").join(&known[1].0).join("register.geojson"), "{}").unwrap();
    assert!(permits(113.0) && !permits(114.0));
}
