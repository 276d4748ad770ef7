//! A small catalog that conforms to the shipped contract, for tests that violate one rule.

use super::context::Context;
use crate::access::Access;
use crate::catalog::{
    Acl, AclItem, BodyAccess, BodyWay, Command, Database, DefaultAcl, DefinerBody, Exposure, Guard,
    GuardBody, GuardFunction, GuardTrigger, Membership, Oid, Open, Opening, PUBLIC, Policy,
    PolicyExposure, Privileges, Relation, RelationKind, Role, Routine, Rows, Schema, Snapshot,
};
use crate::contract::{Contract, DEFAULT, RoleDecl, RoleKind, granted_to};
use crate::finding::Finding;
use crate::rule::Rule;
use proptest::prelude::*;
use std::rc::Rc;

/// What a policy lets a role reach that opens rows in one way, by a column and what holds for it.
pub(crate) fn opened(opening: Opening, column: &str, witness: &[[&str; 3]]) -> Exposure {
    let open = Open {
        opening,
        columns: [column.to_owned()].into(),
        lookups: Some([].into()),
        witness: witness.iter().map(|part| part.map(str::to_owned)).collect(),
        ..Open::default()
    };
    Exposure { open: vec![open], ..Exposure::default() }
}

/// Returns severity and sentence of the findings of a rule in a world where a declared policy lets
/// a client read this.
pub(crate) fn details_with(rule: &'static Rule, exposure: Exposure) -> Vec<String> {
    let mut world = World::conforming();
    world.expose("authenticated", Command::Select, Rows::Existing, exposure);
    world.details(rule)
}

#[derive(Clone)]
pub(crate) struct World {
    pub contract: Contract,
    pub snapshot: Snapshot,
}

const UUID: Oid = 2950;

impl World {
    /// Returns a catalog with everything that the contract declares, and nothing else.
    #[allow(clippy::too_many_lines, reason = "one catalog, built in one piece")]
    pub fn conforming() -> Self {
        let contract = Contract::from_json(DEFAULT).unwrap();
        let mut world = Self {
            contract,
            snapshot: Snapshot { version: 15, cuts_names: true, ..Snapshot::default() },
        };
        world.add_role("root");
        world.role("root").superuser = true;
        for declared in world.contract.roles.clone() {
            world.add_role(&declared.name);
            world.role(&declared.name).bypass_rls = declared.bypass_rls == Some(true);
        }
        let owner = world.role("postgres").oid;
        let root = world.role("root").oid;
        world.snapshot.database = Database { name: "app".into(), owner, ..Database::default() };
        let contract = world.contract.clone();
        for (i, schema) in contract.schemas.iter().enumerate() {
            let acl = schema.usage.iter().map(|r| world.item(r, Privileges::USAGE)).collect();
            let oid = 100 + i as Oid;
            world.snapshot.schemas.push(Schema {
                oid,
                name: schema.name.clone(),
                owner,
                acl: Some(acl),
            });
        }
        for table in &contract.tables {
            let acl = world.acl(&table.schema, |role| granted_to(&table.grants, role));
            let mut relation =
                world.new_relation(&table.schema, &table.name, RelationKind::Table, acl);
            (relation.row_security, relation.force_row_security) = (table.row_security, true);
            for role in table.policies.keys() {
                for command in table.policy_commands(role) {
                    let (oid, roles) = (world.next_oid(), vec![world.role(role).oid]);
                    world.snapshot.policies.push(Policy {
                        oid,
                        name: format!("{role} {}", command.as_str()),
                        relation: relation.oid,
                        command: Some(command),
                        permissive: true,
                        roles,
                        always_true: true,
                        unchecked: false,
                        has_check: false,
                        requires_authentication: false,
                        asks_memberships: false,
                        never_true: false,
                        rejects_new_rows: false,
                    });
                }
            }
            world.snapshot.relations.push(relation);
        }
        for view in &contract.views {
            let acl = world.acl(&view.schema, |role| granted_to(&view.grants, role));
            let relation = world.new_relation(&view.schema, &view.name, RelationKind::View, acl);
            world.snapshot.relations.push(relation);
        }
        world.snapshot.types.insert(UUID, "pg_catalog.uuid".into());
        for function in &contract.functions {
            let schema = contract.schema(&function.schema).unwrap();
            let callers = schema.execute_on_routines.iter().chain(&schema.all_on_objects);
            let acl = callers.map(|role| world.item(role, Privileges::EXECUTE)).collect();
            let (oid, schema) = (world.next_oid(), world.schema(&function.schema).oid);
            let routine = Routine {
                oid,
                name: function.name.clone(),
                schema,
                owner,
                security_definer: true,
                config: vec!["search_path=public, pg_temp".into()].into(),
                acl: Some(acl),
                arguments: if function.arguments.as_deref() == Some("uuid") {
                    vec![UUID].into()
                } else {
                    vec![].into()
                },
                ..Routine::default()
            };
            world.snapshot.routines.push(routine);
        }
        let triggers = crate::catalog::extension::TRIGGERS.map(|(name, event)| GuardTrigger {
            name: name.into(),
            event: event.into(),
            enabled: b'A',
            owner: root,
            calls_own_function: true,
            filtered: false,
            extension_member: true,
            is_skipped: false,
        });
        let functions = crate::catalog::extension::FUNCTIONS.map(
            |(schema, name, arguments, symbol, strict)| GuardFunction {
                schema: schema.into(),
                name: name.into(),
                arguments: arguments.into(),
                owner: root,
                body: GuardBody::Symbol(symbol.into()),
                strict,
                security_definer: false,
                config: vec![],
                acl: Some(vec![].into()),
            },
        );
        world.snapshot.guard = Guard {
            installed: true,
            version: crate::catalog::extension::VERSION.into(),
            triggers: triggers.into(),
            functions: functions.into(),
            ..Guard::default()
        };
        world
    }

