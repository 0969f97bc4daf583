//! The part of the task that watches a candidate, and puts models in and out of charge.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::compare::{Seen, Tally, Verdict};
use super::ledger::LedgerError;
use super::release::Kind;
use super::shadow::Shadow;
use super::start::loadable;
use super::states::{Event, Record, Refused, Stage};
use super::task::{Task, Work, blocking};
use super::{UpdateError, probe};
use crate::perception::supervise::Tapped;
use crate::runtime::latest;

/// Frames that may wait for the shadow; it is slower than the camera when it must be.
const FRAMES: usize = 16;

impl Task {
    pub(super) async fn begin_shadow(&mut self, digest: String) -> Result<(), UpdateError> {
        if self.step(Kind::Model, Event::ShadowBegun).await?.0.candidate.is_none() {
            return Ok(());
        }
        let slots = self.prepared.slots.clone();
        let model = match blocking(move || slots.verified(&digest)).await? {
            Ok(model) => model,
            Err(error) => {
                self.step(Kind::Model, Event::Failed { reason: error.to_string() }).await?;
                return Ok(());
            }
        };
        let (frames_out, frames) = mpsc::channel(FRAMES);
        let (so_far_out, so_far) = watch::channel(Tally::default());
        let options = &self.prepared.options;
        let shadow = Shadow {
            program: options.program.clone(),
            model,
            providers: options.providers.clone(),
            rules: options.config.watch.clone(),
            memory_mb: options.config.memory_mb,
        };
        self.perception.tap(Some(frames_out));
        let handle = tokio::spawn(shadow.run(frames, so_far_out));
        self.work = Some(Work::Shadow { handle, so_far });
        Ok(())
    }

    pub(super) fn begin_trial(&mut self) {
        let (frames_out, frames) = mpsc::channel(FRAMES);
        self.perception.tap(Some(frames_out));
        let state = latest(&self.perception.state());
        self.work = Some(Work::Trial { frames, tally: Tally::default(), restarts: state.restarts, lost: state.lost });
    }

    /// From the shadow into charge, if the signatures are of today.
    pub(super) async fn enter_trial(&mut self, report: String) -> Result<(), UpdateError> {
        match self.step(Kind::Model, Event::ShadowPassed { report }).await {
            Ok(_) => {}
            Err(UpdateError::Ledger(LedgerError::Refused(Refused::Expired))) => {
                self.view.send_modify(|v| v.last_error = Some(Refused::Expired.to_string()));
                (self.next_search, self.not_before) = (Instant::now(), Instant::now() + Duration::from_secs(60));
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.bring_in_charge().await;
        if self.record(Kind::Model).await?.candidate.is_some() {
            self.begin_trial();
        }
        Ok(())
    }

    pub(super) async fn watch_trial(&mut self) -> Result<(), UpdateError> {
        let state = latest(&self.perception.state());
        let rules = self.prepared.options.config.watch.clone();
        let Some(Work::Trial { frames, tally, restarts, lost }) = &mut self.work else { return Ok(()) };
        let memory = state.pid.and_then(|pid| probe::memory_mb(pid, "VmRSS:"));
        while let Ok(Tapped { frame, .. }) = frames.try_recv() {
            tally.trial_frame(&Seen::from(&frame), memory, &rules);
        }
        let (deaths, lost) = (state.restarts.saturating_sub(*restarts), state.lost.saturating_sub(*lost));
        let too_much = memory.filter(|mb| *mb > self.prepared.options.config.memory_mb);
        let verdict = match (&state.model_refused, too_much) {
            (Some(reason), _) => Verdict::Failed(format!("perception gave it up: {reason}")),
            (None, Some(mb)) => Verdict::Failed(format!("huge: {mb} MB of memory in charge")),
            (None, None) => tally.trial(&rules, self.before.as_ref(), deaths, lost),
        };
        let event = match verdict {
            Verdict::NotYet => return Ok(()),
            Verdict::Passed(report) => Event::TrialPassed { report },
            Verdict::Failed(reason) => Event::Failed { reason },
        };
        match self.step(Kind::Model, event).await {
            Ok(_) => {
                self.perception.tap(None);
                (self.work, self.before) = (None, None);
                self.bring_in_charge().await;
                self.sweep().await
            }
            // It goes on, watched, until the repository has been heard again.
            Err(UpdateError::Ledger(LedgerError::Refused(Refused::Expired))) => {
                let soon = Instant::now() + Duration::from_secs(60);
                self.next_search = self.next_search.min(soon);
                self.view.send_modify(|v| v.last_error = Some(Refused::Expired.to_string()));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Gives perception the model that the ledger says is in charge, if it has another. One that cannot be loaded fails its
    /// trial; the one before stays in charge throughout.
    pub(super) async fn bring_in_charge(&mut self) {
        for _ in 0..3 {
            let Ok(record) = self.record(Kind::Model).await else { return };
            let (model, damaged) = loadable(&record, &self.prepared.slots, &self.prepared.options);
            self.prepared.damaged = damaged.clone();
            let trial = record.candidate.as_ref().filter(|c| c.stage == Stage::Trial);
            let fault = match (trial, damaged) {
                (Some(_), Some(fault)) => fault,
                _ if model == self.in_use => return,
                _ => {
                    let settled = Record { candidate: None, ..record.clone() };
                    let (fallback, _) = loadable(&settled, &self.prepared.slots, &self.prepared.options);
                    match self.perception.swap(model.clone(), Some(fallback).filter(|f| *f != model)).await {
                        Ok(name) => {
                            tracing::info!(model = name.name, version = name.version, "a model was put in charge");
                            self.in_use = model;
                            return;
                        }
                        Err(error) => error.to_string(),
                    }
                }
            };
            if trial.is_none() {
                tracing::error!(fault, "the committed model cannot be put in charge");
                self.prepared.damaged = Some(fault);
                return;
            }
            if self.step(Kind::Model, Event::Failed { reason: fault }).await.is_err() {
                return;
            }
        }
    }

    /// Shadow or trial of what is not under way any more, or is now something else.
    pub(super) fn abandon_watch(&mut self) {
        self.failures = 0;
        if let Some(Work::Shadow { .. } | Work::Trial { .. } | Work::Probe { .. } | Work::Fetch { .. }) = &self.work {
            if let Some(Work::Shadow { handle, so_far }) = &self.work {
                self.before = Some(latest(so_far));
                handle.abort();
            }
            if let Some(Work::Fetch { stop, .. }) = &self.work {
                stop.store(true, Ordering::Relaxed);
            }
            self.perception.tap(None);
            self.work = None;
        }
    }
}
