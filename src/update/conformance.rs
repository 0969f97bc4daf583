//! The client that the `tuf-conformance` suite drives (`aerie tuf-conformance`; see docs/updates.md): our trust with its
//! store, its cryptography and its transport, on the suite's repositories.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::UpdateError;
use super::origin::{Origin, Web};
use super::slots::write_durably;
use super::trust::{self, Store, Trusted};

pub fn init(metadata_dir: &Path, root: &Path) -> Result<(), UpdateError> {
    let bytes = trust::read_root(root)?;
    Store::open(metadata_dir)?;
    Ok(write_durably(&metadata_dir.join("root.json"), &bytes)?)
}

pub async fn refresh(metadata_dir: &Path, url: &str) -> Result<(), UpdateError> {
    refreshed(metadata_dir, url, url).await.map(|_| ())
}

async fn refreshed(metadata_dir: &Path, url: &str, targets: &str) -> Result<Trusted, UpdateError> {
    let path = metadata_dir.join("root.json");
    let why = |e: std::io::Error| trust::TrustError::Root { path: path.clone(), why: e.to_string() };
    let root = std::fs::read(&path).map_err(why)?;
    let store = Store::open(metadata_dir)?;
    let (metadata, targets): (Arc<dyn Origin>, Arc<dyn Origin>) =
        (Arc::new(Web::new(url, None)?), Arc::new(Web::new(targets, None)?));
    Ok(trust::refresh_apart(&root, &store, metadata, targets, Timestamp::now()).await?)
}

pub async fn download(
    metadata_dir: &Path,
    url: &str,
    names: &[String],
    targets: &str,
    into: &Path,
) -> Result<(), UpdateError> {
    let mut trusted = refreshed(metadata_dir, url, targets).await?;
    for name in names {
        let info = trusted.info(name).await?.ok_or_else(|| UpdateError::Wrong(format!("{name}: nobody signed it")))?;
        let to = into.join(file_name(name));
        // What is there already is not asked for again.
        let there = std::fs::read(&to)
            .is_ok_and(|b| info.hashes.get("sha256").is_some_and(|h| *h == hex::encode(Sha256::digest(&b))));
        if there {
            continue;
        }
        let bytes = trusted.content(&info, name).await?;
        if let Some(dir) = to.parent() {
            std::fs::create_dir_all(dir).map_err(|e| UpdateError::Wrong(format!("{}: {e}", dir.display())))?;
        }
        write_durably(&to, &bytes)?;
    }
    Ok(())
}

/// Below the folder whatever the name says.
fn file_name(name: &str) -> PathBuf {
    let plain = name.split('/').filter(|part| !part.is_empty() && *part != "." && *part != "..");
    plain.collect()
}
