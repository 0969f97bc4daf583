//! From a photo or a row to something that can be located: a camera, a pose and a ground whose heights have one zero.

use crate::geo::dem::Dem;
use crate::geo::heights::{HeightDatum, METRES_A_FOOT, UNUSUAL_M};
use crate::geo::level::{self, Assumed, CameraHeights};
use crate::geo::photo::Photo;
use crate::geo::{
    Attitude, Camera, DEFAULT_MAX_RANGE_M, Found, Ground, LatLon, LocalFrame, LocateError, Look, NORMAL_95, Pose,
    Target,
};

use super::world::World;

/// Nearer to the ground no camera looks at it.
const LOWEST_M: f64 = 5.0;
/// One sigma of a measured range and of the ground beside the measured point, by how far beside.
const LASER_SIGMA_M: f64 = 1.0;
const LASER_SLOPE_SIGMA: f64 = 0.15;
/// A roof or a wood ends more steeply than any ground: so fast the ground may fall from the measured point to what it would
/// have been taken for without it.
const LASER_STEEPEST: f64 = 2.0;
/// A ground that is told and a measured one that differ by more contradict each other.
const LASER_CONTRADICTS_M: f64 = 5.0;
/// So near to the horizon an axis is that points straight down, if its pitch is counted from nadir.
const LEVEL_DEG: f64 = 10.0;
/// A difference that is as likely as not to be the error, as one sigma: the ellipse reaches to where the other puts the place.
const HELD: f64 = NORMAL_95;

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
    /// Which camera it may be as well; likewise.
    pub may_be: Vec<Camera>,
    /// What had to be taken for granted beside `assumed`, in words.
    pub notes: Vec<String>,
    /// Places further away are refused.
    pub max_range_m: f64,
}

/// The ground without the terrain model itself.
#[derive(Debug, Clone, Copy)]
pub enum Below {
    Flat { height_m: f64, sigma_m: f64 },
    Ranged(Ranged),
    Terrain,
}

/// As high as a point that a range finder measured, the less surely the further from it.
#[derive(Debug, Clone, Copy)]
pub struct Ranged {
    pub at: LatLon,
    pub height_m: f64,
    /// What the ground would have been taken for without it.
    pub else_m: f64,
}

