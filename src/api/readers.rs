//! The privileges on the extension's own functions and views that a contract gives its readers and
//! deployers. CREATE EXTENSION grants what the shipped contract says (the installation script).
//!
//! Another list requires a superuser: a role that may load contracts could otherwise give the
//! audits, and the statements of other roles in the log, to any role.

use super::permission::FOR_AUTHORS;
use crate::catalog::{self, Own};
use crate::pg::heap::{State, interrupts};
use crate::pg::report::Report;
use crate::pg::statement;
use crate::pg::text::to_server;
use dragonfly_core::catalog::extension::{API_SCHEMA, SCHEMA};
use dragonfly_core::catalog::{Acl, AclItem, Oid, Privileges};
use dragonfly_core::contract::{Contract, OpsAccess, OpsRoles};
use dragonfly_core::sql::{listed, printable, safe_ident};
use pgrx::{PgSqlErrorCode, pg_sys};
use std::collections::BTreeSet;
use std::ffi::CString;

/// Raises an error where the contract `later` has other readers or deployers than `earlier`, and
/// the current role is not a superuser.
pub(super) fn check(earlier: &Contract, later: &Contract) {
    if is_superuser() || earlier.ops_roles() == later.ops_roles() {
        return;
    }
    Report {
        message: "permission denied to change who can read the audits and deploy".into(),
        detail: format!(
            "The readers or deployers of contract {} differ from those of contract {}, and only \
             a superuser can grant privileges on functions of the extension.",
            later.version, earlier.version
        ),
        hint: "Leave \"readers\" and \"deployers\" as they are in ops.contract(), or load the \
               contract as a superuser."
            .into(),
    }
    .error(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE)
}

/// Grants and revokes what differs between `earlier` and `later`, which has been put into force,
/// and grants what a role lacks that `later` names. Where the current role is not a superuser,
/// nothing differs, and nothing is done.
pub(super) fn apply(own: &Own, earlier: &Contract, later: &Contract) {
    if !is_superuser() {
        return;
    }
    let (before, after) = (earlier.ops_roles(), later.ops_roles());
    let state = State::now();
    let objects = objects(&state, own);
    let mut missing = Vec::new();
    for name in before.keys().chain(after.keys()).copied().collect::<BTreeSet<&str>>() {
        interrupts();
        let is_named = later.names_in_ops(name);
        match role(name) {
            Some(oid) => {
                let change = Change { from: access(&before, name), to: access(&after, name) };
                change.apply(&objects, oid, name, is_named);
            }
            None if is_named => missing.push(format!("\"{}\"", printable(name))),
            None => {}
        }
    }
    report_missing(&missing);
}

fn access(roles: &OpsRoles<'_>, name: &str) -> OpsAccess {
    roles.get(name).copied().unwrap_or_default()
}

/// Whether the current role is a superuser.
pub(super) fn is_superuser() -> bool {
    // SAFETY: reads the role of the session.
    unsafe { pg_sys::superuser() }
}

/// Returns the OID of a role; `None` where it does not exist.
fn role(name: &str) -> Option<Oid> {
    let name = CString::new(to_server(name)).ok()?;
    // SAFETY: a lookup in the system cache; 0 where there is no such role.
    Some(unsafe { pg_sys::get_role_oid(name.as_ptr(), true) }.to_u32()).filter(|oid| *oid != 0)
}

/// The kind of an object that readers or deployers may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Schema,
    Function,
    View,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Schema, Self::Function, Self::View];

    /// Returns how GRANT names the kind.
    fn keyword(self) -> &'static str {
        match self {
            Self::Schema => "SCHEMA",
            Self::Function => "FUNCTION",
            Self::View => "TABLE",
        }
    }

    fn privilege(self) -> Privileges {
        match self {
            Self::Schema => Privileges::USAGE,
            Self::Function => Privileges::EXECUTE,
            Self::View => Privileges::SELECT,
        }
    }
}

/// An object that readers or deployers may use.
struct Usable {
    kind: Kind,
    name: String,
    acl: Acl,
    owner: Option<Oid>,
    /// What a role must be that may use it.
    requires: OpsAccess,
}

impl Usable {
    /// Returns what the ACL grants to a role.
    fn granted_to(&self, role: Oid) -> impl Iterator<Item = &AclItem> {
        let privilege = self.kind.privilege();
        self.acl
            .iter()
            .filter(move |item| item.grantee == role && item.privileges.contains(privilege))
    }

