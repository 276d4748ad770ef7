//! What roles can do through declared views, and through declared routines with a parsed body: the
//! server checks what these access as another role, the owner, whose privileges and rows the
//! contract does not declare. Only the two states show that it can do less, or sees more.

use crate::access::Access;
use crate::catalog::{
    Acl, Command, Oid, Policy, Privileges, Relation, RelationKind, Role, Routine, Snapshot,
};
use crate::contract::Severity;
use crate::finding::{Draft, Finding};
use crate::rule::Rule;
use crate::rules::{
    AccessNeeds, Context, NeedOnRelation, Needs, rls_policy_missing, routine_privileges,
    view_privileges,
};
use std::collections::HashSet;
use std::mem::discriminant;

/// A declared view or routine through which roles access a relation.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Way<'a> {
    View(&'a Relation),
    Routine(&'a Routine),
}

/// What has changed about an access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// The server denies it: the role does not have these privileges.
    Denied(Privileges),
    /// Row security of the relation now hides every row.
    Hidden,
    /// Row security of the relation restricts the rows no longer.
    Shown,
}

/// A relation that a declared view or routine accesses as a role, with another result than before.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Through<'a> {
    pub way: Way<'a>,
    pub relation: &'a Relation,
    /// The role that the server checks.
    pub role: &'a Role,
    /// The role that it checked before, where it read the relation.
    pub earlier: Option<&'a Role>,
    pub changed: Changed,
    /// The roles with the declared access.
    pub users: Vec<&'a Role>,
}

impl Through<'_> {
    /// Returns the rule whose guard action and exemptions count.
    #[must_use]
    pub fn rule(&self) -> &'static Rule {
        match (&self.changed, self.way) {
            (Changed::Hidden, _) => &rls_policy_missing::RULE,
            (_, Way::View(_)) => &view_privileges::RULE,
            (_, Way::Routine(_)) => &routine_privileges::RULE,
        }
    }

    /// Returns the finding about it, for exemptions.
    #[must_use]
    pub fn finding(&self, cx: &Context<'_>) -> Finding {
        let relation = cx.snapshot.relation_identity(self.relation);
        let object = match self.way {
            Way::View(view) => cx.relation_object(view),
            Way::Routine(routine) => cx.routine_object(routine),
        };
        let key = match self.changed {
            Changed::Denied(_) => format!("denied {relation}"),
            Changed::Hidden => format!("hidden {relation}"),
            Changed::Shown => format!("shows {relation}"),
        };
        Draft::new(object, Severity::Warning, String::new())
            .key(key)
            .finish(self.rule(), cx.severity(self.rule()))
    }
}

/// Returns the accesses through declared views and routines with another result than before. Both
/// catalogs have the parts of the views and routines.
#[must_use]
pub fn through<'a>(before: &Context<'a>, after: &Context<'a>) -> Vec<Through<'a>> {
    let mut found = Vec::new();
    for view in relations(after.snapshot).filter(|relation| is_view(relation)) {
        let Some(schema) = after.governed(view.schema) else { continue };
        let Some(earlier) = earlier(before.snapshot, after.snapshot, view) else { continue };
        for user in after.subjects.iter().copied() {
            after.check_interrupts();
            let declared = after.declared_on_some_column(view, schema, user);
            for command in Command::ALL.into_iter().filter(|c| declared.contains(c.privilege())) {
                if before.has_privilege_on_a_column(user, earlier, command.privilege()) {
                    let needs = |cx: &Context<'a>, view: &Relation| {
                        AccessNeeds::new(cx).of_command(view, command, user.oid)
                    };
                    let needs = [needs(before, earlier), needs(after, view)];
                    States { before, after, way: Way::View(view), user }
                        .compare(&needs, &mut found);
                }
            }
        }
    }
    let others = after.snapshot.dependencies.routines();
    for routine in after.snapshot.routines.iter().chain(others) {
        let Some(schema) = after.governed(routine.schema) else { continue };
        for user in after.subjects.iter().copied() {
            after.check_interrupts();
            if after.declares_execute(routine, schema, user) {
                let needs = |cx: &Context<'a>| AccessNeeds::new(cx).of_call(routine.oid, user.oid);
                let needs = [needs(before), needs(after)];
                States { before, after, way: Way::Routine(routine), user }
                    .compare(&needs, &mut found);
            }
        }
    }
    found
}

