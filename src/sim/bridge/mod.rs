//! A real autopilot in software-in-the-loop in place of the simulated drone: `aerie demo --vehicle`, `aerie sim --vehicle`.
//!
//! The bridge stands between the autopilot and the station and passes on every byte as it is, except for the time of day
//! (SYSTEM_TIME): a simulation's clock stands still while it waits for somebody to connect, and no satellite ever set it.
//! A simulated autopilot has no
//! camera, no gimbal and no transmitter of identification, so the bridge speaks for these: components 100, 154 and 236 of
//! the autopilot's own system. Pictures are taken where the mission that the station sent says so; the camera sees what is
//! truly below, where the autopilot's simulation tells (SIM_STATE, ArduPilot), and what the autopilot believes otherwise.
//! The report of a picture always says what the autopilot believes.
//!
//! It commands nothing but its own streams of telemetry and the simulated battery: large enough for a patrol (ArduPilot's
//! BATT_CAPACITY, PX4's SIM_BAT_DRAIN), and full again while the drone stands in its dock.
//!
//! [`shutter`], [`cut`] and [`aboard`] are pure, [`task`] has the sockets and the clock.

mod aboard;
mod cut;
mod shutter;
mod task;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::Duration;

use mavlink::dialects::common::MavMessage;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::drone::{Camera, DroneHandle};
use crate::geo::LatLon;
use crate::vehicle::frame::Splitter;
use crate::vehicle::telemetry::{Telemetry, is_autopilot};
use crate::vehicle::transport::{self, Address, Wire};
use crate::vehicle::{Autopilot, VehicleError};
use cut::Cutter;
use task::Voice;

/// A simulated autopilot may take a while until it listens.
const SILENT: Duration = Duration::from_secs(20);
/// From power-on to a position that it calls its home.
const POSITION: Duration = Duration::from_secs(120);

#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    #[error("--vehicle {url}: {reason}")]
    Url { url: String, reason: VehicleError },
    #[error(
        "--vehicle {url}: no autopilot was heard within {after:?}; start it first, or name where it speaks \
         (ArduPilot in software-in-the-loop: tcpout:127.0.0.1:5760, PX4: udpin:127.0.0.1:14550)"
    )]
    Silent { url: String, after: Duration },
    #[error(
        "--vehicle {url}: the autopilot does not know where it is within {after:?}{said}; look at its satellite receiver"
    )]
    NoPosition { url: String, after: Duration, said: String },
    #[error("--vehicle {url}: the drone is armed; land it first, its town is laid around the place where it stands")]
    Armed { url: String },
    #[error("--vehicle {url}: the bridge to the station cannot be opened: {source}")]
    Open { url: String, source: std::io::Error },
}

/// An autopilot that was heard and knows where it stands.
pub struct Bridge {
    url: String,
    wire: Wire,
    cutter: Cutter,
    voice: Voice,
    said: Telemetry,
    home: LatLon,
}

impl Bridge {
    /// Opens `url` (as in `vehicle.url`) and waits until the autopilot says where its home is.
    pub async fn find(url: &str, cancel: CancellationToken) -> Result<Bridge, BridgeError> {
        let refuse = |reason| BridgeError::Url { url: url.to_owned(), reason };
        let address = Address::parse(url).map_err(refuse)?;
        let wire = transport::open(&address, url, cancel).await.map_err(refuse)?;
        let mut search = Search { wire, cutter: Cutter::default(), said: Telemetry::default(), voice: None };
        let until = Instant::now() + SILENT;
        while search.voice.is_none() {
            // Some autopilots answer only who has spoken. Which system it is is not known yet; most are 1.
            let _ = search.wire.send.try_send(Voice::new(1).hello());
            let pause = until.min(Instant::now() + Duration::from_secs(1));
            if !search.listen(pause).await && Instant::now() >= until {
                return Err(BridgeError::Silent { url: url.to_owned(), after: SILENT });
            }
        }
        let until = Instant::now() + POSITION;
        let mut asked: Option<Instant> = None;
        while search.home().is_none() {
            if asked.is_none_or(|at| at.elapsed() > Duration::from_secs(5)) {
                asked = Some(Instant::now());
                search.ask().await;
            }
            let pause = until.min(Instant::now() + Duration::from_secs(1));
            if !search.listen(pause).await && Instant::now() >= until {
                let said = search.said.texts.back().map(|text| format!("; it said: {}", text.text)).unwrap_or_default();
                return Err(BridgeError::NoPosition { url: url.to_owned(), after: POSITION, said });
            }
        }
        let (Some(home), Some(voice)) = (search.home(), search.voice) else {
            return Err(BridgeError::Silent { url: url.to_owned(), after: SILENT });
        };
        if search.said.armed == Some(true) {
            return Err(BridgeError::Armed { url: url.to_owned() });
        }
        Ok(Bridge { url: url.to_owned(), wire: search.wire, cutter: search.cutter, voice, said: search.said, home })
    }

    /// Where the drone stands: the dock is there.
    pub fn home(&self) -> LatLon {
        self.home
    }

    pub fn autopilot(&self) -> Option<Autopilot> {
        self.said.autopilot
    }

    /// Passes on between the autopilot and the station at `station`, with `camera` aboard, until `cancel`.
    pub async fn run(
        self,
        station: SocketAddr,
        camera: impl Camera,
        cancel: CancellationToken,
    ) -> Result<DroneHandle, BridgeError> {
        let url = self.url.clone();
        task::spawn(self, station, camera, cancel).await.map_err(|source| BridgeError::Open { url, source })
    }
}

struct Search {
    wire: Wire,
    cutter: Cutter,
    said: Telemetry,
    voice: Option<Voice>,
}

impl Search {
    /// Hears what comes next; `false` when nothing came until then.
    async fn listen(&mut self, until: Instant) -> bool {
        let Ok(Some(received)) = timeout_at(until, self.wire.received.recv()).await else { return false };
        let now = Instant::now();
        for raw in self.cutter.push(&received.bytes) {
            for frame in Splitter::default().datagram(&raw) {
                match &frame.message {
                    MavMessage::HEARTBEAT(beat) if is_autopilot(beat) => {
                        self.wire.peer.send_replace(received.from);
                        self.voice.get_or_insert_with(|| Voice::new(frame.system));
                        self.said.heartbeat(beat, now);
                    }
                    message => self.said.apply(message, now),
                }
            }
        }
        true
    }

    async fn ask(&mut self) {
        if let Some(voice) = &mut self.voice {
            for request in voice.welcome(self.said.autopilot) {
                // No room: it is asked again.
                let _ = self.wire.send.try_send(request);
            }
        }
    }

    /// Autopilots set it when they are sure of their position. The dock is where the drone stands now, which after a flight
    /// is not quite where that one began.
    fn home(&self) -> Option<LatLon> {
        self.said.home.and(self.said.position).map(|fix| fix.at).filter(|_| self.said.has_3d_fix())
    }
}
