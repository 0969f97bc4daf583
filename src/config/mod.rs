//! The station's configuration: strict TOML. Every fault is reported at once, with its file, key and remedy; the file
//! is never rewritten and nothing in it is silently replaced by a default.

mod faults;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use faults::{Fault, Faults};

use crate::cases::event::Division;
use crate::cases::kinds::{Kind, KindConfig};
use crate::cases::verdict::Peace;
use crate::cases::{Kinds, Register};
use crate::geo::LatLon;
use crate::geo::dem::Dem;
use crate::geo::terrain::Terrain;
use crate::patrol::airspace::{Approval, ApprovalConfig};
use crate::patrol::config::{Identification, NoFlyConfig, Patrol};
use crate::patrol::energy::EnergyConfig;
use crate::patrol::requests::RequestConfig;
use crate::patrol::{PatrolConfig, gates};
use crate::perception::ledger::Rules;
use crate::perception::provider::Provider;
use crate::vehicle::Exclusion;
use crate::{outbox, update, uplink, vehicle};

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub station: Station,
    #[serde(default)]
    pub console: Console,
    pub vehicle: vehicle::Config,
    pub camera: Camera,
    pub dock: vehicle::DockConfig,
    pub weather: vehicle::WeatherConfig,
    #[serde(default)]
    pub gates: gates::Limits,
    /// What the drone can do on one battery.
    #[serde(default)]
    pub energy: EnergyConfig,
    /// Approvals to fly; a drone flies only inside one.
    #[serde(default)]
    pub airspace: Vec<ApprovalConfig>,
    /// What no flight may cross.
    #[serde(default)]
    pub no_fly: Vec<NoFlyConfig>,
    /// Where the table stands, the drone must identify itself before anything arms.
    #[serde(default)]
    pub identification: Option<Identification>,
    #[serde(default)]
    pub perception: Perception,
    /// Signed models over the air, or from a stick.
    #[serde(default)]
    pub update: update::Config,
    #[serde(default)]
    pub cases: Cases,
    /// How high the ground is around the dock. Left out: flat, at take-off height.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terrain: Option<TerrainConfig>,
    /// What waits for upstream.
    #[serde(default)]
    pub outbox: outbox::Config,
    pub uplink: uplink::Config,
    #[serde(default)]
    pub commands: uplink::commands::Config,
    /// How looks that somebody asks for are flown.
    #[serde(default)]
    pub requests: RequestConfig,
    /// What is flown, by hand or on a schedule.
    #[serde(default)]
    pub patrols: Vec<PatrolConfig>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Station {
    /// Stands in every topic: letters, digits and hyphens.
    pub id: String,
    /// What people read.
    pub name: String,
    /// Where the drone takes off and lands.
    pub dock: LatLon,
    /// Databases and evidence pictures.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// Of the schedules, an IANA name.
    #[serde(default = "default_timezone")]
    pub timezone: String,
    /// Local dates, "YYYY-MM-DD"; what they mean for a patrol stands in its schedule.
    #[serde(default)]
    pub holidays: Vec<String>,
    #[serde(default)]
    pub division: Division,
    /// Said on the page, so that nobody takes a simulation for the world.
    #[serde(default)]
    pub simulated: bool,
}

pub fn default_state_dir() -> PathBuf {
    PathBuf::from("/var/lib/aerie")
}

fn default_timezone() -> String {
    "Asia/Shanghai".to_owned()
}

/// The web page and the HTTP interface.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Console {
    /// Address and port. Anything but a loopback address needs `token_file`.
    pub listen: String,
    /// A file with the token that callers who change anything must show.
    pub token_file: Option<PathBuf>,
    /// GeoJSON drawn under the map: roads, water, buildings.
    pub map: Option<PathBuf>,
}

