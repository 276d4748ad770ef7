//! A client or worker owns an object of a governed schema, or a role that the contract does not
//! name owns a declared object or the schema.

use super::context::Context;
use super::shared::owners::{
    consequences, declared_objects_of, has_strange_database_owner, has_strange_owner, is_unnamed,
    routine_has_strange_owner,
};
use super::shared::target::Target;
use crate::catalog::{
    Code, Object, ObjectKind, Oid, PG_DATABASE_OWNER, Relation, RelationKind, Role, Routine,
    RoutineKind,
};
use crate::contract::{GuardAction, RoleKind, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::{Change, Fix, Statement};
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{capitalized, listed, printable, safe_ident};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "object_ownership",
    title: "A client, a worker or an undeclared role owns a governed object",
    area: Area::Objects,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: true,
    checks: "The database, and schemas, relations and routines of the governed schemas, belong to \
             trusted owners, not to client or worker roles; those that the contract declares do \
             not belong to a role that it does not name either, managed or not. Where the contract \
             names an owner, the database with all that its owner owns is one finding.",
    why: "An owner can grant itself any privilege, disable row security and replace the body of \
          a routine. No grant and no policy restricts it.",
    fix: "Change the owner to the role that runs migrations. An object that carries code or row \
          security is read first, or dropped: its code would run with the privileges of the new \
          owner.",
    exempt: "A schema or table that a worker must own, for example because it creates \
             partitions at run time.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER TABLE ops.reaper_log OWNER TO service_role;",
        correct: "ALTER TABLE ops.reaper_log OWNER TO postgres;",
    },
    references: &["CWE-282"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (schema, _) in cx.schemas() {
        let owner = if schema.owner == PG_DATABASE_OWNER {
            cx.snapshot.database.owner
        } else {
            schema.owner
        };
        let severity = if cx.is_subject(owner) {
            Severity::Error
        } else if is_unnamed(cx, owner) {
            Severity::Warning
        } else {
            continue;
        };
        let owned = Owned { keyword: "SCHEMA".to_owned(), owner, is_declared: true, code: None };
        out.push(owned.draft(cx, &Target::of_schema(cx, schema), severity));
    }
    out.extend(of_database(cx));
    let is_wrong = |relation: &Relation| {
        cx.is_subject(relation.owner) && relation.owned_by.is_none()
            || has_strange_owner(cx, relation)
    };
    for (relation, _) in cx.relations().filter(|(relation, _)| is_wrong(relation)) {
        let owned = Owned {
            keyword: relation.kind.object_type().to_uppercase(),
            owner: relation.owner,
            is_declared: cx.declares_relation(relation),
            code: relation.carries_code(cx.snapshot).then_some(Carrier::Relation(relation)),
        };
        out.push(owned.draft(cx, &Target::of_relation(cx, relation), Severity::Error));
    }
    let is_wrong =
        |routine: &Routine| cx.is_subject(routine.owner) || routine_has_strange_owner(cx, routine);
    for (routine, _) in cx.routines().filter(|(routine, _)| is_wrong(routine)) {
        let keyword = if routine.kind == RoutineKind::Aggregate { "AGGREGATE" } else { "ROUTINE" };
        let owned = Owned {
            keyword: keyword.to_owned(),
            owner: routine.owner,
            is_declared: cx.declares_routine(routine),
            code: Some(Carrier::Routine(routine)),
        };
        out.push(owned.draft(cx, &Target::of_routine(cx, routine), Severity::Error));
    }
}

/// Returns the finding about the owner of the database, which stands for the declared objects that
/// it owns as well: the database can change its owner together with what is in it.
fn of_database(cx: &Context<'_>) -> Option<Draft> {
    let owner = cx.snapshot.database.owner;
    let declared = declared_objects_of(cx, owner);
    let severity = match (cx.is_subject(owner), has_strange_database_owner(cx)) {
        (false, false) => return None,
        (false, true) if declared == 0 => Severity::Warning,
        _ => Severity::Error,
    };
    let is_declared = declared > 0;
    let owned = Owned { keyword: "DATABASE".to_owned(), owner, is_declared, code: None };
    let mut draft = owned.draft(cx, &Target::of_database(cx), severity);
    if declared > 0 && !cx.is_subject(owner) {
        let objects = if declared == 1 { "object" } else { "objects" };
        draft.detail.truncate(draft.detail.len() - 1);
        draft.detail += &format!("; it also owns {declared} declared {objects}.");
    }
    Some(draft)
}

