//! Keeps perception from starving flight: the station moves into `station/` below the control group that systemd has
//! delegated to it, and each perception child into `perception/` beside it, with a memory limit of its own.
//!
//! Out of memory then ends the child, never the station, which starts another. Where no group was delegated (a terminal,
//! a container, control groups of version 1) nothing is touched.

use std::path::{Path, PathBuf};

/// Why the child runs without a limit.
#[derive(Debug, thiserror::Error)]
pub enum NoPen {
    #[error("this machine has no control groups of version 2")]
    NotUnified,
    #[error("no control group was delegated to aerie (Delegate= in its systemd unit)")]
    NotDelegated,
    #[error("control group {}: {doing}: {source}", path.display())]
    Failed { doing: &'static str, path: PathBuf, source: std::io::Error },
}

/// Where perception children live.
#[derive(Debug)]
pub struct Pen {
    dir: PathBuf,
    memory_mb: u32,
}

/// Divides the control group of this process, if it is ours alone.
pub fn divide(memory_mb: u32) -> Result<Pen, NoPen> {
    let read = |path: &str| std::fs::read_to_string(path).map_err(|_| NoPen::NotUnified);
    let mounts = read("/proc/self/mountinfo")?;
    let own = read("/proc/self/cgroup")?;
    let dir = own_group(&mounts, &own).ok_or(NoPen::NotUnified)?;
    divide_at(&dir, memory_mb, std::process::id())
}

/// Pure: the folder of this process's group of version 2; none for the root, which is nobody's own.
fn own_group(mountinfo: &str, own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mount = mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        (right.split(' ').next()? == "cgroup2").then(|| left.split(' ').nth(4)).flatten()
    })?;
    let below = path.trim_start_matches('/');
    (!below.is_empty()).then(|| Path::new(mount).join(below))
}

fn divide_at(dir: &Path, memory_mb: u32, pid: u32) -> Result<Pen, NoPen> {
    let controllers = read(&dir.join("cgroup.controllers"), "read its controllers")?;
    if !controllers.split_whitespace().any(|name| name == "memory") {
        return Err(NoPen::NotDelegated);
    }
    // A group with other processes in it is somebody else's to divide, whatever its rights allow.
    let members = read(&dir.join("cgroup.procs"), "read its processes")?;
    if members.split_whitespace().any(|member| member != pid.to_string()) {
        return Err(NoPen::NotDelegated);
    }
    let (station, pen) = (dir.join("station"), dir.join("perception"));
    for group in [&station, &pen] {
        match std::fs::create_dir(group) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Err(NoPen::NotDelegated),
            Err(source) => return Err(NoPen::Failed { doing: "make", path: group.clone(), source }),
        }
    }
    // A group has either processes or divided controllers, so we leave it before it is divided.
    write(&station.join("cgroup.procs"), &pid.to_string(), "move the station into")?;
    write(&dir.join("cgroup.subtree_control"), "+memory", "divide the memory of")?;
    for (controller, file, weight) in [
        ("cpu", station.join("cpu.weight"), "200"),
        ("cpu", pen.join("cpu.weight"), "50"),
        ("pids", pen.join("pids.max"), "64"),
    ] {
        // Flight first where the kernel can; without it memory is guarded all the same.
        let on = controllers.split_whitespace().any(|name| name == controller)
            && write(&dir.join("cgroup.subtree_control"), &format!("+{controller}"), "divide").is_ok();
        if on && let Err(error) = write(&file, weight, "weigh") {
            tracing::debug!(%error, "a weight was not taken");
        }
    }
    write(&pen.join("memory.max"), &format!("{memory_mb}M"), "limit the memory of")?;
    write(&pen.join("memory.oom.group"), "1", "group the children of")?;
    // Swapping would only spread the trouble; a kernel without swap has no such file.
    let _ = write(&pen.join("memory.swap.max"), "0", "keep from swapping");
    Ok(Pen { dir: pen, memory_mb })
}

impl Pen {
    /// Moves a child in. What it does before counts as the station's, which is a few milliseconds of loading.
    pub fn admit(&self, pid: u32) -> Result<(), NoPen> {
        write(&self.dir.join("cgroup.procs"), &pid.to_string(), "move the perception child into")
    }

    /// How often the kernel has ended children here, for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let events = std::fs::read_to_string(self.dir.join("memory.events")).unwrap_or_default();
        let kills = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.and_then(|kills| kills.trim().parse().ok()).unwrap_or(0)
    }

    pub fn memory_mb(&self) -> u32 {
        self.memory_mb
    }
}

fn read(path: &Path, doing: &'static str) -> Result<String, NoPen> {
    std::fs::read_to_string(path).map_err(|source| NoPen::Failed { doing, path: path.to_owned(), source })
}

fn write(path: &Path, text: &str, doing: &'static str) -> Result<(), NoPen> {
    std::fs::write(path, text).map_err(|source| NoPen::Failed { doing, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str =
        "24 1 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n25 1 0:23 / /proc rw - proc proc rw";

    #[test]
    fn the_own_group_is_found_and_the_root_is_nobodys_own() {
        let found = own_group(MOUNTS, "0::/system.slice/aerie.service\n");
        assert_eq!(found, Some(PathBuf::from("/sys/fs/cgroup/system.slice/aerie.service")));
        assert_eq!(own_group(MOUNTS, "0::/\n"), None);
        assert_eq!(own_group("25 1 0:23 / /proc rw - proc proc rw", "0::/a\n"), None);
        assert_eq!(own_group(MOUNTS, "4:memory:/a\n"), None);
    }

    /// A folder that looks like a group: what is written shows what would be asked of the kernel.
    fn group(controllers: &str, members: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cgroup.controllers"), controllers).unwrap();
        std::fs::write(dir.path().join("cgroup.procs"), members).unwrap();
        dir
    }

    #[test]
    fn a_group_with_others_in_it_or_without_memory_control_is_left_alone() {
        for (controllers, members) in [("cpu memory pids", "10\n77\n"), ("cpu pids", "10\n")] {
            let dir = group(controllers, members);
            assert!(matches!(divide_at(dir.path(), 600, 10), Err(NoPen::NotDelegated)));
            assert!(!dir.path().join("station").exists() && !dir.path().join("perception").exists());
        }
    }

    #[test]
    fn a_group_of_our_own_is_divided_with_a_limit_for_the_children() {
        let dir = group("cpu memory pids", "10\n");
        let pen = divide_at(dir.path(), 600, 10).unwrap();
        let text = |path: &str| std::fs::read_to_string(dir.path().join(path)).unwrap();
        assert_eq!(text("station/cgroup.procs"), "10");
        assert_eq!(text("perception/memory.max"), "600M");
        assert_eq!(text("perception/memory.oom.group"), "1");
        pen.admit(11).unwrap();
        assert_eq!(text("perception/cgroup.procs"), "11");
        std::fs::write(dir.path().join("perception/memory.events"), "low 0\noom 3\noom_kill 2\n").unwrap();
        assert_eq!(pen.oom_kills(), 2);
    }
}
