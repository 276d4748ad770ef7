//! Somebody has laid hands on the guard itself, or on what can silence it.

use super::{Area, Context, Rule};
use crate::catalog::{Acl, AclItem, GuardFunction, Object, ObjectId, Oid, PUBLIC, Privileges, RoleSetting};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Measure};
use crate::mend::{Change, Mend, Statement, unless};
use crate::sql::{listed, printable, quote_ident, quote_literal, safe_ident};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "guard_tampered",
    title: "The guard is not whole, or something can silence it",
    area: Area::Guard,
    severity: Severity::Error,
    guard: GuardAction::Block,
    section: "9",
    why: "A contract that enforces itself is worth what its guard is worth; none of these changes fires an event.",
    mend: "Undo it; where the extension itself is damaged, DROP EXTENSION and CREATE EXTENSION put it right. Contracts of your own are \
           in dragonfly_guard.contract: save them first.",
    judge,
};

/// The private schema.
pub const SCHEMA: &str = "dragonfly_guard";

/// The event triggers that the extension installs: name and event. Each calls the function of SCHEMA that is named like its event.
pub const TRIGGERS: [(&str, &str); 2] =
    [("zz_dragonfly_guard_start", "ddl_command_start"), ("zz_dragonfly_guard_end", "ddl_command_end")];

/// The functions that the extension installs: schema, name, argument types, symbol in the library, and whether it is STRICT. The one
/// without a symbol is a query that was parsed when it was made.
pub const FUNCTIONS: [(&str, &str, &str, Option<&str>, bool); 48] = [
    (SCHEMA, "announce", "", Some("guard_announce"), false),
    (SCHEMA, "ddl_command_end", "", Some("guard_ddl_command_end"), false),
    (SCHEMA, "ddl_command_start", "", Some("guard_ddl_command_start"), false),
    (SCHEMA, "default_contract", "", Some("guard_default_contract"), true),
    (SCHEMA, "is_contract", "pg_catalog.jsonb", Some("guard_is_contract"), true),
    ("ops", "apply_golden_sql", "boolean,pg_catalog.name[],pg_catalog.text[]", Some("ops_apply_golden_sql"), false),
    ("ops", "assert_security", "pg_catalog.text", Some("ops_assert_security"), false),
    ("ops", "audit_contract", "pg_catalog.jsonb", Some("ops_audit_contract"), true),
    ("ops", "audit_functions", "", Some("ops_audit_functions"), false),
    ("ops", "audit_grants", "", Some("ops_audit_grants"), false),
    ("ops", "audit_guard", "", Some("ops_audit_guard"), false),
    ("ops", "audit_objects", "", Some("ops_audit_objects"), false),
    ("ops", "audit_rls", "", Some("ops_audit_rls"), false),
    ("ops", "audit_roles", "", Some("ops_audit_roles"), false),
    ("ops", "audit_security", "pg_catalog.text[],pg_catalog.name[],pg_catalog.text,boolean", Some("ops_audit_security"), false),
    ("ops", "audit_views", "", Some("ops_audit_views"), false),
    ("ops", "check_schema_consistency", "pg_catalog.text,pg_catalog.name[]", Some("ops_check_schema_consistency"), false),
    ("ops", "compare_schema", "pg_catalog.jsonb", Some("ops_compare_schema"), false),
    ("ops", "contract", "", Some("ops_contract"), false),
    ("ops", "contract_changes", "pg_catalog.jsonb,pg_catalog.jsonb", Some("ops_contract_changes"), true),
    ("ops", "contract_schema", "", Some("ops_contract_schema"), true),
    ("ops", "doctor", "pg_catalog.name", Some("ops_doctor"), false),
    ("ops", "every_function", "", Some("ops_every_function"), false),
    (
        "ops",
        "exempt",
        "pg_catalog.text,pg_catalog.text,timestamp with time zone,pg_catalog.text,pg_catalog.text",
        Some("ops_exempt"),
        false,
    ),
    ("ops", "exemptions", "", Some("ops_exemptions"), false),
    (
        "ops",
        "explain_access",
        "pg_catalog.name,pg_catalog.text,pg_catalog.text,pg_catalog.name",
        Some("ops_explain_access"),
        false,
    ),
    ("ops", "fix_schema_cache", "pg_catalog.name", Some("ops_fix_schema_cache"), false),
    ("ops", "freeze_schema", "pg_catalog.text,pg_catalog.name[],boolean", Some("ops_freeze_schema"), false),
    ("ops", "golden_sql", "pg_catalog.name[],pg_catalog.text[]", Some("ops_golden_sql"), false),
    ("ops", "guard_status", "", Some("ops_guard_status"), false),
    ("ops", "judge_search_path", "pg_catalog.regprocedure", Some("ops_judge_search_path"), true),
    ("ops", "judge_search_path", "pg_catalog.text,pg_catalog.regrole", Some("ops_judge_search_path_of_owner"), false),
    ("ops", "infer_contract", "pg_catalog.name[]", Some("ops_infer_contract"), false),
    ("ops", "load_contract", "pg_catalog.jsonb,pg_catalog.text", Some("ops_load_contract"), false),
    ("ops", "load_contract", "pg_catalog.text,pg_catalog.text", Some("ops_load_contract_text"), false),
    ("ops", "rls_coverage", "", Some("ops_rls_coverage"), false),
    ("ops", "rls_policies", "", None, false),
    ("ops", "role_matrix", "", Some("ops_role_matrix"), false),
    ("ops", "rollback_contract", "pg_catalog.text,pg_catalog.text", Some("ops_rollback_contract"), false),
    ("ops", "schema_fingerprint", "pg_catalog.name[]", Some("ops_schema_fingerprint"), false),
    ("ops", "schema_snapshot", "pg_catalog.name[]", Some("ops_schema_snapshot"), false),
    ("ops", "security_definer_functions", "", Some("ops_security_definer_functions"), false),
    ("ops", "security_rules", "", Some("ops_security_rules"), false),
    ("ops", "try_migration", "pg_catalog.text", Some("ops_try_migration"), true),
    ("ops", "unexempt", "pg_catalog.text,integer", Some("ops_unexempt"), false),
    ("ops", "unfreeze_schema", "pg_catalog.text", Some("ops_unfreeze_schema"), false),
    ("ops", "validate_contract", "pg_catalog.jsonb", Some("ops_validate_contract"), true),
    ("ops", "validate_contract", "pg_catalog.text", Some("ops_validate_contract_text"), true),
];

