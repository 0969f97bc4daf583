//! Pure: everything that can be wrong with a map before a byte is sent.

use super::address::Address;
use super::map::{Alive, Command, Contact, DockCommands, DockMap, DockSignals, Outputs, Place, Quantity, WeatherMap};
use super::value::{Measure, Type};

/// A fault of a map, with the key it stands under.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{key}: {fault}")]
pub struct MapFault {
    pub key: String,
    pub fault: String,
}

impl DockMap {
    /// Everything that is wrong, each with its key.
    pub fn faults(&self) -> Vec<MapFault> {
        let mut check = Check::of("dock.modbus", &self.url, self.unit_id);
        check.times(self.poll_s, self.timeout_s, self.stale_s);
        let DockSignals { closed, open, opening, closing, drone_present, emergency_stop, alive } = &self.signals;
        for (key, contact) in [
            ("signals.closed", Some(closed)),
            ("signals.open", Some(open)),
            ("signals.opening", opening.as_ref()),
            ("signals.closing", closing.as_ref()),
            ("signals.drone_present", drone_present.as_ref()),
            ("signals.emergency_stop", emergency_stop.as_ref()),
        ] {
            if let Some(contact) = contact {
                check.contact(key, contact);
            }
        }
        if opening.is_some() != closing.is_some() {
            let (there, missing) = if opening.is_some() { ("opening", "closing") } else { ("closing", "opening") };
            let fault = format!("is missing while signals.{there} is given; give both or none");
            check.fault(&format!("signals.{missing}"), fault);
        }
        if let Some(alive) = alive {
            check.alive("signals.alive", alive);
        }
        let mut names: Vec<&str> = Vec::new();
        for (index, permit) in self.permits.iter().enumerate() {
            check.contact(&format!("permits[{index}].input"), &permit.input);
            if permit.name.trim().is_empty() {
                check.fault(&format!("permits[{index}].name"), "is empty; say what must be in order".to_owned());
            } else if names.contains(&permit.name.as_str()) {
                check.fault(&format!("permits[{index}].name"), format!("{:?} is used twice", permit.name));
            }
            names.push(&permit.name);
        }
        let DockCommands { open, close, stop } = &self.commands;
        let commands =
            [("commands.open", Some(open)), ("commands.close", Some(close)), ("commands.stop", stop.as_ref())];
        for (index, (key, command)) in commands.iter().enumerate() {
            let Some(command) = command else { continue };
            check.command(key, command);
            for (other_key, other) in &commands[..index] {
                if let Some(other) = other
                    && self.writes_the_same(command, other)
                {
                    let fault = format!("writes the same as {other_key}; every command needs its own address or value");
                    check.fault(key, fault);
                }
            }
        }
        check.faults
    }

    fn writes_the_same(&self, a: &Command, b: &Command) -> bool {
        let unit = |command: &Command| command.unit_id.unwrap_or(self.unit_id);
        (unit(a), a.table, a.address, a.value) == (unit(b), b.table, b.address, b.value)
    }
}

impl WeatherMap {
    /// Everything that is wrong, each with its key.
    pub fn faults(&self) -> Vec<MapFault> {
        let mut check = Check::of("weather.modbus", &self.url, self.unit_id);
        check.times(self.poll_s, self.timeout_s, self.stale_s);
        for (key, quantity, measure) in self.signals.quantities() {
            if let Some(quantity) = quantity {
                check.quantity(&format!("signals.{key}"), quantity, measure);
            }
        }
        if let Some(alive) = &self.signals.alive {
            check.alive("signals.alive", alive);
        }
        check.faults
    }
}

/// Gathers the faults of one map.
struct Check {
    table: &'static str,
    unit: u8,
    units: Option<std::ops::RangeInclusive<u8>>,
    /// What reads each place, with the bit or the code that tells it from others there.
    read: Vec<(String, Place, Option<u8>, Option<u16>)>,
    faults: Vec<MapFault>,
}

