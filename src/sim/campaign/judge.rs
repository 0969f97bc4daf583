//! Judges a sortie by what truly happened: pure, from a trace of the simulator. The station's own words are not heard here.

use serde::{Deserialize, Serialize};

/// How things truly stood at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Wall seconds since the beginning.
    pub t_s: f64,
    pub armed: bool,
    pub in_air: bool,
    /// Returning or landing, whoever asked for it.
    pub coming_home: bool,
    pub in_dock: bool,
    pub crashed: bool,
    /// The mission was flown up to its return.
    pub mission_flown: bool,
    pub arms: u32,
    pub launches: u32,
    pub up_m: f64,
    pub away_m: f64,
    /// It holds a fence that it would act on, and how far outside of it it is.
    pub fenced: bool,
    pub outside_m: f64,
    pub battery_pct: f64,
    pub satellites: u8,
    pub position_ok: bool,
    pub wind_m_s: f64,
    pub gust_m_s: f64,
    pub rain_mm_h: f64,
    /// 0 closed, 1 open.
    pub hatch: f64,
    /// The drone hears the station, the station hears the drone.
    pub link_up: bool,
    pub link_down: bool,
    pub station_alive: bool,
    /// How far the station's wall clock is off.
    pub clock_off_s: f64,
}

/// Something was asked of the hatch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HatchAsked {
    pub t_s: f64,
    pub open: bool,
    pub in_dock: bool,
    pub armed: bool,
}

/// All that is known of a sortie.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    pub samples: Vec<Sample>,
    pub hatch: Vec<HatchAsked>,
    /// Commands to fly that were given, each counted once however often it arrived.
    pub commands: u32,
}

/// What the gates allow, and how long a broken limit may go unanswered. Wall seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    pub wind_m_s: f64,
    pub gust_m_s: f64,
    pub rain_mm_h: f64,
    pub launch_battery_pct: f64,
    /// In the air it must be on its way home below this.
    pub return_battery_pct: f64,
    pub satellites: u8,
    pub clock_off_s: f64,
    /// Until a sensor's value can have been read: a limit broken for a shorter time is not known to anybody.
    pub sensing_s: f64,
    /// Weather is read once a second, and must be red for three before a gust turns a flight round.
    pub weather_reaction_s: f64,
    pub battery_reaction_s: f64,
    /// The drone's own failsafe takes 5 s and a heartbeat; the station's link loss as long.
    pub link_reaction_s: f64,
    /// Without satellites the autopilot's estimator holds on for 11 simulated seconds.
    pub position_reaction_s: f64,
    pub fence_reaction_s: f64,
    /// Positions are known so well.
    pub fence_margin_m: f64,
}

impl Rules {
    /// The limits of the simulated station's configuration, at so many simulated seconds a second.
    pub fn at_speed(speed: f64) -> Rules {
        Rules {
            wind_m_s: 10.0,
            gust_m_s: 16.0,
            rain_mm_h: 0.5,
            launch_battery_pct: 60.0,
            return_battery_pct: 20.0,
            satellites: 8,
            clock_off_s: 5.0,
            sensing_s: 3.0,
            weather_reaction_s: 8.0,
            battery_reaction_s: 6.0,
            link_reaction_s: 10.0,
            position_reaction_s: 5.0 + 11.0 / speed.max(0.1),
            fence_reaction_s: 4.0,
            fence_margin_m: 5.0,
        }
    }
}

/// How a sortie truly ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its mission flown, back in the closed dock.
    Flown,
    /// Back in the closed dock before its mission was flown.
    CameHomeEarly,
    /// Never left the ground, and the dock is closed.
    StayedDown,
    /// Safe on its platform, but the hatch is not closed.
    InOpenDock,
    /// Down and disarmed, but not in the dock.
    LandedAway,
    /// Fell.
    Crashed,
    /// Still in the air when time was up.
    StillAloft,
}

impl Outcome {
    pub const ALL: [Outcome; 7] = [
        Outcome::Flown,
        Outcome::CameHomeEarly,
        Outcome::StayedDown,
        Outcome::InOpenDock,
        Outcome::LandedAway,
        Outcome::Crashed,
        Outcome::StillAloft,
    ];

