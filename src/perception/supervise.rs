//! Keeps the perception child running and fed.
//!
//! - What was asked and not answered is asked again of the next child; what killed two children is given up, and said.
//! - The queue of looks is bounded; when it is full the new look is given up and said, never silently.
//! - A child that fails is started again at once, then with growing pauses while it keeps failing.
//! - A model that cannot be loaded, or ends its child over it, gives way to the one that is known to be good, and is named.
//! - Another model is loaded in a child of its own while the one in charge goes on looking; they change places between two
//!   looks, so a swap costs no frame.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::runtime::cgroup::Pen;

use super::manifest::Manifest;
use super::protocol::{self, Answer, Look, Mark, ModelName, ProtocolError, Request, SeenFrame};
use super::provider::{Chosen, Provider};
use super::quality::Unusable;

/// Looks that may wait: a long sortie's worth, some 300 bytes each.
const QUEUE: usize = 1024;
/// A child that has not answered for so long is taken for hung.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// A model that failed to load so often is given up; the first time may have been chance.
const LOADS: u32 = 2;
/// A humble child's share of a busy processor is this many times smaller, and its patience as much longer: `nice -n 10` weighs
/// 110 where others weigh 1024.
const HUMBLE: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Options {
    /// The aerie binary itself.
    pub program: PathBuf,
    pub model: PathBuf,
    /// Where the child may not take the station's memory.
    pub pen: Option<Arc<Pen>>,
    /// The last model that is known to load, for when `model` does not.
    pub fallback: Option<PathBuf>,
    /// What to compute on, in the order it is tried.
    pub providers: Vec<Provider>,
}

#[derive(Debug, thiserror::Error)]
pub enum PerceptionError {
    #[error("perception has stopped")]
    Stopped,
    #[error("the queue of {QUEUE} pictures is full; perception is slower than the camera")]
    Full,
    #[error("{0}")]
    Failed(String),
}

/// What became of a look.
#[derive(Debug)]
pub enum Looked {
    Seen {
        look: Look,
        frame: SeenFrame,
    },
    /// It shows nothing that could be judged.
    Skipped {
        look: Look,
        why: Unusable,
    },
    Lost {
        look: Look,
        reason: String,
    },
}

impl Looked {
    pub fn look(&self) -> &Look {
        match self {
            Looked::Seen { look, .. } | Looked::Skipped { look, .. } | Looked::Lost { look, .. } => look,
        }
    }
}

/// The newest frame with its boxes, for the page.
#[derive(Debug, Clone)]
pub struct Preview {
    pub taken_at: Timestamp,
    pub frame: u64,
    pub jpeg: Arc<Vec<u8>>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct PerceptionState {
    pub running: bool,
    pub pid: Option<u32>,
    pub restarts: u64,
    /// Frames looked at since the start.
    pub frames: u64,
    /// Blurred or badly exposed ones.
    pub skipped: u64,
    pub lost: u64,
    /// Looks that wait.
    pub behind: usize,
    pub model: Option<ModelName>,
    /// What the model runs on, and what was refused before.
    pub provider: Option<Chosen>,
    /// Why the configured model is not the one in use.
    pub model_refused: Option<String>,
    pub last_error: Option<String>,
    pub detect_ms: Option<f64>,
}

/// What callers hold.
#[derive(Clone)]
pub struct Perception {
    jobs: mpsc::Sender<Job>,
    state: watch::Receiver<PerceptionState>,
    preview: watch::Receiver<Option<Preview>>,
    tap: Arc<watch::Sender<Option<mpsc::Sender<Tapped>>>>,
}

/// A look and what the model in charge saw, for those who compare.
#[derive(Debug, Clone)]
pub struct Tapped {
    pub look: Look,
    pub frame: SeenFrame,
}

enum Job {
    Look(Look),
    Swap { model: PathBuf, fallback: Option<PathBuf>, reply: oneshot::Sender<Result<ModelName, PerceptionError>> },
    Annotate { file: PathBuf, marks: Vec<Mark>, reply: oneshot::Sender<Result<Vec<u8>, PerceptionError>> },
}

impl Perception {
    /// Queues a look; its outcome comes out of the receiver that [`spawn`] gave.
    pub fn look(&self, look: Look) -> Result<(), PerceptionError> {
        self.jobs.try_send(Job::Look(look)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => PerceptionError::Full,
            mpsc::error::TrySendError::Closed(_) => PerceptionError::Stopped,
        })
    }

