//! Models of every family, described by `aerie model describe` and looked with by `aerie detect`, against boxes that were
//! computed in Python after each project's own code (`fixtures/families/make.py`; the real models, by the projects'
//! packages themselves). And what must be refused, with what is said then.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use aerie::perception::manifest::Family;
use aerie::perception::supervise;
use clap::ValueEnum as _;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families").join(name)
}

fn expected(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture(name)).unwrap()).unwrap()
}

fn aerie(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aerie")).args(args).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A model directory of the file; the options are those of `aerie model describe`.
fn described(file: &Path, options: &[&str]) -> tempfile::TempDir {
    description(file, options).0
}

/// The same, and what was said of it.
fn description(file: &Path, options: &[&str]) -> (tempfile::TempDir, Value) {
    let dir = tempfile::tempdir().unwrap();
    let args = [&["model", "describe", text(file), "--out", text(dir.path()), "--json"][..], options].concat();
    let said = aerie(&args);
    assert!(said.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&said.stderr));
    (dir, serde_json::from_slice(&said.stdout).unwrap())
}

/// What `aerie model describe` says when it refuses.
fn refused(file: &Path, options: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let args = [&["model", "describe", text(file), "--out", text(dir.path())][..], options].concat();
    let said = aerie(&args);
    assert!(!said.status.success(), "{} was described", file.display());
    assert!(!dir.path().join("manifest.toml").exists(), "a manifest was written for a refused model");
    String::from_utf8(said.stderr).unwrap()
}

fn detect(model: &Path, pictures: &[&Path]) -> Vec<Value> {
    let mut args = vec!["detect", "--json", "--model", text(model)];
    args.extend(pictures.iter().map(|p| text(p)));
    let said = aerie(&args);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    serde_json::from_slice(&said.stdout).unwrap()
}

/// By what the graph itself shows.
fn form_of(said: &Value) -> &'static str {
    let input = said["graph"]["inputs"][0].as_str().unwrap();
    match (&said["graph"]["quantised"], &said["manifest"]["input"]["dynamic"]) {
        (Value::Bool(true), _) => "int8",
        (_, Value::Bool(true)) => "of any size",
        _ if input.contains(" f16 ") => "f16",
        _ if input.contains(" f32 ") => "f32",
        _ => "bytes",
    }
}

/// COCO's run lengths as pixels, column by column.
fn pixels(counts: &Value) -> Vec<bool> {
    let counts = counts.as_array().unwrap().iter().map(|c| c.as_u64().unwrap() as usize);
    counts.enumerate().flat_map(|(run, length)| std::iter::repeat_n(run % 2 == 1, length)).collect()
}

fn bbox(detection: &Value) -> [f64; 4] {
    std::array::from_fn(|i| detection["box"][i].as_f64().unwrap())
}

fn score(detection: &Value) -> f64 {
    detection["score"].as_f64().unwrap()
}

fn iou(a: [f64; 4], b: [f64; 4]) -> f64 {
    let inter = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0) * (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let area = |r: [f64; 4]| (r[2] - r[0]) * (r[3] - r[1]);
    inter / (area(a) + area(b) - inter)
}

/// Every expected thing was found, and nothing else, but for what lies within `margin` of `threshold`. Pairs, surest first.
fn agree<'v>(
    name: &str,
    wanted: &'v [Value],
    found: &'v [Value],
    threshold: f64,
    margin: f64,
) -> Vec<(&'v Value, &'v Value)> {
    let mut left: Vec<&Value> = found.iter().collect();
    let mut pairs = Vec::new();
    for w in wanted {
        let best = left
            .iter()
            .enumerate()
            .filter(|(_, f)| f["class"] == w["class"])
            .map(|(i, f)| (i, iou(bbox(w), bbox(f))))
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .filter(|(_, iou)| *iou >= 0.95);
        match best {
            Some((index, _)) => {
                let f = left.remove(index);
                assert!((score(w) - score(f)).abs() <= margin, "{name}: {w} was found as {f}");
                pairs.push((w, f));
            }
            None => assert!(score(w) < threshold + margin, "{name}: {w} was not found"),
        }
    }
    for f in left {
        assert!(score(f) < threshold + margin, "{name}: {f} should not be there");
    }
    pairs
}

