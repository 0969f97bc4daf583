//! What is published, what waits, and the signatures that turn the second into the first.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use super::{Done, PublishError, Workshop, disk, pretty};
use crate::update::slots::write_durably;

impl Workshop {
    /// The newest published metadata of a role, and its version.
    pub(super) fn newest(&self, role: &str) -> Result<(u64, Value), PublishError> {
        let no = |what: String| PublishError::NoRepository { dir: self.dir.clone(), what };
        let dir = self.dir.join("metadata");
        let suffix = format!(".{role}.json");
        let entries = fs::read_dir(&dir).map_err(|e| no(format!("metadata/: {e}")))?;
        let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
        let version = names.filter_map(|n| n.strip_suffix(&suffix)?.parse::<u64>().ok()).max();
        let version = version.ok_or_else(|| no(format!("metadata/ has nothing of the role {role}")))?;
        let path = dir.join(format!("{version}{suffix}"));
        let bytes = fs::read(&path).map_err(disk("read", &path))?;
        let mut envelope: Value = serde_json::from_slice(&bytes).map_err(|e| no(format!("{}: {e}", path.display())))?;
        Ok((version, envelope["signed"].take()))
    }

    /// What a change begins with: what waits already, else what is published; and the version it will have.
    pub(super) fn drafted(&self, role: &str) -> Result<(u64, Value), PublishError> {
        let (version, signed) = self.newest(role)?;
        let waiting = fs::read(self.dir.join(format!("pending/{role}.json"))).ok();
        let waiting = waiting.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        Ok((version + 1, waiting.map_or(signed, |mut w| w["signed"].take())))
    }

    /// Roles that wait, `root` first: the others may be signed by keys that it brings.
    pub(super) fn waiting(&self) -> Result<Vec<String>, PublishError> {
        let dir = self.dir.join("pending");
        let entries = fs::read_dir(&dir).map_err(disk("read", &dir))?;
        let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
        let mut roles: Vec<_> =
            names.filter_map(|n| n.strip_suffix(".json").map(str::to_owned)).filter(|n| !n.starts_with('.')).collect();
        roles.sort_by_key(|role| (role != "root", role != "targets", role.clone()));
        Ok(roles)
    }

    /// The roles that the snapshot names.
    pub(super) fn roles(&self) -> Result<Vec<String>, PublishError> {
        let (_, targets) = self.newest("targets")?;
        let delegated = targets["delegations"]["roles"].as_array().into_iter().flatten();
        let delegated = delegated.filter_map(|r| r["name"].as_str().map(str::to_owned));
        Ok(std::iter::once("targets".to_owned()).chain(delegated).collect())
    }

    /// Puts a change among what waits, signs it with the keys at hand, and publishes it if they suffice.
    pub(super) fn propose(&mut self, role: &str, signed: Value) -> Result<Done, PublishError> {
        let envelope = json!({"signatures": [], "signed": signed});
        write_durably(&self.dir.join(format!("pending/{role}.json")), &pretty(&envelope)?)?;
        self.settle(role)
    }

