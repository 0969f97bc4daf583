//! What the makers need to help from afar, in one file: how the station is, what it is told to do, what it said last.
//! Without secrets: see [`secrets`], and the test below, which looks for them in every file of a bundle.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{CareError, named};
use crate::outbox::Reader;
use crate::runtime::{disk, paths, secrets};

/// Files larger than this are no secrets but pictures or models.
const SECRET_LIMIT: u64 = 64 * 1024;
/// Of the newest lines of the log.
const LOG_LINES: usize = 5000;
const LOG_BYTES: usize = 8 << 20;

/// What the caller found out.
pub struct Material {
    pub config: PathBuf,
    pub state_dir: Option<PathBuf>,
    /// What a running station says of itself; or why it does not.
    pub status: Result<Value, String>,
    pub doctor: Value,
    pub log: String,
}

/// The newest lines of the station's log, as journald has them; or why there are none.
pub fn journal() -> String {
    let asked = Command::new("journalctl")
        .args(["--unit", "aerie", "--no-pager", "--output", "short-iso-precise", "--lines", &LOG_LINES.to_string()])
        .output();
    match asked {
        Ok(said) if said.status.success() => String::from_utf8_lossy(&said.stdout).into_owned(),
        Ok(said) => format!("journalctl: {}\n", String::from_utf8_lossy(&said.stderr).trim()),
        Err(error) => format!("journalctl cannot be asked: {error}\n"),
    }
}

/// Writes the bundle. Refuses to overwrite.
pub fn write(out: &Path, material: &Material) -> Result<(), CareError> {
    if out.exists() {
        return Err(CareError::Exists { path: out.to_owned(), remedy: "choose another name with --out" });
    }
    let text = std::fs::read_to_string(&material.config).unwrap_or_default();
    let base = material.config.parent().unwrap_or(Path::new(""));
    let config: Result<toml::Value, _> = toml::from_str(&text);
    let Secrets { known, unread } = match &config {
        Ok(config) => secrets_of(config, base),
        // Asked for help with just this: what its lines name is still looked for.
        Err(_) => secrets_of(&line_by_line(&text), base),
    };
    let unheard = |what: &str| match unread.as_slice() {
        [] => None,
        unread => Some(format!(
            "{what} is left out: a secret that cannot be read cannot be looked for in it. Run this as root. {}\n",
            unread.join("; ")
        )),
    };
    let shown = match &config {
        Ok(config) => toml::to_string(&secrets::config_without(config.clone())).unwrap_or_default(),
        // What cannot be read as TOML cannot be searched for secrets either.
        Err(error) => format!("# not TOML, left out: {}\n", error.message()),
    };
    let mut files = vec![
        ("versions.json", pretty(&versions())),
        ("configuration.toml", shown),
        (
            "status.json",
            match &material.status {
                Ok(status) => unheard("status").unwrap_or_else(|| pretty(status)),
                Err(why) => pretty(&json!({"error": why})),
            },
        ),
        ("doctor.json", pretty(&material.doctor)),
        ("log.txt", unheard("log").unwrap_or_else(|| tail(&material.log))),
    ];
    if let Some(dir) = &material.state_dir {
        files.push(("state.json", pretty(&state(dir))));
        files.push(("outbox.json", pretty(&outbox(dir))));
    }

    let file = owner_only(out)?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let now = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
    for (name, text) in files {
        let text = secrets::text_without(&text, &known);
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now);
        archive
            .append_data(&mut header, format!("aerie-support/{name}"), text.as_bytes())
            .map_err(CareError::file("write", out))?;
    }
    let encoder = archive.into_inner().map_err(CareError::file("write", out))?;
    encoder.finish().and_then(|mut file| file.flush()).map_err(CareError::file("write", out))
}

/// A new file that only its owner may read.
pub(super) fn owner_only(path: &Path) -> Result<std::fs::File, CareError> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path).map_err(CareError::file("make", path))
}

#[derive(Default)]
struct Secrets {
    known: Vec<String>,
    /// Files that are there and cannot be read.
    unread: Vec<String>,
}

