//! The SQL that creates an object again, as deparsed by the server.

use super::deparse::{call, role_name, runs_code, with_plain_settings};
use super::oids;
use crate::pg::heap::{Row, State, Table};
use crate::pg::subtransaction;
use dragonfly_core::catalog::Oid;
use dragonfly_core::sql::{safe_ident, safe_qualified};
use pgrx::pg_sys;

/// Returns the `CREATE POLICY ...` of a policy; `None` where it does not exist, where the server
/// cannot deparse it, and where executing it would run user-defined code with the privileges of the
/// role that executes it.
pub fn policy(state: &State, policy: Oid) -> Option<String> {
    subtransaction::attempt(|| {
        with_plain_settings(|| create_policy(state, policy).filter(|sql| !runs_code(sql)))
    })
    .ok()
    .flatten()
}

fn create_policy(state: &State, policy: Oid) -> Option<String> {
    let table = Table::open(oids::PG_POLICY);
    let column = |name| table.column(name);
    let (oid, name, on, command) =
        (column("oid"), column("polname"), column("polrelid"), column("polcmd"));
    let (permissive, roles) = (column("polpermissive"), column("polroles"));
    let (using, check) = (column("polqual"), column("polwithcheck"));
    let mut sql = None;
    table.lookup(state, oids::PG_POLICY_OID_INDEX, &[(oid, policy)], |row: Row<'_>| {
        let Some((schema, relation)) = super::name(oids::PG_CLASS, row.oid(on)) else { return };
        let grantee = |role: u32| {
            if role == 0 { "PUBLIC".to_owned() } else { safe_ident(&role_name(role)).into_owned() }
        };
        let to: Vec<String> = row.oids(roles).into_iter().map(grantee).collect();
        let condition = |keyword: &str, column| {
            let tree = row.raw(column)?;
            Some(format!(
                " {keyword} ({})",
                call(pg_sys::pg_get_expr, &[tree, pg_sys::Datum::from(row.oid(on))])
            ))
        };
        let command = match row.char(command) {
            b'r' => "SELECT",
            b'a' => "INSERT",
            b'w' => "UPDATE",
            b'd' => "DELETE",
            _ => "ALL",
        };
        sql = Some(format!(
            "CREATE POLICY {} ON {} AS {} FOR {command} TO {}{}{};",
            safe_ident(&row.name(name)),
            safe_qualified(&schema, &relation),
            if row.bool(permissive) { "PERMISSIVE" } else { "RESTRICTIVE" },
            to.join(", "),
            condition("USING", using).unwrap_or_default(),
            condition("WITH CHECK", check).unwrap_or_default()
        ));
    });
    sql
}
