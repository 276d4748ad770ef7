//! Reads the objects of the server with privileges beyond those that they were created with, or
//! with an owner that may be a role of requests: what initdb creates, and what belongs to no
//! schema.

use crate::source::{Row, State, of_row};
use crate::toast::{PG_TOAST, TOAST};
use crate::{oids, routines};
use dragonfly_core::catalog::{
    Acl, AclItem, BOOTSTRAP_SUPERUSER, FIRST_NORMAL, FIRST_UNPINNED, ObjectKind, Oid, PUBLIC,
    Privileges, Schema, ServerObject, Snapshot,
};
use dragonfly_core::contract::{Contract, RoleKind};
use dragonfly_core::rules::shared::guard_settings::is_own_parameter;
use dragonfly_core::sql::{quote_ident, safe_ident, safe_qualified};
use std::collections::{HashMap, HashSet};

/// The privileges that objects were created with, by catalog, OID and number of the column.
type Initial = HashMap<(Oid, Oid, i32), Acl>;

/// A catalog of objects without a schema.
struct Catalog {
    oid: Oid,
    /// The columns with name, owner and ACL; no ACL where there are no privileges.
    name: &'static str,
    owner: &'static str,
    acl: Option<&'static str>,
    /// The column with the database, in a catalog that all databases share.
    database: Option<&'static str>,
    object_type: &'static str,
    /// The type of object as GRANT names it.
    keyword: &'static str,
    /// The privileges that PUBLIC has without a stored ACL (acl.c, `acldefault`).
    of_public: Privileges,
}

const CATALOGS: [Catalog; 7] = [
    Catalog {
        oid: oids::PG_LANGUAGE,
        name: "lanname",
        owner: "lanowner",
        acl: Some("lanacl"),
        database: None,
        object_type: "language",
        keyword: "LANGUAGE",
        of_public: Privileges::USAGE,
    },
    Catalog {
        oid: oids::PG_FOREIGN_DATA_WRAPPER,
        name: "fdwname",
        owner: "fdwowner",
        acl: Some("fdwacl"),
        database: None,
        object_type: "foreign-data wrapper",
        keyword: "FOREIGN DATA WRAPPER",
        of_public: Privileges::NONE,
    },
    Catalog {
        oid: oids::PG_FOREIGN_SERVER,
        name: "srvname",
        owner: "srvowner",
        acl: Some("srvacl"),
        database: None,
        object_type: "server",
        keyword: "FOREIGN SERVER",
        of_public: Privileges::NONE,
    },
    Catalog {
        oid: oids::PG_TABLESPACE,
        name: "spcname",
        owner: "spcowner",
        acl: Some("spcacl"),
        database: None,
        object_type: "tablespace",
        keyword: "TABLESPACE",
        of_public: Privileges::NONE,
    },
    Catalog {
        oid: oids::PG_EXTENSION,
        name: "extname",
        owner: "extowner",
        acl: None,
        database: None,
        object_type: "extension",
        keyword: "EXTENSION",
        of_public: Privileges::NONE,
    },
    Catalog {
        oid: oids::PG_PUBLICATION,
        name: "pubname",
        owner: "pubowner",
        acl: None,
        database: None,
        object_type: "publication",
        keyword: "PUBLICATION",
        of_public: Privileges::NONE,
    },
    Catalog {
        oid: oids::PG_SUBSCRIPTION,
        name: "subname",
        owner: "subowner",
        acl: None,
        database: Some("subdbid"),
        object_type: "subscription",
        keyword: "SUBSCRIPTION",
        of_public: Privileges::NONE,
    },
];

/// Whether the catalog has objects without a schema that may belong to a role of requests.
#[must_use]
pub fn may_be_owned(catalog: Oid) -> bool {
    CATALOGS.iter().any(|of| of.oid == catalog)
}

/// Reads the objects into a snapshot that shows roles, memberships, schemas and the members of
/// extensions. `toast` are other TOAST tables than those that initdb created, with an ACL or with
/// one on a column; `is_guarded` tells whether another rule checks the parameters of the guard.
/// Only objects with something to report are kept.
pub fn read(
    state: &dyn State,
    contract: &Contract,
    (toast, is_guarded): (&[Oid], bool),
    snapshot: &mut Snapshot,
) {
    let owners = possible_owners(contract, snapshot);
    let initial = initial(state, snapshot);
    let mut reader = Reader { state, initial, is_guarded, owners, found: vec![] };
    reader.schemas(&snapshot.schemas);
    reader.relations(toast);
    reader.routines();
    for catalog in &CATALOGS {
        reader.without_schema(catalog);
    }
    reader.parameters();
    reader.large_objects();
    snapshot.server_objects = reader.found;
    snapshot
        .server_objects
        .sort_by(|a, b| (a.object_type, &a.identity).cmp(&(b.object_type, &b.identity)));
}

