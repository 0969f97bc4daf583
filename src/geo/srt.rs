//! DJI's video subtitles: where the drone was, frame by frame or second by second. Pure: text in, fixes out.
//!
//! Variants, told apart by their words, not by the drone's name:
//! - `[latitude: 41.4] [longitude: 2.1] [rel_alt: 1.3 abs_alt: 104.5] [gb_yaw: … gb_pitch: … gb_roll: …]` (and the firmware
//!   that writes `longtitude`, or `altitude` alone, which is not said to be above anything);
//! - `GPS (-58.8, -34.2, 15), … H 85.80m, … G.PRY (-24.4°, 0.0°, 110.4°)`: longitude first, pitch, roll, yaw;
//! - `GPS(149.0251,-20.2533,16) Hb:1.9`: longitude first;
//! - `GPS(36.6146,-6.1120,0.0M) BAROMETER:0.3M`: latitude first, told by the unit.
//!
//! The file comes from outside: lines, blocks and their lengths are bounded, a block that cannot be used is counted and
//! passed over, times that run backwards are put in order.

use super::track::{Timed, Track};
use super::{Attitude, LatLon, Pose, PoseSigma};

const MAX_BYTES: usize = 256 * 1024 * 1024;
const MAX_BLOCKS: usize = 1_000_000;
const MAX_LINE: usize = 4_096;

/// One subtitle.
#[derive(Debug, Clone, PartialEq)]
pub struct Fix {
    /// From the video's start.
    pub start_s: f64,
    pub end_s: f64,
    pub at: LatLon,
    pub above_take_off_m: Option<f64>,
    /// As told; nobody says above what.
    pub altitude_m: Option<f64>,
    /// The gimbal's; few drones write it.
    pub gimbal: Option<Attitude>,
    /// As written, in the drone's own time, whose zone the file does not tell.
    pub wall: Option<String>,
}

/// A whole file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Subtitles {
    /// In order of time.
    pub fixes: Vec<Fix>,
    /// Blocks without a usable time or position.
    pub unusable: usize,
    /// Blocks that began before the one in front of them.
    pub reversed: usize,
    /// Times without a fix, from the end of one to the start of the next, where that is clearly longer than usual in this
    /// file: more than half a step longer than its median step, and by a tenth of a second at least (at 10 m/s that is a
    /// metre, less than a fix is sure to).
    pub gaps: Vec<(f64, f64)>,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SrtError {
    #[error("it is larger than {MAX_BYTES} bytes, which no video's subtitles are")]
    TooLarge,
    #[error("it has no subtitle with a time and a position; is it DJI telemetry?")]
    Nothing,
}

/// How much longer than the usual step from fix to fix a gap is, as a share of it and at least, seconds.
const GAP_SHARE: f64 = 0.5;
const GAP_S: f64 = 0.1;

impl Subtitles {
    /// The poses of a video's camera, by seconds from its start: of every fix that tells its height above take-off, with the
    /// gimbal's attitude, or `looks` where the drone does not write one (a camera that hangs straight down, say).
    pub fn track(&self, sigma: PoseSigma, looks: Option<Attitude>) -> Track {
        let poses = self.fixes.iter().filter_map(|fix| {
            let pose = Pose { at: fix.at, height_m: fix.above_take_off_m?, attitude: fix.gimbal.or(looks)?, sigma };
            Some(Timed { t_s: fix.start_s, pose })
        });
        Track::new(poses.collect())
    }
}

pub fn read(bytes: &[u8]) -> Result<Subtitles, SrtError> {
    if bytes.len() > MAX_BYTES {
        return Err(SrtError::TooLarge);
    }
    let text = String::from_utf8_lossy(bytes);
    let mut found = Subtitles::default();
    let mut latest = f64::NEG_INFINITY;
    let mut block: Option<((f64, f64), String)> = None;
    for line in text.lines().map(|l| l.trim_start_matches('\u{feff}').trim()) {
        if let Some(times) = times(line) {
            finish(block.take(), &mut latest, &mut found);
            if found.fixes.len() + found.unusable >= MAX_BLOCKS {
                break;
            }
            block = Some((times, String::new()));
        } else if let Some((_, body)) = &mut block
            && line.len() <= MAX_LINE
            && body.len() <= MAX_LINE
        {
            body.push_str(line);
            body.push('\n');
        }
    }
    finish(block, &mut latest, &mut found);
    if found.fixes.is_empty() {
        return Err(SrtError::Nothing);
    }
    found.fixes.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
    found.gaps = gaps(&found.fixes);
    Ok(found)
}

