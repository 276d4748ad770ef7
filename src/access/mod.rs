//! What roles can access, as the server checks it: the statements that a privilege is for, whether
//! the accesses that the contract declares work, and whether views and bodies of routines are
//! valid.
//! `ops.explain_access()`, `ops.doctor()` and `ops.apply_golden_sql()` ask here, so that they
//! agree.

pub mod declared;
pub mod named;
mod probe;
mod statement;

pub use dragonfly_reader::mentions::TextBodies;
pub use dragonfly_reader::snapshot::Objects;
pub use named::{type_in_contract, type_in_session};
pub use probe::Probe;
pub use statement::{Statement, forms};

use crate::catalog;
use crate::pg::heap::State;
use crate::query::Unreadable;
use dragonfly_core::catalog::Oid;
use dragonfly_reader::needs::Needs;
use pgrx::pg_sys::panic::CaughtError;

/// Returns what a statement needs that has been read. One that no role can execute needs nothing
/// else.
///
/// # Errors
/// Where it cannot be read at present.
pub fn needed(read: Result<Needs, Unreadable>) -> Result<Needs, Box<CaughtError>> {
    match read {
        Ok(needs) => Ok(needs),
        Err(Unreadable::Never(why)) => Ok(Needs { impossible: Some(why), ..Needs::default() }),
        Err(Unreadable::Now(error)) => Err(error),
    }
}

/// Whether the rules of a relation make at least `limit` statements of one. The server may run out
/// of memory, and cannot be interrupted while it rewrites.
pub fn is_too_complex(state: &State, relation: Oid, limit: u64) -> bool {
    catalog::products(state, relation, limit) >= limit
}
