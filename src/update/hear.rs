//! What a look at a repository means for this station: releases offered, halted and withdrawn.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use super::ledger::LedgerError;
use super::origin::Origin;
use super::search::{self, Assigned, Found};
use super::states::{Event, Refused, Release};
use super::task::{Task, Work, blocking};
use super::{Reply, UpdateError, trust};

impl Task {
    /// Asks a repository: beside this task where nothing else is under way, else in between, so that what is fetched, probed or
    /// watched goes on. One at a time: they share the memory of what was signed.
    pub(super) async fn search(
        &mut self,
        origin: Arc<dyn Origin>,
        folder: Option<Arc<dyn Origin>>,
        replies: Vec<Reply>,
    ) -> Result<(), UpdateError> {
        self.work = match self.work.take() {
            Some(Work::Search { folder, replies, handle }) => {
                let found = handle.await.unwrap_or(Err(UpdateError::Gone));
                self.heard(found, folder, replies).await?;
                None
            }
            other => other,
        };
        if self.work.is_some() {
            let found = self.look(origin).await;
            return self.heard(found, folder, replies).await;
        }
        self.work = Some(Work::Search { folder, replies, handle: tokio::spawn(self.look(origin)) });
        Ok(())
    }

    /// One look at a repository; it borrows nothing, so it can run beside the task.
    fn look(&self, origin: Arc<dyn Origin>) -> impl Future<Output = Result<Found, UpdateError>> + Send + use<> {
        let options = &self.prepared.options;
        let (root, group) = (options.config.root.clone(), options.config.group.clone());
        let (store, now) = (self.prepared.store.clone(), self.now());
        async move {
            let root = root.ok_or(UpdateError::NoRoot)?;
            // Read anew each time: a file that was mended counts at once.
            let root = blocking(move || trust::read_root(&root)).await??;
            search::look(&root, &store, origin, &group, now).await
        }
    }

