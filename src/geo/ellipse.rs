//! Between covariances and 95 % ellipses.

use nalgebra::Matrix2;

use super::Ellipse;

/// The 95 % quantile of chi-squared with two degrees of freedom.
pub(super) const CHI2_95: f64 = 5.991_464_547_107_98;

impl Ellipse {
    /// From a covariance over (east, north), square metres.
    pub(super) fn from_covariance(c: &Matrix2<f64>) -> Self {
        let (ee, en, nn) = (c[(0, 0)], c[(0, 1)], c[(1, 1)]);
        let mean = (ee + nn) / 2.0;
        let spread = ((nn - ee) / 2.0).hypot(en);
        Self {
            semi_major_m: ((mean + spread).max(0.0) * CHI2_95).sqrt(),
            semi_minor_m: ((mean - spread).max(0.0) * CHI2_95).sqrt(),
            bearing_deg: (0.5 * (2.0 * en).atan2(nn - ee)).to_degrees().rem_euclid(180.0),
        }
    }

    /// The same, widened until it holds another one as well, whose middle lies that far east and north of its own: a place
    /// that is told in two ways is in the one ellipse or in the other.
    #[must_use]
    pub fn holding(&self, other: &Self, [east, north]: [f64; 2]) -> Self {
        let way = nalgebra::Vector2::new(east, north);
        let (own, others) = (self.covariance(), other.covariance());
        // As wide as the wider of both in every direction.
        let more = nalgebra::SymmetricEigen::new(others - own);
        let wider =
            own + nalgebra::SymmetricEigen { eigenvalues: more.eigenvalues.map(|v| v.max(0.0)), ..more }.recompose();
        let both = wider + way * way.transpose() / CHI2_95;
        // That reaches to the other one's middle; its rim sticks out by so much.
        let out = both.try_inverse().map_or(1.0, |information| {
            let rim = other.rim().map(|p| ((p + way).transpose() * information * (p + way))[0] / CHI2_95);
            rim.fold(1.0, f64::max)
        });
        Self::from_covariance(&(both * out))
    }

    /// Points all along it, east and north of its middle.
    fn rim(&self) -> impl Iterator<Item = nalgebra::Vector2<f64>> + use<> {
        let (s, c) = self.bearing_deg.to_radians().sin_cos();
        let (major_m, minor_m) = (self.semi_major_m, self.semi_minor_m);
        (0..72).map(move |i| {
            let (a, b) = (f64::from(i) * 5.0).to_radians().sin_cos();
            let (along, across) = (a * major_m, b * minor_m);
            nalgebra::Vector2::new(along * s + across * c, along * c - across * s)
        })
    }

    /// The covariance over (east, north), square metres.
    pub(super) fn covariance(&self) -> Matrix2<f64> {
        let (major, minor) = (self.semi_major_m.powi(2) / CHI2_95, self.semi_minor_m.powi(2) / CHI2_95);
        let (s, c) = self.bearing_deg.to_radians().sin_cos();
        Matrix2::new(
            major * s * s + minor * c * c,
            (major - minor) * s * c,
            (major - minor) * s * c,
            major * c * c + minor * s * s,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ellipse_survives_the_way_to_a_covariance_and_back() {
        for bearing_deg in [0.0, 30.0, 90.0, 135.0, 179.0] {
            let e = Ellipse { semi_major_m: 7.0, semi_minor_m: 2.0, bearing_deg };
            let back = Ellipse::from_covariance(&e.covariance());
            assert!((back.semi_major_m - 7.0).abs() < 1e-9 && (back.semi_minor_m - 2.0).abs() < 1e-9);
            let turn = (back.bearing_deg - bearing_deg + 90.0).rem_euclid(180.0) - 90.0;
            assert!(turn.abs() < 1e-6, "{bearing_deg}: {back:?}");
        }
    }

    #[test]
    fn widened_for_a_place_it_holds_it_and_is_no_larger_than_that_needs() {
        let e = Ellipse { semi_major_m: 7.0, semi_minor_m: 2.0, bearing_deg: 30.0 };
        let other = Ellipse { semi_major_m: 9.0, semi_minor_m: 3.0, bearing_deg: 100.0 };
        let wide = e.holding(&other, [80.0, -60.0]);
        let information = wide.covariance().try_inverse().unwrap();
        for (ellipse, middle) in [(e, [0.0, 0.0]), (other, [80.0, -60.0])] {
            for p in ellipse.rim() {
                let at = p + nalgebra::Vector2::from(middle);
                let off = (at.transpose() * information * at)[0];
                assert!(off <= CHI2_95 + 1e-6, "{off} at {at:?} of {wide:?}");
            }
        }
        for p in wide.rim() {
            let off = (p.transpose() * information * p)[0];
            assert!((off - CHI2_95).abs() < 1e-6, "a rim is where it should be: {off}");
        }
        assert!(wide.semi_major_m < 125.0 && wide.semi_minor_m < 10.0, "{wide:?}");
        let same = e.holding(&e, [0.0, 0.0]);
        assert!((same.semi_major_m - 7.0).abs() < 1e-9 && (same.semi_minor_m - 2.0).abs() < 1e-9, "{same:?}");
    }

    #[test]
    fn the_bearing_is_clockwise_from_north() {
        let along_east = Ellipse::from_covariance(&Matrix2::new(4.0, 0.0, 0.0, 1.0));
        assert!((along_east.bearing_deg - 90.0).abs() < 1e-9);
        let along_north_east = Ellipse::from_covariance(&Matrix2::new(2.0, 1.0, 1.0, 2.0));
        assert!((along_north_east.bearing_deg - 45.0).abs() < 1e-9);
    }
}
