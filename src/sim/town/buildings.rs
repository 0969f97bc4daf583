//! Houses and sheds, with what stands on their roofs.

use super::draft::{Building, BuildingKind, Draft, Plot};
use super::math::{V3, rgb};
use super::props::{paint, plain};
use super::shapes::{Finish, Shape};

pub const BUILDING: u8 = 0;
pub const BLUE_ROOF: u8 = 1;

/// Blues of coated steel sheet, new to faded.
const BLUES: [u32; 6] = [0x2563b8, 0x2a6fc4, 0x1f57a5, 0x3c7cc8, 0x4a86c6, 0x2f66a8];

impl Draft {
    fn note_building(&mut self, kind: BuildingKind, plot: &Plot, registered: bool) {
        let footprint = plot.corners().map(|c| self.world(c[0], c[1]));
        self.buildings.push(Building { kind, footprint, registered });
        self.taken.push(*plot);
    }

    /// A house of a village: flat-roofed concrete or gabled tiles.
    pub fn house(&mut self, plot: &Plot, registered: bool) -> u32 {
        let id = self.object(BUILDING);
        self.note_building(BuildingKind::House, plot, registered);
        let gabled = self.dice.chance(if registered { 0.42 } else { 0.3 });
        let wall = if registered {
            self.dice.colour(&[0xd9d2c2, 0xc9b9a0, 0xb7b2a8, 0xe4dfd2, 0xa98c78, 0xc8a58c, 0xdcc9c0], 0.12)
        } else {
            self.dice.colour(&[0xb5653f, 0xa9583a, 0xd6d2ca, 0xc4c0b8], 0.08)
        };
        let walls = paint(Finish::Wall, wall, rgb(0x2a3238));
        let at = [plot.u, plot.v];
        let [hu, hv] = plot.half;
        if gabled {
            let storeys = self.dice.int(1, 2) as f32;
            let h = storeys * 3.2 + 0.3;
            self.put(Shape::Box, at, 0.0, plot.yaw, [hu * 0.96, hv * 0.96, h / 2.0], walls, id);
            let tile = self.dice.colour(&[0x9a4a36, 0x84402f, 0xa55a3e, 0x6c6a68, 0x5b5d60, 0x77706a, 0x8a3f3c], 0.14);
            let rise = hu.min(hv) * self.dice.range(0.18, 0.3);
            // The ridge runs along the longer side.
            let (yaw, long, across) =
                if hu >= hv { (plot.yaw, hu, hv) } else { (plot.yaw + std::f32::consts::FRAC_PI_2, hv, hu) };
            self.put(Shape::Gable, at, h, yaw, [long, across, rise], paint(Finish::Tiles, tile, rgb(0x57573f)), id);
            if self.dice.chance(0.4) {
                let spot = Draft::beside(at, yaw, long * 0.5, across * 0.35);
                self.put(Shape::Box, spot, h, yaw, [0.35, 0.35, rise + 0.5], plain(wall), id);
            }
            if self.dice.chance(0.3) {
                self.solar(Draft::beside(at, yaw, -long * 0.4, -across * 0.4), yaw, h + rise * 0.9, id);
            }
        } else {
            let storeys = self.dice.int(2, 4) as f32;
            let h = storeys * 3.2;
            self.put(Shape::Box, at, 0.0, plot.yaw, [hu, hv, h / 2.0], walls, id);
            let top = if registered {
                self.dice.colour(&[0xa5a29a, 0x97948c, 0xb5b1a6, 0x8d8a82, 0xa38f80, 0x9d6f5c, 0x7f8a80], 0.12)
            } else {
                self.dice.colour(&[0xc6c3ba, 0xbcb8ae, 0xd0ccc2], 0.06)
            };
            self.put(Shape::Box, at, h, plot.yaw, [hu, hv, 0.05], paint(Finish::Slab, top, top), id);
            self.parapet(plot, h, wall.mix(rgb(0xd5d0c6), 0.4), id);
            self.roof_clutter(plot, h + 0.1, wall, id);
        }
        id
    }

    fn parapet(&mut self, plot: &Plot, h: f32, tone: V3, id: u32) {
        let (at, yaw, [hu, hv]) = ([plot.u, plot.v], plot.yaw, plot.half);
        let rail = plain(tone);
        for side in [-1.0, 1.0] {
            self.put(Shape::Box, Draft::beside(at, yaw, 0.0, side * (hv - 0.12)), h, yaw, [hu, 0.12, 0.5], rail, id);
            self.put(
                Shape::Box,
                Draft::beside(at, yaw, side * (hu - 0.12), 0.0),
                h,
                yaw,
                [0.12, hv - 0.24, 0.5],
                rail,
                id,
            );
        }
    }

