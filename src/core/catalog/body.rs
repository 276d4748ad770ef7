//! What the body of a routine looks up along the search_path.

use super::Oid;
use std::collections::HashSet;
use std::rc::Rc;

/// What the body of a routine looks up along the search_path, as far as that does not depend on
/// data. Routines without a search_path that it calls, also as triggers, are included: they are
/// executed with the same search_path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    /// The names that schemas other than `pg_catalog` contain.
    pub names: Vec<BodyName>,
    /// The names of the temporary relations that the body creates.
    pub temporary: HashSet<String>,
    /// Whether the body may create objects in the first schema of the search_path, or read which
    /// one that is.
    pub creates: bool,
    /// Whether the body may look up names that are not in its text.
    pub runs_text: bool,
}

impl Body {
    /// Whether it does the same along every search_path.
    #[must_use]
    pub fn is_independent(&self) -> bool {
        self.names.is_empty() && !self.creates && !self.runs_text
    }
}

/// A name in the body of a routine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyName {
    /// The kind of the objects.
    pub kind: NameKind,
    /// The name.
    pub name: String,
    /// The objects of this kind and name in all schemas.
    pub objects: Rc<[Named]>,
}

/// An object that a name can stand for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named {
    /// Its schema.
    pub schema: Oid,
    /// The argument types of a routine or operator; empty for others. Objects with the same
    /// arguments hide each other.
    pub arguments: Vec<Oid>,
}

/// The kind of an object with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum NameKind {
    Relation,
    Function,
    Procedure,
    Type,
    Operator,
    Collation,
    TextSearchConfiguration,
    TextSearchDictionary,
}

impl NameKind {
    /// Returns the word for an object of this kind in a message.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relation => "relation",
            Self::Function => "function",
            Self::Procedure => "procedure",
            Self::Type => "type",
            Self::Operator => "operator",
            Self::Collation => "collation",
            Self::TextSearchConfiguration => "text search configuration",
            Self::TextSearchDictionary => "text search dictionary",
        }
    }
}
