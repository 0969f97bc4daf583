//! The station on a real autopilot in software-in-the-loop. Nobody needs one to build or test aerie: without it each of
//! these says that it is skipped. To run them, start the autopilot on the ground with a charged battery and name it:
//!
//!   AERIE_SITL_ARDUPILOT=tcpout:127.0.0.1:5760 cargo nextest run sitl
//!   AERIE_SITL_PX4=udpin:127.0.0.1:14550 cargo nextest run sitl
//!
//! They fly one after the other on the same autopilot, in real time, some minutes each.

#![expect(clippy::disallowed_methods, reason = "tests wait for other processes")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const AERIE: &str = env!("CARGO_BIN_EXE_aerie");
const AUTOPILOTS: [&str; 2] = ["AERIE_SITL_ARDUPILOT", "AERIE_SITL_PX4"];

/// Ends its process with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let until = Instant::now() + Duration::from_secs(10);
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One drone, one flight: where tests share a process they wait for each other. A test that failed in the air leaves the
/// drone to come home by itself; the next waits for that too.
static DRONE: Mutex<()> = Mutex::new(());

/// Runs `test` on each autopilot that is named, and says which are not.
fn with_autopilots(test: impl Fn(&str)) {
    let _turn: MutexGuard<()> = DRONE.lock().unwrap_or_else(PoisonError::into_inner);
    for name in AUTOPILOTS {
        match std::env::var(name) {
            Ok(url) if !url.is_empty() => test(&url),
            _ => eprintln!("skipped: {name} names no running autopilot"),
        }
    }
}

fn until<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < limit, "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A station's surroundings with the autopilot in it, and a small area to fly: east of the dock, 90 by 60 m.
struct Site {
    _sim: Running,
    dir: tempfile::TempDir,
}

impl Site {
    fn around(url: &str) -> Site {
        // A drone that is still on its way home from the test before is waited for.
        let limit = Instant::now() + Duration::from_secs(240);
        loop {
            let dir = tempfile::tempdir().unwrap();
            let mut child = Command::new(AERIE)
                .args(["sim", "--seed", "2", "--vehicle", url, "--out"])
                .arg(dir.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let sim = Running(child);
            if lines.by_ref().any(|line| line.unwrap().contains("Ctrl-C")) {
                let site = Site { _sim: sim, dir };
                site.shrink();
                site.own_port();
                return site;
            }
            assert!(Instant::now() < limit, "the autopilot at {url} is not ready to fly");
            std::thread::sleep(Duration::from_secs(5));
        }
    }

    fn shrink(&self) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        let value: toml::Value = toml::from_str(&text).unwrap();
        let place = |key| value["station"]["dock"][key].as_float().unwrap();
        let (lat, lon) = (place("lat"), place("lon"));
        let (m_lat, m_lon) = (1.0 / 111_200.0, 1.0 / (111_320.0 * lat.to_radians().cos()));
        let ring: Vec<_> = [(0.0, -30.0), (90.0, -30.0), (90.0, 30.0), (0.0, 30.0), (0.0, -30.0)]
            .map(|(east, north)| json!([lon + east * m_lon, lat + north * m_lat]))
            .into();
        let area = json!({"type": "Polygon", "coordinates": [ring]});
        std::fs::write(self.dir.path().join("areas/town.geojson"), area.to_string()).unwrap();
    }

    /// Not the usual port, for which others on the machine may be waiting when the station is killed.
    fn own_port(&self) {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = std::fs::read_to_string(self.config()).unwrap();
        let usual = format!("listen = \"{}\"", self.address("console.listen"));
        assert!(text.contains(&usual), "{text}");
        std::fs::write(self.config(), text.replace(&usual, &format!("listen = \"{port}\""))).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    fn station(&self) -> Running {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("station.log"));
        let run = Command::new(AERIE).args(["run", "--config"]).arg(self.config()).stderr(log.unwrap()).spawn();
        Running(run.unwrap())
    }

    fn address(&self, key: &str) -> String {
        let value: toml::Value = toml::from_str(&std::fs::read_to_string(self.config()).unwrap()).unwrap();
        let (table, key) = key.split_once('.').unwrap();
        value[table][key].as_str().unwrap().to_owned()
    }

    fn get(&self, path: &str) -> Option<Value> {
        let url = format!("http://{}/api/v1/{path}", self.address("console.listen"));
        ureq::get(&url).call().ok()?.body_mut().read_json().ok()
    }

    /// Throws a switch of the simulated surroundings.
    fn switch(&self, what: &Value) {
        let url = format!("{}/drone", self.address("dock.url"));
        ureq::post(&url).send_json(what).unwrap();
    }

    fn patrol(&self, args: &[&str]) -> (bool, String) {
        let done = Command::new(AERIE).arg("patrol").args(args).arg("--config").arg(self.config()).output().unwrap();
        let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        (done.status.success(), text)
    }

