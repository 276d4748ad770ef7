//! A SECURITY DEFINER routine has no safe search_path.

use super::context::Context;
use super::shared::definer_path::{
    accepts_empty, assess, caller_types_fix, fix, follows_from_findings, must_be_canonical,
};
use crate::catalog::{Oid, Routine, Shared, Snapshot};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Finding};
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::search_path::{Assessment, Exploiter, Reason, ReasonCode, Verdict, settings};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// The rule.
pub static RULE: Rule = Rule {
    id: "security_definer_search_path",
    title: "A SECURITY DEFINER routine has no safe search_path",
    area: Area::Functions,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidFunctionDefinition,
    recheck: Recheck::Routines,
    breaks_declared: true,
    checks: "The search_path of every SECURITY DEFINER routine is set, ends with pg_temp, and \
             names only existing schemas in which no untrusted role can create objects or owns \
             code; and no untrusted role can pass it a value of a type of its own (polymorphic \
             types, record).",
    why: "Names in the body are looked up along the search_path: a role that can create an \
          object in one of its schemas, or a temporary one, can run code as the owner of the \
          routine. Casts and domain constraints are looked up by the type of a value, whatever \
          the search_path is: a role that chooses the type can run code in the same way.",
    fix: "Run ALTER ROUTINE ... SET search_path with schemas in which only trusted roles can \
          create objects, and pg_temp last. Declare arguments with types that the caller does \
          not choose, such as jsonb or text.",
    exempt: "A routine that only trusted roles can execute and that cannot be changed, for \
             example one of a third-party script.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER FUNCTION api.get_ceo_metrics() RESET search_path;",
        correct: "ALTER FUNCTION api.get_ceo_metrics() SET search_path = public, pg_temp;",
    },
    references: &[
        "splinter 0011_function_search_path_mutable",
        "CIS PostgreSQL Benchmark 4.5",
        "CWE-426",
    ],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let mut paths = Paths::of(cx);
    for routine in cx.snapshot.routines.iter().filter(|r| cx.wants_schema(r.schema)) {
        cx.check_interrupts();
        out.extend(paths.draft(routine, false));
        out.extend(caller_types(cx, routine));
    }
}

/// Returns the finding about one routine's path, if there is one.
#[must_use]
pub fn finding(cx: &Context<'_>, routine: &Routine) -> Option<Finding> {
    let draft = Paths::of(cx).draft(routine, false);
    draft.map(|draft| draft.finish(&RULE, cx.severity(&RULE)))
}

/// Returns the finding about the types that callers of a routine choose, if there is one.
#[must_use]
pub fn caller_types_finding(cx: &Context<'_>, routine: &Routine) -> Option<Finding> {
    caller_types(cx, routine).map(|draft| draft.finish(&RULE, cx.severity(&RULE)))
}

/// Returns the draft about the types that callers of a routine choose: an error where the body
/// executes code of these types, otherwise a warning.
fn caller_types(cx: &Context<'_>, routine: &Routine) -> Option<Draft> {
    let reason = cx.paths.caller_types(routine)?;
    let is_proven = reason.verdict == Verdict::Exploitable;
    let severity = if is_proven { Severity::Error } else { Severity::Warning };
    let detail = format!(
        "SECURITY DEFINER {} {} is {}: {}.",
        routine.object_type(),
        cx.snapshot.routine_message(routine),
        reason.verdict.as_str(),
        reason.describe()
    );
    let evidence = json!({
        "verdict": reason.verdict.as_str(),
        "reasons": [reason_evidence(&reason)],
        "search_path": settings(&routine.config).last(),
        "owner": cx.snapshot.role_name(routine.owner),
    });
    let draft = Draft::new(cx.routine_object(routine), severity, detail)
        .key("caller types")
        .evidence(evidence)
        .fix(caller_types_fix(cx, routine));
    Some(draft)
}

/// Returns the findings about routines that are consequences of exempt findings of `schema_create`
/// and `object_ownership`. Consequences of other findings are reported there and not here. `causes`
/// are the schemas and roles of the exempt findings.
#[must_use]
pub fn following_from(cx: &Context<'_>, causes: &HashSet<(String, String)>) -> Vec<Finding> {
    let is_cause = |reason: &Reason| match (reason.code, &reason.schema, &reason.role) {
        (ReasonCode::Writable | ReasonCode::ForeignObjects, Some(schema), Some(role)) => {
            causes.contains(&(schema.clone(), role.as_str().to_owned()))
        }
        _ => false,
    };
    let follows = |routine: &&Routine| {
        assess(cx, routine).is_some_and(|j| {
            !j.reasons.is_empty() && follows_from_findings(cx, &j) && j.reasons.iter().any(is_cause)
        })
    };
    let mut paths = Paths::of(cx);
    let routines = cx.snapshot.routines.iter().filter(follows);
    let drafts = routines.filter_map(|routine| paths.draft(routine, true));
    drafts.map(|draft| draft.finish(&RULE, cx.severity(&RULE))).collect()
}

