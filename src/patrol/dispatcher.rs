//! Decides which sortie is next: by hand at once, by schedule when due; one in the air at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::adopt;
use super::config::Patrol;
use super::crew::Crew;
use super::flight::{self, Order, Reins, Told};
use super::gates::{self, Gate};
use super::requests::{Fate, Wanted};
use super::states::{Sortie, State, Trigger};
use crate::runtime::latest;
use crate::runtime::store::{StoreError, Table};
use crate::vehicle::LandedState;

/// Why no sortie was started.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StartRefused {
    #[error("there is no patrol {0:?}; `aerie patrol list` names those in the configuration")]
    UnknownPatrol(String),
    #[error("sortie {0} is under way; one flies at a time")]
    Busy(String),
    #[error("{reason}")]
    Gates { sortie: String, reason: String },
    #[error(
        "there is no interrupted sortie {sortie:?} of patrol {patrol:?}; `aerie patrol list` shows the last of each"
    )]
    NothingToContinue { patrol: String, sortie: String },
    #[error("the request could not be stored, so it is not taken: {0}")]
    NotStored(String),
    #[error("{MOST_WANTED} requests are waiting already; ask again when some were flown")]
    TooManyWanted,
    #[error("the dispatcher has stopped")]
    Gone,
}

/// Why an order to a flight was not carried out.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OrderRefused {
    #[error("no sortie is in the air")]
    NoFlight,
    #[error("sortie {sortie}: {reason}")]
    Flight { sortie: String, reason: String },
    #[error("the dispatcher has stopped")]
    Gone,
}

/// When a scheduled patrol flies.
#[derive(Debug, Clone, PartialEq)]
pub enum Turn {
    Next(Timestamp),
    /// It is due and cannot start yet; it is tried until its window ends.
    Waits {
        until: Timestamp,
        why: String,
    },
}

/// What callers hold.
#[derive(Clone)]
pub struct Dispatcher {
    requests: mpsc::Sender<Request>,
    current: watch::Receiver<Option<Sortie>>,
    patrols: Arc<Vec<Patrol>>,
    turns: watch::Receiver<BTreeMap<String, Turn>>,
    alive: watch::Receiver<Instant>,
    crew: Crew,
}

enum Request {
    Start {
        patrol: String,
        trigger: Trigger,
        operator: Option<String>,
        /// Fly the rest of this sortie; "last" is the newest of the patrol.
        continues: Option<String>,
        reply: oneshot::Sender<Result<String, StartRefused>>,
    },
    Cancel {
        reply: oneshot::Sender<Option<String>>,
    },
    Look {
        wanted: Box<Wanted>,
        reply: oneshot::Sender<Result<Fate, StartRefused>>,
    },
    Order {
        order: Order,
        by: String,
        reply: oneshot::Sender<Result<String, OrderRefused>>,
    },
}

impl Dispatcher {
    /// Starts a patrol now. Returns the sortie's id once its gates let it go.
    pub async fn start(
        &self,
        patrol: &str,
        trigger: Trigger,
        operator: Option<String>,
        continues: Option<String>,
    ) -> Result<String, StartRefused> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Start { patrol: patrol.to_owned(), trigger, operator, continues, reply };
        self.requests.send(request).await.map_err(|_| StartRefused::Gone)?;
        answer.await.map_err(|_| StartRefused::Gone)?
    }

    /// Wants a look at a place: flown now if the gates let it, else when they do, until its time is over.
    pub async fn look(&self, wanted: Wanted) -> Result<Fate, StartRefused> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Look { wanted: Box::new(wanted), reply };
        self.requests.send(request).await.map_err(|_| StartRefused::Gone)?;
        answer.await.map_err(|_| StartRefused::Gone)?
    }

    /// Calls the drone home, or keeps it down. Returns the sortie that was cancelled.
    pub async fn cancel(&self) -> Option<String> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Cancel { reply }).await.ok()?;
        answer.await.ok()?
    }

    /// Pauses, resumes or calls back the flight under way. Returns its sortie.
    pub async fn order(&self, order: Order, by: String) -> Result<String, OrderRefused> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Order { order, by, reply }).await.map_err(|_| OrderRefused::Gone)?;
        answer.await.map_err(|_| OrderRefused::Gone)?
    }

    /// The newest sortie, under way or ended.
    pub fn current(&self) -> watch::Receiver<Option<Sortie>> {
        self.current.clone()
    }

    pub fn patrols(&self) -> &[Patrol] {
        &self.patrols
    }

    /// Whether the dispatcher still turns: it looks round once a second.
    pub fn is_alive(&self) -> bool {
        latest(&self.alive).elapsed() < Duration::from_secs(15)
    }

    /// Whether its task has ended, never to turn again.
    pub fn is_gone(&self) -> bool {
        self.turns.has_changed().is_err()
    }

    pub fn turn(&self, patrol: &str) -> Option<Turn> {
        self.turns.borrow().get(patrol).cloned()
    }

    /// The station's gates as they stand now; what a single sortie needs besides is judged when it starts.
    pub fn gates(&self) -> Vec<Gate> {
        self.crew.gates()
    }
}

