//! A role that the contract does not declare has privileges in a governed schema; one finding for
//! each role and schema.

use super::context::Context;
use super::shared::holdings::{Holdings, Kind, Revoked};
use super::shared::target::Target;
use crate::catalog::{ObjectId, ObjectKind, Oid, PUBLIC, Privileges};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::{Fix, Grantee};
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{printable, safe_ident};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};

/// The rule.
pub static RULE: Rule = Rule {
    id: "undeclared_role_privileges",
    title: "An undeclared role has privileges in a governed schema",
    area: Area::Grants,
    severity: Severity::Warning,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidGrantOperation,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Only roles that the contract declares have privileges on governed schemas and the \
             objects in them. Not counted are PUBLIC, superusers, predefined and managed roles, \
             and roles that can act as the owner of the object. An undeclared role that a login \
             role can become is checked like a client instead.",
    why: "The contract says nothing about the role, so what it can do has not been reviewed, and \
          no other rule checks it.",
    fix: "Declare the role with its kind and its privileges, add it to the managed roles, or \
          revoke the privileges. The fix is a proposal, because it is not known what they are for.",
    exempt: "A role of a tool, for example for backups or reports, that is granted and reviewed \
             elsewhere.",
    exempt_by_pattern: true,
    example: Example {
        violating: "CREATE ROLE reports; GRANT SELECT ON public.plaintiffs TO reports;",
        correct: "CREATE ROLE reports; GRANT SELECT ON public.plaintiffs TO service_role;",
    },
    references: &["CWE-732"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let mut found = Found { cx, is_checked: HashMap::new(), held: BTreeMap::new() };
    for (schema, _) in cx.schemas() {
        found.add(&Target::of_schema(cx, schema), Kind::Schema, schema.oid);
    }
    for (relation, _) in cx.relations() {
        if !found.concerns(relation.acl.iter().chain(relation.columns.iter().map(|(_, acl)| acl))) {
            continue;
        }
        let target = Target::of_relation(cx, relation);
        let is_sequence = target.kind == ObjectKind::Sequence;
        let kind = if is_sequence { Kind::Sequence } else { Kind::Relation };
        found.add(&target, kind, relation.schema);
        for (column, acl) in &relation.columns {
            let target = Target::of_column(cx, relation, column, acl);
            found.add(&target, Kind::Column, relation.schema);
        }
    }
    for (routine, _) in cx.routines() {
        if found.concerns(routine.acl.iter()) {
            found.add(&Target::of_routine(cx, routine), Kind::Routine, routine.schema);
        }
    }
    let held = found.held;
    out.extend(
        held.into_iter().map(|((_, _), (schema, role, held))| draft(cx, schema, role, &held)),
    );
}

/// The privileges of undeclared roles.
struct Found<'c, 'a> {
    cx: &'c Context<'a>,
    /// Whether the rule is about a role. There can be thousands of roles.
    is_checked: HashMap<Oid, bool>,
    /// By the names of schema and role.
    held: BTreeMap<(String, String), (Oid, Oid, Holdings)>,
}

impl Found<'_, '_> {
    /// Whether one of these ACLs contains a role that the rule is about.
    fn concerns<'x>(&mut self, acls: impl Iterator<Item = &'x crate::catalog::Acl>) -> bool {
        acls.flatten().any(|item| self.is_checked(item.grantee))
    }

    fn is_checked(&mut self, role: Oid) -> bool {
        let cx = self.cx;
        *self.is_checked.entry(role).or_insert_with(|| is_checked(cx, role))
    }

    /// Adds the privileges of each such role on one object.
    fn add(&mut self, target: &Target<'_>, kind: Kind, schema: Oid) {
        let cx = self.cx;
        if target.object.managed_by.is_some() {
            return;
        }
        let mut privileges: BTreeMap<Oid, Privileges> = BTreeMap::new();
        for item in target.acl.into_iter().flatten() {
            if self.is_checked(item.grantee) && !acts_as(cx, item.grantee, target.owner) {
                let beyond = item.privileges & !permitted(cx, kind, schema, item.grantee);
                if !beyond.is_empty() {
                    *privileges.entry(item.grantee).or_default() |= beyond;
                }
            }
        }
        if privileges.is_empty() {
            return;
        }
        let identity = match target.columns[..] {
            [] => target.object.identity.clone(),
            ref columns => format!("{}.{}", target.object.identity, columns.join(", ")),
        };
        let sql = format!("{} {}", target.keyword, target.sql);
        let column = target.columns.first().map(|column| safe_ident(column));
        for (role, privileges) in privileges {
            let grantee = Grantee { oid: role, sql: cx.snapshot.grantee(role) };
            let key = (cx.snapshot.schema_name(schema).to_owned(), cx.snapshot.role_name(role));
            let (_, _, holdings) =
                self.held.entry(key).or_insert_with(|| (schema, role, Holdings::default()));
            holdings.add(kind, &identity, privileges);
            let revoked = Revoked { sql: &sql, column: column.as_deref(), privileges };
            holdings.add_revoke(&revoked, &grantee);
        }
    }
}

