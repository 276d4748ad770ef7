//! The privileges that declared access needs beyond those that the contract declares.

use crate::catalog::{Oid, Privileges};
use std::collections::HashMap;

/// Why a role needs a privilege.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A part of a relation, a routine or a type uses it, by its place in the dependencies.
    Part {
        /// The part.
        part: usize,
        /// The relation through which the part was reached, where there is one.
        on: Oid,
    },
    /// PostgREST calls it before each request.
    PreRequest,
}

/// A privilege on a relation that a role needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeedOnRelation {
    /// The privileges.
    pub privileges: Privileges,
    /// The column; `None` for the relation.
    pub column: Option<String>,
    /// Whether any other column does as well.
    pub is_any: bool,
    /// Why.
    pub why: Why,
}

/// The privileges that declared access needs, by object and role.
#[derive(Debug, Default)]
pub struct Needs {
    execute: HashMap<Oid, Vec<(Oid, Why)>>,
    relations: HashMap<Oid, Vec<(Oid, NeedOnRelation)>>,
}

impl Needs {
    /// Returns the roles that need EXECUTE on a routine, each with the first reason.
    #[must_use]
    pub fn execute(&self, routine: Oid) -> &[(Oid, Why)] {
        self.execute.get(&routine).map_or(&[], Vec::as_slice)
    }

    /// Returns the privileges on a relation that roles need.
    #[must_use]
    pub fn on_relation(&self, relation: Oid) -> &[(Oid, NeedOnRelation)] {
        self.relations.get(&relation).map_or(&[], Vec::as_slice)
    }

    /// Returns the routines on which roles need EXECUTE, with the roles.
    pub fn executions(&self) -> impl Iterator<Item = (Oid, Oid)> {
        let all = self.execute.iter();
        all.flat_map(|(routine, roles)| roles.iter().map(|(role, _)| (*routine, *role)))
    }

    /// Returns the relations on which roles need privileges, with the roles.
    pub fn accesses(&self) -> impl Iterator<Item = (Oid, Oid, &NeedOnRelation)> {
        let all = self.relations.iter();
        all.flat_map(|(relation, needs)| needs.iter().map(|(role, need)| (*relation, *role, need)))
    }

    /// Adds EXECUTE on a routine for a role. The first reason is kept.
    pub(super) fn add_execute(&mut self, routine: Oid, role: Oid, why: Why) {
        let roles = self.execute.entry(routine).or_default();
        if !roles.iter().any(|(known, _)| *known == role) {
            roles.push((role, why));
        }
    }

    /// Adds privileges on a relation for a role. The first reason is kept.
    pub(super) fn add_on_relation(&mut self, relation: Oid, role: Oid, need: NeedOnRelation) {
        let known = self.relations.entry(relation).or_default();
        let is_same = |(of, other): &(Oid, NeedOnRelation)| {
            *of == role
                && other.privileges == need.privileges
                && (&other.column, other.is_any) == (&need.column, need.is_any)
        };
        if !known.iter().any(is_same) {
            known.push((role, need));
        }
    }
}
