//! A manifest for an ONNX file: what the graph, its metadata and a trial run say, what had to be assumed, and what only a
//! person can know. Nothing is decided by the file's name.

pub mod layout;
pub mod names;

use std::path::{Path, PathBuf};

use image::RgbImage;
use ort::session::Session;
use ort::value::{Outlet, TensorElementType};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::graph::{self, Graph, GraphError, Options};
use super::manifest::{
    Activation, Background, BoxFormat, Class, Color, Extra, ExtraValue, Family, Fit, Grade, Input, Interpolation,
    Layout as Axes, Manifest, Output, Unit,
};
use super::onnx::{Model, OnnxError};
use layout::{Facts, Habit, Layout, Out};

#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    #[error("{path}: {fault}")]
    Onnx { path: PathBuf, fault: OnnxError },
    #[error("{path} is empty: 0 bytes")]
    Empty { path: PathBuf },
    #[error("{path} keeps its weights in another file, {weights}; save it as one (onnx.save(onnx.load(FILE), OTHER))")]
    External { path: PathBuf, weights: String },
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error("{path}: {fault}")]
    Refused { path: PathBuf, fault: String },
}

/// What a person says of the model; all that is left out comes from the graph.
#[derive(Debug, Clone, Default)]
pub struct Given {
    pub name: Option<String>,
    pub version: Option<String>,
    pub gsd_m: Option<f64>,
    pub licence: Option<String>,
    pub family: Option<Family>,
    pub classes: Option<Vec<String>>,
    pub threshold: Option<f32>,
    pub nms_iou: Option<f32>,
    /// Width and height, for graphs of any size.
    pub size: Option<(u32, u32)>,
    pub color: Option<Color>,
    pub normalise: Option<Normalise>,
    pub fit: Option<Fit>,
    pub interpolation: Option<Interpolation>,
    pub pad: Option<u8>,
    pub outputs: Vec<String>,
    pub boxes: Option<BoxFormat>,
    pub unit: Option<Unit>,
    pub activation: Option<Activation>,
    pub background: Option<Background>,
    pub strides: Vec<u32>,
    pub cell_offset: Option<f32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Normalise {
    /// The bytes as they are
    Bytes,
    /// Parts of 255
    Unit,
    /// Parts of 255, less ImageNet's mean, by its deviation
    Imagenet,
    /// (byte - 127) / 128
    Ssd,
    /// The mean and deviation of NanoDet, blue first
    Nanodet,
}

/// One thing that was assumed or is missing: a key of the manifest, what stands there, why, and what supplies it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Note {
    pub key: String,
    pub value: String,
    pub why: String,
    pub option: String,
}

#[derive(Debug, Clone)]
pub struct Description {
    pub manifest: Manifest,
    /// Not proven by the graph: right for most models that look so.
    pub assumed: Vec<Note>,
    /// Nothing in the graph could tell.
    pub missing: Vec<Note>,
    /// For the reader: opset, producer, shapes, what was found how.
    pub graph: Facing,
}

/// What the graph looks like from outside.
#[derive(Debug, Clone, Serialize)]
pub struct Facing {
    pub producer: String,
    pub opset: u64,
    pub quantised: bool,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
}

