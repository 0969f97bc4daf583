//! A simulated drone that speaks real MAVLink 2 over UDP, as an ArduCopter does, with a camera that takes pictures.
//!
//! Whoever talks to it cannot tell: there is no other way in or out than its socket, except for the camera's files and,
//! for tests and for the dock's sensor, [`DroneHandle::truth`].
//!
//! All but [`task`] is pure: [`physics`], [`pack`], [`fences`], [`store`], and [`autopilot`] with its parts; [`task`] owns the socket, the clock and the camera's thread.

mod album;
mod autopilot;
mod commands;
mod failsafe;
mod fences;
mod guide;
mod messages;
mod pack;
mod params;
pub mod physics;
mod store;
mod task;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::geo::{self, LatLon};
pub(in crate::sim) use album::Album;
pub use physics::WindNow;
pub(in crate::sim) use task::{Finished, take_pictures};

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

/// What the remote-identification transmitter says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemoteId {
    #[default]
    Good,
    /// It runs and says that it does not transmit.
    Failing,
    Silent,
}

/// Switches that make it misbehave; they may be thrown while it flies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
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
    /// It hears nothing and goes on saying: the link is lost upwards.
    pub deaf: bool,
    /// It hears and cannot be heard: the link is lost downwards.
    pub voiceless: bool,
    /// The camera takes no pictures and says nothing of it.
    pub camera_stalled: bool,
    /// The battery gives out: its charge is never more than this.
    pub charge_pct_at_most: Option<f64>,
    /// A weak cell: what its voltage drops for each ampere, beyond what is normal.
    pub weak_cell_ohm: f64,
    pub remote_id: RemoteId,
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
            deaf: false,
            voiceless: false,
            camera_stalled: false,
            charge_pct_at_most: None,
            weak_cell_ohm: 0.0,
            remote_id: RemoteId::Good,
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
    /// In the air since it was armed, or fallen out of it.
    pub in_air: bool,
    /// On its way home or down, whoever asked for it.
    pub coming_home: bool,
    /// This flight's mission was flown up to its return.
    pub mission_flown: bool,
    /// How often it was armed, and how often it left the ground, since power-on.
    pub arms: u32,
    pub launches: u32,
    pub crashed: bool,
    pub satellites: u8,
    /// It knows where it is.
    pub position_ok: bool,
    /// Whether it holds a fence and would act on it.
    pub fenced: bool,
    /// How far it is outside of the fence that it holds, truly, metres.
    pub outside_m: f64,
}

impl Truth {
    /// Landed and disarmed in its dock, which is at `at`.
    pub fn docked(at: LatLon) -> Truth {
        Truth {
            at,
            east_m: 0.0,
            north_m: 0.0,
            up_m: 0.0,
            yaw_deg: 0.0,
            armed: false,
            mode: 0,
            in_dock: true,
            battery_pct: 100.0,
            shots_taken: 0,
            in_air: false,
            coming_home: false,
            mission_flown: false,
            arms: 0,
            launches: 0,
            crashed: false,
            satellites: 18,
            position_ok: true,
            fenced: false,
            outside_m: 0.0,
        }
    }
}

/// The dock's platform reaches so far from its middle, metres.
pub(crate) const DOCK_M: f64 = 3.0;

/// Holds a running drone; it flies on until its cancel token says otherwise.
#[derive(Clone)]
pub struct DroneHandle {
    truth: watch::Receiver<Truth>,
    faults: watch::Sender<Faults>,
    local: SocketAddr,
}

impl DroneHandle {
    pub(in crate::sim) fn of(
        truth: watch::Receiver<Truth>,
        faults: watch::Sender<Faults>,
        local: SocketAddr,
    ) -> DroneHandle {
        DroneHandle { truth, faults, local }
    }

    pub fn truth(&self) -> watch::Receiver<Truth> {
        self.truth.clone()
    }

    pub fn faults(&self) -> Faults {
        self.faults.borrow().clone()
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
