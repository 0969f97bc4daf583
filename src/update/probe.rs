//! The probe: a child process loads a staged model and looks at its golden pictures, before any live frame is shown to it.
//!
//! [`look`] runs in the child (`aerie prove`), which may crash, hang or eat memory; [`run`] starts it, watches it and ends
//! it; [`judge`] is pure and says whether what it reported is good enough.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::{interval, timeout_at};

use super::release::Demands;
use crate::perception::Manifest;
use crate::perception::decode::open_rgb;
use crate::perception::detect::Detector;
use crate::perception::graph::{Options, process_cpu};
use crate::perception::onnx;
use crate::perception::provider::Provider;

/// The newest operator set that ONNX Runtime 1.24 implements.
const NEWEST_OPSET: u64 = 25;
/// Operators of these domains come with ONNX Runtime; another's would have to be loaded as code.
const DOMAINS: [&str; 4] = ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"];
/// Two boxes are the same thing from here on.
const SAME: f32 = 0.5;
/// No probe has more to say.
const REPORT_LIMIT: u64 = 4 << 20;

/// Pictures with what is in them, `expected.json` beside them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    pub pictures: Vec<GoldenPicture>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenPicture {
    pub file: String,
    /// Metres a pixel of this picture; as it is when left out.
    #[serde(default)]
    pub gsd_m: Option<f64>,
    pub boxes: Vec<GoldenBox>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenBox {
    pub class: String,
    /// x1, y1, x2, y2 in the picture's pixels.
    #[serde(rename = "box")]
    pub bbox: [f32; 4],
}

impl Golden {
    pub fn read(dir: &Path) -> Result<Golden, String> {
        let path = dir.join("expected.json");
        let bytes = std::fs::read(&path).map_err(|e| {
            format!("{}: {e}; a release needs golden pictures and what is in them, see docs/updates.md", path.display())
        })?;
        let golden: Golden = serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
        if golden.pictures.iter().all(|p| p.boxes.is_empty()) {
            return Err(format!("{}: pictures: none has a box; a blind model would pass", path.display()));
        }
        if let Some(bad) = golden.pictures.iter().find(|p| !super::release::is_plain_name(&p.file)) {
            return Err(format!("{}: {:?} is no plain file name", path.display(), bad.file));
        }
        Ok(golden)
    }
}

/// What the child found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Why it could not be used at all.
    #[serde(default)]
    pub fault: Option<String>,
    pub expected: u32,
    /// Of the expected, found with the right class.
    pub right: u32,
    pub found: u32,
    pub load_ms: f64,
    /// Of a look at a golden picture, the middle one: processor time, so that a busy computer makes no model slow; by the clock
    /// where the graph runs on something else.
    pub look_ms: f64,
    pub peak_mb: u64,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Report { expected, right, found, look_ms, peak_mb, .. } = self;
        write!(f, "{right} of {expected} golden boxes, {found} found in all, {look_ms:.0} ms a picture, {peak_mb} MB")
    }
}

/// What a station can bear.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    pub look_ms: f64,
    pub memory_mb: u64,
    pub time: Duration,
}

/// Pure: whether a report is good enough.
pub fn judge(report: &Report, demands: &Demands, limits: &Limits) -> Result<(), String> {
    if let Some(fault) = &report.fault {
        return Err(fault.clone());
    }
    let share = |part: u32, whole: u32| if whole == 0 { 0.0 } else { f64::from(part) / f64::from(whole) };
    let recall = share(report.right, report.expected);
    if report.found == 0 {
        return Err(format!("blind: of {} things in its golden pictures it finds none", report.expected));
    }
    if recall < demands.recall {
        return Err(format!(
            "finds {} of {} things in its golden pictures ({:.0} %, wanted {:.0} %)",
            report.right,
            report.expected,
            recall * 100.0,
            demands.recall * 100.0
        ));
    }
    let precision = share(report.right, report.found);
    if precision < demands.precision {
        return Err(format!(
            "{} of the {} things it finds in its golden pictures are not there ({:.0} % right, wanted {:.0} %)",
            report.found - report.right,
            report.found,
            precision * 100.0,
            demands.precision * 100.0
        ));
    }
    if report.look_ms > limits.look_ms {
        return Err(format!("slow: {:.0} ms a picture, {:.0} ms are allowed", report.look_ms, limits.look_ms));
    }
    if report.peak_mb > limits.memory_mb {
        return Err(format!("huge: {} MB of memory, {} MB are allowed", report.peak_mb, limits.memory_mb));
    }
    Ok(())
}

