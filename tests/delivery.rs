//! Invariants 2 and 5 through public surfaces: what was accepted arrives, in order, under its id; a command acts once.
//!
//! The broker is a real mosquitto on a free port, the subscriber a client that shares nothing with the uplink.

use std::collections::{HashMap, HashSet};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aerie::outbox::{Class, Options, Outbox, OutboxError, Payload, Record, Settlement};
use aerie::uplink::commands::{self, Door, Envelope, Execute, Outcome, Reply, ReplyTo, Status, Submission};
use aerie::uplink::{self, Uplink, cloudevents};
use jiff::{SignedDuration, Timestamp};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, PublishOptions, PublishProperties, QoS};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Long enough for a loaded machine; every wait ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_secs(20);

// ---------------------------------------------------------------------------------------------- a real broker

struct Broker {
    child: Option<Child>,
    port: u16,
    dir: TempDir,
    extra: &'static str,
}

impl Broker {
    /// A port that was free a moment ago.
    fn reserve(extra: &'static str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { child: None, port, dir: tempfile::tempdir().unwrap(), extra }
    }

    async fn start(extra: &'static str) -> Self {
        let mut broker = Self::reserve(extra);
        broker.launch().await;
        broker
    }

    async fn launch(&mut self) {
        let dir = self.dir.path().display();
        // Saved at each change, so that a killed broker knows what it had acknowledged.
        let config = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {dir}/\n\
             autosave_on_changes true\nautosave_interval 1\nmax_inflight_messages 0\nmax_queued_messages 0\n{}\n",
            self.port, self.extra
        );
        let path = self.dir.path().join("mosquitto.conf");
        std::fs::write(&path, config).unwrap();
        let program = if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
        let mut command = Command::new(program);
        command.arg("-c").arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
        if self.runs_as_root() {
            // Started by root it would give up its rights and could not write to our directory.
            std::fs::write(&path, format!("user root\n{}", std::fs::read_to_string(&path).unwrap())).unwrap();
        }
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("these tests need a real broker ({error}): apt-get install mosquitto");
        });
        self.child = Some(child);
        eventually("the broker listens", || {
            let port = self.port;
            async move { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() }
        })
        .await;
    }

    fn runs_as_root(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(self.dir.path()).unwrap().uid() == 0
    }

    /// SIGKILL: no farewell, no saving.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

// ---------------------------------------------------------------------------------- an independent subscriber

#[derive(Clone, Debug)]
struct Received {
    topic: String,
    payload: Vec<u8>,
    retain: bool,
    correlation: Option<Vec<u8>>,
}

