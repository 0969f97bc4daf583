//! An operator's private key as a file: PKCS #8 PEM, readable by its owner alone.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};

#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("cannot write the key {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot read the key {path}: {source}; `aerie command keygen --out FILE` makes one")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is not an Ed25519 private key in PEM; `aerie command keygen --out FILE` makes one")]
    Form { path: PathBuf },
}

pub fn write_key(path: &Path, key: &SigningKey) -> Result<(), KeyFileError> {
    let form = || KeyFileError::Form { path: path.to_owned() };
    // Without the public half: OpenSSL and what builds on it do not read the newer form that holds it.
    let pair = KeypairBytes { secret_key: key.to_bytes(), public_key: None };
    let pem = pair.to_pkcs8_pem(LineEnding::LF).map_err(|_| form())?;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(pem.as_bytes()))
        .map_err(|source| KeyFileError::Write { path: path.to_owned(), source })
}

pub fn read_key(path: &Path) -> Result<SigningKey, KeyFileError> {
    let pem = std::fs::read_to_string(path).map_err(|source| KeyFileError::Read { path: path.to_owned(), source })?;
    SigningKey::from_pkcs8_pem(&pem).map_err(|_| KeyFileError::Form { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_comes_back_from_its_file_and_only_its_owner_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("operator.key");
        let key = super::super::generate_key();
        write_key(&path, &key).unwrap();
        assert_eq!(read_key(&path).unwrap().to_bytes(), key.to_bytes());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
        let openssl =
            std::process::Command::new("openssl").args(["pkey", "-noout", "-in"]).arg(&path).output().unwrap();
        assert!(openssl.status.success(), "{}", String::from_utf8_lossy(&openssl.stderr));
        std::fs::write(&path, "nonsense").unwrap();
        assert!(read_key(&path).unwrap_err().to_string().contains("operator.key"));
    }
}
