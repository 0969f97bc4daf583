//! `aerie model describe` and `aerie model probe`: for people who bring their own models.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::json;

use super::common::{say, say_json};
use crate::cases::kinds::no_case_of;
use crate::perception::describe::{self, Description, Given, Normalise, Note, names};
use crate::perception::graph::{Graph, Options};
use crate::perception::manifest::{Activation, Background, BoxFormat, Color, Family, Fit, Interpolation, Unit};
use crate::perception::provider::Provider;
use crate::perception::{model_dir, whole};

#[derive(clap::Args)]
#[command(after_help = "Your own models: describe, probe, evaluate (docs/models.md).
A station's signed releases: list, check, add, promote, rollback, trail. Their publisher: publish (docs/updates.md).")]
pub struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Subcommand)]
enum ModelCommand {
    /// Make a model directory of an ONNX file: its manifest, from the graph and its metadata
    Describe(Box<DescribeArgs>),
    /// Load a model and run it once: what it is, what it runs on, how long it takes
    Probe(ProbeArgs),
    /// Measure a model on marked pictures: precision, recall, AP, by size and scale, confusion, contact sheets
    Evaluate(super::model_evaluate::EvaluateArgs),
    #[command(flatten)]
    Station(super::model_station::Command),
    /// The publisher's side: keys, signed releases, which stations take them
    Publish(super::model_publish::PublishArgs),
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  aerie model describe yolov8n.onnx --out models/yolov8n
  aerie model describe best.onnx --out models/mine --gsd-m 0.05 --licence Apache-2.0 --classes car,truck
  aerie model describe ssd.onnx --out models/ssd --normalise imagenet --boxes yxyx --background first
What the graph cannot say is assumed or left out, and named. See docs/models.md.")]
struct DescribeArgs {
    #[arg(value_name = "FILE.onnx")]
    file: PathBuf,
    /// Directory to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Write over a manifest that is there
    #[arg(long)]
    force: bool,
    /// Link the file instead of copying it
    #[arg(long)]
    link: bool,
    /// Name of the model [default: the file's]
    #[arg(long)]
    name: Option<String>,
    /// Version of the model
    #[arg(long, value_name = "TEXT")]
    model_version: Option<String>,
    /// Metres a pixel of its training pictures
    #[arg(long, value_name = "M")]
    gsd_m: Option<f64>,
    #[arg(long, value_name = "TEXT")]
    licence: Option<String>,
    /// Where the graph fits several, or none
    #[arg(long, value_name = "NAME")]
    family: Option<Family>,
    /// Names, separated by commas; a file with one a line; a number; coco80 or coco90
    #[arg(long, value_name = "NAMES")]
    classes: Option<String>,
    /// Least score of every class
    #[arg(long, value_name = "SCORE")]
    threshold: Option<f32>,
    /// Boxes of a class that overlap by more are one thing
    #[arg(long, value_name = "IOU")]
    nms_iou: Option<f32>,
    /// Size of the input, for graphs of any size: 640, or 1280x736 (width x height)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    imgsz: Option<(u32, u32)>,
    /// Which colour comes first
    #[arg(long)]
    color: Option<Color>,
    /// What becomes of a pixel's bytes
    #[arg(long)]
    normalise: Option<Normalise>,
    /// How a whole picture is brought into the input
    #[arg(long)]
    fit: Option<Fit>,
    #[arg(long)]
    interpolation: Option<Interpolation>,
    /// Grey of the padding, 0 to 255
    #[arg(long, value_name = "GREY")]
    pad: Option<u8>,
    /// The output tensors to read, in the order of the family
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    outputs: Vec<String>,
    /// The four numbers of a box
    #[arg(long)]
    boxes: Option<BoxFormat>,
    #[arg(long)]
    unit: Option<Unit>,
    /// What has to be applied to the scores yet
    #[arg(long)]
    activation: Option<Activation>,
    /// The column of scores, or label, that means that nothing is there
    #[arg(long)]
    background: Option<Background>,
    /// Pixels a cell of each level
    #[arg(long, value_name = "N", value_delimiter = ',')]
    strides: Vec<u32>,
    /// A cell's point, in parts of the cell
    #[arg(long, value_name = "PART")]
    cell_offset: Option<f32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  aerie model probe models/mine
  aerie model probe models/mine --execution-provider cuda,cpu --json")]
struct ProbeArgs {
    /// Directory of a model; the one that comes with aerie when left out
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// What to compute on, in the order it is tried
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "cpu")]
    execution_provider: Vec<Provider>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: ModelArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        ModelCommand::Describe(args) => describe(*args),
        ModelCommand::Probe(args) => probe(args),
        ModelCommand::Evaluate(args) => super::model_evaluate::run(&args),
        ModelCommand::Station(command) => super::model_station::run(command),
        ModelCommand::Publish(args) => super::model_publish::run(args),
    }
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let (width, height) = text.split_once('x').unwrap_or((text, text));
    match (width.parse(), height.parse()) {
        (Ok(width @ 1..=8192), Ok(height @ 1..=8192)) => Ok((width, height)),
        _ => Err("expected a number from 1 to 8192, or WIDTHxHEIGHT".to_owned()),
    }
}

