//! The daily check, section 9 of the contract document: whether every declared object exists, has
//! the declared kind, works, and is accessible to the roles it is declared for. Passing checks are
//! reported as well.
//!
//! The problems are findings of the rules. Undeclared privileges are reported by the audit and not
//! here.

mod check;
mod declared;
mod objects;

pub use check::{Check, Outcome, Probes};
pub use declared::{
    AccessName, AccessOutcome, DeclaredAccess, Target, accesses_by_name, declared_accesses,
};

use check::{Identified, Problems};

use crate::catalog::RoleSetting;
use crate::contract::{RoleDecl, RoleKind, Severity};
use crate::finding::Finding;
use crate::postgrest;
use crate::rule::Area;
use crate::rules::Context;
use crate::sql::{listed, quote_ident, quote_literal, safe_ident};

/// Returns all checks. `findings` are those of all rules that are not exempted.
#[must_use]
pub fn examine(
    cx: &Context<'_>,
    findings: &[Finding],
    authenticator: &str,
    probes: &Probes<'_>,
) -> Vec<Check> {
    let problems = Problems::of(findings);
    let mut checks = roles(cx, &problems);
    checks.extend(objects::schemas(cx, &problems));
    checks.extend(objects::tables(cx, &problems, probes));
    checks.extend(objects::views(cx, &problems, probes));
    checks.extend(objects::sequences(cx, &problems, probes));
    checks.extend(objects::functions(cx, &problems, probes));
    checks.push(guard(findings));
    checks.extend(postgrest(cx, authenticator));
    checks.push(audit(findings));
    checks
}

fn roles(cx: &Context<'_>, problems: &Problems<'_>) -> Vec<Check> {
    let check = |declared: &RoleDecl| {
        let identity = quote_ident(&declared.name);
        problems.check(
            "role",
            Identified { object_type: "role", identity: &identity },
            "Exists, with the attributes that the contract declares.".into(),
        )
    };
    cx.contract.roles.iter().map(check).collect()
}

fn guard(findings: &[Finding]) -> Check {
    let found: Vec<&Finding> = findings.iter().filter(|f| f.rule.area == Area::Guard).collect();
    let fixes: Vec<String> = found.iter().filter_map(|f| f.fix.sql()).collect();
    Check {
        area: "guard",
        object: "dragonfly_guard".into(),
        ok: found.is_empty(),
        detail: match found.as_slice() {
            [] => "Its event triggers are enabled, and no stored setting disables them. See \
                   ops.guard_status()."
                .into(),
            [only] => only.detail.clone(),
            [first, others @ ..] => {
                format!("{} And {} more: ops.audit_guard().", first.detail, others.len())
            }
        },
        fix: (!fixes.is_empty()).then(|| fixes.join("\n")),
    }
}

fn postgrest(cx: &Context<'_>, authenticator: &str) -> Vec<Check> {
    let needs = postgrest::checks(cx, authenticator).into_iter();
    let mut checks: Vec<Check> = needs
        .map(|need| Check {
            area: "postgrest",
            object: need.step,
            ok: need.ok,
            detail: need.detail,
            fix: need.fix,
        })
        .collect();
    let role = cx.snapshot.role_named(authenticator);
    let stored = role.and_then(|role| cx.snapshot.setting_of(role.oid, "pgrst.db_schemas"));
    checks.push(exposed_schemas(cx, authenticator, stored));
    checks
}

/// Checks `pgrst.db_schemas`, where the database stores it ("In-Database Configuration" in the
/// documentation of PostgREST).
fn exposed_schemas(cx: &Context<'_>, authenticator: &str, stored: Option<&RoleSetting>) -> Check {
    let names: Vec<&str> = stored
        .into_iter()
        .flat_map(|stored| stored.value.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let missing: Vec<&str> =
        names.iter().copied().filter(|name| cx.snapshot.schema_named(name).is_none()).collect();
    let closed: Vec<&str> =
        names.iter().copied().filter(|name| !is_open_to_clients(cx, name)).collect();
    let list = |names: &[&str]| {
        listed(&names.iter().map(|name| safe_ident(name).into_owned()).collect::<Vec<_>>())
    };
    let problem = if !missing.is_empty() {
        let do_not = if missing.len() == 1 { "does not" } else { "do not" };
        Some(format!("Exposes {}, which {do_not} exist.", list(&missing)))
    } else if !closed.is_empty() {
        let closed = list(&closed);
        Some(format!("Exposes {closed}, on which the contract gives no client USAGE."))
    } else {
        None
    };
    let fix = problem.as_ref().and(stored).and_then(|stored| {
        let is_kept = |name: &&str| !missing.contains(name) && !closed.contains(name);
        let kept: Vec<&str> = names.iter().copied().filter(is_kept).collect();
        exposed_schemas_fix(cx, authenticator, stored, kept)
    });
    let passing = || match names.as_slice() {
        [] => "Not set in the database: PostgREST takes db-schemas from its own configuration."
            .to_owned(),
        names => format!("Exposes {}.", list(names)),
    };
    Check {
        area: "postgrest",
        object: "pgrst.db_schemas".into(),
        ok: problem.is_none(),
        detail: problem.unwrap_or_else(passing),
        fix,
    }
}

/// Whether the contract gives a client USAGE on the schema.
fn is_open_to_clients(cx: &Context<'_>, schema: &str) -> bool {
    let is_client = |name: &String| cx.contract.roles_of(RoleKind::Client).any(|r| r == name);
    cx.contract.schema(schema).is_some_and(|declared| declared.usage.iter().any(is_client))
}

/// Sets `pgrst.db_schemas` to the schemas that can be kept or, where there are none, to all schemas
/// on which the contract gives clients USAGE; `None` where there are none of those either.
fn exposed_schemas_fix(
    cx: &Context<'_>,
    authenticator: &str,
    stored: &RoleSetting,
    kept: Vec<&str>,
) -> Option<String> {
    let names = if kept.is_empty() {
        let declared = cx.schemas().map(|(_, declared)| declared.name.as_str());
        declared.filter(|name| is_open_to_clients(cx, name)).collect()
    } else {
        kept
    };
    let in_database = stored.database.as_deref();
    let in_database =
        in_database.map(|name| format!(" IN DATABASE {}", safe_ident(name))).unwrap_or_default();
    let (role, list) = (safe_ident(authenticator), quote_literal(&names.join(", ")));
    (!names.is_empty()).then(|| {
        format!(
            "ALTER ROLE {role}{in_database} SET pgrst.db_schemas = {list};\n\
             NOTIFY pgrst, 'reload config';"
        )
    })
}

fn audit(findings: &[Finding]) -> Check {
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let of = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    Check {
        area: "audit",
        object: "ops.audit_security()".into(),
        ok: errors == 0,
        detail: match (errors, warnings) {
            (0, 0) => "The database conforms to its contract.".into(),
            _ => format!(
                "{} and {}: ops.audit_security() lists them.",
                of(errors, "error"),
                of(warnings, "warning")
            ),
        },
        fix: (errors > 0).then(|| "SELECT * FROM ops.apply_golden_sql();".to_owned()),
    }
}

#[cfg(test)]
mod tests;
