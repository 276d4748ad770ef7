//! What a change of the catalog means for the roles: what it opens that the contract does not
//! declare, and which declared privileges it takes away.

use crate::access::{Access, Follow};
use crate::catalog::{
    Acl, AclItem, Attribute, Command, DefaultAcl, Object, ObjectId, ObjectKind, Oid,
    PG_DATABASE_OWNER, PUBLIC, Policy, Privileges, Relation, Role, Routine, Schema, Snapshot,
};
use crate::contract::{Contract, RoleKind};
use crate::rules::Context;
use crate::sql::{printable, quote_ident, safe_ident};
use std::collections::{HashMap, HashSet};

/// One effect of a change.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Effect {
    /// The type and the identity of the object.
    pub object: (&'static str, String),
    /// One sentence.
    pub detail: String,
}

/// Returns what roles can do `after` a change that they could not do `before`, and that the
/// contract does not declare: privileges, memberships and attributes, code that runs as another
/// role, and rows that row security no longer hides. The conditions of policies are not compared.
#[must_use]
pub fn opened(
    contract: &Contract,
    before: &Snapshot,
    after: &Snapshot,
    interrupts: &dyn Fn(),
) -> Vec<Effect> {
    compare(contract, before, after, interrupts, |comparison| {
        comparison.roles();
        comparison.memberships();
        comparison.database();
        comparison.schemas();
        comparison.default_privileges();
        comparison.relations();
        comparison.routines();
    })
}

/// Returns the privileges that the contract declares and that roles had `before` a change and do
/// not have `after` it.
#[must_use]
pub fn lost(
    contract: &Contract,
    before: &Snapshot,
    after: &Snapshot,
    interrupts: &dyn Fn(),
) -> Vec<Effect> {
    compare(contract, before, after, interrupts, |comparison| {
        comparison.losses();
    })
}

fn compare(
    contract: &Contract,
    before: &Snapshot,
    after: &Snapshot,
    interrupts: &dyn Fn(),
    work: impl FnOnce(&mut Comparison<'_>),
) -> Vec<Effect> {
    let (old, new) = (Access::new(before), Access::new(after));
    let cx = Context::new(contract, after, &new, interrupts);
    let mut comparison = Comparison {
        before,
        old: &old,
        cx: &cx,
        roles_differ: before.roles != after.roles
            || before.memberships != after.memberships
            || before.database.owner != after.database.owner,
        found: Vec::new(),
    };
    work(&mut comparison);
    comparison.found
}

/// Two states of a catalog.
struct Comparison<'a> {
    before: &'a Snapshot,
    old: &'a Access<'a>,
    /// The state after the change.
    cx: &'a Context<'a>,
    /// Whether roles or memberships differ, so that every object has to be compared.
    roles_differ: bool,
    found: Vec<Effect>,
}

/// What an ACL gives to a grantee that another ACL does not give to it.
struct Gain {
    grantee: Oid,
    privileges: Privileges,
    options: Privileges,
}

/// Returns what the second ACL gives to each grantee and the first does not, neither to the grantee
/// nor to PUBLIC.
fn gains(before: &[AclItem], after: &[AclItem]) -> Vec<Gain> {
    let held = |acl: &[AclItem], grantee: Oid| {
        acl.iter()
            .filter(|i| i.grantee == grantee)
            .fold((Privileges::NONE, Privileges::NONE), |(privileges, options), i| {
                (privileges | i.privileges, options | i.grantable)
            })
    };
    let (to_all, _) = held(before, PUBLIC);
    let mut grantees: Vec<Oid> = after.iter().map(|i| i.grantee).collect();
    grantees.sort_unstable();
    grantees.dedup();
    let gain = |grantee: Oid| {
        let ((had, could), (has, can)) = (held(before, grantee), held(after, grantee));
        let (privileges, options) = (has & !had & !to_all, can & !could);
        let is_one = !privileges.is_empty() || !options.is_empty();
        is_one.then_some(Gain { grantee, privileges, options })
    };
    grantees.into_iter().filter_map(gain).collect()
}

