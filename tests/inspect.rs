//! `aerie inspect` from files to files. The eye here is the labels that people drew: what a model finds is another matter.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aerie::cli::inspect::{InspectArgs, ModelInfo, run_with};
use aerie::perception::detect::Detection;
use aerie::perception::manifest::{Class, Grade};
use serde_json::Value;

fn data(below: &str) -> Option<PathBuf> {
    let root = std::env::var_os("AERIE_TEST_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let path = root.join(below);
    if !path.exists() {
        println!("skipped: {} is absent (set AERIE_TEST_DATA)", path.display());
        return None;
    }
    Some(path)
}

fn model() -> ModelInfo {
    let class = |name: &str| Class {
        name: name.to_owned(),
        threshold: 0.3,
        grade: if name == "minibus" { Grade::GeneratedOnly } else { Grade::MeasuredOnRealAerial },
        centre_height_m: 1.0,
    };
    ModelInfo {
        name: "labels".to_owned(),
        version: "1".to_owned(),
        sha256: "00".to_owned(),
        gsd_m: 0.1,
        classes: vec![class("car"), class("truck"), class("bus"), class("minibus")],
    }
}

/// The boxes drawn beside a photo.
fn labelled(path: &Path, width: u32, height: u32) -> Vec<Detection> {
    let Ok(text) = std::fs::read_to_string(path.with_extension("txt")) else {
        return Vec::new();
    };
    text.lines()
        .map(|line| {
            let v: Vec<f32> = line.split_whitespace().map(|p| p.parse().unwrap()).collect();
            let (w, h) = (width as f32, height as f32);
            let bbox =
                [(v[1] - v[3] / 2.0) * w, (v[2] - v[4] / 2.0) * h, (v[1] + v[3] / 2.0) * w, (v[2] + v[4] / 2.0) * h];
            Detection { class: v[0] as usize, score: 0.9, bbox }
        })
        .collect()
}

fn inspect(paths: Vec<PathBuf>, out: &Path) -> (bool, Value, Value) {
    let args = InspectArgs { paths, out: out.to_owned(), ..InspectArgs::default() };
    let code =
        run_with(args, model(), &mut |path, picture, _| Ok(labelled(path, picture.width(), picture.height()))).unwrap();
    let json = |name| serde_json::from_slice(&std::fs::read(out.join(name)).unwrap()).unwrap();
    (format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS), json("findings.geojson"), json("report.json"))
}

fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 90]))
        .write_to(&mut bytes, image::ImageFormat::Jpeg)
        .unwrap();
    bytes.into_inner()
}

#[test]
fn the_minibuses_that_two_real_photos_show_are_two_findings_with_two_sources_each() {
    let Some(photos) = data("photos") else { return };
    let out = tempfile::tempdir().unwrap();
    let (ok, findings, report) = inspect(vec![photos.join("DJI_0010.JPG"), photos.join("DJI_0012.JPG")], out.path());
    assert!(ok);
    let minibuses: Vec<&Value> =
        findings["features"].as_array().unwrap().iter().filter(|f| f["properties"]["class"] == "minibus").collect();
    assert_eq!(minibuses.len(), 2, "{minibuses:#?}");
    for bus in minibuses {
        let p = &bus["properties"];
        assert_eq!(p["photos"], 2);
        assert_eq!(p["experimental"], true);
        assert_eq!(p["sources"].as_array().unwrap().len(), 2);
        assert!((53.918..53.920).contains(&p["position"]["wgs84"]["lat"].as_f64().unwrap()));
        assert!(p["position"]["gcj02_display_only"].is_null(), "Minsk is not in China");
        let (major, minor) = (&p["uncertainty"]["semi_major_m"], &p["uncertainty"]["semi_minor_m"]);
        assert!(major.as_f64() >= minor.as_f64() && (3.0..9.0).contains(&major.as_f64().unwrap()), "{major}");
    }
    assert!(findings["features"].as_array().unwrap().iter().any(|f| f["properties"]["experimental"] == false));
    assert_eq!(report["totals"]["experimental_classes"], serde_json::json!(["minibus"]));
    assert_eq!(report["totals"]["located"], 2);
    assert_eq!(report["totals"]["detections"], 11);
    for image in report["images"].as_array().unwrap() {
        let evidence = image::open(out.path().join(image["evidence"].as_str().unwrap())).unwrap();
        assert_eq!((evidence.width(), evidence.height()), (2560, 1440));
    }
}

