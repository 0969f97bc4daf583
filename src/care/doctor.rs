//! Is the station well? Each part once: ok, warn or fail, with the remedy. Where a station runs, its own word is taken for
//! what only one process can hold (the drone's link, the dock, the child); else the parts are asked here.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::certificates::{self, SOON_DAYS};
use super::memory::Wrong;
use super::{memory, named};
use crate::config::Checked;
use crate::patrol::config::{Ground, Patrol};
use crate::patrol::gates::Limits;
use crate::perception::{self, Manifest, supervise};
use crate::runtime::{clock, disk, latest, paths, secrets};
use crate::uplink;
use crate::vehicle::{Dock, Lines, Vehicle, Weather, Wiring};

/// How long a part is waited for.
const PATIENCE: Duration = Duration::from_secs(8);
/// A model may take a while on a small computer.
const MODEL_PATIENCE: Duration = Duration::from_secs(40);
/// Before this no clock is right: aerie did not exist.
const EARLIEST: i64 = 1_767_225_600;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    pub part: &'static str,
    pub grade: Grade,
    pub what: String,
    pub remedy: Option<String>,
}

fn ok(part: &'static str, what: impl Into<String>) -> Finding {
    Finding { part, grade: Grade::Ok, what: what.into(), remedy: None }
}

fn bad(part: &'static str, grade: Grade, what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { part, grade, what: what.into(), remedy: Some(remedy.into()) }
}

/// Looks at everything. `status` is what a running station says of itself.
pub async fn examine(checked: &Checked, status: Option<&Value>) -> Vec<Finding> {
    let config = &checked.config;
    let mut found = vec![ok("configuration", format!("no fault, {} patrol(s)", checked.patrols.len()))];
    found.extend(kept_from_the_station(checked));
    found.push(camera(&config.camera.media_dir));
    found.extend(terrain(checked));
    match status {
        Some(status) => {
            found.extend(by_station(status));
            found.push(ok("memory", "the running station has it open"));
        }
        None => {
            found.push(remembered(&config.station.state_dir));
            let cancel = CancellationToken::new();
            let _end = cancel.clone().drop_guard();
            let (drone, site, broker, model) = tokio::join!(
                autopilot(checked, cancel.clone()),
                dock_and_weather(checked, cancel.clone()),
                broker(checked),
                model(checked, cancel.clone()),
            );
            found.push(drone);
            found.extend(site);
            found.extend([broker, model]);
        }
    }
    found.push(clock_now(Timestamp::now(), clock::machine_says_synced()));
    found.push(disk(&config.station.state_dir, config.gates.storage_free_mb));
    found.extend(certificates(checked, Timestamp::now()));
    found
}

/// What can be looked at where the configuration has faults: the station cannot start, and whoever comes wants to know all of it.
pub fn examine_despite(faults: &crate::config::Faults) -> Vec<Finding> {
    let remedy = match std::fs::File::open(&faults.path).map_err(|error| error.kind()) {
        Err(std::io::ErrorKind::NotFound) => {
            "`aerie setup` writes one, `aerie config example` shows one; or name it with --config"
        }
        Err(_) => "run the doctor as a user who may read it: sudo aerie doctor",
        Ok(_) => "correct the file, try it with `aerie config check`; then the other parts can be looked at",
    };
    let mut found = vec![bad("configuration", Grade::Fail, faults.to_string(), remedy)];
    if let Ok((_, state_dir)) = crate::config::whereabouts(&faults.path) {
        found.push(remembered(&state_dir));
        found.push(disk(&state_dir, Limits::default().storage_free_mb));
    }
    found.push(clock_now(Timestamp::now(), clock::machine_says_synced()));
    found
}

/// Root reads everything; the station, whose user the state directory belongs to, does not. Files that it may not read.
fn kept_from_the_station(checked: &Checked) -> Option<Finding> {
    let text = std::fs::read_to_string(&checked.file).ok()?;
    let config = toml::from_str(&text).unwrap_or(toml::Value::Boolean(false));
    let user =
        nix::unistd::User::from_uid(std::fs::metadata(&checked.config.station.state_dir).ok()?.uid().into()).ok()??;
    let name = std::ffi::CString::new(user.name.clone()).ok()?;
    let groups: Vec<u32> =
        nix::unistd::getgrouplist(&name, user.gid).ok()?.iter().map(|group| group.as_raw()).collect();
    let named = named::files(&config, &checked.base).into_iter().map(|file| file.path);
    let kept: Vec<String> = std::iter::once(checked.file.clone())
        .chain(named)
        .filter(|path| std::fs::metadata(path).is_ok_and(|meta| !may_read(&meta, user.uid.as_raw(), &groups)))
        .map(|path| path.display().to_string())
        .collect();
    let what = format!("the user {}, who runs the station, may not read {}", user.name, kept.join(", "));
    let remedy = format!("chown {}: {}", user.name, kept.join(" "));
    (!kept.is_empty()).then(|| bad("configuration", Grade::Fail, what, remedy))
}

