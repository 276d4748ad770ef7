//! ALTER, DROP, COMMENT and SET.

use super::create::{PREFIX, attributes, is_on, security};
use super::names::{function, qualified, relation, role, roles};
use super::reason::{not_expressible, tag, without, without_cascade};
use super::tree::Tree;
use dragonfly_core::contract::RoleKind;
use dragonfly_core::declare::{
    Cause, Declaration, Name, Renamed, RowSecurity, Rows, Target, Unfit,
};
use dragonfly_core::sql::printable;
use pgrx::pg_sys;
use pgrx::pg_sys::{AlterTableType, ObjectType, VariableSetKind};

/// ALTER ROLE with attributes.
pub fn alter_role(statement: Tree<pg_sys::AlterRoleStmt>) -> Result<Vec<Declaration>, Unfit> {
    let name = role(statement.below(|statement| statement.role))?;
    let options = statement.list(|statement| statement.options);
    let attributes = attributes(&options)?;
    // CREATE ROLE says what else the role is; here, nothing else would be said.
    without(attributes.len() < options.len(), "LOGIN or INHERIT of a role")?;
    Ok(vec![Declaration::Attributes(name, attributes)])
}

/// `ALTER ROLE ... SET contract.kind = ...`.
pub fn alter_role_set(
    statement: Tree<pg_sys::AlterRoleSetStmt>,
) -> Result<Vec<Declaration>, Unfit> {
    let setting = statement.below(|statement| statement.setstmt);
    let name = setting.and_then(|setting| setting.text(|setting| setting.name));
    let (Some(setting), Some("contract.kind")) = (setting, name.as_deref()) else {
        return Err(not_expressible("ALTER ROLE ... SET"));
    };
    without(!statement.database.is_null(), "IN DATABASE")?;
    let name = role(statement.below(|statement| statement.role))?;
    let values = values(setting)?;
    without(values.is_empty(), "RESET of contract.kind")?;
    let value = values.join(", ");
    let kinds = [RoleKind::Client, RoleKind::Worker, RoleKind::Owner, RoleKind::Login];
    let Some(kind) = kinds.into_iter().find(|kind| kind.as_str() == value) else {
        let message = format!("unrecognized kind of role: \"{}\"", printable(&value));
        let names = kinds.map(RoleKind::as_str);
        let hint = "Use client, worker, owner or login.";
        return Err(Unfit {
            cause: Cause::Invalid,
            ..Unfit::unknown(message, hint, &value, names)
        });
    };
    Ok(vec![Declaration::Kind(name, kind)])
}

/// Returns the values after SET; none for RESET and SET TO DEFAULT.
fn values(setting: Tree<pg_sys::VariableSetStmt>) -> Result<Vec<String>, Unfit> {
    without(setting.is_local, "SET LOCAL")?;
    match setting.kind {
        VariableSetKind::VAR_SET_VALUE => {}
        VariableSetKind::VAR_RESET | VariableSetKind::VAR_SET_DEFAULT => return Ok(vec![]),
        VariableSetKind::VAR_SET_CURRENT => without(true, "FROM CURRENT")?,
        _ => return Err(not_expressible("this form of SET")),
    }
    let listed = setting.list(|setting| setting.args);
    let value = |argument: Tree| argument.value().ok_or_else(|| not_expressible("such a value"));
    listed.into_iter().map(value).collect()
}

