//! Fixes: statements whose effect on the catalog is known.
//!
//! A rule attaches a [`Fix`] to each finding. [`crate::plan`] runs the statements on a copy of the
//! snapshot to see what they change, and puts those of many findings in order.

mod acl;
mod default_privileges;
mod membership;
mod policy;
mod statement;

pub use acl::{AclStatement, Grantee, Securable, Verb};
pub(crate) use default_privileges::{alter_default_privileges, default_acl_objects};
pub(crate) use membership::{end_inheritance, grant_set_role};
pub(crate) use policy::{create_policy, policy_header};
pub(crate) use statement::ignoring;
pub use statement::{Change, Ddl, RoutineChange, Statement};

use crate::catalog::Oid;

/// How a finding is fixed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Fix {
    /// These statements, in this order.
    Statements(Vec<Statement>),
    /// Complete SQL that cannot run in a transaction block (ALTER SYSTEM).
    OutsideTransaction(String),
    /// Text or SQL with gaps that a person completes, one line or more.
    Proposal(String),
    /// A proposal whose risk is known.
    Risky {
        /// Text or SQL, as in a proposal.
        proposal: String,
        /// What can go wrong, as a clause.
        risk: String,
    },
    /// SQL as the plan has it: the statements that it contains, and as a comment, with the reason,
    /// those that it only proposes.
    Restated(String),
    /// No fix is known.
    #[default]
    Unknown,
}

impl Fix {
    /// Returns a fix that is one statement.
    #[must_use]
    pub fn by(statement: Statement) -> Self {
        Self::Statements(vec![statement])
    }

    /// Returns the fix that enables row security; `table` is the relation's name as SQL text.
    #[must_use]
    pub fn row_security(relation: Oid, table: &str) -> Self {
        let sql = format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;");
        Self::by(Statement::new(Change::EnableRowSecurity(relation), sql))
    }

    /// Returns the statements, or the proposal where there are none.
    #[must_use]
    pub fn or_proposal(
        statements: Option<Vec<Statement>>,
        proposal: impl FnOnce() -> String,
    ) -> Self {
        statements
            .filter(|s| !s.is_empty())
            .map_or_else(|| Self::Proposal(proposal()), Self::Statements)
    }

    /// Returns the statements; none for a proposal.
    #[must_use]
    pub fn statements(&self) -> &[Statement] {
        match self {
            Self::Statements(statements) => statements,
            Self::OutsideTransaction(_)
            | Self::Proposal(_)
            | Self::Risky { .. }
            | Self::Restated(_)
            | Self::Unknown => &[],
        }
    }

    /// Returns complete SQL, in which a comment contains what the plan only proposes; `None` where
    /// a person has to decide.
    #[must_use]
    pub fn sql(&self) -> Option<String> {
        if let Self::OutsideTransaction(sql) | Self::Restated(sql) = self {
            return Some(sql.clone());
        }
        let statements = self.statements();
        if let [statement] = statements {
            return Some(statement.to_string());
        }
        let merged = merged(statements);
        (!merged.is_empty())
            .then(|| merged.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    /// Adds the fix of the same problem for another role.
    pub(crate) fn append(&mut self, other: Self) {
        match (self, other) {
            (Self::Statements(all), Self::Statements(more)) => {
                for statement in more {
                    if !all.contains(&statement) {
                        all.push(statement);
                    }
                }
            }
            (Self::Proposal(all), Self::Proposal(more))
            | (Self::Restated(all), Self::Restated(more))
                if *all != more =>
            {
                *all += "\n";
                *all += &more;
            }
            (_, _) => {}
        }
    }
}

/// Returns the statements, of which those that grant or revoke the same for several roles are one.
fn merged(statements: &[Statement]) -> Vec<Statement> {
    let mut merged: Vec<Statement> = Vec::with_capacity(statements.len());
    for statement in statements {
        let same = merged.iter_mut().find_map(|known| match (known, statement) {
            (Statement::Acl(known), Statement::Acl(more)) => {
                known.is_same_for_others(more).then_some((known, more))
            }
            _ => None,
        });
        match same {
            Some((known, more)) => known.grantees.extend(more.grantees.iter().cloned()),
            None => merged.push(statement.clone()),
        }
    }
    merged
}
