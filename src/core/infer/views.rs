//! Which privileges of a client on a view strict inference declares.

use super::objects::{Objects, row_security_restricts};
use crate::catalog::{
    Command, Holder, Oid, PartKind, Privileges, Relation, RelationKind, Role, Use,
};
use std::collections::HashSet;

impl Objects<'_, '_> {
    /// Returns which of the privileges that a client holds on a view are declared in strict mode:
    /// SELECT at most. SELECT is declared if row security restricts what the client reads through
    /// the view, as on a table, and otherwise if it seems deliberate: not given by GRANT ALL or by
    /// default privileges.
    pub(super) fn kept_on_view(
        &self,
        view: &Relation,
        client: &Role,
        held: Privileges,
    ) -> Privileges {
        let select = held & Privileges::SELECT;
        if select.is_empty() || self.reads_own_rows(view, client) {
            return select;
        }
        let acl = view.acl.clone().unwrap_or_default();
        // What does not work counts as well: it shows how the others were granted.
        let all = self.roles.privileges_in(&acl).get(&client.oid).copied().unwrap_or_default();
        let by_default = self.by_default(client.oid, view.schema, b'r', all);
        let is_deliberate =
            !all.contains(Privileges::ALL_ON_TABLE) && !by_default.contains(Privileges::SELECT);
        if is_deliberate { select } else { Privileges::NONE }
    }

    /// Whether a view reads something, and all rows that a client reads through it come from tables
    /// whose row security restricts the client itself.
    fn reads_own_rows(&self, view: &Relation, client: &Role) -> bool {
        let mut visited = HashSet::new();
        let mut queue = vec![view];
        while let Some(view) = queue.pop() {
            self.cx.check_interrupts();
            if view.kind != RelationKind::View || self.used_by_query(view).next().is_none() {
                return false;
            }
            for used in self.used_by_query(view) {
                match used {
                    Use::Relation(oid) | Use::Column(oid, _) | Use::AnyColumn(oid, _) => {
                        let Some(read) = self.find_relation(*oid) else { return false };
                        // The server checks the relations of a security_invoker view as if the
                        // statement had named them, also below a view of another kind.
                        let is_restricted = view.security_invoker
                            && self.restricts_reading(read, client)
                            || read.kind == RelationKind::Sequence;
                        if !is_restricted && visited.insert(read.oid) {
                            queue.push(read);
                        }
                    }
                    Use::Routine(oid) if self.is_definer(*oid) => return false,
                    Use::Routine(_) | Use::Type(_) => {}
                }
            }
        }
        true
    }

    fn used_by_query(&self, view: &Relation) -> impl Iterator<Item = &Use> {
        let dependencies = &self.cx.snapshot.dependencies;
        let parts = dependencies.parts_of(Holder::Relation(view.oid)).iter();
        let parts = parts.map(|place| dependencies.part(*place));
        parts.filter(|part| part.kind == PartKind::Query).flat_map(|part| &part.uses)
    }

    fn find_relation(&self, oid: Oid) -> Option<&Relation> {
        let snapshot = self.cx.snapshot;
        snapshot.relation(oid).or_else(|| snapshot.dependencies.relation(oid))
    }

    /// Whether row security restricts which rows of a table a client reads.
    fn restricts_reading(&self, table: &Relation, client: &Role) -> bool {
        table.kind.is_table()
            && row_security_restricts(table, client)
            && self.declared_commands(table, client).contains(&Command::Select)
    }

