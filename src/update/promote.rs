//! Pure: what a person's word to go on means. It shortens a shadow or a trial, and skips neither: some live frames there are.

use serde::{Deserialize, Serialize};

use super::back::meant;
use super::states::{Facts, Record, Refused, Stage, commit};

/// Of the frames that a shadow or a trial is to last, so many there must have been before a person may end it: one in ten.
const LEAST: u32 = 10;

/// Where a person wants a release. Each is one step, so that the same order given twice takes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// From the shadow into charge.
    Trial,
    /// From its trial to be the committed one.
    Committed,
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Goal::Trial => "put in charge",
            Goal::Committed => "committed",
        })
    }
}

/// What a shadow or a trial has shown so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Live frames that it looked at.
    pub frames: u32,
    /// How many it was to look at.
    pub wanted: u32,
    /// What came of them, in words.
    pub so_far: String,
}

impl Watched {
    pub fn least(&self) -> u32 {
        self.wanted.div_ceil(LEAST).max(1)
    }
}

pub fn promoted(
    next: &mut Record,
    by: &str,
    named: &str,
    to: Goal,
    watched: &Watched,
    facts: Facts,
) -> Result<String, Refused> {
    let under_way: Vec<_> = next.candidate.iter().map(|c| &c.release).collect();
    meant(next, named, &under_way)?;
    let candidate = next.candidate.as_mut().ok_or(Refused::Nothing)?;
    let release = candidate.release.clone();
    match (candidate.stage, to) {
        (Stage::Shadow, Goal::Trial) | (Stage::Trial, Goal::Committed) => {}
        (Stage::Trial, Goal::Trial) => return Err(Refused::InCharge(Box::new(release))),
        (at, to) => return Err(Refused::NotThere { release: Box::new(release), at, to }),
    }
    let Watched { frames, wanted, so_far } = watched;
    if *frames < watched.least() {
        let (frames, wanted, least) = (*frames, *wanted, watched.least());
        return Err(Refused::TooSoon { release: Box::new(release), to, frames, least, wanted });
    }
    if !facts.fresh {
        return Err(Refused::Expired);
    }
    let seen = format!("by the word of {by} after {frames} of {wanted} live frames: {so_far}");
    match to {
        Goal::Committed => commit(next, release, &seen, facts),
        Goal::Trial => {
            (candidate.stage, candidate.since, candidate.loads) = (Stage::Trial, facts.now, 1);
            Ok(format!("{release} is in charge, on trial, {seen}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::states::tests::{facts, good, release, run};
    use super::super::states::{Event, in_charge, step};
    use super::*;

    fn word(named: &str, to: Goal, frames: u32) -> Event {
        let watched = Watched { frames, wanted: 200, so_far: "12 things".into() };
        Event::Promoted { by: "chief".into(), release: named.into(), to, watched }
    }

    fn at(stage: usize) -> Record {
        run(run(Record::default(), &good('a')), &good('b')[..stage])
    }

    #[test]
    fn a_promotion_given_twice_takes_one_step_and_the_second_is_told_what_would_take_the_next() {
        let once = step(&at(6), &word("m-b", Goal::Trial, 20), facts(true)).unwrap();
        assert!(once.said.contains("on trial, by the word of chief after 20 of 200 live frames: 12 things"));
        let again = step(&once.record, &word("m-b", Goal::Trial, 200), facts(true)).unwrap_err();
        assert!(again.to_string().contains("`aerie model promote m-b --commit`"), "{again}");
        let done = step(&once.record, &word("m-b", Goal::Committed, 20), facts(true)).unwrap();
        assert_eq!(done.record.committed, Some(release('b')));
        let again = step(&done.record, &word("m-b", Goal::Committed, 200), facts(true));
        assert_eq!(again, Err(Refused::Committed(Box::new(release('b')))));
    }

    #[test]
    fn no_word_puts_in_charge_or_commits_what_has_not_looked_at_its_tenth_of_the_live_frames() {
        for stage in 1..=7 {
            for to in [Goal::Trial, Goal::Committed] {
                for frames in [0, 19] {
                    let refused = step(&at(stage), &word("m-b", to, frames), facts(true));
                    assert!(refused.is_err(), "stage {stage}, {to:?}, {frames} frames: {refused:?}");
                }
                // However many frames are claimed, no stage is skipped.
                let next = step(&at(stage), &word("m-b", to, 200), facts(true));
                assert_eq!(
                    next.is_ok(),
                    matches!((stage, to), (6, Goal::Trial) | (7, Goal::Committed)),
                    "stage {stage}"
                );
            }
        }
        let soon = step(&at(6), &word("m-b", Goal::Trial, 19), facts(true)).unwrap_err();
        assert!(soon.to_string().contains("19 live frames") && soon.to_string().contains("at least 20"), "{soon}");
        assert_eq!((Watched::default().least(), Watched { wanted: 5, ..Watched::default() }.least()), (1, 1));
    }

    #[test]
    fn a_promotion_of_another_release_than_the_one_under_way_moves_nothing() {
        let under_way = at(6);
        assert!(matches!(step(&under_way, &word("m-a", Goal::Trial, 200), facts(true)), Err(Refused::Committed(_))));
        assert!(matches!(step(&under_way, &word("m", Goal::Trial, 200), facts(true)), Err(Refused::Several { .. })));
        let none = step(&under_way, &word("m-z", Goal::Trial, 200), facts(true)).unwrap_err();
        assert!(none.to_string().contains("m-b (bbbbbbbbbbbb)"), "{none}");
        let gone = step(&under_way, &Event::Failed { reason: "bad".into() }, facts(true)).unwrap().record;
        assert!(matches!(step(&gone, &word("m-b", Goal::Trial, 200), facts(true)), Err(Refused::Known { .. })));
        assert_eq!(in_charge(&gone), Some(&release('a')));
    }
}
