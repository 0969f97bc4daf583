//! What was accepted arrives, at least once, in order, whatever the broker does.

use std::collections::HashSet;

use aerie::outbox::{Class, Outbox, Payload};
use jiff::Timestamp;
use rumqttc::PublishOptions;
use serde_json::{Value, json};

use crate::support::*;

#[tokio::test]
async fn everything_accepted_reaches_an_independent_subscriber_in_order() {
    let broker = Broker::start("").await;
    let subscriber = Subscriber::start(&broker, "aerie/v1/s1/#").await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let since = Timestamp::now();
    let station = Station::start(&broker.url(), &outbox);
    for sequence in 1..=10 {
        outbox.accept((0..20).map(|case| case_record(&format!("c{case}"), sequence)).collect()).await.unwrap();
    }
    let jpeg = vec![0xff; 300_000];
    let digest = outbox.store_picture(&jpeg).await.unwrap();
    let mut picture = note(&format!("evidence/{digest}"), Class::Evidence, "", 0);
    picture.topic = format!("evidence/{digest}");
    picture.payload = Payload::File(digest.clone());
    outbox.accept(vec![picture]).await.unwrap();

    queued(&outbox, 0).await;
    let topic = format!("aerie/v1/s1/evidence/{digest}");
    eventually("the picture arrives", || async { !subscriber.on(&topic).is_empty() }).await;
    assert_eq!(subscriber.on(&topic)[0].payload, jpeg);
    let ids = subscriber.event_ids();
    assert_complete_and_in_order(&ids, 20, 10);
    assert_eq!(ids.len(), 200, "no repeats without a reason for them");
    assert_eq!(outbox.stats().borrow().delivered, 201);
    let latencies = outbox.latencies(since).await.unwrap();
    assert_eq!(latencies.len(), 200);
    assert!(latencies.iter().all(|one| one.acked_at >= one.captured_at));
    eventually("the count", || async { station.uplink.state().borrow().delivered == 201 }).await;
    station.stop().await;
}

#[tokio::test]
async fn a_killed_broker_costs_no_event_and_repeats_keep_their_id() {
    let mut broker = Broker::start("").await;
    let subscriber = Subscriber::start(&broker, "aerie/v1/s1/case/#").await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let station = Station::start(&broker.url(), &outbox);
    station.connected().await;
    let feed = {
        let outbox = outbox.clone();
        tokio::spawn(async move {
            for sequence in 1..=20 {
                outbox.accept((0..10).map(|case| case_record(&format!("c{case}"), sequence)).collect()).await.unwrap();
            }
        })
    };
    eventually("some events", || async { subscriber.all().len() >= 20 }).await;
    broker.kill();
    feed.await.unwrap();
    assert!(outbox.stats().borrow().queued > 0, "the broker died too late for this test to mean anything");
    let mut state = station.uplink.state();
    tokio::time::timeout(PATIENCE, state.wait_for(|s| !s.connected && s.last_error.is_some())).await.unwrap().unwrap();
    broker.launch().await;

    queued(&outbox, 0).await;
    eventually("all events", || async { subscriber.event_ids().iter().collect::<HashSet<_>>().len() == 200 }).await;
    assert_complete_and_in_order(&subscriber.event_ids(), 10, 20);
    station.stop().await;
}

#[tokio::test]
async fn a_broker_that_is_absent_at_the_start_is_waited_for() {
    let mut broker = Broker::reserve("");
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    outbox.accept(vec![case_record("c1", 1)]).await.unwrap();
    let station = Station::start(&broker.url(), &outbox);
    let mut state = station.uplink.state();
    tokio::time::timeout(PATIENCE, state.wait_for(|s| s.last_error.is_some())).await.unwrap().unwrap();
    assert!(!state.borrow().connected);
    station.uplink.telemetry("telemetry", b"dropped".to_vec());

    broker.launch().await;
    station.connected().await;
    queued(&outbox, 0).await;
    assert_eq!(station.uplink.state().borrow().last_error, None);
    station.stop().await;
}

