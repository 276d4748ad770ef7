//! What callers of a routine choose the types of, and cursors that they pass.

use super::Oid;

/// Something in a routine whose type the caller chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerTyped {
    /// How the caller chooses the type.
    pub choice: TypeChoice,
    /// The argument: its name, or `$1`. Empty for the result.
    pub name: String,
    /// The expression of the body that executes code found by the type, such as `x::text`, or the
    /// statement that continues the query of the cursor; `None` where none is recognized.
    pub executes: Option<String>,
}

/// How a caller chooses a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeChoice {
    /// The argument has a polymorphic type, or is a record: the caller can pass a value of any
    /// type.
    Any,
    /// The type of the argument belongs to this role, which can add casts and constraints to it.
    Owned(Oid),
    /// The argument names a cursor, whose query the caller has written.
    Cursor,
    /// An SQL function returns records, whose columns it converts to the types in the column
    /// definition list of the query.
    Result,
}
