//! Brings all files of a release to their slot, when and as fast as the configuration allows.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::fetch::FetchError;
use super::origin::{Origin, OriginError};
use super::slots::Slots;
use super::{UpdateError, config, fetch};
use crate::runtime::disk;

/// What must stay free on the disk beside a release, MB.
const SPARE_MB: u64 = 200;

/// When and how fast bytes may come.
pub struct Leave {
    pub hours: Option<(jiff::civil::Time, jiff::civil::Time)>,
    pub zone: jiff::tz::TimeZone,
    pub kb_per_s: Option<u32>,
    pub mb_per_day: Option<u32>,
    pub stop: Arc<AtomicBool>,
    /// The day, and what came on it.
    pub spent: Arc<Mutex<(String, u64)>>,
    pub progress: Arc<Progress>,
}

/// How much of a release is here, bytes.
#[derive(Debug, Default)]
pub struct Progress {
    here: AtomicU64,
    whole: AtomicU64,
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mb = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed) as f64 / 1e6;
        write!(f, "{:.1} of {:.1} MB", mb(&self.here), mb(&self.whole))
    }
}

impl Leave {
    fn ask(&self, bytes: u64) -> Result<(), String> {
        self.progress.here.fetch_add(bytes, Ordering::Relaxed);
        if self.stop.load(Ordering::Relaxed) {
            return Err("something else is to be done first".to_owned());
        }
        pause(self.at(self.zone.to_datetime(Timestamp::now()), bytes)?);
        Ok(())
    }

    /// After `bytes` came: how long to wait for more, or why there is no more for now.
    fn at(&self, now: jiff::civil::DateTime, bytes: u64) -> Result<Duration, String> {
        let most = self.mb_per_day.map_or(u64::MAX, |mb| u64::from(mb) * 1_000_000);
        let today = now.date().to_string();
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.0 != today {
            *spent = (today, 0);
        }
        spent.1 += bytes;
        if spent.1 >= most {
            return Err(format!("today's {} MB have come (update.mb_per_day)", most / 1_000_000));
        }
        if let Some(hours) = self.hours.filter(|hours| !config::within(*hours, now.time())) {
            return Err(format!("fetching is allowed from {} to {} (update.hours)", hours.0, hours.1));
        }
        let rate = self.kb_per_s.map(|rate| f64::from(rate) * 1000.0);
        Ok(rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(bytes as f64 / rate)))
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own that waits for its line anyway")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Why a release does not come: a block that is not as it was signed stays named when the next try fails at what came of
/// it, as at a server that cannot give the block alone.
#[derive(Debug, Default)]
pub struct Trouble {
    /// Of which release, and the block in words.
    block: Option<(String, String)>,
}

impl Trouble {
    pub fn told(&mut self, digest: &str, error: &UpdateError) -> String {
        match (error, &self.block) {
            (UpdateError::Fetch(FetchError::False { .. }), _) => {
                self.block = Some((digest.to_owned(), error.to_string()));
                error.to_string()
            }
            (UpdateError::Fetch(FetchError::Origin(OriginError::Range { .. })), Some((of, block))) if of == digest => {
                format!("{block}; it cannot be asked for again: {error}")
            }
            _ => error.to_string(),
        }
    }
}

/// Blocks. What is here already, and as it was signed, is not asked for.
pub fn all(
    origin: &dyn Origin,
    slots: &Slots,
    digest: &str,
    state_dir: &Path,
    leave: Leave,
) -> Result<(), UpdateError> {
    if slots.verified(digest).is_ok() {
        return Ok(());
    }
    let document = slots.document(digest)?;
    let free = disk::free_mb(state_dir);
    let wanted = document.length() / 1_000_000 + SPARE_MB;
    if let Some(free) = free.filter(|free| *free < wanted) {
        return Err(UpdateError::Wrong(format!(
            "{free} MB are free where {wanted} are needed; free some space below {}",
            state_dir.display()
        )));
    }
    let dir = slots.incoming(digest);
    let mut came = fetch::Came::default();
    let progress = Arc::clone(&leave.progress);
    progress.whole.store(document.length(), Ordering::Relaxed);
    for file in &document.files {
        let to = dir.join(&file.path);
        // Golden pictures are mostly those of the release before. Whether the copy is what was signed is seen when it is read.
        if !to.exists()
            && let Some(same) = slots.holding(&file.sha256)
            && let Err(error) = copy(&same, &to)
        {
            tracing::warn!(from = %same.display(), %error, "a file that is here already is fetched again");
        }
        let had = std::fs::metadata(&to).map_or(0, |m| m.len().min(file.length));
        progress.here.fetch_add(had, Ordering::Relaxed);
        fetch::file(origin, file, &to, &mut came, &mut |bytes| leave.ask(bytes))?;
    }
    slots.install(digest)?;
    tracing::info!(bytes = came.bytes, of = document.length(), "a release was fetched");
    Ok(())
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to.parent().unwrap_or(Path::new(".")))?;
    std::fs::copy(from, to).map(|_| ())
}