#[tokio::test]
async fn a_restarted_station_resumes_its_session_and_gets_what_was_sent_meanwhile() {
    let broker = Broker::start("").await;
    let subscriber = Subscriber::start(&broker, "aerie/v1/s1/case/#").await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let station = Station::start(&broker.url(), &outbox);
    station.connected().await;
    outbox.accept(vec![case_record("c1", 1)]).await.unwrap();
    queued(&outbox, 0).await;
    station.stop().await;
    drop(outbox);

    let command = "aerie/v1/s1/command/patrol.start";
    subscriber.client.publish(command, "while away", PublishOptions::at_least_once()).await.unwrap();
    let outbox = reopen(dir.path()).await;
    outbox.accept(vec![case_record("c1", 2)]).await.unwrap();
    let mut station = Station::start(&broker.url(), &outbox);
    let message = tokio::time::timeout(PATIENCE, station.incoming.as_mut().unwrap().recv()).await.unwrap().unwrap();
    assert_eq!((message.topic_rest.as_str(), message.payload.as_slice()), ("command/patrol.start", &b"while away"[..]));
    queued(&outbox, 0).await;
    eventually("both events", || async { subscriber.event_ids().len() == 2 }).await;
    assert_complete_and_in_order(&subscriber.event_ids(), 1, 2);
    station.stop().await;
}

#[tokio::test]
async fn the_retained_status_says_online_while_it_lasts_and_offline_afterwards() {
    let broker = Broker::start("").await;
    let subscriber = Subscriber::start(&broker, "aerie/v1/s1/status").await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let station = Station::start(&broker.url(), &outbox);
    let states = || -> Vec<Value> {
        subscriber.on("aerie/v1/s1/status").iter().map(|one| serde_json::from_slice(&one.payload).unwrap()).collect()
    };
    eventually("online", || async { states().iter().any(|s| s["state"] == "online" && s["version"] == "test") }).await;
    station.status.send_replace(json!({ "version": "test", "dock": "open" }));
    eventually("a change", || async { states().iter().any(|s| s["dock"] == "open") }).await;
    station.stop().await;
    eventually("offline", || async { states().last().is_some_and(|s| s["state"] == "offline") }).await;
    assert_eq!(states().last().unwrap()["reason"], "shutdown");

    drop(subscriber);
    let late = Subscriber::client(&broker, "late", "aerie/v1/s1/status").await;
    eventually("retained", || async { late.all().iter().any(|one| one.retain) }).await;
}

#[tokio::test]
async fn a_picture_larger_than_the_broker_allows_is_set_aside_reported_and_stops_nobody() {
    let broker = Broker::start("max_packet_size 20000").await;
    let subscriber = Subscriber::start(&broker, "aerie/v1/s1/#").await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    outbox
        .accept(vec![
            note("huge", Class::Evidence, "", 50_000),
            note("small", Class::Evidence, "", 100),
            case_record("c1", 1),
        ])
        .await
        .unwrap();
    let station = Station::start(&broker.url(), &outbox);
    queued(&outbox, 0).await;
    eventually("the rest", || async {
        !subscriber.on("aerie/v1/s1/test/small").is_empty() && !subscriber.on("aerie/v1/s1/loss").is_empty()
    })
    .await;
    let loss: Value = serde_json::from_slice(&subscriber.on("aerie/v1/s1/loss")[0].payload).unwrap();
    assert_eq!(loss["data"]["lost"][0]["id"], "huge");
    assert_eq!(outbox.stats().borrow().aside, 1);
    station.stop().await;

    // Another broker takes more: then it goes out after all.
    let generous = Broker::start("").await;
    let station = Station::start(&generous.url(), &outbox);
    eventually("delivered after all", || async {
        outbox.stats().borrow().aside == 0 && outbox.stats().borrow().queued == 0
    })
    .await;
    station.stop().await;
}

#[tokio::test]
async fn a_record_at_which_the_broker_hangs_up_does_not_hold_up_the_rest() {
    // A limit that this broker does not announce: it closes the connection instead.
    let broker = Broker::start("message_size_limit 5000").await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    outbox
        .accept(vec![note("poison", Class::Case, "c1", 6_000), note("good", Class::Evidence, "", 100)])
        .await
        .unwrap();
    let station = Station::start(&broker.url(), &outbox);
    queued(&outbox, 1).await;
    let listed = outbox.list(2).await.unwrap();
    let poison = listed.iter().find(|one| one.id == "poison").unwrap();
    assert_eq!(poison.state, "queued", "it is still owed");
    assert!(poison.attempts > 0);
    station.stop().await;
}

#[tokio::test]
async fn telemetry_passes_by_the_outbox() {
    let broker = Broker::start("").await;
    let subscriber = Subscriber::start(&broker, "aerie/v1/s1/telemetry").await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let station = Station::start(&broker.url(), &outbox);
    station.connected().await;
    station.uplink.telemetry("telemetry", b"{}".to_vec());
    eventually("the pose", || async { !subscriber.all().is_empty() }).await;
    assert_eq!(outbox.stats().borrow().queued, 0);
    station.stop().await;
}
