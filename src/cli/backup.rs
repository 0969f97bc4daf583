//! `aerie backup`, `aerie restore` and `aerie reset`: a station's memory out, in, and away.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::ensure;
use jiff::Timestamp;
use serde_json::json;

use super::CONFIG;
use super::common::{say, say_json};
use crate::care::backup;
use crate::{config, station};

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  aerie backup --config /etc/aerie/station.toml --out /media/usb/danzao-01.tar.gz\n\nAlso beside a running station. Holds keys: keep it as you keep those."
)]
pub struct BackupArgs {
    /// The station's configuration
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// Where to [default: aerie-backup-STATION-TIME.tar.gz]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  systemctl stop aerie; aerie reset --yes; aerie restore danzao-01.tar.gz --config /etc/aerie/station.toml\n  aerie restore danzao-01.tar.gz --state-dir /var/lib/aerie --config-dir /etc/aerie\n\nThe station then stays on the ground until `aerie service release`, and commands of before are refused."
)]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Put it back where this configuration has its state
    #[arg(long, value_name = "FILE", conflicts_with = "state_dir")]
    config: Option<PathBuf>,
    /// Put it back into this state directory
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Unpack its configuration and keys into this folder too
    #[arg(long, value_name = "DIR")]
    config_dir: Option<PathBuf>,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  systemctl stop aerie && aerie reset --yes\n\nRemoves databases and evidence. Configuration, keys and the camera's pictures stay."
)]
pub struct ResetArgs {
    /// The station's configuration
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// Yes, forget all cases, sorties and commands
    #[arg(long)]
    yes: bool,
    /// Also what has not reached upstream
    #[arg(long)]
    even_undelivered: bool,
}

pub fn backup(args: BackupArgs) -> anyhow::Result<ExitCode> {
    let (id, _) = config::whereabouts(&args.config)?;
    let out = args.out.unwrap_or_else(|| backup::default_name(&id, Timestamp::now()));
    let manifest = backup::take(&args.config, &out)?;
    for (name, why) in &manifest.damaged {
        eprintln!("aerie: {name} is damaged ({why}): packed as it is, under damaged/; a restore leaves it out");
    }
    for left_out in &manifest.left_out {
        eprintln!("aerie: not packed: {left_out}");
    }
    if args.json {
        say_json(&json!({"file": out, "manifest": manifest}))?;
    } else {
        say(&format!(
            "{}: {} files of station {}; it holds keys",
            out.display(),
            manifest.files.len(),
            manifest.station
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn restore(args: RestoreArgs) -> anyhow::Result<ExitCode> {
    let dir = match (&args.state_dir, &args.config) {
        (Some(dir), _) => dir.clone(),
        (None, Some(config)) => station::state_dir(config)?,
        (None, None) => anyhow::bail!("give --config FILE or --state-dir DIR"),
    };
    let manifest = backup::restore(&args.file, &dir, args.config_dir.as_deref())?;
    let where_to = match &args.config_dir {
        Some(config) => format!("{}, its configuration in {}", dir.display(), config.display()),
        None => dir.display().to_string(),
    };
    let owner = match give_to_station(&manifest, &dir, args.config_dir.as_deref()) {
        Ok(true) => "Its files belong to the user aerie, who runs it.".to_owned(),
        Ok(false) => "Its files belong to the user who ran this, who has to run the station as well.".to_owned(),
        Err(error) => format!("Its files could not be given to the user aerie ({error}): chown them."),
    };
    say(&format!(
        "station {} of {} is back in {where_to}. {owner}\nIt stays on the ground until `aerie service release`.",
        manifest.station, manifest.taken_at,
    ))?;
    if manifest.files.keys().any(|name| name.starts_with("config/elsewhere/")) && args.config_dir.is_some() {
        say(
            "Files that lay outside the configuration's folder are in `elsewhere` there: put them where the configuration names them.",
        )?;
    }
    for name in manifest.damaged.keys() {
        eprintln!(
            "aerie: {name} was damaged when the backup was taken and is not back; it is in the archive under damaged/"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// What root put back belongs to the user of the package; false where there is none, or another user put it back for himself.
fn give_to_station(manifest: &backup::Manifest, state: &Path, config: Option<&Path>) -> std::io::Result<bool> {
    let root = nix::unistd::geteuid().is_root();
    let Some(user) = nix::unistd::User::from_name("aerie").ok().flatten().filter(|_| root) else { return Ok(false) };
    let places = [("state", Some(state)), ("config", config)];
    for (part, dir) in places.into_iter().filter_map(|(part, dir)| Some((part, dir?))) {
        let mut theirs = BTreeSet::from([dir.to_owned()]);
        for name in manifest.files.keys().filter_map(|name| Path::new(name).strip_prefix(part).ok()) {
            theirs.extend(name.ancestors().filter(|name| !name.as_os_str().is_empty()).map(|name| dir.join(name)));
        }
        // Some of it may not be back: models that are older than what is there.
        for path in theirs.iter().filter(|path| path.exists()) {
            std::os::unix::fs::lchown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
    }
    Ok(true)
}

pub fn reset(args: ResetArgs) -> anyhow::Result<ExitCode> {
    let dir = station::state_dir(&args.config)?;
    ensure!(args.yes, "this forgets all cases, sorties and commands in {}; say --yes", dir.display());
    let emptied = backup::reset(&dir, args.even_undelivered)?;
    say(&format!(
        "{}: {} files removed, {} undelivered among them",
        dir.display(),
        emptied.files,
        emptied.undelivered.map_or("nobody knows how many".to_owned(), |count| count.to_string())
    ))?;
    Ok(ExitCode::SUCCESS)
}
