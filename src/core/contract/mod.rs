//! The contract: the declared state, as typed structs read from one JSON document. Unknown fields are refused, with the
//! place of the error.
//!
//! Section numbers in the comments are those of the contract document that version 1.0.0 writes down.

mod check;

use crate::catalog::{Command, Privileges};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The contract that `CREATE EXTENSION` installs.
pub const DEFAULT: &str = include_str!("default.json");

/// Role name to something that it has.
pub type ByRole<T> = BTreeMap<String, Vec<T>>;

/// A whole contract.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// Whose contract it is.
    pub name: String,
    /// A semantic version, `1.0.0`.
    pub version: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Section 2: the roles and their attributes.
    pub roles: Vec<RoleDecl>,
    /// Roles that may create what SECURITY DEFINER routines of ordinary roles look up: the migration role.
    #[serde(default)]
    pub trusted_roles: Vec<String>,
    /// Sections 2 and 3: the governed schemas, with the role x schema matrix.
    pub schemas: Vec<SchemaDecl>,
    /// Sections 3, 5 and 7: tables, their row level security, policies and privileges.
    #[serde(default)]
    pub tables: Vec<TableDecl>,
    /// Sections 3 and 4: the authorized read surface.
    #[serde(default)]
    pub views: Vec<ViewDecl>,
    /// Sections 3 and 5: the routines.
    #[serde(default)]
    pub functions: Vec<FunctionDecl>,
    /// Section 6.
    pub security_definer: SecurityDefinerDecl,
    /// What belongs to the platform: reported separately, never blocked.
    #[serde(default)]
    pub managed: ManagedDecl,
    /// Severity and guard action of each rule; a rule that is not named keeps its own defaults.
    #[serde(default)]
    pub rules: BTreeMap<String, RuleDecl>,
}

/// What a role is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleKind {
    /// Reached from outside: everything it can do must be declared.
    Client,
    /// A backend worker: full access to the data, none to the structure.
    Worker,
    /// Owns the structure: migrations.
    Owner,
}

/// A role and its attributes; an attribute that is not named is left alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RoleDecl {
    pub name: String,
    pub kind: RoleKind,
    #[serde(default)]
    pub description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superuser: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bypass_rls: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_role: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_db: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<bool>,
}

/// A governed schema: one row of the matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaDecl {
    /// Its name.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub purpose: String,
    /// Roles with USAGE, and no others.
    #[serde(default)]
    pub usage: Vec<String>,
    /// Roles with every privilege on every object in it (not CREATE on the schema itself).
    #[serde(default)]
    pub all_on_objects: Vec<String>,
    /// Roles with EXECUTE on every routine in it.
    #[serde(default)]
    pub execute_on_routines: Vec<String>,
}

/// A privilege on a table or view, as GRANT names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum PrivilegeWord {
    All,
    Select,
    Insert,
    Update,
    Delete,
    Truncate,
    References,
    Trigger,
    Maintain,
}

impl PrivilegeWord {
    fn bits(self) -> Privileges {
        match self {
            Self::All => Privileges::ALL_ON_TABLE,
            Self::Select => Privileges::SELECT,
            Self::Insert => Privileges::INSERT,
            Self::Update => Privileges::UPDATE,
            Self::Delete => Privileges::DELETE,
            Self::Truncate => Privileges::TRUNCATE,
            Self::References => Privileges::REFERENCES,
            Self::Trigger => Privileges::TRIGGER,
            Self::Maintain => Privileges::MAINTAIN,
        }
    }
}

/// The privileges that `grants` gives to the role `name`.
#[must_use]
pub fn granted_to(grants: &ByRole<PrivilegeWord>, name: &str) -> Privileges {
    grants.get(name).into_iter().flatten().fold(Privileges::NONE, |all, word| all | word.bits())
}

/// The command of a policy, as CREATE POLICY names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum PolicyCommand {
    All,
    Select,
    Insert,
    Update,
    Delete,
}

impl PolicyCommand {
    fn commands(self) -> &'static [Command] {
        match self {
            Self::All => &Command::ALL,
            Self::Select => &[Command::Select],
            Self::Insert => &[Command::Insert],
            Self::Update => &[Command::Update],
            Self::Delete => &[Command::Delete],
        }
    }
}

