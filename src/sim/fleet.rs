//! Many light stations against one broker, for sizing what is upstream: the real outbox and the real uplink, with
//! generated cases, sorties and pictures instead of a drone. Runs a part of a day in little time.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::outbox::{Class, Options, Outbox, Payload, Record};
use crate::sim::soak::feed::{case_record, event, evidence_record};
use crate::sim::soak::{SoakError, percentile};
use crate::uplink::{self, Uplink, cloudevents};

/// How much a station has to say in a day.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Day {
    pub sorties: f64,
    /// Events of each.
    pub sortie_events: f64,
    pub cases: f64,
    /// Events of each; the first two have a picture.
    pub case_events: f64,
    pub picture_bytes: usize,
}

#[derive(Debug, Clone)]
pub struct FleetOptions {
    pub stations: u32,
    pub host: String,
    pub port: u16,
    pub state_dir: PathBuf,
    pub day: Day,
    /// Simulated seconds a second.
    pub speed: f64,
    pub lasts: Duration,
    pub seed: u64,
}

#[derive(Debug, Serialize)]
pub struct FleetReport {
    pub stations: u32,
    pub connected: u32,
    pub simulated_hours: f64,
    pub accepted: u64,
    pub delivered: u64,
    pub delivered_share: f64,
    /// From the event's own time to the subscriber, of case and sortie events.
    pub latency_p50_ms: f64,
    pub latency_p99_ms: f64,
    /// The same of a bare client, without outbox and uplink: as large an event every 50 ms, by the same broker to the
    /// same subscriber meanwhile. The least that this broker takes on this machine; none if no such event arrived.
    pub bare_p50_ms: Option<f64>,
    pub bare_p99_ms: Option<f64>,
    /// Of one core, for each station, the counting subscriber and all threads included.
    pub cpu_share_a_station: f64,
    pub memory_mb_a_station: f64,
    /// What a station of this day sends without telemetry, from the sizes that were sent.
    pub event_mb_a_day: f64,
    pub picture_mb_a_day: f64,
    /// One pose a second, of the size that they have, if the drone were linked all day.
    pub telemetry_mb_a_day: f64,
    pub seconds: f64,
}

/// What the subscriber counts.
#[derive(Default)]
struct Heard {
    events: u64,
    pictures: u64,
    latencies_ms: Vec<f64>,
    bare_ms: Vec<f64>,
}

/// The bare client's name in topics.
const BARE: &str = "fleet-bare";

struct Light {
    id: String,
    outbox: Outbox,
    link: Uplink,
}

pub async fn simulate(options: FleetOptions) -> Result<FleetReport, SoakError> {
    allow_many_files();
    let (heard, _listening) = listen(&options).await?;
    let cancel = CancellationToken::new();
    let mut fleet = Vec::new();
    for number in 0..options.stations {
        let id = format!("fleet-{number:05}");
        let limits = Options { source: cloudevents::source(&id), ..Options::default() };
        let outbox = Outbox::open_with(options.state_dir.join(&id), limits)?;
        let (_out, status) = watch::channel(json!({"version": env!("CARGO_PKG_VERSION"), "simulated": true}));
        let (incoming_out, mut incoming) = mpsc::channel(4);
        tokio::spawn(async move { while incoming.recv().await.is_some() {} });
        let mut config = uplink::Config::new(format!("mqtt://{}:{}", options.host, options.port));
        // They do not come back: the broker need not keep their sessions.
        config.session_expiry_s = 60;
        let link = uplink::spawn(config, &id, outbox.clone(), status, incoming_out, cancel.clone());
        fleet.push(Light { id, outbox, link });
    }
    for light in &fleet {
        let mut state = light.link.state();
        let connected = state.wait_for(|state| state.connected);
        // A broker that does not take them all is a finding, not a failure.
        let _ = tokio::time::timeout(Duration::from_secs(60), connected).await;
    }
    let connected = fleet.iter().filter(|light| light.link.state().borrow().connected).count() as u32;
    tracing::info!(connected, "the fleet is up");

    let beside = publish_bare(&options);
    let (started, cpu_before) = (Instant::now(), cpu_seconds());
    let feeding: Vec<_> = fleet
        .iter()
        .enumerate()
        .map(|(number, light)| {
            let (id, outbox, options) = (light.id.clone(), light.outbox.clone(), options.clone());
            let seed = options.seed.wrapping_add(number as u64);
            AbortOnDropHandle::new(tokio::spawn(async move { live(&id, &outbox, &options, seed).await }))
        })
        .collect();
    let mut sent = Sent::default();
    for station in feeding {
        match station.await {
            Ok(Ok(one)) => sent.add(&one),
            Ok(Err(error)) => return Err(error),
            Err(error) => return Err(SoakError::Failed(error.to_string())),
        }
    }
    drop(beside);
    // The last events are on their way.
    let until = Instant::now() + Duration::from_secs(30);
    while fleet.iter().any(|light| light.outbox.stats().borrow().queued > 0) && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu_before);
    let memory_mb = crate::sim::soak::resident_bytes() as f64 / 1e6;
    cancel.cancel();
    for light in fleet {
        light.link.stopped().await;
    }
    sweep(&options).await;
    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    let hours = options.lasts.as_secs_f64() * options.speed / 3600.0;
    let (accepted, delivered) = (sent.events + sent.pictures, heard.events + heard.pictures);
    let mut bare_ms = std::mem::take(&mut heard.bare_ms);
    let mut bare = |part| (!bare_ms.is_empty()).then(|| percentile(&mut bare_ms, part));
    let a_day = |bytes: u64| bytes as f64 / f64::from(options.stations) / hours * 24.0 / 1e6;
    Ok(FleetReport {
        stations: options.stations,
        connected,
        simulated_hours: hours,
        accepted,
        delivered,
        delivered_share: delivered as f64 / accepted.max(1) as f64,
        latency_p50_ms: percentile(&mut heard.latencies_ms, 0.50),
        latency_p99_ms: percentile(&mut heard.latencies_ms, 0.99),
        bare_p50_ms: bare(0.50),
        bare_p99_ms: bare(0.99),
        cpu_share_a_station: cpu / seconds / f64::from(options.stations),
        memory_mb_a_station: memory_mb / f64::from(options.stations),
        event_mb_a_day: a_day(sent.event_bytes),
        picture_mb_a_day: a_day(sent.picture_bytes),
        telemetry_mb_a_day: pose().to_string().len() as f64 * 86_400.0 / 1e6,
        seconds,
    })
}

