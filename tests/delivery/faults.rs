//! Broken on purpose: killed, cut, forgotten by the broker, without power. Small versions of what `make soak` runs long.

use std::collections::HashSet;
use std::time::Duration;

use aerie::outbox::{Outbox, Resend};
use aerie::sim::soak::kill::{self, KillOptions};
use aerie::sim::soak::proxy::{Proxy, Weather};
use aerie::sim::soak::trace::{self, TraceOptions};
use jiff::Timestamp;

use crate::support::*;

fn program() -> std::path::PathBuf {
    assert_cmd::cargo::cargo_bin("aerie")
}

#[tokio::test]
async fn a_station_killed_at_random_moments_loses_nothing_and_keeps_the_order_of_its_cases() {
    let dir = tempfile::tempdir().unwrap();
    let options = KillOptions { program: program(), out: dir.path().to_owned(), kills: 12, longest_ms: 400, seed: 1 };
    let report = kill::run(options).await.unwrap();
    assert!(report.is_good(), "{report:?}");
    assert!(report.fruitful > 3 && report.accepted > 20, "it was killed too early to prove anything: {report:?}");
}

#[tokio::test]
async fn a_power_cut_costs_nothing_that_was_accepted_and_a_missing_fsync_would_be_seen() {
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        eprintln!("skipped: strace is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = TraceOptions { program: program(), out: dir.path().to_owned(), events: 30, cuts: 40, seed: 1 };
    let report = trace::run(options).await.unwrap();
    assert!(report.accepted > 30, "{report:?}");
    assert!(report.is_good(), "{report:?}");
}

#[tokio::test]
async fn a_connection_that_is_cut_and_delayed_again_and_again_delivers_everything_in_order() {
    let broker = Broker::start("").await;
    let subscriber = Subscriber::start(&broker, "aerie/v1/s1/case/#").await;
    let weather = Weather { delay: Duration::from_millis(2), cut_after: 60_000, seed: 3 };
    let proxy = Proxy::start(broker.port, weather).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let station = Station::start(&format!("mqtt://127.0.0.1:{}", proxy.port), &outbox);
    for sequence in 1..=10 {
        outbox.accept((0..40).map(|case| case_record(&format!("c{case}"), sequence)).collect()).await.unwrap();
    }
    queued(&outbox, 0).await;
    let all = || subscriber.event_ids().into_iter().collect::<HashSet<_>>().len() == 400;
    eventually("all events", || async { all() }).await;
    assert_complete_and_in_order(&subscriber.event_ids(), 40, 10);
    assert!(proxy.cuts() >= 2, "only {} cuts", proxy.cuts());
    station.stop().await;
}

#[tokio::test]
async fn what_a_wiped_broker_had_acknowledged_comes_back_by_resend() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let since = Timestamp::now();
    let first = Broker::start("").await;
    let station = Station::start(&first.url(), &outbox);
    outbox.accept((1..=5).map(|n| case_record("c1", n)).collect()).await.unwrap();
    queued(&outbox, 0).await;
    station.stop().await;
    // Its disk is gone, and with it all that nobody had fetched yet.
    drop(first);
    let second = Broker::start("").await;
    let subscriber = Subscriber::start(&second, "aerie/v1/s1/case/#").await;
    let station = Station::start(&second.url(), &outbox);
    station.connected().await;
    assert_eq!(outbox.resend(Resend::Since(since)).await.unwrap(), 5);
    queued(&outbox, 0).await;
    eventually("all of them", || async { subscriber.event_ids().len() == 5 }).await;
    assert_complete_and_in_order(&subscriber.event_ids(), 1, 5);
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulated_fleet_delivers_all_it_accepted_and_a_bare_client_is_measured_beside_it() {
    let broker = Broker::start("").await;
    let states = Subscriber::start(&broker, "aerie/v1/+/status").await;
    let dir = tempfile::tempdir().unwrap();
    let url = broker.url();
    let out = dir.path().join("fleet");
    let args = [
        "fleet",
        "simulate",
        "--stations",
        "3",
        "--speed",
        "20000",
        "--seconds",
        "2",
        "--picture-kb",
        "20",
        "--json",
        "--broker",
        &url,
        "--out",
    ];
    let mut fleet = tokio::process::Command::new(env!("CARGO_BIN_EXE_aerie"));
    let said = fleet.args(args).arg(&out).output().await.unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let report: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    let number = |key: &str| report[key].as_f64().unwrap_or(f64::NAN);
    assert!(number("connected") == 3.0 && number("accepted") > 0.0, "{report}");
    assert_eq!(number("delivered"), number("accepted"), "{report}");
    // What came of the bare client is its own, and not the fleet's.
    assert!(number("bare_p50_ms") > 0.0 && number("bare_p99_ms") >= number("bare_p50_ms"), "{report}");
    // Nothing is left at a broker of somebody's: the last word on each station's state takes it away.
    for number in 0..3 {
        let topic = format!("aerie/v1/fleet-{number:05}/status");
        eventually("swept", || async { states.on(&topic).last().is_some_and(|last| last.payload.is_empty()) }).await;
    }
}
