//! What the condition of a policy calls: what that costs for each row, and what it may raise.

use std::collections::BTreeSet;

/// What a condition calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calls {
    /// Calls without a column as argument that are made for each row, as people write them.
    pub per_row: BTreeSet<String>,
    /// The functions and operators that are VOLATILE.
    pub volatile: BTreeSet<String>,
    /// The functions with a column as argument that the server calls for each row: it cannot make
    /// them a part of the query.
    pub helpers: BTreeSet<String>,
    /// The SECURITY DEFINER functions that are told who the caller is, and that the role can call
    /// itself.
    pub told: BTreeSet<String>,
    /// What may raise an error.
    pub raises: BTreeSet<Raise>,
}

/// A part of a condition that may raise an error.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Raise {
    /// This parameter is asked for, and a session may not have it.
    Missing(String),
    /// This parameter is converted, and it may be empty.
    Empty(String),
    /// The user's number, a UUID, is converted to a number.
    UserAsNumber,
    /// One row of this table is expected, and no key of it says that there is only one.
    Several(String),
}

/// Columns of a table by which rows are found, none of which an index begins with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unindexed {
    /// The table.
    pub table: String,
    /// Whether it is a table that is looked up, and not the one with the policy.
    pub is_lookup: bool,
    /// The columns.
    pub columns: BTreeSet<String>,
}
