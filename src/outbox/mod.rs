//! The only truth about what still has to reach upstream.
//!
//! Layout of the state directory:
//! ```text
//! outbox.db             SQLite, WAL, synchronous=FULL: one row a record
//! outbox.lock           held while a station runs, so that two never share a queue
//! outbox.reserve        space kept for the moment when the disk is full: even dropping records writes
//! evidence/<sha256>.jpg pictures; the database holds digests only
//! ```
//!
//! Invariants kept here:
//! - [`Outbox::accept`] returns only after the records are on disk, all of them or none;
//! - the same id is accepted once, however often it is offered;
//! - a stream (same class, same key) is handed out strictly in the order of acceptance, one record at a time,
//!   so that a refused record can never be overtaken by its successor;
//! - a record leaves the queue only by [`Settlement`], and what is given up (evicted, expired, unreadable, impossible
//!   to publish) leaves a `loss` record in the same transaction;
//! - a broken database is moved aside and reported, at the start and while it is in use; it never stops a station;
//! - a full disk is answered by the policy, not by an error, as long as there is anything to drop.
//!
//! [`store`] holds the rows, [`write`] what a transaction does, [`evict`] the policy, [`owner`] is the one thread,
//! [`pictures`] the files, [`reserve`] the space kept back, [`loss`] the reports.

mod config;
mod evict;
mod loss;
mod owner;
pub(crate) mod pictures;
mod reader;
mod reserve;
mod store;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use crate::runtime::sqlite;
pub use crate::runtime::sqlite::DatabaseError;
pub use config::{Config, ExpiryDays};
use owner::Request;
pub use reader::{CheckReport, Latency, Listed, Reader, would_open};
pub use reserve::give_away as give_reserve_away;
pub(crate) use store::STEPS;

/// Why the outbox did not do as asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OutboxError {
    #[error("cannot {doing} {}; check the disk, its free space and the directory's owner", path.display())]
    Files {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: Arc<std::io::Error>,
    },
    #[error(transparent)]
    Database(#[from] sqlite::DatabaseError),
    #[error("{} is damaged ({why}); at its next start the station moves it aside, keeps what can be read of it and reports the rest as lost", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("{} is in use by another aerie; stop that one or give this one its own state directory", .0.display())]
    InUse(PathBuf),
    #[error("record {id} names picture {digest}, which is not in evidence/; store the picture first")]
    PictureMissing { id: String, digest: String },
    #[error("record id {0:?} is refused: an id needs 1 to 200 characters")]
    BadId(String),
    #[error("the outbox thread has stopped; the station must be restarted")]
    Gone,
}

impl OutboxError {
    fn files(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Files { doing, path, source: Arc::new(source) }
    }

    fn database(doing: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        let error = sqlite::failed(doing, path);
        move |source| Self::Database(error(source))
    }
}

/// What a record is, in the order in which classes are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Loss,
    Case,
    Sortie,
    Evidence,
    Telemetry,
}

impl Class {
    const ALL: [Self; 5] = [Self::Loss, Self::Case, Self::Sortie, Self::Evidence, Self::Telemetry];

    /// The number on disk: it is both the identity and the priority, so it never changes meaning.
    fn code(self) -> i64 {
        match self {
            Self::Loss => 0,
            Self::Case => 1,
            Self::Sortie => 2,
            Self::Evidence => 3,
            Self::Telemetry => 4,
        }
    }

    fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.code() == code)
    }
}

/// Classes from one to another, in the order of publishing.
pub type Classes = std::ops::RangeInclusive<Class>;

pub const ALL: Classes = Class::Loss..=Class::Telemetry;

/// What a receiver has room for.
#[derive(Debug, Clone)]
pub struct Ask {
    pub classes: Classes,
    pub limit: usize,
    pub bytes: u64,
}

/// What is published: in the database, or a picture beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    Bytes(Vec<u8>),
    /// SHA-256 in hex of a picture that [`Outbox::store_picture`] took.
    File(String),
}

/// One thing to tell upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Stable over every repeat: the CloudEvents `id` where the payload is one.
    pub id: String,
    pub class: Class,
    /// What must stay in order, for example the case's id. Empty means: no order wanted.
    pub key: String,
    /// Below the station's prefix, for example `case/01J…`.
    pub topic: String,
    pub content_type: String,
    pub payload: Payload,
    /// The shutter, for the latency that matters.
    pub captured_at: Option<Timestamp>,
}

