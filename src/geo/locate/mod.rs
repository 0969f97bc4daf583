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
pub const NORMAL_95: f64 = 1.96;

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
    #[error(
        "what is told of the camera contradicts itself (its attitude, its height, its lens), and by some of it the pixel has no place: {reason}"
    )]
    Contradicted { reason: Box<LocateError> },
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
            Self::Contradicted { .. } => "tags_contradict",
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
    if let Some(what) = camera.fault() {
        return Err(LocateError::BadInput { what });
    }
    for (what, bad) in [
        ("the camera's position", pose.at.validate().is_err()),
        ("the camera's height", !pose.height_m.is_finite()),
        ("the camera's attitude", !pose.attitude.is_possible()),
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
mod tests;
