//! One connection after another: connecting, what every connection starts and ends with, and waiting in between.
//! What happens on one is in [`super::flow`].

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use rumqttc::{AsyncClient, Publish, PublishOptions, PublishProperties, QoS, SubscribeFilter, SubscribeReasonCode};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::budget::{self, Budget};
use super::flow::Session;
use super::link::{self, Ended};
use super::{Answer, Config, Incoming, UplinkState};
use crate::outbox::{Classes, Outbox};

/// Room beside the window for status, answers and telemetry.
const BESIDE_WINDOW: u16 = 16;
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// A session that lived so long was a good one: the next failure starts from a short wait again.
const GOOD_SESSION: Duration = Duration::from_secs(10);
/// Status changes are gathered for so long; also how late a postponed record, or a renewed certificate, may be.
const TICK: Duration = Duration::from_secs(1);
/// How many of these between two savings of the month's account: what a crash may forget of it.
const SAVE_TICKS: u64 = 10;
/// For the last acknowledgements and the farewell.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// The ways in and out that last longer than a connection.
pub(super) struct Doors {
    pub incoming: mpsc::Sender<Incoming>,
    pub telemetry: mpsc::Receiver<(String, Vec<u8>)>,
    pub answers: mpsc::Receiver<Answer>,
}

pub(super) struct Task {
    pub(super) config: Config,
    pub(super) station: String,
    pub(super) prefix: String,
    pub(super) outbox: Outbox,
    /// What goes this way; pictures may have another.
    pub(super) classes: Classes,
    pub(super) status: watch::Receiver<serde_json::Value>,
    pub(super) doors: Doors,
    pub(super) state: watch::Sender<UplinkState>,
    pub(super) cancel: CancellationToken,
    /// Answers not yet acknowledged. Bounded by `ANSWERS_KEPT`.
    pub(super) answers: VecDeque<Answer>,
    /// Set when connections break before anything is acknowledged: then one record at a time, to find the culprit.
    pub(super) careful: bool,
    /// How often a connection broke while this record was the only one out.
    pub(super) strikes: HashMap<i64, u32>,
    pub(super) budget: Budget,
    /// Of the budget's account, looked at once a tick.
    pub(super) month: String,
}

/// Older answers give way: the journal of commands still has them, and the asker can ask again under the same id.
const ANSWERS_KEPT: usize = 64;

/// How a connection ended.
enum End {
    Cancelled,
    /// By ourselves, because the files with certificates or secrets have changed.
    Renewed,
    Lost {
        ended: Ended,
        good: bool,
    },
}

/// Why serving a connection stopped.
enum Stop {
    Cancelled,
    Renewed,
    Lost(Ended),
}

impl Task {
    pub(super) async fn run(mut self) {
        let mut backoff = FIRST_BACKOFF;
        let cancel = self.cancel.clone();
        self.open_account().await;
        while !self.cancel.is_cancelled() {
            let stamp = link::stamp(&self.config);
            let (ended, good) = match self.connect(&stamp).await {
                End::Cancelled => break,
                End::Renewed => {
                    tracing::info!("certificates or secrets have changed: connecting anew");
                    continue;
                }
                End::Lost { ended, good } => (ended, good),
            };
            if good {
                backoff = FIRST_BACKOFF;
            }
            if ended.refused {
                backoff = LONGEST_BACKOFF;
            }
            // A fleet that lost its broker must not come back all at once.
            let wait = backoff.mul_f64(0.5 + rand::random::<f64>() * 0.5);
            let Ended { why, refused, stranger } = ended;
            tracing::warn!(%why, refused, retry_in = ?wait, "the uplink is down");
            self.state.send_modify(|state| {
                if state.connected {
                    state.connected = false;
                    state.since = Timestamp::now();
                }
                state.last_error = Some(why);
                state.stranger = stranger;
            });
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
            tokio::select! {
                () = cancel.cancelled() => break,
                () = self.wait_offline(wait, &stamp) => {}
            }
        }
        self.state.send_modify(|state| {
            state.connected = false;
            state.since = Timestamp::now();
        });
        self.save_account().await;
    }

