//! Following folders: each new photo is looked at once, when it no longer grows.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::{Eye, Inspection, Listed, Status, list};

/// A file whose size and time stayed the same from one look to the next is taken as complete.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// While a backlog is worked off, the results are rewritten this often.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// How soon a signal is heeded between looks.
const NAP: Duration = Duration::from_millis(100);

/// Works until SIGINT or SIGTERM.
pub(super) fn follow(paths: &[PathBuf], inspection: &mut Inspection, eye: &mut Eye) -> anyhow::Result<()> {
    let stop = on_signal()?;
    for path in paths {
        let word =
            if path.exists() { "watching it until Ctrl-C" } else { "not there yet: waiting for it until Ctrl-C" };
        eprintln!("{}: {word}", path.display());
    }
    follow_until(paths, inspection, eye, &|| stop.load(Ordering::Relaxed), LOOK_EVERY)
}

fn follow_until(
    paths: &[PathBuf],
    inspection: &mut Inspection,
    eye: &mut Eye,
    stopped: &dyn Fn() -> bool,
    every: Duration,
) -> anyhow::Result<()> {
    let mut done = HashSet::<PathBuf>::new();
    let mut growing = HashMap::<PathBuf, (u64, Option<SystemTime>)>::new();
    // There from the start, so that what reads them needs no special case.
    inspection.write()?;
    while !stopped() {
        let Listed { photos, ignored, notes } = list(paths, &inspection.out);
        notes.iter().filter(|note| !inspection.notes.contains(note)).for_each(|note| eprintln!("{note}"));
        inspection.notes = notes;
        inspection.ignored = ignored;
        let mut written = Instant::now();
        let mut unwritten = false;
        // What went away (renamed by the copying program, say) is forgotten.
        growing.retain(|path, _| path.exists());
        for path in photos {
            if stopped() {
                break;
            }
            let Ok(meta) = path.metadata() else { continue };
            if done.contains(&path) {
                continue;
            }
            let now = (meta.len(), meta.modified().ok());
            if growing.insert(path.clone(), now) != Some(now) {
                continue;
            }
            growing.remove(&path);
            let report = inspection.add(&path, eye);
            match (report.status, &report.reason) {
                (Status::Failed, Some(reason)) => eprintln!("{}: {reason}", path.display()),
                _ => eprintln!("{}: {} detections", path.display(), report.detections.len()),
            }
            done.insert(path);
            unwritten = true;
            if written.elapsed() >= WRITE_EVERY {
                inspection.write()?;
                (written, unwritten) = (Instant::now(), false);
            }
        }
        if unwritten {
            inspection.write()?;
        }
        let looked = Instant::now();
        while !stopped() && looked.elapsed() < every {
            #[expect(clippy::disallowed_methods, reason = "a command's own thread, no runtime's")]
            std::thread::sleep(NAP.min(every));
        }
    }
    inspection.write()
}

/// A flag that the first SIGINT or SIGTERM raises; the second ends the process at once.
pub(super) fn on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&flag);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot listen for signals")?;
    // Registered here, before any work: a signal right after the start must not kill us in the middle of a write.
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async move {
            for _ in 0..2 {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if raised.swap(true, Ordering::Relaxed) {
                    #[expect(clippy::disallowed_methods, reason = "a second signal wants no orderly end")]
                    std::process::exit(130);
                }
            }
        });
    });
    Ok(flag)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::cli::inspect::ModelInfo;

    #[test]
    fn a_photo_is_looked_at_once_and_only_when_it_no_longer_grows() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let mut png = Vec::new();
        image::RgbImage::new(64, 48).write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
        let photo = folder.path().join("a.png");
        std::fs::write(&photo, &png[..40]).unwrap();

        let model =
            ModelInfo { name: "m".into(), version: "1".into(), sha256: String::new(), gsd_m: 0.1, classes: vec![] };
        let around = crate::cli::locate::world::Surroundings { world: Default::default(), ground_m: None };
        let mut inspection = Inspection::new(&out, model, around).unwrap();
        let looks = Cell::new(0);
        let mut eye = |_: &std::path::Path, _: &image::RgbImage, _: Option<f64>| {
            looks.set(looks.get() + 1);
            Ok(vec![])
        };
        // The clock of this test: how often the loop asked whether to stop. The file grows after the first look at it.
        let asked = Cell::new(0);
        let stopped = || {
            asked.set(asked.get() + 1);
            if asked.get() == 3 {
                std::fs::write(&photo, &png).unwrap();
            }
            asked.get() > 40
        };
        follow_until(&[folder.path().to_owned()], &mut inspection, &mut eye, &stopped, Duration::from_millis(1))
            .unwrap();
        assert_eq!(looks.get(), 1);
        assert_eq!(inspection.processed(), 1, "the half file was never looked at");
        assert!(out.join("report.json").exists() && out.join("findings.geojson").exists());
    }
}
