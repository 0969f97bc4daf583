//! How long the certificates that the configuration names stay good.

use std::path::Path;

use jiff::Timestamp;
use x509_cert::Certificate;

/// The time left is worth a visit from here on.
pub const SOON_DAYS: i64 = 30;

/// The certificate of a chain that ends first.
#[derive(Debug, Clone, PartialEq)]
pub struct Ends {
    pub subject: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// Reads a file of PEM certificates.
pub fn read(path: &Path) -> Result<Ends, String> {
    let pem = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    first_to_end(&pem)
}

fn first_to_end(pem: &[u8]) -> Result<Ends, String> {
    let chain = Certificate::load_pem_chain(pem).map_err(|error| format!("holds no PEM certificates: {error}"))?;
    let ends = chain.iter().filter_map(|certificate| {
        let certificate = certificate.tbs_certificate();
        let at = |time: x509_cert::time::Time| {
            Timestamp::from_second(i64::try_from(time.to_unix_duration().as_secs()).ok()?).ok()
        };
        let validity = certificate.validity();
        Some(Ends {
            subject: certificate.subject().to_string(),
            not_before: at(validity.not_before)?,
            not_after: at(validity.not_after)?,
        })
    });
    ends.min_by_key(|ends| ends.not_after).ok_or_else(|| "holds no certificate".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl req -x509 -newkey ed25519 -nodes -days 30 -subj /CN=aerie-test`; the key was thrown away.
    const PEM: &str = include_str!("test-certificate.pem");

    #[test]
    fn the_first_end_of_a_chain_is_found() {
        let ends = first_to_end(PEM.as_bytes()).unwrap();
        assert!(ends.subject.contains("aerie-test"), "{ends:?}");
        assert_eq!(ends.not_after.duration_since(ends.not_before).as_hours(), 24 * 30);
    }

    #[test]
    fn what_is_no_certificate_is_said_to_be_none() {
        assert!(first_to_end(b"").is_err());
        assert!(first_to_end(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
    }
}
