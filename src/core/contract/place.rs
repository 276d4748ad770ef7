//! Names the declaration and the line at which a problem is. A path such as `$.tables[41].grants`
//! says neither to a person.

use super::problem::{Step, shown};
use crate::sql::{argument_types, printable, safe_ident, safe_qualified};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Returns the name of the declaration at a path or around it: `app.plans` for
/// `$.tables[4].grants`, `anon` for `$.roles[0].kind` and `$.trusted_roles[1]`; `None` where there
/// is none.
pub fn object(document: &Value, steps: &[Step]) -> Option<String> {
    let element = match steps {
        [Step::Field(list), Step::Item(i), ..] => &document[list.as_str()][i],
        [Step::Field(of), Step::Field(list), Step::Item(i)] if of == "managed" => {
            &document["managed"][list.as_str()][i]
        }
        _ => return None,
    };
    declared_name(element).map(|name| printable(&name).into_owned())
}

/// Returns the name of a declaration: `app.plans`, `api.f(bigint)`, `anon`; `None` if it has none.
pub fn declared_name(declaration: &Value) -> Option<String> {
    let text = |field: &str| declaration[field].as_str().map(shown);
    let name = match (text("schema"), text("name").or_else(|| declaration.as_str().map(shown))?) {
        (Some(schema), name) => safe_qualified(&schema, &name),
        (None, name) => safe_ident(&name).into_owned(),
    };
    Some(match text("arguments") {
        Some(arguments) => {
            format!("{name}({})", printable(&argument_types(&arguments).join(", ")))
        }
        None => name,
    })
}

/// Returns the line of each path in JSON text, from 1: the last line where it occurs, or else that
/// of the nearest value around it. The text must be valid JSON.
pub fn lines(text: &str, paths: &[&[Step]], interrupts: &dyn Fn()) -> Vec<usize> {
    let lines = vec![1; paths.len()];
    let mut scan = Scan { text: text.as_bytes(), at: 0, line: 1, lines, interrupts };
    scan.value(&paths.iter().copied().enumerate().collect::<Vec<_>>());
    scan.lines
}

/// The lists of a contract whose elements are declarations of objects and roles.
const LISTS: [&str; 6] = ["roles", "schemas", "tables", "views", "sequences", "functions"];

/// Returns the line of each declaration in the text of a contract, from 1, by its list and its
/// name: `("tables", "app.plans")`. Routines are named without arguments; of several declarations
/// with one name, the first one counts.
#[must_use]
pub fn declaration_lines(text: &str) -> HashMap<(&'static str, String), usize> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Ok(document) = serde_json::from_str::<Value>(text) else { return HashMap::new() };
    let (mut names, mut paths) = (Vec::new(), Vec::new());
    for list in LISTS {
        for (element, i) in document[list].as_array().into_iter().flatten().zip(0..) {
            let without_arguments = json!({"schema": element["schema"], "name": element["name"]});
            if let Some(name) = declared_name(&without_arguments) {
                names.push((list, name));
                paths.push([Step::field(list), Step::Item(i)]);
            }
        }
    }
    let paths: Vec<&[Step]> = paths.iter().map(<[Step; 2]>::as_slice).collect();
    let mut found = HashMap::new();
    for (name, line) in names.into_iter().zip(lines(text, &paths, &|| {})) {
        found.entry(name).or_insert(line);
    }
    found
}

/// A path that is still to be found, with its index: the steps below the current value.
type Wanted<'s> = (usize, &'s [Step]);

struct Scan<'t> {
    text: &'t [u8],
    /// The position, in bytes.
    at: usize,
    /// The line of the position.
    line: usize,
    lines: Vec<usize>,
    interrupts: &'t dyn Fn(),
}

impl<'t> Scan<'t> {
    /// Consumes a value, and records the lines of the paths in it. JSON that was read is not nested
    /// deeper than 128 levels.
    fn value(&mut self, wanted: &[Wanted<'_>]) {
        self.white_space();
        self.record(wanted);
        match self.text.get(self.at) {
            Some(b'{') => self.elements(wanted, true),
            Some(b'[') => self.elements(wanted, false),
            Some(b'"') => {
                self.string();
            }
            _ => {
                let is_end = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t'..=b'\r');
                let rest = self.text.get(self.at..).unwrap_or_default();
                self.at += rest.iter().position(is_end).unwrap_or(rest.len());
            }
        }
    }

    /// Consumes an object or an array.
    fn elements(&mut self, wanted: &[Wanted<'_>], is_object: bool) {
        (self.interrupts)();
        let mut below: HashMap<&Step, Vec<Wanted<'_>>> = HashMap::new();
        for (path, steps) in wanted {
            if let Some((first, rest)) = steps.split_first() {
                below.entry(first).or_default().push((*path, rest));
            }
        }
        self.at += 1;
        for i in 0.. {
            self.white_space();
            match self.text.get(self.at) {
                Some(b'}' | b']') => {
                    self.at += 1;
                    return;
                }
                Some(b',') => {
                    self.at += 1;
                    self.white_space();
                }
                Some(_) => {}
                None => return,
            }
            let name = is_object.then(|| self.name());
            let wanted = if below.is_empty() {
                None
            } else {
                let step = name.map_or(Step::Item(i), |name| {
                    Step::field(&serde_json::from_slice::<String>(name).unwrap_or_default())
                });
                below.get(&step)
            };
            let wanted = wanted.map_or(&[][..], Vec::as_slice);
            self.record(wanted);
            self.value(wanted);
        }
    }

    /// Consumes the name of a field and the colon. Returns the name as JSON.
    fn name(&mut self) -> &'t [u8] {
        let name = self.string();
        self.white_space();
        self.at += 1;
        name
    }

    /// Consumes a string and returns it with its quotes. It has no line breaks.
    fn string(&mut self) -> &'t [u8] {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.text.get(self.at) {
            self.at += match byte {
                b'\\' => 2,
                b'"' => break,
                _ => 1,
            };
        }
        self.at += 1;
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn white_space(&mut self) {
        while let Some(byte @ (b' ' | b'\t' | b'\r' | b'\n')) = self.text.get(self.at) {
            self.line += usize::from(*byte == b'\n');
            self.at += 1;
        }
    }

