//! The camera: pixels to rays and back.

use nalgebra::Vector3;

use super::{Camera, Distortion};

/// Steps of Newton's method when undoing distortion; real lenses need three or four.
const UNDISTORT_STEPS: usize = 30;
/// Convergence in normalised image coordinates: a millionth of a pixel for any sensible lens.
const UNDISTORT_TOLERANCE: f64 = 1e-12;
/// A ray sideways of the camera: no place on the ground is seen there.
const FISHEYE_LIMIT: f64 = std::f64::consts::FRAC_PI_2;

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
        let ray = match &self.distortion {
            None => Vector3::new(x, y, 1.0),
            Some(Distortion::Brown(d)) => {
                let [x, y] = undistort(d, [x, y])?;
                Vector3::new(x, y, 1.0)
            }
            Some(Distortion::Fisheye(c)) => {
                let radius = x.hypot(y);
                let theta = unbend(c, radius)?;
                let across = if radius > 0.0 { theta.sin() / radius } else { 1.0 };
                Vector3::new(x * across, y * across, theta.cos())
            }
        };
        ray.iter().all(|v| v.is_finite()).then(|| ray.normalize())
    }

    /// Where a point in camera axes appears; possibly outside the picture, see [`Camera::contains`].
    ///
    /// `None` behind the camera and where the distortion polynomial folds back: there it would put points far outside
    /// the view into the middle of the picture.
    pub fn project(&self, point: Vector3<f64>) -> Option<[f64; 2]> {
        // A fisheye may see beyond 90 degrees, but no drone's does: what is behind is not seen by any lens here.
        if !positive(point.z) {
            return None;
        }
        let [x, y] = [point.x / point.z, point.y / point.z];
        let [x, y] = match &self.distortion {
            None => [x, y],
            Some(Distortion::Brown(d)) => {
                if !unfolded(d, x * x + y * y) {
                    return None;
                }
                distort(d, [x, y])
            }
            Some(Distortion::Fisheye(c)) => {
                let tangent = x.hypot(y);
                let theta = tangent.atan();
                if !straightens(c, theta) {
                    return None;
                }
                let shrink = if tangent > 0.0 { bend(c, theta) / tangent } else { 1.0 };
                [x * shrink, y * shrink]
            }
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

    /// Whether the numbers can be a camera, see [`Camera::fault`].
    pub fn valid(&self) -> bool {
        self.fault().is_none()
    }

    /// Which of the numbers can be no camera's: it needs a picture, positive focal lengths, everything finite, and a lens that
    /// is one.
    pub fn fault(&self) -> Option<&'static str> {
        let positive = |v: f64| v.is_finite() && v > 0.0;
        let finite = self.distortion.is_none_or(|d| match d {
            Distortion::Brown(d) => d.iter().all(|k| k.is_finite()),
            Distortion::Fisheye(c) => c.iter().all(|k| k.is_finite()),
        });
        let faults = [
            ("the picture's size (img_w, img_h)", self.width_px == 0 || self.height_px == 0),
            ("the focal length (fx, fy), in pixels", !(positive(self.fx) && positive(self.fy))),
            ("the principal point (cx, cy)", !(self.cx.is_finite() && self.cy.is_finite())),
            ("the lens distortion (k1, k2, p1, p2, k3, in focal lengths)", !finite || self.bends_too_much()),
        ];
        faults.into_iter().find_map(|(what, bad)| bad.then_some(what))
    }

    /// Brown's coefficients of no lens: half way to the picture's side there is no ray, or the side is drawn together by more
    /// than any pincushion does (the worst are at 0.85).
    fn bends_too_much(&self) -> bool {
        let Some(Distortion::Brown(d)) = &self.distortion else { return false };
        let side = f64::from(self.width_px) / 2.0 / self.fx;
        let straight = |x: f64| undistort(d, [x, 0.0]).map(|[x, _]| x);
        straight(side / 2.0).is_none() || straight(side).is_some_and(|x| x < SQUEEZE * side)
    }
}

const SQUEEZE: f64 = 0.6;

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

impl Distortion {
    /// OpenCV's fisheye model, `θ (1 + k1 θ² + k2 θ⁴ + k3 θ⁶ + k4 θ⁸)`.
    pub fn equidistant([k1, k2, k3, k4]: [f64; 4]) -> Self {
        Self::Fisheye([0.0, k1, 0.0, k2, 0.0, k3, 0.0, k4])
    }

    /// Pix4D's fisheye polynomial, `ρ = θ' + p2 θ'² + p3 θ'³ + p4 θ'⁴` with `θ' = 2 θ / π`, which senseFly and Parrot write.
    /// The camera's focal length is then the affine matrix's times 2/π.
    pub fn pix4d_fisheye([p2, p3, p4]: [f64; 3]) -> Self {
        let s = std::f64::consts::FRAC_2_PI;
        Self::Fisheye([p2 * s, p3 * s * s, p4 * s * s * s, 0.0, 0.0, 0.0, 0.0, 0.0])
    }
}

