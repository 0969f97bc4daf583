//! A folder of pictures with marked boxes: YOLO text files, and a description of what they mean to the model.
//!
//! A picture's marks are in the `.txt` of its name, beside it or in the folder `labels`: a line a box, `class cx cy w h`,
//! parts of the picture's width and height from its upper left corner; a sixth number other than 0 makes it doubtful.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Marked;
use crate::perception::manifest::{Manifest, ManifestError};

#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {source}")]
    Toml { path: PathBuf, source: Box<toml::de::Error> },
    #[error(
        "{0} has no description of its marks: write dataset.toml there, or pass --dataset FILE; it needs at least `classes`, the names of the marks' numbers"
    )]
    NoDescription(PathBuf),
    #[error(
        "{path}: `map.{mark}` is \"{class}\", which is no class of the model ({known}), nor \"ignore\" nor \"absent\""
    )]
    UnknownClass { path: PathBuf, mark: String, class: String, known: String },
    #[error(
        "{path}: the mark \"{mark}\" is no class of the model; say under [map] what it is, \"ignore\", or \"absent\""
    )]
    Unmapped { path: PathBuf, mark: String },
    #[error("{path}: `counts_as.{class}` names no class of the model ({known})")]
    CountsAs { path: PathBuf, class: String, known: String },
    #[error("{path}: {key} must be between 0 and 100 metres")]
    Length { path: PathBuf, key: String },
    #[error(
        "{path}: `labels`: {folder} is not there; correct it, or make it first as the comment in the file or models/README.md says"
    )]
    NoLabels { path: PathBuf, folder: PathBuf },
    #[error("{0} is no folder; --data takes the folder that holds the pictures")]
    NoFolder(PathBuf),
    #[error("{path}: `{key}` names the mark \"{mark}\", which is not among `classes`")]
    NoSuchMark { path: PathBuf, key: &'static str, mark: String },
    #[error("{path}: the scale is told by {keys}; keep one of them")]
    TwoScales { path: PathBuf, keys: String },
    #[error("{path}: no name in {folder} begins with what `only` says")]
    Only { path: PathBuf, folder: PathBuf },
    #[error(
        "none of the {pictures} pictures in {folder} has its .txt of marks, neither beside it nor in the folder labels; an empty .txt says that nothing is there, `labels` where they lie elsewhere"
    )]
    NoMarks { folder: PathBuf, pictures: usize },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(
        "{0} holds no picture (.jpg, .jpeg, .png); where they lie in a folder of it, the description says so: pictures = \"images\""
    )]
    NoPicture(PathBuf),
    #[error(
        "{path}, line {line}: expected `class cx cy w h` with numbers from 0 to 1, w and h above 0, got \"{text}\""
    )]
    Line { path: PathBuf, line: usize, text: String },
    #[error("{path}, line {line}: the class {number} is not among the {known} of the description")]
    Number { path: PathBuf, line: usize, number: usize, known: usize },
}

/// What the marks mean: `dataset.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    /// Names of the marks' numbers, from 0.
    classes: Vec<String>,
    /// Mark to class of the model; "ignore": a find there counts neither way; "absent": as if it were not marked.
    /// A mark that has a class's name needs no line.
    #[serde(default)]
    map: BTreeMap<String, String>,
    /// Class of the model to the class it counts as here: a blue roof is a building where only buildings are marked.
    #[serde(default)]
    counts_as: BTreeMap<String, String>,
    /// Ground sample distance of all pictures. Without it, and the two below, each picture's pose has to tell.
    gsd_m: Option<f64>,
    /// Or a mark's usual length on the ground: a picture's scale is then that of its own median box.
    #[serde(default)]
    length_m: BTreeMap<String, f64>,
    /// Or, where pictures have no scale at all (taken level, from a street or mast): their longer side is brought to so
    /// many pixels.
    longer_side_px: Option<u32>,
    /// Folder of the pictures within the data.
    #[serde(default)]
    pictures: PathBuf,
    /// Folder of the marks, from this file's own, where they lie neither beside the pictures nor in `labels`.
    labels: Option<PathBuf>,
    /// Only pictures whose names begin so; all when empty.
    #[serde(default)]
    only: Vec<String>,
}

