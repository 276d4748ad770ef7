//! What types alone cannot say about a contract: names that must be declared, versions, duplicates.

use super::{Contract, ContractError};
use crate::rules;
use crate::sql::printable;
use std::collections::HashSet;

impl Contract {
    /// The first thing that is wrong with the document, if any.
    pub(super) fn check(&self) -> Result<(), ContractError> {
        let numbers: Vec<&str> = self.version.split('.').collect();
        if numbers.len() != 3 || numbers.iter().any(|n| n.parse::<u32>().is_err()) {
            return fail("$.version", "a semantic version such as 1.0.0 is expected");
        }
        let mut names = HashSet::new();
        for (i, role) in self.roles.iter().enumerate() {
            name(&format!("$.roles[{i}].name"), &role.name)?;
            if !names.insert(role.name.as_str()) {
                return fail(&format!("$.roles[{i}].name"), &format!("role \"{}\" is declared twice", printable(&role.name)));
            }
        }
        let declared = |path: String, role: &str| match names.contains(role) {
            true => Ok(()),
            false => fail(&path, &format!("role \"{}\" is not declared in $.roles", printable(role))),
        };
        let mut schemas = HashSet::new();
        for (i, schema) in self.schemas.iter().enumerate() {
            name(&format!("$.schemas[{i}].name"), &schema.name)?;
            if !schemas.insert(schema.name.as_str()) {
                let message = format!("schema \"{}\" is declared twice", printable(&schema.name));
                return fail(&format!("$.schemas[{i}].name"), &message);
            }
            for (field, roles) in [
                ("usage", &schema.usage),
                ("all_on_objects", &schema.all_on_objects),
                ("execute_on_routines", &schema.execute_on_routines),
            ] {
                for role in roles {
                    declared(format!("$.schemas[{i}].{field}"), role)?;
                }
            }
        }
        let mut objects = HashSet::new();
        let mut object = |path: String, schema: &str, object: &str| {
            name(&format!("{path}.name"), object)?;
            if !schemas.contains(schema) {
                return fail(
                    &format!("{path}.schema"),
                    &format!("schema \"{}\" is not declared in $.schemas", printable(schema)),
                );
            }
            match objects.insert(format!("{schema}\0{object}")) {
                true => Ok(()),
                false => fail(&path, &format!("\"{}\" is declared twice", printable(object))),
            }
        };
        for (i, table) in self.tables.iter().enumerate() {
            object(format!("$.tables[{i}]"), &table.schema, &table.name)?;
            for role in table.grants.keys() {
                declared(format!("$.tables[{i}].grants"), role)?;
            }
            for role in table.policies.keys() {
                declared(format!("$.tables[{i}].policies"), role)?;
            }
        }
        for (i, view) in self.views.iter().enumerate() {
            object(format!("$.views[{i}]"), &view.schema, &view.name)?;
            for role in view.grants.keys() {
                declared(format!("$.views[{i}].grants"), role)?;
            }
        }
        for (i, function) in self.functions.iter().enumerate() {
            name(&format!("$.functions[{i}].name"), &function.name)?;
            if !schemas.contains(function.schema.as_str()) {
                let message = format!("schema \"{}\" is not declared in $.schemas", printable(&function.schema));
                return fail(&format!("$.functions[{i}].schema"), &message);
            }
            for role in &function.execute {
                declared(format!("$.functions[{i}].execute"), role)?;
            }
        }
        for (i, part) in self.security_definer.search_path.iter().enumerate() {
            name(&format!("$.security_definer.search_path[{i}]"), part)?;
        }
        if self.security_definer.search_path.last().map(String::as_str) != Some("pg_temp") {
            return fail("$.security_definer.search_path", "the last name must be pg_temp, or no path that follows it is safe");
        }
        for rule in self.rules.keys() {
            if rules::find(rule).is_none() {
                let known: Vec<&str> = rules::RULES.iter().map(|r| r.id).collect();
                let message = format!("there is no such rule; the rules are {}", known.join(", "));
                return fail(&format!("$.rules.{}", printable(rule)), &message);
            }
        }
        Ok(())
    }
}

fn name(path: &str, name: &str) -> Result<(), ContractError> {
    if name.is_empty() || name.len() > 63 || name.contains('\0') {
        return fail(path, "a name of 1 to 63 bytes is expected");
    }
    Ok(())
}

fn fail(path: &str, message: &str) -> Result<(), ContractError> {
    Err(ContractError { path: path.to_owned(), message: message.to_owned() })
}