    /// Between connections answers are still taken, so that nobody waits for the broker with one in hand. Renewed
    /// certificates or secrets end the wait: they may be what was wrong.
    async fn wait_offline(&mut self, wait: Duration, stamp: &[Option<std::time::SystemTime>]) {
        let until = Instant::now() + wait;
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                _ = tick.tick() => if link::stamp(&self.config) != stamp { return },
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

    /// The month's account as an earlier process left it.
    async fn open_account(&mut self) {
        if !self.budget.is_metered() {
            return;
        }
        match self.outbox.note(&format!("sent/{}", self.month)).await {
            Ok(used) => {
                let used = used.and_then(|used| u64::try_from(used).ok()).unwrap_or(0);
                self.budget.spend(used, &self.month);
            }
            Err(error) => tracing::warn!(%error, "what was sent in this month so far is not known"),
        }
    }

    async fn save_account(&self) {
        if !self.budget.is_metered() {
            return;
        }
        let (month, used) = self.budget.account();
        let used = i64::try_from(used).unwrap_or(i64::MAX);
        if let Err(error) = self.outbox.set_note(&format!("sent/{month}"), used).await {
            tracing::warn!(%error, "what was sent in this month could not be noted");
        }
    }

    async fn connect(&mut self, stamp: &[Option<std::time::SystemTime>]) -> End {
        let lost = |ended: Ended| End::Lost { ended, good: false };
        let window = self.config.in_flight.saturating_add(BESIDE_WINDOW);
        let options = match link::options(&self.config, &self.station, window) {
            Ok(options) => options,
            Err(error) => return lost(error.to_string().into()),
        };
        let (client, eventloop) = match link::open(options, usize::from(window) * 2) {
            Ok(opened) => opened,
            Err(why) => return lost(why.into()),
        };
        let (welcome_tx, welcome) = oneshot::channel();
        let (inbox_tx, inbox) = mpsc::channel(usize::from(link::RECEIVE_MAXIMUM) * 2);
        let mut polling = AbortOnDropHandle::new(tokio::spawn(link::poll(eventloop, welcome_tx, inbox_tx)));
        let welcome = tokio::select! {
            () = self.cancel.cancelled() => return End::Cancelled,
            ended = &mut polling => return lost(ended.unwrap_or_else(|error| error.to_string().into())),
            welcome = welcome => match welcome {
                Ok(welcome) => welcome,
                Err(_) => return lost(polling.await.unwrap_or_else(|error| error.to_string().into())),
            },
        };
        let _forwarding = AbortOnDropHandle::new(tokio::spawn(forward(
            inbox,
            self.prefix.clone(),
            self.doors.incoming.clone(),
            client.clone(),
        )));
        if let Err(error) = self.outbox.restart_session(self.classes.clone(), welcome.max_packet_bytes).await {
            return lost(error.to_string().into());
        }
        tracing::info!(session_present = welcome.session_present, "the uplink is up");
        self.state.send_modify(|state| {
            state.connected = true;
            state.since = Timestamp::now();
            state.last_error = None;
        });
        let mut session = Session::new(client, welcome);
        let started = Instant::now();
        match self.serve(&mut session, &mut polling, stamp).await {
            Stop::Cancelled => {
                self.farewell(&mut session, polling).await;
                End::Cancelled
            }
            Stop::Renewed => {
                // Without a word about being offline: the last will is for crashes, and this is none.
                if session.client.try_disconnect().is_ok() {
                    let _ = timeout(FAREWELL, &mut polling).await;
                }
                drop(polling);
                self.drain(&mut session).await;
                End::Renewed
            }
            Stop::Lost(ended) => {
                // Ends the library's half: every open publish resolves, and late acknowledgements still count.
                drop(polling);
                self.drain(&mut session).await;
                self.remember_breakage(&mut session).await;
                End::Lost { ended, good: session.acknowledged > 0 || started.elapsed() >= GOOD_SESSION }
            }
        }
    }

    /// Publishes until there is a reason to stop.
    async fn serve(
        &mut self,
        session: &mut Session,
        polling: &mut AbortOnDropHandle<Ended>,
        stamp: &[Option<std::time::SystemTime>],
    ) -> Stop {
        if let Err(why) = self.greet(session) {
            return Stop::Lost(why.into());
        }
        let mut stats = self.outbox.stats();
        stats.mark_changed();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks: u64 = 0;
        let cancel = self.cancel.clone();
        loop {
            let step = tokio::select! {
                biased;
                () = cancel.cancelled() => return Stop::Cancelled,
                ended = &mut *polling => {
                    return Stop::Lost(ended.unwrap_or_else(|error| error.to_string().into()));
                }
                happened = session.event() => self.take_up(session, happened),
                Some(answer) = self.doors.answers.recv() => {
                    self.keep(answer);
                    self.publish_answers(session);
                    Ok(())
                }
                changed = stats.changed() => match changed {
                    Ok(()) => {
                        session.look_again();
                        Ok(())
                    }
                    Err(_) => Err("the outbox has stopped".to_owned()),
                },
                _ = tick.tick() => {
                    ticks += 1;
                    if ticks.is_multiple_of(SAVE_TICKS) {
                        self.save_account().await;
                    }
                    if link::stamp(&self.config) != stamp {
                        return Stop::Renewed;
                    }
                    self.on_tick(session)
                }
                Some((topic, payload)) = self.doors.telemetry.recv() => {
                    self.publish_telemetry(session, &topic, payload);
                    Ok(())
                }
            };
            let step = match step {
                Ok(()) => self.pump(session).await,
                failed => failed,
            };
            if let Err(why) = step {
                return Stop::Lost(why.into());
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

    fn on_tick(&mut self, session: &mut Session) -> Result<(), String> {
        session.is_answered()?;
        self.month = budget::month_of(Timestamp::now());
        session.look_again();
        if self.status.has_changed().unwrap_or(false) {
            self.publish_status(session);
        }
        self.publish_answers(session);
        Ok(())
    }

    fn publish_status(&mut self, session: &mut Session) {
        let status = with_state("online", &self.status.borrow_and_update());
        self.send_status(session, &status);
    }

    fn send_status(&mut self, session: &mut Session, status: &serde_json::Value) {
        let topic = format!("{}status", self.prefix);
        let mut options = PublishOptions::at_least_once().properties(properties("application/json"));
        if session.welcome.retains {
            options = options.retained();
        }
        let status = status.to_string();
        self.budget.spend(status.len() as u64, &self.month);
        match session.client.try_publish_tracked(topic, status, options) {
            Ok(notice) => session.track_status(notice),
            Err(error) => tracing::warn!(%error, "the status could not be published"),
        }
    }

    fn publish_answers(&mut self, session: &mut Session) {
        while let Some(answer) = self.answers.pop_front() {
            let mut properties = properties("application/json");
            properties.correlation_data = answer.correlation_data.clone().map(Into::into);
            let options = PublishOptions::at_least_once().properties(properties);
            match session.client.try_publish_tracked(answer.topic.as_str(), answer.payload.clone(), options) {
                Ok(notice) => {
                    self.budget.spend(answer.payload.len() as u64, &self.month);
                    session.track_answer(answer, notice);
                }
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

    fn publish_telemetry(&mut self, session: &Session, topic: &str, payload: Vec<u8>) {
        let metered = self.budget.last_class(&self.month) < crate::outbox::Class::Telemetry;
        if metered || self.budget.wait(Instant::now()).is_some() {
            return;
        }
        self.budget.spend(payload.len() as u64, &self.month);
        // No room means that the link is slower than the telemetry: this one is dropped.
        let topic = format!("{}{topic}", self.prefix);
        let _ = session.client.try_publish(topic, payload, PublishOptions::at_most_once());
    }

    /// An orderly end: the last acknowledgements, the retained farewell, DISCONNECT.
    async fn farewell(&mut self, session: &mut Session, mut polling: AbortOnDropHandle<Ended>) {
        let mut status = with_state("offline", &self.status.borrow());
        if let Some(status) = status.as_object_mut() {
            status.insert("reason".to_owned(), "shutdown".into());
        }
        self.send_status(session, &status);
        let _ = timeout(FAREWELL, self.finish(session)).await;
        if session.client.try_disconnect().is_ok() {
            let _ = timeout(FAREWELL, &mut polling).await;
        }
        drop(polling);
        self.drain(session).await;
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

pub(super) fn properties(content_type: &str) -> PublishProperties {
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
