//! The files that a configuration names: every text in it that is the path of a file, wherever it stands. So a key that
//! is added to the configuration tomorrow is found without anyone remembering to add it here.

use std::path::{Path, PathBuf};

use toml::Value;

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// Dotted.
    pub key: String,
    pub path: PathBuf,
}

pub fn files(config: &Value, base: &Path) -> Vec<Named> {
    let mut found = Vec::new();
    walk(config, "", &mut |key, text| {
        let path = base.join(text);
        if !text.is_empty() && path.is_file() {
            found.push(Named { key: key.to_owned(), path });
        }
    });
    found
}

/// Keys that name a file by their form, with a text that is the path of none.
pub fn unfound(config: &Value, base: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(config, "", &mut |key, text| {
        if key.ends_with("_file") && !text.is_empty() && !base.join(text).is_file() {
            found.push((key.to_owned(), text.to_owned()));
        }
    });
    found
}

fn walk(value: &Value, key: &str, see: &mut impl FnMut(&str, &str)) {
    match value {
        Value::String(text) => see(key, text),
        Value::Array(items) => items.iter().for_each(|item| walk(item, key, see)),
        Value::Table(table) => {
            for (name, inner) in table {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                walk(inner, &key, see);
            }
        }
        _ => {}
    }
}
