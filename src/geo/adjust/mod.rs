//! All looks of a sortie together: where the things stand that were seen several times, and what the sortie's instruments
//! were off by.
//!
//! Weighted least squares (Gauss–Newton with Levenberg's damping). What is estimated: each object's place; each pose's own
//! error in place and attitude; and the errors that all poses of a sortie share, [`Kind`]. Every error has its prior from
//! the pose's own statement of how sure it is, split into a shared part and an own one. Observations: pixels, and the
//! ground (an object stands on the terrain, or at the height that is told). Residuals are weighted by Cauchy's function, so a
//! wrong click or a compass that was off by twenty degrees bends nothing else.
//!
//! What no look can see stays in the ellipse: the satellite fix of the whole sortie is one of the shared errors, and with
//! nothing to hold it against, it keeps its prior.

mod solve;

use nalgebra::{Matrix2, Matrix3, Vector3};

use super::dem::{Dem, View, drop_m};
use super::{Camera, Ellipse, Ground, LatLon, LocalFrame, LocateError, Look, Pose, PoseSigma, Target};

/// More are refused: the normal equations are dense in the objects.
pub const MAX_OBJECTS: usize = 1_000;
pub const MAX_STATIONS: usize = 5_000;

/// One picture: its pose, with heights counted as the ground's are, and its camera.
#[derive(Debug, Clone)]
pub struct Station {
    pub pose: Pose,
    pub camera: Camera,
    pub focal_sigma: f64,
    /// East, north, up: lets a wrong camera clock show.
    pub velocity_m_s: Option<[f64; 3]>,
}

/// One object in one picture.
#[derive(Debug, Clone, Copy)]
pub struct Sighting {
    pub station: usize,
    pub object: usize,
    pub pixel: [f64; 2],
    /// One sigma, with what the lens model leaves over.
    pub pixel_sigma: f64,
}

/// What is known of the height that an object stands at.
#[derive(Debug, Clone, Copy)]
pub enum Stands {
    OnTerrain,
    At { height_m: f64, sigma_m: f64 },
}

/// Everything that was seen.
#[derive(Debug, Clone)]
pub struct Sortie<'a> {
    pub stations: Vec<Station>,
    pub sightings: Vec<Sighting>,
    pub objects: Vec<Stands>,
    pub dem: Option<&'a Dem>,
    /// One sigma between the zeros of poses and ground.
    pub zero_sigma_m: f64,
    pub max_range_m: f64,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AdjustError {
    #[error(
        "{objects} objects in {stations} pictures are more than {MAX_OBJECTS} in {MAX_STATIONS}; adjust each sortie by itself"
    )]
    TooMany { objects: usize, stations: usize },
    #[error("no object could be placed by a single look, so there is nothing to begin with; the first reason: {0}")]
    NothingPlaced(LocateError),
    #[error("a sighting names a picture or an object that is not there")]
    Dangling,
    #[error("an object stands on the terrain, but there is no terrain model")]
    NoTerrain,
    #[error("the equations have no solution; are all poses the same?")]
    Singular,
}

/// What a shared error is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Compass: all yaws, degrees.
    YawDeg,
    /// The gimbal's mounting about the camera's right, down and forward axis, degrees.
    MountRightDeg,
    MountDownDeg,
    MountForwardDeg,
    /// The satellite fix, metres east and north.
    EastM,
    NorthM,
    /// Heights of all poses against the ground's, metres.
    UpM,
    /// How much later than told the pictures were taken, seconds.
    ClockS,
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::YawDeg,
        Self::MountRightDeg,
        Self::MountDownDeg,
        Self::MountForwardDeg,
        Self::EastM,
        Self::NorthM,
        Self::UpM,
        Self::ClockS,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::YawDeg => "yaw_deg",
            Self::MountRightDeg => "mount_right_deg",
            Self::MountDownDeg => "mount_down_deg",
            Self::MountForwardDeg => "mount_forward_deg",
            Self::EastM => "east_m",
            Self::NorthM => "north_m",
            Self::UpM => "up_m",
            Self::ClockS => "clock_s",
        }
    }
}

