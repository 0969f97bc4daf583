//! A folder of photos, in the order of their names, each with the pose its metadata tells.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{Frame, Source, SourceError, Stamp};
use crate::geo;
use crate::perception::decode::Encoded;
use crate::perception::ledger::View;

const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];

pub struct Stills {
    files: std::vec::IntoIter<PathBuf>,
    current: Option<(Stamp, PathBuf)>,
    next: u64,
}

impl Stills {
    pub fn open(folder: &Path) -> Result<Stills, SourceError> {
        let failed = |source| SourceError::Folder { path: folder.to_owned(), source };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if !hidden && path.extension().is_some_and(|e| EXTENSIONS.iter().any(|known| e.eq_ignore_ascii_case(known)))
            {
                files.push(path);
            }
        }
        files.sort();
        Ok(Stills { files: files.into_iter(), current: None, next: 0 })
    }
}

impl Source for Stills {
    /// Photos have no common clock here; a second apart is as good as any.
    fn advance(&mut self) -> Result<Option<Stamp>, SourceError> {
        let Some(file) = self.files.next() else { return Ok(None) };
        let stamp = Stamp { index: self.next, at_s: self.next as f64 };
        self.next += 1;
        self.current = Some((stamp, file));
        Ok(Some(stamp))
    }

    fn frame(&mut self) -> Result<Frame, SourceError> {
        let Some((stamp, file)) = self.current.clone() else {
            return Err(SourceError::Ended { name: "the folder".to_owned() });
        };
        let encoded = Encoded::open(&file)?;
        let picture = encoded.whole()?;
        let view = geo::photo::read(encoded.bytes()).ok().map(|photo| View { camera: photo.camera, pose: photo.pose });
        Ok(Frame { stamp, picture, view, file: Some(file), came: Instant::now() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn photos_come_in_the_order_of_their_names_and_a_bad_one_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let good = image::RgbImage::from_pixel(40, 30, image::Rgb([10, 200, 30]));
        good.save(folder.path().join("b.png")).unwrap();
        std::fs::write(folder.path().join("a.jpg"), b"no picture").unwrap();
        std::fs::write(folder.path().join("._b.png"), b"a shadow").unwrap();
        std::fs::write(folder.path().join("notes.txt"), b"no photo").unwrap();
        let mut stills = Stills::open(folder.path()).unwrap();
        assert_eq!(stills.advance().unwrap().map(|s| s.index), Some(0));
        assert!(stills.frame().is_err());
        assert_eq!(stills.advance().unwrap().map(|s| s.index), Some(1));
        let frame = stills.frame().unwrap();
        assert_eq!((frame.picture.width(), frame.picture.height(), frame.view.is_none()), (40, 30, true));
        assert!(stills.advance().unwrap().is_none());
    }
}
