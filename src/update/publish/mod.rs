//! The publisher's side: a plain folder that any web server serves, made of signed metadata, documents and files.
//!
//! [`Workshop`] makes it. What waits for signatures lies in `pending/`; it is published when its role's threshold is
//! reached, and never before. Order on the disk: files, targets, their metadata, snapshot, and `timestamp.json` last, so
//! that a station which looks in between sees the old state whole.

mod keys;
mod pending;

use std::fs;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

pub use keys::{Key, Ring};

use super::release::{self, Assignment, CHUNK, Demands, Document, DocumentError, Kind, Withdrawn, digest};
use super::slots::{SlotError, sha256_of, write_durably};
use super::trust::group_role;
use crate::perception::Manifest;
use crate::perception::manifest::ManifestError;
use crate::uplink::commands::KeyFileError;

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("cannot {doing} {}: {source}", path.display())]
    Disk { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Write(#[from] SlotError),
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(
        "--keys: {} {}; `aerie model publish init` makes keys",
        .0.display(),
        if .0.is_dir() { "holds no keys" } else { "is not there" }
    )]
    NoKeys(PathBuf),
    #[error("{} is no repository: {what}; `aerie model publish init` makes one", dir.display())]
    NoRepository { dir: PathBuf, what: String },
    #[error("{} is a repository already", .0.display())]
    There(PathBuf),
    #[error("{0}")]
    Wrong(String),
}

fn disk(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PublishError {
    let path = path.to_owned();
    move |source| PublishError::Disk { doing, path, source }
}

/// The bytes a signature is over.
fn canonical(value: &Value) -> Result<Vec<u8>, PublishError> {
    sigstore_tuf::canonical_json::to_canonical_bytes(value).map_err(|e| PublishError::Wrong(e.to_string()))
}

/// How long signatures hold, in days. Those made offline hold long, those made by a timer hold short.
#[derive(Debug, Clone, Copy)]
pub struct Days {
    pub root: u32,
    pub targets: u32,
    pub snapshot: u32,
    pub timestamp: u32,
}

impl Default for Days {
    fn default() -> Days {
        Days { root: 730, targets: 365, snapshot: 30, timestamp: 14 }
    }
}

/// How many keys a role has, and how many of them must sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    pub count: u32,
    pub threshold: u32,
}

pub struct Workshop {
    dir: PathBuf,
    ring: Ring,
    days: Days,
    now: Timestamp,
}

/// What came of a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Done {
    Published(String),
    /// It was done before, with the same content.
    There(String),
    /// So many signatures are missing yet.
    Waits {
        role: String,
        missing: u32,
    },
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Done::Published(what) => write!(f, "published: {what}"),
            Done::There(what) => write!(f, "{what} is published already, with the same content: nothing was changed"),
            Done::Waits { role, missing } => {
                write!(
                    f,
                    "pending: {role} wants {missing} more signature(s); run `aerie model publish sign` with the other keys"
                )
            }
        }
    }
}

impl Workshop {
    /// `keys` holds those that are at hand; what they cannot sign waits.
    pub fn open(dir: &Path, keys: &Path, days: Days, now: Timestamp) -> Result<Workshop, PublishError> {
        let workshop = Workshop { dir: dir.to_owned(), ring: Ring::open(keys)?, days, now };
        workshop.newest("root")?;
        // With the keys of other roles a change waits; with none at all the directory is the wrong one.
        if workshop.ring.keys.is_empty() {
            return Err(PublishError::NoKeys(keys.to_owned()));
        }
        Ok(workshop)
    }

