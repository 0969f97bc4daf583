//! A campaign: many short sorties of real `aerie run` processes on simulated hardware, with faults drawn at random, judged
//! by what the simulator saw and never by the station's own words.
//!
//! [`super::faults`] draws and [`judge`] judges, both pure; [`sortie`] flies one; [`table`] says how it went.

pub mod judge;
mod sortie;
mod table;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::broker::{self, BrokerError};
use super::site::{self, SiteError};
use judge::Rules;
pub use sortie::Flown;

#[derive(Debug, thiserror::Error)]
pub enum CampaignError {
    #[error("cannot write {path}: {source}; name another folder with --out")]
    Write { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Site(#[from] SiteError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("sortie {number}: the station cannot be run: {source}")]
    Station { number: u32, source: std::io::Error },
    #[error("sortie {number}: the station was not ready within {limit:?}; its log: {log}")]
    NotReady { number: u32, limit: Duration, log: PathBuf },
    #[error("--only {0}: the campaign has no such sortie")]
    NoSuchSortie(u32),
}

#[derive(Debug, Clone)]
pub struct Options {
    /// The aerie binary itself.
    pub program: PathBuf,
    pub out: PathBuf,
    pub sorties: u32,
    pub seed: u64,
    /// Simulated seconds a second.
    pub speed: f64,
    /// Stations that fly at the same time.
    pub parallel: usize,
    /// Fly this one alone.
    pub only: Option<u32>,
    /// A model in place of the one that comes with aerie.
    pub model: Option<PathBuf>,
}

/// How a campaign went.
#[derive(Debug, Serialize)]
pub struct Campaign {
    pub seed: u64,
    pub speed: f64,
    pub parallel: usize,
    pub wall_s: f64,
    pub rules: Rules,
    /// Faults that could not be thrown on this machine, and why.
    pub left_out: Vec<String>,
    pub flown: Vec<Flown>,
    /// Sorties that could not be flown at all: the campaign's failure, not the station's.
    pub failed: Vec<String>,
}

impl Campaign {
    pub fn unsafe_count(&self) -> usize {
        self.flown.iter().map(|f| f.verdict.faults.len()).sum()
    }

    pub fn markdown(&self) -> String {
        table::markdown(self)
    }
}

/// Flies the campaign; `told` hears of each sortie as it ends.
pub async fn fly(options: Options, told: impl Fn(&Flown)) -> Result<Campaign, CampaignError> {
    let began = Instant::now();
    let write = |path: PathBuf| move |source| CampaignError::Write { path, source };
    std::fs::create_dir_all(&options.out).map_err(write(options.out.clone()))?;
    let out = options.out.canonicalize().map_err(write(options.out.clone()))?;
    let broker_port = site::free_tcp_port(0).map_err(SiteError::from)?;
    let _broker = broker::mosquitto(&out, broker_port)?;
    let faketime = sortie::faketime();
    let left_out = match &faketime {
        Some(_) => Vec::new(),
        None => vec!["clock steps: libfaketime is not installed (apt-get install libfaketime)".to_owned()],
    };
    let numbers: Vec<u32> = match options.only {
        Some(only) if (1..=options.sorties).contains(&only) => vec![only],
        Some(only) => return Err(CampaignError::NoSuchSortie(only)),
        None => (1..=options.sorties).collect(),
    };
    let setup = Arc::new(sortie::Setup { options: Options { out, ..options.clone() }, broker_port, faketime });
    let turns = Arc::new(Semaphore::new(options.parallel.max(1)));
    let mut flying = JoinSet::new();
    for number in numbers {
        let (setup, turns) = (Arc::clone(&setup), Arc::clone(&turns));
        flying.spawn(async move {
            // Never closed.
            let _turn = turns.acquire().await;
            sortie::fly(&setup, number).await
        });
    }
    let (mut flown, mut failed) = (Vec::new(), Vec::new());
    while let Some(ended) = flying.join_next().await {
        match ended {
            Ok(Ok(sortie)) => {
                told(&sortie);
                flown.push(sortie);
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "a sortie of the campaign failed");
                failed.push(error.to_string());
            }
            Err(error) => failed.push(error.to_string()),
        }
    }
    flown.sort_by_key(|f| f.number);
    let wall_s = began.elapsed().as_secs_f64();
    let (seed, speed, parallel) = (options.seed, options.speed, options.parallel);
    Ok(Campaign { seed, speed, parallel, wall_s, rules: Rules::at_speed(speed), left_out, flown, failed })
}
