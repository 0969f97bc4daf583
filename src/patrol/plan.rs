//! Pure: the way over an area. Parallel lines along its longest side, near enough that their pictures overlap.

use crate::geo::{LatLon, LocalFrame};

/// What the camera covers and how much of it is to be covered again.
#[derive(Debug, Clone, Copy)]
pub struct Swath {
    pub height_m: f64,
    pub horizontal_fov_deg: f64,
    /// Width of the picture over its height.
    pub aspect: f64,
    /// Shares, 0 to below 1.
    pub side_overlap: f64,
    pub front_overlap: f64,
}

impl Swath {
    pub fn width_m(&self) -> f64 {
        2.0 * self.height_m * (self.horizontal_fov_deg.to_radians() / 2.0).tan()
    }

    pub fn spacing_m(&self) -> f64 {
        self.width_m() * (1.0 - self.side_overlap)
    }

    pub fn trigger_distance_m(&self) -> f64 {
        self.width_m() / self.aspect * (1.0 - self.front_overlap)
    }
}

/// The turning points of parallel lines over `area`, beginning at the end nearest to `from`.
pub fn cover(area: &[LatLon], from: LatLon, spacing_m: f64) -> Vec<LatLon> {
    let Some(&first) = area.first() else { return Vec::new() };
    let frame = LocalFrame::new(first);
    let mut ring: Vec<[f64; 2]> = area.iter().map(|&p| frame.to_enu(p)).collect();
    if ring.len() > 1 && ring.first() == ring.last() {
        ring.pop();
    }
    let Some(along) = longest_edge(&ring) else { return Vec::new() };
    // Turned so that the lines run along x.
    let (sin, cos) = along.sin_cos();
    let turned: Vec<[f64; 2]> = ring.iter().map(|[e, n]| [e * cos + n * sin, n * cos - e * sin]).collect();
    let low = turned.iter().map(|p| p[1]).fold(f64::MAX, f64::min);
    let high = turned.iter().map(|p| p[1]).fold(f64::MIN, f64::max);
    let count = ((high - low) / spacing_m.max(1.0)).ceil().clamp(1.0, 1000.0) as usize;
    let step = (high - low) / count as f64;
    let mut lines: Vec<[[f64; 2]; 2]> = (0..count)
        .filter_map(|i| {
            let y = low + (i as f64 + 0.5) * step;
            let crossings = crossings(&turned, y);
            // One line from the first to the last crossing: a notch in the area is flown over, never left out.
            let (left, right) = (crossings.first()?, crossings.last()?);
            Some([[*left, y], [*right, y]])
        })
        .collect();
    let home = {
        let [e, n] = frame.to_enu(from);
        [e * cos + n * sin, n * cos - e * sin]
    };
    let distance = |p: &[f64; 2]| (p[0] - home[0]).hypot(p[1] - home[1]);
    let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return Vec::new() };
    let nearest = |line: &[[f64; 2]; 2]| distance(&line[0]).min(distance(&line[1]));
    if nearest(last) < nearest(first) {
        lines.reverse();
    }
    let mut forward = distance(&lines[0][0]) <= distance(&lines[0][1]);
    let mut points = Vec::new();
    for [left, right] in lines {
        points.extend(if forward { [left, right] } else { [right, left] });
        forward = !forward;
    }
    points.into_iter().map(|[x, y]| frame.to_latlon(x * cos - y * sin, x * sin + y * cos)).collect()
}

/// The direction of the longest edge, radians from east to north.
fn longest_edge(ring: &[[f64; 2]]) -> Option<f64> {
    (0..ring.len())
        .map(|i| (ring[i], ring[(i + 1) % ring.len()]))
        .max_by(|(a, b), (c, d)| (b[0] - a[0]).hypot(b[1] - a[1]).total_cmp(&(d[0] - c[0]).hypot(d[1] - c[1])))
        .map(|(a, b)| (b[1] - a[1]).atan2(b[0] - a[0]))
}

/// Where the horizontal at `y` crosses the ring, from left to right.
fn crossings(ring: &[[f64; 2]], y: f64) -> Vec<f64> {
    let mut found: Vec<f64> = (0..ring.len())
        .map(|i| (ring[i], ring[(i + 1) % ring.len()]))
        .filter(|([_, y1], [_, y2])| (*y1 > y) != (*y2 > y))
        .map(|([x1, y1], [x2, y2])| x1 + (y - y1) / (y2 - y1) * (x2 - x1))
        .collect();
    found.sort_by(f64::total_cmp);
    found
}

/// The length of a way, metres.
pub fn length_m(way: &[LatLon]) -> f64 {
    way.windows(2).map(|pair| pair[0].distance_m(pair[1])).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOME: LatLon = LatLon { lat: 23.05, lon: 113.0 };

    proptest! {
        #[test]
        fn no_point_of_the_area_lies_farther_from_a_line_than_half_the_spacing(
            wide in 60.0f64..600.0, tall in 60.0f64..600.0, turn in 0.0f64..180.0, spacing in 15.0f64..90.0,
            u in 0.02f64..0.98, v in 0.02f64..0.98,
        ) {
            let frame = LocalFrame::new(HOME);
            let (sin, cos) = turn.to_radians().sin_cos();
            let place = |x: f64, y: f64| frame.to_latlon(x * cos - y * sin, x * sin + y * cos);
            let area = [place(0.0, 0.0), place(wide, 0.0), place(wide, tall), place(0.0, tall)];
            let way = cover(&area, HOME, spacing);
            let [px, py] = frame.to_enu(place(u * wide, v * tall));
            let nearest = way.chunks(2).map(|line| {
                let ([x1, y1], [x2, y2]) = (frame.to_enu(line[0]), frame.to_enu(line[1]));
                let (dx, dy) = (x2 - x1, y2 - y1);
                let t = (((px - x1) * dx + (py - y1) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
                (px - x1 - t * dx).hypot(py - y1 - t * dy)
            }).fold(f64::MAX, f64::min);
            prop_assert!(nearest <= spacing / 2.0 + 0.05, "{nearest}");
        }
    }

    #[test]
    fn lines_alternate_and_begin_near_the_dock() {
        let frame = LocalFrame::new(HOME);
        let area = [(100.0, 100.0), (400.0, 100.0), (400.0, 250.0), (100.0, 250.0)].map(|(e, n)| frame.to_latlon(e, n));
        let way = cover(&area, frame.to_latlon(450.0, 300.0), 50.0);
        assert_eq!(way.len(), 6);
        let start = frame.to_enu(way[0]);
        assert!((start[0] - 400.0).abs() < 1.0 && (start[1] - 225.0).abs() < 1.0, "{start:?}");
        // Three lines of 300 m and two turns of 50 m; with straight hops back it would be 1,500 m.
        assert!((length_m(&way) - 1000.0).abs() < 2.0);
    }

    #[test]
    fn a_point_for_an_area_gives_no_way() {
        assert_eq!(cover(&[], HOME, 50.0), []);
        assert_eq!(cover(&[HOME], HOME, 50.0), []);
    }
}
