//! Pure: `tcp:10.0.0.5:502`, `rtu:/dev/ttyUSB0:19200:8E1`, `rtu-over-tcp:10.0.0.7:8899`.

use std::fmt;
use std::time::Duration;

/// How a question is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// With a transaction id.
    Tcp,
    /// With a checksum, and pauses for borders.
    Rtu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Parity {
    None,
    Even,
    Odd,
}

/// Where a line is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    Tcp {
        host: String,
        port: u16,
    },
    /// A serial server that passes the bytes of the line on as they are.
    RtuOverTcp {
        host: String,
        port: u16,
    },
    Rtu {
        path: String,
        baud: u32,
        parity: Parity,
        two_stop_bits: bool,
    },
}

/// Standard Modbus TCP.
const PORT: u16 = 502;
const BAUD: std::ops::RangeInclusive<u32> = 300..=1_000_000;

impl Address {
    /// The address, or what is wrong with it.
    pub fn parse(text: &str) -> Result<Address, String> {
        if let Some(rest) = text.strip_prefix("tcp:") {
            let (host, port) = host_and_port(rest, Some(PORT))?;
            Ok(Address::Tcp { host, port })
        } else if let Some(rest) = text.strip_prefix("rtu-over-tcp:") {
            let (host, port) = host_and_port(rest, None)?;
            Ok(Address::RtuOverTcp { host, port })
        } else if let Some(rest) = text.strip_prefix("rtu:") {
            serial(rest)
        } else {
            Err("it begins with none of tcp:, rtu: and rtu-over-tcp:".to_owned())
        }
    }

    pub fn framing(&self) -> Framing {
        match self {
            Address::Tcp { .. } => Framing::Tcp,
            Address::RtuOverTcp { .. } | Address::Rtu { .. } => Framing::Rtu,
        }
    }

    /// The silence that ends a message: three and a half characters, which the standard fixes above 19200 baud.
    pub fn gap(&self) -> Duration {
        match self {
            Address::Tcp { .. } => Duration::ZERO,
            Address::Rtu { baud, .. } if *baud <= 19_200 => Duration::from_secs_f64(3.5 * 11.0 / f64::from(*baud)),
            Address::RtuOverTcp { .. } | Address::Rtu { .. } => Duration::from_micros(1750),
        }
    }

    /// The unit ids that a device may have here. 0 is everyone's on a serial line, and nobody answers to it.
    pub fn units(&self) -> std::ops::RangeInclusive<u8> {
        match self.framing() {
            Framing::Tcp => 0..=255,
            Framing::Rtu => 1..=247,
        }
    }

    /// Whether two addresses want one serial port in two ways.
    pub fn quarrels_with(&self, other: &Address) -> bool {
        match (self, other) {
            (Address::Rtu { path: a, .. }, Address::Rtu { path: b, .. }) => a == b && self != other,
            _ => false,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } => write!(f, "tcp:{}:{port}", bracketed(host)),
            Address::RtuOverTcp { host, port } => write!(f, "rtu-over-tcp:{}:{port}", bracketed(host)),
            Address::Rtu { path, baud, parity, two_stop_bits } => {
                let parity = match parity {
                    Parity::None => 'N',
                    Parity::Even => 'E',
                    Parity::Odd => 'O',
                };
                write!(f, "rtu:{path}:{baud}:8{parity}{}", if *two_stop_bits { 2 } else { 1 })
            }
        }
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn host_and_port(text: &str, default: Option<u16>) -> Result<(String, u16), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("the bracket around the address is not closed")?;
            (host, after.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') {
        return Err(format!("{host:?} is no host"));
    }
    let port = match port {
        Some(port) => {
            port.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("{port:?} is no port, 1 to 65535"))?
        }
        None => default.ok_or("the port is missing")?,
    };
    Ok((host.to_owned(), port))
}

fn serial(text: &str) -> Result<Address, String> {
    let mut parts = text.rsplitn(3, ':');
    let (Some(frame), Some(baud), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("a serial line is written PATH:BAUD:FRAME".to_owned());
    };
    if path.is_empty() {
        return Err("the port's path is missing".to_owned());
    }
    let baud = baud
        .parse()
        .ok()
        .filter(|baud| BAUD.contains(baud))
        .ok_or_else(|| format!("{baud:?} is no speed, {} to {} baud", BAUD.start(), BAUD.end()))?;
    let (parity, two_stop_bits) = match frame {
        "8N1" => (Parity::None, false),
        "8N2" => (Parity::None, true),
        "8E1" => (Parity::Even, false),
        "8E2" => (Parity::Even, true),
        "8O1" => (Parity::Odd, false),
        "8O2" => (Parity::Odd, true),
        _ => return Err(format!("{frame:?} is none of 8N1, 8N2, 8E1, 8E2, 8O1, 8O2 (RTU has eight data bits)")),
    };
    Ok(Address::Rtu { path: path.to_owned(), baud, parity, two_stop_bits })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_as_it_was_written() {
        for text in [
            "tcp:10.0.0.5:502",
            "tcp:[fd00::5]:1502",
            "rtu:/dev/ttyUSB0:19200:8E1",
            "rtu:/dev/serial/by-path/pci-0000:00:14.0-usb-0:1:9600:8N2",
            "rtu-over-tcp:10.0.0.7:8899",
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Address::parse("tcp:plc").unwrap().to_string(), "tcp:plc:502");
    }

    #[test]
    fn an_address_that_is_none_says_what_is_wrong_with_it() {
        for (text, reason) in [
            ("http://10.0.0.5", "none of tcp:"),
            ("tcp:", "no host"),
            ("tcp:plc:0", "no port"),
            ("tcp:plc:70000", "no port"),
            ("tcp:[fd00::5:502", "bracket"),
            ("rtu-over-tcp:plc", "port is missing"),
            ("rtu:/dev/ttyUSB0", "PATH:BAUD:FRAME"),
            ("rtu:/dev/ttyUSB0:fast:8E1", "no speed"),
            ("rtu:/dev/ttyUSB0:19200:7E1", "eight data bits"),
            ("rtu::19200:8E1", "path is missing"),
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn one_port_is_not_opened_in_two_ways() {
        let port = |text: &str| Address::parse(text).unwrap();
        let slow = port("rtu:/dev/ttyUSB0:9600:8N1");
        assert!(slow.quarrels_with(&port("rtu:/dev/ttyUSB0:19200:8N1")));
        assert!(!slow.quarrels_with(&slow));
        assert!(!slow.quarrels_with(&port("rtu:/dev/ttyUSB1:19200:8N1")));
    }
}
