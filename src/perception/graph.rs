//! A model that is loaded: its graph in an ONNX Runtime session, checked against its manifest, fed from views of pictures.
//!
//! A graph takes a picture and perhaps its size, in `f32`, `f16` or bytes, of fixed or any shape. Its input buffer is
//! allocated once; what a run writes into it comes straight from the picture's rows. The tensors that come out are read by
//! [`families`].

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use half::f16;
use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Outlet, TensorElementType, TensorRef, ValueType};

use super::describe::layout::Out;
use super::families::prepare::{self, Placement, Planes, Tables, View};
use super::families::{self, Candidate, FamilyError, Tensor};
use super::manifest::{ExtraValue, Input, Layout, Manifest, ManifestError};
use super::provider::{Chosen, Provider, Refused};
use crate::runtime::paths::{self, MissingPiece};

#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Missing(#[from] MissingPiece),
    #[error("ONNX Runtime at {path} cannot be used: {message}; aerie needs version 1.24.4 (`make setup`)")]
    Runtime { path: PathBuf, message: String },
    #[error("{path} is not a model that ONNX Runtime can load: {message}; export or copy it again")]
    Corrupt { path: PathBuf, message: String },
    #[error("no execution provider of the list takes {path}: {reasons}; add \"cpu\" to run on the processor")]
    NoProvider { path: PathBuf, reasons: String },
    #[error("{path}: {fault}; the manifest and the graph must say the same")]
    Input { path: PathBuf, fault: String },
    #[error("{path} has no output {wanted:?}, it has {has}; correct output.tensors of its manifest")]
    NoOutput { path: PathBuf, wanted: String, has: String },
    #[error("{path}: output {tensor} is of type {element}, which is not read; export it in f32 or f16")]
    Element { path: PathBuf, tensor: String, element: String },
    #[error("{path}: {fault}")]
    Family { path: PathBuf, fault: FamilyError },
    #[error("{path} speaks of {told} classes ({whence}), the manifest has {manifest}; correct [[classes]]")]
    Classes { path: PathBuf, told: usize, whence: &'static str, manifest: usize },
    #[error("{path}: inference failed: {message}")]
    Inference { path: PathBuf, message: String },
    #[error("a part of {width} x {height} pixels was to be put into the {max_width} x {max_height} of {path}")]
    TooLarge { path: PathBuf, width: u32, height: u32, max_width: u32, max_height: u32 },
}

/// How a session is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads of one run.
    pub threads: usize,
    /// In the order they are tried.
    pub providers: Vec<Provider>,
    /// On the processor: memory goes back to the allocator after each run, for some more time (docs/performance.md).
    pub lean: bool,
}

impl Default for Options {
    /// One thread on the processor: flight control shares this computer.
    fn default() -> Self {
        Options { threads: 1, providers: vec![Provider::Cpu], lean: false }
    }
}

pub struct Graph {
    manifest: Manifest,
    path: PathBuf,
    chosen: Chosen,
    session: Session,
    /// The picture's tensor; what else the graph wants, with its value for a size of the input.
    picture: String,
    picture_rank: usize,
    extras: Vec<(String, Extra)>,
    /// The outputs in the order the family reads them.
    outputs: Vec<String>,
    buffer: Buffer,
    /// What the buffer's padding was laid for.
    laid: Option<Placement>,
    thresholds: Vec<f32>,
    /// Processor time of this thread in `session.run`, of all runs.
    inference: Duration,
    /// Pixels that went into all runs, padding included: what the work is in proportion to.
    fed: u64,
}

/// The input in the element the graph wants.
enum Buffer {
    F32(Box<Tables<f32>>, Option<Planes>, Vec<f32>),
    F16(Box<Tables<f16>>, Vec<f16>),
    U8(Box<Tables<u8>>, Vec<u8>),
}

#[derive(Clone, Copy)]
struct Extra {
    value: ExtraValue,
    element: TensorElementType,
}

impl Graph {
    /// Loads the model in `dir`: manifest, hash, graph, and one run on grey that proves that the two agree.
    pub fn load(dir: &Path, options: &Options) -> Result<Graph, GraphError> {
        let manifest = Manifest::read(dir)?;
        let bytes = manifest.model_bytes(dir)?;
        Graph::from_bytes(manifest, dir, &bytes, options)
    }

