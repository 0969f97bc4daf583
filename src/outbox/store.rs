//! The rows: schema, transactions, the order of publishing, and the policy when space runs out. Synchronous;
//! used by the one owner thread only.
//!
//! ```text
//! records.state   0 queued → 1 delivered            (kept as a journal, `retention` long)
//!                        → 2 aside                  (could not be published; reported)
//!                        → 3 evicted                (dropped by policy; reported; payload gone)
//! ```
//! A row is never deleted before its retention ends: the id is what makes accepting it again a no-op. The one
//! exception is the journal of delivered records, which gives way before anything that is still owed.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};

use super::loss::{self, Lost};
use super::{Class, Options, OutboxError, Payload, Queued, Record, Settlement, Stats, pictures};
use crate::runtime::sqlite;

pub(super) const FILE: &str = "outbox.db";

pub(super) const QUEUED: i64 = 0;
pub(super) const DELIVERED: i64 = 1;
pub(super) const ASIDE: i64 = 2;
pub(super) const EVICTED: i64 = 3;

/// Candidates looked at before the smallest go first: bounds how long a large one can be passed over.
const LOOKAHEAD: usize = 64;
/// Sizes within one step count as equal, so that among small records age decides.
const SIZE_STEP: u64 = 16 * 1024;
/// Eviction makes this much room at once, so that a full disk costs one report now and then, not one a record.
const EVICT_TO_PERCENT: u64 = 95;
/// What goes first when space runs out. Loss reports are not in the list: they are what remains of the rest.
const EVICTION_ORDER: [Class; 4] = [Class::Telemetry, Class::Evidence, Class::Sortie, Class::Case];

const SCHEMA: &str = "
    CREATE TABLE records (
        seq          INTEGER PRIMARY KEY AUTOINCREMENT,
        id           TEXT NOT NULL UNIQUE,
        class        INTEGER NOT NULL,
        key          TEXT NOT NULL,
        topic        TEXT NOT NULL,
        content_type TEXT NOT NULL,
        body         BLOB,
        file         TEXT,
        bytes        INTEGER NOT NULL,
        captured_at  INTEGER,
        accepted_at  INTEGER NOT NULL,
        state        INTEGER NOT NULL DEFAULT 0,
        attempts     INTEGER NOT NULL DEFAULT 0,
        retry_at     INTEGER,
        reason       TEXT,
        packet_bytes INTEGER,
        ended_at     INTEGER
    ) STRICT;
    CREATE INDEX queue   ON records (class, seq, key, bytes, retry_at) WHERE state = 0;
    CREATE INDEX journal ON records (state, ended_at) WHERE state <> 0;
    CREATE INDEX files   ON records (file) WHERE file IS NOT NULL;
";
/// From nothing to the layout of today. A released step is never changed, only followed.
const STEPS: [&str; 1] = [SCHEMA];

/// Sums kept beside the rows, so that stats cost nothing. They follow a transaction only when it commits.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    queued: u64,
    delivered: u64,
    aside: u64,
    evicted: u64,
    bytes: u64,
}

pub(super) struct Store {
    connection: Connection,
    dir: PathBuf,
    options: Options,
    totals: Totals,
    /// Handed out and not settled: seq to stream.
    out: HashMap<i64, (Class, String)>,
    quarantined: u64,
}

/// One request's share of a group commit.
pub(super) enum Write {
    Accept(Vec<Record>),
    Settle(Vec<Settlement>),
    Purge,
}

impl Store {
    pub(super) fn open(dir: &Path, options: Options) -> Result<Self, OutboxError> {
        let path = dir.join(FILE);
        let (mut connection, broken) = sqlite::open(&path, &STEPS)?;
        let salvaged = broken.as_ref().map_or(0, |broken| {
            salvage(&broken.moved_to, &mut connection).unwrap_or_else(|error| {
                tracing::warn!(%error, "nothing more could be read from the broken database");
                0
            })
        });
        let totals = Self::count(&connection).map_err(OutboxError::database("count records", &path))?;
        let mut store = Self {
            connection,
            dir: dir.to_owned(),
            options,
            totals,
            out: HashMap::new(),
            quarantined: u64::from(broken.is_some()),
        };
        if let Some(broken) = broken {
            let name = broken.moved_to.file_name().unwrap_or_default().to_string_lossy();
            let why = broken.why;
            let detail = format!(
                "the outbox database was broken ({why}) and is kept as {name}; {salvaged} waiting records were read from it, others may be lost"
            );
            let now = Timestamp::now();
            let report =
                loss::report(&store.options.source, ulid::Ulid::generate(), now, "corrupt_database", &detail, &[]);
            for result in store.write(vec![Write::Accept(vec![report])], now) {
                result?;
            }
        }
        Ok(store)
    }

    fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    fn count(connection: &Connection) -> rusqlite::Result<Totals> {
        let mut totals = Totals::default();
        let mut query = connection.prepare("SELECT state, COUNT(*), TOTAL(bytes) FROM records GROUP BY state")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (state, count, bytes): (i64, i64, f64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let count = count.unsigned_abs();
            // Exact below 2^53 bytes.
            totals.bytes += bytes as u64;
            match state {
                QUEUED => totals.queued = count,
                DELIVERED => totals.delivered = count,
                ASIDE => totals.aside = count,
                _ => totals.evicted += count,
            }
        }
        Ok(totals)
    }

    /// Carries out a group of writes in one transaction: one fsync for all of them. Each stands or falls alone.
    pub(super) fn write(&mut self, writes: Vec<Write>, now: Timestamp) -> Vec<Result<(), OutboxError>> {
        let count = writes.len();
        let path = self.path();
        let before = self.totals;
        let mut group = Group { results: Vec::with_capacity(count), settled: Vec::new(), unneeded: Vec::new() };
        match self.write_in_transaction(writes, now, &mut group) {
            Ok(()) => {
                // Only now: a rolled back transaction must find its streams still held and its pictures in place.
                for seq in group.settled {
                    self.out.remove(&seq);
                }
                for digest in group.unneeded {
                    self.remove_if_unneeded(&digest);
                }
                group.results
            }
            Err(source) => {
                self.totals = before;
                let error = OutboxError::database("commit records", &path)(source);
                tracing::error!(%error, "the outbox could not commit");
                (0..count).map(|_| Err(error.clone())).collect()
            }
        }
    }

    fn write_in_transaction(&mut self, writes: Vec<Write>, now: Timestamp, group: &mut Group) -> rusqlite::Result<()> {
        let mut transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let context = Context { dir: &self.dir, options: &self.options, out: &self.out, now };
        let mut totals = self.totals;
        for write in writes {
            let saved = totals;
            let part = transaction.savepoint()?;
            let result = match write {
                Write::Accept(records) => context.accept(&part, &mut totals, &records)?,
                Write::Settle(settlements) => {
                    context.settle(&part, &mut totals, &settlements)?;
                    group.settled.extend(settlements.iter().map(Settlement::seq));
                    Ok(())
                }
                Write::Purge => {
                    context.purge(&part, &mut totals, &mut group.unneeded)?;
                    Ok(())
                }
            };
            if result.is_ok() {
                part.commit()?;
            } else {
                // Dropping the savepoint rolls this request back and leaves the others alone.
                drop(part);
                totals = saved;
            }
            group.results.push(result);
        }
        if totals.bytes > self.options.budget_bytes {
            context.evict(&transaction, &mut totals, &mut group.unneeded)?;
        }
        transaction.commit()?;
        self.totals = totals;
        Ok(())
    }

    fn remove_if_unneeded(&self, digest: &str) {
        let needed =
            self.connection.query_row("SELECT 1 FROM records WHERE file = ?1 LIMIT 1", [digest], |_| Ok(())).optional();
        // When in doubt the picture stays.
        if matches!(needed, Ok(None)) {
            pictures::remove(&self.dir, digest);
        }
    }

    /// The heads of the streams that may go now, in the order of publishing.
    pub(super) fn next(&mut self, limit: usize, bytes: u64, now: Timestamp) -> Result<Vec<Queued>, OutboxError> {
        let path = self.path();
        let chosen = self.choose(limit, bytes, now).map_err(OutboxError::database("read the queue", &path))?;
        for queued in &chosen {
            self.out.insert(queued.seq, (queued.record.class, queued.record.key.clone()));
        }
        Ok(chosen)
    }

