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
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::cases::Kind;
    use crate::cases::book::View;
    use crate::cases::place::Stance;
    use crate::geo::{self, Attitude, Camera, LatLon, LocalFrame, Pose, PoseSigma};

    const HOME: LatLon = LatLon { lat: 23.05, lon: 113.0 };
    const SIGMA: PoseSigma = PoseSigma { horizontal_m: 1.5, vertical_m: 1.0, yaw_deg: 2.0, tilt_deg: 0.5 };
    const THINGS: [(f64, f64); 5] = [(-20.0, -25.0), (10.0, 22.0), (25.0, -5.0), (0.0, 0.0), (-30.0, 12.0)];

    /// What a pose is off by: east, north, up, yaw, pitch, roll.
    type Off = [f64; 6];

    fn normal(rng: &mut ChaCha8Rng) -> f64 {
        let (u, v): (f64, f64) = (rng.random_range(f64::MIN_POSITIVE..1.0), rng.random());
        (-2.0 * u.ln()).sqrt() * (v * std::f64::consts::TAU).cos()
    }

    /// Two tracks there and back, nearly straight down from 60 m; what they see of [`THINGS`].
    fn sortie(mut off: impl FnMut() -> Off) -> Vec<Vec<Sighted>> {
        let frame = LocalFrame::new(HOME);
        let camera = Camera::from_fov(4000, 3000, 66.0);
        let mut looks: Vec<Vec<Sighted>> = vec![Vec::new(); THINGS.len()];
        let tracks = [(-15.0, 90.0), (15.0, 270.0)].into_iter();
        let stops = tracks.flat_map(|(north, yaw)| (-3..=3).map(move |i| (north, yaw, f64::from(i) * 12.0)));
        for (number, (north, yaw_deg, east)) in stops.enumerate() {
            let pose = |off: Off| Pose {
                at: frame.to_latlon(east + off[0], north + off[1]),
                height_m: 60.0 + off[2],
                attitude: Attitude { yaw_deg: yaw_deg + off[3], pitch_deg: -85.0 + off[4], roll_deg: off[5] },
                sigma: SIGMA,
            };
            let (truly, stated) = (pose([0.0; 6]), pose(off()));
            for (thing, &(e, n)) in THINGS.iter().enumerate() {
                let Some([x, y]) = geo::project_ground(&camera, &truly, frame.to_latlon(e, n), 0.0) else { continue };
                if !camera.contains([x, y]) {
                    continue;
                }
                looks[thing].push(Sighted {
                    kind: Kind::Garbage,
                    score: 0.9,
                    threshold: 0.5,
                    located: geo::locate(&camera, &stated, [x, y], 0.0, 0.3).unwrap(),
                    stance: Stance { view: View { camera, pose: stated }, height_m: 0.0, height_sigma_m: 0.3 },
                    at_edge: false,
                    experimental: false,
                    frame: number as u64,
                    bbox: [x - 20.0, y - 20.0, x + 20.0, y + 20.0].map(|v| v as f32),
                    taken_at: Timestamp::UNIX_EPOCH,
                });
            }
        }
        looks
    }

    /// Error, and whether the truth lies in the ellipse.
    fn judge(place: &Located, (e, n): (f64, f64)) -> (f64, bool) {
        let [east, north] = LocalFrame::new(place.at).to_enu(LocalFrame::new(HOME).to_latlon(e, n));
        let (s, c) = place.uncertainty.bearing_deg.to_radians().sin_cos();
        let along = (east * s + north * c) / place.uncertainty.semi_major_m;
        let across = (east * c - north * s) / place.uncertainty.semi_minor_m;
        (east.hypot(north), along.hypot(across) <= 1.0)
    }

    /// Each thing joined by its looks' ellipses, and all adjusted together.
    fn both(looks: &[Vec<Sighted>]) -> Vec<[(f64, bool); 2]> {
        let slices: Vec<&[Sighted]> = looks.iter().map(Vec::as_slice).collect();
        let joined = looks.iter().map(|l| geo::combine(&l.iter().map(|l| l.located).collect::<Vec<_>>()).unwrap());
        let places = places(&slices).into_iter().map(|p| p.expect("placed"));
        joined.zip(places).zip(THINGS).map(|((a, b), truth)| [judge(&a, truth), judge(&b, truth)]).collect()
    }

    #[test]
    fn a_gimbal_mounted_askew_all_sortie_long_is_taken_out_of_every_place_but_the_satellite_fix_is_not() {
        // Rolled by a degree, and the whole fix 1 m east.
        let looks = sortie(|| [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        for [_, (error, inside)] in both(&looks) {
            assert!((error - 1.0).abs() < 0.35 && inside, "{error}");
        }
    }

    /// Errors as the poses state them: most of the place's is common to the sortie, half of the attitude's.
    #[test]
    fn over_many_sorties_the_places_are_nearer_the_truth_and_it_lies_in_their_ellipses() {
        let mut all: Vec<[(f64, bool); 2]> = Vec::new();
        for seed in 0..30 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let sigmas = [1.5, 1.5, 1.0, 2.0, 0.5, 0.5];
            let shares = [0.8, 0.8, 0.8, 0.5, 0.5, 0.5_f64];
            let shared: Vec<f64> = (0..6).map(|i| sigmas[i] * shares[i].sqrt() * normal(&mut rng)).collect();
            let off = || std::array::from_fn(|i| shared[i] + sigmas[i] * (1.0 - shares[i]).sqrt() * normal(&mut rng));
            all.extend(both(&sortie(off)));
        }
        let [joined, together] = [0, 1].map(|which| {
            let mut errors: Vec<f64> = all.iter().map(|pair| pair[which].0).collect();
            errors.sort_by(f64::total_cmp);
            let inside = all.iter().filter(|pair| pair[which].1).count() as f64 / all.len() as f64;
            (errors[errors.len() / 2], errors[errors.len() * 9 / 10], inside)
        });
        println!("median, p90, share inside: joined {joined:?}, together {together:?}");
        assert!(together.0 <= joined.0 && together.1 <= 1.05 * joined.1, "{joined:?} {together:?}");
        assert!((0.85..=1.0).contains(&together.2), "{together:?}");
    }

    #[test]
    fn things_seen_once_each_have_no_more_to_say_together() {
        let looks = sortie(|| [0.0; 6]);
        let once: Vec<&[Sighted]> = looks.iter().map(|l| &l[..1]).collect();
        assert_eq!(places(&once), vec![None; THINGS.len()]);
        assert!(places(&[]).is_empty());
    }
}