pub struct Calendar {
    pub zone: TimeZone,
    pub holidays: Vec<Date>,
}

/// Starts the dispatcher; first it takes over what a crash left under way.
pub async fn spawn(
    crew: Crew,
    current: watch::Receiver<Option<Sortie>>,
    patrols: Vec<Patrol>,
    calendar: Calendar,
    cancel: CancellationToken,
) -> Result<Dispatcher, StoreError> {
    // People and schedules ask a few times an hour; who finds it full waits.
    let (requests, inbox) = mpsc::channel(8);
    let patrols = Arc::new(patrols);
    let mut due = BTreeMap::new();
    for patrol in patrols.iter().filter(|p| p.config.schedule.is_some()) {
        let handled: Option<Timestamp> = crew.store.get(Table::Due, &patrol.config.id).await?;
        due.insert(patrol.config.id.clone(), handled.unwrap_or_else(Timestamp::now));
    }
    let wanted: Vec<Wanted> = crew.store.beginning(Table::Requests, "").await?;
    let mut unfinished = crew.store.newest::<Sortie>(Table::Sorties, 20).await?;
    // What was flown last is still the last sortie after a restart.
    crew.current.send_replace(unfinished.first().cloned());
    unfinished.retain(|sortie| !sortie.state.is_terminal());
    let (turns_out, turns) = watch::channel(BTreeMap::new());
    let (alive, heard_alive) = watch::channel(Instant::now());
    let task = Task {
        crew: crew.clone(),
        patrols: Arc::clone(&patrols),
        calendar,
        handled: due,
        waiting: BTreeMap::new(),
        wanted: wanted.into_iter().map(|wanted| (wanted, "the station has just started".to_owned())).collect(),
        tried: Instant::now(),
        flying: None,
        stray_since: None,
        fallen: 0,
        alive,
        turns_out,
        cancel: cancel.clone(),
    };
    tokio::spawn(async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = task.run(inbox, unfinished) => {}
        }
    });
    Ok(Dispatcher { requests, current, patrols, turns, alive: heard_alive, crew })
}

struct Flying {
    sortie: String,
    cancel: CancellationToken,
    orders: mpsc::Sender<Told>,
    task: tokio::task::JoinHandle<Sortie>,
}

/// Flights whose task failed are taken up again so often; then something is wrong that trying does not mend.
const MOST_FALLS: u32 = 5;

/// Requests that wait at once.
const MOST_WANTED: usize = 100;

/// A drone that is in the air for so long without a sortie is taken over.
const STRAY: Duration = Duration::from_secs(5);

/// A scheduled patrol that could not start yet.
struct Waiting {
    why: String,
    /// When the gates last turned it down; none while only its turn has not come.
    refused: Option<Instant>,
}

/// How often a scheduled patrol that the gates turned down is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(15);

struct Task {
    crew: Crew,
    patrols: Arc<Vec<Patrol>>,
    calendar: Calendar,
    /// Until when each patrol's schedule has been dealt with.
    handled: BTreeMap<String, Timestamp>,
    /// Due and waiting inside its window.
    waiting: BTreeMap<String, Waiting>,
    /// Looks that somebody wants, oldest first, with why each was not flown yet.
    wanted: Vec<(Wanted, String)>,
    tried: Instant,
    flying: Option<Flying>,
    /// In the air without a sortie since.
    stray_since: Option<Instant>,
    /// How many flights' tasks have failed.
    fallen: u32,
    alive: watch::Sender<Instant>,
    turns_out: watch::Sender<BTreeMap<String, Turn>>,
    cancel: CancellationToken,
}

