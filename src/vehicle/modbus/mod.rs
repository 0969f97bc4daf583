//! Modbus devices by declarative register maps: what the dock's controller and the weather mast speak.
//!
//! Invariants kept here:
//! - one transaction at a time on a line, whoever shares it: an RS-485 pair, or a gateway in front of one, has one voice;
//! - an answer is taken only for its own question: by transaction id on TCP; on RTU, which has none, a line that left a
//!   question unanswered is listened to until it is quiet before anything else is asked;
//! - nothing is sent for a caller who has given up, and nothing is sent twice: a write that was lost stays lost;
//! - a value that was not read, is too old, is not a number or lies outside its plausible range is unknown.
//!
//! [`address`], [`ask`], [`map`], [`faults`] and [`value`] are pure; [`line`] is the task that owns the socket or the port;
//! [`device`] reads a map through a line. `docs/protocol/modbus.md` explains it to integrators.

pub mod address;
pub mod ask;
pub mod device;
pub mod faults;
pub mod line;
pub mod map;
pub mod value;

pub use address::Address;
pub use ask::Write;
pub use device::Device;
pub use faults::MapFault;
pub use line::{Line, LineError, Lines, Open, Opening, Stream};
pub use map::{DockMap, WeatherMap};

use super::dock::DockConfig;
use super::weather::WeatherConfig;

/// What is wrong between the two tables: one serial port has one speed.
pub fn quarrel(dock: &DockConfig, weather: &WeatherConfig) -> Option<MapFault> {
    let dock = Address::parse(&dock.modbus.as_ref()?.url).ok()?;
    let weather = Address::parse(&weather.modbus.as_ref()?.url).ok()?;
    dock.quarrels_with(&weather).then(|| MapFault {
        key: "weather.modbus.url".to_owned(),
        fault: format!("{weather} and dock.modbus.url = {dock} are one port with two settings; write the same in both"),
    })
}
