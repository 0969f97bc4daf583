//! The one door for commands, whoever gives them: MQTT, the page, the command line. One door, one journal.
//!
//! Invariants kept here:
//! - nothing is acted on before it is journalled, and nothing after its deadline: the executor cannot get at a
//!   command other than through [`Execute::begin`], which looks at the clock and the journal last;
//! - every genuine command gets exactly one terminal reply; the same id again gets that same reply and acts not,
//!   also after a restart, also while the first is still running;
//! - what is not genuine (shape, key, signature) leaves no trace under the id it claims, so that nobody can spend
//!   another's id;
//! - a command that a crash interrupted is closed as failed, never started again.
//!
//! ```text
//! submit ─ open, authorise ─ journal "received" ─ in time? ─ "accepted" ─▶ executor ─ begin "running" ─ finish ─▶ reply
//! ```

mod envelope;
mod journal;
mod keyfile;
mod knocks;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::pkcs8::DecodePublicKey;
use ed25519_dalek::{SigningKey, VerifyingKey};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

pub use envelope::{Envelope, MAX_BYTES, Refusal, Scope, check_id, check_operator, sign};
use envelope::{Key, Keyring, Opened};
pub use journal::Entry;
pub(crate) use journal::STEPS;
use journal::{Journal, Known, Stage};
pub use keyfile::{KeyFileError, read_key, write_key};
use knocks::{Claims, Knocks, REASON, SHOWN, shown};

use super::{Answer, Incoming, Uplink};
use crate::outbox::DatabaseError;
use crate::runtime::clock::Trust;
use crate::runtime::latest;

/// How long a local caller's command stays good when it names no deadline.
const LOCAL_DEADLINE: SignedDuration = SignedDuration::from_secs(60);
/// Messages from upstream in work at once. When full, the broker holds the rest.
const AT_ONCE: usize = 32;

/// Why the door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("cannot create {}; check its owner", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("commands.keys: {kid:?} is there twice; every key needs its own kid")]
    KeyTwice { kid: String },
    #[error("commands.keys.{kid}.public_key: {why}; give 32 bytes as base64url or the path of a PEM file")]
    Key { kid: String, why: String },
    #[error("commands.keys.{kid}.roles: there is no role {role:?}; there are {known}, and those in [commands.roles]")]
    Role { kid: String, role: String, known: String },
    #[error("commands.keys.{kid} has neither roles nor may: a key that may nothing needs not be there")]
    Nothing { kid: String },
    #[error("commands.keys.{kid}.may: {may:?} is neither a name like patrol.start nor a group like patrol.*")]
    May { kid: String, may: String },
}

/// `[commands]` in the configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who may send signed commands. None means: none from upstream.
    #[serde(default)]
    pub keys: Vec<KeyConfig>,
    /// Rights under a name, for several keys: `duty = ["patrol.*", "request"]`. `observer`, `officer`, `operator` and
    /// `engineer` are there already.
    #[serde(default)]
    pub roles: BTreeMap<String, Vec<String>>,
}

/// The roles that every station knows.
const ROLES: [(&str, &[&str]); 4] = [
    ("observer", &["station.diagnostics"]),
    ("officer", &["verdict", "request"]),
    ("operator", &["patrol.*", "request", "station.hold", "station.release", "station.diagnostics"]),
    ("engineer", &["station.*", "outbox.*", "rules.*", "model.*"]),
];

/// For a refusal: what would allow a command.
fn who_may(name: &str) -> String {
    let roles: Vec<&str> = ROLES
        .iter()
        .filter(|(_, rights)| rights.iter().any(|right| envelope::covers(right, name)))
        .map(|(role, _)| *role)
        .collect();
    match roles.as_slice() {
        [] => "; no role has a command of that name".to_owned(),
        roles => format!("; of the roles, {} may: add it to roles of its [[commands.keys]]", roles.join(" and ")),
    }
}

/// `[[commands.keys]]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// How a token names the key.
    pub kid: String,
    /// Ed25519: 32 bytes as base64url, or the path of a PEM file.
    pub public_key: String,
    /// `patrol.start`, or `patrol.*` for all that begin so.
    #[serde(default)]
    pub may: Vec<String>,
    /// Rights by role, see `commands.roles`.
    #[serde(default)]
    pub roles: Vec<String>,
    /// The patrols that it may start; all when left out.
    #[serde(default)]
    pub patrols: Option<Vec<String>>,
    /// The departments whose cases it may judge; all when left out.
    #[serde(default)]
    pub departments: Option<Vec<String>>,
}

