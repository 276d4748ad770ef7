//! Types whose values run something when they are read or compared.

use super::oids;
use crate::pg::heap::{State, Table};
use crate::pg::subtransaction;
use dragonfly_core::catalog::Oid;
use pgrx::{pg_guard, pg_sys};
use std::collections::{HashMap, HashSet};
use std::ffi::{CString, c_void};

/// A type that somebody has made, and whose values run more than the server's own, immutable
/// functions: a domain with such a check, a range with a function of its own. Not those in the
/// temporary schemas of other sessions, which nobody else can name.
pub fn live_type(state: &State) -> Option<Oid> {
    let checks = checks(state);
    let ranges = ranges(state);
    let table = Table::open(oids::PG_TYPE);
    let (oid, schema) = (table.column("oid"), table.column("typnamespace"));
    let mut found: Option<Oid> = None;
    table.scan(state, |row| {
        let it = row.oid(oid);
        let is_live = ranges.contains(&it)
            || checks.get(&it).is_some_and(|checks| !checks.iter().all(is_pure));
        // SAFETY: a look-up in the system cache.
        if is_live && !unsafe { pg_sys::isOtherTempNamespace(row.oid(schema).into()) } {
            // The same one each time.
            found = Some(found.map_or(it, |known| known.min(it)));
        }
    });
    found
}

/// The checks of each domain.
fn checks(state: &State) -> HashMap<Oid, Vec<CString>> {
    let table = Table::open(oids::PG_CONSTRAINT);
    let (of, kind, expression) =
        (table.column("contypid"), table.column("contype"), table.column("conbin"));
    let mut found: HashMap<Oid, Vec<CString>> = HashMap::new();
    table.scan(state, |row| {
        if row.oid(of) != 0 && row.char(kind) == b'c' {
            found
                .entry(row.oid(of))
                .or_default()
                .extend(row.bytes(expression).and_then(|text| CString::new(text).ok()));
        }
    });
    found
}

/// The ranges with a function that somebody has made.
fn ranges(state: &State) -> HashSet<Oid> {
    let table = Table::open(oids::PG_RANGE);
    let column = |name| table.column(name);
    let (of, canonical, difference) =
        (column("rngtypid"), column("rngcanonical"), column("rngsubdiff"));
    let mut found = HashSet::new();
    table.scan(state, |row| {
        if [canonical, difference]
            .iter()
            .any(|function| row.oid(*function) >= pg_sys::FirstNormalObjectId)
        {
            found.insert(row.oid(of));
        }
    });
    found
}

/// Whether an expression calls nothing but the server's own functions, none of which does or knows
/// anything but its arguments.
fn is_pure(text: &CString) -> bool {
    // SAFETY: the server has written it with nodeToString.
    let look = || unsafe {
        let node = pg_sys::stringToNode(text.as_ptr()).cast();
        !pg_sys::contain_mutable_functions(node) && !impure(node, std::ptr::null_mut())
    };
    // What is too deep to be looked through is not known to be.
    subtransaction::rolled_back(look).unwrap_or(false)
}

/// For the server to call.
#[pg_guard]
unsafe extern "C-unwind" fn walk(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: the server hands its own nodes.
    unsafe { impure(node, context) }
}

/// For the server to call, with each function.
#[pg_guard]
unsafe extern "C-unwind" fn is_somebodys(function: pg_sys::Oid, _context: *mut c_void) -> bool {
    function.to_u32() >= pg_sys::FirstNormalObjectId
}

/// # Safety
/// A valid expression, or null.
unsafe fn impure(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: as the caller promises. An error where the stack is too deep.
    unsafe {
        pg_sys::check_stack_depth();
        let is_more = matches!(
            (*node).type_,
            pg_sys::NodeTag::T_SubLink
                | pg_sys::NodeTag::T_Query
                | pg_sys::NodeTag::T_CoerceToDomain
                | pg_sys::NodeTag::T_CoerceViaIO
        );
        is_more
            || pg_sys::check_functions_in_node(node, Some(is_somebodys), context)
            || pg_sys::expression_tree_walker(node, Some(walk), context)
    }
}
