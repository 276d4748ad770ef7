//! What roles can access, as the server checks it: the statements that a privilege is for, whether
//! the accesses that the contract declares work, and whether views and bodies of routines are
//! valid.
//! `ops.explain_access()`, `ops.doctor()` and `ops.apply_golden_sql()` ask here, so that they
//! agree.

pub mod declared;
pub mod named;
mod objects;
mod probe;
mod statement;

pub use dragonfly_reader::mentions::TextBodies;
pub use dragonfly_reader::objects::unusable;
pub use dragonfly_reader::snapshot::Objects;
pub use named::{type_in_contract, type_in_session};
pub use objects::{Callable, add};
pub use probe::Probe;
pub use statement::{Statement, forms};

use crate::catalog;
use crate::pg::heap::State;
use crate::query::{CallNeeds, Needs, Unreadable};
use dragonfly_core::catalog::Oid;
use pgrx::pg_sys::panic::CaughtError;

/// What a statement requires.
#[derive(Default)]
pub struct Required {
    pub needs: Needs,
    /// What the defaults of the arguments of a call need, where the call omits these.
    pub defaults: Needs,
    /// Why no role can execute it: the server's message.
    pub impossible: Option<String>,
}

impl Required {
    /// # Errors
    /// Where the statement cannot be read at present.
    pub fn of(read: Result<Needs, Unreadable>) -> Result<Self, Box<CaughtError>> {
        Self::of_call(read.map(|call| CallNeeds { call, defaults: Needs::default() }))
    }

    /// # Errors
    /// Where the call cannot be read at present.
    pub fn of_call(read: Result<CallNeeds, Unreadable>) -> Result<Self, Box<CaughtError>> {
        match read {
            Ok(CallNeeds { call: needs, defaults }) => {
                Ok(Self { needs, defaults, impossible: None })
            }
            Err(Unreadable::Never(why)) => Ok(Self { impossible: Some(why), ..Self::default() }),
            Err(Unreadable::Now(error)) => Err(error),
        }
    }
}

/// Whether the rules of a relation make at least `limit` statements of one. The server may run out
/// of memory, and cannot be interrupted while it rewrites.
pub fn is_too_complex(state: &State, relation: Oid, limit: u64) -> bool {
    catalog::products(state, relation, limit) >= limit
}
