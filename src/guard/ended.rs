//! Warns about exemptions that a transaction ends because it changes the objects on whose
//! definition they are based.

use super::changes::Changed;
use super::renamed::{self, Renamed};
use super::transaction;
use crate::audit;
use crate::catalog::{self, Freshness, Own};
use crate::log::{self, About, Event};
use crate::pg::heap::{State, interrupts};
use crate::pg::report::Report;
use crate::store::contract;
use crate::store::exemptions::Current;
use dragonfly_core::catalog::{ObjectId, Oid};
use dragonfly_core::contract::Enforcement;
use dragonfly_core::exemptions::{Exemption, Status, object_name, renewal};
use dragonfly_core::finding::Finding;
use dragonfly_core::sql::{capitalized, listed, printable, quote_ident};
use pgrx::PgSqlErrorCode;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

/// A WARNING about an exemption that has ended.
pub struct Warning {
    id: i32,
    report: Report,
    /// The calls that renew the exemption.
    renewal: String,
    /// Whether the exemption can be renewed by its row of `ops.v_exemptions`: its findings still
    /// have their fingerprint.
    is_same: bool,
    /// Whether it is only logged, because the contract only observes.
    is_observed: bool,
}

/// Returns a WARNING for each exemption that applied before the transaction and applies no longer.
/// `own` finds the extension's own objects.
/// Called before the commit lock is acquired, because the hashes of the objects may wait for locks.
pub fn warnings(changed: &[Changed], now: &State, own: &dyn Fn() -> Rc<Own>) -> Vec<Warning> {
    let then = transaction::before(now);
    // Most transactions only create objects, and do not need the tables of the extension.
    let schemas = renamed_schemas(changed, &then, now);
    let roles = renamed::roles(changed, &then, now);
    let is_renamed = !schemas.is_empty() || !roles.is_empty();
    if !is_renamed && !changed.iter().any(|one| existed(one, &then)) {
        return vec![];
    }
    let own = own();
    let current = Current::read(now, &own, Freshness::Fresh);
    if current.is_empty() {
        return vec![];
    }
    let objects = redefined(changed, &current, &then, now);
    let over_renamed = over_renamed(changed, &current, &then, now);
    let redefined = Redefined { objects, schemas, over_renamed };
    let renamed = Renamed::find(roles, changed, &current, [&then, now]);
    if redefined.is_empty() && renamed.is_empty() {
        return vec![];
    }
    let rules = current.rules_about(|name| redefined.concerns(name) || renamed.concerns(name));
    if rules.is_empty() {
        return vec![];
    }
    let contract = contract::in_force(now, &own);
    let found = audit::findings_with_exempt_of(&rules, &contract, &own, &current, now);
    let differs = |object| catalog::hash_differs(&then, now, object);
    let mut ended = ended(&current, &redefined, &found, &differs);
    // This is rare, and the whole catalog as it was before tells what was still accepted.
    let mut earlier = Vec::new();
    if !ended.is_empty() || !renamed.is_empty() {
        earlier = audit::findings_with_exempt_of(&rules, &contract, &own, &current, &then);
    }
    // Under another name, the contract in force may not declare what it declared before.
    let is_renamed = |one: &Ended<'_>| one.renamed.is_some() && !one.exemption.is_expired;
    ended.retain(|_, ended| {
        is_renamed(ended) || earlier.iter().any(|one| applied(ended.exemption, one, &then))
    });
    add_renamed(&mut ended, &current, &renamed, [&earlier, &found], &then);
    let is_observed = contract.enforcement == Enforcement::Observe;
    ended.into_values().filter_map(|ended| ended.warning(is_observed)).collect()
}

/// Whether an exemption applied to a finding of an earlier state of the catalogs, as far as that is
/// known: an exemption that had ended before has been warned about when it ended.
fn applied(exemption: &Exemption, finding: &Finding, then: &State) -> bool {
    if !exemption.is_about(finding) {
        return false;
    }
    match catalog::earlier_hash(then, finding.object.id) {
        Some(hash) => exemption.status(finding, &|_| Some(hash.clone())) == Status::Active,
        None => true,
    }
}

