//! Whether a policy's condition can be true for an anonymous caller, a request without a token of a
//! user: PostgREST then has no claims except the role.
//!
//! The analysis is conservative: it looks at the stored expression, executes nothing, and treats
//! everything that it does not know as possibly true. It relies on these names:
//!
//! - `auth.uid()` and `auth.email()` return NULL, and so does every other claim than [`COMMON`];
//! - `auth.role()`, the claim `role` and `CURRENT_USER` are not [`AUTHENTICATED`].

use super::oids;
use crate::pg::heap::{State, of_row};
use crate::pg::list::nodes;
use crate::pg::text::from_server;
use pgrx::pg_sys;
use std::ffi::{CStr, c_char};

/// The claims that the token of an anonymous caller has (an API key).
const COMMON: [&str; 8] = ["role", "iss", "ref", "aud", "exp", "iat", "nbf", "jti"];

/// The names of roles that requests with a token of a user, or of the backend, switch to.
const AUTHENTICATED: [&str; 2] = ["authenticated", "service_role"];

/// Settings in which PostgREST passes claims: one JSON document, or (before release 9) one setting
/// for each claim, with this prefix.
const CLAIMS: &str = "request.jwt.claims";
const CLAIM_PREFIX: &str = "request.jwt.claim.";

/// Whether a condition is never true for an anonymous caller: it is false or NULL, or raises an
/// error.
///
/// # Safety
/// `node` is null or a valid expression tree.
pub unsafe fn is_never_true(node: *mut pg_sys::Node) -> bool {
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
                        && (*constant).constvalue.value() as u8 == 0
            }
            pg_sys::NodeTag::T_BoolExpr => {
                let expression = node.cast::<pg_sys::BoolExpr>();
                let mut arguments = nodes((*expression).args);
                match (*expression).boolop {
                    pg_sys::BoolExprType::AND_EXPR => arguments.any(|a| is_never_true(a)),
                    pg_sys::BoolExprType::OR_EXPR => arguments.all(|a| is_never_true(a)),
                    _ => arguments.all(|a| is_null(a)),
                }
            }
            pg_sys::NodeTag::T_NullTest => {
                let test = node.cast::<pg_sys::NullTest>();
                (*test).nulltesttype == pg_sys::NullTestType::IS_NOT_NULL
                    && is_null((*test).arg.cast())
                    && !matches!(claim_of((*test).arg.cast()), Some(Claim::Unset))
            }
            pg_sys::NodeTag::T_BooleanTest => {
                let test = node.cast::<pg_sys::BooleanTest>();
                (*test).booltesttype == pg_sys::BoolTestType::IS_TRUE
                    && is_never_true((*test).arg.cast())
            }
            pg_sys::NodeTag::T_CoalesceExpr => {
                nodes((*node.cast::<pg_sys::CoalesceExpr>()).args).all(|a| is_never_true(a))
            }
            pg_sys::NodeTag::T_OpExpr => is_of_another_role(node.cast()) || is_null(node),
            pg_sys::NodeTag::T_ScalarArrayOpExpr => is_of_other_roles(node.cast()) || is_null(node),
            pg_sys::NodeTag::T_SubLink => is_never_true_of_query(node.cast()),
            _ => is_null(node),
        }
    }
}

/// Whether a subquery in a condition is never true: EXISTS and IN of a query without rows, IN with
/// NULL on the left side, or a query that returns one such condition.
///
/// # Safety
/// `link` is a valid subquery expression.
unsafe fn is_never_true_of_query(link: *mut pg_sys::SubLink) -> bool {
    // SAFETY: the subquery of a stored expression is a query.
    unsafe {
        let query = (*link).subselect.cast::<pg_sys::Query>();
        match (*link).subLinkType {
            pg_sys::SubLinkType::EXISTS_SUBLINK => has_no_rows(query),
            pg_sys::SubLinkType::ANY_SUBLINK => {
                has_no_rows(query) || is_never_true((*link).testexpr)
            }
            pg_sys::SubLinkType::EXPR_SUBLINK => {
                has_no_rows(query) || value_of(query).is_some_and(|value| is_never_true(value))
            }
            _ => false,
        }
    }
}

