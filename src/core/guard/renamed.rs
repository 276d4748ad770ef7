//! Schemas, relations, columns and roles that a transaction has renamed. The contract declares by
//! name, and privileges stay on what is renamed: a later statement may give the name to another
//! object, or give it back, so that only the commit shows what is wrong.

use super::change::Regression;
use crate::catalog::{Acl, ObjectId, Relation, RelationKind, Role, Routine, Schema};
use crate::contract::FunctionDecl;
use crate::declare::{Declaration, FunctionName, Name, Renamed as Rename, Target};
use crate::rules::{Context, required_object_missing, role_missing};
use crate::sql::{printable, quote_ident, safe_ident};
use std::collections::HashSet;

/// Returns what has another name than before, with the fingerprints of the findings about it, which
/// are about what the contract declares for its earlier name.
pub(super) fn renamed(
    before: &Context<'_>,
    after: &Context<'_>,
    regressions: &[&Regression],
) -> Vec<(Renamed, HashSet<String>)> {
    let mut found: Vec<(Renamed, HashSet<String>)> = Vec::new();
    for regression in regressions {
        let renamed = if regression.is_missing {
            schema(before, after, regression)
                .or_else(|| missing_relation(before, after, regression))
                .or_else(|| missing_routine(before, after, regression))
                .or_else(|| missing_column(before, after, regression))
        } else {
            missing_role(before, after, regression)
                .or_else(|| role(before, after, regression))
                .or_else(|| relation(before, after, regression))
                .or_else(|| routine(before, after, regression))
                .or_else(|| column(before, after, regression))
        };
        let Some(renamed) = renamed else { continue };
        let fingerprint = regression.finding.fingerprint.clone();
        match found.iter_mut().find(|(known, _)| *known == renamed) {
            Some((_, findings)) => {
                findings.insert(fingerprint);
            }
            None => found.push((renamed, HashSet::from([fingerprint]))),
        }
    }
    let names = |one: &Renamed| (one.was.clone(), one.is.clone(), one.declared.clone());
    found.sort_by_cached_key(|(renamed, _)| names(renamed));
    found
}

/// Something that has been renamed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Renamed {
    /// What it was: its type and name.
    pub was: String,
    /// What it is: its type and name.
    pub is: String,
    /// What the contract declares for it by name, and where that is now.
    pub declared: String,
    /// Whether it is a schema.
    pub is_schema: bool,
    /// The statement that gives a schema its name back, where no other schema has it.
    pub back: Option<String>,
    /// The declarations by which the contract follows.
    pub declares: Vec<Declaration>,
}

/// Returns the declared schema with the declared object that is missing, or the missing schema
/// itself.
fn schema(before: &Context<'_>, after: &Context<'_>, regression: &Regression) -> Option<Renamed> {
    let of_name = |schema: &&Schema| {
        let object = &regression.finding.object;
        object.schema.as_ref().map_or_else(
            || Context::schema_object(&schema.name).identity == object.identity,
            |name| *name == schema.name,
        )
    };
    renamed_schema(after, before.snapshot.schemas.iter().find(of_name)?)
}

/// Returns a schema of the earlier state, if the contract declares it and it has another name now.
fn renamed_schema(after: &Context<'_>, old: &Schema) -> Option<Renamed> {
    let new = after.snapshot.schemas.iter().find(|schema| schema.oid == old.oid)?;
    if old.name == new.name || after.contract.schema(&old.name).is_none() {
        return None;
    }
    let (was, is) = (safe_ident(&old.name), safe_ident(&new.name));
    let is_free = after.snapshot.schema_named(&old.name).is_none();
    let back = is_free.then(|| format!("ALTER SCHEMA {is} RENAME TO {was};"));
    Some(Renamed {
        declared: format!("the contract declares schema {was} and its objects by name."),
        was: format!("schema {was}"),
        is: format!("schema {is}"),
        is_schema: true,
        back,
        declares: vec![to(Target::Schema(old.name.clone()), Name::new("", &new.name))],
    })
}

/// Returns the declared role that the findings are about: as grantee or as owner.
fn role(before: &Context<'_>, after: &Context<'_>, regression: &Regression) -> Option<Renamed> {
    let finding = &regression.finding;
    let name = finding.role().or_else(|| finding.evidence["owner"].as_str())?;
    let old = before.snapshot.role(after.snapshot.role_named(name)?.oid)?;
    renamed_role(after, old)
}

