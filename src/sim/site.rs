//! The hardware of a simulated station, running: everything `aerie run` meets through its configuration.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::bridge::{Bridge, BridgeError};
use super::drone::{self, Drone, DroneConfig, DroneHandle, DroneLink, Exposure};
use super::hardware::{self, Air, Hardware, HardwareConfig};
use super::town::{Town, TruePose, render::Renderer};
use crate::geo::{self, LatLon};
use crate::uplink::commands;
use crate::vehicle::Autopilot;

/// The simulated camera.
const WIDTH: u32 = 1440;
const HEIGHT: u32 = 1080;
const HORIZONTAL_FOV_DEG: f64 = 66.0;
/// Height of the simulated patrol.
const FLIGHT_HEIGHT_M: f64 = 70.0;

pub const STATION: &str = "demo-01";
pub const PATROL: &str = "town";

#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    #[error("cannot write {path}: {source}; name another folder with --out")]
    Write { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Key(#[from] commands::KeyFileError),
    #[error(transparent)]
    Bridge(Box<BridgeError>),
    #[error("the simulated hardware cannot start: {0}")]
    Start(#[from] std::io::Error),
}

pub struct Options {
    pub out: PathBuf,
    /// An autopilot in place of the simulated one, as in `vehicle.url`. It has its own time: `speed` is 1 then.
    pub vehicle: Option<String>,
    pub seed: u64,
    /// Simulated seconds a second.
    pub speed: f64,
    /// Hold the wind at this mean speed.
    pub wind_m_s: Option<f64>,
    pub broker_url: String,
    /// A model in place of the one that comes with aerie.
    pub model: Option<PathBuf>,
    /// The page's address.
    pub console: SocketAddr,
}

pub struct Site {
    pub config: PathBuf,
    pub town: Arc<Town>,
    pub drone: DroneHandle,
    pub hardware: Hardware,
    /// Which autopilot was found in place of the simulated one.
    pub autopilot: Option<Autopilot>,
}

/// Generates the town, starts drone, camera, dock and weather, and writes the station's configuration.
pub async fn start(options: &Options, cancel: CancellationToken) -> Result<Site, SiteError> {
    let out = &options.out;
    let media = out.join("media");
    for dir in [out.join("areas"), media.clone(), out.join("state")] {
        fs::create_dir_all(&dir).map_err(|source| SiteError::Write { path: dir, source })?;
    }
    let bridge = match &options.vehicle {
        Some(url) => Some(Bridge::find(url, cancel.clone()).await?),
        None => None,
    };
    let town = Arc::new(match &bridge {
        Some(bridge) => Town::generate_around(options.seed, bridge.home()),
        None => Town::generate(options.seed),
    });
    write_json(&out.join("truth.geojson"), &town.truth_geojson())?;
    write_json(&out.join("register.geojson"), &town.register_geojson())?;
    write_json(&out.join("map.geojson"), &town.map_geojson())?;
    let mut ring: Vec<_> = town.patrol_area().iter().map(|p| json!([p.lon, p.lat])).collect();
    ring.extend(ring.first().cloned());
    write_json(&out.join("areas/town.geojson"), &json!({"type": "Polygon", "coordinates": [ring]}))?;
    write_airspace(out, town.dock())?;

    let air = Air::new();
    let mavlink = free_udp_port()?;
    let camera = RenderingCamera {
        renderer: Renderer::new(Arc::clone(&town)),
        dock: town.dock_local(),
        media,
        seed: options.seed,
    };
    let station = SocketAddr::from((Ipv4Addr::LOCALHOST, mavlink));
    let autopilot = bridge.as_ref().and_then(Bridge::autopilot);
    let drone = match bridge {
        Some(bridge) => bridge.run(station, camera, cancel.clone()).await?,
        None => {
            let config = DroneConfig {
                home: town.dock(),
                seed: options.seed,
                speed: options.speed,
                link: DroneLink::SendTo(station),
                wind: air.wind(),
                parameters: Vec::new(),
                faults: drone::Faults::default(),
            };
            Drone::spawn(config, camera, cancel.clone()).await?
        }
    };
    let hardware = hardware::spawn_with(
        HardwareConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            seed: options.seed,
            speed: options.speed,
            travel_s: 12.0,
        },
        air,
        drone.clone(),
        cancel,
    )
    .await?;
    if options.wind_m_s.is_some() {
        hardware.hold_weather(options.wind_m_s, None);
    }
    let config = out.join("config.toml");
    // A configuration that somebody has edited is theirs: it is kept, and only the addresses of this run would differ.
    let text = configuration(&Setting {
        station: STATION,
        dock: town.dock(),
        console: options.console,
        mavlink,
        hardware: &hardware.url(),
        broker: &options.broker_url,
        model: options.model.as_deref(),
        public_key: &operator_key(out)?,
        height_m: FLIGHT_HEIGHT_M,
        map: true,
    });
    fs::write(&config, text).map_err(|source| SiteError::Write { path: config.clone(), source })?;
    Ok(Site { config, town, drone, hardware, autopilot })
}

/// What differs between the configurations of simulated stations.
pub(super) struct Setting<'a> {
    pub station: &'a str,
    pub dock: LatLon,
    pub console: SocketAddr,
    /// The port where the drone is awaited.
    pub mavlink: u16,
    /// Where the dock and the weather station answer.
    pub hardware: &'a str,
    pub broker: &'a str,
    pub model: Option<&'a Path>,
    pub public_key: &'a str,
    pub height_m: f64,
    /// Whether there are a map and a register of what is permitted.
    pub map: bool,
}