/// An object with the wrong owner.
struct Owned<'a> {
    /// The type of object as ALTER names it.
    keyword: String,
    owner: Oid,
    /// Whether the contract declares it, or an object in it.
    is_declared: bool,
    /// The code that the object carries.
    code: Option<Carrier<'a>>,
}

/// An object that carries code of its owner, or row security.
enum Carrier<'a> {
    Relation(&'a Relation),
    Routine(&'a Routine),
}

impl Owned<'_> {
    fn draft(&self, cx: &Context<'_>, target: &Target<'_>, severity: Severity) -> Draft {
        let owner = cx.snapshot.role_name(self.owner);
        // An owner of a schema that the contract does not know may be intended.
        let (problem, at_most) = if severity == Severity::Warning {
            ("which is not a trusted owner", GuardAction::Warn)
        } else if cx.is_subject(self.owner) {
            ("which is a client or worker role", GuardAction::Block)
        } else {
            ("which the contract does not name", GuardAction::Block)
        };
        let schema = target.object.schema.as_deref().filter(|_| is_unnamed(cx, self.owner));
        let consequences =
            schema.filter(|_| severity == Severity::Error).map(|schema| consequences(cx, schema));
        let clause = consequences.as_ref().map_or("", |(clause, _)| clause);
        let detail = format!(
            "{} is owned by role \"{}\", {problem}{clause}.",
            capitalized(&target.name),
            printable(&owner)
        );
        let mut evidence = json!({"owner": owner});
        if let Some((_, exposed)) = consequences {
            evidence["exposed_routines"] = exposed;
        }
        // No name of an owner excuses a change of what the contract declares.
        let of_platform = || cx.managed_role(self.owner).filter(|_| !self.is_declared);
        let managed_by = target.object.managed_by.clone().or_else(of_platform);
        Draft::new(Object { managed_by, ..target.object.clone() }, severity, detail)
            .role(&owner)
            .evidence(evidence)
            .fix(self.fix(cx, target))
            .measure(Measure::default().limited_to(at_most))
    }

    /// Returns the change to the first owner role of the contract that exists. Code is never moved
    /// by a statement: it would run with the privileges of the new owner, or be trusted as code of
    /// the new owner.
    fn fix(&self, cx: &Context<'_>, target: &Target<'_>) -> Fix {
        let object = format!("{} {}", self.keyword, target.sql);
        let owner =
            cx.contract.roles_of(RoleKind::Owner).find_map(|role| cx.snapshot.role_named(role));
        let name = owner.map_or("...".into(), |owner| safe_ident(&owner.name));
        let sql = format!("ALTER {object} OWNER TO {name};");
        match (&self.code, owner) {
            (Some(code), _) => {
                let mut proposal = format!("{}\n{sql}", code.consequences(cx, owner));
                if code.is_only_code() {
                    proposal += &format!("\nOr, where it is not needed: DROP {object};");
                }
                Fix::Risky { proposal, risk: code.risk(cx, owner) }
            }
            (None, None) => Fix::Proposal(sql),
            // Only a superuser or a member of both roles that may create databases can do it.
            (None, Some(_)) if target.kind == ObjectKind::Database => Fix::Proposal(format!(
                "Declare role {} with kind \"owner\" if it is one. Otherwise:\n{sql}",
                safe_ident(&cx.snapshot.role_name(self.owner))
            )),
            (None, Some(owner)) => {
                let change = Change::ChangeOwner {
                    object: target.object.id,
                    owner: owner.oid,
                    target: object,
                };
                Fix::by(Statement::new(change, sql))
            }
        }
    }
}

