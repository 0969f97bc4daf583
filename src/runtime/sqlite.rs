//! How aerie opens a database it depends on: durable settings, and a layout that is brought forward step by step.
//!
//! - A new one is made under another name and renamed once it is whole: so a file that is there and holds no layout (an empty
//!   one, another program's) is a broken one, not a new one;
//! - a log that is damaged before its end is a broken database: SQLite takes the damage for the end and forgets the rest;
//! - a file of an older layout is copied beside itself before it is touched, then each step is one transaction;
//! - a file of a newer layout is refused: this version would not know what it destroys;
//! - a broken file is moved aside and replaced ([`open`]), or refused where an empty one would be dangerous ([`open_whole`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::wal;

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
    #[error(
        "{} was written by a newer aerie (layout {found}, this one reads {known}); install that version again, or put a backup of before it back with `aerie restore`", path.display()
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("cannot move the broken database {} aside; check the directory's owner", path.display())]
    Quarantine {
        path: PathBuf,
        #[source]
        source: Arc<std::io::Error>,
    },
    #[error("{} is broken again right after it was made anew ({why}); check the disk", path.display())]
    Broken { path: PathBuf, why: String },
    #[error(
        "{} is damaged ({why}); put a backup back with `aerie restore`. Moved away by hand, the station would start without its cases, and without the holds that keep it on the ground", path.display()
    )]
    Damaged { path: PathBuf, why: String },
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

/// Opens the database, creating it when absent; `steps[n]` brings layout `n` to `n + 1`. A broken one is moved aside
/// and replaced by an empty one: the caller reports that, and reads from the old file what it can.
pub(crate) fn open(path: &Path, steps: &[&str]) -> Result<(Connection, Option<Broken>), DatabaseError> {
    match open_sound(path, steps) {
        Ok(connection) => Ok((connection, None)),
        Err(Unsound::Failed(error)) => Err(error),
        Err(Unsound::Broken(why)) => {
            let moved_to = quarantine(path)?;
            tracing::error!(%why, moved_to = %moved_to.display(), "a database was broken and has been moved aside");
            match open_sound(path, steps) {
                Ok(connection) => Ok((connection, Some(Broken { moved_to, why }))),
                Err(Unsound::Failed(error)) => Err(error),
                Err(Unsound::Broken(why)) => Err(DatabaseError::Broken { path: path.to_owned(), why }),
            }
        }
    }
}

/// As [`open`], but a broken database is an error.
pub(crate) fn open_whole(path: &Path, steps: &[&str]) -> Result<Connection, DatabaseError> {
    open_sound(path, steps).map_err(|unsound| match unsound {
        Unsound::Failed(error) => error,
        Unsound::Broken(why) => DatabaseError::Damaged { path: path.to_owned(), why },
    })
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

/// Its layout, read without changing anything: a file that is damaged or of a newer layout is an error, as it would be at
/// the start. Where nothing of it waits in a log, not even an index of the log is made beside it.
pub(crate) fn look(path: &Path, steps: &[&str]) -> Result<i64, DatabaseError> {
    let judge = |doing: &'static str| {
        move |error: rusqlite::Error| match fault(&error) {
            Fault::Broken => DatabaseError::Damaged { path: path.to_owned(), why: error.to_string() },
            Fault::Full | Fault::Other => failed(doing, path)(error),
        }
    };
    if !path.is_file() {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file; has the station run yet?");
        return Err(failed("find the database", path)(rusqlite::Error::ToSqlConversionFailure(Box::new(source))));
    }
    if let Err(Unsound::Broken(why)) = log_is_whole(path) {
        return Err(DatabaseError::Damaged { path: path.to_owned(), why });
    }
    let connection = if beside(path, "-wal").exists() {
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
    } else {
        let escaped: String = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        Connection::open_with_flags(format!("file:{escaped}?immutable=1"), flags)
    };
    let connection = connection.map_err(judge("open the database"))?;
    let found: i64 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(judge("read the layout"))?;
    let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(DatabaseError::Newer { path: path.to_owned(), found, known });
    }
    if found < 1 && !is_uncounted(&connection, steps, found).map_err(judge("read the tables"))? {
        let why = format!("it holds nothing of aerie's, its layout is {found}");
        return Err(DatabaseError::Damaged { path: path.to_owned(), why });
    }
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(judge("check the database"))?;
    if verdict != "ok" {
        return Err(DatabaseError::Damaged { path: path.to_owned(), why: verdict });
    }
    Ok(found)
}

enum Unsound {
    /// Its content is not what SQLite or we wrote.
    Broken(String),
    Failed(DatabaseError),
}

