//! The weather station. A reading that cannot be true is no reading.
//!
//! Two drivers. HTTP and JSON: `GET /weather` answers `{"wind_m_s": 3.1, "gust_m_s": 4.0, "rain_mm_h": 0.0,
//! "temperature_c": 24.5, "visibility_m": 8000}` (the last may be missing). Modbus: by a register map,
//! [`modbus`](super::modbus).

use std::pin::pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::http::{Base, HttpError};
use super::modbus::device::Unknown;
use super::modbus::map::{Place, Quantity};
use super::modbus::{Address, Device, LineError, Lines, MapFault, WeatherMap};

/// The `[weather]` table: `url` for a station that speaks HTTP, or `[weather.modbus]` for one that speaks Modbus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeatherConfig {
    /// `http://host:port` of the weather station.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The station's registers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "WeatherMap")]
    pub modbus: Option<WeatherMap>,
}

impl WeatherConfig {
    /// A station that speaks HTTP.
    pub fn http(url: &str) -> WeatherConfig {
        WeatherConfig { url: Some(url.to_owned()), modbus: None }
    }

    /// A station that speaks Modbus.
    pub fn modbus(map: WeatherMap) -> WeatherConfig {
        WeatherConfig { url: None, modbus: Some(map) }
    }

    /// Everything that is wrong with the values.
    pub fn faults(&self) -> Vec<WeatherError> {
        match (&self.url, &self.modbus) {
            (Some(url), None) => Base::parse("weather.url", url).err().map(WeatherError::Http).into_iter().collect(),
            (None, Some(map)) => map.faults().into_iter().map(WeatherError::Map).collect(),
            (Some(_), Some(_)) => vec![WeatherError::Form("two forms")],
            (None, None) => vec![WeatherError::Form("no form")],
        }
    }
}

/// Why there is no reading.
#[derive(Debug, thiserror::Error)]
pub enum WeatherError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Line(#[from] LineError),
    #[error(transparent)]
    Map(#[from] MapFault),
    #[error("weather has {0}; give exactly one of weather.url (HTTP) and [weather.modbus]")]
    Form(&'static str),
    #[error("{what} = {value} is outside {low} to {high}; check the sensor and its entry in the map")]
    Implausible { what: &'static str, value: f64, low: f64, high: f64 },
    #[error("gust_m_s = {gust} is below wind_m_s = {wind}; check which is which")]
    Contradiction { gust: f64, wind: f64 },
    #[error("weather.modbus.signals.{signal}: {reason}; check its entry in the map and the sensor")]
    Signal { signal: &'static str, reason: Unknown },
}

/// One believable reading.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reading {
    /// Mean.
    pub wind_m_s: f64,
    pub gust_m_s: f64,
    pub rain_mm_h: f64,
    pub temperature_c: f64,
    /// `None` where nothing measures it, or what measures it is in doubt.
    pub visibility_m: Option<f64>,
    /// Of its oldest value.
    #[serde(skip)]
    pub received: Instant,
}

/// What callers hold: cheap to clone, safe to drop.
#[derive(Clone)]
pub struct Weather {
    latest: watch::Receiver<Option<Reading>>,
    trouble: watch::Receiver<Option<String>>,
}

impl Weather {
    /// Starts the task, on a line of its own.
    pub fn spawn(config: WeatherConfig, cancel: CancellationToken) -> Result<Weather, WeatherError> {
        Weather::spawn_on(config, &Lines::default(), cancel)
    }

    /// Starts the task; a Modbus station shares its line with whoever else is on it.
    pub fn spawn_on(config: WeatherConfig, lines: &Lines, cancel: CancellationToken) -> Result<Weather, WeatherError> {
        if let Some(fault) = config.faults().into_iter().next() {
            return Err(fault);
        }
        let driver = Driver::new(&config, lines)?;
        let (published, latest) = watch::channel(None);
        let (complaints, trouble) = watch::channel(None);
        tokio::spawn(async move {
            tokio::select! {
                () = run(driver, published, complaints) => {}
                () = cancel.cancelled() => {}
            }
        });
        Ok(Weather { latest, trouble })
    }

    /// The last believable reading and when it came. It does not grow younger: who decides by it looks at its age. `None`
    /// before the first, and with Modbus once the last is older than `stale_s`.
    pub fn latest(&self) -> watch::Receiver<Option<Reading>> {
        self.latest.clone()
    }

    /// Why the last question brought no reading; `None` while readings come.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.clone()
    }
}

/// What a station says, believed or not.
#[derive(Debug, Deserialize)]
struct Answer {
    wind_m_s: f64,
    gust_m_s: f64,
    rain_mm_h: f64,
    temperature_c: f64,
    visibility_m: Option<f64>,
}

enum Driver {
    Http(Base),
    Modbus(Box<Modbus>),
}

struct Modbus {
    map: WeatherMap,
    device: Device,
}

impl Driver {
    fn new(config: &WeatherConfig, lines: &Lines) -> Result<Driver, WeatherError> {
        let map = match (&config.url, &config.modbus) {
            (Some(url), _) => return Ok(Driver::Http(Base::parse("weather.url", url)?)),
            (None, Some(map)) => map,
            (None, None) => return Err(WeatherError::Form("no form")),
        };
        let address = Address::parse(&map.url).map_err(|reason| {
            let fault = format!("{:?}: {reason}", map.url);
            MapFault { key: "weather.modbus.url".to_owned(), fault }
        })?;
        let quantities = map.signals.quantities();
        let places: Vec<Place> =
            quantities.iter().filter_map(|(_, q, _)| Some(q.as_ref()?.place(map.unit_id))).collect();
        let device = Device::new(
            lines.line(&address),
            map.unit_id,
            Duration::from_secs_f64(map.timeout_s),
            Duration::from_secs_f64(map.stale_s),
            places,
            map.signals.alive.as_ref(),
        );
        Ok(Driver::Modbus(Box::new(Modbus { map: map.clone(), device })))
    }

    fn poll_every(&self) -> Duration {
        match self {
            Driver::Http(_) => Duration::from_secs(1),
            Driver::Modbus(modbus) => Duration::from_secs_f64(modbus.map.poll_s),
        }
    }

    fn stale(&self) -> Option<Duration> {
        match self {
            Driver::Http(_) => None,
            Driver::Modbus(modbus) => Some(modbus.device.stale()),
        }
    }

    async fn read(&mut self) -> Result<Reading, WeatherError> {
        match self {
            Driver::Http(base) => {
                let at = Instant::now();
                let answer = base.get::<Answer>("/weather").await?;
                believe(&answer, at)
            }
            Driver::Modbus(modbus) => modbus.read().await,
        }
    }
}

impl Modbus {
    async fn read(&mut self) -> Result<Reading, WeatherError> {
        let trouble = self.device.poll().await.err();
        let mut oldest = Instant::now();
        let signals = &self.map.signals;
        let mut number = |signal, quantity: &Quantity| match self.device.number(quantity) {
            Ok((value, at)) => {
                oldest = oldest.min(at);
                Ok(value)
            }
            Err(reason) => Err(WeatherError::Signal { signal, reason }),
        };
        let answer = (|| {
            Ok::<_, WeatherError>(Answer {
                wind_m_s: number("wind", &signals.wind)?,
                gust_m_s: number("gust", &signals.gust)?,
                rain_mm_h: number("rain", &signals.rain)?,
                temperature_c: number("temperature", &signals.temperature)?,
                visibility_m: None,
            })
        })();
        // What is wrong with the line explains why a signal is missing; a sensor in doubt explains itself.
        let answer = match (answer, trouble) {
            (Err(WeatherError::Signal { reason: Unknown::Missing, .. }), Some(error)) => return Err(error.into()),
            (answer, _) => answer?,
        };
        let visibility = signals.visibility.as_ref().and_then(|quantity| self.device.number(quantity).ok());
        believe(&Answer { visibility_m: visibility.map(|(value, _)| value), ..answer }, oldest)
    }
}

async fn run(mut driver: Driver, published: watch::Sender<Option<Reading>>, complaints: watch::Sender<Option<String>>) {
    let mut poll = interval(driver.poll_every());
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // In the pause, and while an answer is waited for, what was known before goes stale in time.
        let found = {
            let stale = driver.stale();
            let stale_at = stale.zip(*published.borrow()).map(|(stale, last)| last.received + stale);
            let mut next = pin!(async {
                poll.tick().await;
                driver.read().await
            });
            tokio::select! {
                biased;
                found = &mut next => found,
                () = sleep_until(stale_at.unwrap_or_else(Instant::now)), if stale_at.is_some() => {
                    published.send_replace(None);
                    next.await
                }
            }
        };
        match found {
            Ok(reading) => {
                complaints.send_replace(None);
                published.send_replace(Some(reading));
            }
            Err(error) => {
                // Each trouble is said once, when it begins.
                if complaints.send_replace(Some(error.to_string())).is_none() {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "no reading from the weather station");
                }
            }
        }
    }
}