/// By owner, group and mode, as the system decides.
fn may_read(meta: &std::fs::Metadata, user: u32, groups: &[u32]) -> bool {
    let bit = match (meta.uid() == user, groups.contains(&meta.gid())) {
        (true, _) => 0o400,
        (false, true) => 0o040,
        (false, false) => 0o004,
    };
    user == 0 || meta.mode() & bit != 0
}

fn remembered(state_dir: &Path) -> Finding {
    let looked = memory::look(state_dir);
    let wrong: Vec<&Wrong> = looked.iter().filter_map(|(_, sound)| sound.as_ref().err()).collect();
    match (looked.len(), wrong.as_slice()) {
        (0, _) => ok("memory", "none yet"),
        (count, []) => ok("memory", format!("{count} database(s), all sound")),
        (_, wrong) => bad(
            "memory",
            Grade::Fail,
            wrong.iter().map(|wrong| wrong.what.as_str()).collect::<Vec<_>>().join("; "),
            wrong.iter().map(|wrong| wrong.remedy.as_str()).collect::<Vec<_>>().join("; "),
        ),
    }
}

/// Pure: the parts as a running station tells of them.
pub fn by_station(status: &Value) -> Vec<Finding> {
    let problems = status["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    let parts: [(&str, &'static str, Grade); 5] = [
        ("vehicle", "autopilot", Grade::Fail),
        ("dock", "dock", Grade::Fail),
        ("weather", "weather", Grade::Fail),
        // What is found is kept meanwhile.
        ("uplink", "broker", Grade::Warn),
        ("perception", "model", Grade::Fail),
    ];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found: Vec<Finding> = parts
        .into_iter()
        .map(|(theirs, ours, grade)| match problems.iter().find(|p| p["part"] == theirs) {
            Some(problem) => bad(ours, grade, text(&problem["message"]), text(&problem["remedy"])),
            None => ok(ours, "the running station has no complaint"),
        })
        .collect();
    for problem in problems.iter().filter(|p| parts.iter().all(|(theirs, ..)| p["part"] != *theirs)) {
        found.push(bad("station", Grade::Warn, text(&problem["message"]), text(&problem["remedy"])));
    }
    found
}

fn camera(dir: &Path) -> Finding {
    let remedy = "make the folder and let the camera's pictures arrive there, or correct camera.media_dir";
    let Ok(entries) = std::fs::read_dir(dir) else {
        return bad("camera", Grade::Fail, format!("{} cannot be read", dir.display()), remedy);
    };
    let newest = entries.flatten().filter_map(|entry| entry.metadata().ok()?.modified().ok()).max();
    match newest.and_then(|at| Timestamp::try_from(at).ok()) {
        Some(at) => ok("camera", format!("the newest picture arrived {}", at.strftime("%Y-%m-%d %H:%M UTC"))),
        None => bad(
            "camera",
            Grade::Warn,
            format!("{} holds no picture yet", dir.display()),
            "fly once, or copy a picture there",
        ),
    }
}

/// Waits until a part has shown itself.
/// Whether the terrain model reaches as far as the patrols do.
fn terrain(checked: &Checked) -> Option<Finding> {
    let terrain = checked.terrain.as_ref()?;
    let unknown = |patrol: &&Patrol| {
        let (Ground::Area(corners) | Ground::Route(corners)) = &patrol.ground;
        corners.iter().any(|at| terrain.ground_m(*at).is_none())
    };
    let beyond: Vec<&str> = checked.patrols.iter().filter(unknown).map(|patrol| patrol.config.id.as_str()).collect();
    Some(if beyond.is_empty() {
        ok("terrain", "the model reaches to every patrol's corners")
    } else {
        let what = format!("the model has gaps or ends before the corners of: {}", beyond.join(", "));
        bad(
            "terrain",
            Grade::Warn,
            what,
            "take a larger terrain.model; there the ground is taken for flat, with wider ellipses",
        )
    })
}