/// The image radius of an angle off the axis, in focal lengths.
fn bend(c: &[f64; 8], theta: f64) -> f64 {
    theta * (1.0 + theta * c.iter().rev().fold(0.0, |sum, k| sum * theta + k))
}

/// The slope of [`bend`].
fn bend_slope(c: &[f64; 8], theta: f64) -> f64 {
    1.0 + c.iter().zip(2..10).rev().fold(0.0, |sum, (k, power)| sum * theta + k * f64::from(power)) * theta
}

/// Whether the radius grows with the angle everywhere up to here.
fn straightens(c: &[f64; 8], theta: f64) -> bool {
    (1..=16).all(|i| bend_slope(c, theta * f64::from(i) / 16.0) > 0.0)
}

/// The angle off the axis of an image radius.
fn unbend(c: &[f64; 8], radius: f64) -> Option<f64> {
    let mut theta = radius.min(FISHEYE_LIMIT);
    for _ in 0..UNDISTORT_STEPS {
        let step = (bend(c, theta) - radius) / bend_slope(c, theta);
        if !step.is_finite() {
            return None;
        }
        theta -= step;
        if step.abs() < UNDISTORT_TOLERANCE {
            return ((0.0..FISHEYE_LIMIT).contains(&theta) && straightens(c, theta)).then_some(theta);
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
        Camera {
            distortion: Some(Distortion::Brown([-0.27, 0.11, 0.0009, 0.0001, -0.033])),
            ..Camera::from_fov(5472, 3648, 74.0)
        }
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

    fn fisheye() -> Camera {
        let lens = Distortion::equidistant([-0.02, 0.004, -0.001, 0.0002]);
        Camera { fx: 1500.0, fy: 1500.0, distortion: Some(lens), ..Camera::from_fov(4000, 3000, 90.0) }
    }

    #[test]
    fn a_fisheye_shows_equal_angles_as_equal_distances() {
        let ideal = Camera { distortion: Some(Distortion::equidistant([0.0; 4])), ..fisheye() };
        for degrees in [10.0_f64, 40.0, 70.0] {
            let ray = ideal.ray([2000.0 + 1500.0 * degrees.to_radians(), 1500.0]).unwrap();
            assert!((ray.angle(&Vector3::z()).to_degrees() - degrees).abs() < 1e-9, "{degrees}");
        }
        // Pix4D counts angles in quarter turns: 60 degrees off the axis is two thirds of the affine focal length away.
        let affine = 1800.0;
        let f = affine * std::f64::consts::FRAC_2_PI;
        let pix4d = Camera { fx: f, fy: f, distortion: Some(Distortion::pix4d_fisheye([0.0; 3])), ..fisheye() };
        let ray = pix4d.ray([2000.0 + affine * 2.0 / 3.0, 1500.0]).unwrap();
        assert!((ray.angle(&Vector3::z()).to_degrees() - 60.0).abs() < 1e-9);
    }

    #[test]
    fn a_point_far_outside_the_view_does_not_fold_back_into_the_picture() {
        const BARREL: [f64; 5] = [-0.27, 0.0, 0.0, 0.0, 0.0];
        // With this much barrel distortion the polynomial turns round at 48 degrees off the axis.
        let camera = Camera { distortion: Some(Distortion::Brown(BARREL)), ..Camera::from_fov(4000, 3000, 70.0) };
        let naive = distort(&BARREL, [1.9, 0.0]);
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
        assert!(Camera { fx: 0.0, ..barrel() }.fault().is_some_and(|what| what.contains("fx")));
        for k1 in [50.0, -50.0] {
            let lens = Some(Distortion::Brown([k1, 0.0, 0.0, 0.0, 0.0]));
            assert!(Camera { distortion: lens, ..barrel() }.fault().is_some_and(|what| what.contains("k1")), "{k1}");
            // Of a long lens, whose picture ends near the axis, it may be.
            assert!(Camera { distortion: lens, ..Camera::from_fov(4000, 3000, 4.0) }.valid());
        }
        assert!(!Camera { distortion: Some(Distortion::Brown([f64::NAN; 5])), ..barrel() }.valid());
        assert!(!Camera::from_fov(100, 100, f64::NAN).valid());
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(3), failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_ray_projects_back_onto_its_pixel(x in 0.0..5472.0_f64, y in 0.0..3648.0_f64) {
            let wide = Camera { fx: 2500.0, fy: 2500.0, distortion: fisheye().distortion, ..barrel() };
            for camera in [barrel(), Camera { distortion: None, ..barrel() }, wide] {
                let p = camera.project(camera.ray([x, y]).unwrap() * 80.0).unwrap();
                prop_assert!((p[0] - x).hypot(p[1] - y) < 1e-6);
            }
        }
    }
}
