//! How a camera looks: angles in, rotations out.

use nalgebra::{Matrix3, Quaternion, Rotation3, UnitQuaternion, Vector3};

use super::Attitude;

/// Below this cosine of the pitch (0.006 degrees from straight down), yaw and roll turn about the same axis: only their
/// combination can be known, and splitting it would turn the rounding of an f32 quaternion into a random yaw.
const GIMBAL_LOCK_COS: f64 = 1e-4;

impl Attitude {
    /// From camera axes (x right, y down, z forward) to east, north, up.
    pub fn rotation(&self) -> Rotation3<f64> {
        // Both axis changes are proper rotations: camera (right, down, forward) to body (forward, right, down), and
        // north, east, down to east, north, up.
        let camera_to_body = Rotation3::from_matrix_unchecked(Matrix3::new(
            0.0, 0.0, 1.0, //
            1.0, 0.0, 0.0, //
            0.0, 1.0, 0.0,
        ));
        let ned_to_enu = Rotation3::from_matrix_unchecked(Matrix3::new(
            0.0, 1.0, 0.0, //
            1.0, 0.0, 0.0, //
            0.0, 0.0, -1.0,
        ));
        ned_to_enu * self.body_to_ned() * camera_to_body
    }

    /// From a quaternion (w, x, y, z) that turns the camera's body (x along the optical axis, y right, z down) into north,
    /// east, down: what MAVLink's `CAMERA_IMAGE_CAPTURED` and `GIMBAL_DEVICE_ATTITUDE_STATUS` (in the Earth frame) carry.
    ///
    /// `None` where it is no rotation: all zero, not finite, or far from unit length. Straight down (and up) only yaw minus
    /// (plus) roll is defined; the whole turn is then given as yaw.
    pub fn from_camera_quaternion_ned(q: [f64; 4]) -> Option<Self> {
        let [w, x, y, z] = q;
        let q = Quaternion::new(w, x, y, z);
        let norm = q.norm();
        // Written so that NaN fails too. The width allows for quaternions that went through f32 and careless firmware.
        if !(0.9..=1.1).contains(&norm) {
            return None;
        }
        Some(Self::from_body_to_ned(&UnitQuaternion::from_quaternion(q).to_rotation_matrix()))
    }

    /// From angles in which a camera that looks straight down has pitch 0 and roll 0 (Pix4D's definition, written by
    /// senseFly, Parrot's mapping cameras and old Autel firmware): yaw, pitch, roll of a body under which the camera hangs,
    /// the picture's top towards its nose.
    pub fn from_nadir_zero(yaw_deg: f64, pitch_deg: f64, roll_deg: f64) -> Self {
        let body = Self { yaw_deg, pitch_deg, roll_deg }.body_to_ned();
        // The optical axis is the body's down, the picture's bottom its tail.
        let camera_body_to_body = Rotation3::from_matrix_unchecked(Matrix3::new(
            0.0, 0.0, -1.0, //
            0.0, 1.0, 0.0, //
            1.0, 0.0, 0.0,
        ));
        Self::from_body_to_ned(&(body * camera_body_to_body))
    }

    /// Between this attitude (0) and another (1), turned at constant rate about one axis: angles are never averaged, which
    /// at nadir and across north would give an attitude that neither end had.
    #[must_use]
    pub fn slerp(&self, other: &Self, share: f64) -> Self {
        let [a, b] = [self, other].map(|a| UnitQuaternion::from_rotation_matrix(&a.body_to_ned()));
        // Two opposite attitudes have no way between them: the nearer one stands.
        let between = a.try_slerp(&b, share, 1e-9).unwrap_or(if share < 0.5 { a } else { b });
        Self::from_body_to_ned(&between.to_rotation_matrix())
    }

    /// The angle of the turn between two attitudes, degrees.
    pub fn angle_to(&self, other: &Self) -> f64 {
        self.body_to_ned().angle_to(&other.body_to_ned()).to_degrees()
    }

