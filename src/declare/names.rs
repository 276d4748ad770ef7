//! Names of objects, roles and types in a parse tree.

use super::tree::{Tree, statements};
use crate::access::type_in_contract;
use crate::pg::subtransaction;
use dragonfly_core::declare::{FunctionName, Name, Unfit};
use dragonfly_core::sql::{canonical_type, quote_ident, safe_ident};
use pgrx::pg_sys;

/// Returns the name of a relation.
pub fn relation(named: Tree<pg_sys::RangeVar>) -> Result<Name, Unfit> {
    if named.relpersistence as u8 == b't' {
        return Err(Unfit::new(
            "a contract does not declare temporary objects",
            "Execute the statement by itself.",
        ));
    }
    let name = named.text(|named| named.relname).unwrap_or_default();
    match named.text(|named| named.schemaname) {
        Some(schema) => Ok(Name::new(schema, name)),
        None => Err(unqualified(&name)),
    }
}

/// Returns the name of a relation in a list of relations.
pub fn qualified_relation(named: Tree) -> Result<Name, Unfit> {
    named.cast().map_or_else(|| qualified(&named.elements()), relation)
}

fn unqualified(name: &str) -> Unfit {
    let name = safe_ident(name);
    Unfit::new(format!("{name} has no schema"), format!("Write its schema: app.{name}."))
}

/// Returns the name in a list of its parts: schema and name.
pub fn qualified(parts: &[Tree]) -> Result<Name, Unfit> {
    let mut parts: Vec<String> = parts.iter().copied().filter_map(Tree::value).collect();
    let name = parts.pop().unwrap_or_default();
    match parts.pop() {
        Some(schema) => Ok(Name::new(schema, name)),
        None => Err(unqualified(&name)),
    }
}

/// Returns the names of roles.
pub fn roles(named: &[Tree]) -> Result<Vec<String>, Unfit> {
    let (roles, to_public) = grantees(named)?;
    if to_public { Err(unnamed_role()) } else { Ok(roles) }
}

/// Returns the names of grantees, and whether PUBLIC is one of them.
pub fn grantees(named: &[Tree]) -> Result<(Vec<String>, bool), Unfit> {
    let (mut roles, mut to_public) = (Vec::new(), false);
    for role in named.iter().copied().filter_map(Tree::cast::<pg_sys::RoleSpec>) {
        match role.roletype {
            pg_sys::RoleSpecType::ROLESPEC_CSTRING => {
                roles.extend(role.text(|role| role.rolename));
            }
            pg_sys::RoleSpecType::ROLESPEC_PUBLIC => to_public = true,
            _ => return Err(unnamed_role()),
        }
    }
    Ok((roles, to_public))
}

fn unnamed_role() -> Unfit {
    Unfit::new(
        "a contract names each role",
        "Write the names of the roles instead of PUBLIC or CURRENT_USER.",
    )
}

/// Returns a role that is named by itself.
pub fn role(named: Option<Tree<pg_sys::RoleSpec>>) -> Result<String, Unfit> {
    let name = named
        .filter(|role| role.roletype == pg_sys::RoleSpecType::ROLESPEC_CSTRING)
        .and_then(|role| role.text(|role| role.rolename));
    name.ok_or_else(unnamed_role)
}

/// Returns a routine with its arguments.
pub fn function(named: Tree<pg_sys::ObjectWithArgs>) -> Result<FunctionName, Unfit> {
    let name = qualified(&named.list(|named| named.objname))?;
    let types = || {
        let types = named.list(|named| named.objargs).into_iter();
        types.filter_map(Tree::cast::<pg_sys::TypeName>)
    };
    let arguments = (!named.args_unspecified)
        .then(|| types().map(|one| type_name(&name.schema, one)).collect::<Vec<_>>().join(", "));
    Ok(FunctionName { name, arguments })
}

/// Returns a routine with the arguments of CREATE FUNCTION.
pub fn created_function(
    statement: Tree<pg_sys::CreateFunctionStmt>,
) -> Result<FunctionName, Unfit> {
    let name = qualified(&statement.list(|statement| statement.funcname))?;
    let is_input =
        |parameter: &Tree<pg_sys::FunctionParameter>| !matches!(parameter.mode as u8, b'o' | b't');
    let arguments: Vec<String> = statement
        .list(|statement| statement.parameters)
        .into_iter()
        .filter_map(Tree::cast::<pg_sys::FunctionParameter>)
        .filter(is_input)
        .filter_map(|parameter| parameter.below(|parameter| parameter.argType))
        .map(|of| type_name(&name.schema, of))
        .collect();
    Ok(FunctionName { arguments: Some(arguments.join(", ")), name })
}

/// Returns the name of a type in the form of the contract: as the catalog has it, or, where no such
/// type exists yet, as it is written.
fn type_name(schema: &str, of: Tree<pg_sys::TypeName>) -> String {
    let parts: Vec<String> = of.list(|of| of.names).into_iter().filter_map(Tree::value).collect();
    let parts: Vec<_> = parts.iter().map(|part| quote_ident(part)).collect();
    let dimensions = of.list(|of| of.arrayBounds).len();
    let written = format!("{}{}", parts.join("."), if dimensions > 0 { "[]" } else { "" });
    type_in_contract(schema, &written).unwrap_or_else(|| canonical_type(&written))
}

/// Returns the query in the text of a statement that creates a view; `None` where there is none
/// after AS, which means that the contract does not declare it.
pub fn query_of_view(text: &str) -> Option<String> {
    let after_as = text
        .char_indices()
        .filter(|(at, _)| text[*at..].get(..2).is_some_and(|word| word.eq_ignore_ascii_case("as")))
        .map(|(at, _)| text[at + 2..].trim())
        .find(|rest| is_query(rest))?;
    (!after_as.eq_ignore_ascii_case("select")).then(|| after_as.to_owned())
}

fn is_query(text: &str) -> bool {
    let parsed = subtransaction::rolled_back(|| {
        let parsed = statements(text);
        matches!(parsed.as_slice(), [(_, one)] if one.cast::<pg_sys::SelectStmt>().is_some())
    });
    parsed.unwrap_or(false)
}
