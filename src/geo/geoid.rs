//! Undulations of a geoid: how far it lies above the WGS 84 ellipsoid. Read from a file or not known at all; no value is
//! ever made up.
//!
//! Two formats, told apart by their first bytes: PROJ's `.gtx` (Debian's package `proj-data` brings `egm96_15.gtx`) and
//! GeographicLib's `.pgm` (`egm96-5.pgm`, `egm2008-2_5.pgm` and others). Which model a file holds is taken from its name
//! or its own description.

use super::LatLon;
use super::heights::HeightDatum;

/// The largest grid of use has 1 arc minute: 233 million cells.
const MAX_CELLS: u64 = 250_000_000;
/// No undulation of the Earth leaves this range: −107 m south of India, +86 m at New Guinea.
const POSSIBLE_M: std::ops::RangeInclusive<f64> = -120.0..=100.0;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GeoidError {
    #[error("it is no geoid grid that is known here (PROJ .gtx or GeographicLib .pgm)")]
    Format,
    #[error("its header tells {cells} cells but {bytes} bytes follow; it is damaged or cut off")]
    Size { cells: u64, bytes: usize },
    #[error("neither its name nor its text tells EGM96 or EGM2008; rename it, such as egm96_15.gtx")]
    Model,
    #[error("it holds {0:.1} m, which no undulation is; it is another kind of grid or damaged")]
    Value(f64),
}

/// One geoid model as a grid, rows from south to north.
#[derive(Debug, Clone)]
pub struct Geoid {
    model: HeightDatum,
    south: f64,
    west: f64,
    step_lat: f64,
    step_lon: f64,
    rows: usize,
    columns: usize,
    cells: Cells,
}

#[derive(Debug, Clone)]
enum Cells {
    Metres(Vec<f32>),
    Scaled { raw: Vec<u16>, offset: f64, scale: f64 },
}

impl Geoid {
    /// Reads a file; `name` helps to tell the model.
    pub fn read(bytes: &[u8], name: &str) -> Result<Self, GeoidError> {
        let grid = if bytes.starts_with(b"P5") { read_pgm(bytes, name)? } else { read_gtx(bytes, name)? };
        // A wrong byte order or another kind of grid shows at once.
        for (lat, lon) in [(0.0, 0.0), (45.0, 10.0), (23.0, 113.0), (-30.0, -60.0)] {
            if let Some(n) = grid.undulation_m(LatLon { lat, lon })
                && !POSSIBLE_M.contains(&n)
            {
                return Err(GeoidError::Value(n));
            }
        }
        Ok(grid)
    }

    /// EGM96 or EGM2008.
    pub fn model(&self) -> HeightDatum {
        self.model
    }

    /// The geoid's height above the ellipsoid, bilinear; `None` outside a regional grid.
    pub fn undulation_m(&self, at: LatLon) -> Option<f64> {
        at.validate().ok()?;
        let row = (at.lat - self.south) / self.step_lat;
        if !(-1e-9..=self.rows as f64 - 1.0 + 1e-9).contains(&row) {
            return None;
        }
        let row = row.clamp(0.0, self.rows as f64 - 1.0);
        let around = (360.0 / self.step_lon).round();
        let column = ((at.lon - self.west) / self.step_lon).rem_euclid(around);
        let (r, c) = ((row.floor() as usize).min(self.rows.saturating_sub(2)), column.floor() as usize);
        let (fr, fc) = (row - r as f64, column - c as f64);
        let cell = |r: usize, c: usize| -> Option<f64> {
            // A global grid closes on itself; a regional one ends.
            let c = if c < self.columns {
                c
            } else if self.columns as f64 >= around {
                c % self.columns
            } else {
                return None;
            };
            let at = r * self.columns + c;
            let value = match &self.cells {
                Cells::Metres(v) => f64::from(*v.get(at)?),
                Cells::Scaled { raw, offset, scale } => offset + scale * f64::from(*raw.get(at)?),
            };
            // PROJ marks voids with -88.8888.
            (value.is_finite() && (value + 88.8888).abs() > 1e-3).then_some(value)
        };
        let south = cell(r, c)? * (1.0 - fc) + cell(r, c + 1)? * fc;
        let north = cell(r + 1, c)? * (1.0 - fc) + cell(r + 1, c + 1)? * fc;
        Some(south * (1.0 - fr) + north * fr)
    }
}

