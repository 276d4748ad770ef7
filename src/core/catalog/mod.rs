//! The snapshot of `pg_catalog` that the rules check, as plain structs.
//!
//! The edge fills it in a few passes over the catalogs; this module reads nothing. Fields have the
//! names of the catalog columns, written out.

mod acl;
mod arguments;
mod body;
mod build;
mod caller_typed;
mod calls;
mod definer;
mod dependencies;
mod exposure;
pub mod extension;
mod object;
mod oids;
mod publication;
mod server_object;
mod shared;
mod unique_key;

pub use acl::{Acl, AclItem, ObjectKind, Privileges};
pub use arguments::input_names;
pub use body::{Body, BodyName, NameKind, Named};
pub use caller_typed::{CallerTyped, TypeChoice};
pub use calls::{Calls, Raise, Unindexed};
pub use definer::{BodyAccess, BodyWay, DefinerBody, ExecutedText, SetParameter};
pub use dependencies::{Dependencies, Holder, Part, PartKind, TypeOwner, Use};
pub use exposure::{
    Caller, CapturedArgument, Exposure, Forgeable, Free, Open, Opening, PolicyExposure, Rows,
    StoragePolicy, TiedBy,
};
pub use object::{Object, ObjectId};
pub use oids::{OidHasher, OidMap, OidSet};
pub use publication::Publication;
pub use server_object::ServerObject;
pub use shared::Shared;
pub use unique_key::UniqueKey;

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// An object identifier, as in `pg_catalog`. 0 means none, and PUBLIC if it is a grantee.
pub type Oid = u32;

/// The grantee PUBLIC in an ACL and in `pg_policy.polroles`.
pub const PUBLIC: Oid = 0;

/// `pg_database_owner`, the predefined role with the owner of the current database as its only,
/// implicit member (pg_authid.dat).
pub const PG_DATABASE_OWNER: Oid = 6171;

/// The bootstrap superuser, which owns the objects that initdb creates.
pub const BOOTSTRAP_SUPERUSER: Oid = 10;

/// Objects pinned by initdb, such as the system catalogs, have lower OIDs (transam.h,
/// `FirstUnpinnedObjectId`).
pub const FIRST_UNPINNED: Oid = 12_000;

/// System objects such as the predefined roles have lower OIDs (transam.h, `FirstNormalObjectId`).
pub const FIRST_NORMAL: Oid = 16_384;

/// Schema `pg_catalog` (pg_namespace.dat).
pub const PG_CATALOG: Oid = 11;

/// A row of `pg_authid`, without its password.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Role {
    pub oid: Oid,
    pub name: String,
    pub superuser: bool,
    pub inherit: bool,
    pub create_role: bool,
    pub create_db: bool,
    pub can_login: bool,
    pub replication: bool,
    pub bypass_rls: bool,
    /// How many connections the role can have at a time; `None` for any number.
    pub connection_limit: Option<u32>,
    /// Whether the password is no longer valid: VALID UNTIL is in the past.
    pub password_expired: bool,
}

/// An attribute of a role that a contract can declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Attribute {
    Superuser,
    BypassRls,
    CreateRole,
    CreateDb,
    Replication,
}

impl Attribute {
    /// Every attribute.
    pub const ALL: [Self; 5] =
        [Self::Superuser, Self::BypassRls, Self::CreateRole, Self::CreateDb, Self::Replication];

    /// Returns the SQL name of the attribute.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Superuser => "SUPERUSER",
            Self::BypassRls => "BYPASSRLS",
            Self::CreateRole => "CREATEROLE",
            Self::CreateDb => "CREATEDB",
            Self::Replication => "REPLICATION",
        }
    }
}

impl Role {
    /// Whether the role has an attribute.
    #[must_use]
    pub fn has(&self, attribute: Attribute) -> bool {
        match attribute {
            Attribute::Superuser => self.superuser,
            Attribute::BypassRls => self.bypass_rls,
            Attribute::CreateRole => self.create_role,
            Attribute::CreateDb => self.create_db,
            Attribute::Replication => self.replication,
        }
    }

    /// Whether it is a predefined role, such as `pg_read_all_data`.
    #[must_use]
    pub fn is_predefined(&self) -> bool {
        self.oid < FIRST_NORMAL && self.name.starts_with("pg_")
    }

