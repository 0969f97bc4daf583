//! Projected coordinates: the grids that terrain models come in, and those that people here read positions in.
//!
//! Transverse Mercator by Krüger's series to the sixth order in the third flattening (C. F. F. Karney, "Transverse Mercator
//! with an accuracy of a few nanometers", J. Geod. 85, 2011). WGS 84, CGCS2000, ETRS89 and NAD83 are taken as one frame:
//! their ellipsoids agree to 0.1 mm, the frames to better than 2 m (NAD83) and 1 m (the others).

use std::f64::consts::FRAC_PI_2;

use super::LatLon;

const A: f64 = 6_378_137.0;
const F: f64 = 1.0 / 298.257_223_563;
/// The third flattening.
const N: f64 = F / (2.0 - F);

/// How a grid's coordinates (x, y) relate to latitude and longitude.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Crs {
    /// x is the longitude, y the latitude, degrees.
    Geographic,
    TransverseMercator(TransverseMercator),
    /// EPSG:3857, spherical.
    WebMercator,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransverseMercator {
    pub central_meridian: f64,
    pub scale: f64,
    pub false_easting: f64,
    pub false_northing: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error(
    "EPSG:{0} is not a coordinate system that is known here (geographic WGS 84 or CGCS2000, UTM, CGCS2000 Gauss–Krüger, Web \
     Mercator); convert the file with gdalwarp -t_srs EPSG:4326"
)]
pub struct UnknownCrs(pub u32);

impl Crs {
    pub fn from_epsg(code: u32) -> Result<Self, UnknownCrs> {
        let utm = |zone: u32, south: bool| {
            Self::TransverseMercator(TransverseMercator {
                central_meridian: f64::from(zone) * 6.0 - 183.0,
                scale: 0.9996,
                false_easting: 500_000.0,
                false_northing: if south { 10_000_000.0 } else { 0.0 },
            })
        };
        let gauss = |central_meridian: u32, zone_prefix: u32| {
            Self::TransverseMercator(TransverseMercator {
                central_meridian: f64::from(central_meridian),
                scale: 1.0,
                false_easting: f64::from(zone_prefix) * 1e6 + 500_000.0,
                false_northing: 0.0,
            })
        };
        Ok(match code {
            4326 | 4979 | 4490 | 4480 | 4258 | 4937 | 4269 => Self::Geographic,
            32601..=32660 => utm(code - 32600, false),
            32701..=32760 => utm(code - 32700, true),
            25828..=25838 => utm(code - 25800, false),
            26901..=26923 => utm(code - 26900, false),
            // CGCS2000, 6 degrees: zones 13 to 23 with and without the zone in front of the easting.
            4491..=4501 => gauss((code - 4491 + 13) * 6 - 3, code - 4491 + 13),
            4502..=4512 => gauss(75 + (code - 4502) * 6, 0),
            // CGCS2000, 3 degrees: zones 25 to 45, likewise.
            4513..=4533 => gauss((code - 4513 + 25) * 3, code - 4513 + 25),
            4534..=4554 => gauss(75 + (code - 4534) * 3, 0),
            3857 => Self::WebMercator,
            _ => return Err(UnknownCrs(code)),
        })
    }

    /// The coordinates of a position: x, y.
    pub fn forward(&self, at: LatLon) -> [f64; 2] {
        match self {
            Self::Geographic => [at.lon, at.lat],
            Self::TransverseMercator(tm) => tm.forward(at),
            Self::WebMercator => {
                let y = (FRAC_PI_2 / 2.0 + at.lat.to_radians() / 2.0).tan().ln();
                [A * at.lon.to_radians(), A * y]
            }
        }
    }

    /// The position of coordinates; its numbers may be no position where the coordinates are none.
    pub fn inverse(&self, [x, y]: [f64; 2]) -> LatLon {
        match self {
            Self::Geographic => LatLon { lat: y, lon: x },
            Self::TransverseMercator(tm) => tm.inverse([x, y]),
            Self::WebMercator => LatLon { lat: (y / A).sinh().atan().to_degrees(), lon: (x / A).to_degrees() },
        }
    }

    /// Metres on the ground of one unit of the coordinates, roughly, at this position.
    pub fn unit_m(&self, at: LatLon) -> f64 {
        match self {
            Self::Geographic => 111_320.0,
            Self::TransverseMercator(_) => 1.0,
            Self::WebMercator => at.lat.to_radians().cos(),
        }
    }
}

/// The rectifying radius times the scale of the series.
fn radius() -> f64 {
    A / (1.0 + N) * (1.0 + N.powi(2) / 4.0 + N.powi(4) / 64.0 + N.powi(6) / 256.0)
}

/// Horner's scheme in N: coefficients from the lowest power.
fn series(c: &[f64]) -> f64 {
    c.iter().rev().fold(0.0, |sum, k| sum * N + k)
}

/// Krüger's α (forward), to the fourth order: 0.01 mm within 3,000 km of the meridian's foot, and grids end far before.
fn alpha() -> [f64; 4] {
    [
        series(&[0.0, 1.0 / 2.0, -2.0 / 3.0, 5.0 / 16.0, 41.0 / 180.0]),
        series(&[0.0, 0.0, 13.0 / 48.0, -3.0 / 5.0, 557.0 / 1440.0]),
        series(&[0.0, 0.0, 0.0, 61.0 / 240.0, -103.0 / 140.0]),
        series(&[0.0, 0.0, 0.0, 0.0, 49_561.0 / 161_280.0]),
    ]
}

