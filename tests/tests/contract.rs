//! Contracts in the database: loading, changing, rolling back, listing and inferring them, and
//! rejecting invalid ones.

use dragonfly_tests::{Cluster, SUPERUSER, attempt, column, project};
use postgres::Client;
use std::sync::{Arc, Barrier};
use std::thread;

/// Returns SQL for the contract in force with another version and a change.
fn changed(version: &str, change: &str) -> String {
    format!("jsonb_set(ops.contract(), '{{version}}', '\"{version}\"') {change}")
}

const IN_FORCE: &str = "SELECT ops.contract()->>'version'";

#[test]
fn contract_is_changed_and_rolled_back() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let invoices = r#"|| jsonb_build_object('tables', ops.contract()->'tables' ||
        '[{"schema": "public", "name": "invoices", "row_security": true}]')"#;
    let load = format!(
        "SELECT version, replaces, added, removed, changes FROM ops.load_contract({}, 'Invoices')",
        changed("1.1.0", invoices)
    );
    let row = client.query_one(&load, &[]).unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("1.1.0", "1.0.0"));
    // The contract requires a table that does not exist yet.
    assert_eq!((row.get::<_, i64>(2), row.get::<_, i64>(3)), (1, 0));
    let changes = [
        "+ tables[public.invoices]",
        "+ tables[public.invoices].row_security: true",
        "~ version: 1.0.0 -> 1.1.0",
    ];
    assert_eq!(row.get::<_, &str>(4), changes.join("\n"));
    let missing = "SELECT object FROM ops.audit_objects()";
    assert_eq!(column(&mut client, missing), ["public.invoices"]);

    let history = "SELECT version || ' ' || in_force || ' ' || loaded_by || ' ' || note || \
        coalesce(' ' || changes::text, '')
        FROM ops.contract_history";
    assert_eq!(
        column(&mut client, history),
        [
            "1.0.0 false root_su Initial security contract",
            "1.1.0 true root_su Invoices + tables[public.invoices]\n\
             + tables[public.invoices].row_security: true\n\
             ~ version: 1.0.0 -> 1.1.0"
        ]
    );

    // A lower version, a pre-release and a build are rejected, and nothing changes.
    for version in ["1.0.9", "1.1.0-rc.1", "1.1.0+build.7"] {
        let error =
            attempt(&mut client, &format!("SELECT ops.load_contract({})", changed(version, "")))
                .unwrap_err();
        assert_eq!(error.code, "22023", "{version}");
        assert_eq!(error.message, format!("contract version {version} is not higher than 1.1.0"));
        assert!(error.detail.starts_with("Each contract must have a higher version"), "{error:?}");
        assert!(error.hint.starts_with("Change \"version\" to \"1.2.0\" or"), "{error:?}");
    }
    let invalid =
        format!("SELECT ops.load_contract({})", changed("1.2.0", "|| '{\"colour\": \"red\"}'"));
    let error = attempt(&mut client, &invalid).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("22023", "not a valid security contract")
    );
    assert!(error.detail.starts_with("$.colour: unknown field"), "{}", error.detail);
    assert_eq!(column(&mut client, "SELECT count(*)::text FROM ops.contract_history"), ["2"]);

    // A rollback restores the first contract; the version of the second stays in use.
    let back = "SELECT version FROM ops.rollback_contract(note => 'Too early')";
    assert_eq!(column(&mut client, back), ["1.0.0"]);
    assert_eq!(column(&mut client, missing), [""; 0]);
    assert_eq!(
        column(&mut client, "SELECT note FROM ops.contract_history WHERE in_force"),
        ["Too early"]
    );
    assert!(
        attempt(&mut client, &format!("SELECT ops.load_contract({})", changed("1.0.1", "")))
            .is_err()
    );
    assert_eq!(
        column(
            &mut client,
            &format!("SELECT version FROM ops.load_contract({})", changed("1.1.1", ""))
        ),
        ["1.1.1"]
    );
    // A second rollback goes back another step.
    assert_eq!(column(&mut client, "SELECT version FROM ops.rollback_contract()"), ["1.0.0"]);
    let error = attempt(&mut client, "SELECT ops.rollback_contract()").unwrap_err();
    assert_eq!(error.message, "no contract was in force before this one");
    assert_eq!(
        column(&mut client, "SELECT version FROM ops.rollback_contract('1.1.0')"),
        ["1.1.0"]
    );
    let error = attempt(&mut client, "SELECT ops.rollback_contract('1.1.0')").unwrap_err();
    assert_eq!(error.message, "contract 1.1.0 is already in force");
    let error = attempt(&mut client, "SELECT ops.rollback_contract('3.0.0')").unwrap_err();
    assert_eq!(error.message, "contract 3.0.0 has not been in force");
    assert!(error.detail.contains("1.1.1") && error.detail.contains("1.0.0"), "{}", error.detail);
}