/// ALTER TABLE ... ROW LEVEL SECURITY, and the options of tables and views.
pub fn alter_table(statement: Tree<pg_sys::AlterTableStmt>) -> Result<Vec<Declaration>, Unfit> {
    let Some(named) = statement.below(|statement| statement.relation) else { return Ok(vec![]) };
    without(statement.missing_ok, "IF EXISTS of ALTER")?;
    if !matches!(statement.objtype, ObjectType::OBJECT_TABLE | ObjectType::OBJECT_VIEW) {
        return Err(not_expressible(&tag(statement.untyped())));
    }
    let name = relation(named)?;
    let commands = statement.list(|statement| statement.cmds).into_iter();
    let commands = commands.filter_map(Tree::cast::<pg_sys::AlterTableCmd>);
    let mut declared = Vec::new();
    for command in commands {
        let row_security = |change| Declaration::RowSecurity(name.clone(), change);
        match command.subtype {
            AlterTableType::AT_EnableRowSecurity => {
                declared.push(row_security(RowSecurity::Enable));
            }
            AlterTableType::AT_DisableRowSecurity => {
                declared.push(row_security(RowSecurity::Disable));
            }
            AlterTableType::AT_ForceRowSecurity => declared.push(row_security(RowSecurity::Force)),
            AlterTableType::AT_NoForceRowSecurity => {
                declared.push(row_security(RowSecurity::NoForce));
            }
            AlterTableType::AT_SetRelOptions => declared.extend(options(&name, command, true)?),
            AlterTableType::AT_ResetRelOptions => declared.extend(options(&name, command, false)?),
            _ => {
                return Err(Unfit::inexpressible(
                    "this action of ALTER TABLE does not amend a contract",
                    "Use ENABLE, DISABLE, FORCE or NO FORCE ROW LEVEL SECURITY, and execute other \
                     actions by themselves.",
                ));
            }
        }
    }
    let of_contract = |one: &Declaration| {
        use Declaration::{AllRows, AllRowsOf, Rows};
        matches!(one, AllRows(..) | AllRowsOf(..) | Rows(..))
    };
    if declared.iter().any(of_contract) && !declared.iter().all(of_contract) {
        return Err(Unfit::new(
            "options of the contract are set with other actions",
            "Use a statement of its own: the others may be executed, and this one is not.",
        ));
    }
    Ok(declared)
}

fn options(
    name: &Name,
    command: Tree<pg_sys::AlterTableCmd>,
    is_set: bool,
) -> Result<Vec<Declaration>, Unfit> {
    let options = command.below(|command| command.def).map(Tree::elements).unwrap_or_default();
    let options = options.into_iter().filter_map(Tree::cast::<pg_sys::DefElem>);
    let declaration = |option: Tree<pg_sys::DefElem>| {
        let namespace = option.text(|option| option.defnamespace);
        let option_name = option.text(|option| option.defname).unwrap_or_default();
        match (namespace.as_deref(), option_name.as_str()) {
            (Some("contract"), "all_rows") => {
                if is_set {
                    all_rows(name, option)
                } else {
                    Ok(Declaration::AllRows(name.clone(), false))
                }
            }
            (Some("contract"), other) if Rows::OPTIONS.contains(&other) => {
                let value = option.below(|option| option.arg).and_then(Tree::value);
                let value = is_set.then(|| value.unwrap_or_default());
                let rows = Rows::read(other, value.as_deref()).expect("one of the options");
                Ok(Declaration::Rows(name.clone(), rows?))
            }
            (None, "security_invoker") => {
                Ok(Declaration::SecurityInvoker(name.clone(), is_set && is_on(option)?))
            }
            _ => Err(Unfit::inexpressible(
                format!("option \"{}\" does not amend a contract", printable(&option_name)),
                "Use security_invoker of a view, or contract.all_rows, contract.keys, \
                 contract.open_rows, contract.append_only_by or contract.privileged of a table.",
            )),
        }
    };
    options.map(declaration).collect()
}

/// `SET (contract.all_rows = ...)`: the word declared, or the field as JSON.
fn all_rows(table: &Name, option: Tree<pg_sys::DefElem>) -> Result<Declaration, Unfit> {
    let value = option.below(|option| option.arg).and_then(Tree::value).unwrap_or_default();
    if value == "declared" {
        return Ok(Declaration::AllRows(table.clone(), true));
    }
    match serde_json::from_str(&value) {
        Ok(all_rows) => Ok(Declaration::AllRowsOf(table.clone(), all_rows)),
        Err(_) => Err(Unfit::new(
            "invalid value for contract.all_rows",
            "Use SET (contract.all_rows = declared), the field as JSON, or RESET \
             (contract.all_rows).",
        )),
    }
}

/// ALTER FUNCTION ... SECURITY, and `SET contract.arguments = any` and `SET contract.all_rows`.
pub fn alter_function(
    statement: Tree<pg_sys::AlterFunctionStmt>,
) -> Result<Vec<Declaration>, Unfit> {
    let actions = statement.list(|statement| statement.actions);
    let Some(named) = statement.below(|statement| statement.func) else { return Ok(vec![]) };
    if let [action] = actions.as_slice()
        && let Some((field, setting)) = contract_setting(*action)
    {
        return match field.as_str() {
            "arguments" => any_arguments(named, setting),
            "all_rows" => all_rows_of_routine(named, setting),
            _ => Err(Unfit::new(
                format!("unrecognized setting \"contract.{}\"", printable(&field)),
                "Use contract.arguments or contract.all_rows.",
            )),
        };
    }
    match (security(&actions)?, actions.len()) {
        (Some(is_definer), 1) => {
            Ok(vec![Declaration::SecurityDefiner(function(named)?, is_definer)])
        }
        _ => Err(Unfit::inexpressible(
            "this action of ALTER FUNCTION does not amend a contract",
            "Use SECURITY DEFINER or SECURITY INVOKER, and execute other actions by themselves.",
        )),
    }
}

