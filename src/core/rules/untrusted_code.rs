//! A declared object executes a routine of a role that is not trusted.

use super::context::Context;
use super::needs::Why;
use super::permitted::{find_relation, find_routine};
use super::shared::owners::is_untrusted;
use super::shared::target::Target;
use crate::catalog::{
    Dependencies, Holder, Object, ObjectId, Oid, PartKind, Relation, Routine, TypeOwner, Use,
};
use crate::contract::{GuardAction, RoleKind, Severity};
use crate::finding::Draft;
use crate::fix::Fix;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{capitalized, printable, quote_ident, safe_ident};
use serde_json::json;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// The rule.
pub static RULE: Rule = Rule {
    id: "untrusted_code",
    title: "A declared object executes a routine of a client, a worker or an undeclared role",
    area: Area::Objects,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::Uses,
    breaks_declared: false,
    checks: "The routines that the triggers, policies, constraints, defaults, generated columns, \
             indexes, rules, queries, domains and parsed bodies of declared objects execute belong \
             to trusted owners, as far as the objects themselves do, or to roles that can act as \
             the owners of the objects; so do the functions of event triggers, the types of \
             columns, and the partitions and inheritance children of declared tables, whose \
             owners can add triggers to them. Code of a managed role is excused in a managed \
             schema of a superuser only. Bodies that are text are not searched.",
    why: "The owner of a routine can replace its body at any time, and the owner of a partition \
          can add triggers. The code runs with the privileges of the role that uses the object, \
          and in a policy it decides which rows are visible.",
    fix: "Read the code. Then change the owner to the role that runs migrations, or drop what \
          executes the code.",
    exempt: "A team that owns a routine of its own and is trusted with the table; declare its role \
             in trusted_roles instead where it is trusted in general.",
    exempt_by_pattern: true,
    example: Example {
        violating: "CREATE SCHEMA IF NOT EXISTS lab;\n\
                    CREATE FUNCTION lab.stamp() RETURNS trigger LANGUAGE plpgsql\n\
                    AS 'BEGIN RETURN NEW; END';\n\
                    ALTER FUNCTION lab.stamp() OWNER TO service_role;\n\
                    CREATE TRIGGER stamp BEFORE INSERT ON public.job_queue\n\
                    FOR EACH ROW EXECUTE FUNCTION lab.stamp();",
        correct: "CREATE SCHEMA IF NOT EXISTS lab;\n\
                  CREATE FUNCTION lab.stamp() RETURNS trigger LANGUAGE plpgsql\n\
                  AS 'BEGIN RETURN NEW; END';\n\
                  CREATE TRIGGER stamp BEFORE INSERT ON public.job_queue\n\
                  FOR EACH ROW EXECUTE FUNCTION lab.stamp();",
    },
    references: &["CWE-829", "CWE-282"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let mut drafts = children(cx);
    let untrusted = untrusted(cx);
    if !untrusted.is_empty() {
        let users = Users::of(cx);
        for code in untrusted {
            drafts.extend(users.roots(code).iter().map(|root| root.draft(cx, code)));
        }
    }
    drafts.sort_by_cached_key(|draft| draft.object.identity.clone());
    out.append(&mut drafts);
}

/// Returns what to report about partitions and children of declared tables.
fn children(cx: &Context<'_>) -> Vec<Draft> {
    let dependencies = &cx.snapshot.dependencies;
    let tables = cx.snapshot.relations.iter().chain(dependencies.relations());
    let tables = tables.filter(|table| !dependencies.children_of(table.oid).is_empty());
    let mut drafts = Vec::new();
    for table in tables.filter(|table| is_declared(cx, table)) {
        let (mut waiting, mut seen) = (vec![table.oid], HashSet::from([table.oid]));
        while let Some(parent) = waiting.pop() {
            cx.check_interrupts();
            for child in dependencies.children_of(parent).iter().filter(|oid| seen.insert(**oid)) {
                match find_relation(cx, *child) {
                    Some(child)
                        if is_untrusted(cx, child.owner)
                            && !cx.access.can_act_as(child.owner, table.owner) =>
                    {
                        drafts.push(of_child(cx, table, child));
                    }
                    _ => waiting.push(*child),
                }
            }
        }
    }
    drafts
}

fn of_child(cx: &Context<'_>, table: &Relation, child: &Relation) -> Draft {
    let (owner, target) = (cx.snapshot.role_name(child.owner), Target::of_relation(cx, child));
    let is_a = if child.is_partition { "a partition" } else { "an inheritance child" };
    let detail = format!(
        "{}, {is_a} of {}, is owned by role \"{}\", {}; this role can add triggers, which run with \
         the privileges of the role that writes rows through the parent.",
        capitalized(&target.name),
        Target::of_relation(cx, table).name,
        printable(&owner),
        problem(cx, child.owner)
    );
    let object = cx.relation_object(table);
    let identity = target.object.identity.as_str();
    let new = new_owner(cx);
    let proposal = format!(
        "Read its triggers, defaults and constraints first: role \"{}\" can have written them.\n\
         ALTER TABLE {} OWNER TO {new};",
        printable(&owner),
        target.sql
    );
    Draft::new(object, Severity::Error, detail)
        .role(&owner)
        .key(identity)
        .evidence(json!({"owner": owner, "child": identity}))
        .fix(Fix::Risky { proposal, risk: format!("its code would be trusted as code of {new}") })
}

/// Returns what is wrong with an owner, as a clause.
fn problem(cx: &Context<'_>, owner: Oid) -> &'static str {
    if cx.is_subject(owner) {
        "which is a client or worker role"
    } else {
        "which the contract does not name"
    }
}

/// Returns the name of the role that should own code, as SQL: the first owner role of the contract
/// that exists.
fn new_owner<'a>(cx: &Context<'a>) -> Cow<'a, str> {
    let mut owners = cx.contract.roles_of(RoleKind::Owner);
    let owner = owners.find_map(|role| cx.snapshot.role_named(role));
    owner.map_or("...".into(), |role| safe_ident(&role.name))
}

