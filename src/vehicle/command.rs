//! Commands: ask, wait, ask again, and say in words what came of it.

use std::sync::Arc;
use std::time::Duration;

use mavlink::dialects::common::{COMMAND_LONG_DATA, MavCmd, MavMessage, MavResult};
use tokio::sync::broadcast;
use tokio::time::{Instant, timeout_at};

use super::frame::Frame;
use super::telemetry::{FlightMode, Telemetry};
use super::{Shared, VehicleError};

const TRIES: u32 = 4;
const ANSWER: Duration = Duration::from_millis(1500);
/// How long a command may say "in progress".
const PROGRESS: Duration = Duration::from_secs(30);
/// For how long the answer to a command that was given up may still come. It names no more than the kind of command.
const LATE: Duration = Duration::from_secs(15);
/// How long an acknowledged command may take to show in the heartbeat, which comes once a second.
const EFFECT: Duration = Duration::from_secs(5);
/// The autopilot's own component.
pub(super) const AUTOPILOT: u8 = 1;

/// Waits until `deadline` for a frame that `pick` takes. `None` when the time is up.
pub(super) async fn wait<T>(
    frames: &mut broadcast::Receiver<Arc<Frame>>,
    deadline: Instant,
    mut pick: impl FnMut(&Frame) -> Option<T>,
) -> Result<Option<T>, VehicleError> {
    loop {
        match timeout_at(deadline, frames.recv()).await {
            Err(_) => return Ok(None),
            Ok(Ok(frame)) => {
                if let Some(found) = pick(&frame) {
                    return Ok(Some(found));
                }
            }
            // What was missed counts as lost on the way: the caller asks again.
            Ok(Err(broadcast::error::RecvError::Lagged(_))) => {}
            Ok(Err(broadcast::error::RecvError::Closed)) => return Err(VehicleError::Gone),
        }
    }
}

pub(super) async fn say(shared: &Shared, message: MavMessage) -> Result<(), VehicleError> {
    shared.send.send(message).await.map_err(|_| VehicleError::Gone)
}

pub(super) fn target(shared: &Shared) -> Result<u8, VehicleError> {
    shared.telemetry.borrow().system_id.ok_or(VehicleError::NotLinked)
}

/// Says a command once and waits for nothing.
pub(super) async fn tell(shared: &Shared, command: MavCmd) -> Result<(), VehicleError> {
    let target_system = target(shared)?;
    let data = COMMAND_LONG_DATA { command, target_system, target_component: AUTOPILOT, ..Default::default() };
    say(shared, MavMessage::COMMAND_LONG(data)).await
}

/// Sends a command until it is acknowledged.
pub(super) async fn send(shared: &Shared, what: &str, command: MavCmd, params: &[f32]) -> Result<(), VehicleError> {
    let target_system = target(shared)?;
    let param = |index: usize| params.get(index).copied().unwrap_or_default();
    let mut frames = shared.frames.subscribe();
    let started = Instant::now();
    let earlier = lock(&shared.unanswered).remove(&(command as u32));
    let doubtful = earlier.is_some_and(|at| at.elapsed() < LATE);
    for confirmation in 0..TRIES {
        say(
            shared,
            MavMessage::COMMAND_LONG(COMMAND_LONG_DATA {
                param1: param(0),
                param2: param(1),
                param3: param(2),
                param4: param(3),
                param5: param(4),
                param6: param(5),
                param7: param(6),
                command,
                target_system,
                target_component: AUTOPILOT,
                confirmation: confirmation as u8,
            }),
        )
        .await?;
        let mut deadline = Instant::now() + ANSWER;
        let mut doubted = None;
        loop {
            let us = (shared.config.system_id, shared.config.component_id);
            let answer = wait(&mut frames, deadline, |frame| acknowledged(frame, command, us)).await?;
            match answer {
                Some(MavResult::MAV_RESULT_ACCEPTED) => return Ok(()),
                Some(MavResult::MAV_RESULT_IN_PROGRESS) => deadline = Instant::now() + PROGRESS,
                // A no that may be the late answer to an earlier command: if this one has its own, it comes soon.
                Some(result) if doubtful && doubted.is_none() => {
                    doubted = Some(result);
                    deadline = Instant::now() + ANSWER;
                }
                Some(result) => return Err(refused(shared, what, result, started)),
                None => break,
            }
        }
        if let Some(result) = doubted {
            return Err(refused(shared, what, result, started));
        }
    }
    lock(&shared.unanswered).insert(command as u32, Instant::now());
    Err(VehicleError::NoAnswer { command: what.to_owned(), tries: TRIES, within: started.elapsed() })
}

