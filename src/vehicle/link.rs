//! The task between the socket and the callers: reads what the drone says, speaks our heartbeat, asks for streams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mavlink::dialects::common::{HEARTBEAT_DATA, MavAutopilot, MavCmd, MavMessage, MavModeFlag, MavState, MavType};
use tokio::sync::{Mutex, broadcast, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::album::Album;
use super::frame::{Encoder, Frame, Splitter};
use super::shots::{NoShot, Shot, ShotMaker};
use super::signing::Signing;
use super::telemetry::{Autopilot, LandedState, Telemetry, is_autopilot};
use super::texts::Assembler;
use super::transport::{Received, Wire};
use super::{Config, Shared, Vehicle, command};
use crate::geo::PoseSigma;
use crate::geo::track::Clock;

/// How many other systems are named before the rest is left uncounted: a noisy band must not fill the memory.
const FOREIGN: usize = 16;
/// For how long the drone must be silent, and was last known to stand disarmed, before another one may take its place.
const LET_GO: Duration = Duration::from_secs(60);

/// What a link may have beside its wire.
#[derive(Default)]
pub(crate) struct Extras {
    pub signing: Option<Signing>,
    pub healthy: Option<watch::Receiver<bool>>,
}

pub(crate) fn spawn(config: Config, wire: Wire, extras: Extras, cancel: CancellationToken) -> Vehicle {
    let (send, to_send) = mpsc::channel(64);
    let (frames, _) = broadcast::channel(512);
    let (shots, _) = broadcast::channel(256);
    let (telemetry_tx, telemetry) = watch::channel(Telemetry::default());
    let (commanded_pitch, commanded_pitch_rx) = watch::channel(None);
    let (recall, recalled) = watch::channel(None);
    let encoder = Encoder::new(config.system_id, config.component_id);
    let (encoder, splitter) = match extras.signing {
        Some(Signing { signer, verifier }) => (encoder.signed(signer), Splitter::verified(verifier)),
        None => (encoder, Splitter::default()),
    };
    let found = wire.peer.subscribe();
    tokio::spawn(write(encoder, to_send, wire.send, found, extras.healthy, cancel.clone()));
    let (turned, alive) = watch::channel(Instant::now());
    let link = Link {
        turned,
        timeout: Duration::from_secs_f64(config.heartbeat_timeout_s),
        us: config.system_id,
        telemetry: telemetry_tx,
        frames: frames.clone(),
        shots: shots.clone(),
        maker: ShotMaker::new(config.pose_sigma.into(), config.camera_clock.into()),
        sigma: config.pose_sigma.into(),
        clock: config.camera_clock.into(),
        commanded_pitch: commanded_pitch_rx,
        album: Album::default(),
        recalled,
        send: send.clone(),
        peer: wire.peer,
        ours: None,
        was_down: false,
        texts: Assembler::default(),
        splitter: splitter.without_repeats(),
    };
    tokio::spawn(link.run(wire.received, cancel.clone()));
    let shared = Arc::new(Shared {
        config,
        send,
        frames,
        telemetry,
        shots,
        commanded_pitch,
        recall,
        alive,
        local: wire.local,
        transfer: Mutex::new(()),
        command: Mutex::new(()),
        unanswered: std::sync::Mutex::default(),
        urgent: Mutex::new(()),
    });
    tokio::spawn(ask_for_streams(shared.clone(), cancel));
    Vehicle { shared }
}

/// Numbers what we say, and says every second that we are here, as long as the station is fit to command a drone: a
/// drone that hears nothing comes home, and that is what it should do then.
async fn write(
    mut encoder: Encoder,
    mut to_send: mpsc::Receiver<MavMessage>,
    wire: mpsc::Sender<Vec<u8>>,
    mut found: watch::Receiver<Option<SocketAddr>>,
    healthy: Option<watch::Receiver<bool>>,
    cancel: CancellationToken,
) {
    // Whoever watched over the station and is gone says nothing good any more.
    let fit = || healthy.as_ref().is_none_or(|healthy| healthy.has_changed().is_ok() && *healthy.borrow());
    let mut was_fit = true;
    let heartbeat = MavMessage::HEARTBEAT(HEARTBEAT_DATA {
        custom_mode: 0,
        mavtype: MavType::MAV_TYPE_GCS,
        autopilot: MavAutopilot::MAV_AUTOPILOT_INVALID,
        base_mode: MavModeFlag::empty(),
        system_status: MavState::MAV_STATE_ACTIVE,
        mavlink_version: 3,
    });
    let mut beat = interval(Duration::from_secs(1));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            // The heartbeat first: commands must not starve what the drone's failsafe listens for.
            biased;
            () = cancel.cancelled() => return,
            _ = beat.tick() => Some(heartbeat.clone()),
            // At once to a drone that was just found: its link-loss failsafe counts from the first one it hears, and
            // nothing may be commanded before.
            Ok(()) = found.changed() => {
                beat.reset();
                Some(heartbeat.clone())
            }
            message = to_send.recv() => message,
        };
        let Some(message) = message else { return };
        if matches!(message, MavMessage::HEARTBEAT(_)) {
            let is_fit = fit();
            if was_fit && !is_fit {
                tracing::error!("the station is not healthy: no heartbeat to the drone, which comes home by itself");
            } else if is_fit && !was_fit {
                tracing::info!("the station is healthy again: the drone hears its heartbeat");
            }
            was_fit = is_fit;
            if !is_fit {
                continue;
            }
        }
        if wire.send(encoder.encode(&message)).await.is_err() {
            return;
        }
    }
}

