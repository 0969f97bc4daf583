//! The command line: one file a command. Exit codes: 0 done, 1 failed, 2 used wrongly.

mod backup;
mod case;
mod command;
mod common;
mod config;
mod demo;
mod detect;
mod doctor;
mod fleet;
pub mod inspect;
pub mod locate;
mod model;
mod model_evaluate;
mod model_publish;
mod model_station;
mod outbox;
mod package;
mod patrol;
mod perceive;
mod prove;
mod run;
mod service;
mod setup;
mod sim;
mod soak;
mod tuf_conformance;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Of the station that a computer is, as the package and `aerie setup` have it.
const CONFIG: &str = "/etc/aerie/station.toml";

/// Runs a drone base station: patrols over MAVLink, detection, positions, cases over MQTT.
#[derive(Parser)]
#[command(name = "aerie", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the station's daemon
    Run(run::RunArgs),
    /// Show the whole job on a simulated station on this machine
    Demo(demo::DemoArgs),
    /// Run a simulated station's hardware and broker alone
    Sim(sim::SimArgs),
    /// Look for things in drone photos: GeoJSON, evidence pictures, a report
    Inspect(inspect::InspectArgs),
    /// Say where on the ground a pixel lies, and how surely
    Locate(locate::LocateArgs),
    /// Boxes in pictures, in pixels
    Detect(detect::DetectArgs),
    /// Models: your own, described and measured; a station's signed releases; their publisher's side
    Model(model::ModelArgs),
    /// Check a configuration, print its schema or an example
    Config(config::ConfigArgs),
    /// List, start, cancel and watch patrols
    Patrol(patrol::PatrolArgs),
    /// List, show and export cases
    Case(case::CaseArgs),
    /// Look into the queue of what has to reach upstream
    Outbox(outbox::OutboxArgs),
    /// Make keys and sign commands for MQTT
    #[command(name = "command")]
    Signed(command::CommandArgs),
    /// Simulate many stations against a broker, for sizing what is upstream
    Fleet(fleet::FleetArgs),
    /// What the station says of itself
    Service(service::ServiceArgs),
    /// Ask the questions of a new station and write its configuration
    Setup(setup::SetupArgs),
    /// Look at every part of a station: ok, warn or fail, with the remedy
    Doctor(doctor::DoctorArgs),
    /// Pack what the makers need to help, without secrets
    SupportBundle(doctor::BundleArgs),
    /// Pack a station's memory, configuration and keys
    Backup(backup::BackupArgs),
    /// Put a backup back
    Restore(backup::RestoreArgs),
    /// Forget all cases, sorties and commands
    Reset(backup::ResetArgs),
    /// Man pages and completions; not for people
    #[command(hide = true)]
    PackageFiles(package::PackageArgs),
    /// Break delivery on purpose and measure it; for `make soak` and the tests
    #[command(hide = true)]
    Soak(soak::SoakArgs),
    /// The station's perception child; not for people
    #[command(hide = true)]
    Perceive(perceive::PerceiveArgs),
    /// The probe's child; not for people
    #[command(hide = true)]
    Prove(prove::ProveArgs),
    /// The client of the tuf-conformance suite; not for people
    #[command(hide = true)]
    TufConformance(tuf_conformance::ConformanceArgs),
}

pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log(cli.command.log_level());
    let done = match cli.command {
        Command::Run(args) => run::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Sim(args) => sim::run(args),
        Command::Inspect(args) => {
            args.settle_allocator();
            inspect::run(args)
        }
        Command::Locate(args) => locate::run(args),
        Command::Detect(args) => detect::run(args),
        Command::Model(args) => model::run(args),
        Command::Config(args) => config::run(args),
        Command::Patrol(args) => patrol::run(args),
        Command::Case(args) => case::run(args),
        Command::Outbox(args) => outbox::run(args),
        Command::Signed(args) => command::run(args),
        Command::Fleet(args) => fleet::run(args),
        Command::Soak(args) => soak::run(args),
        Command::Service(args) => service::run(args),
        Command::Setup(args) => setup::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::SupportBundle(args) => doctor::bundle(args),
        Command::Backup(args) => backup::backup(args),
        Command::Restore(args) => backup::restore(args),
        Command::Reset(args) => backup::reset(args),
        Command::PackageFiles(args) => package::run(args, Cli::command()),
        Command::Perceive(args) => perceive::run(args),
        Command::Prove(args) => prove::run(args),
        Command::TufConformance(args) => tuf_conformance::run(args),
    };
    end(done)
}

/// `aerie run` as a program of its own, which calls nothing of OpenCV and so is linked without it.
#[derive(Parser)]
#[command(name = "aerie-station", version, about = "The station's daemon alone: as `aerie run`, without OpenCV")]
struct StationCli {
    #[command(flatten)]
    args: run::RunArgs,
}

pub fn station_main() -> ExitCode {
    let cli = StationCli::parse();
    log("info");
    end(run::run(cli.args))
}

fn log(level: &str) {
    let filter = EnvFilter::try_from_env("AERIE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

fn end(done: anyhow::Result<ExitCode>) -> ExitCode {
    match done {
        Ok(code) => code,
        // The reader of our output went away, as `head` does: that is no fault.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aerie: {}", common::told(&error));
            ExitCode::FAILURE
        }
    }
}

impl Command {
    fn log_level(&self) -> &'static str {
        match self {
            Command::Run(_) => "info",
            // What they find is in their answer; what the parts log while they are tried would read as more of it.
            Command::Doctor(_) | Command::SupportBundle(_) => "off",
            _ => "warn",
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}
