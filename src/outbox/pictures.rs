//! Pictures as files named by their SHA-256: `evidence/<sha256>.jpg`.
//!
//! A name appears only when its content is complete and on disk: temporary file, fsync, rename, fsync of the directory.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::OutboxError;

/// Leftovers of a crash start with this; they are removed at the next start.
const TEMPORARY: &str = ".incoming-";

pub(super) fn directory(dir: &Path) -> PathBuf {
    dir.join("evidence")
}

pub(super) fn path(dir: &Path, digest: &str) -> PathBuf {
    directory(dir).join(format!("{digest}.jpg"))
}

/// Whether this is how a digest is written here. Guards every path made from one.
pub(super) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

pub(super) fn prepare(dir: &Path) -> Result<(), OutboxError> {
    let folder = directory(dir);
    fs::create_dir_all(&folder).map_err(OutboxError::files("create", &folder))?;
    for entry in fs::read_dir(&folder).map_err(OutboxError::files("read", &folder))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            // A leftover that will not go away is harmless: no digest leads to it.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

pub(super) fn store(dir: &Path, jpeg: &[u8]) -> Result<String, OutboxError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);

    let digest = hex::encode(Sha256::digest(jpeg));
    let target = path(dir, &digest);
    // Same length under the same digest is the same picture; another length is a file that was torn by the disk.
    if fs::metadata(&target).is_ok_and(|found| found.len() == jpeg.len() as u64) {
        return Ok(digest);
    }
    let folder = directory(dir);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = folder.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
    let written = File::create(&temporary)
        .and_then(|mut file| {
            file.write_all(jpeg)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, &target))
        .and_then(|()| File::open(&folder)?.sync_all());
    if let Err(source) = written {
        let _ = fs::remove_file(&temporary);
        return Err(OutboxError::files("write", &target)(source));
    }
    Ok(digest)
}

pub(super) fn size(dir: &Path, digest: &str) -> Option<u64> {
    if !is_digest(digest) {
        return None;
    }
    fs::metadata(path(dir, digest)).ok().map(|found| found.len())
}

/// Whether a picture is what its name says; none when there is no such file.
pub(super) fn is_whole(dir: &Path, digest: &str) -> Option<bool> {
    size(dir, digest)?;
    fs::read(path(dir, digest)).ok().map(|bytes| has_digest(&bytes, digest))
}

pub(crate) fn has_digest(bytes: &[u8], digest: &str) -> bool {
    hex::encode(Sha256::digest(bytes)) == digest
}

/// Removes a picture that no record needs. Failing leaves a file that `check` reports as nobody's.
pub(super) fn remove(dir: &Path, digest: &str) {
    if is_digest(digest) {
        let _ = fs::remove_file(path(dir, digest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_stored_once_under_the_digest_of_its_content() {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path()).unwrap();
        let digest = store(dir.path(), b"picture").unwrap();
        assert_eq!(digest, hex::encode(Sha256::digest(b"picture")));
        assert_eq!(store(dir.path(), b"picture").unwrap(), digest);
        assert_eq!(fs::read(path(dir.path(), &digest)).unwrap(), b"picture");
        assert_eq!(fs::read_dir(directory(dir.path())).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_torn_file_under_the_right_name_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path()).unwrap();
        let digest = store(dir.path(), b"picture").unwrap();
        fs::write(path(dir.path(), &digest), b"pic").unwrap();
        store(dir.path(), b"picture").unwrap();
        assert_eq!(fs::read(path(dir.path(), &digest)).unwrap(), b"picture");
    }

    #[test]
    fn a_digest_never_leads_out_of_the_directory() {
        assert!(!is_digest("../../../etc/passwd"));
        assert!(!is_digest(&"A".repeat(64)));
        assert!(is_digest(&"a0".repeat(32)));
    }
}
