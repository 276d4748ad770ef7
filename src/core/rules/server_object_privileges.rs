//! A client, or PUBLIC, has more privileges on objects of the server than these are created with,
//! or a client owns one.

use super::context::Context;
use super::shared::privileges::role_subject;
use super::shared::target::Target;
use crate::catalog::{
    AclItem, BOOTSTRAP_SUPERUSER, FIRST_NORMAL, Object, ObjectId, Oid, OidSet, PUBLIC, Privileges,
    Relation, Role, Routine, ServerObject,
};
use crate::contract::{GuardAction, RoleKind, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::{Change, Fix, Statement};
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{listed, printable, safe_ident};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "server_object_privileges",
    title: "A client has privileges on objects of the server that PostgreSQL does not grant",
    area: Area::Grants,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidGrantOperation,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Clients, login roles and PUBLIC have no other privileges than those that initdb, or \
             CREATE EXTENSION, has granted (pg_init_privs) on relations, columns and functions of \
             pg_catalog and information_schema, on languages, foreign-data wrappers, foreign \
             servers, tablespaces, parameters and large objects; none on pg_toast and TOAST \
             tables, and on relations and SECURITY DEFINER routines that were created in these \
             schemas later; and they own none of these, and no extension, publication or \
             subscription. Privileges and objects of a role count that a client inherits, or can \
             have with SET ROLE.",
    why: "The contract declares what clients can do in schemas. These objects are in none, or in \
          those of the server: reading pg_authid shows the hashes of passwords, a TOAST table \
          shows long values of rows that row security hides, pg_read_file() reads files, and a \
          parameter can run a program. An owner has all privileges.",
    fix: "Revoke the privilege. Where a client has it through another role, or another role than \
          the owner has granted it, and where a client is the owner, the fix is a proposal.",
    exempt: "A large object or a foreign server that a client is meant to use; large objects that \
             clients create.",
    exempt_by_pattern: true,
    example: Example {
        violating: "GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO anon;",
        correct: "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) FROM anon;",
    },
    references: &["CIS PostgreSQL Benchmark 4.6", "CWE-732"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let created = Created::of(cx);
    if cx.snapshot.server_objects.is_empty() && created.is_empty() {
        return;
    }
    // Roles of requests without privileges in governed schemas are clients here.
    let others = cx.requests.undeclared.iter().filter(|role| !cx.is_client(role.oid));
    // A request can use what its login role has after RESET ROLE.
    let logins = cx.logins();
    let roles = cx.clients.iter().chain(others).chain(&logins);
    let roles: Vec<(&Role, _)> = roles.map(|role| (*role, cx.own_grantees(role.oid))).collect();
    created.report(cx, &roles.iter().map(|(role, _)| *role).collect::<Vec<_>>(), out);
    let of_public = OidSet::from_iter([PUBLIC]);
    for object in &cx.snapshot.server_objects {
        cx.check_interrupts();
        out.extend(draft(cx, object, (PUBLIC, "PUBLIC"), &of_public));
        let of_roles = roles
            .iter()
            .filter(|(role, _)| !role.superuser)
            .filter_map(|(role, own)| draft(cx, object, (role.oid, &role.name), own));
        out.extend(of_roles);
    }
}

/// The objects that have been created in schemas of the server, or moved there, and are not members
/// of extensions.
struct Created<'a> {
    relations: Vec<&'a Relation>,
    /// SECURITY DEFINER routines: others run with the privileges of their caller.
    routines: Vec<&'a Routine>,
}

impl<'a> Created<'a> {
    fn of(cx: &Context<'a>) -> Self {
        let snapshot = cx.snapshot;
        let schemas = snapshot.schemas.iter();
        let schemas: OidSet = schemas
            .filter(|schema| schema.is_of_server() && !schema.is_temporary())
            .map(|schema| schema.oid)
            .collect();
        let relations = snapshot.relations.iter().filter(|relation| {
            schemas.contains(&relation.schema)
                && !snapshot.relation_extension.contains_key(&relation.oid)
        });
        let routines = snapshot.routines.iter().filter(|routine| {
            routine.security_definer
                && schemas.contains(&routine.schema)
                && routine.oid >= FIRST_NORMAL
                && !snapshot.routine_extension.contains_key(&routine.oid)
        });
        Self { relations: relations.collect(), routines: routines.collect() }
    }

