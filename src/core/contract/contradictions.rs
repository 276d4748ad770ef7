//! Where a contract contradicts itself: each part could be meant, and together they mean something
//! else than their author thinks.
//!
//! All of these are warnings, for a contract may be right about a database and odd in itself; but
//! for a client that is trusted with what SECURITY DEFINER routines look up, which leaves nothing
//! of the rule behind the product.

use super::problem::{Path, Problems};
use super::types::{
    Accept, ByRole, Contract, PrivilegeSet, RoleDecl, RoleKind, SchemaDecl, TableDecl, granted_to,
};
use crate::catalog::{Command, Privileges};
use crate::sql::{listed, printable, safe_ident, safe_qualified};
use std::collections::{HashMap, HashSet};

impl Contract {
    /// Notes every contradiction.
    pub(super) fn contradictions(&self, problems: &mut Problems<'_>) {
        let roles = self.roles.iter().map(|role| (role.name.as_str(), role)).collect();
        let usage = self
            .schemas
            .iter()
            .flat_map(|s| s.usage.iter().map(|role| (s.name.as_str(), role.as_str())))
            .collect();
        let all = self
            .schemas
            .iter()
            .flat_map(|s| s.all_on_objects.iter().map(|role| (s.name.as_str(), role.as_str())))
            .collect();
        let schemas = self.schemas.iter().map(|s| (s.name.as_str(), s)).collect();
        let reading = Reading { contract: self, roles, schemas, usage, all };
        reading.of_roles(problems);
        reading.of_schemas(problems);
        reading.of_tables(problems);
        reading.of_other_objects(problems);
        reading.of_paths(problems);
    }
}

struct Reading<'c> {
    contract: &'c Contract,
    roles: HashMap<&'c str, &'c RoleDecl>,
    schemas: HashMap<&'c str, &'c SchemaDecl>,
    /// Schema and role.
    usage: HashSet<(&'c str, &'c str)>,
    all: HashSet<(&'c str, &'c str)>,
}

/// A role as a sentence names it.
fn role(name: &str) -> String {
    format!("role \"{}\"", printable(name))
}