/// Returns field and setting of `ALTER FUNCTION ... SET contract.<field> = ...`.
fn contract_setting(action: Tree) -> Option<(String, Tree<pg_sys::VariableSetStmt>)> {
    let action = action.cast::<pg_sys::DefElem>()?;
    let setting = action.below(|action| action.arg)?.cast::<pg_sys::VariableSetStmt>()?;
    let name = setting.text(|setting| setting.name)?;
    Some((name.strip_prefix(PREFIX)?.to_owned(), setting))
}

fn all_rows_of_routine(
    named: Tree<pg_sys::ObjectWithArgs>,
    setting: Tree<pg_sys::VariableSetStmt>,
) -> Result<Vec<Declaration>, Unfit> {
    let function = function(named)?;
    let is_meant = match values(setting)?.as_slice() {
        [] => Some(false),
        [value] => value.parse().ok(),
        _ => None,
    };
    let is_meant = is_meant.ok_or_else(|| {
        Unfit::new(
            "invalid value for contract.all_rows",
            format!("Use ALTER ROUTINE {function} SET contract.all_rows = true."),
        )
    })?;
    Ok(vec![Declaration::AllRowsOfRoutine(function, is_meant)])
}

fn any_arguments(
    named: Tree<pg_sys::ObjectWithArgs>,
    setting: Tree<pg_sys::VariableSetStmt>,
) -> Result<Vec<Declaration>, Unfit> {
    let function = function(named)?;
    if function.arguments.is_none() && values(setting)? == ["any"] {
        return Ok(vec![Declaration::AnyArguments(function.name)]);
    }
    Err(Unfit::new(
        "invalid value for contract.arguments",
        format!("Use ALTER ROUTINE {} SET contract.arguments = 'any'.", function.name),
    ))
}

/// `SET contract.<field>`, `RESET contract.<field>` and `RESET ALL`.
pub fn set(statement: Tree<pg_sys::VariableSetStmt>) -> Result<Vec<Declaration>, Unfit> {
    if statement.kind == VariableSetKind::VAR_RESET_ALL {
        return Ok(vec![Declaration::ResetAll]);
    }
    let name = statement.text(|statement| statement.name).unwrap_or_default();
    let Some(path) = name.strip_prefix(PREFIX) else {
        return Err(Unfit::new(
            format!("setting \"{}\" is no field of the contract", printable(&name)),
            "Use SET contract.name = ...; for example.",
        ));
    };
    Ok(vec![Declaration::Set(path.split('.').map(str::to_owned).collect(), values(statement)?)])
}

/// ALTER ... RENAME.
pub fn rename(statement: Tree<pg_sys::RenameStmt>) -> Result<Vec<Declaration>, Unfit> {
    without(statement.missing_ok, "IF EXISTS of ALTER")?;
    let to = statement.text(|statement| statement.newname).unwrap_or_default();
    let named = statement.below(|statement| statement.relation).map(relation).transpose()?;
    let from = statement.text(|statement| statement.subname);
    let target = match (statement.renameType, named) {
        (ObjectType::OBJECT_COLUMN, Some(relation)) => {
            let from = from.unwrap_or_default();
            return Ok(vec![Declaration::Rename(Renamed::Column(relation, from, to))]);
        }
        (ObjectType::OBJECT_ROLE, _) => Target::Role(from.unwrap_or_default()),
        (ObjectType::OBJECT_SCHEMA, _) => Target::Schema(from.unwrap_or_default()),
        (of_type, Some(name)) => target_of(of_type, name)?,
        (of_type, None) => function_of(of_type, statement.below(|statement| statement.object))?,
    };
    let schema = target.schema().unwrap_or_default().to_owned();
    Ok(vec![Declaration::Rename(Renamed::Object(target, Name::new(schema, to)))])
}

/// ALTER ... SET SCHEMA.
pub fn set_schema(
    statement: Tree<pg_sys::AlterObjectSchemaStmt>,
) -> Result<Vec<Declaration>, Unfit> {
    without(statement.missing_ok, "IF EXISTS of ALTER")?;
    let schema = statement.text(|statement| statement.newschema).unwrap_or_default();
    let target = match statement.below(|statement| statement.relation).map(relation).transpose()? {
        Some(name) => target_of(statement.objectType, name)?,
        None => function_of(statement.objectType, statement.below(|statement| statement.object))?,
    };
    let to = Name::new(schema, target.name());
    Ok(vec![Declaration::Rename(Renamed::Object(target, to))])
}