    /// The same of a model that is not in its directory yet.
    pub fn from_bytes(manifest: Manifest, dir: &Path, bytes: &[u8], options: &Options) -> Result<Graph, GraphError> {
        let path = dir.join(&manifest.file);
        let (session, chosen) = open(&path, bytes, options)?;
        class_count(&manifest, &session, bytes, &path)?;
        let picture = picture_input(&manifest.input, &session, &path)?;
        let (picture, picture_rank, element) = (picture.name().to_owned(), dimensions(picture).len(), element(picture));
        let extras = extra_inputs(&manifest.input, &session, &picture, &path)?;
        let outputs = output_names(&manifest, &session, &path)?;
        let buffer = Buffer::new(&manifest.input, element).ok_or_else(|| GraphError::Input {
            path: path.clone(),
            fault: format!("input {picture} wants {element}, which is none of f32, f16 and u8"),
        })?;
        let thresholds = vec![0.0; manifest.classes.len()];
        let mut graph = Graph {
            manifest,
            path,
            chosen,
            session,
            picture,
            picture_rank,
            extras,
            outputs,
            buffer,
            laid: None,
            thresholds,
            inference: Duration::ZERO,
            fed: 0,
        };
        graph.prove()?;
        Ok(graph)
    }

    /// One run on an empty picture; a graph of any shape gets a small one.
    fn prove(&mut self) -> Result<(), GraphError> {
        let input = &self.manifest.input;
        let (width, height) = if input.dynamic {
            let side = (input.stride * 4).max(128).next_multiple_of(input.stride);
            (side.min(input.width), side.min(input.height))
        } else {
            (input.width, input.height)
        };
        let grey = image::RgbImage::from_pixel(width, height, image::Rgb([114; 3]));
        if let Some(view) = View::of(&grey) {
            self.run(&view, 1.0, &mut Vec::new())?;
        }
        Ok(())
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn chosen(&self) -> &Chosen {
        &self.chosen
    }

    /// Processor time spent in the graph itself so far, by runs with one thread: what is left is ours.
    pub fn inference_time(&self) -> Duration {
        self.inference
    }

    /// Pixels that went into the graph so far, padding included.
    pub fn fed_pixels(&self) -> u64 {
        self.fed
    }

    /// Looks at a part of a picture that has the model's scale and fits its input. Appends what reaches `floor` times its
    /// class's threshold, in the part's own pixels; what lies in the padding may reach beyond it.
    pub fn run(&mut self, view: &View<'_>, floor: f32, found: &mut Vec<Candidate>) -> Result<(), GraphError> {
        let placement = prepare::place(&self.manifest.input, view.size()).ok_or_else(|| GraphError::TooLarge {
            path: self.path.clone(),
            width: view.size().0,
            height: view.size().1,
            max_width: self.manifest.input.width,
            max_height: self.manifest.input.height,
        })?;
        self.buffer.write(view, &placement, self.laid != Some(placement));
        self.laid = Some(placement);
        for (threshold, class) in self.thresholds.iter_mut().zip(&self.manifest.classes) {
            *threshold = class.threshold * floor;
        }
        let before = found.len();
        let (manifest, path, thresholds) = (&self.manifest, &self.path, &self.thresholds);
        let failed = |e: ort::Error| GraphError::Inference { path: path.clone(), message: first_line(&e) };
        let shape = shape(&manifest.input, &placement, self.picture_rank);
        let mut values: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(1 + self.extras.len());
        values.push((Cow::Borrowed(&self.picture), self.buffer.value(shape).map_err(failed)?));
        for (name, extra) in &self.extras {
            values.push((Cow::Borrowed(name), extra.tensor(placement.input).map_err(failed)?));
        }
        let started = thread_cpu();
        let answers = self.session.run(values).map_err(failed)?;
        self.inference += thread_cpu().saturating_sub(started);
        self.fed += u64::from(placement.input.0) * u64::from(placement.input.1);
        let mut tensors = Vec::with_capacity(self.outputs.len());
        for name in &self.outputs {
            let value = answers.get(name).ok_or_else(|| GraphError::NoOutput {
                path: path.clone(),
                wanted: name.clone(),
                has: answers.keys().collect::<Vec<_>>().join(", "),
            })?;
            tensors.push(numbers(name, value).ok_or_else(|| GraphError::Element {
                path: path.clone(),
                tensor: name.clone(),
                element: format!("{}", value.dtype()),
            })?);
        }
        families::read(manifest, &tensors, placement.input, thresholds, found)
            .map_err(|fault| GraphError::Family { path: path.clone(), fault })?;
        let offset = [placement.at.0 as f32, placement.at.1 as f32];
        for candidate in &mut found[before..] {
            candidate.map(offset, [1.0, 1.0]);
        }
        Ok(())
    }
}

impl Buffer {
    fn new(input: &Input, element: TensorElementType) -> Option<Buffer> {
        Some(match element {
            TensorElementType::Float32 => Buffer::F32(Box::new(Tables::new(input, |x| x)), Planes::new(input), vec![]),
            TensorElementType::Float16 => Buffer::F16(Box::new(Tables::new(input, f16::from_f32)), vec![]),
            // Saturates, as the graph's own arithmetic would.
            TensorElementType::Uint8 => Buffer::U8(Box::new(Tables::new(input, |x| x.round() as u8)), vec![]),
            _ => return None,
        })
    }