/// Raises the warnings that this transaction has not raised yet.
pub fn raise(warnings: Vec<Warning>) {
    let new = warnings.into_iter().filter(|Warning { id, report, is_observed, .. }| {
        let is_new = transaction::report_once(&format!("ended exemption {id}"));
        if is_new {
            let event = if *is_observed { Event::Observed } else { Event::Warned };
            log::write(event, &transaction::subject(), About::message(&report.message));
        }
        is_new && !is_observed
    });
    if let Some(report) = collapsed(new.collect()) {
        report.warning(PgSqlErrorCode::ERRCODE_WARNING);
    }
}

/// Returns one report of all: where there are several, each in a line of DETAIL, and one call that
/// renews all exemptions whose findings still have their fingerprints. `None` where there is none.
fn collapsed(mut warnings: Vec<Warning>) -> Option<Report> {
    if warnings.len() <= 1 {
        let hint = |renewal: &str| format!("If it is still acceptable, run: {renewal}");
        let with_hint = |one: Warning| Report { hint: hint(&one.renewal), ..one.report };
        return warnings.pop().map(with_hint);
    }
    let count = warnings.len();
    let details = warnings.iter().map(|Warning { report, .. }| {
        format!("{}. {}", capitalized(&report.message), report.detail)
    });
    let detail = details.collect::<Vec<String>>().join("\n");
    let (same, others): (Vec<_>, Vec<_>) = warnings.into_iter().partition(|one| one.is_same);
    let hints = renewed(&same).into_iter().chain(others.iter().map(Warning::renewal));
    Some(Report {
        message: format!("{count} exemptions no longer apply"),
        detail,
        hint: hints.collect::<Vec<String>>().join("\n"),
    })
}

impl Warning {
    /// Returns the HINT that renews this exemption, one of several.
    fn renewal(&self) -> String {
        format!("If exemption {} is still acceptable, run: {}", self.id, self.renewal)
    }
}

/// Returns the HINT that renews exemptions by their rows of `ops.v_exemptions`.
fn renewed(same: &[Warning]) -> Option<String> {
    if same.len() <= 1 {
        return same.first().map(Warning::renewal);
    }
    let ids: Vec<String> = same.iter().map(|one| one.id.to_string()).collect();
    Some(format!(
        "If exemptions {} are still acceptable, run: SELECT ops.exempt(fingerprint, reason, \
         expires_at) FROM ops.v_exemptions WHERE id IN ({});",
        listed(&ids),
        ids.join(", ")
    ))
}

/// Whether a changed object that an exemption can be based on existed in an earlier state.
fn existed(changed: &Changed, then: &State) -> bool {
    match *changed {
        Changed::Relation(oid) => catalog::qualified_name(then, catalog::PG_CLASS, oid).is_some(),
        Changed::Routine(oid) => catalog::qualified_name(then, catalog::PG_PROC, oid).is_some(),
        _ => false,
    }
}

/// The names of changed objects, with their names before the transaction: schema and name, quoted.
type Definitions = HashMap<String, Option<String>>;

/// What a transaction has given another name or definition.
struct Redefined {
    objects: Definitions,
    /// The earlier and the new name of each renamed schema, quoted.
    schemas: Vec<(String, String)>,
    /// The names of the views that read a relation which has another name, or a column that has.
    over_renamed: HashSet<String>,
}

impl Redefined {
    /// Whether there is nothing.
    fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.schemas.is_empty() && self.over_renamed.is_empty()
    }

    /// Whether the name of an object, or a pattern, is one of those before or after the
    /// transaction.
    fn concerns(&self, name: &str) -> bool {
        self.objects.contains_key(name)
            || self.over_renamed.contains(name)
            || self.objects.values().flatten().any(|earlier| earlier == name)
            || self.schemas.iter().any(|(was, _)| in_schema(name, was).is_some())
    }

    /// Whether an object has another name or another definition.
    fn has(&self, name: &str) -> bool {
        self.objects.contains_key(name)
            || self.over_renamed.contains(name)
            || self.schemas.iter().any(|(_, is)| in_schema(name, is).is_some())
    }

    /// Returns the name that an object had before, where it is another one.
    fn earlier(&self, name: &str) -> Option<String> {
        if let Some(earlier) = self.objects.get(name) {
            return earlier.clone().filter(|earlier| earlier != name);
        }
        let in_renamed =
            |(was, is): &(String, String)| in_schema(name, is).map(|rest| format!("{was}{rest}"));
        self.schemas.iter().find_map(in_renamed)
    }
}

