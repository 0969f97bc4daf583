//! The campaign in words and numbers, as Markdown. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::judge::{Kind, Outcome};
use super::{Campaign, Flown};
use crate::sim::faults::Fault;

const UNSAFE: [(Kind, &str); 8] = [
    (Kind::ArmedWithRedGate, "armed with a red gate"),
    (Kind::OutsideFence, "outside the fence without an abort"),
    (Kind::ClosedOnNothing, "dock closed on nothing"),
    (Kind::OpenedInRain, "dock opened for a launch in rain beyond the gate"),
    (Kind::FlewOnBeyondLimit, "flew on with no return commanded when a limit broke"),
    (Kind::SecondLaunch, "a second launch from one command"),
    (Kind::Crashed, "crashed"),
    (Kind::StillAloft, "still aloft when time was up"),
];

pub fn markdown(campaign: &Campaign) -> String {
    let flown = &campaign.flown;
    let mut text = String::new();
    // Writing to a string has no case in which it fails.
    let _ = write!(
        text,
        "{} sorties, seed {}, {} at a time, {} simulated seconds a second, {:.1} min. **Unsafe: {}.**\n\n",
        flown.len(),
        campaign.seed,
        campaign.parallel,
        campaign.speed,
        campaign.wall_s / 60.0,
        campaign.unsafe_count()
    );
    let columns: Vec<Outcome> =
        Outcome::ALL.into_iter().filter(|o| flown.iter().any(|f| f.verdict.outcome == *o)).collect();
    let heads: String = columns.iter().map(|o| format!(" {} |", o.words())).collect();
    let _ = writeln!(text, "| fault | sorties | came to it |{heads} unsafe |");
    let _ = writeln!(text, "|---|---:|---:|{}---:|", "---:|".repeat(columns.len()));
    row(&mut text, &columns, "none", flown.iter().filter(|f| f.faults.is_empty()).collect(), None);
    for kind in Fault::KINDS {
        let with = flown.iter().filter(|f| f.faults.iter().any(|t| t.planned.fault.kind() == kind)).collect();
        row(&mut text, &columns, kind, with, Some(kind));
    }
    row(&mut text, &columns, "**all**", flown.iter().collect(), None);
    text.push_str(
        "\nA sortie with two faults stands in two rows. *Came to it*: the fault began before the sortie was over.\n\n",
    );
    text.push_str("| unsafe | count |\n|---|---:|\n");
    for (kind, words) in UNSAFE {
        let count = flown.iter().flat_map(|f| &f.verdict.faults).filter(|f| f.kind == kind).count();
        let _ = writeln!(text, "| {words} | {count} |");
    }
    if let Some([half, most]) = launch_times(flown) {
        let _ = write!(text, "\nFrom the command to the air: median {half:.1} s, at most {most:.1} s");
        if let Some([gates, dock, rise]) = launch_steps(flown) {
            let _ = write!(
                text,
                " (medians by step: gates, failsafes and upload {gates:.1} s, dock {dock:.1} s, arming and rising {rise:.1} s)"
            );
        }
        text.push_str(".\n");
    }
    for missing in &campaign.left_out {
        let _ = write!(text, "\nLeft out: {missing}.\n");
    }
    for failed in &campaign.failed {
        let _ = write!(text, "\nNot flown: {failed}.\n");
    }
    let bad: Vec<_> = flown.iter().filter(|f| !f.verdict.faults.is_empty()).collect();
    if !bad.is_empty() {
        text.push_str("\n## Unsafe sorties\n\n");
    }
    for sortie in bad {
        examples(&mut text, campaign.seed, sortie);
    }
    let odd: Vec<_> = flown.iter().filter(|f| !agrees(f)).collect();
    if !odd.is_empty() {
        text.push_str("\n## What the station says otherwise\n\nNot unsafe, but a record that is wrong:\n\n");
    }
    for sortie in odd {
        let (state, reason) = sortie.station_says.clone().unwrap_or_else(|| ("nothing".to_owned(), String::new()));
        let truly = sortie.verdict.outcome.words();
        let _ = writeln!(text, "- {}: truly {truly}, it says {state} ({reason}). {}", sortie.number, faults(sortie));
    }
    text
}

fn row(text: &mut String, columns: &[Outcome], name: &str, of: Vec<&Flown>, kind: Option<&str>) {
    let came = |f: &&&Flown| {
        f.faults.iter().any(|t| t.at_s.is_some() && kind.is_none_or(|kind| t.planned.fault.kind() == kind))
    };
    let counts: BTreeMap<Outcome, usize> = of.iter().fold(BTreeMap::new(), |mut counts, f| {
        *counts.entry(f.verdict.outcome).or_default() += 1;
        counts
    });
    let cells: String = columns.iter().map(|o| format!(" {} |", counts.get(o).copied().unwrap_or(0))).collect();
    let unsafe_count: usize = of.iter().map(|f| f.verdict.faults.len()).sum();
    let _ = writeln!(text, "| {name} | {} | {} |{cells} {unsafe_count} |", of.len(), of.iter().filter(came).count());
}