/// Returns an ACL, or the built-in default where there is none.
pub(super) fn acl_of(acl: Option<&Acl>, owner: Oid, kind: ObjectKind) -> Acl {
    acl.cloned().unwrap_or_else(|| kind.default_acl(owner))
}

impl<'a> Comparison<'a> {
    fn add(&mut self, object: &Object, detail: String) {
        let object = (object.object_type, object.identity.clone());
        self.found.push(Effect { object, detail });
    }

    /// Whether the contract declares the role as an owner of objects.
    fn may_own(&self, role: Oid) -> bool {
        self.cx.is_trusted_owner(role)
    }

    fn role_text(&self, role: Oid) -> String {
        match role {
            PUBLIC => "PUBLIC (every role)".to_owned(),
            role => format!("role \"{}\"", printable(&self.cx.snapshot.role_name(role))),
        }
    }

    /// Adds the effect that a grantee has gained privileges.
    fn add_gain(&mut self, object: &Object, name: &str, gain: &Gain) {
        let role = self.role_text(gain.grantee);
        let detail = if gain.privileges.is_empty() {
            format!("It would give {role} the grant option for {} on {name}.", gain.options)
        } else {
            format!("It would give {role} {} on {name}.", gain.privileges)
        };
        self.add(object, detail);
    }

