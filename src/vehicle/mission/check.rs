//! What must never reach an autopilot, whoever planned it. Pure.
//!
//! A leg is judged along its whole length and not by its ends. And since a drone that is left alone comes home in a
//! straight line from wherever it is, the way home from every point of the route must be free as well.

use super::{CameraPlan, Exclusion, MOST_ITEMS, Mission, Waypoint};
use crate::geo::LatLon;

/// What no mission may exceed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    pub max_height_m: f64,
    pub max_distance_m: f64,
}

/// Why a mission is not fit to be sent.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MissionFault {
    #[error("the mission has no waypoint")]
    Empty,
    #[error("the mission has {items} items, more than the {limit} that autopilots keep; split the sortie")]
    TooLong { items: usize, limit: usize },
    #[error("{field} is {value}, outside {low} to {high}")]
    OutOfRange { field: String, value: f64, low: f64, high: f64 },
    #[error("where the drone stands is not known, so neither is how far the mission goes; wait for its position")]
    HomeUnknown,
    #[error("the mission names the ground below {named} of {waypoints} waypoints; name all or none")]
    Ground { named: usize, waypoints: usize },
    #[error("waypoint {waypoint} is {above_m:.1} m above the ground, less than {LEAST_ABOVE_GROUND_M}; raise it")]
    TooLow { waypoint: usize, above_m: f64 },
    #[error("{bound}: its edges cross or touch each other; give its vertices in order and each once")]
    Tangled { bound: Bound },
    #[error("the take-off point lies outside the geofence or within an exclusion ({bound}); correct the bounds")]
    HomeOutside { bound: Bound },
    #[error("waypoint {waypoint} lies outside the geofence; move it or widen the fence")]
    OutsideFence { waypoint: usize },
    #[error("waypoint {waypoint} lies within {bound}; move it")]
    WithinExclusion { waypoint: usize, bound: Bound },
    #[error("the way from {from} to {to} crosses {bound}, though its ends do not lie beyond it; lead the route around")]
    Crosses { from: Place, to: Place, bound: Bound },
    #[error(
        "the straight way home from {from} crosses {bound}, and a drone that is left alone flies just that way; leave this part out or move the bound"
    )]
    NoWayHome { from: Place, bound: Bound },
    #[error("waypoint {waypoint} is {distance_m:.0} m from home, farther than max_distance_m = {limit_m:.0}")]
    TooFar { waypoint: usize, distance_m: f64, limit_m: f64 },
}

/// A bound, as people know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    Fence,
    Exclusion(usize),
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bound::Fence => write!(f, "the geofence"),
            Bound::Exclusion(index) => write!(f, "exclusion {index}"),
        }
    }
}

/// A point of the route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Home,
    Waypoint(usize),
    /// Between this waypoint and the next.
    After(usize),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Home => write!(f, "home"),
            Place::Waypoint(index) => write!(f, "waypoint {index}"),
            Place::After(index) => write!(f, "a point between waypoints {index} and {}", index + 1),
        }
    }
}

/// Closer to the ground nobody has reason to send it.
const LEAST_ABOVE_GROUND_M: f64 = 2.0;
/// ArduPilot keeps at most 255 vertices a polygon; its fence storage holds some hundred points in all.
const MOST_VERTICES: f64 = 255.0;
const MOST_EXCLUSIONS: f64 = 32.0;

/// Refuses what must never reach an autopilot. `items`: how many the mission has as a list.
pub fn check(mission: &Mission, home: Option<LatLon>, limits: &Limits, items: usize) -> Result<(), MissionFault> {
    if mission.waypoints.is_empty() {
        return Err(MissionFault::Empty);
    }
    if items > MOST_ITEMS {
        return Err(MissionFault::TooLong { items, limit: MOST_ITEMS });
    }
    numbers(mission, limits)?;
    let home = home.ok_or(MissionFault::HomeUnknown)?;
    place("home", home)?;
    for (waypoint, at) in mission.waypoints.iter().enumerate() {
        let distance_m = distance_m(home, at.at);
        if distance_m > limits.max_distance_m {
            return Err(MissionFault::TooFar { waypoint, distance_m, limit_m: limits.max_distance_m });
        }
    }
    bounds(mission, home)
}