/// Whether an expression is NULL for an anonymous caller, or raises an error.
///
/// # Safety
/// `node` is null or a valid expression tree.
unsafe fn is_null(node: *mut pg_sys::Node) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: as in `is_never_true`.
    unsafe {
        pg_sys::check_stack_depth();
        match (*node).type_ {
            pg_sys::NodeTag::T_Const => (*node.cast::<pg_sys::Const>()).constisnull,
            pg_sys::NodeTag::T_FuncExpr => {
                let call = node.cast::<pg_sys::FuncExpr>();
                matches!(claim_of(node), Some(Claim::Missing | Claim::Unset))
                    || is_strict((*call).funcid) && nodes((*call).args).any(|a| is_null(a))
            }
            pg_sys::NodeTag::T_OpExpr => {
                let expression = node.cast::<pg_sys::OpExpr>();
                matches!(claim_of(node), Some(Claim::Missing | Claim::Unset))
                    || is_strict(pg_sys::get_opcode((*expression).opno))
                        && nodes((*expression).args).any(|a| is_null(a))
            }
            pg_sys::NodeTag::T_ScalarArrayOpExpr => {
                let expression = node.cast::<pg_sys::ScalarArrayOpExpr>();
                (*expression).useOr
                    && is_strict(pg_sys::get_opcode((*expression).opno))
                    && nodes((*expression).args).any(|a| is_null(a))
            }
            pg_sys::NodeTag::T_RelabelType => {
                is_null((*node.cast::<pg_sys::RelabelType>()).arg.cast())
            }
            pg_sys::NodeTag::T_CoerceViaIO => {
                is_null((*node.cast::<pg_sys::CoerceViaIO>()).arg.cast())
            }
            pg_sys::NodeTag::T_NullIfExpr => {
                nodes((*node.cast::<pg_sys::NullIfExpr>()).args).next().is_some_and(|a| is_null(a))
            }
            pg_sys::NodeTag::T_CoalesceExpr => {
                nodes((*node.cast::<pg_sys::CoalesceExpr>()).args).all(|a| is_null(a))
            }
            pg_sys::NodeTag::T_SubLink => {
                let link = node.cast::<pg_sys::SubLink>();
                let query = (*link).subselect.cast::<pg_sys::Query>();
                (*link).subLinkType == pg_sys::SubLinkType::EXPR_SUBLINK
                    && (has_no_rows(query) || value_of(query).is_some_and(|value| is_null(value)))
            }
            _ => false,
        }
    }
}

/// Whether a query has no rows, because its WHERE clause is never true. An aggregate without GROUP
/// BY returns a row nevertheless.
///
/// # Safety
/// `query` is a valid query.
unsafe fn has_no_rows(query: *mut pg_sys::Query) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        (*query).commandType == pg_sys::CmdType::CMD_SELECT
            && !(*query).hasAggs
            && (*query).groupingSets.is_null()
            && (*query).setOperations.is_null()
            && !(*query).jointree.is_null()
            && is_never_true((*(*query).jointree).quals)
    }
}

/// Returns the expression that a query without FROM returns, as in `(SELECT auth.uid())`.
///
/// # Safety
/// `query` is a valid query.
unsafe fn value_of(query: *mut pg_sys::Query) -> Option<*mut pg_sys::Node> {
    // SAFETY: as the caller promises; a target list holds target entries.
    unsafe {
        let is_plain = (*query).commandType == pg_sys::CmdType::CMD_SELECT
            && (*query).setOperations.is_null()
            && !(*query).jointree.is_null()
            && (*(*query).jointree).fromlist.is_null();
        if !is_plain {
            return None;
        }
        let target = nodes((*query).targetList).next()?;
        Some((*target.cast::<pg_sys::TargetEntry>()).expr.cast())
    }
}

/// Whether an expression compares the role of the caller with the name of another role than the
/// anonymous one.
///
/// # Safety
/// `expression` is a valid operator expression.
unsafe fn is_of_another_role(expression: *mut pg_sys::OpExpr) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        let arguments: Vec<_> = nodes((*expression).args).collect();
        let [left, right] = arguments[..] else { return false };
        is_built_in_operator((*expression).opno, c"=")
            && (is_role(left) && is_authenticated(right)
                || is_role(right) && is_authenticated(left))
    }
}