async fn shows<T>(mut state: watch::Receiver<T>, wanted: impl FnMut(&T) -> bool) -> bool {
    timeout(PATIENCE, state.wait_for(wanted)).await.is_ok_and(|seen| seen.is_ok())
}

async fn autopilot(checked: &Checked, cancel: CancellationToken) -> Finding {
    let config = checked.config.vehicle.clone();
    let url = config.url.clone();
    // Unfit to command: no heartbeat of ours, which would hold off the drone's own way home.
    let (_unfit, healthy) = watch::channel(false);
    // Signing wants a place for its timestamps; the station's own is not for us to move on.
    let place =
        config.signing.is_some().then(|| std::env::temp_dir().join(format!("aerie-doctor-{}", std::process::id())));
    if let Some(place) = &place {
        let _ = std::fs::create_dir_all(place);
    }
    let wiring = Wiring { healthy: Some(healthy), state_dir: place.clone() };
    let remedy = "check the drone's power, its radio and vehicle.url";
    let finding = match Vehicle::spawn_with(config, wiring, cancel).await {
        Err(error) => bad("autopilot", Grade::Fail, error.to_string(), "correct vehicle in the configuration"),
        Ok(vehicle) if !shows(vehicle.telemetry(), |t| t.linked).await => {
            bad("autopilot", Grade::Fail, format!("no drone was heard at {url}"), remedy)
        }
        Ok(vehicle) => {
            let seen = latest(&vehicle.telemetry());
            let name = seen.autopilot.map_or("unknown".to_owned(), |a| format!("{a:?}"));
            ok("autopilot", format!("{name}, {}", if seen.armed == Some(true) { "armed" } else { "not armed" }))
        }
    };
    if let Some(place) = &place {
        let _ = std::fs::remove_dir_all(place);
    }
    finding
}

async fn dock_and_weather(checked: &Checked, cancel: CancellationToken) -> Vec<Finding> {
    let (config, lines) = (&checked.config, Lines::default());
    let dock = async {
        match Dock::spawn_on(config.dock.clone(), &lines, cancel.clone()) {
            Err(error) => bad("dock", Grade::Fail, error.to_string(), "correct dock in the configuration"),
            Ok(dock) if shows(dock.state(), |state| state.received.is_some()).await => {
                let state = latest(&dock.state());
                ok("dock", format!("the hatch is {:?}", state.hatch).to_lowercase())
            }
            Ok(dock) => {
                let what = latest(&dock.trouble()).unwrap_or_else(|| "the dock does not answer".to_owned());
                bad("dock", Grade::Fail, what, "check dock.url, its power and the network")
            }
        }
    };
    let weather = async {
        match Weather::spawn_on(config.weather.clone(), &lines, cancel.clone()) {
            Err(error) => bad("weather", Grade::Fail, error.to_string(), "correct weather in the configuration"),
            Ok(weather) if shows(weather.latest(), Option::is_some).await => {
                let wind = latest(&weather.latest()).map_or(f64::NAN, |reading| reading.wind_m_s);
                ok("weather", format!("wind {wind:.1} m/s"))
            }
            Ok(weather) => {
                let what =
                    latest(&weather.trouble()).unwrap_or_else(|| "the weather station does not answer".to_owned());
                bad("weather", Grade::Fail, what, "check weather.url, its power and the network")
            }
        }
    };
    let (dock, weather) = tokio::join!(dock, weather);
    vec![dock, weather]
}

async fn broker(checked: &Checked) -> Finding {
    let config = &checked.config.uplink;
    match timeout(PATIENCE * 2, uplink::probe(config, &checked.config.station.id)).await {
        Ok(Ok(())) => ok("broker", format!("{} took the connection", secrets::urls_without(&config.url))),
        Ok(Err(error)) => {
            let what = format!("{}: {}", secrets::urls_without(&config.url), error.why);
            bad("broker", Grade::Fail, what, error.remedy)
        }
        Err(_) => bad("broker", Grade::Fail, "no answer in time", "check the network and uplink.url"),
    }
}

