//! A station's memory in one file, and back.
//!
//! - A backup is taken beside a running station: each database is copied by SQLite itself, as it stands between two
//!   transactions. It holds the configuration and every file that it names, so keys too: only its owner may read it.
//! - A database that cannot be read is packed as it is, under `damaged/`, and said so: keys, pictures and the other databases
//!   are then saved before anybody resets the station. It is never put back.
//! - It is put back only where no station runs and no memory is, and only after every file's SHA-256 was compared.
//! - What happened after the backup is forgotten here but not upstream. So a station that was put back refuses commands
//!   of before that moment (it no longer knows which it carried out), lets [`SEQUENCE_GAP`] numbers of each case be
//!   missing (upstream may have seen some of them, and would drop a repeat), and stays on the ground until somebody
//!   releases it (who held it since is forgotten as well).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::bundle::owner_only;
use super::memory::{UPDATES, WORK};
use super::{CareError, memory, named, seize};
use crate::runtime::sqlite::{Fault, fault};

/// More events of one case than a station makes between two backups.
pub const SEQUENCE_GAP: u64 = 1000;

const EVIDENCE: &str = "evidence";
/// What a state directory holds beside its databases that cannot be made again.
const FOLDERS: [&str; 3] = [EVIDENCE, "models", "update"];
const MANIFEST: &str = "manifest.json";

#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    pub aerie: String,
    pub station: String,
    pub taken_at: Timestamp,
    /// Of each database, what this aerie must at least know.
    pub layouts: BTreeMap<String, i64>,
    /// SHA-256 of each file.
    pub files: BTreeMap<String, String>,
    /// Databases that could not be read, and why: packed as they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub damaged: BTreeMap<String, String>,
    /// Files that the configuration names and that are not there or cannot be read: their keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// Takes a backup of the station of this configuration, which need not be without fault; refuses to overwrite one.
pub fn take(config: &Path, out: &Path) -> Result<Manifest, CareError> {
    let (station, state) = crate::config::whereabouts(config).map_err(CareError::Configuration)?;
    if out.exists() {
        return Err(CareError::Exists { path: out.to_owned(), remedy: "choose another name with --out" });
    }
    let mut manifest = Manifest {
        aerie: env!("CARGO_PKG_VERSION").to_owned(),
        station,
        taken_at: Timestamp::now(),
        layouts: BTreeMap::new(),
        files: BTreeMap::new(),
        damaged: BTreeMap::new(),
        left_out: Vec::new(),
    };
    // Not the same name twice: what a backup that was killed left behind must not stop the next one.
    let copies = out.with_extension(format!("copying-{}", std::process::id()));
    std::fs::create_dir(&copies).map_err(CareError::file("make", &copies))?;
    let done = pack(config, &state, &copies, out, &mut manifest);
    let _ = std::fs::remove_dir_all(&copies);
    if done.is_err() {
        // Half a backup is none.
        let _ = std::fs::remove_file(out);
    }
    done.map(|()| manifest)
}