/// What findings say about the paths of routines.
struct Paths<'c> {
    cx: &'c Context<'c>,
    /// By owner and assessment: thousands of routines share a few of both.
    known: HashMap<(Oid, *const Assessment), Rc<Assessed>>,
}

/// What findings say about all routines with one owner and one path.
struct Assessed {
    assessment: Rc<Assessment>,
    /// See [`accepts_empty`].
    is_accepted_if_empty: bool,
    /// See [`follows_from_findings`].
    follows: bool,
    /// The reasons.
    reasons: String,
    evidence: Shared<Value>,
}

impl<'c> Paths<'c> {
    fn of(cx: &'c Context<'c>) -> Self {
        Self { cx, known: HashMap::new() }
    }

    fn assessed(&mut self, assessment: Rc<Assessment>, owner: Oid) -> Rc<Assessed> {
        let cx = self.cx;
        let assessed = self.known.entry((owner, Rc::as_ptr(&assessment))).or_insert_with(|| {
            let is_safe = assessment.verdict == Verdict::Safe;
            Rc::new(Assessed {
                is_accepted_if_empty: !is_safe && accepts_empty(cx, &assessment),
                follows: follows_from_findings(cx, &assessment),
                reasons: assessment.describe(),
                evidence: evidence(cx, owner, &assessment).into(),
                assessment,
            })
        });
        Rc::clone(assessed)
    }

    /// Returns the draft about one routine's path, if there is a problem.
    fn draft(&mut self, routine: &Routine, with_consequences: bool) -> Option<Draft> {
        let cx = self.cx;
        let assessment = assess(cx, routine)?;
        let is_safe = assessment.verdict == Verdict::Safe;
        let must_change = || {
            must_be_canonical(cx, routine, &assessment) && cx.routine_managed_by(routine).is_none()
        };
        if is_safe && !must_change() {
            return None;
        }
        let assessed = self.assessed(assessment, routine.owner);
        let Assessed { assessment, is_accepted_if_empty, reasons, .. } = &*assessed;
        if !is_safe && assessed.follows && !is_accepted_if_empty && !with_consequences {
            return None;
        }
        let object = cx.routine_object(routine);
        let name = Snapshot::message_of(&object.identity);
        let subject = format_args!("SECURITY DEFINER {} {name}", routine.object_type());
        let (severity, key, detail) = if is_safe {
            // The path is safe: only the declaration is violated. The guard rejects it for new
            // routines.
            (
                Severity::Warning,
                // A finding of its own: the fix of an unsafe path may leave it.
                "accept",
                format!(
                    "{subject} has a safe search_path that differs from the contract's: {}.",
                    cx.canonical_path().clause
                ),
            )
        } else if *is_accepted_if_empty {
            (
                Severity::Warning,
                "",
                format!(
                    "{subject} has search_path = '', which the contract accepts although it is \
                     not safe: {reasons}."
                ),
            )
        } else {
            let verdict = assessment.verdict.as_str();
            (Severity::Error, "", format!("{subject} is {verdict}: {reasons}."))
        };
        let draft = Draft::new(object, severity, detail)
            .key(key)
            .evidence(assessed.evidence.clone())
            .fix(fix(cx, routine, assessment));
        Some(draft)
    }
}

/// Returns verdict, reasons, path and, unless the path is safe, the owner as evidence.
fn evidence(cx: &Context<'_>, owner: Oid, assessment: &Assessment) -> Value {
    let reasons: Vec<Value> = assessment.reasons.iter().map(reason_evidence).collect();
    // The owner decides which paths are safe; a safe path is of another subject.
    let owner = (assessment.verdict != Verdict::Safe).then(|| cx.snapshot.role_name(owner));
    json!({
        "verdict": assessment.verdict.as_str(),
        "search_path": assessment.value,
        "owner": owner,
        "reasons": reasons,
    })
}

