//! Finds declarations of a contract that contradict each other: each of them is valid, but together
//! they have another effect than their author expects.
//!
//! They are warnings, because the contract may describe the database correctly, or information
//! where a declaration has no effect now and opens nothing. The exception is a trusted role that
//! requests use, a client or a login role, which is an error: it would make the rules about
//! SECURITY DEFINER ineffective.

use super::lookup::matches;
use super::problem::{Path, Problems};
use super::types::{
    Accept, ByRole, ColumnGrants, ColumnGrantsByRole, Contract, GrantPrivilege, RoleDecl, RoleKind,
    SchemaDecl, Severity, TableDecl, TablePrivilege, granted_to,
};
use crate::catalog::{Command, Privileges};
use crate::sql::similar::did_you_mean;
use crate::sql::{listed, printable, safe_ident, safe_qualified};
use std::collections::{BTreeSet, HashMap, HashSet};

impl Contract {
    /// Reports every contradiction.
    pub(super) fn contradictions(&self, problems: &mut Problems<'_>) {
        let pairs = |roles_of: fn(&SchemaDecl) -> &Vec<String>| {
            self.schemas
                .iter()
                .flat_map(|s| roles_of(s).iter().map(|role| (s.name.as_str(), role.as_str())))
                .collect()
        };
        let mut search = Search {
            contract: self,
            roles: self.roles.iter().map(|role| (role.name.as_str(), role)).collect(),
            schemas: self.schemas.iter().map(|s| (s.name.as_str(), s)).collect(),
            usage: pairs(|s| &s.usage),
            all_on_objects: pairs(|s| &s.all_on_objects),
            problems,
        };
        search.trusted_roles();
        search.readers();
        search.role_attributes();
        search.login_roles();
        search.schemas();
        search.managed_schemas();
        search.managed_roles();
        search.tables();
        search.views();
        search.sequences();
        search.functions();
        search.search_path();
        search.identity();
    }
}

/// The contract with lookups, and the problems found in it.
struct Search<'c, 'p, 'i> {
    contract: &'c Contract,
    roles: HashMap<&'c str, &'c RoleDecl>,
    schemas: HashMap<&'c str, &'c SchemaDecl>,
    /// Schema and role.
    usage: HashSet<(&'c str, &'c str)>,
    /// Schema and role.
    all_on_objects: HashSet<(&'c str, &'c str)>,
    problems: &'p mut Problems<'i>,
}

/// Returns a role as messages name it.
fn role(name: &str) -> String {
    format!("role \"{}\"", printable(name))
}

