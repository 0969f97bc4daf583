//! A finished town as the renderer wants it: solids and ground outlines sorted into a uniform grid.

use super::ground::{Feature, Place};
use super::math::{V3, hash_unit, noise, v3};
use super::shapes::{Finish, Hit, Prim};

/// Half the side of the square that is built; beyond it only open land is drawn.
pub const HALF: f32 = 448.0;
const CELL: f32 = 4.0;
const SIDE: usize = (2.0 * HALF / CELL) as usize;
const FEATURE_CELL: f32 = 8.0;
const FEATURE_SIDE: usize = (2.0 * HALF / FEATURE_CELL) as usize;
/// The raster of heights from which nearness to walls darkens the ambient light.
const SHADE_CELL: f32 = 1.0;
const SHADE_SIDE: usize = (2.0 * HALF / SHADE_CELL) as usize;

/// Something a detector is meant to find, or at least to tell apart.
#[derive(Debug, Clone, Copy)]
pub struct Object {
    /// Index in the model's classes.
    pub class: u8,
    pub low: V3,
    pub high: V3,
}

/// A ball of smoke: density falls off as a Gaussian.
#[derive(Debug, Clone, Copy)]
pub struct Puff {
    pub centre: V3,
    pub sigma: f32,
    /// Optical depth through its middle.
    pub depth: f32,
}

#[derive(Debug, Clone)]
pub struct Plume {
    pub object: u32,
    pub centre: V3,
    pub radius: f32,
    pub tone: V3,
    pub puffs: Vec<Puff>,
    pub seed: u32,
}

/// Items by cell: `items[starts[c]..starts[c + 1]]`.
#[derive(Debug, Clone, Default)]
struct Buckets {
    starts: Vec<u32>,
    items: Vec<u32>,
}

impl Buckets {
    fn new(side: usize, cell: f32, bounds: &[[f32; 4]]) -> Self {
        let span = |lo: f32, hi: f32| {
            let index = |v: f32| (((v + HALF) / cell).floor().max(0.0) as usize).min(side - 1);
            (index(lo), index(hi))
        };
        let visit = |b: &[f32; 4], each: &mut dyn FnMut(usize)| {
            if b[2] < -HALF || b[3] < -HALF || b[0] > HALF || b[1] > HALF {
                return;
            }
            let ((x0, x1), (y0, y1)) = (span(b[0], b[2]), span(b[1], b[3]));
            for y in y0..=y1 {
                for x in x0..=x1 {
                    each(y * side + x);
                }
            }
        };
        let mut starts = vec![0u32; side * side + 1];
        for b in bounds {
            visit(b, &mut |c| starts[c + 1] += 1);
        }
        for c in 0..side * side {
            starts[c + 1] += starts[c];
        }
        let mut next = starts.clone();
        let mut items = vec![0u32; starts[side * side] as usize];
        for (i, b) in bounds.iter().enumerate() {
            visit(b, &mut |c| {
                items[next[c] as usize] = i as u32;
                next[c] += 1;
            });
        }
        Self { starts, items }
    }

    #[inline(always)]
    fn at(&self, cell: usize) -> &[u32] {
        &self.items[self.starts[cell] as usize..self.starts[cell + 1] as usize]
    }
}

/// A ball around a solid, in the order of its cell: most rays miss it, and then the solid itself is never read.
#[derive(Debug, Clone, Copy)]
struct Ball {
    centre: V3,
    radius2: f32,
    prim: u32,
}

impl Ball {
    /// Whether a ray with a unit direction may touch it.
    #[inline(always)]
    fn near(&self, origin: V3, direction: V3) -> bool {
        let to = self.centre - origin;
        let along = to.dot(direction);
        to.dot(to) - along * along <= self.radius2
    }
}

#[derive(Debug, Clone)]
pub struct Scene {
    pub prims: Vec<Prim>,
    pub features: Vec<Feature>,
    pub objects: Vec<Object>,
    pub plumes: Vec<Plume>,
    /// The highest solid.
    pub roof: f32,
    /// Where each cell's balls start.
    starts: Vec<u32>,
    balls: Vec<Ball>,
    cell_tops: Vec<f32>,
    feature_cells: Buckets,
    shade: Vec<f32>,
}