#[test]
fn same_contract_can_be_loaded_again_and_again() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let load = |client: &mut Client, contract: &str, columns: &str| {
        column(
            client,
            &format!("SELECT concat_ws(' ', {columns}) FROM ops.load_contract({contract})"),
        )
    };
    let columns = "version, coalesce(replaces, 'none'), added, removed, length(changes)";
    let history = "SELECT id || ' ' || version FROM ops.contract_history";
    // The shipped contract is in force. Neither its order nor what has its default matters.
    let same = "1.0.0 none 0 0 0";
    assert_eq!(load(&mut client, "ops.contract()", columns), [same]);
    assert_eq!(load(&mut client, "ops.contract_json()", columns), [same]);
    assert_eq!(load(&mut client, "ops.contract() - 'readers'", columns), [same]);
    let findings = column(&mut client, "SELECT count(*)::text FROM ops.audit_security()");
    assert_eq!(load(&mut client, "ops.contract()", "findings"), findings);
    assert_eq!(column(&mut client, history), ["1 1.0.0"]);
    // Other contents need another version.
    let edited = "ops.contract_json(jsonb_set(ops.contract(), '{tables,0,row_security}', 'false'))";
    let error = attempt(&mut client, &format!("SELECT ops.load_contract({edited})")).unwrap_err();
    assert_eq!(error.code, "22023");
    assert_eq!(error.message, "contract version 1.0.0 has been loaded with other contents");
    assert_eq!(
        error.detail,
        "The differences:\n~ tables[public.judgments].row_security: true -> false"
    );
    assert_eq!(error.hint, "Change \"version\" to \"1.1.0\" or a higher one.");
    let edited = format!("replace({edited}, '\"1.0.0\"', '\"1.1.0\"')");
    assert_eq!(load(&mut client, &edited, "version, replaces"), ["1.1.0 1.0.0"]);
    assert_eq!(load(&mut client, "ops.contract()", columns), ["1.1.0 none 0 0 0"]);
    // An earlier contract is not in force.
    let shipped = "dragonfly_guard.default_contract()";
    let error = attempt(&mut client, &format!("SELECT ops.load_contract({shipped})")).unwrap_err();
    assert_eq!(error.message, "contract version 1.0.0 is not higher than 1.1.0");
    let call = error.hint.strip_prefix("To return to it, run ").unwrap();
    client.batch_execute(call).unwrap();
    assert_eq!(load(&mut client, shipped, columns), [same]);
    assert_eq!(column(&mut client, history), ["1 1.0.0", "2 1.1.0", "3 1.0.0"]);
    // It remains a change for those who may make none.
    client.batch_execute("SET ROLE postgres").unwrap();
    let error = attempt(&mut client, &format!("SELECT ops.load_contract({shipped})")).unwrap_err();
    assert_eq!(error.code, "42501");
}

#[test]
fn contract_as_text_is_sorted_and_loads_again() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let text = |client: &mut Client, contract: &str| {
        let sql = format!("SELECT ops.contract_json({contract})");
        client.query_one(&sql, &[]).unwrap().get::<_, String>(0)
    };
    let in_force = text(&mut client, "");
    let lines: Vec<&str> = in_force.lines().collect();
    assert_eq!(lines[..3], ["{", "  \"name\": \"dragonfly_civil\",", "  \"version\": \"1.0.0\","]);
    let lines_with = |word: &str| lines.iter().filter(|line| line.contains(word)).count();
    assert_eq!(lines_with("{\"name\": \"postgres\", \"kind\": \"owner\""), 1, "{in_force}");
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{in_force}");
    // Neither the order of the document nor the format of jsonb changes the text.
    assert_eq!(text(&mut client, "ops.contract()"), in_force);
    let shuffled = "jsonb_set(ops.contract(), '{tables}', (SELECT jsonb_agg(t ORDER BY t->>'name' \
        DESC) FROM jsonb_array_elements(ops.contract()->'tables') AS t))";
    assert_eq!(text(&mut client, shuffled), in_force);
    // The text is a contract without differences.
    let changes = client
        .query_one("SELECT ops.contract_changes(ops.contract(), $1::text::jsonb)", &[&in_force])
        .unwrap();
    assert_eq!(changes.get::<_, Vec<String>>(0), [""; 0]);
    let next = in_force.replace("\"1.0.0\"", "\"1.1.0\"");
    client.execute("SELECT ops.load_contract($1::text)", &[&next]).unwrap();
    assert_eq!(text(&mut client, ""), next);
    let error = attempt(&mut client, "SELECT ops.contract_json('{}')").unwrap_err();
    assert_eq!(error.message, "not a valid security contract");
}