/// A table: one row of section 7, or a key table of section 3.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableDecl {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub purpose: String,
    /// Row level security must be on.
    #[serde(default)]
    pub row_security: bool,
    /// ... and forced on the owner too.
    #[serde(default)]
    pub force_row_security: bool,
    /// Privileges by role, beyond what the schema's own row gives.
    #[serde(default)]
    pub grants: ByRole<PrivilegeWord>,
    /// Commands by role for which a permissive policy must exist, and may.
    #[serde(default)]
    pub policies: ByRole<PolicyCommand>,
}

impl TableDecl {
    /// The commands that policies open to the role `name`.
    #[must_use]
    pub fn policy_commands(&self, name: &str) -> Vec<Command> {
        let declared: Vec<Command> =
            self.policies.get(name).into_iter().flatten().flat_map(|c| c.commands()).copied().collect();
        Command::ALL.into_iter().filter(|c| declared.contains(c)).collect()
    }
}

/// A view or materialized view of the read surface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct ViewDecl {
    pub schema: String,
    pub name: String,
    #[serde(default)]
    pub purpose: String,
    #[serde(default)]
    pub materialized: bool,
    /// The query that makes it, where the contract can give one: a missing view is then mended with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// Privileges by role, beyond what the schema's own row gives.
    #[serde(default)]
    pub grants: ByRole<PrivilegeWord>,
}

/// A routine that must exist.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionDecl {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub purpose: String,
    /// The input argument types, as `pg_identify_object` says them without `pg_catalog.`; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// It must be (or must not be) SECURITY DEFINER; absent: either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_definer: Option<bool>,
    /// Roles with EXECUTE, beyond what the schema's own row gives.
    #[serde(default)]
    pub execute: Vec<String>,
}

/// Which safe paths satisfy the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accept {
    /// Every safe path; one that differs from the canonical path is a warning.
    #[default]
    Safe,
    /// The canonical path alone.
    Canonical,
}

/// Section 6: the SECURITY DEFINER policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityDefinerDecl {
    /// The canonical path, one name an element.
    pub search_path: Vec<String>,
    /// Which other safe paths are accepted.
    #[serde(default)]
    pub accept: Accept,
    /// Accept `search_path = ''`, knowing that it is not safe: a warning instead of an error, and the guard lets it pass.
    #[serde(default)]
    pub accept_empty: bool,
}

/// What the platform owns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagedDecl {
    /// Schema names; a `*` at the end stands for any ending.
    #[serde(default)]
    pub schemas: Vec<String>,
    /// Extension names. Being a member of some extension excuses nothing: only of one of these, and only where the extension
    /// belongs to a superuser or a role that is trusted with the structure.
    #[serde(default)]
    pub extensions: Vec<String>,
}

/// How bad a finding is, from harmless to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Severity {
    Info,
    Warning,
    Error,
}

impl Severity {
    /// All, worst first.
    pub const ALL: [Self; 3] = [Self::Error, Self::Warning, Self::Info];

    /// The word of the SQL face.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }

    /// The severity of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.word() == word)
    }
}

/// What the guard does about a rule, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardAction {
    /// Leave it to the audit.
    Audit,
    /// Let it pass with a WARNING.
    Warn,
    /// Refuse the statement.
    Block,
}

impl GuardAction {
    /// The word of the SQL face.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Warn => "warn",
            Self::Audit => "audit",
        }
    }
}

/// Severity and guard action of one rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleDecl {
    /// The worst severity that its findings have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// What the guard does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardAction>,
}

