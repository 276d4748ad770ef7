//! Whether the contract describes this database: how much of what it declares exists.
//!
//! Where hardly anything of it exists, one finding says so in place of one for each object and role
//! that is missing. What holds whatever the contract declares stays as it is, and so does the
//! guard.

use crate::catalog::extension::API_SCHEMA;
use crate::catalog::{ContentKind, Object, ObjectId, Relation, RelationKind, Routine, Schema};
use crate::contract::{Contract, RoleKind};
use crate::finding::{Finding, fingerprint};
use crate::fix::Fix;
use crate::rule::Rule;
use crate::rules::{Context, required_object_missing, role_missing};
use crate::sql::{listed, quote_ident, safe_ident};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// The call that puts a contract of this database into force.
pub const ADOPT: &str = "SELECT * FROM ops.adopt();";

/// The rules that report what is declared and missing.
static MISSING: [&Rule; 2] = [&required_object_missing::RULE, &role_missing::RULE];

/// The most schemas that a sentence names.
const NAMED: usize = 3;

/// What a database has in place of what its contract declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instead {
    /// No tables, views and functions: the migrations that create them have not been executed.
    Nothing,
    /// Those of another application.
    Others,
}

/// A database in which hardly anything exists that the contract declares.
#[derive(Debug, Clone)]
pub struct Orientation {
    instead: Instead,
    is_planned: bool,
    /// The contract as a sentence names it: `contract "shop" 1.0.0`.
    contract: String,
    contract_name: String,
    database: String,
    /// What the contract declares: `12 tables, 9 views and 6 functions`.
    declares: String,
    declared: usize,
    existing: usize,
    /// The names of the schemas that contain something that the contract does not declare.
    schemas: Vec<String>,
}

