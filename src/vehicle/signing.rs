//! MAVLink 2 message signing: both sides hold a secret key; a frame without its signature, with a wrong one or with an
//! old timestamp is not taken. As in MAVLink's guide, but with no exception for unsigned frames.
//!
//! Timestamps count 10 µs since 2015 and must never be used twice with one key, whatever happens to us or to our clock.
//! So they are reserved ahead in a small file: what lies below its mark counts as used, also if we crash at once. The
//! mark moves in steps of [`STEP`], written by a task of its own, so that a slow disk does not stop the heartbeat.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

/// The `[vehicle.signing]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SigningConfig {
    /// The secret key that the drone holds too: 32 bytes, or 64 hexadecimal digits. No one but its owner may read it.
    pub key_file: PathBuf,
    /// Tells this link from others with the same key.
    #[serde(default)]
    pub link_id: u8,
}

#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    #[error("vehicle.signing.key_file = {path:?} cannot be read; look whether it exists and belongs to aerie's user")]
    KeyUnreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "vehicle.signing.key_file = {path:?} may be read by others (mode {mode:03o}); chmod 600 it, and make a new key if others had access"
    )]
    KeyNotPrivate { path: PathBuf, mode: u32 },
    #[error("vehicle.signing.key_file = {path:?} holds neither 32 bytes nor 64 hexadecimal digits")]
    KeyFormat { path: PathBuf },
    #[error("signing needs a place for its timestamps; give the station a state_dir")]
    NoPlace,
    #[error("the timestamps in {path:?} cannot be kept; free the disk, and look at its rights")]
    Unkept {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path:?} is damaged, and without it a timestamp might be used twice; if the clock is right, delete it")]
    Damaged { path: PathBuf },
}

/// How far ahead timestamps are reserved: 60 s.
const STEP: u64 = 6_000_000;
/// A drone that was not heard since our start may be this far behind what we heard before it, as in MAVLink's guide: 60 s.
const OLDEST: u64 = 6_000_000;
/// 2015-01-01T00:00:00Z.
const EPOCH_S: i64 = 1_420_070_400;
const LARGEST: u64 = (1 << 48) - 1;
/// Signature: link id, timestamp, and 48 bits of a SHA-256.
pub(super) const LENGTH: usize = 13;
const TIMESTAMP_FILE: &str = "mavlink-timestamps.json";
/// How many senders (system, component, link) are remembered. Only holders of the key can add one.
const SENDERS: usize = 256;

/// A clock's time as a timestamp.
fn stamp_of(now: Timestamp) -> u64 {
    u64::try_from((now.as_microsecond() - EPOCH_S * 1_000_000) / 10).unwrap_or_default().min(LARGEST)
}

/// The secret. Never shown.
#[derive(Clone)]
struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(secret)")
    }
}

impl Key {
    fn read(path: &Path) -> Result<Key, SigningError> {
        let unreadable = |source| SigningError::KeyUnreadable { path: path.to_owned(), source };
        // The rights of the file that is read, not of whatever bears its name a moment later.
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SigningError::KeyNotPrivate { path: path.to_owned(), mode });
        }
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, 1024), &mut bytes).map_err(unreadable)?;
        let raw = <[u8; 32]>::try_from(bytes.as_slice()).ok();
        let text = || {
            let mut key = [0; 32];
            hex::decode_to_slice(bytes.trim_ascii(), &mut key).ok()?;
            Some(key)
        };
        raw.or_else(text).map(Key).ok_or_else(|| SigningError::KeyFormat { path: path.to_owned() })
    }

    /// Over the frame up to its checksum, the link id and the timestamp.
    fn sign(&self, frame: &[u8], link_and_time: &[u8]) -> [u8; 6] {
        let digest = Sha256::new().chain_update(self.0).chain_update(frame).chain_update(link_and_time).finalize();
        let mut signature = [0; 6];
        signature.copy_from_slice(&digest[..6]);
        signature
    }
}

/// The time of both directions, shared by [`Signer`], [`Verifier`] and what keeps it on disk.
#[derive(Debug, Default)]
struct Times {
    /// The last one given out.
    used: AtomicU64,
    /// On disk: everything below counts as used.
    reserved: AtomicU64,
    /// The greatest that came with a right signature.
    heard: AtomicU64,
}

