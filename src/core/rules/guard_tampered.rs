//! The guard's own objects are changed, or a setting disables the guard.

use super::context::Context;
use super::shared::guard_settings::disables_guard;
use super::shared::privileges::role_object;
use super::shared::stored_setting::StoredSetting;
use crate::catalog::extension::{FUNCTIONS, SCHEMA, TRIGGERS, VERSION};
use crate::catalog::{
    Acl, AclItem, Guard, GuardBody, GuardFunction, GuardRelation, GuardTrigger, Object, ObjectId,
    ObjectKind, Oid, PUBLIC, Privileges,
};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::fix::{Change, Fix, Statement, ignoring};
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{
    capitalized, listed, printable, quote_ident, quote_literal, safe_ident, safe_sql,
};
use semver::Version;
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "guard_tampered",
    title: "The guard is not intact, or a setting can disable it",
    area: Area::Guard,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::ReservedName,
    recheck: Recheck::OwnObjects,
    breaks_declared: false,
    checks: "The extension's event triggers, functions, tables and views are as CREATE EXTENSION \
             created them, belong to a superuser, and are not accessible to PUBLIC or clients. No \
             stored setting and no grant on a parameter disables the guard.",
    why: "Most of these changes fire no event trigger. A disabled guard does not block anything.",
    fix: "Undo the change. Where the extension itself is damaged, run DROP EXTENSION and CREATE \
          EXTENSION; save your own contracts from dragonfly_guard.contract first.",
    exempt: "A parameter that a replication or maintenance role must be able to set. Findings can \
             only be exempted one by one, by fingerprint, not by a pattern.",
    exempt_by_pattern: false,
    example: Example {
        violating: "ALTER EVENT TRIGGER zz_dragonfly_guard_end ENABLE;",
        correct: "ALTER EVENT TRIGGER zz_dragonfly_guard_end ENABLE ALWAYS;",
    },
    references: &["CWE-693"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    if !cx.snapshot.guard.installed {
        return;
    }
    let first = out.len();
    extension(cx, out);
    functions(cx, out);
    for schema in [OPS, SCHEMA] {
        if let Some(now) = schema_instead_of(&cx.snapshot.guard, schema) {
            let mut found = out.split_off(first);
            renamed_schema(schema, now, &mut found);
            out.append(&mut found);
        }
    }
    for (name, event) in TRIGGERS {
        let found = cx.snapshot.guard.triggers.iter().find(|t| t.name == name);
        trigger(cx, name, event, found, out);
    }
    superusers(cx, out);
    impostors(cx, out);
    private_schema(cx, out);
    let mut views: Vec<_> = cx.snapshot.guard.views.iter().collect();
    views.sort_by_key(|view| (&view.schema, &view.name));
    views.into_iter().for_each(|v| view(cx, v, out));
    stored_settings(cx, out);
    server_settings(cx, out);
    parameter_acls(cx, out);
}

/// The schema of the extension's functions and views for users.
const OPS: &str = "ops";

/// An object of the extension, as findings name it.
struct Own<'a> {
    object_type: &'static str,
    identity: &'a str,
}

impl Own<'_> {
    /// Returns a finding. `code` names the problem in the evidence and in the fingerprint, together
    /// with `which`, which must differ where one problem replaces another of the same code: neither
    /// an earlier problem nor an exemption excuses a worse one. `problem` completes the sentence
    /// that begins with the object.
    fn finding(
        &self,
        code: &'static str,
        which: &str,
        problem: &str,
        repair: Option<Repair>,
    ) -> Draft {
        let object = Object {
            object_type: self.object_type,
            schema: None,
            identity: self.identity.to_owned(),
            managed_by: None,
            id: ObjectId::Named,
        };
        let detail = format!(
            "{} {} {problem}.",
            capitalized(self.object_type),
            printable(self.identity).replace("pg_catalog.", "")
        );
        Draft::new(object, Severity::Error, detail)
            .key(format!("{code} {which}"))
            .evidence(json!({"problem": code}))
            .fix(repair.map_or(Fix::Unknown, Repair::into_fix))
    }
}

/// The statements that repair one of the extension's own objects, one a line.
struct Repair {
    lines: Vec<String>,
    /// The same in a form that can be run again.
    repeatable: Vec<String>,
}

impl Repair {
    /// Returns a statement that can be run twice.
    fn by(sql: impl Into<String>) -> Self {
        let sql = sql.into();
        Self { lines: vec![sql.clone()], repeatable: vec![sql] }
    }