    pub fn words(self) -> &'static str {
        match self {
            Outcome::Flown => "flown",
            Outcome::CameHomeEarly => "came home early",
            Outcome::StayedDown => "stayed down",
            Outcome::InOpenDock => "in the open dock",
            Outcome::LandedAway => "landed away",
            Outcome::Crashed => "crashed",
            Outcome::StillAloft => "still aloft",
        }
    }
}

/// What must never happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    ArmedWithRedGate,
    OutsideFence,
    ClosedOnNothing,
    OpenedInRain,
    FlewOnBeyondLimit,
    SecondLaunch,
    Crashed,
    StillAloft,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unsafe {
    pub kind: Kind,
    pub t_s: f64,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub outcome: Outcome,
    #[serde(rename = "unsafe")]
    pub faults: Vec<Unsafe>,
}

pub fn judge(trace: &Trace, rules: &Rules) -> Verdict {
    let mut faults = Vec::new();
    armed_with_red_gates(trace, rules, &mut faults);
    hatch(trace, rules, &mut faults);
    beyond_limits(trace, rules, &mut faults);
    let launches = trace.samples.iter().map(|s| s.launches).max().unwrap_or(0);
    if launches > trace.commands {
        let at = trace.samples.iter().find(|s| s.launches > trace.commands).map_or(0.0, |s| s.t_s);
        let why = format!("{launches} launches from {} command", trace.commands);
        faults.push(Unsafe { kind: Kind::SecondLaunch, t_s: at, why });
    }
    let outcome = outcome(trace);
    faults.extend(unsafe_end(trace, outcome));
    faults.sort_by(|a, b| a.t_s.total_cmp(&b.t_s));
    Verdict { outcome, faults }
}

/// Whatever was thrown at it, a drone comes down, and not by falling. Where it lands is not judged: without satellites no
/// station can choose that.
fn unsafe_end(trace: &Trace, outcome: Outcome) -> Option<Unsafe> {
    match outcome {
        Outcome::Crashed => {
            let at = trace.samples.iter().find(|s| s.crashed)?;
            Some(Unsafe { kind: Kind::Crashed, t_s: at.t_s, why: "it fell".to_owned() })
        }
        Outcome::StillAloft => {
            let at = trace.samples.last()?;
            Some(Unsafe { kind: Kind::StillAloft, t_s: at.t_s, why: "still in the air when time was up".to_owned() })
        }
        _ => None,
    }
}

fn outcome(trace: &Trace) -> Outcome {
    let Some(last) = trace.samples.last() else { return Outcome::StayedDown };
    let closed = last.hatch <= 0.0;
    if trace.samples.iter().any(|s| s.crashed) {
        Outcome::Crashed
    } else if last.armed || last.in_air {
        Outcome::StillAloft
    } else if !last.in_dock {
        Outcome::LandedAway
    } else if !closed {
        Outcome::InOpenDock
    } else if last.launches == 0 {
        Outcome::StayedDown
    } else if last.mission_flown {
        Outcome::Flown
    } else {
        Outcome::CameHomeEarly
    }
}

/// Since when something holds without a break, up to sample `index`; none where it does not hold there.
fn since(samples: &[Sample], index: usize, holds: impl Fn(&Sample) -> bool) -> Option<f64> {
    let from = samples[..=index].iter().rposition(|s| !holds(s)).map_or(0, |before| before + 1);
    samples.get(from).filter(|_| from <= index).map(|s| s.t_s)
}

type Limit<'a> = (&'static str, f64, Box<dyn Fn(&Sample) -> bool + 'a>);

fn armed_with_red_gates(trace: &Trace, rules: &Rules, faults: &mut Vec<Unsafe>) {
    let known = rules.sensing_s;
    let gates: [Limit; 6] = [
        ("wind above its limit", known, Box::new(|s| s.wind_m_s > rules.wind_m_s)),
        ("gusts above their limit", known, Box::new(|s| s.gust_m_s > rules.gust_m_s)),
        ("rain above its limit", known, Box::new(|s| s.rain_mm_h > rules.rain_mm_h)),
        ("battery below its limit", known, Box::new(|s| s.battery_pct < rules.launch_battery_pct)),
        ("too few satellites", known, Box::new(|s| s.satellites < rules.satellites)),
        ("its clock off", known, Box::new(|s| s.clock_off_s.abs() > rules.clock_off_s)),
    ];
    for index in 1..trace.samples.len() {
        let (before, now) = (&trace.samples[index - 1], &trace.samples[index]);
        if now.arms <= before.arms {
            continue;
        }
        for (what, allowance, broken) in &gates {
            // As it was before the arming: arming itself changes some of it.
            if since(&trace.samples, index - 1, broken).is_some_and(|from| now.t_s - from > *allowance) {
                let why = format!("armed with {what}");
                faults.push(Unsafe { kind: Kind::ArmedWithRedGate, t_s: now.t_s, why });
            }
        }
        // Nothing to sense here, the station did both itself. Seen with the first sample that shows it armed: the one
        // before shows a hatch that still moved its last hand's breadth, and arming moves neither.
        for (what, broken) in [("the hatch not open", now.hatch < 1.0), ("no fence on board", !now.fenced)] {
            if broken {
                let why = format!("armed with {what}");
                faults.push(Unsafe { kind: Kind::ArmedWithRedGate, t_s: now.t_s, why });
            }
        }
    }
}

