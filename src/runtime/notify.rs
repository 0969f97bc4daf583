//! What systemd hears: ready, how things stand, alive, stopping. *Alive* is said only while every vital part answers.
//!
//! Each part is asked by a task of its own, so that one that hangs holds up no other question; a part that has not
//! answered within its limit is late, and while one is late the watchdog is not petted. systemd then ends and restarts
//! the station, which takes up a flight under way. Without systemd all of this is silent.

use std::future::Future;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

/// How often a part is asked, and the longest pause between two words to systemd.
const EVERY: Duration = Duration::from_secs(5);

/// The way to systemd, where there is one.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// By the variables that systemd sets. A socket that cannot be had is said once; the station runs all the same.
    pub fn from_env() -> Notifier {
        let text = |name| std::env::var(name).ok();
        let Some(path) = text("NOTIFY_SOCKET") else { return Notifier::default() };
        match connect(&path) {
            Ok(socket) => {
                let ours = text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
                let micros = text("WATCHDOG_USEC").filter(|_| ours).and_then(|text| text.parse().ok());
                Notifier { socket: Some(socket), watchdog: micros.map(Duration::from_micros) }
            }
            Err(error) => {
                tracing::warn!(%error, path, "systemd cannot be told how the station is");
                Notifier::default()
            }
        }
    }

    fn say(&self, words: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(words.as_bytes())
        {
            tracing::debug!(%error, "systemd did not take a word");
        }
    }

    /// A third of the watchdog's time: one word may be lost.
    fn every(&self) -> Duration {
        self.watchdog.map_or(EVERY, |limit| (limit / 3).clamp(Duration::from_millis(10), EVERY))
    }
}

fn connect(path: &str) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match path.strip_prefix('@') {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(path)?,
    }
    // The station never waits for whoever listens to it.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A part that has not answered in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    pub part: &'static str,
    pub silent: Duration,
}

struct Part {
    name: &'static str,
    limit: Duration,
    answered: watch::Receiver<Instant>,
}

/// When each vital part last answered.
#[derive(Default)]
pub struct Pulse {
    parts: Vec<Part>,
}

impl Pulse {
    /// Asks a part from now on. `probe` ends with whether the part is well; one that never ends is an answer too.
    pub fn watch<F, Fut>(&mut self, name: &'static str, limit: Duration, probe: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send,
    {
        let (said, answered) = watch::channel(Instant::now());
        self.parts.push(Part { name, limit, answered });
        tokio::spawn(async move {
            // Ends with the pulse itself, even while a probe hangs.
            let asking = async {
                loop {
                    if probe().await {
                        said.send_replace(Instant::now());
                    }
                    sleep(EVERY).await;
                }
            };
            tokio::select! {
                () = asking => {}
                () = said.closed() => {}
            }
        });
    }

    /// Who is late now; nobody, and the station is alive.
    pub fn late(&self) -> Vec<Late> {
        let silent = |part: &Part| part.answered.borrow().elapsed();
        let late = self.parts.iter().filter(|part| silent(part) > part.limit);
        late.map(|part| Late { part: part.name, silent: silent(part) }).collect()
    }
}

/// Says that the station is ready, then how it is, until it stops.
pub async fn keep(notifier: Notifier, pulse: Pulse, status: impl Fn() -> String, cancel: CancellationToken) {
    let mut said = status();
    notifier.say(&format!("READY=1\nSTATUS={}", line(&said)));
    let mut tick = interval(notifier.every());
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known: Vec<&'static str> = Vec::new();
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            _ = tick.tick() => {}
        }
        let late = pulse.late();
        let names: Vec<&'static str> = late.iter().map(|late| late.part).collect();
        if names != known {
            match late.is_empty() {
                true => tracing::info!("every vital part answers again"),
                false => tracing::error!(?late, "vital parts do not answer; the watchdog is not petted until they do"),
            }
            known = names;
        }
        let now = if known.is_empty() { status() } else { format!("not answering: {}", known.join(", ")) };
        if now != said {
            notifier.say(&format!("STATUS={}", line(&now)));
            said = now;
        }
        if known.is_empty() {
            notifier.say("WATCHDOG=1");
        }
    }
    notifier.say("STOPPING=1\nSTATUS=stopping");
}

/// A line end would begin another variable.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_part_that_answers_is_never_late_and_one_that_hangs_is_named_alone() {
        let mut pulse = Pulse::default();
        let hang = Arc::new(AtomicBool::new(false));
        pulse.watch("database", LIMIT, || async { true });
        let hangs = Arc::clone(&hang);
        pulse.watch("keeper", LIMIT, move || {
            let hangs = Arc::clone(&hangs);
            async move {
                if hangs.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                true
            }
        });
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(pulse.late(), []);
        hang.store(true, Ordering::SeqCst);
        sleep(LIMIT + EVERY + Duration::from_secs(1)).await;
        let late: Vec<_> = pulse.late().into_iter().map(|late| late.part).collect();
        assert_eq!(late, ["keeper"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_answers_that_it_is_unwell_is_late_and_is_forgiven_when_well_again() {
        let mut pulse = Pulse::default();
        let well = Arc::new(AtomicBool::new(false));
        let is = Arc::clone(&well);
        pulse.watch("dispatcher", LIMIT, move || std::future::ready(is.load(Ordering::SeqCst)));
        sleep(LIMIT).await;
        assert_eq!(pulse.late(), []);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(pulse.late().len(), 1);
        well.store(true, Ordering::SeqCst);
        sleep(EVERY * 2).await;
        assert_eq!(pulse.late(), []);
    }

    fn listener() -> (tempfile::TempDir, UnixDatagram, Notifier) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let ear = UnixDatagram::bind(&path).unwrap();
        ear.set_nonblocking(true).unwrap();
        let socket = Some(connect(path.to_str().unwrap()).unwrap());
        (dir, ear, Notifier { socket, watchdog: Some(Duration::from_secs(15)) })
    }

    fn heard(ear: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 1000];
        let mut all = Vec::new();
        while let Ok(length) = ear.recv(&mut buffer) {
            all.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        all
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_petted_while_all_is_well_and_not_once_a_part_is_late() {
        let (_dir, ear, notifier) = listener();
        let mut pulse = Pulse::default();
        let well = Arc::new(AtomicBool::new(true));
        let is = Arc::clone(&well);
        pulse.watch("outbox", LIMIT, move || std::future::ready(is.load(Ordering::SeqCst)));
        let cancel = CancellationToken::new();
        let kept = tokio::spawn(keep(notifier, pulse, || "a\nb".to_owned(), cancel.clone()));
        // The kernel keeps ten words that nobody has read, and the station does not wait for a reader.
        let mut words = Vec::new();
        for _ in 0..12 {
            sleep(EVERY).await;
            words.extend(heard(&ear));
        }
        assert_eq!(words[0], "READY=1\nSTATUS=a b");
        assert!(words.iter().filter(|w| *w == "WATCHDOG=1").count() >= 12, "{words:?}");

        well.store(false, Ordering::SeqCst);
        sleep(LIMIT + EVERY * 2).await;
        heard(&ear);
        sleep(Duration::from_secs(600)).await;
        assert_eq!(heard(&ear), [] as [&str; 0], "not a word more: systemd acts");

        cancel.cancel();
        kept.await.unwrap();
        assert_eq!(heard(&ear), ["STOPPING=1\nSTATUS=stopping"]);
    }
}
