//! A certificate authority of the tests' own, and TLS in front of their servers.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rumqttc::tokio_rustls::TlsAcceptor;
use rumqttc::tokio_rustls::rustls::ServerConfig;
use rumqttc::tokio_rustls::rustls::crypto::ring;
use rumqttc::tokio_rustls::rustls::pki_types::pem::PemObject as _;
use rumqttc::tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Makes a certificate authority, and a server and a client certificate of it, with Debian's openssl.
pub fn certificates(dir: &Path) -> bool {
    let run = |args: &str| {
        let status = Command::new("openssl").args(args.split(' ')).current_dir(dir).stderr(Stdio::null()).status();
        status.map(|status| status.success())
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    match run(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca")) {
        Err(_) => return false,
        Ok(made) => assert!(made, "openssl could not make a certificate authority"),
    }
    std::fs::write(dir.join("server.ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
    std::fs::write(dir.join("client.ext"), "extendedKeyUsage=clientAuth\n").unwrap();
    for name in ["server", "client"] {
        assert!(run(&format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}")).unwrap());
        let sign = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2";
        assert!(run(&format!("x509 -req -in {name}.csr {sign} -extfile {name}.ext -out {name}.pem")).unwrap());
    }
    true
}

/// TLS with the server certificate in `dir`, before a plain server on `port` of this machine; the port to speak to.
pub async fn tls_before(port: u16, dir: &Path) -> u16 {
    let chain = CertificateDer::from_pem_file(dir.join("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Who does not trust the certificate hangs up here.
                let Ok(mut outer) = acceptor.accept(stream).await else { return };
                let mut inner = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
            });
        }
    });
    at
}
