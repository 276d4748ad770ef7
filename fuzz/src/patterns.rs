//! Patterns of names: they match what a simple matcher matches.

use super::input::{first_line, stored_text};
use dragonfly_core::contract::Contract;
use dragonfly_core::exemptions::{matches, object_name};
use std::sync::LazyLock;

/// A contract that declares nothing.
static CONTRACT: LazyLock<Contract> = LazyLock::new(|| {
    let document = r#"{"name": "c", "version": "1.0.0", "roles": [], "schemas": [],
        "security_definer": {"search_path": ["pg_temp"]}}"#;
    Contract::from_json(document).expect("a contract")
});

/// The longest pattern and text that the simple matcher reads, in characters.
const LONGEST: usize = 300;

/// Checks the properties: the first line of the input is a pattern, and the rest is a text.
pub fn check(input: &[u8]) {
    let input = stored_text(input);
    let (pattern, text) = first_line(&input);
    assert!(text.contains(object_name(text)));
    let text: String = text.chars().take(LONGEST).collect();
    let pattern: String = pattern.chars().take(LONGEST).collect();
    assert_eq!(matches(&pattern, &text), simple(&pattern, &text), "{pattern:?} {text:?}");
    let escaped: String = text.chars().flat_map(|c| ['\\', c]).collect();
    assert!(matches(&escaped, &text) && matches(&format!("{escaped}*"), &text));
    assert_eq!(is_managed(&pattern, &text), is_managed_simply(&pattern, &text));
}

/// Whether a pattern of exemptions matches: for each end of the pattern, the ends of the text that
/// it matches, from the shortest to the longest.
fn simple(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => tokens.push((chars.next().unwrap_or('\\'), true)),
            c => tokens.push((c, false)),
        }
    }
    // Whether the tokens so far match the end of the text from each position.
    let mut ends = vec![false; text.len() + 1];
    ends[text.len()] = true;
    for (c, is_escaped) in tokens.into_iter().rev() {
        let is_any = c == '*' && !is_escaped;
        let is_one = c == '?' && !is_escaped;
        let mut longer = vec![false; text.len() + 1];
        for at in (0..=text.len()).rev() {
            let further = at < text.len();
            longer[at] = if is_any {
                ends[at] || (further && longer[at + 1])
            } else {
                further && ends[at + 1] && (is_one || text[at] == c)
            };
        }
        ends = longer;
    }
    ends[0]
}

/// Whether a pattern of managed schemas matches a schema of a superuser.
fn is_managed(pattern: &str, name: &str) -> bool {
    let mut contract = CONTRACT.clone();
    contract.managed.schemas = vec![pattern.to_owned()];
    contract.manages_schema(name, true)
}

fn is_managed_simply(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    match pattern {
        [prefix @ .., b'*'] => name.len() >= prefix.len() && name[..prefix.len()] == *prefix,
        whole => whole == name,
    }
}

/// Executes the functions on a text of any size.
pub fn read(text: &str) {
    let half: String = text.chars().take(text.chars().count() / 2).collect();
    for pattern in [text, &format!("*{half}"), &format!("*{half}?"), &format!("{half}*x")] {
        let _ = matches(pattern, text);
    }
    let _ = object_name(text);
}
