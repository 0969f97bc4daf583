//! Keeps the perception child running and fed.
//!
//! - What was asked and not answered is asked again of the next child; what killed two children is given up, and said.
//! - The queue of looks is bounded; when it is full the new look is given up and said, never silently.
//! - A child that fails is started again at once, then with growing pauses while it keeps failing.
//! - A model that cannot be loaded, or ends its child over it, gives way to the one that is known to be good, and is named.

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
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Options {
    /// The aerie binary itself.
    pub program: PathBuf,
    pub model: PathBuf,
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
    Seen { look: Look, frame: SeenFrame },
    /// It shows nothing that could be judged.
    Skipped { look: Look, why: Unusable },
    Lost { look: Look, reason: String },
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
}

enum Job {
    Look(Look),
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
    let keeper = Keeper {
        options,
        inbox,
        waiting: VecDeque::new(),
        annotations: VecDeque::new(),
        looked,
        state: state_out,
        preview: preview_out,
        failed_loads: 0,
    };
    tokio::spawn(async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = keeper.run() => {}
        }
    });
    (Perception { jobs, state, preview }, outcomes)
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
}

struct Running {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Keeper {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.start().await {
                Ok(running) => {
                    let before = self.state.borrow().frames;
                    let Some(reason) = self.serve(running).await else { return };
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
        // A child that crashed over a model cannot say which.
        let file = || Manifest::read(model).map_or_else(|_| model.to_owned(), |m| model.join(m.file));
        let mut child = Command::new(&self.options.program)
            .arg("perceive")
            .arg("--model")
            .arg(model)
            .args(self.options.providers.iter().map(|p| format!("--execution-provider={}", p.name())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", self.options.program.display()))?;
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
        let mut running = Running { child, input, output: BufReader::new(output) };
        match timeout(ANSWER_LIMIT, protocol::read::<Answer>(&mut running.output)).await {
            Ok(Ok((Answer::Ready { model, provider }, _))) => {
                let pid = running.child.id();
                let on = provider.provider.name();
                tracing::info!(model = model.name, version = model.version, pid, on, "perception ready");
                self.state.send_modify(|s| {
                    s.running = true;
                    s.pid = pid;
                    s.model = Some(model);
                    s.provider = Some(provider);
                    s.last_error = None;
                });
                Ok(running)
            }
            Ok(Ok((Answer::Failed { error }, _))) => Err(error),
            Ok(Ok(_)) => Err("the child answered before it was ready".to_owned()),
            Ok(Err(error)) => {
                let status = running.child.wait().await.map_or_else(|e| e.to_string(), |status| status.to_string());
                Err(format!("{}: the child ended while loading it ({status}; {error})", file().display()))
            }
            Err(_) => Err(format!("{}: not loaded within {ANSWER_LIMIT:?}", file().display())),
        }
    }

    /// Feeds one child until it fails (the reason) or the station has no more use for it (none).
    async fn serve(&mut self, mut running: Running) -> Option<String> {
        loop {
            while let Ok(job) = self.inbox.try_recv() {
                self.queue(job);
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

async fn ask(running: &mut Running, request: &Request) -> Result<(Answer, Vec<u8>), ProtocolError> {
    let exchange = async {
        protocol::write(&mut running.input, request, &[]).await?;
        protocol::read(&mut running.output).await
    };
    match timeout(ANSWER_LIMIT, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(ProtocolError::Stream(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer within {ANSWER_LIMIT:?}"),
        ))),
    }
}
