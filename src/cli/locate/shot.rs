//! From a photo or a row to something that can be located: a camera, a pose and a ground whose heights have one zero.

use crate::geo::dem::Dem;
use crate::geo::heights::HeightDatum;
use crate::geo::level::{self, Assumed, CameraHeights};
use crate::geo::photo::Photo;
use crate::geo::{Attitude, Camera, DEFAULT_MAX_RANGE_M, Found, Ground, LocalFrame, LocateError, Look, Pose, Target};

use super::world::World;

/// One sigma of a measured range and of the ground beside the measured point, by how far beside.
const LASER_SIGMA_M: f64 = 1.0;
const LASER_SLOPE_SIGMA: f64 = 0.15;

/// Ready to be located.
#[derive(Debug, Clone)]
pub struct Shot {
    pub camera: Camera,
    pub focal_sigma: f64,
    /// Its height has the ground's zero.
    pub pose: Pose,
    pub ground: Below,
    pub datum: HeightDatum,
    pub assumed: Vec<Assumed>,
    pub edited: bool,
    /// Codes of what contradicts itself.
    pub doubts: Vec<&'static str>,
    /// How it may have looked as well: the ellipse holds where that would put the target.
    pub may_look: Vec<Attitude>,
    /// How high it may have been as well, by heights that contradict each other; likewise.
    pub may_stand_m: Vec<f64>,
    /// Places further away are refused.
    pub max_range_m: f64,
}

/// The ground without the terrain model itself.
#[derive(Debug, Clone, Copy)]
pub enum Below {
    Flat { height_m: f64, sigma_m: f64 },
    Terrain,
}

impl Shot {
    /// Over flat ground in the pose's own heights.
    pub fn flat(camera: Camera, focal_sigma: f64, pose: Pose, ground_m: f64, datum: HeightDatum) -> Self {
        let ground = Below::Flat { height_m: ground_m, sigma_m: 0.0 };
        Self {
            camera,
            focal_sigma,
            pose,
            ground,
            datum,
            assumed: Vec::new(),
            edited: false,
            doubts: Vec::new(),
            may_look: Vec::new(),
            may_stand_m: Vec::new(),
            max_range_m: DEFAULT_MAX_RANGE_M,
        }
    }

    /// Over the terrain model; `None` where no height can be compared with it.
    pub fn on_terrain(
        camera: Camera,
        focal_sigma: f64,
        pose: Pose,
        heights: &CameraHeights,
        dem: &Dem,
        world: &World,
    ) -> Option<Self> {
        let level = level::level(heights, pose.at, dem, &world.geoids)?;
        let mut pose = Pose { height_m: level.height_m, ..pose };
        pose.sigma.vertical_m = level.sigma_m;
        Some(Self {
            camera,
            focal_sigma,
            pose,
            ground: Below::Terrain,
            datum: level.datum,
            assumed: level.assumed,
            edited: false,
            doubts: Vec::new(),
            may_look: Vec::new(),
            may_stand_m: Vec::new(),
            max_range_m: DEFAULT_MAX_RANGE_M,
        })
    }

    /// A photo over the terrain model, over what its laser measured, or over flat ground at take-off height and `ground_m`.
    pub fn of_photo(photo: &Photo, ground_m: Option<f64>, world: &World) -> Option<Self> {
        let shot = match &world.dem {
            Some(dem) => Self::on_terrain(photo.camera, photo.focal_sigma, photo.pose, &photo.heights, dem, world)?,
            None => {
                let mut shot = Self::flat(
                    photo.camera,
                    photo.focal_sigma,
                    photo.pose,
                    ground_m.unwrap_or(0.0),
                    HeightDatum::TakeOff,
                );
                if let (None, Some(below)) = (ground_m, lasered(photo)) {
                    shot.ground = below;
                }
                shot
            }
        };
        let doubts = photo.doubts.iter().map(|doubt| doubt.code()).collect();
        Some(Self { edited: photo.edited, doubts, may_look: photo.may_look.clone(), ..shot })
    }

    pub fn locate(&self, target: &Target, dem: Option<&Dem>) -> Result<Found, LocateError> {
        let ground = match (self.ground, dem) {
            (Below::Terrain, Some(dem)) => Ground::Terrain { dem, sigma_m: 0.0 },
            (Below::Flat { height_m, sigma_m }, _) => Ground::Flat { height_m, sigma_m },
            (Below::Terrain, None) => return Err(LocateError::BadInput { what: "the terrain model" }),
        };
        let look = Look {
            camera: &self.camera,
            focal_sigma: self.focal_sigma,
            pose: &self.pose,
            ground,
            max_range_m: self.max_range_m,
        };
        let mut found = look.locate(target)?;
        let looks = self.may_look.iter().map(|&attitude| Pose { attitude, ..self.pose });
        let stands = self.may_stand_m.iter().map(|&height_m| Pose { height_m, ..self.pose });
        for pose in looks.chain(stands) {
            let other = Look { pose: &pose, ..look }.locate(target);
            let other = other.map_err(|reason| LocateError::Contradicted { reason: Box::new(reason) })?;
            let way = LocalFrame::new(found.place.at).to_enu(other.place.at);
            found.place.uncertainty = found.place.uncertainty.holding(&other.place.uncertainty, way);
        }
        if let Below::Flat { .. } = self.ground {
            // The camera's height is counted from the ground's, so the ground is no better known than that.
            found.height_sigma_m = found.height_sigma_m.hypot(self.pose.sigma.vertical_m);
        }
        Ok(found)
    }

    /// Metres per pixel across the line of sight at the picture's centre; infinite where it looks at no ground.
    pub fn ground_sample_distance(&self, dem: Option<&Dem>) -> f64 {
        let centre = [f64::from(self.camera.width_px) / 2.0, f64::from(self.camera.height_px) / 2.0];
        let focal = (self.camera.fx * self.camera.fy).sqrt();
        self.locate(&Target::ground(centre), dem).map_or(f64::INFINITY, |found| found.place.slant_m / focal)
    }

    /// "ok" and what has to be known with it.
    pub fn status(&self, found_gap_m: f64) -> String {
        let mut status = "ok".to_owned();
        let mut add = |code: &str| {
            status.push(';');
            status.push_str(code);
        };
        // What changes nothing but the words is told once, not in each row.
        for assumed in &self.assumed {
            if matches!(assumed, Assumed::NoGeoid | Assumed::HeightsContradict | Assumed::TakeOffBelow) {
                add(assumed.code());
            }
        }
        for code in &self.doubts {
            add(code);
        }
        if self.edited {
            add("edited");
        }
        if found_gap_m > 0.0 {
            add("dem_void_bridged");
        }
        status
    }
}

/// The ground's height where the laser pointed, taken for that of all that is near.
fn lasered(photo: &Photo) -> Option<Below> {
    let range = photo.laser_range_m?;
    let centre = [f64::from(photo.camera.width_px) / 2.0, f64::from(photo.camera.height_px) / 2.0];
    let ray = photo.pose.attitude.rotation() * photo.camera.ray(centre)?;
    let across = f64::from(photo.camera.width_px) / photo.camera.fx / 2.0 * range;
    Some(Below::Flat {
        height_m: photo.pose.height_m + ray.z * range,
        sigma_m: LASER_SIGMA_M.hypot(LASER_SLOPE_SIGMA * across / 2.0),
    })
}