    /// Sets or removes an attribute.
    pub fn set(&mut self, attribute: Attribute, on: bool) {
        let field = match attribute {
            Attribute::Superuser => &mut self.superuser,
            Attribute::BypassRls => &mut self.bypass_rls,
            Attribute::CreateRole => &mut self.create_role,
            Attribute::CreateDb => &mut self.create_db,
            Attribute::Replication => &mut self.replication,
        };
        *field = on;
    }
}

/// A row of `pg_auth_members`: `member` is a member of `role`.
///
/// PostgreSQL 15 has no membership options; there the edge sets `inherit` from the member's own
/// INHERIT attribute, and `set` to true, which is how that release behaves (acl.c,
/// `roles_is_member_of`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Membership {
    pub role: Oid,
    pub member: Oid,
    pub grantor: Oid,
    pub admin: bool,
    pub inherit: bool,
    pub set: bool,
}

/// The current database's row of `pg_database`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Database {
    pub name: String,
    pub owner: Oid,
    pub acl: Option<Acl>,
    /// How many connections there can be at a time; `None` for any number.
    pub connection_limit: Option<u32>,
}

/// A row of `pg_namespace`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Schema {
    pub oid: Oid,
    pub name: String,
    pub owner: Oid,
    pub acl: Option<Acl>,
}

/// Whether a schema of this name belongs to the server: `CREATE SCHEMA` rejects such names.
#[must_use]
pub fn is_schema_of_server(name: &str) -> bool {
    name.starts_with("pg_") || name == "information_schema"
}

/// Returns whose schema it is where no contract can govern a schema of this name: that of the
/// server, or that of the extension, with its own objects. `None` for any other.
#[must_use]
pub fn owner_of_reserved_schema(name: &str) -> Option<&'static str> {
    match name {
        extension::SCHEMA => Some("extension dragonfly_guard"),
        _ if is_schema_of_server(name) => Some("the server"),
        _ => None,
    }
}

impl Schema {
    /// Whether it belongs to the server: no other schema can have such a name.
    #[must_use]
    pub fn is_of_server(&self) -> bool {
        is_schema_of_server(&self.name)
    }

    /// Whether it contains the temporary objects of a session (namespace.c, `isAnyTempNamespace`).
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.name.starts_with("pg_temp_") || self.name.starts_with("pg_toast_temp_")
    }

    /// Returns the roles that can create objects in it: its owner, who can grant itself the
    /// privilege, and the grantees of CREATE.
    #[must_use]
    pub fn creators(&self) -> HashSet<Oid> {
        let by_default = || ObjectKind::Schema.default_acl(self.owner);
        let acl = self.acl.clone().unwrap_or_else(by_default);
        let grantees = acl.iter().filter(|item| item.privileges.contains(Privileges::CREATE));
        std::iter::once(self.owner).chain(grantees.map(|item| item.grantee)).collect()
    }
}

/// The kind of a row of `pg_class` that a contract can declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum RelationKind {
    #[default]
    Table,
    PartitionedTable,
    ForeignTable,
    View,
    MaterializedView,
    Sequence,
}

impl RelationKind {
    /// Returns the kind for `pg_class.relkind`; `None` for indexes, TOAST tables and composite
    /// types.
    #[must_use]
    pub fn from_relkind(relkind: u8) -> Option<Self> {
        Some(match relkind {
            b'r' => Self::Table,
            b'p' => Self::PartitionedTable,
            b'f' => Self::ForeignTable,
            b'v' => Self::View,
            b'm' => Self::MaterializedView,
            b'S' => Self::Sequence,
            _ => return None,
        })
    }