#[test]
fn a_folder_without_a_photo_fails_and_the_report_says_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes.txt"), "nothing").unwrap();
    let (ok, _, report) = inspect(vec![folder.path().to_owned()], &folder.path().join("out"));
    assert!(!ok && report["notes"][0].as_str().unwrap().contains("the folder holds no photo"), "{report:#}");
    // None is said of a folder below that holds none.
    std::fs::create_dir(folder.path().join("below")).unwrap();
    std::fs::write(folder.path().join("a.jpg"), jpeg(320, 240)).unwrap();
    let (ok, _, report) = inspect(vec![folder.path().to_owned()], &folder.path().join("out"));
    assert!(ok && report["notes"].as_array().unwrap().is_empty(), "{report:#}");
}

#[test]
fn a_photo_without_pose_is_looked_at_and_reported_and_has_no_finding() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.jpg"), jpeg(320, 240)).unwrap();
    std::fs::write(folder.path().join("a.txt"), "0 0.5 0.5 0.2 0.2\n").unwrap();
    let out = folder.path().join("out");
    let (ok, findings, report) = inspect(vec![folder.path().to_owned()], &out);
    assert!(ok);
    assert_eq!(findings["features"].as_array().unwrap().len(), 0);
    let image = &report["images"][0];
    assert_eq!(image["status"], "no_pose");
    assert!(image["reason"].as_str().unwrap().contains("no GPS position"), "{image:#}");
    assert!(image["notes"][0].as_str().unwrap().contains("scale unknown"), "{image:#}");
    assert_eq!(image["detections"][0]["class"], "car");
    assert!(out.join("evidence/a.jpg").exists());
    assert_eq!(report["totals"]["other_files_ignored"], 1);
}

#[test]
fn damaged_foreign_and_absent_files_are_reported_each_and_the_good_one_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let whole = jpeg(640, 480);
    std::fs::write(at("cut.jpg"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(at("empty.jpg"), b"").unwrap();
    std::fs::write(at("text.jpg"), b"this is no picture").unwrap();
    std::fs::write(at("whole.jpg"), &whole).unwrap();
    let (ok, _, report) = inspect(vec![folder.path().to_owned(), at("absent.jpg")], &at("out"));
    assert!(ok);
    let status = |name: &str| {
        let images = report["images"].as_array().unwrap();
        let image = images.iter().find(|i| i["image"].as_str().unwrap().ends_with(name)).unwrap();
        (image["status"].as_str().unwrap().to_owned(), image["reason"].as_str().unwrap_or("").to_owned())
    };
    assert_eq!(status("whole.jpg").0, "no_pose");
    for (name, word) in [
        ("cut.jpg", "truncated"),
        ("empty.jpg", "empty"),
        ("text.jpg", "not a picture"),
        ("absent.jpg", "cannot be read"),
    ] {
        let (state, reason) = status(name);
        assert_eq!(state, "failed", "{name}");
        assert!(reason.contains(word), "{name}: {reason}");
    }
}

#[test]
fn when_no_photo_could_be_used_the_exit_code_says_so_and_the_files_are_there_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("text.jpg"), b"this is no picture").unwrap();
    let (ok, findings, report) = inspect(vec![folder.path().to_owned()], &folder.path().join("out"));
    assert!(!ok);
    assert_eq!(findings["type"], "FeatureCollection");
    assert_eq!(report["totals"]["failed"], 1);
}

#[test]
fn looking_again_into_the_same_folder_does_not_take_the_evidence_for_photos() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.jpg"), jpeg(320, 240)).unwrap();
    std::fs::write(folder.path().join("a.txt"), "0 0.5 0.5 0.2 0.2\n").unwrap();
    for _ in 0..2 {
        let (_, _, report) = inspect(vec![folder.path().to_owned()], &folder.path().join("out"));
        assert_eq!(report["totals"]["images"], 1);
    }
}