impl Check {
    fn of(table: &'static str, url: &str, unit: u8) -> Check {
        let mut check = Check { table, unit, units: None, read: Vec::new(), faults: Vec::new() };
        match Address::parse(url) {
            Ok(address) => check.units = Some(address.units()),
            Err(reason) => check.fault(
                "url",
                format!("{url:?}: {reason}; write tcp:10.0.0.5:502, rtu:/dev/ttyUSB0:19200:8E1 or rtu-over-tcp:10.0.0.7:8899"),
            ),
        }
        check.unit_id("", Some(unit));
        check
    }

    fn fault(&mut self, key: &str, fault: String) {
        self.faults.push(MapFault { key: format!("{}.{key}", self.table), fault });
    }

    fn times(&mut self, poll_s: f64, timeout_s: f64, stale_s: f64) {
        let before = self.faults.len();
        for (key, value, low, high) in
            [("poll_s", poll_s, 0.1, 60.0), ("timeout_s", timeout_s, 0.05, 10.0), ("stale_s", stale_s, 0.5, 300.0)]
        {
            // NaN is in no range.
            if !(low..=high).contains(&value) {
                self.fault(key, format!("{value} is outside {low} to {high} seconds"));
            }
        }
        if self.faults.len() == before && stale_s <= poll_s + timeout_s {
            let fault = format!(
                "{stale_s} is not more than poll_s + timeout_s = {}: one slow answer would make everything unknown",
                poll_s + timeout_s
            );
            self.fault("stale_s", fault);
        }
    }

    /// `key` of the entry, "" for the device itself.
    fn unit_id(&mut self, key: &str, unit: Option<u8>) {
        let (Some(unit), Some(units)) = (unit, self.units.clone()) else { return };
        if !units.contains(&unit) {
            let key = if key.is_empty() { "unit_id".to_owned() } else { format!("{key}.unit_id") };
            self.fault(
                &key,
                format!("{unit} is no device on this line; expected {} to {}", units.start(), units.end()),
            );
        }
    }

    fn contact(&mut self, key: &str, contact: &Contact) {
        self.unit_id(key, contact.unit_id);
        match (contact.table.is_bits(), contact.bit, contact.equals) {
            (true, None, None) | (false, Some(0..=15), None) | (false, None, Some(_)) => {}
            (true, ..) => self.fault(key, "a coil or discrete input is one bit; remove bit and equals".to_owned()),
            (false, Some(bit), None) => {
                self.fault(&format!("{key}.bit"), format!("{bit} is outside 0 to 15, the bits of a register"));
            }
            (false, ..) => self.fault(
                key,
                "a register needs exactly one of bit (0 to 15) and equals (the code that means yes)".to_owned(),
            ),
        }
        self.reads(key, contact.place(self.unit), contact.bit, contact.equals);
    }

    fn quantity(&mut self, key: &str, quantity: &Quantity, measure: Measure) {
        self.unit_id(key, quantity.unit_id);
        if quantity.kind.words() > 1 && quantity.address == u16::MAX {
            let fault = "65535 is the last register, and this type needs two; the address is where the first one lies";
            self.fault(&format!("{key}.address"), fault.to_owned());
        }
        if !quantity.scale.is_finite() || quantity.scale == 0.0 {
            let fault = format!("{} makes every value the same; 1 leaves the raw number as it is", quantity.scale);
            self.fault(&format!("{key}.scale"), fault);
        }
        if !quantity.offset.is_finite() {
            self.fault(&format!("{key}.offset"), format!("{} is no number to add", quantity.offset));
        }
        if let Some(unit) = quantity.unit.filter(|unit| unit.measure() != measure) {
            let fault = format!("{:?} does not measure this; expected {}", unit.name(), measure.units());
            self.fault(&format!("{key}.unit"), fault);
        }
        if let Some([low, high]) = quantity.range {
            if !(low.is_finite() && high.is_finite() && low < high) {
                let fault = format!("[{low}, {high}] holds no value; write the lowest first, then the highest");
                self.fault(&format!("{key}.range"), fault);
            } else if quantity.scale != 0.0 && quantity.scale.is_finite() && !quantity.range_is_reachable() {
                let fault = format!("[{low}, {high}] is never reached by this type, scale and offset");
                self.fault(&format!("{key}.range"), fault);
            }
        }
        self.reads(key, quantity.place(self.unit), None, None);
    }

