//! Geographic coordinates and the local metric frame.

use std::sync::LazyLock;

use geographiclib_rs::{DirectGeodesic, Geodesic, InverseGeodesic};

use super::{LatLon, LocalFrame};

static WGS84: LazyLock<Geodesic> = LazyLock::new(Geodesic::wgs84);

/// Why a pair of numbers is no position.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum CoordinateError {
    #[error("latitude {lat}, longitude {lon}: both must be finite numbers, in degrees")]
    NotANumber { lat: f64, lon: f64 },
    #[error("latitude {lat} is outside −90 to 90 degrees; beside longitude {lon}, may the two be swapped?")]
    LooksSwapped { lat: f64, lon: f64 },
    #[error("latitude {0} is outside −90 to 90 degrees")]
    Latitude(f64),
    #[error("longitude {0} is outside −180 to 180 degrees")]
    Longitude(f64),
}

impl LatLon {
    /// Whether this can be a place on the Earth at all.
    pub fn validate(self) -> Result<(), CoordinateError> {
        let LatLon { lat, lon } = self;
        if !(lat.is_finite() && lon.is_finite()) {
            return Err(CoordinateError::NotANumber { lat, lon });
        }
        if lat.abs() > 90.0 {
            return Err(if lat.abs() <= 180.0 && lon.abs() <= 90.0 {
                CoordinateError::LooksSwapped { lat, lon }
            } else {
                CoordinateError::Latitude(lat)
            });
        }
        if lon.abs() > 180.0 {
            return Err(CoordinateError::Longitude(lon));
        }
        Ok(())
    }

    /// Metres along the ellipsoid.
    pub fn distance_m(self, other: LatLon) -> f64 {
        WGS84.inverse(self.lat, self.lon, other.lat, other.lon)
    }
}

/// Metres along the ellipsoid.
pub fn distance_m(a: LatLon, b: LatLon) -> f64 {
    a.distance_m(b)
}

impl LocalFrame {
    pub fn new(origin: LatLon) -> Self {
        Self { origin }
    }

    /// East and north of the origin, metres.
    ///
    /// Azimuthal equidistant on the ellipsoid: distances and bearings from the origin are exact, and 5 km away it differs
    /// from the tangent plane that straight rays live in by less than a millimetre. Metres are counted at the height
    /// of the ellipsoid: high ground (4,000 m) makes them 0.06 % too short.
    pub fn to_enu(&self, at: LatLon) -> [f64; 2] {
        let (distance, azimuth, _, _): (f64, f64, f64, f64) =
            WGS84.inverse(self.origin.lat, self.origin.lon, at.lat, at.lon);
        let (sin, cos) = azimuth.to_radians().sin_cos();
        [distance * sin, distance * cos]
    }

    /// The inverse of [`LocalFrame::to_enu`].
    pub fn to_latlon(&self, east_m: f64, north_m: f64) -> LatLon {
        let azimuth = east_m.atan2(north_m).to_degrees();
        let (lat, lon): (f64, f64) = WGS84.direct(self.origin.lat, self.origin.lon, azimuth, east_m.hypot(north_m));
        LatLon { lat, lon }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_frame_agrees_with_the_tangent_plane_to_a_centimetre_within_five_kilometres() {
        // The independent truth: Earth-centred coordinates rotated into east, north, up.
        fn ecef(p: LatLon) -> [f64; 3] {
            let (a, f) = (6_378_137.0_f64, 1.0 / 298.257_223_563);
            let e2 = f * (2.0 - f);
            let (sf, cf) = p.lat.to_radians().sin_cos();
            let (sl, cl) = p.lon.to_radians().sin_cos();
            let n = a / (1.0 - e2 * sf * sf).sqrt();
            [n * cf * cl, n * cf * sl, n * (1.0 - e2) * sf]
        }
        for lat in [-60.0, 0.0, 23.05, 53.9, 70.0] {
            let origin = LatLon { lat, lon: 113.0 };
            let frame = LocalFrame::new(origin);
            for (dlat, dlon) in [(0.03, 0.03), (-0.03, 0.02), (0.0, -0.04), (0.04, 0.0)] {
                let at = LatLon { lat: lat + dlat, lon: 113.0 + dlon };
                let (o, p) = (ecef(origin), ecef(at));
                let d = [p[0] - o[0], p[1] - o[1], p[2] - o[2]];
                let (sf, cf) = origin.lat.to_radians().sin_cos();
                let (sl, cl) = origin.lon.to_radians().sin_cos();
                let east = -sl * d[0] + cl * d[1];
                let north = -sf * cl * d[0] - sf * sl * d[1] + cf * d[2];
                let [e, n] = frame.to_enu(at);
                assert!((e - east).hypot(n - north) < 0.01, "{lat}: {e} {n} against {east} {north}");
                let back = frame.to_latlon(e, n);
                assert!(back.distance_m(at) < 1e-6);
            }
        }
    }

    #[test]
    fn what_is_no_position_is_refused_in_words() {
        let say = |lat, lon| LatLon { lat, lon }.validate().unwrap_err().to_string();
        assert!(say(f64::NAN, 1.0).contains("finite"));
        assert!(say(91.0, 100.0).contains("latitude 91"));
        assert!(say(113.05, 23.03).contains("swapped"));
        assert!(say(23.0, 181.0).contains("longitude 181"));
        assert_eq!(LatLon { lat: 23.03, lon: 113.05 }.validate(), Ok(()));
    }
}
