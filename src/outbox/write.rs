//! What one transaction does to the rows. Synchronous; called by [`super::store`] only.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::loss::{self, Lost};
use super::store::{ASIDE, DELIVERED, EVICTED, Totals, class_at, time_at};
use super::{Class, Options, Payload, Record, Resend, Settlement};

/// Rows kept of what was dropped, so that the same id is not taken again; older ones are forgotten.
const TOMBSTONES: i64 = 100_000;

/// One request's share of a group commit.
pub(super) enum Write {
    Accept(Vec<Record>),
    Settle(Vec<Settlement>),
    Resend(Resend),
    Note { name: String, value: i64 },
    Purge,
}

/// What the parts of a transaction need to know.
pub(super) struct Context<'a> {
    pub rows: &'a Connection,
    pub options: &'a Options,
    /// Handed out: what is on the wire at this moment may well arrive.
    pub out: &'a HashMap<i64, (Class, String)>,
    pub now: Timestamp,
}

impl Context<'_> {
    pub(super) fn accept(&self, totals: &mut Totals, records: &[Record], sizes: &[u64]) -> rusqlite::Result<u64> {
        let mut insert = self.rows.prepare_cached(
            "INSERT INTO records (id, class, key, topic, content_type, body, file, bytes, captured_at, accepted_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO NOTHING",
        )?;
        let mut taken = 0;
        for (record, bytes) in records.iter().zip(sizes) {
            let (body, file) = match &record.payload {
                Payload::Bytes(body) => (Some(body), None),
                Payload::File(digest) => (None, Some(digest)),
            };
            let added = insert.execute(params![
                record.id,
                record.class.code(),
                record.key,
                record.topic,
                record.content_type,
                body,
                file,
                *bytes as i64,
                record.captured_at.map(Timestamp::as_microsecond),
                self.now.as_microsecond(),
            ])?;
            if added == 1 {
                taken += 1;
                totals.queued += 1;
                totals.bytes += bytes;
            }
        }
        Ok(taken)
    }

    pub(super) fn settle(&self, totals: &mut Totals, settlements: &[Settlement]) -> rusqlite::Result<()> {
        let mut delivered = self.rows.prepare_cached(
            "UPDATE records SET state = 1, ended_at = ?2, reason = ?3, retry_at = NULL WHERE seq = ?1 AND state = 0",
        )?;
        let mut impossible = Vec::new();
        let mut why = String::new();
        for settlement in settlements {
            match settlement {
                Settlement::Delivered { seq, acked_at, note } => {
                    let changed = delivered.execute(params![seq, acked_at.as_microsecond(), note])? as u64;
                    totals.queued -= changed;
                    totals.delivered += changed;
                }
                Settlement::Later { seq, reason, retry_at } => {
                    self.rows.prepare_cached("UPDATE records SET attempts = attempts + 1, retry_at = ?2, reason = ?3 WHERE seq = ?1 AND state = 0")?
                        .execute(params![seq, retry_at.as_microsecond(), reason])?;
                }
                Settlement::Aside { seq, reason, packet_bytes } => {
                    let Some(one) = self.describe(*seq)? else {
                        continue;
                    };
                    let changed = self.rows.execute(
                        "UPDATE records SET state = 2, ended_at = ?2, reason = ?3, packet_bytes = ?4, retry_at = NULL WHERE seq = ?1 AND state = 0",
                        params![seq, self.now.as_microsecond(), reason, packet_bytes.map(|bytes| bytes as i64)],
                    )? as u64;
                    totals.queued -= changed;
                    totals.aside += changed;
                    // A report on a report that cannot be published would never end.
                    if changed == 1 && one.class != Class::Loss {
                        why.clone_from(reason);
                        impossible.push(one);
                    }
                }
            }
        }
        if !impossible.is_empty() {
            self.report(totals, "unpublishable", &why, &impossible)?;
        }
        Ok(())
    }

    pub(super) fn report(&self, totals: &mut Totals, cause: &str, detail: &str, lost: &[Lost]) -> rusqlite::Result<()> {
        let record = loss::report(&self.options.source, ulid::Ulid::generate(), self.now, cause, detail, lost);
        let Payload::Bytes(body) = &record.payload else { return Ok(()) };
        let bytes = body.len() as u64;
        self.accept(totals, &[record], &[bytes]).map(|_| ())
    }

    /// Each goes back to the place it had: `seq` is the order.
    pub(super) fn resend(&self, totals: &mut Totals, which: &Resend) -> rusqlite::Result<u64> {
        const AGAIN: &str =
            "UPDATE records SET state = 0, ended_at = NULL, reason = NULL, attempts = 0, retry_at = NULL
             WHERE state = 1 AND";
        let again = match which {
            Resend::Since(since) => self.rows.execute(&format!("{AGAIN} ended_at >= ?1"), [since.as_microsecond()])?,
            Resend::Stream { key, ids } => {
                // Ids of a stream are `{key}/{sequence}`, and '0' is what follows '/': found by the index of ids.
                let mut again = self.rows.execute(&format!("{AGAIN} id > ?1 || '/' AND id < ?1 || '0'"), [key])?;
                let mut one = self.rows.prepare(&format!("{AGAIN} id = ?1"))?;
                for id in ids {
                    again += one.execute([id])?;
                }
                again
            }
        } as u64;
        totals.queued += again;
        totals.delivered = totals.delivered.saturating_sub(again);
        Ok(again)
    }

    pub(super) fn note(&self, name: &str, value: i64) -> rusqlite::Result<u64> {
        self.rows
            .prepare_cached("INSERT OR REPLACE INTO notes (name, value) VALUES (?1, ?2)")?
            .execute(params![name, value])?;
        Ok(0)
    }

    /// Ends the retention of what is settled.
    pub(super) fn purge(&self, totals: &mut Totals, unneeded: &mut Vec<String>) -> rusqlite::Result<()> {
        if let Ok(limit) = self.now.checked_sub(self.options.retention) {
            let old = "DELETE FROM records WHERE state = ?1 AND ended_at < ?2 RETURNING bytes, file";
            for state in [DELIVERED, ASIDE, EVICTED] {
                self.forget(totals, unneeded, state, old, limit.as_microsecond())?;
            }
        }
        let surplus = "DELETE FROM records WHERE state = ?1 AND seq IN
             (SELECT seq FROM records WHERE state = ?1 ORDER BY ended_at DESC LIMIT -1 OFFSET ?2) RETURNING bytes, file";
        self.forget(totals, unneeded, EVICTED, surplus, TOMBSTONES)
    }

    fn forget(
        &self,
        totals: &mut Totals,
        unneeded: &mut Vec<String>,
        state: i64,
        sql: &str,
        limit: i64,
    ) -> rusqlite::Result<()> {
        let mut query = self.rows.prepare_cached(sql)?;
        let mut gone = query.query(params![state, limit])?;
        while let Some(row) = gone.next()? {
            totals.bytes = totals.bytes.saturating_sub(row.get::<_, i64>(0)?.unsigned_abs());
            unneeded.extend(row.get::<_, Option<String>>(1)?);
            match state {
                DELIVERED => totals.delivered -= 1,
                ASIDE => totals.aside -= 1,
                _ => totals.evicted -= 1,
            }
        }
        Ok(())
    }

    pub(super) fn describe(&self, seq: i64) -> rusqlite::Result<Option<Lost>> {
        self.rows
            .prepare_cached("SELECT id, class, topic, bytes, accepted_at FROM records WHERE seq = ?1")?
            .query_row([seq], |row| {
                Ok(Lost {
                    id: row.get(0)?,
                    class: class_at(row, 1)?,
                    topic: row.get(2)?,
                    bytes: row.get::<_, i64>(3)?.unsigned_abs(),
                    accepted_at: time_at(row, 4)?.unwrap_or(Timestamp::UNIX_EPOCH),
                })
            })
            .optional()
    }
}
