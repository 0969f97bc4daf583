//! Pure: what keeps the station from its work, in words, with a remedy.
//!
//! The words hold still while nothing changes (no ages, no counters that run): they stand in the retained status.

use serde::Serialize;

use super::snapshot::Snapshot;
use crate::uplink;
use crate::vehicle::Hatch;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Problem {
    pub part: &'static str,
    pub message: String,
    pub remedy: Option<String>,
}

fn problem(part: &'static str, message: impl Into<String>, remedy: &str) -> Problem {
    Problem { part, message: message.into(), remedy: Some(remedy.to_owned()) }
}

pub fn of(now: &Snapshot) -> Vec<Problem> {
    let mut found = Vec::new();
    if !now.vehicle.linked {
        let remedy = "check the drone's power, its radio and vehicle.url";
        found.push(problem("vehicle", "the drone is not heard", remedy));
    }
    let fresh = now.limits.weather_fresh_s;
    let because = |message: &str, trouble: &Option<String>| match trouble {
        Some(trouble) => format!("{message}: {trouble}"),
        None => message.to_owned(),
    };
    let remedy = "check weather.url, the weather station's power and the network";
    match now.weather_age_s() {
        None => {
            let message = because("the weather station has not been heard", &now.weather_trouble);
            found.push(problem("weather", message, remedy));
        }
        Some(age) if age > fresh => {
            let message = format!("the weather station has been silent for more than {fresh:.0} s");
            let message = because(&message, &now.weather_trouble);
            found.push(problem("weather", message, remedy));
        }
        Some(_) => {}
    }
    if now.dock.hatch == Hatch::Unknown {
        let remedy = "check dock.url, the dock's power, the network and the hatch's limit switches";
        found.push(problem(
            "dock",
            because("the position of the dock's hatch is not known", &now.dock_trouble),
            remedy,
        ));
    }
    let idle = now.sortie.as_ref().is_none_or(|sortie| sortie.state.is_terminal());
    if idle && now.dock.drone_present == Some(false) {
        let remedy =
            "the map shows where it was heard last, the newest sorties what happened; set it back into its dock";
        found.push(problem("dock", "the drone is not in its dock, and no sortie is under way", remedy));
    }
    if !now.perception.running {
        let message = match &now.perception.last_error {
            Some(error) => format!("pictures are not looked at: {error}"),
            None => "pictures are not looked at: the process has not started yet".to_owned(),
        };
        let remedy = "see the log; `aerie detect IMAGE` tries the same model by hand";
        found.push(problem("perception", message, remedy));
    }
    if let Some(reason) = &now.perception.model_refused {
        let message = match &now.perception.model {
            Some(model) => {
                format!("the configured model is not in use, {} {} is: {reason}", model.name, model.version)
            }
            None => format!("the configured model is not in use: {reason}"),
        };
        let remedy = "`aerie model probe DIR` tries it by hand; correct perception.model and start the station again";
        found.push(problem("perception", message, remedy));
    }
    if let Some(damaged) = &now.updates.damaged {
        let remedy = "`aerie model list` says what is in use instead; a release that is damaged here comes anew with `aerie model add`, or under a new version";
        found.push(problem("update", damaged.clone(), remedy));
    }
    if !now.uplink.connected {
        let message = match &now.uplink.last_error {
            Some(error) => format!("not connected to the broker: {error}"),
            None => "not connected to the broker yet".to_owned(),
        };
        let remedy = if now.uplink.stranger { uplink::STRANGER } else { "check the network and uplink.url" };
        let remedy = format!("{remedy}; what is found meanwhile is kept and sent later");
        found.push(problem("uplink", message, &remedy));
    }
    if now.outbox.quarantined > 0 {
        let message = format!("{} broken outbox database(s) were moved aside", now.outbox.quarantined);
        let remedy = "check the disk; the files beside outbox.db in station.state_dir can be sent to the makers";
        found.push(problem("outbox", message, remedy));
    }
    if now.outbox.disk_full {
        let message = "the disk is full and nothing is left to drop: what is found now is lost";
        found.push(problem("outbox", message, "free space where station.state_dir is"));
    }
    if now.outbox.aside > 0 {
        let message = format!("{} record(s) were set aside because no broker could take them", now.outbox.aside);
        found.push(problem("outbox", message, "`aerie outbox list --state aside` says which and why"));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::snapshot::tests::at_rest;
    use super::*;
    use crate::vehicle::DockState;

    fn parts(now: &Snapshot) -> Vec<&'static str> {
        of(now).into_iter().map(|p| p.part).collect()
    }

    #[tokio::test]
    async fn a_station_at_rest_has_no_problem() {
        assert_eq!(of(&at_rest()), []);
    }

    #[tokio::test]
    async fn each_part_that_fails_is_named_with_a_remedy() {
        type Break = fn(&mut Snapshot);
        let table: &[(&str, &str, Break)] = &[
            ("vehicle", "not heard", |s| s.vehicle.linked = false),
            ("weather", "has not been heard", |s| s.weather = None),
            ("weather", "more than 30 s", |s| s.now += Duration::from_secs(31)),
            ("dock", "hatch", |s| s.dock = DockState::default()),
            ("weather", "answered with status 404", |s| {
                s.weather = None;
                s.weather_trouble = Some("http://10.0.0.3/weather answered with status 404".to_owned());
            }),
            ("dock", "alive signal", |s| {
                s.dock = DockState::default();
                s.dock_trouble = Some("the alive signal stands still".to_owned());
            }),
            ("dock", "not in its dock", |s| s.dock.drone_present = Some(false)),
            ("perception", "model.onnx is missing", |s| {
                s.perception.running = false;
                s.perception.last_error = Some("models/default/model.onnx is missing".to_owned());
            }),
            ("perception", "my-model.onnx: the child ended", |s| {
                s.perception.model_refused = Some("my-model.onnx: the child ended while loading it".to_owned());
            }),
            ("update", "is not what was signed", |s| {
                s.updates.damaged = Some("town 1.3 cannot be loaded: model.onnx is not what was signed".to_owned());
            }),
            ("uplink", "connection refused", |s| {
                s.uplink.connected = false;
                s.uplink.last_error = Some("connection refused".to_owned());
            }),
            ("outbox", "moved aside", |s| s.outbox.quarantined = 1),
            ("outbox", "set aside", |s| s.outbox.aside = 3),
            ("outbox", "disk is full", |s| s.outbox.disk_full = true),
        ];
        for &(part, words, broken) in table {
            let mut now = at_rest();
            broken(&mut now);
            let found = of(&now);
            assert_eq!(parts(&now), [part]);
            assert!(found[0].message.contains(words), "{}", found[0].message);
            assert!(found[0].remedy.is_some());
        }
    }

    #[tokio::test]
    async fn a_broker_that_does_not_know_the_station_is_no_matter_of_the_network() {
        let mut now = at_rest();
        now.uplink.connected = false;
        now.uplink.stranger = true;
        let remedy = of(&now)[0].remedy.clone().unwrap();
        assert!(remedy.contains("uplink.username") && remedy.contains("uplink.password_file"), "{remedy}");
        assert!(!remedy.contains("network"), "{remedy}");
    }

    #[tokio::test]
    async fn the_words_hold_still_while_time_passes() {
        let mut now = at_rest();
        now.vehicle.linked = false;
        now.now += Duration::from_secs(40);
        let first = of(&now);
        now.now += Duration::from_secs(40);
        assert_eq!(of(&now), first);
    }
}
