//! Names that are the same as before a transaction: whether an object, a column or a role that a
//! finding names is the one that had the name.

use crate::catalog::{Oid, Relation, Snapshot};
use std::collections::HashMap;

/// Whether a role has another name than before.
#[must_use]
pub fn renames_roles(before: &Snapshot, after: &Snapshot) -> bool {
    if before.roles.is_same(&after.roles) {
        return false;
    }
    // Nearly always both lists agree, in the same order.
    let same = before.roles.iter().zip(&after.roles);
    let same = same.take_while(|(old, new)| (old.oid, &old.name) == (new.oid, &new.name)).count();
    if same == before.roles.len() || same == after.roles.len() {
        return false;
    }
    let names: HashMap<Oid, &str> =
        before.roles[same..].iter().map(|role| (role.oid, role.name.as_str())).collect();
    after.roles[same..].iter().any(|role| names.get(&role.oid).is_some_and(|n| *n != role.name))
}

/// Whether a column is certainly the one that had its name before. Columns that have been added
/// come last; where others have been renamed or dropped, it may be another one.
pub(super) fn is_same_column(before: &Relation, after: &Relation, column: &str) -> bool {
    let (old, new) = (&before.column_names, &after.column_names);
    new.starts_with(old) && (old.is_empty() || old.iter().any(|name| name == column))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::World;

    #[test]
    fn role_is_renamed_only_where_its_name_differs() {
        let before = World::conforming();
        let renames = |change: &dyn Fn(&mut World)| {
            let mut after = World::conforming();
            change(&mut after);
            renames_roles(&before.snapshot, &after.snapshot)
        };
        assert!(!renames(&|_| {}));
        assert!(!renames(&|w| w.add_role("new")));
        assert!(!renames(&|w| w.snapshot.roles.retain(|role| role.name != "anon")));
        assert!(!renames(&|w| w.role("anon").create_db = true));
        assert!(renames(&|w| w.role("anon").name = "web".into()));
    }
}
