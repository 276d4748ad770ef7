//! The declarations under which a finding might not be one.

use super::held::{as_it_is, function_name, held_in};
use super::{
    Declaration, FunctionName, Grant, Granted, Name, On, PolicyHeader, RowSecurity, Rows, Target,
};
use crate::catalog::{
    Attribute, Command, ObjectId, Policy, Privileges, Relation, RelationKind, Schema,
};
use crate::contract::{ColumnGrants, RoleKind, TableDecl};
use crate::finding::Finding;
use crate::rules::{
    Context, object_ownership, required_object_missing, rls_disabled, rls_not_forced, role_missing,
    undeclared_role_privileges, ungoverned_schema_access, view_privileges,
};
use crate::sql::{argument_types, quote_ident, safe_qualified};
use serde_json::Value;
use std::collections::BTreeMap;

/// Returns the declarations under which a finding might not be one; none where a person has to
/// decide. Whether they suffice has to be tried.
pub(crate) fn candidates(cx: &Context<'_>, finding: &Finding) -> Vec<Declaration> {
    Candidates { cx, finding }.all()
}

/// Adds a declaration that is not there yet. Privileges on the same objects for the same roles are
/// one GRANT.
pub(crate) fn add(declarations: &mut Vec<Declaration>, one: Declaration) {
    if declarations.contains(&one) {
        return;
    }
    if let Declaration::Rows(table, rows) = &one {
        for known in declarations.iter_mut() {
            if let Declaration::Rows(known, known_rows) = known
                && known == table
                && known_rows.extend(rows)
            {
                return;
            }
        }
    }
    if let Declaration::Grant(grant) = &one {
        // What is granted after a REVOKE of the same is not granted before it.
        let first = declarations.iter().rposition(|known| contradicts(known, grant));
        for known in declarations.iter_mut().skip(first.map_or(0, |place| place + 1)) {
            if let Declaration::Grant(known) = known
                && (&known.on, &known.roles) == (&grant.on, &grant.roles)
                && known.is_revoke == grant.is_revoke
            {
                let more = grant.privileges.iter().filter(|p| !known.privileges.contains(p));
                let more: Vec<Granted> = more.cloned().collect();
                known.privileges.extend(more);
                return;
            }
        }
    }
    declarations.push(one);
}

/// Whether a declaration grants what a statement revokes, or revokes what it grants, so that their
/// order counts.
pub(crate) fn contradicts(known: &Declaration, grant: &Grant) -> bool {
    let Declaration::Grant(known) = known else { return false };
    let has_same = |privileges: Option<Privileges>| {
        let is_same = |one: &Granted| match (one.privilege, privileges) {
            (Some(one), Some(other)) => one.intersects(other),
            _ => true,
        };
        known.privileges.iter().any(is_same)
    };
    known.is_revoke != grant.is_revoke
        && known.roles.iter().any(|role| grant.roles.contains(role))
        && known.on.has_same(&grant.on)
        && grant.privileges.iter().any(|granted| has_same(granted.privilege))
}

/// The declarations about one finding.
struct Candidates<'c, 'a> {
    cx: &'c Context<'a>,
    finding: &'c Finding,
}

impl Candidates<'_, '_> {
    fn all(&self) -> Vec<Declaration> {
        if *self.finding.rule == object_ownership::RULE {
            return self.of_owner();
        }
        let about = match self.finding.object.id {
            ObjectId::Relation(oid) => {
                self.cx.snapshot.relation(oid).map(|relation| self.of_relation(relation))
            }
            ObjectId::Policy(oid) => {
                self.cx.snapshot.policies.iter().find(|p| p.oid == oid).map(|p| self.of_policy(p))
            }
            ObjectId::Routine(_) => self.of_routine(),
            ObjectId::Schema(oid) => {
                self.cx.snapshot.schema(oid).and_then(|schema| self.of_schema(schema))
            }
            ObjectId::Role(oid) => {
                self.cx.snapshot.role(oid).and_then(|role| self.of_role(&role.name))
            }
            ObjectId::Named => self.of_missing(),
            ObjectId::Type(_) => None,
        };
        let about = about.unwrap_or_default();
        if about.is_empty() { about } else { [self.needed_first(), about].concat() }
    }

    /// The declarations of an owner that the contract does not name.
    fn of_owner(&self) -> Vec<Declaration> {
        let owner = self.evidence("owner").first().map(|name| (*name).to_owned());
        match owner.filter(|name| self.cx.contract.role(name).is_none()) {
            Some(name) => vec![
                Declaration::Create(Target::Role(name.clone())),
                Declaration::Kind(name, RoleKind::Owner),
            ],
            None => vec![],
        }
    }

