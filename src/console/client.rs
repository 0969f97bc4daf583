//! The other side of the console: how the command line asks a station.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::identity::{self, Identity};

/// Where a console is unless told otherwise.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8480";
/// A start waits for the gates, and a command stays good for a minute.
const LIMIT: Duration = Duration::from_secs(75);
/// A look waits for nothing: what is silent for so long is no station, or a stuck one.
const LOOK_LIMIT: Duration = Duration::from_secs(15);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no station answers at {url}; start it with `aerie run --config FILE`, or name it with --url or --config")]
    Unreachable {
        url: String,
        #[source]
        source: Box<ureq::Error>,
    },
    #[error(
        "{url} is not an address of a console; write http://HOST:PORT (for TLS go through a reverse proxy or a tunnel)"
    )]
    Url { url: String },
    #[error("{error}: {reason}{}", remedy.as_ref().map(|r| format!("; {r}")).unwrap_or_default())]
    Refused { error: String, reason: String, remedy: Option<String> },
    #[error("the station wants a token; give it with --token-file, in AERIE_TOKEN, or name the station's --config")]
    TokenWanted,
    #[error("{url} answered HTTP {status} and not as a station does; is it the console's address?")]
    Strange { url: String, status: u16 },
    #[error("{key}: {} cannot be read", path.display())]
    File {
        key: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}: {why}", path.display())]
    Config { path: PathBuf, why: String },
}

/// One station's console.
pub struct Client {
    agent: ureq::Agent,
    url: String,
    token: Option<String>,
    operator: String,
    /// Whose console it must be; another's does nothing and says so.
    station: Option<Identity>,
    look_limit: Duration,
}

/// What a configuration says of its console.
#[derive(Debug, PartialEq)]
pub struct Named {
    pub url: String,
    pub token: Option<String>,
    pub station: Option<Identity>,
}

impl Client {
    pub fn new(url: &str, token: Option<String>, operator: String) -> Result<Client, ClientError> {
        let url = url.trim_end_matches('/').to_owned();
        let host = url.strip_prefix("http://");
        if host.is_none_or(str::is_empty) || url.parse::<ureq::http::Uri>().is_err() {
            return Err(ClientError::Url { url });
        }
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(LIMIT))
            .timeout_connect(Some(CONNECT_LIMIT))
            .http_status_as_error(false)
            // A station is asked directly: a proxy of the surroundings has no business with its token.
            .proxy(None)
            .build();
        Ok(Client { agent: config.into(), url, token, operator, station: None, look_limit: LOOK_LIMIT })
    }

    /// Asks nothing of any other station: two on one machine may have come to want the same port.
    pub fn of_station(mut self, station: Option<Identity>) -> Client {
        self.station = station;
        self
    }

    fn named<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.station {
            Some(station) => request.header(identity::HEADER, station.to_header()),
            None => request,
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// `path` below `/api/v1/`.
    pub fn get(&self, path: &str) -> Result<Value, ClientError> {
        let url = format!("{}/api/v1/{path}", self.url);
        let request = self.named(self.agent.get(&url)).header("Accept", "application/json");
        let request = request.config().timeout_global(Some(self.look_limit)).build();
        self.answer(&url, request.call())
    }

    pub fn post(&self, path: &str) -> Result<Value, ClientError> {
        let url = format!("{}/api/v1/{path}", self.url);
        let mut request =
            self.named(self.agent.post(&url)).header("X-Aerie-Console", "1").header("X-Aerie-Origin", "cli");
        if let Ok(operator) = ureq::http::HeaderValue::from_bytes(self.operator.as_bytes()) {
            request = request.header("X-Aerie-Operator", operator);
        }
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        self.answer(&url, request.send_empty())
    }

    fn answer(
        &self,
        url: &str,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Value, ClientError> {
        let mut answer =
            answer.map_err(|source| ClientError::Unreachable { url: self.url.clone(), source: Box::new(source) })?;
        let status = answer.status();
        let strange = || ClientError::Strange { url: url.to_owned(), status: status.as_u16() };
        if status.as_u16() == 401 {
            return Err(ClientError::TokenWanted);
        }
        let body: Value = answer.body_mut().read_json().map_err(|_| strange())?;
        if status.is_success() {
            return Ok(body);
        }
        let text = |key: &str| body[key].as_str().map(str::to_owned);
        match text("error") {
            Some(error) => {
                Err(ClientError::Refused { error, reason: text("reason").unwrap_or_default(), remedy: text("remedy") })
            }
            None => Err(strange()),
        }
    }
}

/// Where the console of a configuration is, its token, and whose it is. The configuration may have faults: its page runs all
/// the same.
pub fn from_config(path: &Path) -> Result<Named, ClientError> {
    let text = std::fs::read_to_string(path).map_err(|source| ClientError::File {
        key: "--config",
        path: path.to_owned(),
        source,
    })?;
    let value: toml::Value = toml::from_str(&text).map_err(|error| ClientError::Config {
        path: path.to_owned(),
        why: format!("not TOML, {}; name the station by --url instead, or mend the file", one_line(&error)),
    })?;
    let console = value.get("console");
    let text = |key: &str| console.and_then(|c| c.get(key)).and_then(toml::Value::as_str);
    let url = match text("listen") {
        None => DEFAULT_URL.to_owned(),
        Some(listen) => url_of(listen).ok_or_else(|| ClientError::Config {
            path: path.to_owned(),
            why: format!("console.listen: {listen:?} is not an address and port, write for example \"127.0.0.1:8480\""),
        })?,
    };
    let token = match text("token_file") {
        None => None,
        Some(file) => Some(read_token("console.token_file", &path.parent().unwrap_or(Path::new("")).join(file))?),
    };
    let of_station = |key: &str| value.get("station").and_then(|s| s.get(key)).and_then(toml::Value::as_str);
    let state_dir = of_station("state_dir").map_or_else(crate::config::default_state_dir, PathBuf::from);
    let state_dir = path.parent().unwrap_or(Path::new("")).join(state_dir);
    let station = of_station("id").map(|id| Identity::new(id, &state_dir));
    Ok(Named { url, token, station })
}

/// Where the fault is and what it is, without the picture of the line.
fn one_line(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let place = text.lines().next().unwrap_or_default();
    format!("{}: {}", place.trim_start_matches("TOML parse error ").trim(), error.message())
}

pub fn read_token(key: &'static str, path: &Path) -> Result<String, ClientError> {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(|source| ClientError::File {
        key,
        path: path.to_owned(),
        source,
    })
}

