//! Collects every fault of a configuration, where serde alone would stop at the first.

use std::path::{Path, PathBuf};

use jsonschema::ValidationError;
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

/// A file as far as it can be read: what is wrong with its form, and its content without that.
pub struct Read<T> {
    /// None where what is left does not make a whole.
    pub content: Option<T>,
    pub faults: Faults,
}

/// TOML to `T`; first against the schema of `T`, which names every wrong type and unknown key, then by serde. What is wrong is
/// left out of the content, so that the rest can be judged in the same go.
pub fn typed<T: DeserializeOwned + JsonSchema>(path: &Path, text: &str) -> Read<T> {
    let mut value: Value = match toml::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            let fault = format!("{line}not TOML: {}", error.message());
            return Read { content: None, faults: Faults::one(path, "", fault) };
        }
    };
    let schema = schemars::schema_for!(T).to_value();
    let mut faults = Faults::new(path);
    let mut wrong: Vec<String> = Vec::new();
    if let Ok(validator) = jsonschema::validator_for(&schema) {
        for error in validator.iter_errors(&value) {
            note(&error, &schema, &value, &mut faults, &mut wrong);
        }
    }
    for pointer in wrong {
        leave_out(&mut value, &pointer);
    }
    match serde_json::from_value(value) {
        Ok(content) => Read { content: Some(content), faults },
        Err(error) => {
            if faults.faults.is_empty() {
                faults.add("", error.to_string());
            }
            Read { content: None, faults }
        }
    }
}

/// Says what is wrong, with its key and a remedy, and where it stands.
fn note(error: &ValidationError<'_>, schema: &Value, value: &Value, faults: &mut Faults, wrong: &mut Vec<String>) {
    let pointer = error.instance_path().as_str();
    let at = dotted(pointer);
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            for key in unexpected {
                faults.add(&join(&at, key), unknown(key, &properties_at(schema, value, pointer)));
                wrong.push(format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1")));
            }
            return;
        }
        ValidationErrorKind::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            faults.add(&join(&at, key), "is missing; `aerie config example` shows it".to_owned());
        }
        // An optional table: what is wrong with it is wrong with its one form that is not "none".
        ValidationErrorKind::AnyOf { context } => {
            let other = |e: &ValidationError<'_>| {
                e.instance_path().as_str() == pointer && matches!(e.kind(), ValidationErrorKind::Type { .. })
            };
            match context.iter().find(|errors| !errors.iter().any(other)) {
                Some(errors) => {
                    errors.iter().for_each(|e| note(e, schema, value, faults, wrong));
                    return;
                }
                None => {
                    let found = error.instance();
                    let fault = format!("{found} fits no form known here; see `aerie config schema`{}", remedy(found));
                    faults.add(&at, fault);
                }
            }
        }
        ValidationErrorKind::Type { .. } => faults.add(&at, format!("{error}{}", remedy(error.instance()))),
        _ => faults.add(&at, error.to_string()),
    }
    wrong.push(pointer.to_owned());
}

/// What people mean who write a number so.
fn remedy(found: &Value) -> &'static str {
    match found {
        Value::String(text) if text.trim_start().starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
            "; a number stands without quotes, and its unit is in the key's name"
        }
        Value::String(text) if matches!(text.as_str(), "true" | "false") => "; true and false stand without quotes",
        _ => "",
    }
}

fn leave_out(value: &mut Value, pointer: &str) {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return };
    // Nothing is taken out of a list: the others would be called by wrong numbers.
    if let Some(Value::Object(table)) = value.pointer_mut(parent) {
        table.shift_remove(&key.replace("~1", "/").replace("~0", "~"));
    }
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
