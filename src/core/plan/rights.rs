//! Whether the role that executes a plan has the right to execute a statement, by the checks of the
//! server (aclchk.c, user.c, tablecmds.c, alter.c).

use crate::access::{Access, Follow};
use crate::catalog::{
    Attribute, Membership, ObjectId, ObjectKind, Oid, Privileges, Role, RoleSetting, Snapshot,
};
use crate::fix::{AclStatement, Change, RoutineChange, Statement};
use crate::sql::{printable, safe_ident};

/// The rights of one role in a catalog.
pub(super) struct Rights<'a> {
    snapshot: &'a Snapshot,
    access: Access<'a>,
    runner: Oid,
}

/// Why a role cannot execute a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Obstacle {
    /// The roles that can, as a noun: `a member of role "x"`.
    pub who: String,
    /// What the role lacks, as a clause.
    pub why: String,
}

impl Obstacle {
    fn new(who: impl Into<String>, why: impl Into<String>) -> Self {
        Self { who: who.into(), why: why.into() }
    }

    /// Only a superuser can execute it.
    fn superuser(why: impl Into<String>) -> Self {
        Self::new("a superuser", why)
    }
}

impl<'a> Rights<'a> {
    /// Returns the rights of `runner` in a catalog.
    pub(super) fn of(snapshot: &'a Snapshot, runner: Oid) -> Self {
        Self { snapshot, access: Access::new(snapshot), runner }
    }

    /// Returns why the role cannot execute a statement with its whole effect; `None` if it can.
    pub(super) fn obstacle(&self, statement: &Statement) -> Option<Obstacle> {
        if self.access.is_superuser(self.runner) {
            return None;
        }
        match statement {
            Statement::Acl(statement) => self.acl(statement),
            Statement::Ddl(ddl) => self.ddl(&ddl.change),
        }
    }

    /// Without the privileges of the owner, the server grants and revokes as another grantor, or
    /// does nothing (acl.c, `select_best_grantor`).
    fn acl(&self, statement: &AclStatement) -> Option<Obstacle> {
        let sql = &statement.on.sql;
        self.must_act_as(self.owner(statement.on.id)?, |owner| {
            format!("{sql} belongs to {owner}: the server would not act for its owner")
        })
    }

    fn ddl(&self, change: &Change) -> Option<Obstacle> {
        match change {
            Change::Guard => {
                Some(Obstacle::superuser("only a superuser can restore the objects of the guard"))
            }
            Change::AddRole(role) => self.add_role(role),
            Change::AlterRole { role, attribute, .. } => self.alter_role(*role, *attribute),
            Change::ResetSetting(setting) => self.reset_setting(setting),
            Change::RevokeMembership(membership) => self.revoke_membership(membership),
            Change::AddSchema(_) => self.must_create_schemas(self.runner),
            Change::AddRelation(_, schema, _) => {
                let schema = self.snapshot.schemas.iter().find(|s| s.name == *schema)?;
                self.must_create_in(schema.oid, self.runner)
            }
            Change::ChangeOwner { object, owner, target } => {
                self.change_owner(*object, *owner, target)
            }
            Change::RevokeDefault { role, .. } => self.change_defaults_of(*role),
            Change::RevokeOnServerObject { object, .. } => {
                let all = &self.snapshot.server_objects;
                let found =
                    all.iter().find(|o| (o.object_type, &o.identity) == (object.0, &object.1));
                self.must_act_as(found?.owner, |owner| format!("the object belongs to {owner}"))
            }
            Change::AlterRoutine(routine, actions) => self
                .must_own(ObjectId::Routine(*routine))
                .or_else(|| actions.iter().find_map(|action| self.set_parameter(action))),
            Change::DropRoutine(schema, ..) => {
                let schema = self.snapshot.schemas.iter().find(|s| s.name == *schema)?;
                self.must_own(ObjectId::Schema(schema.oid))
            }
            Change::EnableRowSecurity(table) | Change::ForceRowSecurity(table) => {
                self.must_own(ObjectId::Relation(*table))
            }
            Change::DropPolicy(policy) | Change::PolicyRoles(policy, _) => {
                let policy = self.snapshot.policies.iter().find(|p| p.oid == *policy)?;
                self.must_own(ObjectId::Relation(policy.relation))
            }
        }
    }

