//! Reads `pg_policy`.

use super::caller::{is_built_in_operator, is_never_true};
use super::oids;
use crate::pg::heap::{Column, Row, State, Table};
use crate::pg::list::nodes;
use dragonfly_core::catalog::{Command, Oid, Policy, Snapshot, tells_of_memberships};
use pgrx::pg_sys;
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};

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
    let (mut policies, mut conditions) = (Vec::new(), Conditions::default());
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
        let (using, check) = (conditions.of(&row, using), conditions.of(&row, check));
        let condition = if command == Some(Command::Insert) { check } else { using };
        policies.push(Policy {
            oid: row.oid(oid),
            name: row.name(name),
            relation: row.oid(relation),
            command,
            permissive: row.bool(permissive),
            roles: row.oids(roles),
            always_true: condition.is_some_and(|c| c.is_always_true),
            unchecked: check.is_some_and(|c| c.is_always_true),
            requires_authentication: requires_authentication(command, using, check),
            asks_memberships: using.iter().chain(&check).any(|c| c.asks_memberships),
            never_true: condition.is_some_and(|c| c.is_never_true_for_any_caller),
            rejects_new_rows: check.or(using).is_some_and(|c| c.is_never_true_for_any_caller),
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

/// What a stored condition says.
#[derive(Debug, Clone, Copy)]
struct Condition {
    /// Whether it is true for every row, as far as that can be determined without executing
    /// user-defined code: constants, AND and OR of them, built-in equality of a constant or a
    /// column with itself (`1 = 1`, `id = id`), and a subquery without FROM that selects one of
    /// these.
    is_always_true: bool,
    /// Whether it is never true for an anonymous caller.
    is_never_true: bool,
    /// Whether it is true for no row and no caller, as far as that can be determined in the same
    /// way: constants, AND, OR and NOT of them, and built-in equality of different constants.
    is_never_true_for_any_caller: bool,
    /// Whether it calls a built-in function that tells of memberships.
    asks_memberships: bool,
}

/// Conditions by their stored text: many policies have the same one.
#[derive(Default)]
struct Conditions(HashMap<Vec<u8>, Condition>);

impl Conditions {
    /// Returns what the condition in a column says; `None` where there is none.
    fn of(&mut self, row: &Row<'_>, column: Column) -> Option<Condition> {
        let text = row.bytes(column)?;
        if let Some(known) = self.0.get(&text) {
            return Some(*known);
        }
        let expression = CString::new(text.as_slice()).ok()?;
        // SAFETY: the column contains the result of nodeToString.
        let condition = unsafe {
            let node = pg_sys::stringToNode(expression.as_ptr()).cast();
            Condition {
                is_always_true: is_true(node),
                is_never_true: is_never_true(node),
                is_never_true_for_any_caller: is_not_true(node),
                asks_memberships: asks_memberships(&text),
            }
        };
        self.0.insert(text, condition);
        Some(condition)
    }
}

/// Whether a stored expression or query calls a built-in function that tells of memberships.
pub fn asks_memberships(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let calls = text.split(":funcid ").skip(1);
    let functions = calls.filter_map(|rest| rest.split(' ').next()?.parse::<u32>().ok());
    let mut built_in = functions.filter(|function| *function < pg_sys::FirstGenbkiObjectId);
    built_in.any(|function| {
        // SAFETY: looks a function up; the result is null or a palloc'd string.
        let name = unsafe { pg_sys::get_func_name(function.into()) };
        // SAFETY: as above.
        !name.is_null() && unsafe { CStr::from_ptr(name) }.to_str().is_ok_and(tells_of_memberships)
    })
}

/// Whether a policy admits no anonymous caller: for every command, if the policy is for all
/// commands. `WITH CHECK` restricts INSERT; where it is missing, `USING` does.
fn requires_authentication(
    command: Option<Command>,
    using: Option<Condition>,
    check: Option<Condition>,
) -> bool {
    let is_never_true = |condition: Condition| condition.is_never_true;
    match command {
        Some(Command::Insert) => check.is_some_and(is_never_true),
        Some(_) => using.is_some_and(is_never_true),
        None => using.is_some_and(is_never_true) && check.is_none_or(is_never_true),
    }
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
            pg_sys::NodeTag::T_SubLink => selected(node.cast()).is_some_and(|value| is_true(value)),
            _ => false,
        }
    }
}