    /// Returns the object type, as `pg_identify_object` returns it.
    #[must_use]
    pub fn object_type(self) -> &'static str {
        match self {
            Self::Table | Self::PartitionedTable => "table",
            Self::ForeignTable => "foreign table",
            Self::View => "view",
            Self::MaterializedView => "materialized view",
            Self::Sequence => "sequence",
        }
    }

    /// Returns the object type of its columns, as `pg_identify_object` returns it.
    #[must_use]
    pub fn column_type(self) -> &'static str {
        match self {
            Self::Table | Self::PartitionedTable => "table column",
            Self::ForeignTable => "foreign table column",
            Self::View => "view column",
            Self::MaterializedView => "materialized view column",
            Self::Sequence => "sequence column",
        }
    }

    /// Whether it has rows that a client could read or write: any kind of table.
    #[must_use]
    pub fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::PartitionedTable | Self::ForeignTable)
    }

    /// Whether it can have row security. Foreign tables cannot.
    #[must_use]
    pub fn has_row_security(self) -> bool {
        matches!(self, Self::Table | Self::PartitionedTable)
    }

    /// Returns the kind of its ACL.
    #[must_use]
    pub fn acl_kind(self) -> ObjectKind {
        if self == Self::Sequence { ObjectKind::Sequence } else { ObjectKind::Relation }
    }
}

/// A row of `pg_class`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Relation {
    pub oid: Oid,
    pub name: String,
    pub schema: Oid,
    pub owner: Oid,
    pub kind: RelationKind,
    pub acl: Option<Acl>,
    pub row_security: bool,
    pub force_row_security: bool,
    /// Whether it is a partition of a partitioned table.
    pub is_partition: bool,
    /// Whether the view has the option `security_invoker`.
    pub security_invoker: bool,
    /// Whether the view has the option `security_barrier`.
    pub security_barrier: bool,
    /// The WITH CHECK OPTION of the view.
    pub check_option: CheckOption,
    /// The stored column ACLs, by column name.
    pub columns: Vec<(String, Acl)>,
    /// The names of all columns, in their order.
    pub column_names: Rc<[String]>,
    /// For a sequence: the table of its column (`OWNED BY`, identity).
    pub owned_by: Option<Oid>,
    /// What in the relation executes code, sorted. Only read where the owner is not trusted.
    pub code: Vec<Code>,
    /// For a view: the names of the tables with row security that it reads. Only read where the
    /// owner is not trusted.
    pub protected: Vec<String>,
}

/// Which conditions the server checks for rows that are written through a view, from none to all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckOption {
    /// No condition.
    #[default]
    None,
    /// That of the view.
    Local,
    /// That of the view and those of the views that it reads.
    Cascaded,
}

impl CheckOption {
    /// Returns the value of the option `check_option`; `None` where the view does not have it.
    #[must_use]
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Local => Some("local"),
            Self::Cascaded => Some("cascaded"),
        }
    }
}

impl Relation {
    /// Whether a change of the owner changes as which role code runs, whose code is trusted, or
    /// which rows row security hides.
    #[must_use]
    pub fn carries_code(&self, snapshot: &Snapshot) -> bool {
        let is_defined_by_query =
            matches!(self.kind, RelationKind::View | RelationKind::MaterializedView);
        is_defined_by_query
            || self.kind == RelationKind::ForeignTable
            || self.row_security
            || self.force_row_security
            || !self.code.is_empty()
            || !snapshot.policies_of(self.oid).is_empty()
    }
}

/// Something in a relation that executes code, or that reads the relation for other roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// A trigger, except those of foreign keys.
    Trigger,
    /// A rule.
    Rule,
    /// An index with expressions or a condition.
    Index,
    /// A CHECK or exclusion constraint that calls a function or uses an operator that is not the
    /// server's.
    Constraint,
    /// A default or a generated column that does so.
    Default,
    /// Extended statistics about expressions.
    Statistics,
    /// A partition key with expressions.
    PartitionKey,
    /// A partition, or a table that inherits from it, that executes code.
    Descendant,
    /// A view or a rule of another relation that reads or writes it.
    View,
}

impl Code {
    /// Returns the noun in the plural.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trigger => "triggers",
            Self::Rule => "rules",
            Self::Index => "indexes with expressions",
            Self::Constraint => "constraints that call functions",
            Self::Default => "defaults or generated columns that call functions",
            Self::Statistics => "statistics about expressions",
            Self::PartitionKey => "a partition key with expressions",
            Self::Descendant => "partitions or child tables that execute code",
            Self::View => "views that read it",
        }
    }
}

/// The command of a policy, `pg_policy.polcmd`, or of an access to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Command {
    Select,
    Insert,
    Update,
    Delete,
}

impl Command {
    /// Every command, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Select, Self::Insert, Self::Update, Self::Delete];

