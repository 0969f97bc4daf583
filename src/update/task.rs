//! The one task that moves updates on: asks the repository, fetches, probes, watches, and puts models in and out of charge.
//!
//! What is done next follows from the record alone, so that a station which starts anew goes on where the ledger says.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rand::RngExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use super::compare::{Tally, Verdict};
use super::ledger::{Ledger, LedgerError};
use super::origin::{Folder, Origin, Web};
use super::promote::{Goal, Watched};
use super::release::Kind;
use super::search::Found;
use super::start::Prepared;
use super::states::{Candidate, Event, Facts, Record, Refused, Release, Stage};
use super::{Reply, Request, UpdateError, Updates, View, bring, floor, probe};
use crate::outbox::Outbox;
use crate::perception::Perception;
use crate::perception::supervise::Tapped;
use crate::runtime::clock::Trust;
use crate::runtime::latest;

const PROBE_LIMIT: Duration = Duration::from_secs(300);

/// What runs beside the task.
pub(super) enum Work {
    Search {
        folder: Option<Arc<dyn Origin>>,
        replies: Vec<Reply>,
        handle: JoinHandle<Result<Found, UpdateError>>,
    },
    Fetch {
        kind: Kind,
        handle: JoinHandle<Result<(), UpdateError>>,
        stop: Arc<AtomicBool>,
        progress: Arc<bring::Progress>,
    },
    Probe {
        kind: Kind,
        handle: JoinHandle<Result<String, String>>,
    },
    Shadow {
        handle: JoinHandle<Verdict>,
        so_far: watch::Receiver<Tally>,
    },
    /// In charge and watched here: its frames, what is counted, and where the child's troubles stood.
    Trial {
        frames: mpsc::Receiver<Tapped>,
        tally: Tally,
        restarts: u64,
        lost: u64,
    },
}

pub(super) struct Task {
    pub(super) prepared: Prepared,
    pub(super) perception: Perception,
    pub(super) outbox: Outbox,
    pub(super) web: Option<Arc<dyn Origin>>,
    /// Where the candidate's files come from, when that is not the web.
    pub(super) folder: Option<Arc<dyn Origin>>,
    pub(super) clock: watch::Receiver<Trust>,
    pub(super) floor: Timestamp,
    pub(super) fresh_until: Option<Timestamp>,
    /// The directory that perception was last given.
    pub(super) in_use: PathBuf,
    /// The shadow's tally of the release on trial.
    pub(super) before: Option<Tally>,
    pub(super) work: Option<Work>,
    pub(super) next_search: Instant,
    /// After a failure that is nobody's fault, when to try again.
    pub(super) not_before: Instant,
    pub(super) failures: u32,
    pub(super) trouble: bring::Trouble,
    pub(super) spent: Arc<Mutex<(String, u64)>>,
    pub(super) view: watch::Sender<View>,
}