impl Config {
    /// Reads the keys; for `aerie config check`.
    pub fn check(&self) -> Result<(), CommandError> {
        self.keyring().map(|_| ())
    }

    fn keyring(&self) -> Result<Keyring, CommandError> {
        let mut keyring = Keyring::new();
        for key in &self.keys {
            let kid = key.kid.clone();
            let plain = |name: &str| {
                !name.is_empty()
                    && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/'))
            };
            let mut rights = key.may.clone();
            for role in &key.roles {
                rights.extend(self.role(role).ok_or_else(|| {
                    let known = ROLES.map(|(name, _)| name).join(", ");
                    CommandError::Role { kid: kid.clone(), role: role.clone(), known }
                })?);
            }
            if rights.is_empty() {
                return Err(CommandError::Nothing { kid });
            }
            if let Some(may) = rights.iter().find(|may| !plain(may.strip_suffix(".*").unwrap_or(may))) {
                return Err(CommandError::May { kid, may: may.clone() });
            }
            let scope = Scope { patrols: key.patrols.clone(), departments: key.departments.clone() };
            let verifying = public_key(&key.public_key).map_err(|why| CommandError::Key { kid: kid.clone(), why })?;
            if keyring.insert(kid.clone(), Key { verifying, may: rights, scope }).is_some() {
                return Err(CommandError::KeyTwice { kid });
            }
        }
        Ok(keyring)
    }

    fn role(&self, name: &str) -> Option<Vec<String>> {
        let own = self.roles.get(name).cloned();
        own.or_else(|| {
            let (_, rights) = ROLES.iter().find(|(known, _)| *known == name)?;
            Some(rights.iter().map(|right| (*right).to_owned()).collect())
        })
    }
}

fn public_key(text: &str) -> Result<VerifyingKey, String> {
    let key = match URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()) {
        Some(bytes) => VerifyingKey::from_bytes(&bytes).map_err(|_| "is not a point on the curve".to_owned())?,
        None => {
            let pem = std::fs::read_to_string(text).map_err(|error| format!("cannot read {text:?}: {error}"))?;
            VerifyingKey::from_public_key_pem(&pem)
                .map_err(|error| format!("{text:?} holds no Ed25519 key: {error}"))?
        }
    };
    // With such a key a signature can be made that fits every message.
    if key.is_weak() { Err("is a weak key".to_owned()) } else { Ok(key) }
}

/// A fresh key for `aerie command keygen`.
pub fn generate_key() -> SigningKey {
    SigningKey::from_bytes(&rand::random())
}

/// How a public key is written in the configuration.
pub fn public_key_text(key: &SigningKey) -> String {
    URL_SAFE_NO_PAD.encode(key.verifying_key().to_bytes())
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Done,
    Failed,
    Refused,
    Expired,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Expired => "expired",
        }
    }
}

/// The one terminal reply to a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reply {
    /// Absent when what came was no genuine envelope: then nothing is said about any id.
    pub id: Option<String>,
    pub status: Status,
    /// Why not, when it is not `done`.
    pub reason: Option<String>,
    /// What the command gives back.
    #[serde(default)]
    pub data: serde_json::Value,
}

/// Where an answer is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplyTo {
    pub topic: Option<String>,
    pub correlation_data: Option<Vec<u8>>,
}

/// A command that a crash ended; its reply still has to be sent.
#[derive(Debug, Clone)]
pub struct Interrupted {
    pub reply: Reply,
    pub reply_to: ReplyTo,
    pub by_mqtt: bool,
}

/// One knock at the door.
#[derive(Debug, Clone)]
pub enum Submission {
    Signed {
        /// Below the station's prefix: `command/patrol.start`, `verdict`, `request`.
        topic: String,
        token: Vec<u8>,
        reply_to: ReplyTo,
    },
    /// From a caller that was authorised where it came in.
    Local {
        operator: String,
        /// `page`, `cli`.
        origin: String,
        name: String,
        args: serde_json::Value,
        /// For callers that repeat themselves; a fresh one when absent.
        id: Option<String>,
        deadline: Option<Timestamp>,
    },
}

