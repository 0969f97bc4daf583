//! `aerie run`: the daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::station;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  aerie config example > station.toml\n  aerie config check station.toml\n  aerie run --config station.toml"
)]
pub struct RunArgs {
    /// The station's configuration
    #[arg(long, default_value = super::CONFIG)]
    config: PathBuf,
}

pub fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let fine = runtime.block_on(station::run(&args.config))?;
    // A blocking thread that hangs on a dead device must not keep the process alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