    /// Makes a repository, and the keys of every role.
    pub fn init(
        dir: &Path,
        keys: &Path,
        root: Keys,
        targets: Keys,
        groups: &[String],
        days: Days,
        now: Timestamp,
    ) -> Result<Workshop, PublishError> {
        for (name, keys) in [("root", root), ("targets", targets)] {
            if keys.threshold == 0 || keys.threshold > keys.count || keys.count > 20 {
                return Err(PublishError::Wrong(format!(
                    "{name}: {} of {} keys cannot be; write for example 2/3",
                    keys.threshold, keys.count
                )));
            }
        }
        if dir.join("metadata").exists() {
            return Err(PublishError::There(dir.to_owned()));
        }
        for folder in ["metadata", "targets", "files", "pending"] {
            let path = dir.join(folder);
            fs::create_dir_all(&path).map_err(disk("make", &path))?;
        }
        let mut workshop = Workshop { dir: dir.to_owned(), ring: Ring::open(keys)?, days, now };
        let mut signed = json!({
            "_type": "root", "spec_version": "1.0.31", "version": 1, "expires": workshop.expires(days.root),
            "consistent_snapshot": true, "keys": {}, "roles": {},
        });
        let one = Keys { count: 1, threshold: 1 };
        for (role, keys) in [("root", root), ("targets", targets), ("snapshot", one), ("timestamp", one)] {
            workshop.give_keys(&mut signed, role, keys)?;
        }
        workshop.write_role("root", &signed)?;
        let mut delegations = json!({"keys": {}, "roles": []});
        for group in groups {
            workshop.add_group(&mut delegations, group)?;
        }
        let targets = workshop.targets_of(1, json!({}), Some(delegations));
        workshop.write_role("targets", &targets)?;
        for group in groups {
            let empty = workshop.targets_of(1, json!({}), None);
            workshop.write_role(&group_role(group), &empty)?;
        }
        workshop.renew()?;
        Ok(workshop)
    }

    /// A release of a directory: its files, its document, and the list of releases that waits for its signatures.
    pub fn add(
        &mut self,
        kind: Kind,
        from: &Path,
        golden: Option<&Path>,
        demands: Demands,
    ) -> Result<(String, Done), PublishError> {
        let (name, version, mut paths) = match kind {
            Kind::Model => {
                let manifest = Manifest::read(from)?;
                manifest.model_bytes(from)?;
                manifest.ground_sample_distance(from)?;
                let mut paths = vec![("manifest.toml".to_owned(), from.join("manifest.toml"))];
                paths.push((manifest.file.clone(), from.join(&manifest.file)));
                (manifest.name, manifest.version, paths)
            }
            Kind::Rules | Kind::Register => {
                let name = if kind == Kind::Rules { "cases.toml" } else { "register.geojson" };
                super::readable(kind, from).map_err(|why| {
                    PublishError::Wrong(format!("every station would refuse it: {why}; correct it first"))
                })?;
                let digest = sha256_of(&from.join(name)).map_err(disk("read", &from.join(name)))?;
                (kind.name().to_owned(), digest[..12].to_owned(), vec![(name.to_owned(), from.join(name))])
            }
        };
        if from.join("CARD.md").is_file() {
            paths.push(("CARD.md".to_owned(), from.join("CARD.md")));
        }
        if kind == Kind::Model {
            let golden = golden.map_or_else(|| from.join("golden"), Path::to_owned);
            for picture in super::probe::Golden::read(&golden).map_err(PublishError::Wrong)?.pictures {
                paths.push((format!("golden/{}", picture.file), golden.join(&picture.file)));
            }
            paths.push(("golden/expected.json".to_owned(), golden.join("expected.json")));
        }
        let files = paths.iter().map(|(path, at)| self.take(path, at)).collect::<Result<_, _>>()?;
        let document = Document { format: 1, kind, name, version, files, demands };
        let bytes = serde_json::to_vec_pretty(&document).map_err(|e| PublishError::Wrong(e.to_string()))?;
        Document::read("the release", &bytes)?;
        let target = Document::target(&document.name, &document.version);
        let name = format!("{}-{}", document.name, document.version);
        if self.newest("targets")?.1["targets"][&target]["hashes"]["sha256"] == digest(&bytes).as_str() {
            return Ok((name.clone(), Done::There(name)));
        }
        let (version, mut signed) = self.drafted("targets")?;
        if let Some(known) = signed["targets"][&target]["hashes"]["sha256"].as_str().filter(|k| *k != digest(&bytes)) {
            return Err(PublishError::Wrong(format!(
                "{} {} is published already with other content ({known:.12}); give the new one its own version",
                document.name, document.version
            )));
        }
        self.write_target(&target, &bytes)?;
        signed["version"] = json!(version);
        signed["expires"] = json!(self.expires(self.days.targets));
        signed["targets"][&target] = described(&bytes);
        let done = self.propose("targets", signed)?;
        Ok((name, done))
    }