/// Subscribes with a session of its own that outlives the broker's restart.
struct Subscriber {
    client: AsyncClient,
    received: Arc<Mutex<Vec<Received>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Subscriber {
    async fn start(broker: &Broker, filter: &str) -> Self {
        let mut options = MqttOptions::new("independent", ("127.0.0.1", broker.port));
        options.set_clean_start(false).set_session_expiry_interval(Some(3600)).set_max_packet_size(Some(8 << 20));
        let (client, mut eventloop) = AsyncClient::builder(options).capacity(64).build();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (store, again, filter) = (Arc::clone(&received), client.clone(), filter.to_owned());
        let (ready, mut subscribed) = watch::channel(false);
        let task = tokio::spawn(async move {
            loop {
                match eventloop.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        again.try_subscribe(filter.clone(), QoS::AtLeastOnce).unwrap();
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => {
                        ready.send_replace(true);
                    }
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        store.lock().unwrap().push(Received {
                            topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                            payload: publish.payload.to_vec(),
                            retain: publish.retain,
                            correlation: publish.properties.and_then(|p| p.correlation_data).map(|d| d.to_vec()),
                        });
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        tokio::time::timeout(PATIENCE, subscribed.wait_for(|ready| *ready)).await.unwrap().unwrap();
        Self { client, received, task }
    }

    fn all(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    fn on(&self, topic: &str) -> Vec<Received> {
        self.all().into_iter().filter(|one| one.topic == topic).collect()
    }

    /// Ids of the events, as they came.
    fn event_ids(&self) -> Vec<String> {
        let of = |one: &Received| serde_json::from_slice::<Value>(&one.payload).ok()?["id"].as_str().map(str::to_owned);
        self.all().iter().filter(|one| one.topic.contains("/case/")).filter_map(of).collect()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// ------------------------------------------------------------------------------------------------ the station

struct Station {
    uplink: Arc<Uplink>,
    cancel: CancellationToken,
    status: watch::Sender<Value>,
    incoming: Option<mpsc::Receiver<uplink::Incoming>>,
}

impl Station {
    fn start(url: &str, outbox: &Outbox) -> Self {
        Self::start_with(uplink::Config::new(url), outbox)
    }

    fn start_with(config: uplink::Config, outbox: &Outbox) -> Self {
        let (status, status_rx) = watch::channel(json!({ "version": "test" }));
        let (incoming_tx, incoming) = mpsc::channel(4);
        let cancel = CancellationToken::new();
        let uplink = uplink::spawn(config, "s1", outbox.clone(), status_rx, incoming_tx, cancel.clone());
        Self { uplink: Arc::new(uplink), cancel, status, incoming: Some(incoming) }
    }

    async fn connected(&self) {
        let mut state = self.uplink.state();
        let connected = tokio::time::timeout(PATIENCE, state.wait_for(|state| state.connected)).await;
        assert!(connected.is_ok(), "no connection: {:?}", self.uplink.state().borrow());
    }

    async fn stop(self) {
        self.cancel.cancel();
        let uplink = Arc::into_inner(self.uplink).expect("the test holds the only handle");
        tokio::time::timeout(PATIENCE, uplink.stopped()).await.unwrap();
    }
}

fn case_record(case: &str, sequence: u64) -> Record {
    let event = cloudevents::case_event("s1", case, sequence, Timestamp::now(), json!({ "type": "Feature" }));
    Record {
        id: cloudevents::event_id(case, sequence),
        class: Class::Case,
        key: case.to_owned(),
        topic: format!("case/{case}"),
        content_type: cloudevents::CONTENT_TYPE.to_owned(),
        payload: Payload::Bytes(event.to_string().into_bytes()),
        captured_at: Some(Timestamp::now()),
    }
}

fn note(id: &str, class: Class, key: &str, bytes: usize) -> Record {
    Record {
        id: id.to_owned(),
        class,
        key: key.to_owned(),
        topic: format!("test/{id}"),
        content_type: "text/plain".to_owned(),
        payload: Payload::Bytes(vec![b'x'; bytes]),
        captured_at: None,
    }
}

async fn queued(outbox: &Outbox, count: u64) {
    let mut stats = outbox.stats();
    let reached = tokio::time::timeout(PATIENCE, stats.wait_for(|stats| stats.queued == count)).await;
    assert!(reached.is_ok(), "{count} expected in the queue, found {:?}", outbox.stats().borrow());
}

/// Every id was received; the first sight of each case's events is in order.
fn assert_complete_and_in_order(ids: &[String], cases: u64, events: u64) {
    let mut seen = HashSet::new();
    let mut last: HashMap<&str, u64> = HashMap::new();
    for id in ids {
        let (case, sequence) = id.split_once('/').unwrap();
        let sequence: u64 = sequence.parse().unwrap();
        if seen.insert(id) {
            let before = last.insert(case, sequence).unwrap_or(0);
            assert_eq!(sequence, before + 1, "case {case} out of order");
        }
    }
    assert_eq!(seen.len() as u64, cases * events, "events missing");
}

// ----------------------------------------------------------------------------------------------------- outbox

#[tokio::test]
async fn what_was_accepted_survives_the_end_of_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let digest = outbox.store_picture(b"a picture").await.unwrap();
    let mut picture = note("p", Class::Evidence, "c1", 0);
    picture.payload = Payload::File(digest);
    outbox.accept(vec![case_record("c1", 1), case_record("c1", 2), picture.clone()]).await.unwrap();
    drop(outbox);

    let outbox = reopen(dir.path()).await;
    assert_eq!(outbox.stats().borrow().queued, 3);
    let next = outbox.next(10, u64::MAX).await.unwrap();
    assert_eq!(next.iter().map(|q| q.record.id.as_str()).collect::<Vec<_>>(), ["c1/1", "p"]);
    assert_eq!(next[1].record, picture);
    assert!(outbox.check().await.unwrap().is_sound());
}

/// The lock is given back by the owner thread shortly after the last handle is gone.
async fn reopen(dir: &Path) -> Outbox {
    reopen_with(dir, Options::default()).await
}

async fn reopen_with(dir: &Path, options: Options) -> Outbox {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Outbox::open_with(dir, options.clone()) {
            Err(OutboxError::InUse(_)) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await
            }
            opened => return opened.unwrap(),
        }
    }
}

#[tokio::test]
async fn two_stations_never_share_an_outbox() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Outbox::open(dir.path()).unwrap();
    assert!(matches!(Outbox::open(dir.path()), Err(OutboxError::InUse(_))));
}

#[tokio::test]
async fn the_same_id_is_accepted_once_even_after_it_was_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    outbox.accept(vec![case_record("c1", 1), case_record("c1", 1)]).await.unwrap();
    outbox.accept(vec![case_record("c1", 1)]).await.unwrap();
    assert_eq!(outbox.stats().borrow().queued, 1);

    let next = outbox.next(10, u64::MAX).await.unwrap();
    deliver(&outbox, next[0].seq).await;
    outbox.accept(vec![case_record("c1", 1)]).await.unwrap();
    let stats = outbox.stats().borrow().clone();
    assert_eq!((stats.queued, stats.delivered), (0, 1));
}

async fn deliver(outbox: &Outbox, seq: i64) {
    let settlement = Settlement::Delivered { seq, acked_at: Timestamp::now(), note: None };
    outbox.settle(vec![settlement]).await.unwrap();
}

#[tokio::test]
async fn a_batch_is_accepted_as_a_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let mut missing = note("p", Class::Evidence, "c1", 0);
    missing.payload = Payload::File("0".repeat(64));
    // Beside it a good one, which may share its transaction and must not share its fate.
    let (bad, good) =
        tokio::join!(outbox.accept(vec![case_record("c1", 1), missing]), outbox.accept(vec![case_record("c2", 1)]));
    assert!(matches!(bad, Err(OutboxError::PictureMissing { .. })), "{bad:?}");
    good.unwrap();
    let ids: Vec<String> = outbox.list(10).await.unwrap().into_iter().map(|one| one.id).collect();
    assert_eq!(ids, ["c2/1"]);
}

#[tokio::test]
async fn classes_go_by_priority_and_a_stream_never_overtakes_itself() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    outbox
        .accept(vec![
            note("big", Class::Evidence, "e1", 200_000),
            note("small", Class::Evidence, "e2", 1_000),
            note("sortie", Class::Sortie, "s1", 10),
            case_record("c1", 1),
            case_record("c1", 2),
            note("lost", Class::Loss, "loss", 10),
        ])
        .await
        .unwrap();
    let next = outbox.next(10, u64::MAX).await.unwrap();
    let ids: Vec<&str> = next.iter().map(|q| q.record.id.as_str()).collect();
    assert_eq!(ids, ["lost", "c1/1", "sortie", "small", "big"], "c1/2 waits for c1/1");
    assert!(outbox.next(10, u64::MAX).await.unwrap().is_empty(), "what is out is not handed out again");

