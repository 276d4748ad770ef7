//! Exemptions: findings that a role has accepted, with a reason and an optional expiry time.
//!
//! An exemption applies to the state in which a finding was accepted: it stores a hash of the
//! finding's evidence and of the object (the *object hash*). When either changes, the exemption
//! ends and the finding is reported again.

use crate::catalog::{ObjectId, Snapshot};
use crate::contract::Severity;
use crate::finding::{CALLED_BY, Finding, GRANTEES, fingerprint};
use crate::rule::{Area, Rule};
use crate::rules::{
    RULES, default_privileges, guard_tampered, server_object_privileges, stored_settings,
    untrusted_code,
};
use crate::sql::similar::nearest;
use crate::sql::{quote_ident, quote_literal};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// An accepted finding, or a rule whose findings are accepted for objects that match a pattern.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exemption {
    /// The number of the exemption. Later exemptions have higher numbers.
    pub id: i32,
    /// The fingerprint of the accepted finding. `None`: every finding of `rule` about an object
    /// whose identity matches `object`.
    pub fingerprint: Option<String>,
    /// The id of the rule.
    pub rule: String,
    /// The identity of the object, or a pattern: `*` matches any characters, `?` matches one.
    pub object: String,
    /// For an exemption by rule and object: the role, or PUBLIC, whose findings are accepted.
    /// `None`: those of every role.
    pub role: Option<String>,
    /// Why the finding was accepted.
    pub reason: String,
    /// The role that accepted it.
    pub exempted_by: String,
    /// The time at which it was accepted, as text.
    pub exempted_at: String,
    /// The time at which the exemption expires, as text; `None`: never.
    pub expires_at: Option<String>,
    /// Whether the exemption has expired.
    pub is_expired: bool,
    /// The accepted state of each finding, by fingerprint. For an exemption by rule and object
    /// also that of each routine that it covers, by [`routine_key`].
    pub accepted: BTreeMap<String, Accepted>,
}

/// Whether a reason is only a gap to be filled, such as the `'...'` in HINTs: it has nothing but
/// punctuation and white space.
#[must_use]
pub fn is_gap(reason: &str) -> bool {
    let is_punctuation = |c: char| {
        c.is_ascii_punctuation() || matches!(c, '\u{a0}'..='\u{bf}' | '\u{2000}'..='\u{206f}')
    };
    reason.chars().all(|c| c.is_whitespace() || is_punctuation(c))
}

/// The state of a finding when it was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The highest severity that is accepted.
    pub severity: Severity,
    /// The hash of the finding's evidence and of its object.
    pub state: String,
    /// The identity of the object, where it is not that of the exemption: one exemption can be
    /// about the same privileges on several relations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
}

impl Accepted {
    /// Returns the current state of a finding.
    #[must_use]
    pub fn now(finding: &Finding, object_hash: ObjectHash<'_>) -> Self {
        let hash = object_hash(finding.object.id).unwrap_or_default();
        Self::of_evidence(finding.severity, &finding.evidence, &hash)
    }

    /// Returns the state of a finding with some evidence, about an object with a hash.
    #[must_use]
    pub fn of_evidence(severity: Severity, evidence: &Value, object_hash: &str) -> Self {
        let mut evidence = evidence.clone();
        if let Value::Object(evidence) = &mut evidence {
            // The exposed routines have findings of their own, which are accepted separately (see
            // `security_definer_search_path::following_from`).
            evidence.remove("exposed_routines");
            // The fingerprint identifies the grantees.
            evidence.remove(GRANTEES);
            // Another caller changes nothing about what is permitted.
            evidence.remove(CALLED_BY);
        }
        let state = fingerprint(&[object_hash, &evidence.to_string()]);
        Self { severity, state, object: None }
    }

    /// Returns the state of a routine that has no finding yet, from the hash of the object: what
    /// the rule finds about it later is accepted while the routine is as it is.
    #[must_use]
    pub fn routine(hash: String) -> Self {
        Self { severity: Severity::Error, state: hash, object: None }
    }

    /// Returns the current state of one of several findings that are accepted together.
    #[must_use]
    pub fn member(finding: &Finding, object_hash: ObjectHash<'_>) -> Self {
        let object = Some(finding.object.identity.clone());
        Self { object, ..Self::now(finding, object_hash) }
    }
}

/// The status of an exemption for a finding, from the weakest to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// The finding or its object has changed since it was accepted.
    Changed,
    /// The exemption has expired.
    Expired,
    /// The finding is accepted.
    Active,
}

impl Status {
    /// Returns the name of the status in SQL and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Changed => "changed",
        }
    }
}

/// Returns the hash of an object's current definition; `None` for an object that cannot change
/// without a change of its name or of the finding.
pub type ObjectHash<'h> = &'h dyn Fn(ObjectId) -> Option<String>;

