//! Pure: what a sortie is, and what may follow. Every transition has a reason and is journalled before it is acted on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::config::Identification;
use super::gates::Gate;
use crate::cases::keeper::Harvest;
use crate::geo::LatLon;
use crate::perception::ledger::Survey;
use crate::vehicle::Along;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Planned,
    Gating,
    DockOpening,
    Arming,
    Airborne,
    /// In the air, holding by an operator's order.
    Paused,
    /// Taken over after a restart, or found in the air: what it does is being found out.
    Adopted,
    Returning,
    Landing,
    DockClosing,
    Done,
    /// Never left the dock: a gate, the drone or the dock said no.
    Refused,
    /// Was due but could not be tried.
    Missed,
    /// Flew and came back before its end.
    Aborted,
    /// Down, but not in the dock.
    LandedAway,
    /// Nobody knows where it is.
    Lost,
}

impl State {
    pub const ALL: [State; 16] = [
        State::Planned,
        State::Gating,
        State::DockOpening,
        State::Arming,
        State::Airborne,
        State::Paused,
        State::Adopted,
        State::Returning,
        State::Landing,
        State::DockClosing,
        State::Done,
        State::Refused,
        State::Missed,
        State::Aborted,
        State::LandedAway,
        State::Lost,
    ];

    pub fn is_terminal(self) -> bool {
        use State::*;
        matches!(self, Done | Refused | Missed | Aborted | LandedAway | Lost)
    }

    /// Whether the drone may be in the air.
    pub fn is_flying(self) -> bool {
        use State::*;
        matches!(self, Arming | Airborne | Paused | Adopted | Returning | Landing)
    }

    /// Nothing begins that is not on the disk. What has begun is brought to its end whatever the disk does: a drone in the
    /// air is followed, an open hatch closed.
    pub fn waits_for_its_record(self) -> bool {
        use State::*;
        matches!(self, Planned | Gating | DockOpening | Arming)
    }

    /// What may follow.
    pub fn may_become(self, next: State) -> bool {
        use State::*;
        match self {
            // A drone found in the air belongs to a sortie that nobody planned.
            Planned => matches!(next, Gating | Refused | Missed | Adopted),
            Gating => matches!(next, DockOpening | Refused),
            // The dock opened for nothing is closed again before the sortie ends.
            DockOpening => matches!(next, Arming | DockClosing | Refused),
            Arming => matches!(next, Airborne | DockClosing | Adopted | Lost),
            Airborne => matches!(next, Paused | Returning | Landing | Adopted | Lost),
            Paused => matches!(next, Airborne | Returning | Landing | Adopted | Lost),
            Adopted => matches!(next, Airborne | Paused | Returning | Landing | DockClosing | Lost),
            Returning => matches!(next, Landing | Adopted | Lost),
            Landing => matches!(next, DockClosing | LandedAway | Adopted | Lost),
            DockClosing => matches!(next, Done | Refused | Aborted),
            Done | Refused | Missed | Aborted | LandedAway | Lost => false,
        }
    }
}

/// Who asked for the sortie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    Schedule,
    /// Nobody: the drone was found in the air.
    Found,
    Page,
    Cli,
    Mqtt,
    /// Somebody wanted a look at a place.
    Request,
}

/// One step of a sortie, for the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub at: Timestamp,
    pub state: State,
    pub reason: String,
}

/// A sortie's record: what is stored, shown and sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sortie {
    pub id: String,
    pub patrol: String,
    pub patrol_name: String,
    pub trigger: Trigger,
    pub operator: Option<String>,
    pub state: State,
    pub reason: String,
    pub planned_at: Timestamp,
    /// In the air since.
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub frames: u64,
    pub frames_lost: u64,
    /// Cases opened and seen again.
    pub cases: u64,
    pub coverage: f64,
    /// How well the area was seen, and which pictures were not looked at.
    #[serde(default)]
    pub survey: Survey,
    pub progress: f64,
    pub gates: Vec<Gate>,
    /// The number of its first picture, as far as the camera told before the take-off.
    #[serde(default)]
    pub first_picture: Option<u32>,
    pub route: Vec<LatLon>,
    /// How far along its route it came.
    #[serde(default)]
    pub covered: Option<Along>,
    /// The sortie whose rest this one flies.
    #[serde(default)]
    pub continues: Option<String>,
    /// The request that it answers.
    #[serde(default)]
    pub request: Option<String>,
    /// Why it was called home before its end.
    #[serde(default)]
    pub early: Option<String>,
    /// The approval that it flew under.
    #[serde(default)]
    pub approval: Option<String>,
    /// Registration and application, as the configuration has them.
    #[serde(default)]
    pub identification: Option<Identification>,
    pub steps: Vec<Step>,
    /// Events made of it so far.
    pub sequence: u64,
}

