//! Reads `pg_authid`, `pg_auth_members`, `pg_database` and `pg_db_role_setting`.

use crate::oids;
use crate::source::State;
use dragonfly_core::catalog::{Database, Membership, Oid, Role, RoleSetting, Snapshot};
use std::collections::HashMap;

/// The setting of PostgREST that names the role of requests without a token.
const ANONYMOUS_SETTING: &str = "pgrst.db_anon_role";

/// Reads roles, memberships and the current database.
pub fn read(state: &dyn State, snapshot: &mut Snapshot) {
    roles(state, snapshot);
    memberships(state, snapshot);
    database(state, snapshot);
    anonymous(state, snapshot);
}

/// Reads the roles of requests without a token, where a role or the database has the setting. No
/// cache callback reports changes of settings, so that what has been read earlier is replaced.
pub fn anonymous(state: &dyn State, snapshot: &mut Snapshot) {
    snapshot.anonymous.clear();
    let current = state.database();
    let table = state.table(oids::PG_DB_ROLE_SETTING);
    let (database, config) = (table.column("setdatabase"), table.column("setconfig"));
    table.scan(|row| {
        if row.oid(database) == 0 || row.oid(database) == current {
            let settings = row.texts(config);
            let settings = settings.iter().filter_map(|item| item.split_once('='));
            let named = settings.filter(|(name, _)| name.eq_ignore_ascii_case(ANONYMOUS_SETTING));
            snapshot.anonymous.extend(named.map(|(_, value)| value.to_owned()));
        }
    });
}

fn roles(state: &dyn State, snapshot: &mut Snapshot) {
    let table = state.table(oids::PG_AUTHID);
    let column = |name| table.column(name);
    let (oid, name, superuser, inherit) =
        (column("oid"), column("rolname"), column("rolsuper"), column("rolinherit"));
    let (create_role, create_db, can_login) =
        (column("rolcreaterole"), column("rolcreatedb"), column("rolcanlogin"));
    let (replication, bypass_rls) = (column("rolreplication"), column("rolbypassrls"));
    let (limit, until) = (column("rolconnlimit"), column("rolvaliduntil"));
    let now = state.time();
    table.scan(|row| {
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
            connection_limit: u32::try_from(row.int(limit)).ok(),
            password_expired: row.timestamp(until).is_some_and(|until| until < now),
        });
    });
}

fn memberships(state: &dyn State, snapshot: &mut Snapshot) {
    let inherits: HashMap<_, _> = snapshot.roles.iter().map(|r| (r.oid, r.inherit)).collect();
    let table = state.table(oids::PG_AUTH_MEMBERS);
    let column = |name| table.column(name);
    let (role, member, grantor, admin) =
        (column("roleid"), column("member"), column("grantor"), column("admin_option"));
    // The columns exist from PostgreSQL 16 on. Before, the INHERIT attribute of the member decides,
    // and every member can SET ROLE.
    let (inherit, set) = (table.find("inherit_option"), table.find("set_option"));
    table.scan(|row| {
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
    debug_assert_eq!(inherit.is_some(), state.version() >= 16);
}

/// Reads the row of the current database.
fn database(state: &dyn State, snapshot: &mut Snapshot) {
    let current = state.database();
    let table = state.table(oids::PG_DATABASE);
    let (oid, name, owner, acl, limit) = (
        table.column("oid"),
        table.column("datname"),
        table.column("datdba"),
        table.column("datacl"),
        table.column("datconnlimit"),
    );
    table.scan(|row| {
        if row.oid(oid) == current {
            snapshot.database = Database {
                name: row.name(name),
                owner: row.oid(owner),
                acl: row.acl(acl),
                connection_limit: u32::try_from(row.int(limit)).ok(),
            };
        }
    });
}

/// Returns the search_path that ALTER DATABASE has set, or ALTER ROLE ALL, and those that ALTER
/// ROLE has set for some roles.
pub fn search_paths(state: &dyn State, database: &str) -> (Option<String>, Vec<String>) {
    let (mut here, mut everywhere, mut of_roles) = (None, None, Vec::new());
    let paths = settings(state, database).into_iter().filter(|s| s.name == "search_path");
    for setting in paths {
        match (setting.role, setting.database) {
            (None, None) => everywhere = Some(setting.value),
            (None, Some(_)) => here = Some(setting.value),
            (Some(_), _) => of_roles.push(setting.value),
        }
    }
    (here.or(everywhere), of_roles)
}

/// Returns the settings with which sessions of a database start, those of every role: the rows of
/// `pg_db_role_setting` that apply to the current database, whose name is `database`.
pub fn settings(state: &dyn State, database: &str) -> Vec<RoleSetting> {
    let current = state.database();
    let table = state.table(oids::PG_DB_ROLE_SETTING);
    let (of_database, of_role, config) =
        (table.column("setdatabase"), table.column("setrole"), table.column("setconfig"));
    let mut found = Vec::new();
    table.scan(|row| {
        let (role, only) = (row.oid(of_role), row.oid(of_database));
        if only != 0 && only != current {
            return;
        }
        for (name, value) in row.texts(config).iter().filter_map(|item| item.split_once('=')) {
            found.push(RoleSetting {
                role: Some(role).filter(|role| *role != 0),
                database: (only != 0).then(|| database.to_owned()),
                name: name.to_ascii_lowercase(),
                value: value.to_owned(),
            });
        }
    });
    found
}

/// Whether a role owns an object, in this or another database.
pub fn owns_objects(state: &dyn State, role: Oid) -> bool {
    const OWNER: u8 = b'o';
    let table = state.table(oids::PG_SHDEPEND);
    let kind = table.column("deptype");
    let keys = [(table.column("refclassid"), oids::PG_AUTHID), (table.column("refobjid"), role)];
    let mut owns = false;
    table.lookup_while(oids::PG_SHDEPEND_REFERENCE_INDEX, &keys, |row| {
        owns = row.char(kind) == OWNER;
        !owns
    });
    owns
}

/// Returns the value of a parameter that is stored for a database and a role, 0 for all.
pub fn stored_setting(
    state: &dyn State,
    database: Oid,
    role: Oid,
    parameter: &str,
) -> Option<String> {
    let table = state.table(oids::PG_DB_ROLE_SETTING);
    let (of_database, of_role, config) =
        (table.column("setdatabase"), table.column("setrole"), table.column("setconfig"));
    let mut found = None;
    table.scan(|row| {
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
