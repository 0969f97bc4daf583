//! Pure: a case event as a record for a city-management platform that keeps events by category code, place and time.
//!
//! The five digits of a code in the national event list are two for the category (大类) and three for the item (小类).
//! The field names are the usual ones of such platforms in Chinese; no official exchange format was at hand to check
//! them against: the receiving platform's own table decides.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Value;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CityEvent {
    /// Stable: the case's id.
    #[serde(rename = "案件编号")]
    pub id: String,
    #[serde(rename = "大类代码")]
    pub category: String,
    #[serde(rename = "小类代码")]
    pub item: String,
    #[serde(rename = "代码标准")]
    pub code_system: String,
    #[serde(rename = "问题描述")]
    pub description: String,
    /// CGCS2000, degrees.
    #[serde(rename = "经度")]
    pub lon: f64,
    #[serde(rename = "纬度")]
    pub lat: f64,
    #[serde(rename = "坐标系")]
    pub datum: &'static str,
    #[serde(rename = "定位误差米")]
    pub error_m: f64,
    #[serde(rename = "区")]
    pub district: Option<String>,
    #[serde(rename = "镇街")]
    pub town: Option<String>,
    #[serde(rename = "村居")]
    pub village: Option<String>,
    /// In the station's time zone.
    #[serde(rename = "发现时间")]
    pub found_at: String,
    #[serde(rename = "上报时间")]
    pub reported_at: String,
    #[serde(rename = "问题来源")]
    pub source: &'static str,
    #[serde(rename = "主管部门")]
    pub department: String,
    #[serde(rename = "状态")]
    pub state: &'static str,
    /// SHA-256 of each picture.
    #[serde(rename = "照片")]
    pub pictures: Vec<String>,
}

/// Why an event has no such record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CityEventError {
    #[error("it is no case event: {0} is missing")]
    Missing(&'static str),
    #[error("the code {0:?} has not the five digits of the event list; set it in [cases.kinds]")]
    Code(String),
}

/// The record of a case event as it is published.
pub fn record(event: &Value, zone: &TimeZone) -> Result<CityEvent, CityEventError> {
    let p = &event["data"]["properties"];
    let text = |value: &Value, name| value.as_str().map(str::to_owned).ok_or(CityEventError::Missing(name));
    let time = |value: &Value, name| {
        let at: Option<Timestamp> = value.as_str().and_then(|text| text.parse().ok());
        let at = at.ok_or(CityEventError::Missing(name))?;
        Ok(at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string())
    };
    let code = text(&p["code"], "code")?;
    let (category, item) = match code.split_at_checked(2) {
        Some((category, item)) if code.len() == 5 && code.bytes().all(|b| b.is_ascii_digit()) => (category, item),
        _ => return Err(CityEventError::Code(code)),
    };
    let place = &p["position"]["cgcs2000"];
    let number = |value: &Value, name| value.as_f64().ok_or(CityEventError::Missing(name));
    let named = text(&p["kind_zh"], "kind_zh")?;
    let verdict = p["verdict"]["reason"].as_str().map(|reason| format!("；{reason}")).unwrap_or_default();
    Ok(CityEvent {
        id: text(&p["id"], "id")?,
        category: category.to_owned(),
        item: item.to_owned(),
        code_system: text(&p["code_system"], "code_system")?,
        description: format!("{named}，第{}次发现{verdict}", p["count"]),
        lon: number(&place["lon"], "position.cgcs2000.lon")?,
        lat: number(&place["lat"], "position.cgcs2000.lat")?,
        datum: "CGCS2000",
        error_m: number(&p["uncertainty"]["semi_major_m"], "uncertainty")?,
        district: p["division"]["district"].as_str().map(str::to_owned),
        town: p["division"]["town"].as_str().map(str::to_owned),
        village: p["division"]["village"].as_str().map(str::to_owned),
        found_at: time(&p["first_seen"], "first_seen")?,
        reported_at: time(&event["time"], "time")?,
        source: "无人机巡查",
        department: p["department"].as_str().unwrap_or_default().to_owned(),
        state: match p["state"].as_str() {
            Some("confirmed") => "已核实",
            Some("rejected") => "已排除",
            Some("resolved") => "已办结",
            _ => "疑似",
        },
        pictures: p["evidence"].as_array().into_iter().flatten().filter_map(|d| Some(d.as_str()?.to_owned())).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documented() -> Value {
        serde_json::from_str(include_str!("../../docs/protocol/examples/case-event.json")).unwrap()
    }

    #[test]
    fn the_documented_case_event_becomes_a_record_with_its_code_split_and_local_time() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        let record = record(&documented(), &zone).unwrap();
        assert_eq!((record.category.as_str(), record.item.as_str()), ("06", "001"));
        assert_eq!((record.datum, record.town.as_deref(), record.state), ("CGCS2000", Some("丹灶镇"), "疑似"));
        let found: Timestamp = documented()["data"]["properties"]["first_seen"].as_str().unwrap().parse().unwrap();
        assert_eq!(record.found_at, found.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string());
        let json = serde_json::to_value(&record).unwrap();
        assert_eq!(json["小类代码"], "001");
    }

    #[test]
    fn what_is_no_case_event_or_has_another_kind_of_code_is_named() {
        assert_eq!(record(&Value::Null, &TimeZone::UTC), Err(CityEventError::Missing("code")));
        let mut event = documented();
        event["data"]["properties"]["code"] = "A-7".into();
        assert_eq!(record(&event, &TimeZone::UTC), Err(CityEventError::Code("A-7".into())));
    }
}
