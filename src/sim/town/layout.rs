//! Where everything goes: river, roads, blocks between them, and the sites of what is planted.

use super::draft::{Draft, KeepOut, Plot, River, layer, look};
use super::ground::Texture;
use super::math::{Dice, V3, rgb};
use super::planted::{Kind, Site};
use super::props::{Greens, plain};
use super::shade::Light;
use super::shapes::Shape;

/// Half the size of the built town, east and north.
pub const TOWN: [f32; 2] = [210.0, 160.0];
/// Half the size of the area that is patrolled.
pub const PATROL: [f32; 2] = [150.0, 110.0];
/// What is planted keeps this far from the patrolled area's rim.
const RIM: f32 = 20.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Village,
    Industry,
    Market,
    Field,
    Orchard,
    Ponds,
    Grove,
    Vacant,
}

#[derive(Debug, Clone, Copy)]
pub struct Block {
    pub plot: Plot,
    pub land: Use,
    /// Near enough to be looked at closely.
    pub inner: bool,
}

pub struct Laid {
    pub draft: Draft,
    pub sites: Vec<(Site, u32)>,
    pub dock: [f32; 2],
}

/// How many of each kind to plant, and how far apart.
struct Wish {
    kinds: Vec<Kind>,
    apart: f32,
    half: [f32; 2],
}

pub fn lay_out(seed: u64, dense: bool, light: &Light) -> Laid {
    let mut dice = Dice::new(seed, 1);
    let turn = dice.range(-0.42, 0.42);
    let river = River {
        middle: dice.range(-50.0, 50.0),
        swing: dice.range(4.0, 16.0),
        wave: dice.range(35.0, 80.0),
        phase: dice.angle(),
        half: dice.range(7.5, 12.0),
    };
    let mut d = Draft::new(dice, turn, river);
    let greens = season(&mut d.dice);
    lay_river(&mut d);
    let heart = [d.dice.range(-90.0, 90.0), d.dice.range(-60.0, 60.0)];
    let mut blocks = Vec::new();
    split(&mut d, [-440.0, -440.0, 440.0, 440.0], 0, heart, &mut blocks);
    let sites = choose_sites(&mut d, &blocks, dense);
    let dock = choose_dock(&mut d, &blocks);
    // Built before the blocks are filled: what is planted has the first right to its ground.
    let mut built = Vec::new();
    for site in &sites {
        let id = site.build(&mut d, light.wind);
        built.push((*site, id));
    }
    build_dock(&mut d, dock);
    for block in &blocks {
        super::blocks::fill(&mut d, block, &greens);
    }
    super::blocks::line_river(&mut d, &greens);
    super::blocks::traffic(&mut d);
    if dense {
        for pond in d.ponds.clone() {
            if d.dice.chance(0.25) && pond.half[0].min(pond.half[1]) > 6.0 {
                let mut site = roll_site(&mut d.dice, Kind::FloatingDebris);
                site.at = [pond.u + d.dice.range(-3.0, 3.0), pond.v + d.dice.range(-3.0, 3.0)];
                let id = site.build(&mut d, light.wind);
                built.push((site, id));
            }
        }
    }
    Laid { draft: d, sites: built, dock }
}

fn season(dice: &mut Dice) -> Greens {
    let dryness = dice.unit();
    let shift = dice.range(0.85, 1.15);
    let grass = rgb(0x5f7a38).mix(rgb(0x8f8a52), dryness * 0.7) * shift;
    let dry = rgb(0x7d8746).mix(rgb(0xa3966a), dryness) * shift;
    let leaf = [0x35552a, 0x47652f, 0x2c4a2c].map(|c| rgb(c).mix(rgb(0x6e6f38), dryness * 0.35) * shift);
    Greens { grass, dry, leaf }
}

