//! Before perception starts: which model is in charge, its files compared with what was signed, its load counted.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::UpdateError;
use super::config::Config;
use super::floor;
use super::ledger::{Ledger, LedgerError};
use super::release::Kind;
use super::slots::Slots;
use super::states::{Event, Facts, Record, Stage, in_charge};
use super::trust::Store;
use crate::perception::provider::Provider;

pub struct Options {
    pub station: String,
    pub state_dir: PathBuf,
    pub zone: TimeZone,
    pub config: Config,
    /// The aerie binary itself.
    pub program: PathBuf,
    pub providers: Vec<Provider>,
    /// The model in use where no release was ever committed: the site's own, or the one that came with aerie.
    pub own_model: PathBuf,
}

/// Everything that is known before the first frame.
pub struct Prepared {
    pub options: Options,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) slots: Slots,
    pub(super) store: Store,
    /// The directory of the model in charge.
    pub model: PathBuf,
    /// Why the model that should be in charge is not.
    pub(super) damaged: Option<String>,
    /// Releases of other kinds that could not be used.
    pub(super) unread: Vec<String>,
}

impl Prepared {
    pub fn open(options: Options) -> Result<Prepared, UpdateError> {
        let mut ledger = Ledger::open(&options.state_dir)?;
        let slots = Slots::open(&options.state_dir)?;
        let store = Store::open(&options.state_dir.join("update"))?;
        let mut record = ledger.record(Kind::Model)?;
        let on_trial = record.candidate.as_ref().is_some_and(|c| c.stage == Stage::Trial);
        let mut uncounted = None;
        if on_trial {
            // Counted before it is loaded: a model that takes the computer down is given up after some starts.
            let facts = Facts { now: floor::now(Timestamp::now(), ledger.floor()?), fresh: false };
            match ledger.step(Kind::Model, &Event::Loading, facts) {
                Ok(counted) => record = counted,
                // As on a full disk: it is not loaded now, and the task tries again.
                Err(error) => {
                    tracing::error!(%error, "the model on trial waits");
                    record.candidate = None;
                    uncounted = Some(format!("the model on trial waits: {error}"));
                }
            }
        }
        let (mut model, mut damaged) = loadable(&record, &slots, &options);
        let still_on_trial = record.candidate.as_ref().filter(|c| c.stage == Stage::Trial).map(|c| &c.release.digest);
        if let (Some(fault), Some(digest)) = (&damaged, still_on_trial)
            && model != slots.path(digest)
        {
            let facts = Facts { now: floor::now(Timestamp::now(), ledger.floor()?), fresh: false };
            record = ledger.step(Kind::Model, &Event::Failed { reason: fault.clone() }, facts)?;
            (model, damaged) = loadable(&record, &slots, &options);
        }
        let damaged = damaged.or(uncounted);
        let ledger = Arc::new(Mutex::new(ledger));
        Ok(Prepared { options, ledger, slots, store, model, damaged, unread: Vec::new() })
    }

    /// What a committed release of another kind says, for those who read it at the start. One that cannot be used is named,
    /// and gives way to the one before it, then to the configuration's own.
    pub fn committed<T, E: std::fmt::Display>(
        &mut self,
        kind: Kind,
        file: &str,
        read: impl Fn(&Path) -> Result<T, E>,
    ) -> Result<Option<T>, LedgerError> {
        let record = self.ledger.lock().unwrap_or_else(PoisonError::into_inner).record(kind)?;
        for release in record.committed.iter().chain(&record.previous) {
            let found = self.slots.verified(&release.digest).map_err(|e| e.to_string());
            match found.and_then(|dir| read(&dir.join(file)).map_err(|e| e.to_string())) {
                Ok(read) => return Ok(Some(read)),
                Err(error) => {
                    tracing::error!(kind = kind.name(), %release, error, "a committed release cannot be used");
                    self.unread.push(format!("{}: {release} cannot be used: {error}", kind.name()));
                }
            }
        }
        Ok(None)
    }
}

/// The model to load: the one in charge if its files are what was signed, else the nearest one that is.
pub(super) fn loadable(record: &Record, slots: &Slots, options: &Options) -> (PathBuf, Option<String>) {
    let mut damaged = None;
    for release in in_charge(record).into_iter().chain(&record.committed).chain(&record.previous) {
        match slots.verified(&release.digest) {
            Ok(dir) => return (dir, damaged),
            Err(error) => {
                tracing::error!(%release, %error, "a release cannot be loaded");
                damaged.get_or_insert(format!("{release} cannot be loaded: {error}"));
            }
        }
    }
    (options.own_model.clone(), damaged)
}
