//! How the simulated drone moves, and what it believes of itself. Pure: the same seed and the same steps give the same flight.
//!
//! Two truths are kept apart. The *body* is where the drone is; only the camera and the dock's sensor see it. The
//! *estimate* is the body plus GPS error, compass bias and attitude noise; the autopilot flies by it and reports it.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Metres east, north, up of home.
pub type Enu = [f64; 3];

/// Where the autopilot wants to go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Command {
    /// Motors off: on the ground it rests, in the air it falls.
    Rest,
    /// Level, with no idea of where it is: up or down by this speed, and along with the wind.
    Level { climb: f64 },
    /// Fly with this velocity over ground, looking there (degrees; `None` keeps the heading).
    Velocity { enu: Enu, heading_deg: Option<f64> },
}

#[derive(Debug, Clone, Copy, Default)]
pub struct WindNow {
    pub speed_m_s: f64,
    /// Where it comes from.
    pub from_deg: f64,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Attitude {
    pub yaw_deg: f64,
    pub pitch_deg: f64,
    pub roll_deg: f64,
}

/// A first-order Gauss-Markov error: wanders slowly, stays near its sigma.
#[derive(Debug, Clone, Copy)]
struct Wander {
    sigma: f64,
    time_s: f64,
    value: f64,
}

impl Wander {
    fn new(sigma: f64, time_s: f64, rng: &mut ChaCha8Rng) -> Self {
        Wander { sigma, time_s, value: sigma * gauss(rng) }
    }

