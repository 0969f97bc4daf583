//! A simulated PLC: the controller of a dock with a weather mast, as integrators build them. It speaks Modbus TCP on a
//! socket and RTU over any stream of bytes, and it can be made to misbehave the way real ones do.
//!
//! It shares no code with the station's side of the protocol: what both understand is what the standard says.
//! Its registers ([`layout`]) and the map that fits them ([`MAP`]) stand in `docs/protocol/modbus.md`.

mod memory;
mod wire;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::memory::{Drive, Memory, Presence};
use self::wire::{Question, read_question, wrap};
use super::drone::Truth;
use crate::vehicle::modbus::address::{Address, Framing};
use crate::vehicle::modbus::{Open, Opening, Stream};

/// `[dock.modbus]` and `[weather.modbus]` for this PLC, at `tcp:10.0.0.5:502`.
pub const MAP: &str = include_str!("map.toml");

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
    /// At once, and again after so long, when nobody asks: a repeater that echoes.
    Twice(Duration),
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
                Reply::Later { now, after, bytes } => {
                    if now {
                        send(&writer, &bytes).await?;
                    }
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
            Some(Fault::Late(after)) => Reply::Later { now: false, after, bytes },
            Some(Fault::Twice(after)) => Reply::Later { now: true, after, bytes },
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
    Later { now: bool, after: Duration, bytes: Vec<u8> },
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
