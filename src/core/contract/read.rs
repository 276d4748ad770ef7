//! Parses JSON text and reports every duplicate field of an object. JSON parsers silently use the
//! last of them, while a reviewer of the document may have read the first.

use super::problem::{Path, Problems};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::RefCell;
use std::fmt;

/// Reads JSON text.
///
/// # Errors
/// If the text is not JSON: the error of serde_json, with line and column.
pub fn read(text: &str, problems: &mut Problems<'_>) -> Result<Value, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    let problems = RefCell::new(problems);
    let value = Reader { path: &Path::Root, problems: &problems }.deserialize(&mut json)?;
    json.end()?;
    Ok(value)
}

struct Reader<'r, 'p, 'i> {
    path: &'r Path<'r>,
    problems: &'r RefCell<&'p mut Problems<'i>>,
}

impl Reader<'_, '_, '_> {
    /// Reports U+0000, which jsonb cannot store.
    fn text(&self, text: &str) {
        if text.contains('\0') {
            self.problems.borrow_mut().error(
                self.path,
                "text contains \\u0000",
                "text without \\u0000".to_owned(),
            );
        }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_, '_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_, '_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, bool: bool) -> Result<Value, E> {
        Ok(bool.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        self.text(text);
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = items.next_element_seed(Reader {
            path: &self.path.item(list.len()),
            problems: self.problems,
        })? {
            list.push(value);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let path = self.path.field(&name);
            let reader = Reader { path: &path, problems: self.problems };
            reader.text(&name);
            let value = fields.next_value_seed(reader)?;
            if object.contains_key(&name) {
                let allowed = "one field of each name".to_owned();
                self.problems.borrow_mut().error(&path, "duplicate field", allowed);
            }
            object.insert(name, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let mut problems = Problems::new(&|| {});
        match read(text, &mut problems) {
            Ok(_) => problems.into_vec().iter().map(ToString::to_string).collect(),
            Err(e) => vec![e.to_string()],
        }
    }

    #[test]
    fn duplicate_field_is_reported_at_any_depth() {
        let twice =
            |path: &str| format!("{path}: duplicate field; allowed: one field of each name");
        assert_eq!(
            problems(r#"{"a": [1, {"b c": 1, "b c": -2.5}], "a": null}"#),
            [twice("$.a[1].\"b c\""), twice("$.a")]
        );
        assert_eq!(problems(r#"{"a": {"b": true}, "c": {"b": 1}}"#), [""; 0]);
        assert_eq!(
            problems(r#"{"a": "\u0000"}"#),
            ["$.a: text contains \\u0000; allowed: text without \\u0000"]
        );
    }

    #[test]
    fn invalid_json_is_an_error_with_line_and_column() {
        assert_eq!(
            problems(r#"{"a": "\ud800"}"#),
            ["unexpected end of hex escape at line 1 column 14"]
        );
        assert_eq!(
            problems(&"[".repeat(100_000)),
            ["recursion limit exceeded at line 1 column 128"]
        );
        assert_eq!(problems("{}\n{}"), ["trailing characters at line 2 column 1"]);
    }

    proptest::proptest! {
        #[test]
        fn result_equals_that_of_serde_json(
            text in r#"([\[\]{},:"a0-9. ]|"a"|null|true|\\u[0-9a-f]{4}|[^\x00]){0,30}"#
        ) {
            let expected = serde_json::from_str::<Value>(&text).map_err(|e| e.to_string());
            let actual = read(&text, &mut Problems::new(&|| {})).map_err(|e| e.to_string());
            proptest::prop_assert_eq!(actual, expected);
        }
    }
}