/// How the executor ended a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Done(serde_json::Value),
    Refused(String),
    /// By the gates of a flight.
    Gated(String),
    Failed(String),
}

/// A command for the executor. What is in it can be read; acting on it takes [`Execute::begin`].
pub struct Execute {
    envelope: Envelope,
    scope: Scope,
    door: Arc<Inner>,
    ended: oneshot::Sender<Ended>,
}

/// A command that is being carried out. Dropped without [`Running::finish`], it has failed.
pub struct Running {
    pub envelope: Envelope,
    /// On what its author may use it.
    pub scope: Scope,
    ended: oneshot::Sender<Ended>,
}

enum Ended {
    With(Outcome),
    Expired,
}

impl Execute {
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The last look before acting: `None` means that it must not be acted on, because its deadline passed while it
    /// waited here or because it cannot be journalled. The reply is taken care of.
    pub async fn begin(self) -> Option<Running> {
        let now = (self.door.clock)();
        if now > self.envelope.deadline {
            // Nobody listens when the station is stopping.
            let _ = self.ended.send(Ended::Expired);
            return None;
        }
        let id = self.envelope.id.clone();
        let journalled = self.door.blocking(move |journal| journal.advance(&id, Stage::Running, now)).await;
        if let Err(error) = journalled {
            let _ = self.ended.send(Ended::With(Outcome::Failed(error)));
            return None;
        }
        Some(Running { envelope: self.envelope, scope: self.scope, ended: self.ended })
    }

    /// Ends it without acting.
    pub fn refuse(self, reason: impl Into<String>) {
        let _ = self.ended.send(Ended::With(Outcome::Refused(reason.into())));
    }
}

impl Running {
    pub fn finish(self, outcome: Outcome) {
        let _ = self.ended.send(Ended::With(outcome));
    }
}

/// What callers hold: cheap to clone.
#[derive(Clone)]
pub struct Door(Arc<Inner>);

/// A command in work.
struct InWork {
    name: String,
    args: serde_json::Value,
    reply: watch::Receiver<Option<Reply>>,
}

/// The right to carry a command out, for who came first, and a view of its reply.
type Claim = (Option<watch::Sender<Option<Reply>>>, watch::Receiver<Option<Reply>>);

type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

struct Inner {
    station: String,
    keys: Keyring,
    journal: Journal,
    /// The caller chooses the capacity; when full, commands wait at most until their deadline.
    executor: mpsc::Sender<Execute>,
    /// Commands in work: a second submission of an id waits here for the reply of the first.
    in_work: Mutex<HashMap<String, InWork>>,
    clock: Clock,
    /// Who was not let in.
    knocks: Mutex<Knocks>,
    /// How far that clock can be trusted; always, where nobody watches it.
    trust: Option<watch::Receiver<Trust>>,
}

impl Door {
    /// Opens the door and its journal, `commands.db` in `dir`. Commands that a crash interrupted have been closed;
    /// their replies are returned to be sent.
    pub fn open(
        dir: &Path,
        station: &str,
        config: &Config,
        executor: mpsc::Sender<Execute>,
        trust: watch::Receiver<Trust>,
    ) -> Result<(Self, Vec<Interrupted>), CommandError> {
        Self::open_with(dir, station, config, executor, Arc::new(Timestamp::now), Some(trust))
    }

    /// As [`Door::open`], with a clock.
    pub fn open_with(
        dir: &Path,
        station: &str,
        config: &Config,
        executor: mpsc::Sender<Execute>,
        clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
        trust: Option<watch::Receiver<Trust>>,
    ) -> Result<(Self, Vec<Interrupted>), CommandError> {
        let keys = config.keyring()?;
        let (journal, interrupted) = Journal::open(dir, clock())?;
        let (station, in_work) = (station.to_owned(), Mutex::new(HashMap::new()));
        let knocks = Mutex::default();
        let inner = Inner { station, keys, journal, executor, in_work, clock, knocks, trust };
        Ok((Self(Arc::new(inner)), interrupted))
    }

