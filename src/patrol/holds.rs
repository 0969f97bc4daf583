//! People who keep the station on the ground: kept across restarts, for a hold that a power cut lifts is none.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use super::gates::{Hold, Holds};
use crate::runtime::latest;
use crate::runtime::store::{Store, StoreError, Table};

const KEY: &str = "station";

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// An operator: nothing flies for now.
    Hold,
    /// Somebody works at the dock.
    Maintenance,
}

/// What callers hold: cheap to clone.
#[derive(Clone)]
pub struct HoldKeeper {
    store: Store,
    holds: Arc<watch::Sender<Holds>>,
}

impl HoldKeeper {
    pub async fn open(store: Store) -> Result<HoldKeeper, StoreError> {
        let kept = store.get::<Holds>(Table::Holds, KEY).await?.unwrap_or_default();
        Ok(HoldKeeper { store, holds: Arc::new(watch::channel(kept).0) })
    }

    pub fn watch(&self) -> watch::Receiver<Holds> {
        self.holds.subscribe()
    }

    /// Sets a lock, or lifts it with no reason. On the disk before it is said to be done.
    pub async fn set(&self, lock: Lock, by: &str, reason: Option<String>) -> Result<Holds, StoreError> {
        let mut holds = latest(&self.holds.subscribe());
        let hold = reason.map(|reason| Hold { by: by.to_owned(), reason, since: Timestamp::now() });
        match lock {
            Lock::Hold => holds.hold = hold,
            Lock::Maintenance => holds.maintenance = hold,
        }
        self.store.put(Table::Holds, KEY, &holds).await?;
        tracing::info!(?lock, by, held = ?holds, "hold");
        self.holds.send_replace(holds.clone());
        Ok(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hold_outlives_a_restart_and_lifting_one_leaves_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let open = || async { HoldKeeper::open(Store::open(dir.path()).unwrap()).await.unwrap() };
        let keeper = open().await;
        keeper.set(Lock::Hold, "李", Some("fog".to_owned())).await.unwrap();
        keeper.set(Lock::Maintenance, "王", Some("new hatch motor".to_owned())).await.unwrap();
        drop(keeper);
        let keeper = open().await;
        let kept = latest(&keeper.watch());
        assert_eq!(kept.hold.as_ref().map(|h| (h.by.as_str(), h.reason.as_str())), Some(("李", "fog")));
        let left = keeper.set(Lock::Maintenance, "王", None).await.unwrap();
        assert!(left.maintenance.is_none() && left.hold == kept.hold);
    }
}
