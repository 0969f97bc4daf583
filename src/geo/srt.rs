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
//! passed over, times that run backwards are put in order. A fix that no drone could have flown to from the one before it is
//! left out where all others agree; where they do not, all are believed so much less. What a fix says of its way from home
//! is held against the two places.

use super::heights::{METRES_A_FOOT, UNUSUAL_M};
use super::track::{Timed, Track};
use super::{Attitude, LatLon, NORMAL_95, Pose, PoseSigma};

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
    /// Digits behind the point that its place was written with.
    decimals: i32,
}

/// A whole file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Subtitles {
    /// In order of time.
    pub fixes: Vec<Fix>,
    /// Blocks without a usable time or position.
    pub unusable: usize,
    /// What is wrong with the first of them, and when.
    pub first_fault: Option<String>,
    /// Fixes that were left out: the drone cannot have flown there from all the others.
    pub jumped: usize,
    /// How far apart, metres, the fixes of a file are that fall into parts between which no drone flies, where nothing says
    /// which part is right; 0 where they do not.
    pub torn_m: f64,
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
    #[error("it is UTF-16: save it as UTF-8")]
    Utf16,
    #[error(
        "it has no subtitle with a time and a position{}; is it DJI telemetry, with lines such as 00:00:01,000 --> 00:00:02,000?",
        first.as_ref().map(|fault| format!(" (the first: {fault})")).unwrap_or_default()
    )]
    Nothing { first: Option<String> },
}

/// How much longer than the usual step from fix to fix a gap is, as a share of it and at least, seconds.
const GAP_SHARE: f64 = 0.5;
const GAP_S: f64 = 0.1;
/// Faster than drones with cameras fly, along and up; and how far apart two fixes of one moment may be told: places of four
/// digits, once a second, beside times of each frame.
const FASTEST_M_S: f64 = 60.0;
const FASTEST_UP_M_S: f64 = 20.0;
const APART_M: f64 = 40.0;
/// The share of a file's fixes that is believed against the others.
const MOST: f64 = 0.9;
/// How far the way from home as told may be off that between the two places, metres and as a share; and how far a drone goes.
const HOME_OFF_M: f64 = 50.0;
const HOME_OFF_SHARE: f64 = 0.1;
const HOME_LIMIT_M: f64 = 50_000.0;

impl Subtitles {
    /// The poses of a video's camera, by seconds from its start: of every fix that tells its height above take-off, with the
    /// gimbal's attitude, or `looks` where the drone does not write one (a camera that hangs straight down, say).
    pub fn track(&self, sigma: PoseSigma, looks: Option<Attitude>) -> Track {
        let poses = self.fixes.iter().filter_map(|fix| {
            let height_m = fix.above_take_off_m?;
            let mut sigma = sigma;
            // In feet, perhaps: the error holds both.
            if height_m > UNUSUAL_M {
                sigma.vertical_m = sigma.vertical_m.hypot(height_m * (1.0 - METRES_A_FOOT) / NORMAL_95);
            }
            let pose = Pose { at: fix.at, height_m, attitude: fix.gimbal.or(looks)?, sigma };
            Some(Timed { t_s: fix.start_s, pose })
        });
        Track::new(poses.collect())
    }

    /// How many fixes are so high above take-off that they may be told in feet.
    pub fn high(&self) -> usize {
        self.fixes.iter().filter(|fix| fix.above_take_off_m.is_some_and(|m| m > UNUSUAL_M)).count()
    }

    /// One sigma of rounding a place to as many digits as the file has, metres: evenly spread over one of the last.
    pub fn rounding_sigma_m(&self) -> f64 {
        let decimals = self.fixes.iter().map(|fix| fix.decimals).max().unwrap_or(0);
        10_f64.powi(-decimals) * METRES_A_DEGREE / 12_f64.sqrt()
    }
}

/// Of latitude.
const METRES_A_DEGREE: f64 = 111_320.0;

pub fn read(bytes: &[u8]) -> Result<Subtitles, SrtError> {
    if bytes.len() > MAX_BYTES {
        return Err(SrtError::TooLarge);
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(SrtError::Utf16);
    }
    let mut text = String::from_utf8_lossy(bytes);
    if !bytes.contains(&b'\n') {
        text = text.replace('\r', "\n").into();
    }
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
        return Err(SrtError::Nothing { first: found.first_fault });
    }
    found.fixes.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
    drop_jumps(&mut found);
    // Of two files in one the steps from fix to fix tell nothing.
    found.gaps = if found.torn_m > 0.0 { Vec::new() } else { gaps(&found.fixes) };
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

