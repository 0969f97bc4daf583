//! The mission protocol: sends a list item by item, reads it back, compares. Missions, fences and rally points alike.
//!
//! Times and tries are MAVLink's own: 1500 ms for an answer, 250 ms for an item, five tries more.

use std::sync::Arc;
use std::time::Duration;

use mavlink::dialects::common::{
    MISSION_ACK_DATA, MISSION_COUNT_DATA, MISSION_ITEM_INT_DATA, MISSION_REQUEST_INT_DATA, MISSION_REQUEST_LIST_DATA,
    MavMessage, MavMissionResult, MavMissionType,
};
use tokio::sync::broadcast;
use tokio::time::{Instant, timeout};

use super::command::{AUTOPILOT, say, target, wait};
use super::frame::Frame;
use super::mission::{self, Limits, Mission, MissionFault, MissionItem};
use super::telemetry::{Autopilot, Telemetry};
use super::{Shared, VehicleError};
use crate::geo::LatLon;

const ANSWER: Duration = Duration::from_millis(1500);
const ITEM: Duration = Duration::from_millis(250);
const TRIES: u32 = 6;
/// How often on average a drone may ask for the same item.
const REPEATS: usize = 12;

/// How long a drone may take to say where it stands, after it was switched on.
const POSITION: Duration = Duration::from_secs(15);

pub(super) async fn upload(shared: &Shared, plan: &Mission) -> Result<(), VehicleError> {
    let (autopilot, home) = ready(shared).await?;
    let config = &shared.config;
    let items = mission::items(plan, autopilot, Some(home), &config.speed_caps);
    let limits = Limits { max_height_m: config.max_height_m, max_distance_m: config.max_distance_m };
    mission::check(plan, Some(home), &limits, items.len())?;
    let _turn = shared.transfer.lock().await;
    clear_rally_points(shared).await?;
    // The fence first: there is no moment in which the drone holds the flight without its bounds.
    let fence = mission::fence_items(plan);
    if !fence.is_empty() {
        let list = List::new(shared, MavMissionType::MAV_MISSION_TYPE_FENCE)?;
        list.send_and_prove(&fence, false).await?;
    }
    let list = List::new(shared, MavMissionType::MAV_MISSION_TYPE_MISSION)?;
    list.send_and_prove(&items, autopilot == Autopilot::ArduPilot).await?;
    if autopilot == Autopilot::Px4 {
        list.begin_anew().await?;
    }
    shared.commanded_pitch.send_replace(Some(plan.camera.gimbal_pitch_deg));
    Ok(())
}

/// The autopilot, and where the drone stands, once it is on the ground and knows.
async fn ready(shared: &Shared) -> Result<(Autopilot, LatLon), VehicleError> {
    let on_the_ground = |telemetry: &Telemetry| {
        let autopilot = telemetry.autopilot.filter(|_| telemetry.linked).ok_or(VehicleError::NotLinked)?;
        // Unknown is not "on the ground".
        if telemetry.armed != Some(false) {
            return Err(VehicleError::Armed);
        }
        Ok(autopilot)
    };
    let place = |telemetry: &Telemetry| telemetry.home.or(telemetry.position.map(|position| position.at));
    on_the_ground(&shared.telemetry.borrow())?;
    let mut telemetry = shared.telemetry.clone();
    // What comes of the waiting is looked at below.
    let _ = timeout(POSITION, telemetry.wait_for(|t| place(t).is_some() || on_the_ground(t).is_err())).await;
    let telemetry = shared.telemetry.borrow();
    let autopilot = on_the_ground(&telemetry)?;
    let home = place(&telemetry).ok_or(MissionFault::HomeUnknown)?;
    Ok((autopilot, home))
}

/// A rally point would pull the return away from the dock, whoever put it there.
async fn clear_rally_points(shared: &Shared) -> Result<(), VehicleError> {
    let list = List::new(shared, MavMissionType::MAV_MISSION_TYPE_RALLY)?;
    let count = list.look().await?;
    if count == 0 {
        return Ok(());
    }
    tracing::warn!(count, "the drone held rally points, which would pull its return away from the dock: cleared");
    list.send(&[]).await?;
    match list.look().await? {
        0 => Ok(()),
        count => Err(VehicleError::RallyPoints { count }),
    }
}

struct List<'a> {
    shared: &'a Shared,
    target_system: u8,
    kind: MavMissionType,
    name: &'static str,
}

/// What the drone may say while it takes a list.
enum Step {
    Wants(u16),
    Done(MavMissionResult),
}

impl<'a> List<'a> {
    fn new(shared: &'a Shared, kind: MavMissionType) -> Result<Self, VehicleError> {
        Ok(List {
            shared,
            target_system: target(shared)?,
            kind,
            name: match kind {
                MavMissionType::MAV_MISSION_TYPE_FENCE => "geofence",
                MavMissionType::MAV_MISSION_TYPE_RALLY => "rally points",
                _ => "mission",
            },
        })
    }

