//! `ops.explain_access()`: why a role can access an object or cannot.

use super::argument;
use crate::access::named::{reject, type_named};
use crate::access::{Statement, forms, is_too_complex, needed};
use crate::catalog;
use crate::pg::call::{Call, Value, sql_function};
use crate::pg::heap::State;
use crate::pg::inert::Trust;
use crate::pg::lock_timeout;
use crate::pg::report::{Report, unknown_argument};
use crate::query;
use crate::store::Installation;
use dragonfly_core::catalog::{Oid, Privileges, Snapshot};
use dragonfly_core::explain::{Link, Named, parse};
use dragonfly_core::rules::Tool;
use dragonfly_core::sql::{printable, safe_qualified};
use dragonfly_reader::explain::{Resolved, Statements, links, privilege};
use dragonfly_reader::named::{Found, Names, Unnamed};
use pgrx::{PgSqlErrorCode, pg_sys};

sql_function!(
    /// `ops.explain_access(role name, object text, privilege text DEFAULT NULL,
    /// authenticator name DEFAULT NULL) RETURNS TABLE (link int4, step text, ok bool, detail text,
    /// fix text)`
    ops_explain_access => explain_access
);
fn explain_access(call: Call) -> pg_sys::Datum {
    let (role, object) = (argument::name(call, 0, "role"), argument::text(call, 1, "object"));
    let privilege = argument::optional_text(call, 2, "privilege");
    let authenticator = argument::optional_name(call, 3, "authenticator");
    let named = parse(&object).unwrap_or_else(|| reject(&Unnamed::Invalid(object.clone())));
    let links =
        lock_timeout::of_reader(|| answer(&role, &named, privilege, authenticator.as_deref()));
    call.table(links.into_iter().zip(1..).map(|(link, number)| {
        vec![
            Value::Int4(number),
            Value::Text(link.step),
            link.ok.map_or(Value::Null, Value::Bool),
            Value::Text(link.detail),
            Value::text(link.fix),
        ]
    }))
}

fn answer(
    role: &str,
    named: &Named,
    word: Option<String>,
    authenticator: Option<&str>,
) -> Vec<Link> {
    let Installation { state, contract, .. } = Installation::now();
    let base = catalog::base(&state).complete();
    let names = Names { state: &state, base: &base, contract: &contract, type_named: &type_named };
    let found = &names.find(named).unwrap_or_else(|unnamed| reject(&unnamed));
    let privilege = privilege(&state, found, word.as_deref())
        .unwrap_or_else(|of| unknown_argument("privilege", &of.given, &of.valid));
    let statements = statements(&state, &base, role, found, privilege);
    let owns_objects =
        base.role_named(role).is_some_and(|role| catalog::owns_objects(&state, role.oid));
    let of = Resolved { role, authenticator, owns_objects, named, found, privilege };
    links(&state, &contract, Tool::default(), base, &of, &statements)
}

/// Statements on relations whose rules make more of them are not read.
const MOST_PRODUCTS: u64 = 50_000;

/// Returns what the statements of a question need: nothing where the role does not exist, or there
/// is no statement on the object.
fn statements(
    state: &State,
    base: &Snapshot,
    role: &str,
    found: &Found,
    privilege: Privileges,
) -> Statements {
    if let Found::Relation(relation, _) = *found
        && is_too_complex(state, relation, MOST_PRODUCTS)
    {
        reject_complex(relation);
    }
    let Some(role) = base.role_named(role).map(|role| role.oid) else {
        return Statements::default();
    };
    let trust = Trust::of_superusers(base);
    let read = |needs| needed(needs).unwrap_or_else(|error| error.rethrow());
    match found {
        Found::Routine(oid) => {
            Statements { plain: read(query::of_call(*oid, role, &trust)), forms: vec![] }
        }
        Found::Relation(oid, columns) => {
            let (relation, kind) = (*oid, catalog::relation_kind(state, *oid));
            let of = |form| {
                let statement = Statement { relation, kind, privilege, columns, form };
                read(statement.needs(role, &trust))
            };
            let plain = of(None);
            let mut others = Vec::new();
            if plain.impossible.is_none() {
                let forms = forms(relation, kind, privilege).into_iter();
                others.extend(forms.map(|form| (form, of(Some(form)))));
            }
            others.retain(|(_, needs)| needs.impossible.is_none());
            Statements { plain, forms: others }
        }
        Found::Schema(_) | Found::Nothing(_) => Statements::default(),
    }
}

fn reject_complex(relation: Oid) -> ! {
    let name = catalog::name(catalog::PG_CLASS, relation)
        .map(|(schema, name)| safe_qualified(&schema, &name));
    Report {
        message: format!(
            "{} depends on too many views or rules",
            printable(&name.unwrap_or_default())
        ),
        detail: "Rewriting a statement on it could exhaust the memory of the server.".into(),
        hint: "Call ops.explain_access() for the tables that it reads.".into(),
    }
    .error(PgSqlErrorCode::ERRCODE_STATEMENT_TOO_COMPLEX)
}
