//! `aerie doctor` and `aerie support-bundle`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::CONFIG;
use super::common::{plain, say, say_json, table};
use crate::care::bundle::{self, Material};
use crate::care::doctor::{self, Finding, Grade};
use crate::config;
use crate::console::client::{self, Client};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  aerie doctor\n  aerie doctor --config station.toml --json\n\nA running station is asked; where none runs, the parts are asked here. The drone hears no heartbeat of it.\nExit code 1 when something failed."
)]
pub struct DoctorArgs {
    /// The station's configuration
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  aerie support-bundle\n  aerie support-bundle --config station.toml --log station.log --out bundle.tar.gz\n\nHolds versions, status, configuration, the doctor's findings, the newest of the log, the outbox's state. No secret,\nand no picture."
)]
pub struct BundleArgs {
    /// The station's configuration
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// What the station has logged, when journald does not have it
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Where to [default: aerie-support-TIME.tar.gz]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let status = status_of(&args.config);
    let found = examine(&args.config, status.as_ref().ok())?;
    if args.json {
        say_json(&json!({"findings": found}))?;
    } else {
        say(&words(&found))?;
    }
    let failed = found.iter().any(|finding| finding.grade == Grade::Fail);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

pub fn bundle(args: BundleArgs) -> anyhow::Result<ExitCode> {
    let status = status_of(&args.config);
    let found = examine(&args.config, status.as_ref().ok())?;
    let now = Timestamp::now();
    let out =
        args.out.unwrap_or_else(|| PathBuf::from(format!("aerie-support-{}.tar.gz", now.strftime("%Y%m%dT%H%M%SZ"))));
    let log = match &args.log {
        Some(path) => String::from_utf8_lossy(
            &std::fs::read(path).map_err(|error| anyhow::anyhow!("--log {}: {error}", path.display()))?,
        )
        .into_owned(),
        None => bundle::journal(),
    };
    let state_dir = config::whereabouts(&args.config).ok().map(|(_, state_dir)| state_dir);
    let material = Material { config: args.config, state_dir, status, doctor: json!(found), log };
    bundle::write(&out, &material)?;
    say(&format!("{}: look at it before you send it", out.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// What the station of this configuration says, if it runs.
fn status_of(config: &Path) -> Result<Value, String> {
    let ask = || -> Result<Value, client::ClientError> {
        let named = client::from_config(config)?;
        Client::new(&named.url, named.token, "doctor".to_owned())?.of_station(named.station).get("status")
    };
    ask().map_err(|error| error.to_string())
}

fn examine(config: &Path, status: Option<&Value>) -> anyhow::Result<Vec<Finding>> {
    match config::load(config) {
        Ok(checked) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            let found = runtime.block_on(doctor::examine(&checked, status));
            runtime.shutdown_timeout(std::time::Duration::from_secs(2));
            Ok(found)
        }
        Err(faults) => Ok(doctor::examine_despite(&faults)),
    }
}

fn words(found: &[Finding]) -> String {
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|finding| {
            let grade = match finding.grade {
                Grade::Ok => "ok",
                Grade::Warn => "WARN",
                Grade::Fail => "FAIL",
            };
            let remedy = finding.remedy.as_ref().map(|remedy| format!(" → {remedy}")).unwrap_or_default();
            vec![finding.part.to_owned(), grade.to_owned(), plain(&format!("{}{remedy}", finding.what))]
        })
        .collect();
    table(&["PART", "", "WHAT"], &rows)
}