    /// Says which release a group's stations run.
    pub fn stage(&mut self, group: &str, kind: Kind, release: &str, percent: u8) -> Result<Done, PublishError> {
        let target = format!("releases/{release}.json");
        let targets = self.newest("targets")?.1;
        if targets["targets"][&target].is_null() {
            return Err(PublishError::Wrong(format!(
                "{release} is not among the signed releases; run `aerie model publish sign` first"
            )));
        }
        self.assign(group, kind, |assignment| {
            assignment.release = Some(release.to_owned());
            assignment.percent = percent;
            assignment.halted = None;
        })
    }

    /// Stops a roll-out; `withdraw` names a release that no station may run any more, committed or not.
    pub fn halt(
        &mut self,
        group: &str,
        kind: Kind,
        reason: &str,
        withdraw: Option<&str>,
    ) -> Result<Done, PublishError> {
        let withdrawn = match withdraw {
            None => None,
            Some(release) => {
                let targets = self.newest("targets")?.1;
                let digest = targets["targets"][format!("releases/{release}.json")]["hashes"]["sha256"].as_str();
                let digest = digest.ok_or_else(|| PublishError::Wrong(format!("{release} was never signed")))?;
                Some(Withdrawn { digest: digest.to_owned(), reason: reason.to_owned() })
            }
        };
        self.assign(group, kind, |assignment| {
            assignment.halted = Some(reason.to_owned());
            assignment.withdrawn.retain(|known| Some(&known.digest) != withdrawn.as_ref().map(|w| &w.digest));
            assignment.withdrawn.extend(withdrawn);
        })
    }

    fn assign(&mut self, group: &str, kind: Kind, change: impl FnOnce(&mut Assignment)) -> Result<Done, PublishError> {
        let (role, target) = (group_role(group), Assignment::target(group, kind));
        let roles = self.roles()?;
        if !roles.contains(&role) {
            let known: Vec<_> = roles.iter().filter_map(|role| role.strip_prefix("group-")).collect();
            return Err(PublishError::Wrong(format!(
                "there is no group {group:?}; there are {}; `aerie model publish group NAME` makes one",
                known.join(", ")
            )));
        }
        let (version, mut signed) = self.drafted(&role)?;
        let mut assignment = match signed["targets"][&target]["hashes"]["sha256"].as_str() {
            Some(digest) => {
                let path = self.target_path(&target, digest);
                Assignment::read(&target, &fs::read(&path).map_err(disk("read", &path))?)?
            }
            None => Assignment { format: 1, kind, release: None, percent: 100, halted: None, withdrawn: vec![] },
        };
        change(&mut assignment);
        let bytes = serde_json::to_vec_pretty(&assignment).map_err(|e| PublishError::Wrong(e.to_string()))?;
        self.write_target(&target, &bytes)?;
        signed["version"] = json!(version);
        signed["expires"] = json!(self.expires(self.days.targets));
        signed["targets"][&target] = described(&bytes);
        self.propose(&role, signed)
    }

    /// Adds the signatures of the keys at hand to everything that waits; nothing may.
    pub fn sign(&mut self) -> Result<Vec<Done>, PublishError> {
        self.waiting()?.iter().map(|role| self.settle(role)).collect()
    }

