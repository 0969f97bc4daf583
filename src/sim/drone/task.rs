//! The simulated drone's socket, clock and camera thread.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::autopilot::{AUTOPILOT, Autopilot, CAMERA, REMOTE_ID, SYSTEM};
use super::failsafe::FENCE_POLYGON;
use super::{Camera, DOCK_M, DroneConfig, DroneHandle, DroneLink, Exposure, Faults, Truth};
use crate::vehicle::frame::{Encoder, Splitter};

const TICK: Duration = Duration::from_millis(20);
/// The longest step of the physics.
const STEP_S: f64 = 0.05;
/// The drone's clock stands still while more pictures wait: a slow computer makes a slow flight, never a gap in it.
const PICTURES_WAITING: usize = 2;

/// A finished picture: its index and its file, or nothing where it failed.
pub(in crate::sim) type Finished = (u32, Option<String>);

pub(super) async fn spawn(
    config: DroneConfig,
    camera: impl Camera,
    cancel: CancellationToken,
) -> std::io::Result<DroneHandle> {
    let (socket, peer) = match config.link {
        DroneLink::SendTo(peer) => {
            let any = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            (UdpSocket::bind(any).await?, Some(peer))
        }
        DroneLink::Listen(at) => (UdpSocket::bind(at).await?, None),
    };
    let local = socket.local_addr()?;
    let autopilot = Autopilot::new(config.home, config.seed, &config.parameters, config.faults.clone());
    let (truth_tx, truth) = watch::channel(truth_of(&autopilot));
    let (faults, faults_rx) = watch::channel(config.faults);
    // Never full: no more than the waiting pictures and those of one step are on the way.
    let (to_camera, exposures) = mpsc::channel(16);
    let (finished_tx, finished) = mpsc::channel(16);
    tokio::task::spawn_blocking(move || take_pictures(camera, exposures, &finished_tx));
    let task = Task {
        autopilot,
        socket,
        peer,
        listens: matches!(config.link, DroneLink::Listen(_)),
        splitter: Splitter::default(),
        as_autopilot: Encoder::new(SYSTEM, AUTOPILOT),
        as_camera: Encoder::new(SYSTEM, CAMERA),
        as_remote_id: Encoder::new(SYSTEM, REMOTE_ID),
        speed: config.speed.max(0.0),
        wind: config.wind,
        to_camera,
        truth: truth_tx,
    };
    tokio::spawn(task.run(finished, faults_rx, cancel));
    Ok(DroneHandle::of(truth, faults, local))
}

/// Ends when the drone's task drops its end of the queue.
pub(in crate::sim) fn take_pictures(
    mut camera: impl Camera,
    mut exposures: mpsc::Receiver<Exposure>,
    finished: &mpsc::Sender<Finished>,
) {
    while let Some(exposure) = exposures.blocking_recv() {
        let file = match camera.expose(&exposure) {
            Ok(file) => Some(file),
            Err(error) => {
                tracing::error!(index = exposure.index, %error, "the simulated camera failed");
                None
            }
        };
        if finished.blocking_send((exposure.index, file)).is_err() {
            return;
        }
    }
}

struct Task {
    autopilot: Autopilot,
    socket: UdpSocket,
    peer: Option<SocketAddr>,
    listens: bool,
    splitter: Splitter,
    as_autopilot: Encoder,
    as_camera: Encoder,
    as_remote_id: Encoder,
    speed: f64,
    wind: watch::Receiver<super::WindNow>,
    to_camera: mpsc::Sender<Exposure>,
    truth: watch::Sender<Truth>,
}

