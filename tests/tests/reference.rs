//! `docs/reference/functions.md` is generated from the catalog: functions and views of the
//! extension in schema ops, with their comments. `UPDATE_DOCS=1` writes it.

use dragonfly_tests::Cluster;
use dragonfly_tests::pages::Page;
use postgres::Client;
use std::fmt::Write;
use std::path::Path;

#[test]
fn the_function_reference_matches_the_catalog() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let page = reference(&functions(&mut client), &views(&mut client));
    Page::compare(Path::new("docs/reference/functions.md"), &page).unwrap();
}

#[test]
fn every_setting_has_a_heading_with_its_values_and_default() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded("app");
    client.batch_execute("LOAD 'dragonfly_guard'").unwrap();
    let page = Page::read(Path::new("docs/reference/settings.md")).text;
    let settings = "SELECT name, coalesce(enumvals, '{}'), boot_val FROM pg_settings
        WHERE name LIKE 'dragonfly\\_guard.%'";
    let settings = client.query(settings, &[]).unwrap();
    assert_eq!(settings.len(), page.matches("\n## dragonfly_guard.").count());
    for setting in settings {
        let (name, values): (String, Vec<String>) = (setting.get(0), setting.get(1));
        let section = page.split("\n## ").find(|section| section.starts_with(&name));
        let section = section.unwrap_or_else(|| panic!("no section about {name}"));
        let default = format!("- **Default**: `{}`.", setting.get::<_, String>(2));
        assert!(section.contains(&default), "{name}: {default}");
        for value in values {
            assert!(section.contains(&format!("`{value}`")), "{name}: {value}");
        }
    }
}

/// A function or view.
struct Object {
    name: String,
    /// As it is called; empty for a view.
    signature: String,
    /// What it returns, other than a table; empty for a view.
    result: String,
    comment: String,
    /// Names and types of the result's columns.
    columns: Vec<(String, String)>,
    /// Roles that have EXECUTE or SELECT after CREATE EXTENSION, without the owner.
    grantees: Vec<String>,
}

const MEMBER: &str =
    "EXISTS (SELECT FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
      AND e.extname = 'dragonfly_guard' AND d.classid = o.tableoid AND d.objid = o.oid)";

fn functions(client: &mut Client) -> Vec<Object> {
    let sql = format!(
        "SELECT proname::text, pg_get_function_arguments(oid), pg_get_function_result(oid),
                coalesce(obj_description(oid, 'pg_proc'), ''),
                coalesce(ARRAY(SELECT proargnames[i] FROM generate_subscripts(proargmodes, 1) AS i
                                WHERE proargmodes[i] = 't' ORDER BY i), '{{}}'),
                coalesce(ARRAY(SELECT format_type(proallargtypes[i], NULL)
                                 FROM generate_subscripts(proargmodes, 1) AS i
                                WHERE proargmodes[i] = 't' ORDER BY i), '{{}}'),
                ARRAY(SELECT grantee::regrole::text FROM aclexplode(proacl)
                       WHERE grantee <> proowner ORDER BY 1)
           FROM pg_proc AS o
          WHERE pronamespace = 'ops'::regnamespace AND {MEMBER}
          ORDER BY proname, pg_get_function_arguments(oid)"
    );
    let rows = client.query(&sql, &[]).unwrap();
    rows.iter()
        .map(|row| {
            let (names, types): (Vec<String>, Vec<String>) = (row.get(4), row.get(5));
            let name: String = row.get(0);
            let result: String = row.get(2);
            Object {
                signature: signature(&name, &without_casts(&row.get::<_, String>(1))),
                name,
                result: if names.is_empty() { result } else { String::new() },
                comment: row.get(3),
                columns: names.into_iter().zip(types).collect(),
                grantees: row.get(6),
            }
        })
        .collect()
}

