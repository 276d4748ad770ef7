//! The tables of the contract document with the actual state: sections 2 (role x schema) and 7 (row
//! security).

use crate::catalog::{Command, ObjectKind, Privileges, Relation, RelationKind, Role, Schema};
use crate::contract::{RoleKind, SchemaDecl, Severity};
use crate::finding::Finding;
use crate::rule::Area;
use crate::rules::{Context, RULES};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};

/// One cell of the role x schema matrix.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Cell {
    pub schema: String,
    pub role: String,
    /// The declared privileges: `USAGE, SELECT (5 views)`.
    pub declared: String,
    /// The actual privileges; `None` if schema or role does not exist.
    pub actual: Option<String>,
    /// Whether no finding about grants concerns this role in this schema.
    pub conforms: bool,
}

/// Returns the role x schema matrix, in the order of the contract.
#[must_use]
pub fn role_matrix(cx: &Context<'_>) -> Vec<Cell> {
    let problems = problems(cx, &[Area::Grants, Area::Views, Area::Functions]);
    let affected: HashSet<(&str, &str)> = problems
        .iter()
        .filter_map(|f| Some((f.object.schema.as_deref()?, &f.roles)))
        .flat_map(|(schema, roles)| roles.iter().map(move |role| (schema, role.as_str())))
        .collect();
    let mut cells = Vec::new();
    for declared in &cx.contract.schemas {
        for kind in [RoleKind::Client, RoleKind::Worker, RoleKind::Login] {
            for name in cx.contract.roles_of(kind) {
                let schema = cx.snapshot.schema_named(&declared.name);
                let role = cx.snapshot.role_named(name);
                let actual = schema.zip(role).map(|(schema, role)| actual(cx, schema, role));
                let clean = !affected.contains(&(declared.name.as_str(), name))
                    && !affected.contains(&(declared.name.as_str(), "PUBLIC"));
                cells.push(Cell {
                    schema: declared.name.clone(),
                    role: name.to_owned(),
                    declared: self::declared(cx, declared, name),
                    conforms: actual.is_some() && clean,
                    actual,
                });
            }
        }
    }
    cells
}

/// Returns the findings of some areas, without information.
fn problems(cx: &Context<'_>, areas: &[Area]) -> Vec<Finding> {
    let rules = RULES.iter().filter(|r| areas.contains(&r.area));
    rules.flat_map(|rule| cx.run(rule)).filter(|f| f.severity > Severity::Info).collect()
}

fn declared(cx: &Context<'_>, schema: &SchemaDecl, role: &str) -> String {
    let mut words = Vec::new();
    let has = |list: &[String]| list.iter().any(|r| r == role);
    if has(&schema.usage) {
        words.push("USAGE".to_owned());
    }
    if has(&schema.all_on_objects) {
        words.push("ALL".to_owned());
    } else {
        let mut counts = Counts::default();
        for table in cx.contract.tables.iter().filter(|t| t.schema == schema.name) {
            counts.add(crate::contract::granted_to(&table.grants, role), "table");
        }
        for view in cx.contract.views.iter().filter(|v| v.schema == schema.name) {
            counts.add(crate::contract::granted_to(&view.grants, role), "view");
        }
        words.extend(counts.words());
        let of_schema = cx.contract.functions.iter().filter(|f| f.schema == schema.name);
        let named = of_schema.filter(|function| has(&function.execute)).count();
        if has(&schema.execute_on_routines) {
            words.push("EXECUTE".to_owned());
        } else if named > 0 {
            let end = if named == 1 { "" } else { "s" };
            words.push(format!("EXECUTE ({named} routine{end})"));
        }
    }
    or_none(&words)
}

