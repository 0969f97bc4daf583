//! MAVLink frames from bytes and to bytes. Pure: no sockets, no clock.
//!
//! Input comes over radio and is not to be trusted: garbage, unknown messages and enum values newer than our dialect
//! cost at most the message they stand in, never the link.

use std::collections::VecDeque;

use jiff::Timestamp;
use mavlink::dialects::common::MavMessage;
use mavlink::error::ParserError;
use mavlink::{MAV_STX, MAV_STX_V2, MAVLinkV2MessageRaw, MavHeader, MavlinkVersion, Message, calculate_crc};

use super::signing::{self, Signer, Unfit, Verifier};

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
    /// Frames that were not taken for want of a good signature.
    pub refused: u64,
    /// Frames that came twice.
    pub repeated: u64,
    /// With a key, nothing unsigned is taken.
    verifier: Option<Verifier>,
    /// What marks the last frames, where repeats are dropped.
    recent: Option<VecDeque<[u8; 5]>>,
}

/// Of each frame at most this many later ones are looked at for a repeat: fewer than sequence numbers there are, so that
/// the next round of the same message is not taken for one.
const RECENT: usize = 128;
const SIGNED: u8 = 0x01;

/// The longest frame: header 10, payload 255, checksum 2, signature 13.
const LONGEST: usize = 280;

enum Cut {
    /// Not the start of a frame that we can read: go on one byte later.
    Skip,
    NeedsMore,
    Frame(usize, Option<Box<Frame>>),
}

impl Splitter {
    /// Takes signed frames only.
    pub fn verified(verifier: Verifier) -> Self {
        Splitter { verifier: Some(verifier), ..Splitter::default() }
    }

    /// Drops frames that came before: networks double datagrams, and not only by accident.
    pub fn without_repeats(self) -> Self {
        Splitter { recent: Some(VecDeque::with_capacity(RECENT)), ..self }
    }

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
                    let whole = &bytes[at..at + length];
                    at += length;
                    match frame {
                        None => self.skipped += 1,
                        Some(frame) if self.fit(whole, &frame) => frames.push(*frame),
                        Some(_) => {}
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

    fn fit(&mut self, whole: &[u8], frame: &Frame) -> bool {
        if let Some(verifier) = &mut self.verifier {
            let signed = whole[0] == MAV_STX_V2 && whole[2] & SIGNED != 0;
            let sender = (frame.system, frame.component);
            let verdict = if signed { verifier.check(whole, sender) } else { Err(Unfit::Unsigned) };
            if let Err(why) = verdict {
                if self.refused == 0 {
                    tracing::warn!(
                        ?why,
                        ?sender,
                        "a frame without a good signature is not taken; more are counted only"
                    );
                }
                self.refused += 1;
                return false;
            }
        }
        let Some(recent) = &mut self.recent else { return true };
        let sequence = if whole[0] == MAV_STX_V2 { whole[4] } else { whole[2] };
        let end = whole.len() - if whole[0] == MAV_STX_V2 && whole[2] & SIGNED != 0 { signing::LENGTH } else { 0 };
        let mark = [frame.system, frame.component, sequence, whole[end - 2], whole[end - 1]];
        if recent.contains(&mark) {
            self.repeated += 1;
            return false;
        }
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back(mark);
        true
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
            if bytes[2] & !SIGNED != 0 {
                return Cut::Skip;
            }
            let id = u32::from_le_bytes([bytes[7], bytes[8], bytes[9], 0]);
            let signature = if bytes[2] & SIGNED != 0 { signing::LENGTH } else { 0 };
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
    signer: Option<Signer>,
}

impl Encoder {
    pub fn new(system: u8, component: u8) -> Self {
        Encoder { system, component, sequence: 0, signer: None }
    }

    /// Signs every frame.
    pub fn signed(self, signer: Signer) -> Self {
        Encoder { signer: Some(signer), ..self }
    }

    pub fn encode(&mut self, message: &MavMessage) -> Vec<u8> {
        let header =
            MavHeader { system_id: u32::from(self.system), component_id: self.component, sequence: self.sequence };
        self.sequence = self.sequence.wrapping_add(1);
        let mut raw = MAVLinkV2MessageRaw::new();
        raw.serialize_message(header, message);
        let mut frame = raw.raw_bytes().to_vec();
        if let Some(signer) = &mut self.signer {
            const CHECKSUM: usize = 2;
            let end = frame.len() - CHECKSUM;
            frame[2] |= SIGNED;
            let checksum = calculate_crc(&frame[1..end], MavMessage::extra_crc(message.message_id()));
            frame[end..].copy_from_slice(&checksum.to_le_bytes());
            let signature = signer.signature(&frame, Timestamp::now());
            frame.extend(signature);
        }
        frame
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
    fn a_truncated_frame_is_waited_for_on_a_stream_and_dropped_from_a_datagram() {
        let frame = heartbeat();
        for cut in 1..frame.len() {
            let mut splitter = Splitter::default();
            assert!(splitter.datagram(&frame[..cut]).is_empty());
            assert_eq!(splitter.datagram(&frame).len(), 1);
            let mut stream = Splitter::default();
            assert!(stream.stream(&frame[..cut]).is_empty());
            assert_eq!(stream.stream(&frame[cut..]).len(), 1);
        }
    }

    #[test]
    fn a_frame_that_comes_twice_counts_once_and_the_next_round_of_numbers_again() {
        let mut encoder = Encoder::new(1, 1);
        let beat = || MavMessage::HEARTBEAT(HEARTBEAT_DATA::default());
        let frames: Vec<Vec<u8>> = (0..300).map(|_| encoder.encode(&beat())).collect();
        let mut splitter = Splitter::default().without_repeats();
        for (index, frame) in frames.iter().enumerate() {
            assert_eq!(splitter.datagram(frame).len(), 1);
            // Doubled at once, and replayed a while later.
            assert!(splitter.datagram(frame).is_empty());
            assert!(splitter.datagram(&frames[index.saturating_sub(50)]).is_empty());
        }
        assert_eq!(splitter.repeated, 600);
        // Without being told to, nothing is dropped.
        let mut open = Splitter::default();
        assert_eq!(open.datagram(&frames[0]).len() + open.datagram(&frames[0]).len(), 2);
    }

    proptest::proptest! {
        /// Whatever comes over the air: no panic, and a good frame behind it is read.
        #[test]
        fn noise_costs_nothing_but_itself(noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600)) {
            let mut bytes = noise.clone();
            bytes.extend(heartbeat());
            proptest::prop_assert!(!Splitter::default().datagram(&bytes).is_empty());
            let mut stream = Splitter::default();
            let found: usize = noise.chunks(13).map(|chunk| stream.stream(chunk).len()).sum();
            // A false header may claim up to 280 bytes; behind those the stream is in step again.
            let mut beats = 0;
            for _ in 0..30 {
                beats += stream.stream(&heartbeat()).len();
            }
            proptest::prop_assert!(found + beats >= 15, "{} beats", beats);
        }
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