/// Describes the model in `bytes`, that was read from `path` and will be `file` in `dir`.
pub fn describe(path: &Path, bytes: &[u8], file: &str, given: &Given) -> Result<Description, DescribeError> {
    let refuse = |fault: String| DescribeError::Refused { path: path.to_owned(), fault };
    if bytes.is_empty() {
        return Err(DescribeError::Empty { path: path.to_owned() });
    }
    let model = Model::read(bytes).map_err(|fault| DescribeError::Onnx { path: path.to_owned(), fault })?;
    if let Some(weights) = model.external {
        return Err(DescribeError::External { path: path.to_owned(), weights });
    }
    let (mut session, _) = graph::open(path, bytes, &Options::default())?;
    let facing = facing(&model, &session);
    let meta = |key: &str| model.metadata.get(key).map(String::as_str);
    let task = meta("task").map(str::to_owned);
    if let Some(task) = task.as_deref().filter(|t| !["detect", "obb", "segment"].contains(t)) {
        return Err(refuse(format!(
            "its metadata says that it does the task {task:?}; detect, obb and segment are read"
        )));
    }
    let named = given.classes.clone().or_else(|| meta("names").and_then(names::python));
    // PaddlePaddle's models, as RapidOCR passes them on.
    let named = named.or_else(|| meta("character").map(|text| text.lines().map(str::to_owned).collect()));
    let mut notes = Notes::default();

    // The way in.
    let picture = picture(&session).map_err(refuse)?;
    let mut input = bare_input(&picture, &model, given, &mut notes).map_err(refuse)?;
    input.extra = extras(&session, &picture.name).map_err(refuse)?;

    // A trial, and what it says.
    let noise = noise(input.width, input.height);
    let answers = graph::trial(&mut session, path, &input, (&picture.name, picture.rank, picture.element), &noise)?;
    drop(session);
    let outs: Vec<Out> =
        answers.into_iter().filter(|o| given.outputs.is_empty() || given.outputs.contains(&o.name)).collect();
    if let Some(out) = outs.iter().find(|o| o.data.iter().any(|x| !x.is_finite())) {
        return Err(refuse(format!("output {} holds numbers that are not finite; the model is damaged", out.name)));
    }
    let has = |name: &str| input.extra.iter().any(|e| e.tensor == name);
    let facts = Facts {
        size: (input.width, input.height),
        classes: named.as_ref().map(Vec::len),
        selects: meta("end2end") == Some("True") || meta("args").is_some_and(|a| a.contains("'nms': True")),
        head: meta("head").map(str::to_owned),
        takes_size: input.extra.iter().any(|e| e.value == ExtraValue::WidthHeight),
        paddle: has("scale_factor"),
        bytes: (picture.element == TensorElementType::Uint8 && input.layout == Axes::Nhwc)
            || outs.iter().any(|o| o.name.starts_with("detection_boxes")),
        divisor: outs.iter().find_map(|o| model.label_divisor(&o.name)).and_then(|n| usize::try_from(n).ok()),
        one_of_all: model.speaks_of("class_labels_classifier") && !model.speaks_of("sine_proj"),
        task,
    };
    let layout = choose(&outs, &facts, given).map_err(refuse)?;
    for (key, value, why) in &layout.assumed {
        notes.assume(key, value.clone(), why.clone(), option_of(key));
    }

    let habit = match layout.habit {
        Habit::Pillow | Habit::Stretched if model.speaks_of("dinov3") || model.speaks_of("dinov2") => {
            let why = "the graph names a DINO backbone, which is fed so".to_owned();
            notes.assume("input", "ImageNet's mean and deviation".to_owned(), why, "--normalise");
            Habit::ImageNet
        }
        habit => habit,
    };
    if facts.takes_size {
        let why = "as it was trained; its project's ONNX script pads instead (--fit centre --pad 0)".to_owned();
        notes.assume("input.fit", "stretch".to_owned(), why, "--fit");
    }
    prepare(&mut input, habit, picture.element == TensorElementType::Uint8, given);
    let classes = classes(named, &layout, &mut notes).map_err(refuse)?;
    let threshold = given.threshold.unwrap_or_else(|| {
        notes.assume("classes.threshold", "0.25".to_owned(), "no graph says".to_owned(), "--threshold");
        0.25
    });
    let nms_iou = given.nms_iou.unwrap_or_else(|| {
        let mut iou = usual_nms(layout.family, meta("args").is_some());
        if iou == 1.0 && layout::is_whole_grid(&outs, &facts) {
            // Rows of a selection, and nobody has selected.
            iou = 0.45;
        }
        if iou < 1.0 {
            notes.assume("nms_iou", iou.to_string(), "its project's own value".to_owned(), "--nms-iou");
        }
        iou
    });
    let licence = given.licence.clone().or_else(|| meta("license").map(str::to_owned)).unwrap_or_else(|| {
        notes.miss("licence", "unknown", "who may use the model", "--licence");
        "unknown".to_owned()
    });
    if given.gsd_m.is_none() {
        notes.miss(
            "gsd_m",
            "",
            "metres a pixel of its training pictures; without it no station and no `aerie inspect` takes the model",
            "--gsd-m",
        );
    }
    notes.miss(
        "classes.grade",
        "not-measured",
        "what each class's figures rest on; its findings are marked experimental",
        "edit manifest.toml",
    );
    notes.miss(
        "classes.centre_height_m",
        "0",
        "height of a thing's centre above the ground, for its position",
        "edit manifest.toml",
    );

    let mut output = layout.output;
    output.boxes = given.boxes.unwrap_or(output.boxes);
    output.unit = given.unit.unwrap_or(output.unit);
    output.activation = given.activation.unwrap_or(output.activation);
    output.background = given.background.unwrap_or(output.background);
    output.cell_offset = given.cell_offset.unwrap_or(output.cell_offset);
    if !given.strides.is_empty() {
        output.strides = given.strides.clone();
    }
    let class = |name: String| Class { name, threshold, grade: Grade::NotMeasured, centre_height_m: 0.0 };
    let stem = || path.file_stem().map_or_else(|| "model".to_owned(), |s| s.to_string_lossy().into_owned());
    let manifest = Manifest {
        name: given.name.clone().unwrap_or_else(stem),
        version: given.version.clone().unwrap_or_else(|| "1".to_owned()),
        file: file.to_owned(),
        sha256: hex::encode(Sha256::digest(bytes)),
        family: layout.family,
        gsd_m: given.gsd_m,
        nms_iou,
        licence,
        input,
        output,
        classes: classes.into_iter().map(class).collect(),
    };
    if let Some((key, fault)) = manifest.fault() {
        return Err(refuse(format!("{key}: {fault}")));
    }
    // The description is good when the graph agrees with it.
    Graph::from_bytes(manifest.clone(), path.parent().unwrap_or(Path::new("")), bytes, &Options::default())?;
    Ok(Description { manifest, assumed: notes.assumed, missing: notes.missing, graph: facing })
}

