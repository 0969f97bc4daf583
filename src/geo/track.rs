//! Poses between the moments that were told: places on a line, attitudes turned at constant rate, never angles averaged.

use super::{LocalFrame, Pose};

/// A pose and its moment, seconds on any one clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timed {
    pub t_s: f64,
    pub pose: Pose,
}

/// How a camera's moments relate to the poses' clock.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Clock {
    /// What the camera's clock shows more than the poses' clock.
    pub offset_s: f64,
    /// How much later than its time stamp a picture is exposed.
    pub latency_s: f64,
    /// From the first row of a picture to its last; 0 for a global shutter.
    pub readout_s: f64,
}

impl Clock {
    /// When a row was exposed, on the poses' clock. The time stamp is that of the picture's middle row.
    pub fn moment(&self, stamp_s: f64, row_px: f64, height_px: u32) -> f64 {
        let share = (row_px / f64::from(height_px.max(1))).clamp(0.0, 1.0) - 0.5;
        stamp_s - self.offset_s + self.latency_s + share * self.readout_s
    }
}

/// A track in order of time.
#[derive(Debug, Clone, Default)]
pub struct Track {
    poses: Vec<Timed>,
}

/// How fast a drone may change its mind: between two poses it may have been off the line by half of this times the square
/// of the time to the nearer one.
pub const ACCELERATION_M_S2: f64 = 3.0;
/// Likewise for the gimbal, degrees.
const TURN_DEG_S: f64 = 10.0;

impl Track {
    /// From poses in any order; what has no finite time is left out, of two at one moment the later told stands.
    pub fn new(mut poses: Vec<Timed>) -> Self {
        poses.retain(|p| p.t_s.is_finite());
        poses.sort_by(|a, b| a.t_s.total_cmp(&b.t_s));
        poses.dedup_by(|later, earlier| {
            let same = later.t_s == earlier.t_s;
            if same {
                *earlier = *later;
            }
            same
        });
        Self { poses }
    }

    pub fn poses(&self) -> &[Timed] {
        &self.poses
    }

    /// The pose at a moment; `None` before the first, after the last, and in gaps longer than `max_gap_s`. The error grows
    /// with the time to the nearest pose that was told.
    pub fn at(&self, t_s: f64, max_gap_s: f64) -> Option<Pose> {
        let after = self.poses.partition_point(|p| p.t_s < t_s);
        let b = self.poses.get(after)?;
        if b.t_s == t_s {
            return Some(b.pose);
        }
        let a = self.poses.get(after.checked_sub(1)?)?;
        let gap = b.t_s - a.t_s;
        if !(gap > 0.0 && gap <= max_gap_s) {
            return None;
        }
        let share = (t_s - a.t_s) / gap;
        let frame = LocalFrame::new(a.pose.at);
        let [e, n] = frame.to_enu(b.pose.at);
        let between = |a: f64, b: f64| a + (b - a) * share;
        let mut sigma = if share < 0.5 { a.pose.sigma } else { b.pose.sigma };
        let near = (t_s - a.t_s).min(b.t_s - t_s);
        let drift = 0.5 * ACCELERATION_M_S2 * near * near;
        sigma.horizontal_m = sigma.horizontal_m.hypot(drift);
        sigma.vertical_m = sigma.vertical_m.hypot(drift);
        // Two poses that agree leave little room for a turn there and back.
        let turn = (TURN_DEG_S * near).min(a.pose.attitude.angle_to(&b.pose.attitude).max(TURN_DEG_S * near * near));
        sigma.yaw_deg = sigma.yaw_deg.hypot(turn / 2.0);
        sigma.tilt_deg = sigma.tilt_deg.hypot(turn / 2.0);
        Some(Pose {
            at: frame.to_latlon(e * share, n * share),
            height_m: between(a.pose.height_m, b.pose.height_m),
            attitude: a.pose.attitude.slerp(&b.pose.attitude, share),
            sigma,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::{Attitude, LatLon, PoseSigma};

    fn timed(t_s: f64, east: f64, yaw_deg: f64) -> Timed {
        let at = LocalFrame::new(LatLon { lat: 23.0, lon: 113.0 }).to_latlon(east, 0.0);
        let sigma = PoseSigma { horizontal_m: 1.0, vertical_m: 1.0, yaw_deg: 1.0, tilt_deg: 0.5 };
        let attitude = Attitude { yaw_deg, pitch_deg: -60.0, roll_deg: 0.0 };
        Timed { t_s, pose: Pose { at, height_m: 100.0 + t_s, attitude, sigma } }
    }

    #[test]
    fn half_way_in_time_is_half_way_in_place_and_turn_across_north() {
        let track = Track::new(vec![timed(2.0, 20.0, 10.0), timed(0.0, 0.0, 350.0)]);
        let pose = track.at(1.0, 5.0).unwrap();
        assert!((pose.at.distance_m(timed(0.0, 10.0, 0.0).pose.at)) < 1e-3 && pose.height_m == 101.0);
        let turn = (pose.attitude.yaw_deg + 180.0).rem_euclid(360.0) - 180.0;
        assert!(turn.abs() < 1e-6, "{turn}");
        assert!(pose.sigma.horizontal_m > 1.0);
    }

    #[test]
    fn outside_and_in_gaps_there_is_no_pose() {
        let track = Track::new(vec![timed(0.0, 0.0, 0.0), timed(1.0, 5.0, 0.0), timed(60.0, 5.0, 0.0)]);
        assert_eq!((track.at(-0.1, 5.0), track.at(30.0, 5.0), track.at(61.0, 5.0)), (None, None, None));
        assert_eq!(track.at(1.0, 5.0).unwrap(), timed(1.0, 5.0, 0.0).pose);
        assert_eq!(track.at(f64::NAN, 5.0), None);
        assert_eq!(Track::default().at(0.0, 5.0), None);
    }

    #[test]
    fn a_row_at_the_bottom_of_a_rolling_shutter_is_later_than_one_at_the_top() {
        let clock = Clock { offset_s: 0.5, latency_s: 0.1, readout_s: 0.03 };
        let (top, middle, bottom) =
            (clock.moment(10.0, 0.0, 3000), clock.moment(10.0, 1500.0, 3000), clock.moment(10.0, 3000.0, 3000));
        assert!((middle - 9.6).abs() < 1e-9 && (bottom - top - 0.03).abs() < 1e-9 && top < middle);
    }
}
