//! What a power cut leaves. SIGKILL cannot show a missing fsync: the kernel still holds what was written. So the
//! writes of a station are recorded (strace), replayed into a model of a disk that keeps only what was synced, and cut
//! at many moments; from what is left the real outbox is opened and asked for everything that had been accepted.
//!
//! The model is stricter than common file systems: content is kept by fsync or fdatasync of the file, a name only by
//! fsync of its directory. Directories themselves are taken to be there. What was written and not synced is dropped
//! whole (`nothing`), or kept sector by sector as chance will have it (`some`), which is what disks do.
//! With `ignore_syncs` the same replay must find losses: it shows that the model would see a missing fsync.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::SoakError;
use crate::outbox::Outbox;

const SECTOR: usize = 512;

/// One recorded system call, reduced to what matters.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    Open { path: String, create: bool, truncate: bool, fd: i32 },
    Close { fd: i32 },
    Write { fd: i32, at: Option<u64>, data: Vec<u8> },
    Truncate { fd: i32, len: u64 },
    SyncBegins { fd: i32 },
    SyncEnds { fd: i32 },
    Rename { from: String, to: String },
    Unlink { path: String },
}

// ------------------------------------------------------------------------------------------------ reading strace

/// Reads what `strace -f -xx` wrote. Calls of different threads interleave: a call counts where it ended, a sync
/// covers what had ended when it began.
fn read_trace(text: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut unfinished: HashMap<&str, String> = HashMap::new();
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(begun) = rest.strip_suffix("<unfinished ...>") {
            if let Some(fd) = sync_of(begun) {
                calls.push(Call::SyncBegins { fd });
            }
            unfinished.insert(pid, begun.trim_end().to_owned());
        } else if rest.starts_with("<... ") {
            let Some((_, end)) = rest.split_once(" resumed>") else { continue };
            if let Some(begun) = unfinished.remove(pid) {
                read_call(&format!("{begun}{end}"), true, &mut calls);
            }
        } else {
            read_call(rest, false, &mut calls);
        }
    }
    calls
}

fn sync_of(call: &str) -> Option<i32> {
    let args = call.strip_prefix("fsync(").or_else(|| call.strip_prefix("fdatasync("))?;
    args.trim_end_matches([')', ' ', ',']).parse().ok()
}

fn read_call(text: &str, resumed: bool, calls: &mut Vec<Call>) {
    let Some((name, rest)) = text.split_once('(') else { return };
    let Some((args, result)) = rest.rsplit_once(") = ").or_else(|| rest.rsplit_once(")= ")) else {
        // strace pads short calls: `close(3)      = 0`.
        let Some((args, result)) = rest.rsplit_once('=') else { return };
        return call_of(name, args.trim_end().trim_end_matches(')'), result.trim(), resumed, calls);
    };
    call_of(name, args, result.trim(), resumed, calls);
}

fn call_of(name: &str, args: &str, result: &str, resumed: bool, calls: &mut Vec<Call>) {
    let args: Vec<&str> = args.split(", ").collect();
    let result: i64 = result.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(-1);
    if result < 0 {
        return;
    }
    let number = |index: usize| args.get(index).and_then(|text| text.trim().parse::<i64>().ok());
    let fd = || number(0).and_then(|fd| i32::try_from(fd).ok()).unwrap_or(-1);
    let path = |index: usize| args.get(index).map(|text| String::from_utf8_lossy(&unquote(text)).into_owned());
    let written = || {
        let mut data = args.get(1).map(|text| unquote(text)).unwrap_or_default();
        data.truncate(usize::try_from(result).unwrap_or(0));
        data
    };
    match name {
        "openat" => {
            let flags = args.get(2).copied().unwrap_or_default();
            let (create, truncate) = (flags.contains("O_CREAT"), flags.contains("O_TRUNC"));
            let fd = i32::try_from(result).unwrap_or(-1);
            calls.extend(path(1).map(|path| Call::Open { path, create, truncate, fd }));
        }
        "close" => calls.push(Call::Close { fd: fd() }),
        "write" => calls.push(Call::Write { fd: fd(), at: None, data: written() }),
        "pwrite64" => {
            let at = number(3).map(i64::unsigned_abs);
            calls.push(Call::Write { fd: fd(), at, data: written() });
        }
        "ftruncate" => calls.push(Call::Truncate { fd: fd(), len: number(1).unwrap_or(0).unsigned_abs() }),
        "fsync" | "fdatasync" => {
            if !resumed {
                calls.push(Call::SyncBegins { fd: fd() });
            }
            calls.push(Call::SyncEnds { fd: fd() });
        }
        "rename" => calls.extend(path(0).zip(path(1)).map(|(from, to)| Call::Rename { from, to })),
        "renameat" | "renameat2" => calls.extend(path(1).zip(path(3)).map(|(from, to)| Call::Rename { from, to })),
        "unlink" => calls.extend(path(0).map(|path| Call::Unlink { path })),
        "unlinkat" => calls.extend(path(1).map(|path| Call::Unlink { path })),
        _ => {}
    }
}