struct Link {
    turned: watch::Sender<Instant>,
    timeout: Duration,
    us: u8,
    telemetry: watch::Sender<Telemetry>,
    frames: broadcast::Sender<Arc<Frame>>,
    shots: broadcast::Sender<Shot>,
    maker: ShotMaker,
    sigma: PoseSigma,
    clock: Clock,
    commanded_pitch: watch::Receiver<Option<f64>>,
    album: Album,
    /// From which picture on all are wanted.
    recalled: watch::Receiver<Option<u32>>,
    send: mpsc::Sender<MavMessage>,
    peer: watch::Sender<Option<SocketAddr>>,
    ours: Option<Ours>,
    /// The last word on our drone was that it stands on the ground, disarmed.
    was_down: bool,
    texts: Assembler,
    splitter: Splitter,
}

/// The drone that this link is locked to.
#[derive(Debug, Clone, Copy)]
struct Ours {
    system: u8,
    autopilot: u8,
    kind: MavAutopilot,
    from: Option<SocketAddr>,
}

impl Link {
    async fn run(mut self, mut received: mpsc::Receiver<Received>, cancel: CancellationToken) {
        let mut look = interval(Duration::from_millis(250));
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                read = received.recv() => {
                    let Some(Received { from, bytes }) = read else { return };
                    let frames = match from {
                        Some(_) => self.splitter.datagram(&bytes),
                        None => self.splitter.stream(&bytes),
                    };
                    for frame in frames {
                        self.frame(frame, from);
                    }
                }
                _ = look.tick() => {
                    self.turned.send_replace(Instant::now());
                    self.look_for_silence();
                    self.ask_for_pictures();
                }
            }
        }
    }

    fn ask_for_pictures(&mut self) {
        let Some(ours) = self.ours.filter(|_| self.telemetry.borrow().linked) else { return };
        if self.recalled.has_changed().unwrap_or(false)
            && let Some(from) = *self.recalled.borrow_and_update()
        {
            self.album.recall(from);
            // They are told a second time.
            self.maker.forget();
        }
        for request in self.album.due(Instant::now(), ours.system, self.shots.receiver_count() > 0) {
            // A full queue is a slow radio; it is asked again.
            let _ = self.send.try_send(request);
        }
        let (pictures, missing) = (self.album.next(), self.album.missing());
        self.telemetry.send_if_modified(|telemetry| {
            let before = (telemetry.pictures, telemetry.pictures_missing);
            (telemetry.pictures, telemetry.pictures_missing) = (pictures, missing);
            before != (pictures, missing)
        });
    }

    fn look_for_silence(&mut self) {
        let (timeout, unfinished) = (self.timeout, self.texts.overdue(Instant::now()));
        let counted = (self.splitter.skipped, self.splitter.refused, self.splitter.repeated);
        self.telemetry.send_if_modified(|telemetry| {
            let before = (telemetry.unreadable, telemetry.unsigned, telemetry.repeated);
            (telemetry.unreadable, telemetry.unsigned, telemetry.repeated) = counted;
            let garbage = before != counted;
            let finished = unfinished.is_some();
            unfinished.into_iter().for_each(|text| telemetry.said(text));
            let silent = telemetry.last_heartbeat.is_none_or(|at| at.elapsed() > timeout);
            let lost = telemetry.linked && silent;
            if lost {
                tracing::warn!(?timeout, "no heartbeat from the drone: the link is lost");
                telemetry.lost();
            }
            lost || garbage || finished
        });
    }

    fn frame(&mut self, frame: Frame, from: Option<SocketAddr>) {
        let now = Instant::now();
        if let MavMessage::HEARTBEAT(beat) = &frame.message
            && is_autopilot(beat)
            && frame.system != self.us
        {
            self.lock(&frame, beat.autopilot, from);
        }
        let Some(ours) = self.ours else { return };
        let double = match &frame.message {
            // The same numbers and another make: two drones behind one address.
            MavMessage::HEARTBEAT(beat) => frame.component == ours.autopilot && beat.autopilot != ours.kind,
            _ => false,
        };
        if frame.system != ours.system || from != ours.from || double {
            if frame.system != self.us {
                self.foreign(&frame, from, ours);
            }
            return;
        }
        match &frame.message {
            MavMessage::HEARTBEAT(beat) => {
                if frame.component == ours.autopilot {
                    self.telemetry.send_modify(|telemetry| {
                        if !telemetry.linked {
                            tracing::info!(system = frame.system, "the drone is on the link");
                        }
                        telemetry.system_id = Some(frame.system);
                        telemetry.heartbeat(beat, now);
                    });
                } else if beat.mavtype == MavType::MAV_TYPE_CAMERA {
                    self.album.camera_is(frame.component);
                }
            }
            MavMessage::CAMERA_CAPTURE_STATUS(status) => {
                self.album.count(u32::try_from(status.image_count).unwrap_or_default());
            }
            MavMessage::GIMBAL_DEVICE_ATTITUDE_STATUS(status) => {
                let vehicle = self.telemetry.borrow().attitude;
                self.maker.gimbal(status, vehicle);
            }
            MavMessage::CAMERA_IMAGE_CAPTURED(report) => {
                self.album.camera_is(frame.component);
                self.album.heard(u32::try_from(report.image_index).unwrap_or_default());
                self.maker.commanded_pitch_deg = *self.commanded_pitch.borrow();
                let vehicle = self.telemetry.borrow().attitude;
                match self.maker.shot(report, vehicle, Timestamp::now()) {
                    // Nobody listening is not an error: a picture outside of a sortie is nobody's.
                    Ok(shot) => drop(self.shots.send(shot)),
                    Err(NoShot::Repeated) => {}
                    Err(why) => {
                        tracing::warn!(index = report.image_index, ?why, "a picture cannot be used");
                    }
                }
            }
            // Texts of a camera or a gimbal must not be woven into the autopilot's.
            MavMessage::STATUSTEXT(_) if frame.component != ours.autopilot => {}
            MavMessage::STATUSTEXT(piece) => {
                let texts = self.texts.take(piece, now);
                self.telemetry.send_modify(|telemetry| texts.into_iter().for_each(|text| telemetry.said(text)));
            }
            message => {
                if let MavMessage::GLOBAL_POSITION_INT(position) = message {
                    self.maker.moves(position);
                }
                self.telemetry.send_modify(|telemetry| telemetry.apply(message, now));
            }
        }
        let telemetry = self.telemetry.borrow();
        if telemetry.linked {
            self.was_down = telemetry.armed == Some(false) && telemetry.landed == LandedState::OnGround;
        }
        drop(telemetry);
        // An error means that nobody waits for an answer.
        let _ = self.frames.send(Arc::new(frame));
    }

    /// Decides which drone is ours, by a heartbeat of an autopilot.
    fn lock(&mut self, frame: &Frame, kind: MavAutopilot, from: Option<SocketAddr>) {
        let (linked, silent) = {
            let telemetry = self.telemetry.borrow();
            (telemetry.linked, telemetry.last_heartbeat.is_none_or(|at| at.elapsed() >= LET_GO))
        };
        let candidate = Ours { system: frame.system, autopilot: frame.component, kind, from };
        match self.ours {
            None => {
                tracing::info!(system = frame.system, ?from, "found the drone");
                self.ours = Some(candidate);
                self.peer.send_replace(from);
            }
            // The same drone from another address, or with another firmware: it restarted. While the old one is alive
            // it is a double.
            Some(ours) if ours.system == frame.system => {
                if !linked && (ours.from != from || ours.kind != kind) {
                    tracing::info!(system = frame.system, ?from, "the drone is back");
                    self.ours = Some(candidate);
                    self.peer.send_replace(from);
                }
            }
            // Another drone in the place of ours. Never while ours may be in the air: then it is ours that must be found.
            Some(ours) if silent && self.was_down => {
                tracing::warn!(
                    gone = ours.system,
                    system = frame.system,
                    ?from,
                    "another drone has taken the place of ours"
                );
                self.ours = Some(candidate);
                self.was_down = false;
                // What was known was known of the other one.
                self.telemetry.send_modify(|telemetry| *telemetry = telemetry.of_another());
                self.maker = ShotMaker::new(self.sigma, self.clock);
                self.album = Album::default();
                self.peer.send_replace(from);
            }
            Some(_) => {}
        }
    }

    fn foreign(&self, frame: &Frame, from: Option<SocketAddr>, ours: Ours) {
        let who = if frame.system == ours.system {
            let address = from.map_or_else(String::new, |from| from.to_string());
            if from == ours.from {
                format!("system {} again, another autopilot", frame.system)
            } else {
                format!("system {} again, from {address}", frame.system)
            }
        } else {
            format!("system {} component {}", frame.system, frame.component)
        };
        self.telemetry.send_modify(|telemetry| {
            let known = telemetry.foreign_systems.len();
            match telemetry.foreign_systems.get_mut(&who) {
                Some(count) => *count += 1,
                None if known < FOREIGN => {
                    tracing::warn!(%who, "another system on the drone's link is ignored");
                    telemetry.foreign_systems.insert(who, 1);
                }
                None => {}
            }
        });
    }
}

