//! ALTER, DROP, COMMENT and SET.

use super::create::{attributes, is_on, security};
use super::names::{function, qualified, relation, role, roles};
use super::reason::{not_expressible, tag};
use super::tree::Tree;
use dragonfly_core::catalog::Snapshot;
use dragonfly_core::contract::RoleKind;
use dragonfly_core::declare::{
    Declaration, Name, PolicyHeader, Renamed, RowSecurity, Target, Unfit,
};
use dragonfly_core::sql::{printable, safe_ident};
use pgrx::pg_sys;
use pgrx::pg_sys::{AlterTableType, ObjectType, VariableSetKind};

/// The prefix of the settings that are fields of the contract.
const PREFIX: &str = "contract.";

/// ALTER ROLE with attributes.
pub fn alter_role(statement: Tree<pg_sys::AlterRoleStmt>) -> Result<Vec<Declaration>, Unfit> {
    let name = role(statement.below(|statement| statement.role))?;
    let attributes = attributes(&statement.list(|statement| statement.options))?;
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
    let name = role(statement.below(|statement| statement.role))?;
    let value = setting.list(|setting| setting.args).first().copied().and_then(Tree::value);
    let value = value.unwrap_or_default();
    let kinds = [RoleKind::Client, RoleKind::Worker, RoleKind::Owner, RoleKind::Login];
    match kinds.into_iter().find(|kind| kind.as_str() == value) {
        Some(kind) => Ok(vec![Declaration::Kind(name, kind)]),
        None => Err(Unfit::new(
            format!("unrecognized kind of role: \"{}\"", printable(&value)),
            "Use client, worker, owner or login.",
        )),
    }
}

/// ALTER TABLE ... ROW LEVEL SECURITY, and the options of tables and views.
pub fn alter_table(statement: Tree<pg_sys::AlterTableStmt>) -> Result<Vec<Declaration>, Unfit> {
    let Some(named) = statement.below(|statement| statement.relation) else { return Ok(vec![]) };
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
                return Err(Unfit::new(
                    "this action of ALTER TABLE does not amend a contract",
                    "Use ENABLE, DISABLE, FORCE or NO FORCE ROW LEVEL SECURITY, and execute other \
                     actions by themselves.",
                ));
            }
        }
    }
    let of_contract = |one: &Declaration| matches!(one, Declaration::AllRows(..));
    if declared.len() > 1 && declared.iter().any(of_contract) {
        return Err(Unfit::new(
            "contract.all_rows is set with other actions",
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
                let value = option.below(|option| option.arg).and_then(Tree::value);
                if is_set && value.as_deref() != Some("declared") {
                    return Err(Unfit::new(
                        "invalid value for contract.all_rows",
                        "Use SET (contract.all_rows = declared), or RESET (contract.all_rows).",
                    ));
                }
                Ok(Declaration::AllRows(name.clone(), is_set))
            }
            (None, "security_invoker") => {
                Ok(Declaration::SecurityInvoker(name.clone(), is_set && is_on(option)))
            }
            _ => Err(Unfit::new(
                format!("option \"{}\" does not amend a contract", printable(&option_name)),
                "Use security_invoker of a view, or contract.all_rows of a table.",
            )),
        }
    };
    options.map(declaration).collect()
}

/// ALTER FUNCTION ... SECURITY.
pub fn alter_function(
    statement: Tree<pg_sys::AlterFunctionStmt>,
) -> Result<Vec<Declaration>, Unfit> {
    let actions = statement.list(|statement| statement.actions);
    let Some(named) = statement.below(|statement| statement.func) else { return Ok(vec![]) };
    match (security(&actions), actions.len()) {
        (Some(is_definer), 1) => {
            Ok(vec![Declaration::SecurityDefiner(function(named)?, is_definer)])
        }
        _ => Err(Unfit::new(
            "this action of ALTER FUNCTION does not amend a contract",
            "Use SECURITY DEFINER or SECURITY INVOKER, and execute other actions by themselves.",
        )),
    }
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
    let values = statement.list(|statement| statement.args).into_iter();
    let values = values.filter_map(Tree::value).collect();
    Ok(vec![Declaration::Set(path.split('.').map(str::to_owned).collect(), values)])
}

