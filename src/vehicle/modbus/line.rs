//! One line, one voice: the task that owns a socket or a serial port, and asks one question at a time.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_modbus::client::{self, Client};
use tokio_modbus::prelude::SlaveContext;
use tokio_modbus::{ExceptionCode, Request, Response, Slave};

use super::address::{Address, Framing, Parity};
use super::map::{Outputs, Place, Table};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("{line} cannot be opened; check the address, the cable and the device's power")]
    Open {
        line: String,
        #[source]
        source: io::Error,
    },
    #[error("{line} is down ({why}); tried again in {again_in:?}")]
    Down { line: String, why: String, again_in: Duration },
    #[error("{line} broke off during {what}; nothing is sent twice")]
    Lost {
        line: String,
        what: String,
        #[source]
        source: io::Error,
    },
    #[error("{line}: no answer to {what} within {limit:?}; check unit_id, wiring and speed, or raise timeout_s")]
    Timeout { line: String, what: String, limit: Duration },
    #[error("{line}: unit {unit} did not answer {times} times, so others come first; asked again in {again_in:?}")]
    Silent { line: String, unit: u8, times: u32, again_in: Duration },
    #[error("{line}: {what}: exception {code} ({}); {}", meaning(*.code), exception_remedy(*.code))]
    Exception { line: String, what: String, code: u8 },
    #[error("{line}: the answer to {what} makes no sense: {reason}")]
    Mangled { line: String, what: String, reason: String },
    #[error("{line} is never quiet: something sends without being asked; look for a second master or noise")]
    Babble { line: String },
    #[error("{line}: {what} was not sent: who wanted it had given up")]
    GivenUp { line: String, what: String },
    #[error("{line} could not be used: aerie is stopping")]
    Stopping { line: String },
}

impl LineError {
    /// Whether the device may have got the question, and done what it asks.
    pub fn may_have_acted(&self) -> bool {
        match self {
            LineError::Lost { .. } | LineError::Timeout { .. } | LineError::Mangled { .. } => true,
            LineError::Stopping { .. } => true,
            LineError::Open { .. } | LineError::Down { .. } | LineError::Exception { .. } => false,
            LineError::Silent { .. } | LineError::Babble { .. } | LineError::GivenUp { .. } => false,
        }
    }
}

fn meaning(code: u8) -> String {
    match ExceptionCode::new(code) {
        ExceptionCode::Custom(_) => "not in the standard".to_owned(),
        known => known.to_string().to_lowercase(),
    }
}

fn exception_remedy(code: u8) -> &'static str {
    match code {
        1 => "the device does not know this function: compare table and function with its manual",
        2 => "the device has no such address: addresses count from 0, a manual's 40001 is address 0",
        3 => "the device does not take this value: compare value and type with its manual",
        5 | 6 => "the device is busy: ask less often",
        10 | 11 => "the gateway does not reach the device: check unit_id and the line behind it",
        _ => "look the code up in the device's manual",
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ask {
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
    fn unit(&self) -> u8 {
        match self {
            Ask::Read(place) => place.unit,
            Ask::Write(write) => write.unit,
        }
    }

    fn request(&self) -> Request<'static> {
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
    fn answered_by(&self, response: Response) -> Result<Vec<u16>, String> {
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

/// What bytes go through.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub type Opening = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// How a line is opened. The simulator and tests put their own in place of sockets and ports.
pub trait Open: Send + Sync + 'static {
    fn open(&self, address: &Address) -> Opening;
}

impl<F: Fn(&Address) -> Opening + Send + Sync + 'static> Open for F {
    fn open(&self, address: &Address) -> Opening {
        self(address)
    }
}

/// Sockets and serial ports.
fn open_real(address: &Address) -> Opening {
    let address = address.clone();
    Box::pin(async move {
        match address {
            Address::Tcp { host, port } | Address::RtuOverTcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), port)).await?;
                // Questions are small and each waits for its answer.
                stream.set_nodelay(true)?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            }
            Address::Rtu { path, baud, parity, two_stop_bits } => {
                let settings = move |mut settings: serial2_tokio::Settings| {
                    settings.set_raw();
                    settings.set_baud_rate(baud)?;
                    settings.set_parity(match parity {
                        Parity::None => serial2_tokio::Parity::None,
                        Parity::Even => serial2_tokio::Parity::Even,
                        Parity::Odd => serial2_tokio::Parity::Odd,
                    });
                    settings.set_stop_bits(if two_stop_bits {
                        serial2_tokio::StopBits::Two
                    } else {
                        serial2_tokio::StopBits::One
                    });
                    Ok(settings)
                };
                Ok(Box::new(serial2_tokio::SerialPort::open(path, settings)?) as Box<dyn Stream>)
            }
        }
    })
}

