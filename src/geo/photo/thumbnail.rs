//! The picture against its own thumbnail: the camera made both in one moment.

use std::io::Cursor;

use image::imageops::{self, FilterType};
use image::{GrayImage, ImageReader, Limits};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Likeness {
    Same,
    /// Upside down, or mirrored.
    Turned,
    /// The thumbnail shows more around it.
    CutOut,
    Other,
    /// No thumbnail, or nothing in it to compare by.
    Unknown,
}

/// The size that is compared at.
const SIDE: (u32, u32) = (48, 36);
/// Correlations: from here on two pictures are one, and below there they are not. Between, nothing is said.
const SAME: f64 = 0.8;
const UNLIKE: f64 = 0.5;
/// A turn or a cut must fit this much better than the picture as it is.
const BETTER: f64 = 0.25;
/// What a cut is tried to have left, of each side; the middle and the quarters around it.
const CUTS: &[f64] = &[0.8, 0.65, 0.5, 0.35];
/// Standard deviation of grey values below which a picture is a plain surface.
const PLAIN: f64 = 6.0;
/// A decoder's memory for one picture: 100 megapixels.
const MAX_BYTES: u64 = 400 * 1024 * 1024;

/// A cut of a known share must fit this much better than the whole, or worse.
const CLEARLY: f64 = 0.03;

/// `smaller`: where the picture is so much smaller than the camera wrote it, which a copy is as well as a cut.
pub(super) fn compare(picture: &[u8], thumbnail: Option<&[u8]>, smaller: Option<f64>) -> Likeness {
    let Some(thumbnail) = thumbnail.and_then(decode) else {
        return Likeness::Unknown;
    };
    let Some(picture) = decode(picture) else {
        return Likeness::Unknown;
    };
    let large = shrink(&picture);
    // A wide picture lies between black bars in some thumbnails and fills others.
    let views = views(&thumbnail, f64::from(picture.width()) / f64::from(picture.height().max(1)));
    let best = |of: &dyn Fn(&GrayImage) -> GrayImage| {
        views.iter().map(|view| correlation(&large, &of(&shrink(view)))).fold(f64::NEG_INFINITY, f64::max)
    };
    if spread(&large) < PLAIN || views.iter().all(|v| spread(&shrink(v)) < PLAIN) {
        return Likeness::Unknown;
    }
    let same = best(&GrayImage::clone);
    let best_cut = |shares: &[f64]| {
        let cuts = views.iter().flat_map(|view| cuts(view, shares));
        cuts.map(|cut| correlation(&large, &shrink(&cut))).fold(f64::NEG_INFINITY, f64::max)
    };
    if let Some(share) = smaller {
        let cut = best_cut(&[share]);
        if cut >= SAME && cut > same + CLEARLY {
            return Likeness::CutOut;
        }
        if same >= SAME && same <= cut + CLEARLY {
            return Likeness::Unknown;
        }
    }
    if same >= SAME {
        return Likeness::Same;
    }
    let turned = best(&|v| imageops::rotate180(v))
        .max(best(&|v| imageops::flip_horizontal(v)))
        .max(best(&|v| imageops::flip_vertical(v)));
    let cut = best_cut(CUTS);
    if turned >= SAME && turned > same + BETTER && turned >= cut {
        Likeness::Turned
    } else if cut >= SAME && cut > same + BETTER {
        Likeness::CutOut
    } else if same < UNLIKE {
        Likeness::Other
    } else {
        Likeness::Unknown
    }
}

fn decode(bytes: &[u8]) -> Option<GrayImage> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let grey = reader.decode().ok()?.into_luma8();
    (grey.width() >= 32 && grey.height() >= 24).then_some(grey)
}

fn shrink(picture: &GrayImage) -> GrayImage {
    // In two steps: a fast average first, then a smooth one.
    let (w, h) = SIDE;
    let middle = if picture.width() > 8 * w { imageops::thumbnail(picture, 4 * w, 4 * h) } else { picture.clone() };
    imageops::resize(&middle, w, h, FilterType::Triangle)
}

/// The whole thumbnail, and the part of it that a picture of this shape takes up between bars.
fn views(thumbnail: &GrayImage, shape: f64) -> Vec<GrayImage> {
    let (w, h) = (f64::from(thumbnail.width()), f64::from(thumbnail.height()));
    let (cw, ch) = if shape > w / h { (w, w / shape) } else { (h * shape, h) };
    let part = window(thumbnail, (w - cw) / 2.0, (h - ch) / 2.0, cw, ch);
    vec![thumbnail.clone(), part]
}

fn window(picture: &GrayImage, x: f64, y: f64, w: f64, h: f64) -> GrayImage {
    let px = |v: f64| v.round().max(0.0) as u32;
    imageops::crop_imm(picture, px(x), px(y), px(w).max(1), px(h).max(1)).to_image()
}

