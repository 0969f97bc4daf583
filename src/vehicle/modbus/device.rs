//! Reads the places of a map through a line, and says what is known of each, and since when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::line::{Line, LineError, Write};
use super::map::{Alive, Command, Contact, Place, Quantity};
use super::value::{self, Doubt};

/// Most that one question may ask for, by the standard.
const MOST_BITS: u32 = 2000;
const MOST_WORDS: u32 = 125;

/// What is known of a device, or of several on one line.
pub struct Device {
    line: Line,
    unit: u8,
    limit: Duration,
    stale: Duration,
    blocks: Vec<Block>,
    held: BTreeMap<Place, Held>,
    alive: Option<Heart>,
}

/// Neighbours that are asked for together.
#[derive(Debug, Clone, PartialEq)]
struct Block {
    whole: Place,
    parts: Vec<Place>,
}

#[derive(Debug, Clone)]
struct Held {
    words: Vec<u16>,
    /// When it was asked for: it may be that old.
    at: Instant,
}

/// A counter that shows that the device's program runs.
#[derive(Debug)]
struct Heart {
    place: Place,
    last: Option<u16>,
    /// Unknown until it was seen to beat once.
    beat: Option<Instant>,
}

/// Why a signal is unknown.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Unknown {
    #[error("it could not be read")]
    Missing,
    #[error("the device's program stands still: its alive signal does not change any more")]
    Frozen,
    #[error("it is not believed before the device's alive signal was seen to change")]
    Unproven,
    #[error(transparent)]
    Doubtful(#[from] Doubt),
}

/// A value and when it was asked for.
pub type Known<T> = Result<(T, Instant), Unknown>;

impl Device {
    /// A device on `line`; `places` are read, and of no other is anything known.
    pub fn new(
        line: Line,
        unit: u8,
        limit: Duration,
        stale: Duration,
        places: impl IntoIterator<Item = Place>,
        alive: Option<&Alive>,
    ) -> Device {
        let alive = alive.map(|alive| Heart { place: alive.place(unit), last: None, beat: None });
        let places = places.into_iter().chain(alive.as_ref().map(|heart| heart.place)).collect();
        Device { line, unit, limit, stale, blocks: blocks(places), held: BTreeMap::new(), alive }
    }

    /// Reads everything once. The first trouble is returned; what could be read is held all the same.
    pub async fn poll(&mut self) -> Result<(), LineError> {
        let mut trouble = None;
        let mut silent = BTreeSet::new();
        let mut next = 0;
        while let Some(Block { whole, parts }) = self.blocks.get(next).cloned() {
            next += 1;
            // One silent unit must not cost its neighbours a time-out for each of its blocks.
            if silent.contains(&whole.unit) {
                continue;
            }
            let at = Instant::now();
            let error = match self.line.read(whole, self.limit).await {
                Ok(words) => {
                    for part in parts {
                        let from = usize::from(part.address - whole.address);
                        let words = words.get(from..from + usize::from(part.count)).unwrap_or_default().to_vec();
                        self.held.insert(part, Held { words, at });
                    }
                    continue;
                }
                Err(error) => error,
            };
            match &error {
                LineError::Exception { code, .. } if !not_now(*code) => {
                    // The device is there and has no such value: what it said before is no help.
                    for part in &parts {
                        self.held.remove(part);
                    }
                    if parts.len() > 1 {
                        // One address that does not exist must not take its neighbours with it: from now on each is
                        // asked for alone.
                        next -= 1;
                        let alone = parts.iter().map(|part| Block { whole: *part, parts: vec![*part] });
                        self.blocks.splice(next..=next, alone);
                        continue;
                    }
                }
                LineError::Exception { .. } => {}
                LineError::Timeout { .. } | LineError::Mangled { .. } | LineError::Silent { .. } => {
                    silent.insert(whole.unit);
                }
                // The line itself is down.
                _ => {
                    trouble.get_or_insert(error);
                    break;
                }
            }
            trouble.get_or_insert(error);
        }
        self.feel();
        trouble.map_or(Ok(()), Err)
    }

    fn feel(&mut self) {
        let Some(heart) = &mut self.alive else { return };
        let Some(held) = self.held.get(&heart.place) else { return };
        let now = held.words.first().copied();
        if heart.last.is_some() && now.is_some() && heart.last != now {
            heart.beat = Some(held.at);
        }
        heart.last = now.or(heart.last);
    }