/// In the child. Never fails: what is wrong with the model is the report.
pub fn look(dir: &Path, golden: &Path, providers: Vec<Provider>) -> Report {
    let mut report = Report::default();
    if let Err(fault) = try_look(dir, golden, providers, &mut report) {
        report.fault = Some(fault);
    }
    report.peak_mb = memory_mb(std::process::id(), "VmHWM:").unwrap_or(0);
    report
}

fn try_look(dir: &Path, pictures: &Path, providers: Vec<Provider>, report: &mut Report) -> Result<(), String> {
    let manifest = Manifest::read(dir).map_err(|e| e.to_string())?;
    let bytes = manifest.model_bytes(dir).map_err(|e| e.to_string())?;
    let model = onnx::Model::read(&bytes).map_err(|e| format!("{}: {e}", manifest.file))?;
    for (domain, version) in &model.opsets {
        if !DOMAINS.contains(&domain.as_str()) {
            return Err(format!(
                "{} wants operators of {domain:?}, which would be code of somebody else's",
                manifest.file
            ));
        }
        if matches!(domain.as_str(), "" | "ai.onnx") && *version > NEWEST_OPSET {
            return Err(format!(
                "{} is of opset {version}; up to {NEWEST_OPSET} is understood: export it anew",
                manifest.file
            ));
        }
    }
    if let Some(external) = model.external {
        return Err(format!("{} keeps its weights in {external}; a release has them in one file", manifest.file));
    }
    drop(bytes);
    let golden = Golden::read(pictures)?;
    let started = Instant::now();
    let mut detector = Detector::load(dir, &Options { providers, ..Options::default() }).map_err(|e| e.to_string())?;
    manifest.ground_sample_distance(dir).map_err(|e| e.to_string())?;
    report.load_ms = started.elapsed().as_secs_f64() * 1e3;
    let mut times = Vec::new();
    for picture in &golden.pictures {
        let image = open_rgb(&pictures.join(&picture.file)).map_err(|e| e.to_string())?;
        let (started, cpu) = (Instant::now(), process_cpu());
        let found = detector.detect(&image, picture.gsd_m).map_err(|e| e.to_string())?;
        let on_processor = detector.chosen().provider.on_processor();
        let took = if on_processor { process_cpu().saturating_sub(cpu) } else { started.elapsed() };
        times.push(took.as_secs_f64() * 1e3);
        let class = |index: usize| manifest.classes.get(index).map_or("", |c| c.name.as_str());
        let found: Vec<_> = found.iter().map(|d| (class(d.class), d.bbox)).collect();
        let expected: Vec<_> = picture.boxes.iter().map(|b| (b.class.as_str(), b.bbox)).collect();
        report.expected += expected.len() as u32;
        report.found += found.len() as u32;
        report.right += pairs(&expected, &found) as u32;
    }
    times.sort_by(f64::total_cmp);
    report.look_ms = times.get(times.len() / 2).copied().unwrap_or(0.0);
    Ok(())
}

/// How many of `one` have a partner of the same class in `other`, each used once.
pub fn pairs(one: &[(&str, [f32; 4])], other: &[(&str, [f32; 4])]) -> usize {
    let mut free = vec![true; other.len()];
    one.iter()
        .filter(|(class, bbox)| {
            let like = other.iter().enumerate().filter(|(i, (c, _))| free[*i] && c == class);
            let like = like.map(|(i, (_, b))| (i, iou(bbox, b))).filter(|(_, iou)| *iou >= SAME);
            match like.max_by(|a, b| a.1.total_cmp(&b.1)) {
                Some((i, _)) => std::mem::replace(&mut free[i], false),
                None => false,
            }
        })
        .count()
}

fn iou(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let side = |low: f32, high: f32| (high - low).max(0.0);
    let both = side(a[0].max(b[0]), a[2].min(b[2])) * side(a[1].max(b[1]), a[3].min(b[3]));
    let area = |r: &[f32; 4]| side(r[0], r[2]) * side(r[1], r[3]);
    let all = area(a) + area(b) - both;
    if all > 0.0 { both / all } else { 0.0 }
}

