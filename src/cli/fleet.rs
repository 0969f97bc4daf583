//! `aerie fleet`: many light stations against a broker.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Subcommand;

use super::common::{say, say_json};
use crate::sim::fleet::{self, Day, FleetOptions, FleetReport};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  aerie fleet simulate --stations 100\n  aerie fleet simulate --stations 1000 --speed 30 --seconds 60 --json\n  aerie fleet simulate --stations 200 --broker mqtt://10.0.0.5:1883\n\nAt a broker of yours it publishes under aerie/v1/fleet-*/ and takes its retained states away at the end."
)]
pub struct FleetArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run N light stations (real outbox and uplink, generated cases) and say what arrived, how late and at what cost
    #[command(after_help = "Example:\n  aerie fleet simulate --stations 1000 --speed 30 --seconds 60")]
    Simulate(SimulateArgs),
}

#[derive(clap::Args)]
struct SimulateArgs {
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    stations: u32,
    /// Use this broker instead of an own mosquitto
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// Folder for the stations' queues and the broker's files; a former run's are removed before
    #[arg(long, default_value = "fleet-out", value_name = "DIR")]
    out: PathBuf,
    /// Simulated seconds a second
    #[arg(long, default_value_t = 30.0, value_name = "X")]
    speed: f64,
    /// How long
    #[arg(long, default_value_t = 60, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// A station's sorties a day
    #[arg(long, default_value_t = 8.0, value_name = "N")]
    sorties: f64,
    /// A station's cases a day
    #[arg(long, default_value_t = 20.0, value_name = "N")]
    cases: f64,
    /// Size of an evidence picture
    #[arg(long, default_value_t = 250, value_name = "KB")]
    picture_kb: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: FleetArgs) -> anyhow::Result<ExitCode> {
    let Command::Simulate(args) = args.command;
    ensure!(args.speed > 0.0 && args.speed.is_finite(), "--speed {}: a number above 0 is wanted", args.speed);
    let runtime = tokio::runtime::Runtime::new()?;
    let report = runtime.block_on(simulate(&args))?;
    if args.json {
        say_json(&serde_json::to_value(&report)?)?
    } else {
        say(&words(&report))?
    }
    ensure!(
        report.accepted > 0,
        "no station accepted a record, so nothing was measured: more --seconds, --speed or --cases"
    );
    Ok(if report.delivered == report.accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn simulate(args: &SimulateArgs) -> anyhow::Result<FleetReport> {
    let own = args.out.join("stations");
    if own.exists() {
        std::fs::remove_dir_all(&own).with_context(|| format!("--out: {} cannot be emptied", own.display()))?;
    }
    std::fs::create_dir_all(&own).with_context(|| format!("--out: {} cannot be made", own.display()))?;
    // Before the broker is started: it inherits the limit.
    fleet::allow_many_files();
    let (_broker, host, port) = match &args.broker {
        Some(url) => {
            let (host, port) = address(url).with_context(|| format!("--broker {url:?}: write mqtt://HOST:PORT"))?;
            (None, host, port)
        }
        None => {
            let (broker, port) = crate::sim::soak::broker(&args.out)?;
            (Some(broker), "127.0.0.1".to_owned(), port)
        }
    };
    let day = Day {
        sorties: args.sorties,
        sortie_events: 9.0,
        cases: args.cases,
        case_events: 3.0,
        picture_bytes: args.picture_kb * 1000,
    };
    let options = FleetOptions {
        stations: args.stations,
        host,
        port,
        state_dir: own,
        day,
        speed: args.speed,
        lasts: Duration::from_secs(args.seconds),
        seed: args.seed,
    };
    Ok(fleet::simulate(options).await?)
}

fn address(url: &str) -> Option<(String, u16)> {
    let rest = url.strip_prefix("mqtt://")?.trim_end_matches('/');
    let (host, port) = rest.split_once(':').unwrap_or((rest, "1883"));
    Some((host.to_owned(), port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
}

fn words(r: &FleetReport) -> String {
    let rows = [
        (
            "stations",
            format!(
                "{} ({} connected), {:.2} simulated hours in {:.0} s",
                r.stations, r.connected, r.simulated_hours, r.seconds
            ),
        ),
        ("records", format!("{} accepted, {} arrived ({:.4} %)", r.accepted, r.delivered, r.delivered_share * 100.0)),
        (
            "latency",
            format!("p50 {:.0} ms, p99 {:.0} ms, from the event to the subscriber", r.latency_p50_ms, r.latency_p99_ms),
        ),
        (
            "beside it",
            match (r.bare_p50_ms, r.bare_p99_ms) {
                (Some(p50), Some(p99)) => format!("p50 {p50:.0} ms, p99 {p99:.0} ms, of a bare client's events"),
                _ => "no event of a bare client arrived".to_owned(),
            },
        ),
        (
            "a station",
            format!("{:.3} % of a core, {:.2} MB of memory", r.cpu_share_a_station * 100.0, r.memory_mb_a_station),
        ),
        (
            "a day",
            format!(
                "{:.2} MB of events, {:.1} MB of pictures; {:.1} MB of telemetry while a drone is linked",
                r.event_mb_a_day, r.picture_mb_a_day, r.telemetry_mb_a_day
            ),
        ),
    ];
    rows.iter().map(|(key, value)| format!("{key:<10} {value}\n")).collect()
}
