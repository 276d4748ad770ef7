//! What `pg_catalog` says now, as plain structs: the *snapshot* that the rules judge.
//!
//! The edge fills it, in a few passes over the catalogs; nothing here reads anything. Names of
//! fields are those of the catalog columns they come from, spelled out.

mod acl;
mod build;
pub mod extension;
mod object;

pub use acl::{Acl, AclItem, ObjectKind, Privileges};
pub use object::{Object, ObjectId};

use std::collections::{HashMap, HashSet};

/// An object identifier, as in `pg_catalog`; 0 is "none", and as a grantee PUBLIC.
pub type Oid = u32;

/// The grantee PUBLIC in an ACL and in `pg_policy.polroles`.
pub const PUBLIC: Oid = 0;

/// `pg_database_owner`, the predefined role whose one implicit member is the owner of the current
/// database (pg_authid.dat).
pub const PG_DATABASE_OWNER: Oid = 6171;

/// The bootstrap superuser: the owner of everything that initdb makes.
pub const BOOTSTRAP_SUPERUSER: Oid = 10;

/// Everything that initdb makes and pins has a smaller OID (transam.h, `FirstUnpinnedObjectId`):
/// the system catalogs among it.
pub const FIRST_UNPINNED: Oid = 12_000;

/// Schema `pg_catalog` (pg_namespace.dat).
pub const PG_CATALOG: Oid = 11;

/// A row of `pg_authid`, without its password.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
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
}

/// An attribute of a role that the contract can speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Attribute {
    Superuser,
    BypassRls,
    CreateRole,
    CreateDb,
    Replication,
}

impl Attribute {
    /// Each of them.
    pub const ALL: [Self; 5] =
        [Self::Superuser, Self::BypassRls, Self::CreateRole, Self::CreateDb, Self::Replication];

    /// The SQL word that gives it; with NO before it, it is taken.
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

    /// Gives or takes an attribute.
    pub fn set(&mut self, attribute: Attribute, on: bool) {
        let place = match attribute {
            Attribute::Superuser => &mut self.superuser,
            Attribute::BypassRls => &mut self.bypass_rls,
            Attribute::CreateRole => &mut self.create_role,
            Attribute::CreateDb => &mut self.create_db,
            Attribute::Replication => &mut self.replication,
        };
        *place = on;
    }
}

/// A row of `pg_auth_members`: `member` is a member of `role`.
///
/// PostgreSQL 15 has no membership options; there the edge sets `inherit` from the member's own
/// INHERIT attribute, and `set` to true, which is how that release behaves (acl.c,
/// `roles_is_member_of`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
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
#[allow(missing_docs)]
pub struct Database {
    pub name: String,
    pub owner: Oid,
    pub acl: Option<Acl>,
}

/// A row of `pg_namespace`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Schema {
    pub oid: Oid,
    pub name: String,
    pub owner: Oid,
    pub acl: Option<Acl>,
}

impl Schema {
    /// Whether it is where some session keeps its temporary objects (namespace.c,
    /// `isAnyTempNamespace`).
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.name.starts_with("pg_temp_") || self.name.starts_with("pg_toast_temp_")
    }
}

/// What a row of `pg_class` is, where the contract can say something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
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
    /// From `pg_class.relkind`; `None` for indexes, TOAST tables and composite types.
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

    /// The object type as `pg_identify_object` says it.
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

    /// Holds rows of its own that a client could read or write: a table of any make.
    #[must_use]
    pub fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::PartitionedTable | Self::ForeignTable)
    }

    /// Can have row level security (foreign tables cannot).
    #[must_use]
    pub fn has_row_security(self) -> bool {
        matches!(self, Self::Table | Self::PartitionedTable)
    }

    /// The kind of ACL it carries.
    #[must_use]
    pub fn acl_kind(self) -> ObjectKind {
        if self == Self::Sequence { ObjectKind::Sequence } else { ObjectKind::Relation }
    }
}

/// A row of `pg_class`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Relation {
    pub oid: Oid,
    pub name: String,
    pub schema: Oid,
    pub owner: Oid,
    pub kind: RelationKind,
    pub acl: Option<Acl>,
    pub row_security: bool,
    pub force_row_security: bool,
    /// A part of a partitioned table.
    pub is_partition: bool,
    /// `security_invoker` among a view's reloptions.
    pub security_invoker: bool,
    /// Column ACLs that are not null, by column name.
    pub columns: Vec<(String, Acl)>,
    /// For a sequence: the table whose column it serves (`OWNED BY`, identity).
    pub owned_by: Option<Oid>,
}

/// The command of a policy, `pg_policy.polcmd`, or of an access to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Command {
    Select,
    Insert,
    Update,
    Delete,
}

impl Command {
    /// Each of the four, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Select, Self::Insert, Self::Update, Self::Delete];

    /// The SQL word.
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
#[allow(missing_docs)]
pub struct Policy {
    pub oid: Oid,
    pub name: String,
    pub relation: Oid,
    /// `None`: FOR ALL.
    pub command: Option<Command>,
    pub permissive: bool,
    /// Role OIDs; [`PUBLIC`] stands for everybody.
    pub roles: Vec<Oid>,
    /// The condition that counts (USING, or WITH CHECK of an INSERT policy) is constantly true.
    pub always_true: bool,
    /// There is a WITH CHECK of its own for what is written, and it is constantly true.
    pub unchecked: bool,
}

impl Policy {
    /// Whether the policy says something about `command`.
    #[must_use]
    pub fn covers(&self, command: Command) -> bool {
        self.command.is_none_or(|c| c == command)
    }

