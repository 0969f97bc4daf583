//! What happens on one connection: records are fetched ahead, published as far as window and budget allow, and settled
//! in the background, so that neither the disk waits for the network nor the network for the disk.
//!
//! A record is in exactly one place: with the outbox, `ready` (handed out, not published), `records_out` (published),
//! `settlements` (answered, not on disk yet). The outbox holds its stream back until it is settled.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use rumqttc::{AsyncClient, PublishNotice, PublishNoticeError, PublishOptions, PublishResult};
use tokio::time::{Instant, timeout};

use super::judge::{self, Verdict};
use super::link::Welcome;
use super::session::{FAREWELL, Task, properties};
use super::{Answer, shrink};
use crate::outbox::{Ask, NO_SUBSCRIBERS, OutboxError, Payload, Queued, Settlement, pictures};

/// Payload bytes on the wire at once. On a slow link this is how long a case event waits behind pictures.
const BYTES_IN_FLIGHT: u64 = 1 << 20;
/// Fetched ahead, in windows: a commit and a fetch take longer than a window on the wire.
const WINDOWS_AHEAD: usize = 4;
/// An MQTT packet beyond its payload: headers and properties, generously.
const PACKET_OVERHEAD: u64 = 256;
/// A broker that is connected and answers nothing for so long is asked anew.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);
/// A connection that broke so often over one record alone: the record has to wait.
const STRIKES: u32 = 3;
/// Where its waiting starts: minutes, not seconds.
const SUSPECT_ATTEMPTS: u32 = 6;

/// What was published and is not yet answered.
pub(super) enum Sent {
    Record { seq: i64, attempts: u32, bytes: u64, note: Option<String> },
    Answer(Answer),
    Status,
}

pub(super) type Answered = (Sent, Result<PublishResult, PublishNoticeError>, Timestamp);

/// What a batch of settlements adds to the counters once it is on disk.
#[derive(Default)]
pub(super) struct Tally {
    delivered: u64,
    unheard: u64,
    refused: u64,
}

/// What a connection waits for.
pub(super) enum Event {
    Answered(Box<Answered>),
    Fetched(Result<Vec<Queued>, OutboxError>),
    Settled(Tally, Result<(), OutboxError>),
    MayGoOn,
}

/// One connection's state.
pub(super) struct Session {
    pub(super) client: AsyncClient,
    pub(super) welcome: Welcome,
    pub(super) acknowledged: u64,
    sent: FuturesUnordered<BoxFuture<'static, Answered>>,
    fetching: Option<BoxFuture<'static, Result<Vec<Queued>, OutboxError>>>,
    ready: VecDeque<Queued>,
    /// The outbox had nothing more that may go, when it was last asked.
    dry: bool,
    settling: Option<BoxFuture<'static, (Tally, Result<(), OutboxError>)>>,
    settlements: Vec<Settlement>,
    /// Published and not answered: seq to attempts.
    records_out: HashMap<i64, u32>,
    /// Payload of what is published or ready.
    bytes_out: u64,
    answered_at: Instant,
    /// The budget is used up until then.
    held_until: Option<Instant>,
}

impl Session {
    pub(super) fn new(client: AsyncClient, welcome: Welcome) -> Self {
        Self {
            client,
            welcome,
            acknowledged: 0,
            sent: FuturesUnordered::new(),
            fetching: None,
            ready: VecDeque::new(),
            dry: false,
            settling: None,
            settlements: Vec::new(),
            records_out: HashMap::new(),
            bytes_out: 0,
            answered_at: Instant::now(),
            held_until: None,
        }
    }

    /// The next thing that happens; waits for ever when nothing is under way.
    pub(super) async fn event(&mut self) -> Event {
        async fn done<T>(under_way: &mut Option<BoxFuture<'static, T>>) -> T {
            match under_way {
                Some(future) => {
                    let value = future.await;
                    *under_way = None;
                    value
                }
                None => std::future::pending().await,
            }
        }
        async fn reached(until: Option<Instant>) {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            biased;
            (tally, result) = done(&mut self.settling) => Event::Settled(tally, result),
            fetched = done(&mut self.fetching) => Event::Fetched(fetched),
            Some(answered) = self.sent.next() => Event::Answered(Box::new(answered)),
            () = reached(self.held_until) => {
                self.held_until = None;
                Event::MayGoOn
            }
        }
    }

