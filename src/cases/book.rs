//! Pure: from sightings to cases. No clock, no I/O.
//!
//! Within a sortie, sightings of one place are one *thing*. A thing becomes a case once it was seen often enough among
//! the frames that could have shown it; a case that is already known at that place takes it up instead.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::adjust;
use super::belief::{self, Belief};
use super::kinds::Kind;
use super::place::Stance;
use super::register::Register;
use super::verdict::{Peace, Verdict};
use crate::geo::{self, LatLon, Located};
pub use crate::perception::ledger::View;

/// A thing that one look showed surely, and the others did not yet confirm, is looked at so often before it is let go;
/// one that no look showed surely, so often; what is less than an even chance is not looked at for its own sake.
const LOOKS_IN_DOUBT: usize = 5;
const LOOKS_AT_WEAK: usize = 3;

/// One sighting as the book takes it.
#[derive(Debug, Clone)]
pub struct Sighted {
    pub kind: Kind,
    pub score: f32,
    /// The model's for this class.
    pub threshold: f32,
    pub located: Located,
    pub stance: Stance,
    /// The picture's edge cut it.
    pub at_edge: bool,
    pub experimental: bool,
    pub frame: u64,
    pub bbox: [f32; 4],
    pub taken_at: Timestamp,
}

impl Sighted {
    /// The score in parts of the threshold.
    pub(super) fn strength(&self) -> f32 {
        self.score / self.threshold
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseState {
    /// The machine's word.
    Suspected,
    /// A person saw it and says that it is one.
    Confirmed,
    /// A person says that it is none.
    Rejected,
    /// It was one, and is dealt with.
    Resolved,
}

/// What is known of a case; this is what is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    pub id: String,
    pub kind: Kind,
    pub state: CaseState,
    /// From the model's scores, 0 to 1.
    pub confidence: f32,
    pub located: Located,
    /// Where earlier sorties saw it: what this one knows is added to that, however often it is said.
    #[serde(default)]
    pub before: Option<Located>,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    /// Sorties that saw it.
    pub count: u32,
    pub sortie: String,
    pub experimental: bool,
    /// The last word of a person.
    #[serde(default)]
    pub verdict: Option<Verdict>,
    /// Of the newest event that was made of it.
    pub sequence: u64,
    pub evidence: Vec<String>,
    /// The newest event; made again at start if a crash came between this row and the outbox.
    pub event: Option<serde_json::Value>,
}

/// What the sightings of a frame led to.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// A case that was not known.
    Opened { case: usize, best: Best },
    /// A known case, seen for the first time in this sortie.
    SeenAgain { case: usize, best: Best },
    /// A case of this sortie whose position or confidence is now better known.
    Refined { case: usize, best: Best },
}

/// The look that shows a thing best.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    pub frame: u64,
    pub bbox: [f32; 4],
    pub score: f32,
    pub taken_at: Timestamp,
    /// Of the newest look, which is the one that led to the finding.
    pub newest: Timestamp,
}

struct Thing {
    looks: Vec<Sighted>,
    case: Option<usize>,
    /// Where all looks of the sortie together place it; known at its end.
    adjusted: Option<Located>,
    /// A person has rejected it: nothing more is said of it.
    rejected: bool,
    /// What was last said of its position.
    said: Option<Located>,
}

impl Thing {
    fn located(&self) -> Located {
        self.adjusted.unwrap_or_else(|| position(&self.looks))
    }

    /// Nothing is known of what it is.
    fn is_open(&self) -> bool {
        self.case.is_none() && !self.rejected
    }
}

#[derive(Default)]
pub struct Book {
    cases: Vec<Case>,
    register: Register,
    peace: Peace,
    sortie: String,
    things: Vec<Thing>,
    /// Of the frames that were looked at, and of those that are being looked at.
    views: Vec<View>,
    expected: BTreeMap<u64, View>,
    /// Sightings of buildings that the register permits, in this sortie.
    pub permitted: u64,
    /// Things at places that a person has rejected, in this sortie.
    pub rejected: u64,
}

