//! `aerie model evaluate`: how good a model is on marked pictures, with the engine that a station runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::common::{say, say_json, table};
use super::locate::world::{Surroundings, World};
use crate::perception::detect::Detector;
use crate::perception::evaluate::{self, ClassFigures, Dataset, Figures, Judged, Look, sheet};
use crate::perception::graph::Options;
use crate::perception::{decode, model_dir};

/// Detections are asked for down to this share of their class's threshold: a curve has to be followed to its end.
const FLOOR: f32 = 0.03;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  aerie model evaluate --data pictures                                   described by pictures/dataset.toml
  aerie model evaluate --data val --dataset models/training/sets/minsk.toml --sheets target/minsk
  aerie model evaluate --data val --model models/mine --json > figures.json
A picture's marks are in its .txt (YOLO: class cx cy w h), beside it or in ../labels. dataset.toml says what they mean:
  classes = [\"car\", \"truck\"]              # names of the marks' numbers
  map = { car = \"vehicle\", truck = \"vehicle\" } # to the model's classes; or \"ignore\", or \"absent\"
  counts_as = { blue_roof = \"building\" }  # a find of the one is one of the other, where only the other is marked
  gsd_m = 0.05                            # scale of all pictures, m a pixel. One of these three; else each picture's pose
  length_m = { car = 4.4 }                # or by the median box of a mark: its longer side on the ground
  longer_side_px = 512                    # or none: pictures from streets and masts are brought to this size
  pictures = \"images\"                     # where they are not in DIR itself
  labels = \"../marks\"                     # where the .txt lie elsewhere, from this file's folder
  only = [\"flight3_\"]                     # only pictures whose names begin so
Only classes that the marks speak of are counted. A picture without a .txt counts as one of nothing; so does an empty one.")]
pub(super) struct EvaluateArgs {
    /// Folder of pictures
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// What the marks mean [default: dataset.toml in DIR]
    #[arg(long, value_name = "FILE")]
    dataset: Option<PathBuf>,
    /// Directory of a model; the one that comes with aerie when left out
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Write worst.jpg and best.jpg, parts of pictures with their boxes, into this folder
    #[arg(long, value_name = "DIR")]
    sheets: Option<PathBuf>,
    /// How many pictures on a sheet
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..))]
    on_sheet: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &EvaluateArgs) -> anyhow::Result<ExitCode> {
    let dir = model_dir(args.model.as_deref());
    let mut detector = Detector::load(&dir, &Options::default())?.with_floor(FLOOR);
    let manifest = detector.manifest().clone();
    let set = Dataset::open(&args.data, args.dataset.as_deref(), &manifest)?;
    let judged = |(index, class): (usize, &crate::perception::Class)| Judged {
        name: class.name.clone(),
        threshold: class.threshold,
        scored: set.marks(index),
    };
    let classes: Vec<Judged> = manifest.classes.iter().enumerate().map(judged).collect();
    let around = Surroundings { world: World::read(None, None, &[])?, ground_m: None };

    let (mut looks, mut skipped, mut megapixels) = (Vec::new(), Vec::new(), 0.0);
    let bar = super::inspect::progress(set.pictures.len());
    for path in &set.pictures {
        match look(&mut detector, &set, &around, path) {
            Ok((look, scaled_pixels)) => {
                megapixels += scaled_pixels / 1e6;
                looks.push(look);
            }
            Err(reason) => {
                let line = format!("{}: {reason:#}", path.display());
                bar.suspend(|| eprintln!("{line}"));
                skipped.push(json!({"picture": path, "reason": format!("{reason:#}")}));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    anyhow::ensure!(!looks.is_empty(), "no picture of {} could be used", args.data.display());

    let mut figures = evaluate::figures(&looks, &classes);
    if set.has_no_scale() {
        for class in &mut figures.classes {
            class.by_size.clear();
            class.by_ground_sample_distance.clear();
        }
    }
    let inference_ms = detector.inference_time().as_secs_f64() * 1e3;
    let tile_ms = inference_ms / (megapixels * 1e6 / (640.0 * 640.0));
    if let Some(folder) = &args.sheets {
        sheets(folder, &looks, &classes, usize::from(args.on_sheet))?;
    }
    if args.json {
        let mut value = serde_json::to_value(&figures)?;
        value["model"] = json!({"name": manifest.name, "version": manifest.version, "sha256": manifest.sha256});
        value["skipped"] = Value::from(skipped);
        value["pictures_without_marks"] = json!(set.without_marks);
        value["cpu_ms_per_640_px_tile"] = json!(tile_ms);
        say_json(&value)?;
    } else {
        say(&words(&figures, skipped.len(), tile_ms))?;
    }
    if set.without_marks > 0 {
        let (none, all) = (set.without_marks, set.pictures.len());
        eprintln!(
            "{none} of {all} pictures have no .txt: they were taken as pictures of nothing, and what was found there as false"
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Looks at one picture as a station would, at the model's scale and in tiles; also how many pixels that was.
fn look(detector: &mut Detector, set: &Dataset, around: &Surroundings, path: &Path) -> anyhow::Result<(Look, f64)> {
    let bytes = std::fs::read(path)?;
    let picture = decode::rgb_from(path, &bytes)?;
    let (width, height) = picture.dimensions();
    let (marked, gsd_m) = set.read(path, width, height)?;
    let gsd_m = match gsd_m {
        Some(gsd_m) => gsd_m,
        None if set.needs_a_known_length() => anyhow::bail!("skipped: it holds no mark of known length, so no scale"),
        None => {
            let (_, shot) = around.shot(&bytes).map_err(|reason| {
                anyhow::anyhow!("skipped: scale unknown ({reason}); say gsd_m, length_m or longer_side_px in the dataset's description")
            })?;
            shot.ground_sample_distance(None)
        }
    };
    let mut found = detector.detect(&picture, Some(gsd_m))?;
    for detection in &mut found {
        detection.class = set.counts_as.get(detection.class).copied().unwrap_or(detection.class);
    }
    let (scaled_width, scaled_height) = detector.scaled_size(width, height, Some(gsd_m))?;
    let pixels = f64::from(scaled_width) * f64::from(scaled_height);
    Ok((Look { picture: path.to_owned(), gsd_m, found, marked }, pixels))
}

fn sheets(folder: &Path, looks: &[Look], classes: &[Judged], count: usize) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (worst, best) = worst_and_best(looks, classes, count);
    for (name, looks) in [("worst.jpg", worst), ("best.jpg", best)] {
        let parts = looks.iter().map(|look| anyhow::Ok(sheet::part(&decode::open_rgb(&look.picture)?, look, classes)?));
        let sheet = sheet::sheet(&parts.collect::<Result<Vec<_>, _>>()?);
        let path = folder.join(name);
        sheet.save(&path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Those with the most errors and those with the fewest, at most `count` each; none is among both.
fn worst_and_best<'a>(looks: &'a [Look], classes: &[Judged], count: usize) -> (Vec<&'a Look>, Vec<&'a Look>) {
    let mut ranked: Vec<(&Look, (usize, usize, usize))> =
        looks.iter().map(|look| (look, evaluate::errors(look, classes))).collect();
    ranked.sort_by_key(|(_, (wrong, missed, _))| std::cmp::Reverse(wrong + missed));
    let count = count.min(ranked.len().div_ceil(2));
    let worst: Vec<&Look> = ranked.iter().filter(|(_, e)| e.0 + e.1 > 0).take(count).map(|(look, _)| *look).collect();
    ranked.sort_by_key(|(_, (wrong, missed, right))| (wrong + missed, std::cmp::Reverse(*right)));
    let best = ranked
        .iter()
        .map(|(look, e)| (*look, e))
        .filter(|(look, e)| e.2 > 0 && !worst.iter().any(|w| std::ptr::eq(*w, *look)));
    let best: Vec<&Look> = best.take(count).map(|(look, _)| look).collect();
    (worst, best)
}

fn words(figures: &Figures, skipped: usize, tile_ms: f64) -> String {
    let mut text = format!(
        "{} pictures{}, mAP50 {:.3}, mAP50-95 {:.3}, {tile_ms:.1} CPU-ms a 640 x 640 px tile\n",
        figures.pictures,
        if skipped > 0 { format!(" ({skipped} skipped)") } else { String::new() },
        figures.map50,
        figures.map50_95
    );
    let head = ["class", "marked", "AP50", "AP50-95", "threshold", "precision", "recall", "P>=0.90 at", "ECE"];
    let row = |c: &ClassFigures| {
        let at = c.for_precision_90.map_or("-".to_owned(), |[t, r]| format!("{t:.2} (recall {r:.2})"));
        let figure = |v: f64| format!("{v:.3}");
        vec![
            c.class.clone(),
            c.marked.to_string(),
            figure(c.ap50),
            figure(c.ap50_95),
            format!("{:.2}", c.threshold),
            figure(c.precision),
            figure(c.recall),
            at,
            figure(c.calibration_error),
        ]
    };
    text.push_str(&table(&head, &figures.classes.iter().map(row).collect::<Vec<_>>()));
    for c in &figures.classes {
        let part = |unit: &str, b: &evaluate::Bucket| {
            let to = b.to_m.map_or("more".to_owned(), |to| format!("{to} {unit}"));
            format!("{} to {to}: {:.2} of {}", b.from_m, b.recall, b.marked)
        };
        if c.by_size.is_empty() {
            continue;
        }
        let sizes: Vec<String> = c.by_size.iter().map(|b| part("m", b)).collect();
        text.push_str(&format!("{}: recall by size {}\n", c.class, sizes.join("; ")));
        let scales: Vec<String> = c.by_ground_sample_distance.iter().map(|b| part("m", b)).collect();
        text.push_str(&format!("{}: recall by ground sample distance {}\n", c.class, scales.join("; ")));
    }
    text.push_str("what is there (rows), what was said (columns)\n");
    let names: Vec<&str> = figures.confusion.classes.iter().map(String::as_str).collect();
    let head: Vec<&str> = std::iter::once("").chain(names.iter().copied()).collect();
    let rows: Vec<Vec<String>> = names
        .iter()
        .zip(&figures.confusion.counts)
        .filter(|(_, counts)| counts.iter().any(|n| *n > 0))
        .map(|(name, counts)| std::iter::once((*name).to_owned()).chain(counts.iter().map(|n| n.to_string())).collect())
        .collect();
    text.push_str(&table(&head, &rows));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perception::detect::Detection;

    #[test]
    fn no_picture_is_among_the_worst_and_the_best() {
        let marked = |x: f32| evaluate::Marked { class: Some(0), bbox: [x, 0.0, x + 10.0, 10.0], doubtful: false };
        let found = |x: f32| Detection { class: 0, score: 0.9, bbox: [x, 0.0, x + 10.0, 10.0] };
        // One find each, and so many missed.
        let looks: Vec<Look> = [3, 0, 2, 1]
            .into_iter()
            .map(|missed| Look {
                picture: PathBuf::from(format!("{missed}.png")),
                gsd_m: 0.1,
                found: vec![found(0.0)],
                marked: (0..=missed).map(|n| marked(n as f32 * 20.0)).collect(),
            })
            .collect();
        let classes = [Judged { name: "roof".into(), threshold: 0.5, scored: true }];
        let names = |looks: Vec<&Look>| looks.iter().map(|l| l.picture.display().to_string()).collect::<Vec<_>>();
        let (worst, best) = worst_and_best(&looks, &classes, 12);
        assert_eq!(
            (names(worst), names(best)),
            (vec!["3.png".into(), "2.png".into()], vec!["0.png".into(), "1.png".into()])
        );
    }
}
