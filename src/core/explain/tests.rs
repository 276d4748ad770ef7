use super::*;
use crate::access::Access;
use crate::catalog::{
    Caller, Command, Exposure, Open, Opening, PUBLIC, Policy, RelationKind, Rows,
};
use crate::contract::{ColumnGrants, TablePrivilege};
use crate::rules::testing::World;
use std::collections::BTreeSet;

/// The links of an answer, each as a line.
fn lines(
    world: &World,
    ask: impl Fn(&crate::catalog::Snapshot) -> (String, Privileges, Option<Vec<Need>>),
) -> Vec<String> {
    let snapshot = world.snapshot.clone().complete();
    let access = Access::new(&snapshot);
    let contract = world.contract.clone();
    let cx = Context::new(&contract, &snapshot, &access, &|| {});
    let (name, privilege, needs) = ask(&snapshot);
    let (role, object) = name.split_once(' ').unwrap();
    let (schema, object) = object.split_once('.').unwrap_or((object, ""));
    let found = snapshot.schema_named(schema);
    let relation = found.and_then(|s| snapshot.relation_named(s.oid, object));
    let routine = snapshot
        .routines
        .iter()
        .find(|r| r.name == object && snapshot.schema_name(r.schema) == schema);
    let subject = match (relation, routine, found) {
        (Some(relation), ..) => {
            let plain = vec![Need {
                relation: relation.oid,
                privileges: privilege,
                is_target: true,
                ..Need::default()
            }];
            let checks = Checks { needs: needs.unwrap_or(plain), ..Checks::default() };
            let (bodies, texts, impossible, unusable) = (vec![], vec![], None, None);
            let attempt = Attempt { relation, checks, bodies, texts, impossible, unusable };
            Subject::Relation(attempt, vec![])
        }
        (None, Some(routine), _) => Subject::Routine(Execution {
            routine,
            calls: vec![],
            defaults: Checks::default(),
            bodies: vec![],
            texts: vec![],
            impossible: None,
        }),
        (None, None, Some(schema)) if object.is_empty() => Subject::Schema(schema),
        (None, None, schema) => {
            let object = format!("object {name}");
            Subject::Missing(Missing { schema, object, ..Missing::default() })
        }
    };
    let line = |link: Link| {
        let ok = link.ok.map_or("--", |ok| if ok { "ok" } else { "NO" });
        format!(
            "{ok} {}: {}{}",
            link.step,
            link.detail,
            link.fix.map(|f| format!(" => {f}")).unwrap_or_default()
        )
    };
    let (authenticator, owns_objects) = ("authenticator", false);
    explain(&cx, &Question { role, authenticator, owns_objects, privilege, subject })
        .into_iter()
        .map(line)
        .collect()
}

fn asked(world: &World, role: &str, object: &str, privilege: Privileges) -> Vec<String> {
    lines(world, |_| (format!("{role} {object}"), privilege, None))
}

fn with_login() -> World {
    let mut world = World::conforming();
    world.add_role("authenticator");
    world.grant_role("anon", "authenticator");
    world
}

#[test]
fn explain_lists_every_link_of_a_view() {
    assert_eq!(
        asked(&with_login(), "anon", "public.v_judgment_pipeline", Privileges::SELECT),
        [
            "ok role anon: Role \"anon\" exists.",
            "ok SET ROLE anon: Role \"authenticator\" can become \"anon\".",
            "ok USAGE on schema public: Role \"anon\" has USAGE, granted to it.",
            "ok SELECT on view public.v_judgment_pipeline: Role \"anon\" has SELECT, granted to \
             it.",
            "ok verdict: Allowed.",
            "ok contract: Access should be allowed: SELECT is declared for role \"anon\".",
        ]
    );
}

