//! What the server would ask for before it runs a statement: read from the statement as the server itself rewrites it, with its views replaced by
//! their queries and the policies added. Nothing is planned and nothing runs.

use crate::pg::list::nodes;
use crate::pg::text::{from_server, to_server};
use crate::pg::{restricted, setting, subtransaction};
use dragonfly_core::catalog::{BOOTSTRAP_SUPERUSER, Oid, Privileges};
use dragonfly_core::explain::Need;
use pgrx::{pg_guard, pg_sys};
use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_void};

/// What a statement needs.
#[derive(Debug, Default)]
pub struct Needs {
    /// On relations, the one that the statement names first.
    pub needs: Vec<Need>,
    /// The functions that it would call.
    pub calls: BTreeSet<Oid>,
}

/// What a statement that `role` runs needs. Names in it are looked up as by a superuser: whether the role may use them is not asked here.
///
/// # Errors
/// The server's message where the statement cannot be run by anybody.
pub fn of(sql: &str, role: Oid) -> Result<Needs, String> {
    let settings = [setting::SAFE_PATH, (c"row_security", c"on")];
    let work = || setting::under(&settings, || rewritten(sql, role));
    subtransaction::rolled_back(work).map_err(|error| subtransaction::report(&error).message().to_owned())
}

fn rewritten(sql: &str, role: Oid) -> Needs {
    let text = CString::new(to_server(sql)).expect("names hold no zero byte");
    // SAFETY: a C string with one statement; the parser raises an error or gives a list of one. Reading a statement runs no code of anybody's but the
    // input functions of types, and there is nothing but names in it.
    let query = restricted::as_role(BOOTSTRAP_SUPERUSER, || unsafe {
        let statements = pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        let statement = nodes(statements).next().expect("one statement");
        pg_sys::parse_analyze_fixedparams(statement.cast(), text.as_ptr(), std::ptr::null(), 0, std::ptr::null_mut())
    });
    let mut needs = Needs::default();
    // SAFETY: a query as the analysis gave it. It is rewritten for the role, whose policies are the ones that count.
    let queries = restricted::as_role(role, || unsafe { pg_sys::QueryRewrite(query) });
    // SAFETY: a list of queries; the walker takes what it is given.
    unsafe {
        for query in nodes(queries) {
            walk(query, (&raw mut needs).cast());
        }
    }
    needs
}

/// Visits a node and everything below it.
#[pg_guard]
unsafe extern "C-unwind" fn walk(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    crate::pg::heap::interrupts();
    // SAFETY: the server hands its own nodes, and what it was given as the context; a node is what its tag says.
    unsafe {
        let needs = &mut *context.cast::<Needs>();
        match (*node).type_ {
            pg_sys::NodeTag::T_Query => {
                let query = node.cast::<pg_sys::Query>();
                relations(query, needs);
                return pg_sys::query_tree_walker(query, Some(walk), context, 0);
            }
            pg_sys::NodeTag::T_FuncExpr => {
                let call = node.cast::<pg_sys::FuncExpr>();
                needs.calls.insert((*call).funcid.to_u32());
                if (*call).funcid.to_u32() == NEXTVAL {
                    needs.needs.extend(nodes((*call).args).find_map(|argument| sequence(argument)));
                }
            }
            pg_sys::NodeTag::T_Aggref => {
                needs.calls.insert((*node.cast::<pg_sys::Aggref>()).aggfnoid.to_u32());
            }
            pg_sys::NodeTag::T_WindowFunc => {
                needs.calls.insert((*node.cast::<pg_sys::WindowFunc>()).winfnoid.to_u32());
            }
            // The three are one struct.
            pg_sys::NodeTag::T_OpExpr | pg_sys::NodeTag::T_DistinctExpr | pg_sys::NodeTag::T_NullIfExpr => {
                needs.calls.insert(pg_sys::get_opcode((*node.cast::<pg_sys::OpExpr>()).opno).to_u32());
            }
            pg_sys::NodeTag::T_ScalarArrayOpExpr => {
                needs.calls.insert(pg_sys::get_opcode((*node.cast::<pg_sys::ScalarArrayOpExpr>()).opno).to_u32());
            }
            _ => {}
        }
        pg_sys::expression_tree_walker(node, Some(walk), context)
    }
}

