//! `aerie prove`: the child process that loads a model for the first time. Started by the station before a release looks at
//! a live frame; prints one JSON report.

use std::path::PathBuf;
use std::process::ExitCode;

use super::common::say;
use crate::perception::provider::Provider;
use crate::update::probe;

#[derive(clap::Args)]
pub struct ProveArgs {
    /// Directory of the release
    #[arg(long)]
    model: PathBuf,
    /// What to compute on, in the order it is tried
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    execution_provider: Vec<Provider>,
}

pub fn run(args: ProveArgs) -> anyhow::Result<ExitCode> {
    let report = probe::look(&args.model, &args.model.join("golden"), args.execution_provider);
    say(&serde_json::to_string(&report)?)?;
    Ok(ExitCode::SUCCESS)
}
