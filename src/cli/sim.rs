//! `aerie sim`: a simulated station's hardware and broker, for running `aerie run` against by hand.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Subcommand;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::common::{say, say_json};
use crate::sim::campaign::{self, Flown};
use crate::sim::{broker, site};

#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  aerie sim --out sim --wind 15 &\n  aerie run --config sim/config.toml\n  aerie sim --out sim --vehicle tcpout:127.0.0.1:5760\n\nThe weather can be changed while it runs, at the weather address in sim/config.toml:\n  curl -H 'content-type: application/json' -d '{\"wind_m_s\": 15}' http://127.0.0.1:PORT/weather\nThe drone's fault switches are beside it: GET /drone lists them, POST /drone {\"gps_lost\": true} throws one;\nPOST /dock {\"jammed\": true} makes the hatch stick.\nA drone that landed elsewhere stays there. To put it back, end station and simulation with Ctrl-C, and start both again: it then stands in its dock.\nOf an autopilot's switches mute, deaf, voiceless, camera_stalled and remote_id are in the simulation's hands."
)]
pub struct SimArgs {
    #[command(subcommand)]
    command: Option<SimCommand>,
    /// Folder for the configuration, the pictures and the broker's state
    #[arg(long, default_value = "sim-out", value_name = "DIR")]
    out: PathBuf,
    /// Which town
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Simulated seconds a second [default: 4; an autopilot of --vehicle has its own time]
    #[arg(long, value_name = "X")]
    speed: Option<f64>,
    /// Fly this autopilot in software-in-the-loop instead of the simulated drone: tcpout:127.0.0.1:5760,
    /// udpin:127.0.0.1:14550. The town is laid around the place where it stands
    #[arg(long, value_name = "URL")]
    vehicle: Option<String>,
    /// Use the model in this directory instead of the one that comes with aerie
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Hold the wind at this speed, metres per second
    #[arg(long, value_name = "M_S")]
    wind: Option<f64>,
    /// Use this broker instead of an own mosquitto
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
}

#[derive(Subcommand)]
enum SimCommand {
    /// Fly many short sorties of real stations with faults drawn at random, and count what was unsafe
    #[command(
        after_help = "Examples:\n  aerie sim campaign --sorties 100 --seed 1 --out campaign\n  aerie sim campaign --sorties 100 --seed 1 --only 17 --out again\n\nIt is judged by what the simulator saw. DIR gets campaign.md, campaign.json and a folder for each sortie.\nThe exit code is 0 when nothing was unsafe and every sortie was flown."
    )]
    Campaign(CampaignArgs),
}

#[derive(clap::Args)]
struct CampaignArgs {
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    sorties: u32,
    /// Which faults
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Stations at the same time; they mostly wait
    #[arg(long, default_value_t = 8, value_name = "N")]
    parallel: usize,
    /// Simulated seconds a second, 0.5 to 20; the station's timers stay real, so that the faster, the less it can react
    #[arg(long, default_value_t = 4.0, value_name = "X")]
    speed: f64,
    /// Fly this sortie of the campaign alone
    #[arg(long, value_name = "N")]
    only: Option<u32>,
    /// Folder for the table and the logs
    #[arg(long, default_value = "campaign-out", value_name = "DIR")]
    out: PathBuf,
    /// Use the model in this directory instead of the one that comes with aerie
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn fly_campaign(args: CampaignArgs) -> anyhow::Result<ExitCode> {
    super::demo::check_speed(args.speed)?;
    ensure!((1..=64).contains(&args.parallel), "--parallel {}: must lie between 1 and 64", args.parallel);
    let options = campaign::Options {
        program: std::env::current_exe()?,
        out: args.out.clone(),
        sorties: args.sorties,
        seed: args.seed,
        speed: args.speed,
        parallel: args.parallel,
        only: args.only,
        model: args.model.as_deref().map(std::path::absolute).transpose()?,
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let flown = runtime.block_on(async {
        tokio::select! {
            flown = campaign::fly(options, |sortie| eprintln!("{}", sortie_line(sortie))) => flown.map(Some),
            _ = super::demo::interrupted() => Ok(None),
        }
    })?;
    let Some(flown) = flown else { anyhow::bail!("interrupted") };
    let (table, data) = (flown.markdown(), json!(flown));
    for (name, text) in [("campaign.md", table.clone()), ("campaign.json", serde_json::to_string_pretty(&data)?)] {
        let path = args.out.join(name);
        std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    if args.json {
        say_json(&data)?;
    } else {
        say(&table)?;
    }
    let fine = flown.unsafe_count() == 0 && flown.failed.is_empty();
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn sortie_line(sortie: &Flown) -> String {
    let faults: Vec<_> = sortie.faults.iter().map(|t| t.words.as_str()).collect();
    let unsafe_: Vec<_> = sortie.verdict.faults.iter().map(|f| f.why.as_str()).collect();
    let unsafe_ = if unsafe_.is_empty() { String::new() } else { format!("  UNSAFE: {}", unsafe_.join("; ")) };
    format!("{:>4}  {:<16} {}{unsafe_}", sortie.number, sortie.verdict.outcome.words(), faults.join("; "))
}

pub fn run(args: SimArgs) -> anyhow::Result<ExitCode> {
    if let Some(SimCommand::Campaign(args)) = args.command {
        return fly_campaign(args);
    }
    let speed = super::demo::speed_of(args.speed, args.vehicle.as_deref())?;
    let runtime = tokio::runtime::Runtime::new()?;
    std::fs::create_dir_all(&args.out)?;
    let (broker_url, _broker) = match args.broker {
        Some(url) => (url, None),
        None => {
            let port = site::free_tcp_port(0)?;
            (format!("mqtt://127.0.0.1:{port}"), Some(broker::mosquitto(&args.out, port)?))
        }
    };
    let options = site::Options {
        out: args.out,
        vehicle: args.vehicle,
        seed: args.seed,
        speed,
        wind_m_s: args.wind,
        broker_url,
        model: args.model.as_deref().map(std::path::absolute).transpose()?,
        console: ([127, 0, 0, 1], site::free_tcp_port(8480)?).into(),
    };
    let cancel = CancellationToken::new();
    let site = runtime.block_on(async {
        tokio::select! {
            site = site::start(&options, cancel.clone()) => Ok(site?),
            _ = super::demo::interrupted() => anyhow::bail!("interrupted"),
        }
    })?;
    println!("The simulated hardware runs. Start the station beside it:");
    println!("  aerie run --config {}", site.config.display());
    println!(
        "Page: http://{}/   Broker: {}   Dock and weather: {}",
        options.console,
        options.broker_url,
        site.hardware.url()
    );
    println!("Ctrl-C ends it.");
    runtime.block_on(super::demo::interrupted())?;
    cancel.cancel();
    Ok(ExitCode::SUCCESS)
}