    /// The commands it covers.
    #[must_use]
    pub fn commands(&self) -> Vec<Command> {
        Command::ALL.into_iter().filter(|c| self.covers(*c)).collect()
    }
}

/// `pg_proc.prokind`, as far as SQL words differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum RoutineKind {
    #[default]
    Function,
    Procedure,
    Aggregate,
}

/// A row of `pg_proc`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Routine {
    pub oid: Oid,
    pub name: String,
    pub schema: Oid,
    pub owner: Oid,
    pub kind: RoutineKind,
    pub security_definer: bool,
    /// `proconfig`, each `name=value`.
    pub config: Vec<String>,
    pub acl: Option<Acl>,
    /// The input argument types, `proargtypes`: keys of [`Snapshot::types`].
    pub arguments: Vec<Oid>,
}

/// A row of `pg_default_acl`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DefaultAcl {
    pub role: Oid,
    /// 0: in every schema.
    pub schema: Oid,
    /// `defaclobjtype`: r, S, f, T, n.
    pub object_type: u8,
    pub acl: Acl,
}

/// A setting of `pg_db_role_setting`, or of nobody in particular (`None`: every role, every
/// database).
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct RoleSetting {
    pub role: Option<Oid>,
    /// `None`: every database; else the name of the current one.
    pub database: Option<String>,
    pub name: String,
    pub value: String,
}

/// What a schema holds that somebody could have planted: the owners of its objects, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum ContentKind {
    Routine,
    Operator,
    Type,
    Relation,
}

/// One of the guard's own event triggers, as found.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct GuardTrigger {
    pub name: String,
    pub event: String,
    /// `evtenabled`; `A` is ENABLE ALWAYS.
    pub enabled: u8,
    pub owner: Oid,
    /// Calls the function of the extension that is named like its event.
    pub calls_own_function: bool,
    /// Has a filter by tag.
    pub filtered: bool,
    pub extension_member: bool,
}

/// A routine that is a member of the extension, as found.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct GuardFunction {
    pub schema: String,
    pub name: String,
    /// Argument types as in an identity.
    pub arguments: String,
    pub owner: Oid,
    /// The symbol it calls in the extension's library; `None` for a query of its own.
    pub symbol: Option<String>,
    pub strict: bool,
    pub security_definer: bool,
    pub config: Vec<String>,
    pub acl: Option<Acl>,
}

/// A table or view that is a member of the extension, as found.
#[derive(Debug, Clone, Default)]
pub struct GuardRelation {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: Oid,
    /// Its ACL.
    pub acl: Option<Acl>,
    /// Column ACLs that are not null.
    pub columns: Vec<(String, Acl)>,
    /// Constraints that the extension made and that are gone.
    pub lacking: Vec<String>,
    /// Triggers; the extension makes none.
    pub triggers: Vec<String>,
}

/// The guard's own state.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// The extension is there; without it there is nothing to judge.
    pub installed: bool,
    /// Event triggers that carry the guard's names.
    pub triggers: Vec<GuardTrigger>,
    /// Routines that are members of the extension.
    pub functions: Vec<GuardFunction>,
    /// Name and arguments of routines in schema ops that carry the name of one of those and are no
    /// members: a call may reach them instead.
    pub impostors: Vec<(String, String)>,
    /// Members that the extension did not make.
    pub strays: Vec<String>,
    /// The private schema.
    pub schema: Option<Oid>,
    /// Tables of the private schema.
    pub tables: Vec<GuardRelation>,
    /// The extension's views.
    pub views: Vec<GuardRelation>,
    /// Settings that can silence the guard, stored for a role or a database.
    pub settings: Vec<RoleSetting>,
    /// The same as every session gets them from the server: name and value.
    pub server_settings: Vec<(String, String)>,
    /// Parameter, ACL: who may SET what silences the guard (`pg_parameter_acl`).
    pub parameters: Vec<(String, Acl)>,
}

/// Everything the rules look at.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Snapshot {
    /// The server's major version, 15 to 18.
    pub version: u32,
    /// Names in a search_path are still to be cut to 63 bytes; false where the edge had the server
    /// split them already.
    pub cuts_names: bool,
    pub database: Database,
    pub roles: Vec<Role>,
    pub memberships: Vec<Membership>,
    pub schemas: Vec<Schema>,
    pub relations: Vec<Relation>,
    pub policies: Vec<Policy>,
    pub routines: Vec<Routine>,
    pub default_acls: Vec<DefaultAcl>,
    /// Who owns something in a schema, by kind of thing.
    pub contents: HashMap<Oid, HashSet<(Oid, ContentKind)>>,
    /// Type names, as `format_type` says them when every name is qualified.
    pub types: HashMap<Oid, String>,
    /// Extensions by OID: name and owner.
    pub extensions: HashMap<Oid, (String, Oid)>,
    /// The extension that a routine belongs to.
    pub routine_extension: HashMap<Oid, Oid>,
    /// The extension that a relation belongs to.
    pub relation_extension: HashMap<Oid, Oid>,
    pub guard: Guard,
    /// Made by [`Snapshot::complete`].
    pub index: Index,
}

/// Look-ups over a snapshot: positions in its lists.
#[derive(Debug, Clone, Default)]
pub struct Index {
    role_by_oid: HashMap<Oid, usize>,
    schema_by_oid: HashMap<Oid, usize>,
    relation_by_oid: HashMap<Oid, usize>,
    relation_by_name: HashMap<(Oid, String), usize>,
    policies_by_relation: HashMap<Oid, std::ops::Range<usize>>,
}
