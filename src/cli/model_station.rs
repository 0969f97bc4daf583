//! `aerie model list|check|add|promote|rollback|trail`: a station's signed releases.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::Value;

use super::common::{StationArgs, moment_utc, say, say_json, table};
use super::patrol::in_path;
use crate::station::state_dir;
use crate::update::ledger::Ledger;

#[derive(Subcommand)]
pub enum Command {
    /// The model in charge, the one under way and where it stands, the refused ones and why
    #[command(after_help = "Example:\n  aerie model list")]
    List {
        #[command(flatten)]
        station: StationArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Look at the repository now instead of at the next hour
    #[command(after_help = "Example:\n  aerie model check")]
    Check {
        #[command(flatten)]
        station: StationArgs,
    },
    /// Take a release from a folder, as from a USB stick, with the same checks as over the air
    #[command(after_help = "Example:\n  aerie model add /media/stick/releases")]
    Add {
        /// A repository as `aerie model publish` writes it, on the station's own computer
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
        #[command(flatten)]
        station: StationArgs,
    },
    /// Put the release that looks along in charge, or with --commit commit the one on trial, without waiting for the rest; a tenth
    /// of the frames there must have been
    #[command(
        after_help = "Examples:\n  aerie model promote town-1.3               from the shadow into charge, on trial\n  aerie model promote town-1.3 --commit      from its trial to be the committed one"
    )]
    Promote {
        /// NAME-VERSION or digest as `aerie model list` shows them, or a beginning that no other release has
        #[arg(value_name = "RELEASE")]
        release: String,
        /// End its trial
        #[arg(long)]
        commit: bool,
        #[command(flatten)]
        station: StationArgs,
    },
    /// Give up the release under way, or go back from the committed one by naming it; it is refused from then on
    #[command(
        after_help = "Examples:\n  aerie model rollback --reason \"not now\"                                  what is under way\n  aerie model rollback town-1.3 --reason \"reports every greenhouse\"        back from it, to the one before"
    )]
    Rollback {
        /// NAME-VERSION or digest as `aerie model list` shows them, or a beginning that no other release has; the one under way
        /// when left out. A committed release has to be named
        #[arg(value_name = "RELEASE")]
        release: Option<String>,
        /// Others will read it
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        station: StationArgs,
    },
    /// Every step of every update, oldest first, and whether the trail is whole; reads the disk, needs no running station
    #[command(after_help = "Example:\n  aerie model trail --config station.toml")]
    Trail {
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::List { station, json } => {
            let known = station.client()?.get("models")?;
            if json { say_json(&known)? } else { say(&listed(&known))? }
        }
        Command::Check { station } => answer(&station.client()?.post("model/check")?)?,
        Command::Add { folder, station } => {
            let folder = folder.canonicalize().with_context(|| format!("{} is not there", folder.display()))?;
            let folder = folder.to_str().context("the folder's name is not UTF-8")?;
            answer(&station.client()?.post(&format!("model/add?folder={}", in_path(folder)))?)?;
        }
        Command::Promote { release, commit, station } => {
            let to = if commit { "committed" } else { "trial" };
            answer(&station.client()?.post(&format!("model/promote?release={}&to={to}", in_path(&release)))?)?;
        }
        Command::Rollback { release, reason, station } => {
            let release = release.map(|release| format!("&release={}", in_path(&release))).unwrap_or_default();
            answer(&station.client()?.post(&format!("model/rollback?reason={}{release}", in_path(&reason)))?)?;
        }
        Command::Trail { config, json } => return trail(&config, json),
    }
    Ok(ExitCode::SUCCESS)
}

fn answer(done: &Value) -> std::io::Result<()> {
    say(done["said"].as_str().unwrap_or("done"))
}

fn trail(config: &std::path::Path, json: bool) -> anyhow::Result<ExitCode> {
    let ledger = Ledger::look(&state_dir(config)?)?;
    let mut entries = ledger.newest(1_000_000)?;
    entries.reverse();
    let broken = ledger.broken_link()?;
    if json {
        say_json(&serde_json::json!({"entries": entries, "broken_at": broken}))?;
    } else {
        let rows: Vec<_> = entries
            .iter()
            .map(|e| vec![e.n.to_string(), moment_utc(&e.at.as_str().into()), e.kind.clone(), e.said.clone()])
            .collect();
        say(&table(&["n", "at", "kind", "what"], &rows))?;
        match broken {
            None => say("the trail is whole")?,
            Some(n) => say(&format!("the trail is NOT whole: entry {n} is not what was written"))?,
        }
    }
    Ok(if broken.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn release(value: &Value) -> String {
    match value["digest"].as_str() {
        Some(digest) => format!("{} {} ({digest:.12})", text(&value["name"]), text(&value["version"])),
        None => "none".to_owned(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn listed(known: &Value) -> String {
    let mut said = format!("looks now    {} {}\n", text(&known["running"]["name"]), text(&known["running"]["version"]));
    let update = &known["update"];
    for kind in update["kinds"].as_array().into_iter().flatten() {
        let under_way = &kind["candidate"];
        if kind["committed"].is_null()
            && under_way.is_null()
            && kind["refused"].as_object().is_none_or(|r| r.is_empty())
        {
            continue;
        }
        said.push_str(&format!("{}\n  committed  {}\n", text(&kind["kind"]), release(&kind["committed"])));
        said.push_str(&format!("  before it  {}\n", release(&kind["previous"])));
        if !under_way.is_null() {
            let release = release(&under_way["release"]);
            said.push_str(&format!(
                "  under way  {release}: {}, since {}\n",
                text(&under_way["stage"]),
                moment_utc(&under_way["since"])
            ));
        }
        for refused in kind["refused"].as_object().into_iter().flat_map(|r| r.values()) {
            said.push_str(&format!("  refused    {}: {}\n", release(&refused["release"]), text(&refused["reason"])));
        }
    }
    for (name, key) in [
        ("doing", "doing"),
        ("heard at", "refreshed_at"),
        ("holds until", "fresh_until"),
        ("last look", "last_look"),
        ("trouble", "last_error"),
        ("beware", "warning"),
        ("damaged", "damaged"),
    ] {
        if update[key].is_string() {
            let value = if key.starts_with("fresh") || key.starts_with("refresh") {
                moment_utc(&update[key])
            } else {
                text(&update[key]).to_owned()
            };
            said.push_str(&format!("{name:<13}{value}\n"));
        }
    }
    said
}