    fn record(&mut self, wanted: &[Wanted<'_>]) {
        for (path, _) in wanted {
            self.lines[*path] = self.line;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(steps: &[Value]) -> Vec<Step> {
        let step = |step: &Value| match step.as_str() {
            Some(name) => Step::field(name),
            None => Step::Item(step.as_u64().unwrap() as usize),
        };
        steps.iter().map(step).collect()
    }

    #[test]
    fn declarations_are_named() {
        let document = json!({
            "trusted_roles": ["Eve"],
            "tables": [{"schema": "app", "name": "plans", "grants": {"anon": ["FLY"]}}, {}],
            "functions": [{"schema": "api", "name": "f", "arguments": "text,int"}],
            "managed": {"roles": ["pg_*", 1]},
            "rules": {"x": {}}
        });
        let named = |steps: &[Value]| object(&document, &path(steps));
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(
            named(&[json!("tables"), json!(0), json!("grants"), json!("anon"), json!(0)]),
            some("app.plans")
        );
        assert_eq!(named(&[json!("tables"), json!(1)]), None);
        assert_eq!(named(&[json!("tables"), json!(7)]), None);
        assert_eq!(named(&[json!("functions"), json!(0), json!("x")]), some("api.f(text, int)"));
        assert_eq!(named(&[json!("trusted_roles"), json!(0)]), some("\"Eve\""));
        assert_eq!(named(&[json!("managed"), json!("roles"), json!(0)]), some("\"pg_*\""));
        assert_eq!(named(&[json!("managed"), json!("roles"), json!(1)]), None);
        assert_eq!(named(&[json!("rules"), json!("x"), json!("y")]), None);
        assert_eq!(named(&[]), None);
    }

    #[test]
    fn declarations_have_lines() {
        let text = "{\"tables\": [\n {\"schema\": \"app\", \"name\": \"Plans\"}, {},\n 1],\n\
                    \"roles\": [{\"name\": \"app\"}], \"functions\": [\n\
                    {\"schema\": \"app\", \"name\": \"f\", \"arguments\": \"int\"},\n\
                    {\"schema\": \"app\", \"name\": \"f\"}]}";
        let mut found: Vec<_> = declaration_lines(text).into_iter().collect();
        found.sort();
        let of = |list, name: &str, line| ((list, name.to_owned()), line);
        let functions = of("functions", "app.f", 5);
        assert_eq!(found, [functions, of("roles", "app", 4), of("tables", "app.\"Plans\"", 2)]);
        assert!(declaration_lines("[1,").is_empty());
    }

    #[test]
    fn line_of_a_path_is_found() {
        let text = "{\n \"a\": [1,\n  {\"b\\u0020c\": [], \"d\": \"}\\\"\",\n\n\
                    \"d\":\t-1.5e7}],\r\n\"e\" \n: null}";
        assert!(serde_json::from_str::<Value>(text).is_ok());
        let line = |steps: &[Value]| lines(text, &[&path(steps)], &|| {})[0];
        assert_eq!(line(&[]), 1);
        assert_eq!(line(&[json!("a")]), 2);
        assert_eq!(line(&[json!("a"), json!(0)]), 2);
        assert_eq!(line(&[json!("a"), json!(1)]), 3);
        assert_eq!(line(&[json!("a"), json!(1), json!("b c"), json!(9)]), 3);
        assert_eq!(line(&[json!("a"), json!(1), json!("d")]), 5, "the last of two");
        assert_eq!(line(&[json!("a"), json!(1), json!("missing")]), 3, "that of the object");
        assert_eq!(line(&[json!("e")]), 7, "that of the value");
        assert_eq!(line(&[json!("missing")]), 1);
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_lines(text in r#"([\[\]{},:"\\a\n. é]|"a"|null){0,40}"#) {
            let steps = path(&[json!("a"), json!(0), json!("a")]);
            let line = lines(&text, &[&steps], &|| {})[0];
            proptest::prop_assert!(line >= 1 && line <= 1 + text.matches('\n').count());
        }
    }
}
