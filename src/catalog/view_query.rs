//! Which commands the server rewrites on a view to those on the relation that it reads.

use dragonfly_core::catalog::{Command, Oid};
use pgrx::pg_sys;
use std::ffi::CString;

/// The stored query of a view.
pub struct Query(*mut pg_sys::Query);

impl Query {
    pub fn parsed(stored: &[u8]) -> Option<Self> {
        let text = CString::new(stored).ok()?;
        // SAFETY: the column contains the result of nodeToString: a list of one query.
        unsafe {
            let list = pg_sys::stringToNode(text.as_ptr()).cast::<pg_sys::List>();
            let query = crate::pg::list::nodes(list).next()?.cast::<pg_sys::Query>();
            (!query.is_null()).then_some(Self(query))
        }
    }

    /// Whether the server can rewrite a command on the view: it needs a column of the table, except
    /// for DELETE.
    pub fn is_updatable(&self, command: Command) -> bool {
        // SAFETY: a query that the parser made; the function only reads it.
        unsafe {
            pg_sys::view_query_is_auto_updatable(self.0, command != Command::Delete).is_null()
        }
    }

    /// Returns the only relation of a query that is updatable.
    pub fn base(&self) -> Option<Oid> {
        // SAFETY: a query that the parser made, with its list of relations.
        unsafe {
            let from = crate::pg::list::nodes((*(*self.0).jointree).fromlist).next()?;
            let entry = (*from.cast::<pg_sys::RangeTblRef>()).rtindex;
            let mut entries = crate::pg::list::nodes((*self.0).rtable);
            let entry = entries.nth(usize::try_from(entry).ok()?.checked_sub(1)?)?;
            Some((*entry.cast::<pg_sys::RangeTblEntry>()).relid.to_u32())
        }
    }
}
