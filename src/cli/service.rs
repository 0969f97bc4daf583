//! `aerie service`: what the daemon says of itself.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::common::{StationArgs, list, number, say, say_json, table, text};
use super::patrol::{in_path, vehicle_words, waits_words};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  aerie service status\n  aerie service status --config /etc/aerie/station.toml --json"
)]
pub struct ServiceArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Whether the station can do its work, and what to do when it cannot; exit code 1 when it cannot
    #[command(after_help = "Example:\n  aerie service status || echo 'look at the station'")]
    Status {
        #[command(flatten)]
        station: StationArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Keep the station on the ground until `release`; a flight under way goes on
    #[command(after_help = "Example:\n  aerie service hold --reason 'festival on the square'")]
    Hold {
        #[command(flatten)]
        station: StationArgs,
        /// Others will read it
        #[arg(long)]
        reason: String,
    },
    /// Lift the hold
    Release {
        #[command(flatten)]
        station: StationArgs,
    },
    /// Somebody works at the dock: nothing flies until `maintained`
    #[command(after_help = "Example:\n  aerie service maintenance --reason 'new hatch motor'")]
    Maintenance {
        #[command(flatten)]
        station: StationArgs,
        /// Others will read it
        #[arg(long)]
        reason: String,
    },
    /// The work at the dock is done
    Maintained {
        #[command(flatten)]
        station: StationArgs,
    },
}