    /// Returns the privilege that the command needs on a table.
    #[must_use]
    pub fn privilege(self) -> Privileges {
        match self {
            Self::Select => Privileges::SELECT,
            Self::Insert => Privileges::INSERT,
            Self::Update => Privileges::UPDATE,
            Self::Delete => Privileges::DELETE,
        }
    }

    /// Returns the SQL name of the command.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// A row of `pg_policy`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Policy {
    pub oid: Oid,
    pub name: String,
    pub relation: Oid,
    /// `None`: FOR ALL.
    pub command: Option<Command>,
    pub permissive: bool,
    /// Role OIDs, or [`PUBLIC`].
    pub roles: Vec<Oid>,
    /// Whether the condition (USING, or WITH CHECK of an INSERT policy) is always true.
    pub always_true: bool,
    /// Whether the policy has a WITH CHECK condition that is always true, so that new rows are not
    /// checked.
    pub unchecked: bool,
    /// Whether the policy has a WITH CHECK condition.
    pub has_check: bool,
    /// Whether the condition can only be true for an authenticated caller, as far as its stored
    /// expression shows: it compares with `auth.uid()` or a claim that only a user's token has.
    pub requires_authentication: bool,
    /// Whether a condition calls a built-in function that [tells of
    /// memberships](tells_of_memberships).
    pub asks_memberships: bool,
    /// Whether the condition (USING, or WITH CHECK of an INSERT policy) is true for no row.
    pub never_true: bool,
    /// Whether the condition for new rows (WITH CHECK, or USING where it is missing) is true for
    /// none.
    pub rejects_new_rows: bool,
}

/// Whether the result of the built-in function with this name depends on the roles that a role is a
/// member of.
#[must_use]
pub fn tells_of_memberships(function: &str) -> bool {
    function == "pg_has_role" || (function.starts_with("has_") && function.ends_with("_privilege"))
}

impl Policy {
    /// Whether the policy applies to `command`.
    #[must_use]
    pub fn covers(&self, command: Command) -> bool {
        self.command.is_none_or(|c| c == command)
    }

    /// Whether the policy does not restrict the rows that `command` reads or writes.
    #[must_use]
    pub fn is_for_all_rows(&self, command: Command) -> bool {
        let writes = matches!(command, Command::Insert | Command::Update);
        self.always_true || (self.unchecked && writes)
    }

    /// Whether the condition of the policy is true for no row that `command` reads or writes: a
    /// permissive policy then allows nothing, and a restrictive one excludes everything.
    #[must_use]
    pub fn is_for_no_rows(&self, command: Command) -> bool {
        match command {
            Command::Select | Command::Delete => self.never_true,
            Command::Insert => self.rejects_new_rows,
            Command::Update => self.never_true || self.rejects_new_rows,
        }
    }

    /// Returns the commands that the policy applies to.
    #[must_use]
    pub fn commands(&self) -> Vec<Command> {
        Command::ALL.into_iter().filter(|c| self.covers(*c)).collect()
    }
}

/// The kind of a routine, as far as SQL has different keywords (`pg_proc.prokind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum RoutineKind {
    #[default]
    Function,
    Procedure,
    Aggregate,
}

/// A row of `pg_proc`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Routine {
    pub oid: Oid,
    pub name: String,
    pub schema: Oid,
    pub owner: Oid,
    pub kind: RoutineKind,
    pub security_definer: bool,
    /// The elements of `proconfig`, each `name=value`.
    pub config: Shared<Vec<String>>,
    pub acl: Option<Acl>,
    /// The input argument types, `proargtypes`: keys of [`Snapshot::types`].
    pub arguments: Shared<Vec<Oid>>,
    /// Whether it is LEAKPROOF.
    pub is_leakproof: bool,
    /// Whether it is a function that only triggers and event triggers can call.
    pub is_trigger: bool,
    /// Whether it is an SQL function that returns records without names and types for their
    /// columns: it converts its result to the types that the query names.
    pub converts_result: bool,
    /// Whether it is one of the functions that the server creates with a range type.
    pub is_constructor: bool,
}

/// A row of `pg_default_acl`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct DefaultAcl {
    pub role: Oid,
    /// The schema; 0 for every schema.
    pub schema: Oid,
    /// `defaclobjtype`: r, S, f, T, n.
    pub object_type: u8,
    pub acl: Acl,
}

