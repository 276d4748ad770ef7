//! Reads what in the relations of untrusted owners executes code: a change of the owner would
//! change as which role it runs.

use crate::source::{Column, Row, State};
use crate::{objects, oids};
use dragonfly_core::catalog::{Code, Oid, Relation, RelationKind, Snapshot};
use dragonfly_core::contract::Contract;
use std::collections::{BTreeSet, HashSet};

/// Adds to the relations whose owner is neither a superuser nor an owner role or a trusted role of
/// the contract what in them executes code.
pub fn read(state: &dyn State, contract: &Contract, snapshot: &mut Snapshot) {
    let trusted: HashSet<Oid> = snapshot
        .roles
        .iter()
        .filter(|role| role.superuser || contract.trusts(&role.name))
        .map(|role| role.oid)
        .collect();
    for relation in snapshot.relations.iter_mut().filter(|r| !trusted.contains(&r.owner)) {
        state.interrupts();
        complete(state, relation);
    }
}

fn complete(state: &dyn State, relation: &mut Relation) {
    let mut code = BTreeSet::new();
    match relation.kind {
        RelationKind::View | RelationKind::MaterializedView => {
            relation.protected = protected(state, relation.oid);
        }
        RelationKind::Sequence => {}
        RelationKind::Table | RelationKind::PartitionedTable | RelationKind::ForeignTable => {
            own(state, relation.oid, &mut code);
            if descendants(state, relation.oid).into_iter().any(|oid| {
                let mut of_descendant = BTreeSet::new();
                own(state, oid, &mut of_descendant);
                !of_descendant.is_empty()
            }) {
                code.insert(Code::Descendant);
            }
        }
    }
    relation.code = code.into_iter().collect();
}

/// Returns the names of the tables with row security that a view reads, as SQL.
fn protected(state: &dyn State, view: Oid) -> Vec<String> {
    let mut found: Vec<String> = objects::behind_view(state, view)
        .into_iter()
        .filter(|oid| objects::has_row_security(state, *oid))
        .filter_map(|oid| state.name(oids::PG_CLASS, oid))
        .map(|(schema, name)| dragonfly_core::sql::safe_qualified(&schema, &name))
        .collect();
    found.sort();
    found
}

/// Adds what a table executes itself.
fn own(state: &dyn State, table: Oid, code: &mut BTreeSet<Code>) {
    let mut add = |kind: Code, is_there: bool| {
        if is_there {
            code.insert(kind);
        }
    };
    add(Code::Trigger, has_triggers(state, table));
    add(Code::Rule, objects::has_rules(state, table));
    add(Code::Index, has_indexes_with_expressions(state, table));
    add(Code::Constraint, has_constraints_that_call(state, table));
    add(Code::Default, has_defaults_that_call(state, table));
    add(Code::Statistics, has_statistics_about_expressions(state, table));
    add(Code::PartitionKey, has_partition_expressions(state, table));
    add(Code::View, is_read_by_views(state, table));
}