/// A shared error as estimated: what to add to the stated poses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constant {
    pub kind: Kind,
    pub value: f64,
    pub sigma: f64,
    pub prior_sigma: f64,
}

/// A constant further from nothing than this many of its prior's sigmas is no error of an instrument.
const FAR_OFF: f64 = 5.0;

impl Constant {
    /// Whether no instrument is off by so much, so that something else is wrong.
    pub fn is_far_off(&self) -> bool {
        self.value.abs() > FAR_OFF * self.prior_sigma
    }
}

/// An object's place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placed {
    pub at: LatLon,
    pub height_m: f64,
    pub height_sigma_m: f64,
    pub uncertainty: Ellipse,
    pub looks: usize,
}

#[derive(Debug, Clone)]
pub struct Adjusted {
    /// By object; an object that no look could place has the reason instead.
    pub objects: Vec<Result<Placed, LocateError>>,
    pub constants: Vec<Constant>,
    /// By sighting: whether it was as good as left out.
    pub outlier: Vec<bool>,
    pub iterations: usize,
    /// Whether it came to rest before its limit of steps; otherwise the places mean nothing.
    pub settled: bool,
    /// By how much the errors turned out larger than stated; ellipses are widened by it. 1 at least.
    pub widened: f64,
}

/// The share of a pose's variance that all poses of a sortie have in common. A satellite fix drifts over minutes and a
/// barometer over a flight; a compass has a bias and a noise; so has a gimbal.
const SHARED_PLACE: f64 = 0.8;
const SHARED_ATTITUDE: f64 = 0.5;
/// One sigma of a camera clock that nobody set.
const CLOCK_SIGMA_S: f64 = 0.5;

/// The errors of one kind, shared and own.
fn split(sigma: f64, shared: f64) -> (f64, f64) {
    (sigma * shared.sqrt(), sigma * (1.0 - shared).sqrt())
}

/// Brings all looks together.
pub fn adjust(sortie: &Sortie) -> Result<Adjusted, AdjustError> {
    let (objects, stations) = (sortie.objects.len(), sortie.stations.len());
    if objects > MAX_OBJECTS || stations > MAX_STATIONS {
        return Err(AdjustError::TooMany { objects, stations });
    }
    if sortie.sightings.iter().any(|s| s.station >= stations || s.object >= objects) {
        return Err(AdjustError::Dangling);
    }
    if sortie.dem.is_none() && sortie.objects.iter().any(|o| matches!(o, Stands::OnTerrain)) {
        return Err(AdjustError::NoTerrain);
    }
    let Some(first) = sortie.stations.first() else {
        return Ok(Adjusted {
            objects: vec![],
            constants: vec![],
            outlier: vec![],
            iterations: 0,
            settled: true,
            widened: 1.0,
        });
    };
    let plane = Plane::new(sortie.dem, &first.pose);
    let (start, reasons) = begin(sortie, &plane);
    if start.iter().all(Option::is_none) {
        let reason = reasons.into_iter().flatten().next();
        return Err(AdjustError::NothingPlaced(reason.unwrap_or(LocateError::BehindCamera)));
    }
    let problem = solve::Problem::new(sortie, &plane, &start);
    let solution = problem.solve().ok_or(AdjustError::Singular)?;

    let mut looks = vec![0; objects];
    for sighting in &sortie.sightings {
        looks[sighting.object] += 1;
    }
    let placed = start.iter().zip(reasons).enumerate().map(|(i, (start, reason))| match start {
        Some(_) => {
            let (point, covariance) = solution.object(i);
            Ok(placed(&plane, point, &covariance, looks[i]))
        }
        None => Err(reason.unwrap_or(LocateError::BehindCamera)),
    });
    Ok(Adjusted {
        objects: placed.collect(),
        constants: solution.constants(),
        outlier: solution.outliers(),
        iterations: solution.iterations,
        settled: solution.settled,
        widened: solution.widened,
    })
}

