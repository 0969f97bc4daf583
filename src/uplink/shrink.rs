//! Pure: a picture made small enough for a broker that takes no larger one.

use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;

const QUALITY: u8 = 80;
/// Narrower than this a picture proves nothing.
const LEAST_WIDTH: u32 = 320;

/// A smaller copy.
pub(super) struct Shrunk {
    pub jpeg: Vec<u8>,
    pub width: u32,
    pub height: u32,
}

/// The largest copy of a JPEG that has at most `limit` bytes; none when it is no JPEG or even a small one is too large.
pub(super) fn fit(jpeg: &[u8], limit: u64) -> Option<Shrunk> {
    let picture = image::load_from_memory_with_format(jpeg, image::ImageFormat::Jpeg).ok()?.into_rgb8();
    let mut scale = (limit as f64 / jpeg.len().max(1) as f64).sqrt().min(1.0);
    loop {
        let width = (f64::from(picture.width()) * scale) as u32;
        let height = ((f64::from(picture.height()) * scale) as u32).max(1);
        if width < LEAST_WIDTH.min(picture.width()) || width == 0 {
            return None;
        }
        let small = image::imageops::resize(&picture, width, height, FilterType::Triangle);
        let mut jpeg = Vec::new();
        JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&small).ok()?;
        if jpeg.len() as u64 <= limit {
            return Some(Shrunk { jpeg, width, height });
        }
        scale *= 0.85;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Vec<u8> {
        let noise = |x: u32, y: u32| (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)) as u8;
        let picture = image::RgbImage::from_fn(1200, 900, |x, y| image::Rgb([noise(x, y), noise(y, x), 90]));
        let mut jpeg = Vec::new();
        JpegEncoder::new_with_quality(&mut jpeg, 90).encode_image(&picture).unwrap();
        jpeg
    }

    #[test]
    fn a_picture_is_scaled_until_it_fits_and_keeps_its_shape() {
        let large = picture();
        let limit = large.len() as u64 / 3;
        let small = fit(&large, limit).unwrap();
        assert!(small.jpeg.len() as u64 <= limit && small.width < 1200);
        assert!((f64::from(small.width) / f64::from(small.height) - 4.0 / 3.0).abs() < 0.02);
        assert!(image::load_from_memory(&small.jpeg).is_ok());
    }

    #[test]
    fn what_is_no_picture_or_cannot_be_made_small_enough_is_left_alone() {
        assert!(fit(b"not a picture", 10).is_none());
        assert!(fit(&picture(), 500).is_none());
    }
}