    fn next_oid(&self) -> Oid {
        let snapshot = &self.snapshot;
        let policies = snapshot.policies.len();
        1000 + (snapshot.roles.len()
            + snapshot.relations.len()
            + snapshot.routines.len()
            + policies) as Oid
    }

    fn item(&mut self, role: &str, privileges: Privileges) -> AclItem {
        let (grantee, grantor) = (self.role(role).oid, self.role("postgres").oid);
        AclItem { grantee, grantor, privileges, grantable: Privileges::NONE }
    }

    fn acl(&mut self, schema: &str, declared: impl Fn(&str) -> Privileges) -> Acl {
        let schema = self.contract.schema(schema).unwrap().clone();
        let names: Vec<String> = self.contract.roles.iter().map(|r| r.name.clone()).collect();
        names
            .iter()
            .map(|role| {
                let all = if schema.all_on_objects.contains(role) {
                    Privileges::ALL_ON_TABLE
                } else {
                    Privileges::NONE
                };
                self.item(role, all | declared(role))
            })
            .filter(|item| !item.privileges.is_empty())
            .collect()
    }

    fn new_relation(&mut self, schema: &str, name: &str, kind: RelationKind, acl: Acl) -> Relation {
        let (oid, schema, owner) =
            (self.next_oid(), self.schema(schema).oid, self.role("postgres").oid);
        Relation {
            oid,
            name: name.into(),
            schema,
            owner,
            kind,
            acl: Some(acl),
            ..Relation::default()
        }
    }

    pub fn add_role(&mut self, name: &str) {
        let oid = self.next_oid();
        self.snapshot.roles.push(Role { oid, name: name.into(), inherit: true, ..Role::default() });
    }

    /// Adds a role that can log in.
    pub fn add_login(&mut self, name: &str) {
        self.add_role(name);
        self.role(name).can_login = true;
    }

    /// Declares a role in the contract.
    pub fn declare(&mut self, name: &str, kind: RoleKind) {
        self.contract.roles.push(RoleDecl::new(name, kind));
    }

    pub fn add_relation(&mut self, relation: Relation) {
        self.snapshot.relations.push(relation);
    }

    pub fn role(&mut self, name: &str) -> &mut Role {
        self.snapshot.roles.iter_mut().find(|r| r.name == name).expect("a role of the world")
    }

    pub fn schema(&mut self, name: &str) -> &mut Schema {
        self.snapshot.schemas.iter_mut().find(|s| s.name == name).expect("a schema of the world")
    }

    /// Returns a relation by `schema.name`.
    pub fn relation(&mut self, name: &str) -> &mut Relation {
        let (schema, name) = name.split_once('.').expect("schema.name");
        let schema = self.schema(schema).oid;
        let mut relations = self.snapshot.relations.iter_mut();
        relations.find(|r| r.schema == schema && r.name == name).expect("a relation of the world")
    }

    pub fn routine(&mut self, name: &str) -> &mut Routine {
        self.snapshot.routines.iter_mut().find(|r| r.name == name).expect("a routine of the world")
    }

    pub fn grant_role(&mut self, role: &str, member: &str) {
        let (role, member, grantor) =
            (self.role(role).oid, self.role(member).oid, self.role("root").oid);
        self.snapshot.memberships.push(Membership {
            role,
            member,
            grantor,
            admin: false,
            inherit: true,
            set: true,
        });
    }

    /// Grants a role to one that can become it and does not inherit its privileges.
    pub fn grant_role_without_inherit(&mut self, role: &str, member: &str) {
        self.grant_role(role, member);
        self.snapshot.memberships.last_mut().expect("a membership").inherit = false;
    }

