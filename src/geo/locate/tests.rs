use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use nalgebra::Vector2;

use super::*;
use crate::geo::{Attitude, Distortion, PoseSigma};

const HERE: LatLon = LatLon { lat: 23.03, lon: 112.9 };

fn camera() -> Camera {
    Camera {
        distortion: Some(Distortion::Brown([-0.08, 0.1, 0.001, 0.0002, -0.03])),
        ..Camera::from_fov(4000, 3000, 70.0)
    }
}

fn pose(yaw_deg: f64, pitch_deg: f64, roll_deg: f64, height_m: f64) -> Pose {
    Pose {
        at: HERE,
        height_m,
        attitude: Attitude { yaw_deg, pitch_deg, roll_deg },
        sigma: PoseSigma { horizontal_m: 1.5, vertical_m: 1.0, yaw_deg: 1.5, tilt_deg: 0.4 },
    }
}

fn offset(located: &Located) -> [f64; 2] {
    LocalFrame::new(HERE).to_enu(located.at)
}

#[test]
fn straight_down_the_right_of_the_picture_is_right_of_the_yaw() {
    let ideal = Camera::from_fov(4000, 3000, 90.0);
    // Facing east: the picture's top is east, its right is south.
    let top = offset(&locate(&ideal, &pose(90.0, -90.0, 0.0, 100.0), [2000.0, 500.0], 0.0, 0.0).unwrap());
    assert!((top[0] - 50.0).abs() < 1e-3 && top[1].abs() < 1e-3, "{top:?}");
    let right = offset(&locate(&ideal, &pose(90.0, -90.0, 0.0, 100.0), [3000.0, 1500.0], 0.0, 0.0).unwrap());
    assert!(right[0].abs() < 1e-3 && (right[1] + 50.0).abs() < 1e-3, "{right:?}");
}

#[test]
fn the_ray_is_rotated_not_its_angles_added() {
    // A corner of an oblique picture. Adding the pixel's own angles to yaw and pitch puts it 27 m away.
    let ideal = Camera::from_fov(4000, 3000, 80.0);
    let got = offset(&locate(&ideal, &pose(0.0, -60.0, 0.0, 100.0), [4000.0, 0.0], 0.0, 0.0).unwrap());
    let (x, y) = (40.0_f64.to_radians().tan(), 0.75 * 40.0_f64.to_radians().tan());
    let (s, c) = 60.0_f64.to_radians().sin_cos();
    let t = 100.0 / (s - y * c);
    let want = [x * t, (c + y * s) * t];
    assert!((got[0] - want[0]).hypot(got[1] - want[1]) < 1e-3, "{got:?} {want:?}");
    let (yaw, pitch) = (x.atan(), -60.0_f64.to_radians() + y.atan());
    let added = [100.0 / -pitch.tan() * yaw.sin(), 100.0 / -pitch.tan() * yaw.cos()];
    assert!((got[0] - added[0]).hypot(got[1] - added[1]) > 20.0, "the trap is real: {added:?}");
}

#[test]
fn the_height_of_the_seen_point_pulls_the_place_towards_the_camera() {
    let ideal = Camera::from_fov(4000, 3000, 70.0);
    let at = |h| offset(&locate(&ideal, &pose(0.0, -45.0, 0.0, 100.0), [2000.0, 1500.0], h, 0.0).unwrap())[1];
    assert!((at(0.0) - 100.0).abs() < 1e-3 && (at(10.0) - 90.0).abs() < 1e-3);
}

