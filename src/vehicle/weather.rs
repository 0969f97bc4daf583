//! The weather station. A reading that cannot be true is no reading.
//!
//! This driver speaks HTTP and JSON: `GET /weather` answers
//! `{"wind_m_s": 3.1, "gust_m_s": 4.0, "rain_mm_h": 0.0, "temperature_c": 24.5}`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::http::{Base, HttpError};

/// The `[weather]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeatherConfig {
    /// `http://host:port` of the weather station.
    pub url: String,
}

impl WeatherConfig {
    /// Everything that is wrong with the values.
    pub fn faults(&self) -> Vec<HttpError> {
        Base::parse("weather.url", &self.url).err().into_iter().collect()
    }
}

/// One believable reading.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reading {
    /// Mean.
    pub wind_m_s: f64,
    pub gust_m_s: f64,
    pub rain_mm_h: f64,
    pub temperature_c: f64,
    #[serde(skip)]
    pub received: Instant,
}

/// What callers hold: cheap to clone, safe to drop.
#[derive(Clone)]
pub struct Weather {
    latest: watch::Receiver<Option<Reading>>,
}

impl Weather {
    pub fn spawn(config: WeatherConfig, cancel: CancellationToken) -> Result<Weather, HttpError> {
        let base = Base::parse("weather.url", &config.url)?;
        let (published, latest) = watch::channel(None);
        tokio::spawn(async move {
            tokio::select! {
                () = run(base, published) => {}
                () = cancel.cancelled() => {}
            }
        });
        Ok(Weather { latest })
    }

    /// The last believable reading and when it came. It does not grow younger: who decides by it looks at its age.
    pub fn latest(&self) -> watch::Receiver<Option<Reading>> {
        self.latest.clone()
    }
}

#[derive(Debug, Deserialize)]
struct Answer {
    wind_m_s: f64,
    gust_m_s: f64,
    rain_mm_h: f64,
    temperature_c: f64,
}

async fn run(base: Base, published: watch::Sender<Option<Reading>>) {
    let mut poll = interval(Duration::from_secs(1));
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Each trouble is said once, when it begins.
    let mut trouble: Option<String> = None;
    loop {
        poll.tick().await;
        let found = match base.get::<Answer>("/weather").await {
            Ok(answer) => believe(&answer),
            Err(error) => Err(error.to_string()),
        };
        match found {
            Ok(reading) => {
                trouble = None;
                published.send_replace(Some(reading));
            }
            Err(reason) => {
                if trouble.is_none() {
                    tracing::warn!(%reason, "no reading from the weather station");
                }
                trouble = Some(reason);
            }
        }
    }
}

/// Takes a reading only when every value can be true: one broken sensor casts doubt on the mast.
fn believe(answer: &Answer) -> Result<Reading, String> {
    for (what, value, low, high) in [
        ("wind_m_s", answer.wind_m_s, 0.0, 75.0),
        ("gust_m_s", answer.gust_m_s, 0.0, 100.0),
        ("rain_mm_h", answer.rain_mm_h, 0.0, 500.0),
        ("temperature_c", answer.temperature_c, -60.0, 70.0),
    ] {
        if !(low..=high).contains(&value) {
            return Err(format!("{what} = {value} is outside {low} to {high}"));
        }
    }
    // Half a metre for rounding of two averages.
    if answer.gust_m_s + 0.5 < answer.wind_m_s {
        return Err(format!("gust_m_s = {} is below wind_m_s = {}", answer.gust_m_s, answer.wind_m_s));
    }
    Ok(Reading {
        wind_m_s: answer.wind_m_s,
        gust_m_s: answer.gust_m_s,
        rain_mm_h: answer.rain_mm_h,
        temperature_c: answer.temperature_c,
        received: Instant::now(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Answer {
        Answer { wind_m_s: 3.0, gust_m_s: 5.0, rain_mm_h: 0.0, temperature_c: 24.0 }
    }

    #[tokio::test]
    async fn a_reading_that_cannot_be_true_is_no_reading() {
        assert!(believe(&good()).is_ok());
        for bad in [
            Answer { wind_m_s: f64::NAN, ..good() },
            Answer { wind_m_s: -1.0, ..good() },
            Answer { gust_m_s: 1.0, ..good() },
            Answer { rain_mm_h: f64::INFINITY, ..good() },
            Answer { temperature_c: 999.0, ..good() },
        ] {
            assert!(believe(&bad).is_err(), "{bad:?}");
        }
    }
}
