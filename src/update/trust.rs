//! Who may say what this station runs: The Update Framework, through `sigstore-tuf`, which nothing else in the crate knows.
//!
//! That crate verifies; what it leaves open is here: cryptography ([`super::crypto`]), where metadata are kept (a store that
//! flushes, and whose failure fails the refresh instead of being logged), where they come from ([`super::origin`]) and what
//! time it is ([`super::floor`]). Roles: `root` and `targets` sign offline, with thresholds; a role a group says which
//! release its stations run, and can name only releases that `targets` signed; `snapshot` and `timestamp` keep it fresh.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use sigstore_tuf::transport::FetchFuture;
use sigstore_tuf::{MetadataStore, Repository, TargetFile, Updater, UpdaterConfig};

use super::crypto;
use super::origin::Origin;
use super::slots::write_durably;
use crate::runtime::told;

/// Documents and assignments are lists of hashes: a gigabyte of model makes 70 kB.
const LARGEST_TARGET: u64 = 8_000_000;

#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("{}", chain(.0))]
    Tuf(#[from] sigstore_tuf::Error),
    #[error(
        "the signed metadata could not be kept: {0}; without what is kept, an old release could be passed off as new"
    )]
    Store(String),
    #[error("the trusted root {} cannot be used: {why}; it is the 1.root.json of your publisher", path.display())]
    Root { path: PathBuf, why: String },
}

fn chain(error: &sigstore_tuf::Error) -> String {
    match error {
        // Nothing was signed wrongly: it did not come.
        sigstore_tuf::Error::Transport { message, .. } => format!("the repository cannot be heard: {message}"),
        error => format!("the update's signatures do not hold: {}", told(error)),
    }
}

/// A directory of verified metadata: every file whole and flushed, or the one before.
#[derive(Clone)]
pub struct Store {
    dir: PathBuf,
    failed: Arc<Mutex<Option<String>>>,
}

impl Store {
    pub fn open(dir: &Path) -> Result<Store, TrustError> {
        std::fs::create_dir_all(dir.join("root_history"))
            .map_err(|e| TrustError::Store(format!("{}: {e}", dir.display())))?;
        Ok(Store { dir: dir.to_owned(), failed: Arc::default() })
    }

    /// `sigstore-tuf` only logs a store that fails; here it is kept and fails the refresh.
    fn fail(&self, why: String) -> sigstore_tuf::Error {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why.clone());
        sigstore_tuf::Error::transport(why)
    }

    fn sound(&self) -> Result<(), TrustError> {
        match self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            None => Ok(()),
            Some(why) => Err(TrustError::Store(why)),
        }
    }

    /// The crate offers versioned copies and targets too; nobody reads the first again, and the second have their slots.
    fn is_kept(name: &str) -> bool {
        name.starts_with("root_history/") || !(name.contains('/') || name.starts_with(|c: char| c.is_ascii_digit()))
    }
}

impl MetadataStore for Store {
    fn load(&self, name: &str) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        match std::fs::read(self.dir.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.fail(format!("{}: {e}", self.dir.join(name).display()))),
        }
    }

    fn store(&self, name: &str, bytes: &[u8]) -> sigstore_tuf::Result<()> {
        if !Store::is_kept(name) {
            return Ok(());
        }
        let path = self.dir.join(name);
        // Unchanged is the rule; a flash disk need not hear of it.
        if std::fs::read(&path).is_ok_and(|known| known == bytes) {
            return Ok(());
        }
        write_durably(&path, bytes).map_err(|e| self.fail(e.to_string()))
    }
}

/// Metadata and targets of an origin, as `sigstore-tuf` asks for them.
struct Through {
    metadata: (Arc<dyn Origin>, &'static str),
    targets: (Arc<dyn Origin>, &'static str),
}

fn small<'a>((origin, folder): &(Arc<dyn Origin>, &'static str), path: &'a str, most: u64) -> FetchFuture<'a> {
    let (origin, path) = (Arc::clone(origin), format!("{folder}{path}"));
    Box::pin(async move {
        let fetched = tokio::task::spawn_blocking(move || origin.small(&path, most)).await;
        fetched
            .map_err(|e| sigstore_tuf::Error::transport(e.to_string()))?
            .map_err(|e| sigstore_tuf::Error::transport(e.to_string()))
    })
}

impl Repository for Through {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        small(&self.metadata, name, max_length)
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        small(&self.targets, path, max_length)
    }
}

