//! Findings: the results of rules, in one form for all consumers.
//!
//! A rule returns one draft for each role. Drafts that differ in the grantee only state one
//! [`Problem`], and become one finding.

mod predicate;

pub use predicate::{Predicate, Verb};

use crate::catalog::{Object, Oid, PUBLIC, Shared};
use crate::contract::{GuardAction, Severity};
use crate::fix::Fix;
use crate::rule::Rule;
use crate::sql::quote_ident;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

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
    /// Whether a later statement of the transaction may still restrict what is in excess.
    pub is_due_at_commit: bool,
}

impl Default for Measure {
    fn default() -> Self {
        Self {
            kind: None,
            extent: vec![],
            is_missing: false,
            at_most: GuardAction::Block,
            is_due_at_commit: false,
        }
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

    /// Says that a later statement of the transaction may still restrict what is in excess.
    #[must_use]
    pub fn due_at_commit(mut self) -> Self {
        self.is_due_at_commit = true;
        self
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
    /// The facts behind the sentence, machine-readable. Findings with the same facts share them.
    pub evidence: Shared<Value>,
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
    pub evidence: Shared<Value>,
    /// The fix.
    pub fix: Fix,
    /// How the guard compares it with the findings before a statement.
    pub measure: Measure,
    /// Whether another rule reports the problem. It is no finding; the guard compares later
    /// findings with it.
    pub is_covered: bool,
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
            evidence: Value::Object(serde_json::Map::new()).into(),
            fix: Fix::Unknown,
            measure: Measure::default(),
            is_covered: false,
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
    pub fn evidence(mut self, evidence: impl Into<Shared<Value>>) -> Self {
        self.evidence = evidence.into();
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

/// The key of the evidence that lists the grantees.
pub(crate) const GRANTEES: &str = "grantees";

/// The evidence that names what calls a routine: a reason for the privilege, and no part of it.
pub(crate) const CALLED_BY: &str = "called_by";

/// Drafts of a rule that state one problem: one draft, or several that differ in the grantee only.
#[derive(Debug, Clone)]
pub struct Problem {
    first: Draft,
    /// The others. Where there are any, they are in order of grantee: PUBLIC, then the roles by
    /// name.
    others: Vec<Draft>,
}

/// What the drafts of one problem have in common.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct Common {
    identity: String,
    severity: Severity,
    predicate: Predicate,
    /// The facts, as JSON, without the grantee.
    evidence: String,
    has_statements: bool,
}

impl Common {
    /// Returns what other drafts may have in common with this one; `None` where the draft is a
    /// problem by itself.
    fn of(draft: &Draft) -> Option<Self> {
        Some(Self {
            predicate: draft.predicate.clone()?,
            identity: draft.object.identity.clone(),
            severity: draft.severity,
            evidence: draft.evidence.to_string(),
            has_statements: !draft.fix.statements().is_empty(),
        })
    }
}

impl From<Draft> for Problem {
    fn from(first: Draft) -> Self {
        Self { first, others: vec![] }
    }
}

impl Problem {
    /// Returns the problems that drafts of one rule state, in the order of their first drafts,
    /// without those that another rule reports.
    #[must_use]
    pub fn all_of(drafts: Vec<Draft>) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::with_capacity(drafts.len());
        let mut places: HashMap<Common, usize> = HashMap::new();
        for draft in drafts.into_iter().filter(|draft| !draft.is_covered) {
            let next = found.len();
            let place = Common::of(&draft).map(|common| *places.entry(common).or_insert(next));
            match place.and_then(|place| found.get_mut(place)) {
                Some(same) => same.others.push(draft),
                None => found.push(draft.into()),
            }
        }
        found.iter_mut().for_each(Self::order);
        found
    }

    /// Puts the drafts in order of grantee: PUBLIC, then the roles by name.
    fn order(&mut self) {
        let key = |draft: &Draft| (!draft.is_to_public, draft.role.clone());
        self.others.sort_by_cached_key(key);
        if let Some(least) = self.others.first_mut()
            && key(least) < key(&self.first)
        {
            std::mem::swap(&mut self.first, least);
            self.others.sort_by_cached_key(key);
        }
    }

    /// Returns what identifies the problem among those of its rule, for any grantees; `None`
    /// where it has no others.
    pub(crate) fn common(&self) -> Option<Common> {
        Common::of(&self.first)
    }

    fn drafts(&self) -> impl Iterator<Item = &Draft> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Returns the finding of `rule`, with at most the severity `worst`.
    #[must_use]
    pub fn finish(self, rule: &'static Rule, worst: Severity) -> Finding {
        let fingerprint = self.fingerprint(rule);
        let roles: Vec<String> = self.drafts().filter_map(|draft| draft.role.clone()).collect();
        let detail = self.detail();
        let Self { first, others } = self;
        let mut severity = first.severity.min(worst);
        let (mut evidence, mut fix) = (first.evidence, first.fix);
        others.into_iter().for_each(|draft| fix.append(draft.fix));
        if first.predicate.is_some() {
            evidence[GRANTEES] = json!(roles);
        }
        if let Some(owner) = &first.object.managed_by {
            evidence["managed_by"] = owner.clone().into();
            severity = Severity::Info;
            // Objects of the platform are changed by the platform.
            fix = Fix::Unknown;
        }
        Finding { rule, severity, object: first.object, roles, detail, evidence, fix, fingerprint }
    }

    fn detail(&self) -> String {
        match &self.first.predicate {
            Some(predicate) if !self.others.is_empty() => {
                let roles = self.drafts().filter(|draft| !draft.is_to_public);
                let roles: Vec<&str> = roles.filter_map(|draft| draft.role.as_deref()).collect();
                predicate.of_several(self.first.is_to_public, &roles)
            }
            _ => self.first.detail.clone(),
        }
    }

    /// Returns the fingerprint. It changes when a grantee is added or removed: that is another
    /// problem than the one that was accepted.
    fn fingerprint(&self, rule: &Rule) -> String {
        let Object { object_type, identity, .. } = &self.first.object;
        let Some(last) = self.others.last() else {
            let role = self.first.role.as_deref().unwrap_or_default();
            return fingerprint(&[rule.id, object_type, identity, role, &self.first.key]);
        };
        let name = |draft: &Draft| {
            let name = draft.role.as_deref().unwrap_or_default();
            // A role can have the name "PUBLIC": it is quoted.
            if draft.is_to_public { name.to_owned() } else { quote_ident(name).into_owned() }
        };
        let names: Vec<String> = self.drafts().map(name).collect();
        fingerprint(&[rule.id, object_type, identity, &names.join(", "), &last.key])
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
    let digit = |half: u8| char::from_digit(half.into(), 16).expect("half a byte");
    hash.finalize()[..16].iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{ObjectId, PUBLIC};
    use crate::rules::routine_privileges::RULE;

    #[test]
    fn fingerprint_differs_for_different_lists_and_is_stable() {
        assert_ne!(fingerprint(&["ab", "c"]), fingerprint(&["a", "bc"]));
        assert_eq!(fingerprint(&["a"]), "3b196fd4907bedf51c3090e9835f2f7c");
    }

    fn object() -> Object {
        Object {
            object_type: "function",
            schema: Some("ops".into()),
            identity: "ops.f()".into(),
            managed_by: None,
            id: ObjectId::Routine(1),
        }
    }

    fn draft(grantee: u32, name: &str, rest: &str) -> Draft {
        let predicate = Predicate { verb: Verb::Has, rest: rest.into() };
        Draft::of_grantee(object(), Severity::Error, (grantee, name), predicate).key("undeclared")
    }

    fn found(drafts: Vec<Draft>) -> Vec<Finding> {
        let problems = Problem::all_of(drafts).into_iter();
        problems.map(|problem| problem.finish(&RULE, Severity::Error)).collect()
    }

    #[test]
    fn grantees_with_the_same_privilege_are_one_finding_and_another_way_is_another() {
        let (direct, through) = ("EXECUTE on it.", "EXECUTE on it through membership in \"g\".");
        let findings = found(vec![
            draft(12, "zoe", direct),
            draft(11, "bob", through),
            draft(10, "anon", direct),
        ]);
        let details: Vec<&str> = findings.iter().map(|f| f.detail.as_str()).collect();
        assert_eq!(
            details,
            [
                "Roles \"anon\" and \"zoe\" have EXECUTE on it.",
                "Role \"bob\" has EXECUTE on it through membership in \"g\"."
            ]
        );
        assert_eq!((findings[0].role(), findings[1].role()), (None, Some("bob")));
        assert_eq!(*findings[0].evidence, json!({"grantees": ["anon", "zoe"]}));
    }

    #[test]
    fn public_comes_first_and_differs_from_a_role_with_its_name() {
        let to = |grantee, name| draft(grantee, name, "EXECUTE.");
        let of = |drafts| found(drafts).remove(0);
        let mixed = of(vec![to(10, "anon"), to(PUBLIC, "PUBLIC")]);
        assert_eq!(mixed.detail, "PUBLIC (every role) and role \"anon\" have EXECUTE.");
        let named = of(vec![to(10, "anon"), to(9, "PUBLIC")]);
        assert_eq!(named.detail, "Roles \"PUBLIC\" and \"anon\" have EXECUTE.");
        assert_ne!(mixed.fingerprint, named.fingerprint);
        assert_ne!(mixed.fingerprint, of(vec![to(10, "anon")]).fingerprint);
    }

    #[test]
    fn drafts_without_a_predicate_stay_separate() {
        let plain = |role: &str| Draft::new(object(), Severity::Error, "It is wrong.").role(role);
        assert_eq!(found(vec![plain("a"), plain("b")]).len(), 2);
    }
}
