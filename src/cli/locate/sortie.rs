//! `--adjust`: the rows of a table as one sortie.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::LocateArgs;
use super::table::{Answer, Hints, Row, alone};
use super::world::World;
use crate::geo::adjust::{self, AdjustError, Adjusted, Sighting, Sortie, Station};
use crate::geo::{DEFAULT_MAX_RANGE_M, LocalFrame, LocateError};

/// What the lens model and a click leave over, pixels.
const LEFT_OVER_PX: f64 = 3.0;
/// A larger share of outliers says that the names are wrong and not the looks.
const MANY_OUTLIERS: f64 = 0.25;
/// Pictures further apart in time tell no velocity.
const STILL_S: f64 = 10.0;

type Kept = (Vec<String>, Result<Row, String>);
type Answered = (Vec<String>, Result<Answer, String>);

/// Every row with its object's adjusted place, in the order that they came.
pub fn adjust(rows: Vec<Kept>, world: &World, args: &LocateArgs, hints: &mut Hints) -> anyhow::Result<Vec<Answered>> {
    let (mut stations, mut station_of) = (Vec::new(), HashMap::new());
    let (mut objects, mut object_of) = (Vec::new(), HashMap::new());
    let (mut sightings, mut times) = (Vec::new(), Vec::new());
    let mut of_row = Vec::with_capacity(rows.len());
    for (i, (_, row)) in rows.iter().enumerate() {
        let Ok(row) = row else {
            of_row.push(None);
            continue;
        };
        let station = *station_of.entry(row.station.clone()).or_insert_with(|| {
            stations.push(Station {
                pose: row.shot.pose,
                camera: row.shot.camera,
                focal_sigma: row.shot.focal_sigma,
                velocity_m_s: None,
            });
            times.push(row.time_s);
            stations.len() - 1
        });
        // A row without a name is a thing of its own.
        let name = if row.object.is_empty() { format!("\u{0}{i}") } else { row.object.clone() };
        let object = *object_of.entry(name).or_insert_with(|| {
            objects.push(row.stands());
            objects.len() - 1
        });
        of_row.push(Some((object, sightings.len())));
        sightings.push(Sighting {
            station,
            object,
            pixel: row.target.pixel,
            pixel_sigma: row.target.pixel_sigma.hypot(LEFT_OVER_PX),
        });
    }
    velocities(&mut stations, &times);
    let sortie = Sortie {
        stations,
        sightings,
        objects,
        dem: world.dem.as_ref(),
        zero_sigma_m: 0.0,
        max_range_m: args.max_range.unwrap_or(DEFAULT_MAX_RANGE_M),
    };
    let adjusted = match adjust::adjust(&sortie) {
        Ok(adjusted) if !sortie.sightings.is_empty() => adjusted,
        // Each row then says itself why it has no place.
        Ok(_) | Err(AdjustError::NothingPlaced(_)) => {
            eprintln!("nothing was adjusted: no look has a place");
            if let Some(path) = &args.report {
                write_report(path, &json!({"looks": 0, "settled": false, "reason": "no look has a place"}))?;
            }
            let mut each = |row: Row| alone(&row, world).map_err(|e| hints.refused(&row, &e, world));
            return Ok(rows.into_iter().map(|(fields, row)| (fields, row.and_then(&mut each))).collect());
        }
        Err(error) => return Err(error).context("the looks cannot be adjusted together"),
    };
    report(&adjusted, &sortie, args)?;
    let outliers = adjusted.outlier.iter().filter(|outlier| **outlier).count();
    let torn = outliers as f64 > MANY_OUTLIERS * adjusted.outlier.len() as f64;
    if torn {
        eprintln!(
            "{outliers} of {} looks are outliers: most do not see what they are said to see; are the names of objects or pictures right?",
            adjusted.outlier.len()
        );
    }
    let far_off = adjusted.constants.iter().any(|c| c.is_far_off());
    Ok(rows
        .into_iter()
        .zip(of_row)
        .map(|((fields, row), of)| {
            let answer = match (row, of) {
                (Err(status), _) => Err(status),
                (Ok(row), Some((object, sighting))) => match &adjusted.objects[object] {
                    Ok(_) if !adjusted.settled => Err("not_settled: the adjustment hit its limit of steps".to_owned()),
                    Ok(placed) if row.slant_m(placed) > sortie.max_range_m => {
                        let (slant_m, limit_m) = (row.slant_m(placed), sortie.max_range_m);
                        Err(hints.refused(&row, &LocateError::TooFar { slant_m, limit_m }, world))
                    }
                    Ok(placed) => {
                        let mut status = row.shot.status(0.0);
                        if adjusted.outlier[sighting] {
                            status.push_str(";outlier");
                        }
                        if torn {
                            status.push_str(";many_outliers");
                        }
                        if far_off {
                            status.push_str(";constants_far_off");
                        }
                        let datum = row.shot.datum;
                        Ok(Answer {
                            at: placed.at,
                            height_m: placed.height_m,
                            uncertainty: placed.uncertainty,
                            status,
                            datum,
                        })
                    }
                    Err(reason) => Err(hints.refused(&row, reason, world)),
                },
                (Ok(_), None) => Err("bad_input".to_owned()),
            };
            (fields, answer)
        })
        .collect())
}