/// Whether people call a function of the extension by this name in schema `ops`.
#[must_use]
pub fn is_called_in_ops(name: &str) -> bool {
    FUNCTIONS.iter().any(|(schema, function, ..)| *schema == "ops" && *function == name)
}

fn judge(cx: &Context<'_>, out: &mut Vec<Draft>) {
    if !cx.snapshot.guard.installed {
        return;
    }
    extension(cx, out);
    triggers(cx, out);
    functions(cx, out);
    private_schema(cx, out);
    views(cx, out);
    settings(cx, out);
}

/// Whoever owns the extension can drop it.
fn extension(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let own = cx.snapshot.extensions.values().find(|(name, _)| name == SCHEMA);
    if let Some(problem) = own.and_then(|(_, owner)| ownership(cx, *owner)) {
        let reassign = "which REASSIGN OWNED alone can change";
        out.push(finding("extension", SCHEMA, "Extension dragonfly_guard", &format!("{problem}, {reassign}"), None));
    }
    for stray in &cx.snapshot.guard.strays {
        let problem = "is none of the extension's own and was added to it, out of sight of the other rules";
        out.push(finding(
            "extension",
            stray,
            &format!("Member {} of extension dragonfly_guard", printable(stray)),
            problem,
            None,
        ));
    }
}

/// Why an owner is a problem, if it is.
fn ownership(cx: &Context<'_>, owner: Oid) -> Option<String> {
    (!cx.access.is_superuser(owner))
        .then(|| format!("belongs to \"{}\", who is not a superuser", printable(&cx.snapshot.role_name(owner))))
}

