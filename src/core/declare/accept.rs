//! The declarations that make a contract allow findings: the contract says afterwards what the
//! catalog has. Whether they do is tried on the contract, never assumed.

use super::candidates::{add, candidates};
use super::created::for_created;
use super::{Declaration, amend};
use crate::contract::{Contract, Severity, examine_interruptibly};
use crate::finding::Finding;
use crate::rules::{Context, RULES};
use crate::sql::call_declaring;
use std::collections::HashSet;

/// What makes a contract allow findings.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The declarations.
    pub declarations: Vec<Declaration>,
    /// The contract with them.
    pub contract: Contract,
}

/// Declarations that were tried on the contract, to make it allow findings.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// What the contract would be.
    pub accepted: Accepted,
    /// What would still be reported of the findings, and other findings that would appear.
    pub left: Vec<Finding>,
    /// Whether the contract allows at least one of the findings.
    pub is_allowed: bool,
}

/// How often declarations are tried together with what else they need.
const MOST_ROUNDS: usize = 3;

/// Returns declarations under which none of `findings` would be one, and no other finding would
/// appear; `None` where there are none: no contract can allow them, or a person has to decide.
#[must_use]
pub fn accepting(cx: &Context<'_>, findings: &[&Finding]) -> Option<Accepted> {
    attempt(cx, findings).filter(|attempt| attempt.left.is_empty()).map(|attempt| attempt.accepted)
}

/// Returns declarations for `findings`, and what is left with them; `None` where a person has to
/// decide.
#[must_use]
pub fn attempt(cx: &Context<'_>, findings: &[&Finding]) -> Option<Attempt> {
    let parts: Vec<Finding> = findings.iter().flat_map(|finding| parts(cx, finding)).collect();
    let mut declarations: Vec<Declaration> = Vec::new();
    for finding in &parts {
        let candidates = candidates(cx, finding);
        if candidates.is_empty() {
            return None;
        }
        candidates.into_iter().for_each(|one| add(&mut declarations, one));
    }
    attempt_with(cx, &parts.iter().collect::<Vec<_>>(), declarations)
}

/// Returns the findings that one stands for, where the same default privileges are the cause of
/// several; otherwise the finding itself.
fn parts(cx: &Context<'_>, finding: &Finding) -> Vec<Finding> {
    let Some(relations) = finding.evidence["relations"].as_array() else {
        return vec![finding.clone()];
    };
    let of_parts: HashSet<&str> =
        relations.iter().filter_map(|one| one["fingerprint"].as_str()).collect();
    let is_part = |found: &Finding| of_parts.contains(found.fingerprint.as_str());
    cx.run(finding.rule).into_iter().filter(is_part).collect()
}

/// Returns what is left of `findings` with some declarations; `None` where the contract would not
/// be valid.
pub(super) fn attempt_with(
    cx: &Context<'_>,
    findings: &[&Finding],
    mut declarations: Vec<Declaration>,
) -> Option<Attempt> {
    let before = reported(cx);
    let accepted: HashSet<&str> = findings.iter().map(|f| f.fingerprint.as_str()).collect();
    let known: HashSet<_> = before.iter().flat_map(Finding::about).collect();
    let is_known = |found: &Finding| found.about().all(|about| known.contains(&about));
    let is_added =
        |found: &Finding| accepted.contains(found.fingerprint.as_str()) || !is_known(found);
    let tried = |declarations: &[Declaration]| {
        let contract = amended(cx, declarations)?;
        let declared = Context::new(&contract, cx.snapshot, cx.access, cx.interrupts);
        let mut found = reported(&declared);
        let marked = found.iter().map(|found| (found, is_added(found)));
        let more = for_created(&declared, declarations, marked);
        found.extend(of_information(&declared, findings));
        Some((contract, found, more))
    };
    let (mut contract, mut left, mut more) = tried(&declarations)?;
    for _ in 0..MOST_ROUNDS {
        let mut all = declarations.clone();
        more.into_iter().for_each(|one| add(&mut all, one));
        if all == declarations {
            break;
        }
        (contract, left, more) = tried(&all)?;
        declarations = all;
    }
    left.retain(is_added);
    let is_left = |finding: &&Finding| left.iter().any(|f| f.fingerprint == finding.fingerprint);
    let is_allowed = !findings.iter().all(is_left);
    Some(Attempt { accepted: Accepted { declarations, contract }, left, is_allowed })
}

