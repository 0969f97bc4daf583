//! `aerie model publish`: the publisher's side. Makes a plain folder that any web server serves; see docs/updates.md.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use jiff::Timestamp;

use super::common::say;
use crate::cases::kinds::no_case_of;
use crate::perception::Manifest;
use crate::perception::provider::Provider;
use crate::update::probe;
use crate::update::publish::{Days, Done, Keys, Workshop};
use crate::update::release::{Demands, Kind};

#[derive(clap::Args)]
#[command(after_help = "From an exported ONNX to the stations, in five commands:
  aerie model describe best.onnx --out town --name town --model-version 1.3 --gsd-m 0.03 --licence Apache-2.0 --classes classes.txt
  aerie model publish init --repo site --keys keys --group roofs --root 2/3 --targets 1/2      (once)
  aerie model publish add town --golden golden --repo site --keys keys
  aerie model publish sign --repo site --keys keys
  aerie model publish stage roofs town-1.3 --percent 10 --repo site --keys keys
--classes only where the export does not name its own. Golden pictures: docs/updates.md.
Serve the folder site/ with a web server that answers ranges (nginx, Apache, Caddy, an object store; python -m http.server does not); give its metadata/1.root.json to the stations by a way you trust.")]
pub struct PublishArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args)]
struct At {
    /// The repository's folder
    #[arg(long, value_name = "DIR")]
    repo: PathBuf,
    /// Directory of the keys at hand
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// Days that a root holds
    #[arg(long, default_value_t = Days::default().root, value_parser = days())]
    root_days: u32,
    /// Days that lists of releases and assignments hold
    #[arg(long, default_value_t = Days::default().targets, value_parser = days())]
    targets_days: u32,
    /// Days that a snapshot holds
    #[arg(long, default_value_t = Days::default().snapshot, value_parser = days())]
    snapshot_days: u32,
    /// Days that a timestamp holds: so long may a station be shown an old state without noticing
    #[arg(long, default_value_t = Days::default().timestamp, value_parser = days())]
    timestamp_days: u32,
}

/// With none at all it would be expired as it is published.
fn days() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

impl At {
    fn days(&self) -> Days {
        Days {
            root: self.root_days,
            targets: self.targets_days,
            snapshot: self.snapshot_days,
            timestamp: self.timestamp_days,
        }
    }

    fn open(&self) -> anyhow::Result<Workshop> {
        Ok(Workshop::open(&self.repo, &self.keys, self.days(), Timestamp::now())?)
    }
}

#[derive(Subcommand)]
enum Command {
    /// Make a repository and the keys of all its roles
    Init {
        #[command(flatten)]
        at: At,
        /// How many keys the root has and how many must sign: 2/3 is two of three
        #[arg(long, value_name = "M/N", default_value = "2/3", value_parser = share)]
        root: Keys,
        /// The same of the releases
        #[arg(long, value_name = "M/N", default_value = "1/2", value_parser = share)]
        targets: Keys,
        /// A group of stations; may be said several times
        #[arg(long, value_name = "NAME", default_value = "all")]
        group: Vec<String>,
    },
    /// Make a release of a directory; it waits for its signatures
    Add {
        /// Directory of a model, of cases.toml (rules) or of register.geojson (register)
        #[arg(value_name = "DIR")]
        from: PathBuf,
        #[arg(long, default_value = "model")]
        kind: Kind,
        /// Golden pictures with expected.json [default: golden/ beside the model]
        #[arg(long, value_name = "DIR")]
        golden: Option<PathBuf>,
        /// Publish without looking at the golden pictures first, as where this computer is too small for the model
        #[arg(long)]
        unproven: bool,
        /// Of the golden boxes, so many must be found
        #[arg(long, value_name = "SHARE", default_value_t = Demands::default().recall)]
        recall: f64,
        /// Of the boxes found in golden pictures, so many must be right
        #[arg(long, value_name = "SHARE", default_value_t = Demands::default().precision)]
        precision: f64,
        #[command(flatten)]
        at: At,
    },
    /// Sign what waits, with the keys at hand; nothing to do is no failure
    Sign {
        #[command(flatten)]
        at: At,
    },
    /// Say which release a group of stations runs
    Stage {
        group: String,
        /// NAME-VERSION, as `add` printed it
        release: String,
        /// So many of its stations
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(0..=100))]
        percent: u8,
        #[arg(long, default_value = "model")]
        kind: Kind,
        #[command(flatten)]
        at: At,
    },
    /// Stop a roll-out
    Halt {
        group: String,
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// No station may run this release any more, whether it has committed it or not
        #[arg(long, value_name = "RELEASE")]
        withdraw: Option<String>,
        #[arg(long, default_value = "model")]
        kind: Kind,
        #[command(flatten)]
        at: At,
    },
    /// Sign snapshot and timestamp anew; let a timer do it daily
    Renew {
        #[command(flatten)]
        at: At,
    },
    /// Give a role new keys: root, targets, snapshot, timestamp or group-NAME
    Rekey {
        role: String,
        #[command(flatten)]
        at: At,
    },
    /// Add a group of stations
    Group {
        name: String,
        #[command(flatten)]
        at: At,
    },
}

