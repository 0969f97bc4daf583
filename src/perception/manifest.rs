//! A model's manifest: what its graph cannot say of itself. `manifest.toml` beside the ONNX file; every key is described
//! in `docs/models.md`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Why a model directory was refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error(
        "no model at {path}: {source}; name a directory with a manifest.toml (--model DIR, or perception.model in the configuration)"
    )]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path}: {message}")]
    Syntax { path: PathBuf, message: String },
    #[error("{path}: {key}: {fault}")]
    Value { path: PathBuf, key: String, fault: String },
    #[error(
        "{path} is empty: 0 bytes; copy the model again (`aerie model describe FILE.onnx --out DIR` makes a directory)"
    )]
    Empty { path: PathBuf },
    #[error(
        "{path} is not the file its manifest describes: sha256 {found}, expected {expected}; fetch the model again or, if you changed it, write its new sha256 into manifest.toml"
    )]
    Hash { path: PathBuf, expected: String, found: String },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub name: String,
    pub version: String,
    /// The ONNX file, relative to the manifest.
    pub file: String,
    pub sha256: String,
    pub family: Family,
    /// The ground sample distance the model was trained at, metres per pixel. Without it pictures can be looked at as
    /// they are, but not be brought to the size the model knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gsd_m: Option<f64>,
    /// Boxes of one class that overlap by so much are one thing; 1 for families that suppress by themselves.
    pub nms_iou: f32,
    pub licence: String,
    pub input: Input,
    #[serde(default, skip_serializing_if = "Output::is_default")]
    pub output: Output,
    pub classes: Vec<Class>,
}

/// How the output tensors are laid out: see [`crate::perception::families`], which reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Family {
    /// v8, 9, 11, 12: `[1, 4 + classes, N]`, one probability a class.
    YoloRaw,
    /// v5, 6, 7: `[1, N, 5 + classes]`, objectness and class probabilities.
    YoloObjectness,
    /// v10, 26, and exports with suppression inside: `[1, N, 6]`: corners, score, class.
    YoloEnd2end,
    /// `[1, 4 + classes + 1, N]` or `[1, N, 7]`: the last number is the angle in radians.
    YoloObb,
    /// Boxes with mask coefficients, and prototypes `[1, M, height, width]`.
    YoloSeg,
    /// `[1, N, 5 + classes]`, boxes in cells of an undecoded grid.
    Yolox,
    /// Boxes and one score a class for each query: RT-DETR, D-FINE, DEIM, RF-DETR without their own selection.
    Detr,
    /// Labels, boxes and scores, already selected: RT-DETR, D-FINE, DEIM, torchvision's and TensorFlow's detectors.
    Triples,
    /// Class scores and distributions of the four distances: NanoDet, PicoDet.
    Distribution,
    /// Decoded boxes and one score a class: SSD, PicoDet and PP-YOLOE without suppression, YOLO-NAS.
    Ssd,
}

impl Family {
    /// As it stands in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Family::YoloRaw => "yolo_raw",
            Family::YoloObjectness => "yolo_objectness",
            Family::YoloEnd2end => "yolo_end2end",
            Family::YoloObb => "yolo_obb",
            Family::YoloSeg => "yolo_seg",
            Family::Yolox => "yolox",
            Family::Detr => "detr",
            Family::Triples => "triples",
            Family::Distribution => "distribution",
            Family::Ssd => "ssd",
        }
    }
}

/// What the graph is fed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The largest tile when `dynamic`, else the only size.
    pub width: u32,
    pub height: u32,
    pub stride: u32,
    pub dynamic: bool,
    pub color: Color,
    /// A pixel's value is divided by this, then `mean` is subtracted and the rest divided by `std`.
    pub scale: f32,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mean: [f32; 3],
    #[serde(default = "ones", skip_serializing_if = "is_one")]
    pub std: [f32; 3],
    /// The grey that fills what a tile has beyond the picture.
    pub pad: u8,
    /// How a whole picture is brought into the input.
    #[serde(default)]
    pub fit: Fit,
    #[serde(default)]
    pub interpolation: Interpolation,
    #[serde(default)]
    pub layout: Layout,
    /// The picture's tensor; needed only where the graph has several of four dimensions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor: Option<String>,
    /// What the graph wants beside the picture.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra: Vec<Extra>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    Rgb,
    Bgr,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// In proportion, padded at the right and below.
    #[default]
    TopLeft,
    /// In proportion, padded all around.
    Centre,
    /// To the input's size, out of proportion.
    Stretch,
}