fn numbers(mission: &Mission, limits: &Limits) -> Result<(), MissionFault> {
    within("takeoff_height_m", mission.takeoff_height_m, 1.0, limits.max_height_m)?;
    within("speed_m_s", mission.speed_m_s, 0.5, 30.0)?;
    let CameraPlan { trigger_distance_m, trigger_interval_s, gimbal_pitch_deg } = mission.camera;
    match trigger_interval_s {
        Some(seconds) => within("camera.trigger_interval_s", seconds, 0.2, 600.0)?,
        None => within("camera.trigger_distance_m", trigger_distance_m, 0.5, 1000.0)?,
    }
    within("camera.gimbal_pitch_deg", gimbal_pitch_deg, -90.0, 30.0)?;
    let (named, waypoints) = (mission.ground_m.len(), mission.waypoints.len());
    if named != 0 && named != waypoints {
        return Err(MissionFault::Ground { named, waypoints });
    }
    for (index, Waypoint { at, height_m }) in mission.waypoints.iter().enumerate() {
        place(&format!("waypoint {index}"), *at)?;
        within(&format!("waypoint {index}: height_m"), *height_m, 1.0, limits.max_height_m)?;
        if let Some(ground_m) = mission.ground_m.get(index) {
            within(&format!("waypoint {index}: ground_m"), *ground_m, -1000.0, 1000.0)?;
            let above_m = height_m - ground_m;
            if above_m < LEAST_ABOVE_GROUND_M {
                return Err(MissionFault::TooLow { waypoint: index, above_m });
            }
        }
    }
    if let Some(fence) = &mission.fence {
        polygon("fence", fence, Bound::Fence)?;
    }
    within("exclusions: their number", mission.exclusions.len() as f64, 0.0, MOST_EXCLUSIONS)?;
    for (index, exclusion) in mission.exclusions.iter().enumerate() {
        let name = format!("exclusion {index}");
        match exclusion {
            Exclusion::Polygon { vertices } => polygon(&name, vertices, Bound::Exclusion(index))?,
            Exclusion::Circle { centre, radius_m } => {
                place(&format!("{name}: centre"), *centre)?;
                within(&format!("{name}: radius_m"), *radius_m, 1.0, 10_000.0)?;
            }
        }
    }
    Ok(())
}

fn polygon(name: &str, vertices: &[LatLon], bound: Bound) -> Result<(), MissionFault> {
    within(&format!("{name}: number of vertices"), vertices.len() as f64, 3.0, MOST_VERTICES)?;
    for (index, vertex) in vertices.iter().enumerate() {
        place(&format!("{name}: vertex {index}"), *vertex)?;
    }
    let edges: Vec<_> = edges(vertices).map(|(a, b)| (flat(vertices[0], a), flat(vertices[0], b))).collect();
    for (i, one) in edges.iter().enumerate() {
        // Neighbours share a vertex; the first and the last are neighbours too.
        for (j, other) in edges.iter().enumerate().skip(i + 2) {
            if (i, j) != (0, edges.len() - 1) && cross(*one, *other) {
                return Err(MissionFault::Tangled { bound });
            }
        }
    }
    Ok(())
}

fn bounds(mission: &Mission, home: LatLon) -> Result<(), MissionFault> {
    let way: Vec<LatLon> = mission.waypoints.iter().map(|waypoint| waypoint.at).collect();
    Bounds::new(mission.fence.as_deref(), &mission.exclusions, home).keep(home, &way)
}

