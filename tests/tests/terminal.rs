//! What a person sees in psql: texts that fit the terminal, errors that ask what was meant, one
//! warning instead of many, and names of contracts instead of sections of an unknown document.

use dragonfly_tests::{Cluster, attempt, column};

/// What `\df` and psql show by default fits this width.
const WIDTH: usize = 120;

/// Returns what psql shows.
fn shown(cluster: &Cluster, sql: &str) -> (String, String) {
    let output = cluster.client_program("psql", &["-X", "-d", "app", "-c", sql]);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn findings_and_history_fit_the_terminal() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    cluster.psql_file("app", "fixtures/violations.sql");
    let next = "SELECT ops.load_contract(jsonb_set(jsonb_set(ops.contract(), '{version}',
            '\"1.1.0\"'), '{tables}', '[]'), 'without tables')";
    client.batch_execute(next).unwrap();
    for sql in [
        "SELECT * FROM ops.findings('info')",
        "SELECT version, in_force, loaded_by, note, changes FROM ops.contract_history",
    ] {
        let (table, _) = shown(&cluster, sql);
        assert!(table.lines().count() > 10, "{table}");
        for line in table.lines() {
            assert!(line.chars().count() <= WIDTH, "{}: {line}", line.chars().count());
        }
    }
    let counted = "SELECT (SELECT count(*) FROM ops.findings('info'))
        || ' ' || (SELECT count(*) FROM ops.audit_security())";
    let counts = column(&mut client, counted).remove(0);
    let (narrow, all) = counts.split_once(' ').unwrap();
    assert_eq!(narrow, all);
    let rest = "SELECT split_part(changes, E'\\n', 11) FROM ops.contract_history WHERE in_force";
    let rest = column(&mut client, rest).remove(0);
    assert!(rest.starts_with("... and ") && rest.ends_with(" more"), "{rest}");
}

/// What fits the terminal as psql shows it by default, with names as long as those of the document.
const FITS: &[(&str, &str)] = &[
    ("adopt", "SELECT * FROM ops.adopt(replace => true)"),
    ("adopt", "SELECT * FROM ops.adopt(dry_run => false, replace => true)"),
    ("findings", "SELECT * FROM ops.findings('info')"),
    (
        "load_contract",
        "SELECT * FROM ops.load_contract(ops.contract() || '{\"version\": \"1.1.0\"}')",
    ),
    (
        "load_contract",
        "SELECT * FROM ops.load_contract(ops.contract()
           || '{\"version\": \"1.2.0\", \"tables\": [], \"views\": [], \"functions\": []}')",
    ),
    ("rollback_contract", "SELECT * FROM ops.rollback_contract('1.0.0')"),
    ("declare", "SELECT * FROM ops.declare('CREATE TABLE public.t ()', note => 'a table')"),
    ("schema_fingerprint", "SELECT * FROM ops.schema_fingerprint()"),
    ("assert_consistency", "SELECT ops.assert_consistency()"),
    ("assert_security", "SELECT ops.assert_security()"),
    (
        "accept",
        "SELECT a.* FROM ops.audit_security('{table_privileges}') AS f,
                ops.accept(f.fingerprint, 'read by everyone') AS a",
    ),
    ("exempt", "SELECT ops.exempt(rule => 'rls_disabled', object => 'public.*', reason => 'x')"),
    ("security_summary", "SELECT * FROM ops.security_summary()"),
    ("unexempt", "SELECT ops.unexempt(id => 1)"),
    ("freeze_schema", "SELECT ops.freeze_schema('label')"),
    ("unfreeze_schema", "SELECT ops.unfreeze_schema('label')"),
];

