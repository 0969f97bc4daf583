//! Pure geometry: coordinates, datums, the camera model, terrain, and where a pixel lies on the ground. No clock, no I/O:
//! files come in as bytes.
//!
//! Conventions: attitude is yaw clockwise from true north, pitch 0 at the horizon and −90 straight down, roll positive
//! with the right side down, all in degrees; local axes are east, north, up in metres; camera axes are x right, y down,
//! z forward; pixels have their origin in the top-left corner of the top-left pixel, x right, y down.
//!
//! Invariants kept here:
//! - a position never comes without its error: [`locate()`] gives an ellipse or a reason, never a bare point;
//! - attitudes are composed as rotations; no angle is ever added to another one;
//! - heights of two datums never meet without a geoid between them, or an error as wide as what is not known;
//! - what reaches the ground beyond the horizon, behind the camera or out of range is refused, each with its own reason.
//!
//! | module | what |
//! |---|---|
//! | [`locate`](mod@locate) | one look at one pixel, over flat ground or terrain |
//! | [`adjust`](mod@adjust) | all looks of a sortie together |
//! | [`fuse`] | two places of one thing without their poses |
//! | [`dem`], [`geoid`], [`heights`], [`level`](mod@level) | terrain models, undulations, which height is meant |
//! | [`terrain`] | a terrain model counted from where a station's drone takes off |
//! | [`crs`], [`datum`] | projected grids; naming a position for others |
//! | [`photo`], [`srt`], [`track`] | poses out of photos, out of video subtitles, between two moments |

pub mod adjust;
mod attitude;
mod camera;
pub mod crs;
pub mod datum;
pub mod dem;
mod ellipse;
mod frame;
pub mod fuse;
pub mod geoid;
pub mod heights;
pub mod level;
pub mod locate;
pub mod photo;
pub mod srt;
pub mod terrain;
pub mod track;

use serde::{Deserialize, Serialize};

pub use frame::{CoordinateError, distance_m};
pub use fuse::{COMMON_SIGMA_M, combine, same_place};
pub use locate::{
    DEFAULT_MAX_RANGE_M, Found, Ground, LocateError, Look, NORMAL_95, PIXEL_SIGMA, Target, footprint,
    ground_sample_distance, locate, locate_within, project_ground,
};

/// A position in WGS 84, degrees.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LatLon {
    pub lat: f64,
    pub lon: f64,
}

/// A local tangent frame: metres east and north of an origin. Good to a centimetre within 5 km.
#[derive(Debug, Clone, Copy)]
pub struct LocalFrame {
    pub origin: LatLon,
}

/// The attitude of a camera (not of the vehicle that carries it).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Attitude {
    pub yaw_deg: f64,
    pub pitch_deg: f64,
    pub roll_deg: f64,
}

/// One-sigma errors of a pose, per axis.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PoseSigma {
    pub horizontal_m: f64,
    pub vertical_m: f64,
    pub yaw_deg: f64,
    pub tilt_deg: f64,
}

/// Where a camera was and how it looked when the shutter opened.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pose {
    pub at: LatLon,
    /// Height above the take-off point, which is taken for the ground's height; or, beside a [`Ground`], in its heights.
    pub height_m: f64,
    pub attitude: Attitude,
    pub sigma: PoseSigma,
}

/// A camera; everything in pixels of the full picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Camera {
    pub width_px: u32,
    pub height_px: u32,
    pub fx: f64,
    pub fy: f64,
    pub cx: f64,
    pub cy: f64,
    pub distortion: Option<Distortion>,
}

/// How a lens departs from the ideal pinhole.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distortion {
    /// Brown–Conrady: k1, k2, p1, p2, k3.
    Brown([f64; 5]),
    /// The image radius in focal lengths of an angle θ off the axis, `θ (1 + c1 θ + c2 θ² + … + c8 θ⁸)`; see
    /// [`Distortion::equidistant`] and [`Distortion::pix4d_fisheye`].
    Fisheye([f64; 8]),
}

/// A 95 % confidence ellipse on the ground.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ellipse {
    pub semi_major_m: f64,
    pub semi_minor_m: f64,
    /// Of the major axis, clockwise from true north, 0 to 180.
    pub bearing_deg: f64,
}

/// A pixel's place on the ground.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Located {
    pub at: LatLon,
    pub uncertainty: Ellipse,
    /// From the camera to the place, metres.
    pub slant_m: f64,
}
