//! SIGKILL at random moments while cases are made, again and again, on one state directory.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::SoakError;
use super::feed::STATION;
use super::witness::{Counts, Witness};

#[derive(Debug, Clone)]
pub struct KillOptions {
    /// The aerie that is killed.
    pub program: PathBuf,
    pub out: PathBuf,
    pub kills: u32,
    /// The longest life, milliseconds; each is drawn evenly from none to this.
    pub longest_ms: u64,
    pub seed: u64,
}

#[derive(Debug, Serialize)]
pub struct KillReport {
    pub kills: u32,
    /// Lives that accepted something.
    pub fruitful: u32,
    /// Records that a station said it had accepted.
    pub accepted: u64,
    pub lost: u64,
    #[serde(flatten)]
    pub seen: Counts,
    pub quarantined: bool,
}

impl KillReport {
    pub fn is_good(&self) -> bool {
        self.lost == 0 && self.seen.out_of_order == 0 && self.seen.changed == 0 && self.seen.damaged == 0
    }
}

pub async fn run(options: KillOptions) -> Result<KillReport, SoakError> {
    let (_broker, port) = super::broker(&options.out)?;
    let url = format!("mqtt://127.0.0.1:{port}");
    let witness = Witness::start(port, &format!("aerie/v1/{STATION}/#")).await?;
    let state_dir = options.out.join("state");
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let mut accepted = HashSet::new();
    let mut fruitful = 0;
    // The last life is not cut short: it only brings out what is left.
    for life in 0..=options.kills {
        let last = life == options.kills;
        let events = if last { "0" } else { "1000000" };
        let mut child = Command::new(&options.program)
            .args(["soak", "feed", "--broker", &url, "--events", events, "--state-dir"])
            .arg(&state_dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(SoakError::io("run", &options.program))?;
        let Some(out) = child.stdout.take() else { return Err(SoakError::Failed("no pipe to the station".to_owned())) };
        let mut lines = BufReader::new(out).lines();
        let before = accepted.len();
        let live = async {
            while let Ok(Some(line)) = lines.next_line().await {
                accepted.extend(line.strip_prefix("accepted ").map(str::to_owned));
            }
        };
        let limit = match last {
            true => Duration::from_secs(120),
            false => Duration::from_micros(random.random_range(0..=options.longest_ms * 1000)),
        };
        if tokio::time::timeout(limit, live).await.is_err() {
            // Whatever it said until it died counts.
            let _ = child.start_kill();
            while let Ok(Some(line)) = lines.next_line().await {
                accepted.extend(line.strip_prefix("accepted ").map(str::to_owned));
            }
            if last {
                return Err(SoakError::Failed("the queue did not become empty within 120 s".to_owned()));
            }
        } else if !last {
            return Err(SoakError::Failed(format!("life {life} ended by itself: see what `aerie soak feed` says")));
        }
        let _ = child.wait().await;
        fruitful += u32::from(accepted.len() > before);
    }
    let missing = witness.wait_for(&accepted, Duration::from_secs(10)).await;
    for id in missing.iter().take(10) {
        tracing::error!(id, "accepted and never arrived");
    }
    let files = std::fs::read_dir(&state_dir).map_err(SoakError::io("read", &state_dir))?;
    let quarantined = files.flatten().any(|file| file.file_name().to_string_lossy().contains(".corrupt-"));
    Ok(KillReport {
        kills: options.kills,
        fruitful,
        accepted: accepted.len() as u64,
        lost: missing.len() as u64,
        seen: witness.look(|seen| seen.counts),
        quarantined,
    })
}