fn gaps(fixes: &[Fix]) -> Vec<(f64, f64)> {
    let step = |pair: &[Fix]| pair[1].start_s - pair[0].start_s;
    let mut steps: Vec<f64> = fixes.windows(2).map(step).collect();
    steps.sort_by(f64::total_cmp);
    let Some(&usual) = steps.get(steps.len().saturating_sub(1) / 2) else {
        return Vec::new();
    };
    let longest = usual + GAP_S.max(GAP_SHARE * usual);
    let long = fixes.windows(2).filter(|pair| step(pair) > longest);
    long.map(|pair| (pair[0].end_s.min(pair[1].start_s), pair[1].start_s)).collect()
}

fn finish(block: Option<((f64, f64), String)>, latest: &mut f64, found: &mut Subtitles) {
    let Some(((a, b), body)) = block else {
        return;
    };
    let Some(fix) = fix(a.min(b), a.max(b), &body) else {
        found.unusable += 1;
        return;
    };
    if a > b || a < *latest {
        found.reversed += 1;
    }
    *latest = latest.max(a);
    found.fixes.push(fix);
}

/// `00:00:01,000 --> 00:00:02,000`.
fn times(line: &str) -> Option<(f64, f64)> {
    let (from, to) = line.split_once("-->")?;
    Some((seconds(from)?, seconds(to)?))
}

fn seconds(text: &str) -> Option<f64> {
    let mut parts = text.trim().splitn(3, ':');
    let mut part = || parts.next()?.trim().replace(',', ".").parse::<f64>().ok().filter(|v| (0.0..1e6).contains(v));
    Some(part()? * 3600.0 + part()? * 60.0 + part()?)
}

fn fix(start_s: f64, end_s: f64, body: &str) -> Option<Fix> {
    let position = named(body).or_else(|| gps(body))?;
    (position != LatLon { lat: 0.0, lon: 0.0 }).then_some(())?;
    position.validate().ok()?;
    let gimbal = match (number_after(body, "gb_yaw"), number_after(body, "gb_pitch"), number_after(body, "gb_roll")) {
        (Some(yaw_deg), Some(pitch_deg), roll) => Some(Attitude { yaw_deg, pitch_deg, roll_deg: roll.unwrap_or(0.0) }),
        _ => list_after(body, "G.PRY").and_then(|v| match *v.as_slice() {
            [pitch_deg, roll_deg, yaw_deg, ..] => Some(Attitude { yaw_deg, pitch_deg, roll_deg }),
            _ => None,
        }),
    };
    let above_take_off_m = number_after(body, "rel_alt")
        .or_else(|| number_after(body, "BAROMETER"))
        .or_else(|| number_after(body, "Hb"))
        .or_else(|| body.split(", ").find_map(|part| number(part.strip_prefix("H ")?)));
    let altitude_m = number_after(body, "abs_alt")
        .or_else(|| number_after(body, "[altitude"))
        .or_else(|| list_after(body, "GPS").and_then(|v| v.get(2).copied()));
    Some(Fix { start_s, end_s, at: position, above_take_off_m, altitude_m, gimbal, wall: wall(body) })
}

/// `[latitude: 41.420684] [longitude: 2.162162]`, with or without spaces before the colon.
fn named(body: &str) -> Option<LatLon> {
    let lat = number_after(body, "latitude")?;
    let lon = number_after(body, "longitude").or_else(|| number_after(body, "longtitude"))?;
    Some(LatLon { lat, lon })
}

fn gps(body: &str) -> Option<LatLon> {
    let values = list_after(body, "GPS")?;
    let &[first, second, ..] = values.as_slice() else {
        return None;
    };
    // The Matrice writes the unit and the latitude first; all others the longitude first.
    let inside = body.split("GPS").nth(1)?.split(')').next()?;
    Some(if inside.trim_end().ends_with('M') {
        LatLon { lat: first, lon: second }
    } else {
        LatLon { lat: second, lon: first }
    })
}

/// The number behind a word and a colon, if there is one.
fn number_after(body: &str, word: &str) -> Option<f64> {
    let rest = &body[body.find(word)? + word.len()..];
    number(rest.trim_start().strip_prefix(':')?)
}

/// The numbers in the brackets behind a word.
fn list_after(body: &str, word: &str) -> Option<Vec<f64>> {
    let rest = &body[body.find(word)? + word.len()..];
    let inside = rest.trim_start().strip_prefix('(')?.split(')').next()?;
    inside.split(',').take(4).map(number).collect()
}