/// What has many columns, for programs, and fits the terminal with the settings of psql that
/// docs/first-day.md names.
const FITS_WRAPPED: &[(&str, &str)] = &[
    ("apply_golden_sql", "SELECT * FROM ops.apply_golden_sql()"),
    ("audit_contract", "SELECT * FROM ops.audit_contract(ops.contract())"),
    ("audit_functions", "SELECT * FROM ops.audit_functions()"),
    ("audit_grants", "SELECT * FROM ops.audit_grants()"),
    ("audit_guard", "SELECT * FROM ops.audit_guard()"),
    ("audit_objects", "SELECT * FROM ops.audit_objects()"),
    ("audit_policies", "SELECT * FROM ops.audit_policies()"),
    ("audit_rls", "SELECT * FROM ops.audit_rls()"),
    ("audit_roles", "SELECT * FROM ops.audit_roles()"),
    ("audit_security", "SELECT * FROM ops.audit_security()"),
    ("audit_snapshot", "SELECT * FROM ops.audit_snapshot(ops.snapshot())"),
    ("audit_views", "SELECT * FROM ops.audit_views()"),
    ("check_schema_consistency", "SELECT * FROM ops.check_schema_consistency()"),
    ("compare_schema", "SELECT * FROM ops.compare_schema(ops.schema_snapshot())"),
    (
        "contract_changes",
        "SELECT ops.contract_changes(ops.contract('1.1.0'), ops.contract('1.2.0'))",
    ),
    ("contract_history", "SELECT * FROM ops.contract_history"),
    ("doctor", "SELECT * FROM ops.doctor()"),
    ("explain_access", "SELECT * FROM ops.explain_access('anon', 'public.judgments')"),
    ("explain_policy", "SELECT * FROM ops.explain_policy('public.judgments')"),
    ("fix_schema_cache", "SELECT * FROM ops.fix_schema_cache()"),
    ("golden_sql", "SELECT * FROM ops.golden_sql()"),
    ("guard_status", "SELECT * FROM ops.guard_status()"),
    ("infer_exemptions", "SELECT * FROM ops.infer_exemptions()"),
    ("judge_search_path", "SELECT * FROM ops.judge_search_path('public')"),
    (
        "prove_isolation",
        "SELECT * FROM ops.prove_isolation('public.judgments', '{\"sub\": \"a\"}', '{}')",
    ),
    ("prove_policy", "SELECT * FROM ops.prove_policy('public.judgments')"),
    ("rls_coverage", "SELECT * FROM ops.rls_coverage()"),
    ("rls_policies", "SELECT * FROM ops.rls_policies()"),
    ("role_matrix", "SELECT * FROM ops.role_matrix()"),
    ("security_definer_functions", "SELECT * FROM ops.security_definer_functions()"),
    ("security_rules", "SELECT * FROM ops.security_rules()"),
    (
        "try_migration",
        "SELECT * FROM ops.try_migration('GRANT SELECT ON public.judgments TO anon')",
    ),
    ("validate_contract", "SELECT * FROM ops.validate_contract(ops.contract())"),
    ("v_exemptions", "SELECT * FROM ops.v_exemptions"),
    ("v_frozen_schemas", "SELECT * FROM ops.v_frozen_schemas"),
    ("v_guard_log", "SELECT * FROM ops.v_guard_log"),
    ("v_security_findings", "SELECT * FROM ops.v_security_findings"),
];

/// What returns one document.
const DOCUMENTS: &[&str] = &[
    "contract",
    "contract_json",
    "contract_preset",
    "contract_schema",
    "contract_sql",
    "infer_contract",
    "report",
    "report_html",
    "schema_snapshot",
    "snapshot",
];

#[test]
fn every_function_and_view_fits_the_terminal() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    cluster.psql_file("app", "fixtures/violations.sql");
    let wrapped: &[&str] = &["-P", "columns=120", "-P", "format=wrapped", "-P", "expanded=auto"];
    let mut wide = Vec::new();
    for (queries, options) in [(FITS, &[][..]), (FITS_WRAPPED, wrapped)] {
        for (_, sql) in queries {
            let arguments = [&["-X", "-d", "app"], options, &["-c", sql]].concat();
            let output = cluster.client_program("psql", &arguments);
            let screen = String::from_utf8(output.stdout).unwrap();
            let width = screen.lines().map(|line| line.trim_end().chars().count()).max();
            if width > Some(WIDTH) {
                wide.push(format!("{} {sql}", width.unwrap_or_default()));
            }
        }
    }
    assert_eq!(wide, [""; 0]);
    let mut measured: Vec<&str> =
        [FITS, FITS_WRAPPED].concat().iter().map(|(name, _)| *name).collect();
    measured.extend(DOCUMENTS);
    measured.sort_unstable();
    measured.dedup();
    let existing = "SELECT DISTINCT name COLLATE \"C\" FROM (
          SELECT p.proname, d.objid FROM pg_proc AS p JOIN pg_depend AS d ON d.objid = p.oid
           WHERE p.pronamespace = 'ops'::regnamespace AND d.deptype = 'e'
           UNION ALL
          SELECT c.relname, d.objid FROM pg_class AS c JOIN pg_depend AS d ON d.objid = c.oid
           WHERE c.relnamespace = 'ops'::regnamespace AND d.deptype = 'e' AND c.relkind = 'v'
        ) AS of_extension(name) ORDER BY 1";
    assert_eq!(column(&mut client, existing), measured);
}

#[test]
fn functions_that_psql_lists_are_those_of_the_reference() {
    let cluster = Cluster::start();
    let _client = cluster.guarded("app");
    let (listed, _) = shown(&cluster, "\\df ops.*");
    let mut names: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("ops "))
        .map(|line| line.split('|').nth(1).unwrap_or_default().trim())
        .filter(|name| !name.is_empty())
        .collect();
    names.dedup();
    assert!(names.len() > 40, "{listed}");
    let reference = include_str!("../../docs/reference/functions.md");
    for name in names {
        assert!(reference.contains(&format!("\n### ops.{name}\n")), "{name} is not documented");
    }
    assert!(!listed.contains("trigger"), "{listed}");
}