    /// Returns a statement that fails with `condition` where it has been run before.
    fn once(sql: impl Into<String>, condition: &str) -> Self {
        let sql = sql.into();
        Self { repeatable: vec![ignoring(&sql, condition)], lines: vec![sql] }
    }

    /// Returns `command name`, which has a form with IF EXISTS.
    fn drop(command: &str, name: &str) -> Self {
        Self {
            lines: vec![format!("{command} {name};")],
            repeatable: vec![format!("{command} IF EXISTS {name};")],
        }
    }

    /// Returns both repairs, one after the other.
    fn then(mut self, next: Self) -> Self {
        self.lines.extend(next.lines);
        self.repeatable.extend(next.repeatable);
        self
    }

    fn into_fix(self) -> Fix {
        Fix::by(Statement::with_repeatable(
            Change::Guard,
            self.lines.join("\n"),
            self.repeatable.join("\n"),
        ))
    }
}

/// The owner of the extension can drop it; members that it did not create escape the other rules.
fn extension(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let extension = Own { object_type: "extension", identity: SCHEMA };
    let own = cx.snapshot.extensions.values().find(|(name, _)| name == SCHEMA);
    if let Some(owner) = own.and_then(|(_, owner)| untrusted_owner(cx, *owner)) {
        let problem = format!("{}; only REASSIGN OWNED can change that", owner.problem);
        out.push(extension.finding("owner", &owner.name, &problem, None));
    }
    let guard = &cx.snapshot.guard;
    if is_of_other_version(guard) {
        out.push(other_version(&extension, &guard.version));
        return;
    }
    for member in &guard.extra_members {
        let problem =
            format!("has the member {}, which CREATE EXTENSION did not create", printable(member));
        let mut draft = extension.finding("member", member, &problem, None);
        draft.object.identity.clone_from(member);
        out.push(draft);
    }
    for view in &guard.missing_views {
        let own = Own { object_type: "view", identity: &format!("ops.{view}") };
        out.push(own.finding("missing", "", MISSING, None));
    }
}

/// Whether the objects of the extension are of another version than the library. Each version adds
/// and removes some, so that neither missing nor other ones are problems of their own.
fn is_of_other_version(guard: &Guard) -> bool {
    guard.version != VERSION
}

/// Returns the finding about objects of another version than the library. Only those of an earlier
/// version can be updated by this session.
fn other_version(extension: &Own<'_>, version: &str) -> Draft {
    let problem = format!(
        "has version {}, and the library of this session has version {VERSION}",
        printable(version)
    );
    let [objects, library] = [version, VERSION].map(Version::parse);
    let is_later = matches!((&objects, &library), (Ok(objects), Ok(library)) if objects > library);
    let repair = Repair::by("ALTER EXTENSION dragonfly_guard UPDATE;");
    let mut draft = extension.finding("version", version, &problem, Some(repair));
    if is_later {
        draft.fix = Fix::Proposal(format!(
            "Install the files of version {}, and reconnect. Where the library is preloaded, \
             restart the server.",
            printable(version)
        ));
    }
    draft
}

/// The problem of an object that CREATE EXTENSION creates and that does not exist.
const MISSING: &str = "is missing from the extension";

/// Reports a schema of the extension that has another name. All of its objects are in it, so that
/// nothing is reported about each of them.
fn renamed_schema(schema: &str, now: &str, out: &mut Vec<Draft>) {
    let own = Own { object_type: "schema", identity: schema };
    let problem = format!("of extension {SCHEMA} has been renamed to \"{}\"", printable(now));
    let sql = format!("ALTER SCHEMA {} RENAME TO {schema};", safe_ident(now));
    let repair = Repair::once(sql, "invalid_schema_name");
    let named = format!("{}.", safe_ident(now));
    let expected = format!("{schema}.");
    out.retain(|draft| {
        let identity = draft.object.identity.as_str();
        let is_member = matches!(draft.object.object_type, "extension" | "function" | "view");
        !(is_member && (identity.starts_with(&named) || identity.starts_with(&expected)))
    });
    out.push(own.finding("renamed", now, &problem, Some(repair)));
}

