//! How aerie flies a drone: MAVLink 2, the dock, the weather station. It knows nothing of what is being looked for.
//!
//! Invariants kept here:
//! - a mission counts as uploaded only when it was read back and every item is the one that was sent;
//! - a command counts as done only when the drone acknowledged it and, where it shows, its heartbeat shows the effect;
//! - nothing is known that was not said: values never received are `None`, and each group carries its time of receipt;
//! - with a key, nothing unsigned, wrongly signed or replayed is taken, and no timestamp of ours is used twice;
//! - what the drone sends can cost a message, never the link: garbage, unknown messages and future enum values pass by;
//! - one drone: the first autopilot heard is ours, every other is ignored and named in the telemetry, until ours was
//!   silent for long and last known to stand disarmed;
//! - no heartbeat of ours tells the drone that all is well when the station is not.
//!
//! [`frame`], [`telemetry`], [`mission`], [`shots`] and [`album`] are pure; [`transport`] owns the sockets, [`link`] is the task
//! between them, [`signing`] the secret of both sides; [`transfer`], [`command`] and [`params`] are the protocols that
//! callers wait for, [`safety`] what is proven by them before a flight. Callers hold a [`Vehicle`].

mod album;
mod command;
mod config;
pub mod dock;
pub mod frame;
pub mod health;
mod http;
mod link;
pub mod mission;
pub mod modbus;
mod params;
pub mod safety;
pub mod shots;
pub mod signing;
pub mod telemetry;
mod texts;
mod transfer;
pub(crate) mod transport;
pub mod weather;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mavlink::dialects::common::{MavCmd, MavMessage};
use tokio::sync::{Mutex, broadcast, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::geo::LatLon;
use crate::runtime::latest;

pub use config::{Config, SigmaConfig};
pub use dock::{Dock, DockConfig, DockError, DockState, Halt, Hatch, Objection};
pub use http::HttpError;
pub use mission::{Along, CameraPlan, Exclusion, Mission, MissionFault, SpeedCap, Waypoint};
pub use modbus::Lines;
pub use safety::SafetyConfig;
pub use shots::{Shot, Shots};
pub use signing::SigningConfig;
pub use telemetry::{Autopilot, Fix, FlightMode, LandedState, Telemetry, Text};
pub use weather::{Reading, Weather, WeatherConfig, WeatherError};

use frame::Frame;

/// Why the drone did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum VehicleError {
    #[error(
        "vehicle.url = {url:?}: {reason}; write udpin:0.0.0.0:14550, udpout:host:port, tcpout:host:port or serial:/dev/ttyACM0:57600"
    )]
    Url { url: String, reason: String },
    #[error("vehicle.{key} = {value} is outside {low} to {high}")]
    Value { key: &'static str, value: f64, low: f64, high: f64 },
    #[error(
        "vehicle.url = {url:?} cannot be opened; look whether another program uses the port and the host name is right"
    )]
    Open {
        url: String,
        #[source]
        source: std::io::Error,
    },
    #[error("no drone on the link; check its power, its radio and vehicle.url")]
    NotLinked,
    #[error("{command}: the drone did not answer {tries} requests within {within:?}; check the link")]
    NoAnswer { command: String, tries: u32, within: Duration },
    #[error("{command}: the drone answered \"{result}\"{}", in_its_words(.said))]
    Refused {
        command: String,
        result: String,
        /// What it said while it refused.
        said: Vec<String>,
    },
    #[error("{command}: acknowledged, but after {within:?} the drone still does not show {wanted}{}", in_its_words(.said))]
    NoEffect { command: String, wanted: String, within: Duration, said: Vec<String> },
    #[error("{command}: not known for this autopilot ({autopilot:?}); ArduPilot and PX4 are")]
    Unsupported { command: String, autopilot: Option<Autopilot> },
    #[error("the mission was not sent: {0}")]
    Mission(#[from] MissionFault),
    #[error("the mission was not sent: the drone is armed, and a mission is only replaced on the ground")]
    Armed,
    #[error("{list}: the drone did not go on at {step} after {tries} tries; check the link")]
    TransferStalled { list: &'static str, step: String, tries: u32 },
    #[error("{list}: the drone refused the list: {result}")]
    TransferRefused { list: &'static str, result: String },
    #[error("{list}: the drone does not hold what was sent: {difference}; it must not fly, upload again")]
    Mismatch {
        list: &'static str,
        #[source]
        difference: mission::Mismatch,
    },
    #[error("parameter {name}: set to {wanted}, the drone holds {held}; set it by hand and look why it does not stick")]
    ParameterNotKept { name: String, wanted: f64, held: f64 },
    #[error("parameter {name}: the drone did not answer {tries} requests; it may not know the name")]
    ParameterUnknown { name: String, tries: u32 },
    #[error("vehicle.safety.parameters.{name}: {reason}")]
    Parameter { name: String, reason: String },
    #[error("parameter {name}: the drone does not know it, and {why}; use a firmware that has it")]
    ParameterMissing { name: String, why: &'static str },
    #[error(
        "parameter {name}: the drone holds {held}, wanted is {wanted}, for {why}; only the drone's maker can set it"
    )]
    ParameterUnfit { name: String, held: f64, wanted: String, why: &'static str },
    #[error("the drone is armed with unsafe parameters ({differences}); call it home, they are set on the ground")]
    UnsafeWhileArmed { differences: String },
    #[error(
        "the drone still holds {count} rally points after they were cleared, which would pull its return away from the dock; clear them by hand"
    )]
    RallyPoints { count: u16 },
    #[error(transparent)]
    Signing(#[from] signing::SigningError),
    #[error("the vehicle's task has stopped")]
    Gone,
}

fn in_its_words(lines: &[String]) -> String {
    if lines.is_empty() { String::new() } else { format!("; it said: {}", lines.join(" / ")) }
}

/// What the station gives the vehicle beside its configuration.
#[derive(Debug, Default)]
pub struct Wiring {
    /// Whether the station is fit to command a drone. While it is not, or once the sender is gone, the drone hears no
    /// heartbeat and comes home by itself. Without one the heartbeat goes on as long as the process.
    pub healthy: Option<watch::Receiver<bool>>,
    /// Where the timestamps of signed messages are kept.
    pub state_dir: Option<PathBuf>,
}

/// What callers hold: cheap to clone, safe to drop.
#[derive(Clone)]
pub struct Vehicle {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    config: Config,
    /// 64 messages; a full queue means that the socket does not take them, and callers wait.
    send: mpsc::Sender<MavMessage>,
    /// Messages of our drone, for whoever waits for an answer. 512; a slow reader loses the oldest and asks again, as
    /// after a lost packet.
    frames: broadcast::Sender<Arc<Frame>>,
    telemetry: watch::Receiver<Telemetry>,
    shots: broadcast::Sender<Shot>,
    commanded_pitch: watch::Sender<Option<f64>>,
    recall: watch::Sender<Option<u32>>,
    alive: watch::Receiver<Instant>,
    local: Option<SocketAddr>,
    /// One list at a time: the protocol has no transaction ids.
    transfer: Mutex<()>,
    /// One command of a kind at a time: an acknowledgement names only the command.
    command: Mutex<()>,
    /// When the last command of a kind (MAV_CMD) was given up: its answer may still come. Held for moments only.
    unanswered: std::sync::Mutex<HashMap<u32, Instant>>,
    /// Return and land never wait behind another command.
    urgent: Mutex<()>,
}

impl Vehicle {
    /// Opens the link and keeps it until `cancel`. Must be called within a tokio runtime.
    pub async fn spawn(config: Config, cancel: CancellationToken) -> Result<Vehicle, VehicleError> {
        Vehicle::spawn_with(config, Wiring::default(), cancel).await
    }

    /// [`Vehicle::spawn`] with what the station gives.
    pub async fn spawn_with(
        config: Config,
        wiring: Wiring,
        cancel: CancellationToken,
    ) -> Result<Vehicle, VehicleError> {
        if let Some(fault) = config.faults().into_iter().next() {
            return Err(fault);
        }
        let address = transport::Address::parse(&config.url)?;
        let signing = match &config.signing {
            Some(signing) => Some(signing::begin(signing, wiring.state_dir.as_deref(), cancel.clone())?),
            None => None,
        };
        let wire = transport::open(&address, &config.url, cancel.clone()).await?;
        Ok(link::spawn(config, wire, link::Extras { signing, healthy: wiring.healthy }, cancel))
    }

    /// When the link's task last looked around, which it does four times a second.
    pub fn last_turn(&self) -> Instant {
        crate::runtime::latest(&self.shared.alive)
    }

    pub fn telemetry(&self) -> watch::Receiver<Telemetry> {
        self.shared.telemetry.clone()
    }

    /// Pictures from now on.
    pub fn shots(&self) -> Shots {
        Shots::new(self.shared.shots.subscribe())
    }

    /// Asks the camera for every picture from this number on, also for those that were told before: for who takes over a
    /// flight. Subscribe to [`Vehicle::shots`] first.
    pub fn recall_pictures(&self, from: u32) {
        self.shared.recall.send_replace(Some(from));
    }

    /// Where the UDP socket is bound (of interest with port 0).
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.shared.local
    }

    /// Sends a mission with its geofence and reads both back. `Ok` means: the drone holds exactly this flight, and no
    /// rally point that would pull its return elsewhere: those are cleared. A mission without bounds leaves the drone's
    /// own fence in place.
    pub async fn upload(&self, mission: &Mission) -> Result<(), VehicleError> {
        transfer::upload(&self.shared, mission).await
    }

    /// Whether a mission that begins at `home` would be sent at all: for gates, before anything moves.
    pub fn check(&self, mission: &Mission, home: LatLon) -> Result<(), MissionFault> {
        let autopilot = latest(&self.shared.telemetry).autopilot.unwrap_or(Autopilot::ArduPilot);
        self.shared.config.check_mission(mission, home, autopilot)
    }

    /// How far along a mission the drone is now, by its current item and its position. `None` while either is unknown.
    /// Autopilots begin anew after a landing: keep the greatest that was seen in the air.
    pub fn along(&self, mission: &Mission) -> Option<Along> {
        let telemetry = self.shared.telemetry.borrow();
        let (autopilot, seq, at) = (telemetry.autopilot?, telemetry.mission_current?, telemetry.position?.at);
        let items = mission::items(mission, autopilot, telemetry.home, &self.shared.config.speed_caps);
        Some(mission.along(mission::next_waypoint(&items, autopilot, seq), at))
    }

    /// Arms. `Ok` means that the drone's heartbeat says so.
    pub async fn arm(&self) -> Result<(), VehicleError> {
        let autopilot = self.autopilot()?;
        let _turn = self.shared.command.lock().await;
        // Neither arms in the mission's mode on its own, and both wait on the ground in these.
        let ready = match autopilot {
            Autopilot::ArduPilot => Some(FlightMode::Guided),
            Autopilot::Px4 => Some(FlightMode::Hold),
            Autopilot::Other(_) => None,
        };
        if let Some(ready) = ready.filter(|ready| self.mode() != Some(*ready)) {
            command::set_mode(&self.shared, "arm", ready).await?;
        }
        command::send(&self.shared, "arm", MavCmd::MAV_CMD_COMPONENT_ARM_DISARM, &[1.0]).await?;
        command::see(&self.shared, "arm", "armed", |t| t.armed == Some(true)).await
    }

    /// Disarms; autopilots refuse this in the air.
    pub async fn disarm(&self) -> Result<(), VehicleError> {
        self.autopilot()?;
        let _turn = self.shared.command.lock().await;
        command::send(&self.shared, "disarm", MavCmd::MAV_CMD_COMPONENT_ARM_DISARM, &[0.0]).await?;
        command::see(&self.shared, "disarm", "disarmed", |t| t.armed == Some(false)).await
    }

    /// Flies the uploaded mission, from its start on the ground or from where it was held in the air.
    pub async fn start_mission(&self) -> Result<(), VehicleError> {
        let autopilot = self.autopilot()?;
        let _turn = self.shared.command.lock().await;
        const WHAT: &str = "start of the mission";
        if autopilot == Autopilot::ArduPilot {
            // In one step: this also gives the "throttle up" that AUTO waits for on the ground.
            command::send(&self.shared, WHAT, MavCmd::MAV_CMD_MISSION_START, &[]).await?;
        } else {
            command::set_mode(&self.shared, WHAT, FlightMode::Auto).await?;
        }
        command::see(&self.shared, WHAT, "the mission's mode", |t| t.mode == Some(FlightMode::Auto)).await
    }

    /// Calls the drone home, to land there. Never waits behind another command.
    pub async fn return_home(&self) -> Result<(), VehicleError> {
        const WHAT: &str = "return home";
        self.urgent(WHAT, MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH, FlightMode::Return).await
    }

    /// Calls home a drone that is not heard but may hear: said once, with no answer to wait for.
    pub async fn return_unheard(&self) -> Result<(), VehicleError> {
        command::tell(&self.shared, MavCmd::MAV_CMD_NAV_RETURN_TO_LAUNCH).await
    }

    /// Lands where it is. Never waits behind another command.
    pub async fn land(&self) -> Result<(), VehicleError> {
        self.urgent("land", MavCmd::MAV_CMD_NAV_LAND, FlightMode::Land).await
    }

    /// Stops and waits in the air.
    pub async fn hold(&self) -> Result<(), VehicleError> {
        self.autopilot()?;
        let _turn = self.shared.command.lock().await;
        command::set_mode(&self.shared, "hold", FlightMode::Hold).await?;
        command::see(&self.shared, "hold", "holding", |t| t.mode == Some(FlightMode::Hold)).await
    }

    /// Reads a parameter.
    pub async fn param_get(&self, name: &str) -> Result<f64, VehicleError> {
        self.autopilot()?;
        Ok(params::read(&self.shared, name).await?.value)
    }

    /// Sets a parameter and proves that it stuck.
    pub async fn param_set(&self, name: &str, value: f64) -> Result<(), VehicleError> {
        self.autopilot()?;
        params::set(&self.shared, name, value).await
    }

    /// Compares what the drone holds with what brings it home without us (see [`safety`]) and changes nothing: also for
    /// a drone in the air.
    pub async fn unsafe_parameters(&self) -> Result<Vec<safety::Change>, VehicleError> {
        safety::differences(self).await
    }

    /// Sets what brings the drone home without us: see [`safety`]. Returns what had to be changed. `Ok` means that the
    /// drone holds every parameter of the profile.
    pub async fn secure(&self) -> Result<Vec<safety::Change>, VehicleError> {
        safety::secure(self).await
    }

    async fn urgent(&self, what: &str, command: MavCmd, mode: FlightMode) -> Result<(), VehicleError> {
        self.autopilot()?;
        let _turn = self.shared.urgent.lock().await;
        if let Err(error) = command::send(&self.shared, what, command, &[]).await {
            // An autopilot that does not take the command may still take the mode.
            tracing::warn!(%error, "trying by mode instead");
            command::set_mode(&self.shared, what, mode).await?;
        }
        command::see(&self.shared, what, &format!("{mode:?}"), |t| t.mode == Some(mode) || t.is_down_and_disarmed())
            .await
    }

    fn autopilot(&self) -> Result<Autopilot, VehicleError> {
        let telemetry = self.shared.telemetry.borrow();
        match telemetry.autopilot {
            Some(autopilot) if telemetry.linked => Ok(autopilot),
            _ => Err(VehicleError::NotLinked),
        }
    }

    fn mode(&self) -> Option<FlightMode> {
        self.shared.telemetry.borrow().mode
    }
}

#[cfg(test)]
pub(crate) mod tests;
