//! Flies one sortie of a campaign: its own drone, dock, weather and station, its own way to the broker.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::judge::{self, HatchAsked, Rules, Sample, Trace, Verdict};
use super::{CampaignError, Options};
use crate::geo::{LatLon, LocalFrame};
use crate::sim::drone::{self, Drone, DroneConfig, DroneHandle, DroneLink, Exposure, Faults};
use crate::sim::faults::{self, Fault, Planned, When};
use crate::sim::hardware::{self, Air, Hardware, HardwareConfig};
use crate::sim::site::{self, SiteError};
use crate::uplink::commands::{self, Envelope};

const DOCK: LatLon = LatLon { lat: 23.0512, lon: 113.0134 };
const STATION: &str = "campaign";
const HEIGHT_M: f64 = 30.0;
/// Simulated seconds that the hatch takes from end to end.
const HATCH_S: f64 = 12.0;
const SAMPLE: Duration = Duration::from_millis(100);
const READY_LIMIT: Duration = Duration::from_secs(90);
/// A sortie that is not over then has ended as it stands.
const SORTIE_LIMIT: f64 = 180.0;
/// After its end it is watched for a second launch.
const WATCHED_S: f64 = 4.0;

pub struct Setup {
    pub options: Options,
    pub broker_port: u16,
    pub faketime: Option<PathBuf>,
}

/// A fault of the sortie, and whether it came to it.
#[derive(Debug, Clone, Serialize)]
pub struct Thrown {
    #[serde(flatten)]
    pub planned: Planned,
    pub words: String,
    /// Seconds from the beginning; none where the sortie was over before.
    pub at_s: Option<f64>,
}

/// A sortie that was flown, or refused.
#[derive(Debug, Clone, Serialize)]
pub struct Flown {
    pub number: u32,
    pub faults: Vec<Thrown>,
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What the station says that it was: its sortie's state and reason.
    pub station_says: Option<(String, String)>,
    /// From the command to the moment it left the ground.
    pub command_to_air_s: Option<f64>,
    /// By the station's record: gates and upload, the dock's opening, arming and rising.
    pub launch_steps_s: Option<[f64; 3]>,
    pub farthest_m: f64,
    pub wall_s: f64,
}

/// Where Debian keeps the library that gives a process a wall clock of its own.
pub fn faketime() -> Option<PathBuf> {
    let libraries = [format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH), "/usr/lib".to_owned()];
    libraries.iter().map(|dir| Path::new(dir).join("faketime/libfaketime.so.1")).find(|path| path.exists())
}

/// Writes the same small picture each time: what is on it is not what is measured here.
struct SmallCamera {
    media: PathBuf,
    jpeg: Vec<u8>,
}

impl drone::Camera for SmallCamera {
    fn expose(&mut self, exposure: &Exposure) -> std::io::Result<String> {
        let name = format!("{:05}.jpg", exposure.index);
        fs::write(self.media.join(&name), &self.jpeg)?;
        Ok(name)
    }
}

fn small_picture() -> std::io::Result<Vec<u8>> {
    let grey = image::RgbImage::from_pixel(160, 120, image::Rgb([120, 130, 110]));
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 80)
        .encode_image(&grey)
        .map_err(std::io::Error::other)?;
    Ok(jpeg)
}

pub async fn fly(setup: &Setup, number: u32) -> Result<Flown, CampaignError> {
    let plan = faults::draw(setup.options.seed, number);
    let began = Instant::now();
    let mut world = World::build(setup, number, &plan).await?;
    world.station_up().await?;
    let pending = plan.into_iter().map(|planned| (planned, None)).collect();
    let mut run = Run { began, world, trace: Trace::default(), faults: pending, commanded: None };
    run.wait_ready().await?;
    run.fly().await?;
    Ok(run.end(number, setup).await)
}

// ---- the hardware, the station, the way to the broker --------------------------------------------------------------