fn triggers(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (name, event) in TRIGGERS {
        let subject = format!("Event trigger {name}");
        let anew = format!(
            "CREATE EVENT TRIGGER {name} ON {event} EXECUTE FUNCTION dragonfly_guard.{event}();\n\
             ALTER EVENT TRIGGER {name} ENABLE ALWAYS;\nALTER EXTENSION dragonfly_guard ADD EVENT TRIGGER {name};"
        );
        let mut report = |problem: &str, fix: Option<String>| out.push(finding("event trigger", name, &subject, problem, fix));
        let Some(trigger) = cx.snapshot.guard.triggers.iter().find(|t| t.name == name) else {
            report("does not exist", Some(anew));
            continue;
        };
        let enabled = match trigger.enabled {
            b'A' => None,
            b'D' => Some("is disabled"),
            b'R' => Some("is enabled for replicas alone"),
            _ => Some("is silent under session_replication_role = replica"),
        };
        if let Some(problem) = enabled {
            report(problem, Some(format!("ALTER EVENT TRIGGER {name} ENABLE ALWAYS;")));
        }
        let leave = match trigger.extension_member {
            true => format!("ALTER EXTENSION dragonfly_guard DROP EVENT TRIGGER {name};\n"),
            false => String::new(),
        };
        let replace = format!("{leave}DROP EVENT TRIGGER {name};\n{anew}");
        if trigger.event != event || !trigger.calls_own_function {
            report("does not call the guard", Some(replace));
            continue;
        }
        if trigger.filtered {
            report("is called for some commands only", Some(replace));
            continue;
        }
        if let Some(problem) = ownership(cx, trigger.owner) {
            report(&problem, Some(format!("ALTER EVENT TRIGGER {name} OWNER TO CURRENT_USER;")));
        }
        if !trigger.extension_member {
            let fix = format!("ALTER EXTENSION dragonfly_guard ADD EVENT TRIGGER {name};");
            report("is no member of the extension and can be dropped", Some(fix));
        }
    }
}

fn functions(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let found = &cx.snapshot.guard.functions;
    for (schema, name, arguments, symbol, strict) in FUNCTIONS {
        let identity = format!("{schema}.{name}({arguments})");
        let subject = format!("Function {}", identity.replace("pg_catalog.", ""));
        let mut report = |problem: &str, fix: Option<String>| out.push(finding("function", &identity, &subject, problem, fix));
        let Some(function) = found.iter().find(|f| f.schema == schema && f.name == name && f.arguments == arguments) else {
            report("is missing from the extension", None);
            continue;
        };
        if function.symbol.as_deref() != symbol {
            report("has been replaced", None);
        }
        if let Some(problem) = ownership(cx, function.owner) {
            report(&problem, Some(format!("ALTER FUNCTION {identity} OWNER TO CURRENT_USER;")));
        }
        if function.strict != strict || function.security_definer || !function.config.is_empty() {
            let (clause, and) = (if strict { "STRICT" } else { "CALLED ON NULL INPUT" }, "SECURITY INVOKER RESET ALL");
            report("has been altered", Some(format!("ALTER FUNCTION {identity} {clause} {and};")));
        }
        callers(cx, function, &identity, &mut report);
    }
    for (name, arguments) in &cx.snapshot.guard.impostors {
        let identity = format!("ops.{}({arguments})", quote_ident(name));
        let problem = "has the name of one of the extension's own and can be called in its place";
        let fix = format!("DROP ROUTINE ops.{}({});", safe_ident(name), crate::sql::safe_sql(arguments));
        let mut draft = finding("function", &identity, &format!("Function {}", printable(&identity)), problem, None);
        let change = Change::DropRoutine("ops".to_owned(), name.clone(), arguments.clone());
        draft.mend = Mend::by(Statement::new(change, fix));
        out.push(draft);
    }
}

