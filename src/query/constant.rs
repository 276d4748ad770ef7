//! Conditions that constants decide: the planner removes what they make unreachable (clauses.c,
//! `eval_const_expressions`). Only constants as written count, not what the planner computes.

use crate::pg::list::nodes;
use pgrx::pg_sys;

/// Returns whether a condition is true or false for every row; `None` where that depends on the
/// row.
///
/// # Safety
/// A valid expression, or null.
pub(super) unsafe fn truth(node: *mut pg_sys::Node) -> Option<bool> {
    if node.is_null() {
        return None;
    }
    // SAFETY: each cast follows the node's tag; lists hold expressions. It raises an error where
    // the stack is too deep.
    unsafe {
        pg_sys::check_stack_depth();
        match (*node).type_ {
            pg_sys::NodeTag::T_Const => {
                let constant = node.cast::<pg_sys::Const>();
                let is_known = (*constant).consttype == pg_sys::BOOLOID && !(*constant).constisnull;
                is_known.then(|| (*constant).constvalue.value() & 0xff != 0)
            }
            pg_sys::NodeTag::T_BoolExpr => {
                let expression = node.cast::<pg_sys::BoolExpr>();
                let mut parts = nodes((*expression).args).map(|part| truth(part));
                match (*expression).boolop {
                    pg_sys::BoolExprType::NOT_EXPR => parts.next().flatten().map(|truth| !truth),
                    operator => {
                        let decides = operator == pg_sys::BoolExprType::OR_EXPR;
                        let parts: Vec<_> = parts.collect();
                        let is_decided = parts.contains(&Some(decides));
                        let is_the_other = parts.iter().all(|part| *part == Some(!decides));
                        is_decided.then_some(decides).or(is_the_other.then_some(!decides))
                    }
                }
            }
            _ => None,
        }
    }
}

/// Returns the parts of a CASE or a COALESCE that can be evaluated; `None` for other expressions,
/// and where all parts can.
///
/// # Safety
/// A valid expression.
pub(super) unsafe fn reachable(node: *mut pg_sys::Node) -> Option<Vec<*mut pg_sys::Node>> {
    // SAFETY: each cast follows the node's tag; lists hold what their names say.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_CaseExpr => {
                let case = node.cast::<pg_sys::CaseExpr>();
                if !(*case).arg.is_null() {
                    return None;
                }
                let mut found = Vec::new();
                for arm in nodes((*case).args).map(|arm| arm.cast::<pg_sys::CaseWhen>()) {
                    match truth((*arm).expr.cast()) {
                        Some(false) => {}
                        Some(true) => {
                            found.push((*arm).result.cast());
                            return Some(found);
                        }
                        None => found.extend([(*arm).expr.cast(), (*arm).result.cast()]),
                    }
                }
                found.push((*case).defresult.cast());
                Some(found)
            }
            pg_sys::NodeTag::T_CoalesceExpr => {
                let mut found = Vec::new();
                for part in nodes((*node.cast::<pg_sys::CoalesceExpr>()).args) {
                    found.push(part);
                    if (*part).type_ == pg_sys::NodeTag::T_Const
                        && !(*part.cast::<pg_sys::Const>()).constisnull
                    {
                        break;
                    }
                }
                Some(found)
            }
            _ => None,
        }
    }
}