    /// The picture with boxes drawn, as a JPEG. Goes before waiting looks.
    pub async fn annotate(&self, file: PathBuf, marks: Vec<Mark>) -> Result<Vec<u8>, PerceptionError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job::Annotate { file, marks, reply }).await.map_err(|_| PerceptionError::Stopped)?;
        answer.await.map_err(|_| PerceptionError::Stopped)?
    }

    /// Puts the model of another directory in charge. The one before goes on until the new one is loaded; when that fails,
    /// it stays. `fallback` is what a later start goes back to.
    pub async fn swap(&self, model: PathBuf, fallback: Option<PathBuf>) -> Result<ModelName, PerceptionError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job::Swap { model, fallback, reply }).await.map_err(|_| PerceptionError::Stopped)?;
        answer.await.map_err(|_| PerceptionError::Stopped)?
    }

    /// Sends every frame that was seen to `to` as well, as far as it has room; none ends that.
    pub fn tap(&self, to: Option<mpsc::Sender<Tapped>>) {
        self.tap.send_replace(to);
    }

    pub fn state(&self) -> watch::Receiver<PerceptionState> {
        self.state.clone()
    }

    pub fn preview(&self) -> watch::Receiver<Option<Preview>> {
        self.preview.clone()
    }
}

/// Starts the task that owns the child; it ends, and the child with it, when `cancel` fires.
pub fn spawn(options: Options, cancel: CancellationToken) -> (Perception, mpsc::Receiver<Looked>) {
    let (jobs, inbox) = mpsc::channel(QUEUE);
    // Whoever reads these holds the sortie's books; a slow reader holds the child back, which is right.
    let (looked, outcomes) = mpsc::channel(64);
    let (state_out, state) = watch::channel(PerceptionState::default());
    let (preview_out, preview) = watch::channel(None);
    let tap = Arc::new(watch::channel(None).0);
    let keeper = Keeper {
        options,
        inbox,
        waiting: VecDeque::new(),
        annotations: VecDeque::new(),
        looked,
        state: state_out,
        preview: preview_out,
        failed_loads: 0,
        tap: tap.subscribe(),
        swap: None,
    };
    tokio::spawn(async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = keeper.run() => {}
        }
    });
    (Perception { jobs, state, preview, tap }, outcomes)
}

struct Keeper {
    options: Options,
    inbox: mpsc::Receiver<Job>,
    /// Looks not answered yet, with how many children they were given to.
    waiting: VecDeque<(Look, u32)>,
    annotations: VecDeque<(Job, u32)>,
    looked: mpsc::Sender<Looked>,
    state: watch::Sender<PerceptionState>,
    preview: watch::Sender<Option<Preview>>,
    /// Of the configured model, one after the other.
    failed_loads: u32,
    tap: watch::Receiver<Option<mpsc::Sender<Tapped>>>,
    swap: Option<Swap>,
}

/// Another model on its way into charge.
struct Swap {
    model: PathBuf,
    fallback: Option<PathBuf>,
    reply: oneshot::Sender<Result<ModelName, PerceptionError>>,
    loaded: oneshot::Receiver<Result<(Running, ModelName, Chosen), String>>,
}

/// A child that has its model loaded.
pub(crate) struct Running {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// How long it may take to answer.
    patience: Duration,
}

impl Running {
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }
}