    fn write(&mut self, view: &View<'_>, placement: &Placement, lay: bool) {
        fn into<T: Copy + Default>(
            tables: &Tables<T>,
            to: &mut Vec<T>,
            view: &View<'_>,
            placement: &Placement,
            lay: bool,
        ) {
            if lay {
                to.resize(Tables::<T>::length(placement), T::default());
                tables.clear(placement, to);
            }
            tables.write(view, placement, to);
        }
        match self {
            Buffer::F32(tables, Some(planes), to) if Planes::takes(view) => {
                if lay {
                    to.resize(Tables::<f32>::length(placement), 0.0);
                    tables.clear(placement, to);
                }
                if planes.write(view, placement, to).is_err() {
                    tables.write(view, placement, to);
                }
            }
            Buffer::F32(tables, _, to) => into(tables, to, view, placement, lay),
            Buffer::F16(tables, to) => into(tables, to, view, placement, lay),
            Buffer::U8(tables, to) => into(tables, to, view, placement, lay),
        }
    }

    fn value(&self, shape: Vec<i64>) -> ort::Result<SessionInputValue<'_>> {
        Ok(match self {
            Buffer::F32(_, _, numbers) => TensorRef::from_array_view((shape, numbers.as_slice()))?.into(),
            Buffer::F16(_, numbers) => TensorRef::from_array_view((shape, numbers.as_slice()))?.into(),
            Buffer::U8(_, numbers) => TensorRef::from_array_view((shape, numbers.as_slice()))?.into(),
        })
    }
}

impl Extra {
    fn tensor(&self, (width, height): (u32, u32)) -> ort::Result<SessionInputValue<'static>> {
        use ort::value::Tensor as Owned;
        let two = vec![1, 2];
        let (shape, numbers) = match self.value {
            ExtraValue::WidthHeight => (two, vec![width, height]),
            ExtraValue::HeightWidth => (two, vec![height, width]),
            ExtraValue::Ones => (two, vec![1, 1]),
            ExtraValue::Mask => (vec![1, height as usize, width as usize], vec![1; (width * height) as usize]),
        };
        let numbers = numbers.into_iter();
        Ok(match self.element {
            TensorElementType::Int64 => Owned::from_array((shape, numbers.map(i64::from).collect::<Vec<_>>()))?.into(),
            TensorElementType::Int32 => {
                Owned::from_array((shape, numbers.map(|n| n as i32).collect::<Vec<_>>()))?.into()
            }
            TensorElementType::Bool => Owned::from_array((shape, numbers.map(|n| n != 0).collect::<Vec<_>>()))?.into(),
            TensorElementType::Float16 => {
                Owned::from_array((shape, numbers.map(|n| f16::from_f32(n as f32)).collect::<Vec<_>>()))?.into()
            }
            _ => Owned::from_array((shape, numbers.map(|n| n as f32).collect::<Vec<_>>()))?.into(),
        })
    }
}

