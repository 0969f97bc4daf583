//! Pure: one thing in many frames is one pass. No clock, no I/O.
//!
//! Frames of a moving camera are matched on the ground, where a parked car stays where it is, not in the picture, where
//! everything moves. A pass gives one sighting with its best evidence, and says whether the thing stood still.

use serde::Serialize;

use super::ledger::View;
use super::protocol::Sighting;
use crate::geo::{self, LocalFrame, Located};

/// A look is of a track when it lies this near to where the track should be, plus both their own errors.
const NEAR_M: f64 = 2.0;
/// Nothing that is looked for is faster: 130 km/h.
const FASTEST_M_S: f64 = 36.0;
/// A track that a frame should have shown and did not is given up after so many such frames, or so many seconds unseen.
const MISSES: u32 = 6;
const UNSEEN_S: f64 = 4.0;
/// A way shorter than this is not told from the errors of the fixes.
const LEAST_WAY_M: f64 = 3.0;
/// Slower than this is called static, however sure: a fix drifts so fast.
const LEAST_SPEED_M_S: f64 = 0.5;
/// The speed must exceed its own standard error so many times.
const SURE: f64 = 4.0;
/// Fewer looks say nothing of movement.
const LOOKS_FOR_MOTION: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Motion {
    Static,
    Moving {
        speed_m_s: f64,
        course_deg: f64,
    },
    /// Seen too seldom or too briefly to say.
    Unknown,
}

/// One look at a thing.
#[derive(Debug, Clone)]
pub struct Look {
    pub frame: u64,
    pub at_s: f64,
    pub sighting: Sighting,
}

/// What a track was, once it is over.
#[derive(Debug, Clone)]
pub struct Pass {
    pub class: String,
    pub first_s: f64,
    pub last_s: f64,
    pub looks: usize,
    /// The look that shows it best.
    pub best: Look,
    /// Where a static thing is, by all looks; where a moving one was last.
    pub located: Located,
    pub motion: Motion,
}

struct Track {
    class: String,
    looks: Vec<Look>,
    misses: u32,
    /// Where it was and how fast, metres on the tracker's axes; refitted with every look.
    fit: Fit,
}

#[derive(Debug, Clone, Copy)]
struct Fit {
    at_s: f64,
    place: [f64; 2],
    speed: [f64; 2],
    /// Of the speed, one sigma.
    speed_sigma: f64,
    way_m: f64,
}

/// Holds the tracks under way. Frames must come in the order of their time.
#[derive(Default)]
pub struct Tracker {
    frame: Option<LocalFrame>,
    tracks: Vec<Track>,
}

impl Tracker {
    /// Takes a frame up; gives the passes that ended with it.
    pub fn frame(&mut self, frame: u64, at_s: f64, view: &View, sightings: Vec<Sighting>) -> Vec<Pass> {
        let axes = *self.frame.get_or_insert_with(|| LocalFrame::new(view.pose.at));
        let mut pairs = Vec::new();
        for (t, track) in self.tracks.iter().enumerate() {
            for (s, sighting) in sightings.iter().enumerate().filter(|(_, s)| s.class == track.class) {
                let [e, n] = axes.to_enu(sighting.located.at);
                let [pe, pn] = track.fit.at(at_s);
                let distance = (e - pe).hypot(n - pn);
                if distance <= track.reach(at_s) + NEAR_M + own_error(&sighting.located) {
                    pairs.push((distance, t, s));
                }
            }
        }
        // Nearest first, one to one: two cars side by side in one frame find their own selves in the next.
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut of_sighting = vec![None; sightings.len()];
        let mut met = vec![false; self.tracks.len()];
        for (_, t, s) in pairs {
            if !met[t] && of_sighting[s].is_none() {
                met[t] = true;
                of_sighting[s] = Some(t);
            }
        }
        for (_, track) in self.tracks.iter_mut().enumerate().filter(|(t, _)| !met[*t]) {
            let [e, n] = track.fit.at(at_s);
            let should = view.shows(axes.to_latlon(e, n));
            track.misses += u32::from(should);
        }
        for (sighting, track) in sightings.into_iter().zip(of_sighting) {
            let look = Look { frame, at_s, sighting };
            match track {
                Some(t) => {
                    let track = &mut self.tracks[t];
                    track.looks.push(look);
                    track.misses = 0;
                    track.fit = Fit::of(&axes, &track.looks);
                }
                None => {
                    let (class, looks) = (look.sighting.class.clone(), vec![look]);
                    self.tracks.push(Track { class, fit: Fit::of(&axes, &looks), looks, misses: 0 });
                }
            }
        }
        let over = |track: &Track| track.misses >= MISSES || at_s - track.last_s() > UNSEEN_S;
        let (ended, going) = std::mem::take(&mut self.tracks).into_iter().partition(over);
        self.tracks = going;
        Self::passes(ended)
    }

    /// Ends everything.
    pub fn finish(&mut self) -> Vec<Pass> {
        Self::passes(std::mem::take(&mut self.tracks))
    }