fn target_of(of_type: ObjectType::Type, name: Name) -> Result<Target, Unfit> {
    match of_type {
        ObjectType::OBJECT_TABLE => Ok(Target::Table(name)),
        ObjectType::OBJECT_VIEW => Ok(Target::View(name)),
        ObjectType::OBJECT_MATVIEW => Ok(Target::MaterializedView(name)),
        ObjectType::OBJECT_SEQUENCE => Ok(Target::Sequence(name)),
        _ => Err(not_expressible("ALTER of other objects")),
    }
}

fn function_of(of_type: ObjectType::Type, object: Option<Tree>) -> Result<Target, Unfit> {
    let is_function = matches!(
        of_type,
        ObjectType::OBJECT_FUNCTION | ObjectType::OBJECT_PROCEDURE | ObjectType::OBJECT_ROUTINE
    );
    match object.filter(|_| is_function).and_then(Tree::cast) {
        Some(named) => function(named).map(Target::Function),
        None => Err(not_expressible("ALTER of other objects")),
    }
}

/// COMMENT ON.
pub fn comment(statement: Tree<pg_sys::CommentStmt>) -> Result<Vec<Declaration>, Unfit> {
    let Some(object) = statement.below(|statement| statement.object) else { return Ok(vec![]) };
    let Some(target) = target(statement.objtype, object)? else {
        return Err(not_expressible("COMMENT on other objects"));
    };
    let text = statement.text(|statement| statement.comment).unwrap_or_default();
    Ok(vec![Declaration::Comment(target, text)])
}

/// Returns the object that COMMENT or DROP names; `None` for a type of objects that contracts do
/// not declare.
fn target(of_type: ObjectType::Type, object: Tree) -> Result<Option<Target>, Unfit> {
    let name = || qualified(&object.elements());
    Ok(Some(match of_type {
        ObjectType::OBJECT_ROLE => Target::Role(object.value().unwrap_or_default()),
        ObjectType::OBJECT_SCHEMA => Target::Schema(object.value().unwrap_or_default()),
        ObjectType::OBJECT_TABLE => Target::Table(name()?),
        ObjectType::OBJECT_VIEW => Target::View(name()?),
        ObjectType::OBJECT_MATVIEW => Target::MaterializedView(name()?),
        ObjectType::OBJECT_SEQUENCE => Target::Sequence(name()?),
        ObjectType::OBJECT_FUNCTION | ObjectType::OBJECT_PROCEDURE | ObjectType::OBJECT_ROUTINE => {
            match object.cast() {
                Some(named) => Target::Function(function(named)?),
                None => return Ok(None),
            }
        }
        _ => return Ok(None),
    }))
}

/// DROP ROLE.
pub fn drop_roles(statement: Tree<pg_sys::DropRoleStmt>) -> Result<Vec<Declaration>, Unfit> {
    let roles = roles(&statement.list(|statement| statement.roles))?.into_iter();
    Ok(roles.map(|role| dropped(Target::Role(role), statement.missing_ok)).collect())
}

fn dropped(target: Target, if_exists: bool) -> Declaration {
    if if_exists { Declaration::DropIfDeclared(target) } else { Declaration::Drop(target) }
}

/// DROP of other objects.
pub fn drop_objects(statement: Tree<pg_sys::DropStmt>) -> Result<Vec<Declaration>, Unfit> {
    without_cascade(statement.behavior)?;
    let if_exists = statement.missing_ok;
    let declaration = |object: Tree| {
        if statement.removeType == ObjectType::OBJECT_POLICY {
            return dropped_policy(object, if_exists);
        }
        match target(statement.removeType, object)? {
            Some(target) => Ok(dropped(target, if_exists)),
            None => Err(not_expressible(&tag(statement.untyped()))),
        }
    };
    statement.list(|statement| statement.objects).into_iter().map(declaration).collect()
}

fn dropped_policy(object: Tree, if_exists: bool) -> Result<Declaration, Unfit> {
    let mut parts = object.elements();
    let name = parts.pop().and_then(Tree::value).unwrap_or_default();
    Ok(Declaration::DropPolicyNamed { table: qualified(&parts)?, name, if_exists })
}
