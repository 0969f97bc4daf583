//! Pure: from the words of registers to a number or a yes or no.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::map::{Contact, Quantity};

/// How a number lies in its registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    #[default]
    U16,
    I16,
    U32,
    I32,
    F32,
}

impl Type {
    /// How many registers.
    pub fn words(self) -> u16 {
        match self {
            Type::U16 | Type::I16 => 1,
            Type::U32 | Type::I32 | Type::F32 => 2,
        }
    }
}

/// Which half comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    #[default]
    HighFirst,
    LowFirst,
}

/// What a number is measured in, before it becomes what aerie counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Unit {
    #[serde(rename = "m/s")]
    MetresPerSecond,
    #[serde(rename = "km/h")]
    KilometresPerHour,
    #[serde(rename = "kn")]
    Knots,
    #[serde(rename = "mph")]
    MilesPerHour,
    #[serde(rename = "degC")]
    Celsius,
    #[serde(rename = "degF")]
    Fahrenheit,
    #[serde(rename = "K")]
    Kelvin,
    #[serde(rename = "mm/h")]
    MillimetresPerHour,
    #[serde(rename = "mm/min")]
    MillimetresPerMinute,
    #[serde(rename = "m")]
    Metres,
    #[serde(rename = "km")]
    Kilometres,
}

/// What aerie counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// m/s
    Speed,
    /// °C
    Temperature,
    /// mm/h
    Rain,
    /// m
    Length,
}

impl Unit {
    pub fn measure(self) -> Measure {
        match self {
            Unit::MetresPerSecond | Unit::KilometresPerHour | Unit::Knots | Unit::MilesPerHour => Measure::Speed,
            Unit::Celsius | Unit::Fahrenheit | Unit::Kelvin => Measure::Temperature,
            Unit::MillimetresPerHour | Unit::MillimetresPerMinute => Measure::Rain,
            Unit::Metres | Unit::Kilometres => Measure::Length,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Unit::MetresPerSecond => "m/s",
            Unit::KilometresPerHour => "km/h",
            Unit::Knots => "kn",
            Unit::MilesPerHour => "mph",
            Unit::Celsius => "degC",
            Unit::Fahrenheit => "degF",
            Unit::Kelvin => "K",
            Unit::MillimetresPerHour => "mm/h",
            Unit::MillimetresPerMinute => "mm/min",
            Unit::Metres => "m",
            Unit::Kilometres => "km",
        }
    }

    fn to_own(self, value: f64) -> f64 {
        match self {
            Unit::MetresPerSecond | Unit::Celsius | Unit::MillimetresPerHour | Unit::Metres => value,
            Unit::KilometresPerHour => value / 3.6,
            Unit::Knots => value * 1852.0 / 3600.0,
            Unit::MilesPerHour => value * 0.44704,
            Unit::Fahrenheit => (value - 32.0) / 1.8,
            Unit::Kelvin => value - 273.15,
            Unit::MillimetresPerMinute => value * 60.0,
            Unit::Kilometres => value * 1000.0,
        }
    }
}

impl Measure {
    /// The units that may be written for it, its own first.
    pub fn units(self) -> &'static str {
        match self {
            Measure::Speed => "\"m/s\", \"km/h\", \"kn\" or \"mph\"",
            Measure::Temperature => "\"degC\", \"degF\" or \"K\"",
            Measure::Rain => "\"mm/h\" or \"mm/min\"",
            Measure::Length => "\"m\" or \"km\"",
        }
    }
}

/// Why registers that were read give no number.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Doubt {
    #[error("the registers hold no finite number")]
    NotANumber,
    #[error("{value} is outside its plausible range {low} to {high}")]
    Implausible { value: f64, low: f64, high: f64 },
    #[error("{wanted} registers were expected, {got} came")]
    Short { wanted: u16, got: usize },
}

/// The number in aerie's own unit, when it can be true.
pub fn number(quantity: &Quantity, words: &[u16]) -> Result<f64, Doubt> {
    let in_order = |word: &u16| match quantity.byte_order {
        Order::HighFirst => *word,
        Order::LowFirst => word.swap_bytes(),
    };
    let wanted = quantity.kind.words();
    let short = Doubt::Short { wanted, got: words.len() };
    let raw = if wanted == 1 {
        let [word] = words else { return Err(short) };
        let word = in_order(word);
        match quantity.kind {
            Type::I16 => f64::from(word.cast_signed()),
            _ => f64::from(word),
        }
    } else {
        let [first, second] = words else { return Err(short) };
        let (high, low) = match quantity.word_order {
            Order::HighFirst => (in_order(first), in_order(second)),
            Order::LowFirst => (in_order(second), in_order(first)),
        };
        let both = u32::from(high) << 16 | u32::from(low);
        match quantity.kind {
            Type::I32 => f64::from(both.cast_signed()),
            Type::F32 => f64::from(f32::from_bits(both)),
            _ => f64::from(both),
        }
    };
    let value = raw * quantity.scale + quantity.offset;
    if !value.is_finite() {
        return Err(Doubt::NotANumber);
    }
    if let Some([low, high]) = quantity.range
        && !(low..=high).contains(&value)
    {
        return Err(Doubt::Implausible { value, low, high });
    }
    Ok(quantity.unit.map_or(value, |unit| unit.to_own(value)))
}