/// All lines of a station: who asks for the same address gets the same line.
#[derive(Clone)]
pub struct Lines {
    open: Arc<dyn Open>,
    known: Arc<Mutex<HashMap<Address, (mpsc::WeakSender<Order>, mpsc::WeakSender<Order>)>>>,
}

impl Default for Lines {
    fn default() -> Lines {
        Lines::opened_by(open_real)
    }
}

impl Lines {
    pub fn opened_by(open: impl Open) -> Lines {
        Lines { open: Arc::new(open), known: Arc::default() }
    }

    /// The line to `address`; its task ends with its last holder. Must be called within a tokio runtime.
    pub fn line(&self, address: &Address) -> Line {
        // Nothing is left half done under this lock.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let name: Arc<str> = address.to_string().into();
        if let Some((writes, reads)) = known.get(address)
            && let (Some(writes), Some(reads)) = (writes.upgrade(), reads.upgrade())
        {
            return Line { name, writes, reads };
        }
        // Each caller waits for its answer, so queues are as long as callers are many: a dock and a mast. A full queue
        // makes the next caller wait.
        let (writes, write_inbox) = mpsc::channel(4);
        let (reads, read_inbox) = mpsc::channel(4);
        let task = Task {
            address: address.clone(),
            name: name.to_string(),
            open: Arc::clone(&self.open),
            link: None,
            retry_at: Instant::now(),
            backoff: BACKOFF_FIRST,
            why: String::new(),
            quiet_since: Instant::now(),
            silent: HashMap::new(),
        };
        tokio::spawn(task.run(write_inbox, read_inbox));
        known.insert(address.clone(), (writes.downgrade(), reads.downgrade()));
        Line { name, writes, reads }
    }
}

/// What callers hold: cheap to clone, safe to drop.
#[derive(Clone)]
pub struct Line {
    name: Arc<str>,
    writes: mpsc::Sender<Order>,
    reads: mpsc::Sender<Order>,
}

struct Order {
    ask: Ask,
    limit: Duration,
    reply: oneshot::Sender<Result<Vec<u16>, LineError>>,
}

impl Line {
    /// The words at a place; bits come as 0 and 1.
    pub async fn read(&self, place: Place, limit: Duration) -> Result<Vec<u16>, LineError> {
        self.ask(&self.reads, Ask::Read(place), limit).await
    }

    /// Writes once, ahead of everybody's reads, and returns when the device has confirmed it. After any error it is open
    /// whether the device has done it. Dropping the future takes back what was not sent yet.
    pub async fn write(&self, write: Write, limit: Duration) -> Result<(), LineError> {
        self.ask(&self.writes, Ask::Write(write), limit).await.map(drop)
    }

