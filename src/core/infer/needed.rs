//! Declares EXECUTE on the routines that the inferred access calls.

use super::failing::Failing;
use super::roles::Roles;
use crate::access::Access;
use crate::catalog::{ObjectKind, Privileges, Role, Routine};
use crate::contract::{Contract, FunctionDecl, SchemaDecl};
use crate::doctor::Target;
use crate::rules::Context;
use crate::sql::{argument_types, listed};

/// The most users of a routine that its purpose names.
const MOST_NAMED: usize = 3;

/// Declares, for the roles that can call them now, the routines that policies, views, constraints
/// and defaults call in the access that `contract` declares so far. The privilege may be that of
/// PUBLIC, and the routine may have an unsafe path, which remains a finding: without EXECUTE the
/// declared access fails. Where a role has no USAGE on the schema, which a call by a policy or a
/// view does not need, EXECUTE is not declared: it is permitted as long as it is needed.
pub(super) fn declare(
    cx: &Context<'_>,
    roles: &Roles<'_>,
    failing: &Failing,
    contract: &mut Contract,
) {
    let needed = needed(cx, roles, failing, contract);
    if needed.is_empty() {
        return;
    }
    contract.forget_names();
    for (declaration, routine) in needed {
        let known = contract.functions.iter_mut().find(|f| {
            (&f.schema, &f.name) == (&declaration.schema, &declaration.name)
                && cx.has_arguments(routine, f.arguments.as_deref())
        });
        match known {
            Some(known) => {
                known.execute.extend(declaration.execute);
                known.execute.sort();
                if known.purpose.is_empty() {
                    known.purpose = declaration.purpose;
                }
            }
            None => contract.functions.push(declaration),
        }
    }
}

/// Returns the declarations to add, with their routines.
fn needed<'a>(
    cx: &Context<'a>,
    roles: &Roles<'_>,
    failing: &Failing,
    contract: &Contract,
) -> Vec<(FunctionDecl, &'a Routine)> {
    let access = Access::new(cx.snapshot);
    let under = Context::new(contract, cx.snapshot, &access, cx.interrupts);
    let mut found = Vec::new();
    for (routine, schema) in cx.routines() {
        let Some(declared) = contract.schema(&schema.name) else { continue };
        if under.needs().execute(routine.oid).is_empty()
            || cx.routine_object(routine).managed_by.is_some()
        {
            continue;
        }
        let execute: Vec<String> = roles
            .subjects()
            .filter(|role| failing.on(Target::Routine(routine.oid), role.oid).is_empty())
            .filter(|role| must_be_declared(&under, routine, declared, role))
            .map(|role| role.name.clone())
            .collect();
        if !execute.is_empty() {
            let types = cx.snapshot.argument_names(routine).join(",");
            let declaration = FunctionDecl {
                schema: schema.name.clone(),
                name: routine.name.clone(),
                purpose: purpose(&under, routine),
                arguments: Some(argument_types(&types).join(", ")),
                security_definer: Some(routine.security_definer),
                execute,
                all_rows: false,
            };
            found.push((declaration, routine));
        }
    }
    found
}

fn must_be_declared(
    under: &Context<'_>,
    routine: &Routine,
    schema: &SchemaDecl,
    role: &Role,
) -> bool {
    let acl = routine.acl.as_ref();
    under.why_execute(routine.oid, role.oid).is_some()
        && !under.declares_execute(routine, schema, role)
        && schema.usage.contains(&role.name)
        && under
            .access
            .privileges(role.oid, routine.owner, acl, ObjectKind::Routine)
            .contains(Privileges::EXECUTE)
}

/// Returns what calls a routine, as a sentence.
fn purpose(under: &Context<'_>, routine: &Routine) -> String {
    let users = under.users_of(routine.oid);
    let mut names: Vec<String> =
        users.iter().take(MOST_NAMED).map(|(user, _)| user.clone()).collect();
    if users.len() > MOST_NAMED {
        names.push(format!("{} others", users.len() - MOST_NAMED));
    }
    format!("Called by {}.", listed(&names))
}
