//! The hardened guard: where the library is loaded before a session's first statement, a hook also
//! sees the statements that fire no event: ALTER ROLE, GRANT role, GRANT ON DATABASE, ALTER
//! DATABASE, REASSIGN OWNED, ALTER and DROP EVENT TRIGGER, and everything else while event triggers
//! are off. They are judged like any other: by what they have left in the catalog. Another hook
//! notes who writes into catalogs directly, after which everything is looked at.

use super::changes::{self, Changed};
use super::{commands, enforce};
use crate::catalog::Own;
use crate::pg::heap::State;
use crate::settings::{self, Mode};
use dragonfly_core::rules::shared::guard_settings::disables_guard;
use pgrx::{pg_guard, pg_sys};
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int};

thread_local! {
    static PREVIOUS: Cell<pg_sys::ProcessUtility_hook_type> = const { Cell::new(None) };
    static PREVIOUS_START: Cell<pg_sys::ExecutorStart_hook_type> = const { Cell::new(None) };
}

/// Hangs itself into the hook, in front of whoever is there already.
pub fn install() {
    // SAFETY: called once, when the library is loaded, by a process with one thread.
    unsafe {
        PREVIOUS.set(pg_sys::ProcessUtility_hook);
        pg_sys::ProcessUtility_hook = Some(process_utility);
        PREVIOUS_START.set(pg_sys::ExecutorStart_hook);
        pg_sys::ExecutorStart_hook = Some(executor_start);
    }
}

unsafe extern "C-unwind" {
    /// The server's own, without anything between: an error of the statement passes as it is, with
    /// its position and its context.
    fn standard_ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        text: *const c_char,
        read_only: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        parameters: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        destination: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
    fn standard_ExecutorStart(query: *mut pg_sys::QueryDesc, flags: c_int);
}

