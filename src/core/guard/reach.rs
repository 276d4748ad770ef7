//! How far declarations reach: beyond the objects that a transaction changes, or into a schema that
//! is dropped.

use crate::declare::{Declaration, Name, On, Target};
use std::collections::HashSet;

/// Whether findings about other objects than those that declarations name may depend on them: a
/// role or a schema that is declared from now on, and a view or a routine that decides which
/// privileges on other objects are needed.
pub(super) fn reaches_further(declarations: &[Declaration]) -> bool {
    let is_near = |one: &Declaration| match one {
        Declaration::Create(target) | Declaration::Drop(target) => {
            matches!(target, Target::Table(_) | Target::Sequence(_))
        }
        Declaration::Grant(grant) => {
            !grant.is_revoke || !matches!(grant.on, On::Tables(_) | On::AllTables(_))
        }
        Declaration::CreateFunction { .. }
        | Declaration::RowSecurity(..)
        | Declaration::CreatePolicy(_)
        | Declaration::DropPolicy(_) => true,
        _ => false,
    };
    !declarations.iter().all(is_near)
}

/// Returns declarations without those that drop what is dropped with its schema.
pub(super) fn without_dropped_with_schema(mut all: Vec<Declaration>) -> Vec<Declaration> {
    let dropped = all.iter().filter_map(|one| match one {
        Declaration::Drop(Target::Schema(name)) => Some(name.clone()),
        _ => None,
    });
    let dropped: HashSet<String> = dropped.collect();
    all.retain(|one| match one {
        Declaration::Drop(target) => {
            dropped_object(target).is_none_or(|name| !dropped.contains(&name.schema))
        }
        _ => true,
    });
    all
}

/// Returns the name of the object in a schema that is dropped.
fn dropped_object(target: &Target) -> Option<&Name> {
    match target {
        Target::Table(name)
        | Target::View(name)
        | Target::MaterializedView(name)
        | Target::Sequence(name) => Some(name),
        Target::Function(function) => Some(&function.name),
        Target::Schema(_) | Target::Role(_) => None,
    }
}
