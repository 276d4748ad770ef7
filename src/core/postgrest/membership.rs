//! Whether the role that PostgREST logs in as may become a member of another role.

use crate::catalog::Role;
use crate::explain::no_role_of_requests;
use crate::fix::grant_set_role;
use crate::rules::Context;

/// Returns the GRANT by which requests can become a role; `None` where it must not be given, or
/// where the contract does not declare the role as one of requests.
pub(super) fn grant_membership(cx: &Context<'_>, role: &Role, login: &Role) -> Option<String> {
    let is_declared = cx.is_subject(role.oid);
    let is_given = is_declared && reason_against(cx, role).is_none();
    is_given.then(|| grant_set_role(cx.snapshot, role.oid, login.oid))
}

/// Returns why requests must not become a role, as a clause after "which"; `None` where nothing
/// speaks against it.
pub(super) fn reason_against(cx: &Context<'_>, role: &Role) -> Option<&'static str> {
    no_role_of_requests(cx, role, owns_objects(cx, role))
}

/// Whether a role owns the database, or an object that the snapshot contains.
fn owns_objects(cx: &Context<'_>, role: &Role) -> bool {
    let snapshot = cx.snapshot;
    snapshot.database.owner == role.oid
        || snapshot.schemas.iter().any(|schema| schema.owner == role.oid)
        || snapshot.relations.iter().any(|relation| relation.owner == role.oid)
        || snapshot.routines.iter().any(|routine| routine.owner == role.oid)
}