pub fn run(args: ServiceArgs) -> anyhow::Result<ExitCode> {
    let (station, json) = match args.command {
        Command::Status { station, json } => (station, json),
        Command::Hold { station, reason } => return order(&station, "hold", Some(&reason)),
        Command::Release { station } => return order(&station, "release", None),
        Command::Maintenance { station, reason } => return order(&station, "maintenance", Some(&reason)),
        Command::Maintained { station } => return order(&station, "maintained", None),
    };
    let client = station.client()?;
    let status = client.get("status")?;
    if json {
        say_json(&status)?
    } else {
        say(&(words(&status) + &waiting(&client.get("patrols")?)))?
    }
    Ok(if status["state"] == "ok" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn order(station: &StationArgs, order: &str, reason: Option<&str>) -> anyhow::Result<ExitCode> {
    let why = reason.map(|reason| format!("?reason={}", in_path(reason))).unwrap_or_default();
    let client = station.client()?;
    let holds = client.post(&format!("station/{order}{why}"))?["holds"].take();
    let mut said = false;
    for (what, name) in [("hold", "held"), ("maintenance", "in maintenance")] {
        let hold = &holds[what];
        if !hold.is_null() {
            said = true;
            say(&format!("the station is {name} by {}: {}", text(&hold["by"]), text(&hold["reason"])))?;
        }
    }
    if order == "maintenance"
        && let Some(warning) = out(&client.get("status")?)
    {
        say(&warning)?;
    }
    if !said {
        say("nothing holds the station on the ground")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// That whoever works at the dock is not alone there.
fn out(status: &Value) -> Option<String> {
    let sortie = &status["sortie"];
    let under_way = !sortie.is_null() && sortie["ended_at"].is_null();
    under_way.then(|| {
        format!(
            "CAREFUL: sortie {} is under way ({}): the drone will land in the dock and the hatch will move; keep away until `aerie service status` says that it has ended, or call it back first with `aerie patrol return`",
            text(&sortie["id"]),
            text(&sortie["state"])
        )
    })
}

/// The scheduled patrols that are due and cannot start yet.
fn waiting(patrols: &Value) -> String {
    let waits =
        list(patrols).iter().filter_map(|p| Some(format!("\npatrol    {} {}\n", text(&p["id"]), waits_words(p)?)));
    waits.collect()
}

fn words(s: &Value) -> String {
    let name = match s["name"].as_str() {
        Some("") | None => "station".to_owned(),
        Some(_) => format!("{} ({})", text(&s["name"]), text(&s["station"])),
    };
    let simulated = if s["demo"] == true { ", SIMULATED" } else { "" };
    let mut out = format!("{name}, aerie {}{simulated}: {}\n", text(&s["version"]), text(&s["state"]));
    for problem in list(&s["problems"]) {
        out.push_str(&format!("\nproblem   {}: {}\n", text(&problem["part"]), text(&problem["message"])));
        if !problem["remedy"].is_null() {
            out.push_str(&format!("remedy    {}\n", text(&problem["remedy"])));
        }
    }
    if s["vehicle"].is_null() {
        return out;
    }
    let w = &s["weather"];
    let weather = if w.is_null() {
        "not heard".to_owned()
    } else {
        let (wind, gust) = (number(&w["wind_m_s"], 1, ""), number(&w["gust_m_s"], 1, " m/s"));
        let rain = number(&w["rain_mm_h"], 1, " mm/h");
        format!(
            "wind {wind}, gusts {gust}, rain {rain}, {}, {} ago",
            number(&w["temperature_c"], 0, " °C"),
            number(&w["age_s"], 0, " s")
        )
    };
    let p = &s["perception"];
    let model = match &p["model"] {
        Value::Null => "no model".to_owned(),
        model => format!("{} {}", text(&model["name"]), text(&model["version"])),
    };
    let on = match &p["execution_provider"] {
        Value::Null => String::new(),
        chosen => {
            let refused = list(&chosen["refused"]).iter();
            let refused: Vec<_> =
                refused.map(|r| format!("{}: {}", text(&r["provider"]), text(&r["reason"]))).collect();
            let instead = if refused.is_empty() { String::new() } else { format!(" (not on {})", refused.join("; ")) };
            format!(" on {}{instead}", text(&chosen["provider"]))
        }
    };
    let running = if p["running"] == true { "running" } else { "down" };
    let u = &s["uplink"];
    let connected = if u["connected"] == true { "connected" } else { "not connected" };
    let unheard = match u["unheard"].as_u64() {
        None | Some(0) => String::new(),
        Some(n) => format!(", {n} of them to no subscriber, see `aerie outbox check`"),
    };
    let sortie = match &s["sortie"] {
        Value::Null => "none yet".to_owned(),
        sortie => format!("{} of {}, {}", text(&sortie["id"]), text(&sortie["patrol"]), text(&sortie["state"])),
    };
    let rows = [
        ("vehicle", vehicle_words(&s["vehicle"])),
        ("dock", text(&s["dock"]["state"])),
        ("weather", weather),
        (
            "seeing",
            format!(
                "{running}, {model}{on}, {} pictures, {} waiting, {} restarts",
                text(&p["frames"]),
                text(&p["behind"]),
                text(&p["restarts"])
            ),
        ),
        (
            "uplink",
            format!(
                "{connected}, {} queued, {} delivered since its start{unheard}",
                text(&u["queued"]),
                text(&u["delivered"])
            ),
        ),
        ("sortie", sortie),
    ];
    out.push('\n');
    for (key, value) in rows {
        out.push_str(&format!("{key:<9} {value}\n"));
    }
    let gates = list(&s["gates"]);
    let closed: Vec<Vec<String>> = gates
        .iter()
        .filter(|gate| gate["passed"] != true)
        .map(|gate| {
            let verdict = if gate["passed"].is_null() { "unknown" } else { "closed" };
            vec![text(&gate["gate"]), verdict.to_owned(), text(&gate["reason"])]
        })
        .collect();
    if closed.is_empty() {
        out.push_str(&format!("gates     all {} open\n", gates.len()));
    } else {
        out.push_str(&format!("gates     {} of {} not open\n\n", closed.len(), gates.len()));
        out.push_str(&table(&["GATE", "VERDICT", "WHY"], &closed));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_patrol_that_waits_and_a_drone_that_is_out_are_said() {
        let patrols = json!([
            {"id": "north", "timezone": "Asia/Shanghai", "waits": {"until": "2026-11-24T01:21:00Z", "why": "wind: 12 m/s"}},
            {"id": "south", "timezone": "Asia/Shanghai", "next_at": "2026-11-24T01:21:00Z", "waits": null},
        ]);
        assert_eq!(waiting(&patrols), "\npatrol    north waits until 2026-11-24 09:21:00+08:00: wind: 12 m/s\n");
        let with = |sortie: Value| json!({"sortie": sortie});
        let warning = out(&with(json!({"id": "s1", "state": "flying", "ended_at": null}))).unwrap();
        assert!(warning.contains("s1") && warning.contains("hatch"), "{warning}");
        assert_eq!(out(&with(json!({"id": "s1", "state": "done", "ended_at": "2026-11-24T01:21:00Z"}))), None);
        assert_eq!(out(&with(Value::Null)), None);
    }

    #[test]
    fn problems_and_closed_gates_are_said_and_open_ones_only_counted() {
        let status = json!({
            "station": "danzao-01", "name": "丹灶", "version": "0.1.0", "state": "degraded", "demo": false,
            "problems": [{"part": "uplink", "message": "not connected", "remedy": "check the network"}],
            "vehicle": {"linked": false}, "dock": {"state": "closed"}, "weather": null, "sortie": null,
            "perception": {"running": true, "model": null, "frames": 0, "behind": 0, "restarts": 0},
            "uplink": {"connected": false, "queued": 3, "delivered": 9, "unheard": 4},
            "gates": [
                {"gate": "wind", "passed": false, "reason": "12 m/s"},
                {"gate": "battery", "passed": null, "reason": "not heard"},
                {"gate": "dock", "passed": true, "reason": "the dock answers"},
            ],
        });
        let words = words(&status);
        for wanted in [
            "degraded",
            "uplink: not connected",
            "check the network",
            "vehicle   not heard",
            "2 of 3 not open",
            "wind",
            "unknown",
            "9 delivered since its start, 4 of them to no subscriber",
        ] {
            assert!(words.contains(wanted), "{wanted} is missing in:\n{words}");
        }
        assert!(!words.contains("the dock answers"), "{words}");
    }
}
