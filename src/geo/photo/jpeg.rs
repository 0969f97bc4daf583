//! Finds the metadata segments of a JPEG. Only the header is walked; each segment is at most 64 KiB by the format itself.

const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
/// No camera writes more segments before the picture; a file that does is walking us in circles.
const MAX_SEGMENTS: usize = 1_000;

/// The payloads found, without their identifiers.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Segments<'a> {
    pub exif: Option<&'a [u8]>,
    pub xmp: Option<&'a [u8]>,
}

/// The first EXIF and XMP segments; none from a file that is no JPEG. A file cut off in between gives what came before.
pub(super) fn metadata(bytes: &[u8]) -> Segments<'_> {
    let mut found = Segments::default();
    let Some(mut rest) = bytes.strip_prefix(&[0xff, 0xd8]) else {
        return found;
    };
    for _ in 0..MAX_SEGMENTS {
        let [0xff, marker, after @ ..] = rest else {
            break;
        };
        match marker {
            // Padding before a marker, and markers without a payload.
            0xff => rest = &rest[1..],
            0x01 | 0xd0..=0xd7 => rest = after,
            // The compressed picture or the end: no metadata of interest beyond.
            0xda | 0xd9 => break,
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
                        found.xmp.get_or_insert(xmp);
                    }
                }
                rest = &after[length..];
            }
        }
    }
    found
}