/// How a whole picture is resized; the projects differ, and small things move by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Between the four nearest pixels, without averaging when shrinking (OpenCV's `INTER_LINEAR`).
    #[default]
    Linear,
    /// OpenCV's `INTER_CUBIC`.
    Cubic,
    /// Averaged over areas (OpenCV's `INTER_AREA`).
    Area,
    /// Linear with averaging when shrinking (Pillow, torchvision).
    Antialias,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Planes: `[1, 3, height, width]`, or `[3, height, width]`.
    #[default]
    Nchw,
    /// Pixels: `[1, height, width, 3]`.
    Nhwc,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extra {
    pub tensor: String,
    pub value: ExtraValue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExtraValue {
    /// Width and height of the input, so that boxes come out in its pixels.
    WidthHeight,
    HeightWidth,
    /// Ones: no scaling back.
    Ones,
    /// Ones, one a pixel of the input: all of it is to be looked at.
    Mask,
}

/// What the output tensors mean, as far as the family leaves it open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Output {
    /// The tensors in the order the family reads them; all of the graph's in its order when empty.
    pub tensors: Vec<String>,
    pub boxes: BoxFormat,
    pub unit: Unit,
    /// What has to be applied to the scores yet.
    pub activation: Activation,
    /// A column of scores, or a label, that means nothing is there.
    pub background: Background,
    /// A thing may be reported under several classes, as the project's own selection does.
    pub multi_label: bool,
    /// `yolo_end2end`: what the numbers of a row are.
    pub order: Order,
    /// `yolo_seg` only: an objectness column stands before the classes, as in v5 and v7.
    pub objectness: bool,
    /// `yolox` and `distribution`: pixels a cell, finest first.
    pub strides: Vec<u32>,
    /// `distribution`: a cell's point, in parts of the cell.
    pub cell_offset: f32,
}

impl Default for Output {
    fn default() -> Self {
        Output {
            tensors: vec![],
            boxes: BoxFormat::Cxcywh,
            unit: Unit::Pixels,
            activation: Activation::None,
            background: Background::None,
            multi_label: false,
            order: Order::BoxScoreClass,
            objectness: false,
            strides: vec![],
            cell_offset: 0.0,
        }
    }
}