    fn is_empty(&self) -> bool {
        self.relations.is_empty() && self.routines.is_empty()
    }

    /// Adds a finding for each role, and for PUBLIC, that has a privilege on an object.
    fn report(&self, cx: &Context<'_>, roles: &[&Role], out: &mut Vec<Draft>) {
        let mut report = |target: Target<'_>| {
            let (none, all) = (|_: &Role| Privileges::NONE, Privileges(u32::MAX));
            target.report_undeclared(cx, roles, &none, all, Severity::Error, out);
        };
        for relation in &self.relations {
            cx.check_interrupts();
            report(Target::of_relation(cx, relation));
            for (column, acl) in &relation.columns {
                report(Target::of_column(cx, relation, column, acl));
            }
        }
        for routine in &self.routines {
            cx.check_interrupts();
            report(Target::of_routine(cx, routine));
        }
    }
}

/// Returns the finding about a role, or PUBLIC, and an object; `None` where the role has nothing
/// more. `own` are the grantees whose privileges it has.
fn draft(
    cx: &Context<'_>,
    object: &ServerObject,
    (role, name): (Oid, &str),
    own: &OidSet,
) -> Option<Draft> {
    if own.contains(&object.owner) {
        // The owner of a column is that of its relation.
        return object.column.is_none().then(|| draft_of_owner(cx, object, (role, name)));
    }
    let items: Vec<&AclItem> = object.added.iter().filter(|i| own.contains(&i.grantee)).collect();
    let privileges = items.iter().fold(Privileges::NONE, |all, item| all | item.privileges);
    if privileges.is_empty() {
        return None;
    }
    let (through, how) = through(cx, role, items.iter().map(|item| item.grantee));
    let detail = format!(
        "{} has {privileges} on {} {}{how}, which PostgreSQL does not grant.",
        role_subject(role, name),
        object.object_type,
        printable(&object.identity)
    );
    Some(
        Draft::new(found(object), Severity::Error, detail)
            .grantee(role, name)
            .key(privileges.to_string())
            .evidence(json!({"privileges": privileges.words(), "through": through}))
            .fix(fix(cx, object, role, &items))
            .measure(Measure::excess("", privileges.words())),
    )
}

/// Returns the finding about a role that owns an object, or has the privileges of its owner.
fn draft_of_owner(cx: &Context<'_>, object: &ServerObject, (role, name): (Oid, &str)) -> Draft {
    let (through, how) = through(cx, role, [object.owner].into_iter());
    let detail = format!(
        "{} owns {} {}{how}.",
        role_subject(role, name),
        object.object_type,
        printable(&object.identity)
    );
    // Privileges that remain after a change of the owner are less than before.
    let extent = [&["OWNER"][..], &Privileges(u32::MAX).words()].concat();
    Draft::new(found(object), Severity::Error, detail)
        .grantee(role, name)
        .key("owner")
        .evidence(json!({"owner": cx.snapshot.role_name(object.owner), "through": through}))
        .fix(Fix::Proposal(change_of_owner(cx, object)))
        .measure(Measure::excess("", extent))
}

fn found(object: &ServerObject) -> Object {
    Object {
        object_type: object.object_type,
        schema: object.schema.clone(),
        identity: object.identity.clone(),
        managed_by: None,
        id: ObjectId::Named,
    }
}

/// Returns the names of the other roles through which a role has something, and the clause that
/// names them.
fn through(
    cx: &Context<'_>,
    role: Oid,
    holders: impl Iterator<Item = Oid>,
) -> (Vec<String>, String) {
    let mut names: Vec<String> = holders
        .filter(|holder| *holder != role)
        .map(|holder| format!("\"{}\"", printable(&cx.snapshot.role_name(holder))))
        .collect();
    names.sort();
    names.dedup();
    let clause = if names.is_empty() {
        String::new()
    } else {
        format!(" through membership in {}", listed(&names))
    };
    (names, clause)
}

