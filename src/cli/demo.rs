//! `aerie demo`: the whole job on a simulated station. Starts the hardware, a broker and an independent subscriber, runs
//! the real station as its own process on a configuration file, flies, and says how well it went.

#![expect(clippy::disallowed_methods, reason = "the demo's main thread is no runtime's")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::geo::LatLon;
use crate::perception::Manifest;
use crate::sim::score::{self, Placed, Received, Score};
use crate::sim::{broker, site};
use crate::vehicle::Autopilot;

/// The first word of a station on a slow machine.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// A gate that is red when all are known may still settle: the simulated drone boots in its own time.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);
/// A real autopilot's filters settle in real time.
const VEHICLE_READY_LIMIT: Duration = Duration::from_secs(180);
/// Of the simulated drone, simulated seconds a second.
pub const SPEED: f64 = 4.0;
/// One sortie, at the slowest speed that is allowed.
const SORTIE_LIMIT: Duration = Duration::from_secs(1800);
/// After the last sortie, the broker may be away for a while.
const DELIVERY_LIMIT: Duration = Duration::from_secs(90);
/// What a demo promises beside everything being flown and delivered: at least this share found, half of them so near.
const FOUND_SHARE: f64 = 0.8;
const MEDIAN_ERROR_M: f64 = 3.0;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  aerie demo\n  aerie demo --headless --sorties 2 --seed 3 --summary summary.json\n  aerie demo --broker mqtt://broker.example:1883\n  aerie demo --vehicle tcpout:127.0.0.1:5760\n\nThe exit code is 0 when every sortie was flown, everything was delivered, at least 80 % of the planted violations\nwere found, there was at most one false case a sortie, half of the positions are within 3 m, and 99 of 100 alerts were
acknowledged within --latency-limit of their picture (not judged where the broker was away meanwhile). What was not met is named."
)]
pub struct DemoArgs {
    /// Do not wait at the end with the page up; also without a terminal
    #[arg(long)]
    headless: bool,
    /// The second over the same ground shows that nothing is reported twice
    #[arg(long, default_value_t = 2, value_name = "N")]
    sorties: u32,
    /// Simulated seconds a second, 0.5 to 20 [default: 4; an autopilot of --vehicle has its own time]
    #[arg(long, value_name = "X")]
    speed: Option<f64>,
    /// Which town
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Write the summary as JSON
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// Folder for truth.geojson, received.ndjson, config.toml, pictures and logs; emptied first
    #[arg(long, default_value = "demo-out", value_name = "DIR")]
    out: PathBuf,
    /// Use this broker instead of an own mosquitto
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// Fly this autopilot in software-in-the-loop instead of the simulated drone: tcpout:127.0.0.1:5760,
    /// udpin:127.0.0.1:14550. The town is laid around the place where it stands
    #[arg(long, value_name = "URL")]
    vehicle: Option<String>,
    /// Use the model in this directory instead of the one that comes with aerie
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Within how many seconds of their picture 99 of 100 alerts have to be acknowledged; more for an emulated processor
    #[arg(long, default_value_t = 10.0, value_name = "S")]
    latency_limit: f64,
    /// Hold the wind at this speed, metres per second
    #[arg(long, value_name = "M_S")]
    wind: Option<f64>,
}

pub fn check_speed(speed: f64) -> anyhow::Result<()> {
    ensure!((0.5..=20.0).contains(&speed), "--speed {speed}: must lie between 0.5 and 20");
    Ok(())
}

/// How fast the simulated hardware goes: with an autopilot of its own it can only go with that.
pub fn speed_of(asked: Option<f64>, vehicle: Option<&str>) -> anyhow::Result<f64> {
    if let (Some(speed), Some(url)) = (asked, vehicle) {
        bail!("--speed {speed}: the autopilot at {url} has its own time, which cannot be forced; leave --speed out");
    }
    let speed = asked.unwrap_or(if vehicle.is_some() { 1.0 } else { SPEED });
    check_speed(speed)?;
    Ok(speed)
}

/// Returns when somebody wants an end: Ctrl-C or SIGTERM.
pub async fn interrupted() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        done = tokio::signal::ctrl_c() => done,
        _ = terminate.recv() => Ok(()),
    }
}

