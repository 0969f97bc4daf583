//! The simulated drone's battery: charge, voltage under load, temperature. Pure.

/// A pack of six lithium cells.
#[derive(Debug)]
pub struct Pack {
    pub charge_pct: f64,
    pub current_a: f64,
    pub temperature_c: f64,
    pub cycles: u16,
    pub serial: String,
    /// A fault switch: what is lost at one cell for each ampere, beyond what is normal.
    pub weak_ohm: f64,
}

pub const CELLS: usize = 6;
/// From full to empty in the air, seconds.
pub const ENDURANCE_S: f64 = 1800.0;
/// From empty to full in the dock, seconds.
const CHARGE_S: f64 = 1800.0;
const AIR_TEMPERATURE_C: f64 = 25.0;
/// Of one cell.
const CELL_OHM: f64 = 0.005;

/// What the drone does with its battery.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    Flying,
    Idle,
    Charging,
}

impl Pack {
    pub fn new(seed: u64) -> Pack {
        Pack {
            charge_pct: 100.0,
            current_a: 0.0,
            temperature_c: AIR_TEMPERATURE_C,
            cycles: 40 + (seed % 100) as u16,
            serial: format!("SIM{seed:06}"),
            weak_ohm: 0.0,
        }
    }

    /// `capacity_mah`: what the autopilot was told of the pack.
    pub fn step(&mut self, dt: f64, load: Load, capacity_mah: f64) {
        let capacity_as = capacity_mah * 3.6;
        self.current_a = match load {
            Load::Flying => capacity_as / ENDURANCE_S,
            Load::Idle => 0.5,
            Load::Charging => -capacity_as / CHARGE_S,
        };
        let change = -100.0 * self.current_a * dt / capacity_as.max(1.0);
        self.charge_pct = (self.charge_pct + change).clamp(0.0, 100.0);
        // A flight warms it by some 15 degrees, within some ten minutes.
        let toward = AIR_TEMPERATURE_C + if load == Load::Flying { 15.0 } else { 0.0 };
        self.temperature_c = toward + (self.temperature_c - toward) * (-dt / 600.0).exp();
    }

    /// Of each cell, under its load. Where one is weak, it is the first.
    pub fn cells_v(&self) -> [f64; CELLS] {
        let mut cells = [self.cell_v(CELL_OHM); CELLS];
        cells[0] = self.cell_v(CELL_OHM + self.weak_ohm);
        cells
    }

    fn cell_v(&self, ohm: f64) -> f64 {
        let charge = self.charge_pct / 100.0;
        // The last tenth goes fast.
        let rest = if charge > 0.1 { 3.5 + 0.7 * charge } else { 3.0 + 5.7 * charge };
        (rest - self.current_a * ohm).clamp(0.0, 4.3)
    }

    pub fn voltage(&self) -> f64 {
        self.cells_v().iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_pulls_the_voltage_down_and_a_weak_cell_pulls_it_further() {
        let mut pack = Pack::new(1);
        pack.charge_pct = 60.0;
        pack.step(0.1, Load::Idle, 10_000.0);
        let idle = pack.voltage();
        pack.step(0.1, Load::Flying, 10_000.0);
        assert!((0.3..1.0).contains(&(idle - pack.voltage())), "{idle} V, flying {} V", pack.voltage());
        pack.weak_ohm = 0.02;
        let [weak, sound, ..] = pack.cells_v();
        assert!((sound - weak - 0.4).abs() < 0.01, "{weak} {sound}");
    }

    #[test]
    fn a_flight_lasts_as_long_as_is_promised_and_an_empty_pack_stays_empty() {
        let mut pack = Pack::new(1);
        for _ in 0..ENDURANCE_S as u32 / 2 {
            pack.step(1.0, Load::Flying, 10_000.0);
        }
        assert!((pack.charge_pct - 50.0).abs() < 0.1 && pack.temperature_c > 30.0);
        for _ in 0..ENDURANCE_S as u32 {
            pack.step(1.0, Load::Flying, 10_000.0);
        }
        assert_eq!(pack.charge_pct, 0.0);
    }
}
