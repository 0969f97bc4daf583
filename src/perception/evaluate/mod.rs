//! How good a model is on pictures that people marked: the figures of a model card.
//!
//! [`dataset`] reads the pictures and what is marked in them, the caller looks at each with the engine that a station runs,
//! [`Look`]s are gathered, and [`figures`] (pure) counts. Boxes match when they overlap by half or more (intersection over
//! union); each marked box is found once, by the surest detection. AP is the area under the precision-recall curve, precision
//! made falling (as in Pascal VOC 2010); AP50-95 is its mean over overlaps of 0.50 to 0.95 (as in COCO).

pub mod dataset;
mod matching;
pub mod sheet;

use std::path::PathBuf;

use serde::Serialize;

pub use dataset::{Dataset, DatasetError};
pub use matching::overlap;
use matching::{Verdict, curve, is_forgiven, judge};

use super::detect::Detection;

/// Something that a person marked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Marked {
    /// Index into the model's classes; none: whatever is found here counts neither way.
    pub class: Option<usize>,
    /// x1, y1, x2, y2 in the picture's pixels.
    pub bbox: [f32; 4],
    /// Not sure enough to be demanded: a find here counts neither way.
    pub doubtful: bool,
}

/// One picture: what was found in it, down to very low scores, and what is there.
#[derive(Debug, Clone)]
pub struct Look {
    pub picture: PathBuf,
    pub gsd_m: f64,
    pub found: Vec<Detection>,
    pub marked: Vec<Marked>,
}

/// A class of the model, as far as counting needs it.
#[derive(Debug, Clone)]
pub struct Judged {
    pub name: String,
    pub threshold: f32,
    /// Whether every picture of the set marks all of this class.
    pub scored: bool,
}

#[derive(Debug, Serialize)]
pub struct Figures {
    pub pictures: usize,
    pub map50: f64,
    pub map50_95: f64,
    pub classes: Vec<ClassFigures>,
    pub confusion: Confusion,
}

#[derive(Debug, Serialize)]
pub struct ClassFigures {
    pub class: String,
    pub marked: usize,
    pub ap50: f64,
    pub ap50_95: f64,
    pub threshold: f32,
    pub precision: f64,
    pub recall: f64,
    /// The lowest threshold whose precision is at least so, and the recall there.
    pub for_precision_90: Option<[f64; 2]>,
    pub for_precision_95: Option<[f64; 2]>,
    /// By the square root of the box's area on the ground.
    pub by_size: Vec<Bucket>,
    pub by_ground_sample_distance: Vec<Bucket>,
    /// Mean gap between score and share of right ones, over the scores above 0.05, weighted by how many have them.
    pub calibration_error: f64,
    pub reliability: Vec<Bin>,
}

/// A part of the marked boxes: lengths from `from_m` to `to_m`.
#[derive(Debug, Serialize)]
pub struct Bucket {
    pub from_m: f64,
    pub to_m: Option<f64>,
    pub marked: usize,
    pub recall: f64,
}

#[derive(Debug, Serialize)]
pub struct Bin {
    pub from: f64,
    pub detections: usize,
    pub mean_score: f64,
    pub right: f64,
}

/// Rows: what is there, the last row nothing. Columns: what was said, the last column nothing.
#[derive(Debug, Serialize)]
pub struct Confusion {
    pub classes: Vec<String>,
    pub counts: Vec<Vec<usize>>,
}

const SIZES_M: [f64; 4] = [0.0, 3.0, 8.0, 20.0];
const GROUND_SAMPLE_DISTANCES_M: [f64; 5] = [0.0, 0.03, 0.06, 0.12, 0.25];
const BINS: usize = 10;
/// Below it nearly everything is nothing, and the mean would say only that.
const CALIBRATED_FROM: f32 = 0.05;

pub fn figures(looks: &[Look], classes: &[Judged]) -> Figures {
    let scored: Vec<usize> = (0..classes.len()).filter(|&c| classes[c].scored).collect();
    let of_class = |&class: &usize| class_figures(looks, class, &classes[class]);
    let rows: Vec<ClassFigures> = scored.iter().map(of_class).filter(|row| row.marked > 0).collect();
    let mean = |value: fn(&ClassFigures) -> f64| match rows.len() {
        0 => 0.0,
        n => rows.iter().map(value).sum::<f64>() / n as f64,
    };
    Figures {
        pictures: looks.len(),
        map50: mean(|row| row.ap50),
        map50_95: mean(|row| row.ap50_95),
        confusion: confusion(looks, classes),
        classes: rows,
    }
}

