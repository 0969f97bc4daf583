//! A pixel's place on the ground, and how sure that is.
//!
//! The pixel's ray is turned by the camera's attitude and meets a horizontal plane. The 95 % ellipse is the first-order
//! propagation of every error that the pose names (position, height, yaw, two tilts), of the pixel and of the seen point's
//! height. Angular errors are small rotations about the world's axes, so nothing is singular at nadir.

use nalgebra::{Matrix2, Rotation3, Vector2, Vector3};

use super::camera::positive;
use super::{Camera, Ellipse, LatLon, LocalFrame, Located, Pose};

/// Beyond this slant range a place is refused: an object is then a few pixels, and half a degree of yaw is 17 metres.
pub const DEFAULT_MAX_RANGE_M: f64 = 2_000.0;
/// One-sigma error of a pixel: how well a box's centre marks the thing itself.
pub const PIXEL_SIGMA: f64 = 2.0;
/// The 95 % quantile of a normal distribution, one-sided on both ends.
const NORMAL_95: f64 = 1.96;
/// Samples on each edge of the frame for its footprint; distortion bends the edges.
const FOOTPRINT_STEPS: u32 = 8;

/// Why a pixel has no place on the ground.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LocateError {
    #[error("{what} is not a usable number; check the source of the pose")]
    BadInput { what: &'static str },
    #[error("the pixel ({x:.1}, {y:.1}) is outside the picture of {width} × {height}")]
    OutsidePicture { x: f64, y: f64, width: u32, height: u32 },
    #[error("the pixel ({x:.1}, {y:.1}) is outside what the lens is calibrated for")]
    BeyondLens { x: f64, y: f64 },
    #[error(
        "the camera is {height_m:.1} m above the ground, not above the seen point at {target_m:.1} m; check the take-off height"
    )]
    BelowTarget { height_m: f64, target_m: f64 },
    #[error("the pixel looks {elevation_deg:.1}° above the horizon, it never meets the ground")]
    AboveHorizon { elevation_deg: f64 },
    #[error(
        "the pixel looks only {depression_deg:.2}° below the horizon, within the attitude's own error of {error_deg:.2}°"
    )]
    TooGrazing { depression_deg: f64, error_deg: f64 },
    #[error("the point would be behind the camera")]
    BehindCamera,
    #[error("the place would be {slant_m:.0} m away, beyond the limit of {limit_m:.0} m")]
    TooFar { slant_m: f64, limit_m: f64 },
}

impl LocateError {
    /// A short stable name, for tables and programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadInput { .. } => "bad_input",
            Self::OutsidePicture { .. } => "outside_picture",
            Self::BeyondLens { .. } => "beyond_lens",
            Self::BelowTarget { .. } => "below_target",
            Self::AboveHorizon { .. } => "above_horizon",
            Self::TooGrazing { .. } => "too_grazing",
            Self::BehindCamera => "behind_camera",
            Self::TooFar { .. } => "too_far",
        }
    }
}

/// Where the thing at `pixel` stands, within [`DEFAULT_MAX_RANGE_M`]; see [`locate_within`].
pub fn locate(
    camera: &Camera,
    pose: &Pose,
    pixel: [f64; 2],
    target_height_m: f64,
    target_height_sigma_m: f64,
) -> Result<Located, LocateError> {
    locate_within(camera, pose, pixel, target_height_m, target_height_sigma_m, DEFAULT_MAX_RANGE_M)
}

/// Where the thing at `pixel` stands. `target_height_m` is the height of the seen point above the ground plane (half a
/// house for the centre of a house's box), `target_height_sigma_m` its one-sigma error with that of the ground itself.
pub fn locate_within(
    camera: &Camera,
    pose: &Pose,
    pixel: [f64; 2],
    target_height_m: f64,
    target_height_sigma_m: f64,
    max_range_m: f64,
) -> Result<Located, LocateError> {
    check(camera, pose)?;
    for (what, bad) in [
        ("the pixel", !pixel.iter().all(|v| v.is_finite())),
        ("the seen point's height", !target_height_m.is_finite()),
        ("the error of the seen point's height", !(target_height_sigma_m.is_finite() && target_height_sigma_m >= 0.0)),
        ("the range limit", !positive(max_range_m)),
    ] {
        if bad {
            return Err(LocateError::BadInput { what });
        }
    }
    let [x, y] = pixel;
    if !camera.contains(pixel) {
        return Err(LocateError::OutsidePicture { x, y, width: camera.width_px, height: camera.height_px });
    }

    let look = Look { camera, rotation: pose.attitude.rotation(), above_m: pose.height_m - target_height_m };
    if !positive(look.above_m) {
        return Err(LocateError::BelowTarget { height_m: pose.height_m, target_m: target_height_m });
    }
    let ray = camera.ray(pixel).ok_or(LocateError::BeyondLens { x, y })?;
    let nominal = look.meet(ray)?;
    let slant_m = nominal.norm();
    if slant_m > max_range_m {
        return Err(LocateError::TooFar { slant_m, limit_m: max_range_m });
    }
    // At a grazing ray a first-order ellipse lies: the error's own cone reaches the horizon.
    let depression_deg = (-nominal.z / slant_m).asin().to_degrees();
    let error_deg = NORMAL_95 * pose.sigma.tilt_deg;
    if depression_deg <= error_deg {
        return Err(LocateError::TooGrazing { depression_deg, error_deg });
    }

    let covariance = look.covariance(pose, pixel, ray, nominal, target_height_sigma_m)?;
    Ok(Located {
        at: LocalFrame::new(pose.at).to_latlon(nominal.x, nominal.y),
        uncertainty: Ellipse::from_covariance(&covariance),
        slant_m,
    })
}