/// Whether a whole flight stays over `area`: its points, the legs between them, and the straight way home from each.
pub(crate) fn keeps_to(area: &[LatLon], home: LatLon, way: &[LatLon]) -> Result<(), MissionFault> {
    Bounds::new(Some(area), &[], home).keep(home, way)
}

/// Metres east and north of an origin. Good to a thousandth over the few kilometres that a mission spans.
type Flat = [f64; 2];

fn flat(origin: LatLon, at: LatLon) -> Flat {
    const METRES_PER_DEGREE: f64 = 6_371_000.0 * std::f64::consts::PI / 180.0;
    let east = (at.lon - origin.lon) * origin.lat.to_radians().cos();
    [east * METRES_PER_DEGREE, (at.lat - origin.lat) * METRES_PER_DEGREE]
}

struct Bounds {
    origin: LatLon,
    fence: Option<Vec<Flat>>,
    exclusions: Vec<Shape>,
}

enum Shape {
    Polygon(Vec<Flat>),
    Circle(Flat, f64),
}

impl Bounds {
    fn new(fence: Option<&[LatLon]>, exclusions: &[Exclusion], origin: LatLon) -> Self {
        let flatten = |vertices: &[LatLon]| vertices.iter().map(|vertex| flat(origin, *vertex)).collect();
        Bounds {
            origin,
            fence: fence.map(flatten),
            exclusions: exclusions
                .iter()
                .map(|exclusion| match exclusion {
                    Exclusion::Polygon { vertices } => Shape::Polygon(flatten(vertices)),
                    Exclusion::Circle { centre, radius_m } => Shape::Circle(flat(origin, *centre), *radius_m),
                })
                .collect(),
        }
    }

    /// The first part of a flight that meets a bound.
    fn keep(&self, home: LatLon, way: &[LatLon]) -> Result<(), MissionFault> {
        if let Some(bound) = self.hit_by_point(home) {
            return Err(MissionFault::HomeOutside { bound });
        }
        for (waypoint, at) in way.iter().enumerate() {
            match self.hit_by_point(*at) {
                Some(Bound::Fence) => return Err(MissionFault::OutsideFence { waypoint }),
                Some(bound) => return Err(MissionFault::WithinExclusion { waypoint, bound }),
                None => {}
            }
        }
        let points = || way.iter().copied().enumerate();
        for ((i, a), (j, b)) in points().zip(points().skip(1)) {
            if let Some(bound) = self.hit_by_leg(a, b) {
                return Err(MissionFault::Crosses { from: Place::Waypoint(i), to: Place::Waypoint(j), bound });
            }
        }
        if let Some(first) = way.first()
            && let Some(bound) = self.hit_by_leg(home, *first)
        {
            return Err(MissionFault::Crosses { from: Place::Home, to: Place::Waypoint(0), bound });
        }
        for (i, a) in points() {
            if let Some(bound) = self.hit_by_leg(a, home) {
                return Err(MissionFault::NoWayHome { from: Place::Waypoint(i), bound });
            }
        }
        // With the leg and both ways home free, what still bars the way from a point between lies wholly in the triangle.
        for ((i, a), (_, b)) in points().zip(points().skip(1)) {
            if let Some(bound) = self.within_triangle([home, a, b]) {
                return Err(MissionFault::NoWayHome { from: Place::After(i), bound });
            }
        }
        Ok(())
    }

    fn excluded(&self, hit: impl Fn(&Shape) -> bool) -> Option<Bound> {
        self.exclusions.iter().position(hit).map(Bound::Exclusion)
    }

    fn hit_by_point(&self, at: LatLon) -> Option<Bound> {
        let at = flat(self.origin, at);
        if self.fence.as_ref().is_some_and(|fence| !contains(fence, at)) {
            return Some(Bound::Fence);
        }
        self.excluded(|shape| match shape {
            Shape::Polygon(vertices) => contains(vertices, at),
            Shape::Circle(centre, radius) => distance(*centre, at) <= *radius,
        })
    }

