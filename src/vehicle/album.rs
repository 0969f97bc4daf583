//! Which pictures the camera took that we have not heard of: lost by the radio, or taken while nobody listened. They are
//! asked for again by their number, as MAVLink's camera protocol has it. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use mavlink::dialects::common::{COMMAND_LONG_DATA, MavCmd, MavMessage};
use tokio::time::Instant;

/// CAMERA_CAPTURE_STATUS: how many pictures the camera has taken.
const CAPTURE_STATUS: u32 = 262;
const IMAGE_CAPTURED: u32 = 263;
/// How often the camera is asked for its count: the last picture before a silence shows in nothing else.
const COUNT_EVERY: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_secs(2);
const TRIES: u8 = 5;
/// Asked for at once: a slow radio has other things to carry.
const TOGETHER: usize = 4;
/// A count that jumps by more is another camera's, or another flight's.
const MOST: u32 = 2000;

#[derive(Debug, Default)]
pub(super) struct Album {
    /// Its component.
    camera: Option<u8>,
    /// One beyond the newest picture that is known to exist.
    next: Option<u32>,
    missing: BTreeMap<u32, Wanted>,
    asked: Option<Instant>,
    /// The camera has answered since it was asked for everything.
    counts: bool,
}

#[derive(Debug, Default)]
struct Wanted {
    tries: u8,
    asked: Option<Instant>,
}

impl Album {
    pub fn camera_is(&mut self, component: u8) {
        self.camera = Some(component);
    }

    /// The number of the next picture, if the camera told.
    pub fn next(&self) -> Option<u32> {
        self.next
    }

    /// A report has come; whether the picture succeeded does not matter here.
    pub fn heard(&mut self, index: u32) {
        if self.missing.remove(&index).is_none() && self.next.is_none_or(|next| index >= next) {
            self.exists_up_to(index);
            self.next = Some(index.saturating_add(1));
        }
    }

    /// Pictures that exist and were not heard of; none while the camera has not said how many there are.
    pub fn missing(&self) -> Option<usize> {
        self.counts.then_some(self.missing.len())
    }

    /// The camera's own count. Lower than known: it has been switched on anew.
    pub fn count(&mut self, taken: u32) {
        self.counts = true;
        match self.next {
            Some(next) if taken >= next => self.exists_up_to(taken),
            Some(next) if taken.saturating_add(1) < next => self.missing.clear(),
            // Cameras that number from one count one less than the next.
            Some(_) => return,
            None => {}
        }
        self.next = Some(taken);
    }

    /// Everything from this number on is wanted, heard before or not.
    pub fn recall(&mut self, from: u32) {
        self.missing.clear();
        let next = self.next.unwrap_or(from);
        self.next = Some(from);
        if next > from {
            self.exists_up_to(next);
            self.next = Some(next);
        }
        self.asked = None;
        self.counts = false;
    }

    fn exists_up_to(&mut self, end: u32) {
        let Some(next) = self.next else { return };
        if end.saturating_sub(next) <= MOST {
            self.missing.extend((next..end).map(|index| (index, Wanted::default())));
        }
    }