/// Returns the schema in which all functions of one of the extension's schemas are now; `None`
/// where one of them is still in its own.
fn schema_instead_of<'a>(guard: &'a Guard, schema: &str) -> Option<&'a str> {
    let mut expected = FUNCTIONS.iter().filter(|(of, ..)| *of == schema);
    let found = |name: &str, arguments: &str, is_in: &dyn Fn(&str) -> bool| {
        let mut functions = guard.functions.iter();
        functions.find(|f| f.name == name && f.arguments == arguments && is_in(&f.schema))
    };
    let (_, name, arguments, ..) = expected.next()?;
    let now = found(name, arguments, &|other| other != schema)?.schema.as_str();
    expected
        .all(|(_, name, arguments, ..)| found(name, arguments, &|other| other == now).is_some())
        .then_some(now)
}

/// An owner that is not a superuser.
struct UntrustedOwner {
    name: String,
    problem: String,
}

/// Returns the owner if it is not a superuser.
fn untrusted_owner(cx: &Context<'_>, owner: Oid) -> Option<UntrustedOwner> {
    (!cx.access.is_superuser(owner)).then(|| {
        let name = cx.snapshot.role_name(owner);
        let problem =
            format!("is owned by role \"{}\", which is not a superuser", printable(&name));
        UntrustedOwner { name, problem }
    })
}

/// The problem of an event trigger whose function another extension replaces.
const SKIPPED: &str = "is skipped in this session, probably by an extension of the platform such \
                       as supautils: its DDL is not checked";

/// How to have all sessions checked where the platform skips event triggers.
const UNSKIP: &str = "Add dragonfly_guard to shared_preload_libraries and restart the server. \
                      Where that is not possible, create the extension as the superuser of the \
                      platform.";

/// Sessions of other superusers than the owner of the event triggers are not checked.
fn superusers(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let Some(trigger) = cx.snapshot.guard.triggers.first() else { return };
    if cx.snapshot.guard.skips_superusers {
        let owner = cx.snapshot.role_name(trigger.owner);
        let problem = format!(
            "is unchecked in sessions of superusers other than \"{}\": supautils skips event \
             triggers there",
            printable(&owner)
        );
        let own = Own { object_type: "extension", identity: SCHEMA };
        let mut draft = own.finding("unchecked", &owner, &problem, None);
        (draft.severity, draft.fix) = (Severity::Warning, Fix::Proposal(UNSKIP.to_owned()));
        out.push(draft);
    }
}

fn trigger(
    cx: &Context<'_>,
    name: &str,
    event: &str,
    found: Option<&GuardTrigger>,
    out: &mut Vec<Draft>,
) {
    let own = Own { object_type: "event trigger", identity: name };
    let mut report = |code, which: &str, problem: &str, repair| {
        out.push(own.finding(code, which, problem, Some(repair)));
    };
    let always = || Repair::by(format!("ALTER EVENT TRIGGER {name} ENABLE ALWAYS;"));
    let add = || {
        let sql = format!("ALTER EXTENSION dragonfly_guard ADD EVENT TRIGGER {name};");
        Repair::once(sql, "object_not_in_prerequisite_state")
    };
    let create = || {
        let sql = format!(
            "CREATE EVENT TRIGGER {name} ON {event} EXECUTE FUNCTION dragonfly_guard.{event}();"
        );
        Repair::once(sql, "duplicate_object").then(always()).then(add())
    };
    let Some(trigger) = found else { return report("missing", "", "does not exist", create()) };
    let disabled = match trigger.enabled {
        b'A' => None,
        b'D' => Some(("disabled", "is disabled")),
        b'R' => Some(("replica", "is enabled in replica mode only")),
        _ => Some(("origin", "does not fire under session_replication_role = replica")),
    };
    if let Some((state, problem)) = disabled {
        report("disabled", state, problem, always());
    }
    let replace = || {
        let drop = Repair::drop("DROP EVENT TRIGGER", name);
        let drop = if trigger.extension_member {
            let leave = format!("ALTER EXTENSION dragonfly_guard DROP EVENT TRIGGER {name};");
            Repair::once(leave, "object_not_in_prerequisite_state").then(drop)
        } else {
            drop
        };
        drop.then(create())
    };
    if trigger.event != event || !trigger.calls_own_function {
        return report("function", "", "does not call the guard", replace());
    }
    if trigger.filtered {
        return report("filter", "", "fires for some commands only", replace());
    }
    if let Some(owner) = untrusted_owner(cx, trigger.owner) {
        report(
            "owner",
            &owner.name,
            &owner.problem,
            Repair::by(format!("ALTER EVENT TRIGGER {name} OWNER TO CURRENT_USER;")),
        );
    }
    if trigger.is_skipped {
        let mut draft = own.finding("skipped", "", SKIPPED, None);
        draft.fix = Fix::Proposal(UNSKIP.to_owned());
        out.push(draft);
        return;
    }
    if !trigger.extension_member {
        report("member", "", "is not a member of the extension and can be dropped", add());
    }
}

