//! What every rule is given: contract, catalog and access, with the declared roles and schemas
//! looked up.

use super::shared::privileges::Target;
use crate::access::Access;
use crate::catalog::{
    Object, ObjectId, ObjectKind, Oid, Privileges, Relation, RelationKind, Role, Routine, Schema,
    Snapshot,
};
use crate::contract::{Contract, GuardAction, RoleKind, SchemaDecl, Severity, granted_to};
use crate::finding::Draft;
use crate::rule::Rule;
use crate::search_path::SearchPaths;
use crate::sql::{argument_types, quote_ident, safe_ident};
use std::collections::HashMap;

/// What a rule looks at: the contract, the catalog, access, and the declared roles and schemas as
/// they are found there.
pub struct Context<'a> {
    /// The declared state.
    pub contract: &'a Contract,
    /// The actual state.
    pub snapshot: &'a Snapshot,
    /// Who can do what.
    pub access: &'a Access<'a>,
    /// The judge of search paths.
    pub paths: SearchPaths<'a>,
    /// Declared client roles that exist.
    pub clients: Vec<&'a Role>,
    /// Declared worker roles that exist.
    pub workers: Vec<&'a Role>,
    /// The roles that privileges are declared for: clients, then workers.
    pub(crate) subjects: Vec<&'a Role>,
    governed: HashMap<Oid, &'a SchemaDecl>,
    /// Called in every loop over user-sized data; may unwind when the user cancels.
    pub(crate) interrupts: &'a dyn Fn(),
}

impl<'a> Context<'a> {
    /// Brings contract and catalog together. `interrupts` is called again and again while rules
    /// run.
    #[must_use]
    pub fn new(
        contract: &'a Contract,
        snapshot: &'a Snapshot,
        access: &'a Access<'a>,
        interrupts: &'a dyn Fn(),
    ) -> Self {
        let existing =
            |kind| contract.roles_of(kind).filter_map(|name| snapshot.role_named(name)).collect();
        let trusted = contract
            .trusted_roles
            .iter()
            .filter_map(|name| snapshot.role_named(name))
            .map(|r| r.oid)
            .collect();
        let governed = contract
            .schemas
            .iter()
            .filter_map(|d| snapshot.schema_named(&d.name).map(|s| (s.oid, d)))
            .collect();
        let (clients, workers): (Vec<&Role>, Vec<&Role>) =
            (existing(RoleKind::Client), existing(RoleKind::Worker));
        Self {
            contract,
            snapshot,
            access,
            paths: SearchPaths::new(snapshot, access, trusted),
            subjects: clients.iter().chain(&workers).copied().collect(),
            clients,
            workers,
            governed,
            interrupts,
        }
    }

    /// Lets the user cancel.
    pub(crate) fn check_interrupts(&self) {
        (self.interrupts)();
    }

    /// The severity that the contract gives to a rule.
    #[must_use]
    pub fn severity(&self, rule: &Rule) -> Severity {
        self.contract.rules.get(rule.id).and_then(|r| r.severity).unwrap_or(rule.severity)
    }

    /// What the contract wants the guard to do about a rule.
    #[must_use]
    pub fn guard_action(&self, rule: &Rule) -> GuardAction {
        self.contract.rules.get(rule.id).and_then(|r| r.guard).unwrap_or(rule.guard)
    }