    /// What to say now. `wanted`: somebody takes the pictures.
    pub fn due(&mut self, now: Instant, system: u8, wanted: bool) -> Vec<MavMessage> {
        let Some(camera) = self.camera else { return Vec::new() };
        let request = |message: u32, index: u32| {
            MavMessage::COMMAND_LONG(COMMAND_LONG_DATA {
                command: MavCmd::MAV_CMD_REQUEST_MESSAGE,
                param1: message as f32,
                param2: index as f32,
                target_system: system,
                target_component: camera,
                ..Default::default()
            })
        };
        let mut said = Vec::new();
        if self.asked.is_none_or(|at| now.duration_since(at) >= COUNT_EVERY) {
            self.asked = Some(now);
            said.push(request(CAPTURE_STATUS, 0));
        }
        if !wanted {
            self.missing.clear();
            return said;
        }
        self.missing.retain(|index, wanted| {
            let given_up = wanted.tries >= TRIES && wanted.asked.is_none_or(|at| now.duration_since(at) >= AGAIN);
            if given_up {
                tracing::warn!(index, "a picture was taken that the camera does not report again");
            }
            !given_up
        });
        let due = |wanted: &Wanted| wanted.asked.is_none_or(|at| now.duration_since(at) >= AGAIN);
        let open = self.missing.iter_mut().map(|(index, wanted)| (*index, wanted));
        for (index, wanted) in open.filter(|(_, wanted)| due(wanted)).take(TOGETHER) {
            wanted.tries += 1;
            wanted.asked = Some(now);
            said.push(request(IMAGE_CAPTURED, index));
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAMERA: u8 = 100;

    fn album() -> Album {
        let mut album = Album::default();
        album.camera_is(CAMERA);
        album
    }

    /// The pictures asked for, and whether the count was.
    fn asked(album: &mut Album, now: Instant) -> (Vec<u32>, bool) {
        let said = album.due(now, 1, true);
        let requests = said.iter().map(|message| match message {
            MavMessage::COMMAND_LONG(c) => {
                assert_eq!((c.command, c.target_component), (MavCmd::MAV_CMD_REQUEST_MESSAGE, CAMERA));
                (c.param1 as u32, c.param2 as u32)
            }
            other => panic!("{other:?}"),
        });
        let (pictures, counts): (Vec<_>, Vec<_>) = requests.partition(|(message, _)| *message == IMAGE_CAPTURED);
        (pictures.into_iter().map(|(_, index)| index).collect(), !counts.is_empty())
    }

    #[test]
    fn a_gap_in_the_numbers_is_asked_for_until_it_is_filled_or_given_up() {
        let (mut album, start) = (album(), Instant::now());
        album.heard(7);
        assert_eq!(asked(&mut album, start), (vec![], true));
        album.heard(10);
        assert_eq!(asked(&mut album, start), (vec![8, 9], false));
        assert_eq!(asked(&mut album, start), (vec![], false), "not twice at once");
        album.heard(9);
        let mut tries = 1;
        for second in 1..60 {
            tries += asked(&mut album, start + Duration::from_secs(second)).0.len();
        }
        assert_eq!(tries, usize::from(TRIES));
    }

    #[test]
    fn the_last_picture_before_a_silence_shows_in_the_cameras_count() {
        let (mut album, now) = (album(), Instant::now());
        album.heard(0);
        album.count(3);
        assert_eq!(asked(&mut album, now).0, [1, 2]);
    }

    #[test]
    fn what_was_taken_before_anybody_listened_is_nobodys() {
        let (mut album, now) = (album(), Instant::now());
        album.count(340);
        assert_eq!(asked(&mut album, now).0, Vec::<u32>::new());
        album.heard(342);
        assert!(album.due(now, 1, false).is_empty(), "outside of a sortie");
        assert_eq!(asked(&mut album, now).0, Vec::<u32>::new());
    }

    #[test]
    fn after_a_restart_all_pictures_since_the_take_off_are_wanted_also_those_heard_meanwhile() {
        let (mut album, now) = (album(), Instant::now());
        album.heard(12);
        album.recall(10);
        assert_eq!(asked(&mut album, now), (vec![10, 11, 12], true));
        // Nothing heard yet: the count tells how many there are.
        let mut album = self::album();
        album.recall(10);
        assert_eq!(asked(&mut album, now), (vec![], true));
        assert_eq!(album.missing(), None);
        album.count(12);
        assert_eq!(asked(&mut album, now).0, [10, 11]);
        album.heard(10);
        assert_eq!(album.missing(), Some(1));
    }

    #[test]
    fn a_camera_that_counts_anew_is_followed_from_there() {
        let (mut album, now) = (album(), Instant::now());
        album.heard(50);
        album.count(2);
        album.heard(3);
        assert_eq!(asked(&mut album, now).0, [2]);
        // Another camera's numbers are no thousand lost pictures.
        album.heard(1_000_000);
        assert_eq!(asked(&mut album, now + AGAIN).0, [2]);
    }
}