    /// The declarations of the schema and the object, where these are not declared.
    fn needed_first(&self) -> Vec<Declaration> {
        let mut first = Vec::new();
        let contract = self.cx.contract;
        let roles = self.finding.roles.iter().filter(|role| *role != "PUBLIC");
        for role in roles.filter(|role| contract.role(role).is_none()) {
            first.push(Declaration::Create(Target::Role(role.clone())));
        }
        if let Some(schema) = &self.finding.object.schema
            && contract.schema(schema).is_none()
        {
            first.push(Declaration::Create(Target::Schema(schema.clone())));
        }
        if let Some(relation) = self.relation()
            && let Some(name) = self.name_of(relation)
            && !contract.declares_relation(&name.schema, &name.name)
        {
            first.extend(as_it_is(relation, &name));
        }
        first
    }

    /// The relation of the finding, or of its policy.
    fn relation(&self) -> Option<&Relation> {
        let snapshot = self.cx.snapshot;
        match self.finding.object.id {
            ObjectId::Relation(oid) => snapshot.relation(oid),
            ObjectId::Policy(oid) => {
                let policy = snapshot.policies.iter().find(|policy| policy.oid == oid)?;
                snapshot.relation(policy.relation)
            }
            _ => None,
        }
    }

    fn name_of(&self, relation: &Relation) -> Option<Name> {
        let schema = self.cx.snapshot.schema(relation.schema)?;
        Some(Name::new(&schema.name, &relation.name))
    }

    fn evidence(&self, key: &str) -> Vec<&str> {
        match &self.finding.evidence[key] {
            Value::String(one) => vec![one],
            Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
            _ => vec![],
        }
    }

    fn privileges(&self) -> Privileges {
        let named = self.evidence("privileges").into_iter();
        named.filter_map(|name| name.parse().ok()).fold(Privileges::NONE, |all, one| all | one)
    }

    fn commands(&self) -> Vec<Command> {
        let words = self.evidence("commands");
        Command::ALL.into_iter().filter(|command| words.contains(&command.as_str())).collect()
    }

    /// The roles of the finding; for PUBLIC, all clients and workers, of which PUBLIC may have what
    /// is declared for all.
    fn roles(&self) -> Vec<String> {
        let contract = self.cx.contract;
        if self.finding.roles.iter().any(|role| role == "PUBLIC") {
            let kinds = [RoleKind::Client, RoleKind::Worker].into_iter();
            return kinds.flat_map(|kind| contract.roles_of(kind)).map(str::to_owned).collect();
        }
        self.finding.roles.clone()
    }

    fn is_missing(&self) -> bool {
        self.finding.evidence["problem"] == "missing"
    }

    /// Whether a privilege that is declared for a relation is there on some columns.
    fn is_on_columns_only(&self) -> bool {
        self.finding.evidence["problem"] == "on columns"
    }

    fn grant(&self, privileges: Privileges, on: On) -> Vec<Declaration> {
        let roles = self.roles();
        if roles.is_empty() || privileges.is_empty() {
            return vec![];
        }
        let columns: Vec<String> = [self.evidence("column"), self.evidence("columns")]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect();
        let grant = |is_revoke, columns: &[String]| {
            let granted = privileges.each().into_iter();
            let granted =
                granted.map(|one| Granted { privilege: Some(one), columns: columns.to_vec() });
            let (on, roles) = (on.clone(), roles.clone());
            let privileges = granted.collect();
            Declaration::Grant(Grant { is_revoke, privileges, on, roles, to_public: false })
        };
        // What is declared for the whole relation is declared for the columns that have it.
        let whole = self.is_on_columns_only().then(|| grant(true, &[]));
        whole.into_iter().chain([grant(self.is_missing(), &columns)]).collect()
    }

    fn of_relation(&self, relation: &Relation) -> Vec<Declaration> {
        let Some(name) = self.name_of(relation) else { return vec![] };
        let rule = self.finding.rule;
        if *rule == rls_disabled::RULE {
            return vec![Declaration::RowSecurity(name, RowSecurity::Disable)];
        }
        if *rule == rls_not_forced::RULE {
            return vec![Declaration::RowSecurity(name, RowSecurity::NoForce)];
        }
        if !self.commands().is_empty() {
            // The contract declares policies that do not exist.
            let header = self.header(name);
            let name = self.policy_of(relation, &header).unwrap_or(header.name);
            return vec![Declaration::DropPolicy(PolicyHeader { name, ..header })];
        }
        // The other findings of the rule are about roles.
        if *rule == view_privileges::RULE && self.finding.roles.is_empty() {
            return vec![Declaration::SecurityInvoker(name, relation.security_invoker)];
        }
        let on = match relation.kind {
            RelationKind::Sequence => On::Sequences(vec![name]),
            _ => On::Tables(vec![name]),
        };
        let is_view = matches!(relation.kind, RelationKind::View | RelationKind::MaterializedView);
        match self.privileges() {
            Privileges::NONE if is_view => self.grant(Privileges::SELECT, on),
            privileges => self.grant(privileges, on),
        }
    }

