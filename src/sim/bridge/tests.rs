//! The bridge between a station's link and an autopilot: here the simulated drone is one, with its own camera hung up.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::geo::LocalFrame;
use crate::sim::drone::{Drone, DroneConfig, DroneLink, Exposure, Faults, WindNow};
use crate::vehicle::{CameraPlan, Config, Mission, Vehicle, Waypoint};

const HOME: LatLon = LatLon { lat: 47.3977, lon: 8.5456 };

struct Film;

impl Camera for Film {
    fn expose(&mut self, exposure: &Exposure) -> std::io::Result<String> {
        Ok(format!("{:03}.jpg", exposure.index))
    }
}

#[tokio::test]
async fn a_mission_flown_through_the_bridge_brings_pictures_and_a_lost_link_is_lost() {
    let cancel = CancellationToken::new();
    let autopilot = Drone::spawn(
        DroneConfig {
            home: HOME,
            seed: 1,
            // Positions come four times a second of the wall: faster, and pictures would be missed between them.
            speed: 3.0,
            link: DroneLink::Listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            wind: watch::channel(WindNow::default()).1,
            parameters: Vec::new(),
            faults: Faults { camera_stalled: true, ..Faults::default() },
        },
        Film,
        cancel.clone(),
    )
    .await
    .unwrap();
    let url = format!("udpout:127.0.0.1:{}", autopilot.local_addr().port());
    let bridge = Bridge::find(&url, cancel.clone()).await.unwrap();
    assert!(bridge.home().distance_m(HOME) < 3.0);
    assert_eq!(bridge.autopilot(), Some(Autopilot::ArduPilot));

    let station = Vehicle::spawn(Config::at("udpin:127.0.0.1:0"), cancel.clone()).await.unwrap();
    let dock = bridge.run(station.local_addr().unwrap(), Film, cancel.clone()).await.unwrap();
    let mut telemetry = station.telemetry();
    let ready = telemetry.wait_for(|t| t.is_down_and_disarmed() && t.position.is_some() && t.home.is_some());
    timeout(Duration::from_secs(20), ready).await.unwrap().unwrap();
    let identified = telemetry.wait_for(|t| matches!(t.health.identification, Some((Ok(()), _))));
    timeout(Duration::from_secs(5), identified).await.unwrap().unwrap();
    assert!(dock.truth().borrow().in_dock);

    let frame = LocalFrame::new(HOME);
    let waypoint = |east, north| Waypoint { at: frame.to_latlon(east, north), height_m: 20.0 };
    let mission = Mission {
        takeoff_height_m: 20.0,
        speed_m_s: 8.0,
        camera: CameraPlan { trigger_distance_m: 10.0, gimbal_pitch_deg: -70.0, ..CameraPlan::default() },
        // Long enough for three pictures, however seldom a busy machine lets the drone say where it is.
        waypoints: vec![waypoint(0.0, 10.0), waypoint(100.0, 10.0)],
        ..Mission::default()
    };
    station.upload(&mission).await.unwrap();
    let mut shots = station.shots();
    station.arm().await.unwrap();
    station.start_mission().await.unwrap();
    for number in 0..3 {
        let shot = timeout(Duration::from_secs(30), shots.recv()).await.unwrap().unwrap();
        assert_eq!((shot.index, shot.file), (number, format!("{number:03}.jpg")));
        assert!((shot.pose.attitude.pitch_deg + 70.0).abs() < 0.1, "{:?}", shot.pose);
        assert!((shot.pose.height_m - 20.0).abs() < 5.0, "{:?}", shot.pose);
    }
    assert!(!dock.truth().borrow().in_dock);

    dock.set_faults(Faults { mute: true, ..Faults::default() });
    timeout(Duration::from_secs(20), telemetry.wait_for(|t| !t.linked)).await.unwrap().unwrap();
    dock.set_faults(Faults::default());
    let home = telemetry.wait_for(|t| t.linked && t.is_down_and_disarmed());
    timeout(Duration::from_secs(60), home).await.unwrap().unwrap();
    let mut truth = dock.truth();
    timeout(Duration::from_secs(5), truth.wait_for(|t| t.in_dock)).await.unwrap().unwrap();
    assert_eq!((truth.borrow().arms, truth.borrow().launches), (1, 1));
    cancel.cancel();
}

#[tokio::test(start_paused = true)]
async fn an_autopilot_that_is_not_there_ends_in_one_line_that_says_what_to_do() {
    let silent = Bridge::find("udpin:127.0.0.1:0", CancellationToken::new()).await.err().unwrap().to_string();
    assert!(silent.contains("no autopilot was heard") && silent.contains("start it first"), "{silent}");
    assert!(!silent.contains('\n'), "{silent}");
    let wrong = Bridge::find("carrier-pigeon", CancellationToken::new()).await.err().unwrap().to_string();
    assert!(wrong.contains("--vehicle carrier-pigeon"), "{wrong}");
}