/// Yes or no, from a single coil or input (0 or 1) or out of a register.
pub fn contact(contact: &Contact, word: u16) -> bool {
    let on = match (contact.bit, contact.equals) {
        (Some(bit), _) => word.checked_shr(u32::from(bit)).unwrap_or(0) & 1 == 1,
        (None, Some(wanted)) => word == wanted,
        (None, None) => word != 0,
    };
    on != contact.inverted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vehicle::modbus::map::{Registers, Table};

    fn quantity(kind: Type) -> Quantity {
        Quantity { kind, ..Quantity::at(Registers::InputRegister, 0) }
    }

    #[test]
    fn every_type_and_order_gives_the_number_that_was_meant() {
        use Order::{HighFirst, LowFirst};
        // 12.5 as f32 is 0x41480000; 0x00012345 = 74565; −2 in two registers is 0xFFFFFFFE.
        for (kind, word_order, byte_order, words, wanted) in [
            (Type::U16, HighFirst, HighFirst, &[0xFFFE][..], 65534.0),
            (Type::I16, HighFirst, HighFirst, &[0xFFFE], -2.0),
            (Type::I16, HighFirst, LowFirst, &[0xFEFF], -2.0),
            (Type::U32, HighFirst, HighFirst, &[0x0001, 0x2345], 74565.0),
            (Type::U32, LowFirst, HighFirst, &[0x2345, 0x0001], 74565.0),
            (Type::U32, HighFirst, LowFirst, &[0x0100, 0x4523], 74565.0),
            (Type::U32, LowFirst, LowFirst, &[0x4523, 0x0100], 74565.0),
            (Type::I32, LowFirst, HighFirst, &[0xFFFE, 0xFFFF], -2.0),
            (Type::F32, HighFirst, HighFirst, &[0x4148, 0x0000], 12.5),
            (Type::F32, LowFirst, HighFirst, &[0x0000, 0x4148], 12.5),
            (Type::F32, LowFirst, LowFirst, &[0x0000, 0x4841], 12.5),
        ] {
            let quantity = Quantity { word_order, byte_order, ..quantity(kind) };
            assert_eq!(number(&quantity, words), Ok(wanted), "{kind:?} {word_order:?} {byte_order:?}");
        }
    }

    #[test]
    fn scale_offset_and_unit_come_in_that_order() {
        let fahrenheit = Quantity { scale: 0.1, offset: -40.0, unit: Some(Unit::Fahrenheit), ..quantity(Type::U16) };
        // 1170 * 0.1 − 40 = 77 °F = 25 °C
        assert!((number(&fahrenheit, &[1170]).unwrap() - 25.0).abs() < 1e-9);
        for (unit, raw, wanted) in [
            (Unit::KilometresPerHour, 36, 10.0),
            (Unit::Knots, 36, 18.52),
            (Unit::MilesPerHour, 100, 44.704),
            (Unit::Kelvin, 300, 26.85),
            (Unit::MillimetresPerMinute, 2, 120.0),
            (Unit::Kilometres, 7, 7000.0),
        ] {
            let value = number(&Quantity { unit: Some(unit), ..quantity(Type::U16) }, &[raw]).unwrap();
            assert!((value - wanted).abs() < 1e-9, "{unit:?}: {value}");
        }
    }

    #[test]
    fn what_is_no_number_or_cannot_be_true_is_unknown() {
        let nan = f32::NAN.to_bits();
        let words = [(nan >> 16) as u16, nan as u16];
        assert_eq!(number(&quantity(Type::F32), &words), Err(Doubt::NotANumber));
        assert_eq!(number(&quantity(Type::F32), &[0x7F80, 0]), Err(Doubt::NotANumber));
        assert_eq!(number(&quantity(Type::F32), &[0x7F80]), Err(Doubt::Short { wanted: 2, got: 1 }));
        let wind = Quantity { scale: 0.1, range: Some([0.0, 60.0]), ..quantity(Type::U16) };
        assert_eq!(number(&wind, &[600]), Ok(60.0));
        assert!(matches!(number(&wind, &[0xFFFF]), Err(Doubt::Implausible { .. })));
    }

    #[test]
    fn a_contact_is_read_from_a_coil_a_bit_or_a_code() {
        let plain = Contact::at(Table::DiscreteInput, 0);
        assert!(contact(&plain, 1) && !contact(&plain, 0));
        // A broken wire of a normally closed contact reads as pressed.
        let closed_circuit = Contact { inverted: true, ..plain.clone() };
        assert!(contact(&closed_circuit, 0) && !contact(&closed_circuit, 1));
        let bit = Contact { bit: Some(15), ..Contact::at(Table::InputRegister, 0) };
        assert!(contact(&bit, 0x8000) && !contact(&bit, 0x7FFF));
        let code = Contact { equals: Some(3), ..Contact::at(Table::HoldingRegister, 0) };
        assert!(contact(&code, 3) && !contact(&code, 7));
    }

    proptest! {
        #[test]
        fn no_words_whatever_give_a_number_outside_the_range(
            words in proptest::collection::vec(any::<u16>(), 0..4), low in -1e3..0.0f64, high in 0.0..1e3f64,
        ) {
            for kind in [Type::U16, Type::I16, Type::U32, Type::I32, Type::F32] {
                let quantity = Quantity { range: Some([low, high]), scale: 0.01, ..quantity(kind) };
                if let Ok(value) = number(&quantity, &words) {
                    prop_assert!((low..=high).contains(&value));
                }
            }
        }
    }
}
