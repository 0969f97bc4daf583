//! Flies one sortie: the only place where the state machine meets the drone, the dock and the clock.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use super::config::Patrol;
use super::crew::Crew;
use super::gates;
use super::monitor::{Monitor, Rules, Seen};
use super::plan;
use super::states::{Sortie, State};
use crate::cases::keeper::{KeeperError, Picture};
use crate::outbox::{Class, Outbox, OutboxError, Payload, Record};
use crate::runtime::latest;
use crate::runtime::store::{Store, StoreError, Table};
use crate::uplink::cloudevents;
use crate::vehicle::{FlightMode, Hatch, LandedState, Mission, Telemetry, VehicleError, Waypoint};

/// From arming to the first word that it is in the air.
const TAKEOFF_LIMIT: Duration = Duration::from_secs(60);
/// Beyond the time the way should take, before a drone that is not heard is given up.
const SPARE_TIME: Duration = Duration::from_secs(900);
/// After an adopted flight's start, the drone has so long to be heard.
const ADOPT_LIMIT: Duration = Duration::from_secs(180);
/// An order to come home is given again until it shows.
const AGAIN: Duration = Duration::from_secs(3);
/// What is older says nothing about where the drone is now.
const FRESH: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum FlightError {
    #[error(transparent)]
    Vehicle(#[from] VehicleError),
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error(transparent)]
    Step(#[from] super::states::IllegalStep),
}

/// What an operator may say to a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Pause,
    Resume,
    Return,
}

/// An order on its way, and who gave it.
pub struct Told {
    pub order: Order,
    pub by: String,
    pub reply: oneshot::Sender<Result<(), String>>,
}

/// How a flight is reached from outside.
pub struct Reins {
    /// Calls the drone home, or keeps it down.
    pub cancel: CancellationToken,
    /// People give an order a minute at most; who finds it full waits.
    pub orders: mpsc::Receiver<Told>,
}

/// Flies the sortie to its end. `gated` hears once whether the gates let it go.
pub async fn fly(
    crew: Crew,
    mut sortie: Sortie,
    patrol: Patrol,
    gated: oneshot::Sender<Result<(), String>>,
    mut reins: Reins,
) -> Sortie {
    let outcome = whole_flight(&crew, &mut sortie, &patrol, gated, &mut reins).await;
    wind_up(&crew, sortie, outcome).await
}

/// Takes over a sortie whose drone may be in the air, after a restart: nothing is armed, nothing uploaded.
pub async fn adopt(crew: Crew, mut sortie: Sortie, patrol: Option<Patrol>, mut reins: Reins) -> Sortie {
    let outcome = adopted_flight(&crew, &mut sortie, patrol.as_ref(), &mut reins).await;
    wind_up(&crew, sortie, outcome).await
}

/// Whatever went wrong, the record ends in a terminal state.
async fn wind_up(crew: &Crew, mut sortie: Sortie, outcome: Result<(), FlightError>) -> Sortie {
    if let Err(error) = outcome {
        tracing::error!(%error, sortie = sortie.id, "the sortie ended by a fault");
        let reason = error.to_string();
        for end in [State::Refused, State::Aborted, State::Lost] {
            if sortie.state.may_become(end) {
                if let Err(error) = crew.step(&mut sortie, end, &reason).await {
                    tracing::error!(%error, "the end of the sortie could not be recorded");
                }
                break;
            }
        }
    }
    crew.current.send_replace(Some(sortie.clone()));
    sortie
}