/// Returns the declared role that is missing under its earlier name.
fn missing_role(
    before: &Context<'_>,
    after: &Context<'_>,
    regression: &Regression,
) -> Option<Renamed> {
    let finding = Some(&regression.finding).filter(|f| *f.rule == role_missing::RULE)?;
    renamed_role(after, before.snapshot.role_named(finding.role()?)?)
}

/// Returns a role of the earlier state, if the contract declares it and it has another name now.
fn renamed_role(after: &Context<'_>, old: &Role) -> Option<Renamed> {
    let name = &after.snapshot.role(old.oid)?.name;
    if old.name == *name || after.contract.kind_of(&old.name).is_none() {
        return None;
    }
    let was = format!("role \"{}\"", printable(&old.name));
    Some(Renamed {
        declared: format!("the contract declares {was} by its name."),
        is: format!("role \"{}\"", printable(name)),
        was,
        is_schema: false,
        back: None,
        declares: vec![to(Target::Role(old.name.clone()), Name::new("", name))],
    })
}

/// Returns the declared relation that a finding is about, itself or its policy.
fn relation(before: &Context<'_>, after: &Context<'_>, regression: &Regression) -> Option<Renamed> {
    let relation = match regression.finding.object.id {
        ObjectId::Relation(oid) => oid,
        ObjectId::Policy(oid) => {
            after.snapshot.policies.iter().find(|policy| policy.oid == oid)?.relation
        }
        _ => return None,
    };
    let (old, new) = (before.snapshot.relation(relation)?, after.snapshot.relation(relation)?);
    let (name, now) = (before.snapshot.relation_sql(old), after.snapshot.relation_sql(new));
    if (&old.name, old.schema) == (&new.name, new.schema) {
        return renamed_schema(after, before.snapshot.schema(old.schema)?);
    }
    let schema = before.snapshot.schema_name(old.schema);
    let object_type = new.kind.object_type();
    (name != now && after.contract.declares_relation(schema, &old.name)).then(|| Renamed {
        was: format!("{object_type} {name}"),
        is: format!("{object_type} {now}"),
        is_schema: false,
        back: None,
        declares: moved(before, after, old, new),
        declared: format!(
            "the privileges and policies that the contract declares for {name} have stayed on it."
        ),
    })
}

/// Returns the declared relation that is missing under its earlier name.
fn missing_relation(
    before: &Context<'_>,
    after: &Context<'_>,
    regression: &Regression,
) -> Option<Renamed> {
    let missing = missing(regression)?;
    let is_it = |relation: &&Relation| before.snapshot.relation_identity(relation) == missing;
    let old = before.snapshot.relations.iter().find(is_it)?;
    let new = after.snapshot.relation(old.oid)?;
    let (was, is) = (before.snapshot.relation_sql(old), after.snapshot.relation_sql(new));
    let object_type = new.kind.object_type();
    let is_itself = old.name != new.name || old.schema != new.schema;
    is_itself.then(|| Renamed {
        declared: format!("the contract declares {object_type} {was} by its name."),
        declares: moved(before, after, old, new),
        was: format!("{object_type} {was}"),
        is: format!("{object_type} {is}"),
        is_schema: false,
        back: None,
    })
}

/// Returns the declared column that is missing under its earlier name, on a relation that has as
/// many columns as before.
fn missing_column(
    before: &Context<'_>,
    after: &Context<'_>,
    regression: &Regression,
) -> Option<Renamed> {
    let missing = missing(regression)?;
    before.snapshot.relations.iter().find_map(|old| {
        let relation = before.snapshot.relation_identity(old);
        let column = missing.strip_prefix(&relation)?.strip_prefix('.')?;
        let new = after.snapshot.relation(old.oid)?;
        let (was, is) = renamed_columns(old, new).find(|(was, _)| quote_ident(was) == column)?;
        let names = "the contract declares it by its name.".to_owned();
        Some(renamed_column(before, after, [old, new], [was, is], names))
    })
}

