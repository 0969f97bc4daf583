//! The drone's parameters: read many at once, set one and prove that it stuck.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mavlink::dialects::common::{MavMessage, MavParamType, PARAM_REQUEST_READ_DATA, PARAM_SET_DATA};
use tokio::time::Instant;

use super::command::{AUTOPILOT, say, target, wait};
use super::frame::Frame;
use super::telemetry::Autopilot;
use super::{Shared, VehicleError};

const TRIES: u32 = 4;
const ANSWER: Duration = Duration::from_millis(1500);
/// How many requests are on the way at once. Autopilots queue about twenty and drop the rest.
const AT_ONCE: usize = 10;

/// A parameter as the drone holds it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Parameter {
    pub value: f64,
    kind: MavParamType,
}

#[cfg(test)]
impl Parameter {
    pub fn at(value: f64) -> Self {
        Parameter { value, kind: MavParamType::MAV_PARAM_TYPE_REAL32 }
    }
}

/// One parameter, under the names that it has in different firmwares.
#[derive(Debug, Clone)]
pub(super) struct Sought<'a> {
    pub names: Vec<&'a str>,
    /// A firmware without it is fine, so silence is believed sooner.
    pub optional: bool,
}

/// The sought parameters that the drone knows. Once one name of a parameter answered, nobody waits for the others.
pub(super) async fn read_all(
    shared: &Shared,
    sought: &[Sought<'_>],
) -> Result<BTreeMap<String, Parameter>, VehicleError> {
    let mut found: BTreeMap<String, Parameter> = BTreeMap::new();
    let mut denied = BTreeSet::new();
    for round in 0..TRIES {
        let missing: Vec<&str> = sought
            .iter()
            .filter(|one| round < 2 || !one.optional)
            .filter(|one| !one.names.iter().any(|name| found.contains_key(*name)))
            .flat_map(|one| one.names.iter().copied())
            .filter(|name| !denied.contains(*name))
            .collect();
        if missing.is_empty() {
            break;
        }
        for some in missing.chunks(AT_ONCE) {
            read_some(shared, some, &mut found, &mut denied).await?;
        }
    }
    Ok(found)
}

async fn read_some(
    shared: &Shared,
    names: &[&str],
    found: &mut BTreeMap<String, Parameter>,
    denied: &mut BTreeSet<String>,
) -> Result<(), VehicleError> {
    let bytewise = bytewise(shared);
    let mut frames = shared.frames.subscribe();
    for name in names {
        say(shared, request(shared, name)?).await?;
    }
    let mut open: BTreeSet<&str> = names.iter().copied().collect();
    while !open.is_empty() {
        // Each answer gives the others their time anew: only silence ends the waiting.
        let answer = wait(&mut frames, Instant::now() + ANSWER, |frame| match answer(frame, bytewise)? {
            (name, parameter) if open.contains(name.as_str()) => Some((name, parameter)),
            _ => None,
        })
        .await?;
        let Some((name, parameter)) = answer else { break };
        open.remove(name.as_str());
        match parameter {
            Some(parameter) => drop(found.insert(name, parameter)),
            None => drop(denied.insert(name)),
        }
    }
    Ok(())
}

pub(super) async fn read(shared: &Shared, name: &str) -> Result<Parameter, VehicleError> {
    let request = request(shared, name)?;
    exchange(shared, name, request).await
}

pub(super) async fn set(shared: &Shared, name: &str, value: f64) -> Result<(), VehicleError> {
    // The type travels with the value, and only the drone knows it.
    let held = read(shared, name).await?;
    let bytewise = bytewise(shared);
    let request = MavMessage::PARAM_SET(PARAM_SET_DATA {
        param_value: encode(value, held.kind, bytewise),
        target_system: target(shared)?,
        target_component: AUTOPILOT,
        param_id: name.into(),
        param_type: held.kind,
    });
    exchange(shared, name, request).await?;
    // The echo of a set is not what is kept: read again. Thrice, for the first answer may be a late one to an earlier
    // question.
    let mut held = held.value;
    for _ in 0..3 {
        held = read(shared, name).await?.value;
        if close(held, value) {
            return Ok(());
        }
    }
    Err(VehicleError::ParameterNotKept { name: name.to_owned(), wanted: value, held })
}

/// Whether two values are the same after the way through a 32-bit float.
pub(super) fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-4 * b.abs().max(1.0)
}

fn request(shared: &Shared, name: &str) -> Result<MavMessage, VehicleError> {
    Ok(MavMessage::PARAM_REQUEST_READ(PARAM_REQUEST_READ_DATA {
        param_index: -1,
        target_system: target(shared)?,
        target_component: AUTOPILOT,
        param_id: name.into(),
    }))
}

/// What a frame says of a parameter: its value, or that there is none of this name (newer autopilots say so, older
/// ones are silent).
fn answer(frame: &Frame, bytewise: bool) -> Option<(String, Option<Parameter>)> {
    // A camera on the same system has parameters of its own.
    if frame.component != AUTOPILOT {
        return None;
    }
    match &frame.message {
        MavMessage::PARAM_VALUE(p) => {
            let name = p.param_id.to_str().ok()?.to_owned();
            let value = decode(p.param_value, p.param_type, bytewise);
            // Not a number is no value, and would pass no comparison.
            value.is_finite().then_some((name, Some(Parameter { value, kind: p.param_type })))
        }
        MavMessage::PARAM_ERROR(e) => Some((e.param_id.to_str().ok()?.to_owned(), None)),
        _ => None,
    }
}

async fn exchange(shared: &Shared, name: &str, request: MavMessage) -> Result<Parameter, VehicleError> {
    let bytewise = bytewise(shared);
    let mut frames = shared.frames.subscribe();
    for _ in 0..TRIES {
        say(shared, request.clone()).await?;
        let answer = wait(&mut frames, Instant::now() + ANSWER, |frame| {
            answer(frame, bytewise).filter(|(id, _)| id == name).map(|(_, parameter)| parameter)
        })
        .await?;
        match answer {
            Some(Some(parameter)) => return Ok(parameter),
            Some(None) => break,
            None => {}
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
