//! Writes labelled pictures of simulated towns: OUT FIRST_SEED TOWNS FRAMES [plain] [FINER].
//! With `plain` the towns are as the demo flies over them, otherwise crowded with violations. FINER 1.5: the same
//! pictures in 1.5 times as many pixels a side.

use std::path::PathBuf;
use std::process::ExitCode;

use aerie::sim::town::{CLASSES, dataset};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize| args.get(i).and_then(|a| a.parse::<u64>().ok());
    let (Some(out), Some(seed), Some(towns), Some(frames)) = (args.first(), number(1), number(2), number(3)) else {
        eprintln!("usage: town_dataset OUT FIRST_SEED TOWNS FRAMES [plain] [FINER]");
        return ExitCode::from(2);
    };
    let plain = args.get(4).is_some_and(|a| a == "plain");
    let finer = match args.get(if plain { 5 } else { 4 }).map(|a| (a, a.parse::<f64>())) {
        None => 1.0,
        Some((_, Ok(finer))) if (0.25..=4.0).contains(&finer) => finer,
        Some((other, _)) => {
            eprintln!(
                "{other:?}: write \"plain\" for towns as the demo flies over them, then 0.25 to 4 times as many pixels a side"
            );
            return ExitCode::from(2);
        }
    };
    let export = if plain { dataset::export_plain } else { dataset::export_dataset };
    match export(&PathBuf::from(out), seed, towns as usize, frames as usize, finer) {
        Ok(done) => {
            println!("{} pictures in {out}", done.pictures);
            for (name, count) in CLASSES.iter().zip(done.boxes) {
                println!("{name:>16} {count}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
