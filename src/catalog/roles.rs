//! Reads `pg_authid`, `pg_auth_members` and `pg_database`.

use super::oids;
use crate::pg::VERSION;
use crate::pg::heap::{State, Table};
use dragonfly_core::catalog::{Database, Membership, Oid, Role, Snapshot};
use pgrx::pg_sys;
use std::collections::HashMap;

/// Reads roles, memberships and the current database.
pub fn read(state: &State, snapshot: &mut Snapshot) {
    roles(state, snapshot);
    memberships(state, snapshot);
    database(state, snapshot);
}

fn roles(state: &State, snapshot: &mut Snapshot) {
    let table = Table::open(oids::PG_AUTHID);
    let column = |name| table.column(name);
    let (oid, name, superuser, inherit) =
        (column("oid"), column("rolname"), column("rolsuper"), column("rolinherit"));
    let (create_role, create_db, can_login) =
        (column("rolcreaterole"), column("rolcreatedb"), column("rolcanlogin"));
    let (replication, bypass_rls) = (column("rolreplication"), column("rolbypassrls"));
    table.scan(state, |row| {
        snapshot.roles.push(Role {
            oid: row.oid(oid),
            name: row.name(name),
            superuser: row.bool(superuser),
            inherit: row.bool(inherit),
            create_role: row.bool(create_role),
            create_db: row.bool(create_db),
            can_login: row.bool(can_login),
            replication: row.bool(replication),
            bypass_rls: row.bool(bypass_rls),
        });
    });
}

fn memberships(state: &State, snapshot: &mut Snapshot) {
    let inherits: HashMap<_, _> = snapshot.roles.iter().map(|r| (r.oid, r.inherit)).collect();
    let table = Table::open(oids::PG_AUTH_MEMBERS);
    let column = |name| table.column(name);
    let (role, member, grantor, admin) =
        (column("roleid"), column("member"), column("grantor"), column("admin_option"));
    // The columns exist from PostgreSQL 16 on. Before, the INHERIT attribute of the member decides,
    // and every member can SET ROLE.
    let (inherit, set) = (table.find("inherit_option"), table.find("set_option"));
    table.scan(state, |row| {
        let member = row.oid(member);
        snapshot.memberships.push(Membership {
            role: row.oid(role),
            member,
            grantor: row.oid(grantor),
            admin: row.bool(admin),
            inherit: inherit
                .map_or_else(|| inherits.get(&member).is_some_and(|i| *i), |c| row.bool(c)),
            set: set.is_none_or(|c| row.bool(c)),
        });
    });
    debug_assert_eq!(inherit.is_some(), VERSION >= 16);
}

/// Reads the row of the current database.
fn database(state: &State, snapshot: &mut Snapshot) {
    // SAFETY: reads a variable of the backend.
    let current = unsafe { pg_sys::MyDatabaseId }.to_u32();
    let table = Table::open(oids::PG_DATABASE);
    let (oid, name, owner, acl) = (
        table.column("oid"),
        table.column("datname"),
        table.column("datdba"),
        table.column("datacl"),
    );
    table.scan(state, |row| {
        if row.oid(oid) == current {
            snapshot.database =
                Database { name: row.name(name), owner: row.oid(owner), acl: row.acl(acl) };
        }
    });
}

/// Returns the value that ALTER ROLE has set for a role, and whether it is set for this database
/// (true) or for all (false). A setting for this database takes precedence. PostgREST reads such
/// settings of its own role ("In-Database Configuration" in its documentation).
pub fn setting_of(state: &State, role: Oid, parameter: &str) -> Option<(String, bool)> {
    // SAFETY: reads a variable of the backend.
    let current = unsafe { pgrx::pg_sys::MyDatabaseId }.to_u32();
    let table = Table::open(oids::PG_DB_ROLE_SETTING);
    let (database, of_role, config) =
        (table.column("setdatabase"), table.column("setrole"), table.column("setconfig"));
    let (mut here, mut everywhere) = (None, None);
    table.scan(state, |row| {
        let value = match row.oid(database) {
            _ if row.oid(of_role) != role => return,
            0 => &mut everywhere,
            database if database == current => &mut here,
            _ => return,
        };
        let config = row.texts(config);
        let mut items = config.iter().filter_map(|item| item.split_once('='));
        *value = items
            .rfind(|(name, _)| name.eq_ignore_ascii_case(parameter))
            .map(|(_, value)| value.to_owned());
    });
    here.map(|value| (value, true)).or(everywhere.map(|value| (value, false)))
}

/// Returns the value of a parameter that is stored for a database and a role, 0 for all.
pub fn stored_setting(state: &State, database: Oid, role: Oid, parameter: &str) -> Option<String> {
    let table = Table::open(oids::PG_DB_ROLE_SETTING);
    let (of_database, of_role, config) =
        (table.column("setdatabase"), table.column("setrole"), table.column("setconfig"));
    let mut found = None;
    table.scan(state, |row| {
        if (row.oid(of_database), row.oid(of_role)) == (database, role) {
            let config = row.texts(config);
            let mut items = config.iter().filter_map(|item| item.split_once('='));
            found = items
                .rfind(|(name, _)| name.eq_ignore_ascii_case(parameter))
                .map(|(_, value)| value.to_owned());
        }
    });
    found
}