#[test]
fn contract_stricter_than_the_database_loads_and_is_enforced() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    // Clients may no longer read judgments.
    let strict = changed("2.0.0", "#- '{tables,0,grants}' #- '{tables,0,policies,authenticated}'");
    let row = client
        .query_one(&format!("SELECT added, findings FROM ops.load_contract({strict})"), &[])
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 2, "the existing grant and policy");
    let found = "SELECT rule FROM ops.audit_security(min_severity => 'error') ORDER BY 1";
    assert_eq!(column(&mut client, found), ["rls_policy_always_true", "table_privileges"]);
    // The existing privilege may be granted again and revoked, but not granted after that.
    let mut migrations = cluster.connect("app", "postgres");
    attempt(&mut migrations, "GRANT SELECT ON public.judgments TO authenticated").unwrap();
    attempt(&mut migrations, "REVOKE SELECT ON public.judgments FROM authenticated").unwrap();
    let error =
        attempt(&mut migrations, "GRANT SELECT ON public.judgments TO authenticated").unwrap_err();
    assert!(error.message.contains("violates the security contract"), "{error:?}");
    // After a rollback to the first contract, it may be granted.
    client.batch_execute("SELECT ops.rollback_contract()").unwrap();
    attempt(&mut migrations, "GRANT SELECT ON public.judgments TO authenticated").unwrap();
}

#[test]
fn aborted_transaction_does_not_change_the_contract() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(&format!(
            "BEGIN; SELECT ops.load_contract({}); ROLLBACK",
            changed("1.1.0", "")
        ))
        .unwrap();
    assert_eq!(column(&mut client, IN_FORCE), ["1.0.0"]);
    assert_eq!(
        column(
            &mut client,
            &format!("SELECT version FROM ops.load_contract({})", changed("1.1.0", ""))
        ),
        ["1.1.0"]
    );
    let error =
        attempt(&mut client, "BEGIN READ ONLY; SELECT ops.rollback_contract()").unwrap_err();
    assert_eq!(error.code, "25006");
    client.batch_execute("ROLLBACK").unwrap();
    // At commit, the contract that stays in force applies, not the one of the statement.
    let open =
        changed("1.2.0", r#"|| '{"rules": {"security_definer_search_path": {"guard": "audit"}}}'"#);
    let swap = format!(
        "BEGIN; SELECT ops.load_contract({open});
         CREATE FUNCTION public.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
         SELECT ops.rollback_contract(); COMMIT"
    );
    let error = attempt(&mut client, &swap).unwrap_err();
    assert!(error.message.contains("has no safe search_path"), "{error:?}");
}

#[test]
fn validation_lists_every_problem_with_its_path() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    // The shipped contract is valid and has known contradictions. Every path is a valid jsonpath.
    let shipped = "SELECT severity || ' ' || path FROM ops.validate_contract(ops.contract())
        WHERE jsonb_path_exists(ops.contract(), path::jsonpath)";
    assert_eq!(
        column(&mut client, shipped),
        [
            "info $.tables[5].row_security",
            "info $.tables[7].row_security",
            "info $.tables[8].row_security",
            "warning $.views[5].grants.anon",
            "warning $.views[5].grants.authenticated"
        ]
    );
    let broken = r#"ops.contract()
        || '{"version": "1", "colour": 1, "rules": {"no_such_rule": {}},
             "trusted_roles": ["anon"]}'"#;
    let errors = format!(
        "SELECT path || ': ' || problem FROM ops.validate_contract({broken}) WHERE severity = \
         'error' AND allowed <> ''"
    );
    assert_eq!(
        column(&mut client, &errors),
        [
            "$.colour: unknown field",
            "$.version: not a semantic version",
            "$.rules.no_such_rule: rule does not exist",
            "$.trusted_roles[0]: trusted role \"anon\" is a client: schemas in which it can \
             create objects would count as safe for SECURITY DEFINER routines"
        ]
    );
    // The text of a file.
    let lines = |client: &mut Client, text: &str| {
        let rows = client
            .query("SELECT path || ': ' || problem FROM ops.validate_contract($1::text)", &[&text])
            .unwrap();
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>()
    };
    assert_eq!(
        lines(&mut client, "{\"name\": \"x\",\n \"name\": 2,}"),
        ["$.name: duplicate field", "$: not valid JSON: trailing comma at line 2 column 12"]
    );
    let twice = lines(
        &mut client,
        r#"{"tables": [], "rules": {"rls_disabled": {}, "rls_disabled": {}}, "tables": []}"#,
    );
    assert_eq!(twice[..2], ["$.rules.rls_disabled: duplicate field", "$.tables: duplicate field"]);
    let error = attempt(&mut client, "SELECT ops.validate_contract(NULL::jsonb)").unwrap_err();
    assert_eq!(error.message, "contract must not be null");
}

