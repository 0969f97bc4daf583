//! Masks out of prototypes: a weighted sum of a few small pictures, cut out by the box.

use super::Tensor;

/// `[1, M, height, width]`, over the whole input.
pub(super) struct Prototypes<'a> {
    pub count: usize,
    rows: usize,
    columns: usize,
    data: &'a [f32],
    /// Pixels of the input a cell.
    cell: [f32; 2],
}

impl<'a> Prototypes<'a> {
    pub fn of(tensor: &'a Tensor<'_>, size: [f32; 2]) -> Option<Prototypes<'a>> {
        let [1, count, rows, columns] = tensor.shape[..] else { return None };
        if count == 0 || rows == 0 || columns == 0 {
            return None;
        }
        let cell = [size[0] / columns as f32, size[1] / rows as f32];
        Some(Prototypes { count, rows, columns, data: &tensor.data, cell })
    }
}

/// What of a box belongs to the thing. A patch of the mask's logits at the prototypes' resolution; between its cells it is
/// interpolated, and what is above 0 belongs.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    /// Where the patch's first cell begins, and how large a cell is, in pixels.
    origin: [f32; 2],
    cell: [f32; 2],
    columns: usize,
    rows: usize,
    logits: Vec<f32>,
}

impl Mask {
    pub(super) fn of(prototypes: &Prototypes<'_>, coefficients: &[f32], bbox: [f32; 4]) -> Mask {
        // One cell more on each side, for the interpolation.
        let span = |from: f32, to: f32, cell: f32, count: usize| {
            let first = ((from / cell - 1.5).floor().max(0.0) as usize).min(count - 1);
            let last = ((to / cell + 1.5).ceil().max(1.0) as usize).min(count).max(first + 1);
            (first, last)
        };
        let (left, right) = span(bbox[0], bbox[2], prototypes.cell[0], prototypes.columns);
        let (top, bottom) = span(bbox[1], bbox[3], prototypes.cell[1], prototypes.rows);
        let (columns, rows) = (right - left, bottom - top);
        let mut logits = vec![0.0; columns * rows];
        let plane = prototypes.rows * prototypes.columns;
        for (coefficient, prototype) in coefficients.iter().zip(prototypes.data.chunks_exact(plane)) {
            for (row, to) in logits.chunks_exact_mut(columns).enumerate() {
                let from = &prototype[(top + row) * prototypes.columns + left..][..columns];
                to.iter_mut().zip(from).for_each(|(to, from)| *to += coefficient * from);
            }
        }
        let cell = prototypes.cell;
        Mask { origin: [left as f32 * cell[0], top as f32 * cell[1]], cell, columns, rows, logits }
    }

    /// Whether no pixel of the input, `size` wide and tall, belongs to the thing and lies within the box. Before [`Mask::map`].
    pub(super) fn is_empty(&self, bbox: &[f32; 4], size: [f32; 2]) -> bool {
        let within = |low: f32, high: f32, end: f32| low.max(0.0).ceil() as u32..high.min(end).max(0.0).ceil() as u32;
        let columns = within(bbox[0], bbox[2], size[0]);
        !within(bbox[1], bbox[3], size[1]).any(|y| columns.clone().any(|x| self.has(x as f32 + 0.5, y as f32 + 0.5)))
    }

    pub(super) fn map(&mut self, offset: [f32; 2], scale: [f32; 2]) {
        for axis in 0..2 {
            self.origin[axis] = (self.origin[axis] - offset[axis]) * scale[axis];
            self.cell[axis] *= scale[axis];
        }
    }

    /// Whether the place belongs to the thing, going by the mask alone.
    pub fn has(&self, x: f32, y: f32) -> bool {
        let along = |at: f32, axis: usize, count: usize| {
            let at = ((at - self.origin[axis]) / self.cell[axis] - 0.5).clamp(0.0, (count - 1) as f32);
            let low = at as usize;
            (low, (low + 1).min(count - 1), at - low as f32)
        };
        let (left, right, over) = along(x, 0, self.columns);
        let (top, bottom, down) = along(y, 1, self.rows);
        let at = |row: usize, column: usize| self.logits[row * self.columns + column];
        let upper = at(top, left) * (1.0 - over) + at(top, right) * over;
        let lower = at(bottom, left) * (1.0 - over) + at(bottom, right) * over;
        upper * (1.0 - down) + lower * down > 0.0
    }

    /// The mask within `bbox` in a picture of `width` x `height`, as COCO counts it without compression: runs of outside
    /// and inside in turn, column by column, beginning with outside.
    pub fn runs(&self, bbox: &[f32; 4], width: u32, height: u32) -> Vec<u64> {
        let within = |low: f32, high: f32, count: u32| {
            let clamp = |v: f32| (v.ceil().max(0.0) as u32).min(count);
            clamp(low)..clamp(high)
        };
        let (columns, rows) = (within(bbox[0], bbox[2], width), within(bbox[1], bbox[3], height));
        let mut runs = Vec::new();
        let (mut inside, mut since) = (false, 0u64);
        let mut turn = |at: u64, to: bool| {
            if to != inside {
                runs.push(at - since);
                (inside, since) = (to, at);
            }
        };
        for x in columns {
            let start = u64::from(x) * u64::from(height);
            for y in rows.clone() {
                turn(start + u64::from(y), self.has(x as f32 + 0.5, y as f32 + 0.5));
            }
            if rows.end < height {
                turn(start + u64::from(rows.end), false);
            }
            if rows.start > 0 {
                turn(start + u64::from(height), false);
            }
        }
        let end = u64::from(width) * u64::from(height);
        turn(end, false);
        if since < end || runs.is_empty() {
            runs.push(end - since);
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inside is the left half of a picture of 8 x 4.
    fn left_half() -> Mask {
        let logits = [1.0, 1.0, -1.0, -1.0].repeat(2);
        Mask { origin: [0.0, 0.0], cell: [2.0, 2.0], columns: 4, rows: 2, logits }
    }

    #[test]
    fn runs_go_down_the_columns_and_add_up_to_the_picture() {
        let whole = left_half().runs(&[0.0, 0.0, 8.0, 4.0], 8, 4);
        assert_eq!(whole, [0, 16, 16]);
        let part = left_half().runs(&[1.0, 1.0, 3.0, 3.0], 8, 4);
        assert_eq!(part, [5, 2, 2, 2, 21]);
        assert_eq!(part.iter().sum::<u64>(), 32);
        assert_eq!(left_half().runs(&[5.0, 0.0, 8.0, 4.0], 8, 4), [32]);
    }

    #[test]
    fn a_mask_is_empty_where_its_box_shows_nothing_of_the_thing() {
        let size = [8.0, 4.0];
        assert!(!left_half().is_empty(&[0.0, 0.0, 8.0, 4.0], size));
        assert!(left_half().is_empty(&[5.0, 0.0, 8.0, 4.0], size));
        assert!(left_half().is_empty(&[2.1, 1.2, 2.9, 1.8], size), "no pixel's corner lies in so small a box");
        assert!(left_half().is_empty(&[-9.0, 0.0, -1.0, 4.0], size), "all of it lies outside");
    }

    #[test]
    fn a_mask_goes_along_when_the_picture_is_scaled() {
        let mut mask = left_half();
        mask.map([1.0, 0.0], [10.0, 10.0]);
        assert!(mask.has(25.0, 20.0) && !mask.has(35.0, 20.0));
    }
}
