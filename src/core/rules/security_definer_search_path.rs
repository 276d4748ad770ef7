//! The rule behind the product: every SECURITY DEFINER routine has a search_path that is safe, now, in this catalog.

use super::{Area, Context, Rule, schema_create};
use crate::catalog::Routine;
use crate::contract::{Accept, GuardAction, Severity};
use crate::finding::{Draft, Finding, Measure};
use crate::mend::{Change, Mend, RoutineChange, Statement};
use crate::search_path::{Judgment, Reason, ReasonCode, Verdict, set_clause, stored_value};
use crate::sql::safe_ident;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::rc::Rc;

/// The rule.
pub static RULE: Rule = Rule {
    id: "security_definer_search_path",
    title: "A SECURITY DEFINER routine has no safe search_path",
    area: Area::Functions,
    severity: Severity::Error,
    guard: GuardAction::Block,
    section: "6",
    why: "Names in the body are looked up in the search_path: whoever can put an object in the way runs code as the owner.",
    mend: "ALTER ROUTINE ... SET search_path to schemas in which only trusted roles can create, with pg_temp last.",
    judge,
};

fn judge(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for routine in &cx.snapshot.routines {
        (cx.interrupts)();
        out.extend(draft(cx, routine, false));
    }
}

/// What the audit says about one routine's path, if anything.
#[must_use]
pub fn finding(cx: &Context<'_>, routine: &Routine) -> Option<Finding> {
    draft(cx, routine, false).map(|draft| draft.finish(&RULE, cx.severity(&RULE)))
}

/// What follows for routines from findings of `schema_create`, which is said there and not here: as long as it is said. `causes` are the schemas and
/// roles of findings that somebody has accepted.
#[must_use]
pub fn following_from(cx: &Context<'_>, causes: &HashSet<(String, String)>) -> Vec<Finding> {
    let is_cause = |reason: &Reason| match (reason.code, &reason.schema, &reason.role) {
        (ReasonCode::Writable, Some(schema), Some(role)) => causes.contains(&(schema.clone(), role.clone())),
        _ => false,
    };
    let follows = |routine: &&Routine| {
        judgment(cx, routine)
            .is_some_and(|j| !j.reasons.is_empty() && follows_from_schema(cx, &j) && j.reasons.iter().any(is_cause))
    };
    let drafts = cx.snapshot.routines.iter().filter(follows).filter_map(|routine| draft(cx, routine, true));
    drafts.map(|draft| draft.finish(&RULE, cx.severity(&RULE))).collect()
}

/// What is wrong with one routine's path, if anything is.
fn draft(cx: &Context<'_>, routine: &Routine, with_consequences: bool) -> Option<Draft> {
    let judgment = judgment(cx, routine)?;
    let policy = &cx.contract.security_definer;
    let subject = format!("SECURITY DEFINER {} {}", routine.object_type(), cx.snapshot.routine_message(routine));
    let (severity, detail) = if judgment.verdict == Verdict::Safe {
        // Elsewhere, and for what the platform or the extension itself brings, safe is good enough.
        cx.governed(routine.schema)?;
        if judgment.is_canonical(&policy.search_path) || cx.routine_managed_by(routine).is_some() {
            return None;
        }
        // Where the contract's path would be unsafe for this owner, another safe one is as good as it gets.
        if policy.accept == Accept::Safe && cx.judge.names(&policy.search_path, routine.owner).verdict != Verdict::Safe {
            return None;
        }
        let severity = if policy.accept == Accept::Canonical { Severity::Error } else { Severity::Warning };
        (severity, format!("{subject} has a safe search_path that is not the contract's: {}.", set_clause(&policy.search_path)))
    } else if accepts_empty(cx, &judgment) {
        (
            Severity::Warning,
            format!(
                "{subject} has search_path = '', which the contract accepts and which is not safe: {}.",
                judgment.in_words()
            ),
        )
    } else if !with_consequences && follows_from_schema(cx, &judgment) {
        return None;
    } else {
        (Severity::Error, format!("{subject} is {}: {}.", judgment.verdict.word(), judgment.in_words()))
    };
    Some(Draft {
        object: cx.routine_object(routine),
        role: None,
        severity,
        key: String::new(),
        measure: Measure::default(),
        detail,
        evidence: evidence(cx, routine, &judgment),
        mend: mend(cx, routine, &judgment),
    })
}

/// The judgment of a routine's path; `None` where it needs none, being SECURITY INVOKER.
#[must_use]
pub fn judgment(cx: &Context<'_>, routine: &Routine) -> Option<Rc<Judgment>> {
    routine.security_definer.then(|| cx.judge.config(&routine.config, routine.owner))
}