/// A contract with a mistake in most of its lines.
const MISTAKEN: &str = r#"{
  "name": "shop",
  "version": "2.0.0",
  "roles": [
    {"name": "visitor", "kind": "clinet"},
    {"name": "clerk", "kind": "worker", "bypassrls": true}
  ],
  "schemas": [{"name": "shop", "usage": ["visitor", "clark"]}],
  "tables": [
    {"schema": "shop", "name": "goods", "rls": true},
    {"schema": "shpo", "name": "orders",
     "grants": {"clerk": ["SELECT", "INSRET"]}},
    {"name": "shop.prices"}
  ],
  "functions": [
    {"schema": "shop", "name": "total", "arguments": "(day date)"},
    {"schema": "shop", "name": "count", "arguments": "int8"},
    {"schema": "shop", "name": "sum(int8)"}
  ],
  "security_definer": {"search_path": ["shop", "pg_temp"]},
  "rules": {"rls_disable": {"guard": "warn"}}
}"#;

#[test]
fn problems_name_the_declaration_the_line_and_what_was_meant() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("app");
    let problems = |client: &mut Client, cast: &str| {
        let sql = format!(
            "SELECT concat_ws(' | ', path, object, line, problem, hint)
            FROM ops.validate_contract($1::text{cast})"
        );
        let rows = client.query(&sql, &[&MISTAKEN]).unwrap();
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>()
    };
    let found = problems(&mut client, "");
    assert_eq!(
        found,
        [
            "$.roles[0].kind | visitor | 5 | \"clinet\" is not allowed | did you mean \"client\"?",
            "$.roles[1].bypassrls | clerk | 6 | unknown field | did you mean \"bypass_rls\"?",
            "$.tables[0].rls | shop.goods | 10 | unknown field | did you mean \"row_security\"?",
            "$.tables[1].grants.clerk[1] | shpo.orders | 12 | \"INSRET\" is not allowed | did you \
             mean \"INSERT\"?",
            "$.tables[2].schema | \"shop.prices\" | 13 | required field is missing | write \
             \"schema\": \"shop\", \"name\": \"prices\"",
            "$.schemas[0].usage[1] | shop | 8 | role \"clark\" is not declared in $.roles | did \
             you mean \"clerk\"?",
            "$.tables[1].schema | shpo.orders | 11 | schema \"shpo\" is not declared in $.schemas \
             | did you mean \"shop\"?",
            "$.rules.rls_disable | 21 | rule does not exist | did you mean \"rls_disabled\"?",
            "$.functions[0].arguments | shop.total((day date)) | 16 | the arguments are in \
             parentheses | write \"date\"",
            "$.functions[1].arguments | shop.count(int8) | 17 | the server prints these types in \
             another way | write \"bigint\"",
            "$.functions[2].name | shop.\"sum(int8)\" | 18 | the name contains the arguments | \
             write \"name\": \"sum\", \"arguments\": \"bigint\"",
        ]
    );
    // As jsonb, there are no lines.
    let without_line = |problem: &String| {
        let parts = problem.split(" | ").filter(|part| part.parse::<u32>().is_err());
        parts.collect::<Vec<_>>().join(" | ")
    };
    assert_eq!(
        problems(&mut client, "::jsonb"),
        found.iter().map(without_line).collect::<Vec<_>>()
    );
    let error = client.execute("SELECT ops.load_contract($1::text)", &[&MISTAKEN]).unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.message(), "not a valid security contract");
    assert!(
        error.detail().unwrap().contains(
            "$.tables[1].grants.clerk[1] (shpo.orders), line 12: \"INSRET\" is not allowed; did \
             you mean \"INSERT\"?\n"
        ),
        "{error:?}"
    );
}

#[test]
fn probable_mistakes_of_a_valid_contract_are_a_notice() {
    let cluster = Cluster::start();
    let mut admin = cluster.guarded_document("app");
    let contract = r#"jsonb_set(jsonb_insert(ops.contract(), '{tables,0}',
        '{"schema": "public", "name": "public.plaintiffs"}'), '{version}', '"1.1.0"')"#;
    let notice = "NOTICE:  the contract has a probable mistake\nDETAIL:  $.tables[0].name \
        (public.\"public.plaintiffs\"): the name contains the schema; write \"schema\": \
        \"public\", \"name\": \"plaintiffs\".\nHINT:  SELECT * FROM ops.validate_contract(...) \
        lists all problems.\n";
    for function in ["audit_contract", "load_contract"] {
        let sql = format!("SELECT count(*) FROM ops.{function}({contract})");
        let output = cluster.client_program("psql", &["-X", "-q", "-d", "app", "-c", &sql]);
        let messages = String::from_utf8_lossy(&output.stderr);
        assert!(messages.starts_with(notice), "{function}: {messages}");
    }
    assert_eq!(column(&mut admin, IN_FORCE), ["1.1.0"]);
}

