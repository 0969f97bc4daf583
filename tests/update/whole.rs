//! The whole station: `aerie run` over simulated hardware, its publisher at the command line, a web server between them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use serde_json::Value;

use super::*;

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

fn aerie(args: &[&str]) -> String {
    let done = Command::new(AERIE).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{args:?}: {text}");
    text
}

fn until<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < limit, "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flying_station_takes_a_release_over_the_air_and_tells_upstream_every_step() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let at = ["--repo".to_owned(), path("site"), "--keys".to_owned(), path("keys")];
    let publish = |args: &[&str]| {
        let all: Vec<&str> =
            ["model", "publish"].iter().chain(args).copied().chain(at.iter().map(String::as_str)).collect();
        aerie(&all)
    };
    publish(&["init", "--group", "roofs"]);
    let model = variant(dir.path(), "9.0", |_, _| {});
    let added = publish(&["add", &model.display().to_string()]);
    assert!(added.contains("release aerie-town-9.0") && added.contains("published"), "{added}");
    publish(&["stage", "roofs", "aerie-town-9.0"]);
    let (url, _) = serve(&dir.path().join("site")).await;

    let mut sim = Command::new(AERIE)
        .args(["sim", "--seed", "2", "--speed", "10", "--out", &path("sim")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(sim.stdout.take().unwrap()).lines();
    let _sim = Running(sim);
    assert!(lines.by_ref().any(|line| line.unwrap().contains("Ctrl-C")), "the simulation ended early");
    let config = dir.path().join("sim/config.toml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    text.push_str(&format!(
        "\n[update]\nurl = \"{url}\"\nroot = \"{}\"\ngroup = \"roofs\"\n[update.watch]\nshadow_frames = 5\ntrial_frames = 5\nthings = 2\n",
        path("site/metadata/1.root.json")
    ));
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let value: toml::Value = toml::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
    let port = value["uplink"]["url"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    let heard = std::fs::File::create(path("heard")).unwrap();
    let ear = Command::new("mosquitto_sub")
        .args(["-V", "mqttv5", "-p", &port, "-q", "1", "-F", "%J", "-t", "aerie/v1/demo-01/update/#"])
        .stdout(heard)
        .spawn()
        .expect("mosquitto_sub is missing: apt-get install mosquitto-clients");
    let _ear = Running(ear);
    let log = std::fs::File::create(path("station.log")).unwrap();
    let station = Command::new(AERIE).args(["run", "--config", &config]).stderr(log).spawn().unwrap();
    let station = Running(station);
    let cli = |args: &[&str]| {
        let done = Command::new(AERIE).args(args).args(["--config", &config]).output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        (done.status.success(), said)
    };
    until("the repository is looked at", 60, || cli(&["model", "check"]).0.then_some(()));
    // Frames come from flights; one may be over before the release is believed.
    until("the release is committed", 240, || {
        cli(&["patrol", "start", "town"]);
        let (_, said) = cli(&["model", "list", "--json"]);
        let known: Value = serde_json::from_str(&said).ok()?;
        let model = known["update"]["kinds"].as_array()?.iter().find(|k| k["kind"] == "model")?.clone();
        (model["committed"]["version"] == "9.0").then_some(())
    });
    let (_, said) = cli(&["model", "list"]);
    assert!(said.contains("looks now    aerie-town 9.0"), "{said}");
    until("every step was told", 60, || {
        let text = std::fs::read_to_string(path("heard")).unwrap();
        let events: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        events
            .iter()
            .any(|e| e["payload"]["data"]["said"].as_str().is_some_and(|s| s.contains("committed")))
            .then_some(())
    });
    let (back, said) = cli(&["model", "rollback", "--reason", "typed in haste"]);
    assert!(!back && said.contains("aerie model rollback aerie-town-9.0"), "{said}");
    let (back, said) = cli(&["model", "rollback", "aerie-town-9.0", "--reason", "as the test wants"]);
    assert!(back && said.contains("back to the station's own model"), "{said}");
    // What is refused here is a failure for who asks again, by whichever order.
    for order in [&["model", "check"][..], &["model", "add", &path("site")], &["model", "promote", "aerie-town-9.0"]] {
        let (done, said) = cli(order);
        assert!(!done && said.contains("was refused on") && said.contains("as the test wants"), "{order:?}: {said}");
    }
    let (_, said) = cli(&["model", "list"]);
    assert!(!said.contains("is offered"), "{said}");
    drop(station);
    let (whole, said) = cli(&["model", "trail"]);
    assert!(whole && said.contains("the trail is whole") && said.contains("as the test wants"), "{said}");
}
