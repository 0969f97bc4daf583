//! What stands before every request, and goes with every answer.
//!
//! A browser sends what any page tells it to. So: a console for this machine alone answers only to this machine's names
//! (a foreign name that was made to point here is refused), and what changes something needs a header that a foreign
//! page cannot set without asking first, plus the token where one is configured.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::answer::No;
use super::identity::{self, Identity};

const POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; worker-src 'self' blob:; \
                      style-src 'self' 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'";

#[derive(Debug)]
pub struct Guard {
    /// Listening on this machine alone, at this address.
    local: Option<SocketAddr>,
    token_file: Option<PathBuf>,
    /// Who this is; a station whose configuration has faults does not know.
    own: Option<Identity>,
}

impl Guard {
    pub fn new(listen: &str, token_file: Option<PathBuf>) -> Guard {
        let local = listen.parse().ok().filter(|at: &SocketAddr| at.ip().is_loopback());
        Guard { local, token_file, own: None }
    }

    pub fn of_station(self, id: &str, state_dir: &Path) -> Guard {
        Guard { own: Some(Identity::new(id, state_dir)), ..self }
    }

    /// Not the whole request: its body must not be shared between threads.
    async fn admit(&self, method: &Method, headers: &HeaderMap) -> Result<(), No> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        if self.local.is_some() && !host.is_some_and(is_this_machine) {
            let reason =
                format!("this console answers to this machine's names alone, not to {:?}", host.unwrap_or_default());
            return Err(No::new(StatusCode::FORBIDDEN, "host", reason)
                .remedy("open it as http://127.0.0.1:PORT or http://localhost:PORT"));
        }
        let meant = headers.get(identity::HEADER).and_then(|meant| meant.to_str().ok());
        if let Some((own, meant)) = self.own.as_ref().zip(meant)
            && !own.is_meant_by(meant)
        {
            let at = host.unwrap_or_default();
            let reason = format!(
                "another station answers at {at}: station {} with another state_dir or id than the configuration's; nothing was asked of it",
                own.id()
            );
            return Err(No::new(StatusCode::MISDIRECTED_REQUEST, "other_station", reason)
                .remedy("start the station of this configuration, with a console.listen of its own"));
        }
        if matches!(*method, Method::GET | Method::HEAD) {
            return Ok(());
        }
        if headers.get("x-aerie-console").is_none_or(|value| value != "1") {
            let no = No::new(StatusCode::FORBIDDEN, "forbidden", "the header X-Aerie-Console: 1 is missing");
            return Err(no.remedy("use the page or `aerie patrol`"));
        }
        let Some(file) = &self.token_file else {
            return Ok(());
        };
        // Read anew each time, so that a changed token needs no restart.
        let token = tokio::fs::read_to_string(file).await.map_err(|error| {
            let reason = format!("console.token_file: {} cannot be read: {error}", file.display());
            No::new(StatusCode::SERVICE_UNAVAILABLE, "token", reason)
        })?;
        let token = token.trim();
        if token.is_empty() {
            let reason = format!("console.token_file: {} is empty", file.display());
            return Err(No::new(StatusCode::SERVICE_UNAVAILABLE, "token", reason).remedy("put a token into it"));
        }
        if bearer(headers).is_some_and(|given| same(given, token.as_bytes())) {
            return Ok(());
        }
        let no = No::new(StatusCode::UNAUTHORIZED, "unauthorised", "the token is missing or not the right one");
        Err(no.remedy("give the content of the file that console.token_file names"))
    }
}

/// The middleware.
pub async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let is_api = request.uri().path().starts_with("/api/");
    let (method, sent) = (request.method().clone(), request.headers().clone());
    let mut response = match guard.admit(&method, &sent).await {
        Ok(()) => next.run(request).await,
        Err(no) => no.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if is_api && !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// Whether a `Host` header names this machine. The port is left alone: a tunnel may have moved it.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Equal, in a time that tells nothing of where two differ: their digests are compared, all of them.
fn same(given: &[u8], wanted: &[u8]) -> bool {
    let (given, wanted) = (Sha256::digest(given), Sha256::digest(wanted));
    given.iter().zip(wanted.iter()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_names() {
        for host in ["localhost", "LOCALHOST:8480", "127.0.0.1", "127.0.0.1:9000", "127.8.8.8", "[::1]", "[::1]:8480"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["", "example.com", "localhost.example.com", "127.0.0.1.example.com:8480", "192.168.1.4", "[::2]:1"]
        {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn a_token_is_taken_whole_or_not_at_all() {
        let mut headers = HeaderMap::new();
        assert_eq!(bearer(&headers), None);
        for (value, token) in [
            ("Bearer secret", Some("secret")),
            ("bearer  secret ", Some("secret")),
            ("Basic secret", None),
            ("Bear", None),
        ] {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            assert_eq!(bearer(&headers), token.map(str::as_bytes), "{value}");
        }
        assert!(same(b"secret", b"secret"));
        assert!(!same(b"secre", b"secret") && !same(b"", b"secret"));
    }
}
