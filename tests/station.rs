//! The station as a whole, through its command line, its page's interface and its broker, on simulated hardware.

#![expect(clippy::disallowed_methods, reason = "tests wait for other processes")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const AERIE: &str = env!("CARGO_BIN_EXE_aerie");

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

/// Simulated hardware and broker; returns the configuration it wrote.
fn simulate(dir: &Path, more: &[&str]) -> (Running, PathBuf) {
    let mut child = Command::new(AERIE)
        .args(["sim", "--seed", "2", "--speed", "10", "--out"])
        .arg(dir)
        .args(more)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let sim = Running(child);
    assert!(lines.by_ref().any(|line| line.unwrap().contains("Ctrl-C")), "the simulation ended early");
    (sim, dir.join("config.toml"))
}

fn run(config: &Path) -> Running {
    let log = std::fs::File::create(config.with_file_name("station.log")).unwrap();
    Running(Command::new(AERIE).args(["run", "--config"]).arg(config).stderr(log).spawn().unwrap())
}

fn cli(config: &Path, args: &[&str]) -> (bool, String) {
    let done = Command::new(AERIE).args(args).arg("--config").arg(config).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    (done.status.success(), text)
}

fn address(config: &Path, key: &str) -> String {
    let text = std::fs::read_to_string(config).unwrap();
    let value: toml::Value = toml::from_str(&text).unwrap();
    let (table, key) = key.split_once('.').unwrap();
    value[table][key].as_str().unwrap().to_owned()
}

fn get(config: &Path, path: &str) -> Option<Value> {
    let url = format!("http://{}/api/v1/{path}", address(config, "console.listen"));
    ureq::get(&url).call().ok()?.body_mut().read_json().ok()
}

/// All gates known, so that a refusal is one of a gate that is red.
fn ready(config: &Path) {
    until("the station knows all its gates", 60, || {
        let status = get(config, "status")?;
        let gates = status["gates"].as_array()?;
        (!gates.is_empty() && gates.iter().all(|g| !g["passed"].is_null()) && status["uplink"]["connected"] == true)
            .then_some(())
    });
}

fn listen(config: &Path, topics: &[&str]) -> Running {
    let broker = address(config, "uplink.url");
    let port = broker.rsplit(':').next().unwrap().to_owned();
    let file = std::fs::File::create(config.with_file_name("heard.ndjson")).unwrap();
    let topics = topics.iter().flat_map(|topic| ["-t".to_owned(), format!("aerie/v1/demo-01/{topic}")]);
    let child = Command::new("mosquitto_sub")
        .args(["-V", "mqttv5", "-p", &port, "-q", "1", "-F", "%J"])
        .args(topics)
        .stdout(file)
        .spawn()
        .expect("mosquitto_sub is missing: apt-get install mosquitto-clients");
    Running(child)
}

