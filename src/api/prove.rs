//! `ops.prove_policy()` and `ops.prove_isolation()`: whether the server lets a client reach what
//! the analysis of policies says.

use super::{argument, policies};
use crate::catalog::{self, Mentioned, StoredPolicy};
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::interrupts;
use crate::pg::report::{Report, unknown_argument};
use crate::prove::{self, Caller, Pair, Proof, Subject};
use crate::store::Installation;
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{Command, ObjectId, Oid};
use dragonfly_core::contract::Contract;
use dragonfly_core::policy::facts::Catalog;
use dragonfly_core::rules::Context;
use dragonfly_core::sql::safe_ident;
use pgrx::{PgSqlErrorCode, pg_sys};
use serde_json::{Map, Value as Json, json};
use std::cell::RefCell;
use std::collections::BTreeSet;

sql_function!(
    /// `ops.prove_policy("table" regclass, policy name DEFAULT NULL, role name DEFAULT NULL,
    /// without_where boolean DEFAULT false) RETURNS TABLE (policy_name name, command text, as_who
    /// text, of_whom text, expected text, observed text, verdict text, why text, witness jsonb)`
    ops_prove_policy => prove_policy
);
fn prove_policy(call: Call) -> pg_sys::Datum {
    let relation = argument::required(call.oid(0), "table");
    let policy = argument::optional_name(call, 1, "policy");
    let role = argument::optional_name(call, 2, "role");
    let without_where = argument::flag(call, 3, "without_where");
    let proofs = each_subject(relation, role.as_deref(), without_where, &mut |subject| {
        policies::require_policy(policy.as_deref(), subject.policies);
        let is_asked = |of: &&StoredPolicy| {
            of.is_permissive && policy.as_deref().is_none_or(|name| of.name == name)
        };
        let policies = subject.policies.iter().filter(is_asked);
        policies.flat_map(|policy| prove::policy(subject, policy)).collect()
    });
    call.table(proofs.into_iter().map(row))
}

sql_function!(
    /// `ops.prove_isolation("table" regclass, a jsonb, b jsonb, role name DEFAULT NULL,
    /// commands text[] DEFAULT NULL, without_where boolean DEFAULT false) RETURNS TABLE
    /// (policy_name name, command text, as_who text, of_whom text, expected text, observed text,
    /// verdict text, why text, witness jsonb)`
    ops_prove_isolation => prove_isolation
);
fn prove_isolation(call: Call) -> pg_sys::Datum {
    let relation = argument::required(call.oid(0), "table");
    let pair = Pair { a: claims(call, 1, "a"), b: claims(call, 2, "b") };
    let role = argument::optional_name(call, 3, "role");
    let commands = argument::texts(call, 4, "commands").map_or_else(
        || COMMANDS.to_vec(),
        |names| names.iter().map(|name| command(name)).collect(),
    );
    let without_where = argument::flag(call, 5, "without_where");
    let proofs = each_subject(relation, role.as_deref(), without_where, &mut |subject| {
        prove::isolation(subject, &pair, &commands)
    });
    call.table(proofs.into_iter().map(row))
}

/// The commands that policies are for.
const COMMANDS: [Command; 4] = [Command::Select, Command::Insert, Command::Update, Command::Delete];

fn command(name: &str) -> Command {
    let known = COMMANDS.map(Command::as_str);
    let found = COMMANDS.into_iter().find(|of| of.as_str().eq_ignore_ascii_case(name.trim()));
    found.unwrap_or_else(|| unknown_argument("command", name, &known))
}

/// Returns claims, which must be a JSON object.
fn claims(call: Call, i: usize, name: &str) -> Map<String, Json> {
    let text = argument::required(call.json_text(i), name);
    match serde_json::from_str(&text) {
        Ok(Json::Object(claims)) => claims,
        _ => Report {
            message: format!("{name} is no JSON object"),
            detail: "The claims of a caller are an object.".into(),
            hint: format!("Specify {name} => '{{\"sub\": \"...\"}}'."),
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE),
    }
}

