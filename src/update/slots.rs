//! Releases on the disk.
//!
//! ```text
//! models/<digest>/release.json   the signed document; its SHA-256 is the directory's name
//! models/<digest>/…              the files it names
//! models/.incoming/<digest>/…    the same, not complete yet
//! ```
//!
//! A directory comes under its final name by one rename, after every byte in it was compared with its signed hash and
//! flushed. So a slot is complete or absent, whenever the power fails.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::release::{Document, DocumentError, digest};

#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    #[error("cannot {doing} {}: {source}; check the disk and its free space", path.display())]
    Disk { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{} is not what was signed: {fault}; fetch it again", path.display())]
    Damaged { path: PathBuf, fault: String },
    #[error(transparent)]
    Document(#[from] DocumentError),
}

fn disk(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> SlotError {
    let path = path.to_owned();
    move |source| SlotError::Disk { doing, path, source }
}

#[derive(Debug, Clone)]
pub struct Slots {
    dir: PathBuf,
}

impl Slots {
    pub fn open(state_dir: &Path) -> Result<Slots, SlotError> {
        let dir = state_dir.join("models");
        let incoming = dir.join(".incoming");
        fs::create_dir_all(&incoming).map_err(disk("make", &incoming))?;
        sync_dir(&dir)?;
        sync_dir(state_dir)?;
        Ok(Slots { dir })
    }

    /// Where a release's files are once it is staged.
    pub fn path(&self, digest: &str) -> PathBuf {
        self.dir.join(digest)
    }

    pub fn incoming(&self, digest: &str) -> PathBuf {
        self.dir.join(".incoming").join(digest)
    }

    /// Begins, or takes up, what is to come: its directory with the signed document.
    pub fn begin(&self, digest: &str, document: &[u8]) -> Result<PathBuf, SlotError> {
        let dir = self.incoming(digest);
        fs::create_dir_all(&dir).map_err(disk("make", &dir))?;
        write_durably(&dir.join("release.json"), document)?;
        Ok(dir)
    }

    /// Compares every byte with what was signed, flushes, and gives the slot its name.
    pub fn install(&self, digest: &str) -> Result<PathBuf, SlotError> {
        let to = self.path(digest);
        if to.is_dir() {
            match check(&to, digest) {
                Ok(_) => return Ok(to),
                // A disk that lost what it had flushed: the new copy takes the place.
                Err(error) => {
                    tracing::error!(%error, "a slot was damaged and is replaced");
                    fs::remove_dir_all(&to).map_err(disk("remove", &to))?;
                }
            }
        }
        let from = self.incoming(digest);
        let document = check(&from, digest)?;
        let mut dirs = BTreeSet::from([from.clone()]);
        for file in &document.files {
            let path = from.join(&file.path);
            fs::File::open(&path).and_then(|f| f.sync_all()).map_err(disk("flush", &path))?;
            dirs.extend(path.parent().map(Path::to_owned));
        }
        for dir in dirs.iter().rev() {
            sync_dir(dir)?;
        }
        fs::rename(&from, &to).map_err(disk("rename to", &to))?;
        sync_dir(&self.dir)?;
        sync_dir(&self.dir.join(".incoming"))?;
        Ok(to)
    }

    /// The directory of a staged release, after every byte was compared with what was signed. To be asked before each load.
    pub fn verified(&self, digest: &str) -> Result<PathBuf, SlotError> {
        let dir = self.path(digest);
        check(&dir, digest)?;
        Ok(dir)
    }

    pub fn document(&self, digest: &str) -> Result<Document, SlotError> {
        let staged = self.path(digest);
        let dir = if staged.is_dir() { staged } else { self.incoming(digest) };
        signed(&dir, digest)
    }

    /// A staged release's file with this hash, as its document says; it is to be compared with it before it is used.
    pub fn holding(&self, sha256: &str) -> Option<PathBuf> {
        fs::read_dir(&self.dir).ok()?.flatten().find_map(|entry| {
            let document = signed(&entry.path(), entry.file_name().to_str()?).ok()?;
            let file = document.files.iter().find(|file| file.sha256 == sha256)?;
            Some(entry.path().join(&file.path))
        })
    }

    /// Removes what no record keeps. Failing to is no harm but space, so it is only said.
    pub fn sweep(&self, keep: &BTreeSet<&str>) {
        for dir in [self.dir.clone(), self.dir.join(".incoming")] {
            let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
            for entry in
                entries.filter(|e| e.file_name().to_str().is_none_or(|n| n != ".incoming" && !keep.contains(n)))
            {
                match fs::remove_dir_all(entry.path()) {
                    Ok(()) => {
                        tracing::info!(slot = %entry.path().display(), "a release that is not needed was removed")
                    }
                    Err(error) => tracing::warn!(slot = %entry.path().display(), %error, "it could not be removed"),
                }
            }
        }
    }
}

fn signed(dir: &Path, name: &str) -> Result<Document, SlotError> {
    let path = dir.join("release.json");
    let bytes = fs::read(&path).map_err(disk("read", &path))?;
    if digest(&bytes) != name {
        let fault = format!("its SHA-256 is {}, not {name}", digest(&bytes));
        return Err(SlotError::Damaged { path, fault });
    }
    Ok(Document::read(&path.display().to_string(), &bytes)?)
}

fn check(dir: &Path, name: &str) -> Result<Document, SlotError> {
    let document = signed(dir, name)?;
    for file in &document.files {
        let path = dir.join(&file.path);
        let found = sha256_of(&path).map_err(disk("read", &path))?;
        if found != file.sha256 {
            return Err(SlotError::Damaged { path, fault: format!("its SHA-256 is {found}, not {}", file.sha256) });
        }
    }
    Ok(document)
}

pub fn sha256_of(path: &Path) -> std::io::Result<String> {
    use sha2::{Digest as _, Sha256};
    let mut file = fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match std::io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// The whole file or the one before: written beside, flushed, renamed, and the rename flushed.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), SlotError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = dir.join(format!(".{name}.new"));
    let written = fs::File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(disk("write", &beside))?;
    fs::rename(&beside, path).map_err(disk("rename to", path))?;
    sync_dir(dir)
}

pub fn sync_dir(dir: &Path) -> Result<(), SlotError> {
    fs::File::open(dir).and_then(|d| d.sync_all()).map_err(disk("flush", dir))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::release::{CHUNK, Demands, File, Kind};
    use super::*;

    /// A release of one file, its document and its digest.
    pub fn small(content: &[u8]) -> (Document, Vec<u8>, String) {
        let chunks = content.chunks(CHUNK as usize).map(digest).collect();
        let file = File { path: "model.onnx".into(), length: content.len() as u64, sha256: digest(content), chunks };
        let (name, version) = ("m".into(), "1".into());
        let document =
            Document { format: 1, kind: Kind::Model, name, version, files: vec![file], demands: Demands::default() };
        let bytes = serde_json::to_vec(&document).unwrap();
        let name = digest(&bytes);
        (document, bytes, name)
    }

    #[test]
    fn a_slot_is_there_only_with_every_byte_that_was_signed() {
        let dir = tempfile::tempdir().unwrap();
        let slots = Slots::open(dir.path()).unwrap();
        let (_, document, name) = small(b"weights");
        let incoming = slots.begin(&name, &document).unwrap();
        assert!(slots.install(&name).is_err() && !slots.path(&name).exists());
        fs::write(incoming.join("model.onnx"), b"weight").unwrap();
        assert!(matches!(slots.install(&name), Err(SlotError::Damaged { .. })));
        fs::write(incoming.join("model.onnx"), b"weights").unwrap();
        slots.install(&name).unwrap();
        assert!(slots.verified(&name).is_ok() && !incoming.exists());
        fs::write(slots.path(&name).join("model.onnx"), b"Weights").unwrap();
        let said = slots.verified(&name).unwrap_err().to_string();
        assert!(said.contains("model.onnx") && said.contains("not what was signed"), "{said}");
    }

    #[test]
    fn sweeping_leaves_what_is_kept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let slots = Slots::open(dir.path()).unwrap();
        let (_, one, kept) = small(b"one");
        let (_, two, gone) = small(b"two");
        slots.begin(&kept, &one).unwrap();
        slots.begin(&gone, &two).unwrap();
        slots.sweep(&BTreeSet::from([kept.as_str()]));
        assert!(slots.incoming(&kept).exists() && !slots.incoming(&gone).exists());
        assert!(dir.path().join("models/.incoming").exists());
    }
}