fn functions(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (schema, name, arguments, symbol, strict) in FUNCTIONS {
        let identity = format!("{schema}.{name}({arguments})");
        let own = Own { object_type: "function", identity: &identity };
        let found = &cx.snapshot.guard.functions;
        let Some(function) =
            found.iter().find(|f| f.schema == schema && f.name == name && f.arguments == arguments)
        else {
            if !is_of_other_version(&cx.snapshot.guard) {
                out.push(own.finding("missing", "", MISSING, None));
            }
            continue;
        };
        if function.body != GuardBody::Symbol(symbol.to_owned()) {
            out.push(own.finding("body", "", "has been replaced", None));
        }
        if let Some(owner) = untrusted_owner(cx, function.owner) {
            let repair = Repair::by(format!("ALTER FUNCTION {identity} OWNER TO CURRENT_USER;"));
            out.push(own.finding("owner", &owner.name, &owner.problem, Some(repair)));
        }
        if function.strict != strict || function.security_definer || !function.config.is_empty() {
            let clause = if strict { "STRICT" } else { "CALLED ON NULL INPUT" };
            let repair = Repair::by(format!(
                "ALTER FUNCTION {identity} {clause} SECURITY INVOKER RESET ALL;"
            ));
            out.push(own.finding("altered", "", "has been altered", Some(repair)));
        }
        callers(cx, function, &own, out);
    }
}

/// Reports routines that calls of the extension's functions could execute instead.
fn impostors(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (name, arguments) in &cx.snapshot.guard.impostors {
        let identity = format!("ops.{}({arguments})", quote_ident(name));
        let own = Own { object_type: "function", identity: &identity };
        let problem = "conflicts with a function of extension dragonfly_guard";
        let mut draft = own.finding("impostor", "", problem, None);
        let sql = |exists: &str| {
            format!("DROP ROUTINE{exists} ops.{}({});", safe_ident(name), safe_sql(arguments))
        };
        let change = Change::DropRoutine("ops".to_owned(), name.clone(), arguments.clone());
        draft.fix = Fix::by(Statement::with_repeatable(change, sql(""), sql(" IF EXISTS")));
        out.push(draft);
    }
}

/// PUBLIC and clients must not execute the guard's functions. Which other roles may is the
/// superuser's decision; functions that change something require more than EXECUTE
/// (`api::permission` of the edge).
fn callers(cx: &Context<'_>, function: &GuardFunction, own: &Own<'_>, out: &mut Vec<Draft>) {
    let acl =
        function.acl.clone().unwrap_or_else(|| ObjectKind::Routine.default_acl(function.owner));
    for item in acl.iter().filter(|i| i.grantee == PUBLIC || cx.is_client(i.grantee)) {
        let role = cx.snapshot.role_name(item.grantee);
        let sql = format!(
            "REVOKE ALL ON FUNCTION {} FROM {} CASCADE;",
            own.identity,
            cx.snapshot.grantee(item.grantee)
        );
        let problem = format!("can be executed by {}", role_object(item.grantee, &role));
        out.push(own.finding("execute", &role, &problem, Some(Repair::by(sql))));
    }
}

/// The private schema and its tables belong to a superuser and grant no other role more than
/// reading.
fn private_schema(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let Some(schema) = cx.snapshot.guard.schema.and_then(|oid| cx.snapshot.schema(oid)) else {
        return;
    };
    let name = safe_ident(&schema.name);
    let own = Own { object_type: "schema", identity: &name };
    // Where its functions are in it, `renamed_schema` has reported it.
    if schema.name != SCHEMA && schema_instead_of(&cx.snapshot.guard, SCHEMA).is_none() {
        let repair =
            Repair::once(format!("ALTER SCHEMA {name} RENAME TO {SCHEMA};"), "invalid_schema_name");
        out.push(own.finding(
            "name",
            "",
            "is the guard's private schema under another name",
            Some(repair),
        ));
    }
    private_owner(cx, &own, schema.owner, out);
    private_acl(cx, &own, schema.owner, schema.acl.as_ref(), None, out);
    for table in &cx.snapshot.guard.tables {
        private_table(cx, table, &format!("{name}.{}", safe_ident(&table.name)), out);
    }
}

