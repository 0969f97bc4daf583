//! Takes over a sortie whose drone may be in the air, after a restart: nothing is armed, nothing uploaded, and what was
//! known of its pictures and cases is known again.

use std::time::Duration;

use super::config::Patrol;
use super::crew::Crew;
use super::flight::{FlightError, Reins, SPARE_TIME, wind_up};
use super::follow::Follow;
use super::states::{Sortie, State, Trigger};
use crate::runtime::latest;
use crate::vehicle::{Along, FlightMode, LandedState, Waypoint};

/// The drone has so long to be heard.
const ADOPT_LIMIT: Duration = Duration::from_secs(180);

pub async fn adopt(crew: Crew, mut sortie: Sortie, patrol: Option<Patrol>, mut reins: Reins) -> Sortie {
    let outcome = adopted_flight(&crew, &mut sortie, patrol.as_ref(), &mut reins).await;
    wind_up(&crew, sortie, outcome).await
}

async fn adopted_flight(
    crew: &Crew,
    sortie: &mut Sortie,
    patrol: Option<&Patrol>,
    reins: &mut Reins,
) -> Result<(), FlightError> {
    let restarted = "the station restarted";
    match sortie.state {
        State::Planned if sortie.trigger != Trigger::Found => {
            return crew.step(sortie, State::Refused, restarted).await;
        }
        State::Gating => return crew.step(sortie, State::Refused, restarted).await,
        State::DockOpening => return crew.close(sortie, State::Refused, restarted).await,
        State::DockClosing => {
            let (end, reason) = match sortie.early.clone() {
                Some(reason) => (State::Aborted, reason),
                None => (State::Done, "flown to its end".to_owned()),
            };
            // Pictures may still wait to be looked at, as they did before.
            begin_again(crew, sortie, patrol).await?;
            crew.reap(sortie).await;
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
    let known = begin_again(crew, sortie, patrol).await?;
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
    if now.armed == Some(true) {
        // Away from its route the place says nothing, but the legs behind it are flown. Landed, it begins anew.
        let on_route = now.mode == Some(FlightMode::Auto);
        let along = crew.vehicle.along(&mission);
        let along = along.map(|a| if on_route { a } else { Along { metres: 0.0, ..a } });
        sortie.covered = along.filter(|a| sortie.covered.is_none_or(|c| *a > c)).or(sortie.covered);
    }
    let first_unknown = known.map(|last| last.saturating_add(1)).or(sortie.first_picture);
    let mut follow = Follow::new(crew, sortie, &mission, SPARE_TIME, true);
    if matches!(next, State::Returning | State::Landing) {
        follow.turned_unseen();
    } else {
        follow.call_again(&now).await?;
    }
    follow.recalling(first_unknown).run(reins).await
}

/// Opens the sortie's book as it stood; returns the number of its last known picture.
async fn begin_again(crew: &Crew, sortie: &Sortie, patrol: Option<&Patrol>) -> Result<Option<u32>, FlightError> {
    // Of a flight that nobody planned, everything is looked at.
    let (area, shown) = patrol.map_or((Vec::new(), 1.0), |p| (p.area().to_vec(), p.shown()));
    Ok(crew.keeper.begin(sortie.id.clone(), area, shown).await?)
}
