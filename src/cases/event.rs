//! Pure: a case as it is told to the world, a GeoJSON Feature.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::book::Case;
use super::kinds::Kinds;
use crate::geo::datum;
use crate::perception::protocol::ModelName;

/// Where the station stands in the administration: told with every case.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Division {
    pub district: Option<String>,
    pub town: Option<String>,
    pub village: Option<String>,
}

/// The case as a Feature: a Point in WGS 84, and all that an officer needs to act on it or to doubt it.
pub fn feature(case: &Case, kinds: &Kinds, division: &Division, model: Option<&ModelName>) -> Value {
    let kind = kinds.of(case.kind);
    let at = case.located.at;
    json!({
        "type": "Feature",
        "id": case.id,
        "geometry": {"type": "Point", "coordinates": [at.lon, at.lat]},
        "properties": {
            "id": case.id,
            "kind": case.kind,
            "kind_zh": kind.zh,
            "code": kind.code,
            "code_system": kinds.code_system,
            "department": kind.department,
            "division": division,
            "state": case.state,
            "verdict": case.verdict,
            "confidence": (f64::from(case.confidence) * 1000.0).round() / 1000.0,
            "experimental": case.experimental,
            "uncertainty": case.located.uncertainty,
            "position": datum::named(at),
            "first_seen": case.first_seen,
            "last_seen": case.last_seen,
            "count": case.count,
            "sortie": case.sortie,
            "sequence": case.sequence,
            "model": model,
            "evidence": case.evidence,
        }
    })
}
