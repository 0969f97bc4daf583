//! Sockets: bytes to and from the drone. The only place of the link with I/O; it knows no MAVLink.
//!
//! Reading and writing are separate tasks, so that neither can starve the other.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serial2_tokio::SerialPort;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::VehicleError;

/// Where the drone is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// Wait for the drone to speak first.
    UdpIn(String),
    /// Speak first.
    UdpOut(String),
    TcpOut(String),
    Serial {
        device: String,
        baud: u32,
    },
}

impl Address {
    pub fn parse(url: &str) -> Result<Address, VehicleError> {
        let refuse = |reason: &str| VehicleError::Url { url: url.to_owned(), reason: reason.to_owned() };
        let (scheme, rest) = url.split_once(':').ok_or_else(|| refuse("it has no scheme"))?;
        let rest = rest.trim_start_matches("//");
        if scheme == "serial" {
            let (device, baud) = rest.rsplit_once(':').ok_or_else(|| refuse("it has no speed"))?;
            let baud = baud.parse::<u32>().ok().filter(|baud| (1200..=4_000_000).contains(baud));
            let baud = baud.ok_or_else(|| refuse("its speed is not a number from 1200 to 4000000"))?;
            if device.is_empty() {
                return Err(refuse("it has no device"));
            }
            return Ok(Address::Serial { device: device.to_owned(), baud });
        }
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| refuse("it has no port"))?;
        if host.is_empty() {
            return Err(refuse("it has no host; use 0.0.0.0 to listen on every interface"));
        }
        match port.parse::<u16>() {
            Ok(0) if scheme != "udpin" => return Err(refuse("port 0 cannot be sent to")),
            Ok(_) => {}
            Err(_) => return Err(refuse("its port is not a number from 0 to 65535")),
        }
        match scheme {
            "udpin" => Ok(Address::UdpIn(rest.to_owned())),
            "udpout" => Ok(Address::UdpOut(rest.to_owned())),
            "tcpout" => Ok(Address::TcpOut(rest.to_owned())),
            _ => Err(refuse(&format!("the scheme {scheme:?} is unknown"))),
        }
    }
}

/// Bytes as they came.
#[derive(Debug)]
pub(crate) struct Received {
    /// Who sent the datagram; `None` on a stream.
    pub from: Option<SocketAddr>,
    pub bytes: Vec<u8>,
}

/// Both ends of an open transport.
pub(crate) struct Wire {
    /// 256 datagrams are seconds of telemetry. When full the reader waits and the kernel drops, as a radio would.
    pub received: mpsc::Receiver<Received>,
    /// 64 frames. When full, senders try again by their own protocols.
    pub send: mpsc::Sender<Vec<u8>>,
    /// Whom a listening socket answers: set once the drone is known.
    pub peer: watch::Sender<Option<SocketAddr>>,
    /// Where a UDP socket is bound.
    pub local: Option<SocketAddr>,
}

pub(crate) async fn open(address: &Address, url: &str, cancel: CancellationToken) -> Result<Wire, VehicleError> {
    let (received_tx, received) = mpsc::channel(256);
    let (send, to_send) = mpsc::channel(64);
    let (peer, peer_rx) = watch::channel(None);
    let failed = |source| VehicleError::Open { url: url.to_owned(), source };
    let local = match address {
        Address::UdpIn(at) => {
            let socket = Arc::new(UdpSocket::bind(at).await.map_err(failed)?);
            let local = socket.local_addr().ok();
            tokio::spawn(read_datagrams(socket.clone(), received_tx, cancel.clone()));
            tokio::spawn(write_datagrams(socket, to_send, peer_rx, cancel));
            local
        }
        Address::UdpOut(at) => {
            let target = lookup_host(at).await.map_err(failed)?.next();
            let target = target.ok_or_else(|| VehicleError::Url {
                url: url.to_owned(),
                reason: "its host name has no address".to_owned(),
            })?;
            let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = Arc::new(UdpSocket::bind(any).await.map_err(failed)?);
            let local = socket.local_addr().ok();
            let (_, fixed) = watch::channel(Some(target));
            tokio::spawn(read_datagrams(socket.clone(), received_tx, cancel.clone()));
            tokio::spawn(write_datagrams(socket, to_send, fixed, cancel));
            local
        }
        Address::TcpOut(at) => {
            let at = at.clone();
            let connect = move || TcpStream::connect(at.clone());
            tokio::spawn(keep_stream(url.to_owned(), connect, received_tx, to_send, cancel));
            None
        }
        Address::Serial { device, baud } => {
            let (device, baud) = (device.clone(), *baud);
            // Opening a serial line does not wait for anything.
            let connect = move || std::future::ready(SerialPort::open(&device, baud));
            tokio::spawn(keep_stream(url.to_owned(), connect, received_tx, to_send, cancel));
            None
        }
    };
    Ok(Wire { received, send, peer, local })
}