    /// A relation as something that carries an ACL.
    pub(crate) fn relation_target<'r>(&self, relation: &'r Relation) -> Target<'r> {
        let sql = self.snapshot.relation_sql(relation);
        let word = if relation.kind == RelationKind::Sequence { "SEQUENCE" } else { "TABLE" };
        Target {
            owner: relation.owner,
            acl: relation.acl.as_ref(),
            kind: relation.kind.acl_kind(),
            sql: format!("{word} {sql}"),
            name: format!("{} {sql}", relation.kind.object_type()),
            object: self.relation_object(relation),
            column: None,
            version: self.snapshot.version,
        }
    }

    /// A routine as something that carries an ACL.
    pub(crate) fn routine_target<'r>(&self, routine: &'r Routine) -> Target<'r> {
        Target {
            owner: routine.owner,
            acl: routine.acl.as_ref(),
            kind: ObjectKind::Routine,
            sql: format!("ROUTINE {}", self.snapshot.routine_sql(routine)),
            name: format!("{} {}", routine.object_type(), self.snapshot.routine_message(routine)),
            object: self.routine_object(routine),
            column: None,
            version: self.snapshot.version,
        }
    }

    /// A schema as something that carries an ACL.
    pub(crate) fn schema_target<'s>(&self, schema: &'s Schema) -> Target<'s> {
        let sql = safe_ident(&schema.name);
        Target {
            owner: schema.owner,
            acl: schema.acl.as_ref(),
            kind: ObjectKind::Schema,
            sql: format!("SCHEMA {sql}"),
            name: format!("schema {sql}"),
            object: Object {
                id: ObjectId::Schema(schema.oid),
                ..Self::schema_object(&schema.name)
            },
            column: None,
            version: self.snapshot.version,
        }
    }

    /// The database as something that carries an ACL.
    pub(crate) fn database_target(&self) -> Target<'a> {
        let database = &self.snapshot.database;
        let sql = safe_ident(&database.name);
        let identity = quote_ident(&database.name).into_owned();
        Target {
            owner: database.owner,
            acl: database.acl.as_ref(),
            kind: ObjectKind::Database,
            sql: format!("DATABASE {sql}"),
            name: format!("database {sql}"),
            object: Object {
                object_type: "database",
                schema: None,
                identity,
                managed_by: None,
                id: ObjectId::Named,
            },
            column: None,
            version: self.snapshot.version,
        }
    }

    /// Governed schemas that exist, with their declaration, in order of name.
    pub(crate) fn schemas(&self) -> impl Iterator<Item = (&'a Schema, &'a SchemaDecl)> + '_ {
        self.snapshot
            .schemas
            .iter()
            .filter_map(|schema| self.governed(schema.oid).map(|declared| (schema, declared)))
    }

    /// Whether the contract gives a role EXECUTE on a routine, as a set of privileges.
    pub(crate) fn execute_declared(
        &self,
        routine: &Routine,
        schema: &SchemaDecl,
        role: &Role,
    ) -> Privileges {
        if self.declares_execute(routine, schema, role) {
            Privileges::EXECUTE
        } else {
            Privileges::NONE
        }
    }

    /// Writes down who reads views of one kind that the contract does not declare. A view that runs
    /// with its caller's rights (security_invoker) shows nothing that the caller could not read
    /// without it, and is worth no more than a note.
    pub(crate) fn report_undeclared_readers(&self, kind: RelationKind, out: &mut Vec<Draft>) {
        for (view, schema) in self.relations().filter(|(r, _)| r.kind == kind) {
            if self.contract.view(&schema.name, &view.name).is_some() {
                continue;
            }
            let declared = |role: &Role| self.declared_on_relation(view, schema, role);
            let severity = if view.security_invoker { Severity::Info } else { Severity::Error };
            self.relation_target(view).report_undeclared(
                self,
                &self.clients,
                &declared,
                Privileges::SELECT,
                severity,
                out,
            );
        }
    }

    /// Whether a client can reach a relation by name and do something to its rows: USAGE on the
    /// schema, and a privilege on the relation or on a column of it. The first such client.
    pub(crate) fn reached_by(&self, relation: &Relation) -> Option<&'a Role> {
        let rows = Privileges::SELECT | Privileges::WRITES;
        let schema = self.snapshot.schema(relation.schema)?;
        self.clients.iter().copied().find(|client| {
            self.access
                .privileges(client.oid, schema.owner, schema.acl.as_ref(), ObjectKind::Schema)
                .contains(Privileges::USAGE)
                && (self.access.relation_privileges(client.oid, relation).intersects(rows)
                    || relation.columns.iter().any(|(_, acl)| {
                        self.access
                            .privileges(client.oid, relation.owner, Some(acl), ObjectKind::Column)
                            .intersects(rows)
                    }))
        })
    }

    pub(crate) fn is_client(&self, role: Oid) -> bool {
        self.clients.iter().any(|c| c.oid == role)
    }

    pub(crate) fn is_subject(&self, role: Oid) -> bool {
        self.subjects.iter().any(|s| s.oid == role)
    }

    /// The declaration of a schema, if it is governed.
    #[must_use]
    pub fn governed(&self, schema: Oid) -> Option<&'a SchemaDecl> {
        self.governed.get(&schema).copied()
    }

    /// Relations of governed schemas, with the schema's declaration, in order of name.
    pub(crate) fn relations(&self) -> impl Iterator<Item = (&'a Relation, &'a SchemaDecl)> + '_ {
        self.snapshot.relations.iter().filter_map(|relation| {
            (self.interrupts)();
            let own = self.is_own(self.snapshot.relation_extension.get(&relation.oid));
            self.governed(relation.schema).filter(|_| !own).map(|schema| (relation, schema))
        })
    }

    /// Routines of governed schemas, with the schema's declaration, in order of name. Aggregates
    /// cannot be called for what they do, but carry an ACL like any other routine.
    pub(crate) fn routines(&self) -> impl Iterator<Item = (&'a Routine, &'a SchemaDecl)> + '_ {
        self.snapshot.routines.iter().filter_map(|routine| {
            (self.interrupts)();
            let own = self.is_own(self.snapshot.routine_extension.get(&routine.oid));
            self.governed(routine.schema).filter(|_| !own).map(|schema| (routine, schema))
        })
    }

    /// The privileges that the contract declares for a role on a relation.
    pub(crate) fn declared_on_relation(
        &self,
        relation: &Relation,
        schema: &SchemaDecl,
        role: &Role,
    ) -> Privileges {
        let mut declared = Privileges::NONE;
        if schema.all_on_objects.contains(&role.name) {
            declared |= match relation.kind {
                RelationKind::Sequence => Privileges::ALL_ON_SEQUENCE,
                _ => Privileges::ALL_ON_TABLE,
            };
        }
        if let Some(table) = self.contract.table(&schema.name, &relation.name) {
            declared |= granted_to(&table.grants, &role.name);
        }
        if let Some(view) = self.contract.view(&schema.name, &relation.name) {
            declared |= granted_to(&view.grants, &role.name);
        }
        if let Some(sequence) = self.contract.sequence(&schema.name, &relation.name) {
            declared |= granted_to(&sequence.grants, &role.name);
        }
        // Before 17 there was no such privilege to have.
        if self.snapshot.version < 17 { declared & !Privileges::MAINTAIN } else { declared }
    }

    /// Whether the contract lets a role insert into the table that a sequence serves.
    pub(crate) fn declares_insert_by(&self, sequence: &Relation, role: &Role) -> bool {
        let table = sequence.owned_by.and_then(|table| self.snapshot.relation(table));
        table.is_some_and(|table| {
            let schema = self.governed(table.schema);
            schema.is_some_and(|schema| {
                self.declared_on_relation(table, schema, role).contains(Privileges::INSERT)
            })
        })
    }

    /// Whether the contract lets a role execute a routine.
    pub(crate) fn declares_execute(
        &self,
        routine: &Routine,
        schema: &SchemaDecl,
        role: &Role,
    ) -> bool {
        schema.all_on_objects.contains(&role.name)
            || schema.execute_on_routines.contains(&role.name)
            || self.contract.functions_named(&schema.name, &routine.name).any(|f| {
                f.execute.contains(&role.name)
                    && self.has_arguments(routine, f.arguments.as_deref())
            })
    }

    /// Whether a routine is SECURITY DEFINER and not declared executable for every client: the
    /// matter of `security_definer_executable_by_clients`.
    pub(crate) fn is_undeclared_definer(&self, routine: &Routine, schema: &SchemaDecl) -> bool {
        routine.security_definer
            && !self.clients.iter().all(|client| self.declares_execute(routine, schema, client))
    }

    /// Whether a routine has the declared argument types.
    pub(crate) fn has_arguments(&self, routine: &Routine, declared: Option<&str>) -> bool {
        let Some(declared) = declared else { return true };
        let actual = self.snapshot.argument_names(routine);
        let own = |name: &str| name.strip_prefix("pg_catalog.").unwrap_or(name).to_owned();
        actual.into_iter().map(own).eq(argument_types(declared))
    }

    /// A relation as the object of a finding.
    pub(crate) fn relation_object(&self, relation: &Relation) -> Object {
        Object {
            object_type: relation.kind.object_type(),
            schema: Some(self.snapshot.schema_name(relation.schema).to_owned()),
            identity: self.snapshot.relation_identity(relation),
            managed_by: self.bringing_extension(
                self.snapshot.relation_extension.get(&relation.oid),
                relation.owner,
                self.declares_relation(relation),
            ),
            id: ObjectId::Relation(relation.oid),
        }
    }

    /// Whether the contract names a relation.
    pub(crate) fn declares_relation(&self, relation: &Relation) -> bool {
        let schema = self.snapshot.schema_name(relation.schema);
        self.contract.declares_relation(schema, &relation.name)
    }

    /// A routine as the object of a finding.
    #[must_use]
    pub fn routine_object(&self, routine: &Routine) -> Object {
        Object {
            object_type: routine.object_type(),
            schema: Some(self.snapshot.schema_name(routine.schema).to_owned()),
            identity: self.snapshot.routine_identity(routine),
            managed_by: self.routine_managed_by(routine).or_else(|| {
                let extension = self.snapshot.routine_extension.get(&routine.oid);
                let schema = self.snapshot.schema_name(routine.schema);
                let declared =
                    self.contract.functions_named(schema, &routine.name).next().is_some();
                self.bringing_extension(extension, routine.owner, declared)
                    .filter(|_| !routine.security_definer)
            }),
            id: ObjectId::Routine(routine.oid),
        }
    }

    /// What of the platform owns a routine: a managed schema or a declared extension. A schema or
    /// extension of that name that belongs to somebody who is not trusted with the structure
    /// excuses nothing.
    #[must_use]
    pub fn routine_managed_by(&self, routine: &Routine) -> Option<String> {
        let schema = self.snapshot.schema(routine.schema)?;
        let extension = self
            .snapshot
            .routine_extension
            .get(&routine.oid)
            .and_then(|oid| self.snapshot.extensions.get(oid));
        self.managed_by(
            (&schema.name, schema.owner),
            extension.map(|(name, owner)| (name.as_str(), *owner)),
            routine.owner,
        )
    }

    /// The same of a routine of `owner` that is, or was, in a schema and perhaps in an extension,
    /// each with name and owner.
    #[must_use]
    pub fn managed_by(
        &self,
        schema: (&str, Oid),
        extension: Option<(&str, Oid)>,
        owner: Oid,
    ) -> Option<String> {
        if self.contract.manages_schema(schema.0, self.access.is_superuser(schema.1))
            && self.is_trusted_owner(schema.1)
        {
            return Some(format!("schema {}", quote_ident(schema.0)));
        }
        let (name, extension_owner) = extension?;
        let declared =
            name == "dragonfly_guard" || self.contract.managed.extensions.iter().any(|e| e == name);
        // The script of an extension that takes a superuser makes everything as one, whoever runs
        // it; what belongs to an ordinary role may as well have been added later, by anybody who
        // owns both.
        (declared && self.access.is_superuser(owner) && self.is_trusted_owner(extension_owner))
            .then(|| format!("extension {}", quote_ident(name)))
    }

    /// Whether this is the guard's own extension, whose members guard_tampered judges and no other
    /// rule: what the extension did not make is a finding there.
    pub(crate) fn is_own(&self, extension: Option<&Oid>) -> bool {
        extension.is_some_and(|oid| {
            self.snapshot.extensions.get(oid).is_some_and(|(name, _)| name == "dragonfly_guard")
        })
    }

    /// The extension that has brought an object along, where it is a superuser's, as everything is
    /// that the script of an extension which takes a superuser makes, and the extension belongs to
    /// somebody who is trusted with the structure. What somebody else owns was more likely added to
    /// it, and what the contract declares is the application's.
    pub(crate) fn bringing_extension(
        &self,
        extension: Option<&Oid>,
        owner: Oid,
        declared: bool,
    ) -> Option<String> {
        let (name, extension_owner) = self.snapshot.extensions.get(extension?)?;
        (self.is_trusted_owner(*extension_owner) && self.access.is_superuser(owner) && !declared)
            .then(|| format!("extension {}", quote_ident(name)))
    }

    /// Whether a role is trusted with the structure: superusers, and the roles that the contract
    /// makes owners or trusts.
    #[must_use]
    pub fn is_trusted_owner(&self, role: Oid) -> bool {
        let name = self.snapshot.role_name(role);
        self.access.is_superuser(role)
            || self.contract.trusted_roles.contains(&name)
            || self.contract.roles_of(RoleKind::Owner).any(|owner| owner == name)
    }

    /// A schema as the object of a finding.
    pub(crate) fn schema_object(name: &str) -> Object {
        Object {
            object_type: "schema",
            schema: Some(name.to_owned()),
            identity: quote_ident(name).into_owned(),
            managed_by: None,
            id: ObjectId::Named,
        }
    }

    /// A role as the object of a finding.
    pub(crate) fn role_object(name: &str) -> Object {
        Object {
            object_type: "role",
            schema: None,
            identity: quote_ident(name).into_owned(),
            managed_by: None,
            id: ObjectId::Named,
        }
    }
}
