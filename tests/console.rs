//! Promises of the console and of the commands that ask it, on a real `aerie run` without any hardware behind it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aerie::cases::{Case, CaseState, Kind};
use aerie::geo::{Ellipse, LatLon, Located};
use aerie::runtime::clock::Trust;
use aerie::runtime::store::{Store, Table};
use aerie::uplink::commands::{self, Door, Outcome, ReplyTo, Status, Submission};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Long enough for a busy machine; nothing waits for it when all is well.
const LIMIT: Duration = Duration::from_secs(60);

const AERIE: &str = env!("CARGO_BIN_EXE_aerie");

fn config(console: SocketAddr) -> String {
    format!(
        r#"
[station]
id = "danzao-01"
name = "丹灶一号站"
dock = {{ lat = 23.05, lon = 113.0 }}
state_dir = "state"
[console]
listen = "{console}"
[vehicle]
url = "udpin:127.0.0.1:0"
[camera]
media_dir = "media"
horizontal_fov_deg = 66.0
[dock]
url = "http://127.0.0.1:9"
[weather]
url = "http://127.0.0.1:9"
[perception]
model = "no-such-model"
[uplink]
url = "mqtt://127.0.0.1:9"
[[patrols]]
id = "north"
name = "北片巡查"
area = "north.geojson"
height_m = 75.0
[patrols.schedule]
at = ["09:00"]
"#
    )
}

const AREA: &str = r#"{"type": "Polygon", "coordinates": [[[113.001, 23.051], [113.005, 23.051], [113.005, 23.053], [113.001, 23.053], [113.001, 23.051]]]}"#;

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A station as its own process; it ends with the test.
struct Station {
    child: Child,
    console: SocketAddr,
    dir: TempDir,
}

impl Drop for Station {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Between two looks at another process.
#[expect(clippy::disallowed_methods, reason = "no runtime here whose threads it could hold")]
fn pause() {
    std::thread::sleep(Duration::from_millis(30));
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }
}

fn place(console: SocketAddr, change: impl FnOnce(String) -> String) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("north.geojson"), AREA).unwrap();
    std::fs::write(dir.path().join("station.toml"), change(config(console))).unwrap();
    std::fs::create_dir(dir.path().join("state")).unwrap();
    dir
}

fn spawn(dir: TempDir, console: SocketAddr) -> Station {
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let child = Command::new(AERIE)
        .args(["run", "--config"])
        .arg(dir.path().join("station.toml"))
        .env("AERIE_LOG", "info")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    Station { child, console, dir }
}

fn start_in(dir: TempDir, console: SocketAddr) -> Station {
    let mut station = spawn(dir, console);
    station.wait_for("an answer", |s| TcpStream::connect(s.console).is_ok());
    station
}

fn start() -> Station {
    let console = free_port();
    start_in(place(console, |text| text), console)
}

fn ask_at(at: SocketAddr, request: &str, headers: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let host = if headers.contains("Host:") { String::new() } else { format!("Host: {at}\r\n") };
    write!(stream, "{request} HTTP/1.1\r\n{host}{headers}Content-Length: 0\r\nConnection: close\r\n\r\n")?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    let split = all.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&all[..split]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    Ok(Answer { status, head, body: all[split + 4..].to_vec() })
}

const OURS: &str = "X-Aerie-Console: 1\r\n";

impl Station {
    fn config(&self) -> PathBuf {
        self.dir.path().join("station.toml")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn wait_for(&mut self, what: &str, mut there: impl FnMut(&Station) -> bool) {
        let until = Instant::now() + LIMIT;
        while !there(self) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the station ended ({status}) before {what}:\n{}", self.log());
            }
            assert!(Instant::now() < until, "no {what} within {LIMIT:?}:\n{}", self.log());
            pause();
        }
    }

    fn ask(&self, request: &str, headers: &str) -> Answer {
        ask_at(self.console, request, headers).unwrap()
    }

    fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), "")
    }

    /// Runs `aerie` against this station.
    fn aerie(&self, args: &[&str]) -> Output {
        let url = format!("http://{}", self.console);
        aerie(&[args, &["--url", &url]].concat())
    }

    /// The words of the event stream, as they come.
    fn events(&self) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.console).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        BufReader::new(stream)
    }

    fn stop(mut self) -> (std::process::ExitStatus, String) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let until = Instant::now() + LIMIT;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.log());
            }
            pause();
        }
        panic!("the station does not stop:\n{}", self.log());
    }
}

