//! The ground around a dock: a terrain model whose heights are counted from where the drone takes off.
//!
//! The drone tells its height above take-off, and the model tells how high the ground is there: so the model's datum drops out,
//! and no geoid is needed. Where the model has a gap or ends, the ground is taken to be flat, as high as below the camera,
//! and as uncertain as the model's ground is uneven; who asks is told.

use super::dem::Dem;
use super::{Camera, DEFAULT_MAX_RANGE_M, Found, Ground, LatLon, LocalFrame, LocateError, Look, Pose, Target};

/// Half the side of the square around the dock whose relief stands for that of unknown ground, and its samples a side.
const AROUND_M: f64 = 1_500.0;
const SAMPLES: usize = 25;
/// One sigma of unknown ground is never less.
const LEAST_RELIEF_M: f64 = 3.0;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TerrainError {
    #[error(
        "the terrain model ({south:.4} to {north:.4} N, {west:.4} to {east:.4} E) does not reach to the dock at {lat:.4} N, {lon:.4} E; is it the right file?"
    )]
    DockOutside { south: f64, north: f64, west: f64, east: f64, lat: f64, lon: f64 },
    #[error("the terrain model has a gap at the dock; fill it (gdal_fillnodata) or take another model")]
    DockInVoid,
}

/// What a thing was placed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    Terrain,
    /// The model has a gap there, or ends before it.
    Flat,
}

/// See the module's comment. Heights that go in and come out are above take-off.
#[derive(Debug, Clone)]
pub struct Terrain {
    dem: Dem,
    /// The take-off point in the model's heights, and one sigma of it.
    take_off_m: f64,
    take_off_sigma_m: f64,
    relief_m: f64,
}

impl Terrain {
    /// `dock_above_m`: how much higher the dock stands than the model says there (on a roof that is not in the model).
    pub fn new(dem: Dem, dock: LatLon, dock_above_m: f64) -> Result<Self, TerrainError> {
        let Some(below) = dem.height_m(dock) else {
            let [low, high] = dem.bounds();
            let inside = (low.lat..=high.lat).contains(&dock.lat) && (low.lon..=high.lon).contains(&dock.lon);
            return Err(if inside {
                TerrainError::DockInVoid
            } else {
                TerrainError::DockOutside {
                    south: low.lat,
                    north: high.lat,
                    west: low.lon,
                    east: high.lon,
                    lat: dock.lat,
                    lon: dock.lon,
                }
            });
        };
        let take_off_sigma_m = dem.around(dock, below, AROUND_M).sigma_m(0.0, 0.0);
        let relief_m = relief(&dem, dock, below).max(LEAST_RELIEF_M);
        Ok(Self { dem, take_off_m: below + dock_above_m, take_off_sigma_m, relief_m })
    }

    /// How much higher the ground is than take-off; nothing where the model does not know.
    pub fn ground_m(&self, at: LatLon) -> Option<f64> {
        Some(self.dem.height_m(at)? - self.take_off_m)
    }

    /// The same pose, its height counted from the ground below it: for who takes the ground for flat there.
    #[must_use]
    pub fn over_ground(&self, pose: &Pose) -> Pose {
        Pose { height_m: pose.height_m - self.ground_m(pose.at).unwrap_or(0.0), ..*pose }
    }

    /// The inverse of [`Terrain::over_ground`].
    #[must_use]
    pub fn over_take_off(&self, pose: &Pose) -> Pose {
        Pose { height_m: pose.height_m + self.ground_m(pose.at).unwrap_or(0.0), ..*pose }
    }

    /// Where the target stands, and on what.
    pub fn locate(&self, camera: &Camera, pose: &Pose, target: &Target) -> Result<(Found, On), LocateError> {
        let look = |pose, ground| Look { camera, focal_sigma: 0.0, pose, ground, max_range_m: DEFAULT_MAX_RANGE_M };
        let in_model = Pose { height_m: self.take_off_m + pose.height_m, ..*pose };
        let ground = Ground::Terrain { dem: &self.dem, sigma_m: self.take_off_sigma_m };
        match look(&in_model, ground).locate(target) {
            Ok(found) => Ok((Found { height_m: found.height_m - self.take_off_m, ..found }, On::Terrain)),
            Err(LocateError::OutsideTerrain { .. } | LocateError::TerrainVoid) => {
                let height_m = self.ground_m(pose.at).unwrap_or(0.0);
                let ground = Ground::Flat { height_m, sigma_m: self.relief_m };
                Ok((look(pose, ground).locate(target)?, On::Flat))
            }
            Err(error) => Err(error),
        }
    }
}