impl Carrier<'_> {
    /// Returns what to do before the owner is changed, and what follows from it, one sentence a
    /// line.
    fn consequences(&self, cx: &Context<'_>, owner: Option<&Role>) -> String {
        let (new, former) = (described(owner), quoted(&cx.snapshot.role_name(self.owner())));
        let mut lines = match self {
            Self::Routine(routine) => {
                let runs = if routine.security_definer {
                    format!(
                        "After the change it runs with the privileges of {new} instead of those \
                         of {former}, for every role that can execute it."
                    )
                } else {
                    format!(
                        "It runs with the privileges of its caller; after the change its code is \
                         trusted as code of {new}."
                    )
                };
                vec![format!("Read its body first: {former} can have written it."), runs]
            }
            Self::Relation(view) if view.kind == RelationKind::View && view.security_invoker => {
                vec![
                    format!("Read its query first: {former} can have written it."),
                    "It reads with the privileges of the caller, before and after the change."
                        .to_owned(),
                ]
            }
            Self::Relation(view) if is_query(view.kind) => {
                let when =
                    if view.kind == RelationKind::View { "" } else { " when it is refreshed" };
                vec![
                    format!("Read its query first: {former} can have written it."),
                    format!(
                        "After the change it reads{when} with the privileges of {new} instead of \
                         those of {former}, for every role that can select from it."
                    ),
                    format!("{}.", capitalized(&hidden_rows(view, owner))),
                ]
            }
            Self::Relation(table) => table_consequences(cx, table, &new, &former),
        };
        lines.push(format!(
            "{} also loses what it can do as the owner: grant it what it needs.",
            capitalized(&former)
        ));
        lines.join("\n")
    }

    /// Whether the object has no rows of its own.
    fn is_only_code(&self) -> bool {
        match self {
            Self::Relation(relation) => is_query(relation.kind),
            Self::Routine(_) => true,
        }
    }

    fn owner(&self) -> Oid {
        match self {
            Self::Relation(relation) => relation.owner,
            Self::Routine(routine) => routine.owner,
        }
    }

    /// Returns the risk as a clause.
    fn risk(&self, cx: &Context<'_>, owner: Option<&Role>) -> String {
        let new = described(owner);
        match self {
            Self::Routine(routine) if routine.security_definer => {
                format!("the body would run with the privileges of {new}")
            }
            Self::Routine(_) => format!("the body would be trusted as code of {new}"),
            Self::Relation(view) if is_query(view.kind) && !view.security_invoker => {
                format!(
                    "it would read with the privileges of {new}, and {}",
                    hidden_rows(view, owner)
                )
            }
            Self::Relation(table) if has_row_security(cx, table) => {
                format!("row security may no longer restrict {new}")
            }
            Self::Relation(_) => format!("its code would be trusted as code of {new}"),
        }
    }
}

/// Returns what a change of the owner of a table means, one sentence a line.
fn table_consequences(cx: &Context<'_>, table: &Relation, new: &str, former: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let is_view = |code: &&Code| **code == Code::View;
    if table.code.iter().any(|code| is_view(&code)) {
        lines.push(format!(
            "Views read it: after the change, those of {new} can read it, and those of {former} \
             no longer can."
        ));
    }
    let code: Vec<&str> =
        table.code.iter().filter(|code| !is_view(code)).map(|code| code.as_str()).collect();
    if !code.is_empty() {
        lines.push(format!(
            "It has {}: read them first, because {former} can have written them.",
            listed(&code)
        ));
        lines.push(format!(
            "After the change, maintenance such as ANALYZE and REINDEX executes expressions with \
             the privileges of {new}."
        ));
    }
    if table.kind == RelationKind::ForeignTable {
        lines.push(format!(
            "It reads from another server; after the change, ANALYZE uses the user mapping of \
             {new}."
        ));
    }
    if has_row_security(cx, table) {
        lines.push(if table.force_row_security {
            format!("Its row security also applies to the owner: {former} and {new} need policies.")
        } else {
            format!(
                "After the change its row security applies to {former} and no longer to {new}, \
                 nor to views and SECURITY DEFINER routines of {new}."
            )
        });
    }
    lines
}

fn has_row_security(cx: &Context<'_>, table: &Relation) -> bool {
    table.row_security || table.force_row_security || !cx.snapshot.policies_of(table.oid).is_empty()
}

fn is_query(kind: RelationKind) -> bool {
    matches!(kind, RelationKind::View | RelationKind::MaterializedView)
}

/// Returns what a new owner of a view means for the rows of the tables behind it, as a clause.
fn hidden_rows(view: &Relation, owner: Option<&Role>) -> String {
    let tables = match view.protected.as_slice() {
        [] => "the tables that it reads".to_owned(),
        tables => listed(tables),
    };
    if owner.is_some_and(|owner| owner.superuser || owner.bypass_rls) {
        format!("row security of {tables} would no longer restrict its readers")
    } else {
        format!(
            "row security of {tables} would restrict its readers as it restricts the new owner: \
             not at all on tables that this role owns"
        )
    }
}

