//! DJI's properties out of an XMP packet. The packet comes from outside: no document type (so no entities of its own),
//! bounded size, depth, count and length.

use std::collections::HashMap;

use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, NamespaceResolver, ResolveResult};
use quick_xml::{NsReader, XmlVersion};

/// The namespace, whatever prefix the file gives it.
const DJI: &str = "http://www.dji.com/drone-dji/";
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

/// DJI's properties by local name, as text.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Dji(HashMap<String, String>);

impl Dji {
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|v| v.trim())
    }

    /// A finite number; "+98.90" and "98.90" alike.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.text(name)?.parse().ok().filter(|v: &f64| v.is_finite())
    }

    fn put(&mut self, name: &str, value: &str) -> Result<(), XmpError> {
        if value.len() > MAX_VALUE {
            return Err(XmpError::TooMuch { what: "longest value", limit: MAX_VALUE });
        }
        if self.0.len() >= MAX_PROPERTIES {
            return Err(XmpError::TooMuch { what: "number of properties", limit: MAX_PROPERTIES });
        }
        self.0.insert(name.to_owned(), value.to_owned());
        Ok(())
    }
}

/// Reads attributes of any element, and elements with text (both spellings are XMP).
pub(super) fn read(packet: &[u8]) -> Result<Dji, XmpError> {
    if packet.len() > MAX_PACKET {
        return Err(XmpError::TooMuch { what: "size", limit: MAX_PACKET });
    }
    let text = std::str::from_utf8(packet).map_err(|_| XmpError::NotUtf8)?;
    // Some firmware pads the packet with zero bytes behind its end.
    let mut reader = NsReader::from_str(text.trim_end_matches('\0'));
    let mut found = Dji::default();
    let mut depth = 0;
    let mut open: Option<(String, String)> = None;
    for _ in 0..MAX_EVENTS {
        let event = reader.read_event().map_err(|e| XmpError::Malformed(e.to_string()))?;
        match event {
            Event::Start(element) => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(XmpError::TooMuch { what: "depth", limit: MAX_DEPTH });
                }
                attributes(&element, reader.resolver(), &mut found)?;
                let (namespace, name) = reader.resolver().resolve_element(element.name());
                open = is_dji(&namespace).then(|| (name.into_inner().to_owned(), String::new()));
            }
            Event::Empty(element) => attributes(&element, reader.resolver(), &mut found)?,
            Event::Text(text) => {
                if let Some((_, value)) = &mut open {
                    value.push_str(&text.into_inner());
                }
            }
            Event::End(_) => {
                depth = depth.saturating_sub(1);
                if let Some((name, value)) = open.take() {
                    found.put(&name, &value)?;
                }
            }
            Event::DocType(_) => return Err(XmpError::DocType),
            Event::Eof => return Ok(found),
            _ => {}
        }
    }
    Err(XmpError::TooMuch { what: "number of elements", limit: MAX_EVENTS })
}

fn attributes(element: &BytesStart, resolver: &NamespaceResolver, found: &mut Dji) -> Result<(), XmpError> {
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|e| XmpError::Malformed(e.to_string()))?;
        let (namespace, name) = resolver.resolve_attribute(attribute.key);
        if is_dji(&namespace) {
            let value =
                attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|e| XmpError::Malformed(e.to_string()))?;
            found.put(name.into_inner(), &value)?;
        }
    }
    Ok(())
}

fn is_dji(namespace: &ResolveResult) -> bool {
    matches!(namespace, ResolveResult::Bound(Namespace(uri)) if uri.starts_with(DJI))
}