/// The data of the next event of this name that fits.
fn next_event(events: &mut impl BufRead, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let mut is_ours = false;
    let until = Instant::now() + LIMIT;
    let mut line = String::new();
    while Instant::now() < until {
        line.clear();
        assert!(events.read_line(&mut line).expect("the stream goes on") > 0, "the stream ended before {name}");
        if let Some(event) = line.trim().strip_prefix("event: ") {
            is_ours = event == name;
        }
        if let (true, Some(data)) = (is_ours, line.trim().strip_prefix("data: ")) {
            let data: Value = serde_json::from_str(data).unwrap();
            if fits(&data) {
                return data;
            }
        }
    }
    panic!("no event {name} within {LIMIT:?}");
}

fn aerie(args: &[&str]) -> Output {
    Command::new(AERIE).args(args).env_remove("AERIE_TOKEN").env_remove("AERIE_URL").output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_bad_configuration_leaves_the_console_up_and_it_names_every_fault() {
    let console = free_port();
    let bad = |text: String| {
        text.replace("height_m = 75.0", "height_m = \"high\"").replace("[uplink]", "[gates]\nwind_ms = 3\n[uplink]")
    };
    let station = start_in(place(console, bad), console);

    let status = station.get("/api/v1/status").json();
    assert_eq!(status["state"], "degraded");
    let problems = status["problems"].to_string();
    for wanted in ["station.toml", "gates.wind_ms", "patrols[0].height_m"] {
        assert!(problems.contains(wanted), "{wanted} is missing in {problems}");
    }
    for path in ["sorties", "patrols", "cases", "map", "track", "delivery"] {
        assert_eq!(station.get(&format!("/api/v1/{path}")).status, 200, "{path}");
    }
    assert_eq!(station.get("/api/v1/frame/latest").status, 204);
    assert_eq!(station.get("/healthz").status, 503);
    next_event(&mut station.events(), "status", |s| s["state"] == "degraded");

    for path in ["/api/v1/patrols/north/start", "/api/v1/sortie/cancel"] {
        let refused = station.ask(&format!("POST {path}"), OURS);
        assert_eq!(refused.status, 409, "{path}");
        assert_eq!(refused.json()["error"], "configuration");
        assert!(refused.json()["reason"].as_str().unwrap().contains("nothing flies"));
    }
    let asked = aerie(&["service", "status", "--config", station.config().to_str().unwrap()]);
    assert_eq!(asked.status.code(), Some(1));
    assert!(out(&asked).contains("gates.wind_ms") && out(&asked).contains("remedy"), "{}", out(&asked));

    let (ended, log) = station.stop();
    assert_eq!(ended.code(), Some(1), "{log}");
}

#[test]
fn every_address_of_the_page_answers_in_its_shape() {
    let mut station = start();
    let status = station.get("/api/v1/status");
    assert!(status.head.contains("content-type: application/json"), "{}", status.head);
    let status = status.json();
    assert_eq!((&status["station"], &status["name"]), (&json!("danzao-01"), &json!("丹灶一号站")));
    assert_eq!(status["dock"]["state"], "unknown");
    assert_eq!(status["vehicle"]["linked"], false);
    assert_eq!(status["weather"], Value::Null);
    assert_eq!(status["sortie"], Value::Null);
    let gates = status["gates"].as_array().unwrap();
    assert!(gates.iter().any(|g| g["gate"] == "link" && g["passed"].is_null()), "{gates:?}");
    let parts = |status: &Value| -> Vec<String> {
        let problems = status["problems"].as_array().unwrap();
        problems.iter().map(|p| p["part"].as_str().unwrap().to_owned()).collect()
    };
    for part in ["vehicle", "weather", "dock", "perception", "uplink"] {
        assert!(parts(&status).contains(&part.to_owned()), "{part} is missing in {status}");
    }
    // Why perception does not run is said once it was tried.
    station.wait_for("word of the model", |s| {
        s.get("/api/v1/status").json()["problems"].to_string().contains("no-such-model")
    });

    let patrols = station.get("/api/v1/patrols").json();
    assert_eq!(patrols[0]["id"], "north");
    assert_eq!(patrols[0]["area"]["type"], "Polygon");
    assert_eq!(patrols[0]["schedule"], "09:00");
    station.wait_for("the next time", |s| s.get("/api/v1/patrols").json()[0]["next_at"].is_string());
    assert_eq!(station.get("/api/v1/sorties").json(), json!([]));
    assert_eq!(station.get("/api/v1/cases").json(), json!({"type": "FeatureCollection", "features": []}));
    assert_eq!(station.get("/api/v1/map").json(), json!({"type": "FeatureCollection", "features": []}));
    assert_eq!(station.get("/api/v1/track").json(), json!({"type": "LineString", "coordinates": []}));
    assert_eq!(station.get("/api/v1/frame/latest").status, 204);
    let delivery = station.get("/api/v1/delivery").json();
    assert_eq!(delivery, json!({"queued": 0, "delivered": 0, "latency_ms": {"p50": null, "p99": null, "count": 0}}));
    assert_eq!(station.get("/healthz").status, 503);
    for nowhere in ["/api/v1/nothing", "/api/v1/evidence/..%2F..%2Faerie.db", "/assets/none.js"] {
        let answer = station.get(nowhere);
        assert_eq!((answer.status, &answer.json()["error"]), (404, &json!("not_found")), "{nowhere}");
    }
    assert_eq!(station.ask("DELETE /api/v1/status", OURS).status, 405);

    // With every answer, also one that says no.
    for answer in [station.get("/"), station.get("/api/v1/status"), station.get("/nowhere")] {
        for wanted in [
            "content-security-policy: default-src 'self'",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
        ] {
            assert!(answer.head.contains(wanted), "{wanted} is missing in {}", answer.head);
        }
    }
    next_event(&mut station.events(), "status", |s| s["station"] == "danzao-01");
    // A reader that listens on does not hold up the end.
    let _listening = station.events();
    let (ended, log) = station.stop();
    assert_eq!(ended.code(), Some(0), "{log}");
}

#[test]
fn a_start_that_the_gates_refuse_says_why_everywhere() {
    let station = start();
    let mut events = station.events();
    next_event(&mut events, "status", |_| true);
    let refused = station.ask("POST /api/v1/patrols/north/start", &format!("{OURS}X-Aerie-Operator: li\r\n"));
    assert_eq!(refused.status, 409);
    let refused = refused.json();
    assert_eq!(refused["error"], "refused");
    assert!(refused["reason"].as_str().unwrap().contains("link"), "{refused}");
    assert!(refused["remedy"].is_string());

    let told = next_event(&mut events, "sortie", |s| s["state"] == "refused");
    assert_eq!((&told["patrol"], &told["operator"], &told["trigger"]), (&json!("north"), &json!("li"), &json!("page")));
    let sorties = station.get("/api/v1/sorties").json();
    assert_eq!(sorties.as_array().unwrap().len(), 1, "{sorties}");
    assert_eq!(sorties[0]["id"], told["id"]);
    assert_eq!(sorties[0]["route"]["type"], "LineString");
    assert_eq!(station.get("/api/v1/patrols").json()[0]["last"]["id"], told["id"]);

    let unknown = station.ask("POST /api/v1/patrols/south/start", OURS);
    assert_eq!((unknown.status, &unknown.json()["error"]), (404, &json!("unknown_patrol")));
    let idle = station.ask("POST /api/v1/sortie/cancel", OURS);
    assert_eq!(idle.status, 409);
    assert!(idle.json()["reason"].as_str().unwrap().contains("no sortie"));

    let asked = station.aerie(&["patrol", "start", "north"]);
    assert_eq!(asked.status.code(), Some(1));
    assert!(err(&asked).contains("refused") && err(&asked).contains("link"), "{}", err(&asked));
    assert_eq!(station.get("/api/v1/sorties").json()[0]["trigger"], "cli");
    let shown = station.aerie(&["patrol", "status"]);
    assert!(out(&shown).contains("state       refused"), "{}", out(&shown));
    assert_eq!(station.aerie(&["patrol", "status", "--watch"]).status.code(), Some(1), "not flown to its end");
    let listed = station.aerie(&["patrol", "list"]);
    assert!(out(&listed).contains("北片巡查") && out(&listed).contains("refused"), "{}", out(&listed));
    assert!(!out(&listed).contains('\u{1b}'));
    let json: Value = serde_json::from_slice(&station.aerie(&["patrol", "list", "--json"]).stdout).unwrap();
    assert_eq!(json[0]["id"], "north");
    let status = station.aerie(&["service", "status"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(
        out(&status).contains("the drone is not heard") && out(&status).contains("vehicle.url"),
        "{}",
        out(&status)
    );
}

#[test]
fn what_a_foreign_page_could_make_a_browser_send_is_refused() {
    let console = free_port();
    let dir = place(console, |text| text.replace("[vehicle]", "token_file = \"token\"\n[vehicle]"));
    std::fs::write(dir.path().join("token"), "secret\n").unwrap();
    let station = start_in(dir, console);
    let start = "POST /api/v1/patrols/north/start";

    for host in ["evil.example", "evil.example:8480", "192.168.1.1"] {
        let rebound = station.ask("GET /api/v1/status", &format!("Host: {host}\r\n"));
        assert_eq!((rebound.status, &rebound.json()["error"]), (403, &json!("host")), "{host}");
    }
    assert_eq!(station.ask("GET /api/v1/status", "Host: localhost:9000\r\n").status, 200);
    assert_eq!(station.ask(start, "Authorization: Bearer secret\r\n").status, 403, "without our header");
    for header in
        ["", "Authorization: Bearer wrong\r\n", "Authorization: Bearer\r\n", "Authorization: Basic secret\r\n"]
    {
        let answer = station.ask(start, &format!("{OURS}{header}"));
        assert_eq!(answer.status, 401, "{header}");
        assert!(answer.head.contains("www-authenticate: bearer"));
    }
    assert_eq!(station.get("/api/v1/sorties").json(), json!([]), "none of these came through");
    // Through the door, and refused there by the gates.
    assert_eq!(station.ask(start, &format!("{OURS}Authorization: Bearer secret\r\n")).status, 409);

    let without = station.aerie(&["patrol", "cancel"]);
    assert_eq!(without.status.code(), Some(1));
    assert!(err(&without).contains("--token-file"), "{}", err(&without));
    let token = station.dir.path().join("token");
    let with = station.aerie(&["patrol", "cancel", "--token-file", token.to_str().unwrap()]);
    assert!(err(&with).contains("no sortie is under way"), "{}", err(&with));
    let with = aerie(&["patrol", "cancel", "--config", station.config().to_str().unwrap()]);
    assert!(err(&with).contains("no sortie is under way"), "{}", err(&with));
}

fn a_case(digest: &str) -> Case {
    let at = "2026-11-20T02:00:00Z".parse().unwrap();
    let located = Located {
        at: LatLon { lat: 23.052, lon: 113.002 },
        uncertainty: Ellipse { semi_major_m: 3.25, semi_minor_m: 2.0, bearing_deg: 10.0 },
        slant_m: 80.0,
    };
    Case {
        id: "01JD0000000000000000000000".into(),
        kind: Kind::BlueRoof,
        state: CaseState::Suspected,
        confidence: 0.91,
        located,
        before: None,
        first_seen: at,
        last_seen: at,
        count: 2,
        sortie: "01JC0000000000000000000000".into(),
        experimental: false,
        sequence: 3,
        verdict: None,
        evidence: vec![digest.into()],
        event: Some(json!({"id": "01JD0000000000000000000000/3", "time": at, "data": {"properties": {}}})),
    }
}

#[test]
fn a_known_case_is_shown_with_its_evidence_and_whether_upstream_has_it() {
    let console = free_port();
    let dir = place(console, |text| text);
    let picture = b"\xff\xd8 a picture";
    let digest = hex::encode(Sha256::digest(picture));
    let state = dir.path().join("state");
    std::fs::create_dir(state.join("evidence")).unwrap();
    std::fs::write(state.join("evidence").join(format!("{digest}.jpg")), picture).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let case = a_case(&digest);
        Store::open(&state).unwrap().put(Table::Cases, &case.id, &case).await.unwrap();
    });
    let station = start_in(dir, console);

    let cases = station.get("/api/v1/cases").json();
    let p = &cases["features"][0]["properties"];
    assert_eq!((&p["kind"], &p["count"], &p["sequence"]), (&json!("blue_roof"), &json!(2), &json!(3)));
    assert_eq!(p["position"]["wgs84"], json!({"lat": 23.052, "lon": 113.002}));
    assert!(p["position"]["gcj02"]["lat"].is_number());
    assert_eq!(p["delivered"], false, "there is no broker");
    let evidence = station.get(&format!("/api/v1/evidence/{digest}"));
    assert_eq!((evidence.status, evidence.body.as_slice()), (200, picture.as_slice()));
    assert!(evidence.head.contains("content-type: image/jpeg"));
    assert_eq!(station.get(&format!("/api/v1/evidence/{}", "0".repeat(64))).status, 404);
    // Its event and its picture wait for the broker.
    let queued = station.get("/api/v1/delivery").json()["queued"].clone();
    assert_eq!(queued, 2);

    let listed = out(&station.aerie(&["case", "list"]));
    assert!(listed.contains("blue_roof") && listed.contains("3.2 m") && listed.contains("queued"), "{listed}");
    let shown = out(&station.aerie(&["case", "show", "01JD0000000000000000000000"]));
    assert!(shown.contains(&digest) && shown.contains("GCJ-02"), "{shown}");
    let exported: Value = serde_json::from_slice(&station.aerie(&["case", "export"]).stdout).unwrap();
    assert_eq!(exported["features"].as_array().unwrap().len(), 1);
    let missing = station.aerie(&["case", "show", "nobody"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(err(&missing).contains("aerie case list"));

    // Beside the running station, from the disk.
    let config = station.config();
    let config = config.to_str().unwrap();
    let listed = aerie(&["outbox", "list", "--config", config, "--state", "queued", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let ids: Vec<_> = listed.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&"01JD0000000000000000000000/3"), "{ids:?}");
    let checked = aerie(&["outbox", "check", "--state-dir", station.dir.path().join("state").to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(0));
    assert!(out(&checked).contains("sound: 2 queued"), "{}", out(&checked));
    let exported = aerie(&["outbox", "export", "--config", config]);
    let lines: Vec<Value> = out(&exported).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(lines.iter().any(|l| l["topic"] == "case/01JD0000000000000000000000"), "{lines:?}");
    let picture = lines.iter().find_map(|l| l["file"].as_str()).expect("where the picture lies");
    assert_eq!(std::fs::read(picture).unwrap(), b"\xff\xd8 a picture");
    assert_eq!(aerie(&["outbox", "check"]).status.code(), Some(2), "neither place named");
}

#[test]
fn a_case_that_upstream_took_is_news_to_the_page() {
    if Command::new("mosquitto").arg("-h").output().is_err() {
        println!("skipped: mosquitto is not installed");
        return;
    }
    let (console, broker) = (free_port(), free_port());
    let at = broker.to_string();
    let dir = place(console, |text| text.replace("mqtt://127.0.0.1:9", &format!("mqtt://{at}")));
    let state = dir.path().join("state");
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let case = a_case(&"0".repeat(64));
        Store::open(&state).unwrap().put(Table::Cases, &case.id, &case).await.unwrap();
    });
    let station = start_in(dir, console);
    let mut events = station.events();
    next_event(&mut events, "status", |s| s["uplink"]["connected"] == false);
    let mut mosquitto =
        Command::new("mosquitto").args(["-p", &broker.port().to_string()]).stderr(Stdio::null()).spawn().unwrap();
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        next_event(&mut events, "case", |case| case["properties"]["delivered"] == true)
    }));
    let _ = mosquitto.kill();
    let _ = mosquitto.wait();
    let told = told.expect("word of the delivery");
    assert_eq!(told["properties"]["id"], "01JD0000000000000000000000");
    assert_eq!(station.get("/api/v1/delivery").json()["queued"], 0);
}

