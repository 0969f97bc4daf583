//! A short queue of live frames: when it is full the oldest goes, and what has grown too old is not given out.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a reader waits for.
#[derive(Debug, PartialEq)]
pub enum Taken<T> {
    Item(T),
    /// Nothing came within the time given.
    Nothing,
    /// Nothing will come any more.
    Closed,
}

struct Inner<T> {
    items: VecDeque<(Instant, T)>,
    dropped: u64,
    waiting: usize,
    closed: bool,
}

pub struct Newest<T> {
    inner: Mutex<Inner<T>>,
    came: Condvar,
    room: usize,
    oldest: Duration,
}

impl<T> Newest<T> {
    /// Holds `room` items, none of which is given out when it came longer ago than `oldest`.
    pub fn new(room: usize, oldest: Duration) -> Newest<T> {
        let inner = Inner { items: VecDeque::with_capacity(room + 1), dropped: 0, waiting: 0, closed: false };
        Newest { inner: Mutex::new(inner), came: Condvar::new(), room: room.max(1), oldest }
    }

    pub fn put(&self, now: Instant, item: T) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.items.push_back((now, item));
        while inner.items.len() > self.room {
            inner.items.pop_front();
            inner.dropped += 1;
        }
        self.came.notify_one();
    }

    /// The oldest item that is fresh enough, if there is one; what was too old is dropped and counted.
    pub fn try_take(&self, now: Instant) -> Option<T> {
        Self::fresh(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner), now, self.oldest)
    }

    /// As [`try_take`](Self::try_take), but waits.
    pub fn take(&self, patience: Duration) -> Taken<T> {
        let until = Instant::now() + patience;
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now = Instant::now();
            if let Some(item) = Self::fresh(&mut inner, now, self.oldest) {
                return Taken::Item(item);
            }
            if inner.closed {
                return Taken::Closed;
            }
            if now >= until {
                return Taken::Nothing;
            }
            inner.waiting += 1;
            inner = self.came.wait_timeout(inner, until - now).unwrap_or_else(PoisonError::into_inner).0;
            inner.waiting -= 1;
        }
    }

    /// Somebody waits for an item, and none is there. What is costly to make need not be made otherwise.
    pub fn is_awaited(&self) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.waiting > 0 && inner.items.is_empty()
    }

    /// Counts an item that came and was not even made.
    pub fn pass_over(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).dropped += 1;
    }

    fn fresh(inner: &mut Inner<T>, now: Instant, oldest: Duration) -> Option<T> {
        while let Some((came, item)) = inner.items.pop_front() {
            if now.saturating_duration_since(came) <= oldest {
                return Some(item);
            }
            inner.dropped += 1;
        }
        None
    }

    pub fn close(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.came.notify_all();
    }

    /// Items that nobody got.
    pub fn dropped(&self) -> u64 {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_it_is_full_the_oldest_goes_and_is_counted() {
        let (queue, now) = (Newest::new(2, Duration::from_secs(1)), Instant::now());
        for item in 1..=5 {
            queue.put(now, item);
        }
        assert_eq!((queue.try_take(now), queue.try_take(now), queue.try_take(now)), (Some(4), Some(5), None));
        assert_eq!(queue.dropped(), 3);
    }

    #[test]
    fn what_came_more_than_a_second_ago_is_never_given_out() {
        let (queue, start) = (Newest::new(8, Duration::from_secs(1)), Instant::now());
        for item in 0..8u64 {
            queue.put(start + Duration::from_millis(300 * item), item);
        }
        // At 2.5 s those of 0 to 1.2 s are too old.
        assert_eq!(queue.try_take(start + Duration::from_millis(2_500)), Some(5));
        assert_eq!(queue.dropped(), 5);
    }

    #[test]
    fn who_waits_gets_what_comes_and_learns_of_the_end() {
        let queue = std::sync::Arc::new(Newest::new(2, Duration::from_secs(60)));
        assert_eq!(queue.take(Duration::ZERO), Taken::Nothing);
        let writer = std::sync::Arc::clone(&queue);
        let thread = std::thread::spawn(move || {
            writer.put(Instant::now(), 7);
            writer.close();
        });
        assert_eq!(queue.take(Duration::from_secs(30)), Taken::Item(7));
        assert_eq!(queue.take(Duration::from_secs(30)), Taken::Closed);
        thread.join().unwrap();
    }
}
