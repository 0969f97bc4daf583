//! One connection: how the MQTT library is set up, and the task that polls it. The only other place that knows the
//! library is [`super::session`].

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use rumqttc::{
    AckMode, AsyncClient, ConnectReturnCode, ConnectionError, DisconnectReasonCode, Event, EventLoop, LastWill,
    MqttOptions, NetworkOptions, Packet, PersistedAckMode, PersistedSession, Publish, QoS, SessionStore,
    SessionStoreError, SessionStoreKey, StateError, Transport,
};
use tokio::sync::{mpsc, oneshot};

use super::{Config, UplinkError, prefix};
use crate::runtime::secrets;

/// Messages the broker may send ahead of our acknowledgements, and the room we keep for them.
pub(super) const RECEIVE_MAXIMUM: u16 = 16;
/// The largest packet we let the broker send. Commands are limited to 64 KiB further on.
const MAX_INCOMING_BYTES: u32 = 256 * 1024;
/// Detects a half-open connection within about twice this.
const KEEP_ALIVE_S: u16 = 30;
/// TCP, TLS and CONNACK together; generous, for a mobile link that is waking up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Host, port and whether TLS is wanted.
#[derive(Debug, PartialEq, Eq)]
struct Endpoint<'a> {
    host: &'a str,
    port: u16,
    tls: bool,
}

fn endpoint(url: &str) -> Result<Endpoint<'_>, UplinkError> {
    let fault = |why| UplinkError::Url { url: secrets::urls_without(url), why };
    let (scheme, rest) = url.split_once("://").ok_or_else(|| fault("a scheme is missing"))?;
    let (tls, default_port) = match scheme {
        "mqtt" => (false, 1883),
        "mqtts" => (true, 8883),
        _ => return Err(fault("the scheme is neither mqtt nor mqtts")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return Err(fault("credentials do not belong here, use username and password_file"));
    }
    // An IPv6 address stands in brackets, so that its colons are not taken for the port's.
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or_else(|| fault("a closing ] is missing"))?,
        None => rest.find(':').map_or((rest, ""), |colon| rest.split_at(colon)),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(|| fault("the port is not 1 to 65535"))?,
        None if port.is_empty() => default_port,
        None => return Err(fault("there is something between the host and the port")),
    };
    if host.is_empty() || host.contains(['/', '?', '#', ' ']) {
        return Err(fault("the host is missing or has a path after it"));
    }
    Ok(Endpoint { host, port, tls })
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, UplinkError> {
    std::fs::read(path).map_err(|source| UplinkError::File { key, path: path.to_owned(), source })
}

/// Address, encryption and credentials, with the secrets as they are on disk now.
fn way_in(config: &Config, client: &str) -> Result<MqttOptions, UplinkError> {
    let endpoint = endpoint(&config.url)?;
    if config.in_flight == 0 {
        return Err(UplinkError::Setting { key: "in_flight", why: "must be at least 1" });
    }
    let mut options = MqttOptions::new(client, (endpoint.host, endpoint.port));
    options.set_transport(transport(config, endpoint.tls)?);
    match (&config.username, &config.password_file) {
        (Some(username), Some(path)) => {
            let mut password = read("password_file", path)?;
            while password.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                password.pop();
            }
            options.set_credentials(username.clone(), password);
        }
        (Some(username), None) => {
            options.set_username(username.clone());
        }
        (None, Some(_)) => {
            return Err(UplinkError::Setting { key: "password_file", why: "needs uplink.username" });
        }
        (None, None) => {}
    }
    options.set_keep_alive(KEEP_ALIVE_S).set_connect_timeout(CONNECT_TIMEOUT);
    Ok(options)
}

/// Connects as nobody's session, under a name of its own so that a running station is not thrown out, and hangs up.
pub(super) async fn probe(config: &Config, station: &str) -> Result<(), Ended> {
    let mut options = way_in(config, &format!("{station}-doctor")).map_err(|error| describe(&error))?;
    options.set_clean_start(true);
    let (client, mut eventloop) = open(options, 1)?;
    loop {
        match eventloop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => break,
            Ok(_) => {}
            Err(error) => return Err(Ended::by(&error)),
        }
    }
    // Said so that the broker does not log a broken connection; if it is not, nothing is lost.
    if client.disconnect().await.is_ok() {
        let _ = eventloop.poll().await;
    }
    Ok(())
}

