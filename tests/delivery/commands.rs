//! A command acts once, in time, for those who may; it gets one reply.

use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aerie::outbox::Outbox;
use aerie::runtime::clock::Trust;
use aerie::uplink::commands::{self, Door, Envelope, Execute, Outcome, Reply, ReplyTo, Status, Submission};
use jiff::Timestamp;
use rumqttc::{PublishOptions, PublishProperties};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::support::*;

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
            roles: Vec::new(),
            patrols: None,
            departments: None,
        }],
        ..commands::Config::default()
    }
}

/// Does every command, and says which one in a row it was.
async fn counting(acted: Arc<AtomicUsize>, mut inbox: mpsc::Receiver<Execute>) {
    while let Some(execute) = inbox.recv().await {
        if let Some(running) = execute.begin().await {
            let n = acted.fetch_add(1, Ordering::SeqCst) + 1;
            running.finish(Outcome::Done(json!({ "n": n })));
        }
    }
}

impl DoorTest {
    fn open(dir: &Path) -> Self {
        Self::with_executor(dir, counting)
    }

    fn with_executor<F>(dir: &Path, executor: impl FnOnce(Arc<AtomicUsize>, mpsc::Receiver<Execute>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(dir, config, None, executor)
    }

    fn with<F>(
        dir: &Path,
        config: impl FnOnce(&ed25519_dalek::SigningKey) -> commands::Config,
        trust: Option<watch::Receiver<Trust>>,
        executor: impl FnOnce(Arc<AtomicUsize>, mpsc::Receiver<Execute>) -> F,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let (tx, rx) = mpsc::channel(1);
        let clock = Arc::new(AtomicI64::new(NOW));
        let now = Arc::clone(&clock);
        let now = Arc::new(move || Timestamp::from_second(now.load(Ordering::SeqCst)).unwrap());
        let (door, interrupted) = Door::open_with(dir, "s1", &config(&key), tx, now, trust).unwrap();
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
async fn another_command_under_an_id_that_was_used_is_refused_and_not_answered_for_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let test = DoorTest::open(dir.path());
    let first = test.envelope("01A");
    let second = Envelope { args: json!({ "patrol": "harbour" }), ..first.clone() };
    // While the first is in work, and after it has ended.
    let (done, at_once) = tokio::join!(test.send(&first), test.send(&second));
    assert_eq!(done.status, Status::Done);
    for reply in [at_once, test.send(&second).await] {
        assert_eq!(reply.status, Status::Refused);
        assert!(reply.reason.as_deref().unwrap().contains("used before, for another command"), "{reply:?}");
    }
    assert_eq!((test.acted(), test.send(&first).await), (1, done));
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

#[tokio::test]
async fn a_clock_that_is_not_trusted_starts_no_flight_and_says_so_but_calls_home() {
    let dir = tempfile::tempdir().unwrap();
    let (trust_out, trust) = watch::channel(Trust::Stepped { seconds: -3600.0 });
    let may_fly_and_return = |key: &ed25519_dalek::SigningKey| {
        let mut config = config(key);
        config.keys[0].may.push("patrol.cancel".into());
        config
    };
    let test = DoorTest::with(dir.path(), may_fly_and_return, Some(trust), counting);
    for (id, doubt, words) in [
        ("1", Trust::Stepped { seconds: -3600.0 }, "jumped by -3600 s"),
        ("2", Trust::Off { seconds: 40.0 }, "40 s off"),
        ("3", Trust::Unsynced, "nothing tells it"),
    ] {
        trust_out.send_replace(doubt);
        let reply = test.send(&test.envelope(id)).await;
        assert_eq!(reply.status, Status::Refused);
        assert!(reply.reason.as_deref().unwrap().contains(words), "{reply:?}");
    }
    let home = Envelope { name: "patrol.cancel".into(), ..test.envelope("4") };
    assert_eq!(test.send_as(&home, "command/patrol.cancel").await.status, Status::Done);
    trust_out.send_replace(Trust::Synced { by: "a test" });
    // That refusal was its one reply.
    assert_eq!(test.send(&test.envelope("1")).await.status, Status::Refused);
    assert_eq!(test.send(&test.envelope("5")).await.status, Status::Done);
    assert_eq!(test.acted(), 2);
}

#[tokio::test]
async fn a_role_gives_its_rights_and_no_others_and_a_scope_goes_with_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let officer = |key: &ed25519_dalek::SigningKey| {
        let mut config = config(key);
        config.keys[0].may.clear();
        config.keys[0].roles = vec!["officer".into(), "night".into()];
        config.keys[0].departments = Some(vec!["water".into()]);
        config.roles.insert("night".into(), vec!["station.hold".into()]);
        config
    };
    let (scopes_out, mut scopes) = mpsc::channel(4);
    let test = DoorTest::with(dir.path(), officer, None, |_, mut inbox| async move {
        while let Some(execute) = inbox.recv().await {
            let running = execute.begin().await.unwrap();
            scopes_out.send(running.scope.clone()).await.unwrap();
            running.finish(Outcome::Done(Value::Null));
        }
    });
    for (name, topic, status) in [
        ("verdict", "verdict", Status::Done),
        ("station.hold", "command/station.hold", Status::Done),
        ("patrol.start", "command/patrol.start", Status::Refused),
    ] {
        let envelope = Envelope { name: name.into(), ..test.envelope(name) };
        assert_eq!(test.send_as(&envelope, topic).await.status, status, "{name}");
    }
    assert_eq!(scopes.recv().await.unwrap().departments, Some(vec!["water".to_owned()]));
}

#[test]
fn a_key_with_a_role_that_nobody_knows_or_with_no_right_at_all_is_a_fault_of_the_configuration() {
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let mut faulty = config(&key);
    faulty.keys[0].roles = vec!["admiral".into()];
    let fault = faulty.check().unwrap_err().to_string();
    assert!(fault.contains("admiral") && fault.contains("officer") && fault.contains("keys.ops"), "{fault}");
    faulty.keys[0].roles.clear();
    faulty.keys[0].may.clear();
    assert!(faulty.check().unwrap_err().to_string().contains("neither roles nor may"));
}

/// 10,000 things that are no command, or none that may be acted on; none acts, none stops the door, each has one reply.
#[tokio::test]
async fn ten_thousand_hostile_payloads_act_on_nothing_and_stop_nobody() {
    use rand::{RngExt, SeedableRng};

    let dir = tempfile::tempdir().unwrap();
    let test = DoorTest::open(dir.path());
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let good = commands::sign(&test.envelope("spent"), &test.key, "ops");
    assert_eq!(test.send(&test.envelope("spent")).await.status, Status::Done);
    let stranger = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    let late = Envelope {
        issued_at: Timestamp::from_second(NOW - 100).unwrap(),
        deadline: Timestamp::from_second(NOW - 40).unwrap(),
        ..test.envelope("late")
    };
    let mut replies = std::collections::HashMap::new();
    for number in 0..10_000u32 {
        let mut topic = "command/patrol.start".to_owned();
        let kind = number % 10;
        let token: Vec<u8> = match kind {
            0 => (0..random.random_range(0..400)).map(|_| random.random()).collect(),
            1 => {
                // A genuine one with one byte changed.
                let mut bent = good.clone().into_bytes();
                let at = random.random_range(0..bent.len());
                bent[at] = bent[at].wrapping_add(random.random_range(1..=255));
                bent
            }
            2 => good.as_bytes()[..random.random_range(0..good.len())].to_vec(),
            3 => commands::sign(&test.envelope(&format!("f{number}")), &stranger, "ops").into_bytes(),
            4 => {
                let algorithm = ["none", "HS256", "eddsa", "RS256"][number as usize / 10 % 4];
                let header = json!({"alg": algorithm, "kid": "ops"});
                let parts = [header.to_string(), json!({"id": "x"}).to_string(), String::new()];
                use base64::Engine;
                parts.map(|part| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(part)).join(".").into_bytes()
            }
            5 => good.clone().into_bytes(),
            6 => {
                // JSON that nests as deep as it may.
                let depth = random.random_range(1..20_000);
                format!("{}{}", "[".repeat(depth), "]".repeat(depth)).into_bytes()
            }
            7 => vec![b'a'; 64 * 1024 + random.random_range(0..100_000)],
            8 => {
                topic = ["command/patrol.cancel", "verdict", "request", "command/", "command/../x", "\u{0}"]
                    [random.random_range(0..6)]
                .to_owned();
                good.clone().into_bytes()
            }
            _ => commands::sign(&late, &test.key, "ops").into_bytes(),
        };
        let submission = Submission::Signed { topic, token, reply_to: ReplyTo::default() };
        let reply = test.door.submit(submission).await;
        assert!(reply.status != Status::Done || kind == 5 || kind == 1, "{kind}: {reply:?}");
        *replies.entry((kind, reply.status)).or_insert(0) += 1;
    }
    assert_eq!(replies[&(5, Status::Done)], 1000, "the same reply as the first time, each time");
    assert_eq!(replies[&(9, Status::Expired)], 1000);
    assert_eq!(test.acted(), 1, "and acted on once, before all of this");
    assert_eq!(test.send(&test.envelope("after")).await.status, Status::Done);
    let journal = test.door.list(100).await.unwrap();
    assert_eq!(journal.len(), 3, "forgeries leave no trace: {journal:?}");
}

/// Where a test's log goes.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn who_is_not_let_in_and_who_is_refused_has_one_line_in_the_log_that_says_which_key_topic_name_and_id() {
    let dir = tempfile::tempdir().unwrap();
    let test = DoorTest::open(dir.path());
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _listening = tracing::subscriber::set_default(subscriber);
    let submit = |topic: &str, token: Vec<u8>| {
        test.door.submit(Submission::Signed { topic: topic.to_owned(), token, reply_to: ReplyTo::default() })
    };
    let lines = || String::from_utf8(std::mem::take(&mut *log.0.lock().unwrap())).unwrap();
    let one = |wanted: &[&str]| {
        let text = lines();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(wanted.iter().all(|word| text.contains(word)), "{wanted:?}: {text}");
    };
    submit("command/patrol.start", b"junk \x1b[2J\nanother line".to_vec()).await;
    one(&["WARN", "topic=\"command/patrol.start\"", "bytes=22", "three parts"]);
    let stranger = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    let forged = Envelope { operator: "li\nforged line".into(), ..test.envelope("01F") };
    submit("command/patrol.start", commands::sign(&forged, &stranger, "ops").into_bytes()).await;
    one(&["WARN", "kid=\"ops\"", "name=\"patrol.start\"", "id=\"01F\"", "li forged line", "signature does not match"]);
    let elsewhere = Envelope { station: "s2".into(), ..test.envelope("01G") };
    submit("command/patrol.start", commands::sign(&elsewhere, &test.key, "ops").into_bytes()).await;
    one(&["WARN", "id=\"01G\"", "meant for station"]);
    let other = Envelope { name: "patrol.cancel".into(), ..test.envelope("01H") };
    assert_eq!(test.send_as(&other, "command/patrol.cancel").await.status, Status::Refused);
    one(&[
        "WARN",
        "id=\"01H\"",
        "name=\"patrol.cancel\"",
        "origin=\"mqtt:ops\"",
        "status=\"refused\"",
        "may not give",
        "of the roles, operator may",
    ]);
    for _ in 0..1000 {
        submit("command/patrol.start", b"junk".to_vec()).await;
    }
    let flood = lines();
    assert!(flood.lines().count() <= 10, "{flood}");
}
