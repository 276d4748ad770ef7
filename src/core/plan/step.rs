//! One step of a plan, in the form of the result.

use super::order::Wanted;
use crate::catalog::Object;
use crate::finding::Finding;
use crate::fix::{Change, Fix, RoutineChange, Statement, Verb};
use crate::rule::Rule;

/// One step of a plan.
#[derive(Debug, Clone)]
pub struct Step {
    /// The rules whose findings it fixes, in the order of the contract's sections.
    pub rules: Vec<&'static Rule>,
    /// The identity of the object.
    pub object: String,
    /// The findings, one sentence each.
    pub why: Vec<String>,
    /// Their fingerprints.
    pub findings: Vec<String>,
    /// A statement that can be run twice; for a proposal, an SQL comment.
    pub statement: String,
    /// The statement that reverts it; `None` where there is none.
    pub undo: Option<String>,
    /// The risk: `low`, `medium` or `high`, and why.
    pub risk: &'static str,
    /// Whether a person has to decide.
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
            // The statements were rejected in the simulation.
            Fix::Statements(_) => {
                format!(
                    "These statements do not fix it by themselves, or cause another error:\n{}",
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

/// Returns the risk of a statement.
fn risk(statement: &Statement) -> &'static str {
    match statement {
        Statement::Acl(s) => match s.verb {
            Verb::Grant | Verb::Keep | Verb::GrantWithOption => {
                "low: grants only what the contract declares"
            }
            Verb::Revoke => "medium: callers relying on this undeclared privilege will lose access",
            Verb::RevokeGrantOption => {
                "medium: privileges that the role granted to other roles are revoked as well"
            }
        },
        Statement::Ddl(ddl) => match &ddl.change {
            Change::Guard => "low: restores the guard",
            Change::AddRole(_) => "low: the new role cannot log in",
            Change::AlterRole { on: true, .. } => {
                "medium: the role gains the abilities of the attribute"
            }
            Change::AlterRole { on: false, .. } => {
                "medium: the role loses the abilities of the attribute"
            }
            Change::RevokeMembership(_) => {
                "medium: callers relying on the membership will lose access"
            }
            Change::AddSchema(_) | Change::AddRelation(..) => "low: creates a missing object",
            Change::RevokeDefault { .. } => "low: existing objects keep their privileges",
            Change::AlterRoutine(_, actions)
                if matches!(actions[..], [RoutineChange::SearchPath(_)]) =>
            {
                "medium: names in the body are looked up in this path"
            }
            Change::AlterRoutine(..) => "medium: the body runs with other settings or privileges",
            Change::DropRoutine(..) => "medium: calls of the routine will fail",
            Change::ChangeOwner { .. } => {
                "medium: the former owner loses the privileges of an \
                                           owner"
            }
            Change::EnableRowSecurity(_) => {
                "high: a role without a policy sees no rows and gets no error"
            }
            Change::ForceRowSecurity(_) => {
                "high: the policies also apply to the owner's views and routines"
            }
            Change::DropPolicy(_) | Change::PolicyRoles(..) => {
                "medium: rows that only this policy allowed become inaccessible"
            }
        },
    }
}