/// Returns the relations whose change may have another result through a view or a routine: those
/// that a role can access less than before, or whose row security is another, and views that are
/// checked as another role.
#[must_use]
pub fn concerned(before: &Snapshot, after: &Snapshot) -> Vec<Oid> {
    let is_concerned = |relation: &&Relation| match before.relation(relation.oid) {
        Some(earlier) => {
            let facts =
                |r: &Relation| (r.owner, r.row_security, r.force_row_security, r.security_invoker);
            let policies = after.policies_of(relation.oid);
            facts(earlier) != facts(relation)
                || has_lost(earlier, relation)
                || before.policies_of(earlier.oid).iter().any(|policy| !policies.contains(policy))
        }
        None => is_view(relation) && earlier(before, after, relation).is_some(),
    };
    after.relations.iter().filter(is_concerned).map(|relation| relation.oid).collect()
}

/// Whether a role that owns a view or a routine has other memberships than before, or another
/// attribute that row security depends on.
#[must_use]
pub fn owners_differ(before: &Snapshot, after: &Snapshot) -> bool {
    let views = after.relations.iter().filter(|r| is_view(r)).map(|view| view.owner);
    let routines = after.routines.iter().filter(|r| r.security_definer).map(|r| r.owner);
    let owners: HashSet<Oid> = views.chain(routines).collect();
    let (old, new) = (Access::new(before), Access::new(after));
    owners.into_iter().any(|owner| {
        let facts = |access: &Access<'_>| {
            let held = access.closure(owner, crate::access::Follow::Privileges);
            (access.is_superuser(owner), access.bypasses_row_security(owner), held)
        };
        facts(&old) != facts(&new)
    })
}

/// Whether a grantee has fewer privileges on a relation, or on one of its columns, than before.
fn has_lost(before: &Relation, after: &Relation) -> bool {
    let kind = before.kind.acl_kind();
    let default = |relation: &Relation| kind.default_acl(relation.owner);
    let acl = |r: &Relation| r.acl.clone().unwrap_or_else(|| default(r));
    let column = |name: &str| after.columns.iter().find(|(column, _)| column == name);
    before.acl != after.acl && lacks(&acl(before), &acl(after))
        || before.columns != after.columns
            && before
                .columns
                .iter()
                .any(|(name, acl)| column(name).is_none_or(|(_, now)| lacks(acl, now)))
}

/// Whether the second ACL does not have everything that the first one has.
fn lacks(before: &Acl, after: &Acl) -> bool {
    let has = |grantee: Oid| {
        let items = after.iter().filter(|item| item.grantee == grantee);
        items.fold(Privileges::NONE, |all, item| all | item.privileges)
    };
    before.iter().any(|item| !has(item.grantee).contains(item.privileges))
}

fn is_view(relation: &Relation) -> bool {
    relation.kind == RelationKind::View
}

fn relations(snapshot: &Snapshot) -> impl Iterator<Item = &Relation> {
    snapshot.relations.iter().chain(snapshot.dependencies.relations())
}

fn find(snapshot: &Snapshot, oid: Oid) -> Option<&Relation> {
    snapshot.relation(oid).or_else(|| snapshot.dependencies.relation(oid))
}

