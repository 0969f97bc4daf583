//! What the ways over HTTP share: an agent that trusts whom it should, and secrets as they are on the disk now.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::tokio_rustls::rustls::crypto::ring;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider};

use super::UplinkError;

/// A picture over a weak mobile link.
const LIMIT: Duration = Duration::from_secs(120);
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// Host and port as they stand in the address.
pub(super) fn host<'a>(key: &'static str, url: &'a str) -> Result<&'a str, UplinkError> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.map(|rest| rest.split('/').next().unwrap_or_default()).filter(|host| !host.is_empty());
    let sound = host.filter(|host| !host.contains(['@', ' ']) && url.parse::<ureq::http::Uri>().is_ok());
    sound.ok_or(UplinkError::Setting { key, why: "must be http://HOST[:PORT] or https://HOST[:PORT]" })
}

pub(super) fn secret(key: &'static str, path: &Path) -> Result<Vec<u8>, UplinkError> {
    let mut secret = std::fs::read(path).map_err(|source| UplinkError::File { key, path: path.to_owned(), source })?;
    while secret.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        secret.pop();
    }
    Ok(secret)
}

pub(super) fn agent(key: &'static str, ca_file: Option<&Path>) -> Result<ureq::Agent, UplinkError> {
    let certificates: Vec<Certificate<'static>> = match ca_file {
        Some(path) => {
            let pem = std::fs::read(path).map_err(|source| UplinkError::File { key, path: path.to_owned(), source })?;
            let items = ureq::tls::parse_pem(&pem);
            items
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect()
        }
        None => rustls_native_certs::load_native_certs()
            .certs
            .iter()
            .map(|der| Certificate::from_der(der.as_ref()).to_owned())
            .collect(),
    };
    if ca_file.is_some() && certificates.is_empty() {
        return Err(UplinkError::Setting { key, why: "holds no certificate in PEM" });
    }
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(certificates)))
        .build();
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(LIMIT))
        .timeout_connect(Some(CONNECT_LIMIT))
        .http_status_as_error(false)
        .max_redirects(0)
        .tls_config(tls)
        .build();
    Ok(config.into())
}