    /// Returns the declarations of the contract about the roles whose privileges a role has.
    fn roles_of(&self, role: Oid) -> Vec<&'a Role> {
        if role == PUBLIC {
            return vec![];
        }
        let closure = self.cx.access.closure(role, Follow::Privileges);
        let mut roles: Vec<&Role> =
            closure.iter().filter_map(|oid| self.cx.snapshot.role(*oid)).collect();
        roles.sort_unstable_by_key(|role| role.oid);
        roles
    }

    /// Attributes that a role has gained.
    fn roles(&mut self) {
        if !self.roles_differ {
            return;
        }
        for role in &self.cx.snapshot.roles {
            let earlier = self.before.role(role.oid);
            let declared = self.cx.contract.roles.iter().find(|r| r.name == role.name);
            let mut gained: Vec<&str> = Attribute::ALL
                .into_iter()
                .filter(|a| role.has(*a) && !earlier.is_some_and(|e| e.has(*a)))
                .filter(|a| declared.and_then(|d| d.attribute(*a)) != Some(true))
                .map(Attribute::as_str)
                .collect();
            if role.can_login && earlier.is_some_and(|e| !e.can_login) {
                gained.push("LOGIN");
            }
            if !gained.is_empty() {
                let detail = format!(
                    "It would give {} the attribute {}.",
                    self.role_text(role.oid),
                    gained.join(", ")
                );
                self.add(&Context::role_object(&role.name), detail);
            }
        }
    }

    /// Roles that a role has become a member of, and restrictive policies that a role escapes
    /// because it is no longer a member.
    fn memberships(&mut self) {
        if !self.roles_differ {
            return;
        }
        let new = self.cx.access;
        let restrictive: Vec<(&Policy, &Relation)> = self
            .cx
            .snapshot
            .policies
            .iter()
            .filter(|p| !p.permissive)
            .filter_map(|p| Some((p, self.cx.snapshot.relation(p.relation)?)))
            .filter(|(_, table)| self.before.relation(table.oid).is_some_and(|t| t.row_security))
            .collect();
        for role in &self.cx.snapshot.roles {
            self.cx.check_interrupts();
            if role.superuser {
                continue;
            }
            let mut gained: Vec<Oid> = [Follow::Members, Follow::Privileges, Follow::Set]
                .into_iter()
                .flat_map(|follow| {
                    let had = self.old.closure(role.oid, follow);
                    let has = new.closure(role.oid, follow);
                    has.iter().filter(|r| !had.contains(r)).copied().collect::<Vec<_>>()
                })
                .filter(|r| *r != PG_DATABASE_OWNER || !self.may_own(role.oid))
                .collect();
            gained.sort_unstable();
            gained.dedup();
            for other in gained {
                let name = self.cx.snapshot.role_name(other);
                let detail = format!(
                    "It would make {} a member of role \"{}\".",
                    self.role_text(role.oid),
                    printable(&name)
                );
                self.add(&Context::role_object(&name), detail);
            }
            for (policy, table) in &restrictive {
                if self.old.policy_applies(policy, role.oid)
                    && !new.policy_applies(policy, role.oid)
                    && new.relation_privileges(role.oid, table).intersects(ROWS)
                {
                    let detail = format!(
                        "Restrictive policy {} on table {} would no longer apply to {}.",
                        safe_ident(&policy.name),
                        self.cx.snapshot.relation_sql(table),
                        self.role_text(role.oid)
                    );
                    self.add(&self.cx.relation_object(table), detail);
                }
            }
        }
    }

    fn database(&mut self) {
        let (before, after) = (&self.before.database, &self.cx.snapshot.database);
        if before == after {
            return;
        }
        let object = Object {
            object_type: "database",
            schema: None,
            identity: quote_ident(&after.name).into_owned(),
            managed_by: None,
            id: ObjectId::Named,
        };
        let name = format!("database {}", safe_ident(&after.name));
        let acl = |database: &crate::catalog::Database| {
            acl_of(database.acl.as_ref(), database.owner, ObjectKind::Database)
        };
        for gain in gains(&acl(before), &acl(after)) {
            if gain.grantee != after.owner || !self.may_own(gain.grantee) {
                self.add_gain(&object, &name, &gain);
            }
        }
    }

    fn schemas(&mut self) {
        for schema in &self.cx.snapshot.schemas {
            let earlier = self.before.schema(schema.oid);
            if earlier == Some(schema) || schema.is_temporary() {
                continue;
            }
            let acl = |s: &Schema| acl_of(s.acl.as_ref(), s.owner, ObjectKind::Schema);
            let had = earlier.map(acl).unwrap_or_default();
            let declared = self.cx.governed(schema.oid);
            let mut opened_to = Vec::new();
            for mut gain in gains(&had, &acl(schema)) {
                if gain.grantee == schema.owner && self.may_own(gain.grantee) {
                    continue;
                }
                if gain.privileges.contains(Privileges::USAGE) {
                    opened_to.push(gain.grantee);
                }
                let is_declared = self
                    .roles_of(gain.grantee)
                    .iter()
                    .any(|r| declared.is_some_and(|d| d.usage.contains(&r.name)));
                if is_declared {
                    gain.privileges = gain.privileges & !Privileges::USAGE;
                }
                if !gain.privileges.is_empty() || !gain.options.is_empty() {
                    let name = format!("schema {}", safe_ident(&schema.name));
                    self.add_gain(&Context::schema_object(&schema.name), &name, &gain);
                }
            }
            if let (Some(earlier), false) = (earlier, opened_to.is_empty()) {
                self.reached(earlier, schema, &opened_to);
            }
        }
    }

    /// Relations and SECURITY DEFINER routines that roles can use because they have gained USAGE on
    /// the schema, although the contract declares no privilege on them.
    fn reached(&mut self, earlier: &Schema, schema: &Schema, opened_to: &[Oid]) {
        let cx = self.cx;
        let (snapshot, new) = (cx.snapshot, cx.access);
        let has_usage = |access: &Access<'_>, role: Oid, s: &Schema| {
            access
                .privileges(role, s.owner, s.acl.as_ref(), ObjectKind::Schema)
                .contains(Privileges::USAGE)
        };
        let is_new = |role: &&Role| {
            !role.superuser
                && opened_to.iter().any(|to| *to == PUBLIC || new.has_privileges_of(role.oid, *to))
                && !has_usage(self.old, role.oid, earlier)
        };
        let roles: Vec<&Role> = snapshot.roles.iter().filter(is_new).collect();
        let object = Context::schema_object(&schema.name);
        let mut reached = Vec::new();
        for relation in snapshot.relations.iter().filter(|r| r.schema == schema.oid) {
            cx.check_interrupts();
            for role in &roles {
                let held = new.relation_privileges(role.oid, relation);
                let undeclared = held & ROWS & !permitted_on_relation(cx, relation, role.oid);
                if !undeclared.is_empty() && relation.owner != role.oid {
                    let (kind, name) =
                        (relation.kind.object_type(), snapshot.relation_sql(relation));
                    reached.push((role.oid, format!("use {undeclared} on {kind} {name}")));
                }
            }
        }
        let definers =
            snapshot.routines.iter().filter(|r| r.schema == schema.oid && r.security_definer);
        for routine in definers {
            cx.check_interrupts();
            for role in &roles {
                let held = new.privileges(
                    role.oid,
                    routine.owner,
                    routine.acl.as_ref(),
                    ObjectKind::Routine,
                );
                if held.contains(Privileges::EXECUTE)
                    && routine.owner != role.oid
                    && !permits_execute(cx, routine, role.oid)
                {
                    let name = snapshot.routine_message(routine);
                    reached.push((role.oid, format!("call {} {name}", routine.object_type())));
                }
            }
        }
        for (role, what) in reached {
            let role = self.role_text(role);
            self.add(&object, format!("Through USAGE on the schema, {role} could {what}."));
        }
    }

    fn default_privileges(&mut self) {
        let (before, after) = (&self.before.default_acls, &self.cx.snapshot.default_acls);
        if before == after {
            return;
        }
        let key = |d: &DefaultAcl| (d.role, d.schema, d.object_type);
        let keys: HashSet<_> = before.iter().chain(after).map(key).collect();
        let acl = |of: &[DefaultAcl], wanted: (Oid, Oid, u8)| -> Acl {
            let stored = of.iter().find(|d| key(d) == wanted).map(|d| d.acl.clone());
            stored.unwrap_or_else(|| match wanted {
                (role, 0, b'f') => ObjectKind::Routine.default_acl(role),
                _ => Acl::default(),
            })
        };
        for wanted in keys {
            let (role, schema, object_type) = wanted;
            for gain in gains(&acl(before, wanted), &acl(after, wanted)) {
                // The creator owns the new object anyway.
                if gain.grantee == role {
                    continue;
                }
                let creator = self.cx.snapshot.role_name(role);
                let in_schema = match schema {
                    0 => String::new(),
                    oid => {
                        format!(" in schema {}", quote_ident(self.cx.snapshot.schema_name(oid)))
                    }
                };
                let objects = crate::fix::default_acl_objects(object_type).unwrap_or("TYPES");
                let identity = format!(
                    "for role {}{in_schema} on {}",
                    quote_ident(&creator),
                    objects.to_lowercase()
                );
                let object = Object {
                    object_type: "default acl",
                    schema: None,
                    identity,
                    managed_by: None,
                    id: ObjectId::Named,
                };
                let name = format!("new {}{in_schema}", objects.to_lowercase());
                self.add_gain(&object, &name, &gain);
            }
        }
    }

    fn relations(&mut self) {
        let earlier: HashMap<Oid, &Relation> =
            self.before.relations.iter().map(|r| (r.oid, r)).collect();
        for relation in &self.cx.snapshot.relations {
            self.cx.check_interrupts();
            let known = earlier.get(&relation.oid).copied();
            if known != Some(relation) {
                self.relation(known, relation);
            }
            if let Some(known) = known {
                self.row_security(known, relation);
            }
        }
    }

    fn relation(&mut self, earlier: Option<&Relation>, relation: &Relation) {
        let object = self.cx.relation_object(relation);
        let kind = relation.kind.acl_kind();
        let name =
            format!("{} {}", relation.kind.object_type(), self.cx.snapshot.relation_sql(relation));
        let had = earlier.map(|r| acl_of(r.acl.as_ref(), r.owner, kind)).unwrap_or_default();
        let has = acl_of(relation.acl.as_ref(), relation.owner, kind);
        let held = |role: Oid| match (earlier, role) {
            (Some(_), PUBLIC) => Access::public(&had),
            (Some(earlier), role) => self.old.relation_privileges(role, earlier),
            (None, _) => Privileges::NONE,
        };
        let mut added = Vec::new();
        for mut gain in gains(&had, &has) {
            if gain.grantee == relation.owner && self.may_own(gain.grantee) {
                continue;
            }
            gain.privileges = gain.privileges
                & !held(gain.grantee)
                & !permitted_on_relation(self.cx, relation, gain.grantee);
            added.push((name.clone(), gain));
        }
        for (column, acl) in &relation.columns {
            let own = earlier.and_then(|r| r.columns.iter().find(|(name, _)| name == column));
            let had = own.map(|(_, acl)| acl.clone()).unwrap_or_default();
            for mut gain in gains(&had, acl) {
                gain.privileges = gain.privileges
                    & !held(gain.grantee)
                    & !permitted_on_column(self.cx, relation, gain.grantee, column);
                if gain.grantee != relation.owner || !self.may_own(gain.grantee) {
                    let column = printable(column);
                    added.push((format!("column \"{column}\" of {name}"), gain));
                }
            }
        }
        for (name, gain) in added {
            if !gain.privileges.is_empty() || !gain.options.is_empty() {
                self.add_gain(&object, &name, &gain);
            }
        }
        let Some(earlier) = earlier else { return };
        if earlier.owner != relation.owner && earlier.carries_code(self.before) {
            let owner = self.role_text(relation.owner);
            self.add(&object, format!("Code of {name} would run with the privileges of {owner}."));
        } else if earlier.security_invoker && !relation.security_invoker {
            let owner = self.role_text(relation.owner);
            self.add(&object, format!("The {name} would read with the privileges of {owner}."));
        }
    }

    /// Rows that row security no longer hides.
    fn row_security(&mut self, earlier: &Relation, relation: &Relation) {
        if !earlier.row_security {
            return;
        }
        let table = self.cx.snapshot.relation_sql(relation);
        let object = self.cx.relation_object(relation);
        if !relation.row_security {
            self.add(&object, format!("It would disable row security on table {table}."));
            return;
        }
        if earlier.force_row_security && !relation.force_row_security {
            let owner = self.role_text(relation.owner);
            let detail = format!("Row security of table {table} would not apply to {owner}.");
            self.add(&object, detail);
        }
        let (before, after) =
            (self.before.policies_of(relation.oid), self.cx.snapshot.policies_of(relation.oid));
        if before == after {
            return;
        }
        let mut details = Vec::new();
        for policy in before.iter().filter(|p| !p.permissive) {
            let same = after.iter().find(|p| p.oid == policy.oid && !p.permissive);
            let applies = |role: Oid, access: &Access<'_>, policy: &Policy| {
                policy.roles.contains(&PUBLIC)
                    || role != PUBLIC && access.policy_applies(policy, role)
            };
            let escapes = |role: &&Oid| {
                !same.is_some_and(|same| {
                    applies(**role, self.cx.access, same)
                        && (!same.always_true || policy.always_true)
                })
            };
            for role in policy.roles.iter().filter(escapes) {
                details.push(format!(
                    "Restrictive policy {} on table {table} would no longer apply to {}.",
                    safe_ident(&policy.name),
                    self.role_text(*role)
                ));
            }
        }
        for policy in after.iter().filter(|p| p.permissive) {
            let same = before.iter().find(|p| p.oid == policy.oid && p.permissive);
            let is_same_condition = |same: &Policy| {
                same.command == policy.command
                    && (same.always_true || !policy.always_true)
                    && (same.unchecked || !policy.unchecked)
            };
            let is_wider = |role: &&Oid| {
                let applied = same.filter(|same| is_same_condition(same)).is_some_and(|same| {
                    same.roles.contains(&PUBLIC)
                        || **role != PUBLIC && self.old.policy_applies(same, **role)
                });
                !applied && !self.declares_policy(relation, **role, &policy.commands())
            };
            for role in policy.roles.iter().filter(is_wider) {
                details.push(format!(
                    "Policy {} on table {table} would allow rows to {}.",
                    safe_ident(&policy.name),
                    self.role_text(*role)
                ));
            }
        }
        for detail in details {
            self.add(&object, detail);
        }
    }

    /// Whether the contract declares policies of a role for all these commands.
    fn declares_policy(&self, table: &Relation, role: Oid, commands: &[Command]) -> bool {
        let schema = self.cx.snapshot.schema_name(table.schema);
        let declared = self.cx.contract.table(schema, &table.name);
        self.roles_of(role).iter().any(|role| {
            declared.is_some_and(|table| {
                let declared = table.policy_commands(&role.name);
                commands.iter().all(|command| declared.contains(command))
            })
        })
    }

    fn routines(&mut self) {
        let earlier: HashMap<Oid, &Routine> =
            self.before.routines.iter().map(|r| (r.oid, r)).collect();
        for routine in &self.cx.snapshot.routines {
            self.cx.check_interrupts();
            let known = earlier.get(&routine.oid).copied();
            if known != Some(routine) {
                self.routine(known, routine);
            }
        }
    }

    fn routine(&mut self, earlier: Option<&Routine>, routine: &Routine) {
        let object = self.cx.routine_object(routine);
        let name =
            format!("{} {}", routine.object_type(), self.cx.snapshot.routine_message(routine));
        let acl = |r: &Routine| acl_of(r.acl.as_ref(), r.owner, ObjectKind::Routine);
        let had = earlier.map(acl).unwrap_or_default();
        for gain in gains(&had, &acl(routine)) {
            let is_owner = gain.grantee == routine.owner && self.may_own(gain.grantee);
            let had_before = gain.grantee != PUBLIC
                && earlier.is_some_and(|r| {
                    self.old
                        .privileges(gain.grantee, r.owner, r.acl.as_ref(), ObjectKind::Routine)
                        .contains(gain.privileges)
                });
            let is_declared = had_before || permits_execute(self.cx, routine, gain.grantee);
            if !(is_owner || is_declared && gain.options.is_empty()) {
                self.add_gain(&object, &name, &gain);
            }
        }
        let owner = self.role_text(routine.owner);
        let runs_as_owner = match earlier {
            Some(earlier) if earlier.owner != routine.owner => true,
            Some(earlier) => {
                routine.security_definer
                    && !earlier.security_definer
                    && !self.declares_definer(routine)
            }
            None => routine.security_definer && !self.declares_definer(routine),
        };
        if runs_as_owner {
            let detail = if routine.security_definer {
                format!("The body of {name} would run with the privileges of {owner}.")
            } else {
                format!("The {name}, whose body another role wrote, would belong to {owner}.")
            };
            self.add(&object, detail);
        }
    }

    /// Whether the contract declares that the routine is SECURITY DEFINER.
    fn declares_definer(&self, routine: &Routine) -> bool {
        let schema = self.cx.snapshot.schema_name(routine.schema);
        self.cx.contract.functions_named(schema, &routine.name).any(|declared| {
            declared.security_definer == Some(true)
                && self.cx.has_arguments(routine, declared.arguments.as_deref())
        })
    }

    /// Declared privileges that roles no longer have.
    fn losses(&mut self) {
        let cx = self.cx;
        let roles: Vec<&Role> = cx
            .contract
            .roles
            .iter()
            .filter(|r| r.kind != RoleKind::Owner)
            .filter_map(|r| cx.snapshot.role_named(&r.name))
            .collect();
        for (schema, declared) in cx.schemas() {
            let Some(earlier) = self.before.schema(schema.oid) else { continue };
            if earlier == schema && !self.roles_differ {
                continue;
            }
            let held = |access: &Access<'_>, s: &Schema, role: &Role| {
                access.privileges(role.oid, s.owner, s.acl.as_ref(), ObjectKind::Schema)
            };
            let name = format!("schema {}", safe_ident(&schema.name));
            for role in roles.iter().filter(|r| declared.usage.contains(&r.name)) {
                let lost = Privileges::USAGE
                    & held(self.old, earlier, role)
                    & !held(cx.access, schema, role);
                self.add_loss(&Context::schema_object(&schema.name), &name, role, (lost, lost));
            }
        }
        let earlier: HashMap<Oid, &Relation> =
            self.before.relations.iter().map(|r| (r.oid, r)).collect();
        for (relation, schema) in cx.relations() {
            let Some(known) = earlier.get(&relation.oid) else { continue };
            if *known == relation && !self.roles_differ {
                continue;
            }
            for role in &roles {
                self.lose_rows(known, relation, role);
                let needed = cx.needed_on_relation(relation, schema, role);
                let lost = needed
                    & self.old.relation_privileges(role.oid, known)
                    & !cx.access.relation_privileges(role.oid, relation);
                let name = || {
                    format!(
                        "{} {}",
                        relation.kind.object_type(),
                        cx.snapshot.relation_sql(relation)
                    )
                };
                if !lost.is_empty() {
                    let declared = cx.declared_on_relation(relation, schema, role);
                    let object = cx.relation_object(relation);
                    self.add_loss(&object, &name(), role, (lost, declared));
                }
            }
        }
        let earlier: HashMap<Oid, &Routine> =
            self.before.routines.iter().map(|r| (r.oid, r)).collect();
        for (routine, schema) in cx.routines() {
            let Some(known) = earlier.get(&routine.oid) else { continue };
            if *known == routine && !self.roles_differ {
                continue;
            }
            let held = |access: &Access<'_>, r: &Routine, role: &Role| {
                access.privileges(role.oid, r.owner, r.acl.as_ref(), ObjectKind::Routine)
            };
            for role in &roles {
                let lost = cx.permitted_execute(routine, schema, role)
                    & held(self.old, known, role)
                    & !held(cx.access, routine, role);
                if !lost.is_empty() {
                    let name = format!(
                        "{} {}",
                        routine.object_type(),
                        cx.snapshot.routine_message(routine)
                    );
                    let declared = cx.execute_declared(routine, schema, role);
                    self.add_loss(&cx.routine_object(routine), &name, role, (lost, declared));
                }
            }
        }
    }

    /// Rows that a role could use because no row security applied to it, and that no policy allows.
    fn lose_rows(&mut self, earlier: &Relation, relation: &Relation, role: &Role) {
        let cx = self.cx;
        if self.old.is_limited_by_policies(role.oid, earlier) {
            return;
        }
        let declared = permitted_on_relation(cx, relation, role.oid);
        let lost = hidden_rows(cx, relation, role, earlier.row_security, declared);
        if !lost.is_empty() {
            let detail = format!(
                "No declared policy on table {} would allow {} to {}, which the contract declares: \
                 it would see no rows.",
                cx.snapshot.relation_sql(relation),
                self.role_text(role.oid),
                lost.join(", ")
            );
            self.add(&cx.relation_object(relation), detail);
        }
    }

    /// Adds the effect that a role loses privileges, of which the contract declares some, and
    /// something declared needs the others.
    fn add_loss(
        &mut self,
        object: &Object,
        name: &str,
        role: &Role,
        (lost, declared): (Privileges, Privileges),
    ) {
        if !lost.is_empty() {
            let role = self.role_text(role.oid);
            let why = if declared.contains(lost) {
                "the contract declares"
            } else {
                "something declared needs"
            };
            self.add(object, format!("It would take {lost} on {name} from {role}, which {why}."));
        }
    }
}

