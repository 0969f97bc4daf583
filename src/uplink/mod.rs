//! The MQTT 5 session: empties the outbox upstream and brings commands down.
//!
//! Invariants kept here:
//! - a record leaves the outbox only on the broker's acknowledgement with a success code; everything else is
//!   published again, under the same id, after the next connection;
//! - a broker that is absent, slow, full or strict degrades the uplink and nothing else; it never loses a record
//!   and one impossible record never holds up the rest;
//! - an incoming message is acknowledged only once the station has taken it over, so the broker keeps what we
//!   have no room for.
//!
//! How it stands together: each connection gets a client of its own ([`link`]), because the outbox, not the MQTT
//! library, remembers what is unacknowledged: nothing is replayed twice and no packet id outlives its connection.
//! [`session`] keeps one connection after another, [`flow`] publishes over one; [`judge`], [`budget`] and [`shrink`] are
//! pure; [`commands`] is the one door for commands, whichever way they come. Pictures may go into an object store instead
//! ([`objects`]), and all of it to a [`webhook`] where there is no MQTT; [`city_event`] is a case as other platforms keep it.

mod budget;
mod carrier;
pub mod city_event;
pub mod cloudevents;
pub mod commands;
mod flow;
mod hmac;
mod http;
mod judge;
mod link;
pub mod objects;
mod session;
mod shrink;
pub mod webhook;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::outbox::{self, Class, Outbox};

/// Why a broker cannot be reached as configured.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    #[error("uplink.url {url:?}: {why}; write mqtt://HOST:PORT or mqtts://HOST:PORT")]
    Url { url: String, why: &'static str },
    #[error("uplink.{key}: cannot read {}: {source}", path.display())]
    File {
        key: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("uplink.{key} {why}")]
    Setting { key: &'static str, why: &'static str },
    #[error("no trusted certificate authorities found on this machine; name one with uplink.ca_file")]
    NoAuthorities(#[source] rumqttc::TlsError),
}

/// `[uplink]` in the configuration. Secrets are files and are read anew for each connection, so that a renewed
/// certificate or password needs no restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The broker: `mqtt://HOST:PORT`, or `mqtts://HOST:PORT` with TLS. Ports default to 1883 and 8883. Or a webhook,
    /// `https://HOST/PATH`, with the shared secret in `password_file`: then no commands come from upstream.
    pub url: String,
    #[serde(default)]
    pub username: Option<String>,
    /// A file with the password; a line end after it is ignored.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// PEM certificates to trust instead of the machine's own list.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// PEM certificate chain that the station shows, for mutual TLS. Needs `ca_file` and `client_key_file`.
    #[serde(default)]
    pub client_cert_file: Option<PathBuf>,
    #[serde(default)]
    pub client_key_file: Option<PathBuf>,
    /// Records published and not yet acknowledged, at most.
    #[serde(default = "default_in_flight")]
    pub in_flight: u16,
    /// How long the broker keeps commands for an absent station.
    #[serde(default = "default_session_expiry_s")]
    pub session_expiry_s: u32,
    /// Where evidence pictures go instead of over MQTT.
    #[serde(default)]
    pub objects: Option<objects::Config>,
    /// Bytes sent per second, at most, over any longer time: for a link that others need too. MQTT only.
    #[serde(default)]
    pub bytes_per_second: Option<u64>,
    /// 10^6 bytes sent per month (UTC), for a metered link: telemetry stops at 80 % of it, pictures at 90 %, sortie
    /// records at 100 %; case events and loss reports go on. What stops waits for the next month.
    #[serde(default)]
    pub month_mb: Option<u64>,
}

fn default_in_flight() -> u16 {
    64
}

fn default_session_expiry_s() -> u32 {
    7 * 24 * 3600
}

impl Config {
    /// A configuration for a broker without credentials.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            username: None,
            password_file: None,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            in_flight: default_in_flight(),
            session_expiry_s: default_session_expiry_s(),
            objects: None,
            bytes_per_second: None,
            month_mb: None,
        }
    }

    /// What can be said without a broker; for `aerie config check`.
    pub fn check(&self) -> Result<(), UplinkError> {
        if self.bytes_per_second.is_some_and(|rate| rate < 1_000) {
            return Err(UplinkError::Setting { key: "bytes_per_second", why: "must be at least 1000" });
        }
        if self.month_mb == Some(0) {
            return Err(UplinkError::Setting { key: "month_mb", why: "must be at least 1" });
        }
        if let Some(objects) = &self.objects {
            objects.check()?;
        }
        if self.is_webhook() {
            return webhook::Webhook::new(self, "check").map(|_| ());
        }
        link::options(self, "check", 1).map(|_| ())
    }

    fn is_webhook(&self) -> bool {
        self.url.starts_with("http://") || self.url.starts_with("https://")
    }
}

/// What the uplink says of itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UplinkState {
    pub connected: bool,
    /// Connected, or not connected, since.
    pub since: Timestamp,
    /// Kept until the next success, so that the reason of an outage can be read while it lasts.
    pub last_error: Option<String>,
    /// That reason is that upstream does not know us: the name, the password, the certificate or the secret is another.
    pub stranger: bool,
    /// Records acknowledged by this process's sessions.
    pub delivered: u64,
    /// Of these, how many the broker took although nobody is subscribed to them.
    pub unheard: u64,
    /// How often a broker refused a record.
    pub refused: u64,
    /// Sent in this month; kept over restarts where the month has a limit.
    pub month_bytes: u64,
}

/// A message from upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Below the station's prefix: `command/patrol.start`, `verdict`, `request`, `model/desired`.
    pub topic_rest: String,
    pub payload: Vec<u8>,
    pub response_topic: Option<String>,
    pub correlation_data: Option<Vec<u8>>,
}

