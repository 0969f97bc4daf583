//! Writes labelled pictures of simulated towns: OUT FIRST_SEED TOWNS FRAMES [plain].
//! With `plain` the towns are as the demo flies over them, otherwise crowded with violations.

use std::path::PathBuf;
use std::process::ExitCode;

use aerie::sim::town::{CLASSES, dataset};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize| args.get(i).and_then(|a| a.parse::<u64>().ok());
    let (Some(out), Some(seed), Some(towns), Some(frames)) = (args.first(), number(1), number(2), number(3)) else {
        eprintln!("usage: town_dataset OUT FIRST_SEED TOWNS FRAMES [plain]");
        return ExitCode::from(2);
    };
    let export = match args.get(4).map(String::as_str) {
        None => dataset::export_dataset,
        Some("plain") => dataset::export_plain,
        Some(other) => {
            eprintln!("{other:?}: write \"plain\" for towns as the demo flies over them, or nothing");
            return ExitCode::from(2);
        }
    };
    match export(&PathBuf::from(out), seed, towns as usize, frames as usize) {
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
