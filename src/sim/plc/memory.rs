//! What is inside the PLC: its tables, its program, the motor.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Fault, MastWeather, On, Written, layout};
use crate::sim::drone::Truth;

pub(super) struct Memory {
    pub coils: [bool; layout::SIZE as usize],
    pub holding: [u16; layout::SIZE as usize],
    pub input: [u16; layout::SIZE as usize],
    pub drive: Drive,
    pub present: Presence,
    pub emergency: bool,
    pub automatic: bool,
    pub both_switches: bool,
    pub heart_stopped: Option<u16>,
    pub began: Instant,
    pub hold_to_run: bool,
    pub weather: MastWeather,
    pub faults: VecDeque<(On, Fault)>,
    pub written: Vec<Written>,
}

pub(super) enum Presence {
    Set(bool),
    Follows(watch::Receiver<Truth>),
}

/// The exception's code.
pub(super) type Refusal = u8;
const NO_FUNCTION: Refusal = 1;
const NO_ADDRESS: Refusal = 2;
const NO_VALUE: Refusal = 3;

impl Memory {
    /// Does what a question says, and says what is answered.
    pub fn obey(&mut self, pdu: &[u8]) -> Result<Vec<u8>, Refusal> {
        let [function, rest @ ..] = pdu else { return Err(NO_FUNCTION) };
        let word = |at: usize| match rest.get(at..at + 2) {
            Some([high, low]) => Ok(u16::from_be_bytes([*high, *low])),
            _ => Err(NO_VALUE),
        };
        let (address, second) = (word(0)?, word(2)?);
        match function {
            1 | 2 => {
                let bits: Vec<bool> = match function {
                    1 => self.coils.to_vec(),
                    _ => self.discrete().to_vec(),
                };
                let bits = part(&bits, address, second)?;
                let mut bytes = vec![0; bits.len().div_ceil(8)];
                for (index, _) in bits.iter().enumerate().filter(|(_, on)| **on) {
                    bytes[index / 8] |= 1 << (index % 8);
                }
                Ok([vec![*function, bytes.len() as u8], bytes].concat())
            }
            3 | 4 => {
                self.measure();
                let words = part(if *function == 3 { &self.holding } else { &self.input }, address, second)?;
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
                Ok([vec![*function, bytes.len() as u8], bytes].concat())
            }
            5 => {
                self.set_coil(address, second == 0xFF00)?;
                Ok(pdu.to_vec())
            }
            6 => {
                self.set_holding(address, second)?;
                Ok(pdu.to_vec())
            }
            15 => {
                for index in 0..second {
                    let byte = rest.get(5 + usize::from(index / 8)).ok_or(NO_VALUE)?;
                    self.set_coil(address.checked_add(index).ok_or(NO_ADDRESS)?, byte >> (index % 8) & 1 == 1)?;
                }
                Ok(pdu[..5].to_vec())
            }
            16 => {
                for index in 0..second {
                    let value = word(5 + 2 * usize::from(index))?;
                    self.set_holding(address.checked_add(index).ok_or(NO_ADDRESS)?, value)?;
                }
                Ok(pdu[..5].to_vec())
            }
            _ => Err(NO_FUNCTION),
        }
    }

    fn set_coil(&mut self, address: u16, on: bool) -> Result<(), Refusal> {
        let coil = self.coils.get_mut(usize::from(address)).ok_or(NO_ADDRESS)?;
        let was = std::mem::replace(coil, on);
        self.written.push(Written::Coil { address, on });
        match (address, was, on) {
            (layout::DO_OPEN, false, true) => self.drive(true),
            (layout::DO_CLOSE, false, true) => self.drive(false),
            (layout::DO_STOP, _, true) => self.drive.stop(),
            (layout::DO_OPEN | layout::DO_CLOSE, true, false) if self.hold_to_run => self.drive.stop(),
            _ => {}
        }
        Ok(())
    }

    fn set_holding(&mut self, address: u16, value: u16) -> Result<(), Refusal> {
        *self.holding.get_mut(usize::from(address)).ok_or(NO_ADDRESS)? = value;
        self.written.push(Written::Register { address, value });
        match (address, value) {
            (layout::COMMAND_WORD, 1) => self.drive(true),
            (layout::COMMAND_WORD, 2) => self.drive(false),
            (layout::COMMAND_WORD, 4) => self.drive.stop(),
            _ => {}
        }
        Ok(())
    }

    fn drive(&mut self, opening: bool) {
        if !self.emergency {
            self.drive.go(opening);
        }
    }

