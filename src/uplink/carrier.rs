//! Records out of the outbox over requests that each have an answer: pictures into an object store, everything to a
//! webhook. The outbox keeps the order of streams and what is owed; this asks, carries and settles.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{UplinkState, judge};
use crate::outbox::{Ask, Classes, Outbox, Payload, Queued, Record, Settlement, pictures};

/// Requests under way.
const AT_ONCE: usize = 4;
const BYTES_AT_ONCE: u64 = 4 << 20;
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// Also how late a postponed record may be.
const TICK: Duration = Duration::from_secs(1);

/// Why a record was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// This one, for now.
    Later(String),
    /// This one, for good.
    Never(String),
    /// Nobody is there, or nobody lets us in: all of them.
    Down(String),
}

/// A way to carry one record. Blocking; called on a thread that may block.
pub(super) trait Carry: Send + Sync + 'static {
    fn carry(&self, record: &Record, payload: &[u8], now: Timestamp) -> Result<(), Refused>;
}

/// What an HTTP answer means for a record.
pub(super) fn judge_status(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<(), Refused> {
    let status = answer.map_err(|error| Refused::Down(error.to_string()))?.status().as_u16();
    match status {
        200..=299 => Ok(()),
        // These speak of the record, not of the moment.
        400 | 409 | 413 | 415 | 422 => Err(Refused::Never(format!("it was refused with HTTP {status}"))),
        401 | 403 | 404 | 407 => {
            Err(Refused::Down(format!("nobody lets us in: HTTP {status}; check address and secret")))
        }
        _ => Err(Refused::Later(format!("HTTP {status}"))),
    }
}

pub(super) async fn run(
    outbox: Outbox,
    classes: Classes,
    carry: Arc<dyn Carry>,
    state: watch::Sender<UplinkState>,
    cancel: CancellationToken,
) {
    let mut backoff = FIRST_BACKOFF;
    let mut stats = outbox.stats();
    // Whoever carried them before is gone.
    let _ = outbox.restart_session(classes.clone(), None).await;
    while !cancel.is_cancelled() {
        let ask = Ask { classes: classes.clone(), limit: AT_ONCE, bytes: BYTES_AT_ONCE };
        let next = match outbox.next_of(ask).await {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%error, "nothing can be read from the outbox");
                Vec::new()
            }
        };
        if next.is_empty() {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = stats.changed() => {}
                () = tokio::time::sleep(TICK) => {}
            }
            continue;
        }
        let down = match carry_all(&outbox, next, &carry, &state).await {
            Ok(down) => down,
            Err(error) => Some(error.to_string()),
        };
        let Some(why) = down else {
            backoff = FIRST_BACKOFF;
            continue;
        };
        tracing::warn!(why, "records cannot be carried");
        state.send_modify(|state| {
            state.connected = false;
            state.last_error = Some(why);
        });
        // What was not settled is handed out again.
        let _ = outbox.restart_session(classes.clone(), None).await;
        let wait = backoff.mul_f64(0.5 + rand::random::<f64>() * 0.5);
        backoff = (backoff * 2).min(LONGEST_BACKOFF);
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Carries these and settles what became of them. Why there is nobody to carry to, if so.
async fn carry_all(
    outbox: &Outbox,
    records: Vec<Queued>,
    carry: &Arc<dyn Carry>,
    state: &watch::Sender<UplinkState>,
) -> Result<Option<String>, crate::outbox::OutboxError> {
    let mut under_way = JoinSet::new();
    for queued in records {
        let (outbox, carry) = (outbox.clone(), Arc::clone(carry));
        under_way.spawn_blocking(move || {
            let outcome = payload_of(&outbox, &queued.record)
                .and_then(|payload| carry.carry(&queued.record, &payload, Timestamp::now()));
            (queued, outcome)
        });
    }
    let (mut settlements, mut down, mut delivered, mut refused) = (Vec::new(), None, 0, 0);
    while let Some(Ok((queued, outcome))) = under_way.join_next().await {
        let Queued { seq, attempts, .. } = queued;
        match outcome {
            Ok(()) => {
                delivered += 1;
                settlements.push(Settlement::Delivered { seq, acked_at: Timestamp::now(), note: None });
            }
            Err(Refused::Later(reason)) => {
                refused += 1;
                settlements.push(judge::later(seq, attempts, reason, Timestamp::now()));
            }
            Err(Refused::Never(reason)) => {
                refused += 1;
                settlements.push(Settlement::Aside { seq, reason, packet_bytes: None });
            }
            Err(Refused::Down(why)) => down = Some(why),
        }
    }
    outbox.settle(settlements).await?;
    state.send_modify(|state| {
        state.delivered += delivered;
        state.refused += refused;
        if delivered > 0 && down.is_none() && !state.connected {
            state.connected = true;
            state.since = Timestamp::now();
            state.last_error = None;
        }
    });
    Ok(down)
}

fn payload_of(outbox: &Outbox, record: &Record) -> Result<Vec<u8>, Refused> {
    match &record.payload {
        Payload::Bytes(bytes) => Ok(bytes.clone()),
        Payload::File(digest) => match std::fs::read(outbox.picture_path(digest)) {
            Ok(bytes) if pictures::has_digest(&bytes, digest) => Ok(bytes),
            Ok(_) => Err(Refused::Never(format!("its picture {digest} was damaged on the disk"))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Refused::Never(format!("its picture {digest} is gone from evidence/")))
            }
            Err(error) => Err(Refused::Later(format!("its picture {digest} cannot be read: {error}"))),
        },
    }
}
