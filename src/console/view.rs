//! Pure: what is known, as the JSON that the page and the command line read (`web/src/types.ts` names the shapes).

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::problems::Problem;
use super::snapshot::Snapshot;
use super::track::line;
use crate::cases::event::{self, Division};
use crate::cases::{Case, Kinds};
use crate::config::Fault;
use crate::outbox::{Class, Latency, Listed, Stats};
use crate::patrol::config::{Ground, Patrol};
use crate::patrol::dispatcher::Turn;
use crate::patrol::schedule::{Holidays, Schedule};
use crate::patrol::{Sortie, State};
use crate::perception::protocol::ModelName;
use crate::update;
use crate::update::states::{Record, Release};
use crate::vehicle::FlightMode;

/// A page that has heard nothing for so long calls all it shows old. The stream speaks at least every 2 s.
pub const STALE_AFTER_S: f64 = 6.0;

pub fn status(now: &Snapshot, problems: &[Problem]) -> Value {
    let v = &now.vehicle;
    json!({
        "station": now.id,
        "name": now.name,
        "version": env!("CARGO_PKG_VERSION"),
        "time": now.time,
        "timezone": now.timezone,
        "state": if problems.is_empty() { "ok" } else { "degraded" },
        "demo": now.simulated,
        "problems": problems,
        "dock": {"lat": now.dock_at.lat, "lon": now.dock_at.lon, "state": now.dock.hatch},
        "vehicle": {
            "linked": v.linked,
            "armed": v.armed == Some(true),
            "mode": v.mode.map(mode),
            "lat": v.position.map(|p| p.at.lat),
            "lon": v.position.map(|p| p.at.lon),
            "height_m": v.position.map(|p| rounded(p.height_m, 10.0)),
            "heading_deg": v.heading_deg.map(|h| rounded(h, 10.0)),
            "speed_m_s": v.speed_m_s.map(|s| rounded(s, 10.0)),
            "battery_pct": v.battery_pct.map(|b| rounded(b, 10.0)),
            "satellites": v.satellites,
        },
        "weather": now.weather.map(|w| json!({
            "wind_m_s": w.wind_m_s,
            "gust_m_s": w.gust_m_s,
            "rain_mm_h": w.rain_mm_h,
            "temperature_c": w.temperature_c,
            "age_s": now.weather_age_s().map(f64::floor),
        })),
        "sortie": now.sortie.as_ref().map(sortie),
        "uplink": {
            "connected": now.uplink.connected,
            "since": now.uplink.since,
            "queued": now.outbox.queued,
            "delivered": now.uplink.delivered,
            "unheard": now.uplink.unheard,
        },
        "perception": {
            "running": now.perception.running,
            "restarts": now.perception.restarts,
            "frames": now.perception.frames,
            "behind": now.perception.behind,
            "model": now.perception.model.as_ref().map(|m| json!({"name": m.name, "version": m.version})),
            "execution_provider": now.perception.provider,
        },
        "updates": updates(&now.updates),
        "gates": now.gates,
        "stale_after_s": STALE_AFTER_S,
    })
}

/// What was taken over the air, what is under way and what was refused last, each with its reason.
fn updates(view: &update::View) -> Value {
    let of = |release: &Release| format!("{} {}", release.name, release.version);
    let known = view.kinds.iter().filter(|k| k.record != Record::default());
    let kinds = known.map(|k| {
        let candidate = k.record.candidate.as_ref();
        let refused = k.record.refused.values().max_by_key(|refusal| refusal.at);
        json!({
            "kind": k.kind,
            "committed": k.record.committed.as_ref().map(of),
            "candidate": candidate.map(|c| json!({"release": of(&c.release), "stage": c.stage, "since": c.since})),
            "refused": refused.map(|r| json!({"release": of(&r.release), "stage": r.stage, "reason": r.reason, "at": r.at})),
        })
    });
    json!({"kinds": kinds.collect::<Vec<_>>(), "doing": view.doing, "trouble": view.last_error, "last_look": view.last_look, "warning": view.warning})
}

