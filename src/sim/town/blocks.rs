//! What fills the land between the roads.

use std::f32::consts::{FRAC_PI_2, PI};

use super::draft::{Draft, Plot, layer, look};
use super::ground::Texture;
use super::layout::{Block, Use};
use super::math::{Dice, V3, rgb};
use super::props::{Greens, paint, plain};
use super::shapes::{Finish, Shape};

pub fn fill(d: &mut Draft, block: &Block, greens: &Greens) {
    match block.land {
        Use::Village => village(d, block, greens),
        Use::Industry => industry(d, block, greens),
        Use::Market => market(d, block, greens),
        Use::Field => fields(d, block, greens),
        Use::Orchard => orchard(d, block, greens),
        Use::Ponds => ponds(d, block, greens),
        Use::Grove => grove(d, block, greens),
        Use::Vacant => vacant(d, block, greens),
    }
}

fn tree_if_free(d: &mut Draft, at: [f32; 2], size: f32, greens: &Greens, palm: bool) {
    let plot = Plot::new(at[0], at[1], 0.0, size * 0.8, size * 0.8);
    // A crown overhangs what it stands beside, and hides more in an oblique view.
    let crown = Plot::new(at[0], at[1], 0.0, size + 1.5, size + 1.5);
    if d.free(&plot, 0.3) && d.clear_of_keep_outs(&crown, 0.0) {
        if palm { d.palm(at, size) } else { d.tree(at, size, greens) }
    }
}

fn scatter(d: &mut Draft, plot: &Plot, count: usize, sizes: (f32, f32), greens: &Greens) {
    for _ in 0..count {
        let at = inside(&mut d.dice, plot, 1.0);
        let size = d.dice.range(sizes.0, sizes.1);
        let palm = d.dice.chance(0.14);
        tree_if_free(d, at, size, greens, palm);
    }
}

fn inside(dice: &mut Dice, plot: &Plot, margin: f32) -> [f32; 2] {
    let (hu, hv) = ((plot.half[0] - margin).max(0.1), (plot.half[1] - margin).max(0.1));
    [plot.u + dice.range(-hu, hu), plot.v + dice.range(-hv, hv)]
}

fn green(greens: &Greens, texture: Texture) -> super::draft::Look {
    look(texture, greens.grass, greens.dry, 0.0)
}

fn village(d: &mut Draft, block: &Block, greens: &Greens) {
    let p = block.plot;
    let tone = d.dice.colour(&[0xaaa498, 0x9c968a, 0xb3a892, 0x968f80], 0.1);
    let ground = if d.dice.chance(0.7) {
        look(Texture::Concrete, tone, tone, 0.0)
    } else {
        look(Texture::Dirt, tone, greens.grass, 0.0)
    };
    d.rect(&p, ground, layer::BLOCK);
    let (step_u, step_v) = (d.dice.range(11.5, 14.5), d.dice.range(12.5, 16.0));
    let (nu, nv) = ((p.half[0] * 2.0 / step_u) as usize, (p.half[1] * 2.0 / step_v) as usize);
    let (su, sv) = (p.half[0] * 2.0 / nu.max(1) as f32, p.half[1] * 2.0 / nv.max(1) as f32);
    for i in 0..nu {
        for j in 0..nv {
            let u = p.u - p.half[0] + (i as f32 + 0.5) * su + d.dice.range(-0.8, 0.8);
            let v = p.v - p.half[1] + (j as f32 + 0.5) * sv + d.dice.range(-0.8, 0.8);
            let yaw = d.dice.range(-0.04, 0.04);
            let lot = Plot::new(u, v, 0.0, su / 2.0 - 0.8, sv / 2.0 - 0.8);
            let house = Plot::new(u, v, yaw, d.dice.range(3.6, su / 2.0 - 1.0), d.dice.range(3.8, sv / 2.0 - 1.3));
            if d.dice.chance(0.84) && d.free(&house, 3.0) && d.clear_of_keep_outs(&house, 1.0) {
                d.house(&house, true);
                continue;
            }
            // A yard: vegetables, a tree, things.
            if d.free(&lot, 1.0) {
                let (yard, earth) = (greens.grass * d.dice.range(0.9, 1.2), rgb(0x7d6a4c));
                let texture = d.dice.pick(&[Texture::Crop, Texture::Scrub, Texture::Gravel, Texture::Grass]);
                let second = if texture == Texture::Crop { earth } else { greens.dry };
                let (yard, second) =
                    if texture == Texture::Gravel { (rgb(0x9d968a), rgb(0x8a8478)) } else { (yard, second) };
                d.rect(&lot, look(texture, yard, second, 0.9), layer::PLOT);
            }
            if d.dice.chance(0.6) {
                let at = inside(&mut d.dice, &lot, 2.0);
                let size = d.dice.range(1.5, 3.2);
                let palm = d.dice.chance(0.3);
                tree_if_free(d, at, size, greens, palm);
            }
            let at = inside(&mut d.dice, &lot, 2.0);
            yard_thing(d, at);
        }
    }
    for _ in 0..(p.half[0] * p.half[1] / 60.0) as usize {
        let at = inside(&mut d.dice, &p, 1.5);
        let size = d.dice.range(1.0, 2.4);
        tree_if_free(d, at, size, greens, false);
    }
    for _ in 0..(p.half[0] * p.half[1] / 200.0) as usize {
        let at = inside(&mut d.dice, &p, 3.0);
        let yaw = d.dice.pick(&[0.0, FRAC_PI_2, PI, 1.5 * PI]);
        park(d, at, yaw);
    }
}