#[derive(Default)]
struct Notes {
    assumed: Vec<Note>,
    missing: Vec<Note>,
}

impl Notes {
    fn assume(&mut self, key: &str, value: String, why: String, option: &str) {
        self.assumed.push(Note { key: key.to_owned(), value, why, option: option.to_owned() });
    }

    fn miss(&mut self, key: &str, value: &str, why: &str, option: &str) {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.missing.push(Note { key, value, why: why.to_owned(), option: option.to_owned() });
    }
}

fn option_of(key: &str) -> &'static str {
    match key {
        "output.background" => "--background",
        "output.boxes" => "--boxes",
        "output.cell_offset" => "--cell-offset",
        "classes" => "--classes",
        "family" => "--family, --classes",
        "output.multi_label" => "edit manifest.toml",
        "masks" => "nothing to set",
        _ => "--normalise, --color, --fit",
    }
}

fn facing(model: &Model, session: &Session) -> Facing {
    let say = |outlet: &Outlet| format!("{} {} {:?}", outlet.name(), graph::element(outlet), graph::dimensions(outlet));
    Facing {
        producer: model.producer.clone(),
        opset: model.opsets.get("").copied().unwrap_or(0),
        quantised: ["QuantizeLinear", "QLinearConv", "ConvInteger"].iter().any(|op| model.has_op(op)),
        inputs: session.inputs().iter().map(say).collect(),
        outputs: session.outputs().iter().map(say).collect(),
    }
}

struct Picture {
    name: String,
    rank: usize,
    dimensions: Vec<i64>,
    element: TensorElementType,
}

