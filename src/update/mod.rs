//! Brings signed releases to the station, proves them, and can always go back.
//!
//! ```text
//! publish ──▶ a folder on any web server ──▶ trust ──▶ fetch ──▶ slots ──▶ probe ──▶ shadow ──▶ trial ──▶ committed
//!                    or a USB stick         (TUF)   (ranges)   (disk)   (child)  (live frames, unheard) (in charge, watched)
//! ```
//!
//! Invariants kept here (6 of the crate):
//! - no release is in charge that did not pass its signature, its hashes and its probe: [`states`] has no other way;
//! - a step is on the disk before anybody acts on it ([`ledger`]); an attempt is counted before it is made;
//! - the committed release's files are never touched ([`slots`]); a release that failed is refused from then on;
//! - expired signatures promote nothing and stop nothing.
//!
//! [`states`] with [`back`] and [`promote`], [`compare`], [`floor`] and [`release`] are pure; [`trust`] alone knows TUF; [`task`] does. [`publish`] is the
//! other side, on the publisher's computer.

mod back;
mod bring;
mod charge;
pub mod compare;
pub mod config;
pub mod conformance;
mod crypto;
pub mod fetch;
pub mod floor;
mod hear;
pub mod ledger;
pub mod origin;
pub mod probe;
pub mod promote;
pub mod publish;
pub mod release;
mod search;
mod shadow;
pub mod slots;
mod start;
pub mod states;
mod task;
mod tell;
pub mod trust;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

pub use config::Config;
pub use start::{Options, Prepared};
pub use task::spawn;

use fetch::FetchError;
use ledger::LedgerError;
use origin::OriginError;
use promote::Goal;
use release::{DocumentError, Kind};
use slots::SlotError;
use states::Record;
use trust::TrustError;

#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Slot(#[from] SlotError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("update.root is not set; name the 1.root.json of your publisher in the configuration")]
    NoRoot,
    #[error("update.url is not set; name the address of your publisher's repository, or use `aerie model add FOLDER`")]
    NoUrl,
    #[error("{0}")]
    Wrong(String),
    #[error("the update's task has stopped")]
    Gone,
}

/// What a station does with rules or a register before they are in use, and a publisher before they are signed.
pub fn readable(kind: Kind, dir: &Path) -> Result<(), String> {
    match kind {
        Kind::Model => Ok(()),
        Kind::Rules => crate::config::kinds_of(&dir.join("cases.toml")).map(|_| ()),
        Kind::Register => crate::cases::Register::read(&dir.join("register.geojson"))
            .map(|_| ())
            .map_err(|error| crate::runtime::told(&error)),
    }
}

/// What the station says of its updates.
#[derive(Debug, Clone, Default, Serialize)]
pub struct View {
    /// By kind: model, rules, register.
    pub kinds: Vec<KindView>,
    /// When the repository was last heard, and until when its word holds.
    pub refreshed_at: Option<Timestamp>,
    pub fresh_until: Option<Timestamp>,
    /// What is being done, in words.
    pub doing: Option<String>,
    pub last_error: Option<String>,
    /// What came of the last look at a repository: what is assigned to this station, and whether it takes it.
    pub last_look: Option<String>,
    /// What is amiss with the server that does not stop anything yet.
    pub warning: Option<String>,
    /// What the computer is not able to use although it was committed.
    pub damaged: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct KindView {
    pub kind: Kind,
    #[serde(flatten)]
    pub record: Record,
}

/// What callers hold.
#[derive(Clone)]
pub struct Updates {
    requests: mpsc::Sender<Request>,
    view: watch::Receiver<View>,
}

pub(crate) type Reply = oneshot::Sender<Result<String, UpdateError>>;

pub(crate) enum Request {
    /// There may be something new.
    Hint,
    /// Look at the repository now.
    Check(Reply),
    /// Look at a folder, and take its release.
    Add {
        folder: PathBuf,
        reply: Reply,
    },
    Promote {
        by: String,
        release: String,
        to: Goal,
        reply: Reply,
    },
    RollBack {
        by: String,
        reason: String,
        release: Option<String>,
        reply: Reply,
    },
}

impl Updates {
    pub async fn check(&self) -> Result<String, UpdateError> {
        self.ask(Request::Check).await
    }

    pub async fn add(&self, folder: PathBuf) -> Result<String, UpdateError> {
        self.ask(|reply| Request::Add { folder, reply }).await
    }

    /// One step on for the named release, before its stage has seen all of its frames.
    pub async fn promote(&self, by: String, release: String, to: Goal) -> Result<String, UpdateError> {
        self.ask(|reply| Request::Promote { by, release, to, reply }).await
    }

    /// Gives up the release under way, or the one that is named; a committed one goes by its name alone.
    pub async fn roll_back(&self, by: String, reason: String, release: Option<String>) -> Result<String, UpdateError> {
        self.ask(|reply| Request::RollBack { by, reason, release, reply }).await
    }

    /// Somebody without authority says that there is something new: the repository is asked soon. A hint that finds no room
    /// is one of many.
    pub fn hint(&self) {
        let _ = self.requests.try_send(Request::Hint);
    }

    pub fn view(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    async fn ask(&self, request: impl FnOnce(Reply) -> Request) -> Result<String, UpdateError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| UpdateError::Gone)?;
        answer.await.map_err(|_| UpdateError::Gone)?
    }
}
