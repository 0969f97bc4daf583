//! The normal equations. Each pose's own six unknowns are eliminated as they come (they meet only what was seen from that
//! pose), which leaves the shared errors and three unknowns an object.

use nalgebra::{
    Cholesky, DMatrix, DVector, Dyn, Matrix2x3, Matrix3, Matrix6, RowVector3, SMatrix, Vector2, Vector3, Vector6,
};

use super::{CLOCK_SIGMA_S, Constant, Kind, Plane, SHARED_ATTITUDE, SHARED_PLACE, Sortie, Stands, split, typical};

const CONSTANTS: usize = Kind::ALL.len();
const ITERATIONS: usize = 60;
/// The scale of Cauchy's weight: a residual of three sigma counts half.
const CAUCHY: f64 = 3.0;
/// A sighting weighs less than this when it is taken for an outlier.
const OUTLIER_WEIGHT: f64 = 0.1;

type ByConstants = SMatrix<f64, 2, CONSTANTS>;
type ByPose = SMatrix<f64, 2, 6>;

/// A pose as it came, ready to be corrected.
struct Pose {
    place: Vector3<f64>,
    camera_to_enu: Matrix3<f64>,
    velocity: Vector3<f64>,
    /// One sigma of its own errors: east, north, up, and turns about the same axes, radians.
    own: Vector6<f64>,
}

struct Ray {
    pose: usize,
    /// Among those that are estimated.
    object: usize,
    /// Index of the sighting.
    of: usize,
    /// On the plane one focal length ahead.
    at: Vector2<f64>,
    /// Focal lengths over one sigma of a pixel.
    weight: Vector2<f64>,
}

pub(super) struct Problem<'a> {
    plane: &'a Plane<'a>,
    poses: Vec<Pose>,
    rays: Vec<Ray>,
    /// By pose: which rays.
    by_pose: Vec<Vec<usize>>,
    stands: Vec<Stands>,
    start: Vec<Vector3<f64>>,
    /// By object of the sortie, where it is among those that are estimated.
    index: Vec<Option<usize>>,
    prior: [f64; CONSTANTS],
    sightings: usize,
}

#[derive(Clone)]
struct State {
    constants: SMatrix<f64, CONSTANTS, 1>,
    own: Vec<Vector6<f64>>,
    objects: Vec<Vector3<f64>>,
}

pub(super) struct Solution<'a> {
    problem: &'a Problem<'a>,
    state: State,
    covariance: DMatrix<f64>,
    weights: Vec<f64>,
    pub iterations: usize,
    pub settled: bool,
    pub widened: f64,
}

/// Cauchy's weight and cost of a squared residual in sigmas.
fn weight(square: f64) -> f64 {
    1.0 / (1.0 + square / (CAUCHY * CAUCHY))
}

fn cost(square: f64) -> f64 {
    CAUCHY * CAUCHY * (square / (CAUCHY * CAUCHY)).ln_1p()
}

fn turn(v: Vector3<f64>) -> Matrix3<f64> {
    nalgebra::Rotation3::from_scaled_axis(v).into_inner()
}

