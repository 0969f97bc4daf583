//! The dock: a hatch that opens before a launch and closes over a landed drone.
//!
//! Invariants kept here:
//! - *open* and *closed* are what the limit switches say, never what was commanded;
//! - the hatch never closes unless the caller knows the drone inside and the dock's own sensor does not deny it;
//! - a dock that falls silent is `Unknown` within seconds: its last word is not held for true.
//!
//! This driver speaks HTTP and JSON: `GET /dock` answers `{"hatch": "closed|opening|open|closing", "drone_present": true}`,
//! `POST /dock/open` and `POST /dock/close` start a movement.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::http::{Base, HttpError};

/// The `[dock]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DockConfig {
    /// `http://host:port` of the dock's controller.
    pub url: String,
    /// Seconds the hatch may take from end to end.
    #[serde(default = "default_travel_limit_s")]
    pub travel_limit_s: f64,
}

fn default_travel_limit_s() -> f64 {
    30.0
}

impl DockConfig {
    /// Everything that is wrong with the values.
    pub fn faults(&self) -> Vec<DockError> {
        let mut faults = Vec::new();
        if let Err(error) = Base::parse("dock.url", &self.url) {
            faults.push(error.into());
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
    #[error("dock.travel_limit_s = {0} is outside 1 to 600")]
    TravelLimit(f64),
    #[error(
        "the hatch did not reach {wanted:?} within {limit:?}, it is {is:?}; look for an obstacle and check the limit switches"
    )]
    Stuck { wanted: Hatch, is: Hatch, limit: Duration },
    #[error("the hatch stays open: the drone is not confirmed in the dock")]
    DroneNotInDock,
    #[error("the dock's task has stopped")]
    Gone,
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
    #[serde(skip)]
    pub received: Option<Instant>,
}

/// What callers hold: cheap to clone, safe to drop.
#[derive(Clone)]
pub struct Dock {
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<DockState>,
}

struct Request {
    wanted: Hatch,
    drone_in_dock: bool,
    reply: oneshot::Sender<Result<(), DockError>>,
}

const POLL: Duration = Duration::from_secs(1);
const POLL_MOVING: Duration = Duration::from_millis(200);
/// After this long without an answer nothing is known of the dock.
const SILENT: Duration = Duration::from_secs(4);

impl Dock {
    /// Starts the task. Requests queue up to four deep: nobody has reason to ask more.
    pub fn spawn(config: DockConfig, cancel: CancellationToken) -> Result<Dock, DockError> {
        if let Some(fault) = config.faults().into_iter().next() {
            return Err(fault);
        }
        let base = Base::parse("dock.url", &config.url)?;
        let (requests, inbox) = mpsc::channel(4);
        let (published, state) = watch::channel(DockState::default());
        let task = Task { base, limit: Duration::from_secs_f64(config.travel_limit_s), published, complained: false };
        tokio::spawn(async move {
            tokio::select! {
                () = task.run(inbox) => {}
                () = cancel.cancelled() => {}
            }
        });
        Ok(Dock { requests, state })
    }

    /// Opens the hatch and returns once the limit switch confirms it.
    pub async fn open(&self) -> Result<(), DockError> {
        self.ask(Hatch::Open, false).await
    }

    /// Closes the hatch; refused unless the drone is known to be inside (landed and disarmed).
    pub async fn close(&self, drone_in_dock: bool) -> Result<(), DockError> {
        self.ask(Hatch::Closed, drone_in_dock).await
    }

    pub fn state(&self) -> watch::Receiver<DockState> {
        self.state.clone()
    }

    async fn ask(&self, wanted: Hatch, drone_in_dock: bool) -> Result<(), DockError> {
        let (reply, answer) = oneshot::channel();
        let request = Request { wanted, drone_in_dock, reply };
        self.requests.send(request).await.map_err(|_| DockError::Gone)?;
        answer.await.map_err(|_| DockError::Gone)?
    }
}

/// Whether the hatch may close. Not knowing is not allowed; a sensor that denies the drone outweighs the caller.
fn may_close(drone_in_dock: bool, sensor: Option<bool>) -> bool {
    drone_in_dock && sensor != Some(false)
}

/// What the controller answers.
#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    hatch: Hatch,
    drone_present: Option<bool>,
}

struct Task {
    base: Base,
    limit: Duration,
    published: watch::Sender<DockState>,
    complained: bool,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                request = inbox.recv() => {
                    let Some(request) = request else { return };
                    let outcome = self.work(request.wanted, request.drone_in_dock).await;
                    if let Err(error) = &outcome {
                        tracing::warn!(%error, wanted = ?request.wanted, "the dock refused or failed");
                    }
                    // A caller that went away has no use for the answer.
                    let _ = request.reply.send(outcome);
                }
                _ = poll.tick() => drop(self.poll().await),
            }
        }
    }

    async fn work(&mut self, wanted: Hatch, drone_in_dock: bool) -> Result<(), DockError> {
        let began = Instant::now();
        let state = self.poll().await?;
        if wanted == Hatch::Closed && !may_close(drone_in_dock, state.drone_present) {
            return Err(DockError::DroneNotInDock);
        }
        if state.hatch == wanted {
            return Ok(());
        }
        let path = match wanted {
            Hatch::Closed => "/dock/close",
            _ => "/dock/open",
        };
        self.base.post(path).await?;
        loop {
            // A lost answer while it moves is no failure of the hatch: the limit decides.
            let is = self.poll().await.map_or(Hatch::Unknown, |state| state.hatch);
            if is == wanted {
                return Ok(());
            }
            if began.elapsed() > self.limit {
                return Err(DockError::Stuck { wanted, is, limit: self.limit });
            }
            tokio::time::sleep(POLL_MOVING).await;
        }
    }

    async fn poll(&mut self) -> Result<DockState, HttpError> {
        match self.base.get::<Answer>("/dock").await {
            Ok(answer) => {
                let state = DockState {
                    hatch: answer.hatch,
                    drone_present: answer.drone_present,
                    received: Some(Instant::now()),
                };
                self.complained = false;
                self.published.send_replace(state);
                Ok(state)
            }
            Err(error) => {
                self.published.send_if_modified(|state| {
                    let silent = state.received.is_some_and(|at| at.elapsed() > SILENT);
                    if silent && state.hatch != Hatch::Unknown {
                        state.hatch = Hatch::Unknown;
                        state.drone_present = None;
                        return true;
                    }
                    false
                });
                // Once, not every second.
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(%error, "the dock does not answer");
                }
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hatch_never_closes_on_a_guess() {
        assert!(may_close(true, Some(true)));
        assert!(may_close(true, None));
        assert!(!may_close(true, Some(false)));
        assert!(!may_close(false, Some(true)));
    }

    #[test]
    fn a_word_we_do_not_know_is_not_open() {
        let answer: Answer = serde_json::from_str(r#"{"hatch": "ajar"}"#).unwrap();
        assert_eq!((answer.hatch, answer.drone_present), (Hatch::Unknown, None));
    }
}
