//! A model's manifest: what its graph cannot say of itself. `manifest.toml` beside the ONNX file.

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
    /// The ground sample distance the model was trained at, metres per pixel.
    pub gsd_m: f64,
    pub nms_iou: f32,
    pub licence: String,
    pub input: Input,
    pub classes: Vec<Class>,
}

/// How the output tensor is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// `[1, 4 + classes, N]`: centre x, centre y, width, height in input pixels, then one probability a class.
    YoloRaw,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The largest tile when `dynamic`, else the only size.
    pub width: u32,
    pub height: u32,
    pub stride: u32,
    pub dynamic: bool,
    pub color: Color,
    /// A pixel's value is divided by this.
    pub scale: f32,
    /// The grey that fills what a tile has beyond the picture.
    pub pad: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    Rgb,
    Bgr,
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

    fn fault(&self) -> Option<(String, String)> {
        let say = |key: &str, fault: &str| Some((key.to_owned(), fault.to_owned()));
        let Input { width, height, stride, scale, .. } = self.input;
        if self.file.contains(['/', '\\']) || self.file.is_empty() {
            return say("file", "must be the name of a file beside the manifest");
        }
        if !(self.gsd_m > 0.0 && self.gsd_m < 10.0) {
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
        if self.classes.is_empty() {
            return say("classes", "at least one class is needed");
        }
        for (index, class) in self.classes.iter().enumerate() {
            if !(class.threshold > 0.0 && class.threshold < 1.0) {
                return say(&format!("classes[{index}].threshold"), "must lie between 0 and 1");
            }
            if !class.centre_height_m.is_finite() {
                return say(&format!("classes[{index}].centre_height_m"), "must be a number");
            }
        }
        None
    }

    /// Reads the model file and refuses it unless it has the hash the manifest names.
    pub fn model_bytes(&self, dir: &Path) -> Result<Vec<u8>, ManifestError> {
        let path = dir.join(&self.file);
        let bytes = std::fs::read(&path).map_err(|source| ManifestError::Unreadable { path: path.clone(), source })?;
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
    fn an_unknown_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let good = std::fs::read_to_string(crate::perception::model_dir(None).join("manifest.toml")).unwrap();
        std::fs::write(dir.path().join("manifest.toml"), format!("colour = \"rgb\"\n{good}")).unwrap();
        let message = Manifest::read(dir.path()).unwrap_err().to_string();
        assert!(message.contains("colour") && message.contains("manifest.toml"), "{message}");
    }
}