impl Reading<'_> {
    fn kind(&self, role: &str) -> Option<RoleKind> {
        self.roles.get(role).map(|declared| declared.kind)
    }

    /// Whether row security binds a role.
    fn is_bound(&self, role: &str) -> bool {
        let bound = |declared: &&RoleDecl| {
            declared.bypass_rls != Some(true) && declared.superuser != Some(true)
        };
        self.roles
            .get(role)
            .is_some_and(|declared| declared.kind != RoleKind::Owner && bound(declared))
    }

    fn of_roles(&self, problems: &mut Problems<'_>) {
        let list = Path::Root.field("trusted_roles");
        for (i, name) in self.contract.trusted_roles.iter().enumerate() {
            let harm = "SECURITY DEFINER routines would count as safe in schemas where it can put objects in their way";
            match self.kind(name) {
                Some(RoleKind::Client) => {
                    problems.error(
                        &list.item(i),
                        format!("{} is trusted and a client: {harm}", role(name)),
                        "roles that own the structure".to_owned(),
                    );
                }
                Some(RoleKind::Worker) => {
                    problems.warning(
                        &list.item(i),
                        format!("{} is trusted and a worker: {harm}", role(name)),
                        "roles that own the structure".to_owned(),
                    );
                }
                Some(RoleKind::Owner) => {}
                None => {
                    let problem = format!(
                        "{} is trusted and not declared: nobody watches what it is",
                        role(name)
                    );
                    problems.warning(
                        &list.item(i),
                        problem,
                        "roles of $.roles that own the structure".to_owned(),
                    );
                }
            }
        }
        let list = Path::Root.field("roles");
        for (i, declared) in self.contract.roles.iter().enumerate() {
            let attributes = [
                ("superuser", declared.superuser, "passes everything by", true),
                (
                    "bypass_rls",
                    declared.bypass_rls,
                    "passes row security by",
                    declared.kind == RoleKind::Client,
                ),
                ("replication", declared.replication, "can copy everything", true),
                (
                    "create_role",
                    declared.create_role,
                    "can make itself a member of other roles",
                    true,
                ),
            ];
            for (field, value, harm, matters) in attributes {
                if value == Some(true) && matters && declared.kind != RoleKind::Owner {
                    let kind = if declared.kind == RoleKind::Client { "client" } else { "worker" };
                    let problem = format!(
                        "{} is a {kind} and {harm}: what else is declared for it binds it no more",
                        role(&declared.name)
                    );
                    problems.warning(&list.item(i).field(field), problem, "false".to_owned());
                }
            }
        }
    }

    fn of_schemas(&self, problems: &mut Problems<'_>) {
        let list = Path::Root.field("schemas");
        for (i, schema) in self.contract.schemas.iter().enumerate() {
            let at = list.item(i);
            for (field, roles) in [
                ("all_on_objects", &schema.all_on_objects),
                ("execute_on_routines", &schema.execute_on_routines),
            ] {
                let field = at.field(field);
                for (j, name) in roles.iter().enumerate() {
                    self.needs_usage(
                        &field.item(j),
                        &schema.name,
                        name,
                        "everything in it",
                        problems,
                    );
                }
            }
            for (j, name) in schema
                .all_on_objects
                .iter()
                .enumerate()
                .filter(|(_, name)| self.kind(name) == Some(RoleKind::Client))
            {
                let problem = format!(
                    "{} is a client and gets ALL, with TRUNCATE, which passes row security by",
                    role(name)
                );
                problems.warning(
                    &at.field("all_on_objects").item(j),
                    problem,
                    "grants on tables and views, one by one".to_owned(),
                );
            }
        }
        let of = Path::Root.field("managed");
        let list = of.field("schemas");
        for (i, pattern) in self.contract.managed.schemas.iter().enumerate() {
            problems.check_interrupts();
            let governed = match pattern.contains('*') {
                false => self.schemas.get(pattern.as_str()).map(|schema| &schema.name),
                true => self
                    .contract
                    .schemas
                    .iter()
                    .map(|schema| &schema.name)
                    .find(|name| super::matches(pattern, name)),
            };
            if let Some(governed) = governed {
                let problem = format!(
                    "schema {} is governed, and so it is not managed",
                    safe_ident(governed)
                );
                problems.warning(&list.item(i), problem, "schemas of the platform".to_owned());
            }
        }
    }

    /// Without USAGE on the schema, nothing that is granted in it can be reached by name.
    fn needs_usage(
        &self,
        at: &Path<'_>,
        schema: &str,
        name: &str,
        what: &str,
        problems: &mut Problems<'_>,
    ) {
        // The owner needs none, nor who passes everything by.
        let needs = |declared: &&RoleDecl| {
            declared.kind != RoleKind::Owner && declared.superuser != Some(true)
        };
        if !self.usage.contains(&(schema, name)) && self.roles.get(name).is_some_and(needs) {
            let schema = safe_ident(schema);
            let problem = format!(
                "{} is granted {what}, and has no USAGE on schema {schema}: it cannot reach it",
                role(name)
            );
            problems.warning(at, problem, format!("USAGE on schema {schema} for it, or no grant"));
        }
    }

    fn grants_need_usage<W: PrivilegeSet>(
        &self,
        at: &Path<'_>,
        (schema, object): (&str, &str),
        grants: &ByRole<W>,
        problems: &mut Problems<'_>,
    ) {
        let field = at.field("grants");
        for name in grants.keys().filter(|name| !granted_to(grants, name).is_empty()) {
            let what =
                format!("{} on {}", granted_to(grants, name), safe_qualified(schema, object));
            self.needs_usage(&field.field(name), schema, name, &what, problems);
        }
    }

    /// What the contract gives a role on a table.
    fn held(&self, table: &TableDecl, name: &str) -> Privileges {
        let all = self.all.contains(&(table.schema.as_str(), name));
        granted_to(&table.grants, name)
            | if all { Privileges::ALL_ON_TABLE } else { Privileges::NONE }
    }

    fn of_tables(&self, problems: &mut Problems<'_>) {
        let list = Path::Root.field("tables");
        for (i, table) in self.contract.tables.iter().enumerate() {
            let at = list.item(i);
            let sql = safe_qualified(&table.schema, &table.name);
            self.grants_need_usage(&at, (&table.schema, &table.name), &table.grants, problems);
            if !table.row_security {
                if table.force_row_security {
                    let problem =
                        format!("row security of {sql} is to be forced, and need not be on");
                    problems.warning(
                        &at.field("force_row_security"),
                        problem,
                        "\"row_security\": true beside it".to_owned(),
                    );
                }
                if !table.policies.is_empty() {
                    let problem = format!(
                        "{sql} is to have policies, and row security need not be on: then they bind nobody"
                    );
                    problems.warning(
                        &at.field("policies"),
                        problem,
                        "\"row_security\": true beside it".to_owned(),
                    );
                }
                self.open_table(&at, table, problems);
                continue;
            }
            let rows = Privileges::SELECT | Privileges::WRITES;
            let reaches = |name: &str| {
                self.usage.contains(&(&table.schema, name))
                    && self.held(table, name).intersects(rows)
            };
            let all = self.schemas.get(table.schema.as_str()).map(|schema| &schema.all_on_objects);
            let mut candidates = table.grants.keys().chain(all.into_iter().flatten());
            if !table.force_row_security
                && !candidates.any(|name| self.is_bound(name) && reaches(name))
            {
                let problem = format!(
                    "row security is demanded of {sql}, which no client can reach: it binds nobody"
                );
                let allowed =
                    "that, as a second line of defence; or the grants that clients need".to_owned();
                problems.warning(&at.field("row_security"), problem, allowed);
            }
            self.policies(&at, table, problems);
        }
    }

    /// A table that clients can reach, without row security.
    fn open_table(&self, at: &Path<'_>, table: &TableDecl, problems: &mut Problems<'_>) {
        let field = at.field("grants");
        for name in table.grants.keys().filter(|name| self.kind(name) == Some(RoleKind::Client)) {
            let problem = format!(
                "{} is a client and gets {} on {}, of which row security is not demanded: every row is open to it",
                role(name),
                granted_to(&table.grants, name),
                safe_qualified(&table.schema, &table.name)
            );
            problems.warning(
                &field.field(name),
                problem,
                "\"row_security\": true, and a policy for it".to_owned(),
            );
        }
    }

    /// Privileges that no policy opens, and policies for what the role has no privilege to do.
    fn policies(&self, at: &Path<'_>, table: &TableDecl, problems: &mut Problems<'_>) {
        let sql = safe_qualified(&table.schema, &table.name);
        let grants = at.field("grants");
        let policies = at.field("policies");
        let names: HashSet<&String> = table.grants.keys().chain(table.policies.keys()).collect();
        let mut names: Vec<&String> =
            names.into_iter().filter(|name| self.is_bound(name)).collect();
        names.sort();
        for name in names {
            let held = self.held(table, name);
            let open = table.policy_commands(name);
            let may = |command: Command| {
                held.contains(Privileges::from_word(command.as_str()).unwrap_or(Privileges::NONE))
            };
            let words = |wanted: &dyn Fn(Command) -> bool| -> Vec<String> {
                Command::ALL
                    .into_iter()
                    .filter(|c| wanted(*c))
                    .map(|c| c.as_str().to_owned())
                    .collect()
            };
            let closed = words(&|command| may(command) && !open.contains(&command));
            if !closed.is_empty() {
                let problem = format!(
                    "{} may {} on {sql}, and no policy opens a row for that",
                    role(name),
                    listed(&closed)
                );
                problems.warning(
                    &grants.field(name),
                    problem,
                    "a policy for each privilege".to_owned(),
                );
            }
            let unused = words(&|command| !may(command) && open.contains(&command));
            if !unused.is_empty() {
                let problem = format!(
                    "a policy lets {} {} on {sql}, which it has no privilege for",
                    role(name),
                    listed(&unused)
                );
                problems.warning(
                    &policies.field(name),
                    problem,
                    "a privilege for each policy".to_owned(),
                );
            }
            let beyond = self.kind(name) == Some(RoleKind::Client)
                && granted_to(&table.grants, name).contains(Privileges::TRUNCATE);
            if beyond {
                let problem = format!(
                    "{} is a client and may TRUNCATE {sql}, which passes row security by",
                    role(name)
                );
                problems.warning(
                    &grants.field(name),
                    problem,
                    "SELECT, INSERT, UPDATE, DELETE".to_owned(),
                );
            }
        }
    }

    fn of_other_objects(&self, problems: &mut Problems<'_>) {
        let list = Path::Root.field("views");
        let mut schema_of: HashMap<&str, &str> = HashMap::new();
        for (i, view) in self.contract.views.iter().enumerate() {
            let at = list.item(i);
            self.grants_need_usage(&at, (&view.schema, &view.name), &view.grants, problems);
            match schema_of.get(view.name.as_str()) {
                Some(other) => {
                    let problem = format!(
                        "view {} is declared in schema {} too: which one a name without schema means, the search_path says",
                        safe_ident(&view.name),
                        safe_ident(other)
                    );
                    problems.warning(
                        &at.field("name"),
                        problem,
                        "each name in one schema".to_owned(),
                    );
                }
                None => {
                    schema_of.insert(&view.name, &view.schema);
                }
            }
        }
        let list = Path::Root.field("sequences");
        for (i, sequence) in self.contract.sequences.iter().enumerate() {
            self.grants_need_usage(
                &list.item(i),
                (&sequence.schema, &sequence.name),
                &sequence.grants,
                problems,
            );
        }
        let list = Path::Root.field("functions");
        for (i, function) in self.contract.functions.iter().enumerate() {
            let at = list.item(i);
            let field = at.field("execute");
            for (j, name) in function.execute.iter().enumerate() {
                let what =
                    format!("EXECUTE on {}", safe_qualified(&function.schema, &function.name));
                self.needs_usage(&field.item(j), &function.schema, name, &what, problems);
            }
        }
    }

    fn of_paths(&self, problems: &mut Problems<'_>) {
        let policy = &self.contract.security_definer;
        let of = Path::Root.field("security_definer");
        let list = of.field("search_path");
        for (i, name) in policy.search_path.iter().enumerate() {
            problems.check_interrupts();
            let known = matches!(name.as_str(), "pg_catalog" | "pg_temp")
                || self.schemas.contains_key(name.as_str())
                || self
                    .contract
                    .managed
                    .schemas
                    .iter()
                    .any(|pattern| super::matches(pattern, name));
            if !known {
                let problem = format!(
                    "schema {} is not governed: nobody watches who creates in it",
                    safe_ident(name)
                );
                problems.warning(
                    &list.item(i),
                    problem,
                    "governed schemas, pg_catalog, pg_temp".to_owned(),
                );
            }
        }
        if policy.accept_empty && policy.accept == Accept::Canonical {
            let problem = "no path but the canonical one is accepted, and the empty one is";
            problems.warning(
                &of.field("accept_empty"),
                problem,
                "false, or \"accept\": \"safe\"".to_owned(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::contract::{DEFAULT, Examined, examine};
    use serde_json::{Value, json};

    fn warnings(edit: impl Fn(&mut Value)) -> Vec<String> {
        let mut document: Value = serde_json::from_str(DEFAULT).unwrap();
        edit(&mut document);
        let Examined { problems, .. } = examine(&document.to_string());
        problems
            .iter()
            .map(|p| format!("{} {}: {}", p.severity.as_str(), p.path, p.problem))
            .collect()
    }

    /// What is new against the shipped contract.
    fn new(edit: impl Fn(&mut Value)) -> Vec<String> {
        let known = warnings(|_| {});
        warnings(edit).into_iter().filter(|w| !known.contains(w)).collect()
    }

    #[test]
    fn the_shipped_contract_names_its_own() {
        let granted = |role: &str| {
            format!(
                "warning $.views[5].grants.{role}: role \"{role}\" is granted SELECT on ops.v_batch_performance, and has no USAGE on schema \
                 ops: it cannot reach it"
            )
        };
        let unreached = |i: u32, table: &str| {
            format!(
                "warning $.tables[{i}].row_security: row security is demanded of {table}, which no client can reach: it binds nobody"
            )
        };
        assert_eq!(
            warnings(|_| {}),
            [
                unreached(5, "public.job_queue"),
                unreached(7, "intake.simplicity_import_log"),
                unreached(8, "intake.simplicity_raw"),
                granted("anon"),
                granted("authenticated"),
            ]
        );
    }

    #[test]
    fn trusting_a_client_leaves_nothing_of_the_rule() {
        let harm = "SECURITY DEFINER routines would count as safe in schemas where it can put objects in their way";
        assert_eq!(
            new(|j| j["trusted_roles"] = json!(["postgres", "anon", "service_role", "a_dba"])),
            [
                format!("error $.trusted_roles[1]: role \"anon\" is trusted and a client: {harm}"),
                format!("warning $.trusted_roles[2]: role \"service_role\" is trusted and a worker: {harm}"),
                "warning $.trusted_roles[3]: role \"a_dba\" is trusted and not declared: nobody watches what it is".to_owned(),
            ]
        );
    }

    #[test]
    fn tables_policies_and_privileges_fit_together() {
        assert_eq!(
            new(|j| {
                j["tables"][0]["grants"] =
                    json!({"authenticated": ["SELECT", "UPDATE", "TRUNCATE"]});
                j["tables"][1]["grants"] = json!({});
                j["tables"][2]["row_security"] = json!(false);
                j["tables"][3]["force_row_security"] = json!(true);
            }),
            [
                "warning $.tables[0].grants.authenticated: role \"authenticated\" may UPDATE on public.judgments, and no policy opens a row \
                 for that",
                "warning $.tables[0].grants.authenticated: role \"authenticated\" is a client and may TRUNCATE public.judgments, which passes \
                 row security by",
                "warning $.tables[1].row_security: row security is demanded of public.plaintiffs, which no client can reach: it binds nobody",
                "warning $.tables[1].policies.authenticated: a policy lets role \"authenticated\" SELECT on public.plaintiffs, which it has no \
                 privilege for",
                "warning $.tables[2].policies: public.plaintiff_contacts is to have policies, and row security need not be on: then they bind \
                 nobody",
                "warning $.tables[2].grants.authenticated: role \"authenticated\" is a client and gets SELECT on public.plaintiff_contacts, of \
                 which row security is not demanded: every row is open to it",
                "warning $.tables[3].force_row_security: row security of public.plaintiff_status_history is to be forced, and need not be on",
            ]
        );
    }

    #[test]
    fn the_rest_fits_together_too() {
        assert_eq!(
            new(|j| {
                j["roles"][0]["bypass_rls"] = json!(true);
                j["schemas"][4]["all_on_objects"] = json!(["anon"]);
                j["schemas"][3]["execute_on_routines"] = json!(["authenticated"]);
                j["views"][6]["name"] = json!("v_judgment_pipeline");
                j["security_definer"] = json!({"search_path": ["elsewhere", "pg_temp"], "accept": "canonical", "accept_empty": true});
                j["managed"]["schemas"] = json!(["pub*", "auth"]);
            }),
            [
                "warning $.roles[0].bypass_rls: role \"anon\" is a client and passes row security by: what else is declared for it binds it no \
                 more",
                "warning $.schemas[3].execute_on_routines[0]: role \"authenticated\" is granted everything in it, and has no USAGE on schema \
                 ops: it cannot reach it",
                "warning $.schemas[4].all_on_objects[0]: role \"anon\" is granted everything in it, and has no USAGE on schema enforcement: it \
                 cannot reach it",
                "warning $.schemas[4].all_on_objects[0]: role \"anon\" is a client and gets ALL, with TRUNCATE, which passes row security by",
                "warning $.managed.schemas[0]: schema public is governed, and so it is not managed",
                "warning $.views[6].name: view v_judgment_pipeline is declared in schema public too: which one a name without schema means, the \
                 search_path says",
                "warning $.security_definer.search_path[0]: schema elsewhere is not governed: nobody watches who creates in it",
                "warning $.security_definer.accept_empty: no path but the canonical one is accepted, and the empty one is",
            ]
        );
    }
}
