//! Reads what callers of SECURITY DEFINER routines choose the types of, and what the bodies do with
//! it. Nothing is parsed by the server and nothing is executed.

use crate::oids;
use crate::source::{Column, Row, State, of_row};
use crate::types;
use crate::types::row_type;
use dragonfly_core::catalog::{
    BOOTSTRAP_SUPERUSER, CallerTyped, FIRST_NORMAL, Oid, Privileges, Routine, Snapshot, TypeChoice,
    input_names,
};
use dragonfly_core::sql::argument_use::{Argument, Source};
use dragonfly_core::sql::body::Language;
use dragonfly_core::sql::cursor_use::{Continues, continues};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// The types of arguments that name a cursor.
const CURSORS: [Oid; 2] = [types::REFCURSOR, types::REFCURSOR_ARRAY];

/// Adds what callers choose the types of, for the routines of the snapshot that have been read from
/// `state`.
pub fn read(state: &dyn State, snapshot: &mut Snapshot) {
    let mut owners = Owners::default();
    let mut found = HashMap::new();
    for routine in snapshot.routines.iter().filter(|routine| is_callable_by_others(routine)) {
        state.interrupts();
        let mut chosen: Vec<(usize, TypeChoice)> = Vec::new();
        for (at, argument) in routine.arguments.iter().enumerate() {
            let choices = choices(state, *argument, routine.owner, &mut owners);
            chosen.extend(choices.into_iter().map(|choice| (at, choice)));
        }
        if !chosen.is_empty() || routine.converts_result {
            let typed = caller_typed(state, routine, &chosen);
            if !typed.is_empty() {
                found.insert(routine.oid, typed);
            }
        }
    }
    snapshot.caller_typed = found;
}

/// Whether callers of a routine may choose types or pass cursors, by the types of its result and of
/// its arguments: a type of another role, or a role that can create types, may make it exploitable.
#[must_use]
pub fn may_choose_types(result: Oid, arguments: &[Oid]) -> bool {
    let may_be_chosen = |argument: &Oid| {
        *argument >= FIRST_NORMAL || takes_any(*argument) || CURSORS.contains(argument)
    };
    result == types::RECORD || arguments.iter().any(may_be_chosen)
}

/// Returns a type that a relation is the row type of, if its owner differs in two states.
pub fn row_type_of_another_owner(then: &dyn State, now: &dyn State, relation: Oid) -> Option<Oid> {
    let owner =
        |state| of_row(state, oids::CLASS_BY_OID, relation, "relowner", |row, of| row.oid(of));
    let (before, after) = (owner(then)?, owner(now)?);
    if before == after {
        return None;
    }
    row_type(now, relation)
}

/// Returns the type that a relation is the row type of, if a column has a type that no column had
/// in the earlier state: the owner of that type can add casts to it.
pub fn row_type_with_new_types(then: &dyn State, now: &dyn State, relation: Oid) -> Option<Oid> {
    let types = |state| -> HashSet<Oid> {
        let types = column_types(state, relation).into_iter();
        types.filter(|column| *column >= FIRST_NORMAL).collect()
    };
    let after = types(now);
    // No routine has had an argument of the type of a new relation.
    if after.is_empty() || after.is_subset(&types(then)) {
        return None;
    }
    row_type(then, relation).and_then(|_| row_type(now, relation))
}

/// Whether another role than the owner may execute a SECURITY DEFINER routine. Functions for
/// triggers have no arguments; EXECUTE on these is a matter of other rules.
fn is_callable_by_others(routine: &Routine) -> bool {
    routine.security_definer
        && routine.acl.as_ref().is_none_or(|acl| {
            acl.iter().any(|item| {
                item.grantee != routine.owner && item.privileges.contains(Privileges::EXECUTE)
            })
        })
}

/// The owners of types, by type: thousands of routines share a few.
type Owners = HashMap<Oid, Rc<[Oid]>>;

/// Whether a caller can pass a value of any type for an argument of this type.
fn takes_any(argument: Oid) -> bool {
    types::POLYMORPHIC.contains(&argument) || argument == types::RECORD_ARRAY
}

/// Returns how the caller chooses the type of an argument: not at all where it and the types in it
/// belong to the owner of the routine or to the bootstrap superuser.
fn choices(state: &dyn State, argument: Oid, owner: Oid, owners: &mut Owners) -> Vec<TypeChoice> {
    if takes_any(argument) {
        return vec![TypeChoice::Any];
    }
    if CURSORS.contains(&argument) {
        return vec![TypeChoice::Cursor];
    }
    if argument < FIRST_NORMAL {
        return vec![];
    }
    let owners = owners.entry(argument).or_insert_with(|| owners_of(state, argument).into());
    owners.iter().filter(|of| **of != owner).map(|of| TypeChoice::Owned(*of)).collect()
}