/// The privileges to read and write rows.
const ROWS: Privileges = Privileges(Privileges::SELECT.0 | Privileges::WRITES.0);

/// Returns the commands, of those that privileges are for, for which no policy that stays allows a
/// role any row, while row security applies to the role; for a role to which it did not apply.
pub(super) fn hidden_rows(
    cx: &Context<'_>,
    relation: &Relation,
    role: &Role,
    had_row_security: bool,
    privileges: Privileges,
) -> Vec<&'static str> {
    if !cx.access.is_limited_by_policies(role.oid, relation) {
        return vec![];
    }
    let schema = cx.snapshot.schema_name(relation.schema);
    let expected = cx
        .contract
        .table(schema, &relation.name)
        .map(|table| table.policy_commands(&role.name))
        .unwrap_or_default();
    // The contract declares no policies for owners.
    let is_owner = cx.contract.kind_of(&role.name) == Some(RoleKind::Owner);
    let is_hidden = |command: &Command| {
        let is_allowed = cx.snapshot.policies_of(relation.oid).iter().any(|policy| {
            policy.permissive
                && policy.covers(*command)
                && cx.access.policy_applies(policy, role.oid)
        });
        let is_expected = expected.contains(command);
        if is_owner {
            !is_allowed
        } else if had_row_security {
            // A role that loses the attribute BYPASSRLS keeps what policies should allow.
            is_expected && !is_allowed
        } else {
            // A policy that is not declared does not stay.
            !(is_expected && is_allowed)
        }
    };
    Command::ALL
        .into_iter()
        .filter(|command| privileges.contains(command.privilege()) && is_hidden(command))
        .map(Command::as_str)
        .collect()
}

