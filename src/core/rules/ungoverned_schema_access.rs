//! A client, or PUBLIC, can use a schema that the contract does not govern; one finding for each
//! role and schema.

use super::context::{Context, granted_to_any};
use super::shared::holdings::{Holdings, Kind, Revoked};
use super::shared::privileges::role_subject;
use crate::access::Access;
use crate::catalog::{
    AclItem, ObjectId, ObjectKind, Oid, PUBLIC, Privileges, Relation, RelationKind, Role, Routine,
    Schema,
};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::{Fix, Grantee};
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{listed, safe_ident};
use serde_json::json;
use std::collections::{BTreeSet, HashMap};

/// The rule.
pub static RULE: Rule = Rule {
    id: "ungoverned_schema_access",
    title: "A client can use a schema that the contract does not govern",
    area: Area::Grants,
    severity: Severity::Warning,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidGrantOperation,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Client roles use only schemas that the contract governs, those of the server and of \
             the platform, and schemas that contain nothing but members of extensions. Views over \
             governed tables are named first. Routines count if they are SECURITY DEFINER.",
    why: "No other rule checks the objects of such a schema. A view there, which reads tables with \
          the privileges of its owner, shows the rows that the contract protects.",
    fix: "Add the schema to the contract, or revoke USAGE. The fix is a proposal, because it is \
          not known what the schema is for.",
    exempt: "A schema without data of the application, such as one of a tool.",
    exempt_by_pattern: true,
    example: Example {
        violating: "CREATE SCHEMA reports; \
                    CREATE VIEW reports.names AS SELECT name FROM public.plaintiffs; \
                    GRANT USAGE ON SCHEMA reports TO anon; \
                    GRANT SELECT ON reports.names TO anon;",
        correct: "CREATE SCHEMA reports; \
                  CREATE VIEW reports.names AS SELECT name FROM public.plaintiffs; \
                  GRANT SELECT ON reports.names TO service_role;",
    },
    references: &["CWE-732"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for objects in Objects::of_ungoverned(cx) {
        if !objects.may_concern_clients(cx) {
            continue;
        }
        rows.extend(row(cx, &objects, None));
        rows.extend(cx.clients.iter().filter_map(|client| row(cx, &objects, Some(client))));
    }
    // Views that show governed rows come first.
    rows.sort_by_key(|row| row.views.is_empty());
    out.extend(rows.into_iter().map(|row| row.draft(cx)));
}

/// A schema with the objects in it that are not members of extensions.
struct Objects<'a> {
    schema: &'a Schema,
    relations: Vec<&'a Relation>,
    /// SECURITY DEFINER routines: others run with the privileges of their caller.
    routines: Vec<&'a Routine>,
}

impl<'a> Objects<'a> {
    /// Returns the objects of each schema that the contract does not govern.
    fn of_ungoverned(cx: &Context<'a>) -> Vec<Self> {
        let snapshot = cx.snapshot;
        // Of thousands, few may be wanted.
        let wanted = snapshot.schemas.iter().filter(|schema| cx.wants_schema(schema.oid));
        let mut found: Vec<Self> = wanted
            .filter(|schema| cx.is_ungoverned(schema))
            .map(|schema| Self { schema, relations: vec![], routines: vec![] })
            .collect();
        let places: HashMap<Oid, usize> =
            found.iter().enumerate().map(|(place, objects)| (objects.schema.oid, place)).collect();
        for relation in &snapshot.relations {
            if let Some(place) = places.get(&relation.schema)
                && !(snapshot.relation_extension.contains_key(&relation.oid)
                    && is_created_by_extension(cx, relation))
            {
                found[*place].relations.push(relation);
            }
        }
        for routine in snapshot.routines.iter().filter(|routine| routine.security_definer) {
            // Extensions create routines as a superuser, or as a role of the platform. The owner of
            // an extension can add others to it.
            let is_created_by_extension = || {
                snapshot.routine_extension.contains_key(&routine.oid)
                    && (cx.access.is_superuser(routine.owner)
                        || cx.managed_role(routine.owner).is_some())
            };
            if let Some(place) = places.get(&routine.schema)
                && !is_created_by_extension()
            {
                found[*place].routines.push(routine);
            }
        }
        found
    }