/// Takes a reading only when every value can be true: one broken sensor casts doubt on the mast.
fn believe(answer: &Answer, received: Instant) -> Result<Reading, WeatherError> {
    for (what, value, low, high) in [
        ("wind_m_s", answer.wind_m_s, 0.0, 75.0),
        ("gust_m_s", answer.gust_m_s, 0.0, 100.0),
        ("rain_mm_h", answer.rain_mm_h, 0.0, 500.0),
        ("temperature_c", answer.temperature_c, -60.0, 70.0),
    ] {
        if !(low..=high).contains(&value) {
            return Err(WeatherError::Implausible { what, value, low, high });
        }
    }
    // Half a metre for rounding of two averages.
    if answer.gust_m_s + 0.5 < answer.wind_m_s {
        return Err(WeatherError::Contradiction { gust: answer.gust_m_s, wind: answer.wind_m_s });
    }
    Ok(Reading {
        wind_m_s: answer.wind_m_s,
        gust_m_s: answer.gust_m_s,
        rain_mm_h: answer.rain_mm_h,
        temperature_c: answer.temperature_c,
        visibility_m: answer.visibility_m.filter(|metres| (0.0..=100_000.0).contains(metres)),
        received,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Answer {
        Answer { wind_m_s: 3.0, gust_m_s: 5.0, rain_mm_h: 0.0, temperature_c: 24.0, visibility_m: Some(8000.0) }
    }

    #[tokio::test]
    async fn a_reading_that_cannot_be_true_is_no_reading() {
        assert!(believe(&good(), Instant::now()).is_ok());
        for bad in [
            Answer { wind_m_s: f64::NAN, ..good() },
            Answer { wind_m_s: -1.0, ..good() },
            Answer { gust_m_s: 1.0, ..good() },
            Answer { rain_mm_h: f64::INFINITY, ..good() },
            Answer { temperature_c: 999.0, ..good() },
        ] {
            assert!(believe(&bad, Instant::now()).is_err(), "{bad:?}");
        }
        // What nobody depends on is merely unknown.
        let fog = Answer { visibility_m: Some(-1.0), ..good() };
        assert_eq!(believe(&fog, Instant::now()).unwrap().visibility_m, None);
    }
}
