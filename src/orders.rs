//! Carries out commands: what came through the one door is handed to the part that can do it. [`args`] reads what they say.

pub mod args;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use args::{Again, Ask, Judged, Start};

use crate::cases::verdict::{Verdict, VerdictRefused};
use crate::config::Checked;
use crate::outbox::Resend;
use crate::patrol::flight::Order;
use crate::patrol::holds::HoldKeeper;
use crate::patrol::requests::Wanted;
use crate::patrol::{Dispatcher, OrderRefused, StartRefused, Trigger};
use crate::runtime::clock::Trust;
use crate::runtime::{disk, latest};
use crate::station::Station;
use crate::update::UpdateError;
use crate::uplink::Incoming;
use crate::uplink::commands::{Envelope, Execute, Outcome, Scope};

/// Every command that a station knows.
pub const COMMANDS: [&str; 19] = [
    "patrol.start",
    "patrol.cancel",
    "patrol.pause",
    "patrol.resume",
    "patrol.return",
    "request",
    "verdict",
    "station.hold",
    "station.release",
    "station.maintenance",
    "station.maintained",
    "station.diagnostics",
    "outbox.resend",
    "rules.hint",
    "model.hint",
    "model.check",
    "model.add",
    "model.promote",
    "model.rollback",
];

/// Hints larger than this are no hints.
const LONGEST_HINT: usize = 4096;
/// Commands that diagnostics tell of.
const LAST_COMMANDS: usize = 20;

/// What upstream wants the station to have. Nothing is fetched or changed for it: the configuration is the operator's,
/// and a model comes by its signature. The page and the status say where the two differ.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Hints {
    pub model: Option<Value>,
    pub rules: Option<Value>,
}

/// All that a command can reach.
#[derive(Clone)]
pub struct Orders {
    pub station: Station,
    pub holds: HoldKeeper,
    pub clock: watch::Receiver<Trust>,
    pub hints: Arc<watch::Sender<Hints>>,
    /// SHA-256 of the rules in force, see [`rules_digest`].
    pub rules: String,
}

impl Orders {
    pub async fn execute(self, order: Execute) {
        let Some(running) = order.begin().await else { return };
        let envelope = running.envelope.clone();
        let dispatcher = &self.station.dispatcher;
        let updates = &self.station.updates;
        let by = envelope.operator.clone();
        let ask = match Ask::read(&envelope.name, &envelope.args) {
            Ok(ask) => ask,
            Err(fault) => return running.finish(Outcome::Refused(fault)),
        };
        let outcome = match ask {
            Ask::Start(args) => start(dispatcher, args, by).await,
            Ask::Cancel => match dispatcher.cancel().await {
                Some(sortie) => Outcome::Done(json!({"sortie": sortie})),
                None => Outcome::Refused("no sortie is under way".to_owned()),
            },
            Ask::Tell(order) => tell(dispatcher, order, by).await,
            Ask::Request(args) => self.request(&envelope, &args).await,
            Ask::Verdict(args) => self.verdict(&envelope, args, &running.scope).await,
            Ask::Hold(lock, reason) => held(self.holds.set(lock, &by, Some(reason)).await),
            Ask::Lift(lock) => held(self.holds.set(lock, &by, None).await),
            Ask::Diagnostics => Outcome::Done(self.diagnostics().await),
            Ask::Resend(again) => self.resend(again).await,
            Ask::RulesHint(sha256) => self.rules_hint(&sha256),
            Ask::ModelHint(wanted) => match self.take_model_hint(&wanted) {
                Ok(data) => Outcome::Done(data),
                Err(fault) => Outcome::Refused(fault),
            },
            Ask::Check => updated(updates.check().await),
            Ask::Add(folder) => updated(updates.add(folder.into()).await),
            Ask::Promote(release, to) => updated(updates.promote(by, release, to).await),
            Ask::RollBack { reason, release } => updated(updates.roll_back(by, reason, release).await),
        };
        running.finish(outcome);
    }

    async fn request(&self, envelope: &Envelope, args: &Value) -> Outcome {
        let config = &self.station.checked.config;
        let (dock, now) = (config.station.dock, Timestamp::now());
        let wanted = match Wanted::read(&envelope.id, &envelope.operator, args, &config.requests, dock, now) {
            Ok(wanted) => wanted,
            Err(fault) => return Outcome::Refused(fault),
        };
        match self.station.dispatcher.look(wanted).await {
            Ok(fate) => {
                let mut data = json!(fate);
                data["request"] = envelope.id.as_str().into();
                Outcome::Done(data)
            }
            Err(failed @ (StartRefused::Gone | StartRefused::NotStored(_))) => Outcome::Failed(failed.to_string()),
            Err(refused) => Outcome::Refused(refused.to_string()),
        }
    }

    async fn verdict(&self, envelope: &Envelope, args: Judged, scope: &Scope) -> Outcome {
        let verdict = Verdict {
            verdict: args.verdict,
            operator: envelope.operator.clone(),
            reason: args.reason,
            at: Timestamp::now(),
            command: envelope.id.clone(),
        };
        match self.station.keeper.verdict(args.case.clone(), verdict, scope.departments.clone()).await {
            Ok(sequence) => Outcome::Done(
                json!({"case": args.case, "state": args.verdict, "event": format!("{}/{sequence}", args.case)}),
            ),
            Err(VerdictRefused::Failed(why)) => Outcome::Failed(why),
            Err(refused) => Outcome::Refused(refused.to_string()),
        }
    }

