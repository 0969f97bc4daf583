//! What an ONNX file says beside what ONNX Runtime tells of it: its nodes, constants and metadata. A reader of the few
//! fields needed (numbers from `onnx.proto3` of the ONNX project), nothing is decoded that is not asked for.

use std::collections::{BTreeMap, HashMap};

#[derive(Debug, thiserror::Error, PartialEq)]
pub enum OnnxError {
    #[error("it is not an ONNX file, or cut off ({0})")]
    Damaged(&'static str),
    #[error("it has no graph")]
    NoGraph,
}

#[derive(Debug, Default)]
pub struct Model {
    pub producer: String,
    /// By domain; the empty one is ONNX's own.
    pub opsets: BTreeMap<String, u64>,
    pub metadata: BTreeMap<String, String>,
    pub nodes: Vec<Node>,
    /// Constants of whole numbers, by name: initializers and constant nodes.
    pub integers: HashMap<String, Vec<i64>>,
    /// All names of weights and nodes, for what they tell of the network.
    pub names: Vec<String>,
    /// The file that holds the weights, if they are not in this one.
    pub external: Option<String>,
    made_by: HashMap<String, usize>,
}

#[derive(Debug, Default)]
pub struct Node {
    pub op: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
}

impl Model {
    pub fn read(bytes: &[u8]) -> Result<Model, OnnxError> {
        let mut model = Model::default();
        let mut graph = None;
        for field in Fields(bytes) {
            match field? {
                (2, Value::Bytes(b)) => model.producer = text(b),
                (7, Value::Bytes(b)) => graph = Some(b),
                (8, Value::Bytes(b)) => {
                    let (mut domain, mut version) = (String::new(), 0);
                    for field in Fields(b) {
                        match field? {
                            (1, Value::Bytes(b)) => domain = text(b),
                            (2, Value::Number(n)) => version = n,
                            _ => {}
                        }
                    }
                    model.opsets.insert(domain, version);
                }
                (14, Value::Bytes(b)) => {
                    let (mut key, mut value) = (String::new(), String::new());
                    for field in Fields(b) {
                        match field? {
                            (1, Value::Bytes(b)) => key = text(b),
                            (2, Value::Bytes(b)) => value = text(b),
                            _ => {}
                        }
                    }
                    model.metadata.insert(key, value);
                }
                _ => {}
            }
        }
        for field in Fields(graph.ok_or(OnnxError::NoGraph)?) {
            match field? {
                (1, Value::Bytes(b)) => model.add_node(b)?,
                (5, Value::Bytes(b)) => {
                    let tensor = Tensor::read(b)?;
                    model.external = model.external.take().or(tensor.external);
                    if let Some(integers) = tensor.integers {
                        model.integers.insert(tensor.name.clone(), integers);
                    }
                    model.names.push(tensor.name);
                }
                _ => {}
            }
        }
        Ok(model)
    }

    fn add_node(&mut self, bytes: &[u8]) -> Result<(), OnnxError> {
        let mut node = Node::default();
        let mut constant = None;
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(b)) => node.inputs.push(text(b)),
                (2, Value::Bytes(b)) => node.outputs.push(text(b)),
                (3, Value::Bytes(b)) => self.names.push(text(b)),
                (4, Value::Bytes(b)) => node.op = text(b),
                (5, Value::Bytes(b)) => {
                    for field in Fields(b) {
                        if let (5, Value::Bytes(b)) = field? {
                            constant = Tensor::read(b)?.integers;
                        }
                    }
                }
                _ => {}
            }
        }
        for output in &node.outputs {
            self.made_by.insert(output.clone(), self.nodes.len());
            if let (true, Some(integers)) = (node.op == "Constant", &constant) {
                self.integers.insert(output.clone(), integers.clone());
            }
        }
        self.nodes.push(node);
        Ok(())
    }

    /// The node whose output the tensor is.
    pub fn maker(&self, tensor: &str) -> Option<&Node> {
        self.made_by.get(tensor).and_then(|index| self.nodes.get(*index))
    }

    pub fn has_op(&self, op: &str) -> bool {
        self.nodes.iter().any(|node| node.op == op)
    }

    /// Whether the name of a weight or node has the word in it.
    pub fn speaks_of(&self, word: &str) -> bool {
        self.names.iter().any(|name| name.to_ascii_lowercase().contains(word))
    }

    /// The whole number that a tensor of labels was divided by on its way out: a selection over all classes of all
    /// queries numbers its pairs through, so that the class is the remainder.
    pub fn label_divisor(&self, labels: &str) -> Option<i64> {
        let mut next = vec![labels];
        for _ in 0..16 {
            let mut earlier = Vec::new();
            for node in next.iter().filter_map(|tensor| self.maker(tensor)) {
                if matches!(node.op.as_str(), "Mod" | "Div") {
                    let scalar = |name: &String| match self.integers.get(name).map(Vec::as_slice) {
                        Some([n]) if *n > 1 => Some(*n),
                        _ => None,
                    };
                    if let Some(divisor) = node.inputs.get(1).and_then(scalar) {
                        return Some(divisor);
                    }
                }
                earlier.extend(node.inputs.iter().map(String::as_str));
            }
            next = earlier;
            if next.len() > 64 {
                return None;
            }
        }
        None
    }
}