impl Exemption {
    /// Whether the exemption is about a finding, whatever its status.
    #[must_use]
    pub fn is_about(&self, finding: &Finding) -> bool {
        match &self.fingerprint {
            // The fingerprint may be that of several findings with one cause. Those that are added
            // later were not accepted.
            Some(fingerprint) => {
                *fingerprint == finding.fingerprint
                    || self.accepted.contains_key(&finding.fingerprint)
            }
            None => {
                self.rule == finding.rule.id
                    && self.role.as_ref().is_none_or(|role| is_about_role_only(finding, role))
                    && matches(&self.object, &finding.object.identity)
            }
        }
    }

    /// Returns the status of the exemption for a finding that it is about.
    #[must_use]
    pub fn status(&self, finding: &Finding, object_hash: ObjectHash<'_>) -> Status {
        if self.is_expired {
            return Status::Expired;
        }
        let then = self.accepted.get(&finding.fingerprint);
        // A pattern also applies to objects that are created later, except to routines: what a new
        // routine executes was never accepted. An accepted membership must not become stronger.
        let applies = match finding.object.id {
            ObjectId::Routine(_) => false,
            ObjectId::Role(_) => then.is_none(),
            _ => true,
        };
        if self.fingerprint.is_none() && (applies || self.covers_routine(finding, object_hash)) {
            return Status::Active;
        }
        let now = then.map(|_| Accepted::now(finding, object_hash));
        match (then, now) {
            (Some(then), Some(now)) if now.state == then.state && now.severity <= then.severity => {
                Status::Active
            }
            _ => Status::Changed,
        }
    }

    /// Whether a finding that was not there yet is about a routine that was, and is unchanged.
    fn covers_routine(&self, finding: &Finding, object_hash: ObjectHash<'_>) -> bool {
        let key = routine_key(&finding.object.identity);
        !self.accepted.contains_key(&finding.fingerprint)
            && self.accepted.get(&key).is_some_and(|then| {
                object_hash(finding.object.id).is_some_and(|now| now == then.state)
            })
    }

    /// Returns the identities of the objects that the exemption is about; a pattern for one by
    /// pattern.
    pub fn objects(&self) -> impl Iterator<Item = &str> {
        let members = self.accepted.values().filter_map(|accepted| accepted.object.as_deref());
        std::iter::once(self.object.as_str()).chain(members)
    }

    /// Returns the evidence that a finding shows about the exemption.
    fn evidence(&self, status: Status) -> Value {
        json!({
            "id": self.id,
            "status": status.as_str(),
            "reason": self.reason,
            "exempted_by": self.exempted_by,
            "exempted_at": self.exempted_at,
            "expires_at": self.expires_at,
        })
    }

    /// Returns the sentences that the detail of a finding adds when its exemption has ended.
    fn expiry_note(&self, status: Status) -> String {
        let reason = crate::sql::printable(&self.reason);
        match (status, &self.expires_at) {
            (Status::Expired, Some(at)) => {
                format!(" It was exempt until {at}. Reason of the exemption: {reason}")
            }
            _ => format!(
                " It was exempt until the object changed. Reason of the exemption: \
                          {reason}"
            ),
        }
    }
}

/// Returns the key in [`Exemption::accepted`] of a routine with an identity. No fingerprint is
/// like it.
#[must_use]
pub fn routine_key(identity: &str) -> String {
    format!("routine {identity}")
}

/// Whether the findings of a rule are about routines.
#[must_use]
pub fn is_about_routines(rule: &str) -> bool {
    RULES.iter().any(|known| known.id == rule && known.area == Area::Functions)
}

/// How many routines without a finding a pattern covers at most: the state of each is stored.
const MOST_ROUTINES: usize = 1_000;

/// Returns the existing routines that an exemption by pattern covers before the rule finds
/// something about them, each with its identity; none where the rule is not about routines, or
/// very many match.
#[must_use]
pub fn covered_routines(snapshot: &Snapshot, rule: &str, pattern: &str) -> Vec<(ObjectId, String)> {
    if !is_about_routines(rule) {
        return vec![];
    }
    let routines = snapshot
        .routines
        .iter()
        .map(|routine| (ObjectId::Routine(routine.oid), snapshot.routine_identity(routine)));
    let matching = routines.filter(|(_, identity)| matches(pattern, identity));
    let covered: Vec<_> = matching.take(MOST_ROUTINES + 1).collect();
    if covered.len() > MOST_ROUTINES { vec![] } else { covered }
}

/// Whether a finding is about a role and no other.
fn is_about_role_only(finding: &Finding, role: &str) -> bool {
    !finding.roles.is_empty() && finding.roles.iter().all(|about| about == role)
}

/// The exemptions that have not been withdrawn.
#[derive(Debug, Default)]
pub struct Exemptions {
    list: Vec<Exemption>,
    by_fingerprint: HashMap<String, Vec<usize>>,
    patterns: Vec<usize>,
}

