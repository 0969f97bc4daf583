//! The one task that moves the dock: requests in, state out.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::driver::{Driver, Look};
use super::states::{self, Seen};
use super::{DockError, DockState, Halt, Hatch, Request};
use crate::vehicle::modbus::device::Unknown;
use crate::vehicle::modbus::map::Motion;

const POLL_MOVING: Duration = Duration::from_millis(200);
/// When aerie stops, held outputs have so long to be let go.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// Where what is known goes.
pub(super) struct Told {
    pub published: watch::Sender<DockState>,
    pub complaints: watch::Sender<Option<String>>,
}

pub(super) fn spawn(
    driver: Driver,
    limit: Duration,
    told: Told,
    inbox: mpsc::Receiver<Request>,
    stops: mpsc::Receiver<oneshot::Sender<Halt>>,
    cancel: CancellationToken,
) {
    let Told { published, complaints } = told;
    let mut task =
        Task { driver, limit, published, complaints, last: None, motion: None, stop_owed: false, complaint: None };
    tokio::spawn(async move {
        tokio::select! {
            () = task.run(inbox, stops) => {}
            () = cancel.cancelled() => {}
        }
        // A movement that is told to go on only as long as someone holds the button ends with us.
        if !matches!(timeout(LEAVE_LIMIT, task.driver.let_go()).await, Ok(Ok(()))) {
            tracing::warn!("an output of the dock may still be set: the dock did not confirm its release");
        }
    });
}

struct Task {
    driver: Driver,
    limit: Duration,
    published: watch::Sender<DockState>,
    complaints: watch::Sender<Option<String>>,
    last: Option<(Seen, Instant)>,
    /// Under way by our command.
    motion: Option<Motion>,
    /// A stop that the dock has not confirmed: it is sent before anything else once the dock answers.
    stop_owed: bool,
    /// Each trouble is said once, when it begins.
    complaint: Option<String>,
}

