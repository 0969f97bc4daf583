//! The vehicle against the simulated drone, over real UDP.

use std::io;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::geo::LatLon;
use crate::sim::drone::{Camera, Drone, DroneConfig, DroneHandle, DroneLink, Exposure, Faults, WindNow};

const HOME: LatLon = LatLon { lat: 23.0512, lon: 113.0134 };
/// Far longer than anything here takes on a loaded machine; nothing is timed by it.
const LONG: Duration = Duration::from_secs(60);

/// Writes nothing and hands every exposure to the test.
struct Notebook(std::sync::mpsc::Sender<Exposure>);

impl Camera for Notebook {
    fn expose(&mut self, exposure: &Exposure) -> io::Result<String> {
        let _ = self.0.send(*exposure);
        Ok(format!("shot-{:04}.jpg", exposure.index))
    }
}

struct Site {
    vehicle: Vehicle,
    drone: DroneHandle,
    exposures: std::sync::mpsc::Receiver<Exposure>,
    wind: watch::Sender<WindNow>,
    station: CancellationToken,
    _all: DropGuard,
}

async fn site(speed: f64, parameters: &[(&str, f32)]) -> Site {
    let (notes, exposures) = std::sync::mpsc::channel();
    site_with(speed, parameters, Notebook(notes), exposures).await
}

async fn site_with(
    speed: f64,
    parameters: &[(&str, f32)],
    camera: impl Camera,
    exposures: std::sync::mpsc::Receiver<Exposure>,
) -> Site {
    let all = CancellationToken::new();
    let station = all.child_token();
    let vehicle = Vehicle::spawn(Config::at("udpin:127.0.0.1:0"), station.clone()).await.unwrap();
    let (wind, wind_rx) = watch::channel(WindNow { speed_m_s: 3.0, from_deg: 40.0 });
    let config = DroneConfig {
        home: HOME,
        seed: 7,
        speed,
        link: DroneLink::SendTo(vehicle.local_addr().unwrap()),
        wind: wind_rx,
        parameters: parameters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        faults: Faults::default(),
    };
    let drone = Drone::spawn(config, camera, all.clone()).await.unwrap();
    let site = Site { vehicle, drone, exposures, wind, station, _all: all.drop_guard() };
    site.until(|t| t.linked).await;
    site
}

impl Site {
    async fn until(&self, shows: impl FnMut(&Telemetry) -> bool) {
        let mut telemetry = self.vehicle.telemetry();
        let seen = timeout(LONG, telemetry.wait_for(shows)).await;
        assert!(seen.is_ok(), "never seen: {:?}", self.vehicle.telemetry().borrow());
    }