    async fn send_and_prove(&self, items: &[MissionItem], home_slot: bool) -> Result<(), VehicleError> {
        if let Err(error) = self.send(items).await {
            // The drone may have given up an earlier transfer of which we know nothing (ours, before we were started
            // anew). Its word about that one is no word about this one: once more.
            if !matches!(error, VehicleError::TransferRefused { .. }) {
                return Err(error);
            }
            tracing::warn!(%error, "once more");
            self.send(items).await?;
        }
        let held = self.read().await?;
        mission::compare(items, &held, home_slot)
            .map_err(|difference| VehicleError::Mismatch { list: self.name, difference })
    }

    async fn send(&self, items: &[MissionItem]) -> Result<(), VehicleError> {
        let mut frames = self.shared.frames.subscribe();
        // Fits: `mission::check` holds lists far below 65,536.
        let count = u16::try_from(items.len()).unwrap_or(u16::MAX);
        let announce = MavMessage::MISSION_COUNT(MISSION_COUNT_DATA {
            count,
            target_system: self.target_system,
            target_component: AUTOPILOT,
            mission_type: self.kind,
            ..Default::default()
        });
        let mut last = announce;
        let mut step = "the count".to_owned();
        let mut silent = 0;
        // A drone that asks for ever, for the same items or for ones that are not there, must come to an end as well.
        let mut patience = items.len() * REPEATS + REPEATS;
        let mut asked_for_the_last = items.is_empty();
        say(self.shared, last.clone()).await?;
        loop {
            let answer = self.next_step(&mut frames).await?;
            match answer {
                Some(Step::Wants(seq)) => {
                    patience = patience.checked_sub(1).ok_or_else(|| self.stalled(step.clone()))?;
                    // A request beyond the end is the drone's mistake; its own timeout repeats the right one.
                    let Some(item) = items.get(usize::from(seq)) else {
                        continue;
                    };
                    asked_for_the_last |= usize::from(seq) + 1 == items.len();
                    last = self.item(seq, item);
                    step = format!("item {seq} of {count}");
                    silent = 0;
                    say(self.shared, last.clone()).await?;
                }
                Some(Step::Done(MavMissionResult::MAV_MISSION_ACCEPTED)) if asked_for_the_last => return Ok(()),
                // The end of an earlier transfer, come late: it counts against the patience only.
                Some(Step::Done(MavMissionResult::MAV_MISSION_ACCEPTED)) => {
                    patience = patience.checked_sub(1).ok_or_else(|| self.stalled(step.clone()))?;
                }
                Some(Step::Done(result)) => {
                    return Err(VehicleError::TransferRefused {
                        list: self.name,
                        result: format!("{} at {step}", in_words(result)),
                    });
                }
                None => {
                    silent += 1;
                    if silent >= TRIES {
                        return Err(self.stalled(step));
                    }
                    say(self.shared, last.clone()).await?;
                }
            }
        }
    }

    async fn next_step(&self, frames: &mut broadcast::Receiver<Arc<Frame>>) -> Result<Option<Step>, VehicleError> {
        wait(frames, Instant::now() + ANSWER, |frame| match &frame.message {
            _ if frame.component != AUTOPILOT => None,
            MavMessage::MISSION_REQUEST_INT(r) if r.mission_type == self.kind => Some(Step::Wants(r.seq)),
            // Older autopilots ask this way and take the integer item all the same.
            #[allow(deprecated)]
            MavMessage::MISSION_REQUEST(r) if r.mission_type == self.kind => Some(Step::Wants(r.seq)),
            MavMessage::MISSION_ACK(ack) if ack.mission_type == self.kind => Some(Step::Done(ack.mavtype)),
            _ => None,
        })
        .await
    }

    /// How many items the drone holds. One that does not know such lists says so in place of a count, and holds none.
    async fn count(&self, frames: &mut broadcast::Receiver<Arc<Frame>>) -> Result<u16, VehicleError> {
        let ask = MavMessage::MISSION_REQUEST_LIST(MISSION_REQUEST_LIST_DATA {
            target_system: self.target_system,
            target_component: AUTOPILOT,
            mission_type: self.kind,
        });
        let step = "the count to read back";
        self.ask(frames, &ask, ANSWER, step, |frame| match &frame.message {
            MavMessage::MISSION_COUNT(c) if c.mission_type == self.kind => Some(c.count),
            MavMessage::MISSION_ACK(ack)
                if ack.mission_type == self.kind && ack.mavtype == MavMissionResult::MAV_MISSION_UNSUPPORTED =>
            {
                Some(0)
            }
            _ => None,
        })
        .await
    }

