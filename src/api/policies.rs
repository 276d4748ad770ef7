//! `ops.explain_policy()`: which rows the policies of a table let roles reach, and why.

use super::argument;
use crate::catalog::{self, StoredPolicy};
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::{State, interrupts};
use crate::pg::lock_timeout;
use crate::pg::report::{Report, unknown_argument};
use crate::store::Installation;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{ObjectId, Oid, Rows, Snapshot};
use dragonfly_core::rules::Context;
use pgrx::{PgSqlErrorCode, pg_sys};
use serde_json::json;

sql_function!(
    /// `ops.explain_policy("table" regclass, policy name DEFAULT NULL, role name DEFAULT NULL)
    /// RETURNS TABLE (policy_name name, role_name name, command text, rows text, answer text,
    /// detail text, witness jsonb)`
    ops_explain_policy => explain_policy
);
fn explain_policy(call: Call) -> pg_sys::Datum {
    let relation = argument::required(call.oid(0), "table");
    let policy = argument::optional_name(call, 1, "policy");
    let role = argument::optional_name(call, 2, "role");
    let rows = lock_timeout::of_reader(|| answers(relation, policy.as_deref(), role.as_deref()));
    call.table(rows)
}

/// Returns the row about a role that row security does not apply to.
fn exempt_row(snapshot: &Snapshot, role: Oid) -> Vec<Value> {
    vec![
        Value::Null,
        Value::Name(snapshot.role_name(role)),
        Value::Null,
        Value::Null,
        Value::Text("exempt".to_owned()),
        Value::Text(
            "Row security does not apply to the role, which owns the table, is a superuser or has \
             BYPASSRLS."
                .to_owned(),
        ),
        Value::Null,
    ]
}

fn answers(relation: Oid, policy: Option<&str>, role: Option<&str>) -> Vec<Vec<Value>> {
    let Installation { state, contract, .. } = Installation::now();
    let snapshot = catalog::base(&state).complete();
    let access = Access::new(&snapshot);
    let cx = Context::new(&contract, &snapshot, &access, &interrupts);
    let roles = roles(&cx, role);
    let policies = catalog::stored_policies(&state, relation);
    require_policy(policy, &policies);
    if !catalog::has_row_security(&state, relation) {
        without_row_security(&state, relation)
    }
    let identities = contract.identities();
    let is_limited = |role: &Oid| catalog::has_active_policies(*role, relation);
    let (limited, exempt): (Vec<Oid>, Vec<Oid>) = roles.into_iter().partition(is_limited);
    let mut rows: Vec<Vec<Value>> =
        exempt.into_iter().map(|role| exempt_row(&snapshot, role)).collect();
    let mentioned = catalog::mentioned(&state);
    let exposures =
        catalog::exposures(&mentioned, &identities, relation, &policies, policy, &limited);
    let name = |oid| policies.iter().find(|policy| policy.oid == oid).map(|of| of.name.clone());
    for found in exposures {
        for answer in found.exposure.answers() {
            let witness = if answer.witness.is_empty() {
                Value::Null
            } else {
                Value::Json(json!(answer.witness).into())
            };
            rows.push(vec![
                name(found.policy).map_or(Value::Null, Value::Name),
                Value::Name(snapshot.role_name(found.role)),
                Value::Text(found.command.as_str().to_owned()),
                Value::Text(
                    match found.rows {
                        Rows::Existing => "existing",
                        Rows::New => "new",
                    }
                    .to_owned(),
                ),
                Value::Text(answer.word.to_owned()),
                Value::Text(answer.detail),
                witness,
            ]);
        }
    }
    rows
}

/// Raises the error about a table whose policies are not asked.
pub(super) fn without_row_security(state: &State, relation: Oid) -> ! {
    let table = catalog::identity(state, ObjectId::Relation(relation));
    let table = table.unwrap_or_else(|| relation.to_string());
    Report {
        message: format!("row security is not enabled on {table}"),
        detail: "Its policies, if it has any, are not asked.".into(),
        hint: format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;"),
    }
    .error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
}

/// Returns the role with a name, or all client roles. Raises an error where there is no such role.
pub(super) fn roles(cx: &Context<'_>, name: Option<&str>) -> Vec<Oid> {
    let Some(name) = name else { return cx.clients.iter().map(|client| client.oid).collect() };
    let known = || cx.snapshot.roles.iter().map(|role| role.name.as_str()).collect::<Vec<_>>();
    let role = cx.snapshot.role_named(name);
    vec![role.unwrap_or_else(|| unknown_argument("role", name, &known())).oid]
}

/// Raises an error where no policy has the name that is asked for.
pub(super) fn require_policy(name: Option<&str>, policies: &[StoredPolicy]) {
    let known: Vec<&str> = policies.iter().map(|policy| policy.name.as_str()).collect();
    if let Some(name) = name.filter(|name| !known.contains(name)) {
        unknown_argument("policy", name, &known)
    }
}
