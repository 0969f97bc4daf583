//! Pure: when a recurring patrol is due, in the station's time zone.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[patrols.schedule]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Local times of day, "HH:MM" or "HH:MM:SS".
    pub at: Vec<String>,
    /// "mon" to "sun"; every day when left out.
    #[serde(default = "every_day")]
    pub weekdays: Vec<Day>,
    /// What the station's holidays mean for this patrol.
    #[serde(default)]
    pub holidays: Holidays,
    /// A patrol that could not start is tried for so long after its time, then reported as missed.
    #[serde(default = "default_window_min")]
    pub window_min: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Holidays {
    /// A holiday is a day like any other.
    #[default]
    Fly,
    Skip,
    /// On holidays alone.
    Only,
}

fn every_day() -> Vec<Day> {
    use Day::*;
    vec![Mon, Tue, Wed, Thu, Fri, Sat, Sun]
}

fn default_window_min() -> u32 {
    30
}

impl Schedule {
    /// Every fault: (key, fault).
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        if self.at.is_empty() {
            faults.push(("at".to_owned(), "at least one time of day is needed".to_owned()));
        }
        for (index, text) in self.at.iter().enumerate() {
            if parse_time(text).is_none() {
                faults.push((format!("at[{index}]"), format!("{text:?} is not a time of day, expected \"HH:MM\"")));
            }
        }
        if self.weekdays.is_empty() {
            faults.push(("weekdays".to_owned(), "no day is left; leave the key out for every day".to_owned()));
        }
        if !(1..=720).contains(&self.window_min) {
            faults.push(("window_min".to_owned(), format!("{} is out of range, expected 1 to 720", self.window_min)));
        }
        faults
    }

    fn flies_on(&self, date: Date, holidays: &[Date]) -> bool {
        let day = match date.weekday() {
            Weekday::Monday => Day::Mon,
            Weekday::Tuesday => Day::Tue,
            Weekday::Wednesday => Day::Wed,
            Weekday::Thursday => Day::Thu,
            Weekday::Friday => Day::Fri,
            Weekday::Saturday => Day::Sat,
            Weekday::Sunday => Day::Sun,
        };
        let holiday = holidays.contains(&date);
        match self.holidays {
            Holidays::Fly => self.weekdays.contains(&day),
            Holidays::Skip => self.weekdays.contains(&day) && !holiday,
            Holidays::Only => holiday,
        }
    }

    /// The first time it is due after `after`; none within a year means never.
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone, holidays: &[Date]) -> Option<Timestamp> {
        let mut times: Vec<Time> = self.at.iter().filter_map(|text| parse_time(text)).collect();
        times.sort();
        let today = after.to_zoned(zone.clone()).date();
        // A day early, in case the zone's offset moves a time across midnight.
        let start = today.yesterday().unwrap_or(today);
        (0..=367)
            .filter_map(|days| start.checked_add(Span::new().days(days)).ok())
            .filter(|date| self.flies_on(*date, holidays))
            .flat_map(|date| times.iter().map(move |time| date.to_datetime(*time)))
            // A time that a clock change leaves out falls on the moment after the gap.
            .filter_map(|local| zone.to_ambiguous_zoned(local).compatible().ok())
            .map(|zoned| zoned.timestamp())
            .find(|due| *due > after)
    }
}

fn parse_time(text: &str) -> Option<Time> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str) -> Option<String> {
        let schedule: Schedule = toml::from_str(schedule).unwrap();
        let holidays = ["2026-10-01".parse().unwrap()];
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let due = schedule.next_after(after.parse().unwrap(), &zone, &holidays)?;
        Some(due.to_zoned(zone).datetime().to_string())
    }

    #[test]
    fn the_next_time_is_local_and_never_the_one_just_passed() {
        let twice = r#"at = ["15:30", "09:00"]"#;
        assert_eq!(next(twice, "2026-09-28T00:59:59Z").unwrap(), "2026-09-28T09:00:00");
        assert_eq!(next(twice, "2026-09-28T01:00:00Z").unwrap(), "2026-09-28T15:30:00");
        assert_eq!(next(twice, "2026-09-28T07:30:00Z").unwrap(), "2026-09-29T09:00:00");
    }

    #[test]
    fn weekdays_and_holidays_are_kept() {
        // 2026-09-30 is a Wednesday, 2026-10-01 the holiday.
        let skip = "at = [\"09:00\"]\nweekdays = [\"thu\", \"fri\"]\nholidays = \"skip\"";
        assert_eq!(next(skip, "2026-09-30T02:00:00Z").unwrap(), "2026-10-02T09:00:00");
        let only = "at = [\"09:00\"]\nholidays = \"only\"";
        assert_eq!(next(only, "2026-09-01T00:00:00Z").unwrap(), "2026-10-01T09:00:00");
        assert_eq!(next(only, "2026-10-01T01:00:00Z"), None);
    }

    #[test]
    fn faults_name_the_entry() {
        let schedule: Schedule = toml::from_str("at = [\"09:00\", \"25:00\"]\nwindow_min = 0").unwrap();
        let faults = schedule.faults();
        assert_eq!(faults[0].0, "at[1]");
        assert_eq!(faults[1].0, "window_min");
    }
}
