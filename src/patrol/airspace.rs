//! `[[airspace]]`: approvals as data, and whether one covers a flight. None, no launch.

use std::path::{Path, PathBuf};

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::polygon_in;
use crate::geo::{LatLon, LocalFrame};
use crate::vehicle::MissionFault;
use crate::vehicle::mission::{inside, keeps_to};

/// One approval to fly: a volume, a window, a reference. The drone may fly only inside one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalConfig {
    /// What the authority calls it; stands in the record of every sortie flown under it.
    pub reference: String,
    /// GeoJSON file with one Polygon, relative to the configuration. A route may lie up to 1 m outside it, so that it can
    /// be drawn just as the patrol.
    pub area: PathBuf,
    /// First moment, RFC 3339 with its offset: "2026-01-01T00:00:00+08:00".
    #[schemars(with = "String")]
    pub from: Timestamp,
    /// Last moment: a drone must be down by then.
    #[schemars(with = "String")]
    pub until: Timestamp,
    /// Every day from so late, station's local time, "HH:MM"; all day when left out.
    #[serde(default)]
    pub daily_from: Option<String>,
    /// Every day until so late; after midnight when earlier than `daily_from`.
    #[serde(default)]
    pub daily_until: Option<String>,
    /// Highest flight above the take-off point, metres.
    #[serde(default = "default_ceiling")]
    pub ceiling_m: f64,
}

/// Above this no one flies without an approval that says so.
fn default_ceiling() -> f64 {
    120.0
}

/// An approval with its area read.
#[derive(Debug, Clone, PartialEq)]
pub struct Approval {
    pub reference: String,
    pub area: Vec<LatLon>,
    pub from: Timestamp,
    pub until: Timestamp,
    pub daily: Option<(Time, Time)>,
    pub ceiling_m: f64,
}

impl ApprovalConfig {
    /// Reads the area and checks the numbers: every fault with its key.
    pub fn load(&self, base: &Path) -> Result<Approval, Vec<(&'static str, String)>> {
        let mut faults = Vec::new();
        if self.reference.trim().is_empty() {
            faults.push(("reference", "is empty; write what the authority calls the approval".to_owned()));
        }
        if self.from >= self.until {
            faults.push(("until", format!("{} is not after from = {}", self.until, self.from)));
        }
        if !(1.0..=1000.0).contains(&self.ceiling_m) {
            faults.push(("ceiling_m", format!("{} is out of range, expected 1 to 1000", self.ceiling_m)));
        }
        let mut clock = |key, text: &Option<String>| {
            let text = text.as_ref()?;
            let time = Time::strptime("%H:%M", text).ok();
            if time.is_none() {
                faults.push((key, format!("{text:?} is no time of day, write \"06:30\"")));
            }
            time
        };
        let daily = (clock("daily_from", &self.daily_from), clock("daily_until", &self.daily_until));
        if self.daily_from.is_some() != self.daily_until.is_some() {
            faults.push(("daily_from", "daily_from and daily_until go together".to_owned()));
        }
        let area = polygon_in(&base.join(&self.area));
        match area {
            Err(fault) => {
                faults.push(("area", fault));
                Err(faults)
            }
            Ok(_) if !faults.is_empty() => Err(faults),
            Ok(area) => Ok(Approval {
                reference: self.reference.clone(),
                area,
                from: self.from,
                until: self.until,
                daily: daily.0.zip(daily.1),
                ceiling_m: self.ceiling_m,
            }),
        }
    }
}

/// What a flight would use of the air.
#[derive(Debug, Clone, Copy)]
pub struct Use<'a> {
    pub dock: LatLon,
    pub way: &'a [LatLon],
    pub height_m: f64,
    pub from: Timestamp,
    pub until: Timestamp,
}

/// The first approval that covers all of `use_`, or why none does.
pub fn covering<'a>(approvals: &'a [Approval], use_: &Use, zone: &TimeZone) -> Result<&'a Approval, String> {
    if approvals.is_empty() {
        return Err("there is no approval; write [[airspace]] with its reference, area, window and ceiling".to_owned());
    }
    let mut why = Vec::new();
    for approval in approvals {
        match approval.covers(use_, zone) {
            Ok(()) => return Ok(approval),
            Err(reason) => why.push(format!("{}: {reason}", approval.reference)),
        }
    }
    Err(why.join("; "))
}

impl Approval {
    fn covers(&self, use_: &Use, zone: &TimeZone) -> Result<(), String> {
        if use_.height_m > self.ceiling_m {
            return Err(format!("{:.0} m is above its ceiling of {:.0} m", use_.height_m, self.ceiling_m));
        }
        let area = widened(&self.area, EDGE_M);
        let places = || use_.way.iter().chain([&use_.dock]);
        let outside = places().filter(|at| !inside(**at, &area)).count();
        if outside > 0 {
            return Err(format!("{outside} of {} points of the route lie outside its area", places().count()));
        }
        // As for the geofence: whatever turns it round brings it home on a straight line from where it is.
        keeps_to(&area, use_.dock, use_.way).map_err(|fault| match fault {
            MissionFault::Crosses { from, to, .. } => format!("the way from {from} to {to} leaves its area"),
            MissionFault::NoWayHome { from, .. } => format!("the straight way home from {from} leaves its area"),
            other => other.to_string(),
        })?;
        if use_.from < self.from {
            return Err(format!("it begins at {}", self.from));
        }
        let end = self.end_of_window(use_.from, zone)?;
        if use_.until > end {
            return Err(format!("the flight would last until {}, it ends at {end}", use_.until));
        }
        Ok(())
    }

