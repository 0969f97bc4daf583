//! What the simulated autopilot makes of its fence list: polygons and circles to stay in and to stay out of. Pure.

use mavlink::dialects::common::{MISSION_ITEM_INT_DATA, MavCmd};

use super::Ground;
use super::physics::Enu;
use crate::geo::LatLon;
use crate::vehicle::mission;

/// The fence of one upload.
#[derive(Debug, Default)]
pub struct Fences {
    polygons: Vec<Area<Vec<LatLon>>>,
    circles: Vec<Area<(LatLon, f64)>>,
}

#[derive(Debug)]
struct Area<T> {
    /// To stay in, or to stay out of.
    keep_in: bool,
    shape: T,
}

impl Fences {
    /// Each vertex says in its first parameter how many its polygon has; a list that does not add up is no fence.
    pub fn read(items: &[MISSION_ITEM_INT_DATA]) -> Option<Fences> {
        let mut fences = Fences::default();
        let mut left = items;
        while let Some(first) = left.first() {
            let at =
                |item: &MISSION_ITEM_INT_DATA| LatLon { lat: f64::from(item.x) / 1e7, lon: f64::from(item.y) / 1e7 };
            let keep_in = matches!(
                first.command,
                MavCmd::MAV_CMD_NAV_FENCE_POLYGON_VERTEX_INCLUSION | MavCmd::MAV_CMD_NAV_FENCE_CIRCLE_INCLUSION
            );
            let used = match first.command {
                MavCmd::MAV_CMD_NAV_FENCE_POLYGON_VERTEX_INCLUSION
                | MavCmd::MAV_CMD_NAV_FENCE_POLYGON_VERTEX_EXCLUSION => {
                    let count = first.param1 as usize;
                    let ring = left.get(..count).filter(|ring| {
                        count >= 3 && ring.iter().all(|i| i.command == first.command && i.param1 == first.param1)
                    })?;
                    fences.polygons.push(Area { keep_in, shape: ring.iter().map(at).collect() });
                    count
                }
                MavCmd::MAV_CMD_NAV_FENCE_CIRCLE_INCLUSION | MavCmd::MAV_CMD_NAV_FENCE_CIRCLE_EXCLUSION => {
                    fences.circles.push(Area { keep_in, shape: (at(first), f64::from(first.param1)) });
                    1
                }
                _ => 1,
            };
            left = left.get(used..)?;
        }
        Some(fences)
    }

    pub fn is_empty(&self) -> bool {
        self.polygons.is_empty() && self.circles.is_empty()
    }

    /// Whether a place is where the drone may be.
    pub fn allow(&self, at: LatLon, ground: &Ground) -> bool {
        let here = ground.enu(at, 0.0);
        let within = |(centre, radius): &(LatLon, f64)| {
            let [east, north, _] = ground.enu(*centre, 0.0);
            (east - here[0]).hypot(north - here[1]) <= *radius
        };
        self.polygons.iter().all(|area| mission::inside(at, &area.shape) == area.keep_in)
            && self.circles.iter().all(|area| within(&area.shape) == area.keep_in)
    }

    /// How far a place is from where the drone may be, metres: 0 where it may be there.
    pub fn outside_m(&self, at: LatLon, ground: &Ground) -> f64 {
        if self.allow(at, ground) {
            return 0.0;
        }
        let here = ground.enu(at, 0.0);
        let rings = self.polygons.iter().flat_map(|area| {
            let next = area.shape.iter().cycle().skip(1);
            area.shape.iter().zip(next).map(|(a, b)| to_edge(here, ground.enu(*a, 0.0), ground.enu(*b, 0.0)))
        });
        let circles = self.circles.iter().map(|area| {
            let [east, north, _] = ground.enu(area.shape.0, 0.0);
            ((east - here[0]).hypot(north - here[1]) - area.shape.1).abs()
        });
        // The nearest line is not always the one that was crossed, but never farther than it.
        rings.chain(circles).fold(f64::INFINITY, f64::min)
    }
}

fn to_edge(here: Enu, a: Enu, b: Enu) -> f64 {
    let (along, from) = ([b[0] - a[0], b[1] - a[1]], [here[0] - a[0], here[1] - a[1]]);
    let length = (along[0] * along[0] + along[1] * along[1]).max(1e-9);
    let share = ((from[0] * along[0] + from[1] * along[1]) / length).clamp(0.0, 1.0);
    (from[0] - share * along[0]).hypot(from[1] - share * along[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: LatLon = LatLon { lat: 23.05, lon: 113.0 };

    fn vertex(command: MavCmd, count: f32, east: f64, north: f64) -> MISSION_ITEM_INT_DATA {
        let (at, _) = Ground::new(HOME).place([east, north, 0.0]);
        MISSION_ITEM_INT_DATA {
            command,
            param1: count,
            x: mission::degrees_e7(at.lat),
            y: mission::degrees_e7(at.lon),
            ..Default::default()
        }
    }

    fn square(command: MavCmd, half: f64) -> Vec<MISSION_ITEM_INT_DATA> {
        let corners = [(-half, -half), (half, -half), (half, half), (-half, half)];
        corners.map(|(east, north)| vertex(command, 4.0, east, north)).into()
    }

    #[test]
    fn what_is_allowed_is_inside_every_inclusion_and_outside_every_exclusion() {
        let mut items = square(MavCmd::MAV_CMD_NAV_FENCE_POLYGON_VERTEX_INCLUSION, 200.0);
        items.extend(square(MavCmd::MAV_CMD_NAV_FENCE_POLYGON_VERTEX_EXCLUSION, 20.0));
        items.push(vertex(MavCmd::MAV_CMD_NAV_FENCE_CIRCLE_EXCLUSION, 30.0, 100.0, 0.0));
        let fences = Fences::read(&items).unwrap();
        let ground = Ground::new(HOME);
        let allowed = |east, north| fences.allow(ground.place([east, north, 0.0]).0, &ground);
        assert!(allowed(50.0, 50.0));
        assert!(!allowed(0.0, 0.0), "in the excluded square");
        assert!(!allowed(110.0, 10.0), "in the excluded circle");
        assert!(!allowed(250.0, 0.0), "outside");
        let outside = fences.outside_m(ground.place([250.0, 0.0, 0.0]).0, &ground);
        assert!((outside - 50.0).abs() < 0.5, "{outside}");
    }

    #[test]
    fn a_list_whose_vertices_do_not_add_up_is_no_fence() {
        let mut items = square(MavCmd::MAV_CMD_NAV_FENCE_POLYGON_VERTEX_INCLUSION, 200.0);
        items.pop();
        assert!(Fences::read(&items).is_none());
        assert!(Fences::read(&[]).is_some_and(|fences| fences.is_empty()));
    }
}