/// Returns the privileges on a relation that the contract declares for a role, or for a role whose
/// privileges it has, and those that something declared needs.
fn permitted_on_relation(cx: &Context<'_>, relation: &Relation, role: Oid) -> Privileges {
    let Some(schema) = cx.governed(relation.schema) else { return Privileges::NONE };
    roles_behind(cx, role).fold(Privileges::NONE, |all, role| {
        let of_insert = if cx.declares_insert_by(relation, role) {
            Privileges::USAGE
        } else {
            Privileges::NONE
        };
        all | cx.permitted_on_relation(relation, schema, role) | of_insert
    })
}

/// As [`permitted_on_relation`], on one column.
fn permitted_on_column(
    cx: &Context<'_>,
    relation: &Relation,
    role: Oid,
    column: &str,
) -> Privileges {
    let Some(schema) = cx.governed(relation.schema) else { return Privileges::NONE };
    let on_table = permitted_on_relation(cx, relation, role);
    roles_behind(cx, role).fold(on_table, |all, role| {
        all | cx.declared_on_column(relation, schema, role, column)
            | cx.permitted_on_column(relation, column, role)
    })
}

/// Whether the contract declares EXECUTE on a routine for a role, or for a role whose privileges it
/// has, or something declared needs it.
fn permits_execute(cx: &Context<'_>, routine: &Routine, role: Oid) -> bool {
    let Some(schema) = cx.governed(routine.schema) else { return false };
    roles_behind(cx, role).any(|role| cx.permits_execute(routine, schema, role))
}

