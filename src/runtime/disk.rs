//! Free space where the station keeps its state.

use std::path::Path;

/// Bytes that this process may still write below `dir`; none when the file system does not say.
pub fn free_bytes(dir: &Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(dir).ok()?;
    Some(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// The same in megabytes (10^6 bytes).
pub fn free_mb(dir: &Path) -> Option<u64> {
    free_bytes(dir).map(|bytes| bytes / 1_000_000)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_folder_that_is_not_there_has_unknown_space() {
        assert!(super::free_mb(std::path::Path::new("/nowhere/at/all")).is_none());
        assert!(super::free_mb(&std::env::temp_dir()).is_some());
    }
}