    fn passes(tracks: Vec<Track>) -> Vec<Pass> {
        tracks.into_iter().filter_map(Track::pass).collect()
    }
}

impl Track {
    fn last_s(&self) -> f64 {
        self.looks.last().map_or(0.0, |look| look.at_s)
    }

    /// How far off its prediction it may be.
    fn reach(&self, at_s: f64) -> f64 {
        let since = (at_s - self.last_s()).max(0.0);
        let last = self.looks.last().map_or(0.0, |look| own_error(&look.sighting.located));
        let unknown = match self.looks.len() {
            // Seen once: it may be anything from parked to fast.
            1 => FASTEST_M_S.min(15.0),
            _ => (2.0 * self.fit.speed_sigma).min(FASTEST_M_S),
        };
        last + unknown * since
    }

    fn pass(self) -> Option<Pass> {
        let (first, last) = (self.looks.first()?, self.looks.last()?);
        let (first_s, last_s) = (first.at_s, last.at_s);
        let motion = self.motion();
        let located = match motion {
            Motion::Moving { .. } => last.sighting.located,
            _ => {
                let whole: Vec<_> = self.looks.iter().filter(|l| !l.sighting.at_edge).collect();
                let chosen = if whole.is_empty() { self.looks.iter().collect() } else { whole };
                geo::combine(&chosen.iter().map(|l| l.sighting.located).collect::<Vec<_>>())?
            }
        };
        let looks = self.looks.len();
        let value = |look: &Look| look.sighting.score - if look.sighting.at_edge { 1.0 } else { 0.0 };
        let best = self.looks.into_iter().max_by(|a, b| value(a).total_cmp(&value(b)))?;
        Some(Pass { class: self.class, first_s, last_s, looks, best, located, motion })
    }

    fn motion(&self) -> Motion {
        if self.looks.len() < LOOKS_FOR_MOTION {
            return Motion::Unknown;
        }
        let [e, n] = self.fit.speed;
        let speed = e.hypot(n);
        if speed >= LEAST_SPEED_M_S && speed > SURE * self.fit.speed_sigma && self.fit.way_m >= LEAST_WAY_M {
            return Motion::Moving { speed_m_s: speed, course_deg: e.atan2(n).to_degrees().rem_euclid(360.0) };
        }
        // Not shown to move; standing still is claimed only where moving would have been noticed.
        if self.fit.speed_sigma * SURE <= 2.0 * LEAST_SPEED_M_S { Motion::Static } else { Motion::Unknown }
    }
}

impl Fit {
    /// A straight line through the looks by least squares. The scatter about it gives the errors: what all looks share
    /// (the satellite fix) moves the line, not its slope.
    fn of(axes: &LocalFrame, looks: &[Look]) -> Fit {
        let places: Vec<[f64; 2]> = looks.iter().map(|l| axes.to_enu(l.sighting.located.at)).collect();
        let count = looks.len() as f64;
        let mean_s = looks.iter().map(|l| l.at_s).sum::<f64>() / count;
        let mean: [f64; 2] = std::array::from_fn(|axis| places.iter().map(|p| p[axis]).sum::<f64>() / count);
        let spread: f64 = looks.iter().map(|l| (l.at_s - mean_s).powi(2)).sum();
        let last_s = looks.last().map_or(0.0, |l| l.at_s);
        if looks.len() < 2 || spread < 1e-6 {
            return Fit { at_s: last_s, place: mean, speed: [0.0; 2], speed_sigma: FASTEST_M_S, way_m: 0.0 };
        }
        let slope = |axis: usize| {
            looks.iter().zip(&places).map(|(l, p)| (l.at_s - mean_s) * (p[axis] - mean[axis])).sum::<f64>() / spread
        };
        let speed = [slope(0), slope(1)];
        let residual: f64 = looks
            .iter()
            .zip(&places)
            .flat_map(|(l, p)| (0..2).map(move |axis| (p[axis] - mean[axis] - speed[axis] * (l.at_s - mean_s)).powi(2)))
            .sum();
        // Two looks leave no scatter to judge by, and few leave little: a quarter of a metre is the least that is believed.
        let sigma = (residual / (2.0 * (count - 2.0)).max(1.0)).sqrt().max(0.25);
        let at = |at_s: f64| std::array::from_fn(|axis| mean[axis] + speed[axis] * (at_s - mean_s));
        let way_m = (last_s - looks[0].at_s) * speed[0].hypot(speed[1]);
        Fit { at_s: last_s, place: at(last_s), speed, speed_sigma: sigma / spread.sqrt(), way_m }
    }

    /// Where it should be. A speed that is not sure yet is not used: most things stand.
    fn at(&self, at_s: f64) -> [f64; 2] {
        let since = at_s - self.at_s;
        let speed = self.speed[0].hypot(self.speed[1]);
        if speed <= 2.0 * self.speed_sigma {
            return self.place;
        }
        [self.place[0] + self.speed[0] * since, self.place[1] + self.speed[1] * since]
    }
}