/// The answer to a command of ours, if the frame is one: from the autopilot, not from a camera beside it, and not to
/// another ground station.
fn acknowledged(frame: &Frame, command: MavCmd, us: (u8, u8)) -> Option<MavResult> {
    match &frame.message {
        MavMessage::COMMAND_ACK(ack) if ack.command == command && frame.component == AUTOPILOT => {
            let (system, component) = us;
            let for_us = ack.target_system == 0 || ack.target_system == system;
            let for_our_part = ack.target_component == 0 || ack.target_component == component;
            (for_us && for_our_part).then_some(ack.result)
        }
        _ => None,
    }
}

fn refused(shared: &Shared, what: &str, result: MavResult, since: Instant) -> VehicleError {
    VehicleError::Refused { command: what.to_owned(), result: in_words(result).to_owned(), said: said(shared, since) }
}

/// What the drone said meanwhile.
fn said(shared: &Shared, since: Instant) -> Vec<String> {
    let telemetry = shared.telemetry.borrow();
    telemetry.texts.iter().filter(|text| text.received >= since).map(|text| text.text.clone()).collect()
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A map of times is whole whatever its last user was doing.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(super) async fn set_mode(shared: &Shared, what: &str, mode: FlightMode) -> Result<(), VehicleError> {
    let autopilot = shared.telemetry.borrow().autopilot;
    let modes = autopilot.and_then(|autopilot| mode.encode(autopilot));
    let Some((main, sub)) = modes else {
        return Err(VehicleError::Unsupported { command: what.to_owned(), autopilot });
    };
    const CUSTOM_MODE: f32 = 1.0;
    let params = [CUSTOM_MODE, main as f32, sub as f32];
    send(shared, what, MavCmd::MAV_CMD_DO_SET_MODE, &params).await
}

/// Waits until the telemetry shows what a command should have brought about.
pub(super) async fn see(
    shared: &Shared,
    what: &str,
    wanted: &str,
    shows: impl FnMut(&Telemetry) -> bool,
) -> Result<(), VehicleError> {
    let mut telemetry = shared.telemetry.clone();
    let began = Instant::now();
    let seen = tokio::time::timeout(EFFECT, telemetry.wait_for(shows)).await;
    match seen {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(VehicleError::Gone),
        Err(_) => Err(VehicleError::NoEffect {
            command: what.to_owned(),
            wanted: wanted.to_owned(),
            within: EFFECT,
            said: said(shared, began),
        }),
    }
}

fn in_words(result: MavResult) -> &'static str {
    match result {
        MavResult::MAV_RESULT_ACCEPTED => "accepted",
        MavResult::MAV_RESULT_TEMPORARILY_REJECTED => "not now",
        MavResult::MAV_RESULT_DENIED => "denied",
        MavResult::MAV_RESULT_UNSUPPORTED => "not supported",
        MavResult::MAV_RESULT_FAILED => "failed",
        MavResult::MAV_RESULT_IN_PROGRESS => "in progress",
        MavResult::MAV_RESULT_CANCELLED => "cancelled",
        MavResult::MAV_RESULT_COMMAND_LONG_ONLY => "only as COMMAND_LONG",
        MavResult::MAV_RESULT_COMMAND_INT_ONLY => "only as COMMAND_INT",
        MavResult::MAV_RESULT_COMMAND_UNSUPPORTED_MAV_FRAME => "frame not supported",
        MavResult::MAV_RESULT_NOT_IN_CONTROL => "another ground station has control",
    }
}