    fn is_definer(&self, routine: Oid) -> bool {
        let snapshot = self.cx.snapshot;
        snapshot
            .routine(routine)
            .or_else(|| snapshot.dependencies.routine(routine))
            .is_some_and(|routine| routine.security_definer)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{inferred, strict_world};
    use super::*;
    use crate::catalog::{AclItem, DefaultAcl, Dependencies, Part, Routine};
    use crate::contract::granted_to;
    use crate::rules::testing::World;
    use std::rc::Rc;

    const VIEW: &str = "public.v_judgment_pipeline";
    const OTHER_VIEW: &str = "ops.v_reaper_status";
    /// `authenticated` reads some rows of it.
    const TABLE: &str = "public.judgments";
    /// It has no row security.
    const OPEN_TABLE: &str = "public.plaintiff_tasks";

    /// Returns a world in which one view reads a relation.
    fn reading(relation: &str) -> World {
        let mut world = strict_world();
        let read = Use::Column(world.relation(relation).oid, "id".into());
        set(&mut world, &[(VIEW, vec![read])]);
        world
    }

    fn set(world: &mut World, queries: &[(&str, Vec<Use>)]) {
        let query = |(view, uses): &(&str, Vec<Use>)| Part {
            holder: Holder::Relation(world.relation(view).oid),
            kind: PartKind::Query,
            name: "_RETURN".into(),
            uses: uses.clone(),
        };
        let parts = queries.iter().map(query).collect();
        world.snapshot.dependencies = Rc::new(Dependencies::new(parts, &[]));
    }

    /// Replaces the privileges of `authenticated` on the view, and returns those that are declared.
    fn declared(world: &World, held: Privileges) -> Privileges {
        let mut world = world.clone();
        let client = world.role("authenticated").oid;
        let acl = world.relation(VIEW).acl.as_mut().unwrap();
        acl.retain(|item| item.grantee != client);
        world.grant(VIEW, client, held);
        let (contract, _) = inferred(&world);
        granted_to(&contract.view("public", "v_judgment_pipeline").unwrap().grants, "authenticated")
    }

    const READS: Privileges = Privileges::SELECT;

    #[test]
    fn select_beside_writes_is_declared_and_the_writes_are_not() {
        for invoker in [false, true] {
            let mut world = reading(TABLE);
            world.relation(VIEW).security_invoker = invoker;
            for write in [Privileges::INSERT, Privileges::UPDATE, Privileges::DELETE] {
                assert_eq!(declared(&world, READS | write), READS, "{invoker}");
                assert_eq!(declared(&world, write), Privileges::NONE, "{invoker}");
            }
        }
    }

    #[test]
    fn select_by_grant_all_is_declared_where_row_security_restricts_it() {
        let all = Privileges::ALL_ON_TABLE;
        let mut world = reading(TABLE);
        assert_eq!(declared(&world, all), Privileges::NONE, "read as the owner of the view");
        world.relation(VIEW).security_invoker = true;
        assert_eq!(declared(&world, all), READS);
        let mut open = reading(OPEN_TABLE);
        open.relation(VIEW).security_invoker = true;
        assert_eq!(declared(&open, all), Privileges::NONE, "the table has no row security");
        // A view of both tables, and one that calls a SECURITY DEFINER routine.
        let [table, open] =
            [TABLE, OPEN_TABLE].map(|name| Use::Column(world.relation(name).oid, "id".into()));
        set(&mut world, &[(VIEW, vec![table.clone(), open])]);
        assert_eq!(declared(&world, all), Privileges::NONE);
        world.snapshot.routines.push(Routine { oid: 70_000, ..Routine::default() });
        set(&mut world, &[(VIEW, vec![table, Use::Routine(70_000)])]);
        assert_eq!(declared(&world, all), READS);
        world.snapshot.routines.last_mut().unwrap().security_definer = true;
        assert_eq!(declared(&world, all), Privileges::NONE);
    }

    #[test]
    fn select_through_two_views_is_declared_where_row_security_restricts_it() {
        let mut world = reading(TABLE);
        let [outer_reads, inner_reads] = [OTHER_VIEW, TABLE]
            .map(|name| vec![Use::Column(world.relation(name).oid, "id".into())]);
        set(&mut world, &[(VIEW, outer_reads), (OTHER_VIEW, inner_reads)]);
        for (outer, inner, expected) in [
            (true, true, READS),
            (false, true, READS),
            (true, false, Privileges::NONE),
            (false, false, Privileges::NONE),
        ] {
            world.relation(VIEW).security_invoker = outer;
            world.relation(OTHER_VIEW).security_invoker = inner;
            assert_eq!(declared(&world, Privileges::ALL_ON_TABLE), expected, "{outer} {inner}");
        }
    }

    #[test]
    fn only_default_privileges_that_contain_select_make_it_undeclared() {
        let mut world = reading(OPEN_TABLE);
        let (client, owner) = (world.role("authenticated").oid, world.role("postgres").oid);
        let schema = world.schema("public").oid;
        for (by_default, expected) in [
            (Privileges::INSERT, READS),
            (READS, Privileges::NONE),
            (READS | Privileges::INSERT, Privileges::NONE),
        ] {
            let item = AclItem {
                grantee: client,
                grantor: owner,
                privileges: by_default,
                grantable: Privileges::NONE,
            };
            let defaults =
                DefaultAcl { role: owner, schema, object_type: b'r', acl: vec![item].into() };
            world.snapshot.default_acls = vec![defaults];
            assert_eq!(declared(&world, READS | Privileges::INSERT), expected, "{by_default}");
        }
    }
}
