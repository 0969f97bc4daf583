//! Promises of a station that is deployed: systemd, control groups, backups, setting up; through the command line.

#![expect(clippy::disallowed_methods, reason = "tests wait for other processes")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use aerie::update::ledger::Ledger;
use aerie::update::release::Kind;
use serde_json::Value;
use tempfile::TempDir;

const AERIE: &str = env!("CARGO_BIN_EXE_aerie");
/// Long enough for a busy machine; nothing waits for it when all is well.
const LIMIT: Duration = Duration::from_secs(60);

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn aerie(args: &[&str]) -> Output {
    Command::new(AERIE).args(args).stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < limit, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// A station that was set up by `aerie setup`, without any hardware behind it.
fn set_up() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (etc, state) = (at("etc"), at("state"));
    let done = aerie(&[
        "setup",
        "--dir",
        &etc,
        "--state-dir",
        &state,
        "--id",
        "roof-01",
        "--name",
        "Roof",
        "--lat",
        "23.05",
        "--lon",
        "113",
        "--vehicle",
        "udpin:127.0.0.1:0",
        "--broker",
        "mqtt://127.0.0.1:9",
        "--dock",
        "http://127.0.0.1:9",
        "--weather",
        "http://127.0.0.1:9",
    ]);
    assert!(done.status.success(), "{}", text(&done));
    let config = dir.path().join("etc/station.toml");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let written = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, written.replace("127.0.0.1:8480", &free.to_string())).unwrap();
    std::fs::create_dir_all(dir.path().join("state/media")).unwrap();
    (dir, config)
}

fn start(config: &Path, notify: Option<&Path>) -> Running {
    let log = std::fs::File::create(config.with_file_name("log")).unwrap();
    let mut command = Command::new(AERIE);
    command.args(["run", "--config"]).arg(config).stdin(Stdio::null()).stderr(log);
    if let Some(path) = notify {
        command.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", "900000");
    }
    Running(command.spawn().unwrap())
}

fn stop(mut station: Running) -> bool {
    let _ = Command::new("kill").arg(station.0.id().to_string()).status();
    until("the station ends", || station.0.try_wait().unwrap()).success()
}

fn listener(dir: &Path) -> (UnixDatagram, PathBuf) {
    let path = dir.join("notify");
    let ear = UnixDatagram::bind(&path).unwrap();
    ear.set_read_timeout(Some(LIMIT)).unwrap();
    (ear, path)
}

fn word(ear: &UnixDatagram) -> String {
    let mut buffer = [0; 1000];
    let length = ear.recv(&mut buffer).expect("systemd heard nothing more");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn systemd_hears_ready_then_signs_of_life_then_the_end() {
    let (dir, config) = set_up();
    let (ear, path) = listener(dir.path());
    let station = start(&config, Some(&path));
    assert!(word(&ear).starts_with("READY=1\nSTATUS=no sortie"));
    let mut alive = 0;
    while alive < 3 {
        alive += usize::from(word(&ear) == "WATCHDOG=1");
    }
    assert!(stop(station));
    let mut last = word(&ear);
    while !last.starts_with("STOPPING=1") {
        last = word(&ear);
    }
}

#[test]
fn a_station_with_a_bad_configuration_is_ready_too_and_says_what_it_is() {
    let (dir, config) = set_up();
    let (ear, path) = listener(dir.path());
    let written = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, written.replace("lat = 23", "lat = 923")).unwrap();
    let _station = start(&config, Some(&path));
    let said = word(&ear);
    assert!(said.starts_with("READY=1\n") && said.contains("nothing flies: 1 fault(s)"), "{said}");
    while word(&ear) != "WATCHDOG=1" {}
}