fn model(text: &str) -> Result<HeightDatum, GeoidError> {
    let text = text.to_ascii_lowercase();
    if text.contains("egm2008") || text.contains("egm08") {
        Ok(HeightDatum::Egm2008)
    } else if text.contains("egm96") {
        Ok(HeightDatum::Egm96)
    } else {
        Err(GeoidError::Model)
    }
}

fn checked(rows: u64, columns: u64, width: u64, bytes: usize) -> Result<(usize, usize), GeoidError> {
    let cells = rows.saturating_mul(columns);
    if rows < 2 || columns < 2 || cells > MAX_CELLS || cells * width > bytes as u64 {
        return Err(GeoidError::Size { cells, bytes });
    }
    Ok((rows as usize, columns as usize))
}

/// Big-endian: south, west, step in latitude, step in longitude (f64), rows, columns (i32), then f32 from the south-west.
fn read_gtx(bytes: &[u8], name: &str) -> Result<Geoid, GeoidError> {
    let (header, body) = bytes.split_at_checked(40).ok_or(GeoidError::Format)?;
    let mut numbers = [0.0; 4];
    for (number, raw) in numbers.iter_mut().zip(header[..32].as_chunks::<8>().0) {
        *number = f64::from_be_bytes(*raw);
    }
    let [south, west, step_lat, step_lon] = numbers;
    let sane = south.abs() <= 90.0
        && west.abs() <= 360.0
        && (1e-3..=5.0).contains(&step_lat)
        && (1e-3..=5.0).contains(&step_lon);
    let [rows, columns] =
        [32, 36].map(|i| u32::from_be_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]));
    if !sane {
        return Err(GeoidError::Format);
    }
    let (rows, columns) = checked(rows.into(), columns.into(), 4, body.len())?;
    let cells = body.as_chunks::<4>().0.iter().take(rows * columns).map(|raw| f32::from_be_bytes(*raw)).collect();
    Ok(Geoid { model: model(name)?, south, west, step_lat, step_lon, rows, columns, cells: Cells::Metres(cells) })
}