fn lay_river(d: &mut Draft) {
    let tint = d.dice.colour(&[0x5c6a4c, 0x6a6b4d, 0x4f6658, 0x56685f, 0x757050], 0.12);
    let second = tint.mix(d.dice.colour(&[0x4a5d45, 0x7d7a58, 0x51707a], 0.1), 0.6);
    let ripple = d.dice.range(0.03, 0.09);
    let water = look(Texture::Water, tint, second, ripple);
    let stone = d.dice.chance(0.5);
    let tone = if stone { rgb(0x9d988c) } else { rgb(0x7a7a52) };
    let bank = look(if stone { Texture::Bank } else { Texture::Scrub }, tone, tone * 0.8, 0.0);
    let wide = d.dice.range(2.0, 4.5);
    let river = d.river;
    let step = 12.0;
    // One seed for the whole length, so that pieces meet without seams.
    let first = d.features.len();
    for i in 0..74 {
        let u = -444.0 + i as f32 * step;
        let (a, b) = ([u, river.centre(u)], [u + step, river.centre(u + step)]);
        d.piece(a, b, i as f32 * step, river.half + wide, bank, layer::BANK);
        d.piece(a, b, i as f32 * step, river.half, water, layer::RIVER);
    }
    let seed = d.dice.seed();
    for f in &mut d.features[first..] {
        f.seed = seed;
    }
}

/// Cuts land into blocks with roads between, wide ones first.
fn split(d: &mut Draft, r: [f32; 4], depth: u32, heart: [f32; 2], out: &mut Vec<Block>) {
    let (w, h) = (r[2] - r[0], r[3] - r[1]);
    let (mu, mv) = ((r[0] + r[2]) / 2.0, (r[1] + r[3]) / 2.0);
    let [e, n] = d.world(mu, mv);
    let inner = e.abs() < TOWN[0] + w / 2.0 + 20.0 && n.abs() < TOWN[1] + h / 2.0 + 20.0;
    let wanted = if inner { d.dice.range(38.0, 72.0) } else { d.dice.range(80.0, 150.0) };
    if w.max(h) < wanted || (w.max(h) < wanted * 1.3 && d.dice.chance(0.3)) {
        let land = choose_use(d, mu, mv, heart, inner, w.min(h));
        out.push(Block { plot: Plot::new(mu, mv, 0.0, w / 2.0, h / 2.0), land, inner });
        return;
    }
    let (half, lanes) = match depth {
        0..=1 => (5.0, 2.0),
        2..=4 => (3.3, if d.dice.chance(0.5) { 2.0 } else { 1.0 }),
        _ => (d.dice.range(1.7, 2.4), 0.0),
    };
    let cut_u = w > h;
    let at = d.dice.range(0.36, 0.64);
    let (mut cut, lo, hi) = if cut_u { (r[0] + w * at, r[0], r[2]) } else { (r[1] + h * at, r[1], r[3]) };
    if !cut_u {
        // A street along the river keeps to one side of it.
        let wet = d.river.half + d.river.swing + half + 7.0;
        if (cut - d.river.middle).abs() < wet {
            let (below, above) = (d.river.middle - wet, d.river.middle + wet);
            let fits = |c: f32| c > lo + 18.0 && c < hi - 18.0;
            cut = match (fits(below), fits(above)) {
                (true, true) => {
                    if d.dice.chance(0.5) {
                        below
                    } else {
                        above
                    }
                }
                (true, false) => below,
                (false, true) => above,
                (false, false) => {
                    let land = choose_use(d, mu, mv, heart, inner, w.min(h));
                    out.push(Block { plot: Plot::new(mu, mv, 0.0, w / 2.0, h / 2.0), land, inner });
                    return;
                }
            };
        }
    }
    let (a, b) = if cut_u { ([cut, r[1]], [cut, r[3]]) } else { ([r[0], cut], [r[2], cut]) };
    road(d, a, b, half, lanes);
    let walk = half + if lanes > 0.0 { 1.6 } else { 0.0 };
    let (first, second) = if cut_u {
        ([r[0], r[1], cut - walk, r[3]], [cut + walk, r[1], r[2], r[3]])
    } else {
        ([r[0], r[1], r[2], cut - walk], [r[0], cut + walk, r[2], r[3]])
    };
    split(d, first, depth + 1, heart, out);
    split(d, second, depth + 1, heart, out);
}

