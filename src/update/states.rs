//! Pure: where an update stands, and what may follow what. No clock, no I/O.
//!
//! ```text
//! idle ─▶ refreshed ─▶ fetching ─▶ staged ─▶ probed ─▶ shadow ─▶ trial ─▶ committed (idle again)
//!             └───────────┴──────────┴──────────┴─────────┴────────┴────▶ rolled back (idle again, digest refused)
//! ```
//!
//! [`step`] is the only way from one [`Record`] to the next, and [`in_charge`] the only answer to which model looks at
//! frames for the record. A release is in charge only in its trial, which is reached only through its probe.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::promote::{Goal, Watched};
use super::{back, promote};

/// Probes, or shadows, of one release that began and never said how they ended, as after a power cut.
pub const ATTEMPTS: u32 = 3;
/// Loads of a release on trial: power cuts on a roof are no fault of the model, five of them in one trial may be.
pub const LOADS: u32 = 5;

/// SHA-256 in hex of a release's document, which names the SHA-256 of every file in it.
pub type Digest = String;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub digest: Digest,
    pub name: String,
    pub version: String,
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({:.12})", self.name, self.version, self.digest)
    }
}

/// How far a candidate has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Its signed description is here.
    Refreshed,
    Fetching,
    /// All of its bytes are on the disk and are what was signed.
    Staged,
    /// A child loaded it and found in golden pictures what is there.
    Probed,
    /// It looks at live frames, and nobody hears of it.
    Shadow,
    /// In charge, and watched.
    Trial,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stage::Refreshed => "refreshed",
            Stage::Fetching => "fetching",
            Stage::Staged => "staged",
            Stage::Probed => "probed",
            Stage::Shadow => "shadow",
            Stage::Trial => "trial",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    pub release: Release,
    pub stage: Stage,
    /// When it came to this stage.
    pub since: Timestamp,
    #[serde(default)]
    pub probes: u32,
    #[serde(default)]
    pub shadows: u32,
    #[serde(default)]
    pub loads: u32,
}

/// What is refused from now on, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub release: Release,
    pub stage: Option<Stage>,
    pub reason: String,
    pub at: Timestamp,
}

/// Everything that is kept of one kind of update. No committed release: what came with aerie is in use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub committed: Option<Release>,
    /// Committed before, and kept: the way back.
    pub previous: Option<Release>,
    pub candidate: Option<Candidate>,
    #[serde(default)]
    pub refused: BTreeMap<Digest, Refusal>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The signed metadata name this release for this station.
    Offered {
        release: Release,
    },
    FetchBegun,
    /// Every byte was compared with its signed hash and is in its slot.
    Fetched,
    /// Counted before the child is started.
    ProbeBegun,
    ProbePassed {
        report: String,
    },
    /// Counted before the second child is started.
    ShadowBegun,
    /// Counted before the model is loaded in charge, for the first time.
    ShadowPassed {
        report: String,
    },
    /// The same at each start of the station, and of what has no shadow.
    Loading,
    TrialPassed {
        report: String,
    },
    /// The stage found it wanting.
    Failed {
        reason: String,
    },
    /// Its publisher took it back.
    Withdrawn {
        digest: Digest,
        reason: String,
    },
    /// Its publisher stopped the roll-out; the same release may be offered again.
    Halted {
        reason: String,
    },
    /// A person wants the named release one step on without waiting for the rest of this one.
    Promoted {
        by: String,
        release: String,
        to: Goal,
        #[serde(flatten)]
        watched: Watched,
    },
    /// A person wants a release gone: the named one, committed or under way; the one under way where none is named.
    RolledBack {
        by: String,
        reason: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<String>,
    },
}

/// What a step may rely on.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    pub now: Timestamp,
    /// Whether the signed metadata are of today: none of them has expired.
    pub fresh: bool,
}

