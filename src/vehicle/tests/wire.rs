//! The link against a drone of the test's own: what it says, and when, is up to the test.

use mavlink::dialects::common::{
    COMMAND_ACK_DATA, EXTENDED_SYS_STATE_DATA, GLOBAL_POSITION_INT_DATA, HEARTBEAT_DATA, MISSION_ACK_DATA,
    MISSION_COUNT_DATA, MISSION_CURRENT_DATA, MISSION_ITEM_INT_DATA, MISSION_REQUEST_INT_DATA, MavAutopilot,
    MavLandedState, MavMissionResult, MavMissionType, MavModeFlag, MavResult, MavState, MavType, SYS_STATUS_DATA,
};
use std::net::SocketAddr;
use tokio::time::Instant;

use super::super::frame::{Encoder, Splitter};
use super::super::link::Extras;
use super::super::signing::{Signer, tests::signing};
use super::super::transport::{Received, Wire};
use super::*;

/// The drone's end of a wire.
pub(crate) struct Far {
    to_vehicle: mpsc::Sender<Received>,
    from_vehicle: mpsc::Receiver<Vec<u8>>,
    splitter: Splitter,
    /// One a sender (system, component), for each numbers its own frames.
    encoders: std::sync::Mutex<HashMap<(u8, u8), Encoder>>,
}

fn wired() -> (Vehicle, Far, DropGuard) {
    wired_with(Extras::default())
}

fn wired_with(extras: Extras) -> (Vehicle, Far, DropGuard) {
    let cancel = CancellationToken::new();
    let (vehicle, far) = wired_until(extras, cancel.clone());
    (vehicle, far, cancel.drop_guard())
}

/// The same, to go with the station's other parts.
pub(crate) fn wired_until(extras: Extras, cancel: CancellationToken) -> (Vehicle, Far) {
    let (to_vehicle, received) = mpsc::channel(256);
    let (send, from_vehicle) = mpsc::channel(64);
    let (peer, _) = watch::channel(None);
    let wire = Wire { received, send, peer, local: None };
    let vehicle = link::spawn(Config::at("udpin:0.0.0.0:14550"), wire, extras, cancel);
    let far = Far { to_vehicle, from_vehicle, splitter: Splitter::default(), encoders: Default::default() };
    (vehicle, far)
}

fn heartbeat() -> MavMessage {
    MavMessage::HEARTBEAT(HEARTBEAT_DATA {
        custom_mode: 4,
        mavtype: MavType::MAV_TYPE_QUADROTOR,
        autopilot: MavAutopilot::MAV_AUTOPILOT_ARDUPILOTMEGA,
        base_mode: MavModeFlag::empty(),
        system_status: MavState::MAV_STATE_STANDBY,
        mavlink_version: 3,
    })
}

impl Far {
    pub(crate) async fn say(&self, system: u8, port: u16, message: &MavMessage) {
        self.say_as((system, 1), port, message).await;
    }

