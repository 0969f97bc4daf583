//! The few EXIF fields that matter here. A damaged block gives what could be read of it.

use exif::{Exif, Field, In, Reader, Tag, Value};

use crate::geo::LatLon;

/// What was found; absent where missing or unusable.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub model: Option<String>,
    pub taken: Option<String>,
    pub orientation: Option<u32>,
    pub position: Option<LatLon>,
    pub focal_mm: Option<f64>,
    pub focal_35mm: Option<f64>,
    pub digital_zoom: Option<f64>,
    /// The width that the camera wrote; the picture may have been resized since.
    pub width_px: Option<f64>,
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
    Fields {
        model: text(&exif, Tag::Model),
        taken: text(&exif, Tag::DateTimeOriginal),
        orientation: field(&exif, Tag::Orientation).and_then(|f| f.value.get_uint(0)),
        position: position(&exif),
        focal_mm: number(&exif, Tag::FocalLength),
        focal_35mm: number(&exif, Tag::FocalLengthIn35mmFilm),
        digital_zoom: number(&exif, Tag::DigitalZoomRatio),
        width_px: number(&exif, Tag::PixelXDimension),
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

/// A positive number; zero is EXIF's "unknown" for every field that is asked for here.
fn number(exif: &Exif, tag: Tag) -> Option<f64> {
    let value = &field(exif, tag)?.value;
    let number = match value {
        Value::Rational(r) => r.first()?.to_f64(),
        _ => f64::from(value.get_uint(0)?),
    };
    (number.is_finite() && number > 0.0).then_some(number)
}

fn position(exif: &Exif) -> Option<LatLon> {
    // V is "void": the receiver had no fix and the numbers are old or nothing.
    if text(exif, Tag::GPSStatus).as_deref() == Some("V") {
        return None;
    }
    let degrees = |tag| {
        let Value::Rational(parts) = &field(exif, tag)?.value else {
            return None;
        };
        let [d, m, s] = parts.get(..3)? else {
            return None;
        };
        let value = d.to_f64() + m.to_f64() / 60.0 + s.to_f64() / 3600.0;
        value.is_finite().then_some(value)
    };
    // Without the hemisphere a position is half a guess, so it is none.
    let lat = match text(exif, Tag::GPSLatitudeRef)?.as_str() {
        "N" => degrees(Tag::GPSLatitude)?,
        "S" => -degrees(Tag::GPSLatitude)?,
        _ => return None,
    };
    let lon = match text(exif, Tag::GPSLongitudeRef)?.as_str() {
        "E" => degrees(Tag::GPSLongitude)?,
        "W" => -degrees(Tag::GPSLongitude)?,
        _ => return None,
    };
    Some(LatLon { lat, lon })
}
