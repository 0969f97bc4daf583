//! DETR's relatives: a fixed number of queries, or what the graph selected of them.

use super::{Candidate, FamilyError, Head, Tensor, activate, matrix, vector};

/// Boxes `[Q, 4]` and scores `[Q, classes]`, in two tensors or side by side in one.
pub(super) fn detr(head: &Head<'_>, tensors: &[Tensor<'_>], found: &mut Vec<Candidate>) -> Result<(), FamilyError> {
    let (columns, before) = head.score_columns();
    let mut read = |bbox: &[f32], scores: &[f32]| {
        let mut scores = scores.to_vec();
        activate(head.output.activation, &mut scores);
        let mut corners = None;
        head.pick(&scores[before..], 1.0, |class, score| {
            let bbox = *corners.get_or_insert_with(|| head.corners([bbox[0], bbox[1], bbox[2], bbox[3]]));
            found.push(Candidate::upright(class, score, bbox));
        });
    };
    match tensors {
        [one] => {
            let fields = 4 + columns;
            if !matches!(matrix(&one.shape), Some((_, f)) if f == fields) {
                return Err(head.shape_fault(one, format!("[1, Q, {fields}]")));
            }
            for row in one.data.chunks_exact(fields) {
                read(&row[..4], &row[4..]);
            }
        }
        [boxes, scores] => {
            let Some((queries, 4)) = matrix(&boxes.shape) else {
                return Err(head.shape_fault(boxes, "[1, Q, 4] for the boxes"));
            };
            if matrix(&scores.shape) != Some((queries, columns)) {
                return Err(head.shape_fault(scores, format!("[1, {queries}, {columns}] for the scores")));
            }
            for (bbox, scores) in boxes.data.chunks_exact(4).zip(scores.data.chunks_exact(columns)) {
                read(bbox, scores);
            }
        }
        _ => return Err(head.tensors_fault("boxes and scores, in this order,", tensors)),
    }
    Ok(())
}

/// Labels `[N]`, boxes `[N, 4]` and scores `[N]`; or labels and boxes `[N, 5]` with the score as the last number.
pub(super) fn triples(head: &Head<'_>, tensors: &[Tensor<'_>], found: &mut Vec<Candidate>) -> Result<(), FamilyError> {
    let (labels, boxes, scores) = match tensors {
        [labels, boxes, scores] => (labels, boxes, Some(scores)),
        [labels, boxes] => (labels, boxes, None),
        _ => return Err(head.tensors_fault("labels, boxes and scores, in this order,", tensors)),
    };
    let fields = if scores.is_some() { 4 } else { 5 };
    let count = match matrix(&boxes.shape) {
        Some((count, f)) if f == fields => count,
        _ => return Err(head.shape_fault(boxes, format!("[N, {fields}] for the boxes"))),
    };
    for tensor in std::iter::once(labels).chain(scores) {
        if vector(&tensor.shape) != Some(count) {
            return Err(head.shape_fault(tensor, format!("[{count}]")));
        }
    }
    for (index, row) in boxes.data.chunks_exact(fields).enumerate() {
        let score = scores.map_or_else(|| row[4], |scores| scores.data[index]);
        if score < head.least {
            continue;
        }
        match head.class_of(labels.data[index].round() as i64)? {
            Some(class) if score >= head.thresholds[class] => {
                let bbox = head.corners([row[0], row[1], row[2], row[3]]);
                found.push(Candidate::upright(class, score, bbox));
            }
            _ => {}
        }
    }
    Ok(())
}