    /// Returns the name of a policy that is for what a header says, although it allows no row.
    fn policy_of(&self, relation: &Relation, header: &PolicyHeader) -> Option<String> {
        let is_for_role = |policy: &Policy| {
            let mut names = policy.roles.iter().map(|role| self.cx.snapshot.role_name(*role));
            names.any(|name| header.roles.contains(&name))
        };
        let mut policies = self.cx.snapshot.policies_of(relation.oid).iter();
        let found = policies.find(|policy| {
            policy.permissive
                && is_for_role(policy)
                && header.commands.iter().all(|command| policy.covers(*command))
        });
        found.map(|policy| policy.name.clone())
    }

    fn header(&self, table: Name) -> PolicyHeader {
        PolicyHeader {
            name: self.evidence("policy").first().map_or("rows", |name| name).to_owned(),
            table,
            commands: self.commands(),
            roles: self.roles(),
            all_rows: vec![],
        }
    }

    fn of_policy(&self, policy: &Policy) -> Vec<Declaration> {
        let Some(table) = self.relation().and_then(|relation| self.name_of(relation)) else {
            return vec![];
        };
        let commands = self.commands();
        let header = self.header(table);
        let open = |command: &Command| policy.is_for_all_rows(*command);
        let all_rows: Vec<Command> = commands.iter().copied().filter(open).collect();
        // One statement is for one command, or for all of them.
        let parts: Vec<Vec<Command>> = if commands.len() == Command::ALL.len() {
            vec![commands]
        } else {
            commands.into_iter().map(|command| vec![command]).collect()
        };
        parts
            .into_iter()
            .map(|commands| PolicyHeader {
                name: policy.name.clone(),
                all_rows: commands.iter().copied().filter(|c| all_rows.contains(c)).collect(),
                commands,
                ..header.clone()
            })
            .map(Declaration::CreatePolicy)
            .collect()
    }

    fn of_routine(&self) -> Option<Vec<Declaration>> {
        let ObjectId::Routine(oid) = self.finding.object.id else { return None };
        let routine = self.cx.snapshot.routine(oid)?;
        let function = function_name(self.cx, routine)?;
        let is_declared = self.is_declared(&function);
        // What is granted need not be granted on every routine of the name. What the declaration
        // for any arguments requires is changed there.
        let any = FunctionName { arguments: None, ..function.clone() };
        let changes_any = !is_declared && self.is_declared(&any) && self.changes_declaration();
        let function = if changes_any { any } else { function };
        if self.finding.evidence["differs"]["property"] == "security" {
            return Some(vec![Declaration::SecurityDefiner(function, routine.security_definer)]);
        }
        let privileges = match self.privileges() {
            Privileges::NONE if self.finding.rule.id.contains("executable") => Privileges::EXECUTE,
            privileges => privileges,
        };
        let grant = self.grant(privileges, On::Functions(vec![function.clone()]));
        if grant.is_empty() {
            return None;
        }
        if self.is_missing()
            && let Some(one_by_one) = self.one_by_one(&function)
        {
            return Some(one_by_one);
        }
        let create = (!is_declared && !changes_any).then(|| Declaration::CreateFunction {
            function,
            security_definer: Some(true).filter(|_| routine.security_definer),
        });
        Some(create.into_iter().chain(grant).collect())
    }

    /// Whether a routine is declared with these arguments.
    fn is_declared(&self, function: &FunctionName) -> bool {
        let Name { schema, name } = &function.name;
        let types = function.arguments.as_deref().map(argument_types);
        let mut declared = self.cx.contract.functions_named(schema, name);
        declared.any(|one| one.arguments.as_deref().map(argument_types) == types)
    }

