//! Naming a position in the datums that Chinese users meet.
//!
//! WGS 84 is what everything inside aerie uses. The other two are for output only.

use serde::Serialize;

use super::LatLon;
use super::crs::Crs;

/// Krasovsky 1940, on which GCJ-02's formula is built: semi-major axis and eccentricity squared.
const KRASOVSKY_A: f64 = 6_378_245.0;
const KRASOVSKY_E2: f64 = 0.006_693_421_622_965_943;

/// One position in each datum, named.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Named {
    pub wgs84: LatLon,
    pub cgcs2000: LatLon,
    /// For display on Chinese web maps only; absent outside China, where GCJ-02 is not defined.
    pub gcj02: Option<LatLon>,
}

/// The position in all three datums.
pub fn named(wgs84: LatLon) -> Named {
    Named { wgs84, cgcs2000: to_cgcs2000(wgs84), gcj02: to_gcj02(wgs84) }
}

/// WGS 84 to CGCS2000: taken as the same.
///
/// The ellipsoids differ by 0.1 mm and the frames, at the same epoch, by centimetres. CGCS2000 is fixed to epoch 2000.0
/// though, while a satellite fix is of today: the plate has since moved by about 3 cm a year, 0.8 m by 2026, towards
/// east-south-east in Guangdong. That is below what a drone without RTK knows of its place, so it is not applied here;
/// whoever brings RTK positions in WGS 84 of today must apply it (networks in China deliver CGCS2000 directly).
pub fn to_cgcs2000(wgs84: LatLon) -> LatLon {
    wgs84
}

/// Whether GCJ-02 is taken to be in force here: the bounding box that the public formula comes with, coarse at the borders.
pub fn in_china(at: LatLon) -> bool {
    (0.8293..=55.8271).contains(&at.lat) && (72.004..=137.8347).contains(&at.lon)
}

/// WGS 84 to GCJ-02 by the public formula, for display only: never compute with it, never store it alone.
pub fn to_gcj02(wgs84: LatLon) -> Option<LatLon> {
    if !in_china(wgs84) {
        return None;
    }
    use std::f64::consts::PI;
    let (x, y) = (wgs84.lon - 105.0, wgs84.lat - 35.0);
    let wave = |t: f64, a: f64, b: f64| (a * (t * PI).sin() + b * (t / 3.0 * PI).sin()) * 2.0 / 3.0;
    let ripple = (20.0 * (6.0 * x * PI).sin() + 20.0 * (2.0 * x * PI).sin()) * 2.0 / 3.0;
    let north = -100.0
        + 2.0 * x
        + 3.0 * y
        + 0.2 * y * y
        + 0.1 * x * y
        + 0.2 * x.abs().sqrt()
        + ripple
        + wave(y, 20.0, 40.0)
        + (160.0 * (y / 12.0 * PI).sin() + 320.0 * (y * PI / 30.0).sin()) * 2.0 / 3.0;
    let east = 300.0
        + x
        + 2.0 * y
        + 0.1 * x * x
        + 0.1 * x * y
        + 0.1 * x.abs().sqrt()
        + ripple
        + wave(x, 20.0, 40.0)
        + (150.0 * (x / 12.0 * PI).sin() + 300.0 * (x / 30.0 * PI).sin()) * 2.0 / 3.0;
    let (sin, cos) = wgs84.lat.to_radians().sin_cos();
    let w2 = 1.0 - KRASOVSKY_E2 * sin * sin;
    let meridian = KRASOVSKY_A * (1.0 - KRASOVSKY_E2) / (w2 * w2.sqrt());
    let parallel = KRASOVSKY_A / w2.sqrt() * cos;
    Some(LatLon { lat: wgs84.lat + (north / meridian).to_degrees(), lon: wgs84.lon + (east / parallel).to_degrees() })
}

/// A position on a projected grid, named.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GridPosition {
    pub name: String,
    pub epsg: u32,
    pub east_m: f64,
    pub north_m: f64,
}

/// CGCS2000 Gauss–Krüger in the 3° zone of the place, without the zone in front of the easting; `None` outside China.
pub fn gauss_kruger(at: LatLon) -> Option<GridPosition> {
    let cgcs2000 = to_cgcs2000(at);
    let meridian = (cgcs2000.lon / 3.0).round() as i32 * 3;
    if !in_china(at) || !(75..=135).contains(&meridian) {
        return None;
    }
    grid(format!("CGCS2000 / 3-degree Gauss-Kruger CM {meridian}E"), 4534 + (meridian as u32 - 75) / 3, cgcs2000)
}

/// WGS 84 / UTM in the zone of the place (without the exceptions of Norway and Svalbard); `None` beyond 80° S and 84° N.
pub fn utm(at: LatLon) -> Option<GridPosition> {
    at.validate().ok()?;
    if !(-80.0..=84.0).contains(&at.lat) {
        return None;
    }
    let zone = ((at.lon + 180.0) / 6.0).floor().clamp(0.0, 59.0) as u32 + 1;
    let (half, epsg) = if at.lat < 0.0 { ("S", 32_700 + zone) } else { ("N", 32_600 + zone) };
    grid(format!("WGS 84 / UTM zone {zone}{half}"), epsg, at)
}

fn grid(name: String, epsg: u32, at: LatLon) -> Option<GridPosition> {
    let [east_m, north_m] = Crs::from_epsg(epsg).ok()?.forward(at);
    Some(GridPosition { name, epsg, east_m, north_m })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gcj02_matches_published_pairs_in_china() {
        // Shanghai, Shenzhen, Beijing: the pairs that the open implementation "eviltransform" publishes in its tests.
        for (wgs, gcj) in [
            ((31.1774276, 121.5272106), (31.175_303_983_645_97, 121.531_541_859_215)),
            ((22.543847, 113.912316), (22.540_796_131_694_766, 113.917_176_480_836_3)),
            ((39.911954, 116.377817), (39.913_345_455_360_69, 116.384_047_224_556_57)),
        ] {
            let got = to_gcj02(LatLon { lat: wgs.0, lon: wgs.1 }).unwrap();
            let want = LatLon { lat: gcj.0, lon: gcj.1 };
            assert!(got.distance_m(want) < 0.5, "{wgs:?}: {got:?}, {} m", got.distance_m(want));
        }
    }

    #[test]
    fn outside_china_there_is_no_gcj02() {
        let minsk = named(LatLon { lat: 53.919, lon: 27.576 });
        assert_eq!(minsk.gcj02, None);
        assert_eq!(minsk.cgcs2000, minsk.wgs84);
    }

    #[test]
    fn a_place_in_china_has_its_gauss_kruger_zone_and_every_place_its_utm_zone() {
        // PROJ 9: EPSG:4547 and EPSG:32649.
        let foshan = LatLon { lat: 23.03, lon: 112.9 };
        let gk = gauss_kruger(foshan).unwrap();
        assert_eq!((gk.epsg, gk.name.as_str()), (4547, "CGCS2000 / 3-degree Gauss-Kruger CM 114E"));
        assert!((gk.east_m - 387_245.308_5).abs() < 0.001 && (gk.north_m - 2_548_283.376_8).abs() < 0.001, "{gk:?}");
        assert_eq!(utm(foshan).unwrap().epsg, 32649);
        assert_eq!(utm(LatLon { lat: -33.4, lon: -70.6 }).unwrap().name, "WGS 84 / UTM zone 19S");
        assert_eq!(gauss_kruger(LatLon { lat: 53.9, lon: 27.6 }), None);
        assert_eq!(utm(LatLon { lat: 85.0, lon: 0.0 }), None);
    }
}