    /// Waits until every gate is open, and starts.
    fn start(&self) {
        let mut shut = Value::Null;
        let limit = Instant::now() + Duration::from_secs(180);
        loop {
            let status = self.get("status").unwrap_or_default();
            let gates = status["gates"].as_array().cloned().unwrap_or_default();
            if !gates.is_empty() && gates.iter().all(|g| g["passed"] == true) && status["uplink"]["connected"] == true {
                break;
            }
            if !gates.is_empty() {
                shut = gates.into_iter().filter(|g| g["passed"] != true).collect();
            }
            assert!(Instant::now() < limit, "the gates do not open: {shut}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(500));
        }
        let (started, said) = self.patrol(&["start", "town"]);
        assert!(started, "{said}\n{}", self.log());
    }

    fn newest(&self) -> Option<Value> {
        self.get("sorties")?.as_array()?.first().cloned()
    }

    fn in_state(&self, state: &str, seconds: u64) -> Value {
        let mut last = Value::Null;
        let limit = Instant::now() + Duration::from_secs(seconds);
        loop {
            last = self.newest().unwrap_or(last);
            if last["state"] == state {
                return last;
            }
            let over = Instant::now() > limit || !last["ended_at"].is_null();
            assert!(!over, "the sortie is not {state} within {seconds} s but {}\n{}", last["steps"], self.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn ended(&self, seconds: u64) -> Value {
        until(&format!("the sortie's end\n{}", self.log()), seconds, || {
            self.newest().filter(|s| !s["ended_at"].is_null())
        })
    }

    fn dock_closes(&self) {
        until("the dock is closed over it", 60, || (self.get("status")?["dock"]["state"] == "closed").then_some(()));
    }

    fn pictures(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("media")).map_or(0, Iterator::count)
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.dir.path().join("station.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

fn states(sortie: &Value) -> Vec<&str> {
    sortie["steps"].as_array().unwrap().iter().map(|s| s["state"].as_str().unwrap()).collect()
}

#[test]
fn sitl_a_sortie_is_flown_with_its_pictures_from_dock_to_dock() {
    with_autopilots(|url| {
        let site = Site::around(url);
        let _station = site.station();
        site.start();
        site.in_state("airborne", 90);
        let ended = site.ended(400);
        assert_eq!((&ended["state"], &ended["reason"]), (&json!("done"), &json!("flown to its end")), "{}", site.log());
        // ArduPilot flies the return at a mission's end in the mission's own mode, so that "returning" may not show.
        let whole = ["gating", "dock_opening", "arming", "airborne", "landing", "dock_closing", "done"];
        let steps: Vec<_> = states(&ended).into_iter().filter(|s| !["planned", "returning"].contains(s)).collect();
        assert_eq!(steps, whole);
        let frames = ended["frames"].as_u64().unwrap();
        let passed_over = ended["survey"]["redundant"].as_u64().unwrap();
        assert!(
            frames >= 4 && (frames + passed_over) as usize == site.pictures(),
            "{frames} looked at, {} taken",
            site.pictures()
        );
        assert!(ended["coverage"].as_f64().unwrap() > 0.9, "{ended}");
        site.dock_closes();
    });
}

#[test]
fn sitl_a_flight_can_be_paused_continued_and_called_back() {
    with_autopilots(|url| {
        let site = Site::around(url);
        let _station = site.station();
        site.start();
        site.in_state("airborne", 90);
        until("it takes pictures", 120, || (site.pictures() >= 2).then_some(()));
        let (paused, said) = site.patrol(&["pause"]);
        assert!(paused, "{said}");
        site.in_state("paused", 15);
        std::thread::sleep(Duration::from_secs(6));
        let held = site.pictures();
        std::thread::sleep(Duration::from_secs(6));
        assert_eq!(site.pictures(), held, "it flies on while it is paused");
        assert!(site.patrol(&["resume"]).0);
        site.in_state("airborne", 15);
        until("it goes on", 60, || (site.pictures() > held).then_some(()));
        assert!(site.patrol(&["return"]).0);
        let ended = site.ended(240);
        assert_eq!(ended["state"], "aborted", "{}", site.log());
        assert!(ended["reason"].as_str().unwrap().starts_with("called back by"), "{ended}");
        site.dock_closes();
    });
}

#[test]
fn sitl_a_station_killed_in_the_air_adopts_the_flight_and_closes_the_dock_over_it() {
    with_autopilots(|url| {
        let site = Site::around(url);
        let station = site.station();
        site.start();
        let flying = site.in_state("airborne", 90);
        until("it takes pictures", 120, || (site.pictures() >= 2).then_some(()));
        // No time for anything: as a power cut does it.
        assert!(Command::new("kill").args(["-9", &station.0.id().to_string()]).status().unwrap().success());
        drop(station);
        let _again = site.station();
        until("the station is up again", 60, || site.newest());
        let ended = site.ended(400);
        assert_eq!(ended["id"], flying["id"]);
        assert!(matches!(ended["state"].as_str().unwrap(), "done" | "aborted"), "{ended}\n{}", site.log());
        let steps = states(&ended);
        assert!(steps.contains(&"adopted"), "{steps:?}");
        assert_eq!(steps.iter().filter(|s| **s == "arming").count(), 1, "{steps:?}");
        site.dock_closes();
        let delivery =
            until("everything is delivered", 60, || site.get("delivery").filter(|d| d["queued"].as_u64() == Some(0)));
        assert_eq!(delivery["lost"].as_u64().unwrap_or(0), 0, "{delivery}");
    });
}

#[test]
fn sitl_a_drone_that_lost_its_station_comes_home_by_itself_and_the_record_says_so() {
    with_autopilots(|url| {
        let site = Site::around(url);
        let _station = site.station();
        site.start();
        site.in_state("airborne", 90);
        until("it takes pictures", 120, || (site.pictures() >= 2).then_some(()));
        site.switch(&json!({"mute": true}));
        let taken = site.pictures();
        std::thread::sleep(Duration::from_secs(20));
        // The failsafe takes 5 s. Whatever it does on the way home, it does not go on with its mission.
        assert!(site.pictures() <= taken + 4, "{taken} pictures when the link was lost, {} now", site.pictures());
        site.switch(&json!({"mute": false}));
        let ended = site.ended(240);
        assert_eq!(ended["state"], "aborted", "{ended}\n{}", site.log());
        site.dock_closes();
    });
}
