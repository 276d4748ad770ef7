//! The GRANT that fixes a missing privilege, where the contract allows it; otherwise how to declare
//! the privilege. The guard rejects an undeclared GRANT, the audit reports it, and a plan revokes
//! it.

use super::question::Link;
use crate::catalog::{Command, Privileges, Relation, RelationKind, Role, Routine, Schema};
use crate::contract::RoleKind;
use crate::declare::{self, Declaration, FunctionName, Granted, Name, Target, declare_call};
use crate::rules::{Context, Tool, undeclared_role_privileges};
use crate::sql::{argument_types, printable, safe_ident};

/// The object of a privilege.
#[derive(Clone, Copy)]
pub(super) enum On<'a> {
    Schema(&'a Schema),
    /// With the columns, where the privilege is on these only.
    Relation(&'a Relation, &'a [String]),
    Routine(&'a Routine),
}

/// A privilege that a role does not have.
#[derive(Clone, Copy)]
pub(super) struct Grant<'a> {
    pub role: &'a Role,
    pub privilege: Privileges,
    pub on: On<'a>,
}

impl Grant<'_> {
    /// Adds to the link of the missing privilege the GRANT that fixes it; where the contract does
    /// not allow that, the call that declares it.
    pub(super) fn fix(self, cx: &Context<'_>, mut link: Link) -> Link {
        match self.missing_declaration(cx) {
            None => link.fix = Some(self.sql(cx)),
            Some(how) if cx.tool == Tool::Extension => {
                link.detail += &format!(" The contract does not declare it: {how}.");
            }
            Some(_) => link.detail += " The contract does not declare it.",
        }
        link
    }

    fn sql(self, cx: &Context<'_>) -> String {
        let (privilege, role) = (self.privilege, safe_ident(&self.role.name));
        match self.on {
            On::Schema(schema) => {
                format!("GRANT {privilege} ON SCHEMA {} TO {role};", safe_ident(&schema.name))
            }
            On::Routine(routine) => {
                format!(
                    "GRANT {privilege} ON ROUTINE {} TO {role};",
                    cx.snapshot.routine_sql(routine)
                )
            }
            On::Relation(relation, columns) => {
                let is_sequence = relation.kind == RelationKind::Sequence;
                let keyword = if is_sequence { "SEQUENCE" } else { "TABLE" };
                let columns: Vec<_> = columns.iter().map(|column| safe_ident(column)).collect();
                let on_columns = match columns.as_slice() {
                    [] => String::new(),
                    columns => format!(" ({})", columns.join(", ")),
                };
                let sql = cx.snapshot.relation_sql(relation);
                format!("GRANT {privilege}{on_columns} ON {keyword} {sql} TO {role};")
            }
        }
    }

    /// Returns how to declare the privilege, as a clause; `None` where the role may have it.
    fn missing_declaration(self, cx: &Context<'_>) -> Option<String> {
        let role = self.role;
        let schema = match self.on {
            On::Schema(schema) => Some(schema),
            On::Relation(relation, _) => cx.snapshot.schema(relation.schema),
            On::Routine(routine) => cx.snapshot.schema(routine.schema),
        }?;
        let kind = cx.contract.kind_of(&role.name);
        let Some(declared) = cx.governed(schema.oid) else {
            // Elsewhere, only what makes a schema accessible to clients is reported.
            let is_reported = matches!(self.on, On::Schema(_))
                && kind == Some(RoleKind::Client)
                && cx.is_ungoverned(schema);
            return is_reported.then(|| self.declaration(cx, schema));
        };
        if kind == Some(RoleKind::Owner) || role.superuser {
            return None;
        }
        if undeclared_role_privileges::is_checked(cx, role.oid) {
            return Some(self.declaration(cx, schema));
        }
        let is_permitted = match self.on {
            On::Schema(_) => {
                self.privilege == Privileges::USAGE && declared.usage.contains(&role.name)
            }
            On::Routine(routine) => cx.permits_execute(routine, declared, role),
            On::Relation(relation, columns) => {
                let whole = cx.permitted_on_relation(relation, declared, role);
                let on_column = |column: &String| {
                    (cx.declared_on_column(relation, declared, role, column)
                        | cx.permitted_on_column(relation, column, role))
                    .contains(self.privilege)
                };
                let is_of_insert = relation.kind == RelationKind::Sequence
                    && self.privilege == Privileges::USAGE
                    && cx.declares_insert_by(relation, role);
                whole.contains(self.privilege)
                    || !columns.is_empty() && columns.iter().all(on_column)
                    || is_of_insert
            }
        };
        (!is_permitted).then(|| self.declaration(cx, schema))
    }

    /// Returns how to declare the privilege, as a clause.
    fn declaration(self, cx: &Context<'_>, schema: &Schema) -> String {
        let name = |name: &str| Name::new(&schema.name, name);
        let mut columns = vec![];
        let on = match self.on {
            On::Schema(_) if self.privilege == Privileges::USAGE => {
                declare::On::Schemas(vec![schema.name.clone()])
            }
            On::Schema(_) => return "no client or worker may create objects".to_owned(),
            On::Routine(routine) => {
                let types = cx.snapshot.argument_names(routine).join(",");
                let arguments = Some(argument_types(&types).join(", "));
                declare::On::Functions(vec![FunctionName { name: name(&routine.name), arguments }])
            }
            On::Relation(relation, _) if relation.kind == RelationKind::Sequence => {
                declare::On::Sequences(vec![name(&relation.name)])
            }
            On::Relation(relation, of) => {
                columns = of.to_vec();
                declare::On::Tables(vec![name(&relation.name)])
            }
        };
        let role = &self.role.name;
        let mut declarations = Vec::new();
        if cx.contract.role(role).is_none() {
            declarations.push(Declaration::Create(Target::Role(role.clone())));
        }
        if cx.contract.schema(&schema.name).is_none() {
            declarations.push(Declaration::Create(Target::Schema(schema.name.clone())));
        }
        declarations.push(Declaration::Grant(declare::Grant {
            is_revoke: false,
            privileges: vec![Granted { privilege: Some(self.privilege), columns }],
            on,
            roles: vec![role.clone()],
            to_public: false,
        }));
        let call = declare_call(&declarations);
        format!("run {}", printable(call.trim_end_matches(';')))
    }
}

/// Whether the contract allows a role to access rows of a table, so that a policy may admit it.
pub(super) fn may_access_rows(
    cx: &Context<'_>,
    role: &Role,
    table: &Relation,
    command: Command,
) -> bool {
    let privilege = command.privilege();
    let grant = Grant { role, privilege, on: On::Relation(table, &[]) };
    grant.missing_declaration(cx).is_none()
        || cx.governed(table.schema).is_some_and(|schema| {
            cx.permitted_on_some_column(table, schema, role).contains(privilege)
        })
}
