//! Flights on paused time: a drone whose every word is the test's, a simulated dock, a real record.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use mavlink::dialects::common::{
    EXTENDED_SYS_STATE_DATA, GLOBAL_POSITION_INT_DATA, GPS_RAW_INT_DATA, GpsFixType, HEARTBEAT_DATA,
    MISSION_CURRENT_DATA, MavAutopilot, MavCmd, MavLandedState, MavMessage, MavModeFlag, MavResult, MavState, MavType,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::adopt::adopt;
use super::crew::Crew;
use super::dispatcher::{self, Calendar};
use super::flight::{self, Reins};
use super::follow::Follow;
use super::gates::{Hold, Holds};
use super::{Sortie, State, Trigger};
use crate::cases::keeper::{CaseKeeper, Harvest};
use crate::geo::{LatLon, LocalFrame};
use crate::outbox::Outbox;
use crate::perception::ledger::Survey;
use crate::runtime::clock::Trust;
use crate::runtime::latest;
use crate::runtime::store::{Store, Table};
use crate::sim::drone::Truth;
use crate::sim::hardware::{self, Air, Hardware, HardwareConfig};
use crate::vehicle::mission::{self, degrees_e7};
use crate::vehicle::tests::wire::{Far, wired_until};
use crate::vehicle::{Autopilot, Dock, DockConfig, FlightMode, Hatch, Mission, Waypoint, Weather, WeatherConfig};

const DOCK: LatLon = LatLon { lat: 23.05, lon: 113.0 };
/// Longer than any flight here; on paused time it costs nothing.
const LONG: Duration = Duration::from_secs(600);

/// What the drone says of itself, five times a second.
#[derive(Debug, Clone, Copy)]
struct Says {
    mode: FlightMode,
    armed: bool,
    landed: MavLandedState,
    item: u16,
    north_m: f64,
    fix: Option<GpsFixType>,
    /// Whether it does as it is told.
    obeys: bool,
}

impl Says {
    fn flies(item: u16) -> Says {
        Says {
            mode: FlightMode::Auto,
            armed: true,
            landed: MavLandedState::MAV_LANDED_STATE_IN_AIR,
            item,
            north_m: 90.0,
            fix: Some(GpsFixType::GPS_FIX_TYPE_3D_FIX),
            obeys: true,
        }
    }

    fn stands() -> Says {
        let landed = MavLandedState::MAV_LANDED_STATE_ON_GROUND;
        Says { armed: false, landed, north_m: 0.0, mode: FlightMode::Hold, ..Says::flies(0) }
    }

    fn messages(&self) -> [Option<MavMessage>; 5] {
        let (main, sub) = self.mode.encode(Autopilot::Px4).unwrap();
        let at = LocalFrame::new(DOCK).to_latlon(0.0, self.north_m);
        let (lat, lon) = (degrees_e7(at.lat), degrees_e7(at.lon));
        let armed = if self.armed { MavModeFlag::MAV_MODE_FLAG_SAFETY_ARMED } else { MavModeFlag::empty() };
        [
            Some(MavMessage::HEARTBEAT(HEARTBEAT_DATA {
                custom_mode: main << 16 | sub << 24,
                mavtype: MavType::MAV_TYPE_QUADROTOR,
                autopilot: MavAutopilot::MAV_AUTOPILOT_PX4,
                base_mode: MavModeFlag::MAV_MODE_FLAG_CUSTOM_MODE_ENABLED | armed,
                system_status: MavState::MAV_STATE_ACTIVE,
                mavlink_version: 3,
            })),
            Some(MavMessage::EXTENDED_SYS_STATE(EXTENDED_SYS_STATE_DATA {
                landed_state: self.landed,
                ..Default::default()
            })),
            Some(MavMessage::GLOBAL_POSITION_INT(GLOBAL_POSITION_INT_DATA {
                lat,
                lon,
                relative_alt: if self.armed { 60_000 } else { 0 },
                ..Default::default()
            })),
            Some(MavMessage::MISSION_CURRENT(MISSION_CURRENT_DATA { seq: self.item, ..Default::default() })),
            self.fix.map(|fix_type| MavMessage::GPS_RAW_INT(GPS_RAW_INT_DATA { fix_type, ..Default::default() })),
        ]
    }

