//! Flies one sortie: the only place where the state machine meets the drone, the dock and the clock.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use super::config::Patrol;
use super::gates::{self, Air, DockFacts, Facts, Gate, Limits};
use super::plan;
use super::states::{Sortie, State};
use super::sun;
use crate::cases::keeper::{CaseKeeper, KeeperError, Picture};
use crate::geo::LatLon;
use crate::outbox::{Class, Outbox, OutboxError, Payload, Record};
use crate::runtime::latest;
use crate::runtime::store::{Store, StoreError, Table};
use crate::uplink::cloudevents;
use crate::vehicle::{Dock, FlightMode, Hatch, LandedState, Telemetry, Vehicle, VehicleError, Weather};

/// From arming to the first word that it is in the air.
const TAKEOFF_LIMIT: Duration = Duration::from_secs(60);
/// Beyond the time the way should take, before a drone that is not heard is given up.
const SPARE_TIME: Duration = Duration::from_secs(900);
/// After an adopted flight's start, the drone has so long to be heard.
const ADOPT_LIMIT: Duration = Duration::from_secs(180);

/// What a flight works with.
#[derive(Clone)]
pub struct Crew {
    pub station: String,
    pub dock_at: LatLon,
    pub horizontal_fov_deg: f64,
    pub aspect: f64,
    pub limits: Limits,
    pub vehicle: Vehicle,
    pub dock: Dock,
    pub weather: Weather,
    pub keeper: CaseKeeper,
    pub store: Store,
    pub outbox: Outbox,
    /// The sortie under way, for everyone who shows it.
    pub current: Arc<watch::Sender<Option<Sortie>>>,
}

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

/// Flies the sortie to its end. `gated` hears once whether the gates let it go; `cancel` calls the drone home.
pub async fn fly(
    crew: Crew,
    mut sortie: Sortie,
    patrol: Patrol,
    gated: oneshot::Sender<Result<(), String>>,
    cancel: CancellationToken,
) -> Sortie {
    let outcome = whole_flight(&crew, &mut sortie, &patrol, gated, &cancel).await;
    wind_up(&crew, sortie, outcome).await
}

/// Takes over a sortie whose drone may be in the air, after a restart: nothing is armed, nothing uploaded.
pub async fn adopt(crew: Crew, mut sortie: Sortie, patrol: Option<Patrol>, cancel: CancellationToken) -> Sortie {
    let outcome = adopted_flight(&crew, &mut sortie, patrol.as_ref(), &cancel).await;
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
    cancel: &CancellationToken,
) -> Result<(), FlightError> {
    let mission = patrol.mission(crew.dock_at, crew.horizontal_fov_deg, crew.aspect);
    let way: Vec<LatLon> = mission.waypoints.iter().map(|w| w.at).collect();
    sortie.route = way.clone();
    crew.step(sortie, State::Gating, "checking the gates").await?;
    sortie.gates = crew.gates(patrol.config.daylight);
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
    crew.step(sortie, State::DockOpening, "gates open, mission and failsafes verified").await?;
    if let Err(error) = crew.dock.open().await {
        return crew.step(sortie, State::Refused, &error.to_string()).await;
    }
    // Opening took its time: what was fresh may be stale or red by now.
    sortie.gates = crew.gates(patrol.config.daylight);
    let refusal = gates::closed(&sortie.gates).or_else(|| cancel.is_cancelled().then(|| "cancelled".to_owned()));
    if let Some(reason) = refusal {
        return crew.close(sortie, State::Refused, &reason).await;
    }
    crew.step(sortie, State::Arming, "dock open, gates still open").await?;
    crew.keeper.begin(sortie.id.clone(), patrol.area().to_vec()).await?;
    let rose = crew.take_off().await;
    if let Err(error) = &rose {
        if latest(&crew.vehicle.telemetry()).landed != LandedState::InAir {
            // Not in the air: make sure that it stays down before the hatch moves.
            if let Err(error) = crew.vehicle.disarm().await {
                tracing::warn!(%error, "disarming after a failed take-off");
            }
            crew.keeper.finish().await?;
            return crew.close(sortie, State::Refused, &error.to_string()).await;
        }
        tracing::warn!(%error, "in the air all the same");
    }
    crew.step(sortie, State::Airborne, "in the air").await?;
    let expected = plan::length_m(&way) / patrol.config.speed_m_s * 2.0;
    crew.follow(sortie, cancel, Duration::from_secs_f64(expected) + SPARE_TIME, rose.unwrap_or(true)).await
}

