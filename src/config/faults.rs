//! Collects every fault of a configuration, where serde alone would stop at the first.

use std::path::{Path, PathBuf};

use jsonschema::error::ValidationErrorKind;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Dotted, as `patrols[0].height_m`; empty for the whole file.
    pub key: String,
    pub fault: String,
}

/// All that is wrong with one file.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub struct Faults {
    pub path: PathBuf,
    pub faults: Vec<Fault>,
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, Fault { key, fault }) in self.faults.iter().enumerate() {
            let gap = if index > 0 { "\n" } else { "" };
            let path = self.path.display();
            if key.is_empty() {
                write!(f, "{gap}{path}: {fault}")?;
            } else {
                write!(f, "{gap}{path}: {key}: {fault}")?;
            }
        }
        Ok(())
    }
}

impl Faults {
    pub fn new(path: &Path) -> Faults {
        Faults { path: path.to_owned(), faults: Vec::new() }
    }

    pub fn one(path: &Path, key: &str, fault: String) -> Faults {
        Faults { path: path.to_owned(), faults: vec![Fault { key: key.to_owned(), fault }] }
    }

    pub fn add(&mut self, key: &str, fault: String) {
        self.faults.push(Fault { key: key.to_owned(), fault });
    }

    /// Fails unless nothing was added.
    pub fn none(self) -> Result<(), Faults> {
        if self.faults.is_empty() { Ok(()) } else { Err(self) }
    }
}

/// TOML to `T`; first against the schema of `T`, which names every wrong type and unknown key, then by serde.
pub fn typed<T: DeserializeOwned + JsonSchema>(path: &Path, text: &str) -> Result<T, Faults> {
    let value: Value = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        Faults::one(path, "", format!("{line}not TOML: {}", error.message()))
    })?;
    let schema = schemars::schema_for!(T).to_value();
    let mut faults = Faults::new(path);
    if let Ok(validator) = jsonschema::validator_for(&schema) {
        for error in validator.iter_errors(&value) {
            let at = dotted(error.instance_path().as_str());
            match error.kind() {
                ValidationErrorKind::AdditionalProperties { unexpected }
                | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
                    for key in unexpected {
                        let known = properties_at(&schema, &value, error.instance_path().as_str());
                        faults.add(&join(&at, key), unknown(key, &known));
                    }
                }
                ValidationErrorKind::Required { property } => {
                    let key = property.as_str().unwrap_or_default();
                    faults.add(&join(&at, key), "is missing; `aerie config example` shows it".to_owned());
                }
                _ => faults.add(&at, error.to_string()),
            }
        }
    }
    faults.none()?;
    serde_json::from_value(value).map_err(|error| Faults::one(path, "", error.to_string()))
}

fn unknown(key: &str, known: &[String]) -> String {
    let near = known
        .iter()
        .map(|name| (distance(key, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 3)
        .min();
    match near {
        Some((_, name)) => format!("is not a key here; did you mean {name:?}?"),
        None if known.is_empty() => "is not a key here; remove it".to_owned(),
        None => format!("is not a key here; known are {}", known.join(", ")),
    }
}

/// The keys that the schema knows at a place in the document.
fn properties_at(schema: &Value, value: &Value, pointer: &str) -> Vec<String> {
    let mut here = schema;
    let mut instance = value;
    for part in pointer.split('/').skip(1) {
        here = resolve(schema, here);
        here = if instance.is_array() { &here["items"] } else { &here["properties"][part] };
        instance = instance.get(part).or_else(|| instance.get(part.parse::<usize>().ok()?)).unwrap_or(&Value::Null);
    }
    let properties = resolve(schema, here)["properties"].as_object();
    properties.map(|p| p.keys().cloned().collect()).unwrap_or_default()
}

/// Follows `$ref`, and the one object among the alternatives of an optional key.
fn resolve<'a>(root: &'a Value, mut at: &'a Value) -> &'a Value {
    for _ in 0..8 {
        if let Some(name) = at["$ref"].as_str() {
            at = root.pointer(name.trim_start_matches('#')).unwrap_or(&Value::Null);
        } else if let Some(some) = at["anyOf"].as_array().and_then(|any| any.iter().find(|a| a["type"] != "null")) {
            at = some;
        } else {
            break;
        }
    }
    at
}

/// `/patrols/0/height_m` to `patrols[0].height_m`.
fn dotted(pointer: &str) -> String {
    pointer.split('/').skip(1).fold(String::new(), |key, part| match part.parse::<usize>() {
        Ok(index) => format!("{key}[{index}]"),
        Err(_) => join(&key, part),
    })
}

fn join(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }
}

/// How many letters differ (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (corner + usize::from(x != *y)).min(above + 1).min(row[j] + 1);
            corner = above;
        }
    }
    row[b.len()]
}