/// As with the other hook, nothing in this frame would have to be dropped.
unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: what the server gave is passed on as it is.
    unsafe {
        note_writing(query);
        PREVIOUS_START.get().unwrap_or(standard_ExecutorStart)(query, flags);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn note_writing(query: *mut pg_sys::QueryDesc) {
    // SAFETY: a query that is about to run has a plan; `resultRelations` holds numbers of entries
    // of `rtable`, which start at 1.
    unsafe {
        let plan = (*query).plannedstmt;
        let written = (*plan).resultRelations;
        let count = if written.is_null() { 0 } else { (*written).length as usize };
        for i in 0..count {
            let entry = (*(*written).elements.add(i)).int_value as usize - 1;
            let entry =
                (*(*(*plan).rtable).elements.add(entry)).ptr_value.cast::<pg_sys::RangeTblEntry>();
            note_written((*entry).relid);
        }
    }
}

/// What initdb made are the catalogs.
fn note_written(relation: pg_sys::Oid) {
    if relation != pg_sys::InvalidOid && relation.to_u32() < pg_sys::FirstNormalObjectId {
        changes::note(Changed::Catalogs);
    }
}

/// COPY ... FROM writes without a plan.
///
/// # Safety
/// `node` is a valid statement.
unsafe fn note_copying(node: *mut pg_sys::Node) {
    // SAFETY: the cast follows the node's tag; a relation that is not there is none.
    unsafe {
        if (*node).type_ == pg_sys::NodeTag::T_CopyStmt {
            let copy = node.cast::<pg_sys::CopyStmt>();
            if (*copy).is_from && !(*copy).relation.is_null() {
                let flags = pg_sys::RVROption::RVR_MISSING_OK;
                let lock = pg_sys::NoLock as pg_sys::LOCKMODE;
                let none = std::ptr::null_mut();
                note_written(pg_sys::RangeVarGetRelidExtended(
                    (*copy).relation,
                    lock,
                    flags,
                    None,
                    none,
                ));
            }
        }
    }
}

/// What is known of a statement before it is carried out: after one that ends its transaction there
/// may be nothing left of the tree.
#[repr(C)]
#[derive(Clone, Copy)]
struct Statement {
    is_ddl: bool,
    stores_settings: bool,
    /// A string of the server's own.
    tag: *const c_char,
}

/// This frame holds nothing that would have to be dropped, so that an error may leave it by the
/// server's own way (a long jump).
#[allow(clippy::too_many_arguments)]
unsafe extern "C-unwind" fn process_utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    read_only: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: what the server gave is passed on as it is.
    unsafe {
        let known = before(statement, context);
        let next = PREVIOUS.get().unwrap_or(standard_ProcessUtility);
        next(statement, text, read_only, context, parameters, environment, destination, completion);
        if known.is_ddl {
            after(known);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn before(
    statement: *mut pg_sys::PlannedStmt,
    context: pg_sys::ProcessUtilityContext::Type,
) -> Statement {
    // SAFETY: the parse tree is a valid node.
    unsafe {
        let node = (*statement).utilityStmt;
        let is_ddl = pg_sys::GetCommandLogLevel(node) == pg_sys::LogStmtLevel::LOGSTMT_DDL
            && context != pg_sys::ProcessUtilityContext::PROCESS_UTILITY_SUBCOMMAND;
        if is_ddl {
            refuse_what_cannot_be_undone(node);
        }
        note_copying(node);
        let tag = pg_sys::GetCommandTagName(pg_sys::CreateCommandTag(node));
        Statement { is_ddl, stores_settings: stores_settings(node), tag }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn after(known: Statement) {
    // SAFETY: reads the state of the transaction; the tag is a C string.
    unsafe {
        if pg_sys::IsTransactionState() {
            has_ended(known.stores_settings, &CStr::from_ptr(known.tag).to_string_lossy());
        }
    }
}

/// Judges what nobody has judged yet: nothing, where the statement fired its events.
fn has_ended(stores_settings: bool, tag: &str) {
    if stores_settings {
        changes::note(Changed::Own);
    }
    // SAFETY: between commands; makes the statement's changes visible, which tells the caches,
    // which tell us.
    unsafe { pg_sys::CommandCounterIncrement() };
    // In a database without the extension there is nothing to judge by; and where it has just gone,
    // the commit has its say.
    if !changes::unchecked().is_empty() && Own::is_there(&State::now()) {
        commands::ended(tag);
    }
}

/// Whether a statement changes stored settings, or privileges on parameters: no cache tells of
/// those.
///
/// # Safety
/// `node` is a valid statement.
unsafe fn stores_settings(node: *mut pg_sys::Node) -> bool {
    // SAFETY: the cast follows the node's tag.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_AlterDatabaseSetStmt | pg_sys::NodeTag::T_AlterRoleSetStmt => true,
            pg_sys::NodeTag::T_GrantStmt => {
                (*node.cast::<pg_sys::GrantStmt>()).objtype
                    == pg_sys::ObjectType::OBJECT_PARAMETER_ACL
            }
            _ => false,
        }
    }
}

/// ALTER SYSTEM writes a file, which no error takes back; without the library in the session nobody
/// judges; and what is stored for another database, or from one that has no contract, is judged
/// nowhere.
///
/// # Safety
/// `node` is a valid statement.
unsafe fn refuse_what_cannot_be_undone(node: *mut pg_sys::Node) {
    // SAFETY: each cast follows the node's tag.
    let (set, place) = unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_AlterSystemStmt => {
                ((*node.cast::<pg_sys::AlterSystemStmt>()).setstmt, "ALTER SYSTEM")
            }
            pg_sys::NodeTag::T_AlterDatabaseSetStmt => {
                ((*node.cast::<pg_sys::AlterDatabaseSetStmt>()).setstmt, "ALTER DATABASE")
            }
            pg_sys::NodeTag::T_AlterRoleSetStmt => {
                ((*node.cast::<pg_sys::AlterRoleSetStmt>()).setstmt, "ALTER ROLE")
            }
            _ => return,
        }
    };
    // SAFETY: `set` is a valid statement; the value is null or a C string.
    let (name, value, all) = unsafe {
        let name = (*set).name;
        let name = if name.is_null() {
            String::new()
        } else {
            CStr::from_ptr(name).to_string_lossy().to_ascii_lowercase()
        };
        let sets = (*set).kind == pg_sys::VariableSetKind::VAR_SET_VALUE;
        let value = if sets { pg_sys::ExtractSetVariableArgs(set) } else { std::ptr::null_mut() };
        let value = if value.is_null() {
            String::new()
        } else {
            CStr::from_ptr(value).to_string_lossy().into_owned()
        };
        (name, value, (*set).kind == pg_sys::VariableSetKind::VAR_RESET_ALL)
    };
    // What the statement would leave without the library.
    let unloads = |parameter: &str| {
        (all || name == parameter)
            && !value.contains("dragonfly_guard")
            && settings::loads_library(parameter)
    };
    let sets = !value.is_empty() && !all;
    let silenced = sets && disables_guard(&name, &value);
    let matters =
        silenced || unloads("shared_preload_libraries") || unloads("session_preload_libraries");
    if matters && settings::mode() == Mode::block {
        enforce::disables_guard(place, if all { "RESET ALL" } else { &name });
    } else if matters {
        enforce::unchecked(place);
    }
}