/// Where a place at `height_m` above the ground plane appears; possibly outside the picture, see [`Camera::contains`].
pub fn project_ground(camera: &Camera, pose: &Pose, at: LatLon, height_m: f64) -> Option<[f64; 2]> {
    check(camera, pose).ok()?;
    at.validate().ok()?;
    let [east, north] = LocalFrame::new(pose.at).to_enu(at);
    let point = Vector3::new(east, north, height_m - pose.height_m);
    camera.project(pose.attitude.rotation().inverse() * point)
}

/// The frame's outline on a ground plane at `ground_m`, an open ring (the first corner is not repeated), clipped where the
/// slant range passes `max_range_m`. The clip is a chord, so it claims a little less ground than is seen, never more.
/// `None` where the picture shows no ground within range.
pub fn footprint(camera: &Camera, pose: &Pose, ground_m: f64, max_range_m: f64) -> Option<Vec<LatLon>> {
    check(camera, pose).ok()?;
    let above_m = pose.height_m - ground_m;
    if !(above_m > 0.0 && max_range_m > above_m) {
        return None;
    }
    let rotation = pose.attitude.rotation();
    let steepest = above_m / max_range_m;
    // Positive where the ray meets the ground within range. On unnormalised rays, so that it crosses zero where it should.
    let margin = |pixel: [f64; 2]| camera.ray(pixel).map(|ray| -(rotation * ray).z - steepest);

    let (w, h) = (f64::from(camera.width_px), f64::from(camera.height_px));
    let corners = [[0.0, 0.0], [w, 0.0], [w, h], [0.0, h]];
    let mut outline = Vec::new();
    for (i, from) in corners.iter().enumerate() {
        let to = corners[(i + 1) % corners.len()];
        for step in 0..FOOTPRINT_STEPS {
            let t = f64::from(step) / f64::from(FOOTPRINT_STEPS);
            let pixel = [from[0] + t * (to[0] - from[0]), from[1] + t * (to[1] - from[1])];
            // Where the lens model ends, the outline skips on: less ground is claimed, never more.
            if let Some(m) = margin(pixel) {
                outline.push((pixel, m));
            }
        }
    }

    let mut kept = Vec::new();
    for (i, &(pixel, m)) in outline.iter().enumerate() {
        if m >= 0.0 {
            kept.push(pixel);
        }
        let (next, next_m) = outline[(i + 1) % outline.len()];
        if (m >= 0.0) != (next_m >= 0.0) {
            let (mut inside, mut outside) = if m >= 0.0 { (pixel, next) } else { (next, pixel) };
            for _ in 0..40 {
                let middle = [(inside[0] + outside[0]) / 2.0, (inside[1] + outside[1]) / 2.0];
                if margin(middle).is_some_and(|m| m >= 0.0) { inside = middle } else { outside = middle }
            }
            kept.push(inside);
        }
    }

    let frame = LocalFrame::new(pose.at);
    let look = Look { camera, rotation, above_m };
    let ring: Vec<LatLon> = kept
        .into_iter()
        .filter_map(|pixel| look.meet(camera.ray(pixel)?).ok())
        .map(|p| frame.to_latlon(p.x, p.y))
        .collect();
    (ring.len() >= 3).then_some(ring)
}

/// Metres per pixel across the line of sight at the picture's centre, on the ground plane at take-off height.
///
/// Across, not along the ground: that is how large a standing thing appears in an oblique picture, and what a detector's
/// native scale means. Infinite where the centre looks at no ground.
pub fn ground_sample_distance(camera: &Camera, pose: &Pose) -> f64 {
    let centre = [f64::from(camera.width_px) / 2.0, f64::from(camera.height_px) / 2.0];
    let look = Look { camera, rotation: pose.attitude.rotation(), above_m: pose.height_m.max(0.0) };
    match camera.ray(centre).map(|ray| look.meet(ray)) {
        Some(Ok(point)) => point.norm() / (camera.fx * camera.fy).sqrt(),
        _ => f64::INFINITY,
    }
}

