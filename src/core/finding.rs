//! Findings: what a rule has to say, the same shape for every face.

use crate::catalog::Object;
use crate::contract::{GuardAction, Severity};
use crate::fix::Fix;
use crate::rule::Rule;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// How a finding compares with what was before a statement: what the guard asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    /// What kind of thing is wrong, where the draft's key says how much of it too.
    pub kind: Option<String>,
    /// How much of it: privileges, commands. A part of what was wrong before is nothing new.
    pub extent: Vec<&'static str>,
    /// Something is not there that a later statement of the transaction may still put there.
    pub lacks: bool,
    /// The most that the guard does about it, whatever the rule says.
    pub at_most: GuardAction,
}

impl Default for Measure {
    fn default() -> Self {
        Self { kind: None, extent: vec![], lacks: false, at_most: GuardAction::Block }
    }
}

impl Measure {
    /// So much too much of one kind of thing.
    #[must_use]
    pub fn surplus(kind: impl Into<String>, extent: Vec<&'static str>) -> Self {
        Self { kind: Some(kind.into()), extent, ..Self::default() }
    }

    /// So much too little of one kind of thing.
    #[must_use]
    pub fn lack(kind: impl Into<String>, extent: Vec<&'static str>) -> Self {
        Self { lacks: true, ..Self::surplus(kind, extent) }
    }
}

/// One way in which the database differs from the contract.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The rule that found it.
    pub rule: &'static Rule,
    /// Never worse than the contract's severity of the rule.
    pub severity: Severity,
    /// What it is about.
    pub object: Object,
    /// The role concerned; `PUBLIC` for everybody.
    pub role: Option<String>,
    /// One sentence that a person understands; holds nothing unprintable.
    pub detail: String,
    /// What the sentence rests on.
    pub evidence: Value,
    /// How it is fixed: statements, or a proposal.
    pub fix: Fix,
    /// Stable across dump and restore: made of names, never of OIDs.
    pub fingerprint: String,
}

impl Finding {
    /// What tells a new wrong from one that has become more or less: rule, object and role; and the
    /// owner, where a wrong is worse the more its owner may do.
    #[must_use]
    pub fn about(&self) -> (&'static str, &str, Option<&str>, Option<&str>) {
        (self.rule.id, &self.object.identity, self.role.as_deref(), self.evidence["owner"].as_str())
    }

    /// The same, to keep.
    #[must_use]
    pub fn subject(&self) -> Subject {
        let (rule, identity, role, owner) = self.about();
        (rule, identity.to_owned(), role.map(str::to_owned), owner.map(str::to_owned))
    }
}

/// What a finding is about: rule, object, role, owner.
pub type Subject = (&'static str, String, Option<String>, Option<String>);

/// A finding as a rule writes it down; [`Finding`] adds what follows from it.
#[derive(Debug, Clone)]
pub struct Draft {
    /// What it is about.
    pub object: Object,
    /// The role concerned.
    pub role: Option<String>,
    /// How bad this one is, at the most; the contract may say that the rule is less.
    pub severity: Severity,
    /// What tells it from other findings of the rule about the same object and role.
    pub key: String,
    /// One sentence.
    pub detail: String,
    /// What the sentence rests on.
    pub evidence: Value,
    /// How it is mended.
    pub fix: Fix,
    /// How it compares with what was before.
    pub measure: Measure,
}

impl Draft {
    /// How bad it is, before the contract has its say.
    #[must_use]
    pub fn weight(&self) -> Severity {
        if self.object.managed_by.is_some() { Severity::Info } else { self.severity }
    }

    /// The finding of `rule`, which the contract takes as `worst` at the most.
    #[must_use]
    pub fn finish(mut self, rule: &'static Rule, worst: Severity) -> Finding {
        let mut severity = self.severity.min(worst);
        if let (Some(owner), Value::Object(evidence)) =
            (&self.object.managed_by, &mut self.evidence)
        {
            evidence.insert("managed_by".into(), owner.clone().into());
            severity = Severity::Info;
            // What the platform brings is the platform's to change.
            self.fix = Fix::Unknown;
        }
        let parts = [
            rule.id,
            self.object.object_type,
            &self.object.identity,
            self.role.as_deref().unwrap_or_default(),
            &self.key,
        ];
        let fingerprint = fingerprint(&parts);
        Finding {
            rule,
            severity,
            object: self.object,
            role: self.role,
            detail: self.detail,
            evidence: self.evidence,
            fix: self.fix,
            fingerprint,
        }
    }
}

/// 128 bits of SHA-256 over the parts, in hexadecimal; each part is preceded by its length, so that
/// no two lists collide.
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
    fn fingerprints_tell_lists_apart_and_never_change() {
        assert_ne!(fingerprint(&["ab", "c"]), fingerprint(&["a", "bc"]));
        assert_eq!(fingerprint(&["a"]), "3b196fd4907bedf51c3090e9835f2f7c");
    }
}