impl Orientation {
    /// Returns the orientation where the contract declares tables, views or functions, and none of
    /// them exists; or at most a tenth of them, beside more that it does not declare. Objects of
    /// extensions and of managed schemas do not count, nor do those of this extension.
    #[must_use]
    pub fn of(cx: &Context<'_>) -> Option<Self> {
        let Contract { tables, views, functions, .. } = cx.contract;
        let declared = tables.len() + views.len() + functions.len();
        let existing = existing(cx);
        if declared == 0 || existing * 10 > declared {
            return None;
        }
        let others = others(cx);
        let undeclared: usize = others.values().sum();
        let instead = match (existing, undeclared) {
            (0, 0) => Instead::Nothing,
            (existing, undeclared) if undeclared > existing => Instead::Others,
            _ => return None,
        };
        let counts =
            [(tables.len(), "table"), (views.len(), "view"), (functions.len(), "function")]
                .into_iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, noun)| {
                    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
                });
        Some(Self {
            instead,
            is_planned: instead == Instead::Nothing && is_meant(cx),
            contract: cx.contract.title(),
            contract_name: cx.contract.name.clone(),
            database: cx.snapshot.database.name.clone(),
            declares: listed(&counts.collect::<Vec<_>>()),
            declared,
            existing,
            schemas: others.into_keys().map(str::to_owned).collect(),
        })
    }

    /// Whether one finding stands for this one and the others of its kind: it reports something
    /// that is declared and missing.
    #[must_use]
    pub fn stands_for(finding: &Finding) -> bool {
        MISSING.contains(&finding.rule) && finding.evidence["exemption"].is_null()
    }

    /// Whether a plan creates the roles and schemas that are missing: in a database without
    /// objects, if the contract was loaded or a role of it for requests or services exists.
    #[must_use]
    pub fn is_planned(&self) -> bool {
        self.is_planned
    }

    /// Returns a short statement without a period, for the primary message of a NOTICE.
    #[must_use]
    pub fn message(&self) -> String {
        match self.instead {
            Instead::Nothing => {
                format!("database has none of the objects of security {} yet", self.contract)
            }
            Instead::Others => {
                format!("security {} describes another application", self.contract)
            }
        }
    }

    /// Returns the facts as a sentence.
    #[must_use]
    pub fn detail(&self) -> String {
        let Self { contract, declares, .. } = self;
        let exist = match self.existing {
            0 => format!("None of the {declares} that {contract} declares exists"),
            1 => format!("Only 1 of the {declares} that {contract} declares exists"),
            more => format!("Only {more} of the {declares} that {contract} declares exist"),
        };
        match self.instead {
            Instead::Nothing => format!("{exist}: the database has no objects yet."),
            Instead::Others => {
                let mut schemas: Vec<String> =
                    self.schemas.iter().take(NAMED).map(|s| safe_ident(s).into_owned()).collect();
                match self.schemas.len().saturating_sub(NAMED) {
                    0 => {}
                    1 => schemas.push("1 other".to_owned()),
                    more => schemas.push(format!("{more} others")),
                }
                let noun = if self.schemas.len() == 1 { "schema" } else { "schemas" };
                format!(
                    "{exist}, and {noun} {} {} objects that it does not declare.",
                    listed(&schemas),
                    if self.schemas.len() == 1 { "contains" } else { "contain" }
                )
            }
        }
    }

    /// Returns what to do next, for a HINT.
    #[must_use]
    pub fn hint(&self) -> String {
        match self.instead {
            Instead::Nothing => format!(
                "Run the migrations that create them. For another application, run its \
                 migrations, and then {ADOPT}"
            ),
            Instead::Others => format!(
                "{ADOPT} shows a contract of this database and how to put it into force. (The \
                 longer way: docs/how-to/write-your-own-contract.md.)"
            ),
        }
    }

    /// Returns the complete SQL of the next step; `None` where migrations are the next step.
    #[must_use]
    pub fn fix(&self) -> Option<&'static str> {
        (self.instead == Instead::Others).then_some(ADOPT)
    }

    /// Returns the fingerprint of the finding.
    fn fingerprint(&self) -> String {
        fingerprint(&[required_object_missing::RULE.id, "database", &self.contract_name])
    }

    /// Returns the finding that stands for `missing`, of which there is at least one.
    fn finding(&self, missing: &[Finding]) -> Option<Finding> {
        let severity = missing.iter().map(|finding| finding.severity).max()?;
        let rule = &required_object_missing::RULE;
        let objects: Vec<&str> = missing.iter().map(|f| f.object.identity.as_str()).collect();
        Some(Finding {
            rule,
            severity,
            object: Object {
                object_type: "database",
                schema: None,
                identity: quote_ident(&self.database).into_owned(),
                managed_by: None,
                id: ObjectId::Named,
            },
            roles: vec![],
            detail: self.detail(),
            evidence: json!({
                "problem": match self.instead {
                    Instead::Nothing => "no objects yet",
                    Instead::Others => "another application",
                },
                "declared": self.declared,
                "existing": self.existing,
                "other_schemas": self.schemas,
                "count": missing.len(),
                "missing": objects,
            })
            .into(),
            fix: self
                .fix()
                .map_or_else(|| Fix::Proposal(self.hint()), |sql| Fix::Restated(sql.to_owned())),
            fingerprint: self.fingerprint(),
        })
    }

    /// Returns the finding that leads a plan, in the place of the findings in `before` that the
    /// plan does not fix; `None` where there are none.
    #[must_use]
    pub fn of_plan(&self, before: &[Finding]) -> Option<Finding> {
        let missing: Vec<Finding> =
            before.iter().filter(|finding| Self::stands_for(finding)).cloned().collect();
        (!self.is_planned).then(|| self.finding(&missing)).flatten()
    }
}

/// Returns findings, of which one stands for all that report something missing, at the beginning,
/// where the contract does not describe the database. Without a finding about a missing object,
/// they stay as they are: an audit of roles lists the missing roles.
#[must_use]
pub fn merged(cx: &Context<'_>, findings: Vec<Finding>) -> Vec<Finding> {
    let count = |rule: &Rule| findings.iter().filter(|f| f.rule == rule).count();
    let objects = count(&required_object_missing::RULE);
    if objects == 0 || objects + count(&role_missing::RULE) < 2 {
        return findings;
    }
    let Some(orientation) = Orientation::of(cx) else { return findings };
    let (missing, others): (Vec<Finding>, Vec<Finding>) =
        findings.into_iter().partition(Orientation::stands_for);
    orientation.finding(&missing).into_iter().chain(others).collect()
}

/// Returns the findings that [`merged`] reports as one with this fingerprint, and the identity of
/// the object in that report.
#[must_use]
pub fn members<'f>(
    cx: &Context<'_>,
    findings: &[&'f Finding],
    wanted: &str,
) -> Option<(String, Vec<&'f Finding>)> {
    let orientation = Orientation::of(cx).filter(|it| it.fingerprint() == wanted)?;
    let missing = findings.iter().copied().filter(|finding| Orientation::stands_for(finding));
    let missing: Vec<&Finding> = missing.collect();
    (!missing.is_empty()).then(|| (quote_ident(&orientation.database).into_owned(), missing))
}

/// Whether the contract was chosen for this database, as far as a database without objects shows:
/// it is not the shipped one, or one of its roles for requests and services exists.
fn is_meant(cx: &Context<'_>) -> bool {
    let is_of_requests = |kind| kind != RoleKind::Owner;
    let mut roles = cx.contract.roles.iter().filter(|role| is_of_requests(role.kind));
    roles.any(|role| cx.snapshot.role_named(&role.name).is_some()) || !cx.contract.is_shipped()
}

