use super::*;
use crate::access::Access;
use crate::catalog::RoleSetting;
use crate::explain::{Cause, Denial};
use crate::rules::RULES;
use crate::rules::testing::World;

fn examined(world: &World, probes: &Probes<'_>) -> Vec<String> {
    let snapshot = world.snapshot.clone().complete();
    let access = Access::new(&snapshot);
    let contract = world.contract.clone();
    let cx = Context::new(&contract, &snapshot, &access, &|| {});
    let findings: Vec<Finding> = RULES.iter().flat_map(|rule| cx.run(rule)).collect();
    let line = |c: Check| {
        let fix = c.fix.map(|f| format!(" => {f}")).unwrap_or_default();
        format!("{} {} {}: {}{fix}", if c.ok { "ok" } else { "NO" }, c.area, c.object, c.detail)
    };
    let server = Server { release: 150_020, statistics_are_hidden: true };
    examine(&cx, &findings, "authenticator", server, probes).into_iter().map(line).collect()
}

fn all_working() -> Probes<'static> {
    Probes {
        view: &|_| Outcome::Works,
        routine: &|_| Outcome::Works,
        access: &|_| AccessOutcome::Works,
        text: &|_| None,
        interrupts: &|| {},
    }
}

fn conforming() -> World {
    let mut world = World::conforming();
    world.add_role("authenticator");
    world.role("authenticator").can_login = true;
    for role in ["anon", "authenticated", "service_role"] {
        world.grant_role(role, "authenticator");
    }
    world
}

/// Stores a setting of role authenticator.
fn store(world: &mut World, name: &str, value: &str, is_of_database: bool) {
    let setting = RoleSetting {
        role: Some(world.role("authenticator").oid),
        database: is_of_database.then(|| world.snapshot.database.name.clone()),
        name: name.into(),
        value: value.into(),
    };
    world.snapshot.settings.push(setting);
}

#[test]
fn what_a_text_mentions_and_a_role_lacks_is_told_and_no_failure() {
    let missing = |access: &DeclaredAccess| {
        let is_of_routine = matches!(access.target, Target::Routine(_));
        is_of_routine.then(|| "Role \"anon\" does not have SELECT on table t.".to_owned())
    };
    let lines = examined(&conforming(), &Probes { text: &missing, ..all_working() });
    let told = "Its body is text, which is checked only when it runs. Role \"anon\" does not have \
                SELECT on table t.";
    let found = lines.iter().find(|l| l.starts_with("ok function api.queue_job()")).unwrap();
    assert!(found.ends_with(told), "{found}");
    assert!(lines.iter().all(|line| line.starts_with("ok ")), "{lines:#?}");
}

#[test]
fn doctor_reports_passing_checks() {
    let lines = examined(&conforming(), &all_working());
    assert!(lines.iter().all(|l| l.starts_with("ok ")), "{lines:#?}");
    for line in [
        "ok role anon: Exists, with the attributes that the contract declares.",
        "ok schema intake: Exists, for \"authenticated\" and \"service_role\".",
        "ok table public.judgments: Exists, with row security, for \"authenticated\" and \
         \"service_role\".",
        "ok view ops.v_batch_performance: Exists and can be read, for \"anon\", \"authenticated\" \
         and \"service_role\"; the contract gives \"anon\" and \"authenticated\" no USAGE on \
         schema ops.",
        "ok function api.get_call_queue(): Exists and its body is valid, SECURITY DEFINER with a \
         safe search_path, for \"anon\", \"authenticated\" and \"service_role\".",
        "ok guard dragonfly_guard: Its event triggers are enabled, and no stored setting disables \
         them. The contract's enforcement is block: statements that violate it are rejected. See \
         ops.guard_status().",
        "ok server PostgreSQL 15.20: No flaw is known in it by which clients reach rows that \
         policies hide.",
        "ok postgrest SET ROLE anon: Role \"authenticator\" can become \"anon\".",
        "ok postgrest pgrst.db_schemas: Not set in the database: PostgREST takes db-schemas from \
         its own configuration.",
        "ok audit ops.audit_security(): The database conforms to its contract.",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line}\n{lines:#?}");
    }
}

#[test]
fn one_check_stands_for_all_objects_where_none_exists() {
    let mut world = conforming();
    world.snapshot.relations.clear();
    world.snapshot.policies.clear();
    world.snapshot.routines.clear();
    let lines = examined(&world, &all_working());
    let wrong: Vec<&String> = lines.iter().filter(|line| line.starts_with("NO ")).collect();
    assert_eq!(
        wrong[0],
        "NO contract ops.contract(): None of the 12 tables, 9 views and 6 functions that contract \
         \"dragonfly_civil\" 1.0.0 declares exists: the database has no objects yet. Run the \
         migrations that create them. For another application, run its migrations, and then \
         SELECT * FROM ops.adopt();"
    );
    assert!(wrong[1].starts_with("NO audit ops.audit_security(): "), "{wrong:#?}");
    assert_eq!(wrong.len(), 2, "{wrong:#?}");
}

