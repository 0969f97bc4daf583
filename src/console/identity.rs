//! Which station is meant: two on one machine may have come to want the same port, and simulated ones have the same id.

use std::path::Path;

use sha2::{Digest, Sha256};

/// Sent by a caller who has the station's configuration.
pub const HEADER: &str = "x-aerie-station";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    id: String,
    /// Digest of where its state is; none where that cannot be seen from here.
    state: Option<String>,
}

impl Identity {
    pub fn new(id: &str, state_dir: &Path) -> Identity {
        use std::os::unix::ffi::OsStrExt;
        let state = state_dir.canonicalize().ok();
        let state = state.map(|dir| hex::encode(&Sha256::digest(dir.as_os_str().as_bytes())[..8]));
        Identity { id: id.to_owned(), state }
    }

    pub fn to_header(&self) -> String {
        let id: String = self.id.chars().filter(char::is_ascii_graphic).collect();
        [Some(id.as_str()), self.state.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// Whether a header means this station; what either side does not know of the state is no difference.
    pub fn is_meant_by(&self, header: &str) -> bool {
        let (id, state) = header.split_once(' ').map_or((header, None), |(id, state)| (id, Some(state)));
        id == self.id && self.state.as_deref().zip(state).is_none_or(|(own, meant)| own == meant)
    }

    pub fn id(&self) -> &str {
        &self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_station_of_the_same_id_with_its_state_elsewhere_is_another() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let here = Identity::new("danzao-01", one.path());
        let same = Identity::new("danzao-01", &one.path().join("..").join(one.path().file_name().unwrap()));
        assert!(here.is_meant_by(&same.to_header()));
        assert!(!here.is_meant_by(&Identity::new("danzao-01", two.path()).to_header()));
        assert!(!here.is_meant_by(&Identity::new("danzao-02", one.path()).to_header()));
        assert!(here.is_meant_by(&Identity::new("danzao-01", Path::new("/no/such/folder")).to_header()));
    }
}
