//! Types for which user-defined code is executed when their values are parsed or compared.

use super::oids;
use crate::pg::heap::{State, Table};
use crate::pg::subtransaction;
use dragonfly_core::catalog::Oid;
use pgrx::{pg_guard, pg_sys};
use std::collections::{HashMap, HashSet};
use std::ffi::{CString, c_void};

/// Returns a type whose values execute more than immutable functions of the server: a domain with
/// such a check, or a range with a user-defined function. Types in the temporary schemas of other
/// sessions are ignored, because this session cannot use them.
pub fn type_running_code(state: &State) -> Option<Oid> {
    let checks = checks(state);
    let ranges = ranges(state);
    let table = Table::open(oids::PG_TYPE);
    let (oid, schema) = (table.column("oid"), table.column("typnamespace"));
    let mut found: Option<Oid> = None;
    table.scan(state, |row| {
        let type_oid = row.oid(oid);
        let runs_code = ranges.contains(&type_oid)
            || checks.get(&type_oid).is_some_and(|checks| !checks.iter().all(is_pure));
        // SAFETY: a lookup in the system cache.
        if runs_code && !unsafe { pg_sys::isOtherTempNamespace(row.oid(schema).into()) } {
            // The lowest OID, so that the result is the same each time.
            found = Some(found.map_or(type_oid, |known| known.min(type_oid)));
        }
    });
    found
}

/// Returns the check expressions of each domain.
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

/// Returns the range types with a user-defined function, or with a user-defined operator class,
/// which compares the bounds of a literal.
fn ranges(state: &State) -> HashSet<Oid> {
    let table = Table::open(oids::PG_RANGE);
    let column = |name| table.column(name);
    let of = column("rngtypid");
    let parts = [column("rngcanonical"), column("rngsubdiff"), column("rngsubopc")];
    let mut found = HashSet::new();
    table.scan(state, |row| {
        if parts.iter().any(|part| row.oid(*part) >= pg_sys::FirstNormalObjectId) {
            found.insert(row.oid(of));
        }
    });
    found
}

/// Whether an expression calls immutable functions of the server only.
fn is_pure(text: &CString) -> bool {
    // SAFETY: the text is the result of nodeToString.
    let walk = || unsafe {
        let node = pg_sys::stringToNode(text.as_ptr()).cast();
        !pg_sys::contain_mutable_functions(node) && !is_impure(node, std::ptr::null_mut())
    };
    // An expression that is too deep for the walker counts as not pure.
    subtransaction::rolled_back(walk).unwrap_or(false)
}

/// [`is_impure`] as a callback of the tree walker.
#[pg_guard]
unsafe extern "C-unwind" fn is_impure_callback(
    node: *mut pg_sys::Node,
    context: *mut c_void,
) -> bool {
    // SAFETY: the server passes valid nodes.
    unsafe { is_impure(node, context) }
}

/// The callback for each function of a node.
#[pg_guard]
unsafe extern "C-unwind" fn is_user_defined(function: pg_sys::Oid, _context: *mut c_void) -> bool {
    function.to_u32() >= pg_sys::FirstNormalObjectId
}

/// Whether an expression may execute something else than immutable functions of the server.
///
/// # Safety
/// `node` is a valid expression or null.
unsafe fn is_impure(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: as the caller promises. Raises an error where the stack is too deep.
    unsafe {
        pg_sys::check_stack_depth();
        let executes_more = matches!(
            (*node).type_,
            pg_sys::NodeTag::T_SubLink
                | pg_sys::NodeTag::T_Query
                | pg_sys::NodeTag::T_CoerceToDomain
                | pg_sys::NodeTag::T_CoerceViaIO
        );
        executes_more
            || pg_sys::check_functions_in_node(node, Some(is_user_defined), context)
            || pg_sys::expression_tree_walker(node, Some(is_impure_callback), context)
    }
}
