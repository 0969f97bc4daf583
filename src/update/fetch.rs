//! Brings one file of a release, however often the line or the power is cut: what is on the disk and verified is never asked
//! for again.
//!
//! The file grows in place, [`CHUNK`] by chunk. A chunk is compared with its signed hash before it is written and flushed
//! before the next is asked for, so a power cut costs what had come of one chunk. When the line is cut, or the fetch
//! is paused, that part of a chunk is written too.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::origin::{Origin, OriginError};
use super::release::{self, CHUNK};

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error("the line was cut after {had} of {length} bytes: {why}")]
    Cut { had: u64, length: u64, why: String },
    #[error(
        "the block at byte {from} of {at} ({path}) does not have the signed content: the file was altered or damaged on the server or on the way"
    )]
    False { path: String, at: String, from: u64, to: u64 },
    #[error("{} cannot be written: {source}; free some space", path.display())]
    Disk { path: PathBuf, source: std::io::Error },
    #[error("paused: {0}")]
    Paused(String),
}

/// Told what came, after each piece and once before the first; a reason stops the fetch, which goes on later where it was.
pub type Leave<'a> = dyn FnMut(u64) -> Result<(), String> + 'a;

/// Bytes that came over the line.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Came {
    pub bytes: u64,
}

/// Fetches what `to` lacks of `file`. `came` counts what was read, also when the fetch ends early.
pub fn file(
    origin: &dyn Origin,
    file: &release::File,
    to: &Path,
    came: &mut Came,
    leave: &mut Leave<'_>,
) -> Result<(), FetchError> {
    let mut here = Here::open(to, file)?;
    let fetched = rest(origin, file, &mut here, came, leave);
    if fetched.is_err() {
        here.keep()?;
    }
    fetched
}

fn rest(
    origin: &dyn Origin,
    file: &release::File,
    here: &mut Here<'_>,
    came: &mut Came,
    leave: &mut Leave<'_>,
) -> Result<(), FetchError> {
    let cut = |had, why| FetchError::Cut { had, length: file.length, why };
    let mut tag = None;
    while here.good < file.length {
        leave(0).map_err(FetchError::Paused)?;
        let from = here.length();
        let opened = origin.open(&format!("files/{}", file.sha256), from, file.length, tag.as_deref())?;
        tag = opened.tag;
        let mut body = opened.body;
        while here.good < file.length {
            let had = here.chunk.len();
            let size = CHUNK.min(file.length - here.good);
            here.chunk.resize(size as usize, 0);
            let read = body.read(&mut here.chunk[had..]);
            here.chunk.truncate(had + read.as_ref().copied().unwrap_or(0));
            match read {
                Ok(0) => break,
                Ok(read) => came.bytes += read as u64,
                Err(error) => return Err(cut(here.length(), error.to_string())),
            }
            let read = here.chunk.len() - had;
            if here.chunk.len() as u64 == size {
                if file.chunks.get((here.good / CHUNK) as usize) != Some(&release::digest(&here.chunk)) {
                    here.forget()?;
                    let (from, to) = (here.good, here.good + size);
                    let at = origin.at(&format!("files/{}", file.sha256));
                    return Err(FetchError::False { path: file.path.clone(), at, from, to });
                }
                here.keep()?;
                here.good += size;
                here.chunk.clear();
            }
            leave(read as u64).map_err(FetchError::Paused)?;
        }
        if here.length() == from {
            return Err(cut(from, "the server ended the answer early".to_owned()));
        }
    }
    Ok(())
}

/// The file as far as it is here.
struct Here<'a> {
    path: &'a Path,
    file: File,
    /// So many bytes are on the disk and verified.
    good: u64,
    /// What came of the chunk after them.
    chunk: Vec<u8>,
}

impl Here<'_> {
    fn open<'a>(path: &'a Path, file: &release::File) -> Result<Here<'a>, FetchError> {
        let open = || {
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            let mut out = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
            let (good, chunk) = verified(&mut out, file)?;
            out.set_len(good + chunk.len() as u64)?;
            Ok(Here { path, file: out, good, chunk })
        };
        open().map_err(|source| FetchError::Disk { path: path.to_owned(), source })
    }

    fn length(&self) -> u64 {
        self.good + self.chunk.len() as u64
    }

    /// Of a chunk that is false, what came and what lay on the disk.
    fn forget(&mut self) -> Result<(), FetchError> {
        self.chunk.clear();
        self.file.set_len(self.good).map_err(|source| FetchError::Disk { path: self.path.to_owned(), source })
    }

    /// Writes and flushes the chunk, whole or not.
    fn keep(&mut self) -> Result<(), FetchError> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let mut write = || {
            self.file.seek(SeekFrom::Start(self.good))?;
            self.file.write_all(&self.chunk)?;
            self.file.sync_data()
        };
        write().map_err(|source| FetchError::Disk { path: self.path.to_owned(), source })
    }
}