    /// Between two points that hit nothing themselves.
    fn hit_by_leg(&self, a: LatLon, b: LatLon) -> Option<Bound> {
        let leg = (flat(self.origin, a), flat(self.origin, b));
        let cuts = |vertices: &[Flat]| edges(vertices).any(|edge| cross(leg, edge));
        if self.fence.as_deref().is_some_and(cuts) {
            return Some(Bound::Fence);
        }
        self.excluded(|shape| match shape {
            Shape::Polygon(vertices) => cuts(vertices),
            Shape::Circle(centre, radius) => to_segment(*centre, leg) <= *radius,
        })
    }

    fn within_triangle(&self, corners: [LatLon; 3]) -> Option<Bound> {
        let triangle = corners.map(|corner| flat(self.origin, corner));
        self.excluded(|shape| match shape {
            Shape::Polygon(vertices) => vertices.first().is_some_and(|vertex| contains(&triangle, *vertex)),
            Shape::Circle(centre, _) => contains(&triangle, *centre),
        })
    }
}

fn edges<T: Copy>(vertices: &[T]) -> impl Iterator<Item = (T, T)> + '_ {
    vertices.iter().copied().zip(vertices.iter().copied().cycle().skip(1))
}

/// Even-odd rule.
fn contains(polygon: &[Flat], at: Flat) -> bool {
    edges(polygon).fold(false, |inside, (a, b)| {
        let hit = (a[1] > at[1]) != (b[1] > at[1]) && at[0] < (b[0] - a[0]) * (at[1] - a[1]) / (b[1] - a[1]) + a[0];
        inside != hit
    })
}

/// Even-odd rule in degrees: fences are a few kilometres across.
pub(crate) fn inside(at: LatLon, polygon: &[LatLon]) -> bool {
    let plane: Vec<Flat> = polygon.iter().map(|vertex| [vertex.lon, vertex.lat]).collect();
    contains(&plane, [at.lon, at.lat])
}

fn distance(a: Flat, b: Flat) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

fn to_segment(at: Flat, (a, b): (Flat, Flat)) -> f64 {
    let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
    let square = dx * dx + dy * dy;
    let share = if square > 0.0 { ((at[0] - a[0]) * dx + (at[1] - a[1]) * dy) / square } else { 0.0 };
    let share = share.clamp(0.0, 1.0);
    distance(at, [a[0] + share * dx, a[1] + share * dy])
}

/// Whether two segments meet, touching included.
fn cross((a, b): (Flat, Flat), (c, d): (Flat, Flat)) -> bool {
    let turn = |o: Flat, p: Flat, q: Flat| (p[0] - o[0]) * (q[1] - o[1]) - (p[1] - o[1]) * (q[0] - o[0]);
    let on = |o: Flat, p: Flat, q: Flat| {
        (o[0].min(p[0])..=o[0].max(p[0])).contains(&q[0]) && (o[1].min(p[1])..=o[1].max(p[1])).contains(&q[1])
    };
    let (abc, abd, cda, cdb) = (turn(a, b, c), turn(a, b, d), turn(c, d, a), turn(c, d, b));
    if ((abc > 0.0) != (abd > 0.0)) && ((cda > 0.0) != (cdb > 0.0)) && abc * abd != 0.0 && cda * cdb != 0.0 {
        return true;
    }
    (abc == 0.0 && on(a, b, c))
        || (abd == 0.0 && on(a, b, d))
        || (cda == 0.0 && on(c, d, a))
        || (cdb == 0.0 && on(c, d, b))
}

fn within(field: &str, value: f64, low: f64, high: f64) -> Result<(), MissionFault> {
    // NaN is in no range.
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(MissionFault::OutOfRange { field: field.to_owned(), value, low, high })
}

fn place(what: &str, at: LatLon) -> Result<(), MissionFault> {
    within(&format!("{what}: lat"), at.lat, -89.0, 89.0)?;
    within(&format!("{what}: lon"), at.lon, -180.0, 180.0)
}