    // Refused for an hour: its stream waits with it.
    let retry_at = Timestamp::now() + SignedDuration::from_hours(1);
    outbox.settle(vec![Settlement::Later { seq: next[1].seq, reason: "quota".into(), retry_at }]).await.unwrap();
    assert!(outbox.next(10, u64::MAX).await.unwrap().is_empty());

    // A new session: all that was out comes again, in the same order; the refused one still waits.
    outbox.restart_session(None).await.unwrap();
    let again: Vec<String> = outbox.next(10, u64::MAX).await.unwrap().into_iter().map(|q| q.record.id).collect();
    assert_eq!(again, ["lost", "sortie", "small", "big"]);
}

#[tokio::test]
async fn a_corrupt_database_is_set_aside_reported_and_its_readable_records_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    outbox.accept((1..=50).map(|n| case_record("c1", n)).collect()).await.unwrap();
    drop(outbox);
    drop(reopen(dir.path()).await);
    let db = dir.path().join("outbox.db");
    // The lock tells when the second owner has closed the file too.
    let deadline = Instant::now() + PATIENCE;
    while std::fs::File::open(dir.path().join("outbox.lock")).unwrap().try_lock().is_err() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut bytes = std::fs::read(&db).unwrap();
    let (len, page) = (bytes.len(), 4096);
    // The last page of the table goes; the header and the first rows stay.
    bytes[len - 3 * page..].fill(0x5a);
    std::fs::write(&db, &bytes).unwrap();

    let outbox = Outbox::open(dir.path()).unwrap();
    let stats = outbox.stats().borrow().clone();
    assert_eq!(stats.quarantined, 1);
    assert!(stats.queued > 1, "whole rows were not saved: {stats:?}");
    let next = outbox.next(1, u64::MAX).await.unwrap();
    assert_eq!(next[0].record.topic, "loss");
    let Payload::Bytes(body) = &next[0].record.payload else { panic!("a report travels in the database") };
    let event: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(event["data"]["cause"], "corrupt_database");
    let aside = std::fs::read_dir(dir.path()).unwrap().flatten();
    assert!(aside.into_iter().any(|f| { f.file_name().to_string_lossy().starts_with("outbox.db.corrupt-") }));
    drop(outbox);

    // Not even a database.
    drop(reopen(dir.path()).await);
    eventually("the file is closed", || async {
        std::fs::File::open(dir.path().join("outbox.lock")).unwrap().try_lock().is_ok()
    })
    .await;
    std::fs::write(&db, b"no database at all, but long enough to be looked at by anybody").unwrap();
    let outbox = reopen(dir.path()).await;
    assert_eq!(outbox.stats().borrow().quarantined, 1);
    outbox.accept(vec![case_record("c9", 1)]).await.unwrap();
}

