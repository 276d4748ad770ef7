//! One step of a plan, in the form of the result.

use super::order::Wanted;
use super::rights::Obstacle;
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
    pub risk: String,
    /// The level of the risk; `None` for a proposal.
    pub level: Option<Risk>,
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
        let mut findings: Vec<String> =
            wanted.findings.iter().map(|f| f.fingerprint.clone()).collect();
        findings.dedup();
        let (level, clause) = risk(&wanted.statement);
        Self {
            rules,
            object: first.object.identity.clone(),
            why,
            findings,
            statement: wanted.statement.repeatable(),
            undo,
            risk: format!("{}: {clause}", level.as_str()),
            level: Some(level),
        }
    }

    /// Returns the step that proposes, as a comment, what a person has to decide. `why` tells why
    /// the statements of the fix are not in the plan.
    pub(super) fn proposal(finding: &Finding, why: Option<&str>) -> Self {
        let (text, risk) = match &finding.fix {
            Fix::Proposal(text) | Fix::OutsideTransaction(text) | Fix::Restated(text) => {
                (text.clone(), None)
            }
            Fix::Risky { proposal, risk } => (proposal.clone(), Some(risk.as_str())),
            Fix::Statements(_) => {
                let sql = finding.fix.sql().unwrap_or_default();
                match why {
                    Some(why) => (
                        format!("These statements have another effect:\n{why}\n{sql}"),
                        Some(why.trim_end_matches('.')),
                    ),
                    None => (format!("These statements do not fix it by themselves:\n{sql}"), None),
                }
            }
            Fix::Unknown => (finding.rule.fix.to_owned(), None),
        };
        Self::comment(finding, &text, risk)
    }

    /// Returns the step that proposes the statements of a fix to a role that has the right to
    /// execute them.
    pub(super) fn for_another_role(finding: &Finding, obstacle: &Obstacle) -> Self {
        let Obstacle { who, why } = obstacle;
        let sql = finding.fix.sql().unwrap_or_default();
        let text = format!("For {who}, because {why}:\n{sql}");
        Self::comment(finding, &text, Some("the caller has no right to execute it"))
    }

    fn comment(finding: &Finding, text: &str, risk: Option<&str>) -> Self {
        let lines = text.lines().map(|line| format!("-- {line}"));
        Self {
            rules: vec![finding.rule],
            object: finding.object.identity.clone(),
            why: vec![finding.detail.clone()],
            findings: vec![finding.fingerprint.clone()],
            statement: lines.collect::<Vec<_>>().join("\n"),
            undo: None,
            risk: risk.map_or_else(
                || "a person decides".to_owned(),
                |risk| format!("a person decides: {risk}"),
            ),
            level: None,
        }
    }

    /// Whether a person has to decide.
    #[must_use]
    pub fn is_proposal(&self) -> bool {
        self.level.is_none()
    }
}

/// How much can go wrong when a step is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// Nothing that worked is affected.
    Low,
    /// Something undeclared stops working.
    Medium,
    /// Something declared may stop working.
    High,
}

impl Risk {
    /// Every level.
    pub const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    /// Returns the word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// Returns the risk of a statement: its level, and a clause.
fn risk(statement: &Statement) -> (Risk, &'static str) {
    use Risk::{High, Low, Medium};
    match statement {
        Statement::Acl(s) => match s.verb {
            Verb::Grant | Verb::Keep | Verb::GrantWithOption => {
                (Low, "grants only what the contract declares")
            }
            Verb::Revoke => {
                (Medium, "callers relying on this undeclared privilege will lose access")
            }
            Verb::RevokeGrantOption => {
                (Medium, "privileges that the role granted to other roles are revoked as well")
            }
        },
        Statement::Ddl(ddl) => match &ddl.change {
            Change::Guard => (Low, "restores the guard"),
            Change::AddRole(_) => (Low, "the new role cannot log in"),
            Change::AlterRole { on: true, .. } => {
                (Medium, "the role gains the abilities of the attribute")
            }
            Change::AlterRole { on: false, .. } => {
                (Medium, "the role loses the abilities of the attribute")
            }
            Change::ResetSetting(_) => (Medium, "new sessions start without the setting"),
            Change::RevokeMembership(_) => {
                (Medium, "callers relying on the membership will lose access")
            }
            Change::AddSchema(_) | Change::AddRelation(..) => (Low, "creates a missing object"),
            Change::RevokeDefault { .. } => (Low, "existing objects keep their privileges"),
            Change::RevokeOnServerObject { .. } => {
                (Medium, "what relies on the privilege will fail")
            }
            Change::AlterRoutine(_, actions) => of_routine(actions),
            Change::DropRoutine(..) => (Medium, "calls of the routine will fail"),
            Change::ChangeOwner { .. } => {
                (Medium, "the former owner loses the privileges of an owner")
            }
            Change::EnableRowSecurity(_) => {
                (High, "a role without a policy sees no rows and gets no error")
            }
            Change::ForceRowSecurity(_) => {
                (High, "the policies also apply to the owner's views and routines")
            }
            Change::DropPolicy(_) | Change::PolicyRoles(..) => {
                (Medium, "rows that only this policy allowed become inaccessible")
            }
        },
    }
}

/// Returns the risk of ALTER ROUTINE.
fn of_routine(actions: &[RoutineChange]) -> (Risk, &'static str) {
    let definer = actions.iter().find_map(|action| match action {
        RoutineChange::SecurityDefiner(on) => Some(*on),
        _ => None,
    });
    match definer {
        Some(true) => (Risk::High, "the body runs with the privileges of the owner"),
        Some(false) => {
            (Risk::High, "the body runs with the privileges of the caller, who may lack some")
        }
        None if actions.iter().any(|a| matches!(a, RoutineChange::SearchPath(_))) => {
            (Risk::Medium, "names in the body are looked up in this path")
        }
        None => (Risk::Medium, "the body runs without the setting"),
    }
}