fn picture(session: &Session) -> Result<Picture, String> {
    let of_rank = |rank| session.inputs().iter().filter(move |i| graph::dimensions(i).len() == rank);
    let four: Vec<&Outlet> = of_rank(4).collect();
    let found = if four.is_empty() { of_rank(3).collect() } else { four };
    let [outlet] = found[..] else {
        let names: Vec<_> = session.inputs().iter().map(Outlet::name).collect();
        return Err(format!(
            "{} of its inputs ({}) could take a picture, one is wanted",
            found.len(),
            names.join(", ")
        ));
    };
    let dimensions = graph::dimensions(outlet);
    Ok(Picture { name: outlet.name().to_owned(), rank: dimensions.len(), dimensions, element: graph::element(outlet) })
}

/// Size, layout and kind of numbers; how pictures are prepared follows from the family.
fn bare_input(picture: &Picture, model: &Model, given: &Given, notes: &mut Notes) -> Result<Input, String> {
    let d = &picture.dimensions;
    let axes = &d[d.len() - 3..];
    if d.len() == 4 && d[0] > 1 {
        return Err(format!("it takes {} pictures at once; export it with a batch of 1, or of any size", d[0]));
    }
    let layout = match (axes[0], axes[2]) {
        (3, _) => Axes::Nchw,
        (_, 3) => Axes::Nhwc,
        (..=0, ..=0) if picture.element == TensorElementType::Uint8 => Axes::Nhwc,
        (..=0, ..=0) => Axes::Nchw,
        _ => return Err(format!("its input {} {d:?} does not take three colours", picture.name)),
    };
    let (rows, columns) = match layout {
        Axes::Nchw => (axes[1], axes[2]),
        Axes::Nhwc => (axes[0], axes[1]),
    };
    let told = model.metadata.get("imgsz").and_then(|text| pair(text)).map(|(height, width)| (width, height));
    let dynamic = rows <= 0 || columns <= 0;
    let fixed = |n: i64| u32::try_from(n).ok().filter(|n| *n > 0);
    let side = match given.size.or(told) {
        Some(size) => size,
        None => {
            if dynamic {
                let why = "the graph takes any size and does not say which it was trained with".to_owned();
                notes.assume("input.width", "640".to_owned(), why, "--imgsz");
            }
            (640, 640)
        }
    };
    let (width, height) = (fixed(columns).unwrap_or(side.0), fixed(rows).unwrap_or(side.1));
    let stride = model.metadata.get("stride").and_then(|s| s.trim().parse().ok()).unwrap_or(32);
    let stride = if stride > 0 && width.is_multiple_of(stride) && height.is_multiple_of(stride) { stride } else { 1 };
    Ok(Input {
        width,
        height,
        stride,
        dynamic,
        color: Color::Rgb,
        scale: if picture.element == TensorElementType::Uint8 { 1.0 } else { 255.0 },
        mean: [0.0; 3],
        std: [1.0; 3],
        pad: 114,
        fit: Fit::Centre,
        interpolation: Interpolation::Linear,
        layout,
        tensor: None,
        extra: vec![],
    })
}

/// `[640, 480]`, or one number for both.
fn pair(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim_matches(['[', ']', '(', ')', ' ']).split(',').map(|n| n.trim().parse().ok());
    let first = numbers.next()??;
    Some((first, numbers.next().flatten().unwrap_or(first)))
}

/// What the graph wants beside the picture: known by the names that its projects give the tensors.
fn extras(session: &Session, picture: &str) -> Result<Vec<Extra>, String> {
    let others = session.inputs().iter().filter(|i| i.name() != picture);
    others
        .map(|outlet| {
            let value = match outlet.name() {
                "orig_target_sizes" | "orig_sizes" | "orig_size" | "target_sizes" => ExtraValue::WidthHeight,
                "im_shape" | "image_shape" => ExtraValue::HeightWidth,
                "scale_factor" => ExtraValue::Ones,
                "pixel_mask" => ExtraValue::Mask,
                other => {
                    return Err(format!(
                        "what its input {other} {:?} wants is not known; write a manifest by hand with [[input.extra]] (docs/models.md)",
                        graph::dimensions(outlet)
                    ));
                }
            };
            Ok(Extra { tensor: outlet.name().to_owned(), value })
        })
        .collect()
}

