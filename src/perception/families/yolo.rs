//! YOLO's heads that give decoded boxes.

use super::mask::{Mask, Prototypes};
use super::turned::Turned;
use super::{Candidate, FamilyError, Head, Shape, Tensor, all_finite, matrix, suppress};
use crate::perception::manifest::Order;
use crate::perception::tiling;

/// Rows of the output, however they are stored: by columns (`[fields, N]`, v8 and later) or by rows (`[N, fields]`).
struct Rows<'a> {
    data: &'a [f32],
    count: usize,
    fields: usize,
    by_columns: bool,
}

impl<'a> Rows<'a> {
    fn of(tensor: &'a Tensor<'_>, fields: usize) -> Option<Rows<'a>> {
        let (count, by_columns) = match matrix(&tensor.shape)? {
            (first, count) if first == fields => (count, true),
            (count, last) if last == fields => (count, false),
            _ => return None,
        };
        Some(Rows { data: &tensor.data, count, fields, by_columns })
    }

    fn at(&self, row: usize, field: usize) -> f32 {
        if self.by_columns { self.data[field * self.count + row] } else { self.data[row * self.fields + field] }
    }

    fn four(&self, row: usize) -> [f32; 4] {
        [self.at(row, 0), self.at(row, 1), self.at(row, 2), self.at(row, 3)]
    }

    /// Each row's best class that reaches its threshold, with its score. `first` is the field of the first class;
    /// `objectness` multiplies. False if one of the scores that were read side by side is no number.
    fn best(
        &self,
        head: &Head<'_>,
        first: usize,
        objectness: Option<usize>,
        mut take: impl FnMut(usize, usize, f32),
    ) -> bool {
        if self.by_columns && objectness.is_none() {
            // A class's scores lie side by side, and nearly none reaches its threshold: piece by piece the only question is
            // whether all are below it, which the processor answers in strides. What is no number is never below.
            const PIECE: usize = 256;
            let of_class = |class: usize| &self.data[(first + class) * self.count..][..self.count];
            let mut reached = vec![false; self.count];
            for (class, threshold) in head.thresholds.iter().enumerate() {
                for (piece, reached) in of_class(class).chunks(PIECE).zip(reached.chunks_mut(PIECE)) {
                    let below = |score: &f32| u32::from((*score < *threshold) & (*score > f32::NEG_INFINITY));
                    if piece.iter().map(below).sum::<u32>() as usize == piece.len() {
                        continue;
                    }
                    if !all_finite(piece) {
                        return false;
                    }
                    reached.iter_mut().zip(piece).for_each(|(reached, score)| *reached |= score >= threshold);
                }
            }
            let mut scores = vec![0.0; head.classes()];
            for (row, _) in reached.iter().enumerate().filter(|(_, reached)| **reached) {
                for (class, score) in scores.iter_mut().enumerate() {
                    *score = of_class(class)[row];
                }
                head.pick(&scores, 1.0, |class, score| take(row, class, score));
            }
            return true;
        }
        let mut scores = vec![0.0; head.classes()];
        for row in 0..self.count {
            let times = objectness.map_or(1.0, |field| self.at(row, field));
            // Probabilities are at most 1, so that nothing can reach its threshold.
            if objectness.is_some() && times < head.least {
                continue;
            }
            for (class, score) in scores.iter_mut().enumerate() {
                *score = self.at(row, first + class);
            }
            head.pick(&scores, times, |class, score| take(row, class, score));
        }
        true
    }
}

pub(super) fn raw(head: &Head<'_>, tensors: &[Tensor<'_>], found: &mut Vec<Candidate>) -> Result<(), FamilyError> {
    let tensor = head.only(tensors)?;
    let fields = 4 + head.classes();
    let rows = Rows::of(tensor, fields).ok_or_else(|| head.shape_fault(tensor, format!("[1, {fields}, N]")))?;
    // The scores are read once for both questions: they are most of what there is to read.
    let boxes = if rows.by_columns { &rows.data[..4 * rows.count] } else { rows.data };
    let finite = all_finite(boxes)
        && rows.best(head, 4, None, |row, class, score| {
            found.push(Candidate::upright(class, score, head.corners(rows.four(row))));
        });
    if finite { Ok(()) } else { Err(FamilyError::NotFinite { tensor: tensor.name.to_owned() }) }
}

pub(super) fn objectness(
    head: &Head<'_>,
    tensors: &[Tensor<'_>],
    found: &mut Vec<Candidate>,
) -> Result<(), FamilyError> {
    let tensor = head.only(tensors)?;
    let fields = 5 + head.classes();
    let rows = Rows::of(tensor, fields).ok_or_else(|| head.shape_fault(tensor, format!("[1, N, {fields}]")))?;
    rows.best(head, 5, Some(4), |row, class, score| {
        found.push(Candidate::upright(class, score, head.corners(rows.four(row))));
    });
    Ok(())
}

pub(super) fn end2end(head: &Head<'_>, tensors: &[Tensor<'_>], found: &mut Vec<Candidate>) -> Result<(), FamilyError> {
    let tensor = head.only(tensors)?;
    // Where each number stands: box, score, class.
    let (fields, bbox, score, class) = match head.output.order {
        Order::BoxScoreClass => (6, 0, 4, 5),
        Order::ClassScoreBox => (6, 2, 1, 0),
        Order::BatchBoxClassScore => (7, 1, 6, 5),
    };
    let wanted = || head.shape_fault(tensor, format!("[1, N, {fields}]"));
    let (_, columns) = matrix(&tensor.shape).ok_or_else(wanted)?;
    if columns != fields {
        return Err(wanted());
    }
    for row in tensor.data.chunks_exact(fields) {
        selected(head, row[score], row[class], |class| {
            let bbox = head.corners([row[bbox], row[bbox + 1], row[bbox + 2], row[bbox + 3]]);
            found.push(Candidate::upright(class, row[score], bbox));
        })?;
    }
    Ok(())
}