#[test]
fn what_cannot_be_located_is_refused_each_with_its_reason() {
    let centre = [2000.0, 1500.0];
    let refuse = |pose: Pose, pixel| locate(&camera(), &pose, pixel, 0.0, 0.0).unwrap_err();
    use LocateError::*;
    assert!(
        matches!(refuse(pose(0.0, 10.0, 0.0, 100.0), centre), AboveHorizon { elevation_deg } if (elevation_deg - 10.0).abs() < 0.5)
    );
    assert!(matches!(refuse(pose(0.0, -2.0, 0.0, 100.0), centre), TooFar { .. }));
    assert!(matches!(refuse(pose(0.0, -0.5, 0.0, 2.0), centre), TooGrazing { .. }));
    assert!(matches!(refuse(pose(0.0, -60.0, 0.0, -3.0), centre), BelowTarget { .. }));
    assert!(matches!(refuse(pose(0.0, -60.0, 0.0, 50.0), [4001.0, 3.0]), OutsidePicture { .. }));
    assert!(matches!(refuse(pose(f64::NAN, -60.0, 0.0, 50.0), centre), BadInput { what: "the camera's attitude" }));
    assert!(matches!(refuse(pose(0.0, -60.0, 0.0, f64::NAN), centre), BadInput { what: "the camera's height" }));
    assert!(matches!(refuse(pose(0.0, -60.0, 0.0, 50.0), [f64::NAN, 3.0]), BadInput { what: "the pixel" }));
    let nowhere = Pose { at: LatLon { lat: 91.0, lon: 0.0 }, ..pose(0.0, -60.0, 0.0, 50.0) };
    assert!(matches!(refuse(nowhere, centre), BadInput { what: "the camera's position" }));
    let unsure = PoseSigma { yaw_deg: f64::NAN, ..pose(0.0, 0.0, 0.0, 0.0).sigma };
    assert!(matches!(
        refuse(Pose { sigma: unsure, ..pose(0.0, -60.0, 0.0, 50.0) }, centre),
        BadInput { what: "the pose's error" }
    ));
    let near = locate_within(&camera(), &pose(0.0, -30.0, 0.0, 100.0), centre, 0.0, 0.0, 150.0).unwrap_err();
    assert!(near.to_string().contains("200 m away") && near.to_string().contains("limit of 150 m"), "{near}");
}

#[test]
fn an_oblique_ellipse_is_long_along_the_view_and_a_bad_compass_makes_it_wide() {
    let ideal = Camera::from_fov(4000, 3000, 70.0);
    let at = |yaw_sigma: f64| {
        let mut p = pose(30.0, -20.0, 0.0, 100.0);
        p.sigma.yaw_deg = yaw_sigma;
        locate(&ideal, &p, [2000.0, 1500.0], 0.0, 1.0).unwrap().uncertainty
    };
    assert!((at(0.5).bearing_deg - 30.0).abs() < 1.0, "{:?}", at(0.5));
    assert!((at(20.0).bearing_deg - 120.0).abs() < 1.0, "{:?}", at(20.0));
}

#[test]
fn the_ellipse_holds_95_percent_of_what_the_errors_make_of_it() {
    // Seeded: the pose, pixel and height are disturbed as their sigmas say, and the true place must fall in the ellipse.
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut normal = move || {
        let (u, v): (f64, f64) = (rng.random_range(f64::MIN_POSITIVE..1.0), rng.random());
        (-2.0 * u.ln()).sqrt() * (v * std::f64::consts::TAU).cos()
    };
    for (yaw, pitch, roll, pixel) in [
        (0.0, -90.0, 0.0, [2000.0, 1500.0]),
        (200.0, -90.0, 0.0, [100.0, 2900.0]),
        (37.0, -60.0, 3.0, [3500.0, 400.0]),
        (310.0, -35.0, -2.0, [2000.0, 1500.0]),
    ] {
        let nominal_pose = pose(yaw, pitch, roll, 100.0);
        let nominal = locate(&camera(), &nominal_pose, pixel, 3.0, 1.5).unwrap();
        let information = nominal.uncertainty.covariance().try_inverse().unwrap();
        let [e0, n0] = offset(&nominal);
        let (n, s) = (4000, nominal_pose.sigma);
        let inside = (0..n)
            .filter(|_| {
                let error = nalgebra::Rotation3::from_scaled_axis(Vector3::new(
                    s.tilt_deg.to_radians() * normal(),
                    s.tilt_deg.to_radians() * normal(),
                    s.yaw_deg.to_radians() * normal(),
                ));
                let px = [pixel[0] + PIXEL_SIGMA * normal(), pixel[1] + PIXEL_SIGMA * normal()];
                let above = 100.0 + s.vertical_m * normal() - 3.0 - 1.5 * normal();
                let d = error * nominal_pose.attitude.rotation() * camera().ray(px).unwrap();
                let t = above / -d.z;
                let miss =
                    Vector2::new(d.x * t + s.horizontal_m * normal() - e0, d.y * t + s.horizontal_m * normal() - n0);
                (miss.transpose() * information * miss)[0] <= crate::geo::ellipse::CHI2_95
            })
            .count();
        let share = inside as f64 / f64::from(n);
        assert!((0.93..=0.97).contains(&share), "{share} at yaw {yaw}, pitch {pitch}");
    }
}

#[test]
fn a_nadir_footprint_is_the_frame_on_the_ground() {
    let ideal = Camera::from_fov(4000, 3000, 90.0);
    let ring = footprint(&ideal, &pose(0.0, -90.0, 0.0, 100.0), 0.0, 500.0).unwrap();
    let points: Vec<_> = ring.iter().map(|p| LocalFrame::new(HERE).to_enu(*p)).collect();
    let widest = points.iter().map(|p| p[0].abs()).fold(0.0, f64::max);
    let tallest = points.iter().map(|p| p[1].abs()).fold(0.0, f64::max);
    assert!((widest - 100.0).abs() < 0.01 && (tallest - 75.0).abs() < 0.01);
}

