//! A simulated PLC: the controller of a dock with a weather mast, as integrators build them. It speaks Modbus TCP on a
//! socket and RTU over any stream of bytes, and it can be made to misbehave the way real ones do.
//!
//! It shares no code with the station's side of the protocol: what both understand is what the standard says.
//! Its registers ([`layout`]) and the map that fits them ([`MAP`]) stand in `docs/protocol/modbus.md`.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::drone::Truth;
use crate::vehicle::modbus::address::{Address, Framing};
use crate::vehicle::modbus::{Open, Opening, Stream};

/// `[dock.modbus]` and `[weather.modbus]` for this PLC, at `tcp:10.0.0.5:502`.
pub const MAP: &str = include_str!("plc.toml");

/// Where everything lies. Addresses count from 0.
pub mod layout {
    /// Discrete inputs.
    pub const CLOSED: u16 = 0;
    pub const OPEN: u16 = 1;
    pub const DRONE_PRESENT: u16 = 2;
    /// The emergency stop's circuit, normally closed: 0 when pressed or broken.
    pub const SAFETY_CIRCUIT: u16 = 3;
    /// The key switch stands on "automatic".
    pub const AUTOMATIC: u16 = 4;
    /// Coils; a movement begins when one goes on.
    pub const DO_OPEN: u16 = 0;
    pub const DO_CLOSE: u16 = 1;
    pub const DO_STOP: u16 = 2;
    /// Holding register: 1 opens, 2 closes, 4 stops.
    pub const COMMAND_WORD: u16 = 0;
    /// Input registers: 0.1 m/s.
    pub const WIND: u16 = 0;
    pub const GUST: u16 = 1;
    /// Signed, 0.1 °C.
    pub const TEMPERATURE: u16 = 2;
    /// Two registers, unsigned, low word first, 0.01 mm/h.
    pub const RAIN: u16 = 3;
    /// Two registers, floating point, high word first, metres.
    pub const VISIBILITY: u16 = 5;
    /// Counts up twice a second.
    pub const HEARTBEAT: u16 = 7;
    /// Bits 0 closed, 1 open, 2 drone present, 3 emergency stop pressed.
    pub const STATUS: u16 = 8;
    /// How many there are of each kind.
    pub const SIZE: u16 = 64;
}

/// What the mast measures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MastWeather {
    pub wind_m_s: f64,
    pub gust_m_s: f64,
    pub temperature_c: f64,
    pub rain_mm_h: f64,
    pub visibility_m: f64,
}

/// A quiet day.
impl Default for MastWeather {
    fn default() -> MastWeather {
        MastWeather { wind_m_s: 3.0, gust_m_s: 4.5, temperature_c: 24.5, rain_mm_h: 0.0, visibility_m: 9000.0 }
    }
}

/// What can go wrong with an answer. The question is obeyed all the same, but for `Exception`.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// No answer.
    Silent,
    /// After so long.
    Late(Duration),
    /// These bytes in its place.
    Garbage(Vec<u8>),
    /// Only its first bytes.
    Truncated(usize),
    /// One value less than was asked for, in a well-formed answer.
    Short,
    /// With another transaction's id; on RTU, which has none, another unit's.
    Misaddressed,
    /// This exception, and nothing done.
    Exception(u8),
    /// The connection is closed instead.
    HangUp,
}

/// Which questions a fault befalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    Reads,
    Writes,
    Any,
}

/// One write that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Coil { address: u16, on: bool },
    Register { address: u16, value: u16 },
}

/// A running PLC: cheap to clone. It works whether or not anybody is connected.
#[derive(Clone)]
pub struct Plc {
    memory: Arc<Mutex<Memory>>,
    reachable: Arc<watch::Sender<bool>>,
    units: Arc<[u8]>,
}

impl Plc {
    /// `travel`: from end to end. Answers to `units`, all with the same registers.
    pub fn new(travel: Duration, units: &[u8]) -> Plc {
        let memory = Memory {
            coils: [false; layout::SIZE as usize],
            holding: [0; layout::SIZE as usize],
            input: [0; layout::SIZE as usize],
            drive: Drive::closed(travel),
            present: Presence::Set(true),
            emergency: false,
            automatic: true,
            both_switches: false,
            heart_stopped: None,
            began: Instant::now(),
            hold_to_run: false,
            weather: MastWeather::default(),
            faults: VecDeque::new(),
            written: Vec::new(),
        };
        let (reachable, _) = watch::channel(true);
        Plc { memory: Arc::new(Mutex::new(memory)), reachable: Arc::new(reachable), units: units.into() }
    }