fn open_sound(path: &Path, steps: &[&str]) -> Result<Connection, Unsound> {
    let judge = |doing: &'static str| {
        move |error: rusqlite::Error| match fault(&error) {
            Fault::Broken => Unsound::Broken(error.to_string()),
            Fault::Full | Fault::Other => Unsound::Failed(failed(doing, path)(error)),
        }
    };
    if !path.exists() {
        make(path, steps)?;
    }
    log_is_whole(path)?;
    let connection = Connection::open(path).map_err(judge("open the database"))?;
    configure(&connection).map_err(judge("open the database"))?;
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(judge("check the database"))?;
    if verdict != "ok" {
        return Err(Unsound::Broken(verdict));
    }
    let found: i64 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(judge("read the layout"))?;
    let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(Unsound::Failed(DatabaseError::Newer { path: path.to_owned(), found, known }));
    }
    let done = match usize::try_from(found) {
        Ok(done) if done > 0 || is_uncounted(&connection, steps, found).map_err(judge("read the tables"))? => done,
        _ => return Err(Unsound::Broken(format!("it holds nothing of aerie's, its layout is {found}"))),
    };
    if found > 0 && found < known {
        keep_copy(&connection, path, found).map_err(judge("copy the database before it is brought forward"))?;
    }
    for (index, step) in steps.iter().enumerate().skip(done) {
        let layout = index + 1;
        connection
            .execute_batch(&format!("BEGIN IMMEDIATE; {step}; PRAGMA user_version = {layout}; COMMIT;"))
            .map_err(judge("bring the tables forward"))?;
        tracing::info!(database = %path.display(), layout, "a database was brought forward");
    }
    Ok(connection)
}

/// Makes a new database, whole or not at all.
fn make(path: &Path, steps: &[&str]) -> Result<(), Unsound> {
    let files = |doing: &'static str| {
        move |error: std::io::Error| {
            let source = rusqlite::Error::ToSqlConversionFailure(Box::new(error));
            Unsound::Failed(failed(doing, path)(source))
        }
    };
    // The log of a database that somebody took away would be played into the new one.
    let log = beside(path, "-wal");
    if log.exists() {
        let aside = beside(path, ".orphan-wal");
        std::fs::rename(&log, &aside).map_err(files("move aside the log of a database that is gone"))?;
        let _ = std::fs::remove_file(beside(path, "-shm"));
        tracing::error!(moved_to = %aside.display(), "a database is gone and its log is not: a new one is made");
    }
    let new = beside(path, ".new");
    for left_over in [new.clone(), beside(&new, "-journal")] {
        let _ = std::fs::remove_file(left_over);
    }
    let write = || -> rusqlite::Result<()> {
        let connection = Connection::open(&new)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(&format!(
            "BEGIN; {}; PRAGMA user_version = {}; COMMIT;",
            steps.join(";"),
            steps.len()
        ))?;
        connection.close().map_err(|(_, error)| error)
    };
    let made = write();
    if made.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    made.map_err(|error| Unsound::Failed(failed("create the tables", path)(error)))?;
    std::fs::rename(&new, path).map_err(files("create the tables"))?;
    // A file is safe from a power cut once its name is on the disk too; SQLite sees to its content only.
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(files("make the folder durable"))
}

/// Whether it has tables of ours and no number: so the first versions wrote it.
fn is_uncounted(connection: &Connection, steps: &[&str], found: i64) -> rusqlite::Result<bool> {
    let Some(first) = steps.first().filter(|_| found == 0) else { return Ok(false) };
    let blank = Connection::open_in_memory()?;
    blank.execute_batch(first)?;
    let tables = |connection: &Connection| -> rusqlite::Result<Vec<String>> {
        let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
        connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
    };
    let ours = tables(&blank)?;
    Ok(tables(connection)?.iter().any(|table| ours.contains(table)))
}

fn log_is_whole(path: &Path) -> Result<(), Unsound> {
    match std::fs::File::open(beside(path, "-wal")) {
        Ok(file) => wal::damage(file).map_or(Ok(()), |why| Err(Unsound::Broken(why))),
        // None, or none that we may read: SQLite will say so.
        Err(_) => Ok(()),
    }
}

/// What an older aerie needs when an upgrade is taken back. One that lies there already is of an earlier try: the same.
fn keep_copy(connection: &Connection, path: &Path, layout: i64) -> rusqlite::Result<()> {
    let copy = beside(path, &format!(".layout-{layout}"));
    if copy.exists() {
        return Ok(());
    }
    connection.execute("VACUUM INTO ?1", [copy.to_string_lossy()]).map(|_| ())
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Every commit survives a power cut; without FULL, WAL only promises that the file stays consistent.
    connection.pragma_update(None, "synchronous", "FULL")
}

