//! Default privileges that grant new objects to a client.

use super::context::Context;
use super::shared::privileges::role_object;
use crate::catalog::{DefaultAcl, Object, ObjectId, Oid, PUBLIC, Privileges, Role};
use crate::contract::{GuardAction, SchemaDecl, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::{Change, Fix, Statement, alter_default_privileges, default_acl_objects};
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{printable, quote_ident, safe_ident};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "default_privileges",
    title: "Default privileges grant new objects to a client role",
    area: Area::Grants,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidGrantOperation,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No default privileges grant a client role, a group of one or PUBLIC privileges on \
             objects created later, beyond what the contract declares. Those of managed roles are \
             the platform's, and only information.",
    why: "The next object that the role creates is open before it has been reviewed.",
    fix: "Run ALTER DEFAULT PRIVILEGES ... REVOKE, and grant privileges on each object.",
    exempt: "Default privileges that the platform sets for a role that creates no objects in \
             governed schemas.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT SELECT ON \
                    TABLES TO anon;",
        correct: "ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT SELECT ON \
                  TABLES TO service_role;",
    },
    references: &["CWE-276"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for default in &cx.snapshot.default_acls {
        let governed = cx.governed(default.schema);
        if default.schema != 0 && governed.is_none() {
            continue;
        }
        let Some(word) = default_acl_objects(default.object_type) else { continue };
        let creator = cx.snapshot.role_name(default.role);
        let in_schema =
            governed.map(|s| format!(" in schema {}", safe_ident(&s.name))).unwrap_or_default();
        for item in &default.acl {
            // The creator owns the new object anyway.
            if item.grantee == default.role {
                continue;
            }
            let Some(client) = client_through(cx, item.grantee) else { continue };
            let role = cx.snapshot.role_name(item.grantee);
            let expected = expected(cx, default.object_type, governed, client);
            let privileges = (item.privileges & !expected) | item.grantable;
            if privileges.is_empty() {
                continue;
            }
            let objects = word.to_lowercase();
            let mut grantee = role_object(item.grantee, &role);
            if client != item.grantee {
                let client = cx.snapshot.role_name(client);
                grantee += &format!(", whose privileges role \"{}\" inherits", printable(&client));
            }
            let detail = format!(
                "Default privileges of role \"{}\" grant {privileges} on new \
                 {objects}{in_schema} to {grantee}.",
                printable(&creator),
            );
            let object = Object {
                managed_by: cx.managed_role(default.role),
                ..object(governed, &creator, &objects)
            };
            let draft = Draft::new(object, Severity::Error, detail)
                .grantee(item.grantee, role)
                .key(privileges.to_string())
                .evidence(json!({"creator": creator, "privileges": privileges.words()}))
                .fix(Fix::by(revoke(cx, default, word, item.grantee, privileges)))
                .measure(Measure::excess("", privileges.words()));
            out.push(draft);
        }
    }
}

/// Returns the client that has what is granted to a role, or PUBLIC: the role itself, or the first
/// client that inherits the privileges of an undeclared role. (One that a client can become without
/// inheriting them is a client itself.)
fn client_through(cx: &Context<'_>, grantee: Oid) -> Option<Oid> {
    if grantee == PUBLIC || cx.is_client(grantee) {
        return Some(grantee);
    }
    let is_declared = || cx.contract.role(&cx.snapshot.role_name(grantee)).is_some();
    let inherits = |client: &&&Role| cx.own_grantees(client.oid).contains(&grantee);
    let client = cx.clients.iter().find(inherits).filter(|_| !is_declared())?;
    Some(client.oid)
}

/// Returns the identity of default privileges in findings, those for a kind of objects of which no
/// finding exists excepted: it is empty.
pub(crate) fn identity(cx: &Context<'_>, default: &DefaultAcl) -> String {
    let creator = cx.snapshot.role_name(default.role);
    let objects = default_acl_objects(default.object_type).map(str::to_lowercase);
    let governed = cx.governed(default.schema);
    objects.map(|objects| object(governed, &creator, &objects).identity).unwrap_or_default()
}

/// Returns the default ACL as the object of a finding.
fn object(schema: Option<&SchemaDecl>, creator: &str, objects: &str) -> Object {
    let in_schema =
        schema.map(|s| format!(" in schema {}", quote_ident(&s.name))).unwrap_or_default();
    Object {
        object_type: "default acl",
        schema: schema.map(|s| s.name.clone()),
        identity: format!("for role {}{in_schema} on {objects}", quote_ident(creator)),
        managed_by: None,
        id: ObjectId::Named,
    }
}

/// Returns ALTER DEFAULT PRIVILEGES ... REVOKE; `word` is the type of objects in it.
fn revoke(
    cx: &Context<'_>,
    default: &DefaultAcl,
    word: &str,
    grantee: Oid,
    privileges: Privileges,
) -> Statement {
    let change = Change::RevokeDefault {
        role: default.role,
        schema: default.schema,
        object_type: default.object_type,
        grantee,
        privileges,
    };
    let alter = alter_default_privileges(cx.snapshot, default.role, default.schema);
    let from = cx.snapshot.grantee(grantee);
    Statement::new(change, format!("{alter} REVOKE {privileges} ON {word} FROM {from};"))
}