fn private_table(cx: &Context<'_>, table: &GuardRelation, identity: &str, out: &mut Vec<Draft>) {
    let own = Own { object_type: "table", identity };
    private_owner(cx, &own, table.owner, out);
    private_acl(cx, &own, table.owner, table.acl.as_ref(), None, out);
    for (column, acl) in &table.columns {
        private_acl(cx, &own, table.owner, Some(acl), Some(column), out);
    }
    // The name that the finding has for a table that is no longer as it was created.
    let altered = table.is_altered.then(|| "of its plain form".to_owned());
    let missing: Vec<String> = table.missing_constraints.iter().cloned().chain(altered).collect();
    if !missing.is_empty() {
        let constraints = listed(&missing);
        out.push(own.finding(
            "constraint",
            &constraints,
            &format!("does not have the constraint {constraints}"),
            None,
        ));
    }
    for trigger in &table.triggers {
        let name = safe_ident(trigger);
        let repair = Repair {
            lines: vec![format!("DROP TRIGGER {name} ON {identity};")],
            repeatable: vec![format!("DROP TRIGGER IF EXISTS {name} ON {identity};")],
        };
        let problem = format!(
            "has the trigger {}, which CREATE EXTENSION did not create",
            printable(trigger)
        );
        out.push(own.finding("trigger", trigger, &problem, Some(repair)));
    }
}

fn private_owner(cx: &Context<'_>, own: &Own<'_>, owner: Oid, out: &mut Vec<Draft>) {
    if let Some(owner) = untrusted_owner(cx, owner) {
        let kind = own.object_type.to_uppercase();
        let repair = Repair::by(format!("ALTER {kind} {} OWNER TO CURRENT_USER;", own.identity));
        out.push(own.finding("owner", &owner.name, &owner.problem, Some(repair)));
    }
}

/// What an ACL in the private schema grants to other roles. Reading the contract does no harm,
/// except that clients and PUBLIC are reported.
fn private_acl(
    cx: &Context<'_>,
    own: &Own<'_>,
    owner: Oid,
    acl: Option<&Acl>,
    column: Option<&str>,
    out: &mut Vec<Draft>,
) {
    for item in acl.into_iter().flatten().filter(|item| is_too_much(cx, item, owner)) {
        let on_column = column.map(|c| format!(" ({})", safe_ident(c))).unwrap_or_default();
        let privileges: Vec<String> =
            item.privileges.words().iter().map(|word| format!("{word}{on_column}")).collect();
        let privileges = privileges.join(", ");
        let (kind, role) = (own.object_type.to_uppercase(), cx.snapshot.role_name(item.grantee));
        let grantee = cx.snapshot.grantee(item.grantee);
        let sql = format!("REVOKE {privileges} ON {kind} {} FROM {grantee} CASCADE;", own.identity);
        let problem = format!("grants {privileges} to {}", role_object(item.grantee, &role));
        out.push(own.finding(
            "acl",
            &format!("{role} {privileges}"),
            &problem,
            Some(Repair::by(sql)),
        ));
    }
}

fn is_too_much(cx: &Context<'_>, item: &AclItem, owner: Oid) -> bool {
    let reading = Privileges::USAGE | Privileges::SELECT;
    let harmless =
        reading.contains(item.privileges) && item.grantee != PUBLIC && !cx.is_client(item.grantee);
    item.grantee != owner && !cx.access.is_superuser(item.grantee) && !harmless
}

/// Views over the audits must belong to a superuser: their owner decides what they show.
fn view(cx: &Context<'_>, view: &GuardRelation, out: &mut Vec<Draft>) {
    let identity = format!("{}.{}", safe_ident(&view.schema), safe_ident(&view.name));
    let own = Own { object_type: "view", identity: &identity };
    if let Some(owner) = untrusted_owner(cx, view.owner) {
        let repair = Repair::by(format!("ALTER VIEW {identity} OWNER TO CURRENT_USER;"));
        out.push(own.finding("owner", &owner.name, &owner.problem, Some(repair)));
    }
    for item in view.acl.iter().flatten().filter(|i| i.grantee == PUBLIC || cx.is_client(i.grantee))
    {
        let role = cx.snapshot.role_name(item.grantee);
        let sql = format!(
            "REVOKE ALL ON TABLE {identity} FROM {} CASCADE;",
            cx.snapshot.grantee(item.grantee)
        );
        let problem = format!("can be read by {}", role_object(item.grantee, &role));
        out.push(own.finding("acl", &role, &problem, Some(Repair::by(sql))));
    }
}