/// A setting in `pg_db_role_setting` that sessions of the current database start with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct RoleSetting {
    /// `None` for every role.
    pub role: Option<Oid>,
    /// The name of the current database; `None` for every database.
    pub database: Option<String>,
    pub name: String,
    pub value: String,
}

/// The kind of an object in a schema that a search_path can find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum ContentKind {
    Routine,
    Operator,
    Type,
    Relation,
}

/// An event trigger with the name of one of the guard's.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct GuardTrigger {
    pub name: String,
    pub event: String,
    /// `evtenabled`; `A` is ENABLE ALWAYS.
    pub enabled: u8,
    pub owner: Oid,
    /// Whether it calls the function of the extension with the name of its event.
    pub calls_own_function: bool,
    /// Whether it has a filter by tag.
    pub filtered: bool,
    pub extension_member: bool,
    /// Whether something in the server replaces its function in this session, and nothing else
    /// checks the session.
    pub is_skipped: bool,
}

/// What a routine of the extension executes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuardBody {
    /// This symbol of the extension's library.
    Symbol(String),
    /// Anything else: no function of the extension has such a body.
    Other,
}

/// A routine that is a member of the extension.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct GuardFunction {
    pub schema: String,
    pub name: String,
    /// The argument types, as in an identity.
    pub arguments: String,
    pub owner: Oid,
    pub body: GuardBody,
    pub strict: bool,
    pub security_definer: bool,
    pub config: Vec<String>,
    pub acl: Option<Acl>,
}

/// A table or view that is a member of the extension.
#[derive(Debug, Clone, Default)]
pub struct GuardRelation {
    /// The name of its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: Oid,
    /// Its ACL.
    pub acl: Option<Acl>,
    /// The stored column ACLs, by column name.
    pub columns: Vec<(String, Acl)>,
    /// The constraints of the extension that no longer exist.
    pub missing_constraints: Vec<String>,
    /// Whether a table has rules, row security, another schema or, for the log, an index or other
    /// columns: then its rows cannot be read and written directly.
    pub is_altered: bool,
    /// The triggers of the table. The extension creates none.
    pub triggers: Vec<String>,
}

/// The state of the guard's own objects.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// Whether the extension exists. Without it, the guard is not checked.
    pub installed: bool,
    /// The version of its objects.
    pub version: String,
    /// Whether the platform may skip the event triggers in sessions of other superusers than their
    /// owner, and nothing else checks these sessions.
    pub skips_superusers: bool,
    /// The event triggers with the names of the guard's.
    pub triggers: Vec<GuardTrigger>,
    /// The routines that are members of the extension.
    pub functions: Vec<GuardFunction>,
    /// The names and arguments of routines in schema ops that have the name of a function of the
    /// extension but are not members: a call may execute them instead.
    pub impostors: Vec<(String, String)>,
    /// The members that the extension did not create.
    pub extra_members: Vec<String>,
    /// The names of the extension's views that do not exist.
    pub missing_views: Vec<String>,
    /// The private schema of the extension.
    pub schema: Option<Oid>,
    /// The tables in the private schema.
    pub tables: Vec<GuardRelation>,
    /// The views of the extension.
    pub views: Vec<GuardRelation>,
    /// The settings that can disable the guard or weaken privileges, stored for a role or a
    /// database.
    pub settings: Vec<RoleSetting>,
    /// The settings that can disable the guard or weaken privileges, with the values that the
    /// server gives to every session.
    pub server_settings: Vec<(String, String)>,
    /// The parameters of these that the role which has read the catalogs may not see.
    pub hidden_settings: Vec<String>,
    /// The ACLs of the parameters that can disable the guard (`pg_parameter_acl`).
    pub parameters: Vec<(String, Acl)>,
}

