//! What types alone cannot say about a contract: names that must be declared, versions, duplicates.

use super::problem::{Path, Problems};
use super::{ByRole, Contract};
use crate::rules;
use crate::sql::printable;
use std::collections::HashSet;

impl Contract {
    /// Notes everything that makes the document no contract although it has the shape of one.
    pub(super) fn check(&self, problems: &mut Problems) {
        let mut check = Check { problems, roles: HashSet::new(), schemas: HashSet::new() };
        let root = Path::Root;
        if semver::Version::parse(&self.version).is_err() {
            check.problems.error(&root.field("version"), "this is no semantic version", "1.0.0 and the like".to_owned());
        }
        check.roles(self);
        check.schemas(self);
        check.objects(self);
        check.functions(self);
        check.security_definer(self);
        let known: Vec<&str> = rules::RULES.iter().map(|r| r.id).collect();
        for rule in self.rules.keys().filter(|rule| rules::find(rule).is_none()) {
            check.problems.error(&root.field("rules").field(rule), "there is no such rule", known.join(", "));
        }
    }
}

struct Check<'c> {
    problems: &'c mut Problems,
    roles: HashSet<&'c str>,
    schemas: HashSet<&'c str>,
}

impl<'c> Check<'c> {
    fn name(&mut self, path: &Path<'_>, name: &str) {
        if name.is_empty() || name.len() > 63 || name.contains('\0') {
            self.problems.error(path, "this is no name", "a name of 1 to 63 bytes".to_owned());
        }
    }

    fn twice(&mut self, path: &Path<'_>, what: &str, name: &str) {
        self.problems.error(path, format!("{what} \"{}\" is declared twice", printable(name)), "each once".to_owned());
    }

    fn role(&mut self, path: &Path<'_>, role: &str) {
        if !self.roles.contains(role) {
            let problem = format!("role \"{}\" is not declared in $.roles", printable(role));
            self.problems.error(path, problem, self.names(&self.roles));
        }
    }

    fn schema(&mut self, path: &Path<'_>, schema: &str) {
        if !self.schemas.contains(schema) {
            let problem = format!("schema \"{}\" is not declared in $.schemas", printable(schema));
            self.problems.error(path, problem, self.names(&self.schemas));
        }
    }

    /// The first few of the declared names.
    fn names(&self, names: &HashSet<&str>) -> Option<String> {
        let mut names: Vec<_> = names.iter().map(|name| printable(name)).collect();
        names.sort_unstable();
        names.truncate(20);
        (!names.is_empty()).then(|| names.join(", "))
    }

    fn grants<W>(&mut self, path: &Path<'_>, grants: &ByRole<W>) {
        for role in grants.keys() {
            self.role(&path.field(role), role);
        }
    }

    fn roles(&mut self, contract: &'c Contract) {
        let list = Path::Root.field("roles");
        for (i, role) in contract.roles.iter().enumerate() {
            let at = list.item(i);
            self.name(&at.field("name"), &role.name);
            if !self.roles.insert(&role.name) {
                self.twice(&at.field("name"), "role", &role.name);
            }
        }
        let list = Path::Root.field("trusted_roles");
        for (i, role) in contract.trusted_roles.iter().enumerate() {
            self.name(&list.item(i), role);
        }
    }

    fn schemas(&mut self, contract: &'c Contract) {
        let list = Path::Root.field("schemas");
        for (i, schema) in contract.schemas.iter().enumerate() {
            let at = list.item(i);
            self.name(&at.field("name"), &schema.name);
            if !self.schemas.insert(&schema.name) {
                self.twice(&at.field("name"), "schema", &schema.name);
            }
            for (field, roles) in [
                ("usage", &schema.usage),
                ("all_on_objects", &schema.all_on_objects),
                ("execute_on_routines", &schema.execute_on_routines),
            ] {
                for (j, role) in roles.iter().enumerate() {
                    self.role(&at.field(field).item(j), role);
                }
            }
        }
    }

    /// Tables, views and sequences share the names of a schema.
    fn objects(&mut self, contract: &'c Contract) {
        let root = Path::Root;
        let mut known: HashSet<(&str, &str)> = HashSet::new();
        let mut object = |check: &mut Self, at: &Path<'_>, schema: &'c str, name: &'c str| {
            check.name(&at.field("name"), name);
            check.schema(&at.field("schema"), schema);
            if !known.insert((schema, name)) {
                check.twice(&at.field("name"), "the name", name);
            }
        };
        let list = root.field("tables");
        for (i, table) in contract.tables.iter().enumerate() {
            let at = list.item(i);
            object(self, &at, &table.schema, &table.name);
            self.grants(&at.field("grants"), &table.grants);
            self.grants(&at.field("policies"), &table.policies);
        }
        let list = root.field("views");
        for (i, view) in contract.views.iter().enumerate() {
            let at = list.item(i);
            object(self, &at, &view.schema, &view.name);
            self.grants(&at.field("grants"), &view.grants);
        }
        let list = root.field("sequences");
        for (i, sequence) in contract.sequences.iter().enumerate() {
            let at = list.item(i);
            object(self, &at, &sequence.schema, &sequence.name);
            self.grants(&at.field("grants"), &sequence.grants);
        }
    }

    fn functions(&mut self, contract: &'c Contract) {
        let list = Path::Root.field("functions");
        let mut known = HashSet::new();
        for (i, function) in contract.functions.iter().enumerate() {
            let at = list.item(i);
            self.name(&at.field("name"), &function.name);
            self.schema(&at.field("schema"), &function.schema);
            if !known.insert((&function.schema, &function.name, &function.arguments)) {
                self.twice(&at.field("name"), "function", &function.name);
            }
            for (j, role) in function.execute.iter().enumerate() {
                self.role(&at.field("execute").item(j), role);
            }
        }
    }

    fn security_definer(&mut self, contract: &Contract) {
        let of = Path::Root.field("security_definer");
        let at = of.field("search_path");
        let path = &contract.security_definer.search_path;
        for (i, part) in path.iter().enumerate() {
            self.name(&at.item(i), part);
        }
        if path.last().map(String::as_str) != Some("pg_temp") {
            let allowed = "a path with pg_temp at its end, or none that follows it is safe".to_owned();
            self.problems.error(&at, "the last name is not pg_temp", allowed);
        }
        if let Some(i) = path.iter().position(|name| name == "$user") {
            let allowed = "schemas by their names: who is called what changes without an event".to_owned();
            self.problems.error(&at.item(i), "\"$user\" is safe for nobody", allowed);
        }
    }
}
