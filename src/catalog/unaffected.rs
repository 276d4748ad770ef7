//! Whether a transaction has changed nothing of a relation, or of a type, that the rules check: it
//! has written no row about it, or only such as a storage parameter or a plain index changes.

use super::code::ancestors;
use super::objects::{extension_of, is_written};
use super::oids;
use super::place::place;
use super::toast::{TOAST, is_granted_toast};
use crate::pg::heap::{Row, State, Table, of_row};
use dragonfly_core::catalog::{ObjectId, Oid};
use dragonfly_reader::Column;

/// What `pg_class` says about a relation and the rules check.
#[derive(PartialEq, Eq)]
struct Class {
    kind: u8,
    persistence: u8,
    name: String,
    schema: Oid,
    owner: Oid,
    acl: Vec<u8>,
    row_security: [bool; 2],
    is_partition: bool,
    is_populated: bool,
    has_rules: bool,
    has_triggers: bool,
}

impl Class {
    fn read(state: &State, relation: Oid) -> Option<Self> {
        let table = Table::open(oids::PG_CLASS);
        let column = |name| table.column(name);
        let mut found = None;
        let keys = [(column("oid"), relation)];
        table.lookup(state, oids::PG_CLASS_OID_INDEX, &keys, |row| {
            let (is, oid) = (|name| row.bool(column(name)), |name| row.oid(column(name)));
            found = Some(Self {
                kind: row.char(column("relkind")),
                persistence: row.char(column("relpersistence")),
                name: row.name(column("relname")),
                schema: oid("relnamespace"),
                owner: oid("relowner"),
                acl: row.with_bytes(column("relacl"), <[u8]>::to_vec),
                row_security: [is("relrowsecurity"), is("relforcerowsecurity")],
                is_partition: is("relispartition"),
                is_populated: is("relispopulated"),
                has_rules: is("relhasrules"),
                has_triggers: is("relhastriggers"),
            });
        });
        found
    }

    fn is_index(&self) -> bool {
        matches!(self.kind, b'i' | b'I')
    }

    fn is_temporary(&self) -> bool {
        self.persistence == b't'
    }
}

/// Whether nothing that is checked of a relation differs between the state before the transaction
/// and now. It may, where this returns false.
pub fn is_relation_unaffected(relation: Oid, [then, now]: [&State; 2]) -> bool {
    let (before, after) = (Class::read(then, relation), Class::read(now, relation));
    let (class, state) = match (&before, &after) {
        (_, Some(after)) => (after, now),
        (Some(before), None) => (before, then),
        // The transaction has created and dropped it, or another one has dropped it.
        (None, None) => return true,
    };
    if class.is_index() {
        return is_plain_index(state, relation);
    }
    if class.kind == TOAST {
        return !is_granted_toast(now, relation);
    }
    if class.is_temporary() {
        return matches!(class.kind, b'r' | b'S') && ancestors(state, relation).is_empty();
    }
    // Of other kinds, there are properties in other catalogs. Of the guard's own tables, even an
    // index matters.
    matches!(class.kind, b'r' | b'p' | b'm' | b'S')
        && before == after
        && extension_of(state, oids::PG_CLASS, relation).is_none()
        // Attaching a partition writes no row about the partitions of that one.
        && ancestors(then, relation) == ancestors(now, relation)
        && !is_part_written(relation, class, [then, now])
}

/// Whether an index has neither expressions nor a condition, which execute code, and is not unique:
/// whose rows a policy opens may depend on a unique key.
fn is_plain_index(state: &State, index: Oid) -> bool {
    let table = Table::open(oids::PG_INDEX);
    let (key, mut is_plain) = (table.column("indexrelid"), false);
    table.lookup(state, oids::PG_INDEX_INDEXRELID_INDEX, &[(key, index)], |row| {
        is_plain = !row.bool(table.column("indisunique"))
            && ["indexprs", "indpred"].iter().all(|name| row.is_null(table.column(name)));
    });
    is_plain
}

/// Whether the transaction has written a row about a part of a relation, other than an index: its
/// columns, policies, triggers and rules, and what depends on it or what it depends on. There is
/// such a row about each default, constraint, direct parent and direct child.
fn is_part_written(relation: Oid, class: &Class, states: [&State; 2]) -> bool {
    let is_written_in = |catalog, index, key: &str| {
        let table = Table::open(catalog);
        let keys = [(table.column(key), relation)];
        table.any_own_version(index, &keys, |_| true)
    };
    is_written_in(oids::PG_ATTRIBUTE, oids::PG_ATTRIBUTE_RELID_INDEX, "attrelid")
        || is_written_in(oids::PG_POLICY, oids::PG_POLICY_RELID_INDEX, "polrelid")
        || class.has_triggers
            && is_written_in(oids::PG_TRIGGER, oids::PG_TRIGGER_RELID_INDEX, "tgrelid")
        || class.has_rules
            && is_written_in(oids::PG_REWRITE, oids::PG_REWRITE_RELATION_INDEX, "ev_class")
        || is_dependency_written(relation, states)
}

fn is_dependency_written(relation: Oid, [then, now]: [&State; 2]) -> bool {
    let table = Table::open(oids::PG_DEPEND);
    let column = |name| table.column(name);
    let (class, object): (Column, Column) = (column("classid"), column("objid"));
    let (to_class, to_object) = (column("refclassid"), column("refobjid"));
    let is_of_index = |row: &Row<'_>| {
        let user = row.oid(object);
        row.oid(class) == oids::PG_CLASS
            && [now, then].into_iter().any(|state| is_plain_index(state, user))
    };
    let uses = [(class, oids::PG_CLASS), (object, relation)];
    let users = [(to_class, oids::PG_CLASS), (to_object, relation)];
    table.any_own_version(oids::PG_DEPEND_DEPENDER_INDEX, &uses, |_| true)
        || table.any_own_version(oids::PG_DEPEND_REFERENCE_INDEX, &users, |row| !is_of_index(row))
}

/// Whether a type is a new one that belongs to a relation or another type: of these, only renaming
/// and another owner matter.
pub fn is_type_unaffected(of: Oid, [then, now]: [&State; 2]) -> bool {
    let existed = of_row(then, oids::TYPE_BY_OID, of, "oid", |_, _| ()).is_some();
    !existed && place(now, oids::PG_TYPE, of).is_none()
}

/// Whether the transaction has not written the catalog row of a routine.
pub fn is_row_unaffected(routine: Oid, now: &State) -> bool {
    !is_written(now, ObjectId::Routine(routine))
}
