//! What several commands share: which station is asked, and how text is set out.

use std::io::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::console::client::{self, Client};

/// Which station is asked.
#[derive(clap::Args)]
pub struct StationArgs {
    /// The station's console [default: that of /etc/aerie/station.toml where it may be read, else http://127.0.0.1:8480]
    #[arg(long, value_name = "URL", conflicts_with = "config", env = "AERIE_URL")]
    url: Option<String>,
    /// Ask the station that this configuration is of
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A file with the console's token; or put the token itself into AERIE_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Who gives the command, for the journal
    #[arg(long, value_name = "NAME", env = "USER", default_value = "cli", hide_env_values = true)]
    operator: String,
}

impl StationArgs {
    pub fn client(&self) -> anyhow::Result<Client> {
        self.client_on(Path::new(super::CONFIG))
    }

    /// `installed`: the configuration of the station that this computer is, if it is one.
    fn client_on(&self, installed: &Path) -> anyhow::Result<Client> {
        let (mut url, mut token, mut of) = (self.url.clone(), None, None);
        let installed = (url.is_none() && std::fs::File::open(installed).is_ok()).then_some(installed);
        if let Some(config) = self.config.as_deref().or(installed) {
            let named = client::from_config(config)?;
            (url, token, of) = (Some(named.url), named.token, named.station);
        }
        if let Some(file) = &self.token_file {
            token = Some(client::read_token("--token-file", file)?);
        } else if let Some(from_env) = std::env::var("AERIE_TOKEN").ok().filter(|t| !t.trim().is_empty()) {
            token = Some(from_env.trim().to_owned());
        }
        let url = url.as_deref().unwrap_or(client::DEFAULT_URL);
        Ok(Client::new(url, token, self.operator.clone())?.of_station(of))
    }
}

/// Prints to standard output; who hung up is an error that `main` takes for a good end.
pub fn say(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

pub fn say_json(value: &Value) -> anyhow::Result<()> {
    Ok(say(&serde_json::to_string_pretty(value)?)?)
}

/// An error with its causes, each said once.
pub fn told(error: &anyhow::Error) -> String {
    crate::runtime::told(&**error)
}

/// Plain columns: a head, then the rows.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|cell| cell.to_string()).collect();
    let rows: Vec<Vec<String>> =
        std::iter::once(&head).chain(rows).map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|i| rows.iter().filter_map(|row| row.get(i)).map(|c| width(c)).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, wanted) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(wanted.saturating_sub(width(cell)) + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// One line, whatever somebody put into a name: nothing may move a terminal's cursor.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Columns of a terminal that a text takes: Chinese signs take two.
fn width(text: &str) -> usize {
    let wide = |c: char| {
        matches!(u32::from(c), 0x1100..=0x115F | 0x2E80..=0xA4CF | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF
            | 0xFE30..=0xFE6F | 0xFF00..=0xFF60 | 0xFFE0..=0xFFE6 | 0x20000..=0x3FFFD)
    };
    text.chars().map(|c| if wide(c) { 2 } else { 1 }).sum()
}

/// A text of a JSON answer; "–" for none.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => plain(text),
        other => other.to_string(),
    }
}

/// A number with a unit; "–" for none.
pub fn number(value: &Value, digits: usize, unit: &str) -> String {
    value.as_f64().map_or_else(|| "–".to_owned(), |number| format!("{number:.digits$}{unit}"))
}

/// A time of a JSON answer, by this machine's clock face.
pub fn moment(value: &Value) -> String {
    moment_in(value, &TimeZone::system())
}

/// A time of a JSON answer as the station itself writes it in its texts: RFC 3339, UTC, seconds.
pub fn moment_utc(value: &Value) -> String {
    let at: Option<Timestamp> = value.as_str().and_then(|text| text.parse().ok());
    at.map_or_else(|| text(value), |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// The same by the clock of a zone; what it is ahead of UTC stands behind.
pub fn moment_in(value: &Value, zone: &TimeZone) -> String {
    let at: Option<Timestamp> = value.as_str().and_then(|text| text.parse().ok());
    at.map_or_else(|| text(value), |at| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%:z").to_string())
}

pub fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other_also_with_chinese_names() {
        let rows = [
            vec!["north".to_owned(), "北片".to_owned(), "x".to_owned()],
            vec!["s".to_owned(), "South".to_owned(), "y".to_owned()],
        ];
        assert_eq!(table(&["ID", "NAME", "NEXT"], &rows), "ID     NAME   NEXT\nnorth  北片   x\ns      South  y\n");
    }

    #[test]
    fn a_station_is_asked_by_its_own_computer_without_being_named() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("station.toml");
        let args = |url: Option<&str>| StationArgs {
            url: url.map(str::to_owned),
            config: None,
            token_file: None,
            operator: "test".to_owned(),
        };
        let asked = |args: StationArgs| args.client_on(&config).map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(asked(args(None)), Ok(()), "no station is installed here");
        std::fs::write(&config, "[console]\ntoken_file = \"not-there\"").unwrap();
        let taken = asked(args(None)).unwrap_err();
        assert!(taken.contains("console.token_file"), "{taken}");
        assert_eq!(asked(args(Some("http://127.0.0.1:1"))), Ok(()), "what is named goes before");
    }

    #[test]
    fn the_words_of_an_error_that_names_its_cause_are_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read /x: {source}; name another")]
        struct Named {
            source: std::io::Error,
        }
        let absent = || std::io::Error::from_raw_os_error(2);
        assert_eq!(
            told(&anyhow::Error::from(Named { source: absent() }).context("step 1")),
            "step 1: cannot read /x: No such file or directory (os error 2); name another"
        );
        assert_eq!(
            told(&anyhow::Error::from(absent()).context("/x is not there")),
            "/x is not there: No such file or directory (os error 2)"
        );
        assert_eq!(moment_utc(&Value::from("2026-11-24T07:00:00.123456789+00:00")), "2026-11-24T07:00:00Z");
    }

    #[test]
    fn nothing_from_a_station_moves_the_cursor() {
        assert_eq!(text(&Value::from("a\u{1b}[2Jb\nc")), "a [2Jb c");
        assert_eq!(text(&Value::Null), "–");
    }
}