impl Exemptions {
    /// Builds the lookups for a list of exemptions.
    #[must_use]
    pub fn new(list: Vec<Exemption>) -> Self {
        let mut all = Self { list, ..Self::default() };
        for (i, exemption) in all.list.iter().enumerate() {
            match &exemption.fingerprint {
                Some(fingerprint) => {
                    let members = exemption.accepted.keys().filter(|member| *member != fingerprint);
                    for about in std::iter::once(fingerprint).chain(members) {
                        all.by_fingerprint.entry(about.clone()).or_default().push(i);
                    }
                }
                None => all.patterns.push(i),
            }
        }
        all
    }

    /// Returns the exemptions in the order in which they were given to [`Exemptions::new`].
    #[must_use]
    pub fn list(&self) -> &[Exemption] {
        &self.list
    }

    /// Returns the exemption with the strongest status for a finding; the latest of several.
    #[must_use]
    pub fn of(
        &self,
        finding: &Finding,
        object_hash: ObjectHash<'_>,
    ) -> Option<(&Exemption, Status)> {
        let own = self.by_fingerprint.get(&finding.fingerprint).into_iter().flatten();
        let strongest = own
            .chain(&self.patterns)
            .map(|&i| &self.list[i])
            .filter(|exemption| exemption.is_about(finding))
            .map(|exemption| (exemption, exemption.status(finding, object_hash)))
            .max_by_key(|(exemption, status)| (*status, exemption.id));
        match strongest {
            Some((_, Status::Active)) => strongest,
            _ => self.of_each_role(finding, object_hash).or(strongest),
        }
    }

    /// Returns the latest of the exemptions for single roles that together accept a finding about
    /// several roles.
    fn of_each_role(
        &self,
        finding: &Finding,
        object_hash: ObjectHash<'_>,
    ) -> Option<(&Exemption, Status)> {
        let accepts = |exemption: &&Exemption, role: &String| {
            exemption.role.as_ref() == Some(role)
                && exemption.rule == finding.rule.id
                && matches(&exemption.object, &finding.object.identity)
                && exemption.status(finding, object_hash) == Status::Active
        };
        let of_role = |role| {
            self.patterns.iter().map(|&i| &self.list[i]).rfind(|exemption| accepts(exemption, role))
        };
        let of_roles = finding.roles.iter().map(of_role).collect::<Option<Vec<_>>>()?;
        let latest = of_roles.into_iter().max_by_key(|exemption| exemption.id)?;
        Some((latest, Status::Active))
    }

    /// Returns the names of the objects on whose definition exemptions are based.
    #[must_use]
    pub fn basis(&self) -> HashSet<&str> {
        let based = self.list.iter().filter(|exemption| exemption.fingerprint.is_some());
        based.flat_map(Exemption::objects).map(object_name).collect()
    }

    /// Whether the status of an exemption can depend on the hash of a relation, or of a policy on
    /// it, or of a routine. `identity` is that of the relation or routine.
    #[must_use]
    pub fn rest_on(&self, object: ObjectId, identity: &str) -> bool {
        // An exemption by pattern accepts any definition, except those of routines.
        let is_routine = matches!(object, ObjectId::Routine(_));
        let name = object_name(identity);
        self.list.iter().any(|exemption| match exemption.fingerprint {
            Some(_) => exemption.objects().any(|object| object_name(object) == name),
            None => {
                is_routine && !exemption.accepted.is_empty() && matches(&exemption.object, identity)
            }
        })
    }

    /// Returns the exemption that a finding had while its object had an `earlier` name: an
    /// exemption of its rule about one finding, or by pattern.
    #[must_use]
    pub fn of_name(&self, finding: &Finding, earlier: &str) -> Option<&Exemption> {
        let identity = &finding.object.identity;
        let identity = identity.replacen(object_name(identity), earlier, 1);
        let is_about = |exemption: &Exemption| match exemption.fingerprint {
            Some(_) => exemption.objects().any(|object| object_name(object) == earlier),
            None => {
                exemption.role.as_ref().is_none_or(|role| is_about_role_only(finding, role))
                    && matches(&exemption.object, &identity)
            }
        };
        self.list.iter().find(|one| one.rule == finding.rule.id && is_about(one))
    }