struct World {
    number: u32,
    dir: PathBuf,
    program: PathBuf,
    config: PathBuf,
    api: String,
    drone: DroneHandle,
    hardware: Hardware,
    wind_m_s: Option<f64>,
    rain_mm_h: Option<f64>,
    broker: watch::Sender<bool>,
    broker_port: u16,
    station: Option<Child>,
    /// The library and the file that the station's clock is read from.
    clock: Option<(PathBuf, PathBuf)>,
    clock_off_s: f64,
    _all: DropGuard,
}

impl World {
    async fn build(setup: &Setup, number: u32, plan: &[Planned]) -> Result<World, CampaignError> {
        let options = &setup.options;
        let dir = options.out.join(format!("sortie-{number:03}"));
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| CampaignError::Write { path, source }
        };
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(failed(&dir))?;
        }
        let media = dir.join("media");
        for made in [dir.join("areas"), dir.join("state"), media.clone()] {
            fs::create_dir_all(&made).map_err(failed(&made))?;
        }
        let frame = LocalFrame::new(DOCK);
        let corners = [(10.0, 10.0), (90.0, 10.0), (90.0, 60.0), (10.0, 60.0), (10.0, 10.0)];
        let ring = corners.map(|(east, north)| frame.to_latlon(east, north)).map(|at| [at.lon, at.lat]);
        site::write_json(&dir.join("areas/town.geojson"), &json!({"type": "Polygon", "coordinates": [ring]}))?;

        site::write_airspace(&dir, DOCK)?;

        let all = CancellationToken::new();
        let io = |error: std::io::Error| CampaignError::Site(SiteError::Start(error));
        let air = Air::new();
        let mavlink = site::free_udp_port().map_err(io)?;
        let camera = SmallCamera { media, jpeg: small_picture().map_err(io)? };
        let drone = DroneConfig {
            home: DOCK,
            seed: options.seed ^ u64::from(number),
            speed: options.speed,
            link: DroneLink::SendTo(SocketAddr::from((Ipv4Addr::LOCALHOST, mavlink))),
            wind: air.wind(),
            parameters: Vec::new(),
            faults: Faults::default(),
        };
        let drone = Drone::spawn(drone, camera, all.clone()).await.map_err(io)?;
        let hardware = HardwareConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            seed: options.seed ^ u64::from(number),
            speed: options.speed,
            travel_s: HATCH_S,
        };
        let hardware = hardware::spawn_with(hardware, air, drone.clone(), all.clone()).await.map_err(io)?;
        let (broker, there) = watch::channel(true);
        let broker_port = proxy(setup.broker_port, there, all.clone()).await.map_err(io)?;
        let console = SocketAddr::from((Ipv4Addr::LOCALHOST, site::free_tcp_port(0).map_err(io)?));
        let config = dir.join("config.toml");
        let text = site::configuration(&site::Setting {
            station: &format!("{STATION}-{number}"),
            dock: DOCK,
            console,
            mavlink,
            hardware: &hardware.url(),
            broker: &format!("mqtt://127.0.0.1:{broker_port}"),
            model: options.model.as_deref(),
            public_key: &site::operator_key(&dir)?,
            height_m: HEIGHT_M,
            map: false,
        });
        fs::write(&config, text).map_err(failed(&config))?;
        let steps = plan.iter().any(|p| matches!(p.fault, Fault::ClockSteps { .. }));
        let clock = setup.faketime.clone().filter(|_| steps).map(|library| (library, dir.join("clock")));
        if let Some((_, file)) = &clock {
            fs::write(file, "+0").map_err(failed(file))?;
        }
        Ok(World {
            number,
            dir,
            program: options.program.clone(),
            config,
            api: format!("http://{console}/api/v1"),
            drone,
            hardware,
            wind_m_s: None,
            rain_mm_h: None,
            broker,
            broker_port,
            station: None,
            clock,
            clock_off_s: 0.0,
            _all: all.drop_guard(),
        })
    }

    fn log(&self) -> PathBuf {
        self.dir.join("station.log")
    }

    async fn station_up(&mut self) -> Result<(), CampaignError> {
        let number = self.number;
        let failed = |source| CampaignError::Station { number, source };
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log()).map_err(failed)?;
        let mut command = Command::new(&self.program);
        command.args(["run", "--config"]).arg(&self.config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        if let Some((library, file)) = &self.clock {
            // Its wall clock alone: timers go by the monotonic one, as on a machine whose clock is set.
            command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", file);
            command.env("DONT_FAKE_MONOTONIC", "1").env("FAKETIME_CACHE_DURATION", "1");
        }
        self.station = Some(command.spawn().map_err(failed)?);
        Ok(())
    }

    fn station_alive(&mut self) -> bool {
        self.station.as_mut().is_some_and(|station| matches!(station.try_wait(), Ok(None)))
    }

    async fn throw(&mut self, fault: Fault) {
        match fault {
            Fault::LinkLost { up, down, .. } => self.change(|f| (f.deaf, f.voiceless) = (up, down)),
            Fault::Wind { m_s, .. } => self.blow(Some(m_s), self.rain_mm_h),
            Fault::Rain { mm_h, .. } => self.blow(self.wind_m_s, Some(mm_h)),
            Fault::BatteryGivesOut { pct } => self.change(|f| f.charge_pct_at_most = Some(pct)),
            Fault::GpsLost { .. } => self.change(|f| f.gps_lost = true),
            Fault::CameraStalls { .. } => self.change(|f| f.camera_stalled = true),
            Fault::DockJams { .. } => self.hardware.jam(true),
            Fault::ClockSteps { by_s } => {
                let Some((_, file)) = &self.clock else { return };
                match fs::write(file, format!("{by_s:+.0}")) {
                    Ok(()) => self.clock_off_s = by_s,
                    Err(error) => tracing::error!(%error, "the station's clock cannot be stepped"),
                }
            }
            Fault::StationKilled { .. } => {
                if let Some(station) = &mut self.station {
                    // Killed already is as good.
                    let _ = station.kill().await;
                }
                self.station = None;
            }
            Fault::BrokerGone { .. } => {
                self.broker.send_replace(false);
            }
            // Done where the command is given.
            Fault::CommandRepeated => {}
        }
    }

    async fn undo(&mut self, fault: Fault) -> Result<(), CampaignError> {
        match fault {
            Fault::LinkLost { .. } => self.change(|f| (f.deaf, f.voiceless) = (false, false)),
            Fault::Wind { .. } => self.blow(None, self.rain_mm_h),
            Fault::Rain { .. } => self.blow(self.wind_m_s, None),
            Fault::GpsLost { .. } => self.change(|f| f.gps_lost = false),
            Fault::CameraStalls { .. } => self.change(|f| f.camera_stalled = false),
            Fault::DockJams { .. } => self.hardware.jam(false),
            Fault::StationKilled { .. } => self.station_up().await?,
            Fault::BrokerGone { .. } => {
                self.broker.send_replace(true);
            }
            Fault::BatteryGivesOut { .. } | Fault::ClockSteps { .. } | Fault::CommandRepeated => {}
        }
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut Faults)) {
        let mut faults = self.drone.faults();
        change(&mut faults);
        self.drone.set_faults(faults);
    }

    fn blow(&mut self, wind_m_s: Option<f64>, rain_mm_h: Option<f64>) {
        (self.wind_m_s, self.rain_mm_h) = (wind_m_s, rain_mm_h);
        self.hardware.hold_weather(wind_m_s, rain_mm_h);
    }

    fn sample(&mut self, t_s: f64) -> Sample {
        let station_alive = self.station_alive();
        let truth = *self.drone.truth().borrow();
        let faults = self.drone.faults();
        let air = self.hardware.weather();
        Sample {
            t_s,
            armed: truth.armed,
            in_air: truth.in_air,
            coming_home: truth.coming_home,
            in_dock: truth.in_dock,
            crashed: truth.crashed,
            mission_flown: truth.mission_flown,
            arms: truth.arms,
            launches: truth.launches,
            up_m: truth.up_m,
            away_m: truth.east_m.hypot(truth.north_m),
            fenced: truth.fenced,
            outside_m: truth.outside_m,
            battery_pct: truth.battery_pct,
            satellites: truth.satellites,
            position_ok: truth.position_ok,
            wind_m_s: air.wind_m_s,
            gust_m_s: air.gust_m_s,
            rain_mm_h: air.rain_mm_h,
            hatch: self.hardware.hatch(),
            link_up: !(faults.deaf || faults.mute),
            link_down: !(faults.voiceless || faults.mute),
            station_alive,
            clock_off_s: self.clock_off_s,
        }
    }

    fn publisher(&self) -> Publisher {
        Publisher { dir: self.dir.clone(), number: self.number, port: self.broker_port }
    }
}

