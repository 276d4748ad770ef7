//! The statement that reverts a statement.

use super::simulate::Simulation;
use crate::catalog::{
    DefaultAcl, Membership, ObjectId, Oid, Privileges, RelationKind, Routine, ServerObject,
    Snapshot,
};
use crate::fix::{
    AclStatement, Change, Grantee, RoutineChange, Statement, Verb, alter_default_privileges,
    default_acl_objects,
};
use crate::rules::shared::stored_setting;
use crate::search_path::set_clause;
use crate::sql::{quote_literal, safe_ident, safe_qualified};

/// Returns the `CREATE POLICY ...` of a policy; `None` where it is not known.
pub(super) type PolicySql<'a> = &'a dyn Fn(Oid) -> Option<String>;

/// Returns SQL that restores the state before `statement`; `None` where no statement does.
pub(super) fn undo(
    statement: &Statement,
    before: &Simulation,
    policy_sql: PolicySql<'_>,
) -> Option<String> {
    let snapshot = before.snapshot();
    let change = match statement {
        Statement::Acl(statement) => return acl(statement, before),
        Statement::Ddl(ddl) => &ddl.change,
    };
    Some(match change {
        Change::AddRole(role) => format!("DROP ROLE IF EXISTS {};", safe_ident(&role.name)),
        Change::AlterRole { role, attribute, on } => {
            format!(
                "ALTER ROLE {} {}{};",
                snapshot.grantee(*role),
                if *on { "NO" } else { "" },
                attribute.as_str()
            )
        }
        Change::ResetSetting(setting) => stored_setting::set(snapshot, setting),
        Change::RevokeMembership(membership) => self::membership(membership, snapshot)?,
        Change::AddSchema(name) => format!("DROP SCHEMA IF EXISTS {};", safe_ident(name)),
        Change::AddRelation(kind, schema, name) => {
            let word = match kind {
                RelationKind::Sequence => "SEQUENCE",
                RelationKind::MaterializedView => "MATERIALIZED VIEW",
                _ => "VIEW",
            };
            format!("DROP {word} IF EXISTS {};", safe_qualified(schema, name))
        }
        Change::ChangeOwner { object, owner, target, .. } => {
            self::owner(*object, *owner, target, before)?
        }
        Change::RevokeDefault { role, schema, object_type, grantee, privileges } => {
            let defaults = snapshot
                .default_acls
                .iter()
                .find(|d| (d.role, d.schema, d.object_type) == (*role, *schema, *object_type))?;
            default_privileges(defaults, *grantee, *privileges, snapshot)?
        }
        Change::RevokeOnServerObject { object, grantee, privileges } => {
            let all = &snapshot.server_objects;
            let found =
                all.iter().find(|o| (o.object_type, &o.identity) == (object.0, &object.1))?;
            on_server_object(found, *grantee, *privileges, snapshot)?
        }
        Change::AlterRoutine(routine, actions) => {
            let routine = snapshot.routines.iter().find(|r| r.oid == *routine)?;
            self::routine(routine, &RoutineChange::apply_all(actions, routine), snapshot)?
        }
        Change::EnableRowSecurity(table) => {
            format!("ALTER TABLE {} DISABLE ROW LEVEL SECURITY;", before.relation_sql(*table)?)
        }
        Change::ForceRowSecurity(table) => {
            format!("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY;", before.relation_sql(*table)?)
        }
        Change::DropPolicy(policy) => policy_sql(*policy)?,
        Change::PolicyRoles(policy, _) => policy_roles(*policy, snapshot)?,
        // A routine that shadowed the guard's must not be restored.
        Change::DropRoutine(..) | Change::Guard => return None,
    })
}

