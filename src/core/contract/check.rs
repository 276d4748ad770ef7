//! Checks that the types of a contract cannot express: declared names, versions, duplicates.

use super::identity::{IdentityKind, column, signature};
use super::problem::{Path, Problems};
use super::shipped::shipped_rules;
use super::types::{ByRole, ColumnGrantsByRole, Contract, TableDecl};
use crate::catalog::owner_of_reserved_schema;
use crate::sql::similar::did_you_mean;
use crate::sql::{canonical_types, printable};
use std::collections::{BTreeMap, HashSet};

/// The lists of a document in which names are missing because of other errors. Names that are not
/// found in them are not reported.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Incomplete {
    /// Names are missing from `$.roles`.
    pub roles: bool,
    /// Names are missing from `$.schemas`.
    pub schemas: bool,
}

impl Contract {
    /// Reports every error of a document that has the shape of a contract.
    pub(super) fn check(&self, incomplete: Incomplete, problems: &mut Problems<'_>) {
        let mut check =
            Check { problems, incomplete, roles: Names::default(), schemas: Names::default() };
        check.version(self);
        check.roles(self);
        check.schemas(self);
        check.objects(self);
        check.functions(self);
        check.search_path(self);
        check.managed_roles(self);
        check.identity(self);
        check.readers(self);
        check.rules(self);
    }
}

/// Declared names, and the first of them as an error lists them.
#[derive(Debug, Default)]
struct Names<'c> {
    names: HashSet<&'c str>,
    allowed: Option<String>,
}

impl Names<'_> {
    /// The number of names that an error lists.
    const LISTED: usize = 20;

    fn list(&mut self) {
        let mut names: Vec<_> =
            self.names.iter().filter(|name| !name.is_empty()).map(|name| printable(name)).collect();
        names.sort_unstable();
        names.truncate(Self::LISTED);
        self.allowed = (!names.is_empty()).then(|| names.join(", "));
    }

    /// Asks whether the nearest declared name is meant.
    fn nearest(&self, given: &str) -> Option<String> {
        did_you_mean(given, self.names.iter().copied())
    }
}

struct Check<'c, 'p, 'i> {
    problems: &'p mut Problems<'i>,
    incomplete: Incomplete,
    roles: Names<'c>,
    schemas: Names<'c>,
}

/// Whether a text is a semantic version whose numbers leave room for later versions.
pub(crate) fn is_version(text: &str) -> bool {
    let fits =
        |v: &semver::Version| [v.major, v.minor, v.patch].iter().all(|n| u32::try_from(*n).is_ok());
    semver::Version::parse(text).as_ref().is_ok_and(fits)
}

impl<'c> Check<'c, '_, '_> {
    fn version(&mut self, contract: &Contract) {
        if !is_version(&contract.version) {
            self.problems.error(
                &Path::Root.field("version"),
                "not a semantic version",
                "a version such as 1.0.0".to_owned(),
            );
        }
    }

    fn rules(&mut self, contract: &Contract) {
        let known = shipped_rules();
        let ids: Vec<&str> = known.keys().map(String::as_str).collect();
        for rule in contract.rules.keys().filter(|rule| !known.contains_key(*rule)) {
            let path = Path::Root.field("rules");
            self.problems.error_with_hint(
                &path.field(rule),
                "rule does not exist",
                ids.join(", "),
                did_you_mean(rule, ids.iter().copied()),
            );
        }
    }

    /// Checks that a name is not too long. The server's limit is 63 bytes; a name of 63 characters
    /// fits in a database with a single-byte encoding.
    fn name(&mut self, path: &Path<'_>, name: &str) {
        self.problems.check_interrupts();
        if name.is_empty() || name.chars().count() > 63 || name.contains('\0') {
            self.problems.error(
                path,
                "not a valid name",
                "a name of 1 to 63 characters".to_owned(),
            );
        }
    }

    fn duplicate(&mut self, path: &Path<'_>, what: &str, name: &str) {
        let problem = format!("{what} \"{}\" is declared more than once", printable(name));
        self.problems.error(path, problem, "one declaration".to_owned());
    }

    fn role(&mut self, path: &Path<'_>, role: &str) {
        self.problems.check_interrupts();
        if !self.roles.names.contains(role) && !self.incomplete.roles {
            let problem = format!("role \"{}\" is not declared in $.roles", printable(role));
            let hint = self.roles.nearest(role);
            self.problems.error_with_hint(path, problem, self.roles.allowed.clone(), hint);
        }
    }

    fn schema(&mut self, path: &Path<'_>, schema: &str) {
        if !self.schemas.names.contains(schema) && !self.incomplete.schemas {
            let problem = format!("schema \"{}\" is not declared in $.schemas", printable(schema));
            let hint = self.schemas.nearest(schema);
            self.problems.error_with_hint(path, problem, self.schemas.allowed.clone(), hint);
        }
    }

