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
