//! Routines that are exploitable whatever their search_path is: the caller chooses a type, and code
//! is found by that type.

use super::assess::{Assessment, Reason, ReasonCode, SearchPaths, Verdict, holders, plain};
use crate::access::Follow;
use crate::catalog::{CallerTyped, ObjectKind, Oid, PUBLIC, Privileges, Routine, TypeChoice};
use crate::sql::printable;
use std::collections::HashSet;
use std::rc::Rc;

impl SearchPaths<'_> {
    /// Returns the assessment of a routine: of its search_path and of the types that its callers
    /// choose.
    #[must_use]
    pub fn routine(&self, routine: &Routine) -> Rc<Assessment> {
        let path = self.config(&routine.config, routine.owner);
        match self.caller_types(routine) {
            None => path,
            Some(reason) => {
                let mut assessment = (*path).clone();
                assessment.verdict = assessment.verdict.max(reason.verdict);
                assessment.reasons.push(reason);
                Rc::new(assessment)
            }
        }
    }

    /// Returns the reason why a SECURITY DEFINER routine is not safe that is about a type which its
    /// callers choose; the worst one where there are several.
    ///
    /// It is exploitable if an untrusted role can execute the routine and create a type, and the
    /// body executes code of the type. It is fragile if one of the last two is not known: the body
    /// may do so in a way that is not recognized, and TEMPORARY on the database is granted without
    /// an event trigger. The owner of the type of an argument need not be able to execute the
    /// routine: another caller executes its casts.
    #[must_use]
    pub fn caller_types(&self, routine: &Routine) -> Option<Reason> {
        let typed = self.snapshot.caller_typed.get(&routine.oid)?;
        let reasons = typed.iter().filter_map(|typed| self.reason(routine, typed));
        // The first one of the worst.
        reasons.rev().max_by_key(|reason| reason.verdict)
    }

    /// Whether callers of a routine choose no types, but cursors.
    #[must_use]
    pub fn are_cursors_chosen(&self, routine: &Routine) -> bool {
        let typed = self.snapshot.caller_typed.get(&routine.oid);
        typed.is_some_and(|typed| typed.iter().all(|typed| typed.choice == TypeChoice::Cursor))
    }

    fn reason(&self, routine: &Routine, typed: &CallerTyped) -> Option<Reason> {
        let callers = Callers::of(self, routine)?;
        let (role, can_create) = match typed.choice {
            TypeChoice::Any | TypeChoice::Result => callers.first(self, routine.owner)?,
            // The query of a cursor needs no type.
            TypeChoice::Cursor => (callers.first(self, routine.owner)?.0, true),
            // Every caller of the routine executes the casts of the owner of the type.
            TypeChoice::Owned(owner) => {
                (!self.trusts(owner, routine.owner)).then(|| (owner, can_create(self, owner)))?
            }
        };
        let is_proven = typed.executes.is_some();
        let verdict = match (is_proven, can_create) {
            (true, true) => Verdict::Exploitable,
            (false, false) => return None,
            _ => Verdict::Fragile,
        };
        Some(Reason {
            role: Some(self.exploiter(role)),
            ability: Some(ability(typed, can_create)),
            ..plain(ReasonCode::CallerTypes, verdict)
        })
    }
}

/// Returns what a role can do with a routine, as the rest of a sentence about the role.
fn ability(typed: &CallerTyped, can_create: bool) -> String {
    let name = printable(&typed.name);
    let passes = match typed.choice {
        TypeChoice::Any => format!("can pass a value of a type of its own as {name}"),
        TypeChoice::Owned(_) => format!("owns the type of {name}"),
        TypeChoice::Result => "can name types of its own for the columns of the result".to_owned(),
        TypeChoice::Cursor => return ability_of_cursor(typed.executes.as_deref(), &name),
    };
    let then = match (&typed.executes, typed.choice) {
        (Some(_), TypeChoice::Result) => {
            "the conversion to these executes code of the types as the owner of the routine"
                .to_owned()
        }
        (Some(expression), _) => format!(
            "{} executes code of the type as the owner of the routine",
            printable(expression)
        ),
        (None, _) => "casts and domain constraints are found by the type, not along the \
                      search_path; it is not known whether the body uses them"
            .to_owned(),
    };
    let but = if can_create { "" } else { ", as soon as the role can create a type or a function" };
    format!("{passes}, and {then}{but}")
}