impl Book {
    pub fn new(cases: Vec<Case>, register: Register) -> Book {
        Book { cases, register, ..Book::default() }
    }

    /// Leaves rejected places alone as far and as long as this says.
    pub fn with_peace(self, peace: Peace) -> Book {
        Book { peace, ..self }
    }

    /// Takes a person's word on a case. Which one it is.
    pub fn judge(&mut self, id: &str, verdict: Verdict) -> Option<usize> {
        let index = self.cases.iter().position(|case| case.id == id)?;
        let case = self.cases.get_mut(index)?;
        case.state = verdict.verdict;
        case.verdict = Some(verdict);
        for thing in self.things.iter_mut().filter(|thing| thing.case == Some(index)) {
            thing.rejected = case.state == CaseState::Rejected;
        }
        Some(index)
    }

    pub fn case(&self, index: usize) -> Option<&Case> {
        self.cases.get(index)
    }

    pub fn case_mut(&mut self, index: usize) -> Option<&mut Case> {
        self.cases.get_mut(index)
    }

    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// Cases that the sortie under way opened, and those that it saw again.
    pub fn told(&self) -> (u64, u64) {
        let of_sortie = self.cases.iter().filter(|case| case.sortie == self.sortie);
        of_sortie.fold((0, 0), |(opened, again), case| match case.count {
            0 | 1 => (opened + 1, again),
            _ => (opened, again + 1),
        })
    }

    pub fn begin(&mut self, sortie: &str) {
        self.sortie = sortie.to_owned();
        self.things.clear();
        self.views.clear();
        self.expected.clear();
        self.permitted = 0;
        self.rejected = 0;
    }

    /// A frame is being looked at: until it is [`answered`](Self::answered), what it shows is not judged for want of looks.
    pub fn expect(&mut self, frame: u64, view: View) {
        self.expected.insert(frame, view);
    }

    /// The look at an expected frame is over, whatever came of it.
    pub fn answered(&mut self, frame: u64) {
        self.expected.remove(&frame);
    }

    /// Places where something was seen that is not believed yet, with how many looks there would tell more.
    pub fn doubts(&self) -> Vec<(LatLon, usize)> {
        let doubtful = self.things.iter().filter(|thing| thing.case.is_none()).filter_map(|thing| {
            let at = position(&thing.looks).at;
            let looks = self.views.iter().filter(|view| view.shows(at)).count();
            let strongest = thing.looks.iter().map(Sighted::strength).fold(0.0, f32::max);
            let most = match strongest {
                s if s >= 1.0 => LOOKS_IN_DOUBT,
                s if s >= belief::BREAK_EVEN => LOOKS_AT_WEAK,
                _ => 0,
            };
            (looks < most).then_some((at, looks + 1))
        });
        doubtful.collect()
    }

    /// Takes up one frame. `new_id` names a case that is opened.
    pub fn frame(&mut self, view: View, sightings: Vec<Sighted>, mut new_id: impl FnMut() -> Ulid) -> Vec<Finding> {
        self.views.push(view);
        let mut findings = Vec::new();
        for sighted in sightings {
            if sighted.kind.is_structure() {
                // Roofs lean outward in oblique views; the register's outlines are of walls.
                let tolerance = 4.0 + sighted.located.uncertainty.semi_major_m.min(4.0);
                if self.register.permits(sighted.located.at, tolerance) {
                    self.permitted += 1;
                    continue;
                }
            }
            let index = self.place(sighted);
            if self.things[index].is_open() && self.believed(&self.things[index], false) {
                findings.extend(self.settle(index, &mut new_id));
            }
        }
        // What has left the picture is judged by what there was of it, not at the end of the sortie.
        for index in 0..self.things.len() {
            let thing = &self.things[index];
            let gone = thing.is_open() && !view.shows(position(&thing.looks).at);
            if gone && self.believed(thing, true) {
                findings.extend(self.settle(index, &mut new_id));
            }
        }
        findings
    }

