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
}

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
    let mut declarations: Vec<Declaration> = Vec::new();
    for finding in findings {
        let candidates = candidates(cx, finding);
        if candidates.is_empty() {
            return None;
        }
        candidates.into_iter().for_each(|one| add(&mut declarations, one));
    }
    attempt_with(cx, findings, declarations)
}

/// Returns what is left of `findings` with some declarations; `None` where the contract would not
/// be valid.
pub(super) fn attempt_with(
    cx: &Context<'_>,
    findings: &[&Finding],
    mut declarations: Vec<Declaration>,
) -> Option<Attempt> {
    let tried = |declarations: &[Declaration]| {
        let contract = amended(cx, declarations)?;
        let declared = Context::new(&contract, cx.snapshot, cx.access, cx.interrupts);
        let found = reported(&declared);
        let more = for_created(&declared, declarations, found.iter());
        Some((contract, found, more))
    };
    let (mut contract, mut left, more) = tried(&declarations)?;
    if !more.is_empty() {
        more.into_iter().for_each(|one| add(&mut declarations, one));
        (contract, left, _) = tried(&declarations)?;
    }
    let before = reported(cx);
    let accepted: HashSet<&str> = findings.iter().map(|f| f.fingerprint.as_str()).collect();
    let known: HashSet<_> = before.iter().flat_map(Finding::about).collect();
    let is_known = |found: &Finding| found.about().all(|about| known.contains(&about));
    left.retain(|found| accepted.contains(found.fingerprint.as_str()) || !is_known(found));
    Some(Attempt { accepted: Accepted { declarations, contract }, left })
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
