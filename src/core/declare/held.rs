//! Declarations of objects as they are, and of what has been granted to a role in a schema.

use super::{Declaration, FunctionName, Grant, Granted, Name, On, RowSecurity, Target};
use crate::catalog::{Acl, Privileges, Relation, RelationKind, Role, Routine, Schema};
use crate::rules::Context;
use crate::sql::argument_types;

/// Returns the declarations of what has been granted to a role in a governed schema: the objects
/// that are not declared, and the grants. CREATE, which no contract declares, is not among them.
pub(super) fn held_in(cx: &Context<'_>, schema: &Schema, role: &Role) -> Vec<Declaration> {
    let mut all = Vec::new();
    let of = |acl: Option<&Acl>| {
        let items = acl.into_iter().flatten().filter(|item| item.grantee == role.oid);
        items.fold(Privileges::NONE, |all, item| all | item.privileges)
    };
    let grant = |privileges: Privileges, column: Option<&str>, on: On| {
        let columns: Vec<String> = column.map(str::to_owned).into_iter().collect();
        let granted = |one| Granted { privilege: Some(one), columns: columns.clone() };
        let granted: Vec<Granted> = privileges.each().into_iter().map(granted).collect();
        (!granted.is_empty()).then(|| {
            Declaration::Grant(Grant {
                is_revoke: false,
                privileges: granted,
                on,
                roles: vec![role.name.clone()],
                to_public: false,
            })
        })
    };
    let usage = of(schema.acl.as_ref()) & Privileges::USAGE;
    all.extend(grant(usage, None, On::Schemas(vec![schema.name.clone()])));
    for relation in cx.snapshot.relations.iter().filter(|r| r.schema == schema.oid) {
        cx.check_interrupts();
        let name = Name::new(&schema.name, &relation.name);
        let on = || match relation.kind {
            RelationKind::Sequence => On::Sequences(vec![name.clone()]),
            _ => On::Tables(vec![name.clone()]),
        };
        let columns = relation.columns.iter();
        let on_columns = columns.map(|(column, acl)| grant(of(Some(acl)), Some(column), on()));
        let grants = std::iter::once(grant(of(relation.acl.as_ref()), None, on()))
            .chain(on_columns)
            .flatten();
        let grants: Vec<Declaration> = grants.collect();
        if !grants.is_empty() && !cx.contract.declares_relation(&name.schema, &name.name) {
            all.extend(as_it_is(relation, &name));
        }
        all.extend(grants);
    }
    for routine in cx.snapshot.routines.iter().filter(|r| r.schema == schema.oid) {
        cx.check_interrupts();
        let execute = of(routine.acl.as_ref());
        let Some(function) = function_name(cx, routine) else { continue };
        let grant = grant(execute, None, On::Functions(vec![function.clone()]));
        let create = grant.is_some().then(|| Declaration::CreateFunction {
            function,
            security_definer: Some(true).filter(|_| routine.security_definer),
        });
        all.extend(create.into_iter().chain(grant));
    }
    all
}

/// The declarations of a relation with the properties that it has.
pub(super) fn as_it_is(relation: &Relation, name: &Name) -> Vec<Declaration> {
    match relation.kind {
        RelationKind::View | RelationKind::MaterializedView => vec![Declaration::CreateView {
            name: name.clone(),
            is_materialized: relation.kind == RelationKind::MaterializedView,
            security_invoker: relation.security_invoker,
            definition: None,
        }],
        RelationKind::Sequence => vec![Declaration::Create(Target::Sequence(name.clone()))],
        _ => {
            let mut declared = vec![Declaration::Create(Target::Table(name.clone()))];
            if relation.row_security {
                declared.push(Declaration::RowSecurity(name.clone(), RowSecurity::Enable));
                // Without row security, it has no effect.
                if relation.force_row_security {
                    declared.push(Declaration::RowSecurity(name.clone(), RowSecurity::Force));
                }
            }
            declared
        }
    }
}

/// Returns the name of a routine with the types of its arguments.
pub(super) fn function_name(cx: &Context<'_>, routine: &Routine) -> Option<FunctionName> {
    let schema = cx.snapshot.schema(routine.schema)?;
    let identity = cx.snapshot.routine_identity(routine);
    let types = identity.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'))?;
    let arguments = Some(argument_types(types).join(", "));
    Some(FunctionName { name: Name::new(&schema.name, &routine.name), arguments })
}
