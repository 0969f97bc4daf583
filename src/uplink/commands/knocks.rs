//! What is said in the log of those who were not let in: enough to find the sender's mistake, and never more than a few lines a
//! minute, whoever knocks and however often.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::envelope::MAX_BYTES;

const PERIOD: SignedDuration = SignedDuration::from_secs(60);
/// Lines of one period; the rest is counted and said with the next one.
const LINES: u32 = 10;
/// Characters of a text from outside that are shown; of a reason.
pub(super) const SHOWN: usize = 100;
pub(super) const REASON: usize = 400;

/// Counts knocks that failed.
#[derive(Debug, Default)]
pub(super) struct Knocks {
    since: Option<Timestamp>,
    lines: u32,
    left_out: u64,
}

impl Knocks {
    /// Whether this one is said, and how many before it were not.
    pub fn said(&mut self, now: Timestamp) -> Option<u64> {
        // A clock that was set back begins a new period too.
        let same = self.since.is_some_and(|since| (SignedDuration::ZERO..PERIOD).contains(&now.duration_since(since)));
        if !same {
            (self.since, self.lines) = (Some(now), 0);
        }
        if self.lines >= LINES {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// What a token says of itself. Nothing of it is proven, and it decides nothing.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Claims {
    pub kid: String,
    pub name: String,
    pub id: String,
    pub operator: String,
}

impl Claims {
    pub fn of(token: &[u8]) -> Claims {
        let part = |n: usize| -> Option<Value> {
            let token = std::str::from_utf8(token).ok().filter(|token| token.len() <= MAX_BYTES)?;
            let bytes = URL_SAFE_NO_PAD.decode(token.trim_ascii().split('.').nth(n)?).ok()?;
            serde_json::from_slice(&bytes).ok()
        };
        let (header, payload) = (part(0).unwrap_or_default(), part(1).unwrap_or_default());
        let text = |value: &Value| value.as_str().map_or_else(|| "-".to_owned(), |text| shown(text, SHOWN));
        Claims {
            kid: text(&header["kid"]),
            name: text(&payload["name"]),
            id: text(&payload["id"]),
            operator: text(&payload["operator"]),
        }
    }
}

/// A text from outside for the log: one line, no control characters, not longer than is useful.
pub(super) fn shown(text: &str, most: usize) -> String {
    let mut short: String = text.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(most).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::super::envelope::tests::{envelope, key};
    use super::super::sign;
    use super::*;

    #[test]
    fn a_flood_leaves_a_few_lines_a_minute_and_the_count_of_the_rest() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let mut knocks = Knocks::default();
        let said: Vec<_> = (0..10_000).map(|n| knocks.said(at(n / 1000))).collect();
        assert_eq!(said.iter().flatten().count(), LINES as usize);
        assert_eq!(knocks.said(at(61)), Some(10_000 - u64::from(LINES)));
        assert_eq!(knocks.said(at(62)), Some(0));
        assert!(knocks.said(at(-9_999)).is_some(), "a clock that was set back silences nobody");
    }

    #[test]
    fn what_a_token_claims_is_shown_short_and_harmless_and_junk_claims_nothing() {
        let mut forged = envelope();
        forged.name = "patrol.start\u{1b}[2J\nforged line".into();
        forged.id = "i".repeat(5000);
        let claims = Claims::of(sign(&forged, &key(), "ops").as_bytes());
        assert_eq!((claims.kid.as_str(), claims.name.as_str()), ("ops", "patrol.start [2J forged line"));
        assert_eq!(claims.id.chars().count(), SHOWN + 1);
        let nothing = Claims { kid: "-".into(), name: "-".into(), id: "-".into(), operator: "-".into() };
        for junk in [&b"junk"[..], b"", b"\xff\xfe", b"..", b"{}"] {
            assert_eq!(Claims::of(junk), nothing);
        }
        assert_eq!(Claims::of(&vec![b'a'; MAX_BYTES + 1]), nothing);
    }
}
