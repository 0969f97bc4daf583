//! The vehicle against the simulated drone, over real UDP.

use std::io;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::geo::LatLon;
use crate::sim::drone::{
    Camera, Drone, DroneConfig, DroneHandle, DroneLink, Exposure, Faults, WindNow,
};

const HOME: LatLon = LatLon {
    lat: 23.0512,
    lon: 113.0134,
};
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
    _wind: watch::Sender<WindNow>,
    station: CancellationToken,
    _all: DropGuard,
}

async fn site(speed: f64, parameters: &[(&str, f32)]) -> Site {
    let all = CancellationToken::new();
    let station = all.child_token();
    let vehicle = Vehicle::spawn(Config::at("udpin:127.0.0.1:0"), station.clone())
        .await
        .unwrap();
    let (wind, wind_rx) = watch::channel(WindNow {
        speed_m_s: 3.0,
        from_deg: 40.0,
    });
    let (notes, exposures) = std::sync::mpsc::channel();
    let config = DroneConfig {
        home: HOME,
        seed: 7,
        speed,
        link: DroneLink::SendTo(vehicle.local_addr().unwrap()),
        wind: wind_rx,
        parameters: parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect(),
    };
    let drone = Drone::spawn(config, Notebook(notes), all.clone())
        .await
        .unwrap();
    let site = Site {
        vehicle,
        drone,
        exposures,
        _wind: wind,
        station,
        _all: all.drop_guard(),
    };
    site.until(|t| t.linked).await;
    site
}

impl Site {
    async fn until(&self, shows: impl FnMut(&Telemetry) -> bool) {
        let mut telemetry = self.vehicle.telemetry();
        let seen = timeout(LONG, telemetry.wait_for(shows)).await;
        assert!(
            seen.is_ok(),
            "never seen: {:?}",
            self.vehicle.telemetry().borrow()
        );
    }

