//! The solids a town is made of, and where a ray meets them.

use super::math::{V3, v3};

/// A solid in its own axes: x from −half.x to +half.x and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Box,
    Ellipsoid,
    /// A roof: the ridge runs along local x at the top, the eaves lie at the bottom.
    Gable,
    /// Upright along local z.
    Cylinder,
    /// Its tip at the top of local z, no base.
    Cone,
}

/// How a surface looks; the shading of each lives in `shade`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    Plain,
    /// Walls with windows on their upright sides.
    Wall,
    /// Flat concrete roofs: stains, patches.
    Slab,
    Tiles,
    /// Corrugated steel sheets.
    Steel,
    Leaf,
    Glass,
    Soil,
    Flame,
    Solar,
    /// Creased sheet: tarpaulins.
    Cloth,
}

#[derive(Debug, Clone, Copy)]
pub struct Paint {
    pub finish: Finish,
    pub base: V3,
    /// A second colour: wall windows, rust, stains. What it means depends on the finish.
    pub second: V3,
}

#[derive(Debug, Clone, Copy)]
pub struct Prim {
    pub centre: V3,
    /// Local x, y and z in the world, unit length.
    pub axes: [V3; 3],
    pub half: V3,
    pub shape: Shape,
    pub paint: Paint,
    /// The labelled object this belongs to, or 0.
    pub object: u32,
    pub seed: u32,
}

#[derive(Debug, Clone, Copy)]
pub struct Hit {
    pub t: f32,
    pub normal: V3,
    /// In the solid's own axes, metres.
    pub local: V3,
    /// The normal in the solid's own axes.
    pub local_normal: V3,
}

/// Axes turned `yaw` radians counter-clockwise from east, then tilted up by `pitch` along local x.
pub fn axes(yaw: f32, pitch: f32) -> [V3; 3] {
    let (s, c) = yaw.sin_cos();
    let (sp, cp) = pitch.sin_cos();
    [v3(c * cp, s * cp, sp), v3(-s, c, 0.0), v3(-c * sp, -s * sp, cp)]
}

impl Prim {
    /// Half the size of the upright box around it.
    pub fn reach(&self) -> V3 {
        let [a, b, c] = self.axes;
        let h = self.half;
        v3(
            a.x.abs() * h.x + b.x.abs() * h.y + c.x.abs() * h.z,
            a.y.abs() * h.x + b.y.abs() * h.y + c.y.abs() * h.z,
            a.z.abs() * h.x + b.z.abs() * h.y + c.z.abs() * h.z,
        )
    }

    #[inline(always)]
    fn inward(&self, v: V3) -> V3 {
        v3(v.dot(self.axes[0]), v.dot(self.axes[1]), v.dot(self.axes[2]))
    }

    #[inline(always)]
    fn outward(&self, v: V3) -> V3 {
        self.axes[0] * v.x + self.axes[1] * v.y + self.axes[2] * v.z
    }

    /// The first meeting in (t_min, t_max), seen from outside.
    #[inline(always)]
    pub fn meet(&self, origin: V3, direction: V3, t_min: f32, t_max: f32) -> Option<Hit> {
        let o = self.inward(origin - self.centre);
        let d = self.inward(direction);
        let (t, n) = match self.shape {
            Shape::Box => meet_box(o, d, self.half)?,
            Shape::Ellipsoid => meet_ellipsoid(o, d, self.half)?,
            Shape::Gable => meet_gable(o, d, self.half)?,
            Shape::Cylinder => meet_cylinder(o, d, self.half)?,
            Shape::Cone => meet_cone(o, d, self.half)?,
        };
        if !(t > t_min && t < t_max) {
            return None;
        }
        Some(Hit { t, normal: self.outward(n), local: o + d * t, local_normal: n })
    }
}

#[inline(always)]
fn meet_box(o: V3, d: V3, h: V3) -> Option<(f32, V3)> {
    let inv = v3(1.0 / d.x, 1.0 / d.y, 1.0 / d.z);
    let (nx, ny, nz) = (-h.x.copysign(d.x) - o.x, -h.y.copysign(d.y) - o.y, -h.z.copysign(d.z) - o.z);
    let (fx, fy, fz) = (h.x.copysign(d.x) - o.x, h.y.copysign(d.y) - o.y, h.z.copysign(d.z) - o.z);
    let (tx, ty, tz) = (nx * inv.x, ny * inv.y, nz * inv.z);
    let near = tx.max(ty).max(tz);
    let far = (fx * inv.x).min(fy * inv.y).min(fz * inv.z);
    if near > far {
        return None;
    }
    let n = if near == tx {
        v3(-d.x.signum(), 0.0, 0.0)
    } else if near == ty {
        v3(0.0, -d.y.signum(), 0.0)
    } else {
        v3(0.0, 0.0, -d.z.signum())
    };
    Some((near, n))
}