#[tokio::test]
async fn a_full_outbox_drops_pictures_before_sorties_before_cases_and_reports_each_loss() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { budget_bytes: 100_000, source: "aerie/v1/s1".into(), ..Options::default() };
    let outbox = Outbox::open_with(dir.path(), options).unwrap();
    let digest = outbox.store_picture(&[7; 30_000]).await.unwrap();
    let mut first = note("picture-1", Class::Evidence, "", 0);
    first.payload = Payload::File(digest.clone());
    outbox.accept(vec![first]).await.unwrap();
    outbox.accept(vec![note("picture-2", Class::Evidence, "", 30_000)]).await.unwrap();
    outbox.accept(vec![note("sortie-1", Class::Sortie, "s", 20_000)]).await.unwrap();
    outbox.accept(vec![note("case-1", Class::Case, "c", 40_000)]).await.unwrap();

    let state = |listed: &[aerie::outbox::Listed], id: &str| {
        listed.iter().find(|one| one.id == id).map(|one| one.state).unwrap_or("absent")
    };
    let listed = outbox.list(20).await.unwrap();
    assert_eq!(state(&listed, "picture-1"), "evicted", "the oldest picture goes first");
    assert_eq!(state(&listed, "picture-2"), "queued");
    assert!(!outbox.picture_path(&digest).exists(), "its file gives the space back");
    let losses = || async {
        let mut lost = Vec::new();
        for queued in outbox.next(1, u64::MAX).await.unwrap() {
            let Payload::Bytes(body) = &queued.record.payload else { panic!() };
            let event: Value = serde_json::from_slice(body).unwrap();
            assert_eq!(event["source"], "aerie/v1/s1");
            let named = event["data"]["lost"].as_array().unwrap();
            lost.extend(named.iter().map(|one| one["id"].as_str().unwrap().to_owned()));
            deliver(&outbox, queued.seq).await;
        }
        lost
    };
    assert_eq!(losses().await, ["picture-1"]);

    outbox.accept(vec![note("case-2", Class::Case, "c", 45_000)]).await.unwrap();
    assert_eq!(losses().await, ["picture-2", "sortie-1"], "both had to go, in one report");
    let listed = outbox.list(20).await.unwrap();
    assert_eq!((state(&listed, "case-1"), state(&listed, "case-2")), ("queued", "queued"));

    // Nothing else left: now the oldest case, and that is reported too.
    outbox.accept(vec![note("case-3", Class::Case, "c", 40_000)]).await.unwrap();
    assert_eq!(losses().await, ["case-1"]);
    assert!(outbox.stats().borrow().bytes <= 100_000);
    // An evicted id is not taken a second time.
    outbox.accept(vec![note("case-1", Class::Case, "c", 40_000)]).await.unwrap();
    assert_eq!(state(&outbox.list(20).await.unwrap(), "case-1"), "evicted");
}

#[tokio::test]
async fn delivered_records_give_way_before_anything_that_is_owed() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open_with(dir.path(), Options { budget_bytes: 100_000, ..Options::default() }).unwrap();
    outbox.accept(vec![note("old", Class::Case, "c", 60_000)]).await.unwrap();
    let seq = outbox.next(1, u64::MAX).await.unwrap()[0].seq;
    deliver(&outbox, seq).await;
    outbox.accept(vec![note("new", Class::Evidence, "", 60_000)]).await.unwrap();
    let listed = outbox.list(10).await.unwrap();
    assert_eq!(listed.iter().map(|one| (one.id.as_str(), one.state)).collect::<Vec<_>>(), [("new", "queued")]);
}

// ----------------------------------------------------------------------------------------------------- uplink

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

// --------------------------------------------------------------------------------------------------- commands

/// A door with a clock in the test's hand and an executor that counts what it acted on.
struct DoorTest {
    door: Door,
    acted: Arc<AtomicUsize>,
    key: ed25519_dalek::SigningKey,
    clock: Arc<AtomicI64>,
    interrupted: Vec<commands::Interrupted>,
}

const NOW: i64 = 1_800_000_000;

fn config(key: &ed25519_dalek::SigningKey) -> commands::Config {
    commands::Config {
        keys: vec![commands::KeyConfig {
            kid: "ops".into(),
            public_key: commands::public_key_text(key),
            may: vec!["patrol.start".into()],
        }],
    }
}

impl DoorTest {
    fn open(dir: &Path) -> Self {
        Self::with_executor(dir, |acted, mut inbox| async move {
            while let Some(execute) = inbox.recv().await {
                if let Some(running) = execute.begin().await {
                    let n = acted.fetch_add(1, Ordering::SeqCst) + 1;
                    running.finish(Outcome::Done(json!({ "n": n })));
                }
            }
        })
    }

