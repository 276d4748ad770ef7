//! The functions that the server calls: the event triggers, the object access hook, and the
//! callbacks of caches and transactions. They record changes and call [`commands`].
//!
//! Changes are reported by the object access hook (routines, extensions, event triggers; called
//! after the catalog row is written, objectaccess.h) and by the invalidations of the relation cache
//! and the system caches, which every change of a catalog row sends to its own backend too, no
//! later than the next command counter increment (inval.c). The latter cover GRANT, policies and
//! row security. Changes of other sessions arrive in the same way; both states agree in these, so
//! that checking them has no effect.

use super::changes::{self, Changed};
use super::{check, commands, enforce, grants, transaction, utility};
use crate::catalog;
use crate::pg::call::{Call, sql_function};
use crate::pg::heap::State;
use crate::pg::list::nodes;
use crate::pg::memory;
use crate::pg::probe;
use crate::pg::report::Report;
use crate::pg::syscache;
use crate::settings::{self, Mode};
use pgrx::{PgSqlErrorCode, pg_guard, pg_sys};
use std::cell::Cell;
use std::ffi::{CStr, c_void};

thread_local! {
    static PREVIOUS: Cell<pg_sys::object_access_hook_type> = const { Cell::new(None) };
}

/// Installs the hooks, in front of existing ones. Called when the library is loaded.
pub fn install() {
    use pg_sys::SysCacheIdentifier::{
        AUTHMEMROLEMEM, AUTHOID, DATABASEOID, DEFACLROLENSPOBJ, EVENTTRIGGEROID, NAMESPACEOID,
        OPEROID, PARAMETERACLOID, PROCOID, TYPEOID,
    };
    // SAFETY: called once, when the library is loaded, by a backend's only thread.
    unsafe {
        PREVIOUS.set(pg_sys::object_access_hook);
        pg_sys::object_access_hook = Some(object_access);
        let none = pg_sys::Datum::null();
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), none);
        for cache in [AUTHMEMROLEMEM, AUTHOID, DATABASEOID, DEFACLROLENSPOBJ, NAMESPACEOID] {
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(catalog_changed), none);
        }
        pg_sys::CacheRegisterSyscacheCallback(PROCOID as i32, Some(routine_changed), none);
        for cache in [TYPEOID, OPEROID] {
            let changed = Some(type_or_operator_changed as _);
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, changed, none);
        }
        if settings::is_hardened() {
            for cache in [EVENTTRIGGEROID, PARAMETERACLOID] {
                pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(catalog_changed), none);
            }
        }
        pg_sys::RegisterSubXactCallback(Some(subtransaction_event), std::ptr::null_mut());
        pg_sys::RegisterXactCallback(Some(transaction_event), std::ptr::null_mut());
    }
    if settings::is_hardened() {
        utility::install();
    }
}

sql_function!(
    /// `dragonfly_guard.ddl_command_start() RETURNS event_trigger`
    guard_ddl_command_start => command_start
);
fn command_start(call: Call) -> pg_sys::Datum {
    if probe::answers(&call) {
        return pg_sys::Datum::null();
    }
    let tag = event(call);
    changes::statement_starts();
    enforce::note_mode(&tag);
    if tag == CREATE_EXTENSION {
        settings::extension_begins();
    }
    transaction::command_starts(tag, call.event_trigger_parse_tree().is_some_and(names_the_guard));
    pg_sys::Datum::null()
}

sql_function!(
    /// `dragonfly_guard.ddl_command_end() RETURNS event_trigger`
    guard_ddl_command_end => command_end
);
fn command_end(call: Call) -> pg_sys::Datum {
    if probe::answers(&call) {
        return pg_sys::Datum::null();
    }
    let tag = event(call);
    if let Some(statement) = call.event_trigger_parse_tree() {
        if grants::may_concern_server(statement) {
            changes::note(Changed::ServerObjects);
        }
        if grants::is_to_public(statement) {
            for routine in changes::written_since_start() {
                changes::note(Changed::GrantToPublic(routine));
            }
        }
    }
    if tag == CREATE_EXTENSION {
        settings::extension_ends();
    }
    commands::ended(&tag);
    pg_sys::Datum::null()
}

const CREATE_EXTENSION: &str = "CREATE EXTENSION";

/// Whether the statement is a superuser's DROP EXTENSION that names the extension.
fn names_the_guard(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: the parse tree of a statement; the cast follows the node's tag, and an extension's
    // name is a string.
    unsafe {
        if (*statement).type_ != pg_sys::NodeTag::T_DropStmt || !pg_sys::superuser() {
            return false;
        }
        let drop = statement.cast::<pg_sys::DropStmt>();
        (*drop).removeType == pg_sys::ObjectType::OBJECT_EXTENSION
            && nodes((*drop).objects)
                .any(|name| CStr::from_ptr(grants::string(name)) == c"dragonfly_guard")
    }
}