#[inline(always)]
fn meet_ellipsoid(o: V3, d: V3, h: V3) -> Option<(f32, V3)> {
    let inv = v3(1.0 / h.x, 1.0 / h.y, 1.0 / h.z);
    let (p, q) = (o.times(inv), d.times(inv));
    let (a, b, c) = (q.dot(q), p.dot(q), p.dot(p) - 1.0);
    let disc = b * b - a * c;
    if disc < 0.0 {
        return None;
    }
    let t = (-b - disc.sqrt()) / a;
    Some((t, (p + q * t).times(inv).unit()))
}

#[inline(always)]
fn meet_gable(o: V3, d: V3, h: V3) -> Option<(f32, V3)> {
    let slope = 1.0 / (2.0 * h.z);
    // Planes n·p <= k around the prism; a ray is inside where it is behind all of them.
    let planes = [
        (v3(1.0, 0.0, 0.0), h.x),
        (v3(-1.0, 0.0, 0.0), h.x),
        (v3(0.0, 0.0, -1.0), h.z),
        (v3(0.0, 1.0 / h.y, slope), 0.5),
        (v3(0.0, -1.0 / h.y, slope), 0.5),
    ];
    let (mut near, mut far, mut normal) = (f32::NEG_INFINITY, f32::INFINITY, v3(0.0, 0.0, 1.0));
    for (n, k) in planes {
        let along = n.dot(d);
        let away = k - n.dot(o);
        if along.abs() < 1e-9 {
            if away < 0.0 {
                return None;
            }
            continue;
        }
        let t = away / along;
        if along < 0.0 {
            if t > near {
                near = t;
                normal = n;
            }
        } else if t < far {
            far = t;
        }
    }
    (near <= far).then(|| (near, normal.unit()))
}

#[inline(always)]
fn meet_cylinder(o: V3, d: V3, h: V3) -> Option<(f32, V3)> {
    let (ix, iy) = (1.0 / h.x, 1.0 / h.y);
    let (px, py, qx, qy) = (o.x * ix, o.y * iy, d.x * ix, d.y * iy);
    let cap = (h.z.copysign(-d.z) - o.z) / d.z;
    let (cx, cy) = (px + qx * cap, py + qy * cap);
    if cx * cx + cy * cy <= 1.0 {
        return Some((cap, v3(0.0, 0.0, -d.z.signum())));
    }
    let (a, b, c) = (qx * qx + qy * qy, px * qx + py * qy, px * px + py * py - 1.0);
    let disc = b * b - a * c;
    if disc < 0.0 || a < 1e-12 {
        return None;
    }
    let t = (-b - disc.sqrt()) / a;
    if (o.z + d.z * t).abs() > h.z {
        return None;
    }
    Some((t, v3((px + qx * t) * ix, (py + qy * t) * iy, 0.0).unit()))
}

#[inline(always)]
fn meet_cone(o: V3, d: V3, h: V3) -> Option<(f32, V3)> {
    // Where x² + y² = ((hz − z) / 2hz)² in units of the radii.
    let (ix, iy, iz) = (1.0 / h.x, 1.0 / h.y, 0.5 / h.z);
    let (px, py, qx, qy) = (o.x * ix, o.y * iy, d.x * ix, d.y * iy);
    let (w, e) = ((h.z - o.z) * iz, -d.z * iz);
    let (a, b, c) = (qx * qx + qy * qy - e * e, px * qx + py * qy - w * e, px * px + py * py - w * w);
    let disc = b * b - a * c;
    if disc < 0.0 || a.abs() < 1e-9 {
        return None;
    }
    let root = disc.sqrt();
    let (t0, t1) = ((-b - root) / a, (-b + root) / a);
    let (first, second) = if t0 < t1 { (t0, t1) } else { (t1, t0) };
    let t = [first, second].into_iter().find(|&t| t > 0.0 && (o.z + d.z * t).abs() <= h.z)?;
    let r = w + e * t;
    let n = v3((px + qx * t) * ix, (py + qy * t) * iy, r * iz).unit();
    Some((t, if n.dot(d) > 0.0 { -n } else { n }))
}
