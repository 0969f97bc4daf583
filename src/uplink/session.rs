//! Publishing over one connection after another.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use rumqttc::{
    AsyncClient, Publish, PublishNotice, PublishNoticeError, PublishOptions, PublishProperties, PublishResult, QoS,
    SubscribeFilter, SubscribeReasonCode,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::judge::{self, Verdict};
use super::link::{self, Welcome};
use super::{Answer, Config, Incoming, UplinkState, prefix};
use crate::outbox::{Outbox, Payload, Queued, Settlement};

/// Payload bytes on the wire at once. On a slow link this is how long a case event waits behind pictures.
const BYTES_IN_FLIGHT: u64 = 1 << 20;
/// Room beside the window for status, answers and telemetry.
const BESIDE_WINDOW: u16 = 16;
/// An MQTT packet beyond its payload: headers and properties, generously.
const PACKET_OVERHEAD: u64 = 256;

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// A session that lived so long was a good one: the next failure starts from a short wait again.
const GOOD_SESSION: Duration = Duration::from_secs(10);
/// A broker that is connected and answers nothing for so long is asked anew.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);
/// Status changes are gathered for so long; also how late a postponed record may be.
const TICK: Duration = Duration::from_secs(1);
/// For the last acknowledgements and the farewell.
const FAREWELL: Duration = Duration::from_secs(2);
/// A connection that broke so often over one record alone: the record has to wait.
const STRIKES: u32 = 3;
/// Where its waiting starts: minutes, not seconds.
const SUSPECT_ATTEMPTS: u32 = 6;

/// The ways in and out that last longer than a connection.
pub(super) struct Doors {
    pub incoming: mpsc::Sender<Incoming>,
    pub telemetry: mpsc::Receiver<(String, Vec<u8>)>,
    pub answers: mpsc::Receiver<Answer>,
}

pub(super) struct Task {
    config: Config,
    station: String,
    prefix: String,
    outbox: Outbox,
    status: watch::Receiver<serde_json::Value>,
    doors: Doors,
    state: watch::Sender<UplinkState>,
    cancel: CancellationToken,
    /// Answers not yet acknowledged. Bounded by `ANSWERS_KEPT`.
    answers: VecDeque<Answer>,
    /// Set when connections break before anything is acknowledged: then one record at a time, to find the culprit.
    careful: bool,
    /// How often a connection broke while this record was the only one out.
    strikes: HashMap<i64, u32>,
}

/// Older answers give way: the journal of commands still has them, and the asker can ask again under the same id.
const ANSWERS_KEPT: usize = 64;

/// What was published and is not yet answered.
enum Sent {
    Record { seq: i64, attempts: u32, bytes: u64 },
    Answer(Answer),
    Status,
}

type Answered = (Sent, Result<PublishResult, PublishNoticeError>, Timestamp);

/// How a connection ended.
enum End {
    Cancelled,
    Lost { why: String, good: bool },
}

