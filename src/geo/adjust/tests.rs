use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::geo::dem::tests::{HERE, model};
use crate::geo::{Attitude, Distortion};

const SIGMA: PoseSigma = PoseSigma { horizontal_m: 1.5, vertical_m: 2.0, yaw_deg: 2.0, tilt_deg: 0.5 };

/// What the simulated sortie is off by.
#[derive(Default, Clone, Copy)]
struct Off {
    yaw_deg: f64,
    mount_right_deg: f64,
    up_m: f64,
    clock_s: f64,
    noise: f64,
}

fn camera() -> Camera {
    let lens = Distortion::Brown([-0.08, 0.1, 0.001, 0.0002, -0.03]);
    Camera { distortion: Some(lens), ..Camera::from_fov(4000, 3000, 50.0) }
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random_range(f64::MIN_POSITIVE..1.0), rng.random());
    (-2.0 * u.ln()).sqrt() * (v * std::f64::consts::TAU).cos()
}

/// Twelve pictures in a ring, looking inwards, 60 m above ground at 50 m; stated with errors. Returns the truth too.
fn ring<'a>(dem: Option<&'a Dem>, off: Off, seed: u64) -> (Sortie<'a>, Vec<Vector3<f64>>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let frame = LocalFrame::new(HERE);
    let ground = |e: f64, n: f64| dem.map_or(50.0, |dem| dem.height_m(frame.to_latlon(e, n)).unwrap());
    let truth: Vec<Vector3<f64>> = [(0.0, 0.0), (12.0, 5.0), (-9.0, 14.0), (3.0, -16.0), (-15.0, -6.0)]
        .iter()
        .map(|&(e, n)| Vector3::new(e, n, ground(e, n)))
        .collect();
    let (mut stations, mut sightings) = (Vec::new(), Vec::new());
    for i in 0..12 {
        let bearing = f64::from(i) * 30.0;
        let (s, c) = bearing.to_radians().sin_cos();
        // Flying along the ring at 8 m/s.
        let velocity = Vector3::new(c, -s, 0.0) * 8.0;
        let place = Vector3::new(50.0 * s, 50.0 * c, 110.0);
        let attitude = Attitude { yaw_deg: bearing + 180.0, pitch_deg: -50.0, roll_deg: 0.0 };
        let mount = nalgebra::Rotation3::from_scaled_axis(Vector3::x() * off.mount_right_deg.to_radians());
        let rotation = nalgebra::Rotation3::from_scaled_axis(Vector3::new(
            normal(&mut rng) * off.noise * 0.35_f64.to_radians(),
            normal(&mut rng) * off.noise * 0.35_f64.to_radians(),
            -off.yaw_deg.to_radians() + normal(&mut rng) * off.noise * 1.4_f64.to_radians(),
        )) * attitude.rotation()
            * mount;
        for (object, p) in truth.iter().enumerate() {
            let Some(pixel) = camera().project(rotation.inverse() * (p - place)).filter(|p| camera().contains(*p))
            else {
                continue;
            };
            let pixel = pixel.map(|v| v + normal(&mut rng) * off.noise * 2.0);
            sightings.push(Sighting { station: stations.len(), object, pixel, pixel_sigma: 3.0 });
        }
        let stated = place - Vector3::z() * off.up_m - velocity * off.clock_s
            + Vector3::new(normal(&mut rng), normal(&mut rng), normal(&mut rng)) * off.noise * 0.6;
        stations.push(Station {
            pose: Pose { at: frame.to_latlon(stated.x, stated.y), height_m: stated.z, attitude, sigma: SIGMA },
            camera: camera(),
            focal_sigma: 0.0,
            velocity_m_s: (off.clock_s != 0.0).then(|| velocity.into()),
        });
    }
    let stands = if dem.is_some() { Stands::OnTerrain } else { Stands::At { height_m: 50.0, sigma_m: 0.3 } };
    let objects = vec![stands; truth.len()];
    (Sortie { stations, sightings, objects, dem, zero_sigma_m: 0.0, max_range_m: 2_000.0 }, truth)
}