fn actual(cx: &Context<'_>, schema: &Schema, role: &Role) -> String {
    let on_schema =
        cx.access.privileges(role.oid, schema.owner, schema.acl.as_ref(), ObjectKind::Schema);
    let mut words: Vec<String> = (on_schema & (Privileges::USAGE | Privileges::CREATE))
        .words()
        .iter()
        .map(|w| (*w).to_owned())
        .collect();
    let relations: Vec<&Relation> =
        cx.relations().filter(|(r, _)| r.schema == schema.oid).map(|(r, _)| r).collect();
    let all = |r: &&Relation| {
        let wanted = match r.kind {
            RelationKind::Sequence => Privileges::ALL_ON_SEQUENCE,
            _ => Privileges::ALL_ON_TABLE,
        };
        cx.access.relation_privileges(role.oid, r).contains(wanted)
    };
    if !relations.is_empty() && relations.iter().all(all) {
        words.push("ALL".to_owned());
    } else {
        let mut counts = Counts::default();
        for relation in relations {
            counts.add(
                cx.access.relation_privileges(role.oid, relation),
                relation.kind.object_type(),
            );
        }
        words.extend(counts.words());
    }
    let mut executable = (0, 0);
    for (routine, _) in cx.routines().filter(|(r, _)| r.schema == schema.oid) {
        let held = cx.access.privileges(
            role.oid,
            routine.owner,
            routine.acl.as_ref(),
            ObjectKind::Routine,
        );
        executable.0 += usize::from(held.contains(Privileges::EXECUTE));
        executable.1 += 1;
    }
    match executable {
        (0, _) => {}
        (held, all) if held == all => words.push("EXECUTE".to_owned()),
        (held, all) => words.push(format!("EXECUTE ({held} of {all} routines)")),
    }
    or_none(&words)
}

fn or_none(words: &[String]) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

/// The number of objects with a privilege, by privilege and type.
#[derive(Default)]
struct Counts(BTreeMap<usize, BTreeMap<&'static str, usize>>);

const ORDER: [Privileges; 7] = [
    Privileges::SELECT,
    Privileges::INSERT,
    Privileges::UPDATE,
    Privileges::DELETE,
    Privileges::TRUNCATE,
    Privileges::REFERENCES,
    Privileges::TRIGGER,
];

impl Counts {
    fn add(&mut self, held: Privileges, object_type: &'static str) {
        for (i, privilege) in ORDER.into_iter().enumerate() {
            if held.contains(privilege) {
                *self.0.entry(i).or_default().entry(object_type).or_default() += 1;
            }
        }
    }

    /// Returns one item for each privilege: `SELECT (3 tables, 5 views)`.
    fn words(&self) -> Vec<String> {
        let word = |(i, types): (&usize, &BTreeMap<&str, usize>)| {
            let types: Vec<String> = types
                .iter()
                .map(|(t, n)| if *n == 1 { format!("1 {t}") } else { format!("{n} {t}s") })
                .collect();
            format!("{} ({})", ORDER[*i], types.join(", "))
        };
        self.0.iter().map(word).collect()
    }
}

/// One governed table.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Coverage {
    pub schema: String,
    pub name: String,
    /// Whether the contract declares it.
    pub declared: bool,
    pub row_security_declared: bool,
    /// `None` if the table does not exist.
    pub row_security: Option<bool>,
    pub force_row_security: Option<bool>,
    /// Role to commands.
    pub policies_declared: Value,
    /// Role to commands that a permissive policy allows; `bypasses row security` for a role that
    /// needs none.
    pub policies: Value,
    /// Whether no finding about row security concerns this table.
    pub conforms: bool,
}

