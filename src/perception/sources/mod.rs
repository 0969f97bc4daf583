//! Where pictures come from: a folder of stills, a video file with its telemetry, RTSP, a V4L2 device.
//!
//! A [`Source`] is read by one thread and blocks. Files are read as fast as they are worked on ([`stills`], [`video`]);
//! what is live goes through a [`live::Feed`], which drops the oldest frame when work is slower than the camera, notices
//! silence, and opens the source again. [`vigil`] decides when, and is pure; so is the queue, [`newest`].

pub mod live;
pub mod newest;
pub mod stills;
pub mod video;
pub mod vigil;

use std::path::PathBuf;
use std::time::Instant;

use super::decode::{DecodeError, Picture};
use super::ledger::View;
use crate::geo::{Camera, Pose};

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{name} cannot be opened as a video; check that it is whole and that its codec is one of FFmpeg's")]
    NotAVideo { name: String },
    #[error("{name} does not answer; check the address, the network and the password")]
    NoAnswer { name: String },
    #[error("{name} gave a frame that cannot be used: {message}")]
    BadFrame { name: String, message: String },
    #[error("{name} ended")]
    Ended { name: String },
    #[error("{name}: {message}; write lat,lon,height,yaw,pitch or lat,lon,height,yaw,pitch,roll in degrees and metres")]
    Pose { name: String, message: String },
    #[error("--look: {message}; write yaw,pitch or yaw,pitch,roll in degrees, yaw from true north")]
    Look { message: String },
    #[error("{path} cannot be listed: {source}")]
    Folder { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// When a frame was taken, and which it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stamp {
    pub index: u64,
    /// Seconds since the source's beginning.
    pub at_s: f64,
}

/// One frame as the pipeline takes it.
pub struct Frame {
    pub stamp: Stamp,
    pub picture: Picture,
    /// Where it was taken from, where that is known.
    pub view: Option<View>,
    /// The file it is, of a folder of stills.
    pub file: Option<PathBuf>,
    /// When it reached us.
    pub came: Instant,
}

/// Gives frames in the order of their time.
pub trait Source: Send {
    /// Goes to the next frame without making a picture of it. `None`: there are no more.
    fn advance(&mut self) -> Result<Option<Stamp>, SourceError>;

    /// Where the frame that [`advance`](Self::advance) went to was taken from, where that is known without its picture.
    fn view(&mut self, _: Stamp) -> Option<View> {
        None
    }

    /// The frame that [`advance`](Self::advance) went to.
    fn frame(&mut self) -> Result<Frame, SourceError>;
}

/// Says where the camera was.
pub trait Poses: Send {
    /// `None` where nothing is known of that moment.
    fn at(&self, at_s: f64) -> Option<Pose>;
}

/// A fixed camera, or one that is not known at all.
impl Poses for Option<Pose> {
    fn at(&self, _: f64) -> Option<Pose> {
        *self
    }
}

/// A camera's lens, for sources that do not tell it.
#[derive(Debug, Clone, Copy)]
pub struct Lens {
    pub horizontal_fov_deg: f64,
}

impl Lens {
    pub fn camera(&self, width_px: u32, height_px: u32) -> Camera {
        Camera::from_fov(width_px, height_px, self.horizontal_fov_deg)
    }
}

/// What a source is, from how it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Rtsp(String),
    Device(String),
    Video(PathBuf),
}

impl Address {
    /// `None` where it is none of these: a photo or a folder.
    pub fn parse(text: &str) -> Option<Address> {
        const VIDEOS: [&str; 8] = ["mp4", "mov", "mkv", "avi", "ts", "m4v", "h264", "h265"];
        if text.starts_with("rtsp://") || text.starts_with("rtsps://") {
            return Some(Address::Rtsp(text.to_owned()));
        }
        if text.starts_with("/dev/video") {
            return Some(Address::Device(text.to_owned()));
        }
        let path = PathBuf::from(text);
        let extension = path.extension()?.to_string_lossy().to_lowercase();
        VIDEOS.contains(&extension.as_str()).then_some(Address::Video(path))
    }

    pub fn is_live(&self) -> bool {
        !matches!(self, Address::Video(_))
    }

    /// As it may be written into logs: without a password.
    pub fn name(&self) -> String {
        match self {
            Address::Rtsp(url) => match (url.split_once("://"), url.rsplit_once('@')) {
                (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
                _ => url.clone(),
            },
            Address::Device(path) => path.clone(),
            Address::Video(path) => path.display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_what_it_is_and_never_tells_a_password() {
        let camera = Address::parse("rtsp://user:p@ss@10.0.0.2/live").unwrap();
        assert_eq!((camera.name().as_str(), camera.is_live()), ("rtsp://10.0.0.2/live", true));
        assert_eq!(Address::parse("/dev/video0"), Some(Address::Device("/dev/video0".to_owned())));
        assert_eq!(Address::parse("a/DJI_0001.MP4").map(|a| a.is_live()), Some(false));
        assert_eq!((Address::parse("a/DJI_0001.JPG"), Address::parse("a/folder")), (None, None));
    }
}
