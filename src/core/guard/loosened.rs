//! Declared views that lose `security_barrier` or WITH CHECK OPTION: the contract declares neither,
//! and CREATE OR REPLACE VIEW without WITH removes both, so that only the two states show it.

use super::opened::earlier;
use crate::catalog::{CheckOption, Privileges, Relation, RelationKind, Role};
use crate::contract::Severity;
use crate::finding::{Draft, Finding};
use crate::rules::{Context, view_privileges};

/// What a view has lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// `security_barrier`: the server may evaluate functions of the caller on rows that the
    /// condition of the view excludes.
    SecurityBarrier,
    /// The WITH CHECK OPTION that it had, or a part of it: the server accepts rows that the
    /// condition excludes.
    CheckOption(CheckOption),
}

/// A declared view that has lost an option that clients depend on.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Loosened<'a> {
    pub view: &'a Relation,
    pub lost: Lost,
    /// The clients that read the view, or write it.
    pub clients: Vec<&'a Role>,
}

/// Returns the declared views of which clients can read or write other rows because of an option
/// that is gone. The view that had the name before counts. `security_barrier` is of no use in a
/// view with `security_invoker`: the caller may read the tables.
#[must_use]
pub fn loosened<'a>(before: &Context<'a>, after: &Context<'a>) -> Vec<Loosened<'a>> {
    let mut found = Vec::new();
    for (view, schema) in after.relations().filter(|(r, _)| r.kind == RelationKind::View) {
        after.check_interrupts();
        let Some(earlier) = earlier(before, after, view) else { continue };
        let loses_barrier =
            earlier.security_barrier && !view.security_barrier && !view.security_invoker;
        let loses_check = earlier.check_option > view.check_option;
        if !(loses_barrier || loses_check)
            || after.contract.view(&schema.name, &view.name).is_none()
        {
            continue;
        }
        let mut add = |lost, privileges: &[Privileges]| {
            let clients = clients(after, view, privileges);
            if !clients.is_empty() {
                found.push(Loosened { view, lost, clients });
            }
        };
        if loses_barrier {
            add(Lost::SecurityBarrier, &[Privileges::SELECT]);
        }
        if loses_check {
            let writes = [Privileges::INSERT, Privileges::UPDATE];
            add(Lost::CheckOption(earlier.check_option), &writes);
        }
    }
    found
}

/// Returns the clients that have one of some privileges on a view.
pub(super) fn clients<'a>(
    cx: &Context<'a>,
    view: &Relation,
    privileges: &[Privileges],
) -> Vec<&'a Role> {
    let has_one = |client: &&Role| {
        let has = |privilege| cx.has_privilege_on_a_column(client, view, privilege);
        cx.reaches(client, view) && privileges.iter().copied().any(has)
    };
    cx.clients.iter().copied().filter(has_one).collect()
}

impl Loosened<'_> {
    /// Returns the statement that restores the option.
    #[must_use]
    pub fn restore(&self, cx: &Context<'_>) -> String {
        let option = match self.lost {
            Lost::SecurityBarrier => "security_barrier = true".to_owned(),
            Lost::CheckOption(option) => {
                format!("check_option = {}", option.as_str().unwrap_or("cascaded"))
            }
        };
        format!("ALTER VIEW {} SET ({option});", cx.snapshot.relation_sql(self.view))
    }

    /// Returns the finding about it, for exemptions.
    #[must_use]
    pub fn finding(&self, cx: &Context<'_>) -> Finding {
        let key = match self.lost {
            Lost::SecurityBarrier => "loses security_barrier",
            Lost::CheckOption(_) => "loses check_option",
        };
        Draft::new(cx.relation_object(self.view), Severity::Warning, String::new())
            .key(key)
            .finish(&view_privileges::RULE, cx.severity(&view_privileges::RULE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::World;

    const VIEW: &str = "public.v_judgment_pipeline";

    fn found(before: &World, after: &World) -> Vec<String> {
        before.compared_with(after, |old, new| {
            let line = |one: &Loosened<'_>| {
                let names: Vec<&str> = one.clients.iter().map(|c| c.name.as_str()).collect();
                format!("{} {}", names.join(","), one.restore(new))
            };
            loosened(old, new).iter().map(line).collect()
        })
    }

    #[test]
    fn declared_view_that_loses_security_barrier_is_reported_for_its_readers() {
        let mut before = World::conforming();
        before.relation(VIEW).security_barrier = true;
        let mut after = World::conforming();
        let restore = "ALTER VIEW public.v_judgment_pipeline SET (security_barrier = true);";
        assert_eq!(found(&before, &after), [format!("anon,authenticated {restore}")]);
        assert_eq!(found(&after, &before), [""; 0], "it gets the option");
        after.relation(VIEW).security_invoker = true;
        assert_eq!(found(&before, &after), [""; 0], "the caller may read the tables");
        after.relation(VIEW).security_invoker = false;
        after.relation(VIEW).oid = 9001;
        assert_eq!(found(&before, &after).len(), 1, "dropped and created again");
        let mut undeclared = World::conforming();
        undeclared.contract.views.retain(|view| view.name != "v_judgment_pipeline");
        assert_eq!(found(&before, &undeclared), [""; 0], "not declared");
    }

    #[test]
    fn declared_view_that_loses_its_check_option_is_reported_for_its_writers() {
        let mut before = World::conforming();
        before.relation(VIEW).check_option = CheckOption::Cascaded;
        let mut after = World::conforming();
        assert_eq!(found(&before, &after), [""; 0], "no client writes it");
        let anon = after.role("anon").oid;
        after.grant(VIEW, anon, Privileges::UPDATE);
        let restore = "ALTER VIEW public.v_judgment_pipeline SET (check_option = cascaded);";
        assert_eq!(found(&before, &after), [format!("anon {restore}")]);
        after.relation(VIEW).check_option = CheckOption::Local;
        assert_eq!(found(&before, &after), [format!("anon {restore}")], "a part of it");
        before.relation(VIEW).check_option = CheckOption::Local;
        assert_eq!(found(&before, &after), [""; 0], "the same");
    }
}
