//! `aerie case`: what the station has found.

use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use serde_json::Value;

use super::common::{StationArgs, list, moment, number, say, say_json, table, text};
use super::patrol::in_path;

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  aerie case list\n  aerie case show 01JD…\n  aerie case export > cases.geojson")]
pub struct CaseArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the cases, newest first
    #[command(after_help = "Example:\n  aerie case list --kind garbage")]
    List {
        #[command(flatten)]
        station: StationArgs,
        /// Of this kind alone, for example blue_roof
        #[arg(long, value_name = "KIND")]
        kind: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one case
    #[command(after_help = "Example:\n  aerie case show 01JD0000000000000000000000 --json")]
    Show {
        /// The case's id
        id: String,
        #[command(flatten)]
        station: StationArgs,
        /// Print JSON: the case as a GeoJSON Feature
        #[arg(long)]
        json: bool,
    },
    /// Say as a person what a case is; it goes upstream with your name and reason
    #[command(
        after_help = "Example:\n  aerie case verdict 01JD0000000000000000000000 rejected --reason 'permitted, seen on site'"
    )]
    Verdict {
        /// The case's id
        id: String,
        /// confirmed, rejected, resolved or suspected
        verdict: String,
        /// Others will read it
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        station: StationArgs,
    },
    /// Print all cases as GeoJSON
    #[command(after_help = "Example:\n  aerie case export > cases.geojson")]
    Export {
        #[command(flatten)]
        station: StationArgs,
        /// GeoJSON is JSON: accepted, and changes nothing
        #[arg(long)]
        json: bool,
    },
}

pub fn run(args: CaseArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List { station, kind, json } => {
            let mut cases = station.client()?.get("cases")?;
            if let (Some(kind), Some(features)) = (&kind, cases["features"].as_array_mut()) {
                features.retain(|case| case["properties"]["kind"] == kind.as_str());
            }
            let features = list(&cases["features"]);
            match (json, features.is_empty()) {
                (true, _) => say_json(&cases["features"])?,
                (false, true) => say("no cases")?,
                (false, false) => say(&case_table(features))?,
            }
        }
        Command::Show { id, station, json } => {
            let cases = station.client()?.get("cases")?;
            let Some(case) = list(&cases["features"]).iter().find(|case| case["properties"]["id"] == id.as_str())
            else {
                bail!("there is no case {id:?}; `aerie case list` lists them");
            };
            if json { say_json(case)? } else { say(&case_words(case))? }
        }
        Command::Verdict { id, verdict, reason, station } => {
            let path =
                format!("cases/{}/verdict?verdict={}&reason={}", in_path(&id), in_path(&verdict), in_path(&reason));
            let answer = station.client()?.post(&path)?;
            say(&format!("{verdict}: told upstream as event {}", text(&answer["event"])))?;
        }
        Command::Export { station, json: _ } => say_json(&station.client()?.get("cases")?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn case_table(features: &[Value]) -> String {
    let rows: Vec<Vec<String>> = features
        .iter()
        .map(|case| {
            let p = &case["properties"];
            let told = if p["delivered"] == true { "delivered" } else { "queued" };
            vec![
                text(&p["id"]),
                text(&p["kind"]),
                text(&p["state"]),
                number(&p["confidence"], 2, ""),
                number(&case["geometry"]["coordinates"][1], 6, ""),
                number(&case["geometry"]["coordinates"][0], 6, ""),
                number(&p["uncertainty"]["semi_major_m"], 1, " m"),
                text(&p["count"]),
                moment(&p["last_seen"]),
                told.to_owned(),
            ]
        })
        .collect();
    table(&["ID", "KIND", "STATE", "SCORE", "LAT", "LON", "95 %", "SEEN", "LAST", "UPSTREAM"], &rows)
}

fn case_words(case: &Value) -> String {
    let p = &case["properties"];
    let u = &p["uncertainty"];
    let place = |name: &str| {
        let at = &p["position"][name];
        format!("{}, {}", number(&at["lat"], 7, ""), number(&at["lon"], 7, ""))
    };
    let evidence: Vec<String> = list(&p["evidence"]).iter().map(text).collect();
    let mut rows = vec![
        ("case", text(&p["id"])),
        ("kind", format!("{} {}", text(&p["kind"]), text(&p["kind_zh"]))),
        ("code", format!("{} ({})", text(&p["code"]), text(&p["code_system"]))),
        ("department", text(&p["department"])),
        ("state", text(&p["state"])),
        ("confidence", number(&p["confidence"], 3, "")),
        ("WGS 84", place("wgs84")),
        ("CGCS2000", place("cgcs2000")),
        ("GCJ-02", format!("{} (for maps in China alone)", place("gcj02"))),
        (
            "95 % lies in",
            format!(
                "{} by {}, long axis at {}",
                number(&u["semi_major_m"], 1, " m"),
                number(&u["semi_minor_m"], 1, " m"),
                number(&u["bearing_deg"], 0, "°")
            ),
        ),
        ("first seen", moment(&p["first_seen"])),
        ("last seen", moment(&p["last_seen"])),
        ("sorties", format!("{}, the last {}", text(&p["count"]), text(&p["sortie"]))),
        ("model", format!("{} {}", text(&p["model"]["name"]), text(&p["model"]["version"]))),
        ("upstream", if p["delivered"] == true { "delivered".to_owned() } else { "queued".to_owned() }),
        ("evidence", evidence.join(" ")),
    ];
    if p["experimental"] == true {
        rows.push(("note", "experimental: the model knows this kind from generated pictures alone".to_owned()));
    }
    rows.iter().map(|(key, value)| format!("{key:<13} {value}\n")).collect()
}
