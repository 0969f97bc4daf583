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
    fn the_example_of_the_protocol_is_what_is_made() {
        let lost = [Lost {
            id: "01KAQ2Z5V8M4Q0V7C3N9J2T6RX/evidence/0f0f".into(),
            class: Class::Evidence,
            topic: format!("evidence/{}", "0f".repeat(32)),
            bytes: 412_336,
            accepted_at: Timestamp::from_second(1_795_000_000).unwrap(),
        }];
        let at = Timestamp::from_second(1_795_200_000).unwrap();
        let detail = "the queue was over its budget of 2048 MB; the oldest pictures gave way";
        let record =
            report("aerie/v1/danzao-1", ulid::Ulid::from_parts(1_795_200_000_000, 7), at, "budget", detail, &lost);
        let Payload::Bytes(body) = record.payload else { panic!("a report travels in the database") };
        let made: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol/examples/loss-event.json");
        if std::env::var_os("AERIE_UPDATE").is_some() {
            std::fs::write(path, format!("{}\n", serde_json::to_string_pretty(&made).unwrap())).unwrap();
        }
        let written: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(written, made, "AERIE_UPDATE=1 writes it anew");
    }

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
