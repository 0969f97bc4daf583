//! What accepting costs beside the least that durability can cost: the same bytes into a bare SQLite table, with the
//! same fsync policy and as many in one transaction. Both take turns.
//!
//! The rate is that of two callers in turn, so that one is on its way while the other's commit is on the disk, as at a
//! station where cases and sorties are told at the same time; the percentiles are those of one caller alone, who waits.

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
    /// One caller alone.
    pub ratio_alone: f64,
    pub raw_p50_ms: f64,
    pub accept_p50_ms: f64,
    pub raw_p99_ms: f64,
    pub accept_p99_ms: f64,
}

/// Commits of one kind before the other has its turn.
const TURN: u32 = 10;

pub async fn run(options: AcceptOptions) -> Result<Vec<AcceptReport>, SoakError> {
    let mut reports = Vec::new();
    for batch in options.batches {
        let out = options.out.join(format!("batch-{batch}"));
        if out.exists() {
            return Err(SoakError::Failed(format!("{} holds an earlier run: take that folder away", out.display())));
        }
        std::fs::create_dir_all(&out).map_err(SoakError::io("create", &out))?;
        let raw = bare(&out).map_err(|error| SoakError::Failed(format!("bare SQLite: {error}")))?;
        let outbox = Outbox::open(out.join("state"))?;
        let mut number = 0;
        let mut batches =
            |count: u32| -> Vec<Vec<Record>> { (0..count).map(|_| records(batch, &mut number)).collect() };
        let (mut raw_ms, mut alone_ms, mut two_s) = (Vec::new(), Vec::new(), 0.0);
        let failed = |error: rusqlite::Error| SoakError::Failed(format!("bare SQLite: {error}"));
        for _ in 0..options.commits.div_ceil(TURN) {
            // All get their records ready made; only what is done with them is timed.
            for one in batches(TURN) {
                let started = Instant::now();
                insert(&raw, &one).map_err(failed)?;
                raw_ms.push(started.elapsed().as_secs_f64() * 1e3);
            }
            for one in batches(TURN) {
                let started = Instant::now();
                outbox.accept(one).await?;
                alone_ms.push(started.elapsed().as_secs_f64() * 1e3);
            }
            let mut first = batches(TURN);
            let second = first.split_off(TURN as usize / 2);
            let started = Instant::now();
            let callers = [first, second].map(|mine| {
                let outbox = outbox.clone();
                tokio::spawn(async move {
                    for one in mine {
                        outbox.accept(one).await?;
                    }
                    Ok::<_, crate::outbox::OutboxError>(())
                })
            });
            for caller in callers {
                caller.await.map_err(|error| SoakError::Failed(error.to_string()))??;
            }
            two_s += started.elapsed().as_secs_f64();
        }
        let all = raw_ms.len() as f64 * batch as f64;
        let (raw_s, alone_s) = (raw_ms.iter().sum::<f64>() / 1e3, alone_ms.iter().sum::<f64>() / 1e3);
        reports.push(AcceptReport {
            batch,
            commits: options.commits,
            raw_per_s: all / raw_s,
            accept_per_s: all / two_s,
            ratio: raw_s / two_s,
            ratio_alone: raw_s / alone_s,
            raw_p50_ms: super::percentile(&mut raw_ms, 0.50),
            accept_p50_ms: super::percentile(&mut alone_ms, 0.50),
            raw_p99_ms: super::percentile(&mut raw_ms, 0.99),
            accept_p99_ms: super::percentile(&mut alone_ms, 0.99),
        });
    }
    Ok(reports)
}

fn records(batch: usize, number: &mut u64) -> Vec<Record> {
    (0..batch)
        .map(|_| {
            *number += 1;
            let (case, sequence) = (format!("case{:06}", *number / 10), *number % 10 + 1);
            case_record(STATION, &case, sequence, &event(STATION, &case, sequence))
        })
        .collect()
}

/// The least that makes a record findable again and unique: its id and its bytes.
fn bare(out: &std::path::Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(out.join("raw.db"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection
        .execute_batch("CREATE TABLE raw (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL)")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn beside_an_earlier_run_nothing_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        let options = AcceptOptions { out: folder.path().to_owned(), commits: 1, batches: vec![1] };
        assert_eq!(run(options.clone()).await.unwrap().len(), 1);
        let refused = run(options).await.unwrap_err().to_string();
        assert!(refused.contains("batch-1 holds an earlier run"), "{refused}");
    }
}
