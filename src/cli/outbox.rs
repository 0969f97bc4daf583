//! `aerie outbox`: what still has to reach upstream, read from the disk beside a running station or without one.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Subcommand, ValueEnum};
use serde_json::Value;

use super::common::{moment, say, say_json, table, text};
use crate::outbox::{CheckReport, Listed, Reader, would_open};
use crate::station;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  aerie outbox check --config station.toml\n  aerie outbox list --state-dir /var/lib/aerie --state queued\n  aerie outbox export --config station.toml > outbox.ndjson"
)]
pub struct OutboxArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Where {
    /// The station's configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The station's state directory itself
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum State {
    Queued,
    Delivered,
    Aside,
    Evicted,
}

#[derive(Subcommand)]
enum Command {
    /// Look the database and the pictures over; exit code 1 when something that is owed is damaged
    #[command(after_help = "Example:\n  aerie outbox check --config station.toml")]
    Check {
        #[command(flatten)]
        at: Where,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List records, newest first
    #[command(after_help = "Example:\n  aerie outbox list --config station.toml --state aside")]
    List {
        #[command(flatten)]
        at: Where,
        /// In this state alone
        #[arg(long)]
        state: Option<State>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print what is known of every record, one JSON object a line, oldest first; pictures with the file they lie in
    #[command(after_help = "Example:\n  aerie outbox export --config station.toml > outbox.ndjson")]
    Export {
        #[command(flatten)]
        at: Where,
        /// In this state alone
        #[arg(long)]
        state: Option<State>,
        /// One JSON object a line is what it prints: accepted, and changes nothing
        #[arg(long)]
        json: bool,
    },
}

impl Where {
    fn dir(&self) -> anyhow::Result<PathBuf> {
        let dir = match (&self.state_dir, &self.config) {
            (Some(dir), _) => dir.clone(),
            (None, Some(config)) => station::state_dir(config)?,
            (None, None) => anyhow::bail!("give --config FILE or --state-dir DIR"),
        };
        ensure!(dir.is_dir(), "{} is not a directory; has the station run yet?", dir.display());
        Ok(dir)
    }
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Delivered => "delivered",
            State::Aside => "aside",
            State::Evicted => "evicted",
        }
    }
}

pub fn run(args: OutboxArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Check { at, json } => {
            let dir = at.dir()?;
            would_open(&dir)?;
            let report = Reader::open(&dir)?.check()?;
            if json {
                say_json(&serde_json::to_value(&report)?)?
            } else {
                say(&report_words(&report))?
            }
            return Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::List { at, state, limit, json } => {
            let rows = rows(&at, state)?;
            let rows = rows.get(..limit.min(rows.len())).unwrap_or_default();
            match (json, rows.is_empty()) {
                (true, _) => say_json(&serde_json::to_value(rows)?)?,
                (false, true) => say("no records")?,
                (false, false) => say(&row_table(rows)?)?,
            }
        }
        Command::Export { at, state, json: _ } => {
            let evidence = at.dir()?.join("evidence");
            let mut out = String::new();
            for row in rows(&at, state)?.iter().rev() {
                let mut line = serde_json::to_value(row)?;
                if let Some(digest) = row.topic.strip_prefix("evidence/") {
                    line["file"] = evidence.join(format!("{digest}.jpg")).to_string_lossy().into();
                }
                out.push_str(&line.to_string());
                out.push('\n');
            }
            if !out.is_empty() {
                say(&out)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(at: &Where, state: Option<State>) -> anyhow::Result<Vec<Listed>> {
    let dir = at.dir()?;
    let mut rows = Reader::open(&dir)?.list(usize::MAX).with_context(|| format!("in {}", dir.display()))?;
    rows.retain(|row| state.is_none_or(|state| state.name() == row.state));
    Ok(rows)
}

fn row_table(rows: &[Listed]) -> anyhow::Result<String> {
    let rows: Result<Vec<Vec<String>>, serde_json::Error> = rows
        .iter()
        .map(|row| {
            let row = serde_json::to_value(row)?;
            let fields = ["seq", "state", "class", "topic", "bytes", "attempts"].map(|key| text(&row[key]));
            let times = ["accepted_at", "ended_at"].map(|key| moment(&row[key]));
            Ok(fields.into_iter().chain(times).chain([text(&row["reason"])]).collect())
        })
        .collect();
    Ok(table(&["SEQ", "STATE", "CLASS", "TOPIC", "BYTES", "REFUSALS", "ACCEPTED", "ENDED", "REASON"], &rows?))
}

fn report_words(report: &CheckReport) -> String {
    let mut out = format!(
        "{}: {} queued, {} delivered, {} set aside, {} evicted, {} pictures that no record needs\n",
        if report.is_sound() { "sound" } else { "DAMAGED" },
        report.queued,
        report.delivered,
        report.aside,
        report.evicted,
        report.unowned_pictures
    );
    if report.unheard > 0 {
        let since = report.unheard_since.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default();
        out.push_str(&format!(
            "nobody    {} of the delivered were taken by the broker for no subscriber\nremedy    let the receiver subscribe, with a persistent session; then `aerie command sign --name outbox.resend --args '{{\"since\": \"{since}\"}}' ...` brings them again\n",
            report.unheard
        ));
    }
    for fault in &report.faults {
        out.push_str(&format!("fault     {}\n", text(&Value::from(fault.as_str()))));
    }
    for id in &report.missing_pictures {
        out.push_str(&format!("missing   the picture of {}\n", text(&Value::from(id.as_str()))));
    }
    for id in &report.damaged_pictures {
        out.push_str(&format!("damaged   the picture of {}\n", text(&Value::from(id.as_str()))));
    }
    if !report.lost_to_resend.is_empty() {
        out.push_str(&format!(
            "journal   the pictures of {} delivered records are gone or damaged: nothing is owed, `outbox.resend` cannot bring them\n",
            report.lost_to_resend.len()
        ));
    }
    if report.faults.is_empty() && !report.is_sound() {
        out.push_str("remedy    check the disk; the station sets these records aside and reports them as lost when their turn comes\n");
    } else if !report.is_sound() {
        out.push_str("remedy    check the disk; at its next start the station moves a broken database aside, saves what can be read and reports the loss\n");
    }
    out
}
