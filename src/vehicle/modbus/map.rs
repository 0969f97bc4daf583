//! Pure: the register maps of the configuration, and everything that can be wrong with them before a byte is sent.
//!
//! Optional tables stand in the schema as if they were not (`schemars(with)`): among alternatives, a fault inside one could
//! not be named.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::Address;
use super::value::{Measure, Order, Type, Unit};

/// A fault of a map, with the key it stands under.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{key}: {fault}")]
pub struct MapFault {
    pub key: String,
    pub fault: String,
}

/// The four tables of a Modbus device. Addresses count from 0 in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// Read with function 1, one bit each.
    Coil,
    /// Read with function 2, one bit each.
    DiscreteInput,
    /// Read with function 3, sixteen bits each.
    HoldingRegister,
    /// Read with function 4, sixteen bits each.
    InputRegister,
}

impl Table {
    pub fn is_bits(self) -> bool {
        matches!(self, Table::Coil | Table::DiscreteInput)
    }
}

/// Tables of sixteen bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Registers {
    /// Read with function 3.
    HoldingRegister,
    /// Read with function 4.
    InputRegister,
}

impl From<Registers> for Table {
    fn from(registers: Registers) -> Table {
        match registers {
            Registers::HoldingRegister => Table::HoldingRegister,
            Registers::InputRegister => Table::InputRegister,
        }
    }
}

/// Tables that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outputs {
    /// Written with function 5, or 15.
    Coil,
    /// Written with function 6, or 16.
    HoldingRegister,
}

/// A yes or no of the device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    pub table: Table,
    /// Counted from 0: what manuals call 10001 or 40001 is address 0 of its table.
    pub address: u16,
    /// When another device of the line has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_id: Option<u8>,
    /// Of a register, which bit; 0 is the lowest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bit: Option<u8>,
    /// Of a register, the code that means yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<u16>,
    /// For a normally closed contact: 0 means yes, and so does a broken wire.
    #[serde(default)]
    pub inverted: bool,
}

/// A number of the device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quantity {
    pub table: Registers,
    /// Counted from 0: what manuals call 30001 or 40001 is address 0 of its table.
    pub address: u16,
    /// When another device of the line has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_id: Option<u8>,
    /// `u16`, `i16`, or over two registers `u32`, `i32`, `f32`.
    #[serde(rename = "type", default)]
    pub kind: Type,
    /// Which register of two comes first; `high_first` is the standard's.
    #[serde(default)]
    pub word_order: Order,
    /// Which byte of a register comes first; `high_first` is the standard's.
    #[serde(default)]
    pub byte_order: Order,
    /// The value is the raw number times this, plus `offset`.
    #[serde(default = "one")]
    pub scale: f64,
    #[serde(default)]
    pub offset: f64,
    /// What the value is measured in; aerie's own (m/s, degC, mm/h, m) when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Unit")]
    pub unit: Option<Unit>,
    /// Lowest and highest value that can be true, after `scale` and `offset`, in `unit`. Beyond it nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
}

fn one() -> f64 {
    1.0
}

/// A register or bit that the device changes again and again while its program runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alive {
    pub table: Table,
    /// Counted from 0.
    pub address: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_id: Option<u8>,
}

/// What is written to make the dock move or stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    pub table: Outputs,
    /// Counted from 0.
    pub address: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_id: Option<u8>,
    /// Of a coil 0 or 1.
    #[serde(default = "on")]
    pub value: u16,
    /// Seconds after which `release` is written: a pressed button. Left out, `value` stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulse_s: Option<f64>,
    /// Written when the pulse ends, or without `pulse_s` when the movement ended in whatever way. Left out with `pulse_s`:
    /// the other state of a coil, 0 of a register.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<u16>,
    /// 15 or 16 for devices that know only the functions for several coils or registers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<u8>,
}

fn on() -> u16 {
    1
}

/// The two movements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Motion {
    Open,
    Close,
}

/// An input without which the dock is not moved: a key in "automatic", a rain cover taken off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Permit {
    /// What people read when it is missing.
    pub name: String,
    pub input: Contact,
    /// Which movement needs it; both when left out. A movement under way stops when it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Motion")]
    pub motion: Option<Motion>,
}

/// The `[dock.modbus]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DockMap {
    /// `tcp:host:502`, `rtu:/dev/ttyUSB0:19200:8E1` or `rtu-over-tcp:host:port`. Devices may share a line.
    pub url: String,
    #[serde(default = "default_unit")]
    pub unit_id: u8,
    /// Seconds between two looks at a dock that stands still; five times a second while it moves.
    #[serde(default = "default_poll_s")]
    pub poll_s: f64,
    /// Seconds that the device may take for an answer.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: f64,
    /// A value older than these seconds is unknown.
    #[serde(default = "default_dock_stale_s")]
    pub stale_s: f64,
    pub signals: DockSignals,
    pub commands: DockCommands,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permits: Vec<Permit>,
}