fn misses(adjusted: &Adjusted, truth: &[Vector3<f64>]) -> Vec<f64> {
    let frame = LocalFrame::new(HERE);
    adjusted
        .objects
        .iter()
        .zip(truth)
        .map(|(o, t)| {
            let [e, n] = frame.to_enu(o.as_ref().unwrap().at);
            (e - t.x).hypot(n - t.y)
        })
        .collect()
}

fn value(adjusted: &Adjusted, kind: Kind) -> Constant {
    *adjusted.constants.iter().find(|c| c.kind == kind).unwrap()
}

#[test]
fn a_compass_that_is_off_for_the_whole_sortie_is_found_and_taken_out() {
    let off = Off { yaw_deg: 2.5, ..Off::default() };
    let (sortie, truth) = ring(None, off, 1);
    let adjusted = adjust(&sortie).unwrap();
    let yaw = value(&adjusted, Kind::YawDeg);
    // Each picture may have a share of its own in it, so a little stays there.
    assert!((yaw.value - 2.5).abs() < 0.6 && yaw.sigma < yaw.prior_sigma, "{yaw:?}");
    assert!(misses(&adjusted, &truth).iter().all(|m| *m < 0.15), "{:?}", misses(&adjusted, &truth));
    // One look alone is off by what the compass is.
    let look = Look {
        camera: &camera(),
        focal_sigma: 0.0,
        pose: &sortie.stations[0].pose,
        ground: Ground::Flat { height_m: 50.0, sigma_m: 0.0 },
        max_range_m: 2_000.0,
    };
    let alone = look.locate(&Target::ground(sortie.sightings[0].pixel)).unwrap();
    assert!(alone.place.at.distance_m(HERE) > 1.5, "the error is real");
}

#[test]
fn a_crooked_gimbal_and_a_height_offset_are_told_apart_by_looks_from_all_sides() {
    let off = Off { mount_right_deg: 0.5, up_m: 2.0, ..Off::default() };
    let dem = model(2.0, 200, |e, n| 50.0 + 0.05 * e + 2.0 * (n / 15.0).sin());
    let (sortie, truth) = ring(Some(&dem), off, 1);
    let adjusted = adjust(&sortie).unwrap();
    assert!(misses(&adjusted, &truth).iter().all(|m| *m < 0.2), "{:?}", misses(&adjusted, &truth));
    assert!((value(&adjusted, Kind::UpM).value - 2.0).abs() < 0.8, "{:?}", adjusted.constants);
    assert!((value(&adjusted, Kind::MountRightDeg).value - 0.5).abs() < 0.3, "{:?}", adjusted.constants);
}

#[test]
fn a_camera_clock_that_is_late_is_found_where_the_drone_moves() {
    let off = Off { clock_s: 0.3, ..Off::default() };
    let (sortie, truth) = ring(None, off, 1);
    let adjusted = adjust(&sortie).unwrap();
    assert!((value(&adjusted, Kind::ClockS).value - 0.3).abs() < 0.1, "{:?}", adjusted.constants);
    assert!(misses(&adjusted, &truth).iter().all(|m| *m < 0.4), "{:?}", misses(&adjusted, &truth));
    let (still, _) = ring(None, Off::default(), 1);
    assert!(adjust(&still).unwrap().constants.iter().all(|c| c.kind != Kind::ClockS));
}

#[test]
fn one_wrong_click_and_one_broken_compass_bend_nothing_else() {
    let (mut sortie, truth) = ring(None, Off::default(), 1);
    sortie.sightings[7].pixel[0] += 500.0;
    sortie.stations[3].pose.attitude.yaw_deg += 25.0;
    let adjusted = adjust(&sortie).unwrap();
    assert!(adjusted.outlier[7]);
    assert!(misses(&adjusted, &truth).iter().all(|m| *m < 0.5), "{:?}", misses(&adjusted, &truth));
}

