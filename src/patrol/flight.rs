//! Flies one sortie from its gates to the air: with [`super::follow`] and [`super::adopt`] the only place where the state
//! machine meets the drone, the dock and the clock.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::config::Patrol;
use super::crew::Crew;
use super::follow::Follow;
use super::gates;
use super::plan;
use super::states::{Sortie, State};
use crate::cases::keeper::KeeperError;
use crate::outbox::{Class, Outbox, OutboxError, Payload, Record};
use crate::runtime::latest;
use crate::runtime::store::{Store, StoreError, Table};
use crate::uplink::cloudevents;
use crate::vehicle::{LandedState, Mission, VehicleError, Waypoint};

/// From arming to the first word that it is in the air.
const TAKEOFF_LIMIT: Duration = Duration::from_secs(60);
/// What an upload may unsettle in an autopilot's own checks is over by then.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);
/// Beyond the time the way should take, before a drone that is not heard is given up.
pub(super) const SPARE_TIME: Duration = Duration::from_secs(900);
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

/// Whatever went wrong, the record ends in a terminal state.
pub(super) async fn wind_up(crew: &Crew, mut sortie: Sortie, outcome: Result<(), FlightError>) -> Sortie {
    if let Err(error) = outcome {
        give_up(crew, &mut sortie, &error.to_string()).await;
    }
    crew.current.send_replace(Some(sortie.clone()));
    sortie
}

/// Ends a record that nobody can bring to its own end any more.
pub(super) async fn give_up(crew: &Crew, sortie: &mut Sortie, reason: &str) {
    tracing::error!(reason, sortie = sortie.id, "the sortie ended by a fault");
    let ends = [State::Refused, State::Aborted, State::Lost];
    if let Some(end) = ends.into_iter().find(|end| sortie.state.may_become(*end))
        && let Err(error) = crew.step(sortie, end, reason).await
    {
        tracing::error!(%error, "the end of the sortie could not be recorded");
    }
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
    crew.let_it_settle().await;
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
    sortie.first_picture = latest(&crew.vehicle.telemetry()).pictures;
    if let Err(error) = crew.step(sortie, State::Arming, "dock open, gates still open").await {
        return crew.close(sortie, State::Refused, &error.to_string()).await;
    }
    crew.keeper.begin(sortie.id.clone(), patrol.area().to_vec(), patrol.shown()).await?;
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

impl Crew {
    /// Records the step, then lets the world know; only then may it be acted on. A station that stops takes none any more:
    /// its flight ends with its task, as after a power cut, and the next start goes on from what is recorded.
    pub(super) async fn step(&self, sortie: &mut Sortie, state: State, reason: &str) -> Result<(), FlightError> {
        if self.is_falling_apart() {
            tracing::info!(sortie = sortie.id, ?state, reason, "left to the station's next start");
            return std::future::pending().await;
        }
        sortie.become_(state, reason, Timestamp::now())?;
        tracing::info!(sortie = sortie.id, ?state, reason, "sortie");
        self.record(sortie).await
    }

    pub(super) async fn record(&self, sortie: &mut Sortie) -> Result<(), FlightError> {
        let recorded = record(&self.station, sortie, &self.store, &self.outbox).await;
        self.current.send_replace(Some(sortie.clone()));
        match recorded {
            // A full disk grounds a drone; it must not leave one in the air without anybody who follows it.
            Err(error) if !sortie.state.waits_for_its_record() => {
                tracing::error!(%error, sortie = sortie.id, "a step could not be recorded");
                Ok(())
            }
            recorded => recorded,
        }
    }

    /// A flight of which nothing is known but that it flies.
    pub(super) fn bare_mission(&self) -> Mission {
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

    /// New parameters and a new mission make an autopilot check itself anew, once a second; red for a moment is no red.
    async fn let_it_settle(&self) {
        let mut telemetry = self.vehicle.telemetry();
        let ready = telemetry.wait_for(|t| t.health.preflight.is_none_or(|(told, _)| told != Some(false)));
        // Whatever comes of it, the gates judge it.
        let _ = tokio::time::timeout(SETTLE_LIMIT, ready).await;
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
    pub(super) async fn close(&self, sortie: &mut Sortie, end: State, reason: &str) -> Result<(), FlightError> {
        self.step(sortie, State::DockClosing, reason).await?;
        self.close_again(sortie, end, reason).await
    }

    pub(super) async fn close_again(&self, sortie: &mut Sortie, end: State, reason: &str) -> Result<(), FlightError> {
        // Right after a restart the drone has not spoken yet.
        let mut telemetry = self.vehicle.telemetry();
        let down = telemetry.wait_for(|drone| self.may_be_in_dock(drone));
        let down = matches!(tokio::time::timeout(Duration::from_secs(20), down).await, Ok(Ok(_)));
        match self.dock.close(down).await {
            Ok(()) => self.step(sortie, end, reason).await,
            Err(error) => {
                tracing::error!(%error, "the dock stays open");
                self.step(sortie, end, &format!("{reason}; {error}")).await
            }
        }
    }

    /// Closes the sortie's book and stores what stood in it; without a keeper the numbers stay as they were last heard.
    pub(super) async fn reap(&self, sortie: &mut Sortie) {
        match self.keeper.finish().await {
            Ok(harvest) => sortie.reap(&harvest),
            Err(error) => tracing::error!(%error, sortie = sortie.id, "the sortie's book could not be closed"),
        }
        // A closed book is not told again: a crash before the next step must find its numbers.
        if let Err(error) = self.store.put(Table::Sorties, &sortie.id, &*sortie).await {
            tracing::error!(%error, sortie = sortie.id, "what the sortie brought home could not be stored");
        }
    }

    pub(super) async fn drone_is_in_dock(&self) -> bool {
        let mut state = self.dock.state();
        let told = state.wait_for(|s| s.drone_present == Some(true));
        tokio::time::timeout(Duration::from_secs(5), told).await.is_ok_and(|told| told.is_ok())
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
        "survey": sortie.survey,
        "progress": (sortie.progress * 1000.0).round() / 1000.0,
        "continues": sortie.continues,
        "request": sortie.request,
        "approval": sortie.approval,
        "identification": sortie.identification,
        "gates": sortie.gates,
    })
}