impl Search<'_, '_, '_> {
    fn warn(&mut self, path: &Path<'_>, problem: impl Into<String>, allowed: impl Into<String>) {
        self.problems.warning(path, problem, allowed.into());
    }

    fn inform(&mut self, path: &Path<'_>, problem: impl Into<String>, allowed: impl Into<String>) {
        self.problems.info(path, problem, allowed.into());
    }

    fn kind(&self, role: &str) -> Option<RoleKind> {
        self.roles.get(role).map(|declared| declared.kind)
    }

    fn is_client(&self, role: &str) -> bool {
        self.kind(role) == Some(RoleKind::Client)
    }

    /// Whether a role is subject to row security.
    fn is_subject_to_row_security(&self, role: &str) -> bool {
        self.roles.get(role).is_some_and(|declared| {
            declared.kind != RoleKind::Owner
                && declared.bypass_rls != Some(true)
                && declared.superuser != Some(true)
        })
    }

    fn trusted_roles(&mut self) {
        let list = Path::Root.field("trusted_roles");
        let allowed = "declared roles of kind owner";
        for (i, name) in self.contract.trusted_roles.iter().enumerate() {
            let effect = "schemas in which it can create objects would count as safe for \
                          SECURITY DEFINER routines";
            match self.kind(name) {
                Some(kind @ (RoleKind::Client | RoleKind::Login)) => {
                    let kind = match kind {
                        RoleKind::Login => "login role",
                        other => other.as_str(),
                    };
                    let problem = format!("trusted {} is a {kind}: {effect}", role(name));
                    self.problems.error(&list.item(i), problem, allowed.to_owned());
                }
                Some(RoleKind::Worker) => {
                    let problem = format!("trusted {} is a worker: {effect}", role(name));
                    self.warn(&list.item(i), problem, allowed);
                }
                Some(RoleKind::Owner) => {}
                None => {
                    let problem =
                        format!("trusted {} is not declared: it is not checked", role(name));
                    let hint = did_you_mean(name, self.roles.keys().copied());
                    let (at, allowed) = (list.item(i), Some(allowed.to_owned()));
                    self.problems.add(Severity::Warning, &at, problem, allowed, hint);
                }
            }
        }
    }

    /// The audits show what is wrong, and the log shows statements of other roles.
    fn readers(&mut self) {
        let lists = [("readers", &self.contract.readers), ("deployers", &self.contract.deployers)];
        for (field, roles) in lists {
            let list = Path::Root.field(field);
            for (i, name) in roles.iter().flatten().enumerate() {
                let kind = match self.kind(name) {
                    Some(RoleKind::Client) => "client",
                    Some(RoleKind::Login) => "login role",
                    _ => continue,
                };
                let problem = format!("{} is a {kind}: requests would read the audits", role(name));
                self.problems.error(
                    &list.item(i),
                    problem,
                    "roles that no request uses".to_owned(),
                );
            }
        }
    }

    fn role_attributes(&mut self) {
        let list = Path::Root.field("roles");
        for (i, declared) in self.contract.roles.iter().enumerate() {
            let kind = match declared.kind {
                RoleKind::Owner => continue,
                RoleKind::Login => "login",
                kind => kind.as_str(),
            };
            let mut attributes = vec![
                ("superuser", declared.superuser, "bypasses all permission checks"),
                ("replication", declared.replication, "can read all data"),
                ("create_role", declared.create_role, "can grant itself membership in other roles"),
            ];
            if declared.kind != RoleKind::Worker {
                let bypass_rls = ("bypass_rls", declared.bypass_rls, "bypasses row security");
                attributes.insert(1, bypass_rls);
            }
            for (field, value, effect) in attributes {
                if value == Some(true) {
                    let problem = format!(
                        "{kind} {} {effect}: its other declarations do not restrict it",
                        role(&declared.name)
                    );
                    self.warn(&list.item(i).field(field), problem, "false");
                }
            }
        }
    }

    fn schemas(&mut self) {
        let list = Path::Root.field("schemas");
        for (i, schema) in self.contract.schemas.iter().enumerate() {
            let at = list.item(i);
            for (field, roles, what) in [
                ("all_on_objects", &schema.all_on_objects, "all privileges on the objects"),
                ("execute_on_routines", &schema.execute_on_routines, "EXECUTE on the routines"),
            ] {
                let field = at.field(field);
                let what = format!("{what} of schema {}", safe_ident(&schema.name));
                for (j, name) in roles.iter().enumerate() {
                    self.needs_usage(&field.item(j), &schema.name, name, &what);
                }
            }
            for (j, name) in schema.all_on_objects.iter().enumerate() {
                if self.is_client(name) {
                    let problem = format!(
                        "client {} is granted all privileges, including TRUNCATE, which bypasses \
                         row security",
                        role(name)
                    );
                    let allowed = "grants on individual tables and views";
                    self.warn(&at.field("all_on_objects").item(j), problem, allowed);
                }
            }
        }
    }

    fn managed_schemas(&mut self) {
        let of = Path::Root.field("managed");
        let list = of.field("schemas");
        for (i, pattern) in self.contract.managed.schemas.iter().enumerate() {
            self.problems.check_interrupts();
            let governed = if pattern.contains('*') {
                let mut schemas = self.contract.schemas.iter();
                schemas.find(|schema| matches(pattern, &schema.name))
            } else {
                self.schemas.get(pattern.as_str()).copied()
            };
            if let Some(governed) = governed {
                let problem =
                    format!("schema {} is governed, not managed", safe_ident(&governed.name));
                self.warn(&list.item(i), problem, "schemas that are not in $.schemas");
            }
        }
    }

    /// Reports the patterns of managed roles that match a declared role: it is not managed.
    fn managed_roles(&mut self) {
        let of = Path::Root.field("managed");
        let list = of.field("roles");
        for (i, pattern) in self.contract.managed.roles.iter().enumerate() {
            self.problems.check_interrupts();
            let mut declared = self.contract.roles.iter();
            if let Some(declared) = declared.find(|declared| matches(pattern, &declared.name)) {
                let problem = format!("{} is declared, not managed", role(&declared.name));
                self.warn(&list.item(i), problem, "roles that are not in $.roles");
            }
        }
    }

    /// Reports a login role without a role that it could become.
    fn login_roles(&mut self) {
        let becomes = |role: &RoleDecl| matches!(role.kind, RoleKind::Client | RoleKind::Worker);
        if self.contract.roles.iter().any(becomes) {
            return;
        }
        let list = Path::Root.field("roles");
        for (i, declared) in self.contract.roles.iter().enumerate() {
            if declared.kind == RoleKind::Login {
                let problem = format!(
                    "login {} can become no declared role, because there is no client or worker",
                    role(&declared.name)
                );
                self.warn(&list.item(i).field("kind"), problem, "a client or worker as well");
            }
        }
    }

    /// Reports a privilege on an object of a schema without USAGE on the schema.
    fn needs_usage(&mut self, at: &Path<'_>, schema: &str, name: &str, what: &str) {
        // An owner or a superuser has USAGE without a grant.
        let needs = |declared: &&RoleDecl| {
            declared.kind != RoleKind::Owner && declared.superuser != Some(true)
        };
        if !self.usage.contains(&(schema, name)) && self.roles.get(name).is_some_and(needs) {
            let schema = safe_ident(schema);
            let problem =
                format!("{} is granted {what}, but not USAGE on schema {schema}", role(name));
            self.warn(at, problem, format!("USAGE on schema {schema}, or no grant"));
        }
    }

    fn grants_need_usage<P: GrantPrivilege>(
        &mut self,
        at: &Path<'_>,
        schema: &str,
        object: &str,
        grants: &ByRole<P>,
    ) {
        let field = at.field("grants");
        for name in grants.keys() {
            let privileges = granted_to(grants, name);
            if !privileges.is_empty() {
                let what = format!("{privileges} on {}", safe_qualified(schema, object));
                self.needs_usage(&field.field(name), schema, name, &what);
            }
        }
    }

    /// Reports privileges on columns of a schema without USAGE on the schema, and those that the
    /// role has on the whole relation as well.
    fn column_grants(
        &mut self,
        at: &Path<'_>,
        (schema, object): (&str, &str),
        column_grants: &ColumnGrantsByRole,
        grants: &ByRole<TablePrivilege>,
    ) {
        let field = at.field("column_grants");
        let sql = safe_qualified(schema, object);
        for (name, granted) in column_grants {
            let on_relation = self.on_relation(schema, grants, name);
            // Where the role has privileges on the relation too, those are reported already.
            if granted_to(grants, name).is_empty() {
                let what = format!("{} on columns of {sql}", granted.privileges());
                self.needs_usage(&field.field(name), schema, name, &what);
            }
            for (privilege, _) in granted.each().filter(|(one, _)| on_relation.contains(*one)) {
                let problem = format!(
                    "{} is granted {privilege} on columns of {sql}, and on all columns as well",
                    role(name)
                );
                let word = privilege.to_string();
                let allowed = "a privilege on all columns, or on some";
                self.warn(&field.field(name).field(&word), problem, allowed);
            }
        }
    }

    /// Returns the privileges of a role on a whole relation that the contract declares.
    fn on_relation(&self, schema: &str, grants: &ByRole<TablePrivilege>, name: &str) -> Privileges {
        let granted = granted_to(grants, name);
        if self.all_on_objects.contains(&(schema, name)) {
            granted | Privileges::ALL_ON_TABLE
        } else {
            granted
        }
    }

    /// Returns the privileges that the contract declares for a role on a table or columns of it.
    fn privileges_on(&self, table: &TableDecl, name: &str) -> Privileges {
        let on_columns = table.column_grants.get(name).map(ColumnGrants::privileges);
        self.on_relation(&table.schema, &table.grants, name) | on_columns.unwrap_or_default()
    }

    fn tables(&mut self) {
        let list = Path::Root.field("tables");
        for (i, table) in self.contract.tables.iter().enumerate() {
            let at = list.item(i);
            self.grants_need_usage(&at, &table.schema, &table.name, &table.grants);
            let name = (table.schema.as_str(), table.name.as_str());
            self.column_grants(&at, name, &table.column_grants, &table.grants);
            if table.row_security {
                self.ineffective_row_security(&at, table);
                let granted = table.grants.keys().chain(table.column_grants.keys());
                let names = granted.chain(table.policies.keys());
                let names: BTreeSet<&String> =
                    names.filter(|name| self.is_subject_to_row_security(name)).collect();
                for name in names {
                    self.policies_and_grants(&at, table, name);
                    self.truncate(&at, table, name);
                }
                let opened = table.open_rows.keys().map(|name| ("open_rows", name));
                for (field, name) in opened {
                    self.exception_of_rows(
                        &at.field(field).field(name),
                        table,
                        name,
                        Command::Select,
                    );
                }
                for (j, name) in table.append_only_by.iter().enumerate() {
                    let at = at.field("append_only_by");
                    self.exception_of_rows(&at.item(j), table, name, Command::Insert);
                }
            } else {
                self.row_security_not_required(&at, table);
            }
            self.privileged(&at, table);
        }
    }

    /// Reports what is declared about the rows of a role that no rule asks about: it is no client,
    /// or no policy allows it the command.
    fn exception_of_rows(
        &mut self,
        at: &Path<'_>,
        table: &TableDecl,
        name: &str,
        command: Command,
    ) {
        let word = command.as_str();
        let sql = safe_qualified(&table.schema, &table.name);
        if !self.is_client(name) {
            let problem = format!("{} is no client: it has no effect", role(name));
            self.inform(at, problem, "clients");
        } else if !table.policy_commands(name).contains(&command) {
            let problem =
                format!("no policy allows {} {word} on {sql}: it has no effect", role(name));
            self.inform(at, problem, format!("clients with a policy for {word}"));
        }
    }

    /// Reports clients that can write themselves into a table whose rows give a right.
    fn privileged(&mut self, at: &Path<'_>, table: &TableDecl) {
        if !table.privileged {
            return;
        }
        let roles = self.contract.roles.iter().map(|role| &role.name);
        let clients: Vec<&String> = roles.filter(|name| self.is_client(name)).collect();
        for name in clients {
            let held = self.privileges_on(table, name);
            let all_rows = table.all_rows_commands(name).unwrap_or_default();
            let writes = [Command::Insert, Command::Update].into_iter().filter(|command| {
                held.contains(command.privilege())
                    && (!table.row_security || all_rows.contains(command))
            });
            let writes: Vec<String> = writes.map(|command| command.as_str().to_owned()).collect();
            if writes.is_empty() {
                continue;
            }
            let problem = format!(
                "client {} may {} every row of {}, and a caller who is found in it has a right",
                role(name),
                listed(&writes),
                safe_qualified(&table.schema, &table.name)
            );
            let allowed = "true for a table whose rows clients do not choose";
            self.warn(&at.field("privileged"), problem, allowed);
        }
    }

    fn identity(&mut self) {
        let declared = &self.contract.identity;
        let of = Path::Root.field("identity");
        let list = of.field("request");
        for (i, name) in declared.request.iter().enumerate() {
            if declared.settings.keys().any(|known| known.eq_ignore_ascii_case(name)) {
                let problem = format!(
                    "parameter {} is in $.identity.settings as well, which decides",
                    printable(name)
                );
                self.warn(&list.item(i), problem, "parameters that are not in settings");
            }
        }
        let sessions = of.field("sessions");
        for name in declared.sessions.keys() {
            if !self.is_client(name) {
                let problem = format!("{} is no client: it has no effect", role(name));
                self.inform(&sessions.field(name), problem, "clients");
            }
        }
    }

    /// Reports declarations that have no effect unless row security is required as well, and the
    /// clients that can access every row.
    fn row_security_not_required(&mut self, at: &Path<'_>, table: &TableDecl) {
        let sql = safe_qualified(&table.schema, &table.name);
        let required = "\"row_security\": true as well";
        if table.force_row_security {
            let problem = format!("row security of {sql} must be forced, but need not be enabled");
            self.warn(&at.field("force_row_security"), problem, required);
        }
        if !table.policies.is_empty() {
            let problem = format!(
                "policies of {sql} have no effect, because row security need not be enabled"
            );
            self.warn(&at.field("policies"), problem, required);
        }
        for (field, is_declared) in [
            ("keys", !table.keys.is_empty()),
            ("open_rows", !table.open_rows.is_empty()),
            ("append_only_by", !table.append_only_by.is_empty()),
        ] {
            if is_declared {
                let problem = format!(
                    "{field} of {sql} has no effect, because row security need not be enabled"
                );
                self.warn(&at.field(field), problem, required);
            }
        }
        let on_table =
            table.grants.keys().map(|name| ("grants", name, granted_to(&table.grants, name)));
        let on_columns = table
            .column_grants
            .iter()
            .map(|(name, granted)| ("column_grants", name, granted.privileges()));
        for (field, name, privileges) in on_table.chain(on_columns) {
            if !self.is_client(name) {
                continue;
            }
            let problem = format!(
                "client {} is granted {privileges} on every row of {sql}, because row security is \
                 not required",
                role(name),
            );
            let allowed = "\"row_security\": true, and a policy for the role";
            self.warn(&at.field(field).field(name), problem, allowed);
        }
    }

    /// Reports row security that no role is subject to. It is a second line of defense.
    fn ineffective_row_security(&mut self, at: &Path<'_>, table: &TableDecl) {
        let rows = Privileges::SELECT | Privileges::WRITES;
        let has_access = |name: &str| {
            self.usage.contains(&(&table.schema, name))
                && self.privileges_on(table, name).intersects(rows)
        };
        let all = self.schemas.get(table.schema.as_str()).map(|schema| &schema.all_on_objects);
        let granted = table.grants.keys().chain(table.column_grants.keys());
        let mut roles = granted.chain(all.into_iter().flatten());
        if !table.force_row_security
            && !roles.any(|name| self.is_subject_to_row_security(name) && has_access(name))
        {
            let problem = format!(
                "row security is required on {}, but no role with access to it is subject to row \
                 security",
                safe_qualified(&table.schema, &table.name)
            );
            let allowed = "true, as a second line of defense; or grants to the roles that need \
                           access";
            self.inform(&at.field("row_security"), problem, allowed);
        }
    }

    /// Reports the privileges of a role without a policy, and its policies without a privilege.
    fn policies_and_grants(&mut self, at: &Path<'_>, table: &TableDecl, name: &str) {
        let sql = safe_qualified(&table.schema, &table.name);
        let held = self.privileges_on(table, name);
        let allowed = table.policy_commands(name);
        let commands = |wanted: &dyn Fn(bool, bool) -> bool| -> Vec<String> {
            let is_wanted = |command: &Command| {
                wanted(held.contains(command.privilege()), allowed.contains(command))
            };
            let commands = Command::ALL.into_iter().filter(is_wanted);
            commands.map(|command| command.as_str().to_owned()).collect()
        };
        let without_policy = commands(&|is_held, is_allowed| is_held && !is_allowed);
        if !without_policy.is_empty() {
            let problem = format!(
                "{} is granted {} on {sql}, but no policy allows it",
                role(name),
                listed(&without_policy)
            );
            let is_on_table = table.grants.contains_key(name);
            let field = at.field(if is_on_table { "grants" } else { "column_grants" });
            let allowed = "a policy for each privilege";
            if self.is_client(name) {
                self.warn(&field.field(name), problem, allowed);
            } else {
                // A worker often has all privileges on the objects of a schema.
                self.inform(&field.field(name), problem, allowed);
            }
        }
        let without_privilege = commands(&|is_held, is_allowed| !is_held && is_allowed);
        if !without_privilege.is_empty() {
            let problem = format!(
                "a policy allows {} {} on {sql}, but it is not granted",
                role(name),
                listed(&without_privilege)
            );
            // Policies FOR ALL often serve roles with a part of the privileges.
            let allowed = "a privilege for each policy";
            self.inform(&at.field("policies").field(name), problem, allowed);
        }
    }

    /// Reports a client with TRUNCATE.
    fn truncate(&mut self, at: &Path<'_>, table: &TableDecl, name: &str) {
        let granted = granted_to(&table.grants, name);
        if self.is_client(name) && granted.contains(Privileges::TRUNCATE) {
            let problem = format!(
                "client {} is granted TRUNCATE on {}, which bypasses row security",
                role(name),
                safe_qualified(&table.schema, &table.name)
            );
            let allowed = "SELECT, INSERT, UPDATE, DELETE";
            self.warn(&at.field("grants").field(name), problem, allowed);
        }
    }

    fn views(&mut self) {
        let list = Path::Root.field("views");
        let mut schema_of: HashMap<&str, &str> = HashMap::new();
        for (i, view) in self.contract.views.iter().enumerate() {
            let at = list.item(i);
            self.grants_need_usage(&at, &view.schema, &view.name, &view.grants);
            let name = (view.schema.as_str(), view.name.as_str());
            self.column_grants(&at, name, &view.column_grants, &view.grants);
            if let Some(other) = schema_of.get(view.name.as_str()) {
                let problem = format!(
                    "view {} is also declared in schema {}: its name without a schema depends on \
                     search_path",
                    safe_ident(&view.name),
                    safe_ident(other)
                );
                self.inform(&at.field("name"), problem, "each view name in one schema");
            } else {
                schema_of.insert(&view.name, &view.schema);
            }
        }
    }

    fn sequences(&mut self) {
        let list = Path::Root.field("sequences");
        for (i, sequence) in self.contract.sequences.iter().enumerate() {
            let at = list.item(i);
            self.grants_need_usage(&at, &sequence.schema, &sequence.name, &sequence.grants);
        }
    }

    fn functions(&mut self) {
        let list = Path::Root.field("functions");
        for (i, function) in self.contract.functions.iter().enumerate() {
            let at = list.item(i);
            let field = at.field("execute");
            let sql = safe_qualified(&function.schema, &function.name);
            for (j, name) in function.execute.iter().enumerate() {
                let what = format!("EXECUTE on {sql}");
                self.needs_usage(&field.item(j), &function.schema, name, &what);
            }
        }
    }

    fn search_path(&mut self) {
        let policy = &self.contract.security_definer;
        let of = Path::Root.field("security_definer");
        let list = of.field("search_path");
        let managed = &self.contract.managed.schemas;
        for (i, name) in policy.search_path.iter().enumerate() {
            self.problems.check_interrupts();
            let is_known = matches!(name.as_str(), "pg_catalog" | "pg_temp")
                || self.schemas.contains_key(name.as_str())
                || managed.iter().any(|pattern| matches(pattern, name));
            if !is_known {
                let problem = format!(
                    "schema {} is not governed: the roles with CREATE on it are not checked",
                    safe_ident(name)
                );
                self.warn(&list.item(i), problem, "governed schemas, pg_catalog, pg_temp");
            }
        }
        if policy.accept_empty && policy.accept == Accept::Canonical {
            let problem =
                "the empty path is accepted, but \"accept\" allows only the canonical path";
            self.warn(&of.field("accept_empty"), problem, "false, or \"accept\": \"safe\"");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::examine::{Examined, examine};
    use super::super::shipped::DEFAULT;
    use serde_json::{Value, json};

    fn problems(edit: impl Fn(&mut Value)) -> Vec<String> {
        let mut document: Value = serde_json::from_str(DEFAULT).unwrap();
        edit(&mut document);
        let Examined { problems, .. } = examine(&document.to_string());
        problems
            .iter()
            .map(|p| format!("{} {}: {}", p.severity.as_str(), p.path, p.problem))
            .collect()
    }

    /// Returns the problems that the shipped contract does not have.
    fn new_problems(edit: impl Fn(&mut Value)) -> Vec<String> {
        let known = problems(|_| {});
        problems(edit).into_iter().filter(|w| !known.contains(w)).collect()
    }

    #[test]
    fn shipped_contract_has_known_contradictions() {
        let without_usage = |role: &str| {
            format!(
                "warning $.views[5].grants.{role}: role \"{role}\" is granted SELECT on \
                 ops.v_batch_performance, but not USAGE on schema ops"
            )
        };
        let ineffective = |i: u32, table: &str| {
            format!(
                "info $.tables[{i}].row_security: row security is required on {table}, but no \
                 role with access to it is subject to row security"
            )
        };
        assert_eq!(
            problems(|_| {}),
            [
                ineffective(5, "public.job_queue"),
                ineffective(7, "intake.simplicity_import_log"),
                ineffective(8, "intake.simplicity_raw"),
                without_usage("anon"),
                without_usage("authenticated"),
            ]
        );
    }

    #[test]
    fn trusted_client_is_an_error() {
        let effect = "schemas in which it can create objects would count as safe for SECURITY \
                      DEFINER routines";
        assert_eq!(
            new_problems(|j| {
                j["trusted_roles"] = json!(["postgres", "anon", "service_role", "a_dba"]);
            }),
            [
                format!("error $.trusted_roles[1]: trusted role \"anon\" is a client: {effect}"),
                format!(
                    "warning $.trusted_roles[2]: trusted role \"service_role\" is a worker: \
                     {effect}"
                ),
                "warning $.trusted_roles[3]: trusted role \"a_dba\" is not declared: it is not \
                 checked"
                    .to_owned(),
            ]
        );
    }

    #[test]
    fn role_of_requests_among_the_readers_is_an_error() {
        assert_eq!(
            new_problems(|j| {
                j["readers"] = json!(["grafana", "anon"]);
                j["deployers"] = json!(["authenticated", "service_role", "postgres"]);
            }),
            [
                "error $.readers[1]: role \"anon\" is a client: requests would read the audits",
                "error $.deployers[0]: role \"authenticated\" is a client: requests would read \
                 the audits",
            ]
        );
    }

    #[test]
    fn contradictions_of_tables_are_warnings() {
        assert_eq!(
            new_problems(|j| {
                j["tables"][0]["grants"] =
                    json!({"authenticated": ["SELECT", "UPDATE", "TRUNCATE"]});
                j["tables"][1]["grants"] = json!({});
                j["tables"][2]["row_security"] = json!(false);
                j["tables"][3]["force_row_security"] = json!(true);
            }),
            [
                "warning $.tables[0].grants.authenticated: role \"authenticated\" is granted \
                 UPDATE on public.judgments, but no policy allows it",
                "warning $.tables[0].grants.authenticated: client role \"authenticated\" is \
                 granted TRUNCATE on public.judgments, which bypasses row security",
                "info $.tables[1].row_security: row security is required on \
                 public.plaintiffs, but no role with access to it is subject to row security",
                "info $.tables[1].policies.authenticated: a policy allows role \
                 \"authenticated\" SELECT on public.plaintiffs, but it is not granted",
                "warning $.tables[2].policies: policies of public.plaintiff_contacts have no \
                 effect, because row security need not be enabled",
                "warning $.tables[2].grants.authenticated: client role \"authenticated\" is \
                 granted SELECT on every row of public.plaintiff_contacts, because row security \
                 is not required",
                "warning $.tables[3].force_row_security: row security of \
                 public.plaintiff_status_history must be forced, but need not be enabled",
            ]
        );
    }

    #[test]
    fn contradictions_about_the_rows_of_a_caller_are_reported() {
        let no_effect =
            |path: &str, problem: &str| format!("info {path}: {problem}: it has no effect");
        assert_eq!(
            new_problems(|j| {
                let table = &mut j["tables"][0];
                table["keys"] = json!(["owner"]);
                table["open_rows"] = json!({"anon": ["status"], "authenticated": ["status"],
                                            "service_role": ["status"]});
                table["append_only_by"] = json!(["authenticated", "postgres"]);
                let table = &mut j["tables"][1];
                table["row_security"] = json!(false);
                table["policies"] = json!({});
                table["grants"] = json!({"anon": ["INSERT"]});
                table["keys"] = json!(["owner"]);
                table["privileged"] = json!(true);
                j["identity"] = json!({
                    "settings": {"app.tenant": "tenant"},
                    "request": ["App.Tenant", "app.header"],
                    "sessions": {"anon": "without", "service_role": "without"}
                });
            }),
            [
                no_effect(
                    "$.tables[0].open_rows.anon",
                    "no policy allows role \"anon\" SELECT on public.judgments"
                ),
                no_effect(
                    "$.tables[0].open_rows.service_role",
                    "role \"service_role\" is no client"
                ),
                no_effect(
                    "$.tables[0].append_only_by[0]",
                    "no policy allows role \"authenticated\" INSERT on public.judgments"
                ),
                no_effect("$.tables[0].append_only_by[1]", "role \"postgres\" is no client"),
                "warning $.tables[1].keys: keys of public.plaintiffs has no effect, because row \
                 security need not be enabled"
                    .to_owned(),
                "warning $.tables[1].grants.anon: client role \"anon\" is granted INSERT on every \
                 row of public.plaintiffs, because row security is not required"
                    .to_owned(),
                "warning $.tables[1].privileged: client role \"anon\" may INSERT every row of \
                 public.plaintiffs, and a caller who is found in it has a right"
                    .to_owned(),
                "warning $.identity.request[0]: parameter App.Tenant is in $.identity.settings as \
                 well, which decides"
                    .to_owned(),
                no_effect("$.identity.sessions.service_role", "role \"service_role\" is no client"),
            ]
        );
    }

    #[test]
    fn contradictions_of_column_grants_are_warnings() {
        assert_eq!(
            new_problems(|j| {
                j["tables"][0]["column_grants"] =
                    json!({"authenticated": {"SELECT": ["id"], "UPDATE": ["status"]}});
                j["tables"][5]["column_grants"] = json!({"service_role": {"SELECT": ["id"]}});
                j["tables"][3]["column_grants"] = json!({"anon": {"SELECT": ["id"]}});
                j["views"][5]["grants"] = json!({});
                j["views"][5]["column_grants"] = json!({"anon": {"SELECT": ["id"]}});
            }),
            [
                "warning $.tables[0].column_grants.authenticated.SELECT: role \
                 \"authenticated\" is granted SELECT on columns of public.judgments, and on all \
                 columns as well",
                "warning $.tables[0].grants.authenticated: role \"authenticated\" is granted \
                 UPDATE on public.judgments, but no policy allows it",
                "warning $.tables[3].column_grants.anon: client role \"anon\" is granted SELECT \
                 on every row of public.plaintiff_status_history, because row security is not \
                 required",
                "warning $.tables[5].column_grants.service_role.SELECT: role \"service_role\" is \
                 granted SELECT on columns of public.job_queue, and on all columns as well",
                "warning $.views[5].column_grants.anon: role \"anon\" is granted SELECT on \
                 columns of ops.v_batch_performance, but not USAGE on schema ops",
            ]
        );
    }

    #[test]
    fn contradictions_of_other_declarations_are_warnings() {
        assert_eq!(
            new_problems(|j| {
                j["roles"][0]["bypass_rls"] = json!(true);
                j["schemas"][4]["all_on_objects"] = json!(["anon"]);
                j["schemas"][3]["execute_on_routines"] = json!(["authenticated"]);
                j["views"][6]["name"] = json!("v_judgment_pipeline");
                j["security_definer"] = json!({
                    "search_path": ["elsewhere", "pg_temp"],
                    "accept": "canonical",
                    "accept_empty": true
                });
                j["managed"]["schemas"] = json!(["pub*", "auth"]);
            }),
            [
                "warning $.roles[0].bypass_rls: client role \"anon\" bypasses row security: its \
                 other declarations do not restrict it",
                "warning $.schemas[3].execute_on_routines[0]: role \"authenticated\" is granted \
                 EXECUTE on the routines of schema ops, but not USAGE on schema ops",
                "warning $.schemas[4].all_on_objects[0]: role \"anon\" is granted all privileges \
                 on the objects of schema enforcement, but not USAGE on schema enforcement",
                "warning $.schemas[4].all_on_objects[0]: client role \"anon\" is granted all \
                 privileges, including TRUNCATE, which bypasses row security",
                "warning $.managed.schemas[0]: schema public is governed, not managed",
                "info $.views[6].name: view v_judgment_pipeline is also declared in schema \
                 public: its name without a schema depends on search_path",
                "warning $.security_definer.search_path[0]: schema elsewhere is not governed: the \
                 roles with CREATE on it are not checked",
                "warning $.security_definer.accept_empty: the empty path is accepted, but \
                 \"accept\" allows only the canonical path",
            ]
        );
    }
}