    /// Whether there is an object that is not a member of an extension, or no object at all: a
    /// schema that only contains an extension is not reported.
    fn may_concern_clients(&self, cx: &Context<'_>) -> bool {
        let has_objects = !(self.relations.is_empty() && self.routines.is_empty());
        has_objects || !cx.snapshot.contents.contains_key(&self.schema.oid)
    }
}

/// Whether a member of an extension is what the extension created. The owner of an extension can
/// add views of its own to it; an extension itself has no views over governed tables.
fn is_created_by_extension(cx: &Context<'_>, member: &Relation) -> bool {
    cx.access.is_superuser(member.owner) || governed_sources(cx, member).is_empty()
}

/// What one role can do in one schema.
struct Row<'a> {
    schema: &'a Schema,
    role: Oid,
    has_usage: bool,
    held: Holdings,
    /// The views that read governed tables with the privileges of their owners, with these tables.
    views: Vec<(String, Vec<String>)>,
}

/// Returns what a client can do by its own privileges or, without a client, what PUBLIC can do;
/// `None` if it is nothing.
fn row<'a>(cx: &Context<'a>, objects: &Objects<'a>, client: Option<&Role>) -> Option<Row<'a>> {
    let schema = objects.schema;
    let own = client.map(|client| cx.own_grantees(client.oid));
    let granted = |acl: &[AclItem]| match &own {
        Some(own) => granted_to_any(own, acl),
        None => Access::public(acl),
    };
    let role = client.map_or(PUBLIC, |client| client.oid);
    let acl = schema.acl.clone().unwrap_or_default();
    let has_usage = granted(&acl).contains(Privileges::USAGE);
    if !has_usage && !Access::public(&acl).contains(Privileges::USAGE) {
        return None;
    }
    let mut row = Row { schema, role, has_usage, held: Holdings::default(), views: vec![] };
    let grantee = Grantee { oid: role, sql: cx.snapshot.grantee(role) };
    let mut hold = |kind, identity: &str, privileges, sql: &dyn Fn() -> String| {
        row.held.add(kind, identity, privileges);
        // Where the role has USAGE on the schema, the fix revokes that alone.
        if !has_usage {
            row.held.add_revoke(&Revoked { sql: &sql(), column: None, privileges }, &grantee);
        }
    };
    for relation in &objects.relations {
        cx.check_interrupts();
        let mut privileges = relation.acl.as_ref().map_or(Privileges::NONE, |acl| granted(acl));
        for (_, acl) in &relation.columns {
            privileges |= granted(acl);
        }
        if privileges.is_empty() {
            continue;
        }
        let (kind, keyword) = match relation.kind {
            RelationKind::Sequence => (Kind::Sequence, "SEQUENCE"),
            _ => (Kind::Relation, "TABLE"),
        };
        hold(kind, &cx.snapshot.relation_identity(relation), privileges, &|| {
            format!("{keyword} {}", cx.snapshot.relation_sql(relation))
        });
        if privileges.intersects(Privileges::SELECT | Privileges::WRITES) {
            let tables = governed_sources(cx, relation);
            if !tables.is_empty() {
                row.views.push((cx.snapshot.relation_sql(relation), tables));
            }
        }
    }
    for routine in &objects.routines {
        let default = ObjectKind::Routine.default_acl(routine.owner);
        let privileges = granted(routine.acl.as_deref().unwrap_or(&default));
        if !privileges.is_empty() {
            hold(Kind::Routine, &cx.snapshot.routine_identity(routine), privileges, &|| {
                format!("ROUTINE {}", cx.snapshot.routine_sql(routine))
            });
        }
    }
    // USAGE that PUBLIC has, such as on schema public, is used by its own or a client's privileges.
    let is_used = !row.held.is_empty() || (has_usage && role != PUBLIC);
    is_used.then_some(row)
}