/// Why a document is not a contract: where, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ContractError {
    /// The JSON path, `$.tables[3].grants`.
    pub path: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl Contract {
    /// Reads a contract from JSON text and checks what types alone cannot.
    ///
    /// # Errors
    /// The place and the reason of the first thing that is wrong.
    pub fn from_json(text: &str) -> Result<Self, ContractError> {
        let mut json = serde_json::Deserializer::from_str(text);
        let contract: Self = serde_path_to_error::deserialize(&mut json).map_err(|e| {
            let path = match e.path().to_string().as_str() {
                "." => "$".to_owned(),
                path => format!("$.{}", crate::sql::printable(path)),
            };
            ContractError { path, message: crate::sql::printable(&e.inner().to_string()).into_owned() }
        })?;
        json.end().map_err(|e| ContractError { path: "$".into(), message: e.to_string() })?;
        contract.check()?;
        Ok(contract)
    }

    /// The names of the roles of one kind, in declared order.
    pub fn roles_of(&self, kind: RoleKind) -> impl Iterator<Item = &str> {
        self.roles.iter().filter(move |r| r.kind == kind).map(|r| r.name.as_str())
    }

    /// The declared table of this name.
    #[must_use]
    pub fn table(&self, schema: &str, name: &str) -> Option<&TableDecl> {
        self.tables.iter().find(|t| t.schema == schema && t.name == name)
    }

    /// The declared view of this name.
    #[must_use]
    pub fn view(&self, schema: &str, name: &str) -> Option<&ViewDecl> {
        self.views.iter().find(|v| v.schema == schema && v.name == name)
    }

    /// The governed schema of this name.
    #[must_use]
    pub fn schema(&self, name: &str) -> Option<&SchemaDecl> {
        self.schemas.iter().find(|s| s.name == name)
    }

    /// Whether the platform manages this schema. A governed schema is never managed. A pattern stands for what the platform itself has
    /// made, not for every name that somebody thinks of: it counts where `of_superuser`.
    #[must_use]
    pub fn manages_schema(&self, name: &str, of_superuser: bool) -> bool {
        self.schema(name).is_none()
            && self.managed.schemas.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => of_superuser && name.starts_with(prefix),
                None => name == pattern,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(edit: impl Fn(&mut serde_json::Value)) -> String {
        let mut json: serde_json::Value = serde_json::from_str(DEFAULT).unwrap();
        edit(&mut json);
        Contract::from_json(&json.to_string()).expect_err("not a contract").to_string()
    }

    #[test]
    fn the_shipped_contract_is_one() {
        let contract = Contract::from_json(DEFAULT).unwrap();
        assert_eq!(contract.version, "1.0.0");
        assert_eq!(contract.security_definer.search_path, ["public", "pg_temp"]);
        assert_eq!(contract.roles_of(RoleKind::Client).collect::<Vec<_>>(), ["anon", "authenticated"]);
    }

    #[test]
    fn errors_name_the_place_and_what_is_allowed() {
        let unknown = error(|j| j["tables"][0]["colour"] = "red".into());
        assert!(unknown.starts_with("$.tables[0]") && unknown.contains("unknown field `colour`"), "{unknown}");
        let privilege = error(|j| j["tables"][0]["grants"]["anon"] = serde_json::json!(["FLY"]));
        assert!(privilege.contains("$.tables[0].grants.anon[0]") && privilege.contains("`SELECT`"), "{privilege}");
        let role = error(|j| j["schemas"][0]["usage"] = serde_json::json!(["nobody"]));
        assert_eq!(role, "$.schemas[0].usage: role \"nobody\" is not declared in $.roles");
        let rule = error(|j| j["rules"]["no_such_rule"] = serde_json::json!({}));
        assert!(rule.starts_with("$.rules.no_such_rule: there is no such rule"), "{rule}");
        assert!(error(|j| j["version"] = "one".into()).starts_with("$.version"));
    }

    #[test]
    fn what_is_no_contract_is_an_error_and_never_a_panic() {
        for text in ["", "[]", "null", "{", "{\"name\": 1}", &"[".repeat(100_000)] {
            assert!(Contract::from_json(text).is_err());
        }
    }

    #[test]
    fn managed_schemas_end_where_the_contract_begins() {
        let contract = Contract::from_json(DEFAULT).unwrap();
        assert!(contract.manages_schema("auth", false));
        assert!(contract.manages_schema("graphql_public", true));
        assert!(!contract.manages_schema("graphql_mine", false));
        assert!(!contract.manages_schema("public", true));
        assert!(!contract.manages_schema("app", true));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_a_contract_or_an_error(text in "(?s).{0,200}") {
            let _ = Contract::from_json(&text);
        }
    }
}