impl<'a> Problem<'a> {
    pub fn new(sortie: &Sortie, plane: &'a Plane<'a>, start: &[Option<Vector3<f64>>]) -> Self {
        let mut index = vec![None; start.len()];
        let (mut stands, mut points) = (Vec::new(), Vec::new());
        for (i, point) in start.iter().enumerate() {
            if let Some(point) = point {
                index[i] = Some(points.len());
                points.push(*point);
                stands.push(sortie.objects[i]);
            }
        }
        let poses: Vec<Pose> = sortie
            .stations
            .iter()
            .map(|station| {
                let s = station.pose.sigma;
                let (_, place) = split(s.horizontal_m, SHARED_PLACE);
                let (_, up) = split(s.vertical_m, SHARED_PLACE);
                let (_, yaw) = split(s.yaw_deg.to_radians(), SHARED_ATTITUDE);
                let (_, tilt) = split(s.tilt_deg.to_radians(), SHARED_ATTITUDE);
                // A perfect pose would weigh infinitely: a millimetre and a thousandth of a degree are the least.
                let own = [place, place, up, tilt, tilt, yaw].map(|v| v.max(1e-3)).into();
                let own: Vector6<f64> = own;
                Pose {
                    place: plane.point(&station.pose),
                    camera_to_enu: station.pose.attitude.rotation().into_inner(),
                    velocity: station.velocity_m_s.map_or_else(Vector3::zeros, Vector3::from),
                    own: Vector6::new(own[0], own[1], own[2], tilt.max(1e-5), tilt.max(1e-5), yaw.max(1e-5)),
                }
            })
            .collect();
        let mut rays = Vec::new();
        let mut by_pose = vec![Vec::new(); poses.len()];
        for (of, sighting) in sortie.sightings.iter().enumerate() {
            let camera = &sortie.stations[sighting.station].camera;
            let Some((object, ray)) = index[sighting.object].zip(camera.ray(sighting.pixel)) else {
                continue;
            };
            if ray.z <= 1e-6 {
                continue;
            }
            by_pose[sighting.station].push(rays.len());
            rays.push(Ray {
                pose: sighting.station,
                object,
                of,
                at: Vector2::new(ray.x / ray.z, ray.y / ray.z),
                weight: Vector2::new(camera.fx, camera.fy) / sighting.pixel_sigma.max(0.1),
            });
        }
        let s = typical(&sortie.stations);
        let yaw = split(s.yaw_deg.to_radians(), SHARED_ATTITUDE).0.max(1e-5);
        let mount = split(s.tilt_deg.to_radians(), SHARED_ATTITUDE).0.max(1e-5);
        let place = split(s.horizontal_m, SHARED_PLACE).0.max(1e-3);
        let up = split(s.vertical_m, SHARED_PLACE).0.hypot(sortie.zero_sigma_m).max(1e-3);
        let prior = Kind::ALL.map(|kind| match kind {
            Kind::YawDeg => yaw,
            Kind::MountRightDeg | Kind::MountDownDeg | Kind::MountForwardDeg => mount,
            Kind::EastM | Kind::NorthM => place,
            Kind::UpM => up,
            Kind::ClockS => CLOCK_SIGMA_S,
        });
        Self { plane, poses, rays, by_pose, stands, start: points, index, prior, sightings: sortie.sightings.len() }
    }