/// How much of a file is there and right, chunk by chunk, and what follows of a chunk that is not whole.
fn verified(out: &mut File, file: &release::File) -> std::io::Result<(u64, Vec<u8>)> {
    let (mut good, mut chunk) = (0, Vec::new());
    for expected in &file.chunks {
        let size = CHUNK.min(file.length - good);
        chunk.clear();
        Read::by_ref(out).take(size).read_to_end(&mut chunk)?;
        if (chunk.len() as u64) < size {
            return Ok((good, chunk));
        }
        if release::digest(&chunk) != *expected {
            // Written by a disk that lost power meanwhile; so may be what follows.
            break;
        }
        good += size;
    }
    Ok((good, Vec::new()))
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
        fn at(&self, path: &str) -> String {
            path.to_owned()
        }

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
    fn thirty_cuts_of_the_line_cost_no_byte_twice() {
        let dir = tempfile::tempdir().unwrap();
        let (content, to) = (content(4_000_123), dir.path().join("f"));
        let line = Line { cut_after: 130_001, false_at: None, answers: AtomicU64::new(0), content };
        let (came, tries) = until_there(&line, &described(&line.content), &to);
        assert_eq!((came, tries), (4_000_123, 31));
        assert_eq!(std::fs::read(&to).unwrap(), line.content);
    }

    #[test]
    fn a_false_chunk_costs_that_chunk_and_is_never_written() {
        let dir = tempfile::tempdir().unwrap();
        let (content, to) = (content(3 << 16), dir.path().join("f"));
        let line = Line { cut_after: u64::MAX, false_at: Some((1 << 16) + 5), answers: AtomicU64::new(0), content };
        let mut came = Came::default();
        let refused = file(&line, &described(&line.content), &to, &mut came, &mut |_| Ok(()));
        assert!(matches!(refused, Err(FetchError::False { from: 0x1_0000, to: 0x2_0000, .. })));
        assert_eq!(std::fs::metadata(&to).unwrap().len(), 1 << 16);
        let (more, _) = until_there(&line, &described(&line.content), &to);
        assert_eq!((came.bytes, more), (2 << 16, 2 << 16));
    }

    #[test]
    fn what_a_power_cut_left_wrong_on_the_disk_is_fetched_again_and_only_that() {
        let dir = tempfile::tempdir().unwrap();
        let (content, to) = (content((3 << 16) + 7), dir.path().join("f"));
        let mut torn = content.clone();
        torn.truncate((2 << 16) + 50_000);
        torn[(1 << 16) + 9] ^= 1;
        std::fs::write(&to, torn).unwrap();
        let line = Line { cut_after: u64::MAX, false_at: None, answers: AtomicU64::new(0), content };
        let (came, tries) = until_there(&line, &described(&line.content), &to);
        assert_eq!((came, tries), ((2 << 16) + 7, 1));
        assert_eq!(std::fs::read(&to).unwrap(), line.content);
    }

    #[test]
    fn a_part_of_a_chunk_that_a_power_cut_left_wrong_costs_that_chunk() {
        let dir = tempfile::tempdir().unwrap();
        let (content, to) = (content(3 << 16), dir.path().join("f"));
        let mut torn = content[..(1 << 16) + 40_000].to_vec();
        torn[(1 << 16) + 30_000..].fill(0);
        std::fs::write(&to, torn).unwrap();
        let line = Line { cut_after: u64::MAX, false_at: None, answers: AtomicU64::new(0), content };
        let (came, tries) = until_there(&line, &described(&line.content), &to);
        assert_eq!((came, tries), (25_536 + (2 << 16), 2));
        assert_eq!(std::fs::read(&to).unwrap(), line.content);
    }

    #[test]
    fn a_file_that_is_longer_than_it_should_be_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let (content, to) = (content(70_000), dir.path().join("f"));
        std::fs::write(&to, [content.as_slice(), b"more"].concat()).unwrap();
        let line = Line { cut_after: u64::MAX, false_at: None, answers: AtomicU64::new(0), content };
        assert_eq!(until_there(&line, &described(&line.content), &to), (0, 1));
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
        // A piece more than allowed at most, and that is kept.
        assert!(matches!(paused, Err(FetchError::Paused(_))) && came.bytes <= 1_000_000 + CHUNK);
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
