//! Pure: what turns a flight round. Fed twice a second with what is known, it says when to go home and why.
//!
//! Only a fresh red counts here: a value that is unknown in the air must not turn a drone round that flies well. What
//! is momentary (a gust, a jump of the position) has to last; what is certain (an order, the battery) counts at once.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::energy::{Draw, EnergyConfig};
use super::gates::Gate;
use crate::geo::{LatLon, distance_m};
use crate::vehicle::Exclusion;
use crate::vehicle::mission::inside;

/// Gates that matter in the air; the others are about the ground or about people.
const IN_THE_AIR: [&str; 7] =
    ["wind", "gust", "rain", "temperature", "visibility", "battery_temperature", "identification"];
/// The estimator is given longer: autopilots carry their position over a short loss by themselves.
const ESTIMATOR: Duration = Duration::from_secs(10);
/// Metres beyond the fence or the ceiling that are still the estimate's own error.
const SLACK_M: f64 = 5.0;
/// Beyond the time without a heartbeat after which the link counts as lost.
const UNHEARD: Duration = Duration::from_secs(1);
const OUTSIDE: Duration = Duration::from_secs(2);
/// On the way home: a drone that climbs, turns or brakes first loses some metres and seconds, one in a gale hundreds.
const BLOWN_M: f64 = 40.0;
const BLOWN_FOR: Duration = Duration::from_secs(20);
/// Nearer than this it is landing, and the estimate's own error matters.
const NEARLY_HOME_M: f64 = 60.0;
/// So much nearer than it was, it makes its way again.
const GAINED_M: f64 = 15.0;
/// A gale may pass; a drone that was carried away for so long does not wait for that any more.
const BLOWN_LIMIT: Duration = Duration::from_secs(60);

/// What is fixed for a flight.
#[derive(Debug, Clone)]
pub struct Rules {
    pub energy: EnergyConfig,
    pub red: Duration,
    pub fence: Vec<LatLon>,
    pub exclusions: Vec<Exclusion>,
    pub ceiling_m: f64,
    pub speed_m_s: f64,
    pub home: LatLon,
}

/// What is known at this moment.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    pub now: Instant,
    pub linked: bool,
    /// Place and height above home, where they are fresh.
    pub place: Option<(LatLon, f64)>,
    pub battery_pct: Option<f64>,
    pub drone_s: Option<f64>,
    pub wind_m_s: Option<f64>,
    pub gates: &'a [Gate],
    /// Wall seconds left of the airspace's window; none when it has ended.
    pub window_left_s: Option<f64>,
}

/// Remembers since when something is red.
#[derive(Debug)]
pub struct Monitor {
    rules: Rules,
    draw: Draw,
    since: BTreeMap<String, Instant>,
    unlinked: Option<Instant>,
    way_home: Option<WayHome>,
}

/// How a drone that comes home gets on.
#[derive(Debug, Clone, Copy)]
struct WayHome {
    /// The nearest it came, and when.
    nearest_m: f64,
    at: Instant,
    /// The farthest it was blown since.
    farthest_m: f64,
    blown_since: Option<Instant>,
}

/// What is wrong with the way home.
#[derive(Debug, Clone, PartialEq)]
pub enum Astray {
    /// It is carried away; people should know.
    BlownAway(String),
    /// It has to come down where it is: lower down the wind is weaker, and farther away nothing gets better.
    Land(String),
}

impl Monitor {
    pub fn new(rules: Rules) -> Monitor {
        Monitor { rules, draw: Draw::default(), since: BTreeMap::new(), unlinked: None, way_home: None }
    }

    /// Why the drone has to come home now; none while it may go on.
    pub fn look(&mut self, seen: &Seen) -> Option<String> {
        if let Some(reason) = self.link(seen) {
            return Some(reason);
        }
        if let (Some(drone_s), Some(pct)) = (seen.drone_s, seen.battery_pct) {
            self.draw.observe(drone_s, pct);
        }
        self.red_gate(seen).or_else(|| self.outside(seen)).or_else(|| self.energy(seen)).or_else(|| self.window(seen))
    }