/// Returns the roles whose objects matter: clients, login roles, and undeclared groups, which they
/// may be members of.
fn possible_owners(contract: &Contract, snapshot: &Snapshot) -> HashSet<Oid> {
    let groups: HashSet<Oid> = snapshot.memberships.iter().map(|m| m.role).collect();
    let counts = |kind: Option<RoleKind>, role: Oid| match kind {
        Some(kind) => matches!(kind, RoleKind::Client | RoleKind::Login),
        None => groups.contains(&role),
    };
    let roles = snapshot.roles.iter().filter(|role| !role.superuser);
    let owners = roles.filter(|role| counts(contract.kind_of(&role.name), role.oid));
    owners.map(|role| role.oid).collect()
}

const LARGE_OBJECT: &str = "large object";

/// Removes the large objects that did not exist in another state and have no privileges, except for
/// `given`: a client that creates one owns it.
pub fn forget_new_large_objects(then: &dyn State, given: &HashSet<Oid>, snapshot: &mut Snapshot) {
    let exists = |oid| of_row(then, oids::LARGE_OBJECT_BY_OID, oid, "oid", |_, _| ()).is_some();
    snapshot.server_objects.retain(|object| {
        let oid = (object.object_type == LARGE_OBJECT && object.added.is_empty())
            .then(|| object.identity.parse::<Oid>().ok())
            .flatten();
        oid.is_none_or(|oid| given.contains(&oid) || exists(oid))
    });
}

/// Reads `pg_init_privs`. ALTER EXTENSION ADD writes the ACL that an object has at that time into
/// it: what it says of a built-in object that has been added to an extension is not what initdb
/// granted.
fn initial(state: &dyn State, snapshot: &Snapshot) -> Initial {
    let is_added = |class: Oid, object: Oid| {
        let members = match class {
            oids::PG_PROC => &snapshot.routine_extension,
            oids::PG_CLASS => &snapshot.relation_extension,
            _ => return false,
        };
        object < FIRST_UNPINNED && members.contains_key(&object)
    };
    let table = state.table(oids::PG_INIT_PRIVS);
    let column = |name| table.column(name);
    let (class, object, part, acl) =
        (column("classoid"), column("objoid"), column("objsubid"), column("initprivs"));
    let mut found = HashMap::new();
    table.scan(|row: Row<'_>| {
        let key = (row.oid(class), row.oid(object), row.int(part));
        let acl = if is_added(key.0, key.1) { Some(Acl::default()) } else { row.acl(acl) };
        found.extend(acl.map(|acl| (key, acl)));
    });
    found
}

struct Reader<'s> {
    state: &'s dyn State,
    initial: Initial,
    /// Whether another rule checks the parameters of the guard.
    is_guarded: bool,
    /// The roles whose objects matter.
    owners: HashSet<Oid>,
    found: Vec<ServerObject>,
}