#[test]
fn explain_names_every_way_to_a_privilege() {
    let mut world = with_login();
    world.add_role("mallory");
    world.add_role("staff");
    world.add_role("readers");
    world.grant_role("staff", "mallory");
    world.grant_role("readers", "staff");
    let readers = world.role("readers").oid;
    world.grant("public.plaintiff_tasks", readers, Privileges::SELECT);
    world.grant("public.plaintiff_tasks", PUBLIC, Privileges::SELECT);
    let found = asked(&world, "mallory", "public.plaintiff_tasks", Privileges::SELECT);
    assert_eq!(
        found[3],
        "ok SELECT on table public.plaintiff_tasks: Role \"mallory\" has SELECT, inherited from \
         \"staff\", a member of \"readers\" and granted to PUBLIC (every role)."
    );
    // Without INHERIT nothing is inherited.
    world.snapshot.memberships.iter_mut().for_each(|m| m.inherit = false);
    world.relation("public.plaintiff_tasks").acl.as_mut().unwrap().retain(|i| i.grantee != PUBLIC);
    let found = asked(&world, "mallory", "public.plaintiff_tasks", Privileges::SELECT);
    assert_eq!(
        found[3],
        "NO SELECT on table public.plaintiff_tasks: Role \"mallory\" does not have SELECT. The \
         contract does not declare it: run SELECT * FROM ops.declare('CREATE ROLE mallory; GRANT \
         SELECT ON TABLE public.plaintiff_tasks TO mallory', note => '...')."
    );
    assert_eq!(
        found.last().unwrap(),
        "-- contract: The contract does not mention role \"mallory\"."
    );
}

#[test]
fn explain_names_missing_column_privileges() {
    let mut world = with_login();
    let (anon, owner) = (world.role("anon").oid, world.role("postgres").oid);
    let item = crate::catalog::AclItem {
        grantee: anon,
        grantor: owner,
        privileges: Privileges::SELECT,
        grantable: Privileges::NONE,
    };
    world.relation("public.plaintiff_tasks").columns = vec![("id".into(), vec![item].into())];
    let need = |world: &World, selected: &[&str]| {
        let selected: Vec<String> = selected.iter().map(|c| (*c).to_owned()).collect();
        let relation =
            world.snapshot.relations.iter().find(|r| r.name == "plaintiff_tasks").unwrap().oid;
        vec![Need {
            relation,
            privileges: Privileges::SELECT,
            selected,
            is_partial: true,
            ..Need::default()
        }]
    };
    let ask = |world: &World, selected: &[&str]| {
        let needs = need(world, selected);
        lines(world, |_| {
            ("anon public.plaintiff_tasks".into(), Privileges::SELECT, Some(needs.clone()))
        })[3]
            .clone()
    };
    let missing = "NO SELECT on table public.plaintiff_tasks: Role \"anon\" does not have SELECT \
                   on column \"E mail\".";
    assert_eq!(
        ask(&world, &["id", "E mail"]),
        format!(
            "{missing} The contract does not declare it: run SELECT * FROM ops.declare('GRANT \
             SELECT (\"E mail\") ON TABLE public.plaintiff_tasks TO anon', note => '...')."
        )
    );
    let mut granted = ColumnGrants::default();
    granted.add(Privileges::SELECT, "E mail");
    let table = world.contract.tables.iter_mut().find(|t| t.name == "plaintiff_tasks").unwrap();
    table.column_grants.insert("anon".into(), granted);
    let ask = |selected: &[&str]| ask(&world, selected);
    let step = "SELECT on table public.plaintiff_tasks";
    assert_eq!(ask(&["id"]), format!("ok {step}: Role \"anon\" has SELECT on column id."));
    assert_eq!(ask(&[]), format!("ok {step}: Role \"anon\" has SELECT on at least one column."));
    assert_eq!(
        ask(&["id", "E mail"]),
        format!("{missing} => GRANT SELECT (\"E mail\") ON TABLE public.plaintiff_tasks TO anon;")
    );
}

