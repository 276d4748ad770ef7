//! The order of the lists of a contract, where the order has no meaning.

use super::types::{ByRole, ColumnGrants, Contract};

impl Contract {
    /// Returns the contract with its declarations by schema and name, the names in each list in
    /// alphabetical order, and privileges in the order of GRANT's manual page; each once. The order
    /// of the search_path, which has a meaning, is kept.
    #[must_use]
    pub fn sorted(&self) -> Self {
        let mut contract = self.clone();
        let Self { roles, trusted_roles, schemas, tables, views, sequences, functions, .. } =
            &mut contract;
        roles.sort_by(|a, b| a.name.cmp(&b.name));
        sort(trusted_roles);
        schemas.sort_by(|a, b| a.name.cmp(&b.name));
        for schema in schemas {
            sort(&mut schema.usage);
            sort(&mut schema.all_on_objects);
            sort(&mut schema.execute_on_routines);
        }
        tables.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        for table in tables {
            sort_each(&mut table.grants);
            table.column_grants.values_mut().for_each(sort_columns);
            sort_each(&mut table.policies);
            table.all_rows.iter_mut().for_each(sort_each);
            sort(&mut table.keys);
            sort_each(&mut table.open_rows);
            sort(&mut table.append_only_by);
        }
        views.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        for view in views {
            sort_each(&mut view.grants);
            view.column_grants.values_mut().for_each(sort_columns);
        }
        sequences.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        for sequence in sequences {
            sort_each(&mut sequence.grants);
        }
        functions.sort_by(|a, b| {
            (&a.schema, &a.name, &a.arguments).cmp(&(&b.schema, &b.name, &b.arguments))
        });
        for function in functions {
            sort(&mut function.execute);
        }
        sort(&mut contract.identity.request);
        sort(&mut contract.managed.schemas);
        sort(&mut contract.managed.extensions);
        sort(&mut contract.managed.roles);
        contract
    }
}

fn sort<T: Ord>(list: &mut Vec<T>) {
    list.sort();
    list.dedup();
}

fn sort_each<T: Ord>(lists: &mut ByRole<T>) {
    lists.values_mut().for_each(sort);
}

fn sort_columns(grants: &mut ColumnGrants) {
    let ColumnGrants { select, insert, update, references } = grants;
    for columns in [select, insert, update, references] {
        sort(columns);
    }
}
