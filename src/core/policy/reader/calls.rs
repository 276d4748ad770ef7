//! What a condition calls: what each row costs, and what may raise an error.

use super::Reader;
use crate::catalog::{Oid, Raise};
use crate::policy::constants::types;
use crate::policy::facts::{Body, Function, Operator};
use crate::policy::formula::Formula;
use crate::policy::identity::Kind;
use crate::policy::term::{Constant, Term, TermId};
use crate::policy::value::{Meaning, Value};
use crate::sql::quote_literal;
use crate::stored::{Expression, Link};

impl Reader<'_> {
    /// Whether what is read is in the condition itself, and not in a body, in a view, or in the
    /// policy of a lookup.
    fn is_own(&self) -> bool {
        self.is_of_role() && self.depth == 0 && self.policies_of.len() <= 1
    }

    /// Whether what is read is evaluated with the condition, and is not the policy of a lookup:
    /// that is reported where it is.
    fn is_of_policy(&self) -> bool {
        self.is_of_role() && self.policies_of.len() <= 1
    }

    /// Notes what a call costs, and whether it tells the function who the caller is.
    pub(super) fn note_call(
        &mut self,
        oid: Oid,
        function: &Function,
        given: &[Expression],
        arguments: &[Meaning],
    ) {
        if !self.is_own() || self.returns_part(function) {
            return;
        }
        let name = || {
            if function.is_built_in {
                format!("{}()", function.name)
            } else {
                function.signature.clone()
            }
        };
        if function.is_volatile {
            self.found.calls.volatile.insert(name());
        }
        let is_told = || arguments.iter().any(|argument| self.is_caller(argument));
        let may_call = || self.users.last().is_some_and(|user| self.catalog.may_call(*user, oid));
        if function.owner.is_some() && is_told() && may_call() {
            self.found.calls.told.insert(name());
        }
        if self.once > 0 {
            return;
        }
        if given.iter().any(|argument| argument.reaches(0)) {
            if !function.is_built_in && is_executed(function) {
                self.found.calls.helpers.insert(name());
            }
        } else if asks_session(function) {
            let call = self.call_text(function, arguments);
            self.found.calls.per_row.insert(call);
        }
    }

    /// Notes an operator that is VOLATILE.
    pub(super) fn note_operator_call(&mut self, operator: Option<&Operator>) {
        if let Some(operator) = operator.filter(|operator| operator.is_volatile)
            && self.is_own()
        {
            self.found.calls.volatile.insert(format!("operator {}", operator.name));
        }
    }

    /// Whether an argument is a value of the session by which rows belong to the caller.
    fn is_caller(&self, argument: &Meaning) -> bool {
        let Meaning::Value(value) = argument else { return false };
        let ties = |term: TermId| match self.terms.get(term) {
            Term::Identity(of) => self.identities.is_some_and(|all| all.ties(of.kind)),
            _ => false,
        };
        let mut is_caller = false;
        value.condition(&mut |term| {
            is_caller |= term.is_some_and(ties);
            Formula::NULL
        });
        is_caller
    }

    /// Returns a call as people write it.
    pub(super) fn call_text(&self, function: &Function, arguments: &[Meaning]) -> String {
        let name = match function.signature.split_once('(') {
            Some((name, _)) => name,
            None => &function.name,
        };
        let text = |argument: &Meaning| match argument {
            Meaning::Value(Value::Null) => "NULL".to_owned(),
            Meaning::Value(Value::Term(term)) => match self.terms.as_constant(*term) {
                Some(Constant::Text(text)) => quote_literal(text),
                Some(Constant::Integer(number)) => number.to_string(),
                _ => "...".to_owned(),
            },
            Meaning::Condition(condition) => match **condition {
                Formula::Constant(Some(value)) => value.to_string(),
                _ => "...".to_owned(),
            },
            Meaning::Value(_) => "...".to_owned(),
        };
        let arguments: Vec<String> = arguments.iter().map(text).collect();
        format!("{name}({})", arguments.join(", "))
    }

    /// Notes a parameter that a session may not have.
    pub(super) fn note_setting(&mut self, name: &str, arguments: &[Meaning]) {
        let may_be_missing = match arguments.get(1) {
            Some(Meaning::Condition(condition)) => **condition == Formula::TRUE,
            _ => false,
        };
        if self.is_of_policy() && name.contains('.') && !may_be_missing {
            self.found.calls.raises.insert(Raise::Missing(name.to_owned()));
        }
    }

    /// Notes a conversion by text that may be an error: of a parameter that an earlier request of
    /// the connection has left empty, and of the user's number to one that it is not.
    pub(super) fn note_conversion(&mut self, stored: &Expression, value: &Value, result: Oid) {
        if !self.is_of_policy() {
            return;
        }
        if types::WITHOUT_EMPTY.contains(&result)
            && let Some(name) = self.parameter_of(stored)
        {
            self.found.calls.raises.insert(Raise::Empty(name));
        }
        let is_user = |term: TermId| match self.terms.get(term) {
            Term::Identity(of) => of.kind == Kind::User,
            _ => false,
        };
        if types::NUMBERS.contains(&result) && matches!(value, Value::Term(t) if is_user(*t)) {
            self.found.calls.raises.insert(Raise::UserAsNumber);
        }
    }

    /// Returns the parameter that an expression returns as it is; `None` for what each request
    /// sets: the claims, and those that say what it contains.
    fn parameter_of(&mut self, stored: &Expression) -> Option<String> {
        match stored {
            Expression::Relabel { argument, .. } | Expression::Collate { argument, .. } => {
                self.parameter_of(argument)
            }
            Expression::Subquery { link: Link::Scalar, query, .. } if query.from.is_empty() => {
                self.parameter_of(&query.targets.first()?.expression)
            }
            Expression::Call { function, arguments, .. } => {
                let function = self.catalog.function(*function)?;
                if !function.is_built_in || function.name != "current_setting" {
                    return None;
                }
                let name = match self.value(arguments.first()?) {
                    Value::Term(term) => match self.terms.as_constant(term)? {
                        Constant::Text(name) => name.clone(),
                        _ => return None,
                    },
                    _ => return None,
                };
                let kind = self.identities?.setting(&name).kind;
                let is_of_request = matches!(kind, Kind::Claims | Kind::Request);
                (!is_of_request && name.contains('.')).then_some(name)
            }
            _ => None,
        }
    }
}

/// Whether the server executes a function for each call.
fn is_executed(function: &Function) -> bool {
    function.is_called
        || match &function.body {
            Body::Query(query) | Body::Text(query, _) => !query.is_expression(),
            Body::Opaque | Body::Constant(_) => false,
        }
}

/// Whether a function without a column as argument returns the same for all rows, and not what the
/// planner computes.
fn asks_session(function: &Function) -> bool {
    if function.is_built_in {
        function.name == "current_setting"
    } else {
        !function.is_volatile && !function.is_immutable
    }
}