    fn roof_clutter(&mut self, plot: &Plot, z: f32, wall: V3, id: u32) {
        let (at, yaw, [hu, hv]) = ([plot.u, plot.v], plot.yaw, plot.half);
        // The stair-house in one corner.
        if self.dice.chance(0.8) {
            let (su, sv) = (self.dice.range(1.3, 1.9), self.dice.range(1.3, 2.2));
            let (a, b) = (self.dice.pick(&[-1.0, 1.0]), self.dice.pick(&[-1.0, 1.0]));
            let spot = Draft::beside(at, yaw, a * (hu - su - 0.3), b * (hv - sv - 0.3));
            self.put(Shape::Box, spot, z, yaw, [su, sv, 1.25], plain(wall * 0.95), id);
            let cap = self.dice.colour(&[0xa8a49b, 0x9a5540, 0xb3afa6], 0.1);
            self.put(Shape::Box, spot, z + 2.5, yaw, [su + 0.2, sv + 0.2, 0.08], paint(Finish::Slab, cap, cap), id);
        }
        let room = |d: &mut Draft| {
            let (a, b) = (d.dice.range(-0.7, 0.7), d.dice.range(-0.7, 0.7));
            Draft::beside(at, yaw, a * (hu - 1.0), b * (hv - 1.0))
        };
        for _ in 0..self.dice.int(0, 2) {
            let spot = room(self);
            let tone = self.dice.colour(&[0xd5d8da, 0xc4c8ca, 0x2f6cb8, 0x3a4046], 0.06);
            let (r, tall) = (self.dice.range(0.45, 0.75), self.dice.range(0.5, 0.85));
            self.put(Shape::Cylinder, spot, z + 0.4, 0.0, [r, r, tall], plain(tone), id);
        }
        if self.dice.chance(0.55) {
            let spot = room(self);
            self.solar(spot, yaw, z, id);
        }
        for _ in 0..self.dice.int(0, 3) {
            let spot = room(self);
            self.put(Shape::Box, spot, z, yaw, [0.45, 0.25, 0.3], plain(rgb(0xd0d0cc)), id);
        }
        if self.dice.chance(0.35) {
            // Laundry on a line.
            let spot = room(self);
            for i in 0..5 {
                let tone = self.dice.colour(&[0xd94f4f, 0xf0eee8, 0x3d6fc0, 0xe5c64a, 0x7fbf9a, 0xd78fb0], 0.15);
                let at = Draft::beside(spot, yaw, i as f32 * 0.6 - 1.2, 0.0);
                self.put(Shape::Box, at, z + 0.8, yaw, [0.26, 0.06, 0.4], paint(Finish::Cloth, tone, tone), id);
            }
        }
        if self.dice.chance(0.25) {
            // A roof garden.
            for _ in 0..6 {
                let spot = room(self);
                let tone = self.dice.colour(&[0x4c7a35, 0x3c6a30, 0x6e9040], 0.15);
                self.put(Shape::Ellipsoid, spot, z, 0.0, [0.45, 0.4, 0.35], paint(Finish::Leaf, tone, tone), id);
            }
        }
    }

    fn solar(&mut self, at: [f32; 2], yaw: f32, z: f32, id: u32) {
        let panel = paint(Finish::Solar, rgb(0x141a2c), rgb(0x8d97a8));
        self.put_tilted(Shape::Box, at, z + 0.75, yaw, 0.6, [0.95, 0.85, 0.05], panel, id);
        let head = Draft::beside(at, yaw, 0.85, 0.0);
        self.put(Shape::Box, head, z + 1.15, yaw, [0.22, 0.95, 0.2], plain(rgb(0xd9dde0)), id);
    }

    /// A steel shed; `blue` decides its class.
    pub fn shed(&mut self, plot: &Plot, blue: bool, registered: bool) -> u32 {
        let id = self.object(if blue { BLUE_ROOF } else { BUILDING });
        self.note_building(if blue { BuildingKind::BlueShed } else { BuildingKind::Shed }, plot, registered);
        let at = [plot.u, plot.v];
        let [hu, hv] = plot.half;
        let (yaw, long, across) =
            if hu >= hv { (plot.yaw, hu, hv) } else { (plot.yaw + std::f32::consts::FRAC_PI_2, hv, hu) };
        let h = self.dice.range(3.4, 4.5) + across * 0.18;
        let roof = if blue {
            self.dice.colour(&BLUES, 0.14)
        } else {
            self.dice.colour(&[0xdcdcd6, 0xb9bab6, 0x9a9b98, 0xc9c3b4, 0x8c8f92, 0xa8a196], 0.1)
        };
        let wall = self.dice.colour(&[0xcfccc2, 0xb3b0a8, 0xd8d8d4, 0xa6a8a6], 0.1);
        let side = if blue && self.dice.chance(0.4) { roof * 0.8 } else { wall };
        self.put(
            Shape::Box,
            at,
            0.0,
            yaw,
            [long * 0.98, across * 0.97, h / 2.0],
            paint(Finish::Wall, side, rgb(0x3a434a)),
            id,
        );
        let steel = paint(Finish::Steel, roof, if blue { rgb(0x5a5f68) } else { rgb(0x8a5a3c) });
        // Wide sheds are built as two or three bays side by side.
        let bays = if across > 9.0 { self.dice.int(1, 3) } else { 1 };
        let bay = across / bays as f32;
        for i in 0..bays {
            let spot = Draft::beside(at, yaw, 0.0, (i as f32 * 2.0 + 1.0) * bay - across);
            self.put(Shape::Gable, spot, h, yaw, [long, bay, bay * 0.09], steel, id);
            let rise = bay * 0.18;
            if self.dice.chance(0.55) {
                for k in 0..self.dice.int(2, 5) {
                    let d = long * (0.36 * k as f32 - 0.72);
                    let vent = Draft::beside(spot, yaw, d, 0.0);
                    self.put(Shape::Cylinder, vent, h + rise - 0.1, 0.0, [0.4, 0.4, 0.4], plain(rgb(0xc9cccd)), id);
                }
            } else if self.dice.chance(0.5) && bay > 4.0 {
                // Strips of clear sheet let daylight in.
                for k in 0..3 {
                    let d = long * (0.6 * k as f32 - 0.6);
                    for s in [-0.5, 0.5] {
                        let strip = Draft::beside(spot, yaw, d, s * bay);
                        self.put_tilted(
                            Shape::Box,
                            strip,
                            h + rise * 0.5 + 0.03,
                            yaw + std::f32::consts::FRAC_PI_2,
                            -s.signum() * 0.18f32.atan(),
                            [bay * 0.3, 0.45, 0.03],
                            plain(rgb(0xbfc8c4)),
                            id,
                        );
                    }
                }
            }
        }
        id
    }
}
