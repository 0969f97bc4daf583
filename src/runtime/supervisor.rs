//! Keeps tasks alive: a task that ends or panics is started again, with growing pauses, until its budget is spent. A part
//! that cannot be started again alone takes the station with it: a new one takes up all that was under way, a flight too.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often a task may be started again before the station is stopped and left to systemd.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    pub restarts: u32,
    pub within: Duration,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { restarts: 5, within: Duration::from_secs(60) }
    }
}

#[derive(Clone)]
pub struct Supervisor {
    tracker: TaskTracker,
    cancel: CancellationToken,
    budget: Budget,
    /// The part for whose sake the station was stopped.
    fallen: Arc<OnceLock<&'static str>>,
}

/// How often a vital part is looked after.
const LOOK: Duration = Duration::from_secs(1);

impl Supervisor {
    pub fn new(cancel: CancellationToken, budget: Budget) -> Supervisor {
        Supervisor { tracker: TaskTracker::new(), cancel, budget, fallen: Arc::default() }
    }

    /// Stops the station once `gone()`: for a part that lives as long as the station and has its own task.
    pub fn vital(&self, name: &'static str, gone: impl Fn() -> bool + Send + 'static) {
        let (cancel, fallen) = (self.cancel.clone(), Arc::clone(&self.fallen));
        self.tracker.spawn(async move {
            while tokio::time::timeout(LOOK, cancel.cancelled()).await.is_err() {
                // When the station stops, its parts go too.
                if gone() && !cancel.is_cancelled() {
                    tracing::error!(part = name, "a part has stopped; stopping the station, to be started anew");
                    let _ = fallen.set(name);
                    cancel.cancel();
                }
            }
        });
    }

    /// Runs `make()` until the station stops. A task that ends before is started again; one that spends its budget
    /// stops the whole station, because a station without one of its parts must not look healthy.
    pub fn keep<F, Fut>(&self, name: &'static str, make: F)
    where
        F: Fn() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let (cancel, budget, fallen) = (self.cancel.clone(), self.budget, Arc::clone(&self.fallen));
        self.tracker.spawn(async move {
            let mut started: Vec<Instant> = Vec::new();
            loop {
                started.push(Instant::now());
                let mut task = tokio::spawn(make());
                tokio::select! {
                    () = cancel.cancelled() => {
                        // Tasks see the same token; what has not ended by then is cut off.
                        if tokio::time::timeout(Duration::from_secs(5), &mut task).await.is_err() {
                            task.abort();
                        }
                        return;
                    }
                    ended = &mut task => match ended {
                        Ok(()) if cancel.is_cancelled() => return,
                        Ok(()) => tracing::warn!(task = name, "a task ended early; starting it again"),
                        Err(error) => tracing::error!(task = name, %error, "a task failed; starting it again"),
                    },
                }
                let now = Instant::now();
                started.retain(|at| now - *at < budget.within);
                if started.len() > budget.restarts as usize {
                    tracing::error!(task = name, "restart budget spent; stopping the station");
                    let _ = fallen.set(name);
                    cancel.cancel();
                    return;
                }
                sleep(Duration::from_millis(100 << started.len().min(6))).await;
            }
        });
    }

    /// Waits until every task has ended. Names the part that could not be kept, if that is why.
    pub async fn drained(&self) -> Option<&'static str> {
        self.tracker.close();
        self.tracker.wait().await;
        self.fallen.get().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again_and_the_others_never_notice() {
        let cancel = CancellationToken::new();
        let supervisor = Supervisor::new(cancel.clone(), Budget::default());
        let starts = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&starts);
        supervisor.keep("fragile", move || {
            let seen = Arc::clone(&seen);
            async move {
                if seen.fetch_add(1, Ordering::SeqCst) < 2 {
                    panic!("as the test wants");
                }
                std::future::pending::<()>().await;
            }
        });
        sleep(Duration::from_secs(30)).await;
        assert_eq!(starts.load(Ordering::SeqCst), 3);
        assert!(!cancel.is_cancelled());
        cancel.cancel();
        assert_eq!(supervisor.drained().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_cannot_live_stops_the_station_once_its_budget_is_spent() {
        let cancel = CancellationToken::new();
        let supervisor = Supervisor::new(cancel.clone(), Budget { restarts: 3, within: Duration::from_secs(60) });
        supervisor.keep("hopeless", || async {});
        cancel.cancelled().await;
        assert_eq!(supervisor.drained().await, Some("hopeless"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_vital_part_that_is_gone_stops_the_station_and_is_named() {
        let cancel = CancellationToken::new();
        let supervisor = Supervisor::new(cancel.clone(), Budget::default());
        let (part, state) = tokio::sync::watch::channel(());
        supervisor.vital("keeper", move || state.has_changed().is_err());
        sleep(Duration::from_secs(30)).await;
        assert!(!cancel.is_cancelled());
        drop(part);
        cancel.cancelled().await;
        assert_eq!(supervisor.drained().await, Some("keeper"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_orderly_stop_blames_nobody() {
        let cancel = CancellationToken::new();
        let supervisor = Supervisor::new(cancel.clone(), Budget::default());
        let (part, state) = tokio::sync::watch::channel(());
        supervisor.vital("keeper", move || state.has_changed().is_err());
        cancel.cancel();
        drop(part);
        assert_eq!(supervisor.drained().await, None);
    }
}
