//! The only truth about what still has to reach upstream.
//!
//! Layout of the state directory:
//! ```text
//! outbox.db             SQLite, WAL, synchronous=FULL: one row a record
//! outbox.lock           held while a station runs, so that two never share a queue
//! evidence/<sha256>.jpg pictures; the database holds digests only
//! ```
//!
//! Invariants kept here:
//! - [`Outbox::accept`] returns only after the records are on disk, all of them or none;
//! - the same id is accepted once, however often it is offered;
//! - a stream (same class, same key) is handed out strictly in the order of acceptance, one record at a time,
//!   so that a refused record can never be overtaken by its successor;
//! - a record leaves the queue only by [`Settlement`], and what is given up (evicted, unreadable, impossible to
//!   publish) leaves a `loss` record in the same transaction;
//! - a broken database is moved aside and reported; it never keeps a station from starting.
//!
//! [`store`] holds the rows, [`owner`] is the one thread that writes them, [`pictures`] the files, [`loss`] the reports.

mod loss;
mod owner;
mod pictures;
mod reader;
mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use crate::runtime::sqlite;
pub use crate::runtime::sqlite::DatabaseError;
use owner::Request;
pub use reader::{CheckReport, Latency, Listed, Reader};

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

/// Limits of an outbox.
#[derive(Debug, Clone)]
pub struct Options {
    /// CloudEvents `source` of the loss records: `aerie/v1/{station}`.
    pub source: String,
    /// Payload bytes, waiting and kept, before the policy evicts.
    pub budget_bytes: u64,
    /// How long delivered records are kept, so that they can be sent again.
    pub retention: SignedDuration,
}

impl Default for Options {
    fn default() -> Self {
        Self { source: "aerie".to_owned(), budget_bytes: 4 << 30, retention: SignedDuration::from_hours(30 * 24) }
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
    pub async fn store_picture(&self, jpeg: &[u8]) -> Result<String, OutboxError> {
        let (dir, jpeg) = (Arc::clone(&self.dir), jpeg.to_vec());
        tokio::task::spawn_blocking(move || pictures::store(&dir, &jpeg)).await.map_err(|_| OutboxError::Gone)?
    }

    /// Where a picture lies, whether it is there or not.
    pub fn picture_path(&self, digest: &str) -> PathBuf {
        pictures::path(&self.dir, digest)
    }

    /// Hands out up to `limit` records of at most `bytes` together (but always one, so that a large picture is
    /// never stuck): by class, small ones first, each stream in order with at most one record out at a time.
    pub async fn next(&self, limit: usize, bytes: u64) -> Result<Vec<Queued>, OutboxError> {
        self.ask(|reply| Request::Next { limit, bytes, now: Timestamp::now(), reply }).await?
    }

    /// Settles records that [`Outbox::next`] handed out; returns once that is on disk.
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<(), OutboxError> {
        self.ask(|reply| Request::Settle { settlements, reply }).await?
    }

    /// A new session with a broker begins: all that was handed out is in the queue again, and so is what an
    /// earlier broker's packet limit kept from being published and this one's does not.
    pub async fn restart_session(&self, max_packet_bytes: Option<u64>) -> Result<(), OutboxError> {
        self.ask(|reply| Request::Restart { max_packet_bytes, reply }).await?
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
