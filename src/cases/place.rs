//! Pure: where a sighting is on the ground.

use crate::geo::terrain::{On, Terrain};
use crate::geo::{Located, PIXEL_SIGMA, Pose, Target};
use crate::perception::ledger::View;
use crate::perception::protocol::Sighting;

/// What [`super::adjust`] needs of a look: where it was taken from, and how high the seen point is; both above take-off.
#[derive(Debug, Clone, Copy)]
pub struct Stance {
    pub view: View,
    pub height_m: f64,
    pub height_sigma_m: f64,
}

/// A sighting's place; none where the terrain gives it none. `view` is over the ground below the camera, as whoever looked at
/// the picture had it; with a terrain model the ray is met with that instead.
pub(super) fn place(terrain: Option<&Terrain>, s: &Sighting, view: &View) -> Option<(Located, Stance, On)> {
    let stance = |pose: Pose, height_m, height_sigma_m| {
        let view = View { camera: view.camera, pose };
        Stance { view, height_m, height_sigma_m }
    };
    let Some(terrain) = terrain else {
        return Some((s.located, stance(view.pose, s.centre_height_m, s.centre_height_sigma_m), On::Flat));
    };
    let pose = terrain.over_take_off(&view.pose);
    let [x1, y1, x2, y2] = s.bbox.map(f64::from);
    let target = Target {
        pixel: [(x1 + x2) / 2.0, (y1 + y2) / 2.0],
        pixel_sigma: PIXEL_SIGMA,
        height_m: s.centre_height_m,
        height_sigma_m: s.centre_height_sigma_m,
    };
    let (found, mut on) = terrain
        .locate(&view.camera, &pose, &target)
        .inspect_err(|error| tracing::debug!(%error, class = s.class, "a sighting has no place on the terrain"))
        .ok()?;
    if found.gap_m > 0.0 {
        on = On::Flat;
    }
    Some((found.place, stance(pose, found.height_m, found.height_sigma_m), on))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::dem::tests::{HERE, model};
    use crate::geo::{self, Attitude, Camera, LocalFrame, PoseSigma};

    #[test]
    fn on_a_slope_a_sighting_is_placed_on_the_terrain_and_without_a_model_on_the_plane() {
        let terrain = Terrain::new(model(2.0, 300, |e, _| 90.0 + 0.2 * e), HERE, 0.0).unwrap();
        let pose = Pose {
            at: LocalFrame::new(HERE).to_latlon(100.0, 0.0),
            height_m: 80.0,
            attitude: Attitude { yaw_deg: 90.0, pitch_deg: -45.0, roll_deg: 0.0 },
            sigma: PoseSigma { horizontal_m: 1.0, vertical_m: 1.0, yaw_deg: 1.0, tilt_deg: 0.5 },
        };
        let camera = Camera::from_fov(1000, 1000, 60.0);
        // 60 m over the ground below, as whoever looked was told.
        let view = View { camera, pose: terrain.over_ground(&pose) };
        assert!((view.pose.height_m - 60.0).abs() < 0.1);
        let sighting = Sighting {
            class: "garbage".to_owned(),
            score: 0.9,
            threshold: 0.5,
            bbox: [490.0, 490.0, 510.0, 510.0],
            at_edge: false,
            located: geo::locate(&camera, &view.pose, [500.0, 500.0], 0.0, 0.3).unwrap(),
            centre_height_m: 0.0,
            centre_height_sigma_m: 0.3,
            experimental: false,
            sure: true,
        };
        let east = |l: &Located| LocalFrame::new(HERE).to_enu(l.at)[0];
        let (located, stance, on) = place(Some(&terrain), &sighting, &view).unwrap();
        // 80 − d = 0.2 (100 + d).
        assert!((east(&located) - 150.0).abs() < 0.2 && on == On::Terrain, "{}", east(&located));
        assert!((stance.height_m - 30.0).abs() < 0.1 && (stance.view.pose.height_m - 80.0).abs() < 1e-6);
        let (located, stance, _) = place(None, &sighting, &view).unwrap();
        assert!((east(&located) - 160.0).abs() < 0.2 && stance.height_m == 0.0);
    }
}