    pub fn grant_schema(&mut self, schema: &str, grantee: Oid, privileges: Privileges) {
        let grantor = self.schema(schema).owner;
        let item = AclItem { grantee, grantor, privileges, grantable: Privileges::NONE };
        self.schema(schema).acl.get_or_insert_default().push(item);
    }

    pub fn grant(&mut self, relation: &str, grantee: Oid, privileges: Privileges) {
        let relation = self.relation(relation);
        let item =
            AclItem { grantee, grantor: relation.owner, privileges, grantable: Privileges::NONE };
        relation.acl.get_or_insert_default().push(item);
    }

    pub fn grant_column(
        &mut self,
        relation: &str,
        column: &str,
        grantee: Oid,
        privileges: Privileges,
    ) {
        let relation = self.relation(relation);
        let item =
            AclItem { grantee, grantor: relation.owner, privileges, grantable: Privileges::NONE };
        match relation.columns.iter_mut().find(|(name, _)| name == column) {
            Some((_, acl)) => acl.push(item),
            None => relation.columns.push((column.to_owned(), vec![item].into())),
        }
    }

    /// Lets a role reach rows of public.judgments by policy `p`, which the contract declares.
    pub fn expose(&mut self, role: &str, command: Command, rows: Rows, exposure: Exposure) {
        let (role, relation) = (self.role(role).oid, self.relation("public.judgments").oid);
        self.snapshot.policies.retain(|policy| policy.relation != relation);
        let (oid, roles) = (9_000, vec![role]);
        let policy = Policy {
            oid,
            name: "p".into(),
            relation,
            permissive: true,
            roles,
            ..Policy::default()
        };
        self.snapshot.policies.push(policy);
        self.grant("public.judgments", role, command.privilege());
        let exposure = PolicyExposure {
            policy: oid,
            role,
            command,
            rows,
            exposure: exposure.into(),
            covered_by: None,
            triggers: Rc::default(),
        };
        self.snapshot.exposures = vec![exposure].into();
    }

    /// Lets a client execute ops.complete_outbox_message(uuid), whose body reaches rows of
    /// public.judgments in this way.
    pub fn reach(&mut self, role: &str, command: Command, way: BodyWay) {
        let (role, relation) = (self.role(role).oid, self.relation("public.judgments").oid);
        self.snapshot.exposures = Rc::default();
        let routine = self.routine("complete_outbox_message");
        let (oid, grantor) = (routine.oid, routine.owner);
        routine.acl = Some(
            vec![AclItem {
                grantee: role,
                grantor,
                privileges: Privileges::EXECUTE,
                grantable: Privileges::NONE,
            }]
            .into(),
        );
        self.grant_schema("ops", role, Privileges::USAGE);
        let access = BodyAccess { relation, command, is_asked_only: false, ways: vec![way] };
        let accesses = vec![(role, vec![access])];
        let body = DefinerBody { routine: oid, accesses, ..DefinerBody::default() };
        self.snapshot.definer_bodies = vec![body].into();
    }

    /// Returns the body that [`World::reach`] has described.
    pub fn definer_body(&mut self) -> &mut DefinerBody {
        &mut Rc::make_mut(&mut self.snapshot.definer_bodies)[0]
    }

    /// Returns severity and sentence of the findings of a rule.
    pub fn details(&self, rule: &'static Rule) -> Vec<String> {
        let findings = self.findings(rule).into_iter();
        findings.map(|found| format!("{}: {}", found.severity.as_str(), found.detail)).collect()
    }

    pub fn findings(&self, rule: &'static Rule) -> Vec<Finding> {
        let snapshot = self.snapshot.clone().complete();
        let access = Access::new(&snapshot);
        // Tests change the contract: a clone looks names up again.
        let contract = self.contract.clone();
        let mut found = Context::new(&contract, &snapshot, &access, &|| {}).run(rule);
        found.sort_by(|a, b| (&a.object.identity, &a.roles).cmp(&(&b.object.identity, &b.roles)));
        found
    }

    /// Calls `work` with this world as the state before a change, and the one after it.
    pub fn compared_with<T>(
        &self,
        after: &Self,
        work: impl FnOnce(&Context<'_>, &Context<'_>) -> T,
    ) -> T {
        let (old, new) = (self.snapshot.clone().complete(), after.snapshot.clone().complete());
        let (old_access, new_access) = (Access::new(&old), Access::new(&new));
        let old = Context::new(&self.contract, &old, &old_access, &|| {});
        let new = Context::new(&after.contract, &new, &new_access, &|| {});
        work(&old, &new)
    }

