//! Where a ray meets the terrain: steps of less than a cell, bisection where it crossed, and one step over every block
//! whose highest cell it stays above.

use nalgebra::Vector3;

use super::{BLOCK, View, drop_m};

/// A step is this share of a cell at most, so that nothing wider than a cell is passed through.
const STEP_SHARE: f64 = 0.7;
/// The start and end of a march keep this much away from the extremes.
const MARGIN_M: f64 = 5.0;
const BISECTIONS: usize = 40;

/// Where a ray met the surface.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// East, north, and up from the tangent plane's zero.
    pub point: Vector3<f64>,
    /// Metres of unknown surface that the ray went down into; 0 where the surface is known.
    pub gap_m: f64,
}

/// Why a ray met no surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// It never comes down to the terrain.
    Sky,
    /// It meets nothing within the limit.
    TooFar,
    /// It leaves the model, or comes into it from outside below the surface, or never touches it.
    Outside,
    /// It goes down into a void and does not come out.
    Void,
    /// It starts below the surface.
    Below,
}

impl View<'_> {
    /// Follows a ray (unit `direction`) from `from` for at most `limit_m`.
    pub fn ray(&self, from: Vector3<f64>, direction: Vector3<f64>, limit_m: f64) -> Result<Hit, Miss> {
        // The last place where the ray was known to be above the surface.
        let mut above: Option<(f64, f64)> = None;
        let top = self.dem.highest_m + MARGIN_M;
        let bottom = self.dem.lowest_m - MARGIN_M - drop_m(limit_m, 0.0);
        let down = -direction.z;
        let mut t = 0.0;
        if from.z > top {
            if down <= 0.0 {
                return Err(Miss::Sky);
            }
            t = (from.z - top) / down;
            if t > limit_m {
                return Err(Miss::TooFar);
            }
            above = Some((t, MARGIN_M));
        }
        let mut end = if down > 0.0 { limit_m.min((from.z - bottom) / down) } else { limit_m };
        let across = direction.xy().norm();
        let step = STEP_SHARE * self.dem.cell_m / across.max(1e-12);

        // Whether unknown ground came since, and whether that was outside the model.
        let (mut gap, mut left) = (false, false);
        let mut in_void;
        loop {
            let p = from + direction * t;
            let cell = self.cell(p.x, p.y);
            let mut advance = step;
            match self.dem.read_at(cell) {
                None => {
                    gap = true;
                    in_void = self.dem.holds(cell);
                    left |= !in_void;
                }
                Some(height) => {
                    let clearance = p.z - (height - drop_m(p.x, p.y));
                    if clearance > 0.0 {
                        above = Some((t, clearance));
                        (gap, left) = (false, false);
                        in_void = false;
                        advance = advance.max(self.pass(p, direction, cell));
                    } else {
                        return match above {
                            Some(_) if left => Err(Miss::Outside),
                            Some((before, over)) if gap => {
                                let met = before + (t - before) * over / (over - clearance);
                                Ok(Hit { point: from + direction * met, gap_m: (t - before) * across })
                            }
                            Some((before, _)) => Ok(self.bisect(from, direction, before, t)),
                            None if gap => Err(Miss::Outside),
                            None => Err(Miss::Below),
                        };
                    }
                }
            }
            if t >= end {
                // Under an unknown surface it may still come out below a known one.
                if !(in_void && end < limit_m) {
                    break;
                }
                end = limit_m;
            }
            t = (t + advance).min(end);
        }
        Err(match () {
            _ if in_void => Miss::Void,
            _ if above.is_none() || left => Miss::Outside,
            _ if down <= 0.0 => Miss::Sky,
            _ => Miss::TooFar,
        })
    }

    fn bisect(&self, from: Vector3<f64>, direction: Vector3<f64>, mut above: f64, mut below: f64) -> Hit {
        for _ in 0..BISECTIONS {
            let middle = (above + below) / 2.0;
            let p = from + direction * middle;
            match self.surface_m(p.x, p.y) {
                Some(height) if p.z <= height => below = middle,
                _ => above = middle,
            }
            if below - above < 1e-6 {
                break;
            }
        }
        Hit { point: from + direction * below, gap_m: 0.0 }
    }

    /// How far the ray may go on at once: to the end of this block, or down to its highest cell.
    fn pass(&self, p: Vector3<f64>, direction: Vector3<f64>, [column, row]: [f64; 2]) -> f64 {
        let (c, r) = (column.max(0.0) as usize / BLOCK, row.max(0.0) as usize / BLOCK);
        let index = r * self.dem.columns.div_ceil(BLOCK) + c;
        let Some(&highest) = self.dem.blocks.get(index) else {
            return 0.0;
        };
        let over = p.z - f64::from(highest);
        if over <= 0.0 {
            return 0.0;
        }
        let until_low = if direction.z < 0.0 { over / -direction.z } else { f64::INFINITY };
        let mut until_out = f64::INFINITY;
        for (at, block, m) in [(column, c, self.map[0]), (row, r, self.map[1])] {
            let speed = m[1] * direction.x + m[2] * direction.y;
            let room = if speed > 0.0 { (block + 1) as f64 * BLOCK as f64 - at } else { at - (block * BLOCK) as f64 };
            // The map bends a little over a block: less is taken than there is.
            until_out = until_out.min(0.95 * room.max(0.0) / speed.abs().max(1e-12));
        }
        until_low.min(until_out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{HERE, model};
    use super::*;

    fn down(e: f64, n: f64, depression_deg: f64) -> Vector3<f64> {
        let (s, c) = depression_deg.to_radians().sin_cos();
        Vector3::new(e * c, n * c, -s)
    }

    #[test]
    fn a_ray_meets_a_slope_where_geometry_says() {
        // Rising to the east by one in ten: from 100 m above its foot, 30 degrees down.
        let dem = model(1.0, 1_000, |e, _| 50.0 + 0.1 * e);
        let view = dem.around(HERE, 150.0, 500.0);
        let hit = view.ray(Vector3::new(0.0, 0.0, 150.0), down(1.0, 0.0, 30.0), 500.0).unwrap();
        let want = 100.0 / (0.1 + 30.0_f64.to_radians().tan());
        assert!((hit.point.x - want).abs() < 0.02 && hit.gap_m == 0.0, "{} against {want}", hit.point.x);
    }

    #[test]
    fn what_stands_in_front_hides_what_is_behind() {
        // A wall two metres thick and 40 m high, 100 m ahead.
        let dem = model(1.0, 600, |_, n| if (99.0..=101.0).contains(&n) { 90.0 } else { 50.0 });
        let view = dem.around(HERE, 120.0, 500.0);
        let hit = view.ray(Vector3::new(0.0, 0.0, 120.0), down(0.0, 1.0, 20.0), 500.0).unwrap();
        assert!((97.0..=100.0).contains(&hit.point.y), "{}", hit.point.y);
    }

    #[test]
    fn straight_down_is_met_at_once() {
        let dem = model(1.0, 100, |_, _| 50.0);
        let view = dem.around(HERE, 5_000.0, 6_000.0);
        let hit = view.ray(Vector3::new(3.0, 4.0, 5_000.0), -Vector3::z(), 6_000.0).unwrap();
        assert!((hit.point - Vector3::new(3.0, 4.0, 50.0)).norm() < 1e-3);
    }

    #[test]
    fn each_way_to_miss_the_ground_has_its_own_name() {
        let dem = model(1.0, 400, |e, n| if e > 60.0 && n.abs() < 30.0 { f64::NAN } else { 50.0 });
        let view = dem.around(HERE, 150.0, 1_000.0);
        let from = Vector3::new(0.0, 0.0, 150.0);
        assert_eq!(view.ray(from, down(0.0, 1.0, -5.0), 1_000.0), Err(Miss::Sky));
        assert_eq!(view.ray(from, down(0.0, 1.0, 45.0), 100.0), Err(Miss::TooFar));
        assert_eq!(view.ray(from, down(0.0, 1.0, 20.0), 1_000.0), Err(Miss::Outside));
        assert_eq!(view.ray(Vector3::new(0.0, 0.0, 20.0), down(0.0, 1.0, 20.0), 1_000.0), Err(Miss::Below));
        let elsewhere = dem.around(crate::geo::LatLon { lat: 31.6, lon: -110.4 }, 150.0, 1_000.0);
        assert_eq!(elsewhere.ray(from, down(0.0, 1.0, 45.0), 1_000.0), Err(Miss::Outside));
        assert!(matches!(view.ray(from, down(1.0, 0.0, 45.0), 1_000.0), Err(Miss::Void | Miss::Outside)));
    }

    #[test]
    fn over_a_void_the_surface_is_bridged_and_the_gap_is_told() {
        let dem = model(1.0, 400, |e, _| if (80.0..120.0).contains(&e) { f64::NAN } else { 50.0 });
        let view = dem.around(HERE, 150.0, 1_000.0);
        // A terrace behind the void stands in the ray's way.
        let hit = view.ray(Vector3::new(0.0, 0.0, 150.0), down(1.0, 0.0, 45.0), 1_000.0).unwrap();
        assert!((hit.point.x - 100.0).abs() < 1.5 && hit.gap_m > 15.0, "{hit:?}");
    }

    #[test]
    fn passing_over_blocks_changes_nothing() {
        let rough = |e: f64, n: f64| 60.0 + 25.0 * (e / 23.0).sin() * (n / 31.0).cos();
        let dem = model(1.0, 800, rough);
        let mut plain = dem.clone();
        plain.blocks = vec![f32::INFINITY; plain.blocks.len()];
        for (i, depression) in [12.0, 25.0, 50.0, 80.0].into_iter().enumerate() {
            for bearing in 0..12 {
                let (s, c) = (f64::from(bearing) * 30.0_f64.to_radians()).sin_cos();
                let (from, d) = (Vector3::new(5.0 * i as f64, 0.0, 160.0), down(s, c, depression));
                let one = dem.around(HERE, 160.0, 400.0).ray(from, d, 390.0);
                let other = plain.around(HERE, 160.0, 400.0).ray(from, d, 390.0);
                match (one, other) {
                    (Ok(a), Ok(b)) => assert!((a.point - b.point).norm() < 0.02, "{a:?} {b:?}"),
                    (a, b) => assert_eq!(a, b),
                }
            }
        }
    }
}
