//! Carries out commands: what came through the one door is handed to the part that can do it.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::cases::CaseState;
use crate::cases::verdict::{Verdict, VerdictRefused};
use crate::config::Checked;
use crate::outbox::Resend;
use crate::patrol::flight::Order;
use crate::patrol::holds::{HoldKeeper, Lock};
use crate::patrol::requests::Wanted;
use crate::patrol::{Dispatcher, OrderRefused, StartRefused, Trigger};
use crate::runtime::clock::Trust;
use crate::runtime::{disk, latest};
use crate::station::Station;
use crate::update::UpdateError;
use crate::update::promote::Goal;
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
        let outcome = match envelope.name.as_str() {
            "patrol.start" => start(dispatcher, &envelope).await,
            "patrol.cancel" => match dispatcher.cancel().await {
                Some(sortie) => Outcome::Done(json!({"sortie": sortie})),
                None => Outcome::Refused("no sortie is under way".to_owned()),
            },
            "patrol.pause" => tell(dispatcher, Order::Pause, &envelope).await,
            "patrol.resume" => tell(dispatcher, Order::Resume, &envelope).await,
            "patrol.return" => tell(dispatcher, Order::Return, &envelope).await,
            "request" => self.request(&envelope).await,
            "verdict" => self.verdict(&envelope, &running.scope).await,
            "station.hold" => hold(&self.holds, Lock::Hold, &envelope).await,
            "station.release" => lift(&self.holds, Lock::Hold, &envelope).await,
            "station.maintenance" => hold(&self.holds, Lock::Maintenance, &envelope).await,
            "station.maintained" => lift(&self.holds, Lock::Maintenance, &envelope).await,
            "station.diagnostics" => Outcome::Done(self.diagnostics().await),
            "outbox.resend" => self.resend(&envelope).await,
            "rules.hint" => self.rules_hint(&envelope),
            "model.hint" => match self.take_model_hint(&envelope.args) {
                Ok(data) => Outcome::Done(data),
                Err(fault) => Outcome::Refused(fault),
            },
            "model.check" => updated(self.station.updates.check().await),
            "model.add" => match envelope.args["folder"].as_str() {
                Some(folder) => updated(self.station.updates.add(folder.into()).await),
                None => {
                    Outcome::Refused("args.folder is missing: name a folder of the station's own computer".to_owned())
                }
            },
            "model.promote" => match promotion(&envelope.args) {
                Ok((release, to)) => {
                    updated(self.station.updates.promote(envelope.operator.clone(), release, to).await)
                }
                Err(fault) => Outcome::Refused(fault),
            },
            "model.rollback" => match envelope.args["reason"].as_str().map(str::trim).filter(|r| !r.is_empty()) {
                Some(reason) => {
                    let release = envelope.args["release"].as_str().map(str::to_owned);
                    let by = envelope.operator.clone();
                    updated(self.station.updates.roll_back(by, reason.to_owned(), release).await)
                }
                None => Outcome::Refused("args.reason is missing: say why, others will read it".to_owned()),
            },
            name => {
                Outcome::Refused(format!("this station knows no command {name:?}; it knows {}", COMMANDS.join(", ")))
            }
        };
        running.finish(outcome);
    }

    async fn request(&self, envelope: &Envelope) -> Outcome {
        let config = &self.station.checked.config;
        let (args, dock, now) = (&envelope.args, config.station.dock, Timestamp::now());
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

    async fn verdict(&self, envelope: &Envelope, scope: &Scope) -> Outcome {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Args {
            case: String,
            verdict: CaseState,
            reason: String,
        }
        let args: Args = match serde_json::from_value(envelope.args.clone()) {
            Ok(args) => args,
            Err(error) => return Outcome::Refused(format!("args: {error}")),
        };
        let reason = args.reason.trim();
        if reason.is_empty() || reason.len() > 2000 || reason.chars().any(char::is_control) {
            return Outcome::Refused("args.reason must be 1 to 2000 bytes of printable text".to_owned());
        }
        let verdict = Verdict {
            verdict: args.verdict,
            operator: envelope.operator.clone(),
            reason: reason.to_owned(),
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

    async fn resend(&self, envelope: &Envelope) -> Outcome {
        let args = &envelope.args;
        let which = match (args["since"].as_str(), args["case"].as_str()) {
            (Some(since), None) => match since.parse() {
                Ok(since) => Resend::Since(since),
                Err(_) => {
                    return Outcome::Refused(format!("args.since {since:?} is no time like 2026-11-24T07:00:00Z"));
                }
            },
            (None, Some(case)) => {
                let cases = latest(&self.station.keeper.cases());
                let evidence = cases.iter().find(|known| known.id == case).map(|known| known.evidence.clone());
                let ids = evidence.unwrap_or_default().into_iter().map(|digest| format!("evidence/{digest}")).collect();
                Resend::Stream { key: case.to_owned(), ids }
            }
            _ => return Outcome::Refused("give either args.since, a time, or args.case, a case's id".to_owned()),
        };
        match self.station.outbox.resend(which).await {
            Ok(records) => Outcome::Done(json!({"records": records})),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    fn rules_hint(&self, envelope: &Envelope) -> Outcome {
        let Some(wanted) = envelope.args["sha256"].as_str().filter(|text| text.len() == 64) else {
            return Outcome::Refused(
                "args.sha256 is missing: 64 hexadecimal digits of the rules that are wanted".to_owned(),
            );
        };
        let same = wanted == self.rules;
        self.hints.send_modify(|hints| hints.rules = (!same).then(|| envelope.args.clone()));
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

/// Which release, and how far. By its name alone: an order that is given again must not move what came after.
fn promotion(args: &Value) -> Result<(String, Goal), String> {
    let Some(release) = args["release"].as_str() else {
        return Err("args.release is missing: name the release, `aerie model list` says which is under way".to_owned());
    };
    let to = match &args["to"] {
        Value::Null => Goal::Trial,
        to => serde_json::from_value(to.clone())
            .map_err(|_| format!("args.to {to} is neither \"trial\" nor \"committed\""))?,
    };
    Ok((release.to_owned(), to))
}

fn updated(done: Result<String, UpdateError>) -> Outcome {
    match done {
        Ok(said) => Outcome::Done(json!({"said": said})),
        Err(gone @ UpdateError::Gone) => Outcome::Failed(gone.to_string()),
        Err(refused) => Outcome::Refused(refused.to_string()),
    }
}

async fn tell(dispatcher: &Dispatcher, order: Order, envelope: &Envelope) -> Outcome {
    match dispatcher.order(order, envelope.operator.clone()).await {
        Ok(sortie) => Outcome::Done(json!({"sortie": sortie})),
        Err(refused @ OrderRefused::Gone) => Outcome::Failed(refused.to_string()),
        Err(refused) => Outcome::Refused(refused.to_string()),
    }
}

async fn hold(holds: &HoldKeeper, lock: Lock, envelope: &Envelope) -> Outcome {
    let reason = envelope.args["reason"].as_str().map(str::trim).filter(|r| !r.is_empty());
    let Some(reason) = reason else {
        return Outcome::Refused("args.reason is missing: say why, others will read it".to_owned());
    };
    held(holds.set(lock, &envelope.operator, Some(reason.to_owned())).await)
}

async fn lift(holds: &HoldKeeper, lock: Lock, envelope: &Envelope) -> Outcome {
    held(holds.set(lock, &envelope.operator, None).await)
}

fn held(set: Result<crate::patrol::gates::Holds, crate::runtime::store::StoreError>) -> Outcome {
    match set {
        Ok(holds) => Outcome::Done(json!({"holds": holds})),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

async fn start(dispatcher: &Dispatcher, envelope: &Envelope) -> Outcome {
    let Some(patrol) = envelope.args["patrol"].as_str() else {
        return Outcome::Refused("args.patrol is missing: name a patrol of the configuration".to_owned());
    };
    let trigger = match envelope.args["via"].as_str() {
        Some("page") => Trigger::Page,
        Some("cli") => Trigger::Cli,
        _ => Trigger::Mqtt,
    };
    let continues = envelope.args["continues"].as_str().map(str::to_owned);
    match dispatcher.start(patrol, trigger, Some(envelope.operator.clone()), continues).await {
        Ok(sortie) => Outcome::Done(json!({"sortie": sortie})),
        Err(refused @ StartRefused::Gone) => Outcome::Failed(refused.to_string()),
        Err(refused) => Outcome::Refused(refused.to_string()),
    }
}
