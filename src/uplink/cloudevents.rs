//! CloudEvents 1.0 in the structured JSON mode. Pure: no clock, no I/O.
//!
//! The id is made of what the event is about, never of when it is sent: a repeat carries the same one.

use jiff::Timestamp;
use serde_json::{Value, json};

/// The content type of a structured event.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// The `source` of everything a station says.
pub fn source(station: &str) -> String {
    format!("aerie/v1/{station}")
}

/// The stable id of a case's event.
pub fn event_id(subject: &str, sequence: u64) -> String {
    format!("{subject}/{sequence}")
}

/// A case as it stands after its `sequence`-th event (from 1). `feature` is a GeoJSON Feature with a Point in WGS 84.
pub fn case_event(station: &str, case_id: &str, sequence: u64, time: Timestamp, feature: Value) -> Value {
    event(station, "aerie.case.v1", case_id, sequence, time, "application/geo+json", feature)
}

/// What happened to a sortie: planned, refused, started, progress, finished, aborted.
pub fn sortie_event(station: &str, sortie_id: &str, sequence: u64, time: Timestamp, data: Value) -> Value {
    event(station, "aerie.sortie.v1", sortie_id, sequence, time, "application/json", data)
}

/// One step of an update of the station's model, rules or register.
pub fn update_event(station: &str, sequence: u64, time: Timestamp, data: Value) -> Value {
    event(station, "aerie.update.v1", "update", sequence, time, "application/json", data)
}

fn event(
    station: &str,
    kind: &str,
    subject: &str,
    sequence: u64,
    time: Timestamp,
    content_type: &str,
    data: Value,
) -> Value {
    json!({
        "specversion": "1.0",
        "id": event_id(subject, sequence),
        "source": source(station),
        "type": kind,
        "subject": subject,
        "time": time,
        "datacontenttype": content_type,
        "sequence": sequence,
        "data": data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_event_of_a_case_has_the_same_id_whenever_it_is_built() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = case_event("danzao-1", "01J", 3, at(1), json!({}));
        let again = case_event("danzao-1", "01J", 3, at(99), json!({}));
        assert_eq!(first["id"], again["id"]);
        assert_eq!(first["id"], "01J/3");
        assert_ne!(first["id"], case_event("danzao-1", "01J", 4, at(1), json!({}))["id"]);
    }
}
