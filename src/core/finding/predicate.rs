//! Sentences about one grantee or several.

use crate::sql::{listed, printable};

/// The verb of a sentence about grantees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// They have something.
    Has,
    /// They do not have something.
    Lacks,
}

impl Verb {
    fn singular(self) -> &'static str {
        match self {
            Self::Has => "has",
            Self::Lacks => "does not have",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Has => "have",
            Self::Lacks => "do not have",
        }
    }
}

/// What a sentence says about grantees: `has`, and `EXECUTE on function f(), which the contract
/// does not declare.` The text tells how they have a privilege, and differs where that differs.
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
        let subject =
            if is_to_public { PUBLIC.to_owned() } else { format!("Role \"{}\"", printable(name)) };
        format!("{subject} {} {}", self.verb.singular(), self.rest)
    }

    /// Returns the sentence about PUBLIC, if `is_to_public`, and these roles.
    #[must_use]
    pub fn of_several(&self, is_to_public: bool, roles: &[&str]) -> String {
        let names: Vec<String> =
            roles.iter().map(|name| format!("\"{}\"", printable(name))).collect();
        let names = listed(&names);
        let subject = match (is_to_public, roles) {
            (false, _) => format!("Roles {names}"),
            (true, [_]) => format!("{PUBLIC} and role {names}"),
            (true, _) => format!("{PUBLIC} and roles {names}"),
        };
        format!("{subject} {} {}", self.verb.plural(), self.rest)
    }
}

/// PUBLIC as the subject of a sentence.
const PUBLIC: &str = "PUBLIC (every role)";
