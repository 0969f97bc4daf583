//! How aerie opens a database it depends on: durable settings, a known layout, and a broken one moved aside.
//! Shared with the command journal.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode};

/// Why a database cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DatabaseError {
    #[error("cannot {doing} in {}; check the disk, its free space and the file's owner", path.display())]
    Failed {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: Arc<rusqlite::Error>,
    },
    #[error("{} was written by a newer aerie (layout {found}, this one reads {known}); start that version again", path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("cannot move the broken database {} aside; check the directory's owner", path.display())]
    Quarantine {
        path: PathBuf,
        #[source]
        source: Arc<std::io::Error>,
    },
    #[error("{} is broken again right after it was made anew ({why}); check the disk", path.display())]
    Broken { path: PathBuf, why: String },
}

impl DatabaseError {
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Failed { source, .. } if fault(source) == Fault::Full)
    }
}

/// A database that was found broken.
#[derive(Debug)]
pub(crate) struct Broken {
    pub moved_to: PathBuf,
    pub why: String,
}

pub(crate) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> DatabaseError + use<> {
    let path = path.to_owned();
    move |source| DatabaseError::Failed { doing, path, source: Arc::new(source) }
}

/// Opens the database, creating it by `schema` when absent. A broken one is moved aside and replaced by an empty
/// one: the caller reports that, and reads from the old file what it can.
pub(crate) fn open(path: &Path, schema: &str, layout: i64) -> Result<(Connection, Option<Broken>), DatabaseError> {
    match open_sound(path, schema, layout) {
        Ok(connection) => Ok((connection, None)),
        Err(Unsound::Failed(error)) => Err(error),
        Err(Unsound::Broken(why)) => {
            let moved_to = quarantine(path)?;
            tracing::error!(%why, moved_to = %moved_to.display(), "a database was broken and has been moved aside");
            match open_sound(path, schema, layout) {
                Ok(connection) => Ok((connection, Some(Broken { moved_to, why }))),
                Err(Unsound::Failed(error)) => Err(error),
                Err(Unsound::Broken(why)) => Err(DatabaseError::Broken { path: path.to_owned(), why }),
            }
        }
    }
}

/// What a failure says of the disk and the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No room, neither for the database nor for what belongs to it.
    Full,
    /// The content is not what was written.
    Broken,
    Other,
}

pub(crate) fn fault(error: &rusqlite::Error) -> Fault {
    let extended = error.sqlite_error().map(|error| error.extended_code);
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Fault::Full,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Fault::Broken,
        // The index of the log grows in a file of its own, and says it in its own way.
        _ if extended == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE) => Fault::Full,
        // Also how a quota that is used up looks.
        _ if extended == Some(rusqlite::ffi::SQLITE_IOERR_WRITE) => Fault::Full,
        _ => Fault::Other,
    }
}

enum Unsound {
    /// Its content is not what SQLite or we wrote.
    Broken(String),
    Failed(DatabaseError),
}

fn open_sound(path: &Path, schema: &str, layout: i64) -> Result<Connection, Unsound> {
    let judge = |doing: &'static str| {
        move |error: rusqlite::Error| match fault(&error) {
            Fault::Broken => Unsound::Broken(error.to_string()),
            Fault::Full | Fault::Other => Unsound::Failed(failed(doing, path)(error)),
        }
    };
    let connection = Connection::open(path).map_err(judge("open the database"))?;
    configure(&connection).map_err(judge("open the database"))?;
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(judge("check the database"))?;
    if verdict != "ok" {
        return Err(Unsound::Broken(verdict));
    }
    let found: i64 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(judge("read the layout"))?;
    if found == 0 {
        connection
            .execute_batch(&format!("BEGIN IMMEDIATE; {schema} PRAGMA user_version = {layout}; COMMIT;"))
            .map_err(judge("create the tables"))?;
        // A file is safe from a power cut once its name is on the disk too; SQLite sees to its content only.
        if let Some(folder) = path.parent() {
            let synced = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(|error| {
                let source = rusqlite::Error::ToSqlConversionFailure(Box::new(error));
                Unsound::Failed(failed("make the folder durable", path)(source))
            })?;
        }
    } else if found > layout {
        return Err(Unsound::Failed(DatabaseError::Newer { path: path.to_owned(), found, known: layout }));
    } else if found < layout {
        // The first layout is 1, so nothing older exists to migrate from.
        return Err(Unsound::Broken(format!("unknown layout {found}")));
    }
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Every commit survives a power cut; without FULL, WAL only promises that the file stays consistent.
    connection.pragma_update(None, "synchronous", "FULL")
}

/// Moves a database and what belongs to it aside, under a name that says when.
fn quarantine(path: &Path) -> Result<PathBuf, DatabaseError> {
    let with = |base: &Path, suffix: &str| {
        let mut name = base.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let moved = with(path, &format!(".corrupt-{}", Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ")));
    let rename = |from: &Path, to: &Path| {
        std::fs::rename(from, to)
            .map_err(|source| DatabaseError::Quarantine { path: from.to_owned(), source: Arc::new(source) })
    };
    rename(path, &moved)?;
    for suffix in ["-wal", "-shm"] {
        let from = with(path, suffix);
        if from.exists() {
            rename(&from, &with(&moved, suffix))?;
        }
    }
    Ok(moved)
}