#[derive(Default)]
struct Sent {
    events: u64,
    pictures: u64,
    event_bytes: u64,
    picture_bytes: u64,
}

impl Sent {
    fn add(&mut self, other: &Sent) {
        self.events += other.events;
        self.pictures += other.pictures;
        self.event_bytes += other.event_bytes;
        self.picture_bytes += other.picture_bytes;
    }
}

/// One station's share of the day: events at random moments, as many an hour as the day has.
async fn live(id: &str, outbox: &Outbox, options: &FleetOptions, seed: u64) -> Result<Sent, SoakError> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let day = options.day;
    let (cases, sorties) = (day.cases * day.case_events, day.sorties * day.sortie_events);
    let a_second = (cases + sorties) / 86_400.0 * options.speed;
    let until = Instant::now() + options.lasts;
    let mut sent = Sent::default();
    // Subjects under way: what was said of each so far.
    let (mut case, mut case_said, mut sortie, mut sortie_said) = (0, 0, 0, 0);
    loop {
        let pause = -(1.0 - random.random::<f64>()).ln() / a_second.max(1e-9);
        let next = Instant::now() + Duration::from_secs_f64(pause.min(1e6));
        tokio::time::sleep_until(next.min(until).into()).await;
        if next >= until {
            return Ok(sent);
        }
        let mut records = Vec::new();
        if random.random_bool(cases / (cases + sorties)) {
            case_said += 1;
            let name = format!("{id}-c{case}");
            records.push(case_record(id, &name, case_said, &event(id, &name, case_said)));
            if case_said <= 2 {
                let mut picture = vec![0; day.picture_bytes];
                picture.chunks_mut(8).for_each(|part| part.fill(random.random()));
                sent.pictures += 1;
                sent.picture_bytes += picture.len() as u64;
                records.push(evidence_record(outbox.store_picture(&picture).await?));
            }
            if f64::from(case_said as u32) >= day.case_events {
                (case, case_said) = (case + 1, 0);
            }
        } else {
            sortie_said += 1;
            records.push(sortie_record(id, &format!("{id}-s{sortie}"), sortie_said));
            if f64::from(sortie_said as u32) >= day.sortie_events {
                (sortie, sortie_said) = (sortie + 1, 0);
            }
        }
        sent.events += 1;
        sent.event_bytes += records.iter().map(Record::body_bytes).sum::<u64>();
        outbox.accept(records).await?;
    }
}

impl Record {
    fn body_bytes(&self) -> u64 {
        match &self.payload {
            Payload::Bytes(body) => body.len() as u64,
            Payload::File(_) => 0,
        }
    }
}

fn sortie_record(station: &str, sortie: &str, sequence: u64) -> Record {
    let data = json!({"id": sortie, "state": "airborne", "reason": "x".repeat(400)});
    let event = cloudevents::sortie_event(station, sortie, sequence, Timestamp::now(), data);
    Record {
        id: cloudevents::event_id(sortie, sequence),
        class: Class::Sortie,
        key: sortie.to_owned(),
        topic: format!("sortie/{sortie}"),
        content_type: cloudevents::CONTENT_TYPE.to_owned(),
        payload: Payload::Bytes(event.to_string().into_bytes()),
        captured_at: None,
    }
}

