//! Findings that have one cause, as one: the same privileges on several relations of a schema that
//! the same default privileges have granted.
//!
//! The guard, the plan and the exemptions judge each relation by itself. Only what a person reads
//! is merged.

use crate::catalog::{DefaultAcl, ObjectId, Oid, PUBLIC, Privileges, Relation, RelationKind};
use crate::contract::Severity;
use crate::finding::{Finding, GRANTEES, fingerprint};
use crate::fix::Fix;
use crate::rules::{Context, default_privileges};
use crate::sql::{listed, printable, quote_ident, safe_ident};
use serde_json::{Value, json};
use std::collections::HashMap;

/// The number of relations that a sentence names.
const NAMED: usize = 3;

/// Returns the findings, of which those that have one cause are one, at the place of the first.
/// Findings that show an exemption stay separate. `of_defaults` returns the findings of rule
/// `default_privileges` that are not exempt: their fix is a part of the fix.
#[must_use]
pub fn merged(
    cx: &Context<'_>,
    findings: Vec<Finding>,
    of_defaults: impl FnOnce() -> Vec<Finding>,
) -> Vec<Finding> {
    let groups: Vec<Group<'_>> = groups(cx, &findings.iter().collect::<Vec<_>>());
    if groups.is_empty() {
        return findings;
    }
    let of_defaults = of_defaults();
    let mut findings: Vec<Option<Finding>> = findings.into_iter().map(Some).collect();
    for group in groups {
        let mut members = Vec::with_capacity(group.members.len());
        for place in &group.members {
            members.extend(findings[*place].take());
        }
        findings[group.members[0]] = Some(group.finding(cx, &members, &of_defaults));
    }
    findings.into_iter().flatten().collect()
}

/// Whether [`merged`] may report a finding as one with others.
#[must_use]
pub fn may_be_merged(cx: &Context<'_>, finding: &Finding) -> bool {
    let is_of_relation = matches!(finding.object.id, ObjectId::Relation(_));
    is_of_relation && !cx.snapshot.default_acls.is_empty()
}

/// Returns the findings that [`merged`] reports with this fingerprint, and the identity of the
/// object in that report.
#[must_use]
pub fn members<'f>(
    cx: &Context<'_>,
    findings: &[&'f Finding],
    wanted: &str,
) -> Option<(String, Vec<&'f Finding>)> {
    let group = groups(cx, findings).into_iter().find(|group| group.key.fingerprint() == wanted)?;
    let members = group.members.iter().map(|place| findings[*place]).collect();
    Some((quote_ident(&group.key.schema).into_owned(), members))
}

/// What findings with one cause have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    rule: &'static str,
    severity: Severity,
    schema: String,
    /// The role whose default privileges they are, and whether these are for every schema.
    creator: String,
    is_for_every_schema: bool,
    is_about_sequences: bool,
    /// The sentence before and after the name of the relation: grantees, privileges, and what is
    /// declared.
    sentence: (String, String),
    has_statements: bool,
}

impl Key {
    /// Returns the fingerprint, which stays when a relation is added.
    fn fingerprint(&self) -> String {
        let (before, after) = &self.sentence;
        let of = if self.is_about_sequences { "sequences" } else { "tables" };
        let place = if self.is_for_every_schema { "every schema" } else { "the schema" };
        let fix = if self.has_statements { "statements" } else { "a person decides" };
        fingerprint(&[self.rule, &self.schema, of, &self.creator, place, before, after, fix])
    }
}

/// Several findings with one cause.
struct Group<'a> {
    key: Key,
    default: &'a DefaultAcl,
    /// Their places among the findings.
    members: Vec<usize>,
}