/// The contents of every small file that the configuration names by a key of a secret, and its secret values themselves.
fn secrets_of(config: &toml::Value, base: &Path) -> Secrets {
    let mut secrets = Secrets::default();
    let about = |key: &str| {
        let words = ["token", "password", "passwd", "secret", "key", "credential"];
        words.iter().any(|word| key.to_lowercase().contains(word))
    };
    for file in named::files(config, base).into_iter().filter(|file| about(&file.key)) {
        let small = std::fs::metadata(&file.path).is_ok_and(|meta| meta.len() <= SECRET_LIMIT);
        match std::fs::read(&file.path) {
            _ if !small => {}
            Ok(bytes) => secrets.known.push(match String::from_utf8(bytes) {
                Ok(text) => text,
                // A raw key would be printed in hexadecimal, if at all.
                Err(raw) => hex::encode(raw.as_bytes()),
            }),
            Err(error) => secrets.unread.push(format!("{}: {}: {error}", file.key, file.path.display())),
        }
    }
    for (key, text) in named::unfound(config, base) {
        // A secret written where its file's name belongs.
        if about(&key) && !text.contains(['/', '.']) {
            secrets.known.push(text);
        }
    }
    values(config, &mut secrets.known);
    secrets
}

/// What a file that is no TOML still says line by line: `key = value`.
fn line_by_line(text: &str) -> toml::Value {
    let mut table = toml::Table::new();
    for (number, line) in text.lines().enumerate() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let plain = || toml::Value::String(value.trim().trim_matches(['"', '\'']).to_owned());
        let value = toml::from_str::<toml::Table>(&format!("v ={value}")).ok().and_then(|mut line| line.remove("v"));
        // Two tables may have the same key: under the line's number both stay.
        let inner = toml::Table::from_iter([(key.trim().to_owned(), value.unwrap_or_else(plain))]);
        table.insert(number.to_string(), toml::Value::Table(inner));
    }
    toml::Value::Table(table)
}

fn values(value: &toml::Value, known: &mut Vec<String>) {
    match value {
        toml::Value::Array(items) => items.iter().for_each(|item| values(item, known)),
        toml::Value::Table(table) => {
            for (key, inner) in table {
                match inner {
                    toml::Value::String(text) if secrets::is_secret(key) => known.push(text.clone()),
                    inner => values(inner, known),
                }
            }
        }
        _ => {}
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let mut text = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n");
    if text.len() > LOG_BYTES {
        let mut from = text.len() - LOG_BYTES;
        while !text.is_char_boundary(from) {
            from += 1;
        }
        text.drain(..from);
    }
    text
}

fn versions() -> Value {
    let first = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system =
        release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or_default().trim_matches('"');
    json!({
        "aerie": env!("CARGO_PKG_VERSION"),
        "architecture": std::env::consts::ARCH,
        "system": system,
        "kernel": first("/proc/sys/kernel/osrelease"),
        "machine": first("/proc/device-tree/model").trim_end_matches('\0'),
        "memory": first("/proc/meminfo").lines().take(3).collect::<Vec<_>>(),
        "uptime_s": first("/proc/uptime").split(' ').next(),
        "onnxruntime": paths::onnxruntime().map(|path| path.display().to_string()).unwrap_or_else(|error| error.to_string()),
        "time": Timestamp::now(),
    })
}

fn state(dir: &Path) -> Value {
    let files: Vec<Value> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| json!({"name": entry.file_name().to_string_lossy(), "bytes": entry.metadata().map(|m| m.len()).unwrap_or(0)}))
        .collect();
    json!({"free_mb": disk::free_mb(dir), "files": files})
}

