//! DTED (MIL-PRF-89020B): columns of big-endian signed-magnitude heights from south to north. Heights above the sea, taken
//! as EGM96.

use super::{Crs, DemError, HeightDatum, Parts};

/// User header, data set identification and accuracy records.
const HEADERS: usize = 80 + 648 + 2700;

pub(super) fn read(bytes: &[u8]) -> Result<Parts, DemError> {
    let damaged = |what: &str| DemError::Damaged(what.to_owned());
    let field = |range: std::ops::Range<usize>| std::str::from_utf8(bytes.get(range)?).ok().map(str::trim);
    let number = |range| field(range).and_then(|v| v.parse::<u32>().ok());
    let (lon, lat) = field(4..12)
        .and_then(degrees)
        .zip(field(12..20).and_then(degrees))
        .ok_or_else(|| damaged("the origin in the user header is no position"))?;
    // Tenths of an arc second.
    let step = |range| number(range).filter(|v| *v > 0).map(|v| f64::from(v) / 36_000.0);
    let (step_lon, step_lat) = step(20..24).zip(step(24..28)).ok_or_else(|| damaged("its intervals are no numbers"))?;
    let size = |range| number(range).filter(|v| (2..=20_000).contains(v)).map(|v| v as usize);
    let (columns, rows) = size(47..51).zip(size(51..55)).ok_or_else(|| damaged("its size is no number"))?;
    let record = 12 + 2 * rows;
    let body =
        bytes.get(HEADERS..).filter(|body| body.len() >= record * columns).ok_or_else(|| damaged("it is cut off"))?;
    let mut cells = vec![f32::NAN; rows * columns];
    for (column, record) in body.chunks_exact(record).take(columns).enumerate() {
        if record[0] != 0xaa {
            return Err(damaged("a data record does not begin as one"));
        }
        for (up, raw) in record[8..8 + 2 * rows].as_chunks::<2>().0.iter().enumerate() {
            let raw = u16::from_be_bytes(*raw);
            let value = f32::from(raw & 0x7fff) * if raw & 0x8000 == 0 { 1.0 } else { -1.0 };
            // All ones is the void; it reads as −32767, which is no height.
            cells[(rows - 1 - up) * columns + column] = value;
        }
    }
    Ok(Parts {
        columns,
        rows,
        cells,
        crs: Crs::Geographic,
        origin: [lon, lat + step_lat * (rows - 1) as f64],
        step: [step_lon, step_lat],
        datum: HeightDatum::Egm96,
    })
}

/// DDDMMSSH.
fn degrees(text: &str) -> Option<f64> {
    let (digits, hemisphere) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() != 7 || !digits.is_ascii() {
        return None;
    }
    let part = |range: std::ops::Range<usize>| digits[range].parse::<u16>().ok().map(f64::from);
    let value = part(0..3)? + part(3..5)? / 60.0 + part(5..7)? / 3600.0;
    match hemisphere {
        "N" | "E" => Some(value),
        "S" | "W" => Some(-value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dem;
    use super::*;
    use crate::geo::LatLon;

    fn file() -> Vec<u8> {
        let mut b = b"UHL11120000E0230000N03000300 20U  ".to_vec();
        b.resize(47, b' ');
        b.extend(b"00030002");
        b.resize(HEADERS, b' ');
        for column in 0..3_u16 {
            b.extend([0xaa, 0, 0, 0]);
            b.extend([0; 4]);
            // South, then north; the last column's north is 5 m below the sea.
            b.extend((10 * (column + 1)).to_be_bytes());
            b.extend(if column == 2 { 0x8005_u16 } else { 100 + column }.to_be_bytes());
            b.extend([0; 4]);
        }
        b
    }

    #[test]
    fn columns_run_north_and_a_minus_is_a_sign_bit() {
        let dem = Dem::read(&file(), "n23.dt1").unwrap();
        let s = 300.0 / 36_000.0;
        let at = |lat, lon| (dem.height_m(LatLon { lat, lon }).unwrap() * 1e6).round() / 1e6;
        assert_eq!((at(23.0, 112.0), at(23.0 + s, 112.0)), (10.0, 100.0));
        assert_eq!((at(23.0, 112.0 + 2.0 * s), at(23.0 + s, 112.0 + 2.0 * s)), (30.0, -5.0));
        assert_eq!(dem.datum(), HeightDatum::Egm96);
    }

    #[test]
    fn a_damaged_file_is_refused_and_never_panics() {
        let whole = file();
        for end in 0..whole.len() {
            assert!(Dem::read(&whole[..end], "n23.dt1").is_err());
        }
        let mut broken = whole;
        broken[HEADERS] = 0;
        assert!(matches!(Dem::read(&broken, "n23.dt1"), Err(DemError::Damaged(_))));
    }
}
