//! News as they come, as Server-Sent Events.
//!
//! One hub looks at the station twice a second and tells all readers the same words. A reader has a short queue; one
//! that does not take from it in time is dropped, and comes back by itself to read everything anew. Of statuses only
//! the newest counts, so that a slow line skips old ones instead of queueing them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use futures_core::Stream;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::answer::No;
use super::problems;
use super::snapshot::Snapshot;
use super::track::Track;
use super::view::{self, Deliveries};
use crate::patrol::{Sortie, State};
use crate::runtime::latest;
use crate::station::Station;

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Something is said at least so often, so that silence means that the line is dead.
const SPEAK_EVERY: Duration = Duration::from_secs(2);
/// Pages open at once. A station has a handful of operators; this keeps a mistake from using up all sockets.
const READERS: usize = 32;
/// News that a reader may lag behind before it is dropped.
const NEWS: usize = 256;
/// Cases told in one look: a whole backlog that is delivered at once is told over several.
const CASES_AT_ONCE: usize = 64;
/// Events between the pump and the socket; the socket's own buffers come on top.
const QUEUE: usize = 16;
/// A reader that takes nothing for so long is dropped.
const PATIENCE: Duration = Duration::from_secs(10);
/// Rows of the outbox that are read to say which cases were delivered.
pub const ROWS: usize = 2000;

#[derive(Debug, Clone)]
struct News {
    event: &'static str,
    data: Arc<str>,
}

pub struct Hub {
    status: watch::Sender<Arc<str>>,
    news: broadcast::Sender<News>,
    readers: Arc<Semaphore>,
    track: Mutex<Track>,
    cancel: CancellationToken,
}

impl Hub {
    pub fn new(first_status: &Value, cancel: CancellationToken) -> Arc<Hub> {
        Arc::new(Hub {
            status: watch::Sender::new(Arc::from(first_status.to_string())),
            news: broadcast::Sender::new(NEWS),
            readers: Arc::new(Semaphore::new(READERS)),
            track: Mutex::new(Track::default()),
            cancel,
        })
    }

    pub fn track(&self) -> Value {
        self.lock_track().geojson()
    }

    fn lock_track(&self) -> std::sync::MutexGuard<'_, Track> {
        // The track is whole between any two of its operations.
        self.track.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn tell_status(&self, status: &Value) {
        self.status.send_replace(Arc::from(status.to_string()));
    }

    fn tell(&self, event: &'static str, data: &Value) {
        // Nobody listens while no page is open.
        let _ = self.news.send(News { event, data: Arc::from(data.to_string()) });
    }

    /// A new reader: the status at once, then whatever comes.
    pub fn stream(&self) -> Result<Sse<Events>, No> {
        let place = Arc::clone(&self.readers).try_acquire_owned().map_err(|_| {
            let reason = format!("{READERS} pages are open, which is the limit");
            No::new(StatusCode::SERVICE_UNAVAILABLE, "readers", reason).remedy("close one of them")
        })?;
        let (out, events) = mpsc::channel(QUEUE);
        let mut status = self.status.subscribe();
        status.mark_changed();
        tokio::spawn(pump(place, status, self.news.subscribe(), out, self.cancel.clone()));
        Ok(Sse::new(Events(events)))
    }
}

/// Moves news to one reader until it hangs up, lags, or the console ends.
async fn pump(
    place: OwnedSemaphorePermit,
    mut status: watch::Receiver<Arc<str>>,
    mut news: broadcast::Receiver<News>,
    out: mpsc::Sender<Event>,
    cancel: CancellationToken,
) {
    loop {
        let event = tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            () = out.closed() => break,
            one = news.recv() => match one {
                Ok(News { event, data }) => Event::default().event(event).data(&*data),
                Err(_) => break,
            },
            changed = status.changed() => match changed {
                Ok(()) => Event::default().event("status").data(&**status.borrow_and_update()),
                Err(_) => break,
            },
        };
        match timeout(PATIENCE, out.send(event)).await {
            Ok(Ok(())) => {}
            _ => break,
        }
    }
    drop(place);
}

/// The reader's end.
pub struct Events(mpsc::Receiver<Event>);

impl Stream for Events {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|event| event.map(Ok))
    }
}

/// Looks at the station twice a second, until cancelled.
pub async fn watch(station: Station, hub: Arc<Hub>) {
    let cancel = hub.cancel.clone();
    let mut watcher = Watcher::new(station, hub).await;
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = tick.tick() => watcher.look().await,
        }
    }
}

struct Watcher {
    hub: Arc<Hub>,
    said: Value,
    spoke: Instant,
    sortie: Option<(String, State)>,
    preview: watch::Receiver<Option<crate::perception::supervise::Preview>>,
    cases: CaseNews,
    station: Station,
}

impl Watcher {
    async fn new(station: Station, hub: Arc<Hub>) -> Watcher {
        let mut cases = CaseNews::default();
        // What is known already is no news.
        cases.news(&station, usize::MAX).await;
        Watcher {
            hub,
            said: Value::Null,
            spoke: Instant::now(),
            sortie: latest(&station.dispatcher.current()).as_ref().map(step_of),
            preview: station.perception.preview(),
            cases,
            station,
        }
    }