/// Krüger's β (inverse), likewise.
fn beta() -> [f64; 4] {
    [
        series(&[0.0, 1.0 / 2.0, -2.0 / 3.0, 37.0 / 96.0, -1.0 / 360.0]),
        series(&[0.0, 0.0, 1.0 / 48.0, 1.0 / 15.0, -437.0 / 1440.0]),
        series(&[0.0, 0.0, 0.0, 17.0 / 480.0, -37.0 / 840.0]),
        series(&[0.0, 0.0, 0.0, 0.0, 4397.0 / 161_280.0]),
    ]
}

impl TransverseMercator {
    fn forward(&self, at: LatLon) -> [f64; 2] {
        let e = (F * (2.0 - F)).sqrt();
        let lambda = (at.lon - self.central_meridian + 180.0).rem_euclid(360.0) - 180.0;
        let (phi, lambda) = (at.lat.to_radians(), lambda.to_radians());
        let tau = phi.tan();
        let sigma = (e * (e * tau / tau.hypot(1.0)).atanh()).sinh();
        let conformal = tau * sigma.hypot(1.0) - sigma * tau.hypot(1.0);
        let xi = conformal.atan2(lambda.cos());
        let eta = (lambda.sin() / conformal.hypot(lambda.cos())).asinh();
        let (mut x, mut y) = (eta, xi);
        for (k, a) in (1..).zip(alpha()) {
            let k = 2.0 * f64::from(k);
            x += a * (k * xi).cos() * (k * eta).sinh();
            y += a * (k * xi).sin() * (k * eta).cosh();
        }
        let r = self.scale * radius();
        [self.false_easting + r * x, self.false_northing + r * y]
    }

    fn inverse(&self, [x, y]: [f64; 2]) -> LatLon {
        let r = self.scale * radius();
        let (eta, xi) = ((x - self.false_easting) / r, (y - self.false_northing) / r);
        let (mut eta_c, mut xi_c) = (eta, xi);
        for (k, b) in (1..).zip(beta()) {
            let k = 2.0 * f64::from(k);
            eta_c -= b * (k * xi).cos() * (k * eta).sinh();
            xi_c -= b * (k * xi).sin() * (k * eta).cosh();
        }
        let conformal = xi_c.sin() / eta_c.sinh().hypot(xi_c.cos());
        let lambda = eta_c.sinh().atan2(xi_c.cos());
        // Newton's method for the geographic latitude; three steps reach the last digit.
        let e = (F * (2.0 - F)).sqrt();
        let mut tau = conformal;
        for _ in 0..4 {
            let sigma = (e * (e * tau / tau.hypot(1.0)).atanh()).sinh();
            let got = tau * sigma.hypot(1.0) - sigma * tau.hypot(1.0);
            let slope = (1.0 - e * e) * got.hypot(1.0) * tau.hypot(1.0) / (1.0 + (1.0 - e * e) * tau * tau);
            tau += (conformal - got) / slope;
        }
        LatLon { lat: tau.atan().to_degrees(), lon: self.central_meridian + lambda.to_degrees() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    #[test]
    fn utm_and_gauss_kruger_agree_with_proj_to_a_millimetre() {
        // From PROJ 9 (pyproj): EPSG code, latitude, longitude, x, y.
        for (code, lat, lon, x, y) in [
            (32651, 24.6803, 120.9517, 292746.0640, 2731095.9035),
            (32632, 47.5, 8.9, 492468.6573, 5260734.5787),
            (32719, -33.4, -70.6, 351205.0646, 6303223.7507),
            (4547, 23.03, 112.9, 387245.3085, 2548283.3768),
            (4526, 23.03, 112.9, 38387245.3085, 2548283.3768),
            (4549, 31.2, 121.5, 642964.1598, 3454118.1322),
            (4499, 31.2, 121.5, 21357035.8402, 3454118.1322),
            (4508, 31.2, 121.5, 1503303.1392, 3501106.4992),
            (3857, 23.03, 112.9, 12567970.5106, 2635647.0335),
        ] {
            let at = LatLon { lat, lon };
            let got = Crs::from_epsg(code).unwrap().forward(at);
            assert!((got[0] - x).hypot(got[1] - y) < 1e-3, "EPSG:{code}: {got:?} against {x} {y}");
        }
    }

    #[test]
    fn an_unknown_grid_is_refused_with_its_number_and_the_remedy() {
        let error = Crs::from_epsg(2056).unwrap_err().to_string();
        assert!(error.contains("EPSG:2056") && error.contains("gdalwarp"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn every_grid_comes_back_to_the_position_it_came_from(lat in -80.0..80.0_f64, off in -3.5..3.5_f64, which in 0..4_usize) {
            let (code, meridian) = [(32651, 123.0), (32719, -69.0), (4547, 114.0), (3857, 10.0)][which];
            let crs = Crs::from_epsg(code).unwrap();
            let at = LatLon { lat, lon: meridian + off };
            prop_assert!(crs.inverse(crs.forward(at)).distance_m(at) < 1e-5);
        }
    }
}