    /// Returns the rules of the exemptions that are based on an object with one of some names.
    pub fn rules_about(&self, is_named: impl Fn(&str) -> bool) -> Vec<&'static Rule> {
        let is_about = |exemption: &Exemption, rule: &Rule| {
            exemption.rule == rule.id && exemption.objects().map(object_name).any(&is_named)
        };
        let rules = RULES.iter().copied();
        rules.filter(|rule| self.list.iter().any(|one| is_about(one, rule))).collect()
    }

    /// Whether an exemption is about findings of a rule.
    #[must_use]
    pub fn mention(&self, rule: &str) -> bool {
        self.list.iter().any(|exemption| exemption.rule == rule)
    }

    /// Whether a finding is accepted.
    #[must_use]
    pub fn accept(&self, finding: &Finding, object_hash: ObjectHash<'_>) -> bool {
        self.of(finding, object_hash).is_some_and(|(_, status)| status == Status::Active)
    }

    /// Removes the accepted findings, unless `with_exempt`. A remaining finding with an exemption
    /// shows the exemption in its evidence.
    #[must_use]
    pub fn apply(
        &self,
        findings: Vec<Finding>,
        object_hash: ObjectHash<'_>,
        with_exempt: bool,
    ) -> Vec<Finding> {
        if self.list.is_empty() {
            return findings;
        }
        let applied = |mut finding: Finding| match self.of(&finding, object_hash) {
            None => Some(finding),
            Some((_, Status::Active)) if !with_exempt => None,
            Some((exemption, status)) => {
                finding.evidence["exemption"] = exemption.evidence(status);
                if status != Status::Active {
                    finding.detail += &exemption.expiry_note(status);
                }
                Some(finding)
            }
        };
        findings.into_iter().filter_map(applied).collect()
    }
}

/// Returns schema and name of the relation or routine that an identity is about: of a routine
/// without the argument types, of a policy the name of its table.
#[must_use]
pub fn object_name(identity: &str) -> &str {
    let of_policy = identity.rsplit_once(" on ").map_or(identity, |(_, relation)| relation);
    of_policy.split_once('(').map_or(of_policy, |(name, _)| name)
}

/// Returns the calls that exempt the findings of an exemption again, in their current state, with
/// its reason and expiry time. An exemption by pattern which no longer matches an object that has
/// another name is repeated for that name.
#[must_use]
pub fn renewal(exemption: &Exemption, findings: &[&Finding]) -> Vec<String> {
    let reason = quote_literal(&exemption.reason);
    let until = exemption.expires_at.as_ref();
    let until =
        until.map(|at| format!(", expires_at => {}", quote_literal(at))).unwrap_or_default();
    if exemption.fingerprint.is_none() {
        let is_moved = |f: &&&Finding| !matches(&exemption.object, &f.object.identity);
        let moved: BTreeSet<&str> =
            findings.iter().filter(is_moved).map(|f| f.object.identity.as_str()).collect();
        let objects =
            if moved.is_empty() { BTreeSet::from([exemption.object.as_str()]) } else { moved };
        // The role may have another name, too.
        let role = exemption.role.as_ref().map(|role| {
            let about = findings.iter().find_map(|finding| finding.roles.first());
            about.filter(|_| !findings.iter().any(|f| is_about_role_only(f, role))).unwrap_or(role)
        });
        let role =
            role.map(|role| format!(", role_name => {}", quote_literal(role))).unwrap_or_default();
        let call = |object| {
            format!(
                "SELECT ops.exempt(rule => '{}', object => {}{role}, reason => {reason}{until});",
                exemption.rule,
                quote_literal(object)
            )
        };
        return objects.into_iter().map(call).collect();
    }
    findings
        .iter()
        .map(|finding| format!("SELECT ops.exempt('{}', {reason}{until});", finding.fingerprint))
        .collect()
}

/// Returns the query that renews exemptions of one finding each, with their reasons and expiry
/// times: the number of each, with the fingerprint of the finding that it is to be about.
#[must_use]
pub fn renewal_of_all(renewed: &[(i32, String)]) -> String {
    // Several may have had a part of one finding.
    let by_finding: BTreeMap<&str, i32> = renewed.iter().map(|(id, now)| (&**now, *id)).collect();
    let by_id: BTreeSet<(i32, &str)> = by_finding.into_iter().map(|(now, id)| (id, now)).collect();
    let row = |(id, now): (i32, &str)| format!("({id}, {})", quote_literal(now));
    let rows: Vec<String> = by_id.into_iter().map(row).collect();
    format!(
        "SELECT ops.exempt(now.fingerprint, e.reason, e.expires_at) FROM ops.v_exemptions e JOIN \
         (VALUES {}) AS now (id, fingerprint) USING (id);",
        rows.join(", ")
    )
}

/// An object of an exemption of which there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The object that was probably meant.
    pub meant: Option<String>,
}

/// The rules whose findings are about nothing that a snapshot lists by its identity.
const ABOUT_OTHERS: [&Rule; 5] = [
    &default_privileges::RULE,
    &guard_tampered::RULE,
    &server_object_privileges::RULE,
    &stored_settings::RULE,
    &untrusted_code::RULE,
];

