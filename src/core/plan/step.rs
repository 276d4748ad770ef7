//! One step of a plan, as it is shown.

use super::order::Wanted;
use crate::catalog::Object;
use crate::finding::Finding;
use crate::fix::{Change, Fix, RoutineChange, Statement, Verb};
use crate::rule::Rule;

/// One step of a plan.
#[derive(Debug, Clone)]
pub struct Step {
    /// The rules whose findings it mends, in the order of the contract's sections.
    pub rules: Vec<&'static Rule>,
    /// What it is about, by its identity.
    pub object: String,
    /// The findings, a sentence each.
    pub why: Vec<String>,
    /// Their fingerprints.
    pub findings: Vec<String>,
    /// A statement that can be run twice; for what a person decides a comment.
    pub statement: String,
    /// The statement that takes it back; `None` where there is none.
    pub undo: Option<String>,
    /// What may go wrong: `low`, `medium` or `high`, and a few words.
    pub risk: &'static str,
    /// What a person decides.
    pub is_proposal: bool,
}

impl Step {
    /// Returns the step that runs a statement; `undo` is SQL that reverts it.
    pub(super) fn statement(wanted: &Wanted, undo: Option<String>) -> Self {
        let first: &Finding = &wanted.findings[0];
        let mut rules: Vec<&'static Rule> = Vec::new();
        for finding in &wanted.findings {
            if !rules.contains(&finding.rule) {
                rules.push(finding.rule);
            }
        }
        let mut why: Vec<String> = wanted.findings.iter().map(|f| f.detail.clone()).collect();
        why.dedup();
        Self {
            rules,
            object: first.object.identity.clone(),
            why,
            findings: wanted.findings.iter().map(|f| f.fingerprint.clone()).collect(),
            statement: wanted.statement.repeatable(),
            undo,
            risk: risk(&wanted.statement),
            is_proposal: false,
        }
    }

    /// Returns the step that proposes, as a comment, what a person has to decide.
    pub(super) fn proposal(finding: &Finding) -> Self {
        let text = match &finding.fix {
            Fix::Proposal(text) | Fix::OutsideTransaction(text) => text.clone(),
            // Tried on the copy, and left out of the plan.
            Fix::Statements(_) => {
                format!(
                    "Does not mend it by itself, or would bring something else:\n{}",
                    finding.fix.sql().unwrap_or_default()
                )
            }
            Fix::Unknown => finding.rule.fix.to_owned(),
        };
        let Object { identity, .. } = &finding.object;
        Self {
            rules: vec![finding.rule],
            object: identity.clone(),
            why: vec![finding.detail.clone()],
            findings: vec![finding.fingerprint.clone()],
            statement: text.lines().map(|line| format!("-- {line}")).collect::<Vec<_>>().join("\n"),
            undo: None,
            risk: "a person decides",
            is_proposal: true,
        }
    }
}

/// What may go wrong.
fn risk(statement: &Statement) -> &'static str {
    match statement {
        Statement::Acl(s) => match s.verb {
            Verb::Grant | Verb::Keep | Verb::GrantWithOption => {
                "low: opens what the contract declares, and nothing else"
            }
            Verb::Revoke => {
                "medium: whoever lives by this privilege without the contract is refused"
            }
            Verb::RevokeGrantOption => "medium: what others were granted by it is gone too",
        },
        Statement::Ddl(ddl) => match &ddl.change {
            Change::Guard => "low: the guard watches again",
            Change::AddRole(_) => "low: a role that nobody logs in as",
            Change::AlterRole { on: true, .. } => {
                "medium: the role can do what the attribute allows"
            }
            Change::AlterRole { on: false, .. } => {
                "medium: the role can no longer do what the attribute allows"
            }
            Change::RevokeMembership(_) => "medium: whoever lives by the membership is refused",
            Change::AddSchema(_) | Change::AddRelation(..) => "low: adds what is not there",
            Change::RevokeDefault { .. } => "low: what there is already stays as it is",
            Change::AlterRoutine(_, actions)
                if matches!(actions[..], [RoutineChange::SearchPath(_)]) =>
            {
                "medium: names in the body are looked up along this path"
            }
            Change::AlterRoutine(..) => "medium: the body runs under other settings or rights",
            Change::DropRoutine(..) => "medium: whoever calls the routine is refused",
            Change::ChangeOwner { .. } => {
                "medium: the former owner loses what only an owner can do"
            }
            Change::EnableRowSecurity(_) => {
                "high: a role without a policy sees no rows, and no error says so"
            }
            Change::ForceRowSecurity(_) => {
                "high: the owner's views and routines obey the policies too"
            }
            Change::DropPolicy(_) | Change::PolicyRoles(..) => {
                "medium: rows that the policy opened are closed"
            }
        },
    }
}