/// The state of the catalog that the rules check.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Snapshot {
    /// The server's major version, 15 to 18.
    pub version: u32,
    /// Whether names in a search_path must be truncated to 63 bytes; false if the server has
    /// already split the path.
    pub cuts_names: bool,
    pub database: Database,
    pub roles: Shared<Vec<Role>>,
    /// The names of the roles that PostgREST switches to for requests without a token, where the
    /// database stores them (`pgrst.db_anon_role`).
    pub anonymous: HashSet<String>,
    pub memberships: Shared<Vec<Membership>>,
    pub schemas: Shared<Vec<Schema>>,
    pub relations: Vec<Relation>,
    pub policies: Vec<Policy>,
    /// What policies let clients reach, in the order of the policies' OIDs; only in a snapshot of
    /// the whole catalog as it is now.
    pub exposures: Rc<Vec<PolicyExposure>>,
    /// What the bodies of the SECURITY DEFINER routines let their callers do that clients may
    /// execute; only in a snapshot of the whole catalog as it is now.
    pub definer_bodies: Rc<Vec<DefinerBody>>,
    /// The permissive policies of storage.objects, the files of Supabase; as the former.
    pub storage_policies: Rc<Vec<StoragePolicy>>,
    /// The unique keys of governed tables with row security; as the former.
    pub unique_keys: Rc<Vec<UniqueKey>>,
    /// The publications; as the former.
    pub publications: Rc<Vec<Publication>>,
    pub routines: Vec<Routine>,
    pub default_acls: Vec<DefaultAcl>,
    /// The objects of the server with privileges beyond those that they were created with, or with
    /// an owner that may be a role of requests; only in a snapshot of the whole catalog, and where
    /// such privileges or owners may have changed.
    pub server_objects: Vec<ServerObject>,
    /// The settings stored for roles and for the current database, read with the whole catalog
    /// only. [`Snapshot::setting_of`] returns the one that is in force for a role.
    pub settings: Vec<RoleSetting>,
    /// The owners of the objects in each schema, by kind of object.
    pub contents: HashMap<Oid, HashSet<(Oid, ContentKind)>>,
    /// Type names, as `format_type` returns them with every name qualified.
    pub types: OidMap<String>,
    /// The name and owner of each extension.
    pub extensions: HashMap<Oid, (String, Oid)>,
    /// The extension that a routine belongs to.
    pub routine_extension: OidMap<Oid>,
    /// The extension that a relation belongs to.
    pub relation_extension: OidMap<Oid>,
    /// The relations that the query of a view reads, for views outside of governed schemas.
    pub view_sources: HashMap<Oid, Vec<Oid>>,
    /// What parts of objects call and read; empty in a snapshot for which that does not matter.
    pub dependencies: Rc<Dependencies>,
    pub guard: Guard,
    /// What callers choose the types of, by SECURITY DEFINER routine: only of those that other
    /// roles than the owner may execute.
    pub caller_typed: HashMap<Oid, Vec<CallerTyped>>,
    /// The bodies of the routines whose search_path a fix may change.
    pub bodies: Rc<OidMap<Rc<Body>>>,
    /// The search_path of a session, unless its role has another one; read with the bodies.
    pub default_path: Option<String>,
    /// The search_paths that ALTER ROLE has set for some roles; read with the bodies.
    pub role_paths: Vec<String>,
    /// The index, built by [`Snapshot::complete`].
    pub index: Index,
}

/// The index of a snapshot: positions in its lists.
#[derive(Debug, Clone, Default)]
pub struct Index {
    role_by_oid: Of<Vec<Role>, OidMap<usize>>,
    schema_by_oid: Of<Vec<Schema>, OidMap<usize>>,
    /// Memberships by member, built on first use. Often they are not needed, if one role owns all
    /// objects.
    memberships_by_member: Of<Vec<Membership>, OnceCell<ByMember>>,
    relation_by_oid: OidMap<usize>,
    routine_by_oid: OidMap<usize>,
    relations_by_schema: OidMap<std::ops::Range<usize>>,
    policies_by_relation: OidMap<std::ops::Range<usize>>,
}

/// The positions of memberships by member.
type ByMember = Rc<OidMap<Vec<usize>>>;

/// What has been derived from a list that snapshots share. It keeps the list alive, so that a list
/// at the same place is the same list.
#[derive(Debug, Clone, Default)]
struct Of<L, T> {
    list: Shared<L>,
    derived: Rc<T>,
}

impl<L, T> Of<L, T> {
    /// Derives it again unless it has been derived from this list.
    fn update(&mut self, list: &Shared<L>, derive: impl FnOnce(&L) -> T) {
        if !self.list.is_same(list) {
            *self = Self { derived: Rc::new(derive(list)), list: Shared::clone(list) };
        }
    }
}
