//! Lookups in a contract by name.

use super::index::{Names, Positions};
use super::types::{
    ColumnGrants, ColumnGrantsByRole, Contract, FunctionDecl, RoleDecl, RoleKind, SchemaDecl,
    SequenceDecl, TableDecl, ViewDecl,
};
use crate::policy::identity::Identities;
use crate::sql::printable;

/// Whether a declared name of the platform matches `name`. A `*` at its end matches any suffix.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(name == pattern, |prefix| name.starts_with(prefix))
}

impl Contract {
    /// Returns the name and the version for a sentence: `contract "shop" 1.0.0`.
    #[must_use]
    pub fn title(&self) -> String {
        format!("contract \"{}\" {}", printable(&self.name), self.version)
    }

    /// Returns the section of a document that a rule comes from, where the contract names one.
    #[must_use]
    pub fn section(&self, rule: &str) -> Option<&str> {
        self.rules.get(rule)?.section.as_deref().filter(|section| !section.trim().is_empty())
    }

    /// Returns the contract and the section that a rule comes from, for a sentence:
    /// `contract shop 1.0.0, section 7`.
    #[must_use]
    pub fn source_of(&self, rule: &str) -> String {
        let section = self.section(rule).map(|section| format!(", section {}", printable(section)));
        format!(
            "contract {} {}{}",
            printable(&self.name),
            self.version,
            section.unwrap_or_default()
        )
    }

    /// Returns where the database finds who the caller is: what the contract declares, and for all
    /// else what is known of Supabase and PostgREST.
    #[must_use]
    pub fn identities(&self) -> Identities {
        self.identity.identities()
    }

    /// Whether the contract declares where the database finds who the caller is.
    #[must_use]
    pub fn declares_identity(&self) -> bool {
        !self.identity.is_empty()
    }

    /// Returns the names of the roles of one kind, in declared order.
    pub fn roles_of(&self, kind: RoleKind) -> impl Iterator<Item = &str> {
        self.roles.iter().filter(move |r| r.kind == kind).map(|r| r.name.as_str())
    }

    /// Whether the contract trusts a role by its name: it is an owner or one of the trusted roles.
    #[must_use]
    pub fn trusts(&self, role: &str) -> bool {
        self.trusted_roles.iter().any(|name| name == role)
            || self.roles_of(RoleKind::Owner).any(|owner| owner == role)
    }

    /// Returns the governed schema of this name.
    #[must_use]
    pub fn schema(&self, name: &str) -> Option<&SchemaDecl> {
        self.schemas.iter().find(|s| s.name == name)
    }

    /// Whether the contract lists this schema as one of the platform, by its name or, if
    /// `by_pattern`, by a pattern. A governed schema is never one. Any role with CREATE on the
    /// database can create a schema with such a name: see [`Self::manages_schema`].
    #[must_use]
    pub fn lists_managed_schema(&self, name: &str, by_pattern: bool) -> bool {
        let applies =
            |pattern: &String| matches(pattern, name) && (by_pattern || !pattern.ends_with('*'));
        self.schema(name).is_none() && self.managed.schemas.iter().any(applies)
    }

    /// Whether the platform manages what is in this schema. `is_platforms`: it belongs to a
    /// superuser or to a managed role.
    #[must_use]
    pub fn manages_schema(&self, name: &str, is_platforms: bool) -> bool {
        is_platforms && self.lists_managed_schema(name, true)
    }

    /// Whether the platform manages this role. A declared role is never managed. A pattern applies
    /// only if `is_platforms`, as far as the memberships of the role show: any role with CREATEROLE
    /// could choose a name that matches it.
    #[must_use]
    pub fn manages_role(&self, name: &str, is_platforms: bool) -> bool {
        let applies =
            |pattern: &String| matches(pattern, name) && (is_platforms || !pattern.ends_with('*'));
        self.role(name).is_none() && self.managed.roles.iter().any(applies)
    }

