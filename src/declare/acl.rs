//! GRANT and REVOKE.

use super::names::{function, grantees, qualified_relation, roles};
use super::reason::{not_expressible, without, without_cascade};
use super::tree::Tree;
use dragonfly_core::catalog::Privileges;
use dragonfly_core::declare::{Declaration, Grant, Granted, Name, On, Unfit};
use pgrx::pg_sys;

/// GRANT and REVOKE on objects.
pub fn grant(statement: Tree<pg_sys::GrantStmt>) -> Result<Vec<Declaration>, Unfit> {
    if statement.grant_option {
        return Err(Unfit::inexpressible(
            "a contract does not declare grant options",
            "Omit WITH GRANT OPTION, or GRANT OPTION FOR.",
        ));
    }
    without(!statement.grantor.is_null(), "GRANTED BY")?;
    without_cascade(statement.behavior)?;
    let (roles, to_public) = grantees(&statement.list(|statement| statement.grantees))?;
    let listed = statement.list(|statement| statement.privileges);
    let mut privileges = listed.into_iter().map(granted).collect::<Result<Vec<_>, _>>()?;
    if privileges.is_empty() {
        privileges.push(Granted { privilege: None, columns: vec![] });
    }
    Ok(vec![Declaration::Grant(Grant {
        is_revoke: !statement.is_grant,
        privileges,
        on: objects(statement)?,
        roles,
        to_public,
    })])
}

fn granted(privilege: Tree) -> Result<Granted, Unfit> {
    let Some(privilege) = privilege.cast::<pg_sys::AccessPriv>() else {
        return Err(not_expressible("this privilege"));
    };
    let columns = privilege.list(|privilege| privilege.cols);
    let columns = columns.into_iter().filter_map(Tree::value).collect();
    match privilege.text(|privilege| privilege.priv_name) {
        None => Ok(Granted { privilege: None, columns }),
        Some(name) => match name.parse::<Privileges>() {
            Ok(known) => Ok(Granted { privilege: Some(known), columns }),
            Err(_) => Err(Unfit::new(
                format!("unrecognized privilege type \"{name}\""),
                "Use the privileges of GRANT, such as SELECT, USAGE or EXECUTE.",
            )),
        },
    }
}

fn objects(statement: Tree<pg_sys::GrantStmt>) -> Result<On, Unfit> {
    use pg_sys::GrantTargetType::{ACL_TARGET_ALL_IN_SCHEMA, ACL_TARGET_OBJECT};
    use pg_sys::ObjectType::{
        OBJECT_FUNCTION, OBJECT_PROCEDURE, OBJECT_ROUTINE, OBJECT_SCHEMA, OBJECT_SEQUENCE,
        OBJECT_TABLE,
    };
    let objects = statement.list(|statement| statement.objects);
    let names = || objects.iter().copied().filter_map(Tree::value).collect::<Vec<_>>();
    let relations = || -> Result<Vec<Name>, Unfit> {
        objects.iter().map(|name| qualified_relation(*name)).collect()
    };
    let (is_object, is_schema) =
        (statement.targtype == ACL_TARGET_OBJECT, statement.targtype == ACL_TARGET_ALL_IN_SCHEMA);
    match statement.objtype {
        OBJECT_TABLE if is_object => relations().map(On::Tables),
        OBJECT_TABLE if is_schema => Ok(On::AllTables(names())),
        OBJECT_SEQUENCE if is_object => relations().map(On::Sequences),
        OBJECT_SEQUENCE if is_schema => Ok(On::AllSequences(names())),
        OBJECT_FUNCTION | OBJECT_PROCEDURE | OBJECT_ROUTINE if is_object => {
            let functions = objects.iter().filter_map(|object| object.cast());
            functions.map(function).collect::<Result<_, _>>().map(On::Functions)
        }
        OBJECT_ROUTINE if is_schema => Ok(On::AllFunctions(names())),
        OBJECT_FUNCTION | OBJECT_PROCEDURE if is_schema => Err(Unfit::inexpressible(
            "a contract does not tell functions from procedures",
            "Write ALL ROUTINES IN SCHEMA, which means both.",
        )),
        OBJECT_SCHEMA if is_object => Ok(On::Schemas(names())),
        _ if is_object => Err(not_expressible("GRANT on other objects")),
        _ => Err(not_expressible("ALTER DEFAULT PRIVILEGES")),
    }
}

/// GRANT and REVOKE of roles.
pub fn memberships(statement: Tree<pg_sys::GrantRoleStmt>) -> Result<Vec<Declaration>, Unfit> {
    without(has_options(statement), "an option of a membership")?;
    without(!statement.grantor.is_null(), "GRANTED BY")?;
    without_cascade(statement.behavior)?;
    let members = roles(&statement.list(|statement| statement.grantee_roles))?;
    let named = statement.list(|statement| statement.granted_roles).into_iter();
    let named: Vec<_> = named.filter_map(Tree::cast::<pg_sys::AccessPriv>).collect();
    if named.iter().any(|role| !role.cols.is_null()) {
        return Err(Unfit::new(
            "columns are named in GRANT or REVOKE of a role",
            "Name the privileges and the table: GRANT SELECT (a) ON app.t TO ...",
        ));
    }
    let granted: Vec<String> =
        named.into_iter().filter_map(|role| role.text(|role| role.priv_name)).collect();
    let pairs = granted.iter().flat_map(|role| members.iter().map(move |member| (role, member)));
    let membership = |(role, member): (&String, &String)| Declaration::Membership {
        role: role.clone(),
        member: member.clone(),
        is_revoke: !statement.is_grant,
    };
    Ok(pairs.map(membership).collect())
}

/// Whether a statement about a membership has ADMIN, INHERIT or SET.
#[cfg(feature = "pg15")]
fn has_options(statement: Tree<pg_sys::GrantRoleStmt>) -> bool {
    statement.admin_opt
}

/// Whether a statement about a membership has ADMIN, INHERIT or SET.
#[cfg(not(feature = "pg15"))]
fn has_options(statement: Tree<pg_sys::GrantRoleStmt>) -> bool {
    !statement.opt.is_null()
}
