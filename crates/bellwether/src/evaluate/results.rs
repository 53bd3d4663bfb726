//! The file of results: JSON that a person can read, one line a figure.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// What is shorter stands on one line.
const LINE_CHARS: usize = 240;
/// Digits of a number: more than any figure here can tell apart.
const DIGITS: usize = 6;

pub(crate) fn read(path: &Path) -> Result<Value> {
    let name = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(name)?;
    serde_json::from_str(&text).with_context(name)
}

pub(crate) fn write(path: &Path, found: &Value) -> Result<()> {
    fs::write(path, text(found)).with_context(|| path.display().to_string())
}

/// The same with every number cut to its digits.
pub(crate) fn rounded(value: Value) -> Value {
    match value {
        Value::Object(of) => {
            Value::Object(of.into_iter().map(|(key, value)| (key, rounded(value))).collect())
        }
        Value::Array(of) => Value::Array(of.into_iter().map(rounded).collect()),
        Value::Number(number) if number.is_f64() => {
            let cut = format!("{:.*e}", DIGITS - 1, number.as_f64().unwrap_or(f64::NAN));
            cut.parse::<f64>().map_or(Value::Null, Value::from)
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}

fn text(value: &Value) -> String {
    let mut text = String::new();
    push(&mut text, value, 0);
    text + "\n"
}

fn push(text: &mut String, value: &Value, depth: usize) {
    let line = value.to_string();
    let items: Vec<(String, &Value)> = match (value.as_object(), value.as_array()) {
        (Some(of), _) => {
            of.iter().map(|(key, item)| (format!("{}: ", Value::from(&**key)), item)).collect()
        }
        (_, Some(of)) => of.iter().map(|item| (String::new(), item)).collect(),
        (None, None) => Vec::new(),
    };
    if items.is_empty() || line.len() <= LINE_CHARS {
        return text.push_str(&line);
    }
    let (open, close) = if value.is_object() { ('{', '}') } else { ('[', ']') };
    text.push(open);
    for (index, (key, item)) in items.into_iter().enumerate() {
        text.push_str(if index == 0 { "\n" } else { ",\n" });
        text.push_str(&" ".repeat(depth + 1));
        text.push_str(&key);
        push(text, item, depth + 1);
    }
    text.push('\n');
    text.push_str(&" ".repeat(depth));
    text.push(close);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_reads_back_and_long_lists_have_a_line_an_item() {
        let point = json!({"at": 0.1, "false": [0.123_456_789, 1.0, 2.0], "name": "x\"y"});
        let found = rounded(json!({"points": vec![point; 9], "none": null, "count": 7}));
        assert_eq!(found["points"][0]["false"][0], 0.123_457);
        let written = text(&found);
        assert_eq!(serde_json::from_str::<Value>(&written).expect("JSON"), found);
        assert_eq!(written.lines().count(), 9 + 2 + 2 + 2, "{written}");
    }
}
