//! The dock: a hatch that opens before a launch and closes over a landed drone.
//!
//! Invariants kept here, whatever the dock speaks:
//! - *open* and *closed* are what the limit switches say, never what was commanded; both at once is unknown;
//! - the hatch never closes unless the caller knows the drone inside, landed and disarmed, and the dock's own sensor does
//!   not deny it;
//! - nothing moves while the emergency stop is pressed or, where there is one, not known to be released;
//! - a movement that takes too long, or that must not go on, is stopped; no command to move is ever sent twice;
//! - a dock that falls silent is unknown within seconds: its last word is not held for true.
//!
//! [`states`] decides, `task` does, through a `driver`: HTTP and JSON, or Modbus by a register map.

mod driver;
pub mod states;
mod task;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::http::{Base, HttpError};
use super::modbus::device::Unknown;
use super::modbus::map::Motion;
use super::modbus::{DockMap, LineError, Lines, MapFault};
pub use states::Objection;

/// The `[dock]` table: `url` for a controller that speaks HTTP, or `[dock.modbus]` for one that speaks Modbus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DockConfig {
    /// `http://host:port` of the dock's controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The controller's registers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DockMap")]
    pub modbus: Option<DockMap>,
    /// Seconds the hatch may take from end to end.
    #[serde(default = "default_travel_limit_s")]
    pub travel_limit_s: f64,
}

fn default_travel_limit_s() -> f64 {
    30.0
}

impl DockConfig {
    /// A dock that speaks HTTP.
    pub fn http(url: &str) -> DockConfig {
        DockConfig { url: Some(url.to_owned()), modbus: None, travel_limit_s: default_travel_limit_s() }
    }

    /// A dock that speaks Modbus.
    pub fn modbus(map: DockMap) -> DockConfig {
        DockConfig { url: None, modbus: Some(map), travel_limit_s: default_travel_limit_s() }
    }

    /// Everything that is wrong with the values.
    pub fn faults(&self) -> Vec<DockError> {
        let mut faults = Vec::new();
        match (&self.url, &self.modbus) {
            (Some(url), None) => faults.extend(Base::parse("dock.url", url).err().map(DockError::Http)),
            (None, Some(map)) => faults.extend(map.faults().into_iter().map(DockError::Map)),
            (url, _) => faults.push(DockError::Form(if url.is_some() { "two forms" } else { "no form" })),
        }
        if !(1.0..=600.0).contains(&self.travel_limit_s) {
            faults.push(DockError::TravelLimit(self.travel_limit_s));
        }
        faults
    }
}

/// Why the dock did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum DockError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Line(#[from] LineError),
    #[error(transparent)]
    Map(#[from] MapFault),
    #[error("dock has {0}; give exactly one of dock.url (HTTP) and [dock.modbus]")]
    Form(&'static str),
    #[error("dock.travel_limit_s = {0} is outside 1 to 600")]
    TravelLimit(f64),
    #[error(
        "the hatch did not reach {wanted:?} within {limit:?}, it is {is:?}; {halt}; look for an obstacle and check the limit switches"
    )]
    Stuck { wanted: Hatch, is: Hatch, limit: Duration, halt: Halt },
    #[error("{objection}; {halt}")]
    Unsafe { objection: Objection, halt: Halt },
    #[error("the hatch was stopped by command; {halt}")]
    Stopped { halt: Halt },
    #[error("{signal}: {reason}; check its entry in the map and the wiring")]
    Signal { signal: &'static str, reason: Unknown },
    #[error("{0}")]
    Switches(String),
    #[error("the dock's task has stopped")]
    Gone,
}

/// What became of the movement when something was wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub enum Halt {
    /// Refused before anything moved.
    NotStarted,
    /// The dock confirmed the stop.
    Stopped,
    /// The dock has no command for it.
    NoCommand,
    /// It will be sent as soon as the dock answers again.
    Unconfirmed(String),
}

impl DockError {
    /// Whether the dock may have got a command all the same, and moves.
    fn may_have_acted(&self) -> bool {
        match self {
            DockError::Http(error) => error.may_have_acted(),
            DockError::Line(error) => error.may_have_acted(),
            _ => false,
        }
    }
}

