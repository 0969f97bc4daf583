//! GeoTIFF: one band of integers or floats, any compression that the `tiff` crate reads (none, Deflate, LZW, PackBits).

use std::io::Cursor;

use ::tiff::decoder::{Decoder, DecodingResult, Limits};
use ::tiff::tags::Tag;
use ::tiff::{ColorType, TiffError};

use super::{Crs, DemError, HeightDatum, MAX_CELLS, Parts};
use crate::geo::crs::TransverseMercator;
use crate::geo::heights::METRES_A_FOOT;

const PIXEL_SCALE: u16 = 33_550;
const TIEPOINT: u16 = 33_922;
const TRANSFORMATION: u16 = 34_264;
const GEO_KEYS: u16 = 34_735;
const GEO_DOUBLES: u16 = 34_736;
const GEO_TEXTS: u16 = 34_737;
const GDAL_METADATA: u16 = 42_112;
const GDAL_NODATA: u16 = 42_113;

pub(super) fn read(bytes: &[u8]) -> Result<Parts, DemError> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = MAX_CELLS as usize * 8;
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(damaged)?.with_limits(limits);
    let (width, height) = decoder.dimensions().map_err(damaged)?;
    let count = u64::from(width) * u64::from(height);
    if count > MAX_CELLS {
        return Err(DemError::TooLarge { cells: count });
    }
    match decoder.colortype().map_err(damaged)? {
        ColorType::Gray(_) => {}
        other => return Err(DemError::Unsupported(format!("it holds {other:?}, not one band of heights"))),
    }
    let keys = Keys::read(&mut decoder);
    let (origin, step) = place(&mut decoder, keys.short(1025) == Some(2))?;
    let crs = keys.crs()?;
    let metres = keys.metres_per_unit()?;
    let metadata = text(&mut decoder, GDAL_METADATA).unwrap_or_default();
    let datum = keys.vertical().or_else(|| vertical_in(&metadata)).unwrap_or(HeightDatum::Unstated);
    let void: Option<f32> = text(&mut decoder, GDAL_NODATA).and_then(|v| v.trim().parse().ok());

    let mut cells = match decoder.read_image().map_err(damaged)? {
        DecodingResult::U8(v) => v.into_iter().map(f32::from).collect(),
        DecodingResult::I8(v) => v.into_iter().map(f32::from).collect(),
        DecodingResult::U16(v) => v.into_iter().map(f32::from).collect(),
        DecodingResult::I16(v) => v.into_iter().map(f32::from).collect(),
        DecodingResult::U32(v) => v.into_iter().map(|v| v as f32).collect(),
        DecodingResult::I32(v) => v.into_iter().map(|v| v as f32).collect(),
        DecodingResult::F32(v) => v,
        DecodingResult::F64(v) => v.into_iter().map(|v| v as f32).collect(),
        _ => return Err(DemError::Unsupported("its kind of number is not read here".to_owned())),
    };
    for cell in &mut cells {
        if Some(*cell) == void {
            *cell = f32::NAN;
        } else if metres != 1.0 {
            *cell = (f64::from(*cell) * metres) as f32;
        }
    }
    Ok(Parts { columns: width as usize, rows: height as usize, cells, crs, origin, step, datum })
}

fn damaged(error: TiffError) -> DemError {
    match error {
        TiffError::UnsupportedError(what) => DemError::Unsupported(what.to_string()),
        other => DemError::Damaged(other.to_string()),
    }
}

type File<'a> = Decoder<Cursor<&'a [u8]>>;

fn doubles(decoder: &mut File, tag: u16) -> Vec<f64> {
    decoder.get_tag_f64_vec(Tag::from_u16_exhaustive(tag)).unwrap_or_default()
}

fn text(decoder: &mut File, tag: u16) -> Option<String> {
    decoder.get_tag_ascii_string(Tag::from_u16_exhaustive(tag)).ok()
}

/// The centre of the first cell, and the steps.
fn place(decoder: &mut File, points: bool) -> Result<([f64; 2], [f64; 2]), DemError> {
    // A cell's coordinates name its corner, unless the raster is one of points.
    let half = if points { 0.0 } else { 0.5 };
    let (scale, tie) = (doubles(decoder, PIXEL_SCALE), doubles(decoder, TIEPOINT));
    if let (&[sx, sy, ..], &[i, j, _, x, y, ..]) = (scale.as_slice(), tie.as_slice()) {
        return Ok(([x + (half - i) * sx, y - (half - j) * sy], [sx, sy]));
    }
    let m = doubles(decoder, TRANSFORMATION);
    if let [sx, rx, _, x, ry, sy, _, y, ..] = *m.as_slice() {
        if rx != 0.0 || ry != 0.0 || sy >= 0.0 {
            return Err(DemError::Unsupported("its grid is rotated".to_owned()));
        }
        return Ok(([x + half * sx, y + half * sy], [sx, -sy]));
    }
    Err(DemError::NoPlace)
}