    /// Ends the sortie: what is believed after all is settled, and every case's position is said as it is now known.
    pub fn finish(&mut self, mut new_id: impl FnMut() -> Ulid) -> Vec<Finding> {
        self.join_neighbours();
        self.adjust();
        let mut findings = Vec::new();
        for index in 0..self.things.len() {
            if self.things[index].rejected {
                continue;
            }
            if self.things[index].case.is_none() {
                if self.believed(&self.things[index], true) {
                    findings.extend(self.settle(index, &mut new_id));
                }
                continue;
            }
            let (located, kind) = (self.things[index].located(), kind_of(&self.things[index].looks));
            let moved = self.things[index].said.is_none_or(|said| worth_saying(&said, &located));
            let Some(case) = self.things[index].case else { continue };
            let renamed = self.cases[case].count == 1 && self.cases[case].kind != kind;
            if moved || renamed {
                self.update(case, index);
                findings.push(Finding::Refined { case, best: best(&self.things[index].looks) });
            }
        }
        for thing in &self.things {
            // The ground on which the rule of belief and the thresholds are tuned.
            let (at, case) = (thing.located().at, thing.case.is_some());
            let belief = Belief::of(&thing.looks, at, &self.views);
            tracing::debug!(kind = ?kind_of(&thing.looks), lat = at.lat, lon = at.lon, case, ?belief, "seen");
        }
        self.things.clear();
        self.views.clear();
        self.expected.clear();
        findings
    }

    /// The thing this sighting is of, made if there is none.
    fn place(&mut self, sighted: Sighted) -> usize {
        let near = self
            .things
            .iter()
            .enumerate()
            .filter(|(_, thing)| kind_of(&thing.looks).same_thing(sighted.kind))
            .map(|(index, thing)| (index, position(&thing.looks).at.distance_m(sighted.located.at)))
            .filter(|(_, distance)| *distance <= sighted.kind.radius_m())
            .min_by(|a, b| a.1.total_cmp(&b.1));
        match near {
            Some((index, _)) => {
                self.things[index].looks.push(sighted);
                index
            }
            None => {
                self.things.push(Thing {
                    looks: vec![sighted],
                    case: None,
                    adjusted: None,
                    rejected: false,
                    said: None,
                });
                self.things.len() - 1
            }
        }
    }

    /// `last_word`: no further look is to come.
    fn believed(&self, thing: &Thing, last_word: bool) -> bool {
        let at = position(&thing.looks).at;
        let belief = Belief::of(&thing.looks, at, &self.views);
        let only_look = last_word && belief.could <= 1 && !self.expected.values().any(|view| view.shows(at));
        belief.holds(only_look)
    }