async fn whole_flight(
    crew: &Crew,
    sortie: &mut Sortie,
    patrol: &Patrol,
    gated: oneshot::Sender<Result<(), String>>,
    reins: &mut Reins,
) -> Result<(), FlightError> {
    let mut mission = crew.mission(patrol);
    if let Some(covered) = sortie.covered.take() {
        // The rest of another sortie: its own take-off, speed and camera, from where the pictures stopped.
        let height_m = patrol.config.height_m;
        mission.waypoints = sortie.route.iter().map(|at| Waypoint { at: *at, height_m }).collect();
        let Some(rest) = mission.rest(covered) else {
            let reason = "the sortie to be continued was flown to its end";
            let _ = gated.send(Err(reason.to_owned()));
            return crew.step(sortie, State::Refused, reason).await;
        };
        mission = rest;
    }
    sortie.route = mission.waypoints.iter().map(|w| w.at).collect();
    sortie.identification.clone_from(&crew.identification);
    crew.step(sortie, State::Gating, "checking the gates").await?;
    (sortie.gates, sortie.approval) = crew.gates_for(patrol, &mission);
    let refusal = gates::closed(&sortie.gates);
    // Who asked may have gone; the sortie goes on all the same.
    let _ = gated.send(refusal.clone().map_or(Ok(()), Err));
    if let Some(reason) = refusal {
        return crew.step(sortie, State::Refused, &reason).await;
    }
    // Before anything moves, the drone must hold all that brings it home without us.
    if let Err(error) = crew.prepare(&mission).await {
        return crew.step(sortie, State::Refused, &error.to_string()).await;
    }
    // The hatch lets the rain in: what turned red meanwhile keeps it closed.
    if let Some(reason) = crew.not_now(sortie, patrol, &mission, reins) {
        return crew.step(sortie, State::Refused, &reason).await;
    }
    crew.step(sortie, State::DockOpening, "gates open, mission and failsafes verified").await?;
    if let Err(error) = crew.dock.open().await {
        return crew.close(sortie, State::Refused, &error.to_string()).await;
    }
    // Opening took its time: what was fresh may be stale or red by now.
    if let Some(reason) = crew.not_now(sortie, patrol, &mission, reins) {
        return crew.close(sortie, State::Refused, &reason).await;
    }
    crew.step(sortie, State::Arming, "dock open, gates still open").await?;
    crew.keeper.begin(sortie.id.clone(), patrol.area().to_vec()).await?;
    let rose = crew.take_off().await;
    if let Err(error) = &rose {
        // Autopilots refuse this in the air: a drone that obeys is down, and stays there before the hatch moves.
        if let Err(error) = crew.vehicle.disarm().await {
            tracing::warn!(%error, "disarming after a failed take-off");
        }
        if latest(&crew.vehicle.telemetry()).is_down_and_disarmed() {
            crew.keeper.finish().await?;
            return crew.close(sortie, State::Refused, &error.to_string()).await;
        }
        // It may fly, whatever the fault was: somebody has to follow it.
        tracing::warn!(%error, "not known to be down");
    }
    let words = if rose.is_ok() { "in the air" } else { "it may be in the air" };
    crew.step(sortie, State::Airborne, words).await?;
    let expected = plan::length_m(&sortie.route) / patrol.config.speed_m_s * 2.0;
    let limit = Duration::from_secs_f64(expected) + SPARE_TIME;
    Follow::new(crew, sortie, &mission, limit, rose.unwrap_or(false)).run(reins).await
}