fn placed(plane: &Plane, p: Vector3<f64>, covariance: &Matrix3<f64>, looks: usize) -> Placed {
    let flat: Matrix2<f64> = covariance.fixed_view::<2, 2>(0, 0).into_owned();
    Placed {
        at: plane.to_latlon(p.x, p.y),
        height_m: p.z + drop_m(p.x, p.y),
        height_sigma_m: covariance[(2, 2)].max(0.0).sqrt(),
        uncertainty: Ellipse::from_covariance(&flat),
        looks,
    }
}

/// Where each object seems to be by its looks one by one (the middle of them), or the first reason why no look places it.
fn begin(sortie: &Sortie, plane: &Plane) -> (Vec<Option<Vector3<f64>>>, Vec<Option<LocateError>>) {
    let mut seen: Vec<Vec<Vector3<f64>>> = vec![Vec::new(); sortie.objects.len()];
    let mut reasons = vec![None; sortie.objects.len()];
    for sighting in &sortie.sightings {
        let station = &sortie.stations[sighting.station];
        let ground = match (sortie.objects[sighting.object], sortie.dem) {
            (Stands::At { height_m, sigma_m }, _) => Ground::Flat { height_m, sigma_m },
            (Stands::OnTerrain, Some(dem)) => Ground::Terrain { dem, sigma_m: 0.0 },
            (Stands::OnTerrain, None) => continue,
        };
        let look = Look {
            camera: &station.camera,
            focal_sigma: station.focal_sigma,
            pose: &station.pose,
            ground,
            max_range_m: sortie.max_range_m,
        };
        match look.locate(&Target::ground(sighting.pixel)) {
            Ok(found) => {
                let [e, n] = plane.to_enu(found.place.at);
                seen[sighting.object].push(Vector3::new(e, n, found.height_m - drop_m(e, n)));
            }
            Err(reason) => {
                reasons[sighting.object].get_or_insert(reason);
            }
        }
    }
    let middle = |points: Vec<Vector3<f64>>| {
        let along = |axis: usize| {
            let mut values: Vec<f64> = points.iter().map(|p| p[axis]).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied()
        };
        Some(Vector3::new(along(0)?, along(1)?, along(2)?))
    };
    (seen.into_iter().map(middle).collect(), reasons)
}

/// The common local frame.
enum Plane<'a> {
    Terrain(View<'a>),
    Bare(LocalFrame),
}

/// A sortie's extent; beyond it the frame's polynomials are worse than a centimetre.
const REACH_M: f64 = 6_000.0;

impl<'a> Plane<'a> {
    fn new(dem: Option<&'a Dem>, first: &Pose) -> Self {
        match dem {
            Some(dem) => Self::Terrain(dem.around(first.at, first.height_m, REACH_M)),
            None => Self::Bare(LocalFrame::new(first.at)),
        }
    }

    fn to_enu(&self, at: LatLon) -> [f64; 2] {
        match self {
            Self::Terrain(view) => view.to_enu(at),
            Self::Bare(frame) => frame.to_enu(at),
        }
    }

    fn to_latlon(&self, e: f64, n: f64) -> LatLon {
        match self {
            Self::Terrain(view) => view.to_latlon(e, n),
            Self::Bare(frame) => frame.to_latlon(e, n),
        }
    }

    fn point(&self, pose: &Pose) -> Vector3<f64> {
        let [e, n] = self.to_enu(pose.at);
        Vector3::new(e, n, pose.height_m - drop_m(e, n))
    }
}

/// The middle of all poses' errors: one pose without a fix must not make the shared errors of all wide.
fn typical(stations: &[Station]) -> PoseSigma {
    let middle = |of: fn(&PoseSigma) -> f64| {
        let mut values: Vec<f64> = stations.iter().map(|s| of(&s.pose.sigma)).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    };
    PoseSigma {
        horizontal_m: middle(|s| s.horizontal_m),
        vertical_m: middle(|s| s.vertical_m),
        yaw_deg: middle(|s| s.yaw_deg),
        tilt_deg: middle(|s| s.tilt_deg),
    }
}

#[cfg(test)]
mod tests;
