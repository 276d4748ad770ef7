//! Views whose new query shows clients rows of a relation that the earlier one did not
//! read, and views over a table that gets another child: the contract declares no queries, so that
//! only the two states show the difference.

use super::loosened::clients;
use super::opened::earlier;
use crate::catalog::{Oid, Privileges, Relation, Role};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Finding};
use crate::rule::Rule;
use crate::rules::{Context, undeclared_view_readable, view_privileges};

/// A view with the relations that it reads, directly or through other views, and did not read
/// before.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Widened {
    pub view: Oid,
    pub reads: Vec<Oid>,
    pub how: Reading,
    /// Whether it is the view that had its name before.
    pub existed: bool,
}

/// How a view has come to read a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// By its query, or by that of a view that it reads.
    Query,
    /// The relation has become a child or partition of one that it reads.
    Inheritance,
}

/// A relation that a view shows to clients which may not read it.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Shown<'a> {
    pub view: &'a Relation,
    pub relation: &'a Relation,
    pub clients: Vec<&'a Role>,
    /// Whether the contract declares the relation.
    pub is_declared: bool,
    /// Whether the contract governs the schema of the relation.
    pub is_governed: bool,
    /// Whether the contract declares the view.
    pub is_view_declared: bool,
    pub how: Reading,
    pub existed: bool,
}

/// Returns what the views show to clients in addition to what the contract permits these to read. A
/// view with `security_invoker` shows nothing more than its caller can read. Of a view that the
/// contract does not declare, that clients read it is a finding, except for those that read it
/// before.
#[must_use]
pub fn shown<'a>(before: &Context<'_>, cx: &Context<'a>, views: &[Widened]) -> Vec<Shown<'a>> {
    let mut found = Vec::new();
    for widened in views {
        cx.check_interrupts();
        let view = cx.snapshot.relation(widened.view).filter(|view| !view.security_invoker);
        let Some((view, schema)) = view.and_then(|view| Some((view, cx.governed(view.schema)?)))
        else {
            continue;
        };
        let is_view_declared = cx.contract.view(&schema.name, &view.name).is_some();
        let mut readers = clients(cx, view, &[Privileges::SELECT]);
        if !is_view_declared {
            readers.retain(|client| could_read(before, cx, view, client));
        }
        let (how, existed) = (widened.how, widened.existed);
        // A partition is read through its table.
        let is_table =
            |r: &&Relation| r.kind.is_table() && (how == Reading::Inheritance || !r.is_partition);
        let relations = widened.reads.iter().filter_map(|oid| cx.snapshot.relation(*oid));
        for relation in relations.filter(is_table) {
            let schema = cx.governed(relation.schema);
            let may_read = |client: &Role| match schema {
                Some(schema) => {
                    let declared = cx.declared_on_some_column(relation, schema, client);
                    declared.contains(Privileges::SELECT)
                }
                // The contract says nothing about it: it shows nothing new to those that can read
                // it themselves.
                None => {
                    cx.reaches(client, relation)
                        && cx.has_privilege_on_a_column(client, relation, Privileges::SELECT)
                }
            };
            let mut clients = readers.clone();
            clients.retain(|client| !may_read(client));
            if !clients.is_empty() {
                let is_declared = schema.is_some_and(|schema| {
                    cx.contract.declares_relation(&schema.name, &relation.name)
                });
                found.push(Shown {
                    view,
                    relation,
                    clients,
                    is_declared,
                    is_governed: schema.is_some(),
                    is_view_declared,
                    how,
                    existed,
                });
            }
        }
    }
    found
}

/// Whether a client could read a view before. The earlier state has those that have been changed:
/// of others, the query of a view that they read is another one.
fn could_read(before: &Context<'_>, cx: &Context<'_>, view: &Relation, client: &Role) -> bool {
    earlier(before, cx, view).is_none_or(|earlier| {
        before.snapshot.role(client.oid).is_some_and(|client| {
            before.has_privilege_on_a_column(client, earlier, Privileges::SELECT)
                && before.reaches(client, earlier)
        })
    })
}

