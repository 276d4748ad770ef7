//! Reads `pg_catalog` into a drift snapshot, in one pass over each catalog. Expression trees are
//! deparsed by the functions of the server.
//!
//! Members of extensions are omitted, this extension included: they belong to a version of the
//! extension. So are temporary objects and the properties that only determine how rows are stored
//! (tablespaces, statistics targets, storage and compression of columns).

mod deparser;
mod parts;
mod relations;
mod routines;
mod types;

use crate::catalog::deparse::{role_name, with_plain_settings};
use crate::catalog::{self, oids};
use crate::pg::heap::{Row, State, Table, interrupts};
use crate::pg::report::Report;
use crate::pg::{progress, subtransaction};
use deparser::{Deparser, TOO_DEEP, is_too_deep};
use dragonfly_core::catalog::{Acl, Oid, PUBLIC, Schema};
use dragonfly_core::drift::{AclKind, FORMAT, Object, Release, SharedTexts, Snapshot, grants};
use dragonfly_core::sql::{printable, quote_ident, quote_literal};
use pgrx::PgSqlErrorCode;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// Reads the objects in the schemas of these names. A schema that does not exist has none. Raises a
/// WARNING about objects that are nested too deeply to be printed.
pub fn read(state: &State, schemas: Vec<String>) -> Snapshot {
    let objects = with_plain_settings(|| {
        let read = |is_careful| Reader::new(state, &schemas, is_careful).read();
        // Catching the errors of single objects is slower, and is rarely needed.
        match subtransaction::rolled_back(|| read(false)) {
            Ok(objects) => objects,
            Err(error) if is_too_deep(&error) => read(true),
            Err(error) => error.rethrow(),
        }
    });
    report_too_deep(&objects);
    let server = Release::of_number(catalog::release());
    let mut snapshot = Snapshot { format: FORMAT, server, schemas, objects };
    snapshot.sort();
    snapshot
}

/// The number of objects that the warning names.
const SHOWN: usize = 20;

/// Raises a WARNING that names the objects that could not be printed: their changes are no
/// differences.
fn report_too_deep(objects: &[Object]) {
    let mut names: Vec<String> = objects
        .iter()
        .filter(|object| object.properties.iter().any(|(_, text)| text.contains(TOO_DEEP)))
        .map(|object| format!("{} {}", object.object_type, printable(&object.identity)))
        .collect();
    let Some(first) = names.first().filter(|_| names.len() == 1).cloned() else {
        if !names.is_empty() {
            let count = names.len();
            names.sort();
            names.truncate(SHOWN);
            if count > SHOWN {
                names.push(format!("... and {} more", count - SHOWN));
            }
            warn_too_deep(format!("{count} objects are"), &names.join("\n"));
        }
        return;
    };
    warn_too_deep(format!("{first} is"), "");
}

/// Raises the WARNING; `subject` are the objects with the verb.
fn warn_too_deep(subject: String, objects: &str) {
    let meaning = "Their definitions are not compared: a change is no difference.";
    Report {
        message: format!("{subject} nested too deeply to be printed"),
        detail: if objects.is_empty() {
            "Its definition is not compared: a change is no difference.".into()
        } else {
            format!("{objects}\n{meaning}")
        },
        hint: "Increase max_stack_depth, or rewrite the definition with less nesting.".into(),
    }
    .warning(PgSqlErrorCode::ERRCODE_STATEMENT_TOO_COMPLEX);
}

/// The state that all passes share.
struct Reader<'s> {
    state: &'s State,
    /// The schemas that are read.
    schemas: HashMap<Oid, Schema>,
    /// The members of extensions: catalog and OID.
    members: HashSet<(Oid, Oid)>,
    roles: RefCell<HashMap<Oid, String>>,
    deparser: Deparser,
    objects: Vec<Object>,
    /// The texts of these.
    shared: SharedTexts,
}

impl<'s> Reader<'s> {
    fn new(state: &'s State, names: &[String], is_careful: bool) -> Self {
        let base = catalog::base(state);
        let wanted: HashSet<&String> = names.iter().collect();
        let schemas = base.schemas.iter().filter(|s| wanted.contains(&s.name));
        let schemas = schemas.map(|schema| (schema.oid, schema.clone())).collect();
        let roles = base.roles.iter().map(|role| (role.oid, role.name.clone())).collect();
        let members = catalog::members_of_extensions(state);
        Self {
            state,
            schemas,
            members,
            roles: RefCell::new(roles),
            deparser: Deparser::new(is_careful),
            objects: vec![],
            shared: SharedTexts::default(),
        }
    }