fn views(client: &mut Client) -> Vec<Object> {
    let sql = format!(
        "SELECT relname::text, coalesce(obj_description(oid, 'pg_class'), ''),
                ARRAY(SELECT attname::text FROM pg_attribute
                       WHERE attrelid = o.oid AND attnum > 0 ORDER BY attnum),
                ARRAY(SELECT format_type(atttypid, atttypmod) FROM pg_attribute
                       WHERE attrelid = o.oid AND attnum > 0 ORDER BY attnum),
                ARRAY(SELECT grantee::regrole::text FROM aclexplode(relacl)
                       WHERE grantee <> relowner ORDER BY 1)
           FROM pg_class AS o
          WHERE relnamespace = 'ops'::regnamespace AND relkind = 'v' AND {MEMBER}
          ORDER BY relname"
    );
    let rows = client.query(&sql, &[]).unwrap();
    rows.iter()
        .map(|row| {
            let (names, types): (Vec<String>, Vec<String>) = (row.get(2), row.get(3));
            Object {
                name: row.get(0),
                signature: String::new(),
                result: String::new(),
                comment: row.get(1),
                columns: names.into_iter().zip(types).collect(),
                grantees: row.get(4),
            }
        })
        .collect()
}

/// Columns of a line.
const WIDTH: usize = 100;