/// Gives the same signed command twice, through the broker.
struct Publisher {
    dir: PathBuf,
    number: u32,
    port: u16,
}

impl Publisher {
    async fn publish(self) {
        let Ok(key) = commands::read_key(&self.dir.join("operator.key")) else { return };
        let now = jiff::Timestamp::now();
        let station = format!("{STATION}-{}", self.number);
        let envelope = Envelope {
            id: ulid::Ulid::generate().to_string(),
            station: station.clone(),
            name: "patrol.start".to_owned(),
            args: json!({"patrol": site::PATROL}),
            issued_at: now,
            deadline: now.saturating_add(jiff::SignedDuration::from_secs(60)).unwrap_or(now),
            operator: "campaign".to_owned(),
        };
        let token = commands::sign(&envelope, &key, "demo-operator");
        for _ in 0..2 {
            let sent = Command::new("mosquitto_pub")
                .args(["-V", "mqttv5", "-q", "1", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-t"])
                .arg(format!("aerie/v1/{station}/command/patrol.start"))
                .args(["-m", &token])
                .stdin(Stdio::null())
                .status()
                .await;
            if !matches!(sent, Ok(status) if status.success()) {
                tracing::error!("the command could not be published; is mosquitto-clients installed?");
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
}

/// A way to the broker that can be cut. Returns its port.
async fn proxy(broker: u16, there: watch::Receiver<bool>, cancel: CancellationToken) -> std::io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = cancel.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((mut near, _)) = accepted else { continue };
            let mut there = there.clone();
            if !*there.borrow() {
                continue;
            }
            let cancel = cancel.clone();
            tokio::spawn(async move {
                let Ok(mut far) = TcpStream::connect((Ipv4Addr::LOCALHOST, broker)).await else { return };
                let cut = async { drop(there.wait_for(|there| !there).await) };
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = cut => {}
                    // Either end may hang up; both are then closed.
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                }
            });
        }
    });
    Ok(port)
}

