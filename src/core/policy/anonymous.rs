//! Whether a policy's condition can be true for an anonymous caller, a request without a token of a
//! user: PostgREST then has no claims except the role.
//!
//! The analysis is conservative: it looks at the stored expression, and treats everything that it
//! does not know as possibly true. It relies on these names:
//!
//! - `auth.uid()` and `auth.email()` return NULL, and so does every other claim than [`COMMON`];
//! - `auth.role()`, the claim `role` and `CURRENT_USER` are not [`AUTHENTICATED`].

use super::constants::types::BOOL;
use super::constants::{self, text_of};
use super::facts::Catalog;
use super::term;
use crate::catalog::Oid;
use crate::stored::{BooleanTest, Command, Constant, Expression, Link, Logic, Query, SqlValue};

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
#[must_use]
pub fn is_never_true_for_anonymous(catalog: &dyn Catalog, condition: &Expression) -> bool {
    Anonymous(catalog).is_never_true(condition)
}

/// What expressions are for an anonymous caller.
struct Anonymous<'a>(&'a dyn Catalog);

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

impl Anonymous<'_> {
    fn is_never_true(&self, expression: &Expression) -> bool {
        match expression {
            Expression::Constant(Constant { value: None, .. }) => true,
            Expression::Constant(Constant { data_type: BOOL, value: Some(bytes) }) => {
                constants::constant(BOOL, bytes) == term::Constant::Boolean(false)
            }
            Expression::Logical { logic, arguments } => match logic {
                Logic::And => arguments.iter().any(|argument| self.is_never_true(argument)),
                Logic::Or => arguments.iter().all(|argument| self.is_never_true(argument)),
                Logic::Not => arguments.iter().all(|argument| self.is_null(argument)),
            },
            Expression::IsNull { argument, negated: true, .. } => {
                self.is_null(argument) && !matches!(self.claim(argument), Some(Claim::Unset))
            }
            Expression::IsBoolean { argument, test: BooleanTest::IsTrue } => {
                self.is_never_true(argument)
            }
            Expression::Coalesce { arguments, .. } => {
                arguments.iter().all(|argument| self.is_never_true(argument))
            }
            Expression::Operator { operator, arguments, .. } => {
                self.is_of_another_role(*operator, arguments) || self.is_null(expression)
            }
            Expression::AnyOrAll { operator, any: true, arguments, .. } => {
                self.is_of_other_roles(*operator, arguments) || self.is_null(expression)
            }
            Expression::Subquery { link, test, query } => match link {
                Link::Exists => self.has_no_rows(query),
                Link::Any => {
                    self.has_no_rows(query)
                        || test.as_ref().is_some_and(|test| self.is_never_true(test))
                }
                Link::Scalar => {
                    self.has_no_rows(query)
                        || value(query).is_some_and(|value| self.is_never_true(value))
                }
                Link::All | Link::Row | Link::Array => false,
            },
            _ => self.is_null(expression),
        }
    }

    /// Whether an expression is NULL, or raises an error.
    fn is_null(&self, expression: &Expression) -> bool {
        let any_is_null = |of: &[Expression]| of.iter().any(|argument| self.is_null(argument));
        let is_strict =
            |operator| self.0.operator(operator).is_some_and(|operator| operator.is_strict);
        match expression {
            Expression::Constant(constant) => constant.value.is_none(),
            Expression::Call { function, arguments, .. } => {
                self.is_missing(expression)
                    || self.0.function(*function).is_some_and(|function| function.is_strict)
                        && any_is_null(arguments)
            }
            Expression::Operator { operator, arguments, .. } => {
                self.is_missing(expression) || is_strict(*operator) && any_is_null(arguments)
            }
            Expression::AnyOrAll { operator, any, arguments, .. } => {
                *any && is_strict(*operator) && any_is_null(arguments)
            }
            Expression::Relabel { argument, .. } | Expression::ThroughText { argument, .. } => {
                self.is_null(argument)
            }
            Expression::NullIf { arguments, .. } => {
                arguments.first().is_some_and(|argument| self.is_null(argument))
            }
            Expression::Coalesce { arguments, .. } => {
                arguments.iter().all(|argument| self.is_null(argument))
            }
            Expression::Subquery { link: Link::Scalar, query, .. } => {
                self.has_no_rows(query) || value(query).is_some_and(|value| self.is_null(value))
            }
            _ => false,
        }
    }

    fn is_missing(&self, expression: &Expression) -> bool {
        matches!(self.claim(expression), Some(Claim::Missing | Claim::Unset))
    }

    /// Whether a query has no rows, because its WHERE clause is never true. An aggregate without
    /// GROUP BY returns a row nevertheless.
    fn has_no_rows(&self, query: &Query) -> bool {
        query.command == Command::Select
            && !query.has_aggregates
            && !query.grouping_sets
            && query.set_operation.is_none()
            && query.condition.as_ref().is_some_and(|condition| self.is_never_true(condition))
    }

    /// Whether an operator compares the role of the caller with the name of another role than the
    /// anonymous one.
    fn is_of_another_role(&self, operator: Oid, arguments: &[Expression]) -> bool {
        let [left, right] = arguments else { return false };
        self.is_built_in(operator, &["="])
            && (self.is_role(left) && is_authenticated(right)
                || self.is_role(right) && is_authenticated(left))
    }

    /// As [`Anonymous::is_of_another_role`] for a list of role names: `auth.role() IN (...)`.
    fn is_of_other_roles(&self, operator: Oid, arguments: &[Expression]) -> bool {
        let [left, Expression::Array { elements, .. }] = arguments else { return false };
        self.is_built_in(operator, &["="])
            && self.is_role(left)
            && elements.iter().all(is_authenticated)
    }

    /// Whether an expression is the role of the caller.
    fn is_role(&self, expression: &Expression) -> bool {
        matches!(self.claim(expression), Some(Claim::Role))
    }

    /// Returns which claim of the token an expression returns; `None` for any other expression.
    fn claim(&self, expression: &Expression) -> Option<Claim> {
        match expression {
            Expression::Call { function, arguments, .. } => {
                self.claim_of_function(*function, arguments)
            }
            Expression::Operator { operator, arguments, .. } => {
                let [of, key] = &arguments[..] else { return None };
                self.is_built_in(*operator, &["->", "->>"]).then(|| self.field(of, key)).flatten()
            }
            Expression::SqlValue(SqlValue::CurrentUser) => Some(Claim::Role),
            Expression::Relabel { argument, .. } | Expression::ThroughText { argument, .. } => {
                self.claim(argument)
            }
            Expression::NullIf { arguments, .. } => self.claim(arguments.first()?),
            Expression::Subquery { link: Link::Scalar, query, .. } => self.claim(value(query)?),
            _ => None,
        }
    }

    /// Returns which claim a call returns.
    fn claim_of_function(&self, function: Oid, arguments: &[Expression]) -> Option<Claim> {
        let function = self.0.function(function)?;
        if !function.is_built_in {
            return match function.signature.split('(').next()? {
                "auth.uid" | "auth.email" => Some(Claim::Missing),
                "auth.role" => Some(Claim::Role),
                "auth.jwt" => Some(Claim::All),
                _ => None,
            };
        }
        match function.name.as_str() {
            "current_setting" => {
                let setting = text(arguments.first()?)?.to_ascii_lowercase();
                if setting == CLAIMS {
                    return Some(Claim::All);
                }
                match setting.strip_prefix(CLAIM_PREFIX).and_then(claim_named)? {
                    Claim::Missing => Some(Claim::Unset),
                    claim => Some(claim),
                }
            }
            "json_object_field_text" | "jsonb_object_field_text" => {
                let [of, key] = arguments else { return None };
                self.field(of, key)
            }
            _ => None,
        }
    }

    /// Returns which claim a field of a JSON document is.
    fn field(&self, of: &Expression, key: &Expression) -> Option<Claim> {
        let is_of_claims = matches!(self.claim(of), Some(Claim::All));
        is_of_claims.then(|| text(key)).flatten().and_then(|key| claim_named(&key))
    }

    /// Whether an operator is one of the server's with one of these names.
    fn is_built_in(&self, operator: Oid, names: &[&str]) -> bool {
        let operator = self.0.operator(operator);
        operator.is_some_and(|of| of.is_built_in && names.contains(&of.name.as_str()))
    }
}

