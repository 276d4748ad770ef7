//! Hardened mode: where the library is loaded before a session's first statement, hooks also
//! check statements that fire no event trigger: ALTER ROLE, GRANT role, GRANT ON DATABASE, ALTER
//! DATABASE, REASSIGN OWNED, ALTER and DROP EVENT TRIGGER, and all statements while event triggers
//! are disabled. Like others, they are checked by their effect on the catalog. The executor hook
//! records direct writes to catalogs, after which everything is checked.

use super::changes::{self, Changed};
use super::{check, commands, enforce, grants, transaction};
use crate::catalog::{self, Own};
use crate::pg::heap::State;
use crate::pg::memory;
use crate::settings::{self, Mode, Preload};
use dragonfly_core::catalog::Oid;
use pgrx::{pg_guard, pg_sys};
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int};

/// The setting of the mode.
const MODE: &str = "dragonfly_guard.mode";

thread_local! {
    static PREVIOUS: Cell<pg_sys::ProcessUtility_hook_type> = const { Cell::new(None) };
    static PREVIOUS_START: Cell<pg_sys::ExecutorStart_hook_type> = const { Cell::new(None) };
}

/// Installs the hooks, in front of existing ones.
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
    /// Declared here rather than called through pgrx, so that an error of the statement keeps its
    /// position and its context.
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

/// The executor hook. As in [`process_utility`], this frame holds no values with destructors.
unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: the arguments of the server are passed on unchanged.
    unsafe {
        record_query(query);
        PREVIOUS_START.get().unwrap_or(standard_ExecutorStart)(query, flags);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn record_query(query: *mut pg_sys::QueryDesc) {
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
            record_write((*entry).relid);
        }
    }
}

/// Records a direct write to a relation if it is a catalog, which means that initdb created it.
fn record_write(relation: pg_sys::Oid) {
    if relation != pg_sys::InvalidOid && relation.to_u32() < pg_sys::FirstNormalObjectId {
        changes::note(Changed::Catalogs);
    }
}