async fn adopted_flight(
    crew: &Crew,
    sortie: &mut Sortie,
    patrol: Option<&Patrol>,
    cancel: &CancellationToken,
) -> Result<(), FlightError> {
    match sortie.state {
        State::Planned | State::Gating => return crew.step(sortie, State::Refused, "the station restarted").await,
        State::DockOpening => return crew.close(sortie, State::Refused, "the station restarted").await,
        State::DockClosing => return crew.close(sortie, State::Aborted, "the station restarted").await,
        _ => {}
    }
    tracing::warn!(sortie = sortie.id, "adopting a sortie that was under way");
    crew.keeper.begin(sortie.id.clone(), patrol.map(|p| p.area().to_vec()).unwrap_or_default()).await?;
    if sortie.state == State::Arming {
        let mut telemetry = crew.vehicle.telemetry();
        let heard = telemetry.wait_for(|t| t.landed != LandedState::Unknown && t.armed.is_some());
        let heard = tokio::time::timeout(ADOPT_LIMIT, heard).await;
        match heard.map(|told| told.map(|t| t.is_down_and_disarmed())) {
            Ok(Ok(true)) => {
                crew.keeper.finish().await?;
                return crew.close(sortie, State::Refused, "the station restarted before take-off").await;
            }
            Ok(Ok(false)) => {}
            _ => return crew.step(sortie, State::Lost, "the drone was not heard after a restart").await,
        }
        crew.step(sortie, State::Airborne, "adopted after a restart").await?;
    }
    crew.follow(sortie, cancel, SPARE_TIME, true).await
}

impl Crew {
    /// Records the step, then lets the world know; only then may it be acted on.
    async fn step(&self, sortie: &mut Sortie, state: State, reason: &str) -> Result<(), FlightError> {
        sortie.become_(state, reason, Timestamp::now())?;
        tracing::info!(sortie = sortie.id, ?state, reason, "sortie");
        self.record(sortie).await
    }

    async fn record(&self, sortie: &mut Sortie) -> Result<(), FlightError> {
        let recorded = record(&self.station, sortie, &self.store, &self.outbox).await;
        self.current.send_replace(Some(sortie.clone()));
        match recorded {
            // A full disk grounds a drone; it must not leave one in the air without anybody who follows it.
            Err(error) if sortie.steps.iter().any(|s| s.state == State::Arming) => {
                tracing::error!(%error, sortie = sortie.id, "a step in the air could not be recorded");
                Ok(())
            }
            recorded => recorded,
        }
    }

    async fn prepare(&self, mission: &crate::vehicle::Mission) -> Result<(), VehicleError> {
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
        let down = latest(&self.vehicle.telemetry()).is_down_and_disarmed();
        match self.dock.close(down).await {
            Ok(()) => self.step(sortie, end, reason).await,
            Err(error) => {
                tracing::error!(%error, "the dock stays open");
                self.step(sortie, end, &format!("{reason}; {error}")).await
            }
        }
    }

    /// From the air to the closed dock.
    /// Until the drone `was_up`, "on the ground" may be the past.
    async fn follow(
        &self,
        sortie: &mut Sortie,
        cancel: &CancellationToken,
        limit: Duration,
        mut was_up: bool,
    ) -> Result<(), FlightError> {
        let mut shots = self.vehicle.shots();
        let mut tick = interval(Duration::from_millis(500));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let until = Instant::now() + limit;
        let mut early: Option<String> = None;
        let mut last_said = Instant::now();
        loop {
            tokio::select! {
                shot = shots.recv() => {
                    if let Some(shot) = shot {
                        let picture = Picture { file: shot.file, taken_at: shot.taken_at, pose: shot.pose };
                        if let Err(error) = self.keeper.picture(picture).await {
                            tracing::error!(%error, "a picture is not looked at");
                        }
                    }
                    continue;
                }
                _ = tick.tick() => {}
            }
            let now = latest(&self.vehicle.telemetry());
            was_up |=
                now.linked && matches!(now.landed, LandedState::InAir | LandedState::TakingOff | LandedState::Landing);
            if sortie.state == State::Airborne && early.is_none() {
                early = self.reason_to_return(cancel);
                if let Some(reason) = early.clone() {
                    // Recorded first: a crash right here must not forget why it turned round.
                    self.step(sortie, State::Returning, &reason).await?;
                    if let Err(error) = self.vehicle.return_home().await {
                        tracing::error!(%error, "the drone did not take the order to return; its own failsafes remain");
                    }
                }
            }
            self.note_phase(sortie, &now).await?;
            if last_said.elapsed() >= Duration::from_secs(2) {
                last_said = Instant::now();
                let harvest = latest(&self.keeper.harvest());
                sortie.reap(&harvest);
                sortie.progress = progress(&now, sortie);
                self.current.send_replace(Some(sortie.clone()));
            }
            if was_up && now.is_down_and_disarmed() {
                return self.landed(sortie, early).await;
            }
            if !was_up
                && sortie.started_at.is_some_and(|at| Timestamp::now().duration_since(at).as_secs() > 90)
                && now.is_down_and_disarmed()
            {
                return self.landed(sortie, Some("it never left the ground".to_owned())).await;
            }
            if Instant::now() > until && !now.linked {
                self.reap(sortie).await;
                return self.step(sortie, State::Lost, "the drone is overdue and not heard").await;
            }
        }
    }

