//! `aerie detect`: boxes only, in the pictures' own pixels.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::perception::decode;
use crate::perception::detect::Detector;
use crate::perception::graph::Options;
use crate::perception::model_dir;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  aerie detect photo.jpg --gsd 0.035\n  aerie detect *.jpg --model models/default --json"
)]
pub struct DetectArgs {
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Directory of a model; the one that comes with aerie when left out
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Ground size of one pixel in metres; pictures are taken as they are when left out
    #[arg(long, value_name = "M")]
    gsd: Option<f64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: DetectArgs) -> anyhow::Result<ExitCode> {
    if let Some(gsd) = args.gsd {
        anyhow::ensure!(gsd > 0.0 && gsd < 10.0, "--gsd {gsd}: must lie between 0 and 10 metres per pixel");
    }
    let mut detector = Detector::load(&model_dir(args.model.as_deref()), &Options::default())?;
    let mut results = Vec::new();
    let mut failed = 0;
    for path in &args.images {
        let detections = match decode::open_rgb(path) {
            Ok(picture) => detector.detect(&picture, args.gsd)?,
            Err(error) => {
                eprintln!("aerie: {error}");
                failed += 1;
                continue;
            }
        };
        let named = |class: usize| detector.manifest().classes.get(class).map_or("?", |c| c.name.as_str());
        if args.json {
            let boxes: Vec<_> =
                detections.iter().map(|d| json!({"class": named(d.class), "score": d.score, "box": d.bbox})).collect();
            results.push(json!({"image": path, "detections": boxes}));
        } else {
            for d in &detections {
                let [x1, y1, x2, y2] = d.bbox;
                println!("{}\t{}\t{:.2}\t{x1:.0} {y1:.0} {x2:.0} {y2:.0}", path.display(), named(d.class), d.score);
            }
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&results)?);
    }
    Ok(if failed < args.images.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