/// Returns the view that had the name of a view before, or otherwise the view itself.
fn earlier<'b>(before: &'b Snapshot, after: &Snapshot, view: &Relation) -> Option<&'b Relation> {
    let schema = after.schema_name(view.schema);
    let has_its_name =
        |other: &&Relation| other.name == view.name && before.schema_name(other.schema) == schema;
    let itself = find(before, view.oid);
    let named = itself.filter(has_its_name).or_else(|| relations(before).find(has_its_name));
    named.or(itself).filter(|earlier| is_view(earlier))
}

/// How many rows of a table row security lets a role see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rows {
    None,
    ByPolicy,
    All,
}

/// A view or routine in both states, and a role that uses it.
#[derive(Clone, Copy)]
struct States<'c, 'a> {
    before: &'c Context<'a>,
    after: &'c Context<'a>,
    way: Way<'a>,
    user: &'a Role,
}

impl<'a> States<'_, 'a> {
    fn compare(&self, [past, now]: &[Needs; 2], found: &mut Vec<Through<'a>>) {
        for (oid, role, need) in now.accesses() {
            let relation = find(self.after.snapshot, oid);
            let role = self.after.snapshot.role(role);
            let Some((relation, role)) = relation.zip(role) else { continue };
            let denied = missing(self.after, role, relation, need);
            let changed = if denied.is_empty() {
                self.rows(past, relation, role, need)
            } else {
                (!self.was_denied(past, oid, need)).then_some(Changed::Denied(denied))
            };
            if let Some(changed) = changed.filter(|c| self.is_silent(relation, role, c)) {
                let earlier = past.on_relation(oid).first();
                let earlier = earlier.and_then(|(of, _)| self.before.snapshot.role(*of));
                self.add(relation, [Some(role), earlier], changed, found);
            }
        }
    }

    /// Whether the same access was denied before.
    fn was_denied(&self, past: &Needs, relation: Oid, need: &NeedOnRelation) -> bool {
        let Some(relation) = find(self.before.snapshot, relation) else { return false };
        past.on_relation(relation.oid).iter().any(|(role, earlier)| {
            let role = self.before.snapshot.role(*role);
            (earlier.privileges, &earlier.column) == (need.privileges, &need.column)
                && role.is_some_and(|r| !missing(self.before, r, relation, earlier).is_empty())
        })
    }

    /// Whether no rule reports a change: rules are about the privileges and policies of the roles
    /// for which the contract declares them, and about tables without row security.
    fn is_silent(&self, relation: &Relation, role: &Role, changed: &Changed) -> bool {
        let is_user = role.oid == self.user.oid;
        match changed {
            Changed::Shown => {
                !is_user && relation.row_security && self.after.is_client(self.user.oid)
            }
            Changed::Hidden => !is_user || self.is_new_invoker(),
            Changed::Denied(missing) => {
                let schema = self.after.governed(relation.schema).filter(|_| is_user);
                let declares = schema.is_some_and(|schema| {
                    let declared = self.after.declared_on_some_column(relation, schema, role);
                    declared.contains(*missing)
                });
                !declares || self.is_new_invoker()
            }
        }
    }

    /// Whether the view is checked as its caller now, and as its owner before.
    fn is_new_invoker(&self) -> bool {
        let Way::View(view) = self.way else { return false };
        let earlier = earlier(self.before.snapshot, self.after.snapshot, view);
        view.security_invoker && earlier.is_some_and(|earlier| !earlier.security_invoker)
    }

    /// Compares the rows of a table that are read.
    fn rows(
        &self,
        past: &Needs,
        relation: &Relation,
        role: &Role,
        need: &NeedOnRelation,
    ) -> Option<Changed> {
        if !relation.kind.has_row_security() || !need.privileges.contains(Privileges::SELECT) {
            return None;
        }
        let earlier = find(self.before.snapshot, relation.oid)?;
        let of_role = |(role, _): &(Oid, NeedOnRelation)| {
            Some(rows(self.before, earlier, self.before.snapshot.role(*role)?))
        };
        let before = past.on_relation(relation.oid).iter().filter_map(of_role).max()?;
        match (before, rows(self.after, relation, role)) {
            (Rows::All | Rows::ByPolicy, Rows::None) => Some(Changed::Hidden),
            (Rows::None | Rows::ByPolicy, Rows::All) => Some(Changed::Shown),
            _ => None,
        }
    }

    fn add(
        &self,
        relation: &'a Relation,
        [role, earlier]: [Option<&'a Role>; 2],
        changed: Changed,
        found: &mut Vec<Through<'a>>,
    ) {
        let Some(role) = role else { return };
        let is_same = |other: &Through<'_>| {
            other.way.oid() == self.way.oid()
                && (other.relation.oid, other.role.oid) == (relation.oid, role.oid)
                && discriminant(&other.changed) == discriminant(&changed)
        };
        let place = found.iter().position(is_same).unwrap_or(found.len());
        if place == found.len() {
            let (way, changed) = (self.way, changed.clone());
            found.push(Through { way, relation, role, earlier, changed, users: vec![] });
        }
        let known = &mut found[place];
        if let (Changed::Denied(all), Changed::Denied(more)) = (&mut known.changed, changed) {
            *all |= more;
        }
        if !known.users.iter().any(|user| user.oid == self.user.oid) {
            known.users.push(self.user);
        }
    }
}

