//! Whole MAVLink frames out of a byte stream, untouched: what was signed stays signed, what is unknown stays what it is.
//! Pure.

use mavlink::dialects::common::MavMessage;
use mavlink::{MAV_STX, MAV_STX_V2, Message, calculate_crc};

/// Holds the beginning of a frame until its end has come.
#[derive(Debug, Default)]
pub struct Cutter {
    held: Vec<u8>,
}

enum Cut {
    NoFrame,
    NeedsMore,
    Frame(usize),
}

impl Cutter {
    /// The frames that are whole after these bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.held.extend_from_slice(bytes);
        let (mut at, mut frames) = (0, Vec::new());
        while at < self.held.len() {
            match cut(&self.held[at..]) {
                Cut::NoFrame => at += 1,
                Cut::NeedsMore => break,
                Cut::Frame(length) => {
                    frames.push(self.held[at..at + length].to_vec());
                    at += length;
                }
            }
        }
        self.held.drain(..at);
        frames
    }
}

fn cut(bytes: &[u8]) -> Cut {
    const SIGNED: u8 = 0x01;
    let v2 = match bytes[0] {
        MAV_STX_V2 => true,
        MAV_STX => false,
        _ => return Cut::NoFrame,
    };
    let header = if v2 { 10 } else { 6 };
    if bytes.len() < header {
        return Cut::NeedsMore;
    }
    let end = header + usize::from(bytes[1]);
    let signature = if v2 && bytes[2] & SIGNED != 0 { 13 } else { 0 };
    let length = end + 2 + signature;
    if bytes.len() < length {
        return Cut::NeedsMore;
    }
    let id = if v2 { u32::from_le_bytes([bytes[7], bytes[8], bytes[9], 0]) } else { u32::from(bytes[5]) };
    let said = u16::from_le_bytes([bytes[end], bytes[end + 1]]);
    // Of a message that our dialect lacks the checksum cannot be proven; the autopilot's own are passed on all the same.
    if is_known(id) && calculate_crc(&bytes[1..end], MavMessage::extra_crc(id)) != said {
        return Cut::NoFrame;
    }
    Cut::Frame(length)
}

/// SYSTEM_TIME with another time of day. Anything else, and what is signed, comes back as it was; so does a clock that no
/// satellite has set yet.
pub fn with_time_of_day(mut frame: Vec<u8>, utc_us: u64) -> Vec<u8> {
    const SYSTEM_TIME: [u8; 3] = [2, 0, 0];
    const UTC: std::ops::Range<usize> = 10..18;
    let plain = frame.len() >= 10 + 8 + 2 && frame[0] == MAV_STX_V2 && frame[2] == 0 && frame[7..10] == SYSTEM_TIME;
    if !plain || frame[UTC] == [0; 8] {
        return frame;
    }
    frame[UTC].copy_from_slice(&utc_us.to_le_bytes());
    let end = frame.len() - 2;
    let crc = calculate_crc(&frame[1..end], MavMessage::extra_crc(2));
    frame[end..].copy_from_slice(&crc.to_le_bytes());
    frame
}

fn is_known(id: u32) -> bool {
    MavMessage::default_message_from_id(id).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vehicle::frame::Encoder;
    use mavlink::dialects::common::{HEARTBEAT_DATA, SYSTEM_TIME_DATA};

    #[test]
    fn a_simulations_clock_is_set_and_nothing_else_is_touched() {
        let encode = |message| Encoder::new(1, 1).encode(&message);
        let time =
            |time_unix_usec| encode(MavMessage::SYSTEM_TIME(SYSTEM_TIME_DATA { time_unix_usec, time_boot_ms: 12_345 }));
        assert_eq!(with_time_of_day(time(1_700_000_000_000_000), 1_800_000_000_000_001), time(1_800_000_000_000_001));
        let beat = encode(MavMessage::HEARTBEAT(HEARTBEAT_DATA::default()));
        let mut signed = time(1_700_000_000_000_000);
        signed[2] = 1;
        for untouched in [time(0), beat, signed] {
            assert_eq!(with_time_of_day(untouched.clone(), 1_800_000_000_000_001), untouched);
        }
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_the_stream_is_chopped() {
        let known = Encoder::new(1, 1).encode(&MavMessage::HEARTBEAT(HEARTBEAT_DATA::default()));
        // A message of the autopilot's own dialect: its number means nothing to ours.
        let mut foreign = known.clone();
        foreign[7..10].copy_from_slice(&[0xC1, 0x2A, 0]);
        let mut signed = known.clone();
        signed[2] = 1;
        let crc = calculate_crc(&signed[1..signed.len() - 2], MavMessage::extra_crc(0)).to_le_bytes();
        let end = signed.len() - 2;
        signed[end..].copy_from_slice(&crc);
        signed.extend([7; 13]);
        let mut broken = known.clone();
        broken[12] ^= 1;
        let stream = [&b"garbage"[..], &known, &foreign, &signed, &broken, &known].concat();
        for size in [1, 7, stream.len()] {
            let mut cutter = Cutter::default();
            let frames: Vec<_> = stream.chunks(size).flat_map(|chunk| cutter.push(chunk)).collect();
            assert_eq!(frames, [known.clone(), foreign.clone(), signed.clone(), known.clone()], "chunks of {size}");
        }
    }
}
