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

/// The reason for a statement or clause about which a contract says nothing.
pub fn not_expressible(what: &str) -> Unfit {
    Unfit::new(
        format!("{what} does not amend a contract"),
        "Use GRANT, REVOKE, CREATE or DROP of roles, schemas, tables, views, sequences, functions \
         and policies, ALTER TABLE ... ROW LEVEL SECURITY, ALTER ROLE, COMMENT, or SET contract.*. \
         Execute other statements by themselves.",
    )
}
