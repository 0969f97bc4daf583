//! Turned boxes: corners, the upright box around them, and how alike two are.

/// Centre, width, height in pixels; the angle from the x axis towards the y axis (clockwise on the screen), radians.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Turned {
    pub x: f32,
    pub y: f32,
    pub w: f32,
    pub h: f32,
    pub angle: f32,
}

impl Turned {
    pub fn corners(&self) -> [[f32; 2]; 4] {
        let (sin, cos) = self.angle.sin_cos();
        let along = [self.w / 2.0 * cos, self.w / 2.0 * sin];
        let across = [-self.h / 2.0 * sin, self.h / 2.0 * cos];
        [(1.0, 1.0), (1.0, -1.0), (-1.0, -1.0), (-1.0, 1.0)]
            .map(|(a, b)| [self.x + a * along[0] + b * across[0], self.y + a * along[1] + b * across[1]])
    }

    pub fn hull(&self) -> [f32; 4] {
        let (sin, cos) = self.angle.sin_cos();
        let half_w = (self.w * cos).abs() / 2.0 + (self.h * sin).abs() / 2.0;
        let half_h = (self.w * sin).abs() / 2.0 + (self.h * cos).abs() / 2.0;
        [self.x - half_w, self.y - half_h, self.x + half_w, self.y + half_h]
    }

    /// ProbIoU (Llerena et al. 2021, arXiv 2106.06072, equations 6 to 10): boxes as normal distributions, 1 minus their
    /// Hellinger distance. It is what YOLO's own suppression uses, and has no corner cases where edges meet.
    pub fn similarity(&self, other: &Turned) -> f32 {
        let ((a1, b1, c1), (a2, b2, c2)) = (self.covariance(), other.covariance());
        let (a, b, c) = (a1 + a2, b1 + b2, c1 + c2);
        let (dx, dy) = (f64::from(self.x - other.x), f64::from(self.y - other.y));
        let determinant = a * b - c * c;
        const TINY: f64 = 1e-7;
        let apart =
            0.25 * (a * dy * dy + b * dx * dx) / (determinant + TINY) + 0.5 * (-c * dx * dy) / (determinant + TINY);
        let each = ((a1 * b1 - c1 * c1).max(0.0) * (a2 * b2 - c2 * c2).max(0.0)).sqrt();
        let unlike = 0.5 * (determinant / (4.0 * each + TINY) + TINY).ln();
        let bhattacharyya = (apart + unlike).clamp(TINY, 100.0);
        (1.0 - (1.0 - (-bhattacharyya).exp() + TINY).sqrt()) as f32
    }

    /// Of a uniform box, turned: variances along x and y, and their covariance.
    fn covariance(&self) -> (f64, f64, f64) {
        let (w, h) = (f64::from(self.w).powi(2) / 12.0, f64::from(self.h).powi(2) / 12.0);
        let (sin, cos) = f64::from(self.angle).sin_cos();
        (w * cos * cos + h * sin * sin, w * sin * sin + h * cos * cos, (w - h) * cos * sin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOX: Turned = Turned { x: 50.0, y: 40.0, w: 30.0, h: 10.0, angle: 0.0 };

    #[test]
    fn a_quarter_turn_swaps_width_and_height() {
        let turned = Turned { angle: std::f32::consts::FRAC_PI_2, ..BOX };
        for (found, wanted) in turned.hull().iter().zip([45.0, 25.0, 55.0, 55.0]) {
            assert!((found - wanted).abs() < 1e-4, "{:?}", turned.hull());
        }
    }

    #[test]
    fn the_hull_touches_the_outermost_corners() {
        let turned = Turned { angle: 0.7, ..BOX };
        let corners = turned.corners();
        let least = |axis: usize| corners.iter().map(|c| c[axis]).fold(f32::INFINITY, f32::min);
        let most = |axis: usize| corners.iter().map(|c| c[axis]).fold(f32::NEG_INFINITY, f32::max);
        for (found, wanted) in turned.hull().iter().zip([least(0), least(1), most(0), most(1)]) {
            assert!((found - wanted).abs() < 1e-4);
        }
    }

    #[test]
    fn alike_is_near_one_crossed_is_less_and_apart_is_nothing() {
        assert!(BOX.similarity(&BOX) > 0.99);
        let crossed = Turned { angle: std::f32::consts::FRAC_PI_2, ..BOX };
        assert!((0.1..0.7).contains(&BOX.similarity(&crossed)));
        assert!(BOX.similarity(&Turned { x: 500.0, ..BOX }) < 1e-3);
    }
}