/// Returns what a role can do with a routine that it passes the name of a cursor to.
fn ability_of_cursor(statement: Option<&str>, name: &str) -> String {
    let then = match statement {
        Some(statement) => format!(
            "{} executes the functions in the query of the cursor as the owner of the routine",
            printable(statement)
        ),
        None => "FETCH executes the functions in the query of the cursor as the owner of the \
                 routine; it is not known whether the body uses it"
            .to_owned(),
    };
    format!("can pass the name of a cursor of its own as {name}, and {then}")
}

/// The roles that can execute a routine, as grantees.
struct Callers {
    /// Of EXECUTE on the routine.
    execute: HashSet<Oid>,
    /// Of USAGE on its schema.
    usage: HashSet<Oid>,
}

impl Callers {
    /// Returns the callers of a routine; `None` where its schema is not known.
    fn of(paths: &SearchPaths<'_>, routine: &Routine) -> Option<Self> {
        let schema = paths.snapshot.schema(routine.schema)?;
        let acl = routine.acl.as_ref();
        Some(Self {
            execute: holders(ObjectKind::Routine, routine.owner, acl, Privileges::EXECUTE),
            usage: holders(
                ObjectKind::Schema,
                schema.owner,
                schema.acl.as_ref(),
                Privileges::USAGE,
            ),
        })
    }

    /// Whether a role can call the routine.
    fn include(&self, paths: &SearchPaths<'_>, role: Oid) -> bool {
        [&self.execute, &self.usage].iter().all(|holders| reaches(paths, role, holders))
    }

    /// Returns an untrusted role that can call a routine of `owner`, and whether it can create a
    /// type: one that can before one that cannot, and PUBLIC before others.
    fn first(&self, paths: &SearchPaths<'_>, owner: Oid) -> Option<(Oid, bool)> {
        let mut first = None;
        let roles = paths.snapshot.roles.iter().filter(|role| !role.is_predefined());
        let untrusted = roles.map(|role| role.oid).filter(|role| !paths.trusts(*role, owner));
        for role in std::iter::once(PUBLIC).chain(untrusted) {
            if self.include(paths, role) {
                if can_create(paths, role) {
                    return Some((role, true));
                }
                first = first.or(Some((role, false)));
            }
        }
        first
    }
}

/// Whether a role can create a type and a function, temporary ones included.
fn can_create(paths: &SearchPaths<'_>, role: Oid) -> bool {
    reaches(paths, role, paths.creators())
}