/// What was verified at one refresh.
pub struct Trusted {
    updater: Updater,
    store: Store,
    now: Timestamp,
}

/// Refreshes from an origin as `aerie model publish` lays it out. `root` is the pinned one.
pub async fn refresh(
    root: &[u8],
    store: &Store,
    origin: Arc<dyn Origin>,
    now: Timestamp,
) -> Result<Trusted, TrustError> {
    let through = Through { metadata: (Arc::clone(&origin), "metadata/"), targets: (origin, "targets/") };
    refresh_through(root, store, through, now).await
}

/// The same where metadata and targets lie apart, as in the conformance tests.
pub async fn refresh_apart(
    root: &[u8],
    store: &Store,
    metadata: Arc<dyn Origin>,
    targets: Arc<dyn Origin>,
    now: Timestamp,
) -> Result<Trusted, TrustError> {
    refresh_through(root, store, Through { metadata: (metadata, ""), targets: (targets, "") }, now).await
}

async fn refresh_through(root: &[u8], store: &Store, through: Through, now: Timestamp) -> Result<Trusted, TrustError> {
    crypto::install();
    let mut config = UpdaterConfig::default();
    config.target_max_length = LARGEST_TARGET;
    let mut updater = Updater::new(through, root)?.with_config(config).with_store(store.clone());
    let refreshed = updater.refresh(now).await;
    // A store that fails is worse news than a signature that does, and may be its cause.
    store.sound()?;
    refreshed?;
    Ok(Trusted { updater, store: store.clone(), now })
}

/// The pinned root: a file that is one, signed by its own threshold.
pub fn read_root(path: &Path) -> Result<Vec<u8>, TrustError> {
    crypto::install();
    let unusable = |why: String| TrustError::Root { path: path.to_owned(), why };
    let bytes = std::fs::read(path).map_err(|e| unusable(e.to_string()))?;
    sigstore_tuf::TrustedMetadataSet::from_root(&bytes).map_err(|e| unusable(e.to_string()))?;
    Ok(bytes)
}

impl Trusted {
    /// The content of a target; none where no role that may has signed one of that name.
    pub async fn target(&mut self, path: &str) -> Result<Option<Vec<u8>>, TrustError> {
        let Some(info) = self.info(path).await? else { return Ok(None) };
        Ok(Some(self.content(&info, path).await?))
    }

    pub async fn info(&mut self, path: &str) -> Result<Option<TargetFile>, TrustError> {
        let found = self.updater.get_target_info(path, self.now).await;
        self.store.sound()?;
        Ok(found?)
    }

    pub async fn content(&self, info: &TargetFile, path: &str) -> Result<Vec<u8>, TrustError> {
        Ok(self.updater.download_target(info, path).await?)
    }

    /// Until when everything that was relied on so far holds; `roles` are those of delegations.
    pub fn fresh_until(&self, roles: &[&str]) -> Timestamp {
        let trusted = self.updater.trusted();
        let top = [
            Some(trusted.root().expires),
            trusted.timestamp().map(|t| t.expires),
            trusted.snapshot().map(|s| s.expires),
            trusted.targets_role("targets").map(|t| t.expires),
        ];
        let delegated = roles.iter().filter_map(|role| trusted.targets_role(role).map(|t| t.expires));
        top.into_iter().flatten().chain(delegated).min().unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The groups of stations that have a role.
    pub fn groups(&self) -> Vec<String> {
        let named = self.updater.trusted().snapshot().into_iter().flat_map(|s| s.meta.keys());
        named.filter_map(|file| file.strip_prefix("group-")?.strip_suffix(".json")).map(str::to_owned).collect()
    }

    /// Of root, timestamp, snapshot and targets.
    pub fn versions(&self) -> [u64; 4] {
        let trusted = self.updater.trusted();
        [
            trusted.root().version,
            trusted.timestamp().map_or(0, |t| t.version),
            trusted.snapshot().map_or(0, |s| s.version),
            trusted.targets_role("targets").map_or(0, |t| t.version),
        ]
    }
}

/// The role that speaks for a group.
pub fn group_role(group: &str) -> String {
    format!("group-{group}")
}