/// How far the drone would have had to jump from one fix to the next, metres.
fn jump_m(a: &Fix, b: &Fix) -> Option<f64> {
    let step_s = (b.start_s - a.start_s).abs();
    let apart_m = a.at.distance_m(b.at);
    let up_m = a.above_take_off_m.zip(b.above_take_off_m).map_or(0.0, |(a, b)| (a - b).abs());
    let jumps = apart_m > APART_M + FASTEST_M_S * step_s || up_m > APART_M + FASTEST_UP_M_S * step_s;
    jumps.then(|| apart_m.max(up_m))
}

/// Keeps what one flight can have been, from the longest part of the file that has no jump; where that is not nearly all
/// of it, keeps everything and says how far apart it is.
fn drop_jumps(found: &mut Subtitles) {
    let fixes = &found.fixes;
    let mut parts: Vec<std::ops::Range<usize>> = Vec::new();
    let mut torn_m = 0.0_f64;
    let mut moment = 0;
    for i in 0..fixes.len() {
        // Of several fixes of one moment each is held against the first, too.
        if fixes[i].start_s > fixes[moment].start_s {
            moment = i;
        }
        torn_m = torn_m.max(jump_m(&fixes[moment], &fixes[i]).unwrap_or(0.0));
        let jump = i.checked_sub(1).and_then(|before| jump_m(&fixes[before], &fixes[i]));
        match (jump, parts.last_mut()) {
            (None, Some(part)) => part.end = i + 1,
            (jump, _) => {
                torn_m = torn_m.max(jump.unwrap_or(0.0));
                parts.push(i..i + 1);
            }
        }
    }
    // The first of the longest.
    let Some(longest) = (0..parts.len()).rev().max_by_key(|&i| parts[i].len()) else { return };
    let mut kept = vec![parts[longest].clone()];
    let mut edge = &fixes[parts[longest].end - 1];
    for part in &parts[longest + 1..] {
        if jump_m(edge, &fixes[part.start]).is_none() {
            edge = &fixes[part.end - 1];
            kept.push(part.clone());
        }
    }
    let mut edge = &fixes[parts[longest].start];
    for part in parts[..longest].iter().rev() {
        if jump_m(&fixes[part.end - 1], edge).is_none() {
            edge = &fixes[part.start];
            kept.push(part.clone());
        }
    }
    let agree: usize = kept.iter().map(ExactSizeIterator::len).sum();
    // Of times that begin anew the longer part may be that of another video.
    if (agree as f64) < MOST * fixes.len() as f64 || agree < fixes.len() && found.reversed > 0 {
        found.torn_m = torn_m;
        return;
    }
    found.jumped = fixes.len() - agree;
    let mut stays = vec![false; fixes.len()];
    kept.into_iter().flatten().for_each(|i| stays[i] = true);
    let mut stays = stays.into_iter();
    found.fixes.retain(|_| stays.next().unwrap_or(false));
}