pub fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let speed = speed_of(args.speed, args.vehicle.as_deref())?;
    ensure!(args.sorties >= 1, "--sorties 0: at least one must fly");
    if let Some(dir) = &args.model {
        // Said before a town is built; the station would only be found without eyes later.
        Manifest::read(dir).and_then(|manifest| manifest.model_bytes(dir)).context("--model")?;
    }
    let started = Instant::now();
    prepare(&args.out)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let (cancel, at_once) = (CancellationToken::new(), CancellationToken::new());
    runtime.spawn({
        let (cancel, at_once) = (cancel.clone(), at_once.clone());
        async move {
            if interrupted().await.is_ok() {
                cancel.cancel();
            }
            if interrupted().await.is_ok() {
                at_once.cancel();
            }
        }
    });

    let (broker_url, host, port, _mosquitto) = match &args.broker {
        Some(url) => {
            let (host, port) = host_and_port(url)?;
            std::net::TcpStream::connect((host.as_str(), port))
                .with_context(|| format!("--broker {url}: nothing answers there; start the broker first"))?;
            (url.clone(), host, port, None)
        }
        None => {
            let port = site::free_tcp_port(0)?;
            let kept = broker::mosquitto(&args.out, port)?;
            (format!("mqtt://127.0.0.1:{port}"), "127.0.0.1".to_owned(), port, Some(kept))
        }
    };
    let _witness = broker::subscriber(&args.out, &host, port, site::STATION)?;
    let console: SocketAddr = ([127, 0, 0, 1], site::free_tcp_port(8480)?).into();
    let options = site::Options {
        out: args.out.clone(),
        vehicle: args.vehicle.clone(),
        seed: args.seed,
        speed,
        wind_m_s: args.wind,
        broker_url,
        model: args.model.as_deref().map(std::path::absolute).transpose()?,
        console,
    };
    match &args.vehicle {
        Some(url) => println!("Waiting for the autopilot at {url} to know where it stands …"),
        None => println!("Generating town {} and starting the simulated drone, dock, weather and broker …", args.seed),
    }
    let site = runtime.block_on(async {
        tokio::select! {
            site = site::start(&options, CancellationToken::new()) => Ok(site?),
            () = cancel.cancelled() => bail!("interrupted"),
        }
    })?;
    if let Some(autopilot) = site.autopilot {
        let dock = site.town.dock();
        println!("{autopilot:?} stands at {:.6}, {:.6}; town {} lies around it.", dock.lat, dock.lon, args.seed);
    }
    let mut station = Station::start(&args.out, &site.config, console)?;
    station.wait_ready(&cancel, if args.vehicle.is_some() { VEHICLE_READY_LIMIT } else { READY_LIMIT })?;
    println!("Station is up after {:.0} s. Page: http://{console}/", started.elapsed().as_secs_f64());

    let mut flown = Vec::new();
    let mut first_case: Option<Duration> = None;
    for number in 1..=args.sorties {
        if cancel.is_cancelled() {
            break;
        }
        let sortie = station.fly(number, args.sorties, (&cancel, &at_once), || {
            first_case.get_or_insert_with(|| started.elapsed()).to_owned()
        })?;
        println!("{}", closing_line(&sortie));
        flown.push(sortie);
    }
    let truth = truth(&args.out)?;
    let drained = station.wait_delivered(&args.out, &cancel)?;
    let summary = summary(&args, site.autopilot, &station, &flown, &truth, drained, first_case)?;
    if let Some(path) = &args.summary {
        std::fs::write(path, serde_json::to_string_pretty(&summary)?)
            .with_context(|| format!("--summary {}: cannot be written", path.display()))?;
    }
    print_summary(&summary, &args.out);
    let fine = summary["passed"] == true;
    if !args.headless && std::io::IsTerminal::is_terminal(&std::io::stdin()) && !cancel.is_cancelled() {
        println!("\nThe page stays up at http://{console}/ – press Ctrl-C to end.");
        runtime.block_on(cancel.cancelled());
    }
    station.stop();
    runtime.shutdown_timeout(Duration::from_secs(2));
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An empty folder: state of an earlier demo would count as this one's. Only a folder that a demo made is emptied.
fn prepare(out: &Path) -> anyhow::Result<()> {
    let marker = out.join(".aerie-demo");
    if out.exists() {
        let is_empty = out.read_dir().with_context(|| format!("--out {}", out.display()))?.next().is_none();
        ensure!(
            is_empty || marker.exists(),
            "--out {}: is not empty and no earlier demo's; name another folder",
            out.display()
        );
        std::fs::remove_dir_all(out).with_context(|| format!("--out {}: cannot be emptied", out.display()))?;
    }
    std::fs::create_dir_all(out).with_context(|| format!("--out {}: cannot be made", out.display()))?;
    std::fs::write(&marker, "made by aerie demo; emptied by the next one\n")?;
    Ok(())
}

