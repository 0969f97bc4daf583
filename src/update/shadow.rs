//! A candidate's second child: it looks at what the running model has looked at, and nobody hears of what it sees.

use std::path::PathBuf;

use tokio::sync::{mpsc, watch};

use super::compare::{Rules, Seen, Tally, Verdict};
use super::probe::memory_mb;
use crate::perception::protocol::{Answer, Request};
use crate::perception::provider::Provider;
use crate::perception::supervise::{Running, Tapped, ask, launch};

pub struct Shadow {
    pub program: PathBuf,
    pub model: PathBuf,
    pub providers: Vec<Provider>,
    pub rules: Rules,
    pub memory_mb: u64,
}

/// The reason why the child ended, and whether over a frame.
const DEATHS: u32 = 2;

impl Shadow {
    /// Looks along until it knows. `so_far` shows how it goes.
    pub async fn run(self, mut frames: mpsc::Receiver<Tapped>, so_far: watch::Sender<Tally>) -> Verdict {
        let mut tally = Tally::default();
        let mut child: Option<Running> = None;
        let mut deaths = 0;
        while let Some(Tapped { look, frame }) = frames.recv().await {
            let mut running = match child.take() {
                Some(running) => running,
                None => match launch(&self.program, &self.model, &self.providers, None, true).await {
                    Ok((running, ..)) => running,
                    Err(reason) => return Verdict::Failed(reason),
                },
            };
            match ask(&mut running, &Request::Look(look.clone())).await {
                Ok((Answer::Seen(new), _)) => {
                    let memory = running.pid().and_then(|pid| memory_mb(pid, "VmRSS:"));
                    tally.frame(&Seen::from(&frame), &Seen::from(&new), memory, &self.rules);
                    if let Some(mb) = memory.filter(|mb| *mb > self.memory_mb) {
                        return Verdict::Failed(format!("huge: {mb} MB of memory, {} MB are allowed", self.memory_mb));
                    }
                    child = Some(running);
                }
                // The file may have gone meanwhile: then the running one could not look again either.
                Ok((Answer::Failed { .. }, _)) if !look.file.exists() => child = Some(running),
                Ok((Answer::Failed { error }, _)) => {
                    tracing::info!(error, "the shadow failed at a frame");
                    tally.failure();
                    child = Some(running);
                }
                Ok(_) => child = Some(running),
                Err(error) => {
                    deaths += 1;
                    if deaths >= DEATHS {
                        return Verdict::Failed(format!("its child ended {deaths} times over live frames ({error})"));
                    }
                    tally.failure();
                }
            }
            so_far.send_replace(tally.clone());
            match tally.shadow(&self.rules) {
                Verdict::NotYet => {}
                verdict => return verdict,
            }
        }
        Verdict::NotYet
    }
}