    /// Returns the findings, one line each: `severity type identity role: detail => fix`.
    pub fn found(&self, rule: &'static Rule) -> Vec<String> {
        let line = |f: &Finding| {
            let role =
                if f.roles.is_empty() { String::new() } else { format!(" {}", f.roles.join(",")) };
            let fix = f.fix.sql().map(|fix| format!(" => {fix}")).unwrap_or_default();
            format!(
                "{} {} {}{role}: {}{fix}",
                f.severity.as_str(),
                f.object.object_type,
                f.object.identity,
                f.detail
            )
        };
        self.findings(rule).iter().map(line).collect()
    }

    pub fn fixes(&self, rule: &'static Rule) -> Vec<String> {
        self.findings(rule).into_iter().filter_map(|f| f.fix.sql()).collect()
    }

    /// Applies an edit.
    pub fn edit(&mut self, edit: Edit) {
        let world = self;
        let Edit { action, object, role, bits } = edit;
        let roles = ["anon", "authenticated", "service_role", "postgres", "mallory"]
            .map(|name| world.role(name).oid);
        let grantee = roles.get(role).copied().unwrap_or(PUBLIC);
        let relation = object % world.snapshot.relations.len();
        let routine = object % world.snapshot.routines.len();
        let schema = object % world.snapshot.schemas.len();
        let item = |privileges| AclItem {
            grantee,
            grantor: roles[3],
            privileges,
            grantable: Privileges::NONE,
        };
        match action {
            0 | 1 => {
                let all = match world.snapshot.relations[relation].kind {
                    RelationKind::Sequence => Privileges::ALL_ON_SEQUENCE,
                    _ => Privileges::ALL_ON_TABLE,
                };
                let privileges = Privileges(bits) & all;
                world.snapshot.relations[relation]
                    .acl
                    .get_or_insert_default()
                    .push(item(privileges));
            }
            2 => world.snapshot.relations[relation].row_security = bits % 2 == 0,
            3 => world.snapshot.policies.push(Policy {
                oid: 20_000 + bits % 1000,
                name: format!("p{bits}"),
                relation: world.snapshot.relations[relation].oid,
                command: Command::ALL.get((bits % 5) as usize).copied(),
                permissive: bits % 7 != 0,
                roles: vec![grantee],
                always_true: bits % 3 == 0,
                unchecked: bits % 11 == 0,
                requires_authentication: bits % 5 == 0,
                asks_memberships: false,
                ..Policy::default()
            }),
            4 => world.snapshot.routines[routine]
                .acl
                .get_or_insert_default()
                .push(item(Privileges::EXECUTE)),
            5 => {
                let config =
                    ["search_path=pg_catalog, pg_temp", "search_path=public", "work_mem=1MB"]
                        [(bits % 3) as usize];
                world.snapshot.routines[routine].config = vec![config.into()].into();
                world.snapshot.routines[routine].security_definer = bits % 2 == 0;
            }
            6 => {
                let privileges = Privileges(bits) & (Privileges::USAGE | Privileges::CREATE);
                world.snapshot.schemas[schema].acl.get_or_insert_default().push(item(privileges));
            }
            7 if grantee != PUBLIC => world.snapshot.relations[relation].owner = grantee,
            8 => {
                let schema = world.snapshot.schemas[schema].oid;
                let (object_type, privileges) = match bits % 3 {
                    0 => (b'f', Privileges::EXECUTE),
                    _ => (b'r', Privileges(bits) & Privileges::ALL_ON_TABLE),
                };
                let default = DefaultAcl {
                    role: roles[3],
                    schema,
                    object_type,
                    acl: vec![item(privileges)].into(),
                };
                world.snapshot.default_acls.push(default);
            }
            9 => {
                let (schema, owner) = (world.snapshot.schemas[schema].oid, roles[3]);
                world.add_relation(Relation {
                    oid: 30_000 + world.snapshot.relations.len() as Oid,
                    name: format!("s{}", world.snapshot.relations.len()),
                    schema,
                    owner,
                    kind: RelationKind::Sequence,
                    acl: Some(vec![item(Privileges(bits) & Privileges::ALL_ON_SEQUENCE)].into()),
                    ..Relation::default()
                });
            }
            _ => {}
        }
    }
}

/// A random change of a catalog, as indexes; `bits` chooses privileges and the like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edit {
    pub action: usize,
    pub object: usize,
    pub role: usize,
    pub bits: u32,
}

impl Edit {
    /// Returns random edits with one of the first `actions` actions.
    pub fn any(actions: usize) -> impl Strategy<Value = Self> {
        (0..actions, 0usize..64, 0usize..6, any::<u32>())
            .prop_map(|(action, object, role, bits)| Self { action, object, role, bits })
    }
}

/// Returns random edits for [`World::edit`].
pub(crate) fn edit() -> impl Strategy<Value = Edit> {
    Edit::any(10)
}
