//! Writing to the extension's own tables, for people who may call the functions that do it and may
//! do nothing with the tables themselves.

use super::report::Report;
use super::text::{from_server, to_server};
use dragonfly_core::catalog::Oid;
use dragonfly_core::sql::safe_qualified;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::ffi::{CStr, CString};

/// A value of a statement: its type, and NULL where there is none.
pub type Argument = (pg_sys::Oid, Option<pg_sys::Datum>);

/// Runs one statement on a table of the extension's as the owner of the table, as the server itself
/// does for foreign keys (ri_triggers.c, `ri_PerformCheck`): its constraints hold, a read-only
/// transaction is refused, and nobody needs a privilege on the table. `statement` is given the
/// table's name, and names nothing that is looked up by a search_path.
pub fn as_owner(table: Oid, statement: impl FnOnce(&str) -> String, arguments: &[Argument]) {
    let sql = CString::new(to_server(&statement(&name(table))))
        .expect("no zero byte in a statement of ours");
    let mut types: Vec<pg_sys::Oid> = arguments.iter().map(|(type_oid, _)| *type_oid).collect();
    let mut values: Vec<pg_sys::Datum> =
        arguments.iter().map(|(_, value)| value.unwrap_or(pg_sys::Datum::null())).collect();
    let nulls: Vec<u8> =
        arguments.iter().map(|(_, value)| if value.is_some() { b' ' } else { b'n' }).collect();
    let (mut role, mut context) = (pg_sys::InvalidOid, 0);
    let as_owner = (pg_sys::SECURITY_LOCAL_USERID_CHANGE
        | pg_sys::SECURITY_RESTRICTED_OPERATION
        | pg_sys::SECURITY_NOFORCE_RLS) as i32;
    // SAFETY: the arrays have as many elements as is said, and live as long as the call. After an
    // error the end of the (sub)transaction puts the user back and disconnects from SPI.
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
        // What follows sees it.
        pg_sys::CommandCounterIncrement();
    }
}

/// The number after the last of a table's rows. (Who has written the highest there is by hand has
/// to number them anew.)
pub fn next_id(last: Option<i32>) -> i32 {
    last.unwrap_or(0).checked_add(1).unwrap_or_else(|| {
        Report { message: "there are no numbers left".into(), ..Report::default() }
            .error(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED)
    })
}

/// The table as SQL names it.
fn name(table: Oid) -> String {
    let text = |name: *mut std::ffi::c_char| {
        assert!(!name.is_null(), "the table is there");
        // SAFETY: a C string, as has been seen.
        from_server(unsafe { CStr::from_ptr(name) }.to_bytes())
    };
    // SAFETY: look-ups in the system cache; null or C strings.
    let (schema, name) = unsafe {
        (
            pg_sys::get_namespace_name(pg_sys::get_rel_namespace(table.into())),
            pg_sys::get_rel_name(table.into()),
        )
    };
    safe_qualified(&text(schema), &text(name))
}

/// The owner of a table.
///
/// # Safety
/// The table is there.
unsafe fn owner(table: Oid) -> pg_sys::Oid {
    // SAFETY: an error where there is no such table; its row of pg_class is valid while it is open.
    unsafe {
        let relation =
            pg_sys::table_open(table.into(), pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
        let owner = (*(*relation).rd_rel).relowner;
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        owner
    }
}

/// A value of type text, in memory of the server's.
pub fn text_datum(text: &str) -> pg_sys::Datum {
    let bytes = to_server(text);
    // SAFETY: copies so many bytes.
    pg_sys::Datum::from(unsafe {
        pg_sys::cstring_to_text_with_len(bytes.as_ptr().cast(), bytes.len() as i32)
    })
}
