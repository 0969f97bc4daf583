//! `aerie tuf-conformance`: what the `tuf-conformance` suite calls. See docs/updates.md.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use crate::update::conformance;

#[derive(clap::Args)]
pub struct ConformanceArgs {
    #[arg(long)]
    metadata_dir: PathBuf,
    #[arg(long)]
    metadata_url: Option<String>,
    #[arg(long)]
    target_name: Vec<String>,
    #[arg(long)]
    target_dir: Option<PathBuf>,
    #[arg(long)]
    target_base_url: Option<String>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Init { trusted_root: PathBuf },
    Refresh,
    Download,
}

pub fn run(args: ConformanceArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let url = || args.metadata_url.as_deref().ok_or_else(|| anyhow::anyhow!("--metadata-url is missing"));
    match &args.what {
        What::Init { trusted_root } => conformance::init(&args.metadata_dir, trusted_root)?,
        What::Refresh => runtime.block_on(conformance::refresh(&args.metadata_dir, url()?))?,
        What::Download => {
            let (Some(into), Some(targets)) = (&args.target_dir, &args.target_base_url) else {
                anyhow::bail!("--target-dir and --target-base-url are missing");
            };
            runtime.block_on(conformance::download(&args.metadata_dir, url()?, &args.target_name, targets, into))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
