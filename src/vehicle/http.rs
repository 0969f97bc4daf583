//! Small HTTP questions to devices on the station's own network.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::runtime::secrets;

/// Why a device gave no answer. Addresses stand here without their passwords.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("{key} = {url:?} is not an address; write http://host:port, without ? and #")]
    Url { key: &'static str, url: String },
    #[error("{url} gave no answer; check {key}, the device's power and the network")]
    NoAnswer {
        key: &'static str,
        url: String,
        #[source]
        source: Box<ureq::Error>,
    },
    #[error("{url} answered with status {status}; check the address in {key} and the device's own manual")]
    Status { key: &'static str, url: String, status: u16 },
    #[error(
        "{url} answered in another form than its driver reads ({reason}); check that {key} leads to the right device"
    )]
    Form { key: &'static str, url: String, reason: String },
    #[error("the request to {url} was given up: aerie is stopping")]
    Stopping { url: String },
}

impl HttpError {
    /// Whether the device may have got the request, and done what it asks.
    pub(super) fn may_have_acted(&self) -> bool {
        match self {
            HttpError::NoAnswer { source, .. } => match &**source {
                ureq::Error::Io(error) => error.kind() != std::io::ErrorKind::ConnectionRefused,
                ureq::Error::Timeout(_) | ureq::Error::Protocol(_) => true,
                _ => false,
            },
            HttpError::Stopping { .. } => true,
            HttpError::Url { .. } | HttpError::Status { .. } | HttpError::Form { .. } => false,
        }
    }

    /// Whether the device answered that it knows no such path.
    pub(super) fn is_unknown_path(&self) -> bool {
        matches!(self, HttpError::Status { status: 404 | 405 | 501, .. })
    }
}

/// A device that is asked. Nothing here takes longer than two seconds.
#[derive(Debug, Clone)]
pub(super) struct Base {
    key: &'static str,
    url: String,
    agent: ureq::Agent,
}

impl Base {
    pub fn parse(key: &'static str, url: &str) -> Result<Base, HttpError> {
        let url = url.trim_end_matches('/');
        let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let valid = host.is_some_and(|host| !host.is_empty() && !host.contains(char::is_whitespace))
            && !url.contains(['?', '#'])
            && url.parse::<ureq::http::Uri>().is_ok();
        if !valid {
            return Err(HttpError::Url { key, url: secrets::urls_without(url) });
        }
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(2)))
            // Devices of the station stand beside it: a proxy of the surroundings has no business here.
            .proxy(None)
            .build();
        Ok(Base { key, url: url.to_owned(), agent: config.into() })
    }

    pub async fn get<T: DeserializeOwned + Send + 'static>(&self, path: &str) -> Result<T, HttpError> {
        self.ask(path, |agent, url| agent.get(url).call()?.body_mut().read_json()).await
    }

    pub async fn post(&self, path: &str) -> Result<(), HttpError> {
        self.ask(path, |agent, url| agent.post(url).send_empty().map(drop)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        path: &str,
        question: impl FnOnce(&ureq::Agent, &str) -> Result<T, ureq::Error> + Send + 'static,
    ) -> Result<T, HttpError> {
        let url = format!("{}{path}", self.url);
        let (agent, asked) = (self.agent.clone(), url);
        let url = secrets::urls_without(&asked);
        match tokio::task::spawn_blocking(move || question(&agent, &asked)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(ureq::Error::StatusCode(status))) => Err(HttpError::Status { key: self.key, url, status }),
            Ok(Err(ureq::Error::Json(error))) => Err(HttpError::Form { key: self.key, url, reason: error.to_string() }),
            Ok(Err(source)) => Err(HttpError::NoAnswer { key: self.key, url, source: Box::new(source) }),
            Err(_) => Err(HttpError::Stopping { url }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_names_its_key() {
        assert!(Base::parse("dock.url", "http://127.0.0.1:8100/").is_ok());
        for url in ["127.0.0.1:80", "ftp://dock", "http://", "http://a b", "http://a/?x=1"] {
            let error = Base::parse("dock.url", url).unwrap_err().to_string();
            assert!(error.contains("dock.url"), "{error}");
        }
    }

    /// Answers one question so.
    fn answering(answer: &'static str) -> Base {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 2048]);
            let _ = stream.write_all(answer.as_bytes());
        });
        Base::parse("dock.url", &url).unwrap()
    }

    #[tokio::test]
    async fn what_answers_in_another_form_is_told_apart_from_what_is_silent() {
        let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>";
        let form = answering(page).get::<serde_json::Value>("/dock").await.unwrap_err();
        assert!(matches!(form, HttpError::Form { .. }), "{form}");
        assert!(form.to_string().contains("leads to the right device"), "{form}");
        let none = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let unknown = answering(none).post("/dock/stop").await.unwrap_err();
        assert!(unknown.is_unknown_path() && !unknown.may_have_acted(), "{unknown}");
        let silent = Base::parse("dock.url", "http://127.0.0.1:9").unwrap().post("/dock/stop").await.unwrap_err();
        assert!(matches!(silent, HttpError::NoAnswer { .. }) && !silent.is_unknown_path(), "{silent}");
    }

    #[tokio::test]
    async fn no_message_holds_the_password_of_an_address() {
        let base = Base::parse("dock.url", "http://keeper:hunter22@127.0.0.1:9").unwrap();
        let silent = base.post("/dock/open").await.unwrap_err();
        let refused = Base::parse("dock.url", "ftp://keeper:hunter22@dock").unwrap_err();
        for error in [silent, refused] {
            let text = format!("{}; {error:?}", crate::runtime::told(&error));
            assert!(text.contains("dock.url") && !text.contains("hunter22"), "{text}");
        }
    }
}
