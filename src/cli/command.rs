//! `aerie command`: keys, and signed commands for MQTT.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Subcommand;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::common::{say, say_json};
use crate::config::is_station_id;
use crate::orders::COMMANDS;
use crate::orders::args::check;
use crate::uplink::commands::{self, Envelope, check_id, check_operator};

/// The door takes no command that is good for longer.
const LONGEST_S: u64 = 24 * 3600;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  aerie command keygen --out duty-officer.key\n  aerie command sign --key duty-officer.key --kid duty-officer --station danzao-01 \\\n      --name patrol.start --args '{\"patrol\": \"north\"}' > token\n  mosquitto_pub -V mqttv5 -q 1 -t aerie/v1/danzao-01/command/patrol.start -f token\n  aerie command sign --key officer.key --kid officer --station danzao-01 --name verdict \\\n      --args '{\"case\": \"01J…\", \"verdict\": \"rejected\", \"reason\": \"permitted, seen on site\"}'"
)]
pub struct CommandArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key; prints the public half for the station's configuration
    #[command(after_help = "Example:\n  aerie command keygen --out duty-officer.key")]
    Keygen {
        /// Where the private key goes; a file that is there is left alone
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Sign a command; prints the token to publish
    #[command(
        after_help = "Example:\n  aerie command sign --key duty-officer.key --kid duty-officer --station danzao-01 --name patrol.cancel --args '{}'"
    )]
    Sign {
        /// The private key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// How the station's configuration calls the key
        #[arg(long)]
        kid: String,
        /// The one station that may act on it
        #[arg(long, value_name = "ID")]
        station: String,
        /// For example patrol.start
        #[arg(long)]
        name: String,
        /// The command's arguments
        #[arg(long, value_name = "JSON", default_value = "{}")]
        args: String,
        /// Good for so long
        #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=LONGEST_S))]
        deadline_s: u64,
        /// The same id again is the same command; a fresh one when left out
        #[arg(long)]
        id: Option<String>,
        /// Who gives it, for the journal
        #[arg(long, value_name = "NAME", env = "USER", default_value = "cli", hide_env_values = true)]
        operator: String,
        /// Print JSON: the token, its id and the topic
        #[arg(long)]
        json: bool,
    },
}

pub fn run(args: CommandArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Keygen { out, json } => {
            // Whoever has lost a key by a repeated command would have to visit every station.
            ensure!(!out.exists(), "{} is there already; choose another name or remove it first", out.display());
            let key = commands::generate_key();
            commands::write_key(&out, &key)?;
            let public = commands::public_key_text(&key);
            if json {
                say_json(&json!({"private_key_file": out, "public_key": public}))?;
            } else {
                say(&format!(
                    "{} holds the private key: keep it to yourself. In the station's configuration:\n\n[[commands.keys]]\nkid = {:?}\npublic_key = {public:?}\nroles = [\"operator\"]   # or observer, officer, engineer, several of them; single rights: may = [\"model.rollback\"]\n",
                    out.display(),
                    out.file_stem().unwrap_or_default().to_string_lossy(),
                ))?;
            }
        }
        Command::Sign { key, kid, station, name, args, deadline_s, id, operator, json } => {
            // As the station will read them: better to learn it here.
            ensure!(is_station_id(&station), "--station {station:?}: an id is 1 to 40 letters, digits or hyphens");
            ensure!(!kid.is_empty(), "--kid: the name of the key in the station's configuration is wanted");
            let id = id.unwrap_or_else(|| ulid::Ulid::generate().to_string());
            check_id(&id).map_err(|fault| anyhow::anyhow!("--id {id:?}: {fault}"))?;
            check_operator(&operator).map_err(|fault| anyhow::anyhow!("--operator {operator:?}: {fault}"))?;
            let key = commands::read_key(&key)?;
            let args: Value = serde_json::from_str(&args).with_context(|| format!("--args {args:?} is not JSON"))?;
            ensure!(args.is_object(), "--args {args}: a JSON object is wanted, as '{{\"patrol\": \"north\"}}'");
            ensure!(
                COMMANDS.contains(&name.as_str()),
                "--name {name:?}: no station knows it; there are {}",
                COMMANDS.join(", ")
            );
            let issued_at = Timestamp::now();
            check(&name, &args, issued_at).map_err(|fault| anyhow::anyhow!("--args: {fault}"))?;
            let seconds = i64::try_from(deadline_s).unwrap_or(i64::MAX);
            let envelope = Envelope {
                id,
                station,
                name,
                args,
                issued_at,
                deadline: issued_at.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(issued_at),
                operator,
            };
            let token = commands::sign(&envelope, &key, &kid);
            if json {
                let below = match envelope.name.as_str() {
                    name @ ("verdict" | "request") => name.to_owned(),
                    name => format!("command/{name}"),
                };
                let topic = format!("{}{below}", crate::uplink::prefix(&envelope.station));
                say_json(&json!({"id": envelope.id, "topic": topic, "deadline": envelope.deadline, "token": token}))?;
            } else {
                say(&token)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