/// Whether the contract does not restrict a role in another way.
pub(crate) fn is_checked(cx: &Context<'_>, role: Oid) -> bool {
    let Some(known) = cx.snapshot.role(role).filter(|_| role != PUBLIC) else { return false };
    cx.contract.role(&known.name).is_none()
        && !known.superuser
        && !known.is_predefined()
        && !cx.is_trusted_owner(role)
        && !cx.is_client(role)
        && cx.managed_role(role).is_none()
        && role != cx.snapshot.database.owner
}

/// Returns the privileges that the contract permits an undeclared role, which is one that may read
/// the audits.
fn permitted(cx: &Context<'_>, kind: Kind, schema: Oid, role: Oid) -> Privileges {
    match cx.snapshot.schema(schema) {
        Some(schema) if kind == Kind::Schema => {
            cx.usage_for_audits(schema, &cx.snapshot.role_name(role))
        }
        _ => Privileges::NONE,
    }
}

/// Whether a role has the privileges of the owner, whatever is granted to it.
fn acts_as(cx: &Context<'_>, role: Oid, owner: Oid) -> bool {
    cx.access.has_privileges_of(role, owner) || cx.access.can_set_role(role, owner)
}

fn draft(cx: &Context<'_>, schema: Oid, role: Oid, held: &Holdings) -> Draft {
    let (schema_name, role_name) = (cx.snapshot.schema_name(schema), cx.snapshot.role_name(role));
    let sql = safe_ident(schema_name);
    let shown = printable(&role_name);
    let detail = format!(
        "Role \"{shown}\", which the contract does not declare, has {} in schema {sql}.",
        held.summary()
    );
    let object = crate::catalog::Object {
        id: ObjectId::Schema(schema),
        ..Context::schema_object(schema_name)
    };
    let text = format!(
        "Declare role \"{shown}\" if these privileges are intended. Otherwise:\n{}",
        held.revoke()
    );
    Draft::new(object, Severity::Warning, detail)
        .role(role_name)
        .evidence(json!({"privileges": held.evidence()}))
        .fix(Fix::Proposal(text))
        .measure(Measure::excess("", held.words()).limited_to(GuardAction::Warn))
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{PUBLIC, Privileges};
    use crate::contract::RoleKind;

    #[test]
    fn privileges_of_an_undeclared_role_are_one_finding_for_each_schema() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.add_role("reports");
        let reports = world.role("reports").oid;
        world.grant_schema("public", reports, Privileges::USAGE);
        world.grant("public.judgments", reports, Privileges::SELECT);
        world.grant("public.plaintiffs", reports, Privileges::SELECT | Privileges::UPDATE);
        world.grant("ops.event_log", reports, Privileges::INSERT);
        world.grant("ops.event_log", PUBLIC, Privileges::SELECT);
        assert_eq!(
            world.found(&RULE),
            [
                "warning schema ops reports: Role \"reports\", which the contract does not \
                 declare, has INSERT on 1 relation in schema ops.",
                "warning schema public reports: Role \"reports\", which the contract does not \
                 declare, has USAGE, SELECT on 2 relations and UPDATE on 1 relation in schema \
                 public.",
            ]
        );
        assert_eq!(world.fixes(&RULE), [""; 0], "it is not known what they are for");
    }

    #[test]
    fn reader_of_the_audits_may_use_their_schema_only() {
        let mut world = World::conforming();
        world.add_role("grafana");
        let grafana = world.role("grafana").oid;
        world.grant_schema("ops", grafana, Privileges::USAGE);
        assert_eq!(world.found(&RULE).len(), 1);
        world.contract.readers = Some(vec!["grafana".into()]);
        assert_eq!(world.found(&RULE), [""; 0]);
        world.grant_schema("ops", grafana, Privileges::CREATE);
        world.grant("ops.event_log", grafana, Privileges::SELECT);
        assert_eq!(
            world.found(&RULE),
            ["warning schema ops grafana: Role \"grafana\", which the contract does not declare, \
              has CREATE and SELECT on 1 relation in schema ops."]
        );
    }

    #[test]
    fn roles_that_the_contract_restricts_otherwise_are_not_counted() {
        let mut world = World::conforming();
        for name in ["boss", "pg_monitor", "platform_admin", "dba", "web_admin"] {
            world.add_role(name);
        }
        world.role("boss").superuser = true;
        world.contract.managed.roles = vec!["platform_*".into()];
        world.grant_role("postgres", "dba");
        world.add_login("authenticator");
        world.declare("authenticator", RoleKind::Login);
        for role in ["anon", "authenticated", "web_admin"] {
            world.grant_role_without_inherit(role, "authenticator");
        }
        for name in ["boss", "pg_monitor", "platform_admin", "dba", "web_admin"] {
            let role = world.role(name).oid;
            world.grant("public.judgments", role, Privileges::SELECT);
        }
        assert_eq!(world.found(&RULE), [""; 0]);
        let table_privileges = &super::super::table_privileges::RULE;
        assert_eq!(
            world.found(table_privileges),
            ["error table public.judgments web_admin: Role \"web_admin\" has SELECT on table \
              public.judgments, which the contract does not declare. => REVOKE SELECT ON TABLE \
              public.judgments FROM web_admin;"],
            "requests can become it"
        );
    }
}