/// Returns what follows the name of a schema in the name of the schema itself, or of an object in
/// it.
fn in_schema<'n>(name: &'n str, schema: &str) -> Option<&'n str> {
    name.strip_prefix(schema).filter(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Returns the earlier and the new name of each renamed schema, quoted.
fn renamed_schemas(changed: &[Changed], then: &State, now: &State) -> Vec<(String, String)> {
    if !changed.contains(&Changed::Schemas) {
        return vec![];
    }
    let quoted = |name: &str| quote_ident(name).into_owned();
    let renamed = catalog::renamed_schemas(then, now).into_iter();
    renamed.map(|(was, is)| (quoted(&was), quoted(&is))).collect()
}

/// Returns the changed objects that exemptions are based on and whose definition differs. The
/// definition of a view depends on the views and tables that it reads.
fn redefined(changed: &[Changed], current: &Current<'_>, then: &State, now: &State) -> Definitions {
    let basis = current.basis();
    let mut redefined = Definitions::new();
    let mut objects = BTreeSet::new();
    for one in changed {
        match *one {
            Changed::Relation(oid) => {
                let over = catalog::views_over(now, oid).into_iter();
                objects.extend(over.map(|oid| (catalog::PG_CLASS, oid)));
            }
            Changed::Routine(oid) => _ = objects.insert((catalog::PG_PROC, oid)),
            _ => {}
        }
    }
    for (class, oid) in objects {
        let object = match class {
            catalog::PG_CLASS => ObjectId::Relation(oid),
            _ => ObjectId::Routine(oid),
        };
        interrupts();
        let Some(name) = catalog::qualified_name(now, class, oid) else { continue };
        let earlier = catalog::qualified_name(then, class, oid);
        let is_basis = [Some(&name), earlier.as_ref()]
            .into_iter()
            .flatten()
            .any(|name| basis.contains(name.as_str()));
        let is_renamed = earlier.as_ref().is_some_and(|earlier| *earlier != name);
        if is_basis && (is_renamed || catalog::is_redefined(then, now, object)) {
            redefined.insert(name, earlier);
        }
    }
    redefined
}

/// Returns the views that exemptions are based on and that read a renamed relation, or one with a
/// renamed column: their text has changed, and not how they are stored.
fn over_renamed(
    changed: &[Changed],
    current: &Current<'_>,
    then: &State,
    now: &State,
) -> HashSet<String> {
    let basis = current.basis();
    let name = |state, oid| catalog::qualified_name(state, catalog::PG_CLASS, oid);
    let is_renamed = |oid: &Oid| {
        interrupts();
        name(then, *oid).is_some_and(|earlier| name(now, *oid).is_some_and(|now| now != earlier))
            || !catalog::renamed::columns(then, now, *oid).is_empty()
    };
    let relations = changed.iter().filter_map(|one| match *one {
        Changed::Relation(oid) => Some(oid),
        _ => None,
    });
    let over = |oid: Oid| catalog::views_over(now, oid).into_iter().filter(move |v| *v != oid);
    let views = relations.filter(is_renamed).flat_map(over);
    views.filter_map(|view| name(now, view)).filter(|n| basis.contains(n.as_str())).collect()
}

/// An exemption that applies no longer.
struct Ended<'a> {
    exemption: &'a Exemption,
    /// The findings that are reported again.
    findings: Vec<&'a Finding>,
    /// What the transaction has renamed, as a sentence, where that is why.
    renamed: Option<String>,
}