    async fn look(&mut self) {
        let now = Snapshot::take(&self.station);
        self.hub.lock_track().note(now.sortie.as_ref(), &now.vehicle);
        let status = view::status(&now, &problems::of(&now));
        let worth = view::worth_telling(&status);
        if worth != self.said || self.spoke.elapsed() >= SPEAK_EVERY {
            self.hub.tell_status(&status);
            self.said = worth;
            self.spoke = Instant::now();
        }
        let step = now.sortie.as_ref().map(step_of);
        if step != self.sortie {
            self.sortie = step;
            if let Some(sortie) = &now.sortie {
                self.hub.tell("sortie", &view::sortie(sortie));
            }
        }
        let preview =
            if self.preview.has_changed().unwrap_or(false) { self.preview.borrow_and_update().clone() } else { None };
        if let Some(preview) = preview {
            let words = json!({"taken_at": preview.taken_at, "file": preview.frame.to_string()});
            self.hub.tell("frame", &words);
        }
        for case in self.cases.news(&self.station, CASES_AT_ONCE).await {
            self.hub.tell("case", &case);
        }
    }
}

fn step_of(sortie: &Sortie) -> (String, State) {
    (sortie.id.clone(), sortie.state)
}

/// Which cases have changed since they were last told.
#[derive(Default)]
struct CaseNews {
    /// Of each case: the newest event, and whether it was delivered.
    told: HashMap<String, (u64, bool)>,
    outbox: Option<crate::outbox::Stats>,
    rest: bool,
}

impl CaseNews {
    async fn news(&mut self, station: &Station, limit: usize) -> Vec<Value> {
        let cases = latest(&station.keeper.cases());
        let stats = latest(&station.outbox.stats());
        let grown = cases.len() != self.told.len()
            || cases.iter().any(|case| self.told.get(&case.id).is_none_or(|told| told.0 != case.sequence));
        let owed = self.told.values().any(|told| !told.1) && self.outbox.as_ref() != Some(&stats);
        if !grown && !owed && !self.rest {
            return Vec::new();
        }
        let deliveries = match station.outbox.list(ROWS).await {
            Ok(rows) => Deliveries::new(rows, &stats),
            Err(error) => {
                tracing::warn!(%error, "which cases were delivered cannot be told now");
                return Vec::new();
            }
        };
        self.outbox = Some(stats);
        self.rest = false;
        let config = &station.checked.config;
        let (kinds, division) = (config.cases.kinds(), &config.station.division);
        let mut news = Vec::new();
        for case in cases.iter() {
            let now = (case.sequence, deliveries.has(case));
            if self.told.get(&case.id) == Some(&now) {
                continue;
            }
            if news.len() == limit {
                self.rest = true;
                break;
            }
            self.told.insert(case.id.clone(), now);
            news.push(view::case(case, &kinds, division, now.1));
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub() -> Arc<Hub> {
        Hub::new(&json!({"n": 0}), CancellationToken::new())
    }

    async fn read(hub: &Hub) -> (mpsc::Receiver<Event>, tokio::task::JoinHandle<()>) {
        let place = Arc::clone(&hub.readers).acquire_owned().await.unwrap();
        let (out, events) = mpsc::channel(QUEUE);
        let mut status = hub.status.subscribe();
        status.mark_changed();
        (events, tokio::spawn(pump(place, status, hub.news.subscribe(), out, hub.cancel.clone())))
    }

    fn words(event: Event) -> String {
        format!("{event:?}")
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_gets_the_status_at_once_and_then_what_comes() {
        let hub = hub();
        let (mut events, _pump) = read(&hub).await;
        assert!(words(events.recv().await.unwrap()).contains("status"));
        hub.tell("case", &json!({"id": "c"}));
        assert!(words(events.recv().await.unwrap()).contains("case"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_dropped_and_gives_its_place_back() {
        let hub = hub();
        let (mut events, pump) = read(&hub).await;
        for n in 0..100 {
            hub.tell("case", &json!({"n": n}));
        }
        // It takes nothing: after its patience it is gone, with no more than its queue held for it.
        timeout(PATIENCE * 3, pump).await.expect("the pump ends").unwrap();
        let mut held = 0;
        while events.recv().await.is_some() {
            held += 1;
        }
        assert_eq!(held, QUEUE);
        assert_eq!(hub.readers.available_permits(), READERS);
    }

    #[tokio::test(start_paused = true)]
    async fn one_reader_more_than_there_are_places_is_told_so() {
        let hub = hub();
        let all: Vec<_> = (0..READERS).map(|_| hub.stream().unwrap()).collect();
        assert_eq!(hub.stream().unwrap_err().status, StatusCode::SERVICE_UNAVAILABLE);
        drop(all);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(hub.stream().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn readers_are_let_go_when_the_console_ends() {
        let hub = hub();
        let (_events, pump) = read(&hub).await;
        hub.cancel.cancel();
        timeout(Duration::from_secs(1), pump).await.expect("the pump ends").unwrap();
    }
}
