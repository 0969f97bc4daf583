//! What became of every command: `commands.db`. Synchronous; [`super::Door`] calls it from blocking threads.
//!
//! A row is written before anything is done, and closed exactly once: `received → accepted → running → done | failed |
//! refused | expired`. The reply is stored as it was given, so that the same id always gets the same one.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::{CommandError, Envelope, Interrupted, Reply, ReplyTo, Status};
use crate::runtime::sqlite;

const FILE: &str = "commands.db";
/// Longer than any deadline, so that a forgotten id belongs to a command that is too late anyway.
const RETENTION: SignedDuration = SignedDuration::from_hours(90 * 24);

const SCHEMA: &str = "
    CREATE TABLE commands (
        id          TEXT PRIMARY KEY,
        name        TEXT NOT NULL,
        operator    TEXT NOT NULL,
        origin      TEXT NOT NULL,
        envelope    TEXT NOT NULL,
        state       TEXT NOT NULL,
        received_at INTEGER NOT NULL,
        accepted_at INTEGER,
        running_at  INTEGER,
        ended_at    INTEGER,
        reply       TEXT,
        reply_topic TEXT,
        correlation BLOB
    ) STRICT;
    CREATE INDEX open ON commands (received_at) WHERE reply IS NULL;
    CREATE TABLE floor (issued_after INTEGER NOT NULL) STRICT;
";
/// From nothing to the layout of today. A released step is never changed, only followed.
pub(crate) const STEPS: [&str; 1] = [SCHEMA];

pub(super) struct Journal {
    connection: Mutex<Connection>,
    path: PathBuf,
    /// Commands issued before this are refused: a broken journal no longer knows whether they were carried out.
    floor: Option<Timestamp>,
}

/// One command as the journal has it, for the page and the command line.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Entry {
    pub id: String,
    pub name: String,
    pub operator: String,
    /// The key's id with `mqtt:` before it, or what a local caller named: `page`, `cli`.
    pub origin: String,
    pub state: String,
    pub received_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub reason: Option<String>,
}

/// What the journal knows of an id.
pub(super) enum Known {
    New,
    Closed(Reply),
    /// The id was used for another command: that one's reply would be taken for this one's.
    Another(String),
    /// Open, and not by this process: cannot be, since opening the journal closes those.
    Open,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    Accepted,
    Running,
}

impl Journal {
    /// Opens the journal and closes what a crash left open.
    pub(super) fn open(dir: &Path, now: Timestamp) -> Result<(Self, Vec<Interrupted>), CommandError> {
        std::fs::create_dir_all(dir).map_err(|source| CommandError::Directory { path: dir.to_owned(), source })?;
        let path = dir.join(FILE);
        let (connection, broken) = sqlite::open(&path, &STEPS)?;
        let opened = || -> rusqlite::Result<(Option<Timestamp>, Vec<Interrupted>)> {
            if broken.is_some() {
                // The tolerance of the operator's clock is inside this minute.
                let floor = now.saturating_add(SignedDuration::from_secs(60)).unwrap_or(now);
                connection.execute("INSERT INTO floor VALUES (?1)", [floor.as_microsecond()])?;
            }
            let floor: Option<i64> =
                connection.query_row("SELECT MAX(issued_after) FROM floor", [], |row| row.get(0))?;
            let oldest = now.saturating_sub(RETENTION).unwrap_or(Timestamp::MIN);
            connection.execute("DELETE FROM commands WHERE ended_at < ?1", [oldest.as_microsecond()])?;
            let interrupted = close_open(&connection, now)?;
            Ok((floor.and_then(|at| Timestamp::from_microsecond(at).ok()), interrupted))
        };
        let (floor, interrupted) = opened().map_err(sqlite::failed("open the command journal", &path))?;
        Ok((Self { connection: Mutex::new(connection), path, floor }, interrupted))
    }

    pub(super) fn floor(&self) -> Option<Timestamp> {
        self.floor
    }

