//! The simulated dock and weather station: small HTTP services on one loopback port, as their drivers expect them.
//!
//! - `GET /dock`, `POST /dock/open`, `POST /dock/close`; `POST /dock` with `{"jammed": true}` makes the hatch stick;
//! - `GET /weather`; `POST /weather` with any of `wind_m_s`, `gust_m_s`, `rain_mm_h`, `temperature_c` holds that value,
//!   and with `null` lets it go its own way again;
//! - `GET /drone`, `POST /drone`: the simulated drone's fault switches ([`Faults`]), where it was handed over; a switch
//!   that is left out stays as it is.
//!
//! Who runs in the same process throws the same switches through [`Hardware`], and sees what was truly asked of the dock.
//!
//! The wind is the one that the simulated drone flies in.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::drone::physics::gauss;
use super::drone::{DroneHandle, Faults, Truth, WindNow};
use crate::vehicle::Hatch;

/// The air over the town: made first, because the drone flies in it and the weather station measures it.
#[derive(Clone)]
pub struct Air {
    wind: watch::Sender<WindNow>,
}

impl Default for Air {
    fn default() -> Self {
        Self::new()
    }
}

impl Air {
    pub fn new() -> Self {
        let (wind, _) = watch::channel(WindNow::default());
        Air { wind }
    }

    /// What the drone feels.
    pub fn wind(&self) -> watch::Receiver<WindNow> {
        self.wind.subscribe()
    }
}

#[derive(Debug, Clone)]
pub struct HardwareConfig {
    /// Port 0 takes any.
    pub listen: SocketAddr,
    pub seed: u64,
    /// Simulated seconds a second.
    pub speed: f64,
    /// Simulated seconds that the hatch takes from end to end.
    pub travel_s: f64,
}

/// A running dock and weather station.
pub struct Hardware {
    pub address: SocketAddr,
    site: Site,
}

/// Something was asked of the hatch, and how things truly stood at that moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked {
    pub at: Instant,
    /// To open; otherwise to close.
    pub open: bool,
    pub drone: Truth,
    pub rain_mm_h: f64,
}

/// How the air truly is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WeatherNow {
    pub wind_m_s: f64,
    pub gust_m_s: f64,
    pub wind_from_deg: f64,
    pub rain_mm_h: f64,
    pub temperature_c: f64,
}

impl Hardware {
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes the hatch stick where it is, or frees it.
    pub fn jam(&self, jammed: bool) {
        lock(&self.site.hatch).jam(jammed);
    }

    /// Where the hatch truly is: 0 closed, 1 open.
    pub fn hatch(&self) -> f64 {
        lock(&self.site.hatch).position()
    }

    /// All that was asked of the hatch since the last call, in order.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut lock(&self.site.asked))
    }

    pub fn weather(&self) -> WeatherNow {
        lock(&self.site.weather).now()
    }

    /// Holds the wind and the rain at these values; `None` lets each go its own way.
    pub fn hold_weather(&self, wind_m_s: Option<f64>, rain_mm_h: Option<f64>) {
        let held = Held { wind_m_s: Some(wind_m_s), rain_mm_h: Some(rain_mm_h), ..Held::default() };
        lock(&self.site.weather).hold(held);
    }
}

/// Starts both services; they end with `cancel`.
pub async fn spawn(
    config: HardwareConfig,
    air: Air,
    drone: watch::Receiver<Truth>,
    cancel: CancellationToken,
) -> std::io::Result<Hardware> {
    start(config, air, drone, None, cancel).await
}

/// As [`spawn`], with the drone's fault switches beside the dock's and the weather's.
pub async fn spawn_with(
    config: HardwareConfig,
    air: Air,
    drone: DroneHandle,
    cancel: CancellationToken,
) -> std::io::Result<Hardware> {
    start(config, air, drone.truth(), Some(drone), cancel).await
}