    /// Where a role has EXECUTE on every routine of a schema by its declaration, and lacks it on
    /// one: the declarations that leave it the others that are declared. `None` where there is no
    /// such role.
    fn one_by_one(&self, lacking: &FunctionName) -> Option<Vec<Declaration>> {
        let Name { schema, name } = &lacking.name;
        let everywhere = &self.cx.contract.schema(schema)?.execute_on_routines;
        let has_all = |role: &String| everywhere.contains(role);
        let roles: Vec<String> = self.roles().into_iter().filter(has_all).collect();
        if roles.is_empty() {
            return None;
        }
        let types = |arguments: &Option<String>| arguments.as_deref().map(argument_types);
        let others = self.cx.contract.functions.iter().filter(|function| {
            let is_lacking = function.name == *name
                && (function.arguments.is_none()
                    || types(&function.arguments) == types(&lacking.arguments));
            function.schema == *schema && !is_lacking
        });
        let others = others.map(|function| FunctionName {
            name: Name::new(&function.schema, &function.name),
            arguments: function.arguments.clone(),
        });
        let others: Vec<FunctionName> = others.collect();
        let execute = |is_revoke, on| {
            let privileges =
                vec![Granted { privilege: Some(Privileges::EXECUTE), columns: vec![] }];
            let roles = roles.clone();
            Declaration::Grant(Grant { is_revoke, privileges, on, roles, to_public: false })
        };
        let mut all = vec![execute(true, On::AllFunctions(vec![schema.clone()]))];
        all.extend((!others.is_empty()).then(|| execute(false, On::Functions(others))));
        Some(all)
    }

    /// Whether the finding contradicts what the contract requires of a routine.
    fn changes_declaration(&self) -> bool {
        self.is_missing() || self.finding.evidence["differs"]["property"] == "security"
    }

    fn of_schema(&self, schema: &Schema) -> Option<Vec<Declaration>> {
        if *self.finding.rule == undeclared_role_privileges::RULE {
            let role = self.finding.role().and_then(|name| self.cx.snapshot.role_named(name))?;
            return Some(held_in(self.cx, schema, role));
        }
        // A schema that the contract does not govern is declared first.
        let is_ungoverned = *self.finding.rule == ungoverned_schema_access::RULE;
        let privileges = if is_ungoverned { Privileges::USAGE } else { self.privileges() };
        (privileges == Privileges::USAGE)
            .then(|| self.grant(privileges, On::Schemas(vec![schema.name.clone()])))
    }

    fn of_role(&self, role: &str) -> Option<Vec<Declaration>> {
        let word = self.evidence("attribute").first().copied()?;
        let attribute = Attribute::ALL.into_iter().find(|known| known.as_str() == word)?;
        let actual = self.finding.evidence["actual"].as_bool()?;
        Some(vec![Declaration::Attributes(role.to_owned(), vec![(attribute, actual)])])
    }

    /// What is declared for a column that does not exist is declared no longer.
    fn of_missing_column(&self) -> Vec<Declaration> {
        let contract = self.cx.contract;
        let identity = &self.finding.object.identity;
        let column_of = |schema: &str, name: &str| {
            let relation = format!("{}.{}.", quote_ident(schema), quote_ident(name));
            identity.strip_prefix(&relation)
        };
        for table in &contract.tables {
            let Some(column) = column_of(&table.schema, &table.name) else { continue };
            let name = Name::new(&table.schema, &table.name);
            let mut declarations = revoked_column(&name, &table.column_grants, column);
            declarations.extend(self.rows_that_exist(&name, table));
            if !declarations.is_empty() {
                return declarations;
            }
        }
        let view = contract.views.iter().find_map(|view| {
            let column = column_of(&view.schema, &view.name)?;
            let name = Name::new(&view.schema, &view.name);
            Some(revoked_column(&name, &view.column_grants, column)).filter(|all| !all.is_empty())
        });
        view.unwrap_or_default()
    }

    /// Returns the declarations by which `keys` and `open_rows` of a table no longer name columns
    /// that do not exist.
    fn rows_that_exist(&self, name: &Name, table: &TableDecl) -> Vec<Declaration> {
        let snapshot = self.cx.snapshot;
        let schema = snapshot.schema_named(&table.schema);
        let relation = schema.and_then(|of| snapshot.relation_named(of.oid, &table.name));
        let Some(relation) = relation else { return vec![] };
        let exists = |column: &String| relation.column_names.contains(column);
        let mut declarations = Vec::new();
        if !table.keys.iter().all(exists) {
            let keys = table.keys.iter().filter(|column| exists(column)).cloned().collect();
            declarations.push(Declaration::Rows(name.clone(), Rows::Keys(keys)));
        }
        if !table.open_rows.values().flatten().all(exists) {
            let mut open_rows = table.open_rows.clone();
            open_rows.values_mut().for_each(|columns| columns.retain(exists));
            open_rows.retain(|_, columns| !columns.is_empty());
            declarations.push(Declaration::Rows(name.clone(), Rows::OpenRows(open_rows)));
        }
        declarations
    }