impl Keeper {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.start().await {
                Ok(running) => {
                    let before = self.state.borrow().frames;
                    let killed = self.oom_kills();
                    let Some(mut reason) = self.serve(running).await else { return };
                    if let Some(pen) = self.options.pen.as_ref().filter(|pen| pen.oom_kills() > killed) {
                        let limit = pen.memory_mb();
                        reason =
                            format!("the child needed more than {limit} MB; raise perception.memory_mb ({reason})");
                    }
                    tracing::warn!(reason, "perception child ended; starting another");
                    self.state.send_modify(|s| {
                        s.running = false;
                        s.pid = None;
                        s.restarts += 1;
                        s.last_error = Some(reason);
                    });
                    if self.state.borrow().frames > before {
                        pause = FIRST_PAUSE;
                    }
                }
                Err(reason) => {
                    tracing::error!(reason, "perception child cannot start");
                    self.state.send_modify(|s| s.last_error = Some(reason));
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn oom_kills(&self) -> u64 {
        self.options.pen.as_ref().map_or(0, |pen| pen.oom_kills())
    }

    /// A child with the configured model; with the fallback once that was given up.
    async fn start(&mut self) -> Result<Running, String> {
        if self.failed_loads >= LOADS
            && let Some(fallback) = self.options.fallback.clone()
        {
            return self.start_with(&fallback).await;
        }
        match self.start_with(&self.options.model.clone()).await {
            Ok(running) => {
                self.failed_loads = 0;
                Ok(running)
            }
            Err(reason) => {
                self.failed_loads += 1;
                if self.failed_loads >= LOADS
                    && let Some(fallback) = &self.options.fallback
                {
                    tracing::error!(reason, going_on_with = %fallback.display(), "the model was given up");
                    self.state.send_modify(|s| s.model_refused = Some(reason.clone()));
                }
                Err(reason)
            }
        }
    }

    async fn start_with(&mut self, model: &Path) -> Result<Running, String> {
        let (running, model, provider) =
            launch(&self.options.program, model, &self.options.providers, self.options.pen.as_deref(), false).await?;
        self.in_charge(running.pid(), model, provider);
        Ok(running)
    }

    fn in_charge(&self, pid: Option<u32>, model: ModelName, provider: Chosen) {
        self.state.send_modify(|s| {
            s.running = true;
            s.pid = pid;
            s.model = Some(model);
            s.provider = Some(provider);
            s.last_error = None;
        });
    }

    /// Loads another model beside the one in charge.
    fn begin_swap(
        &mut self,
        model: PathBuf,
        fallback: Option<PathBuf>,
        reply: oneshot::Sender<Result<ModelName, PerceptionError>>,
    ) {
        let (done, loaded) = oneshot::channel();
        let (program, providers, dir) = (self.options.program.clone(), self.options.providers.clone(), model.clone());
        let pen = self.options.pen.clone();
        tokio::spawn(async move {
            // A keeper that has gone needs no child; the drop ends it.
            let _ = done.send(launch(&program, &dir, &providers, pen.as_deref(), false).await);
        });
        if let Some(before) = self.swap.replace(Swap { model, fallback, reply, loaded }) {
            let _ = before.reply.send(Err(PerceptionError::Failed("another model came in between".to_owned())));
        }
    }

    /// The new child, once its model is loaded. Its failure is the asker's matter: who is in charge stays.
    fn finish_swap(
        &mut self,
        loaded: Result<(Running, ModelName, Chosen), String>,
        swap: (PathBuf, Option<PathBuf>, oneshot::Sender<Result<ModelName, PerceptionError>>),
    ) -> Option<Running> {
        let (model, fallback, reply) = swap;
        match loaded {
            Err(reason) => {
                let _ = reply.send(Err(PerceptionError::Failed(reason)));
                None
            }
            Ok((running, name, provider)) => {
                (self.options.model, self.options.fallback, self.failed_loads) = (model, fallback, 0);
                self.in_charge(running.pid(), name.clone(), provider);
                self.state.send_modify(|s| s.model_refused = None);
                let _ = reply.send(Ok(name));
                Some(running)
            }
        }
    }

    /// Whether a swap has come to its end, without waiting for it.
    fn swapped(&mut self) -> Option<Running> {
        let loaded = match self.swap.as_mut()?.loaded.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return None,
            Err(oneshot::error::TryRecvError::Closed) => Err("its start was given up".to_owned()),
            Ok(loaded) => loaded,
        };
        let Swap { model, fallback, reply, .. } = self.swap.take()?;
        self.finish_swap(loaded, (model, fallback, reply))
    }