async fn read_datagrams(socket: Arc<UdpSocket>, received: mpsc::Sender<Received>, cancel: CancellationToken) {
    let mut buffer = vec![0; 65_536];
    loop {
        let read = tokio::select! {
            read = socket.recv_from(&mut buffer) => read,
            () = cancel.cancelled() => return,
        };
        match read {
            Ok((length, from)) => {
                let message = Received { from: Some(from), bytes: buffer[..length].to_vec() };
                if received.send(message).await.is_err() {
                    return;
                }
            }
            // "Connection refused" comes back here when nobody listens yet. It is not the end, but must not spin.
            Err(error) => {
                tracing::debug!(%error, "reading from the drone's socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn write_datagrams(
    socket: Arc<UdpSocket>,
    mut to_send: mpsc::Receiver<Vec<u8>>,
    peer: watch::Receiver<Option<SocketAddr>>,
    cancel: CancellationToken,
) {
    loop {
        let bytes = tokio::select! {
            bytes = to_send.recv() => bytes,
            () = cancel.cancelled() => return,
        };
        let Some(bytes) = bytes else { return };
        let target = *peer.borrow();
        // Nobody spoke yet: there is nobody to answer.
        let Some(target) = target else { continue };
        if let Err(error) = socket.send_to(&bytes, target).await {
            tracing::debug!(%error, %target, "writing to the drone's socket");
        }
    }
}

/// A drone speaks every second. A connection on which nothing comes for so long is dead, though nobody said so: a cable
/// that was pulled, a router that forgot.
const SILENT: Duration = Duration::from_secs(15);
/// A connection that takes no bytes for so long is dead too.
const STUCK: Duration = Duration::from_secs(5);

/// Connects, and connects again, with a pause that grows to five seconds.
async fn keep_stream<S, F>(
    url: String,
    connect: impl Fn() -> F,
    received: mpsc::Sender<Received>,
    mut to_send: mpsc::Receiver<Vec<u8>>,
    cancel: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Send + 'static,
    F: Future<Output = io::Result<S>>,
{
    let first = Duration::from_millis(250);
    let mut pause = first;
    let mut said = false;
    loop {
        let connected = tokio::select! {
            connected = connect() => connected,
            () = discard(&mut to_send) => return,
            () = cancel.cancelled() => return,
        };
        match connected {
            Ok(stream) => {
                said = false;
                let (reader, mut writer) = tokio::io::split(stream);
                let mut reading = tokio::spawn(read_stream(reader, received.clone()));
                let stop_reading = reading.abort_handle();
                let why = loop {
                    tokio::select! {
                        bytes = to_send.recv() => {
                            let Some(bytes) = bytes else {
                                stop_reading.abort();
                                return;
                            };
                            match timeout(STUCK, writer.write_all(&bytes)).await {
                                Ok(Ok(())) => {}
                                Ok(Err(error)) => break error.to_string(),
                                Err(_) => break format!("it took no bytes for {STUCK:?}"),
                            }
                        }
                        ended = &mut reading => match ended {
                            Ok(Some((heard, why))) => {
                                // Only a connection that carried something was one: another is tried at once.
                                if heard {
                                    pause = first;
                                }
                                break why;
                            }
                            Ok(None) => return,
                            Err(error) => break error.to_string(),
                        },
                        () = cancel.cancelled() => {
                            stop_reading.abort();
                            return;
                        }
                    }
                };
                stop_reading.abort();
                tracing::warn!(%url, %why, "the connection to the drone broke; connecting again");
            }
            // Once, and not every five seconds for as long as the drone is away.
            Err(error) if !std::mem::replace(&mut said, true) => {
                tracing::warn!(%url, %error, "no connection to the drone; trying on");
            }
            Err(error) => tracing::debug!(%url, %error, "no connection to the drone yet"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = discard(&mut to_send) => return,
            () = cancel.cancelled() => return,
        }
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Reads until the connection ends: whether anything came, and why it ended. `None` when nobody listens any more.
async fn read_stream(mut reader: impl AsyncRead + Unpin, received: mpsc::Sender<Received>) -> Option<(bool, String)> {
    let mut buffer = vec![0; 4096];
    let mut heard = false;
    loop {
        let length = match timeout(SILENT, reader.read(&mut buffer)).await {
            Ok(Ok(0)) => return Some((heard, "it was closed".to_owned())),
            Ok(Ok(length)) => length,
            Ok(Err(error)) => return Some((heard, error.to_string())),
            Err(_) => return Some((heard, format!("nothing came for {SILENT:?}"))),
        };
        heard = true;
        received.send(Received { from: None, bytes: buffer[..length].to_vec() }).await.ok()?;
    }
}

/// While there is no connection, what is said is lost: a command kept for later would be a stale command.
/// Ends when nobody can say anything any more.
async fn discard(to_send: &mut mpsc::Receiver<Vec<u8>>) {
    while to_send.recv().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_said_without_a_connection_is_not_said_later() {
        let held = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = held.local_addr().unwrap();
        drop(held);
        let url = format!("tcpout:{at}");
        let cancel = CancellationToken::new();
        let mut wire = open(&Address::parse(&url).unwrap(), &url, cancel.clone()).await.unwrap();
        // More than all queues hold: this returns only because it is thrown away.
        for _ in 0..200 {
            wire.send.send(b"stale".to_vec()).await.unwrap();
        }
        let listener = tokio::net::TcpListener::bind(at).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        assert_eq!(wire.received.recv().await.unwrap().bytes, b"hello");
        wire.send.send(b"fresh".to_vec()).await.unwrap();
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"fresh");
        cancel.cancel();
    }

    #[tokio::test]
    async fn a_serial_line_carries_both_ways_and_one_that_is_not_there_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().join("ttyDRONE");
        let url = format!("serial:{}:57600", device.display());
        let cancel = CancellationToken::new();
        let mut wire = open(&Address::parse(&url).unwrap(), &url, cancel.clone()).await.unwrap();
        // Plugged in later.
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut raw = nix::sys::termios::tcgetattr(&pty.slave).unwrap();
        nix::sys::termios::cfmakeraw(&mut raw);
        nix::sys::termios::tcsetattr(&pty.slave, nix::sys::termios::SetArg::TCSANOW, &raw).unwrap();
        std::os::unix::fs::symlink(nix::unistd::ttyname(&pty.slave).unwrap(), &device).unwrap();
        let mut far = tokio::fs::File::from_std(std::fs::File::from(pty.master));
        far.write_all(b"\xFD\x00\r\nhello").await.unwrap();
        far.flush().await.unwrap();
        let mut heard = Vec::new();
        while heard.len() < 9 {
            heard.extend(wire.received.recv().await.unwrap().bytes);
        }
        // Bytes are not text there.
        assert_eq!(heard, b"\xFD\x00\r\nhello");
        wire.send.send(b"\x03\nword".to_vec()).await.unwrap();
        let mut said = [0; 6];
        far.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"\x03\nword");
        cancel.cancel();
    }

    #[tokio::test]
    async fn a_connection_that_broke_is_made_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("tcpout:{}", listener.local_addr().unwrap());
        let cancel = CancellationToken::new();
        let mut wire = open(&Address::parse(&url).unwrap(), &url, cancel.clone()).await.unwrap();
        for word in [b"one", b"two"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(word).await.unwrap();
            assert_eq!(wire.received.recv().await.unwrap().bytes, word);
        }
        cancel.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nothing_comes_counts_as_broken() {
        let (quiet, mut far) = tokio::io::duplex(64);
        let (received, mut inbox) = mpsc::channel(4);
        far.write_all(b"once").await.unwrap();
        let ended = tokio::spawn(read_stream(quiet, received));
        assert_eq!(inbox.recv().await.unwrap().bytes, b"once");
        let (heard, why) = ended.await.unwrap().unwrap();
        assert!(heard && why.contains("nothing came for 15s"), "{why}");
    }

    #[test]
    fn a_wrong_address_says_which_key_and_why() {
        assert_eq!(Address::parse("udpin:0.0.0.0:14550").unwrap(), Address::UdpIn("0.0.0.0:14550".to_owned()));
        let serial = Address::Serial { device: "/dev/ttyACM0".to_owned(), baud: 57_600 };
        assert_eq!(Address::parse("serial:/dev/ttyACM0:57600").unwrap(), serial);
        assert_eq!(Address::parse("tcpout://drone:5760").unwrap(), Address::TcpOut("drone:5760".to_owned()));
        for (url, reason) in [
            ("pigeon:/dev/ttyACM0:57600", "scheme \"pigeon\" is unknown"),
            ("serial:/dev/ttyACM0", "no speed"),
            ("serial:/dev/ttyACM0:fast", "speed"),
            ("serial::57600", "no device"),
            ("udpin:14550", "no port"),
            ("udpout:host:99999", "port"),
            ("udpout:host:0", "port 0"),
            ("nonsense", "no scheme"),
        ] {
            let error = Address::parse(url).unwrap_err().to_string();
            assert!(error.contains("vehicle.url") && error.contains(reason), "{error}");
        }
    }
}