fn host_and_port(url: &str) -> anyhow::Result<(String, u16)> {
    let rest = url.strip_prefix("mqtt://").with_context(|| format!("--broker {url}: write mqtt://HOST:PORT"))?;
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':').unwrap_or((rest, "1883"));
    Ok((host.to_owned(), port.parse().with_context(|| format!("--broker {url}: {port:?} is not a port"))?))
}

/// The real station, as its own process.
struct Station {
    child: Child,
    base: String,
    agent: ureq::Agent,
    log: PathBuf,
    /// Since when it has had its broker, as it said when it was ready.
    linked_since: Value,
}

impl Station {
    fn start(out: &Path, config: &Path, console: SocketAddr) -> anyhow::Result<Station> {
        let log = out.join("station.log");
        let child = Command::new(std::env::current_exe()?)
            .args(["run", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .context("the station cannot be started")?;
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(40)))
            .http_status_as_error(false)
            .build()
            .into();
        Ok(Station { child, base: format!("http://{console}/api/v1"), agent, log, linked_since: Value::Null })
    }

    fn get(&self, path: &str) -> Option<Value> {
        self.agent.get(format!("{}/{path}", self.base)).call().ok()?.body_mut().read_json().ok()
    }

    fn post(&self, path: &str) -> anyhow::Result<(u16, Value)> {
        let mut answer = self
            .agent
            .post(format!("{}/{path}", self.base))
            .header("X-Aerie-Console", "1")
            .header("X-Aerie-Origin", "cli")
            .header("X-Aerie-Operator", "demo")
            .send_json(json!({}))?;
        let status = answer.status().as_u16();
        Ok((status, answer.body_mut().read_json().unwrap_or_default()))
    }