/// A record on its way out, held until it is settled or released.
#[derive(Debug, Clone)]
pub struct Queued {
    pub seq: i64,
    pub record: Record,
    pub bytes: u64,
    /// How often a broker has refused it so far.
    pub attempts: u32,
}

/// What is noted of a delivered record that the broker took and gave to nobody: a success by the standard, and worth knowing.
pub const NO_SUBSCRIBERS: &str = "no subscribers";

/// How a handed-out record ended.
#[derive(Debug, Clone)]
pub enum Settlement {
    /// The broker took it. `note` is what it said beside success, if anything.
    Delivered { seq: i64, acked_at: Timestamp, note: Option<String> },
    /// Refused for now: its stream waits, everything else goes on.
    Later { seq: i64, reason: String, retry_at: Timestamp },
    /// Cannot be published as things are: set aside and reported; its stream goes on with a visible gap.
    /// `packet_bytes` is the packet it would take, when size was the reason: a broker with a higher limit gets it.
    Aside { seq: i64, reason: String, packet_bytes: Option<u64> },
}

/// Which delivered records are to be sent again, under the ids they have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resend {
    /// All that were acknowledged since.
    Since(Timestamp),
    /// All of one stream, for example a case, and these besides.
    Stream { key: String, ids: Vec<String> },
}

/// Limits of an outbox.
#[derive(Debug, Clone)]
pub struct Options {
    /// CloudEvents `source` of the loss records: `aerie/v1/{station}`.
    pub source: String,
    /// Payload bytes, waiting and kept, before the policy evicts.
    pub budget_bytes: u64,
    /// Records, waiting and kept, before the policy evicts.
    pub budget_records: u64,
    /// Space on the disk that is left to others: below it, pictures go. 0 looks at nothing.
    pub min_free_bytes: u64,
    /// How long delivered records are kept, so that they can be sent again.
    pub retention: SignedDuration,
    /// Waiting longer than this, a record is given up. Classes that are not named wait for ever.
    pub expiry: Vec<(Class, SignedDuration)>,
    /// The size of `outbox.reserve`; 0 keeps none.
    pub reserve_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            source: "aerie".to_owned(),
            budget_bytes: 4 << 30,
            budget_records: 1_000_000,
            min_free_bytes: 0,
            retention: SignedDuration::from_hours(30 * 24),
            expiry: Vec::new(),
            reserve_bytes: 0,
        }
    }
}

/// What the outbox holds, published after every commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Waiting for upstream.
    pub queued: u64,
    /// Acknowledged and still in the journal.
    pub delivered: u64,
    /// Set aside because they could not be published.
    pub aside: u64,
    /// Dropped by policy and still in the journal.
    pub evicted: u64,
    /// Payload bytes on disk.
    pub bytes: u64,
    pub oldest_queued_at: Option<Timestamp>,
    /// Databases found broken by this process.
    pub quarantined: u64,
    /// The last write found no room and nothing to drop: what is offered now is refused.
    pub disk_full: bool,
}

/// What callers hold: cheap to clone. The thread ends when the last clone is dropped.
#[derive(Clone)]
pub struct Outbox {
    dir: Arc<Path>,
    requests: mpsc::Sender<Request>,
    stats: watch::Receiver<Stats>,
}

