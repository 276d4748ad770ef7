//! The query in the text of a function, as a server reads it when the function is called.

use dragonfly_core::catalog::Oid;
use dragonfly_core::policy::facts::Captured;
use dragonfly_core::sql::body::Language;
use dragonfly_core::stored::Query;
use std::collections::BTreeSet;

/// Reads the texts of functions. Nothing is executed.
pub trait Texts {
    /// Whether a text could not be read because of a lock of another session.
    fn is_locked(&self) -> bool;

    /// Returns why a text in a language is not read.
    fn fault(&self, language: Language) -> &'static str;

    /// Returns the query of a function; `None` where its text is no query alone, where the server
    /// cannot read it, and where reading it could execute code.
    fn query(&self, text: &Text<'_>) -> Option<Analyzed>;

    /// Returns the statements of a function; `None` where there are others
    /// than queries and those that write rows, and as for [`Texts::query`].
    fn statements(&self, text: &Text<'_>) -> Option<Vec<Query>>;
}

/// A text as the server reads it.
pub struct Analyzed {
    /// The query.
    pub query: Query,
    /// The objects whose names the caller of the function can give to others.
    pub captured: Captured,
}

/// What a text is read with.
pub struct Text<'a> {
    /// The function.
    pub routine: Oid,
    /// Its language.
    pub language: Language,
    /// Its text.
    pub source: &'a str,
    /// The search_path that the function sets.
    pub path: Option<String>,
    /// The owner of the function.
    pub owner: Oid,
    /// Whether it is executed as its owner.
    pub is_definer: bool,
}

/// What the statements of a text name.
#[derive(Debug, Clone, Default)]
pub struct Used {
    /// The relations.
    pub relations: BTreeSet<Oid>,
    /// The functions.
    pub functions: BTreeSet<Oid>,
    /// The names of relations without a schema.
    pub unqualified: BTreeSet<String>,
}
