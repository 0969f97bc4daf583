//! The stream between the station and `aerie perceive`, over the child's standard input and output.
//!
//! One message is: length of the JSON (u32, big-endian), length of the attachment (u32, big-endian), the JSON, the
//! attachment (a JPEG, or nothing). Both lengths are bounded, so that a broken peer cannot make us allocate without end.
//! Requests are answered in order, one answer a request; the child says [`Answer::Ready`] once before the first.
//! The child ends when its standard input does, so it never outlives the station.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::provider::Chosen;
use super::quality::Unusable;
use crate::geo::{Camera, Located, Pose};

pub const JSON_LIMIT: u32 = 1 << 20;
pub const ATTACHMENT_LIMIT: u32 = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    #[error("the stream ended or broke: {0}")]
    Stream(#[from] std::io::Error),
    #[error("a message of {json} + {attachment} bytes exceeds the limits of {JSON_LIMIT} + {ATTACHMENT_LIMIT}")]
    TooLarge { json: u32, attachment: u32 },
    #[error("a message is not of the protocol: {0}")]
    Json(#[from] serde_json::Error),
}

/// What the station asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// Look at a picture that was taken with this pose. Answered by `Seen` with a preview, `Skipped`, or `Failed`.
    Look(Look),
    /// Draw boxes into a picture. Answered by `Annotated` with the JPEG, or `Failed`.
    Annotate { file: PathBuf, marks: Vec<Mark> },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Look {
    /// Unique within a sortie, and said again in every answer.
    pub frame: u64,
    pub file: PathBuf,
    pub taken_at: Timestamp,
    pub pose: Pose,
    pub camera: CameraModel,
}

/// The camera, in parts of the picture's width, so that it holds for whatever size the file turns out to have.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct CameraModel {
    pub horizontal_fov_deg: f64,
}

impl CameraModel {
    pub fn camera(&self, width_px: u32, height_px: u32) -> Camera {
        Camera::from_fov(width_px, height_px, self.horizontal_fov_deg)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mark {
    pub bbox: [f32; 4],
    pub label: String,
}

/// What the child answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    Ready {
        model: ModelName,
        provider: Chosen,
    },
    Seen(SeenFrame),
    /// The picture shows nothing that could be judged.
    Skipped {
        why: Unusable,
    },
    Annotated,
    Failed {
        error: String,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelName {
    pub name: String,
    pub version: String,
    pub sha256: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SeenFrame {
    pub frame: u64,
    pub width_px: u32,
    pub height_px: u32,
    pub gsd_m: f64,
    pub decode_ms: f64,
    /// By the clock: how late the frame is.
    pub detect_ms: f64,
    /// Processor time of the same, of all of the child's threads: what the model costs, whoever else wants the processor.
    /// None where the graph runs on something else.
    pub cpu_ms: Option<f64>,
    /// Pixels that went into the graph, 10^6.
    pub fed_mpx: f64,
    /// 0 to 1, at the model's scale.
    pub sharpness: f32,
    pub sightings: Vec<Sighting>,
}

/// One thing in one frame, and where it is on the ground.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sighting {
    pub class: String,
    pub score: f32,
    /// The score reaches the class's threshold; below, it only supports another look at the same thing.
    pub sure: bool,
    /// The class's threshold.
    pub threshold: f32,
    pub bbox: [f32; 4],
    /// Whether the picture's edge cuts it: then its centre is not the thing's centre.
    pub at_edge: bool,
    /// Over flat ground, which the look's pose is counted from.
    pub located: Located,
    /// The centre of the box above the ground the thing stands on, and one sigma of that.
    pub centre_height_m: f64,
    pub centre_height_sigma_m: f64,
    /// The model rests on generated pictures alone for this class.
    pub experimental: bool,
}

pub async fn write<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
    attachment: &[u8],
) -> Result<(), ProtocolError> {
    let json = serde_json::to_vec(message)?;
    let too_large = || ProtocolError::TooLarge {
        json: json.len().try_into().unwrap_or(u32::MAX),
        attachment: attachment.len().try_into().unwrap_or(u32::MAX),
    };
    let lengths = (u32::try_from(json.len()), u32::try_from(attachment.len()));
    let (Ok(json_length @ ..=JSON_LIMIT), Ok(attachment_length @ ..=ATTACHMENT_LIMIT)) = lengths else {
        return Err(too_large());
    };
    stream.write_u32(json_length).await?;
    stream.write_u32(attachment_length).await?;
    stream.write_all(&json).await?;
    stream.write_all(attachment).await?;
    stream.flush().await?;
    Ok(())
}

pub async fn read<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> Result<(T, Vec<u8>), ProtocolError> {
    let json_length = stream.read_u32().await?;
    let attachment_length = stream.read_u32().await?;
    if json_length > JSON_LIMIT || attachment_length > ATTACHMENT_LIMIT {
        return Err(ProtocolError::TooLarge { json: json_length, attachment: attachment_length });
    }
    let mut json = vec![0; json_length as usize];
    stream.read_exact(&mut json).await?;
    let mut attachment = vec![0; attachment_length as usize];
    stream.read_exact(&mut attachment).await?;
    Ok((serde_json::from_slice(&json)?, attachment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_and_its_attachment_come_back_as_they_went() {
        let (mut one, mut other) = tokio::io::duplex(64);
        let sent = Answer::Failed { error: "no such file".to_owned() };
        let writer = tokio::spawn(async move { write(&mut one, &sent, b"jpeg").await });
        let (answer, attachment): (Answer, _) = read(&mut other).await.unwrap();
        writer.await.unwrap().unwrap();
        assert!(matches!(answer, Answer::Failed { error } if error == "no such file"));
        assert_eq!(attachment, b"jpeg");
    }

    #[tokio::test]
    async fn a_peer_that_announces_gigabytes_is_refused_before_anything_is_allocated() {
        let mut stream: &[u8] = &[0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];
        let refused = read::<Answer>(&mut stream).await;
        assert!(matches!(refused, Err(ProtocolError::TooLarge { .. })));
    }
}
