//! CREATE of roles, schemas, relations, functions and policies.

use super::names::{created_function, grantees, query_of_view, relation};
use super::reason::not_expressible;
use super::tree::Tree;
use dragonfly_core::catalog::{Attribute, Command};
use dragonfly_core::declare::{Declaration, PolicyHeader, Target, Unfit};
use pgrx::pg_sys;

/// CREATE ROLE, USER or GROUP.
pub fn role(statement: Tree<pg_sys::CreateRoleStmt>) -> Result<Vec<Declaration>, Unfit> {
    let name = statement.text(|statement| statement.role).unwrap_or_default();
    let attributes = attributes(&statement.list(|statement| statement.options))?;
    let mut declared = vec![Declaration::Create(Target::Role(name.clone()))];
    if !attributes.is_empty() {
        declared.push(Declaration::Attributes(name, attributes));
    }
    Ok(declared)
}

/// Returns the attributes that a contract declares. LOGIN and INHERIT are none of them.
pub fn attributes(options: &[Tree]) -> Result<Vec<(Attribute, bool)>, Unfit> {
    let mut found = Vec::new();
    for option in options.iter().copied().filter_map(Tree::cast::<pg_sys::DefElem>) {
        let name = option.text(|option| option.defname).unwrap_or_default();
        let attribute = match name.as_str() {
            "superuser" => Attribute::Superuser,
            "bypassrls" => Attribute::BypassRls,
            "createrole" => Attribute::CreateRole,
            "createdb" => Attribute::CreateDb,
            "isreplication" => Attribute::Replication,
            "canlogin" | "inherit" => continue,
            _ => {
                return Err(Unfit::new(
                    "a contract does not declare passwords, limits or members of roles",
                    "Omit the option, and set it in a statement of its own.",
                ));
            }
        };
        found.push((attribute, is_on(option)));
    }
    Ok(found)
}

/// Whether an option is set: it has no value, or a true one.
pub fn is_on(option: Tree<pg_sys::DefElem>) -> bool {
    let value = option.below(|option| option.arg).and_then(Tree::value);
    value.is_none_or(|value| {
        matches!(value.to_ascii_lowercase().as_str(), "true" | "on" | "yes" | "1" | "t" | "y")
    })
}

/// CREATE SCHEMA.
pub fn schema(statement: Tree<pg_sys::CreateSchemaStmt>) -> Result<Vec<Declaration>, Unfit> {
    if !statement.list(|statement| statement.schemaElts).is_empty() {
        return Err(Unfit::new(
            "CREATE SCHEMA with objects in it does not amend a contract",
            "Create the objects in statements of their own.",
        ));
    }
    match statement.text(|statement| statement.schemaname) {
        Some(name) => Ok(vec![Declaration::Create(Target::Schema(name))]),
        None => Err(Unfit::new("the schema has no name", "Write CREATE SCHEMA name ...;")),
    }
}

/// CREATE TABLE.
pub fn table(statement: Tree<pg_sys::CreateStmt>) -> Result<Vec<Declaration>, Unfit> {
    let Some(named) = statement.below(|statement| statement.relation) else { return Ok(vec![]) };
    Ok(vec![Declaration::Create(Target::Table(relation(named)?))])
}

/// CREATE TABLE AS and CREATE MATERIALIZED VIEW.
pub fn table_as(
    text: &str,
    statement: Tree<pg_sys::CreateTableAsStmt>,
) -> Result<Vec<Declaration>, Unfit> {
    let into = statement.below(|statement| statement.into);
    let Some(named) = into.and_then(|into| into.below(|into| into.rel)) else { return Ok(vec![]) };
    let name = relation(named)?;
    if statement.objtype != pg_sys::ObjectType::OBJECT_MATVIEW {
        return Ok(vec![Declaration::Create(Target::Table(name))]);
    }
    Ok(vec![Declaration::CreateView {
        name,
        is_materialized: true,
        security_invoker: false,
        definition: query_of_view(text),
    }])
}

