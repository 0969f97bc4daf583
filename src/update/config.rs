//! The configuration's table `[update]`.

use std::path::PathBuf;

use jiff::civil::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compare::Rules;
use super::origin::{OriginError, Web};
use super::release::is_plain_name;
use super::trust;

/// Signed models over the air. Without `root` nothing is taken from anywhere.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "UpdateConfig")]
pub struct Config {
    /// Address of the publisher's repository. Without it only folders are taken (`aerie model add`).
    pub url: Option<String>,
    /// The publisher's 1.root.json, by which everything is judged; got by a way you trust.
    pub root: Option<PathBuf>,
    /// Certificates that the repository's server is known by; the system's when left out.
    pub ca_file: Option<PathBuf>,
    /// The group of stations this one belongs to, as its publisher calls it (`aerie model publish init --group`).
    pub group: String,
    /// How often the repository is asked, give or take a quarter. A hint over MQTT makes it sooner.
    pub poll_minutes: u32,
    /// When a release may be fetched, in the station's time: "22:00-06:00". Always when left out.
    pub hours: Option<String>,
    /// The most that a fetch takes of the line, 1000 bytes a second. No limit when left out.
    pub kb_per_s: Option<u32>,
    /// The most that is fetched on one day of the station's time, 10^6 bytes; the rest comes on the next. No limit when left out.
    pub mb_per_day: Option<u32>,
    /// The largest release that is taken.
    pub largest_mb: u64,
    /// The longest a look at a golden picture may take, ms: processor time; by the clock where the model runs on an accelerator.
    pub look_ms: f64,
    /// The most memory that the model's child may use, MB.
    pub memory_mb: u64,
    /// How long a model is watched before it is believed.
    pub watch: Rules,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            url: None,
            root: None,
            ca_file: None,
            group: "all".to_owned(),
            poll_minutes: 60,
            hours: None,
            kb_per_s: None,
            mb_per_day: None,
            largest_mb: 500,
            look_ms: 10_000.0,
            memory_mb: 1_500,
            watch: Rules::default(),
        }
    }
}

impl Config {
    /// Every value that cannot be, with its key.
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut add = |key: &str, fault: String| faults.push((key.to_owned(), fault));
        if self.url.is_some() && self.root.is_none() {
            add("root", "is needed with url: name the publisher's 1.root.json".to_owned());
        }
        if let Some(Err(error)) = self.root.as_deref().map(trust::read_root) {
            add("root", error.to_string());
        }
        if let Some(Err(OriginError::Setting { key, why })) =
            self.url.as_deref().map(|url| Web::new(url, self.ca_file.as_deref()))
        {
            add(key, why);
        }
        if !is_plain_name(&self.group) {
            add("group", format!("{:?} must be letters, digits, - _ .", self.group));
        }
        if self.poll_minutes == 0 {
            add("poll_minutes", "must be at least 1".to_owned());
        }
        if let Some(hours) = self.hours.as_ref().filter(|hours| span(hours).is_none()) {
            add("hours", format!("{hours:?} is no span of a day; write for example \"22:00-06:00\""));
        }
        for (key, value) in [("kb_per_s", self.kb_per_s), ("mb_per_day", self.mb_per_day)] {
            if value == Some(0) {
                add(key, "0 would fetch nothing; leave it out for no limit".to_owned());
            }
        }
        if self.look_ms.is_nan() || self.look_ms <= 0.0 {
            add("look_ms", format!("{} must be above 0", self.look_ms));
        }
        if let Some((key, fault)) = self.watch.fault() {
            add(&format!("watch.{key}"), fault);
        }
        faults
    }
}

/// Pure: two times of a day.
pub fn span(text: &str) -> Option<(Time, Time)> {
    let (from, to) = text.split_once('-')?;
    let (from, to) = (from.trim().parse::<Time>().ok()?, to.trim().parse::<Time>().ok()?);
    (from != to).then_some((from, to))
}

/// Pure: whether a time of the day lies in a span, which may go over midnight.
pub fn within((from, to): (Time, Time), now: Time) -> bool {
    if from < to { from <= now && now < to } else { now >= from || now < to }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_may_go_over_midnight() {
        let at = |text: &str| text.parse::<Time>().unwrap();
        let night = span("22:00-06:00").unwrap();
        assert!(within(night, at("23:00")) && within(night, at("05:59")) && !within(night, at("06:00")));
        let day = span("09:00 - 17:30").unwrap();
        assert!(within(day, at("09:00")) && !within(day, at("17:30")));
        assert!(span("22-6").is_none() && span("22:00").is_none() && span("10:00-10:00").is_none());
    }

    #[test]
    fn every_value_that_cannot_be_is_named() {
        let bad = Config {
            url: Some("https://x".into()),
            group: "a/b".into(),
            hours: Some("night".into()),
            kb_per_s: Some(0),
            ..Config::default()
        };
        let keys: Vec<_> = bad.faults().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["root", "group", "hours", "kb_per_s"]);
        assert!(Config::default().faults().is_empty());
    }

    #[test]
    fn a_root_that_is_none_a_server_that_is_none_and_certificates_that_are_none_are_faults_and_no_surprise_later() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            std::fs::write(dir.path().join(name), content).unwrap();
            Some(dir.path().join(name))
        };
        let absent = Some(dir.path().join("nowhere.json"));
        for root in [absent, file("cut.json", "{\"signed\": {\"_type\": \"ro"), file("other.json", "{}")] {
            let faults = Config { root: root.clone(), ..Config::default() }.faults();
            assert_eq!(faults.len(), 1, "{root:?}: {faults:?}");
            let name = root.unwrap().display().to_string();
            assert!(faults[0].0 == "root" && faults[0].1.contains(&name), "{faults:?}");
        }
        let (url, ca_file) = (Some("ftp://x".to_owned()), file("ca.pem", "no certificate"));
        let keys = |config: Config| config.faults().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys(Config { url, ..Config::default() }), ["root", "url"]);
        let url = Some("https://x".to_owned());
        assert_eq!(keys(Config { url, ca_file, ..Config::default() }), ["root", "ca_file"]);
    }
}