/// An answer on its way to who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The whole topic. See [`Uplink::reply_topic`].
    pub topic: String,
    pub correlation_data: Option<Vec<u8>>,
    pub payload: Vec<u8>,
}

/// What callers hold. Dropping it does not end the session; its cancellation token does.
pub struct Uplink {
    station: String,
    state: watch::Receiver<UplinkState>,
    telemetry: mpsc::Sender<(String, Vec<u8>)>,
    answers: mpsc::Sender<Answer>,
    task: JoinHandle<()>,
}

/// Telemetry waiting for the session; older than a few seconds it is worthless, so it is dropped when full.
const TELEMETRY: usize = 8;
/// Answers waiting for the session. When full the caller waits.
const ANSWERS: usize = 32;

/// Starts the session and keeps it until cancelled. Never fails: what is wrong shows in [`Uplink::state`].
pub fn spawn(
    config: Config,
    station: &str,
    outbox: Outbox,
    status: watch::Receiver<serde_json::Value>,
    incoming: mpsc::Sender<Incoming>,
    cancel: CancellationToken,
) -> Uplink {
    let (published, state) = watch::channel(UplinkState {
        connected: false,
        since: Timestamp::now(),
        last_error: None,
        stranger: false,
        delivered: 0,
        unheard: 0,
        refused: 0,
        month_bytes: 0,
    });
    let (telemetry, telemetry_rx) = mpsc::channel(TELEMETRY);
    let (answers, answers_rx) = mpsc::channel(ANSWERS);
    let mut classes = outbox::ALL;
    if let Some(objects) = config.objects.clone() {
        match objects::Objects::new(objects) {
            Ok(objects) => {
                classes = Class::Loss..=Class::Sortie;
                let pictures = Class::Evidence..=Class::Evidence;
                // Pictures that cannot be put are seen by the queue; the state of the uplink is that of its broker.
                let (own, _) = watch::channel(published.borrow().clone());
                tokio::spawn(carrier::run(outbox.clone(), pictures, Arc::new(objects), own, cancel.clone()));
            }
            Err(error) => tracing::error!(%error, "pictures go over MQTT: the object store cannot be used"),
        }
    }
    if config.is_webhook() {
        let task = match webhook::Webhook::new(&config, station) {
            Ok(hook) => tokio::spawn(carrier::run(outbox, classes, Arc::new(hook), published, cancel)),
            Err(error) => {
                published.send_modify(|state| state.last_error = Some(error.to_string()));
                // Kept, so that the reason can be read: nothing else can be done without a configuration.
                tokio::spawn(async move {
                    cancel.cancelled().await;
                    drop(published);
                })
            }
        };
        return Uplink { station: station.to_owned(), state, telemetry, answers, task };
    }
    let month = budget::month_of(Timestamp::now());
    let limits = budget::Limits {
        per_second: config.bytes_per_second,
        per_month: config.month_mb.map(|mb| mb.saturating_mul(1_000_000)),
    };
    let task = session::Task {
        prefix: prefix(station),
        station: station.to_owned(),
        outbox,
        classes,
        status,
        doors: session::Doors { incoming, telemetry: telemetry_rx, answers: answers_rx },
        state: published,
        cancel,
        answers: VecDeque::new(),
        careful: false,
        strikes: HashMap::new(),
        budget: budget::Budget::new(limits, month.clone(), 0, Instant::now()),
        month,
        config,
    };
    Uplink { station: station.to_owned(), state, telemetry, answers, task: tokio::spawn(task.run()) }
}

impl Uplink {
    pub fn state(&self) -> watch::Receiver<UplinkState> {
        self.state.clone()
    }

    /// Publishes below the station's prefix with QoS 0; dropped while there is no connection.
    pub fn telemetry(&self, topic: &str, payload: Vec<u8>) {
        if self.state.borrow().connected {
            // Full means that the session is busy with an older one: this one is not worth waiting for.
            let _ = self.telemetry.try_send((topic.to_owned(), payload));
        }
    }

    /// Answers whoever sent a message; waits while many answers are queued, not for the broker.
    pub async fn answer(&self, answer: Answer) {
        // The session has ended: so has the way to the asker, who finds the answer in the command journal.
        let _ = self.answers.send(answer).await;
    }

    /// Where an answer belongs when the asker named no topic.
    pub fn reply_topic(&self, id: &str) -> String {
        reply_topic(&self.station, id)
    }

    /// Waits for the end of the session after its token was cancelled.
    pub async fn stopped(self) {
        let _ = self.task.await;
    }
}

/// Whether the broker takes a connection with what the configuration has; why not, in words.
pub async fn probe(config: &Config, station: &str) -> Result<(), Unreached> {
    link::probe(config, station).await.map_err(|ended| Unreached {
        remedy: if ended.stranger { STRANGER } else { "check the network, uplink.url and the certificates" },
        why: ended.why,
    })
}

/// What to do about a broker that does not know us.
pub const STRANGER: &str = "correct uplink.username and the content of uplink.password_file, or uplink.client_cert_file with its key, or let the broker know them";

/// Why the broker was not reached.
#[derive(Debug)]
pub struct Unreached {
    pub why: String,
    pub remedy: &'static str,
}

/// Every topic of a station starts with this.
pub fn prefix(station: &str) -> String {
    format!("aerie/v1/{station}/")
}

/// The default topic of a reply. What an id holds beyond letters, digits and `.-_` cannot shape the topic.
pub fn reply_topic(station: &str, id: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' }
    };
    format!("{}reply/{}", prefix(station), id.chars().map(safe).collect::<String>())
}
