//! What types alone cannot say about a contract: names that must be declared, versions, duplicates.

use super::problem::{Path, Problems};
use super::shipped::shipped_rules;
use super::types::{ByRole, Contract};
use crate::sql::{argument_types, printable};
use std::collections::HashSet;

/// What is not known for certain, because something is wrong there.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Doubt {
    /// The roles that are declared.
    pub roles: bool,
    /// The schemas that are declared.
    pub schemas: bool,
}

impl Contract {
    /// Notes everything that makes the document no contract although it has the shape of one.
    pub(super) fn check(&self, doubt: Doubt, problems: &mut Problems<'_>) {
        let mut check =
            Check { problems, doubt, roles: Known::default(), schemas: Known::default() };
        let root = Path::Root;
        let version = semver::Version::parse(&self.version);
        let small = |v: &semver::Version| {
            [v.major, v.minor, v.patch].iter().all(|n| u32::try_from(*n).is_ok())
        };
        if !version.as_ref().is_ok_and(small) {
            check.problems.error(
                &root.field("version"),
                "this is no semantic version",
                "1.0.0 and the like".to_owned(),
            );
        }
        check.roles(self);
        check.schemas(self);
        check.objects(self);
        check.functions(self);
        check.security_definer(self);
        let known: Vec<&str> = shipped_rules().keys().map(String::as_str).collect();
        for rule in self.rules.keys().filter(|rule| !shipped_rules().contains_key(*rule)) {
            check.problems.error(
                &root.field("rules").field(rule),
                "there is no such rule",
                known.join(", "),
            );
        }
    }
}

/// Declared names, and the first of them as an error lists them.
#[derive(Debug, Default)]
struct Known<'c> {
    names: HashSet<&'c str>,
    listed: Option<String>,
}

impl Known<'_> {
    fn list(&mut self) {
        let mut names: Vec<_> =
            self.names.iter().filter(|name| !name.is_empty()).map(|name| printable(name)).collect();
        names.sort_unstable();
        names.truncate(20);
        self.listed = (!names.is_empty()).then(|| names.join(", "));
    }
}

struct Check<'c, 'p, 'i> {
    problems: &'p mut Problems<'i>,
    doubt: Doubt,
    roles: Known<'c>,
    schemas: Known<'c>,
}

impl<'c> Check<'c, '_, '_> {
    /// As long as a name can be. (In UTF-8 that is 63 bytes, in other encodings of a database as
    /// many characters.)
    fn name(&mut self, path: &Path<'_>, name: &str) {
        self.problems.check_interrupts();
        if name.is_empty() || name.chars().count() > 63 || name.contains('\0') {
            self.problems.error(path, "this is no name", "a name of 1 to 63 characters".to_owned());
        }
    }

    fn twice(&mut self, path: &Path<'_>, what: &str, name: &str) {
        self.problems.error(
            path,
            format!("{what} \"{}\" is declared twice", printable(name)),
            "each once".to_owned(),
        );
    }

    fn role(&mut self, path: &Path<'_>, role: &str) {
        self.problems.check_interrupts();
        if !self.roles.names.contains(role) && !self.doubt.roles {
            let problem = format!("role \"{}\" is not declared in $.roles", printable(role));
            self.problems.error(path, problem, self.roles.listed.clone());
        }
    }

    fn schema(&mut self, path: &Path<'_>, schema: &str) {
        if !self.schemas.names.contains(schema) && !self.doubt.schemas {
            let problem = format!("schema \"{}\" is not declared in $.schemas", printable(schema));
            self.problems.error(path, problem, self.schemas.listed.clone());
        }
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
            if matches!(role.name.as_str(), "public" | "none") {
                let problem = "this word stands for something else where a role is named";
                self.problems.error(&at.field("name"), problem, "another name".to_owned());
            }
            if !self.roles.names.insert(&role.name) {
                self.twice(&at.field("name"), "role", &role.name);
            }
        }
        self.roles.list();
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
            if !self.schemas.names.insert(&schema.name) {
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
        self.schemas.list();
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
            let arguments = function.arguments.as_deref().map(argument_types);
            if !known.insert((&function.schema, &function.name, arguments)) {
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
            let allowed =
                "a path with pg_temp at its end, or none that follows it is safe".to_owned();
            self.problems.error(&at, "the last name is not pg_temp", allowed);
        }
        for (i, name) in path.iter().enumerate() {
            let wrong = match name.as_str() {
                "$user" => Some((
                    "\"$user\" is safe for nobody",
                    "schemas by their names: who is called what changes without an event",
                )),
                "pg_temp" if i + 1 < path.len() => {
                    Some(("pg_temp stands before others", "pg_temp at the end alone"))
                }
                "pg_catalog" if i > 0 => Some((
                    "pg_catalog does not come first",
                    "pg_catalog at the beginning, or nowhere",
                )),
                name if name.starts_with("pg_temp_") || name.starts_with("pg_toast_temp_") => {
                    Some(("this is a session's temporary schema", "schemas that last"))
                }
                _ => None,
            };
            if let Some((problem, allowed)) = wrong {
                self.problems.error(&at.item(i), problem, allowed.to_owned());
            }
        }
    }
}