/// An address to listen at, as one to ask: "everywhere" is asked on this machine.
fn url_of(listen: &str) -> Option<String> {
    let mut at: std::net::SocketAddr = listen.parse().ok()?;
    if at.ip().is_unspecified() {
        let here: std::net::IpAddr =
            if at.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        at.set_ip(here);
    }
    Some(format!("http://{at}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_of_a_configuration_is_found_with_its_token() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("station.toml");
        std::fs::write(dir.path().join("token"), "secret\n").unwrap();
        let found = |text: &str| {
            std::fs::write(&file, text).unwrap();
            from_config(&file)
        };
        let none = found("[station]\nnonsense = 3").unwrap();
        assert_eq!(none, Named { url: DEFAULT_URL.to_owned(), token: None, station: None });
        let all = "[station]\nid = \"north-2\"\n[console]\nlisten = \"0.0.0.0:9000\"\ntoken_file = \"token\"";
        let all = found(all).unwrap();
        let text = |text: &str| Some(text.to_owned());
        let url = "http://127.0.0.1:9000".to_owned();
        assert_eq!(
            all,
            Named { url, token: text("secret"), station: Some(Identity::new("north-2", Path::new("/var/lib/aerie"))) }
        );
        let v6 = found("[console]\nlisten = \"[::]:9000\"").unwrap();
        assert_eq!(v6.url, "http://[::1]:9000");
        let error = found("[console]\nlisten = \"here\"").unwrap_err().to_string();
        assert!(error.contains("station.toml") && error.contains("console.listen"), "{error}");
        let error = found("[station]\nid = \"s\n").unwrap_err().to_string();
        assert!(error.contains("at line 2, column") && error.contains("--url"), "{error}");
        let error = found("[console]\ntoken_file = \"gone\"").unwrap_err().to_string();
        assert!(error.contains("console.token_file") && error.contains("gone"), "{error}");
    }

    #[test]
    fn a_look_at_a_silent_listener_is_given_up() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let mut client = Client::new(&url, None, String::new()).unwrap();
        assert!(client.look_limit < LIMIT);
        client.look_limit = Duration::from_millis(50);
        let begun = std::time::Instant::now();
        let error = client.get("status").unwrap_err();
        assert!(begun.elapsed() < LIMIT, "given up by the limit of an order, not of a look");
        let ClientError::Unreachable { source, .. } = &error else { panic!("{error:?}") };
        assert!(matches!(**source, ureq::Error::Timeout(ureq::Timeout::Global)), "{source:?}");
        assert!(error.to_string().contains(&url), "{error}");
    }

    #[test]
    fn an_address_that_is_none_says_what_to_write() {
        for url in ["127.0.0.1:8480", "https://station", "http://", "http://a b"] {
            let error = Client::new(url, None, String::new()).err().map(|e| e.to_string());
            assert!(error.is_some_and(|e| e.contains("http://HOST:PORT")), "{url}");
        }
        assert_eq!(Client::new("http://[::1]:1/", None, String::new()).unwrap().url(), "http://[::1]:1");
    }
}
