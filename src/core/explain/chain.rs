//! How a role has a privilege: by a grant, by ownership, by membership.

use crate::access::Follow;
use crate::catalog::{Acl, ObjectKind, Oid, PUBLIC, Privileges, Relation, Role};
use crate::rules::Context;
use crate::sql::{listed, printable};

/// Predefined roles whose members have privileges that no ACL shows (pg_authid.dat).
const PREDEFINED: [(&str, Privileges); 3] = [
    ("pg_read_all_data", Privileges(Privileges::SELECT.0 | Privileges::USAGE.0)),
    (
        "pg_write_all_data",
        Privileges(
            Privileges::INSERT.0
                | Privileges::UPDATE.0
                | Privileges::DELETE.0
                | Privileges::USAGE.0,
        ),
    ),
    ("pg_maintain", Privileges::MAINTAIN),
];

/// What decides the privileges on an object.
#[derive(Clone, Copy)]
pub(super) struct Granted<'a> {
    pub owner: Oid,
    /// `None` for the built-in default privileges.
    pub acl: Option<&'a Acl>,
    pub kind: ObjectKind,
}

impl<'a> Granted<'a> {
    pub(super) fn on_relation(relation: &'a Relation) -> Self {
        let kind = relation.kind.acl_kind();
        Self { owner: relation.owner, acl: relation.acl.as_ref(), kind }
    }

    /// Returns the privileges of a role.
    pub(super) fn grants(self, cx: &Context<'_>, role: &Role) -> Privileges {
        cx.access.privileges(role.oid, self.owner, self.acl, self.kind)
    }
}

/// Returns a clause such as `, granted to it` or `, granted to PUBLIC (every role)` that lists how
/// a role has any of the wanted privileges on an object; an empty text where it has none.
pub(super) fn how(
    cx: &Context<'_>,
    role: &Role,
    Granted { owner, acl, kind }: Granted<'_>,
    wanted: Privileges,
) -> String {
    if role.superuser {
        return ", as a superuser".into();
    }
    let is_default = acl.is_none();
    let acl = acl.cloned().unwrap_or_else(|| kind.default_acl(owner));
    let mut ways: Vec<String> = Vec::new();
    let closure = cx.access.closure(role.oid, Follow::Privileges);
    for item in acl.iter().filter(|item| item.privileges.intersects(wanted)) {
        ways.extend(match item.grantee {
            PUBLIC if is_default => Some("granted to PUBLIC (every role) by default".to_owned()),
            PUBLIC => Some("granted to PUBLIC (every role)".to_owned()),
            grantee if grantee == role.oid && grantee == owner => Some("as its owner".to_owned()),
            grantee if grantee == role.oid => Some("granted to it".to_owned()),
            grantee if closure.contains(&grantee) => Some(inherited(cx, role.oid, grantee, owner)),
            _ => None,
        });
    }
    if kind != ObjectKind::Routine {
        let holds =
            |name: &str| cx.snapshot.role_named(name).is_some_and(|r| closure.contains(&r.oid));
        let predefined =
            PREDEFINED.iter().filter(|(name, gives)| gives.intersects(wanted) && holds(name));
        ways.extend(predefined.map(|(name, _)| format!("as a member of {}", quoted(name))));
    }
    ways.dedup();
    if ways.is_empty() { String::new() } else { format!(", {}", listed(&ways)) }
}

/// The memberships by which a role inherits the privileges of the grantee. Where there are several
/// ways, the one that was granted first.
fn inherited(cx: &Context<'_>, role: Oid, grantee: Oid, owner: Oid) -> String {
    let names: Vec<String> = cx
        .access
        .path(role, grantee, Follow::Privileges)
        .iter()
        .map(|r| quoted(&cx.snapshot.role_name(*r)))
        .collect();
    let end = if grantee == owner { ", which owns it" } else { "" };
    format!("inherited from {}{end}", names.join(", a member of "))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", printable(name))
}