/// One run of a graph that nobody has described yet: all outputs that are numbers.
pub(super) fn trial(
    session: &mut Session,
    path: &Path,
    input: &Input,
    (name, rank, element): (&str, usize, TensorElementType),
    picture: &image::RgbImage,
) -> Result<Vec<Out>, GraphError> {
    let fault = |fault: String| GraphError::Input { path: path.to_owned(), fault };
    let mut buffer = Buffer::new(input, element)
        .ok_or_else(|| fault(format!("input {name} wants {element}, which is none of f32, f16 and u8")))?;
    let size = (input.width, input.height);
    let placement = Placement { input: size, at: (0, 0), size };
    let view = View::of(picture).ok_or_else(|| fault("an input without pixels".to_owned()))?;
    buffer.write(&view, &placement, true);
    let extras = extra_inputs(input, session, name, path)?;
    let failed = |e: ort::Error| GraphError::Inference { path: path.to_owned(), message: first_line(&e) };
    let mut values: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::new();
    values.push((Cow::Borrowed(name), buffer.value(shape(input, &placement, rank)).map_err(failed)?));
    for (name, extra) in &extras {
        values.push((Cow::Borrowed(name), extra.tensor(size).map_err(failed)?));
    }
    let answers = session.run(values).map_err(failed)?;
    let integers = [TensorElementType::Int64, TensorElementType::Int32, TensorElementType::Uint8];
    Ok(answers
        .iter()
        .filter_map(|(name, value)| {
            let tensor = numbers(name, &value)?;
            let integer = matches!(value.dtype(), ValueType::Tensor { ty, .. } if integers.contains(ty));
            Some(Out { name: name.to_owned(), shape: tensor.shape, integer, data: tensor.data.into_owned() })
        })
        .collect())
}

fn shape(input: &Input, placement: &Placement, rank: usize) -> Vec<i64> {
    let (width, height) = (i64::from(placement.input.0), i64::from(placement.input.1));
    let whole = match input.layout {
        Layout::Nchw => [1, 3, height, width],
        Layout::Nhwc => [1, height, width, 3],
    };
    whole[4 - rank.clamp(3, 4)..].to_vec()
}

/// An output's numbers as `f32`; none for types that cannot be read.
pub(super) fn numbers<'v>(name: &'v str, value: &'v DynValue) -> Option<Tensor<'v>> {
    let tensor = |shape: &[i64], data: Cow<'v, [f32]>| Tensor {
        name,
        shape: shape.iter().map(|n| usize::try_from(*n).unwrap_or(0)).collect(),
        data,
    };
    let ValueType::Tensor { ty, .. } = value.dtype() else { return None };
    macro_rules! converted {
        ($t:ty, $to:expr) => {{
            let (shape, data) = value.try_extract_tensor::<$t>().ok()?;
            tensor(shape, Cow::Owned(data.iter().map($to).collect()))
        }};
    }
    Some(match ty {
        TensorElementType::Float32 => {
            let (shape, data) = value.try_extract_tensor::<f32>().ok()?;
            tensor(shape, Cow::Borrowed(data))
        }
        TensorElementType::Float16 => converted!(f16, |x| x.to_f32()),
        TensorElementType::Float64 => converted!(f64, |x| *x as f32),
        TensorElementType::Int64 => converted!(i64, |x| *x as f32),
        TensorElementType::Int32 => converted!(i32, |x| *x as f32),
        TensorElementType::Uint8 => converted!(u8, |x| f32::from(*x)),
        _ => return None,
    })
}

pub(super) fn dimensions(outlet: &Outlet) -> Vec<i64> {
    match outlet.dtype() {
        ValueType::Tensor { shape, .. } => shape.to_vec(),
        _ => vec![],
    }
}

pub(super) fn element(outlet: &Outlet) -> TensorElementType {
    match outlet.dtype() {
        ValueType::Tensor { ty, .. } => *ty,
        _ => TensorElementType::Undefined,
    }
}

