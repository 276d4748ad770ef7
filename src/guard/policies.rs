//! The tables whose policies mean something else, or may, because of what a transaction has
//! changed: a function, a view, or a table that the policies look up.

use super::changes::{self, Changed};
use super::transaction;
use crate::catalog::{self, Consulted, MovedNames, Own};
use crate::pg::heap::State;
use crate::store::contract;
use dragonfly_core::catalog::{Oid, Policy, Relation, Snapshot};
use dragonfly_core::contract::Contract;

/// Whether the contract says of a table by which columns a row is its caller's: then the guard
/// checks the policies of the table.
pub fn checks_any(contract: &Contract) -> bool {
    contract.tables.iter().any(|table| !table.keys.is_empty())
}

/// Whether a snapshot has policies that the guard checks. It does that at commit.
pub fn are_in(contract: &Contract, snapshot: &Snapshot) -> bool {
    checked(contract, snapshot).next().is_some()
}

/// Whether a policy that the guard checks lets every row through, as it is written. That is a
/// violation when the statement ends, unless other policies tie the rows.
pub fn states_all_rows(contract: &Contract, snapshot: &Snapshot) -> bool {
    let is_for_all = |policy: &Policy| policy.always_true || policy.unchecked;
    checked(contract, snapshot).any(is_for_all)
}

/// Returns the policies of a snapshot that the guard checks.
fn checked<'s>(contract: &Contract, snapshot: &'s Snapshot) -> impl Iterator<Item = &'s Policy> {
    let has_keys = |relation: &&Relation| {
        let schema = snapshot.schema_name(relation.schema);
        contract.table(schema, &relation.name).is_some_and(|table| !table.keys.is_empty())
    };
    let tables = snapshot.relations.iter().filter(has_keys);
    tables.flat_map(|table| snapshot.policies_of(table.oid))
}

/// Returns the tables, of which the contract says by which columns a row is its caller's, whose
/// policies consult something that has changed; `None` where the contract says that of no table.
///
/// Another transaction can make a policy consult what this one has changed. So the answer is final
/// only with the commit lock held, or where no other transaction has been committed since.
pub fn concerned(changed: &[Changed], [then, now]: [&State; 2]) -> Option<Vec<Oid>> {
    if !Own::is_there(then) {
        return None;
    }
    // Without a valid contract, other checks reject what the guard concerns.
    let contract = contract::valid_in_force(now)?;
    if !checks_any(&contract) {
        return None;
    }
    let consulted = Consulted::in_state(then, now, &contract);
    let has_operator =
        changed.iter().any(|one| matches!(one, Changed::Other(catalog::PG_OPERATOR, _)));
    let mut schemas = MovedNames::default();
    if changed.contains(&Changed::Schemas) {
        let after = catalog::current_base();
        let before = transaction::base_before(then, &after);
        schemas = MovedNames::between([then, now], [&before, &after], &[]);
    }
    let objects = changed.iter().filter_map(address);
    let mut tables = consulted.tables(now, objects, schemas.schemas());
    if changed.contains(&Changed::Schemas) {
        Consulted::forget();
    }
    // A text names operators by symbols, which new ones can have as well.
    if has_operator {
        tables.extend(consulted.tables_with_text());
    }
    Some(tables)
}

/// Returns the names that stand for another object than before the transaction.
pub fn moved_names(states: [&State; 2], snapshots: [&Snapshot; 2]) -> MovedNames {
    let changed = changes::all();
    let is_of_any_name = |one: &Changed| {
        matches!(
            one,
            Changed::Catalogs
                | Changed::Other(catalog::PG_OPERATOR, _)
                | Changed::Object(catalog::PG_CAST, _)
        )
    };
    if changed.iter().any(is_of_any_name) {
        return MovedNames::any();
    }
    let objects: Vec<(Oid, Oid)> = changed.iter().filter_map(address).collect();
    MovedNames::between(states, snapshots, &objects)
}

/// Returns the catalog and the OID of a changed relation, routine or operator.
fn address(changed: &Changed) -> Option<(Oid, Oid)> {
    match *changed {
        Changed::Relation(oid) => Some((catalog::PG_CLASS, oid)),
        Changed::Routine(oid) | Changed::RoutineRow(oid) => Some((catalog::PG_PROC, oid)),
        Changed::Other(catalog::PG_OPERATOR, oid) => Some((catalog::PG_OPERATOR, oid)),
        _ => None,
    }
}
