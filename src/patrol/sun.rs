//! Pure: how high the sun stands. For the daylight gate.

use jiff::Timestamp;

use crate::geo::LatLon;

/// The sun's elevation above the horizon, degrees, without refraction.
///
/// Low-precision formula of the Astronomical Almanac (page C5 of the yearly issues), good to 0.01° until 2050.
pub fn elevation_deg(at: LatLon, when: Timestamp) -> f64 {
    let days = when.as_millisecond() as f64 / 86_400_000.0 - 10_957.5; // since J2000.0
    let mean_longitude = (280.460 + 0.985_647_4 * days).rem_euclid(360.0);
    let anomaly = (357.528 + 0.985_600_3 * days).rem_euclid(360.0).to_radians();
    let longitude = (mean_longitude + 1.915 * anomaly.sin() + 0.020 * (2.0 * anomaly).sin()).to_radians();
    let obliquity = (23.439 - 0.000_000_4 * days).to_radians();
    let ascension = (obliquity.cos() * longitude.sin()).atan2(longitude.cos());
    let declination = (obliquity.sin() * longitude.sin()).asin();
    let sidereal = (280.460_618_37 + 360.985_647_366_29 * days + at.lon).rem_euclid(360.0).to_radians();
    let hour = sidereal - ascension;
    let latitude = at.lat.to_radians();
    (latitude.sin() * declination.sin() + latitude.cos() * declination.cos() * hour.cos()).asin().to_degrees()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noon_and_midnight_in_foshan_are_where_the_almanac_has_them() {
        let foshan = LatLon { lat: 23.05, lon: 113.0 };
        // Summer solstice 2026: local solar noon near 12:30 Beijing time; 90 − |23.05 − 23.44| = 89.6.
        let noon = elevation_deg(foshan, "2026-06-21T04:30:00Z".parse().unwrap());
        assert!((89.0..90.0).contains(&noon), "{noon}");
        // Winter solstice noon: 90 − 23.05 − 23.44 = 43.5.
        let winter = elevation_deg(foshan, "2026-12-22T04:26:00Z".parse().unwrap());
        assert!((43.3..43.7).contains(&winter), "{winter}");
        let midnight = elevation_deg(foshan, "2026-06-21T16:30:00Z".parse().unwrap());
        assert!(midnight < -40.0, "{midnight}");
        // Sunrise on the equinox, 06:32 Beijing time with refraction and the sun's radius (−0.83°).
        let sunrise = elevation_deg(foshan, "2026-03-20T22:32:00Z".parse().unwrap());
        assert!((-1.6..0.0).contains(&sunrise), "{sunrise}");
    }
}
