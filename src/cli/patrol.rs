//! `aerie patrol`: what can be flown, and flying it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Subcommand;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::common::{StationArgs, list, moment, moment_in, number, plain, say, say_json, table, text};
use crate::config::{self, Checked};
use crate::geo::LatLon;
use crate::patrol::config::{Ground, Patrol};
use crate::patrol::plan;
use crate::vehicle::{Autopilot, Exclusion, Mission};

/// What is assumed of a drone going up and down, for the estimate of a flight's duration alone.
const CLIMB_M_S: f64 = 2.5;
const SINK_M_S: f64 = 1.5;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  aerie patrol list\n  aerie patrol start north --watch\n  aerie patrol cancel\n  aerie patrol plan north --config station.toml --json > plan.geojson"
)]
pub struct PatrolArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the station's patrols
    #[command(after_help = "Example:\n  aerie patrol list --url http://127.0.0.1:8480")]
    List {
        #[command(flatten)]
        station: StationArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Start a patrol now, if its gates let it go
    #[command(
        after_help = "Examples:\n  aerie patrol start north\n  aerie patrol start north --watch\n  aerie patrol start north --continues last"
    )]
    Start {
        /// Of the configuration's `[[patrols]]`
        id: String,
        #[command(flatten)]
        station: StationArgs,
        /// Follow the sortie to its end; then the exit code says whether it was flown to its end
        #[arg(long)]
        watch: bool,
        /// Fly only the rest of an interrupted sortie of this patrol, or of its "last"
        #[arg(long, value_name = "SORTIE")]
        continues: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Hold the drone where it is
    #[command(after_help = "Example:\n  aerie patrol pause")]
    Pause {
        #[command(flatten)]
        station: StationArgs,
    },
    /// Go on with a patrol that was paused
    #[command(after_help = "Example:\n  aerie patrol resume")]
    Resume {
        #[command(flatten)]
        station: StationArgs,
    },
    /// Call the drone home now
    #[command(after_help = "Example:\n  aerie patrol return")]
    Return {
        #[command(flatten)]
        station: StationArgs,
    },
    /// Call the drone home, or keep it down
    #[command(after_help = "Example:\n  aerie patrol cancel")]
    Cancel {
        #[command(flatten)]
        station: StationArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the sortie under way, or the last one
    #[command(after_help = "Examples:\n  aerie patrol status\n  aerie patrol status --watch --json")]
    Status {
        #[command(flatten)]
        station: StationArgs,
        /// Follow it to its end, one line (or one JSON object) for each change
        #[arg(long)]
        watch: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show how a patrol would be flown, without a station
    #[command(
        after_help = "Examples:\n  aerie patrol plan north --config station.toml\n  aerie patrol plan north --config station.toml --json > plan.geojson"
    )]
    Plan {
        /// Of the configuration's `[[patrols]]`
        id: String,
        /// The station's configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print GeoJSON: the way, the area, the fence
        #[arg(long)]
        json: bool,
    },
}

pub fn run(args: PatrolArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List { station, json } => {
            let patrols = station.client()?.get("patrols")?;
            if json { say_json(&patrols)? } else { say(&patrol_table(&patrols))? }
        }
        Command::Pause { station } => order(&station, "pause", "is paused")?,
        Command::Resume { station } => order(&station, "resume", "goes on")?,
        Command::Return { station } => order(&station, "return", "is called back")?,
        Command::Start { id, station, watch, continues, json } => {
            let client = station.client()?;
            let rest = continues.map(|sortie| format!("?continues={}", in_path(&sortie))).unwrap_or_default();
            let answer = client.post(&format!("patrols/{}/start{rest}", in_path(&id)))?;
            if json {
                say_json(&answer)?;
            } else {
                say(&format!("sortie {} of patrol {id} is under way", text(&answer["sortie"])))?;
            }
            if watch {
                return follow(&client, json);
            }
        }
        Command::Cancel { station, json } => {
            let answer = station.client()?.post("sortie/cancel")?;
            if json {
                say_json(&answer)?;
            } else {
                say(&format!("sortie {} is called back", text(&answer["sortie"])))?;
            }
        }
        Command::Status { station, watch, json } => {
            let client = station.client()?;
            if watch {
                return follow(&client, json);
            }
            let sortie = client.get("status")?["sortie"].take();
            match (json, sortie.is_null()) {
                (true, _) => say_json(&sortie)?,
                (false, true) => say("no sortie has been flown since the station's start")?,
                (false, false) => say(&sortie_words(&sortie))?,
            }
        }
        Command::Plan { id, config, json } => return show_plan(&id, &config, json),
    }
    Ok(ExitCode::SUCCESS)
}