async fn adopted_flight(
    crew: &Crew,
    sortie: &mut Sortie,
    patrol: Option<&Patrol>,
    reins: &mut Reins,
) -> Result<(), FlightError> {
    let restarted = "the station restarted";
    match sortie.state {
        State::Planned if sortie.trigger != super::states::Trigger::Found => {
            return crew.step(sortie, State::Refused, restarted).await;
        }
        State::Gating => return crew.step(sortie, State::Refused, restarted).await,
        State::DockOpening => return crew.close(sortie, State::Refused, restarted).await,
        State::DockClosing => {
            let (end, reason) = match sortie.early.clone() {
                Some(reason) => (State::Aborted, reason),
                None => (State::Done, "flown to its end".to_owned()),
            };
            return crew.close_again(sortie, end, &reason).await;
        }
        _ => {}
    }
    let before = sortie.state;
    tracing::warn!(sortie = sortie.id, ?before, "adopting a flight");
    if before != State::Adopted {
        let why = if before == State::Planned { "found in the air" } else { restarted };
        crew.step(sortie, State::Adopted, why).await?;
    }
    crew.keeper.begin(sortie.id.clone(), patrol.map(|p| p.area().to_vec()).unwrap_or_default()).await?;
    let mut telemetry = crew.vehicle.telemetry();
    let heard = telemetry.wait_for(|t| t.linked && t.landed != LandedState::Unknown && t.armed.is_some());
    let heard = tokio::time::timeout(ADOPT_LIMIT, heard).await.map(|told| told.map(|t| t.clone()));
    let Ok(Ok(now)) = heard else {
        crew.reap(sortie).await;
        return crew.step(sortie, State::Lost, "the drone was not heard after a restart").await;
    };
    if now.is_down_and_disarmed() && before == State::Arming {
        crew.keeper.finish().await?;
        return crew.close(sortie, State::Refused, "the station restarted before take-off").await;
    }
    if before == State::Arming && now.landed == LandedState::OnGround && now.armed == Some(true) {
        // Armed and never started: it goes no further by itself, and would disarm where it stands.
        if let Err(error) = crew.vehicle.disarm().await {
            tracing::warn!(%error, "disarming a drone that never rose");
        }
        if latest(&crew.vehicle.telemetry()).is_down_and_disarmed() {
            crew.keeper.finish().await?;
            return crew.close(sortie, State::Refused, "the station restarted before take-off").await;
        }
    }
    let (next, words) = match now.mode {
        _ if now.is_down_and_disarmed() || now.landed == LandedState::Landing => (State::Landing, "landing"),
        Some(FlightMode::Return) => (State::Returning, "it returns"),
        Some(FlightMode::Land) => (State::Landing, "it lands"),
        Some(FlightMode::Hold) => (State::Paused, "it holds"),
        _ => (State::Airborne, "it flies"),
    };
    crew.step(sortie, next, &format!("adopted: {words}")).await?;
    let mut mission = patrol.map_or_else(|| crew.bare_mission(), |p| crew.mission(p));
    if let Some(patrol) = patrol {
        // What it flies may be the rest of another sortie.
        let height_m = patrol.config.height_m;
        mission.waypoints = sortie.route.iter().map(|at| Waypoint { at: *at, height_m }).collect();
    }
    Follow::new(crew, sortie, &mission, SPARE_TIME, true).run(reins).await
}

impl Crew {
    /// Records the step, then lets the world know; only then may it be acted on.
    pub(super) async fn step(&self, sortie: &mut Sortie, state: State, reason: &str) -> Result<(), FlightError> {
        sortie.become_(state, reason, Timestamp::now())?;
        tracing::info!(sortie = sortie.id, ?state, reason, "sortie");
        self.record(sortie).await
    }

    async fn record(&self, sortie: &mut Sortie) -> Result<(), FlightError> {
        let recorded = record(&self.station, sortie, &self.store, &self.outbox).await;
        self.current.send_replace(Some(sortie.clone()));
        match recorded {
            // A full disk grounds a drone; it must not leave one in the air without anybody who follows it.
            Err(error) if sortie.steps.iter().any(|s| s.state == State::Arming || s.state == State::Adopted) => {
                tracing::error!(%error, sortie = sortie.id, "a step in the air could not be recorded");
                Ok(())
            }
            recorded => recorded,
        }
    }

    /// A flight of which nothing is known but that it flies.
    fn bare_mission(&self) -> Mission {
        Mission {
            takeoff_height_m: self.reach.max_height_m,
            speed_m_s: self.energy.max_airspeed_m_s / 2.0,
            ..Mission::default()
        }
    }

    /// Why it may not go on after all; the sortie keeps the gates as they were seen last.
    fn not_now(&self, sortie: &mut Sortie, patrol: &Patrol, mission: &Mission, reins: &Reins) -> Option<String> {
        (sortie.gates, sortie.approval) = self.gates_for(patrol, mission);
        gates::closed(&sortie.gates).or_else(|| reins.cancel.is_cancelled().then(|| "cancelled".to_owned()))
    }

    async fn prepare(&self, mission: &Mission) -> Result<(), VehicleError> {
        self.vehicle.secure().await?;
        self.vehicle.upload(mission).await
    }