impl Shown<'_> {
    /// Returns the strongest action about it. Views are what clients read declared tables through,
    /// and the contract does not say which ones. Of a table that it does not declare, it permits
    /// clients nothing; but that an undeclared view shows a table is no regression of the view, and
    /// partitions are attached in the same way as other tables.
    #[must_use]
    pub fn at_most(&self) -> GuardAction {
        let is_new_table = !self.is_declared && self.how == Reading::Query;
        if is_new_table && self.is_view_declared { GuardAction::Block } else { GuardAction::Warn }
    }

    /// Returns the rule whose guard action and exemptions count.
    #[must_use]
    pub fn rule(&self) -> &'static Rule {
        if self.is_view_declared { &view_privileges::RULE } else { &undeclared_view_readable::RULE }
    }

    /// Returns the finding about it, for exemptions.
    #[must_use]
    pub fn finding(&self, cx: &Context<'_>) -> Finding {
        let relation = cx.snapshot.relation_identity(self.relation);
        Draft::new(cx.relation_object(self.view), Severity::Error, String::new())
            .key(format!("shows {relation}"))
            .finish(self.rule(), cx.severity(self.rule()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::rules::testing::World;

    /// Returns what the declared view v_judgment_pipeline shows if it also reads `table`.
    fn found(world: &World, table: &str) -> Vec<(GuardAction, Vec<String>)> {
        found_by(Reading::Query, world, table)
    }

    fn found_by(how: Reading, world: &World, table: &str) -> Vec<(GuardAction, Vec<String>)> {
        let oid = |name: &str| {
            let relations = world.snapshot.relations.iter();
            relations.filter(|r| r.name == name).map(|r| r.oid).next().unwrap()
        };
        let (view, reads) = (oid("v_judgment_pipeline"), vec![oid(table)]);
        let widened = Widened { view, reads, how, existed: true };
        let snapshot = world.snapshot.clone().complete();
        let (access, contract) = (Access::new(&snapshot), world.contract.clone());
        let cx = Context::new(&contract, &snapshot, &access, &|| {});
        let names = |shown: &Shown<'_>| shown.clients.iter().map(|c| c.name.clone()).collect();
        shown(&cx, &cx, &[widened]).iter().map(|one| (one.at_most(), names(one))).collect()
    }

    #[test]
    fn declared_view_that_reads_another_table_shows_it_to_clients() {
        let mut world = World::conforming();
        let both = ["anon", "authenticated"].map(String::from).to_vec();
        assert_eq!(found(&world, "judgments"), [(GuardAction::Warn, vec!["anon".into()])]);
        assert_eq!(found(&world, "job_queue"), [(GuardAction::Warn, both.clone())]);
        world.contract.tables.retain(|table| table.name != "job_queue");
        assert_eq!(found(&world, "job_queue"), [(GuardAction::Block, both.clone())]);
        let attached = found_by(Reading::Inheritance, &world, "job_queue");
        assert_eq!(attached, [(GuardAction::Warn, both.clone())]);
        world.relation("public.job_queue").is_partition = true;
        assert_eq!(found(&world, "job_queue"), [], "it is read through its table");
        assert_eq!(found_by(Reading::Inheritance, &world, "job_queue"), attached);
        world.relation("public.job_queue").is_partition = false;
        world.relation("public.v_judgment_pipeline").security_invoker = true;
        assert_eq!(found(&world, "job_queue"), []);
        world.relation("public.v_judgment_pipeline").security_invoker = false;
        world.contract.views.retain(|view| view.name != "v_judgment_pipeline");
        assert_eq!(found(&world, "job_queue"), [(GuardAction::Warn, both)], "read before as well");
    }

    #[test]
    fn table_of_a_schema_that_is_not_governed_is_shown_to_those_that_cannot_read_it() {
        let mut world = World::conforming();
        let mut schema = world.schema("api").clone();
        (schema.oid, schema.name, schema.acl) = (900, "auth".into(), Some(vec![].into()));
        world.snapshot.schemas.push(schema);
        let mut table = world.relation("public.judgments").clone();
        (table.oid, table.name, table.schema, table.acl) =
            (901, "users".into(), 900, Some(vec![].into()));
        world.add_relation(table);
        let both = ["anon", "authenticated"].map(String::from).to_vec();
        assert_eq!(found(&world, "users"), [(GuardAction::Block, both.clone())]);
        let attached = found_by(Reading::Inheritance, &world, "users");
        assert_eq!(attached, [(GuardAction::Warn, both.clone())]);
        let anon = world.role("anon").oid;
        world.grant("auth.users", anon, Privileges::SELECT);
        assert_eq!(found(&world, "users"), [(GuardAction::Block, both)], "without USAGE");
        world.grant_schema("auth", anon, Privileges::USAGE);
        let left = vec!["authenticated".to_owned()];
        assert_eq!(found(&world, "users"), [(GuardAction::Block, left)], "anon reads it anyway");
    }

    #[test]
    fn undeclared_view_is_reported_for_clients_that_could_read_it_before() {
        let mut after = World::conforming();
        after.contract.views.retain(|view| view.name != "v_judgment_pipeline");
        let mut before = after.clone();
        before.relation("public.v_judgment_pipeline").acl = None;
        let view = after.relation("public.v_judgment_pipeline").oid;
        let reads = vec![after.relation("public.job_queue").oid];
        let widened = [Widened { view, reads, how: Reading::Query, existed: true }];
        let count = |before: &World| {
            before.compared_with(&after, |old, new| shown(old, new, &widened).len())
        };
        assert_eq!(count(&before), 0, "the rule about undeclared views reports it");
        assert_eq!(count(&after), 1);
    }
}