// ---- one run -------------------------------------------------------------------------------------------------------

struct Run {
    began: Instant,
    world: World,
    trace: Trace,
    /// Each with when it was thrown.
    faults: Vec<(Planned, Option<f64>)>,
    commanded: Option<f64>,
}

/// What the station says of the newest sortie.
#[derive(Debug, Clone, Default)]
struct Said {
    state: String,
    reason: String,
    ended: bool,
    launch_steps_s: Option<[f64; 3]>,
}

impl Run {
    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    async fn wait_ready(&mut self) -> Result<(), CampaignError> {
        let until = Instant::now() + READY_LIMIT;
        loop {
            let status = get(format!("{}/status", self.world.api)).await.unwrap_or_default();
            let gates = status["gates"].as_array().map(Vec::as_slice).unwrap_or_default();
            if !gates.is_empty() && gates.iter().all(|g| g["passed"] == true) {
                return Ok(());
            }
            if Instant::now() > until || !self.world.station_alive() {
                let (number, log) = (self.world.number, self.world.log());
                return Err(CampaignError::NotReady { number, limit: READY_LIMIT, log });
            }
            sleep(Duration::from_millis(300)).await;
        }
    }

    async fn fly(&mut self) -> Result<(), CampaignError> {
        let cancel = CancellationToken::new();
        let _stop = cancel.clone().drop_guard();
        let (said_out, said) = watch::channel(Said::default());
        tokio::spawn(listen(self.world.api.clone(), said_out, cancel));
        let ready = self.now();
        let lead =
            self.faults.iter().map(|(p, _)| if let When::Before(s) = p.when { s } else { 0.0 }).fold(1.0, f64::max);
        let mut tick = interval(SAMPLE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut command = None;
        let (mut undo, mut over_since) = (Vec::new(), None);
        let (mut airborne, mut home) = (None, None);
        loop {
            tick.tick().await;
            let now = self.now();
            let sample = self.world.sample(now);
            self.trace.samples.push(sample);
            let asked = self.world.hardware.take_asked();
            self.trace.hatch.extend(asked.into_iter().map(|asked| HatchAsked {
                t_s: asked.at.saturating_duration_since(self.began).as_secs_f64(),
                open: asked.open,
                in_dock: asked.drone.in_dock,
                armed: asked.drone.armed,
            }));
            if sample.launches > 0 {
                airborne.get_or_insert(now);
            }
            if sample.in_air && sample.coming_home {
                home.get_or_insert(now);
            }
            if self.commanded.is_none() && now - ready >= lead && sample.station_alive {
                self.commanded = Some(now);
                self.trace.commands = 1;
                command = Some(tokio::spawn(self.command()));
            }
            for index in 0..self.faults.len() {
                let (planned, thrown) = self.faults[index];
                let due = match planned.when {
                    When::Before(s) => Some(ready + (lead - s).max(0.0)),
                    When::Commanded(s) => self.commanded.map(|at| at + s),
                    When::Airborne(s) => airborne.map(|at| at + s),
                    When::ComingHome(s) => home.map(|at| at + s),
                };
                if thrown.is_none() && due.is_some_and(|due| now >= due) {
                    self.world.throw(planned.fault).await;
                    self.faults[index].1 = Some(now);
                    undo.push((now + planned.fault.lasts_s(), planned.fault));
                }
            }
            let (over, still): (Vec<_>, Vec<_>) = undo.into_iter().partition(|(at, _)| now >= *at);
            undo = still;
            for (_, fault) in over {
                self.world.undo(fault).await?;
            }
            let answered = command.as_ref().is_some_and(|c: &tokio::task::JoinHandle<_>| c.is_finished());
            let waits = undo.iter().any(|(_, fault)| matches!(fault, Fault::StationKilled { .. }));
            // A command that died with the station leaves no sortie, or one that says how it ended.
            let quiet = !sample.armed && !sample.in_air && sample.station_alive && answered && !waits;
            let told = said.borrow().clone();
            let ended = told.ended || (told.state.is_empty() && self.commanded.is_some_and(|at| now - at > 30.0));
            if quiet && ended {
                let since = *over_since.get_or_insert(now);
                if now - since >= WATCHED_S {
                    return Ok(());
                }
            } else {
                over_since = None;
            }
            if now - ready > SORTIE_LIMIT {
                return Ok(());
            }
        }
    }

    /// Gives the command to fly, once. A station that cannot be reached has not got it.
    fn command(&self) -> impl Future<Output = ()> + Send + use<> {
        let twice = self.faults.iter().any(|(p, _)| p.fault == Fault::CommandRepeated);
        let api = self.world.api.clone();
        let publisher = twice.then(|| self.world.publisher());
        async move {
            match publisher {
                Some(publisher) => publisher.publish().await,
                None => post(format!("{api}/patrols/{}/start", site::PATROL)).await,
            }
        }
    }

    async fn end(mut self, number: u32, setup: &Setup) -> Flown {
        let newest = newest(&self.world.api).await;
        if let Some(mut station) = self.world.station.take() {
            if let Some(pid) = station.id().and_then(|pid| i32::try_from(pid).ok()) {
                // Gone already is as good.
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            if timeout(Duration::from_secs(8), station.wait()).await.is_err() {
                let _ = station.kill().await;
            }
        }
        let verdict = judge::judge(&self.trace, &Rules::at_speed(setup.options.speed));
        let airborne = self.trace.samples.iter().find(|s| s.launches > 0).map(|s| s.t_s);
        let faults = self.faults.iter();
        let faults =
            faults.map(|(planned, at_s)| Thrown { planned: *planned, words: planned.to_string(), at_s: *at_s });
        let flown = Flown {
            number,
            faults: faults.collect(),
            launch_steps_s: newest.as_ref().and_then(|said| said.launch_steps_s),
            station_says: newest.map(|said| (said.state, said.reason)),
            command_to_air_s: airborne.zip(self.commanded).map(|(air, command)| air - command),
            farthest_m: self.trace.samples.iter().map(|s| s.away_m).fold(0.0, f64::max),
            wall_s: self.now(),
            verdict,
        };
        self.keep(&flown);
        flown
    }

    /// What led to an unsafe end is kept whole; of the others the station's log.
    fn keep(&self, flown: &Flown) {
        let write = |name: &str, value: Value| {
            if let Err(error) = fs::write(self.world.dir.join(name), value.to_string()) {
                tracing::warn!(%error, name, "cannot be written");
            }
        };
        write("verdict.json", json!(flown));
        if flown.verdict.faults.is_empty() {
            for dir in ["state", "media"] {
                // What stays is only in the way.
                let _ = fs::remove_dir_all(self.world.dir.join(dir));
            }
        } else {
            write("trace.json", json!(self.trace));
        }
    }
}

async fn listen(api: String, said: watch::Sender<Said>, cancel: CancellationToken) {
    let mut tick = interval(Duration::from_millis(500));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Some(newest) = newest(&api).await {
            said.send_replace(newest);
        }
    }
}

async fn newest(api: &str) -> Option<Said> {
    let sorties = get(format!("{api}/sorties")).await?;
    let newest = sorties.get(0)?;
    let text = |key: &str| newest[key].as_str().unwrap_or_default().to_owned();
    Some(Said {
        state: text("state"),
        reason: text("reason"),
        ended: !newest["ended_at"].is_null(),
        launch_steps_s: launch_steps_s(&newest["steps"]),
    })
}

/// How long a launch took by its steps; none where it did not come to the air.
fn launch_steps_s(steps: &Value) -> Option<[f64; 3]> {
    let at = |state: &str| -> Option<jiff::Timestamp> {
        let step = steps.as_array()?.iter().find(|step| step["state"] == state)?;
        step["at"].as_str()?.parse().ok()
    };
    let moments = [at("gating")?, at("dock_opening")?, at("arming")?, at("airborne")?];
    let between = |i: usize| moments[i + 1].duration_since(moments[i]).as_secs_f64();
    Some([between(0), between(1), between(2)])
}

fn agent(seconds: u64) -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(seconds)));
    config.http_status_as_error(false).build().into()
}

async fn get(url: String) -> Option<Value> {
    let asked = tokio::task::spawn_blocking(move || agent(2).get(url).call().ok()?.body_mut().read_json().ok());
    asked.await.ok().flatten()
}

/// Once: whether it was taken is seen from what the drone does. A station that does not listen yet has not got it.
async fn post(url: String) {
    let until = Instant::now() + Duration::from_secs(25);
    loop {
        let url = url.clone();
        let sent = tokio::task::spawn_blocking(move || {
            let request = agent(40).post(url).header("X-Aerie-Console", "1").header("X-Aerie-Origin", "cli");
            request.header("X-Aerie-Operator", "campaign").send_json(json!({})).map(|answer| answer.status().as_u16())
        });
        match sent.await {
            Ok(Ok(status)) => return tracing::info!(status, "the command was answered"),
            Ok(Err(error)) if refused(&error) && Instant::now() < until => sleep(Duration::from_millis(500)).await,
            Ok(Err(error)) => return tracing::info!(%error, "the command was not answered"),
            Err(error) => return tracing::error!(%error, "the command could not be given"),
        }
    }
}

fn refused(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused)
        || matches!(error, ureq::Error::ConnectionFailed)
}