impl Scene {
    /// Sorts everything; features must come in painting order, lowest first.
    pub fn new(prims: Vec<Prim>, mut features: Vec<Feature>, mut objects: Vec<Object>, plumes: Vec<Plume>) -> Self {
        features.sort_by_key(|f| f.layer);
        // Top first, so that the first that contains a point is the one seen.
        features.reverse();
        let feature_bounds: Vec<_> = features.iter().map(Feature::bounds).collect();
        let mut bounds = Vec::with_capacity(prims.len());
        let mut tops = Vec::with_capacity(prims.len());
        for p in &prims {
            let r = p.reach();
            bounds.push([p.centre.x - r.x, p.centre.y - r.y, p.centre.x + r.x, p.centre.y + r.y]);
            tops.push(p.centre.z + r.z);
            grow(&mut objects, p.object, p.centre - r, p.centre + r);
        }
        for (f, b) in features.iter().zip(&feature_bounds) {
            grow(&mut objects, f.object, v3(b[0], b[1], 0.0), v3(b[2], b[3], 0.0));
        }
        for plume in &plumes {
            for p in plume.puffs.iter().filter(|p| p.depth > 0.9) {
                let r = v3(p.sigma, p.sigma, p.sigma);
                grow(&mut objects, plume.object, p.centre - r, p.centre + r);
            }
        }
        let solid_cells = Buckets::new(SIDE, CELL, &bounds);
        let cell_tops =
            (0..SIDE * SIDE).map(|c| solid_cells.at(c).iter().map(|&i| tops[i as usize]).fold(0.0, f32::max)).collect();
        let balls = solid_cells
            .items
            .iter()
            .map(|&i| {
                let p = &prims[i as usize];
                // A little more than its own: the distances are squares of some hundred metres in single precision.
                Ball { centre: p.centre, radius2: p.half.dot(p.half) * 1.02 + 0.004, prim: i }
            })
            .collect();
        let shade = shade_raster(&prims, &bounds, &tops);
        Self {
            roof: tops.iter().copied().fold(1.0, f32::max),
            feature_cells: Buckets::new(FEATURE_SIDE, FEATURE_CELL, &feature_bounds),
            prims,
            features,
            objects,
            plumes,
            starts: solid_cells.starts,
            balls,
            cell_tops,
            shade,
        }
    }

    /// The topmost ground outline at a point.
    #[inline]
    pub fn feature_at(&self, x: f32, y: f32) -> Option<(usize, Place)> {
        if x.abs() >= HALF || y.abs() >= HALF {
            return None;
        }
        // A point a hair inside the edge can round on to it.
        let index = |v: f32| (((v + HALF) / FEATURE_CELL) as usize).min(FEATURE_SIDE - 1);
        let cell = index(y) * FEATURE_SIDE + index(x);
        self.feature_cells.at(cell).iter().find_map(|&i| {
            let place = self.features[i as usize].place(x, y)?;
            Some((i as usize, place))
        })
    }

    /// Mean height of what stands within about 3 m.
    #[inline]
    pub fn crowding(&self, x: f32, y: f32) -> f32 {
        let (gx, gy) = ((x + HALF) / SHADE_CELL - 0.5, (y + HALF) / SHADE_CELL - 0.5);
        if !(gx >= 0.0 && gy >= 0.0 && gx < (SHADE_SIDE - 1) as f32 && gy < (SHADE_SIDE - 1) as f32) {
            return 0.0;
        }
        let (ix, iy) = (gx as usize, gy as usize);
        let (fx, fy) = (gx - ix as f32, gy - iy as f32);
        let at = |x: usize, y: usize| self.shade[y * SHADE_SIDE + x];
        let low = at(ix, iy) * (1.0 - fx) + at(ix + 1, iy) * fx;
        let high = at(ix, iy + 1) * (1.0 - fx) + at(ix + 1, iy + 1) * fx;
        low * (1.0 - fy) + high * fy
    }

    /// The first solid a ray meets before `t_end`; the direction has unit length.
    #[inline]
    pub fn trace(&self, origin: V3, direction: V3, t_end: f32) -> Option<(usize, Hit)> {
        let mut best: Option<(usize, Hit)> = None;
        self.walk(origin, direction, t_end, |items, leave| {
            for ball in items.iter().filter(|b| b.near(origin, direction)) {
                let limit = best.map_or(t_end, |(_, h)| h.t);
                let prim = &self.prims[ball.prim as usize];
                if let Some(hit) = prim.meet(origin, direction, 1e-3, limit)
                    && solid_here(prim, &hit, direction)
                {
                    best = Some((ball.prim as usize, hit));
                }
            }
            best.is_some_and(|(_, h)| h.t <= leave)
        });
        best
    }

    /// Whether anything stands between a point and the sun.
    #[inline]
    pub fn shaded(&self, origin: V3, sun: V3) -> bool {
        let mut found = false;
        self.walk(origin, sun, f32::INFINITY, |items, _| {
            found = items.iter().filter(|b| b.near(origin, sun)).any(|ball| {
                let prim = &self.prims[ball.prim as usize];
                prim.paint.finish != Finish::Flame
                    && prim.meet(origin, sun, 2e-3, f32::INFINITY).is_some_and(|hit| solid_here(prim, &hit, sun))
            });
            found
        });
        found
    }

