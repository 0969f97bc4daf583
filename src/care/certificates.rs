//! How long the certificates that the configuration names stay good.

use std::path::Path;

use jiff::Timestamp;
use ureq::tls::PemItem;
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

/// Whether a private key is that of the first certificate of a chain; where this cannot be told, as if it were.
pub fn belongs(cert: &Path, key: &Path) -> Result<(), String> {
    let pem = std::fs::read(cert).map_err(|error| format!("cannot be compared: {}: {error}", cert.display()))?;
    let Ok(chain) = Certificate::load_pem_chain(&pem) else { return Ok(()) };
    let Some(first) = chain.first() else { return Ok(()) };
    let stated = first.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes();
    let pem = std::fs::read(key).map_err(|error| format!("cannot be read: {error}"))?;
    let private = ureq::tls::parse_pem(&pem).find_map(|item| match item {
        Ok(PemItem::PrivateKey(key)) => Some(key),
        _ => None,
    });
    let Some(private) = private else { return Err("holds no private key in PEM".to_owned()) };
    match public_of(private.der()) {
        Some(public) if public != stated => Err(format!("is not the key of {}", cert.display())),
        _ => Ok(()),
    }
}

/// The public half of a PKCS #8 key of a kind that TLS uses here.
fn public_of(der: &[u8]) -> Option<Vec<u8>> {
    use ring::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    };
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        return Some(pair.public_key().as_ref().to_vec());
    }
    if let Ok(pair) = ring::rsa::KeyPair::from_pkcs8(der) {
        return Some(pair.public_key().as_ref().to_vec());
    }
    let random = ring::rand::SystemRandom::new();
    [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING]
        .into_iter()
        .find_map(|kind| EcdsaKeyPair::from_pkcs8(kind, der, &random).ok())
        .map(|pair| pair.public_key().as_ref().to_vec())
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
    fn a_key_that_is_not_that_of_the_certificate_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let make = |kind: &[&str], name: &str| {
            let (key, cert) = (dir.path().join(format!("{name}.key")), dir.path().join(format!("{name}.pem")));
            let made = std::process::Command::new("openssl")
                .args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=a", "-newkey"])
                .args(kind)
                .arg("-keyout")
                .arg(&key)
                .arg("-out")
                .arg(&cert)
                .output()
                .unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            (cert, key)
        };
        let pairs = [
            make(&["ed25519"], "ed"),
            make(&["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"], "p256"),
            make(&["rsa:2048"], "rsa"),
        ];
        for (n, (cert, _)) in pairs.iter().enumerate() {
            for (m, (_, key)) in pairs.iter().enumerate() {
                assert_eq!(belongs(cert, key).is_ok(), n == m, "{} {}", cert.display(), key.display());
            }
        }
        std::fs::write(&pairs[0].1, "garbage").unwrap();
        assert!(belongs(&pairs[0].0, &pairs[0].1).unwrap_err().contains("no private key"));
    }

    #[test]
    fn what_is_no_certificate_is_said_to_be_none() {
        assert!(first_to_end(b"").is_err());
        assert!(first_to_end(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
    }
}
