//! Findings: the results of rules, in one form for all consumers.

mod grantees;

pub(crate) use grantees::{Common, GRANTEES};
pub use grantees::{Predicate, Problem, Verb};

use crate::catalog::{Object, Oid, PUBLIC};
use crate::contract::{GuardAction, Severity};
use crate::fix::Fix;
use crate::rule::Rule;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// How the guard compares a finding with the findings before a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    /// The kind of problem; `None` where the draft's key identifies it.
    pub kind: Option<String>,
    /// The extent of the problem: privileges or commands. A subset of the earlier extent is not a
    /// regression.
    pub extent: Vec<&'static str>,
    /// Whether something is missing that a later statement of the transaction may still add.
    pub is_missing: bool,
    /// The strongest action of the guard, whatever the contract says.
    pub at_most: GuardAction,
}

impl Default for Measure {
    fn default() -> Self {
        Self { kind: None, extent: vec![], is_missing: false, at_most: GuardAction::Block }
    }
}

impl Measure {
    /// Returns the measure of something that is there and should not be.
    #[must_use]
    pub fn excess(kind: impl Into<String>, extent: Vec<&'static str>) -> Self {
        Self { kind: Some(kind.into()), extent, ..Self::default() }
    }

    /// Returns the measure of something that should be there and is not.
    #[must_use]
    pub fn missing(kind: impl Into<String>, extent: Vec<&'static str>) -> Self {
        Self { is_missing: true, ..Self::excess(kind, extent) }
    }

    /// Sets the strongest action of the guard.
    #[must_use]
    pub fn limited_to(mut self, action: GuardAction) -> Self {
        self.at_most = action;
        self
    }
}

/// One way in which the database differs from the contract.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The rule that found it.
    pub rule: &'static Rule,
    /// The severity, at most that of the rule in the contract.
    pub severity: Severity,
    /// The object that violates the rule.
    pub object: Object,
    /// The roles concerned; `PUBLIC` for all roles. Several have the same problem in the same way.
    pub roles: Vec<String>,
    /// One sentence that states the problem, without unprintable characters.
    pub detail: String,
    /// The facts behind the sentence, machine-readable.
    pub evidence: Value,
    /// The fix: statements, or a proposal.
    pub fix: Fix,
    /// Identifies the finding across dump and restore: made of names, never of OIDs.
    pub fingerprint: String,
}

impl Finding {
    /// Returns the role concerned, where it is one; `PUBLIC` for all roles.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        match self.roles.as_slice() {
            [role] => Some(role),
            _ => None,
        }
    }

    /// Returns what the finding is about, for each of its roles: rule, object, role, and owner
    /// where the evidence names one. Two findings about the same differ in extent only.
    pub fn about(&self) -> impl Iterator<Item = About<'_>> {
        let none = self.roles.is_empty().then_some(None);
        let owner = self.evidence["owner"].as_str();
        let about = move |role| (self.rule.id, self.object.identity.as_str(), role, owner);
        none.into_iter().chain(self.roles.iter().map(|role| Some(role.as_str()))).map(about)
    }

    /// Returns the owned form of [`Self::about`].
    pub fn subjects(&self) -> impl Iterator<Item = Subject> {
        self.about().map(|(rule, identity, role, owner)| {
            (rule, identity.to_owned(), role.map(str::to_owned), owner.map(str::to_owned))
        })
    }
}

/// What a finding is about: rule, object, role, owner.
pub type About<'f> = (&'static str, &'f str, Option<&'f str>, Option<&'f str>);

/// The owned form of [`About`].
pub type Subject = (&'static str, String, Option<String>, Option<String>);

/// A finding as a rule returns it, before the contract's severity is applied.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The object that violates the rule.
    pub object: Object,
    /// The role concerned; `PUBLIC` for all roles.
    pub role: Option<String>,
    /// Whether `role` stands for all roles. A role can have the name "PUBLIC" as well.
    pub is_to_public: bool,
    /// The severity by the rule; the contract may lower it.
    pub severity: Severity,
    /// Distinguishes findings of a rule about the same object and role.
    pub key: String,
    /// One sentence that states the problem.
    pub detail: String,
    /// What the sentence says about the grantee, where drafts about others may say the same.
    pub predicate: Option<Predicate>,
    /// The facts behind the sentence, machine-readable.
    pub evidence: Value,
    /// The fix.
    pub fix: Fix,
    /// How the guard compares it with the findings before a statement.
    pub measure: Measure,
}

impl Draft {
    /// Returns a draft about an object, without role, key, evidence and fix.
    #[must_use]
    pub fn new(object: Object, severity: Severity, detail: impl Into<String>) -> Self {
        Self {
            object,
            role: None,
            is_to_public: false,
            severity,
            key: String::new(),
            detail: detail.into(),
            predicate: None,
            evidence: Value::Object(serde_json::Map::new()),
            fix: Fix::Unknown,
            measure: Measure::default(),
        }
    }

    /// Returns a draft about a grantee, PUBLIC or a role, and its name. Drafts that say the same
    /// about several become one finding.
    #[must_use]
    pub fn of_grantee(
        object: Object,
        severity: Severity,
        (grantee, name): (Oid, &str),
        predicate: Predicate,
    ) -> Self {
        let detail = predicate.of_one(name, grantee == PUBLIC);
        let draft = Self::new(object, severity, detail).grantee(grantee, name);
        Self { predicate: Some(predicate), ..draft }
    }

    /// Sets the role concerned.
    #[must_use]
    pub fn role(mut self, name: impl Into<String>) -> Self {
        self.role = Some(name.into());
        self
    }

    /// Sets the role concerned to a grantee, PUBLIC or a role, whose name is `name`.
    #[must_use]
    pub fn grantee(self, grantee: Oid, name: impl Into<String>) -> Self {
        Self { is_to_public: grantee == PUBLIC, ..self.role(name) }
    }

    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }

    /// Sets the evidence, a JSON object.
    #[must_use]
    pub fn evidence(mut self, evidence: Value) -> Self {
        self.evidence = evidence;
        self
    }

    /// Sets the fix.
    #[must_use]
    pub fn fix(mut self, fix: Fix) -> Self {
        self.fix = fix;
        self
    }

    /// Sets the measure.
    #[must_use]
    pub fn measure(mut self, measure: Measure) -> Self {
        self.measure = measure;
        self
    }

    /// Returns the severity for the guard: the contract's severity of the rule does not count.
    #[must_use]
    pub fn guard_severity(&self) -> Severity {
        if self.object.managed_by.is_some() { Severity::Info } else { self.severity }
    }

    /// Returns the finding of `rule` about this draft, with at most the severity `worst`.
    #[must_use]
    pub fn finish(self, rule: &'static Rule, worst: Severity) -> Finding {
        Problem::from(self).finish(rule, worst)
    }
}

/// Returns 128 bits of SHA-256 over the parts, in hexadecimal. Each part is preceded by its length,
/// so that different lists have different inputs.
#[must_use]
pub fn fingerprint(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize()[..16].iter().fold(String::with_capacity(32), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_differs_for_different_lists_and_is_stable() {
        assert_ne!(fingerprint(&["ab", "c"]), fingerprint(&["a", "bc"]));
        assert_eq!(fingerprint(&["a"]), "3b196fd4907bedf51c3090e9835f2f7c");
    }
}
