//! What has to be declared for a role, a schema or a relation that the contract does not declare
//! yet, so that what the role may do already, or what is granted there, is no finding.

use super::candidates::{add, candidates};
use super::{Declaration, Grant, Name, RowSecurity, Target};
use crate::catalog::ObjectId;
use crate::finding::Finding;
use crate::rules::Context;
use std::collections::HashSet;

/// Returns what has to be declared beside the roles, schemas and relations that `declarations`
/// create, so that what is granted to these roles, in these schemas, or on these relations, is no
/// finding: also what the roles have through PUBLIC, which may have what is declared for all. `cx`
/// is the catalog with the contract that declares them, and `left` the findings then, each with
/// whether it would not be there without the declarations.
pub(crate) fn for_created<'f>(
    cx: &Context<'_>,
    declarations: &[Declaration],
    left: impl Iterator<Item = (&'f Finding, bool)>,
) -> Vec<Declaration> {
    let (mut roles, mut schemas, mut relations) = (HashSet::new(), HashSet::new(), HashSet::new());
    for one in declarations {
        match one {
            Declaration::Create(Target::Role(name)) => _ = roles.insert(name.as_str()),
            Declaration::Create(Target::Schema(name)) => _ = schemas.insert(name.as_str()),
            Declaration::Create(
                Target::Table(name)
                | Target::View(name)
                | Target::MaterializedView(name)
                | Target::Sequence(name),
            )
            | Declaration::CreateView { name, .. } => _ = relations.insert(name.clone()),
            _ => {}
        }
    }
    if roles.is_empty() && schemas.is_empty() && relations.is_empty() {
        return vec![];
    }
    let is_of_relation =
        |finding: &Finding| relation(cx, finding).is_some_and(|name| relations.contains(&name));
    let is_of_role = |role: &String| role == "PUBLIC" || roles.contains(role.as_str());
    let mut all = Vec::new();
    for (finding, is_added) in left {
        let is_in_new = finding.object.schema.as_deref().is_some_and(|s| schemas.contains(s))
            || is_added && is_of_relation(finding);
        let is_of_new = !finding.roles.is_empty() && finding.roles.iter().all(is_of_role);
        if !(is_in_new || is_of_new) || finding.evidence["problem"] == "missing" {
            continue;
        }
        let only_new = |mut named: Vec<String>| {
            named.retain(|role| is_in_new || roles.contains(role.as_str()));
            named
        };
        let permissions = candidates(cx, finding).into_iter().filter_map(|one| match one {
            Declaration::Grant(Grant { is_revoke: true, .. }) => None,
            Declaration::Grant(mut grant) => {
                grant.roles = only_new(grant.roles);
                (!grant.roles.is_empty()).then_some(Declaration::Grant(grant))
            }
            Declaration::CreatePolicy(mut policy) => {
                policy.roles = only_new(policy.roles);
                (!policy.roles.is_empty()).then_some(Declaration::CreatePolicy(policy))
            }
            Declaration::Create(_)
            | Declaration::RowSecurity(_, RowSecurity::Enable | RowSecurity::Force)
            | Declaration::CreateView { .. }
            | Declaration::CreateFunction { .. } => Some(one),
            _ => None,
        });
        permissions.for_each(|one| add(&mut all, one));
    }
    all
}

/// Returns the name of the relation that a finding is about.
fn relation(cx: &Context<'_>, finding: &Finding) -> Option<Name> {
    let ObjectId::Relation(oid) = finding.object.id else { return None };
    let relation = cx.snapshot.relation(oid)?;
    Some(Name::new(cx.snapshot.schema_name(relation.schema), &relation.name))
}

#[cfg(test)]
mod tests {
    use crate::catalog::{PUBLIC, Privileges};
    use crate::declare::accepting;
    use crate::finding::Finding;
    use crate::rules::testing::World;
    use crate::rules::{undeclared_role_privileges, ungoverned_schema_access};

    /// Returns the statements that accept findings.
    fn accepted(world: &World, findings: &[Finding]) -> String {
        world.compared_with(world, |cx, _| {
            let findings: Vec<&Finding> = findings.iter().collect();
            let accepted = accepting(cx, &findings).expect("declarations");
            let statements: Vec<String> =
                accepted.declarations.iter().map(ToString::to_string).collect();
            statements.join("; ")
        })
    }

    #[test]
    fn new_role_is_declared_with_what_it_has_by_itself_and_through_public() {
        let mut world = World::conforming();
        world.add_role("reports");
        let reports = world.role("reports").oid;
        world.grant_schema("public", reports, Privileges::USAGE);
        world.relation("public.plaintiffs").column_names = ["name".to_owned()].into();
        world.grant_column("public.plaintiffs", "name", reports, Privileges::SELECT);
        let findings = world.findings(&undeclared_role_privileges::RULE);
        assert_eq!(
            accepted(&world, &findings),
            "CREATE ROLE reports; GRANT USAGE ON SCHEMA public TO reports; GRANT SELECT (name) ON \
             TABLE public.plaintiffs TO reports"
        );
        world.grant_schema("api", PUBLIC, Privileges::USAGE);
        assert!(accepted(&world, &findings).ends_with("; GRANT USAGE ON SCHEMA api TO reports"));
    }

    #[test]
    fn new_schema_is_declared_with_the_grants_on_its_objects() {
        let mut world = World::conforming();
        let anon = world.role("anon").oid;
        let mut schema = world.schema("api").clone();
        (schema.oid, schema.name, schema.acl) = (900, "more".into(), Some(vec![].into()));
        world.snapshot.schemas.push(schema);
        let mut view = world.relation("public.v_judgment_pipeline").clone();
        (view.oid, view.name, view.schema, view.acl) = (901, "v".into(), 900, Some(vec![].into()));
        world.add_relation(view);
        world.grant_schema("more", anon, Privileges::USAGE);
        world.grant("more.v", anon, Privileges::SELECT);
        let findings = world.findings(&ungoverned_schema_access::RULE);
        assert_eq!(
            accepted(&world, &findings),
            "CREATE SCHEMA more; GRANT USAGE ON SCHEMA more TO anon; CREATE VIEW more.v AS SELECT; \
             GRANT SELECT ON TABLE more.v TO anon"
        );
    }

    #[test]
    fn table_of_a_new_schema_is_declared_with_its_row_security() {
        let mut world = World::conforming();
        let anon = world.role("anon").oid;
        let mut schema = world.schema("api").clone();
        (schema.oid, schema.name, schema.acl) = (900, "more".into(), Some(vec![].into()));
        world.snapshot.schemas.push(schema);
        let mut table = world.relation("public.judgments").clone();
        (table.oid, table.name, table.schema, table.acl) =
            (901, "t".into(), 900, Some(vec![].into()));
        (table.row_security, table.force_row_security) = (true, true);
        world.add_relation(table);
        world.grant_schema("more", anon, Privileges::USAGE);
        world.grant("more.t", anon, Privileges::SELECT);
        let findings = world.findings(&ungoverned_schema_access::RULE);
        let accepted = accepted(&world, &findings);
        let expected = "CREATE TABLE more.t (); ALTER TABLE more.t ENABLE ROW LEVEL SECURITY; \
                        ALTER TABLE more.t FORCE ROW LEVEL SECURITY; GRANT SELECT ON TABLE more.t \
                        TO anon";
        assert!(accepted.contains(expected), "{accepted}");
    }
}
