//! The publisher's keys: Ed25519, one file each, readable by its owner alone. What names a key is the hash that TUF gives it.

use std::path::{Path, PathBuf};

use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{PublishError, canonical};
use crate::uplink::commands::{generate_key, read_key, write_key};

pub struct Key {
    pub name: String,
    pub id: String,
    secret: SigningKey,
}

impl Key {
    fn new(name: &str, secret: SigningKey) -> Result<Key, PublishError> {
        let id = hex::encode(Sha256::digest(canonical(&public(&secret))?));
        Ok(Key { name: name.to_owned(), id, secret })
    }

    /// As it stands in metadata.
    pub fn public(&self) -> Value {
        public(&self.secret)
    }

    pub fn sign(&self, signed: &Value) -> Result<Value, PublishError> {
        let signature = self.secret.sign(&canonical(signed)?);
        Ok(json!({"keyid": self.id, "sig": hex::encode(signature.to_bytes())}))
    }
}

fn public(secret: &SigningKey) -> Value {
    let key = hex::encode(secret.verifying_key().to_bytes());
    json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": key}})
}

/// A directory of keys. Keep those of `root` and `targets` away from the computer that serves the repository.
pub struct Ring {
    dir: PathBuf,
    pub keys: Vec<Key>,
}

impl Ring {
    /// Every `*.key` there; a directory that is not there has none.
    pub fn open(dir: &Path) -> Result<Ring, PublishError> {
        let mut paths: Vec<_> = std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "key"))
            .collect();
        paths.sort();
        let keys = paths.iter().map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            Key::new(&name, read_key(path)?)
        });
        Ok(Ring { dir: dir.to_owned(), keys: keys.collect::<Result<_, _>>()? })
    }

    /// A new key, in its file before anything is signed with it. One of the same name is kept as it is, under another.
    pub fn make(&mut self, name: &str) -> Result<&Key, PublishError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| PublishError::Disk { doing: "write", path, source }
        };
        std::fs::create_dir_all(&self.dir).map_err(failed(&self.dir))?;
        let path = self.dir.join(format!("{name}.key"));
        if path.exists() {
            let old = (1..).map(|n| format!("{name}.old-{n}")).find(|n| !self.dir.join(format!("{n}.key")).exists());
            let old = old.unwrap_or_default();
            std::fs::rename(&path, self.dir.join(format!("{old}.key"))).map_err(failed(&path))?;
            if let Some(known) = self.keys.iter_mut().find(|k| k.name == name) {
                known.name = old;
            }
        }
        let secret = generate_key();
        write_key(&path, &secret)?;
        self.keys.push(Key::new(name, secret)?);
        self.keys.last().ok_or(PublishError::NoKeys(self.dir.clone()))
    }
}
