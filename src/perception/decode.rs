//! Opening a picture: bytes to pixels, as it was captured (no rotation by EXIF: the pose speaks of the sensor's pixels).

use std::path::{Path, PathBuf};

use image::RgbImage;
use opencv::core::{CV_8UC3, Mat, MatTraitConst, MatTraitConstManual, Size, Vec3b};
use opencv::{imgcodecs, imgproc};

use super::manifest::Color;

#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("cannot read {path}: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path} is empty")]
    Empty { path: PathBuf },
    #[error("{path} is a truncated JPEG: it ends before its end-of-image marker; copy it from the camera again")]
    Truncated { path: PathBuf },
    #[error("{path} is not a picture that can be decoded ({message}); JPEG, PNG, TIFF, WebP and BMP are read")]
    NotAPicture { path: PathBuf, message: String },
    #[error("{path} has {megapixels} megapixels, more than the {limit} that are decoded")]
    TooLarge { path: PathBuf, megapixels: u64, limit: u64 },
}

/// Larger pictures are refused before they are decoded: they would take gigabytes.
const MEGAPIXEL_LIMIT: u64 = 200;

/// Pixels as they lie in memory: 8 bits, three channels, rows without gaps.
#[derive(Debug, Clone, Copy)]
pub struct Pixels<'a> {
    pub bytes: &'a [u8],
    pub width: u32,
    pub height: u32,
    pub color: Color,
}

impl<'a> From<&'a RgbImage> for Pixels<'a> {
    fn from(picture: &'a RgbImage) -> Pixels<'a> {
        Pixels { bytes: picture.as_raw(), width: picture.width(), height: picture.height(), color: Color::Rgb }
    }
}

impl Pixels<'_> {
    /// Shrinks or enlarges; areas are averaged when shrinking, so that nothing aliases.
    pub fn resized(&self, width: u32, height: u32) -> Result<Picture, opencv::Error> {
        let from = Mat::new_rows_cols_with_bytes::<Vec3b>(self.height as i32, self.width as i32, self.bytes)?;
        let interpolation = if width < self.width { imgproc::INTER_AREA } else { imgproc::INTER_LINEAR };
        let mut to = Mat::default();
        imgproc::resize(&from, &mut to, Size::new(width as i32, height as i32), 0.0, 0.0, interpolation)?;
        Ok(Picture { mat: to, color: self.color })
    }
}

/// A decoded picture. OpenCV's memory is used as it is: a 4K frame is 25 MB, and is not copied to be looked at.
pub struct Picture {
    mat: Mat,
    color: Color,
}

impl Picture {
    /// Of what OpenCV decoded: blue, green, red.
    pub fn from_mat(mat: Mat) -> Result<Picture, String> {
        if mat.empty() || mat.typ() != CV_8UC3 || !mat.is_continuous() {
            return Err("unknown format or damaged".to_owned());
        }
        Ok(Picture { mat, color: Color::Bgr })
    }

    pub fn from_rgb(picture: &RgbImage) -> Result<Picture, opencv::Error> {
        let (rows, columns) = (picture.height() as i32, picture.width() as i32);
        let mat = Mat::new_rows_cols_with_bytes::<Vec3b>(rows, columns, picture.as_raw())?.try_clone()?;
        Ok(Picture { mat, color: Color::Rgb })
    }

    pub fn width(&self) -> u32 {
        self.mat.cols() as u32
    }

    pub fn height(&self) -> u32 {
        self.mat.rows() as u32
    }