/// Returns the privileges that new objects of this type may grant: the built-in defaults of PUBLIC
/// where the entry is for all schemas, because it then replaces the built-in one; and EXECUTE where
/// all routines of the schema are declared executable.
fn expected(
    cx: &Context<'_>,
    object_type: u8,
    schema: Option<&SchemaDecl>,
    grantee: u32,
) -> Privileges {
    match (object_type, schema) {
        (b'f', None) if grantee == PUBLIC => Privileges::EXECUTE,
        (b'T', None) if grantee == PUBLIC => Privileges::USAGE,
        (b'f', Some(schema))
            if schema.execute_on_routines.contains(&cx.snapshot.role_name(grantee)) =>
        {
            Privileges::EXECUTE
        }
        _ => Privileges::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{AclItem, DefaultAcl, PUBLIC, Privileges};
    use crate::contract::RoleKind;

    #[test]
    fn default_privileges_for_clients_are_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        let anon = world.role("anon").oid;
        let worker = world.role("service_role").oid;
        let role = world.role("postgres").oid;
        let (public, api) = (world.schema("public").oid, world.schema("api").oid);
        let item = |grantee, privileges| AclItem {
            grantee,
            grantor: role,
            privileges,
            grantable: Privileges::NONE,
        };
        let all = Privileges::ALL_ON_TABLE;
        world.snapshot.default_acls = vec![
            DefaultAcl {
                role,
                schema: public,
                object_type: b'r',
                acl: vec![item(anon, all), item(worker, all)].into(),
            },
            DefaultAcl {
                role,
                schema: api,
                object_type: b'f',
                acl: vec![item(anon, Privileges::EXECUTE)].into(),
            },
            DefaultAcl {
                role,
                schema: 0,
                object_type: b'f',
                acl: vec![item(PUBLIC, Privileges::EXECUTE)].into(),
            },
            DefaultAcl {
                role,
                schema: 0,
                object_type: b'n',
                acl: vec![item(PUBLIC, Privileges::CREATE)].into(),
            },
            DefaultAcl {
                role,
                schema: 0,
                object_type: b'L',
                acl: vec![item(anon, Privileges::SELECT)].into(),
            },
        ];
        assert_eq!(
            world.found(&RULE),
            [
                "error default acl for role postgres in schema public on tables anon: Default \
                 privileges of role \"postgres\" grant SELECT, INSERT, UPDATE, DELETE, TRUNCATE, \
                 REFERENCES, TRIGGER on new tables in schema public to role \"anon\". \
                 => ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public REVOKE SELECT, \
                 INSERT, UPDATE, DELETE, TRUNCATE, \
                 REFERENCES, TRIGGER ON TABLES FROM anon;",
                "error default acl for role postgres on large objects anon: Default privileges of \
                 role \"postgres\" grant SELECT on new large objects to role \"anon\". => ALTER \
                 DEFAULT PRIVILEGES FOR ROLE postgres REVOKE SELECT ON LARGE OBJECTS FROM anon;",
                "error default acl for role postgres on schemas PUBLIC: Default privileges of role \
                 \"postgres\" grant CREATE on new schemas to PUBLIC (every role). => ALTER DEFAULT \
                 PRIVILEGES FOR ROLE postgres REVOKE CREATE ON SCHEMAS FROM PUBLIC;"
            ]
        );
    }

    #[test]
    fn group_whose_privileges_a_client_inherits_counts_as_the_client() {
        let mut world = World::conforming();
        world.snapshot.version = 16;
        for name in ["team", "service_team"] {
            world.add_role(name);
        }
        world.grant_role("team", "anon");
        world.grant_role("service_team", "service_role");
        let (role, api) = (world.role("postgres").oid, world.schema("api").oid);
        let (public, team) = (world.schema("public").oid, world.role("team").oid);
        let worker = world.role("service_team").oid;
        let item = |grantee, privileges| AclItem {
            grantee,
            grantor: role,
            privileges,
            grantable: Privileges::NONE,
        };
        let of_tables = vec![item(team, Privileges::SELECT), item(worker, Privileges::SELECT)];
        let of_routines = vec![item(team, Privileges::EXECUTE)];
        let default = |schema, object_type, acl| DefaultAcl { role, schema, object_type, acl };
        world.snapshot.default_acls =
            vec![default(public, b'r', of_tables.into()), default(api, b'f', of_routines.into())];
        assert_eq!(
            world.found(&RULE),
            ["error default acl for role postgres in schema public on tables team: Default \
              privileges of role \"postgres\" grant SELECT on new tables in schema public to role \
              \"team\", whose privileges role \"anon\" inherits. => ALTER DEFAULT PRIVILEGES FOR \
              ROLE postgres IN SCHEMA public REVOKE SELECT ON TABLES FROM team;"],
            "anon may execute the routines of api"
        );
    }

    #[test]
    fn role_that_requests_can_become_counts_before_it_has_any_other_privilege() {
        let mut world = World::conforming();
        world.add_role("visitor");
        world.add_login("authenticator");
        world.declare("authenticator", RoleKind::Login);
        for role in ["anon", "visitor"] {
            world.grant_role_without_inherit(role, "authenticator");
        }
        assert_eq!(world.found(&RULE), [""; 0]);
        let (visitor, role) = (world.role("visitor").oid, world.role("postgres").oid);
        let privileges = Privileges::SELECT;
        let item =
            AclItem { grantee: visitor, grantor: role, privileges, grantable: Privileges::NONE };
        let schema = world.schema("public").oid;
        world.snapshot.default_acls =
            vec![DefaultAcl { role, schema, object_type: b'r', acl: vec![item].into() }];
        let found = world.found(&RULE);
        assert!(
            found[0].contains("grant SELECT on new tables in schema public to role"),
            "{found:?}"
        );
        assert_eq!(found.len(), 1);
    }
}
