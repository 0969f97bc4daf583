//! Comma-separated values, RFC 4180. By hand, because a quote that is never closed must cost its own row and not all that
//! follow it.

use std::collections::VecDeque;
use std::io::BufRead;

use anyhow::{Context, anyhow};

/// A quoted field holds no more line breaks than that; a quote that is open for longer was forgotten.
const MAX_SPAN: usize = 50;

/// The rows of a table, each with the number of the line that it begins in.
pub struct Rows<R> {
    source: R,
    /// Lines that were read ahead for a quote that did not close.
    ahead: VecDeque<Vec<u8>>,
    /// How many were taken.
    taken: usize,
}

/// The fields of a row.
#[derive(Debug, PartialEq)]
pub struct Fields {
    pub line: usize,
    pub fields: Vec<String>,
    /// A quote opens in it and does not close: only its first line is here.
    pub open: bool,
}

impl<R: BufRead> Rows<R> {
    pub fn new(source: R) -> Self {
        Self { source, ahead: VecDeque::new(), taken: 0 }
    }

    /// The next row; none at the end.
    pub fn next(&mut self) -> anyhow::Result<Option<Fields>> {
        let Some(mut bytes) = self.line()? else { return Ok(None) };
        let line = self.taken;
        let mut open_fields = None;
        let mut more = Vec::new();
        loop {
            let text =
                std::str::from_utf8(&bytes).map_err(|_| anyhow!("line {line} is not UTF-8: save it as CSV UTF-8"))?;
            let (fields, open) = split(text);
            if !open {
                return Ok(Some(Fields { line, fields, open }));
            }
            let first = open_fields.get_or_insert(fields);
            let next = if more.len() < MAX_SPAN { self.line()? } else { None };
            let Some(next) = next else {
                let fields = std::mem::take(first);
                self.taken -= more.len();
                more.into_iter().rev().for_each(|line| self.ahead.push_front(line));
                return Ok(Some(Fields { line, fields, open }));
            };
            bytes.push(b'\n');
            bytes.extend_from_slice(&next);
            more.push(next);
        }
    }

    fn line(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        match self.ahead.pop_front() {
            Some(before) => line = before,
            None => {
                if self.source.read_until(b'\n', &mut line).context("it cannot be read")? == 0 {
                    return Ok(None);
                }
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
            }
        }
        self.taken += 1;
        Ok(Some(line))
    }
}

/// The fields of one line, and whether its last field's quote is still open.
pub fn split(line: &str) -> (Vec<String>, bool) {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.trim_end_matches('\r').chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                push(&mut fields, '"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => push(&mut fields, c),
        }
    }
    (fields, quoted)
}

fn push(fields: &mut [String], c: char) {
    if let Some(last) = fields.last_mut() {
        last.push(c);
    }
}

pub fn quote(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

pub fn join(fields: &[String]) -> String {
    fields.iter().map(|f| quote(f)).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<(usize, String, bool)> {
        let mut rows = Rows::new(text.as_bytes());
        let next = || rows.next().unwrap().map(|row| (row.line, row.fields.join("|"), row.open));
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn a_quoted_field_may_hold_line_breaks_commas_and_quotes_and_comes_back_as_it_was() {
        let text = "a,b\r\n\"x, \"\"y\"\"\nz\",2\r\n3,4";
        assert_eq!(
            rows(text),
            [(1, "a|b".to_owned(), false), (2, "x, \"y\"\nz|2".to_owned(), false), (4, "3|4".to_owned(), false)]
        );
        assert_eq!(join(&["x, \"y\"\nz".to_owned(), "2".to_owned()]), "\"x, \"\"y\"\"\nz\",2");
    }

    #[test]
    fn a_quote_that_never_closes_costs_its_own_row_alone() {
        let text = format!("\"a,1\n{}", "b,2\n".repeat(3));
        let found = rows(&text);
        assert_eq!(found[0], (1, "a,1".to_owned(), true));
        assert_eq!(found[1..], [2, 3, 4].map(|line| (line, "b|2".to_owned(), false)));
        let long = rows(&format!("\"a,1\n{}\"", "b,2\n".repeat(MAX_SPAN + 5)));
        assert!(long[0].2 && long[1] == (2, "b|2".to_owned(), false) && long.len() == MAX_SPAN + 7, "{}", long.len());
    }
}
