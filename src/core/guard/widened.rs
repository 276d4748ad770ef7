//! Declared views whose new query shows clients rows of a relation that the earlier one did not
//! read: the contract declares no queries, so that only the two states show the difference.

use crate::catalog::{Oid, Privileges, Relation, Role};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Finding};
use crate::rules::{Context, view_privileges};

/// A view with the relations that it reads, directly or through other views, and did not read
/// before.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Widened {
    pub view: Oid,
    pub reads: Vec<Oid>,
    /// Whether it is the view that had its name before.
    pub existed: bool,
}

/// A relation that a declared view shows to clients which may not read it.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Shown<'a> {
    pub view: &'a Relation,
    pub relation: &'a Relation,
    pub clients: Vec<&'a Role>,
    /// Whether the contract declares the relation.
    pub is_declared: bool,
    pub existed: bool,
}

/// Returns what the views show to clients in addition to what the contract permits these to read. A
/// view with `security_invoker` shows nothing more than its caller can read.
#[must_use]
pub fn shown<'a>(cx: &Context<'a>, views: &[Widened]) -> Vec<Shown<'a>> {
    let mut found = Vec::new();
    for widened in views {
        cx.check_interrupts();
        let view = cx.snapshot.relation(widened.view).filter(|view| !view.security_invoker);
        let Some(view) = view.filter(|view| is_declared_view(cx, view)) else { continue };
        let reads = |client: &&Role| {
            cx.has_privilege_on_a_column(client, view, Privileges::SELECT)
                && cx.reaches(client, view)
        };
        let readers: Vec<&Role> = cx.clients.iter().copied().filter(reads).collect();
        let relations = widened.reads.iter().filter_map(|oid| cx.snapshot.relation(*oid));
        for relation in relations.filter(|r| r.kind.is_table() && !r.is_partition) {
            let Some(schema) = cx.governed(relation.schema) else { continue };
            let mut clients = readers.clone();
            clients.retain(|client| {
                let declared = cx.declared_on_some_column(relation, schema, client);
                !declared.contains(Privileges::SELECT)
            });
            if !clients.is_empty() {
                let is_declared = cx.contract.declares_relation(&schema.name, &relation.name);
                let existed = widened.existed;
                found.push(Shown { view, relation, clients, is_declared, existed });
            }
        }
    }
    found
}

fn is_declared_view(cx: &Context<'_>, view: &Relation) -> bool {
    let schema = cx.governed(view.schema);
    schema.is_some_and(|schema| cx.contract.view(&schema.name, &view.name).is_some())
}

impl Shown<'_> {
    /// Returns the strongest action about it. Views are what clients read declared tables through,
    /// and the contract does not say which ones. Of a table that it does not declare, it permits
    /// clients nothing.
    #[must_use]
    pub fn at_most(&self) -> GuardAction {
        if self.is_declared { GuardAction::Warn } else { GuardAction::Block }
    }

    /// Returns the finding about it, for exemptions.
    #[must_use]
    pub fn finding(&self, cx: &Context<'_>) -> Finding {
        let relation = cx.snapshot.relation_identity(self.relation);
        Draft::new(cx.relation_object(self.view), Severity::Error, String::new())
            .key(format!("shows {relation}"))
            .finish(&view_privileges::RULE, cx.severity(&view_privileges::RULE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::rules::testing::World;

    /// Returns what the declared view v_judgment_pipeline shows if it also reads `table`.
    fn found(world: &World, table: &str) -> Vec<(GuardAction, Vec<String>)> {
        let oid = |name: &str| {
            let relations = world.snapshot.relations.iter();
            relations.filter(|r| r.name == name).map(|r| r.oid).next().unwrap()
        };
        let widened =
            Widened { view: oid("v_judgment_pipeline"), reads: vec![oid(table)], existed: true };
        let snapshot = world.snapshot.clone().complete();
        let (access, contract) = (Access::new(&snapshot), world.contract.clone());
        let cx = Context::new(&contract, &snapshot, &access, &|| {});
        let names = |shown: &Shown<'_>| shown.clients.iter().map(|c| c.name.clone()).collect();
        shown(&cx, &[widened]).iter().map(|one| (one.at_most(), names(one))).collect()
    }

    #[test]
    fn declared_view_that_reads_another_table_shows_it_to_clients() {
        let mut world = World::conforming();
        let both = ["anon", "authenticated"].map(String::from).to_vec();
        assert_eq!(found(&world, "judgments"), [(GuardAction::Warn, vec!["anon".into()])]);
        assert_eq!(found(&world, "job_queue"), [(GuardAction::Warn, both.clone())]);
        world.contract.tables.retain(|table| table.name != "job_queue");
        assert_eq!(found(&world, "job_queue"), [(GuardAction::Block, both)]);
        world.relation("public.v_judgment_pipeline").security_invoker = true;
        assert_eq!(found(&world, "job_queue"), []);
        world.relation("public.v_judgment_pipeline").security_invoker = false;
        world.contract.views.retain(|view| view.name != "v_judgment_pipeline");
        assert_eq!(found(&world, "job_queue"), [], "rules about undeclared views report it");
    }
}
