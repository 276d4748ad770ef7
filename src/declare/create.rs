//! CREATE of roles, schemas, relations, functions and policies.

use super::names::{created_function, grantees, query_of_view, relation};
use super::reason::{clause, not_expressible, without};
use super::tree::Tree;
use crate::pg::text::to_server;
use dragonfly_core::catalog::{Attribute, Command};
use dragonfly_core::declare::{Declaration, Name, PolicyHeader, Target, Unfit, sequence_of_column};
use dragonfly_core::sql::printable;
use pgrx::pg_sys::{self, ConstrType};
use std::ffi::CString;

/// The prefix of the settings that are fields of the contract.
pub const PREFIX: &str = "contract.";

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
                return Err(Unfit::inexpressible(
                    "a contract does not declare passwords, limits or members of roles",
                    "Omit the option, and set it in a statement of its own.",
                ));
            }
        };
        if found.iter().any(|(known, _)| *known == attribute) {
            return Err(Unfit::new(
                format!("attribute {} is specified more than once", attribute.as_str()),
                "Specify it once.",
            ));
        }
        found.push((attribute, is_on(option)?));
    }
    Ok(found)
}

/// Whether an option is set: it has no value, or one that the server reads as true.
pub fn is_on(option: Tree<pg_sys::DefElem>) -> Result<bool, Unfit> {
    let Some(argument) = option.below(|option| option.arg) else { return Ok(true) };
    let text = argument.value().unwrap_or_default();
    let mut is_on = false;
    let value = CString::new(to_server(&text)).unwrap_or_default();
    // SAFETY: a C string, and a place for the result.
    if unsafe { pg_sys::parse_bool(value.as_ptr(), &raw mut is_on) } {
        return Ok(is_on);
    }
    let name = option.text(|option| option.defname).unwrap_or_default();
    Err(Unfit::new(
        format!("invalid value for option \"{}\": \"{}\"", printable(&name), printable(&text)),
        "Use true or false.",
    ))
}

/// CREATE SCHEMA.
pub fn schema(statement: Tree<pg_sys::CreateSchemaStmt>) -> Result<Vec<Declaration>, Unfit> {
    without(!statement.authrole.is_null(), "AUTHORIZATION")?;
    if !statement.list(|statement| statement.schemaElts).is_empty() {
        return Err(Unfit::inexpressible(
            "CREATE SCHEMA with objects in it does not amend a contract",
            "Create the objects in statements of their own.",
        ));
    }
    match statement.text(|statement| statement.schemaname) {
        Some(name) => Ok(vec![Declaration::Create(Target::Schema(name))]),
        None => Err(Unfit::new("the schema has no name", "Write CREATE SCHEMA name ...;")),
    }
}

/// CREATE TABLE. Columns, parents and storage are not declared; the sequences of columns are known
/// to later statements.
pub fn table(statement: Tree<pg_sys::CreateStmt>) -> Result<Vec<Declaration>, Unfit> {
    let Some(named) = statement.below(|statement| statement.relation) else { return Ok(vec![]) };
    let options = statement.list(|statement| statement.options).into_iter();
    for option in options.filter_map(Tree::cast::<pg_sys::DefElem>) {
        if option.text(|option| option.defnamespace).as_deref() == Some("contract") {
            return Err(Unfit::new(
                "an option of the contract is set in CREATE TABLE",
                "Set it in a statement of its own: ALTER TABLE ... SET (contract.all_rows = \
                 declared).",
            ));
        }
    }
    let table = relation(named)?;
    let columns = statement.list(|statement| statement.tableElts).into_iter();
    let columns = columns.filter_map(Tree::cast::<pg_sys::ColumnDef>).filter(has_sequence);
    let sequence = |column: Tree<pg_sys::ColumnDef>| {
        let column = column.text(|column| column.colname)?;
        let name = sequence_of_column(&table.name, &column);
        Some(Declaration::SequenceOfColumn(Name::new(&table.schema, name)))
    };
    let sequences: Vec<Declaration> = columns.filter_map(sequence).collect();
    let mut declared = vec![Declaration::Create(Target::Table(table))];
    declared.extend(sequences);
    Ok(declared)
}

/// Whether the server creates a sequence for a column: it is an identity column, or has one of the
/// names in place of a type that the server reads so (`transformColumnDefinition`).
fn has_sequence(column: &Tree<pg_sys::ColumnDef>) -> bool {
    const SERIAL: [&str; 6] =
        ["smallserial", "serial2", "serial", "serial4", "bigserial", "serial8"];
    let constraints = column.list(|column| column.constraints).into_iter();
    let is_identity = |one: Tree<pg_sys::Constraint>| one.contype == ConstrType::CONSTR_IDENTITY;
    constraints.filter_map(Tree::cast::<pg_sys::Constraint>).any(is_identity)
        || column.below(|column| column.typeName).is_some_and(|written| {
            let names = written.list(|written| written.names);
            let name = names.first().and_then(|name| name.value());
            names.len() == 1 && name.is_some_and(|name| SERIAL.contains(&name.as_str()))
        })
}