fn reason_evidence(reason: &Reason) -> Value {
    json!({
        "reason": reason.code.as_str(),
        "verdict": reason.verdict.as_str(),
        "schema": reason.schema,
        "role": reason.role.as_ref().map(Exploiter::as_str),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{CallerTyped, PUBLIC, Privileges, TypeChoice};
    use crate::contract::Accept;

    fn with_config(config: &[&str]) -> World {
        let mut world = World::conforming();
        world.routine("get_call_queue").config = config.iter().map(|c| (*c).to_owned()).collect();
        world
    }

    #[test]
    fn routine_without_a_path_is_exploitable() {
        assert_eq!(World::conforming().found(&RULE), [""; 0]);
        assert_eq!(
            with_config(&["work_mem=1MB"]).found(&RULE),
            ["error function api.get_call_queue(): SECURITY DEFINER function \
                 api.get_call_queue() is exploitable: no search_path is set, \
              so names in its body are looked up in the caller's search_path. \
              => ALTER ROUTINE api.get_call_queue() SET search_path = public, pg_temp;"]
        );
    }

    #[test]
    fn safe_path_other_than_the_contracts_is_a_warning_if_only_that_is_accepted() {
        let mut world = with_config(&["search_path=pg_catalog, pg_temp"]);
        assert_eq!(world.found(&RULE), [""; 0]);
        world.contract.security_definer.accept = Accept::Canonical;
        assert_eq!(
            world.found(&RULE),
            ["warning function api.get_call_queue(): SECURITY DEFINER function \
                 api.get_call_queue() has a safe search_path that \
              differs from the contract's: public, pg_temp. => ALTER ROUTINE api.get_call_queue() \
              SET search_path = public, pg_temp;"]
        );
    }

    #[test]
    fn empty_path_is_an_error_unless_the_contract_accepts_it() {
        let mut world = with_config(&["search_path=\"\""]);
        assert!(world.found(&RULE)[0].starts_with("error"), "{:?}", world.found(&RULE));
        world.contract.security_definer.accept_empty = true;
        assert!(world.found(&RULE)[0].starts_with("warning"), "{:?}", world.found(&RULE));
    }

    #[test]
    fn create_on_a_schema_is_one_finding_and_not_one_for_each_routine() {
        let mut world = World::conforming();
        world.grant_schema("public", PUBLIC, Privileges::CREATE);
        assert_eq!(world.found(&RULE), [""; 0]);
        assert_eq!(world.found(&crate::rules::schema_create::RULE).len(), 1);
    }

    #[test]
    fn fix_keeps_safe_schemas_whatever_their_names() {
        let mut world = World::conforming();
        let owner = world.role("postgres").oid;
        for (oid, name) in [(7001, "app"), (7002, "a\nb")] {
            world.snapshot.schemas.push(crate::catalog::Schema {
                oid,
                name: name.into(),
                owner,
                acl: None,
            });
        }
        let routine = world.routine("get_call_queue");
        (routine.schema, routine.config) = (7001, vec!["search_path=\"a\nb\"".into()].into());
        assert_eq!(
            world.fixes(&RULE),
            ["ALTER ROUTINE app.get_call_queue() SET search_path = U&\"a\\000Ab\", pg_temp;"]
        );
    }

    #[test]
    fn argument_of_any_type_is_an_error_only_if_the_body_executes_code_by_type() {
        let with = |executes: Option<&str>| {
            let mut world = World::conforming();
            let routine = world.routine("get_call_queue").oid;
            let typed = CallerTyped {
                choice: TypeChoice::Any,
                name: "payload".into(),
                executes: executes.map(str::to_owned),
            };
            world.snapshot.caller_typed.insert(routine, vec![typed]);
            world.found(&RULE)
        };
        assert_eq!(
            with(Some("to_jsonb(payload)")),
            ["error function api.get_call_queue(): SECURITY DEFINER function \
              api.get_call_queue() is exploitable: role \"anon\" can pass a value of a type of \
              its own as payload, and to_jsonb(payload) executes code of the type as the owner of \
              the routine."]
        );
        assert!(with(None)[0].starts_with("warning "), "{:?}", with(None));
    }

    #[test]
    fn duplicate_setting_is_reset_first() {
        assert_eq!(
            with_config(&["search_path=public, pg_temp", "search_path=pg_temp, public"])
                .fixes(&RULE),
            ["ALTER ROUTINE api.get_call_queue() RESET search_path SET search_path = public, \
                 pg_temp;"]
        );
    }
}