/// `--classes`: a file, a known list, a number, or names.
fn class_names(text: &str) -> anyhow::Result<Vec<String>> {
    let names: Vec<String> = match text {
        "coco80" => names::coco80(),
        "coco90" => names::coco90(),
        _ => match text.parse::<usize>() {
            Ok(count) => (0..count.min(100_000)).map(|n| format!("class_{n}")).collect(),
            Err(_) if Path::new(text).is_file() => std::fs::read_to_string(text)
                .with_context(|| format!("--classes {text}"))?
                .lines()
                .map(|line| line.trim().to_owned())
                .filter(|line| !line.is_empty())
                .collect(),
            Err(_) => text.split(',').map(|name| name.trim().to_owned()).collect(),
        },
    };
    anyhow::ensure!(!names.is_empty() && names.iter().all(|n| !n.is_empty()), "--classes {text}: names no class");
    Ok(names)
}

fn describe(args: DescribeArgs) -> anyhow::Result<ExitCode> {
    let manifest_path = args.out.join("manifest.toml");
    anyhow::ensure!(
        args.force || !manifest_path.exists(),
        "{} is there already; pass --force to write over it",
        manifest_path.display()
    );
    let bytes = std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let given = Given {
        name: args.name,
        version: args.model_version,
        gsd_m: args.gsd_m,
        licence: args.licence,
        family: args.family,
        classes: args.classes.as_deref().map(class_names).transpose()?,
        threshold: args.threshold,
        nms_iou: args.nms_iou,
        size: args.imgsz,
        color: args.color,
        normalise: args.normalise,
        fit: args.fit,
        interpolation: args.interpolation,
        pad: args.pad,
        outputs: args.outputs,
        boxes: args.boxes,
        unit: args.unit,
        activation: args.activation,
        background: args.background,
        strides: args.strides,
        cell_offset: args.cell_offset,
    };
    let description = describe::describe(&args.file, &bytes, "model.onnx", &given)?;
    write(&args.out, &args.file, &bytes, args.link, &description)?;
    if args.json {
        say_json(&json!({
            "manifest": description.manifest, "assumed": description.assumed, "missing": description.missing,
            "graph": description.graph, "dir": args.out,
        }))?;
    } else {
        say(&words(&description, &args.out))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(out: &Path, file: &Path, bytes: &[u8], link: bool, description: &Description) -> anyhow::Result<()> {
    let at = |path: &Path| format!("cannot write {}", path.display());
    std::fs::create_dir_all(out).with_context(|| at(out))?;
    let model = out.join(&description.manifest.file);
    let same = model.canonicalize().ok().is_some_and(|m| file.canonicalize().is_ok_and(|f| f == m));
    if !same {
        if model.symlink_metadata().is_ok() {
            std::fs::remove_file(&model).with_context(|| at(&model))?;
        }
        if link {
            std::os::unix::fs::symlink(file.canonicalize()?, &model).with_context(|| at(&model))?;
        } else {
            std::fs::write(&model, bytes).with_context(|| at(&model))?;
        }
    }
    let path = out.join("manifest.toml");
    let mut to = std::fs::File::create(&path).with_context(|| at(&path))?;
    let mut text = String::from("# Written by `aerie model describe`; docs/models.md explains every key.\n");
    for Note { key, value, why, .. } in &description.assumed {
        text.push_str(&format!("# assumed: {key} = {value} ({why})\n"));
    }
    for Note { key, why, .. } in &description.missing {
        text.push_str(&format!("# not known: {key} ({why})\n"));
    }
    text.push_str(&toml::to_string(&description.manifest)?);
    to.write_all(text.as_bytes()).with_context(|| at(&path))?;
    Ok(())
}

fn words(description: &Description, out: &Path) -> String {
    let m = &description.manifest;
    let g = &description.graph;
    let quantised = if g.quantised { ", quantised" } else { "" };
    let any = if m.input.dynamic { " or less" } else { "" };
    let mut text = format!(
        "{}: family {}, {} classes, {} x {}{any}\n",
        out.join("manifest.toml").display(),
        m.family.name(),
        m.classes.len(),
        m.input.width,
        m.input.height
    );
    text.push_str(&format!("graph     by {}, opset {}{quantised}\n", g.producer, g.opset));
    g.inputs.iter().for_each(|i| text.push_str(&format!("in        {i}\n")));
    g.outputs.iter().for_each(|o| text.push_str(&format!("out       {o}\n")));
    for Note { key, value, why, option } in &description.assumed {
        text.push_str(&format!("assumed   {key} = {value}: {why} [{option}]\n"));
    }
    for Note { key, why, option, .. } in &description.missing {
        text.push_str(&format!("not known {key}: {why} [{option}]\n"));
    }
    text
}

fn probe(args: ProbeArgs) -> anyhow::Result<ExitCode> {
    let dir = model_dir(args.dir.as_deref());
    let options = Options { providers: args.execution_provider, ..Options::default() };
    let clock = Instant::now();
    let mut graph = Graph::load(&dir, &options)?;
    let load_ms = clock.elapsed().as_secs_f64() * 1e3;
    let (width, height) = (graph.manifest().input.width, graph.manifest().input.height);
    let grey = image::RgbImage::from_pixel(width, height, image::Rgb([114; 3]));
    let mut times: Vec<f64> = Vec::new();
    for _ in 0..3 {
        let clock = Instant::now();
        whole::look(&mut graph, &grey)?;
        times.push(clock.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let m = graph.manifest();
    let chosen = graph.chosen();
    if args.json {
        say_json(&json!({
            "dir": dir, "name": m.name, "version": m.version, "sha256": m.sha256, "family": m.family.name(),
            "classes": m.classes.len(), "width": width, "height": height, "dynamic": m.input.dynamic,
            "gsd_m": m.gsd_m, "execution_provider": chosen, "load_ms": load_ms, "run_ms": times[1],
            "warning": no_case_of(m.classes.iter().map(|c| c.name.as_str())),
        }))?;
    } else {
        let mut text = format!(
            "{} {}: family {}, {} classes, {width} x {height}{}\n",
            m.name,
            m.version,
            m.family.name(),
            m.classes.len(),
            if m.input.dynamic { " or less" } else { "" },
        );
        let gsd = m.gsd_m.map_or_else(|| "not stated, so no station takes it".to_owned(), |g| format!("{g} m a pixel"));
        text.push_str(&format!("scale     {gsd}\n"));
        text.push_str(&format!("runs on   {}\n", chosen.provider.name()));
        chosen.refused.iter().for_each(|refused| text.push_str(&format!("not on    {refused}\n")));
        if let Some(warning) = no_case_of(m.classes.iter().map(|c| c.name.as_str())) {
            text.push_str(&format!("warning   {warning}\n"));
        }
        text.push_str(&format!("time      loaded in {load_ms:.0} ms, one run {:.0} ms\n", times[1]));
        say(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_a_list_a_number_a_file_or_coco() {
        assert_eq!(class_names("car, bus").unwrap(), ["car", "bus"]);
        assert_eq!(class_names("2").unwrap(), ["class_0", "class_1"]);
        assert_eq!(class_names("coco80").unwrap().len(), 80);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "工程车\n\ntruck\n").unwrap();
        assert_eq!(class_names(&file.path().display().to_string()).unwrap(), ["工程车", "truck"]);
        assert!(class_names("car,,bus").is_err() && class_names("0").is_err());
    }

    #[test]
    fn a_size_is_one_number_or_two() {
        assert_eq!((size("640"), size("1280x736")), (Ok((640, 640)), Ok((1280, 736))));
        assert!(size("0").is_err() && size("640x").is_err());
    }
}