    /// What the contract declares and the catalog does not have is declared no longer.
    fn of_missing(&self) -> Option<Vec<Declaration>> {
        let contract = self.cx.contract;
        let identity = &self.finding.object.identity;
        if *self.finding.rule == role_missing::RULE {
            let role = contract
                .roles
                .iter()
                .find(|role| role.name == *identity || quote_ident(&role.name) == *identity)?;
            return Some(vec![Declaration::Drop(Target::Role(role.name.clone()))]);
        }
        if *self.finding.rule != required_object_missing::RULE {
            return None;
        }
        let columns = self.of_missing_column();
        if !columns.is_empty() {
            return Some(columns);
        }
        let is_this = |schema: &str, name: &str| safe_qualified(schema, name) == *identity;
        let of = |schema: &str, name: &str| Name::new(schema, name);
        let table = contract.tables.iter().find(|t| is_this(&t.schema, &t.name));
        let view = contract.views.iter().find(|v| is_this(&v.schema, &v.name));
        let sequence = contract.sequences.iter().find(|s| is_this(&s.schema, &s.name));
        let function = contract.functions.iter().find(|f| {
            let name = safe_qualified(&f.schema, &f.name);
            match identity.strip_prefix(&name).map(|rest| rest.trim_start_matches('(')) {
                Some(types) => f.arguments.as_deref().is_none_or(|declared| {
                    argument_types(declared) == argument_types(types.trim_end_matches(')'))
                }),
                None => false,
            }
        });
        let schema = contract.schemas.iter().find(|s| {
            self.finding.object.object_type == "schema" && quote_ident(&s.name) == *identity
        });
        let target = table
            .map(|t| Target::Table(of(&t.schema, &t.name)))
            .or_else(|| {
                view.map(|v| {
                    let name = of(&v.schema, &v.name);
                    if v.materialized { Target::MaterializedView(name) } else { Target::View(name) }
                })
            })
            .or_else(|| sequence.map(|s| Target::Sequence(of(&s.schema, &s.name))))
            .or_else(|| {
                function.map(|f| {
                    Target::Function(FunctionName {
                        name: of(&f.schema, &f.name),
                        arguments: f.arguments.clone(),
                    })
                })
            })
            .or_else(|| schema.map(|s| Target::Schema(s.name.clone())))?;
        Some(vec![Declaration::Drop(target)])
    }
}

/// Returns the declarations that revoke what is declared for a column, given quoted.
fn revoked_column(
    on: &Name,
    column_grants: &BTreeMap<String, ColumnGrants>,
    column: &str,
) -> Vec<Declaration> {
    let revoke = |(role, grants): (&String, &ColumnGrants)| {
        let privileges: Vec<Granted> = grants
            .each()
            .filter_map(|(one, columns)| {
                let declared = columns.iter().find(|declared| quote_ident(declared) == column)?;
                Some(Granted { privilege: Some(one), columns: vec![declared.clone()] })
            })
            .collect();
        (!privileges.is_empty()).then(|| {
            Declaration::Grant(Grant {
                is_revoke: true,
                privileges,
                on: On::Tables(vec![on.clone()]),
                roles: vec![role.clone()],
                to_public: false,
            })
        })
    };
    column_grants.iter().filter_map(revoke).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(is_revoke: bool, privilege: Privileges, columns: &[&str]) -> Declaration {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        Declaration::Grant(Grant {
            is_revoke,
            privileges: vec![Granted { privilege: Some(privilege), columns }],
            on: On::Tables(vec![Name::new("public", "t")]),
            roles: vec!["anon".into()],
            to_public: false,
        })
    }

    #[test]
    fn grant_on_columns_stays_after_the_revoke_on_the_table() {
        let (select, insert) = (Privileges::SELECT, Privileges::INSERT);
        let mut all = Vec::new();
        for one in [
            grant(false, Privileges::DELETE, &[]),
            grant(true, select, &[]),
            grant(false, select, &["id"]),
            grant(true, insert, &[]),
            grant(false, insert, &["id"]),
        ] {
            add(&mut all, one);
        }
        let statements: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(
            statements,
            [
                "GRANT DELETE ON TABLE public.t TO anon",
                "REVOKE SELECT, INSERT ON TABLE public.t FROM anon",
                "GRANT SELECT (id), INSERT (id) ON TABLE public.t TO anon",
            ]
        );
    }
}
