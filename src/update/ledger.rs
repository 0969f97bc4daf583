//! `updates.db`: where each kind of update stands, and the trail of how it came there. One step is one transaction, durable
//! before anybody acts on it.
//!
//! Every entry of the trail carries the SHA-256 of the one before, so that a trail with an entry changed or left out shows.
//! What a database that broke would lose is kept beside it as `updates.json`: which releases are committed, which refused, and
//! the end of the trail, which the next database goes on from: upstream knows its numbers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::floor;
use super::release::{Kind, digest};
use super::slots::{SlotError, write_durably};
use super::states::{self, Event, Facts, Record, Refused};
use crate::runtime::sqlite;

/// `STEPS[n]` brings layout `n` to `n + 1`.
pub(crate) const STEPS: [&str; 1] = ["
    CREATE TABLE record (kind TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE trail (
        n INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, event TEXT NOT NULL, said TEXT NOT NULL,
        before TEXT NOT NULL, hash TEXT NOT NULL, told INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE noted (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"];

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error(transparent)]
    Database(#[from] sqlite::DatabaseError),
    #[error("the ledger of updates {} failed: {source}; check the disk and its free space", path.display())]
    Sql { path: PathBuf, source: rusqlite::Error },
    #[error("a row of {} cannot be read: {source}", path.display())]
    Row { path: PathBuf, source: serde_json::Error },
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Copy(#[from] SlotError),
}

/// One step that was taken.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    pub n: i64,
    pub at: String,
    pub kind: String,
    pub event: serde_json::Value,
    pub said: String,
    /// SHA-256 of the entry before.
    pub before: String,
    pub hash: String,
}

impl Entry {
    fn hash_of(n: i64, at: &str, kind: &str, event: &str, said: &str, before: &str) -> String {
        digest(serde_json::json!([n, at, kind, event, said, before]).to_string().as_bytes())
    }
}

/// `updates.json`.
#[derive(Serialize, Deserialize)]
struct Copy {
    /// Number and hash of the trail's last entry.
    #[serde(default)]
    trail: Option<(i64, String)>,
    #[serde(flatten)]
    records: BTreeMap<String, Record>,
}

pub struct Ledger {
    path: PathBuf,
    copy: PathBuf,
    connection: Connection,
    /// The database had to be made anew; said once, upstream too.
    pub anew: Option<String>,
}

impl Ledger {
    pub fn open(state_dir: &Path) -> Result<Ledger, LedgerError> {
        let path = state_dir.join("updates.db");
        let copy = state_dir.join("updates.json");
        let (connection, broken) = sqlite::open(&path, &STEPS)?;
        let anew =
            broken.map(|b| format!("{} was broken ({}) and lies at {}", path.display(), b.why, b.moved_to.display()));
        let ledger = Ledger { path, copy, connection, anew };
        let rows: i64 =
            ledger.connection.query_row("SELECT count(*) FROM record", [], |r| r.get(0)).map_err(|e| ledger.sql(e))?;
        if rows == 0 {
            ledger.restore()?;
        }
        Ok(ledger)
    }

    /// For looking only, beside a running station.
    pub fn look(state_dir: &Path) -> Result<Ledger, LedgerError> {
        let path = state_dir.join("updates.db");
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = Connection::open_with_flags(&path, flags)
            .map_err(|source| LedgerError::Sql { path: path.clone(), source })?;
        Ok(Ledger { copy: state_dir.join("updates.json"), path, connection, anew: None })
    }

    pub fn record(&self, kind: Kind) -> Result<Record, LedgerError> {
        let row = self
            .connection
            .query_row("SELECT document FROM record WHERE kind = ?1", [kind.name()], |r| r.get::<_, String>(0));
        match row.optional().map_err(|e| self.sql(e))? {
            Some(text) => serde_json::from_str(&text).map_err(|e| self.row(e)),
            None => Ok(Record::default()),
        }
    }

    /// Takes one step, or none. When it returns, the step is on the disk.
    pub fn step(&mut self, kind: Kind, event: &Event, facts: Facts) -> Result<Record, LedgerError> {
        let path = self.path.clone();
        let sql = |source| LedgerError::Sql { path: path.clone(), source };
        let row = |source| LedgerError::Row { path: path.clone(), source };
        let begins = self.begins()?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
        let text: Option<String> = transaction
            .query_row("SELECT document FROM record WHERE kind = ?1", [kind.name()], |r| r.get(0))
            .optional()
            .map_err(sql)?;
        let record: Record = text.map(|t| serde_json::from_str(&t)).transpose().map_err(row)?.unwrap_or_default();
        let step = states::step(&record, event, facts)?;
        let document = serde_json::to_string(&step.record).map_err(row)?;
        transaction
            .execute("INSERT OR REPLACE INTO record (kind, document) VALUES (?1, ?2)", params![kind.name(), document])
            .map_err(sql)?;
        let (n, before): (i64, String) = transaction
            .query_row("SELECT n, hash FROM trail ORDER BY n DESC LIMIT 1", [], |r| Ok((r.get(0)?, r.get(1)?)))
            .optional()
            .map_err(sql)?
            .unwrap_or(begins);
        let (n, at, told) = (n + 1, facts.now.to_string(), serde_json::to_string(event).map_err(row)?);
        let hash = Entry::hash_of(n, &at, kind.name(), &told, &step.said, &before);
        transaction
            .execute(
                "INSERT INTO trail (n, at, kind, event, said, before, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![n, at, kind.name(), told, step.said, before, hash],
            )
            .map_err(sql)?;
        transaction.commit().map_err(sql)?;
        tracing::info!(kind = kind.name(), said = step.said, "update");
        // The step holds already; the copy is for a day when the database does not.
        if let Err(error) = self.write_copy() {
            tracing::error!(%error, "the copy of the ledger of updates could not be written");
        }
        Ok(step.record)
    }

    /// Steps that upstream has not been told of, oldest first.
    pub fn untold(&self) -> Result<Vec<Entry>, LedgerError> {
        self.entries("WHERE told = 0 ORDER BY n LIMIT 100")
    }

    pub fn told(&self, n: i64) -> Result<(), LedgerError> {
        self.connection.execute("UPDATE trail SET told = 1 WHERE n <= ?1", [n]).map_err(|e| self.sql(e))?;
        Ok(())
    }

    /// The newest steps, newest first.
    pub fn newest(&self, limit: usize) -> Result<Vec<Entry>, LedgerError> {
        self.entries(&format!("ORDER BY n DESC LIMIT {limit}"))
    }

    /// The first entry that is not what was written, if any.
    pub fn broken_link(&self) -> Result<Option<i64>, LedgerError> {
        let (last, mut before) = self.begins()?;
        for (entry, n) in self.entries("ORDER BY n")?.iter().zip(last + 1..) {
            let event = entry.event.to_string();
            let hash = Entry::hash_of(entry.n, &entry.at, &entry.kind, &event, &entry.said, &entry.before);
            if entry.n != n || entry.before != before || entry.hash != hash {
                return Ok(Some(n));
            }
            before = hash;
        }
        Ok(None)
    }

    /// What the trail's first entry follows: nothing, or the end of the trail in a database that broke.
    fn begins(&self) -> Result<(i64, String), LedgerError> {
        let noted = self.noted("trail")?.and_then(|text| serde_json::from_str(&text).ok());
        Ok(noted.unwrap_or((0, digest(b""))))
    }

    /// What time signatures are checked at, at least.
    pub fn floor(&self) -> Result<Timestamp, LedgerError> {
        let noted = self.noted("floor")?.and_then(|text| text.parse().ok());
        Ok(noted.unwrap_or(Timestamp::UNIX_EPOCH).max(floor::built()))
    }

    pub fn note(&self, key: &str, value: &str) -> Result<(), LedgerError> {
        self.connection
            .execute("INSERT OR REPLACE INTO noted (key, value) VALUES (?1, ?2)", [key, value])
            .map_err(|e| self.sql(e))?;
        Ok(())
    }

    pub fn noted(&self, key: &str) -> Result<Option<String>, LedgerError> {
        let row = self.connection.query_row("SELECT value FROM noted WHERE key = ?1", [key], |r| r.get(0));
        row.optional().map_err(|e| self.sql(e))
    }

    fn entries(&self, rows: &str) -> Result<Vec<Entry>, LedgerError> {
        let query = format!("SELECT n, at, kind, event, said, before, hash FROM trail {rows}");
        let mut statement = self.connection.prepare(&query).map_err(|e| self.sql(e))?;
        let entries = statement.query_map([], |r| {
            Ok((
                r.get::<_, String>(3)?,
                Entry {
                    n: r.get(0)?,
                    at: r.get(1)?,
                    kind: r.get(2)?,
                    event: serde_json::Value::Null,
                    said: r.get(4)?,
                    before: r.get(5)?,
                    hash: r.get(6)?,
                },
            ))
        });
        let entries: Result<Vec<_>, _> = entries.map_err(|e| self.sql(e))?.collect();
        let typed = entries
            .map_err(|e| self.sql(e))?
            .into_iter()
            .map(|(event, entry)| Ok(Entry { event: serde_json::from_str(&event).map_err(|e| self.row(e))?, ..entry }));
        typed.collect()
    }

    fn write_copy(&self) -> Result<(), LedgerError> {
        let mut records = BTreeMap::new();
        for kind in Kind::ALL {
            records.insert(kind.name().to_owned(), Record { candidate: None, ..self.record(kind)? });
        }
        let trail = self.newest(1)?.pop().map(|entry| (entry.n, entry.hash));
        let text = serde_json::to_vec_pretty(&Copy { trail, records }).map_err(|e| self.row(e))?;
        Ok(write_durably(&self.copy, &text)?)
    }

    /// Into an empty database, what the copy still knows. A copy that cannot be read is no copy.
    fn restore(&self) -> Result<(), LedgerError> {
        let Ok(text) = std::fs::read(&self.copy) else { return Ok(()) };
        let Ok(Copy { trail, records }) = serde_json::from_slice(&text) else {
            tracing::error!(copy = %self.copy.display(), "the copy of the ledger cannot be read either");
            return Ok(());
        };
        if let Some(trail) = trail {
            self.note("trail", &serde_json::to_string(&trail).map_err(|e| self.row(e))?)?;
        }
        for (kind, record) in records {
            let document = serde_json::to_string(&record).map_err(|e| self.row(e))?;
            self.connection
                .execute("INSERT OR REPLACE INTO record (kind, document) VALUES (?1, ?2)", params![kind, document])
                .map_err(|e| self.sql(e))?;
        }
        Ok(())
    }

    fn sql(&self, source: rusqlite::Error) -> LedgerError {
        LedgerError::Sql { path: self.path.clone(), source }
    }

    fn row(&self, source: serde_json::Error) -> LedgerError {
        LedgerError::Row { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::slots::Slots;
    use super::super::slots::tests::small;
    use super::super::states::{Release, Stage, in_charge, tests::*};
    use super::*;

    /// A station's disk as the update leaves it: the ledger, and slots that are made before the ledger speaks of them.
    struct Disk {
        dir: tempfile::TempDir,
        slots: Slots,
    }

    /// The two releases in the disk's life.
    fn releases() -> [(Release, Vec<u8>, &'static [u8]); 2] {
        [b"first".as_slice(), b"second"].map(|content| {
            let (document, bytes, digest) = small(content);
            (document.release(digest), bytes, content)
        })
    }

    fn with(event: &Event, release: &Release) -> Event {
        match event {
            Event::Offered { .. } => Event::Offered { release: release.clone() },
            event => event.clone(),
        }
    }

    impl Disk {
        fn new() -> Disk {
            let dir = tempfile::tempdir().unwrap();
            let slots = Slots::open(dir.path()).unwrap();
            Disk { dir, slots }
        }

        /// What the task does before an event is written.
        fn prepare(&self, event: &Event, (release, document, content): &(Release, Vec<u8>, &'static [u8])) {
            if *event == Event::Fetched {
                let incoming = self.slots.begin(&release.digest, document).unwrap();
                fs::write(incoming.join("model.onnx"), content).unwrap();
                self.slots.install(&release.digest).unwrap();
            }
        }

        /// The disk after a power cut: a copy of the files as they are, with the database's log cut anywhere.
        fn after_power_cut(&self, keep: impl Fn(u64) -> u64) -> tempfile::TempDir {
            let copy = tempfile::tempdir().unwrap();
            for name in ["updates.db", "updates.db-wal", "updates.json"] {
                let from = self.dir.path().join(name);
                if from.exists() {
                    fs::copy(&from, copy.path().join(name)).unwrap();
                }
            }
            if let Ok(log) = fs::OpenOptions::new().write(true).open(copy.path().join("updates.db-wal")) {
                let length = log.metadata().unwrap().len();
                log.set_len(keep(length)).unwrap();
            }
            copy
        }

        /// What any station must be able to say after any power cut.
        fn assert_sound(&self, ledger: &Ledger, was: &[Option<Release>]) {
            let record = ledger.record(Kind::Model).unwrap();
            let charge = in_charge(&record).cloned();
            assert!(was.contains(&charge), "{charge:?} was never in charge");
            for release in charge.iter().chain(&record.committed) {
                self.slots.verified(&release.digest).expect("what is in charge or committed must be loadable");
            }
            assert_eq!(ledger.broken_link().unwrap(), None);
        }
    }

    #[test]
    fn a_power_cut_at_every_boundary_leaves_a_committed_model_that_loads_and_no_unproven_one_in_charge() {
        let disk = Disk::new();
        let mut ledger = Ledger::open(disk.dir.path()).unwrap();
        let mut was = vec![None];
        let mut cuts = 0;
        for release in &releases() {
            for event in good('a').iter().map(|e| with(e, &release.0)) {
                disk.prepare(&event, release);
                // Power fails between the files and the ledger, and right after the ledger.
                for _ in 0..2 {
                    let copy = disk.after_power_cut(|length| length);
                    disk.assert_sound(&Ledger::open(copy.path()).unwrap(), &was);
                    cuts += 1;
                    if cuts % 2 == 1 {
                        let record = ledger.step(Kind::Model, &event, facts(true)).unwrap();
                        was.push(in_charge(&record).cloned());
                    }
                }
            }
        }
        assert_eq!(cuts, 2 * 2 * good('a').len());
        let record = ledger.record(Kind::Model).unwrap();
        assert_eq!(record.committed, Some(releases()[1].0.clone()));
    }

    #[test]
    fn writes_that_were_lost_at_any_moment_leave_an_earlier_state_and_never_a_mixture() {
        let disk = Disk::new();
        let mut was = vec![None];
        {
            let mut ledger = Ledger::open(disk.dir.path()).unwrap();
            // What is not copied into the database yet is what a cut can lose.
            ledger.connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
            for release in &releases() {
                for event in good('a').iter().map(|e| with(e, &release.0)) {
                    disk.prepare(&event, release);
                    was.push(in_charge(&ledger.step(Kind::Model, &event, facts(true)).unwrap()).cloned());
                }
            }
            let length = fs::metadata(disk.dir.path().join("updates.db-wal")).unwrap().len();
            assert!(length > 10_000);
            for moment in 0..500u64 {
                let copy = disk.after_power_cut(|length| length * moment / 499);
                disk.assert_sound(&Ledger::open(copy.path()).unwrap(), &was);
            }
        }
    }

    #[test]
    fn a_step_that_may_not_be_taken_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        assert!(matches!(ledger.step(Kind::Model, &Event::Fetched, facts(true)), Err(LedgerError::Refused(_))));
        assert!(ledger.newest(10).unwrap().is_empty());
    }

    #[test]
    fn a_trail_with_an_entry_changed_or_left_out_shows() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        for event in good('a') {
            ledger.step(Kind::Model, &event, facts(true)).unwrap();
        }
        assert_eq!(ledger.broken_link().unwrap(), None);
        ledger.connection.execute("UPDATE trail SET said = 'nothing happened' WHERE n = 5", []).unwrap();
        assert_eq!(ledger.broken_link().unwrap(), Some(5));
        ledger.connection.execute("DELETE FROM trail WHERE n = 5", []).unwrap();
        assert_eq!(ledger.broken_link().unwrap(), Some(5));
    }

    #[test]
    fn each_step_is_told_until_it_was_heard() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        for event in &good('a')[..3] {
            ledger.step(Kind::Model, event, facts(true)).unwrap();
        }
        assert_eq!(ledger.untold().unwrap().len(), 3);
        ledger.told(2).unwrap();
        let left = ledger.untold().unwrap();
        assert_eq!((left.len(), left[0].n, &left[0].said[..3]), (1, 3, "m a"));
    }

    #[test]
    fn a_database_that_broke_forgets_neither_the_committed_release_nor_the_refused_ones() {
        let dir = tempfile::tempdir().unwrap();
        {
            let mut ledger = Ledger::open(dir.path()).unwrap();
            for event in good('a').into_iter().chain([
                Event::Offered { release: release('b') },
                Event::Failed { reason: "blind".into() },
                Event::Offered { release: release('c') },
            ]) {
                ledger.step(Kind::Model, &event, facts(true)).unwrap();
            }
        }
        let heard = Ledger::open(dir.path()).unwrap().newest(1).unwrap()[0].n;
        fs::write(dir.path().join("updates.db"), b"this is no database, it was one").unwrap();
        let _ = fs::remove_file(dir.path().join("updates.db-wal"));
        let mut ledger = Ledger::open(dir.path()).unwrap();
        assert!(ledger.anew.is_some());
        let record = ledger.record(Kind::Model).unwrap();
        assert_eq!((record.committed, record.candidate), (Some(release('a')), None));
        let again = ledger.step(Kind::Model, &Event::Offered { release: release('b') }, facts(true));
        assert!(again.unwrap_err().to_string().contains("blind"));
        // Upstream knows the steps by their numbers; the next one has a number of its own.
        ledger.step(Kind::Model, &Event::Offered { release: release('c') }, facts(true)).unwrap();
        assert_eq!((ledger.newest(1).unwrap()[0].n, ledger.broken_link().unwrap()), (heard + 1, None));
    }

    #[test]
    fn each_kind_has_its_own_record_in_one_trail() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.step(Kind::Model, &good('a')[0], facts(true)).unwrap();
        ledger.step(Kind::Rules, &good('b')[0], facts(true)).unwrap();
        assert_eq!(ledger.record(Kind::Rules).unwrap().candidate.unwrap().stage, Stage::Refreshed);
        assert_eq!(ledger.record(Kind::Model).unwrap().candidate.unwrap().release, release('a'));
        assert_eq!(ledger.broken_link().unwrap(), None);
    }
}