async fn model(checked: &Checked, cancel: CancellationToken) -> Finding {
    let dir = perception::model_dir(checked.config.perception.model.as_deref());
    let manifest = match Manifest::read(&dir).and_then(|manifest| manifest.model_bytes(&dir).map(|_| manifest)) {
        Ok(manifest) => manifest,
        Err(error) => {
            return bad("model", Grade::Fail, error.to_string(), "put the model back, or correct perception.model");
        }
    };
    if let Err(missing) = paths::onnxruntime() {
        return bad("model", Grade::Fail, missing.to_string(), "install the package again");
    }
    let Ok(program) = std::env::current_exe() else {
        return bad("model", Grade::Warn, "aerie does not find itself", "call it by its path");
    };
    // In a child, as the station has it: what crashes there says so here.
    let (perception, _looked) = supervise::spawn(
        supervise::Options {
            program,
            model: dir,
            fallback: None,
            providers: checked.config.perception.execution_provider.clone(),
            pen: None,
        },
        cancel,
    );
    let mut state = perception.state();
    let settled = state.wait_for(|state| state.running || state.last_error.is_some());
    match timeout(MODEL_PATIENCE, settled).await {
        Ok(Ok(state)) if state.running => ok("model", format!("{} {} loads", manifest.name, manifest.version)),
        Ok(Ok(state)) => {
            let why = state.last_error.clone().unwrap_or_default();
            bad("model", Grade::Fail, why, "`aerie detect IMAGE --model DIR` tries it by hand")
        }
        _ => bad("model", Grade::Fail, format!("not loaded within {MODEL_PATIENCE:?}"), "use a smaller model"),
    }
}

fn clock_now(now: Timestamp, synced: bool) -> Finding {
    let shown = now.strftime("%Y-%m-%d %H:%M:%S UTC");
    if now.as_second() < EARLIEST {
        let remedy = "set the clock (timedatectl), and look for a flat battery of the clock";
        return bad("clock", Grade::Fail, format!("{shown} cannot be"), remedy);
    }
    if synced {
        return ok("clock", format!("{shown}, kept by the machine's time service"));
    }
    let remedy = "let systemd-timesyncd run; in flight the drone's satellite time is compared as well";
    bad("clock", Grade::Warn, format!("{shown}, and nothing here vouches for it"), remedy)
}

fn disk(dir: &Path, needed_mb: u64) -> Finding {
    let shown = dir.display();
    let probe = dir.join(".doctor");
    let written = std::fs::write(&probe, b"doctor").and_then(|()| std::fs::File::open(&probe)?.sync_all());
    let _ = std::fs::remove_file(&probe);
    if let Err(error) = written {
        let remedy = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                "make room: remove old pictures (camera.keep_days), or use a larger disk"
            }
            _ => "make it the user's that runs aerie, or run the doctor as that user: sudo -u aerie aerie doctor",
        };
        return bad("disk", Grade::Fail, format!("{shown} cannot be written: {error}"), remedy);
    }
    match disk::free_mb(dir) {
        None => bad("disk", Grade::Warn, format!("{shown} does not say how much is free"), "look with df"),
        Some(free) if free < needed_mb => {
            let remedy = "remove old pictures (camera.keep_days), lower the outbox's budget, or use a larger disk";
            bad(
                "disk",
                Grade::Fail,
                format!("{free} MB free in {shown}, gates.storage_free_mb wants {needed_mb}"),
                remedy,
            )
        }
        Some(free) if free < 2 * needed_mb => bad(
            "disk",
            Grade::Warn,
            format!("only {free} MB free in {shown}"),
            "remove old pictures (camera.keep_days)",
        ),
        Some(free) => ok("disk", format!("{free} MB free in {shown}")),
    }
}

fn certificates(checked: &Checked, now: Timestamp) -> Vec<Finding> {
    let text = std::fs::read_to_string(&checked.file).unwrap_or_default();
    let config = toml::from_str(&text).unwrap_or(toml::Value::Boolean(false));
    let files = named::files(&config, &checked.base);
    let mut found = Vec::new();
    for file in &files {
        let pem = std::fs::read(&file.path).unwrap_or_default();
        let meant = file.key.ends_with("ca_file") || file.key.ends_with("cert_file");
        if meant || pem.windows(27).any(|window| window == b"-----BEGIN CERTIFICATE-----") {
            found.push(certificate(&file.key, &file.path, now));
        }
    }
    for cert in files.iter().filter(|file| file.key.ends_with("cert_file")) {
        let own = cert.key.replace("cert_file", "key_file");
        let Some(key) = files.iter().find(|file| file.key == own) else { continue };
        if let Err(why) = certificates::belongs(&cert.path, &key.path) {
            let what = format!("{}: {} {why}", key.key, key.path.display());
            found.push(bad(
                "certificates",
                Grade::Fail,
                what,
                format!("put the key of {} there, as PEM (PKCS #8)", cert.path.display()),
            ));
        }
    }
    for file in files.iter().filter(|file| file.key.ends_with("_file")) {
        use std::os::unix::fs::PermissionsExt;
        let secret = ["token", "password", "key", "secret"].iter().any(|word| file.key.contains(word));
        let mode = std::fs::metadata(&file.path).map_or(0, |meta| meta.permissions().mode());
        if secret && mode & 0o004 != 0 {
            let what = format!("{}: {} may be read by everyone", file.key, file.path.display());
            found.push(bad("secrets", Grade::Warn, what, "chmod 600 it, and give it to the user that runs aerie"));
        }
    }
    if found.is_empty() {
        found.push(ok("certificates", "none in use"));
    }
    found
}

