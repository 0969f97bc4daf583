//! The ways up beside MQTT: pictures into an object store, everything to a webhook.

use std::sync::{Arc, Mutex};

use aerie::outbox::{Class, Outbox, Payload};
use aerie::uplink;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::any;
use sha2::{Digest, Sha256};

use crate::certificates::{certificates, tls_before};
use crate::support::*;

#[derive(Clone)]
struct Heard {
    path: String,
    headers: HeaderMap,
    body: Bytes,
    answered: StatusCode,
}

impl Heard {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

/// A server that writes everything down and answers as it is told: (what it heard so far, this one) to a code.
struct Server {
    port: u16,
    heard: Arc<Mutex<Vec<Heard>>>,
    task: tokio::task::JoinHandle<()>,
}

type Answer = fn(&[Heard], &HeaderMap) -> StatusCode;

impl Server {
    async fn start(answer: Answer) -> Self {
        type Shared = (Arc<Mutex<Vec<Heard>>>, Answer);
        async fn hear(State((heard, answer)): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> StatusCode {
            let mut heard = heard.lock().unwrap();
            let answered = answer(&heard, &headers);
            heard.push(Heard { path: uri.path().to_owned(), headers, body, answered });
            answered
        }
        let heard = Arc::new(Mutex::new(Vec::new()));
        let router = Router::new().fallback(any(hear)).with_state((Arc::clone(&heard), answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port, heard, task }
    }

    fn taken(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().iter().filter(|one| one.answered.is_success()).cloned().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn pictures_go_into_the_object_store_and_cases_over_mqtt_and_a_store_that_is_down_holds_up_nobody() {
    let server = Server::start(|heard, _| match heard.len() {
        0 => StatusCode::FORBIDDEN,
        1 => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    })
    .await;
    let broker = Broker::start("").await;
    let subscriber = Subscriber::start(&broker, "aerie/v1/s1/#").await;
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "a secret\n").unwrap();
    let outbox = Outbox::open(dir.path().join("state")).unwrap();
    let digest = outbox.store_picture(&[7; 9_000]).await.unwrap();
    let mut picture = note(&format!("evidence/{digest}"), Class::Evidence, "", 0);
    picture.payload = Payload::File(digest.clone());
    outbox.accept(vec![picture, case_record("c1", 1)]).await.unwrap();
    let mut config = uplink::Config::new(broker.url());
    config.objects = Some(uplink::objects::Config {
        endpoint: format!("http://127.0.0.1:{}", server.port),
        bucket: "evidence".into(),
        region: "cn-south".into(),
        prefix: "s1/".into(),
        access_key_id: "aerie".into(),
        secret_key_file: secret,
        ca_file: None,
    });
    config.check().unwrap();
    let station = Station::start_with(config, &outbox);
    eventually("the case", || async { subscriber.event_ids() == ["c1/1"] }).await;
    // The second refusal is this picture's alone, and asks for some seconds of patience.
    queued(&outbox, 0).await;
    let put = server.taken().remove(0);
    assert_eq!(put.path, format!("/evidence/s1/{digest}.jpg"));
    assert_eq!(hex::encode(Sha256::digest(&put.body)), digest);
    assert_eq!(put.header("x-amz-content-sha256"), digest);
    assert!(put.header("authorization").starts_with("AWS4-HMAC-SHA256 Credential=aerie/"));
    assert!(put.header("authorization").contains("/cn-south/s3/aws4_request"));
    assert!(subscriber.all().iter().all(|one| !one.topic.contains("/evidence/") && !one.topic.contains("/test/")));
    station.stop().await;
}

#[tokio::test]
async fn a_webhook_gets_everything_signed_and_in_order_and_what_it_refuses_for_good_is_reported() {
    // The second event of the first case is refused once, another record for good.
    let server = Server::start(|heard, headers| {
        let id = headers["x-aerie-id"].to_str().unwrap();
        match id {
            "poison" => StatusCode::UNPROCESSABLE_ENTITY,
            "c1/2" if heard.iter().all(|one| one.header("x-aerie-id") != "c1/2") => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::NO_CONTENT,
        }
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "a secret\n").unwrap();
    let outbox = Outbox::open(dir.path().join("state")).unwrap();
    let mut records: Vec<_> = (1..=3).flat_map(|n| [case_record("c1", n), case_record("c2", n)]).collect();
    records.push(note("poison", Class::Sortie, "s", 10));
    outbox.accept(records).await.unwrap();
    let mut config = uplink::Config::new(format!("http://127.0.0.1:{}/aerie", server.port));
    assert!(config.check().unwrap_err().to_string().contains("password_file"));
    config.password_file = Some(secret);
    config.check().unwrap();
    let station = Station::start_with(config, &outbox);
    queued(&outbox, 0).await;
    let taken = server.taken();
    let of = |case: &str| -> Vec<&str> {
        taken.iter().map(|one| one.header("x-aerie-id")).filter(|id| id.starts_with(case)).collect()
    };
    assert_eq!(of("c1/"), ["c1/1", "c1/2", "c1/3"]);
    assert_eq!(of("c2/"), ["c2/1", "c2/2", "c2/3"]);
    for one in &taken {
        let (id, topic) = (one.header("x-aerie-id"), one.header("x-aerie-topic"));
        let at = one.header("x-aerie-timestamp").parse().unwrap();
        assert_eq!(one.header("x-aerie-signature"), uplink::webhook::signature(b"a secret", at, id, topic, &one.body));
        assert!(topic.starts_with("aerie/v1/s1/"));
    }
    assert_eq!(outbox.stats().borrow().aside, 1);
    assert!(taken.iter().any(|one| one.header("x-aerie-topic").ends_with("/loss")), "and it was told");
    station.stop().await;
}

#[tokio::test]
async fn a_store_and_a_webhook_of_a_private_authority_are_reached_by_its_certificate_and_only_by_it() {
    let certs = tempfile::tempdir().unwrap();
    if !certificates(certs.path()) {
        eprintln!("skipped: no openssl to make certificates with");
        return;
    }
    let server = Server::start(|_, _| StatusCode::OK).await;
    let port = tls_before(server.port, certs.path()).await;
    let secret = certs.path().join("secret");
    std::fs::write(&secret, "a secret\n").unwrap();

    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path().join("state")).unwrap();
    outbox.accept(vec![case_record("c1", 1)]).await.unwrap();
    let mut config = uplink::Config::new(format!("https://127.0.0.1:{port}/aerie"));
    config.password_file = Some(secret.clone());
    // Not known to this machine, and another authority's word does not count.
    for stranger in [None, Some(certs.path().join("client.pem"))] {
        config.ca_file = stranger;
        let station = Station::start_with(config.clone(), &outbox);
        let mut state = station.uplink.state();
        tokio::time::timeout(PATIENCE, state.wait_for(|s| s.last_error.is_some())).await.unwrap().unwrap();
        assert_eq!((outbox.stats().borrow().queued, server.taken().len()), (1, 0));
        station.stop().await;
    }
    config.ca_file = Some(certs.path().join("ca.pem"));
    let station = Station::start_with(config, &outbox);
    queued(&outbox, 0).await;
    assert_eq!(server.taken().remove(0).header("x-aerie-id"), "c1/1");
    station.stop().await;

    let broker = Broker::start("").await;
    let digest = outbox.store_picture(&[7; 9_000]).await.unwrap();
    let mut picture = note(&format!("evidence/{digest}"), Class::Evidence, "", 0);
    picture.payload = Payload::File(digest.clone());
    outbox.accept(vec![picture]).await.unwrap();
    let mut config = uplink::Config::new(broker.url());
    config.objects = Some(uplink::objects::Config {
        endpoint: format!("https://127.0.0.1:{port}"),
        bucket: "evidence".into(),
        region: "cn-south".into(),
        prefix: String::new(),
        access_key_id: "aerie".into(),
        secret_key_file: secret,
        ca_file: Some(certs.path().join("ca.pem")),
    });
    let station = Station::start_with(config, &outbox);
    queued(&outbox, 0).await;
    assert!(server.taken().iter().any(|put| put.path == format!("/evidence/{digest}.jpg")));
    station.stop().await;
}