/// Returns the expression that a query without FROM returns, as in `(SELECT auth.uid())`.
fn value(query: &Query) -> Option<&Expression> {
    let is_plain =
        query.command == Command::Select && query.set_operation.is_none() && query.from.is_empty();
    query.targets.first().filter(|_| is_plain).map(|target| &target.expression)
}

/// Whether an expression is the name of a role that anonymous requests do not switch to.
fn is_authenticated(expression: &Expression) -> bool {
    text(expression).is_some_and(|name| AUTHENTICATED.contains(&name.as_str()))
}

fn claim_named(key: &str) -> Option<Claim> {
    match key {
        "role" => Some(Claim::Role),
        key if COMMON.contains(&key) => None,
        _ => Some(Claim::Missing),
    }
}

/// Returns a constant of a text type.
fn text(expression: &Expression) -> Option<String> {
    match expression {
        Expression::Constant(Constant { data_type, value: Some(bytes) }) => {
            text_of(*data_type, bytes)
        }
        Expression::Relabel { argument, .. } => text(argument),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::facts::{Body, Column, Function, Operator, View};
    use crate::stored;
    use std::rc::Rc;

    /// Conditions as PostgreSQL 15 stores them, with whether they are never true.
    const CONDITIONS: &str = include_str!("fixtures/anonymous.txt");

    /// The functions and operators that are mentioned there.
    struct Mentioned {
        /// Whether the functions of schema auth are in another one.
        has_moved: bool,
    }

    impl Catalog for Mentioned {
        fn operator(&self, oid: Oid) -> Option<Operator> {
            Some(Operator {
                name: match oid {
                    93 | 96 | 98 | 416 | 2972 => "=",
                    531 | 2973 => "<>",
                    3477 | 3963 => "->>",
                    20008 => "===",
                    _ => return None,
                }
                .to_owned(),
                is_built_in: oid < 16384,
                is_of_extension: false,
                is_equality: false,
                function: 0,
                is_strict: true,
                is_volatile: false,
                comparison: None,
            })
        }

        fn function(&self, oid: Oid) -> Option<Rc<Function>> {
            let (name, is_strict) = match oid {
                3058 => ("pg_catalog.concat", false),
                3294 => ("pg_catalog.current_setting", true),
                20001 => ("auth.uid", false),
                20002 => ("auth.email", false),
                20003 => ("auth.role", false),
                20004 => ("auth.jwt", false),
                20005 => ("public.strict", true),
                20006 => ("public.lax", false),
                _ => return None,
            };
            let (schema, unqualified) = name.split_once('.').unwrap();
            let schema = if self.has_moved { "moved" } else { schema };
            let is_built_in = oid < 16384;
            Some(Rc::new(Function {
                name: unqualified.to_owned(),
                signature: if is_built_in {
                    String::new()
                } else {
                    format!("{schema}.{unqualified}()")
                },
                is_built_in,
                is_strict,
                is_volatile: false,
                is_immutable: false,
                is_called: false,
                owner: None,
                argument_count: 0,
                argument_names: vec![],
                asks_caller: true,
                defaults: vec![],
                body: Body::Opaque,
            }))
        }

        fn column(&self, _relation: Oid, _number: i16) -> Option<Column> {
            None
        }

        fn view(&self, _relation: Oid) -> Option<Rc<View>> {
            None
        }

        fn is_deterministic(&self, _collation: Oid) -> bool {
            true
        }
    }

    /// Returns the conditions that are never true, or may be, with their trees.
    fn conditions(kind: &str) -> Vec<(&'static str, Expression)> {
        let all = CONDITIONS.split("\n\n").filter_map(|condition| condition.split_once('\n'));
        let of_kind = all.filter(|(condition, _)| condition.starts_with(kind));
        of_kind.map(|(condition, tree)| (condition, stored::expression(tree).unwrap())).collect()
    }

    fn is_never_true(condition: &Expression) -> bool {
        is_never_true_for_anonymous(&Mentioned { has_moved: false }, condition)
    }

    #[test]
    fn condition_that_needs_a_user_is_never_true() {
        let conditions = conditions("never: ");
        assert_eq!(conditions.len(), 21);
        for (text, condition) in conditions {
            assert!(is_never_true(&condition), "{text}");
        }
    }

    #[test]
    fn condition_that_may_hold_without_a_user_is_possible() {
        let conditions = conditions("possible: ");
        assert_eq!(conditions.len(), 22);
        for (text, condition) in conditions {
            assert!(!is_never_true(&condition), "{text}");
        }
    }

    #[test]
    fn function_of_another_schema_tells_nothing() {
        let asks_auth = |text: &str| text.contains("auth.") && !text.contains("auth.role()");
        for (text, condition) in conditions("never: ") {
            let is_known = is_never_true_for_anonymous(&Mentioned { has_moved: true }, &condition);
            assert!(!asks_auth(text) || !is_known, "{text}");
        }
    }

    #[test]
    fn text_of_another_encoding_is_a_claim_of_users() {
        let constant = |bytes: &[u8]| {
            let header = ((bytes.len() as u32 + 4) << 2).to_le_bytes();
            let value = Some([&header, bytes].concat());
            Expression::Constant(Constant { data_type: constants::types::TEXT, value })
        };
        let jwt = Expression::Call {
            function: 20004,
            result: constants::types::JSONB,
            returns_set: false,
            collation: 0,
            arguments: vec![],
        };
        let field = |key: &[u8]| Expression::Operator {
            operator: 3477,
            result: constants::types::TEXT,
            collation: 100,
            arguments: vec![jwt.clone(), constant(key)],
        };
        assert!(is_never_true(&field(b"gr\xf6\xdfe")));
        assert!(!is_never_true(&field(b"iss")));
    }
}