#[test]
fn a_footprint_that_reaches_the_horizon_is_cut_at_the_range_and_the_sky_has_none() {
    let ring = footprint(&camera(), &pose(45.0, -10.0, 5.0, 100.0), 0.0, 400.0).unwrap();
    let far = ring
        .iter()
        .map(|p| {
            let [e, n] = LocalFrame::new(HERE).to_enu(*p);
            e.hypot(n).hypot(100.0)
        })
        .fold(0.0, f64::max);
    assert!((far - 400.0).abs() < 1.0, "{far}");
    assert_eq!(footprint(&camera(), &pose(0.0, 60.0, 0.0, 100.0), 0.0, 400.0), None);
    assert_eq!(footprint(&camera(), &pose(0.0, -90.0, 0.0, -1.0), 0.0, 400.0), None);
}

#[test]
fn the_scale_at_nadir_is_height_over_focal_length_and_the_sky_has_none() {
    let ideal = Camera::from_fov(4000, 3000, 90.0);
    assert!((ground_sample_distance(&ideal, &pose(0.0, -90.0, 0.0, 100.0)) - 0.05).abs() < 1e-9);
    assert_eq!(ground_sample_distance(&ideal, &pose(0.0, 5.0, 0.0, 100.0)), f64::INFINITY);
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(5), failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn projecting_what_was_located_gives_the_pixel_back_and_the_place_within_a_millimetre(
        yaw in 0.0..360.0_f64, pitch in -90.0..-25.0_f64, roll in -20.0..20.0_f64, height in 20.0..300.0_f64,
        x in 0.0..4000.0_f64, y in 0.0..3000.0_f64, target in 0.0..10.0_f64,
    ) {
        let pose = pose(yaw, pitch, roll, height);
        if let Ok(located) = locate(&camera(), &pose, [x, y], target, 1.0) {
            let pixel = project_ground(&camera(), &pose, located.at, target).unwrap();
            prop_assert!((pixel[0] - x).hypot(pixel[1] - y) < 1e-2, "{pixel:?}");
            prop_assume!(camera().contains(pixel));
            let again = locate(&camera(), &pose, pixel, target, 1.0).unwrap();
            prop_assert!(again.at.distance_m(located.at) < 1e-3);
            prop_assert!(located.uncertainty.semi_major_m >= located.uncertainty.semi_minor_m);
        }
    }
}

/// Hills of 20 m over 300 m; heights count as the pose's do.
fn hills(e: f64, n: f64) -> f64 {
    10.0 * (e / 48.0).sin() + 8.0 * (n / 61.0).cos()
}

fn on(dem: &Dem, pose: &Pose, pixel: [f64; 2]) -> Result<Found, LocateError> {
    let ground = Ground::Terrain { dem, sigma_m: 0.0 };
    Look { camera: &camera(), focal_sigma: 0.0, pose, ground, max_range_m: 2_000.0 }.locate(&Target::ground(pixel))
}

#[test]
fn over_level_terrain_the_answer_is_that_of_flat_ground() {
    let dem = crate::geo::dem::tests::model(1.0, 600, |_, _| 30.0);
    for (pitch, pixel) in [(-90.0, [100.0, 200.0]), (-60.0, [2000.0, 1500.0]), (-40.0, [3500.0, 2000.0])] {
        let pose = pose(70.0, pitch, 2.0, 130.0);
        let flat = Look {
            camera: &camera(),
            focal_sigma: 0.0,
            pose: &pose,
            ground: Ground::Flat { height_m: 30.0, sigma_m: 0.5 },
            max_range_m: 2_000.0,
        }
        .locate(&Target::ground(pixel))
        .unwrap();
        let terrain = on(&dem, &pose, pixel).unwrap();
        // The Earth's curve and the metre up here are all that differs.
        assert!(flat.place.at.distance_m(terrain.place.at) < 0.02, "{flat:?} {terrain:?}");
        let ratio = terrain.place.uncertainty.semi_major_m / flat.place.uncertainty.semi_major_m;
        assert!((0.97..1.03).contains(&ratio), "{ratio}");
        assert!((terrain.height_m - 30.0).abs() < 1e-3);
    }
}