#[cfg(test)]
mod tests {
    use jiff::civil::{DateTime, date};

    use super::*;

    #[test]
    fn a_false_block_stays_named_while_its_release_cannot_get_it_anew() {
        let falsely = UpdateError::Fetch(FetchError::False {
            path: "model.onnx".to_owned(),
            at: "http://site/files/ab".to_owned(),
            from: 65_536,
            to: 131_072,
        });
        let range = UpdateError::Fetch(FetchError::Origin(OriginError::Range {
            at: "http://site/files/ab".to_owned(),
            wanted: 65_536,
            length: 200_000,
            said: "200, the whole file".to_owned(),
        }));
        let mut trouble = Trouble::default();
        assert!(!trouble.told("d1", &range).contains("altered"));
        let block = "the block at byte 65536 of http://site/files/ab (model.onnx) does not have the signed content";
        assert!(trouble.told("d1", &falsely).starts_with(block));
        let later = trouble.told("d1", &range);
        assert!(later.starts_with(block) && later.contains("does ranges"), "{later}");
        assert!(!trouble.told("d2", &range).contains("block"), "of another release");
    }

    fn leave() -> Leave {
        Leave {
            hours: config::span("22:00-06:00"),
            zone: jiff::tz::TimeZone::UTC,
            kb_per_s: Some(100),
            mb_per_day: Some(3),
            stop: Arc::default(),
            spent: Arc::default(),
            progress: Arc::default(),
        }
    }

    fn at(day: i8, hour: i8) -> DateTime {
        date(2026, 11, day).at(hour, 30, 0, 0)
    }

    #[test]
    fn bytes_come_in_the_allowed_hours_only_and_what_came_late_still_counts() {
        let leave = leave();
        assert_eq!(leave.at(at(24, 23), 0), Ok(Duration::ZERO));
        assert!(leave.at(at(25, 6), 50_000).unwrap_err().contains("update.hours"));
        assert_eq!(leave.spent.lock().unwrap().1, 50_000);
    }

    #[test]
    fn a_piece_is_waited_for_as_long_as_the_rate_wants() {
        assert_eq!(leave().at(at(24, 23), 65_000), Ok(Duration::from_millis(650)));
    }

    #[test]
    fn a_days_megabytes_end_the_fetch_and_the_next_day_has_its_own() {
        let leave = leave();
        assert!(leave.at(at(24, 0), 2_999_999).is_ok());
        assert!(leave.at(at(24, 1), 1).unwrap_err().contains("update.mb_per_day"));
        assert!(leave.at(at(24, 23), 0).is_err(), "not a byte more on the same day");
        assert!(leave.at(at(25, 0), 0).is_ok());
    }

    #[test]
    fn a_fetch_that_is_to_stop_does_so_at_its_next_piece() {
        let leave = Leave { hours: None, ..leave() };
        leave.stop.store(true, Ordering::Relaxed);
        assert!(leave.ask(0).is_err());
    }
}