/// Returns the statement that changes the owner: to a superuser where the server requires one, or
/// where the object belongs to the whole server; otherwise to an owner role of the contract.
fn change_of_owner(cx: &Context<'_>, object: &ServerObject) -> String {
    let is_superusers = object.schema.is_some()
        || matches!(object.object_type, "foreign-data wrapper" | "subscription" | "tablespace");
    let owner = if is_superusers {
        cx.snapshot.role(BOOTSTRAP_SUPERUSER)
    } else {
        cx.contract.roles_of(RoleKind::Owner).find_map(|role| cx.snapshot.role_named(role))
    };
    let owner = owner.map_or("...".into(), |owner| safe_ident(&owner.name));
    if object.object_type == "extension" {
        let former = cx.snapshot.grantee(object.owner);
        return format!(
            "No statement changes the owner of an extension alone; this one changes the owner of \
             everything that role {former} owns:\nREASSIGN OWNED BY {former} TO {owner};"
        );
    }
    // GRANT names foreign servers in another way.
    let target = object.sql.strip_prefix("FOREIGN SERVER ").map(|name| format!("SERVER {name}"));
    format!("ALTER {} OWNER TO {owner};", target.as_ref().unwrap_or(&object.sql))
}

/// Returns the REVOKE of each entry. REVOKE acts for the owner, and another role than the one of
/// the finding may need its privilege: these are proposals.
fn fix(cx: &Context<'_>, object: &ServerObject, role: Oid, items: &[&AclItem]) -> Fix {
    let is_decided = |item: &&&AclItem| item.grantee == role && item.grantor == object.owner;
    if items.iter().all(|item| is_decided(&item)) {
        return Fix::Statements(items.iter().map(|item| revoke(cx, object, item)).collect());
    }
    let line = |item: &&AclItem| {
        let as_grantor = if item.grantor == object.owner {
            String::new()
        } else {
            format!("SET ROLE {}; -- which has granted it\n", cx.snapshot.grantee(item.grantor))
        };
        format!("{as_grantor}{}", revoke(cx, object, item))
    };
    let lines: Vec<String> = items.iter().map(line).collect();
    Fix::Proposal(lines.join("\n"))
}