impl Task {
    pub(super) fn new(
        config: Config,
        station: String,
        outbox: Outbox,
        status: watch::Receiver<serde_json::Value>,
        doors: Doors,
        state: watch::Sender<UplinkState>,
        cancel: CancellationToken,
    ) -> Self {
        let prefix = prefix(&station);
        Self {
            config,
            station,
            prefix,
            outbox,
            status,
            doors,
            state,
            cancel,
            answers: VecDeque::new(),
            careful: false,
            strikes: HashMap::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut backoff = FIRST_BACKOFF;
        let cancel = self.cancel.clone();
        while !self.cancel.is_cancelled() {
            let (why, good) = match self.connect().await {
                End::Cancelled => break,
                End::Lost { why, good } => (why, good),
            };
            if good {
                backoff = FIRST_BACKOFF;
            }
            tracing::warn!(%why, retry_in = ?backoff, "the uplink is down");
            self.state.send_modify(|state| {
                if state.connected {
                    state.connected = false;
                    state.since = Timestamp::now();
                }
                state.last_error = Some(why);
            });
            // A fleet that lost its broker must not come back all at once.
            let wait = backoff.mul_f64(0.5 + rand::random::<f64>() * 0.5);
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
            tokio::select! {
                () = cancel.cancelled() => break,
                () = self.wait_offline(wait) => {}
            }
        }
        self.state.send_modify(|state| {
            state.connected = false;
            state.since = Timestamp::now();
        });
    }

    /// Between connections answers are still taken, so that nobody waits for the broker with one in hand.
    async fn wait_offline(&mut self, wait: Duration) {
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                Some(answer) = self.doors.answers.recv() => self.keep(answer),
            }
        }
    }

    fn keep(&mut self, answer: Answer) {
        if self.answers.len() >= ANSWERS_KEPT {
            tracing::warn!("an answer to a command was dropped: too many wait for the broker");
            self.answers.pop_front();
        }
        self.answers.push_back(answer);
    }

    async fn connect(&mut self) -> End {
        let lost = |why: String| End::Lost { why, good: false };
        let window = self.config.in_flight.saturating_add(BESIDE_WINDOW);
        let options = match link::options(&self.config, &self.station, window) {
            Ok(options) => options,
            Err(error) => return lost(error.to_string()),
        };
        let (client, eventloop) = match link::open(options, usize::from(window) * 2) {
            Ok(opened) => opened,
            Err(why) => return lost(why),
        };
        let (welcome_tx, welcome) = oneshot::channel();
        let (inbox_tx, inbox) = mpsc::channel(usize::from(link::RECEIVE_MAXIMUM) * 2);
        let mut polling = AbortOnDropHandle::new(tokio::spawn(link::poll(eventloop, welcome_tx, inbox_tx)));
        let welcome = tokio::select! {
            () = self.cancel.cancelled() => return End::Cancelled,
            ended = &mut polling => return lost(ended.unwrap_or_else(|error| error.to_string())),
            welcome = welcome => match welcome {
                Ok(welcome) => welcome,
                Err(_) => return lost(polling.await.unwrap_or_else(|error| error.to_string())),
            },
        };
        let _forwarding = AbortOnDropHandle::new(tokio::spawn(forward(
            inbox,
            self.prefix.clone(),
            self.doors.incoming.clone(),
            client.clone(),
        )));
        if let Err(error) = self.outbox.restart_session(welcome.max_packet_bytes).await {
            return lost(error.to_string());
        }
        tracing::info!(session_present = welcome.session_present, "the uplink is up");
        self.state.send_modify(|state| {
            state.connected = true;
            state.since = Timestamp::now();
            state.last_error = None;
        });
        let mut session = Session {
            client,
            welcome,
            sent: JoinSet::new(),
            records_out: HashMap::new(),
            bytes_out: 0,
            acknowledged: 0,
            answered_at: Instant::now(),
        };
        let started = Instant::now();
        let end = self.serve(&mut session, &mut polling).await;
        match end {
            None => {
                self.farewell(&mut session, polling).await;
                End::Cancelled
            }
            Some(why) => {
                // Ends the library's half: every open publish resolves, and late acknowledgements still count.
                drop(polling);
                self.drain(&mut session).await;
                self.remember_breakage(&session).await;
                End::Lost { why, good: session.acknowledged > 0 || started.elapsed() >= GOOD_SESSION }
            }
        }
    }

    /// Publishes until cancelled (`None`) or until the connection is lost (why).
    async fn serve(&mut self, session: &mut Session, polling: &mut AbortOnDropHandle<String>) -> Option<String> {
        if let Err(why) = self.greet(session) {
            return Some(why);
        }
        let mut stats = self.outbox.stats();
        stats.mark_changed();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let cancel = self.cancel.clone();
        loop {
            let step = tokio::select! {
                biased;
                () = cancel.cancelled() => return None,
                ended = &mut *polling => return Some(ended.unwrap_or_else(|error| error.to_string())),
                Some(answered) = session.sent.join_next() => match self.settle(session, answered).await {
                    Ok(()) => self.fill(session).await,
                    failed => failed,
                },
                Some(answer) = self.doors.answers.recv() => {
                    self.keep(answer);
                    self.publish_answers(session);
                    Ok(())
                }
                changed = stats.changed() => match changed {
                    Ok(()) => self.fill(session).await,
                    Err(_) => Err("the outbox has stopped".to_owned()),
                },
                _ = tick.tick() => self.on_tick(session).await,
                Some((topic, payload)) = self.doors.telemetry.recv() => {
                    let topic = format!("{}{topic}", self.prefix);
                    // No room means that the link is slower than the telemetry: this one is dropped.
                    let _ = session.client.try_publish(topic, payload, PublishOptions::at_most_once());
                    Ok(())
                }
            };
            if let Err(why) = step {
                return Some(why);
            }
        }
    }

    /// What every connection starts with. Subscribing again is harmless and repairs a session that lost some.
    fn greet(&mut self, session: &mut Session) -> Result<(), String> {
        let filters = ["command/+", "verdict", "request", "model/desired"]
            .map(|rest| SubscribeFilter::new(format!("{}{rest}", self.prefix), QoS::AtLeastOnce));
        let notice = session.client.try_subscribe_many_tracked(filters).map_err(|error| error.to_string())?;
        let state = self.state.clone();
        tokio::spawn(async move {
            if let Ok(ack) = notice.wait_async().await
                && ack.return_codes.iter().any(|code| !matches!(code, SubscribeReasonCode::Success(_)))
            {
                tracing::error!(codes = ?ack.return_codes, "the broker refuses our subscriptions: no commands can arrive");
                state.send_modify(|state| {
                    state.last_error = Some("the broker refuses our subscriptions; check its access rules".to_owned());
                });
            }
        });
        self.publish_status(session);
        self.publish_answers(session);
        Ok(())
    }

    async fn on_tick(&mut self, session: &mut Session) -> Result<(), String> {
        if !session.sent.is_empty() && session.answered_at.elapsed() > ANSWER_LIMIT {
            return Err(format!("the broker has acknowledged nothing for {ANSWER_LIMIT:?}"));
        }
        if self.status.has_changed().unwrap_or(false) {
            self.publish_status(session);
        }
        self.publish_answers(session);
        self.fill(session).await
    }

    fn publish_status(&mut self, session: &mut Session) {
        let status = with_state("online", &self.status.borrow_and_update());
        self.send_status(session, &status);
    }

    fn send_status(&self, session: &mut Session, status: &serde_json::Value) {
        let topic = format!("{}status", self.prefix);
        let options = PublishOptions::at_least_once().retained().properties(properties("application/json"));
        match session.client.try_publish_tracked(topic, status.to_string(), options) {
            Ok(notice) => session.track(Sent::Status, notice),
            Err(error) => tracing::warn!(%error, "the status could not be published"),
        }
    }

    fn publish_answers(&mut self, session: &mut Session) {
        while let Some(answer) = self.answers.pop_front() {
            let mut properties = properties("application/json");
            properties.correlation_data = answer.correlation_data.clone().map(Into::into);
            let options = PublishOptions::at_least_once().properties(properties);
            match session.client.try_publish_tracked(answer.topic.as_str(), answer.payload.clone(), options) {
                Ok(notice) => session.track(Sent::Answer(answer), notice),
                Err(rumqttc::ClientError::RequestChannelFull(_)) => {
                    self.answers.push_front(answer);
                    return;
                }
                // The topic came from the asker and is not one.
                Err(error) => {
                    tracing::warn!(%error, topic = %answer.topic, "an answer cannot be published")
                }
            }
        }
    }

    /// Publishes from the outbox as far as the window allows.
    async fn fill(&mut self, session: &mut Session) -> Result<(), String> {
        let window = if self.careful { 1 } else { usize::from(self.config.in_flight) };
        loop {
            let room = window.saturating_sub(session.records_out.len());
            let bytes = BYTES_IN_FLIGHT.saturating_sub(session.bytes_out);
            if room == 0 || (bytes == 0 && session.bytes_out > 0) {
                return Ok(());
            }
            let next = self.outbox.next(room, bytes).await.map_err(|error| error.to_string())?;
            if next.is_empty() {
                return Ok(());
            }
            let mut impossible = Vec::new();
            for queued in next {
                if let Some(settlement) = self.publish(session, queued).await? {
                    impossible.push(settlement);
                }
            }
            if impossible.is_empty() {
                return Ok(());
            }
            // Room was left: go on with the rest.
            self.outbox.settle(impossible).await.map_err(|error| error.to_string())?;
        }
    }

    /// Publishes one record, or says why it cannot be.
    async fn publish(&self, session: &mut Session, queued: Queued) -> Result<Option<Settlement>, String> {
        let Queued { seq, record, bytes, attempts } = queued;
        let topic = format!("{}{}", self.prefix, record.topic);
        let packet_bytes = bytes + PACKET_OVERHEAD + (topic.len() + record.content_type.len()) as u64;
        if let Some(limit) = session.welcome.max_packet_bytes.filter(|limit| packet_bytes > *limit) {
            tracing::warn!(id = %record.id, packet_bytes, limit, "a record is larger than the broker allows");
            let reason = format!("{packet_bytes} bytes are more than the broker's limit of {limit}");
            return Ok(Some(Settlement::Aside { seq, reason, packet_bytes: Some(packet_bytes) }));
        }
        let payload = match record.payload {
            Payload::Bytes(bytes) => bytes,
            Payload::File(digest) => match tokio::fs::read(self.outbox.picture_path(&digest)).await {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    let reason = format!("its picture {digest} is gone from evidence/");
                    return Ok(Some(Settlement::Aside { seq, reason, packet_bytes: None }));
                }
                Err(error) => {
                    let reason = format!("its picture {digest} cannot be read: {error}");
                    return Ok(Some(judge::later(seq, attempts, reason, Timestamp::now())));
                }
            },
        };
        let options = PublishOptions::at_least_once().properties(properties(&record.content_type));
        match session.client.try_publish_tracked(topic, payload, options) {
            Ok(notice) => {
                session.records_out.insert(seq, attempts);
                session.bytes_out += bytes;
                session.track(Sent::Record { seq, attempts, bytes }, notice);
                Ok(None)
            }
            Err(rumqttc::ClientError::InvalidRequest(_)) => {
                let reason = format!("{:?} is not a topic", record.topic);
                Ok(Some(Settlement::Aside { seq, reason, packet_bytes: None }))
            }
            // The channel is larger than the window, so this is a client whose connection is gone.
            Err(error) => Err(error.to_string()),
        }
    }

    /// Settles what was answered: the one given and all others that are ready, in one transaction.
    async fn settle(
        &mut self,
        session: &mut Session,
        first: Result<Answered, tokio::task::JoinError>,
    ) -> Result<(), String> {
        let mut settlements = Vec::new();
        let mut next = Some(first);
        while let Some(answered) = next {
            if let Ok(answered) = answered {
                settlements.extend(self.account(session, answered));
            }
            next = session.sent.try_join_next();
        }
        if settlements.is_empty() {
            return Ok(());
        }
        let (mut delivered, mut unheard, mut refused) = (0, 0, 0);
        for settlement in &settlements {
            match settlement {
                Settlement::Delivered { seq, note, .. } => {
                    delivered += 1;
                    unheard += u64::from(note.is_some());
                    self.strikes.remove(seq);
                }
                Settlement::Later { reason, .. } | Settlement::Aside { reason, .. } => {
                    tracing::warn!(%reason, "the broker refused a record");
                    refused += 1;
                }
            }
        }
        if delivered > 0 {
            self.careful = false;
        }
        session.acknowledged += delivered;
        self.outbox.settle(settlements).await.map_err(|error| error.to_string())?;
        self.state.send_modify(|state| {
            state.delivered += delivered;
            state.unheard += unheard;
            state.refused += refused;
        });
        Ok(())
    }

    fn account(&mut self, session: &mut Session, (sent, result, at): Answered) -> Option<Settlement> {
        if result.is_ok() {
            session.answered_at = Instant::now();
        }
        match sent {
            Sent::Status => None,
            Sent::Answer(answer) => {
                match result {
                    Err(PublishNoticeError::Recv | PublishNoticeError::SessionReset) => self.answers.push_front(answer),
                    Err(error) => tracing::warn!(%error, "an answer was not taken"),
                    Ok(_) => {}
                }
                None
            }
            Sent::Record { seq, attempts, bytes } => match judge::judge(&result, seq, attempts, at) {
                Verdict::Settle(settlement) => {
                    session.records_out.remove(&seq);
                    session.bytes_out = session.bytes_out.saturating_sub(bytes);
                    Some(settlement)
                }
                // Stays among the records that were out when the connection broke.
                Verdict::Unknown => None,
            },
        }
    }

    /// After the end of a connection: takes what was answered at the last moment.
    async fn drain(&mut self, session: &mut Session) {
        while let Ok(Some(answered)) = timeout(FAREWELL, session.sent.join_next()).await {
            if let Err(error) = self.settle(session, answered).await {
                tracing::warn!(%error, "acknowledged records could not be settled; they will be published again");
                return;
            }
        }
    }

    /// One record that makes a broker hang up must not keep all others from leaving.
    async fn remember_breakage(&mut self, session: &Session) {
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

    /// An orderly end: the last acknowledgements, the retained farewell, DISCONNECT.
    async fn farewell(&mut self, session: &mut Session, mut polling: AbortOnDropHandle<String>) {
        let mut status = with_state("offline", &self.status.borrow());
        if let Some(status) = status.as_object_mut() {
            status.insert("reason".to_owned(), "shutdown".into());
        }
        self.send_status(session, &status);
        let rest = async {
            while let Some(answered) = session.sent.join_next().await {
                if self.settle(session, answered).await.is_err() {
                    break;
                }
            }
        };
        let _ = timeout(FAREWELL, rest).await;
        if session.client.try_disconnect().is_ok() {
            let _ = timeout(FAREWELL, &mut polling).await;
        }
        drop(polling);
        self.drain(session).await;
    }
}

