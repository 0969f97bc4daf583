//! Pure: cutting a picture into even tiles, and making one list of boxes of what the tiles saw.
//!
//! Invariants kept here:
//! - tiles cover every pixel, differ in size by nothing, and overlap by at least what was asked: no slivers;
//! - a thing that lies whole in one tile is one box, whatever its neighbours saw of it;
//! - a thing that no tile holds whole is one box too: pieces that meet at a seam are joined before anything is dropped.

/// A tile's place in the picture, pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

impl Tile {
    fn edges(&self) -> [f32; 4] {
        [self.x as f32, self.y as f32, (self.x + self.width) as f32, (self.y + self.height) as f32]
    }
}

/// A box a tile saw, in the picture's pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    pub class: usize,
    pub score: f32,
    /// x1, y1, x2, y2.
    pub bbox: [f32; 4],
    pub tile: Tile,
    /// Which inner edges of its tile cut it (left, top, right, bottom), so that a neighbour sees more of it.
    pub cut: [bool; 4],
}

impl Seen {
    /// `width` and `height` are the picture's: its own edges cut things too, but nobody sees more of those.
    pub fn new(class: usize, score: f32, bbox: [f32; 4], tile: Tile, width: u32, height: u32) -> Seen {
        let edges = tile.edges();
        let inner = [tile.x > 0, tile.y > 0, tile.x + tile.width < width, tile.y + tile.height < height];
        let cut = std::array::from_fn(|side| inner[side] && (bbox[side] - edges[side]).abs() < AT_EDGE);
        Seen { class, score, bbox, tile, cut }
    }

    fn is_cut(&self) -> bool {
        self.cut.contains(&true)
    }
}

/// A box that comes this near to its tile's edge, in pixels, is taken to be cut by it.
const AT_EDGE: f32 = 3.0;
/// Two pieces are of one thing when their extents along the seam agree so far (intersection over union).
const SAME_EXTENT: f32 = 0.5;
/// What lies in a better box by this share, and was cut, is a piece of it.
const PIECE: f32 = 0.6;

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

/// One list of boxes of what the tiles saw, best first: within a tile the best box stands for all that overlap it by
/// `iou`; pieces that meet at a seam are joined; then the same over all tiles, whole boxes first, and a cut box gives way
/// to one that holds most of it.
pub fn merge(seen: Vec<Seen>, iou: f32) -> Vec<Seen> {
    let many = seen.iter().any(|s| s.tile != seen[0].tile);
    let mut kept = suppress(seen, iou, |a, b| a.tile == b.tile);
    if many {
        join_at_seams(&mut kept);
        kept = suppress(kept, iou, |_, _| true);
    }
    kept.sort_by(|a, b| b.score.total_cmp(&a.score));
    kept
}

/// Greedy suppression among boxes of one class that `comparable` allows to be compared.
fn suppress(mut seen: Vec<Seen>, iou: f32, comparable: impl Fn(&Seen, &Seen) -> bool) -> Vec<Seen> {
    // Whole boxes first, so that a confident half never wins over the whole.
    seen.sort_by(|a, b| a.is_cut().cmp(&b.is_cut()).then(b.score.total_cmp(&a.score)));
    let mut kept: Vec<Seen> = Vec::with_capacity(seen.len());
    for candidate in seen {
        let twin = kept.iter_mut().find(|k| {
            k.class == candidate.class && comparable(k, &candidate) && {
                let both = overlap(&k.bbox, &candidate.bbox);
                both.iou >= iou || (candidate.is_cut() && both.share_of_second >= PIECE)
            }
        });
        match twin {
            Some(twin) => twin.score = twin.score.max(candidate.score),
            None => kept.push(candidate),
        }
    }
    kept
}

/// Joins pieces of one thing that no tile saw whole, until nothing more meets.
fn join_at_seams(seen: &mut Vec<Seen>) {
    let mut first = 0;
    while first < seen.len() {
        let met = (0..seen.len()).find_map(|other| joined(&seen[first], &seen[other]).map(|whole| (other, whole)));
        match met {
            // What was joined may now meet a piece that was passed over: begin again.
            Some((other, whole)) => {
                seen[first] = whole;
                seen.swap_remove(other);
                first = 0;
            }
            None => first += 1,
        }
    }
}

/// Both pieces as one, where the right (or lower) edge of one's tile and the left (or upper) edge of the other's cut the
/// same thing: each then fills the whole overlap of the two tiles, and across it they are equally long.
fn joined(one: &Seen, other: &Seen) -> Option<Seen> {
    if one.class != other.class {
        return None;
    }
    for (low, high, across) in [(0, 2, [1, 3]), (1, 3, [0, 2])] {
        let (one_edges, other_edges) = (one.tile.edges(), other.tile.edges());
        let neighbours = one_edges[low] < other_edges[low] && other_edges[low] <= one_edges[high] + AT_EDGE;
        if !(one.cut[high] && other.cut[low] && neighbours) {
            continue;
        }
        let fills = one.bbox[low] <= other.bbox[low] + AT_EDGE
            && one.bbox[high] + AT_EDGE >= other.bbox[low]
            && other.bbox[high] + AT_EDGE >= one.bbox[high];
        let [a, b] = across;
        let shared = one.bbox[b].min(other.bbox[b]) - one.bbox[a].max(other.bbox[a]);
        let total = one.bbox[b].max(other.bbox[b]) - one.bbox[a].min(other.bbox[a]);
        if fills && shared >= SAME_EXTENT * total {
            return Some(Seen {
                class: one.class,
                score: one.score.max(other.score),
                bbox: union(&one.bbox, &other.bbox),
                tile: hull(&one.tile, &other.tile),
                cut: std::array::from_fn(|side| match side {
                    side if side == low => one.cut[side],
                    side if side == high => other.cut[side],
                    side => one.cut[side] && other.cut[side],
                }),
            });
        }
    }
    None
}