    /// The presence switch follows a simulated drone.
    pub fn follow(&self, drone: watch::Receiver<Truth>) {
        self.lock().present = Presence::Follows(drone);
    }

    pub fn set_present(&self, present: bool) {
        self.lock().present = Presence::Set(present);
    }

    pub fn set_weather(&self, weather: MastWeather) {
        self.lock().weather = weather;
    }

    /// Any input register that the PLC itself does not use.
    pub fn set_input(&self, address: u16, words: &[u16]) {
        let mut memory = self.lock();
        for (register, word) in memory.input.iter_mut().skip(usize::from(address)).zip(words) {
            *register = *word;
        }
    }

    /// Cuts the motor; a movement does not go on by itself when it is released.
    pub fn press_emergency_stop(&self, pressed: bool) {
        let mut memory = self.lock();
        memory.emergency = pressed;
        if pressed {
            memory.drive.stop();
        }
    }

    pub fn set_automatic(&self, automatic: bool) {
        self.lock().automatic = automatic;
    }

    /// Blocks the hatch where it is.
    pub fn jam(&self, jammed: bool) {
        self.lock().drive.jam(jammed);
    }

    /// A wiring fault: both limit switches on.
    pub fn cross_switches(&self, crossed: bool) {
        self.lock().both_switches = crossed;
    }

    /// The program stops, the network interface goes on answering.
    pub fn freeze(&self) {
        let mut memory = self.lock();
        let count = memory.heartbeat();
        memory.heart_stopped = Some(count);
    }

    /// The motor runs only while a coil is on.
    pub fn hold_to_run(&self) {
        self.lock().hold_to_run = true;
    }

    /// The next `times` answers of a kind go wrong.
    pub fn misbehave(&self, fault: Fault, on: On, times: usize) {
        self.lock().faults.extend(std::iter::repeat_n((on, fault), times));
    }

    pub fn behave(&self) {
        self.lock().faults.clear();
    }

    /// Pulls the network cable (connections break and none is made) or silences the serial line.
    pub fn reach(&self, reachable: bool) {
        self.reachable.send_replace(reachable);
    }

    /// Every write that arrived, in order.
    pub fn written(&self) -> Vec<Written> {
        self.lock().written.clone()
    }

    /// 0 closed, 1 open.
    pub fn position(&self) -> f64 {
        self.lock().drive.position()
    }

    pub fn is_moving(&self) -> bool {
        self.lock().drive.is_moving()
    }

