//! `aerie perceive`: the child process that sees. Started by the station, spoken to over its standard streams.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::perception::{child, model_dir};

#[derive(clap::Args)]
pub struct PerceiveArgs {
    /// Directory of the model
    #[arg(long)]
    model: Option<PathBuf>,
}

pub fn run(args: PerceiveArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let model = model_dir(args.model.as_deref());
    runtime.block_on(child::run(&model, tokio::io::stdin(), tokio::io::stdout()))?;
    // Standard input is read on a thread that cannot be interrupted.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}