    /// Gives a believed thing its case.
    fn settle(&mut self, index: usize, new_id: &mut impl FnMut() -> Ulid) -> Option<Finding> {
        let looks = &self.things[index].looks;
        let (kind, located, best) = (kind_of(looks), self.things[index].located(), best(looks));
        let peace = self.peace;
        let leave_alone = |case: &Case| case.kind.same_thing(kind) && peace.covers(case, located.at, best.newest);
        if self.cases.iter().any(leave_alone) {
            self.things[index].rejected = true;
            self.rejected += 1;
            return None;
        }
        let known = self
            .cases
            .iter()
            .enumerate()
            // A rejected case is closed: what is seen there when its time is over is a new one.
            .filter(|(_, case)| case.kind.same_thing(kind) && case.state != CaseState::Rejected)
            .map(|(i, case)| (i, case.located.at.distance_m(located.at)))
            .filter(|(_, distance)| *distance <= kind.radius_m())
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(i, _)| i);
        if let Some(case) = known {
            self.things[index].case = Some(case);
            let first_in_sortie = self.cases[case].sortie != self.sortie;
            if first_in_sortie {
                let case = &mut self.cases[case];
                case.count += 1;
                case.before = Some(case.located);
                if case.state == CaseState::Resolved {
                    // It is there again. The verdict stays, as what was said before that.
                    case.state = CaseState::Suspected;
                }
            }
            self.update(case, index);
            return first_in_sortie.then_some(Finding::SeenAgain { case, best });
        }
        self.cases.push(Case {
            id: new_id().to_string(),
            kind,
            state: CaseState::Suspected,
            confidence: best.score,
            located,
            before: None,
            first_seen: looks.iter().map(|l| l.taken_at).min().unwrap_or(best.taken_at),
            last_seen: best.taken_at,
            count: 1,
            sortie: self.sortie.clone(),
            experimental: looks.iter().any(|l| l.experimental),
            verdict: None,
            sequence: 0,
            evidence: Vec::new(),
            event: None,
        });
        let case = self.cases.len() - 1;
        self.things[index].case = Some(case);
        self.update(case, index);
        Some(Finding::Opened { case, best })
    }

    /// Brings the case up to what this sortie knows of it.
    fn update(&mut self, case: usize, thing: usize) {
        let looks = &self.things[thing].looks;
        let (located, best) = (self.things[thing].located(), best(looks));
        let last = looks.iter().map(|l| l.taken_at).max().unwrap_or(best.taken_at);
        let case = &mut self.cases[case];
        let again = case.count > 1;
        // An earlier sortie had another satellite fix, so both together are better than either.
        let both = case.before.and_then(|before| geo::combine(&[before, located]));
        case.located = both.unwrap_or(located);
        case.confidence = case.confidence.max(best.score);
        case.last_seen = case.last_seen.max(last);
        case.sortie.clone_from(&self.sortie);
        if !again {
            case.kind = kind_of(looks);
        }
        self.things[thing].said = Some(located);
    }

    /// Places what is told, all looks of the sortie together.
    fn adjust(&mut self) {
        let told: Vec<usize> = (0..self.things.len())
            .filter(|&index| {
                let thing = &self.things[index];
                !thing.rejected && (thing.case.is_some() || self.believed(thing, true))
            })
            .collect();
        let looks: Vec<&[Sighted]> = told.iter().map(|&index| self.things[index].looks.as_slice()).collect();
        let places = adjust::places(&looks);
        for (index, place) in told.into_iter().zip(places) {
            self.things[index].adjusted = place;
        }
    }

    /// Early looks are rough: two things that turn out to lie together are one.
    fn join_neighbours(&mut self) {
        let mut index = 0;
        while index < self.things.len() {
            let (kind, at) = (kind_of(&self.things[index].looks), position(&self.things[index].looks).at);
            let twin = (0..index).find(|&other| {
                let other = &self.things[other];
                kind_of(&other.looks).same_thing(kind)
                    && position(&other.looks).at.distance_m(at) <= kind.radius_m()
                    && (other.case.is_none()
                        || self.things[index].case.is_none()
                        || other.case == self.things[index].case)
            });
            match twin {
                Some(twin) => {
                    let gone = self.things.remove(index);
                    self.things[twin].looks.extend(gone.looks);
                    self.things[twin].case = self.things[twin].case.or(gone.case);
                    self.things[twin].rejected |= gone.rejected;
                    self.things[twin].said = self.things[twin].said.or(gone.said);
                }
                None => index += 1,
            }
        }
    }
}

/// The kind most of the score speaks for.
fn kind_of(looks: &[Sighted]) -> Kind {
    let total = |kind: Kind| looks.iter().filter(|l| l.kind == kind).map(|l| l.score).sum::<f32>();
    looks.iter().map(|l| l.kind).max_by(|a, b| total(*a).total_cmp(&total(*b)).then(b.cmp(a))).unwrap_or(Kind::Garbage)
}

/// Those that the picture's edge cut count only when there is no whole one.
pub(super) fn telling(looks: &[Sighted]) -> impl Iterator<Item = &Sighted> {
    let whole = looks.iter().any(|l| !l.at_edge);
    looks.iter().filter(move |l| !(whole && l.at_edge))
}

/// By the looks' ellipses.
fn position(looks: &[Sighted]) -> Located {
    let chosen: Vec<Located> = telling(looks).map(|l| l.located).collect();
    geo::combine(&chosen).unwrap_or(looks[0].located)
}

/// Whether a place is better known than it was said.
fn worth_saying(said: &Located, now: &Located) -> bool {
    let size = |l: &Located| l.uncertainty.semi_major_m;
    said.at.distance_m(now.at) > 0.3 || !(0.8..1.25).contains(&(size(now) / size(said)))
}

