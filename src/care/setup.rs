//! A new station's configuration out of a few answers: checked before it is written, never over an existing one.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::CareError;
use super::bundle::owner_only;
use crate::config;
use crate::uplink::commands;

/// What is asked; everything else has its default and is changed in the file.
#[derive(Debug, Clone)]
pub struct Answers {
    pub id: String,
    pub name: String,
    pub lat: f64,
    pub lon: f64,
    pub timezone: String,
    pub vehicle: String,
    pub fov_deg: f64,
    pub media_dir: PathBuf,
    pub dock: String,
    pub weather: String,
    pub broker: String,
    pub state_dir: PathBuf,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    pub config: PathBuf,
    pub token: PathBuf,
    pub operator_key: PathBuf,
}

/// What would be written, where nothing of it is there yet.
pub fn places(dir: &Path) -> Result<Written, CareError> {
    let written = Written {
        config: dir.join("station.toml"),
        token: dir.join("console.token"),
        operator_key: dir.join("operator.key"),
    };
    for path in [&written.config, &written.token, &written.operator_key] {
        if path.exists() {
            let remedy = "nothing is overwritten; edit it, or name another folder with --dir";
            return Err(CareError::Exists { path: path.clone(), remedy });
        }
    }
    Ok(written)
}

/// Writes `dir/station.toml` with a console token and an operator's key beside it.
pub fn write(dir: &Path, answers: &Answers) -> Result<Written, CareError> {
    let written = places(dir)?;
    let key = commands::generate_key();
    let text = text(answers, &commands::public_key_text(&key));
    // The token's file does not exist yet; everything else must be right before anything is written.
    let checked = config::parse(&written.config, &text.replace("token_file = ", "# token_file = "));
    checked.map_err(CareError::Faults)?;
    std::fs::create_dir_all(dir).map_err(CareError::file("make", dir))?;
    let token = hex::encode(rand::random::<[u8; 32]>());
    let put =
        |path: &Path, text: &str| owner_only(path)?.write_all(text.as_bytes()).map_err(CareError::file("write", path));
    put(&written.token, &format!("{token}\n"))?;
    commands::write_key(&written.operator_key, &key)?;
    put(&written.config, &text)?;
    Ok(written)
}

fn text(a: &Answers, public_key: &str) -> String {
    let s = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let p = |path: &Path| s(&path.display().to_string());
    format!(
        r#"# Written by `aerie setup`. Every key: `aerie config schema`; a commented example: `aerie config example`.
# After a change: `aerie config check FILE`, then restart the station. Nothing flies before there are a patrol and an approval.

[station]
id = {id}
name = {name}
dock = {{ lat = {lat:.7}, lon = {lon:.7} }} # WGS 84
state_dir = {state}
timezone = {timezone}

[console]
listen = "127.0.0.1:8480"              # to be reached from elsewhere: a reverse proxy with TLS, or an SSH tunnel
token_file = "console.token"

[vehicle]
url = {vehicle}

[camera]
media_dir = {media}
horizontal_fov_deg = {fov:.1}

[dock]
url = {dock}

[weather]
url = {weather}

[uplink]
url = {broker}

# The private half is operator.key beside this file: move it to the operator, it has no business here.
[[commands.keys]]
kid = "operator"
public_key = "{public_key}"
may = ["patrol.*", "station.*"]

# Without an approval nothing arms:
# [[airspace]]
# reference = "the authority's number"
# area = "areas/approval.geojson"
# from = "2026-01-01T00:00:00+08:00"
# until = "2026-12-31T23:59:59+08:00"
# ceiling_m = 120.0

# [[patrols]]
# id = "north"
# name = "North"
# area = "areas/north.geojson"
# height_m = 80.0
"#,
        id = s(&a.id),
        name = s(&a.name),
        lat = a.lat,
        lon = a.lon,
        state = p(&a.state_dir),
        timezone = s(&a.timezone),
        vehicle = s(&a.vehicle),
        media = p(&a.media_dir),
        fov = a.fov_deg,
        dock = s(&a.dock),
        weather = s(&a.weather),
        broker = s(&a.broker),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn answers() -> Answers {
        Answers {
            id: "danzao-02".into(),
            name: "丹灶 \"二\"号站".into(),
            lat: 23.05,
            lon: 113.0,
            timezone: "Asia/Shanghai".into(),
            vehicle: "udpin:0.0.0.0:14550".into(),
            fov_deg: 66.0,
            media_dir: "/var/lib/aerie/media".into(),
            dock: "http://10.0.0.2".into(),
            weather: "http://10.0.0.3".into(),
            broker: "mqtt://broker.example".into(),
            state_dir: "/var/lib/aerie".into(),
        }
    }

    #[test]
    fn what_is_written_has_no_fault_and_its_keys_are_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let written = write(dir.path(), &answers()).unwrap();
        let checked = config::load(&written.config).unwrap();
        assert_eq!(checked.config.station.name, "丹灶 \"二\"号站");
        assert_eq!(checked.config.console.token_file.as_deref(), Some(written.token.as_path()));
        for path in [&written.token, &written.operator_key, &written.config] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o077, 0);
        }
        let key = commands::read_key(&written.operator_key).unwrap();
        assert_eq!(checked.config.commands.keys[0].public_key, commands::public_key_text(&key));
    }

    #[test]
    fn nothing_is_overwritten_and_a_bad_answer_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let bad = Answers { id: "a b".into(), dock: "10.0.0.2".into(), ..answers() };
        let message = write(dir.path(), &bad).unwrap_err().to_string();
        assert!(message.contains("station.id") && message.contains("dock"), "{message}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        std::fs::write(dir.path().join("station.toml"), "mine").unwrap();
        assert!(matches!(write(dir.path(), &answers()), Err(CareError::Exists { .. })));
        assert_eq!(std::fs::read_to_string(dir.path().join("station.toml")).unwrap(), "mine");
    }
}
