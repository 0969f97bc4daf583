//! What the drone says in words (STATUSTEXT). Long texts come in pieces of 50 characters. Pure.

use std::time::Duration;

use mavlink::dialects::common::STATUSTEXT_DATA;
use tokio::time::Instant;

use super::telemetry::Text;

/// A text whose next piece does not come for so long is taken as it is.
const PIECES_WAIT: Duration = Duration::from_secs(2);
/// The longest piece, and the most pieces.
const PIECE: usize = 50;
const PIECES: u8 = 20;

/// Puts the pieces together.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    id: u16,
    next: u8,
    text: Text,
}

impl Assembler {
    /// The texts that a message completes: none, one, or an unfinished one and this.
    pub fn take(&mut self, message: &STATUSTEXT_DATA, now: Instant) -> Vec<Text> {
        let length = message.text.iter().position(|byte| *byte == 0).unwrap_or(PIECE);
        let piece = String::from_utf8_lossy(&message.text[..length]);
        let begun = |text: String| Text { severity: message.severity as u8, text, received: now };
        if message.id == 0 {
            return vec![begun(piece.into_owned())];
        }
        let mut done = Vec::new();
        let mut open = match self.open.take() {
            Some(open) if open.id == message.id && open.next <= message.chunk_seq => open,
            // A repeat of a piece that is there already.
            Some(open) if open.id == message.id => {
                self.open = Some(open);
                return done;
            }
            other => {
                // The next text: the end of the last one is lost.
                done.extend(other.map(Open::unfinished));
                Open { id: message.id, next: 0, text: begun(String::new()) }
            }
        };
        // What was lost on the way shows.
        if open.next < message.chunk_seq {
            open.text.text.push('…');
        }
        open.text.text.push_str(&piece);
        open.text.received = now;
        open.next = message.chunk_seq.saturating_add(1);
        // A piece with room left is the last one.
        if length == PIECE && open.next < PIECES {
            self.open = Some(open);
        } else {
            done.push(open.text);
        }
        done
    }

    /// A text as far as it came, when its next piece does not come.
    pub fn overdue(&mut self, now: Instant) -> Option<Text> {
        let open = self.open.take_if(|open| now.saturating_duration_since(open.text.received) > PIECES_WAIT)?;
        Some(open.unfinished())
    }
}

impl Open {
    fn unfinished(self) -> Text {
        Text { text: self.text.text + "…", ..self.text }
    }
}

#[cfg(test)]
mod tests {
    use mavlink::dialects::common::MavSeverity;

    use super::*;

    const LONG: &str = "PreArm: Battery 1 below minimum arming capacity, and the rest of it";

    fn take(assembler: &mut Assembler, text: &str, id: u16, chunk_seq: u8) -> Vec<String> {
        let severity = MavSeverity::MAV_SEVERITY_WARNING;
        let message = STATUSTEXT_DATA { severity, text: text.into(), id, chunk_seq };
        assembler.take(&message, Instant::now()).into_iter().map(|text| text.text).collect()
    }

    #[tokio::test]
    async fn a_text_in_pieces_is_one_text_however_often_a_piece_comes() {
        let mut assembler = Assembler::default();
        let (head, tail) = LONG.split_at(PIECE);
        assert_eq!(take(&mut assembler, "short", 0, 0), ["short"]);
        assert!(take(&mut assembler, head, 7, 0).is_empty());
        assert!(take(&mut assembler, head, 7, 0).is_empty());
        assert_eq!(take(&mut assembler, tail, 7, 1), [LONG]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_lost_of_a_text_shows_and_the_rest_is_not() {
        let mut assembler = Assembler::default();
        let (head, _) = LONG.split_at(PIECE);
        take(&mut assembler, head, 8, 0);
        assert_eq!(assembler.overdue(Instant::now()), None);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(assembler.overdue(Instant::now()).unwrap().text, format!("{head}…"));
        // The middle of one, and the end of another.
        take(&mut assembler, head, 9, 0);
        assert_eq!(take(&mut assembler, "end", 9, 2), [format!("{head}…end")]);
        take(&mut assembler, head, 10, 0);
        assert_eq!(take(&mut assembler, "next", 11, 0), [format!("{head}…"), "next".to_owned()]);
    }
}
