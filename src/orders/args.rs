//! Pure: what the arguments of each command say. The station reads them here, and so does who signs: a mistake shows at the desk.
//!
//! A field that a command does not know is refused, not passed over: with `relase` for `release`, a rollback would give up
//! something else than was meant.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::COMMANDS;
use crate::cases::CaseState;
use crate::geo::LatLon;
use crate::patrol::flight::Order;
use crate::patrol::holds::Lock;
use crate::patrol::requests::{RequestConfig, Wanted};
use crate::update::promote::Goal;

/// A command with its arguments read.
#[derive(Debug, PartialEq)]
pub enum Ask {
    Start(Start),
    Cancel,
    Tell(Order),
    /// Read by [`Wanted`], with what the station's configuration says of requests.
    Request(Value),
    Verdict(Judged),
    Hold(Lock, String),
    Lift(Lock),
    Diagnostics,
    Resend(Again),
    RulesHint(String),
    ModelHint(Value),
    Check,
    Add(String),
    Promote(String, Goal),
    RollBack {
        reason: String,
        release: Option<String>,
    },
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    pub patrol: String,
    /// `page`, `cli`.
    pub via: Option<String>,
    pub continues: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    pub case: String,
    pub verdict: CaseState,
    pub reason: String,
}

/// What is to be sent again.
#[derive(Debug, PartialEq)]
pub enum Again {
    Since(Timestamp),
    Case(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resend {
    since: Option<String>,
    case: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesHint {
    sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelHint {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "version")]
    _version: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    folder: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Promote {
    release: String,
    to: Option<Goal>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RollBack {
    reason: Option<String>,
    release: Option<String>,
}

impl Ask {
    /// Or what is wrong, with the field it is in.
    pub fn read(name: &str, args: &Value) -> Result<Ask, String> {
        let bare = |ask: Ask| fields::<Nothing>(args).map(|_| ask);
        Ok(match name {
            "patrol.start" => Ask::Start(fields(args)?),
            "patrol.cancel" => bare(Ask::Cancel)?,
            "patrol.pause" => bare(Ask::Tell(Order::Pause))?,
            "patrol.resume" => bare(Ask::Tell(Order::Resume))?,
            "patrol.return" => bare(Ask::Tell(Order::Return))?,
            "request" => Ask::Request(args.clone()),
            "verdict" => Ask::Verdict(judged(fields(args)?)?),
            "station.hold" => Ask::Hold(Lock::Hold, why(fields::<Why>(args)?.reason)?),
            "station.maintenance" => Ask::Hold(Lock::Maintenance, why(fields::<Why>(args)?.reason)?),
            "station.release" => fields::<Why>(args).map(|_| Ask::Lift(Lock::Hold))?,
            "station.maintained" => fields::<Why>(args).map(|_| Ask::Lift(Lock::Maintenance))?,
            "station.diagnostics" => bare(Ask::Diagnostics)?,
            "outbox.resend" => Ask::Resend(again(fields(args)?)?),
            "rules.hint" => {
                let RulesHint { sha256 } = fields(args)?;
                if sha256.len() != 64 || !sha256.chars().all(|c| c.is_ascii_hexdigit()) {
                    return Err("args.sha256 must be the 64 hexadecimal digits of the rules that are wanted".to_owned());
                }
                Ask::RulesHint(sha256)
            }
            "model.hint" => fields::<ModelHint>(args).map(|_| Ask::ModelHint(args.clone()))?,
            "model.check" => bare(Ask::Check)?,
            "model.add" => Ask::Add(fields::<Add>(args)?.folder),
            "model.promote" => {
                let Promote { release, to } = fields(args)?;
                Ask::Promote(release, to.unwrap_or(Goal::Trial))
            }
            "model.rollback" => {
                let RollBack { reason, release } = fields(args)?;
                Ask::RollBack { reason: why(reason)?, release }
            }
            name => return Err(format!("no station knows a command {name:?}; there are {}", COMMANDS.join(", "))),
        })
    }
}

/// For who signs: everything that can be said of a command without knowing its station.
pub fn check(name: &str, args: &Value, now: Timestamp) -> Result<(), String> {
    match Ask::read(name, args)? {
        Ask::Request(args) => {
            // How far it is from the dock is the station's to say.
            let near = |place: &Value| -> Option<LatLon> {
                Some(LatLon { lat: place.get(1)?.as_f64()?, lon: place.get(0)?.as_f64()? })
            };
            let point = serde_json::from_value(args["point"].clone()).ok();
            let dock =
                point.or_else(|| near(&args["area"]["coordinates"][0][0])).unwrap_or(LatLon { lat: 0.0, lon: 0.0 });
            Wanted::read("", "", &args, &RequestConfig::default(), dock, now).map(drop)
        }
        _ => Ok(()),
    }
}

/// Arguments that were left out are none.
fn fields<T: DeserializeOwned>(args: &Value) -> Result<T, String> {
    let args = if args.is_null() { &Value::Object(Map::new()) } else { args };
    serde_path_to_error::deserialize(args).map_err(|error| match error.path().to_string().as_str() {
        "." => format!("args: {}", error.inner()),
        path => format!("args.{path}: {}", error.inner()),
    })
}

fn why(reason: Option<String>) -> Result<String, String> {
    let reason = reason.map(|reason| reason.trim().to_owned()).filter(|reason| !reason.is_empty());
    reason.ok_or_else(|| "args.reason is missing: say why, others will read it".to_owned())
}

fn judged(args: Judged) -> Result<Judged, String> {
    let reason = args.reason.trim();
    if reason.is_empty() || reason.len() > 2000 || reason.chars().any(char::is_control) {
        return Err("args.reason must be 1 to 2000 bytes of printable text".to_owned());
    }
    Ok(Judged { reason: reason.to_owned(), ..args })
}

fn again(args: Resend) -> Result<Again, String> {
    match (args.since, args.case) {
        (Some(since), None) => match since.parse() {
            Ok(since) => Ok(Again::Since(since)),
            Err(_) => Err(format!("args.since {since:?} is no time like 2026-11-24T07:00:00Z")),
        },
        (None, Some(case)) => Ok(Again::Case(case)),
        _ => Err("give either args.since, a time, or args.case, a case's id".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request() -> Value {
        json!({"point": {"lat": 23.05, "lon": 113.0}, "why": "citizen", "until": "2026-01-01T00:00:00Z"})
    }

    #[test]
    fn every_command_takes_the_arguments_that_are_documented() {
        let area = json!({"type": "Polygon", "coordinates": [[[113.0, 23.0], [113.001, 23.0], [113.001, 23.001], [113.0, 23.0]]]});
        let good = [
            ("patrol.start", json!({"patrol": "north"})),
            ("patrol.start", json!({"patrol": "north", "continues": "last"})),
            ("patrol.cancel", json!({})),
            ("patrol.pause", Value::Null),
            ("patrol.resume", json!({})),
            ("patrol.return", json!({})),
            ("request", request()),
            ("request", json!({"area": area, "why": "sensor", "until": "2026-01-01T00:00:00Z"})),
            ("verdict", json!({"case": "01A", "verdict": "rejected", "reason": "permitted"})),
            ("station.hold", json!({"reason": "festival"})),
            ("station.release", json!({})),
            ("station.maintenance", json!({"reason": "hatch"})),
            ("station.maintained", json!({})),
            ("station.diagnostics", json!({})),
            ("outbox.resend", json!({"since": "2026-11-24T07:00:00Z"})),
            ("outbox.resend", json!({"case": "01A"})),
            ("rules.hint", json!({"sha256": "0f".repeat(32)})),
            ("model.hint", json!({"name": "town", "version": "1.3"})),
            ("model.check", json!({})),
            ("model.add", json!({"folder": "/media/stick"})),
            ("model.promote", json!({"release": "town-1.3", "to": "committed"})),
            ("model.rollback", json!({"reason": "not now"})),
            ("model.rollback", json!({"reason": "not now", "release": "town-1.3"})),
        ];
        for (name, args) in &good {
            assert_eq!(check(name, args, Timestamp::UNIX_EPOCH), Ok(()), "{name} {args}");
        }
        let all = COMMANDS.iter().all(|known| good.iter().any(|(name, _)| name == known));
        assert!(all, "a command without a documented example");
    }

    #[test]
    fn what_is_wrong_with_an_argument_is_said_with_its_field() {
        let mut late = request();
        late["until"] = "1969-01-01T00:00:00Z".into();
        for (name, args, words) in [
            ("patrol.start", json!({}), "patrol"),
            ("patrol.start", json!({"patrl": "north"}), "unknown field `patrl`"),
            ("patrol.start", json!({"patrol": 3}), "args.patrol: invalid type"),
            ("patrol.cancel", json!({"sortie": "x"}), "sortie"),
            (
                "verdict",
                json!({"case": "01A", "verdict": "guilty", "reason": "x"}),
                "args.verdict: unknown variant `guilty`",
            ),
            ("verdict", json!({"case": "01A", "verdict": "rejected", "reason": " "}), "args.reason"),
            ("request", late, "args.until"),
            ("request", json!({"why": "citizen", "until": "2026-01-01T00:00:00Z"}), "args.point or args.area"),
            ("station.hold", json!({}), "args.reason is missing"),
            ("outbox.resend", json!({"since": "yesterday"}), "args.since \"yesterday\""),
            ("outbox.resend", json!({}), "args.since, a time"),
            ("rules.hint", json!({"sha256": "abc"}), "args.sha256"),
            ("model.hint", json!({"name": "town"}), "version"),
            ("model.add", json!({"folder": ["x"]}), "args.folder"),
            ("model.promote", json!({}), "release"),
            ("model.promote", json!({"release": "town-1.3", "to": "moon"}), "args.to: unknown variant `moon`"),
            ("model.rollback", json!({"reason": "x", "relase": "town-1.3"}), "relase"),
            ("patrol.start", json!("north"), "args: "),
            ("patrol.strat", json!({}), "patrol.strat"),
        ] {
            let fault = check(name, &args, Timestamp::UNIX_EPOCH).unwrap_err();
            assert!(fault.contains(words), "{name} {args}: {words}: {fault}");
        }
    }
}