    pub(super) fn settle(&mut self, role: &str) -> Result<Done, PublishError> {
        let path = self.dir.join(format!("pending/{role}.json"));
        let bytes = fs::read(&path).map_err(disk("read", &path))?;
        let wrong = |e: serde_json::Error| PublishError::Wrong(format!("{}: {e}", path.display()));
        let mut envelope: Value = serde_json::from_slice(&bytes).map_err(wrong)?;
        let signed = envelope["signed"].clone();
        let demands = self.demands(role, &signed)?;
        let mut signatures: Vec<Value> = envelope["signatures"].as_array().cloned().unwrap_or_default();
        let wanted: BTreeSet<&str> = demands.iter().flat_map(|d| d.ids.iter().map(String::as_str)).collect();
        for key in self.ring.keys.iter().filter(|k| wanted.contains(k.id.as_str())) {
            signatures.retain(|s| s["keyid"] != key.id.as_str());
            signatures.push(key.sign(&signed)?);
        }
        envelope["signatures"] = json!(signatures);
        let has = |id: &String| signatures.iter().any(|s| s["keyid"] == id.as_str());
        let missing =
            demands.iter().map(|d| d.threshold.saturating_sub(d.ids.iter().filter(|id| has(id)).count() as u64));
        let missing = missing.max().unwrap_or(0);
        let bytes = pretty(&envelope)?;
        if missing > 0 {
            write_durably(&path, &bytes)?;
            return Ok(Done::Waits { role: role.to_owned(), missing: missing as u32 });
        }
        let version = signed["version"].as_u64().unwrap_or(0);
        let before = self.newest("root")?.1;
        write_durably(&self.metadata(&format!("{version}.{role}.json")), &bytes)?;
        fs::remove_file(&path).map_err(disk("remove", &path))?;
        if role == "root" && before["roles"]["targets"]["keyids"] != signed["roles"]["targets"]["keyids"] {
            // The list of releases has to be signed by its new keys before anything fits together again.
            let (version, mut targets) = self.drafted("targets")?;
            targets["version"] = json!(version);
            self.propose("targets", targets)?;
        }
        self.renew()?;
        Ok(Done::Published(format!("{role} {version}")))
    }

    /// Whose signatures a role's metadata need. A root wants those of the one before as well.
    fn demands(&self, role: &str, signed: &Value) -> Result<Vec<Demand>, PublishError> {
        let (_, root) = self.newest("root")?;
        let of = |entry: &Value| Demand {
            ids: entry["keyids"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|k| k.as_str().map(str::to_owned))
                .collect(),
            threshold: entry["threshold"].as_u64().unwrap_or(1),
        };
        if role == "root" {
            return Ok(vec![of(&root["roles"]["root"]), of(&signed["roles"]["root"])]);
        }
        if !root["roles"][role].is_null() {
            return Ok(vec![of(&root["roles"][role])]);
        }
        // A group's new key counts from the moment the offline role has signed it.
        let (_, targets) = self.newest("targets")?;
        let entry = targets["delegations"]["roles"].as_array().into_iter().flatten().find(|r| r["name"] == role);
        match entry {
            Some(entry) => Ok(vec![of(entry)]),
            None => {
                Err(PublishError::Wrong(format!("there is no role {role}; `aerie model publish group NAME` makes one")))
            }
        }
    }

    /// Signs by the online and first keys, which must be at hand.
    pub(super) fn envelope(&self, role: &str, signed: &Value) -> Result<Vec<u8>, PublishError> {
        let authority = if role == "root" { signed.clone() } else { self.newest("root")?.1 };
        let mut entry = authority["roles"][role].clone();
        if entry.is_null() {
            let (_, targets) = self.newest("targets")?;
            let delegated = targets["delegations"]["roles"].as_array().cloned().unwrap_or_default();
            entry = delegated.into_iter().find(|r| r["name"] == role).unwrap_or_default();
        }
        let ids: Vec<&str> = entry["keyids"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let at_hand = self.ring.keys.iter().filter(|k| ids.contains(&k.id.as_str()));
        let signatures = at_hand.map(|k| k.sign(signed)).collect::<Result<Vec<_>, _>>()?;
        let threshold = entry["threshold"].as_u64().unwrap_or(1);
        if (signatures.len() as u64) < threshold {
            return Err(PublishError::Wrong(format!(
                "the keys of {role} are not at hand ({} of {threshold}); name their directory with --keys",
                signatures.len()
            )));
        }
        pretty(&json!({"signatures": signatures, "signed": signed}))
    }

    pub(super) fn write_role(&self, role: &str, signed: &Value) -> Result<Vec<u8>, PublishError> {
        let bytes = self.envelope(role, signed)?;
        let version = signed["version"].as_u64().unwrap_or(0);
        write_durably(&self.metadata(&format!("{version}.{role}.json")), &bytes)?;
        Ok(bytes)
    }
}

struct Demand {
    ids: Vec<String>,
    threshold: u64,
}
