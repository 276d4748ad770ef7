//! What the meaning of a stored expression depends on in the catalog.

use super::formula::Comparison;
use crate::catalog::Oid;
use crate::stored::{Expression, Query};
use std::rc::Rc;

/// The objects that a stored expression mentions. `None` stands for an object that is not there or
/// cannot be read: then nothing is known of it.
pub trait Catalog {
    /// Returns an operator.
    fn operator(&self, oid: Oid) -> Option<Operator>;
    /// Returns a function.
    fn function(&self, oid: Oid) -> Option<Rc<Function>>;
    /// Returns a column; those with negative numbers are columns of the system.
    fn column(&self, relation: Oid, number: i16) -> Option<Column>;
    /// Returns the query of a view; `None` for other relations.
    fn view(&self, relation: Oid) -> Option<Rc<Query>>;
    /// Whether texts that are equal by a collation are the same.
    fn is_deterministic(&self, collation: Oid) -> bool;
    /// Lets the user cancel what takes long. It may not return.
    fn interrupts(&self) {}
}

/// An operator.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Operator {
    pub name: String,
    /// Whether it was created with the server: schema and name of others tell nothing.
    pub is_built_in: bool,
    pub function: Oid,
    /// Whether the result is null where an operand is.
    pub is_strict: bool,
    pub is_volatile: bool,
    /// The comparison that it is in a built-in btree operator family.
    pub comparison: Option<Comparison>,
}

/// A function.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Function {
    pub name: String,
    pub is_built_in: bool,
    pub is_strict: bool,
    pub is_volatile: bool,
    pub argument_count: usize,
    /// The defaults of the last arguments.
    pub defaults: Vec<Expression>,
    pub body: Body,
}

/// What is known of the body of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    Opaque,
    /// It returns this boolean, or null.
    Constant(Option<bool>),
    /// It is one query.
    Query(Box<Query>),
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Whether it can be null in the table or in one that inherits from it.
    pub nullable: bool,
    /// The expression of a generated column.
    pub generated: Option<Rc<Expression>>,
}