/// Returns the tag of the command for which the event trigger is called. Raises an error where the
/// function is not called as an event trigger.
fn event(call: Call) -> String {
    call.event_trigger_tag().unwrap_or_else(|| {
        Report {
            message: "this function can only be called by an event trigger".into(),
            ..Report::default()
        }
        .error(PgSqlErrorCode::ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED)
    })
}

/// The hook. This frame holds no values with destructors, so that an error of the previous hook may
/// leave it by a long jump.
unsafe extern "C-unwind" fn object_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub: i32,
    argument: *mut c_void,
) {
    use pg_sys::ObjectAccessType::{OAT_DROP, OAT_POST_ALTER, OAT_POST_CREATE};
    if let Some(previous) = PREVIOUS.get() {
        // SAFETY: calls the previous hook with the arguments of the server.
        unsafe { previous(access, class, object, sub, argument) };
    }
    if matches!(access, OAT_POST_CREATE | OAT_POST_ALTER | OAT_DROP) {
        // SAFETY: has no requirements on its arguments.
        unsafe { object_changed(access, class, object) };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn object_changed(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
) {
    let is_dropped = access == pg_sys::ObjectAccessType::OAT_DROP;
    let is_new = access == pg_sys::ObjectAccessType::OAT_POST_CREATE;
    // ON COMMIT DROP drops the dependents of the table after everything has been checked. (Other
    // kinds of dependents are the responsibility of their owners.)
    if is_dropped
        && transaction::is_committing()
        && settings::mode() == Mode::block
        && matches!(
            class.to_u32(),
            catalog::PG_EXTENSION | catalog::PG_NAMESPACE | catalog::PG_POLICY
        )
        && catalog::temporary::is_permanent(&State::now(), (class.to_u32(), object.to_u32()))
        && (class.to_u32() == catalog::PG_EXTENSION || check::is_blocking(&State::now()))
    {
        enforce::dropped_at_commit(&catalog::description(class, object));
    }
    let (catalog, oid) = (class.to_u32(), object.to_u32());
    if catalog::may_use_others(catalog) {
        changes::note(Changed::Parts);
    }
    if !is_dropped && catalog::may_be_owned_by_requests(catalog) {
        changes::note(Changed::ServerObjects);
    }
    match catalog {
        // The server reports no change of the domain.
        catalog::PG_CONSTRAINT if is_dropped => {
            if let Some(domain) = catalog::domain_of_constraint(&State::now(), oid) {
                changes::note(Changed::Other(catalog::PG_TYPE, domain));
            }
        }
        // No cache callback reports a change of the column that owns a sequence.
        catalog::PG_CLASS if !is_dropped => changes::note(Changed::Relation(oid)),
        catalog::PG_TYPE | catalog::PG_OPERATOR if !is_dropped => {
            changes::note(Changed::Other(catalog, oid));
        }
        catalog::PG_PROC => changes::note(Changed::Routine(oid)),
        catalog::PG_EXTENSION => changes::note(Changed::Extension(oid)),
        catalog::PG_EVENT_TRIGGER => {
            changes::note(Changed::Own);
            if !is_dropped {
                changes::note(Changed::Object(catalog, oid));
            }
        }
        catalog::PG_CAST | catalog::PG_CONSTRAINT if !is_dropped => {
            changes::note(Changed::Object(catalog, oid));
        }
        // The role that creates a large object owns it.
        catalog::PG_LARGEOBJECT if !is_dropped && !is_new => {
            changes::note(Changed::Object(catalog, oid));
        }
        _ => {}
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    // Of relations that initdb created, only privileges are checked. 0 is a reset of the whole
    // cache, which does not replace the message about a change of this session.
    let relation = relation.to_u32();
    catalog::consulted_object_changed(catalog::PG_CLASS, relation);
    catalog::contents_of_pg_catalog_changed(catalog::PG_CLASS, relation);
    if relation != 0 && transaction::may_change() {
        changes::note(match relation {
            pg_sys::FirstNormalObjectId.. => Changed::Relation(relation),
            _ => Changed::ServerObjects,
        });
    }
}

#[pg_guard]
#[allow(
    clippy::unnecessary_cast,
    reason = "the type of the identifiers differs between major versions"
)]
unsafe extern "C-unwind" fn catalog_changed(_argument: pg_sys::Datum, cache: i32, hash: u32) {
    use pg_sys::SysCacheIdentifier::{
        AUTHMEMROLEMEM, AUTHOID, DATABASEOID, DEFACLROLENSPOBJ, EVENTTRIGGEROID, NAMESPACEOID,
        PARAMETERACLOID,
    };
    match cache as pg_sys::SysCacheIdentifier::Type {
        AUTHMEMROLEMEM | AUTHOID | DATABASEOID => catalog::forget_base(),
        NAMESPACEOID => {
            catalog::forget_schemas();
            // Tables are declared with the names of their schemas.
            catalog::consulted_object_changed(catalog::PG_NAMESPACE, 0);
        }
        _ => {}
    }
    if transaction::may_change() {
        if cache as pg_sys::SysCacheIdentifier::Type == NAMESPACEOID && is_of_server(hash) {
            changes::note(Changed::ServerObjects);
        }
        changes::note(match cache as pg_sys::SysCacheIdentifier::Type {
            NAMESPACEOID => Changed::Schemas,
            DEFACLROLENSPOBJ => Changed::DefaultAcls,
            EVENTTRIGGEROID | PARAMETERACLOID => Changed::Own,
            _ => Changed::Roles,
        });
    }
}

/// Whether this is the hash of a schema that initdb has created, except for `public`.
fn is_of_server(hash: u32) -> bool {
    let schema = syscache::oid_of_hash(hash);
    (1..pg_sys::FirstNormalObjectId).contains(&schema) && schema != PUBLIC_SCHEMA
}

/// The schema `public` (pg_namespace.dat).
const PUBLIC_SCHEMA: u32 = 2200;

/// Records a change of a row of `pg_proc`. No object access hook reports those of GRANT and DROP
/// OWNED.
#[pg_guard]
unsafe extern "C-unwind" fn routine_changed(_argument: pg_sys::Datum, _cache: i32, hash: u32) {
    let routine = syscache::oid_of_hash(hash);
    catalog::consulted_object_changed(catalog::PG_PROC, routine);
    catalog::contents_of_pg_catalog_changed(catalog::PG_PROC, routine);
    catalog::known_routine_changed(routine);
    if routine == 0 || !transaction::may_change() {
        return;
    }
    if routine >= pg_sys::FirstNormalObjectId {
        changes::note_routine_row(routine);
    } else {
        changes::note(Changed::ServerObjects);
    }
}

/// Records a change of a row of `pg_type` or `pg_operator`. What the guard checks of these, the
/// object access hook reports.
#[pg_guard]
#[allow(
    clippy::unnecessary_cast,
    reason = "the type of the identifiers differs between major versions"
)]
unsafe extern "C-unwind" fn type_or_operator_changed(
    _argument: pg_sys::Datum,
    cache: i32,
    hash: u32,
) {
    let catalog = match cache as pg_sys::SysCacheIdentifier::Type {
        pg_sys::SysCacheIdentifier::TYPEOID => catalog::PG_TYPE,
        _ => catalog::PG_OPERATOR,
    };
    catalog::contents_of_pg_catalog_changed(catalog, syscache::oid_of_hash(hash));
}

