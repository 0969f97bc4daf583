//! Finds the metadata of a picture file. Of a JPEG only the header is walked, where each segment is at most 64 KiB by the
//! format itself; a TIFF is its own EXIF block and keeps XMP in a tag.

use std::borrow::Cow;
use std::io::Cursor;

use tiff::decoder::Decoder;
use tiff::tags::Tag;

const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
/// No camera writes more segments before the picture; a file that does is walking us in circles.
const MAX_SEGMENTS: usize = 1_000;

/// The tag of XMP in a TIFF.
const TIFF_XMP: u16 = 700;

/// The payloads found, without their identifiers.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Segments<'a> {
    pub exif: Option<&'a [u8]>,
    pub xmp: Option<Cow<'a, [u8]>>,
    /// Of a JPEG: it ends before its picture does.
    pub cut: bool,
}

/// Width and height, without decoding the picture.
pub(super) fn dimensions(bytes: &[u8]) -> Result<(u32, u32), String> {
    if is_tiff(bytes) {
        return Decoder::new(Cursor::new(bytes)).and_then(|mut tiff| tiff.dimensions()).map_err(|e| e.to_string());
    }
    let reader = image::ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    reader.into_dimensions().map_err(|e| e.to_string())
}

fn is_tiff(bytes: &[u8]) -> bool {
    bytes.starts_with(b"II*\0") || bytes.starts_with(b"MM\0*")
}

/// The metadata of a file of any kind that is known here.
pub(super) fn metadata(bytes: &[u8]) -> Segments<'_> {
    if !is_tiff(bytes) {
        return jpeg(bytes);
    }
    let xmp = Decoder::new(Cursor::new(bytes))
        .and_then(|mut tiff| tiff.get_tag_u8_vec(Tag::from_u16_exhaustive(TIFF_XMP)))
        .ok();
    Segments { exif: Some(bytes), xmp: xmp.map(Cow::Owned), cut: false }
}

/// The first EXIF and XMP segments; none from a file that is no JPEG. A file cut off in between gives what came before.
fn jpeg(bytes: &[u8]) -> Segments<'_> {
    let mut found = Segments::default();
    let Some(mut rest) = bytes.strip_prefix(&[0xff, 0xd8]) else {
        return found;
    };
    found.cut = true;
    // Compressed data holds no end marker but the end.
    let no_end = |rest: &[u8]| !rest.windows(2).rev().any(|two| two == [0xff, 0xd9]);
    for walked in 0.. {
        if walked == MAX_SEGMENTS {
            found.cut = no_end(rest);
            break;
        }
        let [0xff, marker, after @ ..] = rest else {
            break;
        };
        match marker {
            // Padding before a marker, and markers without a payload.
            0xff => rest = &rest[1..],
            0x01 | 0xd0..=0xd7 => rest = after,
            // The compressed picture or the end: no metadata of interest beyond.
            0xda | 0xd9 => {
                found.cut = no_end(rest);
                break;
            }
            _ => {
                let [high, low, ..] = after else {
                    break;
                };
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let Some(payload) = after.get(2..length) else {
                    break;
                };
                if *marker == 0xe1 {
                    if let Some(exif) = payload.strip_prefix(EXIF) {
                        found.exif.get_or_insert(exif);
                    } else if let Some(xmp) = payload.strip_prefix(XMP) {
                        found.xmp.get_or_insert(Cow::Borrowed(xmp));
                    }
                }
                rest = &after[length..];
            }
        }
    }
    found
}