#[test]
fn every_family_gives_the_boxes_of_its_projects_own_decode() {
    let (mut forms, mut masks) = (BTreeSet::new(), Vec::new());
    for (name, case) in expected("expected.json").as_object().unwrap() {
        let options: Vec<&str> = case["options"].as_array().unwrap().iter().map(|o| o.as_str().unwrap()).collect();
        let (model, said) = description(&fixture(&format!("{name}.onnx")), &options);
        let found = &detect(model.path(), &[&fixture("picture.png")])[0];
        let wanted = case["detections"].as_array().unwrap();
        let found = found["detections"].as_array().unwrap();
        // The list of expected boxes is cut off after so many: weaker ones are not looked at.
        let given = options.iter().position(|o| *o == "--threshold").map_or(0.25, |i| options[i + 1].parse().unwrap());
        let threshold = if wanted.len() == 24 { score(&wanted[23]) } else { given };
        forms.insert((said["manifest"]["family"].as_str().unwrap().to_owned(), form_of(&said)));
        for (wanted, found) in agree(name, wanted, found, threshold, 0.01) {
            if let Some(corners) = wanted["corners"].as_array() {
                let near = |w: &Value, f: &Value| {
                    (0..2).all(|i| (w[i].as_f64().unwrap() - f[i].as_f64().unwrap()).abs() < 1.0)
                };
                let found = found["corners"].as_array().unwrap();
                assert!(corners.iter().all(|w| found.iter().any(|f| near(w, f))), "{name}: {corners:?} {found:?}");
            }
            if wanted.get("mask").is_some() {
                let (wanted, found) = (pixels(&wanted["mask"]), pixels(&found["mask"]["counts"]));
                assert_eq!((wanted.len(), found.len()), (120 * 90, 120 * 90), "{name}");
                let inside = wanted.iter().filter(|p| **p).count();
                let apart = wanted.iter().zip(&found).filter(|(w, f)| w != f).count();
                // A pixel at the box's edge may fall to either side.
                assert!(apart <= 2 + inside / 50, "{name}: {apart} pixels differ, {inside} are the thing's");
                masks.push(inside);
            }
        }
    }
    // Masks of a size that can be wrong.
    assert!(masks.len() > 20 && masks.iter().filter(|inside| **inside > 100).count() > 10, "{masks:?}");
    let families = Family::value_variants().iter().map(|family| family.name().to_owned());
    let wanted = families.flat_map(|f| ["f16", "f32", "int8", "of any size"].map(|form| (f.clone(), form)));
    let missing: Vec<_> = wanted.filter(|wanted| !forms.contains(wanted)).collect();
    assert!(missing.is_empty(), "no graph of {missing:?}");
}

#[test]
fn real_models_give_the_boxes_of_their_projects_own_code() {
    let root = std::env::var_os("AERIE_TEST_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    if !root.join("onnx_families").is_dir() {
        println!("skipped: {} is absent (set AERIE_TEST_DATA)", root.join("onnx_families").display());
        return;
    }
    for (name, pictures) in expected("real.json").as_object().unwrap() {
        let model = described(&root.join(format!("onnx_families/{name}.onnx")), &[]);
        let pictures = pictures.as_object().unwrap();
        let files: Vec<PathBuf> = pictures.keys().map(|p| root.join(p)).collect();
        let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        for ((picture, wanted), found) in pictures.iter().zip(detect(model.path(), &files)) {
            let (wanted, found) = (wanted.as_array().unwrap(), found["detections"].as_array().unwrap());
            agree(&format!("{name}, {picture}"), wanted, found, 0.25, 0.02);
        }
    }
}

#[test]
fn a_graph_that_could_be_two_families_is_refused_with_what_to_pass() {
    let said = refused(&fixture("bad_unclear.onnx"), &[]);
    assert!(said.contains("--family yolo_raw") && said.contains("--family yolo_obb"), "{said}");
    let turned = described(&fixture("bad_unclear.onnx"), &["--family", "yolo_obb"]);
    let manifest = std::fs::read_to_string(turned.path().join("manifest.toml")).unwrap();
    assert!(manifest.contains("class_2") && !manifest.contains("class_3"), "{manifest}");
    // Said otherwise, by the number of classes.
    described(&fixture("bad_unclear.onnx"), &["--classes", "a,b,c,d"]);
}

#[test]
fn what_the_graph_cannot_say_is_named_and_taken_from_options() {
    let dir = tempfile::tempdir().unwrap();
    let file = fixture("yolox.onnx");
    let args = ["model", "describe", text(&file), "--out", text(dir.path()), "--json"];
    let said: Value = serde_json::from_slice(&aerie(&args).stdout).unwrap();
    let keys = |list: &str| -> Vec<String> {
        said[list].as_array().unwrap().iter().map(|n| n["key"].as_str().unwrap().to_owned()).collect()
    };
    for key in ["gsd_m", "licence", "classes.name", "classes.grade"] {
        assert!(keys("missing").contains(&key.to_owned()), "{key}: {said}");
    }
    assert!(keys("assumed").contains(&"classes.threshold".to_owned()), "{said}");
    // A second description needs to be told to write over the first.
    assert!(!aerie(&args).status.success());
    let given = [
        "--force",
        "--gsd-m",
        "0.05",
        "--licence",
        "MIT",
        "--classes",
        "a,b,c",
        "--threshold",
        "0.4",
        "--name",
        "mine",
    ];
    let said = aerie(&[&args[..], &given].concat());
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    let m = &said["manifest"];
    assert_eq!(
        (m["gsd_m"].as_f64(), m["licence"].as_str(), m["name"].as_str()),
        (Some(0.05), Some("MIT"), Some("mine"))
    );
    assert_eq!((m["classes"][2]["name"].as_str(), said["missing"].as_array().unwrap().len()), (Some("c"), 2));
}