/// Whether the contract declares a relation, and its owner is trusted.
fn is_declared(cx: &Context<'_>, relation: &Relation) -> bool {
    let schema = cx.snapshot.schema_name(relation.schema);
    cx.contract.declares_relation(schema, &relation.name) && !is_untrusted(cx, relation.owner)
}

/// A routine or a type of a role that is not trusted.
#[derive(Clone, Copy)]
enum Code<'a> {
    Routine(&'a Routine),
    Type(Oid, &'a TypeOwner),
}

impl Code<'_> {
    fn owner(self) -> Oid {
        match self {
            Self::Routine(routine) => routine.owner,
            Self::Type(_, of) => of.owner,
        }
    }

    /// Returns the managed role whose code this is, as far as the platform keeps it apart: in a
    /// managed schema that belongs to a superuser, which no other role has created.
    fn managed_by(self, cx: &Context<'_>) -> Option<String> {
        let schema = match self {
            Self::Routine(routine) => routine.schema,
            Self::Type(_, of) => of.schema,
        };
        let schema = cx.snapshot.schema(schema)?;
        let is_platforms = cx.access.is_superuser(schema.owner) && cx.manages_schema(schema);
        cx.managed_role(self.owner()).filter(|_| is_platforms)
    }

    fn node(self) -> Node {
        match self {
            Self::Routine(routine) => Node::Routine(routine.oid),
            Self::Type(oid, _) => Node::Type(oid),
        }
    }
}

/// Returns the routines and types of roles that are not trusted.
fn untrusted<'a>(cx: &Context<'a>) -> Vec<Code<'a>> {
    let dependencies: &'a Dependencies = &cx.snapshot.dependencies;
    if dependencies.is_empty() {
        return vec![];
    }
    let mut known: HashMap<Oid, bool> = HashMap::new();
    let mut is_untrusted =
        |owner: Oid| *known.entry(owner).or_insert_with(|| is_untrusted(cx, owner));
    let routines = cx.snapshot.routines.iter().chain(dependencies.routines()).map(Code::Routine);
    let types = dependencies.types().map(|(oid, of)| Code::Type(oid, of));
    routines.chain(types).filter(|code| is_untrusted(code.owner())).collect()
}