    /// Arms as soon as the drone is ready.
    async fn arm(&self) {
        for _ in 0..50 {
            match self.vehicle.arm().await {
                Ok(()) => return,
                Err(VehicleError::Refused { said, .. }) => {
                    assert!(said.iter().any(|text| text.contains("Need Position Estimate")));
                    sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("never armed");
    }
}

fn offset(north_m: f64, east_m: f64) -> LatLon {
    LatLon { lat: HOME.lat + north_m / 110_750.0, lon: HOME.lon + east_m / 102_500.0 }
}

fn mission() -> Mission {
    let waypoint = |north, east| Waypoint { at: offset(north, east), height_m: 60.0 };
    Mission {
        takeoff_height_m: 60.0,
        speed_m_s: 8.0,
        camera: CameraPlan { trigger_distance_m: 15.0, gimbal_pitch_deg: -90.0, ..CameraPlan::default() },
        waypoints: vec![waypoint(80.0, 0.0), waypoint(80.0, 60.0), waypoint(-40.0, 60.0)],
        fence: Some(vec![offset(-300.0, -300.0), offset(-300.0, 300.0), offset(300.0, 300.0), offset(300.0, -300.0)]),
        ..Mission::default()
    }
}

#[tokio::test]
async fn an_uploaded_mission_is_what_the_drone_holds_and_lost_items_are_asked_for_again() {
    let site = site(1.0, &[]).await;
    site.drone.set_faults(Faults { drop_item_messages: 3, ..Faults::default() });
    timeout(LONG, site.vehicle.upload(&mission())).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_drone_that_holds_another_item_than_was_sent_is_refused() {
    let site = site(1.0, &[]).await;
    site.drone.set_faults(Faults { store_wrong_item: Some(6), ..Faults::default() });
    let error = site.vehicle.upload(&mission()).await.unwrap_err();
    assert!(matches!(error, VehicleError::Mismatch { .. }));
    let error = error.to_string();
    assert!(error.contains("item 6 (NAV_WAYPOINT): latitude"), "{error}");
}

#[tokio::test]
async fn a_whole_flight_comes_home_with_its_pictures_and_their_poses() {
    let site = site(60.0, &[]).await;
    let mut shots = site.vehicle.shots();
    site.until(|t| t.position.is_some() && t.battery_pct.is_some() && t.satellites.is_some()).await;
    site.vehicle.upload(&mission()).await.unwrap();
    site.arm().await;
    site.vehicle.start_mission().await.unwrap();
    let mut telemetry = site.vehicle.telemetry();
    let flight = async {
        telemetry.wait_for(|t| t.landed == LandedState::InAir).await.unwrap();
        telemetry.wait_for(|t| t.is_down_and_disarmed()).await.unwrap();
    };
    timeout(LONG, flight).await.unwrap();
    assert!(site.drone.truth().borrow().in_dock);

    let truths: Vec<Exposure> = site.exposures.try_iter().collect();
    let mut seen = Vec::new();
    while seen.len() < truths.len() {
        seen.push(timeout(LONG, shots.recv()).await.unwrap().unwrap());
    }
    // 80 m out, 60 m across, 120 m down, a picture every 15 m.
    assert!((14..=19).contains(&seen.len()), "{} shots", seen.len());
    assert_eq!(shots.lost(), 0);
    let mut worst: f64 = 0.0;
    for (shot, truth) in seen.iter().zip(&truths) {
        assert_eq!(shot.index, truth.index);
        assert_eq!(shot.file, format!("shot-{:04}.jpg", truth.index));
        // MAVLink's time is in microseconds.
        assert_eq!(shot.taken_at.as_microsecond(), truth.taken_at.as_microsecond());
        let true_at = offset(truth.north_m, truth.east_m);
        let north = (shot.pose.at.lat - true_at.lat) * 110_750.0;
        let east = (shot.pose.at.lon - true_at.lon) * 102_500.0;
        worst = worst.max(north.hypot(east));
        assert!((shot.pose.height_m - truth.up_m).abs() < 2.5);
        assert!((shot.pose.attitude.pitch_deg + 90.0).abs() < 2.0);
    }
    assert!(worst > 0.01 && worst < 3.5, "estimates err by {worst} m");
}

#[tokio::test]
async fn a_drone_that_loses_the_station_comes_home_by_itself() {
    // As shipped, a drone that was told to hold goes on holding.
    let site = site(20.0, &[("FS_GCS_TIMEOUT", 1.5), ("FS_OPTIONS", 0.0)]).await;
    // As shipped it would fly on.
    site.vehicle.param_set("FS_GCS_ENABLE", 1.0).await.unwrap();
    site.vehicle.upload(&mission()).await.unwrap();
    site.arm().await;
    site.vehicle.start_mission().await.unwrap();
    let mut truth = site.drone.truth();
    timeout(LONG, truth.wait_for(|t| t.up_m > 10.0)).await.unwrap().unwrap();
    site.vehicle.hold().await.unwrap();
    site.station.cancel();
    const RTL: u32 = 6;
    timeout(LONG, truth.wait_for(|t| t.mode == RTL)).await.unwrap().unwrap();
    timeout(LONG, truth.wait_for(|t| t.in_dock && !t.armed)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_return_is_obeyed_in_the_middle_of_a_mission() {
    let site = site(60.0, &[]).await;
    site.vehicle.upload(&mission()).await.unwrap();
    site.arm().await;
    site.vehicle.start_mission().await.unwrap();
    let mut truth = site.drone.truth();
    timeout(LONG, truth.wait_for(|t| t.up_m > 10.0)).await.unwrap().unwrap();
    let error = site.vehicle.upload(&mission()).await.unwrap_err();
    assert!(matches!(error, VehicleError::Armed), "{error}");
    let error = site.vehicle.disarm().await.unwrap_err().to_string();
    assert!(error.contains("Disarm: refused, in the air"), "{error}");
    site.vehicle.return_home().await.unwrap();
    site.until(|t| t.is_down_and_disarmed()).await;
}

#[tokio::test]
async fn garbage_and_unknown_messages_do_not_stop_the_link() {
    let site = site(1.0, &[]).await;
    site.drone.set_faults(Faults { babble: true, ..Faults::default() });
    timeout(LONG, site.vehicle.upload(&mission())).await.unwrap().unwrap();
    site.until(|t| t.unreadable > 100 && t.linked).await;
}

#[tokio::test]
async fn a_rally_point_that_would_pull_the_return_elsewhere_is_cleared() {
    use mavlink::dialects::common::{
        MISSION_COUNT_DATA, MISSION_ITEM_INT_DATA, MISSION_REQUEST_LIST_DATA, MavMissionType,
    };
    let site = site(1.0, &[]).await;
    let kind = MavMissionType::MAV_MISSION_TYPE_RALLY;
    // Somebody's other ground station puts one there.
    for message in [
        MavMessage::MISSION_COUNT(MISSION_COUNT_DATA {
            count: 1,
            target_system: 1,
            mission_type: kind,
            ..Default::default()
        }),
        MavMessage::MISSION_ITEM_INT(MISSION_ITEM_INT_DATA {
            command: MavCmd::MAV_CMD_NAV_RALLY_POINT,
            target_system: 1,
            mission_type: kind,
            ..Default::default()
        }),
    ] {
        site.vehicle.shared.send.send(message).await.unwrap();
    }
    site.vehicle.upload(&mission()).await.unwrap();
    let list = MavMessage::MISSION_REQUEST_LIST(MISSION_REQUEST_LIST_DATA {
        target_system: 1,
        mission_type: kind,
        ..Default::default()
    });
    let mut frames = site.vehicle.shared.frames.subscribe();
    site.vehicle.shared.send.send(list).await.unwrap();
    let held = async {
        loop {
            match &frames.recv().await.unwrap().message {
                MavMessage::MISSION_COUNT(held) if held.mission_type == kind => return held.count,
                _ => {}
            }
        }
    };
    assert_eq!(timeout(LONG, held).await.unwrap(), 0);
}

#[tokio::test]
async fn outside_its_fence_the_drone_turns_back_by_itself() {
    let site = site(60.0, &[("FENCE_ENABLE", 1.0)]).await;
    site.vehicle.upload(&mission()).await.unwrap();
    site.arm().await;
    site.vehicle.start_mission().await.unwrap();
    let mut truth = site.drone.truth();
    timeout(LONG, truth.wait_for(|t| t.up_m > 10.0)).await.unwrap().unwrap();
    // A storm carries it over the line: no word of ours is needed for the return.
    site.wind.send_replace(WindNow { speed_m_s: 22.0, from_deg: 180.0 });
    site.until(|t| t.texts.iter().any(|text| text.text.contains("fence breached"))).await;
    const RTL: u32 = 6;
    timeout(LONG, truth.wait_for(|t| t.mode == RTL)).await.unwrap().unwrap();
    site.wind.send_replace(WindNow::default());
    timeout(LONG, truth.wait_for(|t| t.in_dock && !t.armed)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refusal_to_arm_carries_the_drones_own_words() {
    let site = site(20.0, &[]).await;
    site.arm().await;
    site.vehicle.disarm().await.unwrap();
    site.drone.set_faults(Faults { prearm: Some("PreArm: Compass not healthy".to_owned()), ..Faults::default() });
    let error = site.vehicle.arm().await.unwrap_err().to_string();
    assert!(error.contains("arm: the drone answered \"failed\""), "{error}");
    assert!(error.contains("Compass not healthy"), "{error}");
}

#[tokio::test]
async fn the_failsafes_are_set_once_and_one_that_does_not_stick_is_named() {
    let site = site(1.0, &[]).await;
    let changes = site.vehicle.secure().await.unwrap();
    assert!(changes.iter().any(|change| change.name == "FS_GCS_ENABLE"));
    assert_eq!(site.vehicle.secure().await.unwrap(), []);
    site.drone.set_faults(Faults { parameters_stick: false, ..Faults::default() });
    let error = site.vehicle.param_set("FS_GCS_ENABLE", 0.0).await.unwrap_err();
    assert!(error.to_string().contains("FS_GCS_ENABLE: set to 0, the drone holds 1"), "{error}");
}

#[tokio::test]
async fn a_drone_whose_failsafes_will_not_stick_does_not_fly_and_the_parameter_is_named() {
    let site = site(1.0, &[]).await;
    let differences = site.vehicle.unsafe_parameters().await.unwrap();
    assert!(differences.iter().any(|d| d.name == "BATT_FS_LOW_ACT" && (d.from, d.to) == (0.0, 2.0)), "{differences:?}");
    site.drone.set_faults(Faults { parameters_stick: false, ..Faults::default() });
    let error = site.vehicle.secure().await.unwrap_err();
    let named = differences[0].name.clone();
    assert!(matches!(&error, VehicleError::ParameterNotKept { name, .. } if *name == named), "{error}");
    assert!(error.to_string().contains("set it by hand"), "{error}");
}

#[tokio::test]
async fn failsafes_are_not_changed_under_an_armed_drone() {
    let site = site(20.0, &[]).await;
    site.arm().await;
    let error = site.vehicle.secure().await.unwrap_err().to_string();
    assert!(
        error.contains("armed with unsafe parameters") && error.contains("FS_GCS_ENABLE is 0, wanted 1"),
        "{error}"
    );
}

/// Finishes a picture only when the test lets it.
struct SlowCamera(std::sync::mpsc::Receiver<()>);

impl Camera for SlowCamera {
    fn expose(&mut self, exposure: &Exposure) -> io::Result<String> {
        self.0.recv().map_err(io::Error::other)?;
        Ok(format!("{}.jpg", exposure.index))
    }
}

#[tokio::test]
async fn the_flight_waits_for_a_slow_camera_and_loses_no_picture() {
    let (develop, slow) = std::sync::mpsc::channel();
    let (_, no_notes) = std::sync::mpsc::channel();
    let site = site_with(60.0, &[], SlowCamera(slow), no_notes).await;
    let mut shots = site.vehicle.shots();
    site.vehicle.upload(&mission()).await.unwrap();
    site.arm().await;
    site.vehicle.start_mission().await.unwrap();
    let mut truth = site.drone.truth();
    timeout(LONG, truth.wait_for(|t| t.shots_taken == 3)).await.unwrap().unwrap();
    let stood_at = truth.borrow().north_m;
    // Eighteen simulated seconds, if they passed.
    sleep(Duration::from_millis(300)).await;
    let still = *truth.borrow();
    assert_eq!((still.shots_taken, still.north_m), (3, stood_at));
    for _ in 0..100 {
        develop.send(()).unwrap();
    }
    for index in 0..14 {
        let shot = timeout(LONG, shots.recv()).await.unwrap().unwrap();
        assert_eq!(shot.index, index);
    }
}

#[tokio::test]
async fn a_drone_that_waits_to_be_spoken_to_is_found_by_its_address() {
    let all = CancellationToken::new();
    let _stop = all.clone().drop_guard();
    let (_wind, wind) = watch::channel(WindNow::default());
    let (notes, _exposures) = std::sync::mpsc::channel();
    let config = DroneConfig {
        home: HOME,
        seed: 1,
        speed: 1.0,
        link: DroneLink::Listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0))),
        wind,
        parameters: Vec::new(),
        faults: Faults::default(),
    };
    let drone = Drone::spawn(config, Notebook(notes), all.clone()).await.unwrap();
    let url = format!("udpout:{}", drone.local_addr());
    let vehicle = Vehicle::spawn(Config::at(&url), all).await.unwrap();
    let mut telemetry = vehicle.telemetry();
    timeout(LONG, telemetry.wait_for(|t| t.linked)).await.unwrap().unwrap();
    assert_eq!(vehicle.param_get("SYSID_MYGCS").await.unwrap(), 255.0);
}

#[tokio::test]
async fn the_link_says_when_it_last_turned() {
    let vehicle = Vehicle::spawn(Config::at("udpin:127.0.0.1:0"), CancellationToken::new()).await.unwrap();
    for _ in 0..2 {
        let before = vehicle.last_turn();
        let turned = async {
            while vehicle.last_turn() == before {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, turned).await.expect("nothing is heard, and it turns all the same");
    }
}

// ---- the dock and the weather station, over real HTTP --------------------------------------------------------------

mod devices {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::sim::drone::Truth;
    use crate::sim::hardware::{self, Air, Hardware, HardwareConfig};

    struct Devices {
        hardware: Hardware,
        drone: watch::Sender<Truth>,
        air: Air,
        _all: DropGuard,
    }

    async fn devices() -> Devices {
        let all = CancellationToken::new();
        let (drone, drone_rx) = watch::channel(Truth::docked(HOME));
        let config =
            HardwareConfig { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), seed: 1, speed: 50.0, travel_s: 10.0 };
        let air = Air::new();
        let hardware = hardware::spawn(config, air.clone(), drone_rx, all.clone()).await.unwrap();
        Devices { hardware, drone, air, _all: all.drop_guard() }
    }

    async fn post(url: String, body: &'static str) {
        let sent = tokio::task::spawn_blocking(move || {
            ureq::post(url).header("content-type", "application/json").send(body).map(drop)
        });
        sent.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_hatch_opens_for_a_launch_and_closes_over_the_drone_only() {
        let devices = devices().await;
        let config = DockConfig { travel_limit_s: 30.0, ..DockConfig::http(&devices.hardware.url()) };
        let dock = Dock::spawn(config, CancellationToken::new()).unwrap();
        dock.open().await.unwrap();
        assert_eq!(dock.state().borrow().hatch, Hatch::Open);
        let refused = dock.close(false).await.unwrap_err();
        assert!(matches!(refused, DockError::Unsafe { objection: Objection::DroneNotInDock, .. }));
        // The sensor outweighs a caller who is mistaken.
        devices.drone.send_modify(|truth| truth.in_dock = false);
        let refused = dock.close(true).await.unwrap_err();
        assert!(matches!(refused, DockError::Unsafe { objection: Objection::DroneNotInDock, .. }));
        devices.drone.send_modify(|truth| truth.in_dock = true);
        dock.close(true).await.unwrap();
        assert_eq!(dock.state().borrow().hatch, Hatch::Closed);
    }

    #[tokio::test]
    async fn a_hatch_that_sticks_is_reported_with_its_limit() {
        let devices = devices().await;
        post(format!("{}/dock", devices.hardware.url()), r#"{"jammed": true}"#).await;
        let config = DockConfig { travel_limit_s: 1.0, ..DockConfig::http(&devices.hardware.url()) };
        let dock = Dock::spawn(config, CancellationToken::new()).unwrap();
        let error = dock.open().await.unwrap_err().to_string();
        assert!(error.contains("did not reach Open within 1s"), "{error}");
    }

    #[tokio::test]
    async fn a_dock_that_is_not_there_is_unknown_and_says_where_it_was_looked_for() {
        let config = DockConfig { travel_limit_s: 1.0, ..DockConfig::http("http://127.0.0.1:9") };
        let dock = Dock::spawn(config, CancellationToken::new()).unwrap();
        let error = dock.open().await.unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:9") && error.contains("dock.url"), "{error}");
        assert_eq!(*dock.state().borrow(), DockState::default());
    }

    #[tokio::test]
    async fn wind_set_at_the_weather_station_is_read_and_felt() {
        let devices = devices().await;
        let url = devices.hardware.url();
        let config = WeatherConfig::http(&url);
        let weather = Weather::spawn(config, CancellationToken::new()).unwrap();
        let mut latest = weather.latest();
        let calm = |reading: &Option<Reading>| reading.is_some_and(|r| r.wind_m_s < 7.0);
        timeout(LONG, latest.wait_for(calm)).await.unwrap().unwrap();
        let set = Box::leak(format!("{url}/weather").into_boxed_str());
        post((*set).to_owned(), r#"{"wind_m_s": 15}"#).await;
        let windy = |reading: &Option<Reading>| reading.is_some_and(|r| r.wind_m_s == 15.0);
        timeout(LONG, latest.wait_for(windy)).await.unwrap().unwrap();
        let mut felt = devices.air.wind();
        timeout(LONG, felt.wait_for(|wind| wind.speed_m_s >= 15.0)).await.unwrap().unwrap();
        // No reading is one that cannot be true; the last good one keeps its age.
        let before = latest.borrow().unwrap();
        post((*set).to_owned(), r#"{"wind_m_s": -4}"#).await;
        sleep(Duration::from_millis(1500)).await;
        assert_eq!(latest.borrow().unwrap().wind_m_s, before.wind_m_s);
    }
}

// ---- the link, over channels and on paused time --------------------------------------------------------------------

pub(crate) mod wire;
