//! `aerie soak`: delivery broken on purpose, and measured. For `make soak` and the tests; not for people.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use clap::Subcommand;

use super::common::say_json;
use crate::sim::soak::accept::AcceptOptions;
use crate::sim::soak::drain::DrainOptions;
use crate::sim::soak::feed::FeedOptions;
use crate::sim::soak::kill::KillOptions;
use crate::sim::soak::trace::TraceOptions;
use crate::sim::soak::{accept, drain, feed, kill, trace};

#[derive(clap::Args)]
pub struct SoakArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A station that only makes case events
    Feed {
        #[arg(long)]
        state_dir: PathBuf,
        #[arg(long)]
        broker: Option<String>,
        #[arg(long)]
        events: u64,
        #[arg(long, default_value_t = 0)]
        pause_ms: u64,
    },
    /// SIGKILL it again and again
    Kill {
        #[arg(long, default_value = "soak-out/kill")]
        out: PathBuf,
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        kills: u32,
        #[arg(long, default_value_t = 250)]
        longest_ms: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Replay its writes without what was not synced
    Trace {
        #[arg(long, default_value = "soak-out/trace")]
        out: PathBuf,
        #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
        events: u64,
        #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..))]
        cuts: u32,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Fill a queue for `drain`
    Fill {
        #[arg(long, default_value = "soak-out/drain")]
        out: PathBuf,
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
        records: u64,
    },
    /// Drain a long queue, beside a bare client
    Drain {
        #[arg(long, default_value = "soak-out/drain")]
        out: PathBuf,
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
        records: u64,
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
        turns: u64,
        #[arg(long, default_value_t = 64)]
        window: u16,
    },
    /// Accept, beside bare SQLite
    Accept {
        #[arg(long, default_value = "soak-out/accept")]
        out: PathBuf,
        #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
        commits: u32,
        #[arg(long, value_delimiter = ',', default_value = "1,16,128", value_parser = batch)]
        batches: Vec<usize>,
    },
}

fn batch(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|size| *size > 0).ok_or_else(|| "records in one transaction, 1 at least".to_owned())
}

pub fn run(args: SoakArgs) -> anyhow::Result<ExitCode> {
    tokio::runtime::Runtime::new()?.block_on(measure(args.command))
}

async fn measure(command: Command) -> anyhow::Result<ExitCode> {
    let good = match command {
        Command::Feed { state_dir, broker, events, pause_ms } => {
            feed::run(FeedOptions { state_dir, broker, events, pause: Duration::from_millis(pause_ms) }).await?;
            true
        }
        Command::Kill { out, kills, longest_ms, seed } => {
            let program = std::env::current_exe()?;
            let report = kill::run(KillOptions { program, out, kills, longest_ms, seed }).await?;
            say_json(&serde_json::to_value(&report)?)?;
            ensure!(report.accepted > 0, "nothing was accepted, so nothing was measured: let it run longer");
            report.is_good()
        }
        Command::Trace { out, events, cuts, seed } => {
            let program = std::env::current_exe()?;
            let report = trace::run(TraceOptions { program, out, events, cuts, seed }).await?;
            say_json(&serde_json::to_value(&report)?)?;
            ensure!(report.accepted > 0, "nothing was accepted, so nothing was measured: let it run longer");
            report.is_good()
        }
        Command::Fill { out, records } => {
            drain::fill(&out.join("state"), records).await?;
            true
        }
        Command::Drain { out, records, turns, window } => {
            ensure!(records >= turns, "--records {records}: each of the --turns {turns} needs one at least");
            let report = drain::run(DrainOptions { out, records, turns, window }).await?;
            say_json(&serde_json::to_value(&report)?)?;
            true
        }
        Command::Accept { out, commits, batches } => {
            let report = accept::run(AcceptOptions { out, commits, batches }).await?;
            say_json(&serde_json::to_value(&report)?)?;
            true
        }
    };
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        _args: super::SoakArgs,
    }

    #[test]
    fn a_run_that_would_measure_nothing_is_refused_before_it_begins() {
        for typed in ["kill --kills 0", "trace --cuts 0", "trace --events 0", "accept --batches 0", "drain --turns 0"] {
            let typed = std::iter::once("soak").chain(typed.split(' '));
            assert!(Typed::try_parse_from(typed.clone()).is_err(), "{typed:?}");
        }
        assert!(Typed::try_parse_from(["soak", "accept", "--batches", "1,16"]).is_ok());
    }
}