    fn body_to_ned(&self) -> Rotation3<f64> {
        let yaw = Rotation3::from_axis_angle(&Vector3::z_axis(), self.yaw_deg.to_radians());
        let pitch = Rotation3::from_axis_angle(&Vector3::y_axis(), self.pitch_deg.to_radians());
        let roll = Rotation3::from_axis_angle(&Vector3::x_axis(), self.roll_deg.to_radians());
        yaw * pitch * roll
    }

    fn from_body_to_ned(m: &Rotation3<f64>) -> Self {
        let m = m.matrix();
        let pitch = (-m[(2, 0)]).clamp(-1.0, 1.0).asin();
        let (yaw, roll) = if pitch.cos() > GIMBAL_LOCK_COS {
            (m[(1, 0)].atan2(m[(0, 0)]), m[(2, 1)].atan2(m[(2, 2)]))
        } else {
            // The body's y axis (the picture's right edge) stays horizontal: it alone says the turn.
            ((-m[(0, 1)]).atan2(m[(1, 1)]), 0.0)
        };
        Self { yaw_deg: yaw.to_degrees().rem_euclid(360.0), pitch_deg: pitch.to_degrees(), roll_deg: roll.to_degrees() }
    }

    /// The first of the angles that are told which no source of angles writes, with its name. More than one turn is none;
    /// yaws are counted on by some.
    pub fn impossible(yaw: Option<f64>, pitch: Option<f64>, roll: Option<f64>) -> Option<(&'static str, f64)> {
        [("yaw", yaw, 720.0), ("pitch", pitch, 360.0), ("roll", roll, 360.0)].into_iter().find_map(
            |(what, v, limit)| {
                // Written so that NaN is none either.
                v.filter(|v| !(-limit..=limit).contains(v)).map(|v| (what, v))
            },
        )
    }