/// Returns the new owner in a sentence, with what makes it powerful.
fn described(owner: Option<&Role>) -> String {
    let Some(owner) = owner else { return "the new owner".to_owned() };
    let power = match owner {
        Role { superuser: true, .. } => " (a superuser)",
        Role { bypass_rls: true, .. } => " (which bypasses row security)",
        _ => "",
    };
    format!("{}{power}", quoted(&owner.name))
}

fn quoted(role: &str) -> String {
    format!("role \"{}\"", printable(role))
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Code, RelationKind};
    use crate::contract::RoleKind;
    use crate::fix::Fix;

    #[test]
    fn object_of_a_client_or_worker_and_schema_of_an_untrusted_role_are_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.add_role("mallory");
        let (anon, worker, mallory) =
            (world.role("anon").oid, world.role("service_role").oid, world.role("mallory").oid);
        let plain = world.relation("public.judgments");
        (plain.owner, plain.row_security, plain.force_row_security) = (worker, false, false);
        let judgments = plain.oid;
        world.snapshot.policies.retain(|p| p.relation != judgments);
        world.routine("get_ceo_metrics").owner = anon;
        world.schema("enforcement").owner = mallory;
        assert_eq!(
            world.found(&RULE),
            [
                "error function api.get_ceo_metrics() anon: Function api.get_ceo_metrics() is \
                 owned by role \"anon\", which is a client or worker role.",
                "warning schema enforcement mallory: Schema enforcement is owned by role \
                 \"mallory\", which is not a trusted owner. \
                 => ALTER SCHEMA enforcement OWNER TO postgres;",
                "error table public.judgments service_role: Table public.judgments is owned by \
                 role \"service_role\", which is a client or worker role. \
                 => ALTER TABLE public.judgments OWNER TO postgres;"
            ]
        );
    }

    #[test]
    fn declared_object_of_a_role_that_the_contract_does_not_name_is_reported() {
        let mut world = World::conforming();
        for name in ["mallory", "platform"] {
            world.add_role(name);
        }
        let (mallory, platform) = (world.role("mallory").oid, world.role("platform").oid);
        world.routine("get_ceo_metrics").owner = mallory;
        let table = world.relation("public.plaintiffs");
        (table.owner, table.row_security, table.force_row_security) = (mallory, false, false);
        let plaintiffs = table.oid;
        world.snapshot.policies.retain(|policy| policy.relation != plaintiffs);
        world.contract.managed.roles = vec!["platform".into()];
        world.routine("complete_outbox_message").owner = platform;
        let undeclared = world.relation("public.judgments").clone();
        let oid = undeclared.oid + 100_000;
        let name = "scratch".to_owned();
        let undeclared = crate::catalog::Relation { oid, name, owner: mallory, ..undeclared };
        world.snapshot.relations.push(undeclared);
        let found = world.found(&RULE);
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(
            found[0],
            "error function api.get_ceo_metrics() mallory: Function api.get_ceo_metrics() is owned \
             by role \"mallory\", which the contract does not name."
        );
        // The name of a managed role excuses only what the contract does not declare.
        assert!(found[1].starts_with("error function ops.complete_outbox_message"), "{found:?}");
        assert_eq!(
            found[2],
            "error table public.plaintiffs mallory: Table public.plaintiffs is owned by role \
             \"mallory\", which the contract does not name; 6 SECURITY DEFINER routines search its \
             schema. => ALTER TABLE public.plaintiffs OWNER TO postgres;"
        );
    }

    #[test]
    fn managed_role_owns_no_governed_schema_and_may_own_an_undeclared_database() {
        let mut world = World::conforming();
        world.add_role("platform");
        let platform = world.role("platform").oid;
        world.contract.managed.roles = vec!["platform".into()];
        world.schema("enforcement").owner = platform;
        let found = world.found(&RULE);
        assert!(found.len() == 1 && found[0].starts_with("warning schema enf"), "{found:?}");
        world.schema("enforcement").owner = world.snapshot.database.owner;
        world.snapshot.database.owner = platform;
        let found = world.found(&RULE);
        assert!(found.len() == 1 && found[0].starts_with("info database"), "{found:?}");
        world.relation("public.plaintiffs").owner = platform;
        let found = world.found(&RULE);
        assert!(found.len() == 1 && found[0].starts_with("error database"), "{found:?}");
    }

    #[test]
    fn owner_of_the_database_that_is_not_named_is_one_finding() {
        let mut world = World::conforming();
        world.add_role("mallory");
        let (mallory, former) = (world.role("mallory").oid, world.snapshot.database.owner);
        world.snapshot.database.owner = mallory;
        let found = world.found(&RULE);
        assert!(found.len() == 1 && found[0].starts_with("warning database"), "{found:?}");
        world.snapshot.relations.iter_mut().for_each(|r| r.owner = mallory);
        world.snapshot.routines.iter_mut().for_each(|r| r.owner = mallory);
        let found = world.found(&RULE);
        assert!(found.len() == 1 && found[0].starts_with("error database"), "{found:?}");
        assert!(found[0].contains("which the contract does not name; it also owns"), "{found:?}");
        assert!(found[0].ends_with("declared objects."), "{found:?}");
        world.contract.roles.retain(|role| role.kind != RoleKind::Owner);
        world.snapshot.schemas.iter_mut().for_each(|s| {
            if s.owner == former {
                s.owner = mallory;
            }
        });
        assert_eq!(world.found(&RULE), [""; 0], "the contract names no owner");
    }

    /// Returns the proposal about an object, and its risk; panics where the fix is a statement.
    fn proposal(world: &World, identity: &str) -> (String, String) {
        let finding =
            world.findings(&RULE).into_iter().find(|f| f.object.identity == identity).unwrap();
        match finding.fix {
            Fix::Risky { proposal, risk } => (proposal, risk),
            fix => panic!("{fix:?}"),
        }
    }

    #[test]
    fn object_with_code_is_a_proposal_that_states_the_consequences() {
        let mut world = World::conforming();
        world.role("postgres").superuser = true;
        let anon = world.role("anon").oid;
        world.routine("get_ceo_metrics").owner = anon;
        assert_eq!(
            proposal(&world, "api.get_ceo_metrics()"),
            (
                "Read its body first: role \"anon\" can have written it.\n\
                 After the change it runs with the privileges of role \"postgres\" (a superuser) \
                 instead of those of role \"anon\", for every role that can execute it.\n\
                 Role \"anon\" also loses what it can do as the owner: grant it what it needs.\n\
                 ALTER ROUTINE api.get_ceo_metrics() OWNER TO postgres;\n\
                 Or, where it is not needed: DROP ROUTINE api.get_ceo_metrics();"
                    .to_owned(),
                "the body would run with the privileges of role \"postgres\" (a superuser)"
                    .to_owned()
            )
        );
        let view = world.relation("public.v_plaintiffs_overview");
        (view.owner, view.protected) = (anon, vec!["public.plaintiffs".into()]);
        let (text, risk) = proposal(&world, "public.v_plaintiffs_overview");
        assert!(text.contains("DROP VIEW public.v_plaintiffs_overview;"), "{text}");
        assert!(
            risk.ends_with(
                "row security of public.plaintiffs would no longer restrict its readers"
            ),
            "{risk}"
        );
    }

    #[test]
    fn table_is_a_proposal_where_it_has_row_security_or_executes_code() {
        let mut world = World::conforming();
        let anon = world.role("anon").oid;
        world.relation("public.judgments").owner = anon;
        let (text, risk) = proposal(&world, "public.judgments");
        assert!(text.contains("row security") && risk.contains("row security"), "{text} {risk}");
        let table = world.relation("public.judgments");
        (table.row_security, table.force_row_security) = (false, false);
        table.code = vec![Code::Trigger, Code::Index];
        let judgments = table.oid;
        world.snapshot.policies.retain(|p| p.relation != judgments);
        let (text, _) = proposal(&world, "public.judgments");
        assert!(text.starts_with("It has triggers and indexes with expressions: "), "{text}");
        assert!(!text.contains("DROP"), "the rows would be lost: {text}");
        world.relation("public.judgments").code.clear();
        assert_eq!(world.fixes(&RULE), ["ALTER TABLE public.judgments OWNER TO postgres;"]);
        world.relation("public.judgments").kind = RelationKind::ForeignTable;
        let (text, _) = proposal(&world, "public.judgments");
        assert!(text.contains("user mapping"), "{text}");
    }
}