/// The part of a look's error that differs from frame to frame; the rest moves everything alike.
fn own_error(located: &Located) -> f64 {
    (located.uncertainty.semi_major_m / 4.0).min(4.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::{Attitude, Camera, Ellipse, LatLon, Pose, PoseSigma};

    const HOME: LatLon = LatLon { lat: 23.05, lon: 113.0 };

    fn view(east: f64) -> View {
        let sigma = PoseSigma { horizontal_m: 1.0, vertical_m: 1.0, yaw_deg: 1.0, tilt_deg: 0.5 };
        let attitude = Attitude { yaw_deg: 0.0, pitch_deg: -90.0, roll_deg: 0.0 };
        let at = LocalFrame::new(HOME).to_latlon(east, 0.0);
        View { camera: Camera::from_fov(1920, 1080, 66.0), pose: Pose { at, height_m: 60.0, attitude, sigma } }
    }

    /// Repeatable noise of about ±0.4 m.
    fn noise(frame: u64, salt: u64) -> f64 {
        let mixed = (frame * 7919 + salt * 104_729).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        (mixed as f64 / (1u64 << 24) as f64 - 0.5) * 0.8
    }

    fn sighting(frame: u64, salt: u64, east: f64, north: f64, score: f32) -> Sighting {
        let at = LocalFrame::new(HOME).to_latlon(east + noise(frame, salt), north + noise(frame, salt + 1));
        Sighting {
            class: "vehicle".to_owned(),
            score,
            sure: true,
            threshold: 0.5,
            bbox: [0.0, 0.0, 40.0, 20.0],
            at_edge: false,
            located: Located {
                at,
                uncertainty: Ellipse { semi_major_m: 4.0, semi_minor_m: 3.0, bearing_deg: 0.0 },
                slant_m: 60.0,
            },
            centre_height_m: 1.0,
            centre_height_sigma_m: 0.5,
            experimental: false,
        }
    }

    /// Ten frames a second from a camera that flies east at 8 m/s.
    fn fly(seconds: f64, mut sees: impl FnMut(u64, f64) -> Vec<Sighting>) -> Vec<Pass> {
        let mut tracker = Tracker::default();
        let mut passes = Vec::new();
        for frame in 0..(seconds * 10.0) as u64 {
            let at_s = frame as f64 / 10.0;
            passes.extend(tracker.frame(frame, at_s, &view(8.0 * at_s), sees(frame, at_s)));
        }
        passes.extend(tracker.finish());
        passes
    }

    #[test]
    fn a_parked_car_that_a_moving_camera_passes_is_one_static_sighting_with_its_best_look() {
        let passes = fly(5.0, |frame, _| vec![sighting(frame, 1, 20.0, 5.0, if frame == 23 { 0.95 } else { 0.7 })]);
        assert_eq!(passes.len(), 1);
        assert_eq!((passes[0].looks, passes[0].best.frame, passes[0].motion), (50, 23, Motion::Static));
        let [e, n] = LocalFrame::new(HOME).to_enu(passes[0].located.at);
        assert!((e - 20.0).hypot(n - 5.0) < 0.3, "{e} {n}");
    }

    #[test]
    fn a_driving_car_is_one_pass_and_is_told_to_move_with_its_course() {
        let passes = fly(4.0, |frame, at_s| vec![sighting(frame, 1, 10.0 + 9.0 * at_s, -6.0, 0.8)]);
        assert_eq!(passes.len(), 1);
        let Motion::Moving { speed_m_s, course_deg } = passes[0].motion else { panic!("{:?}", passes[0].motion) };
        assert!((speed_m_s - 9.0).abs() < 0.5 && (course_deg - 90.0).abs() < 4.0, "{speed_m_s} {course_deg}");
    }

    #[test]
    fn cars_that_pass_a_parked_one_do_not_take_its_place() {
        let passes = fly(5.0, |frame, at_s| {
            vec![sighting(frame, 1, 20.0, 5.0, 0.8), sighting(frame, 3, 40.0 - 8.0 * at_s, 8.5, 0.8)]
        });
        assert_eq!(passes.len(), 2, "{passes:?}");
        assert_eq!(passes.iter().filter(|p| p.motion == Motion::Static).count(), 1);
    }

    #[test]
    fn a_thing_missed_in_some_frames_is_still_one_and_one_that_went_out_of_view_and_came_again_is_two_passes() {
        let blinking =
            fly(5.0, |frame, _| if frame % 3 == 0 { vec![] } else { vec![sighting(frame, 1, 20.0, 5.0, 0.8)] });
        assert_eq!(blinking.len(), 1);
        let twice =
            fly(
                30.0,
                |frame, at_s| {
                    if (2.0..20.0).contains(&at_s) { vec![] } else { vec![sighting(frame, 1, 20.0, 5.0, 0.8)] }
                },
            );
        assert_eq!(twice.len(), 2);
    }

    #[test]
    fn one_look_says_nothing_of_movement() {
        let passes = fly(1.0, |frame, _| if frame == 4 { vec![sighting(frame, 1, 5.0, 5.0, 0.8)] } else { vec![] });
        assert_eq!((passes.len(), passes[0].motion), (1, Motion::Unknown));
    }
}