impl Outbox {
    /// Opens the outbox in `dir`, creating it when absent.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OutboxError> {
        Self::open_with(dir, Options::default())
    }

    /// As [`Outbox::open`], with limits. Blocks for as long as SQLite takes to look the database over.
    pub fn open_with(dir: impl AsRef<Path>, options: Options) -> Result<Self, OutboxError> {
        let dir: Arc<Path> = Arc::from(dir.as_ref());
        let (requests, stats) = owner::spawn(&dir, options)?;
        Ok(Self { dir, requests, stats })
    }

    /// Takes all the records or none; returns once they are on disk. An id that was taken before is passed over.
    pub async fn accept(&self, records: Vec<Record>) -> Result<(), OutboxError> {
        self.ask(|reply| Request::Accept { records, reply }).await?
    }

    /// Stores a picture under its SHA-256 (hex, returned), durably. The same picture again costs nothing.
    ///
    /// On a blocking thread of its own: a slow disk must not hold up the acceptance of small records.
    /// A full disk is made room on once, by the policy.
    pub async fn store_picture(&self, jpeg: &[u8]) -> Result<String, OutboxError> {
        let jpeg: Arc<[u8]> = Arc::from(jpeg);
        let store = || {
            let (dir, jpeg) = (Arc::clone(&self.dir), Arc::clone(&jpeg));
            tokio::task::spawn_blocking(move || pictures::store(&dir, &jpeg))
        };
        match store().await.map_err(|_| OutboxError::Gone)? {
            Err(OutboxError::Files { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull => {
                self.make_room(jpeg.len() as u64).await?;
                store().await.map_err(|_| OutboxError::Gone)?
            }
            stored => stored,
        }
    }

    /// Gives up pictures by policy until so many bytes are free again; for others that share the disk and find it full.
    pub async fn make_room(&self, bytes: u64) -> Result<(), OutboxError> {
        self.ask(|reply| Request::MakeRoom { bytes, reply }).await
    }

    /// Where a picture lies, whether it is there or not.
    pub fn picture_path(&self, digest: &str) -> PathBuf {
        pictures::path(&self.dir, digest)
    }

    /// Hands out up to `limit` records of at most `bytes` together (but always one, so that a large picture is
    /// never stuck): by class, small ones first, each stream in order with at most one record out at a time.
    pub async fn next(&self, limit: usize, bytes: u64) -> Result<Vec<Queued>, OutboxError> {
        self.next_of(Ask { classes: ALL, limit, bytes }).await
    }

    /// As [`Outbox::next`], of these classes alone: pictures may take another way than the rest.
    pub async fn next_of(&self, ask: Ask) -> Result<Vec<Queued>, OutboxError> {
        self.ask(|reply| Request::Next { ask, now: Timestamp::now(), reply }).await?
    }

    /// Settles records that [`Outbox::next`] handed out; returns once that is on disk.
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<(), OutboxError> {
        self.ask(|reply| Request::Settle { settlements, reply }).await?
    }

    /// A new session with a receiver begins: all that was handed out of these classes is in the queue again, and so
    /// is what an earlier one's packet limit kept from being published and this one's does not.
    pub async fn restart_session(&self, classes: Classes, max_packet_bytes: Option<u64>) -> Result<(), OutboxError> {
        self.ask(|reply| Request::Restart { classes, max_packet_bytes, reply }).await?
    }

    /// Puts delivered records back into the queue, each in its place of old. Returns how many.
    pub async fn resend(&self, which: Resend) -> Result<u64, OutboxError> {
        self.ask(|reply| Request::Resend { which, reply }).await?
    }

    /// What was noted under a name, for example the bytes sent in a month.
    pub async fn note(&self, name: &str) -> Result<Option<i64>, OutboxError> {
        let name = name.to_owned();
        self.read(move |reader| reader.note(&name)).await
    }

    /// Notes a number under a name; it outlives the process.
    pub async fn set_note(&self, name: &str, value: i64) -> Result<(), OutboxError> {
        self.ask(|reply| Request::Note { name: name.to_owned(), value, reply }).await?
    }

    /// Returns once the owner has worked off what was asked before.
    pub async fn ping(&self) -> Result<(), OutboxError> {
        self.ask(|reply| Request::Ping { reply }).await
    }

    /// What is held, after each commit.
    pub fn stats(&self) -> watch::Receiver<Stats> {
        self.stats.clone()
    }

    /// Shutter to acknowledgement, of all that was acknowledged since.
    pub async fn latencies(&self, since: Timestamp) -> Result<Vec<Latency>, OutboxError> {
        self.read(move |reader| reader.latencies(since)).await
    }

    /// The newest `limit` records, newest first.
    pub async fn list(&self, limit: usize) -> Result<Vec<Listed>, OutboxError> {
        self.read(move |reader| reader.list(limit)).await
    }

    /// Looks the database and the picture files over.
    pub async fn check(&self) -> Result<CheckReport, OutboxError> {
        self.read(|reader| reader.check()).await
    }

    /// Reads go over a connection of their own: WAL lets them run beside the owner's writes.
    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(Reader) -> Result<T, OutboxError> + Send + 'static,
    ) -> Result<T, OutboxError> {
        let dir = Arc::clone(&self.dir);
        tokio::task::spawn_blocking(move || query(Reader::open(&dir)?)).await.map_err(|_| OutboxError::Gone)?
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, OutboxError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| OutboxError::Gone)?;
        answer.await.map_err(|_| OutboxError::Gone)
    }
}