/// `"\x61\x62"` to its bytes.
fn unquote(text: &str) -> Vec<u8> {
    let inner = text.trim().trim_start_matches('"').trim_end_matches('"');
    inner.split("\\x").skip(1).filter_map(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok()).collect()
}

// ------------------------------------------------------------------------------------------------ the disk's model

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, data: Vec<u8> },
    Truncate(usize),
}

#[derive(Debug, Default, Clone)]
struct File {
    synced: Vec<u8>,
    unsynced: Vec<Change>,
    /// How many of these the sync under way covers.
    covered: usize,
}

#[derive(Debug, Clone)]
enum Naming {
    Is(String, usize),
    IsNot(String),
}

#[derive(Debug, Default)]
struct Disk {
    files: Vec<File>,
    names: HashMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    /// Not on the disk yet, by directory.
    namings: HashMap<String, Vec<Naming>>,
    /// Descriptor to path, file and position.
    open: HashMap<i32, (String, Option<usize>, usize)>,
    ignore_syncs: bool,
    /// What was said on standard output.
    said: String,
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { at, data } => {
            let end = at + data.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            if let Some(part) = content.get_mut(*at..end) {
                part.copy_from_slice(data);
            }
        }
        Change::Truncate(len) => content.resize(*len, 0),
    }
}

fn folder_of(path: &str) -> String {
    Path::new(path).parent().map(|folder| folder.to_string_lossy().into_owned()).unwrap_or_default()
}

impl Disk {
    fn take(&mut self, call: &Call) {
        match call {
            Call::Open { path, create, truncate, fd } => {
                let known = self.names.get(path).copied();
                let file = match known {
                    None if *create => {
                        self.files.push(File::default());
                        let file = self.files.len() - 1;
                        self.name(path, file);
                        Some(file)
                    }
                    known => known,
                };
                if let (true, Some(file)) = (*truncate, file.and_then(|file| self.files.get_mut(file))) {
                    file.unsynced.push(Change::Truncate(0));
                }
                self.open.insert(*fd, (path.clone(), file, 0));
            }
            Call::Close { fd } => drop(self.open.remove(fd)),
            Call::Write { fd: 1, data, .. } => self.said.push_str(&String::from_utf8_lossy(data)),
            Call::Write { fd, at, data } => {
                let Some((_, Some(file), position)) = self.open.get_mut(fd) else { return };
                let at = at.and_then(|at| usize::try_from(at).ok()).unwrap_or_else(|| {
                    let at = *position;
                    *position += data.len();
                    at
                });
                if let Some(file) = self.files.get_mut(*file) {
                    file.unsynced.push(Change::Write { at, data: data.clone() });
                }
            }
            Call::Truncate { fd, len } => {
                let file = self.open.get(fd).and_then(|(_, file, _)| *file).and_then(|file| self.files.get_mut(file));
                if let (Some(file), Ok(len)) = (file, usize::try_from(*len)) {
                    file.unsynced.push(Change::Truncate(len));
                }
            }
            Call::SyncBegins { fd } => {
                let file = self.open.get(fd).and_then(|(_, file, _)| *file).and_then(|file| self.files.get_mut(file));
                if let Some(file) = file {
                    file.covered = file.unsynced.len();
                }
            }
            Call::SyncEnds { .. } if self.ignore_syncs => {}
            Call::SyncEnds { fd } => match self.open.get(fd) {
                Some((_, Some(file), _)) => {
                    if let Some(file) = self.files.get_mut(*file) {
                        let covered = file.covered.min(file.unsynced.len());
                        for change in file.unsynced.drain(..covered) {
                            apply(&mut file.synced, &change);
                        }
                        file.covered = 0;
                    }
                }
                Some((folder, None, _)) => {
                    for naming in self.namings.remove(folder).unwrap_or_default() {
                        match naming {
                            Naming::Is(path, file) => drop(self.synced_names.insert(path, file)),
                            Naming::IsNot(path) => drop(self.synced_names.remove(&path)),
                        }
                    }
                }
                None => {}
            },
            Call::Rename { from, to } => {
                if let Some(file) = self.names.remove(from) {
                    self.name(to, file);
                    self.namings.entry(folder_of(from)).or_default().push(Naming::IsNot(from.clone()));
                }
            }
            Call::Unlink { path } => {
                self.names.remove(path);
                self.namings.entry(folder_of(path)).or_default().push(Naming::IsNot(path.clone()));
            }
        }
    }