/// What we want to hear, and how often a second.
const STREAMS: [(u32, f32); 12] = [
    (33, 4.0),  // GLOBAL_POSITION_INT
    (30, 4.0),  // ATTITUDE
    (1, 1.0),   // SYS_STATUS
    (24, 1.0),  // GPS_RAW_INT
    (245, 2.0), // EXTENDED_SYS_STATE
    (42, 1.0),  // MISSION_CURRENT
    (285, 5.0), // GIMBAL_DEVICE_ATTITUDE_STATUS
    (147, 0.5), // BATTERY_STATUS
    (242, 0.5), // HOME_POSITION
    (2, 0.5),   // SYSTEM_TIME
    (230, 1.0), // ESTIMATOR_STATUS
    (370, 0.1), // SMART_BATTERY_INFO
];

/// ArduPilot says these in other messages or not at all, and answers each request with a text to its operator.
const NOT_OF_ARDUPILOT: [u32; 2] = [230, 370];

/// Each time the drone appears, and whenever its position falls silent, asks for the streams.
async fn ask_for_streams(shared: Arc<Shared>, cancel: CancellationToken) {
    let mut telemetry = shared.telemetry.clone();
    loop {
        let asked = async {
            if telemetry.wait_for(|t| t.linked).await.is_err() {
                return false;
            }
            let ardupilot = telemetry.borrow().autopilot == Some(Autopilot::ArduPilot);
            for (message, hertz) in STREAMS {
                if ardupilot && NOT_OF_ARDUPILOT.contains(&message) {
                    continue;
                }
                let _turn = shared.command.lock().await;
                let period_us = 1e6 / hertz;
                let asked = command::send(
                    &shared,
                    "request of telemetry",
                    MavCmd::MAV_CMD_SET_MESSAGE_INTERVAL,
                    &[message as f32, period_us],
                )
                .await;
                // A drone without that message says so; what we need and lack shows as unknown.
                if let Err(error) = asked {
                    tracing::debug!(%error, message, "a stream is not available");
                }
            }
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let now = telemetry.borrow();
                let quiet = |at: Option<Instant>| at.is_none_or(|at| at.elapsed() > Duration::from_secs(5));
                if !now.linked || quiet(now.landed_received) || quiet(now.battery_received) {
                    return true;
                }
            }
        };
        let go_on = tokio::select! {
            () = cancel.cancelled() => return,
            go_on = asked => go_on,
        };
        if !go_on {
            return;
        }
    }
}