/// What the dock says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DockSignals {
    /// Limit switch.
    pub closed: Contact,
    /// Limit switch.
    pub open: Contact,
    /// On while it moves that way; without these two, the last command tells the direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Contact")]
    pub opening: Option<Contact>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Contact")]
    pub closing: Option<Contact>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Contact")]
    pub drone_present: Option<Contact>,
    /// On when pressed. Wire it normally closed and set `inverted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Contact")]
    pub emergency_stop: Option<Contact>,
    /// Changes at least once in `stale_s`; when it stands still, nothing is believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Alive")]
    pub alive: Option<Alive>,
}

/// What the dock is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DockCommands {
    pub open: Command,
    pub close: Command,
    /// Ends a movement that took too long or must not go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Command")]
    pub stop: Option<Command>,
}

/// The `[weather.modbus]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeatherMap {
    /// `tcp:host:502`, `rtu:/dev/ttyUSB0:9600:8N1` or `rtu-over-tcp:host:port`. Devices may share a line.
    pub url: String,
    #[serde(default = "default_unit")]
    pub unit_id: u8,
    /// Seconds between two readings.
    #[serde(default = "default_poll_s")]
    pub poll_s: f64,
    /// Seconds that a device may take for an answer.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: f64,
    /// A value older than these seconds is unknown.
    #[serde(default = "default_weather_stale_s")]
    pub stale_s: f64,
    pub signals: WeatherSignals,
}

/// What the mast says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeatherSignals {
    /// Mean wind speed.
    pub wind: Quantity,
    /// Highest wind speed of the last minutes, as the mast counts it.
    pub gust: Quantity,
    pub rain: Quantity,
    pub temperature: Quantity,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Quantity")]
    pub visibility: Option<Quantity>,
    /// Changes at least once in `stale_s`; when it stands still, nothing is believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Alive")]
    pub alive: Option<Alive>,
}

fn default_unit() -> u8 {
    1
}

fn default_poll_s() -> f64 {
    1.0
}

fn default_timeout_s() -> f64 {
    1.0
}

fn default_dock_stale_s() -> f64 {
    4.0
}

fn default_weather_stale_s() -> f64 {
    10.0
}

impl Contact {
    pub fn at(table: Table, address: u16) -> Contact {
        Contact { table, address, unit_id: None, bit: None, equals: None, inverted: false }
    }
}

impl Quantity {
    pub fn at(table: Registers, address: u16) -> Quantity {
        Quantity {
            table,
            address,
            unit_id: None,
            kind: Type::default(),
            word_order: Order::default(),
            byte_order: Order::default(),
            scale: 1.0,
            offset: 0.0,
            unit: None,
            range: None,
        }
    }
}

/// One place that is read: so many coils, inputs or registers of a unit from an address on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub unit: u8,
    pub table: Table,
    pub address: u16,
    pub count: u16,
}

impl Contact {
    pub fn place(&self, unit: u8) -> Place {
        Place { unit: self.unit_id.unwrap_or(unit), table: self.table, address: self.address, count: 1 }
    }
}

impl Quantity {
    pub fn place(&self, unit: u8) -> Place {
        let (unit, count) = (self.unit_id.unwrap_or(unit), self.kind.words());
        Place { unit, table: self.table.into(), address: self.address, count }
    }
}

impl Alive {
    pub fn place(&self, unit: u8) -> Place {
        Place { unit: self.unit_id.unwrap_or(unit), table: self.table, address: self.address, count: 1 }
    }
}

impl Command {
    /// What is written once the button is let go or the movement has ended.
    pub fn release(&self) -> Option<u16> {
        let other = match self.table {
            Outputs::Coil => 1 - self.value.min(1),
            Outputs::HoldingRegister => 0,
        };
        self.release.or(self.pulse_s.map(|_| other))
    }

    pub fn pulse(&self) -> Option<Duration> {
        self.pulse_s.and_then(|s| Duration::try_from_secs_f64(s).ok())
    }
}

impl Permit {
    pub fn is_for(&self, motion: Motion) -> bool {
        self.motion.is_none_or(|only| only == motion)
    }
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

impl WeatherSignals {
    /// Each with its key, what it measures and whether readings depend on it.
    pub fn quantities(&self) -> [(&'static str, Option<&Quantity>, Measure); 5] {
        [
            ("wind", Some(&self.wind), Measure::Speed),
            ("gust", Some(&self.gust), Measure::Speed),
            ("rain", Some(&self.rain), Measure::Rain),
            ("temperature", Some(&self.temperature), Measure::Temperature),
            ("visibility", self.visibility.as_ref(), Measure::Length),
        ]
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
            } else if !quantity.range_is_reachable() {
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
