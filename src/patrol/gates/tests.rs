//! Every gate red, green, stale and unknown, and that nothing but its own fact moves it.

use super::*;

fn fresh<T>(value: T) -> Aged<T> {
    Some((value, Duration::from_millis(500)))
}

fn air() -> Air {
    Air { wind_m_s: 3.0, gust_m_s: 5.0, rain_mm_h: 0.0, temperature_c: 25.0, visibility_m: Some(8000.0) }
}

fn dock() -> DockFacts {
    DockFacts { hatch_known: true, drone_present: Some(true), emergency_stop: Some(false) }
}

fn cells() -> Cells {
    Cells { count: 6, lowest_v: 4.05, spread_v: 0.03 }
}

fn green() -> Facts {
    Facts {
        air: fresh(air()),
        dock: fresh(dock()),
        link: fresh(()),
        on_ground_disarmed: fresh(true),
        battery_pct: fresh(95.0),
        cells: fresh(cells()),
        battery_temperature_c: fresh(24.0),
        battery_cycles: fresh(80),
        satellites: fresh((14, true)),
        estimator: fresh(Ok(())),
        preflight: fresh(Some(Ok(()))),
        identification: Some(fresh(Ok(()))),
        storage_free_mb: Some(20_000),
        clock: Some(Trust::Synced { by: "a test" }),
        holds: Holds::default(),
        sun_deg: 30.0,
    }
}

/// Everything is asked for.
fn strict() -> Limits {
    Limits {
        visibility_day_m: Some(3000.0),
        visibility_night_m: Some(5000.0),
        cell_min_v: Some(3.9),
        cell_spread_v: Some(0.1),
        battery_cycles: Some(300),
        battery_temperature_min_c: Some(10.0),
        battery_temperature_max_c: Some(45.0),
        // Not the defaults: the gates go by what is configured.
        weather_fresh_s: 20.0,
        vehicle_fresh_s: 4.0,
        ..Limits::default()
    }
}

fn needs() -> Needs {
    Needs {
        daylight_only: true,
        energy_pct: Some(40.0),
        reserve_pct: 20.0,
        airspace: Ok("approval 17".to_owned()),
        route: Ok(()),
    }
}

fn all(facts: &Facts, limits: &Limits, needs: &Needs) -> Vec<Gate> {
    let mut gates = evaluate(facts, limits);
    gates.extend(evaluate_sortie(facts, limits, needs));
    gates
}