fn certificate(key: &str, path: &Path, now: Timestamp) -> Finding {
    let remedy = "put a renewed one in its place; the station reads it at the next connection";
    match certificates::read(path) {
        Err(why) => {
            bad("certificates", Grade::Fail, format!("{key}: {} {why}", path.display()), "put a PEM file there")
        }
        Ok(ends) => {
            let days = ends.not_after.duration_since(now).as_hours().div_euclid(24);
            let what = format!("{key}: {} is good until {}", ends.subject, ends.not_after.strftime("%Y-%m-%d"));
            if now < ends.not_before {
                bad(
                    "certificates",
                    Grade::Fail,
                    format!("{what}, and not before {}", ends.not_before),
                    "is the clock right?",
                )
            } else if days < 0 {
                bad("certificates", Grade::Fail, format!("{what}: that is past"), remedy)
            } else if days < SOON_DAYS {
                bad("certificates", Grade::Warn, format!("{what}: {days} days are left"), remedy)
            } else {
                ok("certificates", what)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_running_station_complains_of_is_graded_and_keeps_its_remedy() {
        let status = json!({"problems": [
            {"part": "uplink", "message": "not connected", "remedy": "check the network"},
            {"part": "vehicle", "message": "the drone is not heard", "remedy": "power"},
            {"part": "outbox", "message": "3 set aside", "remedy": "look"},
        ]});
        let found = by_station(&status);
        let grade = |part: &str| found.iter().find(|f| f.part == part).map(|f| f.grade);
        assert_eq!(grade("broker"), Some(Grade::Warn));
        assert_eq!(grade("autopilot"), Some(Grade::Fail));
        assert_eq!(grade("dock"), Some(Grade::Ok));
        assert_eq!(grade("station"), Some(Grade::Warn), "what has no place of its own is not swallowed");
        assert!(found.iter().all(|f| f.grade == Grade::Ok || f.remedy.is_some()));
    }

    #[test]
    fn who_may_read_is_decided_by_owner_then_group_then_others() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker.password");
        std::fs::write(&path, "x").unwrap();
        let meta = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            std::fs::metadata(&path).unwrap()
        };
        let (owner, group) = (meta(0o600).uid(), meta(0o600).gid());
        let other = owner + 1000;
        assert!(!may_read(&meta(0o600), other, &[]) && !may_read(&meta(0o600), other, &[group]));
        assert!(may_read(&meta(0o640), other, &[group]) && !may_read(&meta(0o640), other, &[]));
        assert!(may_read(&meta(0o604), other, &[]));
        assert!(may_read(&meta(0o000), 0, &[]), "root reads everything");
    }

    #[test]
    fn a_clock_of_before_aerie_is_wrong_and_one_nobody_vouches_for_is_doubtful() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(clock_now(at(0), true).grade, Grade::Fail);
        assert_eq!(clock_now(at(EARLIEST + 1), false).grade, Grade::Warn);
        assert_eq!(clock_now(at(EARLIEST + 1), true).grade, Grade::Ok);
    }

    #[test]
    fn a_certificate_is_warned_of_before_it_ends_and_fails_after() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, include_str!("test-certificate.pem")).unwrap();
        let ends = certificates::read(&path).unwrap();
        let days = |n: i64| ends.not_before.saturating_add(SignedDuration::from_hours(24 * n)).unwrap();
        for (day, grade) in [(-1, Grade::Fail), (1, Grade::Warn), (31, Grade::Fail)] {
            assert_eq!(certificate("uplink.ca_file", &path, days(day)).grade, grade, "day {day}");
        }
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nrubbish").unwrap();
        assert_eq!(certificate("uplink.ca_file", &path, days(1)).grade, Grade::Fail);
    }
}
