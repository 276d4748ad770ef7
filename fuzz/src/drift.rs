//! Snapshots of schemas: any text is a snapshot or has an error with its place, a snapshot that is
//! written is read again, and two have the same fingerprint exactly if no difference is found.

use super::input::text;
use dragonfly_core::drift::{Snapshot, compare, read as read_document};
use dragonfly_core::sql::is_unprintable;

/// The longest message, in bytes.
const LONGEST: usize = 4_000;

/// Checks the properties: the input is one document, or two with a line `---` between them.
pub fn check(input: &[u8]) {
    let text = text(input);
    let (first, second) = text.split_once("\n---\n").unwrap_or((&text, "{}"));
    let (Some(first), second) = (one(first), one(second)) else { return };
    let second = second.unwrap_or_default();
    let differences = [compare(&first, &second), compare(&second, &first)];
    for differences in &differences {
        let is_same = first.fingerprint() == second.fingerprint();
        assert_eq!(differences.is_empty(), is_same, "{first:?} {second:?}");
    }
}

/// Checks one document, and returns the snapshot.
fn one(document: &str) -> Option<Snapshot> {
    let snapshot = match read_document(document, &|| {}) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            assert!(error.starts_with('$'), "{error}");
            assert!(error.contains(": "), "{error}");
            assert!(!error.chars().any(is_unprintable), "{error:?}");
            assert!(error.len() <= LONGEST, "{} bytes: {error:.300}", error.len());
            return None;
        }
    };
    let written = serde_json::to_string(&snapshot).expect("a snapshot is JSON");
    assert_eq!(read_document(&written, &|| {}).as_ref(), Ok(&snapshot), "{written}");
    assert_eq!(compare(&snapshot, &snapshot), []);
    let mut sorted = snapshot.clone();
    sorted.sort();
    assert_eq!(sorted.fingerprint(), snapshot.fingerprint());
    assert_eq!(compare(&snapshot, &sorted), []);
    let all = snapshot.clone().within(&snapshot.schemas);
    assert!(all.objects.len() <= snapshot.objects.len());
    Some(snapshot)
}

/// Executes the functions on a text of any size.
pub fn read(text: &str) {
    let _ = read_document(text, &|| {});
    let name = serde_json::Value::from(text);
    let object =
        format!(r#"{{"type": {name}, "object": {name}, "properties": {{{name}: {name}}}}}"#);
    let document =
        format!(r#"{{"format": 1, "server": 150004, "schemas": [{name}], "objects": [{object}]}}"#);
    let snapshot = read_document(&document, &|| {}).expect("a snapshot");
    let _ = (snapshot.fingerprint(), compare(&snapshot, &Snapshot::default()));
    let _ = read_document(&document.replace("150004", &document), &|| {});
    let _ = read_document(&document.replace("\"type\"", &name.to_string()), &|| {});
}