/// Returns those of `findings` that are information and are still found. (A finding that becomes
/// information is accepted.)
fn of_information(declared: &Context<'_>, findings: &[&Finding]) -> Vec<Finding> {
    let information = findings.iter().filter(|finding| finding.severity == Severity::Info);
    let found = information.flat_map(|finding| {
        let found = declared.run(finding.rule).into_iter();
        found.filter(|found| found.fingerprint == finding.fingerprint)
    });
    found.collect()
}

/// Returns the contract with some declarations; `None` where it would not be valid.
pub(crate) fn amended(cx: &Context<'_>, declarations: &[Declaration]) -> Option<Contract> {
    let contract = amend(cx.contract, declarations, Some(cx.snapshot), cx.interrupts).ok()?;
    let document = serde_json::to_string(&contract).ok()?;
    examine_interruptibly(&document, cx.interrupts).contract?;
    Some(contract)
}

/// Returns the findings of all rules, except those of severity info.
pub(crate) fn reported(cx: &Context<'_>) -> Vec<Finding> {
    let found = RULES.into_iter().flat_map(|rule| cx.run(rule));
    found.filter(|finding| finding.severity > Severity::Info).collect()
}

/// Returns the call of `ops.declare()` with these declarations, with a gap for the reason.
#[must_use]
pub fn declare_call(declarations: &[Declaration]) -> String {
    let statements: Vec<String> = declarations.iter().map(ToString::to_string).collect();
    call_declaring(&statements.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Privileges;
    use crate::rules::testing::World;
    use crate::rules::{object_ownership, rls_not_forced, table_privileges};
    use serde_json::json;

    /// Calls `work` with what would be attempted for a finding.
    fn tried<T>(world: &World, finding: &Finding, work: impl FnOnce(Option<Attempt>) -> T) -> T {
        world.compared_with(world, |cx, _| work(attempt(cx, &[finding])))
    }

    fn statements(attempt: Option<Attempt>) -> String {
        let attempt = attempt.filter(|attempt| attempt.left.is_empty()).expect("declarations");
        let all: Vec<String> =
            attempt.accepted.declarations.iter().map(ToString::to_string).collect();
        all.join("; ")
    }

    #[test]
    fn finding_about_several_relations_is_accepted_for_each() {
        let mut world = World::conforming();
        let anon = world.role("anon").oid;
        for table in ["public.judgments", "public.plaintiffs", "public.job_queue"] {
            world.grant(table, anon, Privileges::SELECT);
        }
        let found = world.findings(&table_privileges::RULE);
        let mut merged = found[0].clone();
        let relations: Vec<_> =
            found[..2].iter().map(|one| json!({"fingerprint": one.fingerprint})).collect();
        merged.fingerprint = "of several".into();
        merged.evidence["relations"] = relations.into();
        let granted = tried(&world, &merged, statements);
        for finding in &found[..2] {
            let grant = format!("GRANT SELECT ON TABLE {} TO anon", finding.object.identity);
            assert!(granted.contains(&grant), "{granted}");
        }
        assert!(!granted.contains(&found[2].object.identity), "{granted}");
    }

    #[test]
    fn owner_that_is_not_declared_is_declared_as_one() {
        let mut world = World::conforming();
        world.add_role("archive");
        world.relation("public.judgments").owner = world.role("archive").oid;
        let found = world.findings(&object_ownership::RULE);
        assert_eq!(
            tried(&world, &found[0], statements),
            "CREATE ROLE archive; ALTER ROLE archive SET contract.kind = owner"
        );
        // One that is declared as a client is no owner by mistake.
        world.relation("public.judgments").owner = world.role("anon").oid;
        let found = world.findings(&object_ownership::RULE);
        assert!(tried(&world, &found[0], |attempt| attempt.is_none()));
    }

    #[test]
    fn information_that_stays_is_not_allowed() {
        let mut world = World::conforming();
        world.relation("public.judgments").force_row_security = false;
        let found = world.findings(&rls_not_forced::RULE);
        let finding = found.iter().find(|one| one.severity == Severity::Info).expect("one");
        tried(&world, finding, |attempt| {
            assert!(attempt.is_none_or(|attempt| !attempt.is_allowed));
        });
    }
}
