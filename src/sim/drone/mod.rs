//! A simulated drone that speaks real MAVLink 2 over UDP, as an ArduCopter does, with a camera that takes pictures.
//!
//! Whoever talks to it cannot tell: there is no other way in or out than its socket, except for the camera's files and,
//! for tests and for the dock's sensor, [`DroneHandle::truth`].
//!
//! [`physics`], [`autopilot`], [`store`] and [`messages`] are pure; [`task`] owns the socket, the clock and the camera's thread.

mod autopilot;
mod messages;
mod params;
pub mod physics;
mod store;
mod task;

use std::net::SocketAddr;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::geo::{self, LatLon};
pub use physics::WindNow;

/// What the camera gets to see: the truth at the moment of the shutter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exposure {
    pub index: u32,
    pub taken_at: Timestamp,
    /// Metres from home.
    pub east_m: f64,
    pub north_m: f64,
    pub up_m: f64,
    /// The camera's true attitude.
    pub attitude: geo::Attitude,
}

/// Makes a picture of what is to be seen. Runs on a thread of its own and may take its time: the drone's clock waits.
pub trait Camera: Send + 'static {
    /// Writes the picture and returns the file's name.
    fn expose(&mut self, exposure: &Exposure) -> std::io::Result<String>;
}

/// How the drone and the station find each other.
#[derive(Debug, Clone, Copy)]
pub enum DroneLink {
    /// The drone speaks first, to a station that listens (`udpin`).
    SendTo(SocketAddr),
    /// The drone listens (`udpout` on the station's side).
    Listen(SocketAddr),
}

#[derive(Debug, Clone)]
pub struct DroneConfig {
    pub home: LatLon,
    pub seed: u64,
    /// Simulated seconds a second.
    pub speed: f64,
    pub link: DroneLink,
    pub wind: watch::Receiver<WindNow>,
    /// Parameters that differ from the shipped ones.
    pub parameters: Vec<(String, f32)>,
    /// How it misbehaves from the start; [`DroneHandle::set_faults`] changes it.
    pub faults: Faults,
}

/// Switches that make it misbehave.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// Stores this mission item otherwise than it was sent.
    pub store_wrong_item: Option<u16>,
    /// Lets this many item messages and item requests fall on the floor.
    pub drop_item_messages: u32,
    pub parameters_stick: bool,
    /// A reason not to arm.
    pub prearm: Option<String>,
    pub gps_lost: bool,
    /// Its radio is off: it hears and says nothing.
    pub mute: bool,
    /// Sends garbage and messages of unknown numbers between its own.
    pub babble: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            store_wrong_item: None,
            drop_item_messages: 0,
            parameters_stick: true,
            prearm: None,
            gps_lost: false,
            mute: false,
            babble: false,
        }
    }
}

/// Where the drone really is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Truth {
    pub at: LatLon,
    pub east_m: f64,
    pub north_m: f64,
    pub up_m: f64,
    pub yaw_deg: f64,
    pub armed: bool,
    /// ArduCopter's number of the flight mode.
    pub mode: u32,
    /// Landed within the dock's platform.
    pub in_dock: bool,
    pub battery_pct: f64,
    pub shots_taken: u32,
}

/// Holds a running drone; it flies on until its cancel token says otherwise.
#[derive(Clone)]
pub struct DroneHandle {
    truth: watch::Receiver<Truth>,
    faults: watch::Sender<Faults>,
    local: SocketAddr,
}

impl DroneHandle {
    pub fn truth(&self) -> watch::Receiver<Truth> {
        self.truth.clone()
    }

    /// Holds for everything that is sent to the drone from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.faults.send_replace(faults);
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

pub struct Drone;

impl Drone {
    /// Starts a drone on the ground at its home.
    pub async fn spawn(
        config: DroneConfig,
        camera: impl Camera,
        cancel: CancellationToken,
    ) -> std::io::Result<DroneHandle> {
        task::spawn(config, camera, cancel).await
    }
}

/// Metres around home. Good to a centimetre within a kilometre.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground {
    pub home: LatLon,
    metres_per_lat: f64,
    metres_per_lon: f64,
}

impl Ground {
    pub fn new(home: LatLon) -> Self {
        let phi = home.lat.to_radians();
        Ground {
            home,
            // Series of the WGS 84 ellipsoid.
            metres_per_lat: 111_132.954 - 559.822 * (2.0 * phi).cos() + 1.175 * (4.0 * phi).cos(),
            metres_per_lon: 111_412.84 * phi.cos() - 93.5 * (3.0 * phi).cos() + 0.118 * (5.0 * phi).cos(),
        }
    }

    pub fn place(&self, enu: physics::Enu) -> (LatLon, f64) {
        let at = LatLon {
            lat: self.home.lat + enu[1] / self.metres_per_lat,
            lon: self.home.lon + enu[0] / self.metres_per_lon,
        };
        (at, enu[2])
    }

    pub fn enu(&self, at: LatLon, height_m: f64) -> physics::Enu {
        [(at.lon - self.home.lon) * self.metres_per_lon, (at.lat - self.home.lat) * self.metres_per_lat, height_m]
    }
}