fn hatch(trace: &Trace, rules: &Rules, faults: &mut Vec<Unsafe>) {
    for asked in &trace.hatch {
        let Some(index) = trace.samples.iter().rposition(|s| s.t_s <= asked.t_s) else { continue };
        if !asked.open && (!asked.in_dock || asked.armed) {
            let what = if asked.in_dock { "an armed drone" } else { "an empty platform" };
            let why = format!("the hatch was told to close on {what}");
            faults.push(Unsafe { kind: Kind::ClosedOnNothing, t_s: asked.t_s, why });
        }
        // With the drone inside an opening is for a launch; one that is out always gets its dock.
        let raining = since(&trace.samples, index, |s| s.rain_mm_h > rules.rain_mm_h);
        if asked.open && asked.in_dock && !asked.armed && raining.is_some_and(|from| asked.t_s - from > rules.sensing_s)
        {
            let why = format!("the hatch was told to open for a launch in {:.1} mm/h", trace.samples[index].rain_mm_h);
            faults.push(Unsafe { kind: Kind::OpenedInRain, t_s: asked.t_s, why });
        }
    }
}

fn beyond_limits(trace: &Trace, rules: &Rules, faults: &mut Vec<Unsafe>) {
    let limits: [Limit; 6] = [
        ("wind", rules.weather_reaction_s, Box::new(|s| s.wind_m_s > rules.wind_m_s)),
        ("gusts", rules.weather_reaction_s, Box::new(|s| s.gust_m_s > rules.gust_m_s)),
        ("rain", rules.weather_reaction_s, Box::new(|s| s.rain_mm_h > rules.rain_mm_h)),
        (
            "a battery that cannot last",
            rules.battery_reaction_s,
            Box::new(|s| s.battery_pct < rules.return_battery_pct),
        ),
        ("a lost link", rules.link_reaction_s, Box::new(|s| !s.link_up || !s.link_down)),
        ("no satellites", rules.position_reaction_s, Box::new(|s| s.satellites < rules.satellites)),
    ];
    let outside: Limit =
        ("outside the fence", rules.fence_reaction_s, Box::new(|s| s.fenced && s.outside_m > rules.fence_margin_m));
    for (kind, (what, reaction, broken)) in
        limits.iter().map(|l| (Kind::FlewOnBeyondLimit, l)).chain([(Kind::OutsideFence, &outside)])
    {
        let flies_on = |s: &Sample| s.armed && s.in_air && !s.coming_home && broken(s);
        let late = (0..trace.samples.len()).find(|index| {
            since(&trace.samples, *index, flies_on).is_some_and(|from| trace.samples[*index].t_s - from > *reaction)
        });
        if let Some(index) = late {
            let why = match kind {
                Kind::OutsideFence => {
                    format!("{:.0} m outside the fence and not on its way back", trace.samples[index].outside_m)
                }
                _ => format!("flew on for more than {reaction:.1} s with {what}"),
            };
            faults.push(Unsafe { kind, t_s: trace.samples[index].t_s, why });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In its closed dock on a fine day.
    fn docked(t_s: f64) -> Sample {
        Sample {
            t_s,
            armed: false,
            in_air: false,
            coming_home: false,
            in_dock: true,
            crashed: false,
            mission_flown: false,
            arms: 0,
            launches: 0,
            up_m: 0.0,
            away_m: 0.0,
            fenced: true,
            outside_m: 0.0,
            battery_pct: 100.0,
            satellites: 18,
            position_ok: true,
            wind_m_s: 3.0,
            gust_m_s: 4.0,
            rain_mm_h: 0.0,
            hatch: 0.0,
            link_up: true,
            link_down: true,
            station_alive: true,
            clock_off_s: 0.0,
        }
    }

    fn armed(s: Sample) -> Sample {
        Sample { armed: true, arms: 1, hatch: 1.0, ..s }
    }

    fn aloft(s: Sample) -> Sample {
        Sample { in_air: true, in_dock: false, launches: 1, up_m: 30.0, away_m: 60.0, ..armed(s) }
    }

    fn home(s: Sample) -> Sample {
        Sample { arms: 1, launches: 1, ..s }
    }

    /// A sample every half second: 5 s in the dock, 5 s open, armed at 10 s, up at 12 s, turned for home at 30 s, down at
    /// 40 s, closed at 45 s, watched until 50 s.
    fn good(change: impl Fn(&mut Sample)) -> Trace {
        let sample = |i: u32| {
            let t = f64::from(i) / 2.0;
            let mut s = docked(t);
            s = match t {
                t if t < 5.0 => s,
                t if t < 10.0 => Sample { hatch: 1.0, ..s },
                t if t < 12.0 => armed(s),
                t if t < 30.0 => aloft(s),
                t if t < 40.0 => Sample { coming_home: true, mission_flown: true, ..aloft(s) },
                t if t < 45.0 => Sample { hatch: 1.0, mission_flown: true, ..home(s) },
                _ => Sample { mission_flown: true, ..home(s) },
            };
            change(&mut s);
            s
        };
        let hatch = vec![
            HatchAsked { t_s: 5.0, open: true, in_dock: true, armed: false },
            HatchAsked { t_s: 41.0, open: false, in_dock: true, armed: false },
        ];
        Trace { samples: (0..=100).map(sample).collect(), hatch, commands: 1 }
    }

    fn judged(trace: &Trace) -> (Outcome, Vec<Kind>) {
        let verdict = judge(trace, &Rules::at_speed(4.0));
        (verdict.outcome, verdict.faults.into_iter().map(|f| f.kind).collect())
    }

    #[test]
    fn a_good_sortie_is_flown_and_safe() {
        assert_eq!(judged(&good(|_| {})), (Outcome::Flown, vec![]));
    }

    #[test]
    fn each_end_is_told_from_the_others() {
        let end = |change: fn(&mut Sample)| {
            judged(&good(move |s| {
                if s.t_s > 40.0 {
                    change(s)
                }
            }))
        };
        assert_eq!(judged(&good(|s| s.mission_flown = false)).0, Outcome::CameHomeEarly);
        assert_eq!(end(|s| s.hatch = 0.7), (Outcome::InOpenDock, vec![]));
        assert_eq!(end(|s| s.crashed = true).0, Outcome::Crashed);
        assert_eq!(end(|s| *s = aloft(docked(s.t_s))).0, Outcome::StillAloft);
        assert_eq!(judged(&good(|s| *s = docked(s.t_s))).0, Outcome::StayedDown);
        assert_eq!(judged(&Trace::default()).0, Outcome::StayedDown);
    }

    #[test]
    fn to_fall_or_to_stay_aloft_is_unsafe_and_to_land_elsewhere_is_not() {
        let end = |change: fn(&mut Sample)| {
            let mut trace = good(move |s| {
                if s.t_s > 38.0 {
                    change(s)
                }
            });
            trace.hatch.truncate(1);
            judged(&trace)
        };
        assert_eq!(end(|s| s.in_dock = false), (Outcome::LandedAway, vec![]));
        assert_eq!(end(|s| s.crashed = true), (Outcome::Crashed, vec![Kind::Crashed]));
        let aloft = end(|s| *s = Sample { coming_home: true, ..aloft(docked(s.t_s)) });
        assert_eq!(aloft, (Outcome::StillAloft, vec![Kind::StillAloft]));
        let fell = judge(&good(|s| s.crashed = s.t_s > 38.0), &Rules::at_speed(4.0));
        assert_eq!(fell.faults[0].t_s, 38.5, "when it fell, not when that was noticed");
    }

    #[test]
    fn arming_with_a_gate_that_was_red_for_longer_than_it_takes_to_sense_is_unsafe() {
        let table: [fn(&mut Sample); 6] = [
            |s| s.wind_m_s = 11.0,
            |s| s.gust_m_s = 17.0,
            |s| s.rain_mm_h = 1.0,
            |s| s.battery_pct = 50.0,
            |s| s.satellites = 5,
            |s| s.clock_off_s = -60.0,
        ];
        for (row, broken) in table.into_iter().enumerate() {
            let red = |from: f64, to: f64| {
                judged(&good(move |s| {
                    if s.t_s >= from && s.t_s < to {
                        broken(s)
                    }
                }))
                .1
            };
            assert_eq!(red(6.0, 10.5), [Kind::ArmedWithRedGate], "row {row}");
            assert_eq!(red(8.0, 10.5), [], "row {row}: nobody can have known");
            assert_eq!(red(6.0, 9.0), [], "row {row}: green again");
        }
        assert_eq!(
            judged(&good(|s| if s.t_s < 11.0 {
                s.hatch = 0.9
            }))
            .1,
            [Kind::ArmedWithRedGate]
        );
        assert_eq!(judged(&good(|s| s.fenced = false)).1, [Kind::ArmedWithRedGate]);
    }

    #[test]
    fn the_hatch_closes_on_the_drone_only_and_opens_for_a_launch_when_it_is_dry() {
        let with = |asked: HatchAsked, change: fn(&mut Sample)| {
            let mut trace = good(change);
            trace.hatch.push(asked);
            judged(&trace).1
        };
        let close = HatchAsked { t_s: 20.0, open: false, in_dock: false, armed: true };
        assert_eq!(with(close, |_| {}), [Kind::ClosedOnNothing]);
        assert_eq!(with(HatchAsked { t_s: 11.0, in_dock: true, ..close }, |_| {}), [Kind::ClosedOnNothing]);
        let rain = |s: &mut Sample| {
            if s.t_s < 9.0 {
                s.rain_mm_h = 3.0
            }
        };
        assert_eq!(judged(&good(rain)).1, [Kind::OpenedInRain]);
        let open = HatchAsked { t_s: 35.0, open: true, in_dock: false, armed: true };
        assert_eq!(
            with(open, |s| if s.t_s > 29.0 {
                s.rain_mm_h = 3.0
            }),
            [],
            "a landing always gets its dock"
        );
    }

    #[test]
    fn flying_on_beyond_a_limit_is_unsafe_after_its_reaction_time_and_not_before() {
        let rules = Rules::at_speed(4.0);
        type Spoil = fn(&mut Sample);
        let table: [(f64, Spoil); 7] = [
            (rules.weather_reaction_s, |s| s.wind_m_s = 11.0),
            (rules.weather_reaction_s, |s| s.gust_m_s = 17.0),
            (rules.weather_reaction_s, |s| s.rain_mm_h = 1.0),
            (rules.battery_reaction_s, |s| s.battery_pct = 19.0),
            (rules.link_reaction_s, |s| s.link_up = false),
            (rules.link_reaction_s, |s| s.link_down = false),
            (rules.position_reaction_s, |s| s.satellites = 0),
        ];
        for (row, (reaction, broken)) in table.into_iter().enumerate() {
            let flown = |from: f64| {
                judged(&good(move |s| {
                    if s.t_s >= from && s.t_s < 40.0 {
                        broken(s)
                    }
                }))
                .1
            };
            assert_eq!(flown(30.0 - reaction - 1.5), [Kind::FlewOnBeyondLimit], "row {row}");
            assert_eq!(flown(30.0 - reaction + 0.5), [], "row {row}");
        }
    }

    #[test]
    fn outside_the_fence_without_an_abort_is_unsafe_and_a_metre_of_error_is_not() {
        let out = |metres: f64| {
            judged(&good(move |s| {
                if s.t_s > 20.0 && s.t_s < 35.0 {
                    s.outside_m = metres
                }
            }))
            .1
        };
        assert_eq!(out(20.0), [Kind::OutsideFence]);
        assert_eq!(out(2.0), []);
    }

    #[test]
    fn a_second_launch_from_one_command_is_unsafe() {
        let mut trace = good(|s| {
            if s.t_s > 48.0 {
                s.launches = 2
            }
        });
        assert_eq!(judged(&trace).1, [Kind::SecondLaunch]);
        trace.commands = 2;
        assert_eq!(judged(&trace).1, []);
    }
}
