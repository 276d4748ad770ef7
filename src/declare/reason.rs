//! Why a statement does not amend a contract.

use super::tree::Tree;
use dragonfly_core::declare::Unfit;
use pgrx::pg_sys;
use std::ffi::CStr;

/// Returns the command tag of a statement.
pub fn tag(node: Tree) -> String {
    // SAFETY: a statement of the parser; the name of a tag is a static C string.
    unsafe {
        let name = pg_sys::GetCommandTagName(pg_sys::CreateCommandTag(node.pointer()));
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}

/// The reason for a statement about which a contract says nothing.
pub fn not_expressible(what: &str) -> Unfit {
    Unfit::inexpressible(
        format!("{what} does not amend a contract"),
        "Use GRANT, REVOKE, CREATE or DROP of roles, schemas, tables, views, sequences, functions \
         and policies, ALTER TABLE ... ROW LEVEL SECURITY, ALTER ROLE, COMMENT, or SET contract.*. \
         Execute other statements by themselves.",
    )
}

/// The reason for a clause that a contract has no place for, in a statement that it expresses
/// without the clause.
pub fn clause(what: &str) -> Unfit {
    Unfit::inexpressible(
        format!("{what} does not amend a contract"),
        "Omit it, or execute the statement by itself and declare what remains of it.",
    )
}

/// Fails where a statement has a clause that a contract has no place for.
pub fn without(is_there: bool, what: &str) -> Result<(), Unfit> {
    if is_there { Err(clause(what)) } else { Ok(()) }
}

/// Fails where a statement has CASCADE.
pub fn without_cascade(behavior: pg_sys::DropBehavior::Type) -> Result<(), Unfit> {
    if behavior != pg_sys::DropBehavior::DROP_CASCADE {
        return Ok(());
    }
    Err(Unfit::inexpressible(
        "CASCADE does not amend a contract",
        "A contract does not contain dependencies. Name each object without CASCADE; where the \
         statement needs it, execute it by itself afterwards.",
    ))
}