    fn is_present(&self) -> bool {
        match &self.present {
            Presence::Set(present) => *present,
            Presence::Follows(drone) => drone.borrow().in_dock,
        }
    }

    fn discrete(&self) -> [bool; layout::SIZE as usize] {
        let mut bits = [false; layout::SIZE as usize];
        let position = self.drive.position();
        bits[usize::from(layout::CLOSED)] = self.both_switches || position <= 0.0;
        bits[usize::from(layout::OPEN)] = self.both_switches || position >= 1.0;
        bits[usize::from(layout::DRONE_PRESENT)] = self.is_present();
        bits[usize::from(layout::SAFETY_CIRCUIT)] = !self.emergency;
        bits[usize::from(layout::AUTOMATIC)] = self.automatic;
        bits
    }

    pub fn heartbeat(&self) -> u16 {
        self.heart_stopped.unwrap_or((self.began.elapsed().as_millis() / 500) as u16)
    }

    /// Brings the input registers up to date.
    fn measure(&mut self) {
        let MastWeather { wind_m_s, gust_m_s, temperature_c, rain_mm_h, visibility_m } = self.weather;
        let rain = (rain_mm_h * 100.0).round() as u32;
        let visibility = (visibility_m as f32).to_bits();
        let bits = self.discrete();
        let flag = |address: u16, bit: u16| u16::from(bits[usize::from(address)]) << bit;
        let status = flag(layout::CLOSED, 0)
            | flag(layout::OPEN, 1)
            | flag(layout::DRONE_PRESENT, 2)
            | u16::from(self.emergency) << 3;
        for (address, word) in [
            (layout::WIND, (wind_m_s * 10.0).round() as u16),
            (layout::GUST, (gust_m_s * 10.0).round() as u16),
            (layout::TEMPERATURE, ((temperature_c * 10.0).round() as i16).cast_unsigned()),
            (layout::RAIN, rain as u16),
            (layout::RAIN + 1, (rain >> 16) as u16),
            (layout::VISIBILITY, (visibility >> 16) as u16),
            (layout::VISIBILITY + 1, visibility as u16),
            (layout::HEARTBEAT, self.heartbeat()),
            (layout::STATUS, status),
        ] {
            self.input[usize::from(address)] = word;
        }
    }
}

fn part<T>(all: &[T], address: u16, count: u16) -> Result<&[T], Refusal> {
    if count == 0 || count > 125 {
        return Err(NO_VALUE);
    }
    let from = usize::from(address);
    all.get(from..from + usize::from(count)).ok_or(NO_ADDRESS)
}

/// A motor that drives the hatch between its two ends.
pub(super) struct Drive {
    travel: Duration,
    /// 0 closed, 1 open, where it was at `since`.
    from: f64,
    since: Instant,
    /// Positive opens, 0 stands.
    direction: f64,
    jammed: bool,
}

impl Drive {
    pub fn closed(travel: Duration) -> Drive {
        Drive { travel, from: 0.0, since: Instant::now(), direction: 0.0, jammed: false }
    }

    pub fn position(&self) -> f64 {
        if self.jammed {
            return self.from;
        }
        let way = self.since.elapsed().as_secs_f64() / self.travel.as_secs_f64().max(1e-6);
        (self.from + way * self.direction).clamp(0.0, 1.0)
    }

    pub fn is_moving(&self) -> bool {
        self.direction != 0.0 && (0.0..=1.0).contains(&(self.position() + self.direction * 1e-9))
    }

    fn turn(&mut self, direction: f64) {
        self.from = self.position();
        self.since = Instant::now();
        self.direction = direction;
    }

    fn go(&mut self, opening: bool) {
        self.turn(if opening { 1.0 } else { -1.0 });
    }

    pub fn stop(&mut self) {
        self.turn(0.0);
    }

    pub fn jam(&mut self, jammed: bool) {
        self.turn(self.direction);
        self.jammed = jammed;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hatch_that_is_stopped_or_jammed_stays_where_it_is() {
        let mut drive = Drive::closed(Duration::from_secs(10));
        drive.go(true);
        sleep(Duration::from_secs(4)).await;
        drive.stop();
        sleep(Duration::from_secs(4)).await;
        assert!((drive.position() - 0.4).abs() < 0.01 && !drive.is_moving());
        drive.go(true);
        drive.jam(true);
        sleep(Duration::from_secs(20)).await;
        assert!((drive.position() - 0.4).abs() < 0.01);
    }
}
