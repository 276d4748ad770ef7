//! The daily check, section 9 of the contract document: is everything there that the contract
//! declares, of the right kind, and within reach of those it is for? What is well is said too.
//!
//! What is wrong is what the rules find; a privilege too many is the audit's matter and not the
//! doctor's.

mod objects;

pub use objects::reach;

use crate::catalog::{Oid, Privileges, Relation, Routine};
use crate::contract::Severity;
use crate::finding::Finding;
use crate::postgrest;
use crate::rule::Area;
use crate::rules::Context;
use crate::sql::{listed, printable, safe_ident};
use std::collections::HashMap;

/// One thing that has been looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// `role`, `schema`, `table`, `view`, `sequence`, `function`, `guard`, `postgrest`, `audit`.
    pub area: &'static str,
    /// What was looked at, by its identity.
    pub object: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was seen, a sentence or more.
    pub detail: String,
    /// SQL that mends it; `None` where there is nothing to mend, or a person has to decide.
    pub fix: Option<String>,
}

/// What only the server can try.
pub struct Trials<'a> {
    /// Whether the server can still plan a view's query.
    pub view: &'a dyn Fn(&Relation) -> Trial,
    /// Whether the body of a routine can be read.
    pub routine: &'a dyn Fn(&Routine) -> Trial,
    /// What the server would answer to what the contract means to be open.
    pub reached: &'a dyn Fn(&Reach) -> Trial,
    /// What `pgrst.db_schemas` is for the role that PostgREST logs in as, where the database says;
    /// and whether that is for this database alone.
    pub exposed_schemas: Option<(String, bool)>,
    /// Called again and again; may unwind when the user cancels.
    pub interrupts: &'a dyn Fn(),
}

/// What a role is meant to do with a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reach {
    /// The relation.
    pub relation: Oid,
    /// The role.
    pub role: Oid,
    /// SELECT, INSERT, UPDATE or DELETE.
    pub privilege: Privileges,
}

/// What came of trying something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// It works, or there is nothing to try.
    Fine,
    /// It was left alone, for this reason: it would have run somebody's code, or asked another
    /// server.
    Untried(String),
    /// It does not, for this reason.
    Broken(String),
}

/// Looks at everything. `findings` is what all rules find, without what is exempt.
#[must_use]
pub fn examine(
    cx: &Context<'_>,
    findings: &[Finding],
    authenticator: &str,
    trials: &Trials<'_>,
) -> Vec<Check> {
    let illness = Illness::of(findings);
    let mut checks = roles(cx, &illness);
    checks.extend(objects::schemas(cx, &illness));
    checks.extend(objects::tables(cx, &illness, trials));
    checks.extend(objects::views(cx, &illness, trials));
    checks.extend(objects::sequences(cx, &illness, trials));
    checks.extend(objects::functions(cx, &illness, trials));
    checks.push(guard(findings));
    checks.extend(postgrest(cx, authenticator, trials));
    checks.push(audit(findings));
    checks
}

/// What is wrong, by type and identity of the object.
struct Illness<'a>(HashMap<(&'a str, &'a str), Vec<&'a Finding>>);

impl<'a> Illness<'a> {
    fn of(findings: &'a [Finding]) -> Self {
        let mut known: HashMap<_, Vec<&Finding>> = HashMap::new();
        let counts = |f: &&Finding| {
            f.severity == Severity::Error
                && (f.rule.breaks_declared || f.evidence["problem"] == "missing")
        };
        for finding in findings.iter().filter(counts) {
            known
                .entry((finding.object.object_type, finding.object.identity.as_str()))
                .or_default()
                .push(finding);
        }
        Self(known)
    }

    /// The check of one object: what is wrong with it, or `well`.
    fn check(
        &self,
        area: &'static str,
        (object_type, identity): (&str, &str),
        well: String,
    ) -> Check {
        let found = self.0.get(&(object_type, identity)).map_or(&[][..], Vec::as_slice);
        let details: Vec<&str> = found.iter().map(|f| f.detail.as_str()).collect();
        let fixes: Vec<String> = found.iter().filter_map(|f| f.fix.sql()).collect();
        Check {
            area,
            object: printable(identity).into_owned(),
            ok: found.is_empty(),
            detail: if found.is_empty() { well } else { details.join(" ") },
            fix: (!fixes.is_empty()).then(|| fixes.join("\n")),
        }
    }
}