/// Returns the governed tables and views that a view reads, directly or through other views, with
/// the privileges of its owner; nothing for a table, and for a view with `security_invoker`.
fn governed_sources(cx: &Context<'_>, view: &Relation) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::from([view.oid]);
    let mut queue = if view.security_invoker { vec![] } else { vec![view.oid] };
    while let Some(oid) = queue.pop() {
        cx.check_interrupts();
        for source in cx.snapshot.view_sources.get(&oid).into_iter().flatten() {
            let relation = cx.snapshot.relation(*source);
            match relation.filter(|relation| cx.governed(relation.schema).is_some()) {
                Some(governed) => {
                    found.insert(cx.snapshot.relation_sql(governed));
                }
                None if seen.insert(*source) => queue.push(*source),
                None => {}
            }
        }
    }
    found.into_iter().collect()
}

/// The number of views that a sentence names.
const NAMED: usize = 3;

impl Row<'_> {
    fn draft(self, cx: &Context<'_>) -> Draft {
        let name = cx.snapshot.role_name(self.role);
        let sql = safe_ident(&self.schema.name);
        let subject = role_subject(self.role, &name);
        let verb = if self.has_usage { "has USAGE on" } else { "can use" };
        let mut detail =
            format!("{subject} {verb} schema {sql}, which the contract does not govern");
        if !self.held.is_empty() {
            detail += &format!(", with {}", self.held.summary());
        }
        if !self.views.is_empty() {
            detail += &format!("; {}", self.described_views());
        }
        detail.push('.');
        let object = crate::catalog::Object {
            id: ObjectId::Schema(self.schema.oid),
            ..Context::schema_object(&self.schema.name)
        };
        let grantee = cx.snapshot.grantee(self.role);
        let revoke = if self.has_usage {
            format!("REVOKE USAGE ON SCHEMA {sql} FROM {grantee};")
        } else {
            self.held.revoke()
        };
        let text =
            format!("Add schema {sql} to the contract if it is intended. Otherwise:\n{revoke}");
        let views: Vec<_> = self
            .views
            .iter()
            .map(|(view, tables)| json!({"view": view, "reads": tables}))
            .collect();
        let mut words = self.held.words();
        if self.has_usage && !words.contains(&"USAGE") {
            words.push("USAGE");
        }
        Draft::new(object, Severity::Warning, detail)
            .grantee(self.role, name)
            .evidence(json!({
                "usage": self.has_usage,
                "privileges": self.held.evidence(),
                "views": views,
            }))
            .fix(Fix::Proposal(text))
            .measure(Measure::excess("", words).limited_to(GuardAction::Warn))
    }

    /// Returns what the first views show, and the number of the others.
    fn described_views(&self) -> String {
        let mut parts: Vec<String> = self
            .views
            .iter()
            .take(NAMED)
            .map(|(view, tables)| {
                let first: Vec<&String> = tables.iter().take(NAMED).collect();
                let first: Vec<&str> = first.into_iter().map(String::as_str).collect();
                let more = if tables.len() > NAMED { " and others" } else { "" };
                format!(
                    "view {view} reads {}{more} with the privileges of its owner",
                    if more.is_empty() { listed(&first) } else { first.join(", ") }
                )
            })
            .collect();
        if self.views.len() > NAMED {
            parts.push(format!("{} other views do as well", self.views.len() - NAMED));
        }
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Oid, PUBLIC, Privileges, Relation, RelationKind, Schema};

    const REPORTS: Oid = 900;

    /// Returns a world with a schema that the contract does not govern and a view in it.
    fn world() -> World {
        let mut world = World::conforming();
        let owner = world.role("postgres").oid;
        world.snapshot.schemas.push(Schema {
            oid: REPORTS,
            name: "reports".into(),
            owner,
            acl: Some(vec![].into()),
        });
        world.add_relation(Relation {
            oid: 901,
            name: "v".into(),
            schema: REPORTS,
            owner,
            kind: RelationKind::View,
            acl: Some(vec![].into()),
            ..Relation::default()
        });
        let source = world.relation("public.judgments").oid;
        world.snapshot.view_sources.insert(901, vec![source]);
        world
    }

    #[test]
    fn view_over_a_governed_table_is_named() {
        let mut world = world();
        assert_eq!(world.found(&RULE), [""; 0]);
        let anon = world.role("anon").oid;
        world.grant("reports.v", anon, Privileges::SELECT);
        assert_eq!(world.found(&RULE), [""; 0], "without USAGE it cannot be used");
        world.grant_schema("reports", anon, Privileges::USAGE);
        assert_eq!(
            world.found(&RULE),
            ["warning schema reports anon: Role \"anon\" has USAGE on schema reports, which the \
              contract does not govern, with SELECT on 1 relation; view reports.v reads \
              public.judgments with the privileges of its owner."]
        );
        assert_eq!(world.fixes(&RULE), [""; 0]);
        world.relation("reports.v").security_invoker = true;
        assert!(!world.found(&RULE)[0].contains("reads"));
    }

    #[test]
    fn usage_of_public_counts_where_something_can_be_used() {
        let mut world = world();
        world.grant_schema("reports", PUBLIC, Privileges::USAGE);
        assert_eq!(world.found(&RULE), [""; 0]);
        let anon = world.role("anon").oid;
        world.grant("reports.v", anon, Privileges::SELECT);
        assert_eq!(
            world.found(&RULE),
            ["warning schema reports anon: Role \"anon\" can use schema reports, which the \
              contract does not govern, with SELECT on 1 relation; view reports.v reads \
              public.judgments with the privileges of its owner."]
        );
        world.relation("reports.v").acl = Some(vec![].into());
        world.grant("reports.v", PUBLIC, Privileges::SELECT);
        let found = world.found(&RULE);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("warning schema reports PUBLIC"), "{found:?}");
    }

    #[test]
    fn schemas_of_the_platform_and_of_extensions_are_not_reported() {
        let mut world = world();
        let anon = world.role("anon").oid;
        world.grant_schema("reports", anon, Privileges::USAGE);
        assert_eq!(world.findings(&RULE).len(), 1);
        world.snapshot.relation_extension.insert(901, 1);
        world.snapshot.contents.entry(REPORTS).or_default();
        assert_eq!(world.findings(&RULE).len(), 1, "its owner can have added it to the extension");
        let sources = world.snapshot.view_sources.remove(&901).unwrap();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.snapshot.view_sources.insert(901, sources);
        world.relation("reports.v").owner = world.role("root").oid;
        assert_eq!(world.found(&RULE), [""; 0]);
        world.snapshot.relation_extension.clear();
        world.contract.managed.schemas.push("reports".into());
        world.schema("reports").owner = world.role("root").oid;
        assert_eq!(world.found(&RULE), [""; 0]);
    }

    #[test]
    fn listed_schema_of_another_owner_than_the_platform_is_reported() {
        let mut world = world();
        let anon = world.role("anon").oid;
        world.grant_schema("reports", anon, Privileges::USAGE);
        world.contract.managed.schemas.push("repo*".into());
        world.contract.managed.schemas.push("reports".into());
        assert_eq!(world.findings(&RULE).len(), 1, "it belongs to an owner of the contract");
        world.add_role("platform_admin");
        world.schema("reports").owner = world.role("platform_admin").oid;
        assert_eq!(world.findings(&RULE).len(), 1);
        world.contract.managed.roles.push("platform_admin".into());
        assert_eq!(world.found(&RULE), [""; 0]);
        // What the contract lists for another platform, a member of an extension that a trusted
        // owner has installed, is not reported either.
        world.contract.managed.roles.clear();
        world.schema("reports").owner = world.role("postgres").oid;
        world.relation("reports.v").owner = world.role("root").oid;
        world.snapshot.relation_extension.insert(901, 1);
        world.snapshot.contents.entry(REPORTS).or_default();
        assert_eq!(world.found(&RULE), [""; 0]);
    }
}
