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
use tokio::time::Instant;

use super::SoakError;
use super::feed::STATION;
use super::witness::{Counts, Witness};

/// Share of the lives that are counted from the start of the process.
const FROM_THE_START: f64 = 0.2;
/// The last life, which brings out what is left, and one that never says anything.
const LONGEST_LIFE: Duration = Duration::from_secs(120);

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
        // Most lives are counted from the first event on, so that they end while cases are made; some from their very
        // start, so that they end while databases are opened and old events offered again.
        let span = Duration::from_micros(random.random_range(0..=options.longest_ms * 1000));
        let mut until = random.random_bool(FROM_THE_START).then(|| Instant::now() + span);
        if last {
            until = Some(Instant::now() + LONGEST_LIFE);
        }
        loop {
            let end = until.unwrap_or_else(|| Instant::now() + LONGEST_LIFE);
            let line = tokio::select! {
                line = lines.next_line() => line,
                () = tokio::time::sleep_until(end) => break,
            };
            match line {
                Ok(Some(line)) => accepted.extend(line.strip_prefix("accepted ").map(str::to_owned)),
                _ if last => break,
                _ => return Err(SoakError::Failed(format!("life {life} ended by itself: see what it says of it"))),
            }
            until = until.or_else(|| Some(Instant::now() + span));
        }
        if !last {
            let _ = child.start_kill();
            // Whatever it said until it died counts.
            while let Ok(Some(line)) = lines.next_line().await {
                accepted.extend(line.strip_prefix("accepted ").map(str::to_owned));
            }
        } else if !matches!(tokio::time::timeout(LONGEST_LIFE, child.wait()).await, Ok(Ok(_))) {
            return Err(SoakError::Failed("the queue did not become empty".to_owned()));
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