/// Signs what we send.
#[derive(Debug)]
pub struct Signer {
    key: Key,
    link_id: u8,
    times: Arc<Times>,
}

impl Signer {
    /// What is appended to a frame that ends with its checksum.
    pub(super) fn signature(&mut self, frame: &[u8], now: Timestamp) -> [u8; LENGTH] {
        // Ahead of the clock where more is said than it ticks, where it was set back, or where the drone is ahead.
        let least = self.times.used.load(Ordering::Relaxed).max(self.times.heard.load(Ordering::Relaxed)) + 1;
        let stamp = stamp_of(now).max(least).min(LARGEST);
        self.times.used.store(stamp, Ordering::Relaxed);
        let mut signature = [0; LENGTH];
        signature[0] = self.link_id;
        signature[1..7].copy_from_slice(&stamp.to_le_bytes()[..6]);
        let value = self.key.sign(frame, &signature[..7]);
        signature[7..].copy_from_slice(&value);
        signature
    }
}

/// Why a frame is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    Unsigned,
    WrongSignature,
    /// Not newer than what its sender said before, or than what was heard before we started.
    Replayed,
}

/// Checks what we hear.
#[derive(Debug)]
pub struct Verifier {
    key: Key,
    times: Arc<Times>,
    /// What had been heard before we started.
    before: u64,
    senders: HashMap<(u8, u8, u8), u64>,
}

impl Verifier {
    /// A whole MAVLink 2 frame with its signature.
    pub(super) fn check(&mut self, frame: &[u8], sender: (u8, u8)) -> Result<(), Unfit> {
        let (signed, signature) = frame.split_at_checked(frame.len().saturating_sub(LENGTH)).ok_or(Unfit::Unsigned)?;
        let (link_and_time, value) = signature.split_at_checked(7).ok_or(Unfit::Unsigned)?;
        // Of 48 bits one cannot guess the first by the time that comparing takes, over a radio.
        if self.key.sign(signed, link_and_time) != *value {
            return Err(Unfit::WrongSignature);
        }
        let mut stamp = [0; 8];
        stamp[..6].copy_from_slice(&link_and_time[1..]);
        let stamp = u64::from_le_bytes(stamp);
        let sender = (sender.0, sender.1, link_and_time[0]);
        let known = self.senders.get(&sender).copied();
        let oldest = match known {
            Some(last) => last + 1,
            None => self.before.saturating_sub(OLDEST),
        };
        if stamp < oldest || (known.is_none() && self.senders.len() >= SENDERS) {
            return Err(Unfit::Replayed);
        }
        self.senders.insert(sender, stamp);
        self.times.heard.fetch_max(stamp, Ordering::Relaxed);
        Ok(())
    }
}

/// Both directions.
#[derive(Debug)]
pub struct Signing {
    pub signer: Signer,
    pub verifier: Verifier,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    reserved: u64,
    heard: u64,
}

/// Reads the key and the timestamps, reserves the first ones and keeps them reserved until `cancel`.
/// Must be called within a tokio runtime.
pub(super) fn begin(
    config: &SigningConfig,
    state_dir: Option<&Path>,
    cancel: CancellationToken,
) -> Result<Signing, SigningError> {
    let (signing, times, path) = open(config, state_dir, Timestamp::now())?;
    tokio::spawn(keep(times, path, cancel));
    Ok(signing)
}

fn open(
    config: &SigningConfig,
    state_dir: Option<&Path>,
    now: Timestamp,
) -> Result<(Signing, Arc<Times>, PathBuf), SigningError> {
    let key = Key::read(&config.key_file)?;
    let path = state_dir.ok_or(SigningError::NoPlace)?.join(TIMESTAMP_FILE);
    let unkept = |source| SigningError::Unkept { path: path.clone(), source };
    let kept = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| SigningError::Damaged { path: path.clone() })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Kept::default(),
        Err(error) => return Err(unkept(error)),
    };
    let times = Arc::new(Times::default());
    times.heard.store(kept.heard.min(LARGEST), Ordering::Relaxed);
    times.used.store(stamp_of(now).max(kept.reserved).min(LARGEST), Ordering::Relaxed);
    reserve(&times, &path).map_err(unkept)?;
    let signer = Signer { key: key.clone(), link_id: config.link_id, times: times.clone() };
    let verifier = Verifier { key, times: times.clone(), before: kept.heard, senders: HashMap::new() };
    Ok((Signing { signer, verifier }, times, path))
}

