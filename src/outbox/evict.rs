//! The policy when space or patience runs out: what is given up, in which order.
//!
//! First what was delivered and is only kept to be sent again, then what was set aside and reported, then what is
//! waiting; in each by class, oldest first. Loss reports are never given up: they are what remains of the rest.

use jiff::Timestamp;
use rusqlite::params;

use super::Class;
use super::loss::Lost;
use super::store::{ASIDE, DELIVERED, Totals};
use super::write::Context;

const ORDER: [Class; 4] = [Class::Telemetry, Class::Evidence, Class::Sortie, Class::Case];

/// What has to be freed: all three.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Need {
    /// Of payload, wherever it lies.
    pub bytes: u64,
    pub records: u64,
    /// Of payload in picture files: what gives space back to the file system.
    pub files: u64,
}

impl Need {
    pub(super) fn is_some(&self) -> bool {
        self.bytes > 0 || self.records > 0 || self.files > 0
    }

    fn freed(&mut self, bytes: u64, is_file: bool) {
        self.bytes = self.bytes.saturating_sub(bytes);
        self.records = self.records.saturating_sub(1);
        if is_file {
            self.files = self.files.saturating_sub(bytes);
        }
    }

    /// Whether dropping such a record helps: one without a file gives no space back.
    fn helped_by(&self, is_file: bool) -> bool {
        is_file || self.bytes > 0 || self.records > 0
    }
}

struct Row {
    seq: i64,
    bytes: u64,
    file: Option<String>,
}

impl Context<'_> {
    /// Makes room, and reports what was waiting. Returns how many records went, journal included.
    pub(super) fn evict(
        &self,
        totals: &mut Totals,
        unneeded: &mut Vec<String>,
        mut need: Need,
        cause: &str,
        why: &str,
    ) -> rusqlite::Result<u64> {
        let mut dropped = 0;
        for state in [DELIVERED, ASIDE] {
            for class in ORDER {
                dropped += self.drop_settled(totals, unneeded, &mut need, state, class)?;
            }
        }
        let mut lost = Vec::new();
        for class in ORDER {
            let waiting = "SELECT seq, bytes, file, accepted_at FROM records WHERE state = 0 AND class = ?1";
            for row in self.rows_for(&mut need, waiting, class, None)? {
                self.give_up(totals, unneeded, row, cause, &mut lost)?;
            }
        }
        dropped += lost.len() as u64;
        if !lost.is_empty() {
            tracing::warn!(count = lost.len(), cause, "records were dropped by policy");
            self.report(totals, cause, why, &lost)?;
        }
        Ok(dropped)
    }

    /// Gives up what has waited longer than its class may.
    pub(super) fn expire(&self, totals: &mut Totals, unneeded: &mut Vec<String>) -> rusqlite::Result<()> {
        let mut lost = Vec::new();
        for (class, age) in &self.options.expiry {
            let Ok(limit) = self.now.checked_sub(*age) else { continue };
            let mut all = Need { records: u64::MAX, ..Need::default() };
            let waiting = "SELECT seq, bytes, file, accepted_at FROM records WHERE state = 0 AND class = ?1";
            for row in self.rows_for(&mut all, waiting, *class, Some(limit))? {
                self.give_up(totals, unneeded, row, "expired", &mut lost)?;
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        tracing::warn!(count = lost.len(), "records have waited too long and were given up");
        self.report(totals, "expired", "they waited longer than outbox.expiry_days allows", &lost)
    }

    /// Oldest first until the need is met, or to the first that is not older than `limit`.
    fn rows_for(
        &self,
        need: &mut Need,
        sql: &str,
        class: Class,
        limit: Option<Timestamp>,
    ) -> rusqlite::Result<Vec<Row>> {
        let mut chosen = Vec::new();
        if !need.is_some() {
            return Ok(chosen);
        }
        let mut query = self.rows.prepare(&format!("{sql} ORDER BY seq"))?;
        let mut found = query.query([class.code()])?;
        while need.is_some() {
            let Some(row) = found.next()? else { break };
            let accepted_at: i64 = row.get(3)?;
            if limit.is_some_and(|limit| accepted_at >= limit.as_microsecond()) {
                break;
            }
            let row = Row { seq: row.get(0)?, bytes: row.get::<_, i64>(1)?.unsigned_abs(), file: row.get(2)? };
            if self.out.contains_key(&row.seq) || !need.helped_by(row.file.is_some()) {
                continue;
            }
            need.freed(row.bytes, row.file.is_some());
            chosen.push(row);
        }
        Ok(chosen)
    }

    /// The row stays, so that its id is not taken again; its payload goes.
    fn give_up(
        &self,
        totals: &mut Totals,
        unneeded: &mut Vec<String>,
        row: Row,
        cause: &str,
        lost: &mut Vec<Lost>,
    ) -> rusqlite::Result<()> {
        lost.extend(self.describe(row.seq)?);
        self.rows
            .prepare_cached(
                "UPDATE records SET state = 3, body = NULL, file = NULL, bytes = 0, ended_at = ?2, reason = ?3 WHERE seq = ?1",
            )?
            .execute(params![row.seq, self.now.as_microsecond(), cause])?;
        totals.bytes = totals.bytes.saturating_sub(row.bytes);
        totals.queued -= 1;
        totals.evicted += 1;
        unneeded.extend(row.file);
        Ok(())
    }

    fn drop_settled(
        &self,
        totals: &mut Totals,
        unneeded: &mut Vec<String>,
        need: &mut Need,
        state: i64,
        class: Class,
    ) -> rusqlite::Result<u64> {
        let mut gone = Vec::new();
        if need.is_some() {
            let sql = "SELECT seq, bytes, file FROM records WHERE state = ?1 AND class = ?2 ORDER BY ended_at";
            let mut query = self.rows.prepare(sql)?;
            let mut found = query.query(params![state, class.code()])?;
            while need.is_some() {
                let Some(row) = found.next()? else { break };
                let row = Row { seq: row.get(0)?, bytes: row.get::<_, i64>(1)?.unsigned_abs(), file: row.get(2)? };
                if !need.helped_by(row.file.is_some()) {
                    continue;
                }
                need.freed(row.bytes, row.file.is_some());
                gone.push(row);
            }
        }
        let mut delete = self.rows.prepare_cached("DELETE FROM records WHERE seq = ?1")?;
        let count = gone.len() as u64;
        for row in gone {
            delete.execute([row.seq])?;
            totals.bytes = totals.bytes.saturating_sub(row.bytes);
            unneeded.extend(row.file);
        }
        match state {
            DELIVERED => totals.delivered -= count,
            _ => totals.aside -= count,
        }
        Ok(count)
    }
}
