//! The rows: schema, transactions, the order of publishing. Synchronous; used by the one owner thread only.
//!
//! ```text
//! records.state   0 queued → 1 delivered            (kept as a journal, `retention` long; `resend` queues it again)
//!                        → 2 aside                  (could not be published; reported)
//!                        → 3 evicted                (dropped by policy; reported; payload gone)
//! ```
//! A row is never deleted before its retention ends: the id is what makes accepting it again a no-op. The one
//! exception is the journal of delivered records, which gives way before anything that is still owed.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use super::evict::Need;
use super::reserve::Reserve;
use super::write::{Context, Write};
use super::{Ask, Class, Classes, Options, OutboxError, Payload, Queued, Record, Settlement, Stats, loss, pictures};
use crate::runtime::disk;
use crate::runtime::sqlite::{self, Fault};

pub(super) const FILE: &str = "outbox.db";

pub(super) const QUEUED: i64 = 0;
pub(super) const DELIVERED: i64 = 1;
pub(super) const ASIDE: i64 = 2;
pub(super) const EVICTED: i64 = 3;

/// Candidates looked at before the smallest go first: bounds how long a large one can be passed over.
const LOOKAHEAD: usize = 64;
/// Rows looked at once something to publish was found: thousands of events of few cases must not be read each time.
const LONGEST_SCAN: usize = 2_000;
/// Sizes within one step count as equal, so that among small records age decides.
const SIZE_STEP: u64 = 16 * 1024;
/// Eviction makes this much room at once, so that a full disk costs one report now and then, not one a record.
const EVICT_TO_PERCENT: u64 = 95;
/// How often one write may ask for room on a full disk. Each time more is dropped.
const ROOM_TRIES: u32 = 4;
/// What the first of these drops.
const ROOM_STEP: u64 = 1 << 20;

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
pub(crate) const STEPS: [&str; 1] = [SCHEMA];
/// Beside the first layout, which an older aerie still reads.
const NOTES: &str = "CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;";

/// Sums kept beside the rows, so that stats cost nothing. They follow a transaction only when it commits.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub queued: u64,
    pub delivered: u64,
    pub aside: u64,
    pub evicted: u64,
    pub bytes: u64,
}

impl Totals {
    /// Rows that have a payload.
    fn records(&self) -> u64 {
        self.queued + self.delivered + self.aside
    }
}

pub(super) struct Store {
    connection: Connection,
    dir: PathBuf,
    options: Options,
    totals: Totals,
    /// Handed out and not settled: seq to stream.
    out: HashMap<i64, (Class, String)>,
    quarantined: u64,
    reserve: Reserve,
    disk_full: bool,
}

/// What a group commit leaves to do once it is on disk.
#[derive(Default)]
struct Group {
    results: Vec<Result<u64, OutboxError>>,
    settled: Vec<i64>,
    unneeded: Vec<String>,
}

impl Store {
    pub(super) fn open(dir: &Path, options: Options) -> Result<Self, OutboxError> {
        let mut reserve = Reserve::new(dir, options.reserve_bytes);
        let (connection, found) = match open_database(dir) {
            Err(OutboxError::Database(error)) if error.is_full() && reserve.release() => open_database(dir)?,
            opened => opened?,
        };
        let path = dir.join(FILE);
        let totals = count(&connection).map_err(OutboxError::database("count records", &path))?;
        let mut store = Self {
            connection,
            dir: dir.to_owned(),
            options,
            totals,
            out: HashMap::new(),
            quarantined: 0,
            reserve,
            disk_full: false,
        };
        store.look_at_the_disk(Timestamp::now());
        if let Some(found) = found {
            store.report_broken(&found);
        }
        Ok(store)
    }

    fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// A database that broke in use is moved aside like one that was found broken, and what is readable is saved under
    /// the numbers it had: acknowledgements under way must not settle anything else.
    fn rebuild(&mut self) -> Result<(), OutboxError> {
        let path = self.path();
        let stand_in = Connection::open_in_memory().map_err(OutboxError::database("set aside", &path))?;
        drop(std::mem::replace(&mut self.connection, stand_in));
        let (connection, found) = open_database(&self.dir)?;
        self.connection = connection;
        if let Some(highest) = self.out.keys().max() {
            self.connection
                .execute_batch(&format!(
                    "INSERT INTO sqlite_sequence (name, seq) SELECT 'records', 0
                       WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'records');
                     UPDATE sqlite_sequence SET seq = MAX(seq, {highest}) WHERE name = 'records';"
                ))
                .map_err(OutboxError::database("number records", &path))?;
        }
        self.totals = count(&self.connection).map_err(OutboxError::database("count records", &path))?;
        if let Some(found) = found {
            self.report_broken(&found);
        }
        Ok(())
    }

    fn report_broken(&mut self, found: &Salvaged) {
        self.quarantined += 1;
        let Salvaged { name, why, saved } = found;
        let detail = format!(
            "the outbox database was broken ({why}) and is kept as {name}; {saved} waiting records were read from it, others may be lost"
        );
        let now = Timestamp::now();
        let report = loss::report(&self.options.source, ulid::Ulid::generate(), now, "corrupt_database", &detail, &[]);
        if let Err(error) = self.attempt(&[Write::Accept(vec![report])], now, &mut Group::default()) {
            // It is counted and kept beside, and a station that starts is worth more than its report.
            tracing::error!(%error, name, "the loss of a database could not be reported");
        }
    }

    /// Carries out a group of writes in one transaction: one fsync for all of them. Each stands or falls alone, and
    /// says how many records it changed.
    pub(super) fn write(&mut self, writes: &[Write], now: Timestamp) -> Vec<Result<u64, OutboxError>> {
        let (mut tries, mut rebuilt) = (0, false);
        loop {
            let before = self.totals;
            let mut group = Group::default();
            let source = match self.attempt(writes, now, &mut group) {
                Ok(()) => {
                    self.disk_full = false;
                    return self.committed(group);
                }
                Err(source) => source,
            };
            self.totals = before;
            match sqlite::fault(&source) {
                Fault::Full if tries < ROOM_TRIES && self.make_room(ROOM_STEP << (2 * tries), now) => {
                    tries += 1;
                    continue;
                }
                Fault::Full => self.disk_full = true,
                Fault::Broken if !rebuilt => {
                    rebuilt = true;
                    match self.rebuild() {
                        Ok(()) => continue,
                        Err(error) => tracing::error!(%error, "the broken outbox could not be begun anew"),
                    }
                }
                Fault::Broken | Fault::Other => {}
            }
            let error = OutboxError::database("commit records", &self.path())(source);
            tracing::error!(%error, "the outbox could not commit");
            return writes.iter().map(|_| Err(error.clone())).collect();
        }
    }

    fn committed(&mut self, group: Group) -> Vec<Result<u64, OutboxError>> {
        // Only now: a rolled back transaction must find its streams still held and its pictures in place.
        for seq in group.settled {
            self.out.remove(&seq);
        }
        for digest in group.unneeded {
            self.remove_if_unneeded(&digest);
        }
        group.results
    }

    fn attempt(&mut self, writes: &[Write], now: Timestamp, group: &mut Group) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let context = Context { rows: &transaction, options: &self.options, out: &self.out, now };
        let mut totals = self.totals;
        for write in writes {
            let result = match write {
                // Looked at before anything is written, so that nothing has to be undone.
                Write::Accept(records) => match sizes(&self.dir, records) {
                    Ok(sizes) => Ok(context.accept(&mut totals, records, &sizes)?),
                    Err(error) => Err(error),
                },
                Write::Settle(settlements) => {
                    context.settle(&mut totals, settlements)?;
                    group.settled.extend(settlements.iter().map(Settlement::seq));
                    Ok(0)
                }
                Write::Resend(which) => Ok(context.resend(&mut totals, which)?),
                Write::Note { name, value } => Ok(context.note(name, *value)?),
                Write::Purge => {
                    context.purge(&mut totals, &mut group.unneeded)?;
                    context.expire(&mut totals, &mut group.unneeded)?;
                    Ok(0)
                }
            };
            group.results.push(result);
        }
        let over = |used: u64, budget: u64| match used > budget {
            true => used - budget / 100 * EVICT_TO_PERCENT,
            false => 0,
        };
        let need = Need {
            bytes: over(totals.bytes, self.options.budget_bytes),
            records: over(totals.records(), self.options.budget_records),
            files: 0,
        };
        if need.is_some() {
            let why = format!(
                "the outbox outgrew its budget of {} bytes and {} records",
                self.options.budget_bytes, self.options.budget_records
            );
            context.evict(&mut totals, &mut group.unneeded, need, "budget", &why)?;
        }
        transaction.commit()?;
        self.totals = totals;
        Ok(())
    }

    /// The disk is full: gives the reserve away, then drops records by policy. Whether there is reason to try again.
    fn make_room(&mut self, bytes: u64, now: Timestamp) -> bool {
        let released = self.reserve.release();
        // Also what the reserve needs to be taken again: pictures would soon fill what is free.
        let need = Need { bytes, files: self.reserve.wanted(), ..Need::default() };
        let dropped = self.evict_now(need, "disk_full", "the disk is full", now).unwrap_or_else(|error| {
            tracing::warn!(%error, "no records could be dropped on a full disk");
            0
        });
        // What the log of changes took can be had back too.
        let _ = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        tracing::warn!(dropped, released, "the disk is full");
        released || dropped > 0
    }

    /// Drops records in a transaction of its own, for which the reserve is there. How many.
    fn evict_now(&mut self, need: Need, cause: &str, why: &str, now: Timestamp) -> rusqlite::Result<u64> {
        match self.evict_once(need, cause, why, now) {
            Err(error) if sqlite::fault(&error) == Fault::Full && self.reserve.release() => {
                self.evict_once(need, cause, why, now)
            }
            dropped => dropped,
        }
    }

    fn evict_once(&mut self, need: Need, cause: &str, why: &str, now: Timestamp) -> rusqlite::Result<u64> {
        let mut totals = self.totals;
        let mut unneeded = Vec::new();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let context = Context { rows: &transaction, options: &self.options, out: &self.out, now };
        let dropped = context.evict(&mut totals, &mut unneeded, need, cause, why)?;
        transaction.commit()?;
        self.totals = totals;
        for digest in unneeded {
            self.remove_if_unneeded(&digest);
        }
        Ok(dropped)
    }

    /// For a picture that found no room.
    pub(super) fn make_room_for_picture(&mut self, bytes: u64, now: Timestamp) {
        let need = Need { files: bytes + self.reserve.wanted(), ..Need::default() };
        if let Err(error) = self.evict_now(need, "disk_full", "the disk is full", now) {
            tracing::warn!(%error, "no pictures could be dropped on a full disk");
        }
        self.reserve.take(disk::free_bytes(&self.dir));
    }

    /// Keeps the space that others were promised, and the reserve.
    pub(super) fn look_at_the_disk(&mut self, now: Timestamp) {
        let free = disk::free_bytes(&self.dir);
        self.reserve.take(free);
        let least = self.options.min_free_bytes;
        let Some(short) = free.and_then(|free| least.checked_sub(free)).filter(|short| *short > 0) else { return };
        let need = Need { files: short, ..Need::default() };
        let why = format!("less than {least} bytes were free on the disk");
        match self.evict_now(need, "disk_full", &why, now) {
            Ok(0) => {}
            Ok(dropped) => tracing::warn!(dropped, "pictures were dropped to keep space free"),
            Err(error) => tracing::warn!(%error, "no pictures could be dropped to keep space free"),
        }
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
    pub(super) fn next(&mut self, ask: &Ask, now: Timestamp) -> Result<Vec<Queued>, OutboxError> {
        let path = self.path();
        let chosen = match self.choose(ask, now) {
            Err(source) if sqlite::fault(&source) == Fault::Broken => {
                self.rebuild()?;
                self.choose(ask, now)
            }
            chosen => chosen,
        };
        let chosen = chosen.map_err(OutboxError::database("read the queue", &path))?;
        for queued in &chosen {
            self.out.insert(queued.seq, (queued.record.class, queued.record.key.clone()));
        }
        Ok(chosen)
    }

    fn choose(&self, ask: &Ask, now: Timestamp) -> rusqlite::Result<Vec<Queued>> {
        let Ask { classes, limit, bytes } = ask;
        let mut passed: HashSet<(i64, String)> = self
            .out
            .values()
            .filter(|(_, key)| !key.is_empty())
            .map(|(class, key)| (class.code(), key.clone()))
            .collect();
        let mut heads: Vec<(i64, u64, i64, u64)> = Vec::new();
        let mut scanned = 0;
        let mut query = self.connection.prepare_cached(
            "SELECT seq, class, key, bytes, retry_at FROM records
             WHERE state = 0 AND class BETWEEN ?1 AND ?2 ORDER BY class, seq",
        )?;
        let mut rows = query.query([classes.start().code(), classes.end().code()])?;
        while let Some(row) = rows.next()? {
            scanned += 1;
            if scanned > LONGEST_SCAN && !heads.is_empty() {
                break;
            }
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
            if heads.len() >= LOOKAHEAD.max(*limit) {
                break;
            }
        }
        heads.sort_unstable();
        let mut left = *bytes;
        let mut chosen = Vec::new();
        for (_, _, seq, size) in heads.into_iter().take(*limit) {
            let alone = chosen.is_empty() && !self.out.values().any(|(class, _)| classes.contains(class));
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
    pub(super) fn restart(&mut self, classes: &Classes, max_packet_bytes: Option<u64>) -> Result<(), OutboxError> {
        self.out.retain(|_, (class, _)| !classes.contains(class));
        let path = self.path();
        let limit = max_packet_bytes.map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let again = self
            .connection
            .execute(
                "UPDATE records SET state = 0, ended_at = NULL, reason = NULL, packet_bytes = NULL
                 WHERE state = 2 AND packet_bytes <= ?1 AND class BETWEEN ?2 AND ?3",
                [limit, classes.start().code(), classes.end().code()],
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
            disk_full: self.disk_full,
        }
    }
}

impl Settlement {
    fn seq(&self) -> i64 {
        match self {
            Self::Delivered { seq, .. } | Self::Later { seq, .. } | Self::Aside { seq, .. } => *seq,
        }
    }
}

/// The payload size of each record, or why they cannot be taken.
fn sizes(dir: &Path, records: &[Record]) -> Result<Vec<u64>, OutboxError> {
    let size = |record: &Record| {
        if record.id.is_empty() || record.id.chars().count() > 200 {
            return Err(OutboxError::BadId(record.id.clone()));
        }
        match &record.payload {
            Payload::Bytes(body) => Ok(body.len() as u64),
            Payload::File(digest) => pictures::size(dir, digest)
                .ok_or_else(|| OutboxError::PictureMissing { id: record.id.clone(), digest: digest.clone() }),
        }
    };
    records.iter().map(size).collect()
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

/// A broken database that was moved aside.
struct Salvaged {
    name: String,
    why: String,
    saved: u64,
}

fn open_database(dir: &Path) -> Result<(Connection, Option<Salvaged>), OutboxError> {
    let path = dir.join(FILE);
    let (mut connection, broken) = sqlite::open(&path, &STEPS)?;
    connection.execute_batch(NOTES).map_err(OutboxError::database("create the tables", &path))?;
    let found = broken.map(|broken| {
        let saved = salvage(&broken.moved_to, &mut connection).unwrap_or_else(|error| {
            tracing::warn!(%error, "nothing more could be read from the broken database");
            0
        });
        let name = broken.moved_to.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Salvaged { name, why: broken.why, saved }
    });
    Ok((connection, found))
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
            "SELECT seq, id, class, key, topic, content_type, body, file, bytes, captured_at, accepted_at
             FROM records NOT INDEXED WHERE state = 0 ORDER BY seq",
        )?;
        let mut insert = transaction.prepare(
            "INSERT INTO records (seq, id, class, key, topic, content_type, body, file, bytes, captured_at, accepted_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING",
        )?;
        let mut rows = query.query([])?;
        while let Ok(Some(row)) = rows.next() {
            let values: rusqlite::Result<Vec<rusqlite::types::Value>> = (0..11).map(|column| row.get(column)).collect();
            let Ok(values) = values else { continue };
            saved += insert.execute(rusqlite::params_from_iter(values)).unwrap_or(0) as u64;
        }
    }
    transaction.commit()?;
    Ok(saved)
}