/// Returns how many of the declared tables, views and functions exist, by name.
fn existing(cx: &Context<'_>) -> usize {
    let declares = |(relation, _): &(&Relation, _)| {
        relation.kind != RelationKind::Sequence && cx.declares_relation(relation)
    };
    let relations = cx.relations().filter(declares).count();
    let declared: BTreeSet<(&str, &str)> =
        cx.contract.functions.iter().map(|f| (f.schema.as_str(), f.name.as_str())).collect();
    let routines: BTreeSet<(&str, &str)> = cx
        .routines()
        .map(|(routine, schema)| (schema.name.as_str(), routine.name.as_str()))
        .filter(|name| declared.contains(name))
        .collect();
    let is_there = |(schema, name): (&str, &str)| usize::from(routines.contains(&(schema, name)));
    let functions = cx.contract.functions.iter();
    relations + functions.map(|f| is_there((&f.schema, &f.name))).sum::<usize>()
}

/// Returns the number of objects that the contract does not declare, by schema; for a schema whose
/// relations have not been read, 1 if it contains any.
fn others<'a>(cx: &Context<'a>) -> BTreeMap<&'a str, usize> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let extension_of = |relation: &Relation| cx.snapshot.relation_extension.get(&relation.oid);
    let is_users = |relation: &Relation| {
        relation.kind != RelationKind::Sequence
            && !relation.is_partition
            && extension_of(relation).is_none()
    };
    let is_users_routine =
        |routine: &Routine| !cx.snapshot.routine_extension.contains_key(&routine.oid);
    for (relation, schema) in cx.relations() {
        if is_users(relation) && !cx.declares_relation(relation) {
            *counts.entry(&schema.name).or_default() += 1;
        }
    }
    for (routine, schema) in cx.routines() {
        let mut declared = cx.contract.functions_named(&schema.name, &routine.name);
        if is_users_routine(routine) && declared.next().is_none() {
            *counts.entry(&schema.name).or_default() += 1;
        }
    }
    let ungoverned: BTreeMap<_, &Schema> = cx.ungoverned().map(|s| (s.oid, s)).collect();
    for relation in cx.snapshot.relations.iter().filter(|relation| is_users(relation)) {
        if let Some(schema) = ungoverned.get(&relation.schema) {
            *counts.entry(&schema.name).or_default() += 1;
        }
    }
    for routine in cx.snapshot.routines.iter().filter(|routine| is_users_routine(routine)) {
        if let Some(schema) = ungoverned.get(&routine.schema) {
            *counts.entry(&schema.name).or_default() += 1;
        }
    }
    let is_read: BTreeSet<_> = cx.snapshot.relations.iter().map(|r| r.schema).collect();
    let contains = |schema: &Schema| {
        let contents = cx.snapshot.contents.get(&schema.oid).into_iter().flatten();
        contents.clone().any(|(_, kind)| *kind == ContentKind::Relation)
    };
    // The extension's own views are in schema ops.
    let unread = |s: &&&Schema| !is_read.contains(&s.oid) && s.name != API_SCHEMA;
    for schema in ungoverned.values().filter(unread).filter(|schema| contains(schema)) {
        counts.entry(&schema.name).or_insert(1);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::catalog::Oid;
    use crate::rules::RULES;
    use crate::rules::testing::World;

    /// Returns the world of the contract without any object.
    fn empty() -> World {
        let mut world = World::conforming();
        world.snapshot.relations.clear();
        world.snapshot.policies.clear();
        world.snapshot.routines.clear();
        world.snapshot.schemas.retain(|schema| ["public", "ops"].contains(&&*schema.name));
        world
    }

    /// Adds tables to a schema, which is created where it does not exist.
    fn add_tables(world: &mut World, schema: &str, names: &[&str]) {
        let oid = 5_000 + world.snapshot.schemas.len() as Oid;
        if !world.snapshot.schemas.iter().any(|known| known.name == schema) {
            let owner = world.role("root").oid;
            world.snapshot.schemas.push(Schema { oid, name: schema.into(), owner, acl: None });
        }
        let (schema, owner) = (world.schema(schema).oid, world.role("root").oid);
        for name in names {
            let oid = 6_000 + world.snapshot.relations.len() as Oid;
            let name = (*name).to_owned();
            world.add_relation(Relation { oid, name, schema, owner, ..Relation::default() });
        }
    }

    fn with<T>(world: &World, look: impl FnOnce(&Context<'_>) -> T) -> T {
        let snapshot = world.snapshot.clone().complete();
        let access = Access::new(&snapshot);
        let contract = world.contract.clone();
        look(&Context::new(&contract, &snapshot, &access, &|| {}))
    }

    fn reported(world: &World) -> Vec<Finding> {
        with(world, |cx| merged(cx, RULES.iter().flat_map(|rule| cx.run(rule)).collect()))
    }

    #[test]
    fn database_of_the_contract_has_no_orientation_and_separate_findings() {
        let mut world = World::conforming();
        assert!(with(&world, Orientation::of).is_none());
        world.snapshot.relations.retain(|relation| relation.name != "judgments");
        world.snapshot.routines.retain(|routine| routine.name != "queue_job");
        let found = reported(&world);
        let missing = found.iter().filter(|finding| Orientation::stands_for(finding)).count();
        assert_eq!(missing, 2, "{found:?}");
    }

    #[test]
    fn empty_database_has_one_finding_about_everything_that_is_missing() {
        let world = empty();
        let found = reported(&world);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            found[0].detail,
            "None of the 12 tables, 9 views and 6 functions that contract \"dragonfly_civil\" \
             1.0.0 declares exists: the database has no objects yet."
        );
        assert_eq!((found[0].severity.as_str(), found[0].fix.sql()), ("error", None));
        assert_eq!(found[0].evidence["count"], 30, "{}", *found[0].evidence);
    }

    #[test]
    fn plan_creates_what_is_missing_only_where_the_contract_was_meant() {
        let mut world = empty();
        let is_planned =
            |world: &World| with(world, |cx| Orientation::of(cx).unwrap().is_planned());
        assert!(is_planned(&world), "its roles exist");
        world.snapshot.roles.retain(|role| ["root", "postgres"].contains(&&*role.name));
        assert!(!is_planned(&world), "only the owner exists");
        world.contract.name = "shop".into();
        assert!(is_planned(&world), "it was loaded");
        add_tables(&mut world, "public", &["orders"]);
        assert!(!is_planned(&world), "the database belongs to another application");
    }

    #[test]
    fn objects_of_another_application_are_named_by_their_schemas() {
        let mut world = empty();
        add_tables(&mut world, "public", &["orders"]);
        add_tables(&mut world, "stock", &["parts", "shelves"]);
        let found = reported(&world);
        assert_eq!(
            found[0].detail,
            "None of the 12 tables, 9 views and 6 functions that contract \"dragonfly_civil\" \
             1.0.0 declares exists, and schemas public and stock contain objects that it does not \
             declare."
        );
        assert_eq!(found[0].fix.sql().as_deref(), Some(ADOPT));
        assert!(!found[1..].iter().any(Orientation::stands_for), "{found:?}");
    }

    #[test]
    fn few_equal_names_do_not_make_it_the_database_of_the_contract() {
        let mut world = empty();
        add_tables(&mut world, "public", &["job_queue", "orders", "items"]);
        let detail = with(&world, |cx| Orientation::of(cx).unwrap().detail());
        assert!(detail.starts_with("Only 1 of the 12 tables, 9 views"), "{detail}");
        let mut begun = empty();
        add_tables(&mut begun, "public", &["judgments", "schema_migrations"]);
        assert!(with(&begun, Orientation::of).is_none(), "migrations have begun to create it");
        let mut half = World::conforming();
        half.snapshot.relations.truncate(5);
        half.snapshot.routines.clear();
        add_tables(&mut half, "stock", &["a", "b", "c", "d", "e", "f", "g"]);
        assert!(with(&half, Orientation::of).is_none(), "more than a tenth exists");
    }

    #[test]
    fn findings_of_another_kind_and_of_single_areas_stay() {
        let mut world = empty();
        world.snapshot.guard.triggers.clear();
        let rules = |world: &World| -> Vec<&str> {
            let mut rules: Vec<&str> = reported(world).iter().map(|f| f.rule.id).collect();
            rules.dedup();
            rules
        };
        assert_eq!(rules(&world), ["required_object_missing", "guard_tampered"]);
        world.snapshot.roles.retain(|role| role.name != "anon" && role.name != "authenticated");
        let roles = with(&world, |cx| merged(cx, cx.run(&role_missing::RULE)));
        assert_eq!(roles.len(), 2, "an audit of roles lists them: {roles:?}");
    }

    #[test]
    fn contract_without_objects_has_no_orientation() {
        let mut world = empty();
        world.contract.tables.clear();
        world.contract.views.clear();
        world.contract.functions.clear();
        assert!(with(&world, Orientation::of).is_none());
    }
}
