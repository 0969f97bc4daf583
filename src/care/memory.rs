//! The databases of a state directory, looked at without changing them: what the station would say of them at its start.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::runtime::sqlite::{self, DatabaseError};
use crate::runtime::store;
use crate::uplink::commands;
use crate::{outbox, update};

/// What the station remembers of its work.
pub const WORK: [&str; 3] = ["aerie.db", "outbox.db", "commands.db"];
/// What it remembers of its models, and how new a release must be: no reset takes that away.
pub const UPDATES: &str = "updates.db";
/// Each with the steps to the newest layout that this version knows.
pub(crate) const DATABASES: [(&str, &[&str]); 4] = [
    ("aerie.db", &store::STEPS),
    ("outbox.db", &outbox::STEPS),
    ("commands.db", &commands::STEPS),
    (UPDATES, &update::ledger::STEPS),
];

/// What is wrong with a database, and what to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Wrong {
    pub what: String,
    pub remedy: String,
}

/// Every database that is there, with what is wrong with it.
pub fn look(state_dir: &Path) -> Vec<(&'static str, Result<(), Wrong>)> {
    let there = DATABASES.into_iter().filter(|(name, _)| state_dir.join(name).exists());
    there
        .map(|(name, steps)| {
            let path = state_dir.join(name);
            let sound =
                sqlite::look(&path, steps).map_err(|error| of(name, &error)).and_then(|_| owned(state_dir, &path));
            (name, sound)
        })
        .collect()
}

/// Without `aerie.db` the station does not start; the others it sets aside by itself.
fn of(name: &str, error: &DatabaseError) -> Wrong {
    match error {
        DatabaseError::Damaged { path, why } if name != WORK[0] => Wrong {
            what: format!("{} is damaged ({why})", path.display()),
            remedy: "start the station: it sets the file aside, saves what can be read, and goes on with a new one".to_owned(),
        },
        DatabaseError::Damaged { path, why } => Wrong {
            what: format!("{} is damaged ({why}), and the station does not start without it", path.display()),
            remedy: "`aerie backup` saves what is there as it is; then `aerie reset --yes` and `aerie restore` (docs/deploying.md)".to_owned(),
        },
        error => Wrong {
            what: crate::runtime::told(error),
            remedy: "`aerie backup` saves what is there as it is (docs/deploying.md)".to_owned(),
        },
    }
}

/// A file that root put into the station's folder, by a restore say, is one that the station cannot write.
fn owned(state_dir: &Path, path: &Path) -> Result<(), Wrong> {
    let remedy = || format!("chown -R --reference={0} {0}", state_dir.display());
    let owner = |path: &Path| std::fs::metadata(path).map(|meta| meta.uid());
    match (owner(state_dir), owner(path)) {
        (Ok(folder), Ok(file)) if folder == file => Ok(()),
        (Ok(folder), Ok(file)) => {
            let what = format!(
                "{} belongs to user {file} and its folder to user {folder}: the station may not be able to write it",
                path.display()
            );
            Err(Wrong { what, remedy: remedy() })
        }
        (Err(error), _) | (_, Err(error)) => {
            Err(Wrong { what: format!("{}: {error}", path.display()), remedy: remedy() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_layout_and_a_damaged_file_are_told_and_nothing_is_changed_by_looking() {
        let dir = tempfile::tempdir().unwrap();
        assert!(look(dir.path()).is_empty());
        let path = dir.path().join("aerie.db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE a (b); PRAGMA user_version = 1").unwrap();
        drop(connection);
        assert_eq!(look(dir.path()), [("aerie.db", Ok(()))]);

        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA user_version = 99").unwrap();
        drop(connection);
        let said = look(dir.path())[0].1.clone().unwrap_err().what;
        assert!(said.contains("newer aerie (layout 99"), "{said}");

        std::fs::write(dir.path().join("outbox.db"), [7; 4096]).unwrap();
        let said = look(dir.path())[1].1.clone().unwrap_err();
        assert!(said.what.contains("outbox.db is damaged") && said.remedy.contains("start the station"), "{said:?}");
        std::fs::write(&path, [7; 4096]).unwrap();
        let said = look(dir.path())[0].1.clone().unwrap_err();
        assert!(said.what.contains("does not start without it") && said.remedy.contains("aerie restore"), "{said:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "a look leaves nothing behind");
    }

    #[test]
    fn a_file_of_another_owner_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("commands.db");
        rusqlite::Connection::open(&path)
            .unwrap()
            .execute_batch("CREATE TABLE a (b); PRAGMA user_version = 1")
            .unwrap();
        if std::os::unix::fs::chown(&path, Some(12_345), None).is_err() {
            eprintln!("SKIPPED: only root may give a file away");
            return;
        }
        let said = look(dir.path())[0].1.clone().unwrap_err();
        assert!(said.what.contains("belongs to user 12345") && said.remedy.contains("chown"), "{said:?}");
    }
}