fn check(camera: &Camera, pose: &Pose) -> Result<(), LocateError> {
    let s = pose.sigma;
    for (what, bad) in [
        ("the camera model", !camera.valid()),
        ("the camera's position", pose.at.validate().is_err()),
        ("the camera's height", !pose.height_m.is_finite()),
        ("the camera's attitude", !pose.attitude.is_finite()),
        (
            "the pose's error",
            ![s.horizontal_m, s.vertical_m, s.yaw_deg, s.tilt_deg].iter().all(|v| v.is_finite() && *v >= 0.0),
        ),
    ] {
        if bad {
            return Err(LocateError::BadInput { what });
        }
    }
    Ok(())
}

/// One camera over one plane.
struct Look<'a> {
    camera: &'a Camera,
    rotation: Rotation3<f64>,
    /// The camera's height above the plane.
    above_m: f64,
}

impl Look<'_> {
    /// The point where a ray in camera axes meets the plane, east, north, up of the camera.
    fn meet(&self, ray: Vector3<f64>) -> Result<Vector3<f64>, LocateError> {
        if !positive(ray.z) {
            return Err(LocateError::BehindCamera);
        }
        meet(self.rotation * ray, self.above_m)
    }

    fn covariance(
        &self,
        pose: &Pose,
        pixel: [f64; 2],
        ray: Vector3<f64>,
        nominal: Vector3<f64>,
        target_sigma_m: f64,
    ) -> Result<Matrix2<f64>, LocateError> {
        let sigma = pose.sigma;
        let world = self.rotation * ray;
        // One step of each error source, both ways: central differences, exact to second order.
        let turned = |axis: Vector3<f64>| {
            move |e: f64| {
                meet(Rotation3::from_axis_angle(&nalgebra::Unit::new_unchecked(axis), e) * world, self.above_m)
            }
        };
        let moved = |dx: f64, dy: f64| {
            move |e: f64| {
                let [x, y] = [pixel[0] + dx * e, pixel[1] + dy * e];
                self.meet(self.camera.ray([x, y]).ok_or(LocateError::BeyondLens { x, y })?)
            }
        };
        let mut covariance = Matrix2::identity() * sigma.horizontal_m.powi(2);
        let mut add = |slope: Vector2<f64>, sigma: f64| covariance += slope * slope.transpose() * sigma.powi(2);

        // The camera's height and the seen point's act alike, with opposite sign.
        let height = sigma.vertical_m.hypot(target_sigma_m);
        add(slope(|e| meet(world, self.above_m + e), self.above_m * 1e-6)?, height);
        // Small against the ray's own depression, so that no step crosses the horizon.
        let angle = 1e-3 * (-nominal.z / nominal.norm());
        add(slope(turned(Vector3::z()), angle)?, sigma.yaw_deg.to_radians());
        add(slope(turned(Vector3::x()), angle)?, sigma.tilt_deg.to_radians());
        add(slope(turned(Vector3::y()), angle)?, sigma.tilt_deg.to_radians());
        let step = angle * self.camera.fx.min(self.camera.fy);
        add(slope(moved(1.0, 0.0), step)?, PIXEL_SIGMA);
        add(slope(moved(0.0, 1.0), step)?, PIXEL_SIGMA);
        Ok(covariance)
    }
}

/// Where a direction (east, north, up) from `above_m` over the plane meets it.
fn meet(direction: Vector3<f64>, above_m: f64) -> Result<Vector3<f64>, LocateError> {
    if !positive(-direction.z) {
        return Err(LocateError::AboveHorizon { elevation_deg: direction.z.clamp(-1.0, 1.0).asin().to_degrees() });
    }
    Ok(direction * (above_m / -direction.z))
}

/// The derivative of a place on the plane by one error source.
fn slope(place: impl Fn(f64) -> Result<Vector3<f64>, LocateError>, step: f64) -> Result<Vector2<f64>, LocateError> {
    let (ahead, behind) = (place(step)?, place(-step)?);
    Ok((ahead.xy() - behind.xy()) / (2.0 * step))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::geo::{Attitude, PoseSigma};

    const HERE: LatLon = LatLon { lat: 23.03, lon: 112.9 };

    fn camera() -> Camera {
        Camera { distortion: Some([-0.08, 0.1, 0.001, 0.0002, -0.03]), ..Camera::from_fov(4000, 3000, 70.0) }
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
                    let error = Rotation3::from_scaled_axis(Vector3::new(
                        s.tilt_deg.to_radians() * normal(),
                        s.tilt_deg.to_radians() * normal(),
                        s.yaw_deg.to_radians() * normal(),
                    ));
                    let px = [pixel[0] + PIXEL_SIGMA * normal(), pixel[1] + PIXEL_SIGMA * normal()];
                    let above = 100.0 + s.vertical_m * normal() - 3.0 - 1.5 * normal();
                    let d = error * nominal_pose.attitude.rotation() * camera().ray(px).unwrap();
                    let t = above / -d.z;
                    let miss = Vector2::new(
                        d.x * t + s.horizontal_m * normal() - e0,
                        d.y * t + s.horizontal_m * normal() - n0,
                    );
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
}
