//! Reports of what was given up. Pure: no clock, no I/O.
//!
//! One report covers everything that one transaction dropped: a week offline must not turn every lost picture
//! into a message of its own.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::{Class, Payload, Record};

/// A report names so many records; beyond that it counts.
const NAMED: usize = 100;

/// One record that will not arrive.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Lost {
    pub id: String,
    pub class: Class,
    pub topic: String,
    pub bytes: u64,
    pub accepted_at: Timestamp,
}

/// Builds the `loss` record. `cause` is for machines, `detail` for people.
pub(super) fn report(source: &str, id: ulid::Ulid, at: Timestamp, cause: &str, detail: &str, lost: &[Lost]) -> Record {
    let id = format!("loss/{id}");
    let event = json!({
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": "aerie.loss.v1",
        "time": at,
        "datacontenttype": "application/json",
        "data": {
            "cause": cause,
            "detail": detail,
            "count": lost.len(),
            "bytes": lost.iter().map(|one| one.bytes).sum::<u64>(),
            "lost": lost.iter().take(NAMED).collect::<Vec<_>>(),
            "unnamed": lost.len().saturating_sub(NAMED),
        },
    });
    Record {
        id,
        class: Class::Loss,
        key: "loss".to_owned(),
        topic: "loss".to_owned(),
        content_type: CONTENT_TYPE.to_owned(),
        payload: Payload::Bytes(event.to_string().into_bytes()),
        captured_at: None,
    }
}

pub(super) const CONTENT_TYPE: &str = "application/cloudevents+json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_everything_but_names_a_bounded_number() {
        let lost: Vec<Lost> = (0..250)
            .map(|n| Lost {
                id: n.to_string(),
                class: Class::Evidence,
                topic: "evidence/x".into(),
                bytes: 10,
                accepted_at: Timestamp::UNIX_EPOCH,
            })
            .collect();
        let record = report("aerie/v1/s", ulid::Ulid::nil(), Timestamp::UNIX_EPOCH, "budget", "full", &lost);
        let Payload::Bytes(body) = record.payload else { panic!("a report travels in the database") };
        let event: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(event["id"], record.id);
        assert_eq!(event["data"]["count"], 250);
        assert_eq!(event["data"]["bytes"], 2500);
        assert_eq!(event["data"]["lost"].as_array().unwrap().len(), NAMED);
        assert_eq!(event["data"]["unnamed"], 150);
    }
}