    fn choose(&self, limit: usize, bytes: u64, now: Timestamp) -> rusqlite::Result<Vec<Queued>> {
        let mut passed: HashSet<(i64, String)> = self
            .out
            .values()
            .filter(|(_, key)| !key.is_empty())
            .map(|(class, key)| (class.code(), key.clone()))
            .collect();
        let mut heads: Vec<(i64, u64, i64, u64)> = Vec::new();
        let mut query = self.connection.prepare_cached(
            "SELECT seq, class, key, bytes, retry_at FROM records WHERE state = 0 ORDER BY class, seq",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (seq, class, key, size, retry_at): (i64, i64, String, i64, Option<i64>) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
            if self.out.contains_key(&seq) {
                continue;
            }
            // Only a stream's first row is a candidate, whether it may go now or has to wait.
            if !key.is_empty() && !passed.insert((class, key)) {
                continue;
            }
            if retry_at.is_some_and(|at| at > now.as_microsecond()) {
                continue;
            }
            let size = size.unsigned_abs();
            heads.push((class, size / SIZE_STEP, seq, size));
            if heads.len() >= limit.max(LOOKAHEAD) {
                break;
            }
        }
        heads.sort_unstable();
        let mut left = bytes;
        let mut chosen = Vec::new();
        for (_, _, seq, size) in heads.into_iter().take(limit) {
            let alone = chosen.is_empty() && self.out.is_empty();
            if size > left && !alone {
                break;
            }
            left = left.saturating_sub(size);
            chosen.push(self.load(seq)?);
        }
        Ok(chosen)
    }

    fn load(&self, seq: i64) -> rusqlite::Result<Queued> {
        let mut query = self.connection.prepare_cached(
            "SELECT seq, id, class, key, topic, content_type, body, file, captured_at, bytes, attempts
             FROM records WHERE seq = ?1",
        )?;
        query.query_row([seq], |row| {
            let file: Option<String> = row.get(7)?;
            let body: Option<Vec<u8>> = row.get(6)?;
            Ok(Queued {
                seq: row.get(0)?,
                record: Record {
                    id: row.get(1)?,
                    class: class_at(row, 2)?,
                    key: row.get(3)?,
                    topic: row.get(4)?,
                    content_type: row.get(5)?,
                    payload: match file {
                        Some(digest) => Payload::File(digest),
                        None => Payload::Bytes(body.unwrap_or_default()),
                    },
                    captured_at: time_at(row, 8)?,
                },
                bytes: row.get::<_, i64>(9)?.unsigned_abs(),
                attempts: row.get(10)?,
            })
        })
    }

    /// See [`super::Outbox::restart_session`].
    pub(super) fn restart(&mut self, max_packet_bytes: Option<u64>) -> Result<(), OutboxError> {
        self.out.clear();
        let path = self.path();
        let limit = max_packet_bytes.map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let again = self
            .connection
            .execute(
                "UPDATE records SET state = 0, ended_at = NULL, reason = NULL, packet_bytes = NULL
                 WHERE state = 2 AND packet_bytes <= ?1",
                [limit],
            )
            .map_err(OutboxError::database("queue records again", &path))? as u64;
        self.totals.queued += again;
        self.totals.aside = self.totals.aside.saturating_sub(again);
        Ok(())
    }

    pub(super) fn stats(&self) -> Stats {
        let oldest: Option<i64> = self
            .connection
            .prepare_cached(
                // The first of each class by the queue's index: five look-ups, however long the queue is.
                "SELECT MIN(oldest) FROM (
                    SELECT (SELECT accepted_at FROM records WHERE state = 0 AND class = c.code ORDER BY seq LIMIT 1) AS oldest
                    FROM (SELECT 0 AS code UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4) AS c)",
            )
            .and_then(|mut query| query.query_row([], |row| row.get(0)))
            .unwrap_or(None);
        Stats {
            queued: self.totals.queued,
            delivered: self.totals.delivered,
            aside: self.totals.aside,
            evicted: self.totals.evicted,
            bytes: self.totals.bytes,
            oldest_queued_at: oldest.and_then(|at| Timestamp::from_microsecond(at).ok()),
            quarantined: self.quarantined,
        }
    }
}

/// What a group commit leaves to do once it is on disk.
struct Group {
    results: Vec<Result<(), OutboxError>>,
    settled: Vec<i64>,
    unneeded: Vec<String>,
}

impl Settlement {
    fn seq(&self) -> i64 {
        match self {
            Self::Delivered { seq, .. } | Self::Later { seq, .. } | Self::Aside { seq, .. } => *seq,
        }
    }
}

/// What the parts of a transaction need to know.
struct Context<'a> {
    dir: &'a Path,
    options: &'a Options,
    out: &'a HashMap<i64, (Class, String)>,
    now: Timestamp,
}