#[test]
fn the_ellipse_after_adjustment_holds_what_it_promises() {
    // Forty sorties whose errors are drawn as the priors say, the whole fix included.
    let (mut inside, mut all) = (0, 0);
    for seed in 0..40 {
        let mut rng = ChaCha8Rng::seed_from_u64(1_000 + seed);
        let shared = SHARED_PLACE.sqrt() * SIGMA.horizontal_m;
        let fix = [normal(&mut rng) * shared, normal(&mut rng) * shared];
        let off = Off {
            yaw_deg: 1.4 * normal(&mut rng),
            mount_right_deg: 0.35 * normal(&mut rng),
            up_m: 1.8 * normal(&mut rng),
            noise: 1.0,
            ..Off::default()
        };
        let (mut sortie, truth) = ring(None, off, seed);
        let frame = LocalFrame::new(HERE);
        for station in &mut sortie.stations {
            let [e, n] = frame.to_enu(station.pose.at);
            station.pose.at = frame.to_latlon(e + fix[0], n + fix[1]);
        }
        for (object, t) in adjust(&sortie).unwrap().objects.iter().zip(&truth) {
            let object = object.as_ref().unwrap();
            let [e, n] = frame.to_enu(object.at);
            let miss = nalgebra::Vector2::new(e - t.x, n - t.y);
            let information = object.uncertainty.covariance().try_inverse().unwrap();
            inside += usize::from((miss.transpose() * information * miss)[0] <= crate::geo::ellipse::CHI2_95);
            all += 1;
        }
    }
    let share = f64::from(inside as u32) / f64::from(all);
    assert!((0.90..=1.0).contains(&share), "{share} of {all}");
}

#[test]
fn an_adjustment_that_found_errors_which_no_instrument_has_says_so() {
    let (sortie, _) = ring(None, Off { yaw_deg: 2.5, ..Off::default() }, 1);
    let well = adjust(&sortie).unwrap();
    assert!(well.settled && !well.constants.iter().any(Constant::is_far_off), "{:?}", well.constants);
    // Yaws counted from somewhere else: an honest error of half a turn is none.
    for turned in [40.0, 180.0] {
        let mut sortie = sortie.clone();
        sortie.stations.iter_mut().for_each(|s| s.pose.attitude.yaw_deg += turned);
        let off = adjust(&sortie).unwrap();
        let told = !off.settled || off.constants.iter().any(Constant::is_far_off) || off.widened > 5.0;
        assert!(told, "{turned}: {} steps, {:?}", off.iterations, off.constants);
    }
}

#[test]
fn a_single_look_keeps_about_the_ellipse_of_a_single_look() {
    let (mut sortie, _) = ring(None, Off::default(), 1);
    sortie.sightings.retain(|s| s.station == 0 && s.object == 0);
    let adjusted = adjust(&sortie).unwrap();
    let one = adjusted.objects[0].as_ref().unwrap();
    let look = Look {
        camera: &camera(),
        focal_sigma: 0.0,
        pose: &sortie.stations[0].pose,
        ground: Ground::Flat { height_m: 50.0, sigma_m: 0.3 },
        max_range_m: 2_000.0,
    };
    let alone = look.locate(&Target::ground(sortie.sightings[0].pixel)).unwrap().place;
    assert!(one.at.distance_m(alone.at) < 0.1);
    let ratio = one.uncertainty.semi_major_m / alone.uncertainty.semi_major_m;
    assert!((0.7..1.5).contains(&ratio), "{ratio}");
    assert!(adjusted.objects[1].is_err(), "what nobody saw has no place");
}

#[test]
fn what_cannot_be_adjusted_says_why() {
    let (sortie, _) = ring(None, Off::default(), 1);
    let dangling = Sortie { objects: vec![], ..sortie.clone() };
    assert_eq!(adjust(&dangling).unwrap_err(), AdjustError::Dangling);
    let nowhere = Sortie { objects: vec![Stands::OnTerrain; 5], ..sortie.clone() };
    assert_eq!(adjust(&nowhere).unwrap_err(), AdjustError::NoTerrain);
    let many = Sortie { objects: vec![Stands::At { height_m: 0.0, sigma_m: 1.0 }; 1_001], ..sortie.clone() };
    assert!(matches!(adjust(&many).unwrap_err(), AdjustError::TooMany { .. }));
    let mut sky = sortie;
    for station in &mut sky.stations {
        station.pose.attitude.pitch_deg = 60.0;
    }
    assert!(matches!(adjust(&sky).unwrap_err(), AdjustError::NothingPlaced(LocateError::AboveHorizon { .. })));
}