    /// Arms as soon as the drone is ready.
    async fn arm(&self) {
        for _ in 0..50 {
            match self.vehicle.arm().await {
                Ok(()) => return,
                Err(VehicleError::Refused { said, .. }) => {
                    assert!(
                        said.iter()
                            .any(|text| text.contains("Need Position Estimate"))
                    );
                    sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("never armed");
    }
}

fn offset(north_m: f64, east_m: f64) -> LatLon {
    LatLon {
        lat: HOME.lat + north_m / 110_750.0,
        lon: HOME.lon + east_m / 102_500.0,
    }
}

fn mission() -> Mission {
    let waypoint = |north, east| Waypoint {
        at: offset(north, east),
        height_m: 60.0,
    };
    Mission {
        takeoff_height_m: 60.0,
        speed_m_s: 8.0,
        camera: CameraPlan {
            trigger_distance_m: 15.0,
            gimbal_pitch_deg: -90.0,
        },
        waypoints: vec![
            waypoint(80.0, 0.0),
            waypoint(80.0, 60.0),
            waypoint(-40.0, 60.0),
        ],
        fence: Some(vec![
            offset(-300.0, -300.0),
            offset(-300.0, 300.0),
            offset(300.0, 300.0),
            offset(300.0, -300.0),
        ]),
    }
}

#[tokio::test]
async fn an_uploaded_mission_is_what_the_drone_holds_and_lost_items_are_asked_for_again() {
    let site = site(1.0, &[]).await;
    site.drone.set_faults(Faults {
        drop_item_messages: 3,
        ..Faults::default()
    });
    timeout(LONG, site.vehicle.upload(&mission()))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_drone_that_holds_another_item_than_was_sent_is_refused() {
    let site = site(1.0, &[]).await;
    site.drone.set_faults(Faults {
        store_wrong_item: Some(6),
        ..Faults::default()
    });
    sleep(Duration::from_millis(100)).await;
    let error = site.vehicle.upload(&mission()).await.unwrap_err();
    assert!(matches!(error, VehicleError::Mismatch { .. }));
    let error = error.to_string();
    assert!(error.contains("item 6 (NAV_WAYPOINT): latitude"), "{error}");
}

#[tokio::test]
async fn a_whole_flight_comes_home_with_its_pictures_and_their_poses() {
    let site = site(60.0, &[]).await;
    let mut shots = site.vehicle.shots();
    site.until(|t| t.position.is_some() && t.battery_pct.is_some() && t.satellites.is_some())
        .await;
    site.vehicle.upload(&mission()).await.unwrap();
    site.arm().await;
    site.vehicle.start_mission().await.unwrap();
    let mut telemetry = site.vehicle.telemetry();
    let flight = async {
        telemetry
            .wait_for(|t| t.landed == LandedState::InAir)
            .await
            .unwrap();
        telemetry
            .wait_for(|t| t.is_down_and_disarmed())
            .await
            .unwrap();
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
        assert_eq!(
            shot.taken_at.as_microsecond(),
            truth.taken_at.as_microsecond()
        );
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
    let site = site(20.0, &[("FS_GCS_TIMEOUT", 1.5)]).await;
    // As shipped it would fly on.
    site.vehicle.param_set("FS_GCS_ENABLE", 1.0).await.unwrap();
    site.vehicle.upload(&mission()).await.unwrap();
    site.arm().await;
    site.vehicle.start_mission().await.unwrap();
    let mut truth = site.drone.truth();
    timeout(LONG, truth.wait_for(|t| t.up_m > 10.0))
        .await
        .unwrap()
        .unwrap();
    site.vehicle.hold().await.unwrap();
    site.station.cancel();
    const RTL: u32 = 6;
    timeout(LONG, truth.wait_for(|t| t.mode == RTL))
        .await
        .unwrap()
        .unwrap();
    timeout(LONG, truth.wait_for(|t| t.in_dock && !t.armed))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_return_is_obeyed_in_the_middle_of_a_mission() {
    let site = site(60.0, &[]).await;
    site.vehicle.upload(&mission()).await.unwrap();
    site.arm().await;
    site.vehicle.start_mission().await.unwrap();
    let mut truth = site.drone.truth();
    timeout(LONG, truth.wait_for(|t| t.up_m > 10.0))
        .await
        .unwrap()
        .unwrap();
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
    site.drone.set_faults(Faults {
        babble: true,
        ..Faults::default()
    });
    timeout(LONG, site.vehicle.upload(&mission()))
        .await
        .unwrap()
        .unwrap();
    assert!(site.vehicle.telemetry().borrow().linked);
}

#[tokio::test]
async fn a_refusal_to_arm_carries_the_drones_own_words() {
    let site = site(20.0, &[]).await;
    site.arm().await;
    site.vehicle.disarm().await.unwrap();
    site.drone.set_faults(Faults {
        prearm: Some("PreArm: Compass not healthy".to_owned()),
        ..Faults::default()
    });
    sleep(Duration::from_millis(100)).await;
    let error = site.vehicle.arm().await.unwrap_err().to_string();
    assert!(
        error.contains("arm: the drone answered \"failed\""),
        "{error}"
    );
    assert!(error.contains("Compass not healthy"), "{error}");
}

#[tokio::test]
async fn the_failsafes_are_set_once_and_one_that_does_not_stick_is_named() {
    let site = site(1.0, &[]).await;
    let changes = site.vehicle.secure().await.unwrap();
    assert!(changes.iter().any(|change| change.name == "FS_GCS_ENABLE"));
    assert_eq!(site.vehicle.secure().await.unwrap(), []);
    site.drone.set_faults(Faults {
        parameters_stick: false,
        ..Faults::default()
    });
    sleep(Duration::from_millis(100)).await;
    let error = site
        .vehicle
        .param_set("FS_GCS_ENABLE", 0.0)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("FS_GCS_ENABLE: set to 0, the drone holds 1"),
        "{error}"
    );
}