/// ALTER ... RENAME.
pub fn rename(statement: Tree<pg_sys::RenameStmt>) -> Result<Vec<Declaration>, Unfit> {
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
    let schema = schema_of(&target).to_owned();
    Ok(vec![Declaration::Rename(Renamed::Object(target, Name::new(schema, to)))])
}

/// ALTER ... SET SCHEMA.
pub fn set_schema(
    statement: Tree<pg_sys::AlterObjectSchemaStmt>,
) -> Result<Vec<Declaration>, Unfit> {
    let schema = statement.text(|statement| statement.newschema).unwrap_or_default();
    let target = match statement.below(|statement| statement.relation).map(relation).transpose()? {
        Some(name) => target_of(statement.objectType, name)?,
        None => function_of(statement.objectType, statement.below(|statement| statement.object))?,
    };
    let name = match &target {
        Target::Table(name)
        | Target::View(name)
        | Target::MaterializedView(name)
        | Target::Sequence(name) => &name.name,
        Target::Function(function) => &function.name.name,
        Target::Role(name) | Target::Schema(name) => name,
    };
    let to = Name::new(schema, name.clone());
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

fn schema_of(target: &Target) -> &str {
    match target {
        Target::Table(name)
        | Target::View(name)
        | Target::MaterializedView(name)
        | Target::Sequence(name) => &name.schema,
        Target::Function(function) => &function.name.schema,
        Target::Role(_) | Target::Schema(_) => "",
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
    let roles = roles(&statement.list(|statement| statement.roles))?;
    Ok(roles.into_iter().map(|role| Declaration::Drop(Target::Role(role))).collect())
}

/// DROP of other objects.
pub fn drop_objects(
    statement: Tree<pg_sys::DropStmt>,
    existing: &Snapshot,
) -> Result<Vec<Declaration>, Unfit> {
    let objects = statement.list(|statement| statement.objects).into_iter();
    if statement.removeType == ObjectType::OBJECT_POLICY {
        return objects.map(|object| dropped_policy(object, existing)).collect();
    }
    let declaration = |object| match target(statement.removeType, object)? {
        Some(target) => Ok(Declaration::Drop(target)),
        None => Err(not_expressible(&tag(statement.untyped()))),
    };
    objects.map(declaration).collect()
}

/// Returns what the declaration of a policy loses with it: what no other policy of the table says.
fn dropped_policy(object: Tree, existing: &Snapshot) -> Result<Declaration, Unfit> {
    let mut parts = object.elements();
    let policy_name = parts.pop().and_then(Tree::value).unwrap_or_default();
    let table = qualified(&parts)?;
    let relation = existing
        .schema_named(&table.schema)
        .and_then(|schema| existing.relation_named(schema.oid, &table.name));
    let policies = relation.map(|relation| existing.policies_of(relation.oid)).unwrap_or_default();
    let Some(policy) = policies.iter().find(|policy| policy.name == policy_name) else {
        let shown = safe_ident(&policy_name);
        return Err(Unfit::new(
            format!("policy {shown} on table {table} does not exist"),
            "A contract does not contain the names of policies: they are looked up in the \
             database.",
        ));
    };
    if !policy.permissive {
        return Ok(Declaration::Nothing);
    }
    let others = || policies.iter().filter(|other| other.oid != policy.oid && other.permissive);
    let is_said_by_others = |role: &u32, command| {
        others().any(|other| other.covers(command) && other.roles.contains(role))
    };
    let named = policy.roles.iter().filter_map(|role| existing.role(*role));
    let mut commands = policy.commands();
    let roles: Vec<_> = named.collect();
    commands.retain(|command| !roles.iter().all(|role| is_said_by_others(&role.oid, *command)));
    Ok(Declaration::DropPolicy(PolicyHeader {
        name: policy_name,
        table,
        commands,
        roles: roles.into_iter().map(|role| role.name.clone()).collect(),
        all_rows: vec![],
    }))
}
