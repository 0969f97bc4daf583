//! The bridge's sockets, its clock and the camera's thread.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;
use mavlink::dialects::common::{COMMAND_LONG_DATA, MavCmd, MavMessage, MavParamType, MavType, PARAM_SET_DATA};
use mavlink::{Message, calculate_crc};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Bridge;
use super::aboard::{Aboard, CAMERA, GIMBAL, REMOTE_ID, beat};
use super::cut::{Cutter, with_time_of_day};
use crate::sim::drone::{Camera, DroneHandle, Exposure, Faults, Finished, Truth, take_pictures};
use crate::vehicle::Autopilot;
use crate::vehicle::frame::{Encoder, Frame, Splitter};
use crate::vehicle::transport::{Received, Wire};

const TICK: Duration = Duration::from_millis(200);
/// What the bridge wants to hear, and how often a second. The station asks for most of it too; the last word holds.
const STREAMS: [(u32, f32); 8] = [
    (33, 4.0),  // GLOBAL_POSITION_INT
    (108, 4.0), // SIM_STATE
    (30, 4.0),  // ATTITUDE
    (242, 0.5), // HOME_POSITION
    (245, 2.0), // EXTENDED_SYS_STATE
    (24, 1.0),  // GPS_RAW_INT
    (42, 1.0),  // MISSION_CURRENT
    (1, 1.0),   // SYS_STATUS
];
/// The autopilot fell silent, or was started again: it has forgotten what it was asked for.
const QUIET: Duration = Duration::from_secs(4);
const CHARGE_EVERY: Duration = Duration::from_secs(10);

/// What the bridge says to the autopilot, as the camera that it plays.
pub struct Voice {
    system: u8,
    encoder: Encoder,
}

impl Voice {
    pub fn new(system: u8) -> Self {
        Voice { system, encoder: Encoder::new(system, CAMERA) }
    }

    /// A word, so that it is known where we are.
    pub fn hello(&mut self) -> Vec<u8> {
        self.encoder.encode(&beat(MavType::MAV_TYPE_CAMERA))
    }

    fn command(&mut self, command: MavCmd, params: [f32; 2]) -> Vec<u8> {
        const AUTOPILOT: u8 = 1;
        self.encoder.encode(&MavMessage::COMMAND_LONG(COMMAND_LONG_DATA {
            command,
            param1: params[0],
            param2: params[1],
            target_system: self.system,
            target_component: AUTOPILOT,
            ..Default::default()
        }))
    }

    /// What an autopilot is asked for when it appears: every stream, and a battery for a patrol.
    pub fn welcome(&mut self, autopilot: Option<Autopilot>) -> Vec<Vec<u8>> {
        let mut said: Vec<_> = STREAMS
            .iter()
            .map(|(id, hertz)| self.command(MavCmd::MAV_CMD_SET_MESSAGE_INTERVAL, [*id as f32, 1e6 / hertz]))
            .collect();
        said.extend(self.large_battery(autopilot));
        said
    }

    /// Simulated batteries are too small for a patrol: ArduPilot's lasts for seven minutes of hovering, of which a third is
    /// reserve; PX4's is half empty after thirty seconds, and stays so.
    fn large_battery(&mut self, autopilot: Option<Autopilot>) -> Option<Vec<u8>> {
        const AUTOPILOT: u8 = 1;
        const CAPACITY_MAH: f32 = 12_000.0;
        const EMPTY_AFTER_S: f32 = 1_500.0;
        let (param_id, param_value, param_type) = match autopilot? {
            Autopilot::ArduPilot => ("BATT_CAPACITY", CAPACITY_MAH, MavParamType::MAV_PARAM_TYPE_INT32),
            Autopilot::Px4 => ("SIM_BAT_DRAIN", EMPTY_AFTER_S, MavParamType::MAV_PARAM_TYPE_REAL32),
            Autopilot::Other(_) => return None,
        };
        Some(self.encoder.encode(&MavMessage::PARAM_SET(PARAM_SET_DATA {
            param_value,
            target_system: self.system,
            target_component: AUTOPILOT,
            param_id: param_id.into(),
            param_type,
        })))
    }