impl Task {
    async fn run(
        mut self,
        mut finished: mpsc::Receiver<Finished>,
        mut faults: watch::Receiver<Faults>,
        cancel: CancellationToken,
    ) {
        let mut tick = interval(TICK);
        // A late tick is not made up for: simulated time then runs slower, evenly.
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut buffer = vec![0; 2048];
        let mut last = tokio::time::Instant::now();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = tick.tick() => {
                    if faults.has_changed().unwrap_or(false) {
                        self.autopilot.faults = faults.borrow_and_update().clone();
                    }
                    let now = tokio::time::Instant::now();
                    let wall = now.duration_since(last).as_secs_f64();
                    last = now;
                    self.advance().await;
                    self.autopilot.wall(wall);
                    self.truth.send_replace(truth_of(&self.autopilot));
                }
                read = self.socket.recv_from(&mut buffer) => {
                    // Before the message that was sent after the switch was thrown.
                    if faults.has_changed().unwrap_or(false) {
                        self.autopilot.faults = faults.borrow_and_update().clone();
                    }
                    // An error is the echo of a station that does not listen yet.
                    if let Ok((length, from)) = read
                        && !(self.autopilot.faults.mute || self.autopilot.faults.deaf)
                    {
                        if self.listens {
                            self.peer = Some(from);
                        }
                        for frame in self.splitter.datagram(&buffer[..length]) {
                            self.autopilot.receive(&frame);
                        }
                    }
                }
                Some((index, file)) = finished.recv() => {
                    self.autopilot.picture_done(index, file.as_deref().ok_or(()));
                }
            }
            self.send().await;
        }
    }

    async fn advance(&mut self) {
        let wind = *self.wind.borrow();
        let mut left = TICK.as_secs_f64() * self.speed;
        while left > 1e-9 && self.autopilot.pictures_pending() <= PICTURES_WAITING {
            let dt = left.min(STEP_S);
            left -= dt;
            self.autopilot.step(dt, wind, Timestamp::now());
            for exposure in self.autopilot.take_exposures() {
                let index = exposure.index;
                if self.to_camera.send(exposure).await.is_err() {
                    self.autopilot.picture_done(index, Err(()));
                }
            }
        }
    }

    async fn send(&mut self) {
        let outbox = self.autopilot.take_outbox();
        let Some(peer) = self.peer else { return };
        if self.autopilot.faults.mute || self.autopilot.faults.voiceless {
            return;
        }
        for (component, message) in outbox {
            let bytes = match component {
                CAMERA => self.as_camera.encode(&message),
                REMOTE_ID => self.as_remote_id.encode(&message),
                _ => self.as_autopilot.encode(&message),
            };
            if self.autopilot.faults.babble {
                for noise in babble(&bytes) {
                    let _ = self.socket.send_to(&noise, peer).await;
                }
            }
            // A lost datagram is a lost datagram, here as on the air.
            let _ = self.socket.send_to(&bytes, peer).await;
        }
    }
}

/// What a bad link adds: garbage, a frame of an unknown number, a truncated frame, a flipped bit.
fn babble(frame: &[u8]) -> [Vec<u8>; 4] {
    let mut unknown = frame.to_vec();
    if let Some(number) = unknown.get_mut(7..10) {
        number.copy_from_slice(&[0x39, 0x30, 0x00]);
    }
    let mut flipped = frame.to_vec();
    if let Some(byte) = flipped.last_mut() {
        *byte ^= 0x40;
    }
    let half = frame[..frame.len() / 2].to_vec();
    [vec![0xFD, 0xFF, 0x00, 0xFE, 0x10], unknown, half, flipped]
}

fn truth_of(autopilot: &Autopilot) -> Truth {
    let position = autopilot.body.position;
    let (at, up_m) = autopilot.ground.place(position);
    let log = autopilot.log;
    let fenced = autopilot.params.get("FENCE_ENABLE") >= 1.0
        && autopilot.params.get("FENCE_ACTION") >= 1.0
        && autopilot.params.get("FENCE_TYPE") as u32 & FENCE_POLYGON != 0
        && !autopilot.fences.is_empty();
    Truth {
        at,
        east_m: position[0],
        north_m: position[1],
        up_m,
        yaw_deg: autopilot.body.attitude.yaw_deg,
        armed: autopilot.armed,
        mode: autopilot.mode as u32,
        in_dock: autopilot.body.on_ground() && position[0].hypot(position[1]) < DOCK_M,
        battery_pct: autopilot.pack.charge_pct,
        shots_taken: autopilot.next_index,
        in_air: !autopilot.body.on_ground(),
        coming_home: autopilot.coming_home(),
        mission_flown: log.mission_flown,
        arms: log.arms,
        launches: log.launches,
        crashed: log.crashed,
        satellites: autopilot.satellites(),
        position_ok: autopilot.estimator.position_ok(),
        fenced,
        outside_m: autopilot.fences.outside_m(at, &autopilot.ground),
    }
}
