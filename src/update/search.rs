//! One look at a repository: what it has for this station, verified.

use std::sync::Arc;

use jiff::Timestamp;

use super::UpdateError;
use super::origin::Origin;
use super::release::{Assignment, Document, Kind};
use super::states::Release;
use super::trust::{self, Store};

/// What is assigned to this station's group, by kind.
#[derive(Debug)]
pub struct Found {
    pub fresh_until: Timestamp,
    pub assigned: Vec<Assigned>,
    /// The groups of stations that the repository knows.
    pub groups: Vec<String>,
}

#[derive(Debug)]
pub struct Assigned {
    pub kind: Kind,
    pub assignment: Assignment,
    /// The release that the offline keys signed under the assigned name.
    pub release: Option<(Release, Document, Vec<u8>)>,
}

pub async fn look(
    root: &[u8],
    store: &Store,
    origin: Arc<dyn Origin>,
    group: &str,
    now: Timestamp,
) -> Result<Found, UpdateError> {
    let mut trusted = trust::refresh(root, store, origin, now).await?;
    let mut assigned = Vec::new();
    for kind in Kind::ALL {
        let target = Assignment::target(group, kind);
        let Some(bytes) = trusted.target(&target).await? else { continue };
        let assignment = Assignment::read(&target, &bytes)?;
        let release = match &assignment.release {
            None => None,
            Some(name) => {
                let target = format!("releases/{name}.json");
                let bytes = trusted.target(&target).await?.ok_or_else(|| {
                    UpdateError::Wrong(format!("{target} is assigned and was never signed by the offline keys"))
                })?;
                let document = Document::read(&target, &bytes)?;
                if document.kind != kind {
                    return Err(UpdateError::Wrong(format!(
                        "{target} is of kind {}, not {}",
                        document.kind.name(),
                        kind.name()
                    )));
                }
                Some((document.release(super::release::digest(&bytes)), document, bytes))
            }
        };
        assigned.push(Assigned { kind, assignment, release });
    }
    let role = trust::group_role(group);
    Ok(Found { fresh_until: trusted.fresh_until(&[&role]), assigned, groups: trusted.groups() })
}
