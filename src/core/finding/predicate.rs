//! Sentences about one grantee or several.

use crate::sql::{listed, printable};

/// The verb of a sentence about grantees.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verb {
    /// They have something.
    Has,
    /// They do not have something.
    Lacks,
    /// They are the object of this subject and verb, such as `Policy p on table t allows`.
    Of(String),
}

/// What a sentence says about grantees: `has`, and `EXECUTE on function f(), which the contract
/// does not declare.`; or `Policy p on table t allows`, and `to SELECT, ...`. The text tells how
/// they have a privilege, and differs where that differs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Predicate {
    /// The verb.
    pub verb: Verb,
    /// The rest of the text, with the period.
    pub rest: String,
}

impl Predicate {
    /// Returns the sentence about one grantee, PUBLIC or a role.
    #[must_use]
    pub fn of_one(&self, name: &str, is_to_public: bool) -> String {
        let name = format!("\"{}\"", printable(name));
        let (verb, rest) = (&self.verb, &self.rest);
        let grantee = if is_to_public { PUBLIC.to_owned() } else { format!("role {name}") };
        match verb {
            Verb::Has => format!("{} has {rest}", capitalized(&grantee)),
            Verb::Lacks => format!("{} does not have {rest}", capitalized(&grantee)),
            Verb::Of(subject) => format!("{subject} {grantee} {rest}"),
        }
    }

    /// Returns the sentence about PUBLIC, if `is_to_public`, and these roles.
    #[must_use]
    pub fn of_several(&self, is_to_public: bool, roles: &[&str]) -> String {
        let names: Vec<String> =
            roles.iter().map(|name| format!("\"{}\"", printable(name))).collect();
        let names = listed(&names);
        let (verb, rest) = (&self.verb, &self.rest);
        let grantees = match (is_to_public, roles) {
            (false, _) => format!("roles {names}"),
            (true, [_]) => format!("{PUBLIC} and role {names}"),
            (true, _) => format!("{PUBLIC} and roles {names}"),
        };
        match verb {
            Verb::Has => format!("{} have {rest}", capitalized(&grantees)),
            Verb::Lacks => format!("{} do not have {rest}", capitalized(&grantees)),
            Verb::Of(subject) => format!("{subject} {grantees} {rest}"),
        }
    }
}

/// Returns a text that begins with an upper-case letter.
fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// PUBLIC as a part of a sentence.
const PUBLIC: &str = "PUBLIC (every role)";