impl Output {
    fn is_default(&self) -> bool {
        *self == Output::default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum BoxFormat {
    Cxcywh,
    Xyxy,
    Yxyx,
    Xywh,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Pixels of the input.
    Pixels,
    /// Parts of the input's width and height.
    Normalised,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Ultralytics: box, score, class.
    BoxScoreClass,
    /// PaddleDetection: class, score, box.
    ClassScoreBox,
    /// YOLOv7: picture of the batch, box, class, score.
    BatchBoxClassScore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    None,
    Sigmoid,
    Softmax,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Background {
    None,
    First,
    Last,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    pub name: String,
    pub threshold: f32,
    pub grade: Grade,
    /// Typical height of the box's centre above the ground, so that a roof is not placed where its picture falls.
    pub centre_height_m: f64,
}

/// What a class's figures rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    MeasuredOnRealAerial,
    RealNotAerial,
    GeneratedOnly,
    /// Nobody has said; as good as unproven.
    NotMeasured,
}

impl Grade {
    /// Nothing real speaks for it.
    pub fn is_experimental(self) -> bool {
        matches!(self, Grade::GeneratedOnly | Grade::NotMeasured)
    }
}

fn is_zero(three: &[f32; 3]) -> bool {
    *three == [0.0; 3]
}

fn ones() -> [f32; 3] {
    [1.0; 3]
}

fn is_one(three: &[f32; 3]) -> bool {
    *three == ones()
}

impl Manifest {
    /// Reads and checks `dir/manifest.toml`; does not touch the model file.
    pub fn read(dir: &Path) -> Result<Manifest, ManifestError> {
        let path = dir.join("manifest.toml");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ManifestError::Unreadable { path: path.clone(), source })?;
        let manifest: Manifest = toml::from_str(&text)
            .map_err(|error| ManifestError::Syntax { path: path.clone(), message: error.to_string() })?;
        match manifest.fault() {
            None => Ok(manifest),
            Some((key, fault)) => Err(ManifestError::Value { path, key, fault }),
        }
    }

    /// The first value that cannot be, with its key.
    pub fn fault(&self) -> Option<(String, String)> {
        let say = |key: &str, fault: &str| Some((key.to_owned(), fault.to_owned()));
        let Input { width, height, stride, scale, mean, std, .. } = self.input;
        if self.file.contains(['/', '\\']) || self.file.is_empty() {
            return say("file", "must be the name of a file beside the manifest");
        }
        if self.gsd_m.is_some_and(|gsd| !(gsd > 0.0 && gsd < 10.0)) {
            return say("gsd_m", "must lie between 0 and 10 metres per pixel");
        }
        if !(0.0..=1.0).contains(&self.nms_iou) {
            return say("nms_iou", "must lie between 0 and 1");
        }
        if stride == 0 || width == 0 || height == 0 || width % stride != 0 || height % stride != 0 {
            return say("input", "width and height must be multiples of stride, all above 0");
        }
        if width > 8192 || height > 8192 {
            return say("input", "width and height must not exceed 8192");
        }
        if !(scale > 0.0 && scale.is_finite()) {
            return say("input.scale", "must be above 0");
        }
        if mean.iter().any(|m| !m.is_finite()) {
            return say("input.mean", "must be numbers");
        }
        if std.iter().any(|s| !(*s > 0.0 && s.is_finite())) {
            return say("input.std", "must be above 0");
        }
        if matches!(self.family, Family::Yolox | Family::Distribution) && self.output.strides.is_empty() {
            return say("output.strides", "this family needs the pixels a cell of each of its levels, as [8, 16, 32]");
        }
        if self.output.strides.iter().any(|s| *s == 0 || *s > 1024) {
            return say("output.strides", "must lie between 1 and 1024");
        }
        if !(0.0..=1.0).contains(&self.output.cell_offset) {
            return say("output.cell_offset", "must lie between 0 and 1");
        }
        if self.classes.is_empty() {
            return say("classes", "at least one class is needed");
        }
        for (index, class) in self.classes.iter().enumerate() {
            if let Some(first) = self.classes[..index].iter().position(|other| other.name == class.name) {
                return say(
                    &format!("classes[{index}].name"),
                    &format!("{:?} is the name of classes[{first}] already; every class needs its own", class.name),
                );
            }
            if !(class.threshold > 0.0 && class.threshold < 1.0) {
                return say(&format!("classes[{index}].threshold"), "must lie between 0 and 1");
            }
            if !class.centre_height_m.is_finite() {
                return say(&format!("classes[{index}].centre_height_m"), "must be a number");
            }
        }
        None
    }

    /// The ground sample distance, for what cannot do without: placing tiles on the ground, a station.
    pub fn ground_sample_distance(&self, dir: &Path) -> Result<f64, ManifestError> {
        self.gsd_m.ok_or_else(|| ManifestError::Value {
            path: dir.join("manifest.toml"),
            key: "gsd_m".to_owned(),
            fault: "is missing: pictures cannot be brought to the size the model knows; write the metres a pixel of its training pictures".to_owned(),
        })
    }

    /// Reads the model file and refuses it unless it has the hash the manifest names.
    pub fn model_bytes(&self, dir: &Path) -> Result<Vec<u8>, ManifestError> {
        let path = dir.join(&self.file);
        let bytes = std::fs::read(&path).map_err(|source| ManifestError::Unreadable { path: path.clone(), source })?;
        if bytes.is_empty() {
            return Err(ManifestError::Empty { path });
        }
        let found = hex::encode(Sha256::digest(&bytes));
        if found != self.sha256 {
            return Err(ManifestError::Hash { path, expected: self.sha256.clone(), found });
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_file_that_was_changed_is_refused_by_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::read(&crate::perception::model_dir(None)).unwrap();
        std::fs::write(dir.path().join(&manifest.file), b"not the model").unwrap();
        assert!(matches!(manifest.model_bytes(dir.path()), Err(ManifestError::Hash { .. })));
        manifest.sha256 = hex::encode(Sha256::digest(b"not the model"));
        assert_eq!(manifest.model_bytes(dir.path()).unwrap(), b"not the model");
    }

    #[test]
    fn two_classes_of_one_name_are_refused() {
        let mut manifest = Manifest::read(&crate::perception::model_dir(None)).unwrap();
        manifest.classes.push(manifest.classes[0].clone());
        let (key, fault) = manifest.fault().unwrap();
        assert_eq!(key, format!("classes[{}].name", manifest.classes.len() - 1));
        assert!(fault.contains("classes[0]"), "{fault}");
    }

    #[test]
    fn an_unknown_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let good = std::fs::read_to_string(crate::perception::model_dir(None).join("manifest.toml")).unwrap();
        std::fs::write(dir.path().join("manifest.toml"), format!("colour = \"rgb\"\n{good}")).unwrap();
        let message = Manifest::read(dir.path()).unwrap_err().to_string();
        assert!(message.contains("colour") && message.contains("manifest.toml"), "{message}");
    }

    #[test]
    fn a_manifest_says_the_same_after_it_was_written_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::read(&crate::perception::model_dir(None)).unwrap();
        manifest.gsd_m = None;
        manifest.family = Family::Distribution;
        manifest.output =
            Output { strides: vec![8, 16], cell_offset: 0.5, unit: Unit::Normalised, ..Output::default() };
        manifest.input.extra = vec![Extra { tensor: "size".into(), value: ExtraValue::WidthHeight }];
        manifest.input.fit = Fit::Centre;
        std::fs::write(dir.path().join("manifest.toml"), toml::to_string(&manifest).unwrap()).unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), manifest);
    }
}