    /// Takes a command through the door and returns its terminal reply. The command lives on when the caller stops
    /// waiting.
    pub async fn submit(&self, submission: Submission) -> Reply {
        let (envelope, origin, reply_to) = match self.admit(submission) {
            Ok(admitted) => admitted,
            Err(refusal) => return refused(None, &refusal),
        };
        let id = envelope.id.clone();
        let (claimed, mut reply) = match self.claim(&envelope) {
            Ok(claimed) => claimed,
            Err(another) => return refused(Some(id), &Refusal::IdTaken(another)),
        };
        if let Some(publish) = claimed {
            let door = self.clone();
            tokio::spawn(async move {
                let id = envelope.id.clone();
                let reply = door.process(envelope, &origin, reply_to).await;
                // In this order: whoever comes in between finds either the reply here or the closed journal.
                publish.send_replace(Some(reply));
                door.lock_in_work().remove(&id);
            });
        }
        let answer = reply.wait_for(Option::is_some).await.ok().and_then(|reply| reply.clone());
        answer.unwrap_or_else(|| failed(&id, "the station is stopping".to_owned()))
    }

    /// The newest commands, newest first.
    pub async fn list(&self, limit: usize) -> Result<Vec<Entry>, CommandError> {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || inner.journal.list(limit)).await.unwrap_or_else(|_| Ok(Vec::new()))
    }

    fn admit(&self, submission: Submission) -> Result<(Admitted, String, ReplyTo), Refusal> {
        match submission {
            Submission::Signed { topic, token, reply_to } => {
                let opened =
                    envelope::open(&token, &self.0.keys).inspect_err(|r| self.turned_away(&topic, &token, r))?;
                let verdict = envelope::authorise(&opened, &self.0.station, &topic, &self.0.keys);
                if let Err(refusal @ (Refusal::WrongStation(_) | Refusal::WrongName { .. })) = verdict {
                    // Genuine, but not ours to answer for: replayed under another topic or at another station, it
                    // must not spend the id it has where it belongs.
                    self.turned_away(&topic, &token, &refusal);
                    return Err(refusal);
                }
                let Opened { kid, envelope } = opened;
                let scope = self.0.keys.get(&kid).map(|key| key.scope.clone()).unwrap_or_default();
                let refusal = verdict.err().or_else(|| self.distrusts(&envelope));
                Ok((Admitted { envelope, scope, refusal, signed: true }, format!("mqtt:{kid}"), reply_to))
            }
            Submission::Local { operator, origin, name, args, id, deadline } => {
                let now = (self.0.clock)();
                let envelope = Envelope {
                    id: id.unwrap_or_else(|| ulid::Ulid::generate().to_string()),
                    station: self.0.station.clone(),
                    name,
                    args,
                    issued_at: now,
                    deadline: deadline.unwrap_or_else(|| now.saturating_add(LOCAL_DEADLINE).unwrap_or(now)),
                    operator,
                };
                envelope::check_texts(&envelope)?;
                let scope = Scope::default();
                Ok((Admitted { envelope, scope, refusal: None, signed: false }, origin, ReplyTo::default()))
            }
        }
    }

    /// A mistake of somebody's, or an attempt: it has no place in the journal, so it gets a line in the log.
    fn turned_away(&self, topic: &str, token: &[u8], refusal: &Refusal) {
        let now = (self.0.clock)();
        let said = self.0.knocks.lock().unwrap_or_else(PoisonError::into_inner).said(now);
        let Some(left_out) = said else { return };
        let Claims { kid, name, id, operator } = Claims::of(token);
        let (topic, reason, bytes) = (shown(topic, SHOWN), shown(&refusal.to_string(), REASON), token.len());
        tracing::warn!(
            topic,
            bytes,
            kid,
            name,
            id,
            operator,
            reason,
            left_out,
            "a command was not let in; kid, name, id and operator are what it claims"
        );
    }

    /// What was signed elsewhere is as old as two clocks say, and one of them is ours.
    fn distrusts(&self, envelope: &Envelope) -> Option<Refusal> {
        if !envelope::flies(&envelope.name) {
            return None;
        }
        match latest(self.0.trust.as_ref()?) {
            Trust::Synced { .. } => None,
            Trust::Unsynced => Some(Refusal::Clock("nothing tells it the time".to_owned())),
            Trust::Off { seconds } => Some(Refusal::Clock(format!("{seconds:.0} s off the drone's satellite time"))),
            Trust::Stepped { seconds } => Some(Refusal::Clock(format!("it has just jumped by {seconds:.0} s"))),
        }
    }

    /// Whoever comes first with an id gets the right to carry it out; all get a view of the reply.
    /// An id under which another command is in work is an error: that one's name.
    fn claim(&self, envelope: &Envelope) -> Result<Claim, String> {
        let mut in_work = self.lock_in_work();
        if let Some(first) = in_work.get(&envelope.id) {
            let same = (&first.name, &first.args) == (&envelope.name, &envelope.args);
            return if same { Ok((None, first.reply.clone())) } else { Err(first.name.clone()) };
        }
        let (publish, reply) = watch::channel(None);
        let (name, args) = (envelope.name.clone(), envelope.args.clone());
        in_work.insert(envelope.id.clone(), InWork { name, args, reply: reply.clone() });
        Ok((Some(publish), reply))
    }

    fn lock_in_work(&self) -> std::sync::MutexGuard<'_, HashMap<String, InWork>> {
        // The map is whole between any two of its operations.
        self.0.in_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn process(&self, admitted: Admitted, origin: &str, reply_to: ReplyTo) -> Reply {
        let Admitted { envelope, scope, refusal, signed } = admitted;
        let (id, name, operator) = (envelope.id.clone(), shown(&envelope.name, SHOWN), envelope.operator.clone());
        let now = (self.0.clock)();
        let known = {
            let (envelope, origin) = (envelope.clone(), origin.to_owned());
            self.0.blocking(move |journal| journal.receive(&envelope, &origin, &reply_to, now)).await
        };
        match known {
            // Before the deadline is looked at: the reply that was given does not turn into "expired" later.
            Ok(Known::Closed(reply)) => return reply,
            Ok(Known::Another(before)) => return refused(Some(id), &Refusal::IdTaken(before)),
            Ok(Known::Open) => return failed(&id, "already in work".to_owned()),
            // What cannot be remembered is not done.
            Err(error) => return failed(&id, error),
            Ok(Known::New) => {}
        }
        let reply = match refusal.map_or_else(|| self.in_time(&envelope, signed, now), Err) {
            Err(refusal) => refused(Some(id.clone()), &refusal),
            Ok(()) => self.execute(envelope, scope, now).await,
        };
        let (status, reason) = (reply.status.name(), reply.reason.as_deref().map(|reason| shown(reason, REASON)));
        match reply.status {
            Status::Done => tracing::info!(id, name, origin, operator, status, "a command has ended"),
            _ => tracing::warn!(id, name, origin, operator, status, reason, "a command has ended"),
        }
        let ended_at = (self.0.clock)();
        let closing = reply.clone();
        match self.0.blocking(move |journal| journal.close(&id, &closing, ended_at)).await {
            Ok(stored) => stored,
            Err(error) => {
                tracing::error!(%error, "a reply could not be journalled; after a restart it will read as interrupted");
                reply
            }
        }
    }

    fn in_time(&self, envelope: &Envelope, signed: bool, now: Timestamp) -> Result<(), Refusal> {
        // What is said at the station itself is issued as it comes in: nothing of before a loss is among it.
        let forgotten = self.0.journal.floor().filter(|floor| signed && envelope.issued_at <= *floor);
        if let Some(until) = forgotten {
            return Err(Refusal::Forgotten { issued_at: envelope.issued_at, until });
        }
        envelope::in_time(envelope, now)
    }

    async fn execute(&self, envelope: Envelope, scope: Scope, now: Timestamp) -> Reply {
        let (id, deadline) = (envelope.id.clone(), envelope.deadline);
        let expired = || refused(Some(id.clone()), &Refusal::Expired(deadline));
        let accepted = {
            let id = id.clone();
            self.0.blocking(move |journal| journal.advance(&id, Stage::Accepted, now)).await
        };
        if let Err(error) = accepted {
            return failed(&id, error);
        }
        let left = std::time::Duration::try_from(deadline.duration_since(now)).unwrap_or_default();
        let (ended_tx, ended) = oneshot::channel();
        let execute = Execute { envelope, scope, door: Arc::clone(&self.0), ended: ended_tx };
        match tokio::time::timeout(left, self.0.executor.send(execute)).await {
            Err(_) => return expired(),
            Ok(Err(_)) => return failed(&id, "the station takes no commands now".to_owned()),
            Ok(Ok(())) => {}
        }
        match ended.await {
            Ok(Ended::Expired) => expired(),
            Ok(Ended::With(Outcome::Done(data))) => Reply { id: Some(id), status: Status::Done, reason: None, data },
            Ok(Ended::With(Outcome::Refused(reason))) => {
                Reply { id: Some(id), status: Status::Refused, reason: Some(reason), data: serde_json::Value::Null }
            }
            Ok(Ended::With(Outcome::Gated(reason))) => {
                let data = serde_json::json!({"by": "gates"});
                Reply { id: Some(id), status: Status::Refused, reason: Some(reason), data }
            }
            Ok(Ended::With(Outcome::Failed(reason))) => failed(&id, reason),
            Err(_) => failed(&id, "given up without a result".to_owned()),
        }
    }
}

