//! Pure: one question, how it is put, and what answers it.

use std::fmt;

use tokio_modbus::{Request, Response};

use super::map::{Outputs, Place, Table};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Ask {
    Read(Place),
    Write(Write),
}

/// One write, wholly decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    pub unit: u8,
    pub table: Outputs,
    pub address: u16,
    pub value: u16,
    /// With the function for several coils or registers.
    pub several: bool,
}

impl Write {
    /// Whether both go to the same output.
    pub fn is_beside(&self, other: &Write) -> bool {
        (self.unit, self.table, self.address) == (other.unit, other.table, other.address)
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, name) = match self {
            Ask::Read(place) => match place.table {
                Table::Coil => (1, "read coils"),
                Table::DiscreteInput => (2, "read discrete inputs"),
                Table::HoldingRegister => (3, "read holding registers"),
                Table::InputRegister => (4, "read input registers"),
            },
            Ask::Write(write) => match (write.table, write.several) {
                (Outputs::Coil, false) => (5, "write coil"),
                (Outputs::HoldingRegister, false) => (6, "write register"),
                (Outputs::Coil, true) => (15, "write coils"),
                (Outputs::HoldingRegister, true) => (16, "write registers"),
            },
        };
        match self {
            Ask::Read(Place { unit, address, count: 1, .. }) => {
                write!(f, "unit {unit}, function {number} ({name}), address {address}")
            }
            Ask::Read(Place { unit, address, count, .. }) => {
                let last = u32::from(*address) + u32::from(*count) - 1;
                write!(f, "unit {unit}, function {number} ({name}), addresses {address} to {last}")
            }
            Ask::Write(Write { unit, address, value, .. }) => {
                write!(f, "unit {unit}, function {number} ({name}), address {address}, value {value}")
            }
        }
    }
}

impl Ask {
    pub(super) fn unit(&self) -> u8 {
        match self {
            Ask::Read(place) => place.unit,
            Ask::Write(write) => write.unit,
        }
    }

    pub(super) fn request(&self) -> Request<'static> {
        match *self {
            Ask::Read(Place { table, address, count, .. }) => match table {
                Table::Coil => Request::ReadCoils(address, count),
                Table::DiscreteInput => Request::ReadDiscreteInputs(address, count),
                Table::HoldingRegister => Request::ReadHoldingRegisters(address, count),
                Table::InputRegister => Request::ReadInputRegisters(address, count),
            },
            Ask::Write(Write { table, address, value, several, .. }) => match (table, several) {
                (Outputs::Coil, false) => Request::WriteSingleCoil(address, value != 0),
                (Outputs::HoldingRegister, false) => Request::WriteSingleRegister(address, value),
                (Outputs::Coil, true) => Request::WriteMultipleCoils(address, vec![value != 0].into()),
                (Outputs::HoldingRegister, true) => Request::WriteMultipleRegisters(address, vec![value].into()),
            },
        }
    }

    /// The words of the answer, when it is the answer to this. The library's own reading functions take the device's word
    /// for its length.
    pub(super) fn answered_by(&self, response: Response) -> Result<Vec<u16>, String> {
        let counted = |wanted: usize, got: usize| {
            if wanted == got { Ok(()) } else { Err(format!("{wanted} values were asked for, {got} came")) }
        };
        match (*self, response) {
            (Ask::Read(place), Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits))
                if place.table.is_bits() =>
            {
                // Bits come in whole bytes.
                let count = usize::from(place.count);
                counted(count.div_ceil(8) * 8, bits.len())?;
                Ok(bits.into_iter().take(count).map(u16::from).collect())
            }
            (Ask::Read(place), Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words))
                if !place.table.is_bits() =>
            {
                counted(usize::from(place.count), words.len())?;
                Ok(words)
            }
            (Ask::Write(write), Response::WriteSingleCoil(address, on)) => {
                echoed(&write, address, u16::from(on), u16::from(write.value != 0))
            }
            (Ask::Write(write), Response::WriteSingleRegister(address, value)) => {
                echoed(&write, address, value, write.value)
            }
            (
                Ask::Write(write),
                Response::WriteMultipleCoils(address, count) | Response::WriteMultipleRegisters(address, count),
            ) => echoed(&write, address, count, 1),
            (_, other) => Err(format!("it answers something else: {other:?}")),
        }
    }
}

fn echoed(write: &Write, address: u16, got: u16, wanted: u16) -> Result<Vec<u16>, String> {
    if (address, got) == (write.address, wanted) {
        Ok(Vec::new())
    } else {
        Err(format!("it confirms {got} at address {address}"))
    }
}
