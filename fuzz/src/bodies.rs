//! Bodies of routines: a word that may be a name is found, and comments change nothing.

use super::input::text;
use dragonfly_core::sql::argument_use::{Argument, Source};
use dragonfly_core::sql::body::{Language, Mentions};

const LANGUAGES: [Language; 3] = [Language::Sql, Language::PlPgSql, Language::Other];

/// Checks the properties: the input is a body.
pub fn check(input: &[u8]) {
    let body = text(input);
    for language in LANGUAGES {
        let mentions = Mentions::of(&body, language);
        words_are_found(&body, &mentions);
        let has_comments = language != Language::Other;
        let before = ["-- a comment\n", "/* a /* nested */ comment */", " \n"];
        for before in before.iter().filter(|_| has_comments) {
            let commented = format!("{before}{body}");
            assert_eq!(Mentions::of(&commented, language), mentions, "{commented}");
            assert_eq!(executes(&commented, language), executes(&body, language), "{commented}");
        }
        let (quoted, tag) = (&body, "$of_this_test$");
        if has_comments && !body.contains(tag) {
            // Within a literal, it is SQL text that the body may execute.
            let mentions = Mentions::of(&format!("SELECT {tag}{quoted}{tag}"), language);
            words_are_found(&body, &mentions);
        }
    }
    // An argument that is cast, whatever follows.
    let cast = format!("SELECT a::text; {body}");
    assert!(executes(&cast, Language::Sql).is_some(), "{cast}");
}

/// Each word of a text without quotes and comments is a name, as long as the server does not
/// truncate it.
fn words_are_found(body: &str, mentions: &Mentions) {
    if body.contains(['\'', '"', '$', '-', '/', '\\', '&', '%']) || !body.is_ascii() {
        return;
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for word in body.split(|c| !is_part(c)).map(str::to_ascii_lowercase) {
        let is_name = word.len() > 3
            && word.len() < 64
            && word.starts_with(|c: char| c.is_ascii_alphabetic())
            // No keyword has two underscores.
            && word.matches('_').count() > 1;
        let is_found =
            || mentions.words.contains_key(&word) || mentions.qualified.contains_key(&word);
        assert!(!is_name || is_found(), "{word} in {body}");
    }
}

/// Returns what a body does with an argument `a`, the first, or `b`, a record.
fn executes(text: &str, language: Language) -> Option<String> {
    let argument =
        |name: &str, position, is_record| Argument { name: name.into(), position, is_record };
    let arguments = [argument("a", 1, false), argument("b", 2, true)];
    let arguments = &arguments;
    Source { text, language, routine: "f", arguments, has_fixed_result: true }.executes()
}

/// Executes the functions on a text of any size.
pub fn read(text: &str) {
    for language in LANGUAGES {
        let _ = Mentions::of(text, language);
        let _ = executes(text, language);
    }
    // A routine with the name of its argument.
    let arguments = [Argument { name: "a".into(), position: 1, is_record: true }];
    for has_fixed_result in [false, true] {
        let language = Language::PlPgSql;
        let source =
            Source { text, language, routine: "a", arguments: &arguments, has_fixed_result };
        let _ = source.executes();
    }
}