    fn does(&mut self, command: MavCmd, params: [f32; 3]) {
        match command {
            MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH => self.mode = FlightMode::Return,
            MavCmd::MAV_CMD_NAV_LAND => self.mode = FlightMode::Land,
            MavCmd::MAV_CMD_DO_SET_MODE => {
                let custom_mode = (params[1] as u32) << 16 | (params[2] as u32) << 24;
                self.mode = FlightMode::decode(Autopilot::Px4, custom_mode);
            }
            MavCmd::MAV_CMD_COMPONENT_ARM_DISARM => self.armed = params[0] == 1.0,
            _ => {}
        }
    }
}

/// Speaks for the drone, and notes what it is told.
async fn speak(mut far: Far, says: watch::Sender<Says>, told: Arc<Mutex<Vec<MavCmd>>>) {
    let mut tick = interval(Duration::from_millis(200));
    loop {
        let heard = tokio::select! {
            _ = tick.tick() => None,
            message = far.hear() => Some(message),
        };
        match heard {
            None => {
                let now = *says.borrow();
                for message in now.messages().into_iter().flatten() {
                    far.say(1, 1, &message).await;
                }
            }
            Some(MavMessage::COMMAND_LONG(c)) if c.command == MavCmd::MAV_CMD_SET_MESSAGE_INTERVAL => {
                far.answer(c.command, MavResult::MAV_RESULT_ACCEPTED).await;
            }
            Some(MavMessage::COMMAND_LONG(c)) => {
                told.lock().unwrap().push(c.command);
                let obeys = says.borrow().obeys;
                if obeys {
                    says.send_modify(|says| says.does(c.command, [c.param1, c.param2, c.param3]));
                }
                let result = if obeys { MavResult::MAV_RESULT_ACCEPTED } else { MavResult::MAV_RESULT_DENIED };
                far.answer(c.command, result).await;
            }
            Some(_) => {}
        }
    }
}

struct Rig {
    crew: Crew,
    says: watch::Sender<Says>,
    told: Arc<Mutex<Vec<MavCmd>>>,
    /// What the dock's sensor sees.
    truth: watch::Sender<Truth>,
    hardware: Hardware,
    drone: JoinHandle<()>,
    _dir: tempfile::TempDir,
    _all: DropGuard,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.drone.abort();
    }
}

/// A station whose drone says this; the dock's sensor sees it when it stands in the middle.
async fn rig(says: Says) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    // The hardware outlives the station.
    let (all, stopping) = (CancellationToken::new(), CancellationToken::new());
    let (vehicle, far) = wired_until(Default::default(), stopping.clone());
    let present = !says.armed && says.north_m == 0.0;
    let (truth, seen) = watch::channel(Truth { in_dock: present, ..Truth::docked(DOCK) });
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = HardwareConfig { listen, seed: 1, speed: 1.0, travel_s: 5.0 };
    let hardware = hardware::spawn(config, Air::new(), seen, all.clone()).await.unwrap();
    let store = Store::open(dir.path()).unwrap();
    let crew = Crew {
        station: "test".to_owned(),
        state_dir: dir.path().to_owned(),
        zone: TimeZone::UTC,
        dock_at: DOCK,
        horizontal_fov_deg: 66.0,
        aspect: 4.0 / 3.0,
        limits: Default::default(),
        requests: Default::default(),
        exclusions: Vec::new(),
        energy: Default::default(),
        approvals: Default::default(),
        identification: None,
        reach: mission::Limits { max_height_m: 120.0, max_distance_m: 1000.0 },
        vehicle,
        dock: Dock::spawn(DockConfig::http(&hardware.url()), stopping.clone()).unwrap(),
        weather: Weather::spawn(WeatherConfig::http(&hardware.url()), stopping.clone()).unwrap(),
        keeper: CaseKeeper::idle(),
        store,
        outbox: Outbox::open(dir.path()).unwrap(),
        holds: watch::channel(Default::default()).1,
        clock: watch::channel(Trust::Synced { by: "a test" }).1,
        current: Arc::new(watch::channel(None).0),
        stopping,
    };
    let (says, told) = (watch::channel(says).0, Arc::default());
    let drone = tokio::spawn(speak(far, says.clone(), Arc::clone(&told)));
    let rig = Rig { crew, says, told, truth, hardware, drone, _dir: dir, _all: all.drop_guard() };
    let mut telemetry = rig.crew.vehicle.telemetry();
    let known = telemetry.wait_for(|t| t.linked && t.position.is_some() && t.mission_current.is_some());
    timeout(LONG, known).await.unwrap().unwrap();
    let mut dock = rig.crew.dock.state();
    timeout(LONG, dock.wait_for(|d| d.drone_present == Some(present))).await.unwrap().unwrap();
    rig
}

