//! Video through OpenCV's FFmpeg and V4L2: a file, an RTSP stream, a device.

use std::time::Instant;

use opencv::core::{Mat, Vector};
use opencv::prelude::*;
use opencv::videoio::{self, VideoCapture};

use super::{Address, Frame, Lens, Poses, Source, SourceError, Stamp};
use crate::perception::decode::Picture;
use crate::perception::ledger::View;

/// A read that takes longer is given up by FFmpeg itself, so that a reader left behind ends some day.
const READ_LIMIT_MS: i32 = 5_000;
const OPEN_LIMIT_MS: i32 = 10_000;

pub struct Video {
    name: String,
    live: bool,
    capture: VideoCapture,
    poses: Box<dyn Poses>,
    lens: Option<Lens>,
    /// Of the frames, once one was seen.
    size: Option<(u32, u32)>,
    interval_s: f64,
    next: u64,
    stamp: Stamp,
    started: Instant,
    /// Frames the container promises; 0 where it does not say.
    promised: u64,
}

impl Video {
    pub fn open(address: &Address, poses: Box<dyn Poses>, lens: Option<Lens>) -> Result<Video, SourceError> {
        let name = address.name();
        let failed = || match address {
            Address::Rtsp(_) => SourceError::NoAnswer { name: name.clone() },
            _ => SourceError::NotAVideo { name: name.clone() },
        };
        let limits = Vector::from_slice(&[
            videoio::CAP_PROP_OPEN_TIMEOUT_MSEC,
            OPEN_LIMIT_MS,
            videoio::CAP_PROP_READ_TIMEOUT_MSEC,
            READ_LIMIT_MS,
        ]);
        let opened = match address {
            Address::Rtsp(url) => VideoCapture::from_file_with_params(url, videoio::CAP_FFMPEG, &limits),
            Address::Video(path) => VideoCapture::from_file_with_params(path, videoio::CAP_FFMPEG, &limits),
            Address::Device(path) => VideoCapture::from_file(path, videoio::CAP_V4L2),
        };
        let mut capture = opened.map_err(|_| failed())?;
        if !capture.is_opened().unwrap_or(false) {
            return Err(failed());
        }
        if matches!(address, Address::Device(_)) {
            // Some drivers know no buffer size; then the queue in front of us drops what is old.
            let _ = capture.set(videoio::CAP_PROP_BUFFERSIZE, 1.0);
        }
        let fps = capture.get(videoio::CAP_PROP_FPS).ok().filter(|fps| *fps >= 1.0 && *fps <= 1000.0);
        let promised = capture.get(videoio::CAP_PROP_FRAME_COUNT).unwrap_or(0.0);
        Ok(Video {
            live: address.is_live(),
            name,
            capture,
            poses,
            lens,
            size: None,
            interval_s: 1.0 / fps.unwrap_or(25.0),
            next: 0,
            stamp: Stamp { index: 0, at_s: 0.0 },
            started: Instant::now(),
            promised: if promised.is_finite() && promised > 0.0 { promised as u64 } else { 0 },
        })
    }

    /// How many frames the file promised and did not have, once it has ended: it was cut off.
    pub fn missing(&self) -> u64 {
        self.promised.saturating_sub(self.next)
    }
}

impl Source for Video {
    fn advance(&mut self) -> Result<Option<Stamp>, SourceError> {
        let bad = |error: opencv::Error| SourceError::BadFrame { name: self.name.clone(), message: error.message };
        if !self.capture.grab().map_err(bad)? {
            return if self.live { Err(SourceError::Ended { name: self.name.clone() }) } else { Ok(None) };
        }
        let at_s = if self.live {
            self.started.elapsed().as_secs_f64()
        } else {
            // Some containers tell no time for their last frames.
            let told = self.capture.get(videoio::CAP_PROP_POS_MSEC).unwrap_or(0.0) / 1e3;
            if self.next == 0 || told > self.stamp.at_s { told } else { self.stamp.at_s + self.interval_s }
        };
        self.stamp = Stamp { index: self.next, at_s };
        self.next += 1;
        Ok(Some(self.stamp))
    }

    fn view(&mut self, stamp: Stamp) -> Option<View> {
        let (width, height) = self.size?;
        Some(View { camera: self.lens?.camera(width, height), pose: self.poses.at(stamp.at_s)? })
    }

    fn frame(&mut self) -> Result<Frame, SourceError> {
        let bad = |message: String| SourceError::BadFrame { name: self.name.clone(), message };
        let mut mat = Mat::default();
        if !self.capture.retrieve_def(&mut mat).map_err(|error| bad(error.message))? {
            return Err(bad("it could not be decoded".to_owned()));
        }
        let picture = Picture::from_mat(mat).map_err(bad)?;
        self.size = Some((picture.width(), picture.height()));
        let view = self.view(self.stamp);
        Ok(Frame { stamp: self.stamp, picture, view, file: None, came: Instant::now() })
    }
}
