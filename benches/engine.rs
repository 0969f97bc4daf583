//! What the engine costs beside the graph, and what tiling by the ground saves: `cargo bench --bench engine`.
//!
//! Processor time of one thread, each pair measured back to back, medians: a busy machine shifts both alike.

mod common;

use std::path::{Path, PathBuf};

use aerie::geo;
use aerie::perception::decode::{Encoded, Pixels};
use aerie::perception::detect::{Detection, Detector};
use aerie::perception::graph::{self, Options};
use aerie::perception::model_dir;
use aerie::perception::tiling::{self, Tile};
use common::{bench_model, data, median, timed};
use image::RgbImage;
use ort::value::TensorRef;

const PAIRS: usize = 80;
const TILE: u32 = 640;

fn main() {
    // `cargo test --benches` only wants to know that this starts.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let Some(photos) = data("photos") else { return };
    let picture = Encoded::open(&photos.join("DJI_0010.JPG")).unwrap().rgb().unwrap();
    for name in ["yolov8n_fp32", "yolov8n_int8"] {
        if let Some(dir) = bench_model(name) {
            tile_ratio(name, &dir, &picture);
        }
    }
    tile_ratio("aerie-town, default", &model_dir(None), &picture);
    preparation(&photos.join("DJI_0010.JPG"));
    let coco = &["car", "truck", "bus"][..];
    let own = ("aerie-town", model_dir(None), &["vehicle"][..], 0.10);
    own_tiling(&photos, &own, &own);
    if let Some(dir) = bench_model("yolov8n_int8") {
        let peer = ("yolov8n_int8", dir, coco, 0.05);
        own_tiling(&photos, &own, &peer);
        own_tiling(&photos, &peer, &peer);
    }
}

type Named<'a> = (&'a str, PathBuf, &'a [&'a str], f64);

/// From a tile's view to its boxes, over `session.run` on the same numbers.
fn tile_ratio(name: &str, dir: &Path, picture: &RgbImage) {
    let mut detector = Detector::load(dir, &Options::default()).unwrap();
    let manifest = detector.manifest().clone();
    let bytes = manifest.model_bytes(dir).unwrap();
    let (mut session, _) = graph::open(&dir.join(&manifest.file), &bytes, &Options::default()).unwrap();
    let pixels = Pixels::from(picture);
    let tiles = tiling::tiles(pixels.width, pixels.height, TILE, TILE, TILE / 5);
    let input = session.inputs()[0].name().to_owned();
    let (mut ratios, mut bare_ms, mut ours_ms) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen = Vec::new();
    for pair in 0..PAIRS + 4 {
        let tile = &tiles[pair * 7 % tiles.len()];
        let numbers = planes(picture, tile);
        let mut bare = || {
            let value =
                TensorRef::from_array_view(([1usize, 3, TILE as usize, TILE as usize], numbers.as_slice())).unwrap();
            timed(|| drop(session.run(ort::inputs![input.as_str() => value]).unwrap())).1
        };
        let mut ours = || {
            seen.clear();
            timed(|| detector.look_at_tile(&pixels, tile, &mut seen).unwrap()).1
        };
        // Which goes first alternates: the second finds warmer caches.
        let (b, o) = if pair % 2 == 0 {
            (bare(), ours())
        } else {
            let o = ours();
            (bare(), o)
        };
        if pair >= 4 {
            ratios.push(o / b);
            bare_ms.push(b);
            ours_ms.push(o);
        }
    }
    println!(
        "tile, {name}: engine {:.1} ms / bare session.run {:.1} ms, paired median {:.3} ({PAIRS} pairs, target 1.05)",
        median(ours_ms),
        median(bare_ms),
        median(ratios)
    );
}

fn planes(picture: &RgbImage, tile: &Tile) -> Vec<f32> {
    let mut numbers = Vec::with_capacity((3 * TILE * TILE) as usize);
    for channel in 0..3 {
        for y in 0..TILE {
            for x in 0..TILE {
                let inside = x < tile.width && y < tile.height;
                let value = if inside { picture.get_pixel(tile.x + x, tile.y + y)[channel] } else { 114 };
                numbers.push(f32::from(value) / 255.0);
            }
        }
    }
    numbers
}