    /// Arms and starts. Returns whether the drone said that it rose.
    async fn take_off(&self) -> Result<bool, VehicleError> {
        self.vehicle.arm().await?;
        self.vehicle.start_mission().await?;
        let mut telemetry = self.vehicle.telemetry();
        let up = telemetry.wait_for(|t| matches!(t.landed, LandedState::InAir | LandedState::TakingOff));
        match tokio::time::timeout(TAKEOFF_LIMIT, up).await {
            Ok(told) => Ok(told.is_ok()),
            // The flight is followed either way; if it never rose, landing is seen at once.
            Err(_) => {
                tracing::warn!("no word of being in the air within {TAKEOFF_LIMIT:?}");
                Ok(false)
            }
        }
    }

    /// Closes the dock and ends the sortie in `end`.
    async fn close(&self, sortie: &mut Sortie, end: State, reason: &str) -> Result<(), FlightError> {
        self.step(sortie, State::DockClosing, reason).await?;
        self.close_again(sortie, end, reason).await
    }

    async fn close_again(&self, sortie: &mut Sortie, end: State, reason: &str) -> Result<(), FlightError> {
        // Right after a restart the drone has not spoken yet.
        let mut telemetry = self.vehicle.telemetry();
        let down = telemetry.wait_for(Telemetry::is_down_and_disarmed);
        let down = matches!(tokio::time::timeout(Duration::from_secs(20), down).await, Ok(Ok(_)));
        match self.dock.close(down).await {
            Ok(()) => self.step(sortie, end, reason).await,
            Err(error) => {
                tracing::error!(%error, "the dock stays open");
                self.step(sortie, end, &format!("{reason}; {error}")).await
            }
        }
    }

    /// Closes the sortie's book; without a keeper the numbers stay as they were last heard.
    async fn reap(&self, sortie: &mut Sortie) {
        match self.keeper.finish().await {
            Ok(harvest) => sortie.reap(&harvest),
            Err(error) => tracing::error!(%error, sortie = sortie.id, "the sortie's book could not be closed"),
        }
    }

    async fn drone_is_in_dock(&self) -> bool {
        let mut state = self.dock.state();
        let told = state.wait_for(|s| s.drone_present == Some(true));
        tokio::time::timeout(Duration::from_secs(5), told).await.is_ok_and(|told| told.is_ok())
    }
}

/// From the air to the closed dock.
struct Follow<'a> {
    crew: &'a Crew,
    sortie: &'a mut Sortie,
    mission: Mission,
    monitor: Monitor,
    until: Instant,
    /// Until it was up, "on the ground" may be the past.
    was_up: bool,
    said: Instant,
    ordered_home: Option<Instant>,
    dock_asked: Option<Instant>,
}