/// Metres on the sphere; good to half a percent, which a limit does not feel.
pub(super) fn distance_m(a: LatLon, b: LatLon) -> f64 {
    let (lat_a, lat_b) = (a.lat.to_radians(), b.lat.to_radians());
    let half = |d: f64| (d / 2.0).sin().powi(2);
    let h = half(lat_b - lat_a) + lat_a.cos() * lat_b.cos() * half((b.lon - a.lon).to_radians());
    2.0 * 6_371_000.0 * h.sqrt().min(1.0).asin()
}

/// How far along the leg the point nearest to `at` lies, in metres.
pub(super) fn along_m(a: LatLon, b: LatLon, at: LatLon) -> f64 {
    let (leg, at) = (flat(a, b), flat(a, at));
    let length = leg[0].hypot(leg[1]);
    if length == 0.0 { 0.0 } else { ((at[0] * leg[0] + at[1] * leg[1]) / length).clamp(0.0, length) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{HOME, corner, mission};
    use super::super::{items, tests::CAPS};
    use super::*;
    use crate::vehicle::Autopilot;

    const LIMITS: Limits = Limits { max_height_m: 120.0, max_distance_m: 5000.0 };

    fn verdict(mission: &Mission) -> Result<(), MissionFault> {
        let items = items(mission, Autopilot::ArduPilot, Some(HOME), CAPS).len();
        check(mission, Some(HOME), &LIMITS, items)
    }

    fn refused(change: impl Fn(&mut Mission)) -> MissionFault {
        let mut mission = mission();
        change(&mut mission);
        verdict(&mission).unwrap_err()
    }

    #[test]
    fn missions_that_no_one_should_fly_are_refused() {
        assert_eq!(verdict(&mission()), Ok(()));
        assert_eq!(refused(|m| m.waypoints.clear()), MissionFault::Empty);
        assert!(matches!(refused(|m| m.waypoints = vec![m.waypoints[0]; 10_000]), MissionFault::TooLong { .. }));
        assert!(matches!(refused(|m| m.waypoints[1].height_m = f64::NAN), MissionFault::OutOfRange { .. }));
        assert!(matches!(refused(|m| m.waypoints[1].at.lon = f64::INFINITY), MissionFault::OutOfRange { .. }));
        assert!(matches!(refused(|m| m.waypoints[1].height_m = 500.0), MissionFault::OutOfRange { .. }));
        assert!(matches!(refused(|m| m.speed_m_s = f64::NAN), MissionFault::OutOfRange { .. }));
        assert!(matches!(refused(|m| m.camera.trigger_interval_s = Some(0.0)), MissionFault::OutOfRange { .. }));
        assert!(matches!(refused(|m| m.fence.as_mut().unwrap()[2].lat = f64::NAN), MissionFault::OutOfRange { .. }));
        assert_eq!(refused(|m| m.waypoints[1].at.lat += 0.02), MissionFault::OutsideFence { waypoint: 1 });
        assert_eq!(refused(|m| m.ground_m = vec![0.0]), MissionFault::Ground { named: 1, waypoints: 2 });
        assert!(matches!(refused(|m| m.ground_m = vec![0.0, 59.0]), MissionFault::TooLow { waypoint: 1, .. }));
        assert_eq!(check(&mission(), None, &LIMITS, 10), Err(MissionFault::HomeUnknown));
    }

    #[test]
    fn a_route_on_the_other_side_of_the_earth_is_too_far_with_or_without_a_fence() {
        let there = LatLon { lat: -23.0, lon: -67.0 };
        let far = refused(|m| {
            m.fence = None;
            m.waypoints[0].at = there;
        });
        assert!(matches!(far, MissionFault::TooFar { waypoint: 0, .. }), "{far}");
        let whole = refused(|m| {
            for waypoint in &mut m.waypoints {
                waypoint.at = there;
            }
            m.fence = Some(
                [(-1.0, -1.0), (-1.0, 1.0), (1.0, 1.0), (1.0, -1.0)]
                    .map(|(n, e)| LatLon { lat: there.lat + n, lon: there.lon + e })
                    .into(),
            );
        });
        assert!(matches!(whole, MissionFault::TooFar { .. }), "{whole}");
    }

    #[test]
    fn a_leg_that_leaves_the_fence_between_its_ends_is_refused() {
        // A notch in the fence between the two waypoints.
        let notched = |depth: f64| {
            vec![
                corner(-0.01, -0.01),
                corner(-0.01, 0.01),
                corner(0.01, 0.01),
                corner(0.01, 0.0006),
                corner(depth, 0.0005),
                corner(0.01, 0.0004),
                corner(0.01, -0.01),
            ]
        };
        assert_eq!(verdict(&Mission { fence: Some(notched(0.002)), ..mission() }), Ok(()));
        let fault = refused(|m| m.fence = Some(notched(0.0008)));
        let between = MissionFault::Crosses { from: Place::Waypoint(0), to: Place::Waypoint(1), bound: Bound::Fence };
        assert_eq!(fault, between);
    }

    #[test]
    fn a_fence_that_is_no_area_or_leaves_the_dock_out_is_refused() {
        let tangled = refused(|m| m.fence.as_mut().unwrap().swap(1, 2));
        assert_eq!(tangled, MissionFault::Tangled { bound: Bound::Fence });
        let out = refused(|m| {
            m.fence = Some(vec![corner(0.0005, -0.01), corner(0.0005, 0.01), corner(0.01, 0.01), corner(0.01, -0.01)]);
        });
        assert_eq!(out, MissionFault::HomeOutside { bound: Bound::Fence });
    }

    #[test]
    fn an_exclusion_is_kept_off_by_waypoints_legs_and_every_way_home() {
        let circle = |north, east, radius_m| Exclusion::Circle { centre: corner(north, east), radius_m };
        let square = |north: f64, east: f64, half: f64| Exclusion::Polygon {
            vertices: [(-1.0, -1.0), (-1.0, 1.0), (1.0, 1.0), (1.0, -1.0)]
                .map(|(n, e)| corner(north + n * half, east + e * half))
                .into(),
        };
        // Beyond the route nothing is in the way.
        for beyond in [circle(0.003, 0.0005, 50.0), square(0.003, 0.0005, 0.0003)] {
            assert_eq!(verdict(&Mission { exclusions: vec![beyond], ..mission() }), Ok(()));
        }
        let bound = Bound::Exclusion(0);
        for (exclusion, fault) in [
            (circle(0.001, 0.001, 20.0), MissionFault::WithinExclusion { waypoint: 1, bound }),
            (square(0.001, 0.001, 0.0002), MissionFault::WithinExclusion { waypoint: 1, bound }),
            (
                circle(0.0011, 0.0005, 20.0),
                MissionFault::Crosses { from: Place::Waypoint(0), to: Place::Waypoint(1), bound },
            ),
            (
                square(0.001, 0.0005, 0.0002),
                MissionFault::Crosses { from: Place::Waypoint(0), to: Place::Waypoint(1), bound },
            ),
            (circle(0.0005, 0.0, 20.0), MissionFault::Crosses { from: Place::Home, to: Place::Waypoint(0), bound }),
            (circle(0.0005, 0.0005, 10.0), MissionFault::NoWayHome { from: Place::Waypoint(1), bound }),
            (circle(0.0007, 0.0003, 10.0), MissionFault::NoWayHome { from: Place::After(0), bound }),
            (square(0.0007, 0.0003, 0.0001), MissionFault::NoWayHome { from: Place::After(0), bound }),
            (circle(0.0, 0.0, 20.0), MissionFault::HomeOutside { bound }),
        ] {
            assert_eq!(refused(|m| m.exclusions = vec![exclusion.clone()]), fault, "{exclusion:?}");
        }
    }
}