/// The vertical datum in the words of GDAL's metadata: only from items that speak of heights.
fn vertical_in(metadata: &str) -> Option<HeightDatum> {
    metadata.split("<Item").filter(|item| item.to_ascii_uppercase().contains("VERT")).find_map(HeightDatum::from_text)
}

struct Keys {
    shorts: Vec<u16>,
    doubles: Vec<f64>,
    texts: String,
}

impl Keys {
    fn read(decoder: &mut File) -> Self {
        Self {
            shorts: decoder.get_tag_u16_vec(Tag::from_u16_exhaustive(GEO_KEYS)).unwrap_or_default(),
            doubles: doubles(decoder, GEO_DOUBLES),
            texts: text(decoder, GEO_TEXTS).unwrap_or_default(),
        }
    }

    /// Of a key: where its value is stored, how many, and the value or its place.
    fn entry(&self, key: u16) -> Option<[u16; 3]> {
        let entries = self.shorts.get(4..)?.as_chunks::<4>().0;
        entries.iter().find(|e| e[0] == key).map(|e| [e[1], e[2], e[3]])
    }

    fn short(&self, key: u16) -> Option<u16> {
        match self.entry(key)? {
            [0, _, value] => Some(value),
            _ => None,
        }
    }

    fn double(&self, key: u16) -> Option<f64> {
        match self.entry(key)? {
            [GEO_DOUBLES, _, at] => self.doubles.get(usize::from(at)).copied(),
            _ => None,
        }
    }

    fn text(&self, key: u16) -> Option<&str> {
        match self.entry(key)? {
            [GEO_TEXTS, count, at] => self.texts.get(usize::from(at)..usize::from(at) + usize::from(count)),
            _ => None,
        }
    }

    fn crs(&self) -> Result<Crs, DemError> {
        match (self.short(1024), self.short(3072), self.short(2048)) {
            (Some(1), Some(code), _) if code != 32_767 => Ok(Crs::from_epsg(code.into())?),
            (Some(1), ..) if self.short(3075) == Some(1) && self.double(3081).unwrap_or(0.0) == 0.0 => {
                let central_meridian = self.double(3080).or(self.double(3084)).ok_or(DemError::NoPlace)?;
                Ok(Crs::TransverseMercator(TransverseMercator {
                    central_meridian,
                    scale: self.double(3092).unwrap_or(1.0),
                    false_easting: self.double(3082).unwrap_or(0.0),
                    false_northing: self.double(3083).unwrap_or(0.0),
                }))
            }
            (Some(1), ..) => Err(DemError::Unsupported("its projection is none that is known here".to_owned())),
            (Some(2), _, Some(code)) if code != 32_767 => Ok(Crs::from_epsg(code.into())?),
            (Some(2), ..) => Ok(Crs::Geographic),
            _ => Err(DemError::NoPlace),
        }
    }

    /// Of the heights. Horizontal units other than metres are refused.
    fn metres_per_unit(&self) -> Result<f64, DemError> {
        if self.short(1024) == Some(1) && !matches!(self.short(3076), None | Some(9001)) {
            return Err(DemError::Unsupported("its coordinates are not in metres".to_owned()));
        }
        match self.short(4099) {
            None | Some(9001) => Ok(1.0),
            Some(9002) => Ok(METRES_A_FOOT),
            Some(9003) => Ok(1200.0 / 3937.0),
            Some(other) => Err(DemError::Unsupported(format!("its heights are in unit EPSG:{other}"))),
        }
    }