    /// ArduPilot's MAV_CMD_BATTERY_RESET: all batteries full. The common dialect lacks its number, so it is put into a
    /// command of another one.
    fn full_battery(&mut self) -> Vec<u8> {
        const BATTERY_RESET: u16 = 42651;
        const COMMAND_LONG: u32 = 76;
        const COMMAND: std::ops::Range<usize> = 10 + 28..10 + 30;
        const ALL: f32 = 65535.0;
        let mut frame = self.command(MavCmd::MAV_CMD_SET_MESSAGE_INTERVAL, [ALL, 100.0]);
        let end = frame.len() - 2;
        frame[COMMAND].copy_from_slice(&BATTERY_RESET.to_le_bytes());
        let crc = calculate_crc(&frame[1..end], MavMessage::extra_crc(COMMAND_LONG));
        frame[end..].copy_from_slice(&crc.to_le_bytes());
        frame
    }
}

pub(super) async fn spawn(
    bridge: Bridge,
    station: SocketAddr,
    camera: impl Camera,
    cancel: CancellationToken,
) -> std::io::Result<DroneHandle> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let local = socket.local_addr()?;
    let system = bridge.voice.system;
    let aboard = Aboard::new(bridge.home, bridge.said);
    let (truth_tx, truth) = watch::channel(aboard.truth());
    let (faults, faults_rx) = watch::channel(Faults::default());
    // More than this wait only when the computer is too slow for the flight; those pictures are reported as failed.
    let (to_camera, exposures) = mpsc::channel(8);
    let (finished_tx, finished) = mpsc::channel(16);
    tokio::task::spawn_blocking(move || take_pictures(camera, exposures, &finished_tx));
    let task = Task {
        aboard,
        wire: bridge.wire,
        cutter: bridge.cutter,
        voice: bridge.voice,
        socket,
        station,
        parts: [CAMERA, GIMBAL, REMOTE_ID].map(|component| (component, Encoder::new(system, component))),
        to_camera,
        truth: truth_tx,
        faults: faults_rx,
        heard: Instant::now(),
        asked: None,
        charged: None,
    };
    tokio::spawn(task.run(finished, cancel));
    Ok(DroneHandle::of(truth, faults, local))
}

struct Task {
    aboard: Aboard,
    wire: Wire,
    cutter: Cutter,
    voice: Voice,
    socket: UdpSocket,
    station: SocketAddr,
    parts: [(u8, Encoder); 3],
    to_camera: mpsc::Sender<Exposure>,
    truth: watch::Sender<Truth>,
    faults: watch::Receiver<Faults>,
    /// The last position.
    heard: Instant,
    asked: Option<Instant>,
    charged: Option<Instant>,
}

