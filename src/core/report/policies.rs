//! The policies of the governed schemas, with what their conditions let clients reach.

use crate::catalog::{
    Command, Exposure, Oid, PUBLIC, Policy, PolicyExposure, Relation, Rows, Schema,
};
use crate::rules::{Context, of_policy};
use std::collections::{BTreeMap, BTreeSet};

/// A policy of a governed schema.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct PolicyRow<'a> {
    pub schema: &'a str,
    pub table: &'a str,
    pub policy: &'a Policy,
    /// The names of its roles.
    pub roles: Vec<String>,
    /// What it lets clients reach; `None` where no client is limited by it, and of restrictive
    /// policies.
    pub reach: Option<Reach>,
}

/// What a policy lets clients reach. An item that is not about every client, or not about every
/// command, ends with those that it is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// The columns that tie a row to its caller: those of one way in each item.
    pub ties: Vec<String>,
    /// The other ways in which a row passes: the answer of `ops.explain_policy()`, and an example.
    pub open_when: Vec<String>,
    /// The tables and views that are looked up.
    pub lookups: Vec<String>,
    /// What could not be read.
    pub unknown_because: Vec<String>,
}

/// Returns the policies of the governed schemas in the order of schemas, tables and names.
#[must_use]
pub fn rls_policies<'a>(cx: &Context<'a>) -> Vec<PolicyRow<'a>> {
    let governed = cx.snapshot.relations.iter().filter_map(|relation| {
        cx.governed(relation.schema)?;
        Some((cx.snapshot.schema(relation.schema)?, relation))
    });
    let of = |(schema, relation): (&'a Schema, &'a Relation)| {
        cx.check_interrupts();
        let policies = cx.snapshot.policies_of(relation.oid).iter();
        let row = |policy: &'a Policy| PolicyRow {
            schema: &schema.name,
            table: &relation.name,
            policy,
            roles: roles(cx, policy),
            reach: Reach::of(cx, policy),
        };
        policies.map(row).collect::<Vec<_>>()
    };
    let mut rows: Vec<PolicyRow<'_>> = governed.flat_map(of).collect();
    rows.sort_by_key(|row| (row.schema, row.table, row.policy.name.as_str()));
    rows
}

fn roles(cx: &Context<'_>, policy: &Policy) -> Vec<String> {
    let name = |role: &Oid| {
        if *role == PUBLIC { "public".to_owned() } else { cx.snapshot.role_name(*role) }
    };
    policy.roles.iter().map(name).collect()
}

impl Reach {
    fn of(cx: &Context<'_>, policy: &Policy) -> Option<Self> {
        let asked: Vec<&PolicyExposure> = of_policy(cx, policy).collect();
        if asked.is_empty() {
            return None;
        }
        let items = |of: &dyn Fn(&Exposure) -> BTreeSet<String>| items(cx, &asked, of);
        Some(Self {
            ties: items(&|exposure| exposure.ties.iter().map(joined).collect()),
            open_when: items(&open_when),
            lookups: items(&|exposure| exposure.lookups.clone()),
            unknown_because: items(&|exposure| exposure.unknown.clone()),
        })
    }
}

/// Returns the other ways than ties in which a row passes.
fn open_when(exposure: &Exposure) -> BTreeSet<String> {
    let mut ways = BTreeSet::new();
    if exposure.is_never_true {
        return ways;
    }
    if exposure.is_always_true {
        return ["always_true".to_owned()].into();
    }
    for open in exposure.openings() {
        let parts: Vec<String> = open.witness.iter().map(|part| part.join(" ")).collect();
        ways.insert(item(open.opening.as_str(), &parts.join(" AND ")));
    }
    if exposure.ignores_row {
        return ways;
    }
    for forgeable in &exposure.forgeable {
        let command = forgeable.command.as_str();
        let written = format!("{command} of {} on {}", joined(&forgeable.columns), forgeable.table);
        ways.insert(item("lookup_writable", &written));
    }
    if exposure.has_privileged {
        ways.insert("privileged".to_owned());
    }
    ways
}

fn item(word: &str, example: &str) -> String {
    if example.is_empty() { word.to_owned() } else { format!("{word}: {example}") }
}

