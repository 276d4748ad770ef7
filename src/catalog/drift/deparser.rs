//! Deparsing objects without keeping memory or locks.

use crate::catalog;
use crate::catalog::deparse::{
    self, Deparse, call, canonical, canonical_expression, expression_text,
};
use crate::pg::scratch::Scratch;
use crate::pg::subtransaction;
use dragonfly_core::catalog::Oid;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;

/// The relation of an expression: its OID, its qualified and quoted name, and its owner.
#[derive(Debug, Clone, Copy)]
pub struct Of<'r> {
    pub relation: Oid,
    pub name: &'r str,
    pub owner: Oid,
}

/// The text of what is nested too deeply for the server to print it.
pub const TOO_DEEP: &str = "(nested too deeply to be printed)";

/// Whether the server has rejected a query, or an expression that it deparses, because the nesting
/// exceeds `max_stack_depth`.
pub fn is_too_deep(error: &CaughtError) -> bool {
    subtransaction::report(error).sql_error_code() == PgSqlErrorCode::ERRCODE_STATEMENT_TOO_COMPLEX
}

/// The deparsing functions of the server, with memory that is reset after each call.
pub struct Deparser {
    memory: Scratch,
    /// Whether what is nested too deeply has the text [`TOO_DEEP`]. Otherwise it is an error.
    is_careful: bool,
    types: RefCell<HashMap<(Oid, i32), String>>,
}

impl Deparser {
    pub fn new(is_careful: bool) -> Self {
        Self { memory: Scratch::new(), is_careful, types: RefCell::default() }
    }

    /// Returns the result of deparsing, or [`TOO_DEEP`].
    fn text(&self, deparse: impl FnOnce() -> String) -> String {
        if !self.is_careful {
            return deparse();
        }
        match subtransaction::rolled_back(deparse) {
            Ok(text) => text,
            Err(error) if is_too_deep(&error) => TOO_DEEP.to_owned(),
            Err(error) => error.rethrow(),
        }
    }

    /// Deparses an object.
    pub fn call(&self, deparse: Deparse, object: Oid) -> String {
        self.text(|| self.memory.with(|| call(deparse, &[pg_sys::Datum::from(object)])))
    }

    /// Deparses an object by a function that acquires locks, and releases them.
    pub fn call_and_release(&self, deparse: Deparse, object: Oid) -> String {
        let write =
            || subtransaction::rolled_back(|| call(deparse, &[pg_sys::Datum::from(object)]));
        self.text(|| self.memory.with(write).unwrap_or_else(|error| error.rethrow()))
    }

    /// Returns a collation where it is not the default of the type.
    pub fn collation(&self, type_oid: Oid, collation: Oid) -> Option<String> {
        // SAFETY: a lookup in the system cache.
        let own = unsafe { pg_sys::get_typcollation(type_oid.into()) }.to_u32();
        (collation != own && collation != 0).then(|| self.named(pg_sys::regcollationout, collation))
    }

    /// Deparses an expression tree over the columns of a relation (0: of none).
    pub fn tree(&self, tree: pg_sys::Datum, relation: Oid) -> String {
        self.text(|| {
            self.memory.with(|| call(pg_sys::pg_get_expr, &[tree, pg_sys::Datum::from(relation)]))
        })
    }

    /// Deparses an expression tree in the form that it has after dump and restore.
    pub fn expression(&self, tree: pg_sys::Datum, of: Of<'_>) -> String {
        let text = self.tree(tree, of.relation);
        self.reparsed(text, of.owner, |text| canonical_expression(text, of.name, of.relation))
    }

    /// Deparses the query of a view.
    pub fn view(&self, view: Of<'_>) -> String {
        let text = self.call_and_release(pg_sys::pg_get_viewdef, view.relation);
        self.reparsed(text, view.owner, canonical).trim().to_owned()
    }

    /// Returns an expression over the columns of a FROM clause in the form that it has after dump
    /// and restore.
    pub fn within(&self, expression: String, owner: Oid, from: &str) -> String {
        let (head, tail) = ("SELECT ", " AS x\n");
        let read = |text: &str| {
            let query = canonical(&format!("SELECT ({text}) AS x{from}"));
            let inner = query
                .trim()
                .strip_prefix(head)
                .and_then(|rest| rest.rsplit_once(tail))
                .map(|(inner, _)| inner);
            inner.map_or_else(|| text.to_owned(), |inner| inner.trim().to_owned())
        };
        self.reparsed(expression, owner, read)
    }

    /// Returns a deparsed definition with its expressions in the form that they have after dump and
    /// restore. `trees` is one expression tree or a list of them.
    pub fn with_expressions(
        &self,
        definition: String,
        trees: Option<String>,
        of: Of<'_>,
    ) -> String {
        let Of { relation, name, owner } = of;
        let Some(trees) =
            trees.and_then(|trees| CString::new(crate::pg::text::to_server(&trees)).ok())
        else {
            return definition;
        };
        if definition == TOO_DEEP {
            return definition;
        }
        let stored: Vec<String> = self.memory.with(|| {
            // SAFETY: the catalog contains the result of nodeToString: a list of expressions, or
            // one.
            unsafe {
                let node = pg_sys::stringToNode(trees.as_ptr()).cast::<pg_sys::Node>();
                match (*node).type_ {
                    pg_sys::NodeTag::T_List => crate::pg::list::nodes(node.cast())
                        .map(|node| expression_text(node, relation))
                        .collect(),
                    _ => vec![expression_text(node, relation)],
                }
            }
        });
        stored.into_iter().fold(definition, |definition, stored| {
            let reparsed = self
                .reparsed(stored.clone(), owner, |text| canonical_expression(text, name, relation));
            if reparsed == stored { definition } else { definition.replace(&stored, &reparsed) }
        })
    }

    /// Returns a type with its modifier in SQL syntax.
    pub fn type_name(&self, type_oid: Oid, modifier: i32) -> String {
        let write = || self.memory.with(|| deparse::type_name(type_oid, modifier));
        self.types.borrow_mut().entry((type_oid, modifier)).or_insert_with(write).clone()
    }

    /// Returns the text of an OID by an output function such as `regprocout`.
    pub fn named(&self, output: Deparse, oid: Oid) -> String {
        self.memory.with(|| deparse::named(output, oid))
    }

    /// Returns the server's description of an object, such as `operator class text_ops for access
    /// method btree`.
    pub fn described(&self, class: Oid, object: Oid) -> String {
        self.memory.with(|| catalog::description(class.into(), object.into()))
    }

    /// Returns a deparsed text in the form that it has after dump and restore.
    fn reparsed(&self, text: String, owner: Oid, read: impl FnOnce(&str) -> String) -> String {
        // A name, a number or a keyword does not change.
        if text == TOO_DEEP || text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return text;
        }
        self.memory.with(|| deparse::reparsed(text, owner, read))
    }
}
