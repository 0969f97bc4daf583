//! What the measures share: the clock of this thread's own processor time, medians, and where the inputs lie.
#![allow(dead_code, reason = "each bench takes what it needs")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Processor time of this thread: what others do on the machine does not count.
pub fn thread_cpu() -> Duration {
    clock(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// Processor time of the whole process.
pub fn process_cpu() -> Duration {
    clock(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock(id: ClockId) -> Duration {
    clock_gettime(id).map(Duration::from).unwrap_or_default()
}

pub fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let before = thread_cpu();
    let done = work();
    (done, (thread_cpu() - before).as_secs_f64() * 1e3)
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A file or folder of the shared test data; named where it is absent.
pub fn data(below: &str) -> Option<PathBuf> {
    let root = std::env::var_os("AERIE_TEST_DATA").map_or_else(|| repository().join("../shared/data"), PathBuf::from);
    there(&root.join(below), "set AERIE_TEST_DATA")
}

/// What `benches/peers/make_models.py` wrote.
pub fn bench_model(name: &str) -> Option<PathBuf> {
    there(&repository().join("target/bench/models").join(name), "run benches/peers/make_models.py")
}

fn there(path: &Path, remedy: &str) -> Option<PathBuf> {
    if path.exists() {
        return Some(path.to_owned());
    }
    println!("skipped: {} is absent ({remedy})", path.display());
    None
}