/// Why an event changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("release {release} was refused on {at:.0}: {reason}")]
    Known { release: Box<Release>, at: Timestamp, reason: String },
    #[error("release {0} is committed already")]
    Committed(Box<Release>),
    #[error("release {0} is on trial; the next one waits for its end")]
    OnTrial(Box<Release>),
    #[error("no update is under way")]
    Nothing,
    #[error("an update at {at} cannot take {event}")]
    OutOfOrder { at: Stage, event: &'static str },
    #[error(
        "the signed metadata have expired: nothing is promoted until the station has heard from its repository again"
    )]
    Expired,
    #[error(
        "nothing is under way that could be given up; to go back from {0}, name it: `aerie model rollback {name}-{version} --reason TEXT`",
        name = .0.name,
        version = .0.version
    )]
    Unnamed(Box<Release>),
    #[error("nothing is under way and no release is committed: the station's own model is in use, and stays")]
    NoWayBack,
    #[error("{release} is in charge already, on trial; `aerie model promote {name}-{version} --commit` ends its trial", release = .0, name = .0.name, version = .0.version)]
    InCharge(Box<Release>),
    #[error(
        "{release} is at {at}: only one that looks along is put in charge by a word, and only one on trial is committed; it cannot be {to} now"
    )]
    NotThere { release: Box<Release>, at: Stage, to: Goal },
    #[error(
        "{release} has looked at {frames} live frames at this stage: at least {least} of the {wanted} are wanted before it is {to} by a word"
    )]
    TooSoon { release: Box<Release>, to: Goal, frames: u32, least: u32, wanted: u32 },
    #[error("no release here is called {named:?}; the order can mean {there}")]
    Unknown { named: String, there: String },
    #[error("{named:?} may be any of {those}; write more of its name and version, or of its digest")]
    Several { named: String, those: String },
    #[error("{0} is not in use, it is kept as the way back; `aerie model list` says what is")]
    KeptOnly(Box<Release>),
}

/// The next record, and what is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub record: Record,
    pub said: String,
}

/// The release that looks at frames for the record; none means the station's own model.
pub fn in_charge(record: &Record) -> Option<&Release> {
    match &record.candidate {
        Some(c) if c.stage == Stage::Trial => Some(&c.release),
        _ => record.committed.as_ref(),
    }
}

/// The releases whose files must stay.
pub fn kept(record: &Record) -> impl Iterator<Item = &Release> {
    let candidate = record.candidate.as_ref().map(|c| &c.release);
    record.committed.iter().chain(&record.previous).chain(candidate)
}

pub fn step(record: &Record, event: &Event, facts: Facts) -> Result<Step, Refused> {
    let mut next = record.clone();
    let said = match event {
        Event::Offered { release } => offered(&mut next, release, facts)?,
        Event::Withdrawn { digest, reason } => withdrawn(&mut next, digest, reason, facts)?,
        Event::RolledBack { by, reason, release } => {
            back::rolled_back(&mut next, by, reason, release.as_deref(), facts)?
        }
        Event::Promoted { by, release, to, watched } => promote::promoted(&mut next, by, release, *to, watched, facts)?,
        _ => onward(&mut next, event, facts)?,
    };
    Ok(Step { record: next, said })
}

fn offered(next: &mut Record, release: &Release, facts: Facts) -> Result<String, Refused> {
    if let Some(known) = next.refused.get(&release.digest) {
        let Refusal { release, at, reason, .. } = known.clone();
        return Err(Refused::Known { release: Box::new(release), at, reason });
    }
    if let Some(committed) = next.committed.as_ref().filter(|c| c.digest == release.digest) {
        return Err(Refused::Committed(Box::new(committed.clone())));
    }
    let mut instead = String::new();
    if let Some(under_way) = &next.candidate {
        if under_way.release.digest == release.digest {
            return Err(Refused::OutOfOrder { at: under_way.stage, event: "the same release again" });
        }
        if under_way.stage == Stage::Trial {
            return Err(Refused::OnTrial(Box::new(under_way.release.clone())));
        }
        instead = format!(" instead of {}", under_way.release);
    }
    next.candidate = Some(Candidate {
        release: release.clone(),
        stage: Stage::Refreshed,
        since: facts.now,
        probes: 0,
        shadows: 0,
        loads: 0,
    });
    Ok(format!("{release} is offered{instead}"))
}

fn withdrawn(next: &mut Record, digest: &Digest, reason: &str, facts: Facts) -> Result<String, Refused> {
    let reason = format!("withdrawn by its publisher: {reason}");
    if let Some(c) = next.candidate.take_if(|c| c.release.digest == *digest) {
        let said = format!("{}: {reason}", c.release);
        refuse(next, c.release, Some(c.stage), reason, facts);
        return Ok(said);
    }
    if let Some(committed) = next.committed.take_if(|c| c.digest == *digest) {
        next.committed = next.previous.take();
        let said = format!("{committed}: {reason}; back to {}", name(next.committed.as_ref()));
        refuse(next, committed, None, reason, facts);
        return Ok(said);
    }
    if let Some(previous) = next.previous.take_if(|p| p.digest == *digest) {
        let said = format!("{previous}: {reason}; it is no way back any more");
        refuse(next, previous, None, reason, facts);
        return Ok(said);
    }
    Err(Refused::Nothing)
}

