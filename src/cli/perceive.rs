//! `aerie perceive`: the child process that sees. Started by the station, spoken to over its standard streams.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::perception::graph::Options;
use crate::perception::provider::Provider;
use crate::perception::{child, model_dir};

#[derive(clap::Args)]
pub struct PerceiveArgs {
    /// Directory of the model
    #[arg(long)]
    model: Option<PathBuf>,
    /// What to compute on, in the order it is tried
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    execution_provider: Vec<Provider>,
}

pub fn run(args: PerceiveArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let model = model_dir(args.model.as_deref());
    let options = Options { providers: args.execution_provider, ..Options::default() };
    runtime.block_on(child::run(&model, &options, tokio::io::stdin(), tokio::io::stdout()))?;
    // Standard input is read on a thread that cannot be interrupted.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}
