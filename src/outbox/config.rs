//! `[outbox]` in the configuration.

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Class, Options};

/// Kept free in `outbox.reserve`, for the transaction that drops records when the disk is full.
const RESERVE_BYTES: u64 = 8 << 20;
const LEAST_JOURNAL_DAYS: u32 = 30;

/// How much of the disk the queue may take, and for how long. When one of the limits is reached, the journal of
/// delivered records goes first, then pictures, sortie records, case events, oldest first; each loss is reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Waiting and delivered records together, 10^6 bytes.
    pub budget_mb: u64,
    /// Waiting and delivered records together.
    pub budget_records: u64,
    /// Left free on the disk: below it pictures go.
    pub min_free_mb: u64,
    /// How long delivered records are kept, so that `outbox.resend` can send them again; at least 30.
    pub journal_days: u32,
    /// How long a record may wait before it is given up and reported. Nothing given up by age when left out.
    pub expiry_days: ExpiryDays,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExpiryDays {
    pub case: Option<u32>,
    pub sortie: Option<u32>,
    pub evidence: Option<u32>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            budget_mb: 4096,
            budget_records: 1_000_000,
            min_free_mb: 256,
            journal_days: LEAST_JOURNAL_DAYS,
            expiry_days: ExpiryDays::default(),
        }
    }
}

impl Config {
    /// Every fault of the numbers: (key, fault).
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if self.budget_mb < 16 {
            faults.push(("budget_mb", format!("{} is too little, expected at least 16", self.budget_mb)));
        }
        if self.budget_records < 1_000 {
            faults.push(("budget_records", format!("{} is too few, expected at least 1000", self.budget_records)));
        }
        if self.journal_days < LEAST_JOURNAL_DAYS || self.journal_days > 3650 {
            faults.push((
                "journal_days",
                format!("{} is out of range, expected {LEAST_JOURNAL_DAYS} to 3650", self.journal_days),
            ));
        }
        let ages = [
            ("expiry_days.case", self.expiry_days.case),
            ("expiry_days.sortie", self.expiry_days.sortie),
            ("expiry_days.evidence", self.expiry_days.evidence),
        ];
        for (key, days) in ages {
            if days == Some(0) {
                faults.push((key, "0 would give everything up at once; leave it out to keep records".to_owned()));
            }
        }
        faults
    }

    pub fn options(&self, source: String) -> Options {
        let days = |days: u32| SignedDuration::from_hours(24 * i64::from(days));
        let ages = [
            (Class::Case, self.expiry_days.case),
            (Class::Sortie, self.expiry_days.sortie),
            (Class::Evidence, self.expiry_days.evidence),
        ];
        Options {
            source,
            budget_bytes: self.budget_mb.saturating_mul(1_000_000),
            budget_records: self.budget_records,
            min_free_bytes: self.min_free_mb.saturating_mul(1_000_000),
            retention: days(self.journal_days),
            expiry: ages.into_iter().filter_map(|(class, age)| Some((class, days(age?)))).collect(),
            reserve_bytes: RESERVE_BYTES,
        }
    }
}