/// As [`is_of_another_role`] for a list of role names: `auth.role() IN (...)`.
///
/// # Safety
/// `expression` is a valid operator expression.
unsafe fn is_of_other_roles(expression: *mut pg_sys::ScalarArrayOpExpr) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        let arguments: Vec<_> = nodes((*expression).args).collect();
        let [left, right] = arguments[..] else { return false };
        (*expression).useOr
            && is_built_in_operator((*expression).opno, c"=")
            && is_role(left)
            && !right.is_null()
            && (*right).type_ == pg_sys::NodeTag::T_ArrayExpr
            && nodes((*right.cast::<pg_sys::ArrayExpr>()).elements).all(|e| is_authenticated(e))
    }
}

/// Whether an expression is the role of the caller.
///
/// # Safety
/// `node` is null or a valid expression tree.
unsafe fn is_role(node: *mut pg_sys::Node) -> bool {
    // SAFETY: as the caller promises.
    matches!(unsafe { claim_of(node) }, Some(Claim::Role))
}

/// Whether an expression is the name of a role that anonymous requests do not switch to.
///
/// # Safety
/// `node` is null or a valid expression tree.
unsafe fn is_authenticated(node: *mut pg_sys::Node) -> bool {
    // SAFETY: as the caller promises.
    unsafe { text_of(node) }.is_some_and(|name| AUTHENTICATED.contains(&name.as_str()))
}

/// What an expression returns for an anonymous caller.
enum Claim {
    /// A claim that its token does not have: NULL.
    Missing,
    /// The setting of such a claim: NULL, or an empty text after an earlier transaction set it.
    Unset,
    /// The name of its role.
    Role,
    /// All claims of its token.
    All,
}

/// Returns which claim of the token an expression returns; `None` for any other expression.
///
/// # Safety
/// `node` is null or a valid expression tree.
unsafe fn claim_of(node: *mut pg_sys::Node) -> Option<Claim> {
    if node.is_null() {
        return None;
    }
    // SAFETY: as in `is_never_true`.
    unsafe {
        pg_sys::check_stack_depth();
        match (*node).type_ {
            pg_sys::NodeTag::T_FuncExpr => {
                let call = node.cast::<pg_sys::FuncExpr>();
                claim_of_function((*call).funcid, (*call).args)
            }
            pg_sys::NodeTag::T_OpExpr => {
                let expression = node.cast::<pg_sys::OpExpr>();
                let arguments: Vec<_> = nodes((*expression).args).collect();
                let [of, key] = arguments[..] else { return None };
                let is_field = is_built_in_operator((*expression).opno, c"->")
                    || is_built_in_operator((*expression).opno, c"->>");
                (is_field && matches!(claim_of(of), Some(Claim::All)))
                    .then(|| text_of(key))
                    .flatten()
                    .and_then(|key| claim_named(&key))
            }
            pg_sys::NodeTag::T_SQLValueFunction => {
                let op = (*node.cast::<pg_sys::SQLValueFunction>()).op;
                matches!(
                    op,
                    pg_sys::SQLValueFunctionOp::SVFOP_CURRENT_ROLE
                        | pg_sys::SQLValueFunctionOp::SVFOP_CURRENT_USER
                        | pg_sys::SQLValueFunctionOp::SVFOP_USER
                )
                .then_some(Claim::Role)
            }
            pg_sys::NodeTag::T_RelabelType => {
                claim_of((*node.cast::<pg_sys::RelabelType>()).arg.cast())
            }
            pg_sys::NodeTag::T_CoerceViaIO => {
                claim_of((*node.cast::<pg_sys::CoerceViaIO>()).arg.cast())
            }
            pg_sys::NodeTag::T_NullIfExpr => {
                claim_of(nodes((*node.cast::<pg_sys::NullIfExpr>()).args).next()?)
            }
            pg_sys::NodeTag::T_SubLink => {
                let link = node.cast::<pg_sys::SubLink>();
                ((*link).subLinkType == pg_sys::SubLinkType::EXPR_SUBLINK)
                    .then(|| value_of((*link).subselect.cast()))
                    .flatten()
                    .and_then(|value| claim_of(value))
            }
            _ => None,
        }
    }
}

/// Whether a function is strict. The condition may be one of an earlier state, with a function or
/// an operator that the transaction has dropped.
fn is_strict(function: pg_sys::Oid) -> bool {
    // SAFETY: lookups in the system cache; the first returns null for a function that is missing.
    unsafe {
        if !pg_sys::get_func_name(function).is_null() {
            return pg_sys::func_strict(function);
        }
    }
    let then = State::before(0);
    of_row(&then, oids::PROC_BY_OID, function.to_u32(), "proisstrict", |row, is| row.bool(is))
        .unwrap_or_default()
}

