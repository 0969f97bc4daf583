//! `aerie config`: every fault of a configuration at once, its schema, an example.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::common::{plain, say, say_json};
use super::patrol::mission_of;
use crate::config::{self, Checked, Faults};
use crate::perception::{self, Manifest};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  aerie config example > station.toml\n  aerie config check station.toml\n  aerie config schema > station.schema.json"
)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Name every fault of a configuration and of the files it names; exit code 1 when there is one
    #[command(after_help = "Example:\n  aerie config check /etc/aerie/station.toml --json")]
    Check {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the configuration, which describes every key
    #[command(after_help = "Example:\n  aerie config schema > station.schema.json")]
    Schema,
    /// Print a whole example with comments
    #[command(after_help = "Example:\n  aerie config example > station.toml")]
    Example,
}

pub fn run(args: ConfigArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Check { file, json } => match config::load(&file) {
            Ok(checked) => {
                let faults = grounding(&checked, &file);
                if !faults.faults.is_empty() {
                    return say_faults(&faults, json);
                }
                if json {
                    say_json(&json!({"file": file, "faults": []}))?;
                } else {
                    let station = &checked.config.station;
                    let name = plain(&station.name);
                    say(&format!(
                        "{}: no fault; station {} ({name}), {} patrol(s)",
                        file.display(),
                        station.id,
                        checked.patrols.len()
                    ))?;
                }
            }
            Err(faults) => return say_faults(&faults, json),
        },
        Command::Schema => say_json(&config::schema())?,
        Command::Example => say(config::EXAMPLE)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What a station runs with all the same, the rest of it being well, so that it is no fault of the configuration; but
/// people want to know.
fn grounding(checked: &Checked, file: &Path) -> Faults {
    let mut faults = Faults::new(file);
    if let Some(fault) = model_fault(&checked.config) {
        faults.add("perception.model", fault);
    }
    for (index, patrol) in checked.patrols.iter().enumerate() {
        if let (_, Some(fault)) = mission_of(checked, patrol) {
            let id = &patrol.config.id;
            faults.add(
                &format!("patrols[{index}]"),
                format!("{id} would be refused: {fault} (`aerie patrol plan {id} --config {}`)", file.display()),
            );
        }
    }
    faults
}

fn model_fault(config: &config::Config) -> Option<String> {
    let dir = perception::model_dir(config.perception.model.as_deref());
    let read = Manifest::read(&dir).and_then(|manifest| manifest.model_bytes(&dir));
    read.err().map(|error| error.to_string())
}

fn say_faults(faults: &Faults, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        let all: Vec<Value> = faults.faults.iter().map(|f| json!({"key": f.key, "fault": f.fault})).collect();
        say_json(&json!({"file": faults.path, "faults": all}))?;
    } else {
        eprintln!("{faults}");
    }
    Ok(ExitCode::FAILURE)
}
