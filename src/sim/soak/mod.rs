//! Breaking delivery on purpose, and measuring it: real outbox, real uplink, a real mosquitto on the loopback.
//!
//! [`feed`] is a station that is case book, outbox and uplink alone; [`kill`] ends it a thousand times; [`trace`] replays
//! what it wrote and forgets what was not synced; [`proxy`] cuts and delays its connection; [`drain`] and [`accept`]
//! are ratios against the raw library beside it; [`witness`] is the independent subscriber that judges all of them.

pub mod accept;
pub mod drain;
pub mod feed;
pub mod kill;
pub mod proxy;
pub mod trace;
pub mod witness;

use std::path::{Path, PathBuf};

use crate::outbox::OutboxError;
use crate::runtime::store::StoreError;
use crate::sim::broker::{self, BrokerError, Kept};

#[derive(Debug, thiserror::Error)]
pub enum SoakError {
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("cannot {doing} {}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{program} cannot be run; install it with: apt-get install {program}")]
    Missing {
        program: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("{0}")]
    Failed(String),
}

impl SoakError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

/// A mosquitto on a free port of the loopback, with its files in `out`.
pub fn broker(out: &Path) -> Result<(Kept, u16), SoakError> {
    std::fs::create_dir_all(out).map_err(SoakError::io("create", out))?;
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = free.map_err(SoakError::io("find a free port for", out))?.port();
    Ok((broker::mosquitto(out, port)?, port))
}

/// Resident memory of this process, bytes.
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) * 1024
}

/// The value that `share` of the values do not exceed; sorts them.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil().max(1.0) as usize;
    values.get(rank - 1).copied().unwrap_or(f64::NAN)
}
