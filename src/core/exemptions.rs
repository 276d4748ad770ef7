//! Exemptions: findings that somebody has accepted, who, why, and until when.
//!
//! An exemption is about something as it was when it was accepted: it keeps what each finding
//! rested on, and what the object was made of, its *basis*. When that changes, the exemption has
//! ended, for nobody has accepted what is there now.

use crate::catalog::ObjectId;
use crate::contract::Severity;
use crate::finding::{Finding, fingerprint};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// An accepted finding, or a rule accepted for objects of some names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exemption {
    /// In the order in which they were made.
    pub id: i32,
    /// The one finding; `None`: every finding of `rule` about an object whose identity matches
    /// `object`.
    pub fingerprint: Option<String>,
    /// The rule.
    pub rule: String,
    /// The identity of the object, or a pattern: `*` stands for any characters, `?` for one.
    pub object: String,
    /// Why it was accepted.
    pub reason: String,
    /// By whom.
    pub exempted_by: String,
    /// When, as people read it.
    pub exempted_at: String,
    /// Until when, as people read it; `None`: for good.
    pub expires_at: Option<String>,
    /// That time has come.
    pub is_expired: bool,
    /// What was accepted, by the fingerprint of each finding.
    pub accepted: BTreeMap<String, Accepted>,
}

/// One finding as it was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// No worse than that.
    pub severity: Severity,
    /// What it rested on, and what its object was made of.
    pub state: String,
}

impl Accepted {
    /// A finding as it is now.
    #[must_use]
    pub fn now(finding: &Finding, basis: Basis<'_>) -> Self {
        let mut evidence = finding.evidence.clone();
        if let Value::Object(evidence) = &mut evidence {
            // What follows from it elsewhere is shown there (see
            // `security_definer_search_path::following_from`).
            evidence.remove("exposed_routines");
        }
        let basis = basis(finding.object.id).unwrap_or_default();
        Self { severity: finding.severity, state: fingerprint(&[&basis, &evidence.to_string()]) }
    }
}

/// How an exemption stands to a finding that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// What it is about is not what was accepted.
    Changed,
    /// Its time is over.
    Expired,
    /// It is accepted.
    Active,
}

impl Status {
    /// The word of the SQL face.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Changed => "changed",
        }
    }
}

/// What an object is made of now; `None` for what nobody could change without changing its name or
/// the finding.
pub type Basis<'b> = &'b dyn Fn(ObjectId) -> Option<String>;

impl Exemption {
    /// Whether it is about a finding, whether or not it still holds.
    #[must_use]
    pub fn is_about(&self, finding: &Finding) -> bool {
        match &self.fingerprint {
            Some(fingerprint) => *fingerprint == finding.fingerprint,
            None => self.rule == finding.rule.id && matches(&self.object, &finding.object.identity),
        }
    }

    /// How it stands to a finding that it is about.
    #[must_use]
    pub fn standing(&self, finding: &Finding, basis: Basis<'_>) -> Status {
        if self.is_expired {
            return Status::Expired;
        }
        // A pattern is for what it names, now and later; but a routine that came after it has been
        // accepted by nobody.
        if self.fingerprint.is_none() && !matches!(finding.object.id, ObjectId::Routine(_)) {
            return Status::Active;
        }
        let then = self.accepted.get(&finding.fingerprint);
        let now = then.map(|_| Accepted::now(finding, basis));
        match (then, now) {
            (Some(then), Some(now)) if now.state == then.state && now.severity <= then.severity => {
                Status::Active
            }
            _ => Status::Changed,
        }
    }

    /// What a finding says about it.
    fn evidence(&self, standing: Status) -> Value {
        json!({
            "id": self.id,
            "status": standing.as_str(),
            "reason": self.reason,
            "exempted_by": self.exempted_by,
            "exempted_at": self.exempted_at,
            "expires_at": self.expires_at,
        })
    }

    /// What a person should know who sees a finding that was exempt.
    fn epitaph(&self, standing: Status) -> String {
        let reason = crate::sql::printable(&self.reason);
        match (standing, &self.expires_at) {
            (Status::Expired, Some(at)) => format!(" It was exempt until {at}: {reason}"),
            _ => format!(" It was exempt, and has changed since: {reason}"),
        }
    }
}

/// Every exemption that nobody has taken back.
#[derive(Debug, Default)]
pub struct Exemptions {
    list: Vec<Exemption>,
    by_fingerprint: HashMap<String, Vec<usize>>,
    patterns: Vec<usize>,
}

impl Exemptions {
    /// These.
    #[must_use]
    pub fn new(list: Vec<Exemption>) -> Self {
        let mut all = Self { list, ..Self::default() };
        for (i, exemption) in all.list.iter().enumerate() {
            match &exemption.fingerprint {
                Some(fingerprint) => {
                    all.by_fingerprint.entry(fingerprint.clone()).or_default().push(i)
                }
                None => all.patterns.push(i),
            }
        }
        all
    }

