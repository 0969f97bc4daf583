//! What is known of the station at one moment, so that everything said of it is said of the same moment.

use jiff::Timestamp;
use tokio::time::Instant;

use crate::geo::LatLon;
use crate::outbox::Stats;
use crate::patrol::Sortie;
use crate::patrol::gates::{Gate, Limits};
use crate::perception::PerceptionState;
use crate::runtime::latest;
use crate::station::Station;
use crate::update;
use crate::uplink::UplinkState;
use crate::vehicle::{DockState, Reading, Telemetry};

#[derive(Debug, Clone)]
pub struct Snapshot {
    pub time: Timestamp,
    /// The same moment on the clock that ages are reckoned by.
    pub now: Instant,
    pub id: String,
    pub name: String,
    pub dock_at: LatLon,
    /// An IANA name.
    pub timezone: String,
    pub simulated: bool,
    pub limits: Limits,
    pub vehicle: Telemetry,
    pub dock: DockState,
    /// What the dock, and the weather station, did not tell when last asked, and why.
    pub dock_trouble: Option<String>,
    pub weather: Option<Reading>,
    pub weather_trouble: Option<String>,
    pub perception: PerceptionState,
    pub uplink: UplinkState,
    pub outbox: Stats,
    pub updates: update::View,
    /// The newest one, under way or ended.
    pub sortie: Option<Sortie>,
    pub gates: Vec<Gate>,
}

impl Snapshot {
    pub fn take(station: &Station) -> Snapshot {
        let config = &station.checked.config;
        Snapshot {
            time: Timestamp::now(),
            now: Instant::now(),
            id: config.station.id.clone(),
            name: config.station.name.clone(),
            dock_at: config.station.dock,
            timezone: config.station.timezone.clone(),
            simulated: config.station.simulated,
            limits: config.gates.clone(),
            vehicle: latest(&station.vehicle.telemetry()),
            dock: latest(&station.dock.state()),
            dock_trouble: latest(&station.dock.trouble()),
            weather: latest(&station.weather.latest()),
            weather_trouble: latest(&station.weather.trouble()),
            perception: latest(&station.perception.state()),
            uplink: latest(&station.uplink),
            outbox: latest(&station.outbox.stats()),
            updates: latest(&station.updates.view()),
            sortie: latest(&station.dispatcher.current()),
            gates: station.dispatcher.gates(),
        }
    }

    /// Seconds since the weather was heard.
    pub fn weather_age_s(&self) -> Option<f64> {
        self.weather.map(|reading| self.now.saturating_duration_since(reading.received).as_secs_f64())
    }
}

/// A station at rest with everything well: the tests' starting point.
#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::perception::protocol::ModelName;
    use crate::vehicle::{Fix, FlightMode, Hatch, LandedState};

    pub fn at_rest() -> Snapshot {
        let now = Instant::now();
        let time: Timestamp = "2026-11-20T02:00:00Z".parse().unwrap();
        let dock_at = LatLon { lat: 23.05, lon: 113.0 };
        Snapshot {
            time,
            now,
            id: "danzao-01".to_owned(),
            name: "丹灶一号站".to_owned(),
            dock_at,
            timezone: "Asia/Shanghai".to_owned(),
            simulated: false,
            limits: Limits::default(),
            vehicle: Telemetry {
                linked: true,
                armed: Some(false),
                mode: Some(FlightMode::Hold),
                landed: LandedState::OnGround,
                position: Some(Fix { at: dock_at, height_m: 0.1, amsl_m: 12.0, received: now }),
                battery_pct: Some(96.0),
                satellites: Some(17),
                ..Telemetry::default()
            },
            dock: DockState {
                hatch: Hatch::Closed,
                drone_present: Some(true),
                received: Some(now),
                ..DockState::default()
            },
            dock_trouble: None,
            weather_trouble: None,
            weather: Some(Reading {
                wind_m_s: 3.1,
                gust_m_s: 5.2,
                rain_mm_h: 0.0,
                temperature_c: 24.6,
                visibility_m: None,
                received: now,
            }),
            perception: PerceptionState {
                running: true,
                model: Some(ModelName { name: "m".into(), version: "1".into(), sha256: "0".into() }),
                ..PerceptionState::default()
            },
            uplink: UplinkState {
                connected: true,
                since: time,
                last_error: None,
                stranger: false,
                delivered: 4,
                unheard: 0,
                refused: 0,
                month_bytes: 0,
            },
            updates: update::View::default(),
            outbox: Stats::default(),
            sortie: None,
            gates: Vec::new(),
        }
    }
}