    /// Reads all objects.
    fn read(mut self) -> Vec<Object> {
        self.schemas();
        self.default_acls();
        progress::step("reading relations");
        let relations = self.relations();
        self.parts(&relations);
        self.types(&relations);
        drop(relations);
        progress::step("reading routines");
        self.routines();
        self.objects
    }

    /// Returns the name of the schema if it is read and the object is not a member of an extension.
    fn schema_of(&self, class: Oid, object: Oid, schema: Oid) -> Option<String> {
        self.schemas
            .get(&schema)
            .filter(|_| !self.members.contains(&(class, object)))
            .map(|schema| schema.name.clone())
    }

    /// Returns the quoted name of a role.
    fn role(&self, role: Oid) -> String {
        quote_ident(&self.role_name(role)).into_owned()
    }

    fn role_name(&self, role: Oid) -> String {
        self.roles.borrow_mut().entry(role).or_insert_with(|| role_name(role)).clone()
    }

    /// Adds the grants of an ACL to an object.
    fn grants(&self, object: &mut Object, kind: AclKind, owner: Oid, acl: Option<&Acl>) {
        grants(object, kind, owner, acl.map(|acl| acl.as_slice()), catalog::VERSION, &|role| {
            self.role_name(role)
        });
    }

    fn schemas(&mut self) {
        let mut found = Vec::new();
        for schema in self.schemas.values() {
            if self.members.contains(&(oids::PG_NAMESPACE, schema.oid)) {
                continue;
            }
            let mut object =
                Object::new("schema", Some(&schema.name), quote_ident(&schema.name).into_owned());
            object.set("owner", self.role(schema.owner));
            self.grants(&mut object, AclKind::Schema, schema.owner, schema.acl.as_ref());
            found.push(object);
        }
        self.add_all(found);
    }

    /// Reads the default privileges: those in these schemas, and those for all schemas.
    fn default_acls(&mut self) {
        let table = Table::open(oids::PG_DEFAULT_ACL);
        let column = |name| table.column(name);
        let (role, schema, kind, acl) = (
            column("defaclrole"),
            column("defaclnamespace"),
            column("defaclobjtype"),
            column("defaclacl"),
        );
        let mut found = Vec::new();
        table.scan(self.state, |row: Row<'_>| {
            let within_schema =
                self.schemas.get(&row.oid(schema)).map(|schema| schema.name.clone());
            if row.oid(schema) != 0 && within_schema.is_none() {
                return;
            }
            let (kind, objects) = match row.char(kind) {
                b'r' => (AclKind::Relation, "tables"),
                b'S' => (AclKind::Sequence, "sequences"),
                b'f' => (AclKind::Routine, "functions"),
                b'T' => (AclKind::Type, "types"),
                b'n' => (AclKind::Schema, "schemas"),
                b'L' => (AclKind::LargeObject, "large objects"),
                _ => return,
            };
            let creator = row.oid(role);
            let within = within_schema
                .as_deref()
                .map(|name| format!(" in schema {}", quote_ident(name)))
                .unwrap_or_default();
            let identity = format!("for role {}{within} on {objects}", self.role(creator));
            let mut object = Object::new("default acl", within_schema.as_deref(), identity);
            // Default privileges in a schema are added to the built-in ones; those for all schemas
            // replace them.
            let owner = if within_schema.is_some() { PUBLIC } else { creator };
            self.grants(&mut object, kind, owner, Some(&row.acl(acl).unwrap_or_default()));
            found.push(object);
        });
        self.add_all(found);
    }

    /// Adds an object and processes interrupts.
    fn add(&mut self, mut object: Object) {
        interrupts();
        self.shared.share(&mut object.properties);
        self.objects.push(object);
    }

    fn add_all(&mut self, objects: Vec<Object>) {
        self.objects.reserve(objects.len());
        objects.into_iter().for_each(|object| self.add(object));
    }
}

/// Returns `schema.name`, quoted where needed.
fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_ident(schema), quote_ident(name))
}

/// Returns options ordered by name, `a=1, b='x, y'`; `None` where there are none.
fn options(mut options: Vec<String>) -> Option<String> {
    options.sort();
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let shown = |option: &String| match option.split_once('=') {
        Some((name, value)) if !value.chars().all(is_word) => {
            format!("{name}={}", quote_literal(value))
        }
        _ => option.clone(),
    };
    Some(options.iter().map(shown).collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty())
}