fn pack(config: &Path, state: &Path, copies: &Path, out: &Path, manifest: &mut Manifest) -> Result<(), CareError> {
    let mut archive = tar::Builder::new(GzEncoder::new(owner_only(out)?, Compression::default()));
    // Outbox first: a picture is stored before the record that names it, so the folder read later holds them all.
    for (name, _) in memory::DATABASES {
        let path = state.join(name);
        if !path.is_file() {
            continue;
        }
        let copy = copies.join(name);
        match copy_database(&path, &copy) {
            Ok(layout) => {
                manifest.layouts.insert(name.to_owned(), layout);
                append(&mut archive, manifest, &copy, &format!("state/{name}"))?;
            }
            Err(CareError::Database { source, .. }) if fault(&source) == Fault::Broken => {
                manifest.damaged.insert(name.to_owned(), source.to_string());
                for part in ["", "-wal"].map(|end| format!("{name}{end}")) {
                    if state.join(&part).is_file() {
                        append(&mut archive, manifest, &state.join(&part), &format!("damaged/{part}"))?;
                    }
                }
            }
            Err(other) => return Err(other),
        }
    }
    for folder in FOLDERS {
        for path in files_below(&state.join(folder)) {
            let Ok(below) = path.strip_prefix(state) else { continue };
            match append(&mut archive, manifest, &path, &format!("state/{}", below.display())) {
                // Its retention ended just now.
                Err(CareError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
    }
    let text = std::fs::read_to_string(config).map_err(CareError::file("read", config))?;
    let value: toml::Value = toml::from_str(&text).unwrap_or(toml::Value::Boolean(false));
    let base = config.parent().unwrap_or(Path::new(""));
    append(&mut archive, manifest, config, "config/station.toml")?;
    let unfound = named::unfound(&value, base).into_iter();
    manifest.left_out =
        unfound.map(|(key, text)| format!("{key}: {} is not there", base.join(text).display())).collect();
    for (index, file) in named::files(&value, base).iter().enumerate() {
        // Inside the configuration's folder it keeps its place; from elsewhere it gets one beside it.
        let inside = file.path.strip_prefix(base).ok().filter(|path| is_plain(path));
        let name = match (inside, file.path.file_name()) {
            (Some(path), _) => format!("config/{}", path.display()),
            (None, Some(name)) => format!("config/elsewhere/{index}-{}", name.to_string_lossy()),
            (None, None) => continue,
        };
        if !manifest.files.contains_key(&name) {
            match append(&mut archive, manifest, &file.path, &name) {
                Err(CareError::File { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
                    manifest.left_out.push(format!("{}: {}: {source}", file.key, file.path.display()));
                }
                other => other?,
            }
        }
    }
    let text = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    let mut header = header(text.len() as u64);
    archive.append_data(&mut header, MANIFEST, text.as_slice()).map_err(CareError::file("write", out))?;
    let encoder = archive.into_inner().map_err(CareError::file("write", out))?;
    let mut file = encoder.finish().map_err(CareError::file("write", out))?;
    file.flush().and_then(|()| file.sync_all()).map_err(CareError::file("write", out))
}

/// Every whole file below a folder; what begins with a dot is still coming.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type());
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        match kind {
            Ok(kind) if kind.is_dir() => files.extend(files_below(&path)),
            Ok(kind) if kind.is_file() => files.push(path),
            _ => {}
        }
    }
    files
}

fn copy_database(path: &Path, copy: &Path) -> Result<i64, CareError> {
    let failed = |source| CareError::Database { doing: "copied", path: path.to_owned(), source };
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    connection.busy_timeout(std::time::Duration::from_secs(10)).map_err(failed)?;
    connection.execute("VACUUM INTO ?1", [copy.to_string_lossy()]).map_err(failed)?;
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o600);
    header
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    manifest: &mut Manifest,
    path: &Path,
    name: &str,
) -> Result<(), CareError> {
    // Read once, so that the digest is of what is packed. The largest are evidence pictures and databases.
    let bytes = std::fs::read(path).map_err(CareError::file("read", path))?;
    manifest.files.insert(name.to_owned(), hex::encode(Sha256::digest(&bytes)));
    archive.append_data(&mut header(bytes.len() as u64), name, bytes.as_slice()).map_err(CareError::file("pack", path))
}

/// Whether a path leads downward only.
fn is_plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// Puts a backup's state into `state_dir` and, where wanted, its configuration into `config_dir`.
pub fn restore(from: &Path, state_dir: &Path, config_dir: Option<&Path>) -> Result<Manifest, CareError> {
    std::fs::create_dir_all(state_dir).map_err(CareError::file("make", state_dir))?;
    let _held = seize(state_dir)?;
    if let Some(there) = WORK.iter().map(|name| state_dir.join(name)).find(|path| path.exists()) {
        let remedy = "a backup is put back into an empty state directory only: `aerie reset` empties it";
        return Err(CareError::Exists { path: there, remedy });
    }
    if let Some(dir) = config_dir {
        let path = dir.join("station.toml");
        if path.exists() {
            return Err(CareError::Exists { path, remedy: "configuration is never overwritten; name an empty folder" });
        }
    }
    let aside = state_dir.join(".restoring");
    let _ = std::fs::remove_dir_all(&aside);
    let done = unpack(from, &aside).and_then(|manifest| {
        for (name, found) in &manifest.layouts {
            let known = memory::DATABASES.iter().find(|(database, _)| database == name).map_or(0, |(_, steps)| steps.len());
            if i64::try_from(known).is_ok_and(|known| *found > known) {
                let why = format!(
                    "its {name} was written by a newer aerie ({}, layout {found}, this one reads {known}); install that version, then put it back",
                    manifest.aerie
                );
                return Err(CareError::Archive { path: from.to_owned(), why });
            }
        }
        prepare(&aside.join("state"))?;
        if state_dir.join(UPDATES).exists() {
            // What is there is at least as new: an older release must not become acceptable by a backup.
            let _ = std::fs::remove_file(aside.join("state").join(UPDATES));
            for folder in FOLDERS.into_iter().filter(|folder| *folder != EVIDENCE) {
                let _ = std::fs::remove_dir_all(aside.join("state").join(folder));
            }
        }
        move_all(&aside.join("state"), state_dir)?;
        if let Some(dir) = config_dir {
            move_all(&aside.join("config"), dir)?;
        }
        Ok(manifest)
    });
    let _ = std::fs::remove_dir_all(&aside);
    done
}

fn unpack(from: &Path, aside: &Path) -> Result<Manifest, CareError> {
    let broken = |why: String| CareError::Archive { path: from.to_owned(), why };
    let file = std::fs::File::open(from).map_err(CareError::file("open", from))?;
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    let mut manifest: Option<Manifest> = None;
    let mut found = BTreeMap::new();
    for entry in archive.entries().map_err(|error| broken(format!("is no backup: {error}")))? {
        let mut entry = entry.map_err(|error| broken(format!("is damaged: {error}")))?;
        let name = entry.path().map_err(|error| broken(error.to_string()))?.into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|error| broken(format!("is damaged: {error}")))?;
        if name == Path::new(MANIFEST) {
            manifest = Some(serde_json::from_slice(&bytes).map_err(|error| broken(format!("{MANIFEST}: {error}")))?);
            continue;
        }
        if !is_plain(&name) || !entry.header().entry_type().is_file() {
            return Err(broken(format!("holds {}, which does not belong into a backup", name.display())));
        }
        found.insert(name.display().to_string(), hex::encode(Sha256::digest(&bytes)));
        let path = aside.join(&name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(CareError::file("make", parent))?;
        }
        owner_only(&path)?.write_all(&bytes).map_err(CareError::file("write", &path))?;
    }
    let manifest = manifest.ok_or_else(|| broken(format!("holds no {MANIFEST}: it is no whole backup")))?;
    if found != manifest.files {
        return Err(broken("does not hold what its manifest says; fetch it again".to_owned()));
    }
    Ok(manifest)
}