#[test]
fn text_that_is_no_json_is_recognized() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    for (text, detail, hint) in [
        ("", "The text is empty.", "\\set contract `cat contract.json` sets an empty text if"),
        (" \n", "The text is empty.", "\\set contract `cat contract.json` sets an empty text if"),
        (
            "deploy/contract.json",
            "The text is the name of a file, not its contents.",
            "Read the file: in psql, \\set contract `cat deploy/contract.json`, then use",
        ),
        (
            ":contract",
            "The text is the name of a psql variable, not its value.",
            "Write :'contract' without quotes around it",
        ),
        (
            "name: app\nversion: 1.0.0\n",
            "The text is YAML, not JSON.",
            "Convert the file: yq -o=json contract.yaml > contract.json.",
        ),
        (
            "{\n  // ours\n  \"name\": \"app\"}",
            "Not valid JSON: key must be a string at line 2 column 3.",
            "JSON has no comments: use the fields description and purpose.",
        ),
    ] {
        let error = client.execute("SELECT ops.load_contract($1::text)", &[&text]).unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), "22023", "{text}");
        assert_eq!(error.message(), "not a valid security contract");
        assert_eq!(error.detail(), Some(detail));
        assert!(error.hint().unwrap().starts_with(hint), "{text}: {error:?}");
        let sql = "SELECT count(*), min(hint) FROM ops.validate_contract($1::text)";
        let row = client.query_one(sql, &[&text]).unwrap();
        assert_eq!(row.get::<_, i64>(0), 1, "{text}");
        assert!(
            row.get::<_, String>(1)
                .eq_ignore_ascii_case(error.hint().unwrap().strip_suffix('.').unwrap())
        );
    }
    // What psql makes of a file that does not exist, and what a query prints into a file.
    let folder = cluster.folder();
    let aligned = folder.join("aligned.json");
    let unaligned = folder.join("unaligned.json");
    let script = format!(
        "\\o {}\nSELECT jsonb_pretty(ops.contract());\n\\o {}\n\\pset format unaligned\n\
         \\t\nSELECT ops.contract_json();\n\\o\n\
         \\set missing `cat {}/nowhere.json`\nSELECT ops.load_contract(:'missing');\n\
         \\set aligned `cat {}`\nSELECT ops.load_contract(:'aligned');\n\
         \\set unaligned `cat {}`\nSELECT version FROM ops.load_contract(:'unaligned');\n",
        aligned.display(),
        unaligned.display(),
        folder.display(),
        aligned.display(),
        unaligned.display()
    );
    let file = folder.join("load.sql");
    std::fs::write(&file, script).unwrap();
    let output = cluster.client_program("psql", &["-X", "-d", "app", "-f", file.to_str().unwrap()]);
    let messages = String::from_utf8_lossy(&output.stderr);
    let details: Vec<&str> =
        messages.lines().filter_map(|line| line.strip_prefix("DETAIL:  ")).collect();
    assert_eq!(
        details,
        [
            "The text is empty.",
            "The text is a table as psql prints it, not JSON.",
            "It has the same contents. Nothing is changed."
        ],
        "{messages}"
    );
    // A byte order mark, which some editors write, does no harm.
    let marked = "SELECT version FROM ops.load_contract(E'\\uFEFF' || ops.contract_json())";
    assert_eq!(column(&mut client, marked), ["1.0.0"]);
    let marked = "SELECT version FROM ops.load_contract(E'\\uFEFF' || \
        replace(ops.contract_json(), '\"1.0.0\"', '\"1.1.0\"'))";
    assert_eq!(column(&mut client, marked), ["1.1.0"]);
}