/// Settings stored for a role or a database that disable the guard.
fn stored_settings(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for setting in cx.snapshot.guard.settings.iter().filter(|s| disables_guard(&s.name, &s.value)) {
        let stored = StoredSetting::of(cx.snapshot, setting);
        let own = Own { object_type: stored.object_type, identity: &stored.identity };
        let problem = format!(
            "has the setting {} = {}",
            setting.name,
            printable(&quote_literal(&setting.value))
        );
        let database = setting.database.as_deref().unwrap_or_default();
        let which = format!("{} {} {database}", setting.name, quote_literal(&setting.value));
        let mut draft = own.finding("setting", &which, &problem, Some(Repair::by(stored.reset)));
        draft.evidence["parameter"] = json!(setting.name);
        out.push(draft);
    }
}

/// Settings in force for every session that disable the guard, unless a stored one is the reason.
fn server_settings(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let guard = &cx.snapshot.guard;
    for (parameter, value) in
        guard.server_settings.iter().filter(|(parameter, value)| disables_guard(parameter, value))
    {
        if guard.settings.iter().any(|s| s.name == *parameter && disables_guard(&s.name, &s.value))
        {
            continue;
        }
        let own = Own { object_type: "parameter", identity: parameter };
        let problem = format!("is {} for every session", printable(&quote_literal(value)));
        let mut draft = own.finding("setting", value, &problem, None);
        draft.evidence["parameter"] = json!(parameter);
        draft.fix = Fix::OutsideTransaction(format!(
            "ALTER SYSTEM RESET {parameter};\nSELECT pg_catalog.pg_reload_conf();"
        ));
        out.push(draft);
    }
}