    fn step(&mut self, dt: f64, rng: &mut ChaCha8Rng) {
        let keep = (-dt / self.time_s).exp();
        self.value = self.value * keep + self.sigma * (1.0 - keep * keep).sqrt() * gauss(rng);
    }
}

/// A standard normal number, by twelve uniform ones: tails beyond six sigma do not exist, which a test can rely on.
pub fn gauss(rng: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
}

/// The flying body and its errors.
#[derive(Debug)]
pub struct Body {
    pub position: Enu,
    pub velocity: Enu,
    pub attitude: Attitude,
    gps: [Wander; 3],
    /// Constant for a seed: a compass that was calibrated badly once.
    pub compass_bias_deg: f64,
    /// How far the estimate has run off without satellites, and since how many seconds it does.
    drift: [f64; 2],
    unaided_s: f64,
    /// How hard it last met the ground, metres per second.
    pub touched_m_s: f64,
    rng: ChaCha8Rng,
}

const HORIZONTAL_ACCELERATION: f64 = 2.5;
const VERTICAL_ACCELERATION: f64 = 2.0;
const YAW_RATE_DEG_S: f64 = 60.0;
/// As fast as it can go against the air.
const AIR_SPEED: f64 = 15.0;
const GRAVITY: f64 = 9.81;
/// A level drone takes up the wind's speed with this time constant, seconds.
const DRAG_TIME_S: f64 = 4.0;
/// How fast the estimate's error gathers speed without satellites, metres per second squared.
const UNAIDED_M_S2: f64 = 0.1;

impl Body {
    pub fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x6165_7269_6500);
        // Half a metre on each axis is 0.7 m horizontally.
        let gps =
            [Wander::new(0.5, 60.0, &mut rng), Wander::new(0.5, 60.0, &mut rng), Wander::new(0.5, 60.0, &mut rng)];
        let compass_bias_deg = 1.5 * gauss(&mut rng);
        Body {
            position: [0.0; 3],
            velocity: [0.0; 3],
            attitude: Attitude::default(),
            gps,
            compass_bias_deg,
            drift: [0.0; 2],
            unaided_s: 0.0,
            touched_m_s: 0.0,
            rng,
        }
    }

    /// Lets the estimate go its own way while there are no satellites, and sets it right once there are.
    pub fn navigate(&mut self, dt: f64, satellites: bool) {
        if satellites || self.on_ground() {
            (self.unaided_s, self.drift) = (0.0, [0.0; 2]);
            return;
        }
        self.unaided_s += dt;
        let (sin, cos) = (self.compass_bias_deg * 100.0).to_radians().sin_cos();
        for (axis, share) in [sin, cos].into_iter().enumerate() {
            self.drift[axis] += UNAIDED_M_S2 * self.unaided_s * share * dt;
        }
    }

    pub fn on_ground(&self) -> bool {
        self.position[2] <= 0.0
    }

    /// Where the drone believes it is. On the ground the barometer was just zeroed, so height is right there.
    pub fn estimated_position(&self) -> Enu {
        let height = self.position[2];
        let share = (height / 5.0).clamp(0.0, 1.0);
        [
            self.position[0] + self.gps[0].value + self.drift[0],
            self.position[1] + self.gps[1].value + self.drift[1],
            height + share * self.gps[2].value,
        ]
    }

    /// A tenth-of-a-degree-scale error that differs each time it is asked for.
    pub fn attitude_noise_deg(&mut self) -> f64 {
        0.2 * gauss(&mut self.rng)
    }

    pub fn step(&mut self, dt: f64, command: Command, wind: WindNow) {
        for error in &mut self.gps {
            error.step(dt, &mut self.rng);
        }
        let (sin, cos) = wind.from_deg.to_radians().sin_cos();
        let wind = [-wind.speed_m_s * sin, -wind.speed_m_s * cos];
        let (enu, heading_deg) = match command {
            Command::Velocity { enu, heading_deg } => (enu, heading_deg),
            uncontrolled => return self.uncontrolled(dt, uncontrolled, wind),
        };
        // It flies in the air: what the wind takes beyond its strength is lost.
        let air = [enu[0] - wind[0], enu[1] - wind[1]];
        let share = (AIR_SPEED / air[0].hypot(air[1]).max(1e-9)).min(1.0);
        let wanted = [air[0] * share + wind[0], air[1] * share + wind[1]];
        let change = [wanted[0] - self.velocity[0], wanted[1] - self.velocity[1]];
        let most = HORIZONTAL_ACCELERATION * dt;
        let share = (most / change[0].hypot(change[1]).max(1e-9)).min(1.0);
        let acceleration = [change[0] * share / dt, change[1] * share / dt];
        self.velocity[0] += change[0] * share;
        self.velocity[1] += change[1] * share;
        let most = VERTICAL_ACCELERATION * dt;
        self.velocity[2] += (enu[2] - self.velocity[2]).clamp(-most, most);
        // Gusts push it about by some centimetres.
        for (axis, wind) in wind.into_iter().enumerate() {
            let gust = 0.01 * wind * gauss(&mut self.rng);
            self.position[axis] += (self.velocity[axis] + gust) * dt;
        }
        self.rise(dt);
        if let Some(heading) = heading_deg {
            let turn = (heading - self.attitude.yaw_deg + 180.0).rem_euclid(360.0) - 180.0;
            let most = YAW_RATE_DEG_S * dt;
            self.attitude.yaw_deg = (self.attitude.yaw_deg + turn.clamp(-most, most)).rem_euclid(360.0);
        }
        // It leans into what pushes it: acceleration, and drag of the air.
        let drag = 0.08;
        let push = [
            acceleration[0] + drag * (self.velocity[0] - wind[0]),
            acceleration[1] + drag * (self.velocity[1] - wind[1]),
        ];
        let (sin, cos) = self.attitude.yaw_deg.to_radians().sin_cos();
        let forward = push[0] * sin + push[1] * cos;
        let right = push[0] * cos - push[1] * sin;
        self.attitude.pitch_deg = -(forward / GRAVITY).atan().to_degrees();
        self.attitude.roll_deg = (right / GRAVITY).atan().to_degrees();
    }

    /// Nobody holds it against the wind: motors off, or level without knowing where it is.
    fn uncontrolled(&mut self, dt: f64, command: Command, wind: [f64; 2]) {
        (self.attitude.pitch_deg, self.attitude.roll_deg) = (0.0, 0.0);
        let climb = match command {
            Command::Level { climb } => climb,
            _ if self.on_ground() => {
                self.velocity = [0.0; 3];
                return;
            }
            // Falling; its rotors and its body brake it at some 25 m/s.
            _ => -25.0,
        };
        let keep = (-dt / DRAG_TIME_S).exp();
        for (axis, wind) in wind.into_iter().enumerate() {
            self.velocity[axis] = wind + (self.velocity[axis] - wind) * keep;
            self.position[axis] += self.velocity[axis] * dt;
        }
        let most = if matches!(command, Command::Level { .. }) { VERTICAL_ACCELERATION } else { GRAVITY } * dt;
        self.velocity[2] += (climb - self.velocity[2]).clamp(-most, most);
        self.rise(dt);
    }

    fn rise(&mut self, dt: f64) {
        let above = self.position[2] > 0.0;
        self.position[2] += self.velocity[2] * dt;
        if self.position[2] <= 0.0 {
            if above {
                self.touched_m_s = -self.velocity[2];
            }
            self.position[2] = 0.0;
            self.velocity = [0.0; 3];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fly(seed: u64, wind: WindNow) -> Body {
        let mut body = Body::new(seed);
        for step in 0..2000 {
            let up = if step < 400 { 3.0 } else { 0.0 };
            let command = Command::Velocity { enu: [8.0, 0.0, up], heading_deg: Some(90.0) };
            body.step(0.05, command, wind);
        }
        body
    }

    #[test]
    fn the_same_seed_flies_the_same_flight() {
        let wind = WindNow { speed_m_s: 5.0, from_deg: 30.0 };
        let (a, b) = (fly(3, wind), fly(3, wind));
        assert_eq!(a.position, b.position);
        assert_eq!(a.estimated_position(), b.estimated_position());
        assert_ne!(fly(4, wind).estimated_position(), a.estimated_position());
    }

    #[test]
    fn errors_stay_near_what_is_promised() {
        let mut sum = 0.0;
        let (mut body, mut count) = (Body::new(1), 0.0);
        body.position[2] = 60.0;
        for _ in 0..200_000 {
            let hover = Command::Velocity { enu: [0.0; 3], heading_deg: None };
            body.step(0.05, hover, WindNow::default());
            let estimate = body.estimated_position();
            let error = (estimate[0] - body.position[0]).hypot(estimate[1] - body.position[1]);
            sum += error * error;
            count += 1.0;
            assert!(error < 6.0);
        }
        let rms = f64::sqrt(sum / count);
        assert!((0.5..0.95).contains(&rms), "{rms}");
    }

    #[test]
    fn level_and_blind_it_goes_with_the_wind_and_without_motors_it_falls() {
        let mut body = Body::new(1);
        body.position[2] = 60.0;
        for _ in 0..600 {
            body.step(0.05, Command::Level { climb: -1.0 }, WindNow { speed_m_s: 5.0, from_deg: 270.0 });
        }
        // Half a minute of 5 m/s from the west, less what it took to take up speed.
        assert!((110.0..150.0).contains(&body.position[0]) && body.position[1].abs() < 1.0, "{:?}", body.position);
        let (mut falling, mut seconds) = (Body::new(1), 0.0);
        falling.position[2] = 60.0;
        while !falling.on_ground() {
            falling.step(0.05, Command::Rest, WindNow::default());
            seconds += 0.05;
        }
        assert!((3.0..5.0).contains(&seconds) && falling.touched_m_s > 15.0, "{seconds} s, {}", falling.touched_m_s);
    }

    #[test]
    fn without_satellites_the_estimate_runs_off_and_comes_back_with_them() {
        let mut body = Body::new(1);
        body.position[2] = 60.0;
        let error = |body: &Body| {
            let estimate = body.estimated_position();
            (estimate[0] - body.position[0]).hypot(estimate[1] - body.position[1])
        };
        for _ in 0..400 {
            body.navigate(0.05, false);
        }
        assert!(error(&body) > 15.0, "{}", error(&body));
        body.navigate(0.05, true);
        assert!(error(&body) < 3.0);
    }

    #[test]
    fn a_storm_carries_it_away() {
        let body = fly(1, WindNow { speed_m_s: 20.0, from_deg: 90.0 });
        assert!(body.position[0] < -100.0, "{:?}", body.position);
    }
}
