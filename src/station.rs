//! The only wiring: builds every part of `aerie run` and connects them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::cases::Register;
use crate::cases::keeper::{self, CaseKeeper};
use crate::config::{self, Checked, Faults};
use crate::console;
use crate::orders::{self, Hints, Orders};
use crate::outbox::Outbox;
use crate::patrol::crew::Crew;
use crate::patrol::dispatcher::{self, Calendar, Dispatcher};
use crate::patrol::holds::HoldKeeper;
use crate::perception::ledger::Rules;
use crate::perception::protocol::CameraModel;
use crate::perception::{self, Perception, supervise};
use crate::runtime::clock::{self, Trust};
use crate::runtime::notify::{self, Notifier, Pulse};
use crate::runtime::store::{Store, Table};
use crate::runtime::supervisor::{Budget, Supervisor};
use crate::runtime::{cgroup, latest, paths, tidy};
use crate::update::release::Kind;
use crate::update::{self, Updates};
use crate::uplink::commands::{self, Door, Execute};
use crate::uplink::{self, UplinkState};
use crate::vehicle::{Dock, Lines, Telemetry, Vehicle, Weather, Wiring};

/// Everything that shows the station or acts on it holds one of these; cheap to clone.
#[derive(Clone)]
pub struct Station {
    pub checked: Arc<Checked>,
    pub started: Timestamp,
    pub vehicle: Vehicle,
    pub dock: Dock,
    pub weather: Weather,
    pub perception: Perception,
    pub keeper: CaseKeeper,
    pub dispatcher: Dispatcher,
    pub outbox: Outbox,
    pub updates: Updates,
    pub store: Store,
    pub uplink: watch::Receiver<UplinkState>,
    pub door: Door,
}

/// Runs a station until SIGTERM or SIGINT; a second signal forces. Returns whether it ended as it should.
pub async fn run(config: &Path) -> anyhow::Result<bool> {
    // A wrong name on a command line; what stands in a file and is wrong is said on the page instead.
    anyhow::ensure!(
        config.exists(),
        "{}: there is no such file; name it with --config, `aerie config example` prints one to begin with",
        config.display()
    );
    let cancel = CancellationToken::new();
    stop_on_signals(cancel.clone())?;
    match config::load(config) {
        Ok(checked) => fly(checked, cancel).await,
        Err(faults) => {
            grounded(config, faults, cancel).await?;
            Ok(false)
        }
    }
}

/// A station with a bad configuration flies nothing and delivers nothing, but its page says what is wrong.
async fn grounded(path: &Path, faults: Faults, cancel: CancellationToken) -> anyhow::Result<()> {
    eprintln!("{faults}");
    let listen = listen_of(path).unwrap_or_else(|| config::Console::default().listen);
    tracing::error!(
        faults = faults.faults.len(),
        page = %format_args!("http://{listen}"),
        "the configuration has faults: nothing flies; this process stays up for the page that names them, mend the file and start it again"
    );
    let words = format!("nothing flies: {} fault(s) in {}", faults.faults.len(), path.display());
    tokio::spawn(notify::keep(Notifier::from_env(), Pulse::default(), move || words.clone(), cancel.clone()));
    console::serve_faults(&listen, faults, cancel).await
}

/// Where the page should be, from a file that may be wrong everywhere else.
fn listen_of(path: &Path) -> Option<String> {
    let listen = stated_listen(&std::fs::read_to_string(path).ok()?)?;
    let at: std::net::SocketAddr = listen.parse().ok()?;
    at.ip().is_loopback().then_some(listen)
}

/// `console.listen`, also of a text that is no TOML elsewhere: on the default port the page might be in another's way.
fn stated_listen(text: &str) -> Option<String> {
    if let Ok(value) = toml::from_str::<toml::Value>(text) {
        return Some(value.get("console")?.get("listen")?.as_str()?.to_owned());
    }
    let lines = text.lines().map(str::trim).skip_while(|line| *line != "[console]").skip(1);
    let mut own = lines.take_while(|line| !line.starts_with('['));
    let value: toml::Value =
        own.find_map(|line| toml::from_str(line).ok().filter(|v: &toml::Value| v.get("listen").is_some()))?;
    Some(value["listen"].as_str()?.to_owned())
}