/// One connection's state.
struct Session {
    client: AsyncClient,
    welcome: Welcome,
    sent: JoinSet<Answered>,
    /// Published and not settled: seq to attempts.
    records_out: HashMap<i64, u32>,
    bytes_out: u64,
    acknowledged: u64,
    answered_at: Instant,
}

impl Session {
    fn track(&mut self, sent: Sent, notice: PublishNotice) {
        if self.sent.is_empty() {
            self.answered_at = Instant::now();
        }
        self.sent.spawn(async move {
            let result = notice.wait_async().await;
            (sent, result, Timestamp::now())
        });
    }
}

/// Hands messages on in their order, and acknowledges each once it has been taken.
async fn forward(
    mut inbox: mpsc::Receiver<Publish>,
    prefix: String,
    incoming: mpsc::Sender<Incoming>,
    client: AsyncClient,
) {
    while let Some(publish) = inbox.recv().await {
        let topic = String::from_utf8_lossy(&publish.topic);
        if let Some(rest) = topic.strip_prefix(&prefix) {
            let properties = publish.properties.clone().unwrap_or_default();
            let message = Incoming {
                topic_rest: rest.to_owned(),
                payload: publish.payload.to_vec(),
                response_topic: properties.response_topic,
                correlation_data: properties.correlation_data.map(|data| data.to_vec()),
            };
            // Full: we wait here, acknowledge nothing, and the broker holds the rest.
            if incoming.send(message).await.is_err() {
                return;
            }
        }
        // A connection that has ended meanwhile: the broker sends it again, and the door knows its id.
        let _ = client.ack(&publish).await;
    }
}

fn properties(content_type: &str) -> PublishProperties {
    PublishProperties { content_type: Some(content_type.to_owned()), ..PublishProperties::default() }
}

/// The station's status with its state first.
fn with_state(state: &str, status: &serde_json::Value) -> serde_json::Value {
    let mut merged = serde_json::Map::new();
    merged.insert("state".to_owned(), state.into());
    if let Some(fields) = status.as_object() {
        merged
            .extend(fields.iter().filter(|(key, _)| *key != "state").map(|(key, value)| (key.clone(), value.clone())));
    }
    merged.into()
}
