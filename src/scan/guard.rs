//! The guard's own state: its triggers, functions and tables, and what could silence it.

use super::oids;
use super::own::Own;
use crate::pg::heap::{Latest, Table};
use dragonfly_core::catalog::{Guard, GuardFunction, GuardTrigger, Oid, RoleSetting, Snapshot};
use dragonfly_core::rules::guard_tampered::TRIGGERS;
use dragonfly_core::sql::safe_qualified;
use pgrx::pg_sys;
use std::collections::HashSet;

/// Settings that can silence the guard, or the triggers it lives by.
const SILENCERS: [&str; 3] = ["session_replication_role", "event_triggers", "dragonfly_guard.mode"];

/// What the install script gives to every function of the library.
const LIBRARY: &str = "$libdir/dragonfly_guard";

/// Reads everything that `guard_tampered` judges.
pub fn read(latest: &Latest, own: &Own, snapshot: &mut Snapshot) {
    let mut members: HashSet<(Oid, Oid)> = HashSet::new();
    own.members(latest, |class, object| {
        members.insert((class, object));
    });
    snapshot.guard = Guard { installed: true, schema: Some(own.schema), ..Guard::default() };
    functions(latest, &members, snapshot);
    triggers(latest, &members, snapshot);
    tables(latest, own, &members, snapshot);
    settings(latest, snapshot);
}

fn functions(latest: &Latest, members: &HashSet<(Oid, Oid)>, snapshot: &mut Snapshot) {
    let table = Table::open(oids::PG_PROC);
    let column = |name| table.column(name);
    let (oid, name, schema, owner) = (column("oid"), column("proname"), column("pronamespace"), column("proowner"));
    let (language, symbol, library, body) = (column("prolang"), column("prosrc"), column("probin"), column("prosqlbody"));
    let mut own_names = HashSet::new();
    for (_, object) in members.iter().filter(|(class, _)| *class == oids::PG_PROC) {
        table.lookup(latest, oids::PG_PROC_OID_INDEX, &[(oid, *object)], |row| {
            let name = row.name(name);
            // Every symbol is the function's name behind a prefix; the one exception is a query, which is parsed when it is made.
            let symbol = row.text(symbol).unwrap_or_default();
            let in_library = row.oid(language) == C_LANGUAGE
                && row.text(library).as_deref() == Some(LIBRARY)
                && ["ops_", "guard_"].iter().any(|prefix| symbol.strip_prefix(prefix).is_some_and(|s| s.starts_with(&name)));
            let genuine = in_library || (name == "rls_policies" && row.oid(language) == SQL_LANGUAGE && !row.is_null(body));
            let schema_name = snapshot.schemas.iter().find(|s| s.oid == row.oid(schema)).map_or("", |s| s.name.as_str());
            snapshot.guard.functions.push(GuardFunction {
                identity: format!("{}()", safe_qualified(schema_name, &name)),
                owner: row.oid(owner),
                genuine,
            });
            own_names.insert((row.oid(schema), name));
        });
    }
    // An overload beside one of ours is what a call with fewer arguments would reach.
    for routine in snapshot.routines.iter().filter(|r| own_names.contains(&(r.schema, r.name.clone()))) {
        if !members.contains(&(oids::PG_PROC, routine.oid)) {
            let schema_name = snapshot.schemas.iter().find(|s| s.oid == routine.schema).map_or("", |s| s.name.as_str());
            snapshot.guard.impostors.push(safe_qualified(schema_name, &routine.name));
        }
    }
    snapshot.guard.functions.sort_by(|a, b| a.identity.cmp(&b.identity));
    snapshot.guard.impostors.sort();
}

/// `pg_language` OIDs (pg_language.dat).
const C_LANGUAGE: Oid = 13;
const SQL_LANGUAGE: Oid = 14;

fn triggers(latest: &Latest, members: &HashSet<(Oid, Oid)>, snapshot: &mut Snapshot) {
    let table = Table::open(oids::PG_EVENT_TRIGGER);
    let column = |name| table.column(name);
    let (oid, name, event, owner) = (column("oid"), column("evtname"), column("evtevent"), column("evtowner"));
    let (function, enabled) = (column("evtfoid"), column("evtenabled"));
    table.scan(latest, |row| {
        let name = row.name(name);
        if TRIGGERS.iter().any(|(own, _)| *own == name) {
            snapshot.guard.triggers.push(GuardTrigger {
                name,
                event: row.name(event),
                enabled: row.char(enabled),
                owner: row.oid(owner),
                own_function: members.contains(&(oids::PG_PROC, row.oid(function))),
                extension_member: members.contains(&(oids::PG_EVENT_TRIGGER, row.oid(oid))),
            });
        }
    });
}

fn tables(latest: &Latest, own: &Own, members: &HashSet<(Oid, Oid)>, snapshot: &mut Snapshot) {
    let table = Table::open(oids::PG_CLASS);
    let column = |name| table.column(name);
    let (oid, name, schema, owner, acl, kind) =
        (column("oid"), column("relname"), column("relnamespace"), column("relowner"), column("relacl"), column("relkind"));
    table.scan(latest, |row| {
        if row.oid(schema) == own.schema && row.char(kind) == b'r' && members.contains(&(oids::PG_CLASS, row.oid(oid))) {
            snapshot.guard.tables.push((row.name(name), row.oid(owner), row.acl(acl)));
        }
    });
}

fn settings(latest: &Latest, snapshot: &mut Snapshot) {
    // SAFETY: reads a variable of the backend.
    let current = unsafe { pg_sys::MyDatabaseId }.to_u32();
    let table = Table::open(oids::PG_DB_ROLE_SETTING);
    let (database, role, config) = (table.column("setdatabase"), table.column("setrole"), table.column("setconfig"));
    table.scan(latest, |row| {
        if row.oid(database) != 0 && row.oid(database) != current {
            return;
        }
        for (name, value) in row.texts(config).iter().filter_map(|item| item.split_once('=')) {
            if SILENCERS.iter().any(|s| s.eq_ignore_ascii_case(name)) {
                snapshot.guard.settings.push(RoleSetting {
                    role: Some(row.oid(role)).filter(|r| *r != 0),
                    database: (row.oid(database) != 0).then(|| snapshot.database.name.clone()),
                    name: name.to_ascii_lowercase(),
                    value: value.to_owned(),
                });
            }
        }
    });
    let table = Table::open(oids::PG_PARAMETER_ACL);
    let (name, acl) = (table.column("parname"), table.column("paracl"));
    table.scan(latest, |row| {
        let name = row.text(name).unwrap_or_default();
        if SILENCERS.contains(&name.as_str()) {
            snapshot.guard.parameters.push((name, row.acl(acl).unwrap_or_default()));
        }
    });
}