#[test]
fn damaged_models_are_refused_with_their_file_and_reason() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(fixture("yolo_raw.onnx")).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    for (file, words) in [
        (write("empty.onnx", b""), "0 bytes"),
        (write("cut.onnx", &whole[..whole.len() / 2]), "cut off"),
        (write("text.onnx", b"this is not a model at all, it is text"), "not an ONNX file"),
        (fixture("bad_opset.onnx"), "opset"),
        (fixture("bad_nan.onnx"), "not finite"),
    ] {
        let said = refused(&file, &[]);
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(said.contains(words) && said.contains(name), "{name}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// A described model whose manifest was changed afterwards: what every command says of it.
fn tampered(name: &str, from: &str, to: &str) -> String {
    let model = described(&fixture(name), &[]);
    let path = model.path().join("manifest.toml");
    let manifest = std::fs::read_to_string(&path).unwrap();
    assert!(manifest.contains(from), "{from} is not in {manifest}");
    std::fs::write(&path, manifest.replacen(from, to, 1)).unwrap();
    let said = aerie(&["model", "probe", text(model.path())]);
    assert!(!said.status.success(), "{to} was taken");
    String::from_utf8(said.stderr).unwrap()
}

#[test]
fn a_manifest_that_does_not_fit_its_graph_is_refused_at_loading() {
    let more = "[[classes]]\nname = \"one more\"\nthreshold = 0.5\ngrade = \"not-measured\"\ncentre_height_m = 0.0\n";
    let said = tampered("yolo_raw.onnx", "[[classes]]", &format!("{more}[[classes]]"));
    assert!(said.contains("4 classes") && said.contains("model.onnx"), "{said}");
    // Rows that were selected inside do not show how many classes there are: the names in the metadata, or what the labels
    // were divided by.
    for (name, whence) in [("yolo_end2end.onnx", "metadata"), ("yolo_seg_selected.onnx", "metadata")] {
        let said = tampered(name, "[[classes]]", &format!("{more}[[classes]]"));
        assert!(said.contains("3 classes") && said.contains("has 4") && said.contains(whence), "{said}");
    }
    let said = refused(&fixture("triples.onnx"), &["--classes", "a,b"]);
    assert!(said.contains("3 classes") && said.contains("has 2") && said.contains("labels"), "{said}");
    let said = tampered("yolo_raw.onnx", "\"output0\"", "\"output7\"");
    assert!(said.contains("no output \"output7\"") && said.contains("output0"), "{said}");
    let said = tampered("yolo_raw.onnx", "width = 96", "width = 128");
    assert!(said.contains("[1, 3, 96, 96]"), "{said}");
    let said = tampered("yolo_raw.onnx", "dynamic = false", "dynamic = true");
    assert!(said.contains("dynamic"), "{said}");
    let said = tampered("yolo_raw.onnx", "family = \"yolo_raw\"", "family = \"yolo_seg\"");
    assert!(said.contains("yolo_seg"), "{said}");
    let said = tampered("yolo_raw.onnx", "sha256 = \"", "sha256 = \"00");
    assert!(said.contains("sha256"), "{said}");
}

#[test]
fn odd_pictures_are_looked_at_or_refused_by_name() {
    let model = described(&fixture("yolo_raw.onnx"), &[]);
    let dir = tempfile::tempdir().unwrap();
    let pixel = dir.path().join("pixel.png");
    image::RgbImage::from_pixel(1, 1, image::Rgb([200, 30, 40])).save(&pixel).unwrap();
    let thin = dir.path().join("thin.png");
    image::RgbImage::from_pixel(3000, 1, image::Rgb([200, 30, 40])).save(&thin).unwrap();
    for found in detect(model.path(), &[&pixel, &thin]) {
        assert!(found.get("error").is_none(), "{found}");
    }
    // One that is none is named, the others are looked at all the same, and the command has failed.
    let words = dir.path().join("words.png");
    std::fs::write(&words, "no picture").unwrap();
    let said = aerie(&["detect", text(&words), text(&pixel), "--json", "--model", text(model.path())]);
    let error = String::from_utf8(said.stderr).unwrap();
    let looked: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert!(said.status.code() == Some(1) && error.contains("words.png") && error.contains("TIFF"), "{error}");
    assert!(looked[0]["error"].is_string() && looked[1].get("error").is_none(), "{looked}");
    // Four inks: the same picture as in three colours, but for what the compression moves.
    let inks = aerie::perception::decode::open_rgb(&fixture("cmyk.jpg")).unwrap();
    let three = aerie::perception::decode::open_rgb(&fixture("picture.png")).unwrap();
    assert_eq!(inks.dimensions(), three.dimensions());
    let apart = inks.as_raw().iter().zip(three.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b)));
    let mean = apart.sum::<f64>() / inks.as_raw().len() as f64;
    assert!(mean < 3.0, "{mean} grey levels apart in the mean");
    // Two bytes a colour: the same as one.
    let deep = aerie::perception::decode::open_rgb(&fixture("deep.png")).unwrap();
    let whole = aerie::perception::decode::open_rgb(&fixture("picture.png")).unwrap();
    for (x, y, pixel) in deep.enumerate_pixels() {
        assert_eq!(pixel, whole.get_pixel(x * 3, y * 3), "{x} {y}");
    }
}

