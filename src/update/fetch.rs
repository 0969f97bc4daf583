//! Brings one file of a release, however often the line is cut: what is on the disk and verified is never asked for again.
//!
//! The file grows in place, [`CHUNK`] by chunk; each chunk is compared with its signed hash when its last byte has come and
//! flushed before the next begins. A chunk that is wrong is cut off, so at most one is fetched twice.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::origin::{Origin, OriginError};
use super::release::{self, CHUNK};

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error("the line was cut after {had} of {length} bytes: {why}")]
    Cut { had: u64, length: u64, why: String },
    #[error("bytes {from} to {to} of {path} are not what was signed; the server's copy is damaged or false")]
    False { path: String, from: u64, to: u64 },
    #[error("{} cannot be written: {source}; free some space", path.display())]
    Disk { path: PathBuf, source: std::io::Error },
    #[error("paused: {0}")]
    Paused(String),
}

/// Asked before each piece, with its bytes; a reason stops the fetch, which goes on later where it was.
pub type Leave<'a> = dyn FnMut(u64) -> Result<(), String> + 'a;

/// Bytes that came over the line.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Came {
    pub bytes: u64,
}

/// A piece read at once.
const PIECE: usize = 1 << 16;

/// Fetches what `to` lacks of `file`. `came` counts what was read, also when the fetch ends early.
pub fn file(
    origin: &dyn Origin,
    file: &release::File,
    to: &Path,
    came: &mut Came,
    leave: &mut Leave<'_>,
) -> Result<(), FetchError> {
    let disk = |source| FetchError::Disk { path: to.to_owned(), source };
    if let Some(dir) = to.parent() {
        std::fs::create_dir_all(dir).map_err(disk)?;
    }
    let mut out = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(to).map_err(disk)?;
    let (mut have, mut hasher) = verified(&mut out, file).map_err(disk)?;
    let mut tag = None;
    let mut piece = vec![0; PIECE];
    while have < file.length {
        let opened = origin.open(&format!("files/{}", file.sha256), have, file.length, tag.as_deref())?;
        tag = opened.tag;
        let mut body = opened.body;
        let before = have;
        loop {
            let chunk_end = ((have / CHUNK + 1) * CHUNK).min(file.length);
            let room = usize::try_from(chunk_end - have).unwrap_or(PIECE).min(PIECE);
            if room == 0 {
                break;
            }
            leave(room as u64).map_err(FetchError::Paused)?;
            let read = match body.read(&mut piece[..room]) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) => return Err(FetchError::Cut { had: have, length: file.length, why: error.to_string() }),
            };
            came.bytes += read as u64;
            out.write_all(&piece[..read]).map_err(disk)?;
            hasher.update(&piece[..read]);
            have += read as u64;
            if have == chunk_end {
                let from = (have - 1) / CHUNK * CHUNK;
                let found = hex::encode(std::mem::take(&mut hasher).finalize());
                if file.chunks.get((from / CHUNK) as usize) != Some(&found) {
                    out.set_len(from).and_then(|()| out.sync_data()).map_err(disk)?;
                    return Err(FetchError::False { path: file.path.clone(), from, to: have });
                }
                out.sync_data().map_err(disk)?;
            }
        }
        if have == before {
            let why = "the server ended the answer early".to_owned();
            return Err(FetchError::Cut { had: have, length: file.length, why });
        }
    }
    Ok(())
}