/// Root mean square of the ground's height around the dock against that at the dock.
fn relief(dem: &Dem, dock: LatLon, dock_m: f64) -> f64 {
    let frame = LocalFrame::new(dock);
    let along = |i: usize| (i as f64 / (SAMPLES - 1) as f64 * 2.0 - 1.0) * AROUND_M;
    let heights: Vec<f64> = (0..SAMPLES * SAMPLES)
        .filter_map(|i| dem.height_m(frame.to_latlon(along(i % SAMPLES), along(i / SAMPLES))))
        .collect();
    let sum: f64 = heights.iter().map(|h| (h - dock_m).powi(2)).sum();
    (sum / heights.len().max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::dem::tests::{HERE, model};
    use super::*;
    use crate::geo::{Attitude, PoseSigma};

    /// Rises by a tenth towards the east; the dock stands at 90 m.
    fn terrain() -> Terrain {
        Terrain::new(model(2.0, 300, |e, _| 90.0 + 0.1 * e), HERE, 0.0).unwrap()
    }

    fn pose(east: f64, height_m: f64, yaw_deg: f64, pitch_deg: f64) -> Pose {
        Pose {
            at: LocalFrame::new(HERE).to_latlon(east, 0.0),
            height_m,
            attitude: Attitude { yaw_deg, pitch_deg, roll_deg: 0.0 },
            sigma: PoseSigma { horizontal_m: 1.5, vertical_m: 1.0, yaw_deg: 2.0, tilt_deg: 0.5 },
        }
    }

    fn camera() -> Camera {
        Camera::from_fov(4000, 3000, 66.0)
    }

    fn centre() -> Target {
        Target::ground([2000.0, 1500.0])
    }

    #[test]
    fn a_thing_on_rising_ground_is_placed_where_the_ray_meets_it_and_not_at_take_off_height() {
        // 60 m above take-off, looking down by 45° towards the east: the slope is met after h = 60 − 0.1 h.
        let (found, on) = terrain().locate(&camera(), &pose(0.0, 60.0, 90.0, -45.0), &centre()).unwrap();
        let [e, n] = LocalFrame::new(HERE).to_enu(found.place.at);
        assert!((e - 60.0 / 1.1).abs() < 0.1 && n.abs() < 0.05, "{e} {n}");
        assert!((found.height_m - e * 0.1).abs() < 0.05, "{}", found.height_m);
        assert_eq!(on, On::Terrain);
    }

    #[test]
    fn the_models_datum_drops_out_and_a_dock_on_a_roof_is_counted() {
        let at = |shift: f64, roof: f64, height_m: f64| {
            let terrain = Terrain::new(model(2.0, 300, |e, _| 90.0 + shift + 0.1 * e), HERE, roof).unwrap();
            terrain.locate(&camera(), &pose(0.0, height_m, 90.0, -45.0), &centre()).unwrap().0.place.at
        };
        assert!(at(0.0, 0.0, 60.0).distance_m(at(-28.6, 0.0, 60.0)) < 0.01);
        assert!(at(0.0, 0.0, 60.0).distance_m(at(0.0, 20.0, 40.0)) < 0.01);
    }

    #[test]
    fn beyond_the_model_and_in_its_gaps_the_ground_is_flat_the_ellipse_wider_and_it_is_said() {
        let terrain = terrain();
        let known = terrain.locate(&camera(), &pose(0.0, 60.0, 90.0, -45.0), &centre()).unwrap().0.place.uncertainty;
        // 300 cells of 2 m end 300 m east of the dock.
        let (found, on) = terrain.locate(&camera(), &pose(280.0, 88.0, 90.0, -45.0), &centre()).unwrap();
        assert_eq!(on, On::Flat);
        let [e, _] = LocalFrame::new(HERE).to_enu(found.place.at);
        assert!((e - 340.0).abs() < 1.0, "the ground goes on as high as below the camera: {e}");
        let wide = found.place.uncertainty;
        assert!(
            wide.semi_major_m > 1.96 * terrain.relief_m && wide.semi_major_m > 3.0 * known.semi_major_m,
            "{wide:?}"
        );

        let holed = model(2.0, 300, |e, n| if e > 30.0 && e < 200.0 && n.abs() < 200.0 { f64::NAN } else { 90.0 });
        let holed = Terrain::new(holed, HERE, 0.0).unwrap();
        let (found, on) = holed.locate(&camera(), &pose(0.0, 60.0, 90.0, -45.0), &centre()).unwrap();
        let flat = on == On::Flat || found.gap_m > 0.0;
        assert!(flat && found.place.uncertainty.semi_major_m > 1.3 * known.semi_major_m, "{found:?} {on:?}");
    }

    #[test]
    fn a_model_of_somewhere_else_is_refused_by_name() {
        let far = LatLon { lat: HERE.lat + 1.0, lon: HERE.lon };
        let refused = Terrain::new(model(2.0, 300, |_, _| 90.0), far, 0.0).unwrap_err();
        assert!(refused.to_string().contains("does not reach to the dock"), "{refused}");
        let hole = model(2.0, 300, |e, n| if e.hypot(n) < 20.0 { f64::NAN } else { 90.0 });
        assert_eq!(Terrain::new(hole, HERE, 0.0).unwrap_err(), TerrainError::DockInVoid);
    }

    #[test]
    fn over_the_ground_and_back_is_the_same_pose() {
        let pose = pose(100.0, 60.0, 0.0, -90.0);
        let low = terrain().over_ground(&pose);
        assert!((low.height_m - 50.0).abs() < 0.05, "{}", low.height_m);
        assert!((terrain().over_take_off(&low).height_m - 60.0).abs() < 1e-9);
    }
}