    /// New snapshot and timestamp, signed by the online keys; what a timer runs daily.
    pub fn renew(&mut self) -> Result<Done, PublishError> {
        let mut meta = serde_json::Map::new();
        for role in self.roles()? {
            let (version, _) = self.newest(&role)?;
            let path = self.metadata(&format!("{version}.{role}.json"));
            let bytes = fs::read(&path).map_err(disk("read", &path))?;
            let mut entry = described(&bytes);
            entry["version"] = json!(version);
            meta.insert(format!("{role}.json"), entry);
        }
        let version = self.newest("snapshot").map_or(1, |(version, _)| version + 1);
        let snapshot = json!({
            "_type": "snapshot", "spec_version": "1.0.31", "version": version,
            "expires": self.expires(self.days.snapshot), "meta": meta,
        });
        let bytes = self.write_role("snapshot", &snapshot)?;
        let mut entry = described(&bytes);
        entry["version"] = json!(version);
        let path = self.metadata("timestamp.json");
        let before = fs::read(&path).ok().and_then(|b| serde_json::from_slice::<Value>(&b).ok());
        let version = before.and_then(|v| v["signed"]["version"].as_u64()).unwrap_or(0) + 1;
        let timestamp = json!({
            "_type": "timestamp", "spec_version": "1.0.31", "version": version,
            "expires": self.expires(self.days.timestamp), "meta": {"snapshot.json": entry},
        });
        let signed = self.envelope("timestamp", &timestamp)?;
        write_durably(&path, &signed)?;
        Ok(Done::Published(format!("timestamp {version}")))
    }

    /// Gives a role new keys. The old ones of `root` and `targets` are needed once more, to sign the change.
    pub fn rekey(&mut self, role: &str) -> Result<Done, PublishError> {
        if let Some(group) = role.strip_prefix("group-") {
            let (version, mut signed) = self.drafted("targets")?;
            let mut delegations = signed["delegations"].take();
            delegations["roles"].as_array_mut().into_iter().for_each(|roles| roles.retain(|r| r["name"] != role));
            self.add_group(&mut delegations, group)?;
            signed["delegations"] = delegations;
            signed["version"] = json!(version);
            let done = self.propose("targets", signed)?;
            // What the group said so far is said again by its new key, once that key counts.
            if matches!(done, Done::Published(_)) {
                let (version, mut signed) = self.drafted(role)?;
                signed["version"] = json!(version);
                signed["expires"] = json!(self.expires(self.days.targets));
                self.propose(role, signed)?;
            }
            return Ok(done);
        }
        let (version, mut signed) = self.drafted("root")?;
        let known = &signed["roles"][role];
        let count = known["keyids"].as_array().map(Vec::len).filter(|n| *n > 0);
        let count = count.ok_or_else(|| {
            PublishError::Wrong(format!(
                "there is no role {role:?}; there are root, targets, snapshot, timestamp and group-NAME"
            ))
        })?;
        let threshold = known["threshold"].as_u64().unwrap_or(1);
        let keys = Keys { count: count as u32, threshold: threshold as u32 };
        self.give_keys(&mut signed, role, keys)?;
        signed["version"] = json!(version);
        signed["expires"] = json!(self.expires(self.days.root));
        self.propose("root", signed)
    }

    /// A group of stations, with its own key.
    pub fn group(&mut self, group: &str) -> Result<Done, PublishError> {
        let (version, mut signed) = self.drafted("targets")?;
        let mut delegations = match signed["delegations"].take() {
            Value::Null => json!({"keys": {}, "roles": []}),
            known => known,
        };
        if delegations["roles"].as_array().is_some_and(|r| r.iter().any(|r| r["name"] == group_role(group))) {
            return Err(PublishError::Wrong(format!("there is a group {group} already")));
        }
        self.add_group(&mut delegations, group)?;
        signed["delegations"] = delegations;
        signed["version"] = json!(version);
        let empty = self.targets_of(1, json!({}), None);
        let role = group_role(group);
        let key = self.ring.keys.iter().find(|k| k.name == role);
        let signature = key.map(|k| k.sign(&empty)).transpose()?;
        let envelope = json!({"signatures": signature.into_iter().collect::<Vec<_>>(), "signed": empty});
        write_durably(&self.metadata(&format!("1.{role}.json")), &pretty(&envelope)?)?;
        self.propose("targets", signed)
    }

