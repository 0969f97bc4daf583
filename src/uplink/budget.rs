//! Pure: how much may be sent, per second and per month, over a link that is slow or metered. No clock, no I/O.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::outbox::Class;

/// Saved up while nothing is sent: so many seconds' worth may go at once.
const BURST_S: f64 = 2.0;
/// Shares of the month's bytes at which telemetry, pictures and sortie records stop. Case events and loss reports go on:
/// they are small, and what the link is paid for.
const TELEMETRY_STOPS: f64 = 0.8;
const PICTURES_STOP: f64 = 0.9;
const SORTIES_STOP: f64 = 1.0;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    pub per_second: Option<u64>,
    pub per_month: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Budget {
    limits: Limits,
    /// Bytes that may go now; below zero after a packet larger than that.
    level: f64,
    at: Instant,
    /// As "2026-11", and what was sent in it.
    month: String,
    used: u64,
}

/// The name of the month's account, in UTC.
pub(super) fn month_of(at: Timestamp) -> String {
    at.strftime("%Y-%m").to_string()
}

impl Budget {
    pub(super) fn new(limits: Limits, month: String, used: u64, now: Instant) -> Self {
        let level = limits.per_second.map_or(0.0, |rate| rate as f64 * BURST_S);
        Self { limits, level, at: now, month, used }
    }

    pub(super) fn is_metered(&self) -> bool {
        self.limits.per_month.is_some()
    }

    /// The month's account.
    pub(super) fn account(&self) -> (&str, u64) {
        (&self.month, self.used)
    }

    /// None: now. Else how long to wait.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Duration> {
        let rate = self.limits.per_second? as f64;
        let went = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.level = (self.level + went * rate).min(rate * BURST_S);
        (self.level <= 0.0).then(|| Duration::from_secs_f64((1.0 - self.level) / rate))
    }

    pub(super) fn spend(&mut self, bytes: u64, month: &str) {
        if self.limits.per_second.is_some() {
            self.level -= bytes as f64;
        }
        if self.month != month {
            month.clone_into(&mut self.month);
            self.used = 0;
        }
        self.used += bytes;
    }

    /// The last class, in the order of publishing, that still goes in this month.
    pub(super) fn last_class(&self, month: &str) -> Class {
        let Some(limit) = self.limits.per_month else { return Class::Telemetry };
        let used = if self.month == month { self.used as f64 / limit.max(1) as f64 } else { 0.0 };
        match used {
            used if used >= SORTIES_STOP => Class::Case,
            used if used >= PICTURES_STOP => Class::Sortie,
            used if used >= TELEMETRY_STOPS => Class::Evidence,
            _ => Class::Telemetry,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(per_second: Option<u64>, per_month: Option<u64>, now: Instant) -> Budget {
        Budget::new(Limits { per_second, per_month }, "2026-11".into(), 0, now)
    }

    #[tokio::test]
    async fn over_any_minute_no_more_goes_than_the_rate_and_its_burst() {
        let start = Instant::now();
        let mut budget = budget(Some(10_000), None, start);
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(60) {
            match budget.wait(now) {
                Some(wait) => now += wait,
                None => {
                    budget.spend(3_000, "2026-11");
                    sent += 3_000;
                }
            }
        }
        assert!((600_000..=600_000 + 20_000 + 3_000).contains(&sent), "{sent}");
    }

    #[tokio::test]
    async fn a_picture_larger_than_the_rate_goes_and_is_waited_for_afterwards() {
        let start = Instant::now();
        let mut budget = budget(Some(1_000), None, start);
        assert_eq!(budget.wait(start), None);
        budget.spend(12_000, "2026-11");
        let wait = budget.wait(start).unwrap();
        assert!((9.0..11.0).contains(&wait.as_secs_f64()), "{wait:?}");
        assert_eq!(budget.wait(start + wait), None);
    }

    #[tokio::test]
    async fn a_month_that_runs_out_keeps_case_events_going_and_a_new_one_starts_afresh() {
        let mut budget = budget(None, Some(1_000), Instant::now());
        let mut lasts = Vec::new();
        for _ in 0..12 {
            lasts.push(budget.last_class("2026-11"));
            budget.spend(100, "2026-11");
        }
        assert_eq!(lasts[7], Class::Telemetry);
        assert_eq!(lasts[8], Class::Evidence);
        assert_eq!(lasts[9], Class::Sortie);
        assert_eq!(lasts[11], Class::Case);
        assert_eq!(budget.last_class("2026-12"), Class::Telemetry);
        budget.spend(1, "2026-12");
        assert_eq!(budget.account(), ("2026-12", 1));
    }

    #[tokio::test]
    async fn without_limits_everything_goes_at_once() {
        let mut budget = budget(None, None, Instant::now());
        budget.spend(u64::MAX / 2, "2026-11");
        assert_eq!(budget.wait(Instant::now()), None);
        assert_eq!(budget.last_class("2026-11"), Class::Telemetry);
    }
}
