//! Pure: what several looks at one place say together, and when that is enough.
//!
//! Each frame that could have shown a thing is counted for or against it, as in a sequential test: one that shows it adds its
//! strength less the break-even, one that does not takes something away. Two good looks are enough, so are several that are each
//! a little too weak, and what comes and goes never is.

use super::book::Sighted;
use crate::geo::LatLon;
use crate::perception::ledger::View;

/// A look of this strength says nothing either way: an even chance in the model that comes with aerie.
pub(super) const BREAK_EVEN: f32 = 0.75;
/// One look counts for so much at most, however high its score stands above the threshold.
const MOST: f32 = 0.75;
/// What a frame that could have shown it, and did not, takes away.
const MISSED: f32 = 0.5;
/// The sum that is believed …
const ENOUGH: f32 = 0.8;
/// … of so many looks …
const LOOKS_NEEDED: usize = 2;
/// … or of one, when no other frame could show it and the model was this sure.
const SINGLE_LOOK_SCORE: f32 = 0.8;

/// What the frames that could have shown a thing say of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Belief {
    /// The best score of each frame that showed it, in parts of its class's threshold, in the order of the frames.
    pub strengths: Vec<f32>,
    /// Frames that could have shown it.
    pub could: usize,
    /// At least one showed it whole, not cut by the picture's edge.
    pub whole: bool,
    pub best_score: f32,
}

impl Belief {
    pub fn of(looks: &[Sighted], at: LatLon, views: &[View]) -> Belief {
        let mut frames: Vec<(u64, f32)> = looks.iter().map(|l| (l.frame, l.strength())).collect();
        frames.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
        frames.dedup_by_key(|(frame, _)| *frame);
        Belief {
            strengths: frames.into_iter().map(|(_, strength)| strength).collect(),
            could: views.iter().filter(|view| view.shows(at)).count(),
            whole: looks.iter().any(|l| !l.at_edge),
            best_score: looks.iter().filter(|l| !l.at_edge).map(|l| l.score).fold(0.0, f32::max),
        }
    }

    /// For and against, summed over the frames.
    pub fn sum(&self) -> f32 {
        let missed = self.could.saturating_sub(self.strengths.len());
        self.strengths.iter().map(|s| (s - BREAK_EVEN).min(MOST)).sum::<f32>() - MISSED * missed as f32
    }

    /// `only_look`: no other frame could show the thing, nor will one.
    pub fn holds(&self, only_look: bool) -> bool {
        if self.strengths.len() < LOOKS_NEEDED {
            return only_look && self.whole && self.best_score >= SINGLE_LOOK_SCORE;
        }
        // Sums of tenths are not exact.
        self.whole && self.sum() > ENOUGH - 0.01
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn belief(strengths: &[f32], could: usize) -> Belief {
        Belief { strengths: strengths.to_vec(), could, whole: true, best_score: 0.9 }
    }

    #[test]
    fn two_good_looks_or_several_weak_ones_are_enough_and_what_comes_and_goes_is_not() {
        for (strengths, could, enough) in [
            (&[1.15, 1.15][..], 2, true),
            (&[1.0, 1.0], 2, false),
            (&[1.4, 0.9], 2, true),
            (&[0.95, 0.85], 2, false),
            (&[0.95; 3], 3, false),
            (&[0.95; 4], 4, true),
            (&[0.75; 9], 9, false),
            (&[1.4, 1.4], 3, true),
            (&[1.4, 1.4], 4, false),
            (&[1.4; 5], 8, true),
            (&[1.4; 3], 7, false),
            // One extravagant score is no more than a good one.
            (&[9.0, 0.75], 2, false),
        ] {
            assert_eq!(belief(strengths, could).holds(false), enough, "{strengths:?} of {could}");
        }
    }

    #[test]
    fn one_look_is_enough_only_where_no_other_is_to_be_had_and_it_is_sure_and_whole() {
        let one = belief(&[1.4], 1);
        assert!(one.holds(true));
        assert!(!one.holds(false));
        assert!(!Belief { best_score: 0.79, ..one.clone() }.holds(true));
        assert!(!Belief { whole: false, ..one }.holds(true));
    }

    #[test]
    fn what_only_ever_hung_over_the_edge_is_not_believed() {
        assert!(!Belief { whole: false, ..belief(&[1.4; 5], 5) }.holds(true));
    }
}