/// North over 60 m, from 60 m before the dock on.
fn way() -> Mission {
    let waypoint = |north| Waypoint { at: LocalFrame::new(DOCK).to_latlon(0.0, north), height_m: 60.0 };
    let waypoints = vec![waypoint(60.0), waypoint(120.0)];
    Mission { takeoff_height_m: 60.0, speed_m_s: 8.0, waypoints, ..Mission::default() }
}

/// The item of its last waypoint, and the one after the last of all.
fn last_item() -> (u16, u16) {
    let items = mission::items(&way(), Autopilot::Px4, Some(DOCK), &[]);
    let last = items.iter().rposition(|item| item.command == MavCmd::MAV_CMD_NAV_WAYPOINT).unwrap();
    (last as u16, items.len() as u16 - 1)
}

fn sortie(id: &str, states: &[State]) -> Sortie {
    let mut sortie = Sortie::new(id.to_owned(), "p", "p", Trigger::Cli, None, Timestamp::now());
    for state in states {
        sortie.become_(*state, "a test", Timestamp::now()).unwrap();
    }
    sortie
}

const TO_THE_AIR: [State; 4] = [State::Gating, State::DockOpening, State::Arming, State::Airborne];

fn reins() -> Reins {
    Reins { cancel: CancellationToken::new(), orders: mpsc::channel(1).1 }
}

impl Rig {
    fn say(&self, change: impl FnOnce(&mut Says)) {
        self.says.send_modify(change);
    }

    /// Follows a flight that is in the air, or should be.
    fn follow(&self, mut sortie: Sortie, was_up: bool) -> JoinHandle<Sortie> {
        let crew = self.crew.clone();
        tokio::spawn(async move {
            let follow = Follow::new(&crew, &mut sortie, &way(), Duration::from_secs(900), was_up);
            let outcome = follow.run(&mut reins()).await;
            flight::wind_up(&crew, sortie, outcome).await
        })
    }

    fn stop(&self) {
        self.drone.abort();
        self.crew.stopping.cancel();
    }

    /// The sortie once it shows.
    async fn until(&self, shows: impl Fn(&Sortie) -> bool) -> Sortie {
        let mut current = self.crew.current_sortie();
        let seen = timeout(LONG, current.wait_for(|s| s.as_ref().is_some_and(&shows))).await;
        match seen {
            Ok(seen) => seen.unwrap().clone().unwrap(),
            Err(_) => panic!("never seen: {:?}", latest(&self.crew.current_sortie()).map(|s| s.steps)),
        }
    }

    async fn recorded(&self, id: &str) -> Sortie {
        self.crew.store.get(Table::Sorties, id).await.unwrap().unwrap()
    }

    fn was_told(&self, command: MavCmd) -> bool {
        self.told.lock().unwrap().contains(&command)
    }

    fn closings(&self) -> usize {
        self.hardware.take_asked().iter().filter(|asked| !asked.open).count()
    }
}