#[derive(Debug)]
pub struct Dataset {
    description: Description,
    pub pictures: Vec<PathBuf>,
    /// How many have no file of marks. They are taken as pictures of nothing.
    pub without_marks: usize,
    /// Per mark's number: a class of the model, ignored (none), or absent.
    meaning: Vec<Meaning>,
    /// Per class of the model: what a find of it counts as.
    pub counts_as: Vec<usize>,
    model_gsd_m: f64,
    labels: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Meaning {
    Class(usize),
    Ignored,
    Absent,
}

impl Dataset {
    /// The pictures of `data`, described by `description` or by the `dataset.toml` among them.
    pub fn open(data: &Path, description: Option<&Path>, model: &Manifest) -> Result<Dataset, DatasetError> {
        let path = description.map_or_else(|| data.join("dataset.toml"), Path::to_owned);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && description.is_none() && data.is_dir() => {
                return Err(DatasetError::NoDescription(data.to_owned()));
            }
            Err(_) if !data.is_dir() => return Err(DatasetError::NoFolder(data.to_owned())),
            Err(source) => return Err(DatasetError::Read { path, source }),
        };
        let description: Description = toml::from_str(&text)
            .map_err(|source| DatasetError::Toml { path: path.clone(), source: Box::new(source) })?;
        let scales = [
            ("gsd_m", description.gsd_m.is_some()),
            ("length_m", !description.length_m.is_empty()),
            ("longer_side_px", description.longer_side_px.is_some()),
        ];
        let scales: Vec<&str> = scales.iter().filter(|(_, told)| *told).map(|(key, _)| *key).collect();
        if scales.len() > 1 {
            return Err(DatasetError::TwoScales { path, keys: scales.join(" and ") });
        }
        let named = description.map.keys().map(|mark| ("map", mark));
        for (key, mark) in named.chain(description.length_m.keys().map(|mark| ("length_m", mark))) {
            if !description.classes.contains(mark) {
                return Err(DatasetError::NoSuchMark { path, key, mark: mark.clone() });
            }
        }
        let lengths = description.gsd_m.iter().map(|l| ("gsd_m".to_owned(), *l));
        let lengths = lengths.chain(description.length_m.iter().map(|(mark, l)| (format!("length_m.{mark}"), *l)));
        for (key, length) in lengths {
            if !(length > 0.0 && length < 100.0) {
                return Err(DatasetError::Length { path, key });
            }
        }
        let class_of = |name: &str| model.classes.iter().position(|class| class.name == name);
        let known = || model.classes.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
        let meaning = description.classes.iter().map(|mark| match description.map.get(mark).map(String::as_str) {
            Some("ignore") => Ok(Meaning::Ignored),
            Some("absent") => Ok(Meaning::Absent),
            Some(class) => class_of(class).map(Meaning::Class).ok_or_else(|| DatasetError::UnknownClass {
                path: path.clone(),
                mark: mark.clone(),
                class: class.to_owned(),
                known: known(),
            }),
            None => class_of(mark)
                .map(Meaning::Class)
                .ok_or_else(|| DatasetError::Unmapped { path: path.clone(), mark: mark.clone() }),
        });
        let meaning = meaning.collect::<Result<Vec<_>, _>>()?;
        let mut counts_as: Vec<usize> = (0..model.classes.len()).collect();
        for (from, to) in &description.counts_as {
            let wrong = || DatasetError::CountsAs { path: path.clone(), class: from.clone(), known: known() };
            counts_as[class_of(from).ok_or_else(wrong)?] = class_of(to).ok_or_else(wrong)?;
        }
        let folder = data.join(&description.pictures);
        let (pictures, others) = pictures(&folder, &description.only)?;
        if pictures.is_empty() {
            return Err(if others { DatasetError::Only { path, folder } } else { DatasetError::NoPicture(folder) });
        }
        let model_gsd_m = model.ground_sample_distance(data)?;
        let labels = description.labels.as_ref().map(|l| path.parent().unwrap_or(Path::new("")).join(l));
        if let Some(folder) = labels.as_ref().filter(|folder| !folder.is_dir()) {
            return Err(DatasetError::NoLabels { path, folder: folder.to_owned() });
        }
        let without_marks = pictures.iter().filter(|picture| !marks_of(picture, labels.as_deref()).exists()).count();
        if without_marks == pictures.len() {
            return Err(DatasetError::NoMarks { folder, pictures: without_marks });
        }
        Ok(Dataset { description, pictures, without_marks, meaning, counts_as, model_gsd_m, labels })
    }

    /// Whether all of this class is marked in every picture.
    pub fn marks(&self, class: usize) -> bool {
        self.meaning.contains(&Meaning::Class(class))
    }