impl Way<'_> {
    fn oid(&self) -> Oid {
        match self {
            Self::View(view) => view.oid,
            Self::Routine(routine) => routine.oid,
        }
    }
}

/// Returns the privileges that a role needs and does not have.
fn missing(
    cx: &Context<'_>,
    role: &Role,
    relation: &Relation,
    need: &NeedOnRelation,
) -> Privileges {
    let missing = need.privileges & !cx.access.relation_privileges(role.oid, relation);
    let on_column = |column: &str| cx.access.column_privileges(role.oid, relation, column);
    match &need.column {
        _ if missing.is_empty() => missing,
        Some(_) if need.is_any && cx.has_privilege_on_a_column(role, relation, missing) => {
            Privileges::NONE
        }
        Some(column) => missing & !on_column(column),
        None => missing,
    }
}

/// Returns how many rows of a table a role can read (rls.c, `check_enable_rls`).
fn rows(cx: &Context<'_>, table: &Relation, role: &Role) -> Rows {
    let access = cx.access;
    let is_owner = !table.force_row_security && access.has_privileges_of(role.oid, table.owner);
    let is_exempt = access.is_superuser(role.oid) || access.bypasses_row_security(role.oid);
    if !table.row_security || is_owner || is_exempt {
        return Rows::All;
    }
    let admits = |policy: &Policy| {
        policy.permissive
            && policy.covers(Command::Select)
            && !policy.is_for_no_rows(Command::Select)
            && access.policy_applies(policy, role.oid)
    };
    if cx.policies_of(table).iter().any(admits) { Rows::ByPolicy } else { Rows::None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Dependencies, Holder, Part, PartKind, Use};
    use crate::rules::testing::World;
    use std::rc::Rc;

    const VIEW: &str = "public.v_judgment_pipeline";
    const TABLE: &str = "public.judgments";

    /// A world in which the declared view reads a declared table as role "reader", which may.
    fn world() -> World {
        let mut world = World::conforming();
        world.add_role("reader");
        let reader = world.role("reader").oid;
        world.relation(VIEW).owner = reader;
        world.grant(TABLE, reader, Privileges::SELECT);
        let (view, table) = (world.relation(VIEW).oid, world.relation(TABLE).oid);
        let parts = vec![Part {
            holder: Holder::Relation(view),
            kind: PartKind::Query,
            name: String::new(),
            uses: vec![Use::Column(table, "id".into())],
        }];
        world.snapshot.dependencies = Rc::new(Dependencies::new(parts, &[]));
        world.snapshot.policies.retain(|policy| policy.relation != table);
        world.snapshot.policies.push(Policy {
            oid: 9001,
            name: "some".into(),
            relation: table,
            permissive: true,
            roles: vec![reader],
            ..Policy::default()
        });
        world
    }

    /// Returns what changes from `before` to `after`, with the number of users.
    fn found(before: &World, after: &World) -> Vec<(String, Changed, usize)> {
        before.compared_with(after, |old, new| {
            assert!(
                !concerned(old.snapshot, new.snapshot).is_empty()
                    || owners_differ(old.snapshot, new.snapshot)
            );
            let line = |t: &Through<'_>| (t.role.name.clone(), t.changed.clone(), t.users.len());
            through(old, new).iter().map(line).collect()
        })
    }

    fn one(role: &str, changed: Changed, users: usize) -> Vec<(String, Changed, usize)> {
        vec![(role.into(), changed, users)]
    }

    #[test]
    fn owner_of_a_view_that_loses_what_it_reads_ends_declared_access() {
        let (before, mut after) = (world(), world());
        let reader = after.role("reader").oid;
        let acl = after.relation(TABLE).acl.as_mut().unwrap();
        acl.retain(|item| item.grantee != reader);
        let users = found(&before, &after).first().map_or(0, |found| found.2);
        assert!(users >= 2, "anon and authenticated");
        assert_eq!(
            found(&before, &after),
            one("reader", Changed::Denied(Privileges::SELECT), users)
        );
        assert_eq!(
            found(&after, &{
                let mut other = after.clone();
                other.relation(TABLE).force_row_security = false;
                other
            }),
            [],
            "it failed before"
        );
        let mut columns = after.clone();
        columns.grant_column(TABLE, "id", reader, Privileges::SELECT);
        assert_eq!(found(&before, &columns), [], "the column is enough");
    }

    #[test]
    fn view_that_is_checked_as_its_callers_needs_their_privileges() {
        let (before, mut after) = (world(), world());
        after.relation(VIEW).security_invoker = true;
        let denied = found(&before, &after);
        let is_client = |(role, changed, _): &(String, Changed, usize)| {
            role == "anon" && *changed == Changed::Denied(Privileges::SELECT)
        };
        assert!(denied.iter().any(is_client), "{denied:?}");
        assert!(denied.iter().all(|(role, ..)| role != "reader"), "{denied:?}");
    }

    #[test]
    fn row_security_that_hides_or_shows_what_a_view_reads_is_found() {
        let before = world();
        let mut hidden = world();
        hidden.snapshot.policies.retain(|policy| policy.oid != 9001);
        let users = found(&before, &hidden).first().map_or(0, |found| found.2);
        assert_eq!(found(&before, &hidden), one("reader", Changed::Hidden, users));
        // The owner of the table, restricted by FORCE.
        let owned = |force: bool| {
            let mut world = hidden.clone();
            let reader = world.role("reader").oid;
            let table = world.relation(TABLE);
            (table.owner, table.force_row_security) = (reader, force);
            world
        };
        assert_eq!(found(&owned(false), &owned(true)), one("reader", Changed::Hidden, users));
        let shown = found(&owned(true), &owned(false));
        assert!(matches!(&shown[..], [(role, Changed::Shown, _)] if role == "reader"), "{shown:?}");
        let mut bypassing = world();
        bypassing.role("reader").bypass_rls = true;
        let shown = found(&before, &bypassing);
        assert!(matches!(&shown[..], [(role, Changed::Shown, _)] if role == "reader"), "{shown:?}");
        let mut of_root = world();
        let root = of_root.role("root").oid;
        of_root.relation(VIEW).owner = root;
        let shown = found(&before, &of_root);
        assert!(matches!(&shown[..], [(role, Changed::Shown, _)] if role == "root"), "{shown:?}");
        let is_denied = |found: &(String, Changed, usize)| matches!(found.1, Changed::Denied(_));
        let restricted = found(&of_root, &before);
        assert!(restricted.iter().all(is_denied), "row security restricts it again");
    }
}
