//! The metadata of a rule: name, defaults and documentation. Its check is in [`crate::rules`].

use crate::contract::{Contract, GuardAction, Severity};
use std::fmt;

/// The part of an audit that a rule belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Area {
    Roles,
    Objects,
    Grants,
    Views,
    Functions,
    Rls,
    Policies,
    Guard,
}

impl Area {
    /// Every area, in the order of the contract's sections.
    pub const ALL: [Self; 8] = [
        Self::Roles,
        Self::Objects,
        Self::Grants,
        Self::Views,
        Self::Functions,
        Self::Rls,
        Self::Policies,
        Self::Guard,
    ];

    /// Returns the name of the area in SQL: `audit_roles` is the audit of `roles`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Roles => "roles",
            Self::Objects => "objects",
            Self::Grants => "grants",
            Self::Views => "views",
            Self::Functions => "functions",
            Self::Rls => "rls",
            Self::Policies => "policies",
            Self::Guard => "guard",
        }
    }
}

/// The SQLSTATE of the error that blocks a statement (errcodes.txt).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum SqlState {
    InvalidGrantOperation,
    DependentObjectsStillExist,
    InvalidFunctionDefinition,
    InvalidObjectDefinition,
    ReservedName,
}

impl SqlState {
    /// Returns the five characters of the code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::InvalidGrantOperation => "0LP01",
            Self::DependentObjectsStillExist => "2BP01",
            Self::InvalidFunctionDefinition => "42P13",
            Self::InvalidObjectDefinition => "42P17",
            Self::ReservedName => "42939",
        }
    }

    /// Returns the condition name, as PL/pgSQL's EXCEPTION clause spells it.
    #[must_use]
    pub fn condition(self) -> &'static str {
        match self {
            Self::InvalidGrantOperation => "invalid_grant_operation",
            Self::DependentObjectsStillExist => "dependent_objects_still_exist",
            Self::InvalidFunctionDefinition => "invalid_function_definition",
            Self::InvalidObjectDefinition => "invalid_object_definition",
            Self::ReservedName => "reserved_name",
        }
    }
}

/// After which changes the guard checks a rule again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recheck {
    /// After any change, on the changed objects.
    ChangedObjects,
    /// As [`Self::ChangedObjects`], but routine by routine and not by comparing findings: the guard
    /// compares the reasons for a verdict.
    Routines,
    /// When an object uses another routine than before, or the owner of a routine has changed.
    Uses,
    /// When an object has another name, schema or kind than before, or has been dropped.
    Names,
    /// When a schema has changed.
    Schemas,
    /// When roles, memberships or the database have changed.
    Roles,
    /// When one of the extension's own objects has changed.
    OwnObjects,
}

/// SQL that demonstrates a rule. A test executes it in the database that the shipped contract
/// describes.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// Statements after which only this rule has a new finding.
    pub violating: &'static str,
    /// Statements with the same purpose after which no rule has a new finding.
    pub correct: &'static str,
}

/// A rule: its name, its defaults and its documentation.
pub struct Rule {
    /// The name in contracts and findings.
    pub id: &'static str,
    /// One line: the problem that it reports.
    pub title: &'static str,
    /// The audit it belongs to.
    pub area: Area,
    /// The highest severity of its findings, unless the contract sets another.
    pub severity: Severity,
    /// The guard action, unless the contract sets another.
    pub guard: GuardAction,
    /// The code of the error where the guard blocks a statement.
    pub sqlstate: SqlState,
    /// When the guard checks it.
    pub recheck: Recheck,
    /// Whether its errors mean that something declared does not work or protects nothing, which
    /// `ops.doctor()` reports. Other rules find privileges beyond those declared.
    pub breaks_declared: bool,
    /// What it checks: one or two sentences.
    pub checks: &'static str,
    /// Why it matters: what goes wrong where the database violates it.
    pub why: &'static str,
    /// How to fix a finding, in general.
    pub fix: &'static str,
    /// When an exemption is reasonable.
    pub exempt: &'static str,
    /// Whether an exemption can name objects by a pattern; otherwise only single findings can be
    /// exempted, by fingerprint.
    pub exempt_by_pattern: bool,
    /// SQL that violates it and SQL that does not.
    pub example: Example,
    /// Descriptions of the same problem elsewhere: splinter lints, the CIS benchmark, CWE.
    pub references: &'static [&'static str],
}

impl Rule {
    /// Returns the most that the guard does about a violation under a contract: its enforcement,
    /// which does not limit the protection of the guard itself.
    #[must_use]
    pub fn limit(&self, contract: &Contract) -> GuardAction {
        if self.area == Area::Guard { GuardAction::Block } else { contract.enforcement.action() }
    }

    /// Returns the severity of the rule in a contract.
    #[must_use]
    pub fn severity_in(&self, contract: &Contract) -> Severity {
        contract.rules.get(self.id).and_then(|rule| rule.severity).unwrap_or(self.severity)
    }

    /// Returns what the guard does about a violation under a contract.
    #[must_use]
    pub fn action(&self, contract: &Contract) -> GuardAction {
        let declared = contract.rules.get(self.id).and_then(|rule| rule.guard);
        declared.unwrap_or(self.guard).min(self.limit(contract))
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}

/// Rules are equal when they have the same id.
impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}