impl Context<'_> {
    /// The outer error undoes the group, the inner one only this request.
    fn accept(
        &self,
        rows: &Connection,
        totals: &mut Totals,
        records: &[Record],
    ) -> rusqlite::Result<Result<(), OutboxError>> {
        for record in records {
            if record.id.is_empty() || record.id.chars().count() > 200 {
                return Ok(Err(OutboxError::BadId(record.id.clone())));
            }
            let (body, file, bytes) = match &record.payload {
                Payload::Bytes(body) => (Some(body), None, body.len() as u64),
                Payload::File(digest) => match pictures::size(self.dir, digest) {
                    Some(bytes) => (None, Some(digest), bytes),
                    None => {
                        let (id, digest) = (record.id.clone(), digest.clone());
                        return Ok(Err(OutboxError::PictureMissing { id, digest }));
                    }
                },
            };
            let added = rows
                .prepare_cached(
                    "INSERT INTO records (id, class, key, topic, content_type, body, file, bytes, captured_at, accepted_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO NOTHING",
                )?
                .execute(params![
                    record.id,
                    record.class.code(),
                    record.key,
                    record.topic,
                    record.content_type,
                    body,
                    file,
                    bytes as i64,
                    record.captured_at.map(Timestamp::as_microsecond),
                    self.now.as_microsecond(),
                ])?;
            if added == 1 {
                totals.queued += 1;
                totals.bytes += bytes;
            }
        }
        Ok(Ok(()))
    }

    fn settle(&self, rows: &Connection, totals: &mut Totals, settlements: &[Settlement]) -> rusqlite::Result<()> {
        let mut impossible = Vec::new();
        let mut why = String::new();
        for settlement in settlements {
            match settlement {
                Settlement::Delivered { seq, acked_at, note } => {
                    let changed = rows
                        .prepare_cached("UPDATE records SET state = 1, ended_at = ?2, reason = ?3, retry_at = NULL WHERE seq = ?1 AND state = 0")?
                        .execute(params![seq, acked_at.as_microsecond(), note])? as u64;
                    totals.queued -= changed;
                    totals.delivered += changed;
                }
                Settlement::Later { seq, reason, retry_at } => {
                    rows.prepare_cached("UPDATE records SET attempts = attempts + 1, retry_at = ?2, reason = ?3 WHERE seq = ?1 AND state = 0")?
                        .execute(params![seq, retry_at.as_microsecond(), reason])?;
                }
                Settlement::Aside { seq, reason, packet_bytes } => {
                    let Some(one) = describe(rows, *seq)? else {
                        continue;
                    };
                    let changed = rows.execute(
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
            self.report(rows, totals, "unpublishable", &why, &impossible)?;
        }
        Ok(())
    }

    fn report(
        &self,
        rows: &Connection,
        totals: &mut Totals,
        cause: &str,
        detail: &str,
        lost: &[Lost],
    ) -> rusqlite::Result<()> {
        let record = loss::report(&self.options.source, ulid::Ulid::generate(), self.now, cause, detail, lost);
        // A report carries its payload with it and its id is fresh: nothing in it can be refused.
        self.accept(rows, totals, &[record]).map(|_| ())
    }

    /// Makes room: the journal first, which is owed to nobody, then what is waiting, by class and age.
    fn evict(&self, rows: &Transaction, totals: &mut Totals, unneeded: &mut Vec<String>) -> rusqlite::Result<()> {
        let target = self.options.budget_bytes / 100 * EVICT_TO_PERCENT;
        for class in EVICTION_ORDER {
            if totals.bytes <= target {
                return Ok(());
            }
            self.drop_delivered(rows, totals, class, target, unneeded)?;
        }
        let mut lost = Vec::new();
        for class in EVICTION_ORDER {
            if totals.bytes <= target {
                break;
            }
            let waiting: Vec<(i64, i64, Option<String>)> = {
                let mut query = rows.prepare_cached(
                    "SELECT seq, bytes, file FROM records WHERE state = 0 AND class = ?1 ORDER BY seq",
                )?;
                let mut found = query.query([class.code()])?;
                let mut room = 0;
                let mut waiting = Vec::new();
                while let Some(row) = found.next()? {
                    let seq: i64 = row.get(0)?;
                    // What is on the wire at this moment may well arrive.
                    if self.out.contains_key(&seq) {
                        continue;
                    }
                    let bytes: i64 = row.get(1)?;
                    waiting.push((seq, bytes, row.get(2)?));
                    room += bytes.unsigned_abs();
                    if totals.bytes.saturating_sub(room) <= target {
                        break;
                    }
                }
                waiting
            };
            for (seq, bytes, file) in waiting {
                lost.extend(describe(rows, seq)?);
                rows.execute(
                    "UPDATE records SET state = 3, body = NULL, file = NULL, bytes = 0, ended_at = ?2, reason = 'budget' WHERE seq = ?1",
                    params![seq, self.now.as_microsecond()],
                )?;
                totals.bytes = totals.bytes.saturating_sub(bytes.unsigned_abs());
                totals.queued -= 1;
                totals.evicted += 1;
                unneeded.extend(file);
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        tracing::warn!(count = lost.len(), "the outbox is full: records were dropped by policy");
        let detail = format!("the outbox outgrew its budget of {} bytes", self.options.budget_bytes);
        self.report(rows, totals, "budget", &detail, &lost)
    }

    fn drop_delivered(
        &self,
        rows: &Connection,
        totals: &mut Totals,
        class: Class,
        target: u64,
        unneeded: &mut Vec<String>,
    ) -> rusqlite::Result<()> {
        let mut query = rows
            .prepare_cached("SELECT seq, bytes, file FROM records WHERE state = 1 AND class = ?1 ORDER BY ended_at")?;
        let mut delete = rows.prepare_cached("DELETE FROM records WHERE seq = ?1")?;
        let mut gone = Vec::new();
        let mut found = query.query([class.code()])?;
        let mut bytes = totals.bytes;
        while bytes > target {
            let Some(row) = found.next()? else { break };
            let size = row.get::<_, i64>(1)?.unsigned_abs();
            bytes = bytes.saturating_sub(size);
            gone.push(row.get::<_, i64>(0)?);
            unneeded.extend(row.get::<_, Option<String>>(2)?);
        }
        drop(found);
        for seq in gone {
            delete.execute([seq])?;
            totals.delivered -= 1;
        }
        totals.bytes = bytes;
        Ok(())
    }

    /// Ends the retention of what is settled.
    fn purge(&self, rows: &Connection, totals: &mut Totals, unneeded: &mut Vec<String>) -> rusqlite::Result<()> {
        let Ok(limit) = self.now.checked_sub(self.options.retention) else {
            return Ok(());
        };
        for state in [DELIVERED, ASIDE, EVICTED] {
            let mut query =
                rows.prepare_cached("DELETE FROM records WHERE state = ?1 AND ended_at < ?2 RETURNING bytes, file")?;
            let mut gone = query.query(params![state, limit.as_microsecond()])?;
            while let Some(row) = gone.next()? {
                totals.bytes = totals.bytes.saturating_sub(row.get::<_, i64>(0)?.unsigned_abs());
                unneeded.extend(row.get::<_, Option<String>>(1)?);
                match state {
                    DELIVERED => totals.delivered -= 1,
                    ASIDE => totals.aside -= 1,
                    _ => totals.evicted -= 1,
                }
            }
        }
        Ok(())
    }
}

fn describe(rows: &Connection, seq: i64) -> rusqlite::Result<Option<Lost>> {
    rows.prepare_cached("SELECT id, class, topic, bytes, accepted_at FROM records WHERE seq = ?1")?
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

/// A column that holds a class; another number means that the row was not written by us.
pub(super) fn class_at(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Class> {
    let code: i64 = row.get(column)?;
    Class::from_code(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, code))
}

/// A column that holds microseconds since 1970.
pub(super) fn time_at(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    let Some(at) = row.get::<_, Option<i64>>(column)? else {
        return Ok(None);
    };
    Timestamp::from_microsecond(at).map(Some).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, at))
}

/// Reads what is still readable of the waiting records, in their order, up to the first damage.
fn salvage(broken: &Path, into: &mut Connection) -> rusqlite::Result<u64> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let from = Connection::open_with_flags(broken, flags)?;
    let transaction = into.transaction()?;
    let mut saved = 0;
    {
        // Without indices: a broken one must not hide rows that are whole.
        let mut query = from.prepare(
            "SELECT id, class, key, topic, content_type, body, file, bytes, captured_at, accepted_at
             FROM records NOT INDEXED WHERE state = 0 ORDER BY seq",
        )?;
        let mut insert = transaction.prepare(
            "INSERT INTO records (id, class, key, topic, content_type, body, file, bytes, captured_at, accepted_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO NOTHING",
        )?;
        let mut rows = query.query([])?;
        while let Ok(Some(row)) = rows.next() {
            let values: rusqlite::Result<Vec<rusqlite::types::Value>> = (0..10).map(|column| row.get(column)).collect();
            let Ok(values) = values else { continue };
            saved += insert.execute(rusqlite::params_from_iter(values)).unwrap_or(0) as u64;
        }
    }
    transaction.commit()?;
    Ok(saved)
}
