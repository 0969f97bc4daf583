//! Pure: where a sortie's things are by all of its looks together ([`crate::geo::adjust`]). Each picture's error and what
//! the sortie's instruments were off by are estimated along, which ellipses joined thing by thing cannot do.

use std::collections::BTreeMap;

use super::book::{Sighted, telling};
use crate::geo::adjust::{self, Sighting, Sortie, Stands, Station};
use crate::geo::{DEFAULT_MAX_RANGE_M, Located, PIXEL_SIGMA};

/// How well a box's middle marks the thing itself: one sigma, as a share of the box's longer side.
const BOX_SHARE: f64 = 0.05;
/// More things than this are placed one by one: the equations are dense in them, and a sortie's end must not wait.
const MOST: usize = 200;

/// One place a thing, in their order; none where the looks say no more together than each thing's do by themselves.
pub(super) fn places(things: &[&[Sighted]]) -> Vec<Option<Located>> {
    let nothing = || vec![None; things.len()];
    if things.len() > MOST || !things.iter().any(|looks| telling(looks).count() > 1) {
        return nothing();
    }
    let (mut stations, mut station_of) = (Vec::new(), BTreeMap::new());
    let (mut sightings, mut objects) = (Vec::new(), Vec::new());
    for (object, looks) in things.iter().enumerate() {
        for look in telling(looks) {
            let station = *station_of.entry(look.frame).or_insert_with(|| {
                let view = look.stance.view;
                // Each pose comes with its picture, so no clock is estimated.
                stations.push(Station { pose: view.pose, camera: view.camera, focal_sigma: 0.0, velocity_m_s: None });
                stations.len() - 1
            });
            let [x1, y1, x2, y2] = look.bbox.map(f64::from);
            let pixel_sigma = PIXEL_SIGMA.hypot(BOX_SHARE * (x2 - x1).max(y2 - y1));
            let pixel = [(x1 + x2) / 2.0, (y1 + y2) / 2.0];
            sightings.push(Sighting { station, object, pixel, pixel_sigma });
        }
        let heights: Vec<_> = telling(looks).map(|l| (l.stance.height_m, l.stance.height_sigma_m)).collect();
        let height_m = heights.iter().map(|h| h.0).sum::<f64>() / heights.len().max(1) as f64;
        // The looks share what they do not know of it.
        let sigma_m = heights.iter().map(|h| h.1).fold(f64::INFINITY, f64::min);
        objects.push(Stands::At { height_m, sigma_m });
    }
    let max_range_m = DEFAULT_MAX_RANGE_M;
    let sortie = Sortie { stations, sightings, objects, dem: None, zero_sigma_m: 0.0, max_range_m };
    match adjust::adjust(&sortie) {
        Ok(adjusted) => {
            tracing::info!(
                things = things.len(),
                looks = sortie.sightings.len(),
                errors_over_stated = adjusted.widened,
                constants = ?adjusted.constants.iter().map(|c| (c.kind.name(), c.value, c.sigma)).collect::<Vec<_>>(),
                "the looks of the sortie were adjusted together"
            );
            let place = |(object, looks): (Result<adjust::Placed, _>, &&[Sighted])| {
                let placed = object.ok()?;
                let slant_m = telling(looks).map(|l| l.located.slant_m).fold(f64::INFINITY, f64::min);
                Some(Located { at: placed.at, uncertainty: placed.uncertainty, slant_m })
            };
            adjusted.objects.into_iter().zip(things).map(place).collect()
        }
        Err(error) => {
            tracing::warn!(%error, "the looks of the sortie could not be adjusted together; each thing has its own");
            nothing()
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::cases::Kind;
    use crate::cases::book::{Stance, View};
    use crate::geo::{self, Attitude, Camera, LatLon, LocalFrame, Pose, PoseSigma};

    const HOME: LatLon = LatLon { lat: 23.05, lon: 113.0 };
    const SIGMA: PoseSigma = PoseSigma { horizontal_m: 1.5, vertical_m: 1.0, yaw_deg: 2.0, tilt_deg: 0.5 };

    /// Two tracks in opposite directions, straight down from 60 m, whose compass is `off_deg` off; what they see of things.
    fn sortie(things: &[(f64, f64)], off_deg: f64) -> Vec<Vec<Sighted>> {
        let frame = LocalFrame::new(HOME);
        let camera = Camera::from_fov(4000, 3000, 66.0);
        let mut looks: Vec<Vec<Sighted>> = vec![Vec::new(); things.len()];
        let tracks = [(-15.0, 0.0), (15.0, 180.0)];
        for (number, (north, yaw_deg, east)) in tracks
            .iter()
            .flat_map(|&(north, yaw)| (-3..=3).map(move |i| (north, yaw, f64::from(i) * 12.0)))
            .enumerate()
        {
            let pose = |yaw_deg| Pose {
                at: frame.to_latlon(east, north),
                height_m: 60.0,
                attitude: Attitude { yaw_deg, pitch_deg: -90.0, roll_deg: 0.0 },
                sigma: SIGMA,
            };
            let (truly, stated) = (pose(yaw_deg), pose(yaw_deg + off_deg));
            for (thing, &(e, n)) in things.iter().enumerate() {
                let Some([x, y]) = geo::project_ground(&camera, &truly, frame.to_latlon(e, n), 0.0) else { continue };
                if !camera.contains([x, y]) {
                    continue;
                }
                let bbox = [x - 20.0, y - 20.0, x + 20.0, y + 20.0].map(|v| v as f32);
                looks[thing].push(Sighted {
                    kind: Kind::Garbage,
                    score: 0.9,
                    sure: true,
                    located: geo::locate(&camera, &stated, [x, y], 0.0, 0.3).unwrap(),
                    stance: Stance { view: View { camera, pose: stated }, height_m: 0.0, height_sigma_m: 0.3 },
                    at_edge: false,
                    experimental: false,
                    frame: number as u64,
                    bbox,
                    taken_at: Timestamp::UNIX_EPOCH,
                });
            }
        }
        looks
    }

    #[test]
    fn a_compass_that_was_off_all_sortie_long_is_found_out_and_taken_out_of_every_place() {
        let truth = [(-20.0, -25.0), (10.0, 22.0), (25.0, -5.0), (0.0, 0.0)];
        let looks = sortie(&truth, 4.0);
        let slices: Vec<&[Sighted]> = looks.iter().map(Vec::as_slice).collect();
        let error = |place: &Located, (e, n): (f64, f64)| place.at.distance_m(LocalFrame::new(HOME).to_latlon(e, n));
        let (mut joined, mut together) = (0.0_f64, 0.0_f64);
        for ((place, looks), truth) in places(&slices).iter().zip(&looks).zip(truth) {
            let place = place.expect("placed");
            let by_ellipses = geo::combine(&looks.iter().map(|l| l.located).collect::<Vec<_>>()).unwrap();
            joined = joined.max(error(&by_ellipses, truth));
            together = together.max(error(&place, truth));
            assert!(error(&place, truth) < place.uncertainty.semi_minor_m);
            // The satellite fix of the whole sortie stays in every ellipse.
            assert!(place.uncertainty.semi_minor_m > 2.0, "{:?}", place.uncertainty);
        }
        assert!(together < 0.1 && together < joined / 3.0, "{together} m together, {joined} m one by one");
    }

    #[test]
    fn things_seen_once_each_have_no_more_to_say_together() {
        let looks = sortie(&[(0.0, -15.0), (5.0, 15.0)], 0.0);
        let once: Vec<&[Sighted]> = looks.iter().map(|l| &l[..1]).collect();
        assert_eq!(places(&once), [None, None]);
        assert!(places(&[]).is_empty());
    }
}
