//! Where a photo was taken from and with which camera: out of its own EXIF and XMP. Pure: bytes in, a pose out.
//!
//! What is read: position (XMP before EXIF, which has fewer digits), heights, the **gimbal's** attitude (the vehicle's is
//! another thing: a drone that leans into the wind looks straight down all the same) and the lens, from a calibration, a
//! known camera, or the 35 mm equivalent, in this order. Makers are told apart by the words they use, see [`makers`].
//!
//! Everything here comes from outside: sizes are bounded, nothing is trusted, and what is missing is named together with
//! what it is needed for. The height above *sea level* is never taken for one above the ground. A picture that was changed
//! after its pose was written is refused or flagged, see [`edited`].

mod container;
mod doubts;
mod edited;
mod exif;
mod lens;
mod makers;
mod size;
mod thumbnail;
mod xmp;

use std::fmt;

use super::level::CameraHeights;
use super::{Attitude, Camera, DEFAULT_MAX_RANGE_M, LatLon, Pose, PoseSigma};

pub use doubts::Doubt;

/// One sigma of a drone without corrections, per axis: a satellite fix, a barometer's drift together with ground that is
/// not quite at take-off height, a compass next to motors, a gimbal.
pub const SIGMA: PoseSigma = PoseSigma { horizontal_m: 1.5, vertical_m: 2.0, yaw_deg: 2.0, tilt_deg: 0.5 };
/// With an RTK fix the camera's place is known, the ground under it is not better known than before.
const SIGMA_RTK: PoseSigma = PoseSigma { horizontal_m: 0.1, vertical_m: 1.0, yaw_deg: 1.0, tilt_deg: 0.5 };
/// DJI's `RtkFlag` for a fixed solution.
const RTK_FIXED: f64 = 50.0;
/// Two positions in one file that differ by more than this contradict each other.
const CONTRADICTION_M: f64 = 20.0;
/// How much less a picture is believed that an editor had in hands: it may have been cropped by as much without showing.
const EDITED_FOCAL_SIGMA: f64 = 0.1;
const EDITED_TILT_DEG: f64 = 3.0;
const EDITED_YAW_DEG: f64 = 5.0;
/// Two focal lengths of which one is more than so many times the other: one of them is none.
const FOCAL_ABSURD: f64 = 2.0;

/// What a photo says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Photo {
    pub camera: Camera,
    /// One sigma of the focal length, as a share of it.
    pub focal_sigma: f64,
    /// Its height is above take-off.
    pub pose: Pose,
    /// All heights that are stated, for use with a terrain model.
    pub heights: CameraHeights,
    /// Metres along the optical axis to what is in the picture's centre, measured.
    pub laser_range_m: Option<f64>,
    /// An editor had it in hands; the errors are widened.
    pub edited: bool,
    /// What its tags contradict each other in, or lack the end of; in `notes` in words.
    pub doubts: Vec<Doubt>,
    /// How it may have looked as well, by tags that contradict its attitude.
    pub may_look: Vec<Attitude>,
    /// Which camera it may have been as well, by focal lengths that contradict each other.
    pub may_be: Vec<Camera>,
    /// The camera's name as in EXIF.
    pub model: Option<String>,
    /// As in EXIF, in the camera's own time, whose zone the file does not tell.
    pub taken: Option<String>,
    /// Where it is smaller than its tags say: by how much, as a share.
    smaller: Option<f64>,
    /// What had to be assumed, in words, for the report.
    pub notes: Vec<String>,
}

/// Why a photo has no pose.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PhotoError {
    #[error(
        "no picture that can be read (JPEG or TIFF): {0}; was it copied whole? Take the file as the drone wrote it"
    )]
    NotAPicture(String),
    #[error(
        "a PNG's tags are not read, so no pose is known: no drone camera writes PNG; take the JPEG or TIFF as the drone wrote it"
    )]
    Png,
    #[error("the XMP metadata is refused: {0}")]
    Xmp(#[from] xmp::XmpError),
    #[error("{}", list(.0))]
    Missing(Vec<Missing>),
    #[error("the stated position is none: {0}; take the file as the drone wrote it")]
    Position(String),
    #[error(
        "XMP and EXIF positions are {:.0} km apart, and nothing says which is right; take the file as the drone wrote it",
        apart_m / 1e3
    )]
    Apart { apart_m: f64 },
    #[error(
        "EXIF FocalLength ({focal_mm} mm) and FocalLengthIn35mmFilm ({equivalent_mm} mm) contradict each other: on the sensor of this camera they are {times:.1} times apart, and nothing says which is right; take the file as the drone wrote it"
    )]
    FocalLengths { focal_mm: f64, equivalent_mm: f64, times: f64 },
    #[error("a gimbal {what} of {degrees}° is no angle; take the file as the drone wrote it")]
    Angle { what: &'static str, degrees: f64 },
    #[error("EXIF orientation {0}: the picture was turned after its pose was written; take the original file")]
    Turned(u32),
    #[error(
        "the picture has {width} × {height} pixels, the camera wrote {was_width} × {was_height}: it was {} after its pose was written; take the original file",
        if *turned { "turned" } else { "cropped or stretched" }
    )]
    Reshaped { width: u32, height: u32, was_width: u32, was_height: u32, turned: bool },
    #[error("the picture was cropped after its pose was written (crs:HasCrop); take the original file")]
    Cropped,
    #[error("the picture was {0} after its pose was written, by its own thumbnail; take the original file")]
    UnlikeThumbnail(&'static str),
}