    /// Something may have come into the outbox, or may go now.
    pub(super) fn look_again(&mut self) {
        self.dry = false;
    }

    pub(super) fn is_answered(&self) -> Result<(), String> {
        if !self.sent.is_empty() && self.answered_at.elapsed() > ANSWER_LIMIT {
            return Err(format!("the broker has acknowledged nothing for {ANSWER_LIMIT:?}"));
        }
        Ok(())
    }

    pub(super) fn track_status(&mut self, notice: PublishNotice) {
        self.track(Sent::Status, notice);
    }

    pub(super) fn track_answer(&mut self, answer: Answer, notice: PublishNotice) {
        self.track(Sent::Answer(answer), notice);
    }

    fn track(&mut self, sent: Sent, notice: PublishNotice) {
        if self.sent.is_empty() {
            self.answered_at = Instant::now();
        }
        self.sent.push(notice.wait_async().map(|result| (sent, result, Timestamp::now())).boxed());
    }
}

impl Task {
    pub(super) fn take_up(&mut self, session: &mut Session, event: Event) -> Result<(), String> {
        match event {
            Event::Answered(answered) => {
                self.account(session, *answered);
                // All that is there already shares the next transaction.
                while let Some(Some(answered)) = session.sent.next().now_or_never() {
                    self.account(session, answered);
                }
                Ok(())
            }
            Event::Fetched(fetched) => {
                let fetched = fetched.map_err(|error| error.to_string())?;
                session.dry = fetched.is_empty();
                session.bytes_out += fetched.iter().map(|queued| queued.bytes).sum::<u64>();
                session.ready.extend(fetched);
                Ok(())
            }
            Event::Settled(tally, result) => {
                result.map_err(|error| error.to_string())?;
                self.count(&tally);
                Ok(())
            }
            Event::MayGoOn => Ok(()),
        }
    }

    fn count(&self, tally: &Tally) {
        let Tally { delivered, unheard, refused } = tally;
        self.state.send_modify(|state| {
            // Once, not for each: a station whose receiver is not there yet would say nothing else.
            if state.unheard == 0 && *unheard > 0 {
                tracing::warn!(
                    "the broker took records that nobody subscribes to; once the receiver does, the command outbox.resend brings them again"
                );
            }
            state.delivered += delivered;
            state.unheard += unheard;
            state.refused += refused;
            state.month_bytes = self.budget.account().1;
        });
    }

    /// Keeps everything moving: settlements to the disk, records to the wire, the next ones out of the outbox.
    pub(super) async fn pump(&mut self, session: &mut Session) -> Result<(), String> {
        let window = usize::from(self.config.in_flight.min(session.welcome.receive_max)).max(1);
        let window = if self.careful { 1 } else { window };
        while session.records_out.len() < window && !session.ready.is_empty() {
            if let Some(wait) = self.budget.wait(Instant::now()) {
                session.held_until = Some(Instant::now() + wait);
                break;
            }
            let Some(queued) = session.ready.pop_front() else { break };
            self.publish(session, queued).await?;
        }
        self.settle(session);
        self.fetch(session, window);
        Ok(())
    }

    /// Asks ahead, so that the wire never waits for the disk; no more than [`BYTES_IN_FLIGHT`], so that what comes in
    /// meanwhile and matters more does not wait long behind it.
    fn fetch(&self, session: &mut Session, window: usize) {
        let ahead = if self.careful { usize::from(session.records_out.is_empty()) } else { window * WINDOWS_AHEAD };
        let limit = ahead.saturating_sub(session.ready.len());
        let bytes = BYTES_IN_FLIGHT.saturating_sub(session.bytes_out);
        let idle = session.records_out.is_empty() && session.ready.is_empty();
        if session.fetching.is_some() || session.dry || limit * 2 < ahead || limit == 0 || (bytes == 0 && !idle) {
            return;
        }
        let last = self.budget.last_class(&self.month).min(*self.classes.end());
        let (outbox, classes) = (self.outbox.clone(), *self.classes.start()..=last);
        session.fetching = Some(async move { outbox.next_of(Ask { classes, limit, bytes }).await }.boxed());
    }