    pub(super) fn receive(
        &self,
        envelope: &Envelope,
        origin: &str,
        to: &ReplyTo,
        now: Timestamp,
    ) -> Result<Known, CommandError> {
        self.query("journal a command", |connection| {
            let added = connection.execute(
                "INSERT INTO commands (id, name, operator, origin, envelope, state, received_at, reply_topic, correlation)
                 VALUES (?1, ?2, ?3, ?4, ?5, 'received', ?6, ?7, ?8) ON CONFLICT (id) DO NOTHING",
                params![
                    envelope.id,
                    envelope.name,
                    envelope.operator,
                    origin,
                    serde_json::to_string(envelope).unwrap_or_default(),
                    now.as_microsecond(),
                    to.topic,
                    to.correlation_data,
                ],
            )?;
            if added == 1 {
                return Ok(Known::New);
            }
            let (reply, before): (Option<String>, String) = connection.query_row(
                "SELECT reply, envelope FROM commands WHERE id = ?1",
                [&envelope.id],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            if let Ok(before) = serde_json::from_str::<Envelope>(&before)
                && (&before.name, &before.args) != (&envelope.name, &envelope.args)
            {
                return Ok(Known::Another(before.name));
            }
            Ok(reply.and_then(|reply| serde_json::from_str(&reply).ok()).map_or(Known::Open, Known::Closed))
        })
    }

    pub(super) fn advance(&self, id: &str, stage: Stage, now: Timestamp) -> Result<(), CommandError> {
        let sql = match stage {
            Stage::Accepted => {
                "UPDATE commands SET state = 'accepted', accepted_at = ?2 WHERE id = ?1 AND reply IS NULL"
            }
            Stage::Running => "UPDATE commands SET state = 'running', running_at = ?2 WHERE id = ?1 AND reply IS NULL",
        };
        self.query("journal a command", |connection| connection.execute(sql, params![id, now.as_microsecond()]))
            .map(|_| ())
    }

    /// Closes a command. The first reply stands: what is returned is what the journal has now.
    pub(super) fn close(&self, id: &str, reply: &Reply, now: Timestamp) -> Result<Reply, CommandError> {
        self.query("journal a reply", |connection| {
            connection.execute(
                "UPDATE commands SET state = ?2, ended_at = ?3, reply = ?4 WHERE id = ?1 AND reply IS NULL",
                params![
                    id,
                    reply.status.name(),
                    now.as_microsecond(),
                    serde_json::to_string(reply).unwrap_or_default()
                ],
            )?;
            let stored: Option<Option<String>> =
                connection.query_row("SELECT reply FROM commands WHERE id = ?1", [id], |row| row.get(0)).optional()?;
            Ok(stored.flatten().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_else(|| reply.clone()))
        })
    }

    pub(super) fn list(&self, limit: usize) -> Result<Vec<Entry>, CommandError> {
        self.query("read the command journal", |connection| {
            let mut query = connection.prepare_cached(
                "SELECT id, name, operator, origin, state, received_at, ended_at, reply FROM commands
                 ORDER BY received_at DESC, rowid DESC LIMIT ?1",
            )?;
            let entries = query.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
                let time = |column| -> rusqlite::Result<Option<Timestamp>> {
                    Ok(row.get::<_, Option<i64>>(column)?.and_then(|at| Timestamp::from_microsecond(at).ok()))
                };
                let reply: Option<Reply> =
                    row.get::<_, Option<String>>(7)?.and_then(|text| serde_json::from_str(&text).ok());
                Ok(Entry {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    operator: row.get(2)?,
                    origin: row.get(3)?,
                    state: row.get(4)?,
                    received_at: time(5)?,
                    ended_at: time(6)?,
                    reason: reply.and_then(|reply| reply.reason),
                })
            })?;
            entries.collect()
        })
    }

    fn query<T>(
        &self,
        doing: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, CommandError> {
        // SQLite rolled back whatever a panicking holder had begun, so the connection is good.
        let connection: MutexGuard<'_, Connection> = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        query(&connection).map_err(|source| sqlite::failed(doing, &self.path)(source).into())
    }
}

/// Whatever a dead process had begun did not end well, as far as anybody can know.
fn close_open(connection: &Connection, now: Timestamp) -> rusqlite::Result<Vec<Interrupted>> {
    let mut query = connection.prepare(
        "SELECT id, reply_topic, correlation, origin FROM commands WHERE reply IS NULL ORDER BY received_at",
    )?;
    let open = query.query_map([], |row| {
        Ok(Interrupted {
            reply: Reply {
                id: Some(row.get(0)?),
                status: Status::Failed,
                reason: Some("interrupted: the station restarted before it was finished".to_owned()),
                data: serde_json::Value::Null,
            },
            reply_to: ReplyTo { topic: row.get(1)?, correlation_data: row.get(2)? },
            by_mqtt: row.get::<_, String>(3)?.starts_with("mqtt:"),
        })
    })?;
    let open: Vec<Interrupted> = open.collect::<rusqlite::Result<_>>()?;
    for one in &open {
        connection.execute(
            "UPDATE commands SET state = ?2, ended_at = ?3, reply = ?4 WHERE id = ?1",
            params![
                one.reply.id,
                one.reply.status.name(),
                now.as_microsecond(),
                serde_json::to_string(&one.reply).unwrap_or_default()
            ],
        )?;
    }
    Ok(open)
}