/// Everything about a station's connection.
pub(super) fn options(config: &Config, station: &str, window: u16) -> Result<MqttOptions, UplinkError> {
    let mut options = way_in(config, station)?;
    options
        .set_clean_start(false)
        .set_session_expiry_interval(Some(config.session_expiry_s))
        .set_receive_maximum(Some(RECEIVE_MAXIMUM))
        .set_max_packet_size(Some(MAX_INCOMING_BYTES))
        .set_ack_mode(AckMode::Manual)
        .set_outgoing_inflight_upper_limit(window)
        // Whatever is ready goes out in one write.
        .set_max_request_batch(usize::from(window))
        .set_session_store(NothingUnfinished { expiry: config.session_expiry_s, window })
        .set_last_will(LastWill::new(
            format!("{}status", prefix(station)),
            r#"{"state":"offline","reason":"connection lost"}"#,
            QoS::AtLeastOnce,
            true,
            None,
        ));
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    Ok(options)
}

fn transport(config: &Config, tls: bool) -> Result<Transport, UplinkError> {
    if !tls {
        for (key, set) in [("ca_file", &config.ca_file), ("client_cert_file", &config.client_cert_file)] {
            if set.is_some() {
                return Err(UplinkError::Setting {
                    key,
                    why: "has no meaning without TLS; write mqtts:// in uplink.url",
                });
            }
        }
        return Ok(Transport::tcp());
    }
    let client = match (&config.client_cert_file, &config.client_key_file) {
        (Some(cert), Some(key)) => Some((read("client_cert_file", cert)?, read("client_key_file", key)?)),
        (None, None) => None,
        (Some(_), None) => {
            return Err(UplinkError::Setting { key: "client_cert_file", why: "needs client_key_file" });
        }
        (None, Some(_)) => {
            return Err(UplinkError::Setting { key: "client_key_file", why: "needs client_cert_file" });
        }
    };
    match &config.ca_file {
        Some(path) => Ok(Transport::tls(read("ca_file", path)?, client, None)),
        None if client.is_some() => Err(UplinkError::Setting { key: "client_cert_file", why: "needs ca_file" }),
        None => Transport::try_tls_with_default_config().map_err(UplinkError::NoAuthorities),
    }
}

/// Tells the library, which keeps no state over our reconnects, that it may resume the broker's session.
///
/// What the broker holds of a session are our subscriptions and the commands that wait for us. Of what we send it
/// holds nothing, because we publish with QoS 1 only; so "nothing unfinished" is the truth as far as MQTT is
/// concerned, and what is unfinished for us stands in the outbox.
#[derive(Debug)]
struct NothingUnfinished {
    expiry: u32,
    window: u16,
}

/// What the library's trait wants; it does not export its own name for it.
type Stored<'a, T> = Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;

impl SessionStore for NothingUnfinished {
    fn load<'a>(&'a self, key: &'a SessionStoreKey) -> Stored<'a, Option<PersistedSession>> {
        let session = PersistedSession {
            format_version: 1,
            client_id: key.client_id().to_owned(),
            clean_start: false,
            session_expiry_interval: Some(self.expiry),
            outgoing_inflight_upper_limit: Some(self.window),
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        };
        Box::pin(std::future::ready(Ok(Some(session))))
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> Stored<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> Stored<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// What the broker said when it took the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Welcome {
    pub session_present: bool,
    pub max_packet_bytes: Option<u64>,
    /// Publishes with QoS 1 that it takes ahead of its acknowledgements.
    pub receive_max: u16,
    pub retains: bool,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub why: String,
    /// Asking again at once cannot help: somebody has to change something.
    pub refused: bool,
    /// It does not know us: name and password, or the certificate, are not the ones it has.
    pub stranger: bool,
}

impl From<String> for Ended {
    fn from(why: String) -> Self {
        Self { why, refused: false, stranger: false }
    }
}

/// Polls the library until the connection ends, and says why. Publishes nothing and waits for nobody but the
/// network, so that it can never stand in its own way.
pub(super) async fn poll(
    mut eventloop: EventLoop,
    welcome: oneshot::Sender<Welcome>,
    inbox: mpsc::Sender<Publish>,
) -> Ended {
    let mut welcome = Some(welcome);
    loop {
        match eventloop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(ack))) => {
                // It was there for the resumption alone: from now on it would copy all that is in flight at each write.
                eventloop.options.clear_session_store();
                if let Some(welcome) = welcome.take() {
                    let told = ack.properties.as_ref();
                    let _ = welcome.send(Welcome {
                        session_present: ack.session_present,
                        max_packet_bytes: told.and_then(|told| told.max_packet_size).map(u64::from),
                        receive_max: told.and_then(|told| told.receive_max).unwrap_or(u16::MAX),
                        retains: told.and_then(|told| told.retain_available) != Some(0),
                    });
                }
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let qos = publish.qos;
                // Room for the receive maximum: only QoS 0, which promises nothing, can find it full.
                if inbox.try_send(publish).is_err() {
                    tracing::warn!(
                        ?qos,
                        "an incoming message was dropped: more at once than MQTT allows, or QoS 0 in a flood"
                    );
                }
            }
            Ok(_) => {}
            Err(error) => return Ended::by(&error),
        }
    }
}

