//! A live source that is read without end: the newest frames, whatever becomes of the camera.
//!
//! Invariants kept here:
//! - nobody waits for the camera longer than it takes to notice its silence, and nobody gets a frame older than half a second;
//! - what is not taken in time is dropped, the oldest first, and counted;
//! - a reader that hangs in a driver is left behind; when several have, no more are started until one comes back.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::newest::{Newest, Taken};
use super::vigil::{Action, Limits, Vigil};
use super::{Frame, Source, SourceError};

/// How often silence is looked for.
const TICK: Duration = Duration::from_millis(100);
/// Frames that wait for work. Only what is waited for is made a picture of (of a 4K frame that is 25 MB): what comes while everybody
/// is at work stays with the decoder and is counted as dropped.
const ROOM: usize = 1;
/// With the time a look takes, no frame is told of more than a second after it came.
const OLDEST: Duration = Duration::from_millis(500);
/// Readers that may hang at once.
const LEFT_BEHIND: usize = 3;

/// Opens the source, again and again.
pub type Opener = dyn Fn() -> Result<Box<dyn Source>, SourceError> + Send + Sync;

#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct FeedState {
    pub flows: bool,
    /// Frames the camera gave, and those of them that nobody took in time.
    pub frames: u64,
    pub dropped: u64,
    pub opened: u64,
    pub stalls: u64,
    pub last_error: Option<String>,
}

/// The reading end. Dropping it ends the threads, but for one that hangs in a driver.
pub struct Feed {
    queue: Arc<Newest<Frame>>,
    state: Arc<Mutex<FeedState>>,
    generation: Arc<AtomicU64>,
}

/// The generation that no reader has: everybody is to end.
const OVER: u64 = u64::MAX;

enum Event {
    Frame,
    Opened,
    Failed(String),
}

impl Feed {
    /// Frames nearer in time than `least_gap` to the one before are not even decoded into pictures.
    pub fn start(opener: Arc<Opener>, least_gap: Duration, limits: Limits) -> Feed {
        let feed = Feed {
            queue: Arc::new(Newest::new(ROOM, OLDEST)),
            state: Arc::new(Mutex::new(FeedState::default())),
            generation: Arc::new(AtomicU64::new(0)),
        };
        // Readers tell of every frame; when the keeper is behind, one less makes no difference.
        let (events, inbox) = mpsc::sync_channel(64);
        let keeper = Keeper {
            opener,
            least_gap,
            queue: Arc::clone(&feed.queue),
            state: Arc::clone(&feed.state),
            generation: Arc::clone(&feed.generation),
            alive: Arc::new(AtomicUsize::new(0)),
            events,
        };
        std::thread::spawn(move || keeper.run(&inbox, limits));
        feed
    }

    /// The next frame, or [`Taken::Nothing`] after `patience`.
    pub fn take(&self, patience: Duration) -> Taken<Frame> {
        self.queue.take(patience)
    }

    pub fn state(&self) -> FeedState {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        state.dropped = self.queue.dropped();
        state
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.generation.store(OVER, Ordering::Relaxed);
        self.queue.close();
    }
}

struct Keeper {
    opener: Arc<Opener>,
    least_gap: Duration,
    queue: Arc<Newest<Frame>>,
    state: Arc<Mutex<FeedState>>,
    /// Of the reader whose frames count.
    generation: Arc<AtomicU64>,
    alive: Arc<AtomicUsize>,
    events: SyncSender<(u64, Event)>,
}