pub(super) fn configuration(setting: &Setting<'_>) -> String {
    let Setting { station, dock, mavlink, public_key, height_m, .. } = setting;
    let base = setting.hardware;
    let model = setting.model.map(|dir| format!("model = {:?}", dir.display().to_string()));
    let (map, register) =
        if setting.map { ("map = \"map.geojson\"", "register = \"register.geojson\"") } else { ("", "") };
    format!(
        r#"# A simulated station, written by `aerie demo` or `aerie sim`. Run it alone with: aerie run --config FILE
[station]
id = "{station}"
name = "演示站 Demo"
dock = {{ lat = {lat:.7}, lon = {lon:.7} }}
state_dir = "state"
timezone = "Asia/Shanghai"
simulated = true

[station.division]
district = "南海区"
town = "丹灶镇"

[console]
listen = "{console}"
{map}

[vehicle]
url = "udpin:127.0.0.1:{mavlink}"

[vehicle.safety]
return_height_m = {height_m:.1}

[camera]
media_dir = "media"
horizontal_fov_deg = {HORIZONTAL_FOV_DEG:.1}
aspect = {aspect:.4}

[dock]
url = "{base}"

[weather]
url = "{base}"

[gates]
wind_m_s = 10.0
gust_m_s = 16.0

[[airspace]]
reference = "simulated"
area = "areas/airspace.geojson"
from = "2020-01-01T00:00:00Z"
until = "2100-01-01T00:00:00Z"

[identification]
registration = "UAS-SIMULATED"
application = "simulated"

[perception]
{model}

[cases]
{register}

[uplink]
url = "{broker}"

# The private half is operator.key beside this file: aerie command sign --key operator.key --kid demo-operator ...
[[commands.keys]]
kid = "demo-operator"
public_key = "{public_key}"
may = ["patrol.*", "outbox.resend"]

[[patrols]]
id = "{PATROL}"
name = "全镇巡查 Town patrol"
area = "areas/town.geojson"
height_m = {height_m:.1}
speed_m_s = 8.0
front_overlap = 0.65
side_overlap = 0.4
gimbal_pitch_deg = -90.0

# A recurring patrol is written like this, in the station's local time:
# [patrols.schedule]
# at = ["09:00", "15:30"]
# weekdays = ["mon", "tue", "wed", "thu", "fri"]
# window_min = 30
"#,
        lat = dock.lat,
        lon = dock.lon,
        console = setting.console,
        aspect = f64::from(WIDTH) / f64::from(HEIGHT),
        broker = setting.broker,
        model = model.unwrap_or_default(),
    )
}

/// What the simulated authority has approved: two kilometres around the dock.
pub(super) fn write_airspace(out: &Path, dock: LatLon) -> Result<(), SiteError> {
    let frame = geo::LocalFrame::new(dock);
    let corners = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0)];
    let ring = corners.map(|(east, north)| frame.to_latlon(2000.0 * east, 2000.0 * north)).map(|at| [at.lon, at.lat]);
    write_json(&out.join("areas/airspace.geojson"), &json!({"type": "Polygon", "coordinates": [ring]}))
}

/// The key with which the simulated station's operator signs MQTT commands; returns its public half.
pub(super) fn operator_key(out: &Path) -> Result<String, SiteError> {
    let path = out.join("operator.key");
    let key = commands::generate_key();
    commands::write_key(&path, &key)?;
    Ok(commands::public_key_text(&key))
}

pub(super) fn write_json(path: &Path, value: &Value) -> Result<(), SiteError> {
    fs::write(path, value.to_string()).map_err(|source| SiteError::Write { path: path.to_owned(), source })
}

pub(super) fn free_udp_port() -> std::io::Result<u16> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A TCP port that nobody listens on: `wanted` if it is free.
pub fn free_tcp_port(wanted: u16) -> std::io::Result<u16> {
    let bound =
        TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(bound.local_addr()?.port())
}

/// Renders what the drone sees and writes it as the drone's camera would.
struct RenderingCamera {
    renderer: Renderer,
    /// Metres east and north of the town's origin: where the drone's home is.
    dock: [f64; 2],
    media: PathBuf,
    seed: u64,
}

impl From<BridgeError> for SiteError {
    fn from(error: BridgeError) -> SiteError {
        SiteError::Bridge(Box::new(error))
    }
}

impl drone::Camera for RenderingCamera {
    fn expose(&mut self, exposure: &Exposure) -> std::io::Result<String> {
        let camera = geo::Camera::from_fov(WIDTH, HEIGHT, HORIZONTAL_FOV_DEG);
        let pose = TruePose {
            east_m: self.dock[0] + exposure.east_m,
            north_m: self.dock[1] + exposure.north_m,
            up_m: exposure.up_m,
            attitude: exposure.attitude,
        };
        let rendered = self.renderer.render(&camera, pose, self.seed ^ u64::from(exposure.index));
        let name = format!("{}_{:05}.jpg", exposure.taken_at.strftime("%Y%m%dT%H%M%S"), exposure.index);
        let mut jpeg = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 92)
            .encode_image(&rendered.rgb)
            .map_err(std::io::Error::other)?;
        // Whole or not at all: the station may look the moment it hears of the picture.
        let path = self.media.join(&name);
        let part = path.with_extension("part");
        fs::write(&part, jpeg)?;
        fs::rename(&part, &path)?;
        Ok(name)
    }
}