fn heard(config: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(config.with_file_name("heard.ndjson")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn with_too_much_wind_a_patrol_is_refused_by_hand_and_by_schedule_and_everyone_hears_why() {
    let dir = tempfile::tempdir().unwrap();
    let (_sim, config) = simulate(dir.path(), &["--wind", "15"]);
    let _ear = listen(&config, &["sortie/#"]);
    // Due in a few seconds, in the station's own time zone.
    let due = jiff::Timestamp::now().checked_add(jiff::Span::new().seconds(12)).unwrap();
    let due = due.in_tz("Asia/Shanghai").unwrap().strftime("%H:%M:%S").to_string();
    let mut text = std::fs::read_to_string(&config).unwrap();
    text.push_str(&format!("\n[patrols.schedule]\nat = [\"{due}\"]\n"));
    std::fs::write(&config, text).unwrap();
    let _station = run(&config);
    ready(&config);

    let (started, said) = cli(&config, &["patrol", "start", "town"]);
    assert!(!started && said.contains("wind"), "{said}");
    let refused = until("both were refused", 60, || {
        let sorties = get(&config, "sorties")?;
        let refused: Vec<Value> = sorties.as_array()?.iter().filter(|s| s["state"] == "refused").cloned().collect();
        (refused.len() >= 2).then_some(refused)
    });
    let triggers: Vec<_> = refused.iter().map(|s| s["trigger"].as_str().unwrap()).collect();
    assert!(triggers.contains(&"schedule") && triggers.contains(&"cli"), "{triggers:?}");
    assert!(refused.iter().all(|s| s["reason"].as_str().unwrap().contains("wind")), "{refused:?}");
    let (_, status) = cli(&config, &["patrol", "status"]);
    assert!(status.contains("wind"), "{status}");
    // Its window lasts: it waits in it, and says for what.
    let waits = until("the scheduled one waits", 30, || {
        get(&config, "patrols")?[0]["waits"]["why"].as_str().map(str::to_owned)
    });
    assert!(waits.contains("wind"), "{waits}");
    let (_, listed) = cli(&config, &["patrol", "list"]);
    assert!(listed.contains("waits until") && listed.contains("wind"), "{listed}");
    until("both refusals are heard upstream", 30, || {
        let reasons = heard(&config).into_iter().filter(|m| m["payload"]["data"]["state"] == "refused");
        let windy = reasons.filter(|m| m["payload"]["data"]["reason"].as_str().is_some_and(|r| r.contains("wind")));
        (windy.count() >= 2).then_some(())
    });
}

/// Signs a command as the operator and publishes it.
fn send(config: &Path, name: &str, topic: &str, args: &Value) {
    let sign = ["command", "sign", "--kid", "demo-operator", "--station", "demo-01", "--name", name, "--key"];
    let key = config.with_file_name("operator.key");
    let token = Command::new(AERIE).args(sign).arg(&key).args(["--args", &args.to_string()]).output().unwrap();
    assert!(token.status.success(), "{token:?}");
    let port = address(config, "uplink.url").rsplit(':').next().unwrap().to_owned();
    let (topic, token) = (format!("aerie/v1/demo-01/{topic}"), String::from_utf8(token.stdout).unwrap());
    let sent = Command::new("mosquitto_pub")
        .args(["-V", "mqttv5", "-p", &port, "-q", "1", "-t", &topic, "-m", token.trim()])
        .status()
        .unwrap();
    assert!(sent.success());
}

#[test]
fn a_signed_verdict_and_a_signed_request_reach_a_station_that_flies_and_are_carried_out_and_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (_sim, config) = simulate(dir.path(), &[]);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("may = [\"patrol.*\", ", "may = [\"patrol.*\", \"verdict\", \"request\", "))
        .unwrap();
    let _ear = listen(&config, &["case/#", "sortie/#", "reply/#"]);
    let _station = run(&config);
    ready(&config);
    assert!(cli(&config, &["patrol", "start", "town"]).0);
    let of_type = |kind: &str| -> Vec<Value> {
        let heard = heard(&config).into_iter().map(|m| m["payload"].clone());
        heard.filter(|event| event["type"] == kind).collect()
    };
    let case = until("a case is heard", 180, || of_type("aerie.case.v1").first().cloned());
    let id = case["subject"].as_str().unwrap();

    let verdict = serde_json::json!({"case": id, "verdict": "rejected", "reason": "permitted, seen on site"});
    send(&config, "verdict", "verdict", &verdict);
    let judged = until("the verdict is heard back", 60, || {
        let mut events = of_type("aerie.case.v1").into_iter();
        events.find(|e| e["subject"] == id && e["data"]["properties"]["state"] == "rejected")
    });
    assert!(judged["sequence"].as_u64() > case["sequence"].as_u64(), "{judged}");

    let at = &case["data"]["geometry"]["coordinates"];
    let later = jiff::Timestamp::now().checked_add(jiff::Span::new().hours(1)).unwrap();
    let request = serde_json::json!({
        "point": {"lat": at[1], "lon": at[0]}, "why": "citizen", "note": "smoke, says a caller", "until": later});
    send(&config, "request", "request", &request);
    // The patrol's flight comes first; then this one goes through the same gates.
    assert!(cli(&config, &["patrol", "return"]).0);
    let asked = until("the request flies", 240, || {
        let mut events = of_type("aerie.sortie.v1").into_iter();
        events.find(|e| e["data"]["state"] == "airborne" && e["data"]["trigger"] == "request")
    });
    assert_eq!(asked["data"]["patrol"], "request", "{asked}");
    let replies = || -> Vec<Value> {
        let heard = heard(&config).into_iter();
        heard.filter(|m| m["topic"].as_str().unwrap().contains("/reply/")).map(|m| m["payload"].clone()).collect()
    };
    let replies = until("each is answered once", 30, || Some(replies()).filter(|all| all.len() >= 2));
    assert!(replies.len() == 2 && replies.iter().all(|reply| reply["status"] == "done"), "{replies:?}");
    assert!(replies.iter().any(|reply| reply["data"]["state"] == "waiting"), "{replies:?}");
}