async fn fly(mut checked: Checked, cancel: CancellationToken) -> anyhow::Result<bool> {
    let supervisor = Supervisor::new(cancel.clone(), Budget::default());
    let config = checked.config.clone();
    let id = config.station.id.clone();
    let dir = config.station.state_dir.clone();
    std::fs::create_dir_all(&dir)
        .map_err(|error| anyhow::anyhow!("station.state_dir: {} cannot be made: {error}", dir.display()))?;

    let store = match Store::open(&dir) {
        // A full disk: what the outbox keeps for that moment makes room for the log of a database.
        Err(error) if error.is_full() && crate::outbox::give_reserve_away(&dir) => Store::open(&dir)?,
        opened => opened?,
    };
    let options = config.outbox.options(uplink::cloudevents::source(&id));
    let outbox = Outbox::open_with(&dir, options)?;

    // The drone's link-loss failsafe is the last watchdog: a station that has stopped deciding falls silent.
    let (healthy_out, healthy) = watch::channel(true);
    let wiring = Wiring { state_dir: Some(dir.clone()), healthy: Some(healthy) };
    let vehicle = Vehicle::spawn_with(config.vehicle.clone(), wiring, cancel.clone()).await?;
    let lines = Lines::default();
    let dock = Dock::spawn_on(config.dock.clone(), &lines, cancel.clone())?;
    let weather = Weather::spawn_on(config.weather.clone(), &lines, cancel.clone())?;

    let pen = match cgroup::divide(config.perception.memory_mb) {
        Ok(pen) => Some(Arc::new(pen)),
        Err(reason) => {
            tracing::info!(%reason, "perception runs without a memory limit of its own");
            None
        }
    };
    let program = paths::aerie()?;
    let mut prepared = update::Prepared::open(update::Options {
        station: id.clone(),
        state_dir: dir.clone(),
        zone: checked.zone.clone(),
        config: config.update.clone(),
        program: program.clone(),
        providers: config.perception.execution_provider.clone(),
        own_model: perception::model_dir(config.perception.model.as_deref()),
    })?;
    if let Some(register) = prepared.committed(Kind::Register, "register.geojson", Register::read)? {
        checked.register = register;
    }
    let kinds = prepared.committed(Kind::Rules, "cases.toml", config::kinds_of)?;
    let options = supervise::Options {
        program,
        // A model of the site's own, or a signed one, that does not load gives way to the one that came with aerie.
        fallback: Some(perception::model_dir(None)).filter(|own| *own != prepared.model),
        model: prepared.model.clone(),
        pen,
        providers: config.perception.execution_provider.clone(),
    };
    let (perception, looked) = supervise::spawn(options, cancel.clone());
    let options = keeper::Options {
        station: id.clone(),
        kinds: kinds.unwrap_or_else(|| config.cases.kinds()),
        division: config.station.division.clone(),
        camera: CameraModel { horizontal_fov_deg: config.camera.horizontal_fov_deg },
        aspect: config.camera.aspect,
        rules: Rules { looks: config.perception.looks, ..Rules::default() },
        media_dir: config.camera.media_dir.clone(),
        peace: config.cases.rejected,
        terrain: checked.terrain.clone(),
    };
    let keeper = keeper::spawn(
        options,
        checked.register.clone(),
        store.clone(),
        outbox.clone(),
        perception.clone(),
        looked,
        cancel.clone(),
    )
    .await?;

    let holds = HoldKeeper::open(store.clone()).await?;
    let (clock_out, clock) = watch::channel(Trust::Unsynced);
    let updates = update::spawn(prepared, perception.clone(), outbox.clone(), clock.clone(), cancel.clone())?;
    let (current_out, current) = watch::channel(None);
    let crew = Crew {
        station: id.clone(),
        state_dir: dir.clone(),
        zone: checked.zone.clone(),
        dock_at: config.station.dock,
        horizontal_fov_deg: config.camera.horizontal_fov_deg,
        aspect: config.camera.aspect,
        limits: config.gates.clone(),
        requests: config.requests,
        exclusions: checked.exclusions.clone(),
        energy: config.energy,
        approvals: Arc::new(checked.approvals.clone()),
        identification: config.identification.clone(),
        reach: crate::vehicle::mission::Limits {
            max_height_m: config.vehicle.max_height_m,
            max_distance_m: config.vehicle.max_distance_m,
        },
        vehicle: vehicle.clone(),
        dock: dock.clone(),
        weather: weather.clone(),
        keeper: keeper.clone(),
        store: store.clone(),
        outbox: outbox.clone(),
        holds: holds.watch(),
        clock: clock.clone(),
        current: Arc::new(current_out),
        stopping: cancel.clone(),
    };
    let calendar = Calendar { zone: checked.zone.clone(), holidays: checked.holidays.clone() };
    let dispatcher = dispatcher::spawn(crew, current, checked.patrols.clone(), calendar, cancel.clone()).await?;

    // Commands are few and each is short; who finds it full waits until its deadline.
    let (executor, mut orders) = mpsc::channel::<Execute>(16);
    let (door, interrupted) = Door::open(&dir, &id, &config.commands, executor, clock.clone())?;
    let (status_out, status) = watch::channel(json!({"state": "online"}));
    // Messages from upstream; when full, the broker holds the rest.
    let (incoming_out, incoming) = mpsc::channel(32);
    let link = uplink::spawn(config.uplink.clone(), &id, outbox.clone(), status, incoming_out, cancel.clone());
    let link = Arc::new(link);

    let station = Station {
        checked: Arc::new(checked),
        started: Timestamp::now(),
        vehicle,
        dock,
        weather,
        perception,
        keeper,
        dispatcher: dispatcher.clone(),
        outbox,
        updates,
        store,
        uplink: link.state(),
        door: door.clone(),
    };

    for closed in interrupted.into_iter().filter(|c| c.by_mqtt) {
        link.reply(&closed.reply, closed.reply_to).await;
    }
    let hints = Arc::new(watch::channel(Hints::default()).0);
    let rules = orders::rules_digest(&station.checked);
    let handler = Orders { station: station.clone(), holds, clock, hints: Arc::clone(&hints), rules };
    // A hint that finds no room is one of many.
    let (hinted, mut hints_in) = mpsc::channel(4);
    tokio::spawn(commands::serve(door, Arc::clone(&link), incoming, hinted));
    let watched = dispatcher.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(order) = orders.recv() => drop(tokio::spawn(handler.clone().execute(order))),
                Some(hint) = hints_in.recv() => handler.hinted(&hint),
                else => return,
            }
        }
    });
    tokio::spawn(watch_over(watched, healthy_out, cancel.clone()));
    supervisor.keep("clock", {
        let (station, clock_out, cancel) = (station.clone(), Arc::new(clock_out), cancel.clone());
        move || watch_the_clock(station.clone(), Arc::clone(&clock_out), cancel.clone())
    });
    supervisor.keep("status", {
        let (station, link, cancel) = (station.clone(), Arc::clone(&link), cancel.clone());
        let told = (Arc::new(status_out), hints);
        move || tell_status(station.clone(), Arc::clone(&link), told.clone(), cancel.clone())
    });
    supervisor.keep("console", {
        let (station, cancel) = (station.clone(), cancel.clone());
        move || console::serve(station.clone(), cancel.clone())
    });
    keep_alive(&supervisor, &station, &link);
    if let Some(days) = config.camera.keep_days {
        supervisor.keep("tidying", {
            let (station, cancel) = (station.clone(), cancel.clone());
            move || tidy_media(station.clone(), days, cancel.clone())
        });
    }
    tracing::info!(station = id, "station runs");

    let told = station.clone();
    notify::keep(Notifier::from_env(), pulse_of(&station), move || words_of(&told), cancel.clone()).await;
    let fallen = supervisor.drained().await;
    if let Ok(link) = Arc::try_unwrap(link) {
        // The last will is for crashes; an orderly end says goodbye itself.
        let _ = tokio::time::timeout(Duration::from_secs(5), link.stopped()).await;
    }
    tracing::info!("station stopped");
    Ok(fallen.is_none())
}