    fn alive(&mut self, key: &str, alive: &Alive) {
        self.unit_id(key, alive.unit_id);
        self.reads(key, alive.place(self.unit), None, None);
    }

    /// Two meanings of one place are a slip of the pen.
    fn reads(&mut self, key: &str, place: Place, bit: Option<u8>, equals: Option<u16>) {
        let other = self.read.iter().find(|(_, there, there_bit, there_equals)| {
            let tell_apart = match ((bit, there_bit), (equals, there_equals)) {
                ((Some(a), Some(b)), _) => a != *b,
                (_, (Some(a), Some(b))) => a != *b,
                _ => false,
            };
            overlap(&place, there) && !tell_apart
        });
        if let Some((other, ..)) = other {
            let fault = format!("reads what {}.{other} reads; every signal needs its own address or bit", self.table);
            self.fault(key, fault);
        }
        self.read.push((key.to_owned(), place, bit, equals));
    }

    fn command(&mut self, key: &str, command: &Command) {
        self.unit_id(key, command.unit_id);
        let coil = command.table == Outputs::Coil;
        for (name, value) in [("value", Some(command.value)), ("release", command.release)] {
            if let Some(value) = value.filter(|value| coil && *value > 1) {
                self.fault(&format!("{key}.{name}"), format!("{value} is no state of a coil; write 0 or 1"));
            }
        }
        if let Some(pulse_s) = command.pulse_s.filter(|s| !(0.05..=2.0).contains(s)) {
            self.fault(&format!("{key}.pulse_s"), format!("{pulse_s} is outside 0.05 to 2 seconds"));
        }
        if command.release() == Some(command.value) {
            let fault = format!("{} is what the command itself writes; a release must differ", command.value);
            self.fault(&format!("{key}.release"), fault);
        }
        match (command.table, command.function) {
            (_, None) | (Outputs::Coil, Some(5 | 15)) | (Outputs::HoldingRegister, Some(6 | 16)) => {}
            (Outputs::Coil, Some(f)) => {
                self.fault(&format!("{key}.function"), format!("{f} writes no coil; 5 and 15 do"))
            }
            (Outputs::HoldingRegister, Some(f)) => {
                self.fault(&format!("{key}.function"), format!("{f} writes no register; 6 and 16 do"));
            }
        }
    }
}

impl Quantity {
    /// Whether any raw number lands in `range`: a scale one power of ten off is found before the first flight.
    fn range_is_reachable(&self) -> bool {
        let Some([low, high]) = self.range else { return true };
        let (least, most) = match self.kind {
            Type::U16 => (0.0, f64::from(u16::MAX)),
            Type::I16 => (f64::from(i16::MIN), f64::from(i16::MAX)),
            Type::U32 => (0.0, f64::from(u32::MAX)),
            Type::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
            Type::F32 => (f64::from(f32::MIN), f64::from(f32::MAX)),
        };
        let ends = [least * self.scale + self.offset, most * self.scale + self.offset];
        ends[0].min(ends[1]) <= high && low <= ends[0].max(ends[1])
    }
}

fn overlap(a: &Place, b: &Place) -> bool {
    let end = |place: &Place| u32::from(place.address) + u32::from(place.count);
    (a.unit, a.table) == (b.unit, b.table) && u32::from(a.address) < end(b) && u32::from(b.address) < end(a)
}