    fn with_executor<F>(dir: &Path, executor: impl FnOnce(Arc<AtomicUsize>, mpsc::Receiver<Execute>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let (tx, rx) = mpsc::channel(1);
        let clock = Arc::new(AtomicI64::new(NOW));
        let now = Arc::clone(&clock);
        let now = Arc::new(move || Timestamp::from_second(now.load(Ordering::SeqCst)).unwrap());
        let (door, interrupted) = Door::open_with(dir, "s1", &config(&key), tx, now).unwrap();
        let acted = Arc::new(AtomicUsize::new(0));
        tokio::spawn(executor(Arc::clone(&acted), rx));
        Self { door, acted, key, clock, interrupted }
    }

    fn envelope(&self, id: &str) -> Envelope {
        Envelope {
            id: id.into(),
            station: "s1".into(),
            name: "patrol.start".into(),
            args: json!({ "patrol": "river" }),
            issued_at: Timestamp::from_second(NOW).unwrap(),
            deadline: Timestamp::from_second(NOW + 60).unwrap(),
            operator: "li".into(),
        }
    }

    async fn send(&self, envelope: &Envelope) -> Reply {
        self.send_as(envelope, "command/patrol.start").await
    }

    async fn send_as(&self, envelope: &Envelope, topic: &str) -> Reply {
        let token = commands::sign(envelope, &self.key, "ops").into_bytes();
        self.door.submit(Submission::Signed { topic: topic.into(), token, reply_to: ReplyTo::default() }).await
    }

    fn acted(&self) -> usize {
        self.acted.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_replayed_command_acts_once_and_gets_the_same_reply_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let test = DoorTest::open(dir.path());
    let envelope = test.envelope("01A");
    let first = test.send(&envelope).await;
    assert_eq!((first.status, &first.data), (Status::Done, &json!({ "n": 1 })));
    assert_eq!(test.send(&envelope).await, first);
    // Also after its deadline: a reply that was given does not change.
    test.clock.store(NOW + 3600, Ordering::SeqCst);
    assert_eq!(test.send(&envelope).await, first);
    assert_eq!(test.acted(), 1);
    drop(test);

    let test = DoorTest::open(dir.path());
    assert!(test.interrupted.is_empty());
    assert_eq!(test.send(&envelope).await, first);
    assert_eq!(test.acted(), 0);
}

#[tokio::test]
async fn the_same_command_sent_many_times_at_once_acts_once() {
    let dir = tempfile::tempdir().unwrap();
    let test = DoorTest::open(dir.path());
    let envelope = test.envelope("01A");
    let (a, b, c, d) =
        tokio::join!(test.send(&envelope), test.send(&envelope), test.send(&envelope), test.send(&envelope));
    assert_eq!(test.acted(), 1);
    for other in [b, c, d] {
        assert_eq!(other, a);
    }
}

#[tokio::test]
async fn a_command_that_does_not_get_its_turn_in_time_expires_without_acting() {
    let dir = tempfile::tempdir().unwrap();
    let clock_hand = Arc::new(Mutex::new(None::<Arc<AtomicI64>>));
    let hand = Arc::clone(&clock_hand);
    let test = DoorTest::with_executor(dir.path(), |acted, mut inbox| async move {
        while let Some(execute) = inbox.recv().await {
            // The executor was busy for longer than the command is good.
            if let Some(clock) = hand.lock().unwrap().as_ref() {
                clock.store(NOW + 61, Ordering::SeqCst);
            }
            if let Some(running) = execute.begin().await {
                acted.fetch_add(1, Ordering::SeqCst);
                running.finish(Outcome::Done(Value::Null));
            }
        }
    });
    *clock_hand.lock().unwrap() = Some(Arc::clone(&test.clock));
    let reply = test.send(&test.envelope("01A")).await;
    assert_eq!((reply.status, test.acted()), (Status::Expired, 0));
}

#[tokio::test]
async fn a_refusal_of_a_genuine_command_is_final_but_a_forgery_spends_nobodys_id() {
    let dir = tempfile::tempdir().unwrap();
    let test = DoorTest::open(dir.path());

    // Genuine, and too late: journalled, and it stays so.
    let late = Envelope {
        deadline: Timestamp::from_second(NOW - 1).unwrap(),
        issued_at: Timestamp::from_second(NOW - 50).unwrap(),
        ..test.envelope("late")
    };
    let reply = test.send(&late).await;
    assert_eq!((reply.status, reply.id.as_deref()), (Status::Expired, Some("late")));
    assert_eq!(test.send(&late).await, reply);

    // Genuine, and not allowed.
    let cancel = Envelope { name: "patrol.cancel".into(), ..test.envelope("cancel") };
    let reply = test.send_as(&cancel, "command/patrol.cancel").await;
    assert_eq!((reply.status, reply.id.as_deref()), (Status::Refused, Some("cancel")));

    // Forged, under the id of a command to come.
    let forged = commands::sign(&test.envelope("01A"), &ed25519_dalek::SigningKey::from_bytes(&[9; 32]), "ops");
    let forged = Submission::Signed {
        topic: "command/patrol.start".into(),
        token: forged.into_bytes(),
        reply_to: ReplyTo::default(),
    };
    let reply = test.door.submit(forged).await;
    assert_eq!((reply.status, reply.id), (Status::Refused, None));
    // Genuine, but played back where it does not belong.
    let reply = test.send_as(&test.envelope("01A"), "command/patrol.cancel").await;
    assert_eq!((reply.status, reply.id), (Status::Refused, None));

    assert_eq!(test.send(&test.envelope("01A")).await.status, Status::Done);
    assert_eq!(test.acted(), 1);
    let journal = test.door.list(10).await.unwrap();
    assert_eq!(journal.len(), 3, "{journal:?}");
}

#[tokio::test]
async fn a_command_that_a_crash_interrupted_is_closed_as_failed_and_never_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let (begun_tx, mut begun) = mpsc::channel(1);
    let test = DoorTest::with_executor(dir.path(), |_, mut inbox| async move {
        let execute = inbox.recv().await.unwrap();
        let _running = execute.begin().await;
        begun_tx.send(()).await.unwrap();
        std::future::pending::<()>().await;
    });
    let envelope = test.envelope("01A");
    let token = commands::sign(&envelope, &test.key, "ops").into_bytes();
    let reply_to = ReplyTo { topic: Some("answers".into()), correlation_data: Some(vec![1, 2]) };
    let door = test.door.clone();
    let waiting = tokio::spawn(async move {
        door.submit(Submission::Signed { topic: "command/patrol.start".into(), token, reply_to }).await
    });
    tokio::time::timeout(PATIENCE, begun.recv()).await.unwrap().unwrap();
    waiting.abort();

    // A second door on the same journal is what a restarted process sees.
    let test = DoorTest::open(dir.path());
    assert_eq!(test.interrupted.len(), 1);
    assert_eq!(test.interrupted[0].reply.status, Status::Failed);
    assert_eq!(
        test.interrupted[0].reply_to,
        ReplyTo { topic: Some("answers".into()), correlation_data: Some(vec![1, 2]) }
    );
    assert_eq!(test.send(&envelope).await, test.interrupted[0].reply);
    assert_eq!(test.acted(), 0);
    assert!(DoorTest::open(dir.path()).interrupted.is_empty(), "closed once");
}

#[tokio::test]
async fn a_lost_journal_refuses_what_it_may_have_carried_out() {
    let dir = tempfile::tempdir().unwrap();
    drop(DoorTest::open(dir.path()));
    std::fs::write(dir.path().join("commands.db"), b"this was a journal before the disk failed, now it is nothing")
        .unwrap();
    let _ = std::fs::remove_file(dir.path().join("commands.db-wal"));
    let test = DoorTest::open(dir.path());
    test.clock.store(NOW + 10, Ordering::SeqCst);
    let reply = test.send(&test.envelope("01A")).await;
    assert_eq!((reply.status, test.acted()), (Status::Refused, 0), "{reply:?}");
    test.clock.store(NOW + 120, Ordering::SeqCst);
    let fresh = Envelope {
        issued_at: Timestamp::from_second(NOW + 119).unwrap(),
        deadline: Timestamp::from_second(NOW + 150).unwrap(),
        ..test.envelope("01B")
    };
    assert_eq!(test.send(&fresh).await.status, Status::Done);
}

#[tokio::test]
async fn local_callers_come_through_the_same_door_into_the_same_journal() {
    let dir = tempfile::tempdir().unwrap();
    let test = DoorTest::open(dir.path());
    let local = |id: Option<&str>| Submission::Local {
        operator: "wang".into(),
        origin: "page".into(),
        name: "patrol.start".into(),
        args: Value::Null,
        id: id.map(str::to_owned),
        deadline: None,
    };
    let first = test.door.submit(local(Some("click-1"))).await;
    assert_eq!(first.status, Status::Done);
    assert_eq!(test.door.submit(local(Some("click-1"))).await, first);
    assert_eq!(test.door.submit(local(None)).await.data, json!({ "n": 2 }));
    let journal = test.door.list(10).await.unwrap();
    assert_eq!(journal.len(), 2);
    assert!(journal.iter().all(|one| one.origin == "page" && one.state == "done"), "{journal:?}");
}

#[tokio::test]
async fn a_command_over_mqtt_is_answered_once_where_it_asks_to_be() {
    let broker = Broker::start("").await;
    let subscriber = Subscriber::start(&broker, "+/+/+/reply/#").await;
    let office = Subscriber::client(&broker, "office", "office/answers").await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let mut station = Station::start(&broker.url(), &outbox);
    let test = DoorTest::open(dir.path());
    test.clock.store(NOW, Ordering::SeqCst);
    let (hints, _hints) = mpsc::channel(4);
    let serving = tokio::spawn(commands::serve(
        test.door.clone(),
        Arc::clone(&station.uplink),
        station.incoming.take().unwrap(),
        hints,
    ));
    station.connected().await;

    let token = commands::sign(&test.envelope("01A"), &test.key, "ops");
    let topic = "aerie/v1/s1/command/patrol.start";
    let asking = PublishProperties {
        response_topic: Some("office/answers".into()),
        correlation_data: Some(vec![4, 2].into()),
        ..PublishProperties::default()
    };
    let publish = |payload: Vec<u8>, properties: PublishProperties| {
        office.client.publish(topic, payload, PublishOptions::at_least_once().properties(properties))
    };
    publish(b"\xff not a command".to_vec(), PublishProperties::default()).await.unwrap();
    publish(vec![b'x'; 100_000], PublishProperties::default()).await.unwrap();
    publish(token.clone().into_bytes(), asking.clone()).await.unwrap();
    eventually("the answer", || async { !office.all().is_empty() }).await;
    let answer = office.all().remove(0);
    assert_eq!(answer.correlation, Some(vec![4, 2]));
    let reply: Reply = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!((reply.status, reply.id.as_deref()), (Status::Done, Some("01A")));

    // Again, asking nowhere in particular: the same reply, under the station's own topic.
    publish(token.into_bytes(), PublishProperties::default()).await.unwrap();
    eventually("the default topic", || async { !subscriber.on("aerie/v1/s1/reply/01A").is_empty() }).await;
    assert_eq!(serde_json::from_slice::<Reply>(&subscriber.on("aerie/v1/s1/reply/01A")[0].payload).unwrap(), reply);
    assert_eq!((office.all().len(), test.acted()), (1, 1));
    serving.abort();
    let _ = serving.await;
    station.cancel.cancel();
}

impl Subscriber {
    /// A second client beside the first.
    async fn client(broker: &Broker, id: &str, filter: &str) -> Self {
        let mut options = MqttOptions::new(id, ("127.0.0.1", broker.port));
        options.set_max_packet_size(Some(8 << 20));
        let (client, mut eventloop) = AsyncClient::builder(options).capacity(16).build();
        let received = Arc::new(Mutex::new(Vec::new()));
        let store = Arc::clone(&received);
        client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        let (ready, mut subscribed) = watch::channel(false);
        let task = tokio::spawn(async move {
            while let Ok(event) = eventloop.poll().await {
                match event {
                    Event::Incoming(Packet::SubAck(_)) => {
                        ready.send_replace(true);
                    }
                    Event::Incoming(Packet::Publish(publish)) => store.lock().unwrap().push(Received {
                        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                        payload: publish.payload.to_vec(),
                        retain: publish.retain,
                        correlation: publish.properties.and_then(|p| p.correlation_data).map(|d| d.to_vec()),
                    }),
                    _ => {}
                }
            }
        });
        tokio::time::timeout(PATIENCE, subscribed.wait_for(|ready| *ready)).await.unwrap().unwrap();
        Self { client, received, task }
    }
}

// ------------------------------------------------------------------------------------ docs/protocol holds true

/// What the program makes, for each file in docs/protocol/examples. Fixed inputs, so that the files are stable.
fn examples() -> Vec<(&'static str, &'static str, Value)> {
    use aerie::cases::{Case, CaseState, Kind, Kinds, event};
    use aerie::geo::{Ellipse, LatLon, Located};
    use aerie::perception::protocol::ModelName;

    let at = |second: i64| Timestamp::from_second(1_795_000_000 + second).unwrap();
    let case_id = "01KAQ2Z5V8M4Q0V7C3N9J2T6RX";
    let case = Case {
        id: case_id.into(),
        kind: Kind::BlueRoof,
        state: CaseState::Suspected,
        confidence: 0.87,
        located: Located {
            at: LatLon { lat: 23.0412, lon: 112.9046 },
            uncertainty: Ellipse { semi_major_m: 2.4, semi_minor_m: 1.1, bearing_deg: 37.0 },
            slant_m: 118.0,
        },
        before: None,
        first_seen: at(0),
        last_seen: at(600),
        count: 2,
        sortie: "01KAQ2Y0000000000000000001".into(),
        experimental: false,
        sequence: 2,
        evidence: vec!["0f".repeat(32)],
        event: None,
    };
    let division =
        event::Division { town: Some("丹灶镇".into()), district: Some("南海区".into()), village: None };
    let model = ModelName { name: "town-8".into(), version: "0.1.0".into(), sha256: "a1".repeat(32) };
    let feature = event::feature(&case, &Kinds::default(), &division, Some(&model));

    let sortie = json!({
        "id": "01KAQ2Y0000000000000000001",
        "patrol": "river",
        "trigger": "schedule",
        "operator": null,
        "state": "refused",
        "reason": "wind: 13.2 m/s, the limit is 10.0 m/s",
        "planned_at": at(-60),
        "started_at": null,
        "ended_at": at(0),
        "frames": 0,
        "frames_lost": 0,
        "cases": 0,
        "coverage": 0.0,
        "progress": 0.0,
        "gates": [{ "gate": "wind", "passed": false, "reason": "13.2 m/s, the limit is 10.0 m/s" }],
    });
    let envelope = Envelope {
        id: "01KAQ30000000000000000000A".into(),
        station: "danzao-1".into(),
        name: "patrol.start".into(),
        args: json!({ "patrol": "river" }),
        issued_at: at(0),
        deadline: at(120),
        operator: "li.wei".into(),
    };
    let reply = Reply {
        id: Some(envelope.id.clone()),
        status: Status::Refused,
        reason: Some("wind: 13.2 m/s, the limit is 10.0 m/s".into()),
        data: Value::Null,
    };
    let sortie_id = "01KAQ2Y0000000000000000001";
    vec![
        ("case-event.json", "case-event", cloudevents::case_event("danzao-1", case_id, 2, at(601), feature)),
        ("sortie-event.json", "sortie-event", cloudevents::sortie_event("danzao-1", sortie_id, 2, at(0), sortie)),
        ("envelope.json", "envelope", serde_json::to_value(envelope).unwrap()),
        ("reply.json", "reply", serde_json::to_value(reply).unwrap()),
    ]
}

/// Compares with a file of docs/protocol, or writes it when `AERIE_UPDATE` is set.
fn assert_on_disk(file: &str, made: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol").join(file);
    if std::env::var_os("AERIE_UPDATE").is_some() {
        std::fs::write(&path, format!("{}\n", serde_json::to_string_pretty(made).unwrap())).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        &found, made,
        "docs/protocol/{file} is out of date: AERIE_UPDATE=1 cargo test --test delivery documented"
    );
}

fn assert_fits(schema: &str, instance: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/protocol/{schema}.schema.json"));
    let text = std::fs::read_to_string(&path).unwrap();
    let validator = jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap();
    let faults: Vec<String> = validator.iter_errors(instance).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(faults.is_empty(), "{schema}: {faults:#?}");
}

#[test]
fn documented_schemas_and_examples_are_what_the_program_makes() {
    assert_on_disk("envelope.schema.json", schemars::schema_for!(Envelope).as_value());
    assert_on_disk("reply.schema.json", schemars::schema_for!(Reply).as_value());
    for (file, schema, made) in examples() {
        assert_on_disk(&format!("examples/{file}"), &made);
        assert_fits(schema, &made);
    }
}

#[tokio::test]
async fn loss_events_are_as_documented() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { budget_bytes: 1_000, source: "aerie/v1/s1".into(), ..Options::default() };
    let outbox = Outbox::open_with(dir.path(), options).unwrap();
    outbox.accept(vec![note("old", Class::Evidence, "", 900), note("new", Class::Evidence, "", 900)]).await.unwrap();
    let report = outbox.next(1, u64::MAX).await.unwrap().remove(0).record;
    let Payload::Bytes(body) = report.payload else { panic!("a report travels in the database") };
    assert_fits("loss-event", &serde_json::from_slice(&body).unwrap());
}

