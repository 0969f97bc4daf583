//! Pure: the way that the newest sortie has really flown.

use serde_json::{Value, json};

use crate::geo::LatLon;
use crate::patrol::Sortie;
use crate::vehicle::Telemetry;

/// Points kept. Twice a second that is half an hour; beyond it every other point goes, again and again.
const LIMIT: usize = 4000;
/// Hovering adds nothing.
const STEP_M: f64 = 0.5;

#[derive(Debug, Default)]
pub struct Track {
    sortie: Option<String>,
    points: Vec<LatLon>,
}

impl Track {
    /// Takes the drone's place, while it flies.
    pub fn note(&mut self, sortie: Option<&Sortie>, vehicle: &Telemetry) {
        let Some(sortie) = sortie.filter(|s| s.state.is_flying() && s.started_at.is_some()) else {
            return;
        };
        if self.sortie.as_ref() != Some(&sortie.id) {
            self.sortie = Some(sortie.id.clone());
            self.points.clear();
        }
        let Some(fix) = vehicle.position.filter(|_| vehicle.linked) else {
            return;
        };
        if self.points.last().is_some_and(|last| last.distance_m(fix.at) < STEP_M) {
            return;
        }
        if self.points.len() >= LIMIT {
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.points.push(fix.at);
    }

    pub fn geojson(&self) -> Value {
        line(&self.points)
    }
}

/// A GeoJSON LineString.
pub fn line(points: &[LatLon]) -> Value {
    let coordinates: Vec<[f64; 2]> = points.iter().map(|p| [p.lon, p.lat]).collect();
    json!({"type": "LineString", "coordinates": coordinates})
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tokio::time::Instant;

    use super::*;
    use crate::patrol::{State, Trigger};
    use crate::vehicle::Fix;

    fn flying(id: &str) -> Sortie {
        let mut sortie = Sortie::new(id.into(), "p", "p", Trigger::Cli, None, Timestamp::UNIX_EPOCH);
        for state in [State::Gating, State::DockOpening, State::Arming, State::Airborne] {
            sortie.become_(state, "", Timestamp::UNIX_EPOCH).unwrap();
        }
        sortie
    }

    fn at(lat: f64) -> Telemetry {
        let at = LatLon { lat, lon: 113.0 };
        let position = Some(Fix { at, height_m: 80.0, amsl_m: 90.0, received: Instant::now() });
        Telemetry { linked: true, position, ..Telemetry::default() }
    }

    #[tokio::test]
    async fn the_track_is_of_the_newest_sortie_in_the_air_and_stays_after_it_landed() {
        let mut track = Track::default();
        track.note(None, &at(23.0));
        assert_eq!(track.points.len(), 0);
        let mut first = flying("one");
        for i in 0..10 {
            track.note(Some(&first), &at(23.0 + f64::from(i) * 1e-4));
        }
        first.become_(State::Landing, "", Timestamp::UNIX_EPOCH).unwrap();
        first.become_(State::DockClosing, "", Timestamp::UNIX_EPOCH).unwrap();
        track.note(Some(&first), &at(24.0));
        assert_eq!(track.points.len(), 10);
        track.note(Some(&flying("two")), &at(25.0));
        assert_eq!(track.geojson()["coordinates"], json!([[113.0, 25.0]]));
    }

    #[tokio::test]
    async fn a_lost_link_draws_nothing_and_a_long_flight_never_grows_without_bound() {
        let mut track = Track::default();
        let sortie = flying("one");
        track.note(Some(&sortie), &Telemetry { linked: false, ..at(23.0) });
        assert_eq!(track.points.len(), 0);
        for i in 0..20_000 {
            track.note(Some(&sortie), &at(23.0 + f64::from(i) * 1e-5));
            assert!(track.points.len() <= LIMIT);
        }
        assert_eq!(track.points[0].lat, 23.0, "its beginning stays");
        assert!((track.points.last().unwrap().lat - (23.0 + 19_999.0 * 1e-5)).abs() < 1e-9);
    }
}