/// Whether the contract takes this path although it is the empty one.
#[must_use]
pub fn accepts_empty(cx: &Context<'_>, judgment: &Judgment) -> bool {
    cx.contract.security_definer.accept_empty && judgment.is_empty_path()
}

/// Everything that is wrong follows from CREATE on governed schemas, each a finding of its own with its one fix.
fn follows_from_schema(cx: &Context<'_>, judgment: &Judgment) -> bool {
    judgment.reasons.iter().all(|reason| match (reason.code, &reason.schema, &reason.role) {
        (ReasonCode::Writable, Some(schema), Some(role)) => schema_create::reports(cx, schema, role),
        _ => false,
    })
}

/// The statement that closes the governed schemas through which alone the path is unsafe; `None` where there is another reason too.
#[must_use]
pub fn schema_cause(cx: &Context<'_>, judgment: &Judgment) -> Option<String> {
    if judgment.reasons.is_empty() || !follows_from_schema(cx, judgment) {
        return None;
    }
    let mut statements: Vec<String> = judgment
        .reasons
        .iter()
        .filter_map(|r| {
            let role = r.role.as_deref()?;
            let grantee = if role == "PUBLIC" { role.into() } else { safe_ident(role) };
            Some(format!("REVOKE CREATE ON SCHEMA {} FROM {grantee};", safe_ident(r.schema.as_deref()?)))
        })
        .collect();
    statements.dedup();
    Some(statements.join(" "))
}

/// Whether the guard must take a safe path for a violation: it is not the contract's own, in a governed schema, and the contract
/// accepts no other.
#[must_use]
pub fn must_be_canonical(cx: &Context<'_>, routine: &Routine, judgment: &Judgment) -> bool {
    let policy = &cx.contract.security_definer;
    policy.accept == Accept::Canonical
        && judgment.verdict == Verdict::Safe
        && cx.governed(routine.schema).is_some()
        && !judgment.is_canonical(&policy.search_path)
}

/// Verdict, path and reasons as `evidence`.
fn evidence(cx: &Context<'_>, routine: &Routine, judgment: &Judgment) -> Value {
    let reasons: Vec<Value> = judgment
        .reasons
        .iter()
        .map(|r| json!({"reason": r.code.word(), "verdict": r.verdict.word(), "schema": r.schema, "role": r.role}))
        .collect();
    json!({
        "verdict": judgment.verdict.word(),
        "reasons": reasons,
        "search_path": judgment.value,
        "owner": cx.snapshot.role_name(routine.owner),
    })
}

/// `pg_catalog` and nothing else: a body that qualifies every name needs no more.
fn minimal() -> Vec<String> {
    vec!["pg_catalog".to_owned(), "pg_temp".to_owned()]
}

/// The path that would do for this routine: the contract's own in a governed schema; elsewhere what the routine names already, without
/// what makes it unsafe. `None` where no path helps, for a schema is the cause.
#[must_use]
pub fn safe_path(cx: &Context<'_>, routine: &Routine, judgment: &Judgment) -> Option<Vec<String>> {
    // What an open schema spoils, closing that schema mends: a finding of its own.
    let is_safe = |path: &Vec<String>| follows_from_schema(cx, &cx.judge.names(path, routine.owner));
    let mut kept: Vec<String> = judgment.path.clone().unwrap_or_default();
    kept.retain(|name| {
        !matches!(name.as_str(), "" | "pg_temp" | "pg_catalog" | "$user") && is_safe(&vec![name.clone(), "pg_temp".into()])
    });
    kept.dedup();
    let own = (!kept.is_empty()).then(|| [kept, vec!["pg_temp".to_owned()]].concat());
    let canonical = Some(cx.contract.security_definer.search_path.clone());
    let choices = if cx.governed(routine.schema).is_some() {
        [canonical, own, None]
    } else {
        [own, judgment.is_empty_path().then(minimal), canonical]
    };
    choices.into_iter().flatten().chain([minimal()]).find(is_safe)
}

/// Whether the routine may rely on schemas that `path` leaves out altogether: then the path is for a person to say.
fn loses_its_schemas(path: &[String], judgment: &Judgment) -> bool {
    let named = |name: &String| !matches!(name.as_str(), "" | "pg_temp" | "pg_catalog");
    path == minimal() && judgment.path.as_ref().is_none_or(|names| names.iter().any(named))
}

/// The statement that gives the routine that path. A setting that is there twice must go first; RESET ALL alone reaches a key in
/// upper case.
#[must_use]
pub fn fix(cx: &Context<'_>, routine: &Routine, judgment: &Judgment) -> Option<String> {
    mend(cx, routine, judgment).sql()
}

