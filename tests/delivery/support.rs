//! A real mosquitto, a subscriber that shares nothing with the uplink, and a station that is outbox and uplink alone.

use std::collections::{HashMap, HashSet};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aerie::outbox::{Class, Options, Outbox, OutboxError, Payload, Record, Settlement};
use aerie::uplink::{self, Uplink, cloudevents};
use jiff::Timestamp;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Long enough for a loaded machine; every wait ends as soon as its condition holds.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Broker {
    pub child: Option<Child>,
    pub port: u16,
    pub dir: TempDir,
    pub extra: &'static str,
}

impl Broker {
    /// A port that was free a moment ago.
    pub fn reserve(extra: &'static str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { child: None, port, dir: tempfile::tempdir().unwrap(), extra }
    }

    pub async fn start(extra: &'static str) -> Self {
        let mut broker = Self::reserve(extra);
        broker.launch().await;
        broker
    }

    pub async fn launch(&mut self) {
        let dir = self.dir.path().display();
        // Saved at each change, so that a killed broker knows what it had acknowledged.
        let unless_said = |key: &str| if self.extra.contains(key) { String::new() } else { format!("{key} 0\n") };
        let (window, queue) = (unless_said("max_inflight_messages"), unless_said("max_queued_messages"));
        let config = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {dir}/\n\
             autosave_on_changes true\nautosave_interval 1\n{window}{queue}{}\n",
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

    pub fn runs_as_root(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(self.dir.path()).unwrap().uid() == 0
    }

    /// Stops the broker where it is, until all it had sent has been read. A connection of a killed process is reset, and what
    /// its peer has not read by then is gone for the peer, also what the broker counted as sent before it acknowledged.
    pub async fn freeze(&self) {
        let child = self.child.as_ref().expect("a broker that runs");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
        eventually("what the broker sent is read", || async { unread(self.port) == 0 }).await;
    }

    /// SIGKILL: no farewell, no saving.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Bytes that the broker at this port has sent and its peers have not read: of its own sockets what waits to go out, of
/// theirs what has come in (proc_pid_net(5), `/proc/net/tcp`).
fn unread(port: u16) -> u64 {
    let text = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let port_of = |address: &str| hex(address.rsplit(':').next().unwrap());
    let (mut ends, mut bytes) = (0, 0);
    for line in text.lines().skip(1) {
        let field: Vec<&str> = line.split_whitespace().collect();
        let (to_send, to_read) = field[4].split_once(':').unwrap();
        match (port_of(field[1]), port_of(field[2])) {
            // Who listens is connected to port 0.
            (local, remote) if local == u64::from(port) && remote != 0 => {
                (ends, bytes) = (ends + 1, bytes + hex(to_send))
            }
            (_, remote) if remote == u64::from(port) => (ends, bytes) = (ends + 1, bytes + hex(to_read)),
            _ => {}
        }
    }
    assert!(ends >= 2, "no connection of the broker at {port} is listed");
    bytes
}

pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[derive(Clone, Debug)]
pub struct Received {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retain: bool,
    pub correlation: Option<Vec<u8>>,
}

/// Subscribes with a session of its own that outlives the broker's restart.
pub struct Subscriber {
    pub client: AsyncClient,
    pub received: Arc<Mutex<Vec<Received>>>,
    pub task: tokio::task::JoinHandle<()>,
}

impl Subscriber {
    pub async fn start(broker: &Broker, filter: &str) -> Self {
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

    pub fn all(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub fn on(&self, topic: &str) -> Vec<Received> {
        self.all().into_iter().filter(|one| one.topic == topic).collect()
    }

    /// Ids of the events, as they came.
    pub fn event_ids(&self) -> Vec<String> {
        let of = |one: &Received| serde_json::from_slice::<Value>(&one.payload).ok()?["id"].as_str().map(str::to_owned);
        self.all().iter().filter(|one| one.topic.contains("/case/")).filter_map(of).collect()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub struct Station {
    pub uplink: Arc<Uplink>,
    pub cancel: CancellationToken,
    pub status: watch::Sender<Value>,
    pub incoming: Option<mpsc::Receiver<uplink::Incoming>>,
}

impl Station {
    pub fn start(url: &str, outbox: &Outbox) -> Self {
        Self::start_with(uplink::Config::new(url), outbox)
    }

    pub fn start_with(config: uplink::Config, outbox: &Outbox) -> Self {
        let (status, status_rx) = watch::channel(json!({ "version": "test" }));
        let (incoming_tx, incoming) = mpsc::channel(4);
        let cancel = CancellationToken::new();
        let uplink = uplink::spawn(config, "s1", outbox.clone(), status_rx, incoming_tx, cancel.clone());
        Self { uplink: Arc::new(uplink), cancel, status, incoming: Some(incoming) }
    }

    pub async fn connected(&self) {
        let mut state = self.uplink.state();
        let connected = tokio::time::timeout(PATIENCE, state.wait_for(|state| state.connected)).await;
        assert!(connected.is_ok(), "no connection: {:?}", self.uplink.state().borrow());
    }

    pub async fn stop(self) {
        self.cancel.cancel();
        let uplink = Arc::into_inner(self.uplink).expect("the test holds the only handle");
        tokio::time::timeout(PATIENCE, uplink.stopped()).await.unwrap();
    }
}

pub fn case_record(case: &str, sequence: u64) -> Record {
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

pub fn note(id: &str, class: Class, key: &str, bytes: usize) -> Record {
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

pub async fn queued(outbox: &Outbox, count: u64) {
    let mut stats = outbox.stats();
    let reached = tokio::time::timeout(PATIENCE, stats.wait_for(|stats| stats.queued == count)).await;
    assert!(reached.is_ok(), "{count} expected in the queue, found {:?}", outbox.stats().borrow());
}

/// Every id was received; the first sight of each case's events is in order.
pub fn assert_complete_and_in_order(ids: &[String], cases: u64, events: u64) {
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

impl Subscriber {
    /// A second client beside the first.
    pub async fn client(broker: &Broker, id: &str, filter: &str) -> Self {
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

/// The lock is given back by the owner thread shortly after the last handle is gone.
pub async fn reopen(dir: &Path) -> Outbox {
    reopen_with(dir, Options::default()).await
}

pub async fn reopen_with(dir: &Path, options: Options) -> Outbox {
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

pub async fn deliver(outbox: &Outbox, seq: i64) {
    let settlement = Settlement::Delivered { seq, acked_at: Timestamp::now(), note: None };
    outbox.settle(vec![settlement]).await.unwrap();
}