/// A row that the graph selected itself: taken if its class exists and its score reaches the threshold. Rows of padding
/// have the score 0, and whatever class.
fn selected(head: &Head<'_>, score: f32, label: f32, take: impl FnOnce(usize)) -> Result<(), FamilyError> {
    if score < head.least {
        return Ok(());
    }
    match head.class_of(label.round() as i64)? {
        Some(class) if score >= head.thresholds[class] => take(class),
        _ => {}
    }
    Ok(())
}

pub(super) fn obb(head: &Head<'_>, tensors: &[Tensor<'_>], found: &mut Vec<Candidate>) -> Result<(), FamilyError> {
    let tensor = head.only(tensors)?;
    let fields = 5 + head.classes();
    let [to_x, to_y] = head.unit();
    let turned = |[x, y, w, h]: [f32; 4], angle| Turned { x: x * to_x, y: y * to_y, w: w * to_x, h: h * to_y, angle };
    let mut all: Vec<(usize, f32, Turned)> = Vec::new();
    match matrix(&tensor.shape) {
        Some((rows, 7)) if rows != fields => {
            for row in tensor.data.chunks_exact(7) {
                selected(head, row[4], row[5], |class| {
                    all.push((class, row[4], turned([row[0], row[1], row[2], row[3]], row[6])));
                })?;
            }
        }
        _ => {
            let rows = Rows::of(tensor, fields)
                .ok_or_else(|| head.shape_fault(tensor, format!("[1, {fields}, N] or [1, N, 7]")))?;
            rows.best(head, 4, None, |row, class, score| {
                all.push((class, score, turned(rows.four(row), rows.at(row, fields - 1))));
            });
            // Upright boxes around slanting neighbours overlap where the things do not. As Ultralytics does it here, what is
            // dropped still drops what is like it.
            all.sort_by(|a, b| b.1.total_cmp(&a.1));
            let like =
                |a: &(usize, f32, Turned), b: &(usize, f32, Turned)| a.0 == b.0 && a.2.similarity(&b.2) > head.nms_iou;
            let kept = (0..all.len()).filter(|i| !all[..*i].iter().any(|better| like(better, &all[*i])));
            all = kept.map(|i| all[i]).collect();
        }
    }
    found.extend(all.into_iter().map(|(class, score, turned)| {
        let corners = turned.corners();
        let shape = Some(Box::new(Shape::Turned(corners)));
        Candidate { class, score, bbox: turned.hull(), shape }
    }));
    Ok(())
}

pub(super) fn seg(head: &Head<'_>, tensors: &[Tensor<'_>], found: &mut Vec<Candidate>) -> Result<(), FamilyError> {
    let [tensor, prototypes] = tensors else {
        return Err(head.tensors_fault("two tensors, boxes with coefficients and prototypes,", tensors));
    };
    let prototypes = Prototypes::of(prototypes, head.size)
        .ok_or_else(|| head.shape_fault(prototypes, "[1, M, height, width] for the prototypes"))?;
    let masks = prototypes.count;
    let before = if head.output.objectness { 5 } else { 4 };
    let fields = before + head.classes() + masks;
    // Class, score, box, and where its coefficients are.
    let mut all: Vec<(usize, f32, [f32; 4], Vec<f32>)> = Vec::new();
    match matrix(&tensor.shape) {
        Some((rows, columns)) if columns == 6 + masks && rows != fields && columns != fields => {
            for row in tensor.data.chunks_exact(columns) {
                selected(head, row[4], row[5], |class| {
                    all.push((class, row[4], head.corners([row[0], row[1], row[2], row[3]]), row[6..].to_vec()));
                })?;
            }
        }
        _ => {
            let rows = Rows::of(tensor, fields).ok_or_else(|| {
                head.shape_fault(tensor, format!("[1, {fields}, N] or [1, N, {}] ({masks} masks)", 6 + masks))
            })?;
            let objectness = head.output.objectness.then_some(4);
            let mut picked = Vec::new();
            rows.best(head, before, objectness, |row, class, score| {
                picked.push((class, score, head.corners(rows.four(row)), row));
            });
            // A mask costs more than a box: only what will be kept gets one.
            let same = |a: &(usize, f32, [f32; 4], usize), b: &(usize, f32, [f32; 4], usize)| {
                a.0 == b.0 && tiling::overlap(&a.2, &b.2).iou > head.nms_iou
            };
            all.extend(suppress(picked, |c| c.1, same).into_iter().map(|(class, score, bbox, row)| {
                let coefficients = (fields - masks..fields).map(|field| rows.at(row, field)).collect();
                (class, score, bbox, coefficients)
            }));
        }
    }
    found.extend(all.into_iter().filter_map(|(class, score, bbox, coefficients)| {
        let mask = Mask::of(&prototypes, &coefficients, bbox);
        // A box of which nothing belongs to the thing shows none: Ultralytics drops it here too.
        let shape = (!mask.is_empty(&bbox, head.size)).then(|| Some(Box::new(Shape::Mask(mask))))?;
        Some(Candidate { class, score, bbox, shape })
    }));
    Ok(())
}
