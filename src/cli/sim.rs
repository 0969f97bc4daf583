//! `aerie sim`: a simulated station's hardware and broker, for running `aerie run` against by hand.

use std::path::PathBuf;
use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use crate::sim::{broker, site};

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  aerie sim --out sim --wind 15 &\n  aerie run --config sim/config.toml\n\nThe weather can be changed while it runs: POST {\"wind_m_s\": 15} to the weather address in sim/config.toml."
)]
pub struct SimArgs {
    /// Folder for the configuration, the pictures and the broker's state
    #[arg(long, default_value = "sim-out", value_name = "DIR")]
    out: PathBuf,
    /// Which town
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Simulated seconds a second
    #[arg(long, default_value_t = 4.0)]
    speed: f64,
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

pub fn run(args: SimArgs) -> anyhow::Result<ExitCode> {
    super::demo::check_speed(args.speed)?;
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
        seed: args.seed,
        speed: args.speed,
        wind_m_s: args.wind,
        broker_url,
        model: args.model.as_deref().map(std::path::absolute).transpose()?,
        console: ([127, 0, 0, 1], site::free_tcp_port(8480)?).into(),
    };
    let cancel = CancellationToken::new();
    let site = runtime.block_on(site::start(&options, cancel.clone()))?;
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
