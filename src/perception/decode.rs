//! Opening a picture: bytes to RGB, as it was captured (no rotation by EXIF: the pose speaks of the sensor's pixels).

use std::path::{Path, PathBuf};

use image::RgbImage;
use opencv::core::{Mat, MatTraitConst, MatTraitConstManual, Vector};
use opencv::{imgcodecs, imgproc};

#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("cannot read {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path} is empty")]
    Empty { path: PathBuf },
    #[error("{path} is a truncated JPEG: it ends before its end-of-image marker; copy it from the camera again")]
    Truncated { path: PathBuf },
    #[error("{path} is not a picture that can be decoded ({message})")]
    NotAPicture { path: PathBuf, message: String },
    #[error("{path} has {megapixels} megapixels, more than the {limit} that are decoded")]
    TooLarge { path: PathBuf, megapixels: u64, limit: u64 },
}

/// Larger pictures are refused before they are decoded: they would take gigabytes.
const MEGAPIXEL_LIMIT: u64 = 200;

pub fn open_rgb(path: &Path) -> Result<RgbImage, DecodeError> {
    let bytes = std::fs::read(path).map_err(|source| DecodeError::Unreadable { path: path.to_owned(), source })?;
    rgb_from(path, &bytes)
}

/// Decodes `bytes`; `path` is only for the errors.
pub fn rgb_from(path: &Path, bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    let path = || path.to_owned();
    if bytes.is_empty() {
        return Err(DecodeError::Empty { path: path() });
    }
    // libjpeg fills what is missing with grey and carries on; a half-grey picture must not be judged.
    if bytes.starts_with(&[0xFF, 0xD8]) && !jpeg_is_whole(bytes) {
        return Err(DecodeError::Truncated { path: path() });
    }
    if let Ok((width, height)) = image::ImageReader::new(std::io::Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|_| ())
        .and_then(|r| r.into_dimensions().map_err(|_| ()))
    {
        let megapixels = u64::from(width) * u64::from(height) / 1_000_000;
        if megapixels > MEGAPIXEL_LIMIT {
            return Err(DecodeError::TooLarge { path: path(), megapixels, limit: MEGAPIXEL_LIMIT });
        }
    }
    let undecodable = |message: String| DecodeError::NotAPicture { path: path(), message };
    let buffer = Vector::<u8>::from_slice(bytes);
    let flags = imgcodecs::IMREAD_COLOR | imgcodecs::IMREAD_IGNORE_ORIENTATION;
    let bgr = imgcodecs::imdecode(&buffer, flags).map_err(|error| undecodable(error.message))?;
    if bgr.empty() {
        return Err(undecodable("unknown format or damaged".to_owned()));
    }
    let (width, height) = (bgr.cols() as u32, bgr.rows() as u32);
    let mut rgb = Mat::default();
    imgproc::cvt_color_def(&bgr, &mut rgb, imgproc::COLOR_BGR2RGB).map_err(|error| undecodable(error.message))?;
    let pixels = rgb.data_bytes().map_err(|error| undecodable(error.message))?.to_vec();
    RgbImage::from_raw(width, height, pixels).ok_or_else(|| undecodable("unexpected layout".to_owned()))
}

/// Walks the segments to the start of the scan and looks for the end-of-image marker behind it: the thumbnail that
/// cameras put in front has one of its own.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[0xFF, marker]) = bytes.get(at..at + 2) {
        if marker == 0xDA {
            return bytes[at..].windows(2).any(|pair| pair == [0xFF, 0xD9]);
        }
        let Some(&[high, low]) = bytes.get(at + 2..at + 4) else { return false };
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
    false
}

/// Shrinks or enlarges by `scale`; areas are averaged when shrinking, so that nothing aliases.
pub fn resize(picture: &RgbImage, width: u32, height: u32) -> Result<RgbImage, opencv::Error> {
    if picture.dimensions() == (width, height) {
        return Ok(picture.clone());
    }
    let from = Mat::new_rows_cols_with_bytes::<opencv::core::Vec3b>(
        picture.height() as i32,
        picture.width() as i32,
        picture.as_raw(),
    )?;
    let interpolation = if width < picture.width() { imgproc::INTER_AREA } else { imgproc::INTER_LINEAR };
    let mut to = Mat::default();
    let size = opencv::core::Size::new(width as i32, height as i32);
    imgproc::resize(&from, &mut to, size, 0.0, 0.0, interpolation)?;
    RgbImage::from_raw(width, height, to.data_bytes()?.to_vec())
        .ok_or_else(|| opencv::Error::new(opencv::core::StsBadSize, "resize changed the layout"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jpeg() -> Vec<u8> {
        let picture = RgbImage::from_fn(64, 48, |x, y| image::Rgb([x as u8 * 3, y as u8 * 5, 90]));
        let mut bytes = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95).encode_image(&picture).unwrap();
        bytes
    }

    #[test]
    fn colours_come_out_as_red_green_blue() {
        let picture = rgb_from(Path::new("a.jpg"), &jpeg()).unwrap();
        let [red, green, blue] = picture.get_pixel(60, 2).0;
        assert!(red > 150 && green < 50 && (60..120).contains(&blue), "{red} {green} {blue}");
    }

    #[test]
    fn a_truncated_jpeg_is_refused_not_filled_with_grey() {
        let whole = jpeg();
        let cut = &whole[..whole.len() * 2 / 3];
        assert!(matches!(rgb_from(Path::new("cut.jpg"), cut), Err(DecodeError::Truncated { .. })));
        assert!(matches!(rgb_from(Path::new("cut.jpg"), &whole[..3]), Err(DecodeError::Truncated { .. })));
    }

    #[test]
    fn text_is_not_a_picture() {
        assert!(matches!(rgb_from(Path::new("a.txt"), b"hello"), Err(DecodeError::NotAPicture { .. })));
    }
}
