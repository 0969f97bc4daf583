//! A station that is case book, outbox and uplink alone: makes case events as fast as it may and says, on standard
//! output, which were accepted. What [`crate::cases::keeper`] does with a case, in the same order: the picture, the
//! row, the outbox; and at the start the newest event of each case is offered again.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::SoakError;
use crate::outbox::{Class, Options, Outbox, Payload, Record};
use crate::runtime::store::{Store, Table};
use crate::uplink::{self, cloudevents};

pub const STATION: &str = "soak-1";
/// Cases that change in turn.
const CASES: u64 = 20;
/// Every so manieth event has a picture.
const PICTURE_EVERY: u64 = 7;

#[derive(Debug, Clone)]
pub struct FeedOptions {
    pub state_dir: PathBuf,
    /// None: nothing is published.
    pub broker: Option<String>,
    /// Events made before it stops; it then waits for the queue to be empty if there is a broker.
    pub events: u64,
    /// Between two events.
    pub pause: Duration,
}

#[derive(Serialize, Deserialize)]
struct Row {
    id: String,
    sequence: u64,
    event: Value,
}

impl Row {
    fn record(&self) -> Record {
        case_record(STATION, &self.id, self.sequence, &self.event)
    }
}

pub fn case_record(station: &str, case: &str, sequence: u64, event: &Value) -> Record {
    debug_assert_eq!(event["source"], cloudevents::source(station));
    Record {
        id: cloudevents::event_id(case, sequence),
        class: Class::Case,
        key: case.to_owned(),
        topic: format!("case/{case}"),
        content_type: cloudevents::CONTENT_TYPE.to_owned(),
        payload: Payload::Bytes(event.to_string().into_bytes()),
        captured_at: Some(Timestamp::now()),
    }
}

/// A case event of about the size that real ones have: one kilobyte.
pub fn event(station: &str, case: &str, sequence: u64) -> Value {
    let feature = json!({
        "type": "Feature", "id": case,
        "geometry": {"type": "Point", "coordinates": [113.0, 23.05]},
        "properties": {"id": case, "sequence": sequence, "note": "x".repeat(600)},
    });
    cloudevents::case_event(station, case, sequence, Timestamp::now(), feature)
}

/// Bytes that differ for each number; no JPEG, which nobody here looks at.
fn picture(case: u64, sequence: u64) -> Vec<u8> {
    let seed = case.wrapping_mul(1_000_003).wrapping_add(sequence).to_le_bytes();
    seed.into_iter().cycle().take(20_000).collect()
}

pub fn evidence_record(digest: String) -> Record {
    Record {
        id: format!("evidence/{digest}"),
        class: Class::Evidence,
        key: String::new(),
        topic: format!("evidence/{digest}"),
        content_type: "image/jpeg".to_owned(),
        payload: Payload::File(digest),
        captured_at: None,
    }
}

pub async fn run(options: FeedOptions) -> Result<(), SoakError> {
    let dir = &options.state_dir;
    std::fs::create_dir_all(dir).map_err(SoakError::io("create", dir))?;
    let store = Store::open(dir)?;
    let limits = Options { source: cloudevents::source(STATION), ..Options::default() };
    let outbox = Outbox::open_with(dir, limits)?;
    let cancel = CancellationToken::new();
    let (_status_out, status) = watch::channel(json!({"version": "soak"}));
    let (incoming_out, mut incoming) = mpsc::channel(4);
    let link = options.broker.as_ref().map(|url| {
        uplink::spawn(uplink::Config::new(url), STATION, outbox.clone(), status, incoming_out, cancel.clone())
    });
    tokio::spawn(async move { while incoming.recv().await.is_some() {} });

    let mut rows: Vec<Row> = store.beginning(Table::Cases, "").await?;
    outbox.accept(rows.iter().map(Row::record).collect()).await?;
    for row in &rows {
        say(&cloudevents::event_id(&row.id, row.sequence)).await;
    }
    for number in rows.len() as u64..CASES {
        rows.push(Row { id: format!("case{number:03}"), sequence: 0, event: Value::Null });
    }
    for made in 0..options.events {
        let number = made % CASES;
        let Some(row) = rows.get_mut(number as usize) else { break };
        row.sequence += 1;
        let digest = match (row.sequence + number) % PICTURE_EVERY {
            0 => Some(outbox.store_picture(&picture(number, row.sequence)).await?),
            _ => None,
        };
        row.event = event(STATION, &row.id, row.sequence);
        store.put(Table::Cases, &row.id, &row).await?;
        let mut records = vec![row.record()];
        records.extend(digest.map(evidence_record));
        let ids: Vec<String> = records.iter().map(|record| record.id.clone()).collect();
        outbox.accept(records).await?;
        for id in ids {
            say(&id).await;
        }
        if !options.pause.is_zero() {
            tokio::time::sleep(options.pause).await;
        }
    }
    if let Some(link) = link {
        let mut stats = outbox.stats();
        // The outbox outlives this wait: we hold it.
        let _ = stats.wait_for(|stats| stats.queued == 0).await;
        cancel.cancel();
        link.stopped().await;
    }
    Ok(())
}

/// One system call a line, after the fact: whoever reads it knows that it was accepted before.
async fn say(id: &str) {
    let mut out = tokio::io::stdout();
    // Nobody reads any more: then nobody counts on it.
    let _ = out.write_all(format!("accepted {id}\n").as_bytes()).await;
    let _ = out.flush().await;
}