#[pg_guard]
unsafe extern "C-unwind" fn subtransaction_event(
    event: pg_sys::SubXactEvent::Type,
    own: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    _argument: *mut c_void,
) {
    use pg_sys::SubXactEvent::{SUBXACT_EVENT_ABORT_SUB, SUBXACT_EVENT_COMMIT_SUB};
    match event {
        SUBXACT_EVENT_ABORT_SUB => {
            changes::subtransaction_aborted(own);
            transaction::subtransaction_aborted(own);
        }
        SUBXACT_EVENT_COMMIT_SUB => {
            changes::subtransaction_committed(own, parent);
            transaction::subtransaction_committed(own, parent);
        }
        _ => {}
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_event(
    event: pg_sys::XactEvent::Type,
    _argument: *mut c_void,
) {
    use pg_sys::XactEvent::{
        XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PARALLEL_ABORT, XACT_EVENT_PARALLEL_COMMIT,
        XACT_EVENT_PRE_COMMIT, XACT_EVENT_PRE_PREPARE, XACT_EVENT_PREPARE,
    };
    match event {
        XACT_EVENT_PRE_COMMIT | XACT_EVENT_PRE_PREPARE => {
            enforce::note_mode("COMMIT");
            memory::guarded(|| commands::before_commit(event == XACT_EVENT_PRE_PREPARE));
        }
        XACT_EVENT_ABORT
        | XACT_EVENT_COMMIT
        | XACT_EVENT_PREPARE
        | XACT_EVENT_PARALLEL_ABORT
        | XACT_EVENT_PARALLEL_COMMIT => {
            changes::forget();
            transaction::forget();
            memory::transaction_ended();
        }
        _ => {}
    }
}