    fn grants<P>(&mut self, path: &Path<'_>, grants: &ByRole<P>) {
        for role in grants.keys() {
            self.role(&path.field(role), role);
        }
    }

    fn column_grants(&mut self, path: &Path<'_>, grants: &ColumnGrantsByRole) {
        for (role, granted) in grants {
            let at = path.field(role);
            self.role(&at, role);
            for (privilege, columns) in granted.each() {
                let word = privilege.to_string();
                self.columns(&at.field(&word), columns);
            }
        }
    }

    fn columns(&mut self, list: &Path<'_>, columns: &[String]) {
        let mut known = HashSet::new();
        for (i, column) in columns.iter().enumerate() {
            self.name(&list.item(i), column);
            if !known.insert(column) {
                self.duplicate(&list.item(i), "column", column);
            }
        }
    }

    /// Checks what a table declares about who its rows belong to.
    fn rows(&mut self, at: &Path<'_>, table: &TableDecl) {
        self.columns(&at.field("keys"), &table.keys);
        let field = at.field("open_rows");
        for (role, columns) in &table.open_rows {
            self.role(&field.field(role), role);
            self.columns(&field.field(role), columns);
        }
        for (i, role) in table.append_only_by.iter().enumerate() {
            self.role(&at.field("append_only_by").item(i), role);
        }
    }

    fn identity(&mut self, contract: &Contract) {
        let declared = &contract.identity;
        let at = Path::Root.field("identity");
        let parameter = |name: &str| (!name.is_empty()).then(|| name.to_ascii_lowercase());
        self.kinds(
            &at.field("functions"),
            ("function", "a function without arguments, with its schema: app.current_user_id()"),
            &declared.functions,
            signature,
        );
        let of_parameters = ("parameter", "the name of a parameter: app.tenant");
        self.kinds(&at.field("settings"), of_parameters, &declared.settings, parameter);
        let of_claims = ("claim", "a key of the claims, keys with dots between them, or *");
        let claim = |key: &str| (!key.is_empty()).then(|| key.to_owned());
        self.kinds(&at.field("claims"), of_claims, &declared.claims, claim);
        let of_columns = ("column", "a column with its table and schema: app.users.preferences");
        self.kinds(&at.field("columns"), of_columns, &declared.columns, column);
        for (field, declared) in [("claims", &declared.claims), ("columns", &declared.columns)] {
            for (name, _) in declared.iter().filter(|(_, kind)| **kind == IdentityKind::Claims) {
                let allowed = "claims for a function or a parameter only".to_owned();
                let problem = "only a whole token is all claims";
                self.problems.error(&at.field(field).field(name), problem, allowed);
            }
        }
        let list = at.field("request");
        for (i, name) in declared.request.iter().enumerate() {
            if name.is_empty() {
                let allowed = of_parameters.1.to_owned();
                self.problems.error(&list.item(i), "not a valid name", allowed);
            }
        }
        let sessions = at.field("sessions");
        for role in declared.sessions.keys() {
            self.role(&sessions.field(role), role);
        }
    }

    /// Checks that names have the form of their kind, and that no two of them mean the same.
    fn kinds(
        &mut self,
        at: &Path<'_>,
        (what, allowed): (&str, &str),
        declared: &BTreeMap<String, IdentityKind>,
        meant: impl Fn(&str) -> Option<String>,
    ) {
        let mut known = HashSet::new();
        for name in declared.keys() {
            self.problems.check_interrupts();
            if let Some(meant) = meant(name) {
                if !known.insert(meant) {
                    self.duplicate(&at.field(name), what, name);
                }
            } else {
                let problem = format!("not a valid name of a {what}");
                self.problems.error(&at.field(name), problem, allowed.to_owned());
            }
        }
    }

    fn roles(&mut self, contract: &'c Contract) {
        let list = Path::Root.field("roles");
        for (i, role) in contract.roles.iter().enumerate() {
            let at = list.item(i);
            self.role_name(&at.field("name"), &role.name);
            if !self.roles.names.insert(&role.name) {
                self.duplicate(&at.field("name"), "role", &role.name);
            }
        }
        self.roles.list();
        let list = Path::Root.field("trusted_roles");
        for (i, role) in contract.trusted_roles.iter().enumerate() {
            self.name(&list.item(i), role);
        }
    }

    /// A pattern without a prefix would excuse every role.
    fn managed_roles(&mut self, contract: &Contract) {
        let of = Path::Root.field("managed");
        let list = of.field("roles");
        for (i, pattern) in contract.managed.roles.iter().enumerate() {
            let at = list.item(i);
            let allowed = "a name, or the beginning of one and *";
            let (name, _) = pattern.split_once('*').unwrap_or((pattern, ""));
            if name.is_empty() || pattern.find('*').is_some_and(|at| at + 1 < pattern.len()) {
                self.problems.error(&at, "not a name or a pattern", allowed.to_owned());
            } else {
                self.name(&at, name);
            }
        }
    }