impl Reader<'_> {
    /// Returns what has been granted since an object was created.
    fn added(
        &self,
        key: (Oid, Oid, i32),
        owner: Oid,
        acl: Option<&Acl>,
        default: impl FnOnce() -> Acl,
    ) -> Acl {
        match (acl, self.initial.get(&key)) {
            (None, _) => Acl::default(),
            (Some(acl), Some(initial)) => ServerObject::added(owner, acl, initial),
            (Some(acl), None) => ServerObject::added(owner, acl, &default()),
        }
    }

    /// Whether there is something to report about an object with this owner.
    fn matters(&self, owner: Oid, added: &Acl) -> bool {
        !added.is_empty() || self.owners.contains(&owner)
    }

    /// Reads the schemas that initdb created for the server. Which roles can create objects in
    /// `pg_catalog` and `information_schema` is read elsewhere; every role can use these two.
    fn schemas(&mut self, schemas: &[Schema]) {
        for schema in schemas.iter().filter(|s| s.is_of_server() && s.oid < FIRST_NORMAL) {
            let key = (oids::PG_NAMESPACE, schema.oid, 0);
            let acl = schema.acl.as_ref().filter(|_| schema.oid == PG_TOAST);
            let added = self.added(key, schema.owner, acl, Acl::default);
            if self.matters(schema.owner, &added) {
                self.found.push(ServerObject {
                    object_type: "schema",
                    schema: Some(schema.name.clone()),
                    identity: quote_ident(&schema.name).into_owned(),
                    sql: format!("SCHEMA {}", safe_ident(&schema.name)),
                    column: None,
                    owner: schema.owner,
                    added,
                });
            }
        }
    }

    /// Reads the relations that initdb created, and their columns, and some TOAST tables.
    fn relations(&mut self, toast: &[Oid]) {
        let table = self.state.table(oids::PG_CLASS);
        let column = |name| table.column(name);
        let (oid, kind, owner, acl) =
            (column("oid"), column("relkind"), column("relowner"), column("relacl"));
        let mut relations = Vec::new();
        let created = (oid, FIRST_NORMAL);
        let mut each = |row: Row<'_>| {
            let relation = row.oid(oid);
            let kind = row.char(kind);
            if !matches!(kind, b'r' | b'v' | b'm' | b'S' | TOAST) {
                return;
            }
            let (key, owner) = ((oids::PG_CLASS, relation, 0), row.oid(owner));
            let default = || default_of_relation(self.state, relation, owner);
            let added = self.added(key, owner, row.acl(acl).as_ref(), default);
            relations.push((relation, kind, owner, added));
        };
        table.lookup_below(oids::PG_CLASS_OID_INDEX, created, &mut each);
        for toast in toast.iter().filter(|toast| **toast >= FIRST_NORMAL) {
            let key = [(oid, *toast)];
            table.lookup(oids::PG_CLASS_OID_INDEX, &key, &mut each);
        }
        let owners = relations.iter().map(|(relation, _, owner, _)| (*relation, *owner)).collect();
        let mut columns = self.columns(&owners);
        for (relation, kind, owner, added) in relations {
            let more = columns.remove(&relation).unwrap_or_default();
            // A TOAST table belongs to the owner of its table.
            let matters = !added.is_empty() || kind != TOAST && self.matters(owner, &added);
            if !matters && more.is_empty() {
                continue;
            }
            let Some((schema, name)) = self.state.name(oids::PG_CLASS, relation) else { continue };
            let (object_type, keyword) = match kind {
                b'v' => ("view", "TABLE"),
                b'm' => ("materialized view", "TABLE"),
                b'S' => ("sequence", "SEQUENCE"),
                TOAST => ("toast table", "TABLE"),
                _ => ("table", "TABLE"),
            };
            let whole = ServerObject {
                object_type,
                identity: format!("{}.{}", quote_ident(&schema), quote_ident(&name)),
                sql: format!("{keyword} {}", safe_qualified(&schema, &name)),
                schema: Some(schema),
                column: None,
                owner,
                added: Acl::default(),
            };
            self.found.extend(more.into_iter().map(|(column, added)| ServerObject {
                object_type: if kind == b'v' { "view column" } else { "table column" },
                identity: format!("{}.{}", whole.identity, quote_ident(&column)),
                column: Some(safe_ident(&column).into_owned()),
                added,
                ..whole.clone()
            }));
            if matters {
                self.found.push(ServerObject { added, ..whole });
            }
        }
    }

    /// Returns the columns of relations, given with their owners, and what has been granted on
    /// them.
    fn columns(&self, owners: &HashMap<Oid, Oid>) -> HashMap<Oid, Vec<(String, Acl)>> {
        let table = self.state.table(oids::PG_ATTRIBUTE);
        let column = |name| table.column(name);
        let (of, number, name, acl) =
            (column("attrelid"), column("attnum"), column("attname"), column("attacl"));
        let mut found: HashMap<Oid, Vec<(String, Acl)>> = HashMap::new();
        let created = (of, FIRST_NORMAL);
        let mut each = |row: Row<'_>| {
            let Some(acl) = row.acl(acl) else { return };
            let relation = row.oid(of);
            let Some(owner) = owners.get(&relation) else { return };
            let key = (oids::PG_CLASS, relation, row.int(number));
            let added = self.added(key, *owner, Some(&acl), Acl::default);
            if !added.is_empty() {
                found.entry(relation).or_default().push((row.name(name), added));
            }
        };
        table.lookup_below(oids::PG_ATTRIBUTE_RELID_INDEX, created, &mut each);
        for relation in owners.keys().filter(|relation| **relation >= FIRST_NORMAL) {
            let key = [(of, *relation)];
            table.lookup(oids::PG_ATTRIBUTE_RELID_INDEX, &key, &mut each);
        }
        found
    }

    /// Reads the routines that initdb created.
    fn routines(&mut self) {
        let table = self.state.table(oids::PG_PROC);
        let column = |name| table.column(name);
        let (oid, name, owner, acl) =
            (column("oid"), column("proname"), column("proowner"), column("proacl"));
        let (arguments, kind) = (column("proargtypes"), column("prokind"));
        let mut found = Vec::new();
        let created = (oid, FIRST_NORMAL);
        table.lookup_below(oids::PG_PROC_OID_INDEX, created, |row| {
            let (routine, owner) = (row.oid(oid), row.oid(owner));
            let default = || ObjectKind::Routine.default_acl(owner);
            let key = (oids::PG_PROC, routine, 0);
            let added = self.added(key, owner, row.acl(acl).as_ref(), default);
            if !self.matters(owner, &added) {
                return;
            }
            let Some((schema, _)) = self.state.name(oids::PG_PROC, routine) else { return };
            let (name, types) =
                (row.name(name), routines::argument_types(self.state, &row.oids(arguments)));
            found.push(ServerObject {
                object_type: match row.char(kind) {
                    b'a' => "aggregate",
                    b'p' => "procedure",
                    _ => "function",
                },
                identity: format!("{}.{}({types})", quote_ident(&schema), quote_ident(&name)),
                sql: format!("ROUTINE {}({types})", safe_qualified(&schema, &name)),
                schema: Some(schema),
                column: None,
                owner,
                added,
            });
        });
        self.found.append(&mut found);
    }

    fn without_schema(&mut self, catalog: &Catalog) {
        let table = self.state.table(catalog.oid);
        let column = |name| table.column(name);
        let (oid, name, owner) = (column("oid"), column(catalog.name), column(catalog.owner));
        let (acl, database) = (catalog.acl.map(column), catalog.database.map(column));
        let mut found = Vec::new();
        table.scan(|row: Row<'_>| {
            let current = self.state.database();
            if database.is_some_and(|database| row.oid(database) != current) {
                return;
            }
            let owner = row.oid(owner);
            let default = || vec![granted(PUBLIC, owner, catalog.of_public)].into();
            let key = (catalog.oid, row.oid(oid), 0);
            let stored = acl.and_then(|acl| row.acl(acl));
            let added = self.added(key, owner, stored.as_ref(), default);
            if !self.matters(owner, &added) {
                return;
            }
            let name = row.name(name);
            found.push(ServerObject {
                object_type: catalog.object_type,
                schema: None,
                identity: quote_ident(&name).into_owned(),
                sql: format!("{} {}", catalog.keyword, safe_ident(&name)),
                column: None,
                owner,
                added,
            });
        });
        self.found.append(&mut found);
    }

    /// Reads the privileges on parameters, without those that [`super::guard()`] reads.
    fn parameters(&mut self) {
        let table = self.state.table(oids::PG_PARAMETER_ACL);
        let (oid, name, acl) =
            (table.column("oid"), table.column("parname"), table.column("paracl"));
        let mut found = Vec::new();
        table.scan(|row: Row<'_>| {
            let name = row.text(name).unwrap_or_default();
            let key = (oids::PG_PARAMETER_ACL, row.oid(oid), 0);
            let added = self.added(key, BOOTSTRAP_SUPERUSER, row.acl(acl).as_ref(), Acl::default);
            let is_own = self.is_guarded && is_own_parameter(&name, self.state.version());
            if is_own || added.is_empty() {
                return;
            }
            found.push(ServerObject {
                object_type: "parameter",
                schema: None,
                sql: format!("PARAMETER {name}"),
                identity: name,
                column: None,
                owner: BOOTSTRAP_SUPERUSER,
                added,
            });
        });
        self.found.append(&mut found);
    }

    fn large_objects(&mut self) {
        let table = self.state.table(oids::PG_LARGEOBJECT_METADATA);
        let (oid, owner, acl) =
            (table.column("oid"), table.column("lomowner"), table.column("lomacl"));
        let mut found = Vec::new();
        table.scan(|row: Row<'_>| {
            let (oid, owner) = (row.oid(oid), row.oid(owner));
            let key = (oids::PG_LARGEOBJECT, oid, 0);
            let added = self.added(key, owner, row.acl(acl).as_ref(), Acl::default);
            if !self.matters(owner, &added) {
                return;
            }
            found.push(ServerObject {
                object_type: LARGE_OBJECT,
                schema: None,
                identity: oid.to_string(),
                sql: format!("LARGE OBJECT {oid}"),
                column: None,
                owner,
                added,
            });
        });
        self.found.append(&mut found);
    }
}

/// Returns what initdb has granted on a relation that is not in `pg_init_privs`: those of
/// information_schema are not, because initdb creates it later.
fn default_of_relation(state: &dyn State, relation: Oid, owner: Oid) -> Acl {
    let schema = state.name(oids::PG_CLASS, relation).map(|(schema, _)| schema);
    let is_standard = schema.as_deref() == Some("information_schema");
    is_standard.then(|| granted(PUBLIC, owner, Privileges::SELECT)).into_iter().collect()
}

fn granted(grantee: Oid, grantor: Oid, privileges: Privileges) -> AclItem {
    AclItem { grantee, grantor, privileges, grantable: Privileges::NONE }
}
