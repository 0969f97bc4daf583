//! What a flight works with, and what is known before and during one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::airspace::{self, Approval, Use};
use super::config::{Identification, Patrol};
use super::energy::EnergyConfig;
use super::gates::{self, Air, DockFacts, Facts, Gate, Holds, Limits, Needs};
use super::requests::RequestConfig;
use super::states::Sortie;
use super::sun;
use crate::cases::keeper::CaseKeeper;
use crate::geo::{LatLon, distance_m};
use crate::outbox::Outbox;
use crate::runtime::clock::Trust;
use crate::runtime::store::Store;
use crate::runtime::{disk, latest};
use crate::vehicle::mission;
use crate::vehicle::{Dock, Exclusion, Hatch, LandedState, Mission, Telemetry, Vehicle, Weather};

/// A drone in its dock believes to be nearer than this, also between walls.
const ELSEWHERE_M: f64 = 25.0;

#[derive(Clone)]
pub struct Crew {
    pub station: String,
    pub state_dir: PathBuf,
    pub zone: TimeZone,
    pub dock_at: LatLon,
    pub horizontal_fov_deg: f64,
    pub aspect: f64,
    pub limits: Limits,
    pub requests: RequestConfig,
    /// Where nothing flies; patrols have theirs from the configuration.
    pub exclusions: Vec<Exclusion>,
    pub energy: EnergyConfig,
    pub approvals: Arc<Vec<Approval>>,
    pub identification: Option<Identification>,
    pub reach: mission::Limits,
    pub vehicle: Vehicle,
    pub dock: Dock,
    pub weather: Weather,
    pub keeper: CaseKeeper,
    pub store: Store,
    pub outbox: Outbox,
    pub holds: watch::Receiver<Holds>,
    pub clock: watch::Receiver<Trust>,
    /// The sortie under way, for everyone who shows it.
    pub current: Arc<watch::Sender<Option<Sortie>>>,
    /// The station stops.
    pub stopping: CancellationToken,
}

impl Crew {
    pub fn mission(&self, patrol: &Patrol) -> Mission {
        patrol.mission(self.dock_at, self.horizontal_fov_deg, self.aspect)
    }

    /// The newest sortie, under way or ended.
    pub fn current_sortie(&self) -> watch::Receiver<Option<Sortie>> {
        self.current.subscribe()
    }

    /// Whether a part that a flight works with has ended, or is about to: by the station's stop, or by a fault for which
    /// the station is stopped within a second. What such parts do not say any more is no word about the drone or the dock.
    pub fn is_falling_apart(&self) -> bool {
        self.stopping.is_cancelled()
            || self.vehicle.telemetry().has_changed().is_err()
            || self.dock.state().has_changed().is_err()
            || self.keeper.harvest().has_changed().is_err()
    }

    /// Down and disarmed, and nowhere else by what it believes: a dock without a sensor has no more than the drone's word
    /// for that it is in it.
    pub fn may_be_in_dock(&self, drone: &Telemetry) -> bool {
        let elsewhere = drone.position.is_some_and(|fix| distance_m(fix.at, self.dock_at) > ELSEWHERE_M);
        drone.is_down_and_disarmed() && !elsewhere
    }

    /// The station's gates as they stand now.
    pub fn gates(&self) -> Vec<Gate> {
        gates::evaluate(&self.facts(), &self.limits)
    }

    /// The same and what this flight needs besides; with the approval that it would fly under.
    pub fn gates_for(&self, patrol: &Patrol, mission: &Mission) -> (Vec<Gate>, Option<String>) {
        let facts = self.facts();
        let needs = self.needs(&facts, patrol, mission);
        let mut gates = gates::evaluate(&facts, &self.limits);
        gates.extend(gates::evaluate_sortie(&facts, &self.limits, &needs));
        (gates, needs.airspace.ok())
    }

