//! Contact sheets: parts of pictures side by side, with what was right (green, its score), false (red) and missed (yellow).

use image::{Rgb, RgbImage, imageops};

use super::{Judged, Look, matching};
use crate::perception::annotate::{self, AnnotateError};
use crate::perception::decode;

const RIGHT: [u8; 3] = [40, 190, 60];
/// Side of what one part shows, metres on the ground.
const SHOWN_M: f64 = 60.0;
/// Side of a part on the sheet, and between parts, pixels.
const CELL_PX: u32 = 480;
const GAP_PX: u32 = 8;
const COLUMNS: u32 = 4;

/// On the sheet, a right box narrower than this stays without its score: what it would cover is worth more. Pixels.
const LABELLED_PX: f32 = 60.0;

/// The part of `picture` with the most errors, or with the most finds where there is none.
pub fn part(picture: &RgbImage, look: &Look, classes: &[Judged]) -> Result<RgbImage, AnnotateError> {
    let mut boxes = Vec::new();
    let (mut wrong, mut right) = (Vec::new(), Vec::new());
    // Where one class alone is scored, its name on every box tells nothing.
    let alone = classes.iter().filter(|c| c.scored).count() == 1;
    let named = |judged: &Judged, rest: &str| match alone {
        true => rest.to_owned(),
        false => format!("{} {rest}", judged.name).trim_end().to_uppercase(),
    };
    for (class, judged) in classes.iter().enumerate().filter(|(_, c)| c.scored) {
        for (bbox, score) in matching::judge(look, class, 0.5).hit_by {
            if score.is_none_or(|s| s < judged.threshold) {
                wrong.push(bbox);
                boxes.push((bbox, named(judged, ""), annotate::YELLOW));
            }
        }
        let demanded: Vec<_> = look.marked.iter().filter(|m| m.class == Some(class)).collect();
        for found in look.found.iter().filter(|d| d.class == class && d.score >= judged.threshold) {
            let hit = demanded.iter().any(|m| matching::overlap(&m.bbox, &found.bbox) >= 0.5);
            if !hit && matching::is_forgiven(look, found) {
                continue;
            }
            if hit { &mut right } else { &mut wrong }.push(found.bbox);
            let percent = format!("{:.0}", found.score * 100.0);
            let said = if hit { (percent, RIGHT) } else { (named(judged, &percent), annotate::RED) };
            boxes.push((found.bbox, said.0, said.1));
        }
    }
    let (width, height) = picture.dimensions();
    let side = ((SHOWN_M / look.gsd_m) as u32).clamp(160, 2000);
    let (wide, tall) = (side.min(width), side.min(height));
    let middle = densest(if wrong.is_empty() { &right } else { &wrong }, [wide as f32, tall as f32])
        .unwrap_or([width as f32 / 2.0, height as f32 / 2.0]);
    let start = |middle: f32, part: u32, whole: u32| ((middle - part as f32 / 2.0).max(0.0) as u32).min(whole - part);
    let (left, top) = (start(middle[0], wide, width), start(middle[1], tall, height));
    let crop = imageops::crop_imm(picture, left, top, wide, tall).to_image();
    let scale = CELL_PX as f32 / side as f32;
    let to = |length: u32| ((length as f32 * scale) as u32).max(1);
    let crop = decode::resize(&crop, to(wide), to(tall)).map_err(|e| AnnotateError::Scale(e.message))?;
    let moved = |[x1, y1, x2, y2]: [f32; 4]| {
        [(x1 - left as f32), (y1 - top as f32), (x2 - left as f32), (y2 - top as f32)].map(|v| v * scale)
    };
    let boxes: Vec<_> = boxes
        .into_iter()
        .map(|(bbox, label, color)| annotate::Box { bbox: moved(bbox), label, color })
        .map(|mark| match mark.color == RIGHT && mark.bbox[2] - mark.bbox[0] < LABELLED_PX {
            true => annotate::Box { label: String::new(), ..mark },
            false => mark,
        })
        .filter(|mark| matching::overlap(&mark.bbox, &[0.0, 0.0, to(wide) as f32, to(tall) as f32]) > 0.0)
        .collect();
    annotate::drawn(&crop, &boxes, CELL_PX)
}

/// The middle of the box around which a part of this size holds the most middles of the others; the first of equals.
fn densest(boxes: &[[f32; 4]], [wide, tall]: [f32; 2]) -> Option<[f32; 2]> {
    let middles: Vec<[f32; 2]> = boxes.iter().map(|[x1, y1, x2, y2]| [(x1 + x2) / 2.0, (y1 + y2) / 2.0]).collect();
    let around = |[x, y]: [f32; 2]| {
        middles.iter().filter(|m| (m[0] - x).abs() <= wide / 2.0 && (m[1] - y).abs() <= tall / 2.0).count()
    };
    middles.iter().copied().rev().max_by_key(|middle| around(*middle))
}

/// The parts in rows of four, on grey.
pub fn sheet(parts: &[RgbImage]) -> RgbImage {
    let count = parts.len() as u32;
    let step = CELL_PX + GAP_PX;
    let (columns, rows) = (COLUMNS.min(count.max(1)), count.div_ceil(COLUMNS).max(1));
    let mut sheet = RgbImage::from_pixel(columns * step, rows * step, Rgb([60; 3]));
    for (index, part) in (0u32..).zip(parts) {
        let (x, y) = (index % COLUMNS * step, index / COLUMNS * step);
        imageops::overlay(&mut sheet, part, i64::from(x), i64::from(y));
    }
    sheet
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::perception::detect::Detection;
    use crate::perception::evaluate::Marked;

    #[test]
    fn what_is_found_on_a_doubtful_mark_is_shown_neither_right_nor_wrong() {
        let picture = RgbImage::new(300, 200);
        let bbox = [50.0, 50.0, 90.0, 90.0];
        let found = vec![Detection { class: 0, score: 0.9, bbox }];
        let classes = [Judged { name: "roof".into(), threshold: 0.5, scored: true }];
        let red = |doubtful| {
            let marked = vec![Marked { class: None, bbox, doubtful }];
            let look = Look { picture: PathBuf::new(), gsd_m: 0.1, found: found.clone(), marked };
            part(&picture, &look, &classes).unwrap().pixels().any(|p| p.0 == annotate::RED)
        };
        assert!(!red(true), "a doubtful mark was held against it");
        assert!(red(false), "this test would not see a red box");
    }

    #[test]
    fn a_part_shows_the_error_wherever_it_lies() {
        let picture = RgbImage::new(3000, 200);
        let false_at_the_end = Detection { class: 0, score: 0.9, bbox: [2950.0, 150.0, 2990.0, 190.0] };
        let look = Look { picture: PathBuf::new(), gsd_m: 0.1, found: vec![false_at_the_end], marked: vec![] };
        let classes = [Judged { name: "roof".into(), threshold: 0.5, scored: true }];
        let part = part(&picture, &look, &classes).unwrap();
        assert!(part.pixels().any(|p| p.0 == annotate::RED), "the false box is not on its part");
        let crowd: Vec<_> = [10.0, 2000.0, 2050.0, 2100.0].iter().map(|x| [*x, 50.0, x + 20.0, 70.0]).collect();
        assert_eq!(densest(&crowd, [600.0, 200.0]), Some([2010.0, 60.0]), "the first of those that lie together");
        let sheet = sheet(&vec![part; 5]);
        assert_eq!(sheet.dimensions(), (4 * 488, 2 * 488));
    }
}
