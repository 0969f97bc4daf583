//! The one thread that owns the database. Requests that wait together share one transaction, so one fsync:
//! under load the cost of durability is divided by the number of callers, and alone nobody waits for company.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::store::{Store, Write};
use super::{Options, OutboxError, Queued, Record, Settlement, Stats, pictures};

/// Callers wait when this many requests are queued: acceptance slows down, nothing is dropped.
const QUEUE: usize = 256;
/// Requests in one transaction. Bounds how long the first waits for the last.
const GROUP: usize = 128;
/// How often the retention of settled records is looked at, while there is work at all.
const PURGE_EVERY: Duration = Duration::from_secs(600);

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
        limit: usize,
        bytes: u64,
        now: Timestamp,
        reply: oneshot::Sender<Result<Vec<Queued>, OutboxError>>,
    },
    /// Answered in its turn: proves that the thread turns and its last commit came back.
    Ping {
        reply: oneshot::Sender<()>,
    },
    Restart {
        max_packet_bytes: Option<u64>,
        reply: oneshot::Sender<Result<(), OutboxError>>,
    },
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
    let mut purged_at: Option<Instant> = None;
    while let Some(first) = inbox.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP {
            let Ok(more) = inbox.try_recv() else { break };
            group.push(more);
        }
        let mut writes = Vec::new();
        let mut replies = Vec::new();
        let mut reads = Vec::new();
        for request in group {
            match request {
                Request::Accept { records, reply } => {
                    writes.push(Write::Accept(records));
                    replies.push(Some(reply));
                }
                Request::Settle { settlements, reply } => {
                    writes.push(Write::Settle(settlements));
                    replies.push(Some(reply));
                }
                other => reads.push(other),
            }
        }
        if purged_at.is_none_or(|at| at.elapsed() >= PURGE_EVERY) {
            purged_at = Some(Instant::now());
            writes.push(Write::Purge);
            replies.push(None);
        }
        let changed = !writes.is_empty();
        if changed {
            let results = store.write(writes, Timestamp::now());
            // Before the replies: who was told "accepted" finds it in the stats.
            published.send_replace(store.stats());
            for (reply, result) in replies.into_iter().zip(results) {
                if let Some(reply) = reply {
                    // A caller that went away has no use for the answer; the records are safe all the same.
                    let _ = reply.send(result);
                }
            }
        }
        // After the commit: nothing is published that a power cut could make us forget.
        for request in reads {
            match request {
                Request::Next { limit, bytes, now, reply } => {
                    // Handed to nobody, the records would be held until the next session.
                    if !reply.is_closed() {
                        let _ = reply.send(store.next(limit, bytes, now));
                    }
                }
                Request::Ping { reply } => {
                    let _ = reply.send(());
                }
                Request::Restart { max_packet_bytes, reply } => {
                    let result = store.restart(max_packet_bytes);
                    published.send_replace(store.stats());
                    let _ = reply.send(result);
                }
                Request::Accept { .. } | Request::Settle { .. } => {}
            }
        }
    }
}
