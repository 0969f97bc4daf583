//! Heads whose boxes are relative to the cells of a grid.

use super::{Candidate, FamilyError, Head, Tensor, activate, matrix, softmax};

/// The cells of all levels, finest first, row by row: column, row, pixels a cell.
fn cells(head: &Head<'_>) -> impl Iterator<Item = (f32, f32, f32)> {
    let [width, height] = head.size;
    head.output.strides.iter().flat_map(move |stride| {
        let (columns, rows) = level(width, height, *stride);
        let stride = *stride as f32;
        (0..rows).flat_map(move |row| (0..columns).map(move |column| (column as f32, row as f32, stride)))
    })
}

/// Columns and rows of a level: what does not fill a cell still gets one.
fn level(width: f32, height: f32, stride: u32) -> (usize, usize) {
    ((width as usize).div_ceil(stride as usize), (height as usize).div_ceil(stride as usize))
}

fn cell_count(head: &Head<'_>) -> usize {
    let [width, height] = head.size;
    head.output
        .strides
        .iter()
        .map(|stride| {
            let (columns, rows) = level(width, height, *stride);
            columns * rows
        })
        .sum()
}

pub(super) fn yolox(head: &Head<'_>, tensors: &[Tensor<'_>], found: &mut Vec<Candidate>) -> Result<(), FamilyError> {
    let tensor = head.only(tensors)?;
    let (count, fields) = (cell_count(head), 5 + head.classes());
    if matrix(&tensor.shape) != Some((count, fields)) {
        let strides = &head.output.strides;
        return Err(head.shape_fault(tensor, format!("[1, {count}, {fields}] (cells of strides {strides:?})")));
    }
    for (row, (column, line, stride)) in tensor.data.chunks_exact(fields).zip(cells(head)) {
        let objectness = row[4];
        if objectness < head.least {
            continue;
        }
        head.pick(&row[5..], objectness, |class, score| {
            let (x, y) = ((row[0] + column) * stride, (row[1] + line) * stride);
            let (w, h) = (row[2].exp() * stride, row[3].exp() * stride);
            found.push(Candidate::upright(class, score, [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0]));
        });
    }
    Ok(())
}

/// Scores and four distributions a cell, in one tensor or in one a level (all scores first, then all distances).
pub(super) fn distribution(
    head: &Head<'_>,
    tensors: &[Tensor<'_>],
    found: &mut Vec<Candidate>,
) -> Result<(), FamilyError> {
    let classes = head.classes();
    let levels = head.output.strides.len();
    let [width, height] = head.size;
    if let [tensor] = tensors {
        let count = cell_count(head);
        let fields = match matrix(&tensor.shape) {
            Some((rows, fields)) if rows == count && bins(fields.saturating_sub(classes)).is_some() => fields,
            _ => {
                let strides = &head.output.strides;
                let wanted = format!("[1, {count}, {classes} + 4 * bins] (cells of strides {strides:?})");
                return Err(head.shape_fault(tensor, wanted));
            }
        };
        for (row, cell) in tensor.data.chunks_exact(fields).zip(cells(head)) {
            let (scores, distances) = row.split_at(classes);
            let first = found.len();
            read_cell(head, scores, distances, cell, found);
            // NanoDet cuts boxes at its input's edge before it looks which are the same thing; PicoDet does not.
            for candidate in found.iter_mut().skip(first) {
                let [x1, y1, x2, y2] = candidate.bbox;
                candidate.bbox =
                    [x1.clamp(0.0, width), y1.clamp(0.0, height), x2.clamp(0.0, width), y2.clamp(0.0, height)];
            }
        }
        return Ok(());
    }
    if tensors.len() != 2 * levels {
        return Err(head.tensors_fault("one tensor, or scores and then distances for each of output.strides,", tensors));
    }
    let mut at = cells(head);
    for (index, stride) in head.output.strides.iter().enumerate() {
        let (columns, rows) = level(width, height, *stride);
        let (scores, distances) = (&tensors[index], &tensors[levels + index]);
        let scores = Level::of(scores, columns * rows)
            .filter(|s| s.fields == classes)
            .ok_or_else(|| head.shape_fault(scores, format!("[1, {}, {classes}]", columns * rows)))?;
        let distances = Level::of(distances, columns * rows)
            .filter(|d| bins(d.fields).is_some())
            .ok_or_else(|| head.shape_fault(distances, format!("[1, {}, 4 * bins]", columns * rows)))?;
        for (index, cell) in at.by_ref().take(columns * rows).enumerate() {
            read_cell(head, &scores.row(index), &distances.row(index), cell, found);
        }
    }
    Ok(())
}

/// One level's tensor: `[1, cells, fields]`, or `[1, fields, rows, columns]`.
struct Level<'a> {
    data: &'a [f32],
    cells: usize,
    fields: usize,
    planes: bool,
}

impl<'a> Level<'a> {
    fn of(tensor: &'a Tensor<'_>, cells: usize) -> Option<Level<'a>> {
        let data = &tensor.data;
        match tensor.shape[..] {
            [1, count, fields] | [count, fields] if count == cells => {
                Some(Level { data, cells, fields, planes: false })
            }
            [1, fields, rows, columns] if rows * columns == cells => Some(Level { data, cells, fields, planes: true }),
            _ => None,
        }
    }

    fn row(&self, cell: usize) -> Vec<f32> {
        let at = |field| if self.planes { field * self.cells + cell } else { cell * self.fields + field };
        (0..self.fields).map(|field| self.data[at(field)]).collect()
    }
}

/// How many steps each of four distributions has.
fn bins(fields: usize) -> Option<usize> {
    (fields.is_multiple_of(4) && fields >= 8).then_some(fields / 4)
}

fn read_cell(
    head: &Head<'_>,
    scores: &[f32],
    distances: &[f32],
    (column, row, stride): (f32, f32, f32),
    found: &mut Vec<Candidate>,
) {
    let mut scores = scores.to_vec();
    activate(head.output.activation, &mut scores);
    let mut bbox = None;
    head.pick(&scores, 1.0, |class, score| {
        let bbox = *bbox.get_or_insert_with(|| {
            let (x, y) = ((column + head.output.cell_offset) * stride, (row + head.output.cell_offset) * stride);
            let [left, top, right, bottom] = expected(distances).map(|steps| steps * stride);
            [x - left, y - top, x + right, y + bottom]
        });
        found.push(Candidate::upright(class, score, bbox));
    });
}

/// The expected value of each of the four distributions, in steps of a cell.
fn expected(distances: &[f32]) -> [f32; 4] {
    let bins = distances.len() / 4;
    std::array::from_fn(|side| {
        let mut steps = distances[side * bins..(side + 1) * bins].to_vec();
        softmax(&mut steps);
        steps.iter().enumerate().map(|(step, share)| step as f32 * share).sum()
    })
}
