//! Declared views whose writes change a table by themselves from now on: an INSTEAD OF trigger or a
//! rule DO INSTEAD that replaced them is gone, or another query made the view updatable. The
//! server checks the table as the owner of the view.

use super::loosened::clients;
use crate::catalog::{Command, Oid, Privileges, Relation, Role};
use crate::contract::Severity;
use crate::finding::{Draft, Finding};
use crate::rules::{Context, view_privileges};

/// A view with the commands on it that change a table by themselves, and did not before.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Written {
    pub view: Oid,
    pub table: Oid,
    pub commands: Vec<Command>,
}

/// A declared view through which clients change a table as the owner of the view.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Redirected<'a> {
    pub view: &'a Relation,
    pub table: &'a Relation,
    pub commands: Vec<Command>,
    pub clients: Vec<&'a Role>,
}

/// Returns the declared views through which clients change tables in another way than before. A
/// view with `security_invoker` changes nothing that its caller may not change.
#[must_use]
pub fn redirected<'a>(cx: &Context<'a>, written: &[Written]) -> Vec<Redirected<'a>> {
    let mut found = Vec::new();
    for one in written {
        cx.check_interrupts();
        let (view, table) = (cx.snapshot.relation(one.view), cx.snapshot.relation(one.table));
        let Some((view, table)) = view.zip(table).filter(|(view, _)| !view.security_invoker) else {
            continue;
        };
        let is_declared = cx
            .governed(view.schema)
            .is_some_and(|s| cx.contract.view(&s.name, &view.name).is_some());
        if !is_declared {
            continue;
        }
        let mut commands = one.commands.clone();
        commands.retain(|command| !clients(cx, view, &[command.privilege()]).is_empty());
        if !commands.is_empty() {
            let privileges: Vec<Privileges> = commands.iter().map(|c| c.privilege()).collect();
            let clients = clients(cx, view, &privileges);
            found.push(Redirected { view, table, commands, clients });
        }
    }
    found
}

impl Redirected<'_> {
    /// Returns the finding about it, for exemptions.
    #[must_use]
    pub fn finding(&self, cx: &Context<'_>) -> Finding {
        let table = cx.snapshot.relation_identity(self.table);
        Draft::new(cx.relation_object(self.view), Severity::Warning, String::new())
            .key(format!("changes {table}"))
            .finish(&view_privileges::RULE, cx.severity(&view_privileges::RULE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::World;

    const VIEW: &str = "public.v_judgment_pipeline";

    /// Returns what clients change if UPDATE and DELETE on a view change a table by themselves.
    fn found(world: &World) -> Vec<String> {
        let mut known = world.clone();
        let (view, table) = (known.relation(VIEW).oid, known.relation("public.judgments").oid);
        let commands = vec![Command::Update, Command::Delete];
        let written = [Written { view, table, commands }];
        world.compared_with(world, |_, cx| {
            let line = |one: &Redirected<'_>| {
                let words: Vec<&str> = one.commands.iter().map(|c| c.as_str()).collect();
                let names: Vec<&str> = one.clients.iter().map(|c| c.name.as_str()).collect();
                format!("{} of {}", words.join(","), names.join(","))
            };
            redirected(cx, &written).iter().map(line).collect()
        })
    }

    #[test]
    fn writes_of_clients_through_a_declared_view_are_reported() {
        let mut world = World::conforming();
        assert_eq!(found(&world), [""; 0], "clients only read it");
        let anon = world.role("anon").oid;
        world.grant(VIEW, anon, Privileges::UPDATE);
        assert_eq!(found(&world), ["UPDATE of anon"]);
        let mut invoker = world.clone();
        invoker.relation(VIEW).security_invoker = true;
        assert_eq!(found(&invoker), [""; 0], "it changes what its caller may change");
        let mut undeclared = World::conforming();
        undeclared.grant(VIEW, anon, Privileges::UPDATE);
        undeclared.contract.views.retain(|view| view.name != "v_judgment_pipeline");
        assert_eq!(found(&undeclared), [""; 0]);
    }
}
