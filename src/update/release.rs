//! What a publisher signs: a [`Document`] that names every file of a release with its hashes, and an [`Assignment`] that
//! says which release a group of stations should run. Pure.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::states::Release;

/// Bytes that are verified and made durable at once: what a power cut can cost. Thirty of them cost 2 % of 100 MB.
pub const CHUNK: u64 = 1 << 16;
/// No release has more; a document with more is refused before anything is fetched.
const MOST_FILES: usize = 500;

#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("{what} cannot be read: {message}")]
    Syntax { what: String, message: String },
    #[error("{what}: {key}: {fault}")]
    Value { what: String, key: String, fault: String },
}

/// What is updated. Each kind is a directory of files with its own way of being proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Model,
    /// Names, codes and departments of the kinds of cases: `cases.toml`.
    Rules,
    /// What is permitted: `register.geojson`.
    Register,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Model, Kind::Rules, Kind::Register];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Rules => "rules",
            Kind::Register => "register",
        }
    }
}

/// A release, as the offline keys sign it. Its SHA-256 names the release everywhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    pub format: u32,
    pub kind: Kind,
    pub name: String,
    pub version: String,
    pub files: Vec<File>,
    #[serde(default)]
    pub demands: Demands,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Below the release's directory.
    pub path: String,
    pub length: u64,
    pub sha256: String,
    /// SHA-256 of every [`CHUNK`] bytes, so that damage costs no more than one of them.
    pub chunks: Vec<String>,
}

/// What the publisher promises of the model; a station's own limits hold as well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Demands {
    /// Of the boxes in the golden pictures, so many must be found.
    pub recall: f64,
    /// Of the boxes found in them, so many must be expected.
    pub precision: f64,
}

impl Default for Demands {
    fn default() -> Demands {
        Demands { recall: 0.9, precision: 0.9 }
    }
}

/// Which release a group runs, as the group's key signs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    pub format: u32,
    pub kind: Kind,
    /// Name and version; the target `releases/NAME-VERSION.json` of the offline role is its document.
    #[serde(default)]
    pub release: Option<String>,
    /// Of the group's stations, so many take it; the others go on with what they have.
    #[serde(default = "everyone")]
    pub percent: u8,
    /// Stops the roll-out: what is not committed yet is given up for now.
    #[serde(default)]
    pub halted: Option<String>,
    /// Refused everywhere, running or not.
    #[serde(default)]
    pub withdrawn: Vec<Withdrawn>,
}

fn everyone() -> u8 {
    100
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdrawn {
    pub digest: String,
    pub reason: String,
}

pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A name that may stand in a path and a topic: no separators, no dots at the start.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 100
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+'))
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl Document {
    pub fn read(what: &str, bytes: &[u8]) -> Result<Document, DocumentError> {
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|e| DocumentError::Syntax { what: what.to_owned(), message: e.to_string() })?;
        match document.fault() {
            None => Ok(document),
            Some((key, fault)) => Err(DocumentError::Value { what: what.to_owned(), key, fault }),
        }
    }

    pub fn release(&self, digest: String) -> Release {
        Release { digest, name: self.name.clone(), version: self.version.clone() }
    }

    pub fn length(&self) -> u64 {
        self.files.iter().map(|f| f.length).fold(0, u64::saturating_add)
    }

    pub fn target(name: &str, version: &str) -> String {
        format!("releases/{name}-{version}.json")
    }

    /// Signed or not, nothing in it may reach outside its directory or make us allocate without end.
    fn fault(&self) -> Option<(String, String)> {
        let say = |key: &str, fault: String| Some((key.to_owned(), fault));
        if self.format != 1 {
            return say("format", format!("{} is not known; this aerie reads 1: update aerie first", self.format));
        }
        for (key, value) in [("name", &self.name), ("version", &self.version)] {
            if !is_plain_name(value) {
                return say(key, format!("{value:?} must be letters, digits, - _ . +"));
            }
        }
        if self.files.is_empty() || self.files.len() > MOST_FILES {
            return say("files", format!("{} files; 1 to {MOST_FILES} are taken", self.files.len()));
        }
        let mut seen = std::collections::BTreeSet::new();
        for (index, file) in self.files.iter().enumerate() {
            let key = format!("files[{index}]");
            let deep = file.path.split('/').count() > 3;
            if deep || file.path == "release.json" || !file.path.split('/').all(is_plain_name) {
                return say(&format!("{key}.path"), format!("{:?} is no path below the release", file.path));
            }
            if !seen.insert(&file.path) {
                return say(&format!("{key}.path"), format!("{:?} stands twice", file.path));
            }
            if !is_digest(&file.sha256) || !file.chunks.iter().all(|c| is_digest(c)) {
                return say(&key, "a hash is not SHA-256 in lower-case hex".to_owned());
            }
            if file.chunks.len() as u64 != file.length.div_ceil(CHUNK) {
                return say(&format!("{key}.chunks"), format!("{} for {} bytes", file.chunks.len(), file.length));
            }
        }
        None
    }
}

