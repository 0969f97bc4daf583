//! Pure: drawing boxes and labels into a picture, and making it a JPEG of bounded size.

use image::codecs::jpeg::JpegEncoder;
use image::{ImageError, Rgb, RgbImage};

use super::decode;

#[derive(Debug, thiserror::Error)]
pub enum AnnotateError {
    #[error("the picture could not be scaled: {0}")]
    Scale(String),
    #[error("the picture could not be encoded: {0}")]
    Encode(#[from] ImageError),
}

/// A box to draw, in the picture's pixels.
#[derive(Debug, Clone)]
pub struct Box {
    pub bbox: [f32; 4],
    pub label: String,
    pub color: [u8; 3],
}

pub const RED: [u8; 3] = [235, 40, 40];
pub const YELLOW: [u8; 3] = [250, 200, 30];

/// [`drawn`], as a JPEG.
pub fn jpeg(picture: &RgbImage, boxes: &[Box], max_width: u32, quality: u8) -> Result<Vec<u8>, AnnotateError> {
    let drawn = drawn(picture, boxes, max_width)?;
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(&drawn)?;
    Ok(bytes)
}

/// The picture no wider than `max_width`, with the boxes drawn.
pub fn drawn(picture: &RgbImage, boxes: &[Box], max_width: u32) -> Result<RgbImage, AnnotateError> {
    let width = picture.width().min(max_width);
    let scale = f64::from(width) / f64::from(picture.width());
    let height = ((f64::from(picture.height()) * scale).round() as u32).max(1);
    let mut drawn = decode::resize(picture, width, height).map_err(|e| AnnotateError::Scale(e.message))?;
    let thick = (width / 640).max(2) as i32;
    let boxes = boxes.iter().map(|mark| (mark, mark.bbox.map(|v| (v * scale as f32).round() as i32)));
    for (mark, at) in boxes.clone() {
        outline(&mut drawn, at, thick, Rgb(mark.color));
    }
    let mut taken = Vec::new();
    for (mark, at) in boxes {
        label(&mut drawn, mark, at, thick, &mut taken);
    }
    Ok(drawn)
}

fn outline(picture: &mut RgbImage, [x1, y1, x2, y2]: [i32; 4], thick: i32, color: Rgb<u8>) {
    fill(picture, [x1 - thick, y1 - thick, x2 + thick, y1], color);
    fill(picture, [x1 - thick, y2, x2 + thick, y2 + thick], color);
    fill(picture, [x1 - thick, y1, x1, y2], color);
    fill(picture, [x2, y1, x2 + thick, y2], color);
}

/// Above the box, else below it, else inside: where no earlier label is. In a crowd, where each place is taken, the
/// box stays without: two labels over each other tell nothing.
fn label(picture: &mut RgbImage, mark: &Box, [x1, y1, _, y2]: [i32; 4], dot: i32, taken: &mut Vec<[i32; 4]>) {
    if mark.label.is_empty() {
        return;
    }
    let (wide, tall) = (mark.label.chars().count() as i32 * 6 * dot + dot, 9 * dot);
    let left = (x1 - dot).min(picture.width() as i32 - wide).max(0);
    let bottom = picture.height() as i32 - tall;
    let place = [y1 - dot - tall, y2 + dot, y1.max(0)]
        .into_iter()
        .filter(|top| (0..=bottom.max(0)).contains(top))
        .map(|top| [left, top, left + wide, top + tall])
        .find(|place| taken.iter().all(|other| apart(place, other)));
    let Some(place) = place else { return };
    fill(picture, place, Rgb(mark.color));
    for (index, character) in mark.label.chars().enumerate() {
        let at = left + dot + index as i32 * 6 * dot;
        for (row, bits) in glyph(character).iter().enumerate() {
            for column in (0..5).filter(|column| bits >> (4 - column) & 1 == 1) {
                let (x, y) = (at + column * dot, place[1] + dot + row as i32 * dot);
                fill(picture, [x, y, x + dot, y + dot], Rgb([255, 255, 255]));
            }
        }
    }
    taken.push(place);
}

fn apart(a: &[i32; 4], b: &[i32; 4]) -> bool {
    a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1]
}

fn fill(picture: &mut RgbImage, [x1, y1, x2, y2]: [i32; 4], color: Rgb<u8>) {
    let (width, height) = (picture.width() as i32, picture.height() as i32);
    for y in y1.max(0)..y2.min(height) {
        for x in x1.max(0)..x2.min(width) {
            picture.put_pixel(x as u32, y as u32, color);
        }
    }
}