#[test]
fn a_backup_taken_beside_a_running_station_comes_back_whole_and_grounded() {
    let (dir, config) = set_up();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (ear, path) = listener(dir.path());
    let station = start(&config, Some(&path));
    word(&ear);
    let conf = config.display().to_string();
    let backup = at("backup.tar.gz");
    let done = aerie(&["backup", "--config", &conf, "--out", &backup, "--json"]);
    assert!(done.status.success(), "{}", text(&done));
    let manifest: Value = serde_json::from_slice(&done.stdout).unwrap();
    for file in
        ["state/aerie.db", "state/outbox.db", "state/commands.db", "config/station.toml", "config/console.token"]
    {
        assert!(manifest["manifest"]["files"][file].is_string(), "{file}: {manifest}");
    }
    // Nothing is changed under a station that runs.
    for args in [vec!["reset", "--config", &conf, "--yes"], vec!["restore", &backup, "--config", &conf]] {
        let refused = aerie(&args);
        assert!(!refused.status.success() && text(&refused).contains("running station"), "{}", text(&refused));
    }
    assert!(stop(station));
    let there = aerie(&["restore", &backup, "--config", &conf]);
    assert!(!there.status.success() && text(&there).contains("aerie reset"), "{}", text(&there));
    let unsure = aerie(&["reset", "--config", &conf]);
    assert!(!unsure.status.success() && dir.path().join("state/aerie.db").exists());
    assert!(aerie(&["reset", "--config", &conf, "--yes"]).status.success());
    assert!(!dir.path().join("state/aerie.db").exists() && config.exists());

    let done = aerie(&["restore", &backup, "--config", &conf, "--config-dir", &at("etc-again")]);
    assert!(done.status.success(), "{}", text(&done));
    assert_eq!(
        std::fs::read(config.with_file_name("console.token")).unwrap(),
        std::fs::read(dir.path().join("etc-again/console.token")).unwrap()
    );
    let station = start(&config, Some(&path));
    let status = until("the station answers", || {
        let status = aerie(&["service", "status", "--config", &conf, "--json"]);
        serde_json::from_slice::<Value>(&status.stdout).ok()
    });
    let hold = status["gates"].as_array().unwrap().iter().find(|gate| gate["gate"] == "hold").cloned();
    let reason = hold.map(|gate| gate["reason"].as_str().unwrap_or_default().to_owned()).unwrap_or_default();
    assert!(reason.contains("put back from a backup"), "{status}");
    // Whoever stands before it may let it fly at once: what is said here and now is no command of before.
    let released = aerie(&["service", "release", "--config", &conf]);
    assert!(released.status.success(), "{}", text(&released));
    assert!(stop(station));
}

#[test]
fn a_station_that_cannot_start_is_looked_through_saved_and_not_emptied_unknowingly() {
    let (dir, config) = set_up();
    let (conf, state) = (config.display().to_string(), dir.path().join("state"));
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (ear, path) = listener(dir.path());
    let station = start(&config, Some(&path));
    word(&ear);
    assert!(stop(station));
    assert!(text(&aerie(&["doctor", "--config", &conf])).contains("4 database(s), all sound"));

    // A key that the unit's LoadCredential brings is not there while the unit is stopped.
    let written = std::fs::read_to_string(&config).unwrap();
    let with_password =
        written.replace("[uplink]\n", "[uplink]\nusername = \"a\"\npassword_file = \"/run/credentials/none\"\n");
    std::fs::write(&config, with_password).unwrap();
    // A station that was stopped in a hurry leaves a log, whose pages would stand in for those that are damaged here.
    let emptied = rusqlite::Connection::open(state.join("outbox.db")).unwrap();
    emptied.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(emptied);
    let mut bytes = std::fs::read(state.join("outbox.db")).unwrap();
    bytes[..1024].fill(7);
    std::fs::write(state.join("outbox.db"), bytes).unwrap();
    let doctor = text(&aerie(&["doctor", "--config", &conf]));
    assert!(doctor.contains("uplink.password_file") && doctor.contains("outbox.db is damaged"), "{doctor}");

    let saved = aerie(&["backup", "--config", &conf, "--out", &at("saved.tar.gz")]);
    let said = text(&saved);
    assert!(
        saved.status.success() && said.contains("outbox.db is damaged") && said.contains("password_file"),
        "{said}"
    );
    let refused = aerie(&["reset", "--config", &conf, "--yes"]);
    assert!(!refused.status.success() && text(&refused).contains("nobody knows"), "{}", text(&refused));
    assert!(state.join("outbox.db").exists() && state.join("aerie.db").exists());
    assert!(aerie(&["reset", "--config", &conf, "--yes", "--even-undelivered"]).status.success());
    let back = aerie(&["restore", &at("saved.tar.gz"), "--config", &conf]);
    assert!(back.status.success() && text(&back).contains("outbox.db was damaged"), "{}", text(&back));
    assert!(state.join("aerie.db").exists() && !state.join("outbox.db").exists());

    // Of a newer version: told by the doctor, and not put back.
    let newer = rusqlite::Connection::open(state.join("commands.db")).unwrap();
    newer.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(newer);
    assert!(text(&aerie(&["doctor", "--config", &conf])).contains("newer aerie (layout 99"));
    assert!(aerie(&["backup", "--config", &conf, "--out", &at("newer.tar.gz")]).status.success());
    let refused = aerie(&["restore", &at("newer.tar.gz"), "--state-dir", &at("other")]);
    assert!(!refused.status.success() && text(&refused).contains("layout 99"), "{}", text(&refused));
    assert!(!Path::new(&at("other")).join("aerie.db").exists());
}