/// Moves a database and what belongs to it aside, under a name that says when.
fn quarantine(path: &Path) -> Result<PathBuf, DatabaseError> {
    let moved = beside(path, &format!(".corrupt-{}", Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ")));
    let rename = |from: &Path, to: &Path| {
        std::fs::rename(from, to)
            .map_err(|source| DatabaseError::Quarantine { path: from.to_owned(), source: Arc::new(source) })
    };
    rename(path, &moved)?;
    for suffix in ["-wal", "-shm"] {
        let from = beside(path, suffix);
        if from.exists() {
            rename(&from, &beside(&moved, suffix))?;
        }
    }
    Ok(moved)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "CREATE TABLE birds (name TEXT)";
    const SECOND: &str = "ALTER TABLE birds ADD COLUMN rings INTEGER NOT NULL DEFAULT 0";

    fn layout(connection: &Connection) -> i64 {
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn an_older_layout_is_brought_forward_and_the_older_file_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("birds.db");
        open(&path, &[FIRST]).unwrap().0.execute("INSERT INTO birds VALUES ('kite')", []).unwrap();
        let (connection, broken) = open(&path, &[FIRST, SECOND]).unwrap();
        assert!(broken.is_none());
        let row = connection.query_row("SELECT name, rings FROM birds", [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
        assert_eq!((row, layout(&connection)), (("kite".to_owned(), 0), 2));
        let kept = Connection::open(dir.path().join("birds.db.layout-1")).unwrap();
        let name: String = kept.query_row("SELECT name FROM birds", [], |r| r.get(0)).unwrap();
        assert_eq!((name.as_str(), layout(&kept)), ("kite", 1));
    }

    #[test]
    fn a_step_that_fails_leaves_the_layout_of_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("birds.db");
        open(&path, &[FIRST]).unwrap();
        assert!(open(&path, &[FIRST, "CREATE TABLE half (x); CREATE TABLE birds (x)"]).is_err());
        let connection = Connection::open(&path).unwrap();
        assert_eq!(layout(&connection), 1);
        let halves: i64 =
            connection.query_row("SELECT COUNT(*) FROM sqlite_master WHERE name = 'half'", [], |r| r.get(0)).unwrap();
        assert_eq!(halves, 0);
    }

    #[test]
    fn a_newer_layout_is_refused_with_what_to_do_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("birds.db");
        open(&path, &[FIRST, SECOND]).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = open(&path, &[FIRST]).unwrap_err().to_string();
        assert!(error.contains("newer aerie (layout 2, this one reads 1)") && error.contains("restore"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn an_empty_file_another_programs_and_one_whose_log_is_damaged_are_broken_not_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("birds.db");
        let log = dir.path().join("birds.db-wal");
        std::fs::write(&path, "").unwrap();
        let why = open(&path, &[FIRST]).unwrap().1.unwrap().why;
        assert!(why.contains("nothing of aerie's"), "{why}");

        std::fs::remove_file(&path).unwrap();
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE other (x)").unwrap();
        assert!(matches!(look(&path, &[FIRST]), Err(DatabaseError::Damaged { .. })));
        assert!(open(&path, &[FIRST]).unwrap().1.is_some());

        let (connection, broken) = open(&path, &[FIRST]).unwrap();
        assert!(broken.is_none() && look(&path, &[FIRST]).is_ok(), "the one made in its place is sound");
        for n in 0..20 {
            connection.execute("INSERT INTO birds VALUES (?1)", [format!("kite {n}")]).unwrap();
        }
        let (whole, mut bent) = (std::fs::read(&path).unwrap(), std::fs::read(&log).unwrap());
        drop(connection);
        let middle = bent.len() / 2;
        bent[middle] ^= 1;
        std::fs::write(&path, whole).unwrap();
        std::fs::write(&log, bent).unwrap();
        let told = look(&path, &[FIRST]).unwrap_err().to_string();
        assert!(told.contains("log is damaged at frame"), "{told}");
        let (_, broken) = open(&path, &[FIRST]).unwrap();
        let moved = broken.unwrap().moved_to;
        let kept: i64 =
            Connection::open(moved).unwrap().query_row("SELECT COUNT(*) FROM birds", [], |r| r.get(0)).unwrap();
        assert!((1..20).contains(&kept), "what lies before the damage can still be read: {kept}");
    }

    #[test]
    fn the_log_of_a_database_that_was_taken_away_is_not_played_into_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("birds.db");
        let (connection, _) = open(&path, &[FIRST]).unwrap();
        connection.execute("INSERT INTO birds VALUES ('kite')", []).unwrap();
        let log = std::fs::read(dir.path().join("birds.db-wal")).unwrap();
        drop(connection);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(dir.path().join("birds.db-wal"), &log).unwrap();
        let (connection, broken) = open(&path, &[FIRST]).unwrap();
        let birds: i64 = connection.query_row("SELECT COUNT(*) FROM birds", [], |r| r.get(0)).unwrap();
        assert!(broken.is_none() && birds == 0);
        assert_eq!(std::fs::read(dir.path().join("birds.db.orphan-wal")).unwrap(), log);
    }

    #[test]
    fn a_broken_database_is_replaced_or_refused_as_its_owner_wants() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("birds.db");
        std::fs::write(&path, [7; 4096]).unwrap();
        let error = open_whole(&path, &[FIRST]).unwrap_err().to_string();
        assert!(error.contains("damaged") && error.contains("aerie restore"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), [7; 4096], "refused means untouched");
        let (_, broken) = open(&path, &[FIRST]).unwrap();
        assert!(broken.is_some_and(|b| b.moved_to.is_file()));
    }
}
