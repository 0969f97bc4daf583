//! `aerie setup`: asks the few questions of a new station.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use super::common::say;
use crate::care::CareError;
use crate::care::setup::{self, Answers};
use crate::config::Faults;

#[derive(Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  aerie setup\n  aerie setup --dir station --id danzao-02 --name 丹灶二号站 --lat 23.05 --lon 113.0 --vehicle udpin:0.0.0.0:14550 \\\n    --dock http://10.0.0.2 --weather http://10.0.0.3 --broker mqtts://broker.example\n\nWhat is not given is asked. Writes station.toml, console.token and operator.key; overwrites nothing."
)]
pub struct SetupArgs {
    /// Where to write
    #[arg(long, value_name = "DIR", default_value = "/etc/aerie")]
    dir: PathBuf,
    /// Stands in every MQTT topic: letters, digits, hyphens
    #[arg(long)]
    id: Option<String>,
    /// What people read
    #[arg(long)]
    name: Option<String>,
    /// Of the dock, WGS 84, degrees
    #[arg(long, allow_negative_numbers = true)]
    lat: Option<f64>,
    #[arg(long, allow_negative_numbers = true)]
    lon: Option<f64>,
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// The drone's MAVLink: udpin:0.0.0.0:14550, tcpout:HOST:PORT, serial:/dev/ttyACM0:57600
    #[arg(long, value_name = "URL")]
    vehicle: Option<String>,
    /// Horizontal field of view of its camera, degrees
    #[arg(long, value_name = "DEG")]
    fov: Option<f64>,
    /// Where its pictures arrive
    #[arg(long, value_name = "DIR")]
    media_dir: Option<PathBuf>,
    /// http://HOST of the dock's controller
    #[arg(long, value_name = "URL")]
    dock: Option<String>,
    /// http://HOST of the weather station
    #[arg(long, value_name = "URL")]
    weather: Option<String>,
    /// mqtt://HOST or mqtts://HOST
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// Where databases and evidence go
    #[arg(long, value_name = "DIR", default_value = "/var/lib/aerie")]
    state_dir: PathBuf,
}

