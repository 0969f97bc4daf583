//! Resizing as Pillow does it, to the bit: small quantised models answer differently to pixels that are off by one, and
//! the projects that prepare pictures with Pillow were measured so.
//!
//! A triangle filter whose width grows with the reduction; across first, then down, each rounded to bytes; weights in
//! fixed point with 22 bits behind the point.

use image::RgbImage;

const BITS: u32 = 22;

/// For one place of the result: where its first source is, and the weights from there on.
struct Tap {
    first: usize,
    weights: Vec<i32>,
}

fn taps(from: u32, to: u32) -> Vec<Tap> {
    let scale = f64::from(from) / f64::from(to);
    let reach = scale.max(1.0);
    (0..to)
        .map(|place| {
            let centre = (f64::from(place) + 0.5) * scale;
            let first = ((centre - reach + 0.5) as i64).max(0) as usize;
            let end = ((centre + reach + 0.5) as usize).min(from as usize);
            let weight = |at: usize| (1.0 - ((at as f64 - centre + 0.5) / reach).abs()).max(0.0);
            let sum: f64 = (first..end).map(weight).sum();
            let fixed = |at: usize| (weight(at) / sum * f64::from(1u32 << BITS) + 0.5) as i32;
            Tap { first, weights: (first..end).map(fixed).collect() }
        })
        .collect()
}

fn byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

pub fn resize(picture: &RgbImage, width: u32, height: u32) -> RgbImage {
    const HALF: i32 = 1 << (BITS - 1);
    let (old_width, old_height) = picture.dimensions();
    let mut narrow = picture.clone();
    if old_width != width {
        let taps = taps(old_width, width);
        narrow = RgbImage::new(width, old_height);
        let rows = picture.as_raw().chunks_exact(old_width as usize * 3);
        for (from, to) in rows.zip(narrow.chunks_exact_mut(width as usize * 3)) {
            for (tap, to) in taps.iter().zip(to.chunks_exact_mut(3)) {
                let mut sums = [HALF; 3];
                for (weight, pixel) in tap.weights.iter().zip(from[tap.first * 3..].chunks_exact(3)) {
                    sums.iter_mut().zip(pixel).for_each(|(sum, byte)| *sum += weight * i32::from(*byte));
                }
                to.iter_mut().zip(sums).for_each(|(to, sum)| *to = byte(sum));
            }
        }
    }
    if old_height == height {
        return narrow;
    }
    let mut out = RgbImage::new(width, height);
    let line = width as usize * 3;
    let mut sums = vec![HALF; line];
    for (tap, to) in taps(old_height, height).iter().zip(out.chunks_exact_mut(line)) {
        sums.fill(HALF);
        for (weight, row) in tap.weights.iter().zip(narrow.chunks_exact(line).skip(tap.first)) {
            sums.iter_mut().zip(row).for_each(|(sum, byte)| *sum += weight * i32::from(*byte));
        }
        to.iter_mut().zip(&sums).for_each(|(to, sum)| *to = byte(*sum));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    /// Sums from Pillow 13.0.0: `Image.frombytes("RGB", (53, 41), data).resize(size, Image.BILINEAR).tobytes()`.
    #[test]
    fn pixels_are_pillows_to_the_bit() {
        let mut state = 1u32;
        let bytes = (0..53 * 41 * 3).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        let picture = RgbImage::from_raw(53, 41, bytes.collect()).unwrap();
        for (width, height, sum) in [
            (20, 17, "d4c46e1538e689fde38defb96e7267121820109fa98cc236fd4d653d6fbbd188"),
            (97, 64, "cab3cd6436f64f5ab0bb28b5ac17d152c2ab5e1dddd3d5548da97a0395974c57"),
            (53, 9, "0751ebf82af9ee59767e25fcf20ba8f528bb2148c673719ebbb551e2fdfbcfdc"),
            (11, 41, "6719214514fd7ba393210e5c9246eee0c609226a26b13e43d7d6fe028ff0b4fa"),
            (1, 1, "7062c6cbc717d6c6d55622334aac9f4e6a3b978911efe990f04697122e1fddba"),
        ] {
            let resized = resize(&picture, width, height);
            assert_eq!(hex::encode(Sha256::digest(resized.as_raw())), sum, "{width} x {height}");
        }
    }
}