/// As the station says it.
fn pose() -> Value {
    json!({
        "at": Timestamp::now(), "lat": 23.0512345, "lon": 113.0012345, "height_m": 80.25, "heading_deg": 123.4,
        "speed_m_s": 7.93, "battery_pct": 71.0, "armed": true, "mode": "AUTO",
    })
}

/// Takes the stations' retained states off a broker that others use.
async fn sweep(options: &FleetOptions) {
    let mut mqtt = MqttOptions::new("fleet-sweeper", (options.host.as_str(), options.port));
    mqtt.set_clean_start(true);
    let (client, mut eventloop) =
        AsyncClient::builder(mqtt).capacity(usize::try_from(options.stations).unwrap_or(1) + 1).build();
    for number in 0..options.stations {
        let topic = format!("{}status", crate::uplink::prefix(&format!("fleet-{number:05}")));
        let _ = client.try_publish(topic, "", rumqttc::PublishOptions::at_least_once().retained());
    }
    let mut left = options.stations;
    let swept = tokio::time::timeout(Duration::from_secs(20), async {
        while left > 0 {
            match eventloop.poll().await {
                Ok(Event::Incoming(Packet::PubAck(_))) => left -= 1,
                Ok(_) => {}
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    });
    if swept.await.is_err() {
        tracing::warn!(
            left,
            "retained states of simulated stations are left at the broker, under aerie/v1/fleet-*/status"
        );
    }
}

async fn listen(options: &FleetOptions) -> Result<(Arc<Mutex<Heard>>, AbortOnDropHandle<()>), SoakError> {
    let mut mqtt = MqttOptions::new("fleet-listener", (options.host.as_str(), options.port));
    mqtt.set_clean_start(true).set_max_packet_size(Some(16 << 20));
    let (client, mut eventloop) = AsyncClient::builder(mqtt).capacity(16).build();
    let heard = Arc::new(Mutex::new(Heard::default()));
    let store = Arc::clone(&heard);
    let (ready, mut subscribed) = watch::channel(0);
    let task = tokio::spawn(async move {
        loop {
            match eventloop.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    for rest in ["case/#", "sortie/#", "evidence/#"] {
                        let _ = client.try_subscribe(format!("aerie/v1/+/{rest}"), QoS::AtLeastOnce);
                    }
                }
                Ok(Event::Incoming(Packet::SubAck(_))) => ready.send_modify(|count| *count += 1),
                Ok(Event::Incoming(Packet::Publish(publish))) if publish.topic.starts_with(b"aerie/v1/fleet-") => {
                    let mut heard = store.lock().unwrap_or_else(PoisonError::into_inner);
                    if publish.topic.windows(10).any(|part| part == b"/evidence/") {
                        heard.pictures += 1;
                        continue;
                    }
                    let made = serde_json::from_slice::<Value>(&publish.payload).ok();
                    let made = made.and_then(|event| event["time"].as_str()?.parse::<Timestamp>().ok());
                    let took = made.map(|made| Timestamp::now().duration_since(made).as_secs_f64() * 1e3);
                    if publish.topic.starts_with(format!("aerie/v1/{BARE}/").as_bytes()) {
                        heard.bare_ms.extend(took);
                        continue;
                    }
                    heard.events += 1;
                    heard.latencies_ms.extend(took);
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "the listener lost its connection");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    });
    let task = AbortOnDropHandle::new(task);
    match tokio::time::timeout(Duration::from_secs(20), subscribed.wait_for(|count| *count == 3)).await {
        Ok(Ok(_)) => Ok((heard, task)),
        _ => Err(SoakError::Failed(format!("no broker takes subscriptions at {}:{}", options.host, options.port))),
    }
}

/// Publishes as nothing but the MQTT library does, until dropped.
fn publish_bare(options: &FleetOptions) -> [AbortOnDropHandle<()>; 2] {
    let mut mqtt = MqttOptions::new(BARE, (options.host.as_str(), options.port));
    mqtt.set_clean_start(true);
    let mut network = rumqttc::NetworkOptions::new();
    network.set_tcp_nodelay(true);
    mqtt.set_network_options(network);
    let (client, mut eventloop) = AsyncClient::builder(mqtt).capacity(16).build();
    let polling = tokio::spawn(async move {
        loop {
            if eventloop.poll().await.is_err() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    });
    let publishing = tokio::spawn(async move {
        let mut every = tokio::time::interval(Duration::from_millis(50));
        for sequence in 1.. {
            every.tick().await;
            let body = event(BARE, "bare", sequence).to_string();
            let _ = client
                .publish(format!("aerie/v1/{BARE}/case/bare"), body, rumqttc::PublishOptions::at_least_once())
                .await;
        }
    });
    [AbortOnDropHandle::new(polling), AbortOnDropHandle::new(publishing)]
}

/// Each station needs a socket and four files. Inherited by a broker that is started afterwards.
pub fn allow_many_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Where this is refused, opening the outboxes will say so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// What this process has used, all threads.
fn cpu_seconds() -> f64 {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return 0.0 };
    (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
}
