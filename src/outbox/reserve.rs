//! Space that is given away when the disk is full: dropping records is itself a write, and a full disk refuses that too.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Free space beyond the reserve itself before it is taken again: otherwise it would fill what was just freed.
const MARGIN: u64 = 2;
const NAME: &str = "outbox.reserve";

/// Gives away what a station that is not running kept back. Whether there was any.
pub fn give_away(dir: &Path) -> bool {
    fs::remove_file(dir.join(NAME)).is_ok()
}

pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: bool,
}

impl Reserve {
    pub(super) fn new(dir: &Path, bytes: u64) -> Self {
        let path = dir.join(NAME);
        let held = fs::metadata(&path).is_ok_and(|found| found.len() >= bytes);
        Self { path, bytes, held: bytes > 0 && held }
    }

    /// Gives the space away. Whether there was any.
    pub(super) fn release(&mut self) -> bool {
        let released = self.held && fs::remove_file(&self.path).is_ok();
        self.held = false;
        released
    }

    /// What has to be free before it can be taken again.
    pub(super) fn wanted(&self) -> u64 {
        if self.held { 0 } else { self.bytes.saturating_mul(MARGIN) }
    }

    /// Takes the space back once `free` bytes are plenty.
    pub(super) fn take(&mut self, free: Option<u64>) {
        if self.held || self.bytes == 0 || free.is_none_or(|free| free < self.bytes.saturating_mul(MARGIN)) {
            return;
        }
        let written = File::create(&self.path).and_then(|mut file| {
            let zeros = vec![0; 64 * 1024];
            let mut left = self.bytes as usize;
            while left > 0 {
                let part = left.min(zeros.len());
                file.write_all(zeros.get(..part).unwrap_or_default())?;
                left -= part;
            }
            Ok(())
        });
        match written {
            Ok(()) => self.held = true,
            // What cannot be kept back is given back whole.
            Err(_) => drop(fs::remove_file(&self.path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_given_once_and_taken_again_only_where_there_is_plenty() {
        let dir = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::new(dir.path(), 1000);
        assert!(!reserve.release());
        reserve.take(Some(1500));
        assert!(!reserve.release(), "too little was free to keep some of it back");
        reserve.take(Some(2000));
        assert_eq!(fs::metadata(dir.path().join("outbox.reserve")).unwrap().len(), 1000);
        // A restart finds it.
        let mut reserve = Reserve::new(dir.path(), 1000);
        assert!(reserve.release() && !reserve.release());
        assert!(!dir.path().join("outbox.reserve").exists());
        assert!(!give_away(dir.path()));
        Reserve::new(dir.path(), 1000).take(Some(2000));
        assert!(give_away(dir.path()) && !dir.path().join("outbox.reserve").exists());
    }
}