/// Returns every governed table, and every declared one that does not exist, in order of name.
#[must_use]
pub fn rls_coverage(cx: &Context<'_>) -> Vec<Coverage> {
    let problems = problems(cx, &[Area::Rls]);
    let objects: HashSet<&str> = problems.iter().map(|f| f.object.identity.as_str()).collect();
    let has_problem = |relation: &Relation| {
        let policies = cx.snapshot.policies_of(relation.oid).iter();
        objects.contains(cx.snapshot.relation_identity(relation).as_str())
            || policies
                .clone()
                .any(|p| objects.contains(cx.snapshot.policy_identity(p, relation).as_str()))
    };
    let mut rows: Vec<Coverage> = cx
        .relations()
        .filter(|(r, _)| r.kind.has_row_security())
        .map(|(relation, schema)| {
            let table = cx.contract.table(&schema.name, &relation.name);
            Coverage {
                schema: schema.name.clone(),
                name: relation.name.clone(),
                declared: table.is_some(),
                row_security_declared: table.is_some_and(|t| t.row_security),
                row_security: Some(relation.row_security),
                force_row_security: Some(relation.force_row_security),
                policies_declared: json!(table.map(|t| &t.policies).cloned().unwrap_or_default()),
                policies: policies(cx, relation),
                conforms: !has_problem(relation),
            }
        })
        .collect();
    let present: HashSet<(String, String)> =
        rows.iter().map(|r| (r.schema.clone(), r.name.clone())).collect();
    for table in
        cx.contract.tables.iter().filter(|t| !present.contains(&(t.schema.clone(), t.name.clone())))
    {
        rows.push(Coverage {
            schema: table.schema.clone(),
            name: table.name.clone(),
            declared: true,
            row_security_declared: table.row_security,
            row_security: None,
            force_row_security: None,
            policies_declared: json!(table.policies),
            policies: json!({}),
            conforms: false,
        });
    }
    rows.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    rows
}

fn policies(cx: &Context<'_>, relation: &Relation) -> Value {
    let mut by_role = Map::new();
    for role in cx.subjects.iter().copied() {
        if role.bypass_rls || role.superuser {
            by_role.insert(role.name.clone(), json!("bypasses row security"));
            continue;
        }
        let open: Vec<&str> = Command::ALL
            .into_iter()
            .filter(|command| {
                let policies = cx.snapshot.policies_of(relation.oid).iter();
                policies.clone().any(|p| {
                    p.permissive && p.covers(*command) && cx.access.policy_applies(p, role.oid)
                })
            })
            .map(Command::as_str)
            .collect();
        if !open.is_empty() {
            by_role.insert(role.name.clone(), json!(open));
        }
    }
    Value::Object(by_role)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::rules::testing::World;

    fn with<T>(world: &World, look: impl FnOnce(&Context<'_>) -> T) -> T {
        let snapshot = world.snapshot.clone().complete();
        let access = Access::new(&snapshot);
        look(&Context::new(&world.contract, &snapshot, &access, &|| {}))
    }

    #[test]
    fn matrix_of_a_conforming_database_equals_the_documents() {
        let mut world = World::conforming();
        let cell = |cells: &[Cell], schema: &str, role: &str| {
            let cell = cells.iter().find(|c| c.schema == schema && c.role == role).expect("a cell");
            (
                cell.declared.clone(),
                cell.actual.clone().expect("role and schema exist"),
                cell.conforms,
            )
        };
        let cells = with(&world, role_matrix);
        let views = "USAGE, SELECT (5 views)".to_owned();
        assert_eq!(cell(&cells, "public", "anon"), (views.clone(), views, true));
        assert_eq!(cell(&cells, "enforcement", "anon"), ("none".into(), "none".into(), true));
        assert_eq!(
            cell(&cells, "api", "authenticated"),
            ("USAGE, EXECUTE".into(), "USAGE, EXECUTE".into(), true)
        );
        let anon = world.role("anon").oid;
        world.grant_schema("enforcement", anon, Privileges::USAGE);
        assert_eq!(
            cell(&with(&world, role_matrix), "enforcement", "anon"),
            ("none".into(), "USAGE".into(), false)
        );
    }

    #[test]
    fn coverage_lists_tables_with_policies_and_missing_ones() {
        let mut world = World::conforming();
        world.relation("public.job_queue").row_security = false;
        world.snapshot.relations.retain(|r| r.name != "outbox");
        let rows = with(&world, rls_coverage);
        let row = |name: &str| rows.iter().find(|r| r.name == name).expect("a row");
        assert!(row("judgments").conforms);
        assert_eq!(
            row("judgments").policies,
            json!({"authenticated": ["SELECT"], "service_role": "bypasses row security"})
        );
        assert!(!row("job_queue").conforms);
        assert_eq!((row("outbox").row_security, row("outbox").conforms), (None, false));
    }
}