#[test]
fn a_port_in_use_is_said_with_its_key_and_tried_again_while_the_station_runs() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let console = taken.local_addr().unwrap();
    let mut station = spawn(place(console, |text| text), console);
    station.wait_for("word of the port", |s| s.log().contains("console.listen"));
    station.wait_for("the station", |s| s.log().contains("station runs"));
    drop(taken);
    station.wait_for("the console", |s| ask_at(s.console, "GET /api/v1/status", "").is_ok_and(|a| a.status == 200));
    let (ended, log) = station.stop();
    assert_eq!(ended.code(), Some(0), "{log}");
}

#[test]
fn a_station_that_is_not_there_is_said_with_what_to_do() {
    let url = format!("http://{}", free_port());
    for args in [["service", "status"], ["patrol", "list"], ["case", "export"]] {
        let asked = aerie(&[&args[..], &["--url", &url]].concat());
        assert_eq!(asked.status.code(), Some(1));
        assert!(err(&asked).contains(&url) && err(&asked).contains("aerie run --config"), "{}", err(&asked));
    }
}

#[test]
fn a_configuration_is_checked_and_its_patrols_planned_without_a_station() {
    let dir = place(free_port(), |text| text);
    let file = dir.path().join("station.toml");
    let blind = aerie(&["config", "check", file.to_str().unwrap()]);
    assert_eq!(blind.status.code(), Some(1));
    assert!(err(&blind).contains("perception.model") && err(&blind).contains("no-such-model"), "{}", err(&blind));

    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("model = \"no-such-model\"", "")).unwrap();
    let file = file.to_str().unwrap();
    let checked = aerie(&["config", "check", file]);
    assert_eq!(checked.status.code(), Some(0), "{}", err(&checked));
    assert!(out(&checked).contains("no fault") && out(&checked).contains("1 patrol"), "{}", out(&checked));

    let planned = aerie(&["patrol", "plan", "north", "--config", file]);
    for wanted in ["waypoints", "pictures", "min"] {
        assert!(out(&planned).contains(wanted), "{}", out(&planned));
    }
    let plan: Value =
        serde_json::from_slice(&aerie(&["patrol", "plan", "north", "--config", file, "--json"]).stdout).unwrap();
    let facts = &plan["features"][0]["properties"];
    assert_eq!(plan["features"][0]["geometry"]["type"], "LineString");
    assert!(facts["pictures"].as_u64().unwrap() > 10 && facts["duration_s"].as_f64().unwrap() > 60.0, "{facts}");
    let unknown = aerie(&["patrol", "plan", "south", "--config", file]);
    assert!(err(&unknown).contains("known are: north"), "{}", err(&unknown));

    // What the station would not fly is said before it is due, and by name.
    let near = config(free_port()).replace("model = \"no-such-model\"", "");
    std::fs::write(file, near.replace("[vehicle]", "[vehicle]\nmax_distance_m = 50.0")).unwrap();
    let refused = aerie(&["config", "check", file]);
    assert_eq!(refused.status.code(), Some(1), "{}", out(&refused));
    assert!(err(&refused).contains("patrols[0]") && err(&refused).contains("max_distance_m"), "{}", err(&refused));

    std::fs::write(
        file,
        config(free_port()).replace("lat = 23.05", "lat = 123.05").replace("north.geojson", "gone.geojson"),
    )
    .unwrap();
    let checked = aerie(&["config", "check", file]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(err(&checked).contains("station.dock") && err(&checked).contains("gone.geojson"), "{}", err(&checked));
    let checked: Value = serde_json::from_slice(&aerie(&["config", "check", file, "--json"]).stdout).unwrap();
    assert!(checked["faults"].as_array().unwrap().len() >= 2, "{checked}");

    let schema: Value = serde_json::from_slice(&aerie(&["config", "schema"]).stdout).unwrap();
    assert!(schema["properties"]["patrols"].is_object());
    let example: toml::Value = toml::from_str(&out(&aerie(&["config", "example"]))).unwrap();
    assert!(example["station"]["id"].is_str());
}

