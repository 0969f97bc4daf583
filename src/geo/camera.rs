//! The camera: pixels to rays and back.

use nalgebra::Vector3;

use super::Camera;

/// Steps of Newton's method when undoing distortion; real lenses need three or four.
const UNDISTORT_STEPS: usize = 30;
/// Convergence in normalised image coordinates: a millionth of a pixel for any sensible lens.
const UNDISTORT_TOLERANCE: f64 = 1e-12;

impl Camera {
    /// An ideal camera with square pixels and its centre in the middle.
    pub fn from_fov(width_px: u32, height_px: u32, horizontal_fov_deg: f64) -> Self {
        let f = f64::from(width_px) / 2.0 / (horizontal_fov_deg.to_radians() / 2.0).tan();
        Self {
            width_px,
            height_px,
            fx: f,
            fy: f,
            cx: f64::from(width_px) / 2.0,
            cy: f64::from(height_px) / 2.0,
            distortion: None,
        }
    }

    /// The direction that a pixel sees, unit length, in camera axes (x right, y down, z forward).
    ///
    /// `None` where the distortion model has no answer: pixels beyond what the lens was calibrated for.
    pub fn ray(&self, pixel: [f64; 2]) -> Option<Vector3<f64>> {
        let x = (pixel[0] - self.cx) / self.fx;
        let y = (pixel[1] - self.cy) / self.fy;
        let [x, y] = match &self.distortion {
            Some(d) => undistort(d, [x, y])?,
            None => [x, y],
        };
        let ray = Vector3::new(x, y, 1.0);
        (x.is_finite() && y.is_finite()).then(|| ray.normalize())
    }

    /// Where a point in camera axes appears; possibly outside the picture, see [`Camera::contains`].
    ///
    /// `None` behind the camera and where the distortion polynomial folds back: there it would put points far outside
    /// the view into the middle of the picture.
    pub fn project(&self, point: Vector3<f64>) -> Option<[f64; 2]> {
        if !positive(point.z) {
            return None;
        }
        let [x, y] = [point.x / point.z, point.y / point.z];
        let [x, y] = match &self.distortion {
            Some(d) => {
                if !unfolded(d, x * x + y * y) {
                    return None;
                }
                distort(d, [x, y])
            }
            None => [x, y],
        };
        let pixel = [self.fx * x + self.cx, self.fy * y + self.cy];
        (pixel[0].is_finite() && pixel[1].is_finite()).then_some(pixel)
    }

    /// Whether a pixel lies in the picture.
    pub fn contains(&self, pixel: [f64; 2]) -> bool {
        (0.0..=f64::from(self.width_px)).contains(&pixel[0]) && (0.0..=f64::from(self.height_px)).contains(&pixel[1])
    }

    /// The same camera for a picture resized by `factor`.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Self {
        let size = |px: u32| (f64::from(px) * factor).round().max(1.0) as u32;
        Self {
            width_px: size(self.width_px),
            height_px: size(self.height_px),
            fx: self.fx * factor,
            fy: self.fy * factor,
            cx: self.cx * factor,
            cy: self.cy * factor,
            distortion: self.distortion,
        }
    }

    /// Whether the numbers can be a camera: a picture, positive focal lengths, everything finite.
    pub fn valid(&self) -> bool {
        let positive = |v: f64| v.is_finite() && v > 0.0;
        self.width_px > 0
            && self.height_px > 0
            && positive(self.fx)
            && positive(self.fy)
            && self.cx.is_finite()
            && self.cy.is_finite()
            && self.distortion.is_none_or(|d| d.iter().all(|k| k.is_finite()))
    }
}

/// Greater than zero, which NaN is not.
pub(super) fn positive(v: f64) -> bool {
    v > 0.0
}

/// Brown–Conrady, in normalised image coordinates.
fn distort(&[k1, k2, p1, p2, k3]: &[f64; 5], [x, y]: [f64; 2]) -> [f64; 2] {
    let r2 = x * x + y * y;
    let radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3));
    [x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x), y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y]
}

/// Whether the distorted radius still grows with the true one everywhere up to here.
fn unfolded(&[k1, k2, _, _, k3]: &[f64; 5], r2: f64) -> bool {
    (1..=16).all(|i| {
        let u = r2 * f64::from(i) / 16.0;
        1.0 + u * (3.0 * k1 + u * (5.0 * k2 + u * 7.0 * k3)) > 0.0
    })
}

