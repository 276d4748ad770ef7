//! The JSON document of a contract as typed structs. Unknown fields are rejected.
//!
//! [`super::schema`] generates the JSON Schema from these types, so editors show the doc comments
//! of types and fields. Section numbers are those of the contract document that `default.json`
//! encodes.

use super::identity::IdentityDecl;
use super::index::Index;
use crate::catalog::{Attribute, Command, Privileges};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::str::FromStr;

/// A semantic version, as semver.org defines it.
const VERSION_PATTERN: &str = concat!(
    r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)",
    r"(-((0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)",
    r"(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?",
    r"(\+([0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*))?$",
);

/// A list of privileges or commands for each role name.
pub type ByRole<T> = BTreeMap<String, Vec<T>>;

/// A security contract: the declared roles, privileges and objects of a database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// The URL or path of the JSON Schema of this document, for editors.
    #[serde(default, rename = "$schema", skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<String>,
    /// The name of the contract, usually that of the product or the database.
    pub name: String,
    /// The semantic version of the contract, for example `1.0.0`. It must be higher than the
    /// version of every contract loaded before.
    #[schemars(regex(pattern = VERSION_PATTERN))]
    pub version: String,
    /// Free text without effect.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Section 2: the roles and their attributes.
    pub roles: Vec<RoleDecl>,
    /// Trusted owners: roles that may create objects in the schemas that SECURITY DEFINER routines
    /// search. Usually this is the migration role only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_roles: Vec<String>,
    /// Sections 2 and 3: the governed schemas and the privileges of each role in them.
    pub schemas: Vec<SchemaDecl>,
    /// Sections 3, 5 and 7: the tables with their row security, policies and privileges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableDecl>,
    /// Sections 3 and 4: the views and the roles that may read them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<ViewDecl>,
    /// The sequences that roles use directly. The sequence of a column need not be declared: a role
    /// with INSERT on the table may have USAGE on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sequences: Vec<SequenceDecl>,
    /// Sections 3 and 5: the routines and the roles that may execute them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<FunctionDecl>,
    /// Section 6: the requirements on SECURITY DEFINER routines.
    pub security_definer: SecurityDefinerDecl,
    /// The schemas, extensions and roles of the platform. Findings about them have severity info
    /// and are never blocked.
    #[serde(default)]
    pub managed: ManagedDecl,
    /// Where the database finds who the caller is: which functions, parameters and claims a row can
    /// belong to a caller by. Omitted: those of Supabase and PostgREST.
    #[serde(default, skip_serializing_if = "IdentityDecl::is_empty")]
    pub identity: IdentityDecl,
    /// The roles that may read the audits: the views in schema `ops`, and the functions there that
    /// are not for authors of contracts. Omitted: `service_role` and `pg_monitor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readers: Option<Vec<String>>,
    /// The roles that run migrations: readers that may also execute the functions for authors of
    /// contracts. Changing the contract still requires a grant of a superuser. Omitted: `postgres`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployers: Option<Vec<String>>,
    /// The most that the guard does about a violation of any rule, except those that protect the
    /// guard itself. The audit does not depend on it.
    #[serde(default, skip_serializing_if = "Enforcement::is_default")]
    pub enforcement: Enforcement,
    /// The severity and guard action of each rule, and the section of a document that it comes
    /// from. A rule that is omitted keeps its defaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<String, RuleDecl>,
    /// The index for lookups by name. It is not part of the document.
    #[serde(skip)]
    #[schemars(skip)]
    pub(super) index: Index,
}

/// The purpose of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoleKind {
    /// A role used by requests from outside, for example through PostgREST: each of its
    /// privileges must
    /// be declared.
    Client,
    /// A role used by backend services: it may access the data but not create or alter objects.
    Worker,
    /// A role that owns the objects and runs migrations.
    Owner,
    /// A role that logs in and becomes clients or workers by SET ROLE, such as `authenticator` of
    /// PostgREST. Its memberships in clients and workers are its purpose; its own privileges must
    /// be declared.
    Login,
}