/// What the thumbnail would show had the picture been cut out of it.
fn cuts(view: &GrayImage, shares: &[f64]) -> Vec<GrayImage> {
    let (w, h) = (f64::from(view.width()), f64::from(view.height()));
    let mut found = Vec::new();
    for share in shares {
        let (room_x, room_y) = (w * (1.0 - share), h * (1.0 - share));
        for across in 0..5 {
            for down in 0..5 {
                found.push(window(
                    view,
                    room_x * f64::from(across) / 4.0,
                    room_y * f64::from(down) / 4.0,
                    w * share,
                    h * share,
                ));
            }
        }
    }
    found
}

fn mean(picture: &GrayImage) -> f64 {
    picture.as_raw().iter().map(|v| f64::from(*v)).sum::<f64>() / picture.as_raw().len().max(1) as f64
}

fn spread(picture: &GrayImage) -> f64 {
    let mean = mean(picture);
    let square: f64 = picture.as_raw().iter().map(|v| (f64::from(*v) - mean).powi(2)).sum();
    (square / picture.as_raw().len().max(1) as f64).sqrt()
}

/// Pearson's, of two pictures of one size.
fn correlation(a: &GrayImage, b: &GrayImage) -> f64 {
    let (ma, mb) = (mean(a), mean(b));
    let product: f64 =
        a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| (f64::from(*a) - ma) * (f64::from(*b) - mb)).sum();
    let scale = spread(a) * spread(b) * a.as_raw().len() as f64;
    if scale > 0.0 { product / scale } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A landscape of its own: hills of grey, nowhere symmetric.
    fn scene(w: u32, h: u32) -> GrayImage {
        GrayImage::from_fn(w, h, |x, y| {
            let (u, v) = (f64::from(x) / f64::from(w), f64::from(y) / f64::from(h));
            let wave =
                (9.0 * u + 3.0 * v * v).sin() + (7.0 * v * u + 11.0 * v).cos() + (23.0 * u * v).sin() + 1.5 * u - v;
            image::Luma([(120.0 + 35.0 * wave).clamp(0.0, 255.0) as u8])
        })
    }

    fn jpeg(picture: &GrayImage) -> Vec<u8> {
        let mut bytes = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 85).encode_image(picture).unwrap();
        bytes
    }

    #[test]
    fn a_picture_is_like_its_thumbnail_filled_or_between_bars_and_not_when_turned_or_cut() {
        let whole = scene(800, 450);
        let filled = imageops::resize(&whole, 160, 120, FilterType::Triangle);
        let mut barred = GrayImage::new(160, 120);
        imageops::replace(&mut barred, &imageops::resize(&whole, 160, 90, FilterType::Triangle), 0, 15);
        for thumbnail in [filled, barred] {
            let see = |picture: &GrayImage| compare(&jpeg(picture), Some(&jpeg(&thumbnail)), None);
            assert_eq!(see(&whole), Likeness::Same);
            assert_eq!(see(&imageops::rotate180(&whole)), Likeness::Turned);
            assert_eq!(see(&imageops::flip_horizontal(&whole)), Likeness::Turned);
            assert_eq!(see(&imageops::crop_imm(&whole, 200, 112, 400, 225).to_image()), Likeness::CutOut);
            assert_ne!(see(&imageops::resize(&whole, 400, 225, FilterType::Triangle)), Likeness::CutOut);
            // Both are half as large as the camera wrote.
            let half = |picture: &GrayImage| compare(&jpeg(picture), Some(&jpeg(&thumbnail)), Some(0.5));
            assert_eq!(half(&imageops::resize(&whole, 400, 225, FilterType::Triangle)), Likeness::Same);
            assert_eq!(half(&imageops::crop_imm(&whole, 400, 225, 400, 225).to_image()), Likeness::CutOut);
            // And a rim that is gone changes the picture little.
            let nearly = |picture: &GrayImage| compare(&jpeg(picture), Some(&jpeg(&thumbnail)), Some(0.9));
            assert_eq!(nearly(&imageops::resize(&whole, 720, 405, FilterType::Triangle)), Likeness::Same);
            assert_ne!(nearly(&imageops::crop_imm(&whole, 40, 22, 720, 405).to_image()), Likeness::Same);
        }
    }

    #[test]
    fn without_a_thumbnail_or_anything_in_it_nothing_is_said() {
        let whole = jpeg(&scene(400, 300));
        assert_eq!(compare(&whole, None, None), Likeness::Unknown);
        assert_eq!(compare(&whole, Some(b"no picture"), None), Likeness::Unknown);
        assert_eq!(compare(&whole, Some(&jpeg(&GrayImage::new(160, 120))), None), Likeness::Unknown);
    }
}
