//! What a role could do through PUBLIC before: where it has the same through a membership now, as
//! after GRANT to a group and REVOKE from PUBLIC, it can do nothing new.

use crate::access::Access;
use crate::catalog::{Acl, ObjectId, ObjectKind, Oid, Privileges, Relation, Routine};
use crate::finding::Draft;
use crate::rules::Context;
use std::borrow::Cow;

/// Whether a draft is about privileges that a role has through memberships only, and had through
/// PUBLIC before, on an object that is otherwise the same.
///
/// A rule may say nothing about PUBLIC, or only warn of the privilege that the server grants on
/// every new routine, so that a comparison of findings does not show it. That privilege does not
/// excuse a GRANT that names the role.
pub(super) fn was_held_through_public(
    before: &Context<'_>,
    after: &Context<'_>,
    draft: &Draft,
) -> bool {
    let is_excess = draft.evidence["problem"] == "undeclared" && !draft.is_to_public;
    let role = draft.role.as_ref().filter(|_| is_excess);
    let Some(role) = role.and_then(|name| after.snapshot.role_named(name)) else { return false };
    let Some(Acls { before, after }) = acls(before, after, draft) else { return false };
    let all = |acls: &[Cow<'_, Acl>], of: &dyn Fn(&Acl) -> Privileges| {
        acls.iter().fold(Privileges::NONE, |all, acl| all | of(acl))
    };
    let had = all(&before, &|acl| Access::public(acl)).words();
    let own = all(&after, &|acl| granted_to(acl, role.oid)).words();
    draft.measure.extent.iter().all(|part| had.contains(part) && !own.contains(part))
}

/// The ACLs that give privileges on the object of a draft: its own and, for a column, that of the
/// table.
struct Acls<'a> {
    before: Vec<Cow<'a, Acl>>,
    after: Vec<Cow<'a, Acl>>,
}

/// Returns the ACLs in both states; `None` where the object did not exist before, or where the
/// same privileges mean more now.
fn acls<'a>(before: &Context<'a>, after: &Context<'a>, draft: &Draft) -> Option<Acls<'a>> {
    let (before, after) = match draft.object.id {
        ObjectId::Routine(oid) => {
            let (old, new) = (before.snapshot.routine(oid)?, after.snapshot.routine(oid)?);
            let is_same = (old.owner, old.security_definer) == (new.owner, new.security_definer)
                && before.is_reachable(old.schema) == after.is_reachable(new.schema);
            is_same.then(|| (vec![of_routine(old)], vec![of_routine(new)]))?
        }
        ObjectId::Relation(oid) => {
            let (old, new) = (before.snapshot.relation(oid)?, after.snapshot.relation(oid)?);
            let is_same = (old.owner, old.security_invoker) == (new.owner, new.security_invoker)
                && old.row_security <= new.row_security;
            let column = draft.evidence["column"].as_str();
            is_same.then(|| (of_relation(old, column), of_relation(new, column)))?
        }
        _ => return None,
    };
    Some(Acls { before, after })
}

fn of_routine(routine: &Routine) -> Cow<'_, Acl> {
    let default = || Cow::Owned(ObjectKind::Routine.default_acl(routine.owner));
    routine.acl.as_ref().map_or_else(default, Cow::Borrowed)
}

/// Returns the ACL of a relation, if it has one, and that of a column.
fn of_relation<'a>(relation: &'a Relation, column: Option<&str>) -> Vec<Cow<'a, Acl>> {
    let is_it = |name: &str| column.is_some_and(|column| column == name);
    let columns = relation.columns.iter().filter(|(name, _)| is_it(name)).map(|(_, acl)| acl);
    relation.acl.iter().chain(columns).map(Cow::Borrowed).collect()
}

/// Returns the privileges that an ACL gives to a role by its name.
fn granted_to(acl: &Acl, role: Oid) -> Privileges {
    let own = acl.iter().filter(|item| item.grantee == role);
    own.fold(Privileges::NONE, |all, item| all | item.privileges)
}
