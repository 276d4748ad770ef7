//! Whether requests can become a role: PostgREST logs in as one role, and each request continues as
//! another one (SET ROLE).

use super::question::{Link, Question};
use crate::catalog::Role;
use crate::contract::RoleKind;
use crate::fix::grant_set_role;
use crate::rules::Context;
use crate::sql::{printable, safe_ident};

/// Whether requests can become the role. It is not part of the verdict, which is about what the
/// role can do then.
pub(super) fn link(cx: &Context<'_>, role: &Role, question: &Question<'_>) -> Link {
    let authenticator = question.authenticator;
    let (name, login) = (printable(&role.name), printable(authenticator));
    let step = format!("SET ROLE {}", safe_ident(&role.name));
    let information = |detail: String| Link { step: step.clone(), ok: None, detail, fix: None };
    if role.can_login {
        return information(format!("Role \"{name}\" can log in itself."));
    }
    let Some(by) = cx.snapshot.role_named(authenticator) else {
        return information(format!(
            "Role \"{login}\", from which requests become \"{name}\", does not exist."
        ));
    };
    if cx.access.can_set_role(by.oid, role.oid) {
        let detail = format!("Role \"{login}\" can become \"{name}\".");
        return Link { step, ok: Some(true), detail, fix: None };
    }
    if let Some(other) = other_login(cx, role) {
        return information(format!(
            "Role \"{}\" can become \"{name}\", and \"{login}\" cannot.",
            printable(&other.name)
        ));
    }
    if let Some(why) = no_role_of_requests(cx, role, question.owns_objects) {
        return information(format!(
            "Role \"{login}\" cannot become \"{name}\", which {why}: requests must not have its \
             privileges."
        ));
    }
    let is_declared = cx.contract.roles.iter().any(|declared| declared.name == role.name);
    let undeclared =
        if is_declared { "" } else { " The contract does not declare it as a role of requests." };
    let grant = grant_set_role(cx.snapshot, role.oid, by.oid);
    Link {
        step,
        ok: Some(false),
        detail: format!(
            "Role \"{login}\" cannot become \"{name}\": a request with that role in its token \
             fails.{undeclared}"
        ),
        fix: is_declared.then_some(grant),
    }
}

/// Returns why the role that PostgREST logs in as must not become a member of a role, as a clause
/// after "which": then every request could choose that role in its token. `None` where nothing
/// speaks against it. `owns_objects` tells whether the role owns any.
#[must_use]
pub fn no_role_of_requests(
    cx: &Context<'_>,
    role: &Role,
    owns_objects: bool,
) -> Option<&'static str> {
    let kind = cx.contract.roles.iter().find(|declared| declared.name == role.name);
    let is_subject = kind.is_some_and(|declared| declared.kind != RoleKind::Owner);
    if role.superuser {
        Some("is a superuser")
    } else if role.name.starts_with("pg_") {
        Some("is a predefined role of the server")
    } else if cx.managed_role(role.oid).is_some() {
        Some("belongs to the platform")
    } else if role.bypass_rls {
        Some("bypasses row security")
    } else if cx.is_trusted_owner(role.oid) {
        Some("the contract declares as a trusted owner")
    } else if owns_objects && !is_subject {
        Some("owns objects and is no client")
    } else {
        None
    }
}

/// Returns another role that logs in and can become a role: the role belongs to its sessions, and
/// requests need not become it.
#[must_use]
pub fn other_login<'a>(cx: &Context<'a>, role: &Role) -> Option<&'a Role> {
    let can_become = |login: &&Role| {
        login.can_login
            && !cx.is_trusted_owner(login.oid)
            && cx.access.can_set_role(login.oid, role.oid)
    };
    cx.snapshot.roles.iter().find(can_become)
}