/// What every station will do first: better to learn it here. Time and memory are the station's to judge.
fn prove(model: &Path, golden: &Path, demands: &Demands) -> anyhow::Result<String> {
    let report = probe::look(model, golden, vec![Provider::Cpu]);
    let limits = probe::Limits { look_ms: f64::INFINITY, memory_mb: u64::MAX, time: Duration::MAX };
    probe::judge(&report, demands, &limits).map_err(|why| {
        anyhow::anyhow!("every station would refuse it: {why}; correct the model or expected.json, or pass --unproven")
    })?;
    Ok(format!("golden pictures: {report}"))
}

fn share(text: &str) -> Result<Keys, String> {
    let parsed =
        text.split_once('/').and_then(|(m, n)| Some(Keys { threshold: m.parse().ok()?, count: n.parse().ok()? }));
    parsed.ok_or_else(|| "expected for example 2/3: two of three keys".to_owned())
}

pub fn run(args: PublishArgs) -> anyhow::Result<ExitCode> {
    let done: Vec<Done> = match args.command {
        Command::Init { at, root, targets, group } => {
            Workshop::init(&at.repo, &at.keys, root, targets, &group, at.days(), Timestamp::now())?;
            say(&format!(
                "made {}: serve it with a web server that answers ranges; its root for the stations is {}\nthe keys are in {}: keep root-* and targets-* off the web server, each in its own safe place",
                at.repo.display(),
                at.repo.join("metadata/1.root.json").display(),
                at.keys.display()
            ))?;
            Vec::new()
        }
        Command::Add { from, kind, golden, unproven, recall, precision, at } => {
            let demands = Demands { recall, precision };
            if kind == Kind::Model && !unproven {
                let golden = golden.clone().unwrap_or_else(|| from.join("golden"));
                say(&prove(&from, &golden, &demands)?)?;
            }
            if kind == Kind::Model
                && let Some(warning) = no_case_of(Manifest::read(&from)?.classes.iter().map(|c| c.name.as_str()))
            {
                eprintln!("warning: {warning}");
            }
            let (release, done) = at.open()?.add(kind, &from, golden.as_deref(), demands)?;
            say(&format!("release {release}"))?;
            vec![done]
        }
        Command::Sign { at } => {
            let done = at.open()?.sign()?;
            if done.is_empty() {
                say("nothing waits for signatures")?;
            }
            done
        }
        Command::Stage { group, release, percent, kind, at } => {
            vec![at.open()?.stage(&group, kind, &release, percent)?]
        }
        Command::Halt { group, reason, withdraw, kind, at } => {
            vec![at.open()?.halt(&group, kind, &reason, withdraw.as_deref())?]
        }
        Command::Renew { at } => vec![at.open()?.renew()?],
        Command::Rekey { role, at } => vec![at.open()?.rekey(&role)?],
        Command::Group { name, at } => vec![at.open()?.group(&name)?],
    };
    for done in done {
        say(&done.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