impl Keeper {
    fn run(self, inbox: &mpsc::Receiver<(u64, Event)>, limits: Limits) {
        let started = Instant::now();
        let mut vigil = Vigil::begin(Duration::ZERO, limits);
        let mut current = 0;
        while self.generation.load(Ordering::Relaxed) != OVER {
            match inbox.recv_timeout(TICK.min(limits.stalled / 4)) {
                Ok((generation, event)) if generation == current => match event {
                    Event::Frame => {
                        vigil.frame(started.elapsed());
                        self.tell(|s| s.flows = true);
                    }
                    Event::Opened => self.tell(|s| s.opened += 1),
                    Event::Failed(reason) => {
                        tracing::warn!(reason, "the source failed; it is opened again");
                        vigil.failed(started.elapsed());
                        self.tell(|s| (s.flows, s.last_error) = (false, Some(reason)));
                    }
                },
                // Of a reader that was left behind.
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            match vigil.tick(started.elapsed()) {
                Action::Wait => {}
                Action::Open if self.alive.load(Ordering::Relaxed) > LEFT_BEHIND => {
                    vigil.failed(started.elapsed());
                    self.tell(|s| s.last_error = Some("the driver hangs: no reader comes back".to_owned()));
                }
                Action::Open => {
                    current += 1;
                    // Unless the end came in between.
                    let before = self.generation.fetch_max(current, Ordering::Relaxed);
                    if before != OVER {
                        self.start_reader(current);
                    }
                }
                Action::Abandon => {
                    tracing::warn!("the source is silent; it is opened again");
                    current += 1;
                    self.generation.fetch_max(current, Ordering::Relaxed);
                    self.tell(|s| {
                        s.flows = false;
                        s.stalls += 1;
                        s.last_error = Some("the source fell silent".to_owned());
                    });
                }
            }
        }
    }

    fn tell(&self, change: impl FnOnce(&mut FeedState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn start_reader(&self, own: u64) {
        let (opener, queue, state) = (Arc::clone(&self.opener), Arc::clone(&self.queue), Arc::clone(&self.state));
        let (generation, alive) = (Arc::clone(&self.generation), Arc::clone(&self.alive));
        let (events, least_gap) = (self.events.clone(), self.least_gap);
        alive.fetch_add(1, Ordering::Relaxed);
        std::thread::spawn(move || {
            let wanted = || generation.load(Ordering::Relaxed) == own;
            let read = || -> Result<(), SourceError> {
                let mut source = opener()?;
                let _ = events.try_send((own, Event::Opened));
                let mut last: Option<Instant> = None;
                while wanted() {
                    if source.advance()?.is_none() {
                        return Err(SourceError::Ended { name: "the source".to_owned() });
                    }
                    let now = Instant::now();
                    let _ = events.try_send((own, Event::Frame));
                    if !wanted() || last.is_some_and(|last| now - last < least_gap) {
                        continue;
                    }
                    state.lock().unwrap_or_else(PoisonError::into_inner).frames += 1;
                    if !queue.is_awaited() {
                        queue.pass_over();
                        continue;
                    }
                    last = Some(now);
                    queue.put(now, source.frame()?);
                }
                Ok(())
            };
            let outcome = read();
            alive.fetch_sub(1, Ordering::Relaxed);
            if let Err(error) = outcome {
                // The keeper may be gone, or may have given us up.
                let _ = events.send((own, Event::Failed(error.to_string())));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;

    use super::super::Stamp;
    use super::*;
    use crate::perception::decode::Picture;

    /// Gives a frame for every word from the test, and hangs in between.
    struct Told {
        words: Arc<Mutex<Receiver<&'static str>>>,
        next: u64,
        unmade: bool,
    }

    impl Source for Told {
        fn advance(&mut self) -> Result<Option<Stamp>, SourceError> {
            let word = self.words.lock().unwrap().recv().unwrap_or("end");
            self.next += 1;
            self.unmade = word == "unmade";
            match word {
                "frame" | "unmade" => Ok(Some(Stamp { index: self.next, at_s: 0.0 })),
                _ => Err(SourceError::Ended { name: word.to_owned() }),
            }
        }

        fn frame(&mut self) -> Result<Frame, SourceError> {
            assert!(!self.unmade, "a picture that nobody waits for");
            let picture = Picture::from_rgb(&image::RgbImage::new(4, 4)).unwrap();
            Ok(Frame {
                stamp: Stamp { index: self.next, at_s: 0.0 },
                picture,
                view: None,
                file: None,
                came: Instant::now(),
            })
        }
    }

    /// A camera whose every connection has its own wire.
    fn camera() -> (Arc<Opener>, Receiver<SyncSender<&'static str>>) {
        let (wires, connections) = mpsc::sync_channel(8);
        let opener = move || -> Result<Box<dyn Source>, SourceError> {
            let (wire, words) = mpsc::sync_channel(64);
            wires.send(wire).unwrap();
            Ok(Box::new(Told { words: Arc::new(Mutex::new(words)), next: 0, unmade: false }))
        };
        (Arc::new(opener), connections)
    }

    fn quick() -> Limits {
        let ms = Duration::from_millis;
        Limits {
            stalled: ms(40),
            opening: ms(5_000),
            first_pause: ms(5),
            longest_pause: ms(20),
            well_again: ms(60_000),
        }
    }

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Which frame of a wire somebody gets who waits before it is sent.
    fn taken_of(feed: &Feed, wire: &SyncSender<&'static str>) -> u64 {
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| feed.take(PATIENCE));
            while !feed.queue.is_awaited() {
                std::thread::yield_now();
            }
            wire.send("frame").unwrap();
            match taken.join().unwrap() {
                Taken::Item(frame) => frame.stamp.index,
                other => panic!("no frame came: {}", matches!(other, Taken::Closed)),
            }
        })
    }

    #[test]
    fn a_frame_that_nobody_waits_for_is_counted_and_no_picture_is_made_of_it() {
        let (opener, connections) = camera();
        let feed = Feed::start(opener, Duration::ZERO, Limits { stalled: PATIENCE, ..quick() });
        let wire = connections.recv_timeout(PATIENCE).unwrap();
        wire.send("unmade").unwrap();
        wire.send("unmade").unwrap();
        while feed.state().frames < 2 {
            std::thread::yield_now();
        }
        assert_eq!(taken_of(&feed, &wire), 3);
        let state = feed.state();
        assert_eq!((state.frames, state.dropped, state.last_error), (3, 2, None));
    }

    #[test]
    fn a_camera_that_hangs_is_left_and_opened_again_and_its_late_frames_count_for_nothing() {
        let (opener, connections) = camera();
        let feed = Feed::start(opener, Duration::ZERO, quick());
        let first = connections.recv_timeout(PATIENCE).unwrap();
        assert_eq!(taken_of(&feed, &first), 1);
        // Silence. A second connection is made without anybody's doing.
        let second = connections.recv_timeout(PATIENCE).unwrap();
        assert!(feed.state().stalls >= 1 && !feed.state().flows);
        // The first one wakes up: it is not ours any more.
        first.send("frame").unwrap();
        assert_eq!(taken_of(&feed, &second), 1);
        assert_eq!(feed.state().frames, 2, "the late frame was not even made a picture of");
    }

    #[test]
    fn a_camera_that_drops_the_line_is_opened_again_and_the_reason_is_told() {
        let (opener, connections) = camera();
        let feed = Feed::start(opener, Duration::ZERO, Limits { stalled: PATIENCE, ..quick() });
        connections.recv_timeout(PATIENCE).unwrap().send("connection reset").unwrap();
        let again = connections.recv_timeout(PATIENCE).unwrap();
        assert_eq!(taken_of(&feed, &again), 1);
        let state = feed.state();
        assert_eq!((state.stalls, state.last_error.as_deref()), (0, Some("connection reset ended")));
    }

    #[test]
    fn a_driver_that_never_comes_back_is_not_fed_with_ever_more_threads() {
        let (opener, connections) = camera();
        let feed = Feed::start(opener, Duration::ZERO, quick());
        let mut wires = Vec::new();
        for _ in 0..=LEFT_BEHIND {
            let wire = connections.recv_timeout(PATIENCE).unwrap();
            wire.send("frame").unwrap();
            wires.push(wire);
        }
        while feed.state().last_error.is_none_or(|e| !e.contains("hangs")) {
            std::thread::yield_now();
        }
        assert!(connections.try_recv().is_err(), "one reader more than may hang");
        wires[0].send("end").unwrap();
        connections.recv_timeout(PATIENCE).expect("one came back, so there is room for another");
    }
}