fn best(looks: &[Sighted]) -> Best {
    let value = |l: &Sighted| l.score - if l.at_edge { 1.0 } else { 0.0 };
    let look = looks.iter().max_by(|a, b| value(a).total_cmp(&value(b))).unwrap_or(&looks[0]);
    let newest = looks.iter().map(|l| l.taken_at).max().unwrap_or(look.taken_at);
    Best { frame: look.frame, bbox: look.bbox, score: look.score, taken_at: look.taken_at, newest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::{Attitude, Camera, Ellipse, LocalFrame, Pose, PoseSigma};

    const HOME: LatLon = LatLon { lat: 23.05, lon: 113.0 };

    fn at(east: f64, north: f64) -> LatLon {
        LocalFrame::new(HOME).to_latlon(east, north)
    }

    fn view() -> View {
        let sigma = PoseSigma { horizontal_m: 1.0, vertical_m: 1.0, yaw_deg: 1.0, tilt_deg: 0.5 };
        let attitude = Attitude { yaw_deg: 0.0, pitch_deg: -90.0, roll_deg: 0.0 };
        View { camera: Camera::from_fov(1000, 1000, 60.0), pose: Pose { at: HOME, height_m: 80.0, attitude, sigma } }
    }

    fn sighted(kind: Kind, frame: u64, place: LatLon, score: f32) -> Sighted {
        let view = view();
        let [x, y] = geo::project_ground(&view.camera, &view.pose, place, 0.0).unwrap_or([5.0, 5.0]);
        Sighted {
            kind,
            score,
            threshold: 0.5,
            located: Located {
                at: place,
                uncertainty: Ellipse { semi_major_m: 3.0, semi_minor_m: 3.0, bearing_deg: 0.0 },
                slant_m: 80.0,
            },
            stance: Stance { view, height_m: 0.0, height_sigma_m: 0.3 },
            at_edge: false,
            experimental: false,
            frame,
            bbox: [x - 5.0, y - 5.0, x + 5.0, y + 5.0].map(|v| v as f32),
            taken_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn ids() -> impl FnMut() -> Ulid {
        let mut next = 0;
        move || {
            next += 1;
            Ulid::from(next)
        }
    }

    #[test]
    fn two_looks_open_one_case_and_the_next_sortie_finds_the_same_one() {
        let (mut book, mut id) = (Book::default(), ids());
        book.begin("first");
        assert_eq!(book.frame(view(), vec![sighted(Kind::Garbage, 1, at(5.0, 5.0), 0.9)], &mut id), []);
        let opened = book.frame(view(), vec![sighted(Kind::Garbage, 2, at(6.0, 5.0), 0.7)], &mut id);
        assert!(matches!(opened[..], [Finding::Opened { case: 0, .. }]), "{opened:?}");
        book.finish(&mut id);
        book.begin("second");
        for frame in 1..=3 {
            book.frame(view(), vec![sighted(Kind::Garbage, frame, at(8.0, 4.0), 0.9)], &mut id);
        }
        book.finish(&mut id);
        assert_eq!(book.cases().len(), 1);
        assert_eq!(book.cases()[0].count, 2);
        assert_eq!(book.cases()[0].sortie, "second");
    }

    #[test]
    fn a_sortie_that_is_looked_at_anew_after_a_crash_adds_nothing_and_is_no_surer_than_before() {
        let (mut book, mut id) = (Book::default(), ids());
        let fly = |book: &mut Book, sortie: &str, east: f64, id: &mut dyn FnMut() -> Ulid| {
            book.begin(sortie);
            let mut findings = Vec::new();
            for frame in 1..=3 {
                let seen = vec![sighted(Kind::Garbage, frame, at(east, 4.0), 0.9)];
                findings.extend(book.frame(view(), seen, &mut *id));
            }
            findings
        };
        fly(&mut book, "first", 5.0, &mut id);
        book.finish(&mut id);
        for sortie in ["second", "third"] {
            fly(&mut book, sortie, 8.0, &mut id);
            let crashed = book.cases()[0].clone();
            assert_eq!(book.told(), (0, 1));
            // The station is killed; the new one knows only what was stored.
            book = Book::new(vec![crashed.clone()], Register::default());
            assert_eq!(fly(&mut book, sortie, 8.0, &mut id), []);
            assert_eq!(book.cases(), std::slice::from_ref(&crashed));
            assert_eq!(book.finish(&mut id), []);
            assert_eq!((book.cases(), book.told()), (&[crashed][..], (0, 1)));
        }
    }

    fn word(state: CaseState, at: Timestamp) -> Verdict {
        let (operator, reason) = ("李".to_owned(), "a roof under repair".to_owned());
        Verdict { verdict: state, operator, reason, at, command: "01V".to_owned() }
    }

    /// Flies over a heap of garbage at (east, north), `days` after the first time.
    fn fly_over(book: &mut Book, sortie: &str, east: f64, days: i64, id: &mut dyn FnMut() -> Ulid) -> Vec<Finding> {
        book.begin(sortie);
        let mut findings = Vec::new();
        for frame in 1..=3 {
            let mut seen = sighted(Kind::Garbage, frame, at(east, 5.0), 0.9);
            seen.taken_at = Timestamp::from_second(days * 86_400).unwrap();
            findings.extend(book.frame(view(), vec![seen], &mut *id));
        }
        findings.extend(book.finish(&mut *id));
        findings
    }

    #[test]
    fn a_rejected_place_is_left_alone_within_its_radius_and_its_time_and_not_beyond() {
        let mut id = ids();
        let mut book = Book::default().with_peace(Peace { radius_m: 15.0, days: 90 });
        fly_over(&mut book, "first", 5.0, 0, &mut id);
        let first = book.cases()[0].id.clone();
        book.judge(&first, word(CaseState::Rejected, Timestamp::UNIX_EPOCH)).unwrap();
        // Nearby, and 12 m away, which would be another case by the distance of this kind.
        assert_eq!(fly_over(&mut book, "second", 6.0, 3, &mut id), []);
        assert_eq!(fly_over(&mut book, "third", 17.0, 89, &mut id), []);
        assert_eq!((book.cases().len(), book.cases()[0].count, book.rejected), (1, 1, 1));
        // 20 m away.
        let findings = fly_over(&mut book, "fourth", 25.0, 3, &mut id);
        assert!(matches!(findings[..], [Finding::Opened { case: 1, .. }]), "{findings:?}");
        // The time is over: a new case, and the old one stays what it was.
        let findings = fly_over(&mut book, "fifth", 5.0, 91, &mut id);
        assert!(matches!(findings[..], [Finding::Opened { case: 2, .. }]), "{findings:?}");
        assert_eq!(book.cases()[0].state, CaseState::Rejected);
    }

    #[test]
    fn what_is_seen_again_after_it_was_resolved_is_suspected_again_and_a_confirmed_case_stays_confirmed() {
        for (said, then) in [(CaseState::Resolved, CaseState::Suspected), (CaseState::Confirmed, CaseState::Confirmed)]
        {
            let (mut book, mut id) = (Book::default(), ids());
            fly_over(&mut book, "first", 5.0, 0, &mut id);
            let first = book.cases()[0].id.clone();
            book.judge(&first, word(said, Timestamp::UNIX_EPOCH)).unwrap();
            let findings = fly_over(&mut book, "second", 5.0, 3, &mut id);
            assert!(matches!(findings[..], [Finding::SeenAgain { case: 0, .. }]), "{findings:?}");
            assert_eq!(book.cases()[0].state, then);
            assert_eq!(book.cases()[0].verdict.as_ref().unwrap().verdict, said, "the word itself stays");
        }
    }

    #[test]
    fn a_verdict_on_a_case_that_nobody_knows_changes_nothing() {
        let mut book = Book::default();
        assert_eq!(book.judge("01X", word(CaseState::Confirmed, Timestamp::UNIX_EPOCH)), None);
    }

    #[test]
    fn what_most_frames_did_not_see_is_not_believed() {
        let (mut book, mut id) = (Book::default(), ids());
        book.begin("s");
        for frame in 0..10 {
            let ghost = (frame % 5 == 0).then(|| sighted(Kind::Burning, frame, at(0.0, 0.0), 0.9));
            // The first look alone is never enough, and the second comes after five frames without it.
            assert_eq!(book.frame(view(), ghost.into_iter().collect(), &mut id), []);
        }
        assert_eq!(book.finish(&mut id), []);
        assert!(book.cases().is_empty());
    }

    #[test]
    fn what_one_look_shows_is_in_doubt_until_it_is_believed_or_was_looked_at_often_enough() {
        let (mut book, mut id) = (Book::default(), ids());
        book.begin("s");
        book.frame(view(), vec![sighted(Kind::Garbage, 1, at(5.0, 5.0), 0.9)], &mut id);
        let looks = |book: &Book| book.doubts().iter().map(|(_, looks)| *looks).collect::<Vec<_>>();
        assert_eq!(looks(&book), [2]);
        for expected in [vec![3], vec![4], vec![5], vec![]] {
            book.frame(view(), vec![], &mut id);
            assert_eq!(looks(&book), expected);
        }
        book.begin("s");
        for frame in 1..=2 {
            book.frame(view(), vec![sighted(Kind::Garbage, frame, at(5.0, 5.0), 0.9)], &mut id);
        }
        assert_eq!(looks(&book), [] as [usize; 0], "it is a case");
    }

    #[test]
    fn a_thing_seen_once_is_not_settled_while_another_look_at_it_is_under_way() {
        let elsewhere = || View { pose: Pose { at: at(500.0, 0.0), ..view().pose }, ..view() };
        let (mut book, mut id) = (Book::default(), ids());
        book.begin("s");
        book.expect(2, view());
        book.frame(view(), vec![sighted(Kind::Garbage, 1, at(5.0, 5.0), 0.9)], &mut id);
        assert_eq!(book.frame(elsewhere(), vec![], &mut id), [], "the second look may yet show nothing there");
        book.answered(2);
        assert!(matches!(book.frame(elsewhere(), vec![], &mut id)[..], [Finding::Opened { .. }]));
    }

    #[test]
    fn a_permitted_building_is_never_a_case_but_garbage_beside_it_is() {
        let ring: Vec<_> = [(0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0), (0.0, 0.0)]
            .map(|(e, n)| {
                let p = at(e, n);
                serde_json::json!([p.lon, p.lat])
            })
            .into();
        let register = Register::from_geojson(
            &serde_json::json!({"features": [{"geometry": {"type": "Polygon", "coordinates": [ring]}}]}),
        )
        .unwrap();
        let (mut book, mut id) = (Book::new(Vec::new(), register), ids());
        book.begin("s");
        for frame in 0..3 {
            let seen = vec![
                sighted(Kind::NewBuilding, frame, at(5.0, 5.0), 0.9),
                sighted(Kind::BlueRoof, frame, at(7.0, 5.0), 0.9),
                sighted(Kind::Garbage, frame, at(5.0, 5.0), 0.9),
            ];
            book.frame(view(), seen, &mut id);
        }
        book.finish(&mut id);
        let kinds: Vec<_> = book.cases().iter().map(|c| c.kind).collect();
        assert_eq!(kinds, [Kind::Garbage]);
        assert_eq!(book.permitted, 6);
    }

    #[test]
    fn a_roof_called_building_once_and_blue_roof_twice_is_one_blue_roof() {
        let (mut book, mut id) = (Book::default(), ids());
        book.begin("s");
        for (frame, kind) in [(0, Kind::NewBuilding), (1, Kind::BlueRoof), (2, Kind::BlueRoof)] {
            book.frame(view(), vec![sighted(kind, frame, at(0.0, 0.0), 0.8)], &mut id);
        }
        book.finish(&mut id);
        assert_eq!(book.cases().len(), 1);
        assert_eq!(book.cases()[0].kind, Kind::BlueRoof);
    }
}