fn class_figures(looks: &[Look], class: usize, judged: &Judged) -> ClassFigures {
    let verdicts = |need: f32| -> Vec<Verdict> { looks.iter().map(|look| judge(look, class, need)).collect() };
    let half = verdicts(0.5);
    let marked: usize = half.iter().map(|v| v.hit_by.len()).sum();
    let all = |verdicts: &[Verdict]| curve(verdicts.iter().flat_map(|v| v.said.iter().copied()).collect(), marked);
    let at_half = all(&half);
    let strict: f64 = (0..10).map(|step| all(&verdicts(0.5 + 0.05 * step as f32)).ap).sum::<f64>() / 10.0;
    let (precision, recall) = at_half.at(judged.threshold);
    let found = |score: &Option<f32>| score.is_some_and(|s| s >= judged.threshold);
    let bucketed = |edges: &[f64], length: &dyn Fn(&Look, &[f32; 4]) -> f64| {
        let mut counts = vec![(0, 0); edges.len()];
        for (look, verdict) in looks.iter().zip(&half) {
            for (bbox, score) in &verdict.hit_by {
                let length = length(look, bbox);
                let bucket = edges.iter().rposition(|edge| length >= *edge).unwrap_or(0);
                counts[bucket].0 += 1;
                counts[bucket].1 += usize::from(found(score));
            }
        }
        let bucket = |(index, (marked, hits)): (usize, (usize, usize))| Bucket {
            from_m: edges[index],
            to_m: edges.get(index + 1).copied(),
            marked,
            recall: hits as f64 / marked.max(1) as f64,
        };
        counts.into_iter().enumerate().map(bucket).filter(|bucket| bucket.marked > 0).collect::<Vec<_>>()
    };
    let (reliability, calibration_error) = reliability(half.iter().flat_map(|v| v.said.iter().copied()));
    ClassFigures {
        class: judged.name.clone(),
        marked,
        ap50: at_half.ap,
        ap50_95: strict,
        threshold: judged.threshold,
        precision,
        recall,
        for_precision_90: at_half.lowest_with_precision(0.90),
        for_precision_95: at_half.lowest_with_precision(0.95),
        by_size: bucketed(&SIZES_M, &|look, [x1, y1, x2, y2]| {
            f64::from((x2 - x1) * (y2 - y1)).max(0.0).sqrt() * look.gsd_m
        }),
        by_ground_sample_distance: bucketed(&GROUND_SAMPLE_DISTANCES_M, &|look, _| look.gsd_m),
        calibration_error,
        reliability,
    }
}

fn reliability(said: impl Iterator<Item = (f32, bool)>) -> (Vec<Bin>, f64) {
    let mut bins = [(0usize, 0.0f64, 0usize); BINS];
    for (score, right) in said.filter(|(score, _)| *score >= CALIBRATED_FROM) {
        let bin = &mut bins[((score * BINS as f32) as usize).min(BINS - 1)];
        *bin = (bin.0 + 1, bin.1 + f64::from(score), bin.2 + usize::from(right));
    }
    let total: usize = bins.iter().map(|bin| bin.0).sum();
    let gap: f64 = bins.iter().map(|(_, score, right)| (score - *right as f64).abs()).sum();
    let bins = bins.iter().enumerate().filter(|(_, bin)| bin.0 > 0).map(|(index, (count, score, right))| Bin {
        from: index as f64 / BINS as f64,
        detections: *count,
        mean_score: score / *count as f64,
        right: *right as f64 / *count as f64,
    });
    (bins.collect(), gap / total.max(1) as f64)
}

fn confusion(looks: &[Look], classes: &[Judged]) -> Confusion {
    let nothing = classes.len();
    let mut counts = vec![vec![0; nothing + 1]; nothing + 1];
    for look in looks {
        let mut found: Vec<&Detection> =
            look.found.iter().filter(|d| classes.get(d.class).is_some_and(|c| d.score >= c.threshold)).collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut taken = vec![false; look.marked.len()];
        for detection in found {
            let best = (0..look.marked.len())
                .filter(|&m| !taken[m])
                .map(|m| (m, overlap(&detection.bbox, &look.marked[m].bbox)))
                .filter(|(_, share)| *share >= 0.5)
                .max_by(|a, b| a.1.total_cmp(&b.1));
            match best {
                Some((m, _)) => {
                    taken[m] = true;
                    if let (Some(class), false) = (look.marked[m].class, look.marked[m].doubtful) {
                        counts[class][detection.class] += 1;
                    }
                }
                // Only what every picture marks can be said to be false.
                None if classes[detection.class].scored && !is_forgiven(look, detection) => {
                    counts[nothing][detection.class] += 1;
                }
                None => {}
            }
        }
        for (marked, _) in look.marked.iter().zip(&taken).filter(|(m, taken)| !**taken && !m.doubtful) {
            if let Some(class) = marked.class {
                counts[class][nothing] += 1;
            }
        }
    }
    let names = classes.iter().map(|c| c.name.clone()).chain(["nothing".to_owned()]).collect();
    Confusion { classes: names, counts }
}