#[test]
fn contract_of_each_version_is_returned() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "SELECT ops.load_contract(jsonb_set(ops.contract(), '{version}', '\"1.1.0\"'), 'next');
             SELECT ops.rollback_contract()",
        )
        .unwrap();
    for version in ["1.0.0", "1.1.0"] {
        let of = format!("SELECT ops.contract('{version}')->>'version'");
        assert_eq!(column(&mut client, &of), [version]);
    }
    let error = attempt(&mut client, "SELECT ops.contract('1.0.1')").unwrap_err();
    assert_eq!(error.message, "unrecognized contract version \"1.0.1\"");
    assert!(error.hint.contains("1.0.0, 1.1.0"), "{}", error.hint);
}

#[test]
fn error_about_an_unknown_name_asks_which_one_was_meant() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    for (call, hint) in [
        ("SELECT ops.audit_security(rules => '{table_privilege}')", "\"table_privileges\""),
        ("SELECT ops.audit_security(schemas => '{enforcment}')", "\"enforcement\""),
        ("SELECT ops.golden_sql(schemas => '{publik}')", "\"public\""),
        ("SELECT ops.assert_security('warnings')", "\"warning\""),
        ("SELECT ops.explain_access('anon', 'enforcemnt')", "\"enforcement\""),
        (
            "SELECT ops.exempt(rule => 'rls_disable', object => 'public.*', reason => 'x')",
            "\"rls_disabled\"",
        ),
    ] {
        let error = attempt(&mut client, call).expect_err(call);
        assert!(error.hint.starts_with(&format!("Did you mean {hint}?")), "{call}: {error:?}");
    }
    for (role, object, question) in [
        ("authentcated", "public.judgments", "Did you mean \"authenticated\"?"),
        ("anon", "public.jugdments", "Did you mean \"judgments\"?"),
        ("anon", "api.get_call_queu()", "Did you mean \"get_call_queue\"?"),
        ("anon", "pubic.judgments", "Did you mean \"public\"?"),
    ] {
        let details =
            format!("SELECT string_agg(detail, ' ') FROM ops.explain_access('{role}', '{object}')");
        let details = column(&mut client, &details).remove(0);
        assert_eq!(details.matches(question).count(), 1, "{role} {object}: {details}");
    }
}

#[test]
fn warnings_of_one_statement_about_one_rule_are_one() {
    let cluster = Cluster::start();
    let _client = cluster.guarded_document("app");
    let (_, messages) = shown(
        &cluster,
        "SET dragonfly_guard.mode = warn; GRANT SELECT ON public.judgments, public.job_queue,
         public.plaintiff_tasks, ops.v_event_log_recent TO anon",
    );
    let warnings: Vec<&str> =
        messages.lines().filter(|line| line.starts_with("WARNING:")).collect();
    assert_eq!(
        warnings,
        [
            "WARNING:  GRANT violates the security contract: table_privileges on table \
             public.job_queue (and 2 more)",
            "WARNING:  GRANT violates the security contract: view_privileges on view \
             ops.v_event_log_recent",
            "WARNING:  GRANT violates the security contract: rls_disabled on table \
             public.plaintiff_tasks",
        ],
        "{messages}"
    );
    let lines: Vec<&str> =
        messages.lines().filter(|line| line.contains("has SELECT on table")).collect();
    assert_eq!(lines.len(), 3, "each violation has a line: {messages}");
    let mut client = cluster.connect("app", dragonfly_tests::SUPERUSER);
    let logged = "SELECT count(*)::text FROM ops.v_guard_log WHERE event = 'warned'";
    assert_eq!(column(&mut client, logged), ["5"], "the log has each of them");
}

#[test]
fn contract_without_sections_is_named_without_one() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let load = |version: &str, rules: &str| {
        format!(
            "SELECT ops.load_contract(jsonb_set(jsonb_set(jsonb_set(ops.contract(), '{{version}}',
             '\"{version}\"'), '{{name}}', '\"shop\"'), '{{rules}}', '{rules}'))"
        )
    };
    let grant = "GRANT SELECT ON public.job_queue TO anon";
    for (version, rules, source, section) in [
        ("2.0.0", "{}", "Rule table_privileges, contract shop 2.0.0.", ""),
        (
            "2.1.0",
            "{\"table_privileges\": {\"section\": \"4.2\"}}",
            "Rule table_privileges, contract shop 2.1.0, section 4.2.",
            "4.2",
        ),
    ] {
        client.batch_execute(&load(version, rules)).unwrap();
        let error = attempt(&mut client, grant).unwrap_err();
        assert!(error.detail.ends_with(source), "{}", error.detail);
        client
            .batch_execute(&format!(
                "BEGIN; SET LOCAL dragonfly_guard.mode = off; {grant}; RESET dragonfly_guard.mode"
            ))
            .unwrap();
        let sections = "SELECT contract_section FROM ops.audit_security('{table_privileges}')";
        assert_eq!(column(&mut client, sections), [section]);
        client.batch_execute("ROLLBACK").unwrap();
    }
    let sections = "SELECT contract_section FROM ops.security_rules() WHERE rule = 'rls_disabled'";
    assert_eq!(column(&mut client, sections), [""]);
}