impl Ended {
    fn by(error: &ConnectionError) -> Ended {
        Ended { why: describe(error), refused: is_refusal(error), stranger: is_stranger(error) }
    }
}

fn is_stranger(error: &ConnectionError) -> bool {
    use ConnectReturnCode::{BadAuthenticationMethod, BadUserNamePassword, NotAuthorized};
    match error {
        ConnectionError::ConnectionRefused(reason) | ConnectionError::MqttState(StateError::ConnFail { reason }) => {
            matches!(reason, BadAuthenticationMethod | BadUserNamePassword | NotAuthorized)
        }
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
            matches!(reason_code, DisconnectReasonCode::NotAuthorized)
        }
        _ => false,
    }
}

/// Whether the broker said no to us, rather than that the way to it is broken.
fn is_refusal(error: &ConnectionError) -> bool {
    use ConnectReturnCode::{
        BadAuthenticationMethod, BadClientId, BadUserNamePassword, Banned, ClientIdentifierNotValid, NotAuthorized,
        QuotaExceeded, ServerMoved, UnsupportedProtocolVersion, UseAnotherServer,
    };
    let code = |code: &ConnectReturnCode| {
        matches!(
            code,
            BadAuthenticationMethod
                | BadClientId
                | BadUserNamePassword
                | Banned
                | ClientIdentifierNotValid
                | NotAuthorized
                | QuotaExceeded
                | ServerMoved
                | UnsupportedProtocolVersion
                | UseAnotherServer
        )
    };
    match error {
        ConnectionError::ConnectionRefused(reason) | ConnectionError::MqttState(StateError::ConnFail { reason }) => {
            code(reason)
        }
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => matches!(
            reason_code,
            // Another client has our name: each would throw the other out for ever.
            DisconnectReasonCode::SessionTakenOver
                | DisconnectReasonCode::NotAuthorized
                | DisconnectReasonCode::QuotaExceeded
                | DisconnectReasonCode::AdministrativeAction
        ),
        _ => false,
    }
}

/// When the files with certificates and secrets were last written: another stamp, other secrets.
pub(super) fn stamp(config: &Config) -> Vec<Option<std::time::SystemTime>> {
    [&config.password_file, &config.ca_file, &config.client_cert_file, &config.client_key_file]
        .into_iter()
        .map(|file| std::fs::metadata(file.as_ref()?).ok()?.modified().ok())
        .collect()
}

/// The whole chain on one line: the library nests the reason that matters.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

/// Sets up a connection; nothing is sent before it is polled. `capacity` is the room for requests.
pub(super) fn open(options: MqttOptions, capacity: usize) -> Result<(AsyncClient, EventLoop), String> {
    AsyncClient::builder(options).capacity(capacity).try_build().map_err(|error| describe(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_password_is_told_from_a_broker_that_is_not_reached() {
        let by = |code| Ended::by(&ConnectionError::ConnectionRefused(code));
        for code in [ConnectReturnCode::NotAuthorized, ConnectReturnCode::BadUserNamePassword] {
            assert!(by(code).stranger && by(code).refused);
        }
        assert!(!by(ConnectReturnCode::ServerUnavailable).stranger);
        assert!(!Ended::by(&ConnectionError::RequestsDone).stranger);
    }

    #[test]
    fn a_url_names_host_port_and_whether_tls_is_wanted() {
        let read = |url| endpoint(url).map(|e| (e.host.to_owned(), e.port, e.tls)).ok();
        assert_eq!(read("mqtt://broker"), Some(("broker".into(), 1883, false)));
        assert_eq!(read("mqtts://broker.example/"), Some(("broker.example".into(), 8883, true)));
        assert_eq!(read("mqtt://127.0.0.1:21883"), Some(("127.0.0.1".into(), 21883, false)));
        assert_eq!(read("mqtt://[::1]:1884"), Some(("::1".into(), 1884, false)));
        for bad in [
            "broker:1883",
            "http://broker",
            "mqtt://",
            "mqtt://broker:0",
            "mqtt://broker:99999",
            "mqtt://a@b",
            "mqtt://b/path",
            "mqtt://[::1",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let mut config = Config::new("mqtts://broker");
        config.client_cert_file = Some("cert.pem".into());
        assert!(config.check().unwrap_err().to_string().contains("uplink.client_cert_file needs client_key_file"));

        let mut config = Config::new("mqtt://broker");
        config.ca_file = Some("ca.pem".into());
        assert!(config.check().unwrap_err().to_string().contains("uplink.ca_file has no meaning without TLS"));

        let mut config = Config::new("mqtts://broker");
        config.ca_file = Some("/nowhere/ca.pem".into());
        assert!(config.check().unwrap_err().to_string().contains("/nowhere/ca.pem"));
    }
}