/// Returns schema and name of a function, which may be dropped, as in [`is_strict`].
fn function_name(function: pg_sys::Oid) -> Option<(String, String)> {
    super::name(oids::PG_PROC, function.to_u32()).or_else(|| {
        let (then, oid) = (State::before(0), function.to_u32());
        let schema =
            of_row(&then, oids::PROC_BY_OID, oid, "pronamespace", |row, schema| row.oid(schema))?;
        Some((
            of_row(&then, oids::NAMESPACE_BY_OID, schema, "nspname", |row, name| row.name(name))?,
            of_row(&then, oids::PROC_BY_OID, oid, "proname", |row, name| row.name(name))?,
        ))
    })
}

/// Returns which claim a call returns.
///
/// # Safety
/// `arguments` is null or a list of expressions.
unsafe fn claim_of_function(function: pg_sys::Oid, arguments: *mut pg_sys::List) -> Option<Claim> {
    let (schema, name) = function_name(function)?;
    // SAFETY: as the caller promises.
    unsafe {
        match (schema.as_str(), name.as_str()) {
            ("auth", "uid" | "email") => Some(Claim::Missing),
            ("auth", "role") => Some(Claim::Role),
            ("auth", "jwt") => Some(Claim::All),
            ("pg_catalog", "current_setting") => {
                let setting = text_of(nodes(arguments).next()?)?.to_ascii_lowercase();
                if setting == CLAIMS {
                    return Some(Claim::All);
                }
                match setting.strip_prefix(CLAIM_PREFIX).and_then(claim_named)? {
                    Claim::Missing => Some(Claim::Unset),
                    claim => Some(claim),
                }
            }
            ("pg_catalog", "json_object_field_text" | "jsonb_object_field_text") => {
                let arguments: Vec<_> = nodes(arguments).collect();
                let [of, key] = arguments[..] else { return None };
                matches!(claim_of(of), Some(Claim::All))
                    .then(|| text_of(key))
                    .flatten()
                    .and_then(|key| claim_named(&key))
            }
            _ => None,
        }
    }
}

fn claim_named(key: &str) -> Option<Claim> {
    match key {
        "role" => Some(Claim::Role),
        key if COMMON.contains(&key) => None,
        _ => Some(Claim::Missing),
    }
}

/// Returns a constant of a text type.
///
/// # Safety
/// `node` is null or a valid expression tree.
pub unsafe fn text_of(node: *mut pg_sys::Node) -> Option<String> {
    if node.is_null() {
        return None;
    }
    // SAFETY: each cast follows the node's tag; a constant of these types that is not null is a
    // text or a name.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_Const => {
                let constant = node.cast::<pg_sys::Const>();
                if (*constant).constisnull {
                    return None;
                }
                match (*constant).consttype {
                    pg_sys::TEXTOID | pg_sys::VARCHAROID => {
                        text_at(pg_sys::text_to_cstring((*constant).constvalue.cast_mut_ptr()))
                    }
                    pg_sys::NAMEOID => text_at((*constant).constvalue.cast_mut_ptr()),
                    _ => None,
                }
            }
            pg_sys::NodeTag::T_RelabelType => {
                text_of((*node.cast::<pg_sys::RelabelType>()).arg.cast())
            }
            _ => None,
        }
    }
}

/// Returns a name or text of the server; `None` for null.
///
/// # Safety
/// `text` is null or a C string.
unsafe fn text_at(text: *mut c_char) -> Option<String> {
    // SAFETY: as the caller promises.
    (!text.is_null()).then(|| from_server(unsafe { CStr::from_ptr(text) }.to_bytes()))
}

/// Whether an operator is one of the server's with this name.
pub fn is_built_in_operator(operator: pg_sys::Oid, wanted: &CStr) -> bool {
    // SAFETY: returns null where the operator does not exist.
    unsafe {
        let name = pg_sys::get_opname(operator);
        operator.to_u32() < pg_sys::FirstNormalObjectId
            && !name.is_null()
            && CStr::from_ptr(name) == wanted
    }
}