    pub fn solve(&self) -> Option<Solution<'_>> {
        let mut state = State {
            constants: SMatrix::zeros(),
            own: vec![Vector6::zeros(); self.poses.len()],
            objects: self.start.clone(),
        };
        let mut now = self.cost(&state);
        let mut damping = 1e-4;
        let (mut iterations, mut settled) = (0, false);
        while iterations < ITERATIONS {
            iterations += 1;
            let normal = Normal::new(self, &state, damping);
            let Some(step) = normal.step() else {
                damping *= 10.0;
                if damping > 1e8 {
                    return None;
                }
                continue;
            };
            let next = state.moved(&step);
            let then = self.cost(&next);
            if then.is_finite() && then <= now {
                let gained = now - then;
                (state, now) = (next, then);
                damping = (damping / 10.0).max(1e-9);
                if gained < 1e-7 * (1.0 + now) {
                    settled = true;
                    break;
                }
            } else {
                damping *= 10.0;
                // No way leads down from here.
                if damping > 1e8 {
                    settled = true;
                    break;
                }
            }
        }
        let normal = Normal::new(self, &state, 0.0);
        let covariance = normal.factor()?.inverse();
        let (square, weights) = self.square(&state);
        // Every prior is one observation and one unknown, so only pixels and ground less the objects count.
        let spare = 2 * self.rays.len() + self.start.len() - 3 * self.start.len().min(self.rays.len());
        let widened = if spare > 0 { (square / spare as f64).max(1.0).sqrt() } else { 1.0 };
        Some(Solution { problem: self, state, covariance, weights, iterations, settled, widened })
    }

    fn rotation(&self, state: &State, pose: usize) -> (Matrix3<f64>, Matrix3<f64>) {
        let c = &state.constants;
        let yaw = turn(Vector3::z() * c[0]);
        let mount = turn(Vector3::new(c[1], c[2], c[3]));
        let own = state.own[pose].fixed_rows::<3>(3).into_owned();
        (yaw * turn(own) * self.poses[pose].camera_to_enu * mount, yaw)
    }

    fn place(&self, state: &State, pose: usize) -> Vector3<f64> {
        let c = &state.constants;
        let p = &self.poses[pose];
        p.place + state.own[pose].fixed_rows::<3>(0) + Vector3::new(c[4], c[5], c[6]) + p.velocity * c[7]
    }

    /// The object in camera axes, and its residual in sigmas; nothing behind the camera.
    fn residual(
        &self,
        state: &State,
        ray: &Ray,
        rotation: &Matrix3<f64>,
        place: &Vector3<f64>,
    ) -> (Vector3<f64>, Option<Vector2<f64>>) {
        let q = rotation.transpose() * (state.objects[ray.object] - place);
        let seen = (q.z > 0.1).then(|| (Vector2::new(q.x / q.z, q.y / q.z) - ray.at).component_mul(&ray.weight));
        (q, seen)
    }

    /// The object's height over the ground in sigmas, and its slopes; nothing where the ground is not known.
    fn ground(&self, object: usize, p: &Vector3<f64>) -> Option<(f64, RowVector3<f64>)> {
        match (self.stands[object], self.plane) {
            (Stands::At { height_m, sigma_m }, _) => {
                let sigma = sigma_m.max(1e-3);
                Some(((p.z + super::drop_m(p.x, p.y) - height_m) / sigma, RowVector3::new(0.0, 0.0, 1.0 / sigma)))
            }
            (Stands::OnTerrain, Plane::Terrain(view)) => {
                let sigma = view.sigma_m(p.x, p.y);
                let [e, n] = view.slope(p.x, p.y).unwrap_or([0.0; 2]);
                Some(((p.z - view.surface_m(p.x, p.y)?) / sigma, RowVector3::new(-e, -n, 1.0) / sigma))
            }
            (Stands::OnTerrain, Plane::Bare(_)) => None,
        }
    }

    fn cost(&self, state: &State) -> f64 {
        let mut sum = 0.0;
        for (pose, rays) in self.by_pose.iter().enumerate() {
            let ((rotation, _), place) = (self.rotation(state, pose), self.place(state, pose));
            for ray in rays {
                let (_, residual) = self.residual(state, &self.rays[*ray], &rotation, &place);
                // Behind the camera is worse than any residual, but finite, so that a start there can leave.
                sum += cost(residual.map_or(1e8, |r| r.norm_squared()));
            }
            sum += state.own[pose].component_div(&self.poses[pose].own).iter().map(|r| cost(r * r)).sum::<f64>();
        }
        for (i, p) in state.objects.iter().enumerate() {
            sum += self.ground(i, p).map_or(0.0, |(r, _)| cost(r * r));
        }
        sum + state.constants.iter().zip(&self.prior).map(|(c, s)| (c / s).powi(2)).sum::<f64>()
    }

    /// The weighted sum of squares, and the weight of each sighting.
    fn square(&self, state: &State) -> (f64, Vec<f64>) {
        let mut sum = 0.0;
        let mut weights = vec![0.0; self.sightings];
        for (pose, rays) in self.by_pose.iter().enumerate() {
            let ((rotation, _), place) = (self.rotation(state, pose), self.place(state, pose));
            for ray in rays.iter().map(|i| &self.rays[*i]) {
                if let (_, Some(r)) = self.residual(state, ray, &rotation, &place) {
                    weights[ray.of] = weight(r.norm_squared());
                    sum += weights[ray.of] * r.norm_squared();
                }
            }
            let own = state.own[pose].component_div(&self.poses[pose].own);
            sum += own.iter().map(|r| weight(r * r) * r * r).sum::<f64>();
        }
        for (i, p) in state.objects.iter().enumerate() {
            sum += self.ground(i, p).map_or(0.0, |(r, _)| weight(r * r) * r * r);
        }
        (sum + state.constants.iter().zip(&self.prior).map(|(c, s)| (c / s).powi(2)).sum::<f64>(), weights)
    }
}

/// A step of all unknowns.
struct Step {
    shared: DVector<f64>,
    own: Vec<Vector6<f64>>,
}

impl State {
    fn moved(&self, step: &Step) -> Self {
        let mut next = self.clone();
        for (value, by) in next.constants.iter_mut().zip(step.shared.iter()) {
            *value += by;
        }
        for (own, by) in next.own.iter_mut().zip(&step.own) {
            *own += by;
        }
        for (i, object) in next.objects.iter_mut().enumerate() {
            *object += step.shared.fixed_rows::<3>(CONSTANTS + 3 * i);
        }
        next
    }
}

/// What a pose's elimination leaves to find its own step afterwards.
struct Eliminated {
    inverse: Matrix6<f64>,
    gradient: Vector6<f64>,
    /// Six rows; columns are the shared errors, then three of each object seen from here.
    meets: DMatrix<f64>,
    columns: Vec<usize>,
}

struct Normal {
    matrix: DMatrix<f64>,
    gradient: DVector<f64>,
    poses: Vec<Eliminated>,
}