    pub(super) fn is_possible(&self) -> bool {
        Self::impossible(Some(self.yaw_deg), Some(self.pitch_deg), Some(self.roll_deg)).is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    fn attitude(yaw_deg: f64, pitch_deg: f64, roll_deg: f64) -> Attitude {
        Attitude { yaw_deg, pitch_deg, roll_deg }
    }

    fn looks_at(a: Attitude, camera: [f64; 3]) -> Vector3<f64> {
        a.rotation() * Vector3::from(camera)
    }

    const FORWARD: [f64; 3] = [0.0, 0.0, 1.0];
    const RIGHT: [f64; 3] = [1.0, 0.0, 0.0];
    const PICTURE_TOP: [f64; 3] = [0.0, -1.0, 0.0];

    #[test]
    fn yaw_ninety_looks_east_not_west() {
        assert!((looks_at(attitude(90.0, 0.0, 0.0), FORWARD) - Vector3::new(1.0, 0.0, 0.0)).norm() < 1e-12);
    }

    #[test]
    fn negative_pitch_looks_down_not_up() {
        let d = looks_at(attitude(0.0, -30.0, 0.0), FORWARD);
        assert!((d - Vector3::new(0.0, 0.75_f64.sqrt(), -0.5)).norm() < 1e-12);
    }

    #[test]
    fn positive_roll_puts_the_right_side_down() {
        assert!(looks_at(attitude(0.0, 0.0, 10.0), RIGHT).z < -0.17);
    }

    #[test]
    fn at_nadir_the_top_of_the_picture_points_along_the_yaw() {
        let top = looks_at(attitude(90.0, -90.0, 0.0), PICTURE_TOP);
        assert!((top - Vector3::new(1.0, 0.0, 0.0)).norm() < 1e-12);
    }

    #[test]
    fn a_nadir_quaternion_keeps_its_yaw() {
        let q = |yaw: f64, pitch: f64, roll: f64| {
            let q = UnitQuaternion::from_euler_angles(roll.to_radians(), pitch.to_radians(), yaw.to_radians());
            [q.w, q.i, q.j, q.k]
        };
        for yaw in [0.0, 37.0, 180.0, 271.0] {
            let a = Attitude::from_camera_quaternion_ned(q(yaw, -90.0, 0.0)).unwrap();
            let turn = (a.yaw_deg - yaw + 180.0).rem_euclid(360.0) - 180.0;
            assert!(turn.abs() < 1e-5 && (a.pitch_deg + 90.0).abs() < 1e-5 && a.roll_deg.abs() < 1e-5, "{a:?}");
        }
        // Rolled at nadir is the same as turned: the picture must come out the same, whatever the split.
        let a = Attitude::from_camera_quaternion_ned(q(40.0, -90.0, 25.0)).unwrap();
        let want = attitude(40.0, -90.0, 25.0).rotation();
        assert!((a.rotation().matrix() - want.matrix()).norm() < 1e-6);
    }

    #[test]
    fn a_pitch_counted_from_nadir_is_turned_not_shifted() {
        let level = Attitude::from_nadir_zero(30.0, 0.0, 0.0);
        assert!(
            (level.rotation().matrix() - attitude(30.0, -90.0, 0.0).rotation().matrix()).norm() < 1e-4,
            "{level:?}"
        );
        let ahead = Attitude::from_nadir_zero(30.0, 20.0, 0.0);
        assert!(
            (ahead.rotation().matrix() - attitude(30.0, -70.0, 0.0).rotation().matrix()).norm() < 1e-9,
            "{ahead:?}"
        );
        // Rolled right side down, the picture looks to the left: with roll, subtracting 90 from the pitch is wrong.
        let leaning = Attitude::from_nadir_zero(0.0, 0.0, 20.0);
        let d = looks_at(leaning, FORWARD);
        assert!(
            (d - Vector3::new(-20.0_f64.to_radians().sin(), 0.0, -20.0_f64.to_radians().cos())).norm() < 1e-9,
            "{d}"
        );
        let shifted = attitude(0.0, -90.0, 20.0);
        assert!(leaning.angle_to(&shifted) > 15.0, "the trap is real");
    }

    #[test]
    fn between_two_attitudes_across_north_lies_north_and_not_south() {
        let middle = attitude(350.0, -60.0, 0.0).slerp(&attitude(10.0, -60.0, 0.0), 0.5);
        let turn = (middle.yaw_deg + 180.0).rem_euclid(360.0) - 180.0;
        assert!(turn.abs() < 1e-6 && (middle.pitch_deg + 60.0).abs() < 1.0, "{middle:?}");
        let start = attitude(350.0, -60.0, 3.0);
        assert!(start.slerp(&attitude(10.0, -20.0, 0.0), 0.0).angle_to(&start) < 1e-4);
        assert!(attitude(0.0, 0.0, 0.0).slerp(&attitude(180.0, 0.0, 0.0), 0.4).yaw_deg.is_finite());
    }

    #[test]
    fn what_is_no_rotation_gives_no_attitude() {
        assert_eq!(Attitude::from_camera_quaternion_ned([0.0; 4]), None);
        assert_eq!(Attitude::from_camera_quaternion_ned([f64::NAN, 0.0, 0.0, 0.0]), None);
        assert_eq!(Attitude::from_camera_quaternion_ned([5.0, 0.0, 0.0, 0.0]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(2), failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_quaternion_and_its_angles_are_the_same_rotation(
            yaw in 0.0..360.0_f64, pitch in -90.0..90.0_f64, roll in -180.0..180.0_f64, sign in prop::bool::ANY,
        ) {
            let q = UnitQuaternion::from_euler_angles(roll.to_radians(), pitch.to_radians(), yaw.to_radians());
            let s = if sign { 1.0 } else { -1.0 };
            let a = Attitude::from_camera_quaternion_ned([s * q.w, s * q.i, s * q.j, s * q.k]).unwrap();
            prop_assert!((a.rotation().matrix() - attitude(yaw, pitch, roll).rotation().matrix()).norm() < 2e-4);
        }
    }
}