/// Whether a row of a catalog about a table fulfils a condition. `by` is the column with the table,
/// the first of the index.
fn any_row(
    state: &dyn State,
    catalog: Oid,
    index: Oid,
    by: &str,
    table: Oid,
    columns: &[&str],
    is_it: impl Fn(&Row<'_>, &[Column]) -> bool,
) -> bool {
    let open = state.table(catalog);
    let columns: Vec<Column> = columns.iter().map(|name| open.column(name)).collect();
    let mut found = false;
    open.lookup(index, &[(open.column(by), table)], |row| {
        found |= is_it(&row, &columns);
    });
    found
}

/// Triggers, except those that the server has created for foreign keys.
fn has_triggers(state: &dyn State, table: Oid) -> bool {
    any_row(
        state,
        oids::PG_TRIGGER,
        oids::PG_TRIGGER_RELID_INDEX,
        "tgrelid",
        table,
        &["tgisinternal"],
        |row, columns| !row.bool(columns[0]),
    )
}

fn has_indexes_with_expressions(state: &dyn State, table: Oid) -> bool {
    any_row(
        state,
        oids::PG_INDEX,
        oids::PG_INDEX_RELID_INDEX,
        "indrelid",
        table,
        &["indexprs", "indpred"],
        |row, columns| columns.iter().any(|column| !row.is_null(*column)),
    )
}

fn has_constraints_that_call(state: &dyn State, table: Oid) -> bool {
    any_row(
        state,
        oids::PG_CONSTRAINT,
        oids::PG_CONSTRAINT_RELID_INDEX,
        "conrelid",
        table,
        &["oid", "contype"],
        |row, columns| {
            matches!(row.char(columns[1]), b'c' | b'x')
                && calls(state, oids::PG_CONSTRAINT, row.oid(columns[0]))
        },
    )
}

fn has_defaults_that_call(state: &dyn State, table: Oid) -> bool {
    any_row(
        state,
        oids::PG_ATTRDEF,
        oids::PG_ATTRDEF_RELID_INDEX,
        "adrelid",
        table,
        &["oid"],
        |row, columns| calls(state, oids::PG_ATTRDEF, row.oid(columns[0])),
    )
}

fn has_statistics_about_expressions(state: &dyn State, table: Oid) -> bool {
    any_row(
        state,
        oids::PG_STATISTIC_EXT,
        oids::PG_STATISTIC_EXT_RELID_INDEX,
        "stxrelid",
        table,
        &["stxexprs"],
        |row, columns| !row.is_null(columns[0]),
    )
}

fn has_partition_expressions(state: &dyn State, table: Oid) -> bool {
    any_row(
        state,
        oids::PG_PARTITIONED_TABLE,
        oids::PG_PARTITIONED_TABLE_RELID_INDEX,
        "partrelid",
        table,
        &["partexprs"],
        |row, columns| !row.is_null(columns[0]),
    )
}

/// Whether an object depends on a function or an operator that is not the server's own: the server
/// records no dependencies on its own objects.
fn calls(state: &dyn State, catalog: Oid, object: Oid) -> bool {
    let table = state.table(oids::PG_DEPEND);
    let to = table.column("refclassid");
    let keys = [(table.column("classid"), catalog), (table.column("objid"), object)];
    let mut found = false;
    table.lookup(oids::PG_DEPEND_DEPENDER_INDEX, &keys, |row| {
        found |= matches!(row.oid(to), oids::PG_PROC | oids::PG_OPERATOR);
    });
    found
}

/// Whether a view or a rule of another relation reads or writes the table.
fn is_read_by_views(state: &dyn State, table: Oid) -> bool {
    let depend = state.table(oids::PG_DEPEND);
    let (class, kind) = (depend.column("classid"), depend.column("deptype"));
    let keys = [(depend.column("refclassid"), oids::PG_CLASS), (depend.column("refobjid"), table)];
    let mut found = false;
    depend.lookup(oids::PG_DEPEND_REFERENCE_INDEX, &keys, |row| {
        found |= row.oid(class) == oids::PG_REWRITE && row.char(kind) == b'n';
    });
    found
}

/// Returns the tables that a table is a partition of or inherits from, and their ancestors.
pub fn ancestors(state: &dyn State, table: Oid) -> Vec<Oid> {
    let inherits = state.table(oids::PG_INHERITS);
    let (child, parent) = (inherits.column("inhrelid"), inherits.column("inhparent"));
    let (mut found, mut queue) = (Vec::new(), vec![table]);
    while let Some(oid) = queue.pop() {
        inherits.lookup(oids::PG_INHERITS_CHILD_INDEX, &[(child, oid)], |row| {
            let parent = row.oid(parent);
            if !found.contains(&parent) {
                found.push(parent);
                queue.push(parent);
            }
        });
    }
    found
}

/// Returns the partitions of a table and the tables that inherit from it, and their descendants.
fn descendants(state: &dyn State, table: Oid) -> HashSet<Oid> {
    let inherits = state.table(oids::PG_INHERITS);
    let (child, parent) = (inherits.column("inhrelid"), inherits.column("inhparent"));
    let (mut found, mut queue) = (HashSet::new(), vec![table]);
    while let Some(oid) = queue.pop() {
        inherits.lookup(oids::PG_INHERITS_PARENT_INDEX, &[(parent, oid)], |row| {
            if found.insert(row.oid(child)) {
                queue.push(row.oid(child));
            }
        });
    }
    found
}