fn yard_thing(d: &mut Draft, at: [f32; 2]) {
    let yaw = d.dice.angle();
    let plot = Plot::new(at[0], at[1], yaw, 3.2, 2.2);
    if d.free(&plot, 1.0) {
        if d.dice.chance(0.05) {
            d.pool(at, yaw);
        } else {
            d.clutter(at, yaw);
        }
        d.taken.push(plot);
    }
}

fn park(d: &mut Draft, at: [f32; 2], yaw: f32) {
    // Mostly cars; a truck or bus needs twice the room.
    let kind = if d.dice.chance(0.9) { d.dice.range(0.0, 0.8) } else { d.dice.range(0.8, 1.0) };
    let plot = Plot::new(at[0], at[1], yaw, if kind < 0.8 { 2.9 } else { 5.5 }, 1.3);
    if d.free(&plot, 1.5) {
        let yaw = yaw + d.dice.range(-0.08, 0.08);
        d.taken.push(plot);
        d.vehicle(at, yaw, kind);
    }
}

fn industry(d: &mut Draft, block: &Block, greens: &Greens) {
    let p = block.plot;
    let tone = d.dice.colour(&[0xada89c, 0xa29d92, 0xb8b3a8, 0x93908a], 0.08);
    d.rect(&p, look(Texture::Concrete, tone, tone, 0.0), layer::BLOCK);
    let along_u = p.half[0] >= p.half[1];
    let (long, short) = if along_u { (p.half[0], p.half[1]) } else { (p.half[1], p.half[0]) };
    let count = ((long * 2.0) / d.dice.range(24.0, 36.0)).max(1.0) as usize;
    let step = long * 2.0 / count as f32;
    for i in 0..count {
        let a = (i as f32 + 0.5) * step - long;
        let b = d.dice.range(-0.25, 0.25) * short;
        let (hl, hs) =
            (step / 2.0 - d.dice.range(2.0, 4.5), (short - d.dice.range(3.0, 9.0) - b.abs()).clamp(4.5, 16.0));
        let plot =
            if along_u { Plot::new(p.u + a, p.v + b, 0.0, hl, hs) } else { Plot::new(p.u + b, p.v + a, 0.0, hs, hl) };
        if plot.half[0] > 3.5 && d.free(&plot, 4.0) && d.clear_of_keep_outs(&plot, 1.0) {
            let blue = d.dice.chance(0.28);
            d.shed(&plot, blue, true);
        }
    }
    for _ in 0..(p.half[0] * p.half[1] / 45.0) as usize {
        let at = inside(&mut d.dice, &p, 2.5);
        let yaw = d.dice.pick(&[0.0, FRAC_PI_2]);
        if d.dice.chance(0.45) {
            park(d, at, yaw);
        } else {
            yard_thing(d, at);
        }
    }
    scatter(d, &p, 6, (1.2, 2.4), greens);
}