impl RoleKind {
    /// Returns the name of the kind in JSON and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Worker => "worker",
            Self::Owner => "owner",
            Self::Login => "login",
        }
    }
}

/// A role and its attributes. An attribute that is omitted is not checked, except for a client or
/// login role, which must not have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleDecl {
    /// The name of the role.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The purpose of the role.
    pub kind: RoleKind,
    /// Free text without effect.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// SUPERUSER: true requires the attribute, false forbids it. Omitted: either, except that a
    /// client or login role must not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superuser: Option<bool>,
    /// BYPASSRLS: true requires the attribute, false forbids it. Omitted: either, except that a
    /// client or login role must not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bypass_rls: Option<bool>,
    /// CREATEROLE: true requires the attribute, false forbids it. Omitted: either, except that a
    /// client or login role must not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_role: Option<bool>,
    /// CREATEDB: true requires the attribute, false forbids it. Omitted: either, except that a
    /// client or login role must not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create_db: Option<bool>,
    /// REPLICATION: true requires the attribute, false forbids it. Omitted: either, except that a
    /// client or login role must not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<bool>,
}

impl RoleDecl {
    /// Returns the declaration of a role of which nothing but its kind is said.
    #[must_use]
    pub fn new(name: &str, kind: RoleKind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            description: String::new(),
            superuser: None,
            bypass_rls: None,
            create_role: None,
            create_db: None,
            replication: None,
        }
    }

    /// Sets what the contract says about an attribute: see [`Self::attribute`].
    pub fn set_attribute(&mut self, attribute: Attribute, required: Option<bool>) {
        let field = match attribute {
            Attribute::Superuser => &mut self.superuser,
            Attribute::BypassRls => &mut self.bypass_rls,
            Attribute::CreateRole => &mut self.create_role,
            Attribute::CreateDb => &mut self.create_db,
            Attribute::Replication => &mut self.replication,
        };
        *field = required;
    }

    /// Returns whether the role must have an attribute (`true`) or must not (`false`); `None` if
    /// either is accepted.
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

/// A governed schema and the privileges of roles in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemaDecl {
    /// The name of the schema.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Free text without effect.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub purpose: String,
    /// The roles with USAGE on the schema. Other roles must not have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usage: Vec<String>,
    /// The roles with all privileges on every object in the schema (CREATE on the schema is not
    /// included).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub all_on_objects: Vec<String>,
    /// The roles with EXECUTE on every routine in the schema.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub execute_on_routines: Vec<String>,
}

/// A privilege on a table or view, as in GRANT.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum TablePrivilege {
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

/// A privilege as the contract names it in a grant.
pub trait GrantPrivilege: Copy + 'static {
    /// ALL, which stands for every other privilege.
    const ALL: Self;
    /// Every other privilege.
    const EACH: &'static [Self];

    /// Returns the privileges that this name stands for.
    fn privileges(self) -> Privileges;

    /// Returns the names of `privileges`: ALL if they contain every privilege.
    fn names_of(privileges: Privileges) -> Vec<Self> {
        if privileges.contains(Self::ALL.privileges()) {
            return vec![Self::ALL];
        }
        Self::EACH.iter().copied().filter(|name| privileges.contains(name.privileges())).collect()
    }
}

impl GrantPrivilege for TablePrivilege {
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