fn road(d: &mut Draft, a: [f32; 2], b: [f32; 2], half: f32, lanes: f32) {
    let (mu, mv) = ((a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0);
    let (along, yaw) =
        if a[0] == b[0] { ((b[1] - a[1]) / 2.0, std::f32::consts::FRAC_PI_2) } else { ((b[0] - a[0]) / 2.0, 0.0) };
    let plot = Plot::new(mu, mv, yaw, along, half);
    if lanes > 0.0 {
        let pave = look(Texture::Paving, rgb(0xa9a297), rgb(0xb5786a), 0.0);
        d.rect(&Plot::new(mu, mv, yaw, along, half + 1.6), pave, layer::LANE);
        let tone = d.dice.colour(&[0x5b5c5e, 0x6b6b6a, 0x77756f, 0x505255], 0.1);
        d.rect(&plot, look(Texture::Asphalt, tone, tone, lanes), layer::ROAD);
        bridge(d, a, b, half);
    } else {
        let look = if d.dice.chance(0.55) {
            let tone = d.dice.colour(&[0xb2ada2, 0xa39e94, 0xbdb7aa], 0.08);
            look(Texture::Concrete, tone, tone, 0.0)
        } else {
            look(Texture::Dirt, rgb(0x9c8b6c), rgb(0x6f7a42), 0.0)
        };
        d.rect(&plot, look, layer::LANE);
    }
    d.roads.push(plot);
}

/// Rails where a road crosses the water.
fn bridge(d: &mut Draft, a: [f32; 2], b: [f32; 2], half: f32) {
    if a[0] != b[0] {
        return;
    }
    let v = d.river.centre(a[0]);
    if v < a[1].min(b[1]) || v > a[1].max(b[1]) {
        return;
    }
    let span = d.river.half + 3.0;
    for side in [-1.0, 1.0] {
        let at = [a[0] + side * (half + 0.15), v];
        d.put(Shape::Box, at, 0.0, std::f32::consts::FRAC_PI_2, [span, 0.15, 0.5], plain(rgb(0xc9c5bb)), 0);
    }
}

fn choose_use(d: &mut Draft, u: f32, v: f32, heart: [f32; 2], inner: bool, narrow: f32) -> Use {
    let away = (u - heart[0]).hypot(v - heart[1]);
    if narrow < 14.0 {
        return d.dice.pick(&[Use::Vacant, Use::Grove, Use::Vacant]);
    }
    let roll = d.dice.unit();
    let urban = 1.1 - away / 220.0;
    if inner && roll < urban.clamp(0.25, 0.85) {
        return d.dice.pick(&[Use::Village, Use::Village, Use::Village, Use::Industry, Use::Industry, Use::Market]);
    }
    if !inner {
        return d.dice.pick(&[
            Use::Field,
            Use::Field,
            Use::Field,
            Use::Ponds,
            Use::Ponds,
            Use::Grove,
            Use::Orchard,
            Use::Village,
        ]);
    }
    d.dice.pick(&[Use::Field, Use::Field, Use::Field, Use::Ponds, Use::Orchard, Use::Grove, Use::Vacant, Use::Vacant])
}

fn wish(dice: &mut Dice, dense: bool) -> Wish {
    use Kind::*;
    if dense {
        let mut kinds = Vec::new();
        for (kind, count) in [
            (Earthwork, 7),
            (BlueRoof, 8),
            (NewBuilding, 4),
            (Burning, 9),
            (Garbage, 16),
            (FloatingDebris, 12),
            (HeavyMachine, 8),
        ] {
            kinds.extend(std::iter::repeat_n(kind, count));
        }
        return Wish { kinds, apart: 15.0, half: [195.0, 145.0] };
    }
    let mut kinds = vec![Earthwork, BlueRoof, NewBuilding, Burning, FloatingDebris, Garbage, Garbage];
    // With the excavator eight so far; nine to eleven in all.
    let mut more = [BlueRoof, NewBuilding, FloatingDebris, Garbage];
    for i in (1..more.len()).rev() {
        more.swap(i, dice.int(0, i));
    }
    let extra = dice.int(1, 3);
    kinds.extend_from_slice(&more[..extra]);
    kinds.sort_by_key(|k| *k as u8 != Earthwork as u8);
    Wish { kinds, apart: 26.0, half: [PATROL[0] - RIM, PATROL[1] - RIM] }
}

fn roll_site(dice: &mut Dice, kind: Kind) -> Site {
    let half = match kind {
        Kind::NewBuilding => [dice.range(4.2, 6.5), dice.range(4.0, 5.5)],
        Kind::BlueRoof => [dice.range(5.0, 11.0), dice.range(3.5, 6.0)],
        Kind::HeavyMachine => [3.0, 1.6],
        Kind::Earthwork => [dice.range(9.8, 12.0), dice.range(7.2, 10.0)],
        Kind::Garbage => {
            let r = dice.range(1.4, 2.6);
            [r, r * dice.range(0.7, 1.0)]
        }
        Kind::FloatingDebris => {
            let r = dice.range(1.6, 3.0);
            [r, r * dice.range(0.5, 0.95)]
        }
        Kind::Burning => {
            let r = dice.range(0.75, 1.5);
            [r, r * dice.range(0.75, 1.0)]
        }
    };
    Site { kind, at: [0.0, 0.0], yaw: dice.range(0.0, std::f32::consts::TAU), half }
}

fn choose_sites(d: &mut Draft, blocks: &[Block], dense: bool) -> Vec<Site> {
    let wish = wish(&mut d.dice, dense);
    let mut sites: Vec<Site> = Vec::new();
    for kind in wish.kinds {
        for attempt in 0..6000 {
            let mut site = roll_site(&mut d.dice, kind);
            if matches!(kind, Kind::NewBuilding | Kind::BlueRoof) {
                // Square to the streets, more or less.
                site.yaw = d.dice.range(-0.12, 0.12) + d.dice.pick(&[0.0, std::f32::consts::FRAC_PI_2]);
            }
            // The whole of it lies inside, not only its middle.
            let r = site.radius();
            let e = d.dice.range(-(wish.half[0] - r), wish.half[0] - r);
            let n = d.dice.range(-(wish.half[1] - r), wish.half[1] - r);
            site.at = d.own(e, n);
            // Late attempts give up what is only pleasant.
            if suits(d, blocks, &site, attempt < 2500)
                && sites.iter().all(|s| distance(s, &site) > spacing(s, &site, wish.apart, dense))
            {
                let with_machine = kind == Kind::Earthwork && (!dense || d.dice.chance(0.5));
                let mut keep_out = site.keep_out();
                if dense {
                    keep_out.gap = keep_out.gap.min(3.0);
                }
                d.keep_outs.push(keep_out);
                sites.push(site);
                if with_machine {
                    let machine = machine_on(&mut d.dice, &site);
                    d.keep_outs.push(KeepOut { at: machine.at, radius: 3.5, gap: 0.0 });
                    sites.push(machine);
                }
                break;
            }
        }
    }
    sites
}

/// The machine stands towards one end of its earthwork.
fn machine_on(dice: &mut Dice, work: &Site) -> Site {
    let mut machine = roll_site(dice, Kind::HeavyMachine);
    let away = dice.range(6.3, (work.half[0] - 3.2).max(6.5));
    let end = dice.pick(&[0.0, std::f32::consts::PI]);
    machine.at = Draft::beside(work.at, work.yaw + end, away, 0.0);
    machine
}

fn distance(a: &Site, b: &Site) -> f32 {
    (a.at[0] - b.at[0]).hypot(a.at[1] - b.at[1])
}

fn spacing(a: &Site, b: &Site, apart: f32, dense: bool) -> f32 {
    let house = |s: &Site| matches!(s.kind, Kind::NewBuilding | Kind::BlueRoof);
    let room = a.radius() + b.radius() + if house(a) || house(b) { 6.0 } else { 3.0 };
    // A machine shares its earthwork's ground, and what is near one is near the other.
    if dense { room } else { apart.max(room) }
}

fn suits(d: &Draft, blocks: &[Block], site: &Site, choosy: bool) -> bool {
    let [u, v] = site.at;
    let r = site.radius();
    let road = d.roads.iter().map(|p| p.distance(u, v)).fold(f32::INFINITY, f32::min);
    if road < r + 2.0 {
        return false;
    }
    let water = d.river.offset(u, v).abs();
    if site.kind == Kind::FloatingDebris {
        return water < d.river.half - r - 0.4;
    }
    if water < d.river.half + r + 6.0 {
        return false;
    }
    let Some(block) = blocks.iter().find(|b| b.plot.distance(u, v) == 0.0) else {
        return false;
    };
    use Use::*;
    let fits = match site.kind {
        Kind::Earthwork => matches!(block.land, Field | Vacant | Orchard | Grove),
        Kind::NewBuilding | Kind::BlueRoof => !matches!(block.land, Ponds | Market),
        Kind::Garbage => block.land != Ponds && (road < 14.0 || block.land != Field),
        Kind::Burning => matches!(block.land, Field | Vacant | Orchard | Village),
        _ => block.land != Ponds,
    };
    block.land != Ponds && (fits || !choosy)
}

/// A corner of the patrolled area with room for the dock's pad.
fn choose_dock(d: &mut Draft, blocks: &[Block]) -> [f32; 2] {
    let mut side = [d.dice.pick(&[-1.0, 1.0]), d.dice.pick(&[-1.0, 1.0])];
    let mut best = d.own(side[0] * 140.0, side[1] * 100.0);
    for attempt in 0..6000 {
        if attempt % 1000 == 999 {
            // No room in this corner: try the next.
            side = [-side[1], side[0]];
        }
        let (e, n) = (side[0] * d.dice.range(118.0, 144.0), side[1] * d.dice.range(70.0, 104.0));
        let at = d.own(e, n);
        let plot = Plot::new(at[0], at[1], 0.0, 5.0, 5.0);
        let on_land = blocks.iter().any(|b| b.plot.distance(at[0], at[1]) == 0.0 && b.land != Use::Ponds);
        if on_land
            && d.free(&plot, 8.0)
            && d.keep_outs.iter().all(|k| (k.at[0] - at[0]).hypot(k.at[1] - at[1]) > k.radius + 18.0)
        {
            best = at;
            break;
        }
    }
    d.keep_outs.push(KeepOut { at: best, radius: 7.0, gap: 3.0 });
    best
}

fn build_dock(d: &mut Draft, at: [f32; 2]) {
    let pad = |tone: u32| look(Texture::Concrete, rgb(tone), rgb(tone), 0.0);
    d.rect(&Plot::new(at[0], at[1], 0.0, 4.0, 4.0), pad(0xbab7ae), layer::PATCH);
    let ring: V3 = rgb(0xe8c63a);
    for (du, dv, hu, hv) in
        [(0.0, 3.4, 3.5, 0.12), (0.0, -3.4, 3.5, 0.12), (3.4, 0.0, 0.12, 3.5), (-3.4, 0.0, 0.12, 3.5)]
    {
        d.rect(&Plot::new(at[0] + du, at[1] + dv, 0.0, hu, hv), look(Texture::Paving, ring, ring, 0.0), layer::SPOT);
    }
    d.put(Shape::Box, at, 0.0, 0.0, [0.9, 0.9, 0.4], plain(rgb(0xe9ebec)), 0);
    d.put(Shape::Box, at, 0.8, 0.0, [0.7, 0.7, 0.03], plain(rgb(0x33373b)), 0);
    d.put(Shape::Cylinder, [at[0] + 2.6, at[1] + 2.6], 0.0, 0.0, [0.07, 0.07, 2.0], plain(rgb(0xdadada)), 0);
}