/// A declared object that executes a routine, and what in it does, as part of a sentence.
struct Root<'a> {
    object: Declared<'a>,
    by: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Declared<'a> {
    Relation(&'a Relation),
    Routine(&'a Routine),
    /// Its name. Every command executes it, whatever the contract declares.
    EventTrigger(&'a str),
}

impl Root<'_> {
    fn draft(&self, cx: &Context<'_>, code: Code<'_>) -> Draft {
        let owner = cx.snapshot.role_name(code.owner());
        let (identity, does, fix) = match code {
            Code::Routine(routine) => {
                let called = Target::of_routine(cx, routine);
                let does = format!("executes {}", called.name);
                (called.object.identity.clone(), does, fix_of_routine(cx, &called, &owner))
            }
            Code::Type(_, of) => {
                (of.name.clone(), format!("is type {}", of.name), fix_of_type(cx, of))
            }
        };
        let detail = format!(
            "{} {does}, which is owned by role \"{}\", {}{}.",
            capitalized(&self.by),
            printable(&owner),
            problem(cx, code.owner()),
            if let Code::Type(..) = code {
                "; this role can add constraints and casts, which run with the privileges of \
                 the role that uses the column"
            } else {
                ""
            }
        );
        let object = match self.object {
            Declared::Relation(relation) => cx.relation_object(relation),
            Declared::Routine(routine) => cx.routine_object(routine),
            Declared::EventTrigger(name) => Object {
                object_type: "event trigger",
                schema: None,
                identity: quote_ident(name).into_owned(),
                managed_by: None,
                id: ObjectId::Named,
            },
        };
        let managed_by = object.managed_by.clone().or_else(|| code.managed_by(cx));
        Draft::new(Object { managed_by, ..object }, Severity::Error, detail)
            .role(&owner)
            .key(&identity)
            .evidence(json!({"owner": owner, "code": identity, "executed_by": self.by}))
            .fix(fix)
    }
}

/// Returns the change of the owner, after the body has been read: it would be trusted as code of
/// the new owner.
fn fix_of_routine(cx: &Context<'_>, called: &Target<'_>, owner: &str) -> Fix {
    let new = new_owner(cx);
    Fix::Risky {
        proposal: format!(
            "Read its body first: role \"{}\" can have written it.\n\
             ALTER ROUTINE {} OWNER TO {new};\n\
             Or drop what executes it.",
            printable(owner),
            called.sql
        ),
        risk: format!("the body would be trusted as code of role {new}"),
    }
}

/// Returns the change of the owner of a type, which moves no code.
fn fix_of_type(cx: &Context<'_>, of: &TypeOwner) -> Fix {
    Fix::Proposal(format!(
        "Read its constraints and casts first: role \"{}\" can have written them.\n\
         ALTER TYPE {} OWNER TO {};",
        printable(&cx.snapshot.role_name(of.owner)),
        of.name,
        new_owner(cx)
    ))
}

/// An object that executes a routine, itself or by way of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Node {
    /// A relation whose policies or query execute it: when rows are read.
    Read(Oid),
    /// A relation of which something else executes it: when rows are written, mostly.
    Written(Oid),
    Routine(Oid),
    Type(Oid),
    /// By the place of its part.
    EventTrigger(usize),
}

/// What uses each object.
struct Users<'c, 'a> {
    cx: &'c Context<'a>,
    /// The places of the parts that execute what an object executes.
    parts: HashMap<Node, Vec<usize>>,
    /// The tables of which a table is a partition or an inheritance child.
    parents: HashMap<Oid, Vec<Oid>>,
    /// The relation of each policy.
    relation_of: HashMap<Oid, Oid>,
}

impl<'c, 'a> Users<'c, 'a> {
    fn of(cx: &'c Context<'a>) -> Self {
        let dependencies: &Dependencies = &cx.snapshot.dependencies;
        let (mut parts, mut parents, mut relation_of) =
            (HashMap::<Node, Vec<usize>>::new(), HashMap::<Oid, Vec<Oid>>::new(), HashMap::new());
        for (place, part) in dependencies.parts() {
            cx.check_interrupts();
            for node in part.uses.iter().filter_map(|used| executed_by(used, &part.kind)) {
                let places = parts.entry(node).or_default();
                if places.last() != Some(&place) {
                    places.push(place);
                }
            }
        }
        for relation in cx.snapshot.relations.iter().chain(dependencies.relations()) {
            cx.check_interrupts();
            let policies = cx.policies_of(relation).iter();
            relation_of.extend(policies.map(|policy| (policy.oid, relation.oid)));
            for child in dependencies.children_of(relation.oid) {
                parents.entry(*child).or_default().push(relation.oid);
            }
        }
        Self { cx, parts, parents, relation_of }
    }