    pub fn pixels(&self) -> Pixels<'_> {
        // Continuous and of bytes, as its makers saw to.
        let bytes = self.mat.data_bytes().unwrap_or_default();
        Pixels { bytes, width: self.width(), height: self.height(), color: self.color }
    }

    /// Brought to a size, red first: what a model is fed from.
    pub fn rgb_sized(&self, width: u32, height: u32) -> Result<Picture, opencv::Error> {
        let sized = match (width, height) == (self.width(), self.height()) {
            true => None,
            false => Some(self.pixels().resized(width, height)?),
        };
        let from = sized.as_ref().unwrap_or(self);
        let mut mat = Mat::default();
        match self.color {
            Color::Rgb if sized.is_none() => mat = self.mat.try_clone()?,
            Color::Rgb => return Ok(sized.unwrap_or_else(|| Picture { mat, color: Color::Rgb })),
            Color::Bgr => imgproc::cvt_color_def(&from.mat, &mut mat, imgproc::COLOR_BGR2RGB)?,
        }
        Ok(Picture { mat, color: Color::Rgb })
    }

    pub fn into_rgb(self) -> Result<RgbImage, opencv::Error> {
        let mut rgb = Mat::default();
        match self.color {
            Color::Rgb => rgb = self.mat,
            Color::Bgr => imgproc::cvt_color_def(&self.mat, &mut rgb, imgproc::COLOR_BGR2RGB)?,
        }
        let (width, height) = (rgb.cols() as u32, rgb.rows() as u32);
        RgbImage::from_raw(width, height, rgb.data_bytes()?.to_vec())
            .ok_or_else(|| opencv::Error::new(opencv::core::StsBadSize, "the conversion changed the layout"))
    }
}

pub fn open_rgb(path: &Path) -> Result<RgbImage, DecodeError> {
    Encoded::open(path)?.rgb()
}

/// Decodes `bytes`; `path` is only for the errors.
pub fn rgb_from(path: &Path, bytes: &[u8]) -> Result<RgbImage, DecodeError> {
    Encoded::new(path, bytes.to_vec())?.rgb()
}

/// A picture's file, known to be whole and not too large, not decoded yet.
pub struct Encoded {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Width and height, where the header is of a format we read.
    size: Option<(u32, u32)>,
}

impl Encoded {
    pub fn open(path: &Path) -> Result<Encoded, DecodeError> {
        let bytes = std::fs::read(path).map_err(|source| DecodeError::Unreadable { path: path.to_owned(), source })?;
        Encoded::new(path, bytes)
    }