    /// Whether a role has the privilege as a contract or CREATE EXTENSION grants it: by the owner,
    /// without grant option. USAGE on the schema may be for other objects in it.
    fn is_granted_by_contract(&self, role: Oid) -> bool {
        let privilege = self.kind.privilege();
        let is_plain = |item: &AclItem| {
            Some(item.grantor) == self.owner && !item.grantable.contains(privilege)
        };
        self.kind != Kind::Schema && self.granted_to(role).any(is_plain)
    }
}

/// Returns schema `ops`, and the extension's functions and views in it. A view calls its function
/// with the privileges of the role that reads it.
fn objects(state: &State, own: &Own) -> Vec<Usable> {
    let base = catalog::base(state).complete();
    let schema = base.schema_named(API_SCHEMA).map(|schema| Usable {
        kind: Kind::Schema,
        name: API_SCHEMA.to_owned(),
        acl: schema.acl.clone().unwrap_or_default(),
        owner: Some(schema.owner),
        requires: OpsAccess::Read,
    });
    let mut found: Vec<Usable> = schema.into_iter().collect();
    own.members(state, |class, object| {
        let Some((schema, name)) = catalog::name(class, object) else { return };
        let is_called_by_view = schema == SCHEMA && name == "exemptions";
        if class == catalog::PG_PROC && (schema == API_SCHEMA || is_called_by_view) {
            let is_for_authors = FOR_AUTHORS.contains(&name.as_str());
            found.push(Usable {
                kind: Kind::Function,
                name: catalog::signature(object),
                acl: catalog::routine_acl(state, object),
                owner: catalog::routine_owner(state, object),
                requires: if is_for_authors { OpsAccess::Deploy } else { OpsAccess::Read },
            });
        } else if class == catalog::PG_CLASS && schema == API_SCHEMA {
            found.push(Usable {
                kind: Kind::View,
                name: catalog::qualified_name(state, class, object).unwrap_or(name),
                acl: catalog::relation_acl(state, object),
                owner: catalog::relation_owner(state, object),
                requires: OpsAccess::Read,
            });
        }
    });
    found
}

/// The change of what one role may do.
#[derive(Clone, Copy)]
struct Change {
    from: OpsAccess,
    to: OpsAccess,
}

impl Change {
    /// Executes the statements for one role. `is_named`: the new contract itself names it.
    fn apply(self, objects: &[Usable], oid: Oid, name: &str, is_named: bool) {
        let Self { from, to } = self;
        let lacks = |object: &&Usable| {
            (to > from || is_named)
                && object.requires <= to
                && object.granted_to(oid).next().is_none()
        };
        let loses = |object: &&Usable| {
            object.requires > to && object.requires <= from && object.is_granted_by_contract(oid)
        };
        let role = safe_ident(name);
        for kind in Kind::ALL {
            let of_kind = || objects.iter().filter(|object| object.kind == kind);
            let (privilege, keyword) = (kind.privilege(), kind.keyword());
            if let Some(names) = names(of_kind().filter(lacks)) {
                execute(&format!("GRANT {privilege} ON {keyword} {names} TO {role}"));
            }
            if let Some(names) = names(of_kind().filter(loses)) {
                execute(&format!("REVOKE {privilege} ON {keyword} {names} FROM {role}"));
            }
        }
    }
}

/// Returns the names of objects as a list for GRANT; `None` where there is no object.
fn names<'u>(objects: impl Iterator<Item = &'u Usable>) -> Option<String> {
    let names: Vec<&str> = objects.map(|object| object.name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Executes a statement, as the superuser that the current role is.
fn execute(sql: &str) {
    if let Err(rejected) = statement::run(sql) {
        pgrx::error!("{}: {sql}", rejected.code());
    }
}

fn report_missing(missing: &[String]) {
    let [first, others @ ..] = missing else { return };
    let (subject, verb) = if others.is_empty() {
        (format!("role {first}"), "does")
    } else {
        (format!("roles {}", listed(missing)), "do")
    };
    Report {
        message: format!("{subject} {verb} not exist and cannot read the audits"),
        detail: "The contract names it among its readers or deployers.".into(),
        hint: "Create the role, then load the contract with the next version.".into(),
    }
    .notice();
}
