//! How far every named error moves a place: each is tried one sigma both ways on the real surface.
//!
//! All angular errors (yaw, two tilts, pixel, focal length) move the ray's direction, which has two degrees of freedom: they
//! are summed there and tried along the two principal axes of the sum. With east, north and up of the camera that makes
//! ten rays a place, whatever the number of error sources.

use nalgebra::{Matrix2, Matrix3, Rotation3, SymmetricEigen, Vector2, Vector3};

use super::{Ground, LocateError, Look, Met, NORMAL_95, Scene, Surface, Target, meet};

pub(super) struct Spread<'a> {
    look: &'a Look<'a>,
    scene: &'a Scene<'a>,
    target: &'a Target,
    direction: Vector3<f64>,
    /// Two directions across the ray, and one sigma along each, radians.
    across: [(Vector3<f64>, f64); 2],
}

impl<'a> Spread<'a> {
    pub fn new(
        look: &'a Look<'a>,
        target: &'a Target,
        scene: &'a Scene<'a>,
        rotation: &Rotation3<f64>,
        direction: Vector3<f64>,
    ) -> Result<Self, LocateError> {
        let sigma = look.pose.sigma;
        // Any two directions across the ray and each other.
        let aside = if direction.z.abs() < 0.9 { Vector3::z() } else { Vector3::x() };
        let u = direction.cross(&aside).normalize();
        let v = direction.cross(&u);
        let mut sum = Matrix2::zeros();
        let mut add = |moves: Vector3<f64>, by: f64| {
            let p = Vector2::new(moves.dot(&u), moves.dot(&v)) * by;
            sum += p * p.transpose();
        };
        for (axis, degrees) in
            [(Vector3::z(), sigma.yaw_deg), (Vector3::x(), sigma.tilt_deg), (Vector3::y(), sigma.tilt_deg)]
        {
            add(axis.cross(&direction), degrees.to_radians());
        }
        // What a pixel's step does, through the lens.
        let [x, y] = target.pixel;
        let beyond = LocateError::BeyondLens { x, y };
        let step = |dx: f64, dy: f64| {
            let ahead = look.camera.ray([x + dx, y + dy]).map(|ray| rotation * ray - direction);
            ahead.or_else(|| look.camera.ray([x - dx, y - dy]).map(|ray| direction - rotation * ray))
        };
        let (right, below) = step(1.0, 0.0).zip(step(0.0, 1.0)).ok_or(beyond)?;
        add(right, target.pixel_sigma);
        add(below, target.pixel_sigma);
        // A wrong focal length moves every pixel towards the centre or away from it.
        add(right * (x - look.camera.cx) + below * (y - look.camera.cy), look.focal_sigma);

        let axes = SymmetricEigen::new(sum);
        let across = [0, 1].map(|i| {
            let e = axes.eigenvectors.column(i);
            (u * e[0] + v * e[1], axes.eigenvalues[i].max(0.0).sqrt())
        });
        Ok(Self { look, scene, target, direction, across })
    }

    /// The covariance of a place over east and north, and one sigma of its height.
    pub fn at(&self, nominal: &Met) -> Result<(Matrix2<f64>, f64), LocateError> {
        let sigma = self.look.pose.sigma;
        let from = Vector3::new(0.0, 0.0, self.scene.camera_m);
        // Over a plane, where two sigma more would look at no ground at all, no ellipse tells the truth.
        if let (Surface::Plane { .. }, LocateError::TooGrazing { depression_deg, error_deg }) =
            (&self.scene.surface, self.grazing(from, nominal))
            && depression_deg <= error_deg
        {
            return Err(LocateError::TooGrazing { depression_deg, error_deg });
        }
        let zero_sigma_m = match self.look.ground {
            Ground::Flat { sigma_m, .. } | Ground::Terrain { sigma_m, .. } => sigma_m,
        };
        let ground_m = zero_sigma_m.hypot(self.scene.surface_sigma_m(nominal)).hypot(self.target.height_sigma_m);

        let mut covariance = Matrix3::zeros();
        let mut add = |point: Vector3<f64>| {
            let moved = point - nominal.point;
            covariance += moved * moved.transpose() / 2.0;
        };
        for (axis, sigma) in self.across {
            for by in [sigma, -sigma] {
                let direction = self.direction * by.cos() + axis * by.sin();
                match self.scene.meet(from, direction, self.look.max_range_m) {
                    Ok(met) => add(met.point),
                    Err(LocateError::AboveHorizon { .. }) => return Err(self.grazing(from, nominal)),
                    Err(_) => add(self.level(from, direction, nominal)),
                }
            }
        }
        // The camera's height and the ground's act alike, with opposite sign.
        let up = sigma.vertical_m.hypot(ground_m);
        for shift in [Vector3::x() * sigma.horizontal_m, Vector3::y() * sigma.horizontal_m, Vector3::z() * up] {
            for from in [from + shift, from - shift] {
                let met = self.scene.meet(from, self.direction, self.look.max_range_m);
                add(met.map_or_else(|_| self.level(from, self.direction, nominal), |met| met.point));
            }
        }
        let height_sigma_m = covariance[(2, 2)].max(0.0).sqrt().hypot(ground_m);
        Ok((covariance.fixed_view::<2, 2>(0, 0).into_owned(), height_sigma_m))
    }

    fn grazing(&self, from: Vector3<f64>, nominal: &Met) -> LocateError {
        let ray = nominal.point - from;
        let depression_deg = (-ray.z / ray.norm()).clamp(-1.0, 1.0).asin().to_degrees();
        LocateError::TooGrazing { depression_deg, error_deg: NORMAL_95 * self.look.pose.sigma.tilt_deg }
    }

    /// Where a moved ray that misses the terrain (past its rim, into a gap) meets the level of the place itself, within range.
    fn level(&self, from: Vector3<f64>, direction: Vector3<f64>, nominal: &Met) -> Vector3<f64> {
        let limit = self.look.max_range_m;
        let range = meet(direction, (from.z - nominal.point.z).max(0.0)).map_or(limit, |way| way.norm().min(limit));
        from + direction * range
    }
}