    async fn ask(&self, queue: &mpsc::Sender<Order>, ask: Ask, limit: Duration) -> Result<Vec<u16>, LineError> {
        let stopping = || LineError::Stopping { line: self.name.to_string() };
        let (reply, answer) = oneshot::channel();
        queue.send(Order { ask, limit, reply }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

const BACKOFF_FIRST: Duration = Duration::from_millis(250);
const BACKOFF_MOST: Duration = Duration::from_secs(10);
const OPEN_LIMIT: Duration = Duration::from_secs(2);
/// The longest time for which a unit that does not answer is passed over.
const SILENT_MOST: Duration = Duration::from_secs(5);
/// A line that talks by itself for longer is not waited for.
const BABBLE_LIMIT: Duration = Duration::from_secs(5);

/// An open line.
struct Link {
    wire: Wire,
    client: client::Context,
    /// An answer may still come that nobody waits for: the line must be quiet for so long before it is used again.
    unsettled: Option<Duration>,
}

struct Task {
    address: Address,
    name: String,
    open: Arc<dyn Open>,
    link: Option<Link>,
    /// A line that is down is not tried before.
    retry_at: Instant,
    backoff: Duration,
    why: String,
    quiet_since: Instant,
    /// Units that did not answer: how often, and until when nobody reads from them. Each such question holds the line for
    /// its time-out and, on a serial line, for as long again.
    silent: HashMap<u8, (u32, Instant)>,
}

impl Task {
    async fn run(mut self, mut writes: mpsc::Receiver<Order>, mut reads: mpsc::Receiver<Order>) {
        loop {
            // Both queues end together, with the last holder.
            let order = tokio::select! {
                biased;
                order = writes.recv() => order,
                order = reads.recv() => order,
            };
            let Some(Order { ask, limit, reply }) = order else { return };
            let outcome = self.serve(ask, limit, &reply).await;
            // A caller that went away has no use for the answer.
            let _ = reply.send(outcome);
            self.settle().await;
        }
    }

    async fn serve(
        &mut self,
        ask: Ask,
        limit: Duration,
        reply: &oneshot::Sender<Result<Vec<u16>, LineError>>,
    ) -> Result<Vec<u16>, LineError> {
        if let (Ask::Read(_), Some((times, until))) = (ask, self.silent.get(&ask.unit()))
            && Instant::now() < *until
        {
            let (line, again_in) = (self.name.clone(), *until - Instant::now());
            return Err(LineError::Silent { line, unit: ask.unit(), times: *times, again_in });
        }
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.connect().await?,
        };
        sleep_until(self.quiet_since + self.address.gap()).await;
        // The last moment: from here on it happens.
        if reply.is_closed() {
            self.link = Some(link);
            return Err(LineError::GivenUp { line: self.name.clone(), what: ask.to_string() });
        }
        link.client.set_slave(Slave(ask.unit()));
        let outcome = timeout(limit, link.client.call(ask.request())).await;
        self.quiet_since = Instant::now();
        match outcome {
            Err(_) => self.pass_over(ask.unit(), limit),
            Ok(_) => drop(self.silent.remove(&ask.unit())),
        }
        let (line, what) = (self.name.clone(), ask.to_string());
        let error = match outcome {
            Ok(Ok(Ok(response))) => match ask.answered_by(response) {
                Ok(words) => {
                    self.backoff = BACKOFF_FIRST;
                    self.link = Some(link);
                    return Ok(words);
                }
                Err(reason) => LineError::Mangled { line, what, reason },
            },
            Ok(Ok(Err(exception))) => {
                self.backoff = BACKOFF_FIRST;
                self.link = Some(link);
                return Err(LineError::Exception { line, what, code: exception.into() });
            }
            Ok(Err(tokio_modbus::Error::Protocol(mismatch))) => {
                LineError::Mangled { line, what, reason: mismatch.to_string() }
            }
            Ok(Err(tokio_modbus::Error::Transport(error))) if is_nonsense(&error) => {
                LineError::Mangled { line, what, reason: error.to_string() }
            }
            Ok(Err(tokio_modbus::Error::Transport(source))) => {
                self.down(&source.to_string());
                return Err(LineError::Lost { line, what, source });
            }
            Err(_) => LineError::Timeout { line, what, limit },
        };
        // An answer may be under way that belongs to no question any more. A TCP connection is dropped with all that is in
        // it; a serial line is kept and listened to.
        if self.address.framing() == Framing::Rtu {
            link.unsettled = Some(limit);
            self.link = Some(link);
        }
        Err(error)
    }

    /// Once may be chance: the first pause is no longer than a serial line takes to settle.
    fn pass_over(&mut self, unit: u8, limit: Duration) {
        let now = Instant::now();
        let (times, until) = self.silent.entry(unit).or_insert((0, now));
        *until = now + limit.saturating_mul(1 << (*times).min(8)).min(SILENT_MOST);
        *times = times.saturating_add(1);
    }

    async fn connect(&mut self) -> Result<Link, LineError> {
        let now = Instant::now();
        if now < self.retry_at {
            let again_in = self.retry_at - now;
            return Err(LineError::Down { line: self.name.clone(), why: self.why.clone(), again_in });
        }
        let opened = timeout(OPEN_LIMIT, self.open.open(&self.address)).await;
        let source = match opened {
            Ok(Ok(stream)) => {
                tracing::info!(line = self.name, "line opened");
                return Ok(Link::over(Wire::new(stream), self.address.framing()));
            }
            Ok(Err(source)) => source,
            Err(_) => io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {OPEN_LIMIT:?}")),
        };
        self.down(&source.to_string());
        Err(LineError::Open { line: self.name.clone(), source })
    }

    fn down(&mut self, why: &str) {
        self.link = None;
        self.why = why.to_owned();
        self.retry_at = Instant::now() + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF_MOST);
    }

    /// Lets late bytes run out, so that the next question is not answered by them.
    async fn settle(&mut self) {
        let Some(link) = &mut self.link else { return };
        let Some(quiet) = link.unsettled.take() else { return };
        match timeout(BABBLE_LIMIT.max(quiet * 2), link.wire.until_quiet(quiet)).await {
            Ok(Ok(())) => {
                // A new client: the old one may hold half a message.
                let wire = link.wire.clone();
                self.link = Some(Link::over(wire, self.address.framing()));
            }
            Ok(Err(error)) => self.down(&error.to_string()),
            Err(_) => {
                let error = LineError::Babble { line: self.name.clone() };
                tracing::warn!(%error);
                self.down("it is never quiet");
            }
        }
    }
}

/// Tells bytes that came but are no message from a stream that broke: these are the codec's kinds, streams have others.
fn is_nonsense(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

/// The end of a stream, said plainly: the library would report "success", or a short message.
fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "closed at the other end")
}