/// Starts the task; it ends when `cancel` fires.
pub fn spawn(
    prepared: Prepared,
    perception: Perception,
    outbox: Outbox,
    clock: watch::Receiver<Trust>,
    cancel: CancellationToken,
) -> Result<Updates, UpdateError> {
    // A person or two; who finds it full waits.
    let (requests, inbox) = mpsc::channel(8);
    let (view_out, view) = watch::channel(View::default());
    let config = &prepared.options.config;
    let web: Option<Arc<dyn Origin>> = match &config.url {
        None => None,
        Some(url) => Some(Arc::new(Web::new(url, config.ca_file.as_deref())?)),
    };
    let (floor, fresh, spent) = {
        let ledger = prepared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        (ledger.floor()?, ledger.noted("fresh_until")?, ledger.noted("spent")?)
    };
    let spent = spent.and_then(|text| {
        let (day, bytes) = text.split_once(' ')?;
        Some((day.to_owned(), bytes.parse().ok()?))
    });
    let first = Duration::from_secs(rand::rng().random_range(5..30));
    let task = Task {
        in_use: prepared.model.clone(),
        prepared,
        perception,
        outbox,
        web,
        folder: None,
        clock,
        floor,
        fresh_until: fresh.and_then(|text| text.parse().ok()),
        before: None,
        work: None,
        next_search: Instant::now() + first,
        not_before: Instant::now(),
        failures: 0,
        trouble: bring::Trouble::default(),
        spent: Arc::new(Mutex::new(spent.unwrap_or_default())),
        view: view_out,
    };
    tokio::spawn(task.run(inbox, cancel));
    Ok(Updates { requests, view })
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>, cancel: CancellationToken) {
        let mut tick = interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                request = inbox.recv() => match request {
                    Some(request) => self.asked(request).await,
                    None => break,
                },
                _ = tick.tick() => {
                    if let Err(error) = self.turn().await {
                        self.stuck(&error);
                    }
                }
            }
        }
        if let Some(Work::Fetch { stop, .. }) = &self.work {
            stop.store(true, Ordering::Relaxed);
        }
    }

    async fn asked(&mut self, request: Request) {
        match request {
            Request::Hint => {
                // Many stations hear the same hint; they do not all ask at once.
                let soon = Instant::now() + Duration::from_millis(rand::rng().random_range(200..5000));
                self.next_search = self.next_search.min(soon);
            }
            Request::Check(reply) => match self.web.clone() {
                None => drop(reply.send(Err(UpdateError::NoUrl))),
                Some(web) => {
                    if let Err(error) = self.search(web, None, vec![reply]).await {
                        self.stuck(&error);
                    }
                }
            },
            Request::Add { folder, reply } if !folder.join("metadata/timestamp.json").is_file() => {
                let what = if folder.is_dir() { "holds no metadata/timestamp.json" } else { "is not there" };
                drop(reply.send(Err(UpdateError::Wrong(format!(
                    "{} {what}; name a folder that `aerie model publish init` made, on the station's own computer",
                    folder.display()
                )))));
            }
            Request::Add { folder, reply } => {
                let folder: Arc<dyn Origin> = Arc::new(Folder::new(&folder));
                if let Err(error) = self.search(Arc::clone(&folder), Some(folder), vec![reply]).await {
                    self.stuck(&error);
                }
            }
            Request::Promote { by, release, to, reply } => {
                let watched = self.watched(to);
                let event = Event::Promoted { by, release, to, watched };
                let done = self.step(Kind::Model, event).await.map(|said| said.1);
                if done.is_ok() {
                    self.abandon_watch();
                    self.bring_in_charge().await;
                }
                let _ = reply.send(done);
            }
            Request::RollBack { by, reason, release, reply } => {
                let before = self.record(Kind::Model).await.ok().and_then(|r| r.candidate);
                let done = self.step(Kind::Model, Event::RolledBack { by, reason, release }).await;
                if let Ok((record, _)) = &done {
                    // What is fetched or probed goes on when the committed one goes; a shadow has lost what it is compared with.
                    let same = before.map(|c| c.release) == record.candidate.as_ref().map(|c| c.release.clone());
                    if !same || matches!(self.work, Some(Work::Shadow { .. })) {
                        self.abandon_watch();
                    }
                    if !same {
                        // It was the trouble of the one that was given up.
                        self.forget_trouble();
                    }
                    self.bring_in_charge().await;
                }
                let _ = reply.send(done.map(|(_, said)| said));
            }
        }
        self.show().await;
    }

    /// What the shadow or the trial under way has shown so far.
    fn watched(&self, to: Goal) -> Watched {
        let rules = &self.prepared.options.config.watch;
        let tally = match &self.work {
            Some(Work::Shadow { so_far, .. }) => latest(so_far),
            Some(Work::Trial { tally, .. }) => tally.clone(),
            _ => Tally::default(),
        };
        let wanted = if to == Goal::Trial { rules.shadow_frames } else { rules.trial_frames };
        Watched { frames: tally.frames.saturating_sub(tally.failed), wanted, so_far: tally.so_far() }
    }

    fn forget_trouble(&mut self) {
        self.failures = 0;
        self.trouble = bring::Trouble::default();
        self.not_before = Instant::now();
        self.view.send_modify(|v| v.last_error = None);
    }

    fn stuck(&mut self, error: &UpdateError) {
        tracing::error!(%error, "an update cannot go on");
        self.view.send_modify(|v| v.last_error = Some(error.to_string()));
        self.not_before = Instant::now() + Duration::from_secs(30);
    }

    /// One turn: what has ended is written down, what comes next is begun.
    async fn turn(&mut self) -> Result<(), UpdateError> {
        self.confirm_time().await?;
        self.tell().await?;
        self.finish_work().await?;
        if self.work.is_none() && Instant::now() >= self.not_before {
            self.begin_work().await?;
        }
        let due = Instant::now() >= self.next_search && self.prepared.options.config.root.is_some();
        let asks = matches!(self.work, Some(Work::Search { .. }));
        if let Some(web) = self.web.clone().filter(|_| due && !asks) {
            self.search(web, None, Vec::new()).await?;
        }
        self.show().await;
        Ok(())
    }

    async fn confirm_time(&mut self) -> Result<(), UpdateError> {
        let by_satellite = matches!(latest(&self.clock), Trust::Synced { by } if by == "the drone's satellite time");
        let raised = floor::raised(self.floor, Timestamp::now(), by_satellite);
        if floor::worth_storing(self.floor, raised) {
            self.floor = raised;
            let text = raised.to_string();
            self.with_ledger(move |ledger| ledger.note("floor", &text)).await?;
        }
        Ok(())
    }

    pub(super) fn now(&self) -> Timestamp {
        floor::now(Timestamp::now(), self.floor)
    }

    pub(super) fn facts(&self) -> Facts {
        let now = self.now();
        Facts { now, fresh: self.fresh_until.is_some_and(|until| now <= until) }
    }

    /// The kind whose candidate comes next: models last, they take days.
    async fn next(&self) -> Result<Option<(Kind, Candidate)>, UpdateError> {
        for kind in [Kind::Rules, Kind::Register, Kind::Model] {
            if let Some(candidate) = self.record(kind).await?.candidate {
                return Ok(Some((kind, candidate)));
            }
        }
        Ok(None)
    }

    async fn begin_work(&mut self) -> Result<(), UpdateError> {
        let Some((kind, candidate)) = self.next().await? else { return Ok(()) };
        let Release { digest, .. } = candidate.release.clone();
        match candidate.stage {
            Stage::Refreshed | Stage::Fetching => self.begin_fetch(kind, &candidate).await,
            Stage::Staged => {
                if self.step(kind, Event::ProbeBegun).await?.0.candidate.is_none() {
                    return Ok(());
                }
                let handle = self.probe(kind, digest);
                self.work = Some(Work::Probe { kind, handle });
                Ok(())
            }
            Stage::Probed | Stage::Shadow if kind != Kind::Model => self.commit_file(kind).await,
            Stage::Probed | Stage::Shadow => self.begin_shadow(digest).await,
            Stage::Trial => {
                // Not loaded at the start, for want of a counted attempt.
                if self.in_use != self.prepared.slots.path(&digest) {
                    self.step(kind, Event::Loading).await?;
                }
                self.bring_in_charge().await;
                if self.record(kind).await?.candidate.is_some() {
                    self.begin_trial();
                }
                Ok(())
            }
        }
    }

    async fn begin_fetch(&mut self, kind: Kind, candidate: &Candidate) -> Result<(), UpdateError> {
        let Some(origin) = self.folder.clone().or(self.web.clone()) else {
            self.view.send_modify(|v| v.doing = Some("waits for its folder; `aerie model add` it again".to_owned()));
            return Ok(());
        };
        self.step(kind, Event::FetchBegun).await?;
        let (slots, digest) = (self.prepared.slots.clone(), candidate.release.digest.clone());
        let (stop, spent) = (Arc::new(AtomicBool::new(false)), Arc::clone(&self.spent));
        let leave = bring::Leave {
            hours: self.prepared.options.config.hours.as_deref().and_then(super::config::span),
            zone: self.prepared.options.zone.clone(),
            kb_per_s: self.prepared.options.config.kb_per_s,
            mb_per_day: self.prepared.options.config.mb_per_day,
            stop: Arc::clone(&stop),
            spent,
            progress: Arc::default(),
        };
        let progress = Arc::clone(&leave.progress);
        let state_dir = self.prepared.options.state_dir.clone();
        let handle =
            tokio::spawn(
                async move { blocking(move || bring::all(&*origin, &slots, &digest, &state_dir, leave)).await? },
            );
        self.work = Some(Work::Fetch { kind, handle, stop, progress });
        Ok(())
    }

    fn probe(&self, kind: Kind, digest: String) -> JoinHandle<Result<String, String>> {
        let slots = self.prepared.slots.clone();
        let options = &self.prepared.options;
        let (program, providers) = (options.program.clone(), options.providers.clone());
        let limits =
            probe::Limits { look_ms: options.config.look_ms, memory_mb: options.config.memory_mb, time: PROBE_LIMIT };
        tokio::spawn(async move {
            let checked = blocking(move || Ok::<_, UpdateError>((slots.verified(&digest)?, slots.document(&digest)?)));
            let (dir, document) = checked.await.and_then(|r| r).map_err(|e| e.to_string())?;
            match kind {
                Kind::Model => {
                    let report = probe::run(&program, &dir, &providers, &limits).await?;
                    probe::judge(&report, &document.demands, &limits)?;
                    Ok(report.to_string())
                }
                Kind::Register | Kind::Rules => {
                    super::readable(kind, &dir)?;
                    Ok("it can be read".to_owned())
                }
            }
        })
    }

    /// Rules and registers are read at the start of the station: nothing of them can be watched before.
    async fn commit_file(&mut self, kind: Kind) -> Result<(), UpdateError> {
        for event in [
            Event::ShadowBegun,
            Event::Loading,
            Event::TrialPassed { report: "in use from the next start of the station".to_owned() },
        ] {
            match self.step(kind, event).await {
                Ok(_) => {}
                Err(UpdateError::Ledger(LedgerError::Refused(Refused::Expired))) => {
                    self.not_before = Instant::now() + Duration::from_secs(60);
                    return Ok(());
                }
                // Begun before the power failed.
                Err(UpdateError::Ledger(LedgerError::Refused(Refused::OutOfOrder { .. }))) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes down what has ended.
    async fn finish_work(&mut self) -> Result<(), UpdateError> {
        if let Some(Work::Trial { .. }) = self.work {
            return self.watch_trial().await;
        }
        let ended = match &self.work {
            None | Some(Work::Trial { .. }) => return Ok(()),
            Some(Work::Search { handle, .. }) => handle.is_finished(),
            Some(Work::Fetch { handle, .. }) => handle.is_finished(),
            Some(Work::Probe { handle, .. }) => handle.is_finished(),
            Some(Work::Shadow { handle, .. }) => handle.is_finished(),
        };
        if !ended {
            return Ok(());
        }
        let Some(work) = self.work.take() else { return Ok(()) };
        match work {
            Work::Search { folder, replies, handle } => {
                let found = handle.await.unwrap_or(Err(UpdateError::Gone));
                self.heard(found, folder, replies).await
            }
            Work::Fetch { kind, handle, .. } => {
                let fetched = handle.await.unwrap_or(Err(UpdateError::Gone));
                let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner).clone();
                self.with_ledger(move |ledger| ledger.note("spent", &format!("{} {}", spent.0, spent.1))).await?;
                match fetched {
                    Ok(()) => {
                        self.forget_trouble();
                        self.step(kind, Event::Fetched).await.map(|_| ())
                    }
                    Err(error) => {
                        // The line, the server or the disk: the release is not to blame, and what is here stays.
                        self.failures += 1;
                        let pause = Duration::from_secs(1 << self.failures.min(9));
                        self.not_before = Instant::now() + pause;
                        tracing::warn!(%error, again_in = ?pause, "the fetch of a release stopped");
                        let digest = self.record(kind).await?.candidate.map(|c| c.release.digest).unwrap_or_default();
                        let said = self.trouble.told(&digest, &error);
                        self.view.send_modify(|v| v.last_error = Some(said));
                        Ok(())
                    }
                }
            }
            Work::Probe { kind, handle } => {
                let probed = handle.await.unwrap_or_else(|e| Err(format!("the probe was ended: {e}")));
                let event = match probed {
                    Ok(report) => Event::ProbePassed { report },
                    Err(reason) => Event::Failed { reason },
                };
                self.step(kind, event).await.map(|_| ())
            }
            Work::Shadow { handle, so_far } => {
                self.perception.tap(None);
                self.before = Some(latest(&so_far));
                match handle.await.unwrap_or(Verdict::NotYet) {
                    Verdict::NotYet => Ok(()),
                    Verdict::Failed(reason) => self.step(Kind::Model, Event::Failed { reason }).await.map(|_| ()),
                    Verdict::Passed(report) => self.enter_trial(report).await,
                }
            }
            Work::Trial { .. } => Ok(()),
        }
    }

    pub(super) async fn sweep(&self) -> Result<(), UpdateError> {
        let mut keep = BTreeSet::new();
        for kind in Kind::ALL {
            keep.extend(super::states::kept(&self.record(kind).await?).map(|r| r.digest.clone()));
        }
        let slots = self.prepared.slots.clone();
        blocking(move || slots.sweep(&keep.iter().map(String::as_str).collect())).await
    }

    pub(super) async fn record(&self, kind: Kind) -> Result<Record, UpdateError> {
        self.with_ledger(move |ledger| ledger.record(kind)).await
    }

    /// One step, on the disk when it returns; the record after it, and what is said of it.
    pub(super) async fn step(&mut self, kind: Kind, event: Event) -> Result<(Record, String), UpdateError> {
        let facts = self.facts();
        // What the last look said of a release is not so any more.
        let makes_old = matches!(
            event,
            Event::Failed { .. } | Event::RolledBack { .. } | Event::Promoted { .. } | Event::TrialPassed { .. }
        );
        let step = self.with_ledger(move |ledger| {
            let record = ledger.step(kind, &event, facts)?;
            let said = ledger.newest(1)?.pop().map(|e| e.said).unwrap_or_default();
            Ok((record, said))
        });
        let done = step.await?;
        if makes_old {
            self.view.send_modify(|v| v.last_look = None);
        }
        Ok(done)
    }

    pub(super) async fn with_ledger<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, UpdateError> {
        let ledger = Arc::clone(&self.prepared.ledger);
        Ok(blocking(move || work(&mut ledger.lock().unwrap_or_else(PoisonError::into_inner))).await??)
    }
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, UpdateError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| UpdateError::Gone)
}
