//! Where releases come from: a web server, or a folder (a USB stick). Both hold the same files:
//!
//! ```text
//! metadata/1.root.json  metadata/timestamp.json  metadata/7.snapshot.json  metadata/3.targets.json …
//! targets/releases/<sha256>.town-1.2.json  targets/groups/roofs/<sha256>.model.json
//! files/<sha256>
//! ```

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider};

#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    #[error("{at} cannot be reached: {why}")]
    Unreachable { at: String, why: String },
    #[error("{at} answered HTTP {status}")]
    Status { at: String, status: u16 },
    #[error("{at} has more than the {most} bytes that are taken")]
    TooLong { at: String, most: u64 },
    #[error(
        "{at}: asked for the bytes from {wanted} of {length}, the server said {said:?}; serve it with one that does ranges"
    )]
    Range { at: String, wanted: u64, length: u64, said: String },
    #[error("{at} is not there")]
    Absent { at: String },
    #[error("update.{key}: {why}")]
    Setting { key: &'static str, why: String },
    #[error("{} cannot be read: {source}; was the stick pulled?", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
}

/// A file from some byte on.
pub struct Opened {
    pub body: Box<dyn Read + Send>,
    /// What the server calls this version of the file; said back with the next range.
    pub tag: Option<String>,
}

pub trait Origin: Send + Sync {
    /// Where `path` is, as people look for it.
    fn at(&self, path: &str) -> String;

    /// `path` whole, at most `most` bytes; none where it is not there.
    fn small(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, OriginError>;

    /// `path`, which has `length` bytes, from `from` on.
    fn open(&self, path: &str, from: u64, length: u64, tag: Option<&str>) -> Result<Opened, OriginError>;

    /// What was seen of it that does not stop anything yet.
    fn warning(&self) -> Option<String> {
        None
    }
}

pub struct Web {
    agent: ureq::Agent,
    base: String,
    /// It sent a file without a word about ranges: a cut fetch could not go on.
    rangeless: AtomicBool,
}

impl Web {
    pub fn new(url: &str, ca_file: Option<&Path>) -> Result<Web, OriginError> {
        let bad = |why: &str| OriginError::Setting { key: "url", why: format!("{url:?} {why}") };
        if !(url.starts_with("https://") || url.starts_with("http://")) || url.parse::<ureq::http::Uri>().is_err() {
            return Err(bad("is no address; write https://HOST/PATH"));
        }
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(
                rumqttc::tokio_rustls::rustls::crypto::ring::default_provider(),
            ))
            .root_certs(RootCerts::Specific(Arc::new(certificates(ca_file)?)))
            .build();
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(15)))
            // A server that says nothing for so long is gone, however long the file is.
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .http_status_as_error(false)
            .max_redirects(3)
            .tls_config(tls)
            .build();
        Ok(Web { agent: config.into(), base: url.trim_end_matches('/').to_owned(), rangeless: AtomicBool::new(false) })
    }

    fn no_ranges(&self) -> String {
        format!(
            "{} gives no ranges (no Accept-Ranges: bytes): a fetch that is cut cannot go on; use a server that does",
            self.base
        )
    }
}

fn certificates(ca_file: Option<&Path>) -> Result<Vec<Certificate<'static>>, OriginError> {
    let Some(path) = ca_file else {
        let known = rustls_native_certs::load_native_certs().certs;
        return Ok(known.iter().map(|der| Certificate::from_der(der.as_ref()).to_owned()).collect());
    };
    let setting = |why: String| OriginError::Setting { key: "ca_file", why };
    let pem = std::fs::read(path).map_err(|e| setting(format!("{} cannot be read: {e}", path.display())))?;
    let items = ureq::tls::parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let found: Vec<_> = items.collect();
    if found.is_empty() {
        return Err(setting(format!("{} holds no certificate in PEM", path.display())));
    }
    Ok(found)
}

