//! Pictures that no longer match their pose: turned, cropped, resaved. What is sure is refused; what is only possible is
//! flagged, and the ellipse is widened.

use super::PhotoError;
use super::exif::Fields;
use super::xmp::{Properties, Words};

/// Programs that change pictures, as they sign themselves in EXIF Software and XMP CreatorTool. What cameras sign with
/// (firmware versions, model codes) is none of them.
const EDITORS: &[&str] = &[
    "photoshop",
    "lightroom",
    "camera raw",
    "gimp",
    "snapseed",
    "picasa",
    "acdsee",
    "affinity",
    "paint",
    "pixelmator",
    "darktable",
    "rawtherapee",
    "capture one",
    "imagemagick",
    "xnview",
    "irfanview",
    "faststone",
    "luminar",
    "photopea",
    "polarr",
    "vsco",
    "meitu",
    "windows photo",
    "photos ",
    "google",
    "instagram",
    "facebook",
    "corel",
    "dxo",
    "topaz",
    "adobe",
];
/// Shapes that drone cameras write: 4:3, 3:2, 16:9, 5:4, 1:1, 17:9, and those of Autel's 48 MP camera and of the Bebop 2.
const SHAPES: &[f64] =
    &[4.0 / 3.0, 3.0 / 2.0, 16.0 / 9.0, 5.0 / 4.0, 1.0, 256.0 / 135.0, 7680.0 / 6000.0, 4096.0 / 3320.0];
/// Formats are rounded to whole blocks of the codec: 4056 × 3040, 5280 × 3956.
const SHAPE_TOLERANCE: f64 = 0.01;

/// What was noticed.
#[derive(Debug, Default)]
pub(super) struct Signs {
    /// In words, for notes.
    pub notes: Vec<String>,
    /// An editor had it in hands: its geometry may have been changed.
    pub edited: bool,
}

pub(super) fn look(width: u32, height: u32, exif: &Fields, xmp: &Properties) -> Result<Signs, PhotoError> {
    // Orientation 1 is "as stored"; 0 and absent mean that nobody said otherwise.
    if let Some(orientation @ 2..) = exif.orientation {
        return Err(PhotoError::Turned(orientation));
    }
    let shape = f64::from(width) / f64::from(height.max(1));
    if let (Some(w), Some(h)) = (exif.width_px, exif.height_px) {
        if (shape / (h / w) - 1.0).abs() < SHAPE_TOLERANCE && (w / h - 1.0).abs() > SHAPE_TOLERANCE {
            return Err(PhotoError::Reshaped {
                width,
                height,
                was_width: w as u32,
                was_height: h as u32,
                turned: true,
            });
        }
        if (shape / (w / h) - 1.0).abs() > SHAPE_TOLERANCE {
            return Err(PhotoError::Reshaped {
                width,
                height,
                was_width: w as u32,
                was_height: h as u32,
                turned: false,
            });
        }
    }
    let editor = |name| xmp.text(Words::Editor, name);
    let mut signs = Signs::default();
    if editor("HasCrop").is_some_and(|v| v.eq_ignore_ascii_case("true")) {
        if !editor("AlreadyApplied").is_some_and(|v| v.eq_ignore_ascii_case("false")) {
            return Err(PhotoError::Cropped);
        }
        signs.edited = true;
        signs.notes.push("a crop was set in an editor (crs:HasCrop), by its own word not applied yet".to_owned());
    }
    let signed = [exif.software.as_deref(), editor("CreatorTool")];
    let program = signed.into_iter().flatten().find(|text| {
        let text = text.to_ascii_lowercase();
        EDITORS.iter().any(|editor| text.contains(editor))
    });
    let traces = ["ColorMode", "ICCProfile", "History"].iter().any(|name| editor(name).is_some())
        || editor("AlreadyApplied").is_some_and(|v| v.eq_ignore_ascii_case("true"));
    if let Some(program) = program {
        signs.edited = true;
        signs.notes.push(format!(
            "edited with {program}: it may have been cropped, turned or warped since its pose was written"
        ));
    } else if traces {
        signs.edited = true;
        signs.notes.push(
            "an image editor left its traces: it may have been cropped, turned or warped since its pose was written"
                .to_owned(),
        );
    }
    if !SHAPES.iter().any(|s| (shape / s - 1.0).abs() < SHAPE_TOLERANCE) {
        if shape < 1.0 {
            return Err(PhotoError::Reshaped { width, height, was_width: height, was_height: width, turned: true });
        }
        signs.edited = true;
        signs.notes.push(format!("{width} × {height} is no shape that drone cameras write: it may have been cropped"));
    }
    Ok(signs)
}