impl Link {
    fn over(wire: Wire, framing: Framing) -> Link {
        let client = match framing {
            Framing::Tcp => client::tcp::attach(wire.clone()),
            Framing::Rtu => client::rtu::attach(wire.clone()),
        };
        Link { wire, client, unsettled: None }
    }
}

/// The stream, shared between the library's client and us, who listen to it when the client cannot be trusted to.
///
/// Before the first byte of a question, bytes that came unasked are thrown away: on a line without transaction ids they
/// could pass for the answer.
#[derive(Clone)]
struct Wire(Arc<Mutex<Box<dyn Stream>>>);

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    fn new(stream: Box<dyn Stream>) -> Wire {
        Wire(Arc::new(Mutex::new(stream)))
    }

    /// Never contended: client and settling take turns.
    fn with<T>(&self, work: impl FnOnce(Pin<&mut (dyn Stream + 'static)>) -> T) -> T {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(Pin::new(&mut **stream))
    }

    /// Reads and forgets until nothing has come for `quiet`.
    async fn until_quiet(&mut self, quiet: Duration) -> io::Result<()> {
        let mut bytes = [0; 256];
        loop {
            match timeout(quiet, self.read(&mut bytes)).await {
                Err(_) => return Ok(()),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(self.with(|stream| stream.poll_read(cx, buf)))?;
        if buf.filled().len() == before && buf.remaining() > 0 {
            return Poll::Ready(Err(closed()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|mut stream| {
            let mut bytes = [0; 256];
            loop {
                let mut unasked = ReadBuf::new(&mut bytes);
                match stream.as_mut().poll_read(cx, &mut unasked) {
                    Poll::Pending => break,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) if unasked.filled().is_empty() => {
                        return Poll::Ready(Err(closed()));
                    }
                    Poll::Ready(Ok(())) => {}
                }
            }
            stream.as_mut().poll_write(cx, buf)
        })
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(cx))
    }
}