/// PUBLIC and clients have no business with the guard's functions. (Whom else a superuser lets in is the superuser's to say; those that
/// change something ask for more than EXECUTE from workers.)
fn callers(cx: &Context<'_>, function: &GuardFunction, identity: &str, report: &mut impl FnMut(&str, Option<String>)) {
    let default = || crate::catalog::ObjectKind::Routine.default_acl(function.owner);
    for item in function.acl.clone().unwrap_or_else(default).iter().filter(|i| i.grantee == PUBLIC || cx.is_client(i.grantee)) {
        let fix = format!("REVOKE ALL ON FUNCTION {identity} FROM {} CASCADE;", cx.snapshot.grantee(item.grantee));
        report(&format!("may be called by {}", printable(&cx.snapshot.role_name(item.grantee))), Some(fix));
    }
}

/// The private schema and its tables belong to a superuser, and nobody else does anything there.
fn private_schema(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let Some(schema) = cx.snapshot.guard.schema.and_then(|oid| cx.snapshot.schema(oid)) else { return };
    let name = safe_ident(&schema.name);
    if schema.name != SCHEMA {
        let fix = format!("ALTER SCHEMA {name} RENAME TO {SCHEMA};");
        out.push(finding("schema", &schema.name, &format!("Schema {name}"), "is the guard's, under another name", Some(fix)));
    }
    closed(cx, "SCHEMA", &name, schema.owner, schema.acl.as_ref(), None, out);
    for table in &cx.snapshot.guard.tables {
        let identity = format!("{name}.{}", safe_ident(&table.name));
        closed(cx, "TABLE", &identity, table.owner, table.acl.as_ref(), None, out);
        for (column, acl) in &table.columns {
            closed(cx, "TABLE", &identity, table.owner, Some(acl), Some(column), out);
        }
        if !table.lacking.is_empty() {
            let problem = format!("has lost the constraint {}", listed(&table.lacking));
            out.push(finding("table", &identity, &format!("Table {identity}"), &problem, None));
        }
        for trigger in &table.triggers {
            let fix = format!("DROP TRIGGER {} ON {identity};", safe_ident(trigger));
            let problem = format!("has the trigger {}, which is not the extension's", printable(trigger));
            out.push(finding("table", &identity, &format!("Table {identity}"), &problem, Some(fix)));
        }
    }
}

/// What others may do with something of the private schema. Reading the contract does no harm; but whoever may is named too, where it is
/// a client.
fn closed(
    cx: &Context<'_>,
    kind: &str,
    identity: &str,
    owner: Oid,
    acl: Option<&Acl>,
    column: Option<&str>,
    out: &mut Vec<Draft>,
) {
    let object_type = if kind == "SCHEMA" { "schema" } else { "table" };
    let subject = format!("{}{} {identity}", object_type[..1].to_uppercase(), &object_type[1..]);
    if column.is_none()
        && let Some(problem) = ownership(cx, owner)
    {
        let fix = format!("ALTER {kind} {identity} OWNER TO CURRENT_USER;");
        out.push(finding(object_type, identity, &subject, &problem, Some(fix)));
    }
    for item in acl.into_iter().flatten().filter(|item| is_too_much(cx, item, owner)) {
        let on_column = column.map(|c| format!(" ({})", safe_ident(c))).unwrap_or_default();
        let words: Vec<String> = item.privileges.words().iter().map(|word| format!("{word}{on_column}")).collect();
        let words = words.join(", ");
        let problem = format!("gives {words} to {}", printable(&cx.snapshot.role_name(item.grantee)));
        let fix = format!("REVOKE {words} ON {kind} {identity} FROM {} CASCADE;", cx.snapshot.grantee(item.grantee));
        out.push(finding(object_type, identity, &subject, &problem, Some(fix)));
    }
}

fn is_too_much(cx: &Context<'_>, item: &AclItem, owner: Oid) -> bool {
    let reading = Privileges::USAGE | Privileges::SELECT;
    let harmless = reading.contains(item.privileges) && item.grantee != PUBLIC && !cx.is_client(item.grantee);
    item.grantee != owner && !cx.access.is_superuser(item.grantee) && !harmless
}

