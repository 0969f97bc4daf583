//! What the drone says of its own fitness: battery, estimator, self-identification, clock. Pure, like
//! [`super::telemetry`], and like there: what was never said is `None`.

use jiff::Timestamp;
use mavlink::dialects::common::{EstimatorStatusFlags, MavMessage, MavOdidArmStatus, MavSysStatusSensor};
use serde::Serialize;
use tokio::time::Instant;

/// A value and when it was received.
pub type Heard<T> = Option<(T, Instant)>;

/// Cells of the flight battery.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cells {
    pub count: usize,
    pub lowest_v: f64,
    /// Between the fullest and the emptiest.
    pub spread_v: f64,
}

/// What the drone says of its fitness.
#[derive(Debug, Clone, Default)]
pub struct Health {
    pub cells: Heard<Cells>,
    pub battery_temperature_c: Heard<f64>,
    pub battery_cycles: Heard<u16>,
    /// Whether its estimate of attitude and position is good; if not, what is wrong with it.
    pub estimator: Heard<Result<(), String>>,
    /// Whether its own checks let it arm; the inner none: it does not tell.
    pub preflight: Heard<Option<bool>>,
    /// Its broadcast identification (OPEN_DRONE_ID_ARM_STATUS): good to arm, or its own words why not.
    pub identification: Heard<Result<(), String>>,
    /// UTC by its satellite receiver.
    pub utc: Heard<Timestamp>,
    /// Its own clock, seconds since it started: rates are reckoned by it, whatever the speed of a simulation.
    pub boot_s: Option<f64>,
    /// ESTIMATOR_STATUS was heard, which says more than SYS_STATUS does.
    detailed: Option<Instant>,
}

/// For so long a detailed word on the estimator outweighs the coarse one.
const DETAILED: std::time::Duration = std::time::Duration::from_secs(10);

impl Health {
    // SMART_BATTERY_INFO is superseded by BATTERY_INFO; autopilots in the field still send only the old one.
    #[allow(deprecated)]
    pub(crate) fn apply(&mut self, message: &MavMessage, now: Instant) {
        match message {
            MavMessage::BATTERY_STATUS(b) if b.id == 0 => {
                const NO_CELL: u16 = u16::MAX;
                let cells: Vec<f64> =
                    b.voltages.iter().filter(|v| **v != NO_CELL && **v != 0).map(|v| f64::from(*v) / 1e3).collect();
                // One entry is the whole pack (or one that is not measured by the cell); ArduPilot says it so.
                if cells.len() > 1 {
                    let lowest_v = cells.iter().copied().fold(f64::MAX, f64::min);
                    let highest = cells.iter().copied().fold(f64::MIN, f64::max);
                    self.cells = Some((Cells { count: cells.len(), lowest_v, spread_v: highest - lowest_v }, now));
                }
                if b.temperature != i16::MAX {
                    self.battery_temperature_c = Some((f64::from(b.temperature) / 100.0, now));
                }
            }
            MavMessage::SMART_BATTERY_INFO(b) if b.id == 0 && b.cycle_count != u16::MAX => {
                self.battery_cycles = Some((b.cycle_count, now));
            }
            MavMessage::BATTERY_INFO(b) if b.id == 0 && b.cycle_count != u16::MAX => {
                self.battery_cycles = Some((b.cycle_count, now));
            }
            MavMessage::ESTIMATOR_STATUS(e) => {
                self.detailed = Some(now);
                self.estimator = Some((estimator(e.flags), now));
            }
            MavMessage::SYS_STATUS(s) => {
                let checks = MavSysStatusSensor::MAV_SYS_STATUS_PREARM_CHECK;
                let told = s.onboard_control_sensors_present.contains(checks)
                    && s.onboard_control_sensors_enabled.contains(checks);
                self.preflight = Some((told.then(|| s.onboard_control_sensors_health.contains(checks)), now));
                let ahrs = MavSysStatusSensor::MAV_SYS_STATUS_AHRS;
                let coarse = self.detailed.is_none_or(|at| now.saturating_duration_since(at) > DETAILED);
                if coarse && s.onboard_control_sensors_present.contains(ahrs) {
                    let good = s.onboard_control_sensors_health.contains(ahrs);
                    let word =
                        if good { Ok(()) } else { Err("the drone calls its attitude estimate unhealthy".into()) };
                    self.estimator = Some((word, now));
                }
            }
            MavMessage::OPEN_DRONE_ID_ARM_STATUS(o) => {
                let word = match o.status {
                    MavOdidArmStatus::MAV_ODID_ARM_STATUS_GOOD_TO_ARM => Ok(()),
                    _ => Err(o.error.to_str().unwrap_or("(unreadable reason)").to_owned()),
                };
                self.identification = Some((word, now));
            }
            // Zero and small numbers are a clock that no satellite has set yet; 2020 is earlier than any flight.
            MavMessage::SYSTEM_TIME(t) => {
                const YEAR_2020_US: u64 = 1_577_836_800_000_000;
                let micros = i64::try_from(t.time_unix_usec).ok().filter(|_| t.time_unix_usec > YEAR_2020_US);
                if let Some(utc) = micros.and_then(|us| Timestamp::from_microsecond(us).ok()) {
                    self.utc = Some((utc, now));
                }
            }
            MavMessage::GLOBAL_POSITION_INT(p) => self.boot_s = Some(f64::from(p.time_boot_ms) / 1e3),
            _ => {}
        }
    }
}

