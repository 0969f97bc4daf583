//! Pure: whether a picture can be judged at all. Measured at the model's own scale: blur that the model would not notice
//! is none, and noise of a sensor's single pixels is averaged away before it could pass for sharpness.

use super::decode::Pixels;

/// What a picture is like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// 0 (all smeared) to 1. Of the two directions the worse: motion smears one.
    pub sharpness: f32,
    /// Share of the pixels that are nearly black, and nearly white.
    pub dark: f32,
    pub bright: f32,
}

/// Why a picture is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unusable {
    Blurred,
    BadlyExposed,
}

/// Below this, edges are smeared over some five pixels of the model's scale, and recall has halved (see docs/performance.md).
const SHARP_ENOUGH: f32 = 0.40;
/// When so much of a picture shows nothing, what is left is not worth judging.
const BLANK_SHARE: f32 = 0.6;
const BLACK: u8 = 16;
const WHITE: u8 = 250;

impl Quality {
    pub fn unusable(&self) -> Option<Unusable> {
        if self.dark > BLANK_SHARE || self.bright > BLANK_SHARE {
            return Some(Unusable::BadlyExposed);
        }
        (self.sharpness < SHARP_ENOUGH).then_some(Unusable::Blurred)
    }
}

/// Half the width of the low-pass that a picture is compared with.
const REACH: usize = 4;
/// Rows and columns that are measured: blur is everywhere.
const LINES: usize = 160;
/// A difference of neighbours below this says nothing: sensor noise and compression.
const NOISE: i32 = 3;

/// Measures a picture. Sharpness is after Crété et al., "The Blur Effect" (2007): how much of the differences between
/// neighbours a further blur takes away. It takes most from a sharp picture, and nearly nothing from a smeared one.
pub fn measure(picture: &Pixels) -> Quality {
    let (width, height) = (picture.width as usize, picture.height as usize);
    let luma = |x: usize, y: usize| -> u8 {
        let at = (y * width + x) * 3;
        let p = &picture.bytes[at..at + 3];
        // Green counts double: near enough to luma, whichever of red and blue comes first.
        ((u16::from(p[0]) + 2 * u16::from(p[1]) + u16::from(p[2])) / 4) as u8
    };
    let (mut dark, mut bright, mut counted) = (0u32, 0u32, 0u32);
    let (mut along, mut down) = (Smear::default(), Smear::default());
    let mut line = Vec::with_capacity(width.max(height));
    for y in (0..height).step_by(height.div_ceil(LINES).max(1)) {
        line.clear();
        line.extend((0..width).map(|x| luma(x, y)));
        dark += line.iter().filter(|v| **v < BLACK).count() as u32;
        bright += line.iter().filter(|v| **v >= WHITE).count() as u32;
        counted += line.len() as u32;
        along.add(&line);
    }
    for x in (0..width).step_by(width.div_ceil(LINES).max(1)) {
        line.clear();
        line.extend((0..height).map(|y| luma(x, y)));
        down.add(&line);
    }
    let share = |count: u32| count as f32 / counted.max(1) as f32;
    Quality { sharpness: along.sharpness().min(down.sharpness()), dark: share(dark), bright: share(bright) }
}

#[derive(Default)]
struct Smear {
    differences: f64,
    taken_away: f64,
}

impl Smear {
    fn add(&mut self, line: &[u8]) {
        let window = 2 * REACH + 1;
        if line.len() <= window {
            return;
        }
        // The low-pass moves by (entering - leaving) / window from one pixel to the next.
        for i in REACH + 1..line.len() - REACH {
            let own = (i32::from(line[i]) - i32::from(line[i - 1])).abs();
            if own < NOISE {
                continue;
            }
            let smooth = (f64::from(line[i + REACH]) - f64::from(line[i - REACH - 1])).abs() / window as f64;
            self.differences += f64::from(own);
            self.taken_away += (f64::from(own) - smooth).max(0.0);
        }
    }

    /// A picture without any edge cannot be called blurred: water, fog and fresh snow look like that.
    fn sharpness(&self) -> f32 {
        if self.differences == 0.0 { 1.0 } else { (self.taken_away / self.differences) as f32 }
    }
}

#[cfg(test)]
mod tests {
    use opencv::core::{Mat, MatTraitConst, MatTraitConstManual, Point, Size, Vec3b};
    use opencv::imgproc;

    use super::*;
    use crate::perception::manifest::Color;

    const SIDE: u32 = 320;

    /// Roofs and walls of many sizes.
    fn town() -> Vec<u8> {
        let mut dice = 12345u32;
        let mut roll = |below: u32| {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (dice >> 16) % below
        };
        let mut bytes = vec![110u8; (SIDE * SIDE * 3) as usize];
        for _ in 0..120 {
            let (x, y, w, h, shade) = (roll(SIDE), roll(SIDE), 6 + roll(40), 6 + roll(40), roll(220) as u8);
            for v in y..(y + h).min(SIDE) {
                for u in x..(x + w).min(SIDE) {
                    bytes[((v * SIDE + u) * 3) as usize..][..3].copy_from_slice(&[shade, shade / 2 + 60, shade]);
                }
            }
        }
        bytes
    }

    fn quality(bytes: &[u8]) -> Quality {
        measure(&Pixels { bytes, width: SIDE, height: SIDE, color: Color::Rgb })
    }

    fn filtered(bytes: &[u8], filter: impl Fn(&Mat, &mut Mat)) -> Vec<u8> {
        let from =
            Mat::new_rows_cols_with_bytes::<Vec3b>(SIDE as i32, SIDE as i32, bytes).unwrap().try_clone().unwrap();
        let mut to = Mat::default();
        filter(&from, &mut to);
        to.data_bytes().unwrap().to_vec()
    }

    #[test]
    fn a_smeared_picture_is_blurred_and_a_sharp_one_is_not() {
        let sharp = town();
        assert_eq!(quality(&sharp).unusable(), None, "{:?}", quality(&sharp));
        let defocused = filtered(&sharp, |from, to| {
            imgproc::gaussian_blur_def(from, to, Size::new(0, 0), 4.0).unwrap();
        });
        assert_eq!(quality(&defocused).unusable(), Some(Unusable::Blurred), "{:?}", quality(&defocused));
        // Motion smears one direction only.
        let moved = filtered(&sharp, |from, to| {
            imgproc::blur(from, to, Size::new(15, 1), Point::new(-1, -1), opencv::core::BORDER_REFLECT).unwrap();
        });
        assert_eq!(quality(&moved).unusable(), Some(Unusable::Blurred), "{:?}", quality(&moved));
        let slight = filtered(&sharp, |from, to| {
            imgproc::gaussian_blur_def(from, to, Size::new(0, 0), 0.8).unwrap();
        });
        assert_eq!(quality(&slight).unusable(), None, "{:?}", quality(&slight));
    }

    #[test]
    fn night_and_glare_are_badly_exposed_and_plain_water_is_neither() {
        let of = |value: u8| quality(&vec![value; (SIDE * SIDE * 3) as usize]).unusable();
        assert_eq!((of(4), of(255), of(120)), (Some(Unusable::BadlyExposed), Some(Unusable::BadlyExposed), None));
    }
}
