//! Dock and weather over Modbus against a simulated PLC: through the public handles, on paused time, over bytes in memory
//! in both framings; at the end over a real socket.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aerie::config;
use aerie::sim::plc::{Fault, MAP, MastWeather, On, Plc, Written, layout};
use aerie::vehicle::modbus::map::{Outputs, Place, Table};
use aerie::vehicle::modbus::value::Type;
use aerie::vehicle::modbus::{Address, DockMap, Line, LineError, Open, WeatherMap, Write};
use aerie::vehicle::{
    Dock, DockConfig, DockError, DockState, Halt, Hatch, Lines, Objection, Reading, Weather, WeatherConfig,
};
use proptest::prelude::*;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

const TCP: &str = "tcp:plc:502";
const RTU: &str = "rtu:/dev/ttyUSB0:19200:8E1";
const BOTH: [&str; 2] = [TCP, RTU];
const TRAVEL: Duration = Duration::from_secs(10);
/// Never reached; a test that hangs should say so.
const LONG: Duration = Duration::from_secs(600);

#[derive(serde::Deserialize)]
struct Tables {
    dock: DockConfig,
    weather: WeatherConfig,
}

fn maps(url: &str) -> (DockMap, WeatherMap) {
    let tables: Tables = toml::from_str(MAP).unwrap();
    let (mut dock, mut weather) = (tables.dock.modbus.unwrap(), tables.weather.modbus.unwrap());
    dock.url = url.to_owned();
    weather.url = url.to_owned();
    (dock, weather)
}

struct Bench {
    plc: Plc,
    dock: Dock,
    cancel: CancellationToken,
    _all: DropGuard,
}

/// A dock whose map can be changed before it starts.
async fn bench_with(url: &str, change: impl FnOnce(&mut DockMap, &Plc)) -> Bench {
    let plc = Plc::new(TRAVEL, &[1]);
    let (mut map, _) = maps(url);
    change(&mut map, &plc);
    let cancel = CancellationToken::new();
    let dock = Dock::spawn_on(DockConfig::modbus(map), &Lines::opened_by(plc.opener()), cancel.clone()).unwrap();
    let bench = Bench { plc, dock, _all: cancel.clone().drop_guard(), cancel };
    bench.until(|state| state.received.is_some()).await;
    bench
}

async fn bench(url: &str) -> Bench {
    bench_with(url, |_, _| {}).await
}

impl Bench {
    fn state(&self) -> DockState {
        *self.dock.state().borrow()
    }

    async fn until(&self, shows: impl FnMut(&DockState) -> bool) {
        seen(&self.dock.state(), shows).await;
    }

    /// Starts a movement and returns it once the hatch is on its way.
    async fn under_way(&self, opening: bool) -> tokio::task::JoinHandle<Result<(), DockError>> {
        let dock = self.dock.clone();
        let moving = tokio::spawn(async move { if opening { dock.open().await } else { dock.close(true).await } });
        let wanted = if opening { Hatch::Opening } else { Hatch::Closing };
        self.until(|state| state.hatch == wanted).await;
        moving
    }

    /// How often a coil was switched on.
    fn pressed(&self, coil: u16) -> usize {
        self.plc.written().iter().filter(|w| **w == Written::Coil { address: coil, on: true }).count()
    }
}

async fn seen<T: Copy + std::fmt::Debug>(watched: &watch::Receiver<T>, shows: impl FnMut(&T) -> bool) {
    let mut watched = watched.clone();
    let outcome = timeout(LONG, watched.wait_for(shows)).await.map(|found| found.map(|value| *value));
    assert!(matches!(outcome, Ok(Ok(_))), "never seen: {:?}", *watched.borrow());
}

fn line_to(plc: &Plc, url: &str) -> Line {
    Lines::opened_by(plc.opener()).line(&Address::parse(url).unwrap())
}

fn input(address: u16, count: u16) -> Place {
    Place { unit: 1, table: Table::InputRegister, address, count }
}

const SECOND: Duration = Duration::from_secs(1);