impl Normal {
    fn new(problem: &Problem, state: &State, damping: f64) -> Self {
        let size = CONSTANTS + 3 * state.objects.len();
        let mut matrix = DMatrix::zeros(size, size);
        let mut gradient = DVector::zeros(size);
        for (i, (c, s)) in state.constants.iter().zip(&problem.prior).enumerate() {
            matrix[(i, i)] += 1.0 / (s * s);
            gradient[i] += c / (s * s);
        }
        for (i, p) in state.objects.iter().enumerate() {
            let at = CONSTANTS + 3 * i;
            if let Some((r, slope)) = problem.ground(i, p) {
                let w = weight(r * r);
                let mut block = matrix.fixed_view_mut::<3, 3>(at, at);
                block += slope.transpose() * slope * w;
                let mut part = gradient.fixed_rows_mut::<3>(at);
                part += slope.transpose() * (w * r);
            } else {
                // Off the model: only its looks hold it; a kilometre keeps the equations solvable.
                for k in 0..3 {
                    matrix[(at + k, at + k)] += 1e-6;
                }
            }
        }
        let poses = (0..problem.poses.len())
            .map(|pose| eliminate(problem, state, pose, damping, &mut matrix, &mut gradient))
            .collect();
        for i in 0..size {
            matrix[(i, i)] *= 1.0 + damping;
        }
        Self { matrix, gradient, poses }
    }

    fn factor(&self) -> Option<Cholesky<f64, Dyn>> {
        Cholesky::new(self.matrix.clone())
    }

    fn step(&self) -> Option<Step> {
        let shared = -self.factor()?.solve(&self.gradient);
        let own = self.poses.iter().map(|pose| {
            let met = DVector::from_iterator(pose.columns.len(), pose.columns.iter().map(|c| shared[*c]));
            let met = &pose.meets * met;
            -(pose.inverse * (pose.gradient + Vector6::from_iterator(met.iter().copied())))
        });
        let own = own.collect();
        shared.iter().all(|v| v.is_finite()).then_some(Step { shared, own })
    }
}

fn eliminate(
    problem: &Problem,
    state: &State,
    pose: usize,
    damping: f64,
    matrix: &mut DMatrix<f64>,
    gradient: &mut DVector<f64>,
) -> Eliminated {
    let rays = &problem.by_pose[pose];
    let mut columns: Vec<usize> = (0..CONSTANTS).collect();
    let mut at = Vec::with_capacity(rays.len());
    for ray in rays {
        let first = CONSTANTS + 3 * problem.rays[*ray].object;
        // The same object twice in one picture shares its columns.
        let place = columns.iter().position(|c| *c == first).unwrap_or_else(|| {
            columns.extend(first..first + 3);
            columns.len() - 3
        });
        at.push(place);
    }
    let mut meets = DMatrix::zeros(6, columns.len());
    let mut local = DMatrix::zeros(columns.len(), columns.len());
    let mut part = DVector::zeros(columns.len());
    let mut own = Matrix6::zeros();
    let mut own_gradient = Vector6::zeros();
    for k in 0..6 {
        let (value, sigma) = (state.own[pose][k], problem.poses[pose].own[k]);
        let w = weight((value / sigma).powi(2)) / (sigma * sigma);
        own[(k, k)] += w;
        own_gradient[k] += w * value;
    }
    let ((rotation, yaw), place) = (problem.rotation(state, pose), problem.place(state, pose));
    for (ray, at) in rays.iter().map(|i| &problem.rays[*i]).zip(at) {
        let (q, Some(residual)) = problem.residual(state, ray, &rotation, &place) else {
            continue;
        };
        let w = weight(residual.norm_squared());
        let (by_constants, by_pose, by_object) = slopes(problem, state, ray, q, &rotation, &yaw, &place);
        own += by_pose.transpose() * by_pose * w;
        own_gradient += by_pose.transpose() * residual * w;
        let add = |target: &mut DMatrix<f64>, row: usize, column: usize, block: DMatrix<f64>| {
            let mut view = target.view_mut((row, column), block.shape());
            view += block;
        };
        let dynamic = |m: &dyn Fn(usize, usize) -> f64, rows, columns| DMatrix::from_fn(rows, columns, m);
        let co = by_constants.transpose() * by_object * w;
        let cc = by_constants.transpose() * by_constants * w;
        let oo = by_object.transpose() * by_object * w;
        let pc = by_pose.transpose() * by_constants * w;
        let po = by_pose.transpose() * by_object * w;
        add(&mut local, 0, 0, dynamic(&|r, c| cc[(r, c)], CONSTANTS, CONSTANTS));
        add(&mut local, 0, at, dynamic(&|r, c| co[(r, c)], CONSTANTS, 3));
        add(&mut local, at, 0, dynamic(&|r, c| co[(c, r)], 3, CONSTANTS));
        add(&mut local, at, at, dynamic(&|r, c| oo[(r, c)], 3, 3));
        add(&mut meets, 0, 0, dynamic(&|r, c| pc[(r, c)], 6, CONSTANTS));
        add(&mut meets, 0, at, dynamic(&|r, c| po[(r, c)], 6, 3));
        let c = by_constants.transpose() * residual * w;
        let o = by_object.transpose() * residual * w;
        for k in 0..CONSTANTS {
            part[k] += c[k];
        }
        for k in 0..3 {
            part[at + k] += o[k];
        }
    }
    for k in 0..6 {
        own[(k, k)] *= 1.0 + damping;
    }
    // Positive definite by its priors, so the inverse exists; without one the pose tells nothing.
    let inverse = own.try_inverse().unwrap_or_else(Matrix6::zeros);
    let spread = DMatrix::from_fn(6, 6, |r, c| inverse[(r, c)]) * &meets;
    local -= meets.transpose() * &spread;
    part -= spread.transpose() * DVector::from_column_slice(own_gradient.as_slice());
    for (r, row) in columns.iter().enumerate() {
        gradient[*row] += part[r];
        for (c, column) in columns.iter().enumerate() {
            matrix[(*row, *column)] += local[(r, c)];
        }
    }
    Eliminated { inverse, gradient: own_gradient, meets, columns }
}