pub fn run(args: SetupArgs) -> anyhow::Result<ExitCode> {
    let ask = Asker { interactive: std::io::stdin().is_terminal() };
    let media = args.state_dir.join("media");
    // Before anybody answers a dozen questions for nothing.
    setup::places(&args.dir)?;
    let mut given = args;
    let (args, written) = loop {
        let answers = answers(&ask, &given, &media)?;
        match setup::write(&given.dir, &answers) {
            Ok(written) => break (given, written),
            // What was answered well is not asked again.
            Err(CareError::Faults(faults)) if ask.interactive && forget(&mut given, &answers, &faults) => {
                for fault in &faults.faults {
                    eprintln!("{}: {}", fault.key, fault.fault);
                }
            }
            Err(error) => return Err(error.into()),
        }
    };
    let owner = give_to_aerie(&args.dir, &written);
    say(&format!(
        "{} is written and has no fault.\n{} opens the console, {} signs commands: move it to the operator.\n{owner}Next: add an approval and a patrol, `aerie config check {}`, `aerie doctor --config {}`, systemctl enable --now aerie",
        written.config.display(),
        written.token.display(),
        written.operator_key.display(),
        written.config.display(),
        written.config.display(),
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Keeps the answers that have no fault, for the next round; false where none of the questions is at fault.
fn forget(given: &mut SetupArgs, answers: &Answers, faults: &Faults) -> bool {
    let wrong = |key: &str| faults.faults.iter().any(|fault| fault.key.starts_with(key));
    let kept = |key: &str, answer: &str| (!wrong(key)).then(|| answer.to_owned());
    given.id = kept("station.id", &answers.id);
    given.name = kept("station.name", &answers.name);
    given.lat = (!wrong("station.dock")).then_some(answers.lat);
    given.lon = (!wrong("station.dock")).then_some(answers.lon);
    given.timezone = kept("station.timezone", &answers.timezone);
    given.vehicle = kept("vehicle", &answers.vehicle);
    given.fov = (!wrong("camera.horizontal_fov_deg")).then_some(answers.fov_deg);
    given.media_dir = Some(answers.media_dir.clone());
    given.dock = kept("dock", &answers.dock);
    given.weather = kept("weather", &answers.weather);
    given.broker = kept("uplink", &answers.broker);
    let asked = [
        "station.id",
        "station.name",
        "station.dock",
        "station.timezone",
        "vehicle",
        "camera.horizontal_fov_deg",
        "dock",
        "weather",
        "uplink",
    ];
    asked.iter().any(|key| wrong(key))
}

fn answers(ask: &Asker, given: &SetupArgs, media: &Path) -> anyhow::Result<Answers> {
    let args = given.clone();
    let finite = |what: &'static str, value: f64| {
        let why = format!("{value} is no angle in degrees");
        if value.is_finite() { Ok(value) } else { Err(CareError::Answer { question: what, why }) }
    };
    Ok(Answers {
        id: ask.one("id of the station, stands in every MQTT topic (--id)", args.id, None)?,
        name: ask.one("name, for people (--name)", args.name, None)?,
        lat: finite("--lat", ask.one("latitude of the dock, WGS 84, degrees (--lat)", args.lat, None)?)?,
        lon: finite("--lon", ask.one("longitude of the dock, WGS 84, degrees (--lon)", args.lon, None)?)?,
        timezone: ask.one("time zone", args.timezone, Some("Asia/Shanghai"))?,
        vehicle: ask.one("MAVLink address of the drone", args.vehicle, Some("udpin:0.0.0.0:14550"))?,
        fov_deg: ask.one("horizontal field of view of its camera, degrees", args.fov, Some("66"))?,
        media_dir: ask.one("folder where its pictures arrive", args.media_dir, media.to_str())?,
        dock: ask.one(
            "address of the dock's controller (Modbus docks: edit the file afterwards)",
            args.dock,
            Some("http://127.0.0.1:8490"),
        )?,
        weather: ask.one("address of the weather station", args.weather, Some("http://127.0.0.1:8490"))?,
        broker: ask.one("MQTT broker", args.broker, Some("mqtt://127.0.0.1:1883"))?,
        state_dir: args.state_dir,
    })
}

/// The station runs as its own user, who must be able to read its files. Where there is no such user, nothing is done.
fn give_to_aerie(dir: &Path, written: &setup::Written) -> String {
    let Ok(Some(user)) = nix::unistd::User::from_name("aerie") else { return String::new() };
    let files = [dir, &written.config, &written.token, &written.operator_key];
    match files.iter().try_for_each(|path| std::os::unix::fs::chown(path, None, Some(user.gid.as_raw()))) {
        Ok(()) => {}
        Err(error) => return format!("They could not be given to the group aerie ({error}): do it as root.\n"),
    }
    // The operator's key stays root's alone.
    let own = [&written.config, &written.token];
    match own.iter().try_for_each(|path| std::os::unix::fs::chown(path, Some(user.uid.as_raw()), None)) {
        Ok(()) => "Configuration and token belong to the user aerie now.\n".to_owned(),
        Err(error) => format!("They could not be given to the user aerie ({error}): do it as root.\n"),
    }
}

struct Asker {
    interactive: bool,
}

impl Asker {
    fn one<T: FromStr>(&self, question: &'static str, given: Option<T>, default: Option<&str>) -> Result<T, CareError>
    where
        T::Err: std::fmt::Display,
    {
        if let Some(given) = given {
            return Ok(given);
        }
        let missing = |why: String| CareError::Answer { question, why };
        loop {
            let text = match (self.interactive, default) {
                (false, Some(default)) => default.to_owned(),
                (false, None) => return Err(missing("not answered; `aerie setup --help` names the option".to_owned())),
                (true, default) => {
                    let shown = default.map(|default| format!(" [{default}]")).unwrap_or_default();
                    eprint!("{question}{shown}: ");
                    let mut line = String::new();
                    let read = std::io::stderr().flush().and_then(|()| std::io::stdin().lock().read_line(&mut line));
                    if read.map_err(|error| missing(error.to_string()))? == 0 {
                        return Err(missing("the input ended".to_owned()));
                    }
                    match (line.trim(), default) {
                        ("", Some(default)) => default.to_owned(),
                        (text, _) => text.to_owned(),
                    }
                }
            };
            match text.parse() {
                Ok(value) => return Ok(value),
                Err(error) if self.interactive => eprintln!("{text:?}: {error}"),
                Err(error) => return Err(missing(format!("{text:?}: {error}"))),
            }
        }
    }
}