    /// Starts to settle what was answered; one transaction at a time.
    fn settle(&mut self, session: &mut Session) {
        if session.settling.is_some() || session.settlements.is_empty() {
            return;
        }
        let settlements = std::mem::take(&mut session.settlements);
        let tally = self.tally(&settlements);
        let outbox = self.outbox.clone();
        session.settling = Some(async move { (tally, outbox.settle(settlements).await) }.boxed());
    }

    fn tally(&mut self, settlements: &[Settlement]) -> Tally {
        let mut tally = Tally::default();
        for settlement in settlements {
            match settlement {
                Settlement::Delivered { seq, note, .. } => {
                    tally.delivered += 1;
                    tally.unheard += u64::from(note.as_deref() == Some(NO_SUBSCRIBERS));
                    self.strikes.remove(seq);
                }
                Settlement::Later { reason, .. } | Settlement::Aside { reason, .. } => {
                    tracing::warn!(%reason, "a record was not taken");
                    tally.refused += 1;
                }
            }
        }
        if tally.delivered > 0 {
            self.careful = false;
        }
        tally
    }

    /// Publishes one record, or settles at once that it cannot be.
    async fn publish(&mut self, session: &mut Session, queued: Queued) -> Result<(), String> {
        let Queued { seq, record, bytes, attempts } = queued;
        session.bytes_out = session.bytes_out.saturating_sub(bytes);
        let topic = format!("{}{}", self.prefix, record.topic);
        let beside = PACKET_OVERHEAD + (topic.len() + record.content_type.len()) as u64;
        let (mut payload, digest) = match record.payload {
            Payload::Bytes(bytes) => (bytes, None),
            Payload::File(digest) => match self.read_picture(&digest).await {
                Ok(picture) => (picture, Some(digest)),
                Err(NoPicture::Lost(reason)) => {
                    session.settlements.push(Settlement::Aside { seq, reason, packet_bytes: None });
                    return Ok(());
                }
                Err(NoPicture::Later(reason)) => {
                    session.settlements.push(judge::later(seq, attempts, reason, Timestamp::now()));
                    return Ok(());
                }
            },
        };
        let mut properties = properties(&record.content_type);
        let mut note = None;
        let packet_bytes = payload.len() as u64 + beside;
        if let Some(limit) = session.welcome.max_packet_bytes.filter(|limit| packet_bytes > *limit) {
            let small = match digest {
                Some(_) => shrunk(payload, limit.saturating_sub(beside)).await,
                None => None,
            };
            let Some(small) = small else {
                tracing::warn!(id = %record.id, packet_bytes, limit, "a record is larger than the broker allows");
                let reason = format!("{packet_bytes} bytes are more than the broker's limit of {limit}");
                session.settlements.push(Settlement::Aside { seq, reason, packet_bytes: Some(packet_bytes) });
                return Ok(());
            };
            let size = format!("{}x{}", small.width, small.height);
            note = Some(format!("scaled to {size} for the broker's limit of {limit} bytes"));
            // The topic names the original, which stays here.
            properties.user_properties.push(("aerie-scaled".to_owned(), size));
            payload = small.jpeg;
        }
        self.budget.spend(payload.len() as u64 + beside, &self.month);
        let options = PublishOptions::at_least_once().properties(properties);
        match session.client.try_publish_tracked(topic, payload, options) {
            Ok(notice) => {
                session.records_out.insert(seq, attempts);
                session.bytes_out += bytes;
                session.track(Sent::Record { seq, attempts, bytes, note }, notice);
                Ok(())
            }
            Err(rumqttc::ClientError::InvalidRequest(_)) => {
                let reason = format!("{:?} is not a topic", record.topic);
                session.settlements.push(Settlement::Aside { seq, reason, packet_bytes: None });
                Ok(())
            }
            // The channel is larger than the window, so this is a client whose connection is gone.
            Err(error) => Err(error.to_string()),
        }
    }

