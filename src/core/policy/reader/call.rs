//! Calls of functions.

use super::expression::{any, is_boolean, type_of};
use super::query::Selected;
use super::{DEEPEST, Reader};
use crate::catalog::{FIRST_NORMAL, Oid};
use crate::policy::constants::types;
use crate::policy::facts::{Body, Function, View};
use crate::policy::formula::{Formula, Membership, Shape};
use crate::policy::term::{Constant, Operation, Row, Term, TermId};
use crate::policy::value::{Meaning, Value, not};
use crate::stored::{Command, Expression, Query, Target};
use std::collections::BTreeSet;
use std::rc::Rc;

/// Functions of the server that return the elements of their first argument as rows.
const LISTING: [&str; 7] = [
    "unnest",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
    "json_array_elements",
    "json_array_elements_text",
    "regexp_split_to_table",
    "string_to_table",
];

impl Reader<'_> {
    /// Returns what a call of a function is.
    pub(super) fn call(&mut self, expression: &Expression) -> Meaning {
        let is_boolean = is_boolean(expression);
        let Expression::Call { function: oid, returns_set, arguments, result, collation } =
            expression
        else {
            return self.unknown("a call", is_boolean);
        };
        let Some(function) = self.catalog.function(*oid) else {
            return self.unknown("a function", is_boolean);
        };
        if *returns_set {
            return self.unknown(&format!("{}, which returns a set", function.name), is_boolean);
        }
        self.may_execute(*oid, &function);
        let given = arguments;
        let arguments = self.arguments(&function, given);
        self.note_call(*oid, &function, given, &arguments);
        if let Some(meaning) = self.of_session(&function, &arguments, is_boolean) {
            return meaning;
        }
        if let Some(meaning) = self.conversion(&function, &arguments, is_boolean) {
            return meaning;
        }
        if let Some(meaning) = self.inlined(&function, *result, &arguments) {
            return meaning;
        }
        let is_part = self.returns_part(&function);
        if !function.is_built_in && !is_part {
            self.unknown.insert(format!("function {}", function.name));
        }
        if function.is_volatile && !is_part {
            // What else it does may matter.
            let what = if function.is_harmless() {
                String::new()
            } else {
                format!("function {}", function.name)
            };
            let fact = self.fact(&function, &arguments);
            let meaning = self.unknown(&what, is_boolean);
            self.note_fact(fact, &meaning);
            self.note_dependence(&arguments, &meaning);
            return meaning;
        }
        let fact = self.fact(&function, &arguments);
        let values: Vec<_> =
            arguments.into_iter().map(|argument| self.as_value(argument)).collect();
        let operation = Operation::Function(*oid, *collation);
        let meaning = self.applied(operation, function.is_strict, &values, is_boolean);
        self.note_fact(fact, &meaning);
        meaning
    }

    /// Returns a call as people write it, if its result says nothing of the row, and does not
    /// depend on who calls it: a fact of the data, such as a switch.
    fn fact(&self, function: &Function, arguments: &[Meaning]) -> Option<String> {
        let is_constant = |argument: &Meaning| match argument {
            Meaning::Condition(of) => matches!(**of, Formula::Constant(_)),
            Meaning::Value(Value::Null) => true,
            Meaning::Value(Value::Term(term)) => self.terms.as_constant(*term).is_some(),
            Meaning::Value(Value::If(..)) => false,
        };
        let is_fact = !function.is_built_in
            && !function.asks_caller
            && self.is_of_role()
            && !self.is_identity(function)
            && arguments.iter().all(is_constant);
        is_fact.then(|| self.call_text(function, arguments))
    }

    fn note_fact(&mut self, fact: Option<String>, meaning: &Meaning) {
        self.found.facts.extend(term_of(meaning).zip(fact));
    }

    /// Notes the columns that a result of which nothing is known may depend on.
    fn note_dependence(&mut self, arguments: &[Meaning], meaning: &Meaning) {
        let Some(term) = term_of(meaning) else { return };
        let mut columns = BTreeSet::new();
        for argument in arguments {
            match argument {
                Meaning::Value(value) => {
                    value.condition(&mut |term| {
                        term.into_iter().for_each(|term| self.add_columns(term, &mut columns));
                        Formula::NULL
                    });
                }
                Meaning::Condition(condition) => condition.visit(&mut |part| {
                    let terms = part.terms().into_iter();
                    terms.for_each(|term| self.add_columns(term, &mut columns));
                }),
            }
        }
        self.found.depends.insert(term, columns);
    }

    fn add_columns(&self, term: TermId, columns: &mut BTreeSet<(Row, i16)>) {
        match self.terms.get(term) {
            Term::Column { row, number, .. } => drop(columns.insert((*row, *number))),
            Term::Applied { arguments: parts, .. } | Term::Array(parts) => {
                parts.iter().for_each(|part| self.add_columns(*part, columns));
            }
            _ => columns.extend(self.found.depends.get(&term).into_iter().flatten()),
        }
    }

    /// Returns the arguments of a call, with the defaults that it leaves out.
    fn arguments(&mut self, function: &Function, given: &[Expression]) -> Vec<Meaning> {
        let missing = function.argument_count.saturating_sub(given.len());
        let first = function.defaults.len().saturating_sub(missing);
        given.iter().chain(&function.defaults[first..]).map(|a| self.meaning(a)).collect()
    }

    /// Returns what a built-in conversion is that keeps the value, or that says whether an integer
    /// is zero.
    fn conversion(
        &mut self,
        function: &Function,
        arguments: &[Meaning],
        is_boolean: bool,
    ) -> Option<Meaning> {
        let [argument] = arguments else { return None };
        match (function.is_built_in, function.name.as_str()) {
            (true, "int2" | "int4" | "int8") => match argument {
                Meaning::Value(value) if self.are_integers(value) => Some(argument.clone()),
                _ => None,
            },
            (true, "bool") if is_boolean => {
                let Meaning::Value(value) = argument else { return None };
                let terms = &*self.terms;
                let mut is_known = true;
                let condition = value.condition(&mut |term| match term {
                    None => Formula::NULL,
                    Some(term) => {
                        let constant = terms.as_constant(term);
                        let Some(Constant::Integer(constant)) = constant else {
                            is_known = false;
                            return Formula::NULL;
                        };
                        Formula::Constant(Some(*constant != 0))
                    }
                });
                is_known.then(|| Meaning::Condition(Rc::new(condition)))
            }
            _ => None,
        }
    }

    /// Whether a value can only be an integer constant.
    fn are_integers(&self, value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Term(term) => {
                matches!(self.terms.as_constant(*term), Some(Constant::Integer(_)))
            }
            Value::If(_, then, otherwise, _) => {
                self.are_integers(then) && self.are_integers(otherwise)
            }
        }
    }

    /// Returns what the body of a function is for arguments; `None` where it is not known.
    fn inlined(
        &mut self,
        function: &Function,
        result: Oid,
        arguments: &[Meaning],
    ) -> Option<Meaning> {
        let meaning = match &function.body {
            Body::Opaque => return None,
            Body::Constant(value) => Meaning::Condition(Rc::new(Formula::Constant(*value))),
            Body::Query(query) | Body::Text(query, _) => {
                let (before, first) = (self.asked_session, self.terms.fresh());
                let meaning = self.body(query, result, arguments, function.owner)?;
                self.note_body(function, self.asked_session > before);
                self.note_arguments(function, query, arguments, first);
                meaning
            }
        };
        if !function.is_strict {
            return Some(meaning);
        }
        let any_null = Rc::new(self.any_null(arguments));
        let null = match meaning {
            Meaning::Condition(_) => Meaning::Condition(Rc::new(Formula::NULL)),
            Meaning::Value(_) => Meaning::Value(Value::Null),
        };
        Some(self.when(&any_null, null, meaning))
    }

    /// Whether an argument is null: a strict function is not called then.
    fn any_null(&self, arguments: &[Meaning]) -> Formula {
        let nulls = arguments.iter().map(|argument| {
            Rc::new(match argument {
                Meaning::Condition(of) => Formula::IsUnknown(Rc::clone(of)),
                Meaning::Value(value) => value.is_null(self.terms),
            })
        });
        any(nulls.collect())
    }

    /// Whether the rows of a body are those of a call: it returns one column of the declared type,
    /// to which nothing is converted. (The columns of a row type need not be those of the query.)
    fn is_followed(&self, query: &Query, result: Oid) -> bool {
        let mut columns = query.targets.iter().filter(|target| !target.is_hidden);
        let is_result = |column: &Target| type_of(&column.expression) == Some(result);
        self.depth < DEEPEST
            && query.command == Command::Select
            && result < FIRST_NORMAL
            && columns.next().is_some_and(is_result)
            && columns.next().is_none()
    }

    /// Returns the value of a query whose parameters are arguments.
    fn body(
        &mut self,
        query: &Query,
        result: Oid,
        arguments: &[Meaning],
        user: Option<Oid>,
    ) -> Option<Meaning> {
        if !self.is_followed(query, result) {
            return None;
        }
        let is_boolean = query.targets.first().is_some_and(|target| is_boolean(&target.expression));
        let selected = self.of_routine(query, arguments, user);
        Some(self.scalar(&selected, is_boolean))
    }

    /// Returns the rows of the body of a function, which is executed as a role: the current user,
    /// if there is none.
    pub(super) fn of_routine(
        &mut self,
        query: &Query,
        arguments: &[Meaning],
        user: Option<Oid>,
    ) -> Selected {
        // Without a user, all rows are read.
        let user = user.filter(|_| !self.users.is_empty());
        self.users.extend(user);
        let reads_as = self.reads_as.take();
        self.functions += 1;
        let selected = self.within(query, arguments);
        self.functions -= 1;
        self.reads_as = reads_as;
        self.users.truncate(self.users.len() - usize::from(user.is_some()));
        selected
    }

    /// Returns the rows of a view. Its owner reads the tables in it, or with security_invoker the
    /// current user, who also executes the functions in either.
    pub(super) fn of_view(&mut self, view: &View) -> Selected {
        let reads_as = std::mem::replace(&mut self.reads_as, view.owner);
        let selected = self.within(&view.query, &[]);
        self.reads_as = reads_as;
        selected
    }

    /// Returns the rows of a query, in which nothing is about the rows outside of it.
    fn within(&mut self, query: &Query, arguments: &[Meaning]) -> Selected {
        self.depth += 1;
        self.arguments.push(arguments.to_vec());
        let outside = std::mem::take(&mut self.scopes);
        let selected = self.select(query);
        self.scopes = outside;
        self.arguments.pop();
        self.depth -= 1;
        selected
    }

    /// Returns the rows of a function in FROM; `None` where they are not known.
    pub(super) fn rows_of_call(&mut self, expression: &Expression) -> Option<Selected> {
        let Expression::Call { function: oid, arguments, result, returns_set, .. } = expression
        else {
            return None;
        };
        let function = self.catalog.function(*oid)?;
        if !returns_set {
            // One row, whatever it returns.
            let value = (*result < FIRST_NORMAL).then(|| self.call(expression))?;
            return Some(Selected::one(Rc::new(Formula::TRUE), vec![value], false));
        }
        let arguments = self.arguments(&function, arguments);
        match &function.body {
            Body::Query(query) | Body::Text(query, _) if self.is_followed(query, *result) => {
                let (before, first) = (self.asked_session, self.terms.fresh());
                let mut selected = self.of_routine(query, &arguments, function.owner);
                self.note_body(&function, self.asked_session > before);
                self.note_arguments(&function, query, &arguments, first);
                if function.is_strict {
                    let called = Rc::new(not(self.any_null(&arguments)));
                    selected.restrict(&called);
                }
                Some(selected)
            }
            _ if function.is_built_in && LISTING.contains(&function.name.as_str()) => {
                self.elements(arguments.first()?, *result)
            }
            _ => None,
        }
    }

    /// Returns the elements of an array as rows.
    fn elements(&mut self, array: &Meaning, element: Oid) -> Option<Selected> {
        let Meaning::Value(Value::Term(array)) = array else { return None };
        if element == types::BOOL {
            return None;
        }
        let number = self.terms.fresh();
        let term = self.terms.add(Term::Unknown(number));
        // The operator is one that no condition has: it is the function that is asked for elements.
        let by = Membership { operator: Oid::MAX, collation: 0, shape: Shape::Element };
        let is_element = Rc::new(Formula::Member(by, term, *array));
        // An element can be null.
        let is_null = Rc::new(Formula::IsNull(term));
        Some(Selected::one(
            Rc::new(Formula::Any(vec![is_element, is_null])),
            vec![Meaning::Value(Value::Term(term))],
            true,
        ))
    }
}

/// Returns the term that the result of a call is.
fn term_of(meaning: &Meaning) -> Option<TermId> {
    match meaning {
        Meaning::Condition(of) => match **of {
            Formula::Holds(term) => Some(term),
            _ => None,
        },
        Meaning::Value(Value::Term(term)) => Some(*term),
        Meaning::Value(_) => None,
    }
}