    /// Visits the cells under a ray between the ground and the highest roof, until `visit` says stop.
    #[inline(always)]
    fn walk(&self, o: V3, d: V3, t_end: f32, mut visit: impl FnMut(&[Ball], f32) -> bool) {
        let (mut t0, mut t1) = (0.0f32, t_end);
        let mut clip = |o: f32, d: f32, lo: f32, hi: f32| {
            if d.abs() < 1e-9 {
                if o < lo || o > hi {
                    t1 = -1.0;
                }
                return;
            }
            let (a, b) = ((lo - o) / d, (hi - o) / d);
            t0 = t0.max(a.min(b));
            t1 = t1.min(a.max(b));
        };
        clip(o.z, d.z, 0.0, self.roof);
        clip(o.x, d.x, -HALF, HALF);
        clip(o.y, d.y, -HALF, HALF);
        if t0 >= t1 {
            return;
        }
        let cell_of = |v: f32| (((v + HALF) / CELL) as isize).clamp(0, SIDE as isize - 1);
        let (mut cx, mut cy) = (cell_of(o.x + d.x * t0), cell_of(o.y + d.y * t0));
        let axis = |o: f32, d: f32, c: isize| {
            if d.abs() < 1e-9 {
                return (0isize, f32::INFINITY, f32::INFINITY);
            }
            let step: isize = if d > 0.0 { 1 } else { -1 };
            let edge = (c + (step > 0) as isize) as f32 * CELL - HALF;
            (step, (edge - o) / d, CELL / d.abs())
        };
        let (sx, mut nx, dx) = axis(o.x, d.x, cx);
        let (sy, mut ny, dy) = axis(o.y, d.y, cy);
        let mut enter = t0;
        loop {
            let leave = nx.min(ny).min(t1);
            let cell = cy as usize * SIDE + cx as usize;
            let lowest = o.z + d.z * if d.z < 0.0 { leave } else { enter };
            if lowest <= self.cell_tops[cell] {
                let items = &self.balls[self.starts[cell] as usize..self.starts[cell + 1] as usize];
                if !items.is_empty() && visit(items, leave) {
                    return;
                }
            }
            if leave >= t1 {
                return;
            }
            if nx < ny {
                cx += sx;
                enter = nx;
                nx += dx;
            } else {
                cy += sy;
                enter = ny;
                ny += dy;
            }
            if cx < 0 || cy < 0 || cx >= SIDE as isize || cy >= SIDE as isize {
                return;
            }
        }
    }
}

/// Crowns are ragged: near their rim a ray slips between the leaves.
#[inline(always)]
fn solid_here(prim: &Prim, hit: &Hit, direction: V3) -> bool {
    match prim.paint.finish {
        Finish::Leaf => {
            let facing = -hit.normal.dot(direction) / direction.length();
            if facing > 0.62 {
                return true;
            }
            let p = hit.local;
            let n = noise(p.x * 3.1 + p.z * 1.7, p.y * 3.1 - p.z * 1.1, prim.seed) * 0.7
                + hash_unit((p.x * 9.0) as i32, (p.y * 9.0 + p.z * 5.0) as i32, prim.seed) * 0.3;
            facing > n * 0.72
        }
        Finish::Flame => {
            let p = hit.local;
            noise(p.x * 3.0 + p.z, p.y * 3.0 - p.z, prim.seed) > 0.3
        }
        _ => true,
    }
}

fn grow(objects: &mut [Object], id: u32, low: V3, high: V3) {
    let Some(o) = (id as usize).checked_sub(1).and_then(|i| objects.get_mut(i)) else {
        return;
    };
    o.low = v3(o.low.x.min(low.x), o.low.y.min(low.y), o.low.z.min(low.z));
    o.high = v3(o.high.x.max(high.x), o.high.y.max(high.y), o.high.z.max(high.z));
}

fn shade_raster(prims: &[Prim], bounds: &[[f32; 4]], tops: &[f32]) -> Vec<f32> {
    let mut heights = vec![0.0f32; SHADE_SIDE * SHADE_SIDE];
    for ((p, b), &top) in prims.iter().zip(bounds).zip(tops) {
        if top < 0.8 {
            continue;
        }
        // Crowns let light through below.
        let top = if p.paint.finish == Finish::Leaf { top * 0.45 } else { top };
        let index = |v: f32| ((v + HALF) / SHADE_CELL).clamp(0.0, (SHADE_SIDE - 1) as f32) as usize;
        for y in index(b[1])..=index(b[3]) {
            for x in index(b[0])..=index(b[2]) {
                let (wx, wy) = (x as f32 + 0.5 - HALF - p.centre.x, y as f32 + 0.5 - HALF - p.centre.y);
                let u = wx * p.axes[0].x + wy * p.axes[0].y;
                let v = wx * p.axes[1].x + wy * p.axes[1].y;
                if u.abs() <= p.half.x && v.abs() <= p.half.y {
                    let h = &mut heights[y * SHADE_SIDE + x];
                    *h = h.max(top);
                }
            }
        }
    }
    blur(&blur(&heights, 1), SHADE_SIDE)
}

/// A box blur over seven cells along one axis (`step` 1: east, a row's length: north).
fn blur(from: &[f32], step: usize) -> Vec<f32> {
    let n = from.len();
    (0..n)
        .map(|i| {
            let sum: f32 = (0..7usize)
                .map(|k| (i + k * step).checked_sub(3 * step).and_then(|j| from.get(j)).copied().unwrap_or(0.0))
                .sum();
            sum / 7.0
        })
        .collect()
}
