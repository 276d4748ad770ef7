//! Reads the state of the guard: its triggers, functions, tables and views, and the settings that
//! could disable it.

use crate::extension::Own;
use crate::routines::argument_types;
use crate::source::{Row, State, of_row};
use crate::{oids, roles};
use dragonfly_core::catalog::extension::{FUNCTIONS, TRIGGERS, is_called_in_ops};
use dragonfly_core::catalog::{
    Acl, Guard, GuardBody, GuardFunction, GuardRelation, GuardTrigger, Oid, Routine, Snapshot,
};
use dragonfly_core::rules::shared::guard_settings;
use dragonfly_core::rules::stored_settings;
use dragonfly_core::sql::safe_qualified;
use std::collections::{HashMap, HashSet};

/// Whether a setting disables the guard in sessions that have it.
pub fn disables_guard(state: &dyn State, setting: &str, value: &str) -> bool {
    // A path that leads to the file that is loaded now changes nothing.
    let is_harmless = setting == guard_settings::LIBRARY_PATH
        && (state.version() < 18 || state.leads_to_own_library(value));
    !is_harmless && guard_settings::disables_guard(setting, value)
}

/// Whether a setting weakens what privileges protect.
pub fn weakens(state: &dyn State, setting: &str, value: &str) -> bool {
    stored_settings::weakness(setting, &state.libraries(value)).is_some()
}

/// The library of every function in the install script.
const LIBRARY: &str = "$libdir/dragonfly_guard";

/// The tables of the private schema with their constraints.
const TABLES: [(&str, &[&str]); 4] = [
    (
        "contract",
        &["contract_pkey", "is_contract", "shipped_is_the_first", "shipped_stays_as_it_is"],
    ),
    ("exemption", &["exemption_pkey", "has_a_reason"]),
    ("frozen_schema", &["frozen_schema_pkey"]),
    ("log", &[]),
];

/// The extension's views, all in schema ops.
const VIEWS: [&str; 5] =
    ["contract_history", "v_exemptions", "v_frozen_schemas", "v_guard_log", "v_security_findings"];

/// `pg_language` OID of C (pg_language.dat).
const C_LANGUAGE: Oid = 13;

/// Reads what rules check of the guard: where the extension is not installed, only settings that
/// weaken privileges.
pub fn read(state: &dyn State, own: Option<&Own>, snapshot: &mut Snapshot) {
    if let Some(own) = own {
        let mut members: HashSet<(Oid, Oid)> = HashSet::new();
        own.members(state, |class, object| {
            members.insert((class, object));
        });
        snapshot.guard = Guard {
            installed: true,
            version: Own::version(state).unwrap_or_default(),
            schema: Some(own.schema),
            skips_superusers: state.skips_superusers(),
            ..Guard::default()
        };
        // A schema may have another name now.
        let names: SchemaNames = snapshot.schemas.iter().map(|s| (s.oid, s.name.clone())).collect();
        functions(state, &members, &names, snapshot);
        triggers(state, own, &members, snapshot);
        relations(state, own, &members, &names, snapshot);
    }
    settings(state, snapshot);
    parameter_acls(state, snapshot);
    server_settings(state, snapshot);
}

/// The names of the schemas in a state.
type SchemaNames = HashMap<Oid, String>;

fn name_in(names: &SchemaNames, schema: Oid) -> String {
    names.get(&schema).cloned().unwrap_or_default()
}

/// Returns a list of argument types as PostgreSQL 15 prints it: since 17, the type json has no
/// schema.
fn printed(state: &dyn State, types: &[Oid]) -> String {
    let name = |of: &Oid| match argument_types(state, &[*of]) {
        name if name == "json" => "pg_catalog.json".to_owned(),
        name => name,
    };
    types.iter().map(name).collect::<Vec<_>>().join(",")
}

