//! docs/protocol holds true.

use std::path::Path;

use aerie::outbox::{Class, Options, Outbox, Payload};
use aerie::uplink::cloudevents;
use aerie::uplink::commands::{Envelope, Reply, Status};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::*;

/// What the program makes, for each file in docs/protocol/examples. Fixed inputs, so that the files are stable.
fn examples() -> Vec<(&'static str, &'static str, Value)> {
    use aerie::cases::{Case, CaseState, Kind, Kinds, event};
    use aerie::geo::{Ellipse, LatLon, Located};
    use aerie::perception::protocol::ModelName;

    let at = |second: i64| Timestamp::from_second(1_795_000_000 + second).unwrap();
    let case_id = "01KAQ2Z5V8M4Q0V7C3N9J2T6RX";
    let case = Case {
        id: case_id.into(),
        kind: Kind::BlueRoof,
        state: CaseState::Suspected,
        confidence: 0.87,
        located: Located {
            at: LatLon { lat: 23.0412, lon: 112.9046 },
            uncertainty: Ellipse { semi_major_m: 2.4, semi_minor_m: 1.1, bearing_deg: 37.0 },
            slant_m: 118.0,
        },
        before: None,
        first_seen: at(0),
        last_seen: at(600),
        count: 2,
        sortie: "01KAQ2Y0000000000000000001".into(),
        experimental: false,
        sequence: 2,
        evidence: vec!["0f".repeat(32)],
        event: None,
    };
    let division =
        event::Division { town: Some("丹灶镇".into()), district: Some("南海区".into()), village: None };
    let model = ModelName { name: "town-8".into(), version: "0.1.0".into(), sha256: "a1".repeat(32) };
    let feature = event::feature(&case, &Kinds::default(), &division, Some(&model));

    let sortie = json!({
        "id": "01KAQ2Y0000000000000000001",
        "patrol": "river",
        "trigger": "schedule",
        "operator": null,
        "state": "refused",
        "reason": "wind: 13.2 m/s, the limit is 10.0 m/s",
        "planned_at": at(-60),
        "started_at": null,
        "ended_at": at(0),
        "frames": 0,
        "frames_lost": 0,
        "cases": 0,
        "coverage": 0.0,
        "progress": 0.0,
        "gates": [{ "gate": "wind", "passed": false, "reason": "13.2 m/s, the limit is 10.0 m/s" }],
    });
    let envelope = Envelope {
        id: "01KAQ30000000000000000000A".into(),
        station: "danzao-1".into(),
        name: "patrol.start".into(),
        args: json!({ "patrol": "river" }),
        issued_at: at(0),
        deadline: at(120),
        operator: "li.wei".into(),
    };
    let reply = Reply {
        id: Some(envelope.id.clone()),
        status: Status::Refused,
        reason: Some("wind: 13.2 m/s, the limit is 10.0 m/s".into()),
        data: Value::Null,
    };
    let sortie_id = "01KAQ2Y0000000000000000001";
    vec![
        ("case-event.json", "case-event", cloudevents::case_event("danzao-1", case_id, 2, at(601), feature)),
        ("sortie-event.json", "sortie-event", cloudevents::sortie_event("danzao-1", sortie_id, 2, at(0), sortie)),
        ("envelope.json", "envelope", serde_json::to_value(envelope).unwrap()),
        ("reply.json", "reply", serde_json::to_value(reply).unwrap()),
    ]
}

/// Compares with a file of docs/protocol, or writes it when `AERIE_UPDATE` is set.
fn assert_on_disk(file: &str, made: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol").join(file);
    if std::env::var_os("AERIE_UPDATE").is_some() {
        std::fs::write(&path, format!("{}\n", serde_json::to_string_pretty(made).unwrap())).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        &found, made,
        "docs/protocol/{file} is out of date: AERIE_UPDATE=1 cargo test --test delivery documented"
    );
}

fn assert_fits(schema: &str, instance: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/protocol/{schema}.schema.json"));
    let text = std::fs::read_to_string(&path).unwrap();
    let validator = jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap();
    let faults: Vec<String> = validator.iter_errors(instance).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(faults.is_empty(), "{schema}: {faults:#?}");
}

#[test]
fn documented_schemas_and_examples_are_what_the_program_makes() {
    assert_on_disk("envelope.schema.json", schemars::schema_for!(Envelope).as_value());
    assert_on_disk("reply.schema.json", schemars::schema_for!(Reply).as_value());
    for (file, schema, made) in examples() {
        assert_on_disk(&format!("examples/{file}"), &made);
        assert_fits(schema, &made);
    }
}

#[tokio::test]
async fn loss_events_are_as_documented() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { budget_bytes: 1_000, source: "aerie/v1/s1".into(), ..Options::default() };
    let outbox = Outbox::open_with(dir.path(), options).unwrap();
    outbox.accept(vec![note("old", Class::Evidence, "", 900), note("new", Class::Evidence, "", 900)]).await.unwrap();
    let report = outbox.next(1, u64::MAX).await.unwrap().remove(0).record;
    let Payload::Bytes(body) = report.payload else { panic!("a report travels in the database") };
    assert_fits("loss-event", &serde_json::from_slice(&body).unwrap());
}