/// The derivatives of a residual by shared errors, by the pose's own, by the object's place.
fn slopes(
    problem: &Problem,
    state: &State,
    ray: &Ray,
    q: Vector3<f64>,
    rotation: &Matrix3<f64>,
    yaw: &Matrix3<f64>,
    place: &Vector3<f64>,
) -> (ByConstants, ByPose, Matrix2x3<f64>) {
    let (wx, wy) = (ray.weight.x / q.z, ray.weight.y / q.z);
    let project = Matrix2x3::new(wx, 0.0, -wx * q.x / q.z, 0.0, wy, -wy * q.y / q.z);
    let back = project * rotation.transpose();
    let d = state.objects[ray.object] - place;
    // A small turn of the pose about a world axis, and of the camera in its mount.
    let turned = back * d.cross_matrix();
    let mounted = project * q.cross_matrix();
    let mut by_constants = ByConstants::zeros();
    by_constants.set_column(0, &(turned * Vector3::z()));
    by_constants.fixed_columns_mut::<3>(1).copy_from(&mounted);
    by_constants.fixed_columns_mut::<3>(4).copy_from(&-back);
    by_constants.set_column(7, &(-back * problem.poses[ray.pose].velocity));
    let mut by_pose = ByPose::zeros();
    by_pose.fixed_columns_mut::<3>(0).copy_from(&-back);
    by_pose.fixed_columns_mut::<3>(3).copy_from(&(turned * yaw));
    (by_constants, by_pose, back)
}

impl Solution<'_> {
    /// Place and covariance of an object of the sortie that was estimated.
    pub fn object(&self, of: usize) -> (Vector3<f64>, Matrix3<f64>) {
        let i = self.problem.index[of].unwrap_or(0);
        let at = CONSTANTS + 3 * i;
        let covariance = self.covariance.fixed_view::<3, 3>(at, at).into_owned() * self.widened.powi(2);
        (self.state.objects[i], covariance)
    }

    pub fn constants(&self) -> Vec<Constant> {
        let clocked = self.problem.poses.iter().any(|p| p.velocity != Vector3::zeros());
        Kind::ALL
            .iter()
            .enumerate()
            .filter(|(_, kind)| clocked || **kind != Kind::ClockS)
            .map(|(i, kind)| {
                let degrees =
                    matches!(kind, Kind::YawDeg | Kind::MountRightDeg | Kind::MountDownDeg | Kind::MountForwardDeg);
                let unit = if degrees { 1.0_f64.to_degrees() } else { 1.0 };
                // A turn about east, north, up is positive from east to north; yaw runs the other way.
                let sign = if *kind == Kind::YawDeg { -1.0 } else { 1.0 };
                Constant {
                    kind: *kind,
                    value: sign * unit * self.state.constants[i],
                    sigma: unit * self.covariance[(i, i)].max(0.0).sqrt() * self.widened,
                    prior_sigma: unit * self.problem.prior[i],
                }
            })
            .collect()
    }

    pub fn outliers(&self) -> Vec<bool> {
        self.weights.iter().map(|w| *w < OUTLIER_WEIGHT).collect()
    }
}