/// Blocks of colour with noise on them, the same every time.
fn noise(width: u32, height: u32) -> RgbImage {
    let mix = |n: u32| {
        let n = (n ^ (n >> 16)).wrapping_mul(0x7FEB_352D);
        let n = (n ^ (n >> 15)).wrapping_mul(0x846C_A68B);
        (n ^ (n >> 16)) as u8
    };
    RgbImage::from_fn(width, height, |x, y| {
        let block = mix((x / 24).wrapping_mul(7919) ^ (y / 24).wrapping_mul(104_729));
        let grain = |channel: u32| mix((y * width + x) * 3 + channel) / 4;
        image::Rgb([0, 1, 2].map(|c| (mix(u32::from(block) * 3 + c) / 4 * 3).saturating_add(grain(c))))
    })
}

fn choose(outs: &[Out], facts: &Facts, given: &Given) -> Result<Layout, String> {
    let shapes = || outs.iter().map(|o| format!("{} {:?}", o.name, o.shape)).collect::<Vec<_>>().join(", ");
    let mut fitting = layout::all(outs, facts);
    if let Some(family) = given.family {
        return Ok(match fitting.iter().position(|l| l.family == family) {
            Some(at) => fitting.swap_remove(at),
            // A person knows better; the proof by a run decides.
            None => plain(family, outs, facts),
        });
    }
    // YOLOv9's auxiliary head, for one.
    let alike = outs.iter().any(|a| a.shape.len() > 1 && outs.iter().any(|b| a.name < b.name && a.shape == b.shape));
    match fitting.len() {
        1 => Ok(fitting.remove(0)),
        0 => Err(format!(
            "its outputs ({}) fit no family{}; {}if you know which, pass --family NAME (and --classes, --outputs), see docs/models.md",
            shapes(),
            facts.classes.map_or_else(String::new, |n| format!(" with {n} classes")),
            if alike { "several are alike: pass the one to read as --outputs NAME; " } else { "" },
        )),
        _ => {
            let names: Vec<_> = fitting.iter().map(|l| format!("--family {}", l.family.name())).collect();
            Err(format!("its outputs ({}) fit several families; pass {}", shapes(), names.join(" or ")))
        }
    }
}

fn plain(family: Family, outs: &[Out], facts: &Facts) -> Layout {
    let habit = match family {
        Family::Yolox => Habit::Yolox,
        Family::Detr | Family::Triples => Habit::Pillow,
        Family::Ssd => Habit::Stretched,
        Family::Distribution => Habit::NanoDetPlus,
        _ => Habit::Yolo,
    };
    let output = Output {
        tensors: outs.iter().map(|o| o.name.clone()).collect(),
        boxes: match family {
            Family::YoloEnd2end | Family::Triples | Family::Ssd => BoxFormat::Xyxy,
            _ => BoxFormat::Cxcywh,
        },
        unit: if family == Family::Detr { Unit::Normalised } else { Unit::Pixels },
        multi_label: matches!(family, Family::Detr | Family::Distribution | Family::Ssd),
        strides: match family {
            Family::Yolox | Family::Distribution => vec![8, 16, 32],
            _ => vec![],
        },
        ..Output::default()
    };
    Layout { family, output, classes: facts.classes, habit, assumed: vec![] }
}