    /// PX4 keeps its place in the list, also in another one, and goes on there: be it in the middle of the last flight or on
    /// its way home. The command that supersedes this message is not known to PX4 1.15.
    #[allow(deprecated)]
    async fn begin_anew(&self) -> Result<(), VehicleError> {
        use mavlink::dialects::common::MISSION_SET_CURRENT_DATA;
        let first = MavMessage::MISSION_SET_CURRENT(MISSION_SET_CURRENT_DATA {
            seq: 0,
            target_system: self.target_system,
            target_component: AUTOPILOT,
        });
        let mut frames = self.shared.frames.subscribe();
        self.ask(&mut frames, &first, ANSWER, "its beginning", |frame| match &frame.message {
            MavMessage::MISSION_CURRENT(current) if current.seq == 0 => Some(()),
            _ => None,
        })
        .await
    }

    /// How many items the drone holds, none of which is read. It is told so: PX4 would wait for five seconds to be asked for
    /// the items, and refuse every other list meanwhile.
    async fn look(&self) -> Result<u16, VehicleError> {
        let count = self.count(&mut self.shared.frames.subscribe()).await?;
        self.end(match count {
            0 => MavMissionResult::MAV_MISSION_ACCEPTED,
            _ => MavMissionResult::MAV_MISSION_OPERATION_CANCELLED,
        })
        .await?;
        Ok(count)
    }

    /// Tells the drone that the reading is over.
    async fn end(&self, result: MavMissionResult) -> Result<(), VehicleError> {
        say(
            self.shared,
            MavMessage::MISSION_ACK(MISSION_ACK_DATA {
                target_system: self.target_system,
                target_component: AUTOPILOT,
                mavtype: result,
                mission_type: self.kind,
                ..Default::default()
            }),
        )
        .await
    }

    async fn read(&self) -> Result<Vec<MissionItem>, VehicleError> {
        let mut frames = self.shared.frames.subscribe();
        let count = self.count(&mut frames).await?;
        // Longer than anything that was sent: not worth reading.
        if usize::from(count) > mission::MOST_ITEMS {
            return Err(VehicleError::TransferRefused { list: self.name, result: format!("it holds {count} items") });
        }
        let mut items = Vec::with_capacity(usize::from(count).min(mission::MOST_ITEMS));
        for seq in 0..count {
            let ask = MavMessage::MISSION_REQUEST_INT(MISSION_REQUEST_INT_DATA {
                seq,
                target_system: self.target_system,
                target_component: AUTOPILOT,
                mission_type: self.kind,
            });
            let step = format!("item {seq} of {count} to read back");
            let item = self
                .ask(&mut frames, &ask, ITEM, &step, |frame| match &frame.message {
                    MavMessage::MISSION_ITEM_INT(item) if item.mission_type == self.kind && item.seq == seq => {
                        Some(from_wire(item))
                    }
                    _ => None,
                })
                .await?;
            items.push(item);
        }
        self.end(MavMissionResult::MAV_MISSION_ACCEPTED).await?;
        Ok(items)
    }

    async fn ask<T>(
        &self,
        frames: &mut broadcast::Receiver<Arc<Frame>>,
        question: &MavMessage,
        patience: Duration,
        step: &str,
        mut pick: impl FnMut(&Frame) -> Option<T>,
    ) -> Result<T, VehicleError> {
        for _ in 0..TRIES {
            say(self.shared, question.clone()).await?;
            let of_the_autopilot = |frame: &Frame| if frame.component == AUTOPILOT { pick(frame) } else { None };
            if let Some(answer) = wait(frames, Instant::now() + patience, of_the_autopilot).await? {
                return Ok(answer);
            }
        }
        Err(self.stalled(step.to_owned()))
    }

    fn stalled(&self, step: String) -> VehicleError {
        VehicleError::TransferStalled { list: self.name, step, tries: TRIES }
    }

    fn item(&self, seq: u16, item: &MissionItem) -> MavMessage {
        MavMessage::MISSION_ITEM_INT(MISSION_ITEM_INT_DATA {
            param1: item.params[0],
            param2: item.params[1],
            param3: item.params[2],
            param4: item.params[3],
            x: item.x,
            y: item.y,
            z: item.z,
            seq,
            command: item.command,
            target_system: self.target_system,
            target_component: AUTOPILOT,
            frame: item.frame,
            current: 0,
            autocontinue: 1,
            mission_type: self.kind,
        })
    }
}

pub(crate) fn from_wire(item: &MISSION_ITEM_INT_DATA) -> MissionItem {
    MissionItem {
        command: item.command,
        frame: item.frame,
        params: [item.param1, item.param2, item.param3, item.param4],
        x: item.x,
        y: item.y,
        z: item.z,
    }
}

fn in_words(result: MavMissionResult) -> String {
    format!("{result:?}").replace("MAV_MISSION_", "").replace('_', " ").to_lowercase()
}
