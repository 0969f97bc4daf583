//! Pure: how well a station did, from what an independent subscriber received and what was really there.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::geo::LatLon;

/// A case and a planted violation are the same when they are of one kind and nearer than this.
pub const MATCH_M: f64 = 10.0;

#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    pub kind: String,
    pub at: LatLon,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    pub planted: usize,
    pub found: usize,
    pub missed: Vec<String>,
    /// Cases that match nothing that was planted.
    pub false_cases: usize,
    pub false_kinds: Vec<String>,
    /// Cases beside another of the same kind on the same planted thing.
    pub duplicates: usize,
    pub position_error_m: Spread,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    pub median: Option<f64>,
    pub p95: Option<f64>,
}

/// Matches one to one, nearest pairs first.
pub fn score(truth: &[Placed], cases: &[Placed]) -> Score {
    let near = |t: &Placed, c: &Placed| (t.kind == c.kind).then(|| t.at.distance_m(c.at)).filter(|d| *d <= MATCH_M);
    let mut pairs: Vec<(f64, usize, usize)> = truth
        .iter()
        .enumerate()
        .flat_map(|(i, t)| cases.iter().enumerate().filter_map(move |(j, c)| Some((near(t, c)?, i, j))))
        .collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut found, mut used, mut errors) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for (distance, i, j) in pairs {
        if !found.contains(&i) && !used.contains(&j) {
            found.insert(i);
            used.insert(j);
            errors.push(distance);
        }
    }
    let unmatched: Vec<&Placed> = cases.iter().enumerate().filter(|(j, _)| !used.contains(j)).map(|(_, c)| c).collect();
    let (doubled, wrong): (Vec<&Placed>, Vec<&Placed>) =
        unmatched.into_iter().partition(|c| truth.iter().any(|t| near(t, c).is_some()));
    Score {
        planted: truth.len(),
        found: found.len(),
        missed: truth.iter().enumerate().filter(|(i, _)| !found.contains(i)).map(|(_, t)| t.kind.clone()).collect(),
        false_cases: wrong.len(),
        false_kinds: wrong.iter().map(|c| c.kind.clone()).collect(),
        duplicates: doubled.len(),
        position_error_m: Spread { median: percentile(&errors, 0.5), p95: percentile(&errors, 0.95) },
    }
}

/// The value below which `share` of the sorted values lie (nearest rank).
pub fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).map(|v| (v * 100.0).round() / 100.0)
}

/// What the subscriber wrote: one JSON object a line, `topic` and `payload`.
#[derive(Debug, Default, PartialEq)]
pub struct Received {
    /// The newest event of each case.
    pub cases: BTreeMap<String, Placed>,
    /// How often each event id came.
    pub events: BTreeMap<String, usize>,
    /// Events of a case that came out of order, or with a gap.
    pub disordered: usize,
}

pub fn received(lines: &str) -> Received {
    let mut received = Received::default();
    let mut sequences: BTreeMap<String, u64> = BTreeMap::new();
    for event in lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let payload = &event["payload"];
        if payload["type"] != "aerie.case.v1" {
            continue;
        }
        let (Some(id), Some(case), Some(sequence)) =
            (payload["id"].as_str(), payload["subject"].as_str(), payload["sequence"].as_u64())
        else {
            continue;
        };
        let repeats = received.events.entry(id.to_owned()).or_default();
        *repeats += 1;
        if *repeats > 1 {
            continue;
        }
        let last = sequences.insert(case.to_owned(), sequence).unwrap_or(0);
        if sequence != last + 1 {
            received.disordered += 1;
        }
        let feature = &payload["data"];
        let coordinates = &feature["geometry"]["coordinates"];
        if let (Some(lon), Some(lat), Some(kind)) =
            (coordinates[0].as_f64(), coordinates[1].as_f64(), feature["properties"]["kind"].as_str())
        {
            received.cases.insert(case.to_owned(), Placed { kind: kind.to_owned(), at: LatLon { lat, lon } });
        }
    }
    received
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::geo::LocalFrame;

    fn placed(kind: &str, east: f64, north: f64) -> Placed {
        let frame = LocalFrame::new(LatLon { lat: 23.0, lon: 113.0 });
        Placed { kind: kind.to_owned(), at: frame.to_latlon(east, north) }
    }

    #[test]
    fn found_missed_false_and_doubled_are_told_apart() {
        let truth = [placed("garbage", 0.0, 0.0), placed("garbage", 50.0, 0.0), placed("burning", 100.0, 0.0)];
        let cases = [
            placed("garbage", 1.0, 0.0),
            placed("garbage", 4.0, 0.0),    // a second case on the first heap
            placed("earthwork", 50.0, 1.0), // right place, wrong kind
            placed("burning", 100.0, 11.0), // too far
        ];
        let score = score(&truth, &cases);
        assert_eq!((score.found, score.duplicates, score.false_cases), (1, 1, 2));
        assert_eq!(score.missed, ["garbage", "burning"]);
        assert_eq!(score.position_error_m.median, Some(1.0));
    }

    #[test]
    fn repeats_are_counted_and_gaps_are_seen() {
        let event = |sequence: u64| {
            json!({"topic": "aerie/v1/s/case/A", "payload": {"type": "aerie.case.v1", "id": format!("A/{sequence}"),
                "subject": "A", "sequence": sequence, "data": {"geometry": {"coordinates": [113.0, 23.0]},
                "properties": {"kind": "garbage"}}}})
            .to_string()
        };
        let lines = [event(1), event(1), event(2), event(4)].join("\n");
        let received = received(&lines);
        assert_eq!(received.events["A/1"], 2);
        assert_eq!(received.disordered, 1);
        assert_eq!(received.cases.len(), 1);
    }
}