/// How much of the file is there and right, with what follows as far as its chunk is not whole; the hash of that rest.
fn verified(out: &mut File, file: &release::File) -> std::io::Result<(u64, Sha256)> {
    let length = out.metadata()?.len().min(file.length);
    let mut chunk = Vec::new();
    let mut good = 0;
    out.rewind()?;
    for expected in &file.chunks {
        let size = CHUNK.min(file.length - good);
        chunk.clear();
        if good + size > length {
            break;
        }
        Read::by_ref(out).take(size).read_to_end(&mut chunk)?;
        if release::digest(&chunk) != *expected {
            // The rest of the file may have been written by a disk that lost power.
            out.set_len(good)?;
            out.seek(SeekFrom::Start(good))?;
            return Ok((good, Sha256::new()));
        }
        good += size;
    }
    let mut hasher = Sha256::new();
    out.seek(SeekFrom::Start(good))?;
    chunk.clear();
    Read::by_ref(out).take(length - good).read_to_end(&mut chunk)?;
    hasher.update(&chunk);
    out.set_len(good + chunk.len() as u64)?;
    out.seek(SeekFrom::End(0))?;
    Ok((good + chunk.len() as u64, hasher))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::origin::Opened;
    use super::*;

    /// Gives the file, but cuts each answer after so many bytes; one chunk may be false once.
    struct Line {
        content: Vec<u8>,
        cut_after: u64,
        false_at: Option<usize>,
        answers: AtomicU64,
    }

    impl Origin for Line {
        fn small(&self, _: &str, _: u64) -> Result<Option<Vec<u8>>, OriginError> {
            Ok(None)
        }

        fn open(&self, _: &str, from: u64, _: u64, _: Option<&str>) -> Result<Opened, OriginError> {
            let first = self.answers.fetch_add(1, Ordering::SeqCst) == 0;
            let mut rest = self.content[from as usize..].to_vec();
            if let Some(at) = self.false_at.filter(|_| first) {
                rest[at] ^= 1;
            }
            let whole = rest.len() as u64 <= self.cut_after;
            rest.truncate(self.cut_after as usize);
            let end: Box<dyn Read + Send> = if whole { Box::new(std::io::empty()) } else { Box::new(Broken) };
            Ok(Opened { body: Box::new(std::io::Cursor::new(rest).chain(end)), tag: None })
        }
    }

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "reset"))
        }
    }

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i * 31 % 251) as u8).collect()
    }

    fn described(content: &[u8]) -> release::File {
        let chunks = content.chunks(CHUNK as usize).map(release::digest).collect();
        release::File {
            path: "model.onnx".into(),
            length: content.len() as u64,
            sha256: release::digest(content),
            chunks,
        }
    }

    /// Asks again after every cut, as the task does; returns the bytes that came and the tries.
    fn until_there(line: &Line, file_: &release::File, to: &Path) -> (u64, u32) {
        let (mut came, mut tries) = (Came::default(), 1);
        while let Err(error) = file(line, file_, to, &mut came, &mut |_| Ok(())) {
            assert!(matches!(error, FetchError::Cut { .. } | FetchError::False { .. }), "{error}");
            tries += 1;
            assert!(tries < 1000);
        }
        (came.bytes, tries)
    }

    #[test]
    fn thirty_cuts_cost_no_byte_twice() {
        let dir = tempfile::tempdir().unwrap();
        let (content, to) = (content(4_000_123), dir.path().join("f"));
        let line = Line { cut_after: 130_001, false_at: None, answers: AtomicU64::new(0), content };
        let (came, tries) = until_there(&line, &described(&line.content), &to);
        assert_eq!((came, tries), (4_000_123, 31));
        assert_eq!(std::fs::read(&to).unwrap(), line.content);
    }

    #[test]
    fn a_false_chunk_costs_that_chunk_and_is_never_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (content, to) = (content(3 << 20), dir.path().join("f"));
        let line = Line { cut_after: u64::MAX, false_at: Some((1 << 20) + 5), answers: AtomicU64::new(0), content };
        let mut came = Came::default();
        let refused = file(&line, &described(&line.content), &to, &mut came, &mut |_| Ok(()));
        assert!(matches!(refused, Err(FetchError::False { from: 0x10_0000, .. })));
        assert_eq!(std::fs::metadata(&to).unwrap().len(), 1 << 20);
        let (more, _) = until_there(&line, &described(&line.content), &to);
        assert_eq!((came.bytes, more), (2 << 20, 2 << 20));
    }

    #[test]
    fn what_a_power_cut_left_wrong_on_the_disk_is_fetched_again_and_only_that() {
        let dir = tempfile::tempdir().unwrap();
        let (content, to) = (content((3 << 20) + 7), dir.path().join("f"));
        let mut torn = content.clone();
        torn.truncate((2 << 20) + 500_000);
        torn[(1 << 20) + 9] ^= 1;
        std::fs::write(&to, torn).unwrap();
        let line = Line { cut_after: u64::MAX, false_at: None, answers: AtomicU64::new(0), content };
        let (came, tries) = until_there(&line, &described(&line.content), &to);
        assert_eq!((came, tries), ((2 << 20) + 7, 1));
        assert_eq!(std::fs::read(&to).unwrap(), line.content);
    }

    #[test]
    fn a_budget_that_is_spent_pauses_and_the_rest_comes_later() {
        let dir = tempfile::tempdir().unwrap();
        let (content, to) = (content(3_000_000), dir.path().join("f"));
        let line = Line { cut_after: u64::MAX, false_at: None, answers: AtomicU64::new(0), content };
        let (mut came, mut left) = (Came::default(), 1_000_000u64);
        let paused = file(&line, &described(&line.content), &to, &mut came, &mut |bytes| {
            left = left.checked_sub(bytes).ok_or_else(|| "today's megabytes are used up".to_owned())?;
            Ok(())
        });
        assert!(matches!(paused, Err(FetchError::Paused(_))) && came.bytes <= 1_000_000);
        assert_eq!(until_there(&line, &described(&line.content), &to).0 + came.bytes, 3_000_000);
    }

    #[test]
    fn an_empty_file_is_made_and_nothing_asked() {
        let dir = tempfile::tempdir().unwrap();
        let line = Line { content: vec![], cut_after: 0, false_at: None, answers: AtomicU64::new(0) };
        until_there(&line, &described(&[]), &dir.path().join("f"));
        assert!(dir.path().join("f").exists() && line.answers.load(Ordering::SeqCst) == 0);
    }
}