impl Origin for Web {
    fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    fn small(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, OriginError> {
        let at = self.at(path);
        let unreachable = |why: String| OriginError::Unreachable { at: at.clone(), why };
        let answer = self.agent.get(&at).config().timeout_global(Some(Duration::from_secs(60))).build().call();
        let answer = answer.map_err(|e| unreachable(e.to_string()))?;
        match answer.status().as_u16() {
            200 => {}
            // Object stores say 403 of what is not there.
            403 | 404 => return Ok(None),
            status => return Err(OriginError::Status { at, status }),
        }
        let mut bytes = Vec::new();
        answer
            .into_body()
            .into_reader()
            .take(most + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| unreachable(e.to_string()))?;
        if bytes.len() as u64 > most {
            return Err(OriginError::TooLong { at, most });
        }
        Ok(Some(bytes))
    }

    fn open(&self, path: &str, from: u64, length: u64, tag: Option<&str>) -> Result<Opened, OriginError> {
        let at = self.at(path);
        let mut request = self.agent.get(&at);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
            // A strong tag only: with a weak one a server may not answer a range.
            if let Some(tag) = tag.filter(|tag| !tag.starts_with("W/")) {
                request = request.header("If-Range", tag);
            }
        }
        let answer = request.call().map_err(|e| OriginError::Unreachable { at: at.clone(), why: e.to_string() })?;
        let header = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let status = answer.status().as_u16();
        let range = |said: String| OriginError::Range { at: at.clone(), wanted: from, length, said };
        match status {
            200 if from == 0 => {
                let rangeless = header("accept-ranges").is_none_or(|said| !said.eq_ignore_ascii_case("bytes"));
                if rangeless && !self.rangeless.swap(true, Ordering::Relaxed) {
                    tracing::warn!("{}", self.no_ranges());
                }
                if let Some(said) = header("content-length").filter(|said| said.parse() != Ok(length)) {
                    return Err(range(format!("content-length {said}")));
                }
            }
            // The whole file again, where its rest was asked for: on a metered link that is no answer.
            200 => return Err(range("200, the whole file".to_owned())),
            206 => {
                let said = header("content-range").unwrap_or_else(|| "206 without content-range".to_owned());
                if said != format!("bytes {from}-{}/{length}", length.saturating_sub(1)) {
                    return Err(range(said));
                }
            }
            416 => return Err(range("416, there is no such range".to_owned())),
            404 => return Err(OriginError::Absent { at }),
            status => return Err(OriginError::Status { at, status }),
        }
        let tag = header("etag");
        let body = Box::new(answer.into_body().into_reader().take(length - from));
        Ok(Opened { body, tag })
    }

    fn warning(&self) -> Option<String> {
        self.rangeless.load(Ordering::Relaxed).then(|| self.no_ranges())
    }
}

/// A folder with a repository's files, as `aerie model publish` writes it.
pub struct Folder {
    dir: PathBuf,
}

impl Folder {
    pub fn new(dir: &Path) -> Folder {
        Folder { dir: dir.to_owned() }
    }

    fn file(&self, path: &str) -> Result<File, OriginError> {
        let path = self.dir.join(path);
        File::open(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => OriginError::Absent { at: path.display().to_string() },
            _ => OriginError::Folder { path, source },
        })
    }
}

impl Origin for Folder {
    fn at(&self, path: &str) -> String {
        self.dir.join(path).display().to_string()
    }

    fn small(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, OriginError> {
        let file = match self.file(path) {
            Err(OriginError::Absent { .. }) if self.dir.is_dir() => return Ok(None),
            file => file?,
        };
        let failed = |source| OriginError::Folder { path: self.dir.join(path), source };
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > most {
            return Err(OriginError::TooLong { at: self.dir.join(path).display().to_string(), most });
        }
        Ok(Some(bytes))
    }

    fn open(&self, path: &str, from: u64, length: u64, _: Option<&str>) -> Result<Opened, OriginError> {
        let mut file = self.file(path)?;
        let failed = |source| OriginError::Folder { path: self.dir.join(path), source };
        file.seek(SeekFrom::Start(from)).map_err(failed)?;
        Ok(Opened { body: Box::new(file.take(length - from)), tag: None })
    }
}
