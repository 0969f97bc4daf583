//! A pixel's place on the ground, and how sure that is.
//!
//! The pixel's ray is turned by the camera's attitude and meets a horizontal plane or a terrain model. The 95 % ellipse comes
//! out of every error that is named: the pose's (position, height, yaw, two tilts), the lens's, the pixel's, the ground's and
//! that of the seen point's height. Each is tried one sigma both ways on the real surface, so that a slope, a roof's edge or
//! a grazing ray shows in the ellipse as it is. Angular errors are small rotations about the world's axes, so nothing is
//! singular at nadir.

mod footprint;
mod spread;

use nalgebra::Vector3;

use super::camera::positive;
use super::dem::{Dem, Miss, View};
use super::{Camera, Ellipse, LatLon, LocalFrame, Located, Pose};

pub use footprint::{footprint, ground_sample_distance, project_ground};

/// Beyond this slant range a place is refused: an object is then a few pixels, and half a degree of yaw is 17 metres.
pub const DEFAULT_MAX_RANGE_M: f64 = 2_000.0;
/// One-sigma error of a pixel: how well a box's centre marks the thing itself.
pub const PIXEL_SIGMA: f64 = 2.0;
/// The 95 % quantile of a normal distribution, one-sided on both ends.
const NORMAL_95: f64 = 1.96;

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
        "the pixel looks only {depression_deg:.2}° below the horizon, within the attitude's own error of {error_deg:.2}° from where no ground is"
    )]
    TooGrazing { depression_deg: f64, error_deg: f64 },
    #[error("the point would be behind the camera")]
    BehindCamera,
    #[error("the place would be {slant_m:.0} m away, beyond the limit of {limit_m:.0} m")]
    TooFar { slant_m: f64, limit_m: f64 },
    #[error(
        "the camera at {height_m:.0} m would be under the ground ({ground_m:.0} m in the terrain model); do both count heights from the same datum, and in metres?"
    )]
    BelowTerrain { height_m: f64, ground_m: f64 },
    #[error(
        "the terrain model ({south:.4} to {north:.4} N, {west:.4} to {east:.4} E) does not reach to where the pixel looks; is it the right file?"
    )]
    OutsideTerrain { south: f64, north: f64, west: f64, east: f64 },
    #[error("the pixel looks into a gap of the terrain model; fill it (gdal_fillnodata) or take another model")]
    TerrainVoid,
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
            Self::BelowTerrain { .. } => "below_terrain",
            Self::OutsideTerrain { .. } => "outside_dem",
            Self::TerrainVoid => "dem_void",
        }
    }
}

/// What a ray is met with. Heights of the pose and of the ground are counted from the same zero; who brings them together
/// (see [`super::heights`]) says in `sigma_m` how well that is known.
#[derive(Debug, Clone, Copy)]
pub enum Ground<'a> {
    Flat { height_m: f64, sigma_m: f64 },
    Terrain { dem: &'a Dem, sigma_m: f64 },
}

/// What is looked for: its pixel, how well that marks it, and how high it stands above the ground (half a house for the
/// centre of a house's box).
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub pixel: [f64; 2],
    pub pixel_sigma: f64,
    pub height_m: f64,
    pub height_sigma_m: f64,
}

impl Target {
    /// A point of the ground itself.
    pub fn ground(pixel: [f64; 2]) -> Self {
        Self { pixel, pixel_sigma: PIXEL_SIGMA, height_m: 0.0, height_sigma_m: 0.0 }
    }
}

/// One camera at one moment over some ground.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    pub camera: &'a Camera,
    /// One sigma of the focal length, as a share of it.
    pub focal_sigma: f64,
    pub pose: &'a Pose,
    pub ground: Ground<'a>,
    pub max_range_m: f64,
}

/// A place with its height.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    pub place: Located,
    /// Of the seen point, counted as the ground is.
    pub height_m: f64,
    pub height_sigma_m: f64,
    /// Metres of unknown terrain that had to be bridged; 0 where the terrain is known.
    pub gap_m: f64,
}

