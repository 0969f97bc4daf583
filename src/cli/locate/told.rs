//! What goes to standard error about a table: its statuses, notes of its pictures, heights that contradict each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::table::Answer;
use crate::geo::level::{self, Assumed};

/// Lines of a table that are named for a status, and notes of pictures that are written out.
const NAMED_LINES: usize = 5;
const MAX_NOTES: usize = 10;

/// What goes to standard error once, so that no place is without its datum.
#[derive(Default)]
pub(super) struct Told {
    pub(super) found: usize,
    datums: BTreeSet<&'static str>,
    placed: BTreeMap<String, Seen>,
    /// By their code.
    refused: BTreeMap<String, Seen>,
}

/// The rows of one status.
#[derive(Default)]
pub(super) struct Seen {
    rows: usize,
    lines: Vec<usize>,
    /// What the first of them says beside its code.
    text: String,
}

impl Told {
    pub(super) fn note(&mut self, line: usize, answer: &Result<Answer, String>) {
        let seen = match answer {
            Ok(answer) => {
                self.found += 1;
                self.datums.insert(answer.datum.name());
                self.placed.entry(answer.status.clone()).or_default()
            }
            Err(status) => {
                let (code, text) = status.split_once(": ").unwrap_or((status, ""));
                let seen = self.refused.entry(code.to_owned()).or_default();
                if seen.rows == 0 {
                    seen.text = text.to_owned();
                }
                seen
            }
        };
        seen.rows += 1;
        if seen.lines.len() < NAMED_LINES {
            seen.lines.push(line);
        }
    }

    /// One line a status.
    fn statuses(&self) -> impl Iterator<Item = String> {
        self.placed.iter().chain(&self.refused).map(|(status, seen)| {
            let lines: Vec<String> = seen.lines.iter().map(usize::to_string).collect();
            let more = if seen.rows > seen.lines.len() { ", …" } else { "" };
            let (rows, of) = if seen.rows == 1 { ("row", "line") } else { ("rows", "lines") };
            let first = match (seen.text.as_str(), seen.rows) {
                ("", _) => String::new(),
                (text, 1) => format!(": {text}"),
                (text, _) => format!(", the first: {text}"),
            };
            format!("status {status}: {} {rows} ({of} {}{more}){first}", seen.rows, lines.join(", "))
        })
    }

    /// Where no row has a place: why most have none.
    fn nothing_found(&self) -> Option<String> {
        let rows: usize = self.refused.values().map(|seen| seen.rows).sum();
        if self.found > 0 {
            return None;
        }
        let most = self.refused.iter().max_by(|a, b| a.1.rows.cmp(&b.1.rows).then(b.0.cmp(a.0)));
        Some(most.map_or("the table has no row below its header".to_owned(), |(status, seen)| {
            format!("no place was found: all {rows} rows are refused, {} of them as {status}", seen.rows)
        }))
    }

    pub(super) fn say(&self, table: Option<&Path>, assumed: &BTreeSet<Assumed>) {
        if self.found > 0 {
            let datums: Vec<&str> = self.datums.iter().copied().collect();
            eprintln!("positions: WGS 84; heights above: {}", datums.join(", "));
        }
        if let Some(text) = self.nothing_found() {
            let table = table.map_or_else(String::new, |path| format!("{}: ", path.display()));
            eprintln!("{table}{text}");
        }
        for text in self.statuses() {
            eprintln!("{text}");
        }
        for assumed in assumed {
            eprintln!("assumed: {}", assumed.text());
        }
        let rows = |code: &str| self.refused.get(code).map_or(0, |seen| seen.rows);
        let sky = rows("above_horizon");
        let along: usize =
            self.placed.iter().filter(|(status, _)| status.contains("pitch_unlikely")).map(|(_, seen)| seen.rows).sum();
        if along > 0 || sky > 0 && self.found < sky {
            eprintln!(
                "rows look above the horizon or along it: is the pitch counted from nadir? Here −90 is straight down and 0 the horizon"
            );
        }
        let far = rows("too_far");
        if far > 0 && self.found < far {
            eprintln!("most places are too far: are heights in metres, and of camera and ground above the same datum?");
        }
    }
}

/// What is to be known of pictures, which have no row of their own: how many of them, and the first.
#[derive(Default)]
pub(super) struct Notes(BTreeMap<String, (usize, String)>);

impl Notes {
    pub(super) fn add(&mut self, picture: &str, notes: impl Iterator<Item = String>) {
        for note in notes {
            self.0.entry(note).or_insert_with(|| (0, picture.to_owned())).0 += 1;
        }
    }

    pub(super) fn say(&self) {
        for (note, (pictures, first)) in self.0.iter().take(MAX_NOTES) {
            let of = if *pictures == 1 { first.clone() } else { format!("{pictures} pictures, first {first}") };
            eprintln!("note on {of}: {note}");
        }
        let left = self.0.len().saturating_sub(MAX_NOTES);
        if left > 0 {
            eprintln!("and {left} notes more; aerie locate IMAGE --pixel X,Y tells those of one picture");
        }
    }
}

/// Rows whose heights contradict each other.
#[derive(Default)]
pub(super) struct Contradicting {
    rows: usize,
    most_m: f64,
}

impl Contradicting {
    pub(super) fn note(&mut self, apart_m: f64) {
        self.rows += 1;
        self.most_m = self.most_m.max(apart_m);
    }

    /// For standard error.
    pub(super) fn text(&self) -> Option<String> {
        (self.rows > 0).then(|| {
            format!(
                "warning: in {} rows the heights above the ellipsoid and above the sea contradict each other, by up to {:.0} m beside the geoid: ellipses hold what either says, rows that are more than {:.0} m apart are refused; find which column is wrong, or leave it out",
                self.rows, self.most_m, level::MAX_CONTRADICTION_M
            )
        })
    }
}