#[test]
fn doctor_reports_problems_with_their_fixes() {
    let mut world = conforming();
    let judgments = world.relation("public.judgments").oid;
    world.snapshot.relations.retain(|r| r.oid != judgments);
    world.snapshot.policies.retain(|p| p.relation != judgments);
    world.relation("public.v_judgment_pipeline").acl = Some(vec![].into());
    world.relation("intake.simplicity_raw").row_security = false;
    world.routine("get_call_queue").config.clear();
    world.role("anon").bypass_rls = true;
    let view = world.relation("ops.v_reaper_status").oid;
    let fails = |relation: &crate::catalog::Relation| {
        if relation.oid == view {
            Outcome::Fails("relation \"ops.reaper_log\" does not exist".to_owned())
        } else {
            Outcome::Works
        }
    };
    store(&mut world, "pgrst.db_schemas", "public, api, nowhere", false);
    let lines = examined(&world, &Probes { view: &fails, ..all_working() });
    let wrong: Vec<&String> = lines.iter().filter(|l| l.starts_with("NO ")).collect();
    assert_eq!(
        wrong,
        [
            "NO role anon: Role \"anon\" has attribute BYPASSRLS, which the contract forbids. => \
             ALTER ROLE anon NOBYPASSRLS;",
            "NO table public.judgments: Table public.judgments, which the contract declares, does \
             not exist.",
            "NO table intake.simplicity_raw: Row security is disabled on table \
             intake.simplicity_raw, for which the contract requires it. => \
             ALTER TABLE intake.simplicity_raw ENABLE ROW LEVEL SECURITY;",
            "NO view public.v_judgment_pipeline: Roles \"anon\" and \"authenticated\" do not have \
             SELECT on view public.v_judgment_pipeline, which the contract declares. Role \
             \"service_role\" does not have SELECT, INSERT, UPDATE, DELETE, TRUNCATE, \
             REFERENCES, TRIGGER on view public.v_judgment_pipeline, which the contract declares. \
             => GRANT SELECT ON TABLE public.v_judgment_pipeline TO anon, authenticated;\n\
             GRANT ALL ON TABLE public.v_judgment_pipeline TO service_role;",
            "NO view ops.v_reaper_status: Cannot be read: relation \"ops.reaper_log\" does not \
             exist.",
            "NO function api.get_call_queue(): SECURITY DEFINER function api.get_call_queue() is \
             exploitable: no search_path is set, so names in \
             its body are looked up in the caller's search_path. => ALTER ROUTINE \
             api.get_call_queue() SET search_path = public, \
             pg_temp;",
            "NO postgrest pgrst.db_schemas: Exposes nowhere, which does not exist. => ALTER ROLE \
             authenticator SET pgrst.db_schemas = 'public, \
             api';\nNOTIFY pgrst, 'reload config';",
            "NO audit ops.audit_security(): 6 errors and 0 warnings: ops.audit_security() lists \
             them. => SELECT * FROM ops.apply_golden_sql();",
        ]
    );
}

#[test]
fn doctor_reports_unchecked_views_and_bodies() {
    let why = || {
        Outcome::Unchecked(
            "it would call function public.evil(), which is owned by \"mallory\"".into(),
        )
    };
    let lines =
        examined(&conforming(), &Probes { view: &|_| why(), routine: &|_| why(), ..all_working() });
    let found = |start: &str| lines.iter().find(|l| l.starts_with(start)).unwrap().clone();
    assert_eq!(
        found("ok view public.v_judgment_pipeline"),
        "ok view public.v_judgment_pipeline: Exists (its query was not planned: it would call \
         function public.evil(), which is owned \
         by \"mallory\"), for \"anon\", \"authenticated\" and \"service_role\"."
    );
    assert_eq!(
        found("ok function api.get_call_queue()"),
        "ok function api.get_call_queue(): Exists (its body was not checked: it would call \
         function public.evil(), which is owned \
         by \"mallory\"), SECURITY DEFINER with a safe search_path, for \"anon\", \
         \"authenticated\" and \"service_role\"."
    );
}

#[test]
fn doctor_reports_declared_access_that_fails() {
    let world = conforming();
    let snapshot = world.snapshot.clone().complete();
    let anon = snapshot.role_named("anon").unwrap().oid;
    let public = snapshot.schema_named("public").unwrap().oid;
    let view = snapshot.relation_named(public, "v_judgment_pipeline").unwrap().oid;
    let denied = |access: &DeclaredAccess| {
        if access.role == anon && access.target == Target::Relation(view) {
            AccessOutcome::Denied(Denial {
                cause: Cause::Privilege,
                message: "permission denied for table judgments".to_owned(),
                fix: Some("GRANT SELECT ON TABLE public.judgments TO postgres;".to_owned()),
            })
        } else {
            AccessOutcome::Works
        }
    };
    let lines = examined(&world, &Probes { access: &denied, ..all_working() });
    let wrong: Vec<&String> = lines.iter().filter(|l| l.starts_with("NO ")).collect();
    assert_eq!(
        wrong,
        ["NO view public.v_judgment_pipeline: Role \"anon\" cannot SELECT, which the contract \
             declares: permission denied for table judgments. => GRANT SELECT ON TABLE \
             public.judgments TO postgres;"]
    );
}

#[test]
fn fix_of_exposed_schemas_keeps_their_scope() {
    let fix = |value: &str, is_of_database| {
        let mut world = conforming();
        store(&mut world, "pgrst.db_schemas", value, is_of_database);
        let lines = examined(&world, &all_working());
        lines
            .iter()
            .find(|l| l.contains("pgrst.db_schemas"))
            .unwrap()
            .split(" => ")
            .nth(1)
            .map(str::to_owned)
    };
    assert_eq!(fix("public, api", true), None);
    assert_eq!(
        fix("public, nope", true).unwrap(),
        "ALTER ROLE authenticator IN DATABASE app SET pgrst.db_schemas = 'public';\nNOTIFY pgrst, \
         'reload config';"
    );
    assert_eq!(
        fix("nope", false).unwrap(),
        "ALTER ROLE authenticator SET pgrst.db_schemas = 'api, intake, public';\nNOTIFY pgrst, \
         'reload config';"
    );
}
