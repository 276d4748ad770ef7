//! A contract that is being amended, and what every statement looks up in it.

use super::objects::Objects;
use super::{Name, PolicyHeader, Unfit};
use crate::catalog::Oid;
use crate::contract::{Contract, RoleDecl, TableDecl};
use crate::sql::{printable, safe_ident};
use std::collections::HashSet;

/// Declarations by their numbers, each with a schema and a role: see `grants`.
pub(super) type OnEverything = HashSet<(usize, String, String)>;

/// A contract that is being amended.
pub(super) struct Amendment<'s> {
    pub(super) objects: Objects<'s>,
    /// The statements that together are about everything in a schema.
    pub(super) everything: OnEverything,
    /// The number of the current declaration.
    pub(super) current: usize,
    /// The policies that earlier statements have created.
    pub(super) created: Vec<PolicyHeader>,
    /// The policies of the catalog that earlier statements have dropped.
    pub(super) dropped: HashSet<Oid>,
}

impl Amendment<'_> {
    /// Returns the contract.
    pub(super) fn contract(&mut self) -> &mut Contract {
        self.objects.contract()
    }

    /// Returns the declaration of a table; that of an undeclared one as it is in the catalog.
    pub(super) fn table(&mut self, name: &Name) -> Result<&mut TableDecl, Unfit> {
        self.require_schema(&name.schema)?;
        self.objects.known_table(name)
    }

    /// Returns the declaration of a role.
    pub(super) fn role(&mut self, name: &str) -> Result<&mut RoleDecl, Unfit> {
        let at = self.contract().roles.iter().position(|role| role.name == name);
        let at = at.ok_or_else(|| self.undeclared_role(name))?;
        Ok(&mut self.contract().roles[at])
    }

    /// Fails where a role is not declared.
    pub(super) fn require_role(&mut self, name: &str) -> Result<(), Unfit> {
        let is_declared = self.contract().role(name).is_some();
        if is_declared { Ok(()) } else { Err(self.undeclared_role(name)) }
    }

    /// Fails where a role is neither declared nor there: for statements that take something from
    /// it, and thus need no declaration.
    pub(super) fn require_known_role(&mut self, name: &str) -> Result<(), Unfit> {
        if self.objects.has_role(name) { Ok(()) } else { self.require_role(name) }
    }

    /// Fails where a schema is not declared.
    pub(super) fn require_schema(&mut self, name: &str) -> Result<(), Unfit> {
        if self.contract().schema(name).is_some() {
            return Ok(());
        }
        Err(Unfit::unknown(
            format!("schema \"{}\" is not declared", printable(name)),
            format!("Put CREATE SCHEMA {}; before the statement.", safe_ident(name)),
            name,
            self.contract().schemas.iter().map(|schema| schema.name.as_str()),
        ))
    }

    fn undeclared_role(&mut self, name: &str) -> Unfit {
        let role = safe_ident(name);
        Unfit::unknown(
            format!("role \"{}\" is not declared", printable(name)),
            format!(
                "Put CREATE ROLE {role}; before the statement, and ALTER ROLE {role} SET \
                 contract.kind = ...; where it is no client but a worker, owner or login."
            ),
            name,
            self.contract().roles.iter().map(|role| role.name.as_str()),
        )
    }
}
