//! Reads what callers of SECURITY DEFINER routines choose the types of, and what the bodies do with
//! it. Nothing is parsed by the server and nothing is executed.

use super::oids;
use crate::pg::heap::{Row, State, Table, interrupts, of_row};
use crate::pg::text::from_server;
use dragonfly_core::catalog::{
    BOOTSTRAP_SUPERUSER, CallerTyped, FIRST_NORMAL, Oid, Privileges, Routine, Snapshot, TypeChoice,
};
use dragonfly_core::sql::argument_use::{Argument, Source};
use dragonfly_core::sql::body::Language;
use pgrx::pg_sys;
use std::collections::HashMap;
use std::ffi::{CStr, c_char};

/// The types of arguments for which a caller can pass a value of any type.
const ANY_TYPES: [Oid; 14] = [
    pg_sys::ANYOID.to_u32(),
    pg_sys::ANYARRAYOID.to_u32(),
    pg_sys::ANYELEMENTOID.to_u32(),
    pg_sys::ANYNONARRAYOID.to_u32(),
    pg_sys::ANYENUMOID.to_u32(),
    pg_sys::ANYRANGEOID.to_u32(),
    pg_sys::ANYMULTIRANGEOID.to_u32(),
    pg_sys::ANYCOMPATIBLEOID.to_u32(),
    pg_sys::ANYCOMPATIBLEARRAYOID.to_u32(),
    pg_sys::ANYCOMPATIBLENONARRAYOID.to_u32(),
    pg_sys::ANYCOMPATIBLERANGEOID.to_u32(),
    pg_sys::ANYCOMPATIBLEMULTIRANGEOID.to_u32(),
    pg_sys::RECORDOID.to_u32(),
    pg_sys::RECORDARRAYOID.to_u32(),
];

/// Adds what callers choose the types of, for the routines of the snapshot that have been read from
/// `state`.
pub fn read(state: &State, snapshot: &mut Snapshot) {
    let mut owners = HashMap::new();
    let mut found = HashMap::new();
    for routine in snapshot.routines.iter().filter(|routine| is_callable_by_others(routine)) {
        interrupts();
        let mut chosen: Vec<(usize, TypeChoice)> = Vec::new();
        for (at, argument) in routine.arguments.iter().enumerate() {
            let choice = choice(state, *argument, routine.owner, &mut owners);
            chosen.extend(choice.map(|choice| (at, choice)));
        }
        if !chosen.is_empty() || routine.converts_result {
            found.insert(routine.oid, caller_typed(state, routine, &chosen));
        }
    }
    snapshot.caller_typed = found;
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

/// Returns how the caller chooses the type of an argument; `None` where it does not, or where the
/// type belongs to the owner of the routine or to the bootstrap superuser.
fn choice(
    state: &State,
    argument: Oid,
    owner: Oid,
    owners: &mut HashMap<Oid, Oid>,
) -> Option<TypeChoice> {
    if ANY_TYPES.contains(&argument) {
        return Some(TypeChoice::Any);
    }
    if argument < FIRST_NORMAL {
        return None;
    }
    let type_owner = *owners.entry(argument).or_insert_with(|| {
        of_row(state, oids::TYPE_BY_OID, argument, "typowner", |row, owner| row.oid(owner))
            .unwrap_or(BOOTSTRAP_SUPERUSER)
    });
    (type_owner != owner && type_owner != BOOTSTRAP_SUPERUSER)
        .then_some(TypeChoice::Owned(type_owner))
}

/// Returns what the caller of a routine chooses the types of: the `chosen` arguments, by position,
/// and the columns of its result.
fn caller_typed(
    state: &State,
    routine: &Routine,
    chosen: &[(usize, TypeChoice)],
) -> Vec<CallerTyped> {
    let table = Table::open(oids::PG_PROC);
    let column = |name| table.column(name);
    let (oid, language, source) = (column("oid"), column("prolang"), column("prosrc"));
    let (names, modes, result) =
        (column("proargnames"), column("proargmodes"), column("prorettype"));
    let mut found = Vec::new();
    table.lookup(state, oids::PG_PROC_OID_INDEX, &[(oid, routine.oid)], |row| {
        if routine.converts_result {
            let executes = Some("the conversion of the result".to_owned());
            let name = String::new();
            found.push(CallerTyped { choice: TypeChoice::Result, name, executes });
        }
        let names = argument_names(row.raw(names), row.raw(modes));
        let text = row.text(source).unwrap_or_default();
        let language = language_of(state, row.oid(language));
        let has_fixed_result = has_fixed_result(&row, result);
        for (at, choice) in chosen {
            let argument = Argument {
                name: names.get(*at).cloned().unwrap_or_default(),
                position: at + 1,
                is_record: routine.arguments[*at] == pg_sys::RECORDOID.to_u32(),
            };
            let source = Source {
                text: &text,
                language,
                routine: &routine.name,
                arguments: std::slice::from_ref(&argument),
                has_fixed_result,
            };
            let executes = source.executes();
            let name =
                if argument.name.is_empty() { format!("${}", at + 1) } else { argument.name };
            found.push(CallerTyped { choice: *choice, name, executes });
        }
    });
    found
}

/// Whether a value that is returned is converted to a type that the caller does not choose.
fn has_fixed_result(row: &Row<'_>, result: crate::pg::heap::Column) -> bool {
    let result = row.oid(result);
    !ANY_TYPES.contains(&result) && result != pg_sys::VOIDOID.to_u32()
}

/// Returns the language of a body as far as its text can be read.
fn language_of(state: &State, language: Oid) -> Language {
    let name =
        of_row(state, oids::LANGUAGE_BY_OID, language, "lanname", |row, name| row.name(name));
    match name.as_deref() {
        Some("sql") => Language::Sql,
        Some("plpgsql") => Language::PlPgSql,
        _ => Language::Other,
    }
}

/// Returns the names of the input arguments; empty for those without one, and none where no
/// argument has one.
fn argument_names(names: Option<pg_sys::Datum>, modes: Option<pg_sys::Datum>) -> Vec<String> {
    let null = pg_sys::Datum::from(0);
    let mut found: *mut *mut c_char = std::ptr::null_mut();
    // SAFETY: the datums are proargnames and proargmodes of one row, or null; the function returns
    // so many pointers, each null or to a C string.
    unsafe {
        let count = pg_sys::get_func_input_arg_names(
            names.unwrap_or(null),
            modes.unwrap_or(null),
            &raw mut found,
        );
        (0..usize::try_from(count).unwrap_or_default())
            .map(|at| *found.add(at))
            .map(|name| {
                if name.is_null() {
                    String::new()
                } else {
                    from_server(CStr::from_ptr(name).to_bytes())
                }
            })
            .collect()
    }
}