/// CREATE MATERIALIZED VIEW.
pub fn table_as(
    text: &str,
    statement: Tree<pg_sys::CreateTableAsStmt>,
) -> Result<Vec<Declaration>, Unfit> {
    if statement.objtype != pg_sys::ObjectType::OBJECT_MATVIEW {
        return Err(Unfit::inexpressible(
            "CREATE TABLE AS does not amend a contract",
            "A contract does not declare the query of a table. Write CREATE TABLE with columns, or \
             with none, and execute the statement by itself.",
        ));
    }
    without(statement.if_not_exists, "IF NOT EXISTS of a view")?;
    let Some(into) = statement.below(|statement| statement.into) else { return Ok(vec![]) };
    let Some(named) = into.below(|into| into.rel) else { return Ok(vec![]) };
    without(into.skipData, "WITH NO DATA")?;
    without(!into.colNames.is_null(), "the list of columns of a view")?;
    without(!into.options.is_null(), "the options of a materialized view")?;
    without(!into.accessMethod.is_null(), "USING of a materialized view")?;
    without(!into.tableSpaceName.is_null(), "TABLESPACE of a materialized view")?;
    without(named.relpersistence as u8 == b'u', "UNLOGGED of a materialized view")?;
    Ok(vec![Declaration::CreateView {
        name: relation(named)?,
        is_materialized: true,
        security_invoker: false,
        definition: query_of_view(text, statement.below(|statement| statement.query))?,
    }])
}

/// CREATE VIEW.
pub fn view(text: &str, statement: Tree<pg_sys::ViewStmt>) -> Result<Vec<Declaration>, Unfit> {
    let Some(named) = statement.below(|statement| statement.view) else { return Ok(vec![]) };
    let has_check = statement.withCheckOption != pg_sys::ViewCheckOption::NO_CHECK_OPTION;
    without(has_check, "WITH CHECK OPTION")?;
    without(!statement.aliases.is_null(), "the list of columns of a view")?;
    let options = statement.list(|statement| statement.options);
    without(options.len() > 1, "more than one option of a view")?;
    let mut security_invoker = false;
    for option in options.into_iter().filter_map(Tree::cast::<pg_sys::DefElem>) {
        let name = option.text(|option| option.defname).unwrap_or_default();
        if !option.defnamespace.is_null() || name != "security_invoker" {
            return Err(clause(&format!("option \"{}\" of a view", printable(&name))));
        }
        security_invoker = is_on(option)?;
    }
    Ok(vec![Declaration::CreateView {
        name: relation(named)?,
        is_materialized: false,
        security_invoker,
        definition: query_of_view(text, statement.below(|statement| statement.query))?,
    }])
}

/// CREATE SEQUENCE.
pub fn sequence(statement: Tree<pg_sys::CreateSeqStmt>) -> Result<Vec<Declaration>, Unfit> {
    let Some(named) = statement.below(|statement| statement.sequence) else { return Ok(vec![]) };
    Ok(vec![Declaration::Create(Target::Sequence(relation(named)?))])
}

/// CREATE FUNCTION and PROCEDURE. Results, bodies and settings are not declared.
pub fn function(statement: Tree<pg_sys::CreateFunctionStmt>) -> Result<Vec<Declaration>, Unfit> {
    Ok(vec![Declaration::CreateFunction {
        function: created_function(statement)?,
        security_definer: security(&statement.list(|statement| statement.options))?,
    }])
}

/// Returns whether the options of a function contain SECURITY DEFINER (true) or INVOKER (false).
pub fn security(options: &[Tree]) -> Result<Option<bool>, Unfit> {
    let mut found = None;
    for option in options.iter().copied().filter_map(Tree::cast::<pg_sys::DefElem>) {
        let setting = option.below(|option| option.arg);
        let setting = setting.and_then(Tree::cast::<pg_sys::VariableSetStmt>);
        let setting = setting.and_then(|setting| setting.text(|setting| setting.name));
        without(
            setting.is_some_and(|name| name.starts_with(PREFIX)),
            "a field of the contract in the options of a function",
        )?;
        if option.text(|option| option.defname).as_deref() != Some("security") {
            continue;
        }
        if found.is_some() {
            return Err(Unfit::new(
                "SECURITY is specified more than once",
                "Specify SECURITY DEFINER or SECURITY INVOKER.",
            ));
        }
        found = Some(is_on(option)?);
    }
    Ok(found)
}

/// CREATE POLICY.
pub fn policy(statement: Tree<pg_sys::CreatePolicyStmt>) -> Result<Vec<Declaration>, Unfit> {
    let Some(table) = statement.below(|statement| statement.table) else { return Ok(vec![]) };
    let table = relation(table)?;
    if !statement.permissive {
        return Err(Unfit::inexpressible(
            "a contract does not declare restrictive policies",
            "Execute the statement by itself.",
        ));
    }
    let (roles, to_public) = grantees(&statement.list(|statement| statement.roles))?;
    if to_public {
        return Err(Unfit::inexpressible(
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
    let has_using = !statement.qual.is_null();
    let has_check = !statement.with_check.is_null();
    let wrong = match command.as_str() {
        "select" | "delete" if has_check => Some("WITH CHECK"),
        "insert" if has_using => Some("USING"),
        _ => None,
    };
    if let Some(wrong) = wrong {
        return Err(Unfit::new(
            format!("{wrong} does not apply to {}", command.to_uppercase()),
            "Use USING for the rows that exist, and WITH CHECK for new ones.",
        ));
    }
    let is_true = |condition: Option<Tree>| condition.is_some_and(is_constant_true);
    let reads_all = is_true(statement.below(|statement| statement.qual));
    let writes_all = is_true(statement.below(|statement| statement.with_check));
    // USING decides which rows can be updated. A policy that checks no new row is not one for all
    // rows: the contract would allow another policy to open them.
    let is_open = |command: &Command| match command {
        Command::Select | Command::Update | Command::Delete => reads_all,
        Command::Insert => reads_all || writes_all,
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