/// A portable grey map: comments with `Offset` and `Scale`, width, height, 65535, then big-endian u16 from the north-west,
/// the first column at longitude 0, the first and last row at the poles.
fn read_pgm(bytes: &[u8], name: &str) -> Result<Geoid, GeoidError> {
    let (mut offset, mut scale) = (None, None);
    let mut described = name.to_owned();
    let mut numbers = Vec::new();
    let mut rest = bytes.get(2..).ok_or(GeoidError::Format)?;
    for _ in 0..200 {
        if numbers.len() == 3 {
            break;
        }
        let end = rest.iter().position(|b| *b == b'\n').filter(|end| *end < 1_000).ok_or(GeoidError::Format)?;
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 1..];
        if let Some(comment) = line.strip_prefix('#') {
            let comment = comment.trim();
            let value = |key: &str| comment.strip_prefix(key).and_then(|v| v.trim().parse::<f64>().ok());
            offset = value("Offset").or(offset);
            scale = value("Scale").or(scale);
            if comment.starts_with("Description") {
                described.push_str(comment);
            }
        } else {
            numbers.extend(line.split_whitespace().filter_map(|v| v.parse::<u64>().ok()));
        }
    }
    let (&[columns, rows, 65_535], Some(offset), Some(scale)) = (numbers.as_slice(), offset, scale) else {
        return Err(GeoidError::Format);
    };
    let (rows, columns) = checked(rows, columns, 2, rest.len())?;
    let mut raw = Vec::with_capacity(rows * columns);
    for row in (0..rows).rev() {
        let line = &rest[row * columns * 2..(row + 1) * columns * 2];
        raw.extend(line.as_chunks::<2>().0.iter().map(|v| u16::from_be_bytes(*v)));
    }
    Ok(Geoid {
        model: model(&described)?,
        south: -90.0,
        west: 0.0,
        step_lat: 180.0 / (rows - 1) as f64,
        step_lon: 360.0 / columns as f64,
        rows,
        columns,
        cells: Cells::Scaled { raw, offset, scale },
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A world in steps of 90 degrees whose undulation is 10 m per row and 1 m per column.
    pub(crate) fn gtx() -> Vec<u8> {
        let mut b = Vec::new();
        for v in [-90.0_f64, -180.0, 4.5, 4.5] {
            b.extend(v.to_be_bytes());
        }
        for v in [41_u32, 80] {
            b.extend(v.to_be_bytes());
        }
        for r in 0..41 {
            for c in 0..80 {
                b.extend((r as f32 - 20.0 + 0.1 * c as f32).to_be_bytes());
            }
        }
        b
    }

    #[test]
    fn a_grid_is_read_between_its_cells_and_across_the_date_line() {
        let geoid = Geoid::read(&gtx(), "egm96_test.gtx").unwrap();
        assert_eq!(geoid.model(), HeightDatum::Egm96);
        let n = |lat, lon| geoid.undulation_m(LatLon { lat, lon }).unwrap();
        assert!((n(0.0, 0.0) - 4.0).abs() < 1e-6);
        assert!((n(2.25, 2.25) - 4.55).abs() < 1e-5);
        // Column 79 is at 175.5 degrees; half way to column 0 at 180.
        assert!((n(0.0, 177.75) - 3.95).abs() < 1e-5);
        assert!(n(90.0, 0.0).is_finite() && n(-90.0, 179.9).is_finite());
    }

    #[test]
    fn a_pgm_is_read_from_the_north_with_its_scale() {
        let mut b = b"P5\n# Description WGS84 EGM2008, test\n# Offset -108\n# Scale 0.5\n4 3\n65535\n".to_vec();
        for v in [216_u16, 216, 216, 216, 218, 220, 218, 218, 216, 216, 216, 216] {
            b.extend(v.to_be_bytes());
        }
        let geoid = Geoid::read(&b, "somewhere.pgm").unwrap();
        assert_eq!(geoid.model(), HeightDatum::Egm2008);
        let n = |lat, lon| geoid.undulation_m(LatLon { lat, lon }).unwrap();
        assert_eq!((n(90.0, 0.0), n(0.0, 0.0), n(0.0, 90.0)), (0.0, 1.0, 2.0));
        assert_eq!((n(0.0, -90.0), n(45.0, 90.0)), (1.0, 1.0));
    }

    #[test]
    fn what_is_no_geoid_is_refused_and_no_value_is_made_up() {
        assert_eq!(Geoid::read(b"", "egm96.gtx").unwrap_err(), GeoidError::Format);
        assert_eq!(Geoid::read(&[0; 4000], "egm96.gtx").unwrap_err(), GeoidError::Format);
        assert!(matches!(Geoid::read(&gtx()[..3000], "egm96.gtx"), Err(GeoidError::Size { .. })));
        assert_eq!(Geoid::read(&gtx(), "grid.gtx").unwrap_err(), GeoidError::Model);
        let mut swapped = gtx();
        for v in swapped[40..].as_chunks_mut::<4>().0 {
            v.copy_from_slice(&500.0_f32.to_be_bytes());
        }
        assert_eq!(Geoid::read(&swapped, "egm96.gtx").unwrap_err(), GeoidError::Value(500.0));
        let geoid = Geoid::read(&gtx(), "egm96.gtx").unwrap();
        assert_eq!(geoid.undulation_m(LatLon { lat: 91.0, lon: 0.0 }), None);
        assert_eq!(geoid.undulation_m(LatLon { lat: f64::NAN, lon: 0.0 }), None);
    }
}