#[tokio::test]
async fn a_command_signed_at_the_command_line_passes_the_door_of_its_station_alone() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("officer.key");
    let key = key.to_str().unwrap();
    let made = aerie(&["command", "keygen", "--out", key, "--json"]);
    assert_eq!(made.status.code(), Some(0), "{}", err(&made));
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let again = aerie(&["command", "keygen", "--out", key]);
    assert!(again.status.code() == Some(1) && err(&again).contains("there already"), "{}", err(&again));

    let sign = |station: &str| {
        let args = [
            "command",
            "sign",
            "--key",
            key,
            "--kid",
            "officer",
            "--station",
            station,
            "--name",
            "patrol.start",
            "--args",
            "{\"patrol\": \"north\"}",
        ];
        let signed = aerie(&args);
        assert_eq!(signed.status.code(), Some(0), "{}", err(&signed));
        out(&signed).trim().as_bytes().to_vec()
    };
    let config = commands::Config {
        keys: vec![commands::KeyConfig {
            kid: "officer".into(),
            public_key: made["public_key"].as_str().unwrap().into(),
            may: vec!["patrol.start".into()],
            ..commands::KeyConfig::default()
        }],
        ..commands::Config::default()
    };
    let (_clock, trust) = tokio::sync::watch::channel(Trust::Synced { by: "a test" });
    let (executor, mut orders) = tokio::sync::mpsc::channel::<commands::Execute>(1);
    let (door, _) = Door::open(dir.path(), "danzao-01", &config, executor, trust).unwrap();
    tokio::spawn(async move {
        while let Some(order) = orders.recv().await {
            let running = order.begin().await.expect("in time");
            let args = running.envelope.args.clone();
            running.finish(Outcome::Done(args));
        }
    });
    let door = Arc::new(door);
    let submit = async |token: Vec<u8>| {
        let topic = "command/patrol.start".to_owned();
        door.submit(Submission::Signed { topic, token, reply_to: ReplyTo::default() }).await
    };
    let reply = submit(sign("danzao-01")).await;
    assert_eq!((reply.status, &reply.data), (Status::Done, &json!({"patrol": "north"})), "{reply:?}");
    assert_eq!(submit(sign("danzao-02")).await.status, Status::Refused);

    let wrong = aerie(&["command", "sign", "--key", key, "--kid", "k", "--station", "s", "--name", "n", "--args", "{"]);
    assert!(wrong.status.code() == Some(1) && err(&wrong).contains("not JSON"), "{}", err(&wrong));
    let wrong = aerie(&["command", "sign", "--key", key, "--kid", "k", "--station", "s", "--name", "patrol.strat"]);
    assert!(wrong.status.code() == Some(1) && err(&wrong).contains("patrol.start, patrol.cancel"), "{}", err(&wrong));
    let sign = ["command", "sign", "--key", key, "--kid", "k", "--station", "s", "--name", "model.rollback", "--args"];
    let wrong = aerie(&[&sign[..], &["{\"reason\": \"x\", \"relase\": \"town-1.3\"}"]].concat());
    assert!(wrong.status.code() == Some(1) && err(&wrong).contains("unknown field `relase`"), "{}", err(&wrong));
    assert!(wrong.stdout.is_empty(), "nothing is signed");
    assert_eq!(aerie(&["command", "sign", "--deadline-s", "999999"]).status.code(), Some(2));
}