    /// Follows what the drone does by itself: its mission's end, a failsafe, a pilot's hand.
    async fn note_phase(&self, sortie: &mut Sortie, now: &Telemetry) -> Result<(), FlightError> {
        if !now.linked {
            return Ok(());
        }
        let landing =
            now.landed == LandedState::Landing || now.mode == Some(FlightMode::Land) || now.is_down_and_disarmed();
        match sortie.state {
            State::Airborne if now.mode == Some(FlightMode::Return) => {
                self.step(sortie, State::Returning, "the drone returns").await
            }
            State::Airborne | State::Returning if landing => self.step(sortie, State::Landing, "landing").await,
            _ => Ok(()),
        }
    }

    async fn landed(&self, sortie: &mut Sortie, early: Option<String>) -> Result<(), FlightError> {
        if sortie.state == State::Airborne || sortie.state == State::Returning {
            self.step(sortie, State::Landing, "on the ground").await?;
        }
        if !self.drone_is_in_dock().await {
            self.reap(sortie).await;
            let away = "it landed, but the dock does not see it; the dock stays open";
            return self.step(sortie, State::LandedAway, away).await;
        }
        self.step(sortie, State::DockClosing, "landed, disarmed and in the dock").await?;
        // The dock closes while the last pictures are still looked at.
        let (closed, ()) = tokio::join!(self.dock.close(true), self.reap(sortie));
        let (end, mut reason) = match early {
            None => (State::Done, "flown to its end".to_owned()),
            Some(reason) => (State::Aborted, reason),
        };
        if let Err(error) = closed {
            tracing::error!(%error, "the dock stays open");
            reason = format!("{reason}; {error}");
        }
        if end == State::Done {
            sortie.progress = 1.0;
        }
        self.step(sortie, end, &reason).await
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

    fn reason_to_return(&self, cancel: &CancellationToken) -> Option<String> {
        if cancel.is_cancelled() {
            return Some("called back".to_owned());
        }
        // Only a fresh red counts in the air: an unknown must not turn a drone round that flies well.
        let gates = gates::evaluate(&self.facts(false), &self.limits);
        let red =
            gates.iter().find(|g| matches!(g.gate.as_str(), "wind" | "gust" | "rain") && g.passed == Some(false))?;
        Some(format!("{} turned red: {}", red.gate, red.reason))
    }

    /// The gates as they stand now.
    pub fn gates(&self, daylight_only: bool) -> Vec<Gate> {
        gates::evaluate(&self.facts(daylight_only), &self.limits)
    }

    fn facts(&self, daylight_only: bool) -> Facts {
        let now = Instant::now();
        let telemetry = latest(&self.vehicle.telemetry());
        let dock = latest(&self.dock.state());
        let age = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        Facts {
            air: latest(&self.weather.latest()).map(|r| {
                let air = Air {
                    wind_m_s: r.wind_m_s,
                    gust_m_s: r.gust_m_s,
                    rain_mm_h: r.rain_mm_h,
                    temperature_c: r.temperature_c,
                };
                (air, now.saturating_duration_since(r.received))
            }),
            dock: age(dock.received).map(|age| {
                let hatch_known = dock.hatch != Hatch::Unknown;
                (DockFacts { hatch_known, drone_present: dock.drone_present }, age)
            }),
            link: age(telemetry.last_heartbeat).map(|age| ((), age)),
            on_ground_disarmed: age(telemetry.landed_received)
                .map(|age| (telemetry.landed == LandedState::OnGround && telemetry.armed == Some(false), age)),
            battery_pct: telemetry.battery_pct.zip(age(telemetry.battery_received)),
            satellites: telemetry.satellites.map(|s| (s, telemetry.has_3d_fix())).zip(age(telemetry.gps_received)),
            sun_deg: sun::elevation_deg(self.dock_at, Timestamp::now()),
            daylight_only,
            config_faults: 0,
        }
    }
}

/// How far along its way, 0 to 1.
fn progress(now: &Telemetry, sortie: &Sortie) -> f64 {
    match sortie.state {
        State::Airborne => {
            let reached = f64::from(now.mission_reached.unwrap_or(0));
            (reached / (sortie.route.len() as f64 + 6.0)).clamp(sortie.progress, 0.95)
        }
        State::Returning | State::Landing | State::DockClosing => sortie.progress.max(0.95),
        _ => sortie.progress,
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
        "gates": sortie.gates,
    })
}