#[test]
fn a_scheduled_patrol_flies_by_itself_and_is_called_back_by_a_signed_command() {
    let dir = tempfile::tempdir().unwrap();
    let (_sim, config) = simulate(dir.path(), &[]);
    let _ear = listen(&config, &["sortie/#"]);
    let due = jiff::Timestamp::now().checked_add(jiff::Span::new().seconds(15)).unwrap();
    let due = due.in_tz("Asia/Shanghai").unwrap().strftime("%H:%M:%S").to_string();
    let mut text = std::fs::read_to_string(&config).unwrap();
    text.push_str(&format!("\n[patrols.schedule]\nat = [\"{due}\"]\n"));
    std::fs::write(&config, text).unwrap();
    let _station = run(&config);

    until("it is in the air", 90, || {
        let sorties = get(&config, "sorties")?;
        sorties.as_array()?.iter().find(|s| s["state"] == "airborne" && s["trigger"] == "schedule").map(|_| ())
    });
    let (started, said) = cli(&config, &["patrol", "start", "town"]);
    assert!(!started && said.contains("one flies at a time"), "{said}");

    send(&config, "patrol.cancel", "command/patrol.cancel", &serde_json::json!({}));
    let ended = until("it came back and ended", 120, || {
        let sorties = get(&config, "sorties")?;
        sorties.as_array()?.iter().find(|s| s["trigger"] == "schedule" && !s["ended_at"].is_null()).cloned()
    });
    assert_eq!(ended["state"], "aborted", "{ended}");
    assert_eq!(ended["reason"], "called back");
    until("the end is heard upstream", 30, || {
        heard(&config).iter().any(|m| m["payload"]["data"]["state"] == "aborted").then_some(())
    });
}

/// The newest sortie, as the page sees it.
fn newest(config: &Path) -> Option<Value> {
    get(config, "sorties")?.as_array()?.first().cloned()
}

fn in_state(config: &Path, state: &str, seconds: u64) -> Value {
    until(&format!("the sortie is {state}"), seconds, || newest(config).filter(|s| s["state"] == state))
}

fn states(sortie: &Value) -> Vec<&str> {
    sortie["steps"].as_array().unwrap().iter().map(|s| s["state"].as_str().unwrap()).collect()
}

#[test]
fn a_held_station_flies_nothing_and_a_flight_can_be_paused_called_back_and_continued() {
    let dir = tempfile::tempdir().unwrap();
    let (_sim, config) = simulate(dir.path(), &[]);
    let _station = run(&config);
    ready(&config);
    let (held, said) = cli(&config, &["service", "hold", "--reason", "festival"]);
    assert!(held && said.contains("festival"), "{said}");
    let (started, said) = cli(&config, &["patrol", "start", "town"]);
    assert!(!started && said.contains("festival"), "{said}");
    assert!(cli(&config, &["service", "release"]).0);

    let (started, said) = cli(&config, &["patrol", "start", "town"]);
    assert!(started, "{said}");
    in_state(&config, "airborne", 60);
    until("it has flown some of its way", 60, || newest(&config).filter(|s| s["progress"].as_f64() > Some(0.15)));
    assert!(cli(&config, &["patrol", "pause"]).0);
    let paused = in_state(&config, "paused", 10);
    let (twice, said) = cli(&config, &["patrol", "pause"]);
    assert!(!twice && said.contains("Paused"), "{said}");
    assert!(cli(&config, &["patrol", "resume"]).0);
    in_state(&config, "airborne", 10);
    let (back, said) = cli(&config, &["patrol", "return"]);
    assert!(back, "{said}");
    let ended = until("it ended", 120, || newest(&config).filter(|s| !s["ended_at"].is_null()));
    assert_eq!(ended["state"], "aborted", "{ended}");
    assert!(ended["reason"].as_str().unwrap().starts_with("called back by"), "{ended}");
    assert_eq!(ended["can_be_continued"], true);
    assert_eq!(ended["id"], paused["id"]);

    let (started, said) = cli(&config, &["patrol", "start", "town", "--continues", "last"]);
    assert!(started, "{said}");
    let rest = in_state(&config, "airborne", 60);
    assert_eq!(rest["continues"], ended["id"]);
    let length = |s: &Value| s["route"]["coordinates"].as_array().unwrap().len();
    assert!(length(&rest) <= length(&ended), "{rest}");
    assert_ne!(rest["route"]["coordinates"][0], ended["route"]["coordinates"][0]);
    assert!(cli(&config, &["patrol", "cancel"]).0);
    until("the rest ended", 120, || newest(&config).filter(|s| !s["ended_at"].is_null()));
}

