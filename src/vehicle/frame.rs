//! MAVLink frames from bytes and to bytes. Pure: no sockets, no clock.
//!
//! Input comes over radio and is not to be trusted: garbage, unknown messages and enum values newer than our dialect
//! cost at most the message they stand in, never the link.

use mavlink::dialects::common::MavMessage;
use mavlink::error::ParserError;
use mavlink::{MAV_STX, MAV_STX_V2, MAVLinkV2MessageRaw, MavHeader, MavlinkVersion, Message, calculate_crc};

/// One readable message and who sent it.
#[derive(Debug, Clone)]
pub struct Frame {
    pub system: u8,
    pub component: u8,
    pub message: MavMessage,
}

/// Cuts a stream or datagrams into frames.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: Vec<u8>,
    /// Bytes and messages passed over since the start: garbage, bad checksums, messages that our dialect lacks.
    pub skipped: u64,
}

/// The longest frame: header 10, payload 255, checksum 2, signature 13.
const LONGEST: usize = 280;

enum Cut {
    /// Not the start of a frame that we can read: go on one byte later.
    Skip,
    NeedsMore,
    Frame(usize, Option<Box<Frame>>),
}

impl Splitter {
    /// Frames of a datagram. A datagram holds whole frames, so what is left over is garbage and forgotten.
    pub fn datagram(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.buffer.clear();
        let mut frames = Vec::new();
        self.cut_all(bytes, true, &mut frames);
        frames
    }

    /// Frames of a byte stream; an unfinished one waits for the next call.
    pub fn stream(&mut self, bytes: &[u8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut held = std::mem::take(&mut self.buffer);
        held.extend_from_slice(bytes);
        let used = self.cut_all(&held, false, &mut frames);
        held.drain(..used);
        // What waits is always less than one frame: a longer one would have been cut or skipped.
        debug_assert!(held.len() < LONGEST);
        self.buffer = held;
        frames
    }

    fn cut_all(&mut self, bytes: &[u8], complete: bool, frames: &mut Vec<Frame>) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            match cut(&bytes[at..]) {
                Cut::Frame(length, frame) => {
                    at += length;
                    match frame {
                        Some(frame) => frames.push(*frame),
                        None => self.skipped += 1,
                    }
                }
                Cut::NeedsMore if !complete => break,
                Cut::NeedsMore | Cut::Skip => {
                    at += 1;
                    self.skipped += 1;
                }
            }
        }
        at
    }
}

fn cut(bytes: &[u8]) -> Cut {
    let (version, header) = match bytes[0] {
        MAV_STX_V2 => (MavlinkVersion::V2, 10),
        MAV_STX => (MavlinkVersion::V1, 6),
        _ => return Cut::Skip,
    };
    if bytes.len() < header {
        return Cut::NeedsMore;
    }
    let payload = usize::from(bytes[1]);
    let (signature, system, component, id) = match version {
        MavlinkVersion::V2 => {
            const SIGNED: u8 = 0x01;
            if bytes[2] & !SIGNED != 0 {
                return Cut::Skip;
            }
            let id = u32::from_le_bytes([bytes[7], bytes[8], bytes[9], 0]);
            let signature = if bytes[2] & SIGNED != 0 { 13 } else { 0 };
            (signature, bytes[5], bytes[6], id)
        }
        MavlinkVersion::V1 => (0, bytes[3], bytes[4], u32::from(bytes[5])),
    };
    let end = header + payload;
    let length = end + 2 + signature;
    if bytes.len() < length {
        return Cut::NeedsMore;
    }
    // An unknown message's checksum cannot be proven, so its bytes are searched for the next frame.
    if calculate_crc(&bytes[1..end], MavMessage::extra_crc(id)) != u16::from_le_bytes([bytes[end], bytes[end + 1]]) {
        return Cut::Skip;
    }
    let frame = parse(version, id, &bytes[header..end]).map(|message| Box::new(Frame { system, component, message }));
    Cut::Frame(length, frame)
}

/// Parses; where an enum value is newer than our dialect, the one field is read as "unknown" instead of losing the message.
fn parse(version: MavlinkVersion, id: u32, payload: &[u8]) -> Option<MavMessage> {
    match MavMessage::parse(version, id, payload) {
        Ok(message) => Some(message),
        Err(ParserError::InvalidEnum { .. }) => {
            let mut patched = payload.to_vec();
            // Trailing zeros are cut off on the wire, and zero is known everywhere: only bytes that came can be at fault.
            let enums = || enum_bytes(id).iter().filter(|(at, _)| *at < payload.len());
            for &(at, unknown) in enums() {
                patched[at] = unknown;
            }
            for &(at, unknown) in enums() {
                patched[at] = payload[at];
                if MavMessage::parse(version, id, &patched).is_err() {
                    patched[at] = unknown;
                }
            }
            MavMessage::parse(version, id, &patched).ok()
        }
        Err(_) => None,
    }
}