    fn vertical(&self) -> Option<HeightDatum> {
        match self.short(4096) {
            Some(5773) => Some(HeightDatum::Egm96),
            // NAVD88 and the European frame are within a metre or two of EGM2008, which is what a place can be told by.
            Some(3855 | 5703 | 5621 | 5730) => Some(HeightDatum::Egm2008),
            Some(5030 | 4979) => Some(HeightDatum::Ellipsoid),
            _ => match self.short(2048) {
                Some(4979) => Some(HeightDatum::Ellipsoid),
                _ => [4097, 1026].into_iter().find_map(|key| self.text(key).and_then(HeightDatum::from_text)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use ::tiff::encoder::{TiffEncoder, colortype};

    use super::super::Dem;
    use super::*;
    use crate::geo::LatLon;

    /// 3 × 2 cells from 112° E, 23° N, steps of 0.01°.
    fn file(keys: &[u16], extra: impl FnOnce(&mut dyn FnMut(u16, &str))) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut out).unwrap();
        let mut image = encoder.new_image::<colortype::GrayI16>(3, 2).unwrap();
        let dir = image.encoder();
        dir.write_tag(Tag::from_u16_exhaustive(PIXEL_SCALE), &[0.01, 0.01, 0.0][..]).unwrap();
        dir.write_tag(Tag::from_u16_exhaustive(TIEPOINT), &[0.0, 0.0, 0.0, 112.0, 23.0, 0.0][..]).unwrap();
        dir.write_tag(Tag::from_u16_exhaustive(GEO_KEYS), keys).unwrap();
        extra(&mut |tag, text| dir.write_tag(Tag::from_u16_exhaustive(tag), text).unwrap());
        image.write_data(&[10, 20, 30, 40, 50, -9999_i16]).unwrap();
        out.into_inner()
    }

    const AREA: &[u16] = &[1, 1, 0, 3, 1024, 0, 1, 2, 1025, 0, 1, 1, 2048, 0, 1, 4326];

    #[test]
    fn a_cell_of_an_area_lies_half_a_cell_inside_its_corner_and_one_of_points_does_not() {
        let area = Dem::read(&file(AREA, |_| {}), "a.tif").unwrap();
        let at = |dem: &Dem, lat, lon| dem.height_m(LatLon { lat, lon });
        assert!((at(&area, 22.995, 112.005).unwrap() - 10.0).abs() < 1e-6);
        assert!((at(&area, 22.985, 112.015).unwrap() - 50.0).abs() < 1e-6);
        assert!((at(&area, 22.99, 112.01).unwrap() - 30.0).abs() < 1e-6);
        assert_eq!(at(&area, 22.985, 112.025), None, "-9999 is a void, declared or not");
        let points: Vec<u16> = AREA.iter().enumerate().map(|(i, v)| if i == 11 { 2 } else { *v }).collect();
        let points = Dem::read(&file(&points, |_| {}), "a.tif").unwrap();
        assert!((at(&points, 23.0, 112.0).unwrap() - 10.0).abs() < 1e-6);
        assert_eq!(area.datum(), HeightDatum::Unstated);
    }

    #[test]
    fn the_vertical_datum_is_taken_from_where_files_write_it() {
        let told = |keys: &[u16], metadata: Option<&str>| {
            let bytes = file(keys, |put| {
                if let Some(text) = metadata {
                    put(GDAL_METADATA, text);
                }
            });
            Dem::read(&bytes, "a.tif").unwrap().datum()
        };
        let with = |key: u16, value: u16| {
            let mut keys = AREA.to_vec();
            keys[3] = 4;
            keys.extend([key, 0, 1, value]);
            keys
        };
        assert_eq!(told(&with(4096, 5773), None), HeightDatum::Egm96);
        assert_eq!(told(&with(4096, 3855), None), HeightDatum::Egm2008);
        let item = r#"<GDALMetadata><Item name="VERTICAL_DATUM">EGM96 orthometric</Item></GDALMetadata>"#;
        assert_eq!(told(AREA, Some(item)), HeightDatum::Egm96);
        let other = r#"<GDALMetadata><Item name="NOTE">ellipsoid WGS 84</Item></GDALMetadata>"#;
        assert_eq!(told(AREA, Some(other)), HeightDatum::Unstated);
    }

    #[test]
    fn heights_in_feet_are_turned_into_metres() {
        let mut keys = AREA.to_vec();
        keys[3] = 4;
        keys.extend([4099, 0, 1, 9002]);
        let dem = Dem::read(&file(&keys, |_| {}), "a.tif").unwrap();
        assert!((dem.height_m(LatLon { lat: 22.995, lon: 112.005 }).unwrap() - 3.048).abs() < 1e-6);
    }

    #[test]
    fn a_file_without_a_place_or_cut_off_is_refused_and_never_panics() {
        let bytes = file(AREA, |_| {});
        for end in 0..bytes.len() {
            let _ = Dem::read(&bytes[..end], "a.tif");
        }
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 0xff;
            let _ = Dem::read(&broken, "a.tif");
        }
        assert_eq!(Dem::read(&file(&[1, 1, 0, 0], |_| {}), "a.tif").unwrap_err(), DemError::NoPlace);
        let swiss = [1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 2056];
        assert!(Dem::read(&file(&swiss, |_| {}), "a.tif").unwrap_err().to_string().contains("EPSG:2056"));
    }
}
