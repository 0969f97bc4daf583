//! The few EXIF fields that matter here. A damaged block gives what could be read of it.

use exif::{Exif, Field, In, Reader, Tag, Value};

use crate::geo::LatLon;

/// What was found; absent where missing or unusable.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub make: Option<String>,
    pub model: Option<String>,
    pub software: Option<String>,
    pub taken: Option<String>,
    pub orientation: Option<u32>,
    /// Or which of its tags cannot be used.
    pub position: Option<Result<LatLon, String>>,
    pub focal_mm: Option<f64>,
    pub focal_35mm: Option<f64>,
    pub digital_zoom: Option<f64>,
    /// The size that the camera wrote; the picture may have been resized since.
    pub width_px: Option<f64>,
    pub height_px: Option<f64>,
    /// Metres, negative below the reference.
    pub altitude_m: Option<f64>,
    /// EXIF 3.0's reference 2 and 3: above and below the ellipsoid.
    pub altitude_ellipsoidal: bool,
    /// The small picture that the camera put beside the large one.
    pub thumbnail: Option<Vec<u8>>,
    /// Pixels per millimetre on the sensor, across.
    pub focal_plane_px_per_mm: Option<f64>,
}

pub(super) fn read(block: Option<&[u8]>) -> Fields {
    let Some(block) = block else {
        return Fields::default();
    };
    let mut reader = Reader::new();
    reader.continue_on_error(true);
    let Ok(exif) = reader.read_raw(block.to_vec()).or_else(|e| e.distill_partial_result(|_| ())) else {
        return Fields::default();
    };
    let reference = field(&exif, Tag::GPSAltitudeRef).and_then(|f| match &f.value {
        Value::Byte(v) => v.first().copied(),
        _ => None,
    });
    let below = matches!(reference, Some(1 | 3));
    Fields {
        make: text(&exif, Tag::Make),
        software: text(&exif, Tag::Software),
        model: text(&exif, Tag::Model),
        taken: text(&exif, Tag::DateTimeOriginal),
        orientation: field(&exif, Tag::Orientation).and_then(|f| f.value.get_uint(0)),
        position: position(&exif),
        focal_mm: number(&exif, Tag::FocalLength),
        focal_35mm: number(&exif, Tag::FocalLengthIn35mmFilm),
        digital_zoom: number(&exif, Tag::DigitalZoomRatio),
        width_px: number(&exif, Tag::PixelXDimension),
        height_px: number(&exif, Tag::PixelYDimension),
        altitude_m: number(&exif, Tag::GPSAltitude).map(|m| if below { -m } else { m }),
        thumbnail: thumbnail(&exif),
        altitude_ellipsoidal: matches!(reference, Some(2 | 3)),
        focal_plane_px_per_mm: number(&exif, Tag::FocalPlaneXResolution).and_then(|resolution| {
            // 2 is the inch, 3 the centimetre, 4 the millimetre.
            match field(&exif, Tag::FocalPlaneResolutionUnit).and_then(|f| f.value.get_uint(0)) {
                Some(3) => Some(resolution / 10.0),
                Some(4) => Some(resolution),
                Some(2) | None => Some(resolution / 25.4),
                Some(_) => None,
            }
        }),
    }
}

fn field(exif: &Exif, tag: Tag) -> Option<&Field> {
    exif.get_field(tag, In::PRIMARY)
}

fn text(exif: &Exif, tag: Tag) -> Option<String> {
    let Value::Ascii(parts) = &field(exif, tag)?.value else {
        return None;
    };
    let text: String = String::from_utf8_lossy(parts.first()?).chars().filter(|c| !c.is_control()).take(64).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn thumbnail(exif: &Exif) -> Option<Vec<u8>> {
    let place = |tag| exif.get_field(tag, In::THUMBNAIL)?.value.get_uint(0).map(|v| v as usize);
    let (start, length) = (place(Tag::JPEGInterchangeFormat)?, place(Tag::JPEGInterchangeFormatLength)?);
    exif.buf().get(start..start.checked_add(length)?).map(<[u8]>::to_vec)
}

/// A positive number; zero is EXIF's "unknown" for every field that is asked for here.
fn number(exif: &Exif, tag: Tag) -> Option<f64> {
    let value = &field(exif, tag)?.value;
    let number = match value {
        Value::Rational(r) => r.first()?.to_f64(),
        _ => f64::from(value.get_uint(0)?),
    };
    (number.is_finite() && number > 0.0).then_some(number)
}

fn position(exif: &Exif) -> Option<Result<LatLon, String>> {
    field(exif, Tag::GPSLatitude).or(field(exif, Tag::GPSLongitude)).map(|_| told(exif))
}

fn told(exif: &Exif) -> Result<LatLon, String> {
    // V is "void": the receiver had no fix and the numbers are old or nothing.
    if text(exif, Tag::GPSStatus).as_deref() == Some("V") {
        return Err("EXIF GPSStatus is V, no fix".to_owned());
    }
    let lat = degrees(exif, "GPSLatitude", [Tag::GPSLatitude, Tag::GPSLatitudeRef], ["N", "S"])?;
    let lon = degrees(exif, "GPSLongitude", [Tag::GPSLongitude, Tag::GPSLongitudeRef], ["E", "W"])?;
    // What cameras write without a fix.
    if lat == 0.0 && lon == 0.0 {
        return Err("EXIF GPSLatitude and GPSLongitude are 0, 0, no fix".to_owned());
    }
    Ok(LatLon { lat, lon })
}

fn degrees(exif: &Exif, name: &str, [tag, reference]: [Tag; 2], [plus, minus]: [&str; 2]) -> Result<f64, String> {
    let value = &field(exif, tag).ok_or_else(|| format!("EXIF {name} is absent"))?.value;
    let Value::Rational(parts) = value else {
        return Err(format!("EXIF {name} is no degrees, minutes and seconds"));
    };
    let [d, m, s, ..] = parts.as_slice() else {
        return Err(format!("EXIF {name} has {} parts, not degrees, minutes and seconds", parts.len()));
    };
    let [d, m, s] = [d, m, s].map(exif::Rational::to_f64);
    let value = d + m / 60.0 + s / 3600.0;
    // 60 by rounding.
    if !value.is_finite() || m > 60.0 || s > 60.0 {
        let parts: Vec<String> = parts.iter().take(3).map(|p| format!("{}/{}", p.num, p.denom)).collect();
        return Err(format!("EXIF {name} is {}, no degrees, minutes and seconds", parts.join(" ")));
    }
    // Without the hemisphere a position is half a guess, so it is none.
    match text(exif, reference) {
        Some(side) if side == plus => Ok(value),
        Some(side) if side == minus => Ok(-value),
        Some(side) => Err(format!("EXIF {name}Ref is {side:?}, neither {plus} nor {minus}")),
        None => Err(format!("EXIF {name}Ref is absent")),
    }
}