/// Returns a column that has another name; `declared` says what the contract declares for it.
fn renamed_column(
    before: &Context<'_>,
    after: &Context<'_>,
    [old, new]: [&Relation; 2],
    [was, is]: [&String; 2],
    declared: String,
) -> Renamed {
    let table = format!("{} {}", new.kind.object_type(), after.snapshot.relation_sql(new));
    let relation = Name::new(before.snapshot.schema_name(old.schema), &old.name);
    Renamed {
        was: format!("column \"{}\" of {table}", printable(was)),
        is: format!("column \"{}\" of {table}", printable(is)),
        is_schema: false,
        back: None,
        declares: vec![Declaration::Rename(Rename::Column(relation, was.clone(), is.clone()))],
        declared,
    }
}

/// Returns the declared routine that is missing under its earlier name.
fn missing_routine(
    before: &Context<'_>,
    after: &Context<'_>,
    regression: &Regression,
) -> Option<Renamed> {
    let missing = missing(regression)?;
    let declared = after.contract.functions.iter().find(|f| is_identity(f, missing))?;
    let is_it = |routine: &&Routine| {
        before.snapshot.schema_name(routine.schema) == declared.schema
            && routine.name == declared.name
            && before.has_arguments(routine, declared.arguments.as_deref())
    };
    let old = before.snapshot.routines.iter().find(is_it)?;
    moved_routine(before, after, old, declared)
}

/// Returns the declared routine that a finding is about.
fn routine(before: &Context<'_>, after: &Context<'_>, regression: &Regression) -> Option<Renamed> {
    let ObjectId::Routine(oid) = regression.finding.object.id else { return None };
    let old = before.snapshot.routine(oid)?;
    let schema = before.snapshot.schema(old.schema)?;
    let mut declared = after.contract.functions_named(&schema.name, &old.name);
    let declared = declared.find(|f| before.has_arguments(old, f.arguments.as_deref()))?;
    moved_routine(before, after, old, declared).or_else(|| renamed_schema(after, schema))
}

/// Returns a routine of the earlier state, if it has another name or schema now.
fn moved_routine(
    before: &Context<'_>,
    after: &Context<'_>,
    old: &Routine,
    declared: &FunctionDecl,
) -> Option<Renamed> {
    let new = after.snapshot.routine(old.oid)?;
    let (was, is) = (before.snapshot.routine_message(old), after.snapshot.routine_message(new));
    let object_type = new.object_type();
    let function = |schema: &str, name: &str| {
        let arguments = declared.arguments.clone();
        Target::Function(FunctionName { name: Name::new(schema, name), arguments })
    };
    let [had, has] = [
        (before.snapshot.schema_name(old.schema), old.name.as_str()),
        (after.snapshot.schema_name(new.schema), new.name.as_str()),
    ];
    ((&old.name, old.schema) != (&new.name, new.schema)).then(|| Renamed {
        declared: format!("the contract declares {object_type} {was} by its name."),
        declares: steps(had, has, function),
        was: format!("{object_type} {was}"),
        is: format!("{object_type} {is}"),
        is_schema: false,
        back: None,
    })
}

/// Whether a declared function has the identity of a finding which says that it is missing.
fn is_identity(function: &FunctionDecl, identity: &str) -> bool {
    let name = format!("{}.{}", quote_ident(&function.schema), quote_ident(&function.name));
    let arguments = function.arguments.as_deref().unwrap_or("...");
    identity == format!("{name}({arguments})")
}

/// Returns the identity of the declared object that a regression says is missing.
pub(super) fn missing(regression: &Regression) -> Option<&str> {
    let finding = &regression.finding;
    let is_gone =
        *finding.rule == required_object_missing::RULE && finding.object.id == ObjectId::Named;
    is_gone.then_some(finding.object.identity.as_str())
}

/// Returns the declarations that give a relation its new schema and name, and its declared columns
/// theirs.
fn moved(
    before: &Context<'_>,
    after: &Context<'_>,
    old: &Relation,
    new: &Relation,
) -> Vec<Declaration> {
    let [had, has] = [
        (before.snapshot.schema_name(old.schema), old.name.as_str()),
        (after.snapshot.schema_name(new.schema), new.name.as_str()),
    ];
    let mut declares = steps(had, has, |schema, name| {
        let name = Name::new(schema, name);
        match new.kind {
            RelationKind::View => Target::View(name),
            RelationKind::MaterializedView => Target::MaterializedView(name),
            RelationKind::Sequence => Target::Sequence(name),
            _ => Target::Table(name),
        }
    });
    if after.contract.declares_columns(had.0, had.1) {
        let column = |(was, is): (&String, &String)| {
            let relation = Name::new(has.0, has.1);
            Declaration::Rename(Rename::Column(relation, was.clone(), is.clone()))
        };
        declares.extend(renamed_columns(old, new).map(column));
    }
    declares
}