    fn alive(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(5).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            bail!("the station ended ({status}); the end of {}:\n{}", self.log.display(), tail.join("\n"));
        }
        Ok(())
    }

    /// Waits until every gate is known, and a moment longer for those that are red; or says what is missing. A gate that
    /// stays red is for the sortie to be refused by.
    fn wait_ready(&mut self, cancel: &CancellationToken, limit: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + limit;
        let mut settled = None;
        loop {
            self.alive()?;
            let status = self.get("status").unwrap_or_default();
            let gates = status["gates"].as_array().cloned().unwrap_or_default();
            let unknown = gates.is_empty() || gates.iter().any(|g| g["passed"].is_null());
            let seeing = status["perception"]["running"] == true;
            if !unknown && seeing && status["uplink"]["connected"] == true {
                self.linked_since = status["uplink"]["since"].clone();
                let open = gates.iter().all(|g| g["passed"] == true);
                if open || Instant::now() > *settled.get_or_insert_with(|| Instant::now() + SETTLE_LIMIT) {
                    return Ok(());
                }
            }
            if cancel.is_cancelled() {
                bail!("interrupted");
            }
            if Instant::now() > until {
                bail!(
                    "the station was not ready within {limit:?}: {}; log: {}",
                    status["problems"],
                    self.log.display()
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Starts a sortie and follows it to its end.
    fn fly(
        &mut self,
        number: u32,
        of: u32,
        (cancel, at_once): (&CancellationToken, &CancellationToken),
        mut case_seen: impl FnMut() -> Duration,
    ) -> anyhow::Result<Value> {
        let (code, answer) = self.post(&format!("patrols/{}/start", site::PATROL))?;
        if code == 409 {
            // Refused is an outcome, told like any other.
            let newest = self.get("sorties").and_then(|s| s.get(0).cloned());
            return Ok(newest.unwrap_or(answer));
        }
        ensure!(code == 202, "the patrol could not be started: HTTP {code} {answer}");
        let id = answer["sortie"].as_str().or(answer["sortie"]["id"].as_str()).unwrap_or_default().to_owned();
        let bar = ProgressBar::new(100);
        bar.set_style(ProgressStyle::with_template(&format!("Sortie {number}/{of} {{bar:24}} {{pos:>3}} %  {{msg}}"))?);
        let until = Instant::now() + SORTIE_LIMIT;
        let mut cancelled = false;
        loop {
            self.alive()?;
            if cancel.is_cancelled() && !cancelled {
                cancelled = true;
                self.post("sortie/cancel")?;
                bar.suspend(|| println!("Calling the drone home; once more ends at once."));
            }
            ensure!(!at_once.is_cancelled(), "interrupted with a sortie in the air");
            let sorties = self.get("sorties").unwrap_or_default();
            let sortie = sorties
                .as_array()
                .and_then(|all| all.iter().find(|s| s["id"] == id.as_str()).cloned())
                .unwrap_or_default();
            let cases = self.get("cases").and_then(|c| c["features"].as_array().map(Vec::len)).unwrap_or(0);
            if cases > 0 {
                case_seen();
            }
            bar.set_position((sortie["progress"].as_f64().unwrap_or(0.0) * 100.0) as u64);
            let state = sortie["state"].as_str().unwrap_or("starting");
            bar.set_message(format!(
                "{state:12} {:>3} pictures  {cases} cases",
                sortie["frames"].as_u64().unwrap_or(0)
            ));
            if !sortie["ended_at"].is_null() {
                bar.finish_and_clear();
                return Ok(sortie);
            }
            ensure!(Instant::now() < until, "sortie {id} did not end within {SORTIE_LIMIT:?}");
            std::thread::sleep(Duration::from_millis(400));
        }
    }

    /// Waits until nothing is queued and the independent subscriber has every event. Returns what it received.
    fn wait_delivered(&mut self, out: &Path, cancel: &CancellationToken) -> anyhow::Result<Received> {
        let until = Instant::now() + DELIVERY_LIMIT;
        loop {
            self.alive()?;
            let received = score::received(&std::fs::read_to_string(out.join("received.ndjson")).unwrap_or_default());
            let queued = self.get("delivery").and_then(|d| d["queued"].as_u64());
            let known = self.cases();
            let all = known.iter().all(|(id, sequence)| received.events.contains_key(&format!("{id}/{sequence}")));
            if (queued == Some(0) && all) || Instant::now() > until || cancel.is_cancelled() {
                return Ok(received);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Every case the station knows, with the sequence of its newest event.
    fn cases(&self) -> Vec<(String, u64)> {
        let features = self.get("cases").and_then(|c| c["features"].as_array().cloned()).unwrap_or_default();
        let known =
            |f: &Value| Some((f["properties"]["id"].as_str()?.to_owned(), f["properties"]["sequence"].as_u64()?));
        features.iter().filter_map(known).collect()
    }

    /// The station's process, and its perception child.
    fn memory_mb(&self) -> Value {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let others = tasks.filter_map(|t| std::fs::read_to_string(t.path().join("children")).ok()).collect::<String>();
        let child = children.split_whitespace().chain(others.split_whitespace()).next().and_then(|p| p.parse().ok());
        json!({"station": peak_mb(pid), "perception": child.and_then(peak_mb)})
    }

    fn stop(&mut self) {
        // Gone already is as good.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}

/// The most memory a process ever had resident.
fn peak_mb(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kb: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some((kb / 1024.0).round())
}

fn truth(out: &Path) -> anyhow::Result<Vec<Placed>> {
    let json: Value = serde_json::from_str(&std::fs::read_to_string(out.join("truth.geojson"))?)?;
    let placed = |f: &Value| {
        let at = &f["geometry"]["coordinates"];
        let at = LatLon { lon: at[0].as_f64()?, lat: at[1].as_f64()? };
        Some(Placed { kind: f["properties"]["kind"].as_str()?.to_owned(), at })
    };
    Ok(json["features"].as_array().into_iter().flatten().filter_map(placed).collect())
}

fn summary(
    args: &DemoArgs,
    autopilot: Option<Autopilot>,
    station: &Station,
    flown: &[Value],
    truth: &[Placed],
    received: Received,
    first_case: Option<Duration>,
) -> anyhow::Result<Value> {
    let cases: Vec<Placed> = received.cases.values().cloned().collect();
    let score = score::score(truth, &cases);
    let known = station.cases();
    let all_delivered =
        known.iter().all(|(id, newest)| (1..=*newest).all(|n| received.events.contains_key(&format!("{id}/{n}"))));
    let done = flown.iter().filter(|s| s["state"] == "done").count();
    let delivery = station.get("delivery").unwrap_or_default();
    let latency = &delivery["latency_ms"];
    let uplink = station.get("status").map(|s| s["uplink"].clone()).unwrap_or_default();
    let link_lost = uplink["since"] != station.linked_since;
    let unmet = unmet(&Outcome {
        asked: args.sorties as usize,
        done,
        all_delivered,
        disordered: received.disordered,
        score: score.clone(),
        latency_p99_s: latency["p99"].as_f64().filter(|_| !link_lost).map(|ms| ms / 1000.0),
        latency_limit_s: args.latency_limit,
    });
    Ok(json!({
        "seed": args.seed,
        "speed": speed_of(args.speed, args.vehicle.as_deref())?,
        "vehicle": args.vehicle,
        "autopilot": autopilot,
        "model": station.get("status").map(|s| s["perception"]["model"].clone()),
        "sorties": done,
        "refused": flown.iter().all(|s| s["state"] == "refused").then(|| flown.last().map(|s| s["reason"].clone())),
        "planted": score.planted,
        "found": score.found,
        "missed": score.missed.len(),
        "missed_kinds": score.missed,
        "false_cases": score.false_cases,
        "false_kinds": score.false_kinds,
        "position_error_m": score.position_error_m,
        "cases": known.len(),
        "delivered": received.cases.len(),
        "all_delivered": all_delivered,
        "events": received.events.len(),
        "repeats": received.events.values().map(|n| n - 1).sum::<usize>(),
        "disordered": received.disordered,
        "duplicates": score.duplicates,
        "latency_ms": latency,
        "link_lost": link_lost,
        "memory_mb": station.memory_mb(),
        "first_case_s": first_case.map(|d| (d.as_secs_f64() * 10.0).round() / 10.0),
        "frames": flown.iter().filter_map(|s| s["frames"].as_u64()).sum::<u64>(),
        "coverage": flown.iter().filter_map(|s| s["coverage"].as_f64()).fold(0.0, f64::max),
        "sortie_states": flown.iter().map(|s| json!({"state": s["state"], "reason": s["reason"]})).collect::<Vec<_>>(),
        "passed": unmet.is_empty(),
        "unmet": unmet,
    }))
}

/// What a demo is judged by.
struct Outcome {
    asked: usize,
    done: usize,
    all_delivered: bool,
    disordered: usize,
    score: Score,
    /// None where nothing was delivered, or the broker was away: what waited for it says nothing of the station.
    latency_p99_s: Option<f64>,
    latency_limit_s: f64,
}

/// What was promised and not met, in words; empty where the demo passed. What could not be measured, for nothing was
/// found, is said by what was found.
fn unmet(o: &Outcome) -> Vec<String> {
    let Score { planted, found, false_cases, duplicates, position_error_m, .. } = &o.score;
    let mut unmet = Vec::new();
    let mut demand = |met: bool, words: String| {
        if !met {
            unmet.push(words);
        }
    };
    demand(o.done == o.asked, format!("{} of {} sorties were flown to their end", o.done, o.asked));
    demand(*found as f64 >= *planted as f64 * FOUND_SHARE, format!("{found} of {planted} found, fewer than 80 %"));
    demand(*false_cases <= o.asked, format!("{false_cases} false cases, more than one a sortie"));
    demand(*duplicates == 0, format!("{duplicates} cases stand for what has one already"));
    let median = position_error_m.median.unwrap_or(0.0);
    demand(median < MEDIAN_ERROR_M, format!("median position error {median:.1} m, not under {MEDIAN_ERROR_M} m"));
    demand(o.all_delivered, "not every event of every case was received".to_owned());
    demand(o.disordered == 0, format!("{} events came before an older one of their case", o.disordered));
    let (p99, limit) = (o.latency_p99_s.unwrap_or(0.0), o.latency_limit_s);
    demand(p99 < limit, format!("shutter to acknowledgement p99 {p99:.1} s, not under {limit} s"));
    unmet
}

fn closing_line(sortie: &Value) -> String {
    format!(
        "Sortie {}: {} ({}), {} pictures, {:.0} % of the area seen, {} cases",
        sortie["id"].as_str().unwrap_or("?"),
        sortie["state"].as_str().unwrap_or("?"),
        sortie["reason"].as_str().unwrap_or(""),
        sortie["frames"],
        sortie["coverage"].as_f64().unwrap_or(0.0) * 100.0,
        sortie["cases"],
    )
}

fn print_summary(s: &Value, out: &Path) {
    let number = |v: &Value| v.as_f64().map_or("–".to_owned(), |n| format!("{n:.1}"));
    let kinds = |v: &Value| {
        let kinds: Vec<&str> = v.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) }
    };
    println!("\n  sorties flown over MAVLink   {}", s["sorties"]);
    println!("  planted violations found     {} of {}{}", s["found"], s["planted"], kinds(&s["missed_kinds"]));
    println!("  false cases                  {}{}", s["false_cases"], kinds(&s["false_kinds"]));
    println!("  duplicate cases              {}", s["duplicates"]);
    let error = &s["position_error_m"];
    println!("  position error               median {} m, 95 % {} m", number(&error["median"]), number(&error["p95"]));
    println!(
        "  cases received upstream      {} of {} ({} events, {} repeats)",
        s["delivered"], s["cases"], s["events"], s["repeats"]
    );
    let latency = &s["latency_ms"];
    let lost = if s["link_lost"] == true { " (the broker was away meanwhile)" } else { "" };
    println!("  shutter to broker's ack      p50 {} ms, p99 {} ms{lost}", latency["p50"], latency["p99"]);
    println!(
        "  peak memory                  station {} MB, perception {} MB",
        s["memory_mb"]["station"], s["memory_mb"]["perception"]
    );
    println!("  first case after             {} s", number(&s["first_case_s"]));
    println!("  files                        {}", out.display());
    match s["refused"].as_str() {
        Some(reason) => println!("  NOTHING FLEW: {reason}"),
        None if s["passed"] == true => println!("  PASSED"),
        None => {
            let unmet: Vec<&str> = s["unmet"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            println!("  NOT PASSED: {}", unmet.join("; "));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::score::Spread;

    #[test]
    fn whatever_a_demo_did_not_meet_is_named() {
        let score = |found, false_cases, duplicates, median| Score {
            planted: 10,
            found,
            missed: Vec::new(),
            false_cases,
            false_kinds: Vec::new(),
            duplicates,
            position_error_m: Spread { median, p95: median },
        };
        let good = score(8, 2, 0, Some(2.9));
        let fine = |score| Outcome {
            asked: 2,
            done: 2,
            all_delivered: true,
            disordered: 0,
            score,
            latency_p99_s: Some(9.9),
            latency_limit_s: 10.0,
        };
        assert_eq!(unmet(&fine(good.clone())), Vec::<String>::new());
        let named = |outcome: Outcome, words: &str| {
            let unmet = unmet(&outcome);
            assert!(unmet.len() == 1 && unmet[0].contains(words), "{words}: {unmet:?}");
        };
        named(Outcome { done: 1, ..fine(good.clone()) }, "1 of 2 sorties");
        named(Outcome { all_delivered: false, ..fine(good.clone()) }, "received");
        named(Outcome { disordered: 1, ..fine(good.clone()) }, "older one");
        named(Outcome { latency_p99_s: Some(10.0), ..fine(good.clone()) }, "p99 10.0 s");
        named(fine(score(7, 2, 0, Some(1.0))), "7 of 10 found");
        named(fine(score(8, 3, 0, Some(1.0))), "3 false cases");
        named(fine(score(8, 2, 1, Some(1.0))), "1 cases stand");
        named(fine(score(8, 2, 0, Some(3.0))), "median position error 3.0 m");
        // Nothing delivered through a lost link is not slow, but not found either.
        named(Outcome { latency_p99_s: None, ..fine(score(0, 0, 0, None)) }, "0 of 10 found");
    }
}