    /// In the order in which they were made.
    #[must_use]
    pub fn list(&self) -> &[Exemption] {
        &self.list
    }

    /// The exemption of a finding that stands best, the latest of several.
    #[must_use]
    pub fn of(&self, finding: &Finding, basis: Basis<'_>) -> Option<(&Exemption, Status)> {
        let own = self.by_fingerprint.get(&finding.fingerprint).into_iter().flatten();
        own.chain(&self.patterns)
            .map(|&i| &self.list[i])
            .filter(|exemption| exemption.is_about(finding))
            .map(|exemption| (exemption, exemption.standing(finding, basis)))
            .max_by_key(|(exemption, standing)| (*standing, exemption.id))
    }

    /// Whether any of them could be about a rule.
    #[must_use]
    pub fn mention(&self, rule: &str) -> bool {
        self.list.iter().any(|exemption| exemption.rule == rule)
    }

    /// Whether a finding is accepted.
    #[must_use]
    pub fn accept(&self, finding: &Finding, basis: Basis<'_>) -> bool {
        self.of(finding, basis).is_some_and(|(_, standing)| standing == Status::Active)
    }

    /// The findings without those that are accepted, unless they are asked for. What was accepted
    /// once, or is and is asked for, says so.
    #[must_use]
    pub fn apply(
        &self,
        findings: Vec<Finding>,
        basis: Basis<'_>,
        with_accepted: bool,
    ) -> Vec<Finding> {
        if self.list.is_empty() {
            return findings;
        }
        let said = |mut finding: Finding| match self.of(&finding, basis) {
            None => Some(finding),
            Some((_, Status::Active)) if !with_accepted => None,
            Some((exemption, standing)) => {
                if let Value::Object(evidence) = &mut finding.evidence {
                    evidence.insert("exemption".into(), exemption.evidence(standing));
                }
                if standing != Status::Active {
                    finding.detail += &exemption.epitaph(standing);
                }
                Some(finding)
            }
        };
        findings.into_iter().filter_map(said).collect()
    }
}

/// One place of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Any,
    One,
    Char(char),
}

/// The places of a pattern; a character after a backslash stands for itself.
fn places(pattern: &str) -> Vec<Place> {
    let mut characters = pattern.chars();
    let mut places = Vec::new();
    while let Some(c) = characters.next() {
        places.push(match c {
            '*' => Place::Any,
            '?' => Place::One,
            '\\' => Place::Char(characters.next().unwrap_or('\\')),
            c => Place::Char(c),
        });
    }
    places
}