    /// What is marked in a picture of this size, and its scale where the description or its boxes tell it.
    pub fn read(&self, picture: &Path, width: u32, height: u32) -> Result<(Vec<Marked>, Option<f64>), DatasetError> {
        let path = marks_of(picture, self.labels.as_deref());
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            // Nothing is marked in it.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(DatasetError::Read { path, source }),
        };
        let boxes = boxes(&path, &text, self.meaning.len(), [width as f32, height as f32])?;
        let shown = |longer: u32| self.model_gsd_m * f64::from(longer) / f64::from(width.max(height).max(1));
        let fixed = self.description.gsd_m.or(self.description.longer_side_px.map(shown));
        let scale = fixed.or_else(|| self.scale_of(&boxes));
        let marked = boxes.into_iter().filter_map(|(number, bbox, doubtful)| match self.meaning[number] {
            Meaning::Class(class) => Some(Marked { class: Some(class), bbox, doubtful }),
            Meaning::Ignored => Some(Marked { class: None, bbox, doubtful: true }),
            Meaning::Absent => None,
        });
        Ok((marked.collect(), scale))
    }

    /// Whether pictures without a box of known length have no place here: their scale cannot be told.
    pub fn needs_a_known_length(&self) -> bool {
        !self.description.length_m.is_empty()
    }

    /// Whether lengths on the ground mean nothing here.
    pub fn has_no_scale(&self) -> bool {
        self.description.longer_side_px.is_some()
    }

    /// By the median long side of the boxes whose length on the ground is known.
    fn scale_of(&self, boxes: &[Boxed]) -> Option<f64> {
        self.description.length_m.iter().find_map(|(mark, length_m)| {
            let number = self.description.classes.iter().position(|class| class == mark)?;
            let of_mark = boxes.iter().filter(|(n, _, _)| *n == number);
            let mut sides: Vec<f32> = of_mark.map(|(_, [x1, y1, x2, y2], _)| (x2 - x1).max(y2 - y1)).collect();
            sides.sort_by(f32::total_cmp);
            let median = *sides.get(sides.len() / 2)?;
            (median > 0.0).then(|| length_m / f64::from(median))
        })
    }
}

fn marks_of(picture: &Path, folder: Option<&Path>) -> PathBuf {
    if let (Some(folder), Some(stem)) = (folder, picture.file_stem()) {
        return folder.join(stem).with_added_extension("txt");
    }
    let beside = picture.with_extension("txt");
    let (Some(folder), Some(name)) = (picture.parent(), beside.file_name()) else { return beside };
    let among = folder.parent().unwrap_or(folder).join("labels").join(name);
    if !beside.exists() && among.exists() { among } else { beside }
}

/// Those whose names begin as `only` says, and whether there are others.
fn pictures(folder: &Path, only: &[String]) -> Result<(Vec<PathBuf>, bool), DatasetError> {
    let read = |source| DatasetError::Read { path: folder.to_owned(), source };
    let (mut found, mut others) = (Vec::new(), false);
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        let picture = ending.is_some_and(|e| ["jpg", "jpeg", "png"].contains(&e.as_str()));
        match picture && (only.is_empty() || only.iter().any(|start| name.starts_with(start.as_str()))) {
            true => found.push(path),
            false => others |= picture,
        }
    }
    found.sort();
    Ok((found, others))
}

type Boxed = (usize, [f32; 4], bool);