fn market(d: &mut Draft, block: &Block, greens: &Greens) {
    let p = block.plot;
    let tone = d.dice.colour(&[0x8a8884, 0x9d978c, 0x77787a], 0.08);
    d.rect(&p, look(Texture::Asphalt, tone, tone, 0.0), layer::BLOCK);
    // A hall at one end, stalls and rows of cars before it.
    let hall = Plot::new(p.u - p.half[0] * 0.55, p.v, 0.0, p.half[0] * 0.3, p.half[1] * 0.6);
    if d.free(&hall, 4.0) && d.clear_of_keep_outs(&hall, 1.0) {
        let blue = d.dice.chance(0.2);
        d.shed(&hall, blue, true);
    }
    let mut v = p.v - p.half[1] + 4.0;
    while v < p.v + p.half[1] - 4.0 {
        let mut u = p.u - p.half[0] * 0.15;
        while u < p.u + p.half[0] - 2.0 {
            let roll = d.dice.unit();
            if roll < 0.5 {
                park(d, [u, v], FRAC_PI_2);
            } else if roll < 0.6 && d.free(&Plot::new(u, v, 0.0, 1.6, 1.6), 2.0) {
                d.parasol([u, v]);
                d.taken.push(Plot::new(u, v, 0.0, 1.3, 1.3));
            }
            u += 2.9;
        }
        v += 7.0;
    }
    scatter(d, &p, 10, (1.2, 2.6), greens);
}

fn fields(d: &mut Draft, block: &Block, greens: &Greens) {
    let p = block.plot;
    d.rect(&p, green(greens, Texture::Scrub), layer::BLOCK);
    let strips = d.dice.int(1, 3);
    let along_u = d.dice.chance(0.5);
    for i in 0..strips {
        let k = (i as f32 + 0.5) / strips as f32 * 2.0 - 1.0;
        let plot = if along_u {
            Plot::new(p.u, p.v + k * p.half[1], 0.0, p.half[0] - 1.0, p.half[1] / strips as f32 - 0.6)
        } else {
            Plot::new(p.u + k * p.half[0], p.v, FRAC_PI_2, p.half[1] - 1.0, p.half[0] / strips as f32 - 0.6)
        };
        if plot.half[1] < 1.0 {
            continue;
        }
        d.fields.push(plot);
        let earth = d.dice.colour(&[0x7a6446, 0x8a7350, 0x6b573f, 0x94805c], 0.12);
        match d.dice.int(0, 8) {
            0 | 1 => {
                // Paddy: close rows, hardly any earth between.
                let rice = d.dice.colour(&[0x6f8f3c, 0x83993f, 0x5f8538, 0xb09c50], 0.15);
                d.rect(&plot, look(Texture::Crop, rice, rice.mix(rgb(0x4c5a34), 0.6), 0.35), layer::PLOT);
            }
            2..=4 => {
                let leaf = d.dice.colour(&[0x4f7a30, 0x5f8a3a, 0x3f6e34, 0x7d9a44, 0x4a7048], 0.15);
                let spacing = d.dice.range(0.7, 1.6);
                d.rect(&plot, look(Texture::Crop, leaf, earth, spacing), layer::PLOT);
            }
            5 | 6 => {
                let furrows = d.dice.range(0.6, 1.2);
                d.rect(&plot, look(Texture::Bare, earth, earth.mix(rgb(0x9a835c), 0.5), furrows), layer::PLOT);
            }
            7 => tunnels(d, &plot, earth),
            _ => d.rect(&plot, green(greens, Texture::Grass), layer::PLOT),
        }
    }
    scatter(d, &p, if block.inner { 5 } else { 3 }, (1.3, 2.8), greens);
    for _ in 0..2 {
        let at = inside(&mut d.dice, &p, 3.0);
        if block.inner && d.dice.chance(0.3) {
            yard_thing(d, at);
        }
    }
}

/// Plastic tunnels over beds.
fn tunnels(d: &mut Draft, plot: &Plot, earth: V3) {
    d.rect(plot, look(Texture::Bare, earth, earth * 0.8, 1.0), layer::PLOT);
    let step = 4.4;
    let count = (plot.half[1] * 2.0 / step) as usize;
    for i in 0..count {
        let across = (i as f32 + 0.5) * step - plot.half[1];
        let at = Draft::beside([plot.u, plot.v], plot.yaw, 0.0, across);
        let one = Plot::new(at[0], at[1], plot.yaw, plot.half[0] - 1.5, 1.6);
        if one.half[0] > 3.0 && d.free(&one, 1.5) {
            let film = d.dice.colour(&[0xd9dedc, 0xcfd6d2, 0xe2e4e0], 0.05);
            d.put(Shape::Gable, at, 0.0, plot.yaw, [one.half[0], 1.6, 0.75], paint(Finish::Cloth, film, film), 0);
            d.taken.push(one);
        }
    }
}