/// Newton's method: the plain fixed-point iteration diverges for wide lenses.
fn undistort(d: &[f64; 5], target: [f64; 2]) -> Option<[f64; 2]> {
    let &[k1, k2, p1, p2, k3] = d;
    let [mut x, mut y] = target;
    for _ in 0..UNDISTORT_STEPS {
        let r2 = x * x + y * y;
        let radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3));
        let slope = k1 + r2 * (2.0 * k2 + r2 * 3.0 * k3);
        let [u, v] = distort(d, [x, y]);
        let [ex, ey] = [u - target[0], v - target[1]];
        let a = radial + 2.0 * x * x * slope + 2.0 * p1 * y + 6.0 * p2 * x;
        let b = 2.0 * x * y * slope + 2.0 * p1 * x + 2.0 * p2 * y;
        let c = radial + 2.0 * y * y * slope + 6.0 * p1 * y + 2.0 * p2 * x;
        let det = a * c - b * b;
        let [sx, sy] = [(c * ex - b * ey) / det, (a * ey - b * ex) / det];
        if !(sx.is_finite() && sy.is_finite()) {
            return None;
        }
        x -= sx;
        y -= sy;
        if sx.abs().max(sy.abs()) < UNDISTORT_TOLERANCE {
            return unfolded(d, x * x + y * y).then_some([x, y]);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    fn barrel() -> Camera {
        Camera { distortion: Some([-0.27, 0.11, 0.0009, 0.0001, -0.033]), ..Camera::from_fov(5472, 3648, 74.0) }
    }

    #[test]
    fn the_field_of_view_is_the_one_asked_for() {
        let camera = Camera::from_fov(4000, 2250, 66.0);
        let left = camera.ray([0.0, 1125.0]).unwrap();
        let right = camera.ray([4000.0, 1125.0]).unwrap();
        assert!((left.angle(&right).to_degrees() - 66.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_behind_the_camera_is_not_seen() {
        assert_eq!(Camera::from_fov(400, 300, 60.0).project(Vector3::new(0.0, 0.0, -5.0)), None);
        assert_eq!(Camera::from_fov(400, 300, 60.0).project(Vector3::new(0.0, f64::NAN, 5.0)), None);
    }

    #[test]
    fn a_point_far_outside_the_view_does_not_fold_back_into_the_picture() {
        // With this much barrel distortion the polynomial turns round at 48 degrees off the axis.
        let camera = Camera { distortion: Some([-0.27, 0.0, 0.0, 0.0, 0.0]), ..Camera::from_fov(4000, 3000, 70.0) };
        let naive = distort(&camera.distortion.unwrap(), [1.9, 0.0]);
        assert!(naive[0].abs() < 0.2, "the trap is real: {naive:?}");
        assert_eq!(camera.project(Vector3::new(1.9, 0.0, 1.0)), None);
    }

    #[test]
    fn a_resized_picture_sees_the_same_directions() {
        let full = barrel();
        let half = full.scaled(0.5);
        assert_eq!((half.width_px, half.height_px), (2736, 1824));
        let (a, b) = (full.ray([1000.0, 3000.0]).unwrap(), half.ray([500.0, 1500.0]).unwrap());
        assert!(a.angle(&b) < 1e-9);
    }

    #[test]
    fn numbers_that_are_no_camera_are_told() {
        assert!(barrel().valid());
        assert!(!Camera { fx: 0.0, ..barrel() }.valid());
        assert!(!Camera { width_px: 0, ..barrel() }.valid());
        assert!(!Camera { distortion: Some([f64::NAN; 5]), ..barrel() }.valid());
        assert!(!Camera::from_fov(100, 100, f64::NAN).valid());
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(3), failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_ray_projects_back_onto_its_pixel(x in 0.0..5472.0_f64, y in 0.0..3648.0_f64) {
            for camera in [barrel(), Camera { distortion: None, ..barrel() }] {
                let p = camera.project(camera.ray([x, y]).unwrap() * 80.0).unwrap();
                prop_assert!((p[0] - x).hypot(p[1] - y) < 1e-6);
            }
        }
    }
}