/// The arguments with defaults as people write them: `NULL`, not `NULL::name[]`.
fn without_casts(arguments: &str) -> String {
    let parts = arguments.split(", ").map(|argument| match argument.split_once(" DEFAULT ") {
        Some((declared, default)) => {
            let default = default.split("::").next().unwrap_or_default();
            format!("{declared} DEFAULT {default}")
        }
        None => argument.to_owned(),
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// The function as it is called; one argument per line where one line is too short.
fn signature(name: &str, arguments: &str) -> String {
    let line = format!("ops.{name}({arguments})");
    if line.len() <= WIDTH {
        line
    } else {
        line.replace(", ", ",\n    ").replacen('(', "(\n    ", 1)
    }
}

fn reference(functions: &[Object], views: &[Object]) -> String {
    let mut page = format!("{INTRODUCTION}{}", tasks());
    let findings = functions.iter().find(|function| function.name == "audit_security");
    let findings = findings.map_or(&[][..], |function| &function.columns);
    page += "\n## Functions\n";
    let mut previous = "";
    for function in functions {
        if function.name != previous {
            write!(page, "\n### ops.{}\n", function.name).unwrap();
            previous = &function.name;
        }
        let result = match function.result.as_str() {
            "" => String::new(),
            result => format!(" RETURNS {result}"),
        };
        write!(page, "\n```sql\n{}{result}\n```\n", function.signature).unwrap();
        describe(&mut page, function, "EXECUTE", findings);
    }
    page += "\n## Views\n";
    for view in views {
        write!(page, "\n### ops.{}\n", view.name).unwrap();
        describe(&mut page, view, "SELECT", findings);
    }
    page
}

/// Comment, columns and privileges. `findings` are the columns of findings, which have a page.
fn describe(page: &mut String, object: &Object, privilege: &str, findings: &[(String, String)]) {
    write!(page, "\n{}\n", wrapped(&object.comment)).unwrap();
    if object.columns == findings {
        *page += "\nThe columns are those of [findings](findings.md).\n";
    } else if !object.columns.is_empty() {
        *page += "\n| column | type |\n|---|---|\n";
        for (name, data_type) in &object.columns {
            writeln!(page, "| `{name}` | `{data_type}` |").unwrap();
        }
    }
    let grantees: Vec<String> = object.grantees.iter().map(|role| format!("`{role}`")).collect();
    let grantees = if grantees.is_empty() { "no role".into() } else { grantees.join(", ") };
    write!(page, "\n{privilege} after installation: superusers, {grantees}.\n").unwrap();
}

/// The text as lines of Markdown.
fn wrapped(text: &str) -> String {
    let mut out = String::new();
    let mut length = 0;
    for word in text.replace('*', "\\*").replace('<', "\\<").split_whitespace() {
        let separator = match length {
            0 => "",
            n if n + 1 + word.len() > WIDTH => "\n",
            _ => " ",
        };
        length = if separator == " " { length + 1 + word.len() } else { word.len() };
        out += separator;
        out += word;
    }
    out
}

const INTRODUCTION: &str = "# Functions and views

This page is generated from the catalog comments of the extension (`\\df+ ops.*`, `\\dv+ ops.*`).

- Arguments with a default can be omitted and can be passed by name:
  `ops.audit_security(min_severity => 'warning')`.
- `rules` takes ids of [rules](../rules/index.md); `min_severity` is `error`, `warning` or `info`.
  NULL does not restrict.
- `schemas`, `rules` and `steps` are arrays, also for one element: `ARRAY['public']` or
  `'{public}'`. `ops.adopt('public')` takes the name of one schema as well.
- PUBLIC has no privilege on any of these objects. CREATE EXTENSION grants them to the roles
  `postgres`, `pg_monitor` and `service_role` where these roles exist; each entry lists them.
- Functions that change the contract, exemptions or frozen schemas are for superusers and for roles
  with EXECUTE on exactly that function: see
  [Who can change it](../how-to/change-the-contract.md#who-can-change-it).
- The columns of findings are described in [Findings](findings.md).
";

/// What the functions are for; each name is a link to its entry.
const TASKS: [(&str, &[&str]); 9] = [
    (
        "Audit",
        &[
            "findings",
            "audit_security",
            "audit_roles",
            "audit_objects",
            "audit_grants",
            "audit_views",
            "audit_functions",
            "audit_rls",
            "audit_policies",
            "audit_guard",
            "report",
            "report_html",
            "security_summary",
            "assert_consistency",
            "assert_security",
            "v_security_findings",
            "security_rules",
            "snapshot",
            "audit_snapshot",
        ],
    ),
    ("Overviews", &["role_matrix", "rls_coverage", "rls_policies", "security_definer_functions"]),
    ("SECURITY DEFINER", &["judge_search_path"]),
    ("Fix", &["golden_sql", "apply_golden_sql", "try_migration"]),
    (
        "Explain",
        &[
            "explain_access",
            "explain_policy",
            "prove_policy",
            "prove_isolation",
            "doctor",
            "fix_schema_cache",
        ],
    ),
    (
        "Contract",
        &[
            "contract",
            "declare",
            "accept",
            "contract_sql",
            "contract_json",
            "contract_history",
            "validate_contract",
            "contract_schema",
            "contract_preset",
            "contract_changes",
            "load_contract",
            "rollback_contract",
            "adopt",
            "infer_contract",
            "infer_exemptions",
            "audit_contract",
        ],
    ),
    ("Exemptions", &["exempt", "unexempt", "v_exemptions"]),
    (
        "Drift",
        &[
            "check_schema_consistency",
            "freeze_schema",
            "unfreeze_schema",
            "v_frozen_schemas",
            "schema_fingerprint",
            "schema_snapshot",
            "compare_schema",
        ],
    ),
    ("Guard", &["guard_status", "v_guard_log"]),
];

/// The list of tasks, wrapped.
fn tasks() -> String {
    let mut out = String::from("\n## By task\n\n");
    for (task, names) in TASKS {
        writeln!(out, "- {task}:").unwrap();
        let links: Vec<String> =
            names.iter().map(|name| format!("[`{name}`](#ops{name})")).collect();
        for line in wrapped(&links.join(", ")).lines() {
            writeln!(out, "  {line}").unwrap();
        }
    }
    out
}

#[test]
fn every_function_and_view_has_a_task() {
    let cluster = Cluster::start();
    let mut client = cluster.guarded_document("app");
    let mut real: Vec<String> = functions(&mut client)
        .into_iter()
        .chain(views(&mut client))
        .map(|object| object.name)
        .collect();
    let mut listed: Vec<String> =
        TASKS.iter().flat_map(|(_, names)| *names).map(|name| (*name).to_owned()).collect();
    real.sort();
    real.dedup();
    listed.sort();
    assert_eq!(listed, real);
}