fn mend(cx: &Context<'_>, routine: &Routine, judgment: &Judgment) -> Mend {
    // No path mends what somebody planted.
    if let [only] = &judgment.reasons[..]
        && only.code == ReasonCode::ForeignObjects
    {
        let (schema, role) = (only.schema.as_deref().unwrap_or_default(), only.role.as_deref().unwrap_or_default());
        return Mend::Proposal(format!(
            "Drop what {} owns in schema {}, or give it to somebody who is trusted.",
            safe_ident(role),
            safe_ident(schema)
        ));
    }
    Mend::or_proposal(alter(cx, routine, judgment).map(|statement| vec![statement]), || {
        format!("ALTER ROUTINE {} SET search_path = ..., pg_temp;", cx.snapshot.routine_sql(routine))
    })
}

fn alter(cx: &Context<'_>, routine: &Routine, judgment: &Judgment) -> Option<Statement> {
    let path = safe_path(cx, routine, judgment).filter(|path| !loses_its_schemas(path, judgment))?;
    let reset = if judgment.reasons.iter().any(|r| r.code == ReasonCode::DuplicateSetting) {
        let others = routine.config.iter().any(|c| !c.to_ascii_lowercase().starts_with("search_path="));
        let odd = routine.config.iter().any(|c| !c.starts_with("search_path="));
        match (odd, others) {
            (false, _) => "RESET search_path ",
            (true, false) => "RESET ALL ",
            (true, true) => return None,
        }
    } else {
        ""
    };
    Some(Statement::new(
        Change::AlterRoutine(routine.oid, vec![RoutineChange::SearchPath(stored_value(&path))]),
        format!("ALTER ROUTINE {} {reset}SET search_path = {};", cx.snapshot.routine_sql(routine), set_clause(&path)),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::cases::World;
    use super::RULE;
    use crate::catalog::{PUBLIC, Privileges};

    fn with_config(config: &[&str]) -> World {
        let mut world = World::conforming();
        world.routine("get_call_queue").config = config.iter().map(|c| (*c).to_owned()).collect();
        world
    }

    #[test]
    fn a_path_must_be_set() {
        assert_eq!(World::conforming().found(&RULE), [""; 0]);
        assert_eq!(
            with_config(&["work_mem=1MB"]).found(&RULE),
            [
                "error function api.get_call_queue(): SECURITY DEFINER function api.get_call_queue() is exploitable: no search_path is set, \
              so names in its body are looked up in whatever path the caller chose. \
              => ALTER ROUTINE api.get_call_queue() SET search_path = public, pg_temp;"
            ]
        );
    }

    #[test]
    fn a_safe_path_other_than_the_contracts_is_a_deviation() {
        assert_eq!(
            with_config(&["search_path=pg_catalog, pg_temp"]).found(&RULE),
            [
                "warning function api.get_call_queue(): SECURITY DEFINER function api.get_call_queue() has a safe search_path that is not \
              the contract's: public, pg_temp. => ALTER ROUTINE api.get_call_queue() SET search_path = public, pg_temp;"
            ]
        );
    }

    #[test]
    fn the_empty_path_is_unsafe_unless_the_contract_takes_it() {
        let mut world = with_config(&["search_path=\"\""]);
        assert!(world.found(&RULE)[0].starts_with("error"), "{:?}", world.found(&RULE));
        world.contract.security_definer.accept_empty = true;
        assert!(world.found(&RULE)[0].starts_with("warning"), "{:?}", world.found(&RULE));
    }

    #[test]
    fn an_open_schema_is_one_finding_and_not_one_for_each_routine() {
        let mut world = World::conforming();
        world.grant_schema("public", PUBLIC, Privileges::CREATE);
        assert_eq!(world.found(&RULE), [""; 0]);
        assert_eq!(world.found(&super::schema_create::RULE).len(), 1);
    }

    #[test]
    fn a_schema_is_kept_in_the_mend_whatever_its_name() {
        let mut world = World::conforming();
        let owner = world.role("postgres").oid;
        for (oid, name) in [(7001, "app"), (7002, "a\nb")] {
            world.snapshot.schemas.push(crate::catalog::Schema { oid, name: name.into(), owner, acl: None });
        }
        let routine = world.routine("get_call_queue");
        (routine.schema, routine.config) = (7001, vec!["search_path=\"a\nb\"".into()]);
        assert_eq!(world.fixes(&RULE), ["ALTER ROUTINE app.get_call_queue() SET search_path = U&\"a\\000Ab\", pg_temp;"]);
    }

    #[test]
    fn a_setting_that_is_there_twice_goes_first() {
        assert_eq!(
            with_config(&["search_path=public, pg_temp", "search_path=pg_temp, public"]).fixes(&RULE),
            ["ALTER ROUTINE api.get_call_queue() RESET search_path SET search_path = public, pg_temp;"]
        );
    }
}