/// The input that takes the picture, and that its shape is the manifest's.
fn picture_input<'s>(input: &Input, session: &'s Session, path: &Path) -> Result<&'s Outlet, GraphError> {
    let fault = |fault: String| GraphError::Input { path: path.to_owned(), fault };
    let named: Vec<&Outlet> = match &input.tensor {
        Some(name) => session.inputs().iter().filter(|i| i.name() == name).collect(),
        None => {
            let of_rank = |rank| session.inputs().iter().filter(move |i| dimensions(i).len() == rank);
            let four: Vec<_> = of_rank(4).collect();
            if four.is_empty() { of_rank(3).collect() } else { four }
        }
    };
    let names = || session.inputs().iter().map(Outlet::name).collect::<Vec<_>>().join(", ");
    let [picture] = named[..] else {
        return Err(fault(format!(
            "{} of its inputs ({}) could take a picture; name it in input.tensor",
            named.len(),
            names()
        )));
    };
    let (name, found) = (picture.name(), dimensions(picture));
    if !(3..=4).contains(&found.len()) {
        return Err(fault(format!("input {name} has {} dimensions, a picture has 4", found.len())));
    }
    let size = (input.width, input.height);
    let wanted = shape(input, &Placement { input: size, at: (0, 0), size }, found.len());
    if wanted.iter().zip(&found).any(|(wanted, found)| *found > 0 && found != wanted) {
        return Err(fault(format!("input {name} has the shape {found:?}, the manifest gives it {wanted:?}")));
    }
    let fixed = |axis: usize| found[found.len() - 4 + axis] > 0;
    let (rows, columns) = match input.layout {
        Layout::Nchw => (2, 3),
        Layout::Nhwc => (1, 2),
    };
    if input.dynamic && found.len() == 4 && fixed(rows) && fixed(columns) {
        return Err(fault(format!("input {name} has the fixed shape {found:?}, the manifest says dynamic = true")));
    }
    Ok(picture)
}

fn extra_inputs(
    input: &Input,
    session: &Session,
    picture: &str,
    path: &Path,
) -> Result<Vec<(String, Extra)>, GraphError> {
    session
        .inputs()
        .iter()
        .filter(|outlet| outlet.name() != picture)
        .map(|outlet| match input.extra.iter().find(|extra| extra.tensor == outlet.name()) {
            Some(extra) => Ok((outlet.name().to_owned(), Extra { value: extra.value, element: element(outlet) })),
            None => Err(GraphError::Input {
                path: path.to_owned(),
                fault: format!("input {} is not in the manifest; say in [[input.extra]] what it wants", outlet.name()),
            }),
        })
        .collect()
}

/// Rows that the graph selected itself hold a class's number and not a score for each: their shape cannot tell how many
/// classes there are. The metadata may, or the divisor by which the labels were made.
fn class_count(manifest: &Manifest, session: &Session, bytes: &[u8], path: &Path) -> Result<(), GraphError> {
    use super::manifest::{Background, Family};
    if !matches!(manifest.family, Family::YoloEnd2end | Family::Triples | Family::YoloObb | Family::YoloSeg) {
        return Ok(());
    }
    let metadata = session.metadata().ok().and_then(|m| m.custom("names"));
    let named = metadata.and_then(|names| super::describe::names::python(&names)).map(|names| names.len());
    let divided = || {
        // RT-DETR and its children alone: elsewhere a division may be of something else.
        let rt_detr = manifest.family == Family::Triples
            && manifest.output.background == Background::None
            && manifest.input.extra.iter().any(|extra| extra.value == ExtraValue::WidthHeight);
        let labels = manifest.output.tensors.first().filter(|_| rt_detr)?;
        super::onnx::Model::read(bytes).ok()?.label_divisor(labels).and_then(|n| usize::try_from(n).ok())
    };
    let told = named
        .map(|n| (n, "names in its metadata"))
        .or_else(|| Some((divided()?, "what its labels are a remainder of")));
    match told {
        Some((told, whence)) if told != manifest.classes.len() => {
            Err(GraphError::Classes { path: path.to_owned(), told, whence, manifest: manifest.classes.len() })
        }
        _ => Ok(()),
    }
}

