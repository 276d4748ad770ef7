//! What a contract is made of: the JSON document as typed structs. Unknown fields are refused.
//!
//! The comments of types and fields are what an editor shows: [`super::schema`] makes the JSON
//! Schema from them. Section numbers are those of the contract document that version 1.0.0 writes
//! down.

use super::index::Index;
use crate::catalog::{Attribute, Command, Privileges};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Role name to something that it has.
pub type ByRole<T> = BTreeMap<String, Vec<T>>;

/// A whole contract.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// Where the JSON Schema of this document is, for editors.
    #[serde(default, rename = "$schema", skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<String>,
    /// Whose contract it is.
    pub name: String,
    /// A semantic version, `1.0.0`; each contract that is loaded must have a higher one than all
    /// before.
    #[schemars(regex(pattern = super::schema::VERSION_PATTERN))]
    pub version: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Section 2: the roles and their attributes.
    pub roles: Vec<RoleDecl>,
    /// Roles that may create what SECURITY DEFINER routines of ordinary roles look up: the
    /// migration role.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_roles: Vec<String>,
    /// Sections 2 and 3: the governed schemas, with the role x schema matrix.
    pub schemas: Vec<SchemaDecl>,
    /// Sections 3, 5 and 7: tables, their row level security, policies and privileges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableDecl>,
    /// Sections 3 and 4: the authorized read surface.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<ViewDecl>,
    /// Sequences that somebody uses by themselves. One that serves a column needs no mention: who
    /// may INSERT into its table may use it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sequences: Vec<SequenceDecl>,
    /// Sections 3 and 5: the routines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<FunctionDecl>,
    /// Section 6.
    pub security_definer: SecurityDefinerDecl,
    /// What belongs to the platform: reported separately, never blocked.
    #[serde(default)]
    pub managed: ManagedDecl,
    /// Severity and guard action of each rule; a rule that is not named keeps its own defaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<String, RuleDecl>,
    /// Look-ups by name; no part of the document.
    #[serde(skip)]
    #[schemars(skip)]
    pub(super) index: Index,
}

/// What a role is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleDecl {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// What it is for.
    pub kind: RoleKind,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// SUPERUSER: it must have it, must not, or (left away) either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superuser: Option<bool>,
    /// BYPASSRLS: it must have it, must not, or (left away) either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bypass_rls: Option<bool>,
    /// CREATEROLE: it must have it, must not, or (left away) either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_role: Option<bool>,
    /// CREATEDB: it must have it, must not, or (left away) either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_db: Option<bool>,
    /// REPLICATION: it must have it, must not, or (left away) either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<bool>,
}

impl RoleDecl {
    /// Whether the role must have an attribute, must not, or (`None`) either.
    #[must_use]
    pub fn attribute(&self, attribute: Attribute) -> Option<bool> {
        match attribute {
            Attribute::Superuser => self.superuser,
            Attribute::BypassRls => self.bypass_rls,
            Attribute::CreateRole => self.create_role,
            Attribute::CreateDb => self.create_db,
            Attribute::Replication => self.replication,
        }
    }
}

/// A governed schema: one row of the matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemaDecl {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub purpose: String,
    /// Roles with USAGE, and no others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usage: Vec<String>,
    /// Roles with every privilege on every object in it (not CREATE on the schema itself).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub all_on_objects: Vec<String>,
    /// Roles with EXECUTE on every routine in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub execute_on_routines: Vec<String>,
}

/// A privilege on a table or view, as GRANT names it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
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

/// Words of GRANT, as the privileges they stand for.
pub trait PrivilegeSet: Copy + 'static {
    /// ALL, which stands for every privilege there is.
    const ALL: Self;
    /// Each of the others.
    const EACH: &'static [Self];

    /// The privileges.
    fn bits(self) -> Privileges;

    /// The words for some privileges: ALL where everything is meant.
    fn words_of(privileges: Privileges) -> Vec<Self> {
        if privileges.contains(Self::ALL.bits()) {
            return vec![Self::ALL];
        }
        Self::EACH.iter().copied().filter(|word| privileges.contains(word.bits())).collect()
    }
}

impl PrivilegeSet for PrivilegeWord {
    const ALL: Self = Self::All;
    const EACH: &'static [Self] = &[
        Self::Select,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Truncate,
        Self::References,
        Self::Trigger,
        Self::Maintain,
    ];

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
pub fn granted_to<W: PrivilegeSet>(grants: &ByRole<W>, name: &str) -> Privileges {
    grants.get(name).into_iter().flatten().fold(Privileges::NONE, |all, word| all | word.bits())
}

