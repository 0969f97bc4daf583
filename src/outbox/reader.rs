//! Reading beside the owner: for the command line, which may look at the outbox of a running station, and for
//! the questions that would hold up the owner.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, params};
use serde::Serialize;

use super::store::{self, ASIDE, DELIVERED, EVICTED, FILE, QUEUED, class_at, time_at};
use super::{Class, OutboxError, pictures};
use super::{DatabaseError, NO_SUBSCRIBERS, sqlite};

/// A read-only view of an outbox on disk.
pub struct Reader {
    connection: Connection,
    dir: PathBuf,
}

/// One acknowledged record that began with a shutter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Latency {
    pub id: String,
    pub class: Class,
    pub captured_at: Timestamp,
    pub acked_at: Timestamp,
}

/// One row of `aerie outbox list`.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    pub seq: i64,
    pub id: String,
    pub class: Class,
    pub key: String,
    pub topic: String,
    pub bytes: u64,
    /// `queued`, `delivered`, `aside` or `evicted`.
    pub state: &'static str,
    /// How often it was refused and has to wait, or broke the connection.
    pub attempts: u32,
    pub reason: Option<String>,
    pub captured_at: Option<Timestamp>,
    pub accepted_at: Option<Timestamp>,
    /// When it was acknowledged, set aside or evicted.
    pub ended_at: Option<Timestamp>,
}

/// What `aerie outbox check` found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CheckReport {
    /// What SQLite's integrity check complains about.
    pub faults: Vec<String>,
    /// Records that are still owed and whose picture is gone.
    pub missing_pictures: Vec<String>,
    /// Records that are still owed and whose picture is not what its name says.
    pub damaged_pictures: Vec<String>,
    /// Of the journal: delivered records whose picture is gone or damaged. Nothing is owed; they cannot be sent again.
    pub lost_to_resend: Vec<String>,
    /// Pictures that no record needs; harmless, they only take space.
    pub unowned_pictures: u64,
    pub queued: u64,
    pub delivered: u64,
    /// Of the delivered: the broker took them, and had nobody to give them to.
    pub unheard: u64,
    /// When the first of these was acknowledged: what `outbox.resend` wants as `since`.
    pub unheard_since: Option<Timestamp>,
    pub aside: u64,
    pub evicted: u64,
}

impl CheckReport {
    /// Nothing that is still owed has been damaged.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty() && self.missing_pictures.is_empty() && self.damaged_pictures.is_empty()
    }
}

/// Whether the station would take this outbox as it is: [`Reader`] itself reads what it can.
pub fn would_open(dir: &Path) -> Result<(), OutboxError> {
    let looked = sqlite::look(&dir.join(FILE), &store::STEPS);
    looked.map(|_| ()).map_err(|error| match error {
        DatabaseError::Damaged { path, why } => OutboxError::Damaged { path, why },
        other => other.into(),
    })
}

impl Reader {
    pub fn open(dir: &Path) -> Result<Self, OutboxError> {
        let path = dir.join(FILE);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(&path, flags).map_err(OutboxError::database("open the outbox", &path))?;
        connection
            .busy_timeout(std::time::Duration::from_secs(5))
            .map_err(OutboxError::database("open the outbox", &path))?;
        Ok(Self { connection, dir: dir.to_owned() })
    }

    pub fn latencies(&self, since: Timestamp) -> Result<Vec<Latency>, OutboxError> {
        self.rows(
            "SELECT id, class, captured_at, ended_at FROM records
             WHERE state = 1 AND ended_at >= ?1 AND captured_at IS NOT NULL ORDER BY ended_at",
            params![since.as_microsecond()],
            |row| {
                Ok(Latency {
                    id: row.get(0)?,
                    class: class_at(row, 1)?,
                    captured_at: time_at(row, 2)?.unwrap_or_default(),
                    acked_at: time_at(row, 3)?.unwrap_or_default(),
                })
            },
        )
    }

    pub fn list(&self, limit: usize) -> Result<Vec<Listed>, OutboxError> {
        self.rows(
            "SELECT seq, id, class, key, topic, bytes, state, attempts, reason, captured_at, accepted_at, ended_at
             FROM records ORDER BY seq DESC LIMIT ?1",
            params![i64::try_from(limit).unwrap_or(i64::MAX)],
            |row| {
                Ok(Listed {
                    seq: row.get(0)?,
                    id: row.get(1)?,
                    class: class_at(row, 2)?,
                    key: row.get(3)?,
                    topic: row.get(4)?,
                    bytes: row.get::<_, i64>(5)?.unsigned_abs(),
                    state: match row.get(6)? {
                        QUEUED => "queued",
                        DELIVERED => "delivered",
                        ASIDE => "aside",
                        _ => "evicted",
                    },
                    attempts: row.get(7)?,
                    reason: row.get(8)?,
                    captured_at: time_at(row, 9)?,
                    accepted_at: time_at(row, 10)?,
                    ended_at: time_at(row, 11)?,
                })
            },
        )
    }

    pub fn note(&self, name: &str) -> Result<Option<i64>, OutboxError> {
        Ok(self.rows("SELECT value FROM notes WHERE name = ?1", params![name], |row| row.get(0))?.pop())
    }

    pub fn check(&self) -> Result<CheckReport, OutboxError> {
        let mut report = CheckReport {
            faults: self
                .rows("PRAGMA integrity_check(20)", [], |row| row.get::<_, String>(0))?
                .into_iter()
                .filter(|line| line != "ok")
                .collect(),
            ..CheckReport::default()
        };
        for (state, count) in self.rows("SELECT state, COUNT(*) FROM records GROUP BY state", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?.unsigned_abs()))
        })? {
            match state {
                QUEUED => report.queued = count,
                DELIVERED => report.delivered = count,
                ASIDE => report.aside = count,
                EVICTED => report.evicted = count,
                other => report.faults.push(format!("{count} records in unknown state {other}")),
            }
        }
        for (count, since) in self.rows(
            "SELECT COUNT(*), MIN(ended_at) FROM records WHERE state = ?1 AND reason = ?2",
            params![DELIVERED, NO_SUBSCRIBERS],
            |row| Ok((row.get::<_, i64>(0)?.unsigned_abs(), time_at(row, 1)?)),
        )? {
            (report.unheard, report.unheard_since) = (count, since);
        }
        let mut owned = HashSet::new();
        for (id, digest, state) in
            self.rows("SELECT id, file, state FROM records WHERE file IS NOT NULL", [], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
            })?
        {
            match pictures::is_whole(&self.dir, &digest) {
                Some(true) => {}
                _ if state == DELIVERED => report.lost_to_resend.push(id),
                Some(false) => report.damaged_pictures.push(id),
                None => report.missing_pictures.push(id),
            }
            owned.insert(format!("{digest}.jpg"));
        }
        let folder = pictures::directory(&self.dir);
        let files = std::fs::read_dir(&folder).map_err(OutboxError::files("read", &folder))?;
        report.unowned_pictures =
            files.flatten().filter(|file| !owned.contains(file.file_name().to_string_lossy().as_ref())).count() as u64;
        Ok(report)
    }

    fn rows<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, OutboxError> {
        let path = self.dir.join(store::FILE);
        let query = || -> rusqlite::Result<Vec<T>> { self.connection.prepare(sql)?.query_map(params, read)?.collect() };
        query().map_err(OutboxError::database("read the outbox", &path))
    }
}