    pub fn contact(&self, contact: &Contact) -> Known<bool> {
        let (words, at) = self.known(contact.place(self.unit))?;
        let word = *words.first().ok_or(Unknown::Missing)?;
        Ok((value::contact(contact, word), at))
    }

    pub fn number(&self, quantity: &Quantity) -> Known<f64> {
        let (words, at) = self.known(quantity.place(self.unit))?;
        Ok((value::number(quantity, words)?, at))
    }

    fn known(&self, place: Place) -> Known<&[u16]> {
        let fresh = |at: Instant| at.elapsed() <= self.stale;
        if let Some(heart) = &self.alive {
            let beat = heart.beat.ok_or(Unknown::Unproven)?;
            if !fresh(beat) {
                return Err(Unknown::Frozen);
            }
        }
        let held = self.held.get(&place).filter(|held| fresh(held.at)).ok_or(Unknown::Missing)?;
        Ok((&held.words, held.at))
    }

    pub fn stale(&self) -> Duration {
        self.stale
    }

    /// Writes once.
    pub async fn write(&self, write: Write) -> Result<(), LineError> {
        self.line.write(write, self.limit).await
    }

    /// The write that lets the command go, if it has one.
    pub fn release(&self, command: &Command) -> Option<Write> {
        command.release().map(|value| self.output(command, value))
    }

    /// The write that gives a command's output a value.
    pub fn output(&self, command: &Command, value: u16) -> Write {
        Write {
            unit: command.unit_id.unwrap_or(self.unit),
            table: command.table,
            address: command.address,
            value,
            several: matches!(command.function, Some(15 | 16)),
        }
    }
}

/// Exceptions that pass: acknowledged, busy, and a gateway that does not reach the device. The value ages meanwhile.
fn not_now(code: u8) -> bool {
    matches!(code, 5 | 6 | 10 | 11)
}

/// Joins places that touch. Gaps are not read over: a device may refuse what lies in them.
fn blocks(mut places: Vec<Place>) -> Vec<Block> {
    places.sort_unstable();
    places.dedup();
    let mut blocks: Vec<Block> = Vec::new();
    for place in places {
        let most = if place.table.is_bits() { MOST_BITS } else { MOST_WORDS };
        let end = u32::from(place.address) + u32::from(place.count);
        if let Some(block) = blocks.last_mut() {
            let whole = &mut block.whole;
            let whole_end = u32::from(whole.address) + u32::from(whole.count);
            let joined = end.max(whole_end) - u32::from(whole.address);
            if (whole.unit, whole.table) == (place.unit, place.table)
                && u32::from(place.address) <= whole_end
                && joined <= most
            {
                whole.count = u16::try_from(joined).unwrap_or(whole.count);
                block.parts.push(place);
                continue;
            }
        }
        blocks.push(Block { whole: place, parts: vec![place] });
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vehicle::modbus::map::Table;

    #[test]
    fn neighbours_are_asked_for_together_and_gaps_are_not_read_over() {
        let at = |table, address, count| Place { unit: 1, table, address, count };
        let words = Table::InputRegister;
        let found = blocks(vec![
            at(words, 2, 2),
            at(words, 0, 1),
            at(words, 1, 1),
            // The same register for two bits.
            at(words, 1, 1),
            at(words, 5, 1),
            at(Table::DiscreteInput, 6, 1),
            Place { unit: 2, ..at(words, 4, 1) },
        ]);
        let wholes: Vec<Place> = found.iter().map(|block| block.whole).collect();
        assert_eq!(
            wholes,
            [at(Table::DiscreteInput, 6, 1), at(words, 0, 4), at(words, 5, 1), Place { unit: 2, ..at(words, 4, 1) }]
        );
        assert_eq!(found[1].parts, [at(words, 0, 1), at(words, 1, 1), at(words, 2, 2)]);
    }

    #[test]
    fn no_question_asks_for_more_than_the_standard_allows() {
        let places = (0..300).map(|address| Place { unit: 1, table: Table::HoldingRegister, address, count: 1 });
        let counts: Vec<u16> = blocks(places.collect()).iter().map(|block| block.whole.count).collect();
        assert_eq!(counts, [125, 125, 50]);
    }
}