impl Task {
    /// `unfinished`: the newest first.
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>, mut unfinished: Vec<Sortie>) {
        for older in unfinished.iter_mut().skip(1) {
            flight::give_up(&self.crew, older, "another sortie was flown after it").await;
        }
        if let Some(newest) = unfinished.into_iter().next() {
            self.adopt(newest);
        }
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                request = inbox.recv() => match request {
                    None => return,
                    Some(Request::Start { patrol, trigger, operator, continues, reply }) => {
                        let outcome = self.start(&patrol, trigger, operator, continues).await;
                        // Who asked may have gone; the sortie flies all the same.
                        let _ = reply.send(outcome);
                    }
                    Some(Request::Cancel { reply }) => {
                        self.reap().await;
                        let cancelled = self.flying.as_ref().map(|flying| {
                            flying.cancel.cancel();
                            flying.sortie.clone()
                        });
                        let _ = reply.send(cancelled);
                    }
                    Some(Request::Look { wanted, reply }) => {
                        let fate = self.want(*wanted).await;
                        let _ = reply.send(fate);
                    }
                    Some(Request::Order { order, by, reply }) => self.pass_on(order, by, reply).await,
                },
                _ = tick.tick() => {
                    self.alive.send_replace(Instant::now());
                    self.look_for_a_stray().await;
                    self.look_at_the_clock().await;
                    self.look_at_requests().await;
                }
            }
        }
    }

    fn adopt(&mut self, sortie: Sortie) {
        let patrol = self.patrols.iter().find(|p| p.config.id == sortie.patrol).cloned();
        let (id, cancel) = (sortie.id.clone(), CancellationToken::new());
        let (orders, inbox) = mpsc::channel(4);
        let reins = Reins { cancel: cancel.clone(), orders: inbox };
        let task = tokio::spawn(adopt::adopt(self.crew.clone(), sortie, patrol, reins));
        self.flying = Some(Flying { sortie: id, cancel, orders, task });
    }

    /// A drone in the air that no sortie knows of: somebody flies it by hand, or its record is lost. It is followed to
    /// the ground like any other, and gets its dock.
    async fn look_for_a_stray(&mut self) {
        self.reap().await;
        let telemetry = latest(&self.crew.vehicle.telemetry());
        let aloft = telemetry.linked
            && telemetry.armed == Some(true)
            && matches!(telemetry.landed, LandedState::InAir | LandedState::TakingOff | LandedState::Landing);
        if self.flying.is_some() || !aloft {
            self.stray_since = None;
            return;
        }
        let since = *self.stray_since.get_or_insert_with(Instant::now);
        if since.elapsed() < STRAY {
            return;
        }
        self.stray_since = None;
        let id = Ulid::generate().to_string();
        tracing::warn!(sortie = id, "a drone is in the air without a sortie; following it");
        self.adopt(Sortie::new(id, "", "", Trigger::Found, None, Timestamp::now()));
    }

    /// The flight answers in its own time; the dispatcher does not wait for it.
    async fn pass_on(&mut self, order: Order, by: String, reply: oneshot::Sender<Result<String, OrderRefused>>) {
        self.reap().await;
        let in_the_air = latest(&self.crew.current_sortie()).is_some_and(|s| s.state.is_flying());
        let Some(flying) = self.flying.as_ref().filter(|_| in_the_air) else {
            let _ = reply.send(Err(OrderRefused::NoFlight));
            return;
        };
        let (orders, sortie) = (flying.orders.clone(), flying.sortie.clone());
        tokio::spawn(async move {
            let (told, answer) = oneshot::channel();
            let refused = |reason: String| OrderRefused::Flight { sortie: sortie.clone(), reason };
            let gone = || refused("it has just ended".to_owned());
            let outcome = match orders.send(Told { order, by, reply: told }).await {
                Err(_) => Err(gone()),
                Ok(()) => match answer.await {
                    Err(_) => Err(gone()),
                    Ok(Err(reason)) => Err(refused(reason)),
                    Ok(Ok(())) => Ok(sortie.clone()),
                },
            };
            let _ = reply.send(outcome);
        });
    }

    /// The sortie whose rest is to be flown.
    async fn interrupted(&self, patrol: &str, wanted: &str) -> Result<Sortie, StartRefused> {
        let none = || StartRefused::NothingToContinue { patrol: patrol.to_owned(), sortie: wanted.to_owned() };
        let known = self.crew.store.newest::<Sortie>(Table::Sorties, 200).await.map_err(|_| none())?;
        known
            .into_iter()
            .filter(|s| s.patrol == patrol && s.state.is_terminal() && s.state != State::Done && s.covered.is_some())
            .find(|s| wanted == "last" || s.id == wanted)
            .ok_or_else(none)
    }

    async fn reap(&mut self) {
        let Some(flying) = self.flying.take_if(|f| f.task.is_finished()) else { return };
        let Err(error) = flying.task.await else { return };
        tracing::error!(%error, sortie = flying.sortie, "a sortie's task failed");
        // A fault of ours must not leave a drone without anybody who follows it, nor a record without an end.
        self.fallen += 1;
        match self.crew.store.get::<Sortie>(Table::Sorties, &flying.sortie).await {
            Ok(Some(sortie)) if sortie.state.is_terminal() => {}
            Ok(Some(sortie)) if self.fallen <= MOST_FALLS => self.adopt(sortie),
            // If its drone is in the air, it is found there.
            Ok(Some(mut sortie)) => flight::give_up(&self.crew, &mut sortie, "its task failed too often").await,
            _ => {}
        }
    }

    async fn start(
        &mut self,
        patrol: &str,
        trigger: Trigger,
        operator: Option<String>,
        continues: Option<String>,
    ) -> Result<String, StartRefused> {
        self.reap().await;
        let Some(patrol) = self.patrols.iter().find(|p| p.config.id == patrol).cloned() else {
            return Err(StartRefused::UnknownPatrol(patrol.to_owned()));
        };
        if let Some(flying) = &self.flying {
            return Err(StartRefused::Busy(flying.sortie.clone()));
        }
        let id = Ulid::generate().to_string();
        let mut sortie =
            Sortie::new(id.clone(), &patrol.config.id, &patrol.config.name, trigger, operator, Timestamp::now());
        if let Some(wanted) = continues {
            let before = self.interrupted(&patrol.config.id, &wanted).await?;
            sortie.covered = before.covered;
            // Its own route, which may itself have been a rest.
            sortie.route = before.route;
            sortie.continues = Some(before.id);
        }
        self.launch(sortie, patrol).await
    }

    async fn launch(&mut self, sortie: Sortie, patrol: Patrol) -> Result<String, StartRefused> {
        let id = sortie.id.clone();
        let (gated, verdict) = oneshot::channel();
        let cancel = CancellationToken::new();
        let (orders, inbox) = mpsc::channel(4);
        let reins = Reins { cancel: cancel.clone(), orders: inbox };
        let task = tokio::spawn(flight::fly(self.crew.clone(), sortie, patrol, gated, reins));
        let verdict = verdict.await;
        self.flying = Some(Flying { sortie: id.clone(), cancel, orders, task });
        match verdict {
            Ok(Ok(())) => Ok(id),
            Ok(Err(reason)) => Err(StartRefused::Gates { sortie: id, reason }),
            Err(_) => Err(StartRefused::Gates {
                sortie: id,
                reason: "the sortie could not be recorded; see the log".to_owned(),
            }),
        }
    }

    async fn want(&mut self, wanted: Wanted) -> Result<Fate, StartRefused> {
        if self.wanted.len() >= MOST_WANTED {
            return Err(StartRefused::TooManyWanted);
        }
        let stored = self.crew.store.put(Table::Requests, &wanted.id, &wanted).await;
        stored.map_err(|error| StartRefused::NotStored(error.to_string()))?;
        let (id, until) = (wanted.id.clone(), wanted.args.until);
        self.wanted.push((wanted, String::new()));
        let index = self.wanted.len() - 1;
        match self.try_request(index).await {
            Some(sortie) => Ok(Fate::Flying { sortie }),
            None => {
                let reason = self.wanted.iter().find(|(wanted, _)| wanted.id == id).map(|(_, why)| why.clone());
                Ok(Fate::Waiting { reason: reason.unwrap_or_default(), until })
            }
        }
    }

    /// Flies one request if that is possible now; else it keeps waiting, and remembers why.
    async fn try_request(&mut self, index: usize) -> Option<String> {
        self.reap().await;
        let (wanted, why) = self.wanted.get_mut(index)?;
        if let Some(flying) = &self.flying {
            *why = format!("sortie {} is under way", flying.sortie);
            return None;
        }
        // Looked at before there is a sortie: a request that waits for a day leaves no trail of refused ones.
        let patrol = wanted.patrol(&self.crew.requests, &self.crew.exclusions);
        let (gates, _) = self.crew.gates_for(&patrol, &self.crew.mission(&patrol));
        if let Some(closed) = gates::closed(&gates) {
            *why = closed;
            return None;
        }
        // Dealt with before it flies: a crash in between misses it, and never flies it twice.
        let id = wanted.id.clone();
        if !self.forget_request(&id).await {
            let (_, why) = self.wanted.get_mut(index)?;
            "it could not be stored that it flies now".clone_into(why);
            return None;
        }
        let (wanted, _) = self.wanted.remove(index);
        let sortie = request_sortie(&wanted, &patrol, Timestamp::now());
        match self.launch(sortie, patrol).await {
            Ok(sortie) => Some(sortie),
            Err(refused) => {
                // A gate closed at the last moment; the sortie's record says so.
                tracing::warn!(request = wanted.id, %refused, "a request was not flown after all");
                let _ = self.crew.store.put(Table::Requests, &wanted.id, &wanted).await;
                self.wanted.insert(index, (wanted, refused.to_string()));
                None
            }
        }
    }

    async fn forget_request(&self, id: &str) -> bool {
        let removed = self.crew.store.remove(Table::Requests, id).await;
        if let Err(error) = &removed {
            tracing::error!(%error, request = id, "a request that was dealt with could not be forgotten");
        }
        removed.is_ok()
    }

    async fn look_at_requests(&mut self) {
        let now = Timestamp::now();
        while let Some(index) = self.wanted.iter().position(|(wanted, _)| wanted.args.until < now) {
            let (wanted, why) = self.wanted.remove(index);
            self.forget_request(&wanted.id).await;
            let patrol = wanted.patrol(&self.crew.requests, &self.crew.exclusions);
            let sortie = request_sortie(&wanted, &patrol, now);
            self.record_missed(sortie, &format!("wanted until {}, not flown: {why}", wanted.args.until)).await;
        }
        if self.wanted.is_empty() || self.tried.elapsed() < TRY_AGAIN || self.cancel.is_cancelled() {
            return;
        }
        self.tried = Instant::now();
        for index in 0..self.wanted.len() {
            if self.try_request(index).await.is_some() {
                return;
            }
        }
    }

    async fn look_at_the_clock(&mut self) {
        self.reap().await;
        if self.cancel.is_cancelled() {
            return;
        }
        let now = Timestamp::now();
        let mut next = BTreeMap::new();
        for patrol in Arc::clone(&self.patrols).iter() {
            let Some(schedule) = &patrol.config.schedule else { continue };
            let id = &patrol.config.id;
            let handled = self.handled.get(id).copied().unwrap_or(now);
            let due = schedule.next_after(handled, &self.calendar.zone, &self.calendar.holidays);
            let Some(due) = due else { continue };
            if due > now {
                next.insert(id.clone(), Turn::Next(due));
                continue;
            }
            let window = Span::new().minutes(i64::from(schedule.window_min));
            let until = due.checked_add(window).unwrap_or(due);
            self.attempt(patrol, due, until, now).await;
            if let Some(Waiting { why, .. }) = self.waiting.get(id) {
                next.insert(id.clone(), Turn::Waits { until, why: why.clone() });
            }
        }
        self.turns_out.send_if_modified(|known| std::mem::replace(known, next.clone()) != next);
    }

    /// A patrol that is due: flies it, or keeps it waiting inside its window, or reports it as missed.
    async fn attempt(&mut self, patrol: &Patrol, due: Timestamp, until: Timestamp, now: Timestamp) {
        let id = patrol.config.id.clone();
        if now > until {
            let why = self.waiting.remove(&id).map(|waiting| waiting.why);
            let why = why.unwrap_or_else(|| "the station was not running".to_owned());
            self.deal_with(&id, due).await;
            self.missed(patrol, &format!("due at {due}, not flown within its window: {why}")).await;
            return;
        }
        let known = self.waiting.get(&id);
        if let Some(flying) = &self.flying {
            let (why, refused) = (format!("sortie {} was under way", flying.sortie), known.and_then(|w| w.refused));
            self.waiting.insert(id, Waiting { why, refused });
            return;
        }
        let refused_before = known.and_then(|waiting| waiting.refused);
        if refused_before.is_some_and(|at| at.elapsed() < TRY_AGAIN) {
            return;
        }
        let (gates, _) = self.crew.gates_for(patrol, &self.crew.mission(patrol));
        if let Some(why) = gates::closed(&gates) {
            // Said at once, and once; what stays shut until the window ends is then reported as missed.
            if refused_before.is_none() {
                tracing::warn!(patrol = id, why, "scheduled patrol refused; it is tried again until {until}");
                self.refused(patrol, gates, &why).await;
            }
            self.waiting.insert(id, Waiting { why, refused: Some(Instant::now()) });
            return;
        }
        // Dealt with before it flies: a crash in between misses one sortie, never flies one twice.
        self.deal_with(&id, due).await;
        self.waiting.remove(&id);
        match self.start(&id, Trigger::Schedule, None, None).await {
            Ok(sortie) => tracing::info!(patrol = id, sortie, "scheduled patrol started"),
            // The sortie's own record says which gate; it is stored, shown and sent like any other.
            Err(refused) => tracing::warn!(patrol = id, %refused, "scheduled patrol refused"),
        }
    }

    /// The record of a scheduled sortie that the gates turned down.
    async fn refused(&mut self, patrol: &Patrol, gates: Vec<Gate>, why: &str) {
        let now = Timestamp::now();
        let id = Ulid::generate().to_string();
        let mut sortie = Sortie::new(id, &patrol.config.id, &patrol.config.name, Trigger::Schedule, None, now);
        sortie.gates = gates;
        let recorded = async {
            self.crew.step(&mut sortie, State::Gating, "checking the gates").await?;
            self.crew.step(&mut sortie, State::Refused, why).await
        };
        if let Err(error) = recorded.await {
            tracing::error!(%error, "a refused patrol could not be recorded");
        }
    }

    async fn deal_with(&mut self, id: &str, due: Timestamp) {
        self.handled.insert(id.to_owned(), due);
        if let Err(error) = self.crew.store.put(Table::Due, id, &due).await {
            tracing::error!(%error, "the schedule's progress could not be stored");
        }
    }

    async fn missed(&mut self, patrol: &Patrol, reason: &str) {
        let now = Timestamp::now();
        let id = Ulid::generate().to_string();
        let sortie = Sortie::new(id, &patrol.config.id, &patrol.config.name, Trigger::Schedule, None, now);
        self.record_missed(sortie, reason).await;
    }

    async fn record_missed(&self, mut sortie: Sortie, reason: &str) {
        let now = Timestamp::now();
        if sortie.become_(State::Missed, reason, now).is_ok() {
            tracing::warn!(patrol = sortie.patrol, request = sortie.request, reason, "missed");
            if let Err(error) =
                flight::record(&self.crew.station, &mut sortie, &self.crew.store, &self.crew.outbox).await
            {
                tracing::error!(%error, "a missed patrol could not be recorded");
            }
        }
    }
}

fn request_sortie(wanted: &Wanted, patrol: &Patrol, now: Timestamp) -> Sortie {
    let (id, operator) = (Ulid::generate().to_string(), Some(wanted.operator.clone()));
    let mut sortie = Sortie::new(id, &patrol.config.id, &patrol.config.name, Trigger::Request, operator, now);
    sortie.request = Some(wanted.id.clone());
    sortie
}