struct Tensor {
    name: String,
    integers: Option<Vec<i64>>,
    external: Option<String>,
}

impl Tensor {
    fn read(bytes: &[u8]) -> Result<Tensor, OnnxError> {
        const INT32: u64 = 6;
        const INT64: u64 = 7;
        let (mut name, mut kind, mut raw, mut external) = (String::new(), 0, None, None);
        let mut listed = Vec::new();
        for field in Fields(bytes) {
            match field? {
                (2, Value::Number(n)) => kind = n,
                (5 | 7, Value::Number(n)) => listed.push(n as i64),
                (5 | 7, Value::Bytes(b)) => {
                    let mut rest = b;
                    while !rest.is_empty() {
                        listed.push(varint(&mut rest)? as i64);
                    }
                }
                (8, Value::Bytes(b)) => name = text(b),
                (9, Value::Bytes(b)) => raw = Some(b),
                (13, Value::Bytes(b)) => {
                    let mut fields = [String::new(), String::new()];
                    for field in Fields(b) {
                        if let (number @ 1..=2, Value::Bytes(b)) = field? {
                            fields[number as usize - 1] = text(b);
                        }
                    }
                    if fields[0] == "location" {
                        external = Some(std::mem::take(&mut fields[1]));
                    }
                }
                _ => {}
            }
        }
        let words = |size: usize| raw.unwrap_or_default().chunks_exact(size);
        let integers = match kind {
            INT64 if raw.is_some() => {
                Some(words(8).filter_map(|w| w.try_into().ok().map(i64::from_le_bytes)).collect())
            }
            INT32 if raw.is_some() => {
                Some(words(4).filter_map(|w| w.try_into().ok().map(|w| i64::from(i32::from_le_bytes(w)))).collect())
            }
            INT32 | INT64 => Some(listed),
            _ => None,
        };
        Ok(Tensor { name, integers, external })
    }
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, in order.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), OnnxError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, Value<'a>), OnnxError> {
        let key = varint(&mut self.0)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut self.0)?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = usize::try_from(varint(&mut self.0)?).map_err(|_| OnnxError::Damaged("a length"))?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return Err(OnnxError::Damaged("a field's type")),
        };
        Ok((key >> 3, value))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], OnnxError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(OnnxError::Damaged("it ends within a field"))?;
        self.0 = rest;
        Ok(taken)
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64, OnnxError> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(OnnxError::Damaged("it ends within a number"))?;
        *bytes = rest;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(OnnxError::Damaged("a number"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_models_graph_is_read() {
        let bytes = std::fs::read(crate::perception::model_dir(None).join("model.onnx")).unwrap();
        let model = Model::read(&bytes).unwrap();
        assert_eq!(model.producer, "pytorch");
        assert!(model.opsets[""] >= 11 && model.has_op("Conv") && !model.has_op("NonMaxSuppression"));
        assert!(model.maker("output0").is_some() && model.external.is_none());
    }

    #[test]
    fn whatever_the_bytes_are_it_ends_with_an_answer() {
        let bytes = std::fs::read(crate::perception::model_dir(None).join("model.onnx")).unwrap();
        for length in [0, 1, 2, 10, 100, 1000, bytes.len() / 2, bytes.len() - 1] {
            assert!(Model::read(&bytes[..length]).is_err(), "{length}");
        }
        assert!(Model::read(b"GIF89a, or some other text").is_err());
        assert!(Model::read(&[0xFF; 64]).is_err());
    }
}