/// Whether a privilege of some holders is also one of `role`: directly, as a member, or by SET
/// ROLE, after which the temporary objects of the session are still there.
fn reaches(paths: &SearchPaths<'_>, role: Oid, holders: &HashSet<Oid>) -> bool {
    let is_member = || {
        let held = paths.access.closure(role, Follow::Members);
        holders.iter().any(|holder| held.contains(holder))
    };
    holders.contains(&PUBLIC) || role != PUBLIC && is_member()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::catalog::{AclItem, Database, Membership, Role, Schema, Snapshot};

    const APP: Oid = 1;
    const ANON: Oid = 2;
    const GROUP: Oid = 3;
    const API: Oid = 11;

    fn item(grantee: Oid, privileges: Privileges) -> AclItem {
        AclItem { grantee, grantor: APP, privileges, grantable: Privileges::NONE }
    }

    /// A routine of `app` in a schema of `app` that only `anon` may execute, in a database where
    /// only `anon` may create temporary objects.
    fn world(executes: Option<&str>) -> Snapshot {
        let role = |oid, name: &str| Role { oid, name: name.into(), ..Role::default() };
        Snapshot {
            version: 15,
            database: Database {
                name: "d".into(),
                owner: APP,
                acl: Some(vec![item(ANON, Privileges::TEMPORARY)].into()),
                ..Database::default()
            },
            roles: vec![role(APP, "app"), role(ANON, "anon"), role(GROUP, "grp")].into(),
            schemas: vec![Schema {
                oid: API,
                name: "api".into(),
                owner: APP,
                acl: Some(vec![item(ANON, Privileges::USAGE)].into()),
            }]
            .into(),
            routines: vec![Routine {
                oid: 100,
                schema: API,
                owner: APP,
                security_definer: true,
                config: vec!["search_path=api, pg_temp".into()].into(),
                acl: Some(vec![item(ANON, Privileges::EXECUTE)].into()),
                ..Routine::default()
            }],
            caller_typed: [(
                100,
                vec![CallerTyped {
                    choice: TypeChoice::Any,
                    name: "x".into(),
                    executes: executes.map(str::to_owned),
                }],
            )]
            .into(),
            ..Snapshot::default()
        }
    }

    fn verdict(snapshot: Snapshot) -> Option<(Verdict, String)> {
        let snapshot = snapshot.complete();
        let access = Access::new(&snapshot);
        let paths = SearchPaths::new(&snapshot, &access, HashSet::new());
        let reason = paths.caller_types(&snapshot.routines[0])?;
        assert!(paths.routine(&snapshot.routines[0]).reasons.contains(&reason));
        Some((reason.verdict, reason.to_string()))
    }

    fn of_anon(verdict: Verdict) -> (Verdict, String) {
        (verdict, "CALLER_TYPES:anon".to_owned())
    }

    #[test]
    fn proven_use_by_a_role_that_can_create_types_is_exploitable() {
        assert_eq!(verdict(world(Some("x::text"))), Some(of_anon(Verdict::Exploitable)));
        assert_eq!(verdict(world(None)), Some(of_anon(Verdict::Fragile)));
    }

    #[test]
    fn role_that_cannot_create_types_makes_a_proven_use_fragile() {
        let without_temp = |executes| {
            let mut world = world(executes);
            world.database.acl = Some(vec![].into());
            world
        };
        assert_eq!(verdict(without_temp(Some("x::text"))), Some(of_anon(Verdict::Fragile)));
        assert_eq!(verdict(without_temp(None)), None);
        let mut creates = without_temp(Some("x::text"));
        creates.schemas.push(Schema {
            oid: 12,
            name: "playground".into(),
            owner: APP,
            acl: Some(vec![item(PUBLIC, Privileges::CREATE)].into()),
        });
        assert_eq!(verdict(creates), Some(of_anon(Verdict::Exploitable)));
    }

    #[test]
    fn routine_that_no_untrusted_role_can_call_is_safe() {
        let mut uncallable = world(Some("x::text"));
        uncallable.routines[0].acl = Some(vec![].into());
        assert_eq!(verdict(uncallable), None);
        let mut hidden = world(Some("x::text"));
        hidden.schemas[0].acl = None;
        assert_eq!(verdict(hidden), None, "no USAGE on the schema");
        let mut member = world(Some("x::text"));
        let as_app = Membership {
            role: APP,
            member: ANON,
            grantor: APP,
            admin: false,
            inherit: true,
            set: true,
        };
        member.memberships.push(as_app);
        assert_eq!(verdict(member), None, "anon can do what the owner can");
    }

    #[test]
    fn privileges_through_membership_and_public_count() {
        let mut world = world(Some("x::text"));
        world.routines[0].acl = Some(vec![item(GROUP, Privileges::EXECUTE)].into());
        world.database.acl = None;
        assert_eq!(verdict(world.clone()), None, "the group has no USAGE");
        world.memberships.push(Membership {
            role: GROUP,
            member: ANON,
            grantor: APP,
            admin: false,
            inherit: false,
            set: true,
        });
        assert_eq!(verdict(world.clone()), Some(of_anon(Verdict::Exploitable)));
        world.routines[0].acl = None;
        world.schemas[0].acl = Some(vec![item(PUBLIC, Privileges::USAGE)].into());
        let public = Some((Verdict::Exploitable, "CALLER_TYPES:PUBLIC".to_owned()));
        assert_eq!(verdict(world), public);
    }

    #[test]
    fn cursor_of_an_untrusted_caller_is_exploitable_without_any_type() {
        let mut world = world(Some("FETCH p"));
        world.database.acl = Some(vec![].into());
        world.caller_typed.get_mut(&100).unwrap()[0].choice = TypeChoice::Cursor;
        assert_eq!(verdict(world.clone()), Some(of_anon(Verdict::Exploitable)));
        world.caller_typed.get_mut(&100).unwrap()[0].executes = None;
        assert_eq!(verdict(world), Some(of_anon(Verdict::Fragile)));
    }

    #[test]
    fn type_of_an_untrusted_role_is_chosen_by_its_owner_for_every_caller() {
        let owned = |owner| {
            let mut world = world(Some("x::text"));
            world.caller_typed.get_mut(&100).unwrap()[0].choice = TypeChoice::Owned(owner);
            world
        };
        assert_eq!(verdict(owned(ANON)), Some(of_anon(Verdict::Exploitable)));
        assert_eq!(verdict(owned(APP)), None);
        let of_group = verdict(owned(GROUP)).unwrap();
        assert_eq!(of_group.1, "CALLER_TYPES:grp", "anon calls the routine and runs its casts");
        assert_eq!(of_group.0, Verdict::Fragile, "it cannot create a function yet");
    }
}
