//! Reads SQL statements as declarations of a contract. The server's own grammar parses them;
//! nothing is executed.

mod acl;
mod create;
mod names;
mod other;
mod reason;
mod tree;

use crate::pg::heap::interrupts;
use dragonfly_core::declare::{Declaration, Unfit};
use reason::{not_expressible, tag};
use tree::Tree;

/// One statement and what it declares.
pub struct Statement {
    /// Its text, without the semicolon.
    pub text: String,
    /// What it declares; the reason where a contract cannot express it.
    pub declared: Result<Vec<Declaration>, Unfit>,
    /// Whether it can be executed as well: it is not about the contract alone.
    pub is_executable: bool,
}

/// Reads statements. Raises the server's error where the text cannot be parsed.
pub fn read(sql: &str) -> Vec<Statement> {
    let read_one = |(text, node): (String, Tree)| {
        interrupts();
        let declared = declarations(&text, node);
        let is_executable = !is_about_contract_alone(declared.as_deref().unwrap_or_default());
        Statement { text, declared, is_executable }
    };
    tree::statements(sql).into_iter().map(read_one).collect()
}

/// Whether a statement that declares this sets fields of the contract that no object has.
fn is_about_contract_alone(declared: &[Declaration]) -> bool {
    use Declaration::{
        AllRows, AllRowsOf, AllRowsOfRoutine, AnyArguments, Kind, ResetAll, Rows, Set,
    };
    let is_field = |declaration: &Declaration| {
        matches!(
            declaration,
            ResetAll
                | Set(..)
                | Kind(..)
                | AllRows(..)
                | AllRowsOf(..)
                | Rows(..)
                | AnyArguments(_)
                | AllRowsOfRoutine(..)
        )
    };
    declared.iter().any(is_field)
}

fn declarations(text: &str, node: Tree) -> Result<Vec<Declaration>, Unfit> {
    if let Some(grant) = node.cast() {
        return acl::grant(grant);
    }
    if let Some(grant) = node.cast() {
        return acl::memberships(grant);
    }
    if let Some(role) = node.cast() {
        return create::role(role);
    }
    if let Some(schema) = node.cast() {
        return create::schema(schema);
    }
    if let Some(table) = node.cast() {
        return create::table(table);
    }
    if let Some(table) = node.cast() {
        return create::table_as(text, table);
    }
    if let Some(view) = node.cast() {
        return create::view(text, view);
    }
    if let Some(sequence) = node.cast() {
        return create::sequence(sequence);
    }
    if let Some(function) = node.cast() {
        return create::function(function);
    }
    if let Some(policy) = node.cast() {
        return create::policy(policy);
    }
    if let Some(role) = node.cast() {
        return other::alter_role(role);
    }
    if let Some(setting) = node.cast() {
        return other::alter_role_set(setting);
    }
    if let Some(table) = node.cast() {
        return other::alter_table(table);
    }
    if let Some(function) = node.cast() {
        return other::alter_function(function);
    }
    if let Some(renamed) = node.cast() {
        return other::rename(renamed);
    }
    if let Some(moved) = node.cast() {
        return other::set_schema(moved);
    }
    if let Some(setting) = node.cast() {
        return other::set(setting);
    }
    if let Some(comment) = node.cast() {
        return other::comment(comment);
    }
    if let Some(roles) = node.cast() {
        return other::drop_roles(roles);
    }
    if let Some(objects) = node.cast() {
        return other::drop_objects(objects);
    }
    Err(not_expressible(&tag(node)))
}
