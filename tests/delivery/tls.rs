//! TLS with certificates on both sides, wrong ones, expired ones, renewed ones.

use std::process::{Command, Stdio};

use aerie::outbox::Outbox;
use aerie::uplink;

use crate::certificates::certificates;
use crate::support::*;

#[tokio::test]
async fn mutual_tls_delivers_and_a_stranger_authority_is_refused() {
    let certs = tempfile::tempdir().unwrap();
    if !certificates(certs.path()) {
        eprintln!("skipped: no openssl to make certificates with");
        return;
    }
    let path = |name: &str| certs.path().join(name);
    let broker_config: &'static str = Box::leak(
        format!(
            "cafile {0}/ca.pem\ncertfile {0}/server.pem\nkeyfile {0}/server.key\nrequire_certificate true",
            certs.path().display()
        )
        .into_boxed_str(),
    );
    let broker = Broker::start(broker_config).await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    outbox.accept(vec![case_record("c1", 1)]).await.unwrap();
    let mut config = uplink::Config::new(format!("mqtts://127.0.0.1:{}", broker.port));
    config.client_cert_file = Some(path("client.pem"));
    config.client_key_file = Some(path("client.key"));

    // Another authority than the broker's: here the client's own certificate stands in for one.
    config.ca_file = Some(path("client.pem"));
    let station = Station::start_with(config.clone(), &outbox);
    let mut state = station.uplink.state();
    tokio::time::timeout(PATIENCE, state.wait_for(|state| state.last_error.is_some())).await.unwrap().unwrap();
    assert_eq!(outbox.stats().borrow().queued, 1);
    station.stop().await;

    config.ca_file = Some(path("ca.pem"));
    let station = Station::start_with(config, &outbox);
    queued(&outbox, 0).await;
    assert_eq!(outbox.stats().borrow().delivered, 1);
    station.stop().await;
}

#[tokio::test]
async fn a_certificate_that_runs_out_is_named_and_its_renewal_on_the_disk_is_enough() {
    let certs = tempfile::tempdir().unwrap();
    if !certificates(certs.path()) {
        eprintln!("skipped: no openssl to make certificates with");
        return;
    }
    let path = |name: &str| certs.path().join(name);
    let broker_config: &'static str = Box::leak(
        format!(
            "cafile {0}/ca.pem\ncertfile {0}/server.pem\nkeyfile {0}/server.key\nrequire_certificate true",
            certs.path().display()
        )
        .into_boxed_str(),
    );
    let broker = Broker::start(broker_config).await;
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    // What the station reads is a copy: first good, then run out, then good again.
    std::fs::copy(path("client.pem"), path("now.pem")).unwrap();
    let mut config = uplink::Config::new(format!("mqtts://127.0.0.1:{}", broker.port));
    config.client_cert_file = Some(path("now.pem"));
    config.client_key_file = Some(path("client.key"));
    config.ca_file = Some(path("ca.pem"));
    let station = Station::start_with(config, &outbox);
    station.connected().await;
    outbox.accept(vec![case_record("c1", 1)]).await.unwrap();
    queued(&outbox, 0).await;

    let expire =
        "x509 -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days -1 -extfile client.ext -out old.pem";
    let made = Command::new("openssl").args(expire.split(' ')).current_dir(certs.path()).stderr(Stdio::null()).status();
    assert!(made.unwrap().success());
    std::fs::copy(path("old.pem"), path("now.pem")).unwrap();
    let mut state = station.uplink.state();
    let named = state.wait_for(|state| {
        !state.connected && state.last_error.as_ref().is_some_and(|why| why.to_lowercase().contains("expired"))
    });
    let waited = tokio::time::timeout(PATIENCE, named).await.map(|named| named.map(|_| ()));
    assert!(waited.is_ok_and(|named| named.is_ok()), "{:?}", station.uplink.state().borrow());
    outbox.accept(vec![case_record("c1", 2)]).await.unwrap();

    std::fs::copy(path("client.pem"), path("now.pem")).unwrap();
    queued(&outbox, 0).await;
    station.stop().await;
}
