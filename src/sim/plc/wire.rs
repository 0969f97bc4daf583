//! Messages as they go over a socket or a serial line.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, ReadHalf};
use tokio::time::timeout;

use crate::vehicle::modbus::address::Framing;

pub(super) struct Question {
    pub transaction: u16,
    pub unit: u8,
    pub pdu: Vec<u8>,
}

/// The next question; `None` for bytes that are none.
pub(super) async fn read_question<R: AsyncRead>(
    reader: &mut ReadHalf<R>,
    framing: Framing,
) -> io::Result<Option<Question>> {
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

pub(super) fn wrap(framing: Framing, transaction: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
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
}