    fn needs(&self, facts: &Facts, patrol: &Patrol, mission: &Mission) -> Needs {
        let way: Vec<LatLon> = mission.waypoints.iter().map(|w| w.at).collect();
        let height_m = mission.waypoints.iter().map(|w| w.height_m).fold(mission.takeoff_height_m, f64::max);
        // Without word of the wind its own gate is closed; the reckoning takes the worst that would be let through.
        let wind = facts.air.as_ref().map_or(self.limits.wind_m_s, |(air, _)| air.wind_m_s);
        let flight_s = self.energy.flight_s(self.dock_at, &way, height_m, mission.speed_m_s, wind);
        let now = Timestamp::now();
        let until = airspace::after(now, flight_s.unwrap_or(0.0) * 1.2 + 60.0);
        let use_ = Use { dock: self.dock_at, way: &way, height_m, from: now, until };
        Needs {
            daylight_only: patrol.config.daylight,
            energy_pct: flight_s.map(|seconds| seconds * self.energy.stated_rate()),
            reserve_pct: self.energy.reserve_pct,
            airspace: airspace::covering(&self.approvals, &use_, &self.zone).map(|a| a.reference.clone()),
            route: self.vehicle.check(mission, self.dock_at).map_err(|fault| fault.to_string()),
        }
    }

    /// Seconds until the window of the approval ends; none when it has ended.
    pub fn window_left_s(&self, reference: &str) -> Option<f64> {
        let now = Timestamp::now();
        let approval = self.approvals.iter().find(|a| a.reference == reference)?;
        let end = approval.end_of_window(now, &self.zone).ok()?;
        Some(end.duration_since(now).as_secs_f64())
    }

    pub fn ceiling_m(&self, reference: Option<&str>) -> f64 {
        let approval = reference.and_then(|r| self.approvals.iter().find(|a| a.reference == r));
        approval.map_or(self.reach.max_height_m, |a| a.ceiling_m.min(self.reach.max_height_m))
    }

    pub fn facts(&self) -> Facts {
        let now = Instant::now();
        let telemetry = latest(&self.vehicle.telemetry());
        let dock = latest(&self.dock.state());
        let age = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let since = |at: Instant| now.saturating_duration_since(at);
        let health = &telemetry.health;
        Facts {
            air: latest(&self.weather.latest()).map(|r| {
                let air = Air {
                    wind_m_s: r.wind_m_s,
                    gust_m_s: r.gust_m_s,
                    rain_mm_h: r.rain_mm_h,
                    temperature_c: r.temperature_c,
                    visibility_m: r.visibility_m,
                };
                (air, since(r.received))
            }),
            dock: age(dock.received).map(|age| {
                let hatch_known = dock.hatch != Hatch::Unknown;
                (DockFacts { hatch_known, drone_present: dock.drone_present, emergency_stop: dock.emergency_stop }, age)
            }),
            link: age(telemetry.last_heartbeat).map(|age| ((), age)),
            on_ground_disarmed: age(telemetry.landed_received)
                .map(|age| (telemetry.landed == LandedState::OnGround && telemetry.armed == Some(false), age)),
            battery_pct: telemetry.battery_pct.zip(age(telemetry.battery_received)),
            cells: health.cells.map(|(cells, at)| (cells, since(at))),
            battery_temperature_c: health.battery_temperature_c.map(|(t, at)| (t, since(at))),
            battery_cycles: health.battery_cycles.map(|(cycles, at)| (cycles, since(at))),
            satellites: telemetry.satellites.map(|s| (s, telemetry.has_3d_fix())).zip(age(telemetry.gps_received)),
            estimator: health.estimator.clone().map(|(word, at)| (word, since(at))),
            preflight: health.preflight.map(|(told, at)| {
                let word = told.map(|ready| if ready { Ok(()) } else { Err(objections(&telemetry)) });
                (word, since(at))
            }),
            identification: self
                .identification
                .as_ref()
                .map(|_| health.identification.clone().map(|(word, at)| (word, since(at)))),
            storage_free_mb: disk::free_mb(&self.state_dir),
            clock: Some(latest(&self.clock)),
            holds: latest(&self.holds),
            sun_deg: sun::elevation_deg(self.dock_at, Timestamp::now()),
        }
    }
}

/// What the autopilot said lately of why it would not arm.
fn objections(telemetry: &Telemetry) -> String {
    // It repeats them every half minute.
    const LATELY: Duration = Duration::from_secs(60);
    let mut said: Vec<&str> = Vec::new();
    for text in telemetry.warnings.iter().filter(|text| text.received.elapsed() < LATELY) {
        let Some(words) = text.text.strip_prefix("PreArm: ").or(text.text.strip_prefix("Preflight Fail: ")) else {
            continue;
        };
        if !said.contains(&words) {
            said.push(words);
        }
    }
    if said.is_empty() {
        return "the autopilot is not ready to arm and has not said why; look at its ground station".to_owned();
    }
    format!("the autopilot is not ready to arm: {}", said.join(", "))
}