/// The parts whose tasks nobody starts again: each holds what only a new station finds again, on the disk or in the air.
fn keep_alive(supervisor: &Supervisor, station: &Station, link: &uplink::Uplink) {
    fn vital<T: Send + Sync + 'static>(supervisor: &Supervisor, name: &'static str, state: watch::Receiver<T>) {
        supervisor.vital(name, move || state.has_changed().is_err());
    }
    vital(supervisor, "vehicle", station.vehicle.telemetry());
    vital(supervisor, "dock", station.dock.state());
    vital(supervisor, "weather", station.weather.latest());
    vital(supervisor, "perception", station.perception.state());
    vital(supervisor, "case keeper", station.keeper.harvest());
    vital(supervisor, "update", station.updates.view());
    vital(supervisor, "outbox", station.outbox.stats());
    vital(supervisor, "uplink", link.state());
    let dispatcher = station.dispatcher.clone();
    supervisor.vital("dispatcher", move || dispatcher.is_gone());
}

/// What has to answer for the station to count as alive. Where each limit comes from: a dispatcher that does not turn
/// for 15 s leaves the drone without our heartbeat already; a disk may take its time over one commit; the keeper says itself.
fn pulse_of(station: &Station) -> Pulse {
    let mut pulse = Pulse::default();
    let dispatcher = station.dispatcher.clone();
    pulse.watch("dispatcher", Duration::from_secs(15), move || std::future::ready(dispatcher.is_alive()));
    let vehicle = station.vehicle.clone();
    pulse.watch("vehicle", Duration::from_secs(15), move || {
        std::future::ready(vehicle.last_turn().elapsed() < Duration::from_secs(5))
    });
    let store = station.store.clone();
    pulse.watch("aerie.db", Duration::from_secs(60), move || {
        let store = store.clone();
        async move { store.get::<Value>(Table::Holds, "nobody").await.is_ok() }
    });
    let outbox = station.outbox.clone();
    pulse.watch("outbox", Duration::from_secs(60), move || {
        let outbox = outbox.clone();
        async move { outbox.ping().await.is_ok() }
    });
    let keeper = station.keeper.clone();
    pulse.watch("case keeper", Duration::from_secs(15), move || {
        std::future::ready(keeper.last_turn().elapsed() < keeper::LONGEST_TASK)
    });
    pulse
}