/// Returns the GRANT that reverts a REVOKE, or the REVOKE that reverts a GRANT. `None` where it
/// does not restore the ACL, as after a REVOKE with CASCADE that affected other roles.
fn acl(statement: &AclStatement, before: &Simulation) -> Option<String> {
    let acls = before.acls(&statement.on.id)?;
    let with = |acls: super::simulate::Acls, statement: &AclStatement| {
        before.with_members(|inherits| acls.with(statement, inherits))
    };
    let after = with(acls.clone(), statement);
    let mut back: Vec<AclStatement> = Vec::new();
    for grantee in &statement.grantees {
        let on_table = std::iter::once(None).filter(|_| statement.on.columns.is_empty());
        let on_columns = after.columns.iter().map(|(name, _)| Some(name.clone()));
        for column in on_table.chain(on_columns) {
            let held = |acls: &super::simulate::Acls| {
                let acl = match &column {
                    None => Some(&acls.acl),
                    Some(name) => acls.columns.iter().find(|(n, _)| n == name).map(|(_, acl)| acl),
                };
                let item = acl.and_then(|acl| {
                    acl.iter().find(|i| (i.grantee, i.grantor) == (grantee.oid, acls.owner))
                });
                item.map_or((Privileges::NONE, Privileges::NONE), |i| (i.privileges, i.grantable))
            };
            let ((had, could), (has, can)) = (held(&acls), held(&after));
            for (verb, privileges) in [
                (Verb::Revoke, has & !had),
                (Verb::Grant, had & !has & !could),
                (Verb::GrantWithOption, could & !can),
            ] {
                if !privileges.is_empty() {
                    add(&mut back, statement, column.clone(), verb, privileges, grantee);
                }
            }
        }
    }
    let restored = back.iter().fold(after, with);
    (restored == acls && !back.is_empty())
        .then(|| back.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// Adds a statement, or adds the grantee to an equal one.
fn add(
    back: &mut Vec<AclStatement>,
    statement: &AclStatement,
    column: Option<String>,
    verb: Verb,
    privileges: Privileges,
    grantee: &Grantee,
) {
    let mut on = statement.on.clone();
    on.columns = column.into_iter().collect();
    if !on.columns.is_empty() {
        on.all = Privileges::NONE;
    }
    match back.iter_mut().find(|s| s.verb == verb && s.privileges == privileges && s.on == on) {
        Some(known) => known.grantees.push(grantee.clone()),
        None => back.push(AclStatement {
            verb,
            privileges,
            on,
            grantees: vec![grantee.clone()],
            cascade: false,
            then: vec![],
        }),
    }
}

/// Returns the GRANT that restores privileges of a grantee on an object of the server.
fn on_server_object(
    before: &ServerObject,
    grantee: Oid,
    revoked: Privileges,
    snapshot: &Snapshot,
) -> Option<String> {
    let held = before.added.iter().find(|i| (i.grantee, i.grantor) == (grantee, before.owner))?;
    let is_grantable = held.grantable.intersects(revoked);
    // One statement cannot restore privileges with and without grant option.
    if is_grantable && !held.grantable.contains(revoked) {
        return None;
    }
    let option = if is_grantable { " WITH GRANT OPTION" } else { "" };
    let on_column = before.column.as_ref().map(|c| format!(" ({c})")).unwrap_or_default();
    let words: Vec<String> =
        revoked.words().iter().map(|word| format!("{word}{on_column}")).collect();
    Some(format!(
        "GRANT {} ON {} TO {}{option};",
        words.join(", "),
        before.sql,
        snapshot.grantee(grantee)
    ))
}

/// Returns the ALTER DEFAULT PRIVILEGES that restores privileges of a grantee.
fn default_privileges(
    before: &DefaultAcl,
    grantee: Oid,
    revoked: Privileges,
    snapshot: &Snapshot,
) -> Option<String> {
    let held = before.acl.iter().find(|i| (i.grantee, i.grantor) == (grantee, before.role))?;
    let privileges = revoked & held.privileges;
    let is_grantable = held.grantable.intersects(revoked);
    // One statement cannot restore privileges with and without grant option.
    if is_grantable && !held.grantable.contains(privileges) {
        return None;
    }
    let option = if is_grantable { " WITH GRANT OPTION" } else { "" };
    let start = alter_default_privileges(snapshot, before.role, before.schema);
    let (objects, to) = (default_acl_objects(before.object_type)?, snapshot.grantee(grantee));
    Some(format!("{start} GRANT {privileges} ON {objects} TO {to}{option};"))
}

/// Returns the ALTER POLICY that restores the roles of a policy.
fn policy_roles(policy: Oid, before: &Snapshot) -> Option<String> {
    let policy = before.policies.iter().find(|p| p.oid == policy)?;
    let table = before.relation_sql(before.relation(policy.relation)?);
    let roles: Vec<String> = policy.roles.iter().map(|r| before.grantee(*r)).collect();
    Some(format!("ALTER POLICY {} ON {table} TO {};", safe_ident(&policy.name), roles.join(", ")))
}

/// Returns the GRANT that restores a membership.
fn membership(ended: &Membership, before: &Snapshot) -> Option<String> {
    let same = |m: &&Membership| (m.role, m.member) == (ended.role, ended.member);
    // Since PostgreSQL 16, each grantor grants a membership of its own.
    let is_it = |m: &&Membership| same(m) && (before.version < 16 || m.grantor == ended.grantor);
    let membership = before.memberships.iter().find(is_it)?;
    // Memberships that depended on it have been revoked as well.
    let others = |m: &&Membership| (m.role, m.grantor) == (membership.role, membership.member);
    if before.version >= 16 && membership.admin && before.memberships.iter().any(|m| others(&m)) {
        return None;
    }
    let (role, member) = (before.grantee(membership.role), before.grantee(membership.member));
    Some(if before.version < 16 {
        format!(
            "GRANT {role} TO {member}{};",
            if membership.admin { " WITH ADMIN OPTION" } else { "" }
        )
    } else {
        let word = |on: bool| if on { "TRUE" } else { "FALSE" };
        let (admin, inherit, set) =
            (word(membership.admin), word(membership.inherit), word(membership.set));
        let by = before.grantee(membership.grantor);
        format!(
            "GRANT {role} TO {member} WITH ADMIN {admin}, INHERIT {inherit}, SET {set} GRANTED \
             BY {by};"
        )
    })
}

/// Returns the ALTER ... OWNER TO that restores the owner. `None` where it does not restore the
/// ACL, because entries of both owners have been merged.
fn owner(object: ObjectId, owner: Oid, target: &str, before: &Simulation) -> Option<String> {
    let acls = before.acls(&object)?;
    let from = acls.owner;
    if acls.clone().owned_by(owner).owned_by(from) != acls {
        return None;
    }
    Some(format!("ALTER {target} OWNER TO {};", before.snapshot().grantee(from)))
}

/// Returns the ALTER ROUTINE that restores security mode and settings.
fn routine(before: &Routine, after: &Routine, snapshot: &Snapshot) -> Option<String> {
    let key = |item: &String| {
        item.split_once('=').map_or(item.clone(), |(key, _)| key.to_ascii_lowercase())
    };
    let mut clauses: Vec<String> = Vec::new();
    if before.security_definer != after.security_definer {
        clauses.push(format!(
            "SECURITY {}",
            if before.security_definer { "DEFINER" } else { "INVOKER" }
        ));
    }
    for item in &after.config {
        if !before.config.iter().any(|b| key(b) == key(item)) {
            clauses.push(format!("RESET {}", key(item)));
        }
    }
    for item in before.config.iter().filter(|item| !after.config.contains(item)) {
        // No SQL can create a duplicate setting.
        let (name, value) = item.split_once('=')?;
        if before.config.iter().filter(|other| key(other) == key(item)).count() > 1 {
            return None;
        }
        let value = match key(item).as_str() {
            "search_path" => set_clause(&snapshot.split_path(value).ok()?),
            _ => quote_literal(value),
        };
        clauses.push(format!("SET {} = {value}", name.to_ascii_lowercase()));
    }
    (!clauses.is_empty())
        .then(|| format!("ALTER ROUTINE {} {};", snapshot.routine_sql(before), clauses.join(" ")))
}