/// Where the thing at `pixel` stands over flat ground, within [`DEFAULT_MAX_RANGE_M`]; see [`locate_within`].
pub fn locate(
    camera: &Camera,
    pose: &Pose,
    pixel: [f64; 2],
    target_height_m: f64,
    target_height_sigma_m: f64,
) -> Result<Located, LocateError> {
    locate_within(camera, pose, pixel, target_height_m, target_height_sigma_m, DEFAULT_MAX_RANGE_M)
}

/// Where the thing at `pixel` stands over flat ground. `target_height_m` is the height of the seen point above the ground
/// plane, `target_height_sigma_m` its one-sigma error with that of the ground itself.
pub fn locate_within(
    camera: &Camera,
    pose: &Pose,
    pixel: [f64; 2],
    target_height_m: f64,
    target_height_sigma_m: f64,
    max_range_m: f64,
) -> Result<Located, LocateError> {
    let ground = Ground::Flat { height_m: 0.0, sigma_m: 0.0 };
    let target = Target { height_m: target_height_m, height_sigma_m: target_height_sigma_m, ..Target::ground(pixel) };
    Ok(Look { camera, focal_sigma: 0.0, pose, ground, max_range_m }.locate(&target)?.place)
}

impl Look<'_> {
    /// Where the target stands.
    pub fn locate(&self, target: &Target) -> Result<Found, LocateError> {
        check(self.camera, self.pose)?;
        self.check(target)?;
        let [x, y] = target.pixel;
        if !self.camera.contains(target.pixel) {
            let (width, height) = (self.camera.width_px, self.camera.height_px);
            return Err(LocateError::OutsidePicture { x, y, width, height });
        }
        let ray = self.camera.ray(target.pixel).ok_or(LocateError::BeyondLens { x, y })?;
        let scene = Scene::new(self, target);
        let rotation = self.pose.attitude.rotation();
        let world = rotation * ray;
        let nominal = scene.meet(Vector3::new(0.0, 0.0, scene.camera_m), world, self.max_range_m)?;
        let slant_m = (nominal.point - Vector3::new(0.0, 0.0, scene.camera_m)).norm();
        if slant_m > self.max_range_m {
            return Err(LocateError::TooFar { slant_m, limit_m: self.max_range_m });
        }
        let spread = spread::Spread::new(self, target, &scene, &rotation, world)?;
        let (covariance, height_sigma_m) = spread.at(&nominal)?;
        Ok(Found {
            place: Located {
                at: scene.to_latlon(nominal.point),
                uncertainty: Ellipse::from_covariance(&covariance),
                slant_m,
            },
            height_m: scene.height_of(nominal.point) + target.height_m,
            height_sigma_m,
            gap_m: nominal.gap_m,
        })
    }

    fn check(&self, target: &Target) -> Result<(), LocateError> {
        let sigma = |v: f64| v.is_finite() && v >= 0.0;
        let (ground_sigma, ground_fine) = match self.ground {
            Ground::Flat { height_m, sigma_m } => (sigma_m, height_m.is_finite()),
            Ground::Terrain { sigma_m, .. } => (sigma_m, true),
        };
        for (what, bad) in [
            ("the pixel", !target.pixel.iter().all(|v| v.is_finite())),
            ("the pixel's error", !sigma(target.pixel_sigma)),
            ("the seen point's height", !target.height_m.is_finite()),
            ("the error of the seen point's height", !sigma(target.height_sigma_m)),
            ("the ground's height", !(ground_fine && sigma(ground_sigma))),
            ("the focal length's error", !sigma(self.focal_sigma)),
            ("the range limit", !positive(self.max_range_m)),
        ] {
            if bad {
                return Err(LocateError::BadInput { what });
            }
        }
        Ok(())
    }
}

/// A point of the ground that a ray met.
#[derive(Debug, Clone, Copy)]
struct Met {
    point: Vector3<f64>,
    gap_m: f64,
}

/// The ground around the camera, lowered by the target's height so that the ray may end on the surface itself.
struct Scene<'a> {
    /// The camera's height above the (lowered) zero.
    camera_m: f64,
    target_m: f64,
    surface: Surface<'a>,
}