async fn start(
    config: HardwareConfig,
    air: Air,
    drone: watch::Receiver<Truth>,
    switches: Option<DroneHandle>,
    cancel: CancellationToken,
) -> std::io::Result<Hardware> {
    let listener = TcpListener::bind(config.listen).await?;
    let address = listener.local_addr()?;
    let site = Site {
        hatch: Arc::new(Mutex::new(HatchDrive::new(config.travel_s / config.speed.max(1e-3)))),
        weather: Arc::new(Mutex::new(Sky::new(config.seed))),
        asked: Arc::new(Mutex::new(Vec::new())),
        drone,
        switches,
    };
    tokio::spawn(blow(site.weather.clone(), air, config.speed, cancel.clone()));
    let router = Router::new()
        .route("/dock", get(dock).post(jam))
        .route("/dock/open", post(open))
        .route("/dock/close", post(close))
        .route("/weather", get(weather).post(hold_weather))
        .route("/drone", get(fault_switches).post(throw))
        .with_state(site.clone());
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(cancel.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "the simulated dock and weather station stopped");
        }
    });
    Ok(Hardware { address, site })
}

#[derive(Clone)]
struct Site {
    hatch: Arc<Mutex<HatchDrive>>,
    weather: Arc<Mutex<Sky>>,
    /// For who takes it; the newest are dropped when nobody does.
    asked: Arc<Mutex<Vec<Asked>>>,
    drone: watch::Receiver<Truth>,
    switches: Option<DroneHandle>,
}

impl Site {
    fn drive(&self, open: bool) {
        const KEPT: usize = 256;
        let asked = Asked {
            at: Instant::now(),
            open,
            drone: *self.drone.borrow(),
            rain_mm_h: lock(&self.weather).now().rain_mm_h,
        };
        let mut log = lock(&self.asked);
        if log.len() < KEPT {
            log.push(asked);
        }
        drop(log);
        lock(&self.hatch).drive(open);
    }
}

/// Nothing is left half done under these locks, so a panic elsewhere does not spoil them.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

// ---- the dock ------------------------------------------------------------------------------------------------------

/// A motor that drives the hatch between its two limit switches.
#[derive(Debug)]
struct HatchDrive {
    travel: Duration,
    /// 0 closed, 1 open, where it was at `since`.
    from: f64,
    since: Instant,
    opening: bool,
    jammed: bool,
}

impl HatchDrive {
    fn new(travel_s: f64) -> Self {
        HatchDrive {
            travel: Duration::from_secs_f64(travel_s.clamp(0.0, 3600.0)),
            from: 0.0,
            since: Instant::now(),
            opening: false,
            jammed: false,
        }
    }

    fn position(&self) -> f64 {
        if self.jammed {
            return self.from;
        }
        let way = self.since.elapsed().as_secs_f64() / self.travel.as_secs_f64().max(1e-6);
        let moved = if self.opening { way } else { -way };
        (self.from + moved).clamp(0.0, 1.0)
    }

    fn drive(&mut self, opening: bool) {
        self.from = self.position();
        self.since = Instant::now();
        self.opening = opening;
    }

    fn jam(&mut self, jammed: bool) {
        self.from = self.position();
        self.since = Instant::now();
        self.jammed = jammed;
    }

    fn hatch(&self) -> Hatch {
        let position = self.position();
        if position <= 0.0 && (self.jammed || !self.opening) {
            Hatch::Closed
        } else if position >= 1.0 && self.opening {
            Hatch::Open
        } else if self.opening {
            Hatch::Opening
        } else {
            Hatch::Closing
        }
    }
}

#[derive(Serialize)]
struct DockAnswer {
    hatch: Hatch,
    drone_present: bool,
}

async fn dock(State(site): State<Site>) -> Json<DockAnswer> {
    Json(DockAnswer { hatch: lock(&site.hatch).hatch(), drone_present: site.drone.borrow().in_dock })
}

async fn open(State(site): State<Site>) -> Json<DockAnswer> {
    site.drive(true);
    dock(State(site)).await
}