impl Task {
    async fn run(mut self, mut finished: mpsc::Receiver<Finished>, cancel: CancellationToken) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut buffer = vec![0; 2048];
        let mut ticks = 0_u32;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                received = self.wire.received.recv() => {
                    let Some(received) = received else { return };
                    self.autopilot_said(received).await;
                }
                read = self.socket.recv_from(&mut buffer) => {
                    // An error is the echo of a station that does not listen yet.
                    if let Ok((length, from)) = read && from == self.station {
                        self.station_said(&buffer[..length]).await;
                    }
                }
                Some((index, file)) = finished.recv() => self.picture_done(index, file.as_deref()).await,
                _ = tick.tick() => {
                    self.tick(ticks).await;
                    ticks = ticks.wrapping_add(1);
                }
            }
        }
    }

    async fn autopilot_said(&mut self, received: Received) {
        for raw in self.cutter.push(&received.bytes) {
            for frame in Splitter::default().datagram(&raw) {
                self.hear(&frame, received.from).await;
            }
            let utc_us = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or_default();
            self.to_station(&with_time_of_day(raw, utc_us)).await;
        }
    }

    async fn hear(&mut self, frame: &Frame, from: Option<SocketAddr>) {
        if frame.system != self.voice.system {
            return;
        }
        match frame.message {
            // Started again, it may speak from another port.
            MavMessage::HEARTBEAT(_) => drop(self.wire.peer.send_replace(from)),
            MavMessage::GLOBAL_POSITION_INT(_) => self.heard = Instant::now(),
            _ => {}
        }
        let Some(exposure) = self.aboard.hear(&frame.message, Instant::now(), Timestamp::now()) else { return };
        self.truth.send_replace(self.aboard.truth());
        // A camera that hangs takes no picture and says nothing of it.
        if self.faults.borrow().camera_stalled {
            return;
        }
        let index = exposure.index;
        if self.to_camera.try_send(exposure).is_err() {
            tracing::warn!(index, "this computer draws too slowly for the flight: a picture is given up");
            self.picture_done(index, None).await;
        }
    }

    async fn picture_done(&mut self, index: u32, file: Option<&str>) {
        if let Some(report) = self.aboard.picture_done(index, file) {
            self.say(CAMERA, &report).await;
        }
    }

    async fn station_said(&mut self, bytes: &[u8]) {
        let lost = {
            let faults = self.faults.borrow();
            faults.mute || faults.deaf
        };
        if lost {
            return;
        }
        for frame in Splitter::default().datagram(bytes) {
            self.aboard.overhear(&frame.message);
            if let Some(answers) = self.aboard.ask_camera(&frame) {
                for answer in &answers {
                    self.say(CAMERA, answer).await;
                }
                return;
            }
        }
        // A full queue loses it, as a radio would; who waits for an answer asks again.
        let _ = self.wire.send.try_send(bytes.to_vec());
    }

    async fn tick(&mut self, ticks: u32) {
        let faults = self.faults.borrow().clone();
        if ticks.is_multiple_of(5) {
            for (component, message) in self.aboard.heartbeats(&faults) {
                self.say(component, &message).await;
            }
        }
        if let Some(status) = self.aboard.gimbal() {
            self.say(GIMBAL, &status).await;
        }
        let due = |at: Option<Instant>, pause| at.is_none_or(|at: Instant| at.elapsed() > pause);
        if self.heard.elapsed() > QUIET && due(self.asked, QUIET) {
            self.asked = Some(Instant::now());
            for request in self.voice.welcome(self.aboard.autopilot()) {
                let _ = self.wire.send.try_send(request);
            }
        }
        if self.aboard.wants_charge() && due(self.charged, CHARGE_EVERY) {
            self.charged = Some(Instant::now());
            let full = self.voice.full_battery();
            let _ = self.wire.send.try_send(full);
        }
        self.truth.send_replace(self.aboard.truth());
    }

    /// Says it as one of the parts that the autopilot lacks.
    async fn say(&mut self, component: u8, message: &MavMessage) {
        let encoder = self.parts.iter_mut().find(|(known, _)| *known == component);
        if let Some((_, encoder)) = encoder {
            let bytes = encoder.encode(message);
            self.to_station(&bytes).await;
        }
    }

    async fn to_station(&self, bytes: &[u8]) {
        let lost = {
            let faults = self.faults.borrow();
            faults.mute || faults.voiceless
        };
        if !lost {
            // A lost datagram is a lost datagram, here as on the air.
            let _ = self.socket.send_to(bytes, self.station).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_battery_is_asked_for_under_the_number_that_ardupilot_knows() {
        let frame = Voice::new(1).full_battery();
        assert_eq!(Cutter::default().push(&frame), std::slice::from_ref(&frame));
        assert_eq!(u16::from_le_bytes([frame[38], frame[39]]), 42651);
    }
}