/// Decoding and resampling a photo, whole and no larger than needed.
fn preparation(photo: &Path) {
    let encoded = Encoded::open(photo).unwrap();
    let (width, height) = encoded.size().unwrap();
    let times = |work: &dyn Fn()| median((0..9).map(|_| timed(work).1).collect());
    let whole = encoded.whole().unwrap();
    let (to_width, to_height) = (width / 4, height / 4);
    println!(
        "decode, {width}x{height}: whole {:.1} ms; at least {to_width} wide {:.1} ms; resample whole to {to_width} wide {:.1} ms, \
         from the reduced one {:.1} ms",
        times(&|| drop(encoded.whole().unwrap())),
        times(&|| drop(encoded.at_least(to_width).unwrap())),
        times(&|| drop(whole.rgb_sized(to_width, to_height).unwrap())),
        {
            let reduced = encoded.at_least(to_width).unwrap();
            times(&|| drop(reduced.rgb_sized(to_width, to_height).unwrap()))
        },
    );
}

/// A photo brought to the model's scale and cut evenly, beside 640-pixel tiles with 20 % overlap of all its pixels.
fn own_tiling(photos: &Path, (name, dir, vehicles, gsd): &Named, (peer_name, peer_dir, peer_vehicles, _): &Named) {
    let mut own = Detector::load(dir, &Options::default()).unwrap();
    let mut peer = Detector::load(peer_dir, &Options::default()).unwrap();
    let (mut total, mut marked) = ([0.0; 2], [0; 3]);
    let mut tiles = 0;
    for photo in ["DJI_0010", "DJI_0012", "DJI_0019", "DJI_0028"] {
        let path = photos.join(format!("{photo}.JPG"));
        let encoded = Encoded::open(&path).unwrap();
        let pose = geo::photo::read(encoded.bytes()).unwrap();
        let gsd_m = geo::ground_sample_distance(&pose.camera, &pose.pose);
        let (width, height) = encoded.size().unwrap();
        let truth = labels(&path.with_extension("txt"), width, height);
        let full = encoded.whole().unwrap().rgb_sized(width, height).unwrap();
        let (to_width, to_height) = own.scaled_size(width, height, Some(gsd_m)).unwrap();

        let fixed = tiling::tiles(width, height, TILE, TILE, TILE / 5);
        tiles += fixed.len();
        let (forced, forced_ms) = timed(|| peer.detect_tiles(&full.pixels(), &fixed).unwrap());
        let (mut ours, own_ms) = timed(|| {
            let scaled = full.rgb_sized(to_width, to_height).unwrap();
            own.detect_scaled(&scaled.pixels()).unwrap()
        });
        ours.iter_mut().for_each(|d| d.stretch([width as f32 / to_width as f32, height as f32 / to_height as f32]));
        let found = |detector: &Detector, names: &[&str], detections: &[Detection]| {
            let is_vehicle = |class: usize| names.contains(&detector.manifest().classes[class].name.as_str());
            let boxes: Vec<_> = detections.iter().filter(|d| is_vehicle(d.class)).map(|d| d.bbox).collect();
            recalled(&truth, &boxes)
        };
        let (f, o) = (found(&peer, peer_vehicles, &forced), found(&own, vehicles, &ours));
        println!(
            "  {photo}: {gsd_m:.3} m a pixel, {} of {width}x{height}; 640 px tiles: {forced_ms:.0} ms, {f} of {} vehicles; own, \
             {to_width}x{to_height}: {own_ms:.0} ms, {o}",
            fixed.len(),
            truth.len(),
        );
        total[0] += forced_ms;
        total[1] += own_ms;
        marked[0] += truth.len();
        marked[1] += f;
        marked[2] += o;
    }
    println!(
        "own tiling, {name} at {gsd} m: CPU {:.3} of {peer_name} on {} tiles of 640 (target 0.25); marked vehicles {} of {}, \
         there {}",
        total[1] / total[0],
        tiles,
        marked[2],
        marked[0],
        marked[1],
    );
}

fn labels(path: &Path, width: u32, height: u32) -> Vec<[f32; 4]> {
    let text = std::fs::read_to_string(path).unwrap();
    let rows =
        text.lines().map(|line| line.split_whitespace().skip(1).map(|v| v.parse::<f32>().unwrap()).collect::<Vec<_>>());
    let (w, h) = (width as f32, height as f32);
    rows.map(|v| [(v[0] - v[2] / 2.0) * w, (v[1] - v[3] / 2.0) * h, (v[0] + v[2] / 2.0) * w, (v[1] + v[3] / 2.0) * h])
        .collect()
}

/// One to one, IoU 0.4, as in models/training/evaluate.py: the marks are a little off.
fn recalled(truth: &[[f32; 4]], boxes: &[[f32; 4]]) -> usize {
    let mut free: Vec<_> = boxes.to_vec();
    let mut found = 0;
    for mark in truth {
        let best = free
            .iter()
            .enumerate()
            .map(|(i, b)| (i, tiling::overlap(mark, b).iou))
            .filter(|(_, iou)| *iou >= 0.4)
            .max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((i, _)) = best {
            free.swap_remove(i);
            found += 1;
        }
    }
    found
}