#[tokio::test(start_paused = true)]
async fn a_station_that_stops_ends_no_flight_and_its_next_start_does() {
    // Down and disarmed; the dock, which looks once a second, has not seen it yet.
    let rig = rig(Says { mode: FlightMode::Return, ..Says::flies(0) }).await;
    let flight = rig.follow(sortie("s", &[&TO_THE_AIR[..], &[State::Returning]].concat()), true);
    rig.say(|says| *says = Says::stands());
    rig.until(|s| s.state == State::Landing).await;
    rig.stop();
    // The parts are gone within moments; a process takes seconds to end.
    sleep(Duration::from_secs(30)).await;
    assert!(!flight.is_finished());
    flight.abort();
    let left = rig.recorded("s").await;
    assert_eq!(left.state, State::Landing, "{:?}", left.steps);

    let again = self::rig(Says::stands()).await;
    let ended = adopt(again.crew.clone(), left, None, reins()).await;
    assert_eq!(ended.state, State::Done, "{:?}", ended.steps);
    assert_eq!(latest(&again.crew.dock.state()).hatch, Hatch::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_station_that_stops_while_its_dock_moves_leaves_the_sortie_to_the_next_start() {
    let rig = rig(Says { mode: FlightMode::Return, ..Says::flies(0) }).await;
    rig.crew.dock.open().await.unwrap();
    let flight = rig.follow(sortie("s", &[&TO_THE_AIR[..], &[State::Returning]].concat()), true);
    rig.truth.send_modify(|truth| truth.in_dock = true);
    rig.say(|says| *says = Says::stands());
    rig.until(|s| s.state == State::DockClosing).await;
    let mut hatch = rig.crew.dock.state();
    hatch.wait_for(|dock| dock.hatch == Hatch::Closing).await.unwrap();
    rig.stop();
    sleep(Duration::from_secs(30)).await;
    flight.abort();
    assert_eq!(rig.recorded("s").await.state, State::DockClosing);
}

#[tokio::test(start_paused = true)]
async fn a_drone_that_turns_for_home_before_it_says_its_last_item_has_flown_its_whole_way() {
    let (last, end) = last_item();
    let rig = rig(Says::flies(last)).await;
    let _flight = rig.follow(sortie("s", &TO_THE_AIR), true);
    sleep(Duration::from_secs(3)).await;
    // As PX4 does: the mode first, the item a second later.
    rig.say(|says| says.mode = FlightMode::Return);
    sleep(Duration::from_secs(1)).await;
    rig.say(|says| says.item = end);
    let home = rig.until(|s| s.state == State::Returning).await;
    assert_eq!((home.reason.as_str(), home.early), ("the drone returns", None));
}

#[tokio::test(start_paused = true)]
async fn a_drone_that_turns_for_home_and_never_says_its_last_item_returns_of_its_own_accord() {
    let (last, _) = last_item();
    let rig = rig(Says::flies(last)).await;
    let _flight = rig.follow(sortie("s", &TO_THE_AIR), true);
    sleep(Duration::from_secs(3)).await;
    let turned = Instant::now();
    rig.say(|says| says.mode = FlightMode::Return);
    let home = rig.until(|s| s.state == State::Returning).await;
    assert_eq!(home.reason, "the drone returns of its own accord");
    assert_eq!(home.early.as_ref(), Some(&home.reason));
    // Long enough for a late word. How much later is not asked: paused time runs on while the store writes.
    let after = turned.elapsed().as_secs_f64();
    assert!(after >= 2.0, "{after} s");
}

#[tokio::test(start_paused = true)]
async fn a_drone_that_never_rose_ends_its_sortie_also_when_the_clock_was_set_back() {
    let rig = rig(Says::stands()).await;
    let mut never = sortie("s", &TO_THE_AIR);
    never.started_at = Some(Timestamp::now().checked_add(Span::new().hours(30)).unwrap());
    let ended = timeout(LONG, rig.follow(never, false)).await.unwrap().unwrap();
    assert_eq!((ended.state, ended.reason.as_str()), (State::Aborted, "it never left the ground"));
    assert_eq!(latest(&rig.crew.dock.state()).hatch, Hatch::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_drone_that_is_armed_and_never_rises_is_disarmed() {
    let rig = rig(Says { armed: true, north_m: 0.5, mode: FlightMode::Auto, ..Says::stands() }).await;
    let flight = rig.follow(sortie("s", &TO_THE_AIR), false);
    rig.truth.send_modify(|truth| truth.in_dock = true);
    sleep(Duration::from_secs(60)).await;
    assert!(!rig.was_told(MavCmd::MAV_CMD_COMPONENT_ARM_DISARM));
    let ended = timeout(LONG, flight).await.unwrap().unwrap();
    assert_eq!((ended.state, ended.reason.as_str()), (State::Aborted, "it never left the ground"));
    assert!(rig.was_told(MavCmd::MAV_CMD_COMPONENT_ARM_DISARM));
}

#[tokio::test(start_paused = true)]
async fn a_drone_that_was_called_home_before_a_crash_and_flies_on_is_called_again() {
    for mode in [FlightMode::Auto, FlightMode::Hold] {
        let rig = rig(Says { mode, ..Says::flies(4) }).await;
        let mut called = sortie("s", &[&TO_THE_AIR[..], &[State::Returning]].concat());
        called.early = Some("called back by 李".to_owned());
        let _flight = tokio::spawn(adopt(rig.crew.clone(), called, None, reins()));
        let home = rig.until(|s| s.state == State::Returning).await;
        assert_eq!(home.reason, "called back by 李");
        let mut telemetry = rig.crew.vehicle.telemetry();
        let turns = telemetry.wait_for(|t| t.mode == Some(FlightMode::Return));
        timeout(LONG, turns).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_drone_that_turned_for_home_and_flies_its_mission_again_is_called_home() {
    let rig = rig(Says::flies(4)).await;
    let _flight = rig.follow(sortie("s", &TO_THE_AIR), true);
    rig.say(|says| says.mode = FlightMode::Return);
    rig.until(|s| s.state == State::Returning && s.early.is_some()).await;
    assert!(!rig.was_told(MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH), "it came by itself");
    rig.say(|says| says.mode = FlightMode::Auto);
    let mut telemetry = rig.crew.vehicle.telemetry();
    timeout(LONG, telemetry.wait_for(|t| t.mode == Some(FlightMode::Auto))).await.unwrap().unwrap();
    let turns = telemetry.wait_for(|t| t.mode == Some(FlightMode::Return));
    timeout(LONG, turns).await.unwrap().unwrap();
    assert!(rig.was_told(MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH));
}

#[tokio::test(start_paused = true)]
async fn a_drone_that_does_not_take_the_return_is_landed_only_if_it_is_known_to_be_lost() {
    let cases = [(None, false), (Some(GpsFixType::GPS_FIX_TYPE_NO_FIX), true)];
    for (fix, lands) in cases {
        let rig = rig(Says { fix, obeys: false, ..Says::flies(4) }).await;
        let mut reins = reins();
        reins.cancel.cancel();
        let (crew, mut called) = (rig.crew.clone(), sortie("s", &TO_THE_AIR));
        let _flight = tokio::spawn(async move {
            Follow::new(&crew, &mut called, &way(), LONG, true).run(&mut reins).await.unwrap();
        });
        rig.until(|s| s.state == State::Returning).await;
        sleep(Duration::from_secs(60)).await;
        assert_eq!(rig.was_told(MavCmd::MAV_CMD_NAV_LAND), lands, "{fix:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_dock_does_not_close_while_the_drone_believes_itself_elsewhere() {
    for (north_m, closes) in [(80.0, false), (5.0, true)] {
        let rig = rig(Says { north_m: 0.0, ..Says::stands() }).await;
        rig.crew.dock.open().await.unwrap();
        rig.say(|says| says.north_m = north_m);
        sleep(Duration::from_secs(3)).await;
        let open = sortie("s", &[State::Gating, State::DockOpening]);
        let ended = adopt(rig.crew.clone(), open, None, reins()).await;
        assert_eq!(ended.state, State::Refused);
        assert_eq!((rig.closings() > 0, ended.reason.contains("stays open")), (closes, !closes), "{}", ended.reason);
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_flight_does_not_go_on_while_somebody_works_at_the_dock_but_comes_home() {
    let mut rig = rig(Says { mode: FlightMode::Hold, ..Says::flies(1) }).await;
    let held = Hold { by: "wang".to_owned(), reason: "hatch".to_owned(), since: Timestamp::now() };
    rig.crew.holds = watch::channel(Holds { maintenance: Some(held), hold: None }).1;
    let (orders, inbox) = mpsc::channel(1);
    let mut reins = Reins { cancel: CancellationToken::new(), orders: inbox };
    let crew = rig.crew.clone();
    let flight = tokio::spawn(async move {
        let mut sortie = sortie("s", &[&TO_THE_AIR[..], &[State::Paused]].concat());
        let outcome = Follow::new(&crew, &mut sortie, &way(), Duration::from_secs(900), true).run(&mut reins).await;
        flight::wind_up(&crew, sortie, outcome).await
    });
    let tell = async |order| {
        let (reply, answer) = tokio::sync::oneshot::channel();
        orders.send(flight::Told { order, by: "li".to_owned(), reply }).await.unwrap();
        timeout(LONG, answer).await.unwrap().unwrap()
    };
    let refused = tell(flight::Order::Resume).await.unwrap_err();
    assert!(refused.contains("maintenance: held by wang") && refused.contains("hatch"), "{refused}");
    assert!(!rig.was_told(MavCmd::MAV_CMD_DO_SET_MODE) && !rig.was_told(MavCmd::MAV_CMD_MISSION_START));
    tell(flight::Order::Return).await.unwrap();
    rig.until(|s| s.state == State::Returning).await;
    flight.abort();
}

#[tokio::test(start_paused = true)]
async fn the_last_sortie_is_still_known_after_a_restart() {
    let rig = rig(Says::stands()).await;
    for (id, state) in [("1", State::Refused), ("2", State::Refused)] {
        rig.crew.store.put(Table::Sorties, id, &sortie(id, &[State::Gating, state])).await.unwrap();
    }
    let calendar = Calendar { zone: TimeZone::UTC, holidays: Vec::new() };
    let (crew, current) = (rig.crew.clone(), rig.crew.current_sortie());
    let dispatcher = dispatcher::spawn(crew, current, Vec::new(), calendar, rig.crew.stopping.clone()).await.unwrap();
    assert_eq!(latest(&dispatcher.current()).map(|s| s.id).as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn of_several_sorties_without_an_end_the_newest_is_taken_up_and_the_others_get_one() {
    let rig = rig(Says::stands()).await;
    for (id, states) in [("1", &TO_THE_AIR[..]), ("2", &TO_THE_AIR[..1]), ("3", &TO_THE_AIR[..2])] {
        rig.crew.store.put(Table::Sorties, id, &sortie(id, states)).await.unwrap();
    }
    let calendar = Calendar { zone: TimeZone::UTC, holidays: Vec::new() };
    let (crew, current) = (rig.crew.clone(), rig.crew.current_sortie());
    let _dispatcher = dispatcher::spawn(crew, current, Vec::new(), calendar, rig.crew.stopping.clone()).await.unwrap();
    rig.until(|s| s.id == "3" && s.state.is_terminal()).await;
    for (id, state) in [("1", State::Lost), ("2", State::Refused), ("3", State::Refused)] {
        let ended = rig.recorded(id).await;
        assert_eq!(ended.state, state, "{id}: {:?}", ended.steps);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_sortie_brought_home_outlives_a_crash_while_the_dock_closes() {
    let mut rig = rig(Says { mode: FlightMode::Return, ..Says::flies(0) }).await;
    let survey = Survey { seen: 0.9, ..Survey::default() };
    rig.crew.keeper = CaseKeeper::bringing(Harvest { frames: 42, lost: 1, opened: 3, survey, ..Harvest::default() });
    rig.crew.dock.open().await.unwrap();
    let flight = rig.follow(sortie("s", &[&TO_THE_AIR[..], &[State::Returning]].concat()), true);
    rig.truth.send_modify(|truth| truth.in_dock = true);
    rig.say(|says| *says = Says::stands());
    rig.until(|s| s.state == State::DockClosing).await;
    let stored = async {
        while rig.recorded("s").await.frames == 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, stored).await.unwrap();
    flight.abort();
    rig.stop();
    let left = rig.recorded("s").await;
    assert_eq!(left.state, State::DockClosing, "stored with the next step only: {:?}", left.steps);

    // The book was closed, so the next start finds it empty.
    let again = self::rig(Says::stands()).await;
    let ended = adopt(again.crew.clone(), left, None, reins()).await;
    assert_eq!(ended.state, State::Done, "{:?}", ended.steps);
    assert_eq!((ended.frames, ended.frames_lost, ended.cases, ended.coverage), (42, 1, 3, 0.9));
    assert_eq!(again.recorded("s").await.frames, 42);
}
