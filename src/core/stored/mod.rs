//! Expressions and queries that the server has stored as `pg_node_tree`: conditions of policies,
//! views, SQL bodies, defaults, CHECK constraints.
//!
//! [`expression`] and [`query`] read the text of PostgreSQL 13 to 18 into typed trees. Names are
//! resolved in them: columns are numbers of range table entries, functions and operators are OIDs.
//! What is not known is [`Expression::Unknown`] with the name of its node; a text that is no tree
//! at all is [`Unreadable`].

mod executed;
mod parts;
mod read;
mod requires;
mod text;
mod tree;
mod updatable;

pub use executed::{Executed, executed};
pub use read::{expression, expressions, queries, query};
pub use requires::{OfView, OnRelation, Requires, requires, requires_of_list, requires_of_view};
pub use text::Unreadable;
pub use tree::{
    BooleanTest, Branch, Column, Command, Constant, Expression, FromItem, JoinKind, Link, Logic,
    OnConflict, Parameter, Query, Range, RangeEntry, SetOperation, SetOperator, SqlValue, Target,
};
pub use updatable::{Updatable, updatable};

#[cfg(test)]
mod tests;

/// Returns the OIDs in a field of the nodes of a stored expression; `None` for what is none.
pub fn oids_in(text: &str, field: &str) -> impl Iterator<Item = Option<crate::catalog::Oid>> {
    text.split(field).skip(1).map(|rest| rest.split(' ').next()?.parse().ok())
}