    /// Returns the declared objects of trusted owners that execute a routine or use a type, each
    /// with the first part that does. The search ends at such an object: what uses that executes
    /// the routine as well, and needs no finding of its own.
    fn roots(&self, code: Code<'_>) -> Vec<Root<'a>> {
        let start = code.node();
        let mut roots: Vec<Root<'_>> = Vec::new();
        let (mut seen, mut waiting) = (HashSet::from([start]), vec![(start, String::new())]);
        while let Some((node, by)) = waiting.pop() {
            self.cx.check_interrupts();
            for (user, by) in self.users(node, &by) {
                if !seen.insert(user) {
                    continue;
                }
                match self.declared(user) {
                    Some(object)
                        if self.is_as_powerful(code.owner(), object)
                            || roots.iter().any(|root| root.object == object) => {}
                    Some(object) => roots.push(Root { object, by }),
                    None => waiting.push((user, by)),
                }
            }
        }
        roots
    }

    /// Returns the objects that execute what an object executes, each with what in it does. `by` is
    /// what does so in the object itself, which a table has in common with its partitions.
    fn users(&self, node: Node, by: &str) -> Vec<(Node, String)> {
        let dependencies = &self.cx.snapshot.dependencies;
        let of_part = |place: &usize| {
            let part = dependencies.part(*place);
            let user = match part.holder {
                Holder::Policy(oid) => Node::Read(*self.relation_of.get(&oid)?),
                Holder::Relation(oid) if part.kind == PartKind::Query => Node::Read(oid),
                Holder::Relation(oid) => Node::Written(oid),
                Holder::Routine(oid) => Node::Routine(oid),
                Holder::Type(oid) => Node::Type(oid),
                Holder::EventTrigger(_) => Node::EventTrigger(*place),
            };
            let on = if let Node::Read(oid) | Node::Written(oid) = user { oid } else { 0 };
            Some((user, self.cx.user(Why::Part { part: *place, on })))
        };
        let parts = self.parts.get(&node).into_iter().flatten().filter_map(of_part);
        let parents = match node {
            Node::Written(oid) => self.parents.get(&oid).map_or(&[][..], Vec::as_slice),
            Node::Read(_) | Node::Routine(_) | Node::Type(_) | Node::EventTrigger(_) => &[],
        };
        let parents = parents.iter().map(|parent| (Node::Written(*parent), by.to_owned()));
        parts.chain(parents).collect()
    }

    /// Whether a role can act as the owner of an object: its code gives it nothing there.
    fn is_as_powerful(&self, role: Oid, object: Declared<'_>) -> bool {
        match object {
            Declared::Relation(relation) => self.cx.access.can_act_as(role, relation.owner),
            Declared::Routine(routine) => self.cx.access.can_act_as(role, routine.owner),
            Declared::EventTrigger(_) => false,
        }
    }

    /// Returns the object if the contract declares it and its owner is trusted. Another owner has a
    /// finding by `object_ownership`.
    fn declared(&self, node: Node) -> Option<Declared<'a>> {
        let cx = self.cx;
        match node {
            Node::Read(oid) | Node::Written(oid) => {
                let relation = find_relation(cx, oid)?;
                is_declared(cx, relation).then_some(Declared::Relation(relation))
            }
            Node::Routine(oid) => {
                let routine = find_routine(cx, oid)?;
                (cx.declares_routine(routine) && !is_untrusted(cx, routine.owner))
                    .then_some(Declared::Routine(routine))
            }
            Node::Type(_) => None,
            Node::EventTrigger(place) => {
                let part = cx.snapshot.dependencies.part(place);
                Some(Declared::EventTrigger(&part.name))
            }
        }
    }
}