fn finish(block: Option<((f64, f64), String)>, latest: &mut f64, found: &mut Subtitles) {
    let Some(((a, b), body)) = block else {
        return;
    };
    let fix = match fix(a.min(b), a.max(b), &body) {
        Ok(fix) => fix,
        Err(fault) => {
            found.unusable += 1;
            found.first_fault.get_or_insert_with(|| format!("at {a:.2} s {fault}"));
            return;
        }
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

fn fix(start_s: f64, end_s: f64, body: &str) -> Result<Fix, String> {
    let position = named(body).or_else(|| gps(body, "GPS")).ok_or("it tells no position")?;
    if position == (LatLon { lat: 0.0, lon: 0.0 }) {
        return Err("its position is 0, 0, no fix".to_owned());
    }
    position.validate().map_err(|error| error.to_string())?;
    far_from_home(position, body)?;
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
        .or_else(|| body.split(", ").find_map(|part| metres(part.strip_prefix("H ")?)));
    let altitude_m = number_after(body, "abs_alt")
        .or_else(|| number_after(body, "[altitude"))
        .or_else(|| list_after(body, "GPS").and_then(|v| v.get(2).copied()));
    let decimals = decimals(position.lat).max(decimals(position.lon));
    Ok(Fix { start_s, end_s, at: position, above_take_off_m, altitude_m, gimbal, wall: wall(body), decimals })
}

/// A place is none where the way from home to it is another one than is told.
fn far_from_home(at: LatLon, body: &str) -> Result<(), String> {
    let Some(home) = gps(body, "HOME").filter(|home| home.validate().is_ok() && (home.lat, home.lon) != (0.0, 0.0))
    else {
        return Ok(());
    };
    let apart_m = home.distance_m(at);
    let told_m = body.split(", ").find_map(|part| metres(part.strip_prefix("D ")?));
    match told_m {
        Some(told_m) if (apart_m - told_m).abs() > HOME_OFF_M + HOME_OFF_SHARE * told_m => {
            Err(format!("its position is {apart_m:.0} m from HOME, and it says D {told_m:.0} m"))
        }
        None if apart_m > HOME_LIMIT_M => Err(format!("its position is {:.0} km from HOME", apart_m / 1e3)),
        _ => Ok(()),
    }
}

/// How many digits behind the point a coordinate needs to be told as it is; DJI writes seven at most.
fn decimals(degrees: f64) -> i32 {
    let whole = |d: i32| {
        let scaled = degrees * 10_f64.powi(d);
        (scaled - scaled.round()).abs() < 1e-3
    };
    (0..7).find(|&d| whole(d)).unwrap_or(7)
}

/// `[latitude: 41.420684] [longitude: 2.162162]`, with or without spaces before the colon.
fn named(body: &str) -> Option<LatLon> {
    let lat = number_after(body, "latitude")?;
    let lon = number_after(body, "longitude").or_else(|| number_after(body, "longtitude"))?;
    Some(LatLon { lat, lon })
}

/// The drone's place, or that of its home by the word for it.
fn gps(body: &str, word: &str) -> Option<LatLon> {
    let values = list_after(body, word)?;
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

/// A length that a text begins with: in metres, but where it says feet.
fn metres(text: &str) -> Option<f64> {
    let feet = text.trim_start().trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+'));
    Some(number(text)? * if feet.trim_start().starts_with("ft") { METRES_A_FOOT } else { 1.0 })
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

    /// One fix a second, at these places east of 113° E.
    fn seconds_of(lons: &[f64], more: &str) -> Subtitles {
        let block = |(s, lon): (usize, &f64)| {
            format!("1\n00:00:{s:02},000 --> 00:00:{:02},000\nGPS ({lon}, 23.123456, 15), H 80.0m{more}\n\n", s + 1)
        };
        read(lons.iter().enumerate().map(block).collect::<String>().as_bytes()).unwrap()
    }

    #[test]
    fn a_fix_to_which_no_drone_flies_is_left_out_and_a_file_in_two_parts_is_believed_less() {
        let mut lons: Vec<f64> = (0..30).map(|i| 113.0 + f64::from(i) * 1e-4).collect();
        let plain = seconds_of(&lons, "");
        assert_eq!((plain.fixes.len(), plain.jumped, plain.torn_m), (30, 0, 0.0));
        // 333 m in a second, and back; two fixes of another place at the start.
        lons[12] += 0.00325;
        let once = seconds_of(&lons, "");
        assert_eq!((once.fixes.len(), once.jumped, once.torn_m), (29, 1, 0.0));
        assert!(once.fixes.iter().all(|fix| fix.start_s != 12.0) && once.gaps == [(12.0, 13.0)], "{:?}", once.gaps);
        lons[0] = 113.75;
        lons[1] = 113.75;
        assert_eq!(seconds_of(&lons, "").jumped, 3);
        // From one second on all is elsewhere: nothing says which part is right.
        let shifted: Vec<f64> = (0..30).map(|i| 113.0 + if i < 15 { 0.0 } else { 0.00325 }).collect();
        let torn = seconds_of(&shifted, "");
        assert!(torn.fixes.len() == 30 && torn.jumped == 0 && (torn.torn_m - 333.0).abs() < 2.0, "{}", torn.torn_m);
    }

    #[test]
    fn times_that_begin_anew_somewhere_else_tear_the_file() {
        let block = |s: usize, lat: f64| {
            format!("1\n00:00:{s:02},000 --> 00:00:{:02},000\nGPS (113.0, {lat}, 15), H 80.0m\n\n", s + 1)
        };
        let two = |lat: f64| {
            let text: String = (0..20).map(|s| block(s, 23.0)).chain((0..20).map(|s| block(s, lat))).collect();
            read(text.as_bytes()).unwrap()
        };
        let torn = two(23.01);
        // Also where nearly all is of the one, and at one moment each is held against the others.
        let short: String = (0..40).map(|s| block(s, 23.0)).chain((0..3).map(|s| block(s, 23.01))).collect();
        let short = read(short.as_bytes()).unwrap();
        assert!(short.torn_m > 1_000.0 && short.jumped == 0 && short.fixes.len() == 43, "{short:?}");
        let one: String = (0..9).map(|i| block(0, 23.0 + f64::from(i) * 0.001)).collect();
        assert!((read(one.as_bytes()).unwrap().torn_m - 886.0).abs() < 2.0);
        assert!(torn.torn_m > 1_000.0 && torn.reversed == 19 && torn.gaps.is_empty());
        assert_eq!(two(23.0001).torn_m, 0.0);
        let heights: String =
            (0..20).map(|s| block(s, 23.0).replace("80.0", if s < 10 { "80.0" } else { "262.0" })).collect();
        assert!((read(heights.as_bytes()).unwrap().torn_m - 182.0).abs() < 0.1);
    }

    #[test]
    fn a_place_whose_way_from_home_is_another_than_is_told_is_none() {
        let home = |lon: f64, lat: f64, d: &str| {
            let text = format!(
                "1\n00:00:00,000 --> 00:00:01,000\nGPS (113.0, 23.0, 15), HOME ({lon}, {lat}, 4.0m), {d}H 80.0m\n\n"
            );
            read(format!("{text}2\n00:00:01,000 --> 00:00:02,000\nGPS (113.0, 23.0, 15), H 80.0m\n").as_bytes())
                .unwrap()
        };
        assert_eq!(home(113.002, 23.0, "D 204.88m, ").unusable, 0);
        assert_eq!(home(113.002, 23.0, "D 672.2ft, ").unusable, 0);
        assert_eq!(home(0.0, 0.0, "D 0.00m, ").unusable, 0, "no home is told yet");
        let off = home(113.02, 23.0, "D 204.88m, ");
        assert!(off.unusable == 1 && off.first_fault.as_deref().is_some_and(|f| f.contains("D 205 m")), "{off:?}");
        // Latitude and longitude of one of them exchanged.
        let far = home(23.0, 80.0, "");
        assert!(far.unusable == 1 && far.first_fault.as_deref().is_some_and(|f| f.contains("km from HOME")), "{far:?}");
    }

    #[test]
    fn heights_in_feet_are_turned_into_metres_where_they_say_so_and_held_where_they_may_be() {
        let of = |height: &str| {
            let text = format!(
                "1\n00:00:00,000 --> 00:00:01,000\nGPS (113.0, 23.123456, 15), H {height}, G.PRY (-60.0°, 0.0°, 90.0°)\n\n"
            );
            let found = read(text.as_bytes()).unwrap();
            let pose = found.track(crate::geo::photo::SIGMA, None).poses()[0].pose;
            (found.high(), pose.height_m, pose.sigma.vertical_m)
        };
        assert!((of("324.5ft").1 - 98.9).abs() < 0.01 && of("324.5ft").0 == 0);
        let (high, height_m, sigma_m) = of("324.5m");
        assert!(high == 1 && height_m == 324.5 && (1.95..2.0).contains(&((324.5 - 98.9) / sigma_m)), "{sigma_m}");
        assert_eq!(of("98.9m").2, crate::geo::photo::SIGMA.vertical_m);
    }

    #[test]
    fn places_of_four_digits_are_rounded_by_metres() {
        let of = |lon: &str| {
            let text = format!("1\n00:00:00,000 --> 00:00:01,000\nGPS ({lon}, 23.0, 15), H 80.0m\n\n");
            read(text.as_bytes()).unwrap().rounding_sigma_m()
        };
        assert!((of("149.0251") - 3.21).abs() < 0.01 && of("149.025123") < 0.04, "{}", of("149.0251"));
    }

    #[test]
    fn what_is_no_telemetry_is_refused_and_nothing_panics() {
        assert_eq!(read(b""), Err(SrtError::Nothing { first: None }));
        let hello = read(b"1\n00:00:00,000 --> 00:00:01,000\nHello\n").unwrap_err().to_string();
        assert!(hello.contains("the first: at 0.00 s it tells no position"), "{hello}");
        assert_eq!(read(b"\xff\xfe1\0"), Err(SrtError::Utf16));
        let mac = "1\r00:00:00,000 --> 00:00:01,000\rGPS (113.0, 23.0, 15), H 80.0m\r";
        assert_eq!(read(mac.as_bytes()).unwrap().fixes.len(), 1);
        let whole =
            "1\n00:00:00,000 --> 00:00:01,000\nGPS (-58.8, -34.2, 15), H 85.80m, G.PRY (-24.4°, 0.0°, 110.4°)\n";
        for end in 0..whole.len() {
            let _ = read(&whole.as_bytes()[..end]);
        }
        let long = format!("1\n00:00:00,000 --> 00:00:01,000\n{}\n", "GPS (".repeat(1_000_000));
        assert!(matches!(read(long.as_bytes()), Err(SrtError::Nothing { .. })));
    }
}