/// CREATE VIEW.
pub fn view(text: &str, statement: Tree<pg_sys::ViewStmt>) -> Result<Vec<Declaration>, Unfit> {
    let Some(named) = statement.below(|statement| statement.view) else { return Ok(vec![]) };
    let security_invoker = statement
        .list(|statement| statement.options)
        .into_iter()
        .filter_map(Tree::cast::<pg_sys::DefElem>)
        .any(|option| {
            let name = option.text(|option| option.defname);
            name.as_deref() == Some("security_invoker") && is_on(option)
        });
    Ok(vec![Declaration::CreateView {
        name: relation(named)?,
        is_materialized: false,
        security_invoker,
        definition: query_of_view(text),
    }])
}

/// CREATE SEQUENCE.
pub fn sequence(statement: Tree<pg_sys::CreateSeqStmt>) -> Result<Vec<Declaration>, Unfit> {
    let Some(named) = statement.below(|statement| statement.sequence) else { return Ok(vec![]) };
    Ok(vec![Declaration::Create(Target::Sequence(relation(named)?))])
}

/// CREATE FUNCTION and PROCEDURE.
pub fn function(statement: Tree<pg_sys::CreateFunctionStmt>) -> Result<Vec<Declaration>, Unfit> {
    Ok(vec![Declaration::CreateFunction {
        function: created_function(statement)?,
        security_definer: security(&statement.list(|statement| statement.options)),
    }])
}

/// Returns whether the options of a function contain SECURITY DEFINER (true) or INVOKER (false).
pub fn security(options: &[Tree]) -> Option<bool> {
    options
        .iter()
        .copied()
        .filter_map(Tree::cast::<pg_sys::DefElem>)
        .find(|option| option.text(|option| option.defname).as_deref() == Some("security"))
        .map(is_on)
}

/// CREATE POLICY.
pub fn policy(statement: Tree<pg_sys::CreatePolicyStmt>) -> Result<Vec<Declaration>, Unfit> {
    let Some(table) = statement.below(|statement| statement.table) else { return Ok(vec![]) };
    let table = relation(table)?;
    if !statement.permissive {
        return Ok(vec![Declaration::Nothing]);
    }
    let (roles, to_public) = grantees(&statement.list(|statement| statement.roles))?;
    if to_public {
        return Err(Unfit::new(
            "a contract declares policies for roles",
            "Add TO with the names of the roles: a policy without TO applies to PUBLIC.",
        ));
    }
    let command = statement.text(|statement| statement.cmd_name).unwrap_or_default();
    let commands = match command.as_str() {
        "all" => Command::ALL.to_vec(),
        "select" => vec![Command::Select],
        "insert" => vec![Command::Insert],
        "update" => vec![Command::Update],
        "delete" => vec![Command::Delete],
        _ => return Err(not_expressible("CREATE POLICY")),
    };
    let is_true = |condition: Option<Tree>| condition.is_some_and(is_constant_true);
    let reads_all = is_true(statement.below(|statement| statement.qual));
    let writes_all = is_true(statement.below(|statement| statement.with_check));
    let is_open = |command: &Command| match command {
        Command::Select | Command::Delete => reads_all,
        Command::Insert | Command::Update => reads_all || writes_all,
    };
    Ok(vec![Declaration::CreatePolicy(PolicyHeader {
        name: statement.text(|statement| statement.policy_name).unwrap_or_default(),
        table,
        all_rows: commands.iter().copied().filter(is_open).collect(),
        commands,
        roles,
    })])
}

/// Whether an expression is the constant true.
fn is_constant_true(expression: Tree) -> bool {
    let constant = expression
        .cast::<pg_sys::TypeCast>()
        .and_then(|cast| cast.below(|cast| cast.arg))
        .unwrap_or(expression);
    constant.value().is_some_and(|value| matches!(value.as_str(), "true" | "t"))
}