    /// Readers and deployers need not be declared: pg_monitor, for example, is the server's role.
    fn readers(&mut self, contract: &Contract) {
        let lists = [("readers", &contract.readers), ("deployers", &contract.deployers)];
        for (field, roles) in lists {
            let list = Path::Root.field(field);
            for (i, role) in roles.iter().flatten().enumerate() {
                self.role_name(&list.item(i), role);
            }
        }
    }

    /// Checks that a name can be that of a role.
    fn role_name(&mut self, path: &Path<'_>, name: &str) {
        self.name(path, name);
        if matches!(name, "public" | "none") {
            let problem = format!("role name \"{name}\" is reserved");
            self.problems.error(path, problem, "another name".to_owned());
        }
    }

    fn schemas(&mut self, contract: &'c Contract) {
        let list = Path::Root.field("schemas");
        for (i, schema) in contract.schemas.iter().enumerate() {
            let at = list.item(i);
            self.name(&at.field("name"), &schema.name);
            if let Some(owner) = owner_of_reserved_schema(&schema.name) {
                self.problems.error(
                    &at.field("name"),
                    format!("schema \"{}\" belongs to {owner}", printable(&schema.name)),
                    "a schema of the application".to_owned(),
                );
            }
            if !self.schemas.names.insert(&schema.name) {
                self.duplicate(&at.field("name"), "schema", &schema.name);
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

    /// Tables, views and sequences of a schema share one namespace.
    fn objects(&mut self, contract: &'c Contract) {
        let root = Path::Root;
        let mut known: HashSet<(&str, &str)> = HashSet::new();
        let mut object = |check: &mut Self, at: &Path<'_>, schema: &'c str, name: &'c str| {
            check.name(&at.field("name"), name);
            check.schema(&at.field("schema"), schema);
            if !known.insert((schema, name)) {
                check.duplicate(&at.field("name"), "relation", name);
            }
        };
        let list = root.field("tables");
        for (i, table) in contract.tables.iter().enumerate() {
            let at = list.item(i);
            object(self, &at, &table.schema, &table.name);
            self.grants(&at.field("grants"), &table.grants);
            self.column_grants(&at.field("column_grants"), &table.column_grants);
            self.grants(&at.field("policies"), &table.policies);
            if let Some(all_rows) = &table.all_rows {
                self.grants(&at.field("all_rows"), all_rows);
            }
            self.rows(&at, table);
        }
        let list = root.field("views");
        for (i, view) in contract.views.iter().enumerate() {
            let at = list.item(i);
            object(self, &at, &view.schema, &view.name);
            self.grants(&at.field("grants"), &view.grants);
            self.column_grants(&at.field("column_grants"), &view.column_grants);
            if view.security_invoker && view.materialized {
                let allowed = "false for a materialized view, which no caller executes".to_owned();
                let at = at.field("security_invoker");
                self.problems.error(&at, "a materialized view has no security_invoker", allowed);
            }
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
            let arguments = function.arguments.as_deref().map(canonical_types);
            if !known.insert((&function.schema, &function.name, arguments)) {
                self.duplicate(&at.field("name"), "function", &function.name);
            }
            for (j, role) in function.execute.iter().enumerate() {
                self.role(&at.field("execute").item(j), role);
            }
        }
    }

    fn search_path(&mut self, contract: &Contract) {
        let of = Path::Root.field("security_definer");
        let at = of.field("search_path");
        let path = &contract.security_definer.search_path;
        for (i, name) in path.iter().enumerate() {
            self.name(&at.item(i), name);
        }
        if path.last().map(String::as_str) != Some("pg_temp") {
            let allowed = "a path that ends with pg_temp".to_owned();
            self.problems.error(&at, "last schema is not pg_temp", allowed);
        }
        for (i, name) in path.iter().enumerate() {
            let wrong = match name.as_str() {
                "$user" => {
                    Some(("\"$user\" names a different schema for each role", "names of schemas"))
                }
                "pg_temp" if i + 1 < path.len() => {
                    Some(("pg_temp is not the last schema", "pg_temp at the end only"))
                }
                "pg_catalog" if i > 0 => {
                    Some(("pg_catalog is not the first schema", "pg_catalog first, or omitted"))
                }
                name if name.starts_with("pg_temp_") || name.starts_with("pg_toast_temp_") => {
                    Some(("schema is temporary", "permanent schemas"))
                }
                _ => None,
            };
            if let Some((problem, allowed)) = wrong {
                self.problems.error(&at.item(i), problem, allowed.to_owned());
            }
        }
    }
}
