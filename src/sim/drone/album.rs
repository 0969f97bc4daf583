//! What a simulated camera remembers of its pictures, to say it again when asked. Pure.

use std::collections::VecDeque;

use mavlink::dialects::common::{CAMERA_CAPTURE_STATUS_DATA, CAMERA_IMAGE_CAPTURED_DATA, MavMessage};

const KEPT: usize = 500;

#[derive(Debug, Default)]
pub struct Album {
    reports: VecDeque<CAMERA_IMAGE_CAPTURED_DATA>,
    taken: i32,
}

impl Album {
    pub fn keep(&mut self, report: CAMERA_IMAGE_CAPTURED_DATA) {
        self.taken = self.taken.max(report.image_index.saturating_add(1));
        if self.reports.len() == KEPT {
            self.reports.pop_front();
        }
        self.reports.push_back(report);
    }

    /// The answer to a request of a message; none for what a camera does not say or no longer knows.
    pub fn say(&self, message: u32, index: u32, time_boot_ms: u32) -> Option<MavMessage> {
        const CAPTURE_STATUS: u32 = 262;
        const IMAGE_CAPTURED: u32 = 263;
        match message {
            CAPTURE_STATUS => Some(MavMessage::CAMERA_CAPTURE_STATUS(CAMERA_CAPTURE_STATUS_DATA {
                time_boot_ms,
                image_count: self.taken,
                ..Default::default()
            })),
            IMAGE_CAPTURED => {
                let report = self.reports.iter().find(|report| u32::try_from(report.image_index) == Ok(index))?;
                Some(MavMessage::CAMERA_IMAGE_CAPTURED(report.clone()))
            }
            _ => None,
        }
    }
}