fn boxes(path: &Path, text: &str, known: usize, [width, height]: [f32; 2]) -> Result<Vec<Boxed>, DatasetError> {
    let mut boxes = Vec::new();
    for (index, row) in text.lines().enumerate().filter(|(_, row)| !row.trim().is_empty()) {
        let line = index + 1;
        let wrong = || DatasetError::Line { path: path.to_owned(), line, text: row.chars().take(80).collect() };
        let numbers: Vec<f32> =
            row.split_whitespace().map(|n| n.parse()).collect::<Result<_, _>>().map_err(|_| wrong())?;
        let (&[class, x, y, w, h], rest) = numbers.split_first_chunk::<5>().ok_or_else(wrong)?;
        // Rounding and clipped boxes leave the picture by a little.
        let inside = [x, y, w, h].iter().all(|part| (-0.5..=1.5).contains(part));
        if !inside || w <= 0.0 || h <= 0.0 || class.fract() != 0.0 || class < 0.0 || rest.len() > 1 {
            return Err(wrong());
        }
        let number = class as usize;
        if number >= known {
            return Err(DatasetError::Number { path: path.to_owned(), line, number, known });
        }
        let bbox = [(x - w / 2.0) * width, (y - h / 2.0) * height, (x + w / 2.0) * width, (y + h / 2.0) * height];
        boxes.push((number, bbox, rest.first().is_some_and(|doubt| *doubt != 0.0)));
    }
    Ok(boxes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Manifest {
        let text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/models/default/manifest.toml")).unwrap();
        toml::from_str(&text).unwrap()
    }

    fn folder(description: &str, marks: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("dataset.toml"), description).unwrap();
        std::fs::write(folder.path().join("a.png"), b"").unwrap();
        std::fs::write(folder.path().join("a.txt"), marks).unwrap();
        folder
    }

    #[test]
    fn marks_become_classes_of_the_model_and_tell_the_scale() {
        let data = folder(
            "classes = [\"car\", \"cyclist\", \"tree\"]\nlength_m = { car = 4.4 }\n[map]\ncar = \"vehicle\"\ncyclist = \"ignore\"\ntree = \"absent\"\n",
            "0 0.5 0.5 0.44 0.2\n1 0.1 0.1 0.1 0.1\n2 0.1 0.1 0.1 0.1\n0 0.5 0.5 0.44 0.2 1\n",
        );
        let set = Dataset::open(data.path(), None, &model()).unwrap();
        let (marked, gsd_m) = set.read(&data.path().join("a.png"), 100, 50).unwrap();
        let vehicle = model().classes.iter().position(|c| c.name == "vehicle");
        assert_eq!(
            marked.iter().map(|m| (m.class, m.doubtful)).collect::<Vec<_>>(),
            [(vehicle, false), (None, true), (vehicle, true)]
        );
        assert!((gsd_m.unwrap() - 0.1).abs() < 1e-6, "{gsd_m:?}");
        assert!(set.marks(vehicle.unwrap()) && !set.marks(0));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_file_line_and_remedy() {
        let wrong = |description: &str, marks: &str| {
            let data = folder(description, marks);
            match Dataset::open(data.path(), None, &model()) {
                Err(error) => error.to_string(),
                Ok(set) => set.read(&data.path().join("a.png"), 10, 10).unwrap_err().to_string(),
            }
        };
        assert!(wrong("classes = [\"car\"]", "").contains("say under [map]"));
        assert!(
            wrong("classes = [\"car\"]\nmap = { car = \"lorry\" }", "").contains("no class of the model (building,")
        );
        assert!(wrong("classes = [\"vehicle\"]\ngsd = 1", "").contains("unknown field"));
        assert!(wrong("classes = [\"vehicle\"]\ngsd_m = -1", "").contains("gsd_m"));
        let line = wrong("classes = [\"vehicle\"]", "0 0.5 0.5 0.1 0.1\n0 12 30 40 50\n");
        assert!(line.contains("a.txt, line 2") && line.contains("from 0 to 1"), "{line}");
        assert!(wrong("classes = [\"vehicle\"]", "3 0.5 0.5 0.1 0.1").contains("class 3 is not among the 1"));
        assert!(wrong("classes = [\"vehicle\"]", "0 0.5 0.5 0 0.1").contains("w and h above 0"));
        let typo = wrong("classes = [\"vehicle\"]\nlength_m = { vehicel = 4.4 }", "");
        assert!(typo.contains("length_m") && typo.contains("vehicel"), "{typo}");
        assert!(wrong("classes = [\"vehicle\"]\nmap = { lorry = \"ignore\" }", "").contains("lorry"));
        let twice = wrong("classes = [\"vehicle\"]\ngsd_m = 0.1\nlength_m = { vehicle = 4.4 }", "");
        assert!(twice.contains("gsd_m and length_m"), "{twice}");
        assert!(wrong("classes = [\"vehicle\"]\nonly = [\"zzz\"]", "").contains("`only`"));
        let empty = tempfile::tempdir().unwrap();
        let none = Dataset::open(empty.path(), None, &model()).unwrap_err().to_string();
        assert!(none.contains("dataset.toml"), "{none}");
        let away = Dataset::open(&empty.path().join("x"), None, &model()).unwrap_err().to_string();
        assert!(away.contains("no folder"), "{away}");
        std::fs::write(empty.path().join("dataset.toml"), "classes = [\"vehicle\"]").unwrap();
        let none = Dataset::open(empty.path(), None, &model()).unwrap_err().to_string();
        assert!(none.contains("pictures = \"images\""), "{none}");
    }

    #[test]
    fn pictures_without_marks_are_counted_and_a_folder_of_nothing_else_is_refused() {
        let data = folder("classes = [\"vehicle\"]", "0 0.5 0.5 0.1 0.1");
        std::fs::write(data.path().join("b.png"), b"").unwrap();
        assert_eq!(Dataset::open(data.path(), None, &model()).unwrap().without_marks, 1);
        std::fs::remove_file(data.path().join("a.txt")).unwrap();
        let none = Dataset::open(data.path(), None, &model()).unwrap_err().to_string();
        assert!(none.contains("none of the 2 pictures") && none.contains(".txt"), "{none}");
    }
}
