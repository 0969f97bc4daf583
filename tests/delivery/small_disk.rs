//! A disk that is small enough to fill.

/// A file system of its own, so small that it can be filled. None where this machine does not allow it.
pub struct SmallDisk(
    pub std::path::PathBuf,
    #[expect(dead_code, reason = "the folder goes with it")] tempfile::TempDir,
);

impl SmallDisk {
    pub fn mount(megabytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        std::fs::create_dir(&path).unwrap();
        let size = format!("size={megabytes}m");
        let mounted =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(path, dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