impl Default for Console {
    fn default() -> Console {
        Console { listen: "127.0.0.1:8480".to_owned(), token_file: None, map: None }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Camera {
    /// Where the drone's pictures arrive.
    pub media_dir: PathBuf,
    /// Pictures there that are older than so many days are removed. Left out: never.
    #[serde(default)]
    pub keep_days: Option<u16>,
    pub horizontal_fov_deg: f64,
    /// Width of a picture over its height.
    #[serde(default = "default_aspect")]
    pub aspect: f64,
}

fn default_aspect() -> f64 {
    4.0 / 3.0
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Perception {
    /// Directory of a model; the one that comes with aerie when left out.
    pub model: Option<PathBuf>,
    /// What the process that looks at pictures may take, in megabytes. When it needs more it is started anew, and the
    /// station stays up. Under systemd only.
    pub memory_mb: u32,
    /// How often each patch of ground is looked at, where the pictures allow. A thing is believed when two looks show it.
    pub looks: u8,
    /// What the model runs on, tried in this order; the one that took it is reported. The processor is used only where
    /// it is named. All but "cpu" need an ONNX Runtime that was built with them.
    pub execution_provider: Vec<Provider>,
}

impl Default for Perception {
    fn default() -> Self {
        Perception {
            model: None,
            memory_mb: 600,
            looks: Rules::default().looks,
            execution_provider: vec![Provider::Cpu],
        }
    }
}

/// A terrain model, by which things are placed. Its heights are counted from the dock, so its datum does not matter and no
/// geoid is asked for.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TerrainConfig {
    /// GeoTIFF, DTED or SRTM (.hgt); must reach to the dock.
    pub model: PathBuf,
    /// How much higher the dock stands than the model says there: on a roof that is not in the model.
    #[serde(default)]
    pub dock_above_m: f64,
}

/// What is a case, and how it is reported.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cases {
    /// GeoJSON polygons of the permitted buildings. Without it, every building is a case.
    pub register: Option<PathBuf>,
    /// Where the codes come from. The default codes were taken from a public transcription of this standard and could
    /// not be checked against its official text: check them before you rely on them.
    pub code_system: String,
    /// How far around, and for how long, nothing is reported where a person has rejected a case.
    pub rejected: Peace,
    /// Names, codes and departments that replace the defaults.
    pub kinds: BTreeMap<Kind, KindConfig>,
}

impl Default for Cases {
    fn default() -> Cases {
        let Kinds { code_system, .. } = Kinds::default();
        Cases { register: None, code_system, rejected: Peace::default(), kinds: BTreeMap::new() }
    }
}

impl Cases {
    pub fn kinds(&self) -> Kinds {
        Kinds { code_system: self.code_system.clone(), kinds: self.kinds.clone() }
    }
}

/// Names, codes and departments of kinds, as a signed release of rules brings them: the table `[cases]` without `register`.
pub fn kinds_of(path: &Path) -> Result<Kinds, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let cases: Cases = toml::from_str(&text).map_err(|error| format!("{}: {}", path.display(), error.message()))?;
    match cases.register {
        None => Ok(cases.kinds()),
        Some(_) => Err(format!("{}: register: a register is a release of its own", path.display())),
    }
}

/// A configuration that may be flown: every file it names was read.
#[derive(Debug, Clone)]
pub struct Checked {
    pub config: Config,
    /// Where it was read from.
    pub file: PathBuf,
    /// Relative paths in the configuration start here.
    pub base: PathBuf,
    pub patrols: Vec<Patrol>,
    pub approvals: Vec<Approval>,
    /// Where nothing flies, whatever is asked for.
    pub exclusions: Vec<Exclusion>,
    pub register: Register,
    /// Read once; shared with who places things.
    pub terrain: Option<Arc<Terrain>>,
    pub zone: TimeZone,
    pub holidays: Vec<Date>,
}

/// Reads and checks a configuration: all of its faults, or none.
pub fn load(path: &Path) -> Result<Checked, Faults> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Faults::one(path, "", format!("cannot be read: {error}; name the file with --config")))?;
    parse(path, &text)
}

pub fn parse(path: &Path, text: &str) -> Result<Checked, Faults> {
    let faults::Read { content, mut faults } = faults::typed::<Config>(path, text);
    let Some(config) = content else { return Err(faults) };
    match check(path, config) {
        Ok(checked) => faults.none().map(|()| checked),
        Err(more) => {
            // What was left out for its form is not missed once more.
            let known = |fault: &Fault| faults.faults.iter().any(|f| f.key == fault.key);
            let more: Vec<Fault> = more.faults.into_iter().filter(|fault| !known(fault)).collect();
            faults.faults.extend(more);
            Err(faults)
        }
    }
}

/// Where the state is, and whose, as far as the file can be read: what looks after a station that cannot start must not ask
/// that its configuration be without fault.
pub fn whereabouts(path: &Path) -> Result<(String, PathBuf), Faults> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Faults::one(path, "", format!("cannot be read: {error}; name the file with --config")))?;
    let value: toml::Value =
        toml::from_str(&text).map_err(|error| Faults::one(path, "", format!("not TOML: {}", error.message())))?;
    let of = |key: &str| value.get("station").and_then(|station| station.get(key));
    let state_dir = match of("state_dir") {
        None => default_state_dir(),
        Some(toml::Value::String(dir)) if !dir.is_empty() => PathBuf::from(dir),
        Some(other) => {
            return Err(Faults::one(path, "station.state_dir", format!("{other} is not the path of a folder")));
        }
    };
    let id = of("id").and_then(toml::Value::as_str).unwrap_or("unknown").to_owned();
    Ok((id, path.parent().unwrap_or(Path::new("")).join(state_dir)))
}

