//! Writing things down without leaving anything behind: neither memory nor locks.

use crate::catalog;
use crate::catalog::deparse::{
    self, Deparse, call, canonical, canonical_expression, expression_text,
};
use crate::pg::scratch::Scratch;
use crate::pg::subtransaction;
use dragonfly_core::catalog::Oid;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;

/// What an expression is about: the relation, its name as SQL says it, and its owner.
#[derive(Debug, Clone, Copy)]
pub struct Of<'r> {
    pub relation: Oid,
    pub name: &'r str,
    pub owner: Oid,
}

/// The server's functions, with memory that is emptied after each.
pub struct Deparser {
    memory: Scratch,
    types: RefCell<HashMap<(Oid, i32), String>>,
}

impl Deparser {
    pub fn new() -> Self {
        Self { memory: Scratch::new(), types: RefCell::default() }
    }

    /// One of the functions that write an object down.
    pub fn call(&self, deparse: Deparse, object: Oid) -> String {
        self.memory.with(|| call(deparse, &[pg_sys::Datum::from(object)]))
    }

    /// One of those that lock what they write about; the locks are given back.
    pub fn call_and_release(&self, deparse: Deparse, object: Oid) -> String {
        let write =
            || subtransaction::rolled_back(|| call(deparse, &[pg_sys::Datum::from(object)]));
        self.memory.with(write).unwrap_or_else(|error| error.rethrow())
    }

    /// A collation that is not the type's own.
    pub fn collation(&self, type_oid: Oid, collation: Oid) -> Option<String> {
        // SAFETY: a look-up in the system cache.
        let own = unsafe { pg_sys::get_typcollation(type_oid.into()) }.to_u32();
        (collation != own && collation != 0).then(|| self.named(pg_sys::regcollationout, collation))
    }

    /// An expression tree of a catalog, over the columns of a relation (0: of none), as it is
    /// stored.
    pub fn tree(&self, tree: pg_sys::Datum, relation: Oid) -> String {
        self.memory.with(|| call(pg_sys::pg_get_expr, &[tree, pg_sys::Datum::from(relation)]))
    }

    /// The same as a dump and its restore make it.
    pub fn expression(&self, tree: pg_sys::Datum, of: Of<'_>) -> String {
        let text = self.tree(tree, of.relation);
        self.again(text, of.owner, |text| canonical_expression(text, of.name, of.relation))
    }

    /// The query of a view.
    pub fn view(&self, view: Of<'_>) -> String {
        let text = self.call_and_release(pg_sys::pg_get_viewdef, view.relation);
        self.again(text, view.owner, canonical).trim().to_owned()
    }

    /// An expression over what `from` says, such as two rows of one table.
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
        self.again(expression, owner, read)
    }

    /// A definition of the server's in which expressions stand as they are stored: each as a dump
    /// and its restore make it. `trees` is a list of them, or one.
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
        let stored: Vec<String> = self.memory.with(|| {
            // SAFETY: the catalog holds what nodeToString wrote: a list of expressions, or one.
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
            let again = self
                .again(stored.clone(), owner, |text| canonical_expression(text, name, relation));
            if again == stored { definition } else { definition.replace(&stored, &again) }
        })
    }

    /// A type as SQL names it.
    pub fn type_name(&self, type_oid: Oid, modifier: i32) -> String {
        let write = || self.memory.with(|| deparse::type_name(type_oid, modifier));
        self.types.borrow_mut().entry((type_oid, modifier)).or_insert_with(write).clone()
    }

    /// What an output function such as `regprocout` gives.
    pub fn named(&self, output: Deparse, oid: Oid) -> String {
        self.memory.with(|| deparse::named(output, oid))
    }

    /// An object as the server describes it: `operator class text_ops for access method btree`.
    pub fn described(&self, class: Oid, object: Oid) -> String {
        self.memory.with(|| catalog::description(class.into(), object.into()))
    }

    /// A text that the server wrote, as a dump and its restore make it.
    fn again(&self, text: String, owner: Oid, read: impl FnOnce(&str) -> String) -> String {
        // A name, a number, a word: nothing that could be read in two ways.
        if text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return text;
        }
        self.memory.with(|| deparse::read_again(text, owner, read))
    }
}