#[test]
fn a_picture_too_large_to_hold_is_refused_before_it_is_decoded() {
    // A PNG that announces 30000 x 30000 pixels, and has nearly none.
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = b"IHDR".to_vec();
    header.extend([30_000u32.to_be_bytes(), 30_000u32.to_be_bytes()].concat());
    header.extend([8, 2, 0, 0, 0]);
    for chunk in [&header[..], b"IDAT\x78\x9c\x03\x00\x00\x00\x00\x01"] {
        png.extend((chunk.len() as u32 - 4).to_be_bytes());
        png.extend(chunk);
        png.extend(crc(chunk).to_be_bytes());
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vast.png");
    std::fs::write(&file, png).unwrap();
    let said =
        aerie(&["detect", text(&file), "--model", text(described(&fixture("yolo_raw.onnx"), &[]).path()), "--json"]);
    let error = String::from_utf8(said.stderr).unwrap();
    assert!(!said.status.success() && error.contains("900 megapixels") && error.contains("vast.png"), "{error}");
}

/// PNG's checksum.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xEDB8_8320 } else { c >> 1 })
    })
}

#[test]
fn an_execution_provider_that_is_not_there_is_named_and_never_replaced_in_silence() {
    let model = described(&fixture("yolo_raw.onnx"), &[]);
    let said = aerie(&["model", "probe", text(model.path()), "--execution-provider", "cuda"]);
    let error = String::from_utf8(said.stderr).unwrap();
    assert!(!said.status.success() && error.contains("cuda: ") && error.contains("\"cpu\""), "{error}");
    let said = aerie(&["model", "probe", text(model.path()), "--execution-provider", "tensorrt,cuda,cpu", "--json"]);
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    let chosen = &said["execution_provider"];
    assert_eq!(chosen["provider"], "cpu");
    let refused: Vec<_> =
        chosen["refused"].as_array().unwrap().iter().map(|r| r["provider"].as_str().unwrap()).collect();
    assert_eq!(refused, ["tensorrt", "cuda"]);
}

/// A runtime that crashes over a model cannot be had to order: a stand-in dies as such a child does, for one model.
#[tokio::test]
async fn a_model_that_kills_the_child_is_named_and_the_last_good_one_goes_on() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let deadly = dir.path().join("deadly");
    std::fs::create_dir(&deadly).unwrap();
    let good = aerie::perception::model_dir(None);
    let manifest = std::fs::read_to_string(good.join("manifest.toml")).unwrap();
    std::fs::write(deadly.join("manifest.toml"), manifest.replace("model.onnx", "deadly.onnx")).unwrap();
    let program = dir.path().join("aerie");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *deadly*) kill -SEGV $$ ;; esac\nexec {} \"$@\"\n",
        env!("CARGO_BIN_EXE_aerie")
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let cancel = CancellationToken::new();
    let options = supervise::Options {
        program,
        model: deadly,
        fallback: Some(good),
        providers: vec![aerie::perception::provider::Provider::Cpu],
        pen: None,
    };
    let (perception, _looked) = supervise::spawn(options, cancel.clone());
    let mut state = perception.state();
    let running = tokio::time::timeout(Duration::from_secs(60), state.wait_for(|s| s.running)).await;
    let state = running.expect("no child came up").unwrap().clone();
    cancel.cancel();
    let reason = state.model_refused.unwrap();
    assert!(reason.contains("deadly.onnx") && reason.contains("signal"), "{reason}");
    assert_eq!(state.model.unwrap().name, "aerie-town");
    assert_eq!(state.provider.unwrap().provider, aerie::perception::provider::Provider::Cpu);
}