    /// When the window that is open at `now` ends; an error when none is open.
    pub fn end_of_window(&self, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
        if now >= self.until {
            return Err(format!("it ended at {}", self.until));
        }
        let Some((opens, closes)) = self.daily else { return Ok(self.until) };
        let local = now.to_zoned(zone.clone());
        let time = local.time();
        // A window over midnight is open before its end and after its beginning.
        let (open, next_day) = if opens < closes {
            (time >= opens && time < closes, false)
        } else {
            (time >= opens || time < closes, time >= opens)
        };
        if !open {
            return Err(format!("it is open daily from {opens} to {closes}, now it is {}", time.strftime("%H:%M")));
        }
        let day = if next_day { local.date().tomorrow().unwrap_or(local.date()) } else { local.date() };
        let end = day.to_datetime(closes).to_zoned(zone.clone()).map_err(|error| error.to_string())?.timestamp();
        Ok(end.min(self.until))
    }
}

/// A route may lie on the edge of its approval: an approval drawn exactly as the patrol covers it. No satellite fix tells
/// so little.
const EDGE_M: f64 = 1.0;

/// `ring`, its edges moved outwards by so much. Meant for little: a spike becomes no longer than three times of it.
fn widened(ring: &[LatLon], by_m: f64) -> Vec<LatLon> {
    let Some(&first) = ring.first() else { return Vec::new() };
    let frame = LocalFrame::new(first);
    let mut corners: Vec<[f64; 2]> = ring.iter().map(|at| frame.to_enu(*at)).collect();
    corners.dedup();
    if corners.len() > 1 && corners.first() == corners.last() {
        corners.pop();
    }
    let count = corners.len();
    let edge = |i: usize| {
        let ([x1, y1], [x2, y2]) = (corners[i % count], corners[(i + 1) % count]);
        ([x2 - x1, y2 - y1], x1 * y2 - x2 * y1)
    };
    // Twice the area; positive where the corners run anticlockwise, with the outside to the right of each edge.
    let outside = (0..count).map(|i| edge(i).1).sum::<f64>().signum();
    let normal = |i: usize| {
        let [dx, dy] = edge(i).0;
        let length = dx.hypot(dy).max(f64::MIN_POSITIVE);
        [dy / length * outside, -dx / length * outside]
    };
    (0..count)
        .map(|i| {
            let ([ax, ay], [bx, by]) = (normal(i + count - 1), normal(i));
            let reach = by_m / (1.0 + ax * bx + ay * by).max(0.25);
            let [x, y] = corners[i];
            frame.to_latlon(x + (ax + bx) * reach, y + (ay + by) * reach)
        })
        .collect()
}

