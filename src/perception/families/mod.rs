//! Pure: what a graph's output tensors mean. Tensors and a manifest in, boxes in the input's pixels out.
//!
//! A file a kind of head: [`yolo`] (with or without objectness, end to end, turned, with masks), [`grid`] (YOLOX's cells
//! and the distributions of NanoDet and PicoDet), [`queries`] (DETR's relatives, selected triples) and [`boxes`] (SSD).
//! [`prepare`] is the other end: where a picture lies in the input, and the writer that puts it there.
//!
//! Every reader checks the shapes it is given against the manifest's classes, so that running a graph once proves that the
//! two agree. A number that is not finite refuses the whole output.

mod boxes;
mod grid;
pub mod mask;
pub mod prepare;
mod queries;
pub mod turned;
mod yolo;

use std::borrow::Cow;

use super::manifest::{Activation, BoxFormat, Family, Manifest, Output, Unit};
use super::tiling;
use mask::Mask;

/// Why an output could not be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FamilyError {
    #[error("output {tensor} has the shape {found:?}; family {family} with {classes} classes wants {wanted}", family = family.name())]
    Shape { family: Family, tensor: String, found: Vec<usize>, classes: usize, wanted: String },
    #[error("family {family} reads {wanted}, and {found} output tensors were given; name them in output.tensors", family = family.name())]
    Tensors { family: Family, wanted: &'static str, found: usize },
    #[error("output {tensor} holds numbers that are not finite; the model is damaged or fed wrongly")]
    NotFinite { tensor: String },
    #[error(
        "the model answered with class {label}, the manifest has {classes} classes; its list is too short, or output.background is wrong"
    )]
    Label { label: i64, classes: usize },
}

/// An output of the graph, its numbers as `f32` whatever they were.
#[derive(Debug, Clone)]
pub struct Tensor<'a> {
    pub name: &'a str,
    pub shape: Vec<usize>,
    pub data: Cow<'a, [f32]>,
}

/// One thing seen in one run, nothing suppressed yet except where the family has to.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    pub class: usize,
    pub score: f32,
    /// x1, y1, x2, y2; of a turned box, the smallest upright one around it.
    pub bbox: [f32; 4],
    pub shape: Option<Box<Shape>>,
}

/// More than an upright box.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// The corners of a turned box, in order around it.
    Turned([[f32; 2]; 4]),
    Mask(Mask),
}

impl Candidate {
    pub fn upright(class: usize, score: f32, bbox: [f32; 4]) -> Candidate {
        Candidate { class, score, bbox, shape: None }
    }

    /// The same thing in a picture that was scaled and moved: `to = (from - offset) * scale`.
    pub fn map(&mut self, offset: [f32; 2], scale: [f32; 2]) {
        let point = |x: f32, y: f32| [(x - offset[0]) * scale[0], (y - offset[1]) * scale[1]];
        let [x1, y1, x2, y2] = self.bbox;
        let ([x1, y1], [x2, y2]) = (point(x1, y1), point(x2, y2));
        self.bbox = [x1, y1, x2, y2];
        match self.shape.as_deref_mut() {
            None => {}
            Some(Shape::Turned(corners)) => corners.iter_mut().for_each(|c| *c = point(c[0], c[1])),
            Some(Shape::Mask(mask)) => mask.map(offset, scale),
        }
    }
}

/// Reads `tensors`, in the order the manifest names them, as the manifest's family has them. `size` is the input's width
/// and height; `thresholds` has one number a class.
pub fn read(
    manifest: &Manifest,
    tensors: &[Tensor<'_>],
    size: (u32, u32),
    thresholds: &[f32],
    found: &mut Vec<Candidate>,
) -> Result<(), FamilyError> {
    for tensor in tensors {
        // `raw` asks while it reads.
        if manifest.family != Family::YoloRaw && !all_finite(&tensor.data) {
            return Err(FamilyError::NotFinite { tensor: tensor.name.to_owned() });
        }
    }
    let head = Head {
        family: manifest.family,
        output: &manifest.output,
        size: [size.0 as f32, size.1 as f32],
        thresholds,
        least: thresholds.iter().copied().fold(f32::INFINITY, f32::min),
        nms_iou: manifest.nms_iou,
    };
    match manifest.family {
        Family::YoloRaw => yolo::raw(&head, tensors, found),
        Family::YoloObjectness => yolo::objectness(&head, tensors, found),
        Family::YoloEnd2end => yolo::end2end(&head, tensors, found),
        Family::YoloObb => yolo::obb(&head, tensors, found),
        Family::YoloSeg => yolo::seg(&head, tensors, found),
        Family::Yolox => grid::yolox(&head, tensors, found),
        Family::Distribution => grid::distribution(&head, tensors, found),
        Family::Detr => queries::detr(&head, tensors, found),
        Family::Triples => queries::triples(&head, tensors, found),
        Family::Ssd => boxes::ssd(&head, tensors, found),
    }
}

/// What every reader needs of the manifest.
struct Head<'a> {
    family: Family,
    output: &'a Output,
    size: [f32; 2],
    thresholds: &'a [f32],
    /// The lowest of the thresholds.
    least: f32,
    nms_iou: f32,
}