#[test]
fn what_every_released_version_wrote_is_taken_up() {
    let released = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/layouts");
    for version in std::fs::read_dir(&released).unwrap().flatten() {
        let (dir, config) = set_up();
        let state = dir.path().join("state");
        for dump in std::fs::read_dir(version.path()).unwrap().flatten() {
            let database = state.join(dump.path().with_extension("db").file_name().unwrap());
            let sql = std::fs::read_to_string(dump.path()).unwrap();
            rusqlite::Connection::open(database).unwrap().execute_batch(&sql).unwrap();
        }
        let (ear, path) = listener(dir.path());
        let station = start(&config, Some(&path));
        assert!(word(&ear).starts_with("READY=1"), "{:?}", version.file_name());
        let conf = config.display().to_string();
        let status = until("the station answers", || {
            let status = aerie(&["service", "status", "--config", &conf, "--json"]);
            serde_json::from_slice::<Value>(&status.stdout).ok()
        });
        assert!(status.to_string().contains("kept by"), "the hold was forgotten: {status}");
        let queued = aerie(&["outbox", "list", "--config", &conf, "--json"]);
        assert!(text(&queued).contains("01J/1"), "what was owed was forgotten: {}", text(&queued));
        assert!(stop(station));
        let updates = Ledger::open(&state).unwrap();
        let refused = updates.record(Kind::Model).unwrap().refused;
        assert!(refused.values().any(|release| release.reason == "kept by 0.1.0"), "a refused model was forgotten");
        assert_eq!(updates.broken_link().unwrap(), None, "the trail of updates broke");
    }
}

#[test]
fn a_backup_that_was_changed_on_its_way_is_refused_whole() {
    let (dir, config) = set_up();
    let conf = config.display().to_string();
    let backup = dir.path().join("backup.tar.gz");
    assert!(aerie(&["backup", "--config", &conf, "--out", backup.to_str().unwrap()]).status.success());
    let bytes = std::fs::read(&backup).unwrap();
    std::fs::write(&backup, &bytes[..bytes.len() / 2]).unwrap();
    let target = dir.path().join("elsewhere");
    let refused = aerie(&["restore", backup.to_str().unwrap(), "--state-dir", target.to_str().unwrap()]);
    assert!(!refused.status.success(), "{}", text(&refused));
    let left: Vec<_> = std::fs::read_dir(&target).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["outbox.lock"]);
}

#[test]
fn setup_asks_nothing_where_a_station_is_set_up_already() {
    let (_dir, config) = set_up();
    let again = aerie(&["setup", "--dir", config.parent().unwrap().to_str().unwrap()]);
    let said = text(&again);
    assert!(!again.status.success() && said.contains("station.toml") && !said.contains("--id"), "{said}");
}

#[test]
fn the_doctor_of_root_names_the_files_that_the_stations_user_may_not_read() {
    let (dir, config) = set_up();
    let state = dir.path().join("state");
    std::fs::create_dir_all(&state).unwrap();
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    if nix::unistd::chown(&state, Some(nobody.uid), None).is_err() {
        eprintln!("SKIPPED: only root may give a folder away");
        return;
    }
    let said = text(&aerie(&["doctor", "--config", config.to_str().unwrap()]));
    assert!(said.contains("the user nobody, who runs the station, may not read"), "{said}");
    assert!(said.contains("console.token") && said.contains("chown nobody:"), "{said}");
    for file in std::fs::read_dir(config.parent().unwrap()).unwrap() {
        nix::unistd::chown(&file.unwrap().path(), Some(nobody.uid), None).unwrap();
    }
    let said = text(&aerie(&["doctor", "--config", config.to_str().unwrap()]));
    assert!(!said.contains("may not read"), "{said}");
}

/// A set of pictures that have no scale, one of them without marks.
#[test]
fn an_evaluation_without_a_scale_speaks_of_no_metres_and_says_what_had_no_marks() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("dataset.toml"), "classes = [\"garbage\"]\nlonger_side_px = 128\n").unwrap();
    for name in ["a.png", "b.png"] {
        image::RgbImage::new(128, 96).save(at(name)).unwrap();
    }
    std::fs::write(at("a.txt"), "0 0.5 0.5 0.2 0.2\n").unwrap();
    let done = aerie(&["model", "evaluate", "--data", dir.path().to_str().unwrap(), "--json"]);
    assert!(done.status.success(), "{}", text(&done));
    let figures: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&figures["pictures"], &figures["pictures_without_marks"]), (&2.into(), &1.into()));
    assert_eq!(figures["classes"][0]["marked"], 1);
    assert_eq!(figures["classes"][0]["by_size"], serde_json::json!([]));
    assert!(String::from_utf8_lossy(&done.stderr).contains("1 of 2 pictures have no .txt"), "{}", text(&done));
}