/// The JSON Schema that `aerie config schema` prints.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}

/// A whole example, commented.
pub const EXAMPLE: &str = include_str!("example.toml");

/// The terrain model of a configuration, or the key below `[terrain]` that is wrong and why.
fn read_terrain(config: &TerrainConfig, dock: LatLon) -> Result<Terrain, (&'static str, String)> {
    let above = config.dock_above_m;
    if !(-100.0..=500.0).contains(&above) {
        return Err(("dock_above_m", format!("{above} is out of range, expected -100 to 500 metres")));
    }
    let shown = config.model.display();
    let bytes = std::fs::read(&config.model).map_err(|error| ("model", format!("{shown} cannot be read: {error}")))?;
    let dem =
        Dem::read(&bytes, &config.model.to_string_lossy()).map_err(|error| ("model", format!("{shown}: {error}")))?;
    Terrain::new(dem, dock, above).map_err(|error| ("model", format!("{shown}: {error}")))
}

/// It stands in MQTT topics.
pub fn is_station_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 40 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// What the types cannot say.
fn check(path: &Path, mut config: Config) -> Result<Checked, Faults> {
    let base = path.parent().map(Path::to_owned).unwrap_or_default();
    let mut faults = Faults::new(path);
    let c = &mut config;

    let id = &c.station.id;
    if !is_station_id(id) {
        faults
            .add("station.id", format!("{id:?} must be 1 to 40 letters, digits or hyphens: it stands in MQTT topics"));
    }
    if c.station.name.trim().is_empty() {
        faults.add("station.name", "is empty; write what people call the station".to_owned());
    }
    if let Err(error) = c.station.dock.validate() {
        faults.add("station.dock", error.to_string());
    }
    let zone = TimeZone::get(&c.station.timezone).unwrap_or_else(|_| {
        faults.add(
            "station.timezone",
            format!("{:?} is no IANA time zone; write for example \"Asia/Shanghai\"", c.station.timezone),
        );
        TimeZone::UTC
    });
    let mut holidays = Vec::new();
    for (index, text) in c.station.holidays.iter().enumerate() {
        match text.parse::<Date>() {
            Ok(date) => holidays.push(date),
            Err(_) => faults
                .add(&format!("station.holidays[{index}]"), format!("{text:?} is not a date, expected \"YYYY-MM-DD\"")),
        }
    }
    for dir in [&mut c.station.state_dir, &mut c.camera.media_dir] {
        *dir = base.join(&*dir);
    }
    if let Some(signing) = &mut c.vehicle.signing {
        signing.key_file = base.join(&signing.key_file);
    }
    for file in [
        &mut c.console.token_file,
        &mut c.console.map,
        &mut c.perception.model,
        &mut c.cases.register,
        &mut c.update.root,
        &mut c.update.ca_file,
        &mut c.uplink.password_file,
        &mut c.uplink.ca_file,
        &mut c.uplink.client_cert_file,
        &mut c.uplink.client_key_file,
    ] {
        *file = file.as_ref().map(|file| base.join(file));
    }
    if c.perception.execution_provider.is_empty() {
        faults.add(
            "perception.execution_provider",
            "names nothing to run the model on; write [\"cpu\"], or leave it out".to_owned(),
        );
    }
    if let Some(objects) = &mut c.uplink.objects {
        objects.secret_key_file = base.join(&objects.secret_key_file);
        objects.ca_file = objects.ca_file.as_ref().map(|file| base.join(file));
    }
    match c.console.listen.parse::<std::net::SocketAddr>() {
        Err(_) => faults.add(
            "console.listen",
            format!("{:?} is not an address and port, write for example \"127.0.0.1:8480\"", c.console.listen),
        ),
        Ok(at) if !at.ip().is_loopback() && c.console.token_file.is_none() => {
            faults.add(
                "console.token_file",
                format!("is needed when the console listens beyond this machine ({at}); name a file with a token"),
            );
        }
        Ok(_) => {}
    }
    for (key, file) in [("console.token_file", &c.console.token_file), ("console.map", &c.console.map)] {
        if let Some(file) = file.as_ref().filter(|file| !file.is_file()) {
            faults.add(key, format!("{} is not a file", file.display()));
        }
    }
    if !(5.0..=170.0).contains(&c.camera.horizontal_fov_deg) {
        faults.add(
            "camera.horizontal_fov_deg",
            format!("{} is out of range, expected 5 to 170 degrees", c.camera.horizontal_fov_deg),
        );
    }
    for (key, value, low, high) in [
        ("perception.memory_mb", c.perception.memory_mb, 200, 65_536),
        ("camera.keep_days", c.camera.keep_days.unwrap_or(1).into(), 1, 3650),
    ] {
        if !(low..=high).contains(&value) {
            faults.add(key, format!("{value} is out of range, expected {low} to {high}"));
        }
    }
    if !(1..=8).contains(&c.perception.looks) {
        faults.add("perception.looks", format!("{} is out of range, expected 1 to 8 (2 is usual)", c.perception.looks));
    }
    if !(0.5..=4.0).contains(&c.camera.aspect) {
        faults.add(
            "camera.aspect",
            format!("{} is out of range, expected 0.5 to 4 (width over height)", c.camera.aspect),
        );
    }
    for error in c.vehicle.faults() {
        faults.add("vehicle", error.to_string());
    }
    for error in c.dock.faults() {
        faults.add("dock", error.to_string());
    }
    for error in c.weather.faults() {
        faults.add("weather", error.to_string());
    }
    if let Some(fault) = vehicle::modbus::quarrel(&c.dock, &c.weather) {
        faults.add(&fault.key, fault.fault);
    }
    for (key, fault) in c.gates.faults() {
        faults.add(&format!("gates.{key}"), fault);
    }
    for (key, fault) in c.outbox.faults() {
        faults.add(&format!("outbox.{key}"), fault);
    }
    for (key, fault) in c.requests.faults() {
        faults.add(&format!("requests.{key}"), fault);
    }
    for (key, fault) in c.cases.rejected.faults() {
        faults.add(&format!("cases.rejected.{key}"), fault);
    }
    for (key, fault) in c.energy.faults() {
        faults.add(&format!("energy.{key}"), fault);
    }
    let mut approvals = Vec::new();
    for (index, approval) in c.airspace.iter().enumerate() {
        match approval.load(&base) {
            Ok(approval) => approvals.push(approval),
            Err(wrong) => {
                wrong.into_iter().for_each(|(key, fault)| faults.add(&format!("airspace[{index}].{key}"), fault))
            }
        }
    }
    let mut exclusions = Vec::new();
    for (index, no_fly) in c.no_fly.iter().enumerate() {
        match no_fly.load(&base) {
            Ok(exclusion) => exclusions.push(exclusion),
            Err((key, fault)) => faults.add(&format!("no_fly[{index}].{key}"), fault),
        }
    }
    if c.identification.as_ref().is_some_and(|i| i.registration.trim().is_empty()) {
        faults.add("identification.registration", "is empty; write the drone's registration number".to_owned());
    }
    for (key, fault) in c.update.faults() {
        faults.add(&format!("update.{key}"), fault);
    }
    if let Err(error) = c.uplink.check() {
        faults.add("uplink", error.to_string());
    }
    if let Err(error) = c.commands.check() {
        faults.add("commands", error.to_string());
    }
    let register = match &c.cases.register {
        None => Register::default(),
        Some(file) => Register::read(file).unwrap_or_else(|error| {
            faults.add("cases.register", error.to_string());
            Register::default()
        }),
    };
    let terrain = c.terrain.as_mut().and_then(|terrain| {
        terrain.model = base.join(&terrain.model);
        match read_terrain(terrain, c.station.dock) {
            Ok(terrain) => Some(Arc::new(terrain)),
            Err((key, fault)) => {
                faults.add(&format!("terrain.{key}"), fault);
                None
            }
        }
    });
    let mut patrols: Vec<Patrol> = Vec::new();
    for (index, patrol) in c.patrols.iter().enumerate() {
        let key = |inner: &str| format!("patrols[{index}].{inner}");
        let wrong = patrol.faults();
        let shape_is_fine = wrong.iter().all(|(inner, _)| inner != "area");
        for (inner, fault) in wrong {
            faults.add(&key(&inner), fault);
        }
        if patrols.iter().any(|p| p.config.id == patrol.id) {
            faults.add(&key("id"), format!("{:?} is used twice; every patrol needs its own", patrol.id));
        }
        if shape_is_fine {
            match patrol.load(&base) {
                Err((inner, fault)) => faults.add(&key(&inner), fault),
                Ok(mut patrol) => {
                    patrol.exclusions.clone_from(&exclusions);
                    let far = patrol.points().iter().map(|p| p.distance_m(c.station.dock)).fold(0.0, f64::max);
                    if far > 20_000.0 {
                        faults.add(
                            &key("area"),
                            format!(
                                "reaches {:.0} km away from station.dock; are the coordinates [longitude, latitude]?",
                                far / 1000.0
                            ),
                        );
                    }
                    patrols.push(patrol);
                }
            }
        }
    }
    faults.none()?;
    Ok(Checked {
        config,
        file: path.to_owned(),
        base,
        patrols,
        approvals,
        exclusions,
        register,
        terrain,
        zone,
        holidays,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(text: &str) -> String {
        parse(Path::new("station.toml"), text).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn the_example_has_no_fault_but_the_files_it_names() {
        let message = faults_of(EXAMPLE);
        let lines: Vec<_> = message.lines().collect();
        assert!(lines.iter().all(|l| l.contains("areas/") || l.contains("register.geojson")), "{message}");
    }

    #[test]
    fn every_fault_is_named_at_once_with_its_key() {
        let bad = EXAMPLE
            .replace("wind_m_s = 10.0", "wind_ms = 10.0")
            .replace("rain_mm_h = 0.5", "rain_mm_h = \"none\"")
            .replace("timezone = \"Asia/Shanghai\"", "timezone = \"China\"")
            .replace("height_m = 80.0", "height_m = 800.0");
        let message = faults_of(&bad);
        // A wrong word hides neither a wrong type nor a wrong number.
        for wanted in ["gates.wind_ms", "gates.rain_mm_h", "station.timezone", "patrols[0].height_m", "500"] {
            assert!(message.contains(wanted), "{wanted} is missing in:\n{message}");
        }
        let bad = EXAMPLE
            .replace("timezone = \"Asia/Shanghai\"", "timezone = \"China\"")
            .replace("height_m = 80.0", "height_m = 800.0");
        let message = faults_of(&bad);
        for wanted in ["station.timezone", "patrols[0].height_m", "500"] {
            assert!(message.contains(wanted), "{wanted} is missing in:\n{message}");
        }
    }

    #[test]
    fn a_place_not_to_be_flown_over_is_read_whole_or_named() {
        let with = |table: &str| {
            let text =
                EXAMPLE.replace("[perception]", &format!("[[no_fly]]\nname = \"school\"\n{table}\n\n[perception]"));
            faults_of(&text)
        };
        assert!(!with("centre = { lat = 23.051, lon = 113.0 }\nradius_m = 150.0").contains("no_fly"));
        for (table, key) in [
            ("", "no_fly[0].area"),
            ("area = \"none.geojson\"", "none.geojson"),
            ("centre = { lat = 123.05, lon = 113.0 }\nradius_m = 150.0", "no_fly[0].centre"),
            ("centre = { lat = 23.051, lon = 113.0 }\nradius_m = -1.0", "no_fly[0].radius_m"),
        ] {
            let message = with(table);
            assert!(message.contains(key), "{key}: {message}");
        }
    }

    #[test]
    fn a_fault_inside_an_optional_table_is_named_where_it_stands() {
        let message = faults_of(&EXAMPLE.replace("\"mon\", ", "\"monday\", "));
        assert!(message.contains("patrols[0].schedule.weekdays[0]") && message.contains("\"mon\""), "{message}");
        let message = faults_of(&EXAMPLE.replace("window_min", "window_minutes"));
        assert!(
            message.contains("patrols[0].schedule.window_minutes") && message.contains("\"window_min\""),
            "{message}"
        );
        let message = faults_of(&EXAMPLE.replace("rain_mm_h = 0.5", "rain_mm_h = \"0.5 mm\""));
        assert!(message.contains("gates.rain_mm_h") && message.contains("without quotes"), "{message}");
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_one_that_was_meant() {
        let message = faults_of(&EXAMPLE.replace("wind_m_s", "wind_ms"));
        assert!(message.contains("gates.wind_ms") && message.contains("wind_m_s"), "{message}");
    }

    #[test]
    fn text_that_is_not_toml_is_named_with_its_line() {
        let message = faults_of("[station\nid = 3");
        assert!(message.contains("station.toml") && message.contains("line 1"), "{message}");
    }
}