fn output_names(manifest: &Manifest, session: &Session, path: &Path) -> Result<Vec<String>, GraphError> {
    let has: Vec<&str> = session.outputs().iter().map(Outlet::name).collect();
    if manifest.output.tensors.is_empty() {
        return Ok(has.into_iter().map(str::to_owned).collect());
    }
    match manifest.output.tensors.iter().find(|name| !has.contains(&name.as_str())) {
        Some(wanted) => {
            Err(GraphError::NoOutput { path: path.to_owned(), wanted: wanted.clone(), has: has.join(", ") })
        }
        None => Ok(manifest.output.tensors.clone()),
    }
}

/// A session of the first provider that takes the graph.
pub fn open(path: &Path, bytes: &[u8], options: &Options) -> Result<(Session, Chosen), GraphError> {
    let environment = environment()?;
    let mut refused: Vec<Refused> = Vec::new();
    for provider in &options.providers {
        let reason = match provider.dispatch() {
            Err(reason) => reason,
            Ok(dispatch) => {
                let on_cpu = dispatch.is_none();
                let lean =
                    (on_cpu && options.lean).then(|| ort::ep::CPU::default().with_arena_allocator(false).build());
                match session(environment, bytes, options.threads, dispatch.or(lean)) {
                    Ok(session) => return Ok((session, Chosen { provider: *provider, refused })),
                    // The processor takes every model: the fault is the file's.
                    Err(error) if on_cpu => {
                        return Err(GraphError::Corrupt { path: path.to_owned(), message: first_line(&error) });
                    }
                    Err(error) => first_line(&error),
                }
            }
        };
        tracing::info!(provider = provider.name(), reason, "execution provider refused");
        refused.push(Refused { provider: *provider, reason });
    }
    let reasons = refused.iter().map(Refused::to_string).collect::<Vec<_>>().join("; ");
    Err(GraphError::NoProvider { path: path.to_owned(), reasons })
}

fn session(
    environment: &Environment,
    bytes: &[u8],
    threads: usize,
    provider: Option<ort::ep::ExecutionProviderDispatch>,
) -> ort::Result<Session> {
    let mut builder = Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        // Threads sleep when idle.
        .with_config_entry("session.intra_op.allow_spinning", "0")?;
    if let Some(provider) = provider {
        builder = builder.with_execution_providers([provider])?;
    }
    builder.commit_from_memory(bytes)
}

/// ONNX Runtime lives once a process.
fn environment() -> Result<&'static Environment, GraphError> {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    if let Some(environment) = ENVIRONMENT.get() {
        return Ok(environment);
    }
    let path = paths::onnxruntime()?;
    let unusable =
        |error: &dyn std::fmt::Display| GraphError::Runtime { path: path.clone(), message: first_line(error) };
    let built =
        ort::init_from(&path).map_err(|e| unusable(&e))?.with_telemetry(false).build().map_err(|e| unusable(&e))?;
    Ok(ENVIRONMENT.get_or_init(|| built))
}

/// Processor time of this process, all of its threads. Unlike the clock it stands still while others have the processor.
pub fn process_cpu() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

fn thread_cpu() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

/// What ONNX Runtime says, without the place in its own source that it often puts in front: file, line and signature.
pub(super) fn first_line(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let Some(signature) = line.find("/onnxruntime_src/").and_then(|at| Some(at + line[at..].find('(')?)) else {
        return line.to_owned();
    };
    let mut depth = 0;
    for (at, c) in line[signature..].char_indices() {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        if depth == 0 {
            let rest = line[signature + at + 1..].trim();
            return if rest.is_empty() { line.to_owned() } else { rest.to_owned() };
        }
    }
    line.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_runtime_says_is_told_without_its_source() {
        let long = "/onnxruntime_src/core/graph.h:46 void ort::check(const std::map<std::string, int>&, bool (*)(int)) Opset 99 (new) is not known.\nmore";
        assert_eq!(first_line(&long), "Opset 99 (new) is not known.");
        assert_eq!(first_line(&"Protobuf parsing failed."), "Protobuf parsing failed.");
        assert_eq!(first_line(&"/onnxruntime_src/a.cc:1 void f()"), "/onnxruntime_src/a.cc:1 void f()");
    }
}