    async fn resend(&self, again: Again) -> Outcome {
        let which = match again {
            Again::Since(since) => Resend::Since(since),
            Again::Case(case) => {
                let cases = latest(&self.station.keeper.cases());
                let evidence = cases.iter().find(|known| known.id == case).map(|known| known.evidence.clone());
                let ids = evidence.unwrap_or_default().into_iter().map(|digest| format!("evidence/{digest}")).collect();
                Resend::Stream { key: case, ids }
            }
        };
        match self.station.outbox.resend(which).await {
            Ok(records) => Outcome::Done(json!({"records": records})),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    fn rules_hint(&self, wanted: &str) -> Outcome {
        let same = wanted == self.rules;
        self.hints.send_modify(|hints| hints.rules = (!same).then(|| json!({"sha256": wanted})));
        Outcome::Done(json!({"sha256": self.rules, "same": same}))
    }

    /// Also what comes retained on `model/desired`, which nobody has signed: it can only be looked at.
    fn take_model_hint(&self, wanted: &Value) -> Result<Value, String> {
        let (Some(name), Some(version)) = (wanted["name"].as_str(), wanted["version"].as_str()) else {
            return Err("name and version of the model are wanted, both texts".to_owned());
        };
        let running = latest(&self.station.perception.state()).model;
        let same = running.as_ref().is_some_and(|model| model.name == name && model.version == version);
        if !same {
            self.station.updates.hint();
        }
        self.hints.send_modify(|hints| hints.model = (!same).then(|| json!({"name": name, "version": version})));
        Ok(json!({"running": running, "same": same}))
    }

    /// A hint from a topic that is no command's.
    pub fn hinted(&self, message: &Incoming) {
        // An empty retained message is how a hint is taken back.
        if message.payload.is_empty() {
            self.hints.send_modify(|hints| hints.model = None);
            return;
        }
        let read = match message.payload.len() {
            0..=LONGEST_HINT => serde_json::from_slice(&message.payload).map_err(|error| error.to_string()),
            long => Err(format!("{long} bytes are too many")),
        };
        if let Err(fault) = read.and_then(|wanted: Value| self.take_model_hint(&wanted)) {
            tracing::warn!(fault, topic = message.topic_rest, "a hint was not understood");
        }
    }

    /// What helps somebody far away to see what is wrong.
    async fn diagnostics(&self) -> Value {
        let station = &self.station;
        let commands = station.door.list(LAST_COMMANDS).await.unwrap_or_default();
        json!({
            "status": crate::station::status_of(station, &latest(&self.hints.subscribe())),
            "started": station.started,
            "outbox": latest(&station.outbox.stats()),
            "uplink": latest(&station.uplink),
            "clock": latest(&self.clock),
            "gates": station.dispatcher.gates(),
            "disk_free_mb": disk::free_mb(&station.checked.config.station.state_dir),
            "memory_mb": memory_mb(),
            "perception": latest(&station.perception.state()),
            "rules_sha256": self.rules,
            "commands": commands,
        })
    }
}

/// Resident memory of this process, 10^6 bytes.
fn memory_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024 / 1_000_000)
}

/// What decides which thing is a case and how it is called: the kinds as they are reported, and the register.
pub fn rules_digest(checked: &Checked) -> String {
    let cases = &checked.config.cases;
    let register = cases.register.as_ref().and_then(|file| std::fs::read(file).ok()).unwrap_or_default();
    let mut digest = Sha256::new();
    digest.update(json!([cases.code_system, cases.kinds]).to_string());
    digest.update(register);
    hex::encode(digest.finalize())
}

fn updated(done: Result<String, UpdateError>) -> Outcome {
    match done {
        Ok(said) => Outcome::Done(json!({"said": said})),
        Err(gone @ UpdateError::Gone) => Outcome::Failed(gone.to_string()),
        Err(refused) => Outcome::Refused(refused.to_string()),
    }
}

async fn tell(dispatcher: &Dispatcher, order: Order, by: String) -> Outcome {
    match dispatcher.order(order, by).await {
        Ok(sortie) => Outcome::Done(json!({"sortie": sortie})),
        Err(refused @ OrderRefused::Gone) => Outcome::Failed(refused.to_string()),
        Err(refused) => Outcome::Refused(refused.to_string()),
    }
}

fn held(set: Result<crate::patrol::gates::Holds, crate::runtime::store::StoreError>) -> Outcome {
    match set {
        Ok(holds) => Outcome::Done(json!({"holds": holds})),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

async fn start(dispatcher: &Dispatcher, args: Start, by: String) -> Outcome {
    let trigger = match args.via.as_deref() {
        Some("page") => Trigger::Page,
        Some("cli") => Trigger::Cli,
        _ => Trigger::Mqtt,
    };
    match dispatcher.start(&args.patrol, trigger, Some(by), args.continues).await {
        Ok(sortie) => Outcome::Done(json!({"sortie": sortie})),
        Err(refused @ StartRefused::Gone) => Outcome::Failed(refused.to_string()),
        Err(StartRefused::Gates { reason, .. }) => Outcome::Gated(reason),
        Err(refused) => Outcome::Refused(refused.to_string()),
    }
}