    /// Returns the owner of an object; [`ObjectId::Named`] is the database.
    fn owner(&self, object: ObjectId) -> Option<Oid> {
        Some(match object {
            ObjectId::Relation(oid) => self.snapshot.relations.iter().find(|r| r.oid == oid)?.owner,
            ObjectId::Routine(oid) => self.snapshot.routines.iter().find(|r| r.oid == oid)?.owner,
            ObjectId::Schema(oid) => self.snapshot.schemas.iter().find(|s| s.oid == oid)?.owner,
            ObjectId::Named => self.snapshot.database.owner,
            ObjectId::Policy(_) | ObjectId::Role(_) | ObjectId::Type(_) => return None,
        })
    }

    /// The obstacle where the role does not have the privileges of another role.
    fn must_act_as(&self, role: Oid, why: impl FnOnce(&str) -> String) -> Option<Obstacle> {
        (!self.access.has_privileges_of(self.runner, role)).then(|| {
            let owner = self.text(role);
            Obstacle::new(self.that_acts_as(role), why(&owner))
        })
    }

    fn must_own(&self, object: ObjectId) -> Option<Obstacle> {
        let owner = self.owner(object)?;
        self.must_act_as(owner, |owner| format!("the object belongs to {owner}"))
    }

    /// Returns the roles that act as a role, as a noun.
    fn that_acts_as(&self, role: Oid) -> String {
        if self.access.is_superuser(role) {
            "a superuser".to_owned()
        } else {
            format!("{}, a member of it or a superuser", self.text(role))
        }
    }

    fn text(&self, role: Oid) -> String {
        format!("role \"{}\"", printable(&self.snapshot.role_name(role)))
    }

    fn runner(&self) -> Option<&Role> {
        self.snapshot.role(self.runner)
    }

    fn add_role(&self, role: &Role) -> Option<Obstacle> {
        let runner = self.runner()?;
        if !runner.create_role {
            return Some(Obstacle::new(
                "a superuser or a role with CREATEROLE",
                "creating a role needs CREATEROLE",
            ));
        }
        Attribute::ALL
            .into_iter()
            .filter(|attribute| role.has(*attribute))
            .find_map(|attribute| self.set_attribute(attribute))
    }

    fn alter_role(&self, role: Oid, attribute: Attribute) -> Option<Obstacle> {
        self.alter_role_at_all(role).or_else(|| self.set_attribute(attribute))
    }

    fn alter_role_at_all(&self, role: Oid) -> Option<Obstacle> {
        let (runner, altered) = (self.runner()?, self.snapshot.role(role)?);
        if altered.superuser || (self.snapshot.version < 16 && altered.replication) {
            return Some(Obstacle::superuser("only a superuser can alter such a role"));
        }
        let name = self.text(role);
        if !runner.create_role {
            return Some(Obstacle::new(
                "a superuser or a role with CREATEROLE",
                format!("altering {name} needs CREATEROLE"),
            ));
        }
        if self.snapshot.version >= 16 && !self.access.is_admin_of(self.runner, role) {
            return Some(Obstacle::new(
                format!("a superuser or a role with CREATEROLE and the ADMIN option on {name}"),
                format!("altering {name} needs the ADMIN option"),
            ));
        }
        None
    }

    /// Since 16, a role with CREATEROLE can give and take the attributes that it has itself.
    fn set_attribute(&self, attribute: Attribute) -> Option<Obstacle> {
        let runner = self.runner()?;
        let is_allowed = match attribute {
            Attribute::Superuser => false,
            Attribute::CreateRole => true,
            Attribute::CreateDb => self.snapshot.version < 16 || runner.create_db,
            Attribute::BypassRls | Attribute::Replication => {
                self.snapshot.version >= 16 && runner.has(attribute)
            }
        };
        (!is_allowed).then(|| {
            let word = attribute.as_str();
            let who = match attribute {
                Attribute::Superuser => "a superuser".to_owned(),
                _ if self.snapshot.version < 16 => "a superuser".to_owned(),
                _ => format!("a superuser or a role with CREATEROLE and {word}"),
            };
            Obstacle::new(who, format!("the caller cannot change the attribute {word}"))
        })
    }

    fn revoke_membership(&self, membership: &Membership) -> Option<Obstacle> {
        let (runner, role) = (self.runner()?, self.snapshot.role(membership.role)?);
        let name = self.text(role.oid);
        if role.superuser {
            return Some(Obstacle::superuser(format!("{name} is a superuser")));
        }
        let by_attribute = self.snapshot.version < 16 && runner.create_role;
        if !by_attribute && !self.access.is_admin_of(self.runner, role.oid) {
            return Some(Obstacle::new(
                format!("a superuser or a role with the ADMIN option on {name}"),
                format!("revoking membership in {name} needs the ADMIN option"),
            ));
        }
        // The statement names the grantor.
        (self.snapshot.version >= 16)
            .then(|| {
                self.must_act_as(membership.grantor, |grantor| {
                    format!("{grantor} has granted the membership")
                })
            })
            .flatten()
    }