fn orchard(d: &mut Draft, block: &Block, greens: &Greens) {
    let p = block.plot;
    d.rect(&p, green(greens, Texture::Scrub), layer::BLOCK);
    let step = d.dice.range(4.2, 6.2) * if block.inner { 1.0 } else { 1.5 };
    let size = step * d.dice.range(0.3, 0.42);
    let bananas = d.dice.chance(0.25);
    let mut v = p.v - p.half[1] + step / 2.0;
    while v < p.v + p.half[1] - 1.5 {
        let mut u = p.u - p.half[0] + step / 2.0;
        while u < p.u + p.half[0] - 1.5 {
            if d.dice.chance(0.92) {
                let at = [u + d.dice.range(-0.4, 0.4), v + d.dice.range(-0.4, 0.4)];
                let size = size * d.dice.range(0.8, 1.15);
                tree_if_free(d, at, size, greens, bananas);
            }
            u += step;
        }
        v += step;
    }
}

fn ponds(d: &mut Draft, block: &Block, greens: &Greens) {
    let p = block.plot;
    d.rect(&p, green(greens, Texture::Scrub), layer::BLOCK);
    let (nu, nv) = ((p.half[0] / 16.0).max(1.0) as usize, (p.half[1] / 16.0).max(1.0) as usize);
    let (su, sv) = (p.half[0] / nu as f32, p.half[1] / nv as f32);
    let farm = d.dice.colour(&[0x56663f, 0x5c7350, 0x4c6a66, 0x74734c, 0x47604a], 0.12);
    for i in 0..nu {
        for j in 0..nv {
            let u = p.u - p.half[0] + (2 * i + 1) as f32 * su;
            let v = p.v - p.half[1] + (2 * j + 1) as f32 * sv;
            let pond = Plot::new(u, v, 0.0, su - 2.0, sv - 2.0);
            if !d.free(&pond, 4.0) {
                continue;
            }
            let tint = farm * d.dice.range(0.85, 1.2);
            let second = tint.mix(d.dice.colour(&[0x6d8a4a, 0x51707a, 0x7d7a58], 0.1), 0.45);
            let rim = look(Texture::Dirt, rgb(0x9a8d70), greens.grass, 0.0);
            d.rect(&Plot::new(u, v, 0.0, su - 1.0, sv - 1.0), rim, layer::PLOT);
            let ripple = d.dice.range(0.02, 0.07);
            d.rect(&pond, look(Texture::Water, tint, second, ripple), layer::BANK);
            d.ponds.push(pond);
            if block.inner {
                pond_life(d, &pond);
            }
        }
    }
    let rim = (p.half[0] + p.half[1]) as usize / if block.inner { 4 } else { 9 };
    for pond in d.ponds.clone().iter().filter(|q| p.distance(q.u, q.v) == 0.0) {
        d.taken.push(*pond);
    }
    scatter(d, &p, rim * 3, (1.2, 2.4), greens);
}

/// Boats, aerators' foam, lilies: things on water that are in order.
fn pond_life(d: &mut Draft, pond: &Plot) {
    let at = inside(&mut d.dice, pond, 3.0);
    match d.dice.int(0, 5) {
        0 | 1 => {
            for i in 0..d.dice.int(1, 3) {
                let spot = [at[0] + i as f32 * 5.0, at[1]];
                if pond.distance(spot[0], spot[1]) > 0.0 {
                    continue;
                }
                let r = d.dice.range(0.8, 1.8);
                let foam = look(Texture::Scum, rgb(0xe9efee), rgb(0xc4d0cc), 0.0);
                d.blob(&Plot::new(spot[0], spot[1], 0.0, r, r), 0.4, foam, layer::SPOT, 0);
                d.put(Shape::Cylinder, spot, 0.0, 0.0, [0.35, 0.35, 0.25], plain(rgb(0x3a72b0)), 0);
            }
        }
        2 => {
            let yaw = d.dice.angle();
            d.boat(at, yaw);
        }
        3 => {
            let lily = d.dice.colour(&[0x5f8a3c, 0x4f7a3a, 0x7a9a4a], 0.12);
            for _ in 0..d.dice.int(20, 70) {
                let spot = [at[0] + d.dice.range(-4.0, 4.0), at[1] + d.dice.range(-3.0, 3.0)];
                if pond.distance(spot[0], spot[1]) == 0.0 {
                    let r = d.dice.range(0.2, 0.6);
                    let shade = d.dice.range(0.8, 1.2);
                    d.put(Shape::Cylinder, spot, 0.0, 0.0, [r, r, 0.02], plain(lily * shade), 0);
                }
            }
        }
        _ => {}
    }
}