    fn name(&mut self, path: &str, file: usize) {
        self.names.insert(path.to_owned(), file);
        self.namings.entry(folder_of(path)).or_default().push(Naming::Is(path.to_owned(), file));
    }

    /// What is there after the power cut, below `root`, relative to it. `chance` keeps some of what was not synced.
    fn after_the_cut(&self, root: &str, chance: Option<&mut ChaCha8Rng>) -> Vec<(PathBuf, Vec<u8>)> {
        let mut chance = chance;
        let mut left = Vec::new();
        for (path, file) in &self.synced_names {
            let (Ok(relative), Some(file)) = (Path::new(path).strip_prefix(root), self.files.get(*file)) else {
                continue;
            };
            let mut content = file.synced.clone();
            if let Some(chance) = chance.as_deref_mut() {
                for change in &file.unsynced {
                    keep_some(&mut content, change, chance);
                }
            }
            left.push((relative.to_owned(), content));
        }
        left
    }
}

/// Each sector of a write reaches the disk or does not.
fn keep_some(content: &mut Vec<u8>, change: &Change, chance: &mut ChaCha8Rng) {
    match change {
        Change::Truncate(_) if chance.random_bool(0.5) => apply(content, change),
        Change::Truncate(_) => {}
        Change::Write { at, data } => {
            for (index, sector) in data.chunks(SECTOR).enumerate() {
                if chance.random_bool(0.5) {
                    apply(content, &Change::Write { at: at + index * SECTOR, data: sector.to_vec() });
                }
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------- the trial

#[derive(Debug, Clone)]
pub struct TraceOptions {
    pub program: PathBuf,
    pub out: PathBuf,
    pub events: u64,
    /// Moments at which the power is cut.
    pub cuts: u32,
    pub seed: u64,
}

#[derive(Debug, Default, Serialize)]
pub struct TraceReport {
    pub calls: usize,
    pub accepted: u64,
    pub cuts: u32,
    /// Records that had been accepted before a cut and were not there after it, over all cuts.
    pub lost: u64,
    /// The same with unsynced sectors kept by chance.
    pub lost_some_kept: u64,
    /// Databases that had to be moved aside, over all cuts.
    pub quarantined: u64,
    /// The same replay with every sync ignored: must not be 0, else the trial proves nothing.
    pub lost_without_syncs: u64,
}

impl TraceReport {
    pub fn is_good(&self) -> bool {
        self.lost == 0 && self.lost_some_kept == 0 && self.quarantined == 0 && self.lost_without_syncs > 0
    }
}

pub async fn run(options: TraceOptions) -> Result<TraceReport, SoakError> {
    std::fs::create_dir_all(&options.out).map_err(SoakError::io("create", &options.out))?;
    let out = options.out.canonicalize().map_err(SoakError::io("find", &options.out))?;
    let (state_dir, trace) = (out.join("state"), out.join("trace.txt"));
    let ended = tokio::process::Command::new("strace")
        .args(["-f", "-xx", "-s", "4000000", "-e", "signal=none"])
        .args([
            "-e",
            "trace=openat,close,write,pwrite64,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat",
        ])
        .arg("-o")
        .arg(&trace)
        .arg(&options.program)
        .args(["soak", "feed", "--events", &options.events.to_string(), "--state-dir"])
        .arg(&state_dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await
        .map_err(|source| SoakError::Missing { program: "strace", source })?;
    if !ended.success() {
        return Err(SoakError::Failed(format!("the traced station ended with {ended}")));
    }
    let text = std::fs::read_to_string(&trace).map_err(SoakError::io("read", &trace))?;
    let calls = read_trace(&text);
    drop(text);
    let root = state_dir.to_string_lossy().into_owned();
    let mut report = TraceReport { calls: calls.len(), cuts: options.cuts, ..TraceReport::default() };
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let cuts: HashSet<usize> = (0..options.cuts).map(|_| random.random_range(0..calls.len().max(1))).collect();
    let mut again = Again { out, opened: 0 };
    for ignore_syncs in [false, true] {
        let mut disk = Disk { ignore_syncs, ..Disk::default() };
        for (index, call) in calls.iter().enumerate() {
            disk.take(call);
            let at_the_end = index + 1 == calls.len();
            if !at_the_end && !cuts.contains(&index) {
                continue;
            }
            let accepted: Vec<&str> = disk.said.lines().filter_map(|line| line.strip_prefix("accepted ")).collect();
            if ignore_syncs {
                // Without a database there is nothing to open: all of it is lost.
                if at_the_end || report.lost_without_syncs == 0 {
                    report.lost_without_syncs += again.missing(disk.after_the_cut(&root, None), &accepted).await?.0;
                }
                continue;
            }
            let (lost, broken) = again.missing(disk.after_the_cut(&root, None), &accepted).await?;
            report.lost += lost;
            report.quarantined += broken;
            let left = disk.after_the_cut(&root, Some(&mut random));
            let (lost, broken) = again.missing(left, &accepted).await?;
            report.lost_some_kept += lost;
            report.quarantined += broken;
            report.accepted = accepted.len() as u64;
        }
    }
    Ok(report)
}

/// Where what is left is opened: each time in a folder of its own, for an outbox that closes removes files by name.
struct Again {
    out: PathBuf,
    opened: u32,
}

impl Again {
    /// Opens the real outbox on what is left. How many of the accepted are not there, and how many databases were broken.
    async fn missing(&mut self, left: Vec<(PathBuf, Vec<u8>)>, accepted: &[&str]) -> Result<(u64, u64), SoakError> {
        self.opened += 1;
        let dir = self.out.join(format!("after-{}", self.opened));
        std::fs::create_dir_all(dir.join("evidence")).map_err(SoakError::io("create", &dir))?;
        for (path, content) in left {
            // The log's index is made anew from the log.
            if !path.to_string_lossy().ends_with("-shm") {
                let path = dir.join(path);
                std::fs::write(&path, content).map_err(SoakError::io("write", &path))?;
            }
        }
        let outbox = Outbox::open(&dir)?;
        let listed = outbox.list(usize::MAX).await?;
        let check = outbox.check().await?;
        let damaged: HashSet<&String> =
            check.missing_pictures.iter().chain(&check.damaged_pictures).chain(&check.lost_to_resend).collect();
        let there: HashSet<&str> =
            listed.iter().filter(|row| !damaged.contains(&row.id)).map(|row| row.id.as_str()).collect();
        let lost = accepted.iter().filter(|id| !there.contains(**id)).count() as u64;
        let quarantined = outbox.stats().borrow().quarantined;
        drop(outbox);
        // The files of the log vanish meanwhile, when the database is closed.
        let _ = std::fs::remove_dir_all(&dir);
        Ok((lost, quarantined))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = r#"10 openat(AT_FDCWD, "\x2f\x73\x2f\x61", O_RDWR|O_CREAT|O_CLOEXEC, 0644) = 5
10 openat(AT_FDCWD, "\x2f\x73", O_RDONLY|O_CLOEXEC) = 6
10 pwrite64(5, "\x6f\x6e\x65", 3, 0) = 3
11 fdatasync(5 <unfinished ...>
10 pwrite64(5, "\x74\x77\x6f", 3, 3) = 3
11 <... fdatasync resumed>)              = 0
10 fsync(6)                                = 0
10 write(1, "\x61\x63\x63", 3)             = 3
10 openat(AT_FDCWD, "\x2f\x73\x2f\x62", O_RDONLY) = -1 ENOENT (No such file or directory)
10 rename("\x2f\x73\x2f\x61", "\x2f\x73\x2f\x63") = 0
10 close(5)                                = 0"#;

    fn replayed(upto: usize, ignore_syncs: bool) -> Disk {
        let mut disk = Disk { ignore_syncs, ..Disk::default() };
        read_trace(TRACE).iter().take(upto).for_each(|call| disk.take(call));
        disk
    }

    #[test]
    fn a_cut_keeps_what_was_synced_before_the_sync_began_and_nothing_else() {
        let disk = replayed(usize::MAX, false);
        assert_eq!(disk.said, "acc");
        // The rename was not synced: the old name, with the first write alone.
        assert_eq!(disk.after_the_cut("/s", None), [(PathBuf::from("a"), b"one".to_vec())]);
        assert!(replayed(usize::MAX, true).after_the_cut("/s", None).is_empty());
    }

    #[test]
    fn a_file_whose_directory_was_not_synced_has_no_name_after_the_cut() {
        let calls = read_trace(TRACE);
        let directory = calls.iter().position(|call| *call == Call::SyncEnds { fd: 6 }).unwrap();
        assert!(replayed(directory, false).after_the_cut("/s", None).is_empty());
        assert_eq!(replayed(directory + 1, false).after_the_cut("/s", None).len(), 1);
    }
}