impl Check {
    /// The same, with something else that is wrong.
    fn and(mut self, problem: Option<String>) -> Self {
        if let Some(problem) = problem {
            self.detail = if self.ok { problem } else { format!("{} {problem}", self.detail) };
            self.ok = false;
        }
        self
    }
}

fn roles(cx: &Context<'_>, illness: &Illness<'_>) -> Vec<Check> {
    let check = |declared: &crate::contract::RoleDecl| {
        let identity = crate::sql::quote_ident(&declared.name);
        illness.check(
            "role",
            ("role", &identity),
            "Exists, with the attributes that the contract declares.".into(),
        )
    };
    cx.contract.roles.iter().map(check).collect()
}

fn guard(findings: &[Finding]) -> Check {
    let damage: Vec<&Finding> = findings.iter().filter(|f| f.rule.area == Area::Guard).collect();
    let fixes: Vec<String> = damage.iter().filter_map(|f| f.fix.sql()).collect();
    Check {
        area: "guard",
        object: "dragonfly_guard".into(),
        ok: damage.is_empty(),
        detail: match damage.as_slice() {
            [] => "Its event triggers are enabled, and no stored setting disables them. See ops.guard_status().".into(),
            [only] => only.detail.clone(),
            [first, others @ ..] => format!("{} And {} more: ops.audit_guard().", first.detail, others.len()),
        },
        fix: (!fixes.is_empty()).then(|| fixes.join("\n")),
    }
}

fn postgrest(cx: &Context<'_>, authenticator: &str, trials: &Trials<'_>) -> Vec<Check> {
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
    checks.push(exposed_schemas(cx, authenticator, trials.exposed_schemas.as_ref()));
    checks
}

/// `pgrst.db_schemas`, where it is kept in the database ("In-Database Configuration" in PostgREST's
/// documentation).
fn exposed_schemas(cx: &Context<'_>, authenticator: &str, value: Option<&(String, bool)>) -> Check {
    let for_clients = |name: &str| {
        let clients: Vec<&str> = cx.contract.roles_of(crate::contract::RoleKind::Client).collect();
        cx.contract
            .schema(name)
            .is_some_and(|s| s.usage.iter().any(|role| clients.contains(&role.as_str())))
    };
    let names: Vec<&str> = value
        .into_iter()
        .flat_map(|(v, _)| v.split(','))
        .map(str::trim)
        .filter(|n| !n.is_empty())
        .collect();
    let missing: Vec<&str> =
        names.iter().copied().filter(|n| cx.snapshot.schema_named(n).is_none()).collect();
    let closed: Vec<&str> = names.iter().copied().filter(|n| !for_clients(n)).collect();
    let said = |names: &[&str]| {
        listed(&names.iter().map(|n| safe_ident(n).into_owned()).collect::<Vec<_>>())
    };
    let kept: Vec<String> = names
        .iter()
        .filter(|n| !missing.contains(n) && !closed.contains(n))
        .map(|n| (*n).to_owned())
        .collect();
    let of_database = match value {
        Some((_, true)) => format!(" IN DATABASE {}", safe_ident(&cx.snapshot.database.name)),
        _ => String::new(),
    };
    // Where nothing of it is left, all that the contract opens.
    let kept = match kept.is_empty() {
        true => cx.schemas().map(|(_, s)| s.name.clone()).filter(|n| for_clients(n)).collect(),
        false => kept,
    };
    let mend = || {
        let (role, list) = (safe_ident(authenticator), crate::sql::quote_literal(&kept.join(", ")));
        (!kept.is_empty())
            .then(|| format!("ALTER ROLE {role}{of_database} SET pgrst.db_schemas = {list};\nNOTIFY pgrst, 'reload config';"))
    };
    let (ok, detail, fix) = match () {
        () if names.is_empty() => (
            true,
            "Not set in the database: PostgREST takes db-schemas from its own configuration."
                .to_owned(),
            None,
        ),
        () if !missing.is_empty() => (
            false,
            format!(
                "Exposes {}, which {} not exist.",
                said(&missing),
                if missing.len() == 1 { "does" } else { "do" }
            ),
            mend(),
        ),
        () if !closed.is_empty() => (
            false,
            format!("Exposes {}, to which the contract gives no client access.", said(&closed)),
            mend(),
        ),
        () => (true, format!("Exposes {}.", said(&names)), None),
    };
    Check { area: "postgrest", object: "pgrst.db_schemas".into(), ok, detail, fix }
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
            (0, 0) => "The database does not differ from its contract.".into(),
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