impl<'a> Follow<'a> {
    fn new(crew: &'a Crew, sortie: &'a mut Sortie, mission: &Mission, limit: Duration, was_up: bool) -> Follow<'a> {
        let monitor = Monitor::new(Rules {
            energy: crew.energy,
            red: Duration::from_secs_f64(crew.limits.in_flight_red_s),
            fence: mission.fence.clone().unwrap_or_default(),
            ceiling_m: crew.ceiling_m(sortie.approval.as_deref()),
            speed_m_s: mission.speed_m_s,
            home: crew.dock_at,
        });
        let now = Instant::now();
        Follow {
            crew,
            sortie,
            mission: mission.clone(),
            monitor,
            until: now + limit,
            was_up,
            said: now,
            ordered_home: None,
            dock_asked: None,
        }
    }

    async fn run(mut self, reins: &mut Reins) -> Result<(), FlightError> {
        let mut shots = self.crew.vehicle.shots();
        let mut tick = interval(Duration::from_millis(500));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut orders_open = true;
        loop {
            tokio::select! {
                shot = shots.recv() => {
                    if let Some(shot) = shot {
                        let picture = Picture { file: shot.file, taken_at: shot.taken_at, pose: shot.pose };
                        if let Err(error) = self.crew.keeper.picture(picture).await {
                            tracing::error!(%error, "a picture is not looked at");
                        }
                    }
                    continue;
                }
                told = reins.orders.recv(), if orders_open => {
                    match told {
                        Some(told) => self.obey(told).await?,
                        None => orders_open = false,
                    }
                    continue;
                }
                _ = tick.tick() => {}
            }
            let now = latest(&self.crew.vehicle.telemetry());
            self.was_up |=
                now.linked && matches!(now.landed, LandedState::InAir | LandedState::TakingOff | LandedState::Landing);
            self.look(&now, &reins.cancel).await?;
            self.note_phase(&now).await?;
            self.insist(&now).await;
            self.keep_dock_open();
            if self.said.elapsed() >= Duration::from_secs(2) {
                self.say(&now).await;
            }
            if self.was_up && now.is_down_and_disarmed() {
                return self.landed().await;
            }
            if !self.was_up
                && self.sortie.started_at.is_some_and(|at| Timestamp::now().duration_since(at).as_secs() > 90)
                && now.is_down_and_disarmed()
            {
                self.sortie.early = Some("it never left the ground".to_owned());
                return self.landed().await;
            }
            if Instant::now() > self.until && !now.linked {
                self.crew.reap(self.sortie).await;
                return self.crew.step(self.sortie, State::Lost, "the drone is overdue and not heard").await;
            }
        }
    }

    /// What is seen of the flight, and whether it has to turn round.
    async fn look(&mut self, now: &Telemetry, cancel: &CancellationToken) -> Result<(), FlightError> {
        let place = now.position.filter(|p| now.linked && p.received.elapsed() < FRESH).map(|p| (p.at, p.height_m));
        if now.linked && self.sortie.state == State::Airborne && now.mode == Some(FlightMode::Auto) {
            // The autopilot says some items twice; what was covered stays covered.
            let along = self.crew.vehicle.along(&self.mission);
            self.sortie.covered = along.filter(|a| self.sortie.covered.is_none_or(|c| *a > c)).or(self.sortie.covered);
        }
        if !matches!(self.sortie.state, State::Airborne | State::Paused) {
            return Ok(());
        }
        let gates = self.crew.gates();
        let facts = self.crew.facts();
        let window_left_s = match &self.sortie.approval {
            Some(reference) => self.crew.window_left_s(reference),
            None => Some(f64::MAX),
        };
        let reason = self.monitor.look(&Seen {
            now: Instant::now(),
            linked: now.linked,
            place,
            battery_pct: now.battery_pct.filter(|_| now.linked),
            drone_s: now.health.boot_s,
            wind_m_s: facts.air.map(|(air, _)| air.wind_m_s),
            gates: &gates,
            window_left_s,
        });
        match reason.or_else(|| cancel.is_cancelled().then(|| "called back".to_owned())) {
            Some(reason) => self.go_home(&reason).await,
            None => Ok(()),
        }
    }

    async fn go_home(&mut self, reason: &str) -> Result<(), FlightError> {
        // Recorded first: a crash right here must not forget why it turned round.
        self.sortie.early = Some(reason.to_owned());
        self.crew.step(self.sortie, State::Returning, reason).await?;
        self.order_home().await;
        Ok(())
    }

    async fn order_home(&mut self) {
        self.ordered_home = Some(Instant::now());
        if !latest(&self.crew.vehicle.telemetry()).linked {
            if let Err(error) = self.crew.vehicle.return_unheard().await {
                tracing::error!(%error, "the drone cannot even be called");
            }
            return;
        }
        if let Err(error) = self.crew.vehicle.return_home().await {
            tracing::error!(%error, "the drone did not take the order to return; its own failsafes remain");
            // Without a position it cannot find home; it can still come down.
            if !latest(&self.crew.vehicle.telemetry()).has_3d_fix()
                && let Err(error) = self.crew.vehicle.land().await
            {
                tracing::error!(%error, "the drone did not take the order to land");
            }
        }
    }

    /// An order that does not show is given again; a pilot's hand is never fought.
    async fn insist(&mut self, now: &Telemetry) {
        let due = self.ordered_home.is_some_and(|at| at.elapsed() >= AGAIN);
        let flies_on =
            !now.linked || matches!(now.mode, Some(FlightMode::Auto | FlightMode::Guided | FlightMode::Hold));
        if self.sortie.state == State::Returning && due && flies_on && !now.is_down_and_disarmed() {
            tracing::warn!(mode = ?now.mode, linked = now.linked, "the drone does not return yet; ordering it again");
            self.order_home().await;
        }
    }

    /// A landing always gets its dock.
    fn keep_dock_open(&mut self) {
        let comes_home = matches!(self.sortie.state, State::Returning | State::Landing);
        let hatch = latest(&self.crew.dock.state()).hatch;
        let asked_lately = self.dock_asked.is_some_and(|at| at.elapsed() < Duration::from_secs(30));
        if comes_home && matches!(hatch, Hatch::Closed | Hatch::Closing) && !asked_lately {
            self.dock_asked = Some(Instant::now());
            let dock = self.crew.dock.clone();
            tokio::spawn(async move {
                tracing::warn!("the drone comes home to a closed dock; opening it");
                if let Err(error) = dock.open().await {
                    tracing::error!(%error, "the dock does not open for the landing");
                }
            });
        }
    }

    async fn obey(&mut self, told: Told) -> Result<(), FlightError> {
        let Told { order, by, reply } = told;
        let answer = match (order, self.sortie.state) {
            (Order::Pause, State::Airborne) => {
                self.crew.step(self.sortie, State::Paused, &format!("paused by {by}")).await?;
                let held = self.crew.vehicle.hold().await.map_err(|error| error.to_string());
                if let Err(error) = &held {
                    self.crew.step(self.sortie, State::Airborne, &format!("not paused: {error}")).await?;
                }
                held
            }
            (Order::Resume, State::Paused) => {
                self.crew.step(self.sortie, State::Airborne, &format!("resumed by {by}")).await?;
                let gone_on = self.crew.vehicle.start_mission().await.map_err(|error| error.to_string());
                if let Err(error) = &gone_on {
                    self.crew.step(self.sortie, State::Paused, &format!("not resumed: {error}")).await?;
                }
                gone_on
            }
            (Order::Return, State::Airborne | State::Paused) => {
                self.go_home(&format!("called back by {by}")).await?;
                Ok(())
            }
            (Order::Return, State::Returning | State::Landing) => Ok(()),
            (order, state) => Err(format!("the sortie is {state:?}: {order:?} does not apply")),
        };
        // Who gave the order may have gone.
        let _ = reply.send(answer);
        Ok(())
    }

    /// Follows what the drone does by itself: its mission's end, a failsafe, a pilot's hand.
    async fn note_phase(&mut self, now: &Telemetry) -> Result<(), FlightError> {
        if !now.linked {
            return Ok(());
        }
        let landing =
            now.landed == LandedState::Landing || now.mode == Some(FlightMode::Land) || now.is_down_and_disarmed();
        let step = match self.sortie.state {
            State::Airborne | State::Paused if now.mode == Some(FlightMode::Return) => {
                (State::Returning, self.of_its_own(now, "returns"))
            }
            State::Airborne | State::Paused if landing && self.was_up => {
                (State::Landing, self.of_its_own(now, "lands"))
            }
            State::Returning if landing && self.was_up => (State::Landing, "landing".to_owned()),
            _ => return Ok(()),
        };
        self.crew.step(self.sortie, step.0, &step.1).await
    }

    /// The words for what the drone does unasked. Before the end of its way it is a failsafe or a pilot's hand, and the
    /// sortie was not flown to its end.
    fn of_its_own(&mut self, now: &Telemetry, does: &str) -> String {
        if self.flown_whole() {
            return format!("the drone {does}");
        }
        const WARNING: u8 = 4;
        let lately = |text: &&crate::vehicle::Text| text.severity <= WARNING && text.received.elapsed().as_secs() < 20;
        let said = now.texts.iter().rev().find(lately).map(|text| format!(": {}", text.text)).unwrap_or_default();
        let words = format!("the drone {does} of its own accord{said}");
        self.sortie.early.get_or_insert_with(|| words.clone());
        words
    }

    fn flown_whole(&self) -> bool {
        // A flight that is only followed has no end that could be missed.
        self.mission.waypoints.is_empty() || self.sortie.covered.is_some_and(|along| self.mission.share(along) > 0.999)
    }

    async fn say(&mut self, now: &Telemetry) {
        self.said = Instant::now();
        let harvest = latest(&self.crew.keeper.harvest());
        self.sortie.reap(&harvest);
        self.sortie.progress = match self.sortie.state {
            State::Airborne | State::Paused => {
                let share = self.sortie.covered.map_or(0.0, |along| self.mission.share(along));
                (share * 0.95).max(self.sortie.progress)
            }
            State::Returning | State::Landing if self.sortie.early.is_none() => 0.95,
            _ => self.sortie.progress,
        };
        tracing::debug!(mode = ?now.mode, progress = self.sortie.progress, "under way");
        self.crew.current.send_replace(Some(self.sortie.clone()));
        // What a restart needs to go on from; its event goes out with the next step.
        if let Err(error) = self.crew.store.put(Table::Sorties, &self.sortie.id, &*self.sortie).await {
            tracing::error!(%error, "the sortie's progress could not be stored");
        }
    }

    async fn landed(self) -> Result<(), FlightError> {
        let whole = self.flown_whole();
        let Follow { crew, sortie, .. } = self;
        if matches!(sortie.state, State::Airborne | State::Paused | State::Returning) {
            crew.step(sortie, State::Landing, "on the ground").await?;
        }
        if !crew.drone_is_in_dock().await {
            crew.reap(sortie).await;
            let away = "it landed, but the dock does not see it; the dock stays open";
            return crew.step(sortie, State::LandedAway, away).await;
        }
        crew.step(sortie, State::DockClosing, "landed, disarmed and in the dock").await?;
        // The dock closes while the last pictures are still looked at.
        let (closed, ()) = tokio::join!(crew.dock.close(true), crew.reap(sortie));
        let (end, mut reason) = match sortie.early.clone() {
            None => (State::Done, "flown to its end".to_owned()),
            Some(reason) if whole => (State::Done, format!("flown to its end; on the way home: {reason}")),
            Some(reason) => (State::Aborted, reason),
        };
        if let Err(error) = closed {
            tracing::error!(%error, "the dock stays open");
            reason = format!("{reason}; {error}");
        }
        if end == State::Done {
            sortie.progress = 1.0;
        }
        crew.step(sortie, end, &reason).await
    }
}

