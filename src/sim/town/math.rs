//! Small single-precision vectors, a seeded die and hashed value noise: what drawing needs and no more.

use std::ops::{Add, Mul, Neg, Sub};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A vector of three: a position, a direction or a colour.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct V3 {
    pub x: f32,
    pub y: f32,
    pub z: f32,
}

#[inline(always)]
pub const fn v3(x: f32, y: f32, z: f32) -> V3 {
    V3 { x, y, z }
}

impl V3 {
    #[inline(always)]
    pub fn dot(self, o: V3) -> f32 {
        self.x * o.x + self.y * o.y + self.z * o.z
    }

    #[inline(always)]
    pub fn length(self) -> f32 {
        self.dot(self).sqrt()
    }

    #[inline(always)]
    pub fn unit(self) -> V3 {
        let l = self.length();
        if l > 1e-12 { self * (1.0 / l) } else { v3(0.0, 0.0, 1.0) }
    }

    /// Component by component: a colour under a light.
    #[inline(always)]
    pub fn times(self, o: V3) -> V3 {
        v3(self.x * o.x, self.y * o.y, self.z * o.z)
    }

    #[inline(always)]
    pub fn mix(self, o: V3, t: f32) -> V3 {
        self * (1.0 - t) + o * t
    }
}

impl Add for V3 {
    type Output = V3;
    #[inline(always)]
    fn add(self, o: V3) -> V3 {
        v3(self.x + o.x, self.y + o.y, self.z + o.z)
    }
}

impl Sub for V3 {
    type Output = V3;
    #[inline(always)]
    fn sub(self, o: V3) -> V3 {
        v3(self.x - o.x, self.y - o.y, self.z - o.z)
    }
}

impl Mul<f32> for V3 {
    type Output = V3;
    #[inline(always)]
    fn mul(self, k: f32) -> V3 {
        v3(self.x * k, self.y * k, self.z * k)
    }
}

impl Neg for V3 {
    type Output = V3;
    #[inline(always)]
    fn neg(self) -> V3 {
        self * -1.0
    }
}

/// A colour as people write it (sRGB, 0xRRGGBB) in linear light.
pub fn rgb(hex: u32) -> V3 {
    let channel = |shift: u32| {
        let c = ((hex >> shift) & 0xff) as f32 / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    };
    v3(channel(16), channel(8), channel(0))
}

#[inline(always)]
pub fn smoothstep(lo: f32, hi: f32, x: f32) -> f32 {
    let t = ((x - lo) / (hi - lo)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// A seeded die. Every part of a town rolls its own stream, so that a change in one leaves the others as they were.
pub struct Dice(ChaCha8Rng);

impl Dice {
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// In [0, 1).
    pub fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1u32 << 24) as f32
    }

    pub fn range(&mut self, lo: f32, hi: f32) -> f32 {
        lo + (hi - lo) * self.unit()
    }

    /// In radians, all the way round.
    pub fn angle(&mut self) -> f32 {
        self.range(0.0, std::f32::consts::TAU)
    }

    /// Both ends included.
    pub fn int(&mut self, lo: usize, hi: usize) -> usize {
        lo + (self.0.next_u32() as usize) % (hi - lo + 1)
    }

    pub fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.int(0, from.len() - 1)]
    }

    pub fn seed(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// One of the named colours, a little lighter or darker and a little off in hue.
    pub fn colour(&mut self, from: &[u32], spread: f32) -> V3 {
        let c = rgb(self.pick(from));
        let k = 1.0 + self.range(-spread, spread);
        let mut hue = || 1.0 + (self.unit() - 0.5) * spread * 0.6;
        v3(c.x * k * hue(), c.y * k * hue(), c.z * k * hue())
    }
}

#[inline(always)]
pub fn hash(x: i32, y: i32, seed: u32) -> u32 {
    let mut h =
        (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77) ^ seed.wrapping_mul(0xC2B2_AE3D);
    h ^= h >> 15;
    h = h.wrapping_mul(0x2C1B_3C6D);
    h ^= h >> 12;
    h = h.wrapping_mul(0x297A_2D39);
    h ^ (h >> 15)
}

#[inline(always)]
pub fn hash_unit(x: i32, y: i32, seed: u32) -> f32 {
    (hash(x, y, seed) >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// `floor` without a call into the maths library, which at low optimisation costs as much as the noise itself.
#[inline(always)]
pub fn floor_i(x: f32) -> i32 {
    let i = x as i32;
    if x < i as f32 { i - 1 } else { i }
}

/// Smooth value noise in [0, 1), one bump a unit.
#[inline(always)]
pub fn noise(x: f32, y: f32, seed: u32) -> f32 {
    let (xi, yi) = (floor_i(x), floor_i(y));
    let (fx, fy) = (x - xi as f32, y - yi as f32);
    let (sx, sy) = (fx * fx * (3.0 - 2.0 * fx), fy * fy * (3.0 - 2.0 * fy));
    let a = hash_unit(xi, yi, seed);
    let b = hash_unit(xi + 1, yi, seed);
    let c = hash_unit(xi, yi + 1, seed);
    let d = hash_unit(xi + 1, yi + 1, seed);
    let low = a + (b - a) * sx;
    low + (c + (d - c) * sx - low) * sy
}

/// Octaves of noise, each twice as fine and half as strong; in [0, 1).
#[inline(always)]
pub fn fbm(x: f32, y: f32, seed: u32, octaves: u32) -> f32 {
    let (mut sum, mut weight, mut scale, mut total) = (0.0, 0.5, 1.0, 0.0);
    for octave in 0..octaves {
        sum += weight * noise(x * scale, y * scale, seed.wrapping_add(octave * 101));
        total += weight;
        weight *= 0.5;
        scale *= 2.03;
    }
    sum / total
}