async fn close(State(site): State<Site>) -> Json<DockAnswer> {
    site.drive(false);
    dock(State(site)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Jam {
    jammed: bool,
}

async fn jam(State(site): State<Site>, Json(jam): Json<Jam>) -> Json<DockAnswer> {
    lock(&site.hatch).jam(jam.jammed);
    dock(State(site)).await
}

// ---- the drone's fault switches ------------------------------------------------------------------------------------

/// Where no drone was handed over there is nothing to switch.
async fn fault_switches(State(site): State<Site>) -> Result<Json<Faults>, StatusCode> {
    site.switches.map(|drone| Json(drone.faults())).ok_or(StatusCode::NOT_FOUND)
}

async fn throw(State(site): State<Site>, Json(changed): Json<Value>) -> Result<Json<Faults>, (StatusCode, String)> {
    let drone = site.switches.ok_or((StatusCode::NOT_FOUND, "no drone was handed over".to_owned()))?;
    let wrong = |error: serde_json::Error| (StatusCode::UNPROCESSABLE_ENTITY, error.to_string());
    let mut faults = serde_json::to_value(drone.faults()).map_err(wrong)?;
    if let (Some(known), Value::Object(changed)) = (faults.as_object_mut(), changed) {
        known.extend(changed);
    }
    let faults: Faults = serde_json::from_value(faults).map_err(wrong)?;
    drone.set_faults(faults.clone());
    Ok(Json(faults))
}

// ---- the weather ---------------------------------------------------------------------------------------------------

/// Wind that wanders and gusts, and what someone has set by hand.
#[derive(Debug)]
struct Sky {
    wind_m_s: f64,
    gust_m_s: f64,
    from_deg: f64,
    temperature_c: f64,
    held: Held,
    rng: ChaCha8Rng,
}

/// Values set by hand. A field that is left out stays as it is, `null` releases it.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Held {
    #[serde(deserialize_with = "named")]
    wind_m_s: Option<Option<f64>>,
    #[serde(deserialize_with = "named")]
    gust_m_s: Option<Option<f64>>,
    #[serde(deserialize_with = "named")]
    rain_mm_h: Option<Option<f64>>,
    #[serde(deserialize_with = "named")]
    temperature_c: Option<Option<f64>>,
}

/// Tells a field that is `null` from one that is not there.
fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<f64>>, D::Error> {
    Option::<f64>::deserialize(deserializer).map(Some)
}

impl Sky {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x736b_7900);
        let from_deg = (180.0 + 60.0 * gauss(&mut rng)).rem_euclid(360.0);
        Sky { wind_m_s: 3.0, gust_m_s: 4.0, from_deg, temperature_c: 24.0, held: Held::default(), rng }
    }

    fn step(&mut self, dt: f64) {
        let keep = (-dt / 120.0).exp();
        let kick = (1.0 - keep * keep).sqrt();
        let wander = 0.8 * kick * gauss(&mut self.rng);
        self.wind_m_s = (3.0 + (self.wind_m_s - 3.0) * keep + wander).clamp(0.0, 6.5);
        self.gust_m_s = self.wind_m_s * 1.3 + 0.2;
        self.from_deg = (self.from_deg + 5.0 * kick * gauss(&mut self.rng)).rem_euclid(360.0);
    }

    fn hold(&mut self, set: Held) {
        let held = &mut self.held;
        for (held, set) in [
            (&mut held.wind_m_s, set.wind_m_s),
            (&mut held.gust_m_s, set.gust_m_s),
            (&mut held.rain_mm_h, set.rain_mm_h),
            (&mut held.temperature_c, set.temperature_c),
        ] {
            if set.is_some() {
                *held = set;
            }
        }
    }

    fn now(&self) -> WeatherNow {
        let held = |value: Option<Option<f64>>, own: f64| value.flatten().unwrap_or(own);
        let wind_m_s = held(self.held.wind_m_s, self.wind_m_s);
        WeatherNow {
            wind_m_s,
            // A gust is never below the wind, whoever set the wind.
            gust_m_s: held(self.held.gust_m_s, self.gust_m_s.max(wind_m_s * 1.2)),
            wind_from_deg: self.from_deg,
            rain_mm_h: held(self.held.rain_mm_h, 0.0),
            temperature_c: held(self.held.temperature_c, self.temperature_c),
        }
    }
}

async fn weather(State(site): State<Site>) -> Json<WeatherNow> {
    Json(lock(&site.weather).now())
}

async fn hold_weather(State(site): State<Site>, Json(set): Json<Held>) -> Json<WeatherNow> {
    let mut sky = lock(&site.weather);
    sky.hold(set);
    Json(sky.now())
}