/// A station that flies nothing because of its configuration.
pub fn faulty_status(time: Timestamp, faults: &[Fault], file: &str) -> Value {
    let problems: Vec<Value> = faults
        .iter()
        .map(|Fault { key, fault }| {
            let message = if key.is_empty() { format!("{file}: {fault}") } else { format!("{file}: {key}: {fault}") };
            let remedy = "correct the file, try it with `aerie config check`, then start the station again";
            json!({"part": "configuration", "message": message, "remedy": remedy})
        })
        .collect();
    json!({
        "station": "",
        "name": "",
        "version": env!("CARGO_PKG_VERSION"),
        "time": time,
        "state": "degraded",
        "demo": false,
        "problems": problems,
        "dock": null,
        "vehicle": null,
        "weather": null,
        "sortie": null,
        "uplink": null,
        "perception": null,
        "updates": null,
        "gates": [],
        "stale_after_s": STALE_AFTER_S,
    })
}

/// What of a status is worth telling at once: not its time, nor an age that only counts on.
pub fn worth_telling(status: &Value) -> Value {
    let mut status = status.clone();
    if let Some(fields) = status.as_object_mut() {
        fields.remove("time");
    }
    if let Some(weather) = status["weather"].as_object_mut() {
        weather.remove("age_s");
    }
    status
}

pub fn sortie(sortie: &Sortie) -> Value {
    json!({
        "id": sortie.id,
        "patrol": sortie.patrol,
        "patrol_name": sortie.patrol_name,
        "trigger": sortie.trigger,
        "state": sortie.state,
        "reason": sortie.reason,
        "planned_at": sortie.planned_at,
        "started_at": sortie.started_at,
        "ended_at": sortie.ended_at,
        "frames": sortie.frames,
        "frames_lost": sortie.frames_lost,
        "cases": sortie.cases,
        "coverage": rounded(sortie.coverage, 1000.0),
        "survey": sortie.survey,
        "progress": rounded(sortie.progress, 1000.0),
        "route": (sortie.route.len() > 1).then(|| line(&sortie.route)),
        "operator": sortie.operator,
        "continues": sortie.continues,
        "can_be_continued": sortie.state.is_terminal() && sortie.state != State::Done && sortie.covered.is_some(),
        "approval": sortie.approval,
        "identification": sortie.identification,
        "steps": sortie.steps,
    })
}

/// The stored sorties, newest first, with the newest one as it stands now.
pub fn sorties(stored: &[Sortie], current: Option<&Sortie>) -> Value {
    let missing = current.filter(|c| stored.iter().all(|s| s.id != c.id));
    let known = stored.iter().map(|s| current.filter(|c| c.id == s.id).unwrap_or(s));
    missing.into_iter().chain(known).map(sortie).collect()
}

pub fn patrol(patrol: &Patrol, zone: &str, turn: Option<Turn>, last: Option<&Sortie>) -> Value {
    let area = match &patrol.ground {
        Ground::Area(ring) => {
            json!({"type": "Polygon", "coordinates": [line(ring)["coordinates"]]})
        }
        Ground::Route(way) => line(way),
    };
    let (next_at, waits) = match turn {
        None => (None, None),
        Some(Turn::Next(at)) => (Some(at), None),
        Some(Turn::Waits { until, why }) => (None, Some(json!({"until": until, "why": why}))),
    };
    json!({
        "id": patrol.config.id,
        "name": patrol.config.name,
        "area": area,
        "schedule": patrol.config.schedule.as_ref().map(schedule),
        "timezone": zone,
        "next_at": next_at,
        "waits": waits,
        "last": last.map(sortie),
    })
}

/// `09:00 / 15:30 · mon tue wed`.
fn schedule(schedule: &Schedule) -> String {
    let mut words = schedule.at.join(" / ");
    if schedule.weekdays.len() < 7 && schedule.holidays != Holidays::Only {
        let days: Vec<String> = schedule.weekdays.iter().map(|day| format!("{day:?}").to_lowercase()).collect();
        words = format!("{words} · {}", days.join(" "));
    }
    match schedule.holidays {
        Holidays::Fly => words,
        Holidays::Skip => format!("{words} · no holidays"),
        Holidays::Only => format!("{words} · holidays only"),
    }
}