// -------------------------------------------------------------------------------------------------------- TLS

/// Makes a certificate authority, and a server and a client certificate of it, with Debian's openssl.
fn certificates(dir: &Path) -> bool {
    let run = |args: &str| {
        let status = Command::new("openssl").args(args.split(' ')).current_dir(dir).stderr(Stdio::null()).status();
        status.map(|status| status.success())
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    match run(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca")) {
        Err(_) => return false,
        Ok(made) => assert!(made, "openssl could not make a certificate authority"),
    }
    std::fs::write(dir.join("server.ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
    std::fs::write(dir.join("client.ext"), "extendedKeyUsage=clientAuth\n").unwrap();
    for name in ["server", "client"] {
        assert!(run(&format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}")).unwrap());
        let sign = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2";
        assert!(run(&format!("x509 -req -in {name}.csr {sign} -extfile {name}.ext -out {name}.pem")).unwrap());
    }
    true
}

#[tokio::test]
async fn mutual_tls_delivers_and_a_stranger_authority_is_refused() {
    let certs = tempfile::tempdir().unwrap();
    if !certificates(certs.path()) {
        eprintln!("skipped: no openssl to make certificates with");
        return;
    }
    let path = |name: &str| certs.path().join(name);
    let broker_config: &'static str = Box::leak(
        format!(
            "cafile {0}/ca.pem\ncertfile {0}/server.pem\nkeyfile {0}/server.key\nrequire_certificate true",
            certs.path().display()
        )
        .into_boxed_str(),
    );
    let broker = Broker::start(broker_config).await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    outbox.accept(vec![case_record("c1", 1)]).await.unwrap();
    let mut config = uplink::Config::new(format!("mqtts://127.0.0.1:{}", broker.port));
    config.client_cert_file = Some(path("client.pem"));
    config.client_key_file = Some(path("client.key"));

    // Another authority than the broker's: here the client's own certificate stands in for one.
    config.ca_file = Some(path("client.pem"));
    let station = Station::start_with(config.clone(), &outbox);
    let mut state = station.uplink.state();
    tokio::time::timeout(PATIENCE, state.wait_for(|state| state.last_error.is_some())).await.unwrap().unwrap();
    assert_eq!(outbox.stats().borrow().queued, 1);
    station.stop().await;

    config.ca_file = Some(path("ca.pem"));
    let station = Station::start_with(config, &outbox);
    queued(&outbox, 0).await;
    assert_eq!(outbox.stats().borrow().delivered, 1);
    station.stop().await;
}
