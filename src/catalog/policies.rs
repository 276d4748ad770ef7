//! Reads `pg_policy`.

use super::caller::{is_built_in_operator, is_never_true};
use super::oids;
use crate::pg::heap::{Column, Row, State, Table};
use crate::pg::list::nodes;
use dragonfly_core::catalog::{Command, Oid, Policy, Snapshot};
use pgrx::pg_sys;
use std::collections::HashSet;

/// The maximum number of relations whose policies are looked up one by one; for more, one pass over
/// the catalog is faster.
const MOST_LOOKUPS: usize = 100;

/// Reads the policies of the relations in the snapshot.
pub fn read(state: &State, snapshot: &mut Snapshot) {
    let wanted: HashSet<Oid> = snapshot.relations.iter().map(|r| r.oid).collect();
    let table = Table::open(oids::PG_POLICY);
    let column = |name| table.column(name);
    let (oid, name, relation, command, permissive) = (
        column("oid"),
        column("polname"),
        column("polrelid"),
        column("polcmd"),
        column("polpermissive"),
    );
    let (roles, using, check) = (column("polroles"), column("polqual"), column("polwithcheck"));
    let mut policies = Vec::new();
    let mut each = |row: Row<'_>| {
        if !wanted.contains(&row.oid(relation)) {
            return;
        }
        let command = match row.char(command) {
            b'r' => Some(Command::Select),
            b'a' => Some(Command::Insert),
            b'w' => Some(Command::Update),
            b'd' => Some(Command::Delete),
            _ => None,
        };
        let condition = if command == Some(Command::Insert) { check } else { using };
        policies.push(Policy {
            oid: row.oid(oid),
            name: row.name(name),
            relation: row.oid(relation),
            command,
            permissive: row.bool(permissive),
            roles: row.oids(roles),
            always_true: is_always_true(&row, condition),
            unchecked: is_always_true(&row, check),
            requires_authentication: requires_authentication(&row, command, using, check),
        });
    };
    if wanted.len() > MOST_LOOKUPS {
        table.scan(state, each);
    } else {
        for oid in &wanted {
            table.lookup(state, oids::PG_POLICY_RELID_INDEX, &[(relation, *oid)], &mut each);
        }
    }
    snapshot.policies = policies;
}

/// Whether a stored condition is true for every row, as far as that can be determined without
/// executing user-defined code: constants, AND and OR of them, built-in equality of a constant or a
/// column with itself (`1 = 1`, `id = id`), and a subquery without FROM that selects one of these.
fn is_always_true(row: &Row<'_>, condition: Column) -> bool {
    // SAFETY: the expression is null or valid.
    unsafe { is_true(expression(row, condition)) }
}

/// Whether the condition is never true for an anonymous caller: for every command, if the policy is
/// for all commands. `WITH CHECK` restricts INSERT; where it is missing, `USING` does.
fn requires_authentication(
    row: &Row<'_>,
    command: Option<Command>,
    using: Column,
    check: Column,
) -> bool {
    // SAFETY: the expressions are null or valid.
    let is_never_true = |condition| unsafe { is_never_true(expression(row, condition)) };
    match command {
        Some(Command::Insert) => is_never_true(check),
        Some(_) => is_never_true(using),
        None => is_never_true(using) && (row.text(check).is_none() || is_never_true(check)),
    }
}

/// Returns a stored expression; null where there is none.
fn expression(row: &Row<'_>, condition: Column) -> *mut pg_sys::Node {
    let text = row.text(condition).and_then(|text| std::ffi::CString::new(text).ok());
    // SAFETY: the column contains the result of nodeToString.
    text.map_or(std::ptr::null_mut(), |text| unsafe { pg_sys::stringToNode(text.as_ptr()).cast() })
}

/// Whether an expression is true for every row.
///
/// # Safety
/// `node` is null or a valid expression tree.
unsafe fn is_true(node: *mut pg_sys::Node) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: each cast follows the node's tag; lists hold expressions.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_Const => {
                let constant = node.cast::<pg_sys::Const>();
                (*constant).consttype == pg_sys::BOOLOID
                    && !(*constant).constisnull
                    && (*constant).constvalue.value() & 0xff != 0
            }
            pg_sys::NodeTag::T_BoolExpr => {
                let expression = node.cast::<pg_sys::BoolExpr>();
                let mut arguments = nodes((*expression).args);
                match (*expression).boolop {
                    pg_sys::BoolExprType::AND_EXPR => arguments.all(|a| is_true(a)),
                    pg_sys::BoolExprType::OR_EXPR => arguments.any(|a| is_true(a)),
                    _ => false,
                }
            }
            pg_sys::NodeTag::T_OpExpr => {
                let expression = node.cast::<pg_sys::OpExpr>();
                let arguments: Vec<_> = nodes((*expression).args).collect();
                is_built_in_operator((*expression).opno, c"=")
                    && matches!(
                        arguments[..],
                        [a, b] if !a.is_null()
                            && is_plain(a)
                            && pg_sys::equal(a.cast(), b.cast())
                    )
            }
            pg_sys::NodeTag::T_SubLink => {
                let link = node.cast::<pg_sys::SubLink>();
                let query = (*link).subselect.cast::<pg_sys::Query>();
                (*link).subLinkType == pg_sys::SubLinkType::EXPR_SUBLINK
                    && (*query).commandType == pg_sys::CmdType::CMD_SELECT
                    && !(*query).jointree.is_null()
                    && (*(*query).jointree).fromlist.is_null()
                    && (*(*query).jointree).quals.is_null()
                    && nodes((*query).targetList)
                        .next()
                        .is_some_and(|t| is_true((*t.cast::<pg_sys::TargetEntry>()).expr.cast()))
            }
            _ => false,
        }
    }
}

/// Whether an expression is a constant that is not null, or a column.
///
/// # Safety
/// `node` is a valid expression tree.
unsafe fn is_plain(node: *mut pg_sys::Node) -> bool {
    // SAFETY: each cast follows the node's tag.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_Const => !(*node.cast::<pg_sys::Const>()).constisnull,
            tag => tag == pg_sys::NodeTag::T_Var,
        }
    }
}
