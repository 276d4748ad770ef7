//! Findings about several grantees: drafts that differ in the grantee only state one problem, and
//! become one finding.

use super::{Draft, Finding, fingerprint};
use crate::catalog::Object;
use crate::contract::Severity;
use crate::fix::Fix;
use crate::rule::Rule;
use crate::sql::{listed, printable, quote_ident};
use serde_json::{Value, json};
use std::collections::HashMap;

/// The verb of a sentence about grantees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// They have something.
    Has,
    /// They do not have something.
    Lacks,
}

impl Verb {
    fn singular(self) -> &'static str {
        match self {
            Self::Has => "has",
            Self::Lacks => "does not have",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Has => "have",
            Self::Lacks => "do not have",
        }
    }
}

/// What a sentence says about grantees: `has`, and `EXECUTE on function f(), which the contract does
/// not declare.` The text tells how they have a privilege, and differs where that differs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Predicate {
    /// The verb.
    pub verb: Verb,
    /// The rest of the text, with the period.
    pub rest: String,
}

impl Predicate {
    /// Returns the sentence about one grantee, PUBLIC or a role.
    #[must_use]
    pub fn of_one(&self, name: &str, is_to_public: bool) -> String {
        let subject =
            if is_to_public { PUBLIC.to_owned() } else { format!("Role \"{}\"", printable(name)) };
        format!("{subject} {} {}", self.verb.singular(), self.rest)
    }

    /// Returns the sentence about PUBLIC, if `is_to_public`, and these roles.
    fn of_several(&self, is_to_public: bool, roles: &[&str]) -> String {
        let names: Vec<String> =
            roles.iter().map(|name| format!("\"{}\"", printable(name))).collect();
        let names = listed(&names);
        let subject = match (is_to_public, roles) {
            (false, _) => format!("Roles {names}"),
            (true, [_]) => format!("{PUBLIC} and role {names}"),
            (true, _) => format!("{PUBLIC} and roles {names}"),
        };
        format!("{subject} {} {}", self.verb.plural(), self.rest)
    }
}

/// PUBLIC as the subject of a sentence.
const PUBLIC: &str = "PUBLIC (every role)";

/// The key of the evidence that lists the grantees.
pub(crate) const GRANTEES: &str = "grantees";

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
    /// Returns the problems that drafts of one rule state, in the order of their first drafts.
    #[must_use]
    pub fn all_of(drafts: Vec<Draft>) -> Vec<Self> {
        let mut found: Vec<Vec<Draft>> = Vec::with_capacity(drafts.len());
        let mut places: HashMap<Common, usize> = HashMap::new();
        for draft in drafts {
            let next = found.len();
            let place = Common::of(&draft).map(|common| *places.entry(common).or_insert(next));
            match place.and_then(|place| found.get_mut(place)) {
                Some(same) => same.push(draft),
                None => found.push(vec![draft]),
            }
        }
        let problem = |mut drafts: Vec<Draft>| {
            drafts.sort_by_cached_key(|draft| (!draft.is_to_public, draft.role.clone()));
            let mut drafts = drafts.into_iter();
            Some(Self { first: drafts.next()?, others: drafts.collect() })
        };
        found.into_iter().filter_map(problem).collect()
    }

    /// Returns what identifies the problem among those of its rule, whoever the grantees are;
    /// `None` where it has no others.
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
        if let Value::Object(evidence) = &mut evidence {
            if first.predicate.is_some() {
                evidence.insert(GRANTEES.into(), json!(roles));
            }
            if let Some(owner) = &first.object.managed_by {
                evidence.insert("managed_by".into(), owner.clone().into());
                severity = Severity::Info;
                // Objects of the platform are changed by the platform.
                fix = Fix::Unknown;
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{ObjectId, PUBLIC};
    use crate::rules::routine_privileges::RULE;

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
        assert_eq!(findings[0].evidence, json!({"grantees": ["anon", "zoe"]}));
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