/// Returns the groups of several findings, in the order of their first members.
fn groups<'a>(cx: &Context<'a>, findings: &[&Finding]) -> Vec<Group<'a>> {
    if cx.snapshot.default_acls.is_empty() {
        return vec![];
    }
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut places: HashMap<Key, usize> = HashMap::new();
    for (place, finding) in findings.iter().enumerate() {
        let Some((key, default)) = cause(cx, finding) else { continue };
        let group = *places.entry(key).or_insert_with_key(|key| {
            groups.push(Group { key: key.clone(), default, members: vec![] });
            groups.len() - 1
        });
        groups[group].members.push(place);
    }
    groups.retain(|group| group.members.len() > 1);
    groups
}

/// Returns what has caused a finding, where it is about undeclared privileges on a relation, each
/// of which default privileges of the owner grant to each grantee.
fn cause<'a>(cx: &Context<'a>, finding: &Finding) -> Option<(Key, &'a DefaultAcl)> {
    let evidence = &finding.evidence;
    let is_direct = evidence["problem"] == "undeclared"
        && evidence["column"].is_null()
        && evidence["through"].as_array().is_none_or(Vec::is_empty)
        && evidence["exemption"].is_null()
        && evidence["managed_by"].is_null();
    let ObjectId::Relation(oid) = finding.object.id else { return None };
    let relation = cx.snapshot.relation(oid).filter(|_| is_direct)?;
    let grantees = grantees(cx, &evidence[GRANTEES])?;
    let words: Vec<&str> =
        evidence["privileges"].as_array()?.iter().filter_map(Value::as_str).collect();
    let grants = |default: &&DefaultAcl| {
        is_for(default, relation)
            && grantees.iter().all(|grantee| {
                let granted = granted_to(default, *grantee).words();
                words.iter().all(|word| granted.contains(word))
            })
    };
    let default = cx.snapshot.default_acls.iter().find(grants)?;
    let name = format!(" on {} {}", finding.object.object_type, cx.snapshot.relation_sql(relation));
    let (before, after) = finding.detail.split_once(&name)?;
    let key = Key {
        rule: finding.rule.id,
        severity: finding.severity,
        schema: finding.object.schema.clone()?,
        creator: cx.snapshot.role_name(default.role),
        is_for_every_schema: default.schema == 0,
        is_about_sequences: relation.kind == RelationKind::Sequence,
        sentence: (before.to_owned(), after.to_owned()),
        has_statements: !finding.fix.statements().is_empty(),
    };
    Some((key, default))
}

/// Whether default privileges apply to a relation that its owner creates.
fn is_for(default: &DefaultAcl, relation: &Relation) -> bool {
    let kind = if relation.kind == RelationKind::Sequence { b'S' } else { b'r' };
    default.role == relation.owner
        && default.object_type == kind
        && [0, relation.schema].contains(&default.schema)
}

fn granted_to(default: &DefaultAcl, grantee: Oid) -> Privileges {
    let items = default.acl.iter().filter(|item| item.grantee == grantee);
    items.fold(Privileges::NONE, |all, item| all | item.privileges)
}

/// Returns the grantees of these names; `None` where there is one that does not exist, or a role
/// with the name "PUBLIC".
fn grantees(cx: &Context<'_>, names: &Value) -> Option<Vec<Oid>> {
    let grantee = |name: &Value| {
        let name = name.as_str()?;
        match (cx.snapshot.role_named(name), name) {
            (None, "PUBLIC") => Some(PUBLIC),
            (Some(role), name) if name != "PUBLIC" => Some(role.oid),
            _ => None,
        }
    };
    names.as_array()?.iter().map(grantee).collect()
}