/// How many types are followed from the type of an argument.
const MOST_TYPES: usize = 100;

/// Returns the owners of a type and of the types that it consists of, without the bootstrap
/// superuser. A cast of a domain or an array is a cast of its base type or elements, and JSON
/// contains the fields of a composite type.
fn owners_of(state: &dyn State, argument: Oid) -> Vec<Oid> {
    let table = state.table(oids::PG_TYPE);
    let column = |name| table.column(name);
    let (oid, of, relation) = (column("oid"), column("typowner"), column("typrelid"));
    let (base, element) = (column("typbasetype"), column("typelem"));
    let (mut owners, mut seen, mut waiting) = (vec![], HashSet::from([argument]), vec![argument]);
    while let Some(one) = waiting.pop().filter(|_| seen.len() <= MOST_TYPES) {
        let mut inside = Vec::new();
        table.lookup(oids::PG_TYPE_OID_INDEX, &[(oid, one)], |row| {
            let owner = row.oid(of);
            if owner != BOOTSTRAP_SUPERUSER && !owners.contains(&owner) {
                owners.push(owner);
            }
            inside.extend([row.oid(base), row.oid(element)]);
            inside.extend(column_types(state, row.oid(relation)));
        });
        inside.retain(|inner| *inner >= FIRST_NORMAL && seen.insert(*inner));
        waiting.extend(inside);
    }
    owners
}

/// Returns the types of the columns of a relation; none for 0.
fn column_types(state: &dyn State, relation: Oid) -> Vec<Oid> {
    let mut types = Vec::new();
    if relation != 0 {
        let table = state.table(oids::PG_ATTRIBUTE);
        let (of, kind) = (table.column("attrelid"), table.column("atttypid"));
        let number = table.column("attnum");
        table.lookup(oids::PG_ATTRIBUTE_RELID_INDEX, &[(of, relation)], |row| {
            if row.int(number) as i16 > 0 {
                types.push(row.oid(kind));
            }
        });
    }
    types
}

/// Returns what the caller of a routine chooses the types of: the `chosen` arguments, by position,
/// and the columns of its result.
fn caller_typed(
    state: &dyn State,
    routine: &Routine,
    chosen: &[(usize, TypeChoice)],
) -> Vec<CallerTyped> {
    let table = state.table(oids::PG_PROC);
    let column = |name| table.column(name);
    let (oid, language, source) = (column("oid"), column("prolang"), column("prosrc"));
    let (names, modes, result) =
        (column("proargnames"), column("proargmodes"), column("prorettype"));
    let mut found = Vec::new();
    table.lookup(oids::PG_PROC_OID_INDEX, &[(oid, routine.oid)], |row| {
        if routine.converts_result {
            let executes = Some("the conversion of the result".to_owned());
            let name = String::new();
            found.push(CallerTyped { choice: TypeChoice::Result, name, executes });
        }
        let names = argument_names(&row, names, modes);
        let text = row.text(source).unwrap_or_default();
        let language = language_of(state, row.oid(language));
        let has_fixed_result = has_fixed_result(&row, result);
        for (at, choice) in chosen {
            let argument = Argument {
                name: names.get(*at).cloned().unwrap_or_default(),
                position: at + 1,
                is_record: routine.arguments[*at] == types::RECORD,
            };
            let executes = if *choice == TypeChoice::Cursor {
                match continues(&text, language, (&argument.name, argument.position)) {
                    Continues::No => continue,
                    Continues::Unknown => None,
                    Continues::Yes(statement) => Some(statement),
                }
            } else {
                let arguments = std::slice::from_ref(&argument);
                let routine = routine.name.as_str();
                Source { text: &text, language, routine, arguments, has_fixed_result }.executes()
            };
            let name =
                if argument.name.is_empty() { format!("${}", at + 1) } else { argument.name };
            found.push(CallerTyped { choice: *choice, name, executes });
        }
    });
    found
}

/// Whether a value that is returned is converted to a type that the caller does not choose.
fn has_fixed_result(row: &Row<'_>, result: crate::source::Column) -> bool {
    let result = row.oid(result);
    !takes_any(result) && result != types::VOID
}

/// Returns the language of a body as far as its text can be read.
pub fn language_of(state: &dyn State, language: Oid) -> Language {
    let name =
        of_row(state, oids::LANGUAGE_BY_OID, language, "lanname", |row, name| row.name(name));
    match name.as_deref() {
        Some("sql") => Language::Sql,
        Some("plpgsql") => Language::PlPgSql,
        _ => Language::Other,
    }
}

/// Returns the names of the input arguments of a row of `pg_proc`, from its columns `proargnames`
/// and `proargmodes`; see [`input_names`].
#[must_use]
pub fn argument_names(row: &Row<'_>, names: Column, modes: Column) -> Vec<String> {
    input_names(&row.texts(names), &row.chars(modes))
}
