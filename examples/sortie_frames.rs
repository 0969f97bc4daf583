//! Renders the pictures of a whole sortie over a simulated town, with their poses, for `cargo bench --bench sortie`:
//! OUT SEED HEIGHT_M FRONT_OVERLAP SIDE_OVERLAP [dense]. What is there already is kept. Some seconds of a core a picture.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use aerie::geo::{Attitude, Camera, LocalFrame, Pose, PoseSigma};
use aerie::patrol::plan::{Swath, cover};
use aerie::perception::decode;
use aerie::sim::town::{Renderer, Town, TruePose};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

const WIDTH: u32 = 3840;
const HEIGHT: u32 = 2160;
const FOV_DEG: f64 = 66.0;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize| args.get(i).and_then(|a| a.parse::<f64>().ok());
    let (Some(out), Some(seed), Some(height_m), Some(front), Some(side)) =
        (args.first(), number(1), number(2), number(3), number(4))
    else {
        eprintln!("usage: sortie_frames OUT SEED HEIGHT_M FRONT_OVERLAP SIDE_OVERLAP [dense]");
        return ExitCode::from(2);
    };
    match render(&PathBuf::from(out), seed as u64, height_m, [front, side], args.get(5).is_some_and(|a| a == "dense")) {
        Ok(frames) => {
            println!("{frames} pictures in {out}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{out}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn render(out: &PathBuf, seed: u64, height_m: f64, [front, side]: [f64; 2], dense: bool) -> std::io::Result<usize> {
    std::fs::create_dir_all(out)?;
    let town = Arc::new(if dense { Town::generate_dense(seed) } else { Town::generate(seed) });
    // Drawn at half the size and enlarged: four times cheaper, and still finer than what the model looks at.
    let camera = Camera::from_fov(WIDTH / 2, HEIGHT / 2, FOV_DEG);
    let aspect = f64::from(WIDTH) / f64::from(HEIGHT);
    let swath = Swath { height_m, horizontal_fov_deg: FOV_DEG, aspect, side_overlap: side, front_overlap: front };
    let area = town.patrol_area();
    let route = cover(&area, town.dock(), swath.spacing_m());
    let axes: LocalFrame = town.frame();
    let renderer = Renderer::new(Arc::clone(&town));
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let mut off = |sigma: f64| (0..12).map(|_| dice.random_range(-0.5..0.5)).sum::<f64>() * sigma;
    let mut frames = Vec::new();
    for line in route.chunks_exact(2) {
        let ([e1, n1], [e2, n2]) = (axes.to_enu(line[0]), axes.to_enu(line[1]));
        let length = (e2 - e1).hypot(n2 - n1);
        let shots = (length / swath.trigger_distance_m()).floor() as usize;
        for shot in 0..=shots {
            let along = (shot as f64 * swath.trigger_distance_m() / length).min(1.0);
            let (east_m, north_m) = (e1 + along * (e2 - e1), n1 + along * (n2 - n1));
            // The drone sways a little, and knows where it is and how it looks with the errors that it admits.
            let yaw_deg = (e2 - e1).atan2(n2 - n1).to_degrees();
            let truth = Attitude { yaw_deg: yaw_deg + off(1.0), pitch_deg: -90.0 + off(0.7).abs(), roll_deg: off(0.7) };
            let pose = TruePose { east_m, north_m, up_m: height_m + off(0.3), attitude: truth };
            let file = format!("{:05}.jpg", frames.len());
            let told = Pose {
                at: axes.to_latlon(east_m + off(0.5), north_m + off(0.5)),
                height_m: height_m + off(0.5),
                attitude: Attitude {
                    yaw_deg: truth.yaw_deg + off(0.7),
                    pitch_deg: truth.pitch_deg + off(0.3),
                    roll_deg: truth.roll_deg + off(0.3),
                },
                sigma: PoseSigma { horizontal_m: 1.0, vertical_m: 1.0, yaw_deg: 1.0, tilt_deg: 0.5 },
            };
            let path = out.join(&file);
            if !path.exists() {
                let rendered = renderer.render(&camera, pose, seed ^ frames.len() as u64);
                let enlarged =
                    decode::resize(&rendered.rgb, WIDTH, HEIGHT).map_err(|e| std::io::Error::other(e.message))?;
                let part = path.with_extension("part");
                let mut to = std::io::BufWriter::new(std::fs::File::create(&part)?);
                image::codecs::jpeg::JpegEncoder::new_with_quality(&mut to, 92)
                    .encode_image(&enlarged)
                    .map_err(std::io::Error::other)?;
                drop(to);
                std::fs::rename(&part, &path)?;
            }
            frames.push(json!({"file": file, "pose": told}));
        }
    }
    let planted: Vec<_> = town.violations().iter().map(|v| json!({"kind": v.kind, "at": v.at})).collect();
    let sortie = json!({"seed": seed, "height_m": height_m, "front_overlap": front, "side_overlap": side, "dense": dense,
        "width": WIDTH, "height": HEIGHT, "fov_deg": FOV_DEG, "area": area, "register": town.register_geojson(),
        "planted": planted, "frames": frames});
    std::fs::write(out.join("sortie.json"), sortie.to_string())?;
    Ok(frames.len())
}