fn grove(d: &mut Draft, block: &Block, greens: &Greens) {
    let p = block.plot;
    d.rect(&p, look(Texture::Scrub, greens.grass * 0.7, greens.leaf[1], 0.0), layer::BLOCK);
    let area = p.half[0] * p.half[1] * 4.0;
    let count = area / if block.inner { 17.0 } else { 45.0 };
    let sizes = if block.inner { (1.5, 3.6) } else { (2.4, 4.5) };
    scatter(d, &p, (count as usize).min(420), sizes, greens);
}

fn vacant(d: &mut Draft, block: &Block, greens: &Greens) {
    let p = block.plot;
    match d.dice.int(0, 3) {
        0 => {
            // A gravel lot, used for parking.
            d.rect(&p, look(Texture::Gravel, rgb(0xa39d92), rgb(0x8d8778), 0.0), layer::BLOCK);
            for _ in 0..(p.half[0] * p.half[1] / 40.0) as usize {
                let at = inside(&mut d.dice, &p, 3.0);
                if d.dice.chance(0.6) {
                    park(d, at, FRAC_PI_2);
                } else {
                    yard_thing(d, at);
                }
            }
        }
        1 => {
            d.rect(&p, green(greens, Texture::Grass), layer::BLOCK);
            let path = look(Texture::Paving, rgb(0xb5aa9a), rgb(0x9a8878), 0.0);
            d.rect(&Plot::new(p.u, p.v, 0.0, p.half[0], 1.0), path, layer::PLOT);
            d.taken.push(Plot::new(p.u, p.v, 0.0, p.half[0], 1.0));
        }
        _ => d.rect(&p, green(greens, Texture::Scrub), layer::BLOCK),
    }
    let area = p.half[0] * p.half[1] * 4.0;
    scatter(d, &p, (area / if block.inner { 90.0 } else { 300.0 }) as usize, (1.3, 3.2), greens);
    for _ in 0..(area / 60.0) as usize {
        let at = inside(&mut d.dice, &p, 1.0);
        let size = d.dice.range(0.4, 1.0);
        if block.inner && d.free(&Plot::new(at[0], at[1], 0.0, size, size), 0.5) {
            d.bush(at, size, greens);
        }
    }
    if block.inner && d.dice.chance(0.6) {
        let at = inside(&mut d.dice, &p, 3.0);
        yard_thing(d, at);
    }
}

/// Trees along the banks, boats on the water.
pub fn line_river(d: &mut Draft, greens: &Greens) {
    let river = d.river;
    let mut u = -430.0;
    while u < 430.0 {
        for side in [-1.0, 1.0] {
            if d.dice.chance(0.5) {
                let at = [u, river.centre(u) + side * (river.half + d.dice.range(3.0, 6.0))];
                let size = d.dice.range(1.4, 2.9);
                let palm = d.dice.chance(0.2);
                tree_if_free(d, at, size, greens, palm);
            }
        }
        let v = river.centre(u) + d.dice.range(-0.6, 0.6) * river.half;
        let here = Plot::new(u, v, 0.0, 4.0, 4.0);
        let yaw = d.dice.range(-0.4, 0.4);
        let clear = d.clear_of_keep_outs(&here, 0.0) && !d.roads.iter().any(|r| r.overlaps(&here));
        if d.dice.chance(0.07) && clear {
            d.boat([u, v], yaw);
        }
        u += d.dice.range(4.0, 8.0);
    }
}

/// Vehicles on the roads, each on its side.
pub fn traffic(d: &mut Draft) {
    for road in d.roads.clone() {
        let wide = road.half[1] > 3.0;
        let mut s = -road.half[0] + d.dice.range(4.0, 20.0);
        while s < road.half[0] - 4.0 {
            let side = d.dice.pick(&[-1.0, 1.0]);
            let across = if wide { side * road.half[1] * 0.48 } else { d.dice.range(-0.3, 0.3) };
            let at = Draft::beside([road.u, road.v], road.yaw, s, across);
            let [e, n] = d.world(at[0], at[1]);
            if e.abs() < 300.0 && n.abs() < 250.0 && (wide || d.dice.chance(0.25)) {
                // Traffic keeps to the right.
                let yaw = road.yaw + if side > 0.0 { PI } else { 0.0 };
                let plot = Plot::new(at[0], at[1], road.yaw, 5.6, 1.3);
                // Lanes end at the water; only wide roads have bridges.
                let passable = wide || d.dry(&plot, 1.0);
                if passable && !d.taken.iter().any(|t| t.overlaps(&plot)) && d.clear_of_keep_outs(&plot, 0.0) {
                    d.taken.push(plot);
                    let kind = d.dice.unit();
                    d.vehicle(at, yaw, kind);
                }
            }
            s += d.dice.range(10.0, 60.0);
        }
    }
}