#[test]
fn a_command_that_no_station_could_take_is_not_signed() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("officer.key");
    let key = key.to_str().unwrap();
    assert!(aerie(&["command", "keygen", "--out", key]).status.success());
    let sign = |more: &[&str]| {
        let given = ["command", "sign", "--key", key, "--kid", "officer", "--name", "patrol.cancel"];
        aerie(&[&given[..], more].concat())
    };
    let good = ["--station", "danzao-01", "--operator", "li"];
    assert!(sign(&good).status.success());
    for (option, value) in
        [("--station", ""), ("--station", "a/b"), ("--id", ""), ("--operator", ""), ("--args", "[]"), ("--args", "3")]
    {
        let mut typed = vec!["--station", "danzao-01", "--operator", "li"];
        match typed.iter().position(|known| *known == option) {
            Some(at) => typed[at + 1] = value,
            None => typed.extend([option, value]),
        }
        let refused = sign(&typed);
        assert!(!refused.status.success() && err(&refused).contains(option), "{typed:?}: {}", err(&refused));
    }
}

#[test]
fn a_configuration_reaches_its_own_station_alone_also_where_another_has_the_same_id() {
    let station = start();
    let other = place(station.console, |text| text);
    let file = other.path().join("station.toml");
    for command in [["service", "status"], ["patrol", "list"], ["patrol", "cancel"], ["service", "release"]] {
        let asked = aerie(&[&command[..], &["--config", file.to_str().unwrap()]].concat());
        assert_eq!(asked.status.code(), Some(1));
        assert!(err(&asked).contains("another station answers at"), "{}", err(&asked));
    }
    let own = aerie(&["patrol", "list", "--config", station.config().to_str().unwrap()]);
    assert!(own.status.success() && out(&own).contains("北片巡查"), "{}", err(&own));
    let idle = aerie(&["patrol", "cancel", "--config", station.config().to_str().unwrap()]);
    assert!(err(&idle).contains("no sortie is under way") && !err(&idle).contains("gates"), "{}", err(&idle));
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in [
        "patrol list",
        "patrol start",
        "patrol cancel",
        "patrol status",
        "patrol plan",
        "service status",
        "case list",
        "case show",
        "case export",
        "outbox check",
        "outbox list",
        "outbox export",
        "config check",
        "config schema",
        "config example",
        "command keygen",
        "command sign",
    ] {
        let args: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = aerie(&args);
        assert!(help.status.success(), "{command}: {}", err(&help));
        assert!(
            out(&help).contains(&format!("aerie {command}")) && out(&help).contains("Example"),
            "{command}:\n{}",
            out(&help)
        );
    }
}
