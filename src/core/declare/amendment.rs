//! A contract that is being amended, and what every statement looks up in it.

use super::objects::Objects;
use super::{Name, Unfit};
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
        self.require_role(name)?;
        let role = self.contract().roles.iter_mut().find(|role| role.name == name);
        role.ok_or_else(|| undeclared_role(name))
    }

    /// Fails where a role is not declared.
    pub(super) fn require_role(&mut self, name: &str) -> Result<(), Unfit> {
        let is_declared = self.contract().role(name).is_some();
        if is_declared { Ok(()) } else { Err(undeclared_role(name)) }
    }

    /// Fails where a schema is not declared.
    pub(super) fn require_schema(&mut self, name: &str) -> Result<(), Unfit> {
        if self.contract().schema(name).is_some() {
            return Ok(());
        }
        Err(Unfit::new(
            format!("schema \"{}\" is not declared", printable(name)),
            format!("Put CREATE SCHEMA {}; before the statement.", safe_ident(name)),
        ))
    }
}

fn undeclared_role(name: &str) -> Unfit {
    let role = safe_ident(name);
    Unfit::new(
        format!("role \"{}\" is not declared", printable(name)),
        format!(
            "Put CREATE ROLE {role}; before the statement, and ALTER ROLE {role} SET contract.kind \
             = ...; where it is no client but a worker, owner or login."
        ),
    )
}
