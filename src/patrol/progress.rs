//! Pure: how far along its way a drone came, and what is left to fly.

use serde::{Deserialize, Serialize};

use crate::geo::{LatLon, LocalFrame};

/// Nearer than this to the way, the camera sees it as planned.
const NEAR_M: f64 = 15.0;

/// The last place of the way that was flown: so far along the leg that begins at point `leg`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Covered {
    pub leg: usize,
    pub metres: f64,
}

/// Follows a drone along its way. It only ever goes forward.
#[derive(Debug, Clone)]
pub struct Follower {
    points: Vec<[f64; 2]>,
    frame: LocalFrame,
    /// None until it came to the first point.
    pub covered: Option<Covered>,
}

impl Follower {
    pub fn new(way: &[LatLon]) -> Follower {
        let frame = LocalFrame::new(way.first().copied().unwrap_or(LatLon { lat: 0.0, lon: 0.0 }));
        Follower { points: way.iter().map(|p| frame.to_enu(*p)).collect(), frame, covered: None }
    }

    pub fn observe(&mut self, at: LatLon) {
        let here = self.frame.to_enu(at);
        let Some(first) = self.points.first() else { return };
        let Some(mut covered) = self.covered else {
            if (here[0] - first[0]).hypot(here[1] - first[1]) < NEAR_M {
                self.covered = Some(Covered::default());
            }
            return;
        };
        // This leg or the next: lines of a patrol run side by side, and the one after next may be near.
        for leg in [covered.leg, covered.leg + 1] {
            let (Some(a), Some(b)) = (self.points.get(leg), self.points.get(leg + 1)) else { break };
            let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
            let length = dx.hypot(dy);
            if length < 0.01 {
                continue;
            }
            let along = (((here[0] - a[0]) * dx + (here[1] - a[1]) * dy) / length).clamp(0.0, length);
            let off = (a[0] + dx / length * along - here[0]).hypot(a[1] + dy / length * along - here[1]);
            let reached_its_end = leg == covered.leg || covered.metres > self.length_of(covered.leg) - NEAR_M;
            if off < NEAR_M && reached_its_end && (leg, along) > (covered.leg, covered.metres) {
                covered = Covered { leg, metres: along };
            }
        }
        self.covered = Some(covered);
    }

    fn length_of(&self, leg: usize) -> f64 {
        match (self.points.get(leg), self.points.get(leg + 1)) {
            (Some(a), Some(b)) => (b[0] - a[0]).hypot(b[1] - a[1]),
            _ => 0.0,
        }
    }

    /// Share of the way that was flown, 0 to 1.
    pub fn share(&self) -> f64 {
        let whole: f64 = (0..self.points.len()).map(|leg| self.length_of(leg)).sum();
        let Some(covered) = self.covered else { return 0.0 };
        let flown: f64 = (0..covered.leg).map(|leg| self.length_of(leg)).sum::<f64>() + covered.metres;
        if whole > 0.0 { (flown / whole).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// What is left of `way` after `covered`, beginning `overlap_m` before it so that no picture is missing. None when
/// nothing is left.
pub fn rest(way: &[LatLon], covered: Covered, overlap_m: f64) -> Option<Vec<LatLon>> {
    let (a, b) = (way.get(covered.leg)?, way.get(covered.leg + 1)?);
    let frame = LocalFrame::new(*a);
    let [e, n] = frame.to_enu(*b);
    let length = e.hypot(n);
    if covered.leg + 2 == way.len() && covered.metres >= length - 1.0 {
        return None;
    }
    let from = (covered.metres - overlap_m).clamp(0.0, length);
    let share = if length > 0.0 { from / length } else { 0.0 };
    let mut left = vec![frame.to_latlon(e * share, n * share)];
    left.extend(&way[covered.leg + 1..]);
    Some(left)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DOCK: LatLon = LatLon { lat: 23.05, lon: 113.0 };

    fn at(east: f64, north: f64) -> LatLon {
        LocalFrame::new(DOCK).to_latlon(east, north)
    }

    /// Three lines, 20 m apart: near enough to be taken for one another.
    fn way() -> Vec<LatLon> {
        vec![at(0.0, 0.0), at(200.0, 0.0), at(200.0, 20.0), at(0.0, 20.0), at(0.0, 40.0), at(200.0, 40.0)]
    }

    #[test]
    fn it_follows_the_lines_in_their_order() {
        let mut follower = Follower::new(&way());
        follower.observe(at(100.0, 100.0));
        assert_eq!(follower.covered, None);
        for east in 0..=150 {
            follower.observe(at(f64::from(east), 1.0));
        }
        let covered = follower.covered.unwrap();
        assert_eq!(covered.leg, 0);
        assert!((covered.metres - 150.0).abs() < 0.1);
        // Blown onto the next line: that one was not flown.
        follower.observe(at(150.0, 20.0));
        assert_eq!(follower.covered.unwrap().leg, 0);
        for east in 150..=200 {
            follower.observe(at(f64::from(east), 0.0));
        }
        for north in 0..=20 {
            follower.observe(at(200.0, f64::from(north)));
        }
        for east in (120..=200).rev() {
            follower.observe(at(f64::from(east), 20.0));
        }
        let covered = follower.covered.unwrap();
        assert_eq!(covered.leg, 2);
        assert!((covered.metres - 80.0).abs() < 0.1);
        assert!((follower.share() - (200.0 + 20.0 + 80.0) / 640.0).abs() < 0.01);
    }

    #[test]
    fn the_rest_begins_where_the_pictures_stop() {
        let left = rest(&way(), Covered { leg: 2, metres: 80.0 }, 10.0).unwrap();
        assert_eq!(left.len(), 4);
        assert!(left[0].distance_m(at(130.0, 20.0)) < 0.1);
        assert!(left[1].distance_m(at(0.0, 20.0)) < 0.1);
        assert_eq!(rest(&way(), Covered { leg: 4, metres: 200.0 }, 10.0), None);
        assert_eq!(rest(&[], Covered::default(), 10.0), None);
    }

    proptest! {
        #[test]
        fn what_is_left_is_never_longer_and_never_forgets_the_end(leg in 0usize..5, share in 0.0..1.0f64) {
            let way = way();
            let length = way[leg].distance_m(way[leg + 1]);
            if let Some(left) = rest(&way, Covered { leg, metres: share * length }, 0.0) {
                let metres = |way: &[LatLon]| way.windows(2).map(|w| w[0].distance_m(w[1])).sum::<f64>();
                prop_assert!(metres(&left) <= metres(&way) + 0.1);
                prop_assert!(left.last() == way.last());
            }
        }
    }
}
