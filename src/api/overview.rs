//! The tables of the contract with the declared and the actual state: the matrix of roles and
//! schemas, and the row security of each table.

use crate::audit::with_context;
use crate::pg::call::{Call, Value, sql_function};
use dragonfly_core::report::overview;
use pgrx::pg_sys;

sql_function!(
    /// `ops.role_matrix() RETURNS TABLE (schema_name name, role_name name, declared text,
    /// actual text, conforms bool)`
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
    /// `ops.rls_coverage() RETURNS TABLE (schema_name name, table_name name, declared bool,
    /// row_security_declared bool, row_security bool, force_row_security bool,
    /// policies_declared jsonb, policies jsonb, conforms bool)`
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