/// Median and maximum, of the sorties whose launch no fault delayed.
fn launch_times(flown: &[Flown]) -> Option<[f64; 2]> {
    let mut times: Vec<f64> = undisturbed(flown).filter_map(|f| f.command_to_air_s).collect();
    times.sort_by(f64::total_cmp);
    Some([*times.get(times.len() / 2)?, *times.last()?])
}

/// The medians of their steps.
fn launch_steps(flown: &[Flown]) -> Option<[f64; 3]> {
    let steps: Vec<[f64; 3]> = undisturbed(flown).filter_map(|f| f.launch_steps_s).collect();
    let half = |step: usize| {
        let mut times: Vec<f64> = steps.iter().map(|s| s[step]).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied()
    };
    Some([half(0)?, half(1)?, half(2)?])
}

fn undisturbed(flown: &[Flown]) -> impl Iterator<Item = &Flown> {
    flown.iter().filter(|f| f.faults.iter().all(|t| t.at_s.is_none_or(|_| is_late(t))))
}

fn is_late(thrown: &super::sortie::Thrown) -> bool {
    use crate::sim::faults::When;
    matches!(thrown.planned.when, When::Airborne(_) | When::ComingHome(_))
}

fn faults(sortie: &Flown) -> String {
    let words: Vec<_> = sortie
        .faults
        .iter()
        .map(|t| format!("{}{}", t.words, if t.at_s.is_none() { " (did not come to it)" } else { "" }))
        .collect();
    if words.is_empty() { "No fault.".to_owned() } else { format!("Faults: {}.", words.join("; ")) }
}

fn examples(text: &mut String, seed: u64, sortie: &Flown) {
    let _ = writeln!(text, "- `--seed {seed} --only {}`: {}", sortie.number, faults(sortie));
    for fault in &sortie.verdict.faults {
        let _ = writeln!(text, "  - at {:.1} s: {}", fault.t_s, fault.why);
    }
}

/// Whether the station's record says what happened.
fn agrees(sortie: &Flown) -> bool {
    let state = sortie.station_says.as_ref().map(|(state, _)| state.as_str());
    match sortie.verdict.outcome {
        Outcome::Flown => state == Some("done"),
        Outcome::CameHomeEarly => state == Some("aborted"),
        Outcome::StayedDown => matches!(state, None | Some("refused")),
        // Which of them, the reason must say.
        Outcome::InOpenDock => matches!(state, Some("done" | "aborted" | "refused" | "landed_away")),
        Outcome::LandedAway | Outcome::Crashed => matches!(state, Some("landed_away" | "lost")),
        Outcome::StillAloft => !matches!(state, Some("done" | "aborted" | "refused")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge::{Rules, Unsafe, Verdict};
    use super::super::sortie::Thrown;
    use super::*;
    use crate::sim::faults::{Planned, When};

    fn flown(number: u32, outcome: Outcome, faults: Vec<Unsafe>) -> Flown {
        let planned = Planned { when: When::Airborne(2.0), fault: Fault::GpsLost { for_s: 5.0 } };
        Flown {
            number,
            faults: vec![Thrown { planned, words: planned.to_string(), at_s: Some(20.0) }],
            verdict: Verdict { outcome, faults },
            station_says: Some(("done".to_owned(), "flown to its end".to_owned())),
            command_to_air_s: Some(f64::from(number)),
            launch_steps_s: Some([2.0 * f64::from(number), 3.0, 0.5]),
            farthest_m: 80.0,
            wall_s: 40.0,
        }
    }

    #[test]
    fn the_table_counts_what_was_flown_and_names_every_unsafe_sortie_so_that_it_can_be_flown_again() {
        let why = "armed with rain above its limit".to_owned();
        let bad = Unsafe { kind: Kind::ArmedWithRedGate, t_s: 12.5, why };
        let campaign = Campaign {
            seed: 9,
            speed: 4.0,
            parallel: 2,
            wall_s: 90.0,
            rules: Rules::at_speed(4.0),
            left_out: Vec::new(),
            flown: vec![flown(1, Outcome::Flown, vec![]), flown(2, Outcome::LandedAway, vec![bad])],
            failed: Vec::new(),
        };
        let text = campaign.markdown();
        assert!(text.contains("**Unsafe: 1.**"), "{text}");
        assert!(text.contains("| GPS lost | 2 | 2 | 1 | 1 | 1 |"), "{text}");
        assert!(text.contains("| armed with a red gate | 1 |"), "{text}");
        assert!(text.contains("`--seed 9 --only 2`") && text.contains("at 12.5 s: armed with rain"), "{text}");
        assert!(text.contains("- 2: truly landed away, it says done"), "{text}");
        assert!(text.contains("median 2.0 s"), "{text}");
        assert!(text.contains("upload 4.0 s, dock 3.0 s, arming and rising 0.5 s"), "{text}");
    }
}