/// Whether text matches a pattern in which `*` stands for any characters and `?` for one. In time
/// that grows with the product of their lengths at the most.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<Place>, Vec<char>) = (places(pattern), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where the last star stands, and the first character that it does not stand for yet.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(Place::Any) => {
                star = Some((p, t));
                p += 1;
            }
            Some(Place::One) => (p, t) = (p + 1, t + 1),
            Some(Place::Char(c)) if *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match &mut star {
                Some((at, from)) => {
                    *from += 1;
                    (p, t) = (*at + 1, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|place| *place == Place::Any)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::find;
    use crate::rules::testing::World;

    fn findings(world: &World, rule: &str) -> Vec<Finding> {
        world.findings(find(rule).unwrap())
    }

    /// A world with an unsafe routine and a table that a client reads.
    fn world() -> World {
        let mut world = World::conforming();
        world.routine("get_ceo_metrics").config.clear();
        let anon = world.role("anon").oid;
        world.grant("public.judgments", anon, crate::catalog::Privileges::SELECT);
        world
    }

    fn by_finding(finding: &Finding) -> Exemption {
        Exemption {
            id: 1,
            fingerprint: Some(finding.fingerprint.clone()),
            rule: finding.rule.id.into(),
            object: finding.object.identity.clone(),
            reason: "Legacy, ticket 7.".into(),
            accepted: [(finding.fingerprint.clone(), Accepted::now(finding, AS_IT_WAS))].into(),
            ..Exemption::default()
        }
    }

    const AS_IT_WAS: Basis<'_> = &|_| Some(String::new() + "as it was");
    const ANOTHER: Basis<'_> = &|_| Some(String::new() + "another");

    #[test]
    fn an_accepted_finding_is_shown_when_asked_for() {
        let found = findings(&world(), "security_definer_search_path");
        let exemptions = Exemptions::new(vec![by_finding(&found[0])]);
        assert_eq!(exemptions.apply(found.clone(), AS_IT_WAS, false), []);
        let shown = exemptions.apply(found.clone(), AS_IT_WAS, true);
        assert_eq!(shown[0].evidence["exemption"]["reason"], "Legacy, ticket 7.");
        assert_eq!(shown[0].detail, found[0].detail);
        let others = findings(&world(), "table_privileges");
        assert_eq!(exemptions.apply(others.clone(), AS_IT_WAS, false), others);
    }

    #[test]
    fn what_has_changed_or_expired_comes_back_and_says_so() {
        let found = findings(&world(), "security_definer_search_path");
        let accepted = by_finding(&found[0]);
        let shown = Exemptions::new(vec![accepted.clone()]).apply(found.clone(), ANOTHER, false);
        assert!(
            shown[0].detail.ends_with(" It was exempt, and has changed since: Legacy, ticket 7."),
            "{}",
            shown[0].detail
        );
        let over = Exemption {
            is_expired: true,
            expires_at: Some("2026-01-01 00:00:00 UTC".into()),
            ..accepted.clone()
        };
        let shown = Exemptions::new(vec![over.clone()]).apply(found.clone(), AS_IT_WAS, false);
        let said = " It was exempt until 2026-01-01 00:00:00 UTC: Legacy, ticket 7.";
        assert!(shown[0].detail.ends_with(said), "{}", shown[0].detail);
        assert_eq!(shown[0].evidence["exemption"]["status"], "expired");
        // Renewed: the one that holds counts.
        let renewed = Exemptions::new(vec![over, Exemption { id: 2, ..accepted }]);
        assert_eq!(renewed.apply(found, AS_IT_WAS, false), []);
    }

    #[test]
    fn what_got_worse_is_not_what_was_accepted() {
        // A path that is safe and not the contract's; then somebody may create in its schema.
        let mut world = World::conforming();
        let app = world.schema("intake").oid;
        world.routine("complete_outbox_message").config =
            vec!["search_path=intake, pg_temp".into()];
        let found = findings(&world, "security_definer_search_path");
        assert_eq!(found[0].severity, Severity::Warning);
        let exemptions = Exemptions::new(vec![by_finding(&found[0])]);
        assert_eq!(exemptions.apply(found, AS_IT_WAS, false), []);
        let anon = world.role("anon").oid;
        world.snapshot.contents.insert(app, [(anon, crate::catalog::ContentKind::Routine)].into());
        let worse = findings(&world, "security_definer_search_path");
        assert_eq!(worse[0].severity, Severity::Error);
        assert_eq!(exemptions.apply(worse, AS_IT_WAS, false).len(), 1);
        // A membership that was harmless.
        let mut world = World::conforming();
        world.add_role("reporting");
        world.grant_role("reporting", "authenticated");
        let found = findings(&world, "role_membership");
        let exemptions = Exemptions::new(vec![by_finding(&found[0])]);
        assert_eq!(exemptions.apply(found, AS_IT_WAS, false), []);
        world.role("reporting").create_role = true;
        let error = findings(&world, "role_membership");
        assert_eq!(exemptions.apply(error.clone(), AS_IT_WAS, false).len(), 1);
        let exemptions = Exemptions::new(vec![by_finding(&error[0])]);
        assert_eq!(exemptions.apply(error, AS_IT_WAS, false), []);
        world.role("reporting").superuser = true;
        assert_eq!(
            exemptions.apply(findings(&world, "role_membership"), AS_IT_WAS, false).len(),
            1,
            "and worse still"
        );
    }

    #[test]
    fn a_pattern_accepts_tables_to_come_and_no_routines() {
        let world = world();
        let pattern = |rule: &str, object: &str| {
            Exemptions::new(vec![Exemption {
                id: 1,
                rule: rule.into(),
                object: object.into(),
                ..Exemption::default()
            }])
        };
        let tables = findings(&world, "table_privileges");
        assert_eq!(
            pattern("table_privileges", "public.*").apply(tables.clone(), ANOTHER, false),
            []
        );
        assert_eq!(
            pattern("table_privileges", "intake.*").apply(tables.clone(), ANOTHER, false),
            tables
        );
        assert_eq!(
            pattern("direct_write", "public.*").apply(tables.clone(), ANOTHER, false),
            tables
        );
        let routines = findings(&world, "security_definer_search_path");
        assert_eq!(
            pattern("security_definer_search_path", "api.*").apply(routines, ANOTHER, false).len(),
            1
        );
    }

    #[test]
    fn patterns_are_those_of_a_shell() {
        for (pattern, text, expected) in [
            ("public.*", "public.judgments", true),
            ("public.*", "publicity", false),
            ("*.v_*", "ops.v_x", true),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1b2b3", false),
            ("**ü", "xü", true),
            ("a\\*c", "a*c", true),
            ("a\\*c", "abc", false),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!matches(&"*a".repeat(2_000), &"b".repeat(20_000)), "and in time");
    }

    proptest::proptest! {
        #[test]
        fn a_name_matches_itself_and_what_a_star_stands_for(before in "[a-c.]{0,6}", middle in "[a-c*?\\\\]{0,6}", after in "[a-c.]{0,6}") {
            proptest::prop_assert!(matches(&before, &before));
            let text = [before.as_str(), &middle, &after].concat();
            let pattern = [before.as_str(), "*", &after].concat();
            proptest::prop_assert!(matches(&pattern, &text));
        }
    }
}
