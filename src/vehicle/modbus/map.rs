//! Pure: the register maps of the configuration, as integrators write them.
//!
//! Optional tables stand in the schema as if they were not (`schemars(with)`): among alternatives, a fault inside one could
//! not be named.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::{Measure, Order, Type, Unit};

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
