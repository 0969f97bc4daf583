//! What accepting costs beside the least that durability can cost: the same bytes into a bare SQLite table, with the
//! same fsync policy and as many in one transaction. Both take turns.

use std::path::PathBuf;
use std::time::Instant;

use rusqlite::{Connection, params};
use serde::Serialize;

use super::SoakError;
use super::feed::{case_record, event};
use crate::outbox::{Outbox, Payload, Record};

const STATION: &str = "accept-1";

#[derive(Debug, Clone)]
pub struct AcceptOptions {
    pub out: PathBuf,
    /// Transactions of each kind and size.
    pub commits: u32,
    /// Records in one.
    pub batches: Vec<usize>,
}

#[derive(Debug, Serialize)]
pub struct AcceptReport {
    pub batch: usize,
    pub commits: u32,
    pub raw_per_s: f64,
    pub accept_per_s: f64,
    pub ratio: f64,
    pub raw_p99_ms: f64,
    pub accept_p99_ms: f64,
}

pub async fn run(options: AcceptOptions) -> Result<Vec<AcceptReport>, SoakError> {
    let mut reports = Vec::new();
    for batch in options.batches {
        let out = options.out.join(format!("batch-{batch}"));
        std::fs::create_dir_all(&out).map_err(SoakError::io("create", &out))?;
        let raw = bare(&out).map_err(|error| SoakError::Failed(format!("bare SQLite: {error}")))?;
        let outbox = Outbox::open(out.join("state"))?;
        let (mut raw_ms, mut accept_ms) = (Vec::new(), Vec::new());
        let mut number = 0;
        for _ in 0..options.commits {
            let records: Vec<Record> = (0..batch)
                .map(|_| {
                    number += 1;
                    let (case, sequence) = (format!("case{:06}", number / 10), number % 10 + 1);
                    case_record(STATION, &case, sequence, &event(STATION, &case, sequence))
                })
                .collect();
            // Both get the records as they are; only what is done with them is timed.
            let started = Instant::now();
            insert(&raw, &records).map_err(|error| SoakError::Failed(format!("bare SQLite: {error}")))?;
            raw_ms.push(started.elapsed().as_secs_f64() * 1e3);
            let started = Instant::now();
            outbox.accept(records).await?;
            accept_ms.push(started.elapsed().as_secs_f64() * 1e3);
        }
        let all = f64::from(options.commits) * batch as f64;
        let (raw_s, accept_s) = (raw_ms.iter().sum::<f64>() / 1e3, accept_ms.iter().sum::<f64>() / 1e3);
        reports.push(AcceptReport {
            batch,
            commits: options.commits,
            raw_per_s: all / raw_s,
            accept_per_s: all / accept_s,
            ratio: raw_s / accept_s,
            raw_p99_ms: super::percentile(&mut raw_ms, 0.99),
            accept_p99_ms: super::percentile(&mut accept_ms, 0.99),
        });
    }
    Ok(reports)
}

/// The least that makes a record findable again and unique: its id and its bytes.
fn bare(out: &std::path::Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(out.join("raw.db"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch("CREATE TABLE raw (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL)")?;
    Ok(connection)
}

fn insert(connection: &Connection, records: &[Record]) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    {
        let mut insert = transaction.prepare_cached("INSERT INTO raw (id, body) VALUES (?1, ?2)")?;
        for record in records {
            if let Payload::Bytes(body) = &record.payload {
                insert.execute(params![record.id, body])?;
            }
        }
    }
    transaction.commit()
}
