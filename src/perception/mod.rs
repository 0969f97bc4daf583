//! Perception: pictures and poses in, georeferenced sightings out.
//!
//! Everything that touches OpenCV and ONNX Runtime on the station's behalf runs in a child process, `aerie perceive`
//! ([`child`]), so that a crash in a decoder or a bad model never reaches flight control. The station holds a
//! [`Perception`] ([`supervise`]), which starts the child, feeds it, and starts it again. [`protocol`] is the stream
//! between the two. [`detect`] is the engine itself, also used in process by `aerie inspect` and `aerie detect`: it runs a
//! model ([`graph`]) whose output is read as its [`manifest`] says ([`families`]).

pub mod annotate;
pub mod antialias;
pub mod child;
pub mod decode;
pub mod describe;
pub mod detect;
pub mod evaluate;
pub mod families;
pub mod graph;
pub mod ledger;
pub mod manifest;
pub mod onnx;
pub mod pipeline;
pub mod protocol;
pub mod provider;
pub mod quality;
pub mod sources;
pub mod supervise;
pub mod tiling;
pub mod track;
pub mod whole;

use std::path::{Path, PathBuf};

pub use manifest::{Class, Manifest};
pub use supervise::{Perception, PerceptionState};

use crate::runtime::paths;

/// The directory of the model to use: the one that was named, or the default model that came with aerie.
pub fn model_dir(named: Option<&Path>) -> PathBuf {
    match named {
        Some(dir) => dir.to_owned(),
        None => paths::default_model_dir(),
    }
}
