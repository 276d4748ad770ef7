//! Cursors in PL/pgSQL bodies: a body that fetches from a cursor of its caller is recognized.

use super::input::text;
use dragonfly_core::sql::body::Language;
use dragonfly_core::sql::cursor_use::{Continues, continues};

/// The argument of type refcursor.
const ARGUMENT: (&str, usize) = ("c", 1);

/// Checks the properties: the input is a body.
pub fn check(input: &[u8]) {
    let body = text(input);
    assert_eq!(continues(&body, Language::Sql, ARGUMENT), Continues::No);
    assert_eq!(continues(&body, Language::Other, ARGUMENT), Continues::Unknown);
    let found = continues(&body, Language::PlPgSql, ARGUMENT);
    for before in ["-- a comment\n", "/* a comment */", " \n\t"] {
        assert_eq!(continues(&format!("{before}{body}"), Language::PlPgSql, ARGUMENT), found);
    }
    let lower = body.to_ascii_lowercase();
    // In a literal, quotes of the statement are doubled, and escapes can stand for letters.
    let mentions = |word: &str| lower.contains(word);
    if !mentions("fetch") && !mentions("move") {
        assert_eq!(found, Continues::No, "{body}");
    }
    // A statement before all others fetches from the cursor, whatever follows.
    if !["open", "cursor"].iter().any(|word| mentions(word)) {
        for fetch in ["FETCH c INTO x;", "MOVE NEXT FROM $1;", "fetch \"c\" into x;"] {
            let body = format!("BEGIN {fetch} {body}");
            assert!(
                matches!(continues(&body, Language::PlPgSql, ARGUMENT), Continues::Yes(_)),
                "{body}"
            );
        }
    }
}

/// Executes the functions on a text of any size.
pub fn read(text: &str) {
    let _ = continues(text, Language::PlPgSql, ARGUMENT);
    let _ = continues(text, Language::PlPgSql, ("", 1));
}