/// In the station: starts the child, ends it when it takes too long or too much, and reads what it says.
pub async fn run(program: &Path, dir: &Path, providers: &[Provider], limits: &Limits) -> Result<Report, String> {
    let mut child = Command::new(program)
        .arg("prove")
        .arg("--model")
        .arg(dir)
        .args(providers.iter().map(|p| format!("--execution-provider={}", p.name())))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
    let pid = child.id().unwrap_or(0);
    let Some(out) = child.stdout.take() else { return Err("the probe has no standard output".to_owned()) };
    let mut said = Vec::new();
    let mut out = out.take(REPORT_LIMIT);
    let until = tokio::time::Instant::now() + limits.time;
    let listen = timeout_at(until, out.read_to_end(&mut said));
    let watch = async {
        let mut tick = interval(Duration::from_millis(100));
        loop {
            tick.tick().await;
            if let Some(used) = memory_mb(pid, "VmRSS:").filter(|used| *used > limits.memory_mb) {
                return used;
            }
        }
    };
    tokio::select! {
        used = watch => return Err(format!("huge: {used} MB of memory and growing, {} MB are allowed", limits.memory_mb)),
        heard = listen => match heard {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(format!("the probe could not be heard: {error}")),
            Err(_) => return Err(format!("slow: the probe did not end within {:?}", limits.time)),
        },
    }
    let status = child.wait().await.map_err(|error| format!("the probe is gone: {error}"))?;
    serde_json::from_slice(&said).map_err(|_| format!("the probe crashed over it ({status})"))
}

/// A line of `/proc/PID/status`, in MB; none when the process is gone.
pub fn memory_mb(pid: u32, line: &str) -> Option<u64> {
    let text = std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/status"))).ok()?;
    let kb: u64 = text.lines().find_map(|l| l.strip_prefix(line))?.split_whitespace().next()?.parse().ok()?;
    Some(kb * 1024 / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { look_ms: 1000.0, memory_mb: 500, time: Duration::from_secs(60) };

    fn report() -> Report {
        Report { expected: 10, right: 9, found: 10, load_ms: 100.0, look_ms: 300.0, peak_mb: 200, fault: None }
    }

    fn refused(report: Report) -> String {
        judge(&report, &Demands::default(), &LIMITS).unwrap_err()
    }

    #[test]
    fn a_model_that_finds_what_is_there_in_time_passes() {
        assert_eq!(judge(&report(), &Demands::default(), &LIMITS), Ok(()));
    }

    #[test]
    fn each_way_to_be_bad_is_named() {
        assert!(refused(Report { right: 0, found: 0, ..report() }).contains("blind"));
        assert!(refused(Report { right: 5, ..report() }).contains("5 of 10"));
        assert!(refused(Report { found: 30, ..report() }).contains("not there"));
        assert!(refused(Report { look_ms: 1001.0, ..report() }).contains("slow"));
        assert!(refused(Report { peak_mb: 501, ..report() }).contains("huge"));
        assert_eq!(refused(Report { fault: Some("opset 99".into()), ..report() }), "opset 99");
    }

    #[test]
    fn one_found_box_answers_for_one_expected_one_of_its_own_class() {
        let at = |x: f32| [x, 0.0, x + 10.0, 10.0];
        let expected = [("roof", at(0.0)), ("roof", at(1.0)), ("car", at(50.0))];
        assert_eq!(pairs(&expected, &[("roof", at(0.5))]), 1);
        assert_eq!(pairs(&expected, &[("roof", at(0.5)), ("roof", at(0.0)), ("roof", at(50.0))]), 2);
        assert_eq!(pairs(&expected, &[("car", at(50.0))]), 1);
        assert_eq!(pairs(&expected, &[("roof", at(20.0))]), 0);
    }

    #[test]
    fn golden_pictures_without_a_box_prove_nothing_and_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Golden::read(dir.path()).unwrap_err().contains("needs golden pictures"));
        let write = |text: &str| std::fs::write(dir.path().join("expected.json"), text).unwrap();
        write(r#"{"pictures": [{"file": "a.jpg", "boxes": []}]}"#);
        assert!(Golden::read(dir.path()).unwrap_err().contains("blind"));
        write(r#"{"pictures": [{"file": "../a.jpg", "boxes": [{"class": "roof", "box": [0, 0, 1, 1]}]}]}"#);
        assert!(Golden::read(dir.path()).unwrap_err().contains("../a.jpg"));
    }

    #[test]
    fn a_process_tells_its_memory() {
        assert!(memory_mb(std::process::id(), "VmRSS:").is_some_and(|mb| mb > 0));
    }
}