impl std::fmt::Display for Halt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Halt::NotStarted => f.write_str("nothing was moved"),
            Halt::Stopped => f.write_str("it was stopped"),
            Halt::NoCommand => f.write_str("the dock has no command to stop it"),
            Halt::Unconfirmed(why) => write!(f, "the stop is NOT confirmed ({why}), stay clear of the hatch"),
        }
    }
}

/// What the limit switches say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hatch {
    Closed,
    Opening,
    Open,
    Closing,
    /// Also every word that we do not know.
    #[default]
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct DockState {
    pub hatch: Hatch,
    pub drone_present: Option<bool>,
    /// Pressed. `None` also when the dock has none to ask.
    pub emergency_stop: Option<bool>,
    #[serde(skip)]
    pub received: Option<Instant>,
}

/// What callers hold: cheap to clone, safe to drop.
#[derive(Clone)]
pub struct Dock {
    requests: mpsc::Sender<Request>,
    stops: mpsc::Sender<oneshot::Sender<Halt>>,
    state: watch::Receiver<DockState>,
    trouble: watch::Receiver<Option<String>>,
}

struct Request {
    motion: Motion,
    drone_in_dock: bool,
    reply: oneshot::Sender<Result<(), DockError>>,
}

impl Dock {
    /// Starts the task, on a line of its own.
    pub fn spawn(config: DockConfig, cancel: CancellationToken) -> Result<Dock, DockError> {
        Dock::spawn_on(config, &Lines::default(), cancel)
    }

    /// Starts the task; a Modbus dock shares its line with whoever else is on it.
    pub fn spawn_on(config: DockConfig, lines: &Lines, cancel: CancellationToken) -> Result<Dock, DockError> {
        if let Some(fault) = config.faults().into_iter().next() {
            return Err(fault);
        }
        let driver = driver::Driver::new(&config, lines)?;
        // Four deep: nobody has reason to ask more; who asks all the same waits.
        let (requests, inbox) = mpsc::channel(4);
        // Whoever presses stop again while one is under way waits for that one.
        let (stops, stop_inbox) = mpsc::channel(1);
        let (published, state) = watch::channel(DockState::default());
        let (complaints, trouble) = watch::channel(None);
        let told = task::Told { published, complaints };
        task::spawn(driver, Duration::from_secs_f64(config.travel_limit_s), told, inbox, stop_inbox, cancel);
        Ok(Dock { requests, stops, state, trouble })
    }

    /// Opens the hatch and returns once the limit switch confirms it.
    pub async fn open(&self) -> Result<(), DockError> {
        self.ask(Motion::Open, false).await
    }

    /// Closes the hatch; refused unless the drone is known to be inside (landed and disarmed).
    pub async fn close(&self, drone_in_dock: bool) -> Result<(), DockError> {
        self.ask(Motion::Close, drone_in_dock).await
    }

    /// Stops whatever moves; the movement's caller hears that it was stopped.
    pub async fn stop(&self) -> Result<Halt, DockError> {
        let (reply, answer) = oneshot::channel();
        self.stops.send(reply).await.map_err(|_| DockError::Gone)?;
        answer.await.map_err(|_| DockError::Gone)
    }

    pub fn state(&self) -> watch::Receiver<DockState> {
        self.state.clone()
    }

    /// What the dock did not tell when it was last looked at, and why; `None` while it tells all that it should.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.clone()
    }

    async fn ask(&self, motion: Motion, drone_in_dock: bool) -> Result<(), DockError> {
        let (reply, answer) = oneshot::channel();
        let request = Request { motion, drone_in_dock, reply };
        self.requests.send(request).await.map_err(|_| DockError::Gone)?;
        answer.await.map_err(|_| DockError::Gone)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_form_is_given() {
        let fault = |config: &str| {
            let config: DockConfig = toml::from_str(config).unwrap();
            config.faults().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(fault("url = \"http://10.0.0.5\""), "");
        assert!(fault("").contains("no form"));
        let map = "[modbus]\nurl = \"tcp:plc\"\n[modbus.signals]\nclosed = { table = \"coil\", address = 8 }\n\
            open = { table = \"coil\", address = 9 }\n[modbus.commands]\nopen = { table = \"coil\", address = 0 }\n\
            close = { table = \"coil\", address = 1 }\n";
        assert_eq!(fault(map), "");
        assert!(fault(&format!("url = \"http://10.0.0.5\"\n{map}")).contains("two forms"));
    }
}
