//! Pure: cutting a picture into even tiles, and making one list of boxes of what the tiles saw.

/// A tile's place in the picture, pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// A box a tile saw, in the picture's pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    pub class: usize,
    pub score: f32,
    /// x1, y1, x2, y2.
    pub bbox: [f32; 4],
    /// Whether an inner edge of its tile cuts it, so that a neighbour sees more of it.
    pub cut: bool,
}

/// Even tiles over the whole picture: as few as fit, equally wide, overlapping by at least `overlap`.
pub fn tiles(width: u32, height: u32, max_width: u32, max_height: u32, overlap: u32) -> Vec<Tile> {
    let columns = spans(width, max_width, overlap);
    let rows = spans(height, max_height, overlap);
    rows.iter().flat_map(|&(y, height)| columns.iter().map(move |&(x, width)| Tile { x, y, width, height })).collect()
}

/// One axis: (start, length) of each span.
fn spans(length: u32, max: u32, overlap: u32) -> Vec<(u32, u32)> {
    if length <= max {
        return vec![(0, length)];
    }
    let overlap = overlap.min(max / 2);
    let count = (length - overlap).div_ceil(max - overlap);
    let size = (length + overlap * (count - 1)).div_ceil(count).min(max);
    (0..count)
        .map(|i| (u64::from(i) * u64::from(length - size) / u64::from(count - 1)) as u32)
        .map(|start| (start, size))
        .collect()
}

/// Whether an edge of the tile that is not an edge of the picture cuts the box.
pub fn is_cut(bbox: &[f32; 4], tile: &Tile, width: u32, height: u32) -> bool {
    const NEAR: f32 = 2.0;
    let (left, top) = (tile.x as f32, tile.y as f32);
    let (right, bottom) = (left + tile.width as f32, top + tile.height as f32);
    (tile.x > 0 && bbox[0] - left < NEAR)
        || (tile.y > 0 && bbox[1] - top < NEAR)
        || (tile.x + tile.width < width && right - bbox[2] < NEAR)
        || (tile.y + tile.height < height && bottom - bbox[3] < NEAR)
}

/// Merges what the tiles saw: within a class, the better box stands for all that overlap it by `iou`;
/// a box cut at a seam gives way to a whole one that holds most of it.
pub fn merge(mut seen: Vec<Seen>, iou: f32) -> Vec<Seen> {
    // Whole boxes first, so that a confident half never wins over the whole.
    seen.sort_by(|a, b| a.cut.cmp(&b.cut).then(b.score.total_cmp(&a.score)));
    let mut kept: Vec<Seen> = Vec::new();
    for candidate in seen {
        let twin = kept.iter_mut().find(|k| {
            k.class == candidate.class
                && (overlap(&k.bbox, &candidate.bbox).iou >= iou
                    || (candidate.cut && overlap(&k.bbox, &candidate.bbox).share_of_second >= 0.6))
        });
        match twin {
            Some(twin) => twin.score = twin.score.max(candidate.score),
            None => kept.push(candidate),
        }
    }
    kept.sort_by(|a, b| b.score.total_cmp(&a.score));
    kept
}

pub struct Overlap {
    pub iou: f32,
    /// The intersection as a share of the second box.
    pub share_of_second: f32,
}

pub fn overlap(a: &[f32; 4], b: &[f32; 4]) -> Overlap {
    let width = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let height = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let intersection = width * height;
    let area = |r: &[f32; 4]| ((r[2] - r[0]) * (r[3] - r[1])).max(f32::EPSILON);
    Overlap { iou: intersection / (area(a) + area(b) - intersection), share_of_second: intersection / area(b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tiles_cover_every_pixel_are_even_and_overlap_enough(
            width in 1u32..9000, height in 1u32..9000, max in 64u32..1100, overlap in 0u32..200,
        ) {
            let tiles = tiles(width, height, max, max, overlap);
            let wanted = overlap.min(max / 2);
            let mut columns: Vec<_> = tiles.iter().filter(|t| t.y == 0).collect();
            columns.sort_by_key(|t| t.x);
            prop_assert_eq!(columns[0].x, 0);
            prop_assert_eq!(columns.last().map(|t| t.x + t.width), Some(width));
            for pair in columns.windows(2) {
                prop_assert_eq!(pair[0].width, pair[1].width);
                prop_assert!(pair[0].x + pair[0].width >= pair[1].x + wanted.min(pair[0].width - 1));
            }
            prop_assert!(tiles.iter().all(|t| t.width <= max && t.height <= max));
        }
    }

    fn seen(bbox: [f32; 4], score: f32, cut: bool) -> Seen {
        Seen { class: 0, score, bbox, cut }
    }

    #[test]
    fn half_a_thing_at_a_seam_joins_the_whole_even_when_it_scored_higher() {
        let whole = seen([90.0, 0.0, 130.0, 20.0], 0.6, false);
        let half = seen([90.0, 0.0, 100.0, 20.0], 0.9, true);
        let merged = merge(vec![half, whole], 0.5);
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].bbox, whole.bbox);
        assert_eq!(merged[0].score, 0.9);
    }

    #[test]
    fn two_things_side_by_side_stay_two() {
        let merged =
            merge(vec![seen([0.0, 0.0, 20.0, 20.0], 0.9, false), seen([18.0, 0.0, 40.0, 20.0], 0.8, false)], 0.5);
        assert_eq!(merged.len(), 2);
    }
}