/// Lets the weather go its way, and the drone feel it.
async fn blow(sky: Arc<Mutex<Sky>>, air: Air, speed: f64, cancel: CancellationToken) {
    const TICK: Duration = Duration::from_millis(100);
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut gusty = false;
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = tick.tick() => {}
        }
        let wind = {
            let mut sky = lock(&sky);
            sky.step(TICK.as_secs_f64() * speed);
            // Gusts come and go with a few seconds between.
            if gauss(&mut sky.rng) > 1.5 {
                gusty = !gusty;
            }
            let now = sky.now();
            WindNow { speed_m_s: if gusty { now.gust_m_s } else { now.wind_m_s }, from_deg: now.wind_from_deg }
        };
        air.wind.send_replace(wind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weather_of_a_quiet_day_stays_quiet() {
        let mut sky = Sky::new(1);
        for _ in 0..100_000 {
            sky.step(1.0);
            let now = sky.now();
            assert!(now.wind_m_s < 7.0 && now.gust_m_s >= now.wind_m_s && now.rain_mm_h == 0.0);
        }
    }

    #[test]
    fn what_is_set_by_hand_holds_until_it_is_released() {
        let mut sky = Sky::new(1);
        sky.hold(serde_json::from_str(r#"{"wind_m_s": 15}"#).unwrap());
        sky.step(500.0);
        sky.hold(serde_json::from_str(r#"{"rain_mm_h": 2}"#).unwrap());
        assert_eq!((sky.now().wind_m_s, sky.now().rain_mm_h), (15.0, 2.0));
        assert!(sky.now().gust_m_s > 15.0);
        sky.hold(serde_json::from_str(r#"{"wind_m_s": null}"#).unwrap());
        assert!(sky.now().wind_m_s < 7.0);
        assert!(serde_json::from_str::<Held>(r#"{"windspeed": 15}"#).is_err());
    }

    struct NoCamera;

    impl crate::sim::drone::Camera for NoCamera {
        fn expose(&mut self, _: &crate::sim::drone::Exposure) -> std::io::Result<String> {
            Err(std::io::Error::other("no camera"))
        }
    }

    async fn post(url: String, body: &'static str) -> u16 {
        let sent = tokio::task::spawn_blocking(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            agent.post(url).header("content-type", "application/json").send(body).map(|answer| answer.status().as_u16())
        });
        sent.await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn the_drones_fault_switches_are_thrown_from_outside_and_the_hatch_remembers_what_was_asked() {
        use crate::sim::drone::{Drone, DroneConfig, DroneLink};
        let cancel = CancellationToken::new();
        let _stop = cancel.clone().drop_guard();
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let air = Air::new();
        let config = DroneConfig {
            home: crate::geo::LatLon { lat: 23.05, lon: 113.0 },
            seed: 1,
            speed: 1.0,
            link: DroneLink::Listen(here),
            wind: air.wind(),
            parameters: Vec::new(),
            faults: Faults::default(),
        };
        let drone = Drone::spawn(config, NoCamera, cancel.clone()).await.unwrap();
        let config = HardwareConfig { listen: here, seed: 1, speed: 1.0, travel_s: 5.0 };
        let hardware = spawn_with(config, air, drone.clone(), cancel).await.unwrap();
        let url = format!("{}/drone", hardware.url());
        assert_eq!(post(url.clone(), r#"{"gps_lost": true}"#).await, 200);
        assert_eq!(post(url.clone(), r#"{"camera_stalled": true, "remote_id": "silent"}"#).await, 200);
        assert_eq!(post(url, r#"{"gps_gone": true}"#).await, 422, "no such switch");
        let faults = drone.faults();
        assert!(faults.gps_lost && faults.camera_stalled && !faults.mute);
        hardware.hold_weather(None, Some(3.0));
        post(format!("{}/dock/open", hardware.url()), "").await;
        let asked = hardware.take_asked();
        assert!(matches!(&asked[..], [one] if one.open && one.rain_mm_h == 3.0 && one.drone.in_dock), "{asked:?}");
        assert!(hardware.take_asked().is_empty());
    }
}