    /// Serves Modbus TCP until `cancel`; port 0 takes any.
    pub async fn listen(&self, at: SocketAddr, cancel: CancellationToken) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(at).await?;
        let address = listener.local_addr()?;
        let plc = self.clone();
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    () = cancel.cancelled() => return,
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => stream,
                        Err(error) => {
                            tracing::warn!(%error, "the simulated PLC could not take a connection");
                            sleep(Duration::from_millis(100)).await;
                            continue;
                        }
                    },
                };
                let (plc, cancel) = (plc.clone(), cancel.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = cancel.cancelled() => {}
                        _ = plc.serve(stream, Framing::Tcp) => {}
                    }
                });
            }
        });
        Ok(address)
    }

    /// A way to reach it without socket or port, for [`Lines`](crate::vehicle::Lines): bytes in memory.
    pub fn opener(&self) -> impl Open + use<> {
        let plc = self.clone();
        move |address: &Address| -> Opening {
            let (plc, framing) = (plc.clone(), address.framing());
            Box::pin(async move {
                if framing == Framing::Tcp && !*plc.reachable.borrow() {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                let (near, far) = tokio::io::duplex(1024);
                tokio::spawn(async move { plc.serve(far, framing).await });
                Ok(Box::new(near) as Box<dyn Stream>)
            })
        }
    }

    /// Answers on one connection, or one serial line, until it ends.
    pub async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        framing: Framing,
    ) -> io::Result<()> {
        let mut reachable = self.reachable.subscribe();
        let (mut reader, writer) = tokio::io::split(stream);
        // Shared with answers that come late.
        let writer = Arc::new(tokio::sync::Mutex::new(writer));
        loop {
            let question = tokio::select! {
                question = read_question(&mut reader, framing) => Some(question?),
                () = cut(&mut reachable), if framing == Framing::Tcp => None,
            };
            let Some(question) = question else {
                // Said outright: an answer that comes late still holds the stream.
                return writer.lock().await.shutdown().await;
            };
            let Some(question) = question else { continue };
            if !*self.reachable.borrow() || !self.units.contains(&question.unit) {
                continue;
            }
            let answer = self.answer(&question, framing);
            match answer {
                Reply::Now(bytes) => send(&writer, &bytes).await?,
                Reply::Later(after, bytes) => {
                    let writer = Arc::clone(&writer);
                    tokio::spawn(async move {
                        sleep(after).await;
                        // Nobody may be there any more.
                        let _ = send(&writer, &bytes).await;
                    });
                }
                Reply::None => {}
                Reply::HangUp => return writer.lock().await.shutdown().await,
            }
        }
    }

    fn answer(&self, question: &Question, framing: Framing) -> Reply {
        let mut memory = self.lock();
        let is_write = matches!(question.pdu.first(), Some(5 | 6 | 15 | 16));
        let befalls = |on: On| match on {
            On::Any => true,
            On::Reads => !is_write,
            On::Writes => is_write,
        };
        let fault = memory.faults.iter().position(|(on, _)| befalls(*on)).and_then(|index| memory.faults.remove(index));
        let fault = fault.map(|(_, fault)| fault);
        let function = question.pdu.first().copied().unwrap_or(0);
        let mut pdu = match &fault {
            Some(Fault::Exception(code)) => vec![function | 0x80, *code],
            _ => memory.obey(&question.pdu).unwrap_or_else(|code| vec![function | 0x80, code]),
        };
        let (mut transaction, mut unit) = (question.transaction, question.unit);
        match &fault {
            Some(Fault::Short) if pdu.len() > 3 => {
                let cut = if function <= 2 { 1 } else { 2 };
                pdu.truncate(pdu.len() - cut);
                pdu[1] -= cut as u8;
            }
            Some(Fault::Misaddressed) => match framing {
                Framing::Tcp => transaction = transaction.wrapping_sub(1),
                Framing::Rtu => unit = unit.wrapping_add(1),
            },
            _ => {}
        }
        let bytes = wrap(framing, transaction, unit, &pdu);
        match fault {
            Some(Fault::Silent) => Reply::None,
            Some(Fault::HangUp) => Reply::HangUp,
            Some(Fault::Late(after)) => Reply::Later(after, bytes),
            Some(Fault::Garbage(bytes)) => Reply::Now(bytes),
            Some(Fault::Truncated(length)) => Reply::Now(bytes.into_iter().take(length).collect()),
            _ => Reply::Now(bytes),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        // Nothing is left half done under this lock.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Reply {
    Now(Vec<u8>),
    Later(Duration, Vec<u8>),
    None,
    HangUp,
}

/// Returns when the cable is pulled.
async fn cut(reachable: &mut watch::Receiver<bool>) {
    // An error means that the PLC is gone, and its cable with it.
    let _ = reachable.wait_for(|on| !on).await;
}

async fn send<W: AsyncWrite>(writer: &tokio::sync::Mutex<WriteHalf<W>>, bytes: &[u8]) -> io::Result<()> {
    let mut writer = writer.lock().await;
    writer.write_all(bytes).await?;
    writer.flush().await
}

// ---- inside --------------------------------------------------------------------------------------------------------

struct Memory {
    coils: [bool; layout::SIZE as usize],
    holding: [u16; layout::SIZE as usize],
    input: [u16; layout::SIZE as usize],
    drive: Drive,
    present: Presence,
    emergency: bool,
    automatic: bool,
    both_switches: bool,
    heart_stopped: Option<u16>,
    began: Instant,
    hold_to_run: bool,
    weather: MastWeather,
    faults: VecDeque<(On, Fault)>,
    written: Vec<Written>,
}

enum Presence {
    Set(bool),
    Follows(watch::Receiver<Truth>),
}

/// The exception's code.
type Refusal = u8;
const NO_FUNCTION: Refusal = 1;
const NO_ADDRESS: Refusal = 2;
const NO_VALUE: Refusal = 3;

impl Memory {
    /// Does what a question says, and says what is answered.
    fn obey(&mut self, pdu: &[u8]) -> Result<Vec<u8>, Refusal> {
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

    fn heartbeat(&self) -> u16 {
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
struct Drive {
    travel: Duration,
    /// 0 closed, 1 open, where it was at `since`.
    from: f64,
    since: Instant,
    /// Positive opens, 0 stands.
    direction: f64,
    jammed: bool,
}

impl Drive {
    fn closed(travel: Duration) -> Drive {
        Drive { travel, from: 0.0, since: Instant::now(), direction: 0.0, jammed: false }
    }

    fn position(&self) -> f64 {
        if self.jammed {
            return self.from;
        }
        let way = self.since.elapsed().as_secs_f64() / self.travel.as_secs_f64().max(1e-6);
        (self.from + way * self.direction).clamp(0.0, 1.0)
    }

    fn is_moving(&self) -> bool {
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

    fn stop(&mut self) {
        self.turn(0.0);
    }

    fn jam(&mut self, jammed: bool) {
        self.turn(self.direction);
        self.jammed = jammed;
    }
}

// ---- the wire ------------------------------------------------------------------------------------------------------

struct Question {
    transaction: u16,
    unit: u8,
    pdu: Vec<u8>,
}

/// The next question; `None` for bytes that are none.
async fn read_question<R: AsyncRead>(reader: &mut ReadHalf<R>, framing: Framing) -> io::Result<Option<Question>> {
    match framing {
        Framing::Tcp => {
            let mut header = [0; 7];
            reader.read_exact(&mut header).await?;
            let [t0, t1, p0, p1, l0, l1, unit] = header;
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            if (p0, p1) != (0, 0) || !(2..=254).contains(&length) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut pdu = vec![0; length - 1];
            reader.read_exact(&mut pdu).await?;
            Ok(Some(Question { transaction: u16::from_be_bytes([t0, t1]), unit, pdu }))
        }
        Framing::Rtu => {
            let mut bytes = vec![0; 8];
            reader.read_exact(&mut bytes).await?;
            if matches!(bytes[1], 15 | 16) {
                let more = usize::from(bytes[6]) + 1;
                bytes.resize(8 + more, 0);
                reader.read_exact(&mut bytes[8..]).await?;
            }
            let crc = bytes.split_off(bytes.len() - 2);
            if crc != checksum(&bytes).to_le_bytes() {
                // A real one finds the next border by the pause.
                let mut rest = [0; 256];
                while timeout(Duration::from_millis(5), reader.read(&mut rest))
                    .await
                    .is_ok_and(|n| n.is_ok_and(|n| n > 0))
                {}
                return Ok(None);
            }
            let pdu = bytes.split_off(1);
            Ok(Some(Question { transaction: 0, unit: bytes[0], pdu }))
        }
    }
}

fn wrap(framing: Framing, transaction: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
    match framing {
        Framing::Tcp => {
            let length = (pdu.len() as u16 + 1).to_be_bytes();
            [&transaction.to_be_bytes(), &[0, 0], &length[..], &[unit], pdu].concat()
        }
        Framing::Rtu => {
            let bytes = [&[unit], pdu].concat();
            let crc = checksum(&bytes).to_le_bytes();
            [&bytes[..], &crc].concat()
        }
    }
}

/// CRC-16 of Modbus: polynomial 0x8005 reflected, begun with 0xFFFF.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc: u16, _| if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_standards() {
        // The question "unit 1, read 2 holding registers from 0x082B" and an answer, computed elsewhere.
        assert_eq!(checksum(&[0x01, 0x03, 0x08, 0x2B, 0x00, 0x02]).to_le_bytes(), [0xB6, 0x63]);
        assert_eq!(checksum(&[0x01, 0x03, 0x04, 0x00, 0x20, 0x00, 0x00]).to_le_bytes(), [0xFB, 0xF9]);
    }

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
