//! Pure: whether SQLite's write-ahead log is damaged before its end. SQLite itself cannot tell: the first frame whose checksum
//! is wrong is to it the end of the log, and what was committed behind it is forgotten without a word.
//!
//! Of a power cut that is right: what lies behind was never synced. But a commit is synced before the next one begins. So
//! where, at or behind a wrong frame, a commit of this log is followed by another frame of it, that commit was on the disk once,
//! and something has changed it since. The format is that of <https://www.sqlite.org/fileformat2.html#walformat>.

use std::io::{BufReader, Read};

const HEADER: usize = 32;
const FRAME: usize = 24;
const MAGIC: u32 = 0x377f_0682;

/// What is wrong with a log, if anything is.
pub fn damage(log: impl Read) -> Option<String> {
    let mut log = BufReader::with_capacity(1 << 16, log);
    let mut header = [0; HEADER];
    if log.read_exact(&mut header).is_err() || header == [0; HEADER] {
        return None;
    }
    let word = |bytes: &[u8], at: usize| -> u32 {
        bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes)
    };
    let magic = word(&header, 0);
    // The lowest bit says in which order of bytes the sums are taken.
    let big = magic & 1 == 1;
    let mut sum = checksum((0, 0), header.get(..24).unwrap_or_default(), big);
    if magic & !1 != MAGIC || sum != (word(&header, 24), word(&header, 28)) {
        return Some("the header of its log is damaged".to_owned());
    }
    let page = word(&header, 8) as usize;
    let salts = (word(&header, 16), word(&header, 20));
    if !page.is_power_of_two() || !(512..=65_536).contains(&page) {
        return Some("the header of its log is damaged".to_owned());
    }
    let mut frame = vec![0; FRAME + page];
    let (mut number, mut wrong, mut committed_behind) = (0_u64, None, false);
    while log.read_exact(&mut frame).is_ok() {
        number += 1;
        let ours = (word(&frame, 8), word(&frame, 12)) == salts;
        if wrong.is_none() {
            let (head, content) = (frame.get(..8).unwrap_or_default(), frame.get(FRAME..).unwrap_or_default());
            let next = checksum(checksum(sum, head, big), content, big);
            if ours && next == (word(&frame, 16), word(&frame, 20)) {
                sum = next;
                continue;
            }
            wrong = Some(number);
        } else if ours && committed_behind {
            return Some(format!(
                "its log is damaged at frame {}, and what was committed behind it cannot be read",
                wrong.unwrap_or(number)
            ));
        }
        committed_behind |= ours && word(&frame, 4) != 0;
    }
    None
}

fn checksum(from: (u32, u32), bytes: &[u8], big: bool) -> (u32, u32) {
    let word = |four: &[u8]| {
        let four = four.try_into().unwrap_or([0; 4]);
        if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
    };
    bytes.chunks_exact(8).fold(from, |(s0, s1), eight| {
        let (first, second) = eight.split_at(4);
        let s0 = s0.wrapping_add(word(first)).wrapping_add(s1);
        (s0, s1.wrapping_add(word(second)).wrapping_add(s0))
    })
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// A log of `commits` commits, as SQLite wrote it.
    fn log(commits: u32) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (x)").unwrap();
        for n in 0..commits {
            connection.execute("INSERT INTO t VALUES (?1)", [format!("{n} {}", "x".repeat(1500))]).unwrap();
        }
        std::fs::read(dir.path().join("a.db-wal")).unwrap()
    }

    #[test]
    fn a_whole_log_and_one_that_is_cut_off_anywhere_are_sound() {
        let whole = log(40);
        assert_eq!(damage(whole.as_slice()), None);
        for end in (0..whole.len()).step_by(997) {
            assert_eq!(damage(whole.get(..end).unwrap()), None, "cut at {end}");
        }
        assert_eq!(damage([0_u8; 4096].as_slice()), None, "a file that was made longer and never written");
    }

    #[test]
    fn a_bit_that_flips_before_the_last_commits_is_told_wherever_it_is() {
        let whole = log(40);
        let frame = FRAME + 4096;
        // The last two commits are at most five frames: damage there cannot be told from a power cut.
        for at in (0..whole.len() - 6 * frame).step_by(613) {
            // The sequence of checkpoints and the version say nothing of the content, but the header's sum holds them.
            let mut bent = whole.clone();
            bent[at] ^= 1;
            assert!(damage(bent.as_slice()).is_some(), "byte {at} of {}", whole.len());
        }
    }

    #[test]
    fn what_a_power_cut_leaves_of_the_last_commit_is_no_damage() {
        let whole = log(40);
        let frames: Vec<usize> = (HEADER..whole.len()).step_by(FRAME + 4096).collect();
        let last = *frames.last().unwrap();
        // Of the last commit's frames any sectors may be missing.
        let before = frames.iter().rev().skip(1).find(|at| whole[**at + 4..**at + 8] != [0; 4]).unwrap() + FRAME + 4096;
        for sector in (before..last + FRAME + 4096).step_by(512) {
            let mut torn = whole.clone();
            let end = (sector + 512).min(torn.len());
            torn[sector..end].fill(0);
            assert_eq!(damage(torn.as_slice()), None, "sector at {sector}");
        }
    }

    #[test]
    fn frames_of_an_older_log_behind_the_end_are_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
        for n in 0..30 {
            connection.execute("INSERT INTO t VALUES (?1)", [n]).unwrap();
        }
        connection.execute_batch("PRAGMA wal_checkpoint(RESTART); INSERT INTO t VALUES (99)").unwrap();
        let now = std::fs::read(dir.path().join("a.db-wal")).unwrap();
        assert!(now.len() > 20 * (FRAME + 4096), "the old frames are still there");
        assert_eq!(damage(now.as_slice()), None);
    }
}
