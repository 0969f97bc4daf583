//! A real `mosquitto` on a free port, and an independent `mosquitto_sub` that writes down what arrives.
//!
//! Both keep their state on disk, and both are started again when they end: who kills the broker sees it come back.

#![expect(clippy::disallowed_methods, reason = "its threads are its own; no runtime waits for them")]

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a broker that was killed stays away.
const AWAY: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("{program} cannot be started: {source}; install it with: apt-get install mosquitto mosquitto-clients")]
    Missing { program: &'static str, source: std::io::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("mosquitto does not answer on port {0}; see mosquitto.log in the demo's folder")]
    Silent(u16),
}

/// A process that is started again when it ends; killed when dropped.
pub struct Kept {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // It only sleeps and waits; a panic in it has nothing to tell any more.
            let _ = thread.join();
        }
    }
}

/// Starts mosquitto on `port` of the loopback, with everything it keeps in `out`.
pub fn mosquitto(out: &Path, port: u16) -> Result<Kept, BrokerError> {
    let out = out.canonicalize().unwrap_or_else(|_| out.to_owned());
    let config = out.join("mosquitto.conf");
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {dir}/\n\
         persistence_file mosquitto.db\nautosave_interval 1\nautosave_on_changes true\nmax_queued_messages 0\nmax_inflight_messages 0\n\
         log_dest file {dir}/mosquitto.log\nuser root\n",
        dir = out.display()
    );
    fs::write(&config, text).map_err(|source| BrokerError::Write { path: config.clone(), source })?;
    let start = move || {
        Command::new(program())
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    };
    let first = start().map_err(|source| BrokerError::Missing { program: "mosquitto", source })?;
    // Somebody else may have started it again on the same port: then that one is used.
    let kept = keep(first, AWAY, move || if answers(port) { None } else { start().ok() });
    let until = Instant::now() + Duration::from_secs(10);
    while !answers(port) {
        if Instant::now() > until {
            return Err(BrokerError::Silent(port));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(kept)
}

/// Writes every case, sortie and loss event of `station` to `received.ndjson` in `out`, over a persistent session.
pub fn subscriber(out: &Path, host: &str, port: u16, station: &str) -> Result<Kept, BrokerError> {
    let file = out.join("received.ndjson");
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&file)
        .map_err(|source| BrokerError::Write { path: file, source })?;
    let (host, station) = (host.to_owned(), station.to_owned());
    let start = move || {
        let mut command = Command::new("mosquitto_sub");
        command.args([
            "-V",
            "mqttv5",
            "-h",
            &host,
            "-p",
            &port.to_string(),
            "-q",
            "1",
            "-c",
            "-i",
            "aerie-demo-witness",
        ]);
        command.args(["-x", "86400", "-F", "%J"]);
        for topic in ["case/#", "sortie/#", "loss", "status"] {
            command.args(["-t", &format!("aerie/v1/{station}/{topic}")]);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(Stdio::null()).spawn()
    };
    let first = start().map_err(|source| BrokerError::Missing { program: "mosquitto_sub", source })?;
    Ok(keep(first, Duration::from_secs(1), move || start().ok()))
}

/// Debian puts mosquitto where only root's path looks.
fn program() -> &'static str {
    if Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" }
}

fn answers(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn keep(first: Child, away: Duration, again: impl Fn() -> Option<Child> + Send + 'static) -> Kept {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        let mut child = Some(first);
        let mut ended: Option<Instant> = None;
        while !stopped.load(Ordering::SeqCst) {
            if let Some(running) = &mut child {
                if !matches!(running.try_wait(), Ok(None)) {
                    child = None;
                    ended = Some(Instant::now());
                }
            } else if ended.is_some_and(|at| at.elapsed() > away) {
                child = again();
                ended = Some(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        if let Some(mut running) = child {
            let _ = running.kill();
            let _ = running.wait();
        }
    });
    Kept { stop, thread: Some(thread) }
}