/// Five columns by seven rows, one byte a row; what is not here is drawn as a space.
fn glyph(character: char) -> [u8; 7] {
    match character.to_ascii_uppercase() {
        '0' => [14, 17, 19, 21, 25, 17, 14],
        '1' => [4, 12, 4, 4, 4, 4, 14],
        '2' => [14, 17, 1, 2, 4, 8, 31],
        '3' => [31, 2, 4, 2, 1, 17, 14],
        '4' => [2, 6, 10, 18, 31, 2, 2],
        '5' => [31, 16, 30, 1, 1, 17, 14],
        '6' => [6, 8, 16, 30, 17, 17, 14],
        '7' => [31, 1, 2, 4, 8, 8, 8],
        '8' => [14, 17, 17, 14, 17, 17, 14],
        '9' => [14, 17, 17, 15, 1, 2, 12],
        'A' => [14, 17, 17, 31, 17, 17, 17],
        'B' => [30, 17, 17, 30, 17, 17, 30],
        'C' => [14, 17, 16, 16, 16, 17, 14],
        'D' => [30, 17, 17, 17, 17, 17, 30],
        'E' => [31, 16, 16, 30, 16, 16, 31],
        'F' => [31, 16, 16, 30, 16, 16, 16],
        'G' => [14, 17, 16, 23, 17, 17, 15],
        'H' => [17, 17, 17, 31, 17, 17, 17],
        'I' => [14, 4, 4, 4, 4, 4, 14],
        'J' => [7, 2, 2, 2, 2, 18, 12],
        'K' => [17, 18, 20, 24, 20, 18, 17],
        'L' => [16, 16, 16, 16, 16, 16, 31],
        'M' => [17, 27, 21, 21, 17, 17, 17],
        'N' => [17, 25, 21, 19, 17, 17, 17],
        'O' => [14, 17, 17, 17, 17, 17, 14],
        'P' => [30, 17, 17, 30, 16, 16, 16],
        'Q' => [14, 17, 17, 17, 21, 18, 13],
        'R' => [30, 17, 17, 30, 20, 18, 17],
        'S' => [15, 16, 16, 14, 1, 1, 30],
        'T' => [31, 4, 4, 4, 4, 4, 4],
        'U' => [17, 17, 17, 17, 17, 17, 14],
        'V' => [17, 17, 17, 17, 17, 10, 4],
        'W' => [17, 17, 17, 21, 21, 27, 17],
        'X' => [17, 17, 10, 4, 10, 17, 17],
        'Y' => [17, 17, 10, 4, 4, 4, 4],
        'Z' => [31, 1, 2, 4, 8, 16, 31],
        '.' => [0, 0, 0, 0, 0, 12, 12],
        '-' | '_' => [0, 0, 0, 31, 0, 0, 0],
        '%' => [24, 25, 2, 4, 8, 19, 3],
        _ => [0; 7],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_at_the_rim_is_drawn_without_leaving_the_picture() {
        let grey = RgbImage::from_pixel(200, 100, Rgb([90, 90, 90]));
        let mark = Box { bbox: [-20.0, -20.0, 260.0, 130.0], label: "GARBAGE 87%".to_owned(), color: RED };
        let bytes = jpeg(&grey, &[mark], 100, 90).unwrap();
        let read = image::load_from_memory(&bytes).unwrap().to_rgb8();
        assert_eq!(read.dimensions(), (100, 50));
        let red = read.pixels().filter(|p| p[0] > 180 && p[1] < 110).count();
        assert!(red > 100, "only {red} pixels of the box and its label were drawn");
    }

    #[test]
    fn labels_in_a_crowd_never_cover_each_other() {
        let mut picture = RgbImage::new(640, 480);
        let mut taken = Vec::new();
        for index in 0..40 {
            let (x, y) = (100 + index % 8 * 20, 200 + index / 8 * 20);
            let mark = Box { bbox: [0.0; 4], label: "VEHICLE 61%".to_owned(), color: YELLOW };
            label(&mut picture, &mark, [x, y, x + 16, y + 16], 2, &mut taken);
        }
        assert!((2..40).contains(&taken.len()), "{} labels were drawn", taken.len());
        let drawn = taken.len();
        let mark = Box { bbox: [0.0; 4], label: String::new(), color: YELLOW };
        label(&mut picture, &mark, [150, 150, 166, 166], 2, &mut taken);
        assert_eq!(taken.len(), drawn, "a box without words has no label");
        for (index, one) in taken.iter().enumerate() {
            assert!(taken[index + 1..].iter().all(|other| apart(one, other)), "{one:?} covers another");
        }
    }
}