/// What a pose needs and a photo lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    Position,
    Height,
    GimbalYaw,
    GimbalPitch,
    FocalLength,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Position => "no GPS position (was there a fix, or were the tags stripped on the way?)",
            Self::Height => {
                "no height above take-off (XMP RelativeAltitude; the height above sea level does not say it)"
            }
            Self::GimbalYaw => {
                "no gimbal yaw (XMP GimbalYawDegree or its maker's word for it; the flight yaw does not say it)"
            }
            Self::GimbalPitch => "no gimbal pitch (XMP GimbalPitchDegree or its maker's word for it)",
            Self::FocalLength => "no focal length (EXIF FocalLength with a known camera, or FocalLengthIn35mmFilm)",
        })
    }
}

fn list(missing: &[Missing]) -> String {
    let parts: Vec<String> = missing.iter().map(ToString::to_string).collect();
    format!("{}; take the file as the drone wrote it, messengers and editors strip metadata", parts.join(", "))
}

/// Reads pose and camera from the bytes of a whole picture file; the height above take-off must be told.
pub fn read(bytes: &[u8]) -> Result<Photo, PhotoError> {
    let photo = read_for_terrain(bytes)?;
    if photo.pose.height_m.is_nan() { Err(PhotoError::Missing(vec![Missing::Height])) } else { Ok(photo) }
}

