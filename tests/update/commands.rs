//! What the documents tell people to type does what they say.

use super::*;

/// The lines that begin with `aerie` in a document's blocks of commands.
fn typed(document: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(document);
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).filter(|line| line.starts_with("aerie ")).map(str::to_owned).collect()
}

/// Types them where `set -e` ends at the first that fails.
fn sh(dir: &Path, lines: &[&str]) -> String {
    let bin = Path::new(AERIE).parent().unwrap().display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
    let script = lines.join("\n");
    let done = Command::new("bash").args(["-ec", &script]).current_dir(dir).env("PATH", path).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{script}\n{said}");
    said
}

/// A folder as a publisher has it: an exported model, the names of its classes, pictures.
fn desk() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let manifest = Manifest::read(&model_dir(None)).unwrap();
    std::fs::write(dir.path().join("best.onnx"), manifest.model_bytes(&model_dir(None)).unwrap()).unwrap();
    let classes: Vec<&str> = manifest.classes.iter().map(|c| c.name.as_str()).collect();
    std::fs::write(dir.path().join("classes.txt"), classes.join("\n")).unwrap();
    std::fs::create_dir(dir.path().join("golden")).unwrap();
    // At the scale that the commands say, so that the model sees what it knows.
    let camera = Camera::from_fov(SIZE.0, SIZE.1, FOV);
    let side = (f64::from(SIZE.0) * HEIGHT_M / camera.fx / manifest.gsd_m.unwrap()) as u32;
    for n in 0..3 {
        let picture = image::open(pictures().join(format!("{n}.jpg"))).unwrap();
        let picture = picture.resize(side, side, image::imageops::FilterType::Triangle);
        picture.save(dir.path().join(format!("golden/{n}.jpg"))).unwrap();
    }
    std::fs::copy(dir.path().join("golden/0.jpg"), dir.path().join("photo.jpg")).unwrap();
    dir
}

#[test]
fn the_documented_commands_from_an_exported_model_to_a_staged_release_work_as_typed() {
    let desk = desk();
    let lines = typed("updates.md");
    let of = |what: &str| lines.iter().map(String::as_str).filter(|l| l.starts_with(what)).collect::<Vec<_>>();
    let (describe, draft, publish) = (of("aerie model describe"), of("aerie detect"), of("aerie model publish"));
    assert_eq!((describe.len(), draft.len(), publish.len()), (1, 1, 4));
    let said = sh(desk.path(), &[describe, draft, publish].concat());
    assert!(said.contains("golden boxes") && said.contains("nothing waits for signatures"), "{said}");
    assert!(desk.path().join("site/metadata/2.group-roofs.json").exists(), "{said}");
    let first: Vec<String> = typed("models.md").into_iter().take(3).collect();
    sh(desk.path(), &first.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_model_that_fails_its_golden_pictures_is_not_published_and_a_mistyped_group_names_those_there_are() {
    let publisher = Publisher::new();
    let blind = variant(publisher.dir.path(), "1.0", |m, _| m.classes.iter_mut().for_each(|c| c.threshold = 0.9999));
    let type_in = |args: &[&str]| {
        let at = ["--repo".to_owned(), publisher.repo().display().to_string()];
        let keys = ["--keys".to_owned(), publisher.keys().display().to_string()];
        let done = Command::new(AERIE).args(["model", "publish"]).args(args).args(at).args(keys).output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        (done.status.success(), said)
    };
    let blind = blind.display().to_string();
    let (done, said) = type_in(&["add", &blind]);
    assert!(!done && said.contains("every station would refuse it: blind"), "{said}");
    let (done, said) = type_in(&["add", &blind, "--unproven"]);
    assert!(done && said.contains("release aerie-town-1.0"), "{said}");
    let (again, said) = type_in(&["add", &blind, "--unproven"]);
    assert!(again && said.contains("published already, with the same content: nothing was changed"), "{said}");
    let (done, said) = type_in(&["stage", "rofs", "aerie-town-1.0"]);
    assert!(!done && said.contains("no group \"rofs\"; there are roofs"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_station_has_of_an_earlier_release_is_not_fetched_again_and_who_is_left_out_is_told() {
    let publisher = Publisher::new();
    let (url, served) = serve(&publisher.repo()).await;
    let station = Station::start(tempfile::tempdir().unwrap(), &publisher, Some(url), Path::new(AERIE)).await;
    publisher.publish("2.0", |_, _| {});
    station.updates.check().await.unwrap();
    station.committed("2.0").await;
    let first = served.sent.load(Ordering::SeqCst);
    // The same graph with other thresholds: its manifest is all that is new.
    publisher.publish("2.1", |m, _| m.classes.iter_mut().for_each(|c| c.threshold += 0.001));
    station.updates.check().await.unwrap();
    station.committed("2.1").await;
    let second = served.sent.load(Ordering::SeqCst) - first;
    assert!(second < 10_000 && first > 1_000_000, "{second} bytes after {first}");
    let third = publisher.publish("2.2", |_, _| {});
    publisher.workshop().stage("roofs", Kind::Model, &third, 0).unwrap();
    station.updates.check().await.unwrap();
    let seen = station.updates.view().borrow().last_look.clone().unwrap();
    assert!(seen.contains("goes to 0 % of the stations, not to this one"), "{seen}");
}

/// What was said to a command that must fail.
fn refused(dir: &Path, line: &str) -> String {
    let done = Command::new(AERIE).args(line.split(' ')).current_dir(dir).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success(), "{line}: {said}");
    said
}

#[test]
fn what_every_station_would_refuse_and_what_is_expired_at_once_is_not_published() {
    let dir = tempfile::tempdir().unwrap();
    let desk = dir.path();
    sh(desk, &["aerie model publish init --repo site --keys keys --group roofs"]);
    let before = std::fs::read(desk.join("site/metadata/timestamp.json")).unwrap();
    for (kind, file, content) in [("rules", "cases.toml", "[kinds.blue_roof"), ("register", "register.geojson", "{}")] {
        std::fs::create_dir(desk.join(kind)).unwrap();
        std::fs::write(desk.join(kind).join(file), content).unwrap();
        let said = refused(desk, &format!("model publish add {kind} --kind {kind} --repo site --keys keys"));
        assert!(said.contains("every station would refuse it") && said.contains(file), "{said}");
    }
    let said = refused(desk, "model publish renew --repo site --keys keys --timestamp-days 0");
    assert!(said.contains("--timestamp-days"), "{said}");
    let said = refused(desk, "model publish halt roofs --reason x --repo site --keys nokeys");
    assert!(said.contains("--keys: nokeys is not there"), "{said}");
    assert_eq!(std::fs::read(desk.join("site/metadata/timestamp.json")).unwrap(), before);
    std::fs::write(desk.join("rules/cases.toml"), "code_system = \"own\"\n").unwrap();
    let said = sh(desk, &["aerie model publish add rules --kind rules --repo site --keys keys"]);
    assert!(said.contains("published"), "{said}");
}