    /// Returns the declaration of the role of this name.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<&RoleDecl> {
        self.roles.iter().find(|r| r.name == name)
    }

    /// Returns the declared kind of the role of this name.
    #[must_use]
    pub fn kind_of(&self, name: &str) -> Option<RoleKind> {
        self.role(name).map(|r| r.kind)
    }

    /// Returns the role that requests log in as, if the contract declares exactly one.
    #[must_use]
    pub fn login_role(&self) -> Option<&str> {
        let mut logins = self.roles_of(RoleKind::Login);
        logins.next().filter(|_| logins.next().is_none())
    }

    /// Discards the index of names, after a change of the lists of declarations.
    pub fn forget_names(&mut self) {
        self.index.forget();
    }

    fn positions(&self) -> &Positions {
        self.index.positions(|| Positions {
            tables: Names::of(self.tables.iter().map(|t| (&t.schema, &t.name))),
            views: Names::of(self.views.iter().map(|v| (&v.schema, &v.name))),
            sequences: Names::of(self.sequences.iter().map(|s| (&s.schema, &s.name))),
            functions: Names::of(self.functions.iter().map(|f| (&f.schema, &f.name))),
        })
    }

    /// Returns the declared table of this name.
    #[must_use]
    pub fn table(&self, schema: &str, name: &str) -> Option<&TableDecl> {
        self.positions().tables.find(schema, name).first().map(|&i| &self.tables[i])
    }

    /// Returns the declared view of this name.
    #[must_use]
    pub fn view(&self, schema: &str, name: &str) -> Option<&ViewDecl> {
        self.positions().views.find(schema, name).first().map(|&i| &self.views[i])
    }

    /// Returns the privileges on columns that are declared for a role on a table or view.
    #[must_use]
    pub fn column_grants(&self, schema: &str, name: &str, role: &str) -> Option<&ColumnGrants> {
        self.column_grants_of(schema, name)?.get(role)
    }

    /// Whether privileges on columns of a table or view are declared.
    #[must_use]
    pub fn declares_column_grants(&self, schema: &str, name: &str) -> bool {
        self.column_grants_of(schema, name).is_some_and(|grants| !grants.is_empty())
    }

    /// Whether columns of a table or view are declared by name: with privileges, as keys or as what
    /// opens rows.
    #[must_use]
    pub fn declares_columns(&self, schema: &str, name: &str) -> bool {
        let names_rows = |table: &TableDecl| {
            !table.keys.is_empty() || table.open_rows.values().any(|columns| !columns.is_empty())
        };
        self.declares_column_grants(schema, name)
            || self.table(schema, name).is_some_and(names_rows)
    }

    /// Returns the privileges on columns that are declared for roles on a table or view.
    #[must_use]
    pub fn column_grants_of(&self, schema: &str, name: &str) -> Option<&ColumnGrantsByRole> {
        let of_table = self.table(schema, name).map(|table| &table.column_grants);
        of_table.or_else(|| self.view(schema, name).map(|view| &view.column_grants))
    }

    /// Returns the declared sequence of this name.
    #[must_use]
    pub fn sequence(&self, schema: &str, name: &str) -> Option<&SequenceDecl> {
        self.positions().sequences.find(schema, name).first().map(|&i| &self.sequences[i])
    }

    /// Whether a table, view or sequence of this name is declared.
    #[must_use]
    pub fn declares_relation(&self, schema: &str, name: &str) -> bool {
        self.table(schema, name).is_some()
            || self.view(schema, name).is_some()
            || self.sequence(schema, name).is_some()
    }

    /// Returns the declared functions of this name with any arguments.
    pub fn functions_named(&self, schema: &str, name: &str) -> impl Iterator<Item = &FunctionDecl> {
        self.positions().functions.find(schema, name).iter().map(|&i| &self.functions[i])
    }
}

#[cfg(test)]
mod tests {
    use super::super::shipped::DEFAULT;
    use super::*;

    #[test]
    fn governed_schema_is_not_managed() {
        let contract = Contract::from_json(DEFAULT).unwrap();
        assert!(contract.manages_schema("graphql_public", true));
        assert!(!contract.manages_schema("graphql_mine", false));
        assert!(!contract.manages_schema("public", true));
        assert!(!contract.manages_schema("app", true));
    }

    #[test]
    fn schema_of_the_application_with_a_listed_name_is_not_managed() {
        let contract = Contract::from_json(DEFAULT).unwrap();
        for (name, by_name) in [("auth", true), ("pgmq_public", false)] {
            assert!(contract.manages_schema(name, true), "{name}");
            assert!(!contract.manages_schema(name, false), "{name}");
            assert!(contract.lists_managed_schema(name, true), "{name}");
            assert_eq!(contract.lists_managed_schema(name, false), by_name, "{name}");
        }
    }

    #[test]
    fn declared_role_is_not_managed_and_a_pattern_applies_to_roles_of_the_platform() {
        let mut contract = Contract::from_json(DEFAULT).unwrap();
        contract.managed.roles =
            ["anon", "ser*", "dashboard_user", "pgsodium_*"].map(String::from).to_vec();
        for declared in ["anon", "service_role"] {
            assert!(!contract.manages_role(declared, true), "{declared}");
        }
        for is_platforms in [false, true] {
            assert!(contract.manages_role("dashboard_user", is_platforms));
        }
        assert!(contract.manages_role("pgsodium_keyholder", true));
        assert!(!contract.manages_role("pgsodium_keyholder", false));
        assert!(!contract.manages_role("other", true));
    }

    #[test]
    fn rule_comes_from_a_section_of_the_contract_where_the_contract_names_one() {
        let mut contract = Contract::from_json(DEFAULT).unwrap();
        assert_eq!(contract.source_of("rls_disabled"), "contract dragonfly_civil 1.0.0, section 7");
        contract.name = "shop\u{1b}[2J".into();
        contract.rules.get_mut("rls_disabled").unwrap().section = None;
        assert_eq!(contract.source_of("rls_disabled"), "contract shop\\u001B[2J 1.0.0");
        contract.rules.clear();
        assert_eq!(contract.section("rls_disabled"), None);
    }

    #[test]
    fn login_role_is_the_only_declared_one() {
        let mut contract = Contract::from_json(DEFAULT).unwrap();
        assert_eq!(contract.login_role(), None);
        contract.roles[0].kind = RoleKind::Login;
        assert_eq!(contract.login_role(), Some("anon"));
        contract.roles[1].kind = RoleKind::Login;
        assert_eq!(contract.login_role(), None, "a person chooses one of two");
    }
}