// ---- the dock ------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn the_hatch_opens_and_closes_by_its_limit_switches_over_both_framings() {
    for url in BOTH {
        let bench = bench(url).await;
        let before = Instant::now();
        bench.dock.open().await.unwrap();
        assert!(before.elapsed() >= TRAVEL, "{url}: open was said after {:?}", before.elapsed());
        let DockState { hatch, drone_present, emergency_stop, .. } = bench.state();
        assert_eq!((hatch, drone_present, emergency_stop), (Hatch::Open, Some(true), Some(false)), "{url}");
        bench.dock.close(true).await.unwrap();
        assert_eq!(bench.state().hatch, Hatch::Closed);
        let coil = |address, on| Written::Coil { address, on };
        // Each button pressed once, and let go.
        assert_eq!(bench.plc.written(), [coil(0, true), coil(0, false), coil(1, true), coil(1, false)], "{url}");
        // What is closed already is not moved.
        bench.dock.close(true).await.unwrap();
        assert_eq!(bench.plc.written().len(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_closes_unless_the_caller_and_the_presence_switch_agree() {
    let bench = bench(TCP).await;
    bench.dock.open().await.unwrap();
    for (told, present) in [(false, true), (true, false), (false, false)] {
        bench.plc.set_present(present);
        let refused = bench.dock.close(told).await.unwrap_err();
        assert!(
            matches!(refused, DockError::Unsafe { objection: Objection::DroneNotInDock, halt: Halt::NotStarted }),
            "{refused}"
        );
    }
    assert_eq!(bench.pressed(layout::DO_CLOSE), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drone_that_leaves_while_the_hatch_closes_stops_it() {
    let bench = bench(TCP).await;
    bench.dock.open().await.unwrap();
    let closing = bench.under_way(false).await;
    bench.plc.set_present(false);
    let stopped = closing.await.unwrap().unwrap_err();
    assert!(matches!(stopped, DockError::Unsafe { objection: Objection::DroneLeft, halt: Halt::Stopped }), "{stopped}");
    assert!(!bench.plc.is_moving());
}

#[tokio::test(start_paused = true)]
async fn a_hatch_that_jams_is_stopped_and_reported_with_its_limit() {
    for url in BOTH {
        let bench = bench(url).await;
        let opening = bench.under_way(true).await;
        bench.plc.jam(true);
        let error = opening.await.unwrap().unwrap_err();
        assert!(
            matches!(error, DockError::Stuck { wanted: Hatch::Open, is: Hatch::Opening, halt: Halt::Stopped, .. }),
            "{error}"
        );
        assert!(error.to_string().contains("within 30s"), "{error}");
        // The obstacle is gone: it must not spring open.
        bench.plc.jam(false);
        let at = bench.plc.position();
        sleep(TRAVEL).await;
        assert!(bench.plc.position() == at && bench.pressed(layout::DO_STOP) == 1, "{url}");
        assert_eq!(bench.state().hatch, Hatch::Unknown, "between the switches, and nothing under way");
    }
}

#[tokio::test(start_paused = true)]
async fn under_the_emergency_stop_nothing_is_commanded_and_nothing_goes_on() {
    let bench = bench(TCP).await;
    bench.plc.press_emergency_stop(true);
    bench.until(|state| state.emergency_stop == Some(true)).await;
    let refused = [bench.dock.open().await, bench.dock.close(true).await];
    for refused in refused {
        let refused = refused.unwrap_err();
        assert!(
            matches!(refused, DockError::Unsafe { objection: Objection::EmergencyStop, halt: Halt::NotStarted }),
            "{refused}"
        );
    }
    assert_eq!(bench.plc.written(), []);

    bench.plc.press_emergency_stop(false);
    let opening = bench.under_way(true).await;
    bench.plc.press_emergency_stop(true);
    let stopped = opening.await.unwrap().unwrap_err();
    assert!(
        matches!(stopped, DockError::Unsafe { objection: Objection::EmergencyStop, halt: Halt::Stopped }),
        "{stopped}"
    );
    // Released, it stays where it is until someone asks again.
    bench.plc.press_emergency_stop(false);
    let at = bench.plc.position();
    sleep(TRAVEL).await;
    assert!(bench.plc.position() == at && at < 1.0 && bench.pressed(layout::DO_OPEN) == 1);
    bench.dock.open().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_emergency_stop_that_cannot_be_read_counts_as_pressed() {
    // The PLC has no discrete input there.
    let bench = bench_with(TCP, |map, _| map.signals.emergency_stop.as_mut().unwrap().address = layout::SIZE).await;
    assert_eq!(bench.state().emergency_stop, None);
    let refused = bench.dock.open().await.unwrap_err();
    assert!(matches!(refused, DockError::Unsafe { objection: Objection::EmergencyStopUnknown, .. }), "{refused}");
    assert_eq!(bench.plc.written(), []);
}

#[tokio::test(start_paused = true)]
async fn both_limit_switches_at_once_are_neither_open_nor_closed() {
    let bench = bench(RTU).await;
    bench.plc.cross_switches(true);
    bench.until(|state| state.hatch == Hatch::Unknown).await;
    let error = bench.dock.open().await.unwrap_err();
    assert!(matches!(error, DockError::Stuck { is: Hatch::Unknown, halt: Halt::Stopped, .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_is_missing_is_named_and_nothing_moves() {
    let bench = bench(TCP).await;
    bench.plc.set_automatic(false);
    let refused = bench.dock.open().await.unwrap_err().to_string();
    assert!(refused.contains("key switch on automatic") && refused.contains("nothing was moved"), "{refused}");
    assert_eq!(bench.plc.written(), []);
}

#[tokio::test(start_paused = true)]
async fn a_dock_that_was_lost_in_mid_travel_is_unknown_in_time_and_is_never_told_twice() {
    for url in BOTH {
        let bench = bench(url).await;
        let opening = bench.under_way(true).await;
        bench.plc.reach(false);
        let cut = Instant::now();
        bench.until(|state| state.hatch == Hatch::Unknown).await;
        assert!(cut.elapsed() <= Duration::from_secs(4), "{url}: known for {:?}", cut.elapsed());
        let DockState { drone_present, emergency_stop, received, .. } = bench.state();
        assert_eq!((drone_present, emergency_stop), (None, None));
        assert!(received.unwrap() <= cut, "its age must go on growing");
        // The dock went on by itself; when it is heard again, the switch tells.
        sleep(TRAVEL).await;
        bench.plc.reach(true);
        opening.await.unwrap().unwrap();
        assert_eq!((bench.state().hatch, bench.pressed(layout::DO_OPEN)), (Hatch::Open, 1), "{url}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_could_not_be_sent_is_said_and_sent_when_the_dock_is_back_but_no_movement_is() {
    let bench = bench(TCP).await;
    let opening = bench.under_way(true).await;
    bench.plc.jam(true);
    bench.plc.reach(false);
    let error = opening.await.unwrap().unwrap_err();
    assert!(matches!(error, DockError::Stuck { halt: Halt::Unconfirmed(_), .. }), "{error}");
    assert!(error.to_string().contains("stay clear of the hatch"), "{error}");
    assert_eq!(bench.pressed(layout::DO_STOP), 0);
    bench.plc.reach(true);
    bench.until(|state| state.received.is_some_and(|at| at.elapsed() < SECOND)).await;
    sleep(2 * SECOND).await;
    assert_eq!((bench.pressed(layout::DO_STOP), bench.pressed(layout::DO_OPEN)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_command_whose_answer_was_lost_is_not_repeated_and_the_switches_tell_the_end() {
    for url in BOTH {
        let bench = bench(url).await;
        bench.plc.misbehave(Fault::Silent, On::Writes, 1);
        bench.dock.open().await.unwrap();
        assert_eq!(bench.pressed(layout::DO_OPEN), 1, "{url}");
        // The button is not held for ever.
        assert_eq!(bench.plc.written().last(), Some(&Written::Coil { address: layout::DO_OPEN, on: false }), "{url}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_that_the_dock_refuses_names_function_address_and_exception() {
    let bench = bench(TCP).await;
    bench.plc.misbehave(Fault::Exception(4), On::Writes, 1);
    let before = Instant::now();
    let error = bench.dock.open().await.unwrap_err().to_string();
    for word in ["tcp:plc:502", "unit 1", "function 5 (write coil)", "address 0", "exception 4 (server device failure)"]
    {
        assert!(error.contains(word), "{word} is missing in: {error}");
    }
    assert!(before.elapsed() < SECOND && bench.plc.written().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_output_that_is_held_is_let_go_at_the_end_of_the_movement_whatever_the_end() {
    let hold = |map: &mut DockMap, plc: &Plc| {
        plc.hold_to_run();
        for command in [&mut map.commands.open, &mut map.commands.close] {
            command.pulse_s = None;
            command.release = Some(0);
        }
        map.commands.stop = None;
    };
    let let_go = Some(Written::Coil { address: layout::DO_OPEN, on: false });

    let bench = bench_with(TCP, hold).await;
    bench.dock.open().await.unwrap();
    assert_eq!((bench.plc.written().len(), bench.plc.written().last().copied()), (2, let_go));

    let bench = bench_with(TCP, hold).await;
    let opening = bench.under_way(true).await;
    bench.plc.jam(true);
    let error = opening.await.unwrap().unwrap_err();
    assert!(matches!(error, DockError::Stuck { halt: Halt::Stopped, .. }), "{error}");
    assert_eq!(bench.plc.written().last().copied(), let_go);

    // aerie stops while the motor runs.
    let bench = bench_with(TCP, hold).await;
    let opening = bench.under_way(true).await;
    bench.cancel.cancel();
    assert!(matches!(opening.await.unwrap(), Err(DockError::Gone)));
    sleep(SECOND).await;
    assert!(bench.plc.written().last().copied() == let_go && !bench.plc.is_moving());
}

#[tokio::test(start_paused = true)]
async fn a_movement_is_stopped_by_command() {
    let bench = bench(TCP).await;
    let opening = bench.under_way(true).await;
    assert_eq!(bench.dock.stop().await.unwrap(), Halt::Stopped);
    assert!(matches!(opening.await.unwrap(), Err(DockError::Stopped { halt: Halt::Stopped })));
    assert!(!bench.plc.is_moving());
}

#[tokio::test(start_paused = true)]
async fn a_movement_that_nobody_waits_for_any_more_is_not_begun() {
    let bench = bench(TCP).await;
    let opening = bench.under_way(true).await;
    assert!(timeout(SECOND, bench.dock.close(true)).await.is_err());
    opening.await.unwrap().unwrap();
    sleep(TRAVEL).await;
    assert_eq!((bench.state().hatch, bench.pressed(layout::DO_CLOSE)), (Hatch::Open, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dock_whose_program_stands_still_is_unknown_though_it_answers() {
    let bench = bench(TCP).await;
    assert_eq!(bench.state().hatch, Hatch::Closed);
    bench.plc.freeze();
    let frozen = Instant::now();
    bench.until(|state| state.hatch == Hatch::Unknown).await;
    // Its last beat may be believed for `stale_s`, and so may what was read meanwhile.
    assert!(frozen.elapsed() <= Duration::from_secs(9), "{:?}", frozen.elapsed());
    let refused = bench.dock.open().await.unwrap_err().to_string();
    assert!(refused.contains("stands still"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_dock_told_by_bits_and_a_command_word_works_as_well() {
    let bits = r#"
        url = "tcp:plc:502"
        [signals]
        closed = { table = "input_register", address = 8, bit = 0 }
        open = { table = "input_register", address = 8, bit = 1 }
        drone_present = { table = "input_register", address = 8, bit = 2 }
        emergency_stop = { table = "input_register", address = 8, bit = 3 }
        [commands]
        open = { table = "holding_register", address = 0, value = 1, function = 16 }
        close = { table = "holding_register", address = 0, value = 2 }
        stop = { table = "holding_register", address = 0, value = 4 }
    "#;
    let bench = bench_with(TCP, |map, _| *map = toml::from_str(bits).unwrap()).await;
    bench.dock.open().await.unwrap();
    bench.dock.close(true).await.unwrap();
    let word = |value| Written::Register { address: 0, value };
    assert_eq!(bench.plc.written(), [word(1), word(2)]);
    bench.plc.press_emergency_stop(true);
    let refused = bench.dock.open().await.unwrap_err();
    assert!(matches!(refused, DockError::Unsafe { objection: Objection::EmergencyStop, .. }), "{refused}");
}

// ---- the weather ---------------------------------------------------------------------------------------------------

fn mast(plc: &Plc, url: &str, change: impl FnOnce(&mut WeatherMap)) -> (watch::Receiver<Option<Reading>>, DropGuard) {
    let (_, mut map) = maps(url);
    change(&mut map);
    let cancel = CancellationToken::new();
    let lines = Lines::opened_by(plc.opener());
    let weather = Weather::spawn_on(WeatherConfig::modbus(map), &lines, cancel.clone()).unwrap();
    (weather.latest(), cancel.drop_guard())
}

#[tokio::test(start_paused = true)]
async fn the_weather_is_what_the_mast_measures_in_every_type_and_order() {
    let stormy = MastWeather {
        wind_m_s: 12.3,
        gust_m_s: 17.8,
        temperature_c: -7.4,
        rain_mm_h: 725.5 / 2.0,
        visibility_m: 1234.5,
    };
    for url in BOTH {
        let plc = Plc::new(TRAVEL, &[1]);
        plc.set_weather(stormy);
        let (latest, _guard) = mast(&plc, url, |_| {});
        seen(&latest, Option::is_some).await;
        let reading = latest.borrow().unwrap();
        for (read, true_value) in [
            (reading.wind_m_s, stormy.wind_m_s),
            (reading.gust_m_s, stormy.gust_m_s),
            (reading.temperature_c, stormy.temperature_c),
            (reading.rain_mm_h, stormy.rain_mm_h),
            (reading.visibility_m.unwrap(), stormy.visibility_m),
        ] {
            assert!((read - true_value).abs() < 0.051, "{url}: {reading:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn weather_that_cannot_be_true_is_no_reading_and_the_last_one_goes_stale() {
    let good = MastWeather::default();
    for bad in [
        MastWeather { gust_m_s: 1.0, wind_m_s: 9.0, ..good },
        MastWeather { wind_m_s: 6553.5, ..good },
        MastWeather { temperature_c: -300.0, ..good },
        MastWeather { rain_mm_h: 1e6, ..good },
    ] {
        let plc = Plc::new(TRAVEL, &[1]);
        let (latest, _guard) = mast(&plc, TCP, |_| {});
        seen(&latest, Option::is_some).await;
        plc.set_weather(bad);
        let from = Instant::now();
        seen(&latest, Option::is_none).await;
        assert!(from.elapsed() <= Duration::from_secs(10), "{bad:?} was hidden for {:?}", from.elapsed());
        plc.set_weather(good);
        seen(&latest, Option::is_some).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_sensor_that_nothing_depends_on_is_unknown_by_itself() {
    for visibility_m in [f64::NAN, -1.0, 1e9, f64::INFINITY] {
        let plc = Plc::new(TRAVEL, &[1]);
        plc.set_weather(MastWeather { visibility_m, ..MastWeather::default() });
        let (latest, _guard) = mast(&plc, TCP, |_| {});
        seen(&latest, Option::is_some).await;
        assert_eq!(latest.borrow().unwrap().visibility_m, None, "{visibility_m}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mast_that_falls_silent_ages_and_is_then_unknown() {
    for url in BOTH {
        let plc = Plc::new(TRAVEL, &[1]);
        let (latest, _guard) = mast(&plc, url, |_| {});
        seen(&latest, Option::is_some).await;
        plc.reach(false);
        sleep(Duration::from_secs(8)).await;
        let last = latest.borrow().unwrap();
        assert!(last.received.elapsed() >= Duration::from_secs(7), "{url}: it grew younger");
        sleep(Duration::from_secs(3)).await;
        assert_eq!(*latest.borrow(), None, "{url}");
        plc.reach(true);
        // The longest pause between two tries.
        sleep(Duration::from_secs(12)).await;
        assert!(latest.borrow().is_some(), "{url}: it never came back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_register_that_does_not_exist_leaves_its_neighbours_known() {
    let plc = Plc::new(TRAVEL, &[1]);
    // The last registers that exist, and one beyond them that is read in the same question at first.
    plc.set_input(layout::SIZE - 1, &[30]);
    let (latest, _guard) = mast(&plc, TCP, |map| {
        map.signals.wind.address = layout::SIZE - 1;
        map.signals.gust.scale = 1.0;
        let visibility = map.signals.visibility.as_mut().unwrap();
        visibility.address = layout::SIZE;
    });
    seen(&latest, Option::is_some).await;
    let reading = latest.borrow().unwrap();
    assert_eq!((reading.wind_m_s, reading.visibility_m), (3.0, None));
}

// ---- the line ------------------------------------------------------------------------------------------------------

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_late_is_never_taken_for_another() {
    for url in BOTH {
        let plc = Plc::new(TRAVEL, &[1]);
        plc.set_input(20, &[0xAAAA]);
        plc.set_input(40, &[0xBBBB]);
        let line = line_to(&plc, url);
        // The first comes while the second, of the same shape, is waited for.
        plc.misbehave(Fault::Late(SECOND + SECOND / 5), On::Reads, 1);
        plc.misbehave(Fault::Late(SECOND / 2), On::Reads, 1);
        let first = line.read(input(20, 1), SECOND).await;
        assert!(matches!(first, Err(LineError::Timeout { .. })), "{url}: {first:?}");
        assert_eq!(patient(&line, input(40, 1)).await.unwrap(), [0xBBBB], "{url}");
        assert_eq!(patient(&line, input(20, 1)).await.unwrap(), [0xAAAA], "{url}");
    }
}

/// Asks again when the unit is passed over for its silence.
async fn patient(line: &Line, place: Place) -> Result<Vec<u16>, LineError> {
    loop {
        match line.read(place, SECOND).await {
            Err(LineError::Silent { again_in, .. }) => sleep(again_in).await,
            outcome => return outcome,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_came_unasked_are_never_an_answer() {
    for url in BOTH {
        let plc = Plc::new(TRAVEL, &[1]);
        plc.set_input(20, &[0xAAAA]);
        plc.set_input(40, &[0xBBBB]);
        let line = line_to(&plc, url);
        plc.misbehave(Fault::Twice(SECOND / 2), On::Reads, 1);
        assert_eq!(line.read(input(20, 1), SECOND).await.unwrap(), [0xAAAA], "{url}");
        sleep(SECOND).await;
        assert_eq!(line.read(input(40, 1), SECOND).await.unwrap(), [0xBBBB], "{url}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_makes_no_sense_is_an_error_and_the_next_question_is_answered() {
    for url in BOTH {
        let plc = Plc::new(TRAVEL, &[1]);
        plc.set_input(20, &[1, 2, 3]);
        let line = line_to(&plc, url);
        for fault in [
            Fault::Silent,
            Fault::Garbage(vec![0; 64]),
            Fault::Garbage(vec![0xFF; 300]),
            Fault::Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
            Fault::Truncated(1),
            Fault::Truncated(6),
            Fault::Truncated(10),
            Fault::Short,
            Fault::Misaddressed,
            Fault::HangUp,
        ] {
            // A serial line has no end.
            if fault == Fault::HangUp && url == RTU {
                continue;
            }
            plc.misbehave(fault.clone(), On::Reads, 1);
            let bad = line.read(input(20, 3), SECOND).await;
            assert!(bad.is_err(), "{url} {fault:?}: {bad:?}");
            // A line that broke is opened again after a moment.
            sleep(SECOND).await;
            assert_eq!(line.read(input(20, 3), SECOND).await.unwrap(), [1, 2, 3], "{url} after {fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_exception_is_told_with_its_remedy_and_costs_no_connection() {
    for url in BOTH {
        let plc = Plc::new(TRAVEL, &[1]);
        let (line, opened) = counted(&plc, url);
        let error = line.read(input(layout::SIZE - 1, 2), SECOND).await.unwrap_err().to_string();
        for word in ["function 4 (read input registers)", "addresses 63 to 64", "exception 2", "count from 0"] {
            assert!(error.contains(word), "{word} is missing in: {error}");
        }
        line.read(input(20, 1), SECOND).await.unwrap();
        assert_eq!(opened.load(Ordering::Relaxed), 1, "{url}");
    }
}

fn counted(plc: &Plc, url: &str) -> (Line, Arc<AtomicUsize>) {
    let (lines, opened) = counted_lines(plc);
    (lines.line(&Address::parse(url).unwrap()), opened)
}

fn counted_lines(plc: &Plc) -> (Lines, Arc<AtomicUsize>) {
    let opened = Arc::new(AtomicUsize::new(0));
    let (count, opener) = (Arc::clone(&opened), plc.opener());
    let lines = Lines::opened_by(move |address: &Address| {
        count.fetch_add(1, Ordering::Relaxed);
        opener.open(address)
    });
    (lines, opened)
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_down_is_tried_again_with_growing_pauses() {
    let plc = Plc::new(TRAVEL, &[1]);
    plc.reach(false);
    let (line, opened) = counted(&plc, TCP);
    for _ in 0..1200 {
        assert!(line.read(input(20, 1), SECOND).await.is_err());
        sleep(SECOND / 10).await;
    }
    // 0.25, 0.5, 1, 2, 4, 8, then 10 seconds, over two minutes.
    let tries = opened.load(Ordering::Relaxed);
    assert!((10..=20).contains(&tries), "{tries} tries in two minutes");
    let error = line.read(input(20, 1), SECOND).await.unwrap_err().to_string();
    assert!(error.contains("tcp:plc:502 is down (connection refused)"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_a_caller_gave_up_is_not_sent_later() {
    let plc = Plc::new(TRAVEL, &[1]);
    let line = line_to(&plc, RTU);
    plc.misbehave(Fault::Silent, On::Reads, 1);
    let busy = tokio::spawn({
        let line = line.clone();
        async move { line.read(input(20, 1), 5 * SECOND).await }
    });
    sleep(SECOND).await;
    let open = Write { unit: 1, table: Outputs::Coil, address: layout::DO_OPEN, value: 1, several: false };
    let given_up = timeout(SECOND, line.write(open, SECOND)).await;
    assert!(given_up.is_err(), "the line was not busy");
    assert!(busy.await.unwrap().is_err());
    line.read(input(20, 1), SECOND).await.unwrap();
    assert_eq!(plc.written(), []);
}

#[tokio::test(start_paused = true)]
async fn dock_and_mast_on_one_line_take_turns() {
    for url in BOTH {
        let plc = Plc::new(TRAVEL, &[1, 7]);
        let (lines, opened) = counted_lines(&plc);
        let cancel = CancellationToken::new();
        let (dock, mut weather) = maps(url);
        weather.unit_id = 7;
        let weather = Weather::spawn_on(WeatherConfig::modbus(weather), &lines, cancel.clone()).unwrap();
        let dock = Dock::spawn_on(DockConfig::modbus(dock), &lines, cancel.clone()).unwrap();
        dock.open().await.unwrap();
        seen(&weather.latest(), |reading| reading.is_some_and(|r| r.received.elapsed() < 2 * SECOND)).await;
        assert_eq!(opened.load(Ordering::Relaxed), 1, "{url}: the line was opened more than once");
        cancel.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_mast_does_not_take_the_dock_on_its_line_with_it() {
    for url in BOTH {
        let plc = Plc::new(TRAVEL, &[1]);
        let lines = Lines::opened_by(plc.opener());
        let cancel = CancellationToken::new();
        let (dock, mut weather) = maps(url);
        weather.unit_id = 7;
        let weather = Weather::spawn_on(WeatherConfig::modbus(weather), &lines, cancel.clone()).unwrap();
        let dock = Dock::spawn_on(DockConfig::modbus(dock), &lines, cancel.clone()).unwrap();
        seen(&dock.state(), |state| state.hatch == Hatch::Closed).await;
        let mut known = dock.state();
        let watch =
            tokio::spawn(async move { known.wait_for(|state| state.hatch == Hatch::Unknown).await.map(|s| *s) });
        // A minute of nothing but looking.
        sleep(60 * SECOND).await;
        assert!(!watch.is_finished(), "{url}: the dock was unknown for a while");
        dock.open().await.unwrap();
        dock.close(true).await.unwrap();
        assert_eq!((dock.state().borrow().hatch, *weather.latest().borrow()), (Hatch::Closed, None), "{url}");
        cancel.cancel();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// No bytes whatever break a line for good, or give more values than were asked for.
    #[test]
    fn no_garbage_breaks_a_line(bytes in proptest::collection::vec(any::<u8>(), 0..300), rtu in any::<bool>()) {
        on_paused_time(async {
            let plc = Plc::new(TRAVEL, &[1]);
            plc.set_input(20, &[7, 8]);
            let line = line_to(&plc, if rtu { RTU } else { TCP });
            plc.misbehave(Fault::Garbage(bytes), On::Reads, 1);
            if let Ok(words) = line.read(input(20, 2), SECOND).await {
                assert_eq!(words.len(), 2);
            }
            sleep(SECOND).await;
            assert_eq!(line.read(input(20, 2), SECOND).await.unwrap(), [7, 8]);
        });
    }
}

fn on_paused_time(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(work);
}

// ---- the configuration ---------------------------------------------------------------------------------------------

/// The example station with the dock and weather of the simulated PLC.
fn station() -> String {
    let http = "[dock]\nurl = ";
    let (before, after) = config::EXAMPLE.split_once(http).unwrap();
    let (_, after) = after.split_once("[gates]").unwrap();
    format!("{before}{MAP}\n[gates]{after}")
}

fn faults_of(text: &str) -> Vec<(String, String)> {
    let faults = config::parse(Path::new("station.toml"), text).map(|_| ()).unwrap_err().faults;
    let own = |key: &str| key.starts_with("dock") || key.starts_with("weather");
    faults.into_iter().filter(|fault| own(&fault.key)).map(|fault| (fault.key, fault.fault)).collect()
}

#[test]
fn the_map_of_the_simulated_plc_is_a_configuration_and_is_what_the_documentation_shows() {
    assert_eq!(faults_of(&station()), []);
    let page = include_str!("../docs/protocol/modbus.md");
    assert!(page.contains(MAP.trim()), "docs/protocol/modbus.md does not show src/sim/plc/map.toml as it is");
}

#[test]
fn every_fault_of_a_map_is_named_with_its_key_and_remedy() {
    let change = |from: &str, to: &str| {
        assert!(station().contains(from), "{from}");
        station().replacen(from, to, 1)
    };
    for (from, to, key, remedy) in [
        ("url = \"tcp:10.0.0.5:502\"", "url = \"10.0.0.5\"", "dock.modbus.url", "write tcp:"),
        ("unit_id = 1\npoll_s", "unit_id = 300\npoll_s", "dock.modbus.unit_id", "255"),
        ("poll_s = 1.0 ", "poll_s = 0.0 ", "dock.modbus.poll_s", "0.1 to 60"),
        ("stale_s = 4.0 ", "stale_s = 1.5 ", "dock.modbus.stale_s", "poll_s + timeout_s"),
        ("address = 1 }", "address = 0 }", "dock.modbus.signals.open", "needs its own address"),
        (
            "\"discrete_input\", address = 2 }",
            "\"input_register\", address = 2 }",
            "signals.drone_present",
            "exactly one of bit",
        ),
        ("address = 2 }", "address = 2, bit = 3 }", "signals.drone_present", "remove bit"),
        ("address = 0 }\nopen", "address = 65536 }\nopen", "dock.modbus.signals.closed", "65535"),
        ("address = 0 }\nopen", "address = -1 }\nopen", "dock.modbus.signals.closed", "0"),
        ("address = 0, pulse_s = 0.5 }", "address = 0, pulse_s = 50.0 }", "commands.open.pulse_s", "0.05 to 2"),
        ("address = 0, pulse_s = 0.5 }", "address = 1, pulse_s = 0.5 }", "commands.close", "commands.open"),
        ("address = 0, pulse_s = 0.5 }", "address = 0, value = 7 }", "commands.open.value", "0 or 1"),
        ("address = 0, pulse_s = 0.5 }", "address = 0, function = 16 }", "commands.open.function", "5 and 15"),
        ("address = 0, pulse_s = 0.5 }", "address = 0, release = 1 }", "commands.open.release", "differ"),
        (
            "scale = 0.1, unit = \"m/s\", range = [0.0, 60.0]",
            "scale = 0",
            "weather.modbus.signals.wind.scale",
            "1 leaves",
        ),
        ("range = [0.0, 60.0]", "range = [60.0, 0.0]", "weather.modbus.signals.wind.range", "lowest first"),
        ("range = [0.0, 60.0]", "range = [7000.0, 8000.0]", "weather.modbus.signals.wind.range", "never reached"),
        ("unit = \"degC\"", "unit = \"km/h\"", "weather.modbus.signals.temperature.unit", "degF"),
        ("address = 5, type", "address = 65535, type", "weather.modbus.signals.visibility.address", "last register"),
        ("address = 5, type", "address = 4, type", "weather.modbus.signals.visibility", "signals.rain"),
        ("gust = ", "gale = ", "weather.modbus.signals.gale", "gust"),
        ("[dock]\n", "[dock]\nurl = \"http://10.0.0.5\"\n", "dock", "exactly one"),
    ] {
        let found = faults_of(&change(from, to));
        let told = found.iter().any(|(at, fault)| format!("{at}: {fault}").contains(key) && fault.contains(remedy));
        assert!(told, "{to:?} should name {key} and {remedy:?}, found {found:#?}");
    }
    // One port, two speeds.
    let quarrel = station().replacen("tcp:10.0.0.5:502", "rtu:/dev/ttyS1:9600:8N1", 1).replacen(
        "tcp:10.0.0.5:502",
        "rtu:/dev/ttyS1:19200:8N1",
        1,
    );
    assert!(faults_of(&quarrel).iter().any(|(key, fault)| key == "weather.modbus.url" && fault.contains("one port")));
    // Unit 0 answers on no serial line.
    let (mut dock, _) = maps(RTU);
    dock.unit_id = 0;
    assert!(dock.faults().iter().any(|fault| fault.key == "dock.modbus.unit_id"), "{:?}", dock.faults());
    // All at once, not the first.
    let (_, mut weather) = maps("nowhere");
    weather.signals.wind.scale = f64::NAN;
    weather.signals.rain.kind = Type::U16;
    weather.signals.rain.address = weather.signals.gust.address;
    assert_eq!(weather.faults().len(), 3, "{:?}", weather.faults());
}

// ---- a real socket -------------------------------------------------------------------------------------------------

#[tokio::test]
async fn over_a_real_socket_the_hatch_opens_and_the_weather_is_read() {
    let plc = Plc::new(Duration::from_millis(50), &[1]);
    let cancel = CancellationToken::new();
    let _guard = cancel.clone().drop_guard();
    let at = plc.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), cancel.clone()).await.unwrap();
    let (mut dock, mut weather) = maps(&format!("tcp:{at}"));
    dock.signals.alive = None;
    // On a busy machine an answer may take its time.
    (dock.poll_s, dock.timeout_s, dock.stale_s) = (0.1, 10.0, 60.0);
    (weather.poll_s, weather.timeout_s, weather.stale_s) = (0.1, 10.0, 60.0);
    let lines = Lines::default();
    let dock = Dock::spawn_on(DockConfig::modbus(dock), &lines, cancel.clone()).unwrap();
    let weather = Weather::spawn_on(WeatherConfig::modbus(weather), &lines, cancel.clone()).unwrap();
    timeout(LONG, dock.open()).await.unwrap().unwrap();
    timeout(LONG, dock.close(true)).await.unwrap().unwrap();
    seen(&weather.latest(), Option::is_some).await;
    // The cable is pulled and put back.
    plc.reach(false);
    while dock.open().await.is_ok() {
        timeout(LONG, dock.close(true)).await.unwrap().unwrap();
    }
    plc.reach(true);
    while dock.open().await.is_err() {
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(dock.state().borrow().hatch, Hatch::Open);
}