/// `nextval(regclass)` (pg_proc.dat).
const NEXTVAL: Oid = 1574;

/// The sequence behind a column's default: who inserts must be able to use it.
unsafe fn sequence(argument: *mut pg_sys::Node) -> Option<Need> {
    // SAFETY: a node is what its tag says; a constant of type regclass holds an OID.
    unsafe {
        if (*argument).type_ != pg_sys::NodeTag::T_Const {
            return None;
        }
        let constant = argument.cast::<pg_sys::Const>();
        (!(*constant).constisnull).then(|| Need {
            relation: (*constant).constvalue.value() as u32,
            privileges: Privileges::USAGE,
            or: Privileges::UPDATE,
            by_row: true,
            ..Need::default()
        })
    }
}

/// Notes what one level of a query needs.
///
/// # Safety
/// `query` is a query.
#[cfg(feature = "pg15")]
unsafe fn relations(query: *mut pg_sys::Query, needs: &mut Needs) {
    // SAFETY: as the caller promises; a range table holds entries.
    unsafe {
        for entry in nodes((*query).rtable) {
            let entry = entry.cast::<pg_sys::RangeTblEntry>();
            if (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION {
                let columns = [(*entry).selectedCols, (*entry).insertedCols, (*entry).updatedCols];
                note(needs, (*entry).relid, (*entry).requiredPerms, (*entry).checkAsUser, columns);
            }
        }
    }
}

/// Notes what one level of a query needs.
///
/// # Safety
/// `query` is a query.
#[cfg(not(feature = "pg15"))]
unsafe fn relations(query: *mut pg_sys::Query, needs: &mut Needs) {
    // SAFETY: as the caller promises; the list holds what its name says.
    unsafe {
        for info in nodes((*query).rteperminfos) {
            let info = info.cast::<pg_sys::RTEPermissionInfo>();
            let columns = [(*info).selectedCols, (*info).insertedCols, (*info).updatedCols];
            note(needs, (*info).relid, (*info).requiredPerms, (*info).checkAsUser, columns);
        }
    }
}

/// # Safety
/// The columns are sets of the relation's columns, as the server makes them.
unsafe fn note(
    needs: &mut Needs,
    relation: pg_sys::Oid,
    required: pg_sys::AclMode,
    check_as: pg_sys::Oid,
    columns: [*mut pg_sys::Bitmapset; 3],
) {
    if required == 0 {
        return;
    }
    // SAFETY: as the caller promises.
    let [selected, inserted, updated] = columns.map(|set| unsafe { names(relation, set) });
    // 32 bits of them before 16.
    #[allow(clippy::unnecessary_cast)]
    let privileges = Privileges(required as u32);
    let need = Need {
        relation: relation.to_u32(),
        check_as: Some(check_as.to_u32()).filter(|oid| *oid != 0),
        privileges,
        selected,
        inserted,
        updated,
        is_partial: true,
        ..Need::default()
    };
    if !needs.needs.contains(&need) {
        needs.needs.push(need);
    }
}

/// The columns of a set, in which they are counted from the first system column; the whole row is all of them.
///
/// # Safety
/// A set of the relation's columns, or null.
unsafe fn names(relation: pg_sys::Oid, set: *mut pg_sys::Bitmapset) -> Vec<String> {
    let mut names = Vec::new();
    let mut member = -1;
    loop {
        // SAFETY: as the caller promises; a negative number is the end.
        member = unsafe { pg_sys::bms_next_member(set, member) };
        if member < 0 {
            return names;
        }
        let number = member + pg_sys::FirstLowInvalidHeapAttributeNumber;
        if number == 0 {
            return all_columns(relation.to_u32());
        }
        // SAFETY: a look-up in the system cache; null where there is no such column.
        unsafe {
            let name = pg_sys::get_attname(relation, number as pg_sys::AttrNumber, true);
            if !name.is_null() {
                names.push(from_server(CStr::from_ptr(name).to_bytes()));
            }
        }
    }
}

/// The columns of a relation, in their order.
pub fn all_columns(relation: Oid) -> Vec<String> {
    crate::scan::columns(&crate::pg::heap::State::now(), relation)
}