fn row(proof: Proof) -> Vec<Value> {
    let or_null = |text: String| if text.is_empty() { Value::Null } else { Value::Text(text) };
    vec![
        if proof.policy.is_empty() { Value::Null } else { Value::Name(proof.policy) },
        Value::Text(proof.command.as_str().to_owned()),
        Value::Text(proof.as_who),
        or_null(proof.of_whom),
        Value::Text(proof.expected.as_str().to_owned()),
        Value::Text(proof.observed),
        Value::Text(proof.verdict.as_str().to_owned()),
        Value::Text(proof.why),
        if proof.witness.is_empty() {
            Value::Null
        } else {
            Value::Json(json!(proof.witness).into())
        },
    ]
}

/// Calls `each` for each role whose rows of a table its policies limit: the one that is named, or
/// all client roles.
fn each_subject(
    relation: Oid,
    role: Option<&str>,
    without_where: bool,
    each: &mut dyn FnMut(&Subject<'_>) -> Vec<Proof>,
) -> Vec<Proof> {
    // SAFETY: a C string; raises an error in a transaction that must not write, as on a standby.
    unsafe { pg_sys::PreventCommandIfReadOnly(c"an experiment".as_ptr()) };
    let Installation { state, contract, .. } = Installation::now();
    let snapshot = catalog::base(&state).complete();
    let access = Access::new(&snapshot);
    let cx = Context::new(&contract, &snapshot, &access, &interrupts);
    let roles = policies::roles(&cx, role);
    if !catalog::has_row_security(&state, relation) {
        policies::without_row_security(&state, relation)
    }
    let caller = caller(&access);
    let stored = catalog::stored_policies(&state, relation);
    let mentioned = catalog::mentioned(&state);
    let keys = keys(&contract, &mentioned, relation);
    let identities = contract.identities();
    let mut proofs = Vec::new();
    for role in roles {
        let name = snapshot.role_name(role);
        let is_asked = stored
            .iter()
            .any(|policy| COMMANDS.iter().any(|of| policy.is_for(*of, role, mentioned.rights())));
        if !is_asked || !catalog::has_active_policies(role, relation) {
            continue;
        }
        require_membership((caller.oid, &snapshot.role_name(caller.oid)), (role, &name));
        let subject = Subject {
            catalog: &mentioned,
            identities: &identities,
            relation,
            policies: &stored,
            keys: &keys,
            caller,
            role,
            role_name: &name,
            without_where,
            known: RefCell::default(),
        };
        proofs.extend(prove::released(|| each(&subject)));
    }
    if proofs.is_empty() {
        let table = catalog::identity(&state, ObjectId::Relation(relation)).unwrap_or_default();
        Report {
            message: format!("no policy of {table} was tried"),
            detail: "No permissive policy is for a client role that it limits and that has the \
                     privilege for its command."
                .into(),
            hint: format!("Specify role, or see which roles there are: {CLIENTS}"),
        }
        .notice();
    }
    proofs
}

/// What returns the privileges of client roles.
const CLIENTS: &str = "SELECT * FROM ops.role_matrix();";

/// Returns the columns by which a row of a table belongs to a caller, as the contract says.
fn keys(contract: &Contract, catalog: &Mentioned<'_>, table: Oid) -> BTreeSet<i16> {
    let names = catalog::name(catalog::PG_CLASS, table);
    let declared = names.and_then(|(schema, table)| contract.table(&schema, &table));
    let keys = declared.map(|table| table.keys.clone()).unwrap_or_default();
    let numbers = 1..=i16::try_from(pg_sys::MaxHeapAttributeNumber).unwrap_or(i16::MAX);
    let is_key =
        |number: &i16| catalog.column_name(table, *number).is_some_and(|n| keys.contains(&n));
    if keys.is_empty() { BTreeSet::new() } else { numbers.filter(is_key).collect() }
}

fn caller(access: &Access<'_>) -> Caller {
    // SAFETY: reads a variable of the backend.
    let oid = unsafe { pg_sys::GetUserId() }.to_u32();
    Caller { oid, is_superuser: access.is_superuser(oid) }
}

/// Raises an error where the caller may not become a client role.
fn require_membership((caller, caller_name): (Oid, &str), (role, name): (Oid, &str)) {
    // SAFETY: a lookup in the system cache.
    if unsafe { pg_sys::is_member_of_role(caller.into(), role.into()) } {
        return;
    }
    let (ident, caller) = (safe_ident(name), safe_ident(caller_name));
    Report {
        message: format!("permission denied to become role {ident}"),
        detail: "An experiment runs as the client role.".into(),
        hint: format!("Call the function as a superuser, or: GRANT {ident} TO {caller};"),
    }
    .error(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE)
}