    async fn say_as(&self, who: (u8, u8), port: u16, message: &MavMessage) {
        let bytes = {
            let mut encoders = self.encoders.lock().unwrap();
            encoders.entry(who).or_insert_with(|| Encoder::new(who.0, who.1)).encode(message)
        };
        let from = Some(SocketAddr::from(([127, 0, 0, 1], port)));
        self.to_vehicle.send(Received { from, bytes }).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> MavMessage {
        loop {
            let bytes = self.from_vehicle.recv().await.unwrap();
            if let Some(frame) = self.splitter.datagram(&bytes).pop() {
                return frame.message;
            }
        }
    }

    /// The next command other than the requests for streams, which are refused on the way.
    async fn command(&mut self) -> MavCmd {
        loop {
            match self.hear().await {
                MavMessage::COMMAND_LONG(c) if c.command == MavCmd::MAV_CMD_SET_MESSAGE_INTERVAL => {
                    self.answer(c.command, MavResult::MAV_RESULT_DENIED).await;
                }
                MavMessage::COMMAND_LONG(c) => return c.command,
                _ => {}
            }
        }
    }

    pub(crate) async fn answer(&self, command: MavCmd, result: MavResult) {
        let ack = MavMessage::COMMAND_ACK(COMMAND_ACK_DATA { command, result, ..Default::default() });
        self.say(1, 1, &ack).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_autopilot_is_ours_and_every_other_is_named_and_ignored() {
    let (vehicle, far, _running) = wired();
    let mut telemetry = vehicle.telemetry();
    far.say(1, 1, &heartbeat()).await;
    telemetry.wait_for(|t| t.linked).await.unwrap();
    let armed = MavMessage::HEARTBEAT(HEARTBEAT_DATA {
        base_mode: MavModeFlag::MAV_MODE_FLAG_SAFETY_ARMED,
        mavtype: MavType::MAV_TYPE_QUADROTOR,
        autopilot: MavAutopilot::MAV_AUTOPILOT_ARDUPILOTMEGA,
        ..Default::default()
    });
    // Another drone, and one that pretends to be ours from elsewhere.
    far.say(2, 2, &armed).await;
    far.say(1, 3, &armed).await;
    telemetry.wait_for(|t| t.foreign_systems.len() == 2).await.unwrap();
    let known = telemetry.borrow();
    assert_eq!((known.system_id, known.armed), (Some(1), Some(false)));
    assert!(known.foreign_systems.contains_key("system 2 component 1"));
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_lost_link_and_a_word_brings_it_back() {
    let (vehicle, far, _running) = wired();
    let mut telemetry = vehicle.telemetry();
    assert!(matches!(vehicle.arm().await, Err(VehicleError::NotLinked)));
    far.say(1, 1, &heartbeat()).await;
    telemetry.wait_for(|t| t.linked).await.unwrap();
    let began = Instant::now();
    telemetry.wait_for(|t| !t.linked).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(5) && began.elapsed() < Duration::from_secs(6));
    assert!(matches!(vehicle.return_home().await, Err(VehicleError::NotLinked)));
    // Restarted, it speaks from another port.
    far.say(1, 9, &heartbeat()).await;
    telemetry.wait_for(|t| t.linked).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn our_heartbeat_comes_every_second_whatever_else_goes_on() {
    let (_vehicle, mut far, _running) = wired();
    let began = Instant::now();
    let mut beats = 0;
    while began.elapsed() < Duration::from_millis(9500) {
        if let Ok(MavMessage::HEARTBEAT(beat)) = timeout(Duration::from_secs(2), far.hear()).await {
            assert_eq!(beat.mavtype, MavType::MAV_TYPE_GCS);
            beats += 1;
        }
    }
    assert!((10..=11).contains(&beats), "{beats} beats");
}

#[tokio::test(start_paused = true)]
async fn a_command_is_repeated_until_answered_and_silence_is_an_error_with_its_name() {
    let (vehicle, mut far, _running) = wired();
    far.say(1, 1, &heartbeat()).await;
    vehicle.telemetry().wait_for(|t| t.linked).await.unwrap();
    let beating = far.to_vehicle.clone();
    let drone = async {
        // The first two are lost, the third is refused.
        let mut heard = 0;
        loop {
            let command = far.command().await;
            assert_eq!(command, MavCmd::MAV_CMD_COMPONENT_ARM_DISARM);
            heard += 1;
            if heard == 3 {
                far.answer(command, MavResult::MAV_RESULT_TEMPORARILY_REJECTED).await;
            }
        }
    };
    tokio::pin!(drone);
    let refused = tokio::select! {
        done = vehicle.arm() => done.unwrap_err(),
        () = &mut drone => unreachable!(),
    };
    assert!(refused.to_string().contains("arm: the drone answered \"not now\""));
    let silent = tokio::select! {
        done = vehicle.disarm() => done.unwrap_err(),
        () = &mut drone => unreachable!(),
    };
    assert!(matches!(silent, VehicleError::NoAnswer { tries: 4, .. }), "{silent}");
    drop(beating);
}

fn landed(state: MavLandedState) -> MavMessage {
    MavMessage::EXTENDED_SYS_STATE(EXTENDED_SYS_STATE_DATA { landed_state: state, ..Default::default() })
}

fn beat(autopilot: MavAutopilot, base_mode: MavModeFlag) -> MavMessage {
    MavMessage::HEARTBEAT(HEARTBEAT_DATA {
        mavtype: MavType::MAV_TYPE_QUADROTOR,
        autopilot,
        base_mode,
        ..Default::default()
    })
}

#[tokio::test(start_paused = true)]
async fn two_drones_behind_one_address_are_told_apart_by_their_make() {
    let (vehicle, far, _running) = wired();
    let mut telemetry = vehicle.telemetry();
    far.say(1, 1, &heartbeat()).await;
    telemetry.wait_for(|t| t.linked).await.unwrap();
    far.say(1, 1, &beat(MavAutopilot::MAV_AUTOPILOT_PX4, MavModeFlag::MAV_MODE_FLAG_SAFETY_ARMED)).await;
    telemetry.wait_for(|t| t.foreign_systems.contains_key("system 1 again, another autopilot")).await.unwrap();
    assert_eq!(telemetry.borrow().armed, Some(false));
    assert_eq!(telemetry.borrow().autopilot, Some(Autopilot::ArduPilot));
}

/// The first drone says how it stands, then nothing more for `silence`; another one is heard. Whose are we then?
async fn after(silence: Duration, base_mode: MavModeFlag, state: MavLandedState) -> Option<u8> {
    let (vehicle, far, _running) = wired();
    let mut telemetry = vehicle.telemetry();
    far.say(1, 1, &beat(MavAutopilot::MAV_AUTOPILOT_ARDUPILOTMEGA, base_mode)).await;
    telemetry.wait_for(|t| t.linked).await.unwrap();
    far.say(1, 1, &landed(state)).await;
    far.say(1, 1, &MavMessage::SYS_STATUS(SYS_STATUS_DATA { battery_remaining: 80, ..Default::default() })).await;
    telemetry.wait_for(|t| t.battery_pct == Some(80.0)).await.unwrap();
    tokio::time::sleep(silence).await;
    far.say(2, 2, &beat(MavAutopilot::MAV_AUTOPILOT_PX4, MavModeFlag::empty())).await;
    telemetry.wait_for(|t| t.system_id == Some(2) || !t.foreign_systems.is_empty()).await.unwrap();
    let known = telemetry.borrow();
    // Nothing of the first one is taken for the second's.
    assert_eq!(known.battery_pct.is_none(), known.system_id == Some(2));
    known.system_id
}

#[tokio::test(start_paused = true)]
async fn a_drone_that_stood_disarmed_and_fell_silent_for_long_may_be_replaced_by_another() {
    let (long, disarmed, ground) =
        (Duration::from_secs(61), MavModeFlag::empty(), MavLandedState::MAV_LANDED_STATE_ON_GROUND);
    assert_eq!(after(long, disarmed, ground).await, Some(2));
    // A pause is not long.
    assert_eq!(after(Duration::from_secs(30), disarmed, ground).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_drone_that_may_be_in_the_air_is_never_given_up_for_another() {
    let (hours, armed) = (Duration::from_secs(7200), MavModeFlag::MAV_MODE_FLAG_SAFETY_ARMED);
    assert_eq!(after(hours, armed, MavLandedState::MAV_LANDED_STATE_IN_AIR).await, Some(1));
    assert_eq!(after(hours, armed, MavLandedState::MAV_LANDED_STATE_ON_GROUND).await, Some(1));
    // Not knowing is not "on the ground".
    assert_eq!(after(hours, MavModeFlag::empty(), MavLandedState::MAV_LANDED_STATE_UNDEFINED).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_station_sends_no_heartbeat_and_nor_does_one_that_nobody_watches() {
    let (health, healthy) = watch::channel(true);
    let (_vehicle, mut far, _running) = wired_with(Extras { healthy: Some(healthy), ..Extras::default() });
    let mut beats = async |seconds| {
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut beats = 0;
        while let Ok(message) = tokio::time::timeout_at(until, far.hear()).await {
            beats += usize::from(matches!(message, MavMessage::HEARTBEAT(_)));
        }
        beats
    };
    assert!(beats(5).await >= 5);
    health.send_replace(false);
    assert_eq!(beats(10).await, 0);
    health.send_replace(true);
    assert!(beats(5).await >= 4);
    drop(health);
    assert_eq!(beats(10).await, 0);
}

#[tokio::test(start_paused = true)]
async fn the_late_answer_to_an_earlier_command_is_not_taken_for_the_answer_to_this_one() {
    let (vehicle, mut far, _running) = wired();
    far.say(1, 1, &heartbeat()).await;
    vehicle.telemetry().wait_for(|t| t.linked).await.unwrap();
    let arm_and_disarm = async {
        let silent = vehicle.arm().await.unwrap_err();
        assert!(matches!(silent, VehicleError::NoAnswer { tries: 4, .. }), "{silent}");
        // It is disarmed, so only the answer is waited for.
        vehicle.disarm().await
    };
    let drone = async {
        for _ in 0..5 {
            far.say(1, 1, &heartbeat()).await;
            assert_eq!(far.command().await, MavCmd::MAV_CMD_COMPONENT_ARM_DISARM);
        }
        // The fifth is the disarming. First comes the no to the arming.
        far.answer(MavCmd::MAV_CMD_COMPONENT_ARM_DISARM, MavResult::MAV_RESULT_DENIED).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        far.answer(MavCmd::MAV_CMD_COMPONENT_ARM_DISARM, MavResult::MAV_RESULT_ACCEPTED).await;
    };
    let (disarmed, ()) = tokio::join!(arm_and_disarm, drone);
    disarmed.unwrap();
}

#[tokio::test(start_paused = true)]
async fn answers_of_a_camera_and_to_another_station_are_nobody_elses() {
    let (vehicle, mut far, _running) = wired();
    far.say(1, 1, &heartbeat()).await;
    vehicle.telemetry().wait_for(|t| t.linked).await.unwrap();
    let drone = async {
        let command = far.command().await;
        let denied = |target_system| {
            MavMessage::COMMAND_ACK(COMMAND_ACK_DATA {
                command,
                result: MavResult::MAV_RESULT_DENIED,
                target_system,
                ..Default::default()
            })
        };
        far.say_as((1, 100), 1, &denied(0)).await;
        far.say(1, 1, &denied(42)).await;
        far.answer(command, MavResult::MAV_RESULT_ACCEPTED).await;
    };
    let (disarmed, ()) = tokio::join!(vehicle.disarm(), drone);
    disarmed.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_replayed_word_of_the_drone_changes_nothing() {
    let (vehicle, far, _running) = wired();
    let mut telemetry = vehicle.telemetry();
    let mut encoder = Encoder::new(1, 1);
    let mut said = async |message: MavMessage, record: Option<Vec<u8>>| {
        let bytes = record.unwrap_or_else(|| encoder.encode(&message));
        let from = Some(SocketAddr::from(([127, 0, 0, 1], 1)));
        far.to_vehicle.send(Received { from, bytes: bytes.clone() }).await.unwrap();
        bytes
    };
    let disarmed = said(heartbeat(), None).await;
    telemetry.wait_for(|t| t.linked).await.unwrap();
    said(beat(MavAutopilot::MAV_AUTOPILOT_ARDUPILOTMEGA, MavModeFlag::MAV_MODE_FLAG_SAFETY_ARMED), None).await;
    telemetry.wait_for(|t| t.armed == Some(true)).await.unwrap();
    said(heartbeat(), Some(disarmed)).await;
    telemetry.wait_for(|t| t.repeated == 1).await.unwrap();
    assert_eq!(telemetry.borrow().armed, Some(true));
}

#[tokio::test(start_paused = true)]
async fn with_a_key_only_the_drone_that_holds_it_is_heard_and_it_hears_signed_words() {
    let (vehicle, far, _running) = wired_with(Extras { signing: Some(signing(7)), ..Extras::default() });
    let mut telemetry = vehicle.telemetry();
    // One without a key, and one with another.
    far.say(1, 1, &heartbeat()).await;
    let other: Signer = signing(8).signer;
    far.encoders.lock().unwrap().insert((2, 1), Encoder::new(2, 1).signed(other));
    far.say(2, 2, &heartbeat()).await;
    telemetry.wait_for(|t| t.unsigned == 2).await.unwrap();
    assert_eq!(telemetry.borrow().system_id, None);
    far.encoders.lock().unwrap().insert((3, 1), Encoder::new(3, 1).signed(signing(7).signer));
    far.say(3, 3, &heartbeat()).await;
    telemetry.wait_for(|t| t.system_id == Some(3)).await.unwrap();
    let mut far = far;
    far.splitter = Splitter::verified(signing(7).verifier);
    assert!(matches!(far.hear().await, MavMessage::HEARTBEAT(_)));
    assert_eq!(far.splitter.refused, 0);
}

fn mission_request(seq: u16) -> MavMessage {
    MavMessage::MISSION_REQUEST_INT(MISSION_REQUEST_INT_DATA { seq, ..Default::default() })
}

/// A drone at home that has no rally points and takes every fence; what it says to the mission is up to `answer`. Like PX4
/// it does one thing at a time: a list that is being read, be it empty, is read until it is told that this is over.
async fn uploads(answer: impl FnMut(&MavMessage) -> Vec<MavMessage>) -> Result<(), VehicleError> {
    uploads_to(heartbeat(), answer).await
}

async fn uploads_to(
    beat: MavMessage,
    mut answer: impl FnMut(&MavMessage) -> Vec<MavMessage>,
) -> Result<(), VehicleError> {
    let (vehicle, mut far, _running) = wired();
    far.say(1, 1, &beat).await;
    let position =
        GLOBAL_POSITION_INT_DATA { lat: (HOME.lat * 1e7) as i32, lon: (HOME.lon * 1e7) as i32, ..Default::default() };
    far.say(1, 1, &MavMessage::GLOBAL_POSITION_INT(position)).await;
    vehicle.telemetry().wait_for(|t| t.position.is_some()).await.unwrap();
    let drone = async {
        const RALLY: MavMissionType = MavMissionType::MAV_MISSION_TYPE_RALLY;
        let mut busy = false;
        loop {
            let words = match far.hear().await {
                MavMessage::MISSION_ACK(ack) if ack.mission_type == RALLY => {
                    busy = false;
                    vec![]
                }
                MavMessage::MISSION_COUNT(_) if busy => vec![],
                MavMessage::MISSION_REQUEST_LIST(r) if r.mission_type == RALLY => {
                    busy = true;
                    let none = MISSION_COUNT_DATA { count: 0, mission_type: r.mission_type, ..Default::default() };
                    vec![MavMessage::MISSION_COUNT(none)]
                }
                MavMessage::HEARTBEAT(_) => vec![beat.clone()],
                message => answer(&message),
            };
            for word in words {
                far.say(1, 1, &word).await;
            }
        }
    };
    let unbounded = Mission { fence: None, ..mission() };
    tokio::select! {
        done = vehicle.upload(&unbounded) => done,
        () = drone => unreachable!(),
    }
}

fn accepted() -> MavMessage {
    MavMessage::MISSION_ACK(MISSION_ACK_DATA { mavtype: MavMissionResult::MAV_MISSION_ACCEPTED, ..Default::default() })
}

#[tokio::test(start_paused = true)]
async fn a_drone_that_asks_for_ever_is_given_up() {
    for seq in [0, 9999] {
        let error = uploads(|message| match message {
            MavMessage::MISSION_COUNT(_) | MavMessage::MISSION_ITEM_INT(_) => vec![mission_request(seq)],
            _ => vec![],
        })
        .await
        .unwrap_err();
        assert!(matches!(error, VehicleError::TransferStalled { .. }), "{error}");
    }
}

/// Takes a mission and gives it back as `held` says, after `late` words of an earlier transfer.
async fn keeps(
    late: Vec<MavMessage>,
    held: impl Fn(u16, MISSION_ITEM_INT_DATA) -> MISSION_ITEM_INT_DATA,
) -> Result<(), VehicleError> {
    uploads(keeper(late, held)).await
}

fn keeper(
    late: Vec<MavMessage>,
    held: impl Fn(u16, MISSION_ITEM_INT_DATA) -> MISSION_ITEM_INT_DATA,
) -> impl FnMut(&MavMessage) -> Vec<MavMessage> {
    let (mut count, mut items, mut late) = (0, Vec::new(), late);
    move |message| match message {
        MavMessage::MISSION_COUNT(c) => {
            count = c.count;
            items.clear();
            late.drain(..).chain([mission_request(0)]).collect()
        }
        MavMessage::MISSION_ITEM_INT(item) => {
            if usize::from(item.seq) == items.len() {
                items.push(item.clone());
            }
            match items.len() == usize::from(count) {
                true => vec![accepted()],
                false => vec![mission_request(items.len() as u16)],
            }
        }
        MavMessage::MISSION_REQUEST_LIST(_) => {
            vec![MavMessage::MISSION_COUNT(MISSION_COUNT_DATA { count: items.len() as u16, ..Default::default() })]
        }
        MavMessage::MISSION_REQUEST_INT(r) => {
            vec![MavMessage::MISSION_ITEM_INT(held(r.seq, items[usize::from(r.seq)].clone()))]
        }
        _ => vec![],
    }
}

/// As PX4 does, it keeps its place in the list (here the return of the last flight) until it is told another.
#[tokio::test(start_paused = true)]
#[allow(deprecated)]
async fn a_drone_that_keeps_its_place_in_the_list_is_sent_to_its_beginning_or_does_not_fly() {
    let px4 = || beat(MavAutopilot::MAV_AUTOPILOT_PX4, MavModeFlag::empty());
    let begins = async |obeys: bool| {
        let mut keeper = keeper(vec![], |_, item| item);
        uploads_to(px4(), move |message| match message {
            MavMessage::MISSION_SET_CURRENT(to) => {
                let seq = if obeys { to.seq } else { 7 };
                vec![MavMessage::MISSION_CURRENT(MISSION_CURRENT_DATA { seq, ..Default::default() })]
            }
            other => keeper(other),
        })
        .await
    };
    begins(true).await.unwrap();
    let error = begins(false).await.unwrap_err();
    assert!(error.to_string().contains("beginning"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_earlier_transfer_is_not_taken_for_the_end_of_this_one() {
    keeps(vec![accepted()], |_, item| item).await.unwrap();
    let cancelled =
        MISSION_ACK_DATA { mavtype: MavMissionResult::MAV_MISSION_OPERATION_CANCELLED, ..Default::default() };
    keeps(vec![MavMessage::MISSION_ACK(cancelled)], |_, item| item).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drone_that_holds_other_items_is_refused_whatever_differs() {
    let wrong = async |item: u16, change: fn(&mut MISSION_ITEM_INT_DATA)| {
        keeps(vec![], |seq, mut held| {
            if seq == item {
                change(&mut held);
            }
            held
        })
        .await
        .unwrap_err()
        .to_string()
    };
    // Item 1 is the take-off, 2 the speed, 4 the camera, 5 the first waypoint.
    assert!(wrong(1, |i| i.z = 600.0).await.contains("item 1 (NAV_TAKEOFF): height was sent as 60"));
    assert!(wrong(2, |i| i.param2 = 18.0).await.contains("item 2 (DO_CHANGE_SPEED): param2"));
    assert!(wrong(4, |i| i.param1 = f32::NAN).await.contains("item 4 (DO_SET_CAM_TRIGG_DIST): param1"));
    assert!(wrong(5, |i| i.y += 100).await.contains("item 5 (NAV_WAYPOINT): longitude"));
    assert!(wrong(9, |i| i.command = MavCmd::MAV_CMD_NAV_LAND).await.contains("item 9"));
}

#[tokio::test(start_paused = true)]
async fn the_drones_current_item_and_place_say_how_far_along_the_mission_it_is() {
    let (vehicle, far, _running) = wired();
    let mission = mission();
    far.say(1, 1, &heartbeat()).await;
    vehicle.telemetry().wait_for(|t| t.linked).await.unwrap();
    assert_eq!(vehicle.along(&mission), None);
    let at = async |seq, place: LatLon| {
        let (lat, lon) = ((place.lat * 1e7) as i32, (place.lon * 1e7) as i32);
        far.say(1, 1, &MavMessage::MISSION_CURRENT(MISSION_CURRENT_DATA { seq, ..Default::default() })).await;
        let position = GLOBAL_POSITION_INT_DATA { lat, lon, ..Default::default() };
        far.say(1, 1, &MavMessage::GLOBAL_POSITION_INT(position)).await;
        let mut telemetry = vehicle.telemetry();
        let there = |t: &Telemetry| t.position.is_some_and(|p| mavlink_place(p.at) == (lat, lon));
        telemetry.wait_for(|t| t.mission_current == Some(seq) && there(t)).await.unwrap();
        vehicle.along(&mission).unwrap()
    };
    // Rising over the dock; half way from the first waypoint (item 5) to the second; on the way home.
    assert_eq!(at(1, HOME).await, Along::default());
    let half = at(6, offset(80.0, 30.0)).await;
    assert!(half.leg == 0 && (half.metres - 30.0).abs() < 0.5, "{half:?}");
    assert_eq!(at(9, offset(-20.0, 30.0)).await, mission.end());
}

fn mavlink_place(at: LatLon) -> (i32, i32) {
    (mission::degrees_e7(at.lat), mission::degrees_e7(at.lon))
}