/// Where the messages that flight depends on hold enums (offset in the payload, value to read in place of an unknown one).
fn enum_bytes(id: u32) -> &'static [(usize, u8)] {
    match id {
        // HEARTBEAT: type, autopilot, state.
        0 => &[(4, 0), (5, 0), (7, 0)],
        // GPS_RAW_INT: an unknown fix is no fix.
        24 => &[(28, 0)],
        // MISSION_CURRENT: state.
        42 => &[(4, 0)],
        // MISSION_ACK: an unknown answer is an error.
        47 => &[(2, 1)],
        // COMMAND_ACK: an unknown result is a failure.
        77 => &[(2, 4)],
        // EXTENDED_SYS_STATE: VTOL state, landed state.
        245 => &[(0, 0), (1, 0)],
        // STATUSTEXT: severity.
        253 => &[(0, 6)],
        _ => &[],
    }
}

/// Numbers and serialises what one component sends.
#[derive(Debug)]
pub struct Encoder {
    system: u8,
    component: u8,
    sequence: u8,
}

impl Encoder {
    pub fn new(system: u8, component: u8) -> Self {
        Encoder { system, component, sequence: 0 }
    }

    pub fn encode(&mut self, message: &MavMessage) -> Vec<u8> {
        let header =
            MavHeader { system_id: u32::from(self.system), component_id: self.component, sequence: self.sequence };
        self.sequence = self.sequence.wrapping_add(1);
        let mut raw = MAVLinkV2MessageRaw::new();
        raw.serialize_message(header, message);
        raw.raw_bytes().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mavlink::dialects::common::{HEARTBEAT_DATA, MavAutopilot, MavModeFlag, MavType};

    fn heartbeat() -> Vec<u8> {
        let beat = HEARTBEAT_DATA {
            custom_mode: 3,
            mavtype: MavType::MAV_TYPE_QUADROTOR,
            autopilot: MavAutopilot::MAV_AUTOPILOT_ARDUPILOTMEGA,
            base_mode: MavModeFlag::MAV_MODE_FLAG_SAFETY_ARMED,
            ..HEARTBEAT_DATA::default()
        };
        Encoder::new(1, 1).encode(&MavMessage::HEARTBEAT(beat))
    }

    fn refresh_checksum(frame: &mut [u8]) {
        let end = frame.len() - 2;
        let id = u32::from_le_bytes([frame[7], frame[8], frame[9], 0]);
        let crc = calculate_crc(&frame[1..end], MavMessage::extra_crc(id));
        frame[end..].copy_from_slice(&crc.to_le_bytes());
    }

    #[test]
    fn a_heartbeat_with_enum_values_of_the_future_is_still_a_heartbeat() {
        let mut frame = heartbeat();
        frame[10 + 4] = 250;
        frame[10 + 7] = 251;
        refresh_checksum(&mut frame);
        let frames = Splitter::default().datagram(&frame);
        let MavMessage::HEARTBEAT(beat) = &frames[0].message else { panic!("{frames:?}") };
        assert_eq!(beat.mavtype, MavType::MAV_TYPE_GENERIC);
        assert_eq!(beat.autopilot, MavAutopilot::MAV_AUTOPILOT_ARDUPILOTMEGA);
        assert_eq!(beat.custom_mode, 3);
    }

    #[test]
    fn garbage_and_unknown_messages_between_frames_lose_nothing_but_themselves() {
        let mut unknown = heartbeat();
        unknown[7..10].copy_from_slice(&[0xAA, 0xBB, 0x01]);
        let mut bytes = vec![0xFD, 0xFF, 0, 1, 2, 0xFE];
        bytes.extend(heartbeat());
        bytes.extend(unknown);
        bytes.extend([0xFD; 7]);
        bytes.extend(heartbeat());
        bytes.extend([0xFD, 3]);
        assert_eq!(Splitter::default().datagram(&bytes).len(), 2);
        let mut stream = Splitter::default();
        // 255 more bytes let the stream see through the false header at the start.
        bytes.extend([0; 300]);
        let found: usize = bytes.chunks(7).map(|chunk| stream.stream(chunk).len()).sum();
        assert_eq!(found, 2);
    }

    #[test]
    fn a_flipped_bit_is_not_a_message() {
        let mut frame = heartbeat();
        frame[12] ^= 0x10;
        let mut splitter = Splitter::default();
        assert!(splitter.datagram(&frame).is_empty());
        assert!(splitter.skipped > 0);
    }
}
