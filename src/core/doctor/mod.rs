//! The daily check, section 9 of the contract document: whether every declared object exists, has
//! the declared kind, works, and is accessible to the roles it is declared for. Passing checks are
//! reported as well. Where hardly anything exists that the contract declares, one check says so.
//!
//! The problems are findings of the rules. Undeclared privileges are reported by the audit and not
//! here.

mod check;
mod declared;
mod identity;
mod objects;
mod server;

pub use check::{Check, Outcome, Probes};
pub use declared::{
    AccessName, AccessOutcome, DeclaredAccess, Target, accesses_by_name, declared_accesses, fails,
    rejects_every_row,
};

pub use server::Server;

use check::{Identified, Problems};

use crate::contract::{Enforcement, RoleDecl, Severity};
use crate::finding::Finding;
use crate::orientation::Orientation;
use crate::postgrest;
use crate::rule::Area;
use crate::rules::Context;
use crate::sql::quote_ident;

/// Returns all checks. `findings` are those of all rules that are not exempted.
#[must_use]
pub fn examine(
    cx: &Context<'_>,
    findings: &[Finding],
    authenticator: &str,
    server: Server,
    probes: &Probes<'_>,
) -> Vec<Check> {
    let orientation = Orientation::of(cx);
    let mut checks = match &orientation {
        Some(orientation) => vec![contract(orientation)],
        None => declared_objects(cx, &Problems::of(findings), probes),
    };
    checks.push(guard(cx.contract.enforcement, findings));
    checks.extend(server::checks(server));
    checks.push(identity::check(cx.contract));
    checks.extend(postgrest(cx, authenticator));
    checks.push(audit(findings, orientation.is_some()));
    checks
}

/// Checks the roles and objects that the contract declares.
fn declared_objects(cx: &Context<'_>, problems: &Problems<'_>, probes: &Probes<'_>) -> Vec<Check> {
    let mut checks = roles(cx, problems);
    checks.extend(objects::schemas(cx, problems));
    checks.extend(objects::tables(cx, problems, probes));
    checks.extend(objects::views(cx, problems, probes));
    checks.extend(objects::sequences(cx, problems, probes));
    checks.extend(objects::functions(cx, problems, probes));
    checks
}

/// Says in place of the checks of all declared roles and objects that hardly anything exists.
fn contract(orientation: &Orientation) -> Check {
    Check {
        area: "contract",
        object: "ops.contract()".into(),
        ok: false,
        detail: format!("{} {}", orientation.detail(), orientation.hint()),
        fix: orientation.fix().map(str::to_owned),
    }
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

fn guard(enforcement: Enforcement, findings: &[Finding]) -> Check {
    let found: Vec<&Finding> = findings.iter().filter(|f| f.rule.area == Area::Guard).collect();
    let fixes: Vec<String> = found.iter().filter_map(|f| f.fix.sql()).collect();
    Check {
        area: "guard",
        object: "dragonfly_guard".into(),
        ok: found.is_empty(),
        detail: match found.as_slice() {
            [] => format!(
                "Its event triggers are enabled, and no stored setting disables them. The \
                 contract's enforcement is {}: {}. See ops.guard_status().",
                enforcement.as_str(),
                enforcement.effect()
            ),
            [only] => only.detail.clone(),
            [first, others @ ..] => {
                format!("{} And {} more: ops.audit_guard().", first.detail, others.len())
            }
        },
        fix: (!fixes.is_empty()).then(|| fixes.join("\n")),
    }
}

fn postgrest(cx: &Context<'_>, authenticator: &str) -> Vec<Check> {
    let check = |need: postgrest::Check| Check {
        area: "postgrest",
        object: need.step,
        ok: need.ok,
        detail: need.detail,
        fix: need.fix,
    };
    postgrest::checks(cx, authenticator).into_iter().map(check).collect()
}

/// `is_led`: another contract comes first, and not the plan.
fn audit(findings: &[Finding], is_led: bool) -> Check {
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
                "{} and {}: ops.audit_security() lists {}.",
                of(errors, "error"),
                of(warnings, "warning"),
                if errors + warnings == 1 { "it" } else { "them" }
            ),
        },
        fix: (errors > 0 && !is_led).then(|| "SELECT * FROM ops.apply_golden_sql();".to_owned()),
    }
}

#[cfg(test)]
mod tests;