fn order(station: &StationArgs, order: &str, done: &str) -> anyhow::Result<()> {
    let answer = station.client()?.post(&format!("sortie/{order}"))?;
    Ok(say(&format!("sortie {} {done}", text(&answer["sortie"])))?)
}

/// Text as one part of a path or a query, whatever was typed.
pub fn in_path(id: &str) -> String {
    id.bytes()
        .map(|b| if b.is_ascii_alphanumeric() || b == b'-' { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn zone_of(patrol: &Value) -> TimeZone {
    patrol["timezone"].as_str().and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC)
}

/// That a patrol is due and cannot start yet, and why.
pub fn waits_words(patrol: &Value) -> Option<String> {
    let waits = patrol.get("waits").filter(|waits| !waits.is_null())?;
    Some(format!("waits until {}: {}", moment_in(&waits["until"], &zone_of(patrol)), text(&waits["why"])))
}

fn patrol_table(patrols: &Value) -> String {
    let rows: Vec<Vec<String>> = list(patrols)
        .iter()
        .map(|p| {
            // The schedule is in the station's time, so its turns are too.
            let zone = zone_of(p);
            let last = match &p["last"] {
                Value::Null => "–".to_owned(),
                last => format!("{} {}", moment_in(&last["ended_at"], &zone), text(&last["state"])),
            };
            let next = waits_words(p).unwrap_or_else(|| moment_in(&p["next_at"], &zone));
            vec![text(&p["id"]), text(&p["name"]), text(&p["schedule"]), next, last]
        })
        .collect();
    if rows.is_empty() {
        return "the configuration has no [[patrols]]".to_owned();
    }
    table(&["ID", "NAME", "SCHEDULE", "NEXT", "LAST"], &rows)
}

fn sortie_words(s: &Value) -> String {
    let asked = match &s["operator"] {
        Value::Null => text(&s["trigger"]),
        operator => format!("{}, {}", text(&s["trigger"]), text(operator)),
    };
    let rows = [
        ("sortie", text(&s["id"])),
        ("patrol", format!("{} ({})", text(&s["patrol_name"]), text(&s["patrol"]))),
        ("asked by", asked),
        ("state", text(&s["state"])),
        ("reason", text(&s["reason"])),
        ("planned", moment(&s["planned_at"])),
        ("in the air", moment(&s["started_at"])),
        ("ended", moment(&s["ended_at"])),
        ("progress", percent(&s["progress"])),
        ("coverage", percent(&s["coverage"])),
        ("seen well", survey(&s["survey"])),
        ("pictures", pictures(s)),
        ("cases", text(&s["cases"])),
    ];
    let mut out: String = rows.iter().map(|(key, value)| format!("{key:<11} {value}\n")).collect();
    out.push_str(&steps_words(list(&s["steps"])));
    out
}

/// How much was looked at as often as demanded, and from how near.
fn survey(survey: &Value) -> String {
    let words = |key: &str, per: f64, unit: &str| {
        survey[key].as_f64().map(|v| format!(", {:.0} {unit}", v * per)).unwrap_or_default()
    };
    let looks = text(&survey["looks"]);
    let examined = percent(&survey["examined"]);
    format!(
        "{examined} by {looks} looks{}{}",
        words("gsd_m", 1e3, "mm a pixel"),
        words("off_nadir_deg", 1.0, "° off the vertical")
    )
}

/// Those looked at, and why the others were not.
fn pictures(sortie: &Value) -> String {
    let mut words = text(&sortie["frames"]);
    for (key, word) in [
        ("redundant", "redundant"),
        ("blurred", "blurred"),
        ("badly_exposed", "badly exposed"),
        ("off_target", "beside the area"),
    ] {
        match sortie["survey"][key].as_u64() {
            Some(count) if count > 0 => words.push_str(&format!(", {count} {word}")),
            _ => {}
        }
    }
    words
}

/// Each step with how long the one before it took.
fn steps_words(steps: &[Value]) -> String {
    let mut last: Option<jiff::Timestamp> = None;
    let mut out = String::new();
    for step in steps {
        let at: Option<jiff::Timestamp> = step["at"].as_str().and_then(|at| at.parse().ok());
        let took = match (last, at) {
            (Some(last), Some(at)) => format!("+{:.1} s", at.duration_since(last).as_secs_f64()),
            _ => String::new(),
        };
        last = at.or(last);
        out.push_str(&format!("  {took:>9}  {:<13} {}\n", text(&step["state"]), text(&step["reason"])));
    }
    out
}

fn percent(share: &Value) -> String {
    share.as_f64().map_or_else(|| "–".to_owned(), |share| format!("{:.0} %", share * 100.0))
}

/// Says each change of the sortie under way until it has ended. A station that cannot be reached for a moment is asked
/// again: a flight is not over because a network was.
fn follow(client: &crate::console::client::Client, json: bool) -> anyhow::Result<ExitCode> {
    let mut said = String::new();
    let mut failures = 0;
    #[expect(clippy::disallowed_methods, reason = "no runtime here whose threads it could hold")]
    let pause = |seconds| std::thread::sleep(Duration::from_secs(seconds));
    loop {
        let mut status = match client.get("status") {
            Ok(status) => status,
            Err(error) if failures < 10 && !said.is_empty() => {
                failures += 1;
                eprintln!("aerie: {error}; asking again");
                pause(2);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        failures = 0;
        let sortie = status["sortie"].take();
        if sortie.is_null() {
            say(if json { "null" } else { "no sortie has been flown since the station's start" })?;
            return Ok(ExitCode::SUCCESS);
        }
        let line = if json { sortie.to_string() } else { step_line(&sortie) };
        if line != said {
            let at = if json { String::new() } else { format!("{}  ", moment(&status["time"])) };
            say(&format!("{at}{line}"))?;
            said = line;
        }
        if !sortie["ended_at"].is_null() {
            let flown = sortie["state"] == "done";
            return Ok(if flown { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        pause(1);
    }
}

fn step_line(s: &Value) -> String {
    format!(
        "{:<12}  {:>5}  {:>4} pictures  {:>3} cases  {}",
        text(&s["state"]),
        percent(&s["progress"]),
        text(&s["frames"]),
        text(&s["cases"]),
        text(&s["reason"])
    )
}

fn show_plan(id: &str, config: &std::path::Path, json: bool) -> anyhow::Result<ExitCode> {
    let checked = config::load(config)?;
    let known = || checked.patrols.iter().map(|p| p.config.id.as_str()).collect::<Vec<_>>().join(", ");
    let patrol = checked
        .patrols
        .iter()
        .find(|p| p.config.id == id)
        .with_context(|| format!("{}: there is no patrol {id:?}; known are: {}", config.display(), known()))?;
    let dock = checked.config.station.dock;
    let (mission, refused) = mission_of(&checked, patrol);
    let plan = Plan { refused, ..Plan::of(patrol, dock, mission) };
    if json {
        say_json(&plan.geojson(patrol))?
    } else {
        say(&plan.words(patrol))?
    }
    Ok(if plan.refused.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a patrol sends to the drone, and why the station would not send it.
pub(super) fn mission_of(checked: &Checked, patrol: &Patrol) -> (Mission, Option<String>) {
    let (dock, camera) = (checked.config.station.dock, &checked.config.camera);
    let mission = patrol.mission(dock, camera.horizontal_fov_deg, camera.aspect);
    // Which autopilot it will be is not known here; the two differ by a few items.
    let fault = checked.config.vehicle.check_mission(&mission, dock, Autopilot::ArduPilot).err();
    (mission, fault.map(|fault| fault.to_string()))
}

/// How a patrol would be flown.
struct Plan {
    mission: Mission,
    dock: LatLon,
    /// Over the area, and with the ways there and back.
    length_m: f64,
    whole_m: f64,
    duration_s: f64,
    pictures: u64,
    /// Why the station would not fly it.
    refused: Option<String>,
}

impl Plan {
    fn of(patrol: &Patrol, dock: LatLon, mission: Mission) -> Plan {
        let way: Vec<LatLon> = mission.waypoints.iter().map(|w| w.at).collect();
        let length_m = plan::length_m(&way);
        let ends = way.first().into_iter().chain(way.last());
        let whole_m = length_m + ends.map(|end| end.distance_m(dock)).sum::<f64>();
        let vertical_s = mission.takeoff_height_m / CLIMB_M_S + mission.takeoff_height_m / SINK_M_S;
        let pictures =
            if way.is_empty() { 0 } else { (length_m / mission.camera.trigger_distance_m).floor() as u64 + 1 };
        let duration_s = whole_m / patrol.config.speed_m_s + vertical_s;
        Plan { mission, dock, length_m, whole_m, duration_s, pictures, refused: None }
    }

    fn words(&self, patrol: &Patrol) -> String {
        let c = &patrol.config;
        let (minutes, seconds) = ((self.duration_s / 60.0).floor(), self.duration_s % 60.0);
        let refused = self.refused.iter().map(|why| ("REFUSED", why.clone()));
        let rows = [
            ("patrol", format!("{} ({})", plain(&c.name), c.id)),
            ("waypoints", self.mission.waypoints.len().to_string()),
            ("way", format!("{:.0} m, with the ways there and back {:.0} m", self.length_m, self.whole_m)),
            (
                "flight",
                format!("height {:.0} m, {:.1} m/s, about {minutes:.0} min {seconds:.0} s", c.height_m, c.speed_m_s),
            ),
            ("pictures", format!("{}, one every {:.1} m", self.pictures, self.mission.camera.trigger_distance_m)),
        ];
        rows.into_iter().chain(refused).map(|(key, value)| format!("{key:<10} {value}\n")).collect()
    }

    fn geojson(&self, patrol: &Patrol) -> Value {
        let place = |p: &LatLon| [p.lon, p.lat];
        let feature = |what: &str, kind: &str, coordinates: Value, mut properties: Value| {
            properties["what"] = what.into();
            json!({"type": "Feature", "properties": properties, "geometry": {"type": kind, "coordinates": coordinates}})
        };
        let way: Vec<[f64; 2]> = self.mission.waypoints.iter().map(|w| place(&w.at)).collect();
        let facts = json!({
            "patrol": patrol.config.id,
            "name": patrol.config.name,
            "waypoints": way.len(),
            "length_m": self.length_m.round(),
            "length_with_transfer_m": self.whole_m.round(),
            "duration_s": self.duration_s.round(),
            "pictures": self.pictures,
            "trigger_distance_m": (self.mission.camera.trigger_distance_m * 100.0).round() / 100.0,
            "height_m": patrol.config.height_m,
            "speed_m_s": patrol.config.speed_m_s,
            "refused": self.refused,
        });
        let mut features = vec![feature("way", "LineString", json!(way), facts)];
        if let Ground::Area(ring) = &patrol.ground {
            let ring: Vec<_> = ring.iter().map(place).collect();
            features.push(feature("area", "Polygon", json!([ring]), json!({})));
        }
        if let Some(fence) = &self.mission.fence {
            // A GeoJSON ring ends where it began.
            let ring: Vec<_> = fence.iter().chain(fence.first()).map(place).collect();
            features.push(feature("fence", "Polygon", json!([ring]), json!({})));
        }
        for exclusion in &self.mission.exclusions {
            features.push(match exclusion {
                Exclusion::Polygon { vertices } => {
                    let ring: Vec<_> = vertices.iter().chain(vertices.first()).map(place).collect();
                    feature("no_fly", "Polygon", json!([ring]), json!({}))
                }
                Exclusion::Circle { centre, radius_m } => {
                    feature("no_fly", "Point", json!(place(centre)), json!({"radius_m": radius_m}))
                }
            });
        }
        features.push(feature("dock", "Point", json!(place(&self.dock)), json!({})));
        json!({"type": "FeatureCollection", "features": features})
    }
}

/// The vehicle's line of `aerie service status`.
pub fn vehicle_words(v: &Value) -> String {
    if v["linked"] != true {
        return "not heard".to_owned();
    }
    let armed = if v["armed"] == true { "armed" } else { "disarmed" };
    format!(
        "{armed}, {}, battery {}, {} satellites, height {}",
        text(&v["mode"]),
        number(&v["battery_pct"], 0, " %"),
        text(&v["satellites"]),
        number(&v["height_m"], 1, " m")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::LocalFrame;

    const DOCK: LatLon = LatLon { lat: 23.05, lon: 113.0 };

    #[test]
    fn a_patrols_last_and_next_turn_are_told_in_the_stations_time() {
        let patrols = json!([{"id": "north", "name": "北片", "schedule": "09:00", "timezone": "Asia/Shanghai",
            "next_at": "2026-11-24T01:00:00Z", "last": {"ended_at": "2026-11-23T01:20:00Z", "state": "done"}}]);
        let table = patrol_table(&patrols);
        let turns = "2026-11-24 09:00:00+08:00  2026-11-23 09:20:00+08:00 done";
        assert!(table.contains(turns), "{table}");
    }

    fn patrol() -> Patrol {
        let text = "id = \"n\"\nname = \"N\"\narea = \"a\"\nheight_m = 75.0\nspeed_m_s = 10.0";
        let frame = LocalFrame::new(DOCK);
        let corners = [(0.0, 0.0), (400.0, 0.0), (400.0, 150.0), (0.0, 150.0), (0.0, 0.0)];
        let ring = corners.map(|(e, n)| frame.to_latlon(e, n)).to_vec();
        Patrol { config: toml::from_str(text).unwrap(), ground: Ground::Area(ring), exclusions: Vec::new() }
    }

    #[test]
    fn a_plan_reckons_its_way_its_time_and_its_pictures() {
        let patrol = patrol();
        let plan = Plan::of(&patrol, DOCK, patrol.mission(DOCK, 66.0, 4.0 / 3.0));
        // Swath 97.4 m, lines at most 68.2 m apart: three lines of 400 m, two turns of 50 m.
        assert_eq!(plan.mission.waypoints.len(), 6);
        assert!((plan.length_m - 1300.0).abs() < 3.0, "{}", plan.length_m);
        assert!(plan.whole_m > plan.length_m + 400.0);
        let wanted = plan.whole_m / 10.0 + 75.0 / 2.5 + 75.0 / 1.5;
        assert!((plan.duration_s - wanted).abs() < 0.1);
        assert_eq!(plan.pictures, (plan.length_m / plan.mission.camera.trigger_distance_m) as u64 + 1);
        let shown = plan.geojson(&patrol);
        let what: Vec<_> = list(&shown["features"]).iter().map(|f| f["properties"]["what"].as_str().unwrap()).collect();
        assert_eq!(what, ["way", "area", "fence", "dock"]);
    }

    #[test]
    fn a_plan_over_a_place_where_no_flight_may_go_says_that_it_would_be_refused() {
        let centre = LocalFrame::new(DOCK).to_latlon(200.0, 75.0);
        let patrol = Patrol { exclusions: vec![Exclusion::Circle { centre, radius_m: 40.0 }], ..patrol() };
        let mut plan = Plan::of(&patrol, DOCK, patrol.mission(DOCK, 66.0, 4.0 / 3.0));
        let config = crate::vehicle::Config::at("udpin:127.0.0.1:1");
        let checked = config.check_mission(&plan.mission, DOCK, Autopilot::ArduPilot);
        plan.refused = checked.err().map(|fault| fault.to_string());
        assert!(plan.words(&patrol).lines().any(|l| l.starts_with("REFUSED") && l.contains("exclusion 0")));
        let shown = plan.geojson(&patrol);
        assert!(list(&shown["features"]).iter().any(|f| f["properties"]["radius_m"] == 40.0));
    }

    #[test]
    fn an_id_cannot_leave_its_place_in_the_path() {
        assert_eq!(in_path("north-2"), "north-2");
        assert_eq!(in_path("../x?"), "%2E%2E%2Fx%3F");
    }
}