/// The page's Chinese for what the station says: each sentence with `{}` where something is filled in.
fn is_in_chinese(reason: &str) -> bool {
    let phrases: Vec<[String; 2]> =
        serde_json::from_str(include_str!("../../console/web/src/reasons.json")).expect("pairs of sentences");
    phrases.iter().any(|[pattern, _]| {
        let mut parts = pattern.split("{}");
        let Some(mut rest) = parts.next().and_then(|first| reason.strip_prefix(first)) else { return false };
        let parts: Vec<&str> = parts.collect();
        let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
        for part in between {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    })
}

fn not_open(facts: &Facts, limits: &Limits, needs: &Needs) -> Vec<(String, Option<bool>)> {
    let gates = all(facts, limits, needs);
    // These pass on what the drone or the approval says, here a test.
    let others = ["estimator", "identification", "airspace", "route"];
    for gate in gates.iter().filter(|g| !others.contains(&g.gate.as_str())) {
        assert!(is_in_chinese(&gate.reason), "{:?} is not in reasons.json", gate.reason);
    }
    gates.into_iter().filter(|g| !g.is_open()).map(|g| (g.gate, g.passed)).collect()
}

fn hold() -> Option<Hold> {
    Some(Hold { by: "李工".to_owned(), reason: "roof works".to_owned(), since: jiff::Timestamp::UNIX_EPOCH })
}

#[test]
fn all_green_is_open() {
    assert_eq!(closed(&all(&green(), &strict(), &needs())), None);
}

/// Facts of which each closes one gate.
fn red_facts() -> Vec<(&'static str, Facts)> {
    let air = |change: &dyn Fn(&mut Air)| {
        let mut air = air();
        change(&mut air);
        Facts { air: fresh(air), ..green() }
    };
    let dock = |change: &dyn Fn(&mut DockFacts)| {
        let mut dock = dock();
        change(&mut dock);
        Facts { dock: fresh(dock), ..green() }
    };
    vec![
        ("wind", air(&|a| a.wind_m_s = 10.1)),
        ("wind", air(&|a| a.wind_m_s = f64::NAN)),
        ("gust", air(&|a| a.gust_m_s = 14.1)),
        ("rain", air(&|a| a.rain_mm_h = 0.6)),
        ("temperature", air(&|a| a.temperature_c = 43.0)),
        ("temperature", air(&|a| a.temperature_c = f64::NAN)),
        ("visibility", air(&|a| a.visibility_m = Some(2999.0))),
        ("on_ground", Facts { on_ground_disarmed: fresh(false), ..green() }),
        ("cells", Facts { cells: fresh(Cells { lowest_v: 3.8, ..cells() }), ..green() }),
        ("cells", Facts { cells: fresh(Cells { spread_v: 0.2, ..cells() }), ..green() }),
        ("battery_cycles", Facts { battery_cycles: fresh(301), ..green() }),
        ("battery_temperature", Facts { battery_temperature_c: fresh(9.0), ..green() }),
        ("battery_temperature", Facts { battery_temperature_c: fresh(46.0), ..green() }),
        ("satellites", Facts { satellites: fresh((7, true)), ..green() }),
        ("satellites", Facts { satellites: fresh((14, false)), ..green() }),
        ("estimator", Facts { estimator: fresh(Err("no good position".into())), ..green() }),
        (
            "preflight",
            Facts {
                preflight: fresh(Some(Err("the autopilot is not ready to arm: Compass not healthy".into()))),
                ..green()
            },
        ),
        ("identification", Facts { identification: Some(fresh(Err("no beacon".into()))), ..green() }),
        ("dock", dock(&|d| d.hatch_known = false)),
        ("dock", dock(&|d| d.drone_present = Some(false))),
        ("dock", dock(&|d| d.emergency_stop = Some(true))),
        ("storage", Facts { storage_free_mb: Some(499), ..green() }),
        ("clock", Facts { clock: Some(Trust::Off { seconds: 40.0 }), ..green() }),
        ("clock", Facts { clock: Some(Trust::Stepped { seconds: -3600.0 }), ..green() }),
        ("maintenance", Facts { holds: Holds { maintenance: hold(), hold: None }, ..green() }),
        ("hold", Facts { holds: Holds { hold: hold(), maintenance: None }, ..green() }),
        ("daylight", Facts { sun_deg: -5.0, ..green() }),
    ]
}

/// Needs of which each closes one gate.
fn red_needs() -> [(&'static str, Needs); 4] {
    [
        ("energy", Needs { energy_pct: Some(76.0), ..needs() }),
        ("energy", Needs { energy_pct: None, ..needs() }),
        ("airspace", Needs { airspace: Err("no approval".into()), ..needs() }),
        ("route", Needs { route: Err("point 3 lies outside".into()), ..needs() }),
    ]
}

#[test]
fn each_red_fact_closes_its_own_gate_and_no_other() {
    for (gate, facts) in red_facts() {
        assert_eq!(not_open(&facts, &strict(), &needs()), [(gate.to_owned(), Some(false))]);
    }
    // Charge is judged twice: against the limit, and against what this flight takes.
    let low = Facts { battery_pct: fresh(59.0), ..green() };
    let shut: Vec<_> = not_open(&low, &strict(), &needs()).into_iter().map(|(gate, _)| gate).collect();
    assert_eq!(shut, ["battery", "energy"]);
    for (gate, needs) in red_needs() {
        assert_eq!(not_open(&green(), &strict(), &needs), [(gate.to_owned(), Some(false))]);
    }
}

/// Gates, with their facts so many seconds older than their own limit of freshness, and with what makes them unknown.
fn unknown_facts(beyond_s: f64) -> [(&'static [&'static str], Facts, Facts); 12] {
    let past = |limit_s: f64| Duration::from_secs_f64(limit_s + beyond_s);
    let (weather, vehicle) = (past(strict().weather_fresh_s), past(strict().vehicle_fresh_s));
    // What a drone says once in ten seconds or more.
    let seldom = past(60.0);
    let battery = &["battery", "energy"];
    [
        (
            &["wind", "gust", "rain", "temperature", "visibility"],
            Facts { air: Some((air(), weather)), ..green() },
            Facts { air: None, ..green() },
        ),
        (&["link"], Facts { link: Some(((), vehicle)), ..green() }, Facts { link: None, ..green() }),
        (
            &["on_ground"],
            Facts { on_ground_disarmed: Some((true, vehicle)), ..green() },
            Facts { on_ground_disarmed: None, ..green() },
        ),
        (battery, Facts { battery_pct: Some((95.0, vehicle)), ..green() }, Facts { battery_pct: None, ..green() }),
        (&["cells"], Facts { cells: Some((cells(), vehicle)), ..green() }, Facts { cells: None, ..green() }),
        (
            &["battery_cycles"],
            Facts { battery_cycles: Some((80, seldom)), ..green() },
            Facts { battery_cycles: None, ..green() },
        ),
        (
            &["battery_temperature"],
            Facts { battery_temperature_c: Some((24.0, vehicle)), ..green() },
            Facts { battery_temperature_c: None, ..green() },
        ),
        (
            &["satellites"],
            Facts { satellites: Some(((14, true), vehicle)), ..green() },
            Facts { satellites: None, ..green() },
        ),
        (&["estimator"], Facts { estimator: Some((Ok(()), vehicle)), ..green() }, Facts { estimator: None, ..green() }),
        (
            &["preflight"],
            Facts { preflight: Some((Some(Ok(())), vehicle)), ..green() },
            Facts { preflight: None, ..green() },
        ),
        (
            &["identification"],
            Facts { identification: Some(Some((Ok(()), vehicle))), ..green() },
            Facts { identification: Some(None), ..green() },
        ),
        (&["dock"], Facts { dock: Some((dock(), vehicle)), ..green() }, Facts { dock: None, ..green() }),
    ]
}

/// Never stale, be it because they are read at the moment of asking; but they can be unknown.
fn unreadable_facts() -> [(&'static str, Facts); 4] {
    [
        ("visibility", Facts { air: fresh(Air { visibility_m: None, ..air() }), ..green() }),
        ("storage", Facts { storage_free_mb: None, ..green() }),
        ("clock", Facts { clock: Some(Trust::Unsynced), ..green() }),
        ("clock", Facts { clock: None, ..green() }),
    ]
}

#[test]
fn stale_and_never_heard_are_unknown_and_unknown_is_not_passed() {
    for (gates, stale, unknown) in unknown_facts(0.01) {
        let wanted: Vec<_> = gates.iter().map(|g| ((*g).to_owned(), None)).collect();
        assert_eq!(not_open(&stale, &strict(), &needs()), wanted);
        assert_eq!(not_open(&unknown, &strict(), &needs()), wanted);
    }
    for (gate, facts) in unreadable_facts() {
        assert_eq!(not_open(&facts, &strict(), &needs()), [(gate.to_owned(), None)]);
    }
}

#[test]
fn each_gate_believes_its_fact_until_its_own_limit_of_freshness() {
    for (gates, nearly_stale, _) in unknown_facts(-0.01) {
        assert_eq!(not_open(&nearly_stale, &strict(), &needs()), [], "{gates:?}");
    }
}

#[test]
fn nothing_known_opens_nothing_but_what_people_and_plans_decide() {
    let open: Vec<_> =
        evaluate(&Facts::default(), &strict()).into_iter().filter(Gate::is_open).map(|g| g.gate).collect();
    // No hold is a fact of the station's own; identification is not asked for here.
    assert_eq!(open, ["identification", "maintenance", "hold"]);
}

#[test]
fn what_is_not_asked_for_says_so_and_does_not_ground_a_drone_that_does_not_tell() {
    let silent = Facts {
        air: fresh(Air { visibility_m: None, ..air() }),
        cells: None,
        battery_temperature_c: None,
        battery_cycles: None,
        identification: None,
        ..green()
    };
    let gates = all(&silent, &Limits::default(), &needs());
    assert_eq!(closed(&gates), None);
    for gate in ["visibility", "cells", "battery_cycles", "battery_temperature", "identification"] {
        let gate = gates.iter().find(|g| g.gate == gate).unwrap();
        assert!(gate.reason.contains("not asked for"), "{gate:?}");
    }
}

#[test]
fn by_night_the_visibility_of_the_night_counts() {
    let night = Facts { sun_deg: -30.0, air: fresh(Air { visibility_m: Some(4000.0), ..air() }), ..green() };
    let by_night = Needs { daylight_only: false, ..needs() };
    assert_eq!(not_open(&night, &strict(), &by_night), [("visibility".to_owned(), Some(false))]);
    let day = Facts { sun_deg: 30.0, ..night };
    assert_eq!(not_open(&day, &strict(), &by_night), []);
}

#[test]
fn every_gate_names_itself_once() {
    let mut names: Vec<_> = all(&green(), &strict(), &needs()).into_iter().map(|g| g.gate).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!((names.len(), count), (24, 24));
}

/// Who adds a gate adds it to the tables above.
#[test]
fn no_gate_is_without_its_tests() {
    let all: Vec<String> = all(&green(), &strict(), &needs()).into_iter().map(|g| g.gate).collect();
    let facts = red_facts().into_iter().map(|(gate, _)| gate);
    let needs = red_needs().into_iter().map(|(gate, _)| gate);
    let red: Vec<&str> = facts.chain(needs).chain(["battery"]).collect();
    // A drone that is not heard is not known to be anything.
    let missing: Vec<_> = all.iter().filter(|gate| !red.contains(&gate.as_str())).collect();
    assert_eq!(missing, ["link"], "no fact makes these red");
    let stale = unknown_facts(1.0).into_iter().flat_map(|(gates, ..)| gates);
    let unknown: Vec<&str> = stale.copied().chain(unreadable_facts().map(|(gate, _)| gate)).collect();
    // The station's own words and reckonings: they are there or the station is not.
    let missing: Vec<_> = all.iter().filter(|gate| !unknown.contains(&gate.as_str())).collect();
    assert_eq!(missing, ["maintenance", "hold", "daylight", "airspace", "route"], "nothing makes these unknown");
}