/// Which events have reached upstream, as far as the outbox's newest rows tell.
#[derive(Debug, Clone, Default)]
pub struct Deliveries {
    listed: HashMap<String, bool>,
    /// Rows older than the listed ones are delivered, unless something that old still waits.
    oldest_queued_at: Option<Timestamp>,
}

impl Deliveries {
    pub fn new(rows: Vec<Listed>, stats: &Stats) -> Deliveries {
        let listed = rows.into_iter().map(|row| (row.id, row.state == "delivered")).collect();
        Deliveries { listed, oldest_queued_at: stats.oldest_queued_at }
    }

    /// Whether the newest event of a case was acknowledged.
    pub fn has(&self, case: &Case) -> bool {
        let Some(event) = &case.event else {
            return false;
        };
        let Some(id) = event["id"].as_str() else {
            return false;
        };
        self.listed.get(id).copied().unwrap_or_else(|| {
            let made: Option<Timestamp> = event["time"].as_str().and_then(|time| time.parse().ok());
            made.is_some_and(|made| self.oldest_queued_at.is_none_or(|oldest| made < oldest))
        })
    }
}

pub fn case(case: &Case, kinds: &Kinds, division: &Division, delivered: bool) -> Value {
    // The model that found it, which need not be the one that runs now.
    let model = case.event.as_ref().map(|event| event["data"]["properties"]["model"].clone());
    let model: Option<ModelName> = model.and_then(|model| serde_json::from_value(model).ok());
    let mut feature = event::feature(case, kinds, division, model.as_ref());
    feature["properties"]["delivered"] = delivered.into();
    feature
}

pub fn collection(features: Vec<Value>) -> Value {
    json!({"type": "FeatureCollection", "features": features})
}

/// How many records wait and went out, and how long cases took from the shutter to the broker's word.
pub fn delivery(queued: u64, delivered: u64, latencies: &[Latency]) -> Value {
    let mut took: Vec<i128> = latencies
        .iter()
        .filter(|l| l.class == Class::Case)
        .map(|l| l.acked_at.duration_since(l.captured_at))
        // A drone's clock that runs ahead must not look like speed.
        .map(|took| took.max(SignedDuration::ZERO).as_millis())
        .collect();
    took.sort_unstable();
    json!({
        "queued": queued,
        "delivered": delivered,
        "latency_ms": {"p50": percentile(&took, 0.50), "p99": percentile(&took, 0.99), "count": took.len()},
    })
}

/// The smallest value that `share` of the sorted values do not exceed (nearest rank).
fn percentile(sorted: &[i128], share: f64) -> Option<i64> {
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).and_then(|value| i64::try_from(*value).ok())
}

fn mode(mode: FlightMode) -> String {
    match mode {
        FlightMode::Manual => "MANUAL".to_owned(),
        FlightMode::Guided => "GUIDED".to_owned(),
        FlightMode::Auto => "AUTO".to_owned(),
        FlightMode::Return => "RETURN".to_owned(),
        FlightMode::Land => "LAND".to_owned(),
        FlightMode::Hold => "HOLD".to_owned(),
        FlightMode::Other(number) => format!("MODE {number}"),
    }
}

fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::problems;
    use super::super::snapshot::tests::at_rest;
    use super::*;
    use crate::cases::{CaseState, Kind};
    use crate::geo::{Ellipse, LatLon, Located};
    use crate::patrol::{PatrolConfig, Trigger};
    use crate::vehicle::Telemetry;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    #[tokio::test]
    async fn a_status_has_every_field_that_the_page_reads() {
        let mut now = at_rest();
        now.sortie = Some(Sortie::new("s".into(), "north", "North", Trigger::Page, None, at(0)));
        let status = status(&now, &[]);
        // From web/src/types.ts.
        let shape = [
            (
                "",
                "station name version time state demo problems dock vehicle weather sortie uplink perception gates stale_after_s",
            ),
            ("/dock", "lat lon state"),
            ("/vehicle", "linked armed mode lat lon height_m heading_deg speed_m_s battery_pct satellites"),
            ("/weather", "wind_m_s gust_m_s rain_mm_h temperature_c age_s"),
            (
                "/sortie",
                "id patrol patrol_name trigger state reason planned_at started_at ended_at frames cases coverage progress route operator",
            ),
            ("/uplink", "connected since queued delivered"),
            ("/perception", "running restarts frames behind model execution_provider"),
            ("/perception/model", "name version"),
        ];
        for (at, fields) in shape {
            let part = status.pointer(at).unwrap();
            for field in fields.split(' ') {
                assert!(part.get(field).is_some(), "{at}/{field} is missing in {part}");
            }
        }
        assert_eq!(status["state"], "ok");
        assert_eq!(status["dock"]["state"], "closed");
        assert_eq!(status["vehicle"]["mode"], "HOLD");
        assert_eq!(status["sortie"]["route"], Value::Null);
    }

    #[tokio::test]
    async fn what_was_never_heard_is_null_and_never_zero() {
        let mut now = at_rest();
        now.vehicle = Telemetry::default();
        now.weather = None;
        let status = status(&now, &problems::of(&now));
        assert_eq!(status["state"], "degraded");
        assert_eq!(status["weather"], Value::Null);
        for field in ["lat", "lon", "height_m", "battery_pct", "satellites", "speed_m_s", "mode"] {
            assert_eq!(status["vehicle"][field], Value::Null, "{field}");
        }
        assert_eq!(status["vehicle"]["linked"], false);
    }

    #[tokio::test]
    async fn time_alone_is_not_worth_telling_but_a_change_is() {
        let mut now = at_rest();
        let first = worth_telling(&status(&now, &[]));
        now.time = at(100);
        now.now += Duration::from_secs(3);
        assert_eq!(worth_telling(&status(&now, &[])), first);
        now.vehicle.battery_pct = Some(95.0);
        assert_ne!(worth_telling(&status(&now, &[])), first);
    }

    #[test]
    fn every_fault_of_a_configuration_is_a_problem_that_names_file_and_key() {
        let faults = [
            Fault { key: "gates.wind_ms".into(), fault: "is not a key here".into() },
            Fault { key: String::new(), fault: "line 3: not TOML".into() },
        ];
        let status = faulty_status(at(0), &faults, "station.toml");
        assert_eq!(status["state"], "degraded");
        assert_eq!(status["problems"][0]["message"], "station.toml: gates.wind_ms: is not a key here");
        assert_eq!(status["problems"][1]["message"], "station.toml: line 3: not TOML");
    }

    #[test]
    fn the_sortie_under_way_is_shown_as_it_is_now_and_once() {
        let stored = Sortie::new("2".into(), "p", "p", Trigger::Page, None, at(0));
        let older = Sortie::new("1".into(), "p", "p", Trigger::Page, None, at(0));
        let current = Sortie { frames: 7, ..stored.clone() };
        let shown = sorties(&[stored, older.clone()], Some(&current));
        assert_eq!(shown.as_array().unwrap().len(), 2);
        assert_eq!(shown[0]["frames"], 7);
        let shown = sorties(&[older], Some(&current));
        assert_eq!([&shown[0]["id"], &shown[1]["id"]], ["2", "1"]);
    }

    fn a_case(sequence: u64) -> Case {
        let located = Located {
            at: LatLon { lat: 23.05, lon: 113.0 },
            uncertainty: Ellipse { semi_major_m: 3.0, semi_minor_m: 2.0, bearing_deg: 10.0 },
            slant_m: 80.0,
        };
        Case {
            id: "c".into(),
            kind: Kind::Garbage,
            state: CaseState::Suspected,
            verdict: None,
            confidence: 0.9,
            located,
            before: None,
            first_seen: at(0),
            last_seen: at(0),
            count: 1,
            sortie: "s".into(),
            experimental: false,
            sequence,
            evidence: vec!["0".repeat(64)],
            event: Some(json!({
                "id": format!("c/{sequence}"),
                "time": at(0),
                "data": {"properties": {"model": {"name": "old", "version": "1", "sha256": "0"}}},
            })),
        }
    }

    fn row(id: &str, state: &'static str) -> Listed {
        Listed {
            seq: 1,
            id: id.into(),
            class: Class::Case,
            key: "c".into(),
            topic: String::new(),
            bytes: 1,
            state,
            attempts: 0,
            reason: None,
            captured_at: None,
            accepted_at: None,
            ended_at: None,
        }
    }

    #[test]
    fn a_case_is_delivered_once_its_newest_event_is() {
        let rows = vec![row("c/1", "delivered"), row("c/2", "queued")];
        let known = Deliveries::new(rows, &Stats { oldest_queued_at: Some(at(0)), ..Stats::default() });
        assert!(known.has(&a_case(1)));
        assert!(!known.has(&a_case(2)));
        // Not among the rows that were read: old enough to be done, unless something older waits.
        assert!(!known.has(&a_case(3)));
        assert!(Deliveries::new(Vec::new(), &Stats::default()).has(&a_case(3)));
        let waiting = Stats { oldest_queued_at: Some(at(5)), ..Stats::default() };
        assert!(Deliveries::new(Vec::new(), &waiting).has(&a_case(3)));
        assert!(!known.has(&Case { event: None, ..a_case(1) }));
    }

    #[test]
    fn a_case_is_a_feature_with_every_property_that_the_page_reads() {
        let shown = case(&a_case(1), &Kinds::default(), &Division::default(), true);
        // From web/src/types.ts.
        let fields = "id kind kind_zh state confidence experimental first_seen last_seen count sortie evidence uncertainty position code code_system delivered";
        for field in fields.split(' ') {
            assert!(shown["properties"].get(field).is_some(), "{field} is missing in {shown}");
        }
        assert_eq!(shown["geometry"]["coordinates"], json!([113.0, 23.05]));
        assert_eq!(shown["properties"]["model"]["name"], "old");
    }

    #[test]
    fn latencies_are_of_cases_alone_by_nearest_rank() {
        let one = |class, ms: i64| Latency {
            id: String::new(),
            class,
            captured_at: at(0),
            acked_at: at(0) + SignedDuration::from_millis(ms),
        };
        let mut all: Vec<Latency> = (1..=100).map(|ms| one(Class::Case, ms)).collect();
        all.push(one(Class::Evidence, 100_000));
        let shown = delivery(3, 100, &all);
        assert_eq!(shown["latency_ms"], json!({"p50": 50, "p99": 99, "count": 100}));
        assert_eq!(delivery(0, 0, &[])["latency_ms"], json!({"p50": null, "p99": null, "count": 0}));
        assert_eq!(delivery(0, 1, &[one(Class::Case, -500)])["latency_ms"]["p50"], 0);
    }

    #[test]
    fn a_patrol_shows_its_area_and_its_schedule_in_words() {
        let text = "id = \"n\"\nname = \"N\"\narea = \"a\"\nheight_m = 80.0\n[schedule]\nat = [\"09:00\", \"15:30\"]\nweekdays = [\"mon\", \"fri\"]\nholidays = \"skip\"";
        let config: PatrolConfig = toml::from_str(text).unwrap();
        let ring = vec![LatLon { lat: 23.0, lon: 113.0 }; 4];
        let shown =
            patrol(&Patrol { config, ground: Ground::Area(ring), exclusions: Vec::new() }, "Asia/Shanghai", None, None);
        assert_eq!(shown["schedule"], "09:00 / 15:30 · mon fri · no holidays");
        assert_eq!(shown["area"]["type"], "Polygon");
        assert_eq!(shown["area"]["coordinates"][0].as_array().unwrap().len(), 4);
    }
}