/// What a station that was put back must know, see above.
fn prepare(state: &Path) -> Result<(), CareError> {
    let now = Timestamp::now();
    let change = |name: &str, work: &dyn Fn(&Connection) -> rusqlite::Result<()>| {
        let path = state.join(name);
        if !path.is_file() {
            return Ok(());
        }
        let changed = Connection::open(&path).and_then(|connection| work(&connection));
        changed.map_err(|source| CareError::Database { doing: "prepared", path, source })
    };
    change("commands.db", &|commands| {
        // The tolerance of the operator's clock is inside this minute.
        let floor = now.saturating_add(SignedDuration::from_secs(60)).unwrap_or(now);
        commands.execute("INSERT INTO floor VALUES (?1)", [floor.as_microsecond()]).map(|_| ())
    })?;
    change("aerie.db", &|aerie| {
        let gap = format!(
            "UPDATE cases SET document = json_set(document, '$.sequence', json_extract(document, '$.sequence') + {SEQUENCE_GAP})
             WHERE json_extract(document, '$.sequence') IS NOT NULL"
        );
        aerie.execute(&gap, [])?;
        let hold =
            json!({"by": "aerie restore", "reason": "put back from a backup: look before it flies", "since": now});
        let held = "INSERT INTO holds VALUES ('station', json_object('hold', json(?1))) ON CONFLICT (key) DO UPDATE SET document = json_set(document, '$.hold', json(?1))";
        aerie.execute(held, [hold.to_string()]).map(|_| ())
    })
}

fn move_all(from: &Path, to: &Path) -> Result<(), CareError> {
    std::fs::create_dir_all(to).map_err(CareError::file("make", to))?;
    for entry in std::fs::read_dir(from).into_iter().flatten().flatten() {
        let (old, new) = (entry.path(), to.join(entry.file_name()));
        if old.is_dir() {
            move_all(&old, &new)?;
        } else if std::fs::rename(&old, &new).is_err() {
            // Another file system.
            std::fs::copy(&old, &new).map_err(CareError::file("write", &new))?;
        }
    }
    Ok(())
}

/// What a reset takes away.
#[derive(Debug, Default, PartialEq)]
pub struct Emptied {
    pub files: usize,
    /// What had not reached upstream; nobody knows where the outbox cannot be read.
    pub undelivered: Option<u64>,
}

/// Takes a station's memory away: databases and evidence. Configuration and keys stay, and so does what is known of
/// models: an older one must not become acceptable by a reset. Refused while something has not
/// reached upstream, unless that is wanted.
pub fn reset(state_dir: &Path, even_undelivered: bool) -> Result<Emptied, CareError> {
    let _held = seize(state_dir)?;
    let outbox = state_dir.join("outbox.db");
    let mut emptied = Emptied { files: 0, undelivered: Some(0) };
    if outbox.is_file() {
        let report = crate::outbox::Reader::open(state_dir).and_then(|reader| reader.check());
        let why = match &report {
            Ok(report) if report.queued + report.aside == 0 => None,
            Ok(report) => Some(format!(
                "{} record(s) have not reached upstream; let the station deliver them, or say --even-undelivered",
                report.queued + report.aside
            )),
            Err(error) => Some(format!(
                "nobody knows what has not reached upstream: {error}; start the station, which saves what can be read, or say --even-undelivered"
            )),
        };
        emptied.undelivered = report.ok().map(|report| report.queued + report.aside);
        if let Some(why) = why.filter(|_| !even_undelivered) {
            return Err(CareError::Archive { path: outbox, why });
        }
    }
    for entry in std::fs::read_dir(state_dir).map_err(CareError::file("read", state_dir))?.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if name == EVIDENCE {
            emptied.files += std::fs::read_dir(&path).into_iter().flatten().count();
            std::fs::remove_dir_all(&path).map_err(CareError::file("remove", &path))?;
        } else if WORK.iter().any(|database| name.starts_with(database)) {
            emptied.files += 1;
            std::fs::remove_file(&path).map_err(CareError::file("remove", &path))?;
        }
    }
    Ok(emptied)
}

/// For messages: where a backup goes when nothing else is said.
pub fn default_name(station: &str, now: Timestamp) -> PathBuf {
    PathBuf::from(format!("aerie-backup-{station}-{}.tar.gz", now.strftime("%Y%m%dT%H%M%SZ")))
}