/// The same where a terrain model is at hand: an absolute height is enough, and the pose's own is NaN (which nothing accepts)
/// where the one above take-off is not told.
pub fn read_for_terrain(bytes: &[u8]) -> Result<Photo, PhotoError> {
    let (width_px, height_px) = container::dimensions(bytes).map_err(PhotoError::NotAPicture)?;
    if bytes.starts_with(b"\x89PNG") {
        return Err(PhotoError::Png);
    }
    let segments = container::metadata(bytes);
    let mut exif = exif::read(segments.exif);
    let xmp = match segments.xmp {
        Some(packet) => xmp::read(&packet)?,
        None => xmp::Properties::default(),
    };
    let signs = edited::look(width_px, height_px, &exif, &xmp)?;
    let mut said = makers::read(&exif, &xmp);
    if let Some((what, degrees)) = Attitude::impossible(said.yaw, said.pitch, said.roll) {
        return Err(PhotoError::Angle { what, degrees });
    }
    let mut notes = [signs.notes, said.notes.clone(), makers::unreadable(&xmp)].concat();
    let mut doubts = doubts::of_file(segments.cut, xmp.cut);
    doubts.extend(doubts::drop_impossible_heights(&mut said));

    let mut unusable = Vec::new();
    let mut usable = |told: Option<Result<LatLon, String>>, tags: &str| {
        match told?.and_then(|at| at.validate().map(|()| at).map_err(|error| format!("{tags}: {error}"))) {
            Ok(at) => return Some(at),
            Err(fault) => unusable.push(fault),
        }
        None
    };
    let from_xmp = usable(said.at.take(), "XMP latitude and longitude");
    let from_exif = usable(exif.position.take(), "EXIF GPSLatitude and GPSLongitude");
    let at = from_xmp.or(from_exif);
    if !unusable.is_empty() {
        let faults = unusable.join("; ");
        let taken = match (from_xmp, from_exif) {
            (Some(_), _) => "XMP's",
            (None, Some(_)) => "EXIF's",
            (None, None) => return Err(PhotoError::Position(faults)),
        };
        doubts.push(Doubt::PositionUnusable);
        notes.push(format!("{faults}: the position is {taken}, which nothing confirms"));
        said.sigma.horizontal_m = said.sigma.horizontal_m.max(SIGMA.horizontal_m);
    }
    let height = said.above_take_off_m;
    let (w, h) = (f64::from(width_px), f64::from(height_px));
    let size = size::Size::of(w, h, &exif, &xmp);
    let lens = lens::lens(width_px, height_px, &size, &exif, &xmp, &mut notes);
    let told = height.is_some() || !said.absolute.is_empty();

    let (Some(at), true, Some(attitude), Some(lens)) = (at, told, said.attitude(), &lens) else {
        let parts = [
            (at.is_none(), Missing::Position),
            (height.is_none(), Missing::Height),
            (said.yaw.is_none(), Missing::GimbalYaw),
            (said.pitch.is_none(), Missing::GimbalPitch),
            (lens.is_none(), Missing::FocalLength),
        ];
        return Err(PhotoError::Missing(
            parts.into_iter().filter_map(|(absent, part)| absent.then_some(part)).collect(),
        ));
    };

    if said.roll.is_none() {
        notes.push("no gimbal roll: taken as level".to_owned());
    }
    let mut sigma = said.sigma;
    if let (Some(a), Some(b)) = (from_xmp, from_exif) {
        let apart = a.distance_m(b);
        if apart > DEFAULT_MAX_RANGE_M {
            return Err(PhotoError::Apart { apart_m: apart });
        }
        if apart > CONTRADICTION_M {
            doubts.push(Doubt::PositionsContradict);
            notes.push(format!("XMP and EXIF positions are {apart:.0} m apart: XMP's is taken, with that much error"));
            sigma.horizontal_m = sigma.horizontal_m.max(apart);
        }
    }
    let mut focal_sigma = lens.focal_sigma;
    if let Some(other) = lens.may_be {
        let times = (lens.camera.fx / other.fx).max(other.fx / lens.camera.fx);
        if let (true, Some(focal_mm), Some(equivalent_mm)) = (times > FOCAL_ABSURD, exif.focal_mm, exif.focal_35mm) {
            return Err(PhotoError::FocalLengths { focal_mm, equivalent_mm, times });
        }
        doubts.push(Doubt::FocalContradict);
        // For an adjustment, which knows one focal length and its error.
        focal_sigma = focal_sigma.max((times - 1.0) / 2.0);
    }
    if let Some([full_w, full_h]) = size.was {
        let as_what = format!(
            "the picture has {width_px} × {height_px} pixels, its tags say {full_w:.0} × {full_h:.0}: taken for a copy of the whole"
        );
        if size.smaller(w).is_some() {
            doubts.push(Doubt::Resized);
            notes.push(format!("{as_what}; were it a part cut out, the place would be wrong"));
        } else {
            notes.push(as_what);
        }
    }
    let ranged = xmp.text(xmp::Words::Dji, "LRFStatus").is_some_and(|status| status.eq_ignore_ascii_case("normal"));
    let laser_range_m =
        xmp.number(xmp::Words::Dji, "LRFTargetDistance").filter(|range| ranged && (1.0..=3_000.0).contains(range));
    let mut photo = Photo {
        camera: lens.camera,
        focal_sigma,
        pose: Pose { at, height_m: height.unwrap_or(f64::NAN), attitude, sigma },
        heights: CameraHeights { absolute: said.absolute, above_take_off_m: height },
        laser_range_m,
        edited: false,
        doubts,
        may_look: Vec::new(),
        may_be: lens.may_be.into_iter().collect(),
        model: exif.model,
        taken: exif.taken,
        smaller: size.smaller(w),
        notes,
    };
    doubts::of_attitude(&mut photo, &xmp);
    photo.notes.extend(photo.doubts.iter().filter_map(|doubt| doubt.text()).map(str::to_owned));
    if signs.edited {
        photo.distrust();
    }
    if let (Some(cut), Some([full_w, full_h])) = (size.may_be_cut(w, h), size.cut_from) {
        photo.notes.push(format!(
            "{width_px} × {height_px} pixels are no part of the calibrated {full_w:.0} × {full_h:.0} that a camera writes: it may have been cropped"
        ));
        photo.distrust();
        // Anywhere in the frame, and smaller by any share up to what was taken: one sigma of that.
        let focal_px = photo.camera.fx / size.scale;
        let sigma = &mut photo.pose.sigma;
        sigma.tilt_deg = sigma.tilt_deg.max((cut.centre_px / focal_px).atan().to_degrees() / 3_f64.sqrt());
        photo.focal_sigma = photo.focal_sigma.max(cut.focal_share / 3_f64.sqrt());
    }
    Ok(photo)
}

/// Holds the picture against the thumbnail that the camera put beside it, which few editors change along: a picture that was
/// turned round or cut out without a trace in its tags shows here. Costs the decoding of the picture, so it is asked for apart.
pub fn check_thumbnail(bytes: &[u8], photo: &mut Photo) -> Result<(), PhotoError> {
    let exif = exif::read(container::metadata(bytes).exif);
    match thumbnail::compare(bytes, exif.thumbnail.as_deref(), photo.smaller) {
        thumbnail::Likeness::Same => {
            photo.doubts.retain(|doubt| *doubt != Doubt::Resized);
            Ok(())
        }
        thumbnail::Likeness::Unknown => Ok(()),
        thumbnail::Likeness::Turned => Err(PhotoError::UnlikeThumbnail("turned round or mirrored")),
        thumbnail::Likeness::CutOut => Err(PhotoError::UnlikeThumbnail("cropped")),
        thumbnail::Likeness::Other => {
            photo.notes.push(
                "it does not look like its own thumbnail: it may have been changed since its pose was written"
                    .to_owned(),
            );
            photo.distrust();
            Ok(())
        }
    }
}

impl Photo {
    /// Widens the errors by what an edit can hide.
    fn distrust(&mut self) {
        let sigma = &mut self.pose.sigma;
        sigma.tilt_deg = sigma.tilt_deg.max(EDITED_TILT_DEG);
        sigma.yaw_deg = sigma.yaw_deg.max(EDITED_YAW_DEG);
        self.focal_sigma = self.focal_sigma.max(EDITED_FOCAL_SIGMA);
        self.edited = true;
    }
}

#[cfg(test)]
mod tests;