    /// Feeds one child until it fails (the reason) or the station has no more use for it (none).
    async fn serve(&mut self, mut running: Running) -> Option<String> {
        loop {
            while let Ok(job) = self.inbox.try_recv() {
                self.queue(job);
            }
            if let Some(new) = self.swapped() {
                // The one before has answered all it was asked; it ends with its standard input.
                running = new;
            }
            self.state.send_if_modified(|s| std::mem::replace(&mut s.behind, self.waiting.len()) != self.waiting.len());
            if let Some((job, tries)) = self.annotations.pop_front() {
                if let Err(error) = self.annotate(&mut running, job, tries).await {
                    return Some(error);
                }
            } else if let Some((look, tries)) = self.waiting.pop_front() {
                if let Err(error) = self.look(&mut running, look, tries).await {
                    return Some(error);
                }
            } else {
                tokio::select! {
                    job = self.inbox.recv() => match job {
                        Some(job) => self.queue(job),
                        None => return None,
                    },
                    loaded = next_loaded(&mut self.swap) => {
                        if let Some(Swap { model, fallback, reply, .. }) = self.swap.take()
                            && let Some(new) = self.finish_swap(loaded, (model, fallback, reply))
                        {
                            running = new;
                        }
                    }
                    status = running.child.wait() => return Some(match status {
                        Ok(status) => format!("the child ended by itself ({status})"),
                        Err(error) => format!("the child is gone ({error})"),
                    }),
                }
            }
        }
    }

    fn queue(&mut self, job: Job) {
        match job {
            Job::Look(look) => self.waiting.push_back((look, 0)),
            annotate @ Job::Annotate { .. } => self.annotations.push_back((annotate, 0)),
            Job::Swap { model, fallback, reply } => self.begin_swap(model, fallback, reply),
        }
    }

    async fn look(&mut self, running: &mut Running, look: Look, tries: u32) -> Result<(), String> {
        match ask(running, &Request::Look(look.clone())).await {
            Ok((Answer::Seen(frame), jpeg)) => {
                self.state.send_modify(|s| {
                    s.frames += 1;
                    s.detect_ms = Some(frame.detect_ms);
                });
                let preview = Preview { taken_at: look.taken_at, frame: look.frame, jpeg: Arc::new(jpeg) };
                self.preview.send_replace(Some(preview));
                let tap = self.tap.borrow().clone();
                if let Some(tap) = tap {
                    // Who compares and is slower than the camera compares fewer frames.
                    let _ = tap.try_send(Tapped { look: look.clone(), frame: frame.clone() });
                }
                self.tell(Looked::Seen { look, frame }).await;
                Ok(())
            }
            Ok((Answer::Skipped { why }, _)) => {
                self.state.send_modify(|s| s.skipped += 1);
                self.tell(Looked::Skipped { look, why }).await;
                Ok(())
            }
            Ok((Answer::Failed { error }, _)) => {
                self.lose(look, error).await;
                Ok(())
            }
            Ok(_) => Err("the child answered something else than was asked".to_owned()),
            Err(error) if tries + 1 >= 2 => {
                self.lose(look, format!("two children died over it ({error})")).await;
                Err(error.to_string())
            }
            Err(error) => {
                self.waiting.push_front((look, tries + 1));
                Err(error.to_string())
            }
        }
    }

    async fn lose(&mut self, look: Look, reason: String) {
        tracing::warn!(file = %look.file.display(), reason, "a picture was given up");
        self.state.send_modify(|s| s.lost += 1);
        self.tell(Looked::Lost { look, reason }).await;
    }

    async fn tell(&mut self, outcome: Looked) {
        // The station is going down; nobody keeps books any more.
        let _ = self.looked.send(outcome).await;
    }

