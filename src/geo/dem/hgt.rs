//! SRTM tiles, `N23E112.hgt`: 1201 or 3601 rows of big-endian i16 from the north-west, the outer rows on the degree lines.
//! Heights above EGM96.

use super::{Crs, DemError, HeightDatum, Parts};

pub(super) fn read(bytes: &[u8], name: &str) -> Result<Parts, DemError> {
    let side = match bytes.len() {
        2_884_802 => 1201,
        25_934_402 => 3601,
        other => {
            return Err(DemError::Damaged(format!("an .hgt file has 2884802 or 25934402 bytes, this one {other}")));
        }
    };
    let [lat, lon] = corner(name).ok_or_else(|| {
        DemError::Damaged(
            "an .hgt file tells its place by its name, such as N23E112.hgt; give it back its name".to_owned(),
        )
    })?;
    let step = 1.0 / (side - 1) as f64;
    Ok(Parts {
        columns: side,
        rows: side,
        cells: bytes.as_chunks::<2>().0.iter().map(|v| f32::from(i16::from_be_bytes(*v))).collect(),
        crs: Crs::Geographic,
        origin: [lon, lat + 1.0],
        step: [step, step],
        datum: HeightDatum::Egm96,
    })
}

/// Latitude and longitude of the south-west corner.
fn corner(name: &str) -> Option<[f64; 2]> {
    let stem = name.rsplit(['/', '\\']).next()?.get(..7)?.to_ascii_uppercase();
    let number = |range: std::ops::Range<usize>| stem.get(range)?.parse::<u8>().ok().map(f64::from);
    let lat = match stem.get(..1)? {
        "N" => number(1..3)?,
        "S" => -number(1..3)?,
        _ => return None,
    };
    let lon = match stem.get(3..4)? {
        "E" => number(4..7)?,
        "W" => -number(4..7)?,
        _ => return None,
    };
    (lat.abs() <= 90.0 && lon.abs() <= 180.0).then_some([lat, lon])
}

#[cfg(test)]
mod tests {
    use super::super::Dem;
    use super::*;
    use crate::geo::LatLon;

    #[test]
    fn a_tile_lies_where_its_name_says_and_its_voids_are_none() {
        let mut bytes = vec![0; 2_884_802];
        let mut put = |row: usize, column: usize, v: i16| {
            let at = (row * 1201 + column) * 2;
            bytes[at..at + 2].copy_from_slice(&v.to_be_bytes());
        };
        put(0, 0, 100);
        put(1200, 1200, 200);
        put(600, 600, -32768);
        let dem = Dem::read(&bytes, "tiles/s34w071.hgt").unwrap();
        let at = |lat, lon| dem.height_m(LatLon { lat, lon });
        assert_eq!((at(-33.0, -71.0), at(-34.0, -70.0), at(-33.5, -70.5)), (Some(100.0), Some(200.0), None));
        assert_eq!(dem.datum(), HeightDatum::Egm96);
    }

    #[test]
    fn a_tile_without_its_name_or_with_a_wrong_size_is_refused() {
        assert!(Dem::read(&vec![0; 2_884_802], "dem.hgt").unwrap_err().to_string().contains("N23E112"));
        assert!(matches!(Dem::read(&[0; 100], "N23E112.hgt"), Err(DemError::Damaged(_))));
    }
}
