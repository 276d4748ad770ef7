//! Reads the code that a plan has to know: texts of routines, triggers, operators, and which views
//! ask for memberships.

use crate::policies::asks_memberships;
use crate::source::{Row, State, Table};
use crate::{bodies, oids};
use dragonfly_core::catalog::{FIRST_NORMAL, Oid, PG_CATALOG};
use dragonfly_core::plan::{Code, Text};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Reads the texts of routines whose names are looked up when they run, the triggers, the
/// operators, and the views that ask for memberships.
pub fn code(state: &dyn State) -> Code {
    let mut code = Code { triggers: triggers(state), ..Code::default() };
    let languages = bodies::languages(state);
    let table = state.table(oids::PG_PROC);
    let (oid, schema, name, language, text, parsed) = (
        table.column("oid"),
        table.column("pronamespace"),
        table.column("proname"),
        table.column("prolang"),
        table.column("prosrc"),
        table.column("prosqlbody"),
    );
    table.scan(|row| {
        if row.oid(schema) == PG_CATALOG {
            return;
        }
        if let Some(body) = row.bytes(parsed) {
            if asks_memberships(state, &body) {
                code.asking_bodies.insert(row.oid(oid));
            }
        } else if let Some(language) = languages.get(&row.oid(language))
            && let Some(source) = row.text(text)
        {
            code.texts.insert(row.oid(oid), Text { language: *language, source });
            code.names.insert(row.oid(oid), (row.oid(schema), row.name(name)));
        }
    });
    let table = state.table(oids::PG_OPERATOR);
    let (oid, name, function) =
        (table.column("oid"), table.column("oprname"), table.column("oprcode"));
    table.scan(|row| {
        if row.oid(oid) >= FIRST_NORMAL {
            code.operators.push((row.oid(function), row.name(name)));
        }
    });
    let table = state.table(oids::PG_REWRITE);
    let (oid, relation, action) =
        (table.column("oid"), table.column("ev_class"), table.column("ev_action"));
    table.scan(|row| {
        if row.oid(oid) >= FIRST_NORMAL
            && row.bytes(action).is_some_and(|text| asks_memberships(state, &text))
        {
            code.asking_views.insert(row.oid(relation));
        }
    });
    code
}

/// Reads the texts of some routines, those without text omitted.
pub fn of(state: &dyn State, routines: &BTreeSet<Oid>) -> HashMap<Oid, Text> {
    let languages = bodies::languages(state);
    let table = state.table(oids::PG_PROC);
    let (oid, language, text, parsed) = (
        table.column("oid"),
        table.column("prolang"),
        table.column("prosrc"),
        table.column("prosqlbody"),
    );
    let mut texts = HashMap::new();
    for routine in routines {
        state.interrupts();
        table.lookup(oids::PG_PROC_OID_INDEX, &[(oid, *routine)], |row| {
            if row.is_null(parsed)
                && let Some(language) = languages.get(&row.oid(language))
                && let Some(source) = row.text(text)
            {
                texts.insert(*routine, Text { language: *language, source });
            }
        });
    }
    texts
}

/// Returns the relations and routines that have one of some names, except those of the system
/// catalog.
pub fn named(state: &dyn State, names: &HashSet<String>) -> (Vec<Oid>, Vec<Oid>) {
    let of = |catalog, name, schema, is_meant: &dyn Fn(&Row<'_>, &Table<'_>) -> bool| {
        let table = state.table(catalog);
        let (oid, name, schema) = (table.column("oid"), table.column(name), table.column(schema));
        let mut found = Vec::new();
        table.scan(|row| {
            if names.contains(row.borrowed_name(name).as_ref())
                && row.oid(schema) != PG_CATALOG
                && is_meant(&row, &table)
            {
                found.push(row.oid(oid));
            }
        });
        found
    };
    let has_name = |row: &Row<'_>, table: &Table<'_>| {
        matches!(row.char(table.column("relkind")), b'r' | b'p' | b'f' | b'v' | b'm' | b'S')
    };
    let relations = of(oids::PG_CLASS, "relname", "relnamespace", &has_name);
    (relations, of(oids::PG_PROC, "proname", "pronamespace", &|_, _| true))
}

/// Returns table and function of every trigger, except those of foreign keys.
fn triggers(state: &dyn State) -> Vec<(Oid, Oid)> {
    let triggers = state.table(oids::PG_TRIGGER);
    let (table, function, internal) =
        (triggers.column("tgrelid"), triggers.column("tgfoid"), triggers.column("tgisinternal"));
    let mut found = Vec::new();
    triggers.scan(|row| {
        if !row.bool(internal) {
            found.push((row.oid(table), row.oid(function)));
        }
    });
    found
}