    /// What is wrong with the way home; none while it gets nearer, or while nobody knows.
    pub fn homeward(&mut self, seen: &Seen) -> Option<Astray> {
        let (at, _) = seen.place.filter(|_| seen.linked)?;
        let distance = distance_m(at, self.rules.home);
        let anew = WayHome { nearest_m: distance, at: seen.now, farthest_m: distance, blown_since: None };
        let way = self.way_home.get_or_insert(anew);
        way.farthest_m = way.farthest_m.max(distance);
        if distance <= way.nearest_m || distance < way.farthest_m - GAINED_M {
            *way = anew;
        }
        let blown = distance > NEARLY_HOME_M
            && distance > way.nearest_m + BLOWN_M
            && seen.now.saturating_duration_since(way.at) >= BLOWN_FOR;
        if !blown {
            return None;
        }
        let since = *way.blown_since.get_or_insert(seen.now);
        let words = format!("it is carried away: {distance:.0} m from the dock, it had come to {:.0} m", way.nearest_m);
        let beyond = self.beyond_fence_m(at);
        let reserve = self.rules.energy.reserve_pct;
        let why = if beyond > SLACK_M {
            format!("{beyond:.0} m outside the geofence")
        } else if seen.battery_pct.is_some_and(|pct| pct <= reserve) {
            format!("no more than the reserve of {reserve:.0} % is left")
        } else if seen.now.saturating_duration_since(since) >= BLOWN_LIMIT {
            format!("for more than {} s", BLOWN_LIMIT.as_secs())
        } else {
            return Some(Astray::BlownAway(words));
        };
        Some(Astray::Land(format!("{words}; {why}; landing where it is")))
    }

    fn beyond_fence_m(&self, at: LatLon) -> f64 {
        if self.rules.fence.len() < 3 || inside(at, &self.rules.fence) {
            return 0.0;
        }
        distance_to_ring_m(at, &self.rules.fence)
    }

    /// A drone that is not heard is called home all the same: it may hear us, and then its own failsafe sees no reason
    /// to act.
    fn link(&mut self, seen: &Seen) -> Option<String> {
        if !seen.linked {
            let since = *self.unlinked.get_or_insert(seen.now);
            let silent = seen.now.saturating_duration_since(since);
            return (silent >= UNHEARD).then(|| "the drone is not heard any more".to_owned());
        }
        let silent = seen.now.saturating_duration_since(self.unlinked.take()?);
        Some(format!("the link was lost for {:.0} s", silent.as_secs_f64()))
    }

    fn red_gate(&mut self, seen: &Seen) -> Option<String> {
        for gate in seen.gates {
            let patience = match gate.gate.as_str() {
                "estimator" => ESTIMATOR,
                name if IN_THE_AIR.contains(&name) => self.rules.red,
                _ => continue,
            };
            let red = gate.passed == Some(false);
            if self.lasts(&gate.gate, red, patience, seen.now) {
                return Some(format!("{} turned red: {}", gate.gate, gate.reason));
            }
        }
        None
    }

    fn outside(&mut self, seen: &Seen) -> Option<String> {
        let (at, height_m) = seen.place?;
        let beyond = self.beyond_fence_m(at);
        if self.lasts("fence", beyond > SLACK_M, OUTSIDE, seen.now) {
            return Some(format!("{beyond:.0} m outside the geofence"));
        }
        let deepest = self.rules.exclusions.iter().map(|e| within_m(at, e)).fold(0.0, f64::max);
        if self.lasts("no_fly", deepest > SLACK_M, OUTSIDE, seen.now) {
            return Some(format!("{deepest:.0} m inside of where no flight may go ([[no_fly]])"));
        }
        let ceiling_m = self.rules.ceiling_m;
        if self.lasts("ceiling", height_m > ceiling_m + SLACK_M, OUTSIDE, seen.now) {
            return Some(format!("{height_m:.0} m is above the ceiling of {ceiling_m:.0} m"));
        }
        None
    }

    fn energy(&self, seen: &Seen) -> Option<String> {
        let (pct, (at, height_m)) = (seen.battery_pct?, seen.place?);
        let Rules { energy, speed_m_s, home, .. } = &self.rules;
        let wind = seen.wind_m_s.unwrap_or_default();
        let distance = distance_m(at, *home);
        let Some(seconds) = energy.home_s(distance, height_m, *speed_m_s, wind) else {
            return Some(format!("wind {wind:.1} m/s leaves no way home at {:.0} m/s", energy.max_airspeed_m_s));
        };
        let rate = self.draw.rate(energy.stated_rate());
        let need = seconds * rate;
        (pct < need + energy.reserve_pct).then(|| {
            format!(
                "{pct:.0} % left, the way home of {distance:.0} m takes {need:.0} % at {:.1} % a minute and {:.0} % stay in reserve",
                rate * 60.0,
                energy.reserve_pct
            )
        })
    }