/// Returns that no schema, relation, routine, policy or role has an identity that matches the
/// pattern of an exemption; `None` where one has, or the rule is about other objects.
#[must_use]
pub fn missing(snapshot: &Snapshot, rule: &str, pattern: &str) -> Option<Missing> {
    if ABOUT_OTHERS.iter().any(|other| other.id == rule) {
        return None;
    }
    let schemas = || snapshot.schemas.iter().map(|schema| quote_ident(&schema.name).into_owned());
    let roles = snapshot.roles.iter().map(|role| quote_ident(&role.name).into_owned());
    let relations = || snapshot.relations.iter().map(|of| snapshot.relation_identity(of));
    let routines = || snapshot.routines.iter().map(|of| snapshot.routine_identity(of));
    let policies = || {
        snapshot.policies.iter().filter_map(|policy| {
            Some(snapshot.policy_identity(policy, snapshot.relation(policy.relation)?))
        })
    };
    let all = || schemas().chain(relations()).chain(routines()).chain(policies());
    if all().chain(roles.clone()).any(|identity| matches(pattern, &identity)) {
        return None;
    }
    let known: Vec<String> = match pattern.split_once('.') {
        Some((policy, _)) if policy.contains(" on ") => policies().collect(),
        Some((schema, name)) if !schemas().any(|known| known == schema) => {
            schemas().map(|schema| format!("{schema}.{name}")).collect()
        }
        Some((schema, _)) => {
            let of_schema = format!("{schema}.");
            all().filter(|identity| identity.starts_with(&of_schema)).collect()
        }
        None => schemas().chain(roles).collect(),
    };
    let meant = nearest(pattern, known.iter().map(String::as_str)).map(str::to_owned);
    Some(Missing { meant })
}

/// Whether `text` matches `pattern`, in which `*` matches any characters, `?` matches one, and a
/// backslash escapes the character after it. The time grows with their lengths; where a part of the
/// pattern between two `*` contains `?`, with the product of the lengths of this part and the text.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let parts = parts(pattern);
    let [first, others @ ..] = parts.as_slice() else { return false };
    let Some(rest) = first.strip_from(text) else { return false };
    let [between @ .., last] = others else { return rest.is_empty() };
    // Each part at its first place leaves the longest rest for those after it.
    let found = between.iter().try_fold(rest, |rest, part| part.strip_first_from(rest));
    found.is_some_and(|rest| {
        let start = rest.char_indices().rev().map(|(at, _)| at).take(last.0.len()).last();
        let end = &rest[start.unwrap_or(rest.len())..];
        last.strip_from(end).is_some_and(str::is_empty)
    })
}

/// Returns the pattern that a text alone matches.
#[must_use]
pub fn exact_pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// A part of a pattern without `*`: its characters, `None` for `?`.
struct PatternPart(Vec<Option<char>>);

impl PatternPart {
    /// Returns what follows the part in a text that begins with it.
    fn strip_from<'t>(&self, text: &'t str) -> Option<&'t str> {
        let mut rest = text.chars();
        for wanted in &self.0 {
            let next = rest.next()?;
            if wanted.is_some_and(|wanted| wanted != next) {
                return None;
            }
        }
        Some(rest.as_str())
    }

    /// Returns what follows the first place of the part in a text.
    fn strip_first_from<'t>(&self, text: &'t str) -> Option<&'t str> {
        if let Some(plain) = self.0.iter().copied().collect::<Option<String>>() {
            return text.find(&plain).map(|at| &text[at + plain.len()..]);
        }
        text.char_indices().find_map(|(at, _)| self.strip_from(&text[at..]))
    }
}