fn functions(
    state: &dyn State,
    members: &HashSet<(Oid, Oid)>,
    names: &SchemaNames,
    snapshot: &mut Snapshot,
) {
    let table = state.table(oids::PG_PROC);
    let column = |name| table.column(name);
    let (oid, name, schema, owner) =
        (column("oid"), column("proname"), column("pronamespace"), column("proowner"));
    let (language, symbol, library) = (column("prolang"), column("prosrc"), column("probin"));
    let (arguments, strict, definer) =
        (column("proargtypes"), column("proisstrict"), column("prosecdef"));
    let (config, acl) = (column("proconfig"), column("proacl"));
    for (_, object) in members.iter().filter(|(class, _)| *class == oids::PG_PROC) {
        table.lookup(oids::PG_PROC_OID_INDEX, &[(oid, *object)], |row| {
            let in_library =
                row.oid(language) == C_LANGUAGE && row.text(library).as_deref() == Some(LIBRARY);
            let body = if in_library {
                GuardBody::Symbol(row.text(symbol).unwrap_or_default())
            } else {
                GuardBody::Other
            };
            snapshot.guard.functions.push(GuardFunction {
                schema: name_in(names, row.oid(schema)),
                name: row.name(name),
                arguments: printed(state, &row.oids(arguments)),
                owner: row.oid(owner),
                body,
                strict: row.bool(strict),
                security_definer: row.bool(definer),
                config: row.texts(config),
                acl: row.acl(acl),
            });
        });
    }
    let is_expected = |f: &GuardFunction| {
        FUNCTIONS.iter().any(|(s, n, a, ..)| f.schema == *s && f.name == *n && f.arguments == *a)
    };
    let extra = snapshot.guard.functions.iter().filter(|f| !is_expected(f));
    snapshot.guard.extra_members =
        extra.map(|f| format!("{}({})", safe_qualified(&f.schema, &f.name), f.arguments)).collect();
    // A call with other arguments could execute an overload of one of the extension's functions.
    let is_overload = |r: &&Routine| {
        is_called_in_ops(&r.name)
            && !members.contains(&(oids::PG_PROC, r.oid))
            && name_in(names, r.schema) == "ops"
    };
    let impostors = snapshot
        .routines
        .iter()
        .filter(is_overload)
        .map(|r| (r.name.clone(), printed(state, &r.arguments)));
    snapshot.guard.impostors = impostors.collect();
    snapshot.guard.impostors.sort();
    snapshot.guard.extra_members.sort();
}

fn triggers(state: &dyn State, own: &Own, members: &HashSet<(Oid, Oid)>, snapshot: &mut Snapshot) {
    let table = state.table(oids::PG_EVENT_TRIGGER);
    let column = |name| table.column(name);
    let (oid, name, event, owner) =
        (column("oid"), column("evtname"), column("evtevent"), column("evtowner"));
    let (function, enabled, tags) = (column("evtfoid"), column("evtenabled"), column("evttags"));
    table.scan(|row| {
        let name = row.name(name);
        let Some((_, expected)) = TRIGGERS.iter().find(|(own, _)| *own == name) else { return };
        let function = row.oid(function);
        let row_of = oids::PROC_BY_OID;
        let name_of_function =
            of_row(state, row_of, function, "proname", |row, name| row.name(name));
        let schema = of_row(state, row_of, function, "pronamespace", |row, of| row.oid(of));
        let called = name_of_function.as_deref() == Some(*expected) && schema == Some(own.schema);
        snapshot.guard.triggers.push(GuardTrigger {
            name,
            event: row.name(event),
            enabled: row.char(enabled),
            owner: row.oid(owner),
            calls_own_function: called && members.contains(&(oids::PG_PROC, function)),
            filtered: !row.is_null(tags),
            extension_member: members.contains(&(oids::PG_EVENT_TRIGGER, row.oid(oid))),
            is_skipped: called
                && members.contains(&(oids::PG_PROC, function))
                && state.skips(function),
        });
    });
}

/// Reads the extension's tables and views; other relations that are members are extra members.
fn relations(
    state: &dyn State,
    own: &Own,
    members: &HashSet<(Oid, Oid)>,
    names: &SchemaNames,
    snapshot: &mut Snapshot,
) {
    let table = state.table(oids::PG_CLASS);
    let column = |name| table.column(name);
    let (oid, name, schema, owner, acl, kind) = (
        column("oid"),
        column("relname"),
        column("relnamespace"),
        column("relowner"),
        column("relacl"),
        column("relkind"),
    );
    let (columns, has_index, has_rules, row_security) = (
        column("relnatts"),
        column("relhasindex"),
        column("relhasrules"),
        column("relrowsecurity"),
    );
    for (_, object) in members.iter().filter(|(class, _)| *class == oids::PG_CLASS) {
        table.lookup(oids::PG_CLASS_OID_INDEX, &[(oid, *object)], |row| {
            let relation = GuardRelation {
                schema: name_in(names, row.oid(schema)),
                name: row.name(name),
                owner: row.oid(owner),
                acl: row.acl(acl),
                columns: column_acls(state, *object),
                ..GuardRelation::default()
            };
            let own_table =
                TABLES.iter().find(|(name, _)| row.char(kind) == b'r' && *name == relation.name);
            match (own_table, row.char(kind), relation.schema.as_str(), relation.name.as_str()) {
                (Some((name, constraints)), ..) => {
                    let is_log = *name == "log";
                    // Rows are read and written without rules, row security and indexes of the
                    // log, so there must be none.
                    let is_plain = !row.bool(has_rules)
                        && !row.bool(row_security)
                        && row.oid(schema) == own.schema;
                    let is_altered = !is_plain
                        || (is_log && (row.bool(has_index) || row.int(columns) as i16 != 2));
                    snapshot.guard.tables.push(GuardRelation {
                        missing_constraints: missing_constraints(state, *object, constraints),
                        is_altered,
                        triggers: triggers_on(state, *object),
                        ..relation
                    });
                }
                (_, b'v', "ops", name) if VIEWS.contains(&name) => {
                    snapshot.guard.views.push(relation);
                }
                _ => snapshot
                    .guard
                    .extra_members
                    .push(safe_qualified(&relation.schema, &relation.name)),
            }
        });
    }
    let exists = |view: &str| snapshot.guard.views.iter().any(|found| found.name == view);
    let missing = VIEWS.iter().filter(|view| !exists(view));
    snapshot.guard.missing_views = missing.map(|view| (*view).to_owned()).collect();
}