#[test]
fn invalid_document_is_an_error_without_effect() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    for (document, code) in [
        ("NULL::jsonb", "22004"),
        ("NULL::text", "22004"),
        ("'[]'::jsonb", "22023"),
        ("'null'::jsonb", "22023"),
        ("'17'", "22023"),
        ("''", "22023"),
        ("repeat('[', 100000)", "22023"),
        ("repeat('[', 3000) || repeat(']', 3000)", "22023"),
        ("(repeat('[', 3000) || repeat(']', 3000))::jsonb", "22023"),
        ("'{\"name\": \"\\ud800\"}'", "22023"),
        ("'{\"name\": \"\\ud800\"}'::jsonb", "22P02"),
        ("'{\"name\": \"\\u0000\"}'", "22023"),
        ("'{\"name\": \"a\", \"name\": \"b\"}'", "22023"),
        // 50 MB of JSON.
        ("'{\"name\": \"' || repeat('x', 50000000) || '\"}'", "22023"),
        ("jsonb_build_object('name', repeat('x', 50000000))", "22023"),
        ("'{\"tables\": [' || repeat('0,', 25000000) || '0]}'", "22023"),
        ("('{\"tables\": [' || repeat('0,', 7000000) || '0]}')::jsonb", "22023"),
        ("'{\"tables\": [' || repeat('{},', 4000000) || '{}]}'", "22023"),
    ] {
        let started = std::time::Instant::now();
        let error =
            attempt(&mut client, &format!("SELECT ops.load_contract({document})")).unwrap_err();
        assert_eq!(error.code, code, "{document}: {error:?}");
        assert!(started.elapsed().as_secs() < 30, "{document} took {:?}", started.elapsed());
        let listed = attempt(
            &mut client,
            &format!("SELECT count(*) FROM ops.validate_contract({document})"),
        );
        assert!(listed.is_ok() || ["22P02", "22004"].contains(&code), "{document}: {listed:?}");
    }
    assert_eq!(column(&mut client, "SELECT count(*)::text FROM ops.contract_history"), ["1"]);
    // A contract may require objects that do not exist, with names of any characters.
    let odd = r#"|| jsonb_build_object(
        'roles', ops.contract()->'roles' || jsonb_build_array(jsonb_build_object(
            'name', E'Ünï "code"; DROP TABLE x; --\u202E', 'kind', 'client')),
        'schemas', ops.contract()->'schemas' || '[{"name": "not yet", "usage": ["anon"]}]',
        'sequences', '[{"schema": "not yet", "name": "s"}]'::jsonb)"#;
    let row = client
        .query_one(&format!("SELECT added FROM ops.load_contract({})", changed("1.1.0", odd)), &[])
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 3);
    let found = "SELECT rule || ' ' || detail FROM ops.audit_security(min_severity => 'warning') \
        ORDER BY 1";
    assert_eq!(
        column(&mut client, found),
        [
            "required_object_missing Schema \"not yet\", which the contract declares, does not \
             exist.",
            "required_object_missing Sequence \"not yet\".s, which the contract declares, does not \
             exist.",
            "role_missing Role \"Ünï \"code\"; DROP TABLE x; --\\u202E\", which the contract \
             declares, does not exist."
        ]
    );
}

#[test]
fn concurrent_load_is_rejected() {
    let cluster = Cluster::start();
    let mut admin = cluster.guarded_document("app");
    for round in 0..10 {
        let barrier = Arc::new(Barrier::new(2));
        let loads = [0, 1].map(|i| {
            let (mut client, barrier) = (cluster.connect("app", SUPERUSER), barrier.clone());
            let sql = format!(
                "SELECT ops.load_contract({}), pg_sleep(0.1)",
                changed(&format!("1.{}.0", round * 2 + i + 1), "")
            );
            thread::spawn(move || {
                barrier.wait();
                attempt(&mut client, &sql)
            })
        });
        let results = loads.map(|load| load.join().unwrap());
        let errors: Vec<_> = results.iter().filter_map(|r| r.as_ref().err()).collect();
        assert_eq!(errors.len(), 1, "{results:?}");
        assert_eq!(errors[0].code, "55P03");
        assert_eq!(errors[0].message, "another session is changing the security contract");
        // If the lower version was loaded, the higher one is loaded before the next round.
        let highest = format!("1.{}.0", round * 2 + 2);
        if column(&mut admin, IN_FORCE) != [highest.clone()] {
            admin
                .batch_execute(&format!("SELECT ops.load_contract({})", changed(&highest, "")))
                .unwrap();
        }
    }
    // A transaction with an older snapshot cannot replace a contract that it does not see.
    let mut slow = cluster.connect("app", SUPERUSER);
    slow.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT ops.contract()").unwrap();
    admin.batch_execute(&format!("SELECT ops.load_contract({})", changed("2.0.0", ""))).unwrap();
    let error = attempt(&mut slow, &format!("SELECT ops.load_contract({})", changed("3.0.0", "")))
        .unwrap_err();
    assert_eq!(error.code, "40001", "{error:?}");
    slow.batch_execute("ROLLBACK").unwrap();
}

/// Calls that only authorized roles may execute.
const CALLS: [&str; 15] = [
    "SELECT ops.load_contract(jsonb '{}')",
    "SELECT ops.load_contract('{}')",
    "SELECT ops.rollback_contract()",
    "SELECT ops.exempt('x', 'y')",
    "SELECT ops.unexempt(id => 1)",
    "SELECT ops.validate_contract(jsonb '{}')",
    "SELECT ops.validate_contract('{}')",
    "SELECT ops.contract_schema()",
    "SELECT ops.contract_preset('supabase')",
    "SELECT ops.infer_contract()",
    "SELECT ops.audit_contract(jsonb '{}')",
    "SELECT * FROM dragonfly_guard.contract",
    "SELECT * FROM dragonfly_guard.exemption",
    "INSERT INTO dragonfly_guard.contract (id, document) VALUES (9, '{}')",
    "DELETE FROM dragonfly_guard.exemption",
];