/// Returns the parts of a pattern before, between and after each `*`.
fn parts(pattern: &str) -> Vec<PatternPart> {
    let mut parts = vec![PatternPart(vec![])];
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        let one = match c {
            '*' => {
                parts.push(PatternPart(vec![]));
                continue;
            }
            '?' => None,
            '\\' => Some(characters.next().unwrap_or('\\')),
            c => Some(c),
        };
        parts.last_mut().expect("there is a part").0.push(one);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_the_object_is_that_of_the_routine_or_of_the_table_of_a_policy() {
        let identities = ["app.t", "app.f(integer,text)", "p on app.t", "\"a on b\" on app.\"T\""];
        assert_eq!(identities.map(object_name), ["app.t", "app.f", "app.t", "app.\"T\""]);
    }

    use crate::rules::find;
    use crate::rules::testing::World;

    fn findings(world: &World, rule: &str) -> Vec<Finding> {
        world.findings(find(rule).unwrap())
    }

    /// Returns a world with an unsafe routine and a table that a client may read.
    fn world() -> World {
        let mut world = World::conforming();
        world.routine("get_ceo_metrics").config.clear();
        let anon = world.role("anon").oid;
        world.grant("public.judgments", anon, crate::catalog::Privileges::SELECT);
        world
    }

    fn exemption_of(finding: &Finding) -> Exemption {
        Exemption {
            id: 1,
            fingerprint: Some(finding.fingerprint.clone()),
            rule: finding.rule.id.into(),
            object: finding.object.identity.clone(),
            reason: "Legacy, ticket 7.".into(),
            accepted: [(finding.fingerprint.clone(), Accepted::now(finding, UNCHANGED))].into(),
            ..Exemption::default()
        }
    }

    const UNCHANGED: ObjectHash<'_> = &|_| Some("unchanged".to_owned());
    const CHANGED: ObjectHash<'_> = &|_| Some("changed".to_owned());

    #[test]
    fn exact_pattern_matches_its_text_alone() {
        for text in ["app.t", "app.\"a*\"", "app.\"?\"", "app.\"\\\"", "*", "\\"] {
            let pattern = exact_pattern(text);
            assert!(matches(&pattern, text), "{pattern}");
            assert!(!matches(&pattern, &text.replace(['*', '?', '\\', 't'], "x")), "{pattern}");
        }
    }

    #[test]
    fn accepted_finding_is_shown_on_request_only() {
        let found = findings(&world(), "security_definer_search_path");
        let exemptions = Exemptions::new(vec![exemption_of(&found[0])]);
        assert_eq!(exemptions.apply(found.clone(), UNCHANGED, false), []);
        let shown = exemptions.apply(found.clone(), UNCHANGED, true);
        assert_eq!(shown[0].evidence["exemption"]["reason"], "Legacy, ticket 7.");
        assert_eq!(shown[0].detail, found[0].detail);
        let others = findings(&world(), "table_privileges");
        assert_eq!(exemptions.apply(others.clone(), UNCHANGED, false), others);
    }

    #[test]
    fn exemption_of_a_routine_does_not_end_because_something_else_calls_it() {
        let mut found = findings(&world(), "security_definer_search_path");
        found[0].evidence["called_by"] = serde_json::json!(["policy p on public.t"]);
        let exemptions = Exemptions::new(vec![exemption_of(&found[0])]);
        found[0].evidence["called_by"] = serde_json::json!(["policy a on public.a"]);
        assert_eq!(exemptions.apply(found.clone(), UNCHANGED, false), []);
        found[0].evidence["problem"] = serde_json::json!("another one");
        assert_eq!(exemptions.apply(found, UNCHANGED, false).len(), 1);
    }

    #[test]
    fn exemption_for_a_role_is_not_about_other_roles_and_is_renewed_with_it() {
        let mut world = world();
        let authenticated = world.role("authenticated").oid;
        let select = crate::catalog::Privileges::SELECT;
        world.grant("public.job_queue", authenticated, select);
        world.grant("public.job_queue", crate::catalog::PUBLIC, select);
        let found = findings(&world, "table_privileges");
        let roles_left = |role: Option<&str>| {
            let exemption = Exemption {
                id: 1,
                rule: "table_privileges".into(),
                object: "public.*".into(),
                role: role.map(str::to_owned),
                ..Exemption::default()
            };
            let left = Exemptions::new(vec![exemption]).apply(found.clone(), UNCHANGED, false);
            left.into_iter().flat_map(|f| f.roles).collect::<HashSet<_>>()
        };
        let set = |roles: &[&str]| roles.iter().map(|r| (*r).to_owned()).collect::<HashSet<_>>();
        assert_eq!(roles_left(None), set(&[]));
        assert_eq!(roles_left(Some("anon")), set(&["authenticated", "PUBLIC"]));
        assert_eq!(roles_left(Some("service_role")), set(&["anon", "authenticated", "PUBLIC"]));
        // One finding about two roles needs an exemption for each of them.
        assert_eq!(roles_left(Some("PUBLIC")), set(&["anon", "authenticated", "PUBLIC"]));
        let of_role = |id: i32, role: &str| Exemption {
            id,
            rule: "table_privileges".into(),
            object: "public.job_*".into(),
            role: Some(role.into()),
            ..Exemption::default()
        };
        let both = Exemptions::new(vec![of_role(1, "PUBLIC"), of_role(2, "authenticated")]);
        let left = both.apply(found.clone(), UNCHANGED, false);
        assert_eq!(left.into_iter().flat_map(|f| f.roles).collect::<HashSet<_>>(), set(&["anon"]));
        let expired = Exemption { is_expired: true, ..of_role(2, "authenticated") };
        let left = Exemptions::new(vec![of_role(1, "PUBLIC"), expired]);
        assert_eq!(left.apply(found.clone(), UNCHANGED, false).len(), found.len());
        // A finding about several roles at once is more than one about one of them.
        let mut of_both = found[0].clone();
        of_both.roles = vec!["anon".into(), "authenticated".into()];
        let of_anon = Exemption {
            rule: "table_privileges".into(),
            object: "*".into(),
            role: Some("anon".into()),
            reason: "Ticket 7".into(),
            ..Exemption::default()
        };
        assert!(!of_anon.is_about(&of_both));
        assert_eq!(
            renewal(&of_anon, &[]),
            ["SELECT ops.exempt(rule => 'table_privileges', object => '*', role_name => 'anon', \
              reason => 'Ticket 7');"]
        );
    }

    #[test]
    fn exemption_of_several_findings_is_about_no_others() {
        let mut world = world();
        let anon = world.role("anon").oid;
        world.grant("public.plaintiffs", anon, crate::catalog::Privileges::SELECT);
        let found = findings(&world, "table_privileges");
        let accepted =
            found.iter().map(|f| (f.fingerprint.clone(), Accepted::member(f, UNCHANGED)));
        let of_both = Exemption {
            id: 1,
            fingerprint: Some("of both".into()),
            rule: "table_privileges".into(),
            object: "public".into(),
            accepted: accepted.collect(),
            ..Exemption::default()
        };
        let exemptions = Exemptions::new(vec![of_both]);
        assert_eq!(found.len(), 2);
        assert_eq!(exemptions.apply(found.clone(), UNCHANGED, false), []);
        assert_eq!(exemptions.apply(found.clone(), CHANGED, false).len(), 2);
        let basis = ["public", "public.judgments", "public.plaintiffs"];
        assert_eq!(exemptions.basis(), basis.into());
        assert!(exemptions.of_name(&found[0], "public.plaintiffs").is_some());
        let rules = |name| exemptions.rules_about(|object| object == name);
        assert_eq!(rules("public.plaintiffs"), [found[0].rule]);
        assert!(rules("public.job_queue").is_empty());
        world.grant("public.job_queue", anon, crate::catalog::Privileges::SELECT);
        let added = exemptions.apply(findings(&world, "table_privileges"), UNCHANGED, false);
        let objects: Vec<&str> = added.iter().map(|f| f.object.identity.as_str()).collect();
        assert_eq!(objects, ["public.job_queue"], "it was never accepted");
    }

    #[test]
    fn ended_exemption_resurfaces_finding_with_a_note() {
        let found = findings(&world(), "security_definer_search_path");
        let accepted = exemption_of(&found[0]);
        let shown = Exemptions::new(vec![accepted.clone()]).apply(found.clone(), CHANGED, false);
        assert!(
            shown[0].detail.ends_with(
                " It was exempt until the object changed. Reason of the exemption: Legacy, ticket \
                 7."
            ),
            "{}",
            shown[0].detail
        );
        let expired = Exemption {
            is_expired: true,
            expires_at: Some("2026-01-01 00:00:00 UTC".into()),
            ..accepted.clone()
        };
        let shown = Exemptions::new(vec![expired.clone()]).apply(found.clone(), UNCHANGED, false);
        let note = " It was exempt until 2026-01-01 00:00:00 UTC. Reason of the exemption: \
                    Legacy, ticket 7.";
        assert!(shown[0].detail.ends_with(note), "{}", shown[0].detail);
        assert_eq!(shown[0].evidence["exemption"]["status"], "expired");
        // Of an expired and an active exemption, the active one applies.
        let renewed = Exemptions::new(vec![expired, Exemption { id: 2, ..accepted }]);
        assert_eq!(renewed.apply(found, UNCHANGED, false), []);
    }

    #[test]
    fn higher_severity_resurfaces_finding() {
        // The path is safe but not the contract's. Then a client owns a routine in its schema.
        let mut world = World::conforming();
        world.contract.security_definer.accept = crate::contract::Accept::Canonical;
        let app = world.schema("intake").oid;
        world.routine("complete_outbox_message").config =
            vec!["search_path=intake, pg_temp".into()].into();
        let found = findings(&world, "security_definer_search_path");
        assert_eq!(found[0].severity, Severity::Warning);
        let exemptions = Exemptions::new(vec![exemption_of(&found[0])]);
        assert_eq!(exemptions.apply(found, UNCHANGED, false), []);
        let anon = world.role("anon").oid;
        world.snapshot.contents.insert(app, [(anon, crate::catalog::ContentKind::Routine)].into());
        let worse = findings(&world, "security_definer_search_path");
        assert_eq!(worse[0].severity, Severity::Error);
        assert_eq!(exemptions.apply(worse, UNCHANGED, false).len(), 1);
        // The membership was only a warning. Then the member gets CREATEROLE.
        let mut world = World::conforming();
        world.add_role("reporting");
        world.grant_role("reporting", "authenticated");
        let found = findings(&world, "role_membership");
        let exemptions = Exemptions::new(vec![exemption_of(&found[0])]);
        assert_eq!(exemptions.apply(found, UNCHANGED, false), []);
        world.role("reporting").create_role = true;
        let error = findings(&world, "role_membership");
        assert_eq!(exemptions.apply(error.clone(), UNCHANGED, false).len(), 1);
        let exemptions = Exemptions::new(vec![exemption_of(&error[0])]);
        assert_eq!(exemptions.apply(error, UNCHANGED, false), []);
        world.role("reporting").superuser = true;
        assert_eq!(
            exemptions.apply(findings(&world, "role_membership"), UNCHANGED, false).len(),
            1,
            "SUPERUSER was not accepted"
        );
    }

    #[test]
    fn pattern_accepts_new_tables_but_no_new_routines() {
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
            pattern("table_privileges", "public.*").apply(tables.clone(), CHANGED, false),
            []
        );
        assert_eq!(
            pattern("table_privileges", "intake.*").apply(tables.clone(), CHANGED, false),
            tables
        );
        assert_eq!(
            pattern("direct_write", "public.*").apply(tables.clone(), CHANGED, false),
            tables
        );
        let routines = findings(&world, "security_definer_search_path");
        assert_eq!(
            pattern("security_definer_search_path", "api.*").apply(routines, CHANGED, false).len(),
            1
        );
    }

    #[test]
    fn exemption_rests_on_the_definition_of_what_it_has_accepted_only() {
        let found = findings(&world(), "security_definer_search_path");
        let (routine, relation) = (ObjectId::Routine(1), ObjectId::Relation(1));
        let identity = found[0].object.identity.as_str();
        let one = exemption_of(&found[0]);
        let rests_on = |exemption: &Exemption, object, identity| {
            Exemptions::new(vec![exemption.clone()]).rest_on(object, identity)
        };
        assert!(rests_on(&one, routine, identity));
        assert!(!rests_on(&one, routine, "api.another()"));
        let pattern = Exemption { fingerprint: None, object: "*".into(), ..one };
        assert!(rests_on(&pattern, routine, identity));
        assert!(!rests_on(&pattern, relation, "app.v"), "it accepts any definition of a relation");
        let elsewhere = Exemption { object: "elsewhere.*".into(), ..pattern.clone() };
        assert!(!rests_on(&elsewhere, routine, identity));
        let of_none = Exemption { accepted: BTreeMap::new(), ..pattern };
        assert!(!rests_on(&of_none, routine, identity), "it has accepted no routine");
    }

    #[test]
    fn accepted_membership_that_becomes_stronger_is_reported() {
        let mut world = World::conforming();
        world.snapshot.version = 16;
        world.add_role("helper");
        world.grant_role("helper", "anon");
        let options = |world: &mut World, [inherit, set, admin]: [bool; 3]| {
            let membership = &mut world.snapshot.memberships[0];
            (membership.inherit, membership.set, membership.admin) = (inherit, set, admin);
        };
        for stronger in [[true, false, false], [false, true, false], [false, false, true]] {
            options(&mut world, [false; 3]);
            let weaker = findings(&world, "role_membership").remove(0);
            options(&mut world, stronger);
            let found = findings(&world, "role_membership");
            let accepted = exemption_of(&weaker);
            let pattern = Exemption { fingerprint: None, object: "h*".into(), ..accepted.clone() };
            for exemption in [accepted, pattern.clone()] {
                let exemptions = Exemptions::new(vec![exemption]);
                assert_eq!(exemptions.apply(vec![weaker.clone()], UNCHANGED, false), []);
                assert_eq!(exemptions.apply(found.clone(), UNCHANGED, false).len(), 1);
            }
            let later = Exemption { accepted: [].into(), ..pattern };
            assert_eq!(Exemptions::new(vec![later]).apply(found, UNCHANGED, false), []);
        }
    }

    #[test]
    fn object_that_does_not_exist_is_missing_and_the_one_that_was_meant_is_named() {
        let world = World::conforming();
        let snapshot = world.snapshot.clone().complete();
        let routine = snapshot.routine_identity(&snapshot.routines[0]);
        for known in ["public.judgments", "public.*", "*", "public", "anon", &routine] {
            assert_eq!(missing(&snapshot, "rls_disabled", known), None, "{known}");
        }
        let meant = |pattern: &str| {
            missing(&snapshot, "rls_disabled", pattern).map(|missing| missing.meant)
        };
        let some = |name: &str| Some(Some(name.to_owned()));
        assert_eq!(meant("public.judgmnts"), some("public.judgments"));
        assert_eq!(meant("publik.judgments"), some("public.judgments"));
        assert_eq!(meant("publik.*"), some("public.*"));
        assert_eq!(meant("annon"), some("anon"));
        assert_eq!(meant("public.something_to_come"), Some(None));
        assert_eq!(missing(&snapshot, "default_privileges", "no such thing"), None);
    }

    #[test]
    fn pattern_matches_like_a_shell_pattern() {
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
        assert!(!matches(&"*a".repeat(2_000), &"b".repeat(20_000)), "takes too long");
    }

    proptest::proptest! {
        #[test]
        fn star_matches_any_characters(
            before in "[a-c.]{0,6}",
            middle in "[a-c*?\\\\]{0,6}",
            after in "[a-c.]{0,6}",
        ) {
            proptest::prop_assert!(matches(&before, &before));
            let text = [before.as_str(), &middle, &after].concat();
            let pattern = [before.as_str(), "*", &after].concat();
            proptest::prop_assert!(matches(&pattern, &text));
        }
    }

    #[test]
    fn reason_of_punctuation_is_a_gap() {
        for gap in ["", " ", "...", "…", "'...'", "-", "?!", "\u{200b}", "\n"] {
            assert!(is_gap(gap), "{gap:?}");
        }
        for reason in ["x", "4711", "ticket ...", "größe", "ждём", "等待"] {
            assert!(!is_gap(reason), "{reason}");
        }
    }
}