impl Assignment {
    pub fn read(what: &str, bytes: &[u8]) -> Result<Assignment, DocumentError> {
        let assignment: Assignment = serde_json::from_slice(bytes)
            .map_err(|e| DocumentError::Syntax { what: what.to_owned(), message: e.to_string() })?;
        let say =
            |key: &str, fault: String| Err(DocumentError::Value { what: what.to_owned(), key: key.to_owned(), fault });
        if assignment.format != 1 {
            return say("format", format!("{} is not known; this aerie reads 1", assignment.format));
        }
        if assignment.percent > 100 {
            return say("percent", format!("{} is more than 100", assignment.percent));
        }
        Ok(assignment)
    }

    pub fn target(group: &str, kind: Kind) -> String {
        format!("groups/{group}/{}.json", kind.name())
    }

    /// Whether this station is among those that take the release. A larger share keeps those of a smaller one.
    pub fn takes(&self, station: &str, release: &str) -> bool {
        let hash = Sha256::digest(format!("{station}\n{release}").as_bytes());
        let place = u32::from(hash[0]) << 8 | u32::from(hash[1]);
        place * 100 < u32::from(self.percent) << 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Document {
        let file =
            File { path: "manifest.toml".into(), length: 3, sha256: digest(b"abc"), chunks: vec![digest(b"abc")] };
        let (name, version) = ("town".into(), "1.2".into());
        Document { format: 1, kind: Kind::Model, name, version, files: vec![file], demands: Demands::default() }
    }

    fn refused(change: impl FnOnce(&mut Document)) -> String {
        let mut document = document();
        change(&mut document);
        Document::read("r.json", &serde_json::to_vec(&document).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn a_signed_document_cannot_reach_outside_its_directory() {
        assert!(Document::read("r.json", &serde_json::to_vec(&document()).unwrap()).is_ok());
        for path in ["../evil", "/etc/passwd", "a/../../b", "", ".hidden", "a//b", "a\\b", "release.json", "a/b/c/d"] {
            let said = refused(|d| d.files[0].path = path.into());
            assert!(said.contains("files[0].path"), "{said}");
        }
        assert!(refused(|d| d.name = "../x".into()).contains("name"));
    }

    #[test]
    fn hashes_that_do_not_fit_the_length_are_refused_before_anything_is_fetched() {
        assert!(refused(|d| d.files[0].length = u64::MAX).contains("chunks"));
        assert!(refused(|d| d.files[0].chunks.clear()).contains("chunks"));
        assert!(refused(|d| d.files[0].sha256 = "ABC".into()).contains("SHA-256"));
        assert!(refused(|d| d.files.push(d.files[0].clone())).contains("twice"));
        assert!(refused(|d| d.format = 2).contains("update aerie first"));
    }

    #[test]
    fn a_share_of_a_group_is_about_that_share_and_only_grows() {
        let at = |percent| Assignment {
            format: 1,
            kind: Kind::Model,
            release: None,
            percent,
            halted: None,
            withdrawn: vec![],
        };
        let stations: Vec<String> = (0..1000).map(|n| format!("station-{n}")).collect();
        let takers = |percent| stations.iter().filter(|s| at(percent).takes(s, "town-1")).collect::<Vec<_>>();
        let (few, many) = (takers(10), takers(50));
        assert!((60..140).contains(&few.len()) && (430..570).contains(&many.len()), "{} {}", few.len(), many.len());
        assert!(few.iter().all(|s| many.contains(s)));
        assert_eq!((takers(0).len(), takers(100).len()), (0, 1000));
    }
}