/// A genuine envelope, and why it is refused all the same.
struct Admitted {
    envelope: Envelope,
    scope: Scope,
    refusal: Option<Refusal>,
    /// Elsewhere, so at a time that somebody else says.
    signed: bool,
}

impl std::ops::Deref for Admitted {
    type Target = Envelope;

    fn deref(&self) -> &Envelope {
        &self.envelope
    }
}

impl Inner {
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Journal) -> Result<T, CommandError> + Send + 'static,
    ) -> Result<T, String> {
        let inner = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&inner.journal)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                tracing::error!(%error, "the command journal does not work");
                Err(format!("the command journal does not work: {error}"))
            }
            Err(_) => Err("the station is stopping".to_owned()),
        }
    }
}

fn refused(id: Option<String>, refusal: &Refusal) -> Reply {
    let status = if matches!(refusal, Refusal::Expired(_)) { Status::Expired } else { Status::Refused };
    Reply { id, status, reason: Some(refusal.to_string()), data: serde_json::Value::Null }
}

fn failed(id: &str, reason: String) -> Reply {
    Reply { id: Some(id.to_owned()), status: Status::Failed, reason: Some(reason), data: serde_json::Value::Null }
}

/// Takes messages from upstream through the door and sends the replies, until `incoming` ends. What is no command
/// (`model/desired`) goes to `hints`.
pub async fn serve(
    door: Door,
    uplink: Arc<Uplink>,
    mut incoming: mpsc::Receiver<Incoming>,
    hints: mpsc::Sender<Incoming>,
) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(message) = incoming.recv().await {
        let is_command =
            message.topic_rest.starts_with("command/") || matches!(message.topic_rest.as_str(), "verdict" | "request");
        if !is_command {
            // A hint that finds no room is one of many and only says "look again".
            let _ = hints.try_send(message);
            continue;
        }
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let (door, uplink) = (door.clone(), Arc::clone(&uplink));
        tokio::spawn(async move {
            let reply_to = ReplyTo { topic: message.response_topic, correlation_data: message.correlation_data };
            let submission =
                Submission::Signed { topic: message.topic_rest, token: message.payload, reply_to: reply_to.clone() };
            let reply = door.submit(submission).await;
            uplink.reply(&reply, reply_to).await;
            drop(permit);
        });
    }
}

impl Uplink {
    /// Sends a reply where it was asked for, else to `reply/{id}`. One without either goes nowhere.
    pub async fn reply(&self, reply: &Reply, to: ReplyTo) {
        let own = super::prefix(&self.station);
        let replies = format!("{own}reply/");
        // Nobody can make the station speak on its own topics by asking for an answer there.
        let wanted = to.topic.filter(|topic| !topic.starts_with(&own) || topic.starts_with(&replies));
        let Some(topic) = wanted.or_else(|| reply.id.as_ref().map(|id| self.reply_topic(id))) else {
            return;
        };
        let payload = serde_json::to_vec(reply).unwrap_or_default();
        self.answer(Answer { topic, correlation_data: to.correlation_data, payload }).await;
    }
}
