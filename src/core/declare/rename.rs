//! ALTER ... RENAME and SET SCHEMA: what is declared for a name is declared for another one. Where
//! only the new name is declared, the contract says so already: the call of a HINT can be repeated.

use super::amend::not_reserved;
use super::amendment::Amendment;
use super::objects::{Kind, taken};
use super::{Name, Renamed, Target, Unfit};
use crate::sql::{printable, safe_ident, safe_qualified};
use std::collections::BTreeMap;

impl Amendment<'_> {
    pub(super) fn rename(&mut self, renamed: &Renamed) -> Result<(), Unfit> {
        match renamed {
            Renamed::Object(Target::Role(from), to) => self.rename_role(from, &to.name),
            Renamed::Object(Target::Schema(from), to) => self.rename_schema(from, &to.name),
            Renamed::Object(Target::Table(from), to) => self.rename_relation(from, Kind::Table, to),
            Renamed::Object(Target::View(from), to) => {
                self.rename_relation(from, Kind::View(false), to)
            }
            Renamed::Object(Target::MaterializedView(from), to) => {
                self.rename_relation(from, Kind::View(true), to)
            }
            Renamed::Object(Target::Sequence(from), to) => {
                self.rename_relation(from, Kind::Sequence, to)
            }
            Renamed::Object(Target::Function(from), to) => {
                self.require_schema(&from.name.schema)?;
                self.require_schema(&to.schema)?;
                self.objects.rename_function(from, to)?;
                if from.arguments.as_ref().is_some_and(|types| !types.trim().is_empty()) {
                    return Ok(());
                }
                self.contract().identity.rename_functions(|schema, name| {
                    if (schema.as_str(), name.as_str()) == (&*from.name.schema, &*from.name.name) {
                        to.schema.clone_into(schema);
                        to.name.clone_into(name);
                    }
                });
                Ok(())
            }
            Renamed::Column(relation, from, to) => self.rename_column(relation, from, to),
        }
    }

    fn rename_relation(&mut self, from: &Name, kind: Kind, to: &Name) -> Result<(), Unfit> {
        self.require_schema(&from.schema)?;
        self.require_schema(&to.schema)?;
        self.objects.rename(from, kind, to)?;
        self.contract().identity.rename_columns(|schema, table, _| {
            if (schema.as_str(), table.as_str()) == (&*from.schema, &*from.name) {
                to.schema.clone_into(schema);
                to.name.clone_into(table);
            }
        });
        Ok(())
    }

    fn rename_role(&mut self, from: &str, to: &str) -> Result<(), Unfit> {
        if self.contract().role(to).is_some() {
            if self.contract().role(from).is_none() {
                return Ok(());
            }
            let message = format!("role \"{}\" is already declared", printable(to));
            return Err(taken(message, "ROLE", &*safe_ident(from), &*safe_ident(to)));
        }
        to.clone_into(&mut self.role(from)?.name);
        let contract = self.contract();
        in_list(&mut contract.trusted_roles, from, to);
        in_map(&mut contract.identity.sessions, from, to);
        for list in contract.readers.iter_mut().chain(&mut contract.deployers) {
            in_list(list, from, to);
        }
        for schema in &mut contract.schemas {
            for list in
                [&mut schema.usage, &mut schema.all_on_objects, &mut schema.execute_on_routines]
            {
                in_list(list, from, to);
            }
        }
        for table in &mut contract.tables {
            in_map(&mut table.grants, from, to);
            in_map(&mut table.column_grants, from, to);
            in_map(&mut table.policies, from, to);
            table.all_rows.iter_mut().for_each(|all_rows| in_map(all_rows, from, to));
            in_map(&mut table.open_rows, from, to);
            in_list(&mut table.append_only_by, from, to);
        }
        for view in &mut contract.views {
            in_map(&mut view.grants, from, to);
            in_map(&mut view.column_grants, from, to);
        }
        contract.sequences.iter_mut().for_each(|s| in_map(&mut s.grants, from, to));
        contract.functions.iter_mut().for_each(|f| in_list(&mut f.execute, from, to));
        Ok(())
    }

    fn rename_schema(&mut self, from: &str, to: &str) -> Result<(), Unfit> {
        let follows_already =
            self.contract().schema(from).is_none() && self.contract().schema(to).is_some();
        if follows_already {
            return Ok(());
        }
        self.require_schema(from)?;
        not_reserved(to)?;
        if self.contract().schema(to).is_some() {
            let message = format!("schema \"{}\" is already declared", printable(to));
            return Err(taken(message, "SCHEMA", &*safe_ident(from), &*safe_ident(to)));
        }
        let contract = self.contract();
        let schemas = contract.schemas.iter_mut().map(|schema| &mut schema.name);
        let tables = contract.tables.iter_mut().map(|table| &mut table.schema);
        let views = contract.views.iter_mut().map(|view| &mut view.schema);
        let sequences = contract.sequences.iter_mut().map(|sequence| &mut sequence.schema);
        let functions = contract.functions.iter_mut().map(|function| &mut function.schema);
        let path = contract.security_definer.search_path.iter_mut();
        let all = schemas.chain(tables).chain(views).chain(sequences).chain(functions).chain(path);
        all.filter(|name| *name == from).for_each(|name| to.clone_into(name));
        let renamed = |schema: &mut String| {
            if *schema == from {
                to.clone_into(schema);
            }
        };
        contract.identity.rename_columns(|schema, _, _| renamed(schema));
        contract.identity.rename_functions(|schema, _| renamed(schema));
        self.objects.find_again();
        Ok(())
    }

    fn rename_column(&mut self, relation: &Name, from: &str, to: &str) -> Result<(), Unfit> {
        self.require_schema(&relation.schema)?;
        let (kind, place) = self.objects.known(relation)?;
        let contract = self.contract();
        contract.identity.rename_columns(|schema, table, column| {
            if (schema.as_str(), table.as_str()) == (&*relation.schema, &*relation.name)
                && *column == from
            {
                to.clone_into(column);
            }
        });
        let declared = match kind {
            Kind::Table => {
                let table = &mut contract.tables[place];
                in_list(&mut table.keys, from, to);
                table.open_rows.values_mut().for_each(|columns| in_list(columns, from, to));
                &mut table.column_grants
            }
            Kind::View(_) => &mut contract.views[place].column_grants,
            Kind::Sequence => {
                return Err(Unfit::new(
                    format!("{} is a sequence", safe_qualified(&relation.schema, &relation.name)),
                    "Name a table or a view.",
                ));
            }
        };
        for columns in declared.values_mut() {
            for list in [
                &mut columns.select,
                &mut columns.insert,
                &mut columns.update,
                &mut columns.references,
            ] {
                in_list(list, from, to);
            }
        }
        Ok(())
    }
}

fn in_list(names: &mut [String], from: &str, to: &str) {
    names.iter_mut().filter(|name| *name == from).for_each(|name| to.clone_into(name));
}

fn in_map<T>(by_role: &mut BTreeMap<String, T>, from: &str, to: &str) {
    if let Some(declared) = by_role.remove(from) {
        by_role.insert(to.to_owned(), declared);
    }
}