fn column_acls(state: &dyn State, relation: Oid) -> Vec<(String, Acl)> {
    let table = state.table(oids::PG_ATTRIBUTE);
    let (owner, name, acl) =
        (table.column("attrelid"), table.column("attname"), table.column("attacl"));
    let mut found = Vec::new();
    table.lookup(oids::PG_ATTRIBUTE_RELID_INDEX, &[(owner, relation)], |row| {
        found.extend(row.acl(acl).map(|acl| (row.name(name), acl)));
    });
    found
}

fn missing_constraints(state: &dyn State, relation: Oid, constraints: &[&str]) -> Vec<String> {
    let names = names_on(
        state,
        oids::PG_CONSTRAINT,
        oids::PG_CONSTRAINT_RELID_INDEX,
        "conrelid",
        "conname",
        relation,
    );
    constraints.iter().filter(|c| !names.iter().any(|n| n == *c)).map(|c| (*c).to_owned()).collect()
}

fn triggers_on(state: &dyn State, relation: Oid) -> Vec<String> {
    names_on(state, oids::PG_TRIGGER, oids::PG_TRIGGER_RELID_INDEX, "tgrelid", "tgname", relation)
}

/// Returns the names of the rows of a catalog that belong to a relation.
fn names_on(
    state: &dyn State,
    catalog: Oid,
    index: Oid,
    relation: &str,
    name: &str,
    oid: Oid,
) -> Vec<String> {
    let table = state.table(catalog);
    let (relation, name) = (table.column(relation), table.column(name));
    let mut names = Vec::new();
    table.lookup(index, &[(relation, oid)], |row: Row<'_>| names.push(row.name(name)));
    names.sort();
    names
}

/// Reads the settings of roles and databases that could disable the guard or weaken privileges.
fn settings(state: &dyn State, snapshot: &mut Snapshot) {
    let mut found = roles::settings(state, &snapshot.database.name);
    found.retain(|s| disables_guard(state, &s.name, &s.value) || weakens(state, &s.name, &s.value));
    snapshot.guard.settings = found;
}

/// Reads the privileges on the settings that could disable or omit the guard.
fn parameter_acls(state: &dyn State, snapshot: &mut Snapshot) {
    let table = state.table(oids::PG_PARAMETER_ACL);
    let (name, acl) = (table.column("parname"), table.column("paracl"));
    table.scan(|row| {
        let name = row.text(name).unwrap_or_default();
        if guard_settings::is_own_parameter(&name, state.version()) {
            snapshot.guard.parameters.push((name, row.acl(acl).unwrap_or_default()));
        }
    });
}

/// Reads the values that RESET would restore: from the configuration file, ALTER SYSTEM, the
/// command line, and the session's role and database. Values that the session has set are not
/// checked.
fn server_settings(state: &dyn State, snapshot: &mut Snapshot) {
    let found = &mut snapshot.guard.server_settings;
    for parameter in guard_settings::DISABLING {
        let value = state.default_of(parameter);
        found.extend(
            value.filter(|v| disables_guard(state, parameter, v)).map(|v| (parameter.into(), v)),
        );
    }
    let login = state.login();
    for parameter in stored_settings::PARAMETERS {
        // A stored setting is reported by itself.
        let is_of_session = snapshot.guard.settings.iter().any(|stored| {
            stored.name == parameter && stored.role.is_none_or(|role| Some(role) == login)
        });
        let value = if is_of_session { None } else { state.default_of(parameter) };
        found.extend(value.filter(|v| weakens(state, parameter, v)).map(|v| (parameter.into(), v)));
    }
    // Those that disable the guard matter where there is one.
    let of_guard = guard_settings::DISABLING.iter().filter(|parameter| {
        snapshot.guard.installed && guard_settings::is_own_parameter(parameter, state.version())
    });
    let checked = of_guard.chain(&stored_settings::PARAMETERS);
    let hidden = checked.filter(|parameter| state.hides(parameter)).map(|&name| name.to_owned());
    snapshot.guard.hidden_settings = hidden.collect();
}