/// Returns the expression that a subquery without FROM and WHERE selects; `None` for others.
///
/// # Safety
/// `link` is a valid subquery expression.
unsafe fn selected(link: *mut pg_sys::SubLink) -> Option<*mut pg_sys::Node> {
    // SAFETY: the subquery of a stored expression is a query, whose list holds target entries.
    unsafe {
        let query = (*link).subselect.cast::<pg_sys::Query>();
        let is_plain = (*link).subLinkType == pg_sys::SubLinkType::EXPR_SUBLINK
            && (*query).commandType == pg_sys::CmdType::CMD_SELECT
            && !(*query).jointree.is_null()
            && (*(*query).jointree).fromlist.is_null()
            && (*(*query).jointree).quals.is_null();
        let first = nodes((*query).targetList).next().filter(|_| is_plain)?;
        Some((*first.cast::<pg_sys::TargetEntry>()).expr.cast())
    }
}

/// Whether an expression is false or null for every row.
///
/// # Safety
/// `node` is null or a valid expression tree.
unsafe fn is_not_true(node: *mut pg_sys::Node) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: each cast follows the node's tag; lists hold expressions.
    unsafe {
        pg_sys::check_stack_depth();
        match (*node).type_ {
            pg_sys::NodeTag::T_Const => {
                let constant = node.cast::<pg_sys::Const>();
                (*constant).constisnull
                    || (*constant).consttype == pg_sys::BOOLOID
                        && (*constant).constvalue.value() & 0xff == 0
            }
            pg_sys::NodeTag::T_BoolExpr => {
                let expression = node.cast::<pg_sys::BoolExpr>();
                let mut arguments = nodes((*expression).args);
                match (*expression).boolop {
                    pg_sys::BoolExprType::AND_EXPR => arguments.any(|a| is_not_true(a)),
                    pg_sys::BoolExprType::OR_EXPR => arguments.all(|a| is_not_true(a)),
                    _ => arguments.all(|a| is_true(a)),
                }
            }
            pg_sys::NodeTag::T_OpExpr => {
                let expression = node.cast::<pg_sys::OpExpr>();
                let arguments: Vec<_> = nodes((*expression).args).collect();
                is_built_in_operator((*expression).opno, c"=")
                    && matches!(arguments[..], [a, b] if are_different_constants(a, b))
            }
            pg_sys::NodeTag::T_SubLink => {
                selected(node.cast()).is_some_and(|value| is_not_true(value))
            }
            _ => false,
        }
    }
}

/// Whether two expressions are constants that are not equal, or one of them is null. Only types
/// passed by value are compared: others may have different representations of equal values.
///
/// # Safety
/// Both are valid expression trees.
unsafe fn are_different_constants(a: *mut pg_sys::Node, b: *mut pg_sys::Node) -> bool {
    // SAFETY: each cast follows the node's tag.
    unsafe {
        let constant = |node: *mut pg_sys::Node| {
            (!node.is_null() && (*node).type_ == pg_sys::NodeTag::T_Const)
                .then(|| node.cast::<pg_sys::Const>())
        };
        let is_null = |node| constant(node).is_some_and(|constant| (*constant).constisnull);
        let differ = match (constant(a), constant(b)) {
            (Some(a), Some(b)) => {
                (*a).constbyval
                    && (*a).consttype == (*b).consttype
                    && (*a).constvalue.value() != (*b).constvalue.value()
            }
            _ => false,
        };
        is_null(a) || is_null(b) || differ
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