fn joined(columns: &BTreeSet<String>) -> String {
    columns.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The commands that a policy is asked for.
type Commands = BTreeSet<(Command, bool)>;

/// Returns what is said of the roles and commands that a policy is asked for, each once, with those
/// that it is about where these are not all.
fn items(
    cx: &Context<'_>,
    asked: &[&PolicyExposure],
    said: &dyn Fn(&Exposure) -> BTreeSet<String>,
) -> Vec<String> {
    let mut all = BTreeMap::<Oid, Commands>::new();
    let mut by_item = BTreeMap::<String, BTreeMap<Oid, Commands>>::new();
    for of in asked {
        let command = (of.command, of.rows == Rows::New);
        all.entry(of.role).or_default().insert(command);
        for item in said(&of.exposure) {
            by_item.entry(item).or_default().entry(of.role).or_default().insert(command);
        }
    }
    let mut items = Vec::new();
    for (item, roles) in by_item {
        if roles == all {
            items.push(item);
            continue;
        }
        let mut by_commands = BTreeMap::<String, BTreeSet<String>>::new();
        for (role, commands) in &roles {
            let is_all = all.get(role) == Some(commands);
            let commands = if is_all { String::new() } else { format!(": {}", listed(commands)) };
            by_commands.entry(commands).or_default().insert(cx.snapshot.role_name(*role));
        }
        for (commands, roles) in by_commands {
            items.push(format!("{item} ({}{commands})", joined(&roles)));
        }
    }
    items
}

fn listed(commands: &Commands) -> String {
    let name = |(command, is_new): &(Command, bool)| match (command, is_new) {
        (Command::Update, true) => "new rows of UPDATE".to_owned(),
        _ => command.as_str().to_owned(),
    };
    commands.iter().map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::catalog::{Caller, Open, Opening};
    use crate::rules::testing::World;
    use std::rc::Rc;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn reach(world: &World) -> Option<Reach> {
        let snapshot = world.snapshot.clone().complete();
        let access = Access::new(&snapshot);
        let cx = Context::new(&world.contract, &snapshot, &access, &|| {});
        rls_policies(&cx).into_iter().find(|row| row.policy.name == "p").expect("policy p").reach
    }

    fn tied(columns: &[&str]) -> Exposure {
        Exposure { ties: [set(columns)].into(), ..Exposure::default() }
    }

    fn exposed(exposure: Exposure) -> World {
        let mut world = World::conforming();
        world.expose("authenticated", Command::Select, Rows::Existing, exposure);
        world
    }

    /// Adds what the policy lets a role reach with another command.
    fn also(world: &mut World, role: &str, command: Command, rows: Rows, exposure: Exposure) {
        let role = world.role(role).oid;
        let mut all = (*world.snapshot.exposures).clone();
        let policy = all[0].policy;
        let exposure = exposure.into();
        let (covered_by, triggers) = Default::default();
        all.push(PolicyExposure { policy, role, command, rows, exposure, covered_by, triggers });
        world.snapshot.exposures = Rc::new(all);
    }

    #[test]
    fn policies_are_in_order_with_the_names_of_their_roles() {
        let world = World::conforming();
        let snapshot = world.snapshot.clone().complete();
        let access = Access::new(&snapshot);
        let cx = Context::new(&world.contract, &snapshot, &access, &|| {});
        let rows = rls_policies(&cx);
        let name = |row: &PolicyRow<'_>| {
            (row.schema.to_owned(), row.table.to_owned(), row.policy.name.clone())
        };
        let names: Vec<_> = rows.iter().map(name).collect();
        assert!(names.is_sorted() && !names.is_empty(), "{names:?}");
        let of_judgments = rows.iter().find(|row| row.table == "judgments").expect("a policy");
        assert_eq!(of_judgments.roles, ["authenticated"]);
    }

    #[test]
    fn nothing_is_said_of_a_policy_that_limits_no_client() {
        let mut world = exposed(tied(&["owner"]));
        world.snapshot.exposures = Rc::default();
        assert_eq!(reach(&world), None);
    }

    #[test]
    fn each_way_is_told_once() {
        let public = Open {
            opening: Opening::RowOpen,
            witness: vec![
                ["R.status", "=", "'public'"].map(str::to_owned),
                ["R.hidden", "IS", "FALSE"].map(str::to_owned),
            ],
            ..Open::default()
        };
        let exposure = Exposure {
            ties: [set(&["owner"]), set(&["team", "org"])].into(),
            open: vec![public],
            has_privileged: true,
            lookups: set(&["app.members"]),
            unknown: set(&["app.f(uuid)"]),
            ..Exposure::default()
        };
        let found = reach(&exposed(exposure)).expect("it is read");
        assert_eq!(found.ties, ["org, team", "owner"]);
        assert_eq!(
            found.open_when,
            ["privileged", "row_open: R.status = 'public' AND R.hidden IS FALSE"]
        );
        assert_eq!(found.lookups, ["app.members"]);
        assert_eq!(found.unknown_because, ["app.f(uuid)"]);
    }

    #[test]
    fn what_passes_in_any_case_is_open_and_what_never_passes_is_not() {
        let open = |exposure| reach(&exposed(exposure)).expect("it is read").open_when;
        let always = Exposure { is_always_true: true, ..Exposure::default() };
        assert_eq!(open(always.clone()), ["always_true"]);
        assert_eq!(open(Exposure { asks_role: true, ..always }), ["always_true"]);
        let ignores = Exposure { ignores_row: true, ..Exposure::default() };
        assert_eq!(open(ignores.clone()), ["ignores_row"]);
        let without = Exposure { caller: Some(Caller::Without), ..ignores };
        assert_eq!(open(without), ["open_without_identity"]);
        let never = Exposure { is_never_true: true, has_privileged: true, ..Exposure::default() };
        assert_eq!(open(never), [""; 0]);
    }

    #[test]
    fn roles_and_commands_are_told_where_they_differ() {
        let mut world = exposed(tied(&["owner"]));
        also(&mut world, "authenticated", Command::Update, Rows::Existing, tied(&["owner"]));
        assert_eq!(reach(&world).expect("it is read").ties, ["owner"]);
        let always = Exposure { is_always_true: true, ..Exposure::default() };
        also(&mut world, "authenticated", Command::Update, Rows::New, always.clone());
        also(&mut world, "anon", Command::Select, Rows::Existing, always);
        let found = reach(&world).expect("it is read");
        assert_eq!(found.ties, ["owner (authenticated: SELECT, UPDATE)"]);
        assert_eq!(
            found.open_when,
            ["always_true (anon)", "always_true (authenticated: new rows of UPDATE)"]
        );
    }
}
