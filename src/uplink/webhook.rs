//! For platforms without MQTT: each record as one HTTP POST, signed with a shared secret.
//!
//! `X-Aerie-Signature: v1=` HMAC-SHA256 in hex over `{timestamp}.{id}.{topic}.` and the body; the timestamp is that of the
//! attempt, in `X-Aerie-Timestamp`. Who receives compares the signature, refuses old timestamps and drops known ids.

use std::path::PathBuf;

use jiff::Timestamp;

use super::carrier::{Carry, Refused, judge_status};
use super::hmac::hmac;
use super::{UplinkError, http, prefix};
use crate::outbox::Record;

pub(super) struct Webhook {
    url: String,
    prefix: String,
    secret_file: PathBuf,
    agent: ureq::Agent,
}

impl Webhook {
    pub(super) fn new(config: &super::Config, station: &str) -> Result<Self, UplinkError> {
        http::host("url", &config.url)?;
        let secret_file = config
            .password_file
            .clone()
            .ok_or(UplinkError::Setting { key: "password_file", why: "is needed for a webhook: the shared secret" })?;
        http::secret("password_file", &secret_file)?;
        let agent = http::agent("ca_file", config.ca_file.as_deref())?;
        Ok(Self { url: config.url.clone(), prefix: prefix(station), secret_file, agent })
    }
}

/// The signature of a POST, as it stands in the header. Pure; for receivers' tests too.
pub fn signature(secret: &[u8], timestamp_s: i64, id: &str, topic: &str, body: &[u8]) -> String {
    let head = format!("{timestamp_s}.{id}.{topic}.");
    format!("v1={}", hex::encode(hmac(secret, &[head.as_bytes(), body])))
}

impl Carry for Webhook {
    fn carry(&self, record: &Record, payload: &[u8], now: Timestamp) -> Result<(), Refused> {
        let secret =
            http::secret("password_file", &self.secret_file).map_err(|error| Refused::Down(error.to_string()))?;
        let (at, topic) = (now.as_second(), format!("{}{}", self.prefix, record.topic));
        let answer = self
            .agent
            .post(&self.url)
            .header("content-type", &record.content_type)
            .header("x-aerie-id", &record.id)
            .header("x-aerie-topic", &topic)
            .header("x-aerie-timestamp", at.to_string())
            .header("x-aerie-signature", signature(&secret, at, &record.id, &topic, payload))
            .send(payload);
        judge_status(answer)
    }
}