    /// CREATE on the database.
    fn must_create_schemas(&self, role: Oid) -> Option<Obstacle> {
        let database = &self.snapshot.database;
        let held = self.access.privileges(
            role,
            database.owner,
            database.acl.as_ref(),
            ObjectKind::Database,
        );
        let name = safe_ident(&database.name);
        (!held.contains(Privileges::CREATE)).then(|| {
            Obstacle::new(
                format!("a superuser or a role with CREATE on database {name}"),
                format!("{} has no CREATE on database {name}", self.text(role)),
            )
        })
    }

    /// CREATE on a schema.
    fn must_create_in(&self, schema: Oid, role: Oid) -> Option<Obstacle> {
        let schema = self.snapshot.schemas.iter().find(|s| s.oid == schema)?;
        let held =
            self.access.privileges(role, schema.owner, schema.acl.as_ref(), ObjectKind::Schema);
        let name = safe_ident(&schema.name);
        (!held.contains(Privileges::CREATE)).then(|| {
            Obstacle::new(
                format!("a superuser or a role with CREATE on schema {name}"),
                format!("{} has no CREATE on schema {name}", self.text(role)),
            )
        })
    }

    fn change_owner(&self, object: ObjectId, owner: Oid, target: &str) -> Option<Obstacle> {
        let former = self.owner(object)?;
        if former == owner {
            return None;
        }
        let not_owner = self.must_act_as(former, |former| format!("{target} belongs to {former}"));
        not_owner
            .or_else(|| {
                let is_member = if self.snapshot.version < 16 {
                    self.access.closure(self.runner, Follow::Members).contains(&owner)
                } else {
                    self.access.can_set_role(self.runner, owner)
                };
                (!is_member).then(|| {
                    let new = self.text(owner);
                    Obstacle::new(
                        format!("a superuser or a role that can become {new}"),
                        format!("the caller cannot SET ROLE to {new}"),
                    )
                })
            })
            .or_else(|| match object {
                ObjectId::Relation(oid) => {
                    let relation = self.snapshot.relations.iter().find(|r| r.oid == oid)?;
                    self.must_create_in(relation.schema, owner)
                }
                ObjectId::Routine(oid) => {
                    let routine = self.snapshot.routines.iter().find(|r| r.oid == oid)?;
                    self.must_create_in(routine.schema, owner)
                }
                ObjectId::Schema(_) => self.must_create_schemas(self.runner),
                _ => None,
            })
    }

    fn change_defaults_of(&self, role: Oid) -> Option<Obstacle> {
        let is_allowed = if self.snapshot.version < 16 {
            self.access.closure(self.runner, Follow::Members).contains(&role)
        } else {
            self.access.has_privileges_of(self.runner, role)
        };
        (!is_allowed).then(|| {
            Obstacle::new(
                self.that_acts_as(role),
                format!("the default privileges belong to {}", self.text(role)),
            )
        })
    }

    /// RESET of a parameter that only superusers can set, unless SET on it has been granted.
    fn set_parameter(&self, action: &RoutineChange) -> Option<Obstacle> {
        let RoutineChange::Reset(name) = action else { return None };
        self.reset_parameter(name)
    }

    /// ALTER ROLE or ALTER DATABASE ... RESET: the role, or the database, must be the caller's to
    /// alter, and the parameter its to set.
    fn reset_setting(&self, setting: &RoleSetting) -> Option<Obstacle> {
        let of_holder = match (setting.role, &setting.database) {
            (Some(role), _) if role == self.runner => None,
            (Some(role), _) => self.alter_role_at_all(role),
            (None, Some(_)) => self.must_act_as(self.snapshot.database.owner, |owner| {
                format!("the database belongs to {owner}")
            }),
            (None, None) => {
                Some(Obstacle::superuser("only a superuser can alter the settings of all roles"))
            }
        };
        of_holder.or_else(|| self.reset_parameter(&setting.name))
    }

    fn reset_parameter(&self, name: &str) -> Option<Obstacle> {
        let is_restricted = !matches!(name, "role" | "session_authorization" | "row_security");
        let is_granted = || {
            self.snapshot.guard.parameters.iter().any(|(parameter, acl)| {
                parameter == name
                    && (self.access.granted(self.runner, acl) | Access::public(acl))
                        .contains(Privileges::SET)
            })
        };
        (is_restricted && !is_granted()).then(|| {
            Obstacle::new(
                format!("a superuser or a role with SET on parameter {name}"),
                format!("the caller cannot set parameter {name}"),
            )
        })
    }
}