#[derive(Debug, thiserror::Error, PartialEq)]
#[error("a sortie that is {from:?} cannot become {to:?}")]
pub struct IllegalStep {
    pub from: State,
    pub to: State,
}

impl Sortie {
    pub fn new(
        id: String,
        patrol: &str,
        patrol_name: &str,
        trigger: Trigger,
        operator: Option<String>,
        now: Timestamp,
    ) -> Sortie {
        Sortie {
            id,
            patrol: patrol.to_owned(),
            patrol_name: patrol_name.to_owned(),
            trigger,
            operator,
            state: State::Planned,
            reason: "asked for".to_owned(),
            planned_at: now,
            started_at: None,
            ended_at: None,
            frames: 0,
            frames_lost: 0,
            cases: 0,
            coverage: 0.0,
            survey: Survey::default(),
            progress: 0.0,
            gates: Vec::new(),
            first_picture: None,
            route: Vec::new(),
            covered: None,
            continues: None,
            request: None,
            early: None,
            approval: None,
            identification: None,
            steps: vec![Step { at: now, state: State::Planned, reason: "asked for".to_owned() }],
            sequence: 0,
        }
    }

    /// Takes the step, or refuses one that may not follow.
    pub fn become_(&mut self, next: State, reason: &str, now: Timestamp) -> Result<(), IllegalStep> {
        if !self.state.may_become(next) {
            return Err(IllegalStep { from: self.state, to: next });
        }
        self.state = next;
        self.reason = reason.to_owned();
        self.steps.push(Step { at: now, state: next, reason: reason.to_owned() });
        if next == State::Airborne {
            self.started_at.get_or_insert(now);
        }
        if next.is_terminal() {
            self.ended_at = Some(now);
        }
        Ok(())
    }

    /// Takes the numbers over. An empty book says nothing: before a restart it may have been closed, and then stored.
    pub fn reap(&mut self, harvest: &Harvest) {
        if harvest.is_empty() {
            return;
        }
        self.frames = harvest.frames;
        self.frames_lost = harvest.lost;
        self.cases = harvest.opened + harvest.seen_again;
        self.coverage = harvest.survey.seen;
        self.survey = harvest.survey;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_path_reaches_the_air_without_the_gates_and_the_open_dock(choices in prop::collection::vec(0usize..16, 0..40)) {
            let mut sortie = Sortie::new("s".into(), "p", "p", Trigger::Cli, None, Timestamp::UNIX_EPOCH);
            for choice in choices {
                let _ = sortie.become_(State::ALL[choice], "drawn", Timestamp::UNIX_EPOCH);
            }
            let states: Vec<State> = sortie.steps.iter().map(|s| s.state).collect();
            if let Some(armed) = states.iter().position(|s| *s == State::Arming) {
                prop_assert_eq!(&states[..armed], &[State::Planned, State::Gating, State::DockOpening]);
            }
            prop_assert_eq!(sortie.ended_at.is_some(), sortie.state.is_terminal());
        }
    }

    #[test]
    fn only_the_open_dock_leads_to_arming() {
        for from in State::ALL {
            assert_eq!(from.may_become(State::Arming), from == State::DockOpening, "{from:?}");
            assert_eq!(from.may_become(State::DockOpening), from == State::Gating, "{from:?}");
        }
    }

    #[test]
    fn what_opens_the_dock_or_arms_waits_for_its_record_and_what_ends_a_flight_never_does() {
        for state in State::ALL {
            let begins = matches!(state, State::Planned | State::Gating | State::DockOpening | State::Arming);
            assert_eq!(state.waits_for_its_record(), begins, "{state:?}");
        }
    }

    #[test]
    fn every_state_in_which_it_may_fly_can_be_adopted() {
        for from in State::ALL.into_iter().filter(|s| s.is_flying() && *s != State::Adopted) {
            assert!(from.may_become(State::Adopted), "{from:?}");
        }
    }

    #[test]
    fn every_state_that_is_not_an_end_has_a_way_to_one() {
        for from in State::ALL {
            let mut reached = vec![from];
            let mut index = 0;
            while index < reached.len() {
                let here = reached[index];
                reached.extend(
                    State::ALL.into_iter().filter(|n| here.may_become(*n) && !reached.contains(n)).collect::<Vec<_>>(),
                );
                index += 1;
            }
            assert!(reached.iter().any(|s| s.is_terminal()), "{from:?} never ends");
        }
    }

    #[test]
    fn what_has_ended_stays_ended() {
        for end in State::ALL.into_iter().filter(|s| s.is_terminal()) {
            assert!(State::ALL.into_iter().all(|next| !end.may_become(next)), "{end:?}");
        }
    }
}