/// The number that a text begins with, whatever unit follows.
fn number(text: &str) -> Option<f64> {
    let text = text.trim_start();
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+'))).unwrap_or(text.len());
    text[..end].parse().ok().filter(|v: &f64| v.is_finite())
}

/// A date and a time, as the drone wrote them.
fn wall(body: &str) -> Option<String> {
    let digits =
        |text: &str, from: usize, to: usize| text.get(from..to).is_some_and(|t| t.bytes().all(|b| b.is_ascii_digit()));
    body.lines()
        .flat_map(|line| {
            line.split_inclusive(' ').scan(0, |at, word| {
                let start = *at;
                *at += word.len();
                Some(&line[start..])
            })
        })
        .find(|text| digits(text, 0, 4) && matches!(text.as_bytes().get(4), Some(b'.' | b'-')) && text.contains(':'))
        .map(|text| text.split_whitespace().take(2).collect::<Vec<_>>().join(" ").chars().take(32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(body: &str) -> Fix {
        let text = format!("1\n00:00:01,000 --> 00:00:02,000\n{body}\n\n");
        let mut found = read(text.as_bytes()).unwrap();
        assert_eq!(found.fixes.len(), 1);
        found.fixes.remove(0)
    }

    #[test]
    fn each_variant_has_its_latitude_and_its_height_where_it_belongs() {
        let m300 = one("2022.06.21 16:06:17\nGPS(36.6146,-6.1120,0.0M) BAROMETER:0.3M");
        assert_eq!((m300.at, m300.above_take_off_m), (LatLon { lat: 36.6146, lon: -6.112 }, Some(0.3)));
        assert_eq!(m300.wall.as_deref(), Some("2022.06.21 16:06:17"));
        let mini = one(
            "F/2.8, SS 30.15, ISO 260, EV -1.7, GPS (-121.7458, 48.0771, 17), D 221.21m, H 200.70m, H.S n/a, V.S n/a ",
        );
        assert_eq!((mini.at, mini.above_take_off_m), (LatLon { lat: 48.0771, lon: -121.7458 }, Some(200.7)));
        let old = one(
            "HOME(149.0251,-20.2532) 2017.8.5 14:11:51\nGPS(149.0251,-20.2533,16) Hb:1.9 Hs:1.9 \nISO:100 TV:60 EV: 0 IR:F2.8",
        );
        assert_eq!((old.at, old.above_take_off_m), (LatLon { lat: -20.2533, lon: 149.0251 }, Some(1.9)));
        let rtk = one(
            "F/5.6, SS 400, ISO 100, EV 0, GPS (-58.851745, -34.237922, 15), HOME (-58.847509, -34.232707, -57.98m), D 698.70m, H 85.80m, H.S 0.00m/s, V.S 0.00m/s, F.PRY (2.7°, -7.0°, 110.1°), G.PRY (-24.4°, 0.0°, 110.4°)",
        );
        assert_eq!(
            rtk.gimbal,
            Some(Attitude { yaw_deg: 110.4, pitch_deg: -24.4, roll_deg: 0.0 }),
            "the gimbal's, not the flight's"
        );
        assert_eq!(rtk.at, LatLon { lat: -34.237922, lon: -58.851745 });
        let air2 = one(
            "<font size=\"36\">SrtCnt : 1, DiffTime : 16ms\n2022-05-01 15:01:58,531,716\n[iso : 100] [focal_len : 240] [latitude: 41.420684] [longitude: 2.162162] [altitude: 27.300000] </font>",
        );
        assert_eq!(
            (air2.at, air2.above_take_off_m, air2.altitude_m),
            (LatLon { lat: 41.420684, lon: 2.162162 }, None, Some(27.3))
        );
        let newer = one(
            "[latitude : 23.1] [longtitude : 112.9] [rel_alt: 99.500 abs_alt: 120.1] [gb_yaw: 12.5 gb_pitch: -60.0 gb_roll: 0.0]",
        );
        assert_eq!((newer.at.lon, newer.above_take_off_m, newer.altitude_m), (112.9, Some(99.5), Some(120.1)));
        assert_eq!(newer.gimbal.unwrap().pitch_deg, -60.0);
    }

    #[test]
    fn subtitles_with_an_attitude_become_a_track_and_those_without_need_one() {
        let line = |s: u32, lon: f64| {
            format!(
                "1\n00:00:0{s},000 --> 00:00:0{},000\nGPS ({lon}, 23.0, 15), H 80.0m, G.PRY (-60.0°, 0.0°, 90.0°)\n\n",
                s + 1
            )
        };
        let found = read([line(0, 113.0), line(1, 113.0001)].concat().as_bytes()).unwrap();
        let track = found.track(crate::geo::photo::SIGMA, None);
        let pose = track.at(0.5, 2.0).unwrap();
        assert!(
            (pose.at.lon - 113.00005).abs() < 1e-9 && pose.height_m == 80.0 && pose.attitude.yaw_deg == 90.0,
            "{pose:?}"
        );
        let blind = read(b"1\n00:00:00,000 --> 00:00:01,000\nGPS(149.0,-20.0,16) Hb:1.9\n").unwrap();
        assert!(blind.track(crate::geo::photo::SIGMA, None).poses().is_empty());
        let down = Attitude { yaw_deg: 0.0, pitch_deg: -90.0, roll_deg: 0.0 };
        assert_eq!(blind.track(crate::geo::photo::SIGMA, Some(down)).poses().len(), 1);
    }

    #[test]
    fn gaps_reversed_times_and_broken_blocks_are_told_and_end_nothing() {
        let block = |from: &str, to: &str, body: &str| format!("7\n{from} --> {to}\n{body}\n\n");
        let good = "GPS (113.0, 23.0, 15), H 85.80m";
        let text = [
            block("00:00:00,000", "00:00:01,000", good),
            block("00:00:05,000", "00:00:04,000", good),
            block("00:00:03,000", "00:00:04,000", good),
            block("00:00:30,000", "00:00:31,000", "GPS (0.0, 0.0, 0)"),
            block("00:00:31,000", "00:00:32,000", "GPS (113.0, 123.0, 0)"),
            block("00:00:32,000", "00:00:33,000", "GPS (nan, inf, x)"),
            block("00:00:40,000", "00:00:41,000", good),
        ]
        .concat();
        let found = read(text.as_bytes()).unwrap();
        assert_eq!((found.fixes.len(), found.unusable, found.reversed), (4, 3, 2));
        assert_eq!(found.gaps, [(5.0, 40.0)]);
        assert!(found.fixes.windows(2).all(|w| w[0].start_s <= w[1].start_s));
    }

    #[test]
    fn a_gap_is_longer_than_the_files_own_steps_whatever_they_are() {
        let gaps = |starts: &[f64], step: f64| {
            let block =
                |s: &f64| format!("1\n00:00:{s:06.3} --> 00:00:{:06.3}\nGPS (113.0, 23.0, 15), H 85.80m\n\n", s + step);
            let text: String = starts.iter().map(block).collect();
            read(text.as_bytes()).unwrap().gaps
        };
        let frames: Vec<f64> = (0..20).map(|i| f64::from(i) * 0.033 + if i < 10 { 0.0 } else { 0.27 }).collect();
        let found = gaps(&frames, 0.033);
        assert!(found.len() == 1 && (found[0].1 - found[0].0 - 0.27).abs() < 2e-3, "{found:?}");
        // A frame that was dropped is none, a second that was, where one is told each second, is one.
        assert_eq!(gaps(&[0.0, 0.016, 0.033, 0.066, 0.083], 0.016), []);
        assert_eq!(gaps(&[0.0, 1.0, 2.0, 4.0, 5.0], 1.0), [(3.0, 4.0)]);
        assert_eq!((gaps(&[0.0, 1.0, 2.2, 3.2], 1.0), gaps(&[0.0], 1.0)), (vec![], vec![]));
    }

    #[test]
    fn what_is_no_telemetry_is_refused_and_nothing_panics() {
        assert_eq!(read(b""), Err(SrtError::Nothing));
        assert_eq!(read(b"1\n00:00:00,000 --> 00:00:01,000\nHello\n"), Err(SrtError::Nothing));
        let whole =
            "1\n00:00:00,000 --> 00:00:01,000\nGPS (-58.8, -34.2, 15), H 85.80m, G.PRY (-24.4°, 0.0°, 110.4°)\n";
        for end in 0..whole.len() {
            let _ = read(&whole.as_bytes()[..end]);
        }
        let long = format!("1\n00:00:00,000 --> 00:00:01,000\n{}\n", "GPS (".repeat(1_000_000));
        assert_eq!(read(long.as_bytes()), Err(SrtError::Nothing));
    }
}
