//! Brings all files of a release to their slot, when and as fast as the configuration allows.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::origin::Origin;
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
}

impl Leave {
    fn ask(&self, bytes: u64) -> Result<(), String> {
        if self.stop.load(Ordering::Relaxed) {
            return Err("something else is to be done first".to_owned());
        }
        let now = self.zone.to_datetime(Timestamp::now());
        if let Some(hours) = self.hours.filter(|hours| !config::within(*hours, now.time())) {
            return Err(format!("fetching is allowed from {} to {} (update.hours)", hours.0, hours.1));
        }
        {
            let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
            let today = now.date().to_string();
            if spent.0 != today {
                *spent = (today, 0);
            }
            let most = self.mb_per_day.map_or(u64::MAX, |mb| u64::from(mb) * 1_000_000);
            if spent.1 + bytes > most {
                return Err(format!("today's {} MB have come (update.mb_per_day)", most / 1_000_000));
            }
            spent.1 += bytes;
        }
        if let Some(rate) = self.kb_per_s {
            pause(Duration::from_secs_f64(bytes as f64 / (f64::from(rate) * 1000.0)));
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own that waits for its line anyway")]
fn pause(time: Duration) {
    std::thread::sleep(time);
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
    for file in &document.files {
        let fetched = fetch::file(origin, file, &dir.join(&file.path), &mut came, &mut |bytes| leave.ask(bytes));
        fetched.map_err(|e| UpdateError::Wrong(e.to_string()))?;
    }
    slots.install(digest)?;
    tracing::info!(bytes = came.bytes, of = document.length(), "a release was fetched");
    Ok(())
}