/// What concerns the candidate at its stage.
fn onward(next: &mut Record, event: &Event, facts: Facts) -> Result<String, Refused> {
    let candidate = next.candidate.as_mut().ok_or(Refused::Nothing)?;
    let (release, stage) = (candidate.release.clone(), candidate.stage);
    let mut go = |to: Stage| {
        candidate.stage = to;
        candidate.since = facts.now;
    };
    let said = match (stage, event) {
        (Stage::Refreshed | Stage::Fetching, Event::FetchBegun) => {
            go(Stage::Fetching);
            format!("{release} is being fetched")
        }
        (Stage::Fetching, Event::Fetched) => {
            go(Stage::Staged);
            format!("{release} is here, as it was signed")
        }
        (Stage::Staged, Event::ProbeBegun) => {
            if candidate.probes >= ATTEMPTS {
                let reason = format!("{ATTEMPTS} probes began and none ended; loading it takes this computer down");
                return Ok(give_up(next, reason, facts));
            }
            candidate.probes += 1;
            format!("probe {} of {release} begins", candidate.probes)
        }
        (Stage::Staged, Event::ProbePassed { report }) if candidate.probes > 0 => {
            go(Stage::Probed);
            format!("{release} passed its probe: {report}")
        }
        (Stage::Probed | Stage::Shadow, Event::ShadowBegun) => {
            if candidate.shadows >= ATTEMPTS * 4 {
                return Ok(give_up(
                    next,
                    format!("its shadow was begun {} times and never ended", ATTEMPTS * 4),
                    facts,
                ));
            }
            candidate.shadows += 1;
            go(Stage::Shadow);
            format!("{release} looks along, unheard")
        }
        (Stage::Shadow, Event::Loading | Event::ShadowPassed { .. }) => {
            if !facts.fresh {
                return Err(Refused::Expired);
            }
            candidate.loads = 1;
            go(Stage::Trial);
            let report = if let Event::ShadowPassed { report } = event { format!(": {report}") } else { String::new() };
            format!("{release} is in charge, on trial{report}")
        }
        (Stage::Trial, Event::Loading) => {
            if candidate.loads >= LOADS {
                return Ok(give_up(next, format!("loaded {LOADS} times within one trial, which never ended"), facts));
            }
            candidate.loads += 1;
            format!("{release} is loaded again in its trial, for the {}. time", candidate.loads)
        }
        (Stage::Trial, Event::TrialPassed { report }) => {
            commit(next, release, &format!("passed its trial: {report}"), facts)?
        }
        (_, Event::Failed { reason }) => give_up(next, reason.clone(), facts),
        (_, Event::Halted { reason }) => {
            next.candidate = None;
            format!("{release} is halted by its publisher: {reason}; {} stays", name(next.committed.as_ref()))
        }
        (at, event) => return Err(Refused::OutOfOrder { at, event: event.name() }),
    };
    Ok(said)
}

pub(super) fn commit(next: &mut Record, release: Release, why: &str, facts: Facts) -> Result<String, Refused> {
    if !facts.fresh {
        return Err(Refused::Expired);
    }
    next.candidate = None;
    let said = format!("{release} is committed: {why}");
    next.previous = next.committed.replace(release);
    Ok(said)
}

fn give_up(next: &mut Record, reason: String, facts: Facts) -> String {
    let Some(c) = next.candidate.take() else { return reason };
    let said = format!("{} failed at {}: {reason}; {} stays", c.release, c.stage, name(next.committed.as_ref()));
    refuse(next, c.release, Some(c.stage), reason, facts);
    said
}

pub(super) fn refuse(next: &mut Record, release: Release, stage: Option<Stage>, reason: String, facts: Facts) {
    next.refused.insert(release.digest.clone(), Refusal { release, stage, reason, at: facts.now });
}

pub(super) fn name(release: Option<&Release>) -> String {
    release.map_or_else(|| "the station's own model".to_owned(), ToString::to_string)
}

