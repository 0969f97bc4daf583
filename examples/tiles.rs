//! The engine on a forced list of tiles with plain suppression, for `benches/peers/peers.py`: MODEL TILE OVERLAP SCORE IOU.
//! Lines in: PATH WIDTH HEIGHT of a file of RGB bytes. Lines out: JSON; the last, at the end of the input, tells the peak memory.

use std::path::Path;
use std::time::Duration;

use aerie::perception::decode::Pixels;
use aerie::perception::detect::Detector;
use aerie::perception::families::{Candidate, suppress_upright};
use aerie::perception::graph::Options;
use aerie::perception::manifest::Color;
use aerie::perception::tiling;
use nix::time::{ClockId, clock_gettime};
use serde_json::json;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize| args[i].parse::<f64>().unwrap();
    let (tile, overlap, score, iou) = (number(1) as u32, number(2) as u32, number(3) as f32, number(4) as f32);
    let mut detector = Detector::load(Path::new(&args[0]), &Options::default()).unwrap();
    // The manifest's thresholds are all one here; the wanted score is a share of that.
    let own = detector.manifest().classes[0].threshold;
    detector = detector.with_floor(score / own);
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.rsplitn(3, ' ').collect();
        let (width, height): (u32, u32) = (words[1].parse().unwrap(), words[0].parse().unwrap());
        let bytes = std::fs::read(words[2]).unwrap();
        let picture = Pixels { bytes: &bytes, width, height, color: Color::Rgb };
        let (cpu, inference) = (cpu(), detector.inference_time());
        let tiles = tiling::tiles(width, height, tile, tile, overlap);
        let mut seen = Vec::new();
        for tile in &tiles {
            detector.look_at_tile(&picture, tile, &mut seen).unwrap();
        }
        let candidates = seen.iter().map(|s| Candidate::upright(s.class, s.score, s.bbox)).collect();
        let kept = suppress_upright(candidates, iou);
        let cpu_s = (self::cpu() - cpu).as_secs_f64();
        let boxes: Vec<_> =
            kept.iter().map(|c| json!([c.class, c.score, c.bbox[0], c.bbox[1], c.bbox[2], c.bbox[3]])).collect();
        let inference_s = (detector.inference_time() - inference).as_secs_f64();
        println!("{}", json!({"cpu_s": cpu_s, "inference_s": inference_s, "tiles": tiles.len(), "boxes": boxes}));
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak_kb = status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<f64>().ok());
    println!("{}", json!({"peak_mb": peak_kb.map(|kb| kb / 1024.0)}));
}

fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}
