//! The result of a check, and what checks are given.

use super::declared::{AccessOutcome, DeclaredAccess};
use crate::catalog::{Relation, Routine};
use crate::contract::Severity;
use crate::finding::Finding;
use crate::sql::printable;
use std::collections::HashMap;

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// `contract`, `role`, `schema`, `table`, `view`, `sequence`, `function`, `guard`, `server`,
    /// `identity`, `postgrest`, `audit`.
    pub area: &'static str,
    /// The identity of the object that was checked.
    pub object: String,
    /// Whether the check passed.
    pub ok: bool,
    /// The result, as one or more sentences.
    pub detail: String,
    /// SQL that fixes it; `None` where the check passed, or a person has to decide.
    pub fix: Option<String>,
}

/// What only the server can check.
pub struct Probes<'a> {
    /// Whether the server can plan the query of a view.
    pub view: &'a dyn Fn(&Relation) -> Outcome,
    /// Whether the body of a routine is valid.
    pub routine: &'a dyn Fn(&Routine) -> Outcome,
    /// Whether the server allows an access that the contract declares.
    pub access: &'a dyn Fn(&DeclaredAccess) -> AccessOutcome,
    /// A sentence about what the body of a routine mentions, if it is text, that the role may not
    /// use as which it runs in a declared access.
    pub text: &'a dyn Fn(&DeclaredAccess) -> Option<String>,
    /// Called repeatedly; may unwind when the user cancels.
    pub interrupts: &'a dyn Fn(),
}

/// The outcome of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It works, or there is nothing to check.
    Works,
    /// It was not checked, for this reason: the check would have executed untrusted code, for
    /// example, or contacted another server.
    Unchecked(String),
    /// It fails with this error.
    Fails(String),
}

/// The findings that break something declared, by type and identity of the object.
pub(super) struct Problems<'a>(HashMap<(&'a str, &'a str), Vec<&'a Finding>>);

impl<'a> Problems<'a> {
    pub(super) fn of(findings: &'a [Finding]) -> Self {
        let mut by_object: HashMap<_, Vec<&Finding>> = HashMap::new();
        let counts = |f: &&Finding| {
            f.severity == Severity::Error
                && (f.rule.breaks_declared || f.evidence["problem"] == "missing")
        };
        for finding in findings.iter().filter(counts) {
            by_object
                .entry((finding.object.object_type, finding.object.identity.as_str()))
                .or_default()
                .push(finding);
        }
        Self(by_object)
    }

    /// Returns the check of one object: its problems, or `passing` where it has none.
    pub(super) fn check(
        &self,
        area: &'static str,
        object: Identified<'_>,
        passing: String,
    ) -> Check {
        let Identified { object_type, identity } = object;
        let found = self.0.get(&(object_type, identity)).map_or(&[][..], Vec::as_slice);
        let details: Vec<&str> = found.iter().map(|f| f.detail.as_str()).collect();
        let fixes: Vec<String> = found.iter().filter_map(|f| f.fix.sql()).collect();
        Check {
            area,
            object: printable(identity).into_owned(),
            ok: found.is_empty(),
            detail: if found.is_empty() { passing } else { details.join(" ") },
            fix: (!fixes.is_empty()).then(|| fixes.join("\n")),
        }
    }
}

/// An object as findings identify it.
#[derive(Clone, Copy)]
pub(super) struct Identified<'i> {
    pub object_type: &'i str,
    pub identity: &'i str,
}

impl Check {
    /// Adds a problem, where there is one.
    pub(super) fn and(mut self, problem: Option<String>) -> Self {
        if let Some(problem) = problem {
            self.detail = if self.ok { problem } else { format!("{} {problem}", self.detail) };
            self.ok = false;
        }
        self
    }

    /// Adds the statements of a fix, each once.
    pub(super) fn with_fix(mut self, fix: Option<&str>) -> Self {
        for statement in fix.into_iter().flat_map(str::lines) {
            let known = self.fix.get_or_insert_default();
            if !known.lines().any(|line| line == statement) {
                if !known.is_empty() {
                    known.push('\n');
                }
                known.push_str(statement);
            }
        }
        self
    }
}