#[test]
fn explain_applies_policies_by_role_and_command() {
    let mut world = with_login();
    let (relation, anon) = (world.relation("public.job_queue").oid, world.role("anon").oid);
    world.relation("public.job_queue").force_row_security = false;
    world.grant("public.job_queue", anon, Privileges::SELECT | Privileges::INSERT);
    let policy = |name: &str, permissive, always_true| Policy {
        oid: 9_000,
        name: name.into(),
        relation,
        command: Some(Command::Select),
        permissive,
        roles: vec![PUBLIC],
        always_true,
        unchecked: false,
        has_check: false,
        requires_authentication: false,
        asks_memberships: false,
        never_true: false,
        rejects_new_rows: false,
    };
    let row = |world: &World, role: &str, privilege| {
        let found = asked(world, role, "public.job_queue", privilege);
        [found[4].clone(), found[5].clone()]
    };
    let step = "row security of table public.job_queue";
    // No policy is offered for what the contract does not declare.
    assert!(row(&world, "anon", Privileges::SELECT)[0].ends_with("no error is raised."));
    let table = world.contract.tables.iter_mut().find(|t| t.name == "job_queue").unwrap();
    table.grants.insert("anon".into(), vec![TablePrivilege::Select]);
    let fix =
        "-- CREATE POLICY \"anon select\" ON public.job_queue FOR SELECT TO anon USING (...);";
    assert_eq!(
        row(&world, "anon", Privileges::SELECT),
        [
            format!(
                "NO {step}: Row security is enabled, and no policy allows role \"anon\" to SELECT: \
                 every \
                 row is excluded, and no error is raised. => {fix}"
            ),
            format!(
                "NO verdict: Allowed, but row security excludes every row of table \
                 public.job_queue, and no error is raised. => {fix}"
            ),
        ]
    );
    assert_eq!(
        row(&world, "anon", Privileges::INSERT)[1].split(" => ").next(),
        Some(
            "NO verdict: Denied: new row violates row-level security policy for table \
             \"job_queue\"."
        )
    );
    // Restrictive policies alone do not allow any row.
    world.snapshot.policies.push(policy("office hours", false, false));
    assert!(row(&world, "anon", Privileges::SELECT)[0].contains("no policy allows"));
    world.snapshot.policies.push(policy("mine", true, false));
    assert_eq!(
        row(&world, "anon", Privileges::SELECT),
        [
            format!(
                "ok {step}: Row security is enabled; for role \"anon\" a row must be allowed by \
                 mine, and by \"office hours\"."
            ),
            "ok verdict: Allowed. The rows are limited by policies: mine and \"office hours\"."
                .to_owned(),
        ]
    );
    // Roles that bypass it.
    let worker = &row(&world, "service_role", Privileges::SELECT)[0];
    assert_eq!(
        *worker,
        format!("ok {step}: Row security is enabled, but role \"service_role\" has BYPASSRLS.")
    );
    let owner = &row(&world, "postgres", Privileges::SELECT);
    assert!(
        owner[0].ends_with("is enabled, but role \"postgres\" has the privileges of the owner."),
        "{owner:?}"
    );
}

#[test]
fn explain_covers_missing_objects_schemas_and_routines() {
    let world = with_login();
    let verdict = |role: &str, object: &str, privilege| {
        let found = asked(&world, role, object, privilege);
        [found[found.len() - 2].clone(), found[found.len() - 1].clone()]
    };
    assert_eq!(
        verdict("missing", "public.judgments", Privileges::SELECT),
        [
            "NO verdict: Denied: role \"missing\" does not exist.",
            "-- contract: The contract does not mention role \"missing\"."
        ]
    );
    assert!(
        verdict("anon", "public.nothing", Privileges::SELECT)[0]
            .starts_with("NO verdict: Denied: object ")
    );
    assert_eq!(
        verdict("anon", "intake", Privileges::USAGE),
        [
            "NO verdict: Denied: permission denied for schema intake.",
            "ok contract: Access should be denied: USAGE is not declared for role \"anon\"."
        ]
    );
    assert_eq!(
        verdict("anon", "api.get_call_queue", Privileges::EXECUTE)[0],
        "ok verdict: Allowed."
    );
    assert_eq!(
        verdict("anon", "ops.v_batch_performance", Privileges::SELECT),
        [
            "NO verdict: Denied: permission denied for schema ops.",
            "ok contract: Access should be denied: SELECT is declared for role \"anon\", but USAGE \
             on \
             schema ops is not."
        ]
    );
    assert_eq!(
        world.snapshot.relations.iter().filter(|r| r.kind == RelationKind::Sequence).count(),
        0
    );
}

#[test]
fn explain_checks_tables_of_view_as_owner_of_view() {
    let mut world = with_login();
    let (table, owner) = (world.relation("public.plaintiff_tasks").oid, world.role("postgres").oid);
    world.relation("public.plaintiff_tasks").acl = Some(vec![].into());
    let view = world.relation("public.v_plaintiff_call_queue").oid;
    let needs = vec![
        Need { relation: view, privileges: Privileges::SELECT, ..Need::default() },
        Need {
            relation: table,
            check_as: Some(owner),
            privileges: Privileges::SELECT,
            selected: vec!["due".into()],
            is_partial: false,
            ..Need::default()
        },
    ];
    let found = lines(&world, |_| {
        ("anon public.v_plaintiff_call_queue".into(), Privileges::SELECT, Some(needs.clone()))
    });
    assert_eq!(
        found[4..6],
        [
            "NO SELECT on table public.plaintiff_tasks, as \"postgres\", the owner of the view: \
             Role \
             \"postgres\" does not have SELECT. => GRANT SELECT ON TABLE public.plaintiff_tasks TO \
             postgres;",
            "NO verdict: Denied: permission denied for table plaintiff_tasks. => GRANT SELECT ON \
             TABLE public.plaintiff_tasks TO postgres;",
        ]
    );
}