    fn window(&self, seen: &Seen) -> Option<String> {
        let Some(left) = seen.window_left_s else { return Some("the approved window has ended".to_owned()) };
        let (at, height_m) = seen.place?;
        let wind = seen.wind_m_s.unwrap_or_default();
        let way = self.rules.energy.home_s(distance_m(at, self.rules.home), height_m, self.rules.speed_m_s, wind)?;
        (left < way * 1.2).then(|| format!("the approved window ends in {left:.0} s, the way home takes {way:.0} s"))
    }

    /// Whether `red` has lasted for `patience`.
    fn lasts(&mut self, what: &str, red: bool, patience: Duration, now: Instant) -> bool {
        if !red {
            self.since.remove(what);
            return false;
        }
        let since = *self.since.entry(what.to_owned()).or_insert(now);
        now.saturating_duration_since(since) >= patience
    }
}

/// How far inside it is; 0 outside.
fn within_m(at: LatLon, exclusion: &Exclusion) -> f64 {
    match exclusion {
        Exclusion::Circle { centre, radius_m } => (radius_m - distance_m(at, *centre)).max(0.0),
        Exclusion::Polygon { vertices } if inside(at, vertices) => distance_to_ring_m(at, vertices),
        Exclusion::Polygon { .. } => 0.0,
    }
}