/// From now for so long; saturates instead of failing.
pub fn after(now: Timestamp, seconds: f64) -> Timestamp {
    let seconds = if seconds.is_finite() { seconds.clamp(0.0, 1e7) } else { 1e7 };
    now.checked_add(SignedDuration::from_millis((seconds * 1e3) as i64)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approval() -> Approval {
        let corner = |lat, lon| LatLon { lat, lon };
        Approval {
            reference: "粤空 2026-17".to_owned(),
            area: vec![corner(23.0, 113.0), corner(23.0, 113.1), corner(23.1, 113.1), corner(23.1, 113.0)],
            from: "2026-01-01T00:00:00+08:00".parse().unwrap(),
            until: "2026-12-31T23:59:59+08:00".parse().unwrap(),
            daily: Some((Time::constant(6, 0, 0, 0), Time::constant(22, 0, 0, 0))),
            ceiling_m: 120.0,
        }
    }

    fn judged(approvals: &[Approval], from: &str, minutes: i64, height_m: f64, at: LatLon) -> Result<String, String> {
        let from: Timestamp = from.parse().unwrap();
        let until = from + SignedDuration::from_mins(minutes);
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let use_ = Use { dock: LatLon { lat: 23.05, lon: 113.05 }, way: &[at], height_m, from, until };
        covering(approvals, &use_, &zone).map(|a| a.reference.clone())
    }

    const INSIDE: LatLon = LatLon { lat: 23.06, lon: 113.06 };

    #[test]
    fn without_an_approval_nothing_flies() {
        assert!(judged(&[], "2026-06-01T10:00:00+08:00", 10, 60.0, INSIDE).unwrap_err().contains("[[airspace]]"));
    }

    #[test]
    fn volume_window_and_ceiling_all_count() {
        let noon = "2026-06-01T12:00:00+08:00";
        assert_eq!(judged(&[approval()], noon, 20, 120.0, INSIDE).unwrap(), "粤空 2026-17");
        for (from, minutes, height, at, why) in [
            (noon, 20, 120.1, INSIDE, "ceiling"),
            (noon, 20, 60.0, LatLon { lat: 23.2, lon: 113.05 }, "outside"),
            ("2025-12-31T12:00:00+08:00", 20, 60.0, INSIDE, "begins"),
            ("2027-01-01T12:00:00+08:00", 20, 60.0, INSIDE, "ended"),
            ("2026-06-01T05:59:00+08:00", 20, 60.0, INSIDE, "daily"),
            // It would not be down in time.
            ("2026-06-01T21:50:00+08:00", 20, 60.0, INSIDE, "last until"),
        ] {
            let refused = judged(&[approval()], from, minutes, height, at).unwrap_err();
            assert!(refused.contains(why) && refused.contains("粤空"), "{refused}");
        }
    }

    #[test]
    fn an_approval_drawn_exactly_as_the_patrol_covers_it_and_one_drawn_two_metres_narrower_does_not() {
        let frame = LocalFrame::new(LatLon { lat: 23.05, lon: 113.0 });
        // Either way round, closed or not, with an edge that is no side of a box.
        let corners = [(0.0, 0.0), (400.0, 0.0), (400.0, 150.0), (200.0, 250.0), (0.0, 150.0)];
        let at = |(east, north): (f64, f64)| frame.to_latlon(east, north);
        let drawn: Vec<LatLon> = corners.into_iter().map(at).collect();
        let backwards: Vec<LatLon> = drawn.iter().rev().copied().chain([drawn[4]]).collect();
        let way = super::super::plan::cover(&drawn, drawn[0], 40.0);
        let from: Timestamp = "2026-06-01T12:00:00+08:00".parse().unwrap();
        let judged = |area: Vec<LatLon>| {
            let approval = Approval { area, daily: None, ..approval() };
            let use_ = Use { dock: at((5.0, 5.0)), way: &way, height_m: 60.0, from, until: from };
            approval.covers(&use_, &TimeZone::UTC)
        };
        assert_eq!(judged(drawn), Ok(()));
        assert_eq!(judged(backwards), Ok(()));
        let narrower = corners.map(|(east, north)| at((east.clamp(0.0, 398.0), north))).to_vec();
        assert!(judged(narrower).unwrap_err().contains("lie outside its area"));
    }

    #[test]
    fn in_an_area_like_a_u_no_leg_and_no_way_home_cuts_across_its_gap() {
        // North and east in hundredths of a degree; open to the north between 1 and 2 east.
        let at = |(north, east): (f64, f64)| LatLon { lat: 23.0 + north / 100.0, lon: 113.0 + east / 100.0 };
        let u = [
            (0.0, 0.0),
            (0.0, 3.0),
            (3.0, 3.0),
            (3.0, 2.0),
            (1.0, 2.0),
            (1.0, 1.0),
            (3.0, 1.0),
            (3.0, 0.0),
            (0.0, 0.0),
        ];
        let u = Approval { area: u.map(at).to_vec(), daily: None, ..approval() };
        let from: Timestamp = "2026-06-01T12:00:00+08:00".parse().unwrap();
        let judged = |dock, way: &[(f64, f64)]| {
            let way: Vec<LatLon> = way.iter().copied().map(at).collect();
            let use_ = Use { dock: at(dock), way: &way, height_m: 60.0, from, until: from };
            u.covers(&use_, &TimeZone::UTC)
        };
        let (west, south_west, south_east, east) = ((2.0, 0.5), (0.5, 0.5), (0.5, 2.5), (2.0, 2.5));
        assert_eq!(judged(south_west, &[west, south_west, south_east]), Ok(()));
        for (dock, way, fault) in [
            (south_west, &[west, east][..], "the way from waypoint 0 to waypoint 1 leaves its area"),
            (west, &[east], "the way from home to waypoint 0 leaves its area"),
            (west, &[south_west, south_east], "the straight way home from waypoint 1 leaves its area"),
        ] {
            assert_eq!(judged(dock, way), Err(fault.to_owned()));
        }
    }

    #[test]
    fn a_window_may_reach_over_midnight() {
        let night = Approval { daily: Some((Time::constant(22, 0, 0, 0), Time::constant(4, 0, 0, 0))), ..approval() };
        for (from, open) in [("22:30", true), ("23:50", true), ("03:00", true), ("03:50", false), ("12:00", false)] {
            let judged = judged(std::slice::from_ref(&night), &format!("2026-06-01T{from}:00+08:00"), 20, 60.0, INSIDE);
            assert_eq!(judged.is_ok(), open, "{from}: {judged:?}");
        }
    }

    #[test]
    fn every_fault_of_an_approval_is_named() {
        let text = "reference = \" \"\narea = \"gone.geojson\"\nfrom = \"2026-02-01T00:00:00+08:00\"\nuntil = \"2026-01-01T00:00:00+08:00\"\ndaily_from = \"25:00\"\nceiling_m = nan";
        let config: ApprovalConfig = toml::from_str(text).unwrap();
        let keys: Vec<_> = config.load(Path::new(".")).unwrap_err().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["reference", "until", "ceiling_m", "daily_from", "daily_from", "area"]);
    }
}
