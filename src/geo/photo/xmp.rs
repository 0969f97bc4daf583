//! The properties of use out of an XMP packet. The packet comes from outside: no document type (so no entities of its own),
//! bounded size, depth, count and length.

use std::collections::HashMap;

use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{NamespaceResolver, ResolveResult};
use quick_xml::{NsReader, XmlVersion};

const MAX_PACKET: usize = 64 * 1024;
const MAX_DEPTH: usize = 32;
const MAX_EVENTS: usize = 10_000;
const MAX_PROPERTIES: usize = 256;
/// DewarpData, the longest value of use, has 150 bytes.
const MAX_VALUE: usize = 1_024;

/// Why a packet was not read to its end.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum XmpError {
    #[error("it is not well-formed: {0}")]
    Malformed(String),
    #[error("it is not UTF-8")]
    NotUtf8,
    #[error("it declares a document type, which no camera does")]
    DocType,
    #[error("its {what} exceeds the limit of {limit}")]
    TooMuch { what: &'static str, limit: usize },
}

/// Whose words a property is in. Told by the namespace, whatever prefix the file gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Words {
    /// DJI, and Autel since it took over DJI's names.
    Dji,
    Parrot,
    Skydio,
    /// Pix4D's camera description, written by senseFly, Parrot, Autel and others.
    Camera,
    /// What image editors leave behind.
    Editor,
}

fn words(namespace: &ResolveResult, name: &str) -> Option<Words> {
    let ResolveResult::Bound(uri) = namespace else {
        return None;
    };
    let uri = uri.0.to_ascii_lowercase();
    let editor = |wanted: &[&str]| wanted.contains(&name).then_some(Words::Editor);
    if uri.contains("dji.com/drone") || uri.contains("autel") {
        Some(Words::Dji)
    } else if uri.contains("parrot.com") {
        Some(Words::Parrot)
    } else if uri.contains("skydio.com") {
        Some(Words::Skydio)
    } else if uri.contains("pix4d.com/camera") || uri == "camera/" || uri.contains("sensefly") {
        Some(Words::Camera)
    } else if uri.contains("ns.adobe.com/xap/1.0/mm") {
        editor(&["History"])
    } else if uri.contains("ns.adobe.com/xap/1.0/") {
        editor(&["CreatorTool"])
    } else if uri.contains("camera-raw-settings") {
        editor(&["HasCrop", "HasSettings", "AlreadyApplied"])
    } else if uri.contains("ns.adobe.com/photoshop") {
        editor(&["ColorMode", "History", "ICCProfile"])
    } else {
        None
    }
}

/// Properties by their words and local name, as text. Members of a structure are named "Structure/Member".
#[derive(Debug, Default, PartialEq)]
pub(super) struct Properties {
    of: HashMap<(Words, String), String>,
    /// The packet ends in the middle.
    pub cut: bool,
}

impl Properties {
    pub fn text(&self, words: Words, name: &str) -> Option<&str> {
        // No allocation worth avoiding: a photo asks some thirty times.
        self.of.get(&(words, name.to_owned())).map(|v| v.trim())
    }

    /// A finite number; "+98.90" and "98.90" alike, and fractions as "4971569/65536".
    pub fn number(&self, words: Words, name: &str) -> Option<f64> {
        number(self.text(words, name)?)
    }

    /// Numbers set apart by commas.
    pub fn numbers(&self, words: Words, name: &str) -> Option<Vec<f64>> {
        self.text(words, name)?.split(',').map(number).collect()
    }

    fn put(&mut self, words: Words, name: String, value: &str) -> Result<(), XmpError> {
        if value.len() > MAX_VALUE {
            return Err(XmpError::TooMuch { what: "longest value", limit: MAX_VALUE });
        }
        if self.of.len() >= MAX_PROPERTIES {
            return Err(XmpError::TooMuch { what: "number of properties", limit: MAX_PROPERTIES });
        }
        self.of.insert((words, name), value.to_owned());
        Ok(())
    }
}

fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let value: f64 = match text.split_once('/') {
        Some((top, bottom)) => top.parse::<f64>().ok()? / bottom.parse::<f64>().ok()?,
        None => text.parse().ok()?,
    };
    value.is_finite().then_some(value)
}

/// An element that is open: whose words it is in, its name, its text so far.
struct Open {
    words: Option<Words>,
    name: String,
    text: String,
}

/// Reads attributes of any element, and elements with text (both spellings are XMP).
pub(super) fn read(packet: &[u8]) -> Result<Properties, XmpError> {
    if packet.len() > MAX_PACKET {
        return Err(XmpError::TooMuch { what: "size", limit: MAX_PACKET });
    }
    let text = std::str::from_utf8(packet).map_err(|_| XmpError::NotUtf8)?;
    // GDAL writes "xml:XMP=" in front.
    let text = text.find('<').map_or("", |start| &text[start..]);
    // Some firmware pads the packet with zero bytes behind its end.
    let mut reader = NsReader::from_str(text.trim_end_matches('\0'));
    let mut found = Properties::default();
    let mut open: Vec<Open> = Vec::new();
    for _ in 0..MAX_EVENTS {
        let event = reader.read_event().map_err(|e| XmpError::Malformed(e.to_string()))?;
        match event {
            Event::Start(element) => {
                if open.len() >= MAX_DEPTH {
                    return Err(XmpError::TooMuch { what: "depth", limit: MAX_DEPTH });
                }
                let element_open = begin(&element, reader.resolver());
                attributes(&element, reader.resolver(), &element_open, &mut found)?;
                open.push(element_open);
            }
            Event::Empty(element) => {
                let element_open = begin(&element, reader.resolver());
                attributes(&element, reader.resolver(), &element_open, &mut found)?;
            }
            Event::Text(text) => {
                if let Some(Open { words: Some(_), text: so_far, .. }) = open.last_mut() {
                    so_far.push_str(&text.into_inner());
                }
            }
            Event::End(_) => {
                if let Some(Open { words: Some(words), name, text }) = open.pop() {
                    // A structure's own text is the white space between its members.
                    if !text.trim().is_empty() || words == Words::Editor {
                        found.put(words, member(&open, words, &name), &text)?;
                    }
                }
            }
            Event::DocType(_) => return Err(XmpError::DocType),
            Event::Eof => {
                found.cut = !open.is_empty();
                return Ok(found);
            }
            _ => {}
        }
    }
    Err(XmpError::TooMuch { what: "number of elements", limit: MAX_EVENTS })
}

fn begin(element: &BytesStart, resolver: &NamespaceResolver) -> Open {
    let (namespace, name) = resolver.resolve_element(element.name());
    let name = name.into_inner().to_owned();
    Open { words: words(&namespace, &name), name, text: String::new() }
}

/// The name of an element, with that of the structure it is in.
fn member(open: &[Open], words: Words, name: &str) -> String {
    match open.last() {
        Some(parent) if parent.words == Some(words) => format!("{}/{name}", parent.name),
        _ => name.to_owned(),
    }
}

fn attributes(
    element: &BytesStart,
    resolver: &NamespaceResolver,
    parent: &Open,
    found: &mut Properties,
) -> Result<(), XmpError> {
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|e| XmpError::Malformed(e.to_string()))?;
        let (namespace, name) = resolver.resolve_attribute(attribute.key);
        let name = name.into_inner();
        if let Some(words) = words(&namespace, name) {
            let value =
                attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|e| XmpError::Malformed(e.to_string()))?;
            let name = if parent.words == Some(words) { format!("{}/{name}", parent.name) } else { name.to_owned() };
            found.put(words, name, &value)?;
        }
    }
    Ok(())
}