    fn privileges(self) -> Privileges {
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

/// Returns the privileges that `grants` gives to the role `name`.
#[must_use]
pub fn granted_to<P: GrantPrivilege>(grants: &ByRole<P>, name: &str) -> Privileges {
    grants.get(name).into_iter().flatten().fold(Privileges::NONE, |all, one| all | one.privileges())
}

/// The columns on which a role has each privilege, as in `GRANT UPDATE (name) ON TABLE ...`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "UPPERCASE")]
#[schemars(extend("minProperties" = 1))]
pub struct ColumnGrants {
    /// The columns that the role may read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), inner(length(min = 1, max = 63)))]
    pub select: Vec<String>,
    /// The columns whose values the role may set in new rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), inner(length(min = 1, max = 63)))]
    pub insert: Vec<String>,
    /// The columns that the role may change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), inner(length(min = 1, max = 63)))]
    pub update: Vec<String>,
    /// The columns to which foreign keys of the role may refer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), inner(length(min = 1, max = 63)))]
    pub references: Vec<String>,
}

impl ColumnGrants {
    /// Returns the declared columns of one privilege; none for a privilege that does not exist on
    /// columns.
    #[must_use]
    pub fn columns(&self, privilege: Privileges) -> &[String] {
        match privilege {
            Privileges::SELECT => &self.select,
            Privileges::INSERT => &self.insert,
            Privileges::UPDATE => &self.update,
            Privileges::REFERENCES => &self.references,
            _ => &[],
        }
    }

    /// Returns each privilege that is declared for some columns, with these.
    pub fn each(&self) -> impl Iterator<Item = (Privileges, &[String])> {
        Privileges::EACH_ON_COLUMN
            .into_iter()
            .map(|privilege| (privilege, self.columns(privilege)))
            .filter(|(_, columns)| !columns.is_empty())
    }

    /// Returns the privileges that are declared for some column.
    #[must_use]
    pub fn privileges(&self) -> Privileges {
        self.each().fold(Privileges::NONE, |all, (one, _)| all | one)
    }

    /// Returns the privileges that are declared for one column.
    #[must_use]
    pub fn on(&self, column: &str) -> Privileges {
        self.each()
            .filter(|(_, columns)| columns.iter().any(|declared| declared == column))
            .fold(Privileges::NONE, |all, (one, _)| all | one)
    }

    /// Adds privileges on one column.
    pub fn add(&mut self, privileges: Privileges, column: &str) {
        for (one, columns) in [
            (Privileges::SELECT, &mut self.select),
            (Privileges::INSERT, &mut self.insert),
            (Privileges::UPDATE, &mut self.update),
            (Privileges::REFERENCES, &mut self.references),
        ] {
            if privileges.contains(one) && !columns.iter().any(|declared| declared == column) {
                columns.push(column.to_owned());
            }
        }
    }
}

/// The privileges on columns for each role name.
pub type ColumnGrantsByRole = BTreeMap<String, ColumnGrants>;

/// The command of a policy, as in CREATE POLICY.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum PolicyCommand {
    All,
    Select,
    Insert,
    Update,
    Delete,
}

impl PolicyCommand {
    /// Returns the commands that the name stands for.
    #[must_use]
    pub fn commands(self) -> &'static [Command] {
        match self {
            Self::All => &Command::ALL,
            Self::Select => &[Command::Select],
            Self::Insert => &[Command::Insert],
            Self::Update => &[Command::Update],
            Self::Delete => &[Command::Delete],
        }
    }

    /// Returns the names of `commands`, in the order of [`Command::ALL`]: ALL for all of them.
    #[must_use]
    pub fn names_of(commands: &[Command]) -> Vec<Self> {
        let named = |command: Command| match command {
            Command::Select => Self::Select,
            Command::Insert => Self::Insert,
            Command::Update => Self::Update,
            Command::Delete => Self::Delete,
        };
        let names: Vec<Self> =
            Command::ALL.into_iter().filter(|c| commands.contains(c)).map(named).collect();
        if names.len() == Command::ALL.len() { vec![Self::All] } else { names }
    }
}

/// A table with its row security, policies and privileges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableDecl {
    /// The schema of the table.
    #[schemars(length(min = 1, max = 63))]
    pub schema: String,
    /// The name of the table.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Free text without effect.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub purpose: String,
    /// Whether row security must be enabled.
    #[serde(default)]
    pub row_security: bool,
    /// Whether row security must also apply to the table owner (FORCE ROW LEVEL SECURITY).
    #[serde(default)]
    pub force_row_security: bool,
    /// The privileges of each role, in addition to those that the schema's declaration gives.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grants: ByRole<TablePrivilege>,
    /// The privileges of each role on single columns, where it does not have them on the whole
    /// table: `{"app_user": {"UPDATE": ["name"]}}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub column_grants: ColumnGrantsByRole,
    /// The commands of each role for which a permissive policy must exist. Policies for other
    /// commands must not exist.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: ByRole<PolicyCommand>,
    /// The commands of each client among its `policies` for which a policy may allow every row.
    /// For the others, the condition of a policy must not be always true. Omitted: either is
    /// allowed.
    #[serde(default, alias = "shared", skip_serializing_if = "Option::is_none")]
    pub all_rows: Option<ByRole<PolicyCommand>>,
    /// The columns by which a row is its caller's: `["owner"]`. What ties a row to the caller must
    /// be one of them. Omitted: any column may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(min = 1, max = 63)))]
    pub keys: Vec<String>,
    /// The columns whose values may open a row to a role that it does not belong to, for reading:
    /// `{"anon": ["status"]}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub open_rows: ByRole<String>,
    /// The roles that may insert rows that belong to no caller, as with a contact form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub append_only_by: Vec<String>,
    /// Whether a caller who is found in this table has a right because of it, as in a table of
    /// administrators.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
}

