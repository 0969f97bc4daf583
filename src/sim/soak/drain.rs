//! How fast a long queue goes out, beside a bare client of the same library that publishes the same sizes with the same
//! window to the same broker. Both take turns, so that a machine that is busy is busy for both.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, PublishOptions, PublishProperties};
use serde::Serialize;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::SoakError;
use super::feed::{case_record, event};
use crate::outbox::{Outbox, Payload};
use crate::uplink::{self, cloudevents};

const STATION: &str = "drain-1";

#[derive(Debug, Clone)]
pub struct DrainOptions {
    pub out: PathBuf,
    pub records: u64,
    /// How often the two take turns.
    pub turns: u64,
    pub window: u16,
}

#[derive(Debug, Serialize)]
pub struct DrainReport {
    pub records: u64,
    pub payload_bytes: usize,
    pub window: u16,
    pub raw_per_s: f64,
    pub drain_per_s: f64,
    pub ratio: f64,
    /// Of each turn.
    pub ratios: Vec<f64>,
    /// Resident memory beyond that before the first record was published, at its highest.
    pub memory_growth_mb: f64,
}

/// Fills a queue as three days offline would: cases change in turn, ten times each.
pub async fn fill(dir: &std::path::Path, records: u64) -> Result<usize, SoakError> {
    let outbox = Outbox::open(dir)?;
    let cases = (records / 10).max(1);
    let mut batch = Vec::new();
    let mut bytes = 0;
    for number in 0..records {
        let (case, sequence) = (format!("case{:06}", number % cases), number / cases + 1);
        let record = case_record(STATION, &case, sequence, &event(STATION, &case, sequence));
        if let Payload::Bytes(body) = &record.payload {
            bytes = body.len();
        }
        batch.push(record);
        if batch.len() == 500 || number + 1 == records {
            outbox.accept(std::mem::take(&mut batch)).await?;
        }
    }
    Ok(bytes)
}

pub async fn run(options: DrainOptions) -> Result<DrainReport, SoakError> {
    let (_broker, port) = super::broker(&options.out)?;
    let dir = options.out.join("state");
    // By a process of its own: what filling leaves in memory is not the drain's.
    if !dir.join("outbox.db").exists() {
        fill(&dir, options.records).await?;
    }
    let outbox = reopened(&dir).await?;
    let queued = outbox.stats().borrow().queued;
    if queued < options.records {
        return Err(SoakError::Failed(format!(
            "the queue in {} holds {queued} of {} records: take that folder away, or fill it with as many",
            dir.display(),
            options.records
        )));
    }
    let payload_bytes = event(STATION, "case000000", 1).to_string().len();
    let each = options.records / options.turns.max(1);
    let (mut raw_s, mut drain_s, mut ratios) = (0.0, 0.0, Vec::new());
    let mut growth = 0;
    for turn in 0..options.turns {
        let raw = raw(port, each, payload_bytes, options.window).await?;
        let before = super::resident_bytes();
        let (drained, highest) = drain(port, &outbox, each, options.window).await?;
        growth = growth.max(highest.saturating_sub(before));
        tracing::info!(turn, raw_s = raw.as_secs_f64(), drain_s = drained.as_secs_f64(), "a turn");
        raw_s += raw.as_secs_f64();
        drain_s += drained.as_secs_f64();
        ratios.push(raw.as_secs_f64() / drained.as_secs_f64());
    }
    let all = (each * options.turns) as f64;
    Ok(DrainReport {
        records: each * options.turns,
        payload_bytes,
        window: options.window,
        raw_per_s: all / raw_s,
        drain_per_s: all / drain_s,
        ratio: raw_s / drain_s,
        ratios,
        memory_growth_mb: growth as f64 / 1e6,
    })
}

async fn reopened(dir: &std::path::Path) -> Result<Outbox, SoakError> {
    for _ in 0..200 {
        match Outbox::open(dir) {
            Err(crate::outbox::OutboxError::InUse(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
            opened => return Ok(opened?),
        }
    }
    Ok(Outbox::open(dir)?)
}

/// From the first record to the last one's settlement on the disk; and the highest resident memory meanwhile.
async fn drain(port: u16, outbox: &Outbox, records: u64, window: u16) -> Result<(Duration, u64), SoakError> {
    let mut config = uplink::Config::new(format!("mqtt://127.0.0.1:{port}"));
    config.in_flight = window;
    let (_status_out, status) = watch::channel(json!({}));
    let (incoming_out, _incoming) = mpsc::channel(4);
    let cancel = CancellationToken::new();
    let link = uplink::spawn(config, STATION, outbox.clone(), status, incoming_out, cancel.clone());
    let mut state = link.state();
    let gone = |_| SoakError::Failed("the uplink has ended".to_owned());
    state.wait_for(|state| state.connected).await.map_err(gone)?;
    let started = Instant::now();
    let mut highest = super::resident_bytes();
    loop {
        let delivered = state.borrow_and_update().delivered;
        if delivered >= records || outbox.stats().borrow().queued == 0 {
            break;
        }
        // Woken by each settlement; memory is looked at in between.
        let _ = tokio::time::timeout(Duration::from_millis(20), state.changed()).await;
        highest = highest.max(super::resident_bytes());
    }
    let took = started.elapsed();
    cancel.cancel();
    link.stopped().await;
    Ok((took, highest))
}

/// The same library without anything of ours: publish, count the acknowledgements.
async fn raw(port: u16, records: u64, bytes: usize, window: u16) -> Result<Duration, SoakError> {
    let mut options = MqttOptions::new("raw-client", ("127.0.0.1", port));
    options.set_clean_start(true).set_outgoing_inflight_upper_limit(window).set_max_request_batch(usize::from(window));
    let mut network = rumqttc::NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    let (client, mut eventloop) = AsyncClient::builder(options).capacity(usize::from(window) * 2).build();
    let failed = |error: String| SoakError::Failed(format!("the bare client: {error}"));
    // Connected before the clock starts, as the uplink is.
    loop {
        match eventloop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => break,
            Ok(_) => {}
            Err(error) => return Err(failed(error.to_string())),
        }
    }
    let started = Instant::now();
    let publishing = tokio::spawn(async move {
        let payload = vec![b'x'; bytes];
        for number in 0..records {
            let topic = format!("aerie/v1/{STATION}/case/case{:06}", number % 10_000);
            let properties = PublishProperties {
                content_type: Some(cloudevents::CONTENT_TYPE.to_owned()),
                ..PublishProperties::default()
            };
            let options = PublishOptions::at_least_once().properties(properties);
            if client.publish(topic, payload.clone(), options).await.is_err() {
                break;
            }
        }
        // Dropped at the end of the count only: the event loop ends with its last client.
        client
    });
    let mut acknowledged = 0;
    while acknowledged < records {
        match eventloop.poll().await {
            Ok(Event::Incoming(Packet::PubAck(_))) => acknowledged += 1,
            Ok(_) => {}
            Err(error) => return Err(failed(error.to_string())),
        }
    }
    let took = started.elapsed();
    drop(publishing.await);
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_queue_that_is_drained_already_is_no_measure() {
        let folder = tempfile::tempdir().unwrap();
        fill(&folder.path().join("state"), 5).await.unwrap();
        let options = DrainOptions { out: folder.path().to_owned(), records: 10, turns: 1, window: 4 };
        let refused = run(options).await.unwrap_err().to_string();
        assert!(refused.contains("5 of 10 records") && refused.contains("take that folder away"), "{refused}");
    }
}