/// Returns the object whose code a part executes by using it. Of a relation, only a query or a rule
/// executes what reading it does.
fn executed_by(used: &Use, kind: &PartKind) -> Option<Node> {
    match used {
        Use::Routine(oid) => Some(Node::Routine(*oid)),
        Use::Type(oid) => Some(Node::Type(*oid)),
        Use::Relation(oid) | Use::Column(oid, _) | Use::AnyColumn(oid, _) => {
            matches!(kind, PartKind::Query | PartKind::Rule(_)).then_some(Node::Read(*oid))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Dependencies, Holder, Oid, Part, PartKind, Relation, Routine, Use};
    use std::rc::Rc;

    const STAMP: Oid = 9_001;

    /// Returns a conforming catalog with function `lab.stamp()` of a role.
    fn world(owner: &str) -> World {
        let mut world = World::conforming();
        world.add_role("mallory");
        let owner = world.role(owner).oid;
        let schema = world.schema("public").clone();
        let lab = 9_000;
        world.snapshot.schemas.push(crate::catalog::Schema {
            oid: lab,
            name: "lab".into(),
            owner,
            ..schema
        });
        let stamp =
            Routine { oid: STAMP, name: "stamp".into(), schema: lab, owner, ..Routine::default() };
        world.snapshot.routines.push(stamp);
        world
    }

    fn part(holder: Holder, kind: PartKind, name: &str, uses: Vec<Use>) -> Part {
        Part { holder, kind, name: name.into(), uses }
    }

    fn found(world: &mut World, parts: Vec<Part>, children: &[(Oid, Oid)]) -> Vec<String> {
        world.snapshot.dependencies = Rc::new(Dependencies::new(parts, children));
        world.found(&RULE)
    }

    fn trigger(table: Oid) -> Part {
        let uses = vec![Use::Routine(STAMP)];
        part(Holder::Relation(table), PartKind::TriggerFunction, "t", uses)
    }

    #[test]
    fn trigger_of_a_declared_table_that_executes_a_function_of_an_undeclared_role_is_reported() {
        let mut world = world("mallory");
        let table = world.relation("public.plaintiffs").oid;
        assert_eq!(
            found(&mut world, vec![trigger(table)], &[]),
            ["error table public.plaintiffs mallory: Trigger t on public.plaintiffs executes \
              function lab.stamp(), which is owned by role \"mallory\", which the contract does \
              not name."]
        );
    }

    #[test]
    fn function_of_a_trusted_owner_is_not_reported() {
        let mut world = world("postgres");
        let table = world.relation("public.plaintiffs").oid;
        assert_eq!(found(&mut world, vec![trigger(table)], &[]), [""; 0]);
    }

    #[test]
    fn function_of_a_role_that_can_act_as_the_owner_of_the_table_is_not_reported() {
        let mut world = world("mallory");
        world.grant_role("postgres", "mallory");
        let table = world.relation("public.plaintiffs").oid;
        assert_eq!(found(&mut world, vec![trigger(table)], &[]), [""; 0]);
    }

    #[test]
    fn trigger_of_a_table_is_not_executed_by_a_view_that_reads_it() {
        let mut world = world("mallory");
        let view = world.relation("ops.v_batch_performance").clone();
        let table = Relation { oid: 9_030, name: "jobs".into(), schema: 9_000, ..view.clone() };
        world.snapshot.relations.push(table);
        let reads = vec![Use::Relation(9_030)];
        let query = part(Holder::Relation(view.oid), PartKind::Query, "_RETURN", reads);
        assert_eq!(found(&mut world, vec![trigger(9_030), query], &[]), [""; 0]);
    }

    #[test]
    fn function_of_a_worker_is_reported_for_policies_and_partitions() {
        let mut world = world("service_role");
        let parent = world.relation("public.plaintiffs").clone();
        let mut policies = world.snapshot.policies.iter();
        let policy = policies.find(|policy| policy.relation == parent.oid).unwrap().oid;
        let child = Relation { oid: 9_002, name: "part".into(), ..parent.clone() };
        world.snapshot.relations.push(child);
        let parts =
            vec![part(Holder::Policy(policy), PartKind::Policy, "p", vec![Use::Routine(STAMP)])];
        let of_policy = found(&mut world, parts, &[]);
        assert_eq!(of_policy.len(), 1, "{of_policy:?}");
        assert!(of_policy[0].contains("Policy p on public.plaintiffs executes"), "{of_policy:?}");
        let of_partition = found(&mut world, vec![trigger(9_002)], &[(parent.oid, 9_002)]);
        assert_eq!(of_partition.len(), 1, "{of_partition:?}");
        assert!(
            of_partition[0].starts_with(
                "error table public.plaintiffs service_role: Trigger t on public.part"
            ),
            "{of_partition:?}"
        );
    }

    #[test]
    fn function_behind_a_domain_a_body_and_a_view_is_found() {
        let mut world = world("mallory");
        let table = world.relation("public.plaintiffs").oid;
        let declared = world.routine("get_ceo_metrics").oid;
        let hidden = Relation {
            oid: 9_003,
            name: "hidden".into(),
            ..world.relation("ops.v_batch_performance").clone()
        };
        world.snapshot.relations.push(hidden);
        let view = world.relation("ops.v_batch_performance").oid;
        let stamp = || vec![Use::Routine(STAMP)];
        let parts = vec![
            part(Holder::Relation(table), PartKind::Columns, "", vec![Use::Type(9_100)]),
            part(Holder::Type(9_100), PartKind::Type, "d", stamp()),
            part(
                Holder::Routine(declared),
                PartKind::Routine { has_defaults: false },
                "f",
                stamp(),
            ),
            part(Holder::Relation(9_003), PartKind::Query, "_RETURN", stamp()),
            part(Holder::Relation(view), PartKind::Query, "_RETURN", vec![Use::Relation(9_003)]),
        ];
        let found = found(&mut world, parts, &[]);
        let objects: Vec<&str> =
            found.iter().filter_map(|finding| finding.split(" mallory:").next()).collect();
        assert_eq!(
            objects,
            [
                "error function api.get_ceo_metrics()",
                "error view ops.v_batch_performance",
                "error table public.plaintiffs"
            ]
        );
    }

    #[test]
    fn partition_of_an_untrusted_owner_is_reported_for_the_declared_table() {
        let mut world = world("mallory");
        let mallory = world.role("mallory").oid;
        let parent = world.relation("public.plaintiffs").clone();
        let middle = Relation { oid: 9_010, name: "y2026".into(), ..parent.clone() };
        let child = Relation {
            oid: 9_011,
            name: "may".into(),
            owner: mallory,
            is_partition: true,
            ..parent.clone()
        };
        world.snapshot.relations.extend([middle, child]);
        let children = [(parent.oid, 9_010), (9_010, 9_011)];
        assert_eq!(
            found(&mut world, vec![], &children),
            ["error table public.plaintiffs mallory: Table public.may, a partition of table \
              public.plaintiffs, is owned by role \"mallory\", which the contract does not name; \
              this role can add triggers, which run with the privileges of the role that writes \
              rows through the parent."]
        );
    }

    #[test]
    fn event_trigger_that_executes_a_function_of_an_untrusted_owner_is_reported() {
        let mut world = world("mallory");
        let uses = vec![Use::Routine(STAMP)];
        let parts = vec![part(Holder::EventTrigger(9_020), PartKind::EventTrigger, "e", uses)];
        assert_eq!(
            found(&mut world, parts, &[]),
            ["error event trigger e mallory: Event trigger e executes function lab.stamp(), \
                 which is owned by role \"mallory\", which the contract does not name."]
        );
    }

    #[test]
    fn code_of_a_managed_role_is_excused_in_a_managed_schema_of_a_superuser_only() {
        let mut world = world("mallory");
        world.contract.managed.roles = vec!["mallory".into()];
        let table = world.relation("public.plaintiffs").oid;
        let severity = |world: &mut World| {
            let found = found(world, vec![trigger(table)], &[]);
            found.iter().map(|finding| finding[..5].to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(severity(&mut world), ["error"]);
        world.contract.managed.schemas.push("lab".into());
        assert_eq!(severity(&mut world), ["error"], "it may have made the schema itself");
        world.schema("lab").owner = world.role("root").oid;
        assert_eq!(severity(&mut world), ["info "]);
        let parent = world.relation("public.plaintiffs").clone();
        let owner = world.role("mallory").oid;
        let child = Relation { oid: 9_011, name: "may".into(), owner, ..parent.clone() };
        world.snapshot.relations.push(child);
        let of_child = found(&mut world, vec![], &[(parent.oid, 9_011)]);
        assert!(of_child.len() == 1 && of_child[0].starts_with("error table"), "{of_child:?}");
    }

    #[test]
    fn object_of_the_same_untrusted_owner_is_left_to_object_ownership() {
        let mut world = world("mallory");
        let mallory = world.role("mallory").oid;
        let table = world.relation("public.plaintiffs");
        table.owner = mallory;
        let table = table.oid;
        assert_eq!(found(&mut world, vec![trigger(table)], &[]), [""; 0]);
    }
}
