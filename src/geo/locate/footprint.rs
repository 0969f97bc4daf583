//! The other way round and the whole frame, over flat ground: where a place appears, what ground a picture shows, and at
//! which scale.

use nalgebra::{Rotation3, Vector3};

use super::{LocateError, check, meet};
use crate::geo::camera::positive;
use crate::geo::{Camera, LatLon, LocalFrame, Pose};

/// Samples on each edge of the frame for its footprint; distortion bends the edges.
const FOOTPRINT_STEPS: u32 = 8;

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
    let look = Level { rotation, above_m };
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
    let look = Level { rotation: pose.attitude.rotation(), above_m: pose.height_m.max(0.0) };
    match camera.ray(centre).map(|ray| look.meet(ray)) {
        Some(Ok(point)) => point.norm() / (camera.fx * camera.fy).sqrt(),
        _ => f64::INFINITY,
    }
}

/// One camera over one plane.
struct Level {
    rotation: Rotation3<f64>,
    /// The camera's height above the plane.
    above_m: f64,
}

impl Level {
    /// The point where a ray in camera axes meets the plane, east, north, up of the camera.
    fn meet(&self, ray: Vector3<f64>) -> Result<Vector3<f64>, LocateError> {
        if !positive(ray.z) {
            return Err(LocateError::BehindCamera);
        }
        meet(self.rotation * ray, self.above_m)
    }
}
