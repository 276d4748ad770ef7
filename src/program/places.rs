//! The lines of migrations and of the contract at which reports show findings.

use crate::migrations::Migrations;
use dragonfly_core::contract::declaration_lines;
use dragonfly_core::finding::Finding;
use dragonfly_core::report::formats::Place;
use std::collections::HashMap;

/// The statements that create objects, and the declarations in the contract.
#[derive(Debug)]
pub struct Places {
    migrations: Migrations,
    path: String,
    lines: HashMap<(&'static str, String), usize>,
}

impl Places {
    /// Finds the declarations in the text of a contract. `path` is what reports show.
    pub fn of(path: String, text: &str, migrations: Migrations) -> Self {
        Self { migrations, path, lines: declaration_lines(text) }
    }

    /// Returns the place of the statement that creates the object of a finding, where the files
    /// have one; else that of a declaration.
    pub fn of_finding(&self, finding: &Finding) -> Place {
        let object = &finding.object;
        match self.migrations.of_object(object.object_type, &object.identity) {
            Some(created) => Place { path: created.path.clone(), line: created.line },
            None => self.in_contract(finding),
        }
    }

    /// Returns the place of the declaration that a finding is about: of the object, or else of its
    /// schema or of a role; the first line where there is none.
    fn in_contract(&self, finding: &Finding) -> Place {
        let line = |lists: &[&'static str], name: &str| {
            lists.iter().find_map(|list| self.lines.get(&(*list, name.to_owned())))
        };
        let object = &finding.object;
        let identity = object.identity.as_str();
        let of_object = match object.object_type {
            "role" => line(&["roles"], identity),
            "schema" => line(&["schemas"], identity),
            _ => {
                // A policy or a trigger: `mine on app.plans`.
                let on = identity.rsplit_once(" on ").map_or(identity, |(_, relation)| relation);
                let name = identity.split_once('(').map_or(identity, |(name, _)| name);
                line(&["tables", "views", "sequences"], on).or_else(|| line(&["functions"], name))
            }
        };
        let of_schema = || object.schema.as_ref().and_then(|name| line(&["schemas"], name));
        let of_role = || finding.roles.iter().find_map(|name| line(&["roles"], name));
        let line = of_object.or_else(of_schema).or_else(of_role).copied().unwrap_or(1);
        Place { path: self.path.clone(), line: u32::try_from(line).unwrap_or(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dragonfly_core::catalog::{Object, ObjectId};
    use dragonfly_core::contract::Severity;
    use dragonfly_core::finding::Draft;
    use dragonfly_core::rules::rls_disabled;

    #[test]
    fn finding_is_shown_at_the_declaration_of_its_object() {
        let text = r#"{"roles": [
            {"name": "anon"}], "schemas": [
            {"name": "app"}], "tables": [
            {"schema": "app", "name": "plans"}], "functions": [
            {"schema": "app", "name": "f", "arguments": "int8"}]}"#;
        let places = Places::of("db/contract.json".into(), text, Migrations::default());
        let line = |object_type, schema: Option<&str>, identity: &str| {
            let (schema, identity) = (schema.map(str::to_owned), identity.to_owned());
            let id = ObjectId::Named;
            let object = Object { id, object_type, schema, identity, managed_by: None };
            let draft = Draft::new(object, Severity::Error, "").role("anon");
            places.of_finding(&draft.finish(&rls_disabled::RULE, Severity::Error)).line
        };
        let app = Some("app");
        assert_eq!(line("table", app, "app.plans"), 4);
        assert_eq!(line("policy", app, "mine on app.plans"), 4);
        assert_eq!(line("function", app, "app.f(bigint)"), 5);
        assert_eq!(line("table", app, "app.other"), 3, "that of the schema");
        assert_eq!(line("table", Some("b"), "b.t"), 2, "that of the role");
        assert_eq!(line("role", None, "anon"), 2);
    }
}