/// How pictures are prepared, by the project's habit and then by what was given.
fn prepare(input: &mut Input, habit: Habit, bytes: bool, given: &Given) {
    let (normalise, color, fit, interpolation, pad) = match habit {
        Habit::Yolo => (Normalise::Unit, Color::Rgb, Fit::Centre, Interpolation::Linear, 114),
        Habit::Yolox => (Normalise::Bytes, Color::Bgr, Fit::TopLeft, Interpolation::Linear, 114),
        Habit::Stretched => (Normalise::Unit, Color::Rgb, Fit::Stretch, Interpolation::Linear, 114),
        Habit::Pillow => (Normalise::Unit, Color::Rgb, Fit::Stretch, Interpolation::Antialias, 0),
        Habit::ImageNet => (Normalise::Imagenet, Color::Rgb, Fit::Stretch, Interpolation::Antialias, 0),
        Habit::NanoDetPlus => (Normalise::Nanodet, Color::Bgr, Fit::Stretch, Interpolation::Linear, 0),
        Habit::NanoDet => (Normalise::Nanodet, Color::Bgr, Fit::Centre, Interpolation::Linear, 0),
        Habit::Paddle => (Normalise::Imagenet, Color::Rgb, Fit::Stretch, Interpolation::Cubic, 0),
        Habit::Ssd => (Normalise::Ssd, Color::Rgb, Fit::Stretch, Interpolation::Linear, 0),
        Habit::Bytes => (Normalise::Bytes, Color::Rgb, Fit::Stretch, Interpolation::Linear, 0),
    };
    // A graph that takes bytes makes its numbers of them itself.
    let normalise = if bytes { Normalise::Bytes } else { normalise };
    (input.scale, input.mean, input.std) = match given.normalise.unwrap_or(normalise) {
        Normalise::Bytes => (1.0, [0.0; 3], [1.0; 3]),
        Normalise::Unit => (255.0, [0.0; 3], [1.0; 3]),
        Normalise::Imagenet => (255.0, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        Normalise::Ssd => (1.0, [127.0; 3], [128.0; 3]),
        Normalise::Nanodet => (1.0, [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]),
    };
    input.color = given.color.unwrap_or(color);
    input.fit = given.fit.unwrap_or(fit);
    input.interpolation = given.interpolation.unwrap_or(interpolation);
    input.pad = given.pad.unwrap_or(pad);
}

fn classes(named: Option<Vec<String>>, layout: &Layout, notes: &mut Notes) -> Result<Vec<String>, String> {
    if let Some(named) = named {
        return Ok(named);
    }
    let count = layout.classes.ok_or_else(|| {
        format!(
            "nothing in the graph says how many classes family {} has here; pass --classes (a number, a list, or a file of names)",
            layout.family.name()
        )
    })?;
    let coco = match count {
        80 => Some(names::coco80()),
        90 => Some(names::coco90()),
        91 => Some(std::iter::once("unused_0".to_owned()).chain(names::coco90()).collect()),
        _ => None,
    };
    Ok(match coco {
        Some(coco) => {
            let why = format!("the graph names none of its {count} classes; so many are COCO's, in its order");
            notes.assume("classes", "COCO's names".to_owned(), why, "--classes");
            coco
        }
        None => {
            notes.miss("classes.name", "class_0, class_1, …", "the names of its classes", "--classes");
            (0..count).map(|n| format!("class_{n}")).collect()
        }
    })
}

/// What each project suppresses with; 1 where the graph or the training does it.
fn usual_nms(family: Family, ultralytics: bool) -> f32 {
    match family {
        Family::YoloEnd2end | Family::Detr | Family::Triples => 1.0,
        Family::YoloRaw | Family::YoloObb => 0.7,
        Family::YoloSeg if ultralytics => 0.7,
        Family::Distribution => 0.6,
        Family::YoloObjectness | Family::YoloSeg | Family::Yolox | Family::Ssd => 0.45,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_as_it_is_written() {
        assert_eq!(pair("[640, 480]"), Some((640, 480)));
        assert_eq!(pair("320"), Some((320, 320)));
        assert_eq!(pair("large"), None);
    }

    #[test]
    fn the_noise_has_all_shades_and_is_the_same_every_time() {
        let noise = noise(64, 64);
        assert_eq!(noise.as_raw(), super::noise(64, 64).as_raw());
        let spread = noise.as_raw().iter().max().unwrap() - noise.as_raw().iter().min().unwrap();
        assert!(spread > 150, "{spread}");
    }
}