#[test]
fn a_station_killed_in_the_air_adopts_its_flight_and_brings_the_record_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let (_sim, config) = simulate(dir.path(), &[]);
    let station = run(&config);
    ready(&config);
    assert!(cli(&config, &["patrol", "start", "town"]).0);
    let flying = in_state(&config, "airborne", 60);
    until("it has flown some of its way", 60, || newest(&config).filter(|s| s["progress"].as_f64() > Some(0.2)));
    // No time for anything: as a power cut does it.
    assert!(Command::new("kill").args(["-9", &station.0.id().to_string()]).status().unwrap().success());
    drop(station);
    // Its drone flies on and takes pictures that nobody hears of.
    let taken = || std::fs::read_dir(dir.path().join("media")).unwrap().count() as u64;
    let before = taken();
    until("pictures are taken meanwhile", 30, || (taken() >= before + 2).then_some(()));
    let _again = run(&config);
    let ended = until("it ended", 180, || newest(&config).filter(|s| !s["ended_at"].is_null()));
    assert_eq!(ended["id"], flying["id"]);
    assert!(matches!(ended["state"].as_str().unwrap(), "done" | "aborted"), "{ended}");
    let steps = states(&ended);
    assert!(steps.contains(&"adopted"), "{steps:?}");
    assert_eq!(steps.iter().filter(|s| **s == "arming").count(), 1, "{steps:?}");
    until("the dock is closed over it", 30, || (get(&config, "status")?["dock"]["state"] == "closed").then_some(()));
    // Every picture was taken up: those from before the crash, those of meanwhile, and those after it.
    let survey = |key: &str| ended["survey"][key].as_u64().unwrap();
    let passed_over = ["redundant", "blurred", "badly_exposed", "off_target"].map(survey).iter().sum::<u64>();
    let frames = ended["frames"].as_u64().unwrap();
    assert_eq!((frames + passed_over, ended["frames_lost"].as_u64()), (taken(), Some(0)), "{ended}");
    // None of the cases is doubled.
    let cases = get(&config, "cases").unwrap();
    let mut ids: Vec<_> = cases["features"].as_array().unwrap().iter().map(|c| c["id"].to_string()).collect();
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn a_bad_configuration_flies_nothing_and_the_page_names_every_fault() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("station.toml");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = aerie::config::EXAMPLE
        .replace("127.0.0.1:8480", &format!("127.0.0.1:{port}"))
        .replace("wind_m_s", "wind_ms")
        .replace("aspect = 1.3333", "aspect = \"wide\"");
    // A trusted root that was cut short on its way here.
    std::fs::write(dir.path().join("root.json"), "{\"signed\": {\"_type\": \"root\", \"vers").unwrap();
    let text = text + "\n[update]\nroot = \"root.json\"\n";
    std::fs::write(&config, text).unwrap();
    let _station = run(&config);
    let status = until("the page is up", 30, || get(&config, "status"));
    assert_eq!(status["state"], "degraded");
    let problems = status["problems"].to_string();
    assert!(problems.contains("gates.wind_ms") && problems.contains("camera.aspect"), "{problems}");
    assert!(problems.contains("update.root") && problems.contains("root.json"), "{problems}");
}

#[test]
fn the_demo_flies_finds_places_and_delivers() {
    let dir = tempfile::tempdir().unwrap();
    let summary = dir.path().join("summary.json");
    let out = dir.path().join("out");
    let done = Command::new(AERIE)
        .args(["demo", "--headless", "--sorties", "1", "--seed", "3", "--summary"])
        .arg(&summary)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    let text = std::fs::read_to_string(&summary).unwrap_or_else(|_| panic!("no summary: {done:?}"));
    let summary: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(summary["sorties"], 1, "{text}");
    assert_eq!(summary["model"]["name"], "aerie-town", "{text}");
    // How much is found, and how much wrongly, is the model's matter: the demo itself measures it and fails by it. Here
    // half is enough to show that looking, placing and telling work together.
    assert!(summary["found"].as_u64().unwrap() * 2 >= summary["planted"].as_u64().unwrap(), "{text}");
    let passed = summary["passed"] == true;
    assert_eq!(done.status.success(), passed, "{text}");
    assert!(summary["position_error_m"]["median"].as_f64().unwrap() < 3.0, "{text}");
    assert_eq!(summary["delivered"], summary["cases"], "{text}");
    assert_eq!(summary["duplicates"], 0, "{text}");
}