/// Returns the exemptions that have ended, by number. They are still about their findings, unless
/// the object has another name and the finding therefore another fingerprint. A changed policy ends
/// no exemption of its table, and the reverse: `differs` tells whether the object of a finding is
/// defined differently.
fn ended<'a>(
    current: &'a Current<'_>,
    redefined: &Redefined,
    found: &'a [Finding],
    differs: &dyn Fn(ObjectId) -> bool,
) -> BTreeMap<i32, Ended<'a>> {
    let mut ended: BTreeMap<i32, Ended<'_>> = BTreeMap::new();
    for finding in found {
        let name = object_name(&finding.object.identity);
        if !redefined.has(name) {
            continue;
        }
        let earlier = redefined.earlier(name);
        let is_over_renamed = redefined.over_renamed.contains(name);
        let exemption = match current.about(finding) {
            Some((exemption, Status::Changed)) => Some(exemption)
                .filter(|_| earlier.is_some() || is_over_renamed || differs(finding.object.id)),
            Some(_) => None,
            None => earlier.as_ref().and_then(|earlier| current.of_name(finding, earlier)),
        };
        let Some(exemption) = exemption else { continue };
        let renamed = earlier.map(|was| {
            let (was, is) = (printable(&was), printable(name));
            format!("This transaction has changed the name {was} to {is}.")
        });
        let renamed = renamed.or_else(|| {
            let view = finding.object.name_in_message();
            is_over_renamed.then(|| format!("This transaction has renamed what view {view} reads."))
        });
        let new = Ended { exemption, findings: vec![], renamed };
        ended.entry(exemption.id).or_insert(new).findings.push(finding);
    }
    ended
}

/// Adds the exemptions that covered a finding which has another fingerprint now, because a column,
/// a policy or a role is renamed: `earlier` and `later` are the findings before and after that.
fn add_renamed<'a>(
    ended: &mut BTreeMap<i32, Ended<'a>>,
    current: &'a Current<'_>,
    renamed: &Renamed,
    [earlier, later]: [&'a [Finding]; 2],
    then: &State,
) {
    if renamed.is_empty() {
        return;
    }
    let fingerprints = |all: &'a [Finding]| -> HashSet<&'a str> {
        all.iter().map(|finding| finding.fingerprint.as_str()).collect()
    };
    let (known, left) = (fingerprints(earlier), fingerprints(later));
    let gone: Vec<&Finding> =
        earlier.iter().filter(|f| !left.contains(f.fingerprint.as_str())).collect();
    let new = later.iter().filter(|f| !known.contains(f.fingerprint.as_str()));
    for finding in new.filter(|finding| current.about(finding).is_none()) {
        interrupts();
        let Some(was) = gone.iter().find(|was| renamed.is_same(was, finding)) else { continue };
        let Some((exemption, _)) = current.about(was) else { continue };
        if applied(exemption, was, then) {
            let renamed = Some(renamed.sentence(was, finding));
            let new = Ended { exemption, findings: vec![], renamed };
            ended.entry(exemption.id).or_insert(new).findings.push(finding);
        }
    }
}

impl Ended<'_> {
    fn warning(&self, is_observed: bool) -> Option<Warning> {
        let Self { exemption, findings, renamed } = self;
        let finding = findings.first()?;
        let object_type = finding.object.type_in_message();
        let message = format!(
            "exemption {} of rule {} on {} no longer applies",
            exemption.id,
            exemption.rule,
            printable(&exemption.object)
        );
        let why = match renamed {
            Some(renamed) => renamed.clone(),
            None => format!(
                "It is based on the definition of {object_type} {}, which this transaction has \
                 changed.",
                finding.object.name_in_message()
            ),
        };
        let report = Report {
            message,
            detail: format!("{why} The audit reports again: {}", finding.detail),
            ..Report::default()
        };
        let renewal = renewal(exemption, findings).join(" ");
        let is_same =
            findings.iter().all(|f| exemption.fingerprint.as_ref() == Some(&f.fingerprint));
        Some(Warning { id: exemption.id, report, renewal, is_same, is_observed })
    }
}