    /// `path` is only for the errors.
    pub fn new(path: &Path, bytes: Vec<u8>) -> Result<Encoded, DecodeError> {
        let path = path.to_owned();
        if bytes.is_empty() {
            return Err(DecodeError::Empty { path });
        }
        // libjpeg fills what is missing with grey and carries on; a half-grey picture must not be judged.
        if bytes.starts_with(&[0xFF, 0xD8]) && !jpeg_is_whole(&bytes) {
            return Err(DecodeError::Truncated { path });
        }
        let reader = image::ImageReader::new(std::io::Cursor::new(&bytes)).with_guessed_format();
        let size = reader.ok().and_then(|reader| reader.into_dimensions().ok());
        if let Some((width, height)) = size {
            let megapixels = u64::from(width) * u64::from(height) / 1_000_000;
            if megapixels > MEGAPIXEL_LIMIT {
                return Err(DecodeError::TooLarge { path, megapixels, limit: MEGAPIXEL_LIMIT });
            }
        }
        Ok(Encoded { path, bytes, size })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn size(&self) -> Option<(u32, u32)> {
        self.size
    }

    pub fn whole(&self) -> Result<Picture, DecodeError> {
        self.decode(imgcodecs::IMREAD_COLOR)
    }

    pub fn rgb(&self) -> Result<RgbImage, DecodeError> {
        self.whole()?.into_rgb().map_err(|error| self.undecodable(error.message))
    }

    /// Decoded to a half, a quarter or an eighth of its size, where that still is `width` wide: the codec leaves out the
    /// work for the rest.
    pub fn at_least(&self, width: u32) -> Result<Picture, DecodeError> {
        let full = self.size.map_or(0, |(full, _)| full);
        let reduced = [
            (8, imgcodecs::IMREAD_REDUCED_COLOR_8),
            (4, imgcodecs::IMREAD_REDUCED_COLOR_4),
            (2, imgcodecs::IMREAD_REDUCED_COLOR_2),
        ];
        let flags =
            reduced.iter().find(|(by, _)| full / by >= width.max(1)).map_or(imgcodecs::IMREAD_COLOR, |(_, f)| *f);
        self.decode(flags)
    }

    fn decode(&self, flags: i32) -> Result<Picture, DecodeError> {
        let buffer = Mat::new_rows_cols_with_bytes::<u8>(1, self.bytes.len() as i32, &self.bytes)
            .map_err(|error| self.undecodable(error.message))?;
        let mat = imgcodecs::imdecode(&buffer, flags | imgcodecs::IMREAD_IGNORE_ORIENTATION)
            .map_err(|error| self.undecodable(error.message))?;
        Picture::from_mat(mat).map_err(|message| self.undecodable(message))
    }

    fn undecodable(&self, message: String) -> DecodeError {
        DecodeError::NotAPicture { path: self.path.clone(), message }
    }
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

/// [`Pixels::resized`] for pictures of the other library.
pub fn resize(picture: &RgbImage, width: u32, height: u32) -> Result<RgbImage, opencv::Error> {
    if picture.dimensions() == (width, height) {
        return Ok(picture.clone());
    }
    Pixels::from(picture).resized(width, height)?.into_rgb()
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
    fn a_picture_that_is_needed_small_is_decoded_small_but_never_smaller_than_asked() {
        let encoded = Encoded::new(Path::new("a.jpg"), jpeg()).unwrap();
        let width = |asked: u32| encoded.at_least(asked).map(|p| (p.width(), p.height())).unwrap();
        assert_eq!(
            (width(64), width(33), width(32), width(15), width(1)),
            ((64, 48), (64, 48), (32, 24), (16, 12), (8, 6))
        );
        assert_eq!(encoded.size(), Some((64, 48)));
    }

    #[test]
    fn cmyk_and_sixteen_bits_become_eight_bit_colour() {
        // Cyan and yellow full, as a printer's JPEG: 8 by 8, made with Pillow.
        let cmyk = "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwADAgIDAgIDAwMDBAMDBAUIBQUEBAUKBwcGCAwKDAwLCgsLDQ4SEA0OEQ4LCxAWEBETFBUVFQwPFxgWFBgSFBUU\
            /8AAFAgACAAIBEMRAE0RAFkRAEsRAP/EAB8AAAEFAQEBAQEBAAAAAAAAAAABAgMEBQYHCAkKC//EALUQAAIBAwMCBAMFBQQEAAABfQECAwAEEQUSITFBBhNRYQci\
            cRQygZGhCCNCscEVUtHwJDNicoIJChYXGBkaJSYnKCkqNDU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6g4SFhoeIiYqSk5SVlpeYmZqio6Sl\
            pqeoqaqys7S1tre4ubrCw8TFxsfIycrS09TV1tfY2drh4uPk5ebn6Onq8fLz9PX29/j5+v/aAA4EQwBNAFkASwAAPwD8qq/VOvyqr9U6/9k=";
        let cmyk: String = cmyk.chars().filter(|c| !c.is_whitespace()).collect();
        use base64::Engine;
        let bytes = base64::engine::general_purpose::STANDARD.decode(cmyk).unwrap();
        let [red, green, blue] = rgb_from(Path::new("cmyk.jpg"), &bytes).unwrap().get_pixel(4, 4).0;
        assert!(red < 40 && green > 200 && blue < 40, "{red} {green} {blue}");
        let deep = image::ImageBuffer::<image::Rgb<u16>, _>::from_pixel(20, 10, image::Rgb([65_535u16, 32_768, 0]));
        let mut png = std::io::Cursor::new(Vec::new());
        deep.write_to(&mut png, image::ImageFormat::Png).unwrap();
        assert_eq!(rgb_from(Path::new("deep.png"), png.get_ref()).unwrap().get_pixel(3, 3).0, [255, 128, 0]);
    }

    #[test]
    fn text_is_not_a_picture() {
        assert!(matches!(rgb_from(Path::new("a.txt"), b"hello"), Err(DecodeError::NotAPicture { .. })));
    }
}