/// From the pictures before and after, where times are told.
fn velocities(stations: &mut [Station], times: &[Option<f64>]) {
    let mut order: Vec<(f64, usize)> = times.iter().enumerate().filter_map(|(i, t)| Some(((*t)?, i))).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let places: Vec<_> = stations.iter().map(|s| s.pose).collect();
    for (at, &(_, i)) in order.iter().enumerate() {
        let (before, after) = (order[at.saturating_sub(1)], order[(at + 1).min(order.len() - 1)]);
        let seconds = after.0 - before.0;
        if seconds > 0.05 && seconds <= 2.0 * STILL_S {
            let (a, b) = (&places[before.1], &places[after.1]);
            let [e, n] = LocalFrame::new(a.at).to_enu(b.at);
            stations[i].velocity_m_s = Some([e / seconds, n / seconds, (b.height_m - a.height_m) / seconds]);
        }
    }
}

/// The sortie's shared errors: to standard error, and into a file if one is named.
fn report(adjusted: &Adjusted, sortie: &Sortie, args: &LocateArgs) -> anyhow::Result<()> {
    let outliers = adjusted.outlier.iter().filter(|o| **o).count();
    eprintln!(
        "adjusted {} looks at {} objects from {} pictures in {} steps; {outliers} outliers; errors {:.2} times those assumed",
        sortie.sightings.len(),
        sortie.objects.len(),
        sortie.stations.len(),
        adjusted.iterations,
        adjusted.widened
    );
    for c in &adjusted.constants {
        eprintln!("  {:<18} {:>8.3} ± {:.3} (assumed ± {:.3})", c.kind.name(), c.value, c.sigma, c.prior_sigma);
    }
    if !adjusted.settled {
        eprintln!(
            "it hit its limit of steps without settling, so no place is given: are yaw and pitch counted as they should be (yaw from true north, -90 straight down), and does one name stand for one thing? Without --adjust each row is placed by itself"
        );
    }
    let far_off: Vec<_> = adjusted.constants.iter().filter(|c| c.is_far_off()).collect();
    for c in &far_off {
        eprintln!(
            "warning: {} of {:.1} is {:.0} times what was assumed (±{:.1}): the poses are not what the table says they are, or one name stands for several things; find that before you act on a place",
            c.kind.name(),
            c.value,
            (c.value / c.prior_sigma).abs(),
            c.prior_sigma
        );
    }
    let Some(path) = &args.report else {
        return Ok(());
    };
    let constants: serde_json::Map<_, _> = adjusted
        .constants
        .iter()
        .map(|c| {
            let value = json!({"value": c.value, "sigma": c.sigma, "prior_sigma": c.prior_sigma});
            (c.kind.name().to_owned(), value)
        })
        .collect();
    let report = json!({
        "looks": sortie.sightings.len(),
        "objects": sortie.objects.len(),
        "pictures": sortie.stations.len(),
        "outliers": outliers,
        "errors_over_assumed": adjusted.widened,
        "settled": adjusted.settled,
        "far_off": far_off.iter().map(|c| c.kind.name()).collect::<Vec<_>>(),
        "add_to_poses": constants,
    });
    write_report(path, &report)
}

fn write_report(path: &Path, report: &Value) -> anyhow::Result<()> {
    std::fs::write(path, serde_json::to_string_pretty(report)?)
        .with_context(|| format!("cannot write the report {}", path.display()))
}