/// Views over the audits must be a superuser's, or their owner says what they show.
fn views(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for view in &cx.snapshot.guard.views {
        let identity = format!("{}.{}", safe_ident(&view.schema), safe_ident(&view.name));
        let subject = format!("View {identity}");
        if let Some(problem) = ownership(cx, view.owner) {
            out.push(finding(
                "view",
                &identity,
                &subject,
                &problem,
                Some(format!("ALTER VIEW {identity} OWNER TO CURRENT_USER;")),
            ));
        }
        for item in view.acl.iter().flatten().filter(|i| i.grantee == PUBLIC || cx.is_client(i.grantee)) {
            let problem = format!("may be read by {}", printable(&cx.snapshot.role_name(item.grantee)));
            let fix = format!("REVOKE ALL ON TABLE {identity} FROM {} CASCADE;", cx.snapshot.grantee(item.grantee));
            out.push(finding("view", &identity, &subject, &problem, Some(fix)));
        }
    }
}

/// Whether a value of one of these parameters silences the guard, or the triggers it lives by.
#[must_use]
pub fn silences(parameter: &str, value: &str) -> bool {
    let value = value.trim().to_ascii_lowercase();
    match parameter {
        // "local" fires ordinary triggers as "origin" does.
        "session_replication_role" => value == "replica",
        // parse_bool takes any beginning of the words.
        "event_triggers" => {
            value == "0" || (value.len() > 1 && "off".starts_with(&value)) || is_beginning(&value, &["false", "no"])
        }
        "dragonfly_guard.mode" => value != "block",
        _ => false,
    }
}

fn is_beginning(value: &str, words: &[&str]) -> bool {
    !value.is_empty() && words.iter().any(|word| word.starts_with(value))
}

/// Settings that silence the guard: stored for a role or a database, in force on the server; and who may make such settings.
fn settings(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let guard = &cx.snapshot.guard;
    for setting in guard.settings.iter().filter(|s| silences(&s.name, &s.value)) {
        let (object_type, identity, fix) = place(cx, setting);
        let problem = format!("has the setting {} = {}", setting.name, printable(&quote_literal(&setting.value)));
        let subject = format!("{}{} {}", object_type[..1].to_uppercase(), &object_type[1..], printable(&identity));
        let mut draft = finding(object_type, &identity, &subject, &problem, Some(fix));
        draft.key = format!("{} {}", draft.key, setting.database.as_deref().unwrap_or_default());
        out.push(draft);
    }
    for (parameter, value) in guard.server_settings.iter().filter(|(parameter, value)| silences(parameter, value)) {
        // What a role or database brings along has been said.
        if guard.settings.iter().any(|s| s.name == *parameter && silences(&s.name, &s.value)) {
            continue;
        }
        let problem = format!("is {} for every session", printable(&quote_literal(value)));
        let fix = format!("ALTER SYSTEM RESET {parameter};\nSELECT pg_catalog.pg_reload_conf();");
        let mut draft = finding("parameter", parameter, &format!("Parameter {parameter}"), &problem, None);
        draft.mend = Mend::Alone(fix);
        out.push(draft);
    }
    for (parameter, acl) in &guard.parameters {
        for item in acl.iter().filter(|i| !cx.access.is_superuser(i.grantee)) {
            let words = (item.privileges & (Privileges::SET | Privileges::ALTER_SYSTEM)).to_string();
            let problem = format!("may be set by {} ({words})", printable(&cx.snapshot.role_name(item.grantee)));
            let fix = format!("REVOKE {words} ON PARAMETER {parameter} FROM {} CASCADE;", cx.snapshot.grantee(item.grantee));
            out.push(finding("parameter ACL", parameter, &format!("Parameter {parameter}"), &problem, Some(fix)));
        }
    }
}

/// Where a setting is stored, and the statement that takes it away.
fn place(cx: &Context<'_>, setting: &RoleSetting) -> (&'static str, String, String) {
    let name = &setting.name;
    match (setting.role.map(|r| cx.snapshot.role_name(r)), &setting.database) {
        (Some(role), Some(database)) => (
            "role",
            quote_ident(&role).into_owned(),
            format!("ALTER ROLE {} IN DATABASE {} RESET {name};", safe_ident(&role), safe_ident(database)),
        ),
        (Some(role), None) => {
            ("role", quote_ident(&role).into_owned(), format!("ALTER ROLE {} RESET {name};", safe_ident(&role)))
        }
        (None, Some(database)) => {
            ("database", quote_ident(database).into_owned(), format!("ALTER DATABASE {} RESET {name};", safe_ident(database)))
        }
        (None, None) => ("role", "ALL".to_owned(), format!("ALTER ROLE ALL RESET {name};")),
    }
}