/// What went wrong in one picture at the thresholds: false, missed, and how many were right.
pub fn errors(look: &Look, classes: &[Judged]) -> (usize, usize, usize) {
    let mut sum = (0, 0, 0);
    for (class, judged) in classes.iter().enumerate().filter(|(_, c)| c.scored) {
        let verdict = judge(look, class, 0.5);
        let sure = |score: f32| score >= judged.threshold;
        sum.0 += verdict.said.iter().filter(|(score, right)| sure(*score) && !right).count();
        let hits = verdict.hit_by.iter().filter(|(_, score)| score.is_some_and(sure)).count();
        sum.1 += verdict.hit_by.len() - hits;
        sum.2 += hits;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(class: usize, x: f32) -> Marked {
        Marked { class: Some(class), bbox: [x, 0.0, x + 10.0, 10.0], doubtful: false }
    }

    fn found(class: usize, score: f32, x: f32) -> Detection {
        Detection { class, score, bbox: [x, 0.0, x + 10.0, 10.0] }
    }

    fn look(found: Vec<Detection>, marked: Vec<Marked>) -> Look {
        Look { picture: PathBuf::from("a.png"), gsd_m: 0.1, found, marked }
    }

    fn classes() -> Vec<Judged> {
        let class = |name: &str, scored| Judged { name: name.into(), threshold: 0.5, scored };
        vec![class("roof", true), class("car", true), class("heap", false)]
    }

    #[test]
    fn the_figures_are_those_of_a_count_by_hand() {
        // Roofs: right 0.9, false 0.8, right 0.4; three are there. Precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3;
        // made falling 1, 2/3, 2/3, so the area is 1/3 + 2/9.
        let looks = [
            look(vec![found(0, 0.9, 0.0), found(0, 0.8, 50.0), found(2, 0.9, 80.0)], vec![marked(0, 0.0)]),
            look(vec![found(0, 0.4, 1.0), found(1, 0.9, 30.0)], vec![marked(0, 0.0), marked(0, 30.0)]),
        ];
        let figures = figures(&looks, &classes());
        let roof = &figures.classes[0];
        assert_eq!((figures.classes.len(), roof.marked), (1, 3), "no car is there, and heaps are not marked");
        assert!((roof.ap50 - (1.0 / 3.0 + 2.0 / 9.0)).abs() < 1e-9, "{}", roof.ap50);
        assert!((roof.precision - 0.5).abs() < 1e-9 && (roof.recall - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(roof.for_precision_90.map(|p| p[1]), Some(1.0 / 3.0));
        // One box is a pixel aside, which overlaps by 9/11: right up to 0.80, so the strict figure is lower.
        assert!(roof.ap50_95 < roof.ap50, "{} {}", roof.ap50_95, roof.ap50);
        // Roof: one found, one missed, one called a car; one false roof. The heap cannot be said to be false.
        assert_eq!(figures.confusion.counts[0], [1, 1, 0, 1]);
        assert_eq!(figures.confusion.counts[3], [1, 0, 0, 0]);
        assert_eq!(roof.by_size.iter().map(|b| b.marked).sum::<usize>(), 3);
    }

    #[test]
    fn the_same_thing_said_twice_is_once_false_and_doubtful_ground_counts_neither_way() {
        let doubtful = Marked { doubtful: true, ..marked(0, 100.0) };
        let twice =
            look(vec![found(0, 0.9, 0.0), found(0, 0.8, 0.0), found(0, 0.7, 100.0)], vec![marked(0, 0.0), doubtful]);
        assert_eq!(errors(&twice, &classes()), (1, 0, 1));
        // A box within doubtful ground, too small for half of the union: neither in the errors nor in the table.
        let part = Detection { bbox: [102.0, 0.0, 105.0, 10.0], ..found(0, 0.9, 0.0) };
        let within = look(vec![part], vec![Marked { doubtful: true, ..marked(0, 100.0) }]);
        assert_eq!(errors(&within, &classes()), (0, 0, 0));
        assert_eq!(confusion(&[within], &classes()).counts[3], [0, 0, 0, 0]);
        let anything = Marked { class: None, ..doubtful };
        assert_eq!(errors(&look(vec![found(0, 0.9, 100.0)], vec![anything]), &classes()), (0, 0, 0));
    }

    #[test]
    fn scores_that_are_probabilities_have_no_calibration_error() {
        let said = (0..1000).map(|n| (0.75, n % 4 != 0));
        let (bins, error) = reliability(said);
        assert!(error < 1e-6 && bins.len() == 1 && (bins[0].right - 0.75).abs() < 1e-9);
        let (_, error) = reliability((0..1000).map(|n| (0.95, n % 4 != 0)));
        assert!((error - 0.2).abs() < 1e-6, "{error}");
    }
}
