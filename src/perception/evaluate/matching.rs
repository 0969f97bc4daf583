//! Which detection is which marked box, and the curve that follows.

use super::Look;
use crate::perception::detect::Detection;

/// One picture and class: what was said, and whether it was right; and for each marked box the score that found it.
pub struct Verdict {
    pub said: Vec<(f32, bool)>,
    pub hit_by: Vec<([f32; 4], Option<f32>)>,
}

/// Intersection over union.
pub fn overlap(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let shared = intersection(a, b);
    shared / (area(a) + area(b) - shared).max(f32::EPSILON)
}

fn intersection(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    (a[2].min(b[2]) - a[0].max(b[0])).max(0.0) * (a[3].min(b[3]) - a[1].max(b[1])).max(0.0)
}

fn area(a: &[f32; 4]) -> f32 {
    (a[2] - a[0]).max(0.0) * (a[3] - a[1]).max(0.0)
}

/// From the surest down, each detection takes the free marked box that it overlaps most, by `need` or more.
pub fn judge(look: &Look, class: usize, need: f32) -> Verdict {
    let mut found: Vec<_> = look.found.iter().filter(|d| d.class == class).collect();
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let demanded = look.marked.iter().filter(|m| m.class == Some(class) && !m.doubtful);
    let mut hit_by: Vec<([f32; 4], Option<f32>)> = demanded.map(|m| (m.bbox, None)).collect();
    let mut said = Vec::new();
    for detection in found {
        let best = hit_by
            .iter_mut()
            .filter(|(_, by)| by.is_none())
            .map(|free| (overlap(&detection.bbox, &free.0), free))
            .filter(|(share, _)| *share >= need)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match best {
            Some((_, free)) => {
                free.1 = Some(detection.score);
                said.push((detection.score, true));
            }
            None if is_forgiven(look, detection) => {}
            None => said.push((detection.score, false)),
        }
    }
    Verdict { said, hit_by }
}

/// Most of it lies on something marked as doubtful: it counts neither way.
pub fn is_forgiven(look: &Look, detection: &Detection) -> bool {
    let half = area(&detection.bbox) / 2.0;
    let mut doubtful = look.marked.iter().filter(|m| m.doubtful && m.class.is_none_or(|c| c == detection.class));
    doubtful.any(|m| intersection(&m.bbox, &detection.bbox) > half)
}

/// Precision and recall from the surest detection down.
pub struct Curve {
    pub ap: f64,
    /// Score, precision, recall.
    points: Vec<(f32, f64, f64)>,
}

pub fn curve(mut said: Vec<(f32, bool)>, marked: usize) -> Curve {
    said.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut hits = 0usize;
    let points: Vec<(f32, f64, f64)> = said
        .iter()
        .enumerate()
        .map(|(index, (score, right))| {
            hits += usize::from(*right);
            (*score, hits as f64 / (index + 1) as f64, hits as f64 / marked.max(1) as f64)
        })
        .collect();
    let (mut ap, mut falling) = (0.0, 0.0f64);
    for (index, (_, precision, recall)) in points.iter().enumerate().rev() {
        falling = falling.max(*precision);
        let before = if index == 0 { 0.0 } else { points[index - 1].2 };
        ap += (recall - before) * falling;
    }
    Curve { ap, points }
}

impl Curve {
    /// Precision and recall when only scores from `threshold` on are said; nothing said is nothing false.
    pub fn at(&self, threshold: f32) -> (f64, f64) {
        let last = self.points.iter().rfind(|(score, _, _)| *score >= threshold);
        last.map_or((1.0, 0.0), |(_, precision, recall)| (*precision, *recall))
    }

    /// The lowest threshold from which on the precision is `wanted`, and the recall there.
    pub fn lowest_with_precision(&self, wanted: f64) -> Option<[f64; 2]> {
        let last = self.points.iter().rfind(|(_, precision, _)| *precision >= wanted);
        last.map(|(score, _, recall)| [f64::from(*score), *recall])
    }
}