/// Metres from `at` to the nearest edge.
fn distance_to_ring_m(at: LatLon, ring: &[LatLon]) -> f64 {
    let frame = crate::geo::LocalFrame::new(at);
    let points: Vec<[f64; 2]> = ring.iter().map(|p| frame.to_enu(*p)).collect();
    (0..points.len())
        .map(|i| {
            let (a, b) = (points[i], points[(i + 1) % points.len()]);
            let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
            let along = (-(a[0] * dx + a[1] * dy) / (dx * dx + dy * dy).max(1e-9)).clamp(0.0, 1.0);
            (a[0] + along * dx).hypot(a[1] + along * dy)
        })
        .fold(f64::MAX, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::LocalFrame;

    const HOME: LatLon = LatLon { lat: 23.05, lon: 113.0 };

    fn place(east: f64, north: f64) -> LatLon {
        LocalFrame::new(HOME).to_latlon(east, north)
    }

    fn monitor() -> Monitor {
        let fence = [(-300.0, -300.0), (300.0, -300.0), (300.0, 300.0), (-300.0, 300.0)].map(|(e, n)| place(e, n));
        Monitor::new(Rules {
            energy: EnergyConfig::default(),
            red: Duration::from_secs(3),
            fence: fence.to_vec(),
            exclusions: vec![Exclusion::Circle { centre: place(-200.0, -200.0), radius_m: 50.0 }],
            ceiling_m: 120.0,
            speed_m_s: 8.0,
            home: HOME,
        })
    }

    fn seen(now: Instant) -> Seen<'static> {
        Seen {
            now,
            linked: true,
            place: Some((place(100.0, 100.0), 80.0)),
            battery_pct: Some(80.0),
            drone_s: Some(0.0),
            wind_m_s: Some(3.0),
            gates: &[],
            window_left_s: Some(3600.0),
        }
    }

    fn gate(name: &str, passed: Option<bool>) -> [Gate; 1] {
        [Gate { gate: name.to_owned(), passed, reason: "said a test".to_owned() }]
    }

    /// The first reason within `seconds`, and when.
    fn first(monitor: &mut Monitor, seconds: u64, at: impl Fn(Instant, u64) -> Seen<'static>) -> Option<(u64, String)> {
        let start = Instant::now();
        (0..=seconds).find_map(|s| {
            let reason = monitor.look(&at(start + Duration::from_secs(s), s))?;
            Some((s, reason))
        })
    }

    #[tokio::test]
    async fn a_calm_flight_goes_on() {
        let told = first(&mut monitor(), 300, |now, s| Seen {
            drone_s: Some(s as f64),
            battery_pct: Some(80.0 - s as f64 / 15.0),
            ..seen(now)
        });
        assert_eq!(told, None);
    }

    #[tokio::test]
    async fn a_red_gate_turns_it_round_when_it_lasts_and_an_unknown_one_never() {
        for name in IN_THE_AIR {
            let red = gate(name, Some(false));
            let red: &'static [Gate] = Box::leak(Box::new(red));
            let (after, reason) = first(&mut monitor(), 60, |now, _| Seen { gates: red, ..seen(now) }).unwrap();
            assert_eq!(after, 3);
            assert!(reason.starts_with(name), "{reason}");
            let unknown: &'static [Gate] = Box::leak(Box::new(gate(name, None)));
            assert_eq!(first(&mut monitor(), 60, |now, _| Seen { gates: unknown, ..seen(now) }), None);
        }
        let gusty: &'static [Gate] = Box::leak(Box::new(gate("gust", Some(false))));
        let calm: &'static [Gate] = Box::leak(Box::new(gate("gust", Some(true))));
        let now_and_then = |now, s: u64| Seen { gates: if s % 3 == 2 { calm } else { gusty }, ..seen(now) };
        assert_eq!(first(&mut monitor(), 60, now_and_then), None);
    }

    #[tokio::test]
    async fn gates_about_people_and_the_ground_leave_a_flight_alone() {
        for name in ["hold", "maintenance", "dock", "storage", "clock", "battery", "on_ground"] {
            let red: &'static [Gate] = Box::leak(Box::new(gate(name, Some(false))));
            assert_eq!(first(&mut monitor(), 60, |now, _| Seen { gates: red, ..seen(now) }), None, "{name}");
        }
    }

    #[tokio::test]
    async fn the_fence_and_the_ceiling_hold_in_the_air() {
        let (after, reason) =
            first(&mut monitor(), 60, |now, _| Seen { place: Some((place(310.0, 0.0), 80.0)), ..seen(now) }).unwrap();
        assert_eq!((after, reason.as_str()), (2, "10 m outside the geofence"));
        let near = |now, _| Seen { place: Some((place(303.0, 0.0), 80.0)), ..seen(now) };
        assert_eq!(first(&mut monitor(), 60, near), None);
        let (after, reason) =
            first(&mut monitor(), 60, |now, _| Seen { place: Some((place(-200.0, -180.0), 80.0)), ..seen(now) })
                .unwrap();
        assert_eq!((after, reason.as_str()), (2, "30 m inside of where no flight may go ([[no_fly]])"));
        let beside = |now, _| Seen { place: Some((place(-200.0, -153.0), 80.0)), ..seen(now) };
        assert_eq!(first(&mut monitor(), 60, beside), None);
        let high = |now, _| Seen { place: Some((place(0.0, 0.0), 126.0)), ..seen(now) };
        assert!(first(&mut monitor(), 60, high).unwrap().1.contains("ceiling"));
    }

    #[tokio::test]
    async fn it_turns_round_while_the_way_home_is_still_in_the_battery() {
        // 5000 m away at 8 m/s with 3 m/s of wind: 625 s, and 53 s down.
        let far = Some((place(5000.0, 0.0), 80.0));
        let mut m = Monitor::new(Rules { fence: Vec::new(), ..monitor().rules });
        let at = |pct| Seen { place: far, battery_pct: Some(pct), ..seen(Instant::now()) };
        let need = (5000.0 / 8.0 + 80.0 / 1.5) * EnergyConfig::default().stated_rate() + 20.0;
        assert_eq!(m.look(&at(need + 1.0)), None);
        assert!(m.look(&at(need - 1.0)).unwrap().contains("way home"));
        // Drawing three times what is stated, it turns round with more left.
        let mut hungry = Monitor::new(Rules { fence: Vec::new(), ..monitor().rules });
        let told = first(&mut hungry, 400, |now, s| Seen {
            place: Some((place(800.0, 0.0), 80.0)),
            drone_s: Some(s as f64),
            battery_pct: Some(95.0 - 0.2 * s as f64),
            ..seen(now)
        });
        let (after, _) = told.unwrap();
        // 153 s home at 0.2 % a second is 31 %, with the reserve 51 %.
        assert!((200..=225).contains(&after), "{after}");
    }

    #[tokio::test]
    async fn a_drone_that_is_not_heard_is_called_home_all_the_same() {
        let told = first(&mut monitor(), 60, |now, s| Seen { linked: !(10..20).contains(&s), ..seen(now) });
        assert_eq!(told.unwrap(), (11, "the drone is not heard any more".to_owned()));
        // Heard again before that, it comes home as well: nobody knows what it missed.
        let told = first(&mut monitor(), 60, |now, s| Seen { linked: s != 10, ..seen(now) });
        assert_eq!(told.unwrap(), (11, "the link was lost for 1 s".to_owned()));
    }

    /// What is said of a way home that goes so, metres from home second by second.
    fn home_from(monitor: &mut Monitor, way: &[(u64, f64)], pct: f64) -> Vec<(u64, Astray)> {
        let start = Instant::now();
        let end = way.last().map_or(0, |(s, _)| *s);
        let at = |s: u64| {
            let next = way.iter().position(|(t, _)| *t > s).unwrap_or(way.len() - 1).max(1);
            let ((t0, m0), (t1, m1)) = (way[next - 1], way[next]);
            m0 + (m1 - m0) * ((s.min(t1) - t0) as f64 / (t1 - t0) as f64)
        };
        let mut told: Vec<(u64, Astray)> = Vec::new();
        for s in 0..=end {
            let seen = Seen {
                place: Some((place(0.0, at(s)), 80.0)),
                battery_pct: Some(pct),
                ..seen(start + Duration::from_secs(s))
            };
            let Some(astray) = monitor.homeward(&seen) else { continue };
            let kind = std::mem::discriminant(&astray);
            if told.last().is_none_or(|(_, last)| std::mem::discriminant(last) != kind) {
                told.push((s, astray));
            }
        }
        told
    }

    #[tokio::test]
    async fn an_ordinary_way_home_alarms_nobody() {
        // It overshoots, climbs for a minute, comes home and lands a little beside.
        let way = [(0, 150.0), (5, 175.0), (65, 175.0), (90, 0.0), (150, 3.0), (160, 0.0)];
        assert_eq!(home_from(&mut monitor(), &way, 60.0), []);
        // A gust of half a minute that it makes up for again.
        let way = [(0, 150.0), (30, 185.0), (60, 0.0)];
        assert_eq!(home_from(&mut monitor(), &way, 60.0), []);
    }

    #[tokio::test]
    async fn a_drone_that_is_carried_away_is_told_of_and_comes_down_before_the_fence_is_far() {
        let told = home_from(&mut monitor(), &[(0, 100.0), (200, 700.0)], 60.0);
        let [(alarm, Astray::BlownAway(words)), (land, Astray::Land(why))] = &told[..] else { panic!("{told:?}") };
        assert_eq!(*alarm, 20);
        assert!(words.contains("160 m from the dock"), "{words}");
        // 3 m/s, and the fence is 300 m away.
        assert!((67..=70).contains(land) && why.contains("outside the geofence"), "{land}: {why}");
    }

    #[tokio::test]
    async fn a_drone_that_only_just_loses_waits_a_minute_and_one_without_reserve_not_at_all() {
        let way = [(0, 100.0), (400, 300.0)];
        let told = home_from(&mut monitor(), &way, 60.0);
        assert!(matches!(told[..], [(81, Astray::BlownAway(_)), (141, Astray::Land(_))]), "{told:?}");
        let told = home_from(&mut monitor(), &way, 19.0);
        assert!(matches!(told[..], [(81, Astray::Land(_))]), "{told:?}");
    }

    #[tokio::test]
    async fn a_gale_that_passes_lets_it_come_home() {
        let way = [(0, 100.0), (40, 220.0), (100, 0.0)];
        let told = home_from(&mut monitor(), &way, 60.0);
        assert!(matches!(told[..], [(20, Astray::BlownAway(_))]), "{told:?}");
        // Not knowing where it is says nothing.
        let mut m = monitor();
        let start = Instant::now();
        let lost = |s: u64| Seen { place: None, ..seen(start + Duration::from_secs(s)) };
        assert!((0..300).all(|s| m.homeward(&lost(s)).is_none()));
    }

    #[tokio::test]
    async fn the_approved_window_is_kept_with_the_way_home_in_mind() {
        let mut m = monitor();
        let at = |left| Seen { window_left_s: left, ..seen(Instant::now()) };
        assert_eq!(m.look(&at(Some(200.0))), None);
        assert!(m.look(&at(Some(60.0))).unwrap().contains("window ends"));
        assert!(m.look(&at(None)).unwrap().contains("has ended"));
    }
}