fn outbox(dir: &Path) -> Value {
    let look = || -> Result<Value, crate::outbox::OutboxError> {
        let reader = Reader::open(dir)?;
        Ok(json!({"check": reader.check()?, "newest": reader.list(200)?}))
    };
    look().unwrap_or_else(|error| json!({"error": error.to_string()}))
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn no_secret_is_in_any_file_of_a_bundle_and_what_helps_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        file("console.token", "tok-abcdef123456\n");
        file("broker.password", "pw-broker-987654\n");
        file("signing.key", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n");
        file("client.key", "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n-----END PRIVATE KEY-----\n");
        file(
            "station.toml",
            "# comment with pw-in-comment-555\n[station]\nid = \"danzao-01\"\n[console]\ntoken_file = \"console.token\"\n\
             [vehicle.signing]\nkey_file = \"signing.key\"\n[camera]\nurl = \"rtsp://viewer:rtsp-pass-321@10.0.0.8/main\"\n\
             [uplink]\nurl = \"mqtt://b\"\npassword_file = \"broker.password\"\nclient_key_file = \"client.key\"\n\
             [webhook]\nsecret = \"hmac-secret-777\"\n",
        );
        let log = "start\nBearer tok-abcdef123456 refused\nrtsp://viewer:rtsp-pass-321@10.0.0.8/main lost\nhmac-secret-777\n\
                   pw-broker-987654 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff MIIEvQIBADANBgkqhkiG9w0B\n";
        let out = dir.path().join("bundle.tar.gz");
        let material = Material {
            config: dir.path().join("station.toml"),
            state_dir: Some(dir.path().to_owned()),
            status: Ok(json!({"note": "tok-abcdef123456"})),
            doctor: json!([{"what": "hmac-secret-777"}]),
            log: log.to_owned(),
        };
        write(&out, &material).unwrap();
        assert_eq!(std::fs::metadata(&out).unwrap().permissions().mode() & 0o077, 0);

        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(&out).unwrap()));
        let mut all = String::new();
        let mut names = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            names.push(entry.path().unwrap().display().to_string());
            entry.read_to_string(&mut all).unwrap();
        }
        for secret in
            ["tok-abcdef", "pw-broker", "00112233", "MIIEvQ", "rtsp-pass", "viewer", "hmac-secret-777", "pw-in-comment"]
        {
            assert!(!all.contains(secret), "{secret} is in the bundle:\n{all}");
        }
        for kept in ["danzao-01", "10.0.0.8/main lost", "console.token", "start"] {
            assert!(all.contains(kept), "{kept} is missing:\n{all}");
        }
        assert_eq!(names.len(), 7, "{names:?}");
        assert!(matches!(write(&out, &material), Err(CareError::Exists { .. })));
    }

    fn packed(dir: &Path, toml: &str, found: &str, log: &str) -> String {
        std::fs::write(dir.join("station.toml"), toml).unwrap();
        let out = dir.join("b.tar.gz");
        let _ = std::fs::remove_file(&out);
        let material = Material {
            config: dir.join("station.toml"),
            state_dir: None,
            status: Err("not running".to_owned()),
            doctor: json!([{"what": found}]),
            log: log.to_owned(),
        };
        write(&out, &material).unwrap();
        let mut all = String::new();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(&out).unwrap()));
        for entry in archive.entries().unwrap() {
            entry.unwrap().read_to_string(&mut all).unwrap();
        }
        all
    }

    #[test]
    fn secrets_are_found_where_the_file_is_no_toml_and_where_one_stands_in_place_of_its_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("console.token"), "tok-abcdef123456\n").unwrap();
        let broken = "[station]\nid = demo-01\n[console]\ntoken_file = \"console.token\"\n[webhook]\nsecret = \"hmac-777-777\"\n";
        let all = packed(dir.path(), broken, "x tok-abcdef123456 y", "a tok-abcdef123456 b hmac-777-777 c");
        assert!(!all.contains("tok-abc") && !all.contains("hmac-777") && all.contains(" b "), "{all}");
        let misplaced = "[uplink]\npassword_file = \"direct-14-password\"\n";
        let all = packed(dir.path(), misplaced, "no file direct-14-password", "with direct-14-password here");
        assert!(!all.contains("direct-14") && all.contains("here"), "{all}");
    }

    #[test]
    fn a_log_in_which_a_secret_cannot_be_looked_for_stays_here() {
        let dir = tempfile::tempdir().unwrap();
        // A file that is there and that nobody, not even root, can read from its beginning.
        let all = packed(dir.path(), "[console]\ntoken_file = \"/proc/self/mem\"\n", "all well", "tok-abcdef123456");
        assert!(
            !all.contains("tok-abc")
                && all.contains("log is left out")
                && all.contains("console.token_file: /proc/self/mem"),
            "{all}"
        );
    }
}