#[test]
fn the_doctor_names_each_part_that_is_not_there_with_a_remedy() {
    let (_dir, config) = set_up();
    // Something else answers where the weather station should, and knows no such path.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let written = std::fs::read_to_string(&config).unwrap();
    let weather = format!("[weather]\nurl = \"http://{}\"", other.local_addr().unwrap());
    let rewired = written.replace("[weather]\nurl = \"http://127.0.0.1:9\"", &weather);
    assert_ne!(written, rewired);
    std::fs::write(&config, rewired).unwrap();
    std::thread::spawn(move || {
        for stream in other.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 2048]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    let done = aerie(&["doctor", "--config", config.to_str().unwrap(), "--json"]);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done));
    let findings: Value = serde_json::from_slice(&done.stdout).unwrap();
    let findings = findings["findings"].as_array().unwrap();
    let grade =
        |part: &str| findings.iter().find(|f| f["part"] == part).map(|f| f["grade"].as_str().unwrap().to_owned());
    for part in ["autopilot", "dock", "weather", "broker"] {
        assert_eq!(grade(part).as_deref(), Some("fail"), "{part}: {findings:?}");
    }
    for part in ["configuration", "model", "disk"] {
        assert_eq!(grade(part).as_deref(), Some("ok"), "{part}: {findings:?}");
    }
    let what = |part: &str| findings.iter().find(|f| f["part"] == part).unwrap()["what"].as_str().unwrap().to_owned();
    assert!(what("dock").contains("gave no answer"), "{}", what("dock"));
    assert!(what("weather").contains("/weather answered with status 404"), "{}", what("weather"));
    assert!(grade("clock").is_some() && grade("camera").is_some() && grade("certificates").is_some());
    assert!(findings.iter().all(|f| f["grade"] == "ok" || f["remedy"].is_string()), "{findings:?}");
}

/// A control group of version 2 with memory control that this test may divide; none says why.
fn group() -> Result<PathBuf, String> {
    let root = Path::new("/sys/fs/cgroup");
    let controllers = std::fs::read_to_string(root.join("cgroup.controllers"))
        .map_err(|e| format!("no control groups of version 2: {e}"))?;
    if !controllers.contains("memory") {
        return Err("no memory control here".to_owned());
    }
    let _ = std::fs::write(root.join("cgroup.subtree_control"), "+memory");
    let group = root.join(format!("aerie-test-{}", std::process::id()));
    std::fs::create_dir(&group).map_err(|e| format!("{}: {e}", group.display()))?;
    match std::fs::read_to_string(group.join("cgroup.controllers")) {
        Ok(own) if own.contains("memory") => Ok(group),
        _ => {
            let _ = std::fs::remove_dir(&group);
            Err("memory control is not handed down".to_owned())
        }
    }
}

#[test]
fn perception_driven_out_of_memory_ends_alone_and_the_station_stays_up() {
    let group = match group() {
        Ok(group) => group,
        Err(why) => {
            eprintln!("skipped: {why}; `make test-systemd` does this in a virtual machine");
            return;
        }
    };
    let (_dir, config) = set_up();
    let conf = config.display().to_string();
    // The station is the only process of its group, as under systemd.
    let script = format!("echo $$ > {}/cgroup.procs && exec {AERIE} run --config {conf}", group.display());
    let log = std::fs::File::create(config.with_file_name("log")).unwrap();
    let mut station = Running(Command::new("sh").args(["-c", &script]).stderr(log).spawn().unwrap());
    let perception = |until_running: bool| {
        until("perception's state", || {
            let status = aerie(&["service", "status", "--config", &conf, "--json"]);
            let status: Value = serde_json::from_slice(&status.stdout).ok()?;
            (status["perception"]["running"] == until_running).then(|| status["perception"].clone())
        })
    };
    let before = perception(true);
    let pen = group.join("perception");
    let child = std::fs::read_to_string(pen.join("cgroup.procs")).unwrap();
    assert_eq!(child.lines().count(), 1, "the child is in its own group");
    assert_eq!(std::fs::read_to_string(group.join("station/cgroup.procs")).unwrap().trim(), station.0.id().to_string());
    // Less than it has: the kernel must take some back at once, and there is no swap to put it.
    std::fs::write(pen.join("memory.max"), "8M").unwrap();
    until("the child is ended", || {
        let events = std::fs::read_to_string(pen.join("memory.events")).unwrap();
        events.lines().any(|l| l.starts_with("oom_kill ") && l != "oom_kill 0").then_some(())
    });
    assert!(station.0.try_wait().unwrap().is_none(), "the station went with it");
    std::fs::write(pen.join("memory.max"), "600M").unwrap();
    let after = until("another child", || {
        let now = perception(true);
        (now["restarts"].as_u64() > before["restarts"].as_u64()).then_some(now)
    });
    assert!(after["restarts"].as_u64() > Some(0));
    assert!(stop(station));
    for inner in ["station", "perception", ""] {
        let _ = std::fs::remove_dir(group.join(inner));
    }
}