/// Roles that can set a parameter that disables the guard.
fn parameter_acls(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (parameter, acl) in &cx.snapshot.guard.parameters {
        let own = Own { object_type: "parameter ACL", identity: parameter };
        for item in acl.iter().filter(|i| !cx.access.is_superuser(i.grantee)) {
            let privileges =
                (item.privileges & (Privileges::SET | Privileges::ALTER_SYSTEM)).to_string();
            let (role, grantee) =
                (cx.snapshot.role_name(item.grantee), cx.snapshot.grantee(item.grantee));
            let sql =
                format!("REVOKE {privileges} ON PARAMETER {parameter} FROM {grantee} CASCADE;");
            let problem = format!("grants {privileges} to {}", role_object(item.grantee, &role));
            out.push(own.finding(
                "acl",
                &format!("{role} {privileges}"),
                &problem,
                Some(Repair::by(sql)),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{GuardBody, RoleSetting};

    #[test]
    fn disabled_or_missing_event_trigger_is_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.snapshot.guard.triggers[1].enabled = b'D';
        world.snapshot.guard.triggers.remove(0);
        let found = world.found(&RULE);
        let disabled = "error event trigger zz_dragonfly_guard_end: Event trigger \
                        zz_dragonfly_guard_end is disabled. =>";
        assert!(found[0].starts_with(disabled), "{found:?}");
        assert!(found[1].contains("zz_dragonfly_guard_start does not exist."), "{found:?}");
    }

    #[test]
    fn event_triggers_that_the_platform_skips_are_reported() {
        let mut world = World::conforming();
        world.snapshot.guard.skips_superusers = true;
        world.snapshot.guard.triggers[1].is_skipped = true;
        let found = world.found(&RULE);
        assert_eq!(found.len(), 2, "{found:?}");
        let skipped = "error event trigger zz_dragonfly_guard_end: Event trigger \
                       zz_dragonfly_guard_end is skipped in this session, probably by an extension \
                       of the platform";
        assert!(found[1].starts_with(skipped), "{found:?}");
        assert!(found[0].starts_with(
            "warning extension dragonfly_guard: Extension dragonfly_guard is unchecked in sessions \
             of superusers other than"
        ));
    }

    #[test]
    fn event_trigger_with_filter_and_altered_function_are_reported() {
        let mut world = World::conforming();
        world.snapshot.guard.triggers[1].filtered = true;
        let function = world
            .snapshot
            .guard
            .functions
            .iter_mut()
            .find(|f| f.name == "ddl_command_end")
            .unwrap();
        function.config.push("dragonfly_guard.mode=off".into());
        let found = world.found(&RULE);
        assert!(
            found[0].contains(
                "Function dragonfly_guard.ddl_command_end() has been altered. => ALTER FUNCTION"
            ),
            "{found:?}"
        );
        assert!(
            found[1].contains(
                "fires for some commands only. => ALTER EXTENSION dragonfly_guard DROP EVENT"
            ),
            "{found:?}"
        );
    }

    /// Otherwise the guard would take the second for the first, and an exemption would cover both.
    #[test]
    fn problems_of_one_kind_have_different_fingerprints() {
        let fingerprint = |damage: &dyn Fn(&mut World)| {
            let mut world = World::conforming();
            damage(&mut world);
            let found = world.findings(&RULE);
            assert_eq!(found.len(), 1, "{found:?}");
            found[0].fingerprint.clone()
        };
        let enabled = |state: u8| {
            fingerprint(&|world: &mut World| world.snapshot.guard.triggers[1].enabled = state)
        };
        let owned = |role: &str| {
            fingerprint(&|world: &mut World| {
                let role = world.role(role).oid;
                world.snapshot.guard.functions[0].owner = role;
            })
        };
        let mode = |value: &str| {
            fingerprint(&|world: &mut World| {
                world.snapshot.guard.settings = vec![RoleSetting {
                    role: Some(world.role("postgres").oid),
                    database: None,
                    name: "dragonfly_guard.mode".into(),
                    value: value.into(),
                }];
            })
        };
        let server_mode = |value: &str| {
            fingerprint(&|world: &mut World| {
                let setting = ("dragonfly_guard.mode".into(), value.into());
                world.snapshot.guard.server_settings = vec![setting];
            })
        };
        assert_ne!(enabled(b'O'), enabled(b'D'));
        assert_ne!(enabled(b'O'), enabled(b'R'));
        assert_ne!(owned("anon"), owned("postgres"));
        assert_ne!(mode("warn"), mode("off"));
        assert_ne!(server_mode("warn"), server_mode("off"));
        assert_eq!(mode("off"), mode("off"));
    }

    #[test]
    fn setting_that_disables_the_guard_is_reported() {
        let mut world = World::conforming();
        let role = Some(world.role("postgres").oid);
        let setting = |name: &str, value: &str| RoleSetting {
            role,
            database: None,
            name: name.into(),
            value: value.into(),
        };
        world.snapshot.guard.settings = vec![
            setting("session_replication_role", "replica"),
            setting("session_replication_role", "local"),
            setting("dragonfly_guard.mode", "Block"),
        ];
        assert_eq!(
            world.found(&RULE),
            ["error role postgres: Role postgres has the setting session_replication_role = \
                 'replica'. \
              => ALTER ROLE postgres RESET session_replication_role;"]
        );
        world.snapshot.guard.settings.clear();
        world.snapshot.guard.server_settings = vec![("dragonfly_guard.mode".into(), "off".into())];
        assert!(
            world.found(&RULE)[0]
                .contains("Parameter dragonfly_guard.mode is 'off' for every session.")
        );
    }

    #[test]
    fn replaced_function_and_missing_view_are_reported() {
        let mut world = World::conforming();
        world.snapshot.guard.functions[0].body = GuardBody::Other;
        world.snapshot.guard.missing_views = vec!["v_guard_log".into()];
        let found = world.found(&RULE);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("has been replaced"), "{found:?}");
        assert!(found[1].contains("View ops.v_guard_log is missing"), "{found:?}");
    }

    #[test]
    fn renamed_schema_of_the_extension_is_one_finding() {
        for schema in ["ops", "dragonfly_guard"] {
            let mut world = World::conforming();
            let guard = &mut world.snapshot.guard;
            for function in guard.functions.iter_mut().filter(|f| f.schema == schema) {
                function.schema = "Other".into();
            }
            guard.extra_members = vec!["\"Other\".contract()".into()];
            let found = world.found(&RULE);
            let expected = format!(
                "error schema {schema}: Schema {schema} of extension dragonfly_guard has been \
                 renamed to \"Other\". => ALTER SCHEMA \"Other\" RENAME TO {schema};"
            );
            assert!(found.contains(&expected), "{found:?}");
            assert_eq!(found.len(), 1, "{found:?}");
        }
    }
}
