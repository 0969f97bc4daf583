//! Makes room in the folder where pictures arrive, where the configuration asks for it: files older than so many days go.
//! Off unless asked for: the pictures are the owner's.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

/// Endings of what a camera writes. Anything else in the folder is none of our business.
const ENDINGS: [&str; 6] = ["jpg", "jpeg", "dng", "tif", "tiff", "png"];

/// One file of the folder.
#[derive(Debug, Clone, PartialEq)]
struct Item {
    path: PathBuf,
    changed: Timestamp,
}

/// Pure: which of them are old enough to go.
fn old(items: Vec<Item>, days: u32, now: Timestamp) -> Vec<PathBuf> {
    let age = SignedDuration::from_hours(24 * i64::from(days));
    let is_picture = |path: &Path| {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
    };
    items.into_iter().filter(|i| is_picture(&i.path) && now.duration_since(i.changed) > age).map(|i| i.path).collect()
}

/// Removes the pictures of more than so many days ago from the folder itself; links and folders stay. Returns how many.
pub fn pictures(dir: &Path, days: u32, now: Timestamp) -> std::io::Result<usize> {
    let mut items = Vec::new();
    for entry in std::fs::read_dir(dir)?.flatten() {
        let plain = entry.file_type().is_ok_and(|kind| kind.is_file());
        let changed =
            entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|at| Timestamp::try_from(at).ok());
        if let (true, Some(changed)) = (plain, changed) {
            items.push(Item { path: entry.path(), changed });
        }
    }
    let mut gone = 0;
    for path in old(items, days, now) {
        match std::fs::remove_file(&path) {
            Ok(()) => gone += 1,
            Err(error) => tracing::warn!(%error, file = %path.display(), "an old picture could not be removed"),
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pictures_go_and_only_old_ones() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("folder.jpg")).unwrap();
        for name in ["a.jpg", "b.JPG", "notes.txt"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link.jpg")).unwrap();
        let days = |n: i64| Timestamp::now().saturating_add(SignedDuration::from_hours(24 * n)).unwrap();
        assert_eq!(pictures(dir.path(), 30, days(29)).unwrap(), 0);
        assert_eq!(pictures(dir.path(), 30, days(31)).unwrap(), 2);
        for left in ["notes.txt", "folder.jpg", "link.jpg"] {
            assert!(dir.path().join(left).symlink_metadata().is_ok(), "{left}");
        }
    }
}