impl TableDecl {
    /// Returns the commands that the policies for the role `name` allow.
    #[must_use]
    pub fn policy_commands(&self, name: &str) -> Vec<Command> {
        commands_of(&self.policies, name)
    }

    /// Returns the commands for which a policy may allow the role `name` every row; `None` where
    /// the contract does not say.
    #[must_use]
    pub fn all_rows_commands(&self, name: &str) -> Option<Vec<Command>> {
        self.all_rows.as_ref().map(|declared| commands_of(declared, name))
    }
}

/// Returns the commands of one role, in the order of [`Command::ALL`].
fn commands_of(declared: &ByRole<PolicyCommand>, name: &str) -> Vec<Command> {
    let declared: Vec<Command> =
        declared.get(name).into_iter().flatten().flat_map(|c| c.commands()).copied().collect();
    Command::ALL.into_iter().filter(|c| declared.contains(c)).collect()
}

/// A view or materialized view and its privileges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ViewDecl {
    /// The schema of the view.
    #[schemars(length(min = 1, max = 63))]
    pub schema: String,
    /// The name of the view.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Free text without effect.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub purpose: String,
    /// Whether it must be a materialized view (true) or a plain view (false).
    #[serde(default)]
    pub materialized: bool,
    /// Whether the view must run with the privileges of its caller (`security_invoker`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub security_invoker: bool,
    /// The query of the view. If it is declared, the fix for a missing view creates the view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// The privileges of each role, in addition to those that the schema's declaration gives.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grants: ByRole<TablePrivilege>,
    /// The privileges of each role on single columns, where it does not have them on the whole
    /// view: `{"app_user": {"UPDATE": ["name"]}}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub column_grants: ColumnGrantsByRole,
}

/// A privilege on a sequence, as in GRANT.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum SequencePrivilege {
    All,
    Usage,
    Select,
    Update,
}

impl GrantPrivilege for SequencePrivilege {
    const ALL: Self = Self::All;
    const EACH: &'static [Self] = &[Self::Usage, Self::Select, Self::Update];

    fn privileges(self) -> Privileges {
        match self {
            Self::All => Privileges::ALL_ON_SEQUENCE,
            Self::Usage => Privileges::USAGE,
            Self::Select => Privileges::SELECT,
            Self::Update => Privileges::UPDATE,
        }
    }
}

/// A sequence that roles use directly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SequenceDecl {
    /// The schema of the sequence.
    #[schemars(length(min = 1, max = 63))]
    pub schema: String,
    /// The name of the sequence.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Free text without effect.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub purpose: String,
    /// The privileges of each role, in addition to those that the schema's declaration gives.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub grants: ByRole<SequencePrivilege>,
}

/// A routine that must exist.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionDecl {
    /// The schema of the routine.
    #[schemars(length(min = 1, max = 63))]
    pub schema: String,
    /// The name of the routine.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Free text without effect.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub purpose: String,
    /// The input argument types, as `pg_identify_object` returns them but without `pg_catalog.`.
    /// Omitted: any arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// Whether it must be SECURITY DEFINER (true) or SECURITY INVOKER (false). Omitted: either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_definer: Option<bool>,
    /// The roles with EXECUTE, in addition to those that the schema's declaration gives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub execute: Vec<String>,
    /// Whether a SECURITY DEFINER routine is meant to reach rows that are not its caller's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_rows: bool,
}