/// One line for `systemctl status`.
fn words_of(station: &Station) -> String {
    let sortie = latest(&station.dispatcher.current()).filter(|s| !s.state.is_terminal());
    let doing = sortie.map_or("no sortie".to_owned(), |s| format!("sortie {} ({:?})", s.id, s.state));
    let problems: Vec<&str> = console::problems(station).iter().map(|problem| problem.part).collect();
    if problems.is_empty() { doing } else { format!("{doing}; problems: {}", problems.join(", ")) }
}

/// Removes old pictures once an hour, never while a sortie needs the disk and perhaps the pictures.
async fn tidy_media(station: Station, days: u16, cancel: CancellationToken) {
    let mut tick = interval(Duration::from_secs(3600));
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = tick.tick() => {}
        }
        if latest(&station.dispatcher.current()).is_some_and(|s| !s.state.is_terminal()) {
            continue;
        }
        let dir = station.checked.config.camera.media_dir.clone();
        let shown = dir.clone();
        let gone = tokio::task::spawn_blocking(move || tidy::pictures(&dir, days.into(), Timestamp::now())).await;
        match gone {
            Ok(Ok(0)) => {}
            Ok(Ok(gone)) => tracing::info!(gone, days, "old pictures were removed"),
            Ok(Err(error)) => tracing::warn!(%error, dir = %shown.display(), "old pictures cannot be looked for"),
            Err(error) => tracing::warn!(%error, "the tidying failed"),
        }
    }
}

/// Lets the drone hear our heartbeat only while somebody here decides.
async fn watch_over(dispatcher: Dispatcher, healthy: watch::Sender<bool>, cancel: CancellationToken) {
    let mut tick = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = tick.tick() => {}
        }
        let alive = dispatcher.is_alive();
        if healthy.send_replace(alive) != alive {
            tracing::error!(alive, "the dispatcher has stopped turning: the drone hears no heartbeat until it does");
        }
    }
}

