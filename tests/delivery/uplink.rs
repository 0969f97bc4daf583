//! What was accepted arrives, at least once, in order, whatever the broker does.

use std::collections::HashSet;

use aerie::outbox::{Class, Outbox, Payload, Reader, Resend};
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
    broker.freeze().await;
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

#[tokio::test]
async fn what_the_broker_gave_to_nobody_is_counted_apart_and_comes_again_when_somebody_subscribes() {
    let broker = Broker::start("").await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let station = Station::start(&broker.url(), &outbox);
    outbox.accept((1..=3).map(|sequence| case_record("c", sequence)).collect()).await.unwrap();
    queued(&outbox, 0).await;
    eventually("the count", || async { station.uplink.state().borrow().unheard == 3 }).await;
    let report = Reader::open(dir.path()).unwrap().check().unwrap();
    assert_eq!((report.delivered, report.unheard), (3, 3));
    let subscriber = Subscriber::start(&broker, "aerie/v1/s1/#").await;
    outbox.resend(Resend::Since(report.unheard_since.unwrap())).await.unwrap();
    eventually("all of them", || async { subscriber.event_ids().len() == 3 }).await;
    queued(&outbox, 0).await;
    assert_eq!(Reader::open(dir.path()).unwrap().check().unwrap().unheard, 0);
    station.stop().await;
}

#[tokio::test]
async fn a_broker_that_takes_two_at_a_time_gets_two_at_a_time_and_everything() {
    let broker = Broker::start("max_inflight_messages 2").await;
    let subscriber = Subscriber::start(&broker, "aerie/v1/s1/case/#").await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    outbox.accept((0..50).map(|case| case_record(&format!("c{case}"), 1)).collect()).await.unwrap();
    let station = Station::start(&broker.url(), &outbox);
    queued(&outbox, 0).await;
    eventually("all of them", || async { subscriber.event_ids().len() == 50 }).await;
    station.stop().await;
}

#[tokio::test]
async fn a_picture_too_large_for_the_broker_arrives_smaller_and_says_so() {
    let noise = |x: u32, y: u32| (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)) as u8;
    let picture = image::RgbImage::from_fn(900, 600, |x, y| image::Rgb([noise(x, y), noise(y, x), 90]));
    let mut jpeg = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
    let jpeg = jpeg.into_inner();
    let limit = jpeg.len() / 2;
    let broker = Broker::start(Box::leak(format!("max_packet_size {limit}").into_boxed_str())).await;
    let subscriber = Subscriber::start(&broker, "aerie/v1/s1/#").await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let digest = outbox.store_picture(&jpeg).await.unwrap();
    let mut record = note(&format!("evidence/{digest}"), Class::Evidence, "", 0);
    record.topic = format!("evidence/{digest}");
    record.payload = Payload::File(digest.clone());
    outbox.accept(vec![record]).await.unwrap();
    let station = Station::start(&broker.url(), &outbox);
    queued(&outbox, 0).await;
    let topic = format!("aerie/v1/s1/evidence/{digest}");
    eventually("the picture", || async { !subscriber.on(&topic).is_empty() }).await;
    let small = image::load_from_memory(&subscriber.on(&topic)[0].payload).unwrap();
    assert!(small.width() < 900 && small.width() >= 320);
    let row = outbox.list(1).await.unwrap().remove(0);
    assert!(row.state == "delivered" && row.reason.as_deref().unwrap().contains("scaled to"), "{row:?}");
    station.stop().await;
}

#[tokio::test]
async fn a_picture_that_the_disk_has_damaged_is_set_aside_and_reported_not_sent() {
    let broker = Broker::start("").await;
    let subscriber = Subscriber::start(&broker, "aerie/v1/s1/#").await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let digest = outbox.store_picture(&[7; 5_000]).await.unwrap();
    let mut record = note("evidence", Class::Evidence, "", 0);
    record.payload = Payload::File(digest.clone());
    outbox.accept(vec![record]).await.unwrap();
    std::fs::write(outbox.picture_path(&digest), [8; 5_000]).unwrap();
    assert_eq!(outbox.check().await.unwrap().damaged_pictures, ["evidence"]);
    let station = Station::start(&broker.url(), &outbox);
    eventually("the report", || async { !subscriber.on("aerie/v1/s1/loss").is_empty() }).await;
    assert!(subscriber.on("aerie/v1/s1/test/evidence").is_empty());
    station.stop().await;
}

#[tokio::test]
async fn a_month_that_is_used_up_holds_pictures_back_and_lets_cases_through_also_after_a_restart() {
    let broker = Broker::start("").await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let month = Timestamp::now().strftime("%Y-%m").to_string();
    outbox.set_note(&format!("sent/{month}"), 950_000).await.unwrap();
    outbox.accept(vec![note("picture", Class::Evidence, "", 100), case_record("c1", 1)]).await.unwrap();
    let mut config = aerie::uplink::Config::new(broker.url());
    config.month_mb = Some(1);
    let station = Station::start_with(config, &outbox);
    queued(&outbox, 1).await;
    outbox.accept(vec![case_record("c1", 2)]).await.unwrap();
    eventually("the case again", || async { outbox.stats().borrow().delivered == 2 }).await;
    let rows = outbox.list(10).await.unwrap();
    assert_eq!(rows.iter().find(|row| row.id == "picture").unwrap().state, "queued");
    station.stop().await;
    assert!(
        outbox.note(&format!("sent/{month}")).await.unwrap().unwrap() > 950_000,
        "the account outlives the process"
    );
}

#[tokio::test]
async fn a_broker_that_allows_nothing_is_told_by_name_and_gets_everything_once_it_allows() {
    let files = tempfile::tempdir().unwrap();
    let acl = files.path().join("acl");
    std::fs::write(&acl, "topic read aerie/#\n").unwrap();
    // Read by whichever user the broker becomes.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&acl, std::fs::Permissions::from_mode(0o644)).unwrap();
    // Without a limit to its queues, mosquitto 2.0.11 hangs up after each refusal.
    let rules = format!("max_queued_messages 1000\nacl_file {}", acl.display());
    let mut broker = Broker::start(Box::leak(rules.into_boxed_str())).await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    outbox.accept((1..=3).map(|n| case_record("c1", n)).collect()).await.unwrap();
    let station = Station::start(&broker.url(), &outbox);
    eventually("a refusal", || async { outbox.list(3).await.unwrap().iter().any(|row| row.attempts > 0) }).await;
    let rows = outbox.list(3).await.unwrap();
    let first = rows.iter().find(|row| row.id == "c1/1").unwrap();
    assert!(first.reason.as_deref().unwrap().contains("NotAuthorized"), "{first:?}");
    assert_eq!(outbox.stats().borrow().queued, 3, "all are still owed, and none has overtaken the first");
    station.stop().await;
    std::fs::write(&acl, "topic readwrite aerie/#\n").unwrap();
    broker.kill();
    broker.launch().await;
    let station = Station::start(&broker.url(), &outbox);
    queued(&outbox, 0).await;
    station.stop().await;
}