fn union(a: &[f32; 4], b: &[f32; 4]) -> [f32; 4] {
    [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])]
}

fn hull(a: &Tile, b: &Tile) -> Tile {
    let (x, y) = (a.x.min(b.x), a.y.min(b.y));
    let right = (a.x + a.width).max(b.x + b.width);
    let bottom = (a.y + a.height).max(b.y + b.height);
    Tile { x, y, width: right - x, height: bottom - y }
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

        /// As few as can be: one tile less, at full size, would leave ground uncovered.
        #[test]
        fn no_tile_is_a_sliver_or_superfluous(width in 1u32..9000, max in 64u32..1100, overlap in 0u32..200) {
            let row: Vec<_> = tiles(width, 64, max, 64, overlap);
            let wanted = overlap.min(max / 2);
            let fewer = row.len() as u32 - 1;
            prop_assert!(fewer == 0 || fewer * max - (fewer - 1) * wanted < width);
        }

        /// Things of any size, apart from each other, as a perfect model sees their parts: one box each, exactly theirs.
        #[test]
        fn whatever_the_seams_cut_comes_out_as_the_things_that_are_there(
            width in 300u32..2600, height in 300u32..2600, overlap in 16u32..160,
            cells in prop::collection::vec((any::<bool>(), 0.1f32..0.9, 0.1f32..0.9, 0.0f32..1.0, 0.0f32..1.0), 16),
        ) {
            let mut things: Vec<[f32; 4]> = Vec::new();
            for (i, (there, w, h, x, y)) in cells.into_iter().enumerate() {
                // A grid of cells with a thing in some of them, so that no two touch.
                let (cell_w, cell_h) = (width as f32 / 4.0, height as f32 / 4.0);
                let (left, top) = ((i % 4) as f32 * cell_w, (i / 4) as f32 * cell_h);
                let (w, h) = ((cell_w - 16.0) * w, (cell_h - 16.0) * h);
                let (x, y) = (left + 8.0 + (cell_w - 16.0 - w) * x, top + 8.0 + (cell_h - 16.0 - h) * y);
                if there && w >= 8.0 && h >= 8.0 {
                    things.push([x, y, x + w, y + h]);
                }
            }
            let mut seen = Vec::new();
            for tile in tiles(width, height, 512, 512, overlap) {
                let [left, top, right, bottom] = tile.edges();
                for thing in &things {
                    let part = [thing[0].max(left), thing[1].max(top), thing[2].min(right), thing[3].min(bottom)];
                    if part[2] - part[0] >= 2.0 && part[3] - part[1] >= 2.0 {
                        seen.push(Seen::new(0, 0.8, part, tile, width, height));
                    }
                }
            }
            let mut merged: Vec<_> = merge(seen, 0.5).into_iter().map(|s| s.bbox).collect();
            let key = |b: &[f32; 4]| (b[0] as i32, b[1] as i32);
            merged.sort_by_key(key);
            things.sort_by_key(key);
            prop_assert_eq!(merged.len(), things.len(), "{:?} for {:?}", merged, things);
            for (found, thing) in merged.iter().zip(&things) {
                // What only peeps a pixel or two into a tile may be missed there.
                prop_assert!(super::overlap(found, thing).iou > 0.9, "{:?} for {:?}", found, thing);
            }
        }
    }

    const LEFT: Tile = Tile { x: 0, y: 0, width: 100, height: 100 };
    const RIGHT: Tile = Tile { x: 80, y: 0, width: 100, height: 100 };

    fn seen(bbox: [f32; 4], score: f32, tile: Tile) -> Seen {
        Seen::new(0, score, bbox, tile, 180, 100)
    }

    #[test]
    fn half_a_thing_at_a_seam_joins_the_whole_even_when_it_scored_higher() {
        let whole = seen([85.0, 10.0, 130.0, 30.0], 0.6, RIGHT);
        let half = seen([85.0, 10.0, 100.0, 30.0], 0.9, LEFT);
        let merged = merge(vec![half, whole], 0.5);
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].bbox, whole.bbox);
        assert_eq!(merged[0].score, 0.9);
    }

    #[test]
    fn two_halves_that_no_tile_saw_whole_are_one() {
        let merged =
            merge(vec![seen([20.0, 10.0, 100.0, 50.0], 0.7, LEFT), seen([80.0, 12.0, 170.0, 50.0], 0.9, RIGHT)], 0.5);
        assert_eq!(merged.iter().map(|s| (s.bbox, s.score)).collect::<Vec<_>>(), [([20.0, 10.0, 170.0, 50.0], 0.9)]);
    }

    #[test]
    fn two_things_side_by_side_stay_two_also_when_each_touches_the_seam() {
        let apart = [seen([0.0, 0.0, 20.0, 20.0], 0.9, LEFT), seen([18.0, 0.0, 40.0, 20.0], 0.8, LEFT)];
        assert_eq!(merge(apart.to_vec(), 0.5).len(), 2);
        // The left one ends where the right tile begins to see; the right one begins where the left tile ends.
        let touching = [seen([92.0, 10.0, 100.0, 50.0], 0.7, LEFT), seen([80.0, 10.0, 90.0, 50.0], 0.9, RIGHT)];
        assert_eq!(merge(touching.to_vec(), 0.5).len(), 2);
    }
}