impl Task {
    async fn run(&mut self, mut inbox: mpsc::Receiver<Request>, mut stops: mpsc::Receiver<oneshot::Sender<Halt>>) {
        let mut poll = interval(self.driver.poll_every());
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                Some(reply) = stops.recv() => {
                    let halt = self.halt().await;
                    let _ = reply.send(halt);
                }
                request = inbox.recv() => {
                    let Some(request) = request else { return };
                    // Who gave up waiting does not want the dock to move later.
                    if request.reply.is_closed() {
                        continue;
                    }
                    let outcome = self.work(request.motion, request.drone_in_dock, &mut stops).await;
                    if let Err(error) = &outcome {
                        let error: &dyn std::error::Error = error;
                        tracing::warn!(error, wanted = ?request.motion, "the dock refused or failed");
                    }
                    // A caller that went away has no use for the answer.
                    let _ = request.reply.send(outcome);
                }
                () = passed(self.stale_at()) => self.withdraw(),
                _ = poll.tick() => {
                    if self.look().await.is_ok() && self.stop_owed {
                        self.halt().await;
                    }
                }
            }
        }
    }

    async fn work(
        &mut self,
        motion: Motion,
        drone_in_dock: bool,
        stops: &mut mpsc::Receiver<oneshot::Sender<Halt>>,
    ) -> Result<(), DockError> {
        let seen = self.first_look().await?;
        states::may_begin(motion, drone_in_dock, &seen)
            .map_err(|objection| DockError::Unsafe { objection, halt: Halt::NotStarted })?;
        if states::hatch(seen.hatch, None) == states::end_of(motion) {
            return Ok(());
        }
        // A stop that arrived after the new command would end the wrong movement.
        if self.stop_owed
            && let halt @ Halt::Unconfirmed(_) = self.halt().await
        {
            return Err(DockError::Stopped { halt });
        }
        self.motion = Some(motion);
        let outcome = self.travel(motion, stops).await;
        self.motion = None;
        self.publish();
        outcome
    }

    /// A dock whose alive signal was not yet seen to change, after a start, has the time that anything has to go stale.
    async fn first_look(&mut self) -> Result<Seen, DockError> {
        let deadline = Instant::now() + self.driver.stale();
        loop {
            match self.look().await {
                Err(DockError::Signal { reason: Unknown::Unproven, .. }) if Instant::now() < deadline => {
                    sleep_until(Instant::now() + POLL_MOVING).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn travel(
        &mut self,
        motion: Motion,
        stops: &mut mpsc::Receiver<oneshot::Sender<Halt>>,
    ) -> Result<(), DockError> {
        let wanted = states::end_of(motion);
        let deadline = Instant::now() + self.limit;
        if let Err(error) = self.driver.start(motion).await {
            if !error.may_have_acted() {
                return Err(error);
            }
            // It is not sent again. Whether the dock got it, the switches tell.
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, ?motion, "the dock did not confirm the command; its switches are watched");
        }
        let mut is = Hatch::Unknown;
        loop {
            match timeout_at(deadline, self.look()).await {
                Ok(Ok(seen)) => {
                    is = states::hatch(seen.hatch, self.motion);
                    if let Err(objection) = states::may_go_on(motion, &seen) {
                        let halt = self.halt().await;
                        return Err(DockError::Unsafe { objection, halt });
                    }
                    if is == wanted {
                        if let Err(error) = self.driver.let_go().await {
                            let error: &dyn std::error::Error = &error;
                            tracing::warn!(error, "the dock did not confirm that its output was let go; tried again");
                        }
                        return Ok(());
                    }
                }
                // A lost answer while it moves is no failure of the hatch: the limit decides.
                Ok(Err(_)) => is = Hatch::Unknown,
                Err(_) => {}
            }
            if Instant::now() >= deadline {
                let halt = self.halt().await;
                return Err(DockError::Stuck { wanted, is, limit: self.limit, halt });
            }
            tokio::select! {
                biased;
                Some(reply) = stops.recv() => {
                    let halt = self.halt().await;
                    let _ = reply.send(halt.clone());
                    return Err(DockError::Stopped { halt });
                }
                () = passed(self.stale_at()) => self.withdraw(),
                () = sleep_until(deadline.min(Instant::now() + POLL_MOVING)) => {}
            }
        }
    }

    async fn halt(&mut self) -> Halt {
        self.stop_owed = true;
        let halt = match self.driver.stop().await {
            Ok(true) => Halt::Stopped,
            Ok(false) => Halt::NoCommand,
            Err(error) => {
                let why = error.to_string();
                tracing::error!(why, "the dock did not confirm the stop");
                return Halt::Unconfirmed(why);
            }
        };
        self.stop_owed = false;
        halt
    }

    /// Looks once. While the answer is waited for, what was known before goes stale in time.
    async fn look(&mut self) -> Result<Seen, DockError> {
        let stale_at = self.stale_at();
        let outcome = {
            let look = self.driver.look();
            tokio::pin!(look);
            tokio::select! {
                biased;
                outcome = &mut look => outcome,
                () = passed(stale_at) => {
                    self.last = None;
                    withdraw(&self.published);
                    look.await
                }
            }
        };
        match outcome {
            Ok(Look { seen, at, trouble }) => {
                self.last = Some((seen.clone(), at));
                self.publish();
                self.complain(trouble.as_ref());
                Ok(seen)
            }
            Err(error) => {
                self.complain(Some(&error));
                Err(error)
            }
        }
    }

    fn stale_at(&self) -> Option<Instant> {
        self.last.as_ref().map(|(_, at)| *at + self.driver.stale())
    }

    fn withdraw(&mut self) {
        self.last = None;
        withdraw(&self.published);
    }

    fn publish(&self) {
        let Some((seen, at)) = &self.last else { return };
        self.published.send_replace(DockState {
            hatch: states::hatch(seen.hatch, self.motion),
            drone_present: seen.drone_present,
            emergency_stop: seen.emergency_stop.word(),
            received: Some(*at),
        });
    }

    fn complain(&mut self, trouble: Option<&DockError>) {
        // A line that is down counts the seconds in its words; that is no new trouble.
        let now = trouble.map(|error| format!("{:?}", std::mem::discriminant(error)));
        if let Some(error) = trouble.filter(|_| self.complaint != now) {
            let error: &dyn std::error::Error = error;
            tracing::warn!(error, "the dock does not tell all that it should");
        }
        self.complaint = now;
        self.complaints.send_replace(trouble.map(ToString::to_string));
    }
}

/// Returns at that time, or never.
async fn passed(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Nothing is known any more. When it last was stays.
fn withdraw(published: &watch::Sender<DockState>) {
    published.send_if_modified(|state| {
        let unknown = DockState { received: state.received, ..DockState::default() };
        let changed = *state != unknown;
        *state = unknown;
        changed
    });
}