/// The link about row security of public.judgments, and the verdict, where policy `p` lets a role
/// reach this.
fn told(role: &str, command: Command, exposure: Exposure) -> [String; 2] {
    let mut world = with_login();
    let rows = if command == Command::Insert { Rows::New } else { Rows::Existing };
    world.expose(role, command, rows, exposure);
    let lines = asked(&world, role, "public.judgments", command.privilege());
    let of = |step: &str| {
        let found = lines.iter().find(|line| line[3..].starts_with(step));
        found.unwrap_or_else(|| panic!("{lines:#?}")).clone()
    };
    [of("row security"), of("verdict")]
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn explain_names_what_ties_rows_to_the_caller() {
    let tied = Exposure {
        ties: [names(&["owner"]), names(&["Team", "tenant"])].into(),
        values_of_caller: names(&["claims.tenant", "user"]),
        ..Exposure::default()
    };
    let sentence = "Policy p: rows whose \"Team\" and tenant are the caller's; rows whose owner is \
                    the caller's; it asks the session for claims.tenant.";
    assert_eq!(
        told("authenticated", Command::Select, tied),
        [
            format!(
                "ok row security of table public.judgments: Row security is enabled and forced; \
                 for role \"authenticated\" a row must be allowed by p. {sentence}"
            ),
            format!("ok verdict: Allowed. The rows are limited by policies: p. {sentence}"),
        ]
    );
}

#[test]
fn explain_names_other_ways_and_what_is_not_known() {
    let opened = Exposure {
        open: vec![Open {
            opening: Opening::RowOpen,
            witness: vec![["R.public", "IS", "TRUE"].map(str::to_owned)],
            ..Open::default()
        }],
        has_privileged: true,
        unknown: names(&["app.f(uuid)"]),
        ..Exposure::default()
    };
    let [_, verdict] = told("authenticated", Command::Select, opened);
    assert!(
        verdict.ends_with(
            "Policy p: rows of others, for callers with a right; rows where R.public IS TRUE; not \
             decided: app.f(uuid)."
        ),
        "{verdict}"
    );
    let nothing_known = Exposure::default();
    let [link, verdict] = told("authenticated", Command::Select, nothing_known);
    assert!(link.ends_with("a row must be allowed by p."), "{link}");
    assert!(verdict.ends_with("The rows are limited by policies: p."), "{verdict}");
}

#[test]
fn explain_says_why_no_row_passes() {
    let never = Exposure { is_never_true: true, ..Exposure::default() };
    let without = Exposure {
        caller: Some(Caller::Without),
        values_of_caller: names(&["claims.tenant", "user"]),
        ..never.clone()
    };
    let hidden = Exposure { hidden: names(&["app.members"]), ..never.clone() };
    for (exposure, why) in [
        (never.clone(), "its condition is never true"),
        (
            without,
            "it asks the session for claims.tenant and user, and the sessions of role \"anon\" \
             have no user",
        ),
        (hidden, "it looks rows up in app.members, of which no policy shows any"),
    ] {
        let [link, verdict] = told("anon", Command::Select, exposure);
        assert!(
            link.contains(&format!(
                "and no policy allows role \"anon\" to SELECT: every row is excluded, and no error \
                 is raised. Policy p lets no row through: {why}."
            )),
            "{link}"
        );
        assert!(verdict.starts_with("NO verdict: Allowed, but row security excludes"), "{verdict}");
    }
    let [_, verdict] = told("anon", Command::Insert, never.clone());
    assert!(verdict.contains("new row violates row-level security policy"), "{verdict}");
    // Reading what the condition looks up raises an error instead.
    let denied = Exposure { denied: names(&["app.members"]), ..never };
    let [link, _] = told("anon", Command::Select, denied);
    assert!(link.starts_with("ok "), "{link}");
}