/// Stores a sortie and accepts its event: also for those that never flew.
pub async fn record(station: &str, sortie: &mut Sortie, store: &Store, outbox: &Outbox) -> Result<(), FlightError> {
    sortie.sequence += 1;
    store.put(Table::Sorties, &sortie.id, sortie).await?;
    let event = cloudevents::sortie_event(station, &sortie.id, sortie.sequence, Timestamp::now(), event_data(sortie));
    let record = Record {
        id: event["id"].as_str().unwrap_or_default().to_owned(),
        class: Class::Sortie,
        key: sortie.id.clone(),
        topic: format!("sortie/{}", sortie.id),
        content_type: "application/cloudevents+json".to_owned(),
        payload: Payload::Bytes(event.to_string().into_bytes()),
        captured_at: None,
    };
    outbox.accept(vec![record]).await?;
    Ok(())
}

fn event_data(sortie: &Sortie) -> Value {
    json!({
        "id": sortie.id,
        "patrol": sortie.patrol,
        "trigger": sortie.trigger,
        "operator": sortie.operator,
        "state": sortie.state,
        "reason": sortie.reason,
        "planned_at": sortie.planned_at,
        "started_at": sortie.started_at,
        "ended_at": sortie.ended_at,
        "frames": sortie.frames,
        "frames_lost": sortie.frames_lost,
        "cases": sortie.cases,
        "coverage": (sortie.coverage * 1000.0).round() / 1000.0,
        "progress": (sortie.progress * 1000.0).round() / 1000.0,
        "continues": sortie.continues,
        "approval": sortie.approval,
        "identification": sortie.identification,
        "gates": sortie.gates,
    })
}
