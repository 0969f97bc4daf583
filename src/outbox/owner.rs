//! The one thread that owns the database. Requests that wait together share one transaction, so one fsync:
//! under load the cost of durability is divided by the number of callers, and alone nobody waits for company.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::store::Store;
use super::write::Write;
use super::{Ask, Classes, Options, OutboxError, Queued, Record, Resend, Settlement, Stats, pictures};

/// Callers wait when this many requests are queued: acceptance slows down, nothing is dropped.
const QUEUE: usize = 256;
/// Requests in one transaction. Bounds how long the first waits for the last.
const GROUP: usize = 128;
/// How often retention and expiry are looked at, while there is work at all.
const PURGE_EVERY: Duration = Duration::from_secs(600);
/// The wall clock may run off by so much between two of these; after a larger step nothing is given up by its age.
const STEP: Duration = Duration::from_secs(60);
/// How often the free space is looked at, while there is work at all.
const LOOK_EVERY: Duration = Duration::from_secs(2);

pub(super) enum Request {
    Accept {
        records: Vec<Record>,
        reply: oneshot::Sender<Result<(), OutboxError>>,
    },
    Settle {
        settlements: Vec<Settlement>,
        reply: oneshot::Sender<Result<(), OutboxError>>,
    },
    Next {
        ask: Ask,
        now: Timestamp,
        reply: oneshot::Sender<Result<Vec<Queued>, OutboxError>>,
    },
    Resend {
        which: Resend,
        reply: oneshot::Sender<Result<u64, OutboxError>>,
    },
    Note {
        name: String,
        value: i64,
        reply: oneshot::Sender<Result<(), OutboxError>>,
    },
    /// Answered in its turn: proves that the thread turns and its last commit came back.
    Ping {
        reply: oneshot::Sender<()>,
    },
    MakeRoom {
        bytes: u64,
        reply: oneshot::Sender<()>,
    },
    Restart {
        classes: Classes,
        max_packet_bytes: Option<u64>,
        reply: oneshot::Sender<Result<(), OutboxError>>,
    },
}

/// Who waits for the end of a write.
enum Reply {
    Plain(oneshot::Sender<Result<(), OutboxError>>),
    Count(oneshot::Sender<Result<u64, OutboxError>>),
    Nobody,
}

impl Reply {
    /// A caller that went away has no use for the answer; the records are safe all the same.
    fn send(self, result: Result<u64, OutboxError>) {
        match self {
            Reply::Plain(reply) => drop(reply.send(result.map(|_| ()))),
            Reply::Count(reply) => drop(reply.send(result)),
            Reply::Nobody => {}
        }
    }
}

pub(super) fn spawn(
    dir: &Path,
    options: Options,
) -> Result<(mpsc::Sender<Request>, watch::Receiver<Stats>), OutboxError> {
    std::fs::create_dir_all(dir).map_err(OutboxError::files("create", dir))?;
    let lock = lock(dir)?;
    pictures::prepare(dir)?;
    let store = Store::open(dir, options)?;
    let (published, stats) = watch::channel(store.stats());
    let (requests, inbox) = mpsc::channel(QUEUE);
    std::thread::Builder::new()
        .name("outbox".to_owned())
        .spawn(move || {
            run(store, inbox, &published);
            drop(lock);
        })
        .map_err(OutboxError::files("start the thread for", dir))?;
    Ok((requests, stats))
}

/// The lock goes with the process, so a crash never leaves one behind.
fn lock(dir: &Path) -> Result<File, OutboxError> {
    let path = dir.join("outbox.lock");
    let file = File::create(&path).map_err(OutboxError::files("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OutboxError::InUse(dir.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(OutboxError::files("lock", &path)(source)),
    }
}

fn run(mut store: Store, mut inbox: mpsc::Receiver<Request>, published: &watch::Sender<Stats>) {
    let (mut purged, mut looked) = ((Instant::now(), Timestamp::now()), Instant::now());
    while let Some(first) = inbox.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP {
            let Ok(more) = inbox.try_recv() else { break };
            group.push(more);
        }
        let mut writes = Vec::new();
        let mut replies = Vec::new();
        let mut others = Vec::new();
        for request in group {
            let (write, reply) = match request {
                Request::Accept { records, reply } => (Write::Accept(records), Reply::Plain(reply)),
                Request::Settle { settlements, reply } => (Write::Settle(settlements), Reply::Plain(reply)),
                Request::Resend { which, reply } => (Write::Resend(which), Reply::Count(reply)),
                Request::Note { name, value, reply } => (Write::Note { name, value }, Reply::Plain(reply)),
                other => {
                    others.push(other);
                    continue;
                }
            };
            writes.push(write);
            replies.push(reply);
        }
        let now = Timestamp::now();
        if purged.0.elapsed() >= PURGE_EVERY {
            let (since, then) = std::mem::replace(&mut purged, (Instant::now(), now));
            // On a clock that was set meanwhile everything may look old.
            let went = Duration::try_from(now.duration_since(then)).unwrap_or_default();
            if went.abs_diff(since.elapsed()) < STEP {
                writes.push(Write::Purge);
                replies.push(Reply::Nobody);
            }
        }
        if looked.elapsed() >= LOOK_EVERY {
            looked = Instant::now();
            store.look_at_the_disk(now);
        }
        if !writes.is_empty() {
            let results = store.write(&writes, now);
            // Before the replies: who was told "accepted" finds it in the stats.
            published.send_replace(store.stats());
            replies.into_iter().zip(results).for_each(|(reply, result)| reply.send(result));
        }
        // After the commit: nothing is published that a power cut could make us forget.
        for request in others {
            match request {
                Request::Next { ask, now, reply } => {
                    // Handed to nobody, the records would be held until the next session.
                    if !reply.is_closed() {
                        let _ = reply.send(store.next(&ask, now));
                    }
                }
                Request::Ping { reply } => {
                    let _ = reply.send(());
                }
                Request::Restart { classes, max_packet_bytes, reply } => {
                    let result = store.restart(&classes, max_packet_bytes);
                    published.send_replace(store.stats());
                    let _ = reply.send(result);
                }
                Request::MakeRoom { bytes, reply } => {
                    store.make_room_for_picture(bytes, now);
                    published.send_replace(store.stats());
                    let _ = reply.send(());
                }
                Request::Accept { .. } | Request::Settle { .. } | Request::Resend { .. } | Request::Note { .. } => {}
            }
        }
    }
}