enum Surface<'a> {
    Plane { height_m: f64, frame: LocalFrame },
    Terrain(View<'a>),
}

impl<'a> Scene<'a> {
    fn new(look: &Look<'a>, target: &Target) -> Self {
        let pose = look.pose;
        let surface = match look.ground {
            Ground::Flat { height_m, .. } => Surface::Plane { height_m, frame: LocalFrame::new(pose.at) },
            Ground::Terrain { dem, .. } => {
                Surface::Terrain(dem.around(pose.at, pose.height_m, look.max_range_m.min(4_000.0)))
            }
        };
        Self { camera_m: pose.height_m - target.height_m, target_m: target.height_m, surface }
    }

    fn meet(&self, from: Vector3<f64>, direction: Vector3<f64>, limit_m: f64) -> Result<Met, LocateError> {
        match &self.surface {
            Surface::Plane { height_m, .. } => {
                let above_m = from.z - height_m;
                if !positive(above_m) {
                    let height_m = above_m + self.target_m;
                    return Err(LocateError::BelowTarget { height_m, target_m: self.target_m });
                }
                Ok(Met { point: from + meet(direction, above_m)?, gap_m: 0.0 })
            }
            Surface::Terrain(view) => {
                let hit = view
                    .ray(from, direction, limit_m)
                    .map_err(|miss| self.missed(view, miss, from, direction, limit_m))?;
                Ok(Met { point: hit.point, gap_m: hit.gap_m })
            }
        }
    }

    fn missed(
        &self,
        view: &View,
        miss: Miss,
        from: Vector3<f64>,
        direction: Vector3<f64>,
        limit_m: f64,
    ) -> LocateError {
        match miss {
            Miss::Sky => LocateError::AboveHorizon { elevation_deg: direction.z.clamp(-1.0, 1.0).asin().to_degrees() },
            Miss::TooFar => LocateError::TooFar { slant_m: limit_m, limit_m },
            Miss::Void => LocateError::TerrainVoid,
            Miss::Below => LocateError::BelowTerrain {
                height_m: from.z + self.target_m,
                ground_m: view.surface_m(from.x, from.y).unwrap_or(f64::NAN),
            },
            Miss::Outside => {
                let [low, high] = view.dem().bounds();
                LocateError::OutsideTerrain { south: low.lat, north: high.lat, west: low.lon, east: high.lon }
            }
        }
    }

    fn to_latlon(&self, p: Vector3<f64>) -> LatLon {
        match &self.surface {
            Surface::Plane { frame, .. } => frame.to_latlon(p.x, p.y),
            Surface::Terrain(view) => view.to_latlon(p.x, p.y),
        }
    }

    /// The ground's height at a point that was met.
    fn height_of(&self, p: Vector3<f64>) -> f64 {
        match &self.surface {
            Surface::Plane { height_m, .. } => *height_m,
            Surface::Terrain(_) => p.z + super::dem::drop_m(p.x, p.y),
        }
    }

    /// One sigma of the surface itself, beside that of its zero.
    fn surface_sigma_m(&self, met: &Met) -> f64 {
        match &self.surface {
            Surface::Plane { .. } => 0.0,
            // Unknown ground may rise or fall as much as a moderate slope does.
            Surface::Terrain(view) => view.sigma_m(met.point.x, met.point.y).hypot(VOID_SLOPE * met.gap_m),
        }
    }
}

/// One sigma of the slope that a void of the terrain model may hide.
const VOID_SLOPE: f64 = 0.3;

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

/// Where a direction (east, north, up) from `above_m` over the plane meets it.
fn meet(direction: Vector3<f64>, above_m: f64) -> Result<Vector3<f64>, LocateError> {
    if !positive(-direction.z) {
        return Err(LocateError::AboveHorizon { elevation_deg: direction.z.clamp(-1.0, 1.0).asin().to_degrees() });
    }
    Ok(direction * (above_m / -direction.z))
}

#[cfg(test)]
mod tests {
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
}
