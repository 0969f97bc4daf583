//! Decoded boxes beside one score a class: SSD, and others without suppression.

use super::{Candidate, FamilyError, Head, Tensor, activate};

/// Boxes `[N, 4]` and scores `[N, classes]` or `[classes, N]`.
pub(super) fn ssd(head: &Head<'_>, tensors: &[Tensor<'_>], found: &mut Vec<Candidate>) -> Result<(), FamilyError> {
    let [boxes, scores] = tensors else {
        return Err(head.tensors_fault("boxes and scores, in this order,", tensors));
    };
    // TensorFlow puts a dimension of 1 between: [1, N, 1, 4].
    let squeezed: Vec<usize> = boxes.shape.iter().copied().filter(|n| *n != 1).collect();
    let count = match squeezed[..] {
        [count, 4] => count,
        [4] => 1,
        _ => return Err(head.shape_fault(boxes, "[1, N, 4] for the boxes")),
    };
    let (columns, before) = head.score_columns();
    let by_class = match super::matrix(&scores.shape) {
        Some((n, c)) if n == count && c == columns => false,
        Some((c, n)) if n == count && c == columns => true,
        _ => {
            let wanted = format!("[1, {count}, {columns}] or [1, {columns}, {count}] for the scores");
            return Err(head.shape_fault(scores, wanted));
        }
    };
    let mut row = vec![0.0; columns];
    for (index, bbox) in boxes.data.chunks_exact(4).enumerate() {
        for (column, score) in row.iter_mut().enumerate() {
            *score = scores.data[if by_class { column * count + index } else { index * columns + column }];
        }
        activate(head.output.activation, &mut row);
        let mut corners = None;
        head.pick(&row[before..], 1.0, |class, score| {
            let bbox = *corners.get_or_insert_with(|| head.corners([bbox[0], bbox[1], bbox[2], bbox[3]]));
            found.push(Candidate::upright(class, score, bbox));
        });
    }
    Ok(())
}
