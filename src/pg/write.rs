//! Writing to the extension's own tables, on behalf of roles that may execute the extension's
//! functions and have no privilege on the tables.

use super::report::Report;
use super::text::{from_server, to_server};
use dragonfly_core::catalog::Oid;
use dragonfly_core::sql::safe_qualified;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::ffi::{CStr, CString};

/// A parameter of a statement: its type and its value, `None` for NULL.
pub type Argument = (pg_sys::Oid, Option<pg_sys::Datum>);

/// Executes one statement on a table of the extension as the owner of the table, as the server does
/// for foreign keys (ri_triggers.c, `ri_PerformCheck`): constraints are enforced, read-only
/// transactions raise an error, and the caller needs no privilege on the table.
///
/// `statement` receives the table's name. All names in the result must be qualified.
pub fn as_owner(table: Oid, statement: impl FnOnce(&str) -> String, arguments: &[Argument]) {
    let sql = CString::new(to_server(&statement(&name(table))))
        .expect("a statement of the extension has no zero byte");
    let mut types: Vec<pg_sys::Oid> = arguments.iter().map(|(type_oid, _)| *type_oid).collect();
    let mut values: Vec<pg_sys::Datum> =
        arguments.iter().map(|(_, value)| value.unwrap_or(pg_sys::Datum::null())).collect();
    let nulls: Vec<u8> =
        arguments.iter().map(|(_, value)| if value.is_some() { b' ' } else { b'n' }).collect();
    let (mut role, mut context) = (pg_sys::InvalidOid, 0);
    let as_owner = (pg_sys::SECURITY_LOCAL_USERID_CHANGE
        | pg_sys::SECURITY_RESTRICTED_OPERATION
        | pg_sys::SECURITY_NOFORCE_RLS) as i32;
    // SAFETY: the arrays have `count` elements and live as long as the call. After an error, the
    // end of the (sub)transaction restores the user and disconnects from SPI.
    unsafe {
        let owner = owner(table);
        pg_sys::GetUserIdAndSecContext(&mut role, &mut context);
        pg_sys::SetUserIdAndSecContext(owner, context | as_owner);
        pg_sys::SPI_connect();
        let count = arguments.len() as i32;
        let (types, values, nulls) =
            (types.as_mut_ptr(), values.as_mut_ptr(), nulls.as_ptr().cast());
        let done =
            pg_sys::SPI_execute_with_args(sql.as_ptr(), count, types, values, nulls, false, 0);
        if done < 0 {
            pgrx::error!(
                "{}",
                CStr::from_ptr(pg_sys::SPI_result_code_string(done)).to_string_lossy()
            );
        }
        let rows = pg_sys::SPI_processed;
        assert_eq!(rows, 1, "one row");
        pg_sys::SPI_finish();
        pg_sys::SetUserIdAndSecContext(role, context);
        // Makes the change visible to the next command.
        pg_sys::CommandCounterIncrement();
    }
}

/// Returns the id for a new row, one more than the last. Raises an error where the last id is the
/// highest possible one, which only a manual INSERT can have used.
pub fn next_id(last: Option<i32>) -> i32 {
    last.unwrap_or(0).checked_add(1).unwrap_or_else(|| {
        Report { message: "reached maximum id of the table".into(), ..Report::default() }
            .error(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED)
    })
}

/// Returns the qualified and quoted name of a table.
fn name(table: Oid) -> String {
    let text = |name: *mut std::ffi::c_char| {
        assert!(!name.is_null(), "the table exists");
        // SAFETY: a C string, because it is not null.
        from_server(unsafe { CStr::from_ptr(name) }.to_bytes())
    };
    // SAFETY: lookups in the system cache; null or C strings.
    let (schema, name) = unsafe {
        (
            pg_sys::get_namespace_name(pg_sys::get_rel_namespace(table.into())),
            pg_sys::get_rel_name(table.into()),
        )
    };
    safe_qualified(&text(schema), &text(name))
}

/// Returns the owner of a table.
///
/// # Safety
/// The table exists.
unsafe fn owner(table: Oid) -> pg_sys::Oid {
    // SAFETY: raises an error where the table does not exist; its row of pg_class is valid while it
    // is open.
    unsafe {
        let relation =
            pg_sys::table_open(table.into(), pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
        let owner = (*(*relation).rd_rel).relowner;
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        owner
    }
}

/// Returns a value of type text, in memory of the server.
pub fn text_datum(text: &str) -> pg_sys::Datum {
    let bytes = to_server(text);
    // SAFETY: copies `bytes.len()` bytes.
    pg_sys::Datum::from(unsafe {
        pg_sys::cstring_to_text_with_len(bytes.as_ptr().cast(), bytes.len() as i32)
    })
}