impl Event {
    pub fn name(&self) -> &'static str {
        match self {
            Event::Offered { .. } => "an offer",
            Event::FetchBegun => "a fetch",
            Event::Fetched => "the end of a fetch",
            Event::ProbeBegun => "a probe",
            Event::ProbePassed { .. } => "a passed probe",
            Event::ShadowBegun => "a shadow",
            Event::ShadowPassed { .. } => "a passed shadow",
            Event::Loading => "a load",
            Event::TrialPassed { .. } => "a passed trial",
            Event::Failed { .. } => "a failure",
            Event::Withdrawn { .. } => "a withdrawal",
            Event::Halted { .. } => "a halt",
            Event::Promoted { .. } => "a promotion",
            Event::RolledBack { .. } => "a rollback",
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub fn release(letter: char) -> Release {
        Release { digest: letter.to_string().repeat(64), name: "m".into(), version: letter.to_string() }
    }

    pub fn facts(fresh: bool) -> Facts {
        Facts { now: Timestamp::from_second(1_800_000_000).unwrap(), fresh }
    }

    /// The events of a release that does everything right.
    pub fn good(letter: char) -> Vec<Event> {
        let report = || "fine".to_owned();
        vec![
            Event::Offered { release: release(letter) },
            Event::FetchBegun,
            Event::Fetched,
            Event::ProbeBegun,
            Event::ProbePassed { report: report() },
            Event::ShadowBegun,
            Event::ShadowPassed { report: report() },
            Event::TrialPassed { report: report() },
        ]
    }

    pub fn run(record: Record, events: &[Event]) -> Record {
        events.iter().fold(record, |record, event| step(&record, event, facts(true)).unwrap().record)
    }

    #[test]
    fn a_good_release_is_committed_and_the_one_before_stays_as_the_way_back() {
        let one = run(Record::default(), &good('a'));
        assert_eq!(in_charge(&one), Some(&release('a')));
        let two = run(one, &good('b'));
        assert_eq!((two.committed, two.previous), (Some(release('b')), Some(release('a'))));
    }

    #[test]
    fn what_failed_at_any_stage_is_refused_from_then_on_and_never_replaces_the_committed_one() {
        for stage in 1..=7 {
            let before = run(run(Record::default(), &good('a')), &good('b')[..stage]);
            let after = step(&before, &Event::Failed { reason: "bad".into() }, facts(true)).unwrap().record;
            assert_eq!(in_charge(&after), Some(&release('a')), "stage {stage}");
            let again = step(&after, &Event::Offered { release: release('b') }, facts(true));
            assert!(matches!(again, Err(Refused::Known { reason, .. }) if reason == "bad"));
        }
    }

    #[test]
    fn a_probe_that_takes_the_computer_down_each_time_is_not_tried_for_ever() {
        let mut record = run(Record::default(), &good('a')[..3]);
        for _ in 0..ATTEMPTS {
            record = step(&record, &Event::ProbeBegun, facts(true)).unwrap().record;
            assert!(record.candidate.is_some());
        }
        let given_up = step(&record, &Event::ProbeBegun, facts(true)).unwrap();
        assert!(given_up.record.candidate.is_none() && given_up.said.contains("takes this computer down"));
    }

    #[test]
    fn a_trial_that_takes_the_station_down_each_time_ends_with_the_committed_model() {
        let mut record = run(run(Record::default(), &good('a')), &good('b')[..7]);
        let mut loads = 1;
        while in_charge(&record) == Some(&release('b')) {
            record = step(&record, &Event::Loading, facts(false)).unwrap().record;
            loads += 1;
        }
        assert_eq!((loads, in_charge(&record)), (LOADS + 1, Some(&release('a'))));
    }

    #[test]
    fn expired_metadata_promote_nothing_and_leave_the_running_model_alone() {
        let shadow = run(run(Record::default(), &good('a')), &good('b')[..6]);
        let word = |to| Event::Promoted { by: "x".into(), release: "m-b".into(), to, watched: watched(200) };
        for event in [Event::Loading, word(Goal::Trial)] {
            assert_eq!(step(&shadow, &event, facts(false)), Err(Refused::Expired));
        }
        let trial = run(shadow.clone(), &[Event::Loading]);
        let passed = Event::TrialPassed { report: String::new() };
        assert_eq!(step(&trial, &passed, facts(false)), Err(Refused::Expired));
        assert_eq!(step(&trial, &word(Goal::Committed), facts(false)), Err(Refused::Expired));
        assert_eq!(in_charge(&shadow), Some(&release('a')));
        // A station that starts while they are expired goes on with what it has.
        assert!(step(&trial, &Event::Loading, facts(false)).is_ok());
    }

    #[test]
    fn a_second_release_takes_the_place_of_one_that_is_not_in_charge_yet_and_waits_for_one_that_is() {
        let shadow = run(Record::default(), &good('a')[..6]);
        let offer = Event::Offered { release: release('b') };
        let replaced = step(&shadow, &offer, facts(true)).unwrap().record;
        assert_eq!(replaced.candidate.unwrap().release, release('b'));
        let trial = run(shadow, &[Event::Loading]);
        assert_eq!(step(&trial, &offer, facts(true)), Err(Refused::OnTrial(Box::new(release('a')))));
    }

    #[test]
    fn a_withdrawn_release_goes_wherever_it_is_and_the_way_back_is_taken() {
        let two = run(run(Record::default(), &good('a')), &good('b'));
        let gone = |letter: char| Event::Withdrawn { digest: release(letter).digest, reason: "bad".into() };
        let back = step(&two, &gone('b'), facts(false)).unwrap().record;
        assert_eq!(in_charge(&back), Some(&release('a')));
        let none = step(&back, &gone('a'), facts(false)).unwrap().record;
        assert_eq!((in_charge(&none), none.refused.len()), (None, 2));
        assert_eq!(step(&none, &gone('c'), facts(true)), Err(Refused::Nothing));
    }

    #[test]
    fn a_halted_release_may_be_offered_again() {
        let trial = run(run(Record::default(), &good('a')), &good('b')[..7]);
        let halted = step(&trial, &Event::Halted { reason: "wait".into() }, facts(false)).unwrap().record;
        assert_eq!(in_charge(&halted), Some(&release('a')));
        assert!(step(&halted, &Event::Offered { release: release('b') }, facts(true)).is_ok());
    }

    pub fn back(release: Option<&str>) -> Event {
        Event::RolledBack { by: "x".into(), reason: "y".into(), release: release.map(str::to_owned) }
    }

    fn watched(frames: u32) -> Watched {
        Watched { frames, wanted: 200, so_far: String::new() }
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let letter = prop_oneof![Just('a'), Just('b'), Just('c')];
        let named = prop_oneof![Just("m-a"), Just("m-b"), Just("m")];
        prop_oneof![
            letter.clone().prop_map(|l| Event::Offered { release: release(l) }),
            Just(Event::FetchBegun),
            Just(Event::Fetched),
            Just(Event::ProbeBegun),
            Just(Event::ProbePassed { report: String::new() }),
            Just(Event::ShadowBegun),
            Just(Event::Loading),
            Just(Event::ShadowPassed { report: String::new() }),
            Just(Event::TrialPassed { report: String::new() }),
            Just(Event::Failed { reason: "bad".into() }),
            letter.prop_map(|l| Event::Withdrawn { digest: release(l).digest, reason: "bad".into() }),
            Just(Event::Halted { reason: "wait".into() }),
            (named.clone(), prop_oneof![Just(Goal::Trial), Just(Goal::Committed)], 0..40u32).prop_map(
                |(r, to, frames)| {
                    Event::Promoted { by: "x".into(), release: r.into(), to, watched: watched(frames) }
                }
            ),
            Just(back(None)),
            named.prop_map(|r| back(Some(r))),
        ]
    }

    proptest! {
        /// Invariant 6, over any order of events: nothing is in charge that did not pass fetch and probe, or that is refused.
        #[test]
        fn whatever_happens_no_unproven_and_no_refused_release_is_ever_in_charge(
            events in proptest::collection::vec((any_event(), any::<bool>()), 1..80)
        ) {
            let mut record = Record::default();
            let (mut fetched, mut probed) = (Vec::new(), Vec::new());
            for (event, fresh) in events {
                let before = record.clone();
                let Ok(next) = step(&record, &event, facts(fresh)) else { continue };
                record = next.record;
                let candidate = before.candidate.map(|c| c.release.digest);
                match event {
                    Event::Fetched => fetched.extend(candidate),
                    Event::ProbePassed { .. } => probed.extend(candidate),
                    _ => {}
                }
                if let Some(release) = in_charge(&record) {
                    prop_assert!(fetched.contains(&release.digest) && probed.contains(&release.digest));
                    prop_assert!(!record.refused.contains_key(&release.digest));
                    prop_assert!(kept(&record).any(|kept| kept == release));
                }
                prop_assert!(record.previous.is_none() || record.previous != record.committed);
            }
        }
    }
}
