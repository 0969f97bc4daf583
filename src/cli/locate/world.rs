//! What surrounds the pictures: the terrain model and the geoids, read from files.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::geo::dem::Dem;
use crate::geo::geoid::Geoid;
use crate::geo::heights::{Geoids, HeightDatum};
use crate::geo::photo::{self, Photo};

use super::shot::Shot;

/// Where packages put geoid grids: Debian's proj-data, GeographicLib's geoids.
const USUAL_PLACES: &[&str] = &[
    "/usr/share/proj/egm96_15.gtx",
    "/usr/share/proj/egm08_25.gtx",
    "/usr/share/GeographicLib/geoids/egm96-5.pgm",
    "/usr/share/GeographicLib/geoids/egm2008-5.pgm",
    "/usr/share/GeographicLib/geoids/egm2008-2_5.pgm",
];

/// A datum as people give it on the command line.
pub fn datum(text: &str) -> Result<HeightDatum, String> {
    HeightDatum::from_text(text).ok_or_else(|| "expected ellipsoid, egm96 or egm2008".to_owned())
}

/// Reads a terrain model; `datum` is what it does not say itself, or what it only has by the kind of file (`.hgt`).
pub fn dem(path: &Path, datum: Option<HeightDatum>) -> anyhow::Result<Dem> {
    let name = path.to_string_lossy();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the terrain model {name}"))?;
    let dem = Dem::read(&bytes, &name).with_context(|| format!("the terrain model {name}"))?;
    let Some(datum) = datum else { return Ok(dem) };
    let by_kind = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("hgt"));
    if dem.datum() != HeightDatum::Unstated && !by_kind {
        ensure!(
            dem.datum() == datum,
            "the terrain model {name} says itself that its heights are counted from {}, and --dem-datum says {}: leave --dem-datum out, or mend the file's own vertical datum (gdal_edit.py -a_srs)",
            dem.datum().name(),
            datum.name()
        );
    }
    Ok(dem.with_datum(datum))
}

/// The geoids that are given, or else those that a package brought. A file that was asked for must be one.
pub fn geoids(given: &[PathBuf]) -> anyhow::Result<Geoids> {
    let mut geoids = Geoids::default();
    for path in given {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read the geoid {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        geoids.put(Geoid::read(&bytes, &name).with_context(|| format!("the geoid {}", path.display()))?);
    }
    if given.is_empty() {
        for path in USUAL_PLACES.iter().map(Path::new) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if let Ok(bytes) = std::fs::read(path)
                && let Ok(geoid) = Geoid::read(&bytes, &name)
            {
                geoids.put(geoid);
            }
        }
    } else if geoids.is_empty() {
        bail!("no geoid was read");
    }
    Ok(geoids)
}

/// The terrain model with what is needed to compare heights with it.
#[derive(Default)]
pub struct World {
    pub dem: Option<Dem>,
    pub geoids: Geoids,
}

impl World {
    pub fn read(model: Option<&Path>, model_datum: Option<HeightDatum>, geoid: &[PathBuf]) -> anyhow::Result<Self> {
        let dem = model.map(|path| dem(path, model_datum)).transpose()?;
        // Over flat ground nothing is compared.
        let geoids = if dem.is_some() { geoids(geoid)? } else { Geoids::default() };
        Ok(Self { dem, geoids })
    }
}

/// What photos are placed on: the terrain model, or flat ground at a height above take-off.
pub struct Surroundings {
    pub world: World,
    pub ground_m: Option<f64>,
}

impl Surroundings {
    /// A photo ready to be located, or why it has no place.
    pub fn shot(&self, bytes: &[u8]) -> Result<(Photo, Shot), String> {
        let read = if self.world.dem.is_some() { photo::read_for_terrain(bytes) } else { photo::read(bytes) };
        let mut photo = read.map_err(|e| e.to_string())?;
        photo::check_thumbnail(bytes, &mut photo).map_err(|e| e.to_string())?;
        let shot = Shot::of_photo(&photo, self.ground_m, &self.world)
            .ok_or("the terrain model does not reach under the camera, and no height of it can be compared")?;
        Ok((photo, shot))
    }
}