/// The statements of a mend, one a line, so that they can be run again; `None` where they can as they are.
fn again(sql: &str) -> Option<String> {
    let lines = sql.lines().map(|line| {
        let is = |start: &str| line.starts_with(start);
        if is("CREATE EVENT TRIGGER ") {
            unless(line, "duplicate_object")
        } else if is("ALTER EXTENSION ") {
            unless(line, "object_not_in_prerequisite_state")
        } else if is("ALTER SCHEMA ") && line.contains(" RENAME TO ") {
            unless(line, "invalid_schema_name")
        } else if is("DROP EVENT TRIGGER ") || is("DROP TRIGGER ") {
            line.replacen("TRIGGER", "TRIGGER IF EXISTS", 1)
        } else {
            line.to_owned()
        }
    });
    let again = lines.collect::<Vec<_>>().join("\n");
    (again != sql).then_some(again)
}

fn finding(object_type: &'static str, identity: &str, subject: &str, problem: &str, fix: Option<String>) -> Draft {
    Draft {
        object: Object { object_type, schema: None, identity: identity.to_owned(), managed_by: None, id: ObjectId::Named },
        role: None,
        severity: Severity::Error,
        key: problem.to_owned(),
        measure: Measure::default(),
        detail: format!("{subject} {problem}."),
        evidence: json!({"problem": problem}),
        mend: fix.map_or(Mend::Unknown, |sql| Mend::by(Statement::new(Change::Guard(again(&sql)), sql))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::World;
    use super::RULE;
    use crate::catalog::RoleSetting;

    #[test]
    fn a_silenced_trigger_is_seen() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.snapshot.guard.triggers[1].enabled = b'D';
        world.snapshot.guard.triggers.remove(0);
        let found = world.found(&RULE);
        let disabled = "error event trigger zz_dragonfly_guard_end: Event trigger zz_dragonfly_guard_end is disabled. =>";
        assert!(found[0].starts_with(disabled), "{found:?}");
        assert!(found[1].contains("zz_dragonfly_guard_start does not exist."), "{found:?}");
    }

    #[test]
    fn so_is_one_with_a_filter_and_a_function_with_a_setting() {
        let mut world = World::conforming();
        world.snapshot.guard.triggers[1].filtered = true;
        let function = world.snapshot.guard.functions.iter_mut().find(|f| f.name == "ddl_command_end").unwrap();
        function.config.push("dragonfly_guard.mode=off".into());
        let found = world.found(&RULE);
        assert!(
            found[0].contains("Function dragonfly_guard.ddl_command_end() has been altered. => ALTER FUNCTION"),
            "{found:?}"
        );
        assert!(
            found[1].contains("is called for some commands only. => ALTER EXTENSION dragonfly_guard DROP EVENT"),
            "{found:?}"
        );
    }

    #[test]
    fn and_a_setting_that_silences_it() {
        let mut world = World::conforming();
        let role = Some(world.role("postgres").oid);
        let setting = |name: &str, value: &str| RoleSetting { role, database: None, name: name.into(), value: value.into() };
        world.snapshot.guard.settings = vec![
            setting("session_replication_role", "replica"),
            setting("session_replication_role", "local"),
            setting("dragonfly_guard.mode", "Block"),
        ];
        assert_eq!(
            world.found(&RULE),
            ["error role postgres: Role postgres has the setting session_replication_role = 'replica'. \
              => ALTER ROLE postgres RESET session_replication_role;"]
        );
        world.snapshot.guard.settings.clear();
        world.snapshot.guard.server_settings = vec![("dragonfly_guard.mode".into(), "off".into())];
        assert!(world.found(&RULE)[0].contains("Parameter dragonfly_guard.mode is 'off' for every session."));
    }
}
