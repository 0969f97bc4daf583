//! Looking after a station from its command line: is it well, what shall its makers be sent, how is it moved, set up and emptied.
//!
//! Invariants kept here:
//! - nothing here changes a running station; what would, refuses while one holds the state directory;
//! - what leaves for others ([`bundle`]) holds no secret; what holds secrets ([`backup`]) is readable by its owner alone;
//! - looking sends the drone no heartbeat: it must not take a doctor for a station.

pub mod backup;
pub mod bundle;
pub mod certificates;
pub mod doctor;
pub mod memory;
mod named;
pub mod setup;

use std::fs::File;
use std::path::{Path, PathBuf};

/// Why the care of a station failed.
#[derive(Debug, thiserror::Error)]
pub enum CareError {
    #[error("cannot {doing} {}: {source}", path.display())]
    File { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{} is in use by a running station; stop it first (systemctl stop aerie)", .0.display())]
    Running(PathBuf),
    #[error("{} is there already; {remedy}", path.display())]
    Exists { path: PathBuf, remedy: &'static str },
    #[error("{}: {why}", path.display())]
    Archive { path: PathBuf, why: String },
    #[error("the database {} cannot be {doing}: {source}", path.display())]
    Database { doing: &'static str, path: PathBuf, source: rusqlite::Error },
    #[error("{question}: {why}")]
    Answer { question: &'static str, why: String },
    #[error(transparent)]
    Key(#[from] crate::uplink::commands::KeyFileError),
    #[error(transparent)]
    Configuration(crate::config::Faults),
    #[error(
        "the configuration that came of the answers has faults, nothing was written (its keys are the options of `aerie setup`: station.dock is --lat and --lon, uplink.url is --broker):\n{0}"
    )]
    Faults(crate::config::Faults),
}

impl CareError {
    fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> CareError + use<> {
        let path = path.to_owned();
        move |source| CareError::File { doing, path, source }
    }
}

/// Holds a state directory so that no station can start on it; refused while one runs.
pub fn seize(state_dir: &Path) -> Result<File, CareError> {
    let path = state_dir.join("outbox.lock");
    let file = File::create(&path).map_err(CareError::file("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(CareError::Running(state_dir.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(CareError::File { doing: "lock", path, source }),
    }
}