/// Moves the mark on disk ahead of what is used. On return it is there to stay.
fn reserve(times: &Times, path: &Path) -> std::io::Result<()> {
    let ahead = times.used.load(Ordering::Relaxed).max(times.heard.load(Ordering::Relaxed)) + STEP;
    let kept = Kept { reserved: ahead.min(LARGEST), heard: times.heard.load(Ordering::Relaxed) };
    let text = serde_json::to_vec(&kept).map_err(std::io::Error::other)?;
    // A power cut leaves the old file or the new one, never half of either.
    let new = path.with_extension("new");
    let mut file = std::fs::File::create(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    if let Some(dir) = path.parent() {
        std::fs::File::open(dir)?.sync_all()?;
    }
    times.reserved.store(kept.reserved, Ordering::Relaxed);
    Ok(())
}

/// Reserves on while half of the reserve is left. A disk that fails does not stop the link: a drone without a heartbeat
/// would be the worse outcome.
async fn keep(times: Arc<Times>, path: PathBuf, cancel: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(5)) => {}
            () = cancel.cancelled() => return,
        }
        let left = times.reserved.load(Ordering::Relaxed).saturating_sub(times.used.load(Ordering::Relaxed));
        if left > STEP / 2 {
            continue;
        }
        let (task_times, task_path) = (times.clone(), path.clone());
        let reserved = tokio::task::spawn_blocking(move || reserve(&task_times, &task_path)).await;
        match reserved {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, path = %path.display(), "signing timestamps cannot be reserved; the link goes on without");
            }
            Err(error) => tracing::error!(%error, "signing timestamps cannot be reserved"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use mavlink::dialects::common::{HEARTBEAT_DATA, MavMessage};

    use super::super::frame::{Encoder, Splitter};
    use super::*;

    pub fn key_in(dir: &Path, fill: u8) -> SigningConfig {
        let key_file = dir.join(format!("key-{fill}"));
        std::fs::write(&key_file, [fill; 32]).unwrap();
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        SigningConfig { key_file, link_id: 3 }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + seconds).unwrap()
    }

    /// Signing with a key of its own folder, as another station or drone would.
    pub fn signing(fill: u8) -> Signing {
        let dir = tempfile::tempdir().unwrap();
        open(&key_in(dir.path(), fill), Some(dir.path()), at(0)).unwrap().0
    }

    fn heartbeat() -> MavMessage {
        MavMessage::HEARTBEAT(HEARTBEAT_DATA::default())
    }

    fn stamp_in(frame: &[u8]) -> u64 {
        let mut stamp = [0; 8];
        stamp[..6].copy_from_slice(&frame[frame.len() - 12..frame.len() - 6]);
        u64::from_le_bytes(stamp)
    }

    #[test]
    fn only_frames_with_the_key_and_a_new_timestamp_are_taken() {
        let mut drone = Encoder::new(1, 1).signed(signing(7).signer);
        let mut splitter = Splitter::verified(signing(7).verifier);
        let frame = drone.encode(&heartbeat());
        assert_eq!(splitter.datagram(&frame).len(), 1);
        assert_eq!(splitter.refused, 0);
        // The same again, once more later, unsigned, with another key, and changed on the way.
        assert!(splitter.datagram(&frame).is_empty());
        let newer = drone.encode(&heartbeat());
        assert_eq!(splitter.datagram(&newer).len(), 1);
        assert!(splitter.datagram(&frame).is_empty());
        assert!(splitter.datagram(&Encoder::new(1, 1).encode(&heartbeat())).is_empty());
        assert!(splitter.datagram(&Encoder::new(1, 1).signed(signing(8).signer).encode(&heartbeat())).is_empty());
        let mut moved = drone.encode(&heartbeat());
        let end = moved.len();
        moved[end - 7] ^= 1;
        assert!(splitter.datagram(&moved).is_empty());
        assert_eq!(splitter.refused, 5);
        // Too short to be signed at all.
        let mut verifier = signing(7).verifier;
        assert_eq!(verifier.check(&[], (1, 1)), Err(Unfit::Unsigned));
        // And a splitter without a key reads signed frames.
        assert_eq!(Splitter::default().datagram(&drone.encode(&heartbeat())).len(), 1);
    }

    #[test]
    fn the_signature_is_the_one_of_the_specification() {
        // By hand: SHA-256 over key, header with its start, payload, checksum, link id and timestamp; its first 48 bits.
        let mut encoder = Encoder::new(1, 1).signed(signing(7).signer);
        let frame = encoder.encode(&heartbeat());
        assert_eq!((frame[0], frame[2]), (0xFD, 0x01));
        let (body, signature) = frame.split_at(frame.len() - 6);
        let mut hash = Sha256::new();
        hash.update([7u8; 32]);
        hash.update(body);
        assert_eq!(signature, &hash.finalize()[..6]);
        assert_eq!(body[body.len() - 7], 3);
    }

    #[test]
    fn no_timestamp_is_used_twice_through_a_crash_and_a_clock_set_back() {
        let dir = tempfile::tempdir().unwrap();
        let config = key_in(dir.path(), 7);
        let mut last = 0;
        // Each start is a crash of the one before; the clock jumps back and forth.
        for clock in [0, 0, -86_400, 5, 1_000_000, 0] {
            let (mut signing, ..) = open(&config, Some(dir.path()), at(clock)).unwrap();
            for _ in 0..50 {
                let stamp = stamp_in(&signing.signer.signature(&[], at(clock)));
                assert!(stamp > last, "{stamp} after {last}");
                last = stamp;
            }
        }
    }

    #[test]
    fn what_was_recorded_before_a_restart_is_not_taken_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let config = key_in(dir.path(), 7);
        let mut drone = signing(7).signer;
        let mut frame = |seconds: i64| {
            let body = vec![0; 12];
            let signature = drone.signature(&body, at(seconds));
            [body, signature.into()].concat()
        };
        let (early, late) = (frame(100), frame(1000));
        let (mut first, times, path) = open(&config, Some(dir.path()), at(0)).unwrap();
        assert_eq!(first.verifier.check(&early, (1, 1)), Ok(()));
        assert_eq!(first.verifier.check(&late, (1, 1)), Ok(()));
        // What the keeping task does.
        reserve(&times, &path).unwrap();
        let (mut second, ..) = open(&config, Some(dir.path()), at(0)).unwrap();
        assert_eq!(second.verifier.check(&early, (1, 1)), Err(Unfit::Replayed));
        assert_eq!(second.verifier.check(&frame(1001), (1, 1)), Ok(()));
        // Our own time follows the drone's, which would not take older ones.
        assert!(stamp_in(&second.signer.signature(&[], at(0))) > stamp_in(&late));
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_none_is_refused_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let config = key_in(dir.path(), 7);
        let refused = |config: &SigningConfig| open(config, Some(dir.path()), at(0)).unwrap_err().to_string();
        std::fs::set_permissions(&config.key_file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = refused(&config);
        assert!(error.contains("key-7") && error.contains("mode 640") && error.contains("chmod 600"), "{error}");
        std::fs::set_permissions(&config.key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&config.key_file, "short").unwrap();
        assert!(refused(&config).contains("64 hexadecimal digits"));
        // As text it is the same key.
        std::fs::write(&config.key_file, format!("{}\n", "07".repeat(32))).unwrap();
        let (mut text, ..) = open(&config, Some(dir.path()), at(0)).unwrap();
        let frame = [vec![0; 12], signing(7).signer.signature(&[0; 12], at(9)).into()].concat();
        assert_eq!(text.verifier.check(&frame, (1, 1)), Ok(()));
        assert!(matches!(open(&config, None, at(0)), Err(SigningError::NoPlace)));
        std::fs::write(dir.path().join(TIMESTAMP_FILE), "{\"reserv").unwrap();
        assert!(refused(&config).contains("damaged"));
        assert!(!format!("{:?}", text.signer).contains("7, 7"));
    }
}