fn estimator(flags: EstimatorStatusFlags) -> Result<(), String> {
    use EstimatorStatusFlags as F;
    let missing = [
        (F::ESTIMATOR_ATTITUDE, "attitude"),
        (F::ESTIMATOR_VELOCITY_HORIZ, "horizontal velocity"),
        (F::ESTIMATOR_POS_HORIZ_ABS, "position"),
        (F::ESTIMATOR_POS_VERT_ABS, "height"),
    ];
    let mut wrong: Vec<_> = missing
        .into_iter()
        .filter(|(flag, _)| !flags.contains(*flag))
        .map(|(_, what)| format!("no good {what}"))
        .collect();
    for (flag, what) in [
        (F::ESTIMATOR_CONST_POS_MODE, "it holds its position for constant"),
        (F::ESTIMATOR_GPS_GLITCH, "a jump of the satellite position"),
        (F::ESTIMATOR_ACCEL_ERROR, "bad accelerometers"),
    ] {
        if flags.contains(flag) {
            wrong.push(what.to_owned());
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join(", ")) }
}

#[cfg(test)]
mod tests {
    use mavlink::dialects::common::{
        BATTERY_STATUS_DATA, ESTIMATOR_STATUS_DATA, OPEN_DRONE_ID_ARM_STATUS_DATA, SYS_STATUS_DATA, SYSTEM_TIME_DATA,
    };

    use super::*;

    fn after(messages: &[MavMessage]) -> Health {
        let mut health = Health::default();
        for message in messages {
            health.apply(message, Instant::now());
        }
        health
    }

    #[tokio::test]
    async fn cells_and_temperature_are_what_is_said_and_nothing_else() {
        let mut voltages = [u16::MAX; 10];
        voltages[..4].copy_from_slice(&[4100, 4090, 3980, 4110]);
        let told = BATTERY_STATUS_DATA { voltages, temperature: 2550, ..Default::default() };
        let health = after(&[MavMessage::BATTERY_STATUS(told)]);
        let cells = health.cells.unwrap().0;
        assert_eq!((cells.count, cells.lowest_v), (4, 3.98));
        assert!((cells.spread_v - 0.13).abs() < 1e-9);
        assert_eq!(health.battery_temperature_c.unwrap().0, 25.5);
        let mut whole = [u16::MAX; 10];
        whole[0] = 16_200;
        let silent = BATTERY_STATUS_DATA { voltages: whole, temperature: i16::MAX, ..Default::default() };
        let health = after(&[MavMessage::BATTERY_STATUS(silent)]);
        assert!(health.cells.is_none() && health.battery_temperature_c.is_none());
    }

    #[tokio::test]
    async fn the_detailed_word_on_the_estimator_outweighs_the_coarse_one() {
        use EstimatorStatusFlags as F;
        let ahrs = MavSysStatusSensor::MAV_SYS_STATUS_AHRS;
        let coarse = MavMessage::SYS_STATUS(SYS_STATUS_DATA {
            onboard_control_sensors_present: ahrs,
            onboard_control_sensors_health: ahrs,
            ..Default::default()
        });
        assert_eq!(after(std::slice::from_ref(&coarse)).estimator.unwrap().0, Ok(()));
        assert!(after(&[MavMessage::SYS_STATUS(SYS_STATUS_DATA::default())]).estimator.is_none());
        let good = F::ESTIMATOR_ATTITUDE
            | F::ESTIMATOR_VELOCITY_HORIZ
            | F::ESTIMATOR_POS_HORIZ_ABS
            | F::ESTIMATOR_POS_VERT_ABS;
        let detailed = |flags| MavMessage::ESTIMATOR_STATUS(ESTIMATOR_STATUS_DATA { flags, ..Default::default() });
        assert_eq!(after(&[detailed(good)]).estimator.unwrap().0, Ok(()));
        let health = after(&[detailed(good | F::ESTIMATOR_GPS_GLITCH), coarse]);
        assert!(health.estimator.unwrap().0.unwrap_err().contains("jump"));
    }

    #[tokio::test]
    async fn an_autopilot_that_says_nothing_of_its_checks_is_not_taken_for_unready() {
        let checks = MavSysStatusSensor::MAV_SYS_STATUS_PREARM_CHECK;
        let said = |present, enabled, health| {
            let status = SYS_STATUS_DATA {
                onboard_control_sensors_present: present,
                onboard_control_sensors_enabled: enabled,
                onboard_control_sensors_health: health,
                ..Default::default()
            };
            after(&[MavMessage::SYS_STATUS(status)]).preflight.map(|(word, _)| word)
        };
        let none = MavSysStatusSensor::empty();
        assert_eq!(said(checks, checks, checks), Some(Some(true)));
        assert_eq!(said(checks, checks, none), Some(Some(false)));
        assert_eq!(said(checks, none, none), Some(None), "switched off");
        assert_eq!(said(none, none, none), Some(None));
        assert!(Health::default().preflight.is_none());
    }

    #[tokio::test]
    async fn a_clock_that_no_satellite_has_set_is_no_clock() {
        let unset = MavMessage::SYSTEM_TIME(SYSTEM_TIME_DATA { time_unix_usec: 12_000_000, time_boot_ms: 12_000 });
        assert!(after(&[unset]).utc.is_none());
        let set = MavMessage::SYSTEM_TIME(SYSTEM_TIME_DATA { time_unix_usec: 1_800_000_000_000_000, time_boot_ms: 1 });
        assert_eq!(after(&[set]).utc.unwrap().0.as_second(), 1_800_000_000);
    }

    #[tokio::test]
    async fn identification_that_fails_says_why() {
        let told = OPEN_DRONE_ID_ARM_STATUS_DATA {
            status: MavOdidArmStatus::MAV_ODID_ARM_STATUS_PRE_ARM_FAIL_GENERIC,
            error: "no operator location".into(),
        };
        let health = after(&[MavMessage::OPEN_DRONE_ID_ARM_STATUS(told)]);
        assert_eq!(health.identification.unwrap().0.unwrap_err(), "no operator location");
    }
}