impl Head<'_> {
    fn classes(&self) -> usize {
        self.thresholds.len()
    }

    fn shape_fault(&self, tensor: &Tensor<'_>, wanted: impl Into<String>) -> FamilyError {
        FamilyError::Shape {
            family: self.family,
            tensor: tensor.name.to_owned(),
            found: tensor.shape.clone(),
            classes: self.classes(),
            wanted: wanted.into(),
        }
    }

    fn only<'t, 'd>(&self, tensors: &'t [Tensor<'d>]) -> Result<&'t Tensor<'d>, FamilyError> {
        match tensors {
            [tensor] => Ok(tensor),
            _ => Err(self.tensors_fault("one tensor", tensors)),
        }
    }

    fn tensors_fault(&self, wanted: &'static str, tensors: &[Tensor<'_>]) -> FamilyError {
        FamilyError::Tensors { family: self.family, wanted, found: tensors.len() }
    }

    /// Four numbers of the output as corners in the input's pixels.
    fn corners(&self, [a, b, c, d]: [f32; 4]) -> [f32; 4] {
        let [x1, y1, x2, y2] = match self.output.boxes {
            BoxFormat::Cxcywh => [a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0],
            BoxFormat::Xyxy => [a, b, c, d],
            BoxFormat::Yxyx => [b, a, d, c],
            BoxFormat::Xywh => [a, b, a + c, b + d],
        };
        let [w, h] = self.unit();
        [x1 * w, y1 * h, x2 * w, y2 * h]
    }

    /// What a number of the output has to be multiplied by to be pixels.
    fn unit(&self) -> [f32; 2] {
        match self.output.unit {
            Unit::Pixels => [1.0, 1.0],
            Unit::Normalised => self.size,
        }
    }

    /// The class that a label of the graph means; none for the background.
    fn class_of(&self, label: i64) -> Result<Option<usize>, FamilyError> {
        use super::manifest::Background;
        let classes = self.classes();
        let class = match self.output.background {
            Background::First if label == 0 => return Ok(None),
            Background::First => label - 1,
            Background::Last if label == classes as i64 => return Ok(None),
            Background::Last | Background::None => label,
        };
        match usize::try_from(class) {
            Ok(class) if class < classes => Ok(Some(class)),
            _ => Err(FamilyError::Label { label, classes }),
        }
    }

    /// Columns a row of scores has, and how many of them stand before the first class.
    fn score_columns(&self) -> (usize, usize) {
        use super::manifest::Background;
        match self.output.background {
            Background::None => (self.classes(), 0),
            Background::First => (self.classes() + 1, 1),
            Background::Last => (self.classes() + 1, 0),
        }
    }

    /// The classes that one row of scores speaks for: the best that reaches its threshold, or all that do.
    fn pick(&self, scores: &[f32], times: f32, mut take: impl FnMut(usize, f32)) {
        let mut best: Option<(usize, f32)> = None;
        for (class, (score, threshold)) in scores.iter().zip(self.thresholds).enumerate() {
            let score = score * times;
            if score < *threshold {
                continue;
            }
            if self.output.multi_label {
                take(class, score);
            } else if best.is_none_or(|(_, b)| score > b) {
                best = Some((class, score));
            }
        }
        if let Some((class, score)) = best {
            take(class, score);
        }
    }
}

/// The last two dimensions, when all before them are 1.
fn matrix(shape: &[usize]) -> Option<(usize, usize)> {
    match shape {
        [ones @ .., rows, columns] if ones.iter().all(|n| *n == 1) => Some((*rows, *columns)),
        _ => None,
    }
}

/// The only dimension that may differ from 1.
fn vector(shape: &[usize]) -> Option<usize> {
    match shape {
        [] => Some(1),
        [ones @ .., count] if ones.iter().all(|n| *n == 1) => Some(*count),
        // `[N, 1]`.
        [count, 1] => Some(*count),
        _ => None,
    }
}