    fn add_group(&mut self, delegations: &mut Value, group: &str) -> Result<(), PublishError> {
        if !release::is_plain_name(group) {
            return Err(PublishError::Wrong(format!("{group:?} must be letters, digits, - _ .")));
        }
        let role = group_role(group);
        let key = self.ring.make(&role)?;
        delegations["keys"][&key.id] = key.public();
        let entry = json!({
            "name": role, "keyids": [key.id], "threshold": 1, "terminating": true, "paths": [format!("groups/{group}/*")],
        });
        if let Some(roles) = delegations["roles"].as_array_mut() {
            roles.push(entry);
        }
        Ok(())
    }

    fn give_keys(&mut self, root: &mut Value, role: &str, keys: Keys) -> Result<(), PublishError> {
        let mut ids = Vec::new();
        for n in 1..=keys.count {
            let name = if keys.count == 1 { role.to_owned() } else { format!("{role}-{n}") };
            let key = self.ring.make(&name)?;
            root["keys"][&key.id] = key.public();
            ids.push(key.id.clone());
        }
        root["roles"][role] = json!({"keyids": ids, "threshold": keys.threshold});
        // Keys that no role names any more are not carried along.
        let roles = root["roles"].clone();
        let named = |id: &str| {
            roles
                .as_object()
                .is_some_and(|r| r.values().any(|r| r["keyids"].as_array().is_some_and(|k| k.iter().any(|k| k == id))))
        };
        if let Some(known) = root["keys"].as_object_mut() {
            known.retain(|id, _| named(id));
        }
        Ok(())
    }

    fn targets_of(&self, version: u64, targets: Value, delegations: Option<Value>) -> Value {
        let mut signed = json!({
            "_type": "targets", "spec_version": "1.0.31", "version": version,
            "expires": self.expires(self.days.targets), "targets": targets,
        });
        if let Some(delegations) = delegations {
            signed["delegations"] = delegations;
        }
        signed
    }

    /// A file into `files/`, under its hash.
    fn take(&self, path: &str, at: &Path) -> Result<release::File, PublishError> {
        use std::io::Read;
        let mut file = fs::File::open(at).map_err(disk("read", at))?;
        let (mut chunks, mut length, mut chunk) = (Vec::new(), 0u64, Vec::new());
        loop {
            chunk.clear();
            Read::by_ref(&mut file).take(CHUNK).read_to_end(&mut chunk).map_err(disk("read", at))?;
            if chunk.is_empty() {
                break;
            }
            length += chunk.len() as u64;
            chunks.push(digest(&chunk));
        }
        let sha256 = sha256_of(at).map_err(disk("read", at))?;
        let to = self.dir.join("files").join(&sha256);
        if !to.exists() {
            let beside = to.with_extension("new");
            fs::copy(at, &beside).map_err(disk("write", &beside))?;
            fs::File::open(&beside).and_then(|f| f.sync_all()).map_err(disk("flush", &beside))?;
            fs::rename(&beside, &to).map_err(disk("write", &to))?;
        }
        Ok(release::File { path: path.to_owned(), length, sha256, chunks })
    }

    fn target_path(&self, target: &str, digest: &str) -> PathBuf {
        let (dir, name) = target.rsplit_once('/').unwrap_or(("", target));
        self.dir.join("targets").join(dir).join(format!("{digest}.{name}"))
    }

    fn write_target(&self, target: &str, bytes: &[u8]) -> Result<(), PublishError> {
        let path = self.target_path(target, &digest(bytes));
        let dir = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(dir).map_err(disk("make", dir))?;
        Ok(write_durably(&path, bytes)?)
    }

    fn metadata(&self, name: &str) -> PathBuf {
        self.dir.join("metadata").join(name)
    }

    fn expires(&self, days: u32) -> String {
        let at = self.now.saturating_add(SignedDuration::from_hours(24 * i64::from(days))).unwrap_or(Timestamp::MAX);
        at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

fn pretty(value: &Value) -> Result<Vec<u8>, PublishError> {
    serde_json::to_vec_pretty(value).map_err(|e| PublishError::Wrong(e.to_string()))
}

fn described(bytes: &[u8]) -> Value {
    json!({"length": bytes.len(), "hashes": {"sha256": digest(bytes)}})
}
