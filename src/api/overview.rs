//! The tables of the contract with the declared and the actual state: the matrix of roles and
//! schemas, the row security of each table, and its policies.

use crate::audit::{in_context, with_context};
use crate::catalog::{self, PolicyTexts};
use crate::pg::call::{Call, Value, sql_function};
use crate::store::Installation;
use dragonfly_core::catalog::{Command, Oid};
use dragonfly_core::report::{PolicyRow, Reach, overview, rls_policies as policies_of};
use pgrx::pg_sys;
use std::collections::HashSet;

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
            Value::Json(table.policies_declared.into()),
            Value::Json(table.policies.into()),
            Value::Bool(table.conforms),
        ]
    });
    call.table(rows)
}

sql_function!(
    /// `ops.rls_policies() RETURNS TABLE (schema_name name, table_name name, policy_name name,
    /// permissive text, roles name[], command text, using_expression text, check_expression text,
    /// ties text[], open_when text[], lookups text[], unknown_because text[])`
    ops_rls_policies => rls_policies
);
fn rls_policies(call: Call) -> pg_sys::Datum {
    let Installation { state, own, contract } = Installation::now();
    let snapshot = catalog::with_exposures(&state, &contract, &own);
    let rows = in_context(&contract, &snapshot, |cx| {
        let rows = policies_of(cx);
        let tables: HashSet<Oid> = rows.iter().map(|row| row.policy.relation).collect();
        let mut texts = catalog::policy_texts(&state, |table| tables.contains(&table));
        let row = |row: PolicyRow<'_>| {
            let texts = texts.remove(&row.policy.oid).unwrap_or_default();
            values_of_policy(row, texts)
        };
        rows.into_iter().map(row).collect::<Vec<_>>()
    });
    call.table(rows)
}

fn values_of_policy(row: PolicyRow<'_>, texts: PolicyTexts) -> Vec<Value> {
    let PolicyRow { schema, table, policy, roles, reach } = row;
    let mut values = vec![
        Value::Name(schema.to_owned()),
        Value::Name(table.to_owned()),
        Value::Name(policy.name.clone()),
        Value::Text(if policy.permissive { "PERMISSIVE" } else { "RESTRICTIVE" }.to_owned()),
        Value::Names(roles),
        Value::Text(policy.command.map_or("ALL", Command::as_str).to_owned()),
        Value::text(texts.using),
        Value::text(texts.check),
    ];
    match reach {
        Some(Reach { ties, open_when, lookups, unknown_because }) => {
            values.extend([ties, open_when, lookups, unknown_because].map(Value::Texts));
        }
        None => values.extend([const { Value::Null }; 4]),
    }
    values
}