impl Group<'_> {
    /// Returns the finding that stands for all members.
    fn finding(&self, cx: &Context<'_>, members: &[Finding], of_defaults: &[Finding]) -> Finding {
        let mut finding = members[0].clone();
        let Key { schema, creator, .. } = &self.key;
        let relations: Vec<Value> = members
            .iter()
            .map(|f| json!({"object": f.object.identity, "fingerprint": f.fingerprint}))
            .collect();
        finding.evidence["default_privileges_of"] = creator.as_str().into();
        finding.evidence["count"] = members.len().into();
        finding.evidence["relations"] = relations.into();
        finding.detail = self.detail(cx, members);
        finding.fingerprint = self.key.fingerprint();
        if self.key.has_statements {
            finding.fix = self.fix(cx, members, of_defaults);
        } else {
            members[1..].iter().for_each(|member| finding.fix.append(member.fix.clone()));
        }
        finding.object.object_type = "schema";
        finding.object.identity = quote_ident(schema).into_owned();
        finding.object.id =
            cx.snapshot.schema_named(schema).map_or(ObjectId::Named, |s| ObjectId::Schema(s.oid));
        finding
    }

    fn detail(&self, cx: &Context<'_>, members: &[Finding]) -> String {
        let Key { schema, creator, sentence: (before, after), .. } = &self.key;
        let kind = members[0].object.object_type;
        let is_same_kind = members.iter().all(|member| member.object.object_type == kind);
        let name = |member: &Finding| match member.object.id {
            ObjectId::Relation(oid) => {
                cx.snapshot.relation(oid).map(|relation| cx.snapshot.relation_sql(relation))
            }
            _ => None,
        };
        let mut named: Vec<String> = members.iter().take(NAMED).filter_map(name).collect();
        match members.len().saturating_sub(NAMED) {
            0 => {}
            1 => named.push("1 other".to_owned()),
            more => named.push(format!("{more} others")),
        }
        format!(
            "{before} on {} {} of schema {}{after} Default privileges of role \"{}\" grant them on \
             new {}: {}.",
            members.len(),
            if is_same_kind { format!("{kind}s") } else { "relations".to_owned() },
            safe_ident(schema),
            printable(creator),
            if self.key.is_about_sequences { "sequences" } else { "tables" },
            listed(&named)
        )
    }

    /// Returns the fix of the cause, where it is not exempt, and those of the members.
    fn fix(&self, cx: &Context<'_>, members: &[Finding], of_defaults: &[Finding]) -> Fix {
        let defaults = default_privileges::identity(cx, self.default);
        let is_cause = |found: &&Finding| {
            found.object.identity == defaults
                && found.roles.iter().all(|role| members[0].roles.contains(role))
        };
        let causes = of_defaults.iter().filter(is_cause);
        let fixes = causes.chain(members).flat_map(|found| found.fix.statements().iter().cloned());
        Fix::Statements(fixes.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::catalog::AclItem;
    use crate::rules::direct_write;
    use crate::rules::testing::World;

    /// Returns a world in which default privileges of the owner have granted what a client has on
    /// some tables.
    fn world(tables: &[&str]) -> World {
        let mut world = World::conforming();
        let (anon, public) = (world.role("anon").oid, world.schema("public").oid);
        let owner = world.relation("public.judgments").owner;
        let left_over = Privileges::TRUNCATE | Privileges::REFERENCES | Privileges::TRIGGER;
        for table in tables {
            world.grant(table, anon, left_over);
        }
        world.snapshot.default_acls = vec![DefaultAcl {
            role: owner,
            schema: public,
            object_type: b'r',
            acl: vec![AclItem {
                grantee: anon,
                grantor: owner,
                privileges: Privileges::ALL_ON_TABLE,
                grantable: Privileges::NONE,
            }]
            .into(),
        }];
        world
    }

    const TABLES: [&str; 4] =
        ["public.judgments", "public.plaintiffs", "public.plaintiff_contacts", "public.job_queue"];

    /// Calls `work` with the findings of rule `direct_write` and their context.
    fn with<T>(world: &World, work: impl FnOnce(&Context<'_>, Vec<Finding>) -> T) -> T {
        let snapshot = world.snapshot.clone().complete();
        let access = Access::new(&snapshot);
        let cx = Context::new(&world.contract, &snapshot, &access, &|| {});
        let found = cx.run(&direct_write::RULE);
        work(&cx, found)
    }

    fn reported(world: &World) -> Vec<Finding> {
        with(world, |cx, found| merged(cx, found, || cx.run(&default_privileges::RULE)))
    }

    #[test]
    fn privileges_of_the_same_default_privileges_are_one_finding() {
        let world = world(&TABLES);
        let found = reported(&world);
        let details: Vec<&str> = found.iter().map(|f| f.detail.as_str()).collect();
        assert_eq!(
            details,
            ["Role \"anon\" has TRUNCATE, REFERENCES, TRIGGER on 4 tables of schema public, \
              which the contract does not declare. Default privileges of role \"postgres\" grant \
              them on new tables: public.job_queue, public.judgments, public.plaintiff_contacts \
              and 1 other."]
        );
        assert_eq!((found[0].object.object_type, found[0].role()), ("schema", Some("anon")));
        let relations = found[0].evidence["relations"].as_array().unwrap();
        assert_eq!((relations.len(), &found[0].evidence["count"]), (4, &json!(4)));
        assert_eq!(relations[3]["object"], "public.plaintiffs");
        let fix = found[0].fix.sql().unwrap();
        let lines: Vec<&str> = fix.lines().collect();
        assert_eq!(lines.len(), 5, "{fix}");
        assert!(
            lines[0].starts_with("ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public")
        );
        assert_eq!(
            lines[1],
            "REVOKE TRUNCATE, REFERENCES, TRIGGER ON TABLE public.job_queue FROM anon;"
        );
    }

    #[test]
    fn fingerprint_does_not_depend_on_the_relations() {
        let (few, more) = (reported(&world(&TABLES[..2])), reported(&world(&TABLES)));
        assert_eq!(few[0].fingerprint, more[0].fingerprint);
        with(&world(&TABLES), |cx, found| {
            let all: Vec<&Finding> = found.iter().collect();
            let (object, members) = members(cx, &all, &few[0].fingerprint).unwrap();
            assert_eq!((object.as_str(), members.len()), ("public", 4));
        });
        let mut of_two = world(&TABLES);
        let authenticated = of_two.role("authenticated").oid;
        let item = AclItem { grantee: authenticated, ..of_two.snapshot.default_acls[0].acl[0] };
        of_two.snapshot.default_acls[0].acl.push(item);
        for table in TABLES {
            let left_over = Privileges::TRUNCATE | Privileges::REFERENCES | Privileges::TRIGGER;
            of_two.grant(table, authenticated, left_over);
        }
        let found = reported(&of_two);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].roles, ["anon", "authenticated"]);
        assert_ne!(found[0].fingerprint, more[0].fingerprint);
    }

    #[test]
    fn findings_without_a_common_cause_stay_separate() {
        let mut other = world(&TABLES);
        other.snapshot.default_acls[0].role = other.role("anon").oid;
        assert_eq!(reported(&other).len(), 4, "the default privileges of another role");
        let mut other = world(&TABLES);
        other.snapshot.default_acls[0].acl[0].privileges = Privileges::TRUNCATE;
        assert_eq!(reported(&other).len(), 4, "the default privileges grant less");
        assert_eq!(reported(&world(&TABLES[..1]))[0].object.identity, "public.judgments");
        let mut other = world(&TABLES);
        let anon = other.role("anon").oid;
        other.grant("public.judgments", anon, Privileges::UPDATE);
        let found = reported(&other);
        assert_eq!(found.len(), 2, "{found:?}");
        let exempt = with(&world(&TABLES), |cx, mut found| {
            found[1].evidence["exemption"] = json!({"id": 1});
            merged(cx, found, Vec::new)
        });
        assert_eq!(exempt.len(), 2, "an exemption is about one relation");
        assert!(!exempt[0].fix.sql().unwrap().contains("DEFAULT"), "{:?}", exempt[0].fix);
    }
}
