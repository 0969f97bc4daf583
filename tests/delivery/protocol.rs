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
    use aerie::cases::verdict::Verdict;
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
        verdict: None,
        sequence: 2,
        evidence: vec!["0f".repeat(32)],
        event: None,
    };
    let division =
        event::Division { town: Some("丹灶镇".into()), district: Some("南海区".into()), village: None };
    let model = ModelName { name: "town-8".into(), version: "0.1.0".into(), sha256: "a1".repeat(32) };
    let feature = event::feature(&case, &Kinds::default(), &division, Some(&model));
    let judged = Case {
        state: CaseState::Rejected,
        verdict: Some(Verdict {
            verdict: CaseState::Rejected,
            operator: "li.wei".into(),
            reason: "临时施工围挡，已核实许可".into(),
            at: at(7200),
            command: "01KAQ9Z000000000000000000V".into(),
        }),
        sequence: 3,
        ..case
    };
    let judged_feature = event::feature(&judged, &Kinds::default(), &division, Some(&model));

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
    let verdict = Envelope {
        id: "01KAQ9Z000000000000000000V".into(),
        name: "verdict".into(),
        args: json!({ "case": case_id, "verdict": "rejected", "reason": "临时施工围挡，已核实许可" }),
        ..envelope.clone()
    };
    let request = Envelope {
        id: "01KAQB0000000000000000000Q".into(),
        name: "request".into(),
        args: json!({
            "point": { "lat": 23.0412, "lon": 112.9046 },
            "why": "citizen",
            "note": "12345 热线：村口倾倒垃圾",
            "until": at(6 * 3600),
        }),
        ..envelope.clone()
    };
    let reply = Reply {
        id: Some(envelope.id.clone()),
        status: Status::Refused,
        reason: Some("wind: 13.2 m/s, the limit is 10.0 m/s".into()),
        data: Value::Null,
    };
    let sortie_id = "01KAQ2Y0000000000000000001";
    let step = aerie::update::ledger::Entry {
        n: 7,
        at: at(30).to_string(),
        kind: "model".into(),
        event: json!({ "event": "probe_passed", "report": "4 golden pictures, 212 ms, 146 MB" }),
        said: "aerie-town 1.3 (a1a1a1a1a1a1) passed its probe: 4 golden pictures, 212 ms, 146 MB".into(),
        before: "0e".repeat(32),
        hash: "1f".repeat(32),
    };
    let step = serde_json::to_value(step).unwrap();
    vec![
        ("update-event.json", "update-event", cloudevents::update_event("danzao-1", 7, at(30), step)),
        ("case-event.json", "case-event", cloudevents::case_event("danzao-1", case_id, 2, at(601), feature)),
        ("sortie-event.json", "sortie-event", cloudevents::sortie_event("danzao-1", sortie_id, 2, at(0), sortie)),
        (
            "case-event-judged.json",
            "case-event",
            cloudevents::case_event("danzao-1", case_id, 3, at(7201), judged_feature),
        ),
        ("envelope.json", "envelope", serde_json::to_value(envelope).unwrap()),
        ("verdict.json", "envelope", serde_json::to_value(verdict).unwrap()),
        ("request.json", "envelope", serde_json::to_value(request).unwrap()),
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
    let request_args = schemars::schema_for!(aerie::patrol::requests::RequestArgs);
    assert_on_disk("request-args.schema.json", request_args.as_value());
    // Made by a unit test of src/outbox/loss.rs.
    let loss = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol/examples/loss-event.json");
    assert_fits("loss-event", &serde_json::from_str(&std::fs::read_to_string(loss).unwrap()).unwrap());
    for (file, schema, made) in examples() {
        assert_on_disk(&format!("examples/{file}"), &made);
        assert_fits(schema, &made);
        if made["name"] == "request" {
            assert_fits("request-args", &made["args"]);
        }
    }
}

/// The AsyncAPI document names the topics that the program uses, and nothing in it leads nowhere.
#[test]
fn the_asyncapi_document_has_every_topic_and_every_reference_in_it_leads_somewhere() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol");
    let text = std::fs::read_to_string(folder.join("asyncapi.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["asyncapi"], "3.0.0");
    let prefix = aerie::uplink::prefix("{station}");
    let mut topics: Vec<&str> = document["channels"]
        .as_object()
        .unwrap()
        .values()
        .map(|c| &c["address"])
        .map(|address| {
            address.as_str().unwrap().strip_prefix(&prefix).unwrap_or_else(|| panic!("{address} is not below {prefix}"))
        })
        .collect();
    topics.sort_unstable();
    assert_eq!(
        topics,
        [
            "case/{case}",
            "command/{name}",
            "evidence/{sha256}",
            "loss",
            "model/desired",
            "reply/{id}",
            "request",
            "sortie/{sortie}",
            "status",
            "telemetry",
            "update/{n}",
            "verdict",
        ]
    );
    // What README.md lists is the same.
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    for topic in &topics {
        let stem = topic.split('{').next().unwrap();
        assert!(readme.contains(&format!("`{stem}")), "README.md does not know {topic}");
    }
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 20);
    for reference in references {
        match reference.strip_prefix('#') {
            Some(pointer) => assert!(document.pointer(pointer).is_some(), "{reference}"),
            None => assert!(folder.join(&reference).is_file(), "{reference}"),
        }
    }
    for operation in document["operations"].as_object().unwrap().values() {
        assert!(matches!(operation["action"].as_str(), Some("send" | "receive")));
    }
}

fn collect_references(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            into.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|field| collect_references(field, into));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, into)),
        _ => {}
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
