//! Unique keys: a duplicate is an error, which tells that there is another row.

use super::Oid;

/// A unique index on columns alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueKey {
    /// The table.
    pub relation: Oid,
    /// The name of the index.
    pub index: String,
    /// The names of the columns.
    pub columns: Vec<String>,
    /// Whether it is a number that says nothing of a row: one of its columns is a UUID or an
    /// identity column, or it is the primary key and has integers only.
    pub is_number: bool,
}
