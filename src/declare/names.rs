//! Names of objects, roles and types in a parse tree.

use super::reason::without;
use super::tree::{Tree, are_equal, statements};
use crate::access::{type_in_contract, type_in_session};
use crate::pg::heap::interrupts;
use crate::pg::subtransaction;
use dragonfly_core::declare::{FunctionName, Name, Unfit};
use dragonfly_core::sql::{
    canonical_type, find_unquoted, listed_as_alternatives, printable, quote_ident, safe_ident,
};
use pgrx::pg_sys;

/// Returns the name of a relation.
pub fn relation(named: Tree<pg_sys::RangeVar>) -> Result<Name, Unfit> {
    if named.relpersistence as u8 == b't' {
        return Err(Unfit::inexpressible(
            "a contract does not declare temporary objects",
            "Execute the statement by itself.",
        ));
    }
    without(!named.catalogname.is_null(), "the name of a database")?;
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
    without(parts.len() > 2, "the name of a database")?;
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
    if named.args_unspecified {
        return Ok(FunctionName { name, arguments: None });
    }
    let types = types().map(|one| type_name(&name.schema, one)).collect::<Result<Vec<_>, _>>()?;
    Ok(FunctionName { name, arguments: Some(types.join(", ")) })
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
        .collect::<Result<_, _>>()?;
    Ok(FunctionName { arguments: Some(arguments.join(", ")), name })
}

/// Returns the name of a type in the form of the contract: as the catalog has it, or, where no such
/// type exists yet, as it is written. The server finds a name without a schema by the search_path,
/// when the statement is executed: one that another session would find elsewhere is not accepted.
fn type_name(schema: &str, of: Tree<pg_sys::TypeName>) -> Result<String, Unfit> {
    without(of.pct_type, "%TYPE")?;
    without(of.setof, "SETOF of an argument")?;
    let parts: Vec<String> = of.list(|of| of.names).into_iter().filter_map(Tree::value).collect();
    without(parts.len() > 2, "the name of a database")?;
    let quoted: Vec<_> = parts.iter().map(|part| quote_ident(part)).collect();
    let dimensions = of.list(|of| of.arrayBounds).len();
    let written = format!("{}{}", quoted.join("."), if dimensions > 0 { "[]" } else { "" });
    let usual = type_in_contract(schema, &written);
    if parts.len() == 2 {
        return Ok(usual.unwrap_or_else(|| canonical_type(&written)));
    }
    match (type_in_session(&written), usual) {
        (Some(found), Some(usual)) if found == usual => Ok(found),
        (Some(found), None) => Ok(found),
        (None, None) => Ok(canonical_type(&written)),
        (found, usual) => {
            let candidates: Vec<String> = found.into_iter().chain(usual).map(with_schema).collect();
            Err(Unfit::new(
                format!("type {} depends on the search_path", printable(&written)),
                format!("Write its schema: {}.", listed_as_alternatives(&candidates)),
            ))
        }
    }
}

/// Returns a type in the form of the contract with the schema of a type of the server, too.
fn with_schema(name: String) -> String {
    if find_unquoted(&name, ".").is_some() { name } else { format!("pg_catalog.{name}") }
}

/// The most places in a text that are tried as the AS before a query: names and options before it
/// have few.
const TRIED: usize = 100;

/// Returns the query in the text of a statement that creates a view, as it is written; `None` for
/// SELECT without columns, which means that the contract does not declare it. `query` is what the
/// grammar read.
pub fn query_of_view(text: &str, query: Option<Tree>) -> Result<Option<String>, Unfit> {
    let is_as = |at: usize| text[at..].get(..2).is_some_and(|word| word.eq_ignore_ascii_case("as"));
    let after_as = text
        .char_indices()
        .filter(|(at, _)| is_as(*at))
        .take(TRIED)
        .map(|(at, _)| text[at + 2..].trim())
        .find(|rest| query.is_some_and(|query| is_query(rest, query)));
    let Some(after_as) = after_as else {
        return Err(Unfit::inexpressible(
            "the query of the view cannot be kept as it is written",
            "Write CREATE VIEW name AS query, without WITH DATA.",
        ));
    };
    Ok((!after_as.eq_ignore_ascii_case("select")).then(|| after_as.to_owned()))
}

/// Whether a text is this query and nothing else.
fn is_query(text: &str, query: Tree) -> bool {
    interrupts();
    let parsed = subtransaction::rolled_back(|| {
        let parsed = statements(text);
        matches!(parsed.as_slice(), [(_, one)] if are_equal(*one, query))
    });
    parsed.unwrap_or(false)
}