#[test]
fn at_a_slope_seen_from_above_the_ellipse_is_longer_than_on_the_level() {
    let level = crate::geo::dem::tests::model(2.0, 400, |_, _| 0.0);
    // Falling away from the camera: the ray grazes it.
    let falling = crate::geo::dem::tests::model(2.0, 400, |_, n| if n > 20.0 { -0.4 * (n - 20.0) } else { 0.0 });
    let pose = pose(0.0, -40.0, 0.0, 60.0);
    let (a, b) = (on(&level, &pose, [2000.0, 1500.0]).unwrap(), on(&falling, &pose, [2000.0, 1500.0]).unwrap());
    assert!(b.place.uncertainty.semi_major_m > 1.8 * a.place.uncertainty.semi_major_m, "{a:?} {b:?}");
    assert!(b.height_sigma_m > a.height_sigma_m);
}

#[test]
fn a_ray_that_may_as_well_pass_over_the_ridge_is_refused_or_as_unsure_as_that() {
    // A hill's crest 150 m ahead, and nothing behind it that is as high as the camera.
    let dem = crate::geo::dem::tests::model(2.0, 400, |_, n| 38.0 - 0.002 * (n - 150.0).powi(2).min(15_000.0));
    let found = |pitch| on(&dem, &pose(0.0, pitch, 0.0, 40.0), [2000.0, 1500.0]);
    // Half a degree more looks 200 m further, or at nothing: refused, or an ellipse as long as that.
    assert!(found(-1.0).map_or(true, |f| f.place.uncertainty.semi_major_m > 100.0), "{:?}", found(-1.0));
    assert!(found(-40.0).unwrap().place.uncertainty.semi_major_m < 10.0);
}

#[test]
fn a_terrain_model_of_another_country_or_another_datum_is_told_apart_from_a_miss() {
    let dem = crate::geo::dem::tests::model(2.0, 200, |_, _| 500.0);
    let under = on(&dem, &pose(0.0, -60.0, 0.0, 130.0), [2000.0, 1500.0]).unwrap_err();
    assert!(under.to_string().contains("same datum") && under.code() == "below_terrain", "{under}");
    let far = Pose { at: LatLon { lat: 31.6, lon: -110.4 }, ..pose(0.0, -60.0, 0.0, 630.0) };
    let elsewhere = on(&dem, &far, [2000.0, 1500.0]).unwrap_err();
    assert!(elsewhere.to_string().contains("right file") && elsewhere.code() == "outside_dem", "{elsewhere}");
}

#[test]
fn over_hills_too_the_ellipse_holds_what_the_errors_make_of_it() {
    let dem = crate::geo::dem::tests::model(2.0, 500, hills);
    let mut rng = ChaCha8Rng::seed_from_u64(23);
    let mut normal = move || {
        let (u, v): (f64, f64) = (rng.random_range(f64::MIN_POSITIVE..1.0), rng.random());
        (-2.0 * u.ln()).sqrt() * (v * std::f64::consts::TAU).cos()
    };
    let mut shares = Vec::new();
    for (yaw, pitch) in [(20.0, -80.0), (140.0, -60.0), (250.0, -45.0), (330.0, -38.0)] {
        let nominal_pose = pose(yaw, pitch, 0.0, 100.0);
        let nominal = on(&dem, &nominal_pose, [2300.0, 1700.0]).unwrap();
        let information = nominal.place.uncertainty.covariance().try_inverse().unwrap();
        let frame = LocalFrame::new(HERE);
        let [e0, n0] = frame.to_enu(nominal.place.at);
        let s = nominal_pose.sigma;
        let inside = (0..600)
            .filter(|_| {
                let error = nalgebra::Rotation3::from_scaled_axis(Vector3::new(
                    s.tilt_deg.to_radians() * normal(),
                    s.tilt_deg.to_radians() * normal(),
                    s.yaw_deg.to_radians() * normal(),
                ));
                let pixel = [2300.0 + PIXEL_SIGMA * normal(), 1700.0 + PIXEL_SIGMA * normal()];
                let d = error * nominal_pose.attitude.rotation() * camera().ray(pixel).unwrap();
                let from = Vector3::new(
                    s.horizontal_m * normal(),
                    s.horizontal_m * normal(),
                    100.0 + s.vertical_m * normal() + 1.2 * normal(),
                );
                let Ok(hit) = dem.around(HERE, 100.0, 2_000.0).ray(from, d, 2_000.0) else {
                    return false;
                };
                let miss = Vector2::new(hit.point.x - e0, hit.point.y - n0);
                (miss.transpose() * information * miss)[0] <= crate::geo::ellipse::CHI2_95
            })
            .count();
        shares.push(inside as f64 / 600.0);
    }
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    assert!((0.92..=0.985).contains(&mean) && shares.iter().all(|s| *s > 0.88), "{shares:?}");
}