    async fn annotate(&mut self, running: &mut Running, job: Job, tries: u32) -> Result<(), String> {
        let Job::Annotate { file, marks, reply } = job else { return Ok(()) };
        match ask(running, &Request::Annotate { file: file.clone(), marks: marks.clone() }).await {
            Ok((Answer::Annotated, jpeg)) => {
                // Who asked may have given up.
                let _ = reply.send(Ok(jpeg));
                Ok(())
            }
            Ok((Answer::Failed { error }, _)) => {
                let _ = reply.send(Err(PerceptionError::Failed(error)));
                Ok(())
            }
            Ok(_) => Err("the child answered something else than was asked".to_owned()),
            Err(error) if tries + 1 >= 2 => {
                let _ = reply.send(Err(PerceptionError::Failed(error.to_string())));
                Err(error.to_string())
            }
            Err(error) => {
                self.annotations.push_front((Job::Annotate { file, marks, reply }, tries + 1));
                Err(error.to_string())
            }
        }
    }
}

/// Starts a child and waits until its model is loaded. A humble one leaves the processor to others, and may take longer.
pub(crate) async fn launch(
    program: &Path,
    model: &Path,
    providers: &[Provider],
    pen: Option<&Pen>,
    humble: bool,
) -> Result<(Running, ModelName, Chosen), String> {
    // A child that crashed over a model cannot say which.
    let file = || Manifest::read(model).map_or_else(|_| model.to_owned(), |m| model.join(m.file));
    let mut command = if humble { Command::new("nice") } else { Command::new(program) };
    if humble {
        command.args(["-n", "10"]).arg(program);
    }
    let mut child = command
        .arg("perceive")
        .arg("--model")
        .arg(model)
        .args(providers.iter().map(|p| format!("--execution-provider={}", p.name())))
        // Large pages for the graph's tensors: fewer look-ups of addresses. What is above 4 MB, a picture, goes back to the
        // system at once (docs/performance.md). Only glibc knows these.
        .env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4194304")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    if let (Some(pen), Some(pid)) = (pen, child.id())
        && let Err(error) = pen.admit(pid)
    {
        tracing::warn!(%error, "this perception child runs without a memory limit of its own");
    }
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                tracing::warn!(target: "aerie::perceive", "{line}");
            }
        });
    }
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("the child has no standard streams".to_owned());
    };
    let patience = if humble { ANSWER_LIMIT * HUMBLE } else { ANSWER_LIMIT };
    let mut running = Running { child, input, output: BufReader::new(output), patience };
    match timeout(patience, protocol::read::<Answer>(&mut running.output)).await {
        Ok(Ok((Answer::Ready { model, provider }, _))) => {
            let (pid, on) = (running.child.id(), provider.provider.name());
            tracing::info!(model = model.name, version = model.version, pid, on, "perception ready");
            Ok((running, model, provider))
        }
        Ok(Ok((Answer::Failed { error }, _))) => Err(error),
        Ok(Ok(_)) => Err("the child answered before it was ready".to_owned()),
        Ok(Err(error)) => {
            let status = running.child.wait().await.map_or_else(|e| e.to_string(), |status| status.to_string());
            Err(format!("{}: the child ended while loading it ({status}; {error})", file().display()))
        }
        Err(_) => Err(format!("{}: not loaded within {patience:?}", file().display())),
    }
}

/// The end of a swap under way; without one, never.
async fn next_loaded(swap: &mut Option<Swap>) -> Result<(Running, ModelName, Chosen), String> {
    match swap {
        None => std::future::pending().await,
        Some(swap) => (&mut swap.loaded).await.unwrap_or_else(|_| Err("its start was given up".to_owned())),
    }
}

pub(crate) async fn ask(running: &mut Running, request: &Request) -> Result<(Answer, Vec<u8>), ProtocolError> {
    let patience = running.patience;
    let exchange = async {
        protocol::write(&mut running.input, request, &[]).await?;
        protocol::read(&mut running.output).await
    };
    match timeout(patience, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(ProtocolError::Stream(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer within {patience:?}"),
        ))),
    }
}
