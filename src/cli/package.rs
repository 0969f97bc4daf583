//! `aerie package-files`: what a package is made with, out of the program itself. Not for people.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap_complete::Shell;

#[derive(clap::Args)]
pub struct PackageArgs {
    /// Gets man/, completions/ and station.toml
    dir: PathBuf,
}

pub fn run(args: PackageArgs, mut command: clap::Command) -> anyhow::Result<ExitCode> {
    let (man, completions) = (args.dir.join("man"), args.dir.join("completions"));
    for dir in [&man, &completions] {
        std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    }
    // One page a command: aerie.1, aerie-case.1, aerie-case-list.1. Without a date: the same pages tomorrow.
    clap_mangen::generate_to(command.clone(), &man).with_context(|| format!("{} cannot be filled", man.display()))?;
    for (shell, name) in [(Shell::Bash, "aerie"), (Shell::Zsh, "_aerie"), (Shell::Fish, "aerie.fish")] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command, "aerie", &mut text);
        let path = completions.join(name);
        std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    std::fs::write(args.dir.join("station.toml"), crate::config::EXAMPLE)?;
    Ok(ExitCode::SUCCESS)
}