/// Records COPY ... FROM, which writes without a plan.
///
/// # Safety
/// `node` is a valid statement.
unsafe fn record_copy(node: *mut pg_sys::Node) {
    // SAFETY: the cast follows the node's tag; the OID of a relation that does not exist is 0.
    unsafe {
        if (*node).type_ == pg_sys::NodeTag::T_CopyStmt {
            let copy = node.cast::<pg_sys::CopyStmt>();
            if (*copy).is_from && !(*copy).relation.is_null() {
                let flags = pg_sys::RVROption::RVR_MISSING_OK;
                let lock = pg_sys::NoLock as pg_sys::LOCKMODE;
                let none = std::ptr::null_mut();
                record_write(pg_sys::RangeVarGetRelidExtended(
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

/// The properties of a statement, read before it is executed: the parse tree may not outlive a
/// statement that ends its transaction.
#[repr(C)]
#[derive(Clone, Copy)]
struct Statement {
    is_ddl: bool,
    /// Whether it may change the mode of the session.
    sets_variable: bool,
    stores_settings: bool,
    /// Whether it changes privileges on objects of the server.
    concerns_server: bool,
    /// The number of commands that had fired event triggers and ended before it.
    ended_before: usize,
    /// The command tag, a static string of the server.
    tag: *const c_char,
}

/// The utility hook. This frame holds no values with destructors, so that an error may leave it by
/// a long jump.
#[allow(clippy::too_many_arguments, reason = "the signature is that of the server's hook")]
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
    // SAFETY: the arguments of the server are passed on unchanged.
    unsafe {
        let known = before(statement, context);
        let next = PREVIOUS.get().unwrap_or(standard_ProcessUtility);
        next(statement, text, read_only, context, parameters, environment, destination, completion);
        if known.is_ddl || known.sets_variable {
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
            reject_irreversible(node);
        }
        record_copy(node);
        let tag = pg_sys::GetCommandTagName(pg_sys::CreateCommandTag(node));
        let sets_variable = (*node).type_ == pg_sys::NodeTag::T_VariableSetStmt;
        if is_ddl && pg_sys::IsTransactionState() {
            enforce::note_mode(&CStr::from_ptr(tag).to_string_lossy());
        }
        Statement {
            is_ddl,
            sets_variable,
            stores_settings: stores_settings(node),
            concerns_server: grants::may_concern_server(node),
            ended_before: transaction::ended_commands(),
            tag,
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn after(known: Statement) {
    // SAFETY: reads the state of the transaction; the tag is a C string.
    unsafe {
        if !pg_sys::IsTransactionState() {
            return;
        }
        let tag = CStr::from_ptr(known.tag).to_string_lossy();
        if known.is_ddl {
            memory::guarded(|| statement_ended(known, &tag));
        } else {
            enforce::note_mode(&tag);
        }
    }
}

/// Checks the changes that have not been checked: none where the statement has fired event
/// triggers.
fn statement_ended(known: Statement, tag: &str) {
    if known.stores_settings {
        changes::note(Changed::Own);
    }
    if known.concerns_server {
        changes::note(Changed::ServerObjects);
    }
    // SAFETY: between commands; makes the statement's changes visible, so that the cache callbacks
    // record them.
    unsafe { pg_sys::CommandCounterIncrement() };
    // A database without the extension has no contract. Where the statement has dropped the
    // extension, the commit is checked.
    if !changes::unchecked().is_empty() && Own::is_there(&State::now()) {
        // Where the statement has fired event triggers, these are changes of other sessions that
        // have arrived since then, and the statement has been counted.
        if transaction::ended_commands() == known.ended_before {
            commands::ended(tag);
        } else {
            commands::check_unchecked(tag);
        }
    }
}

/// Whether a statement changes stored settings or privileges on parameters, which no cache callback
/// reports.
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

/// Rejects a statement that would disable the guard, or an ALTER SYSTEM that would weaken
/// privileges, and cannot be checked afterwards. ALTER SYSTEM writes a file, which an error does
/// not roll back. New sessions without the library check nothing. Settings that are stored for
/// another database, or by a session in a database without a contract, are not checked at commit.
///
/// # Safety
/// `node` is a valid statement.
unsafe fn reject_irreversible(node: *mut pg_sys::Node) {
    // SAFETY: as the caller promises.
    let Some(setting) = (unsafe { StoredSetting::of(node) }) else { return };
    if !setting.disables_guard() {
        if setting.changes_mode() {
            enforce::changes_stored_mode(setting.command);
        }
        if matches!(setting.holder, Holder::Server) && !setting.is_reset {
            check::server_setting(&setting.name, &setting.value, setting.command);
        }
        return;
    }
    if settings::mode() == Mode::block {
        let parameter = (!setting.is_reset_all).then_some(setting.name.as_str());
        enforce::disables_guard(setting.command, parameter);
    }
    enforce::unchecked(setting.command);
}

/// The change of a stored setting by ALTER SYSTEM, ALTER DATABASE or ALTER ROLE.
struct StoredSetting {
    /// The first two words of the statement.
    command: &'static str,
    /// The parameter, in lower case; empty for RESET ALL.
    name: String,
    /// The new value; empty for RESET.
    value: String,
    is_reset: bool,
    is_reset_all: bool,
    holder: Holder,
}

/// Where a setting is stored.
#[derive(Clone, Copy)]
enum Holder {
    /// `postgresql.auto.conf`.
    Server,
    /// The row of `pg_db_role_setting` for a database and a role, 0 for all.
    Row { database: Oid, role: Oid },
}

impl StoredSetting {
    /// Returns the setting that a statement changes; `None` for other statements.
    ///
    /// # Safety
    /// `node` is a valid statement.
    unsafe fn of(node: *mut pg_sys::Node) -> Option<Self> {
        // SAFETY: each cast follows the node's tag; `set` is a valid statement; name and value are
        // null or C strings.
        unsafe {
            let database_oid = |name: *mut c_char| {
                if name.is_null() { 0 } else { pg_sys::get_database_oid(name, true).to_u32() }
            };
            let (set, command, holder) = match (*node).type_ {
                pg_sys::NodeTag::T_AlterSystemStmt => {
                    let statement = node.cast::<pg_sys::AlterSystemStmt>();
                    ((*statement).setstmt, "ALTER SYSTEM", Holder::Server)
                }
                pg_sys::NodeTag::T_AlterDatabaseSetStmt => {
                    let statement = node.cast::<pg_sys::AlterDatabaseSetStmt>();
                    let database = database_oid((*statement).dbname);
                    ((*statement).setstmt, "ALTER DATABASE", Holder::Row { database, role: 0 })
                }
                pg_sys::NodeTag::T_AlterRoleSetStmt => {
                    let statement = node.cast::<pg_sys::AlterRoleSetStmt>();
                    let role = (*statement).role;
                    let role = if role.is_null() {
                        0
                    } else {
                        pg_sys::get_rolespec_oid(role, true).to_u32()
                    };
                    let database = database_oid((*statement).database);
                    ((*statement).setstmt, "ALTER ROLE", Holder::Row { database, role })
                }
                _ => return None,
            };
            let text = |text: *const c_char| {
                if text.is_null() {
                    String::new()
                } else {
                    CStr::from_ptr(text).to_string_lossy().into_owned()
                }
            };
            let value = if (*set).kind == pg_sys::VariableSetKind::VAR_SET_VALUE {
                pg_sys::ExtractSetVariableArgs(set)
            } else {
                std::ptr::null_mut()
            };
            Some(Self {
                command,
                name: text((*set).name).to_ascii_lowercase(),
                value: text(value),
                is_reset: matches!(
                    (*set).kind,
                    pg_sys::VariableSetKind::VAR_RESET
                        | pg_sys::VariableSetKind::VAR_RESET_ALL
                        | pg_sys::VariableSetKind::VAR_SET_DEFAULT
                ),
                is_reset_all: (*set).kind == pg_sys::VariableSetKind::VAR_RESET_ALL,
                holder,
            })
        }
    }

    /// Whether new sessions would run without the library, or with the guard disabled.
    fn disables_guard(&self) -> bool {
        let sets_value = !self.value.is_empty() && !self.is_reset_all;
        sets_value && catalog::disables_guard(&self.name, &self.value)
            || self.unloads_library("shared_preload_libraries")
            || self.unloads_library("session_preload_libraries")
    }

    /// Whether the statement removes the library from this list of libraries.
    fn unloads_library(&self, parameter: &str) -> bool {
        let concerns = (self.is_reset_all || self.name == parameter)
            && !self.value.contains("dragonfly_guard")
            && settings::loads_library(parameter);
        concerns
            && match self.holder {
                Holder::Server => !self.is_reset || settings::is_stored_by_alter_system(parameter),
                // Where the server loads the library, no setting of a role or database matters.
                Holder::Row { .. } if settings::preload() == Preload::Shared => false,
                Holder::Row { .. } => {
                    !self.is_reset
                        || self.stored(parameter).is_some_and(|v| v.contains("dragonfly_guard"))
                }
            }
    }

    /// Whether the statement changes a stored mode.
    fn changes_mode(&self) -> bool {
        self.name == MODE || self.is_reset_all && self.stored(MODE).is_some()
    }

    /// Returns the value that is stored now, for a database or a role.
    fn stored(&self, parameter: &str) -> Option<String> {
        let Holder::Row { database, role } = self.holder else { return None };
        catalog::stored_setting(&State::now(), database, role, parameter)
    }
}