/// Calls that monitoring roles may execute.
const READING: [&str; 6] = [
    "SELECT ops.contract()",
    "SELECT ops.contract_json()",
    "SELECT ops.contract_json(ops.contract())",
    "SELECT * FROM ops.contract_history",
    "SELECT * FROM ops.v_exemptions",
    "SELECT ops.contract_changes(ops.contract(), ops.contract())",
];

#[test]
fn only_authorized_roles_change_the_contract() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    client
        .batch_execute(
            "CREATE ROLE deployer; CREATE ROLE untrusted; GRANT USAGE ON SCHEMA ops TO \
            deployer, untrusted",
        )
        .unwrap();
    for role in ["anon", "authenticated", "service_role", "untrusted"] {
        client.batch_execute(&format!("SET ROLE {role}")).unwrap();
        for call in CALLS {
            let error = attempt(&mut client, call).expect_err(call);
            assert_eq!(error.code, "42501", "{role}: {call}: {error:?}");
        }
        for call in READING {
            let done = attempt(&mut client, call);
            assert_eq!(done.is_ok(), role == "service_role", "{role}: {call}: {done:?}");
        }
        client.batch_execute("RESET ROLE").unwrap();
    }
    // The migration role may infer and validate; a GRANT on all functions authorizes no change.
    client.batch_execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ops TO service_role").unwrap();
    for role in ["service_role", "postgres"] {
        client.batch_execute(&format!("SET ROLE {role}")).unwrap();
        for call in &CALLS[..5] {
            let error = attempt(&mut client, call).expect_err(call);
            assert_eq!(
                error.message, "permission denied to change security contract settings",
                "{role}: {call}"
            );
            assert!(error.hint.contains(&format!("TO {role} WITH GRANT OPTION")), "{}", error.hint);
        }
        attempt(&mut client, "SELECT count(*) FROM ops.validate_contract(ops.infer_contract())")
            .unwrap();
        client.batch_execute("RESET ROLE").unwrap();
    }
    // Revoking some of the functions afterwards does not turn the rest into a deliberate grant.
    for revoked in ["try_migration(text)", "load_contract(text, text)", "exempt"] {
        client
            .batch_execute(&format!(
                "REVOKE EXECUTE ON FUNCTION ops.{revoked} FROM service_role; SET ROLE service_role"
            ))
            .unwrap();
        for call in &CALLS[..5] {
            assert_eq!(attempt(&mut client, call).expect_err(call).code, "42501", "{call}");
        }
        client.batch_execute("RESET ROLE").unwrap();
    }
    // A role that a superuser granted EXECUTE may load contracts, but not change the tables.
    client
        .batch_execute(
            "GRANT EXECUTE ON FUNCTION ops.load_contract(jsonb, text), ops.contract() TO deployer;
             GRANT EXECUTE ON FUNCTION ops.load_contract(jsonb, text) TO postgres WITH GRANT \
                 OPTION",
        )
        .unwrap();
    for (role, version) in [("deployer", "1.1.0"), ("postgres", "1.2.0")] {
        let load = format!(
            "SET ROLE {role}; SELECT ops.load_contract({}); RESET ROLE",
            changed(version, "")
        );
        attempt(&mut client, &load).unwrap();
        assert_eq!(column(&mut client, IN_FORCE), [version]);
    }
    // A role with CREATEROLE does not get the privilege by renaming the authorized role.
    client
        .batch_execute(
            "GRANT EXECUTE ON FUNCTION ops.rollback_contract TO postgres; SET ROLE postgres; \
             CREATE ROLE helper CREATEROLE; RESET ROLE;
             SET ROLE helper",
        )
        .unwrap();
    if attempt(&mut client, "ALTER ROLE postgres RENAME TO renamed").is_ok() {
        client.batch_execute("SET ROLE renamed").unwrap();
        for call in [
            "SELECT ops.rollback_contract()",
            "SELECT ops.exempt(rule => 'direct_write', object => '*', reason => 'x')",
        ] {
            assert_eq!(attempt(&mut client, call).unwrap_err().code, "42501", "{call}");
        }
    }
    client.batch_execute("SET ROLE deployer").unwrap();
    assert_eq!(attempt(&mut client, "SELECT ops.rollback_contract()").unwrap_err().code, "42501");
    assert_eq!(
        attempt(&mut client, "UPDATE dragonfly_guard.contract SET note = 'mine'").unwrap_err().code,
        "42501"
    );
}

