//! The contract's own tables, declared beside actual: the role x schema matrix and the row security
//! reference.

use crate::audit::with_context;
use crate::pg::call::{Call, Value, sql_function};
use dragonfly_core::report::overview;
use pgrx::pg_sys;

sql_function!(
    /// `ops.role_matrix()`
    ops_role_matrix => role_matrix
);
fn role_matrix(call: Call) -> pg_sys::Datum {
    let rows = with_context(overview::role_matrix).into_iter().map(|cell| {
        vec![
            Value::Name(cell.schema),
            Value::Name(cell.role),
            Value::Text(cell.declared),
            Value::text(cell.actual),
            Value::Bool(cell.conforms),
        ]
    });
    call.table(rows)
}

sql_function!(
    /// `ops.rls_coverage()`
    ops_rls_coverage => rls_coverage
);
fn rls_coverage(call: Call) -> pg_sys::Datum {
    let rows = with_context(overview::rls_coverage).into_iter().map(|table| {
        vec![
            Value::Name(table.schema),
            Value::Name(table.name),
            Value::Bool(table.declared),
            Value::Bool(table.row_security_declared),
            table.row_security.map_or(Value::Null, Value::Bool),
            table.force_row_security.map_or(Value::Null, Value::Bool),
            Value::Json(table.policies_declared),
            Value::Json(table.policies),
            Value::Bool(table.conforms),
        ]
    });
    call.table(rows)
}