fn revoke(cx: &Context<'_>, object: &ServerObject, item: &AclItem) -> Statement {
    let on_column = object.column.as_ref().map(|c| format!(" ({c})")).unwrap_or_default();
    let words: Vec<String> =
        item.privileges.words().iter().map(|word| format!("{word}{on_column}")).collect();
    let cascade = if item.grantable.is_empty() { "" } else { " CASCADE" };
    let sql = format!(
        "REVOKE {} ON {} FROM {}{cascade};",
        words.join(", "),
        object.sql,
        cx.snapshot.grantee(item.grantee)
    );
    let change = Change::RevokeOnServerObject {
        object: (object.object_type, object.identity.clone()),
        grantee: item.grantee,
        privileges: item.privileges,
    };
    Statement::new(change, sql)
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{
        AclItem, Oid, PUBLIC, Privileges, Relation, RelationKind, Routine, Schema, ServerObject,
    };
    use crate::contract::RoleKind;

    const OWNER: Oid = 10;

    fn object(object_type: &'static str, name: &str, sql: &str) -> ServerObject {
        ServerObject {
            object_type,
            schema: None,
            identity: name.into(),
            sql: sql.into(),
            column: None,
            owner: OWNER,
            added: vec![].into(),
        }
    }

    fn item(grantee: Oid, privileges: Privileges) -> AclItem {
        AclItem { grantee, grantor: OWNER, privileges, grantable: Privileges::NONE }
    }

    #[test]
    fn privileges_of_clients_and_public_are_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        let (anon, worker) = (world.role("anon").oid, world.role("service_role").oid);
        let table = object("table", "pg_catalog.pg_authid", "TABLE pg_catalog.pg_authid");
        let column = ServerObject {
            object_type: "table column",
            identity: "pg_catalog.pg_authid.rolname".into(),
            column: Some("rolname".into()),
            ..table.clone()
        };
        let parameter = object("parameter", "archive_command", "PARAMETER archive_command");
        let both = Privileges::SET | Privileges::ALTER_SYSTEM;
        world.snapshot.server_objects = vec![
            ServerObject {
                added: vec![item(anon, Privileges::SELECT), item(worker, Privileges::SELECT)]
                    .into(),
                ..table
            },
            ServerObject { added: vec![item(PUBLIC, Privileges::SELECT)].into(), ..column },
            ServerObject {
                added: vec![AclItem { grantable: both, ..item(anon, both) }].into(),
                ..parameter
            },
        ];
        assert_eq!(
            world.found(&RULE),
            [
                "error parameter archive_command anon: Role \"anon\" has SET, ALTER SYSTEM on \
                 parameter archive_command, which PostgreSQL does not grant. => REVOKE SET, ALTER \
                 SYSTEM ON PARAMETER archive_command FROM anon CASCADE;",
                "error table pg_catalog.pg_authid anon: Role \"anon\" has SELECT on table \
                 pg_catalog.pg_authid, which PostgreSQL does not grant. => REVOKE SELECT ON TABLE \
                 pg_catalog.pg_authid FROM anon;",
                "error table column pg_catalog.pg_authid.rolname PUBLIC: PUBLIC (every role) has \
                 SELECT on table column pg_catalog.pg_authid.rolname, which PostgreSQL does not \
                 grant. => REVOKE SELECT (rolname) ON TABLE pg_catalog.pg_authid FROM PUBLIC;",
            ]
        );
    }

    #[test]
    fn object_created_in_a_schema_of_the_server_is_reported() {
        const STANDARD: Oid = 13_000;
        let mut world = World::conforming();
        let (anon, owner) = (world.role("anon").oid, world.role("root").oid);
        world.snapshot.schemas.push(Schema {
            oid: STANDARD,
            name: "information_schema".into(),
            owner,
            acl: None,
        });
        let leak = Relation {
            oid: 20_001,
            name: "leak".into(),
            schema: STANDARD,
            owner,
            kind: RelationKind::View,
            ..Relation::default()
        };
        world.add_relation(leak);
        let routine = Routine {
            oid: 20_002,
            name: "f".into(),
            schema: STANDARD,
            owner,
            acl: Some(vec![AclItem { grantor: owner, ..item(anon, Privileges::EXECUTE) }].into()),
            ..Routine::default()
        };
        world.snapshot.routines.push(routine);
        assert_eq!(world.found(&RULE), [""; 0]);
        world.grant("information_schema.leak", anon, Privileges::SELECT);
        world.grant_column("information_schema.leak", "id", PUBLIC, Privileges::UPDATE);
        world.routine("f").security_definer = true;
        assert_eq!(
            world.found(&RULE),
            [
                "error function information_schema.f() anon: Role \"anon\" has EXECUTE on function \
                 information_schema.f(), which the contract does not declare. => REVOKE EXECUTE ON \
                 ROUTINE information_schema.f() FROM anon;",
                "error view information_schema.leak PUBLIC: PUBLIC (every role) has UPDATE on \
                 column \"id\" of view information_schema.leak, which the contract does not \
                 declare. => REVOKE UPDATE (id) ON TABLE information_schema.leak FROM PUBLIC;",
                "error view information_schema.leak anon: Role \"anon\" has SELECT on view \
                 information_schema.leak, which the contract does not declare. => REVOKE SELECT ON \
                 TABLE information_schema.leak FROM anon;",
            ]
        );
        world.snapshot.relation_extension.insert(20_001, 1);
        world.snapshot.routine_extension.insert(20_002, 1);
        assert_eq!(world.found(&RULE), [""; 0], "members of an extension");
    }

    #[test]
    fn privilege_of_a_group_is_a_proposal() {
        let mut world = World::conforming();
        for name in ["inherited", "other"] {
            world.add_role(name);
        }
        world.grant_role("inherited", "anon");
        world.grant_role_without_inherit("other", "anon");
        let (inherited, other) = (world.role("inherited").oid, world.role("other").oid);
        let server = object("foreign server", "remote", "FOREIGN SERVER remote");
        let added = vec![item(inherited, Privileges::USAGE), item(other, Privileges::USAGE)];
        world.snapshot.server_objects = vec![ServerObject { added: added.into(), ..server }];
        assert_eq!(
            world.found(&RULE),
            [
                "error foreign server remote anon: Role \"anon\" has USAGE on foreign server \
                 remote through membership in \"inherited\", which PostgreSQL does not grant.",
                "error foreign server remote other: Role \"other\" has USAGE on foreign server \
                 remote, which PostgreSQL does not grant. => REVOKE USAGE ON FOREIGN SERVER \
                 remote FROM other;",
            ]
        );
    }

    #[test]
    fn object_that_a_client_or_a_login_role_owns_is_reported() {
        let mut world = World::conforming();
        world.add_login("gateway");
        world.declare("gateway", RoleKind::Login);
        world.add_role("team");
        world.grant_role("team", "anon");
        let [anon, team, login, owner] =
            ["anon", "team", "gateway", "postgres"].map(|name| world.role(name).oid);
        let owned = |object: ServerObject, owner| ServerObject { owner, ..object };
        let server = object("server", "remote", "FOREIGN SERVER remote");
        let image = object("large object", "4711", "LARGE OBJECT 4711");
        world.snapshot.server_objects = vec![
            owned(object("extension", "hstore", "EXTENSION hstore"), anon),
            owned(image.clone(), login),
            owned(server.clone(), team),
            owned(object("large object", "4712", "LARGE OBJECT 4712"), owner),
        ];
        assert_eq!(
            world.found(&RULE),
            [
                "error large object 4711 gateway: Role \"gateway\" owns large object 4711.",
                "error extension hstore anon: Role \"anon\" owns extension hstore.",
                "error server remote anon: Role \"anon\" owns server remote through membership \
                 in \"team\".",
            ]
        );
        let proposal = |object| change_of_owner_in(&world, &object);
        assert_eq!(proposal(server), "ALTER SERVER remote OWNER TO postgres;");
        assert_eq!(proposal(image), "ALTER LARGE OBJECT 4711 OWNER TO postgres;");
        let wrapper = object("foreign-data wrapper", "w", "FOREIGN DATA WRAPPER w");
        assert!(!proposal(wrapper).contains("postgres"), "its owner must be a superuser");
    }

    fn change_of_owner_in(world: &World, object: &ServerObject) -> String {
        world.compared_with(world, |_, cx| super::change_of_owner(cx, object))
    }

    #[test]
    fn what_an_object_was_created_with_is_not_added() {
        let initial = vec![item(PUBLIC, Privileges::SELECT), item(OWNER, Privileges::ALL_ON_TABLE)];
        let more = |grantee, privileges| {
            let acl = [initial.clone(), vec![item(grantee, privileges)]].concat();
            ServerObject::added(OWNER, &acl, &initial).to_vec()
        };
        assert_eq!(more(PUBLIC, Privileges::SELECT), []);
        assert_eq!(more(OWNER, Privileges::MAINTAIN), []);
        assert_eq!(more(PUBLIC, Privileges::UPDATE), [item(PUBLIC, Privileges::UPDATE)]);
        assert_eq!(more(7, Privileges::SELECT), [], "PUBLIC has it");
        assert_eq!(more(7, Privileges::INSERT), [item(7, Privileges::INSERT)]);
        let option = AclItem { grantable: Privileges::SELECT, ..initial[0] };
        assert_eq!(*ServerObject::added(OWNER, &[option], &initial), [option]);
    }
}