/// The command of a policy, as CREATE POLICY names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableDecl {
    /// Its schema.
    #[schemars(length(min = 1, max = 63))]
    pub schema: String,
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub purpose: String,
    /// Row level security must be on.
    #[serde(default)]
    pub row_security: bool,
    /// ... and forced on the owner too.
    #[serde(default)]
    pub force_row_security: bool,
    /// Privileges by role, beyond what the schema's own row gives.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grants: ByRole<PrivilegeWord>,
    /// Commands by role for which a permissive policy must exist, and may.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: ByRole<PolicyCommand>,
}

impl TableDecl {
    /// The commands that policies open to the role `name`.
    #[must_use]
    pub fn policy_commands(&self, name: &str) -> Vec<Command> {
        let declared: Vec<Command> = self
            .policies
            .get(name)
            .into_iter()
            .flatten()
            .flat_map(|c| c.commands())
            .copied()
            .collect();
        Command::ALL.into_iter().filter(|c| declared.contains(c)).collect()
    }
}

/// A view or materialized view of the read surface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ViewDecl {
    /// Its schema.
    #[schemars(length(min = 1, max = 63))]
    pub schema: String,
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub purpose: String,
    /// It must be a materialized view, or must be none.
    #[serde(default)]
    pub materialized: bool,
    /// The query that makes it, where the contract can give one: a missing view is then mended with
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// Privileges by role, beyond what the schema's own row gives.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grants: ByRole<PrivilegeWord>,
}

/// A privilege on a sequence, as GRANT names it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum SequencePrivilege {
    All,
    Usage,
    Select,
    Update,
}

impl PrivilegeSet for SequencePrivilege {
    const ALL: Self = Self::All;
    const EACH: &'static [Self] = &[Self::Usage, Self::Select, Self::Update];

    fn bits(self) -> Privileges {
        match self {
            Self::All => Privileges::ALL_ON_SEQUENCE,
            Self::Usage => Privileges::USAGE,
            Self::Select => Privileges::SELECT,
            Self::Update => Privileges::UPDATE,
        }
    }
}

/// A sequence that is used by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SequenceDecl {
    /// Its schema.
    #[schemars(length(min = 1, max = 63))]
    pub schema: String,
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub purpose: String,
    /// Privileges by role, beyond what the schema's own row gives.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grants: ByRole<SequencePrivilege>,
}

/// A routine that must exist.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionDecl {
    /// Its schema.
    #[schemars(length(min = 1, max = 63))]
    pub schema: String,
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub purpose: String,
    /// The input argument types, as `pg_identify_object` says them without `pg_catalog.`; absent:
    /// any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// It must be (or must not be) SECURITY DEFINER; absent: either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_definer: Option<bool>,
    /// Roles with EXECUTE, beyond what the schema's own row gives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub execute: Vec<String>,
}

/// Which safe paths satisfy the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Accept {
    /// Every safe path; one that differs from the canonical path is a warning.
    #[default]
    Safe,
    /// The canonical path alone.
    Canonical,
}

/// Section 6: the SECURITY DEFINER policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecurityDefinerDecl {
    /// The canonical path, one name an element; `pg_temp` last.
    #[schemars(inner(length(min = 1, max = 63)))]
    pub search_path: Vec<String>,
    /// Which other safe paths are accepted.
    #[serde(default)]
    pub accept: Accept,
    /// Accept `search_path = ''`, knowing that it is not safe: a warning instead of an error, and
    /// the guard lets it pass.
    #[serde(default)]
    pub accept_empty: bool,
}

/// What the platform owns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManagedDecl {
    /// Schema names; a `*` at the end stands for any ending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schemas: Vec<String>,
    /// Extension names. Being a member of some extension excuses nothing: only of one of these, and
    /// only where the extension belongs to a superuser or a role that is trusted with the
    /// structure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<String>,
}

/// How bad a finding is, from harmless to worst.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
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
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }

    /// The severity of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == word)
    }
}

/// What the guard does about a rule, from least to most.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
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
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Warn => "warn",
            Self::Audit => "audit",
        }
    }
}

/// Severity and guard action of one rule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleDecl {
    /// The worst severity that its findings have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// What the guard does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardAction>,
}
