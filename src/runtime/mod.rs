//! What every part runs on: where files are found, tasks kept alive and watched, databases and their layouts.

pub mod cgroup;
pub mod clock;
pub mod disk;
pub mod notify;
pub mod paths;
pub(crate) mod secrets;
pub(crate) mod sqlite;
pub mod store;
pub mod supervisor;
pub mod tidy;
mod wal;

use std::error::Error;

use tokio::sync::watch;

/// The newest value, copied out.
///
/// `borrow()` gives a lock: inside a larger expression it lives to that expression's end, and a second look at the same
/// value there waits for ever behind a writer that waits for the first. Seen in flight; so nobody holds one.
pub fn latest<T: Clone>(watched: &watch::Receiver<T>) -> T {
    watched.borrow().clone()
}

/// An error with its causes. Many name their cause in their own text; what is said already is not said twice.
pub fn told(error: &(dyn Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        next = cause.source();
    }
    said
}
