//! Commands and parameters: ask, wait, ask again, and say in words what came of it.

use std::sync::Arc;
use std::time::Duration;

use mavlink::dialects::common::{
    COMMAND_LONG_DATA, MavCmd, MavMessage, MavParamType, MavResult, PARAM_REQUEST_READ_DATA, PARAM_SET_DATA,
};
use tokio::sync::broadcast;
use tokio::time::{Instant, timeout_at};

use super::frame::Frame;
use super::telemetry::{Autopilot, FlightMode, Telemetry};
use super::{Shared, VehicleError};

const TRIES: u32 = 4;
const ANSWER: Duration = Duration::from_millis(1500);
/// How long a command may say "in progress".
const PROGRESS: Duration = Duration::from_secs(30);
/// How long an acknowledged command may take to show in the heartbeat, which comes once a second.
const EFFECT: Duration = Duration::from_secs(5);
/// The autopilot's own component.
pub(super) const AUTOPILOT: u8 = 1;

/// Waits until `deadline` for a message that `pick` takes. `None` when the time is up.
pub(super) async fn wait<T>(
    frames: &mut broadcast::Receiver<Arc<Frame>>,
    deadline: Instant,
    mut pick: impl FnMut(&MavMessage) -> Option<T>,
) -> Result<Option<T>, VehicleError> {
    loop {
        match timeout_at(deadline, frames.recv()).await {
            Err(_) => return Ok(None),
            Ok(Ok(frame)) => {
                if let Some(found) = pick(&frame.message) {
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

/// Sends a command until it is acknowledged.
pub(super) async fn send(shared: &Shared, what: &str, command: MavCmd, params: &[f32]) -> Result<(), VehicleError> {
    let target_system = target(shared)?;
    let param = |index: usize| params.get(index).copied().unwrap_or_default();
    let mut frames = shared.frames.subscribe();
    let started = Instant::now();
    let mut said = Vec::new();
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
        loop {
            let answer = wait(&mut frames, deadline, |message| match message {
                MavMessage::COMMAND_ACK(ack) if ack.command == command => Some(ack.result),
                MavMessage::STATUSTEXT(text) => {
                    said.push(text.text.to_str().unwrap_or_default().to_owned());
                    None
                }
                _ => None,
            })
            .await?;
            match answer {
                Some(MavResult::MAV_RESULT_ACCEPTED) => return Ok(()),
                Some(MavResult::MAV_RESULT_IN_PROGRESS) => deadline = Instant::now() + PROGRESS,
                Some(result) => {
                    return Err(VehicleError::Refused {
                        command: what.to_owned(),
                        result: in_words(result).to_owned(),
                        said,
                    });
                }
                None => break,
            }
        }
    }
    Err(VehicleError::NoAnswer { command: what.to_owned(), tries: TRIES, within: started.elapsed() })
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
            said: shared
                .telemetry
                .borrow()
                .texts
                .iter()
                .filter(|text| text.received >= began)
                .map(|text| text.text.clone())
                .collect(),
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

/// A parameter as the drone holds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameter {
    pub value: f64,
    kind: MavParamType,
}

pub(super) async fn param_read(shared: &Shared, name: &str) -> Result<Parameter, VehicleError> {
    let target_system = target(shared)?;
    let request = MavMessage::PARAM_REQUEST_READ(PARAM_REQUEST_READ_DATA {
        param_index: -1,
        target_system,
        target_component: AUTOPILOT,
        param_id: name.into(),
    });
    param_exchange(shared, name, request).await
}

pub(super) async fn param_set(shared: &Shared, name: &str, value: f64) -> Result<(), VehicleError> {
    // The type travels with the value, and only the drone knows it.
    let held = param_read(shared, name).await?;
    let bytewise = bytewise(shared);
    let request = MavMessage::PARAM_SET(PARAM_SET_DATA {
        param_value: encode(value, held.kind, bytewise),
        target_system: target(shared)?,
        target_component: AUTOPILOT,
        param_id: name.into(),
        param_type: held.kind,
    });
    param_exchange(shared, name, request).await?;
    // The echo of a set is not what is kept: read again.
    let held = param_read(shared, name).await?.value;
    let close = (held - value).abs() <= 1e-4 * value.abs().max(1.0);
    if close {
        return Ok(());
    }
    Err(VehicleError::ParameterNotKept { name: name.to_owned(), wanted: value, held })
}

async fn param_exchange(shared: &Shared, name: &str, request: MavMessage) -> Result<Parameter, VehicleError> {
    let bytewise = bytewise(shared);
    let mut frames = shared.frames.subscribe();
    for _ in 0..TRIES {
        say(shared, request.clone()).await?;
        let answer = wait(&mut frames, Instant::now() + ANSWER, |message| match message {
            MavMessage::PARAM_VALUE(p) if p.param_id.to_str().is_ok_and(|id| id == name) => {
                Some(Parameter { value: decode(p.param_value, p.param_type, bytewise), kind: p.param_type })
            }
            _ => None,
        })
        .await?;
        if let Some(parameter) = answer {
            return Ok(parameter);
        }
    }
    Err(VehicleError::ParameterUnknown { name: name.to_owned(), tries: TRIES })
}

/// PX4 puts the bits of an integer into the float field, ArduPilot its value.
fn bytewise(shared: &Shared) -> bool {
    shared.telemetry.borrow().autopilot == Some(Autopilot::Px4)
}

fn decode(value: f32, kind: MavParamType, bytewise: bool) -> f64 {
    if !bytewise {
        return f64::from(value);
    }
    let bits = value.to_bits();
    match kind {
        MavParamType::MAV_PARAM_TYPE_INT32 => f64::from(bits as i32),
        MavParamType::MAV_PARAM_TYPE_UINT32 => f64::from(bits),
        MavParamType::MAV_PARAM_TYPE_INT16 => f64::from(bits as i16),
        MavParamType::MAV_PARAM_TYPE_UINT16 => f64::from(bits as u16),
        MavParamType::MAV_PARAM_TYPE_INT8 => f64::from(bits as i8),
        MavParamType::MAV_PARAM_TYPE_UINT8 => f64::from(bits as u8),
        _ => f64::from(value),
    }
}

fn encode(value: f64, kind: MavParamType, bytewise: bool) -> f32 {
    if !bytewise {
        return value as f32;
    }
    match kind {
        MavParamType::MAV_PARAM_TYPE_INT32 | MavParamType::MAV_PARAM_TYPE_INT16 | MavParamType::MAV_PARAM_TYPE_INT8 => {
            f32::from_bits(value.round() as i32 as u32)
        }
        MavParamType::MAV_PARAM_TYPE_UINT32
        | MavParamType::MAV_PARAM_TYPE_UINT16
        | MavParamType::MAV_PARAM_TYPE_UINT8 => f32::from_bits(value.round() as u32),
        _ => value as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_survive_both_ways_of_writing_them() {
        for bytewise in [false, true] {
            for (kind, value) in [
                (MavParamType::MAV_PARAM_TYPE_INT32, -7.0),
                (MavParamType::MAV_PARAM_TYPE_UINT8, 200.0),
                (MavParamType::MAV_PARAM_TYPE_REAL32, 2.5),
            ] {
                assert_eq!(decode(encode(value, kind, bytewise), kind, bytewise), value);
            }
        }
    }
}