impl Ranged {
    /// One sigma of the ground's height at a place.
    fn sigma_m(&self, at: LatLon) -> f64 {
        let away_m = at.distance_m(self.at);
        let falls_m = (self.else_m - self.height_m).abs().min(LASER_STEEPEST * away_m);
        LASER_SIGMA_M.hypot(LASER_SLOPE_SIGMA * away_m).hypot(falls_m / HELD)
    }
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
            may_be: Vec::new(),
            notes: Vec::new(),
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
        let apart_m = level.else_m.map(|m| m - level.height_m);
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
            may_stand_m: level.else_m.into_iter().collect(),
            may_be: Vec::new(),
            notes: apart_m.into_iter().map(|m| format!(
                "by the absolute height the camera is {:.0} m {} than by the one above take-off, counted from the ground below: the ellipse holds both",
                m.abs(),
                if m > 0.0 { "higher" } else { "lower" }
            )).collect(),
            max_range_m: DEFAULT_MAX_RANGE_M,
        })
    }

    /// Where it is higher above the ground than drones are, its height may be told in feet, alone or with the ground's: the
    /// ellipse holds that too.
    pub fn doubt_height(&mut self, above_ground_m: f64, counted_from_m: f64) {
        if above_ground_m <= UNUSUAL_M {
            return;
        }
        self.doubts.push("height_unlikely");
        let ground_m = self.pose.height_m - above_ground_m;
        self.may_stand_m.push(ground_m + above_ground_m * METRES_A_FOOT);
        // Both counted from one zero, the camera's alone in feet.
        let alone_m = counted_from_m + (self.pose.height_m - counted_from_m) * METRES_A_FOOT;
        if alone_m > ground_m + LOWEST_M {
            self.may_stand_m.push(alone_m);
        }
    }

    /// An axis near the horizon may be one that points straight down, with a pitch that is counted from there.
    pub fn doubt_pitch(&mut self) {
        let attitude = self.pose.attitude;
        if attitude.pitch_deg.abs() <= LEVEL_DEG {
            self.doubts.push("pitch_unlikely");
            self.may_look.push(Attitude { pitch_deg: attitude.pitch_deg - 90.0, ..attitude });
        }
    }

    /// For an adjustment, which knows one pose and its error: what may be otherwise, as errors.
    pub fn doubts_as_errors(&mut self) {
        let off_m = self.may_stand_m.iter().map(|m| (m - self.pose.height_m).abs() / 2.0).fold(0.0, f64::max);
        let sigma = &mut self.pose.sigma;
        sigma.vertical_m = sigma.vertical_m.max(off_m);
        if self.doubts.contains(&"pitch_unlikely") {
            sigma.tilt_deg = sigma.tilt_deg.max(45.0);
        }
    }

    /// A photo over the terrain model, over what its laser measured, or over flat ground at take-off height and `ground_m`.
    pub fn of_photo(photo: &Photo, ground_m: Option<f64>, world: &World) -> Option<Self> {
        let shot = match &world.dem {
            Some(dem) => Self::on_terrain(photo.camera, photo.focal_sigma, photo.pose, &photo.heights, dem, world)?,
            None => Self::on_level(photo, ground_m),
        };
        let doubts = photo.doubts.iter().map(|doubt| doubt.code()).chain(shot.doubts).collect();
        let (may_look, may_be) = (photo.may_look.clone(), photo.may_be.clone());
        let mut shot = Self { edited: photo.edited, doubts, may_look, may_be, ..shot };
        if let Some(up_m) = photo.heights.above_take_off_m {
            shot.doubt_height(up_m, shot.pose.height_m - up_m);
        }
        Some(shot)
    }

    /// A photo over flat ground as high as is told, as its laser measured, or as take-off.
    fn on_level(photo: &Photo, ground_m: Option<f64>) -> Self {
        let flat_m = ground_m.unwrap_or(0.0);
        let mut shot = Self::flat(photo.camera, photo.focal_sigma, photo.pose, flat_m, HeightDatum::TakeOff);
        let Some((range_m, measured)) = ranged(photo, flat_m) else { return shot };
        let measured_m = measured.height_m;
        let said = format!(
            "the laser measured {range_m:.1} m to what is in the picture's centre, which is {measured_m:.1} m above take-off (a tree or a roof, if one is there)"
        );
        if ground_m.is_none() {
            shot.ground = Below::Ranged(measured);
            shot.doubts.push("laser_ground");
            shot.notes.push(format!(
                "{said}: the ground is taken to be as high, less surely the further from there; --ground says it otherwise"
            ));
        } else if (measured_m - flat_m).abs() > LASER_CONTRADICTS_M {
            shot.ground = Below::Flat { height_m: flat_m, sigma_m: (measured_m - flat_m).abs() / HELD };
            shot.doubts.push("laser_contradicts");
            shot.notes.push(format!("{said}, not {flat_m:.1} m as --ground says: the ellipse holds both"));
        }
        shot
    }

    pub fn locate(&self, target: &Target, dem: Option<&Dem>) -> Result<Found, LocateError> {
        let ground = match (self.ground, dem) {
            (Below::Terrain, Some(dem)) => Ground::Terrain { dem, sigma_m: 0.0 },
            (Below::Flat { height_m, sigma_m }, _) => Ground::Flat { height_m, sigma_m },
            (Below::Ranged(Ranged { height_m, .. }), _) => Ground::Flat { height_m, sigma_m: LASER_SIGMA_M },
            (Below::Terrain, None) => return Err(LocateError::BadInput { what: "the terrain model" }),
        };
        let mut look = Look {
            camera: &self.camera,
            focal_sigma: self.focal_sigma,
            pose: &self.pose,
            ground,
            max_range_m: self.max_range_m,
        };
        let mut found = look.locate(target)?;
        if let Below::Ranged(measured) = self.ground {
            // Now that is known how far from the measured point.
            let sigma_m = measured.sigma_m(found.place.at);
            look.ground = Ground::Flat { height_m: measured.height_m, sigma_m };
            found = look.locate(target)?;
        }
        let looks = self.may_look.iter().map(|&attitude| (self.camera, Pose { attitude, ..self.pose }));
        let stands = self.may_stand_m.iter().map(|&height_m| (self.camera, Pose { height_m, ..self.pose }));
        let lenses = self.may_be.iter().map(|&camera| (camera, self.pose));
        for (camera, pose) in looks.chain(stands).chain(lenses) {
            let other = Look { camera: &camera, pose: &pose, ..look }.locate(target);
            let other = other.map_err(|reason| LocateError::Contradicted { reason: Box::new(reason) })?;
            let way = LocalFrame::new(found.place.at).to_enu(other.place.at);
            found.place.uncertainty = found.place.uncertainty.holding(&other.place.uncertainty, way);
        }
        if let Below::Flat { .. } | Below::Ranged(_) = self.ground {
            // The camera's height is counted from the ground's, so the ground is no better known than that.
            found.height_sigma_m = found.height_sigma_m.hypot(self.pose.sigma.vertical_m);
        }
        Ok(found)
    }

    /// Height and one sigma of the flat ground at a target, for who takes the ground by itself; `None` over a terrain model.
    pub fn ground_at(&self, target: &Target) -> Option<(f64, f64)> {
        match self.ground {
            Below::Terrain => None,
            Below::Flat { height_m, sigma_m } => Some((height_m, sigma_m)),
            Below::Ranged(measured) => {
                // What has no place has no row in an adjustment either.
                let at = self.locate(target, None).map_or(measured.at, |found| found.place.at);
                Some((measured.height_m, measured.sigma_m(at)))
            }
        }
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

/// The range that the laser measured and the point at its end.
fn ranged(photo: &Photo, else_m: f64) -> Option<(f64, Ranged)> {
    let range_m = photo.laser_range_m?;
    let centre = [f64::from(photo.camera.width_px) / 2.0, f64::from(photo.camera.height_px) / 2.0];
    let way = photo.pose.attitude.rotation() * photo.camera.ray(centre)? * range_m;
    let at = LocalFrame::new(photo.pose.at).to_latlon(way.x, way.y);
    Some((range_m, Ranged { at, height_m: photo.pose.height_m + way.z, else_m }))
}
