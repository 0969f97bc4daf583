//! `aerie detect`: boxes only, in the pictures' own pixels.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use image::RgbImage;
use serde_json::{Value, json};

use super::common::{say, say_json, told};
use crate::perception::detect::Detector;
use crate::perception::families::{Candidate, Shape};
use crate::perception::graph::{Graph, Options};
use crate::perception::provider::Provider;
use crate::perception::{Manifest, decode, model_dir, whole};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  aerie detect photo.jpg                            the whole picture at once, as the model's own project does it
  aerie detect photo.jpg --gsd 0.035                brought to the model's scale and cut into tiles, as a station does it
  aerie detect *.jpg --model models/default --json
A picture that cannot be read is named, the others are looked at, and the exit code is 1.")]
pub struct DetectArgs {
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// Directory of a model; the one that comes with aerie when left out
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Ground size of one pixel in metres: looks in tiles of the model's scale
    #[arg(long, value_name = "M")]
    gsd: Option<f64>,
    /// Look in tiles of the picture's own scale
    #[arg(long, conflicts_with = "gsd")]
    tiled: bool,
    /// Least score of every class, in place of the manifest's
    #[arg(long, value_name = "SCORE")]
    threshold: Option<f32>,
    /// What to compute on, in the order it is tried
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "cpu")]
    execution_provider: Vec<Provider>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print a draft of expected.json for golden pictures (docs/updates.md): what the model finds, to be corrected by hand
    #[arg(long, conflicts_with = "json")]
    golden: bool,
}

/// A picture looked at whole, or in tiles.
enum Eye {
    Whole(Box<Graph>),
    Tiles(Box<Detector>, Option<f64>),
}

impl Eye {
    fn manifest(&self) -> &Manifest {
        match self {
            Eye::Whole(graph) => graph.manifest(),
            Eye::Tiles(detector, _) => detector.manifest(),
        }
    }

    fn look(&mut self, picture: &RgbImage) -> anyhow::Result<Vec<Candidate>> {
        Ok(match self {
            Eye::Whole(graph) => whole::look(graph, picture)?,
            Eye::Tiles(detector, gsd) => {
                let found = detector.detect(picture, *gsd)?.into_iter();
                found.map(|d| Candidate::upright(d.class, d.score, d.bbox)).collect()
            }
        })
    }
}

pub fn run(args: DetectArgs) -> anyhow::Result<ExitCode> {
    if let Some(gsd) = args.gsd {
        anyhow::ensure!(gsd > 0.0 && gsd < 10.0, "--gsd {gsd}: must lie between 0 and 10 metres per pixel");
    }
    if let Some(threshold) = args.threshold {
        anyhow::ensure!(threshold > 0.0 && threshold < 1.0, "--threshold {threshold}: must lie between 0 and 1");
    }
    let dir = model_dir(args.model.as_deref());
    let options = Options { providers: args.execution_provider.clone(), ..Options::default() };
    let graph = load(&dir, &options, args.threshold)?;
    let mut eye = if args.gsd.is_some() || args.tiled {
        Eye::Tiles(Box::new(Detector::of(graph, &dir)), args.gsd)
    } else {
        Eye::Whole(Box::new(graph))
    };
    let mut results = Vec::new();
    let (mut failed, mut empty) = (0, Vec::new());
    for path in &args.images {
        let looked = decode::open_rgb(path).map_err(anyhow::Error::from).and_then(|picture| {
            let found = eye.look(&picture)?;
            Ok((picture.dimensions(), found))
        });
        let (size, mut found) = match looked {
            Ok(looked) => looked,
            Err(error) => {
                let error = told(&error);
                eprintln!("aerie: {error}");
                failed += 1;
                results.push(json!({"image": path, "error": error, "detections": []}));
                continue;
            }
        };
        found.retain(|c| args.threshold.is_none_or(|t| c.score >= t));
        let named = |class: usize| eye.manifest().classes.get(class).map_or("?", |c| c.name.as_str());
        if args.golden {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if found.is_empty() {
                empty.push(name.to_string());
            }
            let boxes: Vec<_> = found.iter().map(|c| json!({"class": named(c.class), "box": c.bbox})).collect();
            results.push(json!({"file": name, "gsd_m": args.gsd, "boxes": boxes}));
        } else if args.json {
            let boxes: Vec<_> = found.iter().map(|c| in_json(c, named(c.class), size)).collect();
            results.push(json!({"image": path, "detections": boxes}));
        } else {
            for c in &found {
                let [x1, y1, x2, y2] = c.bbox;
                let class = named(c.class);
                say(&format!("{}\t{class}\t{:.2}\t{x1:.0} {y1:.0} {x2:.0} {y2:.0}", path.display(), c.score))?;
            }
        }
    }
    if args.golden {
        anyhow::ensure!(failed == 0, "{failed} pictures cannot be read; take them out of the golden ones");
        say_json(&json!({"pictures": results}))?;
        let fault = nothing_in(&empty, results.len(), args.threshold);
        anyhow::ensure!(empty.len() < results.len(), fault.unwrap_or_default());
        if let Some(fault) = fault {
            eprintln!("aerie: {fault}");
        }
    } else if args.json {
        say_json(&Value::from(results))?;
    }
    // What the others gave was printed.
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What has to be known of a draft in which pictures have no box: it looks like one that is done.
fn nothing_in(empty: &[String], of: usize, threshold: Option<f32>) -> Option<String> {
    let least = threshold.map_or_else(|| "the thresholds of its manifest".to_owned(), |t| format!("--threshold {t}"));
    let wrong = if empty.len() == of { ": no release is made of such a draft" } else { "" };
    (!empty.is_empty()).then(|| {
        format!(
            "at {least} the model finds nothing in {} of {of} pictures ({}){wrong}; check --gsd, or write down by hand what is in them",
            empty.len(),
            empty.join(", ")
        )
    })
}

/// The model, with `threshold` for all classes where it is given.
fn load(dir: &Path, options: &Options, threshold: Option<f32>) -> anyhow::Result<Graph> {
    let Some(threshold) = threshold else { return Ok(Graph::load(dir, options)?) };
    let mut manifest = Manifest::read(dir)?;
    manifest.classes.iter_mut().for_each(|class| class.threshold = threshold);
    let bytes = manifest.model_bytes(dir)?;
    Ok(Graph::from_bytes(manifest, dir, &bytes, options)?)
}

fn in_json(candidate: &Candidate, class: &str, (width, height): (u32, u32)) -> Value {
    let mut value = json!({"class": class, "score": candidate.score, "box": candidate.bbox});
    match candidate.shape.as_deref() {
        None => {}
        Some(Shape::Turned(corners)) => value["corners"] = json!(corners),
        // COCO's counts, as pycocotools reads them.
        Some(Shape::Mask(mask)) => {
            value["mask"] = json!({"size": [height, width], "counts": mask.runs(&candidate.bbox, width, height)});
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_golden_draft_says_in_which_pictures_it_has_nothing_and_at_which_threshold() {
        assert_eq!(nothing_in(&[], 3, None), None);
        let one = nothing_in(&["a.jpg".to_owned()], 3, None).unwrap();
        assert!(one.contains("thresholds of its manifest") && one.contains("1 of 3 pictures (a.jpg)"), "{one}");
        let all = nothing_in(&["a.jpg".to_owned()], 1, Some(0.5)).unwrap();
        assert!(all.contains("--threshold 0.5") && all.contains("no release"), "{all}");
    }
}