/// Returns the columns of a relation that have a new name, each with it, where the relation has as
/// many columns as before.
fn renamed_columns<'r>(
    old: &'r Relation,
    new: &'r Relation,
) -> impl Iterator<Item = (&'r String, &'r String)> {
    let has_all = old.column_names.len() == new.column_names.len();
    let columns = old.column_names.iter().zip(new.column_names.iter());
    columns.filter(move |(was, is)| has_all && was != is)
}

/// Returns the declarations that give an object another schema, then another name. `target` returns
/// the object by schema and name.
fn steps(
    had: (&str, &str),
    has: (&str, &str),
    target: impl Fn(&str, &str) -> Target,
) -> Vec<Declaration> {
    let mut steps = Vec::new();
    if had.0 != has.0 {
        steps.push(to(target(had.0, had.1), Name::new(has.0, had.1)));
    }
    if had.1 != has.1 {
        steps.push(to(target(has.0, had.1), Name::new(has.0, has.1)));
    }
    steps
}

fn to(target: Target, name: Name) -> Declaration {
    Declaration::Rename(Rename::Object(target, name))
}

/// Returns the column with declared privileges that a finding is about.
fn column(before: &Context<'_>, after: &Context<'_>, regression: &Regression) -> Option<Renamed> {
    let ObjectId::Relation(oid) = regression.finding.object.id else { return None };
    let column = regression.finding.evidence["column"].as_str()?;
    let (old, new) = (before.snapshot.relation(oid)?, after.snapshot.relation(oid)?);
    let schema = before.snapshot.schema_name(old.schema);
    if !after.contract.declares_column_grants(schema, &old.name) {
        return None;
    }
    let place = new.column_names.iter().position(|name| name == column)?;
    let was = old.column_names.get(place).filter(|was| *was != column)?;
    let [had, has] = [column_acl(old, was)?, column_acl(new, column)?];
    stayed(had, has).then(|| {
        let declared = format!(
            "the privileges that the contract declares for column \"{}\" have stayed on it.",
            printable(was)
        );
        renamed_column(before, after, [old, new], [was, &new.column_names[place]], declared)
    })
}

fn column_acl<'a>(relation: &'a Relation, column: &str) -> Option<&'a Acl> {
    relation.columns.iter().find(|(name, _)| name == column).map(|(_, acl)| acl)
}