    async fn read_picture(&self, digest: &str) -> Result<Vec<u8>, NoPicture> {
        match tokio::fs::read(self.outbox.picture_path(digest)).await {
            Ok(bytes) if pictures::has_digest(&bytes, digest) => Ok(bytes),
            Ok(_) => Err(NoPicture::Lost(format!("its picture {digest} was damaged on the disk"))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(NoPicture::Lost(format!("its picture {digest} is gone from evidence/")))
            }
            Err(error) => Err(NoPicture::Later(format!("its picture {digest} cannot be read: {error}"))),
        }
    }

    fn account(&mut self, session: &mut Session, (sent, result, at): Answered) {
        if result.is_ok() {
            session.answered_at = Instant::now();
        }
        match sent {
            Sent::Status => {}
            Sent::Answer(answer) => match result {
                Err(PublishNoticeError::Recv | PublishNoticeError::SessionReset) => self.answers.push_front(answer),
                Err(error) => tracing::warn!(%error, "an answer was not taken"),
                Ok(_) => {}
            },
            Sent::Record { seq, attempts, bytes, note: ours } => match judge::judge(&result, seq, attempts, at) {
                Verdict::Settle(mut settlement) => {
                    session.records_out.remove(&seq);
                    session.bytes_out = session.bytes_out.saturating_sub(bytes);
                    if let Settlement::Delivered { note, .. } = &mut settlement {
                        session.acknowledged += 1;
                        *note = ours.or(note.take());
                    }
                    session.settlements.push(settlement);
                }
                // Stays among the records that were out when the connection broke.
                Verdict::Unknown => {}
            },
        }
    }

    /// Waits for all answers and their settlement.
    pub(super) async fn finish(&mut self, session: &mut Session) {
        session.ready.clear();
        loop {
            self.settle(session);
            if session.settling.is_none() && session.sent.is_empty() {
                return;
            }
            let event = session.event().await;
            if let Err(error) = self.take_up(session, event) {
                tracing::warn!(error, "acknowledged records could not be settled; they will be published again");
                return;
            }
            session.ready.clear();
        }
    }

    /// After the end of a connection: takes what was answered at the last moment. What the disk has begun is waited
    /// for, so that nothing of this connection settles anything of the next.
    pub(super) async fn drain(&mut self, session: &mut Session) {
        if timeout(FAREWELL, self.finish(session)).await.is_err()
            && let Some(settling) = session.settling.take()
        {
            let (tally, result) = settling.await;
            match result {
                Ok(()) => self.count(&tally),
                Err(error) => tracing::warn!(%error, "acknowledged records could not be settled"),
            }
        }
    }

    /// One record that makes a broker hang up must not keep all others from leaving.
    pub(super) async fn remember_breakage(&mut self, session: &mut Session) {
        if session.acknowledged > 0 || session.records_out.is_empty() {
            return;
        }
        if !self.careful {
            self.careful = true;
            return;
        }
        let mut suspects = Vec::new();
        for (&seq, &attempts) in &session.records_out {
            let strikes = self.strikes.entry(seq).or_default();
            *strikes += 1;
            if *strikes >= STRIKES {
                tracing::warn!(seq, "the connection breaks whenever this record is sent; it has to wait");
                let reason = "the connection broke each time it was sent".to_owned();
                suspects.push((seq, judge::later(seq, attempts.max(SUSPECT_ATTEMPTS), reason, Timestamp::now())));
            }
        }
        for (seq, settlement) in suspects {
            self.strikes.remove(&seq);
            if let Err(error) = self.outbox.settle(vec![settlement]).await {
                tracing::warn!(%error, "a record that breaks connections could not be postponed");
            }
        }
    }
}

enum NoPicture {
    Lost(String),
    Later(String),
}

/// Off the session's thread: decoding takes its time, and a picture that upsets the decoder upsets nobody else.
async fn shrunk(picture: Vec<u8>, limit: u64) -> Option<shrink::Shrunk> {
    tokio::task::spawn_blocking(move || shrink::fit(&picture, limit)).await.ok().flatten()
}
