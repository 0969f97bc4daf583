//! What an inspection leaves behind. Every file is written beside its place and renamed into it, so that a reader (a GIS
//! that watches the folder, say) never sees half of one.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use image::RgbImage;
use serde_json::{Value, json};

use super::photo::{Seen, Status};
use super::{Inspection, findings};
use crate::perception::annotate;

pub(super) const REPORT: &str = "report.json";
pub(super) const FINDINGS: &str = "findings.geojson";
pub(super) const EVIDENCE: &str = "evidence";
/// Evidence is for people's eyes: wide enough for a screen, small enough to send.
const EVIDENCE_WIDTH: u32 = 2_560;
const EVIDENCE_QUALITY: u8 = 85;

impl Inspection {
    /// Writes findings and report as they now stand.
    pub fn write(&self) -> anyhow::Result<()> {
        let geojson = findings::geojson(
            &self.findings(),
            |i| self.images.get(i).map_or(("", None), |image| (image.image.as_str(), image.evidence.as_deref())),
            |class| self.model.is_experimental(class),
        );
        replace(&self.out.join(FINDINGS), &serde_json::to_vec_pretty(&geojson)?)?;
        replace(&self.out.join(REPORT), &serde_json::to_vec_pretty(&self.report())?)
    }

    pub fn report(&self) -> Value {
        let found = self.findings();
        let mut by_class = BTreeMap::<&str, usize>::new();
        for finding in &found {
            *by_class.entry(&finding.class).or_default() += 1;
        }
        let count = |status| self.images.iter().filter(|i| i.status == status).count();
        json!({
            "aerie": env!("CARGO_PKG_VERSION"),
            "model": self.model,
            "ground_above_take_off_m": self.around.ground_m.unwrap_or(0.0),
            "totals": {
                "images": self.images.len(),
                "located": count(Status::Located),
                "no_pose": count(Status::NoPose),
                "failed": count(Status::Failed),
                "other_files_ignored": self.ignored,
                "detections": self.images.iter().map(|i| i.detections.len()).sum::<usize>(),
                "findings": found.len(),
                "findings_by_class": by_class,
                "experimental_classes": by_class.keys().filter(|class| self.model.is_experimental(class)).collect::<Vec<_>>(),
            },
            "seconds": (self.started.elapsed().as_secs_f64() * 1e3).round() / 1e3,
            "notes": self.notes,
            "images": self.images,
            "videos": self.videos,
        })
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let count = |status| self.images.iter().filter(|i| i.status == status).count();
        let seen = self.images.iter().flat_map(|i| &i.detections);
        let unplaced = seen.filter(|seen| seen.located.is_none()).count();
        let used = format!(
            "in {} photos ({} without pose, {} failed): {}",
            self.images.len(),
            count(Status::NoPose),
            count(Status::Failed),
            self.out.join(FINDINGS).display()
        );
        format!("{} {used}", tell_of(self.findings().len(), unplaced))
    }
}

fn tell_of(findings: usize, unplaced: usize) -> String {
    match unplaced {
        0 => format!("{findings} findings"),
        _ => format!("{findings} findings, {unplaced} more things seen and not placed,"),
    }
}

/// The photo with its boxes.
pub(super) fn evidence(out: &Path, name: &str, picture: &RgbImage, seen: &[Seen]) -> anyhow::Result<()> {
    let boxes: Vec<annotate::Box> = seen
        .iter()
        .map(|s| annotate::Box {
            bbox: s.bbox,
            label: format!("{} {:.2}", s.class, s.score),
            color: if s.located.is_some() { annotate::RED } else { annotate::YELLOW },
        })
        .collect();
    let bytes = annotate::jpeg(picture, &boxes, EVIDENCE_WIDTH, EVIDENCE_QUALITY)?;
    replace(&out.join(EVIDENCE).join(name), &bytes)
}

/// A name of its own for a photo's evidence: cameras number anew in every folder.
pub(super) fn evidence_name(photo: &Path, taken: &mut HashSet<String>) -> String {
    let stem = photo.file_stem().unwrap_or_default().to_string_lossy();
    let mut name = format!("{stem}.jpg");
    let mut copy = 2;
    // By lower case, for file systems that know no other.
    while !taken.insert(name.to_lowercase()) {
        name = format!("{stem}-{copy}.jpg");
        copy += 1;
    }
    name
}

pub(super) fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = std::fs::File::create(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        // What is left of it is of no use to anyone; that it may not be there is fine.
        let _ = std::fs::remove_file(&beside);
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_and_not_placed_is_told_beside_the_findings() {
        assert_eq!(tell_of(43, 0), "43 findings");
        assert_eq!(tell_of(43, 22), "43 findings, 22 more things seen and not placed,");
    }

    #[test]
    fn photos_of_the_same_name_get_evidence_of_different_names() {
        let mut taken = HashSet::new();
        let mut name = |p: &str| evidence_name(Path::new(p), &mut taken);
        assert_eq!(name("a/DJI_0001.JPG"), "DJI_0001.jpg");
        assert_eq!(name("b/DJI_0001.JPG"), "DJI_0001-2.jpg");
        assert_eq!(name("c/dji_0001.png"), "dji_0001-3.jpg");
    }
}