#[test]
fn audit_under_inferred_contract_finds_omitted_privileges() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    cluster.psql_file("app", "fixtures/violations.sql");
    client
        .batch_execute(
            "ALTER ROLE postgres_old RENAME TO postgres; SET client_min_messages = warning",
        )
        .unwrap();
    let reported = "SELECT fingerprint || rule || object FROM \
        ops.audit_contract(ops.infer_contract()) ORDER BY 1";
    let reported = column(&mut client, reported);
    client.batch_execute("SELECT ops.load_contract(ops.infer_contract(), 'Inferred')").unwrap();
    let found = column(
        &mut client,
        "SELECT fingerprint || rule || object FROM ops.audit_security() ORDER BY 1",
    );
    assert_eq!(found, reported);
    let errors = "SELECT rule || ' ' || object || coalesce(' ' || role_name, '') FROM \
        ops.audit_security(min_severity => 'error') ORDER BY 1";
    let errors = column(&mut client, errors);
    for omitted in [
        "security_definer_search_path api.get_ceo_metrics()",
        "table_privileges public.plaintiff_contacts anon",
        "schema_create intake service_role",
        "default_privileges for role postgres in schema public on tables anon",
        "guard_tampered zz_dragonfly_guard_end",
        "view_privileges public.m_contacts PUBLIC",
    ] {
        assert!(errors.iter().any(|e| e == omitted), "{omitted}: {errors:#?}");
    }
    assert_eq!(
        column(
            &mut client,
            "SELECT path FROM ops.validate_contract(ops.contract()) WHERE severity = 'error'"
        ),
        [""; 0]
    );
    let error = attempt(&mut client, "SELECT ops.infer_contract('{public,nowhere}')").unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("22023", "unrecognized schema \"nowhere\"")
    );
}

#[test]
fn database_of_the_example_conforms_to_its_contract() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("saas");
    client.batch_execute("SET client_min_messages = warning").unwrap();
    let example = |name: &str| {
        std::fs::read_to_string(project().join("docs/examples").join(name)).expect(name)
    };
    let contract = example("saas.json");
    assert_eq!(
        client
            .query("SELECT path, problem FROM ops.validate_contract($1::text)", &[&contract])
            .unwrap()
            .len(),
        0,
        "the example has no contradictions"
    );
    client.execute("SELECT ops.load_contract($1::text, 'A small SaaS')", &[&contract]).unwrap();
    client.batch_execute(&example("saas.sql")).unwrap();
    let found = "SELECT rule || ' ' || detail FROM ops.audit_security(min_severity => 'warning')";
    assert_eq!(column(&mut client, found), [""; 0]);
    client.batch_execute("SELECT ops.assert_security('warning')").unwrap();
    // Tenants see their own rows.
    client
        .batch_execute(
            "SET ROLE tenant_user; SET app.tenant = '2';
             INSERT INTO app.projects (tenant_id, name) VALUES (2, 'theirs')",
        )
        .unwrap();
    assert_eq!(column(&mut client, "SELECT name FROM app.projects"), ["theirs"]);
    client.batch_execute("SET app.tenant = '1'").unwrap();
    assert_eq!(column(&mut client, "SELECT name FROM app.projects"), [""; 0]);
    assert_eq!(
        attempt(&mut client, "INSERT INTO app.projects (tenant_id, name) VALUES (2, 'x')")
            .unwrap_err()
            .code,
        "42501"
    );
    assert_eq!(column(&mut client, "SELECT name FROM app.plans ORDER BY 1"), ["free", "team"]);
    // The inferred contract equals the example, except for decisions that the catalog does not
    // show.
    client.batch_execute("RESET ROLE").unwrap();
    let inferred = "SELECT unnest(ops.contract_changes(ops.contract(), \
        ops.infer_contract('{api,app,billing}')))";
    let differs: Vec<String> = column(&mut client, inferred)
        .into_iter()
        .filter(|line| {
            !(line.contains("purpose")
                || line.contains("description")
                || line.contains("version")
                || line.contains("name:"))
        })
        .collect();
    assert_eq!(differs, EXAMPLE_DECISIONS);
}

/// The differences between the example and the contract inferred from its database.
const EXAMPLE_DECISIONS: [&str; 1] = ["- $schema: ../reference/contract.schema.json"];

#[test]
fn history_names_the_session_user_whatever_the_current_user_is() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("users");
    attempt(
        &mut client,
        "CREATE ROLE lead SUPERUSER; SET ROLE lead;
         SELECT FROM ops.declare('CREATE SCHEMA more', note => 'As another role');
         SELECT ops.exempt(rule => 'rls_disabled', object => '*', reason => 'As another role');
         SELECT ops.freeze_schema('a'); SELECT ops.unexempt(id => 1); RESET ROLE",
    )
    .unwrap();
    let users = "SELECT loaded_by::text FROM ops.contract_history
        UNION ALL SELECT exempted_by FROM ops.v_exemptions
        UNION ALL SELECT withdrawn_by FROM ops.v_exemptions
        UNION ALL SELECT frozen_by FROM ops.v_frozen_schemas";
    let mut found = column(&mut client, users);
    found.dedup();
    assert_eq!(found, [SUPERUSER]);
}