    /// What a look at a repository found, or did not.
    pub(super) async fn heard(
        &mut self,
        found: Result<Found, UpdateError>,
        folder: Option<Arc<dyn Origin>>,
        replies: Vec<Reply>,
    ) -> Result<(), UpdateError> {
        let minutes = f64::from(self.prepared.options.config.poll_minutes);
        let pause = Duration::from_secs_f64(minutes * 60.0 * rand::rng().random_range(0.75..1.25));
        self.next_search = Instant::now() + pause;
        let by_hand = folder.is_some();
        let answer = match found {
            Ok(found) => self.take(found, folder).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &answer {
            tracing::warn!(%error, "the update's repository");
            self.view.send_modify(|v| v.last_error = Some(error.to_string()));
            // A server that is away is asked again before the hour is over.
            self.next_search = self.next_search.min(Instant::now() + Duration::from_secs(120));
        }
        let text = answer.map_err(|e| e.to_string()).and_then(|heard| heard.judged(by_hand));
        for reply in replies {
            let _ = reply.send(text.clone().map_err(UpdateError::Wrong));
        }
        Ok(())
    }

    async fn take(&mut self, found: Found, folder: Option<Arc<dyn Origin>>) -> Result<Heard, UpdateError> {
        self.fresh_until = Some(found.fresh_until);
        let until = found.fresh_until.to_string();
        self.with_ledger(move |ledger| ledger.note("fresh_until", &until)).await?;
        let now = self.now();
        // That the repository answers does not mend a fetch that fails.
        let fetch_fails = self.failures > 0;
        self.view.send_modify(|v| {
            (v.refreshed_at, v.fresh_until) = (Some(now), Some(found.fresh_until));
            v.last_error = v.last_error.take().filter(|_| fetch_fails);
        });
        let mut heard = Heard::default();
        let group = &self.prepared.options.config.group;
        if !found.groups.contains(group) {
            let known = found.groups.join(", ");
            let said = format!("the repository has no group {group}, it has {known}; correct update.group");
            heard.0.push((Came::Refused, said));
        } else if found.assigned.is_empty() {
            heard.0.push((Came::Not, format!("nothing is assigned to group {group}")));
        }
        for assigned in found.assigned {
            let kind = assigned.kind;
            let (came, said) = self.assigned(assigned, folder.clone()).await?;
            heard.0.push((came, format!("{}: {said}", kind.name())));
        }
        self.view.send_modify(|v| v.last_look = Some(heard.said("; ")));
        Ok(heard)
    }

    async fn assigned(
        &mut self,
        assigned: Assigned,
        folder: Option<Arc<dyn Origin>>,
    ) -> Result<(Came, String), UpdateError> {
        let Assigned { kind, assignment, release } = assigned;
        for gone in &assignment.withdrawn {
            let event = Event::Withdrawn { digest: gone.digest.clone(), reason: gone.reason.clone() };
            match self.step(kind, event).await {
                Ok(_) => {
                    self.abandon_watch();
                    self.bring_in_charge().await;
                }
                Err(UpdateError::Ledger(LedgerError::Refused(_))) => {}
                Err(error) => return Err(error),
            }
        }
        let record = self.record(kind).await?;
        let candidate = record.candidate.as_ref().map(|c| c.release.clone());
        let is_committed = |r: &Release| record.committed.as_ref().is_some_and(|c| c.digest == r.digest);
        let back =
            release.as_ref().filter(|(r, ..)| is_committed(r)).map(|_| "the group was sent back to what is committed");
        let stop = assignment.halted.clone().or(back.map(str::to_owned));
        if let (Some(reason), Some(_)) = (&stop, &candidate) {
            let said = self.step(kind, Event::Halted { reason: reason.clone() }).await?.1;
            self.abandon_watch();
            self.bring_in_charge().await;
            return Ok((Came::Not, said));
        }
        if let Some(reason) = assignment.halted {
            return Ok((Came::Not, format!("halted by its publisher: {reason}")));
        }
        let Some((release, document, bytes)) = release else {
            return Ok((Came::Not, "no release is assigned".to_owned()));
        };
        if let Some(gone) = assignment.withdrawn.iter().find(|w| w.digest == release.digest) {
            return Ok((Came::Not, format!("{release} is withdrawn: {}", gone.reason)));
        }
        if !assignment.takes(&self.prepared.options.station, &release.digest) {
            let said = format!("{release} goes to {} % of the stations, not to this one", assignment.percent);
            return Ok((Came::Not, said));
        }
        if candidate.as_ref() == Some(&release) {
            if folder.is_some() {
                (self.folder, self.not_before) = (folder, Instant::now());
            }
            return Ok((Came::Taken, format!("{release} is under way")));
        }
        // The document first, so that no record names a release whose files nobody could list.
        let slots = self.prepared.slots.clone();
        let digest = release.digest.clone();
        blocking(move || slots.begin(&digest, &bytes)).await??;
        match self.step(kind, Event::Offered { release }).await {
            Ok((_, said)) => {
                self.abandon_watch();
                (self.folder, self.failures, self.not_before) = (folder, 0, Instant::now());
                let most = self.prepared.options.config.largest_mb;
                if document.length() > most * 1_000_000 {
                    let reason = format!(
                        "huge: {} MB, {most} MB are allowed (update.largest_mb)",
                        document.length() / 1_000_000
                    );
                    return Ok((Came::Refused, self.step(kind, Event::Failed { reason }).await?.1));
                }
                Ok((Came::Taken, said))
            }
            Err(UpdateError::Ledger(LedgerError::Refused(refused))) => {
                let came = match refused {
                    Refused::Committed(_) => Came::Taken,
                    Refused::Known { .. } => Came::Refused,
                    _ => Came::Not,
                };
                Ok((came, refused.to_string()))
            }
            Err(error) => Err(error),
        }
    }
}

/// What became of that which is assigned to this station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// It is here, or on its way.
    Taken,
    /// Nothing is amiss, and nothing comes.
    Not,
    /// This station will not have it, or asks for what there is not.
    Refused,
}

/// What a look at a repository came to, by kind.
#[derive(Debug, Default)]
struct Heard(Vec<(Came, String)>);

impl Heard {
    fn said(&self, between: &str) -> String {
        self.0.iter().map(|(_, said)| said.as_str()).collect::<Vec<_>>().join(between)
    }

    /// For who asked: a failure where something was refused, and where somebody brought a release `by_hand` and it was not taken.
    fn judged(self, by_hand: bool) -> Result<String, String> {
        let said = self.said("\n");
        let any = |wanted: Came| self.0.iter().any(|(came, _)| *came == wanted);
        if any(Came::Refused) {
            Err(said)
        } else if by_hand && !any(Came::Taken) {
            Err(format!("nothing of it was taken: {said}"))
        } else {
            Ok(said)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(came: &[Came], by_hand: bool) -> Result<String, String> {
        Heard(came.iter().map(|came| (*came, format!("{came:?}"))).collect()).judged(by_hand)
    }

    #[test]
    fn a_look_fails_where_something_was_refused_and_one_by_hand_where_nothing_was_taken() {
        assert_eq!(judged(&[Came::Taken, Came::Not], false), Ok("Taken\nNot".to_owned()));
        assert_eq!(judged(&[Came::Not], false), Ok("Not".to_owned()));
        assert_eq!(judged(&[Came::Taken, Came::Refused], false), Err("Taken\nRefused".to_owned()));
        assert_eq!(judged(&[Came::Taken, Came::Not], true), Ok("Taken\nNot".to_owned()));
        assert!(judged(&[Came::Not], true).unwrap_err().contains("nothing of it was taken"));
        assert!(judged(&[], true).is_err());
    }
}
