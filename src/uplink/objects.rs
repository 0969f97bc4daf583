//! Evidence pictures into an S3-compatible store instead of over MQTT: one signed PUT each, under their SHA-256.
//!
//! AWS Signature Version 4, as its documentation describes it, for this one request; why no library, see
//! docs/decisions/0005-objects.md. Putting the same picture again changes nothing.

use std::path::PathBuf;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::UplinkError;
use super::carrier::{Carry, Refused, judge_status};
use super::hmac::hmac;
use super::http;
use crate::outbox::{Payload, Record};

/// `[uplink.objects]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `https://HOST[:PORT]`; the bucket stands in the path.
    pub endpoint: String,
    pub bucket: String,
    #[serde(default = "default_region")]
    pub region: String,
    /// Before each name, for example `danzao-01/`.
    #[serde(default)]
    pub prefix: String,
    pub access_key_id: String,
    /// A file with the secret key; a line end after it is ignored.
    pub secret_key_file: PathBuf,
    /// PEM certificates to trust instead of the machine's own list.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

impl Config {
    pub(super) fn check(&self) -> Result<(), UplinkError> {
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
        if self.bucket.is_empty() || !plain(&self.bucket) || self.bucket.contains('/') {
            return Err(UplinkError::Setting { key: "objects.bucket", why: "must be letters, digits, . _ or -" });
        }
        if !plain(&self.prefix) || self.prefix.starts_with('/') {
            return Err(UplinkError::Setting { key: "objects.prefix", why: "must be letters, digits, . _ - or /" });
        }
        http::host("objects.endpoint", &self.endpoint)?;
        http::secret("objects.secret_key_file", &self.secret_key_file)?;
        http::agent("objects.ca_file", self.ca_file.as_deref()).map(|_| ())
    }
}

pub(super) struct Objects {
    config: Config,
    host: String,
    agent: ureq::Agent,
}

impl Objects {
    pub(super) fn new(config: Config) -> Result<Self, UplinkError> {
        let host = http::host("objects.endpoint", &config.endpoint)?.to_owned();
        let agent = http::agent("objects.ca_file", config.ca_file.as_deref())?;
        Ok(Self { config, host, agent })
    }
}

impl Carry for Objects {
    fn carry(&self, record: &Record, payload: &[u8], now: Timestamp) -> Result<(), Refused> {
        let Payload::File(digest) = &record.payload else {
            return Err(Refused::Never("only pictures go into the object store".to_owned()));
        };
        let secret = http::secret("objects.secret_key_file", &self.config.secret_key_file)
            .map_err(|error| Refused::Down(error.to_string()))?;
        let Config { endpoint, bucket, prefix, region, access_key_id, .. } = &self.config;
        let path = format!("/{bucket}/{prefix}{digest}.jpg");
        let put = Put { host: &self.host, path: &path, digest, now };
        let signature = put.sign(region, access_key_id, &secret);
        let answer = self
            .agent
            .put(format!("{}{path}", endpoint.trim_end_matches('/')))
            .header("content-type", &record.content_type)
            .header("x-amz-content-sha256", digest)
            .header("x-amz-date", stamp(now))
            .header("authorization", signature)
            .send(payload);
        judge_status(answer)
    }
}

struct Put<'a> {
    host: &'a str,
    path: &'a str,
    /// SHA-256 of the payload, hex.
    digest: &'a str,
    now: Timestamp,
}

fn stamp(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

impl Put<'_> {
    fn sign(&self, region: &str, access_key_id: &str, secret: &[u8]) -> String {
        let (Put { host, path, digest, now }, signed) = (self, "host;x-amz-content-sha256;x-amz-date");
        let date = stamp(*now);
        let day = date.split('T').next().unwrap_or_default();
        let canonical = format!(
            "PUT\n{path}\n\nhost:{host}\nx-amz-content-sha256:{digest}\nx-amz-date:{date}\n\n{signed}\n{digest}"
        );
        let scope = format!("{day}/{region}/s3/aws4_request");
        let hashed = hex::encode(Sha256::digest(canonical));
        let signature = signature(secret, day, region, "s3", &format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashed}"));
        format!("AWS4-HMAC-SHA256 Credential={access_key_id}/{scope}, SignedHeaders={signed}, Signature={signature}")
    }
}

fn signature(secret: &[u8], day: &str, region: &str, service: &str, to_sign: &str) -> String {
    let mut key = [b"AWS4", secret].concat();
    for part in [day, region, service, "aws4_request"] {
        key = hmac(&key, &[part.as_bytes()]);
    }
    hex::encode(hmac(&key, &[to_sign.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_of_the_documentations_example() {
        let to_sign = "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n\
                       f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59";
        let secret = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        assert_eq!(
            signature(secret, "20150830", "us-east-1", "iam", to_sign),
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    #[test]
    fn what_is_signed_is_what_is_sent() {
        let put = Put { host: "store:9000", path: "/b/p/x.jpg", digest: "abc", now: Timestamp::UNIX_EPOCH };
        let one = put.sign("us-east-1", "id", b"secret");
        assert!(
            one.starts_with("AWS4-HMAC-SHA256 Credential=id/19700101/us-east-1/s3/aws4_request, SignedHeaders=host;")
        );
        assert_ne!(one, Put { path: "/b/p/y.jpg", ..put }.sign("us-east-1", "id", b"secret"));
    }
}