/// Whether an ACL has everything that another one has.
fn stayed(had: &Acl, has: &Acl) -> bool {
    has.iter().all(|item| {
        had.iter()
            .any(|old| old.grantee == item.grantee && old.privileges.contains(item.privileges))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Privileges;
    use crate::contract::{ColumnGrants, RoleKind};
    use crate::guard::{Change, causes};
    use crate::rules::testing::World;
    use crate::rules::{
        column_privileges, object_ownership, required_object_missing, role_missing,
        table_privileges,
    };

    /// Returns the world in which the contract declares UPDATE on column "name" of a table, and the
    /// client has it on the column that now has the given name.
    fn world(columns: &[&str], granted: &str) -> World {
        let mut world = World::conforming();
        let table = world.contract.tables.iter_mut().find(|t| t.name == "plaintiffs").unwrap();
        let mut grants = ColumnGrants::default();
        grants.add(Privileges::UPDATE, "name");
        table.column_grants.insert("authenticated".into(), grants);
        let client = world.role("authenticated").oid;
        world.relation("public.plaintiffs").column_names =
            columns.iter().map(|name| (*name).to_owned()).collect();
        world.grant_column("public.plaintiffs", granted, client, Privileges::UPDATE);
        world
    }

    /// Returns whether each regression is settled, and the causes of all.
    fn check(
        before: &World,
        after: &World,
        rule: &'static crate::rule::Rule,
    ) -> (Vec<bool>, Vec<String>) {
        before.compared_with(after, |old, new| {
            let found = Change::new(old, new).regressions(rule);
            let all: Vec<&Regression> = found.iter().filter(|r| !r.is_missing).collect();
            let causes = causes(old, new, 1, &all).into_iter().map(|c| c.problem).collect();
            (all.iter().map(|r| r.settled).collect(), causes)
        })
    }

    #[test]
    fn renamed_column_with_declared_privileges_is_checked_at_commit() {
        let before = world(&["id", "name"], "name");
        let renamed = world(&["id", "name_old"], "name_old");
        let cause = "The cause of one violation is that column \"name\" of table public.plaintiffs \
                     has become column \"name_old\" of table public.plaintiffs: the privileges \
                     that the contract declares for column \"name\" have stayed on it.";
        let rule = &column_privileges::RULE;
        assert_eq!(check(&before, &renamed, rule), (vec![false], vec![cause.into()]));
        let swapped = world(&["id", "name_old", "name"], "name_old");
        assert_eq!(check(&before, &swapped, rule), (vec![false], vec![cause.into()]));
        let granted = world(&["id", "name", "more"], "id");
        assert_eq!(check(&before, &granted, rule), (vec![true], vec![]), "an earlier column");
        let granted = world(&["id", "name", "more"], "more");
        assert_eq!(check(&before, &granted, rule), (vec![false], vec![]), "a new column");
        let dropped = world(&["name"], "id");
        assert_eq!(check(&before, &dropped, rule).1, [""; 0], "it did not have the privilege");
    }

    #[test]
    fn renamed_role_is_checked_at_commit_with_its_name_as_the_cause() {
        let mut before = World::conforming();
        before.add_login("gateway");
        before.declare("gateway", RoleKind::Login);
        before.grant_role_without_inherit("authenticated", "gateway");
        let mut after = before.clone();
        after.role("authenticated").name = "web_user".into();
        let (settled, causes) = check(&before, &after, &table_privileges::RULE);
        assert!(!settled.is_empty() && settled.iter().all(|settled| !settled));
        assert_eq!(causes.len(), 1, "{causes:?}");
        assert!(
            causes[0].ends_with(
                " is that role \"authenticated\" has become role \"web_user\": the contract \
                 declares role \"authenticated\" by its name."
            ),
            "{causes:?}"
        );
        let missing: Vec<Declaration> = before.compared_with(&after, |old, new| {
            let found = Change::new(old, new).regressions(&role_missing::RULE);
            let all: Vec<&Regression> = found.iter().collect();
            let causes = super::super::completion::causes(old, new, 1, &all).into_iter();
            causes.flat_map(|cause| cause.declares).collect()
        });
        let missing: Vec<String> = missing.iter().map(Declaration::to_string).collect();
        assert_eq!(missing, ["ALTER ROLE authenticated RENAME TO web_user"]);
        let mut after = before.clone();
        after.role("postgres").name = "other".into();
        let (settled, causes) = check(&before, &after, &object_ownership::RULE);
        assert!(!settled.is_empty() && settled.iter().all(|settled| !settled));
        assert_eq!(causes.len(), 1, "{causes:?}");
    }

    #[test]
    fn renamed_schema_is_the_cause_of_what_is_missing_in_it() {
        let before = World::conforming();
        let mut after = before.clone();
        after.schema("ops").name = "ops_v2".into();
        let causes_of = |after: &World| {
            before.compared_with(after, |old, new| {
                let found = Change::new(old, new).regressions(&required_object_missing::RULE);
                let all: Vec<&Regression> = found.iter().collect();
                let found = causes(old, new, 1, &all);
                assert!(
                    found.iter().all(|c| c.is_renamed_schema() && c.findings.len() == all.len())
                );
                found.into_iter().map(|c| (c.problem, c.statements)).collect::<Vec<_>>()
            })
        };
        let found = causes_of(&after);
        assert_eq!(found.len(), 1, "{found:?}");
        let end = " is that schema ops has become schema ops_v2: the contract declares schema ops \
                   and its objects by name.";
        assert!(found[0].0.ends_with(end), "{found:?}");
        assert_eq!(found[0].1, ["ALTER SCHEMA ops_v2 RENAME TO ops;"]);
        let schema = Schema { oid: 9001, name: "ops".into(), ..after.schema("ops_v2").clone() };
        after.snapshot.schemas.push(schema);
        assert_eq!(causes_of(&after)[0].1, [""; 0], "another schema has the name");
        after.snapshot.schemas.retain(|schema| !schema.name.starts_with("ops"));
        assert_eq!(causes_of(&after), [], "dropped");
    }
}