/// Scores after what has to be applied to them; one row.
fn activate(activation: Activation, row: &mut [f32]) {
    match activation {
        Activation::None => {}
        Activation::Sigmoid => row.iter_mut().for_each(|x| *x = sigmoid(*x)),
        Activation::Softmax => softmax(row),
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn softmax(row: &mut [f32]) {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for x in row.iter_mut() {
        *x = (*x - top).exp();
        sum += *x;
    }
    row.iter_mut().for_each(|x| *x /= sum);
}

/// Infinities and NaN have all bits of the exponent set; a maximum over integers is something a processor does in strides.
fn all_finite(numbers: &[f32]) -> bool {
    numbers.iter().fold(0u32, |top, x| top.max(x.to_bits() & 0x7FFF_FFFF)) < 0x7F80_0000
}

/// Greedy suppression within a class, best first, for families whose boxes must be thinned out before they are read on.
fn suppress<T>(mut candidates: Vec<T>, score: impl Fn(&T) -> f32, same: impl Fn(&T, &T) -> bool) -> Vec<T> {
    candidates.sort_by(|a, b| score(b).total_cmp(&score(a)));
    let mut kept: Vec<T> = Vec::new();
    for candidate in candidates {
        if !kept.iter().any(|k| same(k, &candidate)) {
            kept.push(candidate);
        }
    }
    kept
}

/// Plain suppression of upright boxes: within a class, best first, `iou` and more is the same thing.
pub fn suppress_upright(candidates: Vec<Candidate>, iou: f32) -> Vec<Candidate> {
    suppress(candidates, |c| c.score, |a, b| a.class == b.class && tiling::overlap(&a.bbox, &b.bbox).iou > iou)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_that_is_not_finite_is_found_wherever_it_stands() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 7, 99] {
                let mut numbers = vec![-3.0f32; 100];
                assert!(all_finite(&numbers));
                numbers[at] = bad;
                assert!(!all_finite(&numbers));
            }
        }
        assert!(all_finite(&[f32::MAX, f32::MIN, -0.0]));
    }

    fn raw(classes: usize, data: &[f32]) -> Result<Vec<(usize, usize, f32)>, FamilyError> {
        let fields = 4 + classes;
        let tensor = Tensor { name: "output0", shape: vec![1, fields, data.len() / fields], data: Cow::Borrowed(data) };
        let output = Output::default();
        let thresholds: Vec<f32> = (0..classes).map(|class| 0.3 + 0.1 * class as f32).collect();
        let (family, size) = (Family::YoloRaw, [640.0; 2]);
        let head = Head { family, output: &output, size, thresholds: &thresholds, least: 0.3, nms_iou: 0.7 };
        let mut found = Vec::new();
        yolo::raw(&head, &[tensor], &mut found)?;
        // A row's box tells which row it is.
        Ok(found.into_iter().map(|c| (c.bbox[0] as usize, c.class, c.score)).collect())
    }

    /// Rows of boxes `[row, 0, 0, 0]` and weak scores.
    fn weak(rows: usize, classes: usize) -> Vec<f32> {
        (0..(4 + classes) * rows)
            .map(|i| match i / rows {
                0 => (i % rows) as f32,
                1..4 => 0.0,
                _ => (i * 7919 % 1000) as f32 * 2e-4,
            })
            .collect()
    }

    #[test]
    fn a_turned_box_that_was_dropped_still_drops_what_is_like_it() {
        // Three in a row: each is like its neighbour, the first and the last are not.
        let (width, steps) = (40.0, [0.0, 3.0, 6.0]);
        let rows = [steps, [50.0; 3], [width; 3], [20.0; 3], [0.9, 0.8, 0.7], [0.0; 3]];
        let data: Vec<f32> = rows.concat();
        let tensor = Tensor { name: "output0", shape: vec![1, 6, 3], data: Cow::Borrowed(&data) };
        let boxes = steps.map(|x| turned::Turned { x, y: 50.0, w: width, h: 20.0, angle: 0.0 });
        let (near, far) = (boxes[0].similarity(&boxes[1]), boxes[0].similarity(&boxes[2]));
        let output = Output::default();
        let head = Head {
            family: Family::YoloObb,
            output: &output,
            size: [640.0; 2],
            thresholds: &[0.3],
            least: 0.3,
            nms_iou: (near + far) / 2.0,
        };
        let mut found = Vec::new();
        yolo::obb(&head, &[tensor], &mut found).unwrap();
        assert_eq!(found.iter().map(|c| c.score).collect::<Vec<_>>(), [0.9], "{near} {far}");
    }

    proptest::proptest! {
        #[test]
        fn of_many_rows_those_that_reach_a_threshold_are_found_with_their_best_class(
            rows in 1usize..700, strong in proptest::collection::vec((0usize..700, 0usize..4, 0.25f32..1.0), 0..20),
        ) {
            let mut data = weak(rows, 4);
            for (row, class, score) in strong {
                data[(4 + class) * rows + row % rows] = score;
            }
            let mut wanted = Vec::new();
            for row in 0..rows {
                let scores = (0..4).map(|class| (class, data[(4 + class) * rows + row]));
                let reached = scores.filter(|(class, score)| *score >= 0.3 + 0.1 * *class as f32);
                let best = reached.fold(None, |best: Option<(usize, f32)>, one| best.filter(|b| b.1 >= one.1).or(Some(one)));
                wanted.extend(best.map(|(class, score)| (row, class, score)));
            }
            proptest::prop_assert_eq!(raw(4, &data), Ok(wanted));
        }

        #[test]
        fn a_score_or_box_that_is_no_number_refuses_all(rows in 1usize..700, at in 0usize..5600, which in 0usize..3) {
            let mut data = weak(rows, 4);
            let at = at % data.len();
            data[at] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][which];
            proptest::prop_assert_eq!(raw(4, &data), Err(FamilyError::NotFinite { tensor: "output0".to_owned() }));
        }
    }
}