/// Returns a role and the roles whose privileges it may have; none for PUBLIC. The contract
/// declares no membership of a client or a worker in another one.
fn roles_behind<'a>(cx: &Context<'a>, role: Oid) -> impl Iterator<Item = &'a Role> {
    let snapshot = cx.snapshot;
    let is_user = |oid: Oid| {
        let kind = snapshot.role(oid).and_then(|role| cx.contract.kind_of(&role.name));
        matches!(kind, Some(RoleKind::Client | RoleKind::Worker))
    };
    let may_have = |oid: &Oid| *oid == role || !(is_user(role) && is_user(*oid));
    let closure = cx.access.closure(role, Follow::Privileges);
    let closure = closure.iter().filter(|oid| role != PUBLIC && may_have(oid));
    let roles: Vec<&Role> = closure.filter_map(|oid| snapshot.role(*oid)).collect();
    roles.into_iter()
}

/// Returns effects as text: the first few sentences, and how many others there are.
#[must_use]
pub fn described(effects: &[Effect]) -> String {
    const SHOWN: usize = 5;
    let mut parts: Vec<String> = effects.iter().take(SHOWN).map(|e| e.detail.clone()).collect();
    if effects.len() > SHOWN {
        parts.push(format!("And {} more.", effects.len() - SHOWN));
    }
    parts.join(" ")
}