/// Compares the wall clock once a second with what else tells time.
async fn watch_the_clock(station: Station, trust: Arc<watch::Sender<Trust>>, cancel: CancellationToken) {
    let tolerance = Duration::from_secs_f64(station.checked.config.gates.clock_tolerance_s);
    let mut watcher = clock::Watcher::default();
    let mut tick = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = tick.tick() => {}
        }
        let satellite = latest(&station.vehicle.telemetry()).health.utc;
        let now = tokio::time::Instant::now();
        let seen = watcher.look(Timestamp::now(), now, satellite, clock::machine_says_synced(), tolerance);
        // By how much it is off differs each time; that it is off is said once.
        if std::mem::discriminant(&trust.send_replace(seen.clone())) != std::mem::discriminant(&seen) {
            tracing::info!(?seen, "the station's clock");
        }
    }
}

/// What the station says of itself, over MQTT: retained when it changes, the drone's place once a second.
async fn tell_status(
    station: Station,
    link: Arc<uplink::Uplink>,
    (status, hints): (Arc<watch::Sender<Value>>, Arc<watch::Sender<Hints>>),
    cancel: CancellationToken,
) {
    let mut tick = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = tick.tick() => {}
        }
        let now = status_of(&station, &latest(&hints.subscribe()));
        status.send_if_modified(|known| {
            let changed = *known != now;
            *known = now.clone();
            changed
        });
        let telemetry = latest(&station.vehicle.telemetry());
        if telemetry.linked {
            link.telemetry("telemetry", pose(&telemetry).to_string().into_bytes());
        }
    }
}

pub(crate) fn status_of(station: &Station, hints: &Hints) -> Value {
    let perception = latest(&station.perception.state());
    let sortie = latest(&station.dispatcher.current())
        .map(|s| json!({"id": s.id, "patrol": s.patrol, "state": s.state, "reason": s.reason}));
    json!({
        "state": "online",
        "version": env!("CARGO_PKG_VERSION"),
        "simulated": station.checked.config.station.simulated,
        "model": perception.model,
        "update": update_of(station),
        "wanted": hints,
        "perception": if perception.running { "running" } else { "down" },
        "sortie": sortie,
        "dock": latest(&station.dock.state()).hatch,
        "vehicle_linked": latest(&station.vehicle.telemetry()).linked,
        "problems": console::problems(station),
    })
}

/// What changes rarely: the status is retained, and published anew with each change.
fn update_of(station: &Station) -> Value {
    let view = latest(&station.updates.view());
    let kinds = view.kinds.iter().map(|k| {
        let candidate = k.record.candidate.as_ref();
        (
            k.kind.name().to_owned(),
            json!({
                "committed": k.record.committed,
                "candidate": candidate.map(|c| json!({"release": c.release, "stage": c.stage})),
            }),
        )
    });
    Value::Object(kinds.collect())
}

fn pose(t: &Telemetry) -> Value {
    json!({
        "at": Timestamp::now(),
        "lat": t.position.map(|p| p.at.lat),
        "lon": t.position.map(|p| p.at.lon),
        "height_m": t.position.map(|p| p.height_m),
        "heading_deg": t.heading_deg,
        "speed_m_s": t.speed_m_s,
        "battery_pct": t.battery_pct,
        "armed": t.armed,
        "mode": t.mode,
    })
}

fn stop_on_signals(cancel: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if cancel.is_cancelled() {
                eprintln!("aerie: stopped by force");
                #[expect(clippy::disallowed_methods, reason = "a second signal wants no orderly end")]
                std::process::exit(130);
            }
            tracing::info!("stopping; a second signal forces");
            cancel.cancel();
        }
    });
    Ok(())
}

/// The state directory that a configuration names, for commands that look into it without a running station.
pub fn state_dir(config: &Path) -> Result<PathBuf, Faults> {
    config::whereabouts(config).map(|(_, state_dir)| state_dir)
}

#[cfg(test)]
mod tests {
    use super::stated_listen;

    #[test]
    fn the_page_is_where_the_file_says_also_where_the_rest_of_it_is_no_toml() {
        let console = "[console] \n# here\nlisten = \"127.0.0.1:9000\" # a page\n";
        for (before, after) in [("", ""), ("[station\nid = 1\n", "[vehicle]\nurl = \n"), ("a b c\n", "")] {
            let text = format!("{before}{console}{after}");
            assert_eq!(stated_listen(&text).as_deref(), Some("127.0.0.1:9000"), "{text}");
        }
        assert_eq!(stated_listen("[console]\n[dock\nlisten = \"127.0.0.1:9001\"\n"), None, "another table's");
        assert_eq!(stated_listen("[dock\n"), None);
    }
}