/// The safe values of search_path that satisfy the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Accept {
    /// Every safe path.
    #[default]
    Safe,
    /// The canonical path only: the guard rejects new routines with another safe path, and that of
    /// an existing routine is a warning.
    Canonical,
}

/// The requirements on SECURITY DEFINER routines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecurityDefinerDecl {
    /// The canonical search_path, one schema name for each element. `pg_temp` must be the last.
    #[schemars(inner(length(min = 1, max = 63)))]
    pub search_path: Vec<String>,
    /// The safe paths that are accepted.
    #[serde(default)]
    pub accept: Accept,
    /// Whether `search_path = ''` is accepted although it is not safe: it is a warning instead of
    /// an error, and the guard allows it.
    #[serde(default)]
    pub accept_empty: bool,
}

/// The schemas, extensions and roles that the platform manages.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManagedDecl {
    /// The names of managed schemas. A `*` at the end matches any suffix. A schema is managed only
    /// while it belongs to a superuser or a managed role; in one of a trusted owner whose name is
    /// listed without `*`, routines of extensions are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schemas: Vec<String>,
    /// The names of managed extensions. Member objects are managed only if the extension is listed
    /// here and is owned by a superuser or a trusted owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<String>,
    /// The names of managed roles: their memberships, attributes, default privileges and objects
    /// are the platform's. A `*` at the end matches any suffix; such a pattern applies only to
    /// roles that requests cannot become and whose memberships superusers granted. A role that is
    /// listed in `roles` is never managed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// The severity of a finding, from the lowest to the highest.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Severity {
    Info,
    Warning,
    Error,
}

/// The text is not the name of a severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a severity")]
pub struct UnknownSeverity;

impl Severity {
    /// Every severity, the highest first.
    pub const ALL: [Self; 3] = [Self::Error, Self::Warning, Self::Info];

    /// Returns the name of the severity in SQL and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

impl FromStr for Severity {
    type Err = UnknownSeverity;

    fn from_str(name: &str) -> Result<Self, UnknownSeverity> {
        Self::ALL.into_iter().find(|s| s.as_str() == name).ok_or(UnknownSeverity)
    }
}

/// What the guard does with a statement that violates a rule, from the mildest to the strictest.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum GuardAction {
    /// Allow the statement. The audit reports the finding.
    Audit,
    /// Allow the statement and write a line to the log.
    Observe,
    /// Allow the statement with a WARNING.
    Warn,
    /// Reject the statement.
    Block,
}

impl GuardAction {
    /// Returns the name of the action in SQL and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Warn => "warn",
            Self::Observe => "observe",
            Self::Audit => "audit",
        }
    }
}

/// The most that the guard does about a violation of a contract, from the mildest to the strictest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    /// Allow the statement and write a line to the log.
    Observe,
    /// Allow the statement with a WARNING.
    Warn,
    /// Reject the statement.
    #[default]
    Block,
}

impl Enforcement {
    /// Returns the name in JSON and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.action().as_str()
    }

    /// Returns what happens to statements that violate the contract, for the end of a sentence.
    #[must_use]
    pub fn effect(self) -> &'static str {
        match self {
            Self::Observe => "statements that violate it are allowed and logged",
            Self::Warn => "statements that violate it are allowed with a WARNING",
            Self::Block => "statements that violate it are rejected",
        }
    }

    /// Whether this is the value of a contract that does not say.
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the strictest guard action that it permits.
    #[must_use]
    pub fn action(self) -> GuardAction {
        match self {
            Self::Observe => GuardAction::Observe,
            Self::Warn => GuardAction::Warn,
            Self::Block => GuardAction::Block,
        }
    }
}

/// The severity and guard action of one rule, and where it comes from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleDecl {
    /// The highest severity of its findings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// What the guard does with a statement that violates the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<GuardAction>,
    /// The section of a document that the rule comes from, such as `7` or `4.2`. Findings and
    /// messages name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section: Option<String>,
}
